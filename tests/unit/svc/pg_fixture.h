/* pg_fixture.h - a schema of its own on the tests' PostgreSQL server, and somebody else's connection to it.
 *
 * The runner starts one server for all unit tests and names it in LLMB_TEST_POSTGRESQL; without it what needs a server is
 * skipped. Included by tests of every folder that has a database. */
#ifndef TESTS_UNIT_SVC_PG_FIXTURE_H
#define TESTS_UNIT_SVC_PG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#include "svc/svc_pg.h"
#include "svc/svc_secret.h"
#include "svc/svc_time.h"

#define PG_URL_BYTES 400

typedef struct {
    char schema[40];        /* of this test alone */
    char url[PG_URL_BYTES]; /* leads there */
    int port;               /* of the server */
    PGconn *other;          /* somebody else, in the same schema */
} pg_fixture_t;

static inline bool
pg_fixture_is_there(void)
{
    return getenv("LLMB_TEST_POSTGRESQL") != NULL;
}

/* The same URL by way of another port. */
static inline void
pg_fixture_url_by(const pg_fixture_t *self, int port, char out[PG_URL_BYTES])
{
    const char *server = getenv("LLMB_TEST_POSTGRESQL");
    const char *colon = strrchr(server, ':');

    assert_true((size_t)snprintf(out, PG_URL_BYTES,
                                 "%.*s:%d%s?options=-csearch_path%%3D%s",
                                 (int)(colon - server), server, port, strchr(colon, '/'),
                                 self->schema) < PG_URL_BYTES);
}

/* What the other does; true when the server found it good. */
static inline bool
pg_fixture_tries(pg_fixture_t *self, const char *sql)
{
    PGresult *result = PQexec(self->other, sql);
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        print_message("%s: %s", sql, PQresultErrorMessage(result));
    PQclear(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

#define pg_fixture_does(self, sql) assert_true(pg_fixture_tries((self), (sql)))

/* A number that the other reads. */
static inline int64_t
pg_fixture_number(pg_fixture_t *self, const char *sql)
{
    PGresult *result = PQexec(self->other, sql);
    int64_t value;

    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    assert_int_equal(PQntuples(result), 1);
    value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return value;
}

/* Waits until a number that the other reads is `wanted`. */
static inline void
pg_fixture_until(pg_fixture_t *self, const char *sql, int64_t wanted)
{
    uint64_t end = svc_mono_ms() + 20000;

    while (pg_fixture_number(self, sql) != wanted)
        assert_true(svc_mono_ms() < end);
}

/* Ends the server's side of the connections that are called like the schema. */
static inline void
pg_fixture_disconnect_all(pg_fixture_t *self)
{
    char sql[300];

    snprintf(sql, sizeof(sql),
             "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
             " WHERE application_name = '%s'",
             self->schema);
    pg_fixture_does(self, sql);
    snprintf(sql, sizeof(sql),
             "SELECT count(*) FROM pg_stat_activity WHERE application_name = '%s'",
             self->schema);
    pg_fixture_until(self, sql, 0);
}

static inline void
pg_fixture_open(pg_fixture_t *self)
{
    char sql[200];
    const char *server = getenv("LLMB_TEST_POSTGRESQL");

    memset(self, 0, sizeof(*self));
    snprintf(self->schema, sizeof(self->schema), "t%016llx",
             (unsigned long long)svc_random_u64());
    self->port = atoi(strrchr(server, ':') + 1);
    pg_fixture_url_by(self, self->port, self->url);
    self->other = PQconnectdb(self->url);
    assert_int_equal(PQstatus(self->other), CONNECTION_OK);
    snprintf(sql, sizeof(sql), "SET client_min_messages = error; CREATE SCHEMA %s",
             self->schema);
    pg_fixture_does(self, sql);
}

static inline void
pg_fixture_close(pg_fixture_t *self)
{
    char sql[200];

    snprintf(sql, sizeof(sql), "DROP SCHEMA %s CASCADE", self->schema);
    pg_fixture_does(self, sql);
    PQfinish(self->other);
}

/* A connection as the services make them, called like the schema. */
static inline svc_pg_t *
pg_fixture_connection(const pg_fixture_t *self, const char *url, size_t slots,
                      const atomic_bool *stop, atomic_uint_least64_t *away_ms)
{
    svc_pg_config_t config = {.url = url,
                              .name = self->schema,
                              .slots = slots,
                              .stop = stop,
                              .away_ms = away_ms};
    char *error = NULL;
    svc_pg_t *pg = svc_pg_new(&config, &error);

    assert_non_null(pg);
    return pg;
}

#endif
