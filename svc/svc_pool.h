/* svc_pool.h - worker threads for what would block a loop: hashing, disk, Redis.
 *
 * The owner's loop submits jobs and gets results back as events on its own thread;
 * only copied bytes cross, over inproc ZeroMQ pairs. The queue is bounded and waits on
 * the owner's side, so a full queue refuses (RC_BUSY) and an idle worker gets the next
 * job at once. A worker that may hold several jobs gets what a turn of the loop has
 * brought as one batch: that is group commit. Jobs that can wait a moment
 * (svc_pool_submit_lazy) go with the next ones that cannot.
 *
 * Thread: the loop's, except where an op says the worker's. */
#ifndef SVC_SVC_POOL_H
#define SVC_SVC_POOL_H

#include "proto/proto.h"
#include "svc/svc_ctx.h"
#include "svc/svc_time.h"

#define SVC_POOL_LAZY_MS 15

typedef struct svc_pool svc_pool_t;
typedef struct svc_job svc_job_t;

typedef struct {
    const char *name;  /* of the threads: "bcrypt"; at most 15 bytes */
    size_t threads;    /* at least 1 */
    size_t max_queued; /* jobs that wait; one more is RC_BUSY */
    size_t max_batch;  /* jobs handed to one worker at once (1: strictly one by one) */

    /* Not 0: background threads, max_batch is 1. They run when no other thread wants
     * their core. So that jobs also end while others want all cores, one thread more, of
     * usual priority, does again what has not come back for so long; then the first
     * result counts, and work() must bear being called twice for one job. */
    uint32_t patience_ms;

    /* Worker's thread, at start: gives its state. NULL with *error set: start-up fails. */
    void *(*open)(void *arg, char **error);
    /* Worker's thread: answers each job by svc_job_done. */
    void (*work)(void *state, svc_job_t *const *jobs, size_t n);
    /* Worker's thread: after the results of a batch are on their way: what nobody should wait for. May be NULL. */
    void (*rest)(void *state);
    /* Worker's thread, at the end. */
    void (*close)(void *state);
} svc_pool_config_t;

/* Receives a job's result on the loop's thread. `result` dies on return. */
typedef void svc_pool_done_fn(void *arg, uint64_t tag, svc_rc rc, svc_str result);

/* Starts the threads; returns when all are open. NULL with *error (free() it) when one
 * could not open. Keeps ctx, copies *config; `arg` goes to open. */
svc_pool_t *svc_pool_new(svc_ctx_t *ctx, const svc_pool_config_t *config, void *arg,
                         char **error);

/* Lets running and queued jobs finish (no done functions are called any more), joins
 * the threads, sets *self_p to NULL. NULL-safe. */
void svc_pool_destroy(svc_pool_t **self_p);

/* Queues a job: `kind` and a copy of `payload` reach the worker, (arg, tag) come back
 * with the result. RC_BUSY: the queue is full; RC_TOO_BIG: no memory. */
svc_rc svc_pool_submit(svc_pool_t *self, uint32_t kind, svc_str payload,
                       svc_pool_done_fn *done, void *arg, uint64_t tag) SVC_MUST_CHECK;

/* The same for a job that may wait SVC_POOL_LAZY_MS for company. */
svc_rc svc_pool_submit_lazy(svc_pool_t *self, uint32_t kind, svc_str payload,
                            svc_pool_done_fn *done, void *arg,
                            uint64_t tag) SVC_MUST_CHECK;

/* The same as svc_pool_submit for a job that must not be done late; that is the worker's to see to (svc_job_until). */
svc_rc svc_pool_submit_until(svc_pool_t *self, uint32_t kind, svc_str payload,
                             svc_until_t until, svc_pool_done_fn *done, void *arg,
                             uint64_t tag) SVC_MUST_CHECK;

/* Lazy jobs have waited long enough. */
void svc_pool_hurry(svc_pool_t *self);

/* Jobs that wait or run. */
size_t svc_pool_load(const svc_pool_t *self);

/* Worker's thread: what was submitted. The payload is good until svc_job_done. */
uint32_t svc_job_kind(const svc_job_t *job);
svc_str svc_job_payload(const svc_job_t *job);
svc_until_t svc_job_until(const svc_job_t *job);

/* Worker's thread: answers a job, once. Copies `result`. Sent when work() returns; a
 * job that work() did not answer is RC_INTERNAL. */
void svc_job_done(svc_job_t *job, svc_rc rc, svc_str result);

#endif
