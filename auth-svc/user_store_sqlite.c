/* user_store_sqlite.c - users in a SQLite file beside that of the conversations.
 *
 * WAL and synchronous=FULL: what add() has returned survives a power cut. One process at a time
 * owns the file (svc_db_lock.h), so "database is locked" cannot come from another auth-svc. Connections belong to one thread each
 * (SQLITE_OPEN_NOMUTEX). The schema's version is SQLite's user_version; migrations are steps of a
 * table, run in one transaction at start, each fit for the code of the release before. */
#include "user_store.h"

#include "svc/svc_db_lock.h"
#include "svc/svc_time.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BUSY_TIMEOUT_MS \
    5000 /* within this process: a reader while the log is being reset */
#define LOG_EVERY_MS 1000

/* Step i brings version i to i + 1. Retired versions keep their step. */
static const char *const migrations[] = {
    "CREATE TABLE user ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  username TEXT NOT NULL UNIQUE COLLATE BINARY,"
    "  password_hash TEXT NOT NULL,"
    "  created_s INTEGER NOT NULL"
    ") STRICT;",
    "ALTER TABLE user ADD COLUMN request_key BLOB;", /* NULL: registered without one */
};

#define SQL_FIND "SELECT id, password_hash, request_key FROM user WHERE username = ?1"
#define SQL_ADD                                                           \
    "INSERT INTO user (username, password_hash, created_s, request_key) " \
    "VALUES (?1, ?2, ?3, ?4)"
#define SQL_FIND_KEY "SELECT id FROM user WHERE username = ?1 AND request_key = ?2"

typedef struct {
    char *path;     /* of the database, owned */
    int lock;       /* descriptor that holds the lock, -1: none */
    svc_log_t *log; /* borrowed, may be NULL */
} store_t;

typedef struct {
    sqlite3 *db;                         /* owned */
    sqlite3_stmt *find, *add, *find_key; /* owned */
    svc_log_t *log;                      /* borrowed, may be NULL */
    uint64_t
        logged_ms; /* a failure was logged last: a disk that is full must not fill the log */
} connection_t;

/* Sets *error to "path: what: why". */
static void
explain(char **error, const char *path, const char *what, const char *why)
{
    SVC_ASSERT(asprintf(error, "%s: %s: %s", path, what, why) >= 0);
}

static bool
execute(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

/* --- connections ------------------------------------------------------------------------- */

static void
disconnect(void *arg)
{
    connection_t *self = arg;

    if (self == NULL)
        return;
    sqlite3_finalize(self->find);
    sqlite3_finalize(self->add);
    sqlite3_finalize(self->find_key);
    sqlite3_close(self->db);
    free(self);
}

/* Opens the file with the house's pragmas. NULL: *error tells. */
static sqlite3 *
open_database(const char *path, char **error)
{
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;

    if (sqlite3_open_v2(path, &db, flags, NULL) == SQLITE_OK &&
        sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS) == SQLITE_OK &&
        execute(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                    "PRAGMA trusted_schema = OFF;"))
        return db;
    explain(error, path, "cannot open this database", sqlite3_errmsg(db));
    sqlite3_close(db);
    return NULL;
}

static bool
prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out)
{
    return sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) ==
           SQLITE_OK;
}

static void *
connect_store(void *arg, bool writes, char **error)
{
    const store_t *store = arg;
    connection_t *self = svc_alloc(sizeof(*self));

    (void)writes;
    self->log = store->log;
    self->db = open_database(store->path, error);
    if (self->db != NULL && prepare(self->db, SQL_FIND, &self->find) &&
        prepare(self->db, SQL_ADD, &self->add) &&
        prepare(self->db, SQL_FIND_KEY, &self->find_key))
        return self;
    if (self->db != NULL)
        explain(error, store->path, "this is no database of users",
                sqlite3_errmsg(self->db));
    disconnect(self);
    return NULL;
}

/* --- the store --------------------------------------------------------------------------- */

static bool
read_version(sqlite3 *db, int *out)
{
    sqlite3_stmt *q = NULL;
    bool good = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL) ==
                    SQLITE_OK &&
                sqlite3_step(q) == SQLITE_ROW;

    if (good)
        *out = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return good;
}

/* Runs the steps that are missing, all or none. */
static bool
migrate(sqlite3 *db, const char *path, char **error)
{
    int version = 0;
    int newest = (int)SVC_COUNT(migrations);
    char set_version[64];
    bool good = execute(db, "BEGIN IMMEDIATE") && read_version(db, &version);

    if (good && version > newest) {
        execute(db, "ROLLBACK");
        SVC_ASSERT(
            asprintf(
                error,
                "%s: its schema is version %d, made by a newer release (this one knows %d)",
                path, version, newest) >= 0);
        return false;
    }
    for (int i = version < 0 ? 0 : version; good && i < newest; i++)
        good = execute(db, migrations[i]);
    (void)snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %d", newest);
    good = good && execute(db, set_version) && execute(db, "COMMIT");
    if (!good) {
        explain(error, path, "cannot bring its schema up to date", sqlite3_errmsg(db));
        execute(db, "ROLLBACK");
    }
    return good;
}

static void
close_store(void *arg)
{
    store_t *self = arg;

    if (self == NULL)
        return;
    svc_db_lock_release(&self->lock);
    free(self->path);
    free(self);
}

static void *
open_store(svc_ctx_t *ctx, const atomic_bool *stop, char **error)
{
    store_t *self = svc_alloc(sizeof(*self));
    sqlite3 *db = NULL;

    (void)stop; /* nothing here waits for long */
    self->log = ctx->log;
    self->path = svc_config_users_path(ctx->config);
    self->lock = svc_db_lock_take(self->path, "auth-svc", error);
    if (self->lock >= 0)
        db = open_database(self->path, error);
    if (db == NULL || !migrate(db, self->path, error)) {
        sqlite3_close(db);
        close_store(self);
        return NULL;
    }
    sqlite3_close(db);
    return self;
}

static void *
open_store_to_read(svc_ctx_t *ctx, char **error)
{
    store_t *self = svc_alloc(sizeof(*self));

    (void)error; /* connecting finds out */
    self->log = ctx->log;
    self->path = svc_config_users_path(ctx->config);
    self->lock = -1;
    if (access(self->path, F_OK) == 0)
        return self;
    close_store(self);
    return NULL;
}

/* What the failure that the database has just had means for the caller: RC_UNAVAILABLE when it may be good again later (a disk
 * that is full). Logs it. */
static svc_rc
judge_failure(connection_t *self)
{
    const int code = sqlite3_extended_errcode(self->db);
    const uint64_t now = svc_mono_ms();

    if (self->logged_ms == 0 || now - self->logged_ms >= LOG_EVERY_MS) {
        self->logged_ms = now;
        svc_log_error(self->log, "database: %s (%d)", sqlite3_errmsg(self->db), code);
    }
    switch (code & 0xff) {
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN: return RC_UNAVAILABLE;
    default: return RC_INTERNAL;
    }
}

/* --- users ------------------------------------------------------------------------------- */

/* Binds a text that stays until the statement is reset. */
static bool
bind(sqlite3_stmt *q, int index, svc_str text)
{
    return sqlite3_bind_text64(q, index, text.n == 0 ? "" : text.p, text.n, SQLITE_STATIC,
                               SQLITE_UTF8) == SQLITE_OK;
}

/* Binds a request key, NULL for none. */
static bool
bind_key(sqlite3_stmt *q, int index, svc_str key)
{
    return key.n == 0 ||
           sqlite3_bind_blob64(q, index, key.p, key.n, SQLITE_STATIC) == SQLITE_OK;
}

static svc_rc
find(void *arg, svc_str username, user_row_t *out)
{
    connection_t *self = arg;
    sqlite3_stmt *q = self->find;
    svc_rc rc = RC_INTERNAL;
    const char *hash;
    int step;

    step = bind(q, 1, username) ? sqlite3_step(q) : SQLITE_ERROR;
    if (step != SQLITE_ROW) {
        rc = step == SQLITE_DONE ? RC_NOT_FOUND : judge_failure(self);
        goto out;
    }
    hash = (const char *)sqlite3_column_text(q, 1);
    if (hash == NULL || sqlite3_column_bytes(q, 1) > USER_HASH_MAX_BYTES)
        goto out;
    out->n_key = (size_t)sqlite3_column_bytes(q, 2);
    if (out->n_key > sizeof(out->key))
        goto out;
    if (out->n_key > 0)
        memcpy(out->key, sqlite3_column_blob(q, 2), out->n_key);
    out->id = (uint64_t)sqlite3_column_int64(q, 0);
    (void)snprintf(out->hash, sizeof(out->hash), "%s", hash);
    rc = RC_OK;
out:
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return rc;
}

/* A name is taken: by this very request when it came before? Sets id then. */
static svc_rc
look_for_key(connection_t *self, new_user_t *user)
{
    sqlite3_stmt *q = self->find_key;
    svc_rc rc = RC_INTERNAL;
    int step = SQLITE_ERROR;

    if (user->key.n == 0)
        return RC_USERNAME_TAKEN;
    if (bind(q, 1, user->username) && bind_key(q, 2, user->key))
        step = sqlite3_step(q);
    if (step == SQLITE_ROW) {
        user->id = (uint64_t)sqlite3_column_int64(q, 0);
        rc = RC_OK;
    } else {
        rc = step == SQLITE_DONE ? RC_USERNAME_TAKEN : judge_failure(self);
    }
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return rc;
}

/* Inserts one user within the transaction. A name that is taken leaves the transaction as it is. */
static svc_rc
insert(connection_t *self, new_user_t *user)
{
    sqlite3_stmt *q = self->add;
    svc_rc rc = RC_INTERNAL;
    int step = SQLITE_ERROR;

    if (bind(q, 1, user->username) && bind(q, 2, user->hash) &&
        sqlite3_bind_int64(q, 3, (sqlite3_int64)user->created_s) == SQLITE_OK &&
        bind_key(q, 4, user->key))
        step = sqlite3_step(q);
    if (step == SQLITE_DONE) {
        user->id = (uint64_t)sqlite3_last_insert_rowid(self->db);
        rc = RC_OK;
    } else if (step == SQLITE_CONSTRAINT &&
               sqlite3_extended_errcode(self->db) == SQLITE_CONSTRAINT_UNIQUE) {
        rc = look_for_key(self, user);
    } else {
        rc = judge_failure(self);
    }
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return rc;
}

static svc_rc
add(void *arg, new_user_t *users, size_t n)
{
    connection_t *self = arg;
    svc_rc rc = execute(self->db, "BEGIN IMMEDIATE") ? RC_OK : judge_failure(self);

    for (size_t i = 0; i < n && rc == RC_OK; i++) {
        users[i].rc = insert(self, &users[i]);
        if (users[i].rc != RC_OK && users[i].rc != RC_USERNAME_TAKEN)
            rc = users[i].rc; /* a full disk may have ended the transaction already */
    }
    if (rc == RC_OK && !execute(self->db, "COMMIT"))
        rc = judge_failure(self);
    if (rc == RC_OK)
        return RC_OK;
    execute(self->db, "ROLLBACK");
    for (size_t i = 0; i < n; i++)
        users[i].rc = rc;
    return rc;
}

const user_store_driver_t user_store_sqlite = {
    .open = open_store,
    .open_to_read = open_store_to_read,
    .close = close_store,
    .connect = connect_store,
    .disconnect = disconnect,
    .find = find,
    .add = add,
};
