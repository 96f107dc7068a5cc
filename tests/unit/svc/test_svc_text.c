/* test_svc_text.c - JSON escapes and hex.
 *
 * A buffer that is full must be left as it was. */
#include "svc/svc_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
assert_escaped(svc_str text, const char *wanted)
{
    svc_buf_t out;

    svc_buf_init(&out, 1024);
    assert_int_equal(svc_json_string(&out, text), RC_OK);
    assert_int_equal(out.n, strlen(wanted));
    assert_memory_equal(out.p, wanted, out.n);
    svc_buf_fini(&out);
}

static void
escapes_what_json_demands_and_nothing_else(void **state)
{
    (void)state;
    assert_escaped(SVC_LIT(""), "\"\"");
    assert_escaped(SVC_LIT("plain text / with 你好 and \xf0\x9f\x98\x80"),
                   "\"plain text / with 你好 and \xf0\x9f\x98\x80\"");
    assert_escaped(SVC_LIT("\"\\\b\f\n\r\t"), "\"\\\"\\\\\\b\\f\\n\\r\\t\"");
    assert_escaped(SVC_LIT("a\x01z\x1f"), "\"a\\u0001z\\u001f\"");
    assert_escaped((svc_str){"\0", 1}, "\"\\u0000\"");
    assert_escaped(SVC_LIT("\x7f"), "\"\x7f\"");
}

static void
a_full_buffer_is_left_as_it_was(void **state)
{
    svc_buf_t out;

    (void)state;
    svc_buf_init(&out, 8);
    assert_int_equal(svc_buf_add(&out, "ab", 2), RC_OK);
    assert_int_equal(svc_json_string(&out, SVC_LIT("12345")), RC_TOO_BIG);
    assert_int_equal(svc_json_escape(&out, SVC_LIT("1\n2\n3\n4")), RC_TOO_BIG);
    assert_int_equal(out.n, 2);
    assert_int_equal(svc_json_string(&out, SVC_LIT("1234")), RC_OK);
    assert_int_equal(out.n, 8);
    svc_buf_fini(&out);
}

static void
hex_goes_there_and_back(void **state)
{
    uint8_t bytes[256], again[256];
    char text[513];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    svc_hex(bytes, sizeof(bytes), text);
    assert_memory_equal(text, "000102", 6);
    assert_string_equal(text + 508, "feff");
    assert_true(svc_unhex(svc_str_c(text), again, sizeof(again)));
    assert_memory_equal(bytes, again, sizeof(bytes));
    assert_true(svc_unhex(SVC_LIT("aB"), again, 1));
    assert_int_equal(again[0], 0xab);
}

static void
refuses_what_is_no_hex_or_has_another_length(void **state)
{
    uint8_t out[4];

    (void)state;
    assert_false(svc_unhex(SVC_LIT("0g"), out, 1));
    assert_false(svc_unhex(SVC_LIT("g0"), out, 1));
    assert_false(svc_unhex(SVC_LIT("000"), out, 1));
    assert_false(svc_unhex(SVC_LIT("00"), out, 2));
    assert_false(svc_unhex(SVC_LIT("0011"), out, 1));
    assert_false(svc_unhex(SVC_LIT("0\xff"), out, 1));
    assert_true(svc_unhex(SVC_LIT(""), out, 0));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_what_json_demands_and_nothing_else),
        cmocka_unit_test(a_full_buffer_is_left_as_it_was),
        cmocka_unit_test(hex_goes_there_and_back),
        cmocka_unit_test(refuses_what_is_no_hex_or_has_another_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
