/* test_auth_ops.c - register, login and verify, good and bad, many at once, and with a database that fails.
 *
 * A second driver stands for a database that fails. */
#include "auth_fixture.h"

#include "auth-svc/password.h"

#include <sqlite3.h>
#include <time.h>

/* --- tests -------------------------------------------------------------------------------------- */

static void
registered_users_log_in_and_are_recognised(void **state)
{
    bench_t bench;
    outcome_t registered, logged_in, verified;

    (void)state;
    open_bench(&bench, "");
    registered = register_user(&bench, "ann", "correct horse");
    assert_int_equal(registered.rc, RC_OK);
    logged_in = login(&bench, "ann", "correct horse");
    assert_int_equal(logged_in.rc, RC_OK);
    verified = verify(&bench, svc_str_c(logged_in.token));
    assert_int_equal(verified.rc, RC_OK);
    assert_int_equal(verified.user, registered.user);
    assert_int_equal(verified.expires_s, logged_in.expires_s);
    assert_true(verified.expires_s > svc_unix_ms() / 1000 + 86000);
    assert_int_equal(register_user(&bench, "ann", "another one").rc, RC_USERNAME_TAKEN);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_LOGINS), 1);
    close_bench(&bench);
}

static void
users_and_tokens_survive_a_restart(void **state)
{
    bench_t bench;
    outcome_t first;

    (void)state;
    open_bench(&bench, "");
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_OK);
    first = login(&bench, "ann", "correct horse");
    stop_service(&bench);
    start_service(&bench);
    assert_int_equal(verify(&bench, svc_str_c(first.token)).rc, RC_OK);
    assert_int_equal(login(&bench, "ann", "correct horse").rc, RC_OK);
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_USERNAME_TAKEN);
    close_bench(&bench);
}

static void
wrong_names_and_passwords_get_the_same_answer(void **state)
{
    bench_t bench;
    char text[1024];

    (void)state;
    open_bench(&bench, "auth.guess_limit: 100");
    memset(text, 'x', sizeof(text));
    assert_int_equal(
        finish(&bench, begin_register(&bench, SVC_LIT("ann"), (svc_str){text, 72})).rc,
        RC_OK);
    assert_int_equal(login(&bench, "ann", "wrong").rc, RC_BAD_CREDENTIALS);
    assert_int_equal(login(&bench, "bob", "wrong").rc, RC_BAD_CREDENTIALS);
    assert_int_equal(login(&bench, "", "").rc, RC_BAD_CREDENTIALS);
    assert_int_equal(login(&bench, "ANN", "wrong").rc, RC_BAD_CREDENTIALS);
    assert_int_equal(
        finish(&bench, begin_login(&bench, SVC_LIT("ann"), (svc_str){text, 72}, "")).rc,
        RC_OK);
    assert_int_equal(
        finish(&bench, begin_login(&bench, SVC_LIT("ann"), (svc_str){text, 73}, "")).rc,
        RC_BAD_CREDENTIALS);
    assert_int_equal(
        finish(&bench, begin_login(&bench, SVC_LIT("ann"), (svc_str){text, 1024}, "")).rc,
        RC_BAD_CREDENTIALS);
    assert_int_equal(
        finish(&bench, begin_login(&bench, (svc_str){text, 256}, (svc_str){text, 72}, ""))
            .rc,
        RC_BAD_CREDENTIALS);
    close_bench(&bench);
}

static void
usernames_have_1_to_64_characters_and_no_control_characters(void **state)
{
    static const char *const good[] = {"a",        " ",    "'",
                                       "\xc2\xa0", "张三", "\xf0\x9f\x98\x80"};
    static const char *const bad[] = {"",     "\n",       "a\tb",      "\x1f",
                                      "\x7f", "\xc2\x80", "x\xc2\x9f", "\x01"};
    bench_t bench;
    char name[257];

    (void)state;
    open_bench(&bench, "");
    for (size_t i = 0; i < SVC_COUNT(good); i++)
        assert_int_equal(register_user(&bench, good[i], "correct horse").rc, RC_OK);
    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        assert_int_equal(register_user(&bench, bad[i], "correct horse").rc,
                         RC_INVALID_USERNAME);
    assert_int_equal(finish(&bench, begin_register(&bench, (svc_str){"a\0b", 3},
                                                   SVC_LIT("correct horse")))
                         .rc,
                     RC_INVALID_USERNAME);
    for (size_t i = 0; i < 64; i++)
        memcpy(name + 4 * i, "\xf0\x9f\x98\x80", 4);
    assert_int_equal(finish(&bench, begin_register(&bench, (svc_str){name, 256},
                                                   SVC_LIT("correct horse")))
                         .rc,
                     RC_OK);
    memset(name, 'x', 65);
    assert_int_equal(finish(&bench, begin_register(&bench, (svc_str){name, 65},
                                                   SVC_LIT("correct horse")))
                         .rc,
                     RC_INVALID_USERNAME);
    assert_int_equal(finish(&bench, begin_register(&bench, (svc_str){name, 64},
                                                   SVC_LIT("correct horse")))
                         .rc,
                     RC_OK);
    close_bench(&bench);
}

static void
passwords_have_8_to_72_bytes(void **state)
{
    bench_t bench;
    char text[73];

    (void)state;
    open_bench(&bench, "");
    memset(text, 'x', sizeof(text));
    assert_int_equal(register_user(&bench, "a", "").rc, RC_INVALID_PASSWORD);
    assert_int_equal(register_user(&bench, "a", "7 bytes").rc, RC_INVALID_PASSWORD);
    assert_int_equal(
        finish(&bench, begin_register(&bench, SVC_LIT("a"), (svc_str){text, 73})).rc,
        RC_INVALID_PASSWORD);
    assert_int_equal(
        finish(&bench, begin_register(&bench, SVC_LIT("a"), SVC_LIT("with\0zero"))).rc,
        RC_INVALID_PASSWORD);
    assert_int_equal(register_user(&bench, "a", "8 bytes.").rc, RC_OK);
    assert_int_equal(
        finish(&bench, begin_register(&bench, SVC_LIT("b"), (svc_str){text, 72})).rc,
        RC_OK);
    close_bench(&bench);
    open_bench(&bench, "auth.password_min: 3");
    assert_int_equal(register_user(&bench, "a", "ab").rc, RC_INVALID_PASSWORD);
    assert_int_equal(register_user(&bench, "a", "abc").rc, RC_OK);
    close_bench(&bench);
}

static void
one_name_registered_many_times_at_once_has_one_winner(void **state)
{
    bench_t bench;
    size_t winners = 0;

    (void)state;
    open_bench(&bench, "auth.bcrypt_threads: 4");
    for (int i = 0; i < 16; i++)
        begin_register(&bench, SVC_LIT("ann"), SVC_LIT("correct horse"));
    for (int i = 0; i < 16; i++) {
        svc_rc rc = finish(&bench, &bench.outcomes[i]).rc;

        assert_true(rc == RC_OK || rc == RC_USERNAME_TAKEN);
        winners += rc == RC_OK;
    }
    assert_int_equal(winners, 1);
    close_bench(&bench);
}

static void
too_many_wrong_passwords_bring_a_pause_for_that_address(void **state)
{
    bench_t bench;
    outcome_t paused = {.rc = RC_OK};
    uint64_t began_ms, rounds = 0;

    (void)state;
    open_bench(&bench, "auth.guess_limit: 3");
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_OK);
    /* A machine that stood still for the second of the pause has another round: the right password has forgiven. */
    for (; paused.rc == RC_OK; rounds++) {
        began_ms = svc_mono_ms();
        for (int i = 0; i < 3; i++) {
            began_ms = svc_mono_ms();
            assert_int_equal(login(&bench, "ann", "wrong").rc, RC_BAD_CREDENTIALS);
        }
        paused = login(&bench, "ann", "correct horse");
        assert_true(paused.rc == RC_THROTTLED || svc_mono_ms() - began_ms >= 1000);
    }
    assert_int_equal(paused.rc, RC_THROTTLED);
    assert_int_equal(paused.retry_after_s, 1);
    assert_int_equal(finish(&bench, begin_login(&bench, SVC_LIT("ann"),
                                                SVC_LIT("correct horse"), "2.2.2.2"))
                         .rc,
                     RC_OK);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_LOGINS_THROTTLED), 1);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_LOGINS_REFUSED), 3 * rounds);
    close_bench(&bench);
}

static void
a_full_queue_refuses_and_nothing_is_counted(void **state)
{
    bench_t bench;
    size_t busy = 0, right = 0;

    (void)state;
    open_bench(&bench, /* a hash takes much longer than to read all that is asked */
               "auth.bcrypt_threads: 1\nauth.bcrypt_queue: 2\nauth.guess_limit: 2\n"
               "auth.bcrypt_cost: 9");
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_OK);
    bench.n = 0;
    for (int i = 0; i < 40; i++)
        begin_login(&bench, SVC_LIT("ann"), SVC_LIT("correct horse"), "1.1.1.1");
    for (int i = 0; i < 40; i++) {
        svc_rc rc = finish(&bench, &bench.outcomes[i]).rc;

        assert_true(rc == RC_OK || rc == RC_BUSY);
        busy += rc == RC_BUSY;
        right += rc == RC_OK;
    }
    assert_true(busy > 0 && right > 0);
    assert_int_equal(login(&bench, "ann", "correct horse").rc, RC_OK);
    close_bench(&bench);
}

static void
a_name_whose_asker_has_gone_is_not_taken(void **state)
{
    bench_t bench;
    outcome_t gone = {.rc = RC_LATER};
    const register_req_t req = {.username = SVC_LIT("ann"),
                                .password = SVC_LIT("correct horse")};
    const svc_peer_request_t hasty = {.op = OP_AUTH_REGISTER,
                                      .req_schema = &register_req_schema,
                                      .req = &req,
                                      .rep_schema = &register_rep_schema,
                                      .timeout_ms = 50, /* a hash takes longer */
                                      .on_reply = on_register_reply,
                                      .arg = &gone};

    (void)state;
    open_bench(&bench, "auth.bcrypt_cost: 12\nauth.bcrypt_threads: 1");
    assert_int_equal(svc_peer_call(bench.peer, &hasty, NULL), RC_OK);
    assert_int_equal(finish(&bench, &gone).rc, RC_TIMEOUT);
    /* Behind it in the queue: what became of the first has been told by then. */
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_OK);
    close_bench(&bench);
}

static void
a_verify_does_not_wait_for_logins(void **state)
{
    bench_t bench;
    outcome_t first;

    (void)state;
    open_bench(&bench, "auth.bcrypt_threads: 1\nauth.bcrypt_cost: 9");
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_OK);
    first = login(&bench, "ann", "correct horse");
    bench.n = 0;
    for (int i = 0; i < 30; i++)
        begin_login(&bench, SVC_LIT("ann"), SVC_LIT("correct horse"), "1.1.1.1");
    assert_int_equal(verify(&bench, svc_str_c(first.token)).rc, RC_OK);
    assert_int_equal(bench.outcomes[29].rc, RC_LATER);
    assert_int_equal(finish(&bench, &bench.outcomes[29]).rc, RC_OK);
    close_bench(&bench);
}

static void
what_is_no_token_is_unauthorized(void **state)
{
    bench_t bench;
    char big[4096];

    (void)state;
    open_bench(&bench, "jwt.secret: a secret of thirty-two bytes or more");
    memset(big, 'x', sizeof(big));
    assert_int_equal(verify(&bench, SVC_LIT("")).rc, RC_UNAUTHORIZED);
    assert_int_equal(verify(&bench, SVC_LIT("a.b.c")).rc, RC_UNAUTHORIZED);
    assert_int_equal(verify(&bench, (svc_str){big, sizeof(big)}).rc, RC_UNAUTHORIZED);
    assert_int_equal(verify(&bench, SVC_LIT("\xff\0\xff")).rc, RC_UNAUTHORIZED);
    close_bench(&bench);
}

static void
another_secret_makes_old_tokens_worthless(void **state)
{
    bench_t bench;
    outcome_t first;

    (void)state;
    open_bench(&bench, "jwt.secret: a secret of thirty-two bytes or more");
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_OK);
    first = login(&bench, "ann", "correct horse");
    assert_int_equal(verify(&bench, svc_str_c(first.token)).rc, RC_OK);
    stop_service(&bench);
    bench.config->jwt_secret[0] = 'A';
    start_service(&bench);
    assert_int_equal(verify(&bench, svc_str_c(first.token)).rc, RC_UNAUTHORIZED);
    close_bench(&bench);
}

static void
a_hash_of_the_original_backend_logs_in(void **state)
{
    password_t *hasher = password_new(4);
    char hash[PASSWORD_HASH_BYTES + 1];
    char *path, *sql = NULL;
    sqlite3 *db = NULL;
    bench_t bench;

    (void)state;
    open_bench(&bench, "");
    assert_int_equal(password_hash(hasher, SVC_LIT("correct horse"), hash), RC_OK);
    hash[2] = 'a';
    path = svc_config_users_path(bench.config);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_true(
        asprintf(&sql, "INSERT INTO user VALUES (9, 'old', '%s', 1, NULL)", hash) > 0);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(login(&bench, "old", "correct horse").rc, RC_OK);
    assert_int_equal(login(&bench, "old", "correct horsf").rc, RC_BAD_CREDENTIALS);
    free(sql);
    free(path);
    password_destroy(&hasher);
    close_bench(&bench);
}

static void
other_services_may_not_call(void **state)
{
    bench_t bench;

    (void)state;
    open_bench(&bench, "");
    svc_peer_destroy(&bench.peer);
    bench.caller.service = "convo-svc";
    bench.peer = svc_peer_new(&bench.caller, "auth-svc", auth_endpoint(bench.auth),
                              on_event, &bench, NULL);
    fixture_run_until(&bench.fixture, is_up, &bench);
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_FORBIDDEN);
    assert_int_equal(login(&bench, "ann", "correct horse").rc, RC_FORBIDDEN);
    assert_int_equal(verify(&bench, SVC_LIT("a.b.c")).rc, RC_FORBIDDEN);
    assert_int_equal(ask_ticket(&bench, 1, 1, PROTO_ID_MAX).rc, RC_FORBIDDEN);
    assert_int_equal(redeem(&bench, SVC_LIT("a")).rc, RC_FORBIDDEN);
    close_bench(&bench);
}

static bool
has_begun_to_hash_twice(void *arg)
{
    return fixture_family(&((bench_t *)arg)->fixture, SVC_F_POOL_JOBS, SVC_L_POOL,
                          "bcrypt", 0) >= 2;
}

static void
draining_lets_those_who_wait_have_their_answer(void **state)
{
    bench_t bench;
    outcome_t *waiting;

    (void)state;
    open_bench(&bench, "auth.bcrypt_cost: 9");
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_OK);
    waiting = begin_login(&bench, SVC_LIT("ann"), SVC_LIT("correct horse"), "1.1.1.1");
    fixture_run_until(&bench.fixture, has_begun_to_hash_twice, &bench);
    auth_drain(bench.auth);
    auth_drain(bench.auth);
    svc_loop_run(bench.fixture.ctx.loop); /* ends by itself */
    assert_int_equal(waiting->rc, RC_OK);
    close_bench(&bench);
}

/* What this process has computed so far: others take nothing of it. */
static double
cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void
ending_with_a_full_queue_does_not_hash_it_all(void **state)
{
    bench_t bench;
    double began_s, one_s;

    (void)state;
    open_bench(&bench, "auth.bcrypt_threads: 1\nauth.bcrypt_cost: 10");
    began_s = cpu_s();
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_OK);
    one_s = cpu_s() - began_s;
    bench.n = 0;
    for (int i = 0; i < 60; i++)
        begin_login(&bench, SVC_LIT("ann"), SVC_LIT("correct horse"), "1.1.1.1");
    (void)finish(&bench, &bench.outcomes[0]);
    began_s = cpu_s();
    close_bench(&bench);
    assert_true(cpu_s() - began_s < 20 * one_s); /* all of it would be nearly 60 */
}

/* --- a database that fails ----------------------------------------------------------------------- */

static svc_rc
fail_to_find(void *connection, svc_str username, user_row_t *out)
{
    (void)connection;
    (void)username;
    (void)out;
    return RC_INTERNAL;
}

static svc_rc
fail_to_add(void *connection, new_user_t *users, size_t n)
{
    (void)connection;
    for (size_t i = 0; i < n; i++)
        users[i].rc = RC_INTERNAL;
    return RC_INTERNAL;
}

static void *
fail_to_open(svc_ctx_t *ctx, const atomic_bool *stop, char **error)
{
    (void)ctx;
    (void)stop;
    *error = svc_str_dup(SVC_LIT("no database today"));
    return NULL;
}

static void *
fail_to_connect(void *store, bool writes, char **error)
{
    (void)writes;
    (void)store;
    *error = svc_str_dup(SVC_LIT("no connection today"));
    return NULL;
}

static void
restart_with(bench_t *bench, const user_store_driver_t *driver)
{
    char *error = NULL;

    stop_service(bench);
    bench->auth = auth_new(&bench->fixture.ctx, driver, &error);
    assert_non_null(bench->auth);
    bench->peer = svc_peer_new(&bench->caller, "auth-svc", auth_endpoint(bench->auth),
                               on_event, bench, NULL);
    fixture_run_until(&bench->fixture, is_up, bench);
}

static void
faults_of_the_database_are_internal_and_count_for_nobody(void **state)
{
    user_store_driver_t blind = user_store_sqlite;
    user_store_driver_t full = user_store_sqlite;
    bench_t bench;

    (void)state;
    open_bench(&bench, "auth.guess_limit: 2");
    blind.find = fail_to_find;
    full.add = fail_to_add;
    restart_with(&bench, &blind);
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_INTERNAL);
    for (int i = 0; i < 5; i++)
        assert_int_equal(login(&bench, "ann", "correct horse").rc, RC_INTERNAL);
    restart_with(&bench, &full);
    assert_int_equal(register_user(&bench, "ann", "correct horse").rc, RC_INTERNAL);
    assert_int_equal(login(&bench, "ann", "correct horse").rc, RC_BAD_CREDENTIALS);
    close_bench(&bench);
}

static void
assert_does_not_start(bench_t *bench, const user_store_driver_t *driver,
                      const char *wanted)
{
    char *error = NULL;

    assert_null(auth_new(&bench->fixture.ctx, driver, &error));
    if (error == NULL || strstr(error, wanted) == NULL)
        fail_msg("said: %s", error == NULL ? "nothing" : error);
    free(error);
}

static void
what_keeps_it_from_starting_is_told(void **state)
{
    user_store_driver_t driver = user_store_sqlite;
    char *path;
    FILE *file;
    bench_t bench;

    (void)state;
    open_bench(&bench, "");
    assert_does_not_start(&bench, &user_store_sqlite, "is in use by another auth-svc");
    bench.config->storage_driver = SVC_STORAGE_POSTGRESQL; /* whatever the driver */
    assert_does_not_start(&bench, &user_store_sqlite, "jwt.secret must be configured");
    bench.config->storage_driver = SVC_STORAGE_SQLITE;
    driver.open = fail_to_open;
    assert_does_not_start(&bench, &driver, "no database today");
    stop_service(&bench);
    driver = user_store_sqlite;
    driver.connect = fail_to_connect;
    assert_does_not_start(&bench, &driver, "no connection today");
    assert_true(asprintf(&path, "%s/jwt.secret", bench.dir) > 0);
    file = fopen(path, "w");
    fputs("nonsense", file);
    fclose(file);
    assert_does_not_start(&bench, &user_store_sqlite,
                          "jwt.secret: expected a secret of 64 hex digits");
    assert_int_equal(unlink(path), 0);
    free(path);
    free(bench.config->bus_auth.bind);
    bench.config->bus_auth.bind = svc_str_dup(SVC_LIT("tcp://192.0.2.1:7"));
    assert_does_not_start(&bench, &user_store_sqlite, "192.0.2.1");
    close_bench(&bench);
}

static void
replicas_need_a_secret_and_a_database_of_all(void **state)
{
    static const struct {
        const char *secret, *url, *says; /* NULL: it is good */
    } rows[] = {
        {"", "postgresql://db/llmb", "jwt.secret must be configured"},
        {"a secret of replicas", "", "storage.postgresql.url must be configured"},
        {"a secret of replicas", "postgresql://[h", "storage.postgresql.url is no URL"},
        {"a secret of replicas", "postgresql://db/llmb", NULL},
    };
    svc_config_t config = {.storage_driver = SVC_STORAGE_SQLITE};
    char secret[64], url[64], *error = NULL;

    (void)state;
    config.jwt_secret = secret;
    config.storage_postgresql_url = url;
    secret[0] = url[0] = '\0';
    assert_true(auth_check_config(&config, &error));
    config.storage_driver = SVC_STORAGE_POSTGRESQL;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        snprintf(secret, sizeof(secret), "%s", rows[i].secret);
        snprintf(url, sizeof(url), "%s", rows[i].url);
        assert_int_equal(auth_check_config(&config, &error), rows[i].says == NULL);
        if (rows[i].says != NULL)
            assert_non_null(strstr(error, rows[i].says));
        free(error);
        error = NULL;
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replicas_need_a_secret_and_a_database_of_all),
        cmocka_unit_test(registered_users_log_in_and_are_recognised),
        cmocka_unit_test(users_and_tokens_survive_a_restart),
        cmocka_unit_test(wrong_names_and_passwords_get_the_same_answer),
        cmocka_unit_test(usernames_have_1_to_64_characters_and_no_control_characters),
        cmocka_unit_test(passwords_have_8_to_72_bytes),
        cmocka_unit_test(one_name_registered_many_times_at_once_has_one_winner),
        cmocka_unit_test(too_many_wrong_passwords_bring_a_pause_for_that_address),
        cmocka_unit_test(a_full_queue_refuses_and_nothing_is_counted),
        cmocka_unit_test(a_name_whose_asker_has_gone_is_not_taken),
        cmocka_unit_test(a_verify_does_not_wait_for_logins),
        cmocka_unit_test(what_is_no_token_is_unauthorized),
        cmocka_unit_test(another_secret_makes_old_tokens_worthless),
        cmocka_unit_test(a_hash_of_the_original_backend_logs_in),
        cmocka_unit_test(other_services_may_not_call),
        cmocka_unit_test(draining_lets_those_who_wait_have_their_answer),
        cmocka_unit_test(ending_with_a_full_queue_does_not_hash_it_all),
        cmocka_unit_test(faults_of_the_database_are_internal_and_count_for_nobody),
        cmocka_unit_test(what_keeps_it_from_starting_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
