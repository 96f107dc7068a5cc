/* test_svc_time.c - clocks run forward and agree with the system's.
 *
 * Nothing here sleeps: the clocks are only compared. */
#include "svc/svc_time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <stdio.h>

static void
the_wall_clock_is_the_systems(void **state)
{
    time_t before = time(NULL);
    uint64_t now_ms = svc_unix_ms();

    (void)state;
    assert_in_range(now_ms / 1000, (uint64_t)before - 1, (uint64_t)time(NULL) + 1);
}

static void
the_monotonic_clock_never_goes_back(void **state)
{
    uint64_t last_us = svc_mono_us();

    (void)state;
    for (int i = 0; i < 100000; i++) {
        uint64_t now_us = svc_mono_us();

        assert_true(now_us >= last_us);
        last_us = now_us;
    }
    assert_true(svc_mono_ms() >= last_us / 1000);
    assert_true(svc_mono_ms() - last_us / 1000 < 60000);
}

static void
it_is_too_late_when_either_time_has_come(void **state)
{
    (void)state;
    assert_false(svc_until_is_over((svc_until_t){0, 0}, UINT64_MAX));
    assert_false(svc_until_is_over((svc_until_t){5, 7}, 4));
    assert_true(svc_until_is_over((svc_until_t){5, 7}, 5));
    assert_false(svc_until_is_over((svc_until_t){0, 7}, 6));
    assert_true(svc_until_is_over((svc_until_t){0, 7}, 7));
    assert_true(svc_until_is_over((svc_until_t){5, 0}, 9));
}

/* From 1970 to 9999, each day at another time of it. */
static void
a_time_is_written_as_the_calendar_has_it(void **state)
{
    (void)state;
    for (uint64_t ms = 0; ms < 253402300800000; ms += 86389017) {
        char got[SVC_TIME_TEXT_BYTES + 1] = "", want[32];
        const time_t s = (time_t)(ms / 1000);
        struct tm tm;
        assert_non_null(gmtime_r(&s, &tm));
        const size_t n = strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(want + n, sizeof(want) - n, ".%03dZ", (int)(ms % 1000));
        svc_time_text(ms, got);
        assert_string_equal(got, want);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_wall_clock_is_the_systems),
        cmocka_unit_test(the_monotonic_clock_never_goes_back),
        cmocka_unit_test(it_is_too_late_when_either_time_has_come),
        cmocka_unit_test(a_time_is_written_as_the_calendar_has_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
