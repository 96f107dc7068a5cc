/* token.c - making and checking tokens with libjwt 1.10.2.
 *
 * What that version does not do is done here: jwt_decode takes any HMAC algorithm the header
 * asks for, takes expired tokens, and takes everything when the key is NULL; and jwt_valid_* does
 * not exist yet. A missing integer claim is -1 with errno ENOENT. Before libjwt (and the JSON
 * parser below it) sees a token, it must look like one: bounded, three parts, no other letters. */
#include "token.h"

#include "proto/proto.h"
#include "svc/svc_secret.h"
#include "svc/svc_text.h"

#include <errno.h>
#include <jwt.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>

#define JTI_BYTES 16 /* random name of a token */

struct token_signer {
    unsigned char *secret; /* owned, wiped at the end */
    int n;                 /* its bytes, as libjwt counts */
    uint32_t ttl_s;        /* of new tokens */
};

token_signer_t *
token_signer_new(const void *secret, size_t n, uint32_t ttl_s)
{
    token_signer_t *self = svc_alloc(sizeof(*self));

    SVC_ASSERT(secret != NULL && n > 0 &&
               n <= INT_MAX); /* without a key, libjwt verifies nothing */
    self->secret = svc_alloc(n);
    memcpy(self->secret, secret, n);
    self->n = (int)n;
    self->ttl_s = ttl_s;
    return self;
}

void
token_signer_destroy(token_signer_t **self_p)
{
    if (self_p == NULL || *self_p == NULL)
        return;
    sodium_memzero((*self_p)->secret, (size_t)(*self_p)->n);
    free((*self_p)->secret);
    free(*self_p);
    *self_p = NULL;
}

svc_rc
token_make(const token_signer_t *self, uint64_t user, uint64_t now_s, char **token_out,
           uint64_t *expires_out)
{
    uint8_t random[JTI_BYTES];
    char jti[2 * JTI_BYTES + 1];
    uint64_t expires_s = now_s + self->ttl_s;
    char *token = NULL;
    jwt_t *jwt = NULL;

    svc_random(random, sizeof(random));
    svc_hex(random, sizeof(random), jti);
    if (jwt_new(&jwt) == 0 &&
        jwt_set_alg(jwt, JWT_ALG_HS256, self->secret, self->n) == 0 &&
        jwt_add_grant_int(jwt, "user_id", (long)user) == 0 &&
        jwt_add_grant_int(jwt, "iat", (long)now_s) == 0 &&
        jwt_add_grant_int(jwt, "exp", (long)expires_s) == 0 &&
        jwt_add_grant(jwt, "jti", jti) == 0)
        token = jwt_encode_str(jwt);
    jwt_free(jwt);
    if (token == NULL)
        return RC_INTERNAL;
    *token_out = token;
    *expires_out = expires_s;
    return RC_OK;
}

/* True for base64url, a point, base64url, a point, base64url. */
static bool
looks_like_a_token(svc_str token)
{
    size_t points = 0, part = 0;

    if (token.n == 0 || token.n > PROTO_TOKEN_MAX_BYTES)
        return false;
    for (size_t i = 0; i < token.n; i++) {
        char c = token.p[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '-' || c == '_';

        if (!is_letter && (c != '.' || part == 0))
            return false;
        points += c == '.';
        part = c == '.' ? 0 : part + 1;
    }
    return points == 2 && part > 0;
}

/* Reads an integer claim of at least 1. */
static bool
read_claim(jwt_t *jwt, const char *name, uint64_t *out)
{
    long value;

    errno = 0;
    value = jwt_get_grant_int(jwt, name);
    if (errno != 0 || value < 1)
        return false;
    *out = (uint64_t)value;
    return true;
}

/* A token that is not good yet: nobody but an operator with the secret makes such ones. */
static bool
is_too_early(jwt_t *jwt, uint64_t now_s)
{
    long value;

    errno = 0;
    value = jwt_get_grant_int(jwt, "nbf");
    if (errno != 0)
        return errno != ENOENT;
    return value < 1 || value > (long)now_s; /* what is no integer reads as 0 */
}

svc_rc
token_check(const token_signer_t *self, svc_str token, uint64_t now_s, uint64_t *user_out,
            uint64_t *expires_out)
{
    char text[PROTO_TOKEN_MAX_BYTES + 1];
    svc_rc rc = RC_UNAUTHORIZED;
    uint64_t user, expires_s;
    jwt_t *jwt = NULL;

    if (!looks_like_a_token(token))
        return RC_UNAUTHORIZED;
    memcpy(text, token.p, token.n);
    text[token.n] = '\0';
    if (jwt_decode(&jwt, text, self->secret, self->n) != 0 || jwt == NULL)
        return RC_UNAUTHORIZED;
    if (jwt_get_alg(jwt) == JWT_ALG_HS256 && read_claim(jwt, "user_id", &user) &&
        user <= PROTO_ID_MAX && read_claim(jwt, "exp", &expires_s) && expires_s > now_s &&
        !is_too_early(jwt, now_s)) {
        *user_out = user;
        *expires_out = expires_s < PROTO_ID_MAX ? expires_s : PROTO_ID_MAX;
        rc = RC_OK;
    }
    jwt_free(jwt);
    return rc;
}
