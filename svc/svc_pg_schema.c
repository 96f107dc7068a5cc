/* svc_pg_schema.c - the schema of a part of the database brought up to date.
 *
 * One table has a row for each part: how many steps were taken, and how few a process may know that still works on it. All
 * that is missing is done in one transaction, under an advisory lock, so that any number of processes may start at the same
 * moment: one does it, the others find it done. */
#include "svc_pg_private.h"

#include "svc_time.h"

#include <stdio.h>
#include <stdlib.h>

#define MIGRATE_MS 120000       /* waiting for somebody else's included */
#define LOCK_ID    "5495821937" /* any number that is nobody else's */

/* The words of SQL around the steps. */
static const char enter[] =
    "BEGIN; SET LOCAL lock_timeout = 120000; SET LOCAL enable_seqscan = on;"
    "SELECT pg_advisory_xact_lock(" LOCK_ID ");"
    "CREATE TABLE IF NOT EXISTS llmb_schema"
    " (part text PRIMARY KEY, steps bigint NOT NULL, oldest bigint NOT NULL);"
    "CREATE TABLE IF NOT EXISTS llmb_writer"
    " (id bigint PRIMARY KEY, mark bigint NOT NULL, seen timestamptz NOT NULL)"
    " WITH (fillfactor = 50);"
    "DELETE FROM llmb_writer WHERE seen < now() - interval '30 days'";

/* Reads what there is of a part; 0 steps: nothing yet. The transaction of the script is open. */
static svc_rc
read_version(svc_pg_t *self, const char *name, uint64_t *steps, uint64_t *oldest)
{
    svc_pg_rows_t rows = {0};
    svc_pg_arg_t part = PG_TEXT(svc_str_c(name));
    svc_rc rc = svc_pg_query(self, self->slots - PG_SLOT_VERSION,
                             "SELECT steps, oldest FROM llmb_schema WHERE part = $1",
                             &part, 1, &rows);

    *steps = rc == RC_OK && rows.n > 0 ? svc_pg_u64(&rows, 0, 0) : 0;
    *oldest = rc == RC_OK && rows.n > 0 ? svc_pg_u64(&rows, 0, 1) : 0;
    svc_pg_free(&rows);
    return rc;
}

/* Takes the steps from `from` on and notes how far it came. */
static svc_rc
take_steps(svc_pg_t *self, const char *name, const svc_pg_step_t *steps, int from, int n)
{
    char note[300];
    svc_rc rc = RC_OK;

    for (int i = from; rc == RC_OK && i < n; i++)
        rc = pg_link_script(self, steps[i].sql, MIGRATE_MS);
    if (rc != RC_OK || from == n)
        return rc;
    snprintf(note, sizeof(note),
             "INSERT INTO llmb_schema VALUES ('%s', %d, %d) ON CONFLICT (part)"
             " DO UPDATE SET steps = excluded.steps, oldest = excluded.oldest",
             name, n, steps[n - 1].oldest);
    return pg_link_script(self, note, MIGRATE_MS);
}

/* All of it, in one transaction: when the connection is lost in it, nothing is done on another one. *newer: the schema is past
 * what this code fits. */
static svc_rc
migrate(svc_pg_t *self, const char *name, const svc_pg_step_t *steps, int n, bool *newer)
{
    uint64_t taken = 0, oldest = 0;
    svc_rc rc = pg_link_script(self, enter, MIGRATE_MS);

    if (rc == RC_OK)
        self->tx = TX_OPEN;
    self->failed = RC_OK;
    if (rc == RC_OK)
        rc = read_version(self, name, &taken, &oldest);
    *newer = rc == RC_OK && oldest > (uint64_t)n;
    if (rc == RC_OK && taken < (uint64_t)n)
        rc = take_steps(self, name, steps, (int)taken, n);
    if (rc == RC_OK)
        rc = pg_link_script(self, *newer ? "ROLLBACK" : "COMMIT", MIGRATE_MS);
    self->tx = TX_NONE;
    if (rc != RC_OK && self->conn != NULL)
        (void)pg_link_script(self, "ROLLBACK", MIGRATE_MS);
    return rc;
}

bool
svc_pg_migrate(svc_pg_t *self, const char *name, const svc_pg_step_t *steps, int n,
               char **error)
{
    bool newer = false;
    svc_rc rc;

    if (!svc_pg_connect(self, SVC_PG_FOREVER, error))
        return false;
    /* A COMMIT that nobody answered is no question here: the next try finds it done, or not. */
    while ((rc = migrate(self, name, steps, n, &newer)) == RC_UNAVAILABLE ||
           rc == RC_BUSY)
        if (!svc_pg_await(self, error))
            return false;
    if (rc == RC_OK && !newer)
        return true;
    if (asprintf(
            error,
            newer ? "the database was made by a newer release (its %s schema does not fit"
                    " this one)"
                  : "cannot bring the database's %s schema up to date",
            name) < 0)
        *error = NULL;
    return false;
}
