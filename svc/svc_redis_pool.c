/* svc_redis_pool.c - the one thread of a service that talks to Redis, behind a bounded queue.
 *
 * A pool of one thread whose state is the connection, an arena and room for one decoded message. Jobs cross encoded,
 * as everything does that leaves a thread; one that does not decode (which none of ours can be) is answered with why. What
 * becomes of a job when Redis is away is for its run() to say: svc_redis.h gives no reply then. */
#include "svc_redis_pool.h"

#include <stdlib.h>

#define LOOK_MS   2000 /* whether Redis answers */
#define KIND_LOOK UINT32_MAX

struct svc_redis_pool {
    svc_redis_pool_config_t config;
    svc_ctx_t *ctx;      /* borrowed */
    svc_pool_t *pool;    /* owned: one thread */
    svc_buf_t out;       /* an encoded job */
    svc_need_t need;     /* Redis; added while look_timer is set */
    uint64_t look_timer; /* 0: nobody asks */
    bool is_looking;     /* a look is on its way */
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

/* While the breaker is open there is no reply, and Redis is left alone. */
static void
answer_look(worker_t *self, svc_job_t *job)
{
    redisReply *reply = svc_redis_command(self->redis, "PING");

    svc_job_done(job, reply == NULL ? RC_UNAVAILABLE : RC_OK, (svc_str){NULL, 0});
    if (reply != NULL)
        freeReplyObject(reply);
}

static void
work(void *state, svc_job_t *const *jobs, size_t n)
{
    worker_t *self = state;
    const svc_redis_pool_config_t *config = &self->owner->config;

    for (size_t i = 0; i < n; i++) {
        svc_rc rc;

        if (svc_job_kind(jobs[i]) == KIND_LOOK) {
            answer_look(self, jobs[i]);
            continue;
        }
        rc = proto_decode(config->schema, svc_job_payload(jobs[i]), self->arena,
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

static void
on_looked(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    svc_redis_pool_t *self = arg;

    (void)tag;
    (void)result;
    self->is_looking = false;
    svc_need_set(&self->need, rc == RC_OK);
}

/* A queue that is full says enough by itself. */
static void
look(void *arg, short events)
{
    svc_redis_pool_t *self = arg;

    (void)events;
    if (!self->is_looking)
        self->is_looking = svc_pool_submit(self->pool, KIND_LOOK, (svc_str){NULL, 0},
                                           on_looked, self, 0) == RC_OK;
}

static void
add_need(svc_redis_pool_t *self)
{
    if (self->ctx->health == NULL)
        return;
    svc_health_add_need(self->ctx->health, &self->need, "redis", true, 0);
    self->look_timer = svc_loop_every(self->ctx->loop, LOOK_MS, look, self);
}

static void
remove_need(svc_redis_pool_t *self)
{
    if (self->look_timer == 0)
        return;
    svc_loop_cancel(self->ctx->loop, self->look_timer);
    svc_health_remove_need(self->ctx->health, &self->need);
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
    else
        add_need(self);
    return self;
}

void
svc_redis_pool_destroy(svc_redis_pool_t **self_p)
{
    svc_redis_pool_t *self;

    if (self_p == NULL || *self_p == NULL)
        return;
    self = *self_p;
    remove_need(self);
    svc_pool_destroy(&self->pool);
    svc_buf_fini(&self->out);
    free(self);
    *self_p = NULL;
}
