/* user_store.h - where users are kept: the seam between auth-svc and a database.
 *
 * A store is opened once per process; it takes what lock it needs and brings the schema up to
 * date. Each worker thread then makes a connection of its own: one thread writes, any number
 * read. Usernames are compared byte by byte. A driver fills one user_store_driver_t; SQLite is the embedded one,
 * for one process; PostgreSQL serves many. */
#ifndef AUTH_USER_STORE_H
#define AUTH_USER_STORE_H

#include "proto/proto.h"
#include "svc/svc_ctx.h"

#include <stdatomic.h>

#define USER_HASH_MAX_BYTES 127 /* of a stored hash: bcrypt has 60 */

typedef struct {
    uint64_t id;                        /* 1.., never used again */
    char hash[USER_HASH_MAX_BYTES + 1]; /* of the password, with its NUL */
    uint8_t key[PROTO_KEY_MAX_BYTES];   /* of the request that added it */
    size_t n_key;                       /* its bytes, 0: none */
} user_row_t;

/* A user to be added, and what became of it. */
typedef struct {
    svc_str username;   /* borrowed */
    svc_str hash;       /* borrowed */
    svc_str key;        /* borrowed; a request key, may be empty */
    uint64_t created_s; /* Unix seconds */
    uint64_t id;        /* out: of the user */
    svc_rc
        rc; /* out: RC_OK (also of one added with the same key before), RC_USERNAME_TAKEN, RC_INTERNAL, RC_UNAVAILABLE */
} new_user_t;

typedef struct {
    /* Opens the store that ctx->config names. Borrows ctx and *stop, which ends all waiting for a database when it becomes true. NULL
     * with *error (free() it): one line that says why. Front thread, before the others. */
    void *(*open)(svc_ctx_t *ctx, const atomic_bool *stop, char **error);

    /* The same only to look at it, beside whoever writes: nothing is locked, made or changed. NULL without *error: there is none yet. */
    void *(*open_to_read)(svc_ctx_t *ctx, char **error);

    /* Closes it, after all connections. NULL-safe. */
    void (*close)(void *store);

    /* Makes a connection for the calling thread; one of a store `writes`. NULL with *error likewise. The store outlives it. */
    void *(*connect)(void *store, bool writes, char **error);

    /* Closes it, on its thread. NULL-safe. */
    void (*disconnect)(void *connection);

    /* True while the connection that writes waits for the database: who comes now is refused. Any thread. NULL: it never does. */
    bool (*is_away)(void *store);

    /* Finds a user by name. RC_NOT_FOUND, RC_INTERNAL, RC_UNAVAILABLE: the database is away for the moment. */
    svc_rc (*find)(void *connection, svc_str username, user_row_t *out);

    /* Adds users in one transaction and sets rc and id of each: they are durable on return. Anything but RC_OK: none of them was added. */
    svc_rc (*add)(void *connection, new_user_t *users, size_t n);
} user_store_driver_t;

/* True when a user was added by a request with this key. */
static inline bool
user_row_has_key(const user_row_t *row, svc_str key)
{
    return key.n > 0 && key.n == row->n_key && memcmp(key.p, row->key, key.n) == 0;
}

extern const user_store_driver_t user_store_sqlite, user_store_postgresql;

#endif
