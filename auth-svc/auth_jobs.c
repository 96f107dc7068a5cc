/* auth_jobs.c - looking up, hashing, checking and adding, on threads of their own.
 *
 * A job whose caller has stopped waiting is not done: a burst that once filled the queue would
 * keep the threads busy for nobody. Wrong name and wrong password take the same way and the same
 * time. Passwords are wiped from what this module allocates. */
#include "auth_jobs.h"
#include "password.h"

#include "svc/svc_time.h"

#include <sodium.h>
#include <stdlib.h>

// clang-format off
static const proto_field_t check_fields[] = {
    /* key, type, required, min, max, where, sub */
    {"username", PROTO_STR, true,  0, PROTO_USERNAME_MAX_BYTES, offsetof(auth_check_t, username), NULL},
    {"password", PROTO_STR, true,  0, PROTO_PASSWORD_MAX_BYTES, offsetof(auth_check_t, password), NULL},
    {"key",      PROTO_BIN, false, 0, PROTO_KEY_MAX_BYTES,      offsetof(auth_check_t, key), NULL},
    {"attempt",  PROTO_U64, false, 0, UINT64_MAX,               offsetof(auth_check_t, attempt), NULL},
    {"expires",  PROTO_U64, false, 0, UINT64_MAX,               offsetof(auth_check_t, expires_ms), NULL},
};
static const proto_field_t verdict_fields[] = {
    {"user",    PROTO_U64, false, 0, PROTO_ID_MAX, offsetof(auth_verdict_t, user), NULL},
    {"attempt", PROTO_U64, false, 0, UINT64_MAX,   offsetof(auth_verdict_t, attempt), NULL},
};
static const proto_field_t user_fields[] = {
    {"username", PROTO_STR, true, 1, PROTO_USERNAME_MAX_BYTES, offsetof(auth_user_t, username), NULL},
    {"hash",     PROTO_STR, true, 1, USER_HASH_MAX_BYTES,      offsetof(auth_user_t, hash), NULL},
    {"key",      PROTO_BIN, false, 0, PROTO_KEY_MAX_BYTES,     offsetof(auth_user_t, key), NULL},
};
const proto_schema_t auth_check_schema = {"auth_check", check_fields, SVC_COUNT(check_fields), sizeof(auth_check_t)};
const proto_schema_t auth_verdict_schema = {"auth_verdict", verdict_fields, SVC_COUNT(verdict_fields), sizeof(auth_verdict_t)};
const proto_schema_t auth_user_schema = {"auth_user", user_fields, SVC_COUNT(user_fields), sizeof(auth_user_t)};
// clang-format on

/* State of one worker thread. */
typedef struct {
    auth_shared_t *shared; /* borrowed */
    void *connection;      /* owned */
    password_t *hasher;    /* owned; NULL in the writer */
    proto_arena_t *arena;  /* owned */
    svc_buf_t out;         /* a result */
} worker_t;

static void
close_worker(void *state)
{
    worker_t *self = state;

    self->shared->driver->disconnect(self->connection);
    password_destroy(&self->hasher);
    proto_arena_destroy(&self->arena);
    svc_buf_fini(&self->out);
    free(self);
}

static void *
open_worker(void *arg, bool writes, char **error)
{
    worker_t *self = svc_alloc(sizeof(*self));

    self->shared = arg;
    svc_buf_init(&self->out, PROTO_ENVELOPE_MAX_BYTES + PROTO_USERNAME_MAX_BYTES +
                                 USER_HASH_MAX_BYTES + PROTO_KEY_MAX_BYTES);
    self->arena = proto_arena_new();
    self->connection = self->shared->driver->connect(self->shared->store, writes, error);
    if (self->connection != NULL)
        return self;
    close_worker(self);
    return NULL;
}

static void *
open_hasher(void *arg, char **error)
{
    worker_t *self = open_worker(arg, false, error);

    if (self != NULL)
        self->hasher = password_new(self->shared->cost);
    return self;
}

static void *
open_writer(void *arg, char **error)
{
    return open_worker(arg, true, error);
}

/* Answers a job with an encoded struct. */
static void
answer(worker_t *self, svc_job_t *job, svc_rc rc, const proto_schema_t *schema,
       const void *msg)
{
    svc_buf_clear(&self->out);
    if (proto_encode(schema, msg, &self->out) != RC_OK)
        rc = RC_INTERNAL;
    svc_job_done(job, rc, svc_buf_str(&self->out));
}

/* --- the bcrypt pool --------------------------------------------------------------------- */

/* RC_OK with the user, or 0 for a wrong name or password. */
static svc_rc
check(worker_t *self, const auth_check_t *request, uint64_t *user_out)
{
    user_row_t row;
    svc_rc rc = self->shared->driver->find(self->connection, request->username, &row);
    bool matches;

    if (rc != RC_OK && rc != RC_NOT_FOUND)
        return rc;
    matches = password_matches(self->hasher, request->password,
                               rc == RC_OK ? row.hash : NULL);
    *user_out = matches ? row.id : 0;
    return RC_OK;
}

/* Hashes for a new user. A name that is taken is told early, unless by this very request when it came before: that one goes on
 * with the hash that is stored. Who is first, and whose name it is then, is decided by the writer. */
static svc_rc
hash(worker_t *self, const auth_check_t *request, char out[USER_HASH_MAX_BYTES + 1])
{
    user_row_t row;
    svc_rc rc = self->shared->driver->find(self->connection, request->username, &row);

    if (rc == RC_OK && !user_row_has_key(&row, request->key))
        return RC_USERNAME_TAKEN;
    if (rc == RC_OK)
        memcpy(out, row.hash, sizeof(row.hash));
    if (rc != RC_NOT_FOUND)
        return rc;
    rc = password_hash(self->hasher, request->password, out);
    return rc == RC_INVALID ? RC_INVALID_PASSWORD : rc;
}

/* Asks for a user that cannot be: the answer is that the database answers. */
static svc_rc
look(worker_t *self)
{
    user_row_t row;
    svc_rc rc = self->shared->driver->find(self->connection, SVC_LIT(" "), &row);

    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

static void
work_on(worker_t *self, svc_job_t *job)
{
    auth_check_t request = {.attempt = 0};
    auth_verdict_t verdict = {.user = 0};
    char hashed[USER_HASH_MAX_BYTES + 1] = "";
    svc_rc rc;

    if (svc_job_kind(job) == AUTH_JOB_LOOK) {
        svc_job_done(job, look(self), (svc_str){NULL, 0});
        return;
    }
    rc = proto_decode(&auth_check_schema, svc_job_payload(job), self->arena, &request);
    verdict.attempt = request.attempt;
    if (rc == RC_OK &&
        (atomic_load(&self->shared->stopping) || svc_unix_ms() >= request.expires_ms))
        rc = RC_TIMEOUT;
    if (svc_job_kind(job) == AUTH_JOB_CHECK) {
        if (rc == RC_OK)
            rc = check(self, &request, &verdict.user);
        answer(self, job, rc, &auth_verdict_schema, &verdict);
        return;
    }
    if (rc == RC_OK)
        rc = hash(self, &request, hashed);
    if (rc != RC_OK) {
        svc_job_done(job, rc, (svc_str){NULL, 0});
        return;
    }
    answer(self, job, RC_OK, &auth_user_schema,
           &(auth_user_t){.username = request.username,
                          .hash = svc_str_c(hashed),
                          .key = request.key});
    sodium_memzero(hashed, sizeof(hashed));
}

static void
work_bcrypt(void *state, svc_job_t *const *jobs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        work_on(state, jobs[i]);
}

/* --- the writer -------------------------------------------------------------------------- */

/* Decodes jobs into users. Decoded views borrow the jobs' payloads, so one arena serves all. */
static size_t
read_users(worker_t *self, svc_job_t *const *jobs, size_t n, new_user_t *users,
           svc_job_t **owners)
{
    size_t n_users = 0;

    for (size_t i = 0; i < n; i++) {
        auth_user_t user;
        svc_rc rc = proto_decode(&auth_user_schema, svc_job_payload(jobs[i]), self->arena,
                                 &user);

        if (rc != RC_OK) {
            svc_job_done(jobs[i], RC_INTERNAL, (svc_str){NULL, 0});
            continue;
        }
        owners[n_users] = jobs[i];
        users[n_users++] = (new_user_t){.username = user.username,
                                        .hash = user.hash,
                                        .key = user.key,
                                        .created_s = svc_unix_ms() / 1000};
    }
    return n_users;
}

static void
work_writer(void *state, svc_job_t *const *jobs, size_t n)
{
    worker_t *self = state;
    new_user_t users[AUTH_WRITER_BATCH];
    svc_job_t *owners[AUTH_WRITER_BATCH];
    size_t n_users = read_users(self, jobs, n, users, owners);
    const uint64_t began_us = svc_mono_us();

    if (n_users == 0)
        return;
    if (self->shared->driver->add(self->connection, users, n_users) == RC_OK) {
        svc_metrics_observe(self->shared->metrics, SVC_F_COMMIT_US, 0,
                            svc_mono_us() - began_us);
        svc_metrics_observe(self->shared->metrics, SVC_F_COMMIT_CHANGES, 0, n_users);
        svc_metrics_add(self->shared->metrics, SVC_M_COMMITS, 1);
        svc_metrics_add(self->shared->metrics, SVC_M_COMMITTED_JOBS, n_users);
    }
    for (size_t i = 0; i < n_users; i++) {
        if (users[i].rc == RC_OK)
            answer(self, owners[i], RC_OK, &register_rep_schema,
                   &(register_rep_t){users[i].id});
        else
            svc_job_done(owners[i], users[i].rc, (svc_str){NULL, 0});
    }
}

/* --- the pools --------------------------------------------------------------------------- */

svc_pool_config_t
auth_bcrypt_pool(size_t threads, size_t max_queued)
{
    return (svc_pool_config_t){.name = "bcrypt",
                               .threads = threads,
                               .max_queued = max_queued,
                               .max_batch = 1,
                               .open = open_hasher,
                               .work = work_bcrypt,
                               .close = close_worker};
}

svc_pool_config_t
auth_writer_pool(size_t max_queued)
{
    return (svc_pool_config_t){.name = "writer",
                               .threads = 1,
                               .max_queued = max_queued,
                               .max_batch = AUTH_WRITER_BATCH,
                               .open = open_writer,
                               .work = work_writer,
                               .close = close_worker};
}
