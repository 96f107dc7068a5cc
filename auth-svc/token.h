/* token.h - JSON web tokens: who is logged in, signed and for a while.
 *
 * HS256 with the claims user_id, exp, iat and jti. Nothing is stored: a token is good until it
 * expires or the secret changes. Tokens never reach a log. Costs some microseconds, so the front
 * thread does it itself. Thread: the one that made the signer. */
#ifndef AUTH_TOKEN_H
#define AUTH_TOKEN_H

#include "proto/base.h"

#define TOKEN_SECRET_FILE \
    "jwt.secret" /* beside the database: the secret that is made at first start */

typedef struct token_signer token_signer_t;

/* Gives a signer with a copy of the secret (at least one byte); its tokens live `ttl_s`. */
token_signer_t *token_signer_new(const void *secret, size_t n, uint32_t ttl_s);

/* Wipes the secret, frees the signer, sets *self_p to NULL. NULL-safe. */
void token_signer_destroy(token_signer_t **self_p);

/* Makes a token for a user at `now_s` (Unix). *token_out: free() it; *expires_out: Unix seconds. RC_INTERNAL: libjwt failed. */
svc_rc token_make(const token_signer_t *self, uint64_t user, uint64_t now_s,
                  char **token_out, uint64_t *expires_out) SVC_MUST_CHECK;

/* Checks any bytes for a token of ours that is good at `now_s`. RC_UNAUTHORIZED: it is not. */
svc_rc token_check(const token_signer_t *self, svc_str token, uint64_t now_s,
                   uint64_t *user_out, uint64_t *expires_out) SVC_MUST_CHECK;

#endif
