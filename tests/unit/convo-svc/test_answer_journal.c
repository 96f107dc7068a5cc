/* test_answer_journal.c - an answer's journal: pieces at its length only, the end, refusals of the disk, tails.
 *
 * What is acknowledged or told has always been committed before. */
#include "answer_fixture.h"

/* An answer of an earlier start that has `n` bytes of text already and is attached to. */
static void
open_long(play_t *self, size_t n)
{
    char *text = svc_alloc(n + 1);

    memset(text, 'x', n);
    play_open(self, ANSWER_STREAMING, text, false);
    free(text);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    answer_begin(self->answer);
    assert_int_equal(self->attach.from, n);
}

/* --- pieces ----------------------------------------------------------------------------------- */

static void
a_step_names_the_row_that_it_starts_from(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    assert_true(svc_str_eq(self->step.stream, SVC_LIT(STREAM)));
    assert_int_equal(self->step.term, 1);
    assert_int_equal(self->step.fence, 100);
    assert_int_equal(self->step.state, ANSWER_WAITING);
    assert_int_equal(self->step.next_state, ANSWER_STREAMING);
    assert_int_equal(self->step.length, 0);
    assert_int_equal(self->step.llm, 500);
    play_commit(self, RC_OK);
    play_piece(self, 5, "!");
    assert_int_equal(self->step.state, ANSWER_STREAMING);
    assert_int_equal(self->step.length, 5);
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
}

static void
each_commit_is_acknowledged_with_the_length_that_it_made(void **state)
{
    play_t *self = *state;
    char piece[2] = "a";

    open_called(self);
    for (uint64_t n = 0; n < 20; n++) {
        piece[0] = (char)('a' + n);
        play_piece(self, n, piece);
        assert_int_equal(self->acks, n); /* the commit is still under way */
        play_commit(self, RC_OK);
        assert_int_equal(self->acks, n + 1);
        assert_int_equal(self->ack.journaled, n + 1);
        assert_int_equal(self->ack.fence, 100);
        assert_int_equal(self->ack.term, 1);
        assert_false(self->ack.stored);
    }
    assert_text(self, "abcdefghijklmnopqrst");
}

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
a_database_that_refuses_pieces_lets_watchers_go_until_it_takes_one(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    for (int i = 0; i < 3; i++) {
        play_piece(self, 5, ", world");
        play_commit(self, RC_UNAVAILABLE);
        assert_int_equal(self->refused, 0);
        assert_int_equal(answer_watch(self->answer, 2), RC_OK);
        answer_unwatch(self->answer, 2);
        play_wait(self, 1000);
    }
    assert_int_equal(self->refused, 1);
    assert_int_equal(self->refused_rc, RC_UNAVAILABLE);
    assert_int_equal(answer_watch(self->answer, 3), RC_UNAVAILABLE);
    assert_int_equal(answer_watch_end(self->answer, 4),
                     RC_OK); /* it is told in 2 s anyway */
    play_wait(self, 60000);
    assert_int_equal(self->refused, 1);
    assert_int_equal(play_last_told(self)->call, 4);
    play_piece(self, 5, ", world");
    play_commit(self, RC_OK);
    assert_int_equal(answer_watch(self->answer, 5), RC_OK);
    assert_int_equal(play_last_told(self)->length, 12);
    play_final(self, 12, "!", "stop", "");
    play_commit(self, RC_OK);
    assert_text(self, "Hello, world!");
    assert_ended(self, ANSWER_COMPLETE, "");
    assert_int_equal(play_last_told(self)->call, 5);
}

static void
llm_svc_hears_of_us_while_the_database_refuses(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_piece(self, 5, ", world");
    assert_int_equal(self->acks, 1);
    play_piece(self, 5, ", world"); /* the commit hangs */
    assert_int_equal(self->acks, 2);
    assert_int_equal(self->ack.journaled, 5);
    play_commit(self, RC_UNAVAILABLE);
    play_piece(self, 5, ", world");
    assert_int_equal(self->acks, 3);
    assert_int_equal(self->ack.journaled, 5);
    play_commit(self, RC_OK);
    assert_int_equal(self->acks, 4);
    assert_int_equal(self->ack.journaled, 12);
    play_piece(self, 12, "!");
    assert_int_equal(self->acks, 4); /* nothing to excuse */
}

static void
a_commit_that_hangs_lets_watchers_go(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_piece(self, 5, ", world");
    play_wait(self, ANSWER_UNSAVED_MS - 100);
    assert_int_equal(self->refused, 0);
    play_wait(self, 100);
    assert_int_equal(self->refused, 1);
    assert_int_equal(answer_watch(self->answer, 3), RC_UNAVAILABLE);
    play_commit(self, RC_OK);
    assert_int_equal(answer_watch(self->answer, 4), RC_OK);
    assert_int_equal(play_last_told(self)->length, 12);
}

static void
a_database_that_refuses_the_end_lets_watchers_go_and_stores_it_when_it_can(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    self->refuse_jobs = true; /* the queue of the writer is full */
    play_final(self, 5, ", world", "stop", "");
    play_wait(self, 60000);
    assert_int_equal(self->refused, 1);
    assert_int_equal(self->refused_rc, RC_UNAVAILABLE);
    assert_int_equal(answer_watch(self->answer, 3), RC_UNAVAILABLE);
    self->refuse_jobs = false;
    play_wait(self, 1000);
    play_commit(self, RC_OK);
    assert_text(self, "Hello, world");
    assert_int_equal(self->state, ANSWER_COMPLETE);
    assert_true(answer_is_over(self->answer));
    assert_true(self->ack.stored);
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
    assert_int_equal(self->state, ANSWER_COMPLETE);
    assert_true(answer_is_over(self->answer));
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
    answer_row_t row = play_row(ANSWER_STREAMING, "");

    open_called(self);
    play_piece(self, 0, "Hello");
    play_commit(self, RC_STALE);
    assert_int_equal(self->counted[SVC_M_STEPS_FENCED], 1);
    assert_false(self->is_calling);
    row.term = 2;
    row.owner = OWNER + 1;
    play_tell_row(self, RC_OK, &row);
    assert_true(answer_is_over(self->answer));
    assert_true(play_last_told(self)->is_last);
    assert_int_equal(play_last_told(self)->owner, OWNER + 1);
    assert_int_equal(self->acks, 0);
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

static void
a_piece_far_behind_everything_is_a_gap_and_nothing_else(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_piece(self, UINT64_MAX, "x");
    assert_false(self->has_step);
    assert_int_equal(self->attaches, 1);
    assert_int_equal(self->attach.from, 5);
    assert_int_equal(self->attach.fence, 100);
    assert_int_equal(self->attach.term, 1);
}

static void
what_an_earlier_call_still_says_is_not_heard(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_down(self);
    play_piece(self, 5, ", world");
    play_final(self, 5, ", world", "stop", "");
    assert_false(self->has_step);
    play_up(self, 500);
    assert_int_equal(self->attach.from, 5);
    play_piece(self, 5, "!");
    play_commit(self, RC_OK);
    assert_text(self, "Hello!");
}

static void
a_text_of_another_fence_is_never_appended(void **state)
{
    play_t *self = *state;
    uint64_t old;

    open_called(self);
    old = self->fence;
    play_down(self);
    play_up(self, 501);
    play_piece(self, 0, "of the old fence"); /* while the new one is being committed */
    assert_false(self->has_step);
    play_commit_restart(self, RC_OK);
    assert_int_not_equal(self->fence, old);
    play_piece(self, 0, "of the old fence"); /* while the prompt is being built */
    assert_false(self->has_step);
    play_send_prompt(self, RC_OK);
    play_piece(self, 0, "new");
    assert_int_equal(self->step.fence, self->fence);
    assert_int_equal(self->step.llm, 501);
    play_commit(self, RC_OK);
    assert_int_equal(self->ack.fence, self->fence);
    assert_text(self, "new");
}

static void
a_full_queue_leaves_the_piece_to_its_repetition(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    self->refuse_jobs = true;
    play_piece(self, 5, "!");
    assert_false(self->has_step);
    self->refuse_jobs = false;
    play_piece(self, 5, "!");
    assert_int_equal(self->ack.journaled, 5); /* we are there, and could not store yet */
    play_commit(self, RC_OK);
    assert_int_equal(self->ack.journaled, 6);
    assert_text(self, "Hello!");
}

/* --- 16 MB ------------------------------------------------------------------------------------ */

static void
the_last_piece_is_cut_at_16_mb_between_two_characters(void **state)
{
    play_t *self = *state;

    open_long(self, PROTO_ANSWER_MAX_BYTES - 4);
    play_piece(self, self->length, "abc\xc3\xa9");
    play_commit(self, RC_OK);
    assert_int_equal(self->length, PROTO_ANSWER_MAX_BYTES - 1);
    play_piece(self, self->length, "\xc3\xa9"); /* not one more character fits */
    assert_int_equal(self->stops, 1);
    play_commit(self, RC_OK);
    assert_int_equal(self->length, PROTO_ANSWER_MAX_BYTES - 1);
    assert_ended(self, ANSWER_INTERRUPTED, "internal");
}

static void
nothing_is_stored_behind_16_mb(void **state)
{
    play_t *self = *state;

    open_long(self, PROTO_ANSWER_MAX_BYTES);
    play_piece(self, self->length - 5, "xxxxx"); /* overlap is no more text */
    assert_false(self->has_step);
    assert_int_equal(self->ack.journaled, PROTO_ANSWER_MAX_BYTES);
    play_final(self, self->length, "!", "length", "");
    play_commit(self, RC_OK);
    assert_int_equal(self->length, PROTO_ANSWER_MAX_BYTES);
    assert_ended(self, ANSWER_COMPLETE, "");
}

/* --- the end ---------------------------------------------------------------------------------- */

static void
the_end_is_named_by_finish_error_and_stop(void **state)
{
    static const struct {
        bool stop;                   /* was wanted */
        const char *finish, *error;  /* of the FINAL */
        int state;                   /* that it ends in */
        const char *stored, *reason; /* likewise */
        svc_metric metric;
    } ends[] = {
        {false, "stop", "", ANSWER_COMPLETE, "stop", "", SVC_M_ANSWERS_COMPLETE},
        {false, "length", "", ANSWER_COMPLETE, "length", "", SVC_M_ANSWERS_COMPLETE},
        {true, "stop", "", ANSWER_COMPLETE, "stop", "", SVC_M_ANSWERS_COMPLETE},
        {false, "stopped", "", ANSWER_STOPPED, "stopped", "", SVC_M_ANSWERS_STOPPED},
        {true, "", "interrupted", ANSWER_STOPPED, "stopped", "", SVC_M_ANSWERS_STOPPED},
        {false, "", "interrupted", ANSWER_INTERRUPTED, "", "interrupted",
         SVC_M_ANSWERS_INTERRUPTED},
        {true, "", "upstream_timeout", ANSWER_INTERRUPTED, "", "upstream_timeout",
         SVC_M_ANSWERS_INTERRUPTED},
        {false, "", "of a later release", ANSWER_INTERRUPTED, "", "of a later release",
         SVC_M_ANSWERS_INTERRUPTED},
    };

    for (size_t i = 0; i < SVC_COUNT(ends); i++) {
        play_t *self = *state;

        open_streaming(self);
        if (ends[i].stop)
            answer_stop(self->answer);
        play_final(self, 5, "!", ends[i].finish, ends[i].error);
        play_commit(self, RC_OK);
        assert_ended(self, ends[i].state, ends[i].reason);
        assert_string_equal(self->finish, ends[i].stored);
        assert_string_equal(play_last_told(self)->finish, ends[i].stored);
        assert_int_equal(play_last_told(self)->tokens, 3);
        assert_int_equal(play_last_told(self)->retry_after_s,
                         ends[i].reason[0] == '\0' ? 0 : 17);
        assert_int_equal(self->counted[ends[i].metric], 1);
        assert_text(self, "Hello!");
        if (i + 1 < SVC_COUNT(ends))
            play_close(self);
    }
}

static void
the_end_is_told_and_acknowledged_once_and_only_when_it_is_stored(void **state)
{
    play_t *self = *state;
    size_t told, acks;

    open_streaming(self);
    told = self->told;
    acks = self->acks;
    play_final(self, 5, "!", "stop", "");
    play_wait(self, 500);
    assert_int_equal(self->told, told);
    assert_int_equal(self->acks, acks);
    play_commit(self, RC_OK);
    assert_int_equal(self->told, told + 1);
    assert_int_equal(self->acks, acks + 1);
    assert_true(self->ack.stored);
    play_wait(self, 5000);
    answer_on_step(self->answer, RC_OK);
    play_final(self, 6, "!", "stop", "");
    assert_int_equal(self->told, told + 1);
    assert_int_equal(self->acks, acks + 1);
    assert_int_equal(self->steps, 2);
}

static void
an_end_of_somebody_else_is_given_up(void **state)
{
    play_t *self = *state;
    answer_row_t row = play_row(ANSWER_INTERRUPTED, "Hello");

    open_streaming(self);
    play_final(self, 5, "!", "stop", "");
    play_commit(self, RC_STALE);
    row.term = 2;
    play_tell_row(self, RC_OK, &row);
    assert_true(answer_is_over(self->answer));
    assert_int_equal(play_last_told(self)->state, ANSWER_INTERRUPTED);
    assert_false(self->ack.stored);
    assert_int_equal(self->counted[SVC_M_ANSWERS_COMPLETE], 0);
}

static void
a_refusal_that_overtakes_a_commit_ends_behind_its_bytes(void **state)
{
    play_t *self = *state;

    open_called(self);
    play_piece(self, 0, "Hello");
    play_error(self, RC_INTERNAL);
    assert_int_equal(self->steps, 1);
    play_commit(self, RC_OK);
    play_commit(self, RC_OK);
    assert_text(self, "Hello");
    assert_ended(self, ANSWER_INTERRUPTED, "internal");
    play_close(self);

    open_called(self);
    play_piece(self, 0, "Hello");
    play_error(self, RC_INTERNAL);
    play_commit(self, RC_UNAVAILABLE); /* its bytes may still be with llm-svc */
    assert_false(self->has_step);
    assert_int_equal(self->attaches, 1);
    assert_int_equal(self->attach.from, 0);
    play_final(self, 0, "Hello", "", "internal");
    play_commit(self, RC_OK);
    assert_text(self, "Hello");
    assert_ended(self, ANSWER_INTERRUPTED, "internal");
}

/* --- tails -------------------------------------------------------------------------------------- */

static void
a_streaming_answer_that_is_lost_takes_tails_for_a_second_and_ends(void **state)
{
    play_t *self = *state;
    tail_req_t tail = {SVC_LIT(STREAM), 100, 5, SVC_LIT(", wor")};

    open_streaming(self);
    assert_int_equal(answer_tail(self->answer, &tail), RC_CONFLICT);
    play_down(self);
    play_lose(self);
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

/* One that was cut off only may be publishing still: who comes now must not be shown what nobody takes any more. */
static void
a_loss_is_told_until_its_end_is_stored(void **state)
{
    play_t *self = *state;

    open_streaming(self);
    play_down(self);
    play_lose(self);
    play_wait(self, 1100);
    assert_true(self->has_step);
    assert_int_equal(answer_watch(self->answer, 77), RC_OK);
    assert_true(play_last_told(self)->lost);
    assert_int_equal(play_last_told(self)->length, 5);
    play_commit(self, RC_OK);
    assert_ended(self, ANSWER_INTERRUPTED, "interrupted");
    assert_false(play_last_told(self)->lost);
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

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, play_setup, play_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_step_names_the_row_that_it_starts_from),
        TEST(each_commit_is_acknowledged_with_the_length_that_it_made),
        TEST(overlap_is_cut_and_repeated_pieces_are_acknowledged_again),
        TEST(a_gap_is_answered_by_an_attach_from_the_length_at_most_once_a_second),
        TEST(an_end_behind_a_gap_is_asked_for_again),
        TEST(a_piece_that_comes_during_a_commit_is_left_to_its_repetition),
        TEST(an_end_that_comes_during_a_commit_waits_for_it),
        TEST(a_failed_commit_acknowledges_nothing_and_the_piece_comes_again),
        TEST(a_database_that_refuses_pieces_lets_watchers_go_until_it_takes_one),
        TEST(llm_svc_hears_of_us_while_the_database_refuses),
        TEST(a_commit_that_hangs_lets_watchers_go),
        TEST(a_database_that_refuses_the_end_lets_watchers_go_and_stores_it_when_it_can),
        TEST(an_end_is_kept_until_the_disk_takes_it),
        TEST(an_end_after_a_failed_piece_is_asked_for_again),
        TEST(a_row_that_has_moved_on_is_given_up),
        TEST(bytes_that_are_no_characters_are_never_stored),
        TEST(a_piece_far_behind_everything_is_a_gap_and_nothing_else),
        TEST(what_an_earlier_call_still_says_is_not_heard),
        TEST(a_text_of_another_fence_is_never_appended),
        TEST(a_full_queue_leaves_the_piece_to_its_repetition),
        TEST(the_last_piece_is_cut_at_16_mb_between_two_characters),
        TEST(nothing_is_stored_behind_16_mb),
        TEST(the_end_is_named_by_finish_error_and_stop),
        TEST(the_end_is_told_and_acknowledged_once_and_only_when_it_is_stored),
        TEST(an_end_of_somebody_else_is_given_up),
        TEST(a_refusal_that_overtakes_a_commit_ends_behind_its_bytes),
        TEST(a_streaming_answer_that_is_lost_takes_tails_for_a_second_and_ends),
        TEST(a_loss_is_told_until_its_end_is_stored),
        TEST(tails_are_bounded),
        TEST(our_own_standstill_gives_tails_their_time_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
