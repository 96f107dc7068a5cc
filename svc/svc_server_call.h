/* svc_server_call.h - what a call is made of: for the halves of the server only.
 *
 * svc_server.c receives, checks and dispatches; svc_server_call.c keeps, answers and
 * cancels. Every request is a call from receipt to its last answer. While its handler
 * runs it is never freed, whatever the handler does with it: it is marked done, and
 * freed on the way out. */
#ifndef SVC_SVC_SERVER_CALL_H
#define SVC_SVC_SERVER_CALL_H

#include "svc/svc_heap.h"
#include "svc/svc_seldom.h"
#include "svc/svc_server.h"
#include "svc/svc_table.h"

#define SVC_ROUTE_MAX_BYTES \
    16 /* of a routing id: ZeroMQ makes 5; longer ones are nobody of ours */
#define SVC_FREE_CALLS_MAX 256 /* kept for the next requests instead of freed */

typedef struct {
    uint8_t n;                          /* bytes in use */
    uint8_t bytes[SVC_ROUTE_MAX_BYTES]; /* of the ROUTER's first frame */
} svc_route_t;

typedef struct svc_clients svc_clients_t;
typedef struct svc_handshakes svc_handshakes_t;

struct svc_call {
    svc_table_node_t by_handle; /* first: cast from table nodes; key is the handle */
    svc_heap_node_t deadline;   /* key: monotonic ms */
    svc_server_t *server;       /* borrowed */
    const svc_op_t *op;         /* borrowed; NULL for what the server answers itself */
    const char *op_name;        /* static text, for the log */
    const char *peer;           /* static text, for the log */
    const char
        *key; /* static text: whose key its connection has; NULL: the bus is plain */
    svc_route_t route;      /* to the caller */
    uint64_t id;            /* of the caller; 0: wants no reply */
    uint64_t expires_ms;    /* Unix */
    uint64_t moved_ms;      /* Unix: another replica may have been asked; 0: never */
    uint64_t began_us;      /* monotonic */
    uint64_t retry_after_s; /* of an error answer */
    char *text;             /* of an error answer; owned, may be NULL */
    svc_call_cancel_fn *on_cancel;    /* may be NULL */
    void *on_cancel_arg;              /* for on_cancel */
    svc_str body;                     /* view, while the handler runs */
    uint8_t trace[PROTO_TRACE_BYTES]; /* of the request */
    uint16_t metric; /* row of its operation in metrics; 0: none of ours */
    bool in_handler; /* must not be freed now */
    bool done;       /* answered or cancelled while in_handler */
    bool is_parted;  /* a part has been sent */
};

struct svc_server {
    svc_ctx_t *ctx;               /* borrowed */
    const svc_op_t *ops;          /* borrowed */
    bool *is_routine;             /* owned; of each of them, for the log */
    void *handler_self;           /* passed to handlers, borrowed */
    void *socket;                 /* ROUTER, owned */
    char endpoint[256];           /* where it is bound */
    proto_arena_t *arena;         /* of the request in hand */
    void *req, *rep;              /* room for the largest request and reply struct */
    uint16_t *metrics;            /* rows of ops in metrics, owned */
    svc_clients_t *clients;       /* who said hello */
    svc_handshakes_t *handshakes; /* owned; NULL: the bus is plain */
    svc_buf_t out;                /* encoded body, between uses empty */
    svc_table_t calls;            /* owns the calls */
    svc_heap_t deadlines;         /* svc_call.deadline of kept ones */
    svc_call_t *free_calls;       /* linked by by_handle.next */
    size_t n_free_calls;          /* at most SVC_FREE_CALLS_MAX */
    uint64_t handles;             /* source of handles */
    uint64_t timer;               /* fires at timer_ms or later; 0: none */
    uint64_t timer_ms;            /* monotonic */
    svc_seldom_t doubts;          /* that clocks differ, in the log */
    bool draining;                /* told in ping replies */
};

/* Gives a call of this server, in its table under a fresh handle. */
svc_call_t *svc_call_new(svc_server_t *server);

/* Frees a call, or marks it done while its handler runs. Runs no cancel function. */
void svc_call_free(svc_call_t *call);

/* Counts a call that is answered: how, and how long its first reply took. */
void svc_call_count(const svc_call_t *call, svc_rc rc);

/* Keeps a call until `deadline_ms` (monotonic) at most. */
void svc_call_keep_until(svc_call_t *call, uint64_t deadline_ms);

/* Cancels all calls and frees everything that calls need. */
void svc_server_drop_calls(svc_server_t *self);

/* Sends one reply: `schema` and `msg` are the body. RC_OK, RC_BUSY (dropped),
 * RC_UNAVAILABLE (peer gone), or what encoding says. */
svc_rc svc_call_send(svc_call_t *call, proto_kind kind, const proto_schema_t *schema,
                     const void *msg);

/* Who said hello by which route. Bounded: the one that was silent longest is dropped. */
typedef struct {
    unsigned who;     /* svc_access bits; 0: a service that calls nobody */
    const char *name; /* static text */
} svc_client_t;

/* Gives an empty set. */
svc_clients_t *svc_clients_new(void);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void svc_clients_destroy(svc_clients_t **self_p);

/* Remembers (or updates) who is behind a route. */
void svc_clients_put(svc_clients_t *self, const svc_route_t *route, svc_str service);

/* Who is behind a route, NULL before its hello. */
const svc_client_t *svc_clients_get(svc_clients_t *self, const svc_route_t *route);

/* What a service of this name may do, whoever says so; "unknown" for other names. */
const svc_client_t *svc_clients_called(svc_str service);

/* Forgets a route. */
void svc_clients_remove(svc_clients_t *self, const svc_route_t *route);

#endif
