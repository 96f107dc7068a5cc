/* svc_peers.h - the calling side of the bus: all replicas of one service.
 *
 * One svc_peer for each address of a list. Work goes to a replica that is up, takes new work
 * and answers its pings, the one with the fewest calls first. A process is named by its
 * instance: two addresses of one process are one replica, of which is told once. A call
 * keeps its id whoever answers it.
 *
 * Thread: the loop's. */
#ifndef SVC_SVC_PEERS_H
#define SVC_SVC_PEERS_H

#include "svc/svc_peer.h"

typedef struct svc_peers svc_peers_t;

/* Connects to every address of `endpoints` ("tcp://host:port,tcp://…"; a name stands for all its
 * addresses, which may come and go: svc_endpoints). on_event (may be NULL)
 * is told UP at the first connection to an instance, DOWN when none is left, LOST when it is
 * given up; its calls have ended by then. A replica whose address has gone from the name is
 * used on while it is up. Gives the set, NULL with *error (free() it) set
 * when the list is none. */
svc_peers_t *svc_peers_new(svc_ctx_t *ctx, const char *service, const char *endpoints,
                           svc_peer_event_fn *on_event, void *arg, char **error);

/* Closes everything; outstanding calls are forgotten without a callback. Sets *self_p to NULL.
 * Not inside a callback of the set. NULL-safe. */
void svc_peers_destroy(svc_peers_t **self_p);

/* True while any replica is up. */
bool svc_peers_is_up(const svc_peers_t *self);

/* True while any replica is up and not draining. */
bool svc_peers_takes_work(const svc_peers_t *self);

/* True while this instance is up. */
bool svc_peers_has(const svc_peers_t *self, uint64_t instance);

/* The instance for new work, 0 when none is up: one that answers its pings if possible, then one
 * that is not draining, and still among the addresses of its name, if possible, then the one with the
 * fewest calls; ties are drawn. */
uint64_t svc_peers_pick(svc_peers_t *self);

/* Sends a request to request->instance, or (0) to the one that svc_peers_pick would give.
 * If that goes down before its first reply, or stood still and thaws too late for it, the request is sent to another one, once, when its
 * operation is safe to ask again (proto_op_is_idempotent), and fails with RC_UNAVAILABLE else, as
 * one for an instance does. Errors and *id_out as of svc_peer_call; RC_UNAVAILABLE also when the
 * instance is not up. */
svc_rc svc_peers_call(svc_peers_t *self, const svc_peer_request_t *request,
                      uint64_t *id_out) SVC_MUST_CHECK;

/* Sends a request that wants no reply to an instance (0: any). `trace` empty: a fresh one. Errors as above. */
svc_rc svc_peers_post(svc_peers_t *self, uint64_t instance, const char *op, svc_str trace,
                      const proto_schema_t *schema, const void *req) SVC_MUST_CHECK;

/* Nobody waits for this call any more: no further on_reply. 0 and finished calls are
 * harmless. Safe inside on_reply. */
void svc_peers_forget(svc_peers_t *self, uint64_t id);

/* Inside on_reply: the instance that the reply is from, or, when the call failed without one,
 * that it was sent to last. */
uint64_t svc_peers_replier(const svc_peers_t *self);

/* Calls fn once for each instance that is up. fn must not wait, and must not destroy the set. */
void svc_peers_each(const svc_peers_t *self, void (*fn)(void *arg, uint64_t instance),
                    void *arg);

#endif
