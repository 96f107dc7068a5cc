/* reactor.h - one thread of the gateway: its own loop, HTTP server, connections to the services, and feeds.
 *
 * Reactors share the configuration, the log, the counters, the limit per address and a
 * meeting: a connection that opens the stream of an answer goes to the one that reads that
 * answer already, before anything was read from it; all others stay where they came. The struct is
 * plain, so that the parts of a reactor (request, handlers) find one another; only
 * reactor.c changes it, but for the counters that say so. Thread: its own, except
 * where a function says otherwise. */
#ifndef GATEWAY_REACTOR_H
#define GATEWAY_REACTOR_H

#include "conns.h"
#include "feed_hub.h"
#include "http_metrics.h"
#include "models.h"
#include "svc/svc_secret.h"
#include "verdicts.h"
#include <microhttpd.h>
#include <stdatomic.h>

typedef enum { REACTOR_AUTH, REACTOR_CONVO, REACTOR_LLM, REACTOR_PEERS } reactor_peer;

/* How many reactors miss which service: written by all of them, read for /readyz. */
typedef struct {
    svc_need_t needs[REACTOR_PEERS]; /* missed by the reactors that cannot use it */
} readiness_t;

/* Folder names of the services, in the order of reactor_peer. */
extern const char *const reactor_peer_names[REACTOR_PEERS];

#define REACTOR_BODIES_MAX_BYTES \
    (256u << 20) /* all request bodies that are being read, together; more: 503 */

typedef struct reactor {
    svc_ctx_t
        ctx; /* with this thread's loop; its config may be another one after each turn */
    const client_trust_t *trust;        /* shared: trusted proxies */
    readiness_t *readiness;             /* shared */
    struct MHD_Daemon *mhd;             /* owned */
    conns_t *conns;                     /* owned */
    tls_front_t *tls;                   /* owned; NULL: clients speak plain HTTP */
    svc_peers_t *peers[REACTOR_PEERS];  /* owned */
    feed_hub_t *hub;                    /* owned */
    verdicts_t *verdicts;               /* owned */
    models_t *models;                   /* owned */
    struct request *requests;           /* list of all that live; kept by request.c */
    struct request *woken, *last_woken; /* those to write to; kept by request.c */
    svc_buf_t scratch;                  /* owned; what is being written */
    svc_ids_t traces;                   /* of requests */
    svc_ids_t keys;              /* of what is made for clients that brought no key */
    http_metrics_t http_metrics; /* what is counted of them */
    size_t n_requests;           /* in it; kept by request.c */
    size_t body_bytes;           /* of bodies that are being read; kept by request.c */
    bool
        mhd_has_news; /* a connection was resumed or is new, or libmicrohttpd can read: it must run */
    bool draining; /* answers close their connections */
    bool ending;   /* streams end after a whole event */
    bool stopping; /* nothing waits any more */
} reactor_t;

/* A reactor's thread as the main thread sees it. */
typedef struct reactor_thread reactor_thread_t;

/* What all reactors are given. */
typedef struct {
    const svc_ctx_t *ctx;        /* of the process; each reactor gets a loop of its own */
    const client_trust_t *trust; /* outlives them */
    conn_limit_t *limit;         /* outlives them */
    meeting_t *meeting;          /* outlives them; NULL: each keeps its connections */
    tls_store_t *tls;            /* outlives them; NULL: clients speak plain HTTP */
    size_t number;               /* of this one, from 1 on */
    readiness_t *
        readiness; /* outlives them; all reactors are counted as missing all before the first starts */
    uint32_t max_connections; /* of one reactor */
    void (*drained)(
        void *
            arg); /* a draining reactor has no request left; called once, on its thread */
    void *arg;    /* of drained */
} reactor_setup_t;

/* Builds a reactor on `listen_fd` (taken) and starts its thread. NULL with *error
 * (free() it) set. Main thread. */
reactor_thread_t *reactor_start(const reactor_setup_t *setup, int listen_fd,
                                char **error);

/* Serves by `fresh` from now on (held until the next one): what came before is served as it began. `max_connections`: of this
 * reactor. Any thread, one at a time. */
void reactor_reload(reactor_thread_t *self, const svc_config_t *fresh,
                    uint32_t max_connections);

/* Answers close their connections from now on, and readyz says that it drains; all is served
 * on. Any thread. */
void reactor_announce(reactor_thread_t *self);

/* No new connections; ends idle ones; tells setup.drained when the last request is
 * done. Any thread. */
void reactor_drain(reactor_thread_t *self);

/* Ends its streams, each after a whole event and those that have nothing shown after their first one: their clients
 * read on elsewhere. Others go on. Any thread. */
void reactor_end_streams(reactor_thread_t *self);

/* Ends what is left. Any thread. Several reactors stop together: one may hold the last bytes of another one's clients. */
void reactor_end(reactor_thread_t *self);

/* Ends what is left, joins the thread, frees everything and sets *self_p to NULL. Main
 * thread. NULL-safe. */
void reactor_stop(reactor_thread_t **self_p);

#endif
