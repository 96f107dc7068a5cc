/* test_models.c - is a model served? By the patterns of the last list, as llm-svc matches them.
 *
 * Before the first list nobody knows. */
#include "gateway/models.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
the_last_list_counts(void **state)
{
    models_t *self = models_new();
    model_pattern_t first[] = {{SVC_LIT("echo")}, {SVC_LIT("gpt*")}};
    model_pattern_t second[] = {
        {SVC_LIT("glm-?")}, {SVC_LIT("o[13]*")}, {SVC_LIT("*/llama*")}};

    (void)state;
    assert_false(models_are_known(self));
    assert_false(models_has(self, SVC_LIT("echo")));
    models_take(self, &(models_rep_t){{first, 2}});
    assert_true(models_are_known(self));
    assert_true(models_has(self, SVC_LIT("echo")));
    assert_true(models_has(self, SVC_LIT("gpt")));
    assert_true(models_has(self, SVC_LIT("gpt-4o")));
    assert_false(models_has(self, SVC_LIT("Echo")));
    assert_false(models_has(self, SVC_LIT("echoo")));
    assert_false(models_has(self, SVC_LIT("")));
    models_take(self, &(models_rep_t){{second, 3}});
    assert_false(models_has(self, SVC_LIT("echo")));
    assert_true(models_has(self, SVC_LIT("glm-4")));
    assert_false(models_has(self, SVC_LIT("glm-44")));
    assert_true(models_has(self, SVC_LIT("o3-mini")));
    assert_false(models_has(self, SVC_LIT("o2")));
    assert_true(models_has(self, SVC_LIT("meta/llama-3")));
    models_take(self, &(models_rep_t){{NULL, 0}});
    assert_true(models_are_known(self));
    assert_false(models_has(self, SVC_LIT("glm-4")));
    models_destroy(&self);
    assert_null(self);
}

static void
a_name_that_is_none_matches_nothing(void **state)
{
    models_t *self = models_new();
    model_pattern_t all[] = {{SVC_LIT("*")}};
    char long_name[PROTO_MODEL_MAX_BYTES + 1];

    (void)state;
    memset(long_name, 'x', sizeof long_name);
    models_take(self, &(models_rep_t){{all, 1}});
    assert_true(models_has(self, (svc_str){long_name, PROTO_MODEL_MAX_BYTES}));
    assert_false(models_has(self, (svc_str){long_name, PROTO_MODEL_MAX_BYTES + 1}));
    assert_false(models_has(self, (svc_str){"a\0b", 3}));
    models_destroy(&self);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_list_counts),
        cmocka_unit_test(a_name_that_is_none_matches_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
