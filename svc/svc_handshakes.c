/* svc_handshakes.c - those who came to a locked socket and could not shake hands.
 *
 * ZeroMQ's monitor tells of a connection in up to three events: ACCEPTED with its descriptor, HANDSHAKE_FAILED with a
 * reason and no descriptor, and right after that, from the same thread, DISCONNECTED with the descriptor. So the
 * address is asked for at the first and used at the last. The descriptor is ZeroMQ's: when the events are read
 * late it may be somebody else's by then, and then the address is not told or, rarely, wrong; what
 * is decided never hangs on it. Peers of ZMTP 1 and 2, and those that speak no ZMTP at all, are closed without a
 * HANDSHAKE_FAILED: they count when no handshake has succeeded since they came. Somebody without keys may leave first, when he
 * sees that we have some: so who leaves counts, too. Thread: the loop's. */
#include "svc_handshakes.h"

#include "svc_msg.h"
#include "svc_refusals.h"
#include "svc_secret.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define SLOTS         256 /* descriptors that are remembered, by their last bits */
#define EVENTS_A_TURN 256
#define ADDRESS_MAX   64

/* A connection that came. */
typedef struct {
    int fd;                    /* -1: none */
    uint64_t n_good;           /* of svc_handshakes by then */
    char address[ADDRESS_MAX]; /* "" : not to be had */
} slot_t;

struct svc_handshakes {
    svc_ctx_t *ctx;      /* borrowed */
    const char *what;    /* static text */
    void *socket;        /* watched; borrowed */
    void *monitor;       /* PAIR with its events, owned */
    uint64_t n_good;     /* handshakes that succeeded, or were refused for their key */
    const char *failed;  /* why the last one failed, until its DISCONNECTED; NULL: none */
    slot_t slots[SLOTS]; /* by descriptor */
};

static slot_t *
slot_of(svc_handshakes_t *self, int fd)
{
    return &self->slots[(unsigned)fd % SLOTS];
}

static void
ask_address(int fd, char out[ADDRESS_MAX])
{
    struct sockaddr_storage peer = {0};
    socklen_t n = sizeof(peer);
    char host[INET6_ADDRSTRLEN] = "";

    out[0] = '\0';
    if (getpeername(fd, (struct sockaddr *)&peer, &n) != 0)
        return;
    if (peer.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&peer;
        if (inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host)) != NULL)
            snprintf(out, ADDRESS_MAX, "%s:%u", host, (unsigned)ntohs(in->sin_port));
    } else if (peer.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&peer;
        if (inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host)) != NULL)
            snprintf(out, ADDRESS_MAX, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
    }
}

static void
refuse(svc_handshakes_t *self, const slot_t *slot, const char *why)
{
    svc_refusals_note(self->ctx->refusals, SVC_REFUSED_HANDSHAKE,
                      "refused a connection to %s%s%s: %s", self->what,
                      slot->address[0] == '\0' ? "" : " from ", slot->address, why);
}

static void
on_accepted(svc_handshakes_t *self, int fd)
{
    slot_t *slot = slot_of(self, fd);

    slot->fd = fd;
    slot->n_good = self->n_good;
    ask_address(fd, slot->address);
}

static void
on_disconnected(svc_handshakes_t *self, int fd)
{
    static const slot_t unknown = {.fd = -1};
    slot_t *slot = slot_of(self, fd);
    const bool is_here = slot->fd == fd;

    if (self->failed != NULL)
        refuse(self, is_here ? slot : &unknown, self->failed);
    else if (is_here && slot->n_good == self->n_good)
        refuse(self, slot, "it speaks no ZeroMQ of today");
    self->failed = NULL;
    slot->fd = -1;
}

static const char *
reason_of(uint32_t code)
{
    switch (code) {
    case ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: return "plain text";
    case ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
        return "it takes us for another, or its public key is not its own";
    default: return "it does not shake hands as it should";
    }
}

static void
on_event(svc_handshakes_t *self, unsigned event, uint32_t value)
{
    switch (event) {
    case ZMQ_EVENT_ACCEPTED: on_accepted(self, (int)value); break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: /* told by the handler of keys; it leaves later */
        self->n_good++;
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL: self->failed = reason_of(value); break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        self->failed = "it left, or was silent, before hands were shaken";
        break;
    case ZMQ_EVENT_DISCONNECTED: on_disconnected(self, (int)value); break;
    default: break;
    }
}

static void
on_monitor(void *arg, short events)
{
    svc_handshakes_t *self = arg;
    zmq_msg_t msg;

    (void)events;
    zmq_msg_init(&msg);
    for (int i = 0; i < EVENTS_A_TURN; i++) {
        if (!svc_msg_recv(self->monitor, &msg, ZMQ_DONTWAIT)) {
            svc_loop_read_dry(self->ctx->loop, self->monitor);
            break;
        }
        const svc_str frame = svc_msg_str(&msg);
        uint16_t event = 0; /* first frame: 16 bits event, 32 bits value */
        uint32_t value = 0;

        if (frame.n >= sizeof(event) + sizeof(value)) {
            memcpy(&event, frame.p, sizeof(event));
            memcpy(&value, frame.p + sizeof(event), sizeof(value));
        }
        svc_msg_skip_rest(self->monitor, &msg);
        on_event(self, event, value);
    }
    zmq_msg_close(&msg);
}

svc_handshakes_t *
svc_handshakes_new(svc_ctx_t *ctx, void *socket, const char *what)
{
    svc_handshakes_t *self;
    char name[64];
    const int events = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED |
                       ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                       ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                       ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;

    if (ctx->curve == NULL)
        return NULL;
    self = svc_alloc(sizeof(*self));
    self->ctx = ctx;
    self->socket = socket;
    self->what = what;
    for (size_t i = 0; i < SLOTS; i++)
        self->slots[i].fd = -1;
    snprintf(name, sizeof(name), "inproc://monitor-%016" PRIx64, svc_random_u64());
    /* No bound: ZeroMQ's own thread would wait for us at one, and each event is a connection that the kernel took. */
    self->monitor = svc_msg_socket(ctx->zmq, ZMQ_PAIR, 0);
    SVC_ASSERT(self->monitor != NULL && zmq_socket_monitor(socket, name, events) == 0 &&
               zmq_connect(self->monitor, name) == 0);
    svc_loop_add_socket(ctx->loop, self->monitor, on_monitor, self);
    return self;
}

void
svc_handshakes_destroy(svc_handshakes_t **self_p)
{
    svc_handshakes_t *self = *self_p;

    if (self == NULL)
        return;
    svc_loop_remove_socket(self->ctx->loop, self->monitor);
    zmq_socket_monitor(self->socket, NULL,
                       0); /* before any close, else libzmq 4.3.4 may hang */
    zmq_close(self->monitor);
    free(self);
    *self_p = NULL;
}
