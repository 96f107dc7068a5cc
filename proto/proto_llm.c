/* proto_llm.c - the fields of llm.*: generations, their journal, replay and the models.
 *
 * The texts of a prompt are checked to be UTF-8, since they go into a provider's JSON; journal
 * and replay pass on bytes that llm-svc has made whole characters of already. Finish reasons and
 * sentences of providers must be cut to their bounds before they come here. */
#include "proto.h"

/* Short names keep a row on one line. */
enum {
    STREAM = PROTO_STREAM_BYTES,
    TRACE = PROTO_TRACE_BYTES,
    WORD = PROTO_WORD_MAX_BYTES,
    SENTENCE = PROTO_ERROR_TEXT_MAX_BYTES,
    ANSWER = PROTO_ANSWER_MAX_BYTES,
    MESSAGES = PROTO_PROMPT_MAX_MESSAGES,
};

const char *const message_role_names[] = {"system", "user", "assistant", NULL};

// clang-format off
static const proto_field_t prompt_message_fields[] = {
    /* key   type        must  min max     where sub */
    {"role", PROTO_ENUM, true, 0,  0,      offsetof(prompt_message_t, role), message_role_names},
    {"text", PROTO_STR,  true, 0,  ANSWER, offsetof(prompt_message_t, text), NULL},
};

const proto_schema_t prompt_message_schema = {
    "prompt_message", prompt_message_fields, SVC_COUNT(prompt_message_fields), sizeof(prompt_message_t)};

static const proto_field_t generate_req_fields[] = {
    /* key       type        must   min     max                      where sub */
    {"stream",   PROTO_BIN,  true,  STREAM, STREAM,                  offsetof(generate_req_t, stream), NULL},
    {"fence",    PROTO_U64,  true,  0,      UINT64_MAX,              offsetof(generate_req_t, fence), NULL},
    {"term",     PROTO_U64,  true,  1,      PROTO_ID_MAX,            offsetof(generate_req_t, term), NULL},
    {"model",    PROTO_STR,  true,  1,      PROTO_MODEL_MAX_BYTES,   offsetof(generate_req_t, model), NULL},
    {"key",      PROTO_STR,  false, 0,      PROTO_API_KEY_MAX_BYTES, offsetof(generate_req_t, key), NULL},
    {"messages", PROTO_LIST, true,  1,      MESSAGES,                offsetof(generate_req_t, messages), &prompt_message_schema},
};

const proto_schema_t generate_req_schema = {
    "generate_req", generate_req_fields, SVC_COUNT(generate_req_fields), sizeof(generate_req_t)};

static const proto_field_t attach_req_fields[] = {
    /* key     type       must  min     max           where sub */
    {"stream", PROTO_BIN, true, STREAM, STREAM,       offsetof(attach_req_t, stream), NULL},
    {"fence",  PROTO_U64, true, 0,      UINT64_MAX,   offsetof(attach_req_t, fence), NULL},
    {"term",   PROTO_U64, true, 1,      PROTO_ID_MAX, offsetof(attach_req_t, term), NULL},
    {"from",   PROTO_U64, true, 0,      PROTO_ID_MAX, offsetof(attach_req_t, from), NULL},
};

const proto_schema_t attach_req_schema = {
    "attach_req", attach_req_fields, SVC_COUNT(attach_req_fields), sizeof(attach_req_t)};

static const proto_field_t journal_rep_fields[] = {
    /* key                type       must   min max                    where sub */
    {"from",              PROTO_U64, true,  0,  PROTO_ID_MAX,          offsetof(journal_rep_t, from), NULL},
    {"bytes",             PROTO_BIN, true,  0,  PROTO_PIECE_MAX_BYTES, offsetof(journal_rep_t, bytes), NULL},
    {"finish",            PROTO_STR, false, 0,  WORD,                  offsetof(journal_rep_t, finish), NULL},
    {"prompt_tokens",     PROTO_U64, false, 0,  PROTO_ID_MAX,          offsetof(journal_rep_t, usage.prompt), NULL},
    {"completion_tokens", PROTO_U64, false, 0,  PROTO_ID_MAX,          offsetof(journal_rep_t, usage.completion), NULL},
    {"total_tokens",      PROTO_U64, false, 0,  PROTO_ID_MAX,          offsetof(journal_rep_t, usage.total), NULL},
    {"error",             PROTO_STR, false, 0,  WORD,                  offsetof(journal_rep_t, error), NULL},
    {"text",              PROTO_STR, false, 0,  SENTENCE,              offsetof(journal_rep_t, text), NULL},
    {"retry_after_s",     PROTO_U64, false, 0,  PROTO_ID_MAX,          offsetof(journal_rep_t, retry_after_s), NULL},
    {"trace",             PROTO_BIN, false, TRACE, TRACE,              offsetof(journal_rep_t, trace), NULL},
};

const proto_schema_t journal_rep_schema = {
    "journal_rep", journal_rep_fields, SVC_COUNT(journal_rep_fields), sizeof(journal_rep_t)};

static const proto_field_t ack_req_fields[] = {
    /* key        type        must   min     max           where sub */
    {"stream",    PROTO_BIN,  true,  STREAM, STREAM,       offsetof(ack_req_t, stream), NULL},
    {"fence",     PROTO_U64,  true,  0,      UINT64_MAX,   offsetof(ack_req_t, fence), NULL},
    {"term",      PROTO_U64,  true,  1,      PROTO_ID_MAX, offsetof(ack_req_t, term), NULL},
    {"journaled", PROTO_U64,  true,  0,      PROTO_ID_MAX, offsetof(ack_req_t, journaled), NULL},
    {"stored",    PROTO_BOOL, false, 0,      0,            offsetof(ack_req_t, stored), NULL},
};

const proto_schema_t ack_req_schema = {
    "ack_req", ack_req_fields, SVC_COUNT(ack_req_fields), sizeof(ack_req_t)};

static const proto_field_t llm_stop_req_fields[] = {
    /* key     type       must  min     max           where sub */
    {"stream", PROTO_BIN, true, STREAM, STREAM,       offsetof(llm_stop_req_t, stream), NULL},
    {"fence",  PROTO_U64, true, 0,      UINT64_MAX,   offsetof(llm_stop_req_t, fence), NULL},
    {"term",   PROTO_U64, true, 1,      PROTO_ID_MAX, offsetof(llm_stop_req_t, term), NULL},
};

const proto_schema_t llm_stop_req_schema = {
    "llm_stop_req", llm_stop_req_fields, SVC_COUNT(llm_stop_req_fields), sizeof(llm_stop_req_t)};

static const proto_field_t replay_req_fields[] = {
    /* key     type       must  min     max           where sub */
    {"stream", PROTO_BIN, true, STREAM, STREAM,       offsetof(replay_req_t, stream), NULL},
    {"fence",  PROTO_U64, true, 0,      UINT64_MAX,   offsetof(replay_req_t, fence), NULL},
    {"from",   PROTO_U64, true, 0,      PROTO_ID_MAX, offsetof(replay_req_t, from), NULL},
};

const proto_schema_t replay_req_schema = {
    "replay_req", replay_req_fields, SVC_COUNT(replay_req_fields), sizeof(replay_req_t)};

static const proto_field_t replay_rep_fields[] = {
    /* key       type       must  min max                   where sub */
    {"from",     PROTO_U64, true, 0,  PROTO_ID_MAX,         offsetof(replay_rep_t, from), NULL},
    {"bytes",    PROTO_BIN, true, 0,  PROTO_PAGE_MAX_BYTES, offsetof(replay_rep_t, bytes), NULL},
    {"released", PROTO_U64, true, 0,  ANSWER,               offsetof(replay_rep_t, released), NULL},
};

const proto_schema_t replay_rep_schema = {
    "replay_rep", replay_rep_fields, SVC_COUNT(replay_rep_fields), sizeof(replay_rep_t)};

static const proto_field_t model_pattern_fields[] = {
    /* key      type       must  min max                    where sub */
    {"pattern", PROTO_STR, true, 1,  PROTO_MODEL_MAX_BYTES, offsetof(model_pattern_t, pattern), NULL},
};

const proto_schema_t model_pattern_schema = {
    "model_pattern", model_pattern_fields, SVC_COUNT(model_pattern_fields), sizeof(model_pattern_t)};

static const proto_field_t models_rep_fields[] = {
    /* key       type        must  min max                 where sub */
    {"patterns", PROTO_LIST, true, 0,  PROTO_PATTERNS_MAX, offsetof(models_rep_t, patterns), &model_pattern_schema},
};

const proto_schema_t models_rep_schema = {
    "models_rep", models_rep_fields, SVC_COUNT(models_rep_fields), sizeof(models_rep_t)};
// clang-format on
