/* proto_convo.c - the fields of convo.*: conversations, questions and what becomes of their answers.
 *
 * A conversation's id may be 0 in requests: it is a number that no conversation has, so convo-svc
 * answers not_found and nobody before it needs a rule for it. Text that is only passed on (pages
 * of JSON, pieces of an answer) travels as bytes and is not checked to be UTF-8 on each hop. */
#include "proto.h"

/* Short names keep a row on one line. */
enum {
    STREAM = PROTO_STREAM_BYTES,
    WORD = PROTO_WORD_MAX_BYTES,
    SENTENCE = PROTO_ERROR_TEXT_MAX_BYTES,
    ANSWER = PROTO_ANSWER_MAX_BYTES,
};

const char *const answer_state_names[] = {"waiting", "streaming",   "complete",
                                          "stopped", "interrupted", NULL};

// clang-format off
static const proto_field_t create_req_fields[] = {
    /* key      type       must   min max                      where sub */
    {"user",    PROTO_U64, true,  1,  PROTO_ID_MAX,            offsetof(create_req_t, user), NULL},
    {"title",   PROTO_STR, true,  0,  PROTO_TITLE_MAX_BYTES,   offsetof(create_req_t, title), NULL},
    {"model",   PROTO_STR, true,  1,  PROTO_MODEL_MAX_BYTES,   offsetof(create_req_t, model), NULL},
    {"api_key", PROTO_STR, false, 0,  PROTO_API_KEY_MAX_BYTES, offsetof(create_req_t, api_key), NULL},
    {"key",     PROTO_BIN, false, 0,  PROTO_KEY_MAX_BYTES,     offsetof(create_req_t, key), NULL},
};

const proto_schema_t create_req_schema = {
    "create_req", create_req_fields, SVC_COUNT(create_req_fields), sizeof(create_req_t)};

static const proto_field_t create_rep_fields[] = {
    /* key           type       must  min max           where sub */
    {"conversation", PROTO_U64, true, 1,  PROTO_ID_MAX, offsetof(create_rep_t, conversation), NULL},
    {"created_s",    PROTO_U64, true, 0,  PROTO_ID_MAX, offsetof(create_rep_t, created_s), NULL},
};

const proto_schema_t create_rep_schema = {
    "create_rep", create_rep_fields, SVC_COUNT(create_rep_fields), sizeof(create_rep_t)};

static const proto_field_t list_req_fields[] = {
    /* key     type       must   min max           where sub */
    {"user",   PROTO_U64, true,  1,  PROTO_ID_MAX, offsetof(list_req_t, user), NULL},
    {"cursor", PROTO_U64, false, 0,  PROTO_ID_MAX, offsetof(list_req_t, cursor), NULL},
};

const proto_schema_t list_req_schema = {
    "list_req", list_req_fields, SVC_COUNT(list_req_fields), sizeof(list_req_t)};

static const proto_field_t list_rep_fields[] = {
    /* key   type       must   min max                        where sub */
    {"json", PROTO_BIN, true,  0,  PROTO_JSON_PAGE_MAX_BYTES, offsetof(list_rep_t, json), NULL},
    {"next", PROTO_U64, false, 0,  PROTO_ID_MAX,              offsetof(list_rep_t, next), NULL},
};

const proto_schema_t list_rep_schema = {
    "list_rep", list_rep_fields, SVC_COUNT(list_rep_fields), sizeof(list_rep_t)};

static const proto_field_t history_req_fields[] = {
    /* key           type       must   min max           where sub */
    {"user",         PROTO_U64, true,  1,  PROTO_ID_MAX, offsetof(history_req_t, user), NULL},
    {"conversation", PROTO_U64, true,  0,  PROTO_ID_MAX, offsetof(history_req_t, conversation), NULL},
    {"message",      PROTO_U64, false, 0,  PROTO_ID_MAX, offsetof(history_req_t, message), NULL},
    {"offset",       PROTO_U64, false, 0,  PROTO_ID_MAX, offsetof(history_req_t, offset), NULL},
};

const proto_schema_t history_req_schema = {
    "history_req", history_req_fields, SVC_COUNT(history_req_fields), sizeof(history_req_t)};

static const proto_field_t history_rep_fields[] = {
    /* key           type        must   min max                        where sub */
    {"json",         PROTO_BIN,  true,  0,  PROTO_JSON_PAGE_MAX_BYTES, offsetof(history_rep_t, json), NULL},
    {"next_message", PROTO_U64,  false, 0,  PROTO_ID_MAX,              offsetof(history_rep_t, next_message), NULL},
    {"next_offset",  PROTO_U64,  false, 0,  PROTO_ID_MAX,              offsetof(history_rep_t, next_offset), NULL},
    {"more",         PROTO_BOOL, false, 0,  0,                         offsetof(history_rep_t, more), NULL},
};

const proto_schema_t history_rep_schema = {
    "history_rep", history_rep_fields, SVC_COUNT(history_rep_fields), sizeof(history_rep_t)};

static const proto_field_t conversation_req_fields[] = {
    /* key           type       must  min max           where sub */
    {"user",         PROTO_U64, true, 1,  PROTO_ID_MAX, offsetof(conversation_req_t, user), NULL},
    {"conversation", PROTO_U64, true, 0,  PROTO_ID_MAX, offsetof(conversation_req_t, conversation), NULL},
};

const proto_schema_t conversation_req_schema = {
    "conversation_req", conversation_req_fields, SVC_COUNT(conversation_req_fields), sizeof(conversation_req_t)};

static const proto_field_t ask_req_fields[] = {
    /* key           type       must  min     max                       where sub */
    {"user",         PROTO_U64, true, 1,      PROTO_ID_MAX,             offsetof(ask_req_t, user), NULL},
    {"conversation", PROTO_U64, true, 0,      PROTO_ID_MAX,             offsetof(ask_req_t, conversation), NULL},
    {"text",         PROTO_STR, true, 1,      PROTO_QUESTION_MAX_BYTES, offsetof(ask_req_t, text), NULL},
    {"stream",       PROTO_BIN, true, STREAM, STREAM,                   offsetof(ask_req_t, stream), NULL},
    {"key",          PROTO_BIN, false, 0,     PROTO_KEY_MAX_BYTES,      offsetof(ask_req_t, key), NULL},
    {"stop_alone",   PROTO_BOOL, false, 0,    0,                        offsetof(ask_req_t, stop_alone), NULL},
};

const proto_schema_t ask_req_schema = {
    "ask_req", ask_req_fields, SVC_COUNT(ask_req_fields), sizeof(ask_req_t)};

static const proto_field_t watch_req_fields[] = {
    /* key           type       must   min     max           where sub */
    {"user",         PROTO_U64, true,  1,      PROTO_ID_MAX, offsetof(watch_req_t, user), NULL},
    {"conversation", PROTO_U64, true,  0,      PROTO_ID_MAX, offsetof(watch_req_t, conversation), NULL},
    {"stream",       PROTO_BIN, false, STREAM, STREAM,       offsetof(watch_req_t, stream), NULL},
};

const proto_schema_t watch_req_schema = {
    "watch_req", watch_req_fields, SVC_COUNT(watch_req_fields), sizeof(watch_req_t)};

static const proto_field_t status_rep_fields[] = {
    /* key                type        must   min     max           where sub */
    {"stream",            PROTO_BIN,  true,  STREAM, STREAM,       offsetof(status_rep_t, stream), NULL},
    {"message",           PROTO_U64,  true,  1,      PROTO_ID_MAX, offsetof(status_rep_t, message), NULL},
    {"state",             PROTO_ENUM, true,  0,      0,            offsetof(status_rep_t, state), answer_state_names},
    {"length",            PROTO_U64,  true,  0,      ANSWER,       offsetof(status_rep_t, length), NULL},
    {"fence",             PROTO_U64,  false, 0,      UINT64_MAX,   offsetof(status_rep_t, fence), NULL},
    {"lost",              PROTO_BOOL, false, 0,      0,            offsetof(status_rep_t, lost), NULL},
    {"finish",            PROTO_STR,  false, 0,      WORD,         offsetof(status_rep_t, finish), NULL},
    {"prompt_tokens",     PROTO_U64,  false, 0,      PROTO_ID_MAX, offsetof(status_rep_t, usage.prompt), NULL},
    {"completion_tokens", PROTO_U64,  false, 0,      PROTO_ID_MAX, offsetof(status_rep_t, usage.completion), NULL},
    {"total_tokens",      PROTO_U64,  false, 0,      PROTO_ID_MAX, offsetof(status_rep_t, usage.total), NULL},
    {"reason",            PROTO_STR,  false, 0,      WORD,         offsetof(status_rep_t, reason), NULL},
    {"text",              PROTO_STR,  false, 0,      SENTENCE,     offsetof(status_rep_t, text), NULL},
    {"retry_after_s",     PROTO_U64,  false, 0,      PROTO_ID_MAX, offsetof(status_rep_t, retry_after_s), NULL},
    {"owner",             PROTO_U64,  false, 0,      UINT64_MAX,   offsetof(status_rep_t, owner), NULL},
    {"llm",               PROTO_U64,  false, 0,      UINT64_MAX,   offsetof(status_rep_t, llm), NULL},
};

const proto_schema_t status_rep_schema = {
    "status_rep", status_rep_fields, SVC_COUNT(status_rep_fields), sizeof(status_rep_t)};

static const proto_field_t read_req_fields[] = {
    /* key     type       must  min     max           where sub */
    {"user",   PROTO_U64, true, 1,      PROTO_ID_MAX, offsetof(read_req_t, user), NULL},
    {"stream", PROTO_BIN, true, STREAM, STREAM,       offsetof(read_req_t, stream), NULL},
    {"from",   PROTO_U64, true, 0,      PROTO_ID_MAX, offsetof(read_req_t, from), NULL},
};

const proto_schema_t read_req_schema = {
    "read_req", read_req_fields, SVC_COUNT(read_req_fields), sizeof(read_req_t)};

static const proto_field_t read_rep_fields[] = {
    /* key     type        must  min max                   where sub */
    {"from",   PROTO_U64,  true, 0,  PROTO_ID_MAX,         offsetof(read_rep_t, from), NULL},
    {"bytes",  PROTO_BIN,  true, 0,  PROTO_PAGE_MAX_BYTES, offsetof(read_rep_t, bytes), NULL},
    {"state",  PROTO_ENUM, true, 0,  0,                    offsetof(read_rep_t, state), answer_state_names},
    {"length", PROTO_U64,  true, 0,  ANSWER,               offsetof(read_rep_t, length), NULL},
};

const proto_schema_t read_rep_schema = {
    "read_rep", read_rep_fields, SVC_COUNT(read_rep_fields), sizeof(read_rep_t)};

static const proto_field_t tail_req_fields[] = {
    /* key     type       must  min     max                   where sub */
    {"stream", PROTO_BIN, true, STREAM, STREAM,               offsetof(tail_req_t, stream), NULL},
    {"fence",  PROTO_U64, true, 0,      UINT64_MAX,           offsetof(tail_req_t, fence), NULL},
    {"from",   PROTO_U64, true, 0,      PROTO_ID_MAX,         offsetof(tail_req_t, from), NULL},
    {"bytes",  PROTO_BIN, true, 0,      PROTO_PAGE_MAX_BYTES, offsetof(tail_req_t, bytes), NULL},
};

const proto_schema_t tail_req_schema = {
    "tail_req", tail_req_fields, SVC_COUNT(tail_req_fields), sizeof(tail_req_t)};

static const proto_field_t retry_req_fields[] = {
    /* key           type        must   min     max                  where sub */
    {"user",         PROTO_U64,  true,  1,      PROTO_ID_MAX,        offsetof(retry_req_t, user), NULL},
    {"conversation", PROTO_U64,  true,  0,      PROTO_ID_MAX,        offsetof(retry_req_t, conversation), NULL},
    {"stream",       PROTO_BIN,  true,  STREAM, STREAM,              offsetof(retry_req_t, stream), NULL},
    {"key",          PROTO_BIN,  false, 0,      PROTO_KEY_MAX_BYTES, offsetof(retry_req_t, key), NULL},
    {"stop_alone",   PROTO_BOOL, false, 0,      0,                   offsetof(retry_req_t, stop_alone), NULL},
};

const proto_schema_t retry_req_schema = {
    "retry_req", retry_req_fields, SVC_COUNT(retry_req_fields), sizeof(retry_req_t)};

static const proto_field_t unwatch_req_fields[] = {
    /* key     type       must  min     max     where sub */
    {"stream", PROTO_BIN, true, STREAM, STREAM, offsetof(unwatch_req_t, stream), NULL},
};

const proto_schema_t unwatch_req_schema = {
    "unwatch_req", unwatch_req_fields, SVC_COUNT(unwatch_req_fields), sizeof(unwatch_req_t)};

static const proto_field_t active_req_fields[] = {
    /* key   type       must  min max           where sub */
    {"user", PROTO_U64, true, 1,  PROTO_ID_MAX, offsetof(active_req_t, user), NULL},
};

const proto_schema_t active_req_schema = {
    "active_req", active_req_fields, SVC_COUNT(active_req_fields), sizeof(active_req_t)};

static const proto_field_t active_answer_fields[] = {
    /* key           type        must  min     max           where sub */
    {"conversation", PROTO_U64,  true, 1,      PROTO_ID_MAX, offsetof(active_answer_t, conversation), NULL},
    {"stream",       PROTO_BIN,  true, STREAM, STREAM,       offsetof(active_answer_t, stream), NULL},
    {"message",      PROTO_U64,  true, 1,      PROTO_ID_MAX, offsetof(active_answer_t, message), NULL},
    {"state",        PROTO_ENUM, true, 0,      0,            offsetof(active_answer_t, state), answer_state_names},
    {"length",       PROTO_U64,  true, 0,      ANSWER,       offsetof(active_answer_t, length), NULL},
    {"asked_ms",     PROTO_U64,  true, 0,      PROTO_ID_MAX, offsetof(active_answer_t, asked_ms), NULL},
};

const proto_schema_t active_answer_schema = {
    "active_answer", active_answer_fields, SVC_COUNT(active_answer_fields), sizeof(active_answer_t)};

static const proto_field_t active_rep_fields[] = {
    /* key      type        must  min max               where sub */
    {"answers", PROTO_LIST, true, 0,  PROTO_ACTIVE_MAX, offsetof(active_rep_t, answers), &active_answer_schema},
};

const proto_schema_t active_rep_schema = {
    "active_rep", active_rep_fields, SVC_COUNT(active_rep_fields), sizeof(active_rep_t)};
// clang-format on
