/* rest_stream.c - reading on: the latest answer of a conversation, from where a client has left it.
 *
 * convo-svc is asked which answer is the latest and how it is; what the client has of it
 * stands in its Last-Event-ID, or in ?after=. 204 tells an EventSource that there is no
 * more and ends it, where any other end makes it reconnect. Nothing is kept between two
 * connections, so any gateway will do. */
#include "rest.h"
#include "rest_viewer.h"

/* The id that the client has brought; the header is the newer one of the two: a browser
 * sends it when it reconnects, with the URL of the beginning. */
static svc_str
brought_id(const request_t *request)
{
    svc_str id = request_header(request, "Last-Event-ID");

    return id.n > 0 ? id : request_query(request, "after");
}

/* Joins the feed of the latest answer, behind `from`. */
static void
join(request_t *request, const status_rep_t *status, const stream_id_t *from)
{
    reactor_t *reactor = request_reactor(request);
    rest_viewer_t *viewer = rest_viewer_new(request);
    live_subject_t who = {.user = request_user(request),
                          .conversation = request_id(request)};

    memcpy(who.stream, from->stream, sizeof who.stream);
    memcpy(who.trace, request_trace(request).p, PROTO_TRACE_BYTES);
    svc_rc rc = feed_hub_watch(reactor->hub, &who, status, from->offset,
                               rest_viewer_live(viewer));
    if (rc != RC_OK) {
        request_refuse(request, rc, (svc_str){NULL, 0}, 0);
        return;
    }
    svc_metrics_add(reactor->ctx.metrics, SVC_M_VIEWERS, 1);
    rest_viewer_begin(viewer, from);
}

/* The latest answer is known: is there more of it for this client? */
static void
on_status(request_t *request, const void *rep)
{
    const status_rep_t *status = rep;
    svc_str brought = brought_id(request);
    stream_id_t from = {.mark = STREAM_ID_TEXT};

    if (brought.n == 0)
        memcpy(from.stream, status->stream.p, sizeof from.stream);
    else if (!stream_id_read(brought, &from))
        return; /* was read before */
    if (memcmp(from.stream, status->stream.p, sizeof from.stream) != 0)
        request_refuse(request, RC_SUPERSEDED, (svc_str){NULL, 0}, 0);
    else if (from.mark == STREAM_ID_END) /* only ever given with what ends the reading */
        request_answer_nothing(request);
    else if (status->state == ANSWER_COMPLETE && from.offset > status->length)
        request_refuse_input(request, RC_INVALID, TEXT_BAD_STREAM_ID, NULL);
    else
        join(request, status, &from);
}

static bool
on_no_status(request_t *request, svc_rc rc)
{
    if (rc == RC_NO_ANSWER)
        request_answer_nothing(request);
    return rc == RC_NO_ANSWER;
}

void
rest_stream(request_t *request)
{
    svc_str brought = brought_id(request);
    watch_req_t watch = {request_user(request), request_id(request), {NULL, 0}};
    stream_id_t from;

    if (brought.n > 0 && !stream_id_read(brought, &from)) {
        request_refuse_input(request, RC_INVALID, TEXT_BAD_STREAM_ID, NULL);
        return;
    }
    if (brought.n == 0 && !request_may_open(request)) {
        request_refuse_input(request, RC_UNAUTHORIZED, TEXT_BAD_TICKET, NULL);
        return;
    }
    request_call(request, &(request_call_t){.peer = REACTOR_CONVO,
                                            .op = OP_CONVO_WATCH,
                                            .req_schema = &watch_req_schema,
                                            .req = &watch,
                                            .rep_schema = &status_rep_schema,
                                            .on_reply = on_status,
                                            .on_error = on_no_status});
}
