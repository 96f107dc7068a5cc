/* seal.c - api keys at rest: encrypted and authenticated with the service's own key.
 *
 * libsodium's secretbox (XSalsa20, Poly1305) with a random nonce of 24 bytes: too long to repeat.
 * What is opened wrongly fails its tag, so a wrong key can never hand out rubbish. The check value
 * in the database finds a wrong key at start, before a user does. */
#include "seal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define FORM       1
#define HEAD_BYTES (1 + SEAL_ID_BYTES + crypto_secretbox_NONCEBYTES)
#define META_NAME  "seal_check"

void
seal_init(seal_t *self, const uint8_t key[SVC_SECRET_BYTES])
{
    _Static_assert(SVC_SECRET_BYTES == crypto_secretbox_KEYBYTES, "key size");
    uint8_t hash[crypto_generichash_BYTES];

    memcpy(self->key, key, sizeof(self->key));
    (void)crypto_generichash(hash, sizeof(hash), key, SVC_SECRET_BYTES, NULL, 0);
    memcpy(self->id, hash, sizeof(self->id));
}

svc_rc
seal_load(seal_t *self, const svc_config_t *config, char **error)
{
    const char *given = config->convo_seal_key;
    uint8_t key[SVC_SECRET_BYTES];
    char *path;
    svc_rc rc;

    if (given[0] != '\0') {
        rc = svc_secret_decode(svc_str_c(given), key);
        if (rc != RC_OK)
            *error = svc_str_dup(
                SVC_LIT("convo.seal_key is not 32 bytes of hex or base64"));
    } else {
        path = svc_secret_path_beside(config->sqlite_path, SEAL_KEY_FILE);
        rc = svc_secret_load_or_make(path, key, error);
        free(path);
    }
    if (rc == RC_OK)
        seal_init(self, key);
    sodium_memzero(key, sizeof(key));
    return rc;
}

svc_rc
seal_close(const seal_t *self, svc_str text, svc_buf_t *out)
{
    size_t n = HEAD_BYTES + crypto_secretbox_MACBYTES + text.n;
    unsigned char *p;
    svc_rc rc;

    if (text.n == 0)
        return RC_OK;
    rc = svc_buf_reserve(out, n);
    if (rc != RC_OK)
        return rc;
    p = (unsigned char *)out->p + out->n;
    p[0] = FORM;
    memcpy(p + 1, self->id, SEAL_ID_BYTES);
    svc_random(p + 1 + SEAL_ID_BYTES, crypto_secretbox_NONCEBYTES);
    (void)crypto_secretbox_easy(p + HEAD_BYTES, (const unsigned char *)text.p, text.n,
                                p + 1 + SEAL_ID_BYTES, self->key);
    out->n += n;
    return RC_OK;
}

svc_rc
seal_open(const seal_t *self, svc_str sealed, svc_buf_t *out)
{
    const unsigned char *p = (const unsigned char *)sealed.p;
    size_t n;
    svc_rc rc;

    if (sealed.n == 0)
        return RC_OK;
    /* An empty text is never sealed: nothing inside is not ours. */
    if (sealed.n <= HEAD_BYTES + crypto_secretbox_MACBYTES || p[0] != FORM ||
        memcmp(p + 1, self->id, SEAL_ID_BYTES) != 0)
        return RC_INVALID;
    n = sealed.n - HEAD_BYTES - crypto_secretbox_MACBYTES;
    rc = svc_buf_reserve(out, n);
    if (rc != RC_OK)
        return rc;
    if (crypto_secretbox_open_easy((unsigned char *)out->p + out->n, p + HEAD_BYTES,
                                   sealed.n - HEAD_BYTES, p + 1 + SEAL_ID_BYTES,
                                   self->key) != 0)
        return RC_INVALID;
    out->n += n;
    return RC_OK;
}

svc_rc
seal_check(const seal_t *self, convo_store_t *store)
{
    svc_buf_t sealed, text;
    svc_rc rc;

    svc_buf_init(&sealed, SEAL_MAX_BYTES);
    svc_buf_init(&text, SEAL_MAX_BYTES);
    rc = store->api->meta_get(store, META_NAME, &sealed);
    if (rc == RC_NOT_FOUND) {
        rc = seal_close(self, SVC_LIT(META_NAME), &sealed);
        if (rc == RC_OK)
            rc = store->api->meta_put(store, META_NAME, svc_buf_str(&sealed));
    } else if (rc == RC_OK) {
        rc = seal_open(self, svc_buf_str(&sealed), &text);
        if (rc == RC_OK && !svc_str_eq(svc_buf_str(&text), SVC_LIT(META_NAME)))
            rc = RC_INVALID;
    }
    svc_buf_fini(&sealed);
    svc_buf_fini(&text);
    return rc;
}
