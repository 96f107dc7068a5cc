/* svc_trace.c - traceparent read and written, and what of the bus is routine.
 *
 *   traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *                version-trace id-parent id-flags, all in lower case
 *
 * The header is a stranger's: it is looked at byte by byte, with its length known, and nothing of
 * it is kept but the 16 bytes of its trace id. */
#include "svc_trace.h"
#include "svc_text.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    VERSION_AT = 0,
    TRACE_AT = 3,
    PARENT_AT = 36,
    FLAGS_AT = 53,
    VERSION_HEX = 2,
    PARENT_HEX = 16,
    FLAGS_HEX = 2,
};

static const char *const routine_ops[] = {
    OP_SVC_HELLO,  OP_SVC_PING, OP_SVC_STATS, OP_CONVO_WATCH, OP_CONVO_UNWATCH,
    OP_CONVO_READ, OP_LLM_ACK,  OP_LLM_STOP,  OP_LLM_REPLAY,  OP_LLM_MODELS,
};

/* The value of a digit in lower case; -1: it is none. */
static int
digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads n digits; *any: one of them is not 0. */
static bool
read_hex(const char *text, size_t n, uint8_t *out, bool *any)
{
    *any = false;
    for (size_t i = 0; i < n; i++) {
        int digit = digit_of(text[i]);

        if (digit < 0)
            return false;
        *any |= digit > 0;
        if (out != NULL)
            out[i / 2] = (uint8_t)(i % 2 == 0 ? digit << 4 : out[i / 2] | digit);
    }
    return true;
}

bool
svc_trace_read(svc_str header, uint8_t out[PROTO_TRACE_BYTES])
{
    const char *p = header.p;
    uint8_t version = 0, trace[PROTO_TRACE_BYTES];
    bool has_trace, has_parent, any;

    if (header.n < SVC_TRACEPARENT_BYTES || p[TRACE_AT - 1] != '-' ||
        p[PARENT_AT - 1] != '-' || p[FLAGS_AT - 1] != '-')
        return false;
    if (!read_hex(p + VERSION_AT, VERSION_HEX, &version, &any) || version == 0xff ||
        !read_hex(p + TRACE_AT, SVC_TRACE_HEX_BYTES, trace, &has_trace) ||
        !read_hex(p + PARENT_AT, PARENT_HEX, NULL, &has_parent) ||
        !read_hex(p + FLAGS_AT, FLAGS_HEX, NULL, &any) || !has_trace || !has_parent)
        return false;
    if (header.n > SVC_TRACEPARENT_BYTES &&
        (version == 0 || p[SVC_TRACEPARENT_BYTES] != '-'))
        return false;
    memcpy(out, trace, sizeof(trace));
    return true;
}

void
svc_trace_write(svc_str trace, uint64_t parent, char out[SVC_TRACEPARENT_BYTES + 1])
{
    char hex[SVC_TRACE_HEX_BYTES + 1];

    SVC_ASSERT(trace.n == PROTO_TRACE_BYTES);
    svc_hex(trace.p, trace.n, hex);
    (void)snprintf(out, SVC_TRACEPARENT_BYTES + 1, "00-%s-%016" PRIx64 "-00", hex,
                   parent);
}

bool
svc_trace_is_request_id(svc_str text)
{
    if (text.n == 0 || text.n > SVC_REQUEST_ID_MAX_BYTES)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                        (c >= 'A' && c <= 'Z');

        if (!is_plain && (c == '\0' || strchr("-._~:+/=@", c) == NULL))
            return false;
    }
    return true;
}

bool
svc_trace_is_routine(const char *op)
{
    for (size_t i = 0; i < SVC_COUNT(routine_ops); i++)
        if (strcmp(routine_ops[i], op) == 0)
            return true;
    return false;
}
