/* test_text_decoder.c - escapes, halves of characters, and text cut anywhere.
 *
 * Every case is decoded whole and cut at every place, with the same result wanted: how a
 * provider cuts its text must not matter. (An escape itself is never cut: JSON strings
 * are whole.) */
#include "llm-svc/text_decoder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

typedef struct {
    const char *raw;  /* inside of a JSON string */
    const char *text; /* what it says */
} case_t;

// clang-format off
static const case_t cases[] = {
    {"", ""},
    {"plain", "plain"},
    {"a\\n\\t\\r\\b\\f\\\"\\\\\\/z", "a\n\t\r\b\f\"\\/z"},
    {"\\u0041\\u00e9\\u4f60", "A\xC3\xA9\xE4\xBD\xA0"},
    {"\\ud83d\\ude00", "\xF0\x9F\x98\x80"},
    {"\\uD834\\udd1e!", "\xF0\x9D\x84\x9E!"},
    {"x\\udc00y", "x\xEF\xBF\xBDy"},
    {"\\ud83d", "\xEF\xBF\xBD"},
    {"\\ud83dx", "\xEF\xBF\xBDx"},
    {"\\ud83d\\ud83d\\ude00", "\xEF\xBF\xBD\xF0\x9F\x98\x80"},
    {"\\ud83d\\n", "\xEF\xBF\xBD\n"},
    {"\\u0000", "\xEF\xBF\xBD"},
    {"\xE4\xBD\xA0\xF0\x9F\x98\x80", "\xE4\xBD\xA0\xF0\x9F\x98\x80"},
    {"\xE4\xBD", "\xEF\xBF\xBD"},
    {"\xE4\xBDx", "\xEF\xBF\xBDx"},
    {"\xE4\xBD\\n", "\xEF\xBF\xBD\n"},
    {"\xFF\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xE4\xE4\xBD\xA0", "\xEF\xBF\xBD\xE4\xBD\xA0"},
};
// clang-format on

/* True when the raw text may be cut before byte `at`: not inside an escape. */
static bool
may_cut(const char *raw, size_t at)
{
    size_t i = 0;

    while (i < at)
        i += raw[i] != '\\' ? 1 : raw[i + 1] == 'u' ? 6 : 2;
    return i == at;
}

static void
gives_the_same_text_however_it_is_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        size_t n = strlen(cases[i].raw);

        for (size_t at = 0; at <= n; at++) {
            text_decoder_t decoder = {0};
            svc_buf_t out;

            if (!may_cut(cases[i].raw, at))
                continue;
            svc_buf_init(&out, 1000);
            assert_int_equal(
                text_decoder_json(&decoder, (svc_str){cases[i].raw, at}, &out), RC_OK);
            assert_int_equal(
                text_decoder_json(&decoder, (svc_str){cases[i].raw + at, n - at}, &out),
                RC_OK);
            assert_int_equal(text_decoder_end(&decoder, &out), RC_OK);
            assert_true(svc_str_eq(svc_buf_str(&out), svc_str_c(cases[i].text)));
            svc_buf_fini(&out);
        }
    }
}

static void
holds_back_half_a_character(void **state)
{
    (void)state;
    text_decoder_t decoder = {0};
    svc_buf_t out;

    svc_buf_init(&out, 100);
    assert_int_equal(text_decoder_json(&decoder, SVC_LIT("a\\ud83d"), &out), RC_OK);
    assert_int_equal(out.n, 1);
    assert_int_equal(text_decoder_json(&decoder, SVC_LIT("\\ude00\xE4"), &out), RC_OK);
    assert_int_equal(out.n, 5);
    assert_int_equal(text_decoder_json(&decoder, SVC_LIT("\xBD\xA0"), &out), RC_OK);
    assert_int_equal(out.n, 8);
    svc_buf_fini(&out);
}

static void
takes_a_backslash_literally_in_plain_text(void **state)
{
    (void)state;
    text_decoder_t decoder = {0};
    svc_buf_t out;

    svc_buf_init(&out, 100);
    assert_int_equal(text_decoder_plain(&decoder, (svc_str){"a\\n\0b", 5}, &out), RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&out), SVC_LIT("a\\n\xEF\xBF\xBD"
                                                      "b")));
    svc_buf_fini(&out);
}

static void
refuses_escapes_that_are_none(void **state)
{
    (void)state;
    static const char *const wrong[] = {"\\x", "\\", "\\u12", "\\u12g4", "a\\U0041"};

    for (size_t i = 0; i < SVC_COUNT(wrong); i++) {
        text_decoder_t decoder = {0};
        svc_buf_t out;

        svc_buf_init(&out, 100);
        assert_int_equal(text_decoder_json(&decoder, svc_str_c(wrong[i]), &out),
                         RC_INVALID);
        svc_buf_fini(&out);
    }
}

static void
says_when_the_text_does_not_fit(void **state)
{
    (void)state;
    text_decoder_t decoder = {0};
    svc_buf_t out;

    svc_buf_init(&out, 4);
    assert_int_equal(text_decoder_json(&decoder, SVC_LIT("12345"), &out), RC_TOO_BIG);
    svc_buf_fini(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_same_text_however_it_is_cut),
        cmocka_unit_test(holds_back_half_a_character),
        cmocka_unit_test(takes_a_backslash_literally_in_plain_text),
        cmocka_unit_test(refuses_escapes_that_are_none),
        cmocka_unit_test(says_when_the_text_does_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
