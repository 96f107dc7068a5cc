/* bench_chat.c - one answer as it streams in, checked byte by byte.
 *
 * Strict where the bench is sure: events come in the form that the gateway writes, since a form
 * that changes should be noticed here, too. */
#include "bench_chat.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CARRY_MAX_BYTES (64u << 20) /* full_response is one line */

#define MESSAGE "{\"event\":\"message\",\"data\":\""
#define FULL    "{\"event\":\"full_response\",\"data\":\""
#define DONE    "{\"event\":\"done\",\"data\":\"Stream finished\""
#define ERROR   "{\"event\":\"error\""
#define CONTENT "\"delta\":{\"content\":\""

void
bench_chat_begin(bench_chat_t *self, bench_chat_kind kind, const bench_model_t *model,
                 bench_hist_t *latency)
{
    char *carry = self->carry;
    size_t cap = self->carry_cap;

    *self = (bench_chat_t){
        .kind = kind, .latency = latency, .carry = carry, .carry_cap = cap};
    bench_check_init(&self->text, model);
    bench_check_init(&self->full, model);
}

static bool __attribute__((format(printf, 3, 4)))
fail(bench_chat_t *self, bool is_wrong, const char *format, ...)
{
    va_list args;

    if (self->fault[0])
        return false;
    self->is_wrong = is_wrong;
    va_start(args, format);
    vsnprintf(self->fault, sizeof(self->fault), format, args);
    va_end(args);
    return false;
}

static bool
begins(const char *p, const char *end, const char *word, size_t n)
{
    return (size_t)(end - p) >= n && memcmp(p, word, n) == 0;
}
#define BEGINS(p, end, word) begins(p, end, word, sizeof(word) - 1)

/* --- JSON strings --------------------------------------------------------------------------- */
static int
hex4(const char *p)
{
    int value = 0;

    for (int i = 0; i < 4; i++) {
        char c = p[i];

        value <<= 4;
        if (c >= '0' && c <= '9')
            value |= c - '0';
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            value |= (c | 32) - 'a' + 10;
        else
            return -1;
    }
    return value;
}

/* Decodes the escape behind a backslash; the texts of the bench need nothing above U+FFFF. */
static const char *
unescape(const char *p, const char *end, char *out, size_t *n)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *name;
    int code;

    if (p < end && *p && (name = strchr(names, *p))) {
        out[0] = values[name - names];
        *n = 1;
        return p + 1;
    }
    if (end - p < 5 || *p != 'u' || (code = hex4(p + 1)) < 0)
        return NULL;
    *n = 0;
    if (code < 0x80) {
        out[(*n)++] = (char)code;
    } else if (code < 0x800) {
        out[(*n)++] = (char)(0xc0 | code >> 6);
        out[(*n)++] = (char)(0x80 | (code & 63));
    } else {
        out[(*n)++] = (char)(0xe0 | code >> 12);
        out[(*n)++] = (char)(0x80 | (code >> 6 & 63));
        out[(*n)++] = (char)(0x80 | (code & 63));
    }
    return p + 5;
}

const char *
bench_chat_string(const char *p, const char *end, bench_check_t *check,
                  bench_stamp_fn *fn, void *user)
{
    for (;;) {
        const char *from = p;
        char out[4];
        size_t n;

        while (p < end && *p != '"' && *p != '\\')
            p++;
        if (p == end ||
            (p > from && !bench_check_feed(check, from, (size_t)(p - from), fn, user)))
            return NULL;
        if (*p++ == '"')
            return p;
        p = unescape(p, end, out, &n);
        if (!p || !bench_check_feed(check, out, n, fn, user))
            return NULL;
    }
}

static void
on_stamp(void *user, uint64_t stamp_us)
{
    bench_chat_t *self = user;

    if (self->latency)
        bench_hist_add(self->latency,
                       self->now_us > stamp_us ? self->now_us - stamp_us : 0);
}

/* --- events --------------------------------------------------------------------------------- */
static bool
wrong_text(bench_chat_t *self, const bench_check_t *check, const char *p, const char *end)
{
    int n = end - p < 60 ? (int)(end - p) : 60;

    return fail(self, true, "wrong at byte %llu (token %u, %.20s): %.*s",
                (unsigned long long)check->bytes, check->next, check->token, n, p);
}

static bool
take_text(bench_chat_t *self, const char *p, const char *end, const char **rest)
{
    *rest = bench_chat_string(p, end, &self->text, on_stamp, self);
    if (!*rest)
        return wrong_text(self, &self->text, p, end);
    if (self->first_us == 0)
        self->first_us = self->now_us;
    self->events++;
    return true;
}

static bool
take_message(bench_chat_t *self, const char *p, const char *end)
{
    const char *rest;

    if (self->at != CHAT_PIECES)
        return fail(self, true, "a piece behind the end");
    if (!take_text(self, p + sizeof(MESSAGE) - 1, end, &rest))
        return false;
    if (rest + 1 != end || *rest != '}')
        return fail(self, true, "something behind a piece: %.60s", rest);
    if (!self->has_id || self->id_offset != self->text.bytes)
        return fail(self, true, "id says %llu, the text is at %llu",
                    (unsigned long long)self->id_offset,
                    (unsigned long long)self->text.bytes);
    return true;
}

static bool
take_gateway(bench_chat_t *self, const char *p, const char *end)
{
    if (BEGINS(p, end, MESSAGE))
        return take_message(self, p, end);
    if (BEGINS(p, end, DONE)) {
        if (self->at != CHAT_PIECES || !bench_check_is_whole(&self->text))
            return fail(self, true, "done after %u of %u tokens", self->text.next,
                        self->text.count);
        self->at = CHAT_DONE;
        return true;
    }
    if (BEGINS(p, end, FULL)) {
        const char *rest = bench_chat_string(p + sizeof(FULL) - 1, end, &self->full, NULL,
                                             NULL);

        if (!rest || rest + 1 != end || *rest != '}')
            return wrong_text(self, &self->full, p, end);
        if (self->at != CHAT_DONE || self->full.hash != self->text.hash)
            return fail(self, true, "full_response is not what was streamed");
        self->at = CHAT_WHOLE;
        return true;
    }
    if (BEGINS(p, end, ERROR))
        return fail(self, false, "%.*s", end - p < 150 ? (int)(end - p) : 150, p);
    return fail(self, true, "what is this: %.*s", end - p < 60 ? (int)(end - p) : 60, p);
}

static bool
take_raw(bench_chat_t *self, const char *p, const char *end)
{
    const char *content = memmem(p, (size_t)(end - p), CONTENT, sizeof(CONTENT) - 1);
    const char *rest;

    if (self->at == CHAT_PIECES && content)
        return take_text(self, content + sizeof(CONTENT) - 1, end, &rest);
    if (self->at == CHAT_PIECES && memmem(p, (size_t)(end - p), "\"stop\"", 6)) {
        self->at = CHAT_DONE;
        return true;
    }
    if (self->at == CHAT_DONE && BEGINS(p, end, "[DONE]")) {
        self->at = CHAT_WHOLE;
        return true;
    }
    return fail(self, true, "what is this: %.*s", end - p < 60 ? (int)(end - p) : 60, p);
}

static bool
take_line(bench_chat_t *self, const char *p, const char *end)
{
    if (p == end) {
        self->has_id = false;
        return true;
    }
    if (BEGINS(p, end, "data: ")) {
        p += 6;
        return self->kind == CHAT_GATEWAY ? take_gateway(self, p, end)
                                          : take_raw(self, p, end);
    }
    if (BEGINS(p, end, "id: ")) {
        const char *colon = memchr(p + 4, ':', (size_t)(end - p - 4));

        if (!colon)
            return fail(self, true, "a strange id");
        self->id_offset = strtoull(colon + 1, NULL, 10); /* the line feed ends it */
        self->has_id = true;
        return true;
    }
    if (*p == ':' || BEGINS(p, end, "event: ") || BEGINS(p, end, "retry: "))
        return true;
    return fail(self, true, "a strange line: %.*s", end - p < 60 ? (int)(end - p) : 60,
                p);
}

static bool
keep(bench_chat_t *self, const char *bytes, size_t n)
{
    if (self->carry_n + n > self->carry_cap) {
        size_t cap = self->carry_cap ? self->carry_cap * 2 : 1024;

        while (cap < self->carry_n + n)
            cap *= 2;
        char *carry = cap <= CARRY_MAX_BYTES ? realloc(self->carry, cap) : NULL;
        if (!carry)
            return fail(self, true, "a line without end");
        self->carry = carry;
        self->carry_cap = cap;
    }
    memcpy(self->carry + self->carry_n, bytes, n);
    self->carry_n += n;
    return true;
}

bool
bench_chat_feed(bench_chat_t *self, const char *bytes, size_t n)
{
    const char *end = bytes + n;

    self->now_us = bench_now_us();
    while (bytes < end) {
        const char *feed = memchr(bytes, '\n', (size_t)(end - bytes));

        if (!feed)
            return keep(self, bytes, (size_t)(end - bytes));
        if (self->carry_n > 0) {
            if (!keep(self, bytes, (size_t)(feed + 1 - bytes)) ||
                !take_line(self, self->carry, self->carry + self->carry_n - 1))
                return false;
            self->carry_n = 0;
        } else if (!take_line(self, bytes, feed)) {
            return false;
        }
        bytes = feed + 1;
    }
    return true;
}

bool
bench_chat_end(bench_chat_t *self)
{
    if (self->at != CHAT_WHOLE || self->carry_n > 0 || !bench_check_is_whole(&self->text))
        return fail(self, true, "the answer ends after %u of %u tokens", self->text.next,
                    self->text.count);
    return true;
}
