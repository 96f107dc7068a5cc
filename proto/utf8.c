/* utf8.c - UTF-8 validation: eight ASCII bytes at a time, all else by the table of the standard.
 *
 * The ranges of the second byte are those of the Unicode standard's table 3-7 (well-formed UTF-8
 * byte sequences): they alone keep out overlong forms, surrogates and what is past U+10FFFF.
 * Loads of eight bytes go through memcpy, so any alignment is fine. */
#include "utf8.h"

#define ASCII_MASK 0x8080808080808080u

/* Bytes of the well-formed character at `p`, 0 when there is none within `n` bytes. */
static size_t
sequence_bytes(const unsigned char *p, size_t n)
{
    unsigned char low = 0x80, high = 0xBF; /* of the second byte */
    size_t len;

    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (n < len)
        return 0;
    switch (p[0]) {
    case 0xE0: low = 0xA0; break;  /* shorter forms exist */
    case 0xED: high = 0x9F; break; /* surrogates */
    case 0xF0: low = 0x90; break;  /* shorter forms exist */
    case 0xF4: high = 0x8F; break; /* past U+10FFFF */
    default: break;
    }
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return len;
}

size_t
svc_utf8_valid(const char *p, size_t n)
{
    size_t at = 0;

    while (at < n) {
        uint64_t eight;
        size_t len;

        while (n - at >= sizeof(eight)) {
            memcpy(&eight, p + at, sizeof(eight));
            if ((eight & ASCII_MASK) != 0)
                break;
            at += sizeof(eight);
        }
        if (at == n)
            break;
        len = sequence_bytes((const unsigned char *)p + at, n - at);
        if (len == 0)
            break;
        at += len;
    }
    return at;
}

size_t
svc_utf8_count(const char *p, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)p[i] & 0xC0) != 0x80;
    return count;
}

bool
svc_utf8_has_control(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)p[i];

        if (c < 0x20 || c == 0x7F)
            return true;
        if (c == 0xC2 && i + 1 < n && (unsigned char)p[i + 1] < 0xA0)
            return true; /* U+0080 to U+009F */
    }
    return false;
}
