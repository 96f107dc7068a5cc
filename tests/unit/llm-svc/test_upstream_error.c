/* test_upstream_error.c - what people read when a provider fails.
 *
 * Short, clean, the provider's own words where there are any, and never the key. */
#include "llm-svc/upstream_error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static void
check_sentence(long status, const char *body, const char *secret, const char *sentence)
{
    svc_buf_t out;

    svc_buf_init(&out, 4096);
    upstream_error_sentence(status, svc_str_c(body), svc_str_c(secret), &out);
    assert_true(svc_str_eq(svc_buf_str(&out), svc_str_c(sentence)));
    svc_buf_fini(&out);
}

static void
maps_statuses_to_codes(void **state)
{
    (void)state;
    assert_int_equal(upstream_error_code(401), RC_UPSTREAM_AUTH);
    assert_int_equal(upstream_error_code(403), RC_UPSTREAM_AUTH);
    assert_int_equal(upstream_error_code(404), RC_UPSTREAM_NOT_FOUND);
    assert_int_equal(upstream_error_code(429), RC_UPSTREAM_RATE_LIMITED);
    assert_int_equal(upstream_error_code(400), RC_UPSTREAM);
    assert_int_equal(upstream_error_code(503), RC_UPSTREAM);
    assert_int_equal(upstream_error_code(0), RC_UPSTREAM);
}

static void
maps_statuses_to_causes(void **state)
{
    (void)state;
    assert_int_equal(upstream_error_cause(401), CAUSE_KEY);
    assert_int_equal(upstream_error_cause(403), CAUSE_KEY);
    assert_int_equal(upstream_error_cause(429), CAUSE_RATE_LIMITED);
    assert_int_equal(upstream_error_cause(400), CAUSE_REFUSED);
    assert_int_equal(upstream_error_cause(404), CAUSE_REFUSED);
    assert_int_equal(upstream_error_cause(500), CAUSE_SERVER);
    assert_int_equal(upstream_error_cause(302), CAUSE_SERVER);
    assert_int_equal(upstream_error_cause(0), CAUSE_SERVER);
}

static void
passes_on_the_providers_own_words(void **state)
{
    (void)state;
    check_sentence(404, "{\"error\":{\"message\":\"no such model\"}}", "",
                   "no such model");
    check_sentence(500, "{\"error\":\"broken\\nline\"}", "", "broken line");
    check_sentence(500, "<html>", "", "The provider answered with status 500.");
    check_sentence(302, "", "key!", "The provider answered with status 302.");
}

static void
masks_the_key_wherever_it_stands(void **state)
{
    (void)state;
    check_sentence(401, "{\"error\":{\"message\":\"bad key sk-12345, sk-12345!\"}}",
                   "sk-12345", "bad key ***, ***!");
    check_sentence(401, "{\"error\":{\"message\":\"s\\u006b-12345\"}}", "sk-12345",
                   "***");
    check_sentence(401, "{\"error\":{\"message\":\"a banana\"}}", "a", "a banana");
}

static void
cuts_long_messages_between_characters(void **state)
{
    (void)state;
    char body[3000] = "{\"error\":\"x";
    svc_buf_t out;

    for (int i = 0; i < 400; i++)
        strcat(body, "\xE4\xBD\xA0");
    strcat(body, "\"}");
    svc_buf_init(&out, 4096);
    upstream_error_sentence(500, svc_str_c(body), (svc_str){NULL, 0}, &out);
    assert_int_equal(out.n, 1 + 3 * ((ENDING_TEXT_MAX_BYTES - 1) / 3));
    svc_buf_fini(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_statuses_to_codes),
        cmocka_unit_test(maps_statuses_to_causes),
        cmocka_unit_test(passes_on_the_providers_own_words),
        cmocka_unit_test(masks_the_key_wherever_it_stands),
        cmocka_unit_test(cuts_long_messages_between_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
