/* test_svc_resolver.c - names that are looked up again and again, and what their watchers are told.
 *
 * The lookup is the one of resolver_fixture.h, but for one test that asks the system. */
#include "resolver_fixture.h"

typedef struct {
    fixture_t fixture; /* first */
    names_t names;     /* with the resolver under test */
    svc_watch_t *watch;
    char told[200];  /* addresses as told last, by commas */
    unsigned n;      /* how often */
    unsigned wanted; /* a condition's argument */
    bool end_watch;  /* inside the callback */
} bench_t;

static void
on_resolved(void *arg, const svc_addresses_t *addresses)
{
    bench_t *bench = arg;
    bench->n++;
    bench->told[0] = '\0';
    for (size_t i = 0; i < addresses->n; i++)
        snprintf(bench->told + strlen(bench->told),
                 sizeof(bench->told) - strlen(bench->told), "%s%s", i > 0 ? "," : "",
                 addresses->items[i]);
    if (bench->end_watch)
        svc_resolver_unwatch(&bench->watch);
}

static bool
was_told(void *arg)
{
    const bench_t *bench = arg;
    return bench->n >= bench->wanted;
}

static bool
was_looked_up(void *arg)
{
    bench_t *bench = arg;
    return names_lookups(&bench->names) >= bench->wanted;
}

static void
await_told(bench_t *bench, unsigned n, const char *told)
{
    bench->wanted = n;
    fixture_run_until(&bench->fixture, was_told, bench);
    assert_string_equal(bench->told, told);
    assert_int_equal(bench->n, n);
}

/* Lets the thread go round some times more. */
static void
look_on(bench_t *bench)
{
    bench->wanted = names_lookups(&bench->names) + 3;
    fixture_run_until(&bench->fixture, was_looked_up, bench);
}

static int
open_bench(void **state)
{
    bench_t *bench = svc_alloc(sizeof(*bench));
    fixture_open(&bench->fixture, "test");
    names_open(&bench->names);
    *state = bench;
    return 0;
}

static int
close_bench(void **state)
{
    bench_t *bench = *state;
    svc_resolver_unwatch(&bench->watch);
    names_close(&bench->names);
    fixture_close(&bench->fixture);
    free(bench);
    return 0;
}

static void
watch_name(bench_t *bench)
{
    bench->watch = svc_resolver_watch(bench->names.resolver, "name",
                                      bench->fixture.ctx.loop, on_resolved, bench);
}

static void
addresses_are_told_sorted_each_once_and_again_only_when_they_change(void **state)
{
    bench_t *bench = *state;
    names_set(&bench->names, "10.0.0.2", "10.0.0.1", "10.0.0.2");
    watch_name(bench);
    await_told(bench, 1, "10.0.0.1,10.0.0.2");
    look_on(bench);
    names_set(&bench->names, "10.0.0.1", "10.0.0.2",
              NULL); /* another order is no change */
    look_on(bench);
    assert_int_equal(bench->n, 1);
    names_set(&bench->names, "fe80::1", NULL, NULL);
    await_told(bench, 2, "fe80::1");
}

static void
a_lookup_that_fails_is_no_news(void **state)
{
    bench_t *bench = *state;
    watch_name(bench);
    look_on(bench);
    assert_int_equal(bench->n, 0);
    names_set(&bench->names, "10.0.0.1", NULL, NULL);
    await_told(bench, 1, "10.0.0.1");
    names_set(&bench->names, NULL, NULL, NULL);
    look_on(bench);
    names_set(&bench->names, "10.0.0.1", NULL, NULL);
    look_on(bench);
    assert_int_equal(bench->n, 1);
}

static void
several_watchers_of_a_name_cost_one_lookup_a_round(void **state)
{
    bench_t *bench = *state, second = {0};
    names_set(&bench->names, "10.0.0.1", NULL, NULL);
    watch_name(bench);
    await_told(bench, 1, "10.0.0.1");
    second.watch = svc_resolver_watch(bench->names.resolver, "name",
                                      bench->fixture.ctx.loop, on_resolved, &second);
    second.wanted = 1;
    fixture_run_until(&bench->fixture, was_told, &second); /* it is new to this one */
    assert_string_equal(second.told, "10.0.0.1");
    names_set(&bench->names, "10.0.0.2", NULL, NULL);
    await_told(bench, 2, "10.0.0.2");
    second.wanted = 2;
    fixture_run_until(&bench->fixture, was_told, &second);
    svc_resolver_unwatch(&second.watch);
    names_set(&bench->names, "10.0.0.3", NULL, NULL);
    await_told(bench, 3, "10.0.0.3");
    assert_int_equal(second.n, 2);
}

static void
a_watch_may_end_while_it_is_told(void **state)
{
    bench_t *bench = *state;
    names_set(&bench->names, "10.0.0.1", NULL, NULL);
    bench->end_watch = true;
    watch_name(bench);
    await_told(bench, 1, "10.0.0.1");
    assert_null(bench->watch);
    names_set(&bench->names, "10.0.0.2", NULL, NULL);
    fixture_run_for(&bench->fixture, 50);
    assert_int_equal(bench->n, 1);
}

static void
a_resolver_that_nobody_used_ends_without_having_begun(void **state)
{
    (void)state;
    svc_resolver_t *resolver = svc_resolver_new(NULL, NULL, NULL, 1000);
    svc_resolver_destroy(&resolver);
    svc_resolver_destroy(&resolver);
    assert_null(resolver);
}

static void
the_system_knows_this_machine(void **state)
{
    bench_t *bench = *state;
    svc_resolver_t *system = svc_resolver_new(NULL, NULL, NULL, 10000);
    svc_watch_t *watch = svc_resolver_watch(system, "localhost", bench->fixture.ctx.loop,
                                            on_resolved, bench);
    bench->wanted = 1;
    fixture_run_until(&bench->fixture, was_told, bench);
    assert_true(strstr(bench->told, "127.0.0.1") != NULL ||
                strstr(bench->told, "::1") != NULL);
    svc_resolver_unwatch(&watch);
    svc_resolver_destroy(&system);
}

#define BENCH_TEST(f) cmocka_unit_test_setup_teardown(f, open_bench, close_bench)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(addresses_are_told_sorted_each_once_and_again_only_when_they_change),
        BENCH_TEST(a_lookup_that_fails_is_no_news),
        BENCH_TEST(several_watchers_of_a_name_cost_one_lookup_a_round),
        BENCH_TEST(a_watch_may_end_while_it_is_told),
        cmocka_unit_test(a_resolver_that_nobody_used_ends_without_having_begun),
        BENCH_TEST(the_system_knows_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
