/* test_convo_writer_conversations.c - conversations made, deleted and looked after by the writer, in a real pool.
 *
 * (What a request key does stands in test_convo_writer_keys.c, many at once in test_convo_writer.c.) */
#include "workers_fixture.h"

static void
creates_conversations_with_ids_that_javascript_holds(void **state)
{
    test_t *self = *state;
    uint64_t first = create(self, ""), second = create(self, "");

    assert_true(first >= 1 && first <= PROTO_ID_MAX);
    assert_int_not_equal(first, second);
}

static void
seals_the_api_key_at_rest(void **state)
{
    test_t *self = *state;
    char command[256];

    (void)create(self, "sk-very-secret");
    snprintf(command, sizeof(command), "grep -q sk-very-secret %s/*", self->folder.path);
    assert_int_not_equal(system(command), 0);
}

static void
another_users_conversation_does_not_exist(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    conversation_req_t req = {STRANGER, id};
    answer_row_t row;

    assert_int_equal(ask(self, STRANGER, id, 1, "hello", NULL), RC_NOT_FOUND);
    assert_int_equal(ask(self, USER, id ^ 1, 1, "hello", NULL), RC_NOT_FOUND);
    assert_int_equal(
        run(self, self->writer, WRITE_DELETE, &conversation_req_schema, &req, NULL, NULL),
        RC_NOT_FOUND);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(
        run(self, self->writer, WRITE_STOP, &conversation_req_schema, &req, NULL, NULL),
        RC_NOT_FOUND);
}

static void
deletes_everything_and_a_step_after_it_is_stale(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    conversation_req_t req = {USER, id};
    answer_row_t row;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    submit(self, self->writer, WRITE_DELETE, &conversation_req_schema, &req, 1);
    wait_for(self, 2);
    assert_int_equal(self->results[1].rc, RC_OK);
    memcpy(&id, self->results[1].body.p, sizeof(id));
    assert_int_equal(id, req.conversation);
    row.stream = SVC_LIT("\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "x", ANSWER_STREAMING),
                     RC_STALE);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "x", ANSWER_COMPLETE), RC_STALE);
    assert_int_equal(
        run(self, self->writer, WRITE_DELETE, &conversation_req_schema, &req, NULL, NULL),
        RC_NOT_FOUND);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(creates_conversations_with_ids_that_javascript_holds),
        TEST(seals_the_api_key_at_rest),
        TEST(another_users_conversation_does_not_exist),
        TEST(deletes_everything_and_a_step_after_it_is_stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
