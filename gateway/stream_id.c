/* stream_id.c - the id of an event: how far a client has come in which answer.
 *
 * Strict on purpose: whatever is read here is written again, byte by byte the same,
 * so two clients never hold two names of one place. Reads from left to right and
 * allocates nothing. */
#include "stream_id.h"

#define HEX_BYTES (2 * (size_t)PROTO_STREAM_BYTES)

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
read_stream(svc_str text, uint8_t stream[PROTO_STREAM_BYTES])
{
    if (text.n < HEX_BYTES)
        return false;
    for (size_t i = 0; i < PROTO_STREAM_BYTES; i++) {
        int high = hex_digit(text.p[2 * i]);
        int low = hex_digit(text.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        stream[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

/* Reads digits from *at on and moves it behind them. */
static bool
read_offset(svc_str text, size_t *at, uint64_t *offset)
{
    size_t from = *at;

    *offset = 0;
    while (*at < text.n && text.p[*at] >= '0' && text.p[*at] <= '9') {
        *offset = *offset * 10 + (uint64_t)(text.p[(*at)++] - '0');
        if (*offset > PROTO_ANSWER_MAX_BYTES)
            return false;
    }
    return *at == from + 1 || (*at > from && text.p[from] != '0');
}

static bool
read_mark(svc_str text, stream_id_mark *mark)
{
    for (*mark = STREAM_ID_TEXT; *mark <= STREAM_ID_END; (*mark)++)
        if (svc_str_eq(text, svc_str_c(stream_id_suffix(*mark))))
            return true;
    return false;
}

bool
stream_id_read(svc_str text, stream_id_t *out)
{
    size_t at = HEX_BYTES + 1;
    stream_id_t id;

    if (!read_stream(text, id.stream) || text.n <= at || text.p[HEX_BYTES] != ':' ||
        !read_offset(text, &at, &id.offset) ||
        !read_mark((svc_str){text.p + at, text.n - at}, &id.mark))
        return false;
    *out = id;
    return true;
}

const char *
stream_id_suffix(stream_id_mark mark)
{
    static const char *const suffixes[] = {"", ":d", ":e"};

    return suffixes[mark];
}
