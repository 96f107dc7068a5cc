/* auth_jobs.h - the slow half of auth-svc: what its worker threads do, and the messages to them.
 *
 * The bcrypt pool looks users up and hashes; each of its threads owns a connection and a hasher.
 * The writer pool is one thread that adds what the others have hashed, a batch in one
 * transaction. Messages stay within the process, in the codec of the bus. */
#ifndef AUTH_JOBS_H
#define AUTH_JOBS_H

#include "proto/proto.h"
#include "svc/svc_pool.h"
#include "user_store.h"

#include <stdatomic.h>

#define AUTH_WRITER_BATCH 128 /* users added in one transaction at most */

/* Kinds of jobs. */
typedef enum {
    AUTH_JOB_CHECK, /* bcrypt pool: auth_check_t -> auth_verdict_t */
    AUTH_JOB_HASH, /* bcrypt pool: auth_check_t -> auth_user_t, which is the payload of AUTH_JOB_ADD */
    AUTH_JOB_ADD, /* writer pool: auth_user_t -> register_rep_t */
    AUTH_JOB_LOOK, /* bcrypt pool: nothing -> nothing; RC_UNAVAILABLE: the database is away */
} auth_job;

/* A name and a password. */
typedef struct {
    svc_str username, password; /* as the client sent them */
    svc_str key;                /* of a register */
    uint64_t attempt;           /* comes back with the verdict */
    uint64_t expires_ms;        /* Unix; nobody waits any more after it */
} auth_check_t;

/* Comes back whatever the result, RC_OK or not. */
typedef struct {
    uint64_t user;    /* whose password it is; 0: it is wrong */
    uint64_t attempt; /* of the auth_check_t */
} auth_verdict_t;

/* A user to be added. */
typedef struct {
    svc_str username, hash, key;
} auth_user_t;

extern const proto_schema_t auth_check_schema, auth_verdict_schema, auth_user_schema;

/* What the worker threads share; outlives them. */
typedef struct {
    const user_store_driver_t *driver; /* of the store */
    void *store;                       /* borrowed */
    svc_metrics_t *metrics;            /* borrowed */
    uint32_t cost;                     /* of bcrypt */
    atomic_bool stopping;              /* what still waits need not be done any more */
} auth_shared_t;

/* The pools; `open` wants an auth_shared_t. */
svc_pool_config_t auth_bcrypt_pool(size_t threads, size_t max_queued);
svc_pool_config_t auth_writer_pool(size_t max_queued);

#endif
