/* svc_pg_link.c - the connection to PostgreSQL made, watched and lost.
 *
 * libpq is used without blocking: every wait is a poll() of ours with a deadline, so that a server that has frozen, or a
 * network that swallows everything, costs a statement's time and not the thread. After a failed try the next one waits
 * a moment; what is asked in between is RC_UNAVAILABLE at once.
 *
 * Each session is told that a client of ours that stands still in the middle of a transaction must not hold its locks
 * (idle_in_transaction_session_timeout), that a machine of ours that is gone must not hold them either (the server's own
 * keep-alives: its 2 hours are too long for a batch whose end never came), and that nobody waits for a lock for long (lock_timeout). Statements are planned
 * once and never by reading whole tables: what they look for always has an index, but on an empty database the planner
 * does not know that it will be needed. */
#include "svc_pg_private.h"

#include "svc_main.h"
#include "svc_time.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_MS    3000 /* one try */
#define RETRY_MS      200  /* between two */
#define LOG_EVERY_MS  1000
#define TELL_EVERY_MS 60000 /* what is waited for, while that stays the same */
#define CODE_CHARS    5     /* of a SQLSTATE */
#define SLICE_MS      100   /* a stop is noticed within this time */
#define OLDEST \
    130000 /* server version that is tried; older ones are no longer looked after */

static const char session[] = "SET client_min_messages = error;"
                              "SET idle_in_transaction_session_timeout = 3000;"
                              "SET lock_timeout = 1000;"
                              "SET tcp_keepalives_idle = 5;"
                              "SET tcp_keepalives_interval = 2;"
                              "SET tcp_keepalives_count = 3;"
                              "SET tcp_user_timeout = 10000;"
                              "SET plan_cache_mode = force_generic_plan;"
                              "SET enable_seqscan = off;"
                              "SET bytea_output = hex";

bool
pg_link_is_stopped(const svc_pg_t *self)
{
    return svc_main_is_told_to_end() || (self->stop != NULL && atomic_load(self->stop));
}

void
pg_link_pause(const svc_pg_t *self, uint32_t ms)
{
    for (uint32_t slice; ms > 0 && !pg_link_is_stopped(self); ms -= slice) {
        slice = ms < SLICE_MS ? ms : SLICE_MS;
        (void)poll(NULL, 0, (int)slice);
    }
}

/* One line a second at most. */
static void
log_failure(svc_pg_t *self, const char *what, const char *state)
{
    uint64_t now = svc_mono_ms();

    if (self->logged_ms != 0 && now - self->logged_ms < LOG_EVERY_MS)
        return;
    self->logged_ms = now;
    svc_log_error(self->log, "database: %s%s%s%s", what, *state == '\0' ? "" : " (",
                  state, *state == '\0' ? "" : ")");
}

void
pg_link_lose(svc_pg_t *self)
{
    if (self->conn == NULL)
        return;
    pg_lib()->PQfinish(self->conn);
    self->conn = NULL;
    self->n_due = 0;
    memset(self->prepared, 0, self->slots * sizeof(*self->prepared));
    if (self->tx == TX_OPEN)
        self->tx = TX_LOST;
    self->changes++;
}

/* Waits for the socket. 1: ready, 0: the deadline has passed. */
static int
wait_for(const svc_pg_t *self, short events, uint64_t deadline_ms)
{
    struct pollfd fd = {.fd = pg_lib()->PQsocket(self->conn), .events = events};

    for (;;) {
        uint64_t now = svc_mono_ms();
        int n = poll(&fd, 1, now >= deadline_ms ? 0 : (int)(deadline_ms - now));

        if (n > 0)
            return 1;
        if (now >= deadline_ms)
            return 0;
    }
}

bool
pg_link_flush(svc_pg_t *self)
{
    if (pg_lib()->PQflush(self->conn) >= 0)
        return true;
    log_failure(self, "the connection was lost", "");
    pg_link_lose(self);
    return false;
}

bool
pg_link_wait(svc_pg_t *self, uint64_t deadline_ms)
{
    const char *why = "the connection was lost";

    for (;;) {
        int unsent = pg_lib()->PQflush(self->conn), ready;

        if (unsent >= 0 && pg_lib()->PQisBusy(self->conn) == 0)
            return true;
        if (unsent < 0)
            break;
        ready = wait_for(self, (short)(POLLIN | (unsent > 0 ? POLLOUT : 0)),
                         svc_mono_ms() + SLICE_MS < deadline_ms ? svc_mono_ms() + SLICE_MS
                                                                : deadline_ms);
        if (ready == 0 && (svc_mono_ms() >= deadline_ms || svc_main_is_told_to_end())) {
            why = "no answer in time";
            break;
        }
        if (ready == 0)
            continue;
        /* What was still in the socket when it broke is to be read first: it may be the server's reason. */
        if (pg_lib()->PQconsumeInput(self->conn) == 0 &&
            pg_lib()->PQisBusy(self->conn) != 0)
            break;
    }
    log_failure(self, why, "");
    pg_link_lose(self);
    return false;
}

svc_rc
pg_link_judge(svc_pg_t *self, const PGresult *result, bool *lost)
{
    const char *state = pg_lib()->PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = pg_lib()->PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    svc_rc rc = RC_INTERNAL;

    *lost = false;
    if (state == NULL)
        state = "08006";
    if (strncmp(state, "23", 2) == 0)
        return RC_CONFLICT;
    if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0 ||
        strcmp(state, "55P03") == 0)
        return RC_BUSY;
    if (strncmp(state, "08", 2) == 0 || strncmp(state, "57P", 3) == 0 ||
        strcmp(state, "25P03") == 0 || strcmp(state, "25006") == 0 ||
        strcmp(state, "53300") == 0 || pg_lib()->PQstatus(self->conn) == CONNECTION_BAD) {
        *lost = true;
        rc = RC_UNAVAILABLE;
    } else if (strncmp(state, "53", 2) == 0 || strncmp(state, "58", 2) == 0 ||
               strcmp(state, "57014") == 0)
        rc = RC_UNAVAILABLE;
    else if (strcmp(state, "54000") == 0)
        rc = RC_TOO_BIG;
    log_failure(self, text == NULL ? "the connection was lost" : text, state);
    return rc;
}

svc_rc
pg_link_script(svc_pg_t *self, const char *sql, uint32_t ms)
{
    uint64_t deadline = svc_mono_ms() + ms;
    svc_rc rc = RC_OK;
    bool lost = false;
    PGresult *result;

    if (pg_drain(self) != RC_OK)
        return RC_UNAVAILABLE;
    if (pg_lib()->PQpipelineStatus(self->conn) != PQ_PIPELINE_OFF &&
        pg_lib()->PQexitPipelineMode(self->conn) == 0)
        return RC_INTERNAL;
    if (pg_lib()->PQsendQuery(self->conn, sql) == 0) {
        pg_link_lose(self);
        return RC_UNAVAILABLE;
    }
    for (;;) {
        if (!pg_link_wait(self, deadline))
            return RC_UNAVAILABLE;
        result = pg_lib()->PQgetResult(self->conn);
        if (result == NULL)
            break;
        if (rc == RC_OK && pg_lib()->PQresultStatus(result) == PGRES_FATAL_ERROR)
            rc = pg_link_judge(self, result, &lost);
        pg_lib()->PQclear(result);
        if (lost) {
            pg_link_lose(self);
            return rc;
        }
    }
    if (pg_lib()->PQenterPipelineMode(self->conn) == 0) {
        pg_link_lose(self);
        return RC_UNAVAILABLE;
    }
    return rc;
}

/* --- connecting ------------------------------------------------------------------------------- */

/* Drives a connection attempt to its end. */
static bool
shake_hands(svc_pg_t *self)
{
    uint64_t deadline = svc_mono_ms() + CONNECT_MS;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    while (status != PGRES_POLLING_OK) {
        uint64_t slice = svc_mono_ms() + SLICE_MS;

        if (status == PGRES_POLLING_FAILED ||
            pg_lib()->PQstatus(self->conn) == CONNECTION_BAD ||
            pg_link_is_stopped(self) || svc_mono_ms() >= deadline)
            return false;
        if (wait_for(self, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, slice) > 0)
            status = pg_lib()->PQconnectPoll(self->conn);
    }
    return true;
}

static void
swallow_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

/* One try. The words before the URL are defaults that it may change, the ones behind it are not. */
static bool
connect_once(svc_pg_t *self)
{
    const char *const keys[] = {"fallback_application_name",
                                "keepalives_idle",
                                "keepalives_interval",
                                "keepalives_count",
                                "tcp_user_timeout",
                                "gssencmode",
                                "dbname",
                                "client_encoding",
                                NULL};
    const char *const values[] = {self->name, "10",      "3",    "3", "15000",
                                  "disable",  self->url, "UTF8", NULL};

    self->conn = pg_lib()->PQconnectStartParams(keys, values, 1);
    SVC_ASSERT(self->conn != NULL);
    (void)pg_lib()->PQsetNoticeReceiver(self->conn, swallow_notice, NULL);
    (void)pg_lib()->PQsetErrorVerbosity(self->conn, PQERRORS_VERBOSE);
    if (!shake_hands(self) || pg_lib()->PQsetnonblocking(self->conn, 1) != 0)
        return false;
    return pg_lib()->PQserverVersion(self->conn) >= OLDEST &&
           pg_link_script(self, session, CONNECT_MS) == RC_OK;
}

/* Finds the server's code in "<severity>:  <code>: <sentence>", as libpq's messages are with PQERRORS_VERBOSE: it has no other
 * way to tell why there is no connection. NULL: the server has not said anything. */
static const char *
find_code(const char *message)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    for (const char *at = strstr(message, ":  "); at != NULL; at = strstr(at + 1, ":  "))
        if (strspn(at + 3, letters) == CODE_CHARS &&
            strncmp(at + 3 + CODE_CHARS, ": ", 2) == 0)
            return at + 3;
    return NULL;
}

/* Gives the line that tells why there is no connection: libpq's messages have several, one or more for each address that
 * was tried. What a server has said counts more than that nobody was there. */
static char *
explain(const svc_pg_t *self)
{
    const char *message = self->conn == NULL ? "" : pg_lib()->PQerrorMessage(self->conn);
    const char *code = find_code(message), *line = message;

    if (self->conn != NULL && pg_lib()->PQstatus(self->conn) == CONNECTION_OK &&
        pg_lib()->PQserverVersion(self->conn) < OLDEST)
        return svc_str_dup(SVC_LIT("it is older than version 13"));
    if (*message == '\0')
        return svc_str_dup(SVC_LIT("it does not answer"));
    while (code != NULL && memchr(line, '\n', (size_t)(code - line)) != NULL)
        line = strchr(line, '\n') + 1;
    return svc_str_dup((svc_str){line, strcspn(line, "\n")});
}

/* Will no waiting help? A wrong password, a database that is not there and a server that is too old are there to stay. A role
 * may still be made, and who may connect from where be changed: both are 28000, which is waited for, as is a server that
 * starts or stops (57P03) and all that is not the server's word. */
static bool
is_hopeless(const svc_pg_t *self)
{
    const char *code;

    if (self->conn == NULL)
        return false;
    if (pg_lib()->PQstatus(self->conn) == CONNECTION_OK)
        return pg_lib()->PQserverVersion(self->conn) < OLDEST;
    code = find_code(pg_lib()->PQerrorMessage(self->conn));
    return pg_lib()->PQconnectionNeedsPassword(self->conn) != 0 ||
           (code != NULL && (strncmp(code, "28P01", CODE_CHARS) == 0 ||
                             strncmp(code, "3D000", CODE_CHARS) == 0));
}

uint64_t
pg_link_begin_away(svc_pg_t *self)
{
    uint64_t before_ms = self->away_ms == NULL ? 0 : atomic_load(self->away_ms);

    if (self->away_ms != NULL && before_ms == 0)
        atomic_store(self->away_ms, svc_mono_ms());
    return before_ms;
}

void
pg_link_end_away(svc_pg_t *self, uint64_t before_ms)
{
    if (self->away_ms != NULL)
        atomic_store(self->away_ms, before_ms);
}

/* Tries once. *why_p: why there is no connection, free() it; *hopeless: and there will be none. */
static bool
try_connect(svc_pg_t *self, char **why_p, bool *hopeless)
{
    uint64_t before_ms = pg_link_begin_away(self);
    bool ok = connect_once(self);

    pg_link_end_away(
        self, before_ms); /* a commit that is waited for says so until it is decided */
    if (ok) {
        if (self->was_up)
            svc_log_info(self->log, "database: connected again");
        self->was_up = true;
        self->logged_ms = 0;
        self->retry_ms = 0;
        return true;
    }
    *why_p = explain(self);
    *hopeless = is_hopeless(self);
    pg_lib()->PQfinish(self->conn);
    self->conn = NULL;
    self->retry_ms = svc_mono_ms() + RETRY_MS;
    return false;
}

/* What was said of a wait. */
typedef struct {
    char *why; /* owned; NULL: nothing yet */
    uint64_t at_ms;
} told_t;

/* Says what is waited for: at once, when it has become something else, and now and then. Takes `why`. */
static void
tell_wait(const svc_pg_t *self, char *why, told_t *told)
{
    const uint64_t now = svc_mono_ms();

    if (told->why == NULL || strcmp(told->why, why) != 0 ||
        now - told->at_ms >= TELL_EVERY_MS) {
        svc_log_warn(self->log, "waiting for PostgreSQL: %s", why);
        told->at_ms = now;
    }
    free(told->why);
    told->why = why;
}

bool
svc_pg_connect(svc_pg_t *self, uint32_t wait_ms, char **error)
{
    const uint64_t end = wait_ms == SVC_PG_FOREVER ? UINT64_MAX : svc_mono_ms() + wait_ms;
    told_t told = {.why = NULL};
    char *why = NULL;
    bool hopeless = false, is_up = self->conn != NULL;

    while (!is_up && !(is_up = try_connect(self, &why, &hopeless))) {
        if (hopeless || svc_mono_ms() + RETRY_MS >= end || pg_link_is_stopped(self)) {
            SVC_ASSERT(asprintf(error, "cannot connect to PostgreSQL: %s", why) >= 0);
            free(why);
            break;
        }
        tell_wait(self, why, &told);
        pg_link_pause(self, RETRY_MS);
    }
    if (is_up && told.why != NULL)
        svc_log_info(self->log, "connected to PostgreSQL");
    free(told.why);
    return is_up;
}

bool
svc_pg_await(svc_pg_t *self, char **error)
{
    pg_link_pause(self, RETRY_MS);
    if (!pg_link_is_stopped(self))
        return svc_pg_connect(self, SVC_PG_FOREVER, error);
    *error = svc_str_dup(SVC_LIT("the database was lost, and is not waited for"));
    return false;
}

/* Has the server something to say to a connection on which nothing is due? It only says why it ends it. */
static bool
was_closed(const svc_pg_t *self)
{
    while (wait_for(self, POLLIN, 0) > 0) {
        if (pg_lib()->PQconsumeInput(self->conn) == 0 ||
            pg_lib()->PQstatus(self->conn) == CONNECTION_BAD)
            return true;
        (void)pg_lib()->PQisBusy(
            self->conn); /* reads what came, if it was a mere notice */
    }
    return pg_lib()->PQstatus(self->conn) == CONNECTION_BAD;
}

svc_rc
pg_link_up(svc_pg_t *self)
{
    char *why = NULL;
    bool hopeless;

    if (self->conn != NULL && was_closed(self)) {
        svc_log_warn(self->log, "database: the server has closed the connection");
        pg_link_lose(self);
    }
    if (self->conn != NULL)
        return RC_OK;
    if (svc_mono_ms() < self->retry_ms)
        return RC_UNAVAILABLE;
    if (try_connect(self, &why, &hopeless))
        return RC_OK;
    log_failure(self, "cannot connect to PostgreSQL", why);
    free(why);
    return RC_UNAVAILABLE;
}
