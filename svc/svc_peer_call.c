/* svc_peer_call.c - the calling side of the bus: the calls of one peer, or of all peers of a set.
 *
 * A call is found by its id (hash table) when a reply comes and by its deadline (heap)
 * when none does; one timer of the loop stands at or before the earliest deadline. A
 * call leaves the table before its last callback runs, so the callback may call, post
 * and forget as it likes. Thread: the loop's. */
#include "svc/svc_peer_call.h"

#include "svc/svc_msg.h"
#include "svc/svc_time.h"

#include <stdlib.h>

#define POST_LIFE_MS 10000 /* a request without reply is of no use any later */
#define BODY_COPY_MAX_BYTES \
    (64u << 10) /* smaller bodies are copied, and the buffer is used again */

struct peer_call {
    svc_table_node_t by_id;           /* first: cast from table nodes; key is the id */
    svc_heap_node_t deadline;         /* key: monotonic ms */
    svc_peer_t *peer;                 /* who is to answer it */
    peer_call_t *prev, *next;         /* in the peer's list */
    const proto_schema_t *rep_schema; /* borrowed */
    uint64_t hold_ms;                 /* between parts; 0: no bound */
    svc_reply_fn *on_reply;           /* receives the replies */
    void *arg;                        /* for on_reply */
    const char *op;                   /* OP_… */
    uint64_t expires_ms;              /* Unix time, of the request */
    uint64_t began_us;                /* monotonic; 0: its first reply has come */
    size_t n;                         /* bytes of body */
    bool is_kept;                     /* may be sent again: no reply has come yet */
    char trace[PROTO_TRACE_BYTES];    /* of a kept call */
    char body[];                      /* of a kept call: the encoded request */
};

/* --- sending ------------------------------------------------------------------------ */

/* Sends what the buffer holds. */
static bool
send_out(const svc_peer_t *self)
{
    svc_buf_t *out = &self->calls->out;
    svc_loop_touched(self->ctx->loop, self->socket);
    if (out->n <= BODY_COPY_MAX_BYTES)
        return svc_msg_send_bytes(self->socket, svc_buf_str(out), ZMQ_DONTWAIT);
    zmq_msg_t message;
    svc_msg_take(&message, out);
    const bool sent = svc_msg_send(self->socket, &message, ZMQ_DONTWAIT);
    zmq_msg_close(&message);
    return sent;
}

/* Gives a request that comes without a trace a fresh one, in `fresh`. */
static void
fill_trace(svc_peer_calls_t *calls, proto_envelope_t *envelope,
           uint8_t fresh[PROTO_TRACE_BYTES])
{
    if (envelope->trace.n == PROTO_TRACE_BYTES)
        return;
    svc_ids_next(&calls->traces, fresh);
    envelope->trace = (svc_str){(const char *)fresh, PROTO_TRACE_BYTES};
}

/* Puts one message into the buffer; *body_at: where its body begins. */
static svc_rc
encode(svc_peer_calls_t *calls, const proto_envelope_t *envelope,
       const proto_schema_t *schema, const void *msg, size_t *body_at)
{
    svc_buf_clear(&calls->out);
    svc_rc rc = proto_envelope_encode(envelope, &calls->out);
    *body_at = calls->out.n;
    if (rc == RC_OK)
        rc = schema == NULL ? svc_buf_add_str(&calls->out, *(const svc_str *)msg)
                            : proto_encode(schema, msg, &calls->out);
    return rc;
}

svc_rc
svc_peer_send(svc_peer_t *self, const proto_envelope_t *envelope,
              const proto_schema_t *schema, const void *msg)
{
    uint8_t fresh[PROTO_TRACE_BYTES];
    proto_envelope_t head = *envelope;
    size_t body_at;
    if (self->socket == NULL)
        return RC_UNAVAILABLE;
    fill_trace(self->calls, &head, fresh);
    const svc_rc rc = encode(self->calls, &head, schema, msg, &body_at);
    return rc == RC_OK && !send_out(self) ? RC_BUSY : rc;
}

/* --- who answers it ----------------------------------------------------------------- */

static void
link_call(svc_peer_t *self, peer_call_t *call)
{
    call->peer = self;
    call->prev = NULL;
    call->next = self->first_call;
    if (call->next != NULL)
        call->next->prev = call;
    self->first_call = call;
    self->n_calls++;
}

static void
unlink_call(peer_call_t *call)
{
    *(call->prev != NULL ? &call->prev->next : &call->peer->first_call) = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    call->peer->n_calls--;
}

/* Takes a call out of everything; it is the caller's to free. */
static void
remove_call(svc_peer_calls_t *self, peer_call_t *call)
{
    unlink_call(call);
    svc_table_remove(&self->table, call->by_id.key);
    svc_heap_remove(&self->deadlines, &call->deadline);
}

/* Its first reply has come, or its end. */
static void
count_reply(const svc_peer_calls_t *self, peer_call_t *call)
{
    if (call->began_us != 0)
        svc_metrics_observe(self->ctx->metrics, SVC_F_CALL_US, call->peer->metric,
                            svc_mono_us() - call->began_us);
    call->began_us = 0;
}

static void
count_end(const svc_peer_calls_t *self, peer_call_t *call, svc_rc rc)
{
    count_reply(self, call);
    svc_metrics_count(self->ctx->metrics, SVC_F_CALLS, call->peer->metric,
                      svc_metrics_code(rc), 1);
}

/* Ends a call with an error: frees it, then tells. */
static void
end_call(svc_peer_calls_t *self, peer_call_t *call, svc_rc rc, const error_rep_t *error)
{
    svc_reply_fn *on_reply = call->on_reply;
    void *arg = call->arg;
    self->replier = call->peer->instance;
    count_end(self, call, rc);
    remove_call(self, call);
    free(call);
    on_reply(arg, PROTO_ERROR, rc, NULL, error);
}

/* Ends a call with an error of our own. */
static void
fail_call(svc_peer_calls_t *self, peer_call_t *call, svc_rc rc)
{
    const error_rep_t error = {.code = svc_str_c(svc_rc_info(rc)->wire)};
    svc_metrics_add(self->ctx->metrics, SVC_M_CALLS_FAILED, 1);
    end_call(self, call, rc, &error);
}

/* --- deadlines ---------------------------------------------------------------------- */

static void set_timer(svc_peer_calls_t *self);

static void
on_deadline(void *arg, short events)
{
    (void)events;
    svc_peer_calls_t *self = arg;
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    svc_heap_node_t *first;
    self->timer = 0;
    while ((first = svc_heap_first(&self->deadlines)) != NULL && first->key <= now)
        fail_call(self, (peer_call_t *)((char *)first - offsetof(peer_call_t, deadline)),
                  RC_TIMEOUT);
    set_timer(self);
}

/* Set again only for an earlier deadline: one that fires too early finds nothing due. */
static void
set_timer(svc_peer_calls_t *self)
{
    const svc_heap_node_t *first = svc_heap_first(&self->deadlines);
    if (first == NULL || (self->timer != 0 && self->timer_ms <= first->key))
        return;
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    svc_loop_cancel(self->ctx->loop, self->timer);
    self->timer_ms = first->key;
    self->timer = svc_loop_after(self->ctx->loop, first->key > now ? first->key - now : 0,
                                 on_deadline, self);
}

static void
set_deadline(svc_peer_calls_t *self, peer_call_t *call, uint64_t ms)
{
    svc_heap_put(&self->deadlines, &call->deadline,
                 svc_loop_now_ms(self->ctx->loop) + ms);
    set_timer(self);
}

/* --- calls -------------------------------------------------------------------------- */

/* One that has been quiet is asked for a sign of life along with a call: should it have frozen, the
 * call waits no longer than svc_peer_times_t.down. */
static void
ask_life(svc_peer_t *self)
{
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    if (!self->is_asked && now - self->last_life_ms >= svc_peer_times(self)->tick)
        svc_peer_ping(self);
}

/* How long it takes at least until silence counts as down: the ping that waits may have been sent long before this call. A third
 * of it, 0.7 s of 2.2, is left out: the clock of whoever is asked may be so much behind ours. */
static uint64_t
down_in_ms(const svc_peer_t *self)
{
    const uint64_t down = svc_peer_times(self)->down - svc_peer_times(self)->down / 3;
    const uint64_t waited = self->is_asked
                                ? svc_loop_now_ms(self->ctx->loop) - self->asked_ms
                                : 0;
    return waited < down ? down - waited : 0;
}

/* Makes the call whose request stands in the buffer. */
static peer_call_t *
make_call(const svc_peer_t *self, const svc_peer_request_t *request, bool keep,
          svc_str trace, size_t body_at)
{
    const svc_buf_t *out = &self->calls->out;
    const size_t n = keep ? out->n - body_at : 0;
    peer_call_t *call = svc_alloc(sizeof(*call) + n);
    call->rep_schema = request->rep_schema;
    call->hold_ms = request->hold_ms;
    call->on_reply = request->on_reply;
    call->arg = request->arg;
    call->op = request->op;
    call->began_us = svc_mono_us();
    if (!keep)
        return call;
    call->is_kept = true;
    call->n = n;
    memcpy(call->body, svc_buf_str(out).p + body_at, n);
    memcpy(call->trace, trace.p, sizeof(call->trace));
    return call;
}

svc_rc
svc_peer_begin(svc_peer_t *self, const svc_peer_request_t *request, bool keep,
               uint64_t *id_out)
{
    svc_peer_calls_t *calls = self->calls;
    uint8_t fresh[PROTO_TRACE_BYTES];
    size_t body_at;
    if (self->state != PEER_UP)
        return RC_UNAVAILABLE;
    if (self->n_calls >= SVC_PEER_CALLS_MAX)
        return RC_BUSY;
    proto_envelope_t envelope = {
        .version = PROTO_VERSION,
        .kind = PROTO_REQUEST,
        .id = ++calls->ids,
        .op = svc_str_c(request->op),
        .trace = request->trace,
        .expires_ms = svc_unix_ms() + request->timeout_ms,
    };
    if (keep) /* not done by a replica that thaws when another one has done it, and more has happened since */
        envelope.moved_ms = svc_unix_ms() + down_in_ms(self);
    fill_trace(calls, &envelope, fresh);
    const svc_rc rc = encode(calls, &envelope, request->req_schema, request->req,
                             &body_at);
    if (rc != RC_OK)
        return rc;
    peer_call_t *call = make_call(self, request, keep, envelope.trace, body_at);
    if (!send_out(self)) {
        free(call);
        return RC_BUSY;
    }
    call->expires_ms = envelope.expires_ms;
    link_call(self, call);
    svc_table_add(&calls->table, &call->by_id, envelope.id);
    set_deadline(calls, call, request->timeout_ms);
    ask_life(self);
    if (id_out != NULL)
        *id_out = envelope.id;
    return RC_OK;
}

const svc_peer_t *
svc_peer_call_peer(const peer_call_t *call)
{
    return call->peer;
}

svc_rc
svc_peer_call(svc_peer_t *self, const svc_peer_request_t *request, uint64_t *id_out)
{
    return svc_peer_begin(self, request, false, id_out);
}

svc_rc
svc_peer_resend(svc_peer_t *self, peer_call_t *call)
{
    const svc_str body = {call->body, call->n};
    const proto_envelope_t envelope = {
        .version = PROTO_VERSION,
        .kind = PROTO_REQUEST,
        .id = call->by_id.key,
        .op = svc_str_c(call->op),
        .trace = {call->trace, sizeof(call->trace)},
        .expires_ms = call->expires_ms,
    };
    if (self->state != PEER_UP)
        return RC_UNAVAILABLE;
    if (self->n_calls >= SVC_PEER_CALLS_MAX)
        return RC_BUSY;
    const svc_rc rc = svc_peer_send(self, &envelope, NULL, &body);
    if (rc != RC_OK)
        return rc;
    call->is_kept = false;
    unlink_call(call);
    link_call(self, call);
    return RC_OK;
}

svc_rc
svc_peer_post(svc_peer_t *self, const char *op, svc_str trace,
              const proto_schema_t *schema, const void *req)
{
    if (self->state != PEER_UP)
        return RC_UNAVAILABLE;
    const proto_envelope_t envelope = {
        .version = PROTO_VERSION,
        .kind = PROTO_REQUEST,
        .op = svc_str_c(op),
        .trace = trace,
        .expires_ms = svc_unix_ms() + POST_LIFE_MS,
    };
    return svc_peer_send(self, &envelope, schema, req);
}

void
svc_peer_calls_forget(svc_peer_calls_t *self, uint64_t id)
{
    peer_call_t *call = (peer_call_t *)svc_table_get(&self->table, id);
    if (call == NULL)
        return;
    remove_call(self, call);
    free(call);
}

void
svc_peer_forget(svc_peer_t *self, uint64_t id)
{
    svc_peer_calls_forget(self->calls, id);
}

void
svc_peer_fail_calls(svc_peer_t *self)
{
    svc_peer_calls_t *calls = self->calls;
    peer_call_t *call;
    while ((call = self->first_call) != NULL)
        if (!call->is_kept || calls->again == NULL || !calls->again(calls->arg, call))
            fail_call(calls, call, RC_UNAVAILABLE);
}

void
svc_peer_drop_calls(svc_peer_t *self)
{
    peer_call_t *call;
    while ((call = self->first_call) != NULL) {
        remove_call(self->calls, call);
        free(call);
    }
}

/* --- life --------------------------------------------------------------------------- */

svc_peer_calls_t *
svc_peer_calls_new(svc_ctx_t *ctx)
{
    svc_peer_calls_t *self = svc_alloc(sizeof(*self));
    self->ctx = ctx;
    self->arena = proto_arena_new();
    svc_buf_init(&self->out, PROTO_MESSAGE_MAX_BYTES);
    return self;
}

void
svc_peer_calls_destroy(svc_peer_calls_t **self_p)
{
    svc_peer_calls_t *self = *self_p;
    if (self == NULL)
        return;
    SVC_ASSERT(self->table.n == 0); /* each peer has dropped its own */
    svc_loop_cancel(self->ctx->loop, self->timer);
    svc_table_fini(&self->table);
    svc_heap_fini(&self->deadlines);
    proto_arena_destroy(&self->arena);
    svc_buf_fini(&self->out);
    free(self->rep);
    free(self);
    *self_p = NULL;
}

/* --- replies ------------------------------------------------------------------------ */

static void
on_error_reply(svc_peer_calls_t *self, peer_call_t *call, svc_str body)
{
    error_rep_t error;
    svc_rc rc = proto_decode(&error_rep_schema, body, self->arena, &error);
    if (rc == RC_OK) {
        rc = svc_rc_from_wire(error.code);
        if (rc == RC_OK || rc == RC_LATER) /* a peer that calls success an error */
            rc = RC_INTERNAL;
    } else {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        rc = RC_INTERNAL;
        error = (error_rep_t){.code = svc_str_c(svc_rc_info(rc)->wire)};
    }
    /* By one that has thawed before it counted as down, or has no database: nobody else was asked yet. */
    if (rc == RC_MOVED) {
        if (call->is_kept && self->again != NULL && self->again(self->arg, call))
            return;
        fail_call(self, call, RC_UNAVAILABLE);
        return;
    }
    end_call(self, call, rc, &error);
}

static void
make_room(svc_peer_calls_t *self, size_t size)
{
    if (self->rep_cap >= size)
        return;
    free(self->rep);
    self->rep = svc_alloc(size);
    self->rep_cap = size;
}

/* A decoded reply of a call that may go on. */
static void
take_reply(svc_peer_calls_t *self, peer_call_t *call, proto_kind kind)
{
    static const error_rep_t no_error;
    svc_reply_fn *on_reply = call->on_reply;
    void *arg = call->arg;
    self->replier = call->peer->instance;
    call->is_kept = false;
    if (kind == PROTO_FINAL) {
        count_end(self, call, RC_OK);
        remove_call(self, call);
        free(call);
    } else {
        count_reply(self, call);
        if (call->hold_ms > 0)
            set_deadline(self, call, call->hold_ms);
        else
            svc_heap_remove(&self->deadlines, &call->deadline);
    }
    on_reply(arg, kind, RC_OK, self->rep, &no_error);
}

void
svc_peer_on_reply(svc_peer_t *peer, const proto_envelope_t *envelope, svc_str body)
{
    svc_peer_calls_t *self = peer->calls;
    peer_call_t *call = (peer_call_t *)svc_table_get(&self->table, envelope->id);
    if (call == NULL || call->peer != peer)
        return;
    if (envelope->kind == PROTO_ERROR) {
        on_error_reply(self, call, body);
        return;
    }
    if (envelope->kind != PROTO_PARTIAL && envelope->kind != PROTO_FINAL)
        return;
    make_room(self, call->rep_schema->size);
    if (proto_decode(call->rep_schema, body, self->arena, self->rep) != RC_OK) {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        fail_call(self, call, RC_INTERNAL);
        return;
    }
    take_reply(self, call, (proto_kind)envelope->kind);
}
