/* svc_server_call.c - the calls of a server: kept, answered, cancelled.
 *
 * A call is found by its handle (hash table) and by its deadline (heap); one timer of
 * the loop stands at or before the earliest deadline. It is set only when an earlier
 * one comes, so that thousands of calls whose deadlines move with every part cost no
 * timer work: a timer that fires too early finds nothing due and is set again. Thread:
 * the loop's. */
#include "svc/svc_server_call.h"

#include "proto/utf8.h"
#include "svc/svc_msg.h"
#include "svc/svc_time.h"

#include <errno.h>
#include <stdlib.h>

#define REPLY_COPY_MAX_BYTES \
    (64u << 10) /* smaller bodies are copied, and the buffer is used again */

/* --- life --------------------------------------------------------------------------- */

svc_call_t *
svc_call_new(svc_server_t *server)
{
    svc_call_t *call = server->free_calls;
    if (call != NULL) {
        server->free_calls = (svc_call_t *)call->by_handle.next;
        server->n_free_calls--;
        memset(call, 0, sizeof(*call));
    } else {
        call = svc_alloc(sizeof(*call));
    }
    call->server = server;
    svc_metrics_count(server->ctx->metrics, SVC_F_KEPT_CALLS, 0, 0, 1);
    svc_table_add(&server->calls, &call->by_handle, ++server->handles);
    return call;
}

/* Makes it impossible to find. */
static void
detach(svc_call_t *call)
{
    if (call->done)
        return;
    svc_table_remove(&call->server->calls, call->by_handle.key);
    svc_heap_remove(&call->server->deadlines, &call->deadline);
    svc_metrics_count(call->server->ctx->metrics, SVC_F_KEPT_CALLS, 0, 0, -1);
    call->done = true;
}

void
svc_call_free(svc_call_t *call)
{
    svc_server_t *server = call->server;
    detach(call);
    if (call->in_handler)
        return;
    free(call->text);
    call->text = NULL;
    if (server->n_free_calls == SVC_FREE_CALLS_MAX) {
        free(call);
        return;
    }
    call->by_handle.next = (svc_table_node_t *)server->free_calls;
    server->free_calls = call;
    server->n_free_calls++;
}

static void
log_call(const svc_call_t *call, const char *status)
{
    const svc_ctx_t *ctx = call->server->ctx;
    const bool is_routine = call->op != NULL &&
                            call->server->is_routine[call->op - call->server->ops];
    if (!svc_log_writes(ctx->log, is_routine ? SVC_LOG_DEBUG : SVC_LOG_INFO))
        return; /* before the clock is asked for nobody */
    const svc_log_request_t line = {
        .trace = svc_call_trace(call),
        .op = call->op_name,
        .status = status,
        .us = svc_mono_us() - call->began_us,
        .peer = call->peer,
        .is_routine = is_routine,
    };
    svc_log_request(ctx->log, &line);
}

/* Its (first) reply goes out. */
static void
count_reply(const svc_call_t *call)
{
    if (!call->is_parted)
        svc_metrics_observe(call->server->ctx->metrics, SVC_F_OPERATION_US, call->metric,
                            svc_mono_us() - call->began_us);
}

void
svc_call_count(const svc_call_t *call, svc_rc rc)
{
    count_reply(call);
    svc_metrics_count(call->server->ctx->metrics, SVC_F_OPERATIONS, call->metric,
                      svc_metrics_code(rc), 1);
}

/* The call ends without an answer of its handler. */
static void
cancel_call(svc_call_t *call, svc_rc rc, const char *status)
{
    svc_metrics_count(call->server->ctx->metrics, SVC_F_OPERATIONS, call->metric,
                      svc_metrics_code(rc), 1);
    svc_metrics_add(call->server->ctx->metrics, SVC_M_CALLS_CANCELLED, 1);
    log_call(call, status);
    detach(call); /* the cancel function must not find it */
    if (call->on_cancel != NULL)
        call->on_cancel(call->on_cancel_arg, call->by_handle.key);
    svc_call_free(call);
}

void
svc_server_drop_calls(svc_server_t *self)
{
    size_t from = 0;
    svc_table_node_t *node;
    while ((node = svc_table_any(&self->calls, &from)) != NULL)
        cancel_call((svc_call_t *)node, RC_UNAVAILABLE, "shutdown");
    while (self->free_calls != NULL) {
        svc_call_t *call = self->free_calls;
        self->free_calls = (svc_call_t *)call->by_handle.next;
        free(call);
    }
    svc_loop_cancel(self->ctx->loop, self->timer);
    svc_table_fini(&self->calls);
    svc_heap_fini(&self->deadlines);
}

/* --- deadlines ---------------------------------------------------------------------- */

static void set_timer(svc_server_t *self);

static void
on_deadline(void *arg, short events)
{
    (void)events;
    svc_server_t *self = arg;
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    svc_heap_node_t *first;
    self->timer = 0;
    while ((first = svc_heap_first(&self->deadlines)) != NULL && first->key <= now) {
        svc_call_t *call = (svc_call_t *)((char *)first - offsetof(svc_call_t, deadline));
        if (!call->is_parted) {
            const error_rep_t error = {
                .code = svc_str_c(svc_rc_info(RC_TIMEOUT)->wire),
                .text = SVC_LIT("The operation took too long."),
            };
            (void)svc_call_send(call, PROTO_ERROR, &error_rep_schema, &error);
        }
        cancel_call(call, RC_TIMEOUT, call->is_parted ? "hold over" : "timeout");
    }
    set_timer(self);
}

static void
set_timer(svc_server_t *self)
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

void
svc_call_keep_until(svc_call_t *call, uint64_t deadline_ms)
{
    svc_heap_put(&call->server->deadlines, &call->deadline, deadline_ms);
    set_timer(call->server);
}

/* --- replies ------------------------------------------------------------------------ */

/* Sends [route, message]. Once the route is accepted ZeroMQ takes the rest. */
static svc_rc
send_message(svc_call_t *call, zmq_msg_t *message)
{
    svc_server_t *server = call->server;
    const svc_str route = {(const char *)call->route.bytes, call->route.n};
    svc_rc rc;
    svc_loop_touched(server->ctx->loop, server->socket);
    if (svc_msg_send_bytes(server->socket, route, ZMQ_SNDMORE | ZMQ_DONTWAIT))
        return svc_msg_send(server->socket, message, ZMQ_DONTWAIT) ? RC_OK
                                                                   : RC_UNAVAILABLE;
    rc = errno == EAGAIN ? RC_BUSY : RC_UNAVAILABLE;
    svc_metrics_add(server->ctx->metrics, SVC_M_REPLIES_DROPPED, 1);
    if (rc == RC_UNAVAILABLE)
        svc_clients_remove(server->clients, &call->route);
    return rc;
}

/* Sends what the server's buffer holds. */
static svc_rc
send_out(svc_call_t *call)
{
    svc_buf_t *out = &call->server->out;
    zmq_msg_t message;
    if (out->n > REPLY_COPY_MAX_BYTES) {
        svc_msg_take(&message, out);
    } else {
        if (zmq_msg_init_size(&message, out->n) != 0)
            return RC_TOO_BIG;
        memcpy(zmq_msg_data(&message), out->p, out->n);
    }
    const svc_rc rc = send_message(call, &message);
    zmq_msg_close(&message);
    return rc;
}

/* Begins a reply in the server's buffer: its envelope. */
static svc_rc
begin_reply(svc_call_t *call, proto_kind kind)
{
    const proto_envelope_t head = {
        .version = PROTO_VERSION, .kind = kind, .id = call->id};
    svc_buf_clear(&call->server->out);
    return proto_envelope_encode(&head, &call->server->out);
}

static svc_rc
send_encoded(svc_call_t *call, proto_kind kind, svc_str body)
{
    svc_rc rc = begin_reply(call, kind);
    if (rc == RC_OK)
        rc = svc_buf_add_str(&call->server->out, body);
    return rc == RC_OK ? send_out(call) : rc;
}

svc_rc
svc_call_send(svc_call_t *call, proto_kind kind, const proto_schema_t *schema,
              const void *msg)
{
    if (call->id == 0)
        return RC_OK;
    svc_rc rc = begin_reply(call, kind);
    if (rc == RC_OK)
        rc = proto_encode(schema, msg, &call->server->out);
    return rc == RC_OK ? send_out(call) : rc;
}

static void
send_error(svc_call_t *call, svc_rc rc)
{
    const svc_rc_info_t *info = svc_rc_info(rc);
    const error_rep_t error = {
        .code = svc_str_c(info->wire),
        .text = svc_str_c(call->text),
        .retry_after_s = call->retry_after_s,
    };
    svc_metrics_add(call->server->ctx->metrics, SVC_M_REQUEST_ERRORS, 1);
    if (svc_call_send(call, PROTO_ERROR, &error_rep_schema, &error) != RC_INVALID)
        return;
    const error_rep_t bare = {
        .code = error.code}; /* what was said cannot be sent: the code can */
    (void)svc_call_send(call, PROTO_ERROR, &error_rep_schema, &bare);
}

void
svc_call_finish(svc_call_t *call, svc_rc rc, const void *rep)
{
    SVC_ASSERT(rc != RC_LATER);
    if (call->done)
        return;
    if (rc == RC_OK) {
        static const empty_t nothing;
        const proto_schema_t *schema = rep != NULL && call->op != NULL ? call->op->rep
                                                                       : &empty_schema;
        svc_rc sent = svc_call_send(call, PROTO_FINAL, schema,
                                    rep != NULL ? rep : &nothing);
        if (sent == RC_TOO_BIG || sent == RC_INVALID) {
            svc_log_error(call->server->ctx->log, "the reply of %s cannot be encoded: %s",
                          call->op_name, svc_rc_info(sent)->wire);
            rc = RC_INTERNAL;
        }
    }
    if (rc != RC_OK)
        send_error(call, rc);
    svc_call_count(call, rc);
    log_call(call, svc_rc_info(rc)->wire);
    svc_call_free(call);
}

svc_rc
svc_call_try_finish(svc_call_t *call, const void *rep)
{
    if (call->done)
        return RC_UNAVAILABLE;
    const svc_rc rc = svc_call_send(call, PROTO_FINAL, call->op->rep, rep);
    switch (rc) {
    case RC_OK:
        svc_call_count(call, RC_OK);
        log_call(call, svc_rc_info(RC_OK)->wire);
        svc_call_free(call);
        break;
    case RC_BUSY: break;
    case RC_UNAVAILABLE: cancel_call(call, RC_UNAVAILABLE, "gone"); break;
    default: svc_call_finish(call, RC_OK, rep); break; /* says why, answers RC_INTERNAL */
    }
    return rc;
}

void
svc_call_finish_encoded(svc_call_t *call, svc_str body)
{
    if (call->done)
        return;
    if (body.n > PROTO_MESSAGE_MAX_BYTES) {
        svc_call_finish(call, RC_TOO_BIG, NULL);
        return;
    }
    if (call->id != 0)
        (void)send_encoded(call, PROTO_FINAL, body);
    svc_call_count(call, RC_OK);
    log_call(call, svc_rc_info(RC_OK)->wire);
    svc_call_free(call);
}

svc_rc
svc_call_partial(svc_call_t *call, const void *rep, uint64_t hold_ms)
{
    if (call->done)
        return RC_UNAVAILABLE;
    svc_rc rc = svc_call_send(call, PROTO_PARTIAL, call->op->rep, rep);
    if (rc == RC_UNAVAILABLE) {
        cancel_call(call, RC_UNAVAILABLE, "gone");
        return rc;
    }
    if (rc == RC_OK) {
        count_reply(call);
        call->is_parted = true;
    }
    if (!call->is_parted)
        return rc;
    if (hold_ms > 0)
        svc_call_keep_until(call, svc_loop_now_ms(call->server->ctx->loop) + hold_ms);
    else
        svc_heap_remove(&call->server->deadlines, &call->deadline);
    return rc;
}

/* --- what handlers ask -------------------------------------------------------------- */

uint64_t
svc_call_id(const svc_call_t *call)
{
    return call->by_handle.key;
}

svc_call_t *
svc_server_call(svc_server_t *self, uint64_t call_id)
{
    return (svc_call_t *)svc_table_get(&self->calls, call_id);
}

svc_str
svc_call_body(const svc_call_t *call)
{
    return call->body;
}

svc_str
svc_call_trace(const svc_call_t *call)
{
    return (svc_str){(const char *)call->trace, sizeof(call->trace)};
}

uint64_t
svc_call_expires_ms(const svc_call_t *call)
{
    return call->expires_ms;
}

svc_until_t
svc_call_until(const svc_call_t *call)
{
    return (svc_until_t){call->moved_ms, call->expires_ms};
}

bool
svc_call_is_same_caller(const svc_call_t *a, const svc_call_t *b)
{
    return a->route.n == b->route.n &&
           memcmp(a->route.bytes, b->route.bytes, a->route.n) == 0;
}

void
svc_call_explain(svc_call_t *call, const char *text, uint64_t retry_after_s)
{
    svc_str view = svc_str_c(text);
    if (view.n > PROTO_ERROR_TEXT_MAX_BYTES)
        view.n = PROTO_ERROR_TEXT_MAX_BYTES;
    view.n = svc_utf8_valid(view.p, view.n);
    char *copy = view.n == 0 ? NULL : svc_str_dup(view);
    free(call->text);
    call->text = copy;
    call->retry_after_s = retry_after_s;
}

void
svc_call_on_cancel(svc_call_t *call, svc_call_cancel_fn *fn, void *arg)
{
    call->on_cancel = fn;
    call->on_cancel_arg = arg;
}

void
svc_call_drop(svc_call_t *call)
{
    if (call->done)
        return;
    svc_call_count(call, RC_OK);
    log_call(call, "dropped");
    svc_call_free(call);
}
