/* test_provider_set.c - the providers of a configuration: who serves what, what is refused, and how long a set is needed.
 *
 * Jobs go to a server that never answers, so that they live as long as the test wants. */
#include "tests/unit/svc/bus_fixture.h"

#include "llm-svc/provider_echo.h"
#include "llm-svc/provider_set.h"
#include "provider_sink.h"
#include "tiny_server.h"

typedef struct {
    fixture_t fixture;
    tiny_server_t server;
    relay_t *relay;
    provider_t *echo;
} bench_t;

static bool
never_answer(tiny_server_t *self, int fd, int nth)
{
    (void)nth;
    tiny_wait_for_close(self, fd);
    return false;
}

static int
setup(void **state)
{
    static const uint64_t pauses_ms[RELAY_RETRIES_MAX] = {5, 20};
    bench_t *b = svc_alloc(sizeof(*b));

    fixture_open(&b->fixture, "llm-svc");
    tiny_open(&b->server, never_answer);
    b->relay = relay_new(&b->fixture.ctx, pauses_ms);
    b->echo = provider_echo_new(b->fixture.ctx.loop, 1);
    *state = b;
    return 0;
}

static int
teardown(void **state)
{
    bench_t *b = *state;

    b->echo->destroy(&b->echo);
    relay_destroy(&b->relay);
    tiny_close(&b->server);
    fixture_close(&b->fixture);
    free(b);
    return 0;
}

/* A configuration with these providers; "%s" in it is the server's address. */
static svc_config_t *
configure(const bench_t *b, const char *providers)
{
    char yaml[2048], *error = NULL;
    svc_config_t *config;

    (void)snprintf(yaml, sizeof(yaml), "providers: [%s]", providers);
    for (char *at; (at = strstr(yaml, "URL")) != NULL;) {
        char rest[2048];

        (void)snprintf(rest, sizeof(rest), "%s", at + 3);
        (void)snprintf(at, sizeof(yaml) - (size_t)(at - yaml), "\"%s\"%s", b->server.url,
                       rest);
    }
    config = svc_config_parse(svc_str_c(yaml), "test", false, &error);
    if (config == NULL)
        fail_msg("%s", error);
    return config;
}

static provider_set_t *
make(bench_t *b, const char *providers)
{
    svc_config_t *config = configure(b, providers);
    char *error = NULL;
    provider_set_t *set = provider_set_new(b->relay, config, b->echo, NULL, &error);

    if (set == NULL)
        fail_msg("%s", error);
    svc_config_destroy(&config); /* the set holds it */
    return set;
}

static const char *
name_of(const provider_set_t *set, const char *model)
{
    const provider_t *provider = model_router_find(provider_set_router(set),
                                                   svc_str_c(model), NULL);

    return provider == NULL ? "" : provider->name;
}

static void
the_first_match_serves_and_the_built_in_model_comes_last(void **state)
{
    provider_set_t *set = make(*state, "{name: one, models: [\"a*\"], base_url: URL}, "
                                       "{name: two, models: [\"*b\"], base_url: URL}");

    assert_string_equal(name_of(set, "ab"), "one");
    assert_string_equal(name_of(set, "bb"), "two");
    assert_string_equal(name_of(set, "c"), "");
    assert_string_equal(name_of(set, "echo"), "echo");
    assert_int_equal(model_router_patterns(provider_set_router(set)).n, 3);
    provider_set_destroy(&set);
    assert_null(set);
    provider_set_destroy(&set);
    set = make(*state, "{name: all, models: [\"*\"], base_url: URL}");
    assert_string_equal(name_of(set, "echo"), "all");
    provider_set_destroy(&set);
}

static void
what_would_fail_every_request_is_refused(void **state)
{
    bench_t *b = *state;
    svc_config_t *config = configure(
        b, "{name: one, models: [a], base_url: URL}, "
           "{name: two, models: [b], base_url: URL, ca_file: /nonexistent/ca}");
    char *error = NULL;

    assert_null(provider_set_new(b->relay, config, b->echo, NULL, &error));
    assert_string_equal(
        error, "provider two: ca_file /nonexistent/ca: No such file or directory");
    free(error);
    svc_config_destroy(&config);
}

static void
a_set_is_needed_while_one_of_its_jobs_lives(void **state)
{
    bench_t *b = *state;
    provider_set_t *set = make(b, "{name: one, models: [a], base_url: URL}, "
                                  "{name: two, models: [b], base_url: URL}");
    caught_t caught;

    assert_true(provider_set_is_idle(set));
    caught_init(&caught, model_router_find(provider_set_router(set), SVC_LIT("b"), NULL));
    assert_int_equal(caught_ask(&caught, SVC_LIT("anybody?"), ""), RC_OK);
    assert_false(provider_set_is_idle(set));
    fixture_run_for(&b->fixture, 5);
    caught.provider->cancel(caught.job);
    assert_true(provider_set_is_idle(set));
    assert_int_equal(caught_ask(&caught, SVC_LIT("anybody?"), ""), RC_OK);
    provider_set_destroy(&set); /* with its job */
    svc_buf_fini(&caught.text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            the_first_match_serves_and_the_built_in_model_comes_last, setup, teardown),
        cmocka_unit_test_setup_teardown(what_would_fail_every_request_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_set_is_needed_while_one_of_its_jobs_lives,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
