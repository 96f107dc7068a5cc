/* refusal.h - what a client is told whose request goes no further than the gate, and what the log says of it.
 *
 * Nobody serves such a request, so it gets its id here: the one in the answer's X-Request-Id is the
 * trace of its log line. A connection that is one too many has sent no request that was read: it
 * is told so and counted, not logged. Thread: its reactor's. */
#ifndef GATEWAY_REFUSAL_H
#define GATEWAY_REFUSAL_H

#include "client_addr.h"
#include "gate.h"
#include "svc/svc_log.h"
#include "svc/svc_secret.h"

typedef struct {
    svc_log_t *log;   /* borrowed */
    svc_ids_t traces; /* of refused requests */
} refusals_t;

/* Sends the refusal on a socket and ends our side of it. What does not fit into the socket at once is lost. */
void refusal_send(refusals_t *self, int fd, gate_verdict why, const client_addr_t *peer);

#endif
