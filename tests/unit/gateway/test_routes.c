/* test_routes.c - which path with which method leads where.
 *
 * Every endpoint stands here once more, as its clients know it. */
#include "gateway/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* What every client may rely on. */
static const struct {
    const char *method, *path, *pattern;
    bool needs_user, takes_body, takes_ticket;
} rows[] = {
    // clang-format off
    /* method path                             pattern                           user   body   ticket */
    {"POST",  "/api/users/register",           "/api/users/register",            false, true,  false},
    {"POST",  "/api/users/login",              "/api/users/login",               false, true,  false},
    {"POST",  "/api/conversations/create",     "/api/conversations/create",      true,  true,  false},
    {"GET",   "/api/conversations/history/42", "/api/conversations/history/:id", true,  false, false},
    {"GET",   "/api/conversations/list",       "/api/conversations/list",        true,  false, false},
    {"POST",  "/api/conversations/del/42",     "/api/conversations/del/:id",     true,  false, false},
    {"POST",  "/api/chat/42",                  "/api/chat/:id",                  true,  true,  false},
    {"POST",  "/api/chat/42/retry",            "/api/chat/:id/retry",            true,  true,  false},
    {"GET",   "/api/chat/42/stream",           "/api/chat/:id/stream",           true,  false, true},
    {"POST",  "/api/chat/42/ticket",           "/api/chat/:id/ticket",           true,  false, false},
    {"POST",  "/api/chat/42/stop",             "/api/chat/:id/stop",             true,  false, false},
    {"GET",   "/api/chat/active",              "/api/chat/active",               true,  false, false},
    {"GET",   "/healthz",                      "/healthz",                       false, false, false},
    {"GET",   "/readyz",                       "/readyz",                        false, false, false},
    // clang-format on
};

static void
match_with(size_t row, const char *tail, route_match_t *out)
{
    static char path[128];

    snprintf(path, sizeof path, "%s%s", rows[row].path, tail);
    routes_match(rows[row].method, svc_str_c(path), out);
}

static void
every_endpoint_is_found_by_its_path(void **state)
{
    route_match_t match;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        for (int slash = 0; slash < 2; slash++) {
            match_with(i, slash ? "/" : "", &match);
            assert_non_null(match.route);
            assert_string_equal(match.route->path, rows[i].pattern);
            assert_int_equal(match.route->takes_id, strstr(rows[i].path, "42") != NULL);
            assert_int_equal(match.id.n, match.route->takes_id ? 2 : 0);
        }
        match_with(i, "//", &match);
        assert_null(match.route);
        assert_false(match.path_known);
        match_with(i, "/x", &match);
        assert_false(match.path_known);
    }
}

static void
who_needs_a_token_and_may_come_with_a_ticket_is_no_accident(void **state)
{
    route_match_t match;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        match_with(i, "", &match);
        assert_int_equal(match.route->needs_user, rows[i].needs_user);
        assert_int_equal(match.route->takes_body, rows[i].takes_body);
        assert_int_equal(match.route->takes_ticket, rows[i].takes_ticket);
    }
}

static void
a_wrong_method_is_told_the_right_ones(void **state)
{
    route_match_t match;

    (void)state;
    routes_match("GET", SVC_LIT("/api/users/login"), &match);
    assert_null(match.route);
    assert_true(match.path_known);
    assert_string_equal(match.allow, "POST, OPTIONS");
    routes_match("DELETE", SVC_LIT("/api/conversations/history/7"), &match);
    assert_string_equal(match.allow, "GET, HEAD, OPTIONS");
    routes_match("GET", SVC_LIT("/api/chat/7"), &match);
    assert_string_equal(match.allow, "POST, OPTIONS");
    routes_match("PUT", SVC_LIT("/api/chat/7/stream"), &match);
    assert_string_equal(match.allow, "GET, HEAD, OPTIONS");
    for (int slash = 0; slash < 2; slash++) {
        routes_match("POST", svc_str_c(slash ? "/api/chat/active/" : "/api/chat/active"),
                     &match);
        assert_null(match.route);
        assert_true(match.path_known);
        assert_string_equal(match.allow, "GET, HEAD, OPTIONS");
    }
}

static void
a_word_in_the_place_of_an_id_is_no_id(void **state)
{
    route_match_t match;

    (void)state;
    routes_match("GET", SVC_LIT("/api/chat/active"), &match);
    assert_non_null(match.route);
    assert_false(match.route->takes_id);
    assert_int_equal(match.id.n, 0);
    routes_match("POST", SVC_LIT("/api/chat/active/stop"), &match);
    assert_non_null(match.route); /* and 400 from there: "active" is no integer */
    assert_true(match.route->takes_id);
}

static void
head_is_served_where_get_is(void **state)
{
    route_match_t match;

    (void)state;
    routes_match("HEAD", SVC_LIT("/healthz"), &match);
    assert_non_null(match.route);
    routes_match("HEAD", SVC_LIT("/api/chat/1"), &match);
    assert_null(match.route);
    assert_true(match.path_known);
}

static void
an_unknown_path_is_unknown(void **state)
{
    static const char *const paths[] = {"",
                                        "/",
                                        "/api",
                                        "/api/chat",
                                        "/api/chat/",
                                        "/api/chat//",
                                        "/api/chat/1/2",
                                        "/api/users/login2",
                                        "/api/users/logi",
                                        "api/users/login",
                                        "//api/users/login",
                                        "/healthz/x",
                                        "/API/USERS/LOGIN"};
    route_match_t match;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(paths); i++) {
        routes_match("POST", svc_str_c(paths[i]), &match);
        assert_null(match.route);
        assert_false(match.path_known);
    }
}

static void
the_id_is_the_segment_as_it_stands(void **state)
{
    route_match_t match;

    (void)state;
    routes_match("POST", SVC_LIT("/api/chat/ab c"), &match);
    assert_non_null(match.route);
    assert_true(svc_str_eq(match.id, SVC_LIT("ab c")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_endpoint_is_found_by_its_path),
        cmocka_unit_test(who_needs_a_token_and_may_come_with_a_ticket_is_no_accident),
        cmocka_unit_test(a_wrong_method_is_told_the_right_ones),
        cmocka_unit_test(a_word_in_the_place_of_an_id_is_no_id),
        cmocka_unit_test(head_is_served_where_get_is),
        cmocka_unit_test(an_unknown_path_is_unknown),
        cmocka_unit_test(the_id_is_the_segment_as_it_stands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
