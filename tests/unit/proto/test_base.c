/* test_base.c - results, buffers, copies and the failing allocator.
 *
 * The table of results is compared with PROTOCOL.md elsewhere (test_protocol_md.c); here it is
 * only whole, without doubles, and safe for numbers that are no result. */
#include "proto/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void
every_result_has_its_own_wire_name_and_a_status(void **state)
{
    (void)state;
    for (int i = 0; i < RC_COUNT; i++) {
        const svc_rc_info_t *info = svc_rc_info((svc_rc)i);

        assert_non_null(info->wire);
        assert_true(info->http >= 200 && info->http < 600);
        if (i != RC_LATER)
            assert_int_equal(svc_rc_from_wire(svc_str_c(info->wire)), i);
    }
}

static void
a_number_that_is_no_result_is_internal(void **state)
{
    (void)state;
    assert_string_equal(svc_rc_info(RC_COUNT)->wire, "internal");
    assert_string_equal(svc_rc_info((svc_rc)12345)->wire, "internal");
    assert_int_equal(svc_rc_info((svc_rc)-1)->http, 500);
}

static void
an_unknown_wire_name_is_internal(void **state)
{
    (void)state;
    assert_int_equal(svc_rc_from_wire(SVC_LIT("from_the_future")), RC_INTERNAL);
    assert_int_equal(svc_rc_from_wire((svc_str){NULL, 0}), RC_INTERNAL);
    assert_int_equal(svc_rc_from_wire(SVC_LIT("later")), RC_INTERNAL);
    assert_int_equal(svc_rc_from_wire(SVC_LIT("interrupted")), RC_LOST);
}

static void
views_compare_their_bytes(void **state)
{
    (void)state;
    assert_true(svc_str_eq(SVC_LIT("ab"), svc_str_c("ab")));
    assert_false(svc_str_eq(SVC_LIT("ab"), SVC_LIT("ac")));
    assert_false(svc_str_eq(SVC_LIT("ab"), SVC_LIT("abc")));
    assert_true(svc_str_eq(svc_str_c(NULL), SVC_LIT("")));
}

static void
a_copy_keeps_inner_zeros_and_ends_with_one(void **state)
{
    char *copy = svc_str_dup((svc_str){"a\0b", 3});
    char *empty = svc_str_dup((svc_str){NULL, 0});

    (void)state;
    assert_memory_equal(copy, "a\0b", 4);
    assert_string_equal(empty, "");
    free(copy);
    free(empty);
}

static void
a_buffer_grows_up_to_its_maximum_and_no_further(void **state)
{
    svc_buf_t buf;
    char byte = 'a';

    (void)state;
    svc_buf_init(&buf, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(svc_buf_add(&buf, &byte, 1), RC_OK);
    assert_int_equal(svc_buf_add(&buf, &byte, 1), RC_TOO_BIG);
    assert_int_equal(svc_buf_add(&buf, &byte, SIZE_MAX), RC_TOO_BIG);
    assert_int_equal(buf.n, 1000);
    assert_true(buf.cap <= 1000);
    assert_int_equal(svc_buf_add(&buf, NULL, 0), RC_OK);
    svc_buf_clear(&buf);
    assert_int_equal(buf.n, 0);
    assert_int_equal(svc_buf_add_str(&buf, SVC_LIT("again")), RC_OK);
    svc_buf_fini(&buf);
    assert_int_equal(svc_buf_add_str(&buf, SVC_LIT("and again")), RC_OK);
    svc_buf_fini(&buf);
}

static void
a_buffer_of_one_byte_works(void **state)
{
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, 1);
    assert_int_equal(svc_buf_add(&buf, "ab", 2), RC_TOO_BIG);
    assert_int_equal(svc_buf_add(&buf, "a", 1), RC_OK);
    assert_int_equal(buf.cap, 1);
    svc_buf_fini(&buf);
    svc_buf_init(&buf, 0);
    assert_int_equal(svc_buf_add(&buf, "a", 1), RC_TOO_BIG);
    assert_int_equal(svc_buf_add(&buf, "", 0), RC_OK);
    svc_buf_fini(&buf);
}

static void
reserve_makes_room_that_is_filled_by_hand(void **state)
{
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, 4096);
    assert_int_equal(svc_buf_reserve(&buf, 4096), RC_OK);
    memset(buf.p, 'z', 4096);
    buf.n = 4096;
    assert_int_equal(svc_buf_reserve(&buf, 1), RC_TOO_BIG);
    svc_buf_fini(&buf);
}

static void
consuming_moves_the_rest_down(void **state)
{
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, 100);
    svc_buf_consume(&buf, 0);
    assert_int_equal(svc_buf_add_str(&buf, SVC_LIT("headtail")), RC_OK);
    svc_buf_consume(&buf, 4);
    assert_true(svc_str_eq(svc_buf_str(&buf), SVC_LIT("tail")));
    svc_buf_consume(&buf, 4);
    assert_int_equal(buf.n, 0);
    svc_buf_fini(&buf);
}

static void
formatted_text_is_appended_whole_or_not_at_all(void **state)
{
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, 8192);
    assert_int_equal(svc_buf_printf(&buf, "%d-%s", 7, "x"), RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&buf), SVC_LIT("7-x")));
    assert_int_equal(svc_buf_printf(&buf, "%4096d", 1), RC_OK);
    assert_int_equal(buf.n, 3 + 4096);
    assert_int_equal(svc_buf_printf(&buf, "%4097d", 1), RC_TOO_BIG);
    assert_int_equal(buf.n, 3 + 4096);
    svc_buf_fini(&buf);
}

static void
the_nth_allocation_fails_once(void **state)
{
    svc_buf_t buf;
    void *p;

    (void)state;
    svc_alloc_fail_after(2);
    p = svc_try_alloc(8);
    assert_non_null(p);
    free(p);
    assert_null(svc_try_alloc(8));
    p = svc_try_alloc(8);
    assert_non_null(p);
    free(p);
    svc_buf_init(&buf, 100);
    svc_alloc_fail_after(1);
    assert_int_equal(svc_buf_add(&buf, "a", 1), RC_TOO_BIG);
    assert_int_equal(svc_buf_add(&buf, "a", 1), RC_OK);
    assert_int_equal(buf.n, 1);
    svc_alloc_fail_after(0);
    svc_buf_fini(&buf);
}

static void
memory_comes_zeroed(void **state)
{
    char zero[64] = {0};
    char *p = svc_alloc(64), *q = svc_try_alloc(64), *none = svc_alloc(0);

    (void)state;
    assert_memory_equal(p, zero, 64);
    assert_memory_equal(q, zero, 64);
    assert_non_null(none);
    free(p);
    free(q);
    free(none);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_result_has_its_own_wire_name_and_a_status),
        cmocka_unit_test(a_number_that_is_no_result_is_internal),
        cmocka_unit_test(an_unknown_wire_name_is_internal),
        cmocka_unit_test(views_compare_their_bytes),
        cmocka_unit_test(a_copy_keeps_inner_zeros_and_ends_with_one),
        cmocka_unit_test(a_buffer_grows_up_to_its_maximum_and_no_further),
        cmocka_unit_test(a_buffer_of_one_byte_works),
        cmocka_unit_test(reserve_makes_room_that_is_filled_by_hand),
        cmocka_unit_test(consuming_moves_the_rest_down),
        cmocka_unit_test(formatted_text_is_appended_whole_or_not_at_all),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(memory_comes_zeroed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
