/* password.h - hashing and checking passwords with bcrypt.
 *
 * One object per worker thread: libcrypt needs 32 KiB of scratch memory, which lives here and not
 * on a stack. A check costs the same whether the user exists or not, the password matches or not,
 * and whether it could match at all. Costs 50 ms at cost 10: never on a thread that serves. */
#ifndef AUTH_PASSWORD_H
#define AUTH_PASSWORD_H

#include "proto/base.h"

#define PASSWORD_MAX_BYTES  72 /* bcrypt reads no more */
#define PASSWORD_HASH_BYTES 60 /* of a hash as it is stored, without the NUL */

typedef struct password password_t;

/* Gives a hasher of this cost (4..31: 2^cost rounds). */
password_t *password_new(uint32_t cost);

/* Wipes and frees it, sets *self_p to NULL. NULL-safe. */
void password_destroy(password_t **self_p);

/* Hashes a password as $2b$ into out, with a NUL. RC_INVALID: longer than PASSWORD_MAX_BYTES or with a NUL inside, which bcrypt would cut;
 * RC_INTERNAL: libcrypt failed. */
svc_rc password_hash(password_t *self, svc_str password,
                     char out[PASSWORD_HASH_BYTES + 1]) SVC_MUST_CHECK;

/* True for a bcrypt hash of any kind that is checked here ($2a$, $2b$, $2y$), of a cost from 4 to 15: more would keep a core busy for
 * seconds at each login. */
bool password_is_hash(svc_str hash);

/* True when the password belongs to `hash` ($2a$, $2b$ or $2y$). NULL, as for an unknown user, and anything
 * that is no such hash: false after the same work. */
bool password_matches(password_t *self, svc_str password, const char *hash);

#endif
