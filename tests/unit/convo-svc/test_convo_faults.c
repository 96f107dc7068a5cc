/* test_convo_faults.c - the whole service when others, or the service itself, go and come back.
 *
 * llm-svc away, lost and back; restarts, second processes, wrong keys, and draining. The gateway
 * and llm-svc are played by the test. */
#include "service_calls.h"
#include "tests/unit/svc/pg_proxy.h"

/* --- llm-svc goes and comes ------------------------------------------------------------------- */

static void
an_answer_that_waits_for_llm_svc_is_stopped_at_once(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    service_start_llm(&self->service, 500);
    fixture_run_until(&self->service.fixture, service_llm_is_up, &self->service);
    ask_and_wait(self, id);
    service_stop_llm(&self->service);
    (void)service_wait(&self->service, &self->a, 2);
    assert_int_equal(on_conversation(self, OP_CONVO_STOP, USER, id)->status.state,
                     ANSWER_STOPPED);
    assert_int_equal(service_wait(&self->service, &self->a, 3)->status.state,
                     ANSWER_STOPPED);
}

static void
a_waiting_answer_survives_the_loss_of_llm_svc(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), fence;

    ask_and_wait(self, id);
    fence = self->service.llm.fence;
    service_stop_llm(&self->service);
    service_start_llm(&self->service, 501);
    fixture_run_until(&self->service.fixture, was_generated_twice, self);
    assert_int_not_equal(self->service.llm.fence, fence);
    assert_int_equal(self->service.llm.fence >> 48, 2);
    service_llm_final(&self->service, 0, "Hi", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 3)->status.state,
                     ANSWER_COMPLETE);
    assert_int_equal(self->a.seen[1].status.state, ANSWER_WAITING);
    assert_int_equal(self->a.seen[1].status.fence, self->service.llm.fence);
}

static void
a_streaming_answer_ends_with_the_tail_when_llm_svc_is_lost(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    tail_req_t tail = {.from = 5, .bytes = SVC_LIT(", shown")};
    const seen_t *seen;

    ask_and_stream(self, id);
    lose_llm_and_take_tails(self);
    seen = service_wait(&self->service, &self->a, 3);
    assert_int_equal(seen->kind, PROTO_PARTIAL);
    assert_true(seen->status.lost);
    tail.stream = stream_of(self->room, 1);
    tail.fence = seen->status.fence;
    assert_int_equal(service_call(&self->service, OP_CONVO_TAIL, &tail_req_schema, &tail,
                                  &empty_schema, &self->b)
                         ->rc,
                     RC_OK);
    take_tails_until(self, 1, 0);
    seen = service_wait(&self->service, &self->a, 4);
    assert_int_equal(seen->status.state, ANSWER_INTERRUPTED);
    assert_string_equal(seen->reason, "interrupted");
    assert_string_equal(read_text(self, USER, 1, 0)->json, "Hello, shown");
}

/* --- convo-svc goes and comes ----------------------------------------------------------------- */

static void
an_answer_goes_on_after_a_restart_of_convo_svc(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    ask_and_stream(self, id);
    service_stop_convo(&self->service);
    self->service.llm.call = 0;
    service_start_convo(&self->service);
    fixture_run_until(&self->service.fixture, was_attached, self);
    assert_int_equal(self->service.llm.from, 5);
    send_watch(self, USER, id, 1, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->status.state,
                     ANSWER_STREAMING);
    service_llm_final(&self->service, 5, "!", "stop");
    assert_int_equal(service_wait(&self->service, &self->b, 2)->status.state,
                     ANSWER_COMPLETE);
    assert_string_equal(read_text(self, USER, 1, 0)->json, "Hello!");
}

static void
an_answer_that_nobody_knows_after_a_restart_ends_truthfully(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;
    size_t n = 1; /* several may come in one turn */

    ask_and_stream(self, id);
    service_stop_convo(&self->service);
    self->service.llm.answer = RC_NOT_FOUND;
    service_start_convo(&self->service);
    send_watch(self, USER, id, 1, &self->b);
    while ((seen = service_wait(&self->service, &self->b, n))->kind != PROTO_FINAL) {
        assert_int_equal(seen->rc, RC_OK);
        n++;
    }
    assert_int_equal(seen->status.state, ANSWER_INTERRUPTED);
    assert_string_equal(seen->reason, "interrupted");
    assert_string_equal(read_text(self, USER, 1, 0)->json, "Hello");
    send_ask(self, USER, id, 2, "again", &self->a);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
}

static void
a_second_process_and_a_port_in_use_are_refused_with_one_line(void **state)
{
    test_t *self = *state;
    svc_config_t *config = self->service.config;
    char other[128];
    char *right = config->sqlite_path;
    char *error = NULL;

    assert_null(convo_new(&self->service.fixture.ctx, &error));
    assert_non_null(strstr(error, "PostgreSQL"));
    assert_null(strchr(error, '\n'));
    free(error);
    snprintf(other, sizeof(other), "%s/other/convo.db", self->service.folder.path);
    config->sqlite_path = other;
    assert_null(convo_new(&self->service.fixture.ctx, &error));
    assert_non_null(strstr(error, "cannot listen"));
    free(error);
    config->sqlite_path = right;
}

static void
a_wrong_seal_key_is_refused_at_start(void **state)
{
    test_t *self = *state;
    svc_config_t *config = self->service.config;
    char *right = config->convo_seal_key;
    char key[65];
    char *error = NULL;

    service_stop_convo(&self->service);
    memset(key, 'a', 64);
    key[64] = '\0';
    config->convo_seal_key = key;
    assert_null(convo_new(&self->service.fixture.ctx, &error));
    assert_non_null(strstr(error, "convo.seal_key"));
    free(error);
    key[63] = '\0';
    assert_null(convo_new(&self->service.fixture.ctx, &error));
    assert_non_null(strstr(error, "32 bytes"));
    free(error);
    config->convo_seal_key = right;
    service_start_convo(&self->service);
}

static void
replicas_need_a_seal_key_and_a_database_of_all(void **state)
{
    char key[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    char none[] = "", url[] = "postgresql://db/llmb", bad_url[] = "postgresql://[h";
    svc_config_t config = {.storage_driver = SVC_STORAGE_SQLITE,
                           .convo_seal_key = none,
                           .storage_postgresql_url = none};
    char *error = NULL;

    (void)state;
    assert_true(convo_check_config(&config, &error));
    config.storage_driver = SVC_STORAGE_POSTGRESQL;
    assert_false(convo_check_config(&config, &error));
    assert_non_null(strstr(error, "convo.seal_key must be configured"));
    free(error);
    config.convo_seal_key = key;
    assert_false(convo_check_config(&config, &error));
    assert_non_null(strstr(error, "storage.postgresql.url must be configured"));
    free(error);
    config.storage_postgresql_url = bad_url;
    assert_false(convo_check_config(&config, &error));
    assert_non_null(strstr(error, "storage.postgresql.url is no URL"));
    free(error);
    config.storage_postgresql_url = url;
    assert_true(convo_check_config(&config, &error));
}

static bool
was_asked(void *arg)
{
    const test_t *self = arg;

    return self->service.llm.generates + self->service.llm.attaches > 0 &&
           self->service.llm.call != 0;
}

/* A question is answered, also when the lease runs out meanwhile because this machine stands still: then whoever asked is told that
 * his question is stored, and nothing more. */
static void
assert_it_answers(test_t *self)
{
    const uint64_t id = create(self, "t"), end = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    const char *json = NULL;

    self->service.llm.generates = self->service.llm.attaches = 0;
    self->service.llm.call = 0;
    send_ask(self, USER, id, 1, "hello", &self->a);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
    fixture_run_until(&self->service.fixture, was_asked, self);
    service_llm_final(&self->service, 0, "Hello!", "stop");
    while (json == NULL || strstr(json, "\"state\":\"complete\"") == NULL) {
        assert_true(svc_mono_ms() < end);
        json = history(self, USER, id)->json;
    }
    assert_non_null(strstr(json, "\"Hello!\""));
}

static void
a_server_that_is_lost_at_any_step_of_the_start_is_waited_for(void **state)
{
    static const int modes[] = {PROXY_CREEP, PROXY_CREEP_AFTER};
    /* Other threads use these, also when the test has failed. */
    static char key[] =
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static char url[PG_URL_BYTES];
    static pg_fixture_t db;
    static pg_proxy_t proxy;
    test_t *self = *state;
    svc_config_t *config = self->service.config;

    if (!pg_fixture_is_there())
        skip();
    service_stop_convo(&self->service);
    config->storage_driver = SVC_STORAGE_POSTGRESQL;
    config->storage_postgresql_url = url;
    config->convo_seal_key = key;
    for (size_t i = 0; i < SVC_COUNT(modes); i++) {
        pg_fixture_open(&db);
        proxy_open(&proxy, &db, url);
        atomic_store(&proxy.mode, modes[i]);
        service_start_convo(&self->service);
        assert_true(atomic_load(&proxy.cuts) > 14); /* of writer and lease */
        atomic_store(&proxy.mode, PROXY_PASS);
        assert_it_answers(self);
        service_stop_convo(&self->service);
        proxy_close(&proxy);
        pg_fixture_close(&db);
    }
    *config = self->config;
    service_start_convo(&self->service);
}

static bool
is_draining(void *arg)
{
    return !svc_peers_takes_work(((test_t *)arg)->service.gateway);
}

static void
a_drain_takes_no_questions_waits_for_answers_and_ends(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), other = create(self, "other");

    ask_and_stream(self, id);
    convo_drain(self->service.convo);
    fixture_run_until(&self->service.fixture, is_draining, self);
    send_ask(self, USER, other, 2, "too late", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(history(self, USER, id)->rc, RC_OK);
    service_llm_final(&self->service, 5, "!", "stop");
    svc_loop_run(self->service.fixture.ctx.loop); /* ends by itself */
    assert_int_equal(svc_pool_load(self->service.convo->writer), 0);
    assert_int_equal(answers_count(self->service.convo->answers), 0);
}

int
main(void)
{
#define TEST(f)       cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_ALONE(f) cmocka_unit_test_setup_teardown(f, setup_without_llm, teardown)
    const struct CMUnitTest tests[] = {
        TEST_ALONE(an_answer_that_waits_for_llm_svc_is_stopped_at_once),
        TEST(a_waiting_answer_survives_the_loss_of_llm_svc),
        TEST(a_streaming_answer_ends_with_the_tail_when_llm_svc_is_lost),
        TEST(an_answer_goes_on_after_a_restart_of_convo_svc),
        TEST(an_answer_that_nobody_knows_after_a_restart_ends_truthfully),
        TEST(a_second_process_and_a_port_in_use_are_refused_with_one_line),
        TEST(a_wrong_seal_key_is_refused_at_start),
        cmocka_unit_test(replicas_need_a_seal_key_and_a_database_of_all),
        TEST(a_server_that_is_lost_at_any_step_of_the_start_is_waited_for),
        TEST(a_drain_takes_no_questions_waits_for_answers_and_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
