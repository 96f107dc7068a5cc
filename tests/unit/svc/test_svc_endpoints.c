/* test_svc_endpoints.c - lists of endpoints: their form, and what they stand for as names change.
 *
 * Names mean what resolver_fixture.h is told; numeric addresses are never connected to. */
#include "resolver_fixture.h"

#include "svc/svc_endpoints.h"

typedef struct {
    fixture_t fixture;          /* first */
    names_t names;              /* of fixture.ctx.resolver */
    svc_endpoints_t *endpoints; /* under test */
    char told[500];             /* "+tcp://a:1 -tcp://b:2" in order */
    const char *wanted;         /* a condition's argument */
} bench_t;

static void
on_endpoint(void *arg, const char *endpoint, bool is_added)
{
    bench_t *bench = arg;
    const size_t n = strlen(bench->told);
    snprintf(bench->told + n, sizeof(bench->told) - n, "%s%s%s", n > 0 ? " " : "",
             is_added ? "+" : "-", endpoint + strlen("tcp://"));
}

static bool
was_told(void *arg)
{
    const bench_t *bench = arg;
    return strlen(bench->told) >= strlen(bench->wanted);
}

static void
await_told(bench_t *bench, const char *told)
{
    bench->wanted = told;
    fixture_run_until(&bench->fixture, was_told, bench);
    assert_string_equal(bench->told, told);
}

static void
open_list(bench_t *bench, const char *list)
{
    char *error = NULL;
    bench->endpoints = svc_endpoints_new(&bench->fixture.ctx, list, on_endpoint, bench,
                                         &error);
    assert_non_null(bench->endpoints);
}

static int
open_bench(void **state)
{
    bench_t *bench = svc_alloc(sizeof(*bench));
    fixture_open(&bench->fixture, "test");
    names_open(&bench->names);
    bench->fixture.ctx.resolver = bench->names.resolver;
    *state = bench;
    return 0;
}

static int
close_bench(void **state)
{
    bench_t *bench = *state;
    svc_endpoints_destroy(&bench->endpoints);
    names_close(&bench->names);
    fixture_close(&bench->fixture);
    free(bench);
    return 0;
}

static void
an_endpoint_has_a_form(void **state)
{
    static const char *const good[] = {"tcp://127.0.0.1:7101", "tcp://a-b.c_d:1",
                                       "tcp://[::1]:65535", "tcp://[fe80::1%eth0]:80"};
    static const char *const bad[] = {"",
                                      "tcp://",
                                      "tcp://host",
                                      "tcp://:7",
                                      "tcp://host:0",
                                      "tcp://h:x",
                                      "tcp://h:1x",
                                      "tcp://h:70000",
                                      "ipc:///x",
                                      "h:1",
                                      "tcp://*:1",
                                      "tcp://::1:7",
                                      "tcp://[::1:7",
                                      "tcp://[]:7",
                                      "tcp://[abc]:7",
                                      "tcp://a b:1",
                                      "tcp://a/b:1",
                                      "tcp://a:1;tcp://b:2",
                                      "tcp://a:1,tcp://b:2"};
    (void)state;
    for (size_t i = 0; i < SVC_COUNT(good); i++)
        assert_null(svc_endpoint_check(good[i]));
    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        if (svc_endpoint_check(bad[i]) == NULL)
            fail_msg("\"%s\" was taken", bad[i]);
}

static void
numeric_ones_are_told_at_once_each_once(void **state)
{
    bench_t *bench = *state;
    open_list(bench, " tcp://10.0.0.1:7 ,tcp://[::1]:8,tcp://10.0.0.1:7");
    assert_string_equal(bench->told, "+10.0.0.1:7 +[::1]:8");
}

static void
a_list_that_is_none_is_refused_by_the_item_that_is_wrong(void **state)
{
    static const char *const lists[] = {"", "tcp://10.0.0.1:7,nowhere", ",",
                                        "tcp://10.0.0.1:7,"};
    bench_t *bench = *state;
    char *error = NULL;
    for (size_t i = 0; i < SVC_COUNT(lists); i++) {
        assert_null(
            svc_endpoints_new(&bench->fixture.ctx, lists[i], on_endpoint, bench, &error));
        assert_non_null(strstr(error, "tcp://host:port"));
        free(error);
    }
    bench->fixture.ctx.resolver = NULL; /* nobody could look it up */
    assert_null(svc_endpoints_new(&bench->fixture.ctx, "tcp://name:7", on_endpoint, bench,
                                  &error));
    assert_non_null(strstr(error, "name"));
    free(error);
    char *text = svc_alloc(1000);
    snprintf(text, 1000, "tcp://%0400d:7", 0);
    assert_null(svc_endpoints_new(&bench->fixture.ctx, text, on_endpoint, bench, &error));
    free(error);
    free(text);
}

static void
a_name_stands_for_all_its_addresses_now_and_later(void **state)
{
    bench_t *bench = *state;
    names_set(&bench->names, "10.0.0.2", "10.0.0.1", "::1");
    open_list(bench, "tcp://name:007,tcp://10.0.0.9:1");
    await_told(bench, "+10.0.0.9:1 +10.0.0.1:7 +10.0.0.2:7 +[::1]:7");
    bench->told[0] = '\0';
    names_set(&bench->names, "10.0.0.3", "10.0.0.1", NULL); /* new ones come first */
    await_told(bench, "+10.0.0.3:7 -10.0.0.2:7 -[::1]:7");
}

static void
what_stands_in_the_list_twice_goes_with_the_last(void **state)
{
    bench_t *bench = *state;
    bench->names.other[0] = "10.0.0.1";
    bench->names.other[1] = "10.0.0.4"; /* shows that the other one is known, too */
    names_set(&bench->names, "10.0.0.1", "10.0.0.2", NULL);
    open_list(bench, "tcp://10.0.0.2:7,tcp://name:7,tcp://other:7");
    await_told(bench, "+10.0.0.2:7 +10.0.0.1:7 +10.0.0.4:7");
    names_set(&bench->names, "10.0.0.3", NULL, NULL);
    await_told(bench, "+10.0.0.2:7 +10.0.0.1:7 +10.0.0.4:7 +10.0.0.3:7");
    fixture_run_for(&bench->fixture, 100);
    assert_string_equal(bench->told, "+10.0.0.2:7 +10.0.0.1:7 +10.0.0.4:7 +10.0.0.3:7");
}

#define BENCH_TEST(f) cmocka_unit_test_setup_teardown(f, open_bench, close_bench)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_endpoint_has_a_form),
        BENCH_TEST(numeric_ones_are_told_at_once_each_once),
        BENCH_TEST(a_list_that_is_none_is_refused_by_the_item_that_is_wrong),
        BENCH_TEST(a_name_stands_for_all_its_addresses_now_and_later),
        BENCH_TEST(what_stands_in_the_list_twice_goes_with_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
