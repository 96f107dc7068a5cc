/* test_svc_server_call.c - calls that are kept: answered later, in parts, cancelled, dropped.
 *
 * Over real sockets, like test_svc_server.c. */
#include "server_bench.h"

/* --- later -------------------------------------------------------------------------------------- */

static void
a_kept_call_is_answered_later(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    send_request(&bench, 2, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    fixture_run_until(&bench.fixture, keeps_call, &bench);
    svc_call_t *call = svc_server_call(bench.server, bench.kept);
    assert_non_null(call);
    assert_int_equal(svc_call_trace(call).n, PROTO_TRACE_BYTES);
    assert_memory_equal(svc_call_trace(call).p, "0123456789abcdef", PROTO_TRACE_BYTES);
    const register_rep_t rep = {.user = 5};
    svc_call_finish(call, RC_OK, &rep);
    assert_null(svc_server_call(bench.server, bench.kept));
    assert_int_equal(svc_server_kept_calls(bench.server), 0);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    assert_int_equal(bench.cancelled, 0);
    close_bench(&bench);
}

static void
a_kept_call_may_be_answered_with_an_encoded_body_or_an_error(void **state)
{
    (void)state;
    bench_t bench;
    svc_buf_t body;
    open_bench(&bench, "gateway");
    svc_buf_init(&body, 1000);
    const register_rep_t rep = {.user = 5};
    assert_int_equal(proto_encode(&register_rep_schema, &rep, &body), RC_OK);
    send_request(&bench, 2, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    fixture_run_until(&bench.fixture, keeps_call, &bench);
    svc_call_finish_encoded(svc_server_call(bench.server, bench.kept),
                            svc_buf_str(&body));
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(bench.body_n, body.n);
    assert_memory_equal(bench.body, body.p, body.n);
    svc_buf_fini(&body);

    send_request(&bench, 3, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    fixture_run_until(&bench.fixture, keeps_call, &bench);
    svc_call_finish(svc_server_call(bench.server, bench.kept), RC_USERNAME_TAKEN, NULL);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_USERNAME_TAKEN);
    close_bench(&bench);
}

static void
a_handler_may_finish_the_call_itself_and_say_later(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    bench.is_resolved_inside = true;
    ask(&bench, 2, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    assert_int_equal(svc_server_kept_calls(bench.server), 0);
    assert_null(svc_server_call(bench.server, bench.kept));
    close_bench(&bench);
}

static void
a_call_past_its_budget_is_cancelled_and_its_caller_told(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    const uint64_t began = svc_mono_ms();
    ask(&bench, 2, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    expect_error(&bench, RC_TIMEOUT);
    assert_true(svc_mono_ms() - began >= BUDGET_MS);
    assert_int_equal(bench.cancelled, 1);
    assert_int_equal(bench.kept_last, bench.kept);
    assert_null(svc_server_call(bench.server, bench.kept));
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_CALLS_CANCELLED), 1);
    close_bench(&bench);
}

/* Requests of which each is cancelled, or had expired before it was read. */
typedef struct {
    bench_t *bench;
    uint64_t n; /* that were sent */
} ended_t;

static bool
have_ended(void *arg)
{
    const ended_t *ended = arg;

    return (uint64_t)ended->bench->cancelled +
               fixture_count(&ended->bench->fixture, SVC_M_EXPIRED) ==
           ended->n;
}

static void
a_call_is_never_kept_past_the_expiry_of_its_request(void **state)
{
    (void)state;
    bench_t bench;
    ended_t ended = {.bench = &bench};
    svc_buf_t body;
    proto_envelope_t head = envelope_of(2, OP_AUTH_REGISTER);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    uint64_t began;
    open_bench(&bench, "gateway");
    svc_buf_init(&body, 1000);
    assert_int_equal(proto_encode(&register_req_schema, &good_register, &body), RC_OK);
    do { /* again, if this machine took longer: then it may have been the budget that ended it */
        began = svc_mono_ms();
        assert_true(began < until);
        bench.cancelled = 0;
        ended.n = fixture_count(&bench.fixture, SVC_M_EXPIRED) + 1;
        head.expires_ms = svc_unix_ms() + 100;
        send_raw(&bench, &head, svc_buf_str(&body), false);
        fixture_run_until(&bench.fixture, have_ended, &ended);
    } while (bench.cancelled == 0 || svc_mono_ms() - began >= BUDGET_MS);
    svc_buf_fini(&body);
    close_bench(&bench);
}

static void
parts_lift_the_deadline_and_the_end_of_the_hold_is_silent(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "tool");
    bench.hold_ms = 3000;
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    assert_int_equal(bench.head.kind, PROTO_PARTIAL);
    for (int i = 0; i < 3; i++) {
        const verify_rep_t part = {.user = 2, .expires_s = 2};
        fixture_run_for(&bench.fixture, 1100);
        svc_call_t *call = svc_server_call(bench.server, bench.kept);
        assert_non_null(call);
        assert_int_equal(svc_call_partial(call, &part, i < 2 ? 3000 : 100), RC_OK);
    }
    bench.replies = 0;
    fixture_run_until(&bench.fixture, was_cancelled, &bench);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    fixture_run_for(&bench.fixture, 20);
    assert_int_equal(bench.replies, 1); /* the third part, and nothing after it */
    assert_int_equal(bench.head.kind, PROTO_PARTIAL);
    close_bench(&bench);
}

static void
a_call_with_a_hold_of_0_stays_until_it_is_finished(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    fixture_run_for(&bench.fixture, BUDGET_MS + 300);
    svc_call_t *call = svc_server_call(bench.server, bench.kept);
    assert_non_null(call);
    const verify_rep_t rep = {.user = 3, .expires_s = 3};
    bench.replies = 0;
    svc_call_finish(call, RC_OK, &rep);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    close_bench(&bench);
}

static void
a_part_to_a_caller_that_is_gone_cancels_the_call(void **state)
{
    (void)state;
    bench_t bench;
    const verify_rep_t part = {.user = 2, .expires_s = 2};
    svc_rc rc = RC_OK;
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    disconnect_client(&bench);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (rc == RC_OK && svc_mono_ms() < until) { /* until ZeroMQ has noticed */
        rc = svc_call_partial(svc_server_call(bench.server, bench.kept), &part, 0);
        fixture_run_for(&bench.fixture, 5);
    }
    assert_int_equal(rc, RC_UNAVAILABLE);
    assert_int_equal(bench.cancelled, 1);
    assert_null(svc_server_call(bench.server, bench.kept));
    close_bench(&bench);
}

static bool
finishes(void *arg)
{
    bench_t *bench = arg;
    const verify_rep_t rep = {.user = 3, .expires_s = 3};
    svc_call_t *call = svc_server_call(bench->server, bench->kept);
    return call == NULL || svc_call_try_finish(call, &rep) == RC_OK;
}

static bool
has_final(void *arg)
{
    return ((bench_t *)arg)->head.kind == PROTO_FINAL;
}

/* False: ZeroMQ's own thread has made room just when the last answer was to find none. */
static bool
waits_for_a_slow_reader(void)
{
    bench_t bench;
    const verify_rep_t part = {.user = 2, .expires_s = 2};
    svc_rc rc = RC_OK;
    open_bench(&bench, NULL);
    disconnect_client(&bench);
    connect_client(&bench, 1);
    say_hello(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    svc_loop_remove_socket(bench.fixture.ctx.loop, bench.client);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (rc == RC_OK && svc_mono_ms() < until) /* until all on the way is full */
        rc = svc_call_partial(svc_server_call(bench.server, bench.kept), &part, 0);
    assert_int_equal(rc, RC_BUSY);
    const bool waits = !finishes(&bench);
    assert_int_equal(bench.cancelled, 0);
    assert_int_equal(svc_server_call(bench.server, bench.kept) != NULL, waits);
    svc_loop_add_socket(bench.fixture.ctx.loop, bench.client, on_client, &bench);
    fixture_run_until(&bench.fixture, finishes, &bench);
    /* Behind all the others, which may be a hundred thousand. */
    assert_true(
        fixture_runs_until(&bench.fixture, has_final, &bench, 3 * FIXTURE_PATIENCE_MS));
    assert_null(svc_server_call(bench.server, bench.kept));
    assert_int_equal(bench.cancelled, 0);
    close_bench(&bench);
    return waits;
}

static void
a_last_answer_that_must_not_be_lost_waits_for_a_caller_that_reads_too_slowly(void **state)
{
    (void)state;
    for (int i = 0; !waits_for_a_slow_reader(); i++)
        assert_true(i < 20);
}

static void
a_last_answer_to_a_caller_that_is_gone_cancels_the_call(void **state)
{
    (void)state;
    bench_t bench;
    const verify_rep_t part = {.user = 2, .expires_s = 2};
    svc_rc rc = RC_OK;
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    const uint64_t first = bench.kept;
    ask(&bench, 3, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    disconnect_client(&bench);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (rc == RC_OK && svc_mono_ms() < until) { /* until ZeroMQ has noticed */
        rc = svc_call_partial(svc_server_call(bench.server, first), &part, 0);
        fixture_run_for(&bench.fixture, 5);
    }
    svc_call_t *call = svc_server_call(bench.server, bench.kept);
    assert_non_null(call);
    assert_int_equal(svc_call_try_finish(call, &part), RC_UNAVAILABLE);
    assert_int_equal(bench.cancelled, 2);
    assert_null(svc_server_call(bench.server, bench.kept));
    close_bench(&bench);
}

static void
a_dropped_call_ends_without_a_word(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    svc_call_drop(svc_server_call(bench.server, bench.kept));
    assert_int_equal(bench.cancelled, 0);
    ask(&bench, 3, OP_SVC_PING, &empty_schema, &nothing);
    assert_int_equal(bench.replies, 1);
    close_bench(&bench);
}

static void
calls_that_are_kept_at_the_end_are_cancelled(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    for (uint64_t i = 0; i < 100; i++)
        ask(&bench, 2 + i, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    assert_int_equal(svc_server_kept_calls(bench.server), 100);
    disconnect_client(&bench);
    svc_server_destroy(&bench.server);
    assert_null(bench.server);
    assert_int_equal(bench.cancelled, 100);
    fixture_close(&bench.fixture);
}

typedef struct {
    const bench_t *bench;
    uint64_t id; /* of the request that was sent last */
} sent_t;

static bool
has_last_reply(void *arg)
{
    const sent_t *sent = arg;

    return sent->bench->head.id == sent->id;
}

static void
refuses_more_calls_than_it_can_keep(void **state)
{
    (void)state;
    bench_t bench;
    sent_t sent = {.bench = &bench};
    open_bench(&bench, "gateway");
    for (uint64_t i = 0; i <= SVC_SERVER_CALLS_MAX; i++) {
        sent.id = 2 + i;
        send_request(&bench, sent.id, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
        /* A caller that does not read what it is told counts as gone, and its calls are not kept. */
        if (i % 1000 == 0 || i == SVC_SERVER_CALLS_MAX)
            fixture_run_until(&bench.fixture, has_last_reply, &sent);
    }
    expect_error(&bench, RC_BUSY);
    assert_int_equal(svc_server_kept_calls(bench.server), SVC_SERVER_CALLS_MAX);
    close_bench(&bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kept_call_is_answered_later),
        cmocka_unit_test(a_kept_call_may_be_answered_with_an_encoded_body_or_an_error),
        cmocka_unit_test(a_handler_may_finish_the_call_itself_and_say_later),
        cmocka_unit_test(a_call_past_its_budget_is_cancelled_and_its_caller_told),
        cmocka_unit_test(a_call_is_never_kept_past_the_expiry_of_its_request),
        cmocka_unit_test(parts_lift_the_deadline_and_the_end_of_the_hold_is_silent),
        cmocka_unit_test(a_call_with_a_hold_of_0_stays_until_it_is_finished),
        cmocka_unit_test(a_part_to_a_caller_that_is_gone_cancels_the_call),
        cmocka_unit_test(
            a_last_answer_that_must_not_be_lost_waits_for_a_caller_that_reads_too_slowly),
        cmocka_unit_test(a_last_answer_to_a_caller_that_is_gone_cancels_the_call),
        cmocka_unit_test(a_dropped_call_ends_without_a_word),
        cmocka_unit_test(calls_that_are_kept_at_the_end_are_cancelled),
        cmocka_unit_test(refuses_more_calls_than_it_can_keep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
