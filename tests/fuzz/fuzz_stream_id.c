/* fuzz_stream_id.c - ids of events, as any client may send them.
 *
 * links: gateway
 *
 * An id that is taken must be the very bytes that we would write for what it says, so that there is
 * one name for each place; its offset is within an answer. */
#include "gateway/stream_id.h"
#include "svc/svc_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char hex[2 * PROTO_STREAM_BYTES + 1], again[80];
    char *copy = malloc(n > 0 ? n : 1); /* of the exact size: a read past it is seen */
    stream_id_t id;

    SVC_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, bytes, n);
    if (stream_id_read((svc_str){copy, n}, &id)) {
        SVC_ASSERT(id.offset <= PROTO_ANSWER_MAX_BYTES);
        svc_hex(id.stream, PROTO_STREAM_BYTES, hex);
        int written = snprintf(again, sizeof again, "%s:%" PRIu64 "%s", hex, id.offset,
                               stream_id_suffix(id.mark));
        SVC_ASSERT((size_t)written == n && memcmp(again, bytes, n) == 0);
    }
    free(copy);
    return 0;
}
