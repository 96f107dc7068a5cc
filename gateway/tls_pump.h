/* tls_pump.h - one client that speaks TLS: its bytes to and from a socket that looks like a plain client's.
 *
 *     client == TCP, TLS == [ pump ] == a pair of sockets == conns.h, libmicrohttpd, streams
 *
 * Everything behind the pair goes the way of a connection without TLS. What flows through
 * is bounded by both sockets and at most TLS_PIECE_BYTES twice for each direction here; when one side does
 * not take, the other one is not read. Ends pass through: a client that says it sends no more, one that has
 * gone (which an end without a word counts as), a gateway that is through. The client is told "this was
 * all" only when it was (tls_wire_break). Thread: its reactor's. */
#ifndef GATEWAY_TLS_PUMP_H
#define GATEWAY_TLS_PUMP_H

#include "tls_store.h"
#include "tls_wire.h"

#define TLS_PIECE_BYTES (8u << 10) /* moved at once */

typedef struct tls_pump tls_pump_t;

typedef enum {
    TLS_PUMP_WAITS, /* for the next event */
    TLS_PUMP_MORE,  /* there is more to do, others first */
    TLS_PUMP_DONE,  /* nothing is left to do; destroy it */
} tls_pump_state;

/* Uses the wire once more; takes `fd`, the end of the pair that is ours. NULL, and fd is closed: no memory for a session. */
tls_pump_t *tls_pump_new(tls_store_t *store, tls_wire_t *wire, int fd);

/* Closes the pair, lets the wire go without a word and sets *self_p to NULL. NULL-safe. */
void tls_pump_destroy(tls_pump_t **self_p);

/* Moves what can be moved now. `wire`, `pair`: what epoll has said of each since the last time; edges are
 * enough. scratch: TLS_PIECE_BYTES of anybody. */
tls_pump_state tls_pump_run(tls_pump_t *self, uint32_t wire, uint32_t pair,
                            char *scratch);

/* Our end of the pair; -1: it is closed. */
int tls_pump_fd(const tls_pump_t *self);

/* The client's socket. */
tls_wire_t *tls_pump_wire(const tls_pump_t *self);

/* True before the handshake is through: its next step may cost a signature. */
bool tls_pump_is_new(const tls_pump_t *self);

/* True when nobody is behind the pair any more. */
bool tls_pump_is_left(const tls_pump_t *self);

/* True when all has been said and only the client's own end is waited for. */
bool tls_pump_lingers(const tls_pump_t *self);

/* Bytes that have come from behind; grows while the client takes some. */
uint64_t tls_pump_moved(const tls_pump_t *self);

/* Why the handshake failed, for the log; NULL: it did not. */
const char *tls_pump_failure(const tls_pump_t *self);

#endif
