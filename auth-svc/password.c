/* password.c - bcrypt by libcrypt (libxcrypt 4.4).
 *
 * Hashes are made as $2b$. $2a$ (the original backend's, made in Go) and $2y$ name the same
 * algorithm, but libxcrypt computes $2a$ with a counter-measure of its own against an old bug for
 * some passwords with bytes above 127; so all three are computed as $2b$. crypt_rn returns NULL
 * on a bad setting; crypt would return "*0", which one could store by mistake. */
#include "password.h"

#include "svc/svc_secret.h"

#include <crypt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define SALT_RANDOM_BYTES 16
#define PREFIX_BYTES      4 /* "$2b$" */
#define COST_AT           4 /* two digits and a "$" */
#define COST_MIN          4
#define COST_MAX          15 /* as auth.bcrypt_cost */

struct password {
    uint32_t cost;                        /* of new hashes, and of the work for nobody */
    char nobody[PASSWORD_HASH_BYTES + 1]; /* a hash of this cost that nothing matches */
    char text[PASSWORD_MAX_BYTES +
              1];            /* the password with its NUL; wiped after each use */
    struct crypt_data crypt; /* scratch of libcrypt */
};

password_t *
password_new(uint32_t cost)
{
    password_t *self = svc_alloc(sizeof(*self));

    self->cost = cost;
    /* The last character of a real hash never is '1': it stands for four bits only. */
    (void)snprintf(self->nobody, sizeof(self->nobody), "$2b$%02u$%s", cost % 100,
                   "abcdefghijklmnopqrstuu1111111111111111111111111111111");
    return self;
}

void
password_destroy(password_t **self_p)
{
    if (self_p == NULL || *self_p == NULL)
        return;
    sodium_memzero(*self_p, sizeof(**self_p));
    free(*self_p);
    *self_p = NULL;
}

/* True when bcrypt would read the password whole. */
static bool
is_whole(svc_str password)
{
    return password.n <= PASSWORD_MAX_BYTES &&
           (password.n == 0 || memchr(password.p, '\0', password.n) == NULL);
}

/* Runs bcrypt over at most 72 bytes. NULL when libcrypt refuses the setting; else good until the next run. */
static const char *
run(password_t *self, svc_str password, const char *setting)
{
    size_t n = password.n < PASSWORD_MAX_BYTES ? password.n : PASSWORD_MAX_BYTES;
    const char *hash;

    if (n > 0)
        memcpy(self->text, password.p, n);
    self->text[n] = '\0';
    hash = crypt_rn(self->text, setting, &self->crypt, (int)sizeof(self->crypt));
    sodium_memzero(self->text, sizeof(self->text));
    return hash != NULL && strlen(hash) == PASSWORD_HASH_BYTES ? hash : NULL;
}

svc_rc
password_hash(password_t *self, svc_str password, char out[PASSWORD_HASH_BYTES + 1])
{
    char salt[SALT_RANDOM_BYTES];
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    const char *hash;

    if (!is_whole(password))
        return RC_INVALID;
    svc_random(salt, sizeof(salt));
    if (crypt_gensalt_rn("$2b$", self->cost, salt, sizeof(salt), setting,
                         sizeof(setting)) == NULL)
        return RC_INTERNAL;
    hash = run(self, password, setting);
    if (hash == NULL)
        return RC_INTERNAL;
    memcpy(out, hash, PASSWORD_HASH_BYTES + 1);
    return RC_OK;
}

/* True for a hash, as long as one is, that can be computed as $2b$. */
static bool
is_known(const char *hash)
{
    return hash[0] == '$' && hash[1] == '2' && strchr("aby", hash[2]) != NULL &&
           hash[3] == '$';
}

bool
password_is_hash(svc_str hash)
{
    static const char alphabet[] =
        "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    unsigned cost = 0;

    if (hash.n != PASSWORD_HASH_BYTES || memchr(hash.p, '\0', hash.n) != NULL ||
        !is_known(hash.p) || hash.p[COST_AT + 2] != '$')
        return false;
    for (size_t i = COST_AT; i < COST_AT + 2; i++) {
        if (hash.p[i] < '0' || hash.p[i] > '9')
            return false;
        cost = cost * 10 + (unsigned)(hash.p[i] - '0');
    }
    for (size_t i = COST_AT + 3; i < hash.n; i++)
        if (strchr(alphabet, hash.p[i]) == NULL)
            return false;
    return cost >= COST_MIN && cost <= COST_MAX;
}

bool
password_matches(password_t *self, svc_str password, const char *hash)
{
    bool can_match = hash != NULL && strlen(hash) == PASSWORD_HASH_BYTES &&
                     is_known(hash) && is_whole(password);
    char setting[PASSWORD_HASH_BYTES + 1];
    const char *made;

    memcpy(setting, can_match ? hash : self->nobody, sizeof(setting));
    setting[2] = 'b';
    made = run(self, password, setting);
    if (made == NULL) { /* a damaged hash: no match, but the same work */
        (void)run(self, password, self->nobody);
        return false;
    }
    return sodium_memcmp(made + PREFIX_BYTES, setting + PREFIX_BYTES,
                         PASSWORD_HASH_BYTES - PREFIX_BYTES) == 0 &&
           can_match;
}
