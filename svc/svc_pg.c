/* svc_pg.c - statements, their results, and transactions whose end is known.
 *
 * Everything that was sent has an entry in `due`, in the order in which the server answers:
 *
 *   BEGIN | mark | PREPARE | ask | SYNC | ask | SYNC | COMMIT | SYNC
 *   \____ sent together _____________/
 *
 * A failure makes the server skip what follows it up to the next sync, so whoever goes back to a savepoint or rolls back sends
 * one first. A writing transaction leaves its mark in a row that only this connection writes: when the connection breaks while
 * a COMMIT is under way, the row tells on a new one what became of it. (pg_xact_status would not do: after a crash the
 * number of a transaction that was lost is given to another one.) */
#include "svc_pg_private.h"

#include "svc_secret.h"
#include "svc_time.h"

#include <arpa/inet.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#define STATEMENT_MS 10000
#define DECIDE_MS    100 /* between two looks at what became of a transaction */
#define BINARY       1
#define COUNT_AT     12 /* in an array: behind dimensions, NULLs, type */

bool
svc_pg_check_url(const char *url, char **error)
{
    PQconninfoOption *options;

    if (url[0] == '\0')
        *error = svc_str_dup(SVC_LIT("storage.postgresql.url must be configured with "
                                     "storage.driver: postgresql"));
    if (url[0] == '\0' || !pg_lib_load(error))
        return false;
    options = pg_lib()->PQconninfoParse(url, NULL);
    if (options != NULL)
        pg_lib()->PQconninfoFree(options);
    else /* libpq would say why, and print the URL with its password */
        *error = svc_str_dup(SVC_LIT("storage.postgresql.url is no URL of PostgreSQL"
                                     " (postgresql://user:password@host:port/database)"));
    return options != NULL;
}

svc_pg_t *
svc_pg_new(const svc_pg_config_t *config, char **error)
{
    svc_pg_t *self;

    if (!svc_pg_check_url(config->url, error))
        return NULL;
    self = svc_alloc(sizeof(*self));
    self->url = svc_str_dup(svc_str_c(config->url));
    snprintf(self->name, sizeof(self->name), "%s", config->name);
    self->log = config->log;
    self->stop = config->stop;
    self->away_ms = config->away_ms;
    self->statement_ms = config->statement_ms == 0 ? STATEMENT_MS : config->statement_ms;
    self->slots = config->slots + PG_SLOTS;
    self->prepared = svc_alloc(self->slots * sizeof(*self->prepared));
    self->id = svc_random_u64();
    self->due = svc_alloc(SVC_PG_DUE_MAX * sizeof(*self->due));
    return self;
}

void
svc_pg_destroy(svc_pg_t **self_p)
{
    svc_pg_t *self = *self_p;

    if (self == NULL)
        return;
    if (self->conn != NULL)
        pg_lib()->PQfinish(self->conn);
    explicit_bzero(self->url, strlen(self->url));
    free(self->url);
    free(self->prepared);
    free(self->due);
    free(self);
    *self_p = NULL;
}

uint64_t
svc_pg_changes(const svc_pg_t *self)
{
    return self->changes;
}

/* --- results ---------------------------------------------------------------------------------- */

static void
fail(svc_pg_t *self, svc_rc rc)
{
    self->changes++;
    if (self->failed == RC_OK)
        self->failed = rc;
}

/* Reads one result. NULL: the end of a statement's, or the connection is lost. */
static PGresult *
next_result(svc_pg_t *self)
{
    return pg_link_wait(self, svc_mono_ms() + self->statement_ms)
               ? pg_lib()->PQgetResult(self->conn)
               : NULL;
}

/* Was a statement refused only since one before it had failed? */
static bool
is_aftermath(const PGresult *result)
{
    const char *state = pg_lib()->PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return state != NULL && strcmp(state, "25P02") == 0;
}

/* What a result means for its statement and for the transaction. False: the connection is lost. */
static bool
take_result(svc_pg_t *self, const due_t *due, const PGresult *result, svc_rc *rc)
{
    bool lost = false;

    switch (pg_lib()->PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        *rc = RC_OK;
        if (due->kind == DUE_BEGIN || due->kind == DUE_UNDO)
            self->failed = RC_OK;
        if (due->kind == DUE_MARK &&
            *pg_lib()->PQcmdTuples((PGresult *)(uintptr_t)result) == '0') {
            self->has_row =
                false; /* somebody has tidied it away: no transaction without a mark */
            *rc = RC_BUSY;
            fail(self, *rc);
        }
        /* A COMMIT of a transaction that has failed "succeeds", too. */
        if (due->kind == DUE_COMMIT &&
            strcmp(pg_lib()->PQcmdStatus((PGresult *)(uintptr_t)result), "COMMIT") != 0)
            *rc = self->failed == RC_OK ? RC_INTERNAL : self->failed;
        return true;
    case PGRES_PIPELINE_ABORTED:
        *rc = self->failed == RC_OK ? RC_INTERNAL : self->failed;
        break;
    default:
        *rc = is_aftermath(result) && self->failed != RC_OK
                  ? self->failed
                  : pg_link_judge(self, result, &lost);
        fail(self, *rc);
        break;
    }
    if (due->kind == DUE_PREPARE)
        self->prepared[due->slot] = false;
    if (lost)
        pg_link_lose(self);
    return !lost;
}

/* Takes the oldest entry of `due` with its result. *out (may be NULL): the result, clear it. RC_UNAVAILABLE and !is_up: lost. */
static svc_rc
take_due(svc_pg_t *self, PGresult **out)
{
    due_t due = self->due[0];
    PGresult *result = next_result(self), *more;
    svc_rc rc = RC_UNAVAILABLE;

    if (self->conn == NULL)
        return rc;
    memmove(self->due, self->due + 1, --self->n_due * sizeof(*self->due));
    if (due.kind == DUE_SYNC) {
        pg_lib()->PQclear(result);
        return RC_OK;
    }
    if (result != NULL && !take_result(self, &due, result, &rc)) {
        pg_lib()->PQclear(result);
        return rc;
    }
    while (self->conn != NULL && (more = next_result(self)) != NULL)
        pg_lib()->PQclear(more);
    if (self->conn == NULL || out == NULL || rc != RC_OK)
        pg_lib()->PQclear(result);
    else
        *out = result;
    return self->conn == NULL ? RC_UNAVAILABLE : rc;
}

/* Adds an entry for what was just given to libpq; sent: what libpq said. */
static svc_rc
add_due(svc_pg_t *self, due_kind kind, size_t slot, int sent)
{
    if (sent == 0) {
        pg_link_lose(self);
        return RC_UNAVAILABLE;
    }
    self->due[self->n_due++] = (due_t){kind, slot};
    return RC_OK;
}

/* Everything up to here is to be answered now. */
static svc_rc
sync_up(svc_pg_t *self)
{
    if (self->n_due == 0 || self->due[self->n_due - 1].kind == DUE_SYNC)
        return RC_OK;
    return add_due(self, DUE_SYNC, 0, pg_lib()->PQpipelineSync(self->conn));
}

svc_rc
pg_drain(svc_pg_t *self)
{
    svc_rc rc = self->conn == NULL ? RC_UNAVAILABLE : sync_up(self);

    while (rc == RC_OK && self->n_due > 0) {
        (void)take_due(self, NULL);
        if (self->conn == NULL)
            rc = RC_UNAVAILABLE;
    }
    return rc;
}

/* --- sending ---------------------------------------------------------------------------------- */

/* A short statement without parameters that nobody waits for. */
static svc_rc
control(svc_pg_t *self, due_kind kind, const char *sql)
{
    return add_due(
        self, kind, 0,
        pg_lib()->PQsendQueryParams(self->conn, sql, 0, NULL, NULL, NULL, NULL, 0));
}

/* Parameters as libpq takes them. */
typedef struct {
    Oid types[SVC_PG_ARGS_MAX];
    const char *values[SVC_PG_ARGS_MAX];
    int lengths[SVC_PG_ARGS_MAX], formats[SVC_PG_ARGS_MAX];
    uint64_t numbers[SVC_PG_ARGS_MAX]; /* big endian */
    char truths[SVC_PG_ARGS_MAX];
} params_t;

static void
fill_params(params_t *out, const svc_pg_arg_t *args, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const svc_pg_arg_t *arg = &args[i];

        out->types[i] = (Oid)arg->type;
        out->formats[i] = BINARY;
        switch (arg->type) {
        case SVC_PG_INT8:
            out->numbers[i] = htobe64(arg->number);
            out->values[i] = (const char *)&out->numbers[i];
            out->lengths[i] = sizeof(out->numbers[i]);
            break;
        case SVC_PG_BOOL:
            out->truths[i] = arg->number != 0 ? 1 : 0;
            out->values[i] = &out->truths[i];
            out->lengths[i] = 1;
            break;
        case SVC_PG_BYTES:
        case SVC_PG_TEXT:
        case SVC_PG_BYTES_ARRAY:
        case SVC_PG_INT8_ARRAY:
            out->values[i] = arg->bytes.n == 0 ? "" : arg->bytes.p;
            out->lengths[i] = (int)arg->bytes.n;
            break;
        }
        if (arg->null)
            out->values[i] = NULL;
    }
}

/* Gives a statement to libpq, prepared before when it is not yet. */
static svc_rc
send_statement(svc_pg_t *self, size_t slot, const char *sql, const svc_pg_arg_t *args,
               size_t n)
{
    params_t params;
    char name[24];
    svc_rc rc = RC_OK;

    SVC_ASSERT(slot < self->slots && n <= SVC_PG_ARGS_MAX);
    if (self->n_due + 8 >
        SVC_PG_DUE_MAX) /* this, its preparation, and what ends a transaction */
        return RC_TOO_BIG;
    fill_params(&params, args, n);
    snprintf(name, sizeof(name), "s%zu", slot);
    if (!self->prepared[slot]) {
        self->prepared[slot] = true;
        rc = add_due(
            self, DUE_PREPARE, slot,
            pg_lib()->PQsendPrepare(self->conn, name, sql, (int)n, params.types));
    }
    if (rc != RC_OK)
        return rc;
    return add_due(self, DUE_ASK, slot,
                   pg_lib()->PQsendQueryPrepared(self->conn, name, (int)n, params.values,
                                                 params.lengths, params.formats, BINARY));
}

/* May a statement be sent now? Outside a transaction the connection is looked after first. */
static svc_rc
ready(svc_pg_t *self)
{
    if (self->tx == TX_LOST)
        return RC_UNAVAILABLE;
    if (self->tx == TX_OPEN)
        return RC_OK;
    if (self->conn != NULL)
        (void)pg_drain(self);
    return pg_link_up(self);
}

svc_rc
svc_pg_send(svc_pg_t *self, size_t slot, const char *sql, const svc_pg_arg_t *args,
            size_t n)
{
    svc_rc rc = self->tx == TX_NONE ? RC_INTERNAL : ready(self);

    return rc == RC_OK ? send_statement(self, slot, sql, args, n) : rc;
}

svc_rc
svc_pg_post(svc_pg_t *self, size_t slot, const char *sql, const svc_pg_arg_t *args,
            size_t n)
{
    svc_rc rc = svc_pg_send(self, slot, sql, args, n);

    if (rc == RC_OK)
        self->due[self->n_due - 1].kind = DUE_CONTROL;
    return rc;
}

/* Hands a result to the caller. */
static void
give_rows(svc_pg_t *self, PGresult *result, svc_pg_rows_t *out)
{
    const char *changed = pg_lib()->PQcmdTuples(result);

    out->result = result;
    out->n = pg_lib()->PQntuples(result);
    /* A SELECT counts its rows, too, but has changed nothing. */
    if (strncmp(pg_lib()->PQcmdStatus(result), "SELECT", 6) != 0)
        out->changed = strtoull(changed, NULL, 10);
    self->changes += out->changed > 0 ? 1 : 0;
}

svc_rc
svc_pg_receive(svc_pg_t *self, svc_pg_rows_t *out)
{
    PGresult *result = NULL;
    svc_rc rc;

    *out = (svc_pg_rows_t){0};
    if (self->conn == NULL)
        return RC_UNAVAILABLE;
    rc = sync_up(self);
    while (rc == RC_OK) {
        bool wanted;

        if (self->n_due == 0)
            return RC_INTERNAL;
        wanted = self->due[0].kind == DUE_ASK;
        rc = take_due(self, wanted ? &result : NULL);
        if (wanted && rc == RC_OK)
            rc =
                self->failed; /* something posted before it may have failed without ending the transaction */
        if (wanted)
            break;
        if (self->conn != NULL)
            rc = RC_OK;
    }
    if (result != NULL)
        give_rows(self, result, out);
    return rc;
}

svc_rc
svc_pg_query(svc_pg_t *self, size_t slot, const char *sql, const svc_pg_arg_t *args,
             size_t n, svc_pg_rows_t *out)
{
    svc_rc rc = ready(self);

    *out = (svc_pg_rows_t){0};
    if (self->tx == TX_NONE)
        self->failed = RC_OK;
    if (rc == RC_OK)
        rc = send_statement(self, slot, sql, args, n);
    if (rc == RC_OK)
        rc = svc_pg_receive(self, out);
    return rc;
}

/* --- transactions ----------------------------------------------------------------------------- */

/* Makes the row of this connection: before the first transaction, so that who looks for a mark finds the row, and waits for
 * the transaction that still holds it. */
static svc_rc
make_row(svc_pg_t *self)
{
    svc_pg_rows_t rows;
    const svc_pg_arg_t id = PG_U64(self->id);
    svc_rc rc = svc_pg_query(self, self->slots - PG_SLOT_ROW,
                             "INSERT INTO llmb_writer VALUES ($1, 0, now())"
                             " ON CONFLICT (id) DO NOTHING",
                             &id, 1, &rows);

    svc_pg_free(&rows);
    self->has_row = rc == RC_OK;
    return rc;
}

static svc_rc
leave_mark(svc_pg_t *self)
{
    svc_pg_arg_t args[] = {PG_U64(self->id), PG_U64(++self->mark)};
    svc_rc rc = send_statement(self, self->slots - PG_SLOT_MARK,
                               "UPDATE llmb_writer SET mark = $2, seen = now()"
                               " WHERE id = $1",
                               args, SVC_COUNT(args));

    if (rc == RC_OK)
        self->due[self->n_due - 1].kind = DUE_MARK;
    return rc;
}

svc_rc
svc_pg_begin(svc_pg_t *self, bool write)
{
    svc_rc rc = self->tx == TX_NONE ? ready(self) : RC_INTERNAL;

    if (rc == RC_OK && write && !self->has_row)
        rc = make_row(self);
    if (rc == RC_OK)
        rc = control(self, DUE_BEGIN,
                     write ? "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
                           : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    if (rc == RC_OK && write)
        rc = leave_mark(self);
    if (rc != RC_OK)
        return rc;
    self->tx = TX_OPEN;
    self->writes = write;
    self->failed = RC_OK;
    return RC_OK;
}

void
svc_pg_rollback(svc_pg_t *self)
{
    bool is_open = self->tx == TX_OPEN;

    self->tx = TX_NONE;
    if (is_open && sync_up(self) == RC_OK &&
        control(self, DUE_CONTROL, "ROLLBACK") == RC_OK && sync_up(self) == RC_OK)
        (void)pg_link_flush(self);
}

/* What became of a transaction whose COMMIT nobody answered: RC_OK, or RC_CONFLICT: nothing. Else: not known yet. The row is
 * locked as long as the server still works on it. */
static svc_rc
look_up(svc_pg_t *self, uint64_t mark)
{
    svc_pg_rows_t rows;
    const svc_pg_arg_t id = PG_U64(self->id);
    svc_rc rc = svc_pg_query(self, self->slots - PG_SLOT_LOOK,
                             "SELECT mark FROM llmb_writer WHERE id = $1 FOR UPDATE", &id,
                             1, &rows);

    if (rc == RC_OK && (rows.n == 0 || svc_pg_u64(&rows, 0, 0) != mark))
        rc = RC_CONFLICT;
    svc_pg_free(&rows);
    return rc;
}

/* Waits until it is known what became of the last transaction. */
static svc_rc
decide(svc_pg_t *self)
{
    svc_rc rc = RC_BUSY;

    (void)pg_link_begin_away(self);
    svc_log_warn(
        self->log,
        "database: the outcome of a commit is not known, waiting for the server");
    while (!pg_link_is_stopped(self)) {
        rc = look_up(self, self->mark);
        if (rc == RC_OK || rc == RC_CONFLICT)
            break;
        pg_link_pause(self, DECIDE_MS);
    }
    pg_link_end_away(self, 0);
    svc_log_warn(self->log, "database: the commit %s",
                 rc == RC_OK         ? "has taken place"
                 : rc == RC_CONFLICT ? "has not taken place"
                                     : "is left undecided, since this process ends");
    return rc == RC_OK ? RC_OK : RC_UNAVAILABLE;
}

svc_rc
svc_pg_commit(svc_pg_t *self)
{
    svc_rc rc = RC_UNAVAILABLE, read = RC_OK;
    bool sent;

    if (self->tx == TX_NONE)
        return RC_INTERNAL;
    if (self->tx == TX_LOST) {
        self->tx = TX_NONE;
        return RC_UNAVAILABLE;
    }
    sent = control(self, DUE_COMMIT, "COMMIT") == RC_OK && sync_up(self) == RC_OK;
    while (sent && self->n_due > 0) {
        bool is_last = self->due[0].kind == DUE_COMMIT;

        read = take_due(self, NULL);
        if (is_last)
            rc = read;
    }
    if (self->conn ==
        NULL) { /* even when libpq could not send all of it, some of it may have left */
        self->tx = TX_NONE;
        return self->writes ? decide(self) : RC_UNAVAILABLE;
    }
    if (rc != RC_OK)
        svc_pg_rollback(
            self); /* when it was skipped since something before it had failed */
    self->tx = TX_NONE;
    return rc;
}

svc_rc
svc_pg_save(svc_pg_t *self)
{
    svc_rc rc = self->tx == TX_NONE ? RC_INTERNAL : ready(self);

    return rc == RC_OK ? control(self, DUE_CONTROL, "SAVEPOINT job") : rc;
}

svc_rc
svc_pg_keep(svc_pg_t *self)
{
    svc_rc rc = self->tx == TX_NONE ? RC_INTERNAL : ready(self);

    return rc == RC_OK ? control(self, DUE_CONTROL, "RELEASE SAVEPOINT job") : rc;
}

svc_rc
svc_pg_undo(svc_pg_t *self)
{
    svc_rc rc = self->tx == TX_NONE ? RC_INTERNAL : ready(self);

    if (rc == RC_OK)
        rc = sync_up(self);
    if (rc == RC_OK)
        rc = control(self, DUE_UNDO, "ROLLBACK TO SAVEPOINT job");
    return rc == RC_OK ? svc_pg_keep(self) : rc;
}

/* --- values ----------------------------------------------------------------------------------- */

uint64_t
svc_pg_u64(const svc_pg_rows_t *rows, int row, int column)
{
    const PGresult *result = rows->result;
    const unsigned char *p = (const unsigned char *)pg_lib()->PQgetvalue(result, row,
                                                                         column);
    int n = pg_lib()->PQgetlength(result, row, column);
    uint64_t value = 0;

    for (int i = 0; i < n && i < (int)sizeof(value); i++)
        value = value << 8 | p[i];
    return value;
}

svc_str
svc_pg_str(const svc_pg_rows_t *rows, int row, int column)
{
    const PGresult *result = rows->result;

    return (svc_str){pg_lib()->PQgetvalue(result, row, column),
                     (size_t)pg_lib()->PQgetlength(result, row, column)};
}

void
svc_pg_free(svc_pg_rows_t *rows)
{
    if (rows->result != NULL) /* without a row libpq may not even be loaded */
        pg_lib()->PQclear(rows->result);
    *rows = (svc_pg_rows_t){0};
}

/* --- arrays ----------------------------------------------------------------------------------- */

static svc_rc
add_number(svc_buf_t *out, uint32_t value)
{
    uint32_t big = htonl(value);

    return svc_buf_add(out, &big, sizeof(big));
}

svc_rc
svc_pg_array(svc_buf_t *out, svc_pg_type element, size_t n)
{
    svc_rc rc = add_number(out, n == 0 ? 0 : 1); /* dimensions */

    if (rc == RC_OK)
        rc = add_number(out, 0); /* no NULL in it */
    if (rc == RC_OK)
        rc = add_number(out, (uint32_t)element);
    if (rc == RC_OK && n > 0)
        rc = add_number(out, (uint32_t)n);
    if (rc == RC_OK && n > 0)
        rc = add_number(out, 1); /* the first has this index */
    return rc;
}

void
svc_pg_array_count(svc_buf_t *array, size_t n)
{
    const uint32_t big = htonl((uint32_t)n);

    memcpy(array->p + COUNT_AT, &big, sizeof(big));
}

svc_rc
svc_pg_array_u64(svc_buf_t *out, uint64_t value)
{
    uint64_t big = htobe64(value);

    return svc_pg_array_bytes(out, (svc_str){(const char *)&big, sizeof(big)});
}

svc_rc
svc_pg_array_bytes(svc_buf_t *out, svc_str value)
{
    svc_rc rc = add_number(out, (uint32_t)value.n);

    return rc == RC_OK ? svc_buf_add_str(out, value) : rc;
}
