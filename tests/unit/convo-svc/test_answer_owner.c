/* test_answer_owner.c - whose an answer is: what its row tells when it has moved on, and answers that end with their viewers.
 *
 * (That steps are refused by term is the store's; here it is what follows.) */
#include "answer_fixture.h"

/* --- the row has moved on --------------------------------------------------------------------- */

static void
watchers_are_told_who_has_it_now(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello, world");

    open_streaming(self);
    assert_int_equal(answer_watch_end(self->answer, 2), RC_OK);
    answer_doubt(self->answer);
    assert_true(self->is_calling); /* it is only a doubt */
    row.term = 2;
    row.owner = OWNER + 1;
    play_tell_row(self, RC_OK, &row);
    assert_true(answer_is_over(self->answer));
    assert_false(self->is_calling);
    assert_int_equal(self->told, 4);
    assert_true(play_last_told(self)->is_last);
    assert_int_equal(play_last_told(self)->state, ANSWER_STREAMING);
    assert_int_equal(play_last_told(self)->length, 12);
    assert_int_equal(play_last_told(self)->owner, OWNER + 1);
    assert_int_equal(self->stops, 0); /* its llm-svc has another owner */
    answer_on_row(self->answer, RC_OK, &row);
    answer_doubt(self->answer);
    assert_false(self->is_looking);
    assert_int_equal(self->told, 4);
}

static void
a_row_that_is_gone_was_deleted(void **state)
{
    play_t *self = *state;

    open_called(
        self); /* before its first token: nothing is ever written, so no step finds out */
    answer_doubt(self->answer);
    self->state = -1;
    play_tell_row(self, RC_NOT_FOUND, NULL);
    assert_true(answer_is_over(self->answer));
    assert_int_equal(self->stops, 1);
    assert_true(self->ack.stored);
    assert_string_equal(play_last_told(self)->reason, "deleted");
}

static void
a_doubt_without_reason_changes_nothing(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

    open_streaming(self);
    answer_doubt(self->answer);
    play_tell_row(self, RC_OK, &row);
    row.state =
        ANSWER_COMPLETE; /* its end was committed, and we hear of it in a moment */
    answer_doubt(self->answer);
    play_tell_row(self, RC_OK, &row);
    answer_doubt(self->answer);
    play_tell_row(self, RC_UNAVAILABLE, NULL);
    self->refuse_jobs = true;
    answer_doubt(self->answer);
    assert_true(self->is_calling);
    assert_int_equal(self->told, 2);
    play_final(self, 5, "", "stop", "");
    self->refuse_jobs = false;
    play_wait(self, ANSWER_RETRY_MS);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
a_stale_step_whose_row_cannot_be_read_is_looked_at_until_it_can(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

    open_streaming(self);
    play_piece(self, 5, "!");
    self->refuse_jobs = true;
    play_commit(self, RC_STALE);
    assert_false(self->is_looking);
    assert_true(answer_is_busy(self->answer));
    play_wait(self, ANSWER_RETRY_MS);
    self->refuse_jobs = false;
    play_wait(self, ANSWER_RETRY_MS);
    play_tell_row(self, RC_UNAVAILABLE, NULL);
    play_wait(self, ANSWER_UNSAVED_MS);
    assert_int_equal(self->refused, 1); /* nobody is kept waiting meanwhile */
    row.term = 2;
    play_tell_row(self, RC_OK, &row);
    assert_true(answer_is_over(self->answer));
}

static void
a_row_that_is_still_ours_is_gone_on_with_from_where_it_is(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello, world");

    open_streaming(self);
    play_piece(self, 5, ", world");
    play_commit(self, RC_STALE); /* it was stored, and we were not told */
    self->length = row.length;
    assert_int_equal(svc_buf_add_str(&self->text, SVC_LIT(", world")), RC_OK);
    play_tell_row(self, RC_OK, &row);
    assert_int_equal(self->attaches, 0);
    play_wait(self, ANSWER_RETRY_MS);
    assert_int_equal(self->attaches, 1);
    assert_int_equal(self->attach.from, 12);
    play_final(self, 12, "!", "stop", "");
    play_commit(self, RC_OK);
    assert_text(self, "Hello, world!");
    assert_ended(self, ANSWER_COMPLETE, "");
}

static void
an_end_that_was_stored_without_our_knowing_is_told_and_frees_llm_svc(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_COMPLETE, "Hello!");

    open_streaming(self);
    play_final(self, 5, "!", "stop", "");
    play_commit(self, RC_STALE);
    row.finish = SVC_LIT("stop");
    self->state = ANSWER_COMPLETE;
    self->length = row.length;
    play_tell_row(self, RC_OK, &row);
    assert_true(answer_is_over(self->answer));
    assert_true(self->ack.stored);
    assert_int_equal(self->ack.journaled, 6);
    assert_int_equal(play_last_told(self)->state, ANSWER_COMPLETE);
    assert_string_equal(play_last_told(self)->finish, "stop");
}

static void
a_generation_whose_text_nobody_wants_any_more_is_stopped(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

    open_streaming(self);
    play_piece(self, 5, "!");
    play_commit(self, RC_STALE);
    row.term = 2;
    row.fence++;
    play_tell_row(self, RC_OK, &row);
    assert_true(answer_is_over(self->answer));
    assert_int_equal(self->stops, 1);
}

static void
a_generation_that_another_owner_goes_on_with_is_not_stopped(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_STREAMING, "Hello");

    open_streaming(self);
    play_piece(self, 5, "!");
    play_commit(self, RC_STALE);
    row.term = 2;
    play_tell_row(self, RC_OK, &row);
    assert_true(answer_is_over(self->answer));
    assert_int_equal(self->stops, 0);
}

static void
giving_up_tells_watchers_to_ask_again(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    answer_give_up(self->answer);
    assert_true(answer_is_over(self->answer));
    assert_int_equal(self->refused, 1);
    assert_int_equal(self->refused_rc, RC_STALE);
    assert_false(self->is_calling);
    assert_int_equal(self->stops, 0);
}

/* --- ends with its viewers -------------------------------------------------------------------- */

static void
open_alone(play_t *self)
{
    answer_row_t row = play_row(ANSWER_WAITING, "");

    row.stop_alone = true;
    play_open_row(self, &row, "", true);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    answer_begin(self->answer);
    play_send_prompt(self, RC_OK);
    play_piece(self, 0, "Hello");
    play_commit(self, RC_OK);
}

static void
one_that_nobody_watches_is_stopped_in_the_end(void **state)
{
    play_t *self = *state;

    open_alone(self);
    play_wait(self, ALONE_MS * 2);
    assert_int_equal(self->wanted_stops, 0);
    answer_unwatch(self->answer, 1);
    play_wait(self, ALONE_MS - 200);
    assert_int_equal(answer_watch(self->answer, 2), RC_OK); /* just in time */
    play_wait(self, 1000);
    answer_unwatch(self->answer, 2);
    assert_int_equal(answer_watch_end(self->answer, 3),
                     RC_OK); /* waits, does not watch */
    play_wait(self, ALONE_MS);
    assert_int_equal(self->wanted_stops, 0);
    play_wait(self, 100);
    assert_int_equal(self->wanted_stops, 1);
    assert_int_equal(self->stops, 0); /* not before it is committed */
    answer_stop(self->answer);
    answer_stop(self->answer);
    assert_int_equal(self->stops, 1);
    play_wait(self, ALONE_MS * 2);
    assert_int_equal(self->wanted_stops, 1);
}

static void
a_stop_that_could_not_be_committed_is_asked_for_again(void **state)
{
    play_t *self = *state;

    open_alone(self);
    answer_unwatch(self->answer, 1);
    self->refuse_jobs = true;
    play_wait(self, ALONE_MS + 200);
    assert_int_equal(self->wanted_stops, 0);
    self->refuse_jobs = false;
    play_wait(self, ALONE_MS);
    assert_int_equal(self->wanted_stops, 1);
}

static void
our_own_standstill_gives_viewers_their_time_again(void **state)
{
    play_t *self = *state;

    open_alone(self);
    answer_unwatch(self->answer, 1);
    play_wait(self, 1000);
    self->mono_ms += ALONE_MS * 2;
    answer_on_stall(self->answer);
    play_wait(self, ALONE_MS - 100);
    assert_int_equal(self->wanted_stops, 0);
    play_wait(self, 200);
    assert_int_equal(self->wanted_stops, 1);
}

static void
those_that_are_refused_have_not_left(void **state)
{
    play_t *self = *state;

    open_alone(self);
    play_piece(self, 5, ", you");
    play_commit(self, RC_UNAVAILABLE);
    play_wait(self, ANSWER_UNSAVED_MS + ALONE_MS * 2); /* the database is away */
    assert_int_equal(self->refused, 1);
    assert_int_equal(self->wanted_stops, 0);
    play_piece(self, 5, ", you");
    play_commit(self, RC_OK);
    play_wait(self, ALONE_MS);
    assert_int_equal(self->wanted_stops, 0);
    play_wait(self, ANSWER_TAIL_AGAIN_MS + 200);
    assert_int_equal(self->wanted_stops, 1); /* by then he would have come back */
}

static void
without_a_lease_nobody_counts_as_gone(void **state)
{
    play_t *self = *state;

    open_alone(self);
    answer_unwatch(self->answer, 1);
    self->is_barred = true;
    play_wait(self, ALONE_MS * 2);
    assert_int_equal(self->wanted_stops, 0);
    self->is_barred = false;
    play_wait(self, ALONE_MS);
    assert_int_equal(self->wanted_stops, 0);
    assert_int_equal(answer_watch(self->answer, 2), RC_OK);
    play_wait(self, ALONE_MS);
    assert_int_equal(self->wanted_stops, 0);
}

static void
others_go_on_without_viewers(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    answer_unwatch(self->answer, 1);
    play_wait(self, ALONE_MS * 3);
    assert_int_equal(self->wanted_stops, 0);
}

static void
note_call(void *arg, uint64_t call)
{
    play_t *self = arg;

    self->gone_call = self->gone_call * 10 + call;
    if (call == 2)
        answer_unwatch(self->answer, call);
}

static void
those_who_watch_every_change_can_be_gone_through_and_taken_out(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    assert_int_equal(answer_watch(self->answer, 2), RC_OK);
    assert_int_equal(answer_watch_end(self->answer, 5), RC_OK);
    assert_int_equal(answer_watch(self->answer, 3), RC_OK);
    answer_each_watcher(self->answer, note_call, self);
    assert_int_equal(self->gone_call, 321);
    self->gone_call = 0;
    answer_each_watcher(self->answer, note_call, self);
    assert_int_equal(self->gone_call, 31);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, play_setup, play_teardown)
    const struct CMUnitTest tests[] = {
        TEST(watchers_are_told_who_has_it_now),
        TEST(a_row_that_is_gone_was_deleted),
        TEST(a_doubt_without_reason_changes_nothing),
        TEST(a_stale_step_whose_row_cannot_be_read_is_looked_at_until_it_can),
        TEST(a_row_that_is_still_ours_is_gone_on_with_from_where_it_is),
        TEST(an_end_that_was_stored_without_our_knowing_is_told_and_frees_llm_svc),
        TEST(a_generation_that_another_owner_goes_on_with_is_not_stopped),
        TEST(a_generation_whose_text_nobody_wants_any_more_is_stopped),
        TEST(giving_up_tells_watchers_to_ask_again),
        TEST(one_that_nobody_watches_is_stopped_in_the_end),
        TEST(a_stop_that_could_not_be_committed_is_asked_for_again),
        TEST(our_own_standstill_gives_viewers_their_time_again),
        TEST(those_that_are_refused_have_not_left),
        TEST(without_a_lease_nobody_counts_as_gone),
        TEST(others_go_on_without_viewers),
        TEST(those_who_watch_every_change_can_be_gone_through_and_taken_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
