/* test_throttle.c - pauses after wrong passwords.
 *
 * The clock is the test's own, so minutes pass at once. */
#include "auth-svc/throttle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define LIMIT    10
#define WINDOW_S 300

static uint64_t now_ms = 1000000;

static throttle_t *
make(void)
{
    return throttle_new(LIMIT, WINDOW_S, NULL);
}

/* One attempt; 0: it took place, else the seconds to wait. */
static uint64_t
attempt(throttle_t *throttle, const char *user, const char *address,
        throttle_outcome outcome)
{
    uint64_t key = 0, wait_s = 0;

    if (throttle_begin(throttle, svc_str_c(user), svc_str_c(address), now_ms, &key,
                       &wait_s) != RC_OK)
        return wait_s;
    assert_int_equal(throttle_end(throttle, key, outcome, now_ms, &wait_s), RC_OK);
    return 0;
}

static void
fail_times(throttle_t *throttle, const char *user, const char *address, int times)
{
    for (int i = 0; i < times; i++)
        assert_int_equal(attempt(throttle, user, address, THROTTLE_WRONG), 0);
}

static void
the_tenth_wrong_password_brings_a_pause(void **state)
{
    throttle_t *throttle = make();

    (void)state;
    fail_times(throttle, "ann", "1.1.1.1", LIMIT);
    assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_RIGHT), 1);
    throttle_destroy(&throttle);
    assert_null(throttle);
    throttle_destroy(&throttle);
}

static void
other_numbers_count_at_once_and_what_was_counted_stays(void **state)
{
    throttle_t *throttle = make();

    (void)state;
    fail_times(throttle, "ann", "1.1.1.1", 3);
    throttle_set(throttle, 4, 10);
    fail_times(throttle, "ann", "1.1.1.1", 1);
    assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_RIGHT), 1);
    now_ms += 10000; /* the window is over */
    assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_RIGHT), 0);
    assert_int_equal(throttle_size(throttle), 0);
    throttle_destroy(&throttle);
}

static void
what_is_known_of_a_pair_can_be_told_and_taken_over(void **state)
{
    throttle_t *throttle = make(), *other = make();
    throttle_state_t known;
    uint64_t key = 0, wait_s = 0;

    (void)state;
    fail_times(throttle, "ann", "1.1.1.1", LIMIT - 1);
    now_ms += 5000;
    fail_times(throttle, "ann", "1.1.1.1", 1);
    now_ms += 1000;
    assert_int_equal(throttle_begin(throttle, SVC_LIT("ann"), SVC_LIT("1.1.1.1"), now_ms,
                                    &key, &wait_s),
                     RC_OK);
    known = throttle_look(throttle, key, now_ms);
    assert_int_equal(known.failures, LIMIT);
    assert_int_equal(known.pause_s, 1);
    assert_int_equal(known.first_age_ms, 6000);
    assert_int_equal(known.last_age_ms, 1000);
    assert_int_equal(known.rest_ms, 0);
    assert_int_equal(throttle_end(throttle, key, THROTTLE_WRONG, now_ms, &wait_s), RC_OK);
    known.pause_s = 2;
    known.rest_ms = 2000;
    assert_int_equal(
        throttle_begin(other, SVC_LIT("ann"), SVC_LIT("1.1.1.1"), now_ms, &key, &wait_s),
        RC_OK);
    throttle_settle(other, key, &known, now_ms);
    assert_int_equal(attempt(other, "ann", "1.1.1.1", THROTTLE_RIGHT), 2);
    now_ms += 2000;
    assert_int_equal(attempt(other, "ann", "1.1.1.1", THROTTLE_WRONG), 0);
    assert_int_equal(attempt(other, "ann", "1.1.1.1", THROTTLE_RIGHT), 4);
    now_ms += 4000;
    assert_int_equal(
        throttle_begin(other, SVC_LIT("ann"), SVC_LIT("1.1.1.1"), now_ms, &key, &wait_s),
        RC_OK);
    throttle_settle(other, key, &(throttle_state_t){0}, now_ms);
    assert_int_equal(throttle_size(other), 0);
    throttle_destroy(&other);
    throttle_destroy(&throttle);
}

static void
the_same_key_numbers_pairs_alike(void **state)
{
    static const uint8_t keys[][THROTTLE_KEY_BYTES] = {"a", "a", "b"};
    uint64_t numbers[SVC_COUNT(keys)], wait_s;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(keys); i++) {
        throttle_t *throttle = throttle_new(LIMIT, WINDOW_S, keys[i]);

        assert_int_equal(throttle_begin(throttle, SVC_LIT("ann"), SVC_LIT("1.1.1.1"),
                                        now_ms, &numbers[i], &wait_s),
                         RC_OK);
        throttle_destroy(&throttle);
    }
    assert_true(numbers[0] == numbers[1]);
    assert_true(numbers[0] != numbers[2]);
}

static void
pauses_double_from_one_second_to_sixty(void **state)
{
    static const uint64_t pauses_s[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
    throttle_t *throttle = make();

    (void)state;
    fail_times(throttle, "ann", "1.1.1.1", LIMIT - 1);
    for (size_t i = 0; i < SVC_COUNT(pauses_s); i++) {
        assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_WRONG), 0);
        assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_WRONG),
                         pauses_s[i]);
        now_ms += pauses_s[i] * 1000 - 1;
        assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_WRONG), 1);
        now_ms += 1;
    }
    throttle_destroy(&throttle);
}

static void
another_address_and_another_user_are_not_affected(void **state)
{
    throttle_t *throttle = make();

    (void)state;
    fail_times(throttle, "ann", "1.1.1.1", LIMIT);
    assert_int_equal(attempt(throttle, "ann", "2.2.2.2", THROTTLE_RIGHT), 0);
    assert_int_equal(attempt(throttle, "bob", "1.1.1.1", THROTTLE_RIGHT), 0);
    assert_int_equal(attempt(throttle, "ann1", ".1.1.1", THROTTLE_RIGHT), 0);
    assert_int_not_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_RIGHT), 0);
    throttle_destroy(&throttle);
}

static void
a_right_password_forgets_the_wrong_ones(void **state)
{
    throttle_t *throttle = make();

    (void)state;
    for (int i = 0; i < 5; i++) {
        fail_times(throttle, "ann", "1.1.1.1", LIMIT - 1);
        assert_int_equal(throttle_size(throttle), 1);
        assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_RIGHT), 0);
        assert_int_equal(throttle_size(throttle), 0);
    }
    throttle_destroy(&throttle);
}

static void
a_right_password_after_a_pause_ends_the_pauses(void **state)
{
    throttle_t *throttle = make();

    (void)state;
    fail_times(throttle, "ann", "1.1.1.1", LIMIT);
    now_ms += 1000;
    assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_RIGHT), 0);
    fail_times(throttle, "ann", "1.1.1.1", LIMIT - 1);
    throttle_destroy(&throttle);
}

static void
wrong_passwords_are_forgotten_after_the_window(void **state)
{
    throttle_t *throttle = make();

    (void)state;
    for (int i = 0; i < 5; i++) {
        fail_times(throttle, "ann", "1.1.1.1", LIMIT - 1);
        now_ms += WINDOW_S * 1000;
    }
    fail_times(throttle, "ann", "1.1.1.1", LIMIT);
    now_ms += WINDOW_S * 1000;
    fail_times(throttle, "ann", "1.1.1.1", LIMIT);
    assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_WRONG), 1);
    throttle_destroy(&throttle);
}

static void
right_passwords_alone_are_never_paused(void **state)
{
    throttle_t *throttle = make();
    uint64_t keys[200], wait_s;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(keys); i++)
        assert_int_equal(throttle_begin(throttle, SVC_LIT("ann"), SVC_LIT("1.1.1.1"),
                                        now_ms, &keys[i], &wait_s),
                         RC_OK);
    for (size_t i = 0; i < SVC_COUNT(keys); i++)
        assert_int_equal(throttle_end(throttle, keys[i], THROTTLE_RIGHT, now_ms, &wait_s),
                         RC_OK);
    assert_int_equal(throttle_size(throttle), 0);
    throttle_destroy(&throttle);
}

static void
parallel_guesses_count_while_they_run(void **state)
{
    throttle_t *throttle = make();
    uint64_t keys[LIMIT], key, wait_s = 0;

    (void)state;
    fail_times(throttle, "ann", "1.1.1.1", 1);
    for (size_t i = 0; i < LIMIT - 1; i++)
        assert_int_equal(throttle_begin(throttle, SVC_LIT("ann"), SVC_LIT("1.1.1.1"),
                                        now_ms, &keys[i], &wait_s),
                         RC_OK);
    assert_int_equal(throttle_begin(throttle, SVC_LIT("ann"), SVC_LIT("1.1.1.1"), now_ms,
                                    &key, &wait_s),
                     RC_THROTTLED);
    assert_int_equal(wait_s, 1);
    for (size_t i = 0; i < LIMIT - 1; i++)
        assert_int_equal(throttle_end(throttle, keys[i], THROTTLE_WRONG, now_ms, &wait_s),
                         RC_OK);
    now_ms += 1000;
    assert_int_equal(throttle_begin(throttle, SVC_LIT("ann"), SVC_LIT("1.1.1.1"), now_ms,
                                    &key, &wait_s),
                     RC_OK);
    assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_RIGHT), 1);
    assert_int_equal(throttle_end(throttle, key, THROTTLE_WRONG, now_ms, &wait_s), RC_OK);
    assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_RIGHT), 2);
    throttle_destroy(&throttle);
}

static void
a_burst_of_first_guesses_learns_no_more_than_the_limit(void **state)
{
    throttle_t *throttle = make();
    uint64_t keys[LIMIT + 2], wait_s = 0;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(keys); i++)
        assert_int_equal(throttle_begin(throttle, SVC_LIT("ann"), SVC_LIT("1.1.1.1"),
                                        now_ms, &keys[i], &wait_s),
                         RC_OK);
    for (size_t i = 0; i < LIMIT; i++)
        assert_int_equal(throttle_end(throttle, keys[i], THROTTLE_WRONG, now_ms, &wait_s),
                         RC_OK);
    assert_int_equal(throttle_end(throttle, keys[LIMIT], THROTTLE_WRONG, now_ms, &wait_s),
                     RC_THROTTLED);
    assert_int_equal(wait_s, 1);
    wait_s = 0;
    assert_int_equal(
        throttle_end(throttle, keys[LIMIT + 1], THROTTLE_RIGHT, now_ms, &wait_s),
        RC_THROTTLED);
    assert_int_equal(wait_s, 1);
    throttle_destroy(&throttle);
}

static void
attempts_that_were_not_looked_at_do_not_count(void **state)
{
    throttle_t *throttle = make();

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_UNDECIDED), 0);
    assert_int_equal(throttle_size(throttle), 0);
    fail_times(throttle, "ann", "1.1.1.1", LIMIT - 1);
    assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_UNDECIDED), 0);
    fail_times(throttle, "ann", "1.1.1.1", 1);
    assert_int_equal(attempt(throttle, "ann", "1.1.1.1", THROTTLE_WRONG), 1);
    throttle_destroy(&throttle);
}

static void
the_table_is_bounded_and_forgets_the_quietest(void **state)
{
    throttle_t *throttle = make();
    char address[32];

    (void)state;
    fail_times(throttle, "quiet", "1.1.1.1", LIMIT);
    for (int i = 0; i < THROTTLE_PAIRS_MAX + 1000; i++) {
        (void)snprintf(address, sizeof(address), "a%d", i);
        fail_times(throttle, "ann", address, 1);
        if (i % 1000 == 0 && i <= 9000)
            fail_times(throttle, "busy", "2.2.2.2", 1);
    }
    assert_int_equal(throttle_size(throttle), THROTTLE_PAIRS_MAX);
    assert_int_equal(attempt(throttle, "quiet", "1.1.1.1", THROTTLE_WRONG), 0);
    assert_int_equal(attempt(throttle, "busy", "2.2.2.2", THROTTLE_WRONG), 1);
    now_ms += WINDOW_S * 1000;
    fail_times(throttle, "last", "3.3.3.3", 1);
    assert_int_equal(throttle_size(throttle), 1);
    throttle_destroy(&throttle);
}

static void
names_of_any_bytes_and_length_are_taken(void **state)
{
    throttle_t *throttle = make();
    char name[5000];

    (void)state;
    memset(name, 0xff, sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    fail_times(throttle, name, name, LIMIT);
    assert_int_equal(attempt(throttle, name, name, THROTTLE_WRONG), 1);
    assert_int_equal(attempt(throttle, "", "", THROTTLE_WRONG), 0);
    assert_int_equal(attempt(throttle, NULL, NULL, THROTTLE_WRONG), 0);
    throttle_destroy(&throttle);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tenth_wrong_password_brings_a_pause),
        cmocka_unit_test(other_numbers_count_at_once_and_what_was_counted_stays),
        cmocka_unit_test(what_is_known_of_a_pair_can_be_told_and_taken_over),
        cmocka_unit_test(the_same_key_numbers_pairs_alike),
        cmocka_unit_test(pauses_double_from_one_second_to_sixty),
        cmocka_unit_test(another_address_and_another_user_are_not_affected),
        cmocka_unit_test(a_right_password_forgets_the_wrong_ones),
        cmocka_unit_test(a_right_password_after_a_pause_ends_the_pauses),
        cmocka_unit_test(wrong_passwords_are_forgotten_after_the_window),
        cmocka_unit_test(right_passwords_alone_are_never_paused),
        cmocka_unit_test(parallel_guesses_count_while_they_run),
        cmocka_unit_test(a_burst_of_first_guesses_learns_no_more_than_the_limit),
        cmocka_unit_test(attempts_that_were_not_looked_at_do_not_count),
        cmocka_unit_test(the_table_is_bounded_and_forgets_the_quietest),
        cmocka_unit_test(names_of_any_bytes_and_length_are_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
