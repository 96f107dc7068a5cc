/* model.h - the stream protocol in the small: one answer, and all that may happen to it.
 *
 * One row in the database, two replicas of convo-svc, one generation for each fence, two
 * viewers. A state is a few bytes; a step is what one function of the code does in one go. What
 * a message carries is read when it is handled, and whatever may come late may come at any time
 * or never, so no queue is needed. Texts are two bytes long, and each byte knows whose text it
 * is. README.md says what is left out, and why that is safe. */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum {
    N_REPLICAS = 2,
    N_FENCES = 3,
    N_VIEWERS = 2,
    TEXT = 2,
    AHEAD = 1,
    NOBODY = N_REPLICAS
};

/* answer_state of the row; waiting and streaming are told apart by its length. */
enum { ROW_OPEN, ROW_COMPLETE, ROW_STOPPED, ROW_INTERRUPTED };

/* The row of table answer. Text is its sources: text[k] is the fence that byte k is of. */
typedef struct {
    uint8_t state, term, fence, length, text[TEXT];
    uint8_t stop;  /* stop_wanted */
    uint8_t owner; /* a replica, or NOBODY: the instance that stands there is gone */
} row_t;

/* answer_phase; GONE: no answer here, PROMPT is part of WAIT. */
enum { GONE, WAIT, CALL, AWAY, RESTART, TAIL, END };

/* What the writer has, and what has become of it. */
enum { JOB_NONE, JOB_PIECE, JOB_END, JOB_RESTART };
enum { SUBMITTED, COMMITTED, STALE };

/* A replica of convo-svc and what it knows of the answer: answer_t. */
typedef struct {
    uint8_t phase, term, fence, length, stop;
    uint8_t given_up;           /* its llm-svc was lost while streaming */
    uint8_t job, job_is;        /* at most one step is being committed */
    uint8_t piece_to, piece_of; /* JOB_PIECE: new length, whose text */
    uint8_t end, end_to,
        end_of; /* END: state, length, whose text; TAIL: what was handed in */
} replica_t;

enum { UNBORN, RUNS, DEAD };

/* The generation of a fence, on an llm-svc: generation_t. */
typedef struct {
    uint8_t is, term, call; /* call: the replica that it journals to, or NOBODY */
    uint8_t total, acked, released;
    uint8_t ended; /* ROW_OPEN: no, else how */
} generation_t;

enum { UNHEARD, HEARD, ENDED, FAILED };
enum {
    ROW_ONLY = 9
}; /* viewer_t.lost: no owner has been heard yet, so only the journal counts */

/* A gateway's feed and its viewer. What a feed holds is shown as soon as it has heard a status. */
typedef struct {
    uint8_t is, fence, end, text[TEXT];
    uint8_t lost;   /* term of the owner that said `lost`; 0: not lost */
    uint8_t length; /* of the status; 0 unless lost or ENDED */
} viewer_t;

typedef struct {
    row_t row;
    replica_t replica[N_REPLICAS];
    generation_t generation[N_FENCES]; /* of fence f: [f - 1] */
    viewer_t viewer[N_VIEWERS];
} state_t;

/* What the code must not do without; each can be taken out. */
typedef struct {
    bool no_gate, no_fence, no_term;
    bool stale_tells; /* an owner whose lease is over still tells what it thinks */
    bool
        row_counts; /* a status of a replica that is not the owner counts like the owner's */
    bool end_unloses; /* after the tails have been taken, `lost` is not told any more */
    bool no_adopt;    /* a take-over whose reply is lost is not looked for */
    bool
        lost_shows; /* a first status that says `lost` lets text be shown that was held before it */
    unsigned terms;   /* how often the answer may change its owner, plus one */
    unsigned viewers; /* 1..N_VIEWERS */
} rules_t;

/* Successors leave by this: `step` is the index of what happened, `who` its actor. `is_fair`: it comes about by itself as long
 * as everything is up; else it is a fault, or something that nobody is bound to do. */
typedef struct visit visit_t;
typedef void visit_fn(visit_t *visit, const state_t *next, unsigned step, unsigned who,
                      bool is_fair);

struct visit {
    const rules_t *rules;
    const state_t *from;
    visit_fn *fn;
    void *arg;
    unsigned step;      /* being enumerated */
    const char *broken; /* set when the step itself is against the rules */
};

/* How an answer begins: it is asked, and its row is committed. */
state_t model_begin(void);

/* Calls visit->fn for everything that may happen next. */
void model_next(visit_t *visit);

/* What is wrong with this state; NULL: nothing. */
const char *model_wrong(const state_t *state);

/* What is wrong with this step; NULL: nothing. */
const char *model_wrong_step(const state_t *from, const state_t *to);

/* The answer has ended, and everybody who watches knows all of it. */
bool model_is_over(const state_t *state);

/* What a step is called; its actor is 'c' (a replica of convo-svc), 'g' (a generation), 'v' (a viewer). */
const char *model_step(unsigned step, char *actor);

/* Prints a step and the state that it leads to, as one line each. */
void model_print(unsigned step, unsigned who, const state_t *state);

#endif
