/* test_password.c - bcrypt hashes of ours and of others, and equal work for all that fails.
 *
 * Runs at the least cost there is: what is tested is logic, not strength. */
#include "auth-svc/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define COST 4 /* the least there is: these tests are about logic */

static password_t *hasher;

static int
make_hasher(void **state)
{
    (void)state;
    hasher = password_new(COST);
    return 0;
}

static int
free_hasher(void **state)
{
    (void)state;
    password_destroy(&hasher);
    password_destroy(&hasher);
    return hasher != NULL;
}

static void
a_password_matches_its_own_hash_only(void **state)
{
    char hash[PASSWORD_HASH_BYTES + 1];

    (void)state;
    assert_int_equal(password_hash(hasher, SVC_LIT("correct horse"), hash), RC_OK);
    assert_memory_equal(hash, "$2b$04$", 7);
    assert_int_equal(strlen(hash), PASSWORD_HASH_BYTES);
    assert_true(password_matches(hasher, SVC_LIT("correct horse"), hash));
    assert_false(password_matches(hasher, SVC_LIT("correct horsf"), hash));
    assert_false(password_matches(hasher, SVC_LIT("correct hors"), hash));
    assert_false(password_matches(hasher, SVC_LIT(""), hash));
}

static void
two_hashes_of_one_password_differ(void **state)
{
    char a[PASSWORD_HASH_BYTES + 1], b[PASSWORD_HASH_BYTES + 1];

    (void)state;
    assert_int_equal(password_hash(hasher, SVC_LIT("correct horse"), a), RC_OK);
    assert_int_equal(password_hash(hasher, SVC_LIT("correct horse"), b), RC_OK);
    assert_string_not_equal(a, b);
}

static void
the_configured_cost_is_used(void **state)
{
    password_t *other = password_new(6);
    char hash[PASSWORD_HASH_BYTES + 1];

    (void)state;
    assert_int_equal(password_hash(other, SVC_LIT("correct horse"), hash), RC_OK);
    assert_memory_equal(hash, "$2b$06$", 7);
    assert_true(password_matches(hasher, SVC_LIT("correct horse"), hash));
    password_destroy(&other);
}

static void
hashes_of_other_programs_are_verified(void **state)
{
    /* From the test suites of Go's golang.org/x/crypto/bcrypt and of crypt_blowfish. */
    static const struct {
        const char *hash;
        const char *password;
    } cases[] = {
        {"$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga", "allmine"},
        {"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
        {"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
        {"$2a$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq", "\xa3"},
        {"$2y$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq", "\xa3"},
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        if (!password_matches(hasher, svc_str_c(cases[i].password), cases[i].hash))
            fail_msg("%s does not verify", cases[i].hash);
        assert_false(password_matches(hasher, SVC_LIT("something else"), cases[i].hash));
    }
}

static void
bytes_above_127_count_in_2a_as_in_2b(void **state)
{
    char hash[PASSWORD_HASH_BYTES + 1];

    (void)state;
    assert_int_equal(
        password_hash(hasher, SVC_LIT("\xff\xa3\x33\x34\xff\xff\xff\xa3\x33\x34\x35"),
                      hash),
        RC_OK);
    hash[2] = 'a';
    assert_true(password_matches(
        hasher, SVC_LIT("\xff\xa3\x33\x34\xff\xff\xff\xa3\x33\x34\x35"), hash));
    hash[2] = 'y';
    assert_true(password_matches(
        hasher, SVC_LIT("\xff\xa3\x33\x34\xff\xff\xff\xa3\x33\x34\x35"), hash));
}

static void
what_bcrypt_would_cut_is_refused(void **state)
{
    char text[PASSWORD_MAX_BYTES + 1];
    char hash[PASSWORD_HASH_BYTES + 1];

    (void)state;
    memset(text, 'x', sizeof(text));
    assert_int_equal(password_hash(hasher, (svc_str){text, 73}, hash), RC_INVALID);
    assert_int_equal(password_hash(hasher, SVC_LIT("abc\0defgh"), hash), RC_INVALID);
    assert_int_equal(password_hash(hasher, (svc_str){text, 72}, hash), RC_OK);
    assert_true(password_matches(hasher, (svc_str){text, 72}, hash));
    assert_false(password_matches(hasher, (svc_str){text, 73}, hash));
    assert_int_equal(password_hash(hasher, SVC_LIT("abc"), hash), RC_OK);
    assert_false(password_matches(hasher, SVC_LIT("abc\0defgh"), hash));
}

static void
nothing_matches_a_hash_that_is_none(void **state)
{
    static const char *const bad[] = {
        "",
        "*0",
        "*1",
        "x",
        "$2b$",
        "$1$abc$def",
        "$2x$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e",
        "$2b$99$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e",
        "$2b$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3ee",
        "$2b$05$!!!!!!!!!!!!!!!!!!!!!!CE5elHaaO4EbggVDjb8P19RukzXSM3ee",
    };

    (void)state;
    assert_false(password_matches(hasher, SVC_LIT("correct horse"), NULL));
    assert_false(password_matches(hasher, SVC_LIT(""), NULL));
    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        assert_false(password_matches(hasher, SVC_LIT("\xa3"), bad[i]));
}

static double
cpu_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Processor time of one check, where that is less than what it took before. */
static void
work_of(password_t *self, svc_str password, const char *hash, double *least)
{
    const double begin = cpu_ms();

    assert_false(password_matches(self, password, hash));
    const double took = cpu_ms() - begin;
    if (*least == 0 || took < *least)
        *least = took;
}

static bool
is_alike(double a, double b)
{
    return a > b * 0.5 && a < b * 2;
}

static void
all_that_fails_costs_the_same(void **state)
{
    password_t *self = password_new(8);
    char hash[PASSWORD_HASH_BYTES + 1];
    char text[100];
    double wrong = 0, unknown = 0, too_long = 0, broken = 0;
    bool alike = false;

    (void)state;
    memset(text, 'x', sizeof(text));
    assert_int_equal(password_hash(self, SVC_LIT("correct horse"), hash), RC_OK);
    /* In turn, and the least of many: what others take of a processor at times falls on all four. */
    for (int i = 0; i < 40 && !alike; i++) {
        work_of(self, SVC_LIT("battery staple"), hash, &wrong);
        work_of(self, SVC_LIT("battery staple"), NULL, &unknown);
        work_of(self, (svc_str){text, sizeof(text)}, hash, &too_long);
        work_of(self, SVC_LIT("battery staple"), "nonsense", &broken);
        alike = i >= 4 && is_alike(unknown, wrong) && is_alike(too_long, wrong) &&
                is_alike(broken, wrong);
    }
    assert_true(alike);
    password_destroy(&self);
}

static void
a_hash_is_known_by_its_form_and_a_cost_that_can_be_paid(void **state)
{
    static const char tail[] = "$abcdefghijklmnopqrstuu1111111111111111111111111111111";
    static const struct {
        const char *head;
        bool good;
    } rows[] = {{"$2a$04", true},  {"$2b$10", true},  {"$2y$15", true},
                {"$2x$10", false}, {"$2b$03", false}, {"$2b$16", false},
                {"$2b$1x", false}, {"$1b$10", false}, {"$2b$-4", false},
                {"x2b$10", false}};
    char hash[PASSWORD_HASH_BYTES + 2];

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        (void)snprintf(hash, sizeof(hash), "%s%s", rows[i].head, tail);
        assert_int_equal(password_is_hash(svc_str_c(hash)), rows[i].good);
        hash[30] = '=';
        assert_false(password_is_hash(svc_str_c(hash)));
        hash[30] = '\0';
        assert_false(password_is_hash((svc_str){hash, PASSWORD_HASH_BYTES}));
    }
    (void)snprintf(hash, sizeof(hash), "$2b$04%s", tail);
    hash[6] = '.';
    assert_false(password_is_hash(svc_str_c(hash)));
    assert_false(password_is_hash((svc_str){hash, PASSWORD_HASH_BYTES - 1}));
    assert_false(password_is_hash(svc_str_c("")));
    assert_false(password_is_hash((svc_str){NULL, 0}));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_password_matches_its_own_hash_only),
        cmocka_unit_test(two_hashes_of_one_password_differ),
        cmocka_unit_test(the_configured_cost_is_used),
        cmocka_unit_test(hashes_of_other_programs_are_verified),
        cmocka_unit_test(bytes_above_127_count_in_2a_as_in_2b),
        cmocka_unit_test(what_bcrypt_would_cut_is_refused),
        cmocka_unit_test(nothing_matches_a_hash_that_is_none),
        cmocka_unit_test(a_hash_is_known_by_its_form_and_a_cost_that_can_be_paid),
        cmocka_unit_test(all_that_fails_costs_the_same),
    };

    return cmocka_run_group_tests(tests, make_hasher, free_hasher);
}
