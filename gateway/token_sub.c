/* token_sub.c - where token frames come in: one SUB socket for all llm-svc replicas.
 *
 * The socket's send queue carries subscriptions and drops them silently when it is
 * full, so it has no bound; what it receives is bounded, and what is lost there shows
 * up as a gap. */
#include "token_sub.h"
#include "svc/svc_curve.h"
#include "svc/svc_endpoints.h"
#include "svc/svc_msg.h"
#include "svc/svc_secret.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAMES_PER_TURN 512
#define RECEIVE_HWM     100000 /* frames of 64-100 bytes: some seconds of a busy llm-svc */

#define STALE_MS \
    60000 /* an address that has gone from its name is listened to for so long */

#define PUBLISHER "llm-svc"
#define AGAIN_MS \
    1000 /* after it refused us, or one side has keys and the other none: that changes when somebody restarts it */
#define OTHER_KEY_MS \
    100 /* before the other key of llm-svc is tried: both may be wrong, and each try costs both sides some CPU */

/* One connection of the socket. */
typedef struct sub_link {
    struct sub_link *next; /* in the list */
    char *endpoint;        /* owned */
    uint64_t gone_ms; /* loop time: not in the list of endpoints any more; 0: it is */
    size_t key;       /* which of llm-svc's public keys is expected there */
    bool is_refused;  /* the handshake failed: the next try is due at key_timer */
} sub_link_t;

struct token_sub {
    svc_ctx_t *ctx;             /* loop, metrics */
    token_sub_fn *on_token;     /* the owner's */
    void *arg;                  /* of on_token */
    void *socket;               /* owned; SUB */
    svc_endpoints_t *endpoints; /* owned */
    sub_link_t *links;          /* owned list */
    uint64_t stale_timer;       /* looks at them */
    void *monitor;              /* PAIR with its events, owned */
    uint64_t key_timer;         /* 0: no link is refused */
    size_t n_spare;             /* ids in `spare` */
    uint8_t spare[TOKEN_SUB_SPARE_IDS][PROTO_STREAM_BYTES]; /* subscribed, not used yet */
};

/* --- subscriptions ------------------------------------------------------------------------ */

void
token_sub_add(token_sub_t *self, svc_str stream)
{
    zmq_setsockopt(self->socket, ZMQ_SUBSCRIBE, stream.p, stream.n);
    svc_loop_touched(self->ctx->loop, self->socket);
}

void
token_sub_drop(token_sub_t *self, svc_str stream)
{
    zmq_setsockopt(self->socket, ZMQ_UNSUBSCRIBE, stream.p, stream.n);
    svc_loop_touched(self->ctx->loop, self->socket);
}

static void
fill_spare(token_sub_t *self)
{
    size_t n = TOKEN_SUB_SPARE_IDS - self->n_spare;

    svc_random(self->spare[self->n_spare], n * PROTO_STREAM_BYTES);
    for (; n > 0; n--)
        zmq_setsockopt(self->socket, ZMQ_SUBSCRIBE, self->spare[self->n_spare++],
                       PROTO_STREAM_BYTES);
}

void
token_sub_take_id(token_sub_t *self, uint8_t out[PROTO_STREAM_BYTES])
{
    memcpy(out, self->spare[0], PROTO_STREAM_BYTES);
    self->n_spare--;
    memmove(self->spare[0], self->spare[1], self->n_spare * PROTO_STREAM_BYTES);
    if (self->n_spare <= TOKEN_SUB_SPARE_IDS / 2) /* random bytes are a system call */
        fill_spare(self);
}

/* --- frames ------------------------------------------------------------------------------- */

static void
take_frame(token_sub_t *self, svc_str frame)
{
    size_t n = frame.n < PROTO_STREAM_BYTES ? frame.n : PROTO_STREAM_BYTES;
    svc_str topic = {frame.p, n}, bytes = {frame.p + n, frame.n - n};
    proto_token_t token;

    if (proto_token_decode(bytes, &token) != RC_OK || !svc_str_eq(token.stream, topic)) {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        return;
    }
    svc_metrics_add(self->ctx->metrics, SVC_M_TOKENS_RECEIVED, 1);
    self->on_token(self->arg, &token);
}

static void
on_frames(void *arg, short events)
{
    token_sub_t *self = arg;
    zmq_msg_t frame;

    (void)events;
    zmq_msg_init(&frame);
    for (int i = 0; i < FRAMES_PER_TURN; i++) {
        if (!svc_msg_recv(self->socket, &frame, ZMQ_DONTWAIT)) {
            svc_loop_read_dry(self->ctx->loop, self->socket);
            break;
        }
        take_frame(self, svc_msg_str(&frame));
        svc_msg_skip_rest(self->socket, &frame);
    }
    zmq_msg_close(&frame);
}

/* --- handshakes --------------------------------------------------------------------------- */

/* What the socket is told at a connect counts for that connection, and for its reconnects. */
static bool
connect_link(token_sub_t *self, const sub_link_t *link)
{
    svc_curve_call(self->ctx->curve, self->socket, PUBLISHER, link->key);
    svc_loop_touched(self->ctx->loop, self->socket);
    return svc_msg_connect(self->socket, link->endpoint);
}

static void
on_key_due(void *arg, short events)
{
    token_sub_t *self = arg;

    (void)events;
    self->key_timer = 0;
    for (sub_link_t *link = self->links; link != NULL; link = link->next)
        if (link->is_refused) {
            link->is_refused = false;
            link->key++;
            zmq_disconnect(self->socket, link->endpoint);
            (void)connect_link(self, link); /* it could be connected to before */
        }
}

/* A handshake that just ends may be a freeze or a restart, after which ZeroMQ tries again by itself; or llm-svc has the other
 * one of two keys. All other faults end the connection for good (libzmq 4.3.4). */
static void
on_handshake_failed(token_sub_t *self, unsigned event, svc_str endpoint)
{
    const bool is_key = event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;

    if (is_key && svc_curve_count(self->ctx->curve, PUBLISHER) < 2)
        return;
    for (sub_link_t *link = self->links; link != NULL; link = link->next)
        if (svc_str_eq(svc_str_c(link->endpoint), endpoint))
            link->is_refused = true;
    if (self->key_timer == 0)
        self->key_timer = svc_loop_after(
            self->ctx->loop, is_key ? OTHER_KEY_MS : AGAIN_MS, on_key_due, self);
}

/* Each event is two frames: its number and a value, and the endpoint. */
static void
on_monitor(void *arg, short events)
{
    token_sub_t *self = arg;
    zmq_msg_t msg;

    (void)events;
    zmq_msg_init(&msg);
    while (svc_msg_recv(self->monitor, &msg, ZMQ_DONTWAIT)) {
        uint16_t event = 0;

        if (zmq_msg_size(&msg) >= sizeof event)
            memcpy(&event, zmq_msg_data(&msg), sizeof event);
        if (zmq_msg_more(&msg) != 0 && svc_msg_recv(self->monitor, &msg, 0))
            on_handshake_failed(self, event, svc_msg_str(&msg));
        svc_msg_skip_rest(self->monitor, &msg);
    }
    svc_loop_read_dry(self->ctx->loop, self->monitor);
    zmq_msg_close(&msg);
}

static void
watch_handshakes(token_sub_t *self)
{
    char name[64];

    snprintf(name, sizeof name, "inproc://monitor-%016" PRIx64, svc_random_u64());
    self->monitor = svc_msg_socket(self->ctx->zmq, ZMQ_PAIR, 0);
    SVC_ASSERT(self->monitor != NULL &&
               zmq_socket_monitor(self->socket, name,
                                  ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                                      ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                      ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) == 0 &&
               zmq_connect(self->monitor, name) == 0);
    svc_loop_add_socket(self->ctx->loop, self->monitor, on_monitor, self);
}

/* --- life --------------------------------------------------------------------------------- */

static bool
open_socket(token_sub_t *self, char **error)
{
    int unbounded = 0;
    int hwm = RECEIVE_HWM;
    int reconnect_max_ms = 1000;
    int taken_ms = 2000; /* as of svc_peer: the kernel alone would try ever more seldom */
    int heartbeat_ms = 2000;
    int silence_ms = 6000;
    /* When we are frozen and the way to us is full, llm-svc cannot even ask whether we live: so it is told to drop
     * us, and the frames it keeps for us, when it has not heard of us for so long. */
    int our_silence_ms = 10000;

    self->socket = svc_msg_socket(self->ctx->zmq, ZMQ_SUB, RECEIVE_HWM);
    if (self->socket == NULL) {
        SVC_ASSERT(
            asprintf(error, "cannot make a socket: %s", zmq_strerror(zmq_errno())) >= 0);
        return false;
    }
    zmq_setsockopt(self->socket, ZMQ_SNDHWM, &unbounded, sizeof unbounded);
    zmq_setsockopt(self->socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    zmq_setsockopt(self->socket, ZMQ_RECONNECT_IVL_MAX, &reconnect_max_ms,
                   sizeof reconnect_max_ms);
    zmq_setsockopt(self->socket, ZMQ_CONNECT_TIMEOUT, &taken_ms, sizeof taken_ms);
    zmq_setsockopt(self->socket, ZMQ_HEARTBEAT_IVL, &heartbeat_ms, sizeof heartbeat_ms);
    zmq_setsockopt(self->socket, ZMQ_HEARTBEAT_TIMEOUT, &silence_ms, sizeof silence_ms);
    zmq_setsockopt(self->socket, ZMQ_HEARTBEAT_TTL, &our_silence_ms,
                   sizeof our_silence_ms);
    watch_handshakes(self);
    return true;
}

/* Forgets an endpoint that has been gone for long enough. */
static void
on_stale_look(void *arg, short events)
{
    token_sub_t *self = arg;
    uint64_t now = svc_loop_now_ms(self->ctx->loop);

    (void)events;
    for (sub_link_t **at = &self->links, *link; (link = *at) != NULL;) {
        if (link->gone_ms == 0 || now - link->gone_ms < STALE_MS) {
            at = &link->next;
            continue;
        }
        zmq_disconnect(self->socket, link->endpoint);
        *at = link->next;
        free(link->endpoint);
        free(link);
    }
    svc_loop_touched(self->ctx->loop, self->socket);
}

/* An llm-svc whose address has gone from its name may still be writing: it is listened to
 * for a while. */
static void
on_endpoint(void *arg, const char *endpoint, bool is_added)
{
    token_sub_t *self = arg;
    sub_link_t *link = self->links;

    while (link != NULL && strcmp(link->endpoint, endpoint) != 0)
        link = link->next;
    if (link != NULL) {
        link->gone_ms = is_added ? 0 : svc_loop_now_ms(self->ctx->loop);
        return;
    }
    if (!is_added)
        return;
    link = svc_alloc(sizeof *link);
    link->endpoint = svc_str_dup(svc_str_c(endpoint));
    if (!connect_link(self, link)) {
        svc_log_error(self->ctx->log, "bus.tokens.connect: \"%s\": %s", endpoint,
                      zmq_strerror(zmq_errno()));
        free(link->endpoint);
        free(link);
        return;
    }
    link->next = self->links;
    self->links = link;
}

/* Subscribes to every address of the list, now and later. */
static bool
connect_all(token_sub_t *self, const char *endpoints, char **error)
{
    char *wrong = NULL;

    self->stale_timer = svc_loop_every(self->ctx->loop, STALE_MS / 4, on_stale_look,
                                       self);
    self->endpoints = svc_endpoints_new(self->ctx, endpoints, on_endpoint, self, &wrong);
    if (self->endpoints == NULL &&
        asprintf(error, "bus.tokens.connect: %s", wrong != NULL ? wrong : "") < 0)
        *error = NULL;
    free(wrong);
    return self->endpoints != NULL;
}

token_sub_t *
token_sub_new(svc_ctx_t *ctx, const char *endpoints, token_sub_fn *on_token, void *arg,
              char **error)
{
    token_sub_t *self = svc_alloc(sizeof *self);

    self->ctx = ctx;
    self->on_token = on_token;
    self->arg = arg;
    if (!open_socket(self, error) || !connect_all(self, endpoints, error)) {
        token_sub_destroy(&self);
        return NULL;
    }
    fill_spare(self);
    svc_loop_add_socket(ctx->loop, self->socket, on_frames, self);
    return self;
}

void
token_sub_destroy(token_sub_t **self_p)
{
    token_sub_t *self = *self_p;

    if (self == NULL)
        return;
    svc_endpoints_destroy(&self->endpoints);
    svc_loop_cancel(self->ctx->loop, self->stale_timer);
    svc_loop_cancel(self->ctx->loop, self->key_timer);
    for (sub_link_t *link = self->links, *next; link != NULL; link = next) {
        next = link->next;
        free(link->endpoint);
        free(link);
    }
    if (self->monitor != NULL) {
        svc_loop_remove_socket(self->ctx->loop, self->monitor);
        zmq_socket_monitor(self->socket, NULL,
                           0); /* before any close, else libzmq 4.3.4 may hang */
        zmq_close(self->monitor);
    }
    if (self->socket != NULL) {
        svc_loop_remove_socket(self->ctx->loop, self->socket);
        zmq_close(self->socket);
    }
    free(self);
    *self_p = NULL;
}
