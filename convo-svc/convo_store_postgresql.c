/* convo_store_postgresql.c - the PostgreSQL store: connection, schema, transactions.
 *
 * svc_pg does what has to do with the connection: it comes back by itself, and a commit whose answer was lost is looked up.
 * Whoever reads gets one moment, whoever writes locks what he decides by (the conversation's row), so any number of processes
 * may write at once.
 *
 *   conversation --< convo_question      answer --< answer_chunk (text, in order of offset)
 *               \--< answer (even message_ids)      convo_list (the version of each user's)   convo_lease
 *
 * Texts are bytea: PostgreSQL's own cannot hold a NUL. There are no foreign keys, which would look up and lock each parent once
 * more: a row is only ever added by a statement that has its parent's row in hand. A row's index entries cost more than the row:
 * the unfinished are few, so whoever looks for them by owner or user looks through all of them. */
#include "store_postgresql.h"

#include <stdlib.h>

#define ARRAY_MAX_BYTES (16u << 20) /* more than the steps of one batch have */
#define EPOCH_MS \
    946684800000u /* of PostgreSQL's times, in Unix ms: they begin with the year 2000 */

static const svc_pg_step_t steps[] = {
    {"CREATE TABLE convo_meta (name text PRIMARY KEY, value bytea NOT NULL);"
     "CREATE TABLE convo_list (user_id bigint PRIMARY KEY, version bigint NOT NULL);"
     "CREATE TABLE convo_lease (instance bigint PRIMARY KEY, until timestamptz NOT NULL);"
     "CREATE TABLE conversation ("
     "  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
     "  id bigint NOT NULL UNIQUE,"
     "  user_id bigint NOT NULL,"
     "  created_s bigint NOT NULL,"
     "  version bigint NOT NULL,"
     "  last_message bigint NOT NULL DEFAULT 0,"
     "  turns bigint NOT NULL DEFAULT 0,"
     "  turn_bytes bigint NOT NULL DEFAULT 0,"
     "  answering boolean NOT NULL DEFAULT false,"
     "  title bytea NOT NULL,"
     "  model bytea NOT NULL,"
     "  sealed_key bytea NOT NULL,"
     "  key bytea,"
     "  body_hash bytea NOT NULL) WITH (fillfactor = 80);"
     "CREATE INDEX conversation_of_user ON conversation (user_id, created_s, seq);"
     "CREATE UNIQUE INDEX conversation_of_key ON conversation (user_id, key)"
     "  WHERE key IS NOT NULL;"
     "CREATE TABLE convo_question ("
     "  conversation bigint NOT NULL,"
     "  message_id bigint NOT NULL,"
     "  text bytea NOT NULL,"
     "  PRIMARY KEY (conversation, message_id));"
     "ALTER TABLE convo_question ALTER COLUMN text SET STORAGE EXTERNAL;"
     "CREATE TABLE answer ("
     "  stream bytea NOT NULL UNIQUE,"
     "  conversation bigint NOT NULL,"
     "  message_id bigint NOT NULL,"
     "  state bigint NOT NULL,"
     "  term bigint NOT NULL,"
     "  fence bigint NOT NULL,"
     "  attempt bigint NOT NULL,"
     "  owner bigint NOT NULL,"
     "  llm bigint NOT NULL DEFAULT 0,"
     "  length bigint NOT NULL DEFAULT 0,"
     "  asked_ms bigint NOT NULL,"
     "  question_bytes bigint NOT NULL,"
     "  prompt_tokens bigint NOT NULL DEFAULT 0,"
     "  completion_tokens bigint NOT NULL DEFAULT 0,"
     "  total_tokens bigint NOT NULL DEFAULT 0,"
     "  retry_after_s bigint NOT NULL DEFAULT 0,"
     "  stop_wanted boolean NOT NULL DEFAULT false,"
     "  stop_alone boolean NOT NULL DEFAULT false,"
     "  finish bytea NOT NULL DEFAULT '',"
     "  reason bytea NOT NULL DEFAULT '',"
     "  text bytea NOT NULL DEFAULT '',"
     "  key bytea,"
     "  body_hash bytea NOT NULL,"
     "  PRIMARY KEY (conversation, message_id)) WITH (fillfactor = 70);"
     "CREATE UNIQUE INDEX answer_unfinished ON answer (conversation) WHERE state < 2;"
     "CREATE UNIQUE INDEX answer_of_key ON answer (conversation, key) WHERE key IS NOT NULL;"
     "CREATE TABLE answer_chunk ("
     "  conversation bigint NOT NULL,"
     "  message_id bigint NOT NULL,"
     "  at bigint NOT NULL,"
     "  bytes bytea NOT NULL,"
     "  PRIMARY KEY (conversation, message_id, at));"
     "ALTER TABLE answer_chunk ALTER COLUMN bytes SET STORAGE EXTERNAL",
     1},
};

svc_rc
store_pg_run(store_pg_t *self, pg_slot slot, const char *sql, const svc_pg_arg_t *args,
             size_t n, uint64_t *changed)
{
    svc_pg_rows_t rows;
    svc_rc rc = store_pg_query(self, slot, sql, args, n, &rows);

    self->changes += rows.n > 0 ? 1 : 0;
    if (changed != NULL)
        *changed = rows.changed > 0 ? rows.changed : (uint64_t)rows.n;
    svc_pg_free(&rows);
    return rc;
}

/* --- haste ------------------------------------------------------------------------------------- */

uint64_t
store_pg_unix_ms(const svc_pg_rows_t *rows, int row, int column)
{
    return svc_pg_u64(rows, row, column) / 1000 + EPOCH_MS;
}

/* Reads the results of what was taken for granted. */
static svc_rc
read_granted(store_pg_t *self)
{
    svc_rc rc = RC_OK;

    for (size_t i = 0; i < self->n_granted && rc == RC_OK; i++) {
        svc_pg_rows_t rows;

        rc = svc_pg_receive(self->pg, &rows);
        if (rc == RC_OK && rows.changed != 1)
            self->denied = RC_LATER;
        svc_pg_free(&rows);
    }
    self->n_granted = 0;
    return rc;
}

svc_rc
store_pg_query(store_pg_t *self, pg_slot slot, const char *sql, const svc_pg_arg_t *args,
               size_t n, svc_pg_rows_t *out)
{
    svc_rc rc = store_pg_send_asked(self);

    *out = (svc_pg_rows_t){0};
    if (rc == RC_OK && self->n_granted == 0 && !self->is_ahead_due) {
        self->ahead_ms = 0;
        return svc_pg_query(self->pg, slot, sql, args, n, out);
    }
    if (rc == RC_OK)
        rc = svc_pg_send(self->pg, slot, sql, args, n);
    if (rc == RC_OK)
        rc = store_pg_fetch_ahead(self);
    if (rc == RC_OK)
        rc = read_granted(self);
    self->ahead_ms = 0;
    return rc == RC_OK ? svc_pg_receive(self->pg, out) : rc;
}

svc_rc
store_pg_take_for_granted(store_pg_t *self, pg_slot slot, const char *sql,
                          const svc_pg_arg_t *args, size_t n)
{
    svc_rc rc = store_pg_fetch_ahead(self);

    if (rc == RC_OK && self->n_granted == STORE_PG_GRANTED_MAX)
        rc = read_granted(self);
    if (rc == RC_OK)
        rc = svc_pg_send(self->pg, slot, sql, args, n);
    if (rc != RC_OK)
        return rc;
    self->ahead_ms = 0;
    self->n_granted++;
    self->changes++;
    return RC_OK;
}

/* A single look is sent as well: what is added then travels with the commit. A single end locks by itself. */
static svc_rc
hasten(convo_store_t *base, const uint64_t *asked, size_t n_asked, const uint64_t *ended,
       size_t n_ended)
{
    store_pg_t *self = (store_pg_t *)base;

    self->hasty = true;
    if (n_asked == 0 && n_ended < 2)
        return RC_OK;
    return store_pg_look_ahead(self, asked, n_asked, ended, n_ended);
}

/* What of this transaction was refused is a matter for a second try. */
static svc_rc
judge(svc_rc rc)
{
    return rc == RC_OK || rc == RC_UNAVAILABLE || rc == RC_BUSY ? rc : RC_LATER;
}

static svc_rc
settle(convo_store_t *base)
{
    store_pg_t *self = (store_pg_t *)base;
    svc_rc rc = store_pg_fetch_ahead(self);

    if (rc == RC_OK)
        rc = read_granted(self);
    self->hasty = false;
    return rc == RC_OK ? self->denied : judge(rc);
}

/* Forgets what belongs to one transaction. */
static void
forget(store_pg_t *self)
{
    self->writes = self->hasty = self->is_ahead_due = self->has_asked = false;
    self->denied = RC_OK;
    self->n_granted = self->n_asked = self->n_ended = 0;
    self->seen = self->ahead_ms = 0;
    svc_pg_free(&self->ahead);
}

/* --- transactions ----------------------------------------------------------------------------- */

static svc_rc
begin(convo_store_t *base, bool write)
{
    store_pg_t *self = (store_pg_t *)base;
    svc_rc rc = svc_pg_begin(self->pg, write);

    if (rc == RC_OK)
        self->writes = write;
    return rc;
}

static svc_rc
commit(convo_store_t *base)
{
    store_pg_t *self = (store_pg_t *)base;

    bool has_asked;
    svc_rc rc;

    SVC_ASSERT(self->n_granted == 0 && !self->is_ahead_due); /* it is settled */
    rc = store_pg_send_asked(self);
    has_asked = self->has_asked;
    forget(self);
    if (rc != RC_OK) {
        svc_pg_rollback(self->pg);
        return judge(rc);
    }
    rc = svc_pg_commit(self->pg);
    return has_asked ? judge(rc) : rc;
}

static void
rollback(convo_store_t *base)
{
    store_pg_t *self = (store_pg_t *)base;

    forget(self);
    svc_pg_rollback(self->pg);
}

static svc_rc
save(convo_store_t *base)
{
    return svc_pg_save(((store_pg_t *)base)->pg);
}

static svc_rc
keep(convo_store_t *base)
{
    return svc_pg_keep(((store_pg_t *)base)->pg);
}

static svc_rc
undo(convo_store_t *base)
{
    return svc_pg_undo(((store_pg_t *)base)->pg);
}

/* The server tidies by itself. */
static void
tidy(convo_store_t *base)
{
    (void)base;
}

static bool
await(convo_store_t *base, char **error)
{
    return svc_pg_await(((store_pg_t *)base)->pg, error);
}

/* clock_timestamp() is read when the statement runs: after what was sent before it, whose locks it has waited for. When all that
 * was locked was locked beforehand, it was read then. */
static svc_rc
read_clock(convo_store_t *base, uint64_t *out)
{
    store_pg_t *self = (store_pg_t *)base;
    svc_pg_rows_t rows;
    svc_rc rc = store_pg_fetch_ahead(self);

    if (rc == RC_OK && self->ahead_ms != 0) {
        *out = self->ahead_ms;
        return RC_OK;
    }
    if (rc != RC_OK)
        return rc;
    rc = store_pg_query(self, PG_CLOCK, "SELECT clock_timestamp()", NULL, 0, &rows);
    if (rc == RC_OK && rows.n == 1)
        *out = store_pg_unix_ms(&rows, 0, 0);
    svc_pg_free(&rows);
    return rc;
}

static uint64_t
changes(const convo_store_t *base)
{
    const store_pg_t *self = (const store_pg_t *)base;

    return svc_pg_changes(self->pg) + self->changes;
}

/* --- meta ------------------------------------------------------------------------------------- */

static svc_rc
meta_get(convo_store_t *base, const char *name, svc_buf_t *out)
{
    store_pg_t *self = (store_pg_t *)base;
    const svc_pg_arg_t arg = PG_TEXT(svc_str_c(name));
    svc_pg_rows_t rows = {0};
    svc_rc rc = RC_OK;

    /* Who writes what he did not find must be the only one: there is no row yet that could be locked. */
    if (self->writes)
        rc = svc_pg_post(self->pg, PG_META_LOCK,
                         "LOCK TABLE convo_meta IN EXCLUSIVE MODE", NULL, 0);
    if (rc == RC_OK)
        rc = store_pg_query(self, PG_META_GET,
                            "SELECT value FROM convo_meta WHERE name = $1", &arg, 1,
                            &rows);
    if (rc == RC_OK)
        rc = rows.n == 0 ? RC_NOT_FOUND : svc_buf_add_str(out, svc_pg_str(&rows, 0, 0));
    svc_pg_free(&rows);
    return rc;
}

static svc_rc
meta_put(convo_store_t *base, const char *name, svc_str value)
{
    const svc_pg_arg_t args[] = {PG_TEXT(svc_str_c(name)), PG_BYTES(value)};

    return store_pg_run((store_pg_t *)base, PG_META_PUT,
                        "INSERT INTO convo_meta VALUES ($1, $2)"
                        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                        args, SVC_COUNT(args), NULL);
}

/* --- connection ------------------------------------------------------------------------------- */

static void
destroy(convo_store_t *base)
{
    store_pg_t *self = (store_pg_t *)base;

    for (size_t i = 0; i < STORE_PG_ARRAYS; i++)
        svc_buf_fini(&self->array[i]);
    for (size_t i = 0; i < STORE_PG_ASKED; i++)
        svc_buf_fini(&self->asked[i]);
    svc_pg_free(&self->ahead);
    svc_pg_destroy(&self->pg);
    free(self);
}

static const convo_store_api_t postgresql_api = {
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
    .conversation_add = pg_conversation_add,
    .conversation_get = pg_conversation_get,
    .conversation_of_key = pg_conversation_of_key,
    .conversation_remove = pg_conversation_remove,
    .list_version = pg_list_version,
    .conversation_list = pg_conversation_list,
    .question_add = pg_question_add,
    .question_text = pg_question_text,
    .answer_get = pg_answer_get,
    .answer_at = pg_answer_at,
    .answer_replace = pg_answer_replace,
    .answer_of_key = pg_answer_of_key,
    .answer_active = pg_answer_active,
    .answer_unfinished = pg_answer_unfinished,
    .answer_text = pg_answer_text,
    .answer_step = pg_answer_step,
    .answer_steps = pg_answer_steps,
    .answer_restart = pg_answer_restart,
    .answer_stop = pg_answer_stop,
    .lease_renew = pg_lease_renew,
    .lease_drop = pg_lease_drop,
    .answer_owned = pg_answer_owned,
    .answer_take_over = pg_answer_take_over,
};

convo_store_t *
convo_store_postgresql_open(const convo_place_t *place, store_use use, svc_log_t *log,
                            char **error)
{
    store_pg_t *self = svc_alloc(sizeof(*self));
    svc_pg_config_t config = {
        .url = place->url,
        .name = use == STORE_READ ? "convo-svc reader" : "convo-svc writer",
        .log = log,
        .slots = PG_COUNT,
        .stop = place->stop,
        .away_ms = use == STORE_READ ? NULL : place->away_ms,
    };

    self->base.api = &postgresql_api;
    for (size_t i = 0; i < STORE_PG_ARRAYS; i++)
        svc_buf_init(&self->array[i], ARRAY_MAX_BYTES);
    for (size_t i = 0; i < STORE_PG_ASKED; i++)
        svc_buf_init(&self->asked[i], ARRAY_MAX_BYTES);
    self->pg = svc_pg_new(&config, error);
    /* Readers connect when they are first asked: then the server may be away as at any other time. */
    if (self->pg == NULL ||
        (use != STORE_READ &&
         !svc_pg_migrate(self->pg, "convo", steps, SVC_COUNT(steps), error))) {
        destroy(&self->base);
        return NULL;
    }
    return &self->base;
}
