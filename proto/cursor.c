/* cursor.c - the msgpack reader: first bytes, lengths, and nothing else.
 *
 * All reading goes through take() (so many bytes, or false) and header() (a length or count in
 * one of the encodings that the first byte announces). Skipping recurses once per level and never
 * deeper than it is told; its work is linear in the bytes, since every element has one at least. */
#include "cursor.h"

proto_cursor_t
proto_cursor(svc_str bytes)
{
    static const unsigned char nothing[1];
    const unsigned char *p = bytes.n == 0 ? nothing : (const unsigned char *)bytes.p;

    return (proto_cursor_t){p, p + bytes.n};
}

bool
proto_cursor_is_at_end(const proto_cursor_t *self)
{
    return self->p == self->end;
}

size_t
proto_cursor_left(const proto_cursor_t *self)
{
    return (size_t)(self->end - self->p);
}

/* Moves past n bytes and gives the first of them. */
static bool
take(proto_cursor_t *self, size_t n, const unsigned char **out)
{
    if (n > proto_cursor_left(self))
        return false;
    *out = self->p;
    self->p += n;
    return true;
}

/* Reads a big-endian number of `size` bytes (1, 2, 4 or 8). */
static bool
number(proto_cursor_t *self, size_t size, uint64_t *out)
{
    const unsigned char *p;
    uint64_t value = 0;

    if (!take(self, size, &p))
        return false;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | p[i];
    *out = value;
    return true;
}

/* Reads a length: in the first byte when (first & ~mask) == fix, else in the bytes after codes wide, wide + 1, ...
 * of which the first has `size` bytes. */
static bool
header(proto_cursor_t *self, unsigned fix, unsigned mask, unsigned wide, size_t size,
       uint64_t *out)
{
    const unsigned char *first;

    if (!take(self, 1, &first))
        return false;
    if (mask != 0 && (*first & ~mask) == fix) {
        *out = *first & mask;
        return true;
    }
    for (; size <= 4; size *= 2, wide++)
        if (*first == wide)
            return number(self, size, out);
    return false;
}

/* Reads the bytes after a header that said how many. */
static bool
body(proto_cursor_t *self, uint64_t n, svc_str *out)
{
    const unsigned char *p;

    if (n > proto_cursor_left(self) || !take(self, (size_t)n, &p))
        return false;
    *out = (svc_str){(const char *)p, (size_t)n};
    return true;
}

bool
proto_cursor_map(proto_cursor_t *self, size_t *n_out)
{
    uint64_t n;

    if (!header(self, 0x80, 0x0F, 0xDE, 2, &n) || n > proto_cursor_left(self) / 2)
        return false;
    *n_out = (size_t)n;
    return true;
}

bool
proto_cursor_array(proto_cursor_t *self, size_t *n_out)
{
    uint64_t n;

    if (!header(self, 0x90, 0x0F, 0xDC, 2, &n) || n > proto_cursor_left(self))
        return false;
    *n_out = (size_t)n;
    return true;
}

bool
proto_cursor_u64(proto_cursor_t *self, uint64_t *out)
{
    const unsigned char *first;
    uint64_t value;
    size_t size;

    if (!take(self, 1, &first))
        return false;
    if (*first < 0x80) {
        *out = *first;
        return true;
    }
    if (*first < 0xCC || *first > 0xD3) /* uint 8, 16, 32, 64, then int likewise */
        return false;
    size = (size_t)1 << (*first & 3);
    if (!number(self, size, &value) || (*first >= 0xD0 && value >> (8 * size - 1) != 0))
        return false;
    *out = value;
    return true;
}

bool
proto_cursor_bool(proto_cursor_t *self, bool *out)
{
    const unsigned char *first;

    if (!take(self, 1, &first) || (*first != 0xC2 && *first != 0xC3))
        return false;
    *out = *first == 0xC3;
    return true;
}

bool
proto_cursor_str(proto_cursor_t *self, svc_str *out)
{
    uint64_t n;

    return header(self, 0xA0, 0x1F, 0xD9, 1, &n) && body(self, n, out);
}

bool
proto_cursor_bin(proto_cursor_t *self, svc_str *out)
{
    uint64_t n;

    return header(self, 0, 0, 0xC4, 1, &n) && body(self, n, out);
}

static bool
skip_many(proto_cursor_t *self, size_t n, unsigned depth)
{
    while (n-- > 0)
        if (!proto_cursor_skip(self, depth))
            return false;
    return true;
}

/* Moves past an element that is no map and no array: its first byte tells all but the length. */
static bool
skip_scalar(proto_cursor_t *self, unsigned char first)
{
    const unsigned char *p;
    svc_str bytes;
    uint64_t n;

    if ((first & 0xE0) == 0xA0 || (first >= 0xD9 && first <= 0xDB))
        return proto_cursor_str(self, &bytes);
    if (first >= 0xC4 && first <= 0xC6)
        return proto_cursor_bin(self, &bytes);
    if (first >= 0xC7 && first <= 0xC9) /* ext 8, 16, 32: length, type, bytes */
        return header(self, 0, 0, 0xC7, 1, &n) && take(self, 1, &p) &&
               body(self, n, &bytes);
    if (first >= 0xD4 && first <= 0xD8) /* fixext 1 to 16: type, bytes */
        return take(self, 2 + ((size_t)1 << (first - 0xD4)), &p);
    if (first == 0xCA || first == 0xCB) /* float 32, 64 */
        return take(self, first == 0xCA ? 5 : 9, &p);
    if (first >= 0xCC && first <= 0xD3) /* integers */
        return take(self, 1 + ((size_t)1 << (first & 3)), &p);
    return first != 0xC1 &&
           take(self, 1, &p); /* one byte alone; 0xC1 was never assigned */
}

bool
proto_cursor_skip(proto_cursor_t *self, unsigned depth)
{
    unsigned char first;
    size_t n;

    if (proto_cursor_is_at_end(self))
        return false;
    first = *self->p;
    if ((first & 0xF0) == 0x80 || first == 0xDE || first == 0xDF)
        return depth > 0 && proto_cursor_map(self, &n) &&
               skip_many(self, 2 * n, depth - 1);
    if ((first & 0xF0) == 0x90 || first == 0xDC || first == 0xDD)
        return depth > 0 && proto_cursor_array(self, &n) && skip_many(self, n, depth - 1);
    return skip_scalar(self, first);
}
