/* svc_handshakes.h - those who came to a locked socket and could not shake hands.
 *
 * Plain text, a key for another server, another protocol: ZeroMQ closes such connections by itself; here they are
 * counted and told, with their address where it is to be had. Strangers with a key of their own are told by
 * svc_curve. Who just connects and leaves, or stays without a word until ZeroMQ throws it out (3 s), counts, too.
 *
 * Thread: the loop's. */
#ifndef SVC_SVC_HANDSHAKES_H
#define SVC_SVC_HANDSHAKES_H

#include "svc/svc_ctx.h"

typedef struct svc_handshakes svc_handshakes_t;

/* Watches a socket before it is bound; `what` (static text) names it in the log. Gives NULL when the bus is plain: there
 * is nothing to refuse. Keeps ctx and socket. */
svc_handshakes_t *svc_handshakes_new(svc_ctx_t *ctx, void *socket, const char *what);

/* Stops watching, before the socket is closed. Sets *self_p to NULL. NULL-safe. */
void svc_handshakes_destroy(svc_handshakes_t **self_p);

#endif
