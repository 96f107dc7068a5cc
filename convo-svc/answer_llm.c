/* answer_llm.c - one live answer: the generation that writes it, found, begun, attached to, lost.
 *
 * A generation begins only from PHASE_WAIT, and only a waiting answer is ever generated again:
 * nothing of it has been shown to anybody, since no llm-svc shows what was never journaled. That
 * makes a new fence safe even while the old text is still being written somewhere. So one that
 * waits does not wait for an llm-svc that is down while another one takes work; what has been
 * shown is judged only when its llm-svc is lost. Thread: the loop's. */
#include "answer_private.h"

/* --- beginning -------------------------------------------------------------------------------- */

static bool
is_too_late(const answer_t *self)
{
    uint64_t now = self->out->unix_ms(self->arg);

    return now > self->asked_ms && now - self->asked_ms >= ANSWER_RESTART_MS;
}

void
answer_try_start(answer_t *self)
{
    prompt_job_t job = {answer_stream(self), self->fence};

    self->retry_ms = 0;
    if (self->stop_wanted) {
        answer_end_stopped(self);
    } else if (is_too_late(self)) {
        answer_end_interrupted(self, RC_UNAVAILABLE,
                               "No service was there to write the answer.");
    } else if (self->out->takes_work(self->arg) &&
               self->out->generate(self->arg, &job) == RC_OK) {
        self->is_generate = true;
        self->phase = PHASE_PROMPT;
    } else {
        answer_retry_later(self);
    }
}

void
answer_on_generate(answer_t *self, svc_rc rc, uint64_t llm)
{
    if (self->phase != PHASE_PROMPT)
        return;
    switch (rc) {
    case RC_OK:
        self->phase = PHASE_CALL;
        self->llm = llm;
        self->stop_ms = 0;
        answer_note_it(self, ANSWER_NOTE_BEGUN);
        break;
    case RC_UNAVAILABLE:
    case RC_BUSY:
        self->phase = PHASE_WAIT;
        answer_retry_later(self);
        break;
    case RC_NOT_FOUND:
    case RC_STALE: answer_begin_look(self); break;
    case RC_TOO_BIG:
        answer_end_interrupted(self, rc, "The conversation is too long.");
        break;
    default:
        answer_end_interrupted(self, RC_INTERNAL, "The prompt could not be made.");
        break;
    }
}

void
answer_begin(answer_t *self)
{
    if (self->phase == PHASE_WAIT)
        answer_try_start(self);
    else
        answer_find(self);
}

/* --- attaching, searching --------------------------------------------------------------------- */

/* Opens a call to `llm` that goes on at `length`. */
static svc_rc
call_attach(answer_t *self, uint64_t llm)
{
    attach_req_t req = {answer_stream(self), self->fence, self->term, self->length};
    svc_rc rc = self->out->attach(self->arg, llm, &req);

    if (rc == RC_OK) {
        self->llm = llm;
        self->stop_ms = 0;
        self->phase = PHASE_CALL;
    }
    return rc;
}

/* From now on an llm-svc that is not there has ANSWER_SILENCE_MS to come. */
static void
expect_llm(answer_t *self)
{
    if (self->silence_ms == 0)
        self->silence_ms = self->out->mono_ms(self->arg) + ANSWER_SILENCE_MS;
}

void
answer_attach(answer_t *self)
{
    answer_hang_up(self);
    self->is_generate = false;
    self->retry_ms = 0;
    self->phase = PHASE_AWAY;
    if (self->out->is_lost(self->arg, self->llm))
        answer_judge(self);
    else if (!self->out->is_up(self->arg, self->llm))
        expect_llm(self);
    else if (call_attach(self, self->llm) != RC_OK)
        answer_retry_later(self);
}

/* Asks the next llm-svc whether it has the answer. When all that are up have been asked, and had the time to come up at
 * all: nobody has it. */
static void
search_on(answer_t *self)
{
    uint64_t llm = self->out->next_llm(self->arg, self->asked_llm);

    answer_hang_up(self);
    self->phase = PHASE_AWAY;
    self->retry_ms = 0;
    self->llm = 0;
    if (llm != 0 && call_attach(self, llm) == RC_OK)
        self->asked_llm = llm;
    else if (llm != 0)
        answer_retry_later(self);
    else if (self->asked_llm == 0)
        expect_llm(self);
    else if (self->out->mono_ms(self->arg) < self->search_ms)
        self->retry_ms = self->search_ms;
    else
        answer_judge(self);
}

void
answer_ask_next(answer_t *self, bool again)
{
    if (again) {
        self->asked_llm = self->llm - 1; /* it had no time for us */
        self->phase = PHASE_AWAY;
        self->llm = 0;
        answer_retry_later(self);
    } else {
        search_on(self);
    }
}

void
answer_find(answer_t *self)
{
    if (self->llm == 0 && !self->is_searching) {
        self->is_searching = true;
        self->asked_llm = 0;
        self->search_ms = self->out->mono_ms(self->arg) + ANSWER_SEARCH_MS;
    }
    self->is_generate = false;
    if (self->is_searching)
        search_on(self);
    else
        answer_attach(self);
}

/* --- loss ------------------------------------------------------------------------------------- */

bool
answer_may_restart(const answer_t *self)
{
    return self->state == ANSWER_WAITING && !self->stop_wanted &&
           self->attempt < CONVO_ATTEMPTS_MAX && !is_too_late(self);
}

void
answer_try_restart(answer_t *self)
{
    restart_job_t job = {
        .stream = answer_stream(self),
        .term = self->term,
        .fence = self->fence,
        .new_fence = convo_fence(self->attempt + 1),
        .attempt = self->attempt + 1,
    };

    self->phase = PHASE_RESTART;
    self->retry_ms = 0;
    answer_wants_commit(self);
    if (self->out->restart(self->arg, &job) != RC_OK)
        answer_retry_later(self);
    else
        self->next_fence = job.new_fence;
}

uint64_t
answer_tail_until(const answer_t *self)
{
    uint64_t until = self->out->mono_ms(self->arg) + ANSWER_TAIL_MS;
    uint64_t found = self->taken_ms + ANSWER_TAKEN_MS;

    return self->taken_ms != 0 && found > until ? found : until;
}

/* Its llm-svc is lost: decides what becomes of it. */
void
answer_judge(answer_t *self)
{
    answer_hang_up(self);
    self->phase = PHASE_AWAY;
    self->retry_ms = 0;
    self->silence_ms = 0;
    self->is_searching = false;
    self->is_lost = self->is_writing;
    if (self->is_lost)
        return;
    if (self->state == ANSWER_STREAMING) {
        self->phase = PHASE_TAIL;
        self->is_blind = false;
        self->tail_ms = answer_tail_until(self);
        svc_buf_clear(&self->tail);
        if (self->unsaved_ms != 0)
            answer_wait_blind(self);
        self->unsaved_ms = 0; /* gateways that were refused must hear of the loss */
        answer_note_it(self, ANSWER_NOTE_LOST);
        answer_tell_change(self);
    } else if (self->stop_wanted) {
        answer_end_stopped(self);
    } else if (answer_may_restart(self)) {
        answer_try_restart(self);
    } else {
        answer_end_interrupted(self, RC_LOST,
                               "The process that wrote the answer was lost.");
    }
}

/* An llm-svc that was left behind is there, and may still be writing for nobody. */
static void
clean_up(answer_t *self)
{
    llm_stop_req_t stop = {answer_stream(self), self->left_fence, self->term};
    ack_req_t ack = {answer_stream(self), self->left_fence, self->term, 0, true};

    self->out->stop(self->arg, self->left_llm, &stop);
    self->out->ack(self->arg, self->left_llm, &ack);
    self->left_llm = 0;
}

void
answer_on_restart(answer_t *self, svc_rc rc)
{
    if (self->phase != PHASE_RESTART)
        return;
    if (rc == RC_STALE) {
        self->out->count(self->arg, SVC_M_STEPS_FENCED);
        answer_begin_look(self);
    } else if (rc != RC_OK) {
        answer_retry_later(self);
    } else {
        self->out->count(self->arg, SVC_M_GENERATIONS_RESTARTED);
        self->unsaved_ms = 0;
        self->left_llm = self->llm;
        self->left_fence = self->fence;
        self->fence = self->next_fence;
        self->attempt++;
        answer_note_it(self, ANSWER_NOTE_AGAIN);
        self->llm = 0;
        if (self->left_llm != 0 && self->out->is_up(self->arg, self->left_llm))
            clean_up(self); /* it drains, and waits for somebody to take what it has */
        self->phase = PHASE_WAIT;
        answer_tell_change(self);
        answer_try_start(self);
    }
}

void
answer_on_llm_up(answer_t *self, uint64_t llm)
{
    if (self->left_llm == llm)
        clean_up(self);
    if (self->is_searching && llm <= self->asked_llm)
        self->asked_llm = 0; /* it was not there when its turn was */
    if (self->phase == PHASE_WAIT) {
        answer_try_start(self);
    } else if (self->phase == PHASE_AWAY && !self->is_lost &&
               (self->is_searching || self->llm == llm)) {
        self->silence_ms = 0;
        answer_find(self);
    }
}

void
answer_on_llm_down(answer_t *self, uint64_t llm)
{
    if (self->llm != llm || (self->phase != PHASE_CALL && self->phase != PHASE_AWAY))
        return;
    answer_hang_up(self);
    self->phase = PHASE_AWAY;
    self->retry_ms = 0;
    if (self->is_searching)
        search_on(self);
    else if (!self->is_writing && answer_may_restart(self) &&
             self->out->takes_work(self->arg))
        answer_judge(self);
    else
        expect_llm(self);
}

void
answer_on_llm_lost(answer_t *self, uint64_t llm)
{
    if (self->llm != llm || (self->phase != PHASE_CALL && self->phase != PHASE_AWAY))
        return;
    if (self->is_searching)
        answer_find(self);
    else
        answer_judge(self);
}
