/* answers_private.h - what the table of live answers and their outputs share.
 *
 * Private to answers.c (the table) and answers_out.c (what an answer wants done): everybody else
 * sees answers.h. Each answer has one live_t, which is the `arg` of its outputs and lives
 * exactly as long as it does. Thread: the loop's. */
#ifndef ANSWERS_PRIVATE_H
#define ANSWERS_PRIVATE_H

#include "answers.h"
#include "svc/svc_table.h"

#define ANSWERS_BUCKETS 4096 /* by stream; a power of two */
#define ANSWERS_TICK_MS 100
#define ANSWERS_LOST_MAX \
    64 /* instances of llm-svc that are known to be lost; older ones are forgotten */

/* One live answer in the table. */
typedef struct live {
    svc_table_node_t by_handle; /* first: cast from table nodes; key names it in jobs */
    svc_table_node_t by_conversation; /* key: conversation */
    struct live *next_in_bucket;      /* by stream */
    struct live *prev, *next;         /* of all */
    answers_t *table;                 /* borrowed */
    answer_t *answer;                 /* owned */
    uint64_t call;                    /* open generate or attach; 0: none */
    uint64_t prompt_fence;            /* of the prompt that is being built */
    svc_str ready;  /* the prompt came with the question; set only inside answers_begin */
    bool has_begun; /* its first call or search is made once */
    char trace
        [PROTO_TRACE_BYTES]; /* of the question, for the log and the calls to llm-svc */
    uint64_t born;           /* looks that had begun when it was added */
    uint64_t seen;           /* number of the last look that has seen it among ours */
    bool is_doubted;         /* the last whole look has not: its row is to be read */
    bool has_trace;          /* there is one */
    bool
        is_own_trace; /* it is not the question's, which is not known until an llm-svc tells it */
} live_t;

struct answers {
    svc_ctx_t *ctx;              /* borrowed */
    svc_server_t *server;        /* borrowed, has the watchers' calls */
    svc_pool_t *writer, *reader; /* borrowed */
    svc_peers_t *llm;            /* borrowed */
    const atomic_uint_least64_t
        *away_ms; /* borrowed, 0 while the database is there; NULL: always */
    bool (*admits)(const void *arg); /* may anybody watch here? NULL: always */
    const void *admits_arg;          /* borrowed; for admits */
    svc_table_t by_handle;           /* owns the live_t */
    svc_table_t by_conversation;     /* the same ones */
    live_t *by_stream[ANSWERS_BUCKETS];
    live_t *first;                   /* of all */
    svc_buf_t out;                   /* an encoded job */
    proto_arena_t *arena;            /* owned; of results */
    uint64_t lost[ANSWERS_LOST_MAX]; /* a ring; 0: nothing */
    uint64_t looks;                  /* begun so far */
    size_t next_lost;                /* place in it */
    uint64_t handles;                /* source of handles */
    uint64_t timer;                  /* of the tick */
};

/* What every answer of the table uses; `arg` is its live_t. */
extern const answer_out_t answers_out;

/* Names the question (PROTO_TRACE_BYTES) that the answer belongs to. */
void answers_set_trace(live_t *live, svc_str trace);

/* Sends the prompt that came with the question, if the answer wants it. */
void answers_send_ready(live_t *live);

/* Takes an answer that is over out of the table and frees it. */
void answers_sweep(answers_t *self, live_t *live);

#endif
