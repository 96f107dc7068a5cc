/* fuzz_ticket.c - no bytes in a ?ticket= can hurt, or pass for somebody's ticket.
 *
 * links: auth-svc
 *
 * The first byte says what the rest is: '0' a ticket as it came; '1' pairs of place and letter that
 * change a good ticket; '2' the same of a token's beginning; '3' up to 33 bytes that are signed here
 * as the header of ticket.c says, so that what stands behind the signature is reached, too. What is
 * taken must be in bounds, and no ticket is a token. */
#include "auth-svc/ticket.h"
#include "auth-svc/token.h"

#include "proto/proto.h"

#include <sodium.h>
#include <stdlib.h>

#define NOW_S        1700000000u
#define TTL_S        3600
#define SIGNED_BYTES 33
#define ALL_BYTES    (SIGNED_BYTES + crypto_auth_hmacsha256_BYTES)

static const char secret[] = "a secret of the fuzzer's, 32 byte";
static const char label[] = "llmb: key of tickets, 1";
static const ticket_t good = {7, 99, NOW_S + 60, NOW_S + TTL_S};

static ticket_signer_t *tickets;
static token_signer_t *tokens;
static char good_text[TICKET_TEXT_BYTES + 1];
static char *token;

/* Checks any bytes, copied to their exact size so that the sanitizer sees a read past the end. */
static svc_rc
check(const char *bytes, size_t n, ticket_t *out)
{
    char *copy = malloc(n == 0 ? 1 : n);
    uint64_t user, expires_s;
    svc_rc rc;

    SVC_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, bytes, n);
    memset(out, 0, sizeof(*out));
    rc = ticket_check(tickets, (svc_str){copy, n}, NOW_S, out);
    SVC_ASSERT(rc == RC_OK || rc == RC_UNAUTHORIZED);
    if (rc == RC_OK) {
        SVC_ASSERT(out->user >= 1 && out->user <= PROTO_ID_MAX &&
                   out->conversation >= 1 && out->conversation <= PROTO_ID_MAX &&
                   out->expires_s > NOW_S && out->expires_s <= PROTO_ID_MAX &&
                   out->open_until_s <= PROTO_ID_MAX);
        SVC_ASSERT(token_check(tokens, (svc_str){copy, n}, NOW_S, &user, &expires_s) !=
                   RC_OK);
    } else {
        SVC_ASSERT(out->user == 0 && out->expires_s == 0);
    }
    free(copy);
    return rc;
}

static void
check_signed(const uint8_t *data, size_t n)
{
    unsigned char key[crypto_auth_hmacsha256_KEYBYTES], bytes[ALL_BYTES] = {1};
    char text[TICKET_TEXT_BYTES + 1];
    crypto_auth_hmacsha256_state state;
    ticket_t out;

    crypto_auth_hmacsha256_init(&state, (const unsigned char *)secret, sizeof(secret));
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)label, strlen(label));
    crypto_auth_hmacsha256_final(&state, key);
    memcpy(bytes, data, n < SIGNED_BYTES ? n : SIGNED_BYTES);
    crypto_auth_hmacsha256(bytes + SIGNED_BYTES, bytes, SIGNED_BYTES, key);
    SVC_ASSERT(sodium_bin2base64(text, sizeof(text), bytes, sizeof(bytes),
                                 sodium_base64_VARIANT_URLSAFE_NO_PADDING) != NULL);
    if (check(text, strlen(text), &out) == RC_OK)
        SVC_ASSERT(bytes[0] == 1);
}

/* Changes letters: it is refused, or nothing has changed (then it is the good ticket). */
static void
check_changed(const char *from, const uint8_t *edits, size_t n)
{
    char text[TICKET_TEXT_BYTES];
    ticket_t out;

    memcpy(text, from, sizeof(text));
    for (size_t i = 0; i + 1 < n; i += 2)
        text[edits[i] % sizeof(text)] = (char)edits[i + 1];
    if (check(text, sizeof(text), &out) == RC_OK)
        SVC_ASSERT(memcmp(text, good_text, sizeof(text)) == 0);
}

/* Makes sure that what the modes are about is reached at all. */
static void
prepare(void)
{
    uint8_t bytes[SIGNED_BYTES] = {1, [8] = 7, [16] = 99, [32] = 1, [29] = 0x7f};
    uint64_t expires_s;
    ticket_t out;

    tickets = ticket_signer_new(secret, sizeof(secret));
    tokens = token_signer_new(secret, sizeof(secret), TTL_S);
    ticket_make(tickets, &good, good_text);
    SVC_ASSERT(token_make(tokens, 7, NOW_S, &token, &expires_s) == RC_OK);
    SVC_ASSERT(check(good_text, TICKET_TEXT_BYTES, &out) == RC_OK && out.user == 7);
    SVC_ASSERT(check(token, strlen(token), &out) != RC_OK);
    check_signed(bytes, sizeof(bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ticket_t out;

    if (tickets == NULL)
        prepare();
    if (n == 0)
        return 0;
    n--;
    switch (data[0]) {
    case '1': check_changed(good_text, data + 1, n); break;
    case '2': check_changed(token, data + 1, n); break;
    case '3': check_signed(data + 1, n); break;
    default: (void)check((const char *)data + 1, n, &out); break;
    }
    return 0;
}
