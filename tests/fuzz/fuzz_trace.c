/* fuzz_trace.c - the two headers by which a client names its request: traceparent and X-Request-Id.
 *
 * A trace id that is taken stands in the header as its second field, is not zero, and a header of our own around it is read
 * as the same. Of an id that may be repeated every byte is harmless in a header and in a log line. */
#include "svc/svc_text.h"
#include "svc/svc_trace.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void
check_trace(svc_str header)
{
    uint8_t trace[PROTO_TRACE_BYTES], again[PROTO_TRACE_BYTES];
    const svc_str id = {(const char *)trace, sizeof(trace)};
    char hex[SVC_TRACE_HEX_BYTES + 1], ours[SVC_TRACEPARENT_BYTES + 1];
    int sum = 0;

    if (!svc_trace_read(header, trace))
        return;
    for (size_t i = 0; i < sizeof(trace); i++)
        sum |= trace[i];
    SVC_ASSERT(sum != 0 && header.n >= SVC_TRACEPARENT_BYTES);
    svc_hex(id.p, id.n, hex);
    SVC_ASSERT(memcmp(header.p + 3, hex, SVC_TRACE_HEX_BYTES) == 0);
    svc_trace_write(id, 1, ours);
    SVC_ASSERT(svc_trace_read(svc_str_c(ours), again));
    SVC_ASSERT(memcmp(trace, again, sizeof(trace)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char *copy = malloc(n > 0 ? n : 1); /* of the exact size: a read past it is seen */

    SVC_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, bytes, n);
    check_trace((svc_str){copy, n});
    if (svc_trace_is_request_id((svc_str){copy, n}))
        for (size_t i = 0; i < n; i++)
            SVC_ASSERT(copy[i] > ' ' && copy[i] < 0x7f &&
                       strchr("\"'\\,;<>", copy[i]) == NULL);
    free(copy);
    return 0;
}
