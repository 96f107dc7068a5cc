/* convo_store_sqlite.c - the SQLite store: connection, schema, transactions.
 *
 * WAL with synchronous=FULL: a commit is on the disk before anybody hears of it, and the writer
 * makes that cheap by committing many jobs at once. Readers see the last commit and never wait.
 * One process owns the file (svc_db_lock.h), so SQLITE_BUSY cannot come from outside; a time-out is
 * set for the moments in which SQLite's own checkpoint holds a lock.
 *
 *   conversation --< message (questions)      answer --< chunk (text, in order of offset)
 *               \--< answer (even message_ids)      list (the version of each user's)
 *
 * A failure of the disk is logged here once a second at most: it is the only place that knows
 * SQLite's words for it. */
#include "store_sqlite.h"

#include "svc/svc_time.h"
#include "wal_vfs.h"

#include <stdio.h>
#include <stdlib.h>

#define BUSY_MS        5000
#define LOG_EVERY_MS   1000
#define SCHEMA_VERSION 3
#define TIDY_AGAIN_PAGES \
    500 /* by so many a log has grown that could not be copied whole, until it is tried again */

/* Step n brings user_version from n to n + 1. Never changed once released, only added to. */
static const char *const migrations[SCHEMA_VERSION] = {
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE conversation ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id INTEGER NOT NULL UNIQUE,"
    "  user INTEGER NOT NULL,"
    "  title TEXT NOT NULL,"
    "  model TEXT NOT NULL,"
    "  sealed_key BLOB NOT NULL,"
    "  created_s INTEGER NOT NULL,"
    "  version INTEGER NOT NULL,"
    "  last_message INTEGER NOT NULL DEFAULT 0,"
    "  turns INTEGER NOT NULL DEFAULT 0,"
    "  turn_bytes INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX conversation_of_user ON conversation (user, created_s, seq);"
    "CREATE TABLE message ("
    "  conversation INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,"
    "  message_id INTEGER NOT NULL,"
    "  role INTEGER NOT NULL,"
    "  text TEXT NOT NULL,"
    "  PRIMARY KEY (conversation, message_id));"
    "CREATE TABLE answer ("
    "  stream BLOB NOT NULL PRIMARY KEY,"
    "  conversation INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,"
    "  message_id INTEGER NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  term INTEGER NOT NULL,"
    "  fence INTEGER NOT NULL,"
    "  attempt INTEGER NOT NULL,"
    "  owner INTEGER NOT NULL,"
    "  llm INTEGER NOT NULL DEFAULT 0,"
    "  length INTEGER NOT NULL DEFAULT 0,"
    "  asked_ms INTEGER NOT NULL,"
    "  question_bytes INTEGER NOT NULL,"
    "  stop_wanted INTEGER NOT NULL DEFAULT 0,"
    "  finish TEXT NOT NULL DEFAULT '',"
    "  prompt_tokens INTEGER NOT NULL DEFAULT 0,"
    "  completion_tokens INTEGER NOT NULL DEFAULT 0,"
    "  total_tokens INTEGER NOT NULL DEFAULT 0,"
    "  reason TEXT NOT NULL DEFAULT '',"
    "  text TEXT NOT NULL DEFAULT '',"
    "  retry_after_s INTEGER NOT NULL DEFAULT 0,"
    "  key TEXT,"
    "  body_hash BLOB NOT NULL,"
    "  UNIQUE (conversation, message_id));"
    "CREATE UNIQUE INDEX answer_unfinished ON answer (conversation) WHERE state < 2;"
    "CREATE UNIQUE INDEX answer_of_key ON answer (conversation, key) WHERE key IS NOT NULL;"
    "CREATE TABLE chunk ("
    "  stream BLOB NOT NULL REFERENCES answer (stream) ON DELETE CASCADE,"
    "  offset INTEGER NOT NULL,"
    "  bytes TEXT NOT NULL,"
    "  PRIMARY KEY (stream, offset));",
    /* A version for each user's list. Trees that are read by one key have no second one beside them, and an answer's text is
     * together in one: `place` is the answer's id and the offset. */
    "CREATE TABLE list (user INTEGER PRIMARY KEY, version INTEGER NOT NULL);"
    "ALTER TABLE message RENAME TO message_1;"
    "CREATE TABLE message ("
    "  conversation INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,"
    "  message_id INTEGER NOT NULL,"
    "  role INTEGER NOT NULL,"
    "  text TEXT NOT NULL,"
    "  PRIMARY KEY (conversation, message_id)) WITHOUT ROWID;"
    "INSERT INTO message SELECT conversation, message_id, role, text FROM message_1;"
    "DROP TABLE message_1;"
    "ALTER TABLE answer RENAME TO answer_1;"
    "DROP INDEX answer_unfinished;"
    "DROP INDEX answer_of_key;"
    "CREATE TABLE answer ("
    "  id INTEGER PRIMARY KEY,"
    "  stream BLOB NOT NULL UNIQUE,"
    "  conversation INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,"
    "  message_id INTEGER NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  term INTEGER NOT NULL,"
    "  fence INTEGER NOT NULL,"
    "  attempt INTEGER NOT NULL,"
    "  owner INTEGER NOT NULL,"
    "  llm INTEGER NOT NULL DEFAULT 0,"
    "  length INTEGER NOT NULL DEFAULT 0,"
    "  asked_ms INTEGER NOT NULL,"
    "  question_bytes INTEGER NOT NULL,"
    "  stop_wanted INTEGER NOT NULL DEFAULT 0,"
    "  finish TEXT NOT NULL DEFAULT '',"
    "  prompt_tokens INTEGER NOT NULL DEFAULT 0,"
    "  completion_tokens INTEGER NOT NULL DEFAULT 0,"
    "  total_tokens INTEGER NOT NULL DEFAULT 0,"
    "  reason TEXT NOT NULL DEFAULT '',"
    "  text TEXT NOT NULL DEFAULT '',"
    "  retry_after_s INTEGER NOT NULL DEFAULT 0,"
    "  key TEXT,"
    "  body_hash BLOB NOT NULL,"
    "  UNIQUE (conversation, message_id));"
    "INSERT INTO answer SELECT NULL, * FROM answer_1;"
    "CREATE UNIQUE INDEX answer_unfinished ON answer (conversation) WHERE state < 2;"
    "CREATE UNIQUE INDEX answer_of_key ON answer (conversation, key) WHERE key IS NOT NULL;"
    "ALTER TABLE chunk RENAME TO chunk_1;"
    "CREATE TABLE chunk (place INTEGER PRIMARY KEY, bytes TEXT NOT NULL);"
    "INSERT INTO chunk SELECT (id << 24) + offset, bytes FROM answer JOIN chunk_1 USING (stream);"
    "DROP TABLE chunk_1;"
    "DROP TABLE answer_1;"
    "CREATE TRIGGER answer_gone AFTER DELETE ON answer BEGIN DELETE FROM chunk"
    " WHERE place >= old.id << 24 AND place < (old.id + 1) << 24; END;",
    /* What a request that comes again is known by, and whether an answer is to end with its last viewer. */
    "ALTER TABLE conversation ADD COLUMN key BLOB;"
    "ALTER TABLE conversation ADD COLUMN body_hash BLOB NOT NULL DEFAULT x'';"
    "CREATE UNIQUE INDEX conversation_of_key ON conversation (user, key) WHERE key IS NOT NULL;"
    "ALTER TABLE answer ADD COLUMN stop_alone INTEGER NOT NULL DEFAULT 0;",
};

/* --- statements ------------------------------------------------------------------------------- */

/* What a result of SQLite means for the caller. Logs what is neither success nor a broken constraint. */
static svc_rc
judge(store_sqlite_t *self, int code)
{
    uint64_t now;

    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW: return RC_OK;
    case SQLITE_DONE: return RC_NOT_FOUND;
    case SQLITE_CONSTRAINT: return RC_CONFLICT;
    case SQLITE_TOOBIG: return RC_TOO_BIG;
    default: break;
    }
    now = svc_mono_ms();
    if (self->logged_ms == 0 || now - self->logged_ms >= LOG_EVERY_MS) {
        self->logged_ms = now;
        self->tidy_at =
            0; /* a log that has no room to grow may be copied and begun anew */
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

sqlite3_stmt *
store_stmt(store_sqlite_t *self, store_slot slot, const char *sql)
{
    sqlite3_stmt **q = &self->stmt[slot];

    if (*q == NULL)
        (void)sqlite3_prepare_v3(self->db, sql, -1, SQLITE_PREPARE_PERSISTENT, q, NULL);
    return *q;
}

void
store_bind_u64(sqlite3_stmt *q, int at, uint64_t value)
{
    if (q != NULL)
        (void)sqlite3_bind_int64(q, at, (sqlite3_int64)value);
}

void
store_bind_text(sqlite3_stmt *q, int at, svc_str text)
{
    if (q != NULL)
        (void)sqlite3_bind_text(q, at, text.n == 0 ? "" : text.p, (int)text.n,
                                SQLITE_STATIC);
}

void
store_bind_bytes(sqlite3_stmt *q, int at, svc_str bytes)
{
    if (q != NULL)
        (void)sqlite3_bind_blob(q, at, bytes.n == 0 ? "" : bytes.p, (int)bytes.n,
                                SQLITE_STATIC);
}

void
store_bind_key(sqlite3_stmt *q, int at, svc_str key)
{
    if (q != NULL && key.n == 0)
        (void)sqlite3_bind_null(q, at);
    else
        store_bind_bytes(q, at, key);
}

uint64_t
store_u64(sqlite3_stmt *q, int column)
{
    return (uint64_t)sqlite3_column_int64(q, column);
}

svc_str
store_str(sqlite3_stmt *q, int column)
{
    const char *p = sqlite3_column_blob(q, column);

    return (svc_str){p, (size_t)sqlite3_column_bytes(q, column)};
}

svc_rc
store_step(store_sqlite_t *self, sqlite3_stmt *q)
{
    return judge(self, q == NULL ? sqlite3_errcode(self->db) : sqlite3_step(q));
}

void
store_done(sqlite3_stmt *q)
{
    if (q == NULL)
        return;
    (void)sqlite3_reset(q);
    (void)sqlite3_clear_bindings(q);
}

svc_rc
store_run(store_sqlite_t *self, sqlite3_stmt *q)
{
    svc_rc rc = store_step(self, q);

    store_done(q);
    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

int
store_changes(const store_sqlite_t *self)
{
    return sqlite3_changes(self->db);
}

/* --- transactions ----------------------------------------------------------------------------- */

static svc_rc
begin(convo_store_t *base, bool write)
{
    store_sqlite_t *self = (store_sqlite_t *)base;

    self->raised = 0;
    return store_run(self, write ? store_stmt(self, ST_BEGIN_WRITE, "BEGIN IMMEDIATE")
                                 : store_stmt(self, ST_BEGIN_READ, "BEGIN"));
}

static void
rollback(convo_store_t *base)
{
    store_sqlite_t *self = (store_sqlite_t *)base;

    /* After some failures SQLite has rolled back by itself; and this one must not need memory or disk. */
    if (!sqlite3_get_autocommit(self->db))
        (void)sqlite3_exec(self->db, "ROLLBACK", NULL, NULL, NULL);
}

static svc_rc
commit(convo_store_t *base)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    svc_rc rc = store_run(self, store_stmt(self, ST_COMMIT, "COMMIT"));

    if (rc != RC_OK)
        rollback(base);
    return rc;
}

static svc_rc
save(convo_store_t *base)
{
    store_sqlite_t *self = (store_sqlite_t *)base;

    return store_run(self, store_stmt(self, ST_SAVE, "SAVEPOINT job"));
}

static svc_rc
keep(convo_store_t *base)
{
    store_sqlite_t *self = (store_sqlite_t *)base;

    return store_run(self, store_stmt(self, ST_KEEP, "RELEASE job"));
}

static svc_rc
undo(convo_store_t *base)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    svc_rc rc = store_run(self, store_stmt(self, ST_UNDO, "ROLLBACK TO job"));

    self->raised = 0; /* maybe by what is undone */
    return rc != RC_OK ? rc : keep(base);
}

/* Nobody waits here for a row: there is nothing to be hasty about. */
static svc_rc
hasten(convo_store_t *base, const uint64_t *asked, size_t n_asked, const uint64_t *ended,
       size_t n_ended)
{
    (void)base;
    (void)asked;
    (void)n_asked;
    (void)ended;
    (void)n_ended;
    return RC_OK;
}

static svc_rc
settle(convo_store_t *base)
{
    (void)base;
    return RC_OK;
}

/* SQLite tells how long its log is. */
static int
on_logged(void *arg, sqlite3 *db, const char *name, int pages)
{
    store_sqlite_t *self = arg;

    (void)db;
    (void)name;
    if (pages < WAL_VFS_PAGES)
        self->tidy_at = WAL_VFS_PAGES;
    self->log_pages = pages;
    return SQLITE_OK;
}

/* Copies a long log to the database: SQLite would do it inside a commit. What readers still look at is left for a later time,
 * not for the very next commit: such a reader may take long. */
static void
tidy(convo_store_t *base)
{
    store_sqlite_t *self = (store_sqlite_t *)base;

    if (self->log_pages < self->tidy_at)
        return;
    (void)judge(self, sqlite3_wal_checkpoint_v2(self->db, NULL, SQLITE_CHECKPOINT_PASSIVE,
                                                NULL, NULL));
    self->tidy_at = self->log_pages + TIDY_AGAIN_PAGES;
}

/* A file does not come back by itself. */
static bool
await(convo_store_t *base, char **error)
{
    (void)base;
    (void)error;
    return false;
}

/* The database has no clock but ours. */
static svc_rc
read_clock(convo_store_t *base, uint64_t *out)
{
    (void)base;
    *out = svc_unix_ms();
    return RC_OK;
}

static uint64_t
changes(const convo_store_t *base)
{
    return (uint64_t)sqlite3_total_changes64(((const store_sqlite_t *)base)->db);
}

/* --- meta ------------------------------------------------------------------------------------- */

static svc_rc
meta_get(convo_store_t *base, const char *name, svc_buf_t *out)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_META_GET,
                                 "SELECT value FROM meta WHERE name = ?");
    svc_rc rc;

    store_bind_text(q, 1, svc_str_c(name));
    rc = store_step(self, q);
    if (rc == RC_OK)
        rc = svc_buf_add_str(out, store_str(q, 0));
    store_done(q);
    return rc;
}

static svc_rc
meta_put(convo_store_t *base, const char *name, svc_str value)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(
        self, ST_META_PUT, "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)");

    store_bind_text(q, 1, svc_str_c(name));
    store_bind_bytes(q, 2, value);
    return store_run(self, q);
}

/* --- connection ------------------------------------------------------------------------------- */

static void
destroy(convo_store_t *base)
{
    store_sqlite_t *self = (store_sqlite_t *)base;

    for (size_t i = 0; i < ST_COUNT; i++)
        (void)sqlite3_finalize(self->stmt[i]);
    (void)sqlite3_close(self->db);
    free(self);
}

static const convo_store_api_t sqlite_api = {
    .destroy = destroy,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .hasten = hasten,
    .settle = settle,
    .save = save,
    .keep = keep,
    .undo = undo,
    .tidy = tidy,
    .await = await,
    .clock = read_clock,
    .changes = changes,
    .meta_get = meta_get,
    .meta_put = meta_put,
    .conversation_add = store_conversation_add,
    .conversation_get = store_conversation_get,
    .conversation_of_key = store_conversation_of_key,
    .conversation_remove = store_conversation_remove,
    .list_version = store_list_version,
    .conversation_list = store_conversation_list,
    .question_add = store_question_add,
    .question_text = store_question_text,
    .answer_get = store_answer_get,
    .answer_at = store_answer_at,
    .answer_replace = store_answer_replace,
    .answer_of_key = store_answer_of_key,
    .answer_active = store_answer_active,
    .answer_unfinished = store_answer_unfinished,
    .answer_text = store_answer_text,
    .answer_step = store_answer_step,
    .answer_steps = store_answer_steps,
    .answer_restart = store_answer_restart,
    .answer_stop = store_answer_stop,
    .lease_renew = store_lease_renew,
    .lease_drop = store_lease_drop,
    .answer_owned = store_answer_owned,
    .answer_take_over = store_answer_take_over,
};

/* Reads user_version; false when the file is no database. */
static bool
read_version(sqlite3 *db, int *out)
{
    sqlite3_stmt *q = NULL;
    bool ok = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK &&
              sqlite3_step(q) == SQLITE_ROW;

    if (ok)
        *out = sqlite3_column_int(q, 0);
    (void)sqlite3_finalize(q);
    return ok;
}

/* Brings the schema up to date, each step in one transaction with its number. */
static bool
migrate(sqlite3 *db, int version)
{
    for (; version < SCHEMA_VERSION; version++) {
        char number[64];

        snprintf(number, sizeof(number), "PRAGMA user_version = %d; COMMIT;",
                 version + 1);
        if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(db, migrations[version], NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(db, number, NULL, NULL, NULL) != SQLITE_OK)
            return false;
    }
    return true;
}

/* Sets up an open connection. False: *error says why. */
static bool
prepare(sqlite3 *db, const char *path, bool write, char **error)
{
    static const char writer[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                                 "PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;"
                                 "PRAGMA cache_size = -4096;"; /* KiB */
    int version = 0;
    bool ok = sqlite3_busy_timeout(db, BUSY_MS) == SQLITE_OK &&
              read_version(db, &version);

    if (ok && version > SCHEMA_VERSION) {
        if (asprintf(error,
                     "%s was made by a newer release (schema %d, this one knows %d)",
                     path, version, SCHEMA_VERSION) < 0)
            *error = NULL;
        return false;
    }
    if (ok && write)
        ok = sqlite3_exec(db, writer, NULL, NULL, NULL) == SQLITE_OK &&
             migrate(db, version);
    if (!ok &&
        asprintf(error, "cannot open the database %s: %s", path, sqlite3_errmsg(db)) < 0)
        *error = NULL;
    return ok;
}

convo_store_t *
convo_store_sqlite_open(const char *path, store_use use, svc_log_t *log, char **error)
{
    store_sqlite_t *self = svc_alloc(sizeof(*self));
    const bool write = use != STORE_READ;
    int flags = SQLITE_OPEN_NOMUTEX | (write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
                                             : SQLITE_OPEN_READWRITE);

    self->base.api = &sqlite_api;
    self->log = log;
    /* Counting its memory costs SQLite a lock each time; only before its first use it can be told. */
    if (write)
        (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (sqlite3_open_v2(path, &self->db, flags,
                        use == STORE_WRITE ? wal_vfs_name() : NULL) != SQLITE_OK) {
        if (asprintf(error, "cannot open the database %s: %s", path,
                     self->db == NULL ? "no memory" : sqlite3_errmsg(self->db)) < 0)
            *error = NULL;
        destroy(&self->base);
        return NULL;
    }
    (void)sqlite3_extended_result_codes(self->db, 1);
    if (!prepare(self->db, path, write, error)) {
        destroy(&self->base);
        return NULL;
    }
    self->tidy_at = WAL_VFS_PAGES;
    if (write)
        (void)sqlite3_wal_hook(self->db, on_logged, self);
    return &self->base;
}
