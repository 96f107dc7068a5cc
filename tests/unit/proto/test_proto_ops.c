/* test_proto_ops.c - which operations may be asked once more.
 *
 * That the table is complete and says what PROTOCOL.md says is looked at by `make lint`. */
#include "proto/proto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
what_changes_nothing_or_has_a_key_is_safe_to_ask_again(void **state)
{
    (void)state;
    assert_true(proto_op_is_idempotent(OP_AUTH_VERIFY));
    assert_true(proto_op_is_idempotent(OP_AUTH_REGISTER));
    assert_true(proto_op_is_idempotent(OP_CONVO_ASK));
    assert_true(proto_op_is_idempotent(OP_CONVO_RETRY));
    assert_true(proto_op_is_idempotent(OP_LLM_MODELS));
}

static void
what_would_be_done_twice_or_is_for_one_process_is_not(void **state)
{
    (void)state;
    assert_false(proto_op_is_idempotent(OP_CONVO_DELETE));
    assert_false(proto_op_is_idempotent(OP_CONVO_TAIL));
    assert_false(proto_op_is_idempotent(OP_LLM_GENERATE));
    assert_false(proto_op_is_idempotent(OP_LLM_ATTACH));
    assert_false(proto_op_is_idempotent(OP_SVC_HELLO));
}

static void
what_nobody_knows_is_not(void **state)
{
    (void)state;
    assert_false(proto_op_is_idempotent("convo.forget"));
    assert_false(proto_op_is_idempotent(""));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_changes_nothing_or_has_a_key_is_safe_to_ask_again),
        cmocka_unit_test(what_would_be_done_twice_or_is_for_one_process_is_not),
        cmocka_unit_test(what_nobody_knows_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
