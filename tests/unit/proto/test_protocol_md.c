/* test_protocol_md.c - PROTOCOL.md says what the tables say, and its examples are true.
 *
 * For each row of the document the line that it must be is made from the schemas, the operations and
 * the table of results; what differs, is missing or is too much fails. Every example is decoded,
 * printed, compared with the line below it, and encoded back to the same bytes. With a folder as
 * its argument the program writes the examples there as seeds of the fuzz target instead. */
#include "messages.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define DOCUMENT           "proto/PROTOCOL.md"
#define DOCUMENT_MAX_BYTES (1u << 20)
#define LINE_MAX_BYTES     4096
#define MSG_BYTES          512

/* --- the document as lines -------------------------------------------------------------- */

typedef struct {
    char *text;   /* owned, line ends are zeros */
    char **lines; /* owned, into text */
    size_t n;     /* lines */
} document_t;

static int
load(void **state)
{
    document_t *doc = svc_alloc(sizeof(*doc));
    FILE *file = fopen(DOCUMENT, "r");
    char *save = NULL;
    size_t n;

    if (file == NULL)
        return -1;
    doc->text = svc_alloc(DOCUMENT_MAX_BYTES + 1);
    n = fread(doc->text, 1, DOCUMENT_MAX_BYTES, file);
    fclose(file);
    doc->lines = svc_alloc((n + 1) * sizeof(char *));
    for (char *p = doc->text; p < doc->text + n; p = save) {
        save = strchr(p, '\n');
        if (save == NULL)
            save = p + strlen(p);
        *save++ = '\0';
        doc->lines[doc->n++] = p;
    }
    *state = doc;
    return 0;
}

static int
unload(void **state)
{
    document_t *doc = *state;

    if (doc == NULL)
        return 0;
    free(doc->text);
    free(doc->lines);
    free(doc);
    return 0;
}

static bool
starts_with(const char *line, const char *prefix)
{
    return strncmp(line, prefix, strlen(prefix)) == 0;
}

/* The only line from `from` on that starts with `prefix`; fails when there is none or more of them. */
static size_t
find_line(const document_t *doc, const char *prefix)
{
    size_t found = doc->n;

    for (size_t i = 0; i < doc->n; i++)
        if (starts_with(doc->lines[i], prefix)) {
            if (found != doc->n)
                fail_msg("%s:%zu says '%s' again", DOCUMENT, i + 1, prefix);
            found = i;
        }
    if (found == doc->n)
        fail_msg("%s has no '%s'", DOCUMENT, prefix);
    return found;
}

static const char *
line_at(const document_t *doc, size_t i)
{
    return i < doc->n ? doc->lines[i] : "";
}

static size_t
count_lines(const document_t *doc, const char *prefix)
{
    size_t n = 0;

    for (size_t i = 0; i < doc->n; i++)
        n += starts_with(doc->lines[i], prefix);
    return n;
}

/* --- tables ----------------------------------------------------------------------------- */

static const char *
number_text(uint64_t n, char out[32])
{
    if (n == PROTO_ID_MAX)
        return "2^53-1";
    if (n == UINT64_MAX)
        return "2^64-1";
    snprintf(out, 32, "%ju", (uintmax_t)n);
    return out;
}

static void
bound_text(const proto_field_t *field, char out[LINE_MAX_BYTES])
{
    static const char *const units[] = {[PROTO_U64] = "",
                                        [PROTO_STR] = " bytes",
                                        [PROTO_BIN] = " bytes",
                                        [PROTO_LIST] = " items"};
    const char *const *names = field->sub;
    char low[32], high[32];
    size_t n = 0;

    if (field->type == PROTO_BOOL)
        snprintf(out, LINE_MAX_BYTES, "-");
    else if (field->type == PROTO_ENUM)
        for (size_t i = 0; names[i] != NULL; i++)
            n += (size_t)snprintf(out + n, LINE_MAX_BYTES - n, "%s%s", i == 0 ? "" : ", ",
                                  names[i]);
    else if (field->min == field->max)
        snprintf(out, LINE_MAX_BYTES, "%s%s", number_text(field->min, low),
                 units[field->type]);
    else
        snprintf(out, LINE_MAX_BYTES, "%s..%s%s", number_text(field->min, low),
                 number_text(field->max, high), units[field->type]);
}

static void
row_text(const proto_field_t *field, char out[LINE_MAX_BYTES])
{
    static const char *const types[] = {"bool", "u64", "str", "bin", "enum", "list of "};
    char bound[LINE_MAX_BYTES];
    const proto_schema_t *item = field->sub;

    bound_text(field, bound);
    snprintf(out, LINE_MAX_BYTES, "| %s | %s%s | %.2048s | %s | ", field->key,
             types[field->type], field->type == PROTO_LIST ? item->name : "", bound,
             field->required ? "yes" : "no");
}

static void
every_message_has_the_table_of_its_schema(void **state)
{
    const document_t *doc = *state;
    char want[LINE_MAX_BYTES];

    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++) {
        const proto_schema_t *schema = all_schemas[i];
        size_t at;

        snprintf(want, sizeof(want), "**%s**", schema->name);
        at = find_line(doc, want);
        if (schema->n_fields == 0)
            continue;
        at += 4; /* name, blank, heads, rule */
        for (size_t k = 0; k < schema->n_fields; k++, at++) {
            row_text(&schema->fields[k], want);
            if (!starts_with(line_at(doc, at), want))
                fail_msg("%s:%zu should begin with '%s' (%s)", DOCUMENT, at + 1, want,
                         schema->name);
            assert_true(strlen(line_at(doc, at)) > strlen(want) + 2);
        }
        if (line_at(doc, at)[0] == '|')
            fail_msg("%s:%zu is not in the table of %s", DOCUMENT, at + 1, schema->name);
    }
    assert_int_equal(count_lines(doc, "**"), SVC_COUNT(all_schemas));
}

static void
every_operation_has_a_section_that_names_its_messages(void **state)
{
    const document_t *doc = *state;
    char want[LINE_MAX_BYTES];

    for (size_t i = 0; i < SVC_COUNT(all_operations); i++) {
        const operation_t *op = &all_operations[i];
        const char *rep = op->rep == NULL ? "none" : op->rep->name;
        const char *tick = op->rep == NULL ? "" : "`";
        size_t at;

        snprintf(want, sizeof(want), "### %s", op->op);
        at = find_line(doc, want);
        assert_string_equal(line_at(doc, at), want);
        snprintf(want, sizeof(want), " Request: `%s`. Reply: %s%s%s.", op->req->name,
                 tick, rep, tick);
        assert_true(starts_with(line_at(doc, at + 4), "Callers: "));
        if (strstr(line_at(doc, at + 4), want) == NULL)
            fail_msg("%s:%zu should say '%s'", DOCUMENT, at + 5, want);
    }
    assert_int_equal(count_lines(doc, "### "), SVC_COUNT(all_operations));
}

static void
the_table_of_errors_is_the_table_of_results(void **state)
{
    const document_t *doc = *state;
    size_t at = find_line(doc, "| code | HTTP | again |") + 2;
    char want[LINE_MAX_BYTES];

    for (int rc = 0; rc < RC_COUNT; rc++) {
        const svc_rc_info_t *info = svc_rc_info((svc_rc)rc);

        if (rc == RC_LATER)
            continue;
        snprintf(want, sizeof(want), "| %s | %d | %s | ", info->wire, info->http,
                 info->retry ? "yes" : "no");
        if (!starts_with(line_at(doc, at++), want))
            fail_msg("%s:%zu should begin with '%s'", DOCUMENT, at, want);
    }
    assert_string_equal(line_at(doc, at), "");
}

static void
the_limits_are_those_of_the_header(void **state)
{
    static const struct {
        const char *name;
        uint64_t value;
    } limits[] = {
        {"PROTO_VERSION", PROTO_VERSION},
        {"PROTO_MESSAGE_MAX_BYTES", PROTO_MESSAGE_MAX_BYTES},
        {"PROTO_ENVELOPE_MAX_BYTES", PROTO_ENVELOPE_MAX_BYTES},
        {"PROTO_DEPTH_MAX", PROTO_DEPTH_MAX},
        {"PROTO_OP_MAX_BYTES", PROTO_OP_MAX_BYTES},
        {"PROTO_STREAM_BYTES", PROTO_STREAM_BYTES},
        {"PROTO_TRACE_BYTES", PROTO_TRACE_BYTES},
        {"PROTO_PIECE_MAX_BYTES", PROTO_PIECE_MAX_BYTES},
        {"PROTO_PROMPT_MAX_BYTES", PROTO_PROMPT_MAX_BYTES},
    };
    const document_t *doc = *state;
    char want[LINE_MAX_BYTES];

    for (size_t i = 0; i < SVC_COUNT(limits); i++) {
        snprintf(want, sizeof(want), "| %s | %ju | ", limits[i].name,
                 (uintmax_t)limits[i].value);
        find_line(doc, want);
    }
    assert_int_equal(count_lines(doc, "| PROTO_"), SVC_COUNT(limits));
}

/* --- examples --------------------------------------------------------------------------- */

typedef struct {
    char kind[64];       /* "envelope", "token" or a schema's name */
    char bytes[4096];    /* of the dump */
    size_t n;            /* bytes */
    const char *meaning; /* the line after "= " */
    size_t line;         /* of its fence, from 1 */
} example_t;

static void
add_hex(const document_t *doc, size_t at, example_t *out)
{
    for (const char *p = line_at(doc, at); *p != '\0'; p++) {
        unsigned value = 0;

        if (*p == ' ')
            continue;
        if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) ||
            out->n == sizeof(out->bytes) || sscanf(p, "%2x", &value) != 1)
            fail_msg("%s:%zu is no hexadecimal dump", DOCUMENT, at + 1);
        out->bytes[out->n++] = (char)value;
        p++;
    }
}

/* Reads the example at or after line *at_p and moves it past; false when there is none left. */
static bool
next_example(const document_t *doc, size_t *at_p, example_t *out)
{
    size_t at = *at_p;

    while (at < doc->n && !starts_with(doc->lines[at], "```wire "))
        at++;
    if (at == doc->n)
        return false;
    out->n = 0;
    out->line = at + 1;
    snprintf(out->kind, sizeof(out->kind), "%s", doc->lines[at] + strlen("```wire "));
    for (at++; at < doc->n && !starts_with(doc->lines[at], "= "); at++)
        add_hex(doc, at, out);
    out->meaning = line_at(doc, at) + 2;
    *at_p = at + 1;
    return true;
}

static void
put(svc_buf_t *out, const char *text)
{
    assert_int_equal(svc_buf_add_str(out, svc_str_c(text)), RC_OK);
}

static void
show_number(svc_buf_t *out, uint64_t n)
{
    assert_int_equal(svc_buf_printf(out, "%ju", (uintmax_t)n), RC_OK);
}

static void
show_str(svc_buf_t *out, svc_str s)
{
    put(out, "\"");
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            put(out, "\\");
        assert_int_equal(svc_buf_add(out, s.p + i, 1), RC_OK);
    }
    put(out, "\"");
}

static void
show_bin(svc_buf_t *out, svc_str s)
{
    put(out, "h'");
    for (size_t i = 0; i < s.n; i++)
        assert_int_equal(svc_buf_printf(out, "%02x", (unsigned char)s.p[i]), RC_OK);
    put(out, "'");
}

static void show_message(svc_buf_t *out, const proto_schema_t *schema, const void *msg);

static void
show_value(svc_buf_t *out, const proto_field_t *field, const void *value)
{
    const proto_list_t *list = value;
    const proto_schema_t *item = field->sub;

    switch (field->type) {
    case PROTO_BOOL: put(out, *(const bool *)value ? "true" : "false"); break;
    case PROTO_U64: show_number(out, *(const uint64_t *)value); break;
    case PROTO_STR: show_str(out, *(const svc_str *)value); break;
    case PROTO_BIN: show_bin(out, *(const svc_str *)value); break;
    case PROTO_ENUM:
        show_str(out, svc_str_c(((const char *const *)field->sub)[*(const int *)value]));
        break;
    case PROTO_LIST:
        put(out, "[");
        for (size_t i = 0; i < list->n; i++) {
            put(out, i == 0 ? "" : ", ");
            show_message(out, item, (const char *)list->items + i * item->size);
        }
        put(out, "]");
        break;
    }
}

/* Prints what is written on the wire: an absent field is a zero one. */
static void
show_message(svc_buf_t *out, const proto_schema_t *schema, const void *msg)
{
    static const char zero[sizeof(svc_str)];
    const char *comma = "";

    put(out, "{");
    for (size_t i = 0; i < schema->n_fields; i++) {
        const proto_field_t *field = &schema->fields[i];
        const char *value = (const char *)msg + field->where;
        const size_t size = field->type == PROTO_BOOL   ? sizeof(bool)
                            : field->type == PROTO_ENUM ? sizeof(int)
                                                        : sizeof(uint64_t);
        const bool is_text = field->type == PROTO_STR || field->type == PROTO_BIN;

        if (!field->required && (is_text ? ((const svc_str *)(const void *)value)->n == 0
                                         : memcmp(value, zero, size) == 0))
            continue;
        put(out, comma);
        show_str(out, svc_str_c(field->key));
        put(out, ": ");
        show_value(out, field, value);
        comma = ", ";
    }
    put(out, "}");
}

static void
show_envelope(svc_buf_t *out, const proto_envelope_t *e)
{
    assert_int_equal(svc_buf_printf(out, "[%ju, %ju, %ju", (uintmax_t)e->version,
                                    (uintmax_t)e->kind, (uintmax_t)e->id),
                     RC_OK);
    if (e->kind == PROTO_REQUEST) {
        put(out, ", ");
        show_str(out, e->op);
        put(out, ", ");
        show_bin(out, e->trace);
        put(out, ", ");
        show_number(out, e->expires_ms);
    }
    put(out, "]");
}

static void
show_token(svc_buf_t *out, const proto_token_t *t)
{
    show_number(out, t->version);
    put(out, ", ");
    show_bin(out, t->stream);
    assert_int_equal(svc_buf_printf(out, ", %ju, %ju, %ju, ", (uintmax_t)t->fence,
                                    (uintmax_t)t->offset, (uintmax_t)t->kind),
                     RC_OK);
    show_bin(out, t->bytes);
}

static const proto_schema_t *
schema_called(const char *name)
{
    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++)
        if (strcmp(all_schemas[i]->name, name) == 0)
            return all_schemas[i];
    return NULL;
}

/* Decodes an example, prints it, and encodes it again. */
static svc_rc
there_and_back(const example_t *example, proto_arena_t *arena, svc_buf_t *text,
               svc_buf_t *bytes)
{
    const proto_schema_t *schema = schema_called(example->kind);
    const svc_str in = {example->bytes, example->n};
    union {
        proto_envelope_t envelope;
        proto_token_t token;
        char msg[MSG_BYTES];
    } out;

    if (strcmp(example->kind, "envelope") == 0) {
        svc_str body;
        if (proto_envelope_decode(in, &out.envelope, &body) != RC_OK || body.n != 0)
            return RC_INVALID;
        show_envelope(text, &out.envelope);
        return proto_envelope_encode(&out.envelope, bytes);
    }
    if (strcmp(example->kind, "token") == 0) {
        if (proto_token_decode(in, &out.token) != RC_OK)
            return RC_INVALID;
        put(text, "[");
        show_token(text, &out.token);
        put(text, "]");
        return proto_token_encode(&out.token, bytes);
    }
    if (schema == NULL || proto_decode(schema, in, arena, &out) != RC_OK)
        return RC_INVALID;
    show_message(text, schema, &out);
    return proto_encode(schema, &out, bytes);
}

static void
every_example_says_what_stands_below_it(void **state)
{
    const document_t *doc = *state;
    proto_arena_t *arena = proto_arena_new();
    svc_buf_t text, bytes;
    example_t example;
    size_t at = 0;

    svc_buf_init(&text, LINE_MAX_BYTES);
    svc_buf_init(&bytes, LINE_MAX_BYTES);
    while (next_example(doc, &at, &example)) {
        svc_buf_clear(&text);
        svc_buf_clear(&bytes);
        if (there_and_back(&example, arena, &text, &bytes) != RC_OK)
            fail_msg("%s:%zu is no %s", DOCUMENT, example.line, example.kind);
        if (!svc_str_eq(svc_buf_str(&text), svc_str_c(example.meaning)))
            fail_msg("%s:%zu says %.*s", DOCUMENT, example.line, (int)text.n, text.p);
        if (!svc_str_eq(svc_buf_str(&bytes), (svc_str){example.bytes, example.n}))
            fail_msg("%s:%zu encodes to other bytes", DOCUMENT, example.line);
    }
    svc_buf_fini(&text);
    svc_buf_fini(&bytes);
    proto_arena_destroy(&arena);
}

static void
every_message_has_an_example(void **state)
{
    char want[LINE_MAX_BYTES];
    size_t n = 0;

    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++) {
        const document_t *doc = *state;
        bool found = false;

        snprintf(want, sizeof(want), "```wire %s", all_schemas[i]->name);
        for (size_t k = 0; k < doc->n; k++)
            found = found || strcmp(doc->lines[k], want) == 0;
        if (!found)
            fail_msg("%s has no example of %s", DOCUMENT, all_schemas[i]->name);
        n++;
    }
    assert_true(count_lines(*state, "```wire envelope") >= 2);
    assert_true(count_lines(*state, "```wire token") >= 1);
    assert_true(count_lines(*state, "```wire ") > n);
}

/* The first byte of a seed is the row of all_schemas, or past it 0 for an envelope and 1 for a token. */
static int
write_seeds(const document_t *doc, const char *folder)
{
    example_t example;
    size_t at = 0, n = 0;

    while (next_example(doc, &at, &example)) {
        char path[LINE_MAX_BYTES];
        FILE *file;
        int row = (int)SVC_COUNT(all_schemas) + (strcmp(example.kind, "token") == 0);

        for (size_t i = 0; i < SVC_COUNT(all_schemas); i++)
            if (strcmp(all_schemas[i]->name, example.kind) == 0)
                row = (int)i;
        snprintf(path, sizeof(path), "%.1024s/%s-%zu", folder, example.kind, n++);
        file = fopen(path, "wb");
        if (file == NULL)
            return 1;
        fputc(row, file);
        fwrite(example.bytes, 1, example.n, file);
        fclose(file);
    }
    return 0;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_has_the_table_of_its_schema),
        cmocka_unit_test(every_operation_has_a_section_that_names_its_messages),
        cmocka_unit_test(the_table_of_errors_is_the_table_of_results),
        cmocka_unit_test(the_limits_are_those_of_the_header),
        cmocka_unit_test(every_example_says_what_stands_below_it),
        cmocka_unit_test(every_message_has_an_example),
    };

    if (argc == 2) {
        void *state = NULL;
        int code = load(&state) == 0 ? write_seeds(state, argv[1]) : 1;

        unload(&state);
        return code;
    }
    return cmocka_run_group_tests(tests, load, unload);
}
