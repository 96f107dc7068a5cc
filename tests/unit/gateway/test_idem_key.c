/* test_idem_key.c - idempotency keys: what is one, and what becomes of it.
 *
 * The hash stands in databases, so one of them is written down here: it must never change. */
#include "gateway/idem_key.h"
#include "proto/proto.h"
#include "svc/svc_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void
a_key_is_visible_ascii_of_some_length(void **state)
{
    static const char *const bad[] = {"", " ", "a b", "a\tb", "a\x7f", "\xc3\xa9", "a\n"};
    char longest[IDEM_KEY_TEXT_MAX + 2];
    uint8_t out[IDEM_KEY_BYTES] = {9};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        assert_false(idem_key_make(svc_str_c(bad[i]), IDEM_CHAT, out));
    memset(longest, '~', sizeof longest);
    assert_false(idem_key_make((svc_str){longest, sizeof longest - 1}, IDEM_CHAT, out));
    assert_int_equal(out[0], 9);
    assert_true(idem_key_make((svc_str){longest, IDEM_KEY_TEXT_MAX}, IDEM_CHAT, out));
    assert_true(idem_key_make(SVC_LIT("!"), IDEM_CHAT, out));
}

static void
the_same_key_is_the_same_for_ever(void **state)
{
    uint8_t out[IDEM_KEY_BYTES];
    char hex[2 * IDEM_KEY_BYTES + 1];

    (void)state;
    assert_int_equal(IDEM_KEY_BYTES, PROTO_KEY_MAX_BYTES);
    assert_true(idem_key_make(SVC_LIT("8e03978e-40d5"), IDEM_CHAT, out));
    svc_hex(out, sizeof out, hex);
    assert_string_equal(
        hex, "73df19d6e643a289f4090b50a0922f4fdf3e85b59c057e5b1115ff7a83416cf6");
}

static void
one_key_means_something_else_to_each_operation(void **state)
{
    uint8_t out[3][IDEM_KEY_BYTES], other[IDEM_KEY_BYTES];

    (void)state;
    assert_true(idem_key_make(SVC_LIT("key"), IDEM_CHAT, out[0]));
    assert_true(idem_key_make(SVC_LIT("key"), IDEM_RETRY, out[1]));
    assert_true(idem_key_make(SVC_LIT("key"), IDEM_CREATE, out[2]));
    assert_true(idem_key_make(SVC_LIT("kez"), IDEM_CHAT, other));
    assert_memory_not_equal(out[0], out[1], IDEM_KEY_BYTES);
    assert_memory_not_equal(out[1], out[2], IDEM_KEY_BYTES);
    assert_memory_not_equal(out[0], out[2], IDEM_KEY_BYTES);
    assert_memory_not_equal(out[0], other, IDEM_KEY_BYTES);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_visible_ascii_of_some_length),
        cmocka_unit_test(the_same_key_is_the_same_for_ever),
        cmocka_unit_test(one_key_means_something_else_to_each_operation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
