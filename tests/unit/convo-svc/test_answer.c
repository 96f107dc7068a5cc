/* test_answer.c - every arrow of an answer's life, and what its watchers are told of it. */
#include "answer_fixture.h"

static int
setup(void **state)
{
    *state = svc_alloc(sizeof(play_t));
    return 0;
}

static int
teardown(void **state)
{
    play_t *self = *state;

    play_close(self);
    free(self);
    return 0;
}

/* A fresh answer whose generate call is open, watched by call 1. */
static void
open_called(play_t *self)
{
    play_open(self, ANSWER_WAITING, "", true);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    answer_begin(self->answer);
    play_send_prompt(self, RC_OK);
}

/* The same, streaming "Hello" already. */
static void
open_streaming(play_t *self)
{
    open_called(self);
    play_piece(self, 0, "Hello");
    play_commit(self, RC_OK);
}

static void
assert_text(const play_t *self, const char *text)
{
    assert_true(svc_str_eq(svc_buf_str(&self->text), svc_str_c(text)));
    assert_int_equal(self->length, strlen(text));
}

static void
assert_ended(const play_t *self, int state, const char *reason)
{
    assert_int_equal(self->state, state);
    assert_string_equal(self->reason, reason);
    assert_true(answer_is_over(self->answer));
    assert_true(play_last_told(self)->is_last);
    assert_int_equal(play_last_told(self)->state, state);
    assert_string_equal(play_last_told(self)->reason, reason);
}

/* --- the straight way ------------------------------------------------------------------------- */

static void
goes_from_waiting_over_streaming_to_complete(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    assert_int_equal(play_last_told(self)->state, ANSWER_WAITING);
    assert_int_equal(play_last_told(self)->fence, 100);
    answer_begin(self->answer);
    assert_int_equal(self->prompt_fence, 100);
    assert_true(answer_is_prompting(self->answer, 100));
    assert_false(answer_is_prompting(self->answer, 101));
    assert_true(answer_is_busy(self->answer));
    play_send_prompt(self, RC_OK);
    play_piece(self, 0, "");
    assert_int_equal(self->acks, 0); /* it only says that the call was taken */
    play_piece(self, 0, "Hello");
    assert_int_equal(self->acks, 0); /* not before the commit */
    assert_int_equal(self->told, 1);
    play_commit(self, RC_OK);
    assert_int_equal(self->ack.journaled, 5);
    assert_int_equal(self->ack.fence, 100);
    assert_false(self->ack.stored);
    assert_int_equal(self->told, 2);
    assert_int_equal(play_last_told(self)->state, ANSWER_STREAMING);
    assert_int_equal(play_last_told(self)->length, 5);
    play_piece(self, 5, ", world");
    play_commit(self, RC_OK);
    assert_int_equal(self->told, 2); /* a commit is no change of state */
    play_final(self, 12, "!", "stop", "");
    assert_false(answer_is_over(self->answer));
    play_commit(self, RC_OK);
    assert_text(self, "Hello, world!");
    assert_ended(self, ANSWER_COMPLETE, "");
    assert_string_equal(self->finish, "stop");
    assert_string_equal(play_last_told(self)->finish, "stop");
    assert_int_equal(play_last_told(self)->tokens, 3);
    assert_true(self->ack.stored);
    assert_int_equal(self->ack.journaled, 13);
    assert_int_equal(self->counted[SVC_M_ANSWERS_COMPLETE], 1);
    assert_int_equal(self->counted[SVC_M_JOURNAL_PIECES], 2);
}

static void
a_short_answer_comes_in_one_commit(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_final(self, 0, "Hi", "stop", "");
    play_commit(self, RC_OK);
    assert_text(self, "Hi");
    assert_ended(self, ANSWER_COMPLETE, "");
    assert_int_equal(self->steps, 1);
}

static void
an_error_of_the_provider_ends_it_with_reason_sentence_and_retry_after(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_final(self, 0, "", "", "upstream_rate_limited");
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "upstream_rate_limited");
    assert_string_equal(play_last_told(self)->text, "A sentence.");
    assert_int_equal(play_last_told(self)->retry_after_s, 17);
    assert_int_equal(self->counted[SVC_M_ANSWERS_INTERRUPTED], 1);
}

static void
a_generate_that_is_refused_for_good_ends_it(void **state)
{
    static const svc_rc refusals[] = {RC_UNKNOWN_MODEL, RC_INVALID, RC_INTERNAL,
                                      RC_TOO_BIG};

    for (size_t i = 0; i < SVC_COUNT(refusals); i++) {
        play_t *self = *state;

        open_called(self);
        play_error(self, refusals[i]);
        play_commit(self, RC_OK);
        assert_ended(self, ANSWER_INTERRUPTED, svc_rc_info(refusals[i])->wire);
        assert_string_equal(play_last_told(self)->text, "Said so.");
        if (i + 1 < SVC_COUNT(refusals))
            play_close(self);
    }
}

static void
a_prompt_that_cannot_be_made_ends_it(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    answer_begin(self->answer);
    play_send_prompt(self, RC_TOO_BIG);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "too_big");
    play_close(self);
    play_open(self, ANSWER_WAITING, "", true);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    answer_begin(self->answer);
    play_send_prompt(self, RC_INVALID);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "internal");
}

/* --- the journal ------------------------------------------------------------------------------ */

static void
overlap_is_cut_and_repeated_pieces_are_acknowledged_again(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_piece(self, 0, "Hello");
    assert_false(self->has_step);
    assert_int_equal(self->acks, 2);
    assert_int_equal(self->ack.journaled, 5);
    play_piece(self, 2, "llo, you");
    assert_true(svc_str_eq(self->step.bytes, SVC_LIT(", you")));
    play_commit(self, RC_OK);
    assert_text(self, "Hello, you");
    play_final(self, 5, ", you all", "stop", "");
    play_commit(self, RC_OK);
    assert_text(self, "Hello, you all");
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
a_gap_is_answered_by_an_attach_from_the_length_at_most_once_a_second(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_piece(self, 7, "later");
    assert_false(self->has_step);
    assert_int_equal(self->attaches, 1);
    assert_int_equal(self->attach.from, 5);
    assert_int_equal(self->attach.fence, 100);
    play_piece(self, 7, "later");
    assert_int_equal(self->attaches, 1);
    play_wait(self, 1000);
    play_piece(self, 7, "later");
    assert_int_equal(self->attaches, 2);
    play_piece(self, 5, ", later");
    play_commit(self, RC_OK);
    assert_text(self, "Hello, later");
}

static void
an_end_behind_a_gap_is_asked_for_again(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_final(self, 7, "later", "stop", "");
    assert_false(self->has_step);
    assert_int_equal(self->attaches, 1);
    play_final(self, 7, "later", "stop", "");
    assert_int_equal(self->attaches, 1);
    play_wait(self, 1000);
    assert_int_equal(self->attaches, 2);
    play_final(self, 5, ", later", "stop", "");
    play_commit(self, RC_OK);
    assert_text(self, "Hello, later");
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
a_piece_that_comes_during_a_commit_is_left_to_its_repetition(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    play_piece(self, 0, "Hello");
    play_piece(self, 5, "!");
    assert_int_equal(self->steps, 1);
    play_commit(self, RC_OK);
    play_piece(self, 5, "!");
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
}

static void
an_end_that_comes_during_a_commit_waits_for_it(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    play_final(self, 5, "!", "stop", "");
    assert_int_equal(self->steps, 1);
    play_commit(self, RC_OK);
    assert_int_equal(self->steps, 2);
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
a_failed_commit_acknowledges_nothing_and_the_piece_comes_again(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    play_commit(self, RC_UNAVAILABLE);
    assert_int_equal(self->acks, 0);
    assert_int_equal(self->told, 1);
    play_piece(self, 0, "Hello");
    play_commit(self, RC_OK);
    assert_int_equal(self->ack.journaled, 5);
    assert_text(self, "Hello");
}

static void
an_end_is_kept_until_the_disk_takes_it(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_final(self, 5, "!", "stop", "");
    for (int i = 0; i < 5; i++) {
        play_commit(self, RC_UNAVAILABLE);
        assert_false(self->has_step);
        play_wait(self, 1000);
    }
    self->refuse_jobs = true;
    play_commit(self, RC_UNAVAILABLE);
    play_wait(self, 5000);
    assert_false(self->has_step);
    self->refuse_jobs = false;
    play_wait(self, 1000);
    assert_false(answer_is_over(self->answer));
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
an_end_after_a_failed_piece_is_asked_for_again(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    play_final(self, 5, "!", "stop", "");
    play_commit(self, RC_UNAVAILABLE);
    assert_int_equal(self->attaches, 1);
    assert_int_equal(self->attach.from, 0);
    play_final(self, 0, "Hello!", "stop", "");
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
}

static void
a_row_that_has_moved_on_is_given_up(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    play_commit(self, RC_STALE);
    assert_true(answer_is_over(self->answer));
    assert_int_equal(self->refused, 1);
    assert_int_equal(self->refused_rc, RC_STALE);
    assert_false(self->is_calling);
    assert_int_equal(self->acks, 0);
}

static void
a_newer_owner_at_llm_svc_means_giving_up(void **state)
{
    static const svc_rc verdicts[] = {RC_STALE, RC_CONFLICT};

    for (size_t i = 0; i < SVC_COUNT(verdicts); i++) {
        play_t *self = *state;

        open_streaming(self);
        play_error(self, verdicts[i]);
        assert_true(answer_is_over(self->answer));
        assert_int_equal(self->refused, 1);
        assert_int_equal(self->state, ANSWER_STREAMING);
        if (i + 1 < SVC_COUNT(verdicts))
            play_close(self);
    }
}

static void
bytes_that_are_no_characters_are_never_stored(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_piece(self, 5, "ok\xff");
    play_commit(self, RC_OK);
    assert_text(self, "Hellook");
    play_piece(self, 7, "\xff");
    assert_int_equal(self->stops, 1);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "internal");
    assert_text(self, "Hellook");
}

/* --- llm-svc comes and goes ------------------------------------------------------------------- */

static void
waits_for_an_llm_svc_and_begins_when_it_is_there(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    self->llm = (answer_llm_t){false, false, 0};
    answer_begin(self->answer);
    assert_int_equal(self->generates, 0);
    assert_false(answer_is_busy(self->answer));
    play_wait(self, 60000);
    assert_int_equal(self->generates, 0);
    play_up(self, 500);
    assert_int_equal(self->generates, 1);
}

static void
after_120_s_without_llm_svc_it_ends_as_unavailable(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    self->llm = (answer_llm_t){false, false, 0};
    answer_begin(self->answer);
    play_wait(self, 119000);
    assert_false(self->has_step);
    play_wait(self, 2000);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "unavailable");
}

static void
a_draining_llm_svc_gets_no_new_generation(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    self->llm.takes_work = false;
    answer_begin(self->answer);
    play_wait(self, 3000);
    assert_int_equal(self->generates, 0);
    self->llm.takes_work = true;
    play_wait(self, 1000);
    assert_int_equal(self->generates, 1);
}

static void
a_generate_that_could_not_be_sent_or_was_refused_is_tried_again(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    answer_begin(self->answer);
    play_send_prompt(self, RC_UNAVAILABLE);
    play_wait(self, 1000);
    play_send_prompt(self, RC_BUSY);
    play_wait(self, 1000);
    play_send_prompt(self, RC_OK);
    play_error(self, RC_BUSY);
    play_wait(self, 1000);
    play_send_prompt(self, RC_OK);
    assert_int_equal(self->generates, 4);
    assert_int_equal(self->attempt, 1);
    self->refuse_jobs = true;
    play_error(self, RC_UNAVAILABLE);
    play_wait(self, 3000);
    assert_false(self->is_prompting);
    self->refuse_jobs = false;
    play_wait(self, 1000);
    assert_true(self->is_prompting);
}

static void
down_judges_nothing_and_the_same_instance_is_attached_to(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_down(self);
    play_wait(self, 10000);
    assert_int_equal(self->told, 2);
    assert_false(self->has_step);
    play_up(self, 500);
    assert_int_equal(self->attaches, 1);
    assert_int_equal(self->attach.from, 5);
    play_final(self, 5, "!", "stop", "");
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
down_while_a_piece_is_committed_keeps_the_piece(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    play_down(self);
    play_commit(self, RC_OK);
    assert_int_equal(self->acks, 0);
    assert_int_equal(play_last_told(self)->state, ANSWER_STREAMING);
    play_up(self, 500);
    assert_int_equal(self->attach.from, 5);
}

static void
a_waiting_answer_whose_llm_svc_is_lost_begins_again_with_another_fence(void **state)
{
    play_t *self = *state;
    uint64_t fence;

    open_called(self);
    play_down(self);
    answer_on_llm_lost(self->answer);
    assert_true(self->has_restart);
    assert_int_equal(self->restart.attempt, 2);
    assert_int_equal(self->restart.new_fence >> 48, 2);
    play_commit_restart(self, RC_OK);
    fence = self->fence;
    assert_int_equal(play_last_told(self)->fence, fence);
    assert_int_equal(play_last_told(self)->state, ANSWER_WAITING);
    assert_int_equal(self->generates, 1);
    play_up(self, 501);
    assert_int_equal(self->generates, 2);
    assert_int_equal(self->prompt_fence, fence);
    play_send_prompt(self, RC_OK);
    play_final(self, 0, "Hi", "stop", "");
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_COMPLETE, "");
    assert_int_equal(self->step.fence, fence);
    assert_int_equal(self->counted[SVC_M_GENERATIONS_RESTARTED], 1);
}

static void
three_attempts_are_enough(void **state)
{
    play_t *self = *state;

    open_called(self);
    for (uint64_t i = 0; i < 2; i++) {
        play_down(self);
        play_up(self, 501 + i);
        play_commit_restart(self, RC_OK);
        play_send_prompt(self, RC_OK);
    }
    assert_int_equal(self->attempt, 3);
    play_down(self);
    play_up(self, 600);
    assert_false(self->has_restart);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
}

static void
no_attempt_begins_after_120_s(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_wait(self, 121000);
    assert_false(self->has_step); /* a model may think for long */
    play_down(self);
    play_up(self, 501);
    assert_false(self->has_restart);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
}

static void
a_restart_that_the_disk_refuses_is_tried_again_and_a_stale_one_given_up(void **state)
{
    play_t *self = *state;

    open_called(self);
    self->refuse_jobs = true;
    play_down(self);
    play_up(self, 501);
    assert_false(self->has_restart);
    self->refuse_jobs = false;
    play_wait(self, 1000);
    play_commit_restart(self, RC_UNAVAILABLE);
    play_wait(self, 1000);
    play_commit_restart(self, RC_STALE);
    assert_true(answer_is_over(self->answer));
    assert_int_equal(self->refused, 1);
}

static void
a_streaming_answer_that_is_lost_takes_tails_for_a_second_and_ends(void **state)
{
    play_t *self = *state;
    tail_req_t tail = {SVC_LIT(STREAM), 100, 5, SVC_LIT(", wor")};

    open_streaming(self);
    assert_int_equal(answer_tail(self->answer, &tail), RC_CONFLICT);
    play_down(self);
    answer_on_llm_lost(self->answer);
    assert_true(play_last_told(self)->lost);
    assert_int_equal(play_last_told(self)->length, 5);
    tail.fence = 99;
    assert_int_equal(answer_tail(self->answer, &tail), RC_STALE);
    tail.fence = 100;
    assert_int_equal(answer_tail(self->answer, &tail), RC_OK);
    assert_int_equal(answer_tail(self->answer, &tail),
                     RC_OK); /* another gateway has the same */
    tail = (tail_req_t){SVC_LIT(STREAM), 100, 12, SVC_LIT("gap")};
    assert_int_equal(answer_tail(self->answer, &tail), RC_CONFLICT);
    tail = (tail_req_t){SVC_LIT(STREAM), 100, 8, SVC_LIT("orld\xc3")};
    assert_int_equal(answer_tail(self->answer, &tail), RC_OK);
    play_wait(self, 900);
    assert_false(self->has_step);
    play_wait(self, 200);
    play_commit(self, RC_OK);
    assert_text(self, "Hello, world");
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
    assert_false(play_last_told(self)->lost);
    assert_int_equal(answer_tail(self->answer, &tail), RC_CONFLICT);
}

static void
tails_are_bounded(void **state)
{
    play_t *self = *state;
    char *page = svc_alloc(PROTO_PAGE_MAX_BYTES);
    tail_req_t tail = {SVC_LIT(STREAM), 100, 5, {page, PROTO_PAGE_MAX_BYTES}};

    memset(page, 'x', PROTO_PAGE_MAX_BYTES);
    open_streaming(self);
    play_down(self);
    play_up(self, 501);
    for (; tail.from < 5 + ANSWER_TAIL_MAX_BYTES; tail.from += PROTO_PAGE_MAX_BYTES)
        assert_int_equal(answer_tail(self->answer, &tail), RC_OK);
    assert_int_equal(answer_tail(self->answer, &tail), RC_TOO_BIG);
    play_wait(self, 1100);
    play_commit(self, RC_OK);
    assert_int_equal(self->length, 5 + ANSWER_TAIL_MAX_BYTES);
    free(page);
}

static void
our_own_standstill_gives_tails_their_time_again(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_down(self);
    play_up(self, 501);
    self->mono_ms += 5000;
    answer_on_stall(self->answer);
    answer_on_tick(self->answer);
    assert_false(self->has_step);
    play_wait(self, 1100);
    assert_true(self->has_step);
}

static void
a_loss_during_a_commit_is_judged_after_it(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    play_down(self);
    play_up(self, 501);
    assert_false(self->has_restart);
    play_commit(self, RC_OK);
    assert_false(
        self->has_restart); /* the journal has begun: no second text may follow */
    assert_true(play_last_told(self)->lost);
    play_wait(self, 1100);
    play_commit(self, RC_OK);
    assert_text(self, "Hello");
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
}

static void
a_loss_during_a_failed_commit_of_the_first_piece_begins_again(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    play_down(self);
    play_up(self, 501);
    play_commit(self, RC_UNAVAILABLE);
    assert_true(self->has_restart);
}

static void
an_end_that_has_come_survives_the_loss_of_its_llm_svc(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_final(self, 5, "!", "stop", "");
    play_down(self);
    play_up(self, 501);
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
an_llm_svc_that_knows_no_such_stream_has_lost_it(void **state)
{
    static const svc_rc verdicts[] = {RC_NOT_FOUND, RC_TOO_OLD, RC_INVALID};

    for (size_t i = 0; i < SVC_COUNT(verdicts); i++) {
        play_t *self = *state;

        open_streaming(self);
        play_down(self);
        play_up(self, 500);
        play_error(self, verdicts[i]);
        assert_true(play_last_told(self)->lost);
        if (i + 1 < SVC_COUNT(verdicts))
            play_close(self);
    }
}

static void
an_attach_that_fails_is_tried_again(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_down(self);
    self->attach_rc = RC_BUSY;
    play_up(self, 500);
    assert_int_equal(self->attaches, 1);
    play_wait(self, 1000);
    assert_int_equal(self->attaches, 2);
    self->attach_rc = RC_OK;
    play_wait(self, 1000);
    assert_int_equal(self->attaches, 3);
    play_error(self, RC_UNAVAILABLE);
    play_wait(self, 1000);
    assert_int_equal(self->attaches, 4);
    play_error(self, RC_TIMEOUT);
    assert_int_equal(self->attaches, 5);
    play_piece(self, 5, "!");
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
}

static void
silence_after_generate_is_answered_by_an_attach(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_error(self, RC_TIMEOUT);
    assert_int_equal(self->attaches, 1);
    assert_int_equal(self->attach.from, 0);
    assert_int_equal(self->attempt, 1);
}

/* --- an earlier start ------------------------------------------------------------------------- */

static void
an_unfinished_answer_of_an_earlier_start_is_attached_to(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_STREAMING, "Hello", false);
    self->llm = (answer_llm_t){false, false, 0};
    answer_begin(self->answer);
    play_wait(self, 5000);
    assert_int_equal(self->attaches, 0);
    self->llm = (answer_llm_t){true, true, 500};
    answer_on_llm_up(self->answer);
    assert_int_equal(self->attaches, 1);
    assert_int_equal(self->attach.from, 5);
    play_final(self, 5, "!", "stop", "");
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
}

static void
a_waiting_one_that_llm_svc_does_not_know_begins_again(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", false);
    answer_begin(self->answer);
    assert_int_equal(self->generates, 0);
    play_error(self, RC_NOT_FOUND);
    play_commit_restart(self, RC_OK);
    assert_int_equal(self->generates, 1);
}

static void
one_whose_llm_svc_does_not_come_for_12_s_is_lost(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_STREAMING, "Hello", false);
    self->llm = (answer_llm_t){false, false, 0};
    answer_begin(self->answer);
    play_wait(self, 11000);
    answer_on_stall(self->answer);
    play_wait(self, 11000);
    assert_false(self->has_step);
    play_wait(self, 2200);
    play_commit(self, RC_OK);
    assert_int_equal(self->state, ANSWER_INTERRUPTED);
    assert_text(self, "Hello");
    play_close(self);
    play_open(self, ANSWER_WAITING, "", false);
    self->llm = (answer_llm_t){false, false, 0};
    answer_begin(self->answer);
    play_wait(self, 12100);
    play_commit_restart(self, RC_OK);
    play_up(self, 500);
    assert_int_equal(self->generates, 1);
}

/* --- stop and delete -------------------------------------------------------------------------- */

static void
a_stop_goes_to_llm_svc_each_second_until_the_end_comes(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    assert_int_equal(answer_watch_end(self->answer, 2), RC_OK);
    answer_stop(self->answer);
    assert_int_equal(self->stops, 1);
    play_wait(self, 900);
    assert_int_equal(self->stops, 1);
    play_wait(self, 100);
    assert_int_equal(self->stops, 2);
    play_final(self, 5, "", "stopped", "");
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_STOPPED, "");
    assert_string_equal(self->finish, "stopped");
    assert_int_equal(self->told, 4);
    assert_int_equal(self->counted[SVC_M_ANSWERS_STOPPED], 1);
}

static void
who_asked_to_stop_is_answered_after_2_s_at_the_latest(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    assert_int_equal(answer_watch_end(self->answer, 2), RC_OK);
    answer_stop(self->answer);
    play_wait(self, 1900);
    assert_int_equal(self->told, 2);
    play_wait(self, 200);
    assert_int_equal(self->told, 3);
    assert_int_equal(play_last_told(self)->call, 2);
    assert_true(play_last_told(self)->is_last);
    assert_int_equal(play_last_told(self)->state, ANSWER_STREAMING);
}

static void
a_waiting_answer_without_llm_svc_is_stopped_at_once(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    self->llm = (answer_llm_t){false, false, 0};
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    answer_begin(self->answer);
    answer_stop(self->answer);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_STOPPED, "");
    assert_string_equal(self->finish, "stopped");
}

static void
a_stop_while_the_prompt_is_built_keeps_it_from_being_sent(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    answer_begin(self->answer);
    answer_stop(self->answer);
    assert_false(answer_is_prompting(self->answer, 100));
    play_send_prompt(self, RC_OK);
    assert_false(self->is_calling);
    answer_on_generate(self->answer, RC_OK);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_STOPPED, "");
}

static void
no_restart_forgets_a_stop(void **state)
{
    play_t *self = *state;

    open_called(self);
    answer_stop(self->answer);
    play_down(self);
    play_up(self, 501);
    assert_false(self->has_restart);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_STOPPED, "");
    play_close(self);
    open_called(self);
    play_down(self);
    play_up(self, 501);
    answer_stop(self->answer);
    play_commit_restart(self, RC_OK);
    assert_int_equal(self->generates, 1);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_STOPPED, "");
}

static void
a_stopped_stream_that_is_lost_is_stopped_with_all_that_was_shown(void **state)
{
    play_t *self = *state;
    tail_req_t tail = {SVC_LIT(STREAM), 100, 5, SVC_LIT("!")};

    open_streaming(self);
    answer_stop(self->answer);
    play_down(self);
    play_up(self, 501);
    assert_int_equal(answer_tail(self->answer, &tail), RC_OK);
    play_wait(self, 1100);
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
    assert_ended(self, ANSWER_STOPPED, "");
    play_close(self);
    open_streaming(self);
    answer_stop(self->answer);
    play_final(self, 5, "", "", "interrupted");
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_STOPPED, "");
}

static void
a_stop_of_an_earlier_start_is_repeated_after_the_attach(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_STREAMING, "Hello", false);
    answer_begin(self->answer);
    answer_stop(self->answer);
    assert_int_equal(self->stops, 1);
    play_down(self);
    play_wait(self, 3000);
    assert_int_equal(self->stops, 1);
    play_up(self, 500);
    play_wait(self, 100);
    assert_int_equal(self->stops, 2);
}

static void
a_deletion_ends_it_for_everybody_and_frees_llm_svc(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    assert_int_equal(answer_watch(self->answer, 3), RC_OK);
    self->state = -1; /* the row is gone */
    answer_delete(self->answer);
    assert_true(answer_is_over(self->answer));
    assert_int_equal(self->stops, 1);
    assert_true(self->ack.stored);
    assert_false(self->is_calling);
    assert_int_equal(self->told, 5);
    assert_true(play_last_told(self)->is_last);
    assert_int_equal(play_last_told(self)->state, ANSWER_INTERRUPTED);
    assert_string_equal(play_last_told(self)->reason, "deleted");
}

/* --- watchers --------------------------------------------------------------------------------- */

static void
a_later_watcher_is_told_the_present_and_then_the_end(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    assert_int_equal(answer_watch(self->answer, 9), RC_OK);
    assert_int_equal(play_last_told(self)->call, 9);
    assert_int_equal(play_last_told(self)->state, ANSWER_STREAMING);
    assert_int_equal(play_last_told(self)->length, 5);
    answer_unwatch(self->answer, 1);
    answer_unwatch(self->answer, 1234);
    play_final(self, 5, "", "stop", "");
    play_commit(self, RC_OK);
    assert_int_equal(self->told, 4);
    assert_int_equal(play_last_told(self)->call, 9);
}

static void
a_watcher_that_is_gone_disturbs_no_other(void **state)
{
    for (uint64_t gone = 1; gone <= 4; gone++) {
        play_t *self = *state;
        size_t before;

        open_called(self);
        for (uint64_t call = 2; call <= 4; call++)
            assert_int_equal(answer_watch(self->answer, call), RC_OK);
        self->gone_call = gone;
        before = self->told;
        play_piece(self, 0, "x");
        play_commit(self, RC_OK);
        assert_int_equal(self->told, before + 4);
        play_final(self, 1, "", "stop", "");
        play_commit(self, RC_OK);
        assert_int_equal(self->told, before + 7);
        if (gone < 4)
            play_close(self);
    }
}

static void
watchers_are_bounded(void **state)
{
    play_t *self = *state;

    open_called(self);
    for (uint64_t call = 2; call <= ANSWER_WATCHERS_MAX; call++)
        assert_int_equal(answer_watch(self->answer, call), RC_OK);
    assert_int_equal(answer_watch(self->answer, 99999), RC_BUSY);
    assert_int_equal(answer_watch_end(self->answer, 99999), RC_BUSY);
    answer_unwatch(self->answer, 17);
    assert_int_equal(answer_watch_end(self->answer, 99999), RC_OK);
}

static void
watchers_of_an_answer_that_is_taken_apart_are_told_to_ask_again(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    answer_destroy(&self->answer);
    assert_int_equal(self->refused, 1);
    assert_int_equal(self->refused_rc, RC_UNAVAILABLE);
    assert_false(self->is_calling);
    assert_int_equal(self->state, ANSWER_STREAMING);
}

static void
what_comes_at_the_wrong_time_changes_nothing(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    answer_on_step(self->answer, RC_OK);
    answer_on_restart(self->answer, RC_OK);
    answer_on_generate(self->answer, RC_OK);
    play_piece(self, 0, "early");
    play_final(self, 0, "early", "stop", "");
    play_error(self, RC_NOT_FOUND);
    answer_on_llm_lost(self->answer);
    answer_on_llm_down(self->answer);
    assert_int_equal(self->steps, 0);
    assert_false(self->has_restart);
    answer_begin(self->answer);
    assert_int_equal(self->generates, 1);
    assert_true(svc_str_eq(answer_stream(self->answer), SVC_LIT(STREAM)));
    assert_int_equal(answer_conversation(self->answer), 9);
    assert_int_equal(answer_user(self->answer), 7);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(goes_from_waiting_over_streaming_to_complete),
        TEST(a_short_answer_comes_in_one_commit),
        TEST(an_error_of_the_provider_ends_it_with_reason_sentence_and_retry_after),
        TEST(a_generate_that_is_refused_for_good_ends_it),
        TEST(a_prompt_that_cannot_be_made_ends_it),
        TEST(overlap_is_cut_and_repeated_pieces_are_acknowledged_again),
        TEST(a_gap_is_answered_by_an_attach_from_the_length_at_most_once_a_second),
        TEST(an_end_behind_a_gap_is_asked_for_again),
        TEST(a_piece_that_comes_during_a_commit_is_left_to_its_repetition),
        TEST(an_end_that_comes_during_a_commit_waits_for_it),
        TEST(a_failed_commit_acknowledges_nothing_and_the_piece_comes_again),
        TEST(an_end_is_kept_until_the_disk_takes_it),
        TEST(an_end_after_a_failed_piece_is_asked_for_again),
        TEST(a_row_that_has_moved_on_is_given_up),
        TEST(a_newer_owner_at_llm_svc_means_giving_up),
        TEST(bytes_that_are_no_characters_are_never_stored),
        TEST(waits_for_an_llm_svc_and_begins_when_it_is_there),
        TEST(after_120_s_without_llm_svc_it_ends_as_unavailable),
        TEST(a_draining_llm_svc_gets_no_new_generation),
        TEST(a_generate_that_could_not_be_sent_or_was_refused_is_tried_again),
        TEST(down_judges_nothing_and_the_same_instance_is_attached_to),
        TEST(down_while_a_piece_is_committed_keeps_the_piece),
        TEST(a_waiting_answer_whose_llm_svc_is_lost_begins_again_with_another_fence),
        TEST(three_attempts_are_enough),
        TEST(no_attempt_begins_after_120_s),
        TEST(a_restart_that_the_disk_refuses_is_tried_again_and_a_stale_one_given_up),
        TEST(a_streaming_answer_that_is_lost_takes_tails_for_a_second_and_ends),
        TEST(tails_are_bounded),
        TEST(our_own_standstill_gives_tails_their_time_again),
        TEST(a_loss_during_a_commit_is_judged_after_it),
        TEST(a_loss_during_a_failed_commit_of_the_first_piece_begins_again),
        TEST(an_end_that_has_come_survives_the_loss_of_its_llm_svc),
        TEST(an_llm_svc_that_knows_no_such_stream_has_lost_it),
        TEST(an_attach_that_fails_is_tried_again),
        TEST(silence_after_generate_is_answered_by_an_attach),
        TEST(an_unfinished_answer_of_an_earlier_start_is_attached_to),
        TEST(a_waiting_one_that_llm_svc_does_not_know_begins_again),
        TEST(one_whose_llm_svc_does_not_come_for_12_s_is_lost),
        TEST(a_stop_goes_to_llm_svc_each_second_until_the_end_comes),
        TEST(who_asked_to_stop_is_answered_after_2_s_at_the_latest),
        TEST(a_waiting_answer_without_llm_svc_is_stopped_at_once),
        TEST(a_stop_while_the_prompt_is_built_keeps_it_from_being_sent),
        TEST(no_restart_forgets_a_stop),
        TEST(a_stopped_stream_that_is_lost_is_stopped_with_all_that_was_shown),
        TEST(a_stop_of_an_earlier_start_is_repeated_after_the_attach),
        TEST(a_deletion_ends_it_for_everybody_and_frees_llm_svc),
        TEST(a_later_watcher_is_told_the_present_and_then_the_end),
        TEST(a_watcher_that_is_gone_disturbs_no_other),
        TEST(watchers_are_bounded),
        TEST(watchers_of_an_answer_that_is_taken_apart_are_told_to_ask_again),
        TEST(what_comes_at_the_wrong_time_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
