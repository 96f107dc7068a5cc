/* convo_jobs.h - what the front thread asks of the writer and the readers: kinds and payloads.
 *
 * Requests and replies of the bus cross as they came, the rest has schemas of its own here. Nothing else crosses a thread.
 *
 *   writer job       payload               result            reader job      payload       result
 *   WRITE_CREATE     create_req            create_rep        READ_LIST       list_req      list_job
 *   WRITE_DELETE     conversation_req      its id            READ_HEAD       history_req   head_job
 *   WRITE_ASK        ask_req               answer_row        READ_HISTORY    history_req   history_job
 *   WRITE_STOP       watch_req             answer_row        READ_TEXT       read_req      read_rep
 *   WRITE_STEP       answer_step           -                 READ_STATUS     watch_req     answer_row
 *   WRITE_RESTART    restart_job           -                 READ_PROMPT     prompt_job    generate_req
 *   WRITE_RETRY      retry_req             answer_row        READ_LIST_HEAD  list_req      list_head_job
 *                                                            READ_ACTIVE     active_req    active_rep
 *
 * The two heads are short: they have a thread of their own, which does all that wait in one go. */
#ifndef CONVO_JOBS_H
#define CONVO_JOBS_H

#include "convo_store.h"
#include "seal.h"
#include "svc/svc_fault.h"
#include "svc/svc_metrics.h"

/* The prompt of a new question comes with its answer's row when it is no longer than this: the reader is spared. */
#define CONVO_READY_PROMPT_MAX_BYTES 16384

enum {
    WRITE_CREATE,
    WRITE_DELETE,
    WRITE_ASK,
    WRITE_STOP,
    WRITE_STEP,
    WRITE_RESTART,
    WRITE_RETRY
};
enum {
    READ_LIST,
    READ_HEAD,
    READ_HISTORY,
    READ_TEXT,
    READ_STATUS,
    READ_PROMPT,
    READ_LIST_HEAD,
    READ_ACTIVE
};

/* A new generation of a waiting answer. */
typedef struct {
    svc_str stream;       /* which answer */
    uint64_t term, fence; /* must be the row's */
    uint64_t new_fence;   /* from now on */
    uint64_t attempt;     /* its number */
} restart_job_t;

/* What decides whether a cached list may be used. */
typedef struct {
    uint64_t user;    /* as asked */
    uint64_t version; /* of the list; 0: no conversation yet */
} list_head_job_t;

/* A page of a list and what the cache needs to know about it. */
typedef struct {
    list_rep_t page;  /* as for the caller */
    uint64_t user;    /* as asked */
    uint64_t version; /* of the list at that moment */
    bool whole;       /* the page is all of it */
} list_job_t;

/* What decides whether a cached history may be used. */
typedef struct {
    uint64_t conversation; /* as asked */
    uint64_t user;         /* likewise; it is the owner */
    uint64_t version;      /* of the conversation */
    bool answering;        /* its history changes without a new version just now */
} head_job_t;

/* A page of a history and what the cache needs to know about it. */
typedef struct {
    history_rep_t page;    /* as for the caller */
    uint64_t conversation; /* as asked */
    uint64_t version;      /* of the conversation at that moment */
    bool whole;            /* the page is all of it and nothing in it changes any more */
} history_job_t;

typedef struct {
    svc_str stream; /* of the answer that is to be generated */
    uint64_t fence; /* must still be the row's */
} prompt_job_t;

extern const proto_schema_t answer_row_schema, answer_step_schema, restart_job_schema,
    list_head_job_schema, list_job_schema, head_job_schema, history_job_schema,
    prompt_job_schema;

/* What each worker is given. Outlives the pools; read-only. */
typedef struct {
    convo_place_t place;    /* of the database */
    svc_log_t *log;         /* any thread; may be NULL */
    svc_metrics_t *metrics; /* any thread; may be NULL */
    const seal_t *seal;     /* for api keys */
    svc_str system_prompt;  /* message 0 of every prompt */
    uint64_t instance;      /* of this process */
    uint64_t
        conn_lifetime_ms; /* a reader opens its connection anew after this; 0: never */
    svc_fault_t *fault;   /* any thread; NULL: nothing is to die */
    bool plain_paths;     /* no ready prompts, a savepoint for each job */
} convo_workers_t;

/* The place before the commit of a writer's job, where a test may have the process die; the next one is that behind it.
 * FAULT_POINTS: there is none. `arena` is for decoding. */
svc_fault_point convo_fault_before(uint32_t kind, svc_str payload, proto_arena_t *arena);

/* The fence of a generation: its attempt in bits 48..52, random bits below. */
uint64_t convo_fence(uint64_t attempt);

#endif
