/* user_store_postgresql.c - users in PostgreSQL, where any number of auth-svc may share them.
 *
 * Names are bytea: compared byte by byte whatever the database's encoding and collation, and any bytes of a
 * login may be looked for. Who registers a name first is decided by its unique index: a batch that meets
 * a name which another replica is just adding waits for it, then finds the name taken. Batches insert in the
 * order of names, so that two of them never wait for one another. Each connection belongs to one thread
 * and is made anew when the server was away. */
#include "user_store.h"

#include "svc/svc_pg.h"
#include "svc/svc_time.h"

#include <stdio.h>
#include <stdlib.h>

#define STATEMENT_MS 3000
#define REST_MS      1000 /* of those who read, after one has waited so long for nothing */
#define BUSY_TRIES   5    /* of a batch that somebody was in the way of */
#define USERS_MAX    128  /* whose results are due at once; more go in turns */

enum { ST_FIND, ST_ADD, ST_FIND_KEY, ST_LOOK, ST_COUNT };

// clang-format off
static const svc_pg_step_t steps[] = {
    /* sql, fewest steps that code must know */
    {"CREATE TABLE auth_user ("
     "  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
     "  username bytea NOT NULL UNIQUE,"
     "  password_hash text NOT NULL,"
     "  created_s bigint NOT NULL,"
     "  request_key bytea" /* NULL: registered without one */
     ")", 1},
};
// clang-format on

#define SQL_FIND \
    "SELECT id, password_hash, request_key FROM auth_user WHERE username = $1"
#define SQL_ADD                                                               \
    "INSERT INTO auth_user (username, password_hash, created_s, request_key)" \
    " VALUES ($1, $2, $3, $4) ON CONFLICT (username) DO NOTHING RETURNING id"
#define SQL_FIND_KEY "SELECT id FROM auth_user WHERE username = $1 AND request_key = $2"

typedef struct {
    svc_ctx_t *ctx;          /* borrowed: config and log */
    const atomic_bool *stop; /* borrowed */
    atomic_uint_least64_t
        away_ms; /* monotonic: since when the connection that writes waits for the server; 0: it does not */
    atomic_uint_least64_t
        rests_until_ms; /* monotonic: a server that has frozen is left alone */
} store_t;

typedef struct {
    store_t *store; /* borrowed */
    svc_pg_t *pg;   /* owned */
} connection_t;

/* --- the store --------------------------------------------------------------------------- */

static svc_pg_t *
make_connection(store_t *store, bool writes, char **error)
{
    const svc_pg_config_t config = {.url = store->ctx->config->storage_postgresql_url,
                                    .name = "auth-svc",
                                    .log = store->ctx->log,
                                    .slots = ST_COUNT,
                                    .stop = store->stop,
                                    .away_ms = writes ? &store->away_ms : NULL,
                                    .statement_ms = STATEMENT_MS};

    return svc_pg_new(&config, error);
}

/* Connects at once, so that the first who comes need not wait for it; a server that is away for the moment is no reason not to start. */
static void *
connect_store(void *arg, bool writes, char **error)
{
    svc_pg_t *pg = make_connection(arg, writes, error);
    connection_t *self;
    char *why = NULL;

    if (pg == NULL)
        return NULL;
    if (!svc_pg_connect(pg, 0, &why))
        free(why);
    self = svc_alloc(sizeof(*self));
    *self = (connection_t){arg, pg};
    return self;
}

static void
disconnect(void *arg)
{
    connection_t *self = arg;

    if (self == NULL)
        return;
    svc_pg_destroy(&self->pg);
    free(self);
}

static void
close_store(void *store)
{
    free(store);
}

static void *
open_store(svc_ctx_t *ctx, const atomic_bool *stop, char **error)
{
    store_t *self;
    svc_pg_t *pg;
    bool good;

    self = svc_alloc(sizeof(*self));
    self->ctx = ctx;
    self->stop = stop;
    pg = make_connection(self, false, error);
    good = pg != NULL && svc_pg_migrate(pg, "auth", steps, (int)SVC_COUNT(steps), error);
    svc_pg_destroy(&pg);
    if (good)
        return self;
    close_store(self);
    return NULL;
}

/* Is there a table of users? */
static bool
look_for_table(svc_pg_t *pg, bool *out, char **error)
{
    svc_pg_rows_t rows = {0};
    svc_rc rc = svc_pg_query(pg, ST_LOOK,
                             "SELECT (to_regclass('auth_user') IS NOT NULL)::int::bigint",
                             NULL, 0, &rows);

    *out = rc == RC_OK && rows.n > 0 && svc_pg_u64(&rows, 0, 0) != 0;
    if (rc != RC_OK)
        *error = svc_str_dup(SVC_LIT("the database of users does not answer"));
    svc_pg_free(&rows);
    return rc == RC_OK;
}

/* A dry run waits for nobody. */
static void *
open_store_to_read(svc_ctx_t *ctx, char **error)
{
    static const atomic_bool never;
    store_t *self = svc_alloc(sizeof(*self));
    svc_pg_t *pg;
    bool good, is_there = false;

    self->ctx = ctx;
    self->stop = &never;
    pg = make_connection(self, false, error);
    good = pg != NULL && svc_pg_connect(pg, 0, error) &&
           look_for_table(pg, &is_there, error);
    svc_pg_destroy(&pg);
    if (good && is_there)
        return self;
    close_store(self);
    return NULL;
}

static bool
is_away(void *arg)
{
    store_t *self = arg;

    return atomic_load(&self->away_ms) != 0;
}

/* --- users ------------------------------------------------------------------------------- */

/* Looks for a user, twice: the first time may only find out that the server has been restarted meanwhile. When that took long,
 * the server has frozen: then nobody waits for it for a moment, or the queue behind would wait as often as it has places. */
static svc_rc
find_rows(connection_t *self, const svc_pg_arg_t *name, svc_pg_rows_t *out)
{
    const uint64_t began_ms = svc_mono_ms();
    svc_rc rc = RC_UNAVAILABLE;

    if (began_ms < atomic_load(&self->store->rests_until_ms))
        return RC_UNAVAILABLE;
    for (int tries = 0; tries < 2; tries++) {
        svc_pg_free(out);
        rc = svc_pg_query(self->pg, ST_FIND, SQL_FIND, name, 1, out);
        if (rc == RC_OK || rc == RC_INTERNAL)
            return rc;
        if (svc_mono_ms() - began_ms < REST_MS)
            continue;
        atomic_store(&self->store->rests_until_ms, svc_mono_ms() + REST_MS);
        break;
    }
    return RC_UNAVAILABLE;
}

static svc_rc
find(void *arg, svc_str username, user_row_t *out)
{
    const svc_pg_arg_t name = PG_BYTES(username);
    svc_pg_rows_t rows = {0};
    svc_rc rc = find_rows(arg, &name, &rows);
    svc_str hash, key;

    if (rc == RC_OK && rows.n == 0)
        rc = RC_NOT_FOUND;
    if (rc != RC_OK)
        goto out;
    hash = svc_pg_str(&rows, 0, 1);
    key = svc_pg_str(&rows, 0, 2);
    if (hash.n > USER_HASH_MAX_BYTES || key.n > sizeof(out->key)) {
        rc = RC_INTERNAL;
        goto out;
    }
    out->id = svc_pg_u64(&rows, 0, 0);
    memcpy(out->hash, hash.p, hash.n);
    out->hash[hash.n] = '\0';
    out->n_key = key.n;
    if (key.n > 0)
        memcpy(out->key, key.p, key.n);
out:
    svc_pg_free(&rows);
    return rc;
}

/* Sends the statement of each user that `wanted` picks, then reads the results: a row is the user's id and RC_OK, none is RC_USERNAME_TAKEN. */
static svc_rc
ask_each(svc_pg_t *pg, new_user_t *const *users, size_t n, bool by_key)
{
    svc_rc rc = RC_OK;

    for (size_t i = 0; rc == RC_OK && i < n; i++) {
        const new_user_t *user = users[i];
        const svc_pg_arg_t adding[] = {PG_BYTES(user->username), PG_TEXT(user->hash),
                                       PG_U64(user->created_s),
                                       PG_BYTES_OR_NULL(user->key)};
        const svc_pg_arg_t finding[] = {PG_BYTES(user->username), PG_BYTES(user->key)};

        rc = by_key ? svc_pg_send(pg, ST_FIND_KEY, SQL_FIND_KEY, finding, 2)
                    : svc_pg_send(pg, ST_ADD, SQL_ADD, adding, SVC_COUNT(adding));
    }
    for (size_t i = 0; rc == RC_OK && i < n; i++) {
        svc_pg_rows_t rows = {0};

        rc = svc_pg_receive(pg, &rows);
        users[i]->rc = rows.n > 0 ? RC_OK : RC_USERNAME_TAKEN;
        if (rc == RC_OK && rows.n > 0)
            users[i]->id = svc_pg_u64(&rows, 0, 0);
        svc_pg_free(&rows);
    }
    return rc;
}

/* Adds users, then looks whether the names that were taken are taken by the very same request when it came before. */
static svc_rc
add_some(svc_pg_t *pg, new_user_t *const *users, size_t n)
{
    new_user_t *taken[USERS_MAX];
    size_t n_taken = 0;
    svc_rc rc = ask_each(pg, users, n, false);

    for (size_t i = 0; rc == RC_OK && i < n; i++)
        if (users[i]->rc == RC_USERNAME_TAKEN && users[i]->key.n > 0)
            taken[n_taken++] = users[i];
    return rc == RC_OK && n_taken > 0 ? ask_each(pg, taken, n_taken, true) : rc;
}

static svc_rc
add_once(svc_pg_t *pg, new_user_t *const *users, size_t n)
{
    svc_rc rc = svc_pg_begin(pg, true);

    for (size_t i = 0; rc == RC_OK && i < n; i += USERS_MAX)
        rc = add_some(pg, users + i, n - i < USERS_MAX ? n - i : USERS_MAX);
    if (rc == RC_OK)
        return svc_pg_commit(pg);
    svc_pg_rollback(pg);
    return rc;
}

static int
compare_names(const void *a, const void *b)
{
    const svc_str x = (*(new_user_t *const *)a)->username;
    const svc_str y = (*(new_user_t *const *)b)->username;
    const int order = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);

    if (order != 0)
        return order;
    return x.n < y.n ? -1 : x.n > y.n;
}

static svc_rc
add(void *arg, new_user_t *users, size_t n)
{
    connection_t *self = arg;
    new_user_t **sorted = svc_alloc(n * sizeof(new_user_t *));
    svc_rc rc = RC_BUSY;

    for (size_t i = 0; i < n; i++)
        sorted[i] = &users[i];
    qsort(sorted, n, sizeof(new_user_t *), compare_names);
    for (int tries = 0; rc == RC_BUSY && tries < BUSY_TRIES; tries++)
        rc = add_once(self->pg, sorted, n);
    free(sorted);
    if (rc == RC_OK)
        return RC_OK;
    rc = rc == RC_BUSY || rc == RC_UNAVAILABLE ? RC_UNAVAILABLE : RC_INTERNAL;
    for (size_t i = 0; i < n; i++)
        users[i].rc = rc;
    return rc;
}

const user_store_driver_t user_store_postgresql = {
    .open = open_store,
    .open_to_read = open_store_to_read,
    .close = close_store,
    .connect = connect_store,
    .disconnect = disconnect,
    .is_away = is_away,
    .find = find,
    .add = add,
};
