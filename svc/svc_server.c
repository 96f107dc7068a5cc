/* svc_server.c - the serving side of the bus: a ROUTER socket and one table of
 * operations.
 *
 * One request: [route, envelope, body]. Its way: envelope -> expired? -> who is it
 * (hello) -> operation -> who may -> body -> handler -> reply. Whatever cannot be read
 * is counted, and answered RC_INVALID if at least the id could be. Calls live in
 * svc_server_call.c, who said hello in svc_server_clients.c. Thread: the loop's. */
#include "svc/svc_server.h"

#include "svc/svc_curve.h"
#include "svc/svc_handshakes.h"
#include "svc/svc_msg.h"
#include "svc/svc_server_call.h"
#include "svc/svc_time.h"
#include "svc/svc_trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Messages a turn, so that timers and other sockets get theirs. */
#define SERVER_DRAIN_MAX 256
/* Replies that wait for one slow caller; then they are dropped. */
#define SERVER_HWM       20000
/* So that the last replies before an orderly end get out. */
#define SERVER_LINGER_MS 200
/* No request of ours waits half as long; so late it is by its clock only, or by ours. */
#define CLOCKS_DIFFER_MS 60000

/* --- what every service answers ----------------------------------------------------- */

typedef svc_rc builtin_fn(svc_server_t *self, svc_call_t *call, svc_str body);

static svc_rc
on_hello(svc_server_t *self, svc_call_t *call, svc_str body)
{
    hello_t hello;
    svc_rc rc = proto_decode(&hello_schema, body, self->arena, &hello);
    if (rc != RC_OK)
        return rc;
    if (call->key != NULL && !svc_str_eq(hello.service, svc_str_c(call->key)))
        return RC_FORBIDDEN; /* it says another name than its key */
    svc_clients_put(self->clients, &call->route, hello.service);
    call->peer = svc_clients_get(self->clients, &call->route)->name;
    const hello_t rep = {
        .service = svc_str_c(self->ctx->service),
        .instance = self->ctx->instance,
        .version = svc_str_c(self->ctx->version),
    };
    return svc_call_send(call, PROTO_FINAL, &hello_schema, &rep);
}

static svc_rc
on_ping(svc_server_t *self, svc_call_t *call, svc_str body)
{
    (void)body;
    const ping_rep_t rep = {.instance = self->ctx->instance, .draining = self->draining};
    return svc_call_send(call, PROTO_FINAL, &ping_rep_schema, &rep);
}

static svc_rc
on_stats(svc_server_t *self, svc_call_t *call, svc_str body)
{
    (void)body;
    counter_t counters[SVC_M_COUNT];
    size_t n = 0;
    for (int i = 0; i < SVC_M_COUNT; i++) {
        const uint64_t value = svc_metrics_get(self->ctx->metrics, (svc_metric)i);
        if (value != 0)
            counters[n++] = (counter_t){svc_str_c(svc_metrics_name((svc_metric)i)),
                                        value};
    }
    const stats_rep_t rep = {.counters = {counters, n}};
    return svc_call_send(call, PROTO_FINAL, &stats_rep_schema, &rep);
}

typedef struct {
    const char *op;   /* OP_SVC_… */
    builtin_fn *fn;   /* sends its reply itself */
    bool needs_hello; /* refused before hello */
    bool is_logged;   /* pings come each second from every caller: no line */
} builtin_t;

// clang-format off
static const builtin_t builtins[] = {
    {OP_SVC_HELLO, on_hello, false, true},
    {OP_SVC_PING,  on_ping,  true,  false},
    {OP_SVC_STATS, on_stats, true,  true},
};
// clang-format on

/* Answers that the caller may not, and makes it known. */
static void
forbid(svc_server_t *self, svc_call_t *call)
{
    svc_refusals_note(self->ctx->refusals, SVC_REFUSED_CALL,
                      "refused %s to %s: it may not ask that here", call->op_name,
                      call->key != NULL    ? call->key
                      : call->peer != NULL ? call->peer
                                           : "a caller without hello");
    svc_call_finish(call, RC_FORBIDDEN, NULL);
}

static void
run_builtin(svc_server_t *self, const builtin_t *builtin, svc_call_t *call, svc_str body)
{
    call->op_name = builtin->op;
    call->metric = self->metrics[builtin - builtins];
    if (builtin->needs_hello && call->peer == NULL) {
        forbid(self, call);
        return;
    }
    svc_rc rc = builtin->fn(self, call, body);
    if (rc == RC_FORBIDDEN) {
        forbid(self, call);
        return;
    }
    if (rc == RC_INVALID || rc == RC_TOO_BIG) {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        svc_call_finish(call, rc, NULL);
        return;
    }
    svc_call_count(call, rc);
    if (builtin->is_logged) {
        const svc_log_request_t line = {.trace = svc_call_trace(call),
                                        .op = builtin->op,
                                        .status = svc_rc_info(rc)->wire,
                                        .us = svc_mono_us() - call->began_us,
                                        .peer = call->peer,
                                        .is_routine = true};
        svc_log_request(self->ctx->log, &line);
    }
    svc_call_free(call);
}

/* --- requests ----------------------------------------------------------------------- */

static const svc_op_t *
find_op(const svc_server_t *self, svc_str name)
{
    for (const svc_op_t *op = self->ops; op->op != NULL; op++)
        if (svc_str_eq(name, svc_str_c(op->op)))
            return op;
    return NULL;
}

static uint64_t
deadline_of(const svc_call_t *call)
{
    const uint64_t unix_now = svc_unix_ms();
    uint64_t ms = call->expires_ms > unix_now ? call->expires_ms - unix_now : 0;
    if (call->op->budget_ms != 0 && call->op->budget_ms < ms)
        ms = call->op->budget_ms;
    return svc_loop_now_ms(call->server->ctx->loop) + ms;
}

static void
run_handler(svc_server_t *self, svc_call_t *call, svc_str body)
{
    const svc_op_t *op = call->op;
    svc_rc rc = proto_decode(op->req, body, self->arena, self->req);
    if (rc != RC_OK) {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        svc_call_finish(call, rc, NULL);
        return;
    }
    memset(self->rep, 0, op->rep->size);
    call->body = body;
    call->in_handler = true;
    rc = op->handler(self->handler_self, call, self->req, self->rep);
    call->body = (svc_str){0};
    if (call->done) { /* answered or cancelled by the handler itself */
        call->in_handler = false;
        svc_call_free(call);
        return;
    }
    call->in_handler = false;
    if (rc != RC_LATER)
        svc_call_finish(call, rc, self->rep);
    else if (!call->is_parted)
        svc_call_keep_until(call, deadline_of(call));
}

/* With keys it is the key that counts, not what hello said on this route: whoever has one key may take the routing
 * id that another one had before. */
static bool
may_call(const svc_server_t *self, const svc_call_t *call)
{
    const svc_client_t *client = svc_clients_get(self->clients, &call->route);
    if (client == NULL)
        return false;
    if (call->key != NULL)
        client = svc_clients_called(svc_str_c(call->key));
    return (client->who & call->op->who) != 0;
}

static void
dispatch(svc_server_t *self, svc_call_t *call, const proto_envelope_t *envelope,
         svc_str body)
{
    for (size_t i = 0; i < SVC_COUNT(builtins); i++)
        if (svc_str_eq(envelope->op, svc_str_c(builtins[i].op))) {
            run_builtin(self, &builtins[i], call, body);
            return;
        }
    call->op = find_op(self, envelope->op);
    if (call->op == NULL) {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        svc_call_explain(call, "No such operation here.", 0);
        svc_call_finish(call, RC_INVALID, NULL);
        return;
    }
    call->op_name = call->op->op;
    call->metric = self->metrics[SVC_COUNT(builtins) + (size_t)(call->op - self->ops)];
    if (!may_call(self, call)) {
        forbid(self, call);
        return;
    }
    if (self->calls.n > SVC_SERVER_CALLS_MAX) {
        svc_call_finish(call, RC_BUSY, NULL);
        return;
    }
    run_handler(self, call, body);
}

static svc_call_t *
open_call(svc_server_t *self, const svc_route_t *route, const proto_envelope_t *envelope,
          const char *key)
{
    svc_call_t *call = svc_call_new(self);
    call->op_name =
        "?"; /* until it is known to be one of ours: a stranger's text is not logged */
    call->route = *route;
    call->id = envelope->id;
    call->expires_ms = envelope->expires_ms;
    call->moved_ms = envelope->moved_ms;
    call->began_us = svc_mono_us();
    if (envelope->trace.n == sizeof(call->trace))
        memcpy(call->trace, envelope->trace.p, sizeof(call->trace));
    const svc_client_t *client = svc_clients_get(self->clients, route);
    call->peer = client == NULL ? NULL : client->name;
    call->key = key;
    return call;
}

/* A request that had expired long before it came: nobody waits so long, and nothing is so late, but a clock may be wrong. Without
 * a word about it whoever calls us would only look dead. */
static void
doubt_clocks(svc_server_t *self, const svc_route_t *route, uint64_t late_ms)
{
    const svc_client_t *client = svc_clients_get(self->clients, route);

    if (late_ms < CLOCKS_DIFFER_MS || !svc_seldom(&self->doubts, 1, svc_mono_ms(), NULL))
        return;
    svc_log_warn(
        self->ctx->log,
        "a request of %s had expired %llu s before it came: the clocks differ, or "
        "this machine stood still",
        client == NULL || client->name == NULL ? "somebody" : client->name,
        (unsigned long long)(late_ms / 1000));
}

/* `key`: whose key the message came under, see svc_call. `is_whole`: no frames came after this one. */
static void
serve(svc_server_t *self, const svc_route_t *route, svc_str message, const char *key,
      bool is_whole)
{
    proto_envelope_t envelope;
    svc_str body;
    if (proto_envelope_decode(message, &envelope, &body) != RC_OK ||
        envelope.kind != PROTO_REQUEST) {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        return;
    }
    if (envelope.expires_ms <= svc_unix_ms()) {
        svc_metrics_add(self->ctx->metrics, SVC_M_EXPIRED, 1);
        doubt_clocks(self, route, svc_unix_ms() - envelope.expires_ms);
        return;
    }
    svc_metrics_add(self->ctx->metrics, SVC_M_REQUESTS, 1);
    svc_call_t *call = open_call(self, route, &envelope, key);
    if (!is_whole) {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        svc_call_finish(call, RC_INVALID, NULL);
        return;
    }
    /* It waited here while we stood still: another replica has been asked, and what has happened since may be undone by
     * doing it now. If its caller has not given us up yet, it asks again. */
    if (svc_until_is_over(svc_call_until(call), svc_unix_ms())) {
        svc_metrics_add(self->ctx->metrics, SVC_M_EXPIRED, 1);
        svc_call_finish(call, RC_MOVED, NULL);
        return;
    }
    dispatch(self, call, &envelope, body);
}

/* The service whose key a message came under; NULL: the bus is plain. */
static const char *
key_of(const svc_server_t *self, const zmq_msg_t *message)
{
    return self->ctx->curve == NULL
               ? NULL
               : svc_clients_called(svc_str_c(svc_curve_sender(message)))->name;
}

/* Reads one message; false when there is none. */
static bool
receive_one(svc_server_t *self)
{
    zmq_msg_t frames[2];
    size_t n = 0;
    bool more = true;
    while (n < SVC_COUNT(frames) && more) {
        zmq_msg_init(&frames[n]);
        if (!svc_msg_recv(self->socket, &frames[n], ZMQ_DONTWAIT)) {
            zmq_msg_close(&frames[n]);
            break;
        }
        more = zmq_msg_more(&frames[n]) != 0;
        n++;
    }
    if (n == 0)
        return false;
    svc_msg_skip_rest(self->socket, &frames[n - 1]);

    const svc_str id = svc_msg_str(&frames[0]);
    if (n == 2 && id.n > 0 && id.n <= SVC_ROUTE_MAX_BYTES) {
        svc_route_t route = {.n = (uint8_t)id.n};
        memcpy(route.bytes, id.p, id.n);
        serve(self, &route, svc_msg_str(&frames[1]), key_of(self, &frames[1]), !more);
    } else {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
    }
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&frames[i]);
    return true;
}

static void
on_readable(void *arg, short events)
{
    (void)events;
    svc_server_t *self = arg;
    for (int i = 0; i < SERVER_DRAIN_MAX; i++)
        if (!receive_one(self)) {
            svc_loop_read_dry(self->ctx->loop, self->socket);
            break;
        }
}

static void
on_stall(void *arg, short events)
{
    (void)events;
    svc_metrics_add(((svc_server_t *)arg)->ctx->metrics, SVC_M_LOOP_STALLS, 1);
}

/* --- life --------------------------------------------------------------------------- */

static bool
bind_socket(svc_server_t *self, const char *endpoint, char **error)
{
    const int yes = 1, linger = SERVER_LINGER_MS;
    self->socket = svc_msg_socket(self->ctx->zmq, ZMQ_ROUTER, SERVER_HWM);
    SVC_ASSERT(self->socket != NULL); /* at start: no descriptor has been given out yet */
    zmq_setsockopt(self->socket, ZMQ_ROUTER_MANDATORY, &yes, sizeof(yes));
    zmq_setsockopt(self->socket, ZMQ_LINGER, &linger, sizeof(linger));
    svc_curve_serve(self->ctx->curve, self->socket, SVC_CURVE_REQUESTS);
    self->handshakes = svc_handshakes_new(self->ctx, self->socket, self->ctx->service);
    if (svc_msg_bind(self->socket, endpoint)) {
        size_t n = sizeof(self->endpoint);
        return zmq_getsockopt(self->socket, ZMQ_LAST_ENDPOINT, self->endpoint, &n) == 0;
    }
    const char *why = zmq_strerror(errno);
    if (asprintf(error, "cannot listen on %s: %s", endpoint, why) < 0)
        *error = NULL;
    return false;
}

static void
make_rooms(svc_server_t *self)
{
    size_t req = 1, rep = 1, n = 0;
    for (const svc_op_t *op = self->ops; op->op != NULL; op++, n++) {
        req = op->req->size > req ? op->req->size : req;
        rep = op->rep->size > rep ? op->rep->size : rep;
    }
    self->is_routine = svc_alloc((n + 1) * sizeof(*self->is_routine));
    for (size_t i = 0; i < n; i++)
        self->is_routine[i] = svc_trace_is_routine(self->ops[i].op);
    self->req = svc_alloc(req);
    self->rep = svc_alloc(rep);
}

/* Writes down the names of all operations for metrics. */
static void
name_metrics(svc_server_t *self)
{
    size_t n = SVC_COUNT(builtins);
    for (const svc_op_t *op = self->ops; op->op != NULL; op++)
        n++;
    self->metrics = svc_alloc(n * sizeof(*self->metrics));
    for (size_t i = 0; i < n; i++)
        self->metrics[i] = svc_metrics_label(self->ctx->metrics, SVC_L_OPERATION,
                                             i < SVC_COUNT(builtins)
                                                 ? builtins[i].op
                                                 : self->ops[i - SVC_COUNT(builtins)].op,
                                             NULL);
}

svc_rc
svc_server_new(svc_ctx_t *ctx, const char *endpoint, const svc_op_t *ops,
               void *handler_self, svc_server_t **out, char **error)
{
    svc_server_t *self = svc_alloc(sizeof(*self));
    self->ctx = ctx;
    self->ops = ops;
    self->handler_self = handler_self;
    self->arena = proto_arena_new();
    self->clients = svc_clients_new();
    svc_buf_init(&self->out, PROTO_MESSAGE_MAX_BYTES);
    make_rooms(self);
    name_metrics(self);
    if (!bind_socket(self, endpoint, error)) {
        svc_server_destroy(&self);
        return RC_UNAVAILABLE;
    }
    svc_loop_add_socket(ctx->loop, self->socket, on_readable, self);
    svc_loop_on_stall(ctx->loop, on_stall, self);
    *out = self;
    return RC_OK;
}

void
svc_server_destroy(svc_server_t **self_p)
{
    svc_server_t *self = *self_p;
    if (self == NULL)
        return;
    svc_server_drop_calls(self);
    svc_loop_off_stall(self->ctx->loop, self);
    svc_loop_remove_socket(self->ctx->loop, self->socket);
    svc_handshakes_destroy(&self->handshakes);
    zmq_close(self->socket);
    svc_clients_destroy(&self->clients);
    svc_buf_fini(&self->out);
    proto_arena_destroy(&self->arena);
    free(self->is_routine);
    free(self->req);
    free(self->rep);
    free(self->metrics);
    free(self);
    *self_p = NULL;
}

const char *
svc_server_endpoint(const svc_server_t *self)
{
    return self->endpoint;
}

void
svc_server_set_draining(svc_server_t *self)
{
    self->draining = true;
}

size_t
svc_server_kept_calls(const svc_server_t *self)
{
    return self->calls.n;
}
