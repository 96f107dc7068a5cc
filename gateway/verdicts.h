/* verdicts.h - tokens that auth-svc has found good a moment ago.
 *
 * Saves the round trip of auth.verify for a client that asks again within seconds. A
 * verdict is kept for at most gateway.verify_cache_s and never past the token's own
 * end; refusals are not kept. The table is of fixed size and holds keyed hashes, never
 * a token. Thread: its reactor's. */
#ifndef GATEWAY_VERDICTS_H
#define GATEWAY_VERDICTS_H

#include "proto/base.h"

typedef struct verdicts verdicts_t;

/* Gives an empty table whose verdicts live `ttl_ms`; 0: keeps nothing. */
verdicts_t *verdicts_new(uint64_t ttl_ms);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void verdicts_destroy(verdicts_t **self_p);

/* The user of a token whose verdict is still good at `unix_ms`, and when the token itself
 * ends (Unix); 0: not known, ask auth-svc. */
uint64_t verdicts_find(const verdicts_t *self, svc_str token, uint64_t unix_ms,
                       uint64_t *expires_s);

/* Keeps the verdict that `token` is `user`'s and ends at `expires_s` (Unix). */
void verdicts_keep(verdicts_t *self, svc_str token, uint64_t user, uint64_t expires_s,
                   uint64_t unix_ms);

#endif
