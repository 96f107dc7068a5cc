/* svc_pg.h - one connection to PostgreSQL, for one thread.
 *
 * Statements are prepared when first used and kept by slot; parameters and results are binary. All goes through libpq's
 * pipeline: what is sent travels with the next statement whose result somebody waits for, so a transaction costs as many
 * round trips as it has questions. A lost connection is made anew by the next transaction or statement outside of one.
 *
 * Results: RC_UNAVAILABLE the connection or the server is away (nothing of the transaction counts), RC_CONFLICT a constraint
 * is broken, RC_BUSY somebody was in the way: run the transaction again, RC_INTERNAL the statement or the schema is wrong.
 * Any failure inside a transaction ends it but for going back to a savepoint. Texts that may hold NUL must be bytea. */
#ifndef SVC_SVC_PG_H
#define SVC_SVC_PG_H

#include "svc_log.h"

#include <stdatomic.h>

#define SVC_PG_ARGS_MAX 32  /* of one statement */
#define SVC_PG_DUE_MAX  512 /* results not yet read; more are read first */
#define SVC_PG_FOREVER  UINT32_MAX

typedef struct svc_pg svc_pg_t;

typedef struct {
    const char *url;  /* copied; a secret: no message of ours has it */
    const char *name; /* application_name: "convo-svc writer"; at most 63 bytes, copied */
    svc_log_t *log;   /* borrowed, may be NULL */
    size_t slots;     /* statements are numbered 0.. below it */
    const atomic_bool
        *stop; /* borrowed, may be NULL: true ends every wait for a server that is away */
    atomic_uint_least64_t *
        away_ms; /* borrowed, may be NULL. Monotonic: since when it connects or waits to hear what became of a COMMIT; 0: neither */
    uint32_t
        statement_ms; /* one statement takes no longer, else the connection is given up; 0: 10 s */
} svc_pg_config_t;

/* May this be storage.postgresql.url? Loads libpq. False with *error (free() it): it is empty or no URL (says so without
 * it), or there is no libpq. */
bool svc_pg_check_url(const char *url, char **error) SVC_MUST_CHECK;

/* Makes a connection that is not there yet. NULL with *error (free() it): the URL is none. */
svc_pg_t *svc_pg_new(const svc_pg_config_t *config, char **error);

/* Ends the connection (and what was not committed), frees everything, sets *self_p to NULL. NULL-safe. */
void svc_pg_destroy(svc_pg_t **self_p);

/* Connects, trying again for up to `wait_ms` (0: once; SVC_PG_FOREVER: until config.stop, or a signal during the service's start);
 * says in the log at once what it waits for. What no waiting cures (a wrong password, no such database, a server too old) ends it
 * at once. False with *error (free() it): why not. */
bool svc_pg_connect(svc_pg_t *self, uint32_t wait_ms, char **error) SVC_MUST_CHECK;

/* What a start does after RC_UNAVAILABLE or RC_BUSY: after a moment, and when the server is there again (waited for as by
 * svc_pg_connect, for ever), the same may be tried once more. False with *error (free() it): it makes no sense any more. */
bool svc_pg_await(svc_pg_t *self, char **error) SVC_MUST_CHECK;

/* --- schema ----- */

/* One step of a schema, from version i to i + 1. Never changed once released, only added to. */
typedef struct {
    const char *sql; /* any number of statements */
    int oldest; /* smallest count of steps with which code still works on what this one leaves */
} svc_pg_step_t;

/* Brings the part `name` of the schema up to date, in one transaction that only one process at a time may be in. A server that is
 * not there, or is lost meanwhile, is waited for as by svc_pg_await.
 * False with *error: why not (a newer release has left something that this code does not fit). */
bool svc_pg_migrate(svc_pg_t *self, const char *name, const svc_pg_step_t *steps, int n,
                    char **error) SVC_MUST_CHECK;

/* --- transactions ----- */

/* Begins one: `write`: READ COMMITTED (rows that decide are locked by FOR UPDATE); else read only and of one moment.
 * RC_UNAVAILABLE: not connected. RC_INTERNAL: one is open. Takes no round trip. */
svc_rc svc_pg_begin(svc_pg_t *self, bool write) SVC_MUST_CHECK;

/* Ends a transaction for good. When the connection is lost meanwhile, waits until the server can tell what became of it.
 * Anything but RC_OK: it was rolled back (RC_UNAVAILABLE after config.stop: nobody knows). */
svc_rc svc_pg_commit(svc_pg_t *self) SVC_MUST_CHECK;

/* Undoes it. Harmless when none is open. Nobody waits for it. */
void svc_pg_rollback(svc_pg_t *self);

/* A savepoint inside it: save, then keep or undo. None takes a round trip. */
svc_rc svc_pg_save(svc_pg_t *self) SVC_MUST_CHECK;
svc_rc svc_pg_keep(svc_pg_t *self) SVC_MUST_CHECK;
svc_rc svc_pg_undo(svc_pg_t *self) SVC_MUST_CHECK;

/* --- statements ----- */

typedef enum {
    SVC_PG_BOOL = 16,
    SVC_PG_BYTES = 17,
    SVC_PG_INT8 = 20,
    SVC_PG_TEXT = 25,
    SVC_PG_BYTES_ARRAY = 1001,
    SVC_PG_INT8_ARRAY = 1016
} svc_pg_type; /* the server's own numbers of its types */

/* A parameter. */
typedef struct {
    svc_pg_type type; /* always the same at the same place of a statement */
    bool null;        /* SQL's NULL of that type */
    uint64_t number;  /* of SVC_PG_BOOL and SVC_PG_INT8: the bits of an int8 */
    svc_str bytes;    /* of the others, borrowed until the function returns */
} svc_pg_arg_t;

#define PG_U64(v)   ((svc_pg_arg_t){.type = SVC_PG_INT8, .number = (v)})
#define PG_BOOL(v)  ((svc_pg_arg_t){.type = SVC_PG_BOOL, .number = (v) ? 1 : 0})
#define PG_BYTES(v) ((svc_pg_arg_t){.type = SVC_PG_BYTES, .bytes = (v)})
#define PG_BYTES_OR_NULL(v) \
    ((svc_pg_arg_t){.type = SVC_PG_BYTES, .bytes = (v), .null = (v).n == 0})
#define PG_TEXT(v)          ((svc_pg_arg_t){.type = SVC_PG_TEXT, .bytes = (v)})
#define PG_ARRAY(kind, buf) ((svc_pg_arg_t){.type = (kind), .bytes = svc_buf_str(buf)})

/* What a statement gave. */
typedef struct {
    void *result;     /* libpq's, owned; NULL: none */
    int n;            /* rows */
    uint64_t changed; /* rows inserted, updated or deleted, as the server tells */
} svc_pg_rows_t;

/* Runs a statement and waits for its result. `sql` is the same at each use of `slot`. Free the rows whatever was returned. */
svc_rc svc_pg_query(svc_pg_t *self, size_t slot, const char *sql,
                    const svc_pg_arg_t *args, size_t n_args,
                    svc_pg_rows_t *out) SVC_MUST_CHECK;

/* Sends a statement with what comes next; its result is handed out by svc_pg_receive, in order. Inside a transaction only. */
svc_rc svc_pg_send(svc_pg_t *self, size_t slot, const char *sql, const svc_pg_arg_t *args,
                   size_t n_args) SVC_MUST_CHECK;

/* The next result that was asked for by svc_pg_send. RC_INTERNAL: none is due. */
svc_rc svc_pg_receive(svc_pg_t *self, svc_pg_rows_t *out) SVC_MUST_CHECK;

/* Sends a statement whose result nobody wants with what comes next; that it failed is told by the next result or the commit, and
 * svc_pg_changes does not count it. Inside a transaction only. */
svc_rc svc_pg_post(svc_pg_t *self, size_t slot, const char *sql, const svc_pg_arg_t *args,
                   size_t n_args) SVC_MUST_CHECK;

/* Statements that changed rows, were posted (and may have) or failed so far: equal at two moments means that nothing has happened between them. */
uint64_t svc_pg_changes(const svc_pg_t *self);

/* --- values of a result; views die with the rows ----- */

/* A number: int2, int4, int8 or bool; 0 for NULL. */
uint64_t svc_pg_u64(const svc_pg_rows_t *rows, int row, int column);

/* Bytes or text; empty for NULL. */
svc_str svc_pg_str(const svc_pg_rows_t *rows, int row, int column);

/* Frees them. Harmless when there are none. */
void svc_pg_free(svc_pg_rows_t *rows);

/* --- arrays as parameters: one value after the other into a buffer, which the caller has made ----- */

/* Begins an array of `n` values of the element type SVC_PG_INT8 or SVC_PG_BYTES. RC_TOO_BIG as svc_buf_add. */
svc_rc svc_pg_array(svc_buf_t *out, svc_pg_type element, size_t n) SVC_MUST_CHECK;

/* Says in the end how many values an array has that was begun with at least one. */
void svc_pg_array_count(svc_buf_t *array, size_t n);

/* Adds the next value. RC_TOO_BIG likewise. */
svc_rc svc_pg_array_u64(svc_buf_t *out, uint64_t value) SVC_MUST_CHECK;
svc_rc svc_pg_array_bytes(svc_buf_t *out, svc_str value) SVC_MUST_CHECK;

#endif
