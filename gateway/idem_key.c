/* idem_key.c - what a client's Idempotency-Key becomes on the bus.
 *
 * BLAKE2b of the operation's word, a zero and the key: no key can hold a zero, so no two
 * operations can meet. Not keyed: a hash of something that a client made up protects
 * nothing, and every gateway must come to the same one. */
#include "idem_key.h"

#include <sodium.h>

static bool
is_key(svc_str text)
{
    if (text.n == 0 || text.n > IDEM_KEY_TEXT_MAX)
        return false;
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] < '!' || text.p[i] > '~')
            return false;
    return true;
}

bool
idem_key_make(svc_str text, idem_purpose purpose, uint8_t out[IDEM_KEY_BYTES])
{
    static const char *const words[] = {"chat", "retry", "create"};
    crypto_generichash_state state;
    const char *word = words[purpose];

    if (!is_key(text))
        return false;
    (void)crypto_generichash_init(&state, NULL, 0, IDEM_KEY_BYTES);
    (void)crypto_generichash_update(&state, (const unsigned char *)word,
                                    strlen(word) + 1);
    (void)crypto_generichash_update(&state, (const unsigned char *)text.p, text.n);
    (void)crypto_generichash_final(&state, out, IDEM_KEY_BYTES);
    return true;
}
