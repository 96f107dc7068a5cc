/* test_rest_health.c - what load balancers ask: does it live, can it serve, and if not, what is missing?
 *
 * The fakes come and go; /readyz has to follow, /healthz must not care. */
#include "gateway_fixture.h"

/* Runs until /readyz says exactly this. */
static void
await_readyz(world_t *world, int status, const char *body)
{
    const uint64_t until_ms = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    bool is_so = false;

    while (!is_so) {
        answer_t answer = ask(world, "GET", "/readyz", "", NULL);
        is_so = answer.status == status && strcmp(answer.body.p, body) == 0;
        if (!is_so && svc_mono_ms() > until_ms)
            fail_msg("%d %s", answer.status, answer.body.p);
        answer_fini(&answer);
    }
}

static void
lives_and_is_ready(void **state)
{
    world_t *world = *state;
    answer_t answer = ask(world, "GET", "/healthz", "", NULL);

    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body.p, "{\"status\":\"ok\"}");
    assert_non_null(strstr(answer.head, "Content-Type: application/json"));
    answer_fini(&answer);
    await_readyz(world, 200, "{\"status\":\"ok\"}");
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 0); /* no token is asked for */
}

static void
head_has_no_body(void **state)
{
    client_t client;

    client_open(&client, *state, 0);
    client_ask(&client, "HEAD", "/healthz", "Connection: close\r\n", NULL);
    client_await(&client, NULL);
    assert_non_null(strstr(client.in.p, "Content-Length: 15\r\n"));
    assert_string_equal(strstr(client.in.p, "\r\n\r\n"), "\r\n\r\n");
    client_close(&client);
}

static void
names_each_service_that_is_missing(void **state)
{
    static const char *const bodies[] = {
        "{\"status\":\"unavailable\",\"missing\":[\"auth-svc\"]}",
        "{\"status\":\"unavailable\",\"missing\":[\"convo-svc\"]}",
        "{\"status\":\"unavailable\",\"missing\":[\"llm-svc\"]}",
    };
    world_t *world = *state;

    for (size_t i = 0; i < FAKE_SERVICES; i++) {
        svc_server_destroy(&world->fakes.servers[i]);
        await_readyz(world, 503, bodies[i]);
        expect(world, "GET", "/healthz", NULL, 200, "ok");
        fakes_start(&world->fakes, i);
        await_readyz(world, 200, "{\"status\":\"ok\"}");
    }
}

static void
names_all_of_them_when_all_are_missing(void **state)
{
    world_t *world = *state;

    for (size_t i = 0; i < FAKE_SERVICES; i++)
        svc_server_destroy(&world->fakes.servers[i]);
    await_readyz(
        world, 503,
        "{\"status\":\"unavailable\",\"missing\":[\"auth-svc\",\"convo-svc\",\"llm-svc\"]}");
}

static void
another_reactor_that_misses_one_counts_too(void **state)
{
    world_t *world = *state;

    atomic_fetch_add(&world->readiness.needs[REACTOR_CONVO].missing, 1);
    await_readyz(world, 503, "{\"status\":\"unavailable\",\"missing\":[\"convo-svc\"]}");
    atomic_fetch_sub(&world->readiness.needs[REACTOR_CONVO].missing, 1);
    await_readyz(world, 200, "{\"status\":\"ok\"}");
}

static void
llm_svc_without_models_is_missing(void **state)
{
    world_t *world = *state;
    char *error = NULL;

    world->fakes.scripts[FAKE_MODELS].rc = RC_INTERNAL;
    assert_true(world_starts(world, &error));
    fakes_await(&world->fakes, FAKE_MODELS, 1);
    world_await_log(world, "llm-svc tells no models: internal");
    await_readyz(world, 503, "{\"status\":\"unavailable\",\"missing\":[\"llm-svc\"]}");
    world->fakes.scripts[FAKE_MODELS].rc = RC_OK; /* asked again within a second */
    await_readyz(world, 200, "{\"status\":\"ok\"}");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(lives_and_is_ready),
        WORLD_TEST(head_has_no_body),
        WORLD_TEST(names_each_service_that_is_missing),
        WORLD_TEST(names_all_of_them_when_all_are_missing),
        WORLD_TEST(another_reactor_that_misses_one_counts_too),
        WORLD_TEST_UNSTARTED(llm_svc_without_models_is_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
