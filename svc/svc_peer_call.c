/* svc_peer_call.c - the calling side of the bus: the calls of one peer.
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

typedef struct {
    svc_table_node_t by_id;           /* first: cast from table nodes; key is the id */
    svc_heap_node_t deadline;         /* key: monotonic ms */
    const proto_schema_t *rep_schema; /* borrowed */
    uint64_t hold_ms;                 /* between parts; 0: no bound */
    svc_reply_fn *on_reply;           /* receives the replies */
    void *arg;                        /* for on_reply */
} peer_call_t;

/* --- sending ------------------------------------------------------------------------ */

/* Sends what the peer's buffer holds. */
static bool
send_out(svc_peer_t *self)
{
    svc_loop_touched(self->ctx->loop, self->socket);
    if (self->out.n <= BODY_COPY_MAX_BYTES)
        return svc_msg_send_bytes(self->socket, svc_buf_str(&self->out), ZMQ_DONTWAIT);
    zmq_msg_t message;
    svc_msg_take(&message, &self->out);
    const bool sent = svc_msg_send(self->socket, &message, ZMQ_DONTWAIT);
    zmq_msg_close(&message);
    return sent;
}

svc_rc
svc_peer_send(svc_peer_t *self, const proto_envelope_t *envelope,
              const proto_schema_t *schema, const void *msg)
{
    if (self->socket == NULL)
        return RC_UNAVAILABLE;
    uint8_t fresh[PROTO_TRACE_BYTES];
    proto_envelope_t head = *envelope;
    if (head.trace.n != PROTO_TRACE_BYTES) {
        svc_ids_next(&self->traces, fresh);
        head.trace = (svc_str){(const char *)fresh, sizeof(fresh)};
    }
    svc_buf_clear(&self->out);
    svc_rc rc = proto_envelope_encode(&head, &self->out);
    if (rc == RC_OK)
        rc = schema == NULL ? svc_buf_add_str(&self->out, *(const svc_str *)msg)
                            : proto_encode(schema, msg, &self->out);
    if (rc == RC_OK && !send_out(self))
        rc = RC_BUSY;
    return rc;
}

/* --- deadlines ---------------------------------------------------------------------- */

static void
remove_call(svc_peer_t *self, peer_call_t *call)
{
    svc_table_remove(&self->calls, call->by_id.key);
    svc_heap_remove(&self->deadlines, &call->deadline);
}

/* Ends a call with an error of our own. */
static void
fail_call(svc_peer_t *self, peer_call_t *call, svc_rc rc)
{
    const error_rep_t error = {.code = svc_str_c(svc_rc_info(rc)->wire)};
    svc_reply_fn *on_reply = call->on_reply;
    void *arg = call->arg;
    remove_call(self, call);
    free(call);
    svc_metrics_add(self->ctx->metrics, SVC_M_CALLS_FAILED, 1);
    on_reply(arg, PROTO_ERROR, rc, NULL, &error);
}

static void set_timer(svc_peer_t *self);

static void
on_deadline(void *arg, short events)
{
    (void)events;
    svc_peer_t *self = arg;
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    svc_heap_node_t *first;
    self->call_timer = 0;
    while ((first = svc_heap_first(&self->deadlines)) != NULL && first->key <= now)
        fail_call(self, (peer_call_t *)((char *)first - offsetof(peer_call_t, deadline)),
                  RC_TIMEOUT);
    set_timer(self);
}

/* Set again only for an earlier deadline: one that fires too early finds nothing due. */
static void
set_timer(svc_peer_t *self)
{
    const svc_heap_node_t *first = svc_heap_first(&self->deadlines);
    if (first == NULL || (self->call_timer != 0 && self->call_timer_ms <= first->key))
        return;
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    svc_loop_cancel(self->ctx->loop, self->call_timer);
    self->call_timer_ms = first->key;
    self->call_timer = svc_loop_after(
        self->ctx->loop, first->key > now ? first->key - now : 0, on_deadline, self);
}

static void
set_deadline(svc_peer_t *self, peer_call_t *call, uint64_t ms)
{
    svc_heap_put(&self->deadlines, &call->deadline,
                 svc_loop_now_ms(self->ctx->loop) + ms);
    set_timer(self);
}

/* --- calls -------------------------------------------------------------------------- */

svc_rc
svc_peer_call(svc_peer_t *self, const svc_peer_request_t *request, uint64_t *id_out)
{
    if (self->state != PEER_UP)
        return RC_UNAVAILABLE;
    if (self->calls.n >= SVC_PEER_CALLS_MAX)
        return RC_BUSY;
    const proto_envelope_t envelope = {
        .version = PROTO_VERSION,
        .kind = PROTO_REQUEST,
        .id = ++self->ids,
        .op = svc_str_c(request->op),
        .trace = request->trace,
        .expires_ms = svc_unix_ms() + request->timeout_ms,
    };
    const svc_rc rc = svc_peer_send(self, &envelope, request->req_schema, request->req);
    if (rc != RC_OK)
        return rc;
    peer_call_t *call = svc_alloc(sizeof(*call));
    call->rep_schema = request->rep_schema;
    call->hold_ms = request->hold_ms;
    call->on_reply = request->on_reply;
    call->arg = request->arg;
    svc_table_add(&self->calls, &call->by_id, envelope.id);
    set_deadline(self, call, request->timeout_ms);
    if (id_out != NULL)
        *id_out = envelope.id;
    return RC_OK;
}

svc_rc
svc_peer_post(svc_peer_t *self, const char *op, const proto_schema_t *schema,
              const void *req)
{
    if (self->state != PEER_UP)
        return RC_UNAVAILABLE;
    const proto_envelope_t envelope = {
        .version = PROTO_VERSION,
        .kind = PROTO_REQUEST,
        .op = svc_str_c(op),
        .expires_ms = svc_unix_ms() + POST_LIFE_MS,
    };
    return svc_peer_send(self, &envelope, schema, req);
}

void
svc_peer_forget(svc_peer_t *self, uint64_t id)
{
    peer_call_t *call = (peer_call_t *)svc_table_get(&self->calls, id);
    if (call == NULL)
        return;
    remove_call(self, call);
    free(call);
}

void
svc_peer_fail_calls(svc_peer_t *self)
{
    size_t from = 0;
    svc_table_node_t *node;
    while ((node = svc_table_any(&self->calls, &from)) != NULL)
        fail_call(self, (peer_call_t *)node, RC_UNAVAILABLE);
}

void
svc_peer_drop_calls(svc_peer_t *self)
{
    size_t from = 0;
    svc_table_node_t *node;
    while ((node = svc_table_any(&self->calls, &from)) != NULL) {
        peer_call_t *call = (peer_call_t *)node;
        remove_call(self, call);
        free(call);
    }
    svc_loop_cancel(self->ctx->loop, self->call_timer);
    svc_table_fini(&self->calls);
    svc_heap_fini(&self->deadlines);
}

/* --- replies ------------------------------------------------------------------------ */

static void
on_error_reply(svc_peer_t *self, peer_call_t *call, svc_str body)
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
    svc_reply_fn *on_reply = call->on_reply;
    void *arg = call->arg;
    remove_call(self, call);
    free(call);
    on_reply(arg, PROTO_ERROR, rc, NULL, &error);
}

static void
make_room(svc_peer_t *self, size_t size)
{
    if (self->rep_cap >= size)
        return;
    free(self->rep);
    self->rep = svc_alloc(size);
    self->rep_cap = size;
}

void
svc_peer_on_reply(svc_peer_t *self, const proto_envelope_t *envelope, svc_str body)
{
    static const error_rep_t no_error;
    peer_call_t *call = (peer_call_t *)svc_table_get(&self->calls, envelope->id);
    if (call == NULL)
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
    svc_reply_fn *on_reply = call->on_reply;
    void *arg = call->arg;
    if (envelope->kind == PROTO_FINAL) {
        remove_call(self, call);
        free(call);
    } else if (call->hold_ms > 0) {
        set_deadline(self, call, call->hold_ms);
    } else {
        svc_heap_remove(&self->deadlines, &call->deadline);
    }
    on_reply(arg, (proto_kind)envelope->kind, RC_OK, self->rep, &no_error);
}
