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
    assert_int_equal(call(&bench, "later", 60000, 0, NULL), RC_OK);
    assert_int_equal(call(&bench, "later", 50, 0, NULL),
                     RC_OK); /* due before the first */
    await_replies(&bench, 1);
    assert_true(svc_mono_ms() - began >= 50);
    assert_int_equal(bench.rc, RC_TIMEOUT);
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_int_equal(call(&bench, "later", 50, 0, NULL), RC_OK);
    await_replies(&bench, 2); /* the one that has a minute is still open */
    assert_true(svc_peer_is_up(bench.peer));
    close_bench(&bench);
}

static void
a_call_of_no_time_fails_at_once_and_never_inside_itself(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(call(&bench, "ann", 0, 0, NULL), RC_OK);
    assert_int_equal(bench.replies, 0);
    await_replies(&bench, 1);
    assert_int_equal(bench.rc, RC_TIMEOUT);
    close_bench(&bench);
}

#define HOLD_MS 400

/* Sends parts for longer than the hold; false: this machine took longer than it between two. */
static bool
parts_arrive(bench_t *bench, svc_call_t *kept)
{
    uint64_t last = svc_mono_ms();
    for (int i = 1; i <= 5; i++) {
        const register_rep_t part = {.user = (uint64_t)i};
        assert_int_equal(svc_call_partial(kept, &part, 0), RC_OK);
        await_replies(bench, i);
        if (bench->kind == PROTO_ERROR) {
            assert_true(svc_mono_ms() - last >= HOLD_MS);
            return false;
        }
        assert_int_equal(bench->kind, PROTO_PARTIAL);
        assert_int_equal(bench->value, i);
        last = svc_mono_ms();
        fixture_run_for(&bench->fixture, 100);
    }
    return true;
}

static bool
is_held_from_part_to_part(void)
{
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(call(&bench, "later", 60000, HOLD_MS, NULL), RC_OK);
    bench.wanted = 1;
    fixture_run_until(&bench.fixture, has_served, &bench);
    svc_call_t *kept = svc_server_call(bench.server, bench.kept);
    const bool in_time = parts_arrive(&bench, kept);
    if (in_time) {
        await_replies(&bench, 6); /* no more parts */
        assert_int_equal(bench.kind, PROTO_ERROR);
        assert_int_equal(bench.rc, RC_TIMEOUT);
        const register_rep_t late = {.user = 9};
        svc_call_finish(kept, RC_OK, &late);
        fixture_run_for(&bench.fixture, 30);
        assert_int_equal(bench.replies, 6);
    }
    close_bench(&bench);
    return in_time;
}

static void
parts_come_until_the_last_and_the_time_between_them_is_bounded(void **state)
{
    (void)state;
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (!is_held_from_part_to_part())
        assert_true(svc_mono_ms() < until);
}

#define USER(n) SVC_LIT("\x81\xA4user" n) /* the body of a reply */

/* Sends a call to the script and waits until it is there. */
static uint64_t
call_script(bench_t *bench, uint64_t timeout_ms, uint64_t hold_ms)
{
    uint64_t id = 0;
    bench->wanted = bench->fake_calls + 1;
    assert_int_equal(call(bench, "ann", timeout_ms, hold_ms, &id), RC_OK);
    fixture_run_until(&bench->fixture, has_fake_calls, bench);
    assert_int_equal(bench->fake_call, id);
    return id;
}

static void
replies_that_nobody_waits_for_are_skipped(void **state)
{
    (void)state;
    bench_t bench;
    open_script(&bench);
    const uint64_t late = call_script(&bench, 1, 0);
    await_replies(&bench, 1);
    assert_int_equal(bench.rc, RC_TIMEOUT);
    const uint64_t forgotten = call_script(&bench, 60000, 0);
    svc_peer_forget(bench.peer, forgotten);
    const uint64_t id = call_script(&bench, 60000, 0);
    fake_answer(&bench, late, PROTO_FINAL, USER("\x01"));
    fake_answer(&bench, forgotten, PROTO_ERROR,
                SVC_LIT("\x81\xA4"
                        "code\xA4"
                        "busy"));
    fake_answer(&bench, id + 1, PROTO_FINAL, USER("\x02")); /* of no call yet */
    fake_answer(&bench, 0, PROTO_FINAL, USER("\x03"));
    fake_answer(&bench, UINT64_MAX, PROTO_FINAL, USER("\x04"));
    fake_answer(&bench, id, PROTO_ERROR + 1, USER("\x05")); /* of a kind to come */
    fake_answer(&bench, id, PROTO_FINAL, USER("\x06"));
    fake_answer(&bench, id, PROTO_FINAL, USER("\x07")); /* it has ended */
    fake_answer(&bench, id, PROTO_PARTIAL, USER("\x08"));
    fake_answer(&bench, id, PROTO_ERROR,
                SVC_LIT("\x81\xA4"
                        "code\xA4"
                        "busy"));
    await_replies(&bench, 2);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(bench.value, 6);
    const uint64_t next = call_script(&bench, 60000, 0);
    fake_answer(&bench, next, PROTO_FINAL, USER("\x09"));
    await_replies(&bench, 3); /* all of the above have been read before it */
    assert_int_equal(bench.value, 9);
    assert_string_equal(bench.events, "U");
    close_bench(&bench);
}

static void
a_part_lifts_the_timeout_of_a_call_without_a_hold(void **state)
{
    (void)state;
    bench_t bench;
    open_script(&bench);
    const uint64_t id = call_script(&bench, 300, 0);
    fake_answer(&bench, id, PROTO_PARTIAL, USER("\x01"));
    await_replies(&bench, 1);
    if (bench.kind == PROTO_PARTIAL) { /* else this machine took 300 ms for it */
        fixture_run_for(&bench.fixture, 400);
        assert_int_equal(bench.replies, 1);
        fake_answer(&bench, id, PROTO_FINAL, USER("\x02"));
        await_replies(&bench, 2);
        assert_int_equal(bench.kind, PROTO_FINAL);
    }
    close_bench(&bench);
}

static void
a_part_gives_no_more_than_the_hold_though_the_timeout_was_longer(void **state)
{
    (void)state;
    bench_t bench;
    open_script(&bench);
    const uint64_t id = call_script(&bench, 3600000, 50);
    fake_answer(&bench, id, PROTO_PARTIAL, USER("\x01"));
    await_replies(&bench, 2); /* the part, and the end of the patience */
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_int_equal(bench.rc, RC_TIMEOUT);
    close_bench(&bench);
}

static void
a_reply_that_cannot_be_read_fails_its_call_only(void **state)
{
    static const struct {
        uint64_t kind;
        svc_str body;
        svc_rc rc;
    } cases[] = {
        {PROTO_FINAL, SVC_LIT(""), RC_INTERNAL},
        {PROTO_FINAL, SVC_LIT("\x80"), RC_INTERNAL},
        {PROTO_PARTIAL, SVC_LIT("\x81\xA4user\xC0"), RC_INTERNAL},
        {PROTO_FINAL, SVC_LIT("\x81\xA4user\x00"), RC_INTERNAL},
        {PROTO_FINAL, SVC_LIT("\x81\xA4user\x01\xC0"), RC_INTERNAL},
        {PROTO_ERROR, SVC_LIT(""), RC_INTERNAL},
        {PROTO_ERROR, SVC_LIT("\x80"), RC_INTERNAL},
        {PROTO_ERROR,
         SVC_LIT("\x81\xA4"
                 "code\xA2ok"),
         RC_INTERNAL}, /* success is no error */
        {PROTO_ERROR,
         SVC_LIT("\x81\xA4"
                 "code\xA5never"),
         RC_INTERNAL},
        {PROTO_ERROR,
         SVC_LIT("\x81\xA4"
                 "code\xA4"
                 "busy"),
         RC_BUSY},
    };
    (void)state;
    bench_t bench;
    open_script(&bench);
    const uint64_t other = call_script(&bench, 60000, 0);
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        const uint64_t id = call_script(&bench, 60000, 0);
        fake_answer(&bench, id, cases[i].kind, cases[i].body);
        await_replies(&bench, (int)i + 1);
        assert_int_equal(bench.kind, PROTO_ERROR);
        assert_int_equal(bench.rc, cases[i].rc);
        fake_answer(&bench, id, PROTO_FINAL, USER("\x01")); /* too late to be right */
    }
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES), 7);
    fake_answer(&bench, other, PROTO_FINAL, USER("\x07"));
    await_replies(&bench, (int)SVC_COUNT(cases) + 1);
    assert_int_equal(bench.value, 7);
    assert_string_equal(bench.events, "U");
    close_bench(&bench);
}

/* Calls again from inside its own reply, until it has had enough. */
static void
on_chained_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                 const error_rep_t *error)
{
    bench_t *bench = arg;
    on_reply(arg, kind, rc, rep, error);
    if (bench->replies < 20)
        assert_int_equal(call_with(bench, "ann", 60000, 0, on_chained_reply, NULL),
                         RC_OK);
}

static void
a_reply_may_be_answered_with_the_next_call(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(call_with(&bench, "ann", 60000, 0, on_chained_reply, NULL), RC_OK);
    await_replies(&bench, 20);
    assert_int_equal(bench.served, 20);
    close_bench(&bench);
}

/* A peer that goes down fails its calls; from inside, new ones are refused and others forgotten. */
static void
on_failed_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                const error_rep_t *error)
{
    bench_t *bench = arg;
    on_reply(arg, kind, rc, rep, error);
    assert_int_equal(rc, RC_UNAVAILABLE);
    assert_int_equal(call(bench, "ann", 60000, 0, NULL), RC_UNAVAILABLE);
    for (uint64_t id = 1; id <= 10; id++) /* all of them: nobody else is to hear of it */
        svc_peer_forget(bench->peer, id);
}

static void
calls_that_fail_with_their_peer_may_forget_each_other(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    for (int i = 0; i < 10; i++)
        assert_int_equal(call_with(&bench, "later", 60000, 0, on_failed_reply, NULL),
                         RC_OK);
    bench.wanted = 10;
    fixture_run_until(&bench.fixture, has_served, &bench);
    svc_server_destroy(&bench.server);
    bench.wanted_events = 2;
    fixture_run_until(&bench.fixture, has_events, &bench);
    assert_int_equal(bench.events[1], 'D');
    assert_int_equal(bench.replies, 1);
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
    await_replies(&bench, 2);
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
    assert_int_equal(svc_peer_post(bench.peer, OP_AUTH_REGISTER, (svc_str){NULL, 0},
                                   &register_req_schema, &req),
                     RC_OK);
    bench.wanted = 1;
    fixture_run_until(&bench.fixture, has_served, &bench);
    svc_server_destroy(&bench.server);
    await_events(&bench, "UDL");
    assert_int_equal(svc_peer_post(bench.peer, OP_AUTH_REGISTER, (svc_str){NULL, 0},
                                   &register_req_schema, &req),
                     RC_UNAVAILABLE);
    close_bench(&bench);
}

static void
refuses_more_calls_than_it_keeps(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    bench.times.down = bench.times.lost =
        600000; /* the fake answers no ping, and this takes a while */
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
        assert_int_equal(call(&bench, "ann", 60000, 60000, NULL), RC_OK);
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
        cmocka_unit_test(a_call_of_no_time_fails_at_once_and_never_inside_itself),
        cmocka_unit_test(replies_that_nobody_waits_for_are_skipped),
        cmocka_unit_test(a_part_lifts_the_timeout_of_a_call_without_a_hold),
        cmocka_unit_test(
            a_part_gives_no_more_than_the_hold_though_the_timeout_was_longer),
        cmocka_unit_test(a_reply_that_cannot_be_read_fails_its_call_only),
        cmocka_unit_test(a_reply_may_be_answered_with_the_next_call),
        cmocka_unit_test(calls_that_fail_with_their_peer_may_forget_each_other),
        cmocka_unit_test(a_forgotten_call_hears_nothing_more),
        cmocka_unit_test(a_post_is_served_and_not_answered),
        cmocka_unit_test(refuses_more_calls_than_it_keeps),
        cmocka_unit_test(garbage_fails_the_call_and_never_the_caller),
        cmocka_unit_test(destroying_a_peer_forgets_its_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
