/* convo_jobs.c - the fields of what crosses between the front thread and its workers.
 *
 * The same codec as on the bus: one way to turn structs into bytes, with the same checks. Only
 * what has no message of its own on the bus stands here; nobody outside this process ever sees
 * these, so they may change with any release. */
#include "convo_jobs.h"

enum {
    STREAM = PROTO_STREAM_BYTES,
    WORD = PROTO_WORD_MAX_BYTES,
    SENTENCE = PROTO_ERROR_TEXT_MAX_BYTES,
    ANSWER = PROTO_ANSWER_MAX_BYTES,
    HASH = 32,
    READY_PROMPT = CONVO_READY_PROMPT_MAX_BYTES,
};

// clang-format off
static const proto_field_t answer_row_fields[] = {
    /* key               type        must   min     max           where sub */
    {"stream",           PROTO_BIN,  true,  STREAM, STREAM,       offsetof(answer_row_t, stream), NULL},
    {"user",             PROTO_U64,  true,  0,      PROTO_ID_MAX, offsetof(answer_row_t, user), NULL},
    {"conversation",     PROTO_U64,  true,  0,      PROTO_ID_MAX, offsetof(answer_row_t, conversation), NULL},
    {"message",          PROTO_U64,  true,  0,      PROTO_ID_MAX, offsetof(answer_row_t, message), NULL},
    {"state",            PROTO_ENUM, true,  0,      0,            offsetof(answer_row_t, state), answer_state_names},
    {"term",             PROTO_U64,  true,  0,      UINT64_MAX,   offsetof(answer_row_t, term), NULL},
    {"fence",            PROTO_U64,  true,  0,      UINT64_MAX,   offsetof(answer_row_t, fence), NULL},
    {"attempt",          PROTO_U64,  true,  0,      UINT64_MAX,   offsetof(answer_row_t, attempt), NULL},
    {"owner",            PROTO_U64,  false, 0,      UINT64_MAX,   offsetof(answer_row_t, owner), NULL},
    {"llm",              PROTO_U64,  false, 0,      UINT64_MAX,   offsetof(answer_row_t, llm), NULL},
    {"length",           PROTO_U64,  true,  0,      ANSWER,       offsetof(answer_row_t, length), NULL},
    {"asked_ms",         PROTO_U64,  true,  0,      UINT64_MAX,   offsetof(answer_row_t, asked_ms), NULL},
    {"question_bytes",   PROTO_U64,  true,  0,      UINT64_MAX,   offsetof(answer_row_t, question_bytes), NULL},
    {"stop_wanted",      PROTO_BOOL, false, 0,      0,            offsetof(answer_row_t, stop_wanted), NULL},
    {"fresh",            PROTO_BOOL, false, 0,      0,            offsetof(answer_row_t, fresh), NULL},
    {"finish",           PROTO_STR,  false, 0,      WORD,         offsetof(answer_row_t, finish), NULL},
    {"prompt_tokens",    PROTO_U64,  false, 0,      PROTO_ID_MAX, offsetof(answer_row_t, usage.prompt), NULL},
    {"completion_tokens",PROTO_U64,  false, 0,      PROTO_ID_MAX, offsetof(answer_row_t, usage.completion), NULL},
    {"total_tokens",     PROTO_U64,  false, 0,      PROTO_ID_MAX, offsetof(answer_row_t, usage.total), NULL},
    {"reason",           PROTO_STR,  false, 0,      WORD,         offsetof(answer_row_t, reason), NULL},
    {"text",             PROTO_STR,  false, 0,      SENTENCE,     offsetof(answer_row_t, text), NULL},
    {"retry_after_s",    PROTO_U64,  false, 0,      PROTO_ID_MAX, offsetof(answer_row_t, retry_after_s), NULL},
    {"body_hash",        PROTO_BIN,  false, 0,      HASH,         offsetof(answer_row_t, body_hash), NULL},
    {"prompt",           PROTO_BIN,  false, 0,      READY_PROMPT, offsetof(answer_row_t, prompt), NULL},
    {"stop_alone",       PROTO_BOOL, false, 0,      0,            offsetof(answer_row_t, stop_alone), NULL},
};

const proto_schema_t answer_row_schema = {
    "answer_row", answer_row_fields, SVC_COUNT(answer_row_fields), sizeof(answer_row_t)};

static const proto_field_t answer_step_fields[] = {
    /* key               type        must   min     max                    where sub */
    {"stream",           PROTO_BIN,  true,  STREAM, STREAM,                offsetof(answer_step_t, stream), NULL},
    {"conversation",     PROTO_U64,  false, 0,      PROTO_ID_MAX,          offsetof(answer_step_t, conversation), NULL},
    {"term",             PROTO_U64,  true,  0,      UINT64_MAX,            offsetof(answer_step_t, term), NULL},
    {"fence",            PROTO_U64,  true,  0,      UINT64_MAX,            offsetof(answer_step_t, fence), NULL},
    {"state",            PROTO_ENUM, true,  0,      0,                     offsetof(answer_step_t, state), answer_state_names},
    {"length",           PROTO_U64,  true,  0,      ANSWER,                offsetof(answer_step_t, length), NULL},
    {"bytes",            PROTO_BIN,  false, 0,      PROTO_PIECE_MAX_BYTES, offsetof(answer_step_t, bytes), NULL},
    {"llm",              PROTO_U64,  false, 0,      UINT64_MAX,            offsetof(answer_step_t, llm), NULL},
    {"next_state",       PROTO_ENUM, true,  0,      0,                     offsetof(answer_step_t, next_state), answer_state_names},
    {"finish",           PROTO_STR,  false, 0,      WORD,                  offsetof(answer_step_t, finish), NULL},
    {"prompt_tokens",    PROTO_U64,  false, 0,      PROTO_ID_MAX,          offsetof(answer_step_t, usage.prompt), NULL},
    {"completion_tokens",PROTO_U64,  false, 0,      PROTO_ID_MAX,          offsetof(answer_step_t, usage.completion), NULL},
    {"total_tokens",     PROTO_U64,  false, 0,      PROTO_ID_MAX,          offsetof(answer_step_t, usage.total), NULL},
    {"reason",           PROTO_STR,  false, 0,      WORD,                  offsetof(answer_step_t, reason), NULL},
    {"text",             PROTO_STR,  false, 0,      SENTENCE,              offsetof(answer_step_t, text), NULL},
    {"retry_after_s",    PROTO_U64,  false, 0,      PROTO_ID_MAX,          offsetof(answer_step_t, retry_after_s), NULL},
};

const proto_schema_t answer_step_schema = {
    "answer_step", answer_step_fields, SVC_COUNT(answer_step_fields), sizeof(answer_step_t)};

static const proto_field_t restart_job_fields[] = {
    /* key        type       must  min     max         where sub */
    {"stream",    PROTO_BIN, true, STREAM, STREAM,     offsetof(restart_job_t, stream), NULL},
    {"term",      PROTO_U64, true, 0,      UINT64_MAX, offsetof(restart_job_t, term), NULL},
    {"fence",     PROTO_U64, true, 0,      UINT64_MAX, offsetof(restart_job_t, fence), NULL},
    {"new_fence", PROTO_U64, true, 0,      UINT64_MAX, offsetof(restart_job_t, new_fence), NULL},
    {"attempt",   PROTO_U64, true, 0,      UINT64_MAX, offsetof(restart_job_t, attempt), NULL},
};

const proto_schema_t restart_job_schema = {
    "restart_job", restart_job_fields, SVC_COUNT(restart_job_fields), sizeof(restart_job_t)};

static const proto_field_t list_head_job_fields[] = {
    /* key           type       must  min max           where sub */
    {"list_of",      PROTO_U64, true, 0,  PROTO_ID_MAX, offsetof(list_head_job_t, user), NULL},
    {"list_version", PROTO_U64, true, 0,  UINT64_MAX,   offsetof(list_head_job_t, version), NULL},
};

const proto_schema_t list_head_job_schema = {
    "list_head_job", list_head_job_fields, SVC_COUNT(list_head_job_fields), sizeof(list_head_job_t)};

static const proto_field_t list_job_fields[] = {
    /* key      type        must   min max                        where sub */
    {"json",    PROTO_BIN,  true,  0,  PROTO_JSON_PAGE_MAX_BYTES, offsetof(list_job_t, page.json), NULL},
    {"next",    PROTO_U64,  false, 0,  PROTO_ID_MAX,              offsetof(list_job_t, page.next), NULL},
    {"user",    PROTO_U64,  true,  0,  PROTO_ID_MAX,              offsetof(list_job_t, user), NULL},
    {"version", PROTO_U64,  true,  0,  UINT64_MAX,                offsetof(list_job_t, version), NULL},
    {"whole",   PROTO_BOOL, false, 0,  0,                         offsetof(list_job_t, whole), NULL},
};

const proto_schema_t list_job_schema = {
    "list_job", list_job_fields, SVC_COUNT(list_job_fields), sizeof(list_job_t)};

static const proto_field_t head_job_fields[] = {
    /* key           type        must   min max           where sub */
    {"conversation", PROTO_U64,  true,  0,  PROTO_ID_MAX, offsetof(head_job_t, conversation), NULL},
    {"user",         PROTO_U64,  true,  0,  PROTO_ID_MAX, offsetof(head_job_t, user), NULL},
    {"version",      PROTO_U64,  true,  0,  UINT64_MAX,   offsetof(head_job_t, version), NULL},
    {"answering",    PROTO_BOOL, false, 0,  0,            offsetof(head_job_t, answering), NULL},
};

const proto_schema_t head_job_schema = {
    "head_job", head_job_fields, SVC_COUNT(head_job_fields), sizeof(head_job_t)};

static const proto_field_t history_job_fields[] = {
    /* key           type        must   min max                        where sub */
    {"json",         PROTO_BIN,  true,  0,  PROTO_JSON_PAGE_MAX_BYTES, offsetof(history_job_t, page.json), NULL},
    {"next_message", PROTO_U64,  false, 0,  PROTO_ID_MAX,              offsetof(history_job_t, page.next_message), NULL},
    {"next_offset",  PROTO_U64,  false, 0,  PROTO_ID_MAX,              offsetof(history_job_t, page.next_offset), NULL},
    {"more",         PROTO_BOOL, false, 0,  0,                         offsetof(history_job_t, page.more), NULL},
    {"conversation", PROTO_U64,  true,  0,  PROTO_ID_MAX,              offsetof(history_job_t, conversation), NULL},
    {"version",      PROTO_U64,  true,  0,  UINT64_MAX,                offsetof(history_job_t, version), NULL},
    {"whole",        PROTO_BOOL, false, 0,  0,                         offsetof(history_job_t, whole), NULL},
};

const proto_schema_t history_job_schema = {
    "history_job", history_job_fields, SVC_COUNT(history_job_fields), sizeof(history_job_t)};

static const proto_field_t prompt_job_fields[] = {
    /* key     type       must  min     max         where sub */
    {"stream", PROTO_BIN, true, STREAM, STREAM,     offsetof(prompt_job_t, stream), NULL},
    {"fence",  PROTO_U64, true, 0,      UINT64_MAX, offsetof(prompt_job_t, fence), NULL},
};

const proto_schema_t prompt_job_schema = {
    "prompt_job", prompt_job_fields, SVC_COUNT(prompt_job_fields), sizeof(prompt_job_t)};
// clang-format on

svc_fault_point
convo_fault_before(uint32_t kind, svc_str payload, proto_arena_t *arena)
{
    answer_step_t step;

    switch (kind) {
    case WRITE_DELETE: return FAULT_DELETE_BEFORE_COMMIT;
    case WRITE_ASK: return FAULT_ASK_BEFORE_COMMIT;
    case WRITE_STOP: return FAULT_STOP_BEFORE_COMMIT;
    case WRITE_RETRY: return FAULT_RETRY_BEFORE_COMMIT;
    case WRITE_STEP:
        return proto_decode(&answer_step_schema, payload, arena, &step) == RC_OK &&
                       answer_state_is_terminal(step.next_state)
                   ? FAULT_END_BEFORE_COMMIT
                   : FAULT_JOURNAL_BEFORE_COMMIT;
    default: return FAULT_POINTS;
    }
}

uint64_t
convo_fence(uint64_t attempt)
{
    return (attempt & 31) << 48 | (svc_random_u64() & 0xffffffffffff);
}
