/* tls_front.h - all clients of a reactor that speak TLS: between their sockets and what looks like plain clients.
 *
 * A socket goes in, one end of a pair of sockets comes out, which is a client like any other to
 * everybody behind; it may be served by another reactor, its pump (tls_pump.h) stays here. As long as
 * somebody is behind, that one's time-outs hold for the client, the handshake included. Then the client
 * has server.idle_timeout_s without a byte taken to read what is left (the handshake of one that was turned away:
 * server.header_timeout_s), and TLS_FRONT_LEFT_MAX of such clients are kept at most, the oldest goes.
 * Thread: its reactor's. */
#ifndef GATEWAY_TLS_FRONT_H
#define GATEWAY_TLS_FRONT_H

#include "svc/svc_ctx.h"
#include "tls_pump.h"

#define TLS_FRONT_LEFT_MAX \
    512 /* clients that nobody serves any more, but that still read */

typedef struct tls_front tls_front_t;

/* Keeps ctx and store. */
tls_front_t *tls_front_new(svc_ctx_t *ctx, tls_store_t *store);

/* Nobody is to take clients any more: when those behind have left, waits until the last bytes have, but for
 * 1.5 s at most; closes all and sets *self_p to NULL. NULL-safe. */
void tls_front_destroy(tls_front_t **self_p);

/* Takes a client's socket, which is closed when this fails: -1. Else the end of the pair that stands for it, the
 * caller's to close, and one use of the wire, the caller's to release. One that is not welcome is to be told so and
 * closed: it is not taken when many of those are here already, since each of them costs a handshake. */
int tls_front_take(tls_front_t *self, int fd, bool is_welcome,
                   tls_wire_t **wire_out) SVC_MUST_CHECK;

/* Moves what can be moved now: what clients have sent is behind it afterwards, as far as it is here. */
void tls_front_look(tls_front_t *self);

/* How many clients that nobody serves any more have not got all yet. */
size_t tls_front_unsaid(const tls_front_t *self);

#endif
