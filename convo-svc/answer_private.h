/* answer_private.h - what the parts of a live answer share.
 *
 * Private to answer.c (life, watchers, ownership, time), answer_llm.c (generation, loss) and
 * answer_journal.c (pieces, steps and the end): everybody else sees answer.h. The struct stands here with its phases; what
 * a phase means for its fields is told beside them. Thread: the loop's. */
#ifndef ANSWER_PRIVATE_H
#define ANSWER_PRIVATE_H

#include "answer.h"

typedef enum {
    PHASE_WAIT,    /* no generation: waits for an llm-svc, or until retry_ms */
    PHASE_PROMPT,  /* the prompt is being built */
    PHASE_CALL,    /* a generate or attach call is open */
    PHASE_AWAY,    /* its llm-svc is down, not yet found, or refused just now */
    PHASE_RESTART, /* a new fence is being committed, or will be at retry_ms */
    PHASE_TAIL,    /* lost: tails are taken until tail_ms */
    PHASE_END,     /* `end` is being committed, or will be at retry_ms */
    PHASE_LOOK, /* the row is not as we know it: it is being read, or will be at retry_ms */
    PHASE_OVER /* nothing more */
} answer_phase;

/* How it ends, kept until that is committed. */
typedef struct {
    int state;       /* a terminal answer_state */
    uint64_t from;   /* offset of bytes */
    svc_buf_t bytes; /* the last piece */
    char *finish;    /* owned, NULL: empty */
    usage_t usage;
    char *reason, *text; /* owned, NULL: empty */
    uint64_t retry_after_s;
    bool is_loss; /* after PHASE_TAIL: what is shown now is stored by nobody */
} answer_end_t;

typedef struct {
    uint64_t call;     /* handle of the kept call */
    uint64_t until_ms; /* monotonic; 0: wants every change */
} watcher_t;

struct answer {
    char stream[PROTO_STREAM_BYTES];
    uint64_t user, conversation, message, asked_ms, term, owner; /* as in the row */
    const answer_out_t *out;                                     /* borrowed */
    void *arg;                                                   /* for out */
    watcher_t *watchers;                                         /* owned */
    size_t n_watchers, cap_watchers;
    answer_phase phase;
    int state;               /* as committed */
    uint64_t fence, attempt; /* as committed */
    uint64_t next_fence;     /* of PHASE_RESTART */
    uint64_t length;         /* as committed */
    bool stop_wanted;        /* as committed */
    bool stop_alone;         /* it is stopped when nobody has watched it for a while */
    bool
        is_generate; /* the open call, or the one that was refused: generate, not attach */
    bool is_writing; /* a step is being committed */
    bool is_lost;    /* its llm-svc was lost while a step was being committed */
    bool
        is_blind; /* PHASE_TAIL: the database is away, and with it those who watch: looked at retry_ms */
    size_t writing_n;   /* bytes of that step */
    int writing_state;  /* next_state of that step */
    uint64_t llm;       /* instance that has its text, as far as we know; 0: none */
    bool is_searching;  /* which one has it is not known: `llm` is being asked */
    uint64_t asked_llm; /* while it is searched: all up to this instance were asked */
    uint64_t search_ms; /* monotonic: from then on "nobody has it" is believed */
    uint64_t left_llm, left_fence; /* what was left behind by a restart; 0: nothing */
    uint64_t
        unsaved_ms; /* monotonic: since when a commit has not come about; 0: none is wanted */
    uint64_t retry_ms; /* monotonic: when to try again; 0: not */
    uint64_t stop_ms;  /* monotonic: when llm.stop goes out again */
    uint64_t gap_ms;   /* monotonic: when a gap was answered last */
    uint64_t
        alone_ms; /* monotonic: nobody watches since then, though he might; 0: somebody does */
    uint64_t
        silence_ms; /* monotonic: from then on an llm-svc that is not up counts as lost; 0: not */
    uint64_t tail_ms;  /* monotonic: end of PHASE_TAIL */
    uint64_t taken_ms; /* monotonic: when it was taken over; 0: it was asked here */
    svc_buf_t tail;    /* what gateways handed in, from `length` on */
    answer_end_t end;  /* of PHASE_END and PHASE_OVER */
};

/* Tries again in ANSWER_RETRY_MS what the present phase wants. */
static inline void
answer_retry_later(answer_t *self)
{
    self->retry_ms = self->out->mono_ms(self->arg) + ANSWER_RETRY_MS;
}

/* Something is to be committed now; answer_on_step and answer_on_restart clear unsaved_ms when it was. */
static inline void
answer_wants_commit(answer_t *self)
{
    if (self->unsaved_ms == 0)
        self->unsaved_ms = self->out->mono_ms(self->arg);
}

/* Forgets the open call, if there is one. */
void answer_hang_up(answer_t *self);

/* Opens a call that goes on at `length`, now or when its llm-svc is there. */
void answer_attach(answer_t *self);

/* Until when tails are taken of an answer whose llm-svc is lost now. */
uint64_t answer_tail_until(const answer_t *self);

/* Nothing of it has been shown, and it may be generated again. */
bool answer_may_restart(const answer_t *self);

/* Its llm-svc is lost: decides what becomes of it. */
void answer_judge(answer_t *self);

/* Tells the log. */
void answer_note_it(const answer_t *self, answer_note what);

/* Tells a change to those who want every one; the end to all. */
void answer_tell_change(answer_t *self);
void answer_tell_end(answer_t *self);

/* Begins a generation when it can; in PHASE_WAIT. */
void answer_try_start(answer_t *self);

/* Commits a new fence, or tries it again. */
void answer_try_restart(answer_t *self);

/* In PHASE_AWAY: attaches to its llm-svc, or goes on asking who that is. */
void answer_find(answer_t *self);

/* While it is searched: the llm-svc that was asked does not have it. `again`: it had no time, and is asked again later. */
void answer_ask_next(answer_t *self, bool again);

/* Tells its llm-svc what is committed (`stored`: the end, too), or to stop. */
void answer_acknowledge(answer_t *self, bool stored);
void answer_post_stop(answer_t *self);

/* Empties `end`. */
void answer_clear_end(answer_t *self);

/* Fills `end` without a FINAL of the llm-svc: stopped, or interrupted for a reason. */
void answer_set_end(answer_t *self, int state, svc_rc reason, svc_str text);

/* Ends the answer in one of these two ways. */
void answer_end_stopped(answer_t *self);
void answer_end_interrupted(answer_t *self, svc_rc reason, const char *text);

/* Commits the end, unless a step is under way or bytes before it are missing. */
void answer_try_end(answer_t *self);

/* In PHASE_TAIL: the database is away. The time for tails begins when it can be read again. */
void answer_wait_blind(answer_t *self);

/* The end of a loss cannot be committed since the database is away: back to PHASE_TAIL with what there is. */
void answer_tail_again(answer_t *self);

/* Ends PHASE_TAIL with what was handed in. */
void answer_end_tail(answer_t *self);

#endif
