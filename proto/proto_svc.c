/* proto_svc.c - the fields of what every service answers, and of errors.
 *
 * svc.ping and svc.stats ask with an empty message. The tables say what the wire says; what the
 * fields mean stands in proto.h and PROTOCOL.md, and `make lint` compares the two. An error's code
 * is a word and not an enum, so that an older reader can still read a newer one. */
#include "proto.h"

// clang-format off
const proto_schema_t empty_schema = {"empty", NULL, 0, sizeof(empty_t)};

static const proto_field_t error_rep_fields[] = {
    /* key            type       must   min max                         where sub */
    {"code",          PROTO_STR, true,  1,  PROTO_WORD_MAX_BYTES,       offsetof(error_rep_t, code), NULL},
    {"text",          PROTO_STR, false, 0,  PROTO_ERROR_TEXT_MAX_BYTES, offsetof(error_rep_t, text), NULL},
    {"retry_after_s", PROTO_U64, false, 0,  PROTO_ID_MAX,               offsetof(error_rep_t, retry_after_s), NULL},
};

const proto_schema_t error_rep_schema = {
    "error_rep", error_rep_fields, SVC_COUNT(error_rep_fields), sizeof(error_rep_t)};

static const proto_field_t hello_fields[] = {
    /* key       type       must   min max                   where sub */
    {"service",  PROTO_STR, true,  1,  PROTO_WORD_MAX_BYTES, offsetof(hello_t, service), NULL},
    {"instance", PROTO_U64, true,  1,  UINT64_MAX,           offsetof(hello_t, instance), NULL},
    {"version",  PROTO_STR, false, 0,  PROTO_WORD_MAX_BYTES, offsetof(hello_t, version), NULL},
};

const proto_schema_t hello_schema = {
    "hello", hello_fields, SVC_COUNT(hello_fields), sizeof(hello_t)};

static const proto_field_t ping_rep_fields[] = {
    /* key       type        must   min max         where sub */
    {"instance", PROTO_U64,  true,  1,  UINT64_MAX, offsetof(ping_rep_t, instance), NULL},
    {"draining", PROTO_BOOL, false, 0,  0,          offsetof(ping_rep_t, draining), NULL},
};

const proto_schema_t ping_rep_schema = {
    "ping_rep", ping_rep_fields, SVC_COUNT(ping_rep_fields), sizeof(ping_rep_t)};

static const proto_field_t counter_fields[] = {
    /* key    type       must  min max                   where sub */
    {"name",  PROTO_STR, true, 1,  PROTO_WORD_MAX_BYTES, offsetof(counter_t, name), NULL},
    {"value", PROTO_U64, true, 0,  UINT64_MAX,           offsetof(counter_t, value), NULL},
};

const proto_schema_t counter_schema = {
    "counter", counter_fields, SVC_COUNT(counter_fields), sizeof(counter_t)};

static const proto_field_t stats_rep_fields[] = {
    /* key       type        must  min max                 where sub */
    {"counters", PROTO_LIST, true, 0,  PROTO_COUNTERS_MAX, offsetof(stats_rep_t, counters), &counter_schema},
};

const proto_schema_t stats_rep_schema = {
    "stats_rep", stats_rep_fields, SVC_COUNT(stats_rep_fields), sizeof(stats_rep_t)};
// clang-format on
