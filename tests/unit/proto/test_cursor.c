/* test_cursor.c - the msgpack reader on its own: first bytes, lengths and ends.
 *
 * All 256 first bytes are tried with too little and with enough behind them; that the codec uses
 * the cursor rightly is for its own tests. */
#include "proto/cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void
an_empty_view_has_nothing_to_read(void **state)
{
    proto_cursor_t cursor = proto_cursor((svc_str){NULL, 0});
    uint64_t number;
    svc_str text;
    size_t n;
    bool flag;

    (void)state;
    assert_true(proto_cursor_is_at_end(&cursor));
    assert_false(proto_cursor_u64(&cursor, &number));
    assert_false(proto_cursor_bool(&cursor, &flag));
    assert_false(proto_cursor_str(&cursor, &text));
    assert_false(proto_cursor_bin(&cursor, &text));
    assert_false(proto_cursor_map(&cursor, &n));
    assert_false(proto_cursor_array(&cursor, &n));
    assert_false(proto_cursor_skip(&cursor, 8));
}

/* How many bytes an element takes when zeros follow its first byte; 0: no element begins so. */
static size_t
element_bytes(unsigned first)
{
    static const size_t sizes[] = {
        /* C0 */ 1, 0, 1, 1, 2, 3, 5, 3,  4,  6, 5, 9, 2, 3, 5, 9,
        /* D0 */ 2, 3, 5, 9, 3, 4, 6, 10, 18, 2, 3, 5, 3, 5, 3, 5};

    if (first < 0x80 || first >= 0xE0)
        return 1;
    if (first < 0x90)
        return 1 + 2 * (first & 0x0F);
    if (first < 0xA0)
        return 1 + (first & 0x0F);
    if (first < 0xC0)
        return 1 + (first & 0x1F);
    return sizes[first - 0xC0];
}

static void
skipping_takes_one_whole_element_or_fails(void **state)
{
    char bytes[64] = {0};

    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        const size_t size = element_bytes(first);

        bytes[0] = (char)first;
        for (size_t n = 1; n < sizeof(bytes); n++) {
            proto_cursor_t cursor = proto_cursor((svc_str){bytes, n});
            const bool skipped = proto_cursor_skip(&cursor, 1);

            if (skipped != (size != 0 && n >= size))
                fail_msg("first byte %02X, %zu bytes", first, n);
            if (skipped)
                assert_ptr_equal(cursor.p, bytes + size);
        }
    }
}

static void
depth_is_spent_by_maps_and_arrays_only(void **state)
{
    proto_cursor_t cursor = proto_cursor(SVC_LIT("\xA1x"));

    (void)state;
    assert_true(proto_cursor_skip(&cursor, 0));
    cursor = proto_cursor(SVC_LIT("\x90"));
    assert_false(proto_cursor_skip(&cursor, 0));
    cursor = proto_cursor(SVC_LIT("\x80"));
    assert_false(proto_cursor_skip(&cursor, 0));
    cursor = proto_cursor(SVC_LIT("\x91\x91\x90"));
    assert_false(proto_cursor_skip(&cursor, 2));
    cursor = proto_cursor(SVC_LIT("\x91\x91\x90"));
    assert_true(proto_cursor_skip(&cursor, 3));
}

static void
the_greatest_numbers_are_read_and_negative_ones_are_not(void **state)
{
    proto_cursor_t cursor = proto_cursor(SVC_LIT("\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"));
    uint64_t number = 0;

    (void)state;
    assert_true(proto_cursor_u64(&cursor, &number));
    assert_true(number == UINT64_MAX);
    cursor = proto_cursor(SVC_LIT("\xD3\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF"));
    assert_true(proto_cursor_u64(&cursor, &number));
    assert_true(number == INT64_MAX);
    cursor = proto_cursor(SVC_LIT("\xD3\x80\x00\x00\x00\x00\x00\x00\x00"));
    assert_false(proto_cursor_u64(&cursor, &number));
    cursor = proto_cursor(SVC_LIT("\xE0"));
    assert_false(proto_cursor_u64(&cursor, &number));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_view_has_nothing_to_read),
        cmocka_unit_test(skipping_takes_one_whole_element_or_fails),
        cmocka_unit_test(depth_is_spent_by_maps_and_arrays_only),
        cmocka_unit_test(the_greatest_numbers_are_read_and_negative_ones_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
