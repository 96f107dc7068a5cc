/* answer.c - one live answer: its generation, its loss, and those who watch it.
 *
 * The journal and the end stand in answer_journal.c. Every function that may end the answer
 * leaves it in PHASE_OVER; its owner removes it then. A generation begins only from PHASE_WAIT, and
 * only a waiting answer is ever generated again: nothing of it has been shown to anybody. */
#include "answer_private.h"

#include <stdlib.h>

static void try_start(answer_t *self);

/* --- life ------------------------------------------------------------------------------------- */

answer_t *
answer_new(const answer_row_t *row, bool is_known, const answer_out_t *out, void *arg)
{
    answer_t *self = svc_alloc(sizeof(*self));

    SVC_ASSERT(row->stream.n == PROTO_STREAM_BYTES &&
               !answer_state_is_terminal(row->state));
    memcpy(self->stream, row->stream.p, sizeof(self->stream));
    self->user = row->user;
    self->conversation = row->conversation;
    self->message = row->message;
    self->asked_ms = row->asked_ms;
    self->term = row->term;
    self->out = out;
    self->arg = arg;
    self->phase = is_known ? PHASE_WAIT : PHASE_AWAY;
    self->state = row->state;
    self->fence = row->fence;
    self->attempt = row->attempt;
    self->length = row->length;
    self->stop_wanted = row->stop_wanted;
    svc_buf_init(&self->tail, ANSWER_TAIL_MAX_BYTES);
    svc_buf_init(&self->end.bytes, PROTO_PIECE_MAX_BYTES);
    return self;
}

/* Finishes every kept call with an error. */
static void
refuse_all(answer_t *self, svc_rc rc)
{
    size_t n = self->n_watchers;

    self->n_watchers = 0;
    for (size_t i = 0; i < n; i++)
        self->out->refuse(self->arg, self->watchers[i].call, rc);
}

void
answer_hang_up(answer_t *self)
{
    if (self->phase == PHASE_CALL)
        self->out->hang_up(self->arg);
}

void
answer_destroy(answer_t **self_p)
{
    answer_t *self = *self_p;

    if (self == NULL)
        return;
    answer_hang_up(self);
    refuse_all(self, RC_UNAVAILABLE);
    answer_clear_end(self);
    svc_buf_fini(&self->end.bytes);
    svc_buf_fini(&self->tail);
    free(self->watchers);
    free(self);
    *self_p = NULL;
}

bool
answer_is_over(const answer_t *self)
{
    return self->phase == PHASE_OVER;
}

bool
answer_is_prompting(const answer_t *self, uint64_t fence)
{
    return self->phase == PHASE_PROMPT && self->fence == fence;
}

bool
answer_is_writing(const answer_t *self)
{
    return self->is_writing;
}

bool
answer_is_busy(const answer_t *self)
{
    return self->phase != PHASE_WAIT && self->phase != PHASE_AWAY &&
           self->phase != PHASE_OVER;
}

svc_str
answer_stream(const answer_t *self)
{
    return (svc_str){self->stream, sizeof(self->stream)};
}

uint64_t
answer_conversation(const answer_t *self)
{
    return self->conversation;
}

uint64_t
answer_user(const answer_t *self)
{
    return self->user;
}

/* --- watchers --------------------------------------------------------------------------------- */

static status_rep_t
status_of(const answer_t *self)
{
    status_rep_t status = {
        .stream = answer_stream(self),
        .message = self->message,
        .state = self->state,
        .length = self->length,
        .fence = self->fence,
        .lost = self->phase == PHASE_TAIL,
    };

    if (answer_state_is_terminal(self->state)) {
        status.finish = svc_str_c(self->end.finish);
        status.usage = self->end.usage;
        status.reason = svc_str_c(self->end.reason);
        status.text = svc_str_c(self->end.text);
        status.retry_after_s = self->end.retry_after_s;
    }
    return status;
}

/* Tells a change to those who want every one. A call may turn out to be gone and be taken out meanwhile: from the back,
 * since the last one takes its place. */
void
answer_tell_change(answer_t *self)
{
    status_rep_t status = status_of(self);

    for (size_t i = self->n_watchers; i-- > 0;)
        if (self->watchers[i].until_ms == 0)
            self->out->tell(self->arg, self->watchers[i].call, &status, false);
}

void
answer_tell_end(answer_t *self)
{
    status_rep_t status = status_of(self);
    size_t n = self->n_watchers;

    self->n_watchers = 0;
    for (size_t i = 0; i < n; i++)
        self->out->tell(self->arg, self->watchers[i].call, &status, true);
}

static svc_rc
add_watcher(answer_t *self, uint64_t call, uint64_t until_ms)
{
    if (self->n_watchers == ANSWER_WATCHERS_MAX)
        return RC_BUSY;
    if (self->n_watchers == self->cap_watchers) {
        size_t cap = self->cap_watchers == 0 ? 4 : self->cap_watchers * 2;
        watcher_t *more = svc_alloc(cap * sizeof(*more));

        if (self->n_watchers > 0)
            memcpy(more, self->watchers, self->n_watchers * sizeof(*more));
        free(self->watchers);
        self->watchers = more;
        self->cap_watchers = cap;
    }
    self->watchers[self->n_watchers++] = (watcher_t){call, until_ms};
    return RC_OK;
}

/* The database does not take what is to be stored. A status would keep viewers waiting for an end that may never
 * come, so they are refused; what is committed is told again as soon as a commit has worked. */
static bool
is_unsaved(const answer_t *self)
{
    return self->unsaved_ms != 0 &&
           self->out->mono_ms(self->arg) - self->unsaved_ms >= ANSWER_UNSAVED_MS;
}

/* Refuses those who want every change; who wants the end hears of the present in time. */
static void
refuse_watchers(answer_t *self, svc_rc rc)
{
    for (size_t i = self->n_watchers; i-- > 0;) {
        uint64_t call = self->watchers[i].call;

        if (self->watchers[i].until_ms != 0)
            continue;
        answer_unwatch(self, call);
        self->out->refuse(self->arg, call, rc);
    }
}

svc_rc
answer_watch(answer_t *self, uint64_t call)
{
    status_rep_t status = status_of(self);
    svc_rc rc = is_unsaved(self) ? RC_UNAVAILABLE : add_watcher(self, call, 0);

    if (rc == RC_OK)
        self->out->tell(self->arg, call, &status, false);
    return rc;
}

svc_rc
answer_watch_end(answer_t *self, uint64_t call)
{
    return add_watcher(self, call, self->out->mono_ms(self->arg) + ANSWER_STOP_WAIT_MS);
}

void
answer_unwatch(answer_t *self, uint64_t call)
{
    for (size_t i = 0; i < self->n_watchers; i++)
        if (self->watchers[i].call == call) {
            self->watchers[i] = self->watchers[--self->n_watchers];
            return;
        }
}

/* Answers those whose patience is over. */
static void
tell_impatient(answer_t *self, uint64_t now)
{
    status_rep_t status = status_of(self);

    for (size_t i = self->n_watchers; i-- > 0;) {
        uint64_t call = self->watchers[i].call;

        if (self->watchers[i].until_ms == 0 || now < self->watchers[i].until_ms)
            continue;
        answer_unwatch(self, call);
        self->out->tell(self->arg, call, &status, true);
    }
}

/* --- generation ------------------------------------------------------------------------------- */

static bool
is_too_late(const answer_t *self)
{
    uint64_t now = self->out->unix_ms(self->arg);

    return now > self->asked_ms && now - self->asked_ms >= ANSWER_RESTART_MS;
}

/* The answer is no longer ours: the row has moved on without us. */
void
answer_give_up(answer_t *self)
{
    answer_hang_up(self);
    self->phase = PHASE_OVER;
    refuse_all(self, RC_STALE);
}

void
answer_attach(answer_t *self)
{
    attach_req_t req = {answer_stream(self), self->fence, self->term, self->length};
    answer_llm_t llm = self->out->llm(self->arg);

    answer_hang_up(self);
    self->is_generate = false;
    self->retry_ms = 0;
    self->phase = PHASE_AWAY;
    if (!llm.is_up)
        return;
    if (self->out->attach(self->arg, &req) != RC_OK) {
        answer_retry_later(self);
        return;
    }
    self->llm = llm.instance;
    self->stop_ms = 0;
    self->phase = PHASE_CALL;
}

/* Begins a generation when it can; in PHASE_WAIT. */
static void
try_start(answer_t *self)
{
    prompt_job_t job = {answer_stream(self), self->fence};

    self->retry_ms = 0;
    if (self->stop_wanted) {
        answer_end_stopped(self);
    } else if (is_too_late(self)) {
        answer_end_interrupted(self, RC_UNAVAILABLE,
                               "No service was there to write the answer.");
    } else if (self->out->llm(self->arg).takes_work &&
               self->out->generate(self->arg, &job) == RC_OK) {
        self->is_generate = true;
        self->phase = PHASE_PROMPT;
    } else {
        answer_retry_later(self);
    }
}

static void
try_restart(answer_t *self)
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

/* Its llm-svc is lost: decides what becomes of it. */
void
answer_judge(answer_t *self)
{
    answer_hang_up(self);
    self->phase = PHASE_AWAY;
    self->retry_ms = 0;
    self->silence_ms = 0;
    self->is_lost = self->is_writing;
    if (self->is_lost)
        return;
    if (self->state == ANSWER_STREAMING) {
        self->phase = PHASE_TAIL;
        self->tail_ms = self->out->mono_ms(self->arg) + ANSWER_TAIL_MS;
        self->unsaved_ms = 0; /* gateways that were refused must hear of the loss */
        svc_buf_clear(&self->tail);
        answer_tell_change(self);
    } else if (self->stop_wanted) {
        answer_end_stopped(self);
    } else if (self->attempt < CONVO_ATTEMPTS_MAX && !is_too_late(self)) {
        try_restart(self);
    } else {
        answer_end_interrupted(self, RC_LOST,
                               "The process that wrote the answer was lost.");
    }
}

void
answer_on_restart(answer_t *self, svc_rc rc)
{
    if (self->phase != PHASE_RESTART)
        return;
    if (rc == RC_STALE) {
        answer_give_up(self);
    } else if (rc != RC_OK) {
        answer_retry_later(self);
    } else {
        self->out->count(self->arg, SVC_M_GENERATIONS_RESTARTED);
        self->unsaved_ms = 0;
        self->fence = self->next_fence;
        self->attempt++;
        self->llm = 0;
        self->phase = PHASE_WAIT;
        answer_tell_change(self);
        try_start(self);
    }
}

void
answer_on_generate(answer_t *self, svc_rc rc)
{
    if (self->phase != PHASE_PROMPT)
        return;
    switch (rc) {
    case RC_OK:
        self->phase = PHASE_CALL;
        self->llm = self->out->llm(self->arg).instance;
        self->stop_ms = 0;
        break;
    case RC_UNAVAILABLE:
    case RC_BUSY:
        self->phase = PHASE_WAIT;
        answer_retry_later(self);
        break;
    case RC_STALE: answer_give_up(self); break;
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
    if (self->phase == PHASE_WAIT) {
        try_start(self);
        return;
    }
    self->silence_ms = self->out->mono_ms(self->arg) + ANSWER_SILENCE_MS;
    answer_attach(self);
}

void
answer_stop(answer_t *self)
{
    self->stop_wanted = true;
    self->stop_ms = 0;
    if (self->phase == PHASE_WAIT || self->phase == PHASE_PROMPT)
        answer_end_stopped(self);
    else
        answer_on_tick(self);
}

void
answer_delete(answer_t *self)
{
    llm_stop_req_t stop = {answer_stream(self), self->fence, self->term};
    ack_req_t ack = {answer_stream(self), self->fence, self->term, self->length, true};

    /* An llm-svc that still has text of it writes on and keeps it without this, call or no call; one that is away
     * does not get it. */
    if (self->llm != 0) {
        self->out->stop(self->arg, &stop);
        self->out->ack(self->arg, &ack);
    }
    answer_hang_up(self);
    answer_set_end(self, ANSWER_INTERRUPTED, RC_DELETED,
                   SVC_LIT("The conversation was deleted."));
    self->phase = PHASE_OVER;
    self->state = ANSWER_INTERRUPTED;
    answer_tell_end(self);
}

/* --- loss and time ---------------------------------------------------------------------------- */

void
answer_on_llm_up(answer_t *self)
{
    self->silence_ms = 0;
    if (self->phase == PHASE_WAIT)
        try_start(self);
    else if (self->phase == PHASE_AWAY && !self->is_lost)
        answer_attach(self);
}

void
answer_on_llm_down(answer_t *self)
{
    if (self->phase != PHASE_CALL)
        return;
    answer_hang_up(self);
    self->phase = PHASE_AWAY;
    self->retry_ms = 0;
}

void
answer_on_llm_lost(answer_t *self)
{
    if (self->phase == PHASE_CALL || self->phase == PHASE_AWAY)
        answer_judge(self);
}

/* What the present phase does when its time has come. */
static void
on_due(answer_t *self, uint64_t now)
{
    bool is_due = self->retry_ms != 0 && now >= self->retry_ms;

    switch (self->phase) {
    case PHASE_WAIT:
        if (is_due)
            try_start(self);
        break;
    case PHASE_AWAY:
        if (self->silence_ms != 0 && now >= self->silence_ms)
            answer_judge(self);
        else if (is_due)
            answer_attach(self);
        break;
    case PHASE_RESTART:
        if (is_due)
            try_restart(self);
        break;
    case PHASE_TAIL:
        if (now >= self->tail_ms)
            answer_end_tail(self);
        break;
    case PHASE_END:
        if (is_due)
            answer_try_end(self);
        break;
    case PHASE_CALL:
        if (self->stop_wanted && now >= self->stop_ms) {
            self->stop_ms = now + ANSWER_RETRY_MS;
            self->out->stop(self->arg, &(llm_stop_req_t){answer_stream(self), self->fence,
                                                         self->term});
        }
        break;
    case PHASE_PROMPT:
    case PHASE_OVER: break;
    }
}

void
answer_on_tick(answer_t *self)
{
    uint64_t now = self->out->mono_ms(self->arg);

    /* What could not be committed has gone with the call, or is to be judged first. */
    if (!self->is_writing && self->phase != PHASE_CALL && self->phase != PHASE_RESTART &&
        self->phase != PHASE_END)
        self->unsaved_ms = 0;
    if (is_unsaved(self))
        refuse_watchers(self, RC_UNAVAILABLE);
    tell_impatient(self, now);
    on_due(self, now);
}

void
answer_on_stall(answer_t *self)
{
    uint64_t now = self->out->mono_ms(self->arg);

    if (self->phase == PHASE_TAIL)
        self->tail_ms = now + ANSWER_TAIL_MS;
    if (self->silence_ms != 0)
        self->silence_ms = now + ANSWER_SILENCE_MS;
    if (self->unsaved_ms != 0)
        self->unsaved_ms = now;
}
