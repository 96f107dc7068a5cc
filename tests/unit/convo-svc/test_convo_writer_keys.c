/* test_convo_writer_keys.c - what the writer makes of request keys, of retries, and of what an earlier start has left.
 *
 * Asking twice is asking once, whether by the stream or by the key; a retry is a new answer to an old question. */
#include "workers_fixture.h"

#define KEY_A SVC_LIT("a key of the client, hashed ....")
#define KEY_B SVC_LIT("another key of it, hashed too ..")

static svc_rc
ask_with(test_t *self, uint64_t conversation, unsigned stream, const char *text,
         svc_str key, answer_row_t *out)
{
    char room[PROTO_STREAM_BYTES];
    ask_req_t req = {.user = USER,
                     .conversation = conversation,
                     .text = svc_str_c(text),
                     .stream = stream_of(room, stream),
                     .key = key};

    return run(self, self->writer, WRITE_ASK, &ask_req_schema, &req, &answer_row_schema,
               out);
}

static svc_rc
retry_with(test_t *self, uint64_t user, uint64_t conversation, unsigned stream,
           svc_str key, answer_row_t *out)
{
    char room[PROTO_STREAM_BYTES];
    retry_req_t req = {.user = user,
                       .conversation = conversation,
                       .stream = stream_of(room, stream),
                       .key = key,
                       .stop_alone = true};

    return run(self, self->writer, WRITE_RETRY, &retry_req_schema, &req,
               &answer_row_schema, out);
}

static svc_rc
create_with(test_t *self, const char *title, const char *api_key, svc_str key,
            create_rep_t *out)
{
    create_req_t req = {.user = USER,
                        .title = svc_str_c(title),
                        .model = SVC_LIT("echo"),
                        .api_key = svc_str_c(api_key),
                        .key = key};

    return run(self, self->writer, WRITE_CREATE, &create_req_schema, &req,
               &create_rep_schema, out);
}

/* Asks and ends the answer with `text`. */
static void
one_turn(test_t *self, uint64_t id, unsigned stream, const char *question,
         const char *text)
{
    answer_row_t row;

    assert_int_equal(ask(self, USER, id, stream, question, &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, text, ANSWER_COMPLETE), RC_OK);
}

static bool
is_stream(const answer_row_t *row, unsigned stream)
{
    char room[PROTO_STREAM_BYTES];

    return svc_str_eq(row->stream, stream_of(room, stream));
}

/* --- keys ------------------------------------------------------------------------------------- */

static void
the_same_key_joins_the_answer_that_it_began(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    answer_row_t row;

    assert_int_equal(ask_with(self, id, 1, "hello", KEY_A, &row), RC_OK);
    assert_true(row.fresh);
    assert_int_equal(ask_with(self, id, 2, "hello", KEY_A, &row), RC_OK);
    assert_false(row.fresh);
    assert_true(is_stream(&row, 1));
    assert_int_equal(ask_with(self, id, 3, "other words", KEY_A, NULL), RC_KEY_REUSED);
    assert_int_equal(ask_with(self, id, 4, "hello", KEY_B, NULL), RC_ANSWERING);
    assert_int_equal(fixture_count(&self->fixture, SVC_M_KEYS_REPLAYED), 1);
    row.stream = SVC_LIT("\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "hi", ANSWER_COMPLETE), RC_OK);
    assert_int_equal(ask_with(self, id, 5, "hello", KEY_A, &row),
                     RC_OK); /* as long as it lives */
    assert_int_equal(row.state, ANSWER_COMPLETE);
    assert_true(is_stream(&row, 1));
    id = create(self, "");
    assert_int_equal(ask_with(self, id, 6, "hello", KEY_A, &row), RC_OK);
    assert_true(row.fresh); /* elsewhere it is another one */
}

static void
a_key_finds_its_question_also_after_a_retry_that_has_none(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    answer_row_t row;

    assert_int_equal(ask_with(self, id, 1, "hello", KEY_A, &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "hi", ANSWER_COMPLETE), RC_OK);
    assert_int_equal(retry_with(self, USER, id, 2, (svc_str){NULL, 0}, &row), RC_OK);
    assert_true(row.fresh);
    assert_int_equal(retry_with(self, USER, id, 2, (svc_str){NULL, 0}, &row), RC_OK);
    assert_false(row.fresh); /* asked for twice by the same stream */
    assert_int_equal(ask_with(self, id, 3, "hello", KEY_A, &row), RC_OK);
    assert_false(row.fresh);
    assert_true(is_stream(&row, 2));
    assert_int_equal(ask_with(self, id, 4, "other words", KEY_A, NULL), RC_KEY_REUSED);
    row.stream = stream_of(room, 2);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "ho", ANSWER_COMPLETE), RC_OK);
    assert_int_equal(retry_with(self, USER, id, 5, KEY_B, &row), RC_OK);
    assert_true(row.fresh);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "hu", ANSWER_COMPLETE), RC_OK);
    assert_int_equal(retry_with(self, USER, id, 6, (svc_str){NULL, 0}, &row), RC_OK);
    assert_true(row.fresh);
    assert_int_equal(retry_with(self, USER, id, 7, KEY_B, &row), RC_OK);
    assert_false(row.fresh);
    assert_true(is_stream(&row, 6));
}

static void
the_same_key_creates_one_conversation(void **state)
{
    test_t *self = *state;
    create_rep_t one, two;

    assert_int_equal(create_with(self, "t", "sk-1", KEY_A, &one), RC_OK);
    assert_int_equal(create_with(self, "t", "sk-1", KEY_A, &two), RC_OK);
    assert_int_equal(one.conversation, two.conversation);
    assert_int_equal(one.created_s, two.created_s);
    assert_int_equal(create_with(self, "t", "sk-2", KEY_A, NULL), RC_KEY_REUSED);
    assert_int_equal(create_with(self, "ts", "k-1", KEY_A, NULL), RC_KEY_REUSED);
    assert_int_equal(create_with(self, "t", "sk-1", KEY_B, &two), RC_OK);
    assert_int_not_equal(one.conversation, two.conversation);
    assert_int_equal(create_with(self, "t", "sk-1", (svc_str){NULL, 0}, &one), RC_OK);
    assert_int_equal(create_with(self, "t", "sk-1", (svc_str){NULL, 0}, &two), RC_OK);
    assert_int_not_equal(one.conversation, two.conversation);
}

static void
of_many_questions_with_one_key_at_once_all_join_one_answer(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    int fresh = 0;

    forget_results(self);
    for (unsigned i = 0; i < 50; i++) {
        ask_req_t req = {.user = USER,
                         .conversation = id,
                         .text = SVC_LIT("me"),
                         .stream = stream_of(room, i),
                         .key = KEY_A};

        submit(self, self->writer, WRITE_ASK, &ask_req_schema, &req, i);
    }
    wait_for(self, 50);
    for (size_t i = 0; i < 50; i++) {
        answer_row_t row;

        assert_int_equal(self->results[i].rc, RC_OK);
        assert_int_equal(
            proto_decode(&answer_row_schema, self->results[i].body, self->arena, &row),
            RC_OK);
        fresh += row.fresh ? 1 : 0;
        assert_int_equal(row.message, 2);
    }
    assert_int_equal(fresh, 1);
}

/* --- retry ------------------------------------------------------------------------------------ */

static void
a_retry_puts_a_new_answer_in_the_place_of_the_old_one(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    history_req_t history = {.user = USER, .conversation = id};
    head_job_t before, after;
    answer_row_t row;

    one_turn(self, id, 1, "hello", "first");
    one_turn(self, id, 2, "and?", "second");
    assert_int_equal(run(self, self->reader, READ_HEAD, &history_req_schema, &history,
                         &head_job_schema, &before),
                     RC_OK);
    assert_int_equal(retry_with(self, USER, id, 3, KEY_A, &row), RC_OK);
    assert_true(row.fresh);
    assert_true(row.stop_alone);
    assert_int_equal(row.message, 4);
    assert_int_equal(row.state, ANSWER_WAITING);
    assert_int_equal(row.owner, 77);
    assert_int_equal(row.prompt.n, 0); /* a reader builds it */
    assert_int_equal(run(self, self->reader, READ_HEAD, &history_req_schema, &history,
                         &head_job_schema, &after),
                     RC_OK);
    assert_true(after.version > before.version);
    assert_true(after.answering);
    row.stream = SVC_LIT("\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "third", ANSWER_COMPLETE),
                     RC_OK);
    one_turn(self, id, 4, "and now?", "fourth");
}

static void
the_prompt_of_a_retry_is_that_of_the_question(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    prompt_job_t job = {.stream = stream_of(room, 3)};
    generate_req_t prompt;
    const prompt_message_t *messages;
    answer_row_t row;

    one_turn(self, id, 1, "hello", "first");
    one_turn(self, id, 2, "and?", "second");
    assert_int_equal(retry_with(self, USER, id, 3, (svc_str){NULL, 0}, &row), RC_OK);
    job.fence = row.fence;
    assert_int_equal(run(self, self->reader, READ_PROMPT, &prompt_job_schema, &job,
                         &generate_req_schema, &prompt),
                     RC_OK);
    messages = prompt.messages.items;
    assert_int_equal(prompt.messages.n, 4); /* system, hello, first, and? */
    assert_true(svc_str_eq(messages[2].text, SVC_LIT("first")));
    assert_true(svc_str_eq(messages[3].text, SVC_LIT("and?")));
}

static void
a_retry_needs_an_answer_that_has_ended_and_a_conversation_of_ones_own(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, ""), other = create(self, "");

    assert_int_equal(retry_with(self, USER, id, 1, KEY_A, NULL), RC_NO_ANSWER);
    assert_int_equal(retry_with(self, USER, id ^ 1, 1, KEY_A, NULL), RC_NOT_FOUND);
    assert_int_equal(ask(self, USER, id, 1, "hello", NULL), RC_OK);
    assert_int_equal(retry_with(self, STRANGER, id, 2, KEY_A, NULL), RC_NOT_FOUND);
    assert_int_equal(retry_with(self, USER, id, 2, KEY_A, NULL), RC_ANSWERING);
    assert_int_equal(ask(self, USER, other, 3, "elsewhere", NULL), RC_OK);
    assert_int_equal(retry_with(self, USER, id, 3, KEY_A, NULL),
                     RC_CONFLICT); /* the stream of another conversation's question */
}

static void
a_retry_that_comes_again_joins_and_a_question_with_its_key_does_not(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    answer_row_t row;

    one_turn(self, id, 1, "hello", "first");
    assert_int_equal(retry_with(self, USER, id, 2, KEY_A, &row), RC_OK);
    assert_int_equal(retry_with(self, USER, id, 2, KEY_A, &row), RC_OK);
    assert_false(row.fresh);
    assert_int_equal(retry_with(self, USER, id, 3, KEY_A, &row), RC_OK);
    assert_false(row.fresh);
    assert_true(is_stream(&row, 2));
    assert_int_equal(retry_with(self, USER, id, 3, KEY_B, NULL), RC_ANSWERING);
    assert_int_equal(ask_with(self, id, 4, "hello", KEY_A, NULL), RC_KEY_REUSED);
    assert_int_equal(ask_with(self, id, 2, "hello", KEY_B, NULL), RC_CONFLICT);
    assert_int_equal(fixture_count(&self->fixture, SVC_M_KEYS_REPLAYED), 1);
}

static void
of_a_retry_and_a_question_at_once_one_wins(void **state)
{
    for (int first = 0; first < 2; first++) {
        test_t *self = *state;
        uint64_t id = create(self, "");
        char room[PROTO_STREAM_BYTES], other[PROTO_STREAM_BYTES];
        unsigned n = (unsigned)first * 10;
        ask_req_t req = {.user = USER,
                         .conversation = id,
                         .text = SVC_LIT("me"),
                         .stream = stream_of(room, n + 2)};
        retry_req_t retry = {
            .user = USER, .conversation = id, .stream = stream_of(other, n + 3)};

        one_turn(self, id, n + 1, "hello", "first");
        forget_results(self);
        if (first == 0)
            submit(self, self->writer, WRITE_ASK, &ask_req_schema, &req, 0);
        submit(self, self->writer, WRITE_RETRY, &retry_req_schema, &retry, 1);
        if (first == 1)
            submit(self, self->writer, WRITE_ASK, &ask_req_schema, &req, 0);
        wait_for(self, 2);
        assert_int_equal(self->results[first].rc, RC_OK);
        assert_int_equal(self->results[1 - first].rc, RC_ANSWERING);
    }
}

/* --- lists of answers in flight, an earlier start --------------------------------------------- */

static void
answers_in_flight_are_told_newest_first_and_to_their_user_alone(void **state)
{
    test_t *self = *state;
    uint64_t ids[3] = {create(self, ""), create(self, ""), create(self, "")};
    active_req_t req = {USER}, stranger = {STRANGER};
    const active_answer_t *answers;
    active_rep_t rep;

    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(ask(self, USER, ids[i], i + 1, "hello", NULL), RC_OK);
    one_turn(self, create(self, ""), 9, "hello", "over");
    assert_int_equal(run(self, self->reader, READ_ACTIVE, &active_req_schema, &stranger,
                         &active_rep_schema, &rep),
                     RC_OK);
    assert_int_equal(rep.answers.n, 0);
    assert_int_equal(run(self, self->reader, READ_ACTIVE, &active_req_schema, &req,
                         &active_rep_schema, &rep),
                     RC_OK);
    assert_int_equal(rep.answers.n, 3);
    answers = rep.answers.items;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(answers[i].message, 2);
        assert_int_equal(answers[i].state, ANSWER_WAITING);
        assert_true(i == 0 || answers[i].asked_ms <= answers[i - 1].asked_ms);
    }
}

static void
what_an_earlier_start_has_left_is_ours_with_the_next_term(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    watch_req_t watch = {USER, id, stream_of(room, 1)};
    char *error = NULL;
    answer_row_t row, now;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    svc_pool_destroy(&self->writer);
    self->folder.workers.instance = 78;
    self->writer = open_pool(self, true, &error);
    assert_non_null(self->writer);
    assert_int_equal(fixture_count(&self->fixture, SVC_M_TAKEOVERS), 1);
    row.stream = watch.stream;
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "late", ANSWER_STREAMING),
                     RC_STALE); /* the one that asked may still be trying */
    assert_int_equal(run(self, self->reader, READ_STATUS, &watch_req_schema, &watch,
                         &answer_row_schema, &now),
                     RC_OK);
    assert_int_equal(now.owner, 78);
    assert_int_equal(now.term, 2);
    assert_int_equal(now.length, 0);
    assert_int_equal(step(self, &now, ANSWER_WAITING, 0, "hi", ANSWER_COMPLETE), RC_OK);
}

int
main(void)
{
#define SQLITE(f)     cmocka_unit_test_setup_teardown(f, setup, teardown)
#define POSTGRESQL(f) cmocka_unit_test_setup_teardown(f, setup_postgresql, teardown)
    const struct CMUnitTest in_sqlite[] = {
        SQLITE(the_same_key_joins_the_answer_that_it_began),
        SQLITE(a_key_finds_its_question_also_after_a_retry_that_has_none),
        SQLITE(the_same_key_creates_one_conversation),
        SQLITE(of_many_questions_with_one_key_at_once_all_join_one_answer),
        SQLITE(a_retry_puts_a_new_answer_in_the_place_of_the_old_one),
        SQLITE(the_prompt_of_a_retry_is_that_of_the_question),
        SQLITE(a_retry_needs_an_answer_that_has_ended_and_a_conversation_of_ones_own),
        SQLITE(a_retry_that_comes_again_joins_and_a_question_with_its_key_does_not),
        SQLITE(of_a_retry_and_a_question_at_once_one_wins),
        SQLITE(answers_in_flight_are_told_newest_first_and_to_their_user_alone),
        SQLITE(what_an_earlier_start_has_left_is_ours_with_the_next_term),
    };
    const struct CMUnitTest in_postgresql[] = {
        POSTGRESQL(the_same_key_joins_the_answer_that_it_began),
        POSTGRESQL(the_same_key_creates_one_conversation),
        POSTGRESQL(of_many_questions_with_one_key_at_once_all_join_one_answer),
        POSTGRESQL(a_retry_puts_a_new_answer_in_the_place_of_the_old_one),
        POSTGRESQL(the_prompt_of_a_retry_is_that_of_the_question),
        POSTGRESQL(a_retry_needs_an_answer_that_has_ended_and_a_conversation_of_ones_own),
        POSTGRESQL(a_retry_that_comes_again_joins_and_a_question_with_its_key_does_not),
        POSTGRESQL(of_a_retry_and_a_question_at_once_one_wins),
        POSTGRESQL(answers_in_flight_are_told_newest_first_and_to_their_user_alone),
    };
    int failed = cmocka_run_group_tests(in_sqlite, NULL, NULL);

    if (pg_fixture_is_there())
        failed += cmocka_run_group_tests(in_postgresql, NULL, NULL);
    return failed;
}
