/* tls_wire.h - the TCP socket of a client that speaks TLS, as the two who have to do with it share it.
 *
 * The pump (tls_pump.h) reads and writes it; the connection behind the pump (conns.h), maybe on another
 * reactor, asks and sets what only a TCP socket knows, and says when what it has sent is not
 * whole. The last of both closes it. Thread: any. */
#ifndef GATEWAY_TLS_WIRE_H
#define GATEWAY_TLS_WIRE_H

#include "proto/base.h"

typedef struct tls_wire tls_wire_t;

/* Takes the socket; one use. */
tls_wire_t *tls_wire_new(int fd);

/* One use more; gives `self`. */
tls_wire_t *tls_wire_use(tls_wire_t *self);

/* One use less. Sets *self_p to NULL. NULL-safe. */
void tls_wire_release(tls_wire_t **self_p);

/* The socket. */
int tls_wire_fd(const tls_wire_t *self);

/* The same; of a client without TLS (NULL), whose socket `fd` is, that. */
int tls_wire_tcp(const tls_wire_t *self, int fd);

/* What the client gets ends in the middle: its end must not look like one. NULL-safe. */
void tls_wire_break(tls_wire_t *self);

/* Was that said? */
bool tls_wire_is_broken(const tls_wire_t *self);

#endif
