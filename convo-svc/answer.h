/* answer.h - one live answer: its state, its generation, its journal and those who watch it.
 *
 *   WAIT --llm up--> PROMPT --sent--> CALL --FINAL--> END --committed--> OVER
 *    ^                                 | ^
 *    |                          down   v |  up again: attach
 *    |                                AWAY
 *    |                                 |  lost
 *    +--RESTART (waiting, in time)-----+------> TAIL (streaming) --1 s--> END
 *   any --the row is not as we know it--> LOOK --> OVER: another owner has it, or it was deleted
 *
 * Pure logic: what it wants done goes out through a table of functions, what has happened comes in by the answer_on_
 * functions. The database is the truth: a state is told only after its commit, and one step at a time is being committed.
 * Of many llm-svc it keeps to the one that writes it; one taken over while it waited asks all of them. */
#ifndef ANSWER_H
#define ANSWER_H

#include "convo_jobs.h"

#define ANSWER_RESTART_MS 120000 /* after the question no new generation begins */
#define ANSWER_TAIL_MS    1000   /* after a loss: how long tails are taken */
#define ANSWER_TAKEN_MS \
    5000 /* after a take-over: so long gateways need to find us before they hand in tails */
#define ANSWER_TAIL_AGAIN_MS \
    3000 /* after the database was away: so long gateways need to be let in again */
#define ANSWER_TAIL_MAX_BYTES \
    (256u << 10) /* nobody was shown more past the journal than 64 KB */
#define ANSWER_RETRY_MS \
    1000 /* after a busy queue, a full disk, a refusal; and between two llm.stop */
#define ANSWER_SILENCE_MS \
    12000 /* an answer of an earlier start whose llm-svc does not come: lost */
#define ANSWER_SEARCH_MS \
    500 /* an llm-svc that nobody has named is looked for at least so long */
#define ANSWER_STOP_WAIT_MS 2000 /* convo.stop is answered by then at the latest */
#define ANSWER_UNSAVED_MS \
    3000 /* a commit that does not come about for so long: watchers are refused */
#define ANSWER_WATCHERS_MAX 1024 /* kept calls of one answer; one more is RC_BUSY */

typedef struct answer answer_t;

/* What happens to an answer, for the log. */
typedef enum {
    ANSWER_NOTE_BEGUN, /* a generation was asked for */
    ANSWER_NOTE_LOST, /* its llm-svc is lost, and some of it is stored: tails are taken */
    ANSWER_NOTE_AGAIN,  /* nothing of it was shown: it begins anew */
    ANSWER_NOTE_STORED, /* its end is committed */
    ANSWER_NOTE_LEFT,   /* another process has it */
} answer_note;

/* What an answer wants done. `arg` is the one given to answer_new. None of them calls back into the answer but `tell` (answer_unwatch). */
typedef struct {
    /* Commits a step; answer_on_step hears of it. The views are good during the call only. Not RC_OK: it was not taken. */
    svc_rc (*step)(void *arg, const answer_step_t *step);

    /* Commits a new fence; answer_on_restart hears of it. Not RC_OK: it was not taken. */
    svc_rc (*restart)(void *arg, const restart_job_t *job);

    /* Builds the prompt and sends llm.generate; answer_on_generate hears of it. Not RC_OK: it was not taken. */
    svc_rc (*generate)(void *arg, const prompt_job_t *job);

    /* Sends llm.attach to this llm-svc; replies come to answer_on_journal. */
    svc_rc (*attach)(void *arg, uint64_t llm, const attach_req_t *req);

    /* Forgets the open generate or attach call. */
    void (*hang_up)(void *arg);

    /* Post to this llm-svc; lost ones are repeated by whoever misses them. */
    void (*ack)(void *arg, uint64_t llm, const ack_req_t *req);
    void (*stop)(void *arg, uint64_t llm, const llm_stop_req_t *req);

    /* Commits that a stop is wanted; answer_stop follows. Not RC_OK: it was not taken. */
    svc_rc (*want_stop)(void *arg);

    /* Reads the row; answer_on_row hears of it. Not RC_OK: it was not taken. */
    svc_rc (*look)(void *arg);

    /* Sends a status to a kept call; `is_last` finishes it. A call that turns out to be gone is taken out by answer_unwatch. */
    void (*tell)(void *arg, uint64_t call, const status_rep_t *status, bool is_last);

    /* Finishes a kept call with an error. */
    void (*refuse)(void *arg, uint64_t call, svc_rc rc);

    /* What time it is (monotonic and Unix ms). */
    uint64_t (*mono_ms)(void *arg);
    uint64_t (*unix_ms)(void *arg);

    /* Does any llm-svc begin new generations? Is this one up? Was it lost, and has not come back? The next one that is up:
     * the smallest instance above `after`, 0 when there is none. */
    bool (*takes_work)(void *arg);
    bool (*is_up)(void *arg, uint64_t llm);
    bool (*is_lost)(void *arg, uint64_t llm);
    uint64_t (*next_llm)(void *arg, uint64_t after);

    /* May anybody watch here at present? Not while we may not be the owner any more: who has shown more than is stored hears of a
     * loss elsewhere, or not yet. */
    bool (*admits)(void *arg);

    /* How long an answer that ends with its last viewer goes on without one, ms. */
    uint64_t (*alone_ms)(void *arg);

    /* Counts something. */
    void (*count)(void *arg, svc_metric metric);

    /* Tells the log. `status` (its views good during the call) is what watchers would be told. */
    void (*note)(void *arg, answer_note what, const status_rep_t *status,
                 uint64_t attempt);
} answer_out_t;

/* What a row says to those who watch; its views are the row's. */
status_rep_t answer_status(const answer_row_t *row);

/* Makes a live answer of an unfinished row (copied). `is_known`: it was asked by this process just now, so no llm-svc has it yet;
 * else it was taken over. Keeps `out`. */
answer_t *answer_new(const answer_row_t *row, bool is_known, const answer_out_t *out,
                     void *arg);

/* Forgets its open call, refuses who still watches (RC_UNAVAILABLE), frees it and sets *self_p to NULL. NULL-safe. */
void answer_destroy(answer_t **self_p);

/* Begins: generates or, if it was taken over, attaches. Once, after answer_new. */
void answer_begin(answer_t *self);

/* Nothing more will happen: its end is stored, it was deleted, or another process has it. */
bool answer_is_over(const answer_t *self);

/* True while a prompt is being built for this fence: only then may llm.generate go out. */
bool answer_is_prompting(const answer_t *self, uint64_t fence);

/* True while a step is being committed: an end that has come meanwhile waits for it. */
bool answer_is_writing(const answer_t *self);

/* True while something is under way that will end or be journaled by itself. */
bool answer_is_busy(const answer_t *self);

/* Getters of what never changes: the owner of the conversation is its user. */
svc_str answer_stream(const answer_t *self);
uint64_t answer_conversation(const answer_t *self);
uint64_t answer_user(const answer_t *self);
uint64_t answer_term(const answer_t *self);

/* Adds a kept call that wants to know every change; it is told the present at once. RC_BUSY: too many;
 * RC_UNAVAILABLE: the database has refused what is to be stored for ANSWER_UNSAVED_MS (those who watch already are
 * refused then, too), so that viewers learn of it when their gateway's patience ends; the answer goes on. */
svc_rc answer_watch(answer_t *self, uint64_t call) SVC_MUST_CHECK;

/* Adds a kept call that wants to know the end, or the present after ANSWER_STOP_WAIT_MS. RC_BUSY likewise. */
svc_rc answer_watch_end(answer_t *self, uint64_t call) SVC_MUST_CHECK;

/* The call is gone. */
void answer_unwatch(answer_t *self, uint64_t call);

/* Calls fn for each call that wants to know every change; fn may take that one out. */
void answer_each_watcher(answer_t *self, void (*fn)(void *arg, uint64_t call), void *arg);

/* A stop has been committed; more than once is harmless. */
void answer_stop(answer_t *self);

/* The conversation has been deleted: ends it for everybody who watches. */
void answer_delete(answer_t *self);

/* Takes what a gateway has shown past the journal. RC_CONFLICT: not lost, or a gap before it; RC_STALE: another fence. */
svc_rc answer_tail(answer_t *self, const tail_req_t *req) SVC_MUST_CHECK;

/* The answer is no longer ours: forgets it, and tells its watchers to ask again (RC_STALE). */
void answer_give_up(answer_t *self);

/* The row need not be as we know it any more: reads it, to see who has it, before anything else is done. */
void answer_begin_look(answer_t *self);

/* The database does not count it among ours: looks why. */
void answer_doubt(answer_t *self);

/* The row as it is now: somebody else's, ended, or still ours. RC_NOT_FOUND: it was deleted. Anything else: it could not be read. */
void answer_on_row(answer_t *self, svc_rc rc, const answer_row_t *row);

/* A step or a restart was committed, or not (RC_STALE: the row has moved on; anything else: it did not happen). */
void answer_on_step(answer_t *self, svc_rc rc);
void answer_on_restart(answer_t *self, svc_rc rc);

/* llm.generate was sent to this llm-svc, or not: a rc of prompt_build or of the call. */
void answer_on_generate(answer_t *self, svc_rc rc, uint64_t llm);

/* A reply of the open call. */
void answer_on_journal(answer_t *self, proto_kind kind, svc_rc rc,
                       const journal_rep_t *rep, const error_rep_t *error);

/* An llm-svc came up, went down (of what has been shown nothing is judged), was lost. */
void answer_on_llm_up(answer_t *self, uint64_t llm);
void answer_on_llm_down(answer_t *self, uint64_t llm);
void answer_on_llm_lost(answer_t *self, uint64_t llm);

/* Time has passed; to be called about ten times a second. */
void answer_on_tick(answer_t *self);

/* We stood still ourselves: waits that depend on others begin anew. */
void answer_on_stall(answer_t *self);

#endif
