/* test_proto_llm.c - the messages of llm.*: their fields, bounds and places.
 *
 * The rules are said again in plain numbers; wire_rules.h derives what must be taken and refused. */
#include "wire_rules.h"

#define SAFE ((1ull << 53) - 1) /* what a JavaScript number holds */
#define ANY  UINT64_MAX
#define KB   1024u
#define MB   (1024u * KB)

#define STREAM "0123456789abcdef"

#define MESSAGE_ITEM SVC_LIT("\x82\xA4role\xA4user\xA4text\xA1x")
#define PATTERN_ITEM SVC_LIT("\x81\xA7pattern\xA1x")

// clang-format off
static const wire_rule_t rules[] = {
    {&prompt_message_schema, "role",              PROTO_ENUM, true,  0,  0,       "system", {0}},
    {&prompt_message_schema, "text",              PROTO_STR,  true,  0,  16 * MB, NULL, {0}},
    {&generate_req_schema,   "stream",            PROTO_BIN,  true,  16, 16,      NULL, {0}},
    {&generate_req_schema,   "fence",             PROTO_U64,  true,  0,  ANY,     NULL, {0}},
    {&generate_req_schema,   "term",              PROTO_U64,  true,  1,  SAFE,    NULL, {0}},
    {&generate_req_schema,   "model",             PROTO_STR,  true,  1,  256,     NULL, {0}},
    {&generate_req_schema,   "key",               PROTO_STR,  false, 0,  1024,    NULL, {0}},
    {&generate_req_schema,   "messages",          PROTO_LIST, true,  1,  20000,   NULL, MESSAGE_ITEM},
    {&attach_req_schema,     "stream",            PROTO_BIN,  true,  16, 16,      NULL, {0}},
    {&attach_req_schema,     "fence",             PROTO_U64,  true,  0,  ANY,     NULL, {0}},
    {&attach_req_schema,     "term",              PROTO_U64,  true,  1,  SAFE,    NULL, {0}},
    {&attach_req_schema,     "from",              PROTO_U64,  true,  0,  SAFE,    NULL, {0}},
    {&journal_rep_schema,    "from",              PROTO_U64,  true,  0,  SAFE,    NULL, {0}},
    {&journal_rep_schema,    "bytes",             PROTO_BIN,  true,  0,  1 * MB,  NULL, {0}},
    {&journal_rep_schema,    "finish",            PROTO_STR,  false, 0,  64,      NULL, {0}},
    {&journal_rep_schema,    "prompt_tokens",     PROTO_U64,  false, 0,  SAFE,    NULL, {0}},
    {&journal_rep_schema,    "completion_tokens", PROTO_U64,  false, 0,  SAFE,    NULL, {0}},
    {&journal_rep_schema,    "total_tokens",      PROTO_U64,  false, 0,  SAFE,    NULL, {0}},
    {&journal_rep_schema,    "error",             PROTO_STR,  false, 0,  64,      NULL, {0}},
    {&journal_rep_schema,    "text",              PROTO_STR,  false, 0,  2048,    NULL, {0}},
    {&journal_rep_schema,    "retry_after_s",     PROTO_U64,  false, 0,  SAFE,    NULL, {0}},
    {&journal_rep_schema,    "trace",             PROTO_BIN,  false, 16, 16,      NULL, {0}},
    {&ack_req_schema,        "stream",            PROTO_BIN,  true,  16, 16,      NULL, {0}},
    {&ack_req_schema,        "fence",             PROTO_U64,  true,  0,  ANY,     NULL, {0}},
    {&ack_req_schema,        "term",              PROTO_U64,  true,  1,  SAFE,    NULL, {0}},
    {&ack_req_schema,        "journaled",         PROTO_U64,  true,  0,  SAFE,    NULL, {0}},
    {&ack_req_schema,        "stored",            PROTO_BOOL, false, 0,  0,       NULL, {0}},
    {&llm_stop_req_schema,   "stream",            PROTO_BIN,  true,  16, 16,      NULL, {0}},
    {&llm_stop_req_schema,   "fence",             PROTO_U64,  true,  0,  ANY,     NULL, {0}},
    {&llm_stop_req_schema,   "term",              PROTO_U64,  true,  1,  SAFE,    NULL, {0}},
    {&replay_req_schema,     "stream",            PROTO_BIN,  true,  16, 16,      NULL, {0}},
    {&replay_req_schema,     "fence",             PROTO_U64,  true,  0,  ANY,     NULL, {0}},
    {&replay_req_schema,     "from",              PROTO_U64,  true,  0,  SAFE,    NULL, {0}},
    {&replay_rep_schema,     "from",              PROTO_U64,  true,  0,  SAFE,    NULL, {0}},
    {&replay_rep_schema,     "bytes",             PROTO_BIN,  true,  0,  64 * KB, NULL, {0}},
    {&replay_rep_schema,     "released",          PROTO_U64,  true,  0,  16 * MB, NULL, {0}},
    {&model_pattern_schema,  "pattern",           PROTO_STR,  true,  1,  256,     NULL, {0}},
    {&models_rep_schema,     "patterns",          PROTO_LIST, true,  0,  1024,    NULL, PATTERN_ITEM},
};
// clang-format on

static int
set_up(void **state)
{
    return wire_set_up(state, rules, SVC_COUNT(rules));
}

/* stream, fence and term, with which most of these messages begin. */
static void
begin(wire_t *w, size_t n)
{
    put_map(w, n);
    add_bin(w, "stream", STREAM);
    add_number(w, "fence", 3);
    add_number(w, "term", 4);
}

static void
fields_of_a_prompt_stand_in_their_places(void **state)
{
    wire_t *w = *state;
    prompt_message_t messages[] = {
        {ROLE_SYSTEM, SVC_LIT("a")}, {ROLE_USER, SVC_LIT("b")}, {ROLE_ASSISTANT, {0}}};
    static const char *const roles[] = {"system", "user", "assistant"};
    static const char *const texts[] = {"a", "b", ""};

    begin(w, 6);
    add_text(w, "model", "echo");
    add_text(w, "key", "sk-1");
    put_key(w, "messages");
    put_array(w, 3);
    for (size_t i = 0; i < 3; i++) {
        put_wide(w, 0x82, 0, 0);
        add_text(w, "role", roles[i]);
        add_text(w, "text", texts[i]);
    }
    says(w, &generate_req_schema,
         &(generate_req_t){.stream = SVC_LIT(STREAM),
                           .fence = 3,
                           .term = 4,
                           .model = SVC_LIT("echo"),
                           .key = SVC_LIT("sk-1"),
                           .messages = {messages, 3}});
}

static void
fields_of_a_journal_stand_in_their_places(void **state)
{
    wire_t *w = *state;

    begin(w, 4);
    add_number(w, "from", 5);
    says(w, &attach_req_schema,
         &(attach_req_t){.stream = SVC_LIT(STREAM), .fence = 3, .term = 4, .from = 5});
    put_map(w, 10);
    add_number(w, "from", 5);
    add_bin(w, "bytes", "because");
    add_text(w, "finish", "length");
    add_number(w, "prompt_tokens", 14);
    add_number(w, "completion_tokens", 15);
    add_number(w, "total_tokens", 16);
    add_text(w, "error", "upstream_error");
    add_text(w, "text", "it broke");
    add_number(w, "retry_after_s", 17);
    add_bin(w, "trace", STREAM);
    says(w, &journal_rep_schema,
         &(journal_rep_t){.from = 5,
                          .bytes = SVC_LIT("because"),
                          .finish = SVC_LIT("length"),
                          .usage = {.prompt = 14, .completion = 15, .total = 16},
                          .error = SVC_LIT("upstream_error"),
                          .text = SVC_LIT("it broke"),
                          .retry_after_s = 17,
                          .trace = SVC_LIT(STREAM)});
    begin(w, 5);
    add_number(w, "journaled", 6);
    add_true(w, "stored");
    says(w, &ack_req_schema,
         &(ack_req_t){.stream = SVC_LIT(STREAM),
                      .fence = 3,
                      .term = 4,
                      .journaled = 6,
                      .stored = true});
    begin(w, 3);
    says(w, &llm_stop_req_schema,
         &(llm_stop_req_t){.stream = SVC_LIT(STREAM), .fence = 3, .term = 4});
}

static void
fields_of_replay_and_models_stand_in_their_places(void **state)
{
    wire_t *w = *state;
    model_pattern_t patterns[] = {{SVC_LIT("gpt-*")}, {SVC_LIT("*")}};

    put_map(w, 3);
    add_bin(w, "stream", STREAM);
    add_number(w, "fence", 3);
    add_number(w, "from", 5);
    says(w, &replay_req_schema,
         &(replay_req_t){.stream = SVC_LIT(STREAM), .fence = 3, .from = 5});
    put_map(w, 3);
    add_number(w, "from", 5);
    add_bin(w, "bytes", "because");
    add_number(w, "released", 12);
    says(w, &replay_rep_schema,
         &(replay_rep_t){.from = 5, .bytes = SVC_LIT("because"), .released = 12});
    put_map(w, 1);
    put_key(w, "patterns");
    put_array(w, 2);
    for (size_t i = 0; i < 2; i++) {
        put_wide(w, 0x81, 0, 0);
        add_text(w, "pattern", i == 0 ? "gpt-*" : "*");
    }
    says(w, &models_rep_schema, &(models_rep_t){.patterns = {patterns, 2}});
}

/* Reads a generate whose only message is `item`. */
static svc_rc
read_prompt_of(wire_t *w, svc_str item)
{
    begin(w, 5);
    add_text(w, "model", "echo");
    put_key(w, "messages");
    put_array(w, 1);
    put_bytes(w, item.p, item.n);
    return read_wire(w, &generate_req_schema);
}

static void
a_prompt_is_refused_for_any_fault_of_one_message(void **state)
{
    wire_t *w = *state;

    assert_int_equal(read_prompt_of(w, MESSAGE_ITEM), RC_OK);
    assert_int_equal(read_prompt_of(w, SVC_LIT("\x82\xA4role\xA5tutor\xA4text\xA1x")),
                     RC_INVALID);
    assert_int_equal(read_prompt_of(w, SVC_LIT("\x82\xA4role\x01\xA4text\xA1x")),
                     RC_INVALID);
    assert_int_equal(read_prompt_of(w, SVC_LIT("\x82\xA4role\xA4user\xA4text\xA1\xC3")),
                     RC_INVALID);
    assert_int_equal(read_prompt_of(w, SVC_LIT("\x81\xA4role\xA4user")), RC_INVALID);
    assert_int_equal(
        read_prompt_of(w, SVC_LIT("\x83\xA4role\xA4user\xA4role\xA4user\xA4text\xA1x")),
        RC_INVALID);
}

static void
messages_of_a_newer_writer_may_hold_more_and_are_not_nested_deeper_for_it(void **state)
{
    /* The body is the first level, its list the second, the message the third. */
    wire_t *w = *state;

    assert_int_equal(read_prompt_of(w, SVC_LIT("\x83\xA4role\xA4user\xA4text\xA1x\xA1z"
                                               "\x91\x91\x91\x91\x91\x01")),
                     RC_OK);
    assert_int_equal(read_prompt_of(w, SVC_LIT("\x83\xA4role\xA4user\xA4text\xA1x\xA1z"
                                               "\x91\x91\x91\x91\x91\x91\x01")),
                     RC_INVALID);
}

static void
a_prompt_that_claims_more_messages_than_it_has_costs_nothing(void **state)
{
    wire_t *w = *state;

    begin(w, 5);
    add_text(w, "model", "echo");
    put_key(w, "messages");
    put_wide(w, 0xDD, 0xFFFFFFFF, 4);
    assert_int_equal(read_wire(w, &generate_req_schema), RC_INVALID);
    begin(w, 5);
    add_text(w, "model", "echo");
    put_key(w, "messages");
    put_wide(w, 0xDD, 20000, 4);
    put_bytes(w, MESSAGE_ITEM.p, MESSAGE_ITEM.n);
    assert_int_equal(read_wire(w, &generate_req_schema), RC_INVALID);
}

static void
the_texts_of_a_prompt_must_fit_in_one_message_together(void **state)
{
    wire_t *w = *state;
    prompt_message_t messages[3] = {{.role = ROLE_USER}};
    const generate_req_t req = {.stream = SVC_LIT(STREAM),
                                .term = 1,
                                .model = SVC_LIT("echo"),
                                .messages = {messages, SVC_COUNT(messages)}};

    for (size_t i = 0; i < SVC_COUNT(messages); i++)
        messages[i].text = (svc_str){w->pad.letters, 16 * MB};
    svc_buf_clear(&w->out);
    assert_int_equal(proto_encode(&generate_req_schema, &req, &w->out), RC_TOO_BIG);
    assert_int_equal(w->out.n, 0);
    messages[2].text.n = 15 * MB;
    assert_int_equal(proto_encode(&generate_req_schema, &req, &w->out), RC_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_RULE_TESTS,
        cmocka_unit_test(fields_of_a_prompt_stand_in_their_places),
        cmocka_unit_test(fields_of_a_journal_stand_in_their_places),
        cmocka_unit_test(fields_of_replay_and_models_stand_in_their_places),
        cmocka_unit_test(a_prompt_is_refused_for_any_fault_of_one_message),
        cmocka_unit_test(
            messages_of_a_newer_writer_may_hold_more_and_are_not_nested_deeper_for_it),
        cmocka_unit_test(a_prompt_that_claims_more_messages_than_it_has_costs_nothing),
        cmocka_unit_test(the_texts_of_a_prompt_must_fit_in_one_message_together),
    };
    return cmocka_run_group_tests(tests, set_up, wire_tear_down);
}
