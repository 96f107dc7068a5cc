/* test_routes.c - which path with which method leads where.
 *
 * The table itself is walked, so that a new row is tested by being there. */
#include "gateway/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Makes a path of a pattern: ":id" becomes "42". */
static void
make_path(const char *pattern, const char *tail, char *out, size_t n)
{
    const char *colon = strchr(pattern, ':');
    int before = colon != NULL ? (int)(colon - pattern) : (int)strlen(pattern);
    const char *after = colon != NULL ? colon + strcspn(colon, "/") : "";

    snprintf(out, n, "%.*s%s%s%s", before, pattern, colon != NULL ? "42" : "", after,
             tail);
}

static void
every_row_is_found_by_its_path(void **state)
{
    char path[128];
    route_match_t match;

    (void)state;
    for (size_t i = 0; routes_row(i) != NULL; i++) {
        const route_t *row = routes_row(i);
        for (int slash = 0; slash < 2; slash++) {
            make_path(row->path, slash ? "/" : "", path, sizeof path);
            routes_match(row->method, svc_str_c(path), &match);
            assert_ptr_equal(match.route, row);
            assert_int_equal(match.id.n, row->takes_id ? 2 : 0);
        }
        make_path(row->path, "//", path, sizeof path);
        routes_match(row->method, svc_str_c(path), &match);
        assert_null(match.route);
        assert_false(match.path_known);
        make_path(row->path, "/x", path, sizeof path);
        routes_match(row->method, svc_str_c(path), &match);
        assert_false(match.path_known);
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
only_the_stream_may_be_opened_by_a_ticket(void **state)
{
    (void)state;
    for (size_t i = 0; routes_row(i) != NULL; i++)
        assert_int_equal(routes_row(i)->takes_ticket,
                         strcmp(routes_row(i)->path, "/api/chat/:id/stream") == 0);
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
        cmocka_unit_test(every_row_is_found_by_its_path),
        cmocka_unit_test(a_wrong_method_is_told_the_right_ones),
        cmocka_unit_test(a_word_in_the_place_of_an_id_is_no_id),
        cmocka_unit_test(only_the_stream_may_be_opened_by_a_ticket),
        cmocka_unit_test(head_is_served_where_get_is),
        cmocka_unit_test(an_unknown_path_is_unknown),
        cmocka_unit_test(the_id_is_the_segment_as_it_stands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
