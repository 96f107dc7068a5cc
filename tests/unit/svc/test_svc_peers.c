/* test_svc_peers.c - several replicas behind one set: who is asked, what is told of whom.
 *
 * What one connection goes through is looked at in test_svc_peer.c. */
#include "peers_bench.h"

/* --- lists ------------------------------------------------------------------------------------ */

static void
refuses_lists_with_an_endpoint_that_is_none(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        ",",
                                        "tcp://127.0.0.1:7101,",
                                        ",tcp://127.0.0.1:7101",
                                        "tcp://127.0.0.1:7101,,tcp://127.0.0.1:7102",
                                        "tcp://127.0.0.1:7101,127.0.0.1:7102",
                                        "tcp://127.0.0.1:7101,tcp://127.0.0.1:70000"};
    peers_bench_t bench;
    open_bench(&bench);
    for (size_t i = 0; i < SVC_COUNT(wrong); i++) {
        char *error = NULL;
        assert_null(
            svc_peers_new(&bench.fixture.ctx, "auth-svc", wrong[i], NULL, NULL, &error));
        assert_non_null(error);
        assert_non_null(strstr(error, "auth-svc"));
        free(error);
    }
    close_bench(&bench);
}

static void
an_address_that_stands_twice_in_the_list_is_one_and_spaces_do_no_harm(void **state)
{
    (void)state;
    peers_bench_t bench;
    char endpoints[300];
    open_bench(&bench);
    start_replica(&bench, 0, 1);
    snprintf(endpoints, sizeof(endpoints), " %s , %s", bench.replicas[0].endpoint,
             bench.replicas[0].endpoint);
    open_set(&bench, endpoints);
    await_events(&bench, "U1");
    fixture_run_for(&bench.fixture, 50);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_PEER_UPS), 1);
    close_bench(&bench);
}

/* --- events ----------------------------------------------------------------------------------- */

static void
nobody_is_there_at_first(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_bench(&bench);
    open_set(&bench, "tcp://127.0.0.1:1,tcp://127.0.0.1:2");
    assert_false(svc_peers_is_up(bench.peers));
    assert_false(svc_peers_takes_work(bench.peers));
    assert_false(svc_peers_has(bench.peers, 1));
    assert_int_equal(svc_peers_pick(bench.peers), 0);
    assert_int_equal(call(&bench, 0, NULL), RC_UNAVAILABLE);
    assert_int_equal(call(&bench, 1, NULL), RC_UNAVAILABLE);
    svc_peers_forget(bench.peers, 0);
    fixture_run_for(&bench.fixture, 200);
    assert_string_equal(bench.events, "");
    close_bench(&bench);
}

static void
each_replica_comes_and_goes_by_itself(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    stop_replica(&bench.replicas[0]);
    await_events(&bench, "D1 L1");
    assert_true(svc_peers_is_up(bench.peers));
    assert_false(svc_peers_has(bench.peers, 1));
    assert_true(svc_peers_has(bench.peers, 2));
    stop_replica(&bench.replicas[1]);
    await_events(&bench, "D1 L1 D2 L2");
    assert_false(svc_peers_is_up(bench.peers));
    start_replica(&bench, 1, 3);
    await_events(&bench, "D1 L1 D2 L2 U3");
    close_bench(&bench);
}

static void
one_process_at_two_addresses_is_told_of_once(void **state)
{
    (void)state;
    peers_bench_t bench;
    char endpoints[200];
    open_bench(&bench);
    start_replica(&bench, 0, 7);
    start_replica(&bench, 1, 7);
    endpoints_of(&bench, 2, endpoints, sizeof(endpoints));
    open_set(&bench, endpoints);
    await_events(&bench, "U7");
    while (fixture_count(&bench.fixture, SVC_M_PEER_UPS) < 2)
        fixture_run_for(&bench.fixture, 5);
    stop_replica(&bench.replicas[0]);
    while (fixture_count(&bench.fixture, SVC_M_PEER_LOSSES) < 1)
        fixture_run_for(&bench.fixture, 5);
    assert_string_equal(bench.events, "U7"); /* there is another way to it */
    assert_true(svc_peers_has(bench.peers, 7));
    stop_replica(&bench.replicas[1]);
    await_events(&bench, "U7 D7 L7");
    fixture_run_for(&bench.fixture, 100);
    assert_string_equal(bench.events, "U7 D7 L7");
    start_replica(&bench, 0, 8);
    await_events(&bench, "U7 D7 L7 U8");
    close_bench(&bench);
}

static void
count_instance(void *arg, uint64_t instance)
{
    *(uint64_t *)arg += instance;
}

static void
each_instance_that_is_up_is_named_once(void **state)
{
    (void)state;
    peers_bench_t bench;
    char endpoints[300];
    uint64_t sum = 0;
    open_bench(&bench);
    start_replica(&bench, 0, 10);
    start_replica(&bench, 1, 100);
    start_replica(&bench, 2, 10);
    endpoints_of(&bench, 3, endpoints, sizeof(endpoints));
    open_set(&bench, endpoints);
    svc_peers_each(bench.peers, count_instance, &sum);
    assert_int_equal(sum, 0);
    while (fixture_count(&bench.fixture, SVC_M_PEER_UPS) < 3)
        fixture_run_for(&bench.fixture, 5);
    svc_peers_each(bench.peers, count_instance, &sum);
    assert_int_equal(sum, 110);
    close_bench(&bench);
}

/* --- who is asked ----------------------------------------------------------------------------- */

static void
calls_go_to_the_replica_with_the_fewest(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 3);
    for (int i = 0; i < 30; i++)
        assert_int_equal(call(&bench, 0, NULL), RC_OK);
    await_calls(&bench, 30);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(bench.replicas[i].calls, 10);
    replica_answer(&bench.replicas[1], PROTO_FINAL);
    await_replies(&bench, 1);
    assert_int_equal(bench.replier, 2);
    assert_int_equal(svc_peers_pick(bench.peers), 2);
    assert_int_equal(call(&bench, 0, NULL), RC_OK);
    await_calls(&bench, 31);
    assert_int_equal(bench.replicas[1].calls, 11);
    close_bench(&bench);
}

static void
among_equals_it_is_drawn(void **state)
{
    (void)state;
    peers_bench_t bench;
    unsigned picked[4] = {0};
    open_replicas(&bench, 3);
    for (int i = 0; i < 300; i++)
        picked[svc_peers_pick(bench.peers)]++;
    assert_int_equal(picked[0], 0);
    for (int i = 1; i < 4; i++)
        assert_true(picked[i] > 0);
    close_bench(&bench);
}

static void
a_call_for_one_instance_goes_there_or_nowhere(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 3);
    for (int i = 0; i < 5; i++)
        assert_int_equal(call(&bench, 2, NULL), RC_OK);
    await_calls(&bench, 5);
    assert_int_equal(bench.replicas[1].calls, 5);
    assert_int_equal(call(&bench, 4, NULL), RC_UNAVAILABLE);
    stop_replica(&bench.replicas[1]);
    await_replies(&bench, 5); /* at once, and nobody else answers */
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    assert_int_equal(bench.replier, 2);
    assert_int_equal(bench.replicas[0].calls + bench.replicas[2].calls, 0);
    assert_int_equal(call(&bench, 2, NULL), RC_UNAVAILABLE);
    close_bench(&bench);
}

/* (Of equals any is picked: that the other one is 64 times in a row is no accident.) */
static bool
one_is_passed_over(void *arg)
{
    for (int i = 0; i < 64; i++)
        if (svc_peers_pick(((peers_bench_t *)arg)->peers) != 2)
            return false;
    return true;
}

static bool
nobody_takes_work(void *arg)
{
    return !svc_peers_takes_work(((peers_bench_t *)arg)->peers);
}

static void
one_that_drains_gets_new_work_only_when_nobody_else_is_there(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    bench.replicas[0].is_draining = true;
    fixture_run_until(&bench.fixture, one_is_passed_over, &bench);
    assert_true(svc_peers_takes_work(bench.peers));
    for (int i = 0; i < 5; i++)
        assert_int_equal(call(&bench, 0, NULL), RC_OK);
    await_calls(&bench, 5);
    assert_int_equal(bench.replicas[1].calls, 5);
    assert_int_equal(call(&bench, 1, NULL), RC_OK); /* what it has, it is asked about */
    bench.replicas[1].is_draining = true;
    fixture_run_until(&bench.fixture, nobody_takes_work, &bench);
    assert_int_equal(call(&bench, 0, NULL), RC_OK);
    close_bench(&bench);
}

static bool
two_is_picked_for_long(void *arg)
{
    for (int i = 0; i < 20; i++)
        if (svc_peers_pick(((peers_bench_t *)arg)->peers) != 2)
            return false;
    return true;
}

static void
one_that_does_not_answer_pings_is_asked_last(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 2);
    for (int i = 0; i < 4; i++) /* it has the longer queue */
        assert_int_equal(call(&bench, 2, NULL), RC_OK);
    bench.replicas[0].is_silent = true;
    bench.times.steer = PATIENT_MS;
    fixture_run_until(&bench.fixture, two_is_picked_for_long, &bench);
    assert_true(svc_peers_has(bench.peers, 1)); /* not down yet */
    bench.replicas[1].is_draining = true;
    fixture_run_for(&bench.fixture, 200);
    /* Who drains still serves. (Not at once, if this machine has stood still: then nobody counts as silent.) */
    fixture_run_until(&bench.fixture, two_is_picked_for_long, &bench);
    stop_replica(&bench.replicas[1]);
    await_events(&bench, "D2 L2");
    assert_int_equal(svc_peers_pick(bench.peers), 1); /* better than nobody */
    close_bench(&bench);
}

/* --- calls ------------------------------------------------------------------------------------ */

static void
a_call_that_was_forgotten_is_answered_to_nobody(void **state)
{
    (void)state;
    peers_bench_t bench;
    uint64_t forgotten = 0, kept = 0;
    open_replicas(&bench, 2);
    assert_int_equal(call(&bench, 1, &forgotten), RC_OK);
    assert_int_equal(call(&bench, 2, &kept), RC_OK);
    assert_int_not_equal(forgotten, kept);
    await_calls(&bench, 2);
    svc_peers_forget(bench.peers, forgotten);
    svc_peers_forget(bench.peers, forgotten);
    replica_answer(&bench.replicas[0], PROTO_FINAL);
    replica_answer(&bench.replicas[1], PROTO_FINAL);
    await_replies(&bench, 1);
    assert_int_equal(bench.value, kept);
    assert_int_equal(bench.replier, 2);
    fixture_run_for(&bench.fixture, 50);
    assert_int_equal(bench.replies, 1);
    close_bench(&bench);
}

static void
a_reply_from_a_replica_that_was_not_asked_is_no_reply(void **state)
{
    (void)state;
    peers_bench_t bench;
    uint64_t mine = 0;
    open_replicas(&bench, 2);
    assert_int_equal(call(&bench, 1, NULL), RC_OK);
    assert_int_equal(call(&bench, 2, &mine), RC_OK);
    await_calls(&bench, 2);
    bench.replicas[0].last_call = mine;
    replica_answer(&bench.replicas[0], PROTO_FINAL);
    fixture_run_for(&bench.fixture, 100);
    assert_int_equal(bench.replies, 0);
    replica_answer(&bench.replicas[1], PROTO_FINAL);
    await_replies(&bench, 1);
    assert_int_equal(bench.replier, 2);
    close_bench(&bench);
}

static void
a_post_reaches_the_instance_it_is_for(void **state)
{
    (void)state;
    peers_bench_t bench;
    const register_req_t req = {.username = SVC_LIT("ann"),
                                .password = SVC_LIT("12345678")};
    open_replicas(&bench, 2);
    assert_int_equal(svc_peers_post(bench.peers, 2, OP_AUTH_REGISTER, (svc_str){NULL, 0},
                                    &register_req_schema, &req),
                     RC_OK);
    await_calls(&bench, 1);
    assert_int_equal(bench.replicas[1].calls, 1);
    assert_int_equal(bench.replicas[1].last_call, 0);
    assert_int_equal(svc_peers_post(bench.peers, 9, OP_AUTH_REGISTER, (svc_str){NULL, 0},
                                    &register_req_schema, &req),
                     RC_UNAVAILABLE);
    assert_int_equal(svc_peers_post(bench.peers, 0, OP_AUTH_REGISTER, (svc_str){NULL, 0},
                                    &register_req_schema, &req),
                     RC_OK);
    await_calls(&bench, 2);
    close_bench(&bench);
}

static void
calls_in_flight_are_forgotten_with_the_set(void **state)
{
    (void)state;
    peers_bench_t bench;
    open_replicas(&bench, 3);
    for (int i = 0; i < 30; i++)
        assert_int_equal(call(&bench, 0, NULL), RC_OK);
    await_calls(&bench, 30);
    svc_peers_destroy(&bench.peers);
    svc_peers_destroy(&bench.peers);
    assert_int_equal(bench.replies, 0);
    close_bench(&bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_lists_with_an_endpoint_that_is_none),
        cmocka_unit_test(
            an_address_that_stands_twice_in_the_list_is_one_and_spaces_do_no_harm),
        cmocka_unit_test(nobody_is_there_at_first),
        cmocka_unit_test(each_replica_comes_and_goes_by_itself),
        cmocka_unit_test(one_process_at_two_addresses_is_told_of_once),
        cmocka_unit_test(each_instance_that_is_up_is_named_once),
        cmocka_unit_test(calls_go_to_the_replica_with_the_fewest),
        cmocka_unit_test(among_equals_it_is_drawn),
        cmocka_unit_test(a_call_for_one_instance_goes_there_or_nowhere),
        cmocka_unit_test(one_that_drains_gets_new_work_only_when_nobody_else_is_there),
        cmocka_unit_test(one_that_does_not_answer_pings_is_asked_last),
        cmocka_unit_test(a_call_that_was_forgotten_is_answered_to_nobody),
        cmocka_unit_test(a_reply_from_a_replica_that_was_not_asked_is_no_reply),
        cmocka_unit_test(a_post_reaches_the_instance_it_is_for),
        cmocka_unit_test(calls_in_flight_are_forgotten_with_the_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
