/* answer.c - one live answer: its life, those who watch it, whose it is, and time.
 *
 * Its generation and its llm-svc stand in answer_llm.c, the journal and the end in
 * answer_journal.c. Every function that may end the answer leaves it in PHASE_OVER; its owner removes
 * it then. Who writes is decided by the row's term alone: a step that the database refuses as
 * stale makes us look at the row, and what stands there is what watchers are told. */
#include "answer_private.h"

#include <stdlib.h>

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
    self->owner = row->owner;
    self->out = out;
    self->arg = arg;
    self->phase = is_known ? PHASE_WAIT : PHASE_AWAY;
    self->state = row->state;
    self->fence = row->fence;
    self->attempt = row->attempt;
    self->length = row->length;
    self->stop_wanted = row->stop_wanted;
    self->stop_alone = row->stop_alone;
    self->llm = row->llm;
    self->taken_ms = is_known ? 0 : out->mono_ms(arg);
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

uint64_t
answer_term(const answer_t *self)
{
    return self->term;
}

/* --- watchers --------------------------------------------------------------------------------- */

status_rep_t
answer_status(const answer_row_t *row)
{
    return (status_rep_t){
        .stream = row->stream,
        .message = row->message,
        .state = row->state,
        .length = row->length,
        .fence = row->fence,
        .owner = row->owner,
        .llm = row->llm,
        .finish = row->finish,
        .usage = row->usage,
        .reason = row->reason,
        .text = row->text,
        .retry_after_s = row->retry_after_s,
    };
}

static status_rep_t
status_of(const answer_t *self)
{
    status_rep_t status = {
        .stream = answer_stream(self),
        .message = self->message,
        .state = self->state,
        .length = self->length,
        .fence = self->fence,
        .owner = self->owner,
        .llm = self->is_searching ? 0 : self->llm,
        .lost = self->phase == PHASE_TAIL ||
                (self->phase == PHASE_END && self->end.is_loss),
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

void
answer_note_it(const answer_t *self, answer_note what)
{
    status_rep_t status = status_of(self);

    self->out->note(self->arg, what, &status, self->attempt);
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

void
answer_each_watcher(answer_t *self, void (*fn)(void *arg, uint64_t call), void *arg)
{
    for (size_t i = self->n_watchers; i-- > 0;)
        if (self->watchers[i].until_ms == 0)
            fn(arg, self->watchers[i].call);
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

/* --- whose it is ------------------------------------------------------------------------------ */

void
answer_give_up(answer_t *self)
{
    answer_note_it(self, ANSWER_NOTE_LEFT);
    answer_hang_up(self);
    self->phase = PHASE_OVER;
    refuse_all(self, RC_STALE);
}

void
answer_begin_look(answer_t *self)
{
    answer_hang_up(self);
    self->phase = PHASE_LOOK;
    self->retry_ms = 0;
    answer_wants_commit(self); /* a database that is away keeps no watcher waiting */
    if (self->out->look(self->arg) != RC_OK)
        answer_retry_later(self);
}

void
answer_doubt(answer_t *self)
{
    if (self->phase != PHASE_LOOK && self->phase != PHASE_OVER)
        (void)self->out->look(self->arg); /* refused: whoever doubts does it again */
}

/* Somebody else goes on with it, or it has ended: those who watch are told so and ask there. */
static void
hand_over(answer_t *self, const answer_row_t *row)
{
    status_rep_t status = answer_status(row);
    size_t n = self->n_watchers;

    answer_note_it(self, ANSWER_NOTE_LEFT);
    answer_hang_up(self);
    /* Another text is the answer by now, or it has ended without ours: nobody else ends what writes it. */
    if (self->llm != 0 &&
        (row->fence != self->fence ||
         (row->term != self->term && answer_state_is_terminal(row->state))))
        answer_post_stop(self);
    /* Ended by ourselves, and we were not told: nobody else frees its llm-svc. */
    if (self->llm != 0 && row->term == self->term && row->fence == self->fence &&
        answer_state_is_terminal(row->state)) {
        self->length = row->length;
        answer_acknowledge(self, true);
    }
    self->phase = PHASE_OVER;
    self->n_watchers = 0;
    for (size_t i = 0; i < n; i++)
        self->out->tell(self->arg, self->watchers[i].call, &status, true);
}

/* It is still ours, but not as we knew it: goes on from what the row says. Not at once: whoever disagreed with the row might
 * go on doing so. */
static void
take_again(answer_t *self, const answer_row_t *row)
{
    self->state = row->state;
    self->fence = row->fence;
    self->attempt = row->attempt;
    self->length = row->length;
    self->stop_wanted = row->stop_wanted;
    self->llm = row->llm;
    self->unsaved_ms = 0;
    self->phase = PHASE_AWAY;
    self->is_lost = false;
    answer_clear_end(self);
    answer_retry_later(self);
}

/* The row could not be read. */
static void
on_no_row(answer_t *self)
{
    if (self->phase == PHASE_LOOK)
        answer_retry_later(self);
    else if (self->phase == PHASE_END && self->end.is_loss && !self->is_writing)
        answer_tail_again(self);
}

/* The database is there again: those who watch are let in, and have their time for tails. */
static void
see_again(answer_t *self)
{
    self->is_blind = false;
    self->retry_ms = 0;
    self->tail_ms = self->out->mono_ms(self->arg) + ANSWER_TAIL_AGAIN_MS;
    answer_tell_change(self);
}

void
answer_on_row(answer_t *self, svc_rc rc, const answer_row_t *row)
{
    bool is_blind = self->phase == PHASE_TAIL && self->is_blind;
    bool must_know = self->phase == PHASE_LOOK || is_blind;

    if (self->phase == PHASE_OVER)
        return;
    if (rc == RC_NOT_FOUND)
        answer_delete(self);
    else if (rc != RC_OK)
        on_no_row(self);
    else if (row->term != self->term || row->owner != self->owner)
        hand_over(self, row);
    else if (must_know && answer_state_is_terminal(row->state))
        hand_over(self, row);
    else if (is_blind)
        see_again(self);
    else if (must_know)
        take_again(self, row);
}

/* --- stop, delete ----------------------------------------------------------------------------- */

void
answer_stop(answer_t *self)
{
    if (self->stop_wanted)
        return;
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
        self->out->stop(self->arg, self->llm, &stop);
        self->out->ack(self->arg, self->llm, &ack);
    }
    answer_hang_up(self);
    answer_set_end(self, ANSWER_INTERRUPTED, RC_DELETED,
                   SVC_LIT("The conversation was deleted."));
    self->phase = PHASE_OVER;
    self->state = ANSWER_INTERRUPTED;
    answer_tell_end(self);
}

/* --- time -------------------------------------------------------------------------------------- */

/* What the present phase does when its time has come. */
static void
on_due(answer_t *self, uint64_t now)
{
    bool is_due = self->retry_ms != 0 && now >= self->retry_ms;

    switch (self->phase) {
    case PHASE_WAIT:
        if (is_due)
            answer_try_start(self);
        break;
    case PHASE_AWAY:
        if (self->silence_ms != 0 && now >= self->silence_ms)
            answer_judge(self);
        else if (is_due)
            answer_find(self);
        break;
    case PHASE_RESTART:
        if (is_due)
            answer_try_restart(self);
        break;
    case PHASE_TAIL:
        if (self->is_blind && is_due)
            answer_wait_blind(self);
        else if (!self->is_blind && !self->out->admits(self->arg))
            self->tail_ms = now + ANSWER_TAIL_AGAIN_MS; /* nobody can hand in a tail */
        else if (!self->is_blind && now >= self->tail_ms)
            answer_end_tail(self);
        break;
    case PHASE_END:
        if (is_due)
            answer_try_end(self);
        break;
    case PHASE_CALL:
        if (self->stop_wanted && now >= self->stop_ms) {
            self->stop_ms = now + ANSWER_RETRY_MS;
            answer_post_stop(self);
        }
        break;
    case PHASE_LOOK:
        if (is_due)
            answer_begin_look(self);
        break;
    case PHASE_PROMPT:
    case PHASE_OVER: break;
    }
}

/* The last viewer may take its answer along, some time after it has left. */
static void
stop_if_alone(answer_t *self, uint64_t now)
{
    const bool may_watch = !is_unsaved(self) && self->out->admits(self->arg);
    bool is_watched = !self->stop_alone || self->stop_wanted ||
                      self->phase == PHASE_END || self->phase == PHASE_OVER;

    for (size_t i = 0; i < self->n_watchers && !is_watched; i++)
        is_watched = self->watchers[i].until_ms == 0;
    if (is_watched)
        self->alone_ms = 0;
    else if (!may_watch) /* those that we refuse have not left */
        self->alone_ms = now + ANSWER_TAIL_AGAIN_MS;
    else if (self->alone_ms == 0)
        self->alone_ms = now;
    else if (now >= self->alone_ms &&
             now - self->alone_ms >= self->out->alone_ms(self->arg)) {
        (void)self->out->want_stop(self->arg);
        self->alone_ms = now; /* if it is not committed, it is asked for again */
    }
}

void
answer_on_tick(answer_t *self)
{
    uint64_t now = self->out->mono_ms(self->arg);

    /* What could not be committed has gone with the call, or is to be judged first. */
    if (!self->is_writing && self->phase != PHASE_CALL && self->phase != PHASE_RESTART &&
        self->phase != PHASE_END && self->phase != PHASE_LOOK)
        self->unsaved_ms = 0;
    if (is_unsaved(self))
        refuse_watchers(self, RC_UNAVAILABLE);
    tell_impatient(self, now);
    stop_if_alone(self, now);
    on_due(self, now);
}

void
answer_on_stall(answer_t *self)
{
    uint64_t now = self->out->mono_ms(self->arg);

    if (self->phase == PHASE_TAIL)
        self->tail_ms = answer_tail_until(self);
    if (self->silence_ms != 0)
        self->silence_ms = now + ANSWER_SILENCE_MS;
    if (self->unsaved_ms != 0)
        self->unsaved_ms = now;
    if (self->alone_ms != 0)
        self->alone_ms = now;
}
