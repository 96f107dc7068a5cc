/* test_auth_ops_again.c - what comes a second time: a register with its key, a user with a ticket.
 *
 * Split from test_auth_ops.c, which has the plain way of things. */
#include "auth_fixture.h"

static void
a_register_that_comes_again_with_its_key_is_told_the_same(void **state)
{
    bench_t bench;
    outcome_t first;

    (void)state;
    open_bench(&bench, "");
    first = register_again(&bench, "ann", SVC_LIT("0123456789abcdef"));
    assert_int_equal(first.rc, RC_OK);
    for (int i = 0; i < 2; i++) {
        outcome_t again = register_again(&bench, "ann", SVC_LIT("0123456789abcdef"));

        assert_int_equal(again.rc, RC_OK);
        assert_int_equal(again.user, first.user);
    }
    assert_int_equal(register_again(&bench, "ann", SVC_LIT("another key")).rc,
                     RC_USERNAME_TAKEN);
    assert_int_equal(register_again(&bench, "ann", SVC_LIT("")).rc, RC_USERNAME_TAKEN);
    assert_int_equal(register_again(&bench, "bob", SVC_LIT("0123456789abcdef")).rc,
                     RC_OK); /* a key belongs to its name */
    assert_int_equal(login(&bench, "ann", "correct horse").rc, RC_OK);
    close_bench(&bench);
}

static void
one_request_sent_many_times_at_once_is_one_user(void **state)
{
    const register_req_t req = {.username = SVC_LIT("ann"),
                                .password = SVC_LIT("correct horse"),
                                .key = SVC_LIT("one key")};
    bench_t bench;

    (void)state;
    open_bench(&bench, "auth.bcrypt_threads: 4");
    for (int i = 0; i < 16; i++)
        begin(&bench, (svc_peer_request_t){.op = OP_AUTH_REGISTER,
                                           .req_schema = &register_req_schema,
                                           .req = &req,
                                           .rep_schema = &register_rep_schema,
                                           .on_reply = on_register_reply});
    for (int i = 0; i < 16; i++) {
        assert_int_equal(finish(&bench, &bench.outcomes[i]).rc, RC_OK);
        assert_int_equal(bench.outcomes[i].user, bench.outcomes[0].user);
    }
    close_bench(&bench);
}

static void
a_ticket_is_redeemed_for_what_it_was_made_for(void **state)
{
    const uint64_t now_s = svc_unix_ms() / 1000;
    bench_t bench;
    outcome_t made, redeemed;

    (void)state;
    open_bench(&bench, "");
    made = ask_ticket(&bench, 7, 99, now_s + 3600);
    assert_int_equal(made.rc, RC_OK);
    assert_int_equal(made.open_s, 60);
    redeemed = redeem(&bench, svc_str_c(made.token));
    assert_int_equal(redeemed.rc, RC_OK);
    assert_int_equal(redeemed.user, 7);
    assert_int_equal(redeemed.conversation, 99);
    assert_int_equal(redeemed.expires_s, now_s + 3600);
    assert_in_range(redeemed.open_s, now_s + 60, now_s + 60 + 20);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_TICKETS), 1);
    made = ask_ticket(&bench, 7, 99, now_s + 40); /* no longer than its token */
    assert_in_range(made.open_s, 20, 40);
    assert_int_equal(redeem(&bench, svc_str_c(made.token)).open_s, now_s + 40);
    assert_int_equal(ask_ticket(&bench, 7, 99, now_s).rc, RC_UNAUTHORIZED);
    close_bench(&bench);
}

static void
tickets_and_tokens_are_not_taken_for_one_another(void **state)
{
    bench_t bench;
    outcome_t made, logged_in;
    char big[PROTO_TICKET_MAX_BYTES];

    (void)state;
    open_bench(&bench, "");
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_OK);
    logged_in = login(&bench, "ann", "correct horse");
    made = ask_ticket(&bench, 1, 1, logged_in.expires_s);
    assert_int_equal(verify(&bench, svc_str_c(made.token)).rc, RC_UNAUTHORIZED);
    assert_int_equal(redeem(&bench, svc_str_c(logged_in.token)).rc, RC_UNAUTHORIZED);
    assert_int_equal(redeem(&bench, SVC_LIT("")).rc, RC_UNAUTHORIZED);
    assert_int_equal(redeem(&bench, SVC_LIT("\xff\0\xff")).rc, RC_UNAUTHORIZED);
    memset(big, 'A', sizeof(big));
    assert_int_equal(redeem(&bench, (svc_str){big, sizeof(big)}).rc, RC_UNAUTHORIZED);
    stop_service(&bench);
    start_service(&bench);
    assert_int_equal(redeem(&bench, svc_str_c(made.token)).rc, RC_OK);
    close_bench(&bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_register_that_comes_again_with_its_key_is_told_the_same),
        cmocka_unit_test(one_request_sent_many_times_at_once_is_one_user),
        cmocka_unit_test(a_ticket_is_redeemed_for_what_it_was_made_for),
        cmocka_unit_test(tickets_and_tokens_are_not_taken_for_one_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
