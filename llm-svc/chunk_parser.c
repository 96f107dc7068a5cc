/* chunk_parser.c - walks a chunk once and picks the few fields that matter.
 *
 * Only exact places count: a "content" inside logprobs, or beside choices, is not the
 * answer's. Where a key comes twice the last one wins, as in every JSON library. Of
 * several choices only the first is read, since only one was asked for. */
#include "chunk_parser.h"

#include "json_cursor.h"
#include "proto/utf8.h"

#include <stdlib.h>

#define KEY_MAX_BYTES 64 /* of a key with escapes; longer ones are none of ours */

/* What the walk finds besides the chunk itself. */
typedef struct {
    chunk_t chunk;    /* to be given */
    bool has_choices; /* the key was there and no null */
    svc_str message;  /* raw: message or detail at the top, where some put their errors */
    bool is_failure;  /* "object": "error" at the top */
} walk_t;

/* True when the raw string with escapes says `name`. */
static bool
escaped_is(svc_str raw, svc_str name)
{
    if (raw.n > KEY_MAX_BYTES * 6)
        return false;

    text_decoder_t decoder = {0};
    svc_buf_t plain;
    svc_buf_init(&plain, KEY_MAX_BYTES);
    bool same = text_decoder_json(&decoder, raw, &plain) == RC_OK &&
                text_decoder_end(&decoder, &plain) == RC_OK &&
                svc_str_eq(svc_buf_str(&plain), name);
    svc_buf_fini(&plain);
    return same;
}

/* True when the raw key, which `c` took last, says the literal `name`, escapes or not. A macro, so that
 * comparing with what it mostly is not costs no call: chunks are thousands a second. */
#define KEY_IS(c, raw, name)                                                          \
    (((raw).n == sizeof(name) - 1 && memcmp((raw).p, name, sizeof(name) - 1) == 0) || \
     ((c)->escaped && escaped_is((raw), SVC_LIT(name))))

/* True when the raw value says `name`, escapes or not. */
static bool
value_is(svc_str raw, svc_str name)
{
    if (raw.n == 0 || memchr(raw.p, '\\', raw.n) == NULL)
        return svc_str_eq(raw, name);
    return escaped_is(raw, name);
}

/* Takes the value: a string into *out, anything else leaves it empty (null unsets it,
 * too). */
static void
take_string(json_cursor_t *c, svc_str *out)
{
    *out = (svc_str){NULL, 0};
    if (json_cursor_peek(c) == JSON_STRING)
        (void)json_cursor_string(c, out);
    else
        (void)json_cursor_skip(c);
}

/* Takes the value: a whole number into *out, anything else leaves it 0. */
static void
take_count(json_cursor_t *c, uint64_t *out)
{
    svc_str digits = {NULL, 0};
    uint64_t value = 0;

    *out = 0;
    if (json_cursor_peek(c) != JSON_NUMBER) {
        if (json_cursor_peek(c) != JSON_STRING) {
            (void)json_cursor_skip(c);
            return;
        }
        (void)json_cursor_string(c, &digits); /* "code": "429" */
    } else {
        (void)json_cursor_number(c, &digits);
    }
    for (size_t i = 0; i < digits.n; i++) {
        char d = digits.p[i];
        if (d == '.')
            break; /* 12.0 */
        if (d < '0' || d > '9' || value > PROTO_ID_MAX / 10 - 1)
            return;
        value = value * 10 + (uint64_t)(d - '0');
    }
    *out = value;
}

/* Takes the next part of an open array: its text, empty if it has none. False: there is no more. */
static bool
take_part(json_cursor_t *c, bool *first, svc_str *text)
{
    bool first_member = true;
    svc_str key, type = {NULL, 0};

    *text = (svc_str){NULL, 0};
    if (!json_cursor_item(c, first))
        return false;
    if (json_cursor_peek(c) != JSON_OBJECT) {
        (void)json_cursor_skip(c);
        return true;
    }
    (void)json_cursor_enter(c);
    while (json_cursor_member(c, &first_member, &key)) {
        if (KEY_IS(c, key, "type"))
            take_string(c, &type);
        else if (KEY_IS(c, key, "text"))
            take_string(c, text);
        else
            (void)json_cursor_skip(c);
    }
    if (type.n > 0 && !value_is(type, SVC_LIT("text")))
        *text = (svc_str){NULL, 0};
    return true;
}

/* A string, or an array of parts: that one is kept whole, if there is text in it. */
static void
take_content(json_cursor_t *c, chunk_t *out)
{
    bool first = true, has_text = false;
    svc_str text;

    out->is_parts = false;
    if (json_cursor_peek(c) != JSON_ARRAY) {
        take_string(c, &out->content);
        return;
    }
    const char *start = c->p;
    (void)json_cursor_enter(c);
    while (take_part(c, &first, &text))
        has_text = has_text || text.n > 0;
    out->is_parts = has_text;
    out->content = has_text ? (svc_str){start, (size_t)(c->p - start)}
                            : (svc_str){NULL, 0};
}

/* delta or message: the text is in its content. */
static void
take_delta(json_cursor_t *c, chunk_t *out)
{
    bool first = true;
    svc_str key;

    if (json_cursor_peek(c) != JSON_OBJECT) {
        (void)json_cursor_skip(c);
        return;
    }
    (void)json_cursor_enter(c);
    while (json_cursor_member(c, &first, &key)) {
        if (KEY_IS(c, key, "content"))
            take_content(c, out);
        else
            (void)json_cursor_skip(c);
    }
}

static void
take_choice(json_cursor_t *c, chunk_t *out)
{
    bool first = true;
    chunk_t whole = {0};
    svc_str key;

    if (json_cursor_peek(c) != JSON_OBJECT) {
        (void)json_cursor_skip(c);
        return;
    }
    (void)json_cursor_enter(c);
    while (json_cursor_member(c, &first, &key)) {
        if (KEY_IS(c, key, "delta"))
            take_delta(c, out);
        else if (KEY_IS(c, key, "message"))
            take_delta(c, &whole);
        else if (KEY_IS(c, key, "finish_reason"))
            take_string(c, &out->finish);
        else
            (void)json_cursor_skip(c);
    }
    if (out->content.n == 0) {
        out->content = whole.content;
        out->is_parts = whole.is_parts;
    }
}

static void
take_choices(json_cursor_t *c, walk_t *walk)
{
    bool first = true;
    size_t at = 0;

    walk->has_choices = json_cursor_peek(c) == JSON_ARRAY;
    if (!walk->has_choices) {
        (void)json_cursor_skip(c);
        return;
    }
    (void)json_cursor_enter(c);
    while (json_cursor_item(c, &first)) {
        if (at++ == 0)
            take_choice(c, &walk->chunk);
        else
            (void)json_cursor_skip(c);
    }
}

static void
take_usage(json_cursor_t *c, chunk_t *out)
{
    bool first = true;
    svc_str key;

    if (json_cursor_peek(c) != JSON_OBJECT) {
        (void)json_cursor_skip(c);
        return;
    }
    (void)json_cursor_enter(c);
    out->has_usage = true;
    while (json_cursor_member(c, &first, &key)) {
        if (KEY_IS(c, key, "prompt_tokens"))
            take_count(c, &out->usage.prompt);
        else if (KEY_IS(c, key, "completion_tokens"))
            take_count(c, &out->usage.completion);
        else if (KEY_IS(c, key, "total_tokens"))
            take_count(c, &out->usage.total);
        else
            (void)json_cursor_skip(c);
    }
}

/* error: an object with a message, a bare string, or null and false for "none". */
static void
take_error(json_cursor_t *c, chunk_t *out)
{
    bool first = true;
    svc_str key;
    json_kind kind = json_cursor_peek(c);

    if (kind == JSON_NULL || kind == JSON_BOOL) {
        (void)json_cursor_skip(c);
        return;
    }
    out->is_error = true;
    if (kind != JSON_OBJECT) {
        take_string(c, &out->error);
        return;
    }
    (void)json_cursor_enter(c);
    while (json_cursor_member(c, &first, &key)) {
        if (KEY_IS(c, key, "message"))
            take_string(c, &out->error);
        else if (KEY_IS(c, key, "code"))
            take_count(c, &out->error_status);
        else
            (void)json_cursor_skip(c);
    }
}

static void
take_kind(json_cursor_t *c, walk_t *walk)
{
    svc_str kind;

    take_string(c, &kind);
    walk->is_failure = kind.n > 0 && value_is(kind, SVC_LIT("error"));
}

static void
take_top(json_cursor_t *c, walk_t *walk)
{
    bool first = true;
    svc_str key;

    (void)json_cursor_enter(c);
    while (json_cursor_member(c, &first, &key)) {
        if (KEY_IS(c, key, "choices"))
            take_choices(c, walk);
        else if (KEY_IS(c, key, "usage"))
            take_usage(c, &walk->chunk);
        else if (KEY_IS(c, key, "error"))
            take_error(c, &walk->chunk);
        else if (KEY_IS(c, key, "message") || KEY_IS(c, key, "detail"))
            take_string(c, &walk->message);
        else if (KEY_IS(c, key, "object"))
            take_kind(c, walk);
        else
            (void)json_cursor_skip(c);
    }
}

/* A list holds an error object in some dialects: its first item counts. */
static void
take_list(json_cursor_t *c, walk_t *walk)
{
    bool first = true;
    size_t at = 0;

    (void)json_cursor_enter(c);
    while (json_cursor_item(c, &first)) {
        if (at++ == 0 && json_cursor_peek(c) == JSON_OBJECT)
            take_top(c, walk);
        else
            (void)json_cursor_skip(c);
    }
}

/* One JSON value or [DONE] at the start of `rest`. */
static svc_rc
walk_next(svc_str *rest, walk_t *walk)
{
    static const svc_str done = {"[DONE]", 6};
    json_cursor_t c;

    *walk = (walk_t){0};
    json_cursor_init(&c, *rest);
    if (json_cursor_at_end(&c))
        return RC_NOT_FOUND;
    if ((size_t)(c.end - c.p) >= done.n && memcmp(c.p, done.p, done.n) == 0) {
        walk->chunk.done = true;
        c.p += done.n;
    } else if (json_cursor_peek(&c) == JSON_OBJECT) {
        take_top(&c, walk);
    } else if (json_cursor_peek(&c) == JSON_ARRAY) {
        take_list(&c, walk);
    } else {
        (void)json_cursor_skip(&c);
    }
    if (c.failed)
        return RC_INVALID;
    *rest = (svc_str){c.p, (size_t)(c.end - c.p)};
    return RC_OK;
}

svc_rc
chunk_next(svc_str *rest, chunk_t *out)
{
    walk_t walk;
    svc_rc rc = walk_next(rest, &walk);

    if (rc != RC_OK)
        return rc;
    *out = walk.chunk;
    if (!out->is_error && !walk.has_choices && walk.is_failure) {
        out->is_error = true;
        out->error = walk.message;
    }
    return RC_OK;
}

svc_rc
chunk_text(const chunk_t *chunk, text_decoder_t *decoder, svc_buf_t *out)
{
    json_cursor_t c;
    bool first = true;
    svc_str text;
    svc_rc rc = RC_OK;

    if (!chunk->is_parts)
        return text_decoder_json(decoder, chunk->content, out);
    json_cursor_init(&c, chunk->content);
    (void)json_cursor_enter(&c);
    while (rc == RC_OK && take_part(&c, &first, &text))
        if (text.n > 0)
            rc = text_decoder_json(decoder, text, out);
    return rc;
}

void
chunk_put_text(svc_str raw, size_t max, svc_buf_t *out)
{
    text_decoder_t decoder = {0};
    svc_buf_t text;

    if (raw.n > 6 * max + 6)
        raw.n = 6 * max +
                6; /* an escape takes 6 bytes; one that is cut here is past max */
    svc_buf_init(&text, 3 * raw.n + 8); /* U+FFFD is the longest that one byte becomes */
    if (text_decoder_json(&decoder, raw, &text) == RC_OK)
        (void)!text_decoder_end(&decoder, &text);
    size_t n = text.n > max ? svc_utf8_valid(text.p, max) : text.n;
    if (n > 0)
        (void)!svc_buf_add(out, text.p, n);
    svc_buf_fini(&text);
}

bool
chunk_error_text(svc_str body, size_t max, svc_buf_t *out)
{
    walk_t walk;
    svc_str raw;

    if (walk_next(&body, &walk) != RC_OK)
        return false;
    raw = walk.chunk.error.n > 0 ? walk.chunk.error : walk.message;
    if (raw.n == 0)
        return false;
    chunk_put_text(raw, max, out);
    return true;
}
