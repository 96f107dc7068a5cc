/* fuzz_token.c - no bytes in an Authorization header can hurt, or pass for somebody's token.
 *
 * links: auth-svc
 *
 * The first byte says what the rest is: '0' a token as it came; '1' header and payload (up to the
 * first line end, and after it), which are signed here with the right secret, so that what stands
 * behind the signature is reached, too; '2' pairs of place and letter that change a good token;
 * '3' the same as '1', signed with another secret. What is taken must be good for what it says. */
#include "auth-svc/token.h"

#include "proto/proto.h"

#include <sodium.h>
#include <stdlib.h>

#define NOW_S 1700000000u
#define TTL_S 3600
#define USER  7
#define INPUT_BYTES \
    3000 /* of header and payload together: some more than a token holds */

static const char secret[] = "a secret of the fuzzer's, 32 byte";
static const char other[] = "another secret, also of 32 bytes.";

/* Checks any bytes, copied to their exact size so that the sanitizer sees a read past the end. */
static svc_rc
check(const token_signer_t *signer, const char *bytes, size_t n, uint64_t *user,
      uint64_t *expires_s)
{
    char *copy = malloc(n == 0 ? 1 : n);
    svc_rc rc;

    SVC_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, bytes, n);
    *user = 0;
    *expires_s = 0;
    rc = token_check(signer, (svc_str){copy, n}, NOW_S, user, expires_s);
    SVC_ASSERT(rc == RC_OK || rc == RC_UNAUTHORIZED);
    if (rc == RC_OK)
        SVC_ASSERT(*user >= 1 && *user <= PROTO_ID_MAX && *expires_s > NOW_S &&
                   *expires_s <= PROTO_ID_MAX);
    else
        SVC_ASSERT(*user == 0 && *expires_s == 0);
    free(copy);
    return rc;
}

/* Appends base64url without padding. */
static size_t
encode(char *out, size_t size, const void *bytes, size_t n)
{
    SVC_ASSERT(sodium_bin2base64(out, size, bytes, n,
                                 sodium_base64_VARIANT_URLSAFE_NO_PADDING) != NULL);
    return strlen(out);
}

/* Makes a token of any header and payload, with a signature that holds. */
static svc_rc
check_signed(const token_signer_t *signer, const char *key, size_t key_n,
             const char *bytes, size_t n)
{
    static char token[2 * INPUT_BYTES];
    const char *end = n == 0 ? NULL : memchr(bytes, '\n', n);
    const size_t head = end == NULL ? n : (size_t)(end - bytes),
                 skip = end == NULL ? n : head + 1;
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    crypto_auth_hmacsha256_state state;
    uint64_t user, expires_s;
    size_t at;

    at = encode(token, sizeof(token), bytes, head);
    token[at++] = '.';
    at += encode(token + at, sizeof(token) - at, bytes + skip, n - skip);
    crypto_auth_hmacsha256_init(&state, (const unsigned char *)key, key_n);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)token, at);
    crypto_auth_hmacsha256_final(&state, mac);
    token[at++] = '.';
    at += encode(token + at, sizeof(token) - at, mac, sizeof(mac));
    return check(signer, token, at, &user, &expires_s);
}

/* Changes letters of a good token: it is refused, or says what it said. */
static void
check_changed(const token_signer_t *signer, const char *good, uint64_t good_until,
              const uint8_t *edits, size_t n)
{
    char token[PROTO_TOKEN_MAX_BYTES];
    const size_t length = strlen(good);
    uint64_t user, expires_s;

    memcpy(token, good, length);
    for (size_t i = 0; i + 1 < n; i += 2)
        token[edits[i] % length] = (char)edits[i + 1];
    if (check(signer, token, length, &user, &expires_s) == RC_OK)
        SVC_ASSERT(user == USER && expires_s == good_until);
}

/* Makes sure that what the modes are about is reached at all. */
static void
prove(const token_signer_t *signer, const char *good)
{
    static const char plain[] = "{\"alg\":\"HS256\"}\n{\"user_id\":7,\"exp\":1700003600}";
    uint64_t user, expires_s;

    SVC_ASSERT(check(signer, good, strlen(good), &user, &expires_s) == RC_OK);
    SVC_ASSERT(check_signed(signer, secret, sizeof(secret), plain, sizeof(plain) - 1) ==
               RC_OK);
    SVC_ASSERT(check_signed(signer, other, sizeof(other), plain, sizeof(plain) - 1) ==
               RC_UNAUTHORIZED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static token_signer_t *signer;
    static char *good;
    static uint64_t good_until;
    const char *rest = (const char *)data + 1;
    uint64_t user, expires_s;

    if (signer == NULL) {
        signer = token_signer_new(secret, sizeof(secret), TTL_S);
        SVC_ASSERT(token_make(signer, USER, NOW_S, &good, &good_until) == RC_OK);
        prove(signer, good);
    }
    if (n == 0)
        return 0;
    n--;
    switch (data[0]) {
    case '1':
        if (n <= INPUT_BYTES)
            (void)check_signed(signer, secret, sizeof(secret), rest, n);
        break;
    case '2': check_changed(signer, good, good_until, data + 1, n); break;
    case '3':
        if (n <= INPUT_BYTES)
            SVC_ASSERT(check_signed(signer, other, sizeof(other), rest, n) != RC_OK);
        break;
    default: (void)check(signer, rest, n, &user, &expires_s); break;
    }
    return 0;
}
