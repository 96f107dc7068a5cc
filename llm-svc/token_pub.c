/* token_pub.c - encodes a frame, sends topic and frame, and drops some when told to.
 *
 * The dice for dropping are a xorshift of our own: no lock, no system call, and they
 * need not be good, only fair. Text, marks and ends are dropped alike, since every one
 * of them may be lost in earnest. Sending never blocks: a PUB socket drops instead. */
#include "token_pub.h"

#include "svc/svc_curve.h"
#include "svc/svc_handshakes.h"
#include "svc/svc_msg.h"
#include "svc/svc_secret.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAME_MAX_BYTES    (64u << 10) /* generations cut their text at 16 KB */
#define ENDPOINT_MAX_BYTES 256

/* What a subscriber may send at once: a stream's id and some. Each byte of a subscription costs ZeroMQ a node of a tree,
 * built on our thread: with the bound of the other sockets one of them could stop us for seconds, and take gigabytes. */
#define SUBSCRIPTION_MAX_BYTES 1024

/* A gateway that is frozen keeps its connection, and up to TOKEN_PUB_HWM frames wait for it here. So each
 * subscriber is asked for a sign of life, and one that gives none is dropped with its frames: when it thaws it
 * subscribes anew, and what it missed is a gap, which it fills. */
#define HEARTBEAT_MS 2000
#define SILENCE_MS   10000

struct token_pub {
    svc_ctx_t *ctx;                    /* borrowed */
    void *socket;                      /* PUB, owned */
    svc_handshakes_t *handshakes;      /* owned; NULL: the bus is plain */
    svc_buf_t frame;                   /* being encoded; its memory is kept */
    uint64_t dice;                     /* state of the random numbers, never 0 */
    uint64_t drop_below;               /* dice below this drop the frame; 0: never */
    char endpoint[ENDPOINT_MAX_BYTES]; /* as bound */
};

token_pub_t *
token_pub_new(svc_ctx_t *ctx, char **error)
{
    token_pub_t *self = svc_alloc(sizeof(*self));
    const char *endpoint = ctx->config->bus_tokens.bind;
    double share = ctx->config->test_drop_token_frames;
    size_t n = sizeof(self->endpoint);
    const int heartbeat_ms = HEARTBEAT_MS, silence_ms = SILENCE_MS;
    const int64_t incoming_max = SUBSCRIPTION_MAX_BYTES;

    self->ctx = ctx;
    self->dice = svc_random_u64();
    self->drop_below = share <= 0   ? 0
                       : share >= 1 ? UINT64_MAX
                                    : (uint64_t)(share * 9007199254740992.0) << 11;
    svc_buf_init(&self->frame, FRAME_MAX_BYTES);
    self->socket = svc_msg_socket(ctx->zmq, ZMQ_PUB, TOKEN_PUB_HWM);
    if (self->socket != NULL) {
        zmq_setsockopt(self->socket, ZMQ_MAXMSGSIZE, &incoming_max, sizeof(incoming_max));
        zmq_setsockopt(self->socket, ZMQ_HEARTBEAT_IVL, &heartbeat_ms,
                       sizeof(heartbeat_ms));
        zmq_setsockopt(self->socket, ZMQ_HEARTBEAT_TIMEOUT, &silence_ms,
                       sizeof(silence_ms));
        svc_curve_serve(ctx->curve, self->socket, SVC_CURVE_TOKENS);
        self->handshakes = svc_handshakes_new(ctx, self->socket, "tokens");
    }
    if (self->socket == NULL || !svc_msg_bind(self->socket, endpoint) ||
        zmq_getsockopt(self->socket, ZMQ_LAST_ENDPOINT, self->endpoint, &n) != 0) {
        SVC_ASSERT(asprintf(error, "cannot listen on %s (bus.tokens.bind): %s", endpoint,
                            zmq_strerror(errno)) >= 0);
        token_pub_destroy(&self);
    }
    return self;
}

void
token_pub_destroy(token_pub_t **self_p)
{
    token_pub_t *self = *self_p;

    if (self == NULL)
        return;
    svc_handshakes_destroy(&self->handshakes);
    if (self->socket != NULL)
        zmq_close(self->socket);
    svc_buf_fini(&self->frame);
    free(self);
    *self_p = NULL;
}

static bool
is_dropped(token_pub_t *self)
{
    if (self->drop_below == 0)
        return false;
    self->dice ^= self->dice << 13;
    self->dice ^= self->dice >> 7;
    self->dice ^= self->dice << 17;
    return self->dice <= self->drop_below;
}

void
token_pub_send(token_pub_t *self, const proto_token_t *token)
{
    if (is_dropped(self)) {
        svc_metrics_add(self->ctx->metrics, SVC_M_TOKENS_DROPPED, 1);
        return;
    }
    svc_buf_clear(&self->frame);
    if (svc_buf_add_str(&self->frame, token->stream) != RC_OK ||
        proto_token_encode(token, &self->frame) != RC_OK)
        return;
    if (svc_msg_send_bytes(self->socket, svc_buf_str(&self->frame), ZMQ_DONTWAIT))
        svc_metrics_add(self->ctx->metrics, SVC_M_TOKENS_PUBLISHED, 1);
}

const char *
token_pub_endpoint(const token_pub_t *self)
{
    return self->endpoint;
}
