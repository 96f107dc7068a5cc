/* conns.h - the life of every client connection of a reactor, from accept to close.
 *
 * libmicrohttpd (the server) gets a connection only when its first request's headers are
 * complete: until then it is a socket and a small struct here, so a slow-loris client
 * holds next to nothing. Between two requests a connection is back at the gate (gate.h).
 * It is in one phase, and phases in which the client has to act have a deadline:
 *
 *   GATE -> HEADERS -> (BODY ->) BUSY -> IDLE -> (HELD ->) HEADERS -> ...
 *   GATE, IDLE, HELD -> LINGER -> closed
 *   of a client that sends no more: IDLE is LAST, HEADERS and BODY are HALF
 *
 * Deadlines are absolute for the phase, so dripping bytes does not prolong them. While
 * a request is suspended libmicrohttpd does not see its client go; conn_watch does. A
 * client that has only stopped sending gets its answer, and is closed after it. One whose
 * first request opens a stream may go to another reactor (meeting.h). Thread: its reactor's. */
#ifndef GATEWAY_CONNS_H
#define GATEWAY_CONNS_H

#include "client_addr.h"
#include "conn_limit.h"
#include "meeting.h"
#include "svc/svc_ctx.h"
#include "tls_front.h"

/* libmicrohttpd's memory for one connection: the headers, their lines, and some to write with. */
#define CONN_POOL_BYTES (24u << 10)

typedef enum {
    CONN_GATE,
    CONN_LINGER,
    CONN_IDLE,
    CONN_LAST,
    CONN_HELD,
    CONN_HEADERS,
    CONN_BODY,
    CONN_HALF,
    CONN_BUSY,
    CONN_BLOCKED,
    CONN_PHASES
} conn_phase;

typedef struct conns conns_t;
typedef struct conn conn_t;

typedef struct {
    /* Takes over a connection whose headers are there (the socket is its to close,
     * also when it fails). False: refused. */
    bool (*hand_over)(void *arg, int fd, const struct sockaddr *addr, socklen_t n);
    /* The client of this request has closed its connection; `half`: as far as we can
     * see only its sending side. */
    void (*gone)(void *arg, void *request, bool half);
    /* The server shall not read from a connection that waits for a request, and shall go
     * on; as told by conn_serve. Never in the middle of a request. */
    void (*hold)(void *arg, void *server);
    void (*release)(void *arg, void *server);
    /* conn_wait_writable: the socket of this request takes bytes again. */
    void (*writable)(void *arg, void *request);
    void *arg; /* of all */
} conns_hooks_t;

/* Accepts on `listen_fd` (taken) through ctx->loop until destroyed; at most `max`
 * connections at once. Keeps ctx, limit and trust. */
conns_t *conns_new(svc_ctx_t *ctx, int listen_fd, uint32_t max, conn_limit_t *limit,
                   const client_trust_t *trust, const conns_hooks_t *hooks);

/* At most `max` connections at once from now on; those that are there stay. */
void conns_set_max(conns_t *self, uint32_t max);

/* Closes what is still at the gate; handed over connections must be closed by then.
 * Sets *self_p to NULL. NULL-safe. */
void conns_destroy(conns_t **self_p);

/* Right after conns_new: who comes waits in the kernel's queue, for `ms` at most. */
void conns_wait(conns_t *self, uint64_t ms);

/* Who has waited is let in, and everybody from now on. */
void conns_wait_no_more(conns_t *self);

/* Right after conns_new: clients speak TLS. Keeps tls, which must be there until conns_destroy is done. */
void conns_use_tls(conns_t *self, tls_front_t *tls);

/* Sends connections to other reactors of `meeting`, as which it is number `here`, and takes theirs, until it stops
 * accepting. Keeps meeting. */
void conns_meet(conns_t *self, meeting_t *meeting, size_t here);

/* Closes the listening socket and every connection that waits for a request, but not those that the server has and
 * whose next request has come; the server shall read that. None is held afterwards. */
void conns_stop_accepting(conns_t *self);

/* Looks at what has come for connections that wait for a request, before the server does. */
void conns_look(conns_t *self);

/* Ends connections whose client sends no more and has got all its answers; after the
 * server had its turn. */
void conns_settle(conns_t *self);

/* How many connections there are. */
size_t conns_count(const conns_t *self);

/* The connection on this descriptor, which libmicrohttpd has just begun to serve; NULL
 * when it is none of ours. */
conn_t *conns_adopted(conns_t *self, int fd);

/* The server calls the connection `server` (not NULL): hooks.hold and release get that.
 * Without it the connection is never held. */
void conn_serve(conn_t *self, void *server);

/* The descriptor is about to be closed: forgets the connection. */
void conns_closed(conns_t *self, conn_t *conn);

/* Enters a phase and starts its clock. */
void conn_enter(conn_t *self, conn_phase phase);

/* The peer's address, not believing any header. */
const client_addr_t *conn_addr(const conn_t *self);

/* The socket, for a stream that is written to directly. */
int conn_fd(const conn_t *self);

/* A direct write met a full socket: asks for hooks.writable once (of a watched request), and starts the
 * clock of a client that takes no byte: gateway.viewer_idle_s. */
void conn_wait_writable(conn_t *self);

/* A direct write went through: stops that clock. */
void conn_writes(conn_t *self);

/* Asks for hooks.gone(request) when the client closes, until conn_unwatch; at once if it
 * has closed its sending side already. */
void conn_watch(conn_t *self, void *request);

/* Ends that. Harmless when not watched. */
void conn_unwatch(conn_t *self);

/* Ends the connection in both directions; whoever reads from it or writes to it finds out and closes it.
 * Idempotent. */
void conn_cut(conn_t *self);

/* For streams, once: client_socket_prepare_stream. */
void conn_prepare_stream(conn_t *self, uint32_t silence_s, size_t backlog);

/* True once it was prepared: its next request may find settings of a stream. */
bool conn_is_prepared(const conn_t *self);

/* Cuts the connection of a client of which client_socket_is_silent is true. */
void conn_cut_if_silent(conn_t *self, uint32_t silence_s);

#endif
