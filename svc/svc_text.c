/* svc_text.c - text as JSON and hex.
 *
 * Escaping is on the path of every token, so bytes that stand for themselves are found as runs
 * and copied as one. Only what RFC 8259 demands is escaped: quote, backslash and what is below
 * 0x20; everything else is valid UTF-8 already and goes out as it is. */
#include "svc_text.h"

static const char hex_digits[] = "0123456789abcdef";

/* The letter of a two-byte escape, 'u' for the six-byte form, 0 for what stands for itself. */
static char
escape_of(unsigned char c)
{
    switch (c) {
    case '"': return '"';
    case '\\': return '\\';
    case '\b': return 'b';
    case '\f': return 'f';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    default: return c < 0x20 ? 'u' : 0;
    }
}

static svc_rc
add_escaped(svc_buf_t *out, unsigned char c, char letter)
{
    char text[6] = {'\\', letter, '0', '0', hex_digits[c >> 4], hex_digits[c & 15]};

    return svc_buf_add(out, text, letter == 'u' ? sizeof(text) : 2);
}

/* Appends the escaped text; may leave a part of it behind when the buffer is full. */
static svc_rc
escape(svc_buf_t *out, svc_str text)
{
    svc_rc rc = RC_OK;
    size_t from = 0;

    for (size_t i = 0; i < text.n && rc == RC_OK; i++) {
        unsigned char c = (unsigned char)text.p[i];
        char letter = escape_of(c);

        if (letter == 0)
            continue;
        rc = svc_buf_add(out, text.p + from, i - from);
        if (rc == RC_OK)
            rc = add_escaped(out, c, letter);
        from = i + 1;
    }
    if (rc == RC_OK && from < text.n)
        rc = svc_buf_add(out, text.p + from, text.n - from);
    return rc;
}

svc_rc
svc_json_escape(svc_buf_t *out, svc_str text)
{
    size_t before = out->n;
    svc_rc rc = escape(out, text);

    if (rc != RC_OK)
        out->n = before;
    return rc;
}

svc_rc
svc_json_string(svc_buf_t *out, svc_str text)
{
    size_t before = out->n;
    svc_rc rc = svc_buf_add(out, "\"", 1);

    if (rc == RC_OK)
        rc = escape(out, text);
    if (rc == RC_OK)
        rc = svc_buf_add(out, "\"", 1);
    if (rc != RC_OK)
        out->n = before;
    return rc;
}

void
svc_hex(const void *bytes, size_t n, char *out)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = hex_digits[p[i] >> 4];
        out[2 * i + 1] = hex_digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

/* The value of a hex digit of either case, -1 for anything else. */
static int
digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool
svc_unhex(svc_str text, void *out, size_t n)
{
    unsigned char *p = out;

    if (text.n / 2 != n || text.n % 2 != 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        int high = digit(text.p[2 * i]);
        int low = digit(text.p[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        p[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}
