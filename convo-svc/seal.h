/* seal.h - api keys at rest: encrypted and authenticated with the service's own key.
 *
 *   sealed = 1 byte form | 8 bytes id of the key | 24 bytes nonce | secretbox(text)
 *
 * The id tells which key sealed it, so that keys can be exchanged later. A seal is read-only
 * after init: any thread. */
#ifndef SEAL_H
#define SEAL_H

#include "convo_store.h"
#include "svc/svc_secret.h"

#define SEAL_KEY_FILE \
    "seal.key" /* beside the database: the key that is made at first start */
#define SEAL_ID_BYTES  8
#define SEAL_MAX_BYTES (PROTO_API_KEY_MAX_BYTES + 128) /* of a sealed key */

typedef struct {
    uint8_t key[SVC_SECRET_BYTES]; /* a secret */
    uint8_t id[SEAL_ID_BYTES];     /* of the key: a hash of it */
} seal_t;

/* Takes a key. */
void seal_init(seal_t *self, const uint8_t key[SVC_SECRET_BYTES]);

/* Takes the key of the configuration, or the one beside the database, made at the first start. RC_INTERNAL or RC_INVALID with *error
 * (free() it): one line. */
svc_rc seal_load(seal_t *self, const svc_config_t *config, char **error) SVC_MUST_CHECK;

/* Appends `text` sealed; an empty text stays empty. RC_TOO_BIG as svc_buf_add. */
svc_rc seal_close(const seal_t *self, svc_str text, svc_buf_t *out) SVC_MUST_CHECK;

/* Appends what was sealed. RC_INVALID: another key, cut short or changed. */
svc_rc seal_open(const seal_t *self, svc_str sealed, svc_buf_t *out) SVC_MUST_CHECK;

/* Checks that the database's keys were sealed with this key; the first one that asks leaves its mark (inside a transaction
 * of a writing store). RC_INVALID: another key; else as the store. */
svc_rc seal_check(const seal_t *self, convo_store_t *store) SVC_MUST_CHECK;

#endif
