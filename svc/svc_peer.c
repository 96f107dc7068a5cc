/* svc_peer.c - the calling side of the bus: the connection to one replica of a service.
 *
 *     CLOSED --timer--> CONNECTING --handshake--> HELLO --answered--> UP
 *        ^                                          |                  |
 *        +---- disconnected, no or a wrong answer --+--- silence ------+
 *
 * The monitor tells of handshakes and broken connections; while CONNECTING ZeroMQ tries again by
 * itself. Every other trouble closes the socket, and a new one is made: requests that ZeroMQ still
 * held are gone with it, so that none is executed long after its caller gave up. IMMEDIATE
 * keeps requests out of connections that do not stand.
 * A refused attempt shows as the monitor's CLOSED: no process listens there any more, which is
 * the earliest sign that what lived inside it is lost. Calls are in svc_peer_call.c. */
#include "svc/svc_peer.h"

#include "svc/svc_curve.h"
#include "svc/svc_endpoints.h"
#include "svc/svc_msg.h"
#include "svc/svc_peer_call.h"
#include "svc/svc_secret.h"
#include "svc/svc_time.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PEER_HWM       10000 /* requests that wait in ZeroMQ; then RC_BUSY */
#define PEER_DRAIN_MAX 256   /* replies a turn */

const svc_peer_times_t svc_peer_usual_times = {
    .tick = 250,
    .ping = 500, /* ping, down and a tick together are less than 3 s */
    .steer = 1500,
    .down = 2200,
    .lost = 12000,
    .hello = 3000,
    .taken = 2000, /* the kernel alone would try after 1, 3, 7, 15 s */
    .handshake =
        3000, /* ZeroMQ's 30 s would hide a frozen peer behind the kernel's backlog */
    .reopen = 100,
    .wrong = 1000,
    .reconnect = 100,
    .reconnect_max = 500, /* whoever was told to come again in 1 s finds who is back */
};

static void open_socket(svc_peer_t *self);

const svc_peer_times_t *
svc_peer_times(const svc_peer_t *self)
{
    return self->ctx->peer_times != NULL ? self->ctx->peer_times : &svc_peer_usual_times;
}

/* --- events ------------------------------------------------------------------------- */

static void
tell(svc_peer_t *self, svc_peer_event event, uint64_t instance)
{
    static const svc_metric counters[] = {
        [SVC_PEER_UP] = SVC_M_PEER_UPS,
        [SVC_PEER_DOWN] = SVC_M_PEER_DOWNS,
        [SVC_PEER_LOST] = SVC_M_PEER_LOSSES,
    };
    svc_metrics_add(self->ctx->metrics, counters[event], 1);
    if (event != SVC_PEER_LOST)
        svc_metrics_count(self->ctx->metrics, SVC_F_PEERS_UP, self->metric, 0,
                          event == SVC_PEER_UP ? 1 : -1);
    if (self->on_event != NULL)
        self->on_event(self->arg, event, instance);
}

/* What lived inside the instance that was up is given up, once. */
static void
tell_lost(svc_peer_t *self, const char *why)
{
    if (self->instance == 0 || self->lost_told)
        return;
    self->lost_told = true;
    svc_log_warn(self->ctx->log, "%s at %s is lost: %s (instance %016" PRIx64 ")",
                 self->service, self->endpoint, why, self->instance);
    tell(self, SVC_PEER_LOST, self->instance);
}

/* --- sockets ------------------------------------------------------------------------ */

static void
close_socket(svc_peer_t *self)
{
    if (self->socket == NULL)
        return;
    svc_loop_remove_socket(self->ctx->loop, self->socket);
    svc_loop_remove_socket(self->ctx->loop, self->monitor);
    zmq_socket_monitor(self->socket, NULL,
                       0); /* before the close, else libzmq 4.3.4 may hang */
    zmq_close(self->monitor);
    zmq_close(self->socket);
    self->socket = NULL;
    self->monitor = NULL;
}

static void
on_open_timer(void *arg, short events)
{
    (void)events;
    svc_peer_t *self = arg;
    self->open_timer = 0;
    open_socket(self);
}

/* Leaves a connection for good; the next one is opened after `ms`. Callbacks run at
 * the end. */
static void
go_down(svc_peer_t *self, const char *why, uint64_t ms)
{
    const bool was_up = self->state == PEER_UP;
    close_socket(self);
    self->state = PEER_CLOSED;
    self->is_draining = false;
    if (self->open_timer == 0)
        self->open_timer = svc_loop_after(self->ctx->loop, ms, on_open_timer, self);
    if (!was_up)
        return;
    svc_log_warn(self->ctx->log, "%s at %s is down: %s", self->service, self->endpoint,
                 why);
    svc_peer_fail_calls(self);
    tell(self, SVC_PEER_DOWN, self->instance);
}

/* --- hello and ping ----------------------------------------------------------------- */

static void
send_hello(svc_peer_t *self)
{
    const hello_t hello = {
        .service = svc_str_c(self->ctx->service),
        .instance = self->ctx->instance,
        .version = svc_str_c(self->ctx->version),
    };
    const proto_envelope_t envelope = {
        .version = PROTO_VERSION,
        .kind = PROTO_REQUEST,
        .id = SVC_PEER_HELLO_ID,
        .op = SVC_LIT(OP_SVC_HELLO),
        .expires_ms = svc_unix_ms() + svc_peer_times(self)->hello,
    };
    /* The monitor may know of the connection before the socket does: the tick tries again. */
    self->hello_sent = svc_peer_send(self, &envelope, &hello_schema, &hello) == RC_OK;
}

void
svc_peer_ping(svc_peer_t *self)
{
    static const empty_t nothing;
    const proto_envelope_t envelope = {
        .version = PROTO_VERSION,
        .kind = PROTO_REQUEST,
        .id = SVC_PEER_PING_ID,
        .op = SVC_LIT(OP_SVC_PING),
        .expires_ms = svc_unix_ms() + svc_peer_times(self)->down,
    };
    /* No room for it: then it is asked by what fills the room. */
    (void)svc_peer_send(self, &envelope, &empty_schema, &nothing);
    if (!self->is_asked)
        self->asked_ms = svc_loop_now_ms(self->ctx->loop);
    self->is_asked = true;
}

static void
complain(svc_peer_t *self, const char *what, svc_str detail)
{
    if (!self->complained)
        svc_log_error(self->ctx->log, "%s at %s: %s%.*s", self->service, self->endpoint,
                      what, (int)detail.n, detail.n == 0 ? "" : detail.p);
    self->complained = true;
    go_down(self, what, svc_peer_times(self)->wrong);
}

static void
come_up(svc_peer_t *self, const hello_t *hello)
{
    if (self->instance != 0 && self->instance != hello->instance)
        tell_lost(self, "another instance answers there");
    self->instance = hello->instance;
    self->lost_told = false;
    self->complained = false;
    self->handshake_told = false;
    self->keys_failed = 0;
    self->state = PEER_UP;
    self->ticks = 0;
    self->is_asked = false;
    svc_log_info(self->ctx->log, "%s at %s is up (instance %016" PRIx64 ", version %.*s)",
                 self->service, self->endpoint, self->instance, (int)hello->version.n,
                 hello->version.n == 0 ? "" : hello->version.p);
    tell(self, SVC_PEER_UP, self->instance);
}

/* Its answers are signs of life of somebody else: what was there before would never be silent for
 * long enough. The complaint closes the socket, and comes last: `service` lies in its message. */
static void
refuse_service(svc_peer_t *self, svc_str service)
{
    tell_lost(self, "another service answers there");
    complain(self, "another service answers there: ", service);
}

static void
on_hello_reply(svc_peer_t *self, const proto_envelope_t *envelope, svc_str body)
{
    hello_t hello;
    if (self->state != PEER_HELLO)
        return;
    if (envelope->kind != PROTO_FINAL ||
        proto_decode(&hello_schema, body, self->calls->arena, &hello) != RC_OK ||
        hello.instance == 0)
        complain(self, "hello was not answered as it should be", (svc_str){0});
    else if (!svc_str_eq(hello.service, svc_str_c(self->service)))
        refuse_service(self, hello.service);
    else
        come_up(self, &hello);
}

static void
on_ping_reply(svc_peer_t *self, const proto_envelope_t *envelope, svc_str body)
{
    ping_rep_t rep;
    if (self->state != PEER_UP)
        return;
    if (envelope->kind != PROTO_FINAL ||
        proto_decode(&ping_rep_schema, body, self->calls->arena, &rep) != RC_OK ||
        rep.instance != self->instance) {
        go_down(self, "ping was not answered as it should be",
                svc_peer_times(self)->reopen);
        return;
    }
    self->is_draining = rep.draining;
}

/* --- what comes in ------------------------------------------------------------------ */

static void
on_message(svc_peer_t *self, svc_str message)
{
    proto_envelope_t envelope;
    svc_str body;
    self->last_life_ms = svc_loop_now_ms(self->ctx->loop);
    self->is_asked = false;
    if (proto_envelope_decode(message, &envelope, &body) != RC_OK) {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        return;
    }
    if (envelope.id == SVC_PEER_HELLO_ID)
        on_hello_reply(self, &envelope, body);
    else if (envelope.id == SVC_PEER_PING_ID)
        on_ping_reply(self, &envelope, body);
    else if (self->state == PEER_UP)
        svc_peer_on_reply(self, &envelope, body);
}

/* Reads one message; false when there is none. */
static bool
receive_one(svc_peer_t *self)
{
    zmq_msg_t message;
    void *socket = self->socket; /* a reply may close it: all is read before */
    zmq_msg_init(&message);
    const bool got = svc_msg_recv(socket, &message, ZMQ_DONTWAIT);
    if (got && zmq_msg_more(&message) == 0) {
        on_message(self, svc_msg_str(&message));
    } else if (got) {
        svc_msg_skip_rest(socket, &message);
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
    }
    zmq_msg_close(&message);
    return got;
}

static void
on_readable(void *arg, short events)
{
    (void)events;
    svc_peer_t *self = arg;
    const void *socket = self->socket;
    for (int i = 0; i < PEER_DRAIN_MAX && self->socket == socket; i++)
        if (!receive_one(self)) {
            svc_loop_read_dry(self->ctx->loop, socket);
            break;
        }
}

/* Nothing else would tell the operator why both run and yet do not find each other. A connection that just ended may
 * be anything, so of that only who has keys says something. */
static void
tell_handshake(svc_peer_t *self, unsigned event)
{
    const char *why = event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
                          ? "our key is refused there"
                      : event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
                          ? "one side has keys (bus.keys), the other has none"
                          : "it ended the handshake: is it that service, with a key that "
                            "stands in its .pub here?";
    if (self->handshake_told || (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL &&
                                 svc_curve_count(self->ctx->curve, self->service) == 0))
        return;
    self->handshake_told = true;
    svc_log_error(self->ctx->log, "%s at %s: %s", self->service, self->endpoint, why);
}

/* A handshake that just ends may mean that it has another key than we took it for: while its key is being replaced
 * there are two to try, the other one at once, and the log hears of it when both were tried in vain. libzmq 4.3.4 does not
 * connect again by itself when the other side speaks another mechanism, or refuses our key. */
static void
on_handshake_failed(svc_peer_t *self, unsigned event)
{
    const size_t n = svc_curve_count(self->ctx->curve, self->service);
    bool is_first = false;
    if (event != ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL) {
        go_down(self, "handshake failed", svc_peer_times(self)->wrong);
    } else if (n > 1) {
        is_first = ++self->keys_failed % n != 0;
        self->key++;
        go_down(self, "another key", is_first ? 0 : svc_peer_times(self)->reopen);
    }
    if (!is_first)
        tell_handshake(self, event);
}

static void
on_connection_event(svc_peer_t *self, unsigned event)
{
    switch (event) {
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        self->untaken_ms = svc_loop_now_ms(self->ctx->loop);
        if (self->state == PEER_CONNECTING)
            on_handshake_failed(self, event);
        break;
    case ZMQ_EVENT_CONNECTED: self->untaken_ms = 0; break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        if (self->state != PEER_CONNECTING)
            break;
        self->state = PEER_HELLO;
        self->hello_ms = svc_loop_now_ms(self->ctx->loop);
        send_hello(self);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        if (self->state == PEER_UP)
            go_down(self, "disconnected", 0);
        else if (self->state == PEER_HELLO)
            go_down(self, "disconnected", svc_peer_times(self)->reopen);
        break;
    case ZMQ_EVENT_CLOSED: /* of an attempt: a connection that stood ends as DISCONNECTED */
        self->untaken_ms = svc_loop_now_ms(self->ctx->loop);
        if (self->state == PEER_CONNECTING)
            tell_lost(self, "its address refuses");
        break;
    default: break;
    }
}

static void
on_monitor(void *arg, short events)
{
    (void)events;
    svc_peer_t *self = arg;
    void *monitor = self->monitor;
    while (self->monitor == monitor) {
        zmq_msg_t msg;
        zmq_msg_init(&msg);
        if (!svc_msg_recv(monitor, &msg, ZMQ_DONTWAIT)) {
            svc_loop_read_dry(self->ctx->loop, monitor);
            zmq_msg_close(&msg);
            break;
        }
        uint16_t event =
            0; /* first frame: 16 bits event, 32 bits value; second: the address */
        if (zmq_msg_size(&msg) >= sizeof(event))
            memcpy(&event, zmq_msg_data(&msg), sizeof(event));
        svc_msg_skip_rest(monitor, &msg);
        zmq_msg_close(&msg);
        on_connection_event(self, event);
    }
}

/* Who has never answered may be at another address than the configuration says, which nothing else would tell. */
static void
tell_absence(svc_peer_t *self)
{
    if (!self->absence_told)
        svc_log_warn(self->ctx->log, "%s at %s has not answered yet", self->service,
                     self->endpoint);
    self->absence_told = true;
}

/* --- time --------------------------------------------------------------------------- */

static void
on_tick(void *arg, short events)
{
    (void)events;
    svc_peer_t *self = arg;
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    const uint64_t silent_ms = now > self->last_life_ms ? now - self->last_life_ms : 0;
    if (self->state == PEER_UP) {
        /* Who was not asked owes no sign: counted from the first ping that got no answer. */
        if (self->is_asked && now - self->asked_ms >= svc_peer_times(self)->down)
            go_down(self, "no sign of life", 0);
        else if (++self->ticks %
                     (svc_peer_times(self)->ping / svc_peer_times(self)->tick) ==
                 0)
            svc_peer_ping(self);
    } else if (self->state == PEER_HELLO) {
        if (now - self->hello_ms >= svc_peer_times(self)->hello)
            go_down(self, "hello was not answered", svc_peer_times(self)->reopen);
        else if (!self->hello_sent)
            send_hello(self);
    } else if (self->state == PEER_CONNECTING && self->untaken_ms != 0 &&
               now - self->untaken_ms >= svc_peer_times(self)->taken) {
        /* Not by ZMQ_CONNECT_TIMEOUT, which would look like an address that refuses. */
        go_down(self, "its address takes no connection", svc_peer_times(self)->reopen);
    }
    if (self->state != PEER_UP && silent_ms >= svc_peer_times(self)->lost)
        tell_lost(self, "no sign of life");
    if (self->instance == 0 && silent_ms >= svc_peer_times(self)->down)
        tell_absence(self);
}

/* We stood still ourselves: what we did not hear is no sign of anything. */
static void
on_stall(void *arg, short events)
{
    (void)events;
    svc_peer_t *self = arg;
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    self->last_life_ms = now;
    self->hello_ms = now;
    self->untaken_ms = self->untaken_ms == 0 ? 0 : now;
    self->is_asked = false;
    if (self->state == PEER_UP)
        svc_peer_ping(self);
}

/* --- life --------------------------------------------------------------------------- */

/* Makes the socket, not connected yet, and its monitor. False: no descriptors left,
 * errno tells. */
static bool
make_socket(svc_peer_t *self)
{
    char name[64];
    const int yes = 1, retry = (int)svc_peer_times(self)->reconnect,
              retry_max = (int)svc_peer_times(self)->reconnect_max,
              handshake = (int)svc_peer_times(self)->handshake;
    self->socket = svc_msg_socket(self->ctx->zmq, ZMQ_DEALER, PEER_HWM);
    if (self->socket == NULL)
        return false;
    zmq_setsockopt(self->socket, ZMQ_IMMEDIATE, &yes, sizeof(yes));
    zmq_setsockopt(self->socket, ZMQ_HANDSHAKE_IVL, &handshake, sizeof(handshake));
    zmq_setsockopt(self->socket, ZMQ_RECONNECT_IVL, &retry, sizeof(retry));
    zmq_setsockopt(self->socket, ZMQ_RECONNECT_IVL_MAX, &retry_max, sizeof(retry_max));
    /* Not the address: an earlier peer may have had it, and ZeroMQ frees names a little later. */
    snprintf(name, sizeof(name), "inproc://monitor-%016" PRIx64, svc_random_u64());
    svc_curve_call(self->ctx->curve, self->socket, self->service, self->key);
    const int events = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                       ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED |
                       ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                       ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                       ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    self->monitor = svc_msg_socket(self->ctx->zmq, ZMQ_PAIR, 0);
    return self->monitor != NULL && zmq_socket_monitor(self->socket, name, events) == 0 &&
           zmq_connect(self->monitor, name) == 0;
}

static void
open_socket(svc_peer_t *self)
{
    if (!make_socket(self)) {
        complain(self, "cannot make a socket: ", svc_str_c(zmq_strerror(errno)));
        return;
    }
    self->state = PEER_CONNECTING;
    self->untaken_ms = svc_loop_now_ms(self->ctx->loop);
    self->hello_sent = false;
    svc_loop_add_socket(self->ctx->loop, self->monitor, on_monitor, self);
    svc_loop_add_socket(self->ctx->loop, self->socket, on_readable, self);
    if (!svc_msg_connect(self->socket,
                         self->endpoint)) /* its form was checked by svc_peer_new */
        complain(self, "cannot connect: ", svc_str_c(zmq_strerror(errno)));
}

svc_peer_t *
svc_peer_new_among(svc_ctx_t *ctx, const char *service, const char *endpoint,
                   svc_peer_event_fn *on_event, void *arg, svc_peer_calls_t *calls,
                   char **error)
{
    const char *wrong = svc_endpoint_check(endpoint);
    if (wrong != NULL) {
        if (asprintf(error, "%s: cannot connect to \"%s\": %s", service, endpoint,
                     wrong) < 0)
            *error = NULL;
        return NULL;
    }
    svc_peer_t *self = svc_alloc(sizeof(*self));
    self->ctx = ctx;
    self->service = svc_str_dup(svc_str_c(service));
    self->endpoint = svc_str_dup(svc_str_c(endpoint));
    self->on_event = on_event;
    self->arg = arg;
    self->own_calls = calls == NULL ? svc_peer_calls_new(ctx) : NULL;
    self->calls = calls == NULL ? self->own_calls : calls;
    self->last_life_ms = svc_mono_ms();
    self->metric = svc_metrics_label(ctx->metrics, SVC_L_PEER, service, NULL);
    svc_metrics_count(ctx->metrics, SVC_F_PEERS, self->metric, 0, 1);
    self->tick_timer = svc_loop_every(ctx->loop, svc_peer_times(self)->tick, on_tick,
                                      self);
    svc_loop_on_stall(ctx->loop, on_stall, self);
    open_socket(self);
    return self;
}

svc_peer_t *
svc_peer_new(svc_ctx_t *ctx, const char *service, const char *endpoint,
             svc_peer_event_fn *on_event, void *arg, char **error)
{
    return svc_peer_new_among(ctx, service, endpoint, on_event, arg, NULL, error);
}

void
svc_peer_destroy(svc_peer_t **self_p)
{
    svc_peer_t *self = *self_p;
    if (self == NULL)
        return;
    close_socket(self);
    svc_metrics_count(self->ctx->metrics, SVC_F_PEERS, self->metric, 0, -1);
    if (self->state == PEER_UP)
        svc_metrics_count(self->ctx->metrics, SVC_F_PEERS_UP, self->metric, 0, -1);
    svc_loop_cancel(self->ctx->loop, self->tick_timer);
    svc_loop_cancel(self->ctx->loop, self->open_timer);
    svc_loop_off_stall(self->ctx->loop, self);
    svc_peer_drop_calls(self);
    svc_peer_calls_destroy(&self->own_calls);
    free(self->endpoint);
    free(self->service);
    free(self);
    *self_p = NULL;
}

bool
svc_peer_is_up(const svc_peer_t *self)
{
    return self->state == PEER_UP;
}

bool
svc_peer_is_silent(const svc_peer_t *self)
{
    return self->is_asked && svc_loop_now_ms(self->ctx->loop) - self->asked_ms >=
                                 svc_peer_times(self)->steer;
}

size_t
svc_peer_load(const svc_peer_t *self)
{
    return self->n_calls;
}

bool
svc_peer_is_draining(const svc_peer_t *self)
{
    return self->is_draining;
}

uint64_t
svc_peer_instance(const svc_peer_t *self)
{
    return self->instance;
}
