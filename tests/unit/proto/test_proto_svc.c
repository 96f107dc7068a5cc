/* test_proto_svc.c - what every service is asked and answers, and errors: fields, bounds, places.
 *
 * The rules are said again in plain numbers; wire_rules.h derives what must be taken and refused. */
#include "wire_rules.h"

#define SAFE ((1ull << 53) - 1) /* what a JavaScript number holds */
#define ANY  UINT64_MAX

#define COUNTER_ITEM SVC_LIT("\x82\xA4name\xA1x\xA5value\x01")

// clang-format off
static const wire_rule_t rules[] = {
    {&error_rep_schema, "code",          PROTO_STR,  true,  1, 64,   NULL, {0}},
    {&error_rep_schema, "text",          PROTO_STR,  false, 0, 2048, NULL, {0}},
    {&error_rep_schema, "retry_after_s", PROTO_U64,  false, 0, SAFE, NULL, {0}},
    {&hello_schema,     "service",       PROTO_STR,  true,  1, 64,   NULL, {0}},
    {&hello_schema,     "instance",      PROTO_U64,  true,  1, ANY,  NULL, {0}},
    {&hello_schema,     "version",       PROTO_STR,  false, 0, 64,   NULL, {0}},
    {&ping_rep_schema,  "instance",      PROTO_U64,  true,  1, ANY,  NULL, {0}},
    {&ping_rep_schema,  "draining",      PROTO_BOOL, false, 0, 0,    NULL, {0}},
    {&counter_schema,   "name",          PROTO_STR,  true,  1, 64,   NULL, {0}},
    {&counter_schema,   "value",         PROTO_U64,  true,  0, ANY,  NULL, {0}},
    {&stats_rep_schema, "counters",      PROTO_LIST, true,  0, 1024, NULL, COUNTER_ITEM},
};
// clang-format on

static int
set_up(void **state)
{
    return wire_set_up(state, rules, SVC_COUNT(rules));
}

static void
every_field_stands_in_its_place(void **state)
{
    wire_t *w = *state;
    counter_t counters[] = {{SVC_LIT("a"), 1}, {SVC_LIT("b"), 2}};

    put_map(w, 3);
    add_text(w, "code", "busy");
    add_text(w, "text", "come back");
    add_number(w, "retry_after_s", 5);
    says(w, &error_rep_schema,
         &(error_rep_t){
             .code = SVC_LIT("busy"), .text = SVC_LIT("come back"), .retry_after_s = 5});
    put_map(w, 3);
    add_text(w, "service", "gateway");
    add_number(w, "instance", 77);
    add_text(w, "version", "v1");
    says(w, &hello_schema,
         &(hello_t){
             .service = SVC_LIT("gateway"), .instance = 77, .version = SVC_LIT("v1")});
    put_map(w, 2);
    add_number(w, "instance", 77);
    add_true(w, "draining");
    says(w, &ping_rep_schema, &(ping_rep_t){.instance = 77, .draining = true});
    put_map(w, 1);
    put_key(w, "counters");
    put_array(w, 2);
    put_bytes(w,
              "\x82\xA4name\xA1"
              "a\xA5value\x01",
              15);
    put_bytes(w,
              "\x82\xA4name\xA1"
              "b\xA5value\x02",
              15);
    says(w, &stats_rep_schema, &(stats_rep_t){.counters = {counters, 2}});
}

static void
a_ping_says_nothing_and_may_one_day_say_more(void **state)
{
    wire_t *w = *state;

    put_map(w, 0);
    says(w, &empty_schema, &(empty_t){0});
    put_map(w, 1);
    add_text(w, "newer", "word");
    assert_int_equal(read_wire(w, &empty_schema), RC_OK);
    put_map(w, 1);
    assert_int_equal(read_wire(w, &empty_schema), RC_INVALID);
}

static void
a_code_that_is_not_known_yet_can_be_read(void **state)
{
    wire_t *w = *state;

    put_map(w, 1);
    add_text(w, "code", "too_late_for_tea");
    assert_int_equal(read_wire(w, &error_rep_schema), RC_OK);
    assert_int_equal(svc_rc_from_wire(((const error_rep_t *)(const void *)w->msg)->code),
                     RC_INTERNAL);
}

static void
one_bad_item_spoils_its_list(void **state)
{
    static const svc_str bad[] = {
        SVC_LIT("\x80"),
        SVC_LIT("\x81\xA4name\xA1x"),
        SVC_LIT("\x82\xA4name\xA0\xA5value\x01"),
        SVC_LIT("\x82\xA4name\xA1\xFF\xA5value\x01"),
        SVC_LIT("\x83\xA4name\xA1x\xA5value\x01\xA5value\x01"),
    };
    wire_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        put_map(w, 1);
        put_key(w, "counters");
        put_array(w, 2);
        put_bytes(w, COUNTER_ITEM.p, COUNTER_ITEM.n);
        put_bytes(w, bad[i].p, bad[i].n);
        assert_int_equal(read_wire(w, &stats_rep_schema), RC_INVALID);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_RULE_TESTS,
        cmocka_unit_test(every_field_stands_in_its_place),
        cmocka_unit_test(a_ping_says_nothing_and_may_one_day_say_more),
        cmocka_unit_test(a_code_that_is_not_known_yet_can_be_read),
        cmocka_unit_test(one_bad_item_spoils_its_list),
    };
    return cmocka_run_group_tests(tests, set_up, wire_tear_down);
}
