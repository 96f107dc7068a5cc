/* test_answer.c - an answer's straight way, stop and deletion, and what its watchers are told.
 *
 * (Its journal stands in test_answer_journal.c, llm-svc that goes and comes in test_answer_loss.c.) */
#include "answer_fixture.h"

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

static void
a_newer_owner_at_llm_svc_means_giving_up(void **state)
{
    static const svc_rc verdicts[] = {RC_STALE, RC_CONFLICT};

    for (size_t i = 0; i < SVC_COUNT(verdicts); i++) {
        play_t *self = *state;
        answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

        open_streaming(self);
        play_error(self, verdicts[i]);
        assert_false(self->is_calling);
        row.term = 2;
        play_tell_row(self, RC_OK, &row);
        assert_true(answer_is_over(self->answer));
        assert_true(play_last_told(self)->is_last);
        assert_int_equal(self->state, ANSWER_STREAMING);
        if (i + 1 < SVC_COUNT(verdicts))
            play_close(self);
    }
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
    self->llm = (play_llm_t){false, false, 0};
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
    answer_on_generate(self->answer, RC_OK, 500);
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

static void
a_deletion_frees_llm_svc_without_an_open_call_too(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_final(self, 5, "!", "stop", ""); /* its commit is under way */
    self->state = -1;
    answer_delete(self->answer);
    assert_int_equal(self->stops, 1);
    assert_true(self->ack.stored);
    play_close(self);

    open_streaming(self);
    self->attach_rc = RC_BUSY;
    play_error(self, RC_TIMEOUT); /* the provider writes on */
    assert_false(self->is_calling);
    self->state = -1;
    answer_delete(self->answer);
    assert_int_equal(self->stops, 1);
    assert_true(self->ack.stored);
    play_close(self);

    play_open(self, ANSWER_WAITING, "", true);
    answer_begin(self->answer);
    self->state = -1;
    answer_delete(self->answer); /* none has it yet */
    assert_int_equal(self->stops + self->acks, 0);
    self->has_step = false;
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
    answer_on_generate(self->answer, RC_OK, 500);
    play_piece(self, 0, "early");
    play_final(self, 0, "early", "stop", "");
    play_error(self, RC_NOT_FOUND);
    play_lose(self);
    answer_on_llm_down(self->answer, self->llm.instance);
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
#define TEST(f) cmocka_unit_test_setup_teardown(f, play_setup, play_teardown)
    const struct CMUnitTest tests[] = {
        TEST(goes_from_waiting_over_streaming_to_complete),
        TEST(a_short_answer_comes_in_one_commit),
        TEST(an_error_of_the_provider_ends_it_with_reason_sentence_and_retry_after),
        TEST(a_generate_that_is_refused_for_good_ends_it),
        TEST(a_prompt_that_cannot_be_made_ends_it),
        TEST(a_newer_owner_at_llm_svc_means_giving_up),
        TEST(a_stop_goes_to_llm_svc_each_second_until_the_end_comes),
        TEST(who_asked_to_stop_is_answered_after_2_s_at_the_latest),
        TEST(a_waiting_answer_without_llm_svc_is_stopped_at_once),
        TEST(a_stop_while_the_prompt_is_built_keeps_it_from_being_sent),
        TEST(no_restart_forgets_a_stop),
        TEST(a_stopped_stream_that_is_lost_is_stopped_with_all_that_was_shown),
        TEST(a_stop_of_an_earlier_start_is_repeated_after_the_attach),
        TEST(a_deletion_ends_it_for_everybody_and_frees_llm_svc),
        TEST(a_deletion_frees_llm_svc_without_an_open_call_too),
        TEST(a_later_watcher_is_told_the_present_and_then_the_end),
        TEST(a_watcher_that_is_gone_disturbs_no_other),
        TEST(watchers_are_bounded),
        TEST(watchers_of_an_answer_that_is_taken_apart_are_told_to_ask_again),
        TEST(what_comes_at_the_wrong_time_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
