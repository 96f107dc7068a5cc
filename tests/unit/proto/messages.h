/* messages.h - every message by name and by operation, and values for any of them.
 *
 * The codec is driven by tables, and so are its tests: a message is filled, compared and broken
 * field by field from its schema, so a new message is tested from the day it gets a row here. The
 * fuzz target and the test of PROTOCOL.md use the same table. Everything a filled message
 * points to belongs to its pad. */
#ifndef TESTS_PROTO_MESSAGES_H
#define TESTS_PROTO_MESSAGES_H

#include "tests/support/operations.h"

#include <stdlib.h>

static const proto_schema_t *const all_schemas[] = {
    &empty_schema,         &error_rep_schema,        &hello_schema,
    &ping_rep_schema,      &counter_schema,          &stats_rep_schema,
    &register_req_schema,  &register_rep_schema,     &login_req_schema,
    &login_rep_schema,     &verify_req_schema,       &verify_rep_schema,
    &create_req_schema,    &create_rep_schema,       &list_req_schema,
    &list_rep_schema,      &history_req_schema,      &history_rep_schema,
    &ask_req_schema,       &conversation_req_schema, &watch_req_schema,
    &status_rep_schema,    &read_req_schema,         &read_rep_schema,
    &tail_req_schema,      &prompt_message_schema,   &generate_req_schema,
    &attach_req_schema,    &journal_rep_schema,      &ack_req_schema,
    &llm_stop_req_schema,  &replay_req_schema,       &replay_rep_schema,
    &model_pattern_schema, &models_rep_schema,       &ticket_req_schema,
    &ticket_rep_schema,    &redeem_req_schema,       &redeem_rep_schema,
    &retry_req_schema,     &unwatch_req_schema,      &active_req_schema,
    &active_answer_schema, &active_rep_schema,
};

/* Memory that filled messages point to, in one piece. */
typedef struct {
    char *letters; /* 'x' as far as any text may go, and one more */
    char *items;   /* zeroed; items of a list are filled here */
} pad_t;

#define PAD_LETTERS    (PROTO_ANSWER_MAX_BYTES + 1)
#define PAD_ITEMS      (PROTO_PROMPT_MAX_MESSAGES + 1)
#define PAD_ITEM_BYTES sizeof(active_answer_t) /* the largest item that a list has */

static inline pad_t
pad_new(void)
{
    pad_t pad = {malloc(PAD_LETTERS), calloc(PAD_ITEMS, PAD_ITEM_BYTES)};

    SVC_ASSERT(pad.letters != NULL && pad.items != NULL);
    memset(pad.letters, 'x', PAD_LETTERS);
    return pad;
}

static inline void
pad_free(pad_t *pad)
{
    free(pad->letters);
    free(pad->items);
}

static inline void fill_message(const pad_t *pad, const proto_schema_t *schema, bool all,
                                void *out);

/* Sets one field: a number to `n`, a text to `n` bytes, a list to `n` items, a name to the n-th. */
static inline void
set_field(const pad_t *pad, const proto_field_t *field, uint64_t n, void *msg)
{
    void *value = (char *)msg + field->where;

    switch (field->type) {
    case PROTO_BOOL: *(bool *)value = n != 0; break;
    case PROTO_U64: *(uint64_t *)value = n; break;
    case PROTO_ENUM: *(int *)value = (int)n; break;
    case PROTO_STR:
    case PROTO_BIN: *(svc_str *)value = (svc_str){pad->letters, (size_t)n}; break;
    case PROTO_LIST: {
        const proto_schema_t *item = field->sub;

        SVC_ASSERT(n <= PAD_ITEMS && item->size <= PAD_ITEM_BYTES);
        for (size_t i = 0; i < n; i++)
            fill_message(pad, item, true, pad->items + i * item->size);
        *(proto_list_t *)value = (proto_list_t){pad->items, (size_t)n};
        break;
    }
    }
}

/* Fills a message with valid values: the required fields, or all of them. */
static inline void
fill_message(const pad_t *pad, const proto_schema_t *schema, bool all, void *out)
{
    memset(out, 0, schema->size);
    for (size_t i = 0; i < schema->n_fields; i++) {
        const proto_field_t *field = &schema->fields[i];
        uint64_t n = field->min < 2 ? 2 : field->min;

        if (field->type == PROTO_BOOL || field->type == PROTO_ENUM)
            n = 1;
        if (all || field->required)
            set_field(pad, field, n, out);
    }
}

/* True when both say the same, field by field. */
static inline bool
same_message(const proto_schema_t *schema, const void *a, const void *b)
{
    for (size_t i = 0; i < schema->n_fields; i++) {
        const proto_field_t *field = &schema->fields[i];
        const void *x = (const char *)a + field->where,
                   *y = (const char *)b + field->where;
        const proto_list_t *l = x, *m = y;
        const proto_schema_t *item = field->sub;

        switch (field->type) {
        case PROTO_BOOL:
            if (*(const bool *)x != *(const bool *)y)
                return false;
            break;
        case PROTO_U64:
            if (*(const uint64_t *)x != *(const uint64_t *)y)
                return false;
            break;
        case PROTO_ENUM:
            if (*(const int *)x != *(const int *)y)
                return false;
            break;
        case PROTO_STR:
        case PROTO_BIN:
            if (!svc_str_eq(*(const svc_str *)x, *(const svc_str *)y))
                return false;
            break;
        case PROTO_LIST:
            if (l->n != m->n)
                return false;
            for (size_t k = 0; k < l->n; k++)
                if (!same_message(item, (char *)l->items + k * item->size,
                                  (char *)m->items + k * item->size))
                    return false;
            break;
        }
    }
    return true;
}

#endif
