/* fuzz_keys.c - no bytes in a file of keys can hurt, and what is taken is what the file says.
 *
 * Parsed from a copy of its exact size, so that the sanitizer sees a read past the end. What was taken, written down
 * again, is taken again and is the same. */
#include "svc/svc_keys.h"

#include <stdio.h>
#include <stdlib.h>

#include <zmq.h>

static svc_rc
parse(const char *bytes, size_t n, svc_key_file_t *out)
{
    char *copy = malloc(n == 0 ? 1 : n);
    const char *why = NULL;
    size_t line = 0;

    SVC_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, bytes, n);
    const svc_rc rc = svc_key_file_parse((svc_str){copy, n}, out, &why, &line);
    SVC_ASSERT((rc == RC_OK) == (why == NULL));
    SVC_ASSERT(rc == RC_OK || rc == RC_INVALID);
    SVC_ASSERT(line <= n);
    free(copy);
    return rc;
}

static size_t
add_line(char *at, const char *word, const uint8_t key[SVC_KEY_BYTES])
{
    char text[SVC_KEY_TEXT_BYTES + 1];

    SVC_ASSERT(zmq_z85_encode(text, key, SVC_KEY_BYTES) != NULL);
    return (size_t)sprintf(at, "%s %s\n", word, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    svc_key_file_t file, again;
    char text[256];
    size_t at = 0;

    if (parse((const char *)data, n, &file) != RC_OK)
        return 0;
    SVC_ASSERT(file.n >= 1 && file.n <= SVC_KEYS_ACCEPTED);
    for (size_t i = 0; i < file.n; i++)
        at += add_line(text + at, "public", file.public_keys[i]);
    if (file.has_secret)
        at += add_line(text + at, "secret", file.secret_key);
    SVC_ASSERT(parse(text, at, &again) == RC_OK);
    SVC_ASSERT(memcmp(&file, &again, sizeof(file)) == 0);
    return 0;
}
