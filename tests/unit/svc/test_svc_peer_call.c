/* test_svc_peer_call.c - calls on a peer: answered, in parts, too late, forgotten, refused, failed.
 *
 * What the connection does is not looked at here; it is up unless a test takes it away. */
#include "peer_bench.h"

static void
a_call_is_answered(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(bench.instances[0], 1);
    assert_true(svc_peer_is_up(bench.peer));
    assert_int_equal(svc_peer_instance(bench.peer), 1);
    uint64_t id = 0;
    assert_int_equal(call(&bench, "ann", 5000, 0, &id), RC_OK);
    assert_int_not_equal(id, 0);
    assert_int_equal(bench.replies, 0); /* never inside svc_peer_call */
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(bench.value, 8);
    svc_peer_forget(bench.peer, id); /* harmless */
    svc_peer_forget(bench.peer, 0);
    close_bench(&bench);
}

static void
an_error_brings_code_text_and_retry_after(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(call(&bench, "taken", 5000, 0, NULL), RC_OK);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_int_equal(bench.rc, RC_USERNAME_TAKEN);
    assert_string_equal(bench.text, "somebody has it");
    assert_int_equal(bench.retry_after_s, 3);
    close_bench(&bench);
}

static void
refuses_what_cannot_be_encoded(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    char *large = malloc(1u << 20);
    memset(large, 'x', (1u << 20) - 1);
    large[(1u << 20) - 1] = '\0';
    assert_int_equal(call(&bench, large, 5000, 0, NULL), RC_TOO_BIG);
    free(large);
    assert_int_not_equal(call(&bench, "\xff", 5000, 0, NULL), RC_OK);
    fixture_run_for(&bench.fixture, 20);
    assert_int_equal(bench.replies, 0);
    close_bench(&bench);
}

static void
a_call_that_is_not_answered_in_time_fails(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    const uint64_t began = svc_mono_ms();
    assert_int_equal(call(&bench, "later", 100, 0, NULL), RC_OK);
    assert_int_equal(call(&bench, "later", 5000, 0, NULL), RC_OK);
    assert_int_equal(call(&bench, "later", 50, 0, NULL), RC_OK);
    await_replies(&bench, 1);
    assert_true(svc_mono_ms() - began >= 50);
    await_replies(&bench, 2);
    assert_int_equal(bench.rc, RC_TIMEOUT);
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_true(svc_mono_ms() - began >= 100);
    assert_int_equal(bench.replies, 2); /* the one that has 5 s is still open */
    close_bench(&bench);
}

static void
parts_come_until_the_last_and_the_time_between_them_is_bounded(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(call(&bench, "later", 5000, 150, NULL), RC_OK);
    bench.wanted = 1;
    fixture_run_until(&bench.fixture, has_served, &bench);
    svc_call_t *kept = svc_server_call(bench.server, bench.kept);
    for (int i = 1; i <= 4; i++) {
        const register_rep_t part = {.user = (uint64_t)i};
        assert_int_equal(svc_call_partial(kept, &part, 0), RC_OK);
        await_replies(&bench, i);
        assert_int_equal(bench.kind, PROTO_PARTIAL);
        assert_int_equal(bench.value, i);
        fixture_run_for(&bench.fixture, 60);
    }
    await_replies(&bench, 5); /* no more parts */
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_int_equal(bench.rc, RC_TIMEOUT);
    const register_rep_t late = {.user = 9};
    svc_call_finish(kept, RC_OK, &late);
    fixture_run_for(&bench.fixture, 30);
    assert_int_equal(bench.replies, 5);
    close_bench(&bench);
}

static void
a_forgotten_call_hears_nothing_more(void **state)
{
    (void)state;
    bench_t bench;
    uint64_t id = 0, other = 0;
    open_pair(&bench);
    assert_int_equal(call(&bench, "ann", 5000, 0, &id), RC_OK);
    svc_peer_forget(bench.peer, id);
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_OK);
    await_replies(&bench, 1);
    /* One callback forgets the next call. */
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_OK);
    assert_int_equal(call(&bench, "ann", 5000, 0, &other), RC_OK);
    bench.forget = other;
    bench.wanted = 4;
    fixture_run_until(&bench.fixture, has_served, &bench);
    fixture_run_for(&bench.fixture, 30);
    assert_int_equal(bench.replies, 2);
    close_bench(&bench);
}

static void
a_post_is_served_and_not_answered(void **state)
{
    (void)state;
    bench_t bench;
    const register_req_t req = {.username = SVC_LIT("ann"), .password = SVC_LIT("x")};
    open_pair(&bench);
    assert_int_equal(
        svc_peer_post(bench.peer, OP_AUTH_REGISTER, &register_req_schema, &req), RC_OK);
    bench.wanted = 1;
    fixture_run_until(&bench.fixture, has_served, &bench);
    svc_server_destroy(&bench.server);
    await_events(&bench, "UDL");
    assert_int_equal(
        svc_peer_post(bench.peer, OP_AUTH_REGISTER, &register_req_schema, &req),
        RC_UNAVAILABLE);
    close_bench(&bench);
}

static void
refuses_more_calls_than_it_keeps(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_fake(&bench, FAKE_HELLO_ONLY, 5, "auth-svc");
    open_peer(&bench);
    await_events(&bench, "U");
    int n = 0;
    svc_rc rc = RC_OK;
    for (; n < SVC_PEER_CALLS_MAX + 10; n++) {
        rc = call(&bench, "ann", 60000, 0, NULL);
        if (rc != RC_OK)
            break;
        if (n % 100 == 0)
            fixture_run_for(&bench.fixture, 1);
    }
    assert_int_equal(rc, RC_BUSY);
    assert_true(n <= SVC_PEER_CALLS_MAX);
    assert_true(n >= 1000);
    close_bench(&bench);
}

static void
garbage_fails_the_call_and_never_the_caller(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    srand(5);
    start_fake(&bench, FAKE_GARBAGE, 5, "auth-svc");
    open_peer(&bench);
    await_events(&bench, "U");
    for (int i = 1; i <= 100; i++) {
        assert_int_equal(call(&bench, "ann", 5000, 5000, NULL), RC_OK);
        await_replies(&bench, i);
        assert_int_equal(bench.kind, PROTO_ERROR);
        assert_int_equal(bench.rc, RC_INTERNAL);
    }
    assert_true(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES) > 1000);
    assert_string_equal(bench.events, "U");
    close_bench(&bench);
}

static void
destroying_a_peer_forgets_its_calls(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(call(&bench, "later", 5000, 0, NULL), RC_OK);
    bench.wanted = 1;
    fixture_run_until(&bench.fixture, has_served, &bench);
    close_bench(&bench);
    assert_int_equal(bench.replies, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_answered),
        cmocka_unit_test(an_error_brings_code_text_and_retry_after),
        cmocka_unit_test(refuses_what_cannot_be_encoded),
        cmocka_unit_test(a_call_that_is_not_answered_in_time_fails),
        cmocka_unit_test(parts_come_until_the_last_and_the_time_between_them_is_bounded),
        cmocka_unit_test(a_forgotten_call_hears_nothing_more),
        cmocka_unit_test(a_post_is_served_and_not_answered),
        cmocka_unit_test(refuses_more_calls_than_it_keeps),
        cmocka_unit_test(garbage_fails_the_call_and_never_the_caller),
        cmocka_unit_test(destroying_a_peer_forgets_its_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
