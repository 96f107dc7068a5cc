/* svc_pg_lib.h - libpq, loaded when a configuration asks for PostgreSQL.
 *
 * libpq brings OpenSSL, LDAP and Kerberos along, some megabytes of each process that holds them. A service on SQLite
 * must not pay for that, so nothing is linked against libpq: svc_pg_check_url loads it, before anything else of svc_pg*.c
 * is called. Each function of the table has the type that libpq-fe.h gives it, so the compiler checks every call as it
 * would a direct one. The list is a macro, since fields and names must never differ. Private to svc_pg*.c. Threads: any. */
#ifndef SVC_SVC_PG_LIB_H
#define SVC_SVC_PG_LIB_H

#include "proto/base.h"

#include <libpq-fe.h>

// clang-format off
#define PG_LIB_FUNCTIONS(X) \
    X(PQclear)            X(PQcmdStatus)          X(PQcmdTuples)        X(PQconnectPoll) \
    X(PQconnectStartParams) X(PQconnectionNeedsPassword) X(PQconninfoFree) X(PQconninfoParse) \
    X(PQconsumeInput)     X(PQenterPipelineMode)  X(PQerrorMessage)     X(PQexitPipelineMode) \
    X(PQfinish)           X(PQflush)              X(PQgetResult)        X(PQgetlength) \
    X(PQgetvalue)         X(PQisBusy)             X(PQntuples)          X(PQpipelineStatus) \
    X(PQpipelineSync)     X(PQresultErrorField)   X(PQresultStatus)     X(PQsendPrepare) \
    X(PQsendQuery)        X(PQsendQueryParams)    X(PQsendQueryPrepared) X(PQserverVersion) \
    X(PQsetErrorVerbosity) X(PQsetNoticeReceiver) X(PQsetnonblocking)   X(PQsocket) \
    X(PQstatus)
// clang-format on

#define PG_LIB_FIELD(function) __typeof__(function) *function;
typedef struct {
    PG_LIB_FUNCTIONS(PG_LIB_FIELD)
} pg_lib_t;
#undef PG_LIB_FIELD

/* Loads libpq, once for the process: a second call gives what the first one gave. False with *error (free() it). */
bool pg_lib_load(char **error) SVC_MUST_CHECK;

/* Its functions. Only after pg_lib_load has been true: else all are NULL. */
const pg_lib_t *pg_lib(void);

/* Fills a table with the functions of the library `file`, which stays loaded. False with *error (free() it): it is not
 * there, or is too old to have them all. What pg_lib_load does; for itself in tests. */
bool pg_lib_fill(pg_lib_t *out, const char *file, char **error) SVC_MUST_CHECK;

#endif
