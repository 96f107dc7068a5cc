/* convo_writer.c - the one thread that changes the database: group commit.
 *
 * One handler per kind of job, in a table; they stand in convo_writer_conversations.c and convo_writer_answers.c. Here is
 * what makes one transaction of all that has queued up, and what becomes of those that fail in it: the first try is hasty,
 * without savepoints; a job that is refused half-way has the batch run again, carefully. Thread: the pool's. */
#include "convo_writer_private.h"

#include "svc/svc_time.h"

#include <stdio.h>
#include <stdlib.h>

#define RESULT_MAX_BYTES (8192 + CONVO_READY_PROMPT_MAX_BYTES) /* a row and its prompt */
#define TAKE_MAX         256 /* answers taken over by one statement */
#define BATCH_TRIES      5   /* of a transaction that others are in the way of */

_Static_assert(CONVO_WRITER_BATCH <= CONVO_STEPS_MAX, "a store takes a whole batch's");

/* --- the batch -------------------------------------------------------------------------------- */

typedef struct {
    const proto_schema_t *schema; /* of the payload */
    writer_job_fn *handle;        /* inside a savepoint */
} write_kind_t;

// clang-format off
static const write_kind_t kinds[] = {
    [WRITE_CREATE]  = {&create_req_schema,       writer_create},
    [WRITE_DELETE]  = {&conversation_req_schema, writer_delete},
    [WRITE_ASK]     = {&ask_req_schema,          writer_ask},
    [WRITE_STOP]    = {&watch_req_schema,        writer_stop},
    [WRITE_STEP]    = {&answer_step_schema,      writer_step},
    [WRITE_RESTART] = {&restart_job_schema,      writer_restart},
    [WRITE_RETRY]   = {&retry_req_schema,        writer_retry},
};
// clang-format on

/* --- too late --------------------------------------------------------------------------------- */

static bool
is_over(const svc_job_t *job)
{
    return svc_until_is_over(svc_job_until(job), svc_unix_ms());
}

/* Is it too late for what these jobs have just done (those whose rcs[i] is RC_OK)? A process that stood still at any place between
 * reading a request and here must not do what its caller may have asked another replica for meanwhile, after which more may have
 * happened: the answer stopped, asked anew, deleted. By now each of them holds the lock that the other replica needs for the
 * same (the conversation's row, the entry of the key), so whatever it does comes after our commit and finds this one done,
 * however long the commit still takes: who is in time here is in time. Two clocks are asked, since ours may have stood still, too. */
static svc_rc
look_at_clocks(writer_t *self, svc_job_t *const *jobs, size_t n, const svc_rc *rcs,
               bool *late_out)
{
    const convo_store_api_t *api = self->store->api;
    uint64_t earliest_ms = 0, now_ms = 0; /* moved of any job; of the database */
    bool is_late = false;
    svc_rc rc = RC_OK;

    for (size_t i = 0; i < n; i++) {
        const uint64_t moved_ms = svc_job_until(jobs[i]).moved_ms;

        if (rcs[i] != RC_OK)
            continue;
        if (moved_ms != 0 && (earliest_ms == 0 || moved_ms < earliest_ms))
            earliest_ms = moved_ms;
    }
    if (earliest_ms != 0)
        rc = api->clock(self->store, &now_ms);
    for (size_t i = 0; i < n; i++) /* after the locks were waited for */
        is_late |= rcs[i] == RC_OK && is_over(jobs[i]);
    *late_out = is_late || (earliest_ms != 0 && earliest_ms <= now_ms);
    return rc;
}

/* --- one job ---------------------------------------------------------------------------------- */

/* Ends a job that is inside a savepoint: what was refused, or has come too late, is undone. */
static svc_rc
end_carefully(writer_t *self, svc_job_t *job, svc_rc *rc)
{
    convo_store_t *store = self->store;
    bool is_late = false;
    svc_rc looked = look_at_clocks(self, &job, 1, rc, &is_late);

    if (looked != RC_OK)
        return looked;
    if (*rc == RC_OK && is_late)
        *rc = RC_MOVED;
    return *rc == RC_OK ? store->api->keep(store) : store->api->undo(store);
}

/* Does one job; *rc is its result. `careful`: inside a savepoint, so that what it did can be undone alone. Anything but RC_OK
 * returned: the transaction is lost; RC_LATER: since the job failed half-way, and there is no savepoint to go back to. */
static svc_rc
run_job(writer_t *self, svc_job_t *job, bool careful, svc_rc *rc, svc_buf_t *out)
{
    union {
        create_req_t create;
        conversation_req_t conversation;
        watch_req_t stop;
        ask_req_t ask;
        answer_step_t step;
        restart_job_t restart;
        retry_req_t retry;
    } arg;
    convo_store_t *store = self->store;
    uint32_t kind = svc_job_kind(job);
    uint64_t before = store->api->changes(store);
    svc_rc saved;

    if (kind >= SVC_COUNT(kinds)) {
        *rc = RC_INVALID;
        return RC_OK;
    }
    *rc = is_over(job)
              ? RC_MOVED
              : proto_decode(kinds[kind].schema, svc_job_payload(job), self->arena, &arg);
    if (*rc != RC_OK)
        return RC_OK;
    saved = careful ? store->api->save(store) : RC_OK;
    if (saved != RC_OK)
        return saved;
    *rc = kinds[kind].handle(self, &arg, out);
    if (*rc == RC_UNAVAILABLE || *rc == RC_BUSY)
        return *rc;
    if (careful)
        return end_carefully(self, job, rc);
    return *rc == RC_OK || store->api->changes(store) == before ? RC_OK : RC_LATER;
}

/* Tests only: where a process may die beside the commit of what a job has done. Each of these points stands before its other
 * half; 0 is none of them. */
static void
pass_faults(const writer_t *self, svc_job_t *const *jobs, size_t n, bool is_committed)
{
    for (size_t i = 0; i < n; i++) {
        svc_fault_point point = convo_fault_before(svc_job_kind(jobs[i]),
                                                   svc_job_payload(jobs[i]), self->arena);

        if (self->rc[i] == RC_OK && point != FAULT_POINTS)
            svc_fault_at(self->workers->fault,
                         (svc_fault_point)((int)point + is_committed));
    }
}

/* The steps of a batch, decoded. */
typedef struct {
    answer_step_t step[CONVO_WRITER_BATCH];
    size_t job[CONVO_WRITER_BATCH]; /* of each */
    size_t n;
} steps_t;

static void
read_steps(writer_t *self, svc_job_t *const *jobs, size_t n, steps_t *out)
{
    out->n = 0;
    for (size_t i = 0; i < n; i++) {
        if (svc_job_kind(jobs[i]) != WRITE_STEP)
            continue;
        svc_buf_clear(&self->result[i]);
        self->rc[i] = proto_decode(&answer_step_schema, svc_job_payload(jobs[i]),
                                   self->arena, &out->step[out->n]);
        if (self->rc[i] == RC_OK)
            out->job[out->n++] = i;
    }
}

/* Takes all steps of the batch at once, before its other jobs: none of these can be about what a step has brought, which nobody
 * has heard of yet. */
static svc_rc
run_steps(writer_t *self, const steps_t *steps)
{
    svc_rc rcs[CONVO_WRITER_BATCH];
    svc_rc rc;

    if (steps->n == 0)
        return RC_OK;
    rc = self->store->api->answer_steps(self->store, steps->step, steps->n,
                                        writer_next_version(0), rcs);
    for (size_t i = 0; rc == RC_OK && i < steps->n; i++)
        self->rc[steps->job[i]] = rcs[i];
    return rc;
}

/* Lets the store be hasty: questions that come again are few. */
static svc_rc
hasten(writer_t *self, svc_job_t *const *jobs, size_t n, const steps_t *steps)
{
    uint64_t asked[CONVO_WRITER_BATCH], ended[CONVO_WRITER_BATCH];
    size_t n_asked = 0, n_ended = 0;
    ask_req_t ask;

    for (size_t i = 0; i < n; i++)
        if (svc_job_kind(jobs[i]) == WRITE_ASK &&
            proto_decode(&ask_req_schema, svc_job_payload(jobs[i]), self->arena, &ask) ==
                RC_OK)
            asked[n_asked++] = ask.conversation;
    for (size_t i = 0; i < steps->n; i++)
        if (answer_state_is_terminal(steps->step[i].next_state))
            ended[n_ended++] = steps->step[i].conversation;
    return self->store->api->hasten(self->store, asked, n_asked, ended, n_ended);
}

/* Ends what was done in haste: RC_LATER, it is to be done again, carefully. */
static svc_rc
settle(writer_t *self, svc_job_t *const *jobs, size_t n)
{
    const convo_store_api_t *api = self->store->api;
    bool is_late = false;
    svc_rc rc = look_at_clocks(self, jobs, n, self->rc, &is_late);

    if (rc == RC_OK)
        rc = api->settle(self->store);
    if (rc == RC_OK && is_late)
        rc = RC_LATER;
    return rc == RC_OK || rc == RC_UNAVAILABLE || rc == RC_BUSY ? rc : RC_LATER;
}

/* In which order a batch's jobs are done: creates last, by user (0: not one, or not to be read). Each locks what its user's list is
 * counted by until the commit, and two replicas that locked the same ones in different order would wait in a circle. Nobody has
 * heard of what a create makes, so no other job is about it. */
static void
put_in_order(writer_t *self, svc_job_t *const *jobs, size_t n, size_t *order)
{
    uint64_t users[CONVO_WRITER_BATCH]; /* by place in `order` */
    create_req_t create;

    for (size_t i = 0; i < n; i++) {
        const bool is_create = self->workers->place.driver == SVC_STORAGE_POSTGRESQL &&
                               svc_job_kind(jobs[i]) == WRITE_CREATE &&
                               proto_decode(&create_req_schema, svc_job_payload(jobs[i]),
                                            self->arena, &create) == RC_OK;
        const uint64_t user = is_create ? create.user : 0;
        size_t at = i;

        for (; at > 0 && users[at - 1] > user; at--) {
            users[at] = users[at - 1];
            order[at] = order[at - 1];
        }
        users[at] = user;
        order[at] = i;
    }
}

/* One transaction of all jobs, up to its commit. RC_BUSY: others were in the way, it is to be run again. */
static svc_rc
run_batch(writer_t *self, svc_job_t *const *jobs, size_t n, bool careful)
{
    convo_store_t *store = self->store;
    size_t order[CONVO_WRITER_BATCH];
    steps_t steps = {.n = 0};
    svc_rc rc = store->api->begin(store, true);

    put_in_order(self, jobs, n, order);
    if (!careful)
        read_steps(self, jobs, n, &steps);
    if (rc == RC_OK && !careful)
        rc = hasten(self, jobs, n, &steps);
    if (rc == RC_OK && !careful)
        rc = run_steps(self, &steps);
    for (size_t k = 0; k < n && rc == RC_OK; k++) {
        const size_t i = order[k];

        if (!careful && svc_job_kind(jobs[i]) == WRITE_STEP)
            continue;
        svc_buf_clear(&self->result[i]);
        rc = run_job(self, jobs[i], careful, &self->rc[i], &self->result[i]);
    }
    if (rc == RC_OK && !careful)
        rc = settle(self, jobs, n);
    if (rc == RC_OK && self->workers->fault != NULL)
        pass_faults(self, jobs, n, false);
    if (rc == RC_OK)
        rc = store->api->commit(store);
    else
        store->api->rollback(store);
    if (rc == RC_OK && self->workers->fault != NULL)
        pass_faults(self, jobs, n, true);
    return rc;
}

/* Runs the batch until it is committed, or cannot be. Nearly every job that is refused is refused before it has changed
 * anything: savepoints, for which SQLite copies each page once more, are only for a second try. */
static svc_rc
run_jobs(writer_t *self, svc_job_t *const *jobs, size_t n)
{
    bool careful = self->workers->plain_paths;
    svc_rc rc = RC_BUSY;

    for (int i = 0; i < BATCH_TRIES && (rc == RC_BUSY || rc == RC_LATER); i++) {
        rc = run_batch(self, jobs, n, careful);
        careful = careful || rc == RC_LATER;
    }
    return rc == RC_OK || rc == RC_BUSY ? rc : RC_UNAVAILABLE;
}

/* Does jobs in one transaction and answers them. */
static void
work_together(writer_t *self, svc_job_t *const *jobs, size_t n)
{
    const uint64_t began_us = svc_mono_us();
    svc_rc rc;

    if (n == 0)
        return;
    rc = run_jobs(self, jobs, n);
    if (rc == RC_OK) {
        svc_metrics_observe(self->workers->metrics, SVC_F_COMMIT_US, 0,
                            svc_mono_us() - began_us);
        svc_metrics_observe(self->workers->metrics, SVC_F_COMMIT_CHANGES, 0, n);
        svc_metrics_add(self->workers->metrics, SVC_M_COMMITS, 1);
        svc_metrics_add(self->workers->metrics, SVC_M_COMMITTED_JOBS, n);
    }
    for (size_t i = 0; i < n; i++) {
        if (rc == RC_OK && self->rc[i] == RC_MOVED)
            svc_metrics_add(self->workers->metrics, SVC_M_EXPIRED, 1);
        if (rc != RC_OK)
            svc_job_done(jobs[i], rc, (svc_str){NULL, 0});
        else if (self->rc[i] != RC_OK)
            svc_job_done(jobs[i], self->rc[i], (svc_str){NULL, 0});
        else
            svc_job_done(jobs[i], RC_OK, svc_buf_str(&self->result[i]));
        if (self->result[i].n > 0) /* a prompt has the api key in it */
            explicit_bzero(self->result[i].p, self->result[i].n);
    }
}

/* A stop and a delete lock the rows of an answer that another replica may be writing. With steps in the same transaction, which
 * lock our own answers, two replicas that stop one another's would wait in a circle, again and again (PostgreSQL notices after 1 s). So
 * nobody waits for such a row while he holds others. A file has one writer, and nobody to wait for. */
static bool
goes_alone(const writer_t *self, const svc_job_t *job)
{
    const uint32_t kind = svc_job_kind(job);

    return self->workers->place.driver == SVC_STORAGE_POSTGRESQL &&
           (kind == WRITE_STOP || kind == WRITE_DELETE);
}

void
convo_writer_work(void *state, svc_job_t *const *jobs, size_t n)
{
    writer_t *self = state;
    size_t done = 0;

    SVC_ASSERT(n <= CONVO_WRITER_BATCH);
    for (size_t i = 0; i < n; i++) {
        if (!goes_alone(self, jobs[i]))
            continue;
        work_together(self, jobs + done, i - done);
        work_together(self, jobs + i, 1);
        done = i + 1;
    }
    work_together(self, jobs + done, n - done);
}

void
convo_writer_rest(void *state)
{
    const writer_t *self = state;

    self->store->api->tidy(self->store);
}

static svc_rc
count_row(void *arg, const answer_row_t *row)
{
    (void)row;
    ++*(size_t *)arg;
    return RC_OK;
}

/* Makes the answers that an earlier start left unfinished ours: SQLite serves one process, so whoever owned them is gone. */
static svc_rc
take_over_all(writer_t *self, size_t *taken)
{
    convo_store_t *store = self->store;
    size_t n = TAKE_MAX;
    svc_rc rc = RC_OK;

    while (rc == RC_OK && n == TAKE_MAX) {
        n = 0;
        rc = store->api->answer_take_over(store, self->workers->instance, TAKE_MAX,
                                          count_row, &n);
        svc_metrics_add(self->workers->metrics, SVC_M_TAKEOVERS, n);
        *taken += n;
    }
    if (*taken > 0)
        svc_fault_at(self->workers->fault, FAULT_TAKEOVER_BEFORE_COMMIT);
    return rc;
}

/* The first transaction: are we who the database knows? */
static svc_rc
check_in(writer_t *self)
{
    convo_store_t *store = self->store;
    svc_rc rc = RC_BUSY;

    for (int i = 0; i < BATCH_TRIES && rc == RC_BUSY; i++) {
        size_t taken = 0;

        rc = store->api->begin(store, true);
        if (rc == RC_OK)
            rc = seal_check(self->workers->seal, store);
        if (rc == RC_OK && self->workers->place.driver == SVC_STORAGE_SQLITE)
            rc = take_over_all(self, &taken);
        if (rc == RC_OK)
            rc = store->api->commit(store);
        else
            store->api->rollback(store);
        if (rc == RC_OK && taken > 0)
            svc_fault_at(self->workers->fault, FAULT_TAKEOVER_AFTER_COMMIT);
    }
    return rc;
}

/* Checks in with a database that may come and go meanwhile. Anything but RC_OK: *error may say why. */
static svc_rc
check_in_at_last(writer_t *self, char **error)
{
    svc_rc rc = check_in(self);

    while ((rc == RC_UNAVAILABLE || rc == RC_BUSY) &&
           self->store->api->await(self->store, error))
        rc = check_in(self);
    return rc;
}

void *
convo_writer_open(void *arg, char **error)
{
    writer_t *self = svc_alloc(sizeof(*self));
    svc_rc rc;

    self->workers = arg;
    self->arena = proto_arena_new();
    svc_buf_init(&self->prompt, CONVO_READY_PROMPT_MAX_BYTES);
    for (size_t i = 0; i < CONVO_WRITER_BATCH; i++)
        svc_buf_init(&self->result[i], RESULT_MAX_BYTES);
    self->store = convo_store_open(&self->workers->place,
                                   self->workers->plain_paths ? STORE_WRITE_PLAIN
                                                              : STORE_WRITE,
                                   self->workers->log, error);
    if (self->store == NULL) {
        convo_writer_close(self);
        return NULL;
    }
    rc = check_in_at_last(self, error);
    if (rc != RC_OK) {
        if (*error == NULL &&
            asprintf(error,
                     rc == RC_INVALID
                         ? "convo.seal_key is not the key that %s was sealed with"
                         : "cannot write to the database %s",
                     convo_place_name(&self->workers->place)) < 0)
            *error = NULL;
        convo_writer_close(self);
        return NULL;
    }
    return self;
}

void
convo_writer_close(void *state)
{
    writer_t *self = state;

    convo_store_destroy(&self->store);
    proto_arena_destroy(&self->arena);
    svc_buf_fini(&self->prompt);
    for (size_t i = 0; i < CONVO_WRITER_BATCH; i++)
        svc_buf_fini(&self->result[i]);
    free(self);
}
