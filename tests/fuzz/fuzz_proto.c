/* fuzz_proto.c - no bytes from the bus can hurt: every message, the envelope and the token frame.
 *
 * The first byte picks what the rest is read as. What is refused is fine; what is taken must
 * encode, decode to the same again, and encode to the same bytes the second time. The seeds are
 * the examples of PROTOCOL.md (written by test_protocol_md, given a folder). */
#include "tests/unit/proto/messages.h"

#define MSG_BYTES 512

/* One input, copied to its exact size so that the sanitizer sees a read past its end. */
static svc_str
exact_copy(const uint8_t *bytes, size_t n)
{
    char *copy = malloc(n == 0 ? 1 : n);

    SVC_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, bytes, n);
    return (svc_str){copy, n};
}

static void
try_envelope(svc_str in, svc_buf_t *buf)
{
    proto_envelope_t a, b;
    svc_str body;

    if (proto_envelope_decode(in, &a, &body) != RC_OK)
        return;
    SVC_ASSERT(body.n < in.n && body.p + body.n == in.p + in.n);
    SVC_ASSERT(proto_envelope_encode(&a, buf) == RC_OK);
    SVC_ASSERT(proto_envelope_decode(svc_buf_str(buf), &b, &body) == RC_OK);
    SVC_ASSERT(a.version == b.version && a.kind == b.kind && a.id == b.id &&
               a.expires_ms == b.expires_ms && svc_str_eq(a.op, b.op) &&
               svc_str_eq(a.trace, b.trace));
}

static void
try_token(svc_str in, svc_buf_t *buf)
{
    proto_token_t a, b;

    if (proto_token_decode(in, &a) != RC_OK)
        return;
    SVC_ASSERT(proto_token_encode(&a, buf) == RC_OK);
    SVC_ASSERT(proto_token_decode(svc_buf_str(buf), &b) == RC_OK);
    SVC_ASSERT(a.version == b.version && a.kind == b.kind && a.fence == b.fence &&
               a.offset == b.offset && svc_str_eq(a.stream, b.stream) &&
               svc_str_eq(a.bytes, b.bytes));
}

static void
try_message(const proto_schema_t *schema, svc_str in, svc_buf_t *buf)
{
    proto_arena_t *first = proto_arena_new(), *second = proto_arena_new();
    _Alignas(max_align_t) char a[MSG_BYTES], b[MSG_BYTES];

    if (proto_decode(schema, in, first, a) == RC_OK) {
        SVC_ASSERT(proto_encode(schema, a, buf) == RC_OK);
        SVC_ASSERT(proto_decode(schema, svc_buf_str(buf), second, b) == RC_OK);
        SVC_ASSERT(same_message(schema, a, b));
    }
    proto_arena_destroy(&first);
    proto_arena_destroy(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    size_t which;
    svc_buf_t buf;
    svc_str in;

    if (n == 0)
        return 0;
    which = bytes[0] % (SVC_COUNT(all_schemas) + 2);
    in = exact_copy(bytes + 1, n - 1);
    svc_buf_init(&buf, 2 * (size_t)PROTO_MESSAGE_MAX_BYTES);
    if (which < SVC_COUNT(all_schemas))
        try_message(all_schemas[which], in, &buf);
    else if (which == SVC_COUNT(all_schemas))
        try_envelope(in, &buf);
    else
        try_token(in, &buf);
    svc_buf_fini(&buf);
    free((char *)in.p);
    return 0;
}
