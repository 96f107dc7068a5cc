/* convo.h - the service: what its handlers work with.
 *
 * convo.c builds it and lets it drain; convo_ops.c has the table of operations and the handlers of
 * conversations, convo_ops_answers.c those of answers. Slow work goes to the writer, the
 * readers or the cache; a handler keeps its call and finds it again by its handle.
 *
 * Thread: the loop's. */
#ifndef CONVO_H
#define CONVO_H

#include "answers.h"
#include "convo_cache.h"
#include "convo_jobs.h"
#include "convo_lease.h"
#include "svc/svc_table.h"

#define CONVO_WRITES_MAX   8192 /* jobs that wait for the writer; one more is RC_BUSY */
#define CONVO_READS_MAX    4096 /* jobs that wait for the readers; likewise */
#define CONVO_READERS_MAX  4    /* threads */
#define CONVO_LOOKUP_BATCH 64   /* heads read in one go */
#define CONVO_HELD_MS      2000 /* a question waits this long for an llm-svc that is away */
#define CONVO_AWAY_MS      1000 /* changes wait this long for the writer's connection */
#define CONVO_HELD_MAX     256  /* of both together; one more is refused at once */
#define CONVO_HELD_MAX_BYTES \
    (16u << 20) /* of all of them: two of the longest, or 256 of 64 KB */

#define CONVO_HANDOVER_MS \
    3000 /* at the end: answers that nobody takes for so long are left in the database */

typedef struct convo_held convo_held_t;

typedef struct convo {
    svc_ctx_t *ctx;          /* borrowed */
    char *db_path;           /* owned */
    int lock_fd;             /* of the database, -1: not locked */
    seal_t seal;             /* of api keys */
    convo_workers_t workers; /* what writer and readers are given */
    atomic_bool stop;        /* nobody waits for a database that is away any more */
    atomic_uint_least64_t
        away_ms; /* monotonic: since when the writer waits for the database; 0: it does not */
    svc_pool_t *writer;   /* owned: one thread */
    svc_pool_t *reader;   /* owned */
    svc_pool_t *lookup;   /* owned: one thread, for the heads */
    convo_cache_t *cache; /* owned; of histories */
    convo_cache_t *
        lists; /* owned; of lists, always in memory: another process would be slower than the database */
    svc_server_t *server; /* owned */
    svc_peers_t *llm;     /* owned */
    answers_t *answers;   /* owned */
    convo_lease_t *lease; /* owned; NULL with SQLite: nobody else can own anything */
    proto_arena_t *arena; /* of results */
    svc_table_t lookups;  /* owns the histories that the cache is asked for, by call */
    size_t n_asking;      /* questions on their way to the database */
    convo_held_t
        *held; /* owned; what waits for an llm-svc or for the database, oldest first */
    uint64_t held_ms;    /* CONVO_HELD_MS, but in tests */
    size_t n_held;       /* in it, at most CONVO_HELD_MAX */
    size_t held_bytes;   /* of their bodies, at most CONVO_HELD_MAX_BYTES */
    uint64_t held_timer; /* looks at them; 0: there are none */
    bool is_draining;    /* no new questions */
    uint64_t
        handover_ms;   /* monotonic: the hand-over ends then, unless an answer is taken */
    size_t handover_n; /* answers that were left when that was set */
    uint64_t drain_timer; /* looks whether all is done; 0: none */
    svc_need_t database;  /* a PostgreSQL; with SQLite nobody misses it */
    svc_need_t any_llm;   /* optional: histories are read without */
    uint64_t need_timer;  /* looks whether they are there; 0: none */
} convo_t;

/* Is there what convo-svc needs? False with *error (free() it): one line that says what is missing. */
bool convo_check_config(const svc_config_t *config, char **error) SVC_MUST_CHECK;

/* Builds the service on ctx->loop: locks and opens the database, takes up unfinished answers, binds, connects.
 * NULL with *error (free() it): one line that says why. */
convo_t *convo_new(svc_ctx_t *ctx, char **error);

/* Says "draining" from now on, and serves on. */
void convo_announce(convo_t *self);

/* Takes no more questions, and stops the loop when nothing is under way any more: with SQLite when the answers that are being
 * written have ended, with PostgreSQL when others have taken them over. */
void convo_drain(convo_t *self);

/* Commits what is queued, closes everything and sets *self_p to NULL. NULL-safe. */
void convo_destroy(convo_t **self_p);

/* The table of operations, for svc_server_new with a convo_t as self. */
extern const svc_op_t convo_ops[];

/* Handlers of answers, for the table. */
svc_handler_fn convo_on_ask, convo_on_retry, convo_on_watch, convo_on_unwatch,
    convo_on_active, convo_on_read, convo_on_tail, convo_on_stop;

/* May be told from memory what an answer that lives here is? (Else only the database knows whose it is.) */
bool convo_holds_answers(const convo_t *self);

/* Gives the body of a call to a pool and keeps the call: `done` gets the service and the call's handle.
 * RC_LATER, or why not. */
svc_rc convo_pass_on(convo_t *self, svc_pool_t *pool, uint32_t kind, svc_call_t *call,
                     svc_pool_done_fn *done) SVC_MUST_CHECK;

/* svc_pool_done_fn of the service: answers a kept call with what a worker has encoded already. */
void convo_on_answered(void *arg, uint64_t tag, svc_rc rc, svc_str result);

/* Gives a question (WRITE_ASK with its encoded ask_req_t) or a retry (WRITE_RETRY) to the writer; the call, which is kept, is
 * answered from its result on. RC_OK, or why not. */
svc_rc convo_commit_ask(convo_t *self, uint32_t kind, const svc_call_t *call,
                        svc_str body) SVC_MUST_CHECK;

/* Keeps one of these for CONVO_HELD_MS, in case llm-svc comes back. RC_LATER, or why not (RC_UNAVAILABLE: too many are kept). */
svc_rc convo_hold_ask(convo_t *self, uint32_t kind, svc_call_t *call) SVC_MUST_CHECK;

/* Does the writer wait for the database? */
bool convo_is_away(const convo_t *self);

/* Keeps a change while it does, until it has waited for CONVO_AWAY_MS; then `done` is as for convo_pass_on, NULL: it is a
 * question, for convo_commit_ask. RC_LATER, or why not (RC_UNAVAILABLE: it waits for longer already, or too many are kept). */
svc_rc convo_hold_change(convo_t *self, uint32_t kind, svc_call_t *call,
                         svc_pool_done_fn *done) SVC_MUST_CHECK;

/* Frees what is still held. */
void convo_drop_held(convo_t *self);

/* Frees the histories that the cache is still asked for. */
void convo_drop_lookups(convo_t *self);

/* convo_cache_fn of the service, for histories and for lists. */
void convo_on_cache(void *arg, uint64_t tag, bool hit, svc_str body);
void convo_on_list_cache(void *arg, uint64_t tag, bool hit, svc_str body);

#endif
