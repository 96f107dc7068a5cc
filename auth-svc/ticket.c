/* ticket.c - making and checking tickets.
 *
 *   base64url( version 1 | user | conversation | open_until_s | expires_s | HMAC-SHA256 of all that )
 *               1 byte     8, big-endian each                              32
 *
 * The key is HMAC-SHA256(secret of the tokens, label). What the secret itself signs for tokens is
 * base64url and points only, which the label is not: no signature of one kind is ever one of the
 * other. There is exactly one text for a ticket: libsodium 1.0.18 also takes some letters above
 * 127 for others, so what was read is written again and compared. */
#include "ticket.h"

#include "proto/proto.h"

#include <sodium.h>
#include <stdlib.h>

#define VERSION      1
#define NUMBERS      4
#define SIGNED_BYTES (1 + 8 * NUMBERS)
#define ALL_BYTES    (SIGNED_BYTES + crypto_auth_hmacsha256_BYTES)
#define VARIANT      sodium_base64_VARIANT_URLSAFE_NO_PADDING

_Static_assert(sodium_base64_ENCODED_LEN(ALL_BYTES, VARIANT) == TICKET_TEXT_BYTES + 1,
               "the header tells the length");

static const char label[] = "llmb: key of tickets, 1";

struct ticket_signer {
    unsigned char key[crypto_auth_hmacsha256_KEYBYTES]; /* wiped at the end */
};

ticket_signer_t *
ticket_signer_new(const void *secret, size_t n)
{
    ticket_signer_t *self = svc_alloc(sizeof(*self));
    crypto_auth_hmacsha256_state state;

    SVC_ASSERT(secret != NULL && n > 0);
    crypto_auth_hmacsha256_init(&state, secret, n);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)label, strlen(label));
    crypto_auth_hmacsha256_final(&state, self->key);
    sodium_memzero(&state, sizeof(state));
    return self;
}

void
ticket_signer_destroy(ticket_signer_t **self_p)
{
    if (self_p == NULL || *self_p == NULL)
        return;
    sodium_memzero((*self_p)->key, sizeof((*self_p)->key));
    free(*self_p);
    *self_p = NULL;
}

static void
put(unsigned char *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(value >> (56 - 8 * i));
}

static uint64_t
get(const unsigned char *in)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | in[i];
    return value;
}

void
ticket_make(const ticket_signer_t *self, const ticket_t *ticket,
            char out[TICKET_TEXT_BYTES + 1])
{
    unsigned char bytes[ALL_BYTES] = {VERSION};

    put(bytes + 1, ticket->user);
    put(bytes + 9, ticket->conversation);
    put(bytes + 17, ticket->open_until_s);
    put(bytes + 25, ticket->expires_s);
    crypto_auth_hmacsha256(bytes + SIGNED_BYTES, bytes, SIGNED_BYTES, self->key);
    SVC_ASSERT(sodium_bin2base64(out, TICKET_TEXT_BYTES + 1, bytes, sizeof(bytes),
                                 VARIANT) != NULL);
}

static bool
is_id(uint64_t value)
{
    return value >= 1 && value <= PROTO_ID_MAX;
}

svc_rc
ticket_check(const ticket_signer_t *self, svc_str text, uint64_t now_s, ticket_t *out)
{
    unsigned char bytes[ALL_BYTES];
    char again[TICKET_TEXT_BYTES + 1];
    ticket_t ticket;
    size_t n = 0;

    if (text.n != TICKET_TEXT_BYTES ||
        sodium_base642bin(bytes, sizeof(bytes), text.p, text.n, NULL, &n, NULL,
                          VARIANT) != 0 ||
        n != sizeof(bytes) || bytes[0] != VERSION ||
        sodium_bin2base64(again, sizeof(again), bytes, n, VARIANT) == NULL ||
        memcmp(again, text.p, text.n) != 0 ||
        crypto_auth_hmacsha256_verify(bytes + SIGNED_BYTES, bytes, SIGNED_BYTES,
                                      self->key) != 0)
        return RC_UNAUTHORIZED;
    ticket = (ticket_t){get(bytes + 1), get(bytes + 9), get(bytes + 17), get(bytes + 25)};
    if (!is_id(ticket.user) || !is_id(ticket.conversation) ||
        ticket.open_until_s > PROTO_ID_MAX || ticket.expires_s > PROTO_ID_MAX ||
        ticket.expires_s <= now_s)
        return RC_UNAUTHORIZED;
    *out = ticket;
    return RC_OK;
}
