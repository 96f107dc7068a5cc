/* test_svc_peers_failover.c - calls whose replica dies or freezes: answered by another one, or failed at once.
 *
 * Which operations may be sent again stands in proto_ops.c; here auth.register is one that may,
 * convo.delete one that may not (the replicas do not look at names). */
#include "peers_bench.h"

#define TO_OTHER OP_AUTH_REGISTER
#define TO_NONE  OP_CONVO_DELETE

/* The one replica of those that have calls that has the most. */
static size_t
busiest(const peers_bench_t *bench)
{
    size_t best = 0;
    for (size_t i = 1; i < REPLICAS_MAX; i++)
        if (bench->replicas[i].calls > bench->replicas[best].calls)
            best = i;
    return best;
}

static void
a_call_to_one_that_dies_is_answered_by_another(void **state)
{
    (void)state;
    peers_bench_t bench;
    uint64_t id = 0;
    open_replicas(&bench, 2);
    assert_int_equal(call_op(&bench, TO_OTHER, 0, &id), RC_OK);
    await_calls(&bench, 1);
    const size_t first = busiest(&bench), second = 1 - first;
    const replica_t *from = &bench.replicas[first], *to = &bench.replicas[second];
    bench.replicas[second].answers = true;
    stop_replica(&bench.replicas[first]);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(bench.value, id); /* the call keeps its id */
    assert_int_equal(bench.replier, second + 1);
    assert_memory_equal(from->trace, to->trace, PROTO_TRACE_BYTES);
    assert_int_equal(from->expires_ms, to->expires_ms);
    assert_true(from->moved_ms != 0 && from->moved_ms < from->expires_ms);
    assert_int_equal(to->moved_ms, 0); /* it goes no further */
    assert_int_equal(from->body_n, to->body_n);
    assert_true(to->body_n > 0);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_CALLS_FAILED_OVER), 1);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_CALLS_FAILED), 0);
    close_bench(&bench);
}

static void
a_call_to_one_that_freezes_is_answered_by_another(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    for (int i = 0; i < 3; i++) /* the other one has more to do: it goes to the first */
        assert_int_equal(call_op(&bench, TO_OTHER, 2, NULL), RC_OK);
    await_calls(&bench, 3);
    bench.replicas[0].is_silent = true;
    bench.replicas[1].answers = true;
    assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
    bench.times.down = PATIENT_MS;
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(bench.replier, 2);
    assert_string_equal(bench.events, "D1");
    close_bench(&bench);
}

static void
a_call_to_one_that_is_silent_already_may_move_sooner(void **state)
{
    (void)state;
    peers_bench_t bench;
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    uint64_t now_ms, moved_ms;
    open_replicas(&bench, 2);
    bench.times.down = 60000;
    do { /* again, if this machine has stood still: then nobody counts as silent */
        bench.replicas[0].is_silent = bench.replicas[1].is_silent = true;
        fixture_run_for(&bench.fixture, 600); /* pings wait by now */
        bench.replicas[0].is_silent = bench.replicas[1].is_silent = false;
        bench.replicas[0].calls = bench.replicas[1].calls = 0;
        now_ms = svc_unix_ms();
        assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
        await_calls(&bench, 1);
        moved_ms = bench.replicas[busiest(&bench)].moved_ms;
        assert_true(moved_ms > now_ms);
        assert_true(svc_mono_ms() < until);
    } while (moved_ms >= now_ms + 40000 - 100); /* two thirds, and less */
    close_bench(&bench);
}

static void
a_call_that_may_not_be_sent_twice_fails_at_once(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    assert_int_equal(call_op(&bench, TO_NONE, 0, NULL), RC_OK);
    await_calls(&bench, 1);
    const size_t first = busiest(&bench);
    stop_replica(&bench.replicas[first]);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    assert_int_equal(bench.replier, first + 1);
    assert_true(bench.was_up); /* the other one is */
    assert_int_equal(bench.replicas[1 - first].calls, 0);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_CALLS_FAILED_OVER), 0);
    close_bench(&bench);
}

static void
a_call_for_one_instance_is_for_no_other(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    assert_int_equal(call_op(&bench, TO_OTHER, 1, NULL), RC_OK);
    await_calls(&bench, 1);
    stop_replica(&bench.replicas[0]);
    await_replies(&bench, 1);
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    close_bench(&bench);
}

static void
a_call_is_sent_again_once_only(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 3);
    assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
    await_calls(&bench, 1);
    const size_t first = busiest(&bench);
    stop_replica(&bench.replicas[first]);
    bench.replicas[first].calls = 0;
    await_calls(&bench, 1);
    stop_replica(&bench.replicas[busiest(&bench)]);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    assert_true(bench.was_up);
    close_bench(&bench);
}

static void
a_call_that_has_had_a_part_is_not_sent_again(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
    await_calls(&bench, 1);
    const size_t first = busiest(&bench);
    replica_answer(&bench.replicas[first], PROTO_PARTIAL);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_PARTIAL);
    stop_replica(&bench.replicas[first]);
    await_replies(&bench, 2);
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    assert_int_equal(bench.replicas[1 - first].calls, 0);
    close_bench(&bench);
}

static void
an_error_is_an_answer_and_nobody_else_is_asked(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    bench.replicas[0].refuses = bench.replicas[1].refuses = "busy";
    assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
    await_replies(&bench, 1);
    assert_int_equal(bench.rc, RC_BUSY);
    assert_int_equal(bench.replicas[0].calls + bench.replicas[1].calls, 1);
    close_bench(&bench);
}

static void
a_call_that_one_gets_to_too_late_is_answered_by_another(void **state)
{
    (void)state;
    peers_bench_t bench;
    uint64_t id = 0;
    open_replicas(&bench, 2);
    assert_int_equal(call_op(&bench, TO_OTHER, 0, &id), RC_OK);
    await_calls(&bench, 1);
    replica_t *late = &bench.replicas[busiest(&bench)];
    late->answers = bench.replicas[1 - busiest(&bench)].answers = true;
    late->refuses = "moved";
    replica_refuse(late);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(bench.value, id);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_CALLS_FAILED_OVER), 1);
    assert_string_equal(bench.events, "");
    close_bench(&bench);
}

static void
who_leaves_a_call_to_others_does_not_get_it_again_for_being_idle(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    for (int i = 0; i < 5; i++)
        assert_int_equal(call_op(&bench, TO_OTHER, 2, NULL), RC_OK);
    await_calls(&bench, 5);
    bench.replicas[0].refuses = "moved";
    bench.replicas[1].answers = true;
    assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(bench.replier, 2);
    assert_int_equal(bench.replicas[0].calls, 1);
    assert_int_equal(bench.replicas[1].calls, 6);
    close_bench(&bench);
}

static void
who_leaves_a_call_to_others_gets_it_again_when_there_are_none(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    stop_replica(&bench.replicas[1]);
    await_events(&bench, "D2 L2");
    assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
    await_calls(&bench, 1);
    bench.replicas[0].answers = true;
    bench.replicas[0].refuses = "moved";
    replica_refuse(&bench.replicas[0]);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(bench.replicas[0].calls, 2);
    close_bench(&bench);
}

static void
two_that_get_to_it_too_late_fail_it(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    bench.replicas[0].refuses = bench.replicas[1].refuses = "moved";
    assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_int_equal(bench.rc, RC_UNAVAILABLE); /* callers know no other word for it */
    assert_int_equal(bench.replicas[0].calls + bench.replicas[1].calls, 2);
    close_bench(&bench);
}

static void
without_another_one_it_fails_at_once(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    stop_replica(&bench.replicas[0]);
    await_events(&bench, "D1 L1");
    assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
    await_calls(&bench, 1);
    stop_replica(&bench.replicas[1]);
    await_replies(&bench, 1);
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    assert_false(bench.was_up);
    close_bench(&bench);
}

static void
many_calls_move_together_and_none_is_lost(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 3);
    for (int i = 0; i < 600; i++)
        assert_int_equal(call_op(&bench, TO_OTHER, 0, NULL), RC_OK);
    await_calls(&bench, 600);
    bench.replicas[0].answers = bench.replicas[1].answers = true;
    stop_replica(&bench.replicas[2]);
    await_replies(&bench, 200);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(bench.replicas[0].calls, 300); /* shared among those that are left */
    assert_int_equal(bench.replicas[1].calls, 300);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_CALLS_FAILED_OVER), 200);
    close_bench(&bench);
}

static void
a_call_that_was_forgotten_is_not_sent_again(void **state)
{
    (void)state;
    peers_bench_t bench;
    uint64_t id = 0;
    open_replicas(&bench, 2);
    assert_int_equal(call_op(&bench, TO_OTHER, 0, &id), RC_OK);
    await_calls(&bench, 1);
    svc_peers_forget(bench.peers, id);
    const size_t first = busiest(&bench);
    stop_replica(&bench.replicas[first]);
    await_events(&bench, first == 0 ? "D1 L1" : "D2 L2");
    fixture_run_for(&bench.fixture, 50);
    assert_int_equal(bench.replies, 0);
    assert_int_equal(bench.replicas[1 - first].calls, 0);
    close_bench(&bench);
}

static void
a_callback_of_a_failed_call_may_call_again(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    assert_int_equal(call_op(&bench, TO_NONE, 0, NULL), RC_OK);
    await_calls(&bench, 1);
    bench.ask_again = true;
    bench.replicas[0].answers = bench.replicas[1].answers = true;
    stop_replica(&bench.replicas[busiest(&bench)]);
    await_replies(&bench, 2);
    assert_int_equal(bench.kind, PROTO_FINAL);
    close_bench(&bench);
}

static void
on_time_out(void *arg, proto_kind kind, svc_rc rc, const void *rep,
            const error_rep_t *error)
{
    on_reply(arg, kind, rc, rep, error);
}

static void
it_has_what_is_left_of_its_time(void **state)
{
    (void)state;
    peers_bench_t bench;
    const register_req_t req = {.username = SVC_LIT("ann"),
                                .password = SVC_LIT("12345678")};
    svc_peer_request_t request = {
        .op = TO_OTHER,
        .req_schema = &register_req_schema,
        .req = &req,
        .rep_schema = &register_rep_schema,
        .timeout_ms = 2500,
        .on_reply = on_time_out,
        .arg = &bench,
    };
    open_replicas(&bench, 2);
    const uint64_t began_ms = svc_mono_ms();
    assert_int_equal(svc_peers_call(bench.peers, &request, NULL), RC_OK);
    await_calls(&bench, 1);
    stop_replica(&bench.replicas[busiest(&bench)]);
    await_calls(&bench, 2);
    await_replies(&bench, 1);
    assert_int_equal(bench.rc, RC_TIMEOUT);
    assert_true(svc_mono_ms() - began_ms >= 2490); /* the loop's clock may lag a little */
    close_bench(&bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_to_one_that_dies_is_answered_by_another),
        cmocka_unit_test(a_call_to_one_that_freezes_is_answered_by_another),
        cmocka_unit_test(a_call_to_one_that_is_silent_already_may_move_sooner),
        cmocka_unit_test(a_call_that_may_not_be_sent_twice_fails_at_once),
        cmocka_unit_test(a_call_for_one_instance_is_for_no_other),
        cmocka_unit_test(a_call_is_sent_again_once_only),
        cmocka_unit_test(a_call_that_has_had_a_part_is_not_sent_again),
        cmocka_unit_test(an_error_is_an_answer_and_nobody_else_is_asked),
        cmocka_unit_test(a_call_that_one_gets_to_too_late_is_answered_by_another),
        cmocka_unit_test(
            who_leaves_a_call_to_others_does_not_get_it_again_for_being_idle),
        cmocka_unit_test(who_leaves_a_call_to_others_gets_it_again_when_there_are_none),
        cmocka_unit_test(two_that_get_to_it_too_late_fail_it),
        cmocka_unit_test(without_another_one_it_fails_at_once),
        cmocka_unit_test(many_calls_move_together_and_none_is_lost),
        cmocka_unit_test(a_call_that_was_forgotten_is_not_sent_again),
        cmocka_unit_test(a_callback_of_a_failed_call_may_call_again),
        cmocka_unit_test(it_has_what_is_left_of_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
