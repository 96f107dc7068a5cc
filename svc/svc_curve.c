/* svc_curve.c - the lock of the bus: options of sockets, and the ZAP handler.
 *
 * The handler (ZeroMQ's RFC 27) answers on inproc://zeromq.zap.01 of the context whose sockets ask, so czmq's zauth
 * will not do: it binds in czmq's own context. It looks a key up in a table that never changes, and answers with the
 * name of the service, which ZeroMQ then attaches to each message. It is bound before the first
 * socket that could ask, and lives until the context ends, which is after the last one: libzmq 4.3.4 would let everybody
 * in who can encrypt when no handler is there (the option against that is draft API). Thread: the handler's own, but for what sets options. */
#include "svc_curve.h"

#include "svc_msg.h"
#include "svc_time.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define ZAP_FRAMES   7 /* version, request id, domain, address, identity, mechanism, key */
#define ZAP_TEXT_MAX 256 /* bytes of a frame that we look at */

/* A ROUTER aborts its process when the routing id that it makes for a newcomer is held by somebody who chose it (libzmq
 * 4.3.4), which takes tens of thousands of connections. So nobody makes that many in a hurry, not even with a key of
 * ours; whoever restarts with hundreds of reactors stays far below. */
#define CONNECTIONS_MAX       2000  /* of one service's keys ... */
#define CONNECTIONS_WINDOW_MS 10000 /* ... in so long */

typedef struct {
    uint64_t began_ms; /* monotonic */
    unsigned n;        /* connections since then */
} pace_t;

struct svc_curve {
    svc_keys_t *keys;                /* owned */
    pace_t paces[SVC_KEYS_SERVICES]; /* as keys->known; the handler's */
    svc_refusals_t *refusals;        /* borrowed */
    void *socket;                    /* REP; the handler's, who closes it */
    pthread_t thread;                /* of the handler */
};

static const struct {
    const char *domain;  /* as ZAP requests say it */
    const char *allowed; /* the only service that may connect; NULL: all of ours */
} doors[SVC_CURVE_DOORS] = {
    [SVC_CURVE_REQUESTS] = {"requests", NULL},
    [SVC_CURVE_TOKENS] = {"tokens", "gateway"},
};

/* --- the handler ------------------------------------------------------------------------- */

/* One request of ZeroMQ's. Frames that are too long are empty here. */
typedef struct {
    uint8_t bytes[ZAP_FRAMES][ZAP_TEXT_MAX];
    size_t n[ZAP_FRAMES];
    size_t n_frames; /* that came, which may be more */
} zap_t;

enum {
    ZAP_VERSION,
    ZAP_ID,
    ZAP_DOMAIN,
    ZAP_ADDRESS,
    ZAP_IDENTITY,
    ZAP_MECHANISM,
    ZAP_KEY
};

static svc_str
zap_str(const zap_t *zap, int frame)
{
    return (svc_str){(const char *)zap->bytes[frame], zap->n[frame]};
}

/* False: the context has ended. */
static bool
receive(void *socket, zap_t *zap)
{
    bool more = true;

    memset(zap, 0, sizeof(*zap));
    while (more) {
        zmq_msg_t msg;
        svc_str frame;

        zmq_msg_init(&msg);
        if (!svc_msg_recv(socket, &msg, 0)) {
            zmq_msg_close(&msg);
            return false;
        }
        frame = svc_msg_str(&msg);
        if (zap->n_frames < ZAP_FRAMES && frame.n > 0 && frame.n <= ZAP_TEXT_MAX) {
            memcpy(zap->bytes[zap->n_frames], frame.p, frame.n);
            zap->n[zap->n_frames] = frame.n;
        }
        zap->n_frames++;
        more = zmq_msg_more(&msg) != 0;
        zmq_msg_close(&msg);
    }
    return true;
}

static bool
is_in_a_hurry(svc_curve_t *self, const svc_known_t *known)
{
    pace_t *pace = &self->paces[known - self->keys->known];
    const uint64_t now = svc_mono_ms();

    if (now - pace->began_ms >= CONNECTIONS_WINDOW_MS)
        *pace = (pace_t){.began_ms = now};
    return ++pace->n > CONNECTIONS_MAX;
}

/* May this one, which we know, come in by that door? */
static bool
may_enter(svc_curve_t *self, const svc_known_t *known, svc_curve_door door,
          svc_str address)
{
    if (doors[door].allowed != NULL && strcmp(doors[door].allowed, known->service) != 0) {
        svc_refusals_note(self->refusals, SVC_REFUSED_STRANGER,
                          "refused a connection from %.*s: %s may not connect to %s",
                          (int)address.n, address.p, known->service, doors[door].domain);
        return false;
    }
    if (is_in_a_hurry(self, known)) {
        svc_refusals_note(self->refusals, SVC_REFUSED_STRANGER,
                          "refused a connection from %.*s: more than %d of %s in %d s",
                          (int)address.n, address.p, CONNECTIONS_MAX, known->service,
                          CONNECTIONS_WINDOW_MS / 1000);
        return false;
    }
    return true;
}

/* Gives who may come in, NULL when nobody may. */
static const svc_known_t *
judge(svc_curve_t *self, const zap_t *zap)
{
    const svc_str domain = zap_str(zap, ZAP_DOMAIN), address = zap_str(zap, ZAP_ADDRESS);
    const svc_known_t *known = NULL;
    char text[SVC_KEY_TEXT_BYTES + 1] = "";

    if (zap->n_frames != ZAP_FRAMES || zap->n[ZAP_KEY] != SVC_KEY_BYTES ||
        !svc_str_eq(zap_str(zap, ZAP_MECHANISM), SVC_LIT("CURVE")))
        return NULL;
    known = svc_keys_owner(self->keys, zap->bytes[ZAP_KEY]);
    for (size_t i = 0; i < SVC_CURVE_DOORS && known != NULL; i++)
        if (svc_str_eq(domain, svc_str_c(doors[i].domain)))
            return may_enter(self, known, (svc_curve_door)i, address) ? known : NULL;
    zmq_z85_encode(text, zap->bytes[ZAP_KEY], SVC_KEY_BYTES);
    svc_refusals_note(self->refusals, SVC_REFUSED_STRANGER,
                      "refused a connection from %.*s: its public key %s is nobody's",
                      (int)address.n, address.p, text);
    return NULL;
}

static bool
answer(void *socket, const zap_t *zap, const svc_known_t *known)
{
    const svc_str frames[] = {
        SVC_LIT("1.0"),
        zap_str(zap, ZAP_ID),
        known != NULL ? SVC_LIT("200") : SVC_LIT("400"),
        known != NULL ? SVC_LIT("OK") : SVC_LIT("not allowed"),
        known != NULL ? svc_str_c(known->service) : SVC_LIT(""),
        SVC_LIT(""),
    };

    for (size_t i = 0; i < SVC_COUNT(frames); i++)
        if (!svc_msg_send_bytes(socket, frames[i],
                                i + 1 < SVC_COUNT(frames) ? ZMQ_SNDMORE : 0))
            return false;
    return true;
}

static void *
handle(void *arg)
{
    svc_curve_t *self = arg;
    zap_t zap;

    while (receive(self->socket, &zap) && answer(self->socket, &zap, judge(self, &zap)))
        ;
    zmq_close(self->socket);
    return NULL;
}

/* --- life -------------------------------------------------------------------------------- */

svc_curve_t *
svc_curve_new(void *zmq, svc_keys_t **keys_p, svc_refusals_t *refusals)
{
    svc_curve_t *self = svc_alloc(sizeof(*self));

    self->keys = *keys_p;
    *keys_p = NULL;
    self->refusals = refusals;
    self->socket = svc_msg_socket(zmq, ZMQ_REP, 0);
    SVC_ASSERT(self->socket != NULL && zmq_bind(self->socket, ZAP_ENDPOINT) == 0);
    SVC_ASSERT(pthread_create(&self->thread, NULL, handle, self) == 0);
    return self;
}

void
svc_curve_destroy(svc_curve_t **self_p)
{
    svc_curve_t *self = *self_p;

    if (self == NULL)
        return;
    pthread_join(self->thread, NULL);
    svc_keys_destroy(&self->keys);
    free(self);
    *self_p = NULL;
}

/* --- sockets ----------------------------------------------------------------------------- */

static void
set(void *socket, int option, const void *value, size_t n)
{
    SVC_ASSERT(zmq_setsockopt(socket, option, value, n) == 0);
}

void
svc_curve_serve(const svc_curve_t *self, void *socket, svc_curve_door door)
{
    const int yes = 1;

    if (self == NULL)
        return;
    set(socket, ZMQ_CURVE_SERVER, &yes, sizeof(yes));
    set(socket, ZMQ_CURVE_SECRETKEY, self->keys->secret_key, SVC_KEY_BYTES);
    set(socket, ZMQ_ZAP_DOMAIN, doors[door].domain, strlen(doors[door].domain));
}

void
svc_curve_call(const svc_curve_t *self, void *socket, const char *service, size_t which)
{
    const svc_known_t *known;

    if (self == NULL)
        return;
    known = svc_keys_of(self->keys, service);
    SVC_ASSERT(known != NULL && known->n > 0);
    set(socket, ZMQ_CURVE_PUBLICKEY, self->keys->public_key, SVC_KEY_BYTES);
    set(socket, ZMQ_CURVE_SECRETKEY, self->keys->secret_key, SVC_KEY_BYTES);
    set(socket, ZMQ_CURVE_SERVERKEY, known->public_keys[which % known->n], SVC_KEY_BYTES);
}

size_t
svc_curve_count(const svc_curve_t *self, const char *service)
{
    const svc_known_t *known = self == NULL ? NULL : svc_keys_of(self->keys, service);

    return known == NULL ? 0 : known->n;
}

const char *
svc_curve_sender(const zmq_msg_t *msg)
{
    const char *user = zmq_msg_gets(msg, "User-Id");

    return user == NULL ? "" : user;
}
