/* svc_peer.h - the calling side of the bus: one replica of a service, behind a DEALER.
 *
 * Services call through svc_peers, which has one of these for each address. It
 * says hello first, pings twice a second, reconnects by itself. Up: hello was answered
 * on this connection. Down: disconnected, or 2.2 s without an answer to a ping, so within
 * 3 s of a freeze; calls in flight fail with RC_UNAVAILABLE at once and new ones are
 * refused. Lost: the address refuses connections, or answers as another instance, or
 * 12 s of silence: only then is anything judged that lived inside the peer. After a
 * down the socket is closed and made anew, so that nothing stale is ever delivered.
 *
 * Thread: the loop's. */
#ifndef SVC_SVC_PEER_H
#define SVC_SVC_PEER_H

#include "proto/proto.h"
#include "svc/svc_ctx.h"

#define SVC_PEER_CALLS_MAX 65536 /* outstanding; one more fails with RC_BUSY */

typedef struct svc_peer svc_peer_t;

/* How long a peer waits for what, in ms. */
typedef struct svc_peer_times {
    uint64_t tick;      /* how late silence may be noticed; ping is a multiple of it */
    uint64_t ping;      /* between two pings */
    uint64_t steer;     /* no answer to a ping: others are asked first */
    uint64_t down;      /* no answer to a ping: no new work goes there */
    uint64_t lost;      /* silence: what it held is given up */
    uint64_t hello;     /* for the answer to hello */
    uint64_t taken;     /* until an address takes a connection, else it is tried anew */
    uint64_t handshake; /* of ZeroMQ, with an address that takes connections */
    uint64_t reopen;    /* after a connection that never came up: no spinning */
    uint64_t wrong;     /* after a wrong answer to hello: it will not change soon */
    uint64_t reconnect, reconnect_max; /* ZeroMQ's own, while nobody listens */
} svc_peer_times_t;

/* What services go by; a test may name shorter ones in its svc_ctx_t. */
extern const svc_peer_times_t svc_peer_usual_times;

/* What happened to a peer. UP and the one of DOWN/LOST that applies are told once per
 * change; a new instance is told as LOST (of the old one) followed by UP. LOST comes
 * after DOWN, and only once until the next UP. */
typedef enum { SVC_PEER_UP, SVC_PEER_DOWN, SVC_PEER_LOST } svc_peer_event;

/* `instance`: of the peer that is up, down or lost (0: never was up). */
typedef void svc_peer_event_fn(void *arg, svc_peer_event event, uint64_t instance);

/* Receives a reply. kind PROTO_PARTIAL or PROTO_FINAL: rc is RC_OK and `rep` is the
 * decoded reply; PROTO_ERROR: rc tells, `error` has text and retry_after_s (views;
 * never NULL), rep is NULL. FINAL and ERROR are the last for this call. Views die on
 * return. */
typedef void svc_reply_fn(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                          const error_rep_t *error);

/* One call, as svc_peer_call wants it. */
typedef struct {
    const char *op; /* OP_…, kept */
    const proto_schema_t
        *req_schema; /* of req; NULL: req is a svc_str, encoded by it already */
    const void *req; /* borrowed for the call */
    const proto_schema_t *rep_schema; /* of replies */
    svc_str trace;       /* PROTO_TRACE_BYTES, or empty: a fresh one is made */
    uint64_t timeout_ms; /* until the first reply, else PROTO_ERROR RC_TIMEOUT */
    uint64_t
        hold_ms; /* after a PARTIAL: until the next reply, else RC_TIMEOUT; 0: no bound */
    svc_reply_fn *on_reply; /* called later from the loop, never inside svc_peer_call */
    void *arg;              /* for on_reply */
    uint64_t
        instance; /* svc_peers_call: only this one; 0: any. One peer does not look at it */
} svc_peer_request_t;

/* Connects to `endpoint` (one tcp://host:port; several by commas are refused).
 * `service`: folder name of the service expected there (another one that answers hello
 * is refused and logged). Gives the peer, NULL with *error (free() it) set when the
 * endpoint is no endpoint. */
svc_peer_t *svc_peer_new(svc_ctx_t *ctx, const char *service, const char *endpoint,
                         svc_peer_event_fn *on_event, void *arg, char **error);

/* Closes the socket; outstanding calls are forgotten without a callback. Sets *self_p
 * to NULL. NULL-safe. */
void svc_peer_destroy(svc_peer_t **self_p);

/* True while the peer is up. */
bool svc_peer_is_up(const svc_peer_t *self);

/* True while a ping has been waiting for its answer for long enough to ask others first. */
bool svc_peer_is_silent(const svc_peer_t *self);

/* How many calls it is to answer. */
size_t svc_peer_load(const svc_peer_t *self);

/* True when its last ping reply said that it is draining. */
bool svc_peer_is_draining(const svc_peer_t *self);

/* The instance that is up or was last up; 0 before. */
uint64_t svc_peer_instance(const svc_peer_t *self);

/* Sends a request. On RC_OK *id_out (may be NULL) names the call for svc_peer_forget.
 * RC_UNAVAILABLE: down; RC_BUSY: too many outstanding or its queue is full;
 * RC_TOO_BIG, RC_INVALID: it cannot be encoded. on_reply is not called then. */
svc_rc svc_peer_call(svc_peer_t *self, const svc_peer_request_t *request,
                     uint64_t *id_out) SVC_MUST_CHECK;

/* Sends a request that wants no reply (id 0). `trace` empty: a fresh one. Errors as above. */
svc_rc svc_peer_post(svc_peer_t *self, const char *op, svc_str trace,
                     const proto_schema_t *schema, const void *req) SVC_MUST_CHECK;

/* Nobody waits for this call any more: no further on_reply. 0 and finished calls are
 * harmless. Safe inside on_reply. */
void svc_peer_forget(svc_peer_t *self, uint64_t id);

#endif
