/* svc_curve.h - the lock of the bus: CURVE on sockets, and who may connect.
 *
 * Every tcp socket between services is encrypted and knows who is on the other end when the process
 * has keys (bus.keys). A socket that is bound asks our own ZAP handler about each key that comes;
 * messages of a connection that it let in carry the name of their service as User-Id. A socket
 * that connects names the service that it expects, and talks to nobody else. Without keys (a NULL
 * svc_curve_t) all of these do nothing, and the bus is plain.
 *
 * Thread: any, after svc_curve_new; the handler has a thread of its own. */
#ifndef SVC_SVC_CURVE_H
#define SVC_SVC_CURVE_H

#include "svc/svc_keys.h"
#include "svc/svc_refusals.h"

#include <zmq.h>

typedef struct svc_curve svc_curve_t;

/* Which sockets one may connect to: the ZAP domain of a bound socket. */
typedef enum {
    SVC_CURVE_REQUESTS, /* everybody of ours; what they may call is judged call by call */
    SVC_CURVE_TOKENS,   /* gateways only: whoever subscribes reads */
    SVC_CURVE_DOORS
} svc_curve_door;

/* Starts the handler in a ZeroMQ context, before any socket is bound there. Takes the keys; keeps `zmq` and `refusals`. */
svc_curve_t *svc_curve_new(void *zmq, svc_keys_t **keys_p, svc_refusals_t *refusals);

/* Waits for the handler, wipes the keys, sets *self_p to NULL. After zmq_ctx_term, which ends the handler.
 * NULL-safe. */
void svc_curve_destroy(svc_curve_t **self_p);

/* Locks a socket that is about to be bound. NULL-safe. */
void svc_curve_serve(const svc_curve_t *self, void *socket, svc_curve_door door);

/* Prepares a socket that is about to be connected to `service`: only the holder of that service's key number
 * `which` (from 0; any number will do, it is counted round) will do. NULL-safe. */
void svc_curve_call(const svc_curve_t *self, void *socket, const char *service,
                    size_t which);

/* How many keys of a service are accepted: two while one is being replaced. 0: there are no keys at all. NULL-safe. */
size_t svc_curve_count(const svc_curve_t *self, const char *service);

/* The service that sent a message, by the key of its connection; "" when there is none to be had (the bus is plain).
 * Good as long as the message. */
const char *svc_curve_sender(const zmq_msg_t *msg);

#endif
