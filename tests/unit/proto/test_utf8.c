/* test_utf8.c - which bytes are text.
 *
 * Every code point is encoded by hand and must pass; every pair of bytes and the classic traps
 * (overlong, surrogate, past the end, cut) are compared with a second, slow definition. */
#include "proto/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* Writes a code point as UTF-8 and gives its bytes. */
static size_t
encode(unsigned long cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

static void
every_code_point_is_valid_and_every_cut_of_it_is_not(void **state)
{
    char c[4];

    (void)state;
    for (unsigned long cp = 0; cp < 0x120000; cp++) {
        const bool is_character = cp < 0x110000 && (cp < 0xD800 || cp > 0xDFFF);
        const size_t n = encode(cp, c);

        if (svc_utf8_valid(c, n) != (is_character ? n : 0))
            fail_msg("U+%lX", cp);
        for (size_t cut = 1; cut < n; cut++)
            if (svc_utf8_valid(c, cut) != 0)
                fail_msg("U+%lX cut after %zu", cp, cut);
    }
}

static void
overlong_forms_are_not_valid(void **state)
{
    static const char *const forms[] = {
        "\xC0\x80",         "\xC1\xBF",         "\xE0\x80\x80",        "\xE0\x9F\xBF",
        "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xF8\x88\x80\x80\x80"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(forms); i++)
        assert_int_equal(svc_utf8_valid(forms[i], strlen(forms[i])), 0);
}

static void
the_valid_prefix_ends_before_the_first_bad_byte(void **state)
{
    char text[40];

    (void)state;
    for (size_t at = 0; at < sizeof(text); at++) {
        memset(text, 'a', sizeof(text));
        text[at] = (char)0xFF;
        assert_int_equal(svc_utf8_valid(text, sizeof(text)), at);
        text[at] = (char)0x80;
        assert_int_equal(svc_utf8_valid(text, sizeof(text)), at);
        text[at] = (char)0xE4; /* begins a character that 'a' does not continue */
        assert_int_equal(svc_utf8_valid(text, sizeof(text)), at);
    }
}

static void
mixed_text_is_valid_from_any_alignment(void **state)
{
    static const char text[] =
        "ascii and 中文 and \xF0\x9F\x98\x80, then more ascii text";

    (void)state;
    for (size_t from = 0; from < 10; from++)
        assert_int_equal(svc_utf8_valid(text + from, sizeof(text) - from),
                         sizeof(text) - from);
    assert_int_equal(svc_utf8_valid(NULL, 0), 0);
}

static void
characters_are_counted_not_bytes(void **state)
{
    (void)state;
    assert_int_equal(svc_utf8_count("", 0), 0);
    assert_int_equal(svc_utf8_count("abc", 3), 3);
    assert_int_equal(svc_utf8_count("中文", 6), 2);
    assert_int_equal(svc_utf8_count("\xF0\x9F\x98\x80", 4), 1);
}

static void
control_characters_are_found_wherever_they_stand(void **state)
{
    (void)state;
    assert_false(svc_utf8_has_control("", 0));
    assert_false(svc_utf8_has_control("why? \xC2\xA0\xC3\x80 ~", 11));
    assert_true(svc_utf8_has_control("", 1));
    assert_true(svc_utf8_has_control("ab\x1F", 3));
    assert_true(svc_utf8_has_control("a\x7F", 2));
    assert_true(svc_utf8_has_control("a?\xC2\x80", 4));
    assert_true(svc_utf8_has_control("\xC2\x9F?", 3));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_valid_and_every_cut_of_it_is_not),
        cmocka_unit_test(overlong_forms_are_not_valid),
        cmocka_unit_test(the_valid_prefix_ends_before_the_first_bad_byte),
        cmocka_unit_test(mixed_text_is_valid_from_any_alignment),
        cmocka_unit_test(characters_are_counted_not_bytes),
        cmocka_unit_test(control_characters_are_found_wherever_they_stand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
