/* fuzz_cache_value.c - any bytes as the value of a history in Redis: the body of this very version, or nothing.
 *
 * links: convo-svc
 *
 * The first 8 bytes are the version that is asked for, the rest is the value. What is taken must be what
 * putting that body under that version would have written, and be of no other version. */
#include "convo-svc/convo_cache.h"

#include <inttypes.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Takes `value` for a version; checks what was taken. */
static bool
try_version(svc_str value, uint64_t version)
{
    static const char untouched[] = "untouched";
    svc_str body = {untouched, sizeof(untouched)};
    char head[32];
    size_t n = (size_t)snprintf(head, sizeof(head), "%" PRIu64 "\n", version);

    if (!convo_cache_redis_body(value, version, &body)) {
        SVC_ASSERT(body.p == untouched && body.n == sizeof(untouched));
        return false;
    }
    SVC_ASSERT(body.n <= PROTO_JSON_PAGE_MAX_BYTES && body.n + n == value.n);
    SVC_ASSERT(body.p == value.p + n && memcmp(value.p, head, n) == 0);
    return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    uint64_t version;
    svc_str value;
    unsigned taken = 0;

    if (n < sizeof(version))
        return 0;
    memcpy(&version, bytes, sizeof(version));
    value = (svc_str){(const char *)bytes + sizeof(version), n - sizeof(version)};
    taken += try_version(value, version);
    taken += try_version(value, version + 1);
    taken += try_version(value, version / 10);
    if (version != 0)
        taken += try_version(value, version - 1);
    SVC_ASSERT(taken <= 1 || version < 10); /* n / 10 may be n or n - 1 then */
    return 0;
}
