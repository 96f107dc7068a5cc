/* test_svc_server.c - requests over real sockets: who may, and what is refused.
 *
 * Calls that are answered later stand in test_svc_server_call.c. */
#include "server_bench.h"

#include <unistd.h>

/* --- who may ------------------------------------------------------------------------------------ */

static void
answers_a_request_of_a_service_that_said_hello(void **state)
{
    (void)state;
    bench_t bench;
    login_rep_t rep;
    proto_arena_t *arena = proto_arena_new();
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    assert_int_equal(
        proto_decode(&login_rep_schema, (svc_str){bench.body, bench.body_n}, arena, &rep),
        RC_OK);
    assert_true(svc_str_eq(rep.token, SVC_LIT("ann")));
    assert_int_equal(rep.expires_s, 99);
    assert_int_equal(fixture_family(&bench.fixture, SVC_F_OPERATIONS, SVC_L_OPERATION,
                                    OP_AUTH_LOGIN, svc_metrics_code(RC_OK)),
                     1);
    assert_int_equal(fixture_family(&bench.fixture, SVC_F_OPERATION_US, SVC_L_OPERATION,
                                    OP_AUTH_LOGIN, 0),
                     1);
    assert_int_equal(fixture_family(&bench.fixture, SVC_F_OPERATIONS, SVC_L_OPERATION,
                                    OP_SVC_HELLO, svc_metrics_code(RC_OK)),
                     1);
    assert_int_equal(
        fixture_family(&bench.fixture, SVC_F_KEPT_CALLS, SVC_L_NONE, NULL, 0), 0);
    proto_arena_destroy(&arena);
    close_bench(&bench);
}

static void
refuses_everything_but_hello_before_hello(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, NULL);
    ask(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    expect_error(&bench, RC_FORBIDDEN);
    assert_int_equal(fixture_family(&bench.fixture, SVC_F_OPERATIONS, SVC_L_OPERATION,
                                    OP_AUTH_LOGIN, svc_metrics_code(RC_FORBIDDEN)),
                     1);
    ask(&bench, 3, OP_SVC_PING, &empty_schema, &nothing);
    expect_error(&bench, RC_FORBIDDEN);
    ask(&bench, 4, OP_SVC_STATS, &empty_schema, &nothing);
    expect_error(&bench, RC_FORBIDDEN);
    assert_int_equal(bench.served, 0);
    close_bench(&bench);
}

static void
refuses_a_service_that_may_not_call_and_forgets_its_old_name_at_a_new_hello(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "convo-svc");
    ask(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    expect_error(&bench, RC_FORBIDDEN);
    say_hello(&bench, "gateway");
    ask(&bench, 3, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    say_hello(&bench, "somebody");
    ask(&bench, 4, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    expect_error(&bench, RC_FORBIDDEN);
    say_hello(&bench, "llm-svc");
    ask(&bench, 5, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    expect_error(&bench, RC_FORBIDDEN);
    close_bench(&bench);
}

static void
tells_its_instance_whether_it_drains_and_its_counters(void **state)
{
    (void)state;
    bench_t bench;
    ping_rep_t ping;
    stats_rep_t stats;
    proto_arena_t *arena = proto_arena_new();
    open_bench(&bench, "tool");
    svc_server_set_draining(bench.server);
    ask(&bench, 2, OP_SVC_PING, &empty_schema, &nothing);
    assert_int_equal(
        proto_decode(&ping_rep_schema, (svc_str){bench.body, bench.body_n}, arena, &ping),
        RC_OK);
    assert_int_equal(ping.instance, 77);
    assert_true(ping.draining);
    ask(&bench, 3, OP_SVC_STATS, &empty_schema, &nothing);
    assert_int_equal(proto_decode(&stats_rep_schema, (svc_str){bench.body, bench.body_n},
                                  arena, &stats),
                     RC_OK);
    assert_true(stats.counters.n >= 1);
    const counter_t *counters = stats.counters.items;
    assert_true(
        svc_str_eq(counters[0].name, svc_str_c(svc_metrics_name(SVC_M_REQUESTS))));
    assert_int_equal(counters[0].value, 3);
    proto_arena_destroy(&arena);
    close_bench(&bench);
}

/* --- what cannot be served ------------------------------------------------------------------------ */

static void
answers_an_unknown_operation_with_invalid(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    ask(&bench, 2, "auth.nonsense", &empty_schema, &nothing);
    expect_error(&bench, RC_INVALID);
    assert_true(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES) == 1);
    close_bench(&bench);
}

static void
answers_missing_surplus_and_undecodable_bodies_with_invalid(void **state)
{
    (void)state;
    bench_t bench;
    const proto_envelope_t head = envelope_of(2, OP_AUTH_LOGIN);
    open_bench(&bench, "gateway");
    send_raw(&bench, &head, (svc_str){0}, false);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    send_raw(&bench, &head, SVC_LIT("\x80"), true);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    send_raw(&bench, &head, SVC_LIT("\x80"), false); /* nothing in it */
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    send_raw(&bench, &head, SVC_LIT("\x80\x80"), false); /* trailing bytes */
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    const proto_envelope_t hello = envelope_of(3, OP_SVC_HELLO);
    send_raw(&bench, &hello, SVC_LIT("\x80"), false);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    proto_envelope_t newer = envelope_of(4, OP_AUTH_LOGIN);
    newer.version = PROTO_VERSION + 1;
    const uint64_t bad = fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES);
    send_raw(&bench, &newer, SVC_LIT("\x80"),
             false); /* another protocol: not even its id is known */
    ask(&bench, 5, OP_SVC_PING, &empty_schema, &nothing);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES), bad + 1);
    assert_int_equal(bench.served, 0);
    close_bench(&bench);
}

static void
drops_what_has_expired(void **state)
{
    (void)state;
    bench_t bench;
    proto_envelope_t head = envelope_of(2, OP_SVC_PING);
    open_bench(&bench, "gateway");
    head.expires_ms = svc_unix_ms() - 1;
    send_raw(&bench, &head, SVC_LIT("\x80"), false);
    send_request(&bench, 3, OP_SVC_PING, &empty_schema, &nothing);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(bench.head.id, 3);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_EXPIRED), 1);
    close_bench(&bench);
}

static void
says_once_that_clocks_differ(void **state)
{
    (void)state;
    static const uint64_t late_ms[] = {30000, 3600000, 7200000};
    bench_t bench;
    proto_envelope_t head = envelope_of(2, OP_SVC_PING);
    char text[1024];
    int ends[2];
    open_bench(&bench, "gateway");
    assert_int_equal(pipe(ends), 0);
    bench.fixture.ctx.log = svc_log_new(ends[1], "test", 0, SVC_LOG_WARN);
    for (size_t i = 0; i < SVC_COUNT(late_ms); i++) {
        head.expires_ms = svc_unix_ms() - late_ms[i];
        send_raw(&bench, &head, SVC_LIT("\x80"), false);
    }
    send_request(&bench, 3, OP_SVC_PING, &empty_schema, &nothing);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_EXPIRED), SVC_COUNT(late_ms));
    assert_int_equal(write(ends[1], "end\n", 4), 4);
    const ssize_t n = read(ends[0], text, sizeof(text) - 1);
    assert_true(n > 4);
    text[n - 4] = '\0';
    /* 3600 s, and what this machine may have taken */
    const char *told = strstr(text, "a request of gateway had expired ");
    unsigned late_s = 0;
    assert_non_null(told);
    assert_int_equal(
        sscanf(told, "a request of gateway had expired %u s before it", &late_s), 1);
    assert_in_range(late_s, 3600, 3620);
    assert_ptr_equal(strchr(text, '\n'), text + n - 5); /* one line */
    svc_log_destroy(&bench.fixture.ctx.log);
    close(ends[0]);
    close(ends[1]);
    close_bench(&bench);
}

static void
does_not_do_what_another_replica_may_have_done_meanwhile(void **state)
{
    (void)state;
    bench_t bench;
    proto_envelope_t head = envelope_of(2, OP_SVC_PING);
    open_bench(&bench, "gateway");
    head.moved_ms = svc_unix_ms() - 1;
    send_raw(&bench, &head, SVC_LIT("\x80"), false);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(bench.head.id, 2);
    assert_int_equal(bench.head.kind, PROTO_ERROR);
    assert_int_equal(bench.served, 0);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_EXPIRED), 1);
    head = envelope_of(3, OP_SVC_PING);
    head.moved_ms = svc_unix_ms() + 60000;
    bench.head.id = 0;
    send_raw(&bench, &head, SVC_LIT("\x80"), false);
    for (int i = 0; i < 500 && bench.head.id != 3; i++)
        fixture_run_for(&bench.fixture, 20);
    assert_int_equal(bench.head.id, 3);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    close_bench(&bench);
}

static void
serves_on_after_any_garbage(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    srand(3);
    for (int i = 0; i < 20000; i++) {
        svc_buf_t head;
        proto_envelope_t envelope = envelope_of(NO_ID, i % 2 == 0 ? OP_AUTH_LOGIN
                                                                  : OP_SVC_HELLO);
        char junk[600];
        const size_t n = (size_t)rand() % sizeof(junk);
        svc_buf_init(&head, 1000);
        assert_int_equal(proto_envelope_encode(&envelope, &head), RC_OK);
        for (int flips = rand() % 4; flips > 0; flips--)
            head.p[(size_t)rand() % head.n] = (char)rand();
        for (size_t k = 0; k < n; k++)
            junk[k] = (char)rand();
        const svc_str first = rand() % 3 == 0 ? (svc_str){junk, n} : svc_buf_str(&head);
        const int frames = 1 + rand() % 5;
        for (int k = 0; k < frames; k++)
            assert_true(svc_msg_send_bytes(bench.client,
                                           k == 0 ? first : (svc_str){junk, n},
                                           k + 1 < frames ? ZMQ_SNDMORE : 0));
        svc_buf_fini(&head);
        if (i % 100 == 0)
            fixture_run_for(&bench.fixture, 1);
    }
    bench.head.id = NO_ID;
    send_request(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (bench.head.id != 2 && svc_mono_ms() < until)
        fixture_run_for(&bench.fixture, 5);
    assert_int_equal(bench.head.id, 2);
    assert_true(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES) > 10000);
    close_bench(&bench);
}

static void
gives_text_and_retry_after_of_an_error(void **state)
{
    (void)state;
    bench_t bench;
    login_req_t wrong = good_login;
    wrong.password = SVC_LIT("wrong");
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &wrong);
    expect_error(&bench, RC_THROTTLED);
    assert_string_equal(bench.text, "try again");
    assert_int_equal(bench.retry_after_s, 30);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_REQUEST_ERRORS), 1);
    close_bench(&bench);
}

static void
a_request_with_id_0_is_served_and_not_answered(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    send_request(&bench, 0, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    fixture_run_until(&bench.fixture, was_served, &bench);
    ask(&bench, 2, OP_SVC_PING, &empty_schema, &nothing);
    assert_int_equal(bench.replies, 1);
    close_bench(&bench);
}

static void
says_why_an_endpoint_cannot_be_bound(void **state)
{
    (void)state;
    bench_t bench;
    char *error = NULL;
    svc_server_t *second = NULL;
    open_bench(&bench, NULL);
    assert_int_equal(svc_server_new(&bench.fixture.ctx, svc_server_endpoint(bench.server),
                                    ops, &bench, &second, &error),
                     RC_UNAVAILABLE);
    assert_non_null(strstr(error, "Address already in use"));
    assert_non_null(strstr(error, "127.0.0.1"));
    free(error);
    close_bench(&bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_a_request_of_a_service_that_said_hello),
        cmocka_unit_test(refuses_everything_but_hello_before_hello),
        cmocka_unit_test(
            refuses_a_service_that_may_not_call_and_forgets_its_old_name_at_a_new_hello),
        cmocka_unit_test(tells_its_instance_whether_it_drains_and_its_counters),
        cmocka_unit_test(answers_an_unknown_operation_with_invalid),
        cmocka_unit_test(answers_missing_surplus_and_undecodable_bodies_with_invalid),
        cmocka_unit_test(drops_what_has_expired),
        cmocka_unit_test(says_once_that_clocks_differ),
        cmocka_unit_test(does_not_do_what_another_replica_may_have_done_meanwhile),
        cmocka_unit_test(serves_on_after_any_garbage),
        cmocka_unit_test(gives_text_and_retry_after_of_an_error),
        cmocka_unit_test(a_request_with_id_0_is_served_and_not_answered),
        cmocka_unit_test(says_why_an_endpoint_cannot_be_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
