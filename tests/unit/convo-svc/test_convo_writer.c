/* test_convo_writer.c - jobs in a real pool: group commit, refusals that undo one job only, a disk that fails.
 *
 * (What readers tell of it stands in test_convo_reader.c, what each kind of job does in test_convo_writer_conversations.c
 * and test_convo_writer_answers.c.) */
#include "workers_fixture.h"

static void
a_payload_that_cannot_be_read_and_an_unknown_kind_are_refused_alone(void **state)
{
    test_t *self = *state;

    assert_int_equal(
        svc_pool_submit(self->writer, WRITE_ASK, SVC_LIT("rubbish"), on_done, self, 0),
        RC_OK);
    assert_int_equal(svc_pool_submit(self->writer, 99, SVC_LIT(""), on_done, self, 1),
                     RC_OK);
    assert_int_equal(svc_pool_submit(self->reader, 99, SVC_LIT(""), on_done, self, 2),
                     RC_OK);
    assert_int_equal(
        svc_pool_submit(self->reader, READ_LIST, SVC_LIT("x"), on_done, self, 3), RC_OK);
    wait_for(self, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(self->results[i].rc, RC_INVALID);
}

/* --- group commit ----------------------------------------------------------------------------- */

static void
many_jobs_become_few_commits(void **state)
{
    test_t *self = *state;
    create_req_t good = {.user = USER, .title = SVC_LIT("t"), .model = SVC_LIT("echo")};
    conversation_req_t bad = {USER, 12345};

    for (uint64_t i = 0; i < 400; i++) {
        if (i % 4 == 3)
            submit(self, self->writer, WRITE_DELETE, &conversation_req_schema, &bad, i);
        else
            submit(self, self->writer, WRITE_CREATE, &create_req_schema, &good, i);
    }
    wait_for(self, 400);
    for (uint64_t i = 0; i < 400; i++)
        assert_int_equal(self->results[i].rc, i % 4 == 3 ? RC_NOT_FOUND : RC_OK);
    assert_int_equal(fixture_count(&self->fixture, SVC_M_COMMITTED_JOBS), 400);
    assert_true(fixture_count(&self->fixture, SVC_M_COMMITS) <= 10);
}

static void
of_many_questions_at_once_one_wins(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    int won = 0;

    forget_results(self);
    for (unsigned i = 0; i < 100; i++) {
        ask_req_t req = {.user = USER,
                         .conversation = id,
                         .text = SVC_LIT("me"),
                         .stream = stream_of(room, i)};

        submit(self, self->writer, WRITE_ASK, &ask_req_schema, &req, i);
    }
    wait_for(self, 100);
    for (size_t i = 0; i < 100; i++) {
        won += self->results[i].rc == RC_OK ? 1 : 0;
        assert_true(self->results[i].rc == RC_OK || self->results[i].rc == RC_ANSWERING);
    }
    assert_int_equal(won, 1);
}

/* --- a disk that fails ------------------------------------------------------------------------ */

static void
a_full_disk_refuses_what_is_new_and_loses_nothing_old(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char *text = svc_alloc(100001);
    answer_row_t row;
    list_req_t list = {.user = USER};
    list_rep_t rep;

    memset(text, 'x', 100000);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(250000);
    assert_int_equal(ask(self, USER, id, 1, "short enough", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "kept", ANSWER_COMPLETE), RC_OK);
    assert_int_equal(ask(self, USER, id, 2, text, NULL), RC_UNAVAILABLE);
    assert_int_equal(ask(self, USER, id, 3, text, NULL), RC_UNAVAILABLE);
    assert_int_equal(run(self, self->reader, READ_LIST, &list_req_schema, &list,
                         &list_rep_schema, &rep),
                     RC_OK);
    assert_int_equal(rep.next, 0);
    assert_true(rep.json.n > 10);
    limit_files(RLIM_INFINITY);
    assert_int_equal(ask(self, USER, id, 2, text, &row), RC_OK);
    assert_int_equal(row.message, 4);
    free(text);
}

static void
a_failed_batch_fails_all_of_its_jobs(void **state)
{
    test_t *self = *state;
    create_req_t small = {.user = USER, .title = SVC_LIT("t"), .model = SVC_LIT("echo")};
    uint64_t id = create(self, "");
    char *text = svc_alloc(200001);
    char room[PROTO_STREAM_BYTES];
    ask_req_t big = {.user = USER,
                     .conversation = id,
                     .text = {text, 200000},
                     .stream = stream_of(room, 1)};
    list_req_t list = {.user = USER};
    list_rep_t rep;
    size_t failed = 0;

    memset(text, 'x', 200000);
    forget_results(self);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(250000);
    for (uint64_t i = 0; i < 60; i++) {
        submit(self, self->writer, WRITE_CREATE, &create_req_schema, &small, 2 * i);
        if (i % 10 == 9)
            submit(self, self->writer, WRITE_ASK, &ask_req_schema, &big, 2 * i + 1);
    }
    wait_for(self, 66);
    limit_files(RLIM_INFINITY);
    for (uint64_t i = 0; i < 120; i++)
        failed += self->results[i].rc == RC_UNAVAILABLE ? 1 : 0;
    assert_true(failed >= 6);
    /* As many conversations are there as were acknowledged, and the first one. */
    assert_int_equal(run(self, self->reader, READ_LIST, &list_req_schema, &list,
                         &list_rep_schema, &rep),
                     RC_OK);
    for (const char *p = rep.json.p;
         (p = memmem(p, (size_t)(rep.json.p + rep.json.n - p), "_id", 3)) != NULL; p++)
        failed++;
    assert_int_equal(failed, 67);
    free(text);
}

static void
refuses_to_open_with_another_key(void **state)
{
    test_t *self = *state;
    static const uint8_t other[SVC_SECRET_BYTES] = "another key";
    convo_workers_t right = self->folder.workers;
    seal_t seal;
    char *error = NULL;

    seal_init(&seal, other);
    svc_pool_destroy(&self->writer);
    svc_pool_destroy(&self->reader);
    self->folder.workers.seal = &seal;
    assert_null(open_pool(self, true, &error));
    assert_non_null(strstr(error, "convo.seal_key"));
    free(error);
    self->folder.workers = right;
    self->writer = open_pool(self, true, &error);
    assert_non_null(self->writer);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_payload_that_cannot_be_read_and_an_unknown_kind_are_refused_alone),
        TEST(many_jobs_become_few_commits),
        TEST(of_many_questions_at_once_one_wins),
        TEST(a_full_disk_refuses_what_is_new_and_loses_nothing_old),
        TEST(a_failed_batch_fails_all_of_its_jobs),
        TEST(refuses_to_open_with_another_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
