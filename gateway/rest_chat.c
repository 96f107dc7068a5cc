/* rest_chat.c - a question and the stream of its answer.
 *
 * The question goes to convo-svc through the feed hub, and the request becomes a
 * viewer of the answer's feed. Headers go out with the first byte of text, with a
 * success, when the model has been thinking for gateway.headers_after_s, or when the
 * client may have left: what is sent to nobody comes back, and that is noticed. What goes
 * wrong before has an HTTP status, what goes wrong later is an event. The viewer
 * formats events only when its socket takes bytes, and leaves its feed when the
 * request ends: nothing is stopped by that. */
#include "rest.h"
#include "sse_stream.h"

#include <stdlib.h>

#define HEADERS_RETRY_MS 200

typedef struct {
    request_t *request;   /* whose answer */
    live_viewer_t viewer; /* in the feed */
    sse_stream_t *sse;    /* owned; NULL until the headers go out */
    sse_framing framing;  /* of the events */
    uint64_t timer;       /* headers, later keep-alive; 0: none */
    uint64_t sent_ms;     /* when something was sent last */
    bool comment;         /* say something: it has been silent for too long */
    bool ended;           /* the last event was made */
} chat_t;

static void begin_stream(chat_t *self);

static svc_loop_t *
loop_of(const chat_t *self)
{
    return request_reactor(self->request)->ctx.loop;
}

static const svc_config_t *
config_of(const chat_t *self)
{
    return request_reactor(self->request)->ctx.config;
}

/* --- the stream --------------------------------------------------------------------------- */

static void on_silence(void *arg, short events);

/* Waits until `ms` from now for a comment to become due. One timer a stream, not one
 * an event. */
static void
expect_silence(chat_t *self, uint64_t ms)
{
    self->timer = svc_loop_after(loop_of(self), ms, on_silence, self);
}

static void
on_silence(void *arg, short events)
{
    chat_t *self = arg;
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

/* Appends events until there is enough for one write, or nothing more. */
static bool
add_events(chat_t *self, svc_buf_t *out, size_t enough)
{
    const feed_t *feed = live_feed_feed(self->viewer.live);
    sse_result result = SSE_SENT;

    while (result == SSE_SENT && out->n < enough)
        result = sse_stream_next(self->sse, feed, out);
    live_viewer_moved(&self->viewer, sse_stream_offset(self->sse));
    self->ended = result == SSE_END;
    if (result == SSE_NEED_PAGE)
        live_viewer_want_page(&self->viewer, self->viewer.offset);
    return result != SSE_BROKEN;
}

static stream_step
fill_stream(void *arg, svc_buf_t *out, size_t enough)
{
    chat_t *self = arg;
    size_t before = out->n;
    bool is_between = sse_stream_is_between_events(self->sse);

    if (self->ended)
        return STREAM_END;
    if (self->viewer.starved)
        return STREAM_CUT;
    if (request_is_over(self->request) && is_between)
        return STREAM_END;
    if (request_is_doubted(self->request))
        self->comment = true;
    if (self->comment && is_between && sse_stream_comment(self->sse, out) != RC_OK)
        return STREAM_CUT;
    if (!add_events(self, out, enough))
        return STREAM_CUT;
    if (out->n == before)
        return self->ended                      ? STREAM_END
               : request_is_over(self->request) ? STREAM_CUT
                                                : STREAM_WAIT;
    self->sent_ms = svc_loop_now_ms(loop_of(self));
    self->comment = false;
    return STREAM_MORE;
}

/* --- before the stream -------------------------------------------------------------------- */

/* Answers with a status what has gone wrong before anything was shown. False: nothing
 * has. */
static bool
refuse_early(chat_t *self)
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
    chat_t *self = arg;
    const feed_t *feed = live_feed_feed(self->viewer.live);
    const feed_status_t *status = feed_status(feed);

    if (self->sse != NULL) {
        request_wake(self->request);
        return;
    }
    if (refuse_early(self))
        return;
    bool is_over = feed_failed(feed) != RC_OK ||
                   (status->heard && answer_state_is_terminal((int)status->state));
    if (status->heard && request_is_doubted(self->request))
        self->comment = true; /* is it there? */
    if (feed_limit(feed) > 0 || is_over || self->comment)
        begin_stream(self);
}

static void
on_paged(void *arg, uint64_t from, svc_str bytes)
{
    chat_t *self = arg;

    if (self->sse != NULL)
        sse_stream_page(self->sse, from, bytes);
    request_wake(self->request);
}

/* The model thinks for long: the headers go out without text, if the question is
 * committed. */
static void
on_headers_due(void *arg, short events)
{
    chat_t *self = arg;

    (void)events;
    self->timer = 0;
    if (!feed_status(live_feed_feed(self->viewer.live))
             ->heard) { /* not committed yet; the ask has a time-out of its own */
        self->timer = svc_loop_after(loop_of(self), HEADERS_RETRY_MS, on_headers_due,
                                     self);
        return;
    }
    self->comment = true;
    begin_stream(self);
}

static void
begin_stream(chat_t *self)
{
    const feed_t *feed = live_feed_feed(self->viewer.live);

    svc_loop_cancel(loop_of(self), self->timer);
    self->sent_ms = svc_loop_now_ms(loop_of(self));
    expect_silence(self, 1000ull * config_of(self)->gateway_keepalive_s);
    stream_id_t from = {.offset = 0};
    memcpy(from.stream, feed_stream(feed).p, sizeof from.stream);
    self->sse = sse_stream_new(&from, self->framing, request_language(self->request));
    request_answer_stream(self->request, sse_framing_type(self->framing), true,
                          fill_stream, self);
}

/* --- life --------------------------------------------------------------------------------- */

static void
drop_chat(void *data)
{
    chat_t *self = data;
    reactor_t *reactor = request_reactor(self->request);

    svc_loop_cancel(reactor->ctx.loop, self->timer);
    if (self->viewer.live != NULL && !self->ended)
        svc_metrics_add(reactor->ctx.metrics, SVC_M_VIEWERS_GONE, 1);
    feed_hub_leave(reactor->hub, &self->viewer);
    sse_stream_destroy(&self->sse);
    free(self);
}

static chat_t *
new_chat(request_t *request)
{
    chat_t *self = svc_alloc(sizeof *self);
    const svc_config_t *config = request_reactor(request)->ctx.config;
    sse_framing fallback = config->server_default_framing == SVC_FRAMING_BARE
                               ? SSE_FRAMING_BARE
                               : SSE_FRAMING_EVENTS;

    self->request = request;
    self->framing = sse_framing_of(request_header(request, "Accept"), fallback);
    self->viewer.changed = on_changed;
    self->viewer.paged = on_paged;
    self->viewer.arg = self;
    request_keep(request, self, drop_chat);
    request_on_doubt(request, on_changed);
    return self;
}

void
rest_chat(request_t *request)
{
    svc_str message = {NULL, 0};
    const json_in_key_t keys[] = {
        {"message", true, true, PROTO_QUESTION_MAX_BYTES, &message}};
    reactor_t *reactor = request_reactor(request);
    json_in_t *json = rest_read_body(request, keys, SVC_COUNT(keys));

    if (json == NULL)
        return;
    chat_t *self = new_chat(request);
    live_subject_t who = {.user = request_user(request),
                          .conversation = request_id(request)};
    memcpy(who.trace, request_trace(request).p, PROTO_TRACE_BYTES);
    live_question_t question = {.text = message};
    svc_rc rc = feed_hub_ask(reactor->hub, &who, &question, &self->viewer);
    json_in_destroy(&json);
    if (rc != RC_OK) {
        request_refuse(request, rc, (svc_str){NULL, 0}, 0);
        return;
    }
    svc_metrics_add(reactor->ctx.metrics, SVC_M_VIEWERS, 1);
    self->timer = svc_loop_after(reactor->ctx.loop,
                                 1000ull * reactor->ctx.config->gateway_headers_after_s,
                                 on_headers_due, self);
}
