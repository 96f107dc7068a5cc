/* svc_redis_pool.c - the one thread of a service that talks to Redis, behind a bounded queue.
 *
 * A pool of one thread whose state is the connection, an arena and room for one decoded message. Jobs cross encoded,
 * as everything does that leaves a thread; one that does not decode (which none of ours can be) is answered with why. What
 * becomes of a job when Redis is away is for its run() to say: svc_redis.h gives no reply then. */
#include "svc_redis_pool.h"

#include <stdlib.h>

struct svc_redis_pool {
    svc_redis_pool_config_t config;
    svc_ctx_t *ctx;   /* borrowed */
    svc_pool_t *pool; /* owned: one thread */
    svc_buf_t out;    /* an encoded job */
};

/* --- Redis' thread ------------------------------------------------------------------------ */

typedef struct {
    const svc_redis_pool_t *owner; /* borrowed: what never changes */
    svc_redis_t *redis;            /* owned */
    proto_arena_t *arena;          /* owned */
    void *message;                 /* owned: a struct of the schema */
} worker_t;

static void
close_worker(void *state)
{
    worker_t *self = state;

    svc_redis_destroy(&self->redis);
    proto_arena_destroy(&self->arena);
    free(self->message);
    free(self);
}

static void *
open_worker(void *arg, char **error)
{
    worker_t *self = svc_alloc(sizeof(*self));

    self->owner = arg;
    self->arena = proto_arena_new();
    self->message = svc_alloc(self->owner->config.schema->size);
    self->redis = svc_redis_new(self->owner->ctx, self->owner->config.timeout_ms, error);
    if (self->redis != NULL)
        return self;
    close_worker(self);
    return NULL;
}

static void
work(void *state, svc_job_t *const *jobs, size_t n)
{
    worker_t *self = state;
    const svc_redis_pool_config_t *config = &self->owner->config;

    for (size_t i = 0; i < n; i++) {
        svc_rc rc = proto_decode(config->schema, svc_job_payload(jobs[i]), self->arena,
                                 self->message);

        if (rc == RC_OK)
            config->run(self->owner->ctx, self->redis, jobs[i], self->message);
        else
            svc_job_done(jobs[i], rc, (svc_str){NULL, 0});
    }
}

/* --- the loop's thread -------------------------------------------------------------------- */

svc_rc
svc_redis_pool_submit(svc_redis_pool_t *self, uint32_t kind, const void *message,
                      svc_pool_done_fn *done, void *arg, uint64_t tag)
{
    svc_rc rc;

    svc_buf_clear(&self->out);
    rc = proto_encode(self->config.schema, message, &self->out);
    if (rc != RC_OK)
        return rc;
    return svc_pool_submit(self->pool, kind, svc_buf_str(&self->out), done, arg, tag);
}

svc_redis_pool_t *
svc_redis_pool_new(svc_ctx_t *ctx, const svc_redis_pool_config_t *config, char **error)
{
    const svc_pool_config_t pool = {
        .name = "redis",
        .threads = 1,
        .max_queued = config->max_queued,
        .max_batch = 1,
        .open = open_worker,
        .work = work,
        .close = close_worker,
    };
    svc_redis_pool_t *self = svc_alloc(sizeof(*self));

    self->config = *config;
    self->ctx = ctx;
    svc_buf_init(&self->out, config->message_max_bytes);
    self->pool = svc_pool_new(ctx, &pool, self, error);
    if (self->pool == NULL)
        svc_redis_pool_destroy(&self);
    return self;
}

void
svc_redis_pool_destroy(svc_redis_pool_t **self_p)
{
    svc_redis_pool_t *self;

    if (self_p == NULL || *self_p == NULL)
        return;
    self = *self_p;
    svc_pool_destroy(&self->pool);
    svc_buf_fini(&self->out);
    free(self);
    *self_p = NULL;
}
