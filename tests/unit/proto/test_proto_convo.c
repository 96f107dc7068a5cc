/* test_proto_convo.c - the messages of convo.*: their fields, bounds and places.
 *
 * The rules are said again in plain numbers; wire_rules.h derives what must be taken and refused. */
#include "wire_rules.h"

#define SAFE ((1ull << 53) - 1) /* what a JavaScript number holds */
#define ANY  UINT64_MAX
#define KB   1024u
#define MB   (1024u * KB)

#define STREAM "0123456789abcdef"

#define ACTIVE_ITEM                                                       \
    SVC_LIT("\x86\xAC"                                                    \
            "conversation\x05\xA6stream\xC4\x10" STREAM "\xA7message\x02" \
            "\xA5state\xA9streaming\xA6length\x03\xA8"                    \
            "asked_ms\x04")

// clang-format off
static const wire_rule_t rules[] = {
    {&create_req_schema,       "user",              PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&create_req_schema,       "title",             PROTO_STR,  true,  0,  4096,     NULL, {0}},
    {&create_req_schema,       "model",             PROTO_STR,  true,  1,  256,      NULL, {0}},
    {&create_req_schema,       "api_key",           PROTO_STR,  false, 0,  1024,     NULL, {0}},
    {&create_req_schema,       "key",               PROTO_BIN,  false, 0,  32,       NULL, {0}},
    {&create_rep_schema,       "conversation",      PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&create_rep_schema,       "created_s",         PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&list_req_schema,         "user",              PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&list_req_schema,         "cursor",            PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&list_rep_schema,         "json",              PROTO_BIN,  true,  0,  512 * KB, NULL, {0}},
    {&list_rep_schema,         "next",              PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&history_req_schema,      "user",              PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&history_req_schema,      "conversation",      PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&history_req_schema,      "message",           PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&history_req_schema,      "offset",            PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&history_rep_schema,      "json",              PROTO_BIN,  true,  0,  512 * KB, NULL, {0}},
    {&history_rep_schema,      "next_message",      PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&history_rep_schema,      "next_offset",       PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&history_rep_schema,      "more",              PROTO_BOOL, false, 0,  0,        NULL, {0}},
    {&conversation_req_schema, "user",              PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&conversation_req_schema, "conversation",      PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&ask_req_schema,          "user",              PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&ask_req_schema,          "conversation",      PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&ask_req_schema,          "text",              PROTO_STR,  true,  1,  8 * MB,   NULL, {0}},
    {&ask_req_schema,          "stream",            PROTO_BIN,  true,  16, 16,       NULL, {0}},
    {&ask_req_schema,          "key",               PROTO_BIN,  false, 0,  32,       NULL, {0}},
    {&ask_req_schema,          "stop_alone",        PROTO_BOOL, false, 0,  0,        NULL, {0}},
    {&retry_req_schema,        "user",              PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&retry_req_schema,        "conversation",      PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&retry_req_schema,        "stream",            PROTO_BIN,  true,  16, 16,       NULL, {0}},
    {&retry_req_schema,        "key",               PROTO_BIN,  false, 0,  32,       NULL, {0}},
    {&retry_req_schema,        "stop_alone",        PROTO_BOOL, false, 0,  0,        NULL, {0}},
    {&unwatch_req_schema,      "stream",            PROTO_BIN,  true,  16, 16,       NULL, {0}},
    {&active_req_schema,       "user",              PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&active_answer_schema,    "conversation",      PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&active_answer_schema,    "stream",            PROTO_BIN,  true,  16, 16,       NULL, {0}},
    {&active_answer_schema,    "message",           PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&active_answer_schema,    "state",             PROTO_ENUM, true,  0,  0,        "streaming", {0}},
    {&active_answer_schema,    "length",            PROTO_U64,  true,  0,  16 * MB,  NULL, {0}},
    {&active_answer_schema,    "asked_ms",          PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&active_rep_schema,       "answers",           PROTO_LIST, true,  0,  1000,     NULL, ACTIVE_ITEM},
    {&watch_req_schema,        "user",              PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&watch_req_schema,        "conversation",      PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&watch_req_schema,        "stream",            PROTO_BIN,  false, 16, 16,       NULL, {0}},
    {&status_rep_schema,       "stream",            PROTO_BIN,  true,  16, 16,       NULL, {0}},
    {&status_rep_schema,       "message",           PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&status_rep_schema,       "state",             PROTO_ENUM, true,  0,  0,        "stopped", {0}},
    {&status_rep_schema,       "length",            PROTO_U64,  true,  0,  16 * MB,  NULL, {0}},
    {&status_rep_schema,       "fence",             PROTO_U64,  false, 0,  ANY,      NULL, {0}},
    {&status_rep_schema,       "lost",              PROTO_BOOL, false, 0,  0,        NULL, {0}},
    {&status_rep_schema,       "finish",            PROTO_STR,  false, 0,  64,       NULL, {0}},
    {&status_rep_schema,       "prompt_tokens",     PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&status_rep_schema,       "completion_tokens", PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&status_rep_schema,       "total_tokens",      PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&status_rep_schema,       "reason",            PROTO_STR,  false, 0,  64,       NULL, {0}},
    {&status_rep_schema,       "text",              PROTO_STR,  false, 0,  2048,     NULL, {0}},
    {&status_rep_schema,       "retry_after_s",     PROTO_U64,  false, 0,  SAFE,     NULL, {0}},
    {&status_rep_schema,       "owner",             PROTO_U64,  false, 0,  ANY,      NULL, {0}},
    {&status_rep_schema,       "llm",               PROTO_U64,  false, 0,  ANY,      NULL, {0}},
    {&read_req_schema,         "user",              PROTO_U64,  true,  1,  SAFE,     NULL, {0}},
    {&read_req_schema,         "stream",            PROTO_BIN,  true,  16, 16,       NULL, {0}},
    {&read_req_schema,         "from",              PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&read_rep_schema,         "from",              PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&read_rep_schema,         "bytes",             PROTO_BIN,  true,  0,  64 * KB,  NULL, {0}},
    {&read_rep_schema,         "state",             PROTO_ENUM, true,  0,  0,        "waiting", {0}},
    {&read_rep_schema,         "length",            PROTO_U64,  true,  0,  16 * MB,  NULL, {0}},
    {&tail_req_schema,         "stream",            PROTO_BIN,  true,  16, 16,       NULL, {0}},
    {&tail_req_schema,         "fence",             PROTO_U64,  true,  0,  ANY,      NULL, {0}},
    {&tail_req_schema,         "from",              PROTO_U64,  true,  0,  SAFE,     NULL, {0}},
    {&tail_req_schema,         "bytes",             PROTO_BIN,  true,  0,  64 * KB,  NULL, {0}},
};
// clang-format on

static int
set_up(void **state)
{
    return wire_set_up(state, rules, SVC_COUNT(rules));
}

static void
fields_of_conversations_stand_in_their_places(void **state)
{
    wire_t *w = *state;

    put_map(w, 5);
    add_number(w, "user", 7);
    add_text(w, "title", "tea");
    add_text(w, "model", "echo");
    add_text(w, "api_key", "sk-1");
    add_bin(w, "key", "k");
    says(w, &create_req_schema,
         &(create_req_t){.user = 7,
                         .title = SVC_LIT("tea"),
                         .model = SVC_LIT("echo"),
                         .api_key = SVC_LIT("sk-1"),
                         .key = SVC_LIT("k")});
    put_map(w, 2);
    add_number(w, "conversation", 5);
    add_number(w, "created_s", 9);
    says(w, &create_rep_schema, &(create_rep_t){.conversation = 5, .created_s = 9});
    put_map(w, 2);
    add_number(w, "user", 7);
    add_number(w, "cursor", 8);
    says(w, &list_req_schema, &(list_req_t){.user = 7, .cursor = 8});
    put_map(w, 2);
    add_bin(w, "json", "[]");
    add_number(w, "next", 8);
    says(w, &list_rep_schema, &(list_rep_t){.json = SVC_LIT("[]"), .next = 8});
    put_map(w, 2);
    add_number(w, "user", 7);
    add_number(w, "conversation", 5);
    says(w, &conversation_req_schema,
         &(conversation_req_t){.user = 7, .conversation = 5});
}

static void
fields_of_a_history_stand_in_their_places(void **state)
{
    wire_t *w = *state;

    put_map(w, 4);
    add_number(w, "user", 7);
    add_number(w, "conversation", 5);
    add_number(w, "message", 3);
    add_number(w, "offset", 4);
    says(w, &history_req_schema,
         &(history_req_t){.user = 7, .conversation = 5, .message = 3, .offset = 4});
    put_map(w, 4);
    add_bin(w, "json", "[]");
    add_number(w, "next_message", 3);
    add_number(w, "next_offset", 4);
    add_true(w, "more");
    says(w, &history_rep_schema,
         &(history_rep_t){
             .json = SVC_LIT("[]"), .next_message = 3, .next_offset = 4, .more = true});
}

static void
fields_of_questions_stand_in_their_places(void **state)
{
    wire_t *w = *state;

    put_map(w, 6);
    add_number(w, "user", 7);
    add_number(w, "conversation", 5);
    add_text(w, "text", "why?");
    add_bin(w, "stream", STREAM);
    add_bin(w, "key", "k");
    add_true(w, "stop_alone");
    says(w, &ask_req_schema,
         &(ask_req_t){.user = 7,
                      .conversation = 5,
                      .text = SVC_LIT("why?"),
                      .stream = SVC_LIT(STREAM),
                      .key = SVC_LIT("k"),
                      .stop_alone = true});
    put_map(w, 3);
    add_number(w, "user", 7);
    add_number(w, "conversation", 5);
    add_bin(w, "stream", STREAM);
    says(w, &watch_req_schema,
         &(watch_req_t){.user = 7, .conversation = 5, .stream = SVC_LIT(STREAM)});
}

static void
fields_of_a_status_stand_in_their_places(void **state)
{
    wire_t *w = *state;

    put_map(w, 15);
    add_bin(w, "stream", STREAM);
    add_number(w, "message", 11);
    add_text(w, "state", "interrupted");
    add_number(w, "length", 12);
    add_number(w, "fence", 13);
    add_true(w, "lost");
    add_text(w, "finish", "stop");
    add_number(w, "prompt_tokens", 14);
    add_number(w, "completion_tokens", 15);
    add_number(w, "total_tokens", 16);
    add_text(w, "reason", "timeout");
    add_text(w, "text", "too slow");
    add_number(w, "retry_after_s", 17);
    add_number(w, "owner", 18);
    add_number(w, "llm", 19);
    says(w, &status_rep_schema,
         &(status_rep_t){.stream = SVC_LIT(STREAM),
                         .message = 11,
                         .state = ANSWER_INTERRUPTED,
                         .length = 12,
                         .fence = 13,
                         .lost = true,
                         .finish = SVC_LIT("stop"),
                         .usage = {.prompt = 14, .completion = 15, .total = 16},
                         .reason = SVC_LIT("timeout"),
                         .text = SVC_LIT("too slow"),
                         .retry_after_s = 17,
                         .owner = 18,
                         .llm = 19});
}

static void
fields_of_retries_and_of_what_is_active_stand_in_their_places(void **state)
{
    wire_t *w = *state;

    put_map(w, 5);
    add_number(w, "user", 7);
    add_number(w, "conversation", 5);
    add_bin(w, "stream", STREAM);
    add_bin(w, "key", "k");
    add_true(w, "stop_alone");
    says(w, &retry_req_schema,
         &(retry_req_t){.user = 7,
                        .conversation = 5,
                        .stream = SVC_LIT(STREAM),
                        .key = SVC_LIT("k"),
                        .stop_alone = true});
    put_map(w, 1);
    add_bin(w, "stream", STREAM);
    says(w, &unwatch_req_schema, &(unwatch_req_t){.stream = SVC_LIT(STREAM)});
    put_map(w, 1);
    add_number(w, "user", 7);
    says(w, &active_req_schema, &(active_req_t){.user = 7});
    put_map(w, 6);
    add_number(w, "conversation", 5);
    add_bin(w, "stream", STREAM);
    add_number(w, "message", 2);
    add_text(w, "state", "streaming");
    add_number(w, "length", 3);
    add_number(w, "asked_ms", 4);
    says(w, &active_answer_schema,
         &(active_answer_t){.conversation = 5,
                            .stream = SVC_LIT(STREAM),
                            .message = 2,
                            .state = ANSWER_STREAMING,
                            .length = 3,
                            .asked_ms = 4});
}

static void
fields_of_pages_of_an_answer_stand_in_their_places(void **state)
{
    wire_t *w = *state;

    put_map(w, 3);
    add_number(w, "user", 7);
    add_bin(w, "stream", STREAM);
    add_number(w, "from", 2);
    says(w, &read_req_schema,
         &(read_req_t){.user = 7, .stream = SVC_LIT(STREAM), .from = 2});
    put_map(w, 4);
    add_number(w, "from", 2);
    add_bin(w, "bytes", "because");
    add_text(w, "state", "streaming");
    add_number(w, "length", 9);
    says(w, &read_rep_schema,
         &(read_rep_t){.from = 2,
                       .bytes = SVC_LIT("because"),
                       .state = ANSWER_STREAMING,
                       .length = 9});
    put_map(w, 4);
    add_bin(w, "stream", STREAM);
    add_number(w, "fence", 3);
    add_number(w, "from", 2);
    add_bin(w, "bytes", "because");
    says(w, &tail_req_schema,
         &(tail_req_t){.stream = SVC_LIT(STREAM),
                       .fence = 3,
                       .from = 2,
                       .bytes = SVC_LIT("because")});
}

static void
states_have_these_names_and_three_of_them_are_ends(void **state)
{
    static const struct {
        const char *name;
        int state;
        bool is_end;
    } states[] = {
        {"waiting", ANSWER_WAITING, false},        {"streaming", ANSWER_STREAMING, false},
        {"complete", ANSWER_COMPLETE, true},       {"stopped", ANSWER_STOPPED, true},
        {"interrupted", ANSWER_INTERRUPTED, true},
    };
    wire_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(states); i++) {
        put_map(w, 4);
        add_number(w, "from", 0);
        add_bin(w, "bytes", "");
        add_text(w, "state", states[i].name);
        add_number(w, "length", 0);
        says(w, &read_rep_schema, &(read_rep_t){.state = states[i].state});
        assert_int_equal(answer_state_is_terminal(states[i].state), states[i].is_end);
    }
    for (int i = 0; i < 2; i++) {
        const read_rep_t none = {.state = i == 0 ? -1 : (int)SVC_COUNT(states)};

        svc_buf_clear(&w->out);
        assert_int_equal(proto_encode(&read_rep_schema, &none, &w->out), RC_INVALID);
    }
}

static void
a_question_is_text_and_pages_may_be_any_bytes(void **state)
{
    wire_t *w = *state;

    put_map(w, 4);
    add_number(w, "user", 7);
    add_number(w, "conversation", 5);
    add_text(w, "text", "\xC3");
    add_bin(w, "stream", STREAM);
    assert_int_equal(read_wire(w, &ask_req_schema), RC_INVALID);
    put_map(w, 1);
    add_bin(w, "json", "\xC3");
    assert_int_equal(read_wire(w, &list_rep_schema), RC_OK);
    put_map(w, 4);
    add_bin(w, "stream",
            "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    add_number(w, "fence", 1);
    add_number(w, "from", 0);
    add_bin(w, "bytes", "\xC3"); /* half a character: what a gateway was given so far */
    assert_int_equal(read_wire(w, &tail_req_schema), RC_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_RULE_TESTS,
        cmocka_unit_test(fields_of_conversations_stand_in_their_places),
        cmocka_unit_test(fields_of_a_history_stand_in_their_places),
        cmocka_unit_test(fields_of_questions_stand_in_their_places),
        cmocka_unit_test(fields_of_retries_and_of_what_is_active_stand_in_their_places),
        cmocka_unit_test(fields_of_a_status_stand_in_their_places),
        cmocka_unit_test(fields_of_pages_of_an_answer_stand_in_their_places),
        cmocka_unit_test(states_have_these_names_and_three_of_them_are_ends),
        cmocka_unit_test(a_question_is_text_and_pages_may_be_any_bytes),
    };
    return cmocka_run_group_tests(tests, set_up, wire_tear_down);
}
