/* live_feed.c - a feed with its wires: how the text of one answer comes together.
 *
 * Frames come by themselves; what is missing is fetched, one page at a time: from the
 * answer's llm-svc while that is up and may have the text (it is the faster and the
 * fresher source), else from the journal, in turn until one of them has it. A feed that
 * begins in the middle also looks for text that no frame has told of yet: its
 * subscription is younger than that. */
#include "live_feed_private.h"

#include <stdlib.h>

#define PATIENCE_MS \
    20 /* a status overtakes the frames of the text that it tells of, on another connection */

uint64_t
live_feed_now_ms(const live_feed_t *self)
{
    return svc_loop_now_ms(self->bus->ctx->loop);
}

uint64_t
live_feed_reattach_ms(const live_feed_t *self)
{
    return 1000ull * self->bus->ctx->config->gateway_reattach_s;
}

void
live_feed_count(const live_feed_t *self, svc_metric metric, uint64_t n)
{
    svc_metrics_add(self->bus->ctx->metrics, metric, n);
}

svc_str
live_feed_trace(const live_feed_t *self)
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
    self->heard_ms = self->renewed_ms = live_feed_now_ms(self);
    return self;
}

void
live_feed_destroy(live_feed_t **self_p)
{
    live_feed_t *self = *self_p;

    if (self == NULL)
        return;
    svc_loop_cancel(self->bus->ctx->loop, self->patience_timer);
    svc_peers_forget(self->bus->convo, self->watch_call);
    svc_peers_forget(self->bus->convo, self->tail_call);
    svc_peers_forget(self->fetch_is_read ? self->bus->convo : self->bus->llm,
                     self->fetch_call);
    feed_destroy(&self->feed);
    free(self);
    *self_p = NULL;
}

void
live_feed_rename(live_feed_t *self, svc_str stream)
{
    memcpy(self->subject.stream, stream.p, PROTO_STREAM_BYTES);
    feed_rename(self->feed, stream);
}

const feed_t *
live_feed_feed(const live_feed_t *self)
{
    return self->feed;
}

bool
live_feed_may_go(const live_feed_t *self)
{
    const feed_status_t *status = feed_status(self->feed);
    svc_rc failed = feed_failed(self->feed);

    return (status->heard && answer_state_is_terminal((int)status->state)) ||
           (failed != RC_OK && failed != RC_UNAVAILABLE) ||
           self->shown <= (status->heard ? status->length : 0);
}

void
live_feed_stay(live_feed_t *self)
{
    feed_revive(self->feed);
    self->given_up_ms = 0;
    live_feed_forgive(self);
}

void
live_feed_go_on(live_feed_t *self)
{
    live_feed_forgive(self);
    live_feed_probe(self);
}

bool
live_feed_is_over(const live_feed_t *self)
{
    const feed_status_t *status = feed_status(self->feed);

    return feed_failed(self->feed) != RC_OK ||
           (status->heard && answer_state_is_terminal((int)status->state));
}

/* --- what comes in ------------------------------------------------------------------------ */

static void
take_news(live_feed_t *self, feed_news news)
{
    switch (news) {
    case FEED_GREW:
        self->starving_ms = 0;
        self->fetched_ms = 0;
        live_viewers_tell(self);
        break;
    case FEED_GAP:
        self->read_next = false;
        live_feed_count(self, SVC_M_GAPS, 1);
        break;
    case FEED_FENCED: live_feed_count(self, SVC_M_TOKENS_FENCED, 1); break;
    case FEED_SAME: break;
    }
    live_feed_fetch(self);
}

void
live_feed_take_token(live_feed_t *self, const proto_token_t *token)
{
    if (self->n_viewers > 0)
        take_news(self, feed_take_token(self->feed, token));
}

/* --- what is missing ---------------------------------------------------------------------- */

/* A fetch has ended without text: the other source is asked, at once if this one will
 * never have it. */
static void
fetch_failed(live_feed_t *self, bool was_read, svc_rc rc)
{
    bool at_once = !was_read &&
                   (rc == RC_TOO_OLD || rc == RC_NOT_FOUND || rc == RC_STALE);

    self->read_next = !was_read;
    self->fetched_ms = at_once ? 0 : live_feed_now_ms(self);
    live_feed_fetch(self);
}

static void
take_page(live_feed_t *self, bool is_read, uint64_t from, svc_str bytes)
{
    if (bytes.n == 0) {
        fetch_failed(self, is_read, RC_OK);
        return;
    }
    live_feed_count(self, SVC_M_REPLAYED_BYTES, bytes.n);
    feed_news news = feed_take_page(self->feed, self->fetch_fence, from, bytes);
    if (news != FEED_GREW)
        self->fetched_ms = live_feed_now_ms(self);
    take_news(self, news);
}

/* What a look for text that nothing had told of has shown. */
static void
end_probe(live_feed_t *self, const replay_rep_t *page)
{
    uint64_t end = page->from + page->bytes.n;

    self->is_probing = false;
    if (page->released > end)
        (void)feed_learn(self->feed, self->fetch_fence, page->released);
}

static void
on_replay(void *arg, proto_kind kind, svc_rc rc, const void *rep,
          const error_rep_t *error)
{
    live_feed_t *self = arg;
    const replay_rep_t *page = rep;
    bool is_probe = self->is_probing;

    (void)error;
    self->fetch_call = 0;
    if (kind != PROTO_ERROR && is_probe)
        end_probe(self, page);
    self->is_probing = false;
    if (is_probe && !feed_has_gap(self->feed) &&
        (kind == PROTO_ERROR || page->bytes.n == 0))
        self->fetched_ms = 0;
    else if (kind == PROTO_ERROR)
        fetch_failed(self, false, rc);
    else
        take_page(self, false, page->from, page->bytes);
}

/* The journal had no such answer, and the watch tells why: deleted, or another one in its place. */
static void
on_why(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    live_feed_t *self = arg;
    svc_rc gone = live_feed_why_gone(kind, rc);

    (void)rep;
    (void)error;
    svc_peers_forget(self->bus->convo, self->fetch_call); /* one reply is all */
    self->fetch_call = 0;
    if (gone == RC_OK) {
        fetch_failed(self, true, kind == PROTO_ERROR ? rc : RC_OK);
        return;
    }
    feed_fail(self->feed, gone, (svc_str){NULL, 0}, 0);
    live_viewers_tell(self);
}

static void
on_read(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    live_feed_t *self = arg;
    const read_rep_t *page = rep;

    (void)error;
    self->fetch_call = 0;
    if (kind == PROTO_ERROR && rc == RC_NOT_FOUND &&
        live_feed_call_watch(self, on_why, self, &self->fetch_call) == RC_OK)
        return;
    if (kind == PROTO_ERROR)
        fetch_failed(self, true, rc);
    else
        take_page(self, true, page->from, page->bytes);
}

/* Asks the llm-svc that writes the answer. RC_UNAVAILABLE: it is not known, or down. */
static svc_rc
call_replay(live_feed_t *self)
{
    replay_req_t replay = {feed_stream(self->feed), self->fetch_fence,
                           feed_end(self->feed)};
    svc_peer_request_t request = {
        .op = OP_LLM_REPLAY,
        .req_schema = &replay_req_schema,
        .req = &replay,
        .rep_schema = &replay_rep_schema,
        .trace = live_feed_trace(self),
        .timeout_ms = 1000,
        .on_reply = on_replay,
        .arg = self,
        .instance = feed_status(self->feed)->llm,
    };

    return svc_peers_call(self->bus->llm, &request, &self->fetch_call);
}

svc_rc
live_feed_call_read(const live_feed_t *self, uint64_t from, svc_reply_fn *on_reply,
                    void *arg, uint64_t *call)
{
    read_req_t read = {self->subject.user, feed_stream(self->feed), from};
    svc_peer_request_t request = {
        .op = OP_CONVO_READ,
        .req_schema = &read_req_schema,
        .req = &read,
        .rep_schema = &read_rep_schema,
        .trace = live_feed_trace(self),
        .timeout_ms = 5000,
        .on_reply = on_reply,
        .arg = arg,
    };

    return svc_peers_call(self->bus->convo, &request, call);
}

/* Asks the next source. False: nobody is there, or a probe has nobody to ask. */
static bool
send_fetch(live_feed_t *self, bool is_probe)
{
    const feed_status_t *status = feed_status(self->feed);

    self->fetch_fence = feed_fence(self->feed) != 0 ? feed_fence(self->feed)
                                                    : status->fence;
    bool use_replay = (is_probe || !self->read_next) && !live_feed_is_over(self) &&
                      self->fetch_fence != 0;
    self->fetch_is_read = false;
    if (use_replay && call_replay(self) == RC_OK)
        return true;
    if (is_probe)
        return false;
    self->read_next = false;
    self->fetch_is_read = true;
    return live_feed_call_read(self, feed_end(self->feed), on_read, self,
                               &self->fetch_call) == RC_OK;
}

void
live_feed_fetch(live_feed_t *self)
{
    uint64_t now = live_feed_now_ms(self);
    bool has_gap = feed_has_gap(self->feed);
    bool is_wanted = feed_failed(self->feed) == RC_OK && (has_gap || self->is_probing) &&
                     live_viewers_are_near(self);

    if (!is_wanted || !has_gap)
        self->starving_ms = 0;
    else if (self->starving_ms == 0)
        self->starving_ms = now;
    if (!is_wanted || self->fetch_call != 0 || self->patience_timer != 0 ||
        (self->fetched_ms > 0 && now - self->fetched_ms < LIVE_RETRY_MS))
        return;
    self->fetched_ms = now; /* what cannot be sent is tried again by the tick */
    if (!send_fetch(self, !has_gap)) {
        self->fetch_call = 0;
        self->is_probing = false;
    }
}

void
live_feed_probe(live_feed_t *self)
{
    self->is_probing = true;
    self->fetched_ms = 0;
    live_feed_fetch(self);
}

static void
on_patience_over(void *arg, short events)
{
    live_feed_t *self = arg;

    (void)events;
    self->patience_timer = 0;
    live_feed_fetch(self);
}

void
live_feed_fetch_soon(live_feed_t *self)
{
    if (self->patience_timer == 0)
        self->patience_timer = svc_loop_after(self->bus->ctx->loop, PATIENCE_MS,
                                              on_patience_over, self);
}

/* --- time --------------------------------------------------------------------------------- */

void
live_feed_tick(live_feed_t *self)
{
    uint64_t now = live_feed_now_ms(self);

    if (self->probes > 0) {
        self->probes--;
        self->is_probing = true;
    }
    live_feed_fetch(self);
    live_viewers_tick(self, now);
    live_watch_tick(self, now);
}

void
live_feed_forgive(live_feed_t *self)
{
    uint64_t now = live_feed_now_ms(self);

    self->heard_ms = now;
    self->detached_ms = self->detached_ms > 0 ? now : 0;
    self->starving_ms = self->starving_ms > 0 ? now : 0;
    live_viewers_forgive(self, now);
}
