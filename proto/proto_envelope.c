/* proto_envelope.c - the two fixed arrays: the envelope before every body, and the token.
 *
 * They are read for every message and every piece of text, so they have no keys, are read by
 * position and never allocate. Elements past the known ones are skipped: a newer writer may
 * append some. Another version is another protocol and is refused. */
#include "cursor.h"
#include "proto.h"
#include "utf8.h"

#include <msgpack.h>

#define REPLY_ELEMENTS   3
#define REQUEST_ELEMENTS 6 /* and a seventh, moved, where there is one */
#define TOKEN_ELEMENTS   6

/* msgpack-c's way out. */
static int
write_buf(void *buf, const char *bytes, size_t n)
{
    return svc_buf_add(buf, bytes, n) == RC_OK ? 0 : -1;
}

/* Moves past elements that we do not know. */
static bool
skip_tail(proto_cursor_t *cursor, size_t n)
{
    while (n-- > 0)
        if (!proto_cursor_skip(cursor, PROTO_DEPTH_MAX - 1))
            return false;
    return true;
}

static bool
is_op(svc_str op)
{
    return op.n >= 1 && op.n <= PROTO_OP_MAX_BYTES && svc_utf8_valid(op.p, op.n) == op.n;
}

svc_rc
proto_envelope_decode(svc_str message, proto_envelope_t *out, svc_str *body_out)
{
    const svc_str start = {message.p, message.n < PROTO_ENVELOPE_MAX_BYTES
                                          ? message.n
                                          : PROTO_ENVELOPE_MAX_BYTES};
    proto_cursor_t cursor = proto_cursor(start);
    proto_envelope_t e = {0};
    size_t n, known = REPLY_ELEMENTS;

    if (!proto_cursor_array(&cursor, &n) || n < REPLY_ELEMENTS ||
        !proto_cursor_u64(&cursor, &e.version) || e.version != PROTO_VERSION ||
        !proto_cursor_u64(&cursor, &e.kind) || !proto_cursor_u64(&cursor, &e.id))
        return RC_INVALID;
    if (e.kind == PROTO_REQUEST) {
        known = REQUEST_ELEMENTS;
        if (n < known || !proto_cursor_str(&cursor, &e.op) || !is_op(e.op) ||
            !proto_cursor_bin(&cursor, &e.trace) || e.trace.n != PROTO_TRACE_BYTES ||
            !proto_cursor_u64(&cursor, &e.expires_ms))
            return RC_INVALID;
        const proto_cursor_t there = cursor;
        if (n > known && proto_cursor_u64(&cursor, &e.moved_ms))
            known++;
        else
            cursor = there; /* none, or nothing that we know */
    }
    if (!skip_tail(&cursor, n - known))
        return RC_INVALID;
    const size_t used = start.n - proto_cursor_left(&cursor);
    *body_out = (svc_str){message.p + used, message.n - used};
    *out = e;
    return RC_OK;
}

svc_rc
proto_envelope_encode(const proto_envelope_t *envelope, svc_buf_t *out)
{
    const size_t before = out->n;
    const bool is_request = envelope->kind == PROTO_REQUEST;
    const bool has_moved = envelope->moved_ms != 0;
    msgpack_packer pk;
    int bad;

    if (is_request && (!is_op(envelope->op) || envelope->trace.n != PROTO_TRACE_BYTES))
        return RC_INVALID;
    msgpack_packer_init(&pk, out, write_buf);
    bad = msgpack_pack_array(&pk, is_request ? REQUEST_ELEMENTS + (has_moved ? 1 : 0)
                                             : REPLY_ELEMENTS);
    bad |= msgpack_pack_uint64(&pk, envelope->version);
    bad |= msgpack_pack_uint64(&pk, envelope->kind);
    bad |= msgpack_pack_uint64(&pk, envelope->id);
    if (is_request) {
        bad |= msgpack_pack_str_with_body(&pk, envelope->op.p, envelope->op.n);
        bad |= msgpack_pack_bin_with_body(&pk, envelope->trace.p, envelope->trace.n);
        bad |= msgpack_pack_uint64(&pk, envelope->expires_ms);
        if (has_moved)
            bad |= msgpack_pack_uint64(&pk, envelope->moved_ms);
    }
    if (bad == 0)
        return RC_OK;
    out->n = before;
    return RC_TOO_BIG;
}

svc_rc
proto_token_decode(svc_str bytes, proto_token_t *out)
{
    proto_cursor_t cursor = proto_cursor(bytes);
    proto_token_t t = {0};
    size_t n;

    if (!proto_cursor_array(&cursor, &n) || n < TOKEN_ELEMENTS ||
        !proto_cursor_u64(&cursor, &t.version) || t.version != PROTO_VERSION ||
        !proto_cursor_bin(&cursor, &t.stream) || t.stream.n != PROTO_STREAM_BYTES ||
        !proto_cursor_u64(&cursor, &t.fence) || !proto_cursor_u64(&cursor, &t.offset) ||
        !proto_cursor_u64(&cursor, &t.kind) || !proto_cursor_bin(&cursor, &t.bytes) ||
        t.bytes.n > PROTO_PIECE_MAX_BYTES || !skip_tail(&cursor, n - TOKEN_ELEMENTS) ||
        !proto_cursor_is_at_end(&cursor))
        return RC_INVALID;
    *out = t;
    return RC_OK;
}

svc_rc
proto_token_encode(const proto_token_t *token, svc_buf_t *out)
{
    const size_t before = out->n;
    msgpack_packer pk;
    int bad;

    if (token->stream.n != PROTO_STREAM_BYTES)
        return RC_INVALID;
    if (token->bytes.n > PROTO_PIECE_MAX_BYTES)
        return RC_TOO_BIG;
    msgpack_packer_init(&pk, out, write_buf);
    bad = msgpack_pack_array(&pk, TOKEN_ELEMENTS);
    bad |= msgpack_pack_uint64(&pk, token->version);
    bad |= msgpack_pack_bin_with_body(&pk, token->stream.p, token->stream.n);
    bad |= msgpack_pack_uint64(&pk, token->fence);
    bad |= msgpack_pack_uint64(&pk, token->offset);
    bad |= msgpack_pack_uint64(&pk, token->kind);
    bad |= msgpack_pack_bin_with_body(&pk, token->bytes.p, token->bytes.n);
    if (bad == 0)
        return RC_OK;
    out->n = before;
    return RC_TOO_BIG;
}
