/* test_json_in.c - what counts as a JSON body, and which sentence tells what is wrong with one.
 *
 * json-c alone is more lenient than RFC 8259; the rows below hold what it must
 * not let pass. */
#include "gateway/json_in.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void
assert_refused(svc_str body, text_id wanted)
{
    json_in_error_t error;
    json_in_t *json = json_in_parse(body, &error);

    if (json != NULL)
        fail_msg("taken: %.*s", (int)body.n, body.p);
    if (error.text != wanted)
        fail_msg("%.*s: %s", (int)body.n, body.p, text_of(TEXT_EN, error.text));
}

static void
what_is_no_json_is_refused(void **state)
{
    static const char *const bodies[] = {
        "",
        " \r\n",
        "x",
        "{",
        "{\"a\":1",
        "{\"a\":\"x}",
        "{\"a\":\"x\"}x",
        "{\"a\":\"x\"} {}",
        "{a:1}",
        "{\"a\":'x'}",
        "{\"a\":1,}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-Infinity}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\x01\"}",
        "{/* c */}",
        "{\"a\":01}",
        "{\"a\":\"\\x\"}",
        "{\"a\":tru}",
        "{\"a\" 1}",
        "{\"a\":1 2}",
        "\xef\xbb\xbf{}",
        "username=ada&password=x",
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bodies); i++)
        assert_refused(svc_str_c(bodies[i]), TEXT_NO_JSON);
    assert_refused((svc_str){"{}\0", 3}, TEXT_NO_JSON);
}

static void
what_is_no_object_is_refused(void **state)
{
    (void)state;
    assert_refused(SVC_LIT("[]"), TEXT_NO_OBJECT);
    assert_refused(SVC_LIT("\"text\""), TEXT_NO_OBJECT);
}

static void
invalid_utf8_is_refused(void **state)
{
    (void)state;
    assert_refused(SVC_LIT("{\"a\":\"\xff\"}"), TEXT_NO_UTF8);
    assert_refused(SVC_LIT("{\"a\":\"\xc0\x80\"}"), TEXT_NO_UTF8);
    assert_refused(SVC_LIT("{\"a\":\"\xed\xa0\x80\"}"), TEXT_NO_UTF8);
    assert_refused(SVC_LIT("{\"a\":\"\xe4\xbd\"}"), TEXT_NO_UTF8);
}

static void
depth_and_number_of_values_are_bounded(void **state)
{
    svc_buf_t body;

    (void)state;
    svc_buf_init(&body, 1 << 20);
    assert_int_equal(svc_buf_add_str(&body, SVC_LIT("{\"a\":")), RC_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(svc_buf_add_str(&body, SVC_LIT("[")), RC_OK);
    assert_refused(svc_buf_str(&body), TEXT_TOO_COMPLEX);
    svc_buf_clear(&body);
    assert_int_equal(svc_buf_add_str(&body, SVC_LIT("{\"a\":[0")), RC_OK);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(svc_buf_add_str(&body, SVC_LIT(",0")), RC_OK);
    assert_int_equal(svc_buf_add_str(&body, SVC_LIT("]}")), RC_OK);
    assert_refused(svc_buf_str(&body), TEXT_TOO_COMPLEX);
    svc_buf_fini(&body);
}

/* Reads the key "a" of a body under the rules of `key`; -1: taken, else the sentence. */
static int
read_a(const char *body, json_in_key_t key, char *out)
{
    json_in_error_t error = {TEXT_COUNT, NULL};
    svc_str value;
    json_in_t *json = json_in_parse(svc_str_c(body), &error);

    assert_non_null(json);
    key.key = "a";
    key.out = &value;
    bool ok = json_in_read(json, &key, 1, &error);
    if (ok) {
        memcpy(out, value.p != NULL ? value.p : "", value.n);
        out[value.n] = '\0';
    } else {
        assert_string_equal(error.key, "a");
    }
    json_in_destroy(&json);
    assert_null(json);
    return ok ? -1 : (int)error.text;
}

static void
a_key_is_read_by_its_rules(void **state)
{
    json_in_key_t needed = {.required = true, .non_empty = true, .max_bytes = 6};
    json_in_key_t optional = {.max_bytes = 6};
    char out[16];

    (void)state;
    assert_int_equal(read_a("{\"a\":\"x\"}", needed, out), -1);
    assert_string_equal(out, "x");
    assert_int_equal(read_a("{\"b\":[{}],\"a\":\"\\u4f60\\\"\",\"c\":1e9}", needed, out),
                     -1);
    assert_string_equal(out, "你\"");
    assert_int_equal(read_a("{\"a\":\"123456\"}", needed, out), -1);
    assert_int_equal(read_a("{\"a\":\"1234567\"}", needed, out), TEXT_TOO_LONG);
    assert_int_equal(read_a("{\"a\":\"\"}", needed, out), TEXT_EMPTY);
    assert_int_equal(read_a("{\"a\":7}", needed, out), TEXT_NO_STRING);
    assert_int_equal(read_a("{\"a\":{}}", optional, out), TEXT_NO_STRING);
    assert_int_equal(read_a("{}", needed, out), TEXT_MISSING);
    assert_int_equal(read_a("{\"A\":\"x\"}", needed, out), TEXT_MISSING);
    assert_int_equal(read_a("{\"a\":null}", needed, out), TEXT_MISSING);
    assert_int_equal(read_a("{\"a\":null}", optional, out), -1);
    assert_string_equal(out, "");
    assert_int_equal(read_a("{}", optional, out), -1);
    assert_int_equal(read_a("{\"a\":\"\"}", optional, out), -1);
}

static void
a_lone_surrogate_becomes_a_replacement_character(void **state)
{
    char out[16];

    (void)state;
    assert_int_equal(read_a("{\"a\":\"\\ud800\"}", (json_in_key_t){.max_bytes = 9}, out),
                     -1);
    assert_string_equal(out, "\xef\xbf\xbd");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(what_is_no_object_is_refused),
        cmocka_unit_test(invalid_utf8_is_refused),
        cmocka_unit_test(depth_and_number_of_values_are_bounded),
        cmocka_unit_test(a_key_is_read_by_its_rules),
        cmocka_unit_test(a_lone_surrogate_becomes_a_replacement_character),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
