/* fuzz_user_map.c - any bytes as a map of users: whose of the original is who of ours.
 *
 * What is taken is in order, and each pair is found again. Any bytes are a name for a line of the report, too: that has no
 * control characters, is valid UTF-8 and has its end. */
#include "svc/svc_original.h"

#include "proto/utf8.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    svc_user_map_t map = {0};
    char shown[SVC_ORIGINAL_NAME_BYTES];
    char *copy = malloc(n > 0 ? n : 1); /* of the exact size: a read past it is seen */
    svc_str text = {copy, n};
    svc_rc rc;

    SVC_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, bytes, n);
    rc = svc_user_map_parse(&map, text);
    SVC_ASSERT(rc == RC_OK || rc == RC_INVALID);
    for (size_t i = 0; i < map.n; i++) {
        uint64_t ours;

        SVC_ASSERT(i == 0 || map.pairs[i - 1].theirs < map.pairs[i].theirs);
        SVC_ASSERT(svc_user_map_find(&map, map.pairs[i].theirs, &ours));
        SVC_ASSERT(ours == map.pairs[i].ours);
    }
    svc_original_name(text, shown);
    text = (svc_str){shown, strnlen(shown, sizeof(shown))};
    SVC_ASSERT(text.n < sizeof(shown) && svc_utf8_valid(text.p, text.n) == text.n);
    for (size_t i = 0; i < text.n; i++)
        SVC_ASSERT((unsigned char)text.p[i] >= 0x20 && text.p[i] != 0x7f);
    svc_user_map_fini(&map);
    free(copy);
    return 0;
}
