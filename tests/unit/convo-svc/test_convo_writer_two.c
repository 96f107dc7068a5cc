/* test_convo_writer_two.c - two writers, as two convo-svc have them: on one PostgreSQL at once, on one SQLite file in turn.
 *
 * Whatever is asked of both at the same time happens once, and whoever was replaced as the owner of an answer
 * writes nothing more to it. Without a server (LLMB_TEST_POSTGRESQL) what needs one is left out. */
#include "workers_fixture.h"

#define ROUNDS 20
#define KEY    SVC_LIT("a key of the client, hashed ....")

static svc_rc
ignore_row(void *arg, const answer_row_t *row)
{
    (void)arg;
    (void)row;
    return RC_OK;
}

/* 78 takes over what 77 has, as if its lease had run out. */
static void
take_over(test_t *self)
{
    char *error = NULL;
    convo_store_t *store = convo_store_open(&self->folder.workers.place, STORE_WRITE,
                                            NULL, &error);

    assert_non_null(store);
    store_begin(store);
    assert_int_equal(store->api->answer_take_over(store, 78, 100, ignore_row, NULL),
                     RC_OK);
    store_commit(store);
    convo_store_destroy(&store);
}

static void
who_was_replaced_as_owner_writes_nothing_more(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    watch_req_t watch = {USER, id, stream_of(room, 1)};
    answer_row_t row, now;
    restart_job_t restart = {
        .stream = watch.stream, .term = 1, .new_fence = 5, .attempt = 2};
    read_req_t read = {USER, watch.stream, 0};
    read_rep_t text;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    take_over(self);
    row.stream = watch.stream;
    restart.fence = row.fence;
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "old", ANSWER_STREAMING),
                     RC_STALE);
    assert_int_equal(
        run(self, self->writer, WRITE_RESTART, &restart_job_schema, &restart, NULL, NULL),
        RC_STALE);
    assert_int_equal(run(self, self->reader, READ_STATUS, &watch_req_schema, &watch,
                         &answer_row_schema, &now),
                     RC_OK);
    assert_int_equal(now.term, 2);
    assert_int_equal(now.owner, 78);
    now.stream = watch.stream;
    assert_int_equal(step(self, &now, ANSWER_WAITING, 0, "new", ANSWER_STREAMING), RC_OK);
    row.stream = watch.stream;
    assert_int_equal(step(self, &row, ANSWER_STREAMING, 3, "old", ANSWER_COMPLETE),
                     RC_STALE);
    assert_int_equal(step(self, &now, ANSWER_STREAMING, 3, "er", ANSWER_COMPLETE), RC_OK);
    assert_int_equal(run(self, self->reader, READ_TEXT, &read_req_schema, &read,
                         &read_rep_schema, &text),
                     RC_OK);
    assert_true(svc_str_eq(text.bytes, SVC_LIT("newer")));
}

/* --- the same at the same time ---------------------------------------------------------------- */

/* Row of a result that is RC_OK. */
static answer_row_t
row_of(test_t *self, size_t tag)
{
    answer_row_t row;

    assert_int_equal(self->results[tag].rc, RC_OK);
    assert_int_equal(
        proto_decode(&answer_row_schema, self->results[tag].body, self->arena, &row),
        RC_OK);
    return row;
}

static void
send_ask(test_t *self, svc_pool_t *to, uint64_t id, unsigned stream, svc_str key,
         uint64_t tag)
{
    char room[PROTO_STREAM_BYTES];
    ask_req_t req = {.user = USER,
                     .conversation = id,
                     .text = SVC_LIT("hello"),
                     .stream = stream_of(room, stream),
                     .key = key};

    submit(self, to, WRITE_ASK, &ask_req_schema, &req, tag);
}

static void
a_question_that_comes_twice_with_one_stream_or_key_is_asked_once(void **state)
{
    test_t *self = *state;

    open_other(self);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t id = create(self, "");
        bool by_key = i % 2 == 1;
        int fresh = 0;

        forget_results(self);
        send_ask(self, self->writer, id, 100 + i, by_key ? KEY : (svc_str){NULL, 0}, 0);
        send_ask(self, self->other, id, by_key ? 200 + i : 100 + i,
                 by_key ? KEY : (svc_str){NULL, 0}, 1);
        wait_for(self, 2);
        for (size_t tag = 0; tag < 2; tag++)
            fresh += row_of(self, tag).fresh ? 1 : 0;
        assert_int_equal(fresh, 1);
        assert_int_equal(row_of(self, 0).fence, row_of(self, 1).fence);
    }
}

static void
of_two_questions_at_once_one_is_answered(void **state)
{
    test_t *self = *state;

    open_other(self);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t id = create(self, "");
        int won = 0;

        forget_results(self);
        send_ask(self, self->writer, id, 100 + i, (svc_str){NULL, 0}, 0);
        send_ask(self, self->other, id, 200 + i, (svc_str){NULL, 0}, 1);
        wait_for(self, 2);
        for (size_t tag = 0; tag < 2; tag++) {
            won += self->results[tag].rc == RC_OK ? 1 : 0;
            assert_true(self->results[tag].rc == RC_OK ||
                        self->results[tag].rc == RC_ANSWERING);
        }
        assert_int_equal(won, 1);
    }
}

static void
of_a_retry_and_a_question_at_once_one_wins(void **state)
{
    test_t *self = *state;

    open_other(self);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t id = create(self, "");
        char room[PROTO_STREAM_BYTES];
        retry_req_t retry = {
            .user = USER, .conversation = id, .stream = stream_of(room, 300 + i)};
        answer_row_t row;
        int won = 0;

        assert_int_equal(ask(self, USER, id, 100 + i, "hello", &row), RC_OK);
        assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "hi", ANSWER_COMPLETE),
                         RC_OK);
        forget_results(self);
        send_ask(self, self->other, id, 200 + i, (svc_str){NULL, 0}, 0);
        submit(self, self->writer, WRITE_RETRY, &retry_req_schema, &retry, 1);
        wait_for(self, 2);
        for (size_t tag = 0; tag < 2; tag++) {
            won += self->results[tag].rc == RC_OK ? 1 : 0;
            assert_true(self->results[tag].rc == RC_OK ||
                        self->results[tag].rc == RC_ANSWERING);
        }
        assert_int_equal(won, 1);
    }
}

static void
one_key_creates_one_conversation(void **state)
{
    test_t *self = *state;

    open_other(self);
    for (unsigned i = 0; i < ROUNDS; i++) {
        char key[PROTO_KEY_MAX_BYTES] = {(char)(i + 1)};
        create_req_t req = {.user = USER,
                            .title = SVC_LIT("t"),
                            .model = SVC_LIT("echo"),
                            .key = {key, sizeof(key)}};
        create_rep_t rep[2];

        forget_results(self);
        submit(self, self->writer, WRITE_CREATE, &create_req_schema, &req, 0);
        submit(self, self->other, WRITE_CREATE, &create_req_schema, &req, 1);
        wait_for(self, 2);
        for (size_t tag = 0; tag < 2; tag++) {
            assert_int_equal(self->results[tag].rc, RC_OK);
            assert_int_equal(proto_decode(&create_rep_schema, self->results[tag].body,
                                          self->arena, &rep[tag]),
                             RC_OK);
        }
        assert_int_equal(rep[0].conversation, rep[1].conversation);
    }
}

static void
a_deletion_and_a_step_at_once_leave_nothing_behind(void **state)
{
    test_t *self = *state;

    open_other(self);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t id = create(self, "");
        conversation_req_t req = {USER, id};
        char room[PROTO_STREAM_BYTES];
        read_req_t read = {USER, stream_of(room, 100 + i), 0};
        answer_step_t job = {.stream = read.stream,
                             .term = 1,
                             .bytes = SVC_LIT("hi"),
                             .next_state = ANSWER_STREAMING};
        answer_row_t row;

        assert_int_equal(ask(self, USER, id, 100 + i, "hello", &row), RC_OK);
        job.fence = row.fence;
        forget_results(self);
        submit(self, self->other, WRITE_DELETE, &conversation_req_schema, &req, 0);
        submit(self, self->writer, WRITE_STEP, &answer_step_schema, &job, 1);
        wait_for(self, 2);
        assert_int_equal(self->results[0].rc, RC_OK);
        assert_true(self->results[1].rc == RC_OK || self->results[1].rc == RC_STALE);
        assert_int_equal(
            run(self, self->reader, READ_TEXT, &read_req_schema, &read, NULL, NULL),
            RC_NOT_FOUND);
    }
}

/* --- one another's answers -------------------------------------------------------------------- */

/* Each stops what the other is writing, while it writes on: nobody waits in a circle. */
static void
two_that_stop_one_anothers_answers_do_not_wait_for_one_another(void **state)
{
    test_t *self = *state;
    svc_pool_t *pools[2];

    open_other(self);
    pools[0] = self->writer;
    pools[1] = self->other;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char rooms[2][PROTO_STREAM_BYTES];
        uint64_t ids[2];
        answer_step_t steps[2];

        for (unsigned k = 0; k < 2; k++) {
            answer_row_t row;

            ids[k] = create(self, "");
            assert_int_equal(ask(self, USER, ids[k], 100 + 2 * i + k, "hello", &row),
                             RC_OK);
            steps[k] = (answer_step_t){.stream = stream_of(rooms[k], 100 + 2 * i + k),
                                       .term = 1,
                                       .fence = row.fence,
                                       .bytes = SVC_LIT("hi"),
                                       .next_state = ANSWER_STREAMING};
        }
        forget_results(self);
        for (unsigned k = 0; k < 2; k++) {
            watch_req_t stop = {.user = USER, .conversation = ids[1 - k]};

            submit(self, pools[k], WRITE_STEP, &answer_step_schema, &steps[k], 2 * k);
            submit(self, pools[k], WRITE_STOP, &watch_req_schema, &stop, 2 * k + 1);
        }
        wait_for(self, 4);
        for (size_t tag = 0; tag < 4; tag++)
            assert_int_equal(self->results[tag].rc, RC_OK);
    }
}

static bool
somebody_waits_for_the_other(void *arg)
{
    return pg_fixture_number(&((test_t *)arg)->db,
                             "SELECT count(*) FROM pg_locks WHERE NOT granted"
                             " AND locktype = 'transactionid'"
                             " AND transactionid = pg_current_xact_id()::xid") > 0;
}

/* Ends of a batch are one statement, which changes answers first: whoever holds one of their conversations, and asks for its answer
 * next (a stop, a delete), would wait in a circle with it. */
static void
ends_of_a_batch_wait_for_conversations_before_they_hold_answers(void **state)
{
    test_t *self = *state;
    uint64_t ids[2] = {create(self, ""), create(self, "")};
    answer_step_t steps[2];
    char rooms[2][PROTO_STREAM_BYTES], sql[200];

    for (unsigned k = 0; k < 2; k++) {
        answer_row_t row;

        assert_int_equal(ask(self, USER, ids[k], 1 + k, "hello", &row), RC_OK);
        steps[k] = (answer_step_t){.stream = stream_of(rooms[k], 1 + k),
                                   .conversation = ids[k],
                                   .term = 1,
                                   .fence = row.fence,
                                   .bytes = SVC_LIT("hi"),
                                   .next_state = ANSWER_COMPLETE};
    }
    (void)snprintf(sql, sizeof(sql),
                   "BEGIN; SELECT 1 FROM conversation WHERE id = %llu FOR UPDATE",
                   (unsigned long long)ids[0]);
    pg_fixture_does(&self->db, sql);
    forget_results(self);
    for (unsigned k = 0; k < 2; k++)
        submit(self, self->writer, WRITE_STEP, &answer_step_schema, &steps[k], k);
    fixture_run_until(&self->fixture, somebody_waits_for_the_other, self);
    pg_fixture_does(&self->db, "SELECT 1 FROM answer FOR UPDATE NOWAIT");
    pg_fixture_does(&self->db, "COMMIT");
    wait_for(self, 2);
    for (unsigned k = 0; k < 2; k++)
        assert_int_equal(self->results[k].rc, RC_OK);
}

static svc_rc
take_seq(void *arg, const conversation_row_t *row)
{
    *(uint64_t *)arg = row->seq;
    return RC_OK;
}

/* The place of the only conversation of a user among those that were made. */
static uint64_t
seq_of(test_t *self, uint64_t user)
{
    char *error = NULL;
    uint64_t seq = 0;
    convo_store_t *store = convo_store_open(&self->folder.workers.place, STORE_READ, NULL,
                                            &error);

    assert_non_null(store);
    assert_int_equal(store->api->begin(store, false), RC_OK);
    assert_int_equal(store->api->conversation_list(store, user, 0, take_seq, &seq),
                     RC_OK);
    store->api->rollback(store);
    convo_store_destroy(&store);
    return seq;
}

/* Each create locks its user's list until the commit: two replicas that make some for the same users at once lock them in one order,
 * else they would wait in a circle (until PostgreSQL notices, after 1 s). */
static void
creates_of_a_batch_are_done_by_user(void **state)
{
    enum { USERS = 8 };
    test_t *self = *state;

    forget_results(self);
    for (uint64_t k = 0; k < USERS; k++) {
        create_req_t req = {.user = USER + (k * 3 + 1) % USERS,
                            .title = SVC_LIT("t"),
                            .model = SVC_LIT("echo")};

        submit(self, self->writer, WRITE_CREATE, &create_req_schema, &req, k);
    }
    wait_for(self, USERS);
    for (uint64_t k = 0; k < USERS; k++)
        assert_int_equal(self->results[k].rc, RC_OK);
    for (uint64_t k = 1; k < USERS; k++)
        assert_true(seq_of(self, USER + k - 1) < seq_of(self, USER + k));
}

/* What came first is done first, but in PostgreSQL never a stop together with anything else. */
static void
a_stop_is_committed_by_itself(void **state)
{
    test_t *self = *state;
    const bool is_file = self->folder.workers.place.driver == SVC_STORAGE_SQLITE;
    uint64_t ids[2] = {create(self, ""), create(self, "")}, commits;
    watch_req_t stop = {.user = USER, .conversation = ids[1]};

    forget_results(self);
    commits = fixture_count(&self->fixture, SVC_M_COMMITS);
    send_ask(self, self->writer, ids[0], 1, (svc_str){NULL, 0}, 0);
    send_ask(self, self->writer, ids[1], 2, (svc_str){NULL, 0}, 1);
    submit(self, self->writer, WRITE_STOP, &watch_req_schema, &stop, 2);
    submit(self, self->writer, WRITE_STOP, &watch_req_schema, &stop, 3);
    send_ask(self, self->writer, ids[0], 3, (svc_str){NULL, 0}, 4);
    wait_for(self, 5);
    for (size_t tag = 0; tag < 4; tag++)
        assert_int_equal(self->results[tag].rc, RC_OK);
    assert_true(row_of(self, 2).stop_wanted); /* of the question that came before it */
    assert_int_equal(self->results[4].rc, RC_ANSWERING);
    assert_int_equal(fixture_count(&self->fixture, SVC_M_COMMITS) - commits,
                     is_file ? 1 : 4);
}

int
main(void)
{
#define SQLITE(f)     cmocka_unit_test_setup_teardown(f, setup, teardown)
#define POSTGRESQL(f) cmocka_unit_test_setup_teardown(f, setup_postgresql, teardown)
    const struct CMUnitTest in_turn[] = {
        SQLITE(who_was_replaced_as_owner_writes_nothing_more),
        SQLITE(a_stop_is_committed_by_itself),
    };
    const struct CMUnitTest at_once[] = {
        POSTGRESQL(who_was_replaced_as_owner_writes_nothing_more),
        POSTGRESQL(a_question_that_comes_twice_with_one_stream_or_key_is_asked_once),
        POSTGRESQL(of_two_questions_at_once_one_is_answered),
        POSTGRESQL(of_a_retry_and_a_question_at_once_one_wins),
        POSTGRESQL(one_key_creates_one_conversation),
        POSTGRESQL(a_deletion_and_a_step_at_once_leave_nothing_behind),
        POSTGRESQL(two_that_stop_one_anothers_answers_do_not_wait_for_one_another),
        POSTGRESQL(ends_of_a_batch_wait_for_conversations_before_they_hold_answers),
        POSTGRESQL(creates_of_a_batch_are_done_by_user),
        POSTGRESQL(a_stop_is_committed_by_itself),
    };
    int failed = cmocka_run_group_tests(in_turn, NULL, NULL);

    if (pg_fixture_is_there())
        failed += cmocka_run_group_tests(at_once, NULL, NULL);
    return failed;
}
