/* answer.h - one live answer: its state, its generation, its journal and those who watch it.
 *
 *   WAIT --llm up--> PROMPT --sent--> CALL --FINAL--> END --committed--> OVER
 *    ^                                 | ^
 *    |                          down   v |  up again: attach
 *    |                                AWAY
 *    |                                 |  lost
 *    +--RESTART (waiting, in time)-----+------> TAIL (streaming) --1 s--> END
 *
 * Pure logic: what it wants done goes out through a table of functions, what has happened comes in
 * by the answer_on_ functions. The database is the truth: a state is told to anybody only after
 * its commit, and at most one step of an answer is being committed at a time.
 *
 * Thread: the loop's. */
#ifndef ANSWER_H
#define ANSWER_H

#include "convo_jobs.h"

#define ANSWER_RESTART_MS 120000 /* after the question no new generation begins */
#define ANSWER_TAIL_MS    1000   /* after a loss: how long tails are taken */
#define ANSWER_TAIL_MAX_BYTES \
    (256u << 10) /* nobody was shown more past the journal than 64 KB */
#define ANSWER_RETRY_MS \
    1000 /* after a busy queue, a full disk, a refusal; and between two llm.stop */
#define ANSWER_SILENCE_MS \
    12000 /* an answer of an earlier start whose llm-svc does not come: lost */
#define ANSWER_STOP_WAIT_MS 2000 /* convo.stop is answered by then at the latest */
#define ANSWER_UNSAVED_MS \
    3000 /* a commit that does not come about for so long: watchers are refused */
#define ANSWER_WATCHERS_MAX 1024 /* kept calls of one answer; one more is RC_BUSY */

typedef struct answer answer_t;

/* The llm-svc right now. */
typedef struct {
    bool is_up;        /* it can be called */
    bool takes_work;   /* and begins new generations */
    uint64_t instance; /* of it */
} answer_llm_t;

/* What an answer wants done. `arg` is the one given to answer_new. None of them calls back into the answer but `tell` (answer_unwatch). */
typedef struct {
    /* Commits a step; answer_on_step hears of it. The views are good during the call only. Not RC_OK: it was not taken. */
    svc_rc (*step)(void *arg, const answer_step_t *step);

    /* Commits a new fence; answer_on_restart hears of it. Not RC_OK: it was not taken. */
    svc_rc (*restart)(void *arg, const restart_job_t *job);

    /* Builds the prompt and sends llm.generate; answer_on_generate hears of it. Not RC_OK: it was not taken. */
    svc_rc (*generate)(void *arg, const prompt_job_t *job);

    /* Sends llm.attach; replies come to answer_on_journal. */
    svc_rc (*attach)(void *arg, const attach_req_t *req);

    /* Forgets the open generate or attach call. */
    void (*hang_up)(void *arg);

    /* Post to the llm-svc; lost ones are repeated by whoever misses them. */
    void (*ack)(void *arg, const ack_req_t *req);
    void (*stop)(void *arg, const llm_stop_req_t *req);

    /* Sends a status to a kept call; `is_last` finishes it. A call that turns out to be gone is taken out by answer_unwatch. */
    void (*tell)(void *arg, uint64_t call, const status_rep_t *status, bool is_last);

    /* Finishes a kept call with an error. */
    void (*refuse)(void *arg, uint64_t call, svc_rc rc);

    /* What time it is (monotonic and Unix ms), and how the llm-svc is. */
    uint64_t (*mono_ms)(void *arg);
    uint64_t (*unix_ms)(void *arg);
    answer_llm_t (*llm)(void *arg);

    /* Counts something. */
    void (*count)(void *arg, svc_metric metric);
} answer_out_t;

/* Makes a live answer of an unfinished row (copied). `is_known`: it was asked by this process, so no llm-svc has it yet. Keeps `out`. */
answer_t *answer_new(const answer_row_t *row, bool is_known, const answer_out_t *out,
                     void *arg);

/* Forgets its open call, refuses who still watches (RC_UNAVAILABLE), frees it and sets *self_p to NULL. NULL-safe. */
void answer_destroy(answer_t **self_p);

/* Begins: generates or, of an earlier start, attaches. Once, after answer_new. */
void answer_begin(answer_t *self);

/* Nothing more will happen: its end is stored, it was deleted, or another process has it. */
bool answer_is_over(const answer_t *self);

/* True while a prompt is being built for this fence: only then may llm.generate go out. */
bool answer_is_prompting(const answer_t *self, uint64_t fence);

/* True while a step is being committed: an end that has come meanwhile waits for it. */
bool answer_is_writing(const answer_t *self);

/* True while something is under way that will end or be journaled by itself. */
bool answer_is_busy(const answer_t *self);

/* Getters of what never changes, and the owner of the conversation. */
svc_str answer_stream(const answer_t *self);
uint64_t answer_conversation(const answer_t *self);
uint64_t answer_user(const answer_t *self);

/* Adds a kept call that wants to know every change; it is told the present at once. RC_BUSY: too many;
 * RC_UNAVAILABLE: the database has refused what is to be stored for ANSWER_UNSAVED_MS (those who watch already are
 * refused then, too), so that viewers learn of it when their gateway's patience ends; the answer goes on. */
svc_rc answer_watch(answer_t *self, uint64_t call) SVC_MUST_CHECK;

/* Adds a kept call that wants to know the end, or the present after ANSWER_STOP_WAIT_MS. RC_BUSY likewise. */
svc_rc answer_watch_end(answer_t *self, uint64_t call) SVC_MUST_CHECK;

/* The call is gone. */
void answer_unwatch(answer_t *self, uint64_t call);

/* A stop has been committed. */
void answer_stop(answer_t *self);

/* The conversation has been deleted: ends it for everybody who watches. */
void answer_delete(answer_t *self);

/* Takes what a gateway has shown past the journal. RC_CONFLICT: not lost, or a gap before it; RC_STALE: another fence. */
svc_rc answer_tail(answer_t *self, const tail_req_t *req) SVC_MUST_CHECK;

/* A step or a restart was committed, or not (RC_STALE: the row has moved on; anything else: it did not happen). */
void answer_on_step(answer_t *self, svc_rc rc);
void answer_on_restart(answer_t *self, svc_rc rc);

/* llm.generate was sent, or not: a rc of prompt_build or of the call. */
void answer_on_generate(answer_t *self, svc_rc rc);

/* A reply of the open call. */
void answer_on_journal(answer_t *self, proto_kind kind, svc_rc rc,
                       const journal_rep_t *rep, const error_rep_t *error);

/* The llm-svc came up, went down (nothing is judged), was lost. */
void answer_on_llm_up(answer_t *self);
void answer_on_llm_down(answer_t *self);
void answer_on_llm_lost(answer_t *self);

/* Time has passed; to be called about ten times a second. */
void answer_on_tick(answer_t *self);

/* We stood still ourselves: waits that depend on others begin anew. */
void answer_on_stall(answer_t *self);

#endif
