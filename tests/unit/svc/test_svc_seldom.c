/* test_svc_seldom.c - the first few of a minute are told, and how many were not with the first of the next.
 *
 * The time is what the test says. */
#include "svc/svc_seldom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
the_first_of_a_window_are_told(void **state)
{
    svc_seldom_t line = {0};
    uint64_t untold = 99;

    (void)state;
    assert_true(svc_seldom(&line, 2, 5000, &untold));
    assert_int_equal(untold, 0);
    assert_true(svc_seldom(&line, 2, 5001, NULL));
    for (int i = 0; i < 7; i++)
        assert_false(svc_seldom(&line, 2, 5000 + SVC_SELDOM_MS - 1, &untold));
    assert_int_equal(untold, 0);
}

static void
the_next_window_begins_with_how_many_were_not(void **state)
{
    svc_seldom_t line = {0};
    uint64_t untold = 0;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(svc_seldom(&line, 1, 5000, &untold), i == 0);
    assert_true(svc_seldom(&line, 1, 5000 + SVC_SELDOM_MS, &untold));
    assert_int_equal(untold, 3);
    assert_false(svc_seldom(&line, 1, 5001 + SVC_SELDOM_MS, &untold));
    assert_true(svc_seldom(&line, 1, 5000 + 2 * SVC_SELDOM_MS, &untold));
    assert_int_equal(untold, 1);
}

static void
a_machine_that_has_just_started_makes_no_difference(void **state)
{
    svc_seldom_t line = {0};

    (void)state;
    assert_true(svc_seldom(&line, 1, 0, NULL));
    assert_false(svc_seldom(&line, 1, 1, NULL));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_of_a_window_are_told),
        cmocka_unit_test(the_next_window_begins_with_how_many_were_not),
        cmocka_unit_test(a_machine_that_has_just_started_makes_no_difference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
