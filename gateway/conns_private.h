/* conns_private.h - the connections of a reactor as the two files that they live in see them.
 *
 * conns.c has their life: accept, the gate, who serves and watches them, close. conns_phase.c has
 * their clocks: which phase each is in, and whose time is over. Nobody else includes this. Thread: its
 * reactor's. */
#ifndef GATEWAY_CONNS_PRIVATE_H
#define GATEWAY_CONNS_PRIVATE_H

#include "conns.h"
#include "door.h"
#include "gate.h"
#include "refusal.h"

#define CONNS_SWEEP_MS 250 /* how often it is looked who has run out of time */

struct conn {
    conns_t *conns;     /* whose it is */
    int fd;             /* the socket; libmicrohttpd's once handed over */
    tls_wire_t *wire;   /* what it stands for, one use; NULL: it is the client's own */
    client_addr_t addr; /* of the peer */
    conn_phase phase;   /* see the drawing in the header */
    uint64_t since_ms;  /* when it entered the phase */
    uint64_t taken_ms;  /* BLOCKED, IDLE: when its client took a byte, as far as we saw */
    int unsent; /* likewise: bytes that it had not taken then; -1: nobody has looked */
    conn_t *prev, *next;              /* in its phase's list */
    gate_t gate;                      /* GATE, HELD: how far its headers have come */
    size_t dropped;                   /* LINGER: bytes */
    struct sockaddr_storage sockaddr; /* of the peer */
    void *server;     /* what the server calls it; NULL: not handed over */
    void *request;    /* who wants to know that the client left; NULL: not watched */
    bool counted;     /* in the limit per address */
    bool is_guest;    /* another reactor has sent it: it stays */
    bool half_closed; /* the client sends no more */
    bool wants_out;   /* somebody waits until it is writable */
    bool is_prepared; /* for streams; it stays so */
    bool cut; /* shut down by us: a second time would be news to epoll, again and again */
};

typedef struct {
    conn_t *first, *last; /* oldest, youngest */
} conn_list_t;

struct conns {
    svc_ctx_t *ctx;                   /* loop, log, metrics */
    conn_limit_t *limit;              /* shared */
    const client_trust_t *trust;      /* shared */
    meeting_t *meeting;               /* shared; NULL: there is nobody else */
    tls_front_t *tls;                 /* borrowed; NULL: clients speak plain HTTP */
    size_t here;                      /* our number in it */
    int guests_fd;                    /* the meeting's; -1: it sends us nobody */
    conns_hooks_t hooks;              /* the owner's */
    refusals_t refusals;              /* what the gate says no to */
    door_t *door;                     /* owned; NULL: accepts no more */
    int epoll_fd;                     /* owned */
    uint32_t max;                     /* connections */
    size_t n;                         /* connections */
    conn_list_t lists[CONN_PHASES];   /* owned */
    uint64_t timeout_ms[CONN_PHASES]; /* 0: none */
    uint64_t viewer_idle_ms;          /* a client that takes no byte of a stream */
    conn_t **by_fd;                   /* owned array */
    size_t n_by_fd;                   /* its size */
    uint64_t sweep_timer;             /* of the loop */
    char *peeked;                     /* owned; GATE_HEADERS_MAX_BYTES */
};

/* --- conns.c ------------------------------------------------------------------------------ */

/* Looks at what has come, leaving it in the socket. False: the client has gone. *n_out 0: nothing is there. */
bool conn_peek(const conn_t *self, size_t *n_out);

/* Ends a connection at the gate. If the server has it, nothing of what is still in the socket may reach it: that could look
 * like a request. */
void conn_end_at_gate(conn_t *self);

/* --- conns_phase.c ------------------------------------------------------------------------ */

/* How long each phase may last, as configured. */
void conns_set_times(conns_t *self, const svc_config_t *config);

/* A connection's first phase, and its end; conn_enter is for all between. */
void conn_link(conn_t *self, conn_phase phase);
void conn_unlink(conn_t *self);

/* Bytes that the client has not acknowledged. */
int conn_unsent(const conn_t *self);

/* Each CONNS_SWEEP_MS: ends those that have run out of time. */
void conns_on_sweep(void *arg, short events);

#endif
