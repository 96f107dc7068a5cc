/* text_decoder.c - escapes, surrogates and UTF-8, character by character where it must be.
 *
 * Plain valid text is copied in runs. Whatever is special goes through one state
 * machine: the UTF-8 decoder of the WHATWG encoding standard (a wrong byte ends the
 * character before it, which becomes U+FFFD, and is looked at again), and one waiting
 * high surrogate. At most one of the two is in waiting at any time. */
#include "text_decoder.h"

#include "proto/utf8.h"

#define REPLACEMENT   0xFFFDu
#define IS_HIGH(unit) ((unit) >= 0xD800u && (unit) <= 0xDBFFu)
#define IS_LOW(unit)  ((unit) >= 0xDC00u && (unit) <= 0xDFFFu)

/* Appends one code point; U+0000 and what is no character as U+FFFD. */
static svc_rc
put_code(svc_buf_t *out, uint32_t code)
{
    uint8_t b[4];

    if (code == 0)
        code = REPLACEMENT;
    if (code < 0x80) {
        b[0] = (uint8_t)code;
        return svc_buf_add(out, b, 1);
    }
    if (code < 0x800) {
        b[0] = (uint8_t)(0xC0 | code >> 6);
        b[1] = (uint8_t)(0x80 | (code & 0x3F));
        return svc_buf_add(out, b, 2);
    }
    if (code < 0x10000) {
        b[0] = (uint8_t)(0xE0 | code >> 12);
        b[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        b[2] = (uint8_t)(0x80 | (code & 0x3F));
        return svc_buf_add(out, b, 3);
    }
    b[0] = (uint8_t)(0xF0 | code >> 18);
    b[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    b[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    b[3] = (uint8_t)(0x80 | (code & 0x3F));
    return svc_buf_add(out, b, 4);
}

/* Replaces whatever is unfinished: it will not be finished any more. */
static svc_rc
give_up_unfinished(text_decoder_t *self, svc_buf_t *out)
{
    if (self->high == 0 && self->need == 0)
        return RC_OK;
    self->high = 0;
    self->need = self->have = 0;
    return put_code(out, REPLACEMENT);
}

/* True when `byte` can follow the bytes of the unfinished character. */
static bool
fits(const text_decoder_t *self, uint8_t byte)
{
    uint8_t low = 0x80, high = 0xBF;

    if (self->have == 1) {
        switch (self->part[0]) {
        case 0xE0: low = 0xA0; break;  /* shorter forms exist */
        case 0xED: high = 0x9F; break; /* surrogates */
        case 0xF0: low = 0x90; break;  /* shorter forms exist */
        case 0xF4: high = 0x8F; break; /* past U+10FFFF */
        default: break;
        }
    }
    return byte >= low && byte <= high;
}

static svc_rc
put_byte(text_decoder_t *self, uint8_t byte, svc_buf_t *out)
{
    if (self->need != 0 && fits(self, byte)) {
        self->part[self->have++] = byte;
        if (self->have < self->need)
            return RC_OK;
        self->need = 0;
        return svc_buf_add(out, self->part, self->have);
    }
    svc_rc rc = give_up_unfinished(self, out);
    if (rc != RC_OK)
        return rc;
    if (byte < 0x80)
        return put_code(out, byte);
    if (byte < 0xC2 || byte > 0xF4)
        return put_code(out, REPLACEMENT);
    self->part[0] = byte;
    self->have = 1;
    self->need = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    return RC_OK;
}

/* One UTF-16 unit of a \u escape. */
static svc_rc
put_unit(text_decoder_t *self, uint32_t unit, svc_buf_t *out)
{
    uint32_t high = self->high;

    if (high != 0 && IS_LOW(unit)) {
        self->high = 0;
        return put_code(out, 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00));
    }
    svc_rc rc = give_up_unfinished(self, out);
    if (rc != RC_OK)
        return rc;
    if (IS_HIGH(unit)) {
        self->high = unit;
        return RC_OK;
    }
    return put_code(out, IS_LOW(unit) ? REPLACEMENT : unit);
}

static bool
read_hex4(const char *p, uint32_t *out)
{
    uint32_t unit = 0;

    for (int i = 0; i < 4; i++) {
        char c = p[i];
        unsigned digit;

        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            digit = (unsigned)(c - 'A') + 10;
        else
            return false;
        unit = unit << 4 | digit;
    }
    *out = unit;
    return true;
}

/* The escape at `p` (a backslash), `n` bytes to the end of the string. *used: bytes of
 * it. */
static svc_rc
put_escape(text_decoder_t *self, const char *p, size_t n, size_t *used, svc_buf_t *out)
{
    uint32_t unit;

    if (n < 2)
        return RC_INVALID;
    *used = 2;
    switch (p[1]) {
    case '"':
    case '\\':
    case '/': unit = (uint8_t)p[1]; break;
    case 'b': unit = '\b'; break;
    case 'f': unit = '\f'; break;
    case 'n': unit = '\n'; break;
    case 'r': unit = '\r'; break;
    case 't': unit = '\t'; break;
    case 'u':
        if (n < 6 || !read_hex4(p + 2, &unit))
            return RC_INVALID;
        *used = 6;
        break;
    default: return RC_INVALID;
    }
    return put_unit(self, unit, out);
}

/* Copies the longest run of `p` that needs no second look. *used: its bytes, maybe none. */
static svc_rc
put_run(const text_decoder_t *self, const char *p, size_t n, bool json, size_t *used,
        svc_buf_t *out)
{
    const char *stop;

    *used = 0;
    if (self->need != 0 || self->high != 0)
        return RC_OK;
    stop = json ? memchr(p, '\\', n) : NULL;
    if (stop != NULL)
        n = (size_t)(stop - p);
    n = svc_utf8_valid(p, n);
    stop = n == 0 ? NULL : memchr(p, '\0', n);
    if (stop != NULL)
        n = (size_t)(stop - p);
    *used = n;
    return n == 0 ? RC_OK : svc_buf_add(out, p, n);
}

static svc_rc
decode(text_decoder_t *self, svc_str in, bool json, svc_buf_t *out)
{
    size_t at = 0;

    while (at < in.n) {
        size_t used;
        svc_rc rc = put_run(self, in.p + at, in.n - at, json, &used, out);

        if (rc != RC_OK)
            return rc;
        at += used;
        if (at == in.n)
            break;
        used = 1;
        if (json && in.p[at] == '\\')
            rc = put_escape(self, in.p + at, in.n - at, &used, out);
        else
            rc = put_byte(self, (uint8_t)in.p[at], out);
        if (rc != RC_OK)
            return rc;
        at += used;
    }
    return RC_OK;
}

svc_rc
text_decoder_json(text_decoder_t *self, svc_str raw, svc_buf_t *out)
{
    return decode(self, raw, true, out);
}

svc_rc
text_decoder_plain(text_decoder_t *self, svc_str bytes, svc_buf_t *out)
{
    return decode(self, bytes, false, out);
}

svc_rc
text_decoder_end(text_decoder_t *self, svc_buf_t *out)
{
    return give_up_unfinished(self, out);
}
