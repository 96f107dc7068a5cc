/* convo_lease.c - one job at a time for a thread with a connection of its own.
 *
 * A look is a transaction that renews, one that takes over, and one that reads. Nothing is taken
 * over before our own lease has held for as long as a lease lasts: after a database was away all
 * leases have run out, and whoever comes back first must not take everything from those who
 * are only a moment later. What the loop does with a look depends on what it knew when it asked
 * for it: an answer that began meanwhile cannot be missing. */
#include "convo_lease.h"

#include "svc/svc_time.h"

#include <inttypes.h>
#include <stdlib.h>

#define MISSING_MAX \
    256 /* answers that are taken up by one look; the next one takes more */
#define ROWS_MAX    (ANSWERS_MAX * 2) /* told by one look; more are told by the next ones */
#define TAKE_ROUNDS 16                /* of one look: others take their share meanwhile */

#define STEADY_MS 15000 /* nobody waits so long for a question */

enum { LEASE_LOOK, LEASE_DROP };

const convo_lease_times_t convo_lease_usual_times = {
    .lease = 3000, .look = 1000, .hurry = 200};

/* What a look is asked for. */
typedef struct {
    uint64_t take_max; /* answers that we have room for; 0: none are taken */
    bool renew;        /* the lease is still wanted */
} ask_t;

/* One answer on its way to the loop. Its views are empty; the stream stands beside it. */
typedef struct {
    answer_row_t row;
    char stream[PROTO_STREAM_BYTES];
} found_t;

/* A result: this, then the answers taken over, then all that are ours. */
typedef struct {
    size_t n_taken, n_ours;
    bool is_whole; /* all of ours are there */
} look_t;

/* Streams of ours that were not here. */
typedef struct {
    char streams[MISSING_MAX][PROTO_STREAM_BYTES];
    size_t n; /* in use */
} missing_t;

struct convo_lease {
    svc_ctx_t *ctx;                   /* borrowed */
    answers_t *answers;               /* borrowed */
    const convo_workers_t *workers;   /* borrowed */
    const convo_lease_times_t *times; /* borrowed */
    svc_pool_t *pool;                 /* owned: one thread */
    uint64_t timer;                   /* of the looks */
    uint64_t look;                    /* number of the one under way; 0: none */
    uint64_t asked_ms;                /* monotonic: when it was asked for */
    uint64_t held_ms;  /* monotonic: when the last one that has renewed was asked for */
    uint64_t gap_ms;   /* monotonic: when it had run out and was held again; 0: never */
    missing_t missing; /* what the last look has missed */
    bool is_dropped;   /* it was given back, or will be by the next job */
};

/* --- the thread ------------------------------------------------------------------------------- */

typedef struct {
    const convo_workers_t *workers;   /* borrowed */
    const convo_lease_times_t *times; /* borrowed */
    convo_store_t *store;             /* owned, writes */
    uint64_t held_ms; /* monotonic: our lease has held since then; 0: it did not */
    svc_buf_t out;    /* the result of the job at hand */
    look_t look;      /* what it begins with */
    bool is_dropped;
} lease_worker_t;

static svc_rc
add_found(lease_worker_t *self, const answer_row_t *row)
{
    found_t found = {.row = *row};

    memcpy(found.stream, row->stream.p, PROTO_STREAM_BYTES);
    found.row.stream = found.row.finish = found.row.reason = found.row.text =
        found.row.body_hash = found.row.key = found.row.prompt = (svc_str){NULL, 0};
    return svc_buf_add(&self->out, &found, sizeof(found));
}

static svc_rc
take_taken(void *arg, const answer_row_t *row)
{
    lease_worker_t *self = arg;

    self->look.n_taken++;
    return add_found(self, row);
}

static svc_rc
take_ours(void *arg, const answer_row_t *row)
{
    lease_worker_t *self = arg;

    if (self->look.n_ours == ROWS_MAX) {
        self->look.is_whole = false;
        return RC_LATER;
    }
    self->look.n_ours++;
    return add_found(self, row);
}

/* Ends a transaction as its work went. */
static svc_rc
end(lease_worker_t *self, svc_rc rc)
{
    if (rc == RC_OK)
        return self->store->api->commit(self->store);
    self->store->api->rollback(self->store);
    return rc;
}

static svc_rc
renew(lease_worker_t *self)
{
    const convo_store_api_t *api = self->store->api;
    uint64_t now = svc_mono_ms();
    bool lapsed = false;
    svc_rc rc = api->begin(self->store, true);

    if (rc == RC_OK)
        rc = end(self, api->lease_renew(self->store, self->workers->instance,
                                        self->times->lease, &lapsed));
    if (rc == RC_OK && lapsed && self->held_ms != 0) {
        svc_metrics_add(self->workers->metrics, SVC_M_LEASES_LOST, 1);
        svc_log_warn(self->workers->log, "our lease had run out: others may have taken"
                                         " our answers over");
    }
    if (rc != RC_OK)
        self->held_ms = 0;
    else if (lapsed || self->held_ms == 0)
        self->held_ms = now;
    return rc;
}

/* Takes over a statement's worth. What was taken in earlier rounds stays told, whatever becomes of this one. */
static svc_rc
take_some(lease_worker_t *self, size_t max)
{
    const convo_store_api_t *api = self->store->api;
    const size_t told = self->out.n, before = self->look.n_taken;
    svc_rc rc = api->begin(self->store, true);

    if (rc == RC_OK) {
        rc = api->answer_take_over(self->store, self->workers->instance, max, take_taken,
                                   self);
        if (self->look.n_taken > before)
            svc_fault_at(self->workers->fault, FAULT_TAKEOVER_BEFORE_COMMIT);
        rc = end(self, rc);
        if (self->look.n_taken > before)
            svc_fault_at(self->workers->fault, FAULT_TAKEOVER_AFTER_COMMIT);
    }
    if (rc != RC_OK) { /* the next look takes what this one could not */
        self->look.n_taken = before;
        self->out.n = told;
    }
    return rc;
}

/* Whoever watches waits for a new owner: thousands of answers must not come one statement's worth a look. */
static svc_rc
take_over(lease_worker_t *self, size_t max)
{
    const uint64_t began = svc_mono_ms();
    svc_rc rc = RC_OK;
    size_t n = CONVO_LEASE_TAKE_MAX;

    if (began - self->held_ms < self->times->lease)
        return RC_OK;
    /* Not for longer than the lease lasts that was renewed before. */
    for (int i = 0; i < TAKE_ROUNDS && n == CONVO_LEASE_TAKE_MAX && max > 0 &&
                    svc_mono_ms() - began < self->times->lease / 2;
         i++) {
        const size_t before = self->look.n_taken;

        rc = take_some(self, max < CONVO_LEASE_TAKE_MAX ? max : CONVO_LEASE_TAKE_MAX);
        n = self->look.n_taken - before;
        max -= n;
    }
    return self->look.n_taken > 0 ? RC_OK : rc;
}

/* What was taken over is told even if the rest cannot be read: nobody else takes it any more. */
static svc_rc
read_ours(lease_worker_t *self)
{
    const convo_store_api_t *api = self->store->api;
    const size_t told = self->out.n;
    svc_rc rc = api->begin(self->store, false);

    if (rc == RC_OK) {
        rc = api->answer_owned(self->store, self->workers->instance, take_ours, self);
        api->rollback(self->store); /* it only read */
    }
    if (rc == RC_OK || rc == RC_LATER || self->look.n_taken == 0)
        return rc == RC_LATER ? RC_OK : rc;
    self->out.n = told;
    self->look.n_ours = 0;
    self->look.is_whole = false;
    return RC_OK;
}

static svc_rc
look(lease_worker_t *self, const ask_t *ask)
{
    svc_rc rc = RC_OK;

    svc_buf_clear(&self->out);
    self->look = (look_t){.is_whole = true};
    rc = svc_buf_add(&self->out, &self->look, sizeof(self->look));
    if (rc == RC_OK && ask->renew && !self->is_dropped)
        rc = renew(self);
    if (rc == RC_OK && ask->renew && !self->is_dropped)
        rc = take_over(self, (size_t)ask->take_max);
    if (rc == RC_OK)
        rc = read_ours(self);
    if (rc == RC_OK)
        memcpy(self->out.p, &self->look, sizeof(self->look));
    return rc;
}

static svc_rc
drop(lease_worker_t *self)
{
    svc_rc rc = self->store->api->begin(self->store, true);

    self->is_dropped = true;
    if (rc == RC_OK)
        rc = end(self,
                 self->store->api->lease_drop(self->store, self->workers->instance));
    return rc;
}

static void
work(void *state, svc_job_t *const *jobs, size_t n)
{
    lease_worker_t *self = state;

    for (size_t i = 0; i < n; i++) {
        ask_t ask = {.take_max = 0};
        svc_str payload = svc_job_payload(jobs[i]);
        svc_rc rc;

        if (payload.n == sizeof(ask))
            memcpy(&ask, payload.p, sizeof(ask));
        if (svc_job_kind(jobs[i]) == LEASE_DROP)
            svc_job_done(jobs[i], drop(self), (svc_str){NULL, 0});
        else if ((rc = look(self, &ask)) == RC_OK)
            svc_job_done(jobs[i], RC_OK, svc_buf_str(&self->out));
        else
            svc_job_done(jobs[i], rc, (svc_str){NULL, 0});
    }
}

static void
close_worker(void *state)
{
    lease_worker_t *self = state;

    convo_store_destroy(&self->store);
    svc_buf_fini(&self->out);
    free(self);
}

static void *
open_worker(void *arg, char **error)
{
    lease_worker_t *self = svc_alloc(sizeof(*self));
    convo_lease_t *lease =
        arg; /* convo_lease_new waits for us: nobody else's until then */
    convo_place_t place = lease->workers->place;
    svc_rc rc = RC_INTERNAL;

    self->workers = lease->workers; /* neither ever changes */
    self->times = lease->times;
    svc_buf_init(&self->out,
                 sizeof(look_t) +
                     (ROWS_MAX + TAKE_ROUNDS * CONVO_LEASE_TAKE_MAX) * sizeof(found_t));
    place.away_ms = NULL; /* that is the writer's to tell */
    self->store = convo_store_open(&place, STORE_WRITE, self->workers->log, error);
    if (self->store != NULL)
        rc = renew(self);
    while ((rc == RC_UNAVAILABLE || rc == RC_BUSY) &&
           self->store->api->await(self->store, error))
        rc = renew(self);
    lease->held_ms = self->held_ms; /* a server that was waited for took nothing of it */
    if (rc == RC_OK)
        return self;
    if (*error == NULL)
        *error = svc_str_dup(SVC_LIT("cannot take a lease in the database"));
    close_worker(self);
    return NULL;
}

/* --- the loop's thread ------------------------------------------------------------------------ */

static answer_row_t
row_of(const found_t *found)
{
    answer_row_t row = found->row;

    row.stream = (svc_str){found->stream, sizeof(found->stream)};
    return row;
}

static void
take_up(convo_lease_t *self, const answer_row_t *row)
{
    answer_t *answer = answers_add(self->answers, row, false);

    svc_metrics_add(self->ctx->metrics, SVC_M_TAKEOVERS, 1);
    answers_begin(self->answers, answer, (svc_str){NULL, 0}, (svc_str){NULL, 0});
}

static bool
has_missed(const missing_t *before, svc_str stream)
{
    for (size_t i = 0; i < before->n; i++)
        if (memcmp(before->streams[i], stream.p, PROTO_STREAM_BYTES) == 0)
            return true;
    return false;
}

/* One that the database counts as ours. If it is not here, it may have ended, or its question been committed, just now; if it
 * was not here at the look before either, we were never told that it is ours: the word was lost with a connection, or we stood still. */
static void
compare(convo_lease_t *self, const answer_row_t *row, const missing_t *before)
{
    missing_t *missing = &self->missing;

    if (answers_see(self->answers, row, self->look) || self->is_dropped)
        return;
    if (!has_missed(before, row->stream)) {
        if (missing->n < MISSING_MAX)
            memcpy(missing->streams[missing->n++], row->stream.p, PROTO_STREAM_BYTES);
        return;
    }
    svc_log_warn(self->ctx->log,
                 "an answer of conversation %" PRIu64 " is ours, but was not here",
                 row->conversation);
    take_up(self, row);
}

static void
on_look(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_lease_t *self = arg;
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    missing_t before = self->missing;
    look_t look = {.n_taken = 0};
    found_t found;
    answer_row_t row;

    (void)tag;
    if (rc == RC_OK && result.n >= sizeof(look)) {
        memcpy(&look, result.p, sizeof(look));
        /* Also when it was asked for in time, but renewed only now. */
        if (self->held_ms != 0 && now >= self->held_ms + self->times->lease)
            self->gap_ms = now;
        self->held_ms = self->asked_ms;
        self->missing.n = 0;
        SVC_ASSERT(result.n ==
                   sizeof(look) + (look.n_taken + look.n_ours) * sizeof(found));
        if (look.n_taken > 0)
            svc_log_info(self->ctx->log, "%zu answers are taken over", look.n_taken);
        for (size_t i = 0; i < look.n_taken + look.n_ours; i++) {
            memcpy(&found, result.p + sizeof(look) + i * sizeof(found), sizeof(found));
            row = row_of(&found);
            if (i < look.n_taken)
                take_up(self, &row);
            else
                compare(self, &row, &before);
        }
        if (look.is_whole)
            answers_doubt_unseen(self->answers, self->look);
    }
    self->look = 0;
}

static void
on_timer(void *arg, short events)
{
    convo_lease_t *self = arg;
    size_t n = answers_count(self->answers);
    ask_t ask = {.take_max = n >= ANSWERS_MAX ? 0 : ANSWERS_MAX - n,
                 .renew = !self->is_dropped};

    (void)events;
    if (self->look != 0)
        return; /* the last one is still under way */
    self->look = answers_begin_look(self->answers);
    self->asked_ms = svc_loop_now_ms(self->ctx->loop);
    if (svc_pool_submit(self->pool, LEASE_LOOK,
                        (svc_str){(const char *)&ask, sizeof(ask)}, on_look, self,
                        0) != RC_OK)
        self->look = 0;
}

static void
on_dropped(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_lease_t *self = arg;

    (void)tag;
    (void)result;
    if (rc != RC_OK)
        svc_log_warn(self->ctx->log, "the lease was not given back: %s",
                     svc_rc_info(rc)->wire);
}

void
convo_lease_drop(convo_lease_t *self)
{
    if (self->is_dropped)
        return;
    self->is_dropped = true;
    if (svc_pool_submit(self->pool, LEASE_DROP, (svc_str){NULL, 0}, on_dropped, self,
                        0) != RC_OK)
        svc_log_warn(self->ctx->log, "the lease was not given back");
    svc_loop_cancel(self->ctx->loop, self->timer);
    self->timer = svc_loop_every(self->ctx->loop, self->times->hurry, on_timer, self);
}

bool
convo_lease_holds(const convo_lease_t *self)
{
    return !self->is_dropped &&
           svc_loop_now_ms(self->ctx->loop) < self->held_ms + self->times->lease;
}

bool
convo_lease_is_steady(const convo_lease_t *self)
{
    return convo_lease_holds(self) &&
           (self->gap_ms == 0 ||
            svc_loop_now_ms(self->ctx->loop) >= self->gap_ms + STEADY_MS);
}

convo_lease_t *
convo_lease_new(svc_ctx_t *ctx, answers_t *answers, const convo_workers_t *workers,
                const convo_lease_times_t *times, char **error)
{
    static const svc_pool_config_t config = {.name = "lease",
                                             .threads = 1,
                                             .max_queued = 4,
                                             .max_batch = 1,
                                             .open = open_worker,
                                             .work = work,
                                             .close = close_worker};
    convo_lease_t *self = svc_alloc(sizeof(*self));

    self->ctx = ctx;
    self->answers = answers;
    self->workers = workers;
    self->times = times;
    self->pool = svc_pool_new(ctx, &config, self, error);
    if (self->pool == NULL) {
        free(self);
        return NULL;
    }
    self->timer = svc_loop_every(ctx->loop, times->look, on_timer, self);
    return self;
}

void
convo_lease_destroy(convo_lease_t **self_p)
{
    convo_lease_t *self = *self_p;

    if (self == NULL)
        return;
    svc_loop_cancel(self->ctx->loop, self->timer);
    svc_pool_destroy(&self->pool);
    free(self);
    *self_p = NULL;
}
