/* svc_redis_pool.h - the one thread of a service that talks to Redis, behind a bounded queue.
 *
 * hiredis blocks, so what a loop wants of Redis crosses to a thread that has the connection. A job is a message of one
 * schema; its result comes back as svc_pool.h has it. What does not fit into the queue is refused at once: Redis is only
 * ever something that makes it better. A process that is asked how it is (ctx->health) asks it each 2 s whether it is
 * there, and is told to be "degraded" while it is not.
 *
 * Thread: the loop's, except where it says Redis'. */
#ifndef SVC_SVC_REDIS_POOL_H
#define SVC_SVC_REDIS_POOL_H

#include "svc/svc_pool.h"
#include "svc/svc_redis.h"

typedef struct svc_redis_pool svc_redis_pool_t;

typedef struct {
    const proto_schema_t *schema; /* of the jobs */
    size_t message_max_bytes;     /* of one, encoded */
    uint32_t timeout_ms;          /* of one command: usually SVC_REDIS_TIMEOUT_MS */
    size_t max_queued;            /* jobs that wait; one more is RC_BUSY */

    /* Redis' thread: answers a job by svc_job_done(). `ctx` is for what never changes; `message` is a struct of the
     * schema and dies on return. */
    void (*run)(svc_ctx_t *ctx, svc_redis_t *redis, svc_job_t *job, const void *message);
} svc_redis_pool_config_t;

/* Starts the thread; it connects when the first job comes. Keeps ctx, copies *config. NULL with *error (free() it): one
 * line that says why. */
svc_redis_pool_t *svc_redis_pool_new(svc_ctx_t *ctx,
                                     const svc_redis_pool_config_t *config, char **error);

/* Queues a copy of `message`, a struct of the schema; as svc_pool_submit(). RC_TOO_BIG, RC_INVALID: it does not encode. */
svc_rc svc_redis_pool_submit(svc_redis_pool_t *self, uint32_t kind, const void *message,
                             svc_pool_done_fn *done, void *arg,
                             uint64_t tag) SVC_MUST_CHECK;

/* Lets queued jobs finish (nobody is told any more), ends the thread, sets *self_p to NULL. NULL-safe. */
void svc_redis_pool_destroy(svc_redis_pool_t **self_p);

#endif
