/* test_json_cursor.c - what is JSON and what is not, in one pass and within bounds.
 *
 * Both lists are walked by the same skip that a chunk's unknown fields go through. */
#include "llm-svc/json_cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static bool
is_json(svc_str text)
{
    json_cursor_t c;

    json_cursor_init(&c, text);
    return json_cursor_skip(&c) && json_cursor_at_end(&c);
}

static void
takes_what_is_json(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}",
        "[]",
        " [ ] ",
        "null",
        "true",
        "false",
        "0",
        "-1.5e+10",
        "\"\"",
        "\"a\\u00e9\\n\"",
        "{\"a\":[1,{\"b\":null}],\"c\":\"d\"}",
        "[NaN,-Infinity,Infinity]",
        "{ \"a\" : 1 , \"b\" : [ 1 , 2 ] }\r\n",
        "\"tab\there\"",
    };

    for (size_t i = 0; i < SVC_COUNT(good); i++)
        assert_true(is_json(svc_str_c(good[i])));
}

static void
refuses_what_is_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",        " ",       "{",           "}",         "[",          "]",
        "{]",      "[}",      "{\"a\"}",     "{\"a\":}",  "{\"a\":1,}", "{,}",
        "[1,]",    "[,1]",    "[1 2]",       "{\"a\" 1}", "{a:1}",      "\"abc",
        "\"a\\\"", "\"\\x\"", "\"\\u12g4\"", "\"\\u12\"", "tru",        "nulL",
        "-",       "+1",      ".5",          "e5",        "N",          "NaX",
        "I",       "--1",     "{\"a\":1}}",  "1 2",       "'a'",        "[1",
    };

    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        assert_false(is_json(svc_str_c(bad[i])));
}

static void
stops_at_the_depth_it_is_bounded_to(void **state)
{
    (void)state;
    char text[4 * JSON_CURSOR_DEPTH_MAX];

    for (size_t depth = JSON_CURSOR_DEPTH_MAX; depth <= JSON_CURSOR_DEPTH_MAX + 1;
         depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(is_json((svc_str){text, 2 * depth}),
                         depth <= JSON_CURSOR_DEPTH_MAX);
    }
}

static void
walks_members_and_items(void **state)
{
    (void)state;
    json_cursor_t c;
    svc_str key, value;
    bool first = true;

    json_cursor_init(&c, SVC_LIT("{\"a\": \"x\\ny\", \"b\": [7, \"z\"]}"));
    assert_int_equal(json_cursor_peek(&c), JSON_OBJECT);
    assert_true(json_cursor_enter(&c));
    assert_true(json_cursor_member(&c, &first, &key));
    assert_true(svc_str_eq(key, SVC_LIT("a")));
    assert_true(json_cursor_string(&c, &value));
    assert_true(svc_str_eq(value, SVC_LIT("x\\ny")));
    assert_true(json_cursor_member(&c, &first, &key));
    bool first_item = true;
    assert_true(json_cursor_enter(&c));
    assert_true(json_cursor_item(&c, &first_item));
    assert_true(json_cursor_number(&c, &value));
    assert_true(svc_str_eq(value, SVC_LIT("7")));
    assert_true(json_cursor_item(&c, &first_item));
    assert_false(json_cursor_number(&c, &value));
    assert_true(c.failed);
    assert_false(json_cursor_item(&c, &first_item));
    assert_false(json_cursor_member(&c, &first, &key));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_is_json),
        cmocka_unit_test(refuses_what_is_none),
        cmocka_unit_test(stops_at_the_depth_it_is_bounded_to),
        cmocka_unit_test(walks_members_and_items),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
