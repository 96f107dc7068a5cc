/* test_proto_auth.c - the messages of auth.*: their fields, bounds and places.
 *
 * The rules are said again in plain numbers; wire_rules.h derives what must be taken and refused. */
#include "wire_rules.h"

#define SAFE ((1ull << 53) - 1) /* what a JavaScript number holds */

// clang-format off
static const wire_rule_t rules[] = {
    {&register_req_schema, "username",  PROTO_STR, true,  0, 256,  NULL, {0}},
    {&register_req_schema, "password",  PROTO_STR, true,  0, 1024, NULL, {0}},
    {&register_req_schema, "key",       PROTO_BIN, false, 0, 32,   NULL, {0}},
    {&register_rep_schema, "user",      PROTO_U64, true,  1, SAFE, NULL, {0}},
    {&login_req_schema,    "username",  PROTO_STR, true,  0, 256,  NULL, {0}},
    {&login_req_schema,    "password",  PROTO_STR, true,  0, 1024, NULL, {0}},
    {&login_req_schema,    "address",   PROTO_STR, false, 0, 64,   NULL, {0}},
    {&login_rep_schema,    "token",     PROTO_STR, true,  1, 4096, NULL, {0}},
    {&login_rep_schema,    "expires_s", PROTO_U64, true,  0, SAFE, NULL, {0}},
    {&verify_req_schema,   "token",     PROTO_BIN, true,  0, 4096, NULL, {0}},
    {&verify_rep_schema,   "user",      PROTO_U64, true,  1, SAFE, NULL, {0}},
    {&verify_rep_schema,   "expires_s", PROTO_U64, true,  0, SAFE, NULL, {0}},
    {&ticket_req_schema,   "user",         PROTO_U64, true, 1, SAFE, NULL, {0}},
    {&ticket_req_schema,   "conversation", PROTO_U64, true, 1, SAFE, NULL, {0}},
    {&ticket_req_schema,   "expires_s",    PROTO_U64, true, 0, SAFE, NULL, {0}},
    {&ticket_rep_schema,   "ticket",       PROTO_STR, true, 1, 512,  NULL, {0}},
    {&ticket_rep_schema,   "expires_in_s", PROTO_U64, true, 0, SAFE, NULL, {0}},
    {&redeem_req_schema,   "ticket",       PROTO_BIN, true, 0, 512,  NULL, {0}},
    {&redeem_rep_schema,   "user",         PROTO_U64, true, 1, SAFE, NULL, {0}},
    {&redeem_rep_schema,   "conversation", PROTO_U64, true, 1, SAFE, NULL, {0}},
    {&redeem_rep_schema,   "open_until_s", PROTO_U64, true, 0, SAFE, NULL, {0}},
    {&redeem_rep_schema,   "expires_s",    PROTO_U64, true, 0, SAFE, NULL, {0}},
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

    put_map(w, 2);
    add_text(w, "username", "ann");
    add_text(w, "password", "secret");
    says(w, &register_req_schema,
         &(register_req_t){.username = SVC_LIT("ann"), .password = SVC_LIT("secret")});
    put_map(w, 1);
    add_number(w, "user", 7);
    says(w, &register_rep_schema, &(register_rep_t){.user = 7});
    put_map(w, 3);
    add_text(w, "username", "ann");
    add_text(w, "password", "secret");
    add_text(w, "address", "::1");
    says(w, &login_req_schema,
         &(login_req_t){.username = SVC_LIT("ann"),
                        .password = SVC_LIT("secret"),
                        .address = SVC_LIT("::1")});
    put_map(w, 2);
    add_text(w, "token", "a.b.c");
    add_number(w, "expires_s", 99);
    says(w, &login_rep_schema,
         &(login_rep_t){.token = SVC_LIT("a.b.c"), .expires_s = 99});
    put_map(w, 1);
    add_bin(w, "token", "\xFF.");
    says(w, &verify_req_schema, &(verify_req_t){.token = SVC_LIT("\xFF.")});
    put_map(w, 2);
    add_number(w, "user", 7);
    add_number(w, "expires_s", 99);
    says(w, &verify_rep_schema, &(verify_rep_t){.user = 7, .expires_s = 99});
}

static void
every_field_of_a_ticket_stands_in_its_place(void **state)
{
    wire_t *w = *state;

    put_map(w, 3);
    add_text(w, "username", "ann");
    add_text(w, "password", "secret");
    add_bin(w, "key", "k");
    says(w, &register_req_schema,
         &(register_req_t){.username = SVC_LIT("ann"),
                           .password = SVC_LIT("secret"),
                           .key = SVC_LIT("k")});
    put_map(w, 3);
    add_number(w, "user", 7);
    add_number(w, "conversation", 8);
    add_number(w, "expires_s", 99);
    says(w, &ticket_req_schema,
         &(ticket_req_t){.user = 7, .conversation = 8, .expires_s = 99});
    put_map(w, 2);
    add_text(w, "ticket", "a.b");
    add_number(w, "expires_in_s", 60);
    says(w, &ticket_rep_schema,
         &(ticket_rep_t){.ticket = SVC_LIT("a.b"), .expires_in_s = 60});
    put_map(w, 1);
    add_bin(w, "ticket", "a.b");
    says(w, &redeem_req_schema, &(redeem_req_t){.ticket = SVC_LIT("a.b")});
    put_map(w, 4);
    add_number(w, "user", 7);
    add_number(w, "conversation", 8);
    add_number(w, "open_until_s", 60);
    add_number(w, "expires_s", 99);
    says(w, &redeem_rep_schema,
         &(redeem_rep_t){
             .user = 7, .conversation = 8, .open_until_s = 60, .expires_s = 99});
}

static void
names_and_passwords_are_text_and_a_token_may_be_any_bytes(void **state)
{
    wire_t *w = *state;

    put_map(w, 2);
    add_text(w, "username", "\xFF");
    add_text(w, "password", "");
    assert_int_equal(read_wire(w, &register_req_schema), RC_INVALID);
    assert_int_equal(read_wire(w, &login_req_schema), RC_INVALID);
    put_map(w, 2);
    add_text(w, "username", "");
    add_text(w, "password", "\xED\xA0\x80"); /* half a surrogate pair */
    assert_int_equal(read_wire(w, &register_req_schema), RC_INVALID);
    put_map(w, 1);
    add_bin(w, "token", "\xED\xA0\x80");
    assert_int_equal(read_wire(w, &verify_req_schema), RC_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_RULE_TESTS,
        cmocka_unit_test(every_field_stands_in_its_place),
        cmocka_unit_test(every_field_of_a_ticket_stands_in_its_place),
        cmocka_unit_test(names_and_passwords_are_text_and_a_token_may_be_any_bytes),
    };
    return cmocka_run_group_tests(tests, set_up, wire_tear_down);
}
