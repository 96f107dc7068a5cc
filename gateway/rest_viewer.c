/* rest_viewer.c - a request that has become the reader of an answer.
 *
 * What goes wrong before the headers are out has an HTTP status, what goes wrong later is an
 * event. A comment is sent where a client may have left: what is sent to nobody comes back,
 * and that is noticed. A token that is refused ends the stream between two events. */
#include "rest_viewer.h"
#include "sse_stream.h"
#include "stream_guard.h"
#include "svc/svc_text.h"
#include "svc/svc_time.h"

#include <stdlib.h>

#define HEADERS_RETRY_MS 200

struct rest_viewer {
    request_t *request;    /* whose answer */
    live_viewer_t viewer;  /* in the feed */
    sse_stream_t *sse;     /* owned; NULL until the headers go out */
    sse_framing framing;   /* of the events */
    stream_guard_t *guard; /* owned; of the token */
    uint64_t timer;        /* headers, later keep-alive; 0: none */
    uint64_t sent_ms;      /* when something was sent last */
    bool comment;          /* say something: it has been silent for too long */
    bool ended;            /* the last event was made */
    bool has_sent;         /* something: it may end, its client knows where */
    bool is_ready;         /* await or begin was called */
    bool is_asker;   /* its question it was, and no text of the answer has come yet */
    bool is_refused; /* its token was, before there was a stream */
};

static void begin_from_start(rest_viewer_t *self);

static svc_loop_t *
loop_of(const rest_viewer_t *self)
{
    return request_reactor(self->request)->ctx.loop;
}

static const svc_config_t *
config_of(const rest_viewer_t *self)
{
    return request_reactor(self->request)->ctx.config;
}

/* --- the stream --------------------------------------------------------------------------- */

static void on_silence(void *arg, short events);

/* Waits until `ms` from now for a comment to become due. One timer a stream, not one
 * an event. */
static void
expect_silence(rest_viewer_t *self, uint64_t ms)
{
    self->timer = svc_loop_after(loop_of(self), ms, on_silence, self);
}

static void
on_silence(void *arg, short events)
{
    rest_viewer_t *self = arg;
    uint64_t patience_ms = 1000ull * config_of(self)->gateway_keepalive_s;
    uint64_t silent_ms = svc_loop_now_ms(loop_of(self)) - self->sent_ms;

    (void)events;
    if (silent_ms < patience_ms) {
        expect_silence(self, patience_ms - silent_ms);
        return;
    }
    expect_silence(self, patience_ms);
    request_cut_if_silent(self->request);
    self->comment = true;
    request_wake(self->request);
}

/* The first text of an answer is on its way to who has asked for it. */
static void
count_first_text(rest_viewer_t *self)
{
    self->is_asker = false;
    svc_metrics_observe(request_reactor(self->request)->ctx.metrics,
                        SVC_F_STREAM_FIRST_TEXT_US, 0,
                        svc_mono_us() - request_began_us(self->request));
}

/* Appends events until there is enough for one write, or nothing more. */
static bool
add_events(rest_viewer_t *self, svc_buf_t *out, size_t enough)
{
    const feed_t *feed = live_feed_feed(self->viewer.live);
    sse_result result = SSE_SENT;

    while (result == SSE_SENT && out->n < enough)
        result = sse_stream_next(self->sse, feed, out);
    live_viewer_moved(&self->viewer, sse_stream_offset(self->sse));
    if (self->is_asker && self->viewer.offset > 0)
        count_first_text(self);
    self->ended = result == SSE_END;
    if (result == SSE_NEED_PAGE)
        live_viewer_want_page(&self->viewer, self->viewer.offset);
    return result != SSE_BROKEN;
}

static stream_step
fill_stream(void *arg, svc_buf_t *out, size_t enough)
{
    rest_viewer_t *self = arg;
    size_t before = out->n;
    bool is_between = sse_stream_is_between_events(self->sse);

    if (self->viewer.offset > 0) /* what was added before has been given to the client */
        svc_fault_at(request_reactor(self->request)->ctx.fault,
                     FAULT_GATEWAY_FIRST_SHOWN);
    if (self->ended)
        return STREAM_END;
    if (self->viewer.starved || (self->viewer.gone != RC_OK && !is_between))
        return STREAM_CUT;
    if (self->viewer.gone != RC_OK)
        sse_stream_refuse(self->sse, self->viewer.gone);
    if (request_is_ending(self->request) && is_between && self->has_sent)
        return STREAM_END;
    if (request_is_doubted(self->request))
        self->comment = true;
    if (self->comment && is_between && sse_stream_comment(self->sse, out) != RC_OK)
        return STREAM_CUT;
    if (!add_events(self, out, enough))
        return STREAM_CUT;
    if (out->n == before) {
        bool ends = self->ended || (request_is_ending(self->request) && is_between);
        return ends                             ? STREAM_END
               : request_is_over(self->request) ? STREAM_CUT
                                                : STREAM_WAIT;
    }
    self->sent_ms = svc_loop_now_ms(loop_of(self));
    self->comment = false;
    self->has_sent = true;
    return STREAM_MORE;
}

/* --- before the stream -------------------------------------------------------------------- */

/* Answers with a status what has gone wrong before anything was shown. False: nothing
 * has. */
static bool
refuse_early(rest_viewer_t *self)
{
    const feed_t *feed = live_feed_feed(self->viewer.live);
    const feed_status_t *status = feed_status(feed);
    svc_rc rc = feed_failed(feed);

    if (rc == RC_OK && status->heard && status->state == ANSWER_INTERRUPTED &&
        status->length == 0)
        rc = status->reason;
    if (rc == RC_OK || feed_limit(feed) > 0)
        return false;
    request_refuse(self->request, rc, status->text, status->retry_after_s);
    return true;
}

static void
on_changed(void *arg)
{
    rest_viewer_t *self = arg;
    const feed_t *feed = live_feed_feed(self->viewer.live);
    const feed_status_t *status = feed_status(feed);

    if (self->sse != NULL) {
        request_wake(self->request);
        return;
    }
    if (!self->is_ready || self->is_refused || refuse_early(self))
        return;
    bool is_over = feed_failed(feed) != RC_OK ||
                   (status->heard && answer_state_is_terminal((int)status->state));
    if (status->heard && request_is_doubted(self->request))
        self->comment = true; /* is it there? */
    bool is_ending = status->heard && request_is_ending(self->request);
    bool has_text = status->heard && feed_limit(feed) > 0;
    if (has_text || is_over || is_ending || self->comment)
        begin_from_start(self);
}

static void
on_paged(void *arg, uint64_t from, svc_str bytes)
{
    rest_viewer_t *self = arg;

    if (self->sse != NULL)
        sse_stream_page(self->sse, from, bytes);
    request_wake(self->request);
}

/* The model thinks for long: the headers go out without text, if the question is
 * committed. */
static void
on_headers_due(void *arg, short events)
{
    rest_viewer_t *self = arg;

    (void)events;
    self->timer = 0;
    if (!feed_status(live_feed_feed(self->viewer.live))
             ->heard) { /* not committed yet; the ask has a time-out of its own */
        self->timer = svc_loop_after(loop_of(self), HEADERS_RETRY_MS, on_headers_due,
                                     self);
        return;
    }
    self->comment = true;
    begin_from_start(self);
}

/* The stream's id also for those whose framing has no ids. */
static void
tell_stream(request_t *request, const stream_id_t *from)
{
    char hex[2 * PROTO_STREAM_BYTES + 1];

    svc_hex(from->stream, sizeof from->stream, hex);
    request_answer_header(request, "Stream-Id", hex);
}

void
rest_viewer_begin(rest_viewer_t *self, const stream_id_t *from)
{
    self->is_ready = true;
    svc_loop_cancel(loop_of(self), self->timer);
    self->sent_ms = svc_loop_now_ms(loop_of(self));
    expect_silence(self, 1000ull * config_of(self)->gateway_keepalive_s);
    self->sse = sse_stream_new(from, self->framing, request_language(self->request));
    sse_stream_bound(self->sse, (size_t)config_of(self)->gateway_viewer_backlog_kb << 10);
    request_answer_stream(self->request, sse_framing_type(self->framing), true,
                          fill_stream, self);
    tell_stream(self->request, from);
}

static void
begin_from_start(rest_viewer_t *self)
{
    const feed_t *feed = live_feed_feed(self->viewer.live);
    stream_id_t from = {.mark = STREAM_ID_TEXT};

    memcpy(from.stream, feed_stream(feed).p, sizeof from.stream);
    rest_viewer_begin(self, &from);
}

void
rest_viewer_await(rest_viewer_t *self)
{
    self->is_ready = true;
    self->is_asker = true;
    request_waits(self->request);
    self->timer = svc_loop_after(loop_of(self),
                                 1000ull * config_of(self)->gateway_headers_after_s,
                                 on_headers_due, self);
}

/* The token is no longer good: the client is told, and reads no more. */
static void
on_refused(void *arg)
{
    rest_viewer_t *self = arg;

    if (self->sse == NULL) {
        svc_loop_cancel(loop_of(self), self->timer);
        self->timer = 0;
        self->is_refused = true;
        request_refuse(self->request, RC_UNAUTHORIZED, (svc_str){NULL, 0}, 0);
        return;
    }
    sse_stream_refuse(self->sse, RC_UNAUTHORIZED);
    request_wake(self->request);
}

/* --- life --------------------------------------------------------------------------------- */

static void
drop_viewer(void *data)
{
    rest_viewer_t *self = data;
    reactor_t *reactor = request_reactor(self->request);

    svc_loop_cancel(reactor->ctx.loop, self->timer);
    stream_guard_destroy(&self->guard);
    if (self->viewer.live != NULL && !self->ended)
        svc_metrics_add(reactor->ctx.metrics, SVC_M_VIEWERS_GONE, 1);
    feed_hub_leave(reactor->hub, &self->viewer);
    sse_stream_destroy(&self->sse);
    svc_metrics_count(reactor->ctx.metrics, SVC_F_STREAMS_OPEN, 0, 0, -1);
    free(self);
}

rest_viewer_t *
rest_viewer_new(request_t *request)
{
    rest_viewer_t *self = svc_alloc(sizeof *self);
    const svc_config_t *config = request_reactor(request)->ctx.config;
    sse_framing fallback = config->server_default_framing == SVC_FRAMING_BARE
                               ? SSE_FRAMING_BARE
                               : SSE_FRAMING_EVENTS;

    self->request = request;
    self->framing = sse_framing_of(request_header(request, "Accept"), fallback);
    self->viewer.changed = on_changed;
    self->viewer.paged = on_paged;
    self->viewer.arg = self;
    request_keep(request, self, drop_viewer);
    self->guard = stream_guard_new(request, on_refused, self);
    request_on_doubt(request, on_changed);
    svc_metrics_count(request_reactor(request)->ctx.metrics, SVC_F_STREAMS_OPEN, 0, 0, 1);
    return self;
}

live_viewer_t *
rest_viewer_live(rest_viewer_t *self)
{
    return &self->viewer;
}
