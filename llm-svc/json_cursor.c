/* json_cursor.c - see json_cursor.h; recursive descent, one function per kind of value.
 *
 * Only json_cursor_skip recurses, at most JSON_CURSOR_DEPTH_MAX levels deep. Checking
 * happens while skipping, too: a chunk is either JSON from end to end or refused as a
 * whole, so that no half of a broken piece is ever shown. */
#include "json_cursor.h"

static bool
fail(json_cursor_t *self)
{
    self->failed = true;
    self->p = self->end;
    return false;
}

static void
skip_space(json_cursor_t *self)
{
    while (self->p < self->end &&
           (*self->p == ' ' || *self->p == '\n' || *self->p == '\r' || *self->p == '\t'))
        self->p++;
}

/* Takes one expected character, after white space. */
static bool
take_char(json_cursor_t *self, char c)
{
    skip_space(self);
    if (self->p == self->end || *self->p != c)
        return fail(self);
    self->p++;
    return true;
}

static bool
take_word(json_cursor_t *self, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(self->end - self->p) < n || memcmp(self->p, word, n) != 0)
        return fail(self);
    self->p += n;
    return true;
}

void
json_cursor_init(json_cursor_t *self, svc_str text)
{
    self->p = text.n == 0 ? "" : text.p;
    self->end = self->p + text.n;
    self->depth = 0;
    self->failed = false;
    self->escaped = false;
}

json_kind
json_cursor_peek(json_cursor_t *self)
{
    skip_space(self);
    if (self->p == self->end)
        return JSON_NONE;
    switch (*self->p) {
    case '{': return JSON_OBJECT;
    case '[': return JSON_ARRAY;
    case '"': return JSON_STRING;
    case 't':
    case 'f': return JSON_BOOL;
    case 'n': return JSON_NULL;
    case 'N':
    case 'I':
    case '-': return JSON_NUMBER;
    default: return *self->p >= '0' && *self->p <= '9' ? JSON_NUMBER : JSON_NONE;
    }
}

bool
json_cursor_enter(json_cursor_t *self)
{
    json_kind kind = json_cursor_peek(self);

    if ((kind != JSON_OBJECT && kind != JSON_ARRAY) ||
        self->depth == JSON_CURSOR_DEPTH_MAX)
        return fail(self);
    self->p++;
    self->depth++;
    return true;
}

/* True when there is one more; takes the comma before it, or the closing character. */
static bool
take_next(json_cursor_t *self, bool *first, char close)
{
    if (self->failed)
        return false;
    skip_space(self);
    if (self->p < self->end && *self->p == close) {
        self->p++;
        self->depth--;
        return false;
    }
    if (!*first && !take_char(self, ','))
        return false;
    *first = false;
    skip_space(self);
    return true;
}

bool
json_cursor_member(json_cursor_t *self, bool *first, svc_str *key)
{
    return take_next(self, first, '}') && json_cursor_string(self, key) &&
           take_char(self, ':');
}

bool
json_cursor_item(json_cursor_t *self, bool *first)
{
    return take_next(self, first, ']');
}

static bool
is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Takes the escape whose backslash is next. */
static bool
take_escape(json_cursor_t *self)
{
    size_t left = (size_t)(self->end - self->p);

    if (left < 2 || strchr("\"\\/bfnrtu", self->p[1]) == NULL || self->p[1] == '\0')
        return fail(self);
    if (self->p[1] != 'u') {
        self->p += 2;
        return true;
    }
    if (left < 6)
        return fail(self);
    for (int i = 2; i < 6; i++)
        if (!is_hex(self->p[i]))
            return fail(self);
    self->p += 6;
    return true;
}

/* Not zero when one of the eight bytes is `c`. */
static inline uint64_t
has_byte(uint64_t eight, char c)
{
    const uint64_t x = eight ^ 0x0101010101010101u * (uint8_t)c;

    return (x - 0x0101010101010101u) & ~x & 0x8080808080808080u;
}

/* The first quote or backslash from `p` on, `end` when there is none. */
static const char *
find_special(const char *p, const char *end)
{
    uint64_t eight;

    while ((size_t)(end - p) >= sizeof(eight)) {
        memcpy(&eight, p, sizeof(eight));
        if ((has_byte(eight, '"') | has_byte(eight, '\\')) != 0)
            break;
        p += sizeof(eight);
    }
    while (p < end && *p != '"' && *p != '\\')
        p++;
    return p;
}

bool
json_cursor_string(json_cursor_t *self, svc_str *raw)
{
    if (!take_char(self, '"'))
        return false;
    const char *start = self->p;
    self->escaped = false;
    while ((self->p = find_special(self->p, self->end)) < self->end && *self->p != '"') {
        self->escaped = true;
        if (!take_escape(self))
            return false;
    }
    if (self->p == self->end)
        return fail(self);
    *raw = (svc_str){start, (size_t)(self->p - start)};
    self->p++;
    return true;
}

bool
json_cursor_number(json_cursor_t *self, svc_str *digits)
{
    if (json_cursor_peek(self) != JSON_NUMBER)
        return fail(self);
    const char *start = self->p;
    if (*self->p == '-')
        self->p++;
    if (self->p < self->end && *self->p == 'N') {
        if (!take_word(self, "NaN"))
            return false;
    } else if (self->p < self->end && *self->p == 'I') {
        if (!take_word(self, "Infinity"))
            return false;
    } else {
        const char *body = self->p;
        while (self->p < self->end &&
               ((*self->p >= '0' && *self->p <= '9') || *self->p == '.' ||
                *self->p == 'e' || *self->p == 'E' || *self->p == '+' || *self->p == '-'))
            self->p++;
        if (self->p == body || *body < '0' || *body > '9')
            return fail(self);
    }
    *digits = (svc_str){start, (size_t)(self->p - start)};
    return true;
}

static bool
skip_members(json_cursor_t *self)
{
    bool first = true;
    svc_str key;

    if (!json_cursor_enter(self))
        return false;
    while (json_cursor_member(self, &first, &key))
        if (!json_cursor_skip(self))
            return false;
    return !self->failed;
}

static bool
skip_items(json_cursor_t *self)
{
    bool first = true;

    if (!json_cursor_enter(self))
        return false;
    while (json_cursor_item(self, &first))
        if (!json_cursor_skip(self))
            return false;
    return !self->failed;
}

bool
json_cursor_skip(json_cursor_t *self)
{
    svc_str ignored;

    switch (json_cursor_peek(self)) {
    case JSON_OBJECT: return skip_members(self);
    case JSON_ARRAY: return skip_items(self);
    case JSON_STRING: return json_cursor_string(self, &ignored);
    case JSON_NUMBER: return json_cursor_number(self, &ignored);
    case JSON_BOOL: return take_word(self, *self->p == 't' ? "true" : "false");
    case JSON_NULL: return take_word(self, "null");
    default: return fail(self);
    }
}

bool
json_cursor_at_end(json_cursor_t *self)
{
    skip_space(self);
    return self->p == self->end;
}
