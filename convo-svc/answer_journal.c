/* answer_journal.c - one live answer: the pieces of its text, the steps of its row, its end.
 *
 * The journal grows at `length` only. What arrives overlapping is cut, what leaves a gap makes us
 * attach again from `length`. A piece that comes while another one is being committed is ignored:
 * llm-svc repeats it until it is acknowledged. The end (FINAL) does not come twice, so it is
 * kept here until it is committed, however often the disk refuses. */
#include "answer_private.h"

#include "proto/utf8.h"

#include <stdlib.h>

/* --- the end ---------------------------------------------------------------------------------- */

static char *
copy_text(svc_str text)
{
    return text.n == 0 ? NULL : svc_str_dup(text);
}

void
answer_clear_end(answer_t *self)
{
    free(self->end.finish);
    free(self->end.reason);
    free(self->end.text);
    svc_buf_clear(&self->end.bytes);
    self->end = (answer_end_t){.bytes = self->end.bytes};
}

void
answer_set_end(answer_t *self, int state, svc_rc reason, svc_str text)
{
    answer_clear_end(self);
    self->end.state = state;
    self->end.from = self->length + (self->is_writing ? self->writing_n : 0);
    if (state == ANSWER_STOPPED) {
        self->end.finish = copy_text(SVC_LIT("stopped"));
    } else {
        self->end.reason = copy_text(svc_str_c(svc_rc_info(reason)->wire));
        self->end.text = copy_text(text);
    }
}

/* Ends the answer with what `end` says from now on. */
static void
begin_end(answer_t *self, int state, svc_rc reason, svc_str text)
{
    answer_hang_up(self);
    answer_set_end(self, state, reason, text);
    self->phase = PHASE_END;
    answer_try_end(self);
}

void
answer_end_stopped(answer_t *self)
{
    begin_end(self, ANSWER_STOPPED, RC_OK, (svc_str){NULL, 0});
}

void
answer_end_interrupted(answer_t *self, svc_rc reason, const char *text)
{
    begin_end(self, ANSWER_INTERRUPTED, reason, svc_str_c(text));
}

/* The part of a stretch [from, from + n) that goes behind `length`, whole characters only. */
static svc_str
cut(const answer_t *self, uint64_t from, svc_str bytes)
{
    uint64_t skip = self->length - from;
    uint64_t room = PROTO_ANSWER_MAX_BYTES - self->length;

    if (skip >= bytes.n)
        return (svc_str){NULL, 0};
    bytes.p += skip;
    bytes.n -= (size_t)skip;
    if (bytes.n > room)
        bytes.n = (size_t)room;
    bytes.n = svc_utf8_valid(bytes.p, bytes.n);
    return bytes;
}

/* Submits a step from here to `next_state`. */
static bool
submit(answer_t *self, svc_str bytes, int next_state)
{
    const answer_end_t *end = &self->end;
    answer_step_t step = {
        .stream = answer_stream(self),
        .conversation = self->conversation,
        .term = self->term,
        .fence = self->fence,
        .state = self->state,
        .length = self->length,
        .bytes = bytes,
        .llm = self->llm,
        .next_state = next_state,
    };

    if (answer_state_is_terminal(next_state)) {
        step.finish = svc_str_c(end->finish);
        step.usage = end->usage;
        step.reason = svc_str_c(end->reason);
        step.text = svc_str_c(end->text);
        step.retry_after_s = end->retry_after_s;
    }
    answer_wants_commit(self);
    if (self->out->step(self->arg, &step) != RC_OK)
        return false;
    self->is_writing = true;
    self->writing_n = bytes.n;
    self->writing_state = next_state;
    return true;
}

/* Bytes before what has come are missing: asks for them, at most once a second. */
static void
on_gap(answer_t *self)
{
    uint64_t now = self->out->mono_ms(self->arg);

    /* An open call brings the next piece by itself; without one it is tried again. */
    if (self->gap_ms != 0 && now - self->gap_ms < ANSWER_RETRY_MS) {
        answer_retry_later(self);
        return;
    }
    self->gap_ms = now;
    answer_attach(self);
}

/* The end was not committed. One of a loss must not be committed at the first moment that the database is back, since
 * whoever has a tail can hand it in only then: so it is looked whether it is away. */
static void
end_later(answer_t *self)
{
    answer_retry_later(self);
    if (self->end.is_loss)
        (void)self->out->look(self->arg);
}

/* Commits the end, unless a step is under way or bytes before it are missing. */
void
answer_try_end(answer_t *self)
{
    svc_str bytes;

    self->retry_ms = 0;
    if (self->is_writing)
        return;
    if (self->end.from > self->length) {
        answer_clear_end(self);
        self->phase = PHASE_AWAY;
        on_gap(self);
        return;
    }
    bytes = cut(self, self->end.from, svc_buf_str(&self->end.bytes));
    if (!submit(self, bytes, self->end.state))
        end_later(self);
}

/* --- journal ---------------------------------------------------------------------------------- */

void
answer_acknowledge(answer_t *self, bool stored)
{
    ack_req_t ack = {answer_stream(self), self->fence, self->term, self->length, stored};

    self->out->ack(self->arg, self->llm, &ack);
}

void
answer_post_stop(answer_t *self)
{
    llm_stop_req_t stop = {answer_stream(self), self->fence, self->term};

    self->out->stop(self->arg, self->llm, &stop);
}

static void
on_piece(answer_t *self, const journal_rep_t *rep)
{
    svc_str bytes;

    /* llm-svc gives an owner up that is silent for 60 s: it hears that we are there, and could not store yet. */
    if (self->unsaved_ms != 0)
        answer_acknowledge(self, false);
    if (self->is_writing)
        return;
    if (rep->from > self->length) {
        on_gap(self);
        return;
    }
    /* A repeated piece; an empty one only says that the call was taken. */
    if (rep->from + rep->bytes.n <= self->length) {
        if (rep->bytes.n > 0)
            answer_acknowledge(self, false);
        return;
    }
    bytes = cut(self, rep->from, rep->bytes);
    if (bytes.n > 0) {
        (void)submit(self, bytes, ANSWER_STREAMING); /* no room: the piece comes again */
    } else {
        answer_post_stop(self);
        answer_end_interrupted(self, RC_INTERNAL, "The answer could not be stored.");
    }
}

static int
state_of_final(const answer_t *self, const journal_rep_t *rep)
{
    bool was_interrupted = svc_rc_from_wire(rep->error) == RC_LOST;

    if (rep->error.n > 0)
        return self->stop_wanted && was_interrupted ? ANSWER_STOPPED : ANSWER_INTERRUPTED;
    return svc_str_eq(rep->finish, SVC_LIT("stopped")) ? ANSWER_STOPPED : ANSWER_COMPLETE;
}

static void
on_final(answer_t *self, const journal_rep_t *rep)
{
    /* Its llm-svc goes, by its own word: nobody was shown any of this text, not even of what comes with it here. */
    if (svc_rc_from_wire(rep->error) == RC_LOST && !self->is_writing &&
        answer_may_restart(self)) {
        answer_judge(self);
        return;
    }
    answer_clear_end(self);
    self->phase = PHASE_END;
    self->end.state = state_of_final(self, rep);
    self->end.from = rep->from;
    self->end.usage = rep->usage;
    if (self->end.state == ANSWER_INTERRUPTED) {
        self->end.reason = copy_text(rep->error);
        self->end.text = copy_text(rep->text);
        self->end.retry_after_s = rep->retry_after_s;
    } else {
        self->end.finish = copy_text(rep->error.n > 0 ? SVC_LIT("stopped") : rep->finish);
    }
    if (svc_buf_add_str(&self->end.bytes, rep->bytes) != RC_OK) {
        answer_clear_end(self);
        self->phase = PHASE_AWAY; /* no memory: it is asked for again */
        answer_retry_later(self);
        return;
    }
    answer_try_end(self);
}

/* The open call has ended with an error. */
static void
on_call_failed(answer_t *self, svc_rc rc, const error_rep_t *error)
{
    self->phase = PHASE_AWAY;
    switch (rc) {
    case RC_UNAVAILABLE:
    case RC_BUSY:
        if (self->is_searching) {
            answer_ask_next(self, rc == RC_BUSY);
            break;
        }
        if (!self->out->is_up(self->arg, self->llm))
            break; /* its DOWN or LOST comes right behind */
        if (self->is_generate && self->state == ANSWER_WAITING && !self->is_writing)
            self->phase = PHASE_WAIT; /* refused: nothing has begun */
        answer_retry_later(self);
        break;
    case RC_TIMEOUT: answer_attach(self); break;
    case RC_STALE:
    case RC_CONFLICT: answer_begin_look(self); break;
    default:
        if (self->is_searching)
            answer_ask_next(self, false);
        else if (!self->is_generate || rc == RC_NOT_FOUND || rc == RC_TOO_OLD)
            answer_judge(self);
        else
            begin_end(self, ANSWER_INTERRUPTED, rc, error->text);
        break;
    }
}

void
answer_on_journal(answer_t *self, proto_kind kind, svc_rc rc, const journal_rep_t *rep,
                  const error_rep_t *error)
{
    if (self->phase != PHASE_CALL)
        return;
    self->silence_ms = 0;
    if (kind != PROTO_ERROR)
        self->is_searching = false; /* found */
    if (kind == PROTO_PARTIAL)
        on_piece(self, rep);
    else if (kind == PROTO_FINAL)
        on_final(self, rep);
    else
        on_call_failed(self, rc, error);
}

static void
finish(answer_t *self)
{
    static const svc_metric metric[] = {
        [ANSWER_COMPLETE] = SVC_M_ANSWERS_COMPLETE,
        [ANSWER_STOPPED] = SVC_M_ANSWERS_STOPPED,
        [ANSWER_INTERRUPTED] = SVC_M_ANSWERS_INTERRUPTED,
    };

    self->out->count(self->arg, metric[self->state]);
    answer_note_it(self, ANSWER_NOTE_STORED);
    self->phase = PHASE_OVER;
    if (self->llm != 0)
        answer_acknowledge(self, true);
    answer_tell_end(self);
}

void
answer_on_step(answer_t *self, svc_rc rc)
{
    bool is_first = self->state == ANSWER_WAITING;
    bool was_end = answer_state_is_terminal(self->writing_state);

    if (!self->is_writing)
        return;
    self->is_writing = false;
    if (rc == RC_STALE) {
        self->out->count(self->arg, SVC_M_STEPS_FENCED);
        answer_begin_look(self);
        return;
    }
    if (rc == RC_OK) {
        self->unsaved_ms = 0;
        self->length += self->writing_n;
        self->state = self->writing_state;
        if (was_end) {
            finish(self);
            return;
        }
        self->out->count(self->arg, SVC_M_JOURNAL_PIECES);
        if (self->phase == PHASE_CALL || self->phase == PHASE_END)
            answer_acknowledge(self, false);
        if (is_first)
            answer_tell_change(self);
    }
    if (self->is_lost && self->phase == PHASE_AWAY)
        answer_judge(self);
    else if (self->phase == PHASE_END && was_end)
        end_later(self);
    else if (self->phase == PHASE_END)
        answer_try_end(self);
}

/* --- tails -------------------------------------------------------------------------------------- */

svc_rc
answer_tail(answer_t *self, const tail_req_t *req)
{
    uint64_t have = self->length + self->tail.n;
    uint64_t skip;
    svc_str bytes = req->bytes;

    if (req->fence != self->fence)
        return RC_STALE;
    if (self->phase != PHASE_TAIL || req->from > have)
        return RC_CONFLICT;
    skip = have - req->from;
    if (skip >= bytes.n)
        return RC_OK;
    bytes.p += skip;
    bytes.n -= (size_t)skip;
    bytes.n = svc_utf8_valid(bytes.p, bytes.n);
    self->out->count(self->arg, SVC_M_TAILS);
    return svc_buf_add_str(&self->tail, bytes);
}

void
answer_wait_blind(answer_t *self)
{
    self->is_blind = true;
    answer_retry_later(self);
    (void)self->out->look(self->arg);
}

void
answer_tail_again(answer_t *self)
{
    svc_buf_fini(&self->tail);
    self->tail = self->end.bytes;
    svc_buf_init(&self->end.bytes, PROTO_PIECE_MAX_BYTES);
    answer_clear_end(self);
    self->phase = PHASE_TAIL;
    self->is_blind = true;
    answer_retry_later(self);
}

void
answer_end_tail(answer_t *self)
{
    answer_set_end(self, self->stop_wanted ? ANSWER_STOPPED : ANSWER_INTERRUPTED, RC_LOST,
                   SVC_LIT("The process that wrote the answer was lost."));
    self->end.is_loss = true;
    svc_buf_fini(&self->end.bytes);
    self->end.bytes = self->tail; /* the tail becomes the last piece */
    svc_buf_init(&self->tail, ANSWER_TAIL_MAX_BYTES);
    self->phase = PHASE_END;
    self->llm = 0;
    answer_try_end(self);
}
