/* svc_pool.c - worker threads for what would block a loop: hashing, disk, Redis.
 *
 *     submit -> queue (ring) -> batch to an idle worker -> work() -> results -> done functions
 *                owner          [route, job, job, ...]     worker    [result, ...]   owner
 *
 * The owner holds one ROUTER, each worker a DEALER with its number as route, all over inproc. A
 * job is one frame: a head with its kind, then its payload. A worker's batch is answered by as many frames in
 * the same order: rc, then the result. What the owner needs to know of a job (whom to tell) never
 * leaves its thread: running jobs are remembered per worker, by their place in the batch.
 * The first message of a worker says that it is open (empty) or why not (text). An empty frame
 * sends it home.
 *
 * Background threads are SCHED_IDLE: a nice value was tried and does not keep a hash of 50 ms off a
 * core that a reactor wakes up on. Such a thread may get nothing for seconds, and without privileges
 * it cannot be given back its priority: that is why another one does its job again. */
#include "svc/svc_pool.h"

#include "svc/svc_msg.h"
#include "svc/svc_secret.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define POOL_THREADS_MAX 64
#define POOL_BATCH_MAX   1024
#define POOL_DRAIN_MAX   64 /* batches a turn */
#define POOL_LOOK_MS     50 /* at background jobs: how late one may be found to be late */

/* What a frame begins with; its size keeps payloads aligned. */
typedef struct {
    uint32_t word;     /* kind of a job, rc of a result */
    svc_until_t until; /* of a job */
} head_t;

typedef struct {
    svc_pool_done_fn *done; /* whom to tell */
    void *arg;              /* for done */
    uint64_t tag;           /* for done */
    bool is_lazy;           /* it starts no batch by itself */
    uint64_t began_us;      /* monotonic: when it was submitted */
    zmq_msg_t frame;        /* head and payload; moved out when the job starts */
} entry_t;

typedef struct worker {
    svc_pool_t *pool;    /* borrowed: only what never changes is read by the thread */
    uint32_t route;      /* number + 1: a route must not begin with a zero byte */
    bool is_background;  /* never changes */
    pthread_t thread;    /* joined by svc_pool_destroy */
    entry_t *running;    /* [max_batch], owned; frames are gone, but for is_background */
    size_t n_running;    /* 0: idle */
    uint64_t began_ms;   /* monotonic: when it got them */
    struct worker *twin; /* that does the same job; NULL: none (any more) */
} worker_t;

struct svc_pool {
    svc_ctx_t *ctx;           /* borrowed */
    svc_pool_config_t config; /* name is copied to `name` */
    char name[16];            /* of the threads */
    char endpoint[64];        /* inproc */
    void *open_arg;           /* for config.open */
    void *socket;             /* ROUTER, owned */
    worker_t *workers;        /* [n_workers], owned */
    size_t n_workers;         /* config.threads, and the rescuer */
    size_t n_started;         /* threads to join */
    worker_t *rescuer;        /* of a background pool, the last one; else NULL */
    uint64_t look_timer;      /* while background jobs run; 0: none */
    entry_t *queue;           /* ring [max_queued], owned */
    size_t first, n_queued;   /* of the ring */
    size_t n_urgent;          /* of the queued ones that are not lazy */
    uint64_t lazy_timer;      /* runs while only lazy ones are queued; 0: does not */
    bool is_lazy_due;         /* lazy ones are started, too; until the queue is empty */
    size_t n_running;         /* over all workers */
    entry_t *finished;        /* [max_batch]: a batch whose done functions run */
    zmq_msg_t *results;       /* [max_batch]: its results */
    bool is_handing_out;      /* finished and results are in use */
    uint16_t metric;          /* row in metrics */
    size_t told_queued, told_running; /* as its gauges have it */
};

struct svc_job {
    head_t head;      /* as submitted */
    bool is_done;     /* answered */
    zmq_msg_t frame;  /* head and payload */
    zmq_msg_t result; /* head and result */
};

/* --- the worker's thread ------------------------------------------------------------ */

uint32_t
svc_job_kind(const svc_job_t *job)
{
    return job->head.word;
}

svc_until_t
svc_job_until(const svc_job_t *job)
{
    return job->head.until;
}

/* What stands behind the head of a frame. */
static svc_str
body_of(const zmq_msg_t *msg)
{
    const svc_str frame = svc_msg_str(msg);
    return (svc_str){frame.p + sizeof(head_t), frame.n - sizeof(head_t)};
}

svc_str
svc_job_payload(const svc_job_t *job)
{
    return body_of(&job->frame);
}

/* Makes a frame of head and bytes; false when there is no memory. */
static bool
make_frame(zmq_msg_t *msg, const head_t *head, svc_str bytes)
{
    if (zmq_msg_init_size(msg, sizeof(*head) + bytes.n) != 0)
        return false;
    char *p = zmq_msg_data(msg);
    memcpy(p, head, sizeof(*head));
    if (bytes.n > 0)
        memcpy(p + sizeof(*head), bytes.p, bytes.n);
    return true;
}

static head_t
head_of(const zmq_msg_t *msg)
{
    head_t head;
    memcpy(&head, svc_msg_str(msg).p, sizeof(head));
    return head;
}

void
svc_job_done(svc_job_t *job, svc_rc rc, svc_str result)
{
    SVC_ASSERT(!job->is_done);
    const head_t head = {.word = (uint32_t)rc}, too_big = {.word = RC_TOO_BIG};
    job->is_done = true;
    if (!make_frame(&job->result, &head, result))
        SVC_ASSERT(make_frame(&job->result, &too_big, (svc_str){0}));
}

/* Reads a batch; false when it is the order to go home. */
static bool
receive_batch(void *socket, svc_job_t **jobs, size_t *n_out)
{
    size_t n = 0;
    bool more = true;
    while (more) {
        zmq_msg_t *frame = &jobs[n]->frame;
        zmq_msg_init(frame);
        SVC_ASSERT(svc_msg_recv(socket, frame, 0));
        more = zmq_msg_more(frame) != 0;
        if (zmq_msg_size(frame) == 0) {
            zmq_msg_close(frame);
            return false;
        }
        jobs[n]->head = head_of(frame);
        jobs[n]->is_done = false;
        n++;
    }
    *n_out = n;
    return true;
}

static void
work_on_batch(const svc_pool_t *pool, void *socket, void *state, svc_job_t **jobs,
              size_t n)
{
    pool->config.work(state, jobs, n);
    for (size_t i = 0; i < n; i++) {
        if (!jobs[i]->is_done) /* forgotten by work(): nobody may wait for ever */
            svc_job_done(jobs[i], RC_INTERNAL, (svc_str){0});
        SVC_ASSERT(svc_msg_send(socket, &jobs[i]->result, i + 1 < n ? ZMQ_SNDMORE : 0));
        zmq_msg_close(&jobs[i]->frame);
    }
}

static void
work_until_sent_home(const svc_pool_t *pool, void *socket, void *state)
{
    const size_t max = pool->config.max_batch;
    svc_job_t *room = svc_alloc(max * sizeof(*room));
    svc_job_t **jobs = svc_alloc(max * sizeof(svc_job_t *));
    size_t n;
    for (size_t i = 0; i < max; i++)
        jobs[i] = &room[i];
    while (receive_batch(socket, jobs, &n)) {
        work_on_batch(pool, socket, state, jobs, n);
        if (pool->config.rest != NULL)
            pool->config.rest(state);
    }
    free(jobs);
    free(room);
}

static void *
run_worker(void *arg)
{
    const worker_t *worker = arg;
    const svc_pool_t *pool = worker->pool;
    const uint32_t route = worker->route;
    char *error = NULL;

    pthread_setname_np(pthread_self(), pool->name);
    void *socket = svc_msg_socket(pool->ctx->zmq, ZMQ_DEALER, 0);
    SVC_ASSERT(socket != NULL);
    SVC_ASSERT(zmq_setsockopt(socket, ZMQ_ROUTING_ID, &route, sizeof(route)) == 0);
    SVC_ASSERT(zmq_connect(socket, pool->endpoint) == 0);

    void *state = pool->config.open(pool->open_arg, &error);
    svc_str greeting = {0};
    if (state == NULL)
        greeting = error != NULL && *error != '\0' ? svc_str_c(error)
                                                   : SVC_LIT("cannot start");
    SVC_ASSERT(svc_msg_send_bytes(socket, greeting, 0));
    if (worker->is_background && state != NULL)
        (void)pthread_setschedparam(pthread_self(), SCHED_IDLE,
                                    &(struct sched_param){.sched_priority = 0});
    if (state != NULL) {
        work_until_sent_home(pool, socket, state);
        if (pool->config.close != NULL)
            pool->config.close(state);
    }
    free(error);
    zmq_close(socket);
    return NULL;
}

/* --- metrics ------------------------------------------------------------------------ */

static void
gauge(svc_pool_t *self, svc_family family, size_t was, size_t is)
{
    svc_metrics_count(self->ctx->metrics, family, self->metric, 0,
                      (int64_t)is - (int64_t)was);
}

/* Its load as it is at the end of a turn. */
static void
tell_load(svc_pool_t *self)
{
    if (self->told_queued == self->n_queued && self->told_running == self->n_running)
        return;
    gauge(self, SVC_F_POOL_QUEUED, self->told_queued, self->n_queued);
    gauge(self, SVC_F_POOL_RUNNING, self->told_running, self->n_running);
    self->told_queued = self->n_queued;
    self->told_running = self->n_running;
}

/* Its threads come, or go: all that it has told. */
static void
tell_threads(svc_pool_t *self, bool are_there)
{
    const size_t threads = self->config.threads, places = self->config.max_queued;
    if (are_there)
        self->metric = svc_metrics_label(self->ctx->metrics, SVC_L_POOL, self->name,
                                         NULL);
    gauge(self, SVC_F_POOL_THREADS, are_there ? 0 : threads, are_there ? threads : 0);
    gauge(self, SVC_F_POOL_QUEUE_MAX, are_there ? 0 : places, are_there ? places : 0);
}

/* --- queue -------------------------------------------------------------------------- */

static worker_t *
find_idle(svc_pool_t *self)
{
    for (size_t i = 0; i < self->config.threads; i++)
        if (self->workers[i].n_running == 0)
            return &self->workers[i];
    return NULL;
}

/* Gives jobs to an idle worker, which takes their frames. */
static void
hand_over(svc_pool_t *self, worker_t *worker, entry_t *jobs, size_t n)
{
    const svc_str route = {(const char *)&worker->route, sizeof(worker->route)};
    worker->n_running = n;
    worker->began_ms = svc_loop_now_ms(self->ctx->loop);
    self->n_running += n;
    svc_loop_touched(self->ctx->loop, self->socket);
    SVC_ASSERT(svc_msg_send_bytes(self->socket, route, ZMQ_SNDMORE));
    for (size_t i = 0; i < n; i++)
        SVC_ASSERT(
            svc_msg_send(self->socket, &jobs[i].frame, i + 1 < n ? ZMQ_SNDMORE : 0));
}

static void
copy_frame(zmq_msg_t *out, const zmq_msg_t *frame)
{
    const svc_str bytes = svc_msg_str(frame);
    SVC_ASSERT(zmq_msg_init_size(out, bytes.n) == 0);
    memcpy(zmq_msg_data(out), bytes.p, bytes.n);
}

/* Forgets the copy that is kept of a background job: it may hold a password. */
static void
wipe_copy(worker_t *worker)
{
    zmq_msg_t *frame = &worker->running[0].frame;
    explicit_bzero(zmq_msg_data(frame), zmq_msg_size(frame));
    zmq_msg_close(frame);
}

static void
start_batch(svc_pool_t *self, worker_t *worker)
{
    entry_t *jobs = worker->running;
    const size_t n = self->n_queued < self->config.max_batch ? self->n_queued
                                                             : self->config.max_batch;
    for (size_t i = 0; i < n; i++) {
        jobs[i] = self->queue[self->first];
        self->first = (self->first + 1) % self->config.max_queued;
        self->n_urgent -= jobs[i].is_lazy ? 0 : 1;
    }
    self->n_queued -= n;
    if (worker->is_background) {
        entry_t job = jobs[0];
        copy_frame(&jobs[0].frame, &job.frame);
        hand_over(self, worker, &job, 1);
    } else {
        hand_over(self, worker, jobs, n);
    }
}

/* --- background jobs that are late -------------------------------------------------- */

/* The late one that began first and nobody does again yet; NULL: none. *all_answered_out: each
 * background worker is at a job that the rescuer has answered long since. */
static worker_t *
find_late(const svc_pool_t *self, bool *all_answered_out)
{
    const uint64_t now = svc_loop_now_ms(self->ctx->loop);
    worker_t *found = NULL;
    *all_answered_out = true;
    for (size_t i = 0; i < self->config.threads; i++) {
        worker_t *worker = &self->workers[i];
        if (worker->n_running > 0 && worker->running[0].done == NULL)
            continue;
        *all_answered_out = false;
        if (worker->n_running > 0 && worker->twin == NULL &&
            now - worker->began_ms >= self->config.patience_ms &&
            (found == NULL || worker->began_ms < found->began_ms))
            found = worker;
    }
    return found;
}

/* Gives the rescuer, if there is one with nothing to do, the job that needs it most. */
static void
rescue(svc_pool_t *self)
{
    worker_t *rescuer = self->rescuer;
    bool all_answered;
    if (rescuer == NULL || rescuer->n_running > 0)
        return;
    worker_t *late = find_late(self, &all_answered);
    if (late != NULL) {
        entry_t job = late->running[0];
        copy_frame(&job.frame, &late->running[0].frame);
        rescuer->running[0] = job;
        rescuer->twin = late;
        late->twin = rescuer;
        hand_over(self, rescuer, &job, 1);
    } else if (all_answered && self->n_queued > 0) {
        start_batch(self, rescuer);
    }
}

/* A worker has answered: what its twin will say does not count any more. */
static void
leave_twin(worker_t *worker)
{
    worker_t *twin = worker->twin;
    worker->twin = NULL;
    if (twin == NULL)
        return;
    twin->twin = NULL;
    twin->running[0].done = NULL;
}

static void
look_for_late_jobs(void *arg, short events)
{
    (void)events;
    svc_pool_t *self = arg;
    if (self->n_running > 0) {
        rescue(self);
        return;
    }
    svc_loop_cancel(self->ctx->loop, self->look_timer);
    self->look_timer = 0;
}

/* Lazy jobs wait for one that is not, for their time, or for enough of them. */
static bool
wants_start(const svc_pool_t *self)
{
    return self->n_urgent > 0 || self->n_queued >= self->config.max_batch ||
           (self->is_lazy_due && self->n_queued > 0);
}

static void
start_what_can_start(svc_pool_t *self)
{
    worker_t *worker;
    while (wants_start(self) && (worker = find_idle(self)) != NULL)
        start_batch(self, worker);
    if (self->n_queued == 0)
        self->is_lazy_due = false;
    rescue(self);
    tell_load(self);
    if (self->rescuer != NULL && self->n_running > 0 && self->look_timer == 0)
        self->look_timer = svc_loop_every(self->ctx->loop, POOL_LOOK_MS,
                                          look_for_late_jobs, self);
}

/* The turn is over: what it has brought goes as one batch. */
static int
on_turn(void *arg)
{
    start_what_can_start(arg);
    return -1;
}

static void
on_lazy_due(void *arg, short events)
{
    (void)events;
    svc_pool_t *self = arg;
    self->lazy_timer = 0;
    self->is_lazy_due = true;
}

static svc_rc
queue(svc_pool_t *self, const head_t *head, svc_str payload, entry_t *job)
{
    if (self->n_queued == self->config.max_queued) {
        svc_metrics_count(self->ctx->metrics, SVC_F_POOL_REFUSED, self->metric, 0, 1);
        return RC_BUSY;
    }
    if (!make_frame(&job->frame, head, payload))
        return RC_TOO_BIG;
    job->began_us = svc_mono_us();
    self->queue[(self->first + self->n_queued) % self->config.max_queued] = *job;
    svc_metrics_count(self->ctx->metrics, SVC_F_POOL_JOBS, self->metric, 0, 1);
    self->n_queued++;
    self->n_urgent += job->is_lazy ? 0 : 1;
    if (self->n_queued >= self->config.max_batch)
        start_what_can_start(self);
    return RC_OK;
}

svc_rc
svc_pool_submit(svc_pool_t *self, uint32_t kind, svc_str payload, svc_pool_done_fn *done,
                void *arg, uint64_t tag)
{
    return svc_pool_submit_until(self, kind, payload, (svc_until_t){0}, done, arg, tag);
}

svc_rc
svc_pool_submit_until(svc_pool_t *self, uint32_t kind, svc_str payload, svc_until_t until,
                      svc_pool_done_fn *done, void *arg, uint64_t tag)
{
    const head_t head = {.word = kind, .until = until};
    entry_t job = {.done = done, .arg = arg, .tag = tag};
    return queue(self, &head, payload, &job);
}

svc_rc
svc_pool_submit_lazy(svc_pool_t *self, uint32_t kind, svc_str payload,
                     svc_pool_done_fn *done, void *arg, uint64_t tag)
{
    const head_t head = {.word = kind};
    entry_t job = {.done = done, .arg = arg, .tag = tag, .is_lazy = true};
    const svc_rc rc = queue(self, &head, payload, &job);
    if (rc == RC_OK && self->lazy_timer == 0 && self->n_queued > 0 && !self->is_lazy_due)
        self->lazy_timer = svc_loop_after(self->ctx->loop, SVC_POOL_LAZY_MS, on_lazy_due,
                                          self);
    return rc;
}

void
svc_pool_hurry(svc_pool_t *self)
{
    self->is_lazy_due = self->n_queued > 0;
}

size_t
svc_pool_load(const svc_pool_t *self)
{
    return self->n_queued + self->n_running;
}

/* --- results ------------------------------------------------------------------------ */

/* Reads the results of one batch into `finished` and `results`; gives how many, 0 when
 * there are none. */
static size_t
receive_results(svc_pool_t *self, int flags)
{
    zmq_msg_t route;
    uint32_t number = 0;
    zmq_msg_init(&route);
    if (!svc_msg_recv(self->socket, &route, flags)) {
        zmq_msg_close(&route);
        return 0;
    }
    memcpy(&number, zmq_msg_data(&route), sizeof(number));
    zmq_msg_close(&route);
    worker_t *worker = &self->workers[number - 1];
    const size_t n = worker->n_running;
    leave_twin(worker);
    if (worker->is_background)
        wipe_copy(worker);
    for (size_t i = 0; i < n; i++) {
        self->finished[i] = worker->running[i];
        zmq_msg_init(&self->results[i]);
        SVC_ASSERT(svc_msg_recv(self->socket, &self->results[i], 0));
    }
    self->n_running -= n;
    worker->n_running = 0;
    return n;
}

static void
on_readable(void *arg, short events)
{
    (void)events;
    svc_pool_t *self = arg;
    SVC_ASSERT(!self->is_handing_out);
    for (int batch = 0; batch < POOL_DRAIN_MAX; batch++) {
        const size_t n = receive_results(self, ZMQ_DONTWAIT);
        if (n == 0) {
            svc_loop_read_dry(self->ctx->loop, self->socket);
            break;
        }
        start_what_can_start(self); /* the worker goes on while results are handed out */
        self->is_handing_out = true;
        const uint64_t now_us = svc_mono_us();
        for (size_t i = 0; i < n; i++) {
            const entry_t *entry = &self->finished[i];
            const zmq_msg_t *result = &self->results[i];
            if (entry->done != NULL) { /* else its twin was faster */
                svc_metrics_observe(self->ctx->metrics, SVC_F_POOL_US, self->metric,
                                    now_us - entry->began_us);
                entry->done(entry->arg, entry->tag, (svc_rc)head_of(result).word,
                            body_of(result));
            }
            zmq_msg_close(&self->results[i]);
        }
        self->is_handing_out = false;
    }
}

/* --- life --------------------------------------------------------------------------- */

/* Waits for the first message of each worker. NULL, or the first error (free() it). */
static char *
await_greetings(svc_pool_t *self)
{
    char *error = NULL;
    for (size_t i = 0; i < self->n_started; i++) {
        zmq_msg_t route, greeting;
        zmq_msg_init(&route);
        zmq_msg_init(&greeting);
        SVC_ASSERT(svc_msg_recv(self->socket, &route, 0));
        SVC_ASSERT(svc_msg_recv(self->socket, &greeting, 0));
        if (zmq_msg_size(&greeting) > 0 && error == NULL)
            error = svc_str_dup(svc_msg_str(&greeting));
        zmq_msg_close(&greeting);
        zmq_msg_close(&route);
    }
    return error;
}

/* Signals are for the main thread: new threads inherit a full mask. */
static bool
start_threads(svc_pool_t *self)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (size_t i = 0; i < self->n_workers; i++) {
        worker_t *worker = &self->workers[i];
        worker->pool = self;
        worker->route = (uint32_t)i + 1;
        worker->is_background = self->rescuer != NULL && worker != self->rescuer;
        worker->running = svc_alloc(self->config.max_batch * sizeof(*worker->running));
        if (pthread_create(&worker->thread, NULL, run_worker, worker) != 0)
            break;
        self->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return self->n_started == self->n_workers;
}

static svc_pool_t *
make_pool(svc_ctx_t *ctx, const svc_pool_config_t *config, void *arg)
{
    SVC_ASSERT(config->threads >= 1 && config->threads <= POOL_THREADS_MAX);
    SVC_ASSERT(config->max_batch >= 1 && config->max_batch <= POOL_BATCH_MAX);
    SVC_ASSERT(config->max_queued >= 1);
    SVC_ASSERT(config->patience_ms == 0 || config->max_batch == 1);
    svc_pool_t *self = svc_alloc(sizeof(*self));
    const int yes = 1;
    self->ctx = ctx;
    self->config = *config;
    self->open_arg = arg;
    snprintf(self->name, sizeof(self->name), "%s", config->name);
    self->config.name = self->name;
    /* Not the address: an earlier pool may have had it, and ZeroMQ frees names a little later. */
    snprintf(self->endpoint, sizeof(self->endpoint), "inproc://pool-%016" PRIx64,
             svc_random_u64());
    self->n_workers = config->threads + (config->patience_ms > 0 ? 1 : 0);
    self->workers = svc_alloc(self->n_workers * sizeof(*self->workers));
    if (config->patience_ms > 0)
        self->rescuer = &self->workers[config->threads];
    self->queue = svc_alloc(config->max_queued * sizeof(*self->queue));
    self->finished = svc_alloc(config->max_batch * sizeof(*self->finished));
    self->results = svc_alloc(config->max_batch * sizeof(*self->results));
    self->socket = svc_msg_socket(ctx->zmq, ZMQ_ROUTER, 0);
    SVC_ASSERT(self->socket != NULL);
    SVC_ASSERT(zmq_setsockopt(self->socket, ZMQ_ROUTER_MANDATORY, &yes, sizeof(yes)) ==
               0);
    SVC_ASSERT(zmq_bind(self->socket, self->endpoint) == 0);
    return self;
}

/* Sends home those who are there (a worker that could not open has left by itself) and
 * joins all. */
static void
close_pool(svc_pool_t *self)
{
    for (size_t i = 0; i < self->n_started; i++) {
        const svc_str route = {(const char *)&self->workers[i].route, sizeof(uint32_t)};
        if (svc_msg_send_bytes(self->socket, route, ZMQ_SNDMORE))
            SVC_ASSERT(svc_msg_send_bytes(self->socket, (svc_str){0}, 0));
    }
    for (size_t i = 0; i < self->n_started; i++)
        pthread_join(self->workers[i].thread, NULL);
    zmq_close(self->socket);
    for (size_t i = 0; i < self->n_workers; i++)
        free(self->workers[i].running);
    free(self->workers);
    free(self->queue);
    free(self->finished);
    free(self->results);
    free(self);
}

svc_pool_t *
svc_pool_new(svc_ctx_t *ctx, const svc_pool_config_t *config, void *arg, char **error)
{
    svc_pool_t *self = make_pool(ctx, config, arg);
    const bool is_complete = start_threads(self);
    char *why = await_greetings(self);
    if (why == NULL && !is_complete)
        why = svc_str_dup(SVC_LIT("cannot start a thread"));
    if (why != NULL) {
        *error = why;
        close_pool(self);
        return NULL;
    }
    svc_loop_add_socket(ctx->loop, self->socket, on_readable, self);
    svc_loop_on_turn(ctx->loop, on_turn, self);
    tell_threads(self, true);
    return self;
}

void
svc_pool_destroy(svc_pool_t **self_p)
{
    svc_pool_t *self = *self_p;
    if (self == NULL)
        return;
    SVC_ASSERT(!self->is_handing_out);
    svc_loop_remove_socket(self->ctx->loop, self->socket);
    svc_loop_off_turn(self->ctx->loop, self);
    svc_loop_cancel(self->ctx->loop, self->lazy_timer);
    svc_pool_hurry(self);
    /* Hurry, all of you. It may not be ours to say: then they end when they can. */
    for (size_t i = 0; i < self->n_started && self->rescuer != NULL; i++)
        (void)pthread_setschedparam(self->workers[i].thread, SCHED_OTHER,
                                    &(struct sched_param){.sched_priority = 0});
    start_what_can_start(self);
    while (self->n_running > 0) {
        const size_t n = receive_results(self, 0);
        for (size_t i = 0; i < n; i++)
            zmq_msg_close(&self->results[i]);
        start_what_can_start(self);
    }
    svc_loop_cancel(self->ctx->loop, self->look_timer);
    tell_load(self);
    tell_threads(self, false);
    close_pool(self);
    *self_p = NULL;
}
