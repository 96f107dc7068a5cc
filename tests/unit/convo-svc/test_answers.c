/* test_answers.c - the table of live answers: found, begun, stopped, deleted, whatever is on its way for them.
 *
 * (What they tell their watchers and ask of llm-svc stands in test_answers_out.c.) */
#include "answers_fixture.h"

/* --- finding ---------------------------------------------------------------------------------- */

static void
an_answer_is_found_by_stream_and_by_conversation_and_by_nothing_else(void **state)
{
    test_t *self = *state;
    answer_t *one = add_answer(self, 1, ANSWER_WAITING, 0, true);
    answer_t *two = add_answer(self, 2, ANSWER_STREAMING, 5, false);

    assert_ptr_equal(by_stream(self, 1), one);
    assert_ptr_equal(by_stream(self, 2), two);
    assert_ptr_not_equal(one, two);
    assert_ptr_equal(answers_by_conversation(self->answers, 1), one);
    assert_ptr_equal(answers_by_conversation(self->answers, 2), two);
    assert_null(by_stream(self, 3));
    assert_null(answers_by_conversation(self->answers, 3));
    assert_null(answers_by_stream(self->answers, (svc_str){NULL, 0}));
    assert_null(answers_by_stream(self->answers, SVC_LIT("\x01")));
    assert_int_equal(answers_count(self->answers), 2);
    assert_int_equal(answers_busy(self->answers), 0); /* nothing has begun */
}

static void
who_is_there_already_is_given_instead_of_a_second_one(void **state)
{
    test_t *self = *state;
    answer_t *one = add_answer(self, 1, ANSWER_WAITING, 0, true);

    assert_ptr_equal(add_answer(self, 1, ANSWER_WAITING, 0, true), one);
    assert_int_equal(answers_count(self->answers), 1);
}

static void
what_a_newer_row_proves_to_be_over_is_given_up(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    answer_row_t row = {.stream = stream_of(room, 9),
                        .user = USER,
                        .conversation = 1,
                        .message = 4,
                        .state = ANSWER_WAITING,
                        .term = 1};

    (void)add_answer(self, 1, ANSWER_WAITING, 0, true);
    watch(self, 1, &self->a);
    assert_non_null(answers_add(self->answers, &row, true)); /* it has ended elsewhere */
    assert_null(by_stream(self, 1));
    assert_non_null(by_stream(self, 9));
    assert_int_equal(service_wait(&self->service, &self->a, 2)->rc, RC_STALE);
    watch(self, 1, &self->b);
    row.term = 3; /* somebody else had it meanwhile */
    assert_int_equal(answer_term(answers_add(self->answers, &row, false)), 3);
    assert_int_equal(service_wait(&self->service, &self->b, 2)->rc, RC_STALE);
    assert_int_equal(answers_count(self->answers), 1);
}

static void
a_caller_that_has_filled_all_places_gives_up_its_oldest(void **state)
{
    test_t *self = *state;
    answer_t *answer = add_answer(self, 1, ANSWER_WAITING, 0, true);

    watch(self, 1, &self->a);
    watch(self, 1, &self->b);
    for (uint64_t i = 0; i < ANSWER_WATCHERS_MAX - 2; i++) /* calls of nobody */
        assert_int_equal(answer_watch(answer, UINT64_MAX / 2 + i), RC_OK);
    assert_int_equal(answer_watch(answer, UINT64_MAX), RC_BUSY);
    watch(self, 1, &self->c);
    assert_int_equal(service_wait(&self->service, &self->a, 2)->rc, RC_UNAVAILABLE);
    assert_int_equal(self->b.n, 1);
    send_watch_end(self, 1, &self->a); /* a stop finds a place, too */
    assert_int_equal(service_wait(&self->service, &self->b, 2)->rc, RC_UNAVAILABLE);
    answers_delete(self->answers, answer);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->kind, PROTO_FINAL);
    assert_int_equal(service_wait(&self->service, &self->c, 2)->kind, PROTO_FINAL);
}

static void
many_are_found_and_those_that_stay_when_others_go(void **state)
{
    test_t *self = *state;
    enum { MANY = 6000 }; /* more than there are buckets */

    for (unsigned i = 1; i <= MANY; i++)
        (void)add_answer(self, i, ANSWER_WAITING, 0, false);
    assert_int_equal(answers_count(self->answers), MANY);
    for (unsigned i = 1; i <= MANY; i += 3)
        answers_delete(self->answers, by_stream(self, i));
    assert_int_equal(answers_count(self->answers), MANY - MANY / 3);
    for (unsigned i = 1; i <= MANY; i++) {
        answer_t *answer = by_stream(self, i);

        assert_ptr_equal(answer, answers_by_conversation(self->answers, i));
        if (i % 3 == 1)
            assert_null(answer);
        else
            assert_int_equal(answer_conversation(answer), i);
    }
}

static void
an_empty_table_is_taken_apart_and_null_is_harmless(void **state)
{
    test_t *self = *state;

    answers_destroy(&self->answers);
    assert_null(self->answers);
    answers_destroy(&self->answers);
    self->answers = answers_new(&self->service.fixture.ctx); /* for the teardown */
    svc_peers_destroy(&self->llm);
}

/* --- beginning -------------------------------------------------------------------------------- */

static void
what_was_asked_here_is_generated_and_what_was_found_is_attached_to(void **state)
{
    test_t *self = *state;

    (void)add_answer(self, 1, ANSWER_STREAMING, 5, false);
    answers_begin_all(self->answers);
    run_until(self, llm_was_asked);
    assert_int_equal(self->service.llm.attaches, 1);
    assert_int_equal(self->service.llm.from, 5);
    assert_int_equal(self->service.llm.fence, 101);
    assert_int_equal(played_count(&self->reader, READ_PROMPT), 0);
    self->service.llm.call = 0;
    (void)begin_answer(self, 2);
    assert_int_equal(self->service.llm.generates, 1);
    assert_int_equal(self->service.llm.fence, 102);
    assert_int_equal(answers_busy(self->answers), 2);
}

static bool
all_were_asked(void *arg)
{
    const test_t *self = arg;

    return self->service.llm.generates + self->service.llm.attaches == PLAYED_QUEUE_MAX;
}

static void
all_that_wait_begin_when_llm_svc_comes_up(void **state)
{
    test_t *self = *state;

    for (unsigned i = 1; i <= PLAYED_QUEUE_MAX; i++)
        (void)add_answer(self, i, i % 2 == 0 ? ANSWER_WAITING : ANSWER_STREAMING, 0,
                         i % 2 == 0);
    answers_begin_all(self->answers);
    assert_int_equal(answers_busy(self->answers), 0);
    service_start_llm(&self->service, 500);
    run_until(self, all_were_asked);
    assert_int_equal(self->service.llm.generates, PLAYED_QUEUE_MAX / 2);
    assert_int_equal(self->service.llm.attaches, PLAYED_QUEUE_MAX / 2);
    assert_int_equal(answers_busy(self->answers), PLAYED_QUEUE_MAX);
}

/* --- loss ------------------------------------------------------------------------------------- */

static void
a_waiting_answer_is_restarted_by_the_writer_when_llm_svc_is_another_one(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    service_stop_llm(&self->service);
    run_until(self, llm_is_away);
    assert_int_equal(answers_count(self->answers), 1);
    self->service.llm.generates = 0;
    service_start_llm(&self->service, 501);
    run_until(self, llm_was_asked);
    assert_int_equal(played_count(&self->writer, WRITE_RESTART), 1);
    assert_int_equal(played_last(&self->writer).restart.fence, 101);
    assert_int_equal(played_last(&self->writer).restart.term, 1);
    assert_int_equal(played_last(&self->writer).restart.attempt, 2);
    assert_int_equal(self->service.llm.fence,
                     played_last(&self->writer).restart.new_fence);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_GENERATIONS_RESTARTED),
                     1);
}

static void
a_restart_of_a_row_that_has_moved_on_is_given_up(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    watch(self, 1, &self->a);
    played_say(&self->writer, RC_STALE);
    played_show(&self->reader, RC_OK, 2, ANSWER_WAITING);
    service_stop_llm(&self->service);
    assert_int_equal(service_wait(&self->service, &self->a, 2)->kind, PROTO_FINAL);
    assert_int_equal(self->a.seen[1].status.owner, 602);
    assert_int_equal(answers_count(self->answers), 0);
    assert_null(by_stream(self, 1));
}

/* --- stopping, deleting ----------------------------------------------------------------------- */

static void
a_stop_before_anything_has_begun_ends_it_and_takes_it_out(void **state)
{
    test_t *self = *state;
    answer_t *answer = add_answer(self, 1, ANSWER_WAITING, 0, true);

    answers_begin(self->answers, answer, NOTHING, NOTHING);
    watch(self, 1, &self->a);
    answers_stop(self->answers, answer);
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_STOPPED);
    assert_int_equal(answers_count(self->answers), 0);
    assert_int_equal(played_last(&self->writer).step.next_state, ANSWER_STOPPED);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_ANSWERS_STOPPED), 1);
}

static void
a_deletion_tells_everybody_and_lets_llm_svc_forget(void **state)
{
    test_t *self = *state;
    answer_t *answer = begin_answer(self, 1);
    const seen_t *seen;

    watch(self, 1, &self->a);
    send_watch_end(self, 1, &self->b);
    watch(self, 1, &self->c); /* it came after that one */
    service_give_time(answer);
    answers_delete(self->answers, answer);
    assert_null(by_stream(self, 1));
    assert_null(answers_by_conversation(self->answers, 1));
    seen = service_wait(&self->service, &self->a, 2);
    assert_int_equal(seen->kind, PROTO_FINAL);
    assert_int_equal(seen->status.state, ANSWER_INTERRUPTED);
    assert_string_equal(seen->reason, "deleted");
    assert_string_equal(service_wait(&self->service, &self->b, 1)->reason, "deleted");
    assert_string_equal(service_wait(&self->service, &self->c, 2)->reason, "deleted");
    run_until(self, llm_may_forget);
    assert_int_equal(self->service.llm.stops, 1);
}

static bool
writer_restarts(void *arg)
{
    test_t *self = arg;

    return played_count(&self->writer, WRITE_RESTART) > 0;
}

static void
what_a_deleted_answer_had_asked_for_comes_back_to_nobody(void **state)
{
    test_t *self = *state;

    /* A prompt. */
    played_hold(&self->reader, true);
    answers_begin(self->answers, add_answer(self, 1, ANSWER_WAITING, 0, true), NOTHING,
                  NOTHING);
    run_until(self, reader_is_working);
    answers_delete(self->answers, by_stream(self, 1));
    played_hold(&self->reader, false);
    run_until(self, reader_is_idle);
    assert_int_equal(self->service.llm.generates, 0);
    /* A step, and the call that brought it. */
    (void)begin_answer(self, 2);
    played_hold(&self->writer, true);
    service_llm_piece(&self->service, 0, "Hello");
    run_until(self, writer_is_working);
    answers_delete(self->answers, by_stream(self, 2));
    played_hold(&self->writer, false);
    run_until(self, llm_may_forget);
    run_until(self, writer_is_idle);
    assert_int_equal(self->service.llm.journaled,
                     0); /* nobody has said that it is stored */
    /* A restart. */
    (void)begin_answer(self, 3);
    played_hold(&self->writer, true);
    service_stop_llm(&self->service);
    run_until(self, writer_restarts);
    answers_delete(self->answers, by_stream(self, 3));
    played_hold(&self->writer, false);
    run_until(self, writer_is_idle);
    assert_int_equal(answers_count(self->answers), 0);
}

static void
a_conversation_has_room_for_the_next_answer_after_the_last_one_has_gone(void **state)
{
    test_t *self = *state;
    answer_row_t row = {.stream = stream_of(self->room, 9),
                        .user = USER,
                        .conversation = 1,
                        .state = ANSWER_WAITING,
                        .term = 1,
                        .fence = 7,
                        .attempt = 1};

    (void)begin_answer(self, 1);
    service_llm_final(&self->service, 0, "Hi", "stop");
    run_until(self, no_answer_lives);
    row.stream = stream_of(self->room, 9);
    assert_non_null(answers_add(self->answers, &row, true));
    assert_ptr_equal(by_stream(self, 9), answers_by_conversation(self->answers, 1));
    assert_null(by_stream(self, 1));
}

int
main(void)
{
#define TEST(f)       cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_ALONE(f) cmocka_unit_test_setup_teardown(f, setup_without_llm, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_answer_is_found_by_stream_and_by_conversation_and_by_nothing_else),
        TEST(who_is_there_already_is_given_instead_of_a_second_one),
        TEST(what_a_newer_row_proves_to_be_over_is_given_up),
        TEST(a_caller_that_has_filled_all_places_gives_up_its_oldest),
        TEST(many_are_found_and_those_that_stay_when_others_go),
        TEST(an_empty_table_is_taken_apart_and_null_is_harmless),
        TEST(what_was_asked_here_is_generated_and_what_was_found_is_attached_to),
        TEST_ALONE(all_that_wait_begin_when_llm_svc_comes_up),
        TEST(a_waiting_answer_is_restarted_by_the_writer_when_llm_svc_is_another_one),
        TEST(a_restart_of_a_row_that_has_moved_on_is_given_up),
        TEST_ALONE(a_stop_before_anything_has_begun_ends_it_and_takes_it_out),
        TEST(a_deletion_tells_everybody_and_lets_llm_svc_forget),
        TEST(what_a_deleted_answer_had_asked_for_comes_back_to_nobody),
        TEST(a_conversation_has_room_for_the_next_answer_after_the_last_one_has_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
