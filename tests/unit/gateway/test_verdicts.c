/* test_verdicts.c - a good token is remembered for a moment, never past its end, and never without bound.
 *
 * Times are given, so nothing waits. */
#include "gateway/verdicts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define NOW 1700000000000ull

/* The user of a token; whoever is found says when the token ends. */
static uint64_t
find(const verdicts_t *self, svc_str token, uint64_t unix_ms)
{
    uint64_t expires_s = 0;
    uint64_t user = verdicts_find(self, token, unix_ms, &expires_s);

    if (user != 0)
        assert_true(expires_s * 1000 > unix_ms);
    return user;
}

static void
a_verdict_is_good_for_its_time(void **state)
{
    verdicts_t *self = verdicts_new(5000);

    (void)state;
    assert_int_equal(find(self, SVC_LIT("token"), NOW), 0);
    verdicts_keep(self, SVC_LIT("token"), 7, NOW / 1000 + 3600, NOW);
    assert_int_equal(find(self, SVC_LIT("token"), NOW), 7);
    assert_int_equal(find(self, SVC_LIT("token"), NOW + 4999), 7);
    assert_int_equal(find(self, SVC_LIT("token"), NOW + 5000), 0);
    assert_int_equal(find(self, SVC_LIT("tokeN"), NOW), 0);
    assert_int_equal(find(self, SVC_LIT(""), NOW), 0);
    verdicts_destroy(&self);
    assert_null(self);
}

static void
a_verdict_ends_with_its_token(void **state)
{
    verdicts_t *self = verdicts_new(5000);

    (void)state;
    verdicts_keep(self, SVC_LIT("short"), 7, NOW / 1000 + 2, NOW);
    assert_int_equal(find(self, SVC_LIT("short"), NOW + 1999), 7);
    assert_int_equal(find(self, SVC_LIT("short"), NOW + 2000), 0);
    verdicts_keep(self, SVC_LIT("over"), 8, NOW / 1000, NOW);
    assert_int_equal(find(self, SVC_LIT("over"), NOW), 0);
    verdicts_destroy(&self);
}

static void
a_clock_that_is_set_back_keeps_nothing_alive(void **state)
{
    verdicts_t *self = verdicts_new(5000);

    (void)state;
    verdicts_keep(self, SVC_LIT("token"), 7, NOW / 1000 + 3600, NOW);
    assert_int_equal(find(self, SVC_LIT("token"), NOW - 3600000), 0);
    verdicts_destroy(&self);
}

static void
no_time_means_no_memory(void **state)
{
    verdicts_t *self = verdicts_new(0);

    (void)state;
    verdicts_keep(self, SVC_LIT("token"), 7, NOW / 1000 + 3600, NOW);
    assert_int_equal(find(self, SVC_LIT("token"), NOW), 0);
    verdicts_destroy(&self);
}

static void
more_tokens_than_fit_are_forgotten_not_mixed_up(void **state)
{
    verdicts_t *self = verdicts_new(5000);
    char token[32];
    size_t known = 0;

    (void)state;
    for (unsigned i = 1; i <= 20000; i++) {
        int n = snprintf(token, sizeof token, "token-%u", i);
        verdicts_keep(self, (svc_str){token, (size_t)n}, i, NOW / 1000 + 60, NOW);
    }
    for (unsigned i = 1; i <= 20000; i++) {
        int n = snprintf(token, sizeof token, "token-%u", i);
        uint64_t user = find(self, (svc_str){token, (size_t)n}, NOW);
        assert_true(user == 0 || user == i);
        known += user != 0;
    }
    assert_in_range(known, 3000, 4096);
    verdicts_destroy(&self);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_verdict_is_good_for_its_time),
        cmocka_unit_test(a_verdict_ends_with_its_token),
        cmocka_unit_test(a_clock_that_is_set_back_keeps_nothing_alive),
        cmocka_unit_test(no_time_means_no_memory),
        cmocka_unit_test(more_tokens_than_fit_are_forgotten_not_mixed_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
