/* test_answer_llm.c - an answer among several llm-svc: it keeps to its own, finds it, leaves one that is down.
 *
 * (What becomes of it where there is only one stands in test_answer_loss.c.) */
#include "answer_fixture.h"

/* Another llm-svc that is up. */
static void
add_llm(play_t *self, size_t at, uint64_t instance)
{
    self->others[at] = (play_llm_t){true, true, instance};
}

/* One of the others goes, or comes. */
static void
other_down(play_t *self, size_t at)
{
    self->others[at].is_up = self->others[at].takes_work = false;
    if (self->is_calling && self->called == self->others[at].instance)
        play_error(self, RC_UNAVAILABLE);
    answer_on_llm_down(self->answer, self->others[at].instance);
}

static void
other_up(play_t *self, size_t at, uint64_t instance)
{
    add_llm(self, at, instance);
    answer_on_llm_up(self->answer, instance);
}

/* --- its own ---------------------------------------------------------------------------------- */

static void
what_happens_to_other_llm_svc_is_nothing_to_it(void **state)
{
    play_t *self = *state;

    open_called(self);
    add_llm(self, 0, 600);
    answer_on_llm_up(self->answer, 600);
    other_down(self, 0);
    answer_on_llm_lost(self->answer, 600);
    assert_true(self->is_calling);
    assert_int_equal(self->hang_ups, 0);
    play_piece(self, 0, "Hello");
    play_commit(self, RC_OK);
    assert_int_equal(self->step.llm, 500);
    assert_int_equal(self->acked_llm, 500);
    play_down(self);
    other_up(self, 0, 600);
    assert_int_equal(self->attaches, 0); /* it does not have the text */
    play_up(self, 500);
    assert_int_equal(self->attaches, 1);
    assert_int_equal(self->called, 500);
}

static void
its_status_names_owner_and_llm_svc(void **state)
{
    play_t *self = *state;

    open_called(self);
    assert_int_equal(play_last_told(self)->owner, OWNER);
    assert_int_equal(play_last_told(self)->llm, 0); /* none yet */
    assert_int_equal(answer_watch(self->answer, 2), RC_OK);
    assert_int_equal(play_last_told(self)->llm, 500);
}

static void
a_waiting_one_leaves_an_llm_svc_that_is_down_when_another_takes_work(void **state)
{
    play_t *self = *state;

    open_called(self);
    add_llm(self, 0, 600);
    play_down(self);
    play_commit_restart(self, RC_OK);
    play_send_prompt(self, RC_OK);
    assert_int_equal(self->called, 600);
    assert_int_equal(self->attempt, 2);
    play_up(self, 500); /* it only stood still: what it writes is wanted by nobody */
    assert_int_equal(self->stops, 1);
    assert_int_equal(self->stopped_llm, 500);
    assert_int_equal(self->stopped_fence, 100);
    assert_true(self->ack.stored);
    assert_int_equal(self->ack.fence, 100);
    play_down(self);
    play_up(self, 500);
    assert_int_equal(self->stops, 1); /* once is enough */
    play_final(self, 0, "Hi", "stop", "");
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
what_is_left_is_not_left_for_the_last_time_before_it_is_lost(void **state)
{
    play_t *self = *state;

    open_called(self);
    add_llm(self, 0, 600);
    for (int i = 0; i < 2; i++) {
        play_down(self);
        play_commit_restart(self, RC_OK);
        play_up(self, 500);
        self->others[0].takes_work = false;
        play_send_prompt(self, RC_OK);
        self->others[0].takes_work = true;
    }
    assert_int_equal(self->attempt, 3);
    play_down(self); /* the third one is waited for */
    assert_false(self->has_step || self->has_restart);
    play_up(self, 500);
    assert_int_equal(self->attach.fence, self->fence);
    assert_true(self->is_calling);
}

static void
one_that_is_streaming_or_being_stored_waits_for_its_llm_svc(void **state)
{
    play_t *self = *state;

    open_called(self);
    add_llm(self, 0, 600);
    play_piece(self, 0, "Hello");
    play_down(self);
    assert_false(self->has_restart);
    play_commit(self, RC_OK);
    play_wait(self, 5000);
    assert_false(self->has_restart);
    play_lose(self);
    assert_true(play_last_told(self)->lost);
}

static void
one_that_is_to_stop_waits_for_its_llm_svc(void **state)
{
    play_t *self = *state;

    open_called(self);
    add_llm(self, 0, 600);
    answer_stop(self->answer);
    play_down(self);
    assert_false(self->has_restart || self->has_step);
    play_up(self, 500);
    play_wait(self, 100);
    assert_int_equal(self->stops, 2);
    play_final(self, 0, "", "stopped", "");
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_STOPPED, "");
}

static void
an_llm_svc_that_stays_away_without_a_word_is_lost_after_12_s(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_down(self);
    play_wait(self, ANSWER_SILENCE_MS - 100);
    assert_false(play_last_told(self)->lost);
    play_wait(self, 200);
    assert_true(play_last_told(self)->lost);
}

/* --- taken over ------------------------------------------------------------------------------- */

static void
one_that_was_taken_over_attaches_to_the_llm_svc_in_its_row(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

    row.term = 3;
    row.llm = 600;
    play_open_row(self, &row, "Hello", false);
    add_llm(self, 0, 600);
    answer_begin(self->answer);
    assert_int_equal(self->called, 600);
    assert_int_equal(self->attach.term, 3);
    assert_int_equal(self->attach.from, 5);
    assert_int_equal(answer_term(self->answer), 3);
}

static void
one_whose_llm_svc_is_known_to_be_lost_is_not_waited_for(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

    row.llm = 600;
    play_open_row(self, &row, "Hello", false);
    self->lost = 600;
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    answer_begin(self->answer);
    assert_true(play_last_told(self)->lost);
}

static void
a_waiting_one_asks_all_llm_svc_in_turn_and_keeps_to_the_one_that_has_it(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", false);
    add_llm(self, 0, 700);
    add_llm(self, 1, 600);
    answer_begin(self->answer);
    assert_int_equal(self->called, 500);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    assert_int_equal(play_last_told(self)->llm, 0); /* not known yet */
    play_error(self, RC_NOT_FOUND);
    assert_int_equal(self->called, 600);
    play_piece(self, 0, "Hello");
    play_commit(self, RC_OK);
    assert_int_equal(self->step.llm, 600);
    assert_int_equal(play_last_told(self)->llm, 600);
    assert_int_equal(self->attaches, 2);
    play_error(self, RC_NOT_FOUND); /* from now on it is this one or none */
    assert_true(play_last_told(self)->lost);
}

static void
when_nobody_has_it_it_begins_again_with_another_fence(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", false);
    add_llm(self, 0, 600);
    answer_begin(self->answer);
    play_error(self, RC_NOT_FOUND);
    play_error(self, RC_TOO_OLD);
    assert_false(self->has_restart);
    other_up(self, 1, 400); /* it comes late, but in time */
    assert_int_equal(self->called, 400);
    play_error(self, RC_NOT_FOUND);
    for (int i = 0; i < 2; i++) /* those that were asked are asked once more */
        play_error(self, RC_NOT_FOUND);
    assert_false(self->has_restart);
    play_wait(self, ANSWER_SEARCH_MS);
    assert_true(self->has_restart);
    play_commit_restart(self, RC_OK);
    assert_int_equal(self->generates, 1);
}

static void
the_search_goes_on_past_llm_svc_that_are_busy_go_down_or_cannot_be_called(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", false);
    add_llm(self, 0, 600);
    add_llm(self, 1, 700);
    self->attach_rc = RC_BUSY; /* its queue is full */
    answer_begin(self->answer);
    assert_int_equal(self->attaches, 1);
    self->attach_rc = RC_OK;
    play_wait(self, ANSWER_RETRY_MS);
    assert_int_equal(self->called, 500);
    play_error(self, RC_BUSY);
    play_wait(self, ANSWER_RETRY_MS);
    assert_int_equal(self->called, 500); /* asked again: it may have it */
    play_down(self);
    assert_int_equal(self->called, 600);
    other_down(self, 0);
    assert_int_equal(self->called, 700);
    answer_on_llm_down(self->answer, 700); /* without a word about the call */
    assert_false(self->is_calling);
    assert_true(self->has_restart);
}

static void
a_search_without_any_llm_svc_ends_after_12_s(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", false);
    self->llm = (play_llm_t){false, false, 0};
    answer_begin(self->answer);
    play_wait(self, ANSWER_SILENCE_MS - 100);
    assert_false(self->has_restart);
    play_wait(self, 200);
    play_commit_restart(self, RC_OK);
    play_up(self, 500);
    assert_int_equal(self->generates, 1);
}

static void
an_llm_svc_that_is_lost_while_it_is_asked_does_not_have_it(void **state)
{
    play_t *self = *state;

    play_open(self, ANSWER_WAITING, "", false);
    add_llm(self, 0, 600);
    answer_begin(self->answer);
    self->llm.is_up = self->llm.takes_work = false;
    play_lose(self); /* at once, as when its address refuses */
    self->is_calling = true;
    assert_int_equal(self->called, 600);
    play_wait(self, 60000); /* a provider may think */
    assert_false(self->has_restart);
    play_error(self, RC_TIMEOUT);
    assert_int_equal(self->called, 600);
    assert_int_equal(self->attaches, 3);
}

static void
a_stop_reaches_the_llm_svc_that_is_found(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_WAITING, "");

    row.stop_wanted = true;
    play_open_row(self, &row, "", false);
    add_llm(self, 0, 600);
    answer_begin(self->answer);
    play_error(self, RC_NOT_FOUND);
    play_wait(self, 100);
    assert_int_equal(self->stopped_llm, 600);
    play_final(self, 0, "", "stopped", "");
    play_commit(self, RC_OK);
    assert_int_equal(self->state, ANSWER_STOPPED);
    play_close(self);
    play_open_row(self, &row, "", false);
    answer_begin(self->answer);
    play_error(self, RC_NOT_FOUND);
    play_wait(self, ANSWER_SEARCH_MS);
    play_commit(self, RC_OK); /* nobody has it */
    assert_int_equal(self->state, ANSWER_STOPPED);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, play_setup, play_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_happens_to_other_llm_svc_is_nothing_to_it),
        TEST(its_status_names_owner_and_llm_svc),
        TEST(a_waiting_one_leaves_an_llm_svc_that_is_down_when_another_takes_work),
        TEST(what_is_left_is_not_left_for_the_last_time_before_it_is_lost),
        TEST(one_that_is_streaming_or_being_stored_waits_for_its_llm_svc),
        TEST(one_that_is_to_stop_waits_for_its_llm_svc),
        TEST(an_llm_svc_that_stays_away_without_a_word_is_lost_after_12_s),
        TEST(one_that_was_taken_over_attaches_to_the_llm_svc_in_its_row),
        TEST(one_whose_llm_svc_is_known_to_be_lost_is_not_waited_for),
        TEST(a_waiting_one_asks_all_llm_svc_in_turn_and_keeps_to_the_one_that_has_it),
        TEST(when_nobody_has_it_it_begins_again_with_another_fence),
        TEST(the_search_goes_on_past_llm_svc_that_are_busy_go_down_or_cannot_be_called),
        TEST(a_search_without_any_llm_svc_ends_after_12_s),
        TEST(an_llm_svc_that_is_lost_while_it_is_asked_does_not_have_it),
        TEST(a_stop_reaches_the_llm_svc_that_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
