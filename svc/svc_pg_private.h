/* svc_pg_private.h - what the files of the PostgreSQL connection share.
 *
 * svc_pg_link.c makes and loses the connection and waits for its socket; svc_pg.c has statements and
 * transactions; svc_pg_schema.c brings the schema up to date. Private to them. Thread: the
 * connection's. */
#ifndef SVC_SVC_PG_PRIVATE_H
#define SVC_SVC_PG_PRIVATE_H

#include "svc_pg.h"
#include "svc_pg_lib.h"

/* What a result that is still to come belongs to. */
typedef enum {
    DUE_BEGIN,   /* a new transaction: what failed before is forgotten */
    DUE_MARK,    /* this transaction's mark, left in the row of this connection */
    DUE_CONTROL, /* a statement whose result only matters when it failed */
    DUE_UNDO, /* back to the savepoint: likewise, and what failed before is forgotten */
    DUE_PREPARE, /* a statement is prepared */
    DUE_ASK,     /* somebody will receive this one */
    DUE_COMMIT,  /* the end of a transaction */
    DUE_SYNC     /* up to here the server skips everything after a failure */
} due_kind;

typedef struct {
    due_kind kind;
    size_t slot; /* of DUE_PREPARE */
} due_t;

typedef enum {
    TX_NONE, /* no transaction is open */
    TX_OPEN, /* one is */
    TX_LOST  /* one was open when the connection was lost: it cannot be gone on with */
} tx_state;

/* Statements of these files, counted from the end of the slots. */
enum { PG_SLOT_VERSION = 1, PG_SLOT_ROW, PG_SLOT_MARK, PG_SLOT_LOOK, PG_SLOTS };

struct svc_pg {
    char *url;                      /* owned; a secret */
    char name[64];                  /* application_name */
    svc_log_t *log;                 /* borrowed, may be NULL */
    const atomic_bool *stop;        /* borrowed, may be NULL */
    atomic_uint_least64_t *away_ms; /* likewise; written by this object alone */
    uint32_t statement_ms;          /* of one statement */
    size_t slots;   /* length of `prepared`: the caller's, then PG_SLOTS of these files */
    PGconn *conn;   /* owned; NULL: not connected */
    bool *prepared; /* owned; by slot, of this connection */
    due_t *due;     /* owned; SVC_PG_DUE_MAX + some, results to come, oldest first */
    size_t n_due;
    tx_state tx;
    bool writes;   /* this transaction does */
    uint64_t id;   /* of this object: names its row in llmb_writer; random */
    uint64_t mark; /* of this transaction: the row has it when it was committed */
    bool has_row;  /* the row is there, as far as anybody knows */
    svc_rc
        failed; /* first failure in this transaction that the savepoint has not undone */
    uint64_t changes;  /* statements that changed something or failed */
    uint64_t retry_ms; /* monotonic: no connecting before */
    uint64_t
        logged_ms; /* a failure was logged last: a server that is away must not fill the log */
    bool was_up; /* it was connected before: a new connection is worth a line */
};

/* Connects when it is not, and notices when the server has closed the connection while nobody used it. RC_UNAVAILABLE. */
svc_rc pg_link_up(svc_pg_t *self);

/* Says since when others wait for the server: since now, unless it was said before. Gives what was said before, 0: nothing. */
uint64_t pg_link_begin_away(svc_pg_t *self);

/* Says what was said before that. */
void pg_link_end_away(svc_pg_t *self, uint64_t before_ms);

/* Forgets the connection. An open transaction is lost. */
void pg_link_lose(svc_pg_t *self);

/* Waits until the next call of PQgetResult does not block. False: the connection was lost (and is forgotten). */
bool pg_link_wait(svc_pg_t *self, uint64_t deadline_ms);

/* Sends what libpq holds as far as the socket takes it now. False: the connection was lost. */
bool pg_link_flush(svc_pg_t *self);

/* Has somebody asked to stop? */
bool pg_link_is_stopped(const svc_pg_t *self);

/* A pause before the next try, cut short by a stop. */
void pg_link_pause(const svc_pg_t *self, uint32_t ms);

/* What a failed result means; logs what is worth it. *lost: the connection is of no use any more. */
svc_rc pg_link_judge(svc_pg_t *self, const PGresult *result, bool *lost);

/* Reads all that is due. RC_UNAVAILABLE: the connection is lost. */
svc_rc pg_drain(svc_pg_t *self);

/* Runs a script of any number of statements on an idle connection. RC_OK, or the failure. */
svc_rc pg_link_script(svc_pg_t *self, const char *sql, uint32_t ms);

#endif
