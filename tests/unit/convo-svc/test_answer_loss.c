/* test_answer_loss.c - what becomes of an answer when its llm-svc is down, lost, silent or new.
 *
 * And of answers that an earlier start of convo-svc left unfinished. */
#include "answer_fixture.h"

/* --- llm-svc comes and goes ------------------------------------------------------------------- */

static void
waits_for_an_llm_svc_and_begins_when_it_is_there(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", true);
    self->llm = (play_llm_t){false, false, 0};
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
    self->llm = (play_llm_t){false, false, 0};
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
    play_lose(self);
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
a_waiting_answer_whose_llm_svc_drains_begins_again_elsewhere(void **state)
{
    play_t *self = *state;

    open_called(self);
    self->llm.takes_work = false;
    play_final(self, 0, "never shown", "", "interrupted");
    assert_false(self->has_step);
    assert_true(self->has_restart);
    assert_int_equal(self->acks, 0); /* not before the text is given up for good */
    play_commit_restart(self, RC_OK);
    assert_int_equal(self->acked_llm, 500);
    assert_true(self->ack.stored); /* nobody needs it any more: it may go */
    assert_int_equal(self->ack.fence, self->stopped_fence);
    assert_int_not_equal(self->ack.fence, self->fence);
    self->others[0] = (play_llm_t){true, true, 700};
    play_wait(self, ANSWER_RETRY_MS);
    play_send_prompt(self, RC_OK);
    assert_int_equal(self->called, 700);
    play_final(self, 0, "Hi", "stop", "");
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
one_that_was_begun_thrice_ends_with_its_llm_svc(void **state)
{
    play_t *self = *state;

    open_called(self);
    for (int i = 0; i < 2; i++) {
        play_final(self, 0, "", "", "interrupted");
        play_commit_restart(self, RC_OK);
        play_send_prompt(self, RC_OK);
    }
    play_final(self, 0, "", "", "interrupted");
    assert_false(self->has_restart);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
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
    answer_row_t row = play_row(ANSWER_WAITING, "");

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
    assert_int_equal(self->counted[SVC_M_STEPS_FENCED], 1);
    row.term = 2;
    play_tell_row(self, RC_OK, &row);
    assert_true(answer_is_over(self->answer));
    assert_true(play_last_told(self)->is_last);
}

static void
restarts_that_the_disk_refuses_let_watchers_go(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_down(self);
    play_up(self, 501);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(self->refused, 0);
        play_commit_restart(self, RC_UNAVAILABLE);
        play_wait(self, 1000);
    }
    assert_int_equal(self->refused, 1);
    assert_int_equal(answer_watch(self->answer, 3), RC_UNAVAILABLE);
    play_commit_restart(self, RC_OK);
    assert_int_equal(answer_watch(self->answer, 4), RC_OK);
    play_send_prompt(self, RC_OK);
    play_final(self, 0, "Hi", "stop", "");
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
a_loss_while_the_database_refuses_is_told_and_takes_tails(void **state)
{
    play_t *self = *state;
    tail_req_t tail = {SVC_LIT(STREAM), 100, 5, SVC_LIT(", wor")};
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

    open_streaming(self);
    play_piece(self, 5, ", wo");
    play_commit(self, RC_UNAVAILABLE);
    play_wait(self, ANSWER_UNSAVED_MS);
    assert_int_equal(answer_watch(self->answer, 2), RC_UNAVAILABLE);
    play_down(self);
    play_up(self, 501);
    assert_int_equal(answer_watch(self->answer, 3), RC_OK);
    assert_true(play_last_told(self)->lost);
    play_tell_row(self, RC_UNAVAILABLE, NULL);
    play_wait(self, 5000); /* nobody can hand in anything meanwhile */
    assert_false(self->has_step);
    play_tell_row(self, RC_OK, &row);
    assert_int_equal(answer_tail(self->answer, &tail), RC_OK);
    play_wait(self, ANSWER_TAIL_AGAIN_MS);
    play_commit(self, RC_OK);
    assert_text(self, "Hello, wor");
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
}

static void
an_end_of_a_loss_that_finds_the_database_away_takes_tails_again(void **state)
{
    play_t *self = *state;
    tail_req_t tail = {SVC_LIT(STREAM), 100, 5, SVC_LIT(", wor")};
    tail_req_t more = {SVC_LIT(STREAM), 100, 5, SVC_LIT(", world")};
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

    open_streaming(self);
    play_down(self);
    play_up(self, 501);
    assert_int_equal(answer_tail(self->answer, &tail), RC_OK);
    self->refuse_jobs = true; /* the writer waits for the database */
    play_wait(self, 1000);
    self->refuse_jobs = false;
    play_wait(self, 1000);
    play_commit(self, RC_UNAVAILABLE);
    play_tell_row(self, RC_UNAVAILABLE, NULL);
    play_wait(self, 5000);
    assert_false(self->has_step);
    play_tell_row(self, RC_OK, &row);
    assert_true(play_last_told(self)->lost);
    assert_int_equal(answer_tail(self->answer, &more), RC_OK);
    play_wait(self, ANSWER_TAIL_AGAIN_MS);
    play_commit(self, RC_OK);
    assert_text(self, "Hello, world");
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
}

static void
a_loss_waits_for_tails_as_long_as_nobody_may_watch_here(void **state)
{
    play_t *self = *state;
    tail_req_t tail = {SVC_LIT(STREAM), 100, 5, SVC_LIT(", wor")};

    open_streaming(self);
    self->is_barred =
        true; /* our lease is not known to hold: gateways cannot hear of the loss */
    play_down(self);
    play_up(self, 501);
    play_wait(self, 10000);
    assert_false(self->has_step);
    self->is_barred = false;
    play_wait(self, ANSWER_TAIL_AGAIN_MS - 500);
    assert_false(self->has_step);
    assert_int_equal(answer_tail(self->answer, &tail), RC_OK);
    play_wait(self, 1000);
    play_commit(self, RC_OK);
    assert_text(self, "Hello, wor");
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
}

static void
an_end_of_a_loss_that_only_a_full_disk_refuses_is_tried_again(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

    open_streaming(self);
    play_down(self);
    play_up(self, 501);
    play_wait(self, 1000);
    play_commit(self, RC_UNAVAILABLE);
    play_tell_row(self, RC_OK, &row);
    play_wait(self, 1000);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
}

static void
our_own_standstill_gives_a_commit_its_time_again(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_piece(self, 5, ", world");
    self->mono_ms += 5000;
    answer_on_stall(self->answer);
    answer_on_tick(self->answer);
    assert_int_equal(self->refused, 0);
    play_wait(self, ANSWER_UNSAVED_MS);
    assert_int_equal(self->refused, 1);
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
    self->llm = (play_llm_t){false, false, 0};
    answer_begin(self->answer);
    play_wait(self, 5000);
    assert_int_equal(self->attaches, 0);
    self->llm = (play_llm_t){true, true, 500};
    answer_on_llm_up(self->answer, self->llm.instance);
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
    assert_false(self->has_restart); /* another one may just be coming up */
    play_wait(self, ANSWER_SEARCH_MS);
    play_commit_restart(self, RC_OK);
    assert_int_equal(self->generates, 1);
}

static void
one_whose_llm_svc_does_not_come_for_12_s_is_lost(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_STREAMING, "Hello", false);
    self->llm = (play_llm_t){false, false, 0};
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
    self->llm = (play_llm_t){false, false, 0};
    answer_begin(self->answer);
    play_wait(self, 12100);
    play_commit_restart(self, RC_OK);
    play_up(self, 500);
    assert_int_equal(self->generates, 1);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, play_setup, play_teardown)
    const struct CMUnitTest tests[] = {
        TEST(waits_for_an_llm_svc_and_begins_when_it_is_there),
        TEST(after_120_s_without_llm_svc_it_ends_as_unavailable),
        TEST(a_draining_llm_svc_gets_no_new_generation),
        TEST(a_generate_that_could_not_be_sent_or_was_refused_is_tried_again),
        TEST(down_judges_nothing_and_the_same_instance_is_attached_to),
        TEST(down_while_a_piece_is_committed_keeps_the_piece),
        TEST(a_waiting_answer_whose_llm_svc_is_lost_begins_again_with_another_fence),
        TEST(a_waiting_answer_whose_llm_svc_drains_begins_again_elsewhere),
        TEST(one_that_was_begun_thrice_ends_with_its_llm_svc),
        TEST(three_attempts_are_enough),
        TEST(no_attempt_begins_after_120_s),
        TEST(a_restart_that_the_disk_refuses_is_tried_again_and_a_stale_one_given_up),
        TEST(restarts_that_the_disk_refuses_let_watchers_go),
        TEST(a_loss_while_the_database_refuses_is_told_and_takes_tails),
        TEST(an_end_of_a_loss_that_finds_the_database_away_takes_tails_again),
        TEST(a_loss_waits_for_tails_as_long_as_nobody_may_watch_here),
        TEST(an_end_of_a_loss_that_only_a_full_disk_refuses_is_tried_again),
        TEST(our_own_standstill_gives_a_commit_its_time_again),
        TEST(a_loss_during_a_commit_is_judged_after_it),
        TEST(a_loss_during_a_failed_commit_of_the_first_piece_begins_again),
        TEST(an_end_that_has_come_survives_the_loss_of_its_llm_svc),
        TEST(an_llm_svc_that_knows_no_such_stream_has_lost_it),
        TEST(an_attach_that_fails_is_tried_again),
        TEST(silence_after_generate_is_answered_by_an_attach),
        TEST(an_unfinished_answer_of_an_earlier_start_is_attached_to),
        TEST(a_waiting_one_that_llm_svc_does_not_know_begins_again),
        TEST(one_whose_llm_svc_does_not_come_for_12_s_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
