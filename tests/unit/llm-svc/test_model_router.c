/* test_model_router.c - globs over model names, the first match wins.
 *
 * The providers are only addresses here: nobody asks them anything. */
#include "llm-svc/model_router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static provider_t one, two, three;

static void
gives_a_model_to_the_first_pattern_that_fits(void **state)
{
    (void)state;
    model_router_t *router = model_router_new();

    assert_int_equal(model_router_add(router, "gpt*", &one), RC_OK);
    assert_int_equal(model_router_add(router, "o[13]*", &one), RC_OK);
    assert_int_equal(model_router_add(router, "*mini", &two), RC_OK);
    assert_int_equal(model_router_add(router, "echo", &three), RC_OK);
    assert_ptr_equal(model_router_find(router, SVC_LIT("gpt-4o-mini"), NULL), &one);
    assert_ptr_equal(model_router_find(router, SVC_LIT("o3"), NULL), &one);
    assert_ptr_equal(model_router_find(router, SVC_LIT("phi-mini"), NULL), &two);
    assert_ptr_equal(model_router_find(router, SVC_LIT("echo"), NULL), &three);
    assert_null(model_router_find(router, SVC_LIT("o2"), NULL));
    assert_null(model_router_find(router, SVC_LIT("GPT-4"), NULL));
    assert_null(model_router_find(router, SVC_LIT(""), NULL));
    assert_null(model_router_find(router, (svc_str){"echo\0", 5}, NULL));
    model_router_destroy(&router);
    model_router_destroy(&router);
}

static void
tells_the_patterns_in_order(void **state)
{
    (void)state;
    model_router_t *router = model_router_new();

    assert_int_equal(model_router_patterns(router).n, 0);
    assert_int_equal(model_router_add(router, "b*", &one), RC_OK);
    assert_int_equal(model_router_add(router, "a*", &two), RC_OK);
    proto_list_t list = model_router_patterns(router);
    const model_pattern_t *patterns = list.items;
    assert_int_equal(list.n, 2);
    assert_true(svc_str_eq(patterns[0].pattern, SVC_LIT("b*")));
    assert_true(svc_str_eq(patterns[1].pattern, SVC_LIT("a*")));
    model_router_destroy(&router);
}

static void
names_each_pattern_for_metrics_as_it_is_configured(void **state)
{
    (void)state;
    model_router_t *router = model_router_new();
    svc_metrics_t *metrics = svc_metrics_new();
    uint16_t first = 99, second = 99;

    one.name = "one";
    two.name = "two";
    assert_int_equal(model_router_add(router, "gpt*", &one), RC_OK);
    assert_int_equal(model_router_add(router, "gpt*", &two), RC_OK);
    assert_int_equal(model_router_add(router, "*", &two), RC_OK);
    assert_ptr_equal(model_router_find(router, SVC_LIT("gpt-4"), &first), &one);
    assert_int_equal(first, 0);
    model_router_name(router, metrics);
    assert_ptr_equal(model_router_find(router, SVC_LIT("gpt-4"), &first), &one);
    assert_ptr_equal(model_router_find(router, SVC_LIT("any thing"), &second), &two);
    assert_int_equal(first, svc_metrics_label(metrics, SVC_L_MODEL, "one", "gpt*"));
    assert_int_equal(second, svc_metrics_label(metrics, SVC_L_MODEL, "two", "*"));
    assert_true(first != 0 && second != 0 && first != second);
    svc_metrics_destroy(&metrics);
    model_router_destroy(&router);
}

static void
refuses_what_could_not_be_told(void **state)
{
    (void)state;
    model_router_t *router = model_router_new();
    char *pattern = calloc(1, PROTO_MODEL_MAX_BYTES + 2);

    memset(pattern, 'x', PROTO_MODEL_MAX_BYTES + 1);
    assert_int_equal(model_router_add(router, pattern, &one), RC_TOO_BIG);
    for (size_t i = 0; i < PROTO_PATTERNS_MAX; i++)
        assert_int_equal(model_router_add(router, "x", &one), RC_OK);
    assert_int_equal(model_router_add(router, "x", &one), RC_TOO_BIG);
    free(pattern);
    model_router_destroy(&router);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_a_model_to_the_first_pattern_that_fits),
        cmocka_unit_test(tells_the_patterns_in_order),
        cmocka_unit_test(names_each_pattern_for_metrics_as_it_is_configured),
        cmocka_unit_test(refuses_what_could_not_be_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
