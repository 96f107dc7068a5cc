/* test_svc_config_reload.c - what of a configuration that is read again counts at once, and what keeps its value.
 *
 * Configurations are made from text, as a file would be. */
#include "svc/svc_config_keys.h"
#include "svc/svc_config_reload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static svc_config_t *
parse(const char *yaml)
{
    char *error = NULL;
    svc_config_t *config = svc_config_parse(svc_str_c(yaml), "c.yaml", false, &error);

    if (config == NULL)
        fail_msg("refused: %s", error);
    return config;
}

/* Renews `from` by `to`: names must come out as these; gives what was read again. */
static svc_config_t *
renew(const char *from, const char *to, const char *live, const char *restart)
{
    svc_config_t *running = parse(from), *fresh = parse(to);
    svc_config_change_t change;

    svc_config_renew(fresh, running, &change);
    assert_string_equal(change.live, live);
    assert_string_equal(change.restart, restart);
    svc_config_change_fini(&change);
    assert_null(change.live);
    svc_config_destroy(&running);
    return fresh;
}

static void
what_is_the_same_is_not_named(void **state)
{
    svc_config_t *fresh = renew("log: {level: warn}", "# spoken\nlog:\n  level: warn\n",
                                "", "");

    (void)state;
    assert_int_equal(fresh->log_level, 2);
    svc_config_destroy(&fresh);
}

static void
live_keys_take_their_new_value(void **state)
{
    svc_config_t *fresh = renew(
        "",
        "server: {cors_origins: [\"https://a.example\"], max_body_bytes: 4096, "
        "max_connections: 7, max_connections_per_address: 3}\n"
        "auth: {guess_limit: 2, guess_window_s: 9}\n"
        "llm: {max_answer_bytes: 100}\nlog: {level: error}",
        "server.max_body_bytes, server.max_connections, "
        "server.max_connections_per_address, server.cors_origins, auth.guess_limit, "
        "auth.guess_window_s, llm.max_answer_bytes, log.level",
        "");

    (void)state;
    assert_int_equal(fresh->server_cors_origins.n, 1);
    assert_int_equal(fresh->server_max_connections, 7);
    assert_int_equal(fresh->llm_max_answer_bytes, 100);
    svc_config_destroy(&fresh);
}

static void
all_others_keep_theirs_until_the_next_start(void **state)
{
    svc_config_t *fresh = renew(
        "server: {port: \"127.0.0.1:1\"}\njwt: {secret: the first of two long secrets}",
        "server: {port: 2, trusted_proxies: [\"10.0.0.0/8\"]}\n"
        "jwt: {secret: the second of two long secrets}\nlog: {format: json}",
        "", "server.port, server.trusted_proxies, jwt.secret, log.format");

    (void)state;
    assert_string_equal(fresh->server_host, "127.0.0.1");
    assert_int_equal(fresh->server_port, 1);
    assert_int_equal(fresh->server_trusted_proxies.n, 0);
    assert_string_equal(fresh->jwt_secret, "the first of two long secrets");
    assert_int_equal(fresh->log_format, SVC_LOG_TEXT);
    svc_config_destroy(&fresh);
}

static void
providers_are_one_name_whatever_of_them_differs(void **state)
{
    static const char base[] = "providers: [{name: a, models: [a1, a2], base_url: "
                               "\"http://h/v1\", api_key: one, idle_s: 5}]";
    static const char *const others[] = {
        "providers: []",
        "providers: [{name: b, models: [a1, a2], base_url: \"http://h/v1\", api_key: one, idle_s: 5}]",
        "providers: [{name: a, models: [a1], base_url: \"http://h/v1\", api_key: one, idle_s: 5}]",
        "providers: [{name: a, models: [a1, a2], base_url: \"http://i/v1\", api_key: one, idle_s: 5}]",
        "providers: [{name: a, models: [a1, a2], base_url: \"http://h/v1\", api_key: two, idle_s: 5}]",
        "providers: [{name: a, models: [a1, a2], base_url: \"http://h/v1\", api_key: one, idle_s: 6}]",
    };
    svc_config_t *fresh = renew(base, base, "", "");

    (void)state;
    svc_config_destroy(&fresh);
    for (size_t i = 0; i < SVC_COUNT(others); i++) {
        fresh = renew(base, others[i], "providers", "");
        assert_int_equal(fresh->n_providers, i > 0 ? 1 : 0);
        svc_config_destroy(&fresh);
    }
}

static void
a_configuration_lives_as_long_as_anybody_holds_it(void **state)
{
    svc_config_t *config = parse("jwt: {secret: a secret that is long enough for it}");
    svc_config_t *held = svc_config_hold(config);

    (void)state;
    assert_ptr_equal(held, config);
    svc_config_destroy(&config);
    assert_null(config);
    assert_string_equal(held->jwt_secret, "a secret that is long enough for it");
    svc_config_destroy(&held);
    assert_null(held);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_the_same_is_not_named),
        cmocka_unit_test(live_keys_take_their_new_value),
        cmocka_unit_test(all_others_keep_theirs_until_the_next_start),
        cmocka_unit_test(providers_are_one_name_whatever_of_them_differs),
        cmocka_unit_test(a_configuration_lives_as_long_as_anybody_holds_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
