/* test_convo_writer_paths.c - the writer's short ways, and the plain ones beside them.
 *
 * Prompts that come with the question are what a reader builds; batches without savepoints undo one
 * job alone all the same. */
#include "workers_fixture.h"

#include <sqlite3.h>

static int
setup_plain(void **state)
{
    test_t *self;
    char *error = NULL;

    assert_int_equal(setup(state), 0);
    self = *state;
    svc_pool_destroy(&self->writer);
    self->folder.workers.plain_paths = true;
    self->writer = open_pool(self, true, &error);
    assert_non_null(self->writer);
    return 0;
}

/* Changes the database behind the writer's back. */
static void
meddle(const test_t *self, const char *sql)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(self->folder.db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* The prompt of a fresh row is what a reader builds for it. */
static void
assert_prompt(test_t *self, unsigned stream, const answer_row_t *row, svc_str prompt)
{
    char room[PROTO_STREAM_BYTES];
    prompt_job_t job = {stream_of(room, stream), row->fence};

    assert_true(prompt.n > 0);
    assert_int_equal(
        run(self, self->reader, READ_PROMPT, &prompt_job_schema, &job, NULL, NULL),
        RC_OK);
    assert_int_equal(self->results[0].body.n, prompt.n);
    assert_memory_equal(self->results[0].body.p, prompt.p, prompt.n);
}

/* Asks, gives a copy of the prompt that came with the row (free() it). */
static svc_str
ask_for_prompt(test_t *self, uint64_t id, unsigned stream, const char *text,
               answer_row_t *row)
{
    svc_str prompt;

    assert_int_equal(ask(self, USER, id, stream, text, row), RC_OK);
    assert_true(row->fresh);
    prompt = (svc_str){svc_str_dup(row->prompt), row->prompt.n};
    return prompt;
}

static void
a_short_prompt_comes_with_its_question(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "sk-of-this-conversation");
    answer_row_t row;
    svc_str prompt = ask_for_prompt(self, id, 1, "hello", &row);

    assert_prompt(self, 1, &row, prompt);
    free((char *)(uintptr_t)prompt.p);
    row.stream = SVC_LIT("\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "hi there", ANSWER_COMPLETE),
                     RC_OK);
    prompt = ask_for_prompt(self, id, 2, "and now?", &row);
    assert_non_null(memmem(prompt.p, prompt.n, "hi there", 8));
    assert_prompt(self, 2, &row, prompt);
    free((char *)(uintptr_t)prompt.p);
    assert_int_equal(ask(self, USER, id, 2, "and now?", &row), RC_OK);
    assert_false(row.fresh);
    assert_int_equal(row.prompt.n, 0); /* who joins does not generate */
}

static void
a_long_prompt_is_left_to_the_readers(void **state)
{
    test_t *self = *state;
    char *text = svc_alloc(CONVO_READY_PROMPT_MAX_BYTES);
    answer_row_t row;

    memset(text, 'x', CONVO_READY_PROMPT_MAX_BYTES - 1);
    assert_int_equal(ask(self, USER, create(self, ""), 1, text, &row), RC_OK);
    assert_true(row.fresh);
    assert_int_equal(row.prompt.n, 0);
    free(text);
}

static void
the_plain_path_leaves_every_prompt_to_the_readers(void **state)
{
    test_t *self = *state;
    answer_row_t row;

    assert_int_equal(ask(self, USER, create(self, ""), 1, "hello", &row), RC_OK);
    assert_true(row.fresh);
    assert_int_equal(row.prompt.n, 0);
}

static void
a_job_that_fails_half_way_is_undone_alone(void **state)
{
    test_t *self = *state;
    create_req_t good = {.user = USER, .title = SVC_LIT("t"), .model = SVC_LIT("echo")};
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    ask_req_t req = {.user = USER,
                     .conversation = id,
                     .text = SVC_LIT("me"),
                     .stream = stream_of(room, 1)};
    conversation_req_t gone = {USER, id};
    answer_row_t row;

    /* The place of the answer is taken, which the writer finds out after it has written the question. */
    meddle(self,
           "INSERT INTO answer (stream, conversation, message_id, state, term, fence,"
           " attempt, owner, asked_ms, question_bytes, body_hash)"
           " SELECT x'00', id, 2, 2, 1, 1, 1, 1, 1, 1, x'00' FROM conversation");
    forget_results(self);
    for (uint64_t i = 0; i < 8; i++) {
        if (i == 5)
            submit(self, self->writer, WRITE_ASK, &ask_req_schema, &req, i);
        else
            submit(self, self->writer, WRITE_CREATE, &create_req_schema, &good, i);
    }
    wait_for(self, 8);
    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(self->results[i].rc, i == 5 ? RC_CONFLICT : RC_OK);
    meddle(self, "DELETE FROM answer");
    assert_int_equal(ask(self, USER, id, 1, "me", &row), RC_OK);
    assert_int_equal(row.message, 2); /* nothing was left of the first try */
    assert_int_equal(run(self, self->writer, WRITE_DELETE, &conversation_req_schema,
                         &gone, NULL, NULL),
                     RC_OK);
}

int
main(void)
{
#define TEST(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define PLAIN(f) cmocka_unit_test_setup_teardown(f, setup_plain, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_short_prompt_comes_with_its_question),
        TEST(a_long_prompt_is_left_to_the_readers),
        PLAIN(the_plain_path_leaves_every_prompt_to_the_readers),
        TEST(a_job_that_fails_half_way_is_undone_alone),
        PLAIN(a_job_that_fails_half_way_is_undone_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
