/* fuzz_seal.c - any bytes as a sealed api key from the database: what was sealed with our key, or a refusal.
 *
 * links: convo-svc
 *
 * The first byte chooses: even, the rest is opened as it stands (the corpus has values that were
 * really sealed); odd, bytes 2 to 4 say where a bit is flipped, and the rest is sealed, opened,
 * changed there and opened again. Nothing but the whole and unchanged value may ever open. */
#include "convo-svc/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define HEAD_BYTES 4 /* of the input: what to do, and where */

/* Opens a value behind `text`; a refusal must leave nothing. */
static svc_rc
open_behind(const seal_t *seal, svc_str sealed, svc_buf_t *text)
{
    size_t before = text->n;
    svc_rc rc = seal_open(seal, sealed, text);

    SVC_ASSERT(rc == RC_OK || rc == RC_INVALID || rc == RC_TOO_BIG);
    SVC_ASSERT(rc == RC_OK || text->n == before);
    SVC_ASSERT(rc != RC_OK || sealed.n == 0 || text->n < before + sealed.n);
    return rc;
}

static void
try_flipped(const seal_t *seal, size_t where, svc_str text)
{
    svc_buf_t sealed, opened;
    svc_rc rc;

    svc_buf_init(&sealed, SEAL_MAX_BYTES);
    svc_buf_init(&opened, SEAL_MAX_BYTES);
    rc = seal_close(seal, text, &sealed);
    SVC_ASSERT(rc == RC_OK || (rc == RC_TOO_BIG && text.n > PROTO_API_KEY_MAX_BYTES));
    if (rc == RC_OK && text.n > 0) {
        SVC_ASSERT(open_behind(seal, svc_buf_str(&sealed), &opened) == RC_OK);
        SVC_ASSERT(svc_str_eq(svc_buf_str(&opened), text));
        svc_buf_clear(&opened);
        where %= sealed.n * 8;
        sealed.p[where / 8] = (char)(sealed.p[where / 8] ^ 1 << where % 8);
        SVC_ASSERT(open_behind(seal, svc_buf_str(&sealed), &opened) == RC_INVALID);
        sealed.p[where / 8] = (char)(sealed.p[where / 8] ^ 1 << where % 8);
        SVC_ASSERT(open_behind(seal, (svc_str){sealed.p, where % sealed.n}, &opened) ==
                   (where % sealed.n == 0 ? RC_OK : RC_INVALID));
    }
    svc_buf_fini(&sealed);
    svc_buf_fini(&opened);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const uint8_t key[SVC_SECRET_BYTES] = "a key of 32 bytes, for fuzzing .";
    static const uint8_t other[SVC_SECRET_BYTES] = "another key of 32 bytes ........";
    seal_t seal, stranger;
    svc_buf_t text;
    svc_str rest;

    if (n < HEAD_BYTES)
        return 0;
    seal_init(&seal, key);
    rest = (svc_str){(const char *)bytes + HEAD_BYTES, n - HEAD_BYTES};
    if (bytes[0] % 2 == 1) {
        try_flipped(&seal, (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3],
                    rest);
        return 0;
    }
    seal_init(&stranger, other);
    svc_buf_init(&text, SEAL_MAX_BYTES);
    if (open_behind(&seal, rest, &text) == RC_OK && rest.n > 0) {
        svc_buf_clear(&text);
        SVC_ASSERT(open_behind(&stranger, rest, &text) == RC_INVALID);
    }
    svc_buf_fini(&text);
    return 0;
}
