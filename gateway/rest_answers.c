/* rest_answers.c - answers beside their streams: which are being written, stopping one, a ticket for one.
 *
 * A stop is committed by whichever convo-svc is asked, and carried out by the one that
 * owns the answer: that one is asked, too, and answers when the end is stored. What takes
 * longer than STOP_WAIT_MS gets a 202 with the state as it is. */
#include "rest.h"
#include "svc/svc_text.h"

#include <inttypes.h>
#include <stdlib.h>

#define STATUS_MAX_BYTES 1024u
#define ACTIVE_MAX_BYTES (256u << 10) /* 1000 answers of some 200 bytes */
#define TICKET_MAX_BYTES (4u << 10)
#define STOP_WAIT_MS     2000u
#define STOP_AGAIN_MS    250u

/* Answers with `json` (freed) if it was made well. */
static void
answer_with(request_t *self, int http, svc_buf_t *json, svc_rc rc)
{
    if (rc == RC_OK)
        request_answer(self, http, svc_buf_str(json));
    else
        request_refuse(self, RC_INTERNAL, (svc_str){NULL, 0}, 0);
    svc_buf_fini(json);
}

/* --- active ------------------------------------------------------------------------------- */

static svc_rc
add_active(svc_buf_t *json, const active_answer_t *answer)
{
    char hex[2 * PROTO_STREAM_BYTES + 1];

    svc_hex(answer->stream.p, answer->stream.n, hex);
    return svc_buf_printf(json,
                          "%s{\"conversation_id\":%" PRIu64 ",\"message_id\":%" PRIu64
                          ",\"stream_id\":\"%s\",\"state\":\"%s\",\"length\":%" PRIu64
                          ",\"asked_time\":%" PRIu64 "}",
                          json->n > 1 ? "," : "", answer->conversation, answer->message,
                          hex, answer_state_names[answer->state], answer->length,
                          answer->asked_ms / 1000);
}

static void
on_active(request_t *self, const void *rep)
{
    const active_rep_t *active = rep;
    const active_answer_t *answers = active->answers.items;
    svc_buf_t json;

    svc_buf_init(&json, ACTIVE_MAX_BYTES);
    svc_rc rc = svc_buf_add_str(&json, SVC_LIT("["));
    for (size_t i = 0; i < active->answers.n && rc == RC_OK; i++)
        rc = add_active(&json, &answers[i]);
    if (rc == RC_OK)
        rc = svc_buf_add_str(&json, SVC_LIT("]"));
    answer_with(self, MHD_HTTP_OK, &json, rc);
}

void
rest_active(request_t *self)
{
    active_req_t req = {request_user(self)};

    request_call(self, &(request_call_t){.peer = REACTOR_CONVO,
                                         .op = OP_CONVO_ACTIVE,
                                         .req_schema = &active_req_schema,
                                         .req = &req,
                                         .rep_schema = &active_rep_schema,
                                         .on_reply = on_active});
}

/* --- stop --------------------------------------------------------------------------------- */

typedef struct {
    request_t *request;              /* whose */
    uint64_t deadline_ms;            /* loop time: an answer is due */
    uint64_t timer;                  /* asks again; 0: none */
    char stream[PROTO_STREAM_BYTES]; /* of the answer, once it was told */
    bool knows_stream;               /* it was */
    bool asked_owner; /* the last call went to the one that has the answer */
} stop_t;

static void
drop_stop(void *data)
{
    stop_t *self = data;

    svc_loop_cancel(request_reactor(self->request)->ctx.loop, self->timer);
    free(self);
}

static void
answer_status(request_t *self, const status_rep_t *status)
{
    char hex[2 * PROTO_STREAM_BYTES + 1];
    bool is_over = answer_state_is_terminal(status->state);
    svc_buf_t json;

    svc_hex(status->stream.p, status->stream.n, hex);
    svc_buf_init(&json, STATUS_MAX_BYTES);
    svc_rc rc = svc_buf_printf(
        &json, "{\"state\":\"%s\",\"message_id\":%" PRIu64 ",\"finish_reason\":",
        answer_state_names[status->state], status->message);
    if (rc == RC_OK && status->finish.n > 0)
        rc = svc_json_string(&json, status->finish);
    else if (rc == RC_OK)
        rc = svc_buf_add_str(&json, SVC_LIT("null"));
    if (rc == RC_OK)
        rc = svc_buf_printf(&json, ",\"stream_id\":\"%s\"}", hex);
    answer_with(self, is_over ? MHD_HTTP_OK : MHD_HTTP_ACCEPTED, &json, rc);
}

static void ask_stop(request_t *request, uint64_t instance);

static void
on_again(void *arg, short events)
{
    stop_t *self = arg;

    (void)events;
    self->timer = 0;
    ask_stop(self->request, 0);
}

static void
ask_again(stop_t *self)
{
    self->timer = svc_loop_after(request_reactor(self->request)->ctx.loop, STOP_AGAIN_MS,
                                 on_again, self);
}

/* An end, or the state as it is: the owner waits for the end before it tells that, another
 * one has only committed the wish. */
static void
on_stop(request_t *request, const void *rep)
{
    const status_rep_t *status = rep;
    stop_t *self = request_data(request);
    const svc_peers_t *convo = request_reactor(request)->peers[REACTOR_CONVO];
    uint64_t now = svc_loop_now_ms(request_reactor(request)->ctx.loop);

    memcpy(self->stream, status->stream.p,
           PROTO_STREAM_BYTES); /* this one, whatever is asked meanwhile */
    self->knows_stream = true;
    if (answer_state_is_terminal(status->state) ||
        now + STOP_AGAIN_MS >= self->deadline_ms)
        answer_status(request, status);
    else if (status->owner != svc_peers_replier(convo) &&
             svc_peers_has(convo, status->owner))
        ask_stop(request, status->owner);
    else
        ask_again(self); /* somebody will take the answer over */
}

/* The owner has gone, or has just lost the answer to another one: the wish is committed, and there is an owner soon. */
static bool
on_no_owner(request_t *request, svc_rc rc)
{
    stop_t *self = request_data(request);
    bool is_late = svc_loop_now_ms(request_reactor(request)->ctx.loop) + STOP_AGAIN_MS >=
                   self->deadline_ms;
    bool is_away = rc == RC_UNAVAILABLE || rc == RC_TIMEOUT || rc == RC_BUSY;
    bool may_come = (is_away && self->asked_owner) || (rc == RC_STALE && !is_late);

    if (may_come)
        ask_again(self);
    return may_come;
}

static void
ask_stop(request_t *request, uint64_t instance)
{
    stop_t *self = request_data(request);
    watch_req_t req = {request_user(request),
                       request_id(request),
                       {self->stream, self->knows_stream ? PROTO_STREAM_BYTES : 0}};

    self->asked_owner = instance != 0;
    request_call(request, &(request_call_t){.peer = REACTOR_CONVO,
                                            .op = OP_CONVO_STOP,
                                            .req_schema = &watch_req_schema,
                                            .req = &req,
                                            .rep_schema = &status_rep_schema,
                                            .on_reply = on_stop,
                                            .on_error = on_no_owner,
                                            .instance = instance});
}

void
rest_stop(request_t *request)
{
    stop_t *self = svc_alloc(sizeof *self);

    self->request = request;
    self->deadline_ms = svc_loop_now_ms(request_reactor(request)->ctx.loop) +
                        STOP_WAIT_MS;
    request_keep(request, self, drop_stop);
    ask_stop(request, 0);
}

/* --- ticket ------------------------------------------------------------------------------- */

static void
on_ticket(request_t *self, const void *rep)
{
    const ticket_rep_t *made = rep;
    svc_buf_t json;

    svc_metrics_add(request_reactor(self)->ctx.metrics, SVC_M_TICKETS, 1);
    svc_buf_init(&json, TICKET_MAX_BYTES);
    svc_rc rc = svc_buf_add_str(&json, SVC_LIT("{\"ticket\":"));
    if (rc == RC_OK)
        rc = svc_json_string(&json, made->ticket);
    if (rc == RC_OK)
        rc = svc_buf_printf(&json, ",\"expires_in\":%" PRIu64 "}", made->expires_in_s);
    answer_with(self, MHD_HTTP_OK, &json, rc);
    if (rc == RC_OK)
        request_answer_header(self, "Cache-Control", "no-store");
}

static void
ask_ticket(request_t *self)
{
    ticket_req_t req = {request_user(self), request_id(self), request_expires_s(self)};

    request_call(self, &(request_call_t){.peer = REACTOR_AUTH,
                                         .op = OP_AUTH_TICKET,
                                         .req_schema = &ticket_req_schema,
                                         .req = &req,
                                         .rep_schema = &ticket_rep_schema,
                                         .on_reply = on_ticket});
}

static void
on_owned(request_t *self, const void *rep)
{
    (void)rep;
    ask_ticket(self);
}

static bool
on_not_answered(request_t *self, svc_rc rc)
{
    if (rc == RC_NO_ANSWER)
        ask_ticket(self);
    return rc == RC_NO_ANSWER;
}

void
rest_ticket(request_t *self)
{
    watch_req_t watch = {request_user(self), request_id(self), {NULL, 0}};

    request_call(self, &(request_call_t){.peer = REACTOR_CONVO,
                                         .op = OP_CONVO_WATCH,
                                         .req_schema = &watch_req_schema,
                                         .req = &watch,
                                         .rep_schema = &status_rep_schema,
                                         .on_reply = on_owned,
                                         .on_error = on_not_answered});
}
