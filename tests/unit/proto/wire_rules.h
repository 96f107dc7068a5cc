/* wire_rules.h - the rules of messages as the wire has them, and what follows from each of them.
 *
 * The codec's own tests take the bounds from the tables, so a wrong table would pass. Here a test of
 * one table says again, in plain numbers, what its messages must be; bytes are made by a small
 * writer that knows no tables. The checks below run over such rules: one row is one field. */
#ifndef TESTS_PROTO_WIRE_RULES_H
#define TESTS_PROTO_WIRE_RULES_H

#include "messages.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define WIRE_MSG_BYTES 512

/* One field of one message. */
typedef struct {
    const proto_schema_t *schema; /* of the message */
    const char *key;              /* of the field */
    proto_type type;              /* of its value */
    bool must;                    /* be there */
    uint64_t min, max;            /* of a number; bytes of a text; items of a list */
    const char *word;             /* PROTO_ENUM: one that is good */
    svc_str item;                 /* PROTO_LIST: one that is good, encoded */
} wire_rule_t;

typedef struct {
    const wire_rule_t *rules; /* of the file under test */
    size_t n;                 /* rows */
    pad_t pad;                /* what messages point to */
    proto_arena_t *arena;     /* of decoded ones */
    svc_buf_t wire;           /* bytes made by hand */
    svc_buf_t out;            /* bytes made by the codec */
    char *msg;                /* a decoded struct */
} wire_t;

/* --- a writer that knows no tables ---------------------------------------------------------- */

static inline void
put_bytes(wire_t *w, const void *p, size_t n)
{
    assert_int_equal(svc_buf_add(&w->wire, p, n), RC_OK);
}

/* `first`, then n in `size` bytes, big-endian. */
static inline void
put_wide(wire_t *w, unsigned first, uint64_t n, int size)
{
    unsigned char bytes[9] = {(unsigned char)first};

    for (int i = 0; i < size; i++)
        bytes[1 + i] = (unsigned char)(n >> 8 * (size - 1 - i));
    put_bytes(w, bytes, 1 + (size_t)size);
}

static inline void
put_number(wire_t *w, uint64_t n)
{
    n < 128 ? put_wide(w, (unsigned)n, 0, 0) : put_wide(w, 0xCF, n, 8);
}

static inline void
put_text(wire_t *w, const char *p, size_t n)
{
    n < 32 ? put_wide(w, 0xA0 | (unsigned)n, 0, 0) : put_wide(w, 0xDB, n, 4);
    put_bytes(w, p, n);
}

static inline void
put_bin(wire_t *w, const char *p, size_t n)
{
    n < 256 ? put_wide(w, 0xC4, n, 1) : put_wide(w, 0xC6, n, 4);
    put_bytes(w, p, n);
}

static inline void
put_array(wire_t *w, size_t n)
{
    n < 16 ? put_wide(w, 0x90 | (unsigned)n, 0, 0) : put_wide(w, 0xDD, n, 4);
}

/* Begins a message of n fields. */
static inline void
put_map(wire_t *w, size_t n)
{
    assert_true(n < 16);
    svc_buf_clear(&w->wire);
    put_wide(w, 0x80 | (unsigned)n, 0, 0);
}

static inline void
put_key(wire_t *w, const char *key)
{
    put_text(w, key, strlen(key));
}

/* A field with a number, a text, bytes, a flag. */
static inline void
add_number(wire_t *w, const char *key, uint64_t n)
{
    put_key(w, key);
    put_number(w, n);
}

static inline void
add_text(wire_t *w, const char *key, const char *text)
{
    put_key(w, key);
    put_text(w, text, strlen(text));
}

static inline void
add_bin(wire_t *w, const char *key, const char *text)
{
    put_key(w, key);
    put_bin(w, text, strlen(text));
}

static inline void
add_true(wire_t *w, const char *key)
{
    put_key(w, key);
    put_bytes(w, "\xC3", 1);
}

/* A field with a value of n: as number, length or count. */
static inline void
add_value(wire_t *w, const wire_rule_t *rule, uint64_t n)
{
    put_key(w, rule->key);
    switch (rule->type) {
    case PROTO_BOOL: put_bytes(w, n != 0 ? "\xC3" : "\xC2", 1); break;
    case PROTO_U64: put_number(w, n); break;
    case PROTO_STR: put_text(w, w->pad.letters, n); break;
    case PROTO_BIN: put_bin(w, w->pad.letters, n); break;
    case PROTO_ENUM: put_key(w, rule->word); break;
    case PROTO_LIST:
        put_array(w, n);
        for (uint64_t i = 0; i < n; i++)
            put_bytes(w, rule->item.p, rule->item.n);
        break;
    }
}

/* The message of a rule: everything else that must be there, and its own field so many times. */
static inline void
compose(wire_t *w, const wire_rule_t *rule, size_t times, uint64_t n)
{
    size_t others = 0;

    for (size_t i = 0; i < w->n; i++)
        others += w->rules[i].schema == rule->schema && &w->rules[i] != rule &&
                  w->rules[i].must;
    put_map(w, others + times);
    for (size_t i = 0; i < w->n; i++) {
        const wire_rule_t *other = &w->rules[i];

        if (other == rule)
            for (size_t k = 0; k < times; k++)
                add_value(w, rule, n);
        else if (other->schema == rule->schema && other->must)
            add_value(w, other, other->min);
    }
}

static inline svc_rc
read_wire(wire_t *w, const proto_schema_t *schema)
{
    assert_true(schema->size <= WIRE_MSG_BYTES);
    return proto_decode(schema, svc_buf_str(&w->wire), w->arena, w->msg);
}

static inline void
expect_read(wire_t *w, const wire_rule_t *rule, svc_rc expected, const char *what)
{
    const svc_rc rc = read_wire(w, rule->schema);

    if (rc != expected)
        fail_msg("%s.%s, %s: read as %s, not %s", rule->schema->name, rule->key, what,
                 svc_rc_info(rc)->wire, svc_rc_info(expected)->wire);
}

/* What `msg` is written as must be the bytes that were made by hand, in both directions. */
static inline void
says(wire_t *w, const proto_schema_t *schema, const void *msg)
{
    for (int i = 0; i < 2; i++) {
        svc_buf_clear(&w->out);
        assert_int_equal(proto_encode(schema, i == 0 ? msg : w->msg, &w->out), RC_OK);
        if (!svc_str_eq(svc_buf_str(&w->out), svc_buf_str(&w->wire)))
            fail_msg("%s is written otherwise%s", schema->name, i == 0 ? "" : " again");
        assert_int_equal(read_wire(w, schema), RC_OK);
    }
}

/* --- what follows from the rules ------------------------------------------------------------ */

static inline const proto_field_t *
field_of(const wire_rule_t *rule)
{
    for (size_t i = 0; i < rule->schema->n_fields; i++)
        if (strcmp(rule->schema->fields[i].key, rule->key) == 0)
            return &rule->schema->fields[i];
    fail_msg("%s has no field %s", rule->schema->name, rule->key);
    return NULL;
}

static inline void
messages_have_these_fields_and_no_others(void **state)
{
    const wire_t *w = *state;

    for (size_t i = 0; i < w->n; i++) {
        size_t same = 0;

        (void)field_of(&w->rules[i]);
        for (size_t k = 0; k < w->n; k++)
            same += w->rules[k].schema == w->rules[i].schema;
        if (same != w->rules[i].schema->n_fields)
            fail_msg("%s has %zu fields, not %zu", w->rules[i].schema->name,
                     w->rules[i].schema->n_fields, same);
    }
}

/* How a value of n must be judged. */
static inline svc_rc
verdict_on(const wire_rule_t *rule, uint64_t n)
{
    if (n == 0 && !rule->must)
        return RC_OK;
    if (n < rule->min)
        return RC_INVALID;
    if (n > rule->max)
        return rule->type == PROTO_U64 ? RC_INVALID : RC_TOO_BIG;
    return RC_OK;
}

/* Reads and writes a field with a value of n. */
static inline void
check_value_of(wire_t *w, const wire_rule_t *rule, uint64_t n)
{
    const svc_rc expected = verdict_on(rule, n);

    compose(w, rule, 1, n);
    expect_read(w, rule, expected, "at a bound");
    compose(w, rule, 1, rule->min);
    expect_read(w, rule, RC_OK, "at its minimum");
    set_field(&w->pad, field_of(rule), n, w->msg);
    svc_buf_clear(&w->out);
    assert_int_equal(svc_buf_add(&w->out, "keep", 4), RC_OK);
    const svc_rc rc = proto_encode(rule->schema, w->msg, &w->out);
    if (rc != expected)
        fail_msg("%s.%s at %ju: written as %s, not %s", rule->schema->name, rule->key,
                 (uintmax_t)n, svc_rc_info(rc)->wire, svc_rc_info(expected)->wire);
    assert_memory_equal(w->out.p, "keep", 4);
    assert_int_equal(w->out.n > 4, expected == RC_OK);
}

static inline void
a_value_past_its_bounds_is_neither_read_nor_written(void **state)
{
    wire_t *w = *state;

    for (size_t i = 0; i < w->n; i++) {
        const wire_rule_t *rule = &w->rules[i];

        if (rule->type == PROTO_BOOL || rule->type == PROTO_ENUM)
            continue;
        check_value_of(w, rule, 0);
        if (rule->min > 0)
            check_value_of(w, rule, rule->min - 1);
        check_value_of(w, rule, rule->min);
        check_value_of(w, rule, rule->max);
        if (rule->max != UINT64_MAX)
            check_value_of(w, rule, rule->max + 1);
    }
}

static inline void
a_field_that_must_be_there_is_missed_and_any_other_is_not(void **state)
{
    wire_t *w = *state;

    for (size_t i = 0; i < w->n; i++) {
        const wire_rule_t *rule = &w->rules[i];

        compose(w, rule, 0, 0);
        memset(w->msg, 0x55, WIRE_MSG_BYTES);
        expect_read(w, rule, rule->must ? RC_INVALID : RC_OK, "left out");
        if (rule->must)
            assert_int_equal(w->msg[0], 0x55);
    }
}

static inline void
a_field_that_comes_twice_is_refused(void **state)
{
    wire_t *w = *state;

    for (size_t i = 0; i < w->n; i++) {
        compose(w, &w->rules[i], 1, w->rules[i].min);
        expect_read(w, &w->rules[i], RC_OK, "once");
        compose(w, &w->rules[i], 2, w->rules[i].min);
        expect_read(w, &w->rules[i], RC_INVALID, "twice");
    }
}

static inline void
a_value_of_another_type_is_refused(void **state)
{
    static const struct {
        svc_str bytes;
        int type; /* that it would be good for; -1: none */
    } values[] = {
        {SVC_LIT("\xC0"), -1},
        {SVC_LIT("\xC3"), PROTO_BOOL},
        {SVC_LIT("\x01"), PROTO_U64},
        {SVC_LIT("\xFF"), -1},
        {SVC_LIT("\xD3\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), -1},
        {SVC_LIT("\xCB\x3F\xF0\x00\x00\x00\x00\x00\x00"), -1},
        {SVC_LIT("\xA1x"), PROTO_STR},
        {SVC_LIT("\xC4\x01x"), PROTO_BIN},
        {SVC_LIT("\xD4\x01x"), -1},
        {SVC_LIT("\x90"), PROTO_LIST},
        {SVC_LIT("\x91\x01"), -1},
        {SVC_LIT("\x91\x80"), -1},
        {SVC_LIT("\x80"), -1},
    };
    wire_t *w = *state;

    for (size_t i = 0; i < w->n; i++)
        for (size_t k = 0; k < SVC_COUNT(values); k++) {
            const wire_rule_t *rule = &w->rules[i];

            if (values[k].type == (int)rule->type)
                continue;
            compose(w, rule, 0, 0);
            w->wire.p[0]++; /* one field more */
            put_key(w, rule->key);
            put_bytes(w, values[k].bytes.p, values[k].bytes.n);
            expect_read(w, rule, RC_INVALID, "another type");
        }
}

static inline void
fields_of_a_newer_writer_are_skipped_unless_they_are_nested_too_deep(void **state)
{
    wire_t *w = *state;

    for (size_t i = 0; i < w->n; i++)
        for (size_t depth = 0; depth <= PROTO_DEPTH_MAX; depth++) {
            compose(w, &w->rules[i], 1, w->rules[i].min);
            w->wire.p[0]++;
            put_key(w, "newer");
            for (size_t k = 0; k < depth; k++)
                put_array(w, 1);
            put_number(w, 1);
            expect_read(w, &w->rules[i], depth < PROTO_DEPTH_MAX ? RC_OK : RC_INVALID,
                        "beside a newer field");
        }
}

/* --- the world of such a test ---------------------------------------------------------------- */

static inline int
wire_set_up(void **state, const wire_rule_t *rules, size_t n)
{
    wire_t *w = svc_alloc(sizeof(*w));

    w->rules = rules;
    w->n = n;
    w->pad = pad_new();
    w->arena = proto_arena_new();
    svc_buf_init(&w->wire, PROTO_MESSAGE_MAX_BYTES);
    svc_buf_init(&w->out, PROTO_MESSAGE_MAX_BYTES);
    w->msg = svc_alloc(WIRE_MSG_BYTES);
    *state = w;
    return 0;
}

static inline int
wire_tear_down(void **state)
{
    wire_t *w = *state;

    pad_free(&w->pad);
    proto_arena_destroy(&w->arena);
    svc_buf_fini(&w->wire);
    svc_buf_fini(&w->out);
    free(w->msg);
    free(w);
    return 0;
}

// clang-format off
#define WIRE_RULE_TESTS \
    cmocka_unit_test(messages_have_these_fields_and_no_others), \
    cmocka_unit_test(a_value_past_its_bounds_is_neither_read_nor_written), \
    cmocka_unit_test(a_field_that_must_be_there_is_missed_and_any_other_is_not), \
    cmocka_unit_test(a_field_that_comes_twice_is_refused), \
    cmocka_unit_test(a_value_of_another_type_is_refused), \
    cmocka_unit_test(fields_of_a_newer_writer_are_skipped_unless_they_are_nested_too_deep)
// clang-format on

#endif
