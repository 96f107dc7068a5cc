/* test_convo_writer_answers.c - questions and stops as jobs of the writer, in a real pool.
 *
 * (Keys and retries stand in test_convo_writer_keys.c, two writers in test_convo_writer_two.c.) */
#include "workers_fixture.h"

static void
asks_once_and_joins_the_second_time(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    answer_row_t row, again;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_true(row.fresh);
    assert_int_equal(row.message, 2);
    assert_int_equal(row.state, ANSWER_WAITING);
    assert_int_equal(row.attempt, 1);
    assert_int_equal(row.fence >> 48, 1);
    assert_int_equal(row.owner, 77);
    assert_int_equal(ask(self, USER, id, 1, "hello", &again), RC_OK);
    assert_false(again.fresh);
    assert_int_equal(again.message, 2);
    assert_int_equal(again.fence, row.fence);
    assert_int_equal(ask(self, USER, id, 1, "other words", NULL), RC_CONFLICT);
    assert_int_equal(ask(self, STRANGER, id, 1, "hello", NULL), RC_NOT_FOUND);
    assert_int_equal(ask(self, USER, create(self, ""), 1, "hello", NULL), RC_CONFLICT);
}

static void
refuses_a_question_while_the_previous_one_is_answered(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    answer_row_t row;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(ask(self, USER, id, 2, "and?", NULL), RC_ANSWERING);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "hi", ANSWER_COMPLETE), RC_OK);
    assert_int_equal(ask(self, USER, id, 2, "and?", &row), RC_OK);
    assert_int_equal(row.message, 4);
}

static void
a_stop_of_an_answer_leaves_the_next_one_alone(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    watch_req_t first = {USER, id, stream_of(room, 1)};
    answer_row_t row;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(run(self, self->writer, WRITE_STOP, &watch_req_schema, &first,
                         &answer_row_schema, &row),
                     RC_OK);
    assert_true(row.stop_wanted);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "", ANSWER_STOPPED), RC_OK);
    assert_int_equal(ask(self, USER, id, 2, "and?", &row), RC_OK);
    assert_int_equal(run(self, self->writer, WRITE_STOP, &watch_req_schema, &first,
                         &answer_row_schema, &row),
                     RC_OK);
    assert_int_equal(row.state, ANSWER_STOPPED); /* how the first one ended */
    assert_memory_equal(row.stream.p, first.stream.p, PROTO_STREAM_BYTES);
    first.stream = stream_of(room, 3);
    assert_int_equal(
        run(self, self->writer, WRITE_STOP, &watch_req_schema, &first, NULL, NULL),
        RC_SUPERSEDED);
    assert_int_equal(ask(self, USER, id, 2, "and?", &row), RC_OK);
    assert_false(row.stop_wanted);
}

static void
stops_once_and_tells_the_latest_answer_ever_after(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    conversation_req_t req = {USER, id};
    answer_row_t row, stopped;

    assert_int_equal(
        run(self, self->writer, WRITE_STOP, &conversation_req_schema, &req, NULL, NULL),
        RC_NO_ANSWER);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(self, self->writer, WRITE_STOP, &conversation_req_schema,
                             &req, &answer_row_schema, &stopped),
                         RC_OK);
        assert_true(stopped.stop_wanted);
        assert_int_equal(stopped.state, ANSWER_WAITING);
    }
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "", ANSWER_STOPPED), RC_OK);
    assert_int_equal(run(self, self->writer, WRITE_STOP, &conversation_req_schema, &req,
                         &answer_row_schema, &stopped),
                     RC_OK);
    assert_int_equal(stopped.state, ANSWER_STOPPED);
}

static void
refuses_a_question_whose_prompt_would_be_too_big_without_a_trace(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char *text = svc_alloc(PROTO_QUESTION_MAX_BYTES + 1);
    answer_row_t row;
    unsigned i;

    memset(text, 'x', PROTO_QUESTION_MAX_BYTES);
    for (i = 1; i <= 3; i++) {
        assert_int_equal(ask(self, USER, id, i, text, &row), RC_OK);
        assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
                         RC_OK);
    }
    assert_int_equal(ask(self, USER, id, i, text, NULL), RC_TOO_BIG);
    assert_int_equal(ask(self, USER, id, i, "short", &row), RC_OK);
    assert_int_equal(row.message, 8);
    free(text);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(asks_once_and_joins_the_second_time),
        TEST(refuses_a_question_while_the_previous_one_is_answered),
        TEST(a_stop_of_an_answer_leaves_the_next_one_alone),
        TEST(stops_once_and_tells_the_latest_answer_ever_after),
        TEST(refuses_a_question_whose_prompt_would_be_too_big_without_a_trace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
