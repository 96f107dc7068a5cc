/* verdicts.c - tokens that auth-svc has found good a moment ago.
 *
 * A keyed hash stands for the token, compared in constant time. Sets of four
 * entries, found by the hash's first bytes; a new verdict takes the place of
 * the one in its set that ends first. What is overwritten is only asked for
 * again. */
#include "verdicts.h"

#include <sodium.h>
#include <stdlib.h>

#define SETS       1024u
#define WAYS       4u
#define HASH_BYTES 32

typedef struct {
    unsigned char hash[HASH_BYTES]; /* of the token */
    uint64_t user;                  /* 0: empty */
    uint64_t until_ms;              /* Unix: of the verdict */
    uint64_t expires_s;             /* Unix: of the token */
} verdict_t;

struct verdicts {
    uint64_t ttl_ms; /* of an entry at most */
    unsigned char
        key[crypto_generichash_KEYBYTES]; /* of the hash, fresh for each start */
    verdict_t sets[SETS][WAYS];           /* fixed */
};

verdicts_t *
verdicts_new(uint64_t ttl_ms)
{
    verdicts_t *self = svc_alloc(sizeof *self);

    self->ttl_ms = ttl_ms;
    randombytes_buf(self->key, sizeof self->key);
    return self;
}

void
verdicts_destroy(verdicts_t **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

/* Hashes a token; gives the number of its set. */
static size_t
hash_token(const verdicts_t *self, svc_str token, unsigned char hash[HASH_BYTES])
{
    uint32_t set;

    crypto_generichash(hash, HASH_BYTES, (const unsigned char *)token.p, token.n,
                       self->key, sizeof self->key);
    memcpy(&set, hash, sizeof set);
    return set % SETS;
}

uint64_t
verdicts_find(const verdicts_t *self, svc_str token, uint64_t unix_ms,
              uint64_t *expires_s)
{
    unsigned char hash[HASH_BYTES];

    if (self->ttl_ms == 0)
        return 0;
    const verdict_t *set = self->sets[hash_token(self, token, hash)];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].user != 0 && set[i].until_ms > unix_ms &&
            set[i].until_ms - unix_ms <= self->ttl_ms &&
            sodium_memcmp(set[i].hash, hash, HASH_BYTES) == 0) {
            *expires_s = set[i].expires_s;
            return set[i].user;
        }
    }
    return 0;
}

void
verdicts_keep(verdicts_t *self, svc_str token, uint64_t user, uint64_t expires_s,
              uint64_t unix_ms)
{
    unsigned char hash[HASH_BYTES];
    uint64_t until_ms = unix_ms + self->ttl_ms;

    if (expires_s <= until_ms / 1000)
        until_ms = expires_s * 1000;
    if (self->ttl_ms == 0 || until_ms <= unix_ms)
        return;
    verdict_t *set = self->sets[hash_token(self, token, hash)];
    verdict_t *place = &set[0];
    for (size_t i = 0; i < WAYS; i++) {
        if (memcmp(set[i].hash, hash, HASH_BYTES) == 0) {
            place = &set[i];
            break;
        }
        if (set[i].until_ms < place->until_ms)
            place = &set[i];
    }
    memcpy(place->hash, hash, HASH_BYTES);
    place->user = user;
    place->until_ms = until_ms;
    place->expires_s = expires_s;
}
