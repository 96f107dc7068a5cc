/* user_import.c - auth-svc --import-original: the users of the original backend, with their passwords.
 *
 * Users are added by the store's own seam, some hundred in a transaction. The original's rows come in the order of their ids, so
 * the map is in order, too. Whoever is here already under the same name must have the very same hash, salt included: nobody else
 * has that, so it is who was brought over before (or registered here since, with another one: that is somebody else). */
#include "user_import.h"

#include "password.h"

#include "proto/utf8.h"
#include "svc/svc_db_lock.h"
#include "svc/svc_main.h"
#include "svc/svc_original.h"
#include "svc/svc_time.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCH 100 /* users of one transaction */

/* The last column: the same name stands there under a smaller id. */
#define SQL_USERS                                                \
    "SELECT id, username, password,"                             \
    " row_number() OVER (PARTITION BY username ORDER BY id) > 1" \
    " FROM users WHERE typeof(id) = 'integer' AND id > 0 ORDER BY id"
#define SQL_OTHERS "SELECT count(*) FROM users WHERE typeof(id) <> 'integer' OR id <= 0"

typedef struct {
    const user_store_driver_t *driver; /* of the configuration */
    void *store;                       /* owned; NULL: a dry run, and there is none yet */
    void *connection;                  /* owned; likewise */
    bool is_dry;
    svc_user_map_t map;
    new_user_t batch[BATCH];               /* the texts are owned */
    uint64_t theirs[BATCH];                /* id of each */
    size_t n;                              /* in the batch */
    uint64_t latest;                       /* id of the row before; 0: none was */
    uint64_t found, added, there, refused; /* users */
} import_t;

static void
refuse(import_t *self, uint64_t id, svc_str name, const char *why)
{
    char shown[SVC_ORIGINAL_NAME_BYTES];

    svc_original_name(name, shown);
    printf("user \"%s\" (%" PRIu64 "): not brought over: %s\n", shown, id, why);
    self->refused++;
}

/* Why a row cannot become a user; NULL: it can. */
static const char *
find_fault(svc_str name, svc_str hash, bool is_double)
{
    if (name.n == 0)
        return "it has no name";
    if (name.n > PROTO_USERNAME_MAX_BYTES)
        return "its name is longer than 256 bytes: nobody can log in with that";
    if (svc_utf8_valid(name.p, name.n) != name.n)
        return "its name is no valid UTF-8";
    if (svc_utf8_has_control(name.p, name.n))
        return "its name has control characters";
    if (is_double)
        return "the same name stands there twice; the first one was taken";
    if (!password_is_hash(hash))
        return "its password is no bcrypt hash of cost 4 to 15";
    return NULL;
}

/* Notes who a user is here. */
static bool
note(import_t *self, uint64_t theirs, uint64_t ours, char **error)
{
    if (svc_user_map_add(&self->map, theirs, ours) == RC_OK)
        return true;
    *error = svc_str_dup(SVC_LIT("more users than fit into memory"));
    return false;
}

/* Adds what has gathered. The pairs are noted in order of ids: all before have been. */
static bool
flush(import_t *self, char **error)
{
    bool good = true;
    svc_rc rc = self->n == 0 || self->is_dry
                    ? RC_OK
                    : self->driver->add(self->connection, self->batch, self->n);

    if (rc != RC_OK) {
        SVC_ASSERT(
            asprintf(error,
                     "the database refuses users (%s); what is there stays, run it "
                     "again when that is mended",
                     svc_rc_info(rc)->wire) >= 0);
        good = false;
    }
    for (size_t i = 0; i < self->n; i++) {
        new_user_t *user = &self->batch[i];

        if (good && user->rc == RC_OK) {
            self->added++;
            good = note(self, self->theirs[i], user->id, error);
        } else if (good) {
            refuse(self, self->theirs[i], user->username,
                   "somebody has registered that name meanwhile");
        }
        free((char *)user->username.p);
        free((char *)user->hash.p);
    }
    self->n = 0;
    return good;
}

/* Takes one row: found here, put into the batch, or refused. */
static bool
take(import_t *self, uint64_t id, svc_str name, svc_str hash, bool is_double,
     char **error)
{
    const char *fault = id == self->latest ? "another user has the same id"
                                           : find_fault(name, hash, is_double);
    user_row_t row = {0};
    svc_rc rc = RC_NOT_FOUND;

    self->found++;
    self->latest = id;
    if (fault != NULL) {
        refuse(self, id, name, fault);
        return true;
    }
    if (self->connection != NULL)
        rc = self->driver->find(self->connection, name, &row);
    if (rc == RC_OK && !svc_str_eq(svc_str_c(row.hash), hash)) {
        refuse(self, id, name,
               "that name is taken here by somebody with another password");
        return true;
    }
    if (rc == RC_OK) {
        self->there++;
        return flush(self, error) && note(self, id, row.id, error);
    }
    if (rc != RC_NOT_FOUND) {
        SVC_ASSERT(asprintf(error, "the database cannot be read (%s)",
                            svc_rc_info(rc)->wire) >= 0);
        return false;
    }
    self->theirs[self->n] = id;
    self->batch[self->n++] = (new_user_t){
        .username = {svc_str_dup(name), name.n},
        .hash = {svc_str_dup(hash), hash.n},
        .created_s = svc_unix_ms() / 1000,
        .rc = RC_OK,
    };
    return self->n < BATCH || flush(self, error);
}

/* Walks through the original's table. */
static bool
read_users(import_t *self, sqlite3 *db, const char *path, char **error)
{
    sqlite3_stmt *q = svc_original_query(db, path, SQL_USERS, error);
    bool good = q != NULL;
    int step = SQLITE_DONE;

    while (good && (step = sqlite3_step(q)) == SQLITE_ROW) {
        good = take(self, (uint64_t)sqlite3_column_int64(q, 0), svc_original_text(q, 1),
                    svc_original_text(q, 2), sqlite3_column_int(q, 3) != 0, error);
        if (good && svc_main_is_told_to_end()) {
            *error = svc_str_dup(SVC_LIT("interrupted; run it again to go on"));
            good = false;
        }
    }
    good = good && flush(self, error);
    if (good && step != SQLITE_DONE) {
        SVC_ASSERT(asprintf(error, "%s: %s", path, sqlite3_errmsg(db)) >= 0);
        good = false;
    }
    for (size_t i = 0; i < self->n; i++) { /* of a batch that was not begun */
        free((char *)self->batch[i].username.p);
        free((char *)self->batch[i].hash.p);
    }
    (void)sqlite3_finalize(q);
    return good;
}

/* Counts rows without an id that a conversation could name. */
static void
count_others(import_t *self, sqlite3 *db)
{
    sqlite3_stmt *q = NULL;
    uint64_t n = 0;

    if (sqlite3_prepare_v2(db, SQL_OTHERS, -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW)
        n = (uint64_t)sqlite3_column_int64(q, 0);
    (void)sqlite3_finalize(q);
    if (n > 0)
        printf("%" PRIu64 " users: not brought over: their ids are no positive numbers\n",
               n);
    self->found += n;
    self->refused += n;
}

/* Opens our own store: to write, or for a dry run to read, if there is one. */
static bool
open_store(import_t *self, svc_ctx_t *ctx, char **error)
{
    static const atomic_bool never;
    char *path = svc_config_users_path(ctx->config);
    bool is_sqlite = ctx->config->storage_driver == SVC_STORAGE_SQLITE;
    int lock = -1;

    if (is_sqlite && !self->is_dry) { /* only for a better word than the store has */
        lock = svc_db_lock_take_idle(path, ctx->service, "import", error);
        svc_db_lock_release(&lock);
    }
    free(path);
    if (*error != NULL)
        return false;
    self->store = self->is_dry ? self->driver->open_to_read(ctx, error)
                               : self->driver->open(ctx, &never, error);
    if (self->store == NULL)
        return self->is_dry && *error == NULL;
    self->connection = self->driver->connect(self->store, !self->is_dry, error);
    return self->connection != NULL;
}

bool
user_import(svc_ctx_t *ctx, char *const *args, size_t n, char **error)
{
    const bool is_postgresql = ctx->config->storage_driver == SVC_STORAGE_POSTGRESQL;
    import_t self = {.driver = is_postgresql ? &user_store_postgresql
                                             : &user_store_sqlite,
                     .is_dry = n > 2};
    sqlite3 *db = NULL;
    bool good;

    if (n > 2 && strcmp(args[2], "dry-run") != 0) {
        SVC_ASSERT(asprintf(error, "%s: \"dry-run\" was expected", args[2]) >= 0);
        return false;
    }
    db = svc_original_open(args[0], error);
    good = db != NULL && open_store(&self, ctx, error) &&
           read_users(&self, db, args[0], error);
    if (good)
        count_others(&self, db);
    good = good && svc_user_map_write(&self.map, args[1], error);
    if (good)
        printf("%s: %" PRIu64 " users: %" PRIu64 " %s, %" PRIu64
               " were here already, %" PRIu64 " %s\n",
               ctx->service, self.found, self.added,
               self.is_dry ? "would be brought over" : "brought over", self.there,
               self.refused, self.is_dry ? "cannot be" : "could not be");
    self.driver->disconnect(self.connection);
    self.driver->close(self.store);
    (void)sqlite3_close(db);
    svc_user_map_fini(&self.map);
    return good;
}
