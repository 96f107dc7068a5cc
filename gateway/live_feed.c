/* live_feed.c - a feed with its wires: the calls that keep it going, and the viewers that read it.
 *
 * At most one watch, one fetch and one tail are on their way. A fetch goes to llm-svc
 * while that may have the text (it is the faster and the fresher source), then to
 * convo-svc, in turn until one of them has it. A watch that fails is tried again at
 * each tick and as soon as convo-svc is back; gateway.reattach_s without a word from
 * it ends the feed, not the answer. */
#include "live_feed.h"
#include "proto/utf8.h"

#include <stdlib.h>

struct live_feed {
    live_subject_t subject; /* whose answer */
    const live_bus_t *bus;  /* borrowed */
    feed_t *feed;           /* owned */
    live_viewer_t *viewers; /* borrowed list */
    size_t n_viewers;       /* in it */
    uint64_t watch_call;    /* ask or watch; 0: none */
    uint64_t renewed_ms;    /* when that was sent */
    uint64_t heard_ms;      /* the last word of convo-svc */
    uint64_t detached_ms;   /* when the watch broke; 0: it holds */
    uint64_t fetch_call;    /* 0: none */
    bool fetch_is_read;     /* it is convo-svc's, else llm-svc's */
    uint64_t fetch_fence;   /* whose text it asks for */
    uint64_t fetched_ms;    /* when the last one brought nothing; 0: try at once */
    uint64_t
        starving_ms; /* since when a gap is waited for; 0: no gap, or nobody is near it */
    bool read_next;  /* the next fetch goes to the journal */
    uint64_t patience_timer;    /* frames get their chance before a fetch; 0: none */
    uint64_t tail_call;         /* 0: none */
    uint64_t tail_from, tail_n; /* what it hands in */
};

#define PATIENCE_MS \
    20 /* a status overtakes the frames of the text that it tells of, on another connection */

static void fetch_missing(live_feed_t *self);
static void hand_in_tail(live_feed_t *self);

static uint64_t
now_ms(const live_feed_t *self)
{
    return svc_loop_now_ms(self->bus->ctx->loop);
}

static uint64_t
reattach_ms(const live_feed_t *self)
{
    return 1000ull * self->bus->ctx->config->gateway_reattach_s;
}

static void
count(const live_feed_t *self, svc_metric metric, uint64_t n)
{
    svc_metrics_add(self->bus->ctx->metrics, metric, n);
}

static svc_str
trace_of(const live_feed_t *self)
{
    return (svc_str){(const char *)self->subject.trace, PROTO_TRACE_BYTES};
}

live_feed_t *
live_feed_new(const live_bus_t *bus, const live_subject_t *subject)
{
    live_feed_t *self = svc_alloc(sizeof *self);

    self->bus = bus;
    self->subject = *subject;
    self->feed = feed_new(subject->stream);
    self->heard_ms = self->renewed_ms = now_ms(self);
    return self;
}

void
live_feed_destroy(live_feed_t **self_p)
{
    live_feed_t *self = *self_p;

    if (self == NULL)
        return;
    svc_loop_cancel(self->bus->ctx->loop, self->patience_timer);
    svc_peer_forget(self->bus->convo, self->watch_call);
    svc_peer_forget(self->bus->convo, self->tail_call);
    svc_peer_forget(self->fetch_is_read ? self->bus->convo : self->bus->llm,
                    self->fetch_call);
    feed_destroy(&self->feed);
    free(self);
    *self_p = NULL;
}

const feed_t *
live_feed_feed(const live_feed_t *self)
{
    return self->feed;
}

static void
tell_viewers(live_feed_t *self)
{
    for (live_viewer_t *viewer = self->viewers; viewer != NULL; viewer = viewer->next)
        viewer->changed(viewer->arg);
}

/* --- status: ask and watch ---------------------------------------------------------------- */

static bool
is_over(const live_feed_t *self)
{
    const feed_status_t *status = feed_status(self->feed);

    return feed_failed(self->feed) != RC_OK ||
           (status->heard && answer_state_is_terminal((int)status->state));
}

/* An ask or watch failed. Before the first status that is the end, later only the loss
 * of sight. */
static void
on_watch_error(live_feed_t *self, svc_rc rc, const error_rep_t *error)
{
    if (!feed_status(self->feed)->heard)
        feed_fail(self->feed, rc, error->text, error->retry_after_s);
    else if (rc == RC_NOT_FOUND)
        feed_fail(self->feed, RC_DELETED, (svc_str){NULL, 0}, 0);
    else if (self->detached_ms == 0)
        self->detached_ms = now_ms(self);
}

static void
on_patience_over(void *arg, short events)
{
    live_feed_t *self = arg;

    (void)events;
    self->patience_timer = 0;
    fetch_missing(self);
}

static void
on_status(void *arg, proto_kind kind, svc_rc rc, const void *rep,
          const error_rep_t *error)
{
    live_feed_t *self = arg;

    if (kind != PROTO_PARTIAL)
        self->watch_call = 0;
    if (kind == PROTO_ERROR) {
        on_watch_error(self, rc, error);
    } else {
        self->heard_ms = now_ms(self);
        self->detached_ms = 0;
        feed_take_status(self->feed, rep);
        hand_in_tail(self);
        if (feed_has_gap(self->feed) && self->patience_timer == 0)
            self->patience_timer = svc_loop_after(self->bus->ctx->loop, PATIENCE_MS,
                                                  on_patience_over, self);
    }
    tell_viewers(self);
}

svc_rc
live_feed_ask(live_feed_t *self, svc_str text)
{
    ask_req_t ask = {.user = self->subject.user,
                     .conversation = self->subject.conversation,
                     .text = text,
                     .stream = feed_stream(self->feed)};
    svc_peer_request_t request = {
        .op = OP_CONVO_ASK,
        .req_schema = &ask_req_schema,
        .req = &ask,
        .rep_schema = &status_rep_schema,
        .trace = trace_of(self),
        .timeout_ms = 1000ull * self->bus->ctx->config->gateway_request_timeout_s,
        .on_reply = on_status,
        .arg = self,
    };

    self->renewed_ms = self->heard_ms = now_ms(self);
    return svc_peer_call(self->bus->convo, &request, &self->watch_call);
}

/* Watches anew and forgets the watch before; leaves that one when it cannot. */
static void
renew_watch(live_feed_t *self)
{
    watch_req_t watch = {self->subject.user, self->subject.conversation,
                         feed_stream(self->feed)};
    svc_peer_request_t request = {
        .op = OP_CONVO_WATCH,
        .req_schema = &watch_req_schema,
        .req = &watch,
        .rep_schema = &status_rep_schema,
        .trace = trace_of(self),
        .timeout_ms = 1000ull * self->bus->ctx->config->gateway_request_timeout_s,
        .on_reply = on_status,
        .arg = self,
    };
    uint64_t call = 0;

    self->renewed_ms = now_ms(self);
    if (svc_peer_call(self->bus->convo, &request, &call) != RC_OK)
        return;
    svc_peer_forget(self->bus->convo, self->watch_call);
    self->watch_call = call;
}

void
live_feed_reattach(live_feed_t *self)
{
    if (feed_status(self->feed)->heard && !is_over(self))
        renew_watch(self);
    fetch_missing(self);
}

void
live_feed_forgive(live_feed_t *self)
{
    uint64_t now = now_ms(self);

    self->heard_ms = now;
    self->detached_ms = self->detached_ms > 0 ? now : 0;
    self->starving_ms = self->starving_ms > 0 ? now : 0;
    for (live_viewer_t *viewer = self->viewers; viewer != NULL; viewer = viewer->next)
        if (viewer->page_since_ms > 0)
            viewer->page_since_ms = now;
}

/* --- text: frames, replay, read ----------------------------------------------------------- */

static void
take_news(live_feed_t *self, feed_news news)
{
    switch (news) {
    case FEED_GREW:
        self->starving_ms = 0;
        self->fetched_ms = 0;
        tell_viewers(self);
        break;
    case FEED_GAP:
        self->read_next = false;
        count(self, SVC_M_GAPS, 1);
        break;
    case FEED_FENCED: count(self, SVC_M_TOKENS_FENCED, 1); break;
    case FEED_SAME: break;
    }
    fetch_missing(self);
}

void
live_feed_take_token(live_feed_t *self, const proto_token_t *token)
{
    take_news(self, feed_take_token(self->feed, token));
}

/* A fetch has ended without text: the other source is asked, at once if this one will
 * never have it. */
static void
fetch_failed(live_feed_t *self, bool was_read, svc_rc rc)
{
    bool at_once = !was_read &&
                   (rc == RC_TOO_OLD || rc == RC_NOT_FOUND || rc == RC_STALE);

    self->read_next = !was_read;
    self->fetched_ms = at_once ? 0 : now_ms(self);
    fetch_missing(self);
}

static void
take_page(live_feed_t *self, bool is_read, uint64_t from, svc_str bytes)
{
    if (bytes.n == 0) {
        fetch_failed(self, is_read, RC_OK);
        return;
    }
    count(self, SVC_M_REPLAYED_BYTES, bytes.n);
    feed_news news = feed_take_page(self->feed, self->fetch_fence, from, bytes);
    if (news != FEED_GREW)
        self->fetched_ms = now_ms(self);
    take_news(self, news);
}

static void
on_replay(void *arg, proto_kind kind, svc_rc rc, const void *rep,
          const error_rep_t *error)
{
    live_feed_t *self = arg;
    const replay_rep_t *page = rep;

    (void)error;
    self->fetch_call = 0;
    if (kind == PROTO_ERROR)
        fetch_failed(self, false, rc);
    else
        take_page(self, false, page->from, page->bytes);
}

static void
on_read(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    live_feed_t *self = arg;
    const read_rep_t *page = rep;

    (void)error;
    self->fetch_call = 0;
    if (kind == PROTO_ERROR && rc == RC_NOT_FOUND) {
        feed_fail(self->feed, RC_DELETED, (svc_str){NULL, 0}, 0);
        tell_viewers(self);
    } else if (kind == PROTO_ERROR)
        fetch_failed(self, true, rc);
    else
        take_page(self, true, page->from, page->bytes);
}

static svc_rc
call_replay(live_feed_t *self, uint64_t fence)
{
    replay_req_t replay = {feed_stream(self->feed), fence, feed_end(self->feed)};
    svc_peer_request_t request = {
        .op = OP_LLM_REPLAY,
        .req_schema = &replay_req_schema,
        .req = &replay,
        .rep_schema = &replay_rep_schema,
        .trace = trace_of(self),
        .timeout_ms = 1000,
        .on_reply = on_replay,
        .arg = self,
    };

    return svc_peer_call(self->bus->llm, &request, &self->fetch_call);
}

/* Asks the journal for the text from `from` on. */
static svc_rc
call_read(const live_feed_t *self, uint64_t from, svc_reply_fn *on_reply, void *arg,
          uint64_t *call)
{
    read_req_t read = {self->subject.user, feed_stream(self->feed), from};
    svc_peer_request_t request = {
        .op = OP_CONVO_READ,
        .req_schema = &read_req_schema,
        .req = &read,
        .rep_schema = &read_rep_schema,
        .trace = trace_of(self),
        .timeout_ms = 5000,
        .on_reply = on_reply,
        .arg = arg,
    };

    return svc_peer_call(self->bus->convo, &request, call);
}

/* True while some viewer may soon read what a fetch would bring: the window must not
 * run away from all of them. */
static bool
is_wanted(const live_feed_t *self)
{
    for (const live_viewer_t *viewer = self->viewers; viewer != NULL;
         viewer = viewer->next)
        if (viewer->offset + FEED_WINDOW_KEEP_BYTES / 2 >= feed_end(self->feed))
            return true;
    return false;
}

/* Fetches the next page of a gap, unless that is under way or has just brought
 * nothing. */
static void
fetch_missing(live_feed_t *self)
{
    const feed_status_t *status = feed_status(self->feed);
    uint64_t now = now_ms(self);

    if (feed_failed(self->feed) != RC_OK || !feed_has_gap(self->feed) ||
        !is_wanted(self)) {
        self->starving_ms = 0;
        return;
    }
    if (self->starving_ms == 0)
        self->starving_ms = now;
    if (self->fetch_call != 0 || self->patience_timer != 0 ||
        (self->fetched_ms > 0 && now - self->fetched_ms < LIVE_RETRY_MS))
        return;
    self->fetched_ms = now; /* what cannot be sent is tried again by the tick */
    self->fetch_fence = feed_fence(self->feed) != 0 ? feed_fence(self->feed)
                                                    : status->fence;
    bool use_replay = !self->read_next && !is_over(self) && self->fetch_fence != 0;
    self->fetch_is_read = false;
    if (use_replay && call_replay(self, self->fetch_fence) == RC_OK)
        return;
    self->read_next = false;
    self->fetch_is_read = true;
    if (call_read(self, feed_end(self->feed), on_read, self, &self->fetch_call) != RC_OK)
        self->fetch_call = 0;
}

/* --- tail --------------------------------------------------------------------------------- */

static void
on_tail(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    live_feed_t *self = arg;

    (void)rep;
    (void)error;
    self->tail_call = 0;
    if (kind == PROTO_ERROR) {
        svc_log_warn(self->bus->ctx->log, "a tail of %llu bytes was not taken: %s",
                     (unsigned long long)self->tail_n, svc_rc_info(rc)->wire);
        return;
    }
    self->tail_from += self->tail_n;
    hand_in_tail(self);
}

/* The answer's llm-svc is lost: what we hold past the journal may be all that is left
 * of it. */
static void
hand_in_tail(live_feed_t *self)
{
    const feed_status_t *status = feed_status(self->feed);

    if (!status->lost || is_over(self) || self->tail_call != 0)
        return;
    if (self->tail_from < status->length)
        self->tail_from = status->length;
    svc_str bytes = feed_text(self->feed, self->tail_from);
    if (bytes.n > PROTO_PAGE_MAX_BYTES)
        bytes.n = PROTO_PAGE_MAX_BYTES;
    bytes.n = svc_utf8_valid(bytes.p, bytes.n);
    if (bytes.n == 0 || feed_fence(self->feed) != status->fence)
        return;
    tail_req_t tail = {feed_stream(self->feed), status->fence, self->tail_from, bytes};
    svc_peer_request_t request = {
        .op = OP_CONVO_TAIL,
        .req_schema = &tail_req_schema,
        .req = &tail,
        .rep_schema = &empty_schema,
        .trace = trace_of(self),
        .timeout_ms = 5000,
        .on_reply = on_tail,
        .arg = self,
    };
    self->tail_n = bytes.n;
    if (svc_peer_call(self->bus->convo, &request, &self->tail_call) == RC_OK)
        count(self, SVC_M_TAILS, 1);
    else
        self->tail_call = 0;
}

/* --- viewers ------------------------------------------------------------------------------ */

size_t
live_feed_join(live_feed_t *self, live_viewer_t *viewer)
{
    viewer->live = self;
    viewer->prev = NULL;
    viewer->next = self->viewers;
    if (self->viewers != NULL)
        self->viewers->prev = viewer;
    self->viewers = viewer;
    return ++self->n_viewers;
}

size_t
live_feed_leave(live_feed_t *self, live_viewer_t *viewer)
{
    svc_peer_forget(self->bus->convo, viewer->page_call);
    *(viewer->prev != NULL ? &viewer->prev->next : &self->viewers) = viewer->next;
    if (viewer->next != NULL)
        viewer->next->prev = viewer->prev;
    viewer->prev = viewer->next = NULL;
    viewer->page_call = viewer->page_since_ms = 0;
    viewer->live = NULL;
    return --self->n_viewers;
}

void
live_viewer_moved(live_viewer_t *viewer, uint64_t offset)
{
    viewer->offset = offset;
    if (feed_has_gap(viewer->live->feed))
        fetch_missing(viewer->live);
}

static void
on_viewer_page(void *arg, proto_kind kind, svc_rc rc, const void *rep,
               const error_rep_t *error)
{
    live_viewer_t *viewer = arg;
    const read_rep_t *page = rep;

    (void)rc;
    (void)error;
    viewer->page_call = 0;
    if (kind == PROTO_ERROR || page->bytes.n == 0)
        return; /* the tick asks again until the viewer starves */
    viewer->page_since_ms = 0;
    viewer->paged(viewer->arg, page->from, page->bytes);
}

static void
ask_for_page(live_viewer_t *viewer)
{
    if (viewer->page_call == 0 &&
        call_read(viewer->live, viewer->page_from, on_viewer_page, viewer,
                  &viewer->page_call) != RC_OK)
        viewer->page_call = 0;
}

void
live_viewer_want_page(live_viewer_t *viewer, uint64_t from)
{
    if (viewer->page_since_ms > 0)
        return;
    viewer->page_from = from;
    viewer->page_since_ms = now_ms(viewer->live);
    ask_for_page(viewer);
}

static void
tick_viewer(live_viewer_t *viewer, uint64_t now, uint64_t patience_ms)
{
    if (viewer->page_since_ms == 0)
        return;
    ask_for_page(viewer);
    if (now - viewer->page_since_ms < patience_ms)
        return;
    viewer->starved = true;
    viewer->changed(viewer->arg);
}

/* Nothing heard of convo-svc, or a gap that nobody can fill: the readers have waited
 * long enough. */
static bool
is_out_of_patience(const live_feed_t *self, uint64_t now)
{
    const feed_status_t *status = feed_status(self->feed);

    if (!status->heard)
        return false; /* the ask has a time-out of its own */
    if (is_over(self))
        return self->starving_ms > 0 && now - self->starving_ms >= reattach_ms(self);
    return (self->detached_ms > 0 && now - self->detached_ms >= reattach_ms(self)) ||
           now - self->heard_ms >= self->bus->renew_ms + reattach_ms(self);
}

void
live_feed_tick(live_feed_t *self)
{
    uint64_t now = now_ms(self);
    bool is_open = feed_status(self->feed)->heard && !is_over(self);

    if (is_open &&
        (self->watch_call == 0 || now - self->renewed_ms >= self->bus->renew_ms) &&
        svc_peer_is_up(self->bus->convo) && now - self->renewed_ms >= LIVE_RETRY_MS)
        renew_watch(self);
    fetch_missing(self);
    for (live_viewer_t *viewer = self->viewers; viewer != NULL; viewer = viewer->next)
        tick_viewer(viewer, now, reattach_ms(self));
    if (feed_failed(self->feed) == RC_OK && is_out_of_patience(self, now)) {
        feed_fail(self->feed, RC_UNAVAILABLE, (svc_str){NULL, 0}, 1);
        tell_viewers(self);
    }
}
