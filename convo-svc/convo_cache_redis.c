/* convo_cache_redis.c - the cache of histories in Redis.
 *
 * Key "llmb:convo:<conversation>", value "<version>\n<body>", with a time to live. hiredis blocks,
 * so it has a thread of its own; what svc_redis.h says of failures holds: a miss, soon at once. The
 * queue is short: what does not fit is a miss, or is not kept. */
#include "convo_cache.h"

#include "svc/svc_pool.h"
#include "svc/svc_redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define QUEUE_MAX         128
#define VERSION_MAX_BYTES 24 /* decimal digits and the line's end */

enum { CACHE_GET, CACHE_PUT, CACHE_FORGET };

/* What crosses to the thread. */
typedef struct {
    uint64_t conversation, version;
    svc_str body; /* of a put */
} cache_job_t;

// clang-format off
static const proto_field_t cache_job_fields[] = {
    /* key           type       must   min max                        where sub */
    {"conversation", PROTO_U64, true,  0,  UINT64_MAX,                offsetof(cache_job_t, conversation), NULL},
    {"version",      PROTO_U64, true,  0,  UINT64_MAX,                offsetof(cache_job_t, version), NULL},
    {"body",         PROTO_BIN, false, 0,  PROTO_JSON_PAGE_MAX_BYTES, offsetof(cache_job_t, body), NULL},
};
// clang-format on

static const proto_schema_t cache_job_schema = {
    "cache_job", cache_job_fields, SVC_COUNT(cache_job_fields), sizeof(cache_job_t)};

typedef struct {
    convo_cache_t base; /* first: the seam */
    svc_ctx_t *ctx;     /* borrowed; the thread reads config, log and metrics */
    svc_pool_t *pool;   /* owned: one thread */
    svc_buf_t out;      /* an encoded job */
} cache_redis_t;

/* --- the thread ------------------------------------------------------------------------------- */

typedef struct {
    const cache_redis_t *cache; /* borrowed: what never changes */
    svc_redis_t *redis;         /* owned */
    proto_arena_t *arena;       /* owned */
} redis_worker_t;

bool
convo_cache_redis_body(svc_str value, uint64_t version, svc_str *out)
{
    char head[VERSION_MAX_BYTES];
    size_t n = (size_t)snprintf(head, sizeof(head), "%" PRIu64 "\n", version);

    if (value.n < n || value.n - n > PROTO_JSON_PAGE_MAX_BYTES ||
        memcmp(value.p, head, n) != 0)
        return false;
    *out = (svc_str){value.p + n, value.n - n};
    return true;
}

static void
run_get(redis_worker_t *self, svc_job_t *job, const cache_job_t *arg)
{
    redisReply *reply = svc_redis_command(self->redis, "GET llmb:convo:%" PRIu64,
                                          arg->conversation);
    svc_str body = {NULL, 0};

    if (reply == NULL)
        svc_job_done(job, RC_UNAVAILABLE, body);
    else if (reply->type != REDIS_REPLY_STRING ||
             !convo_cache_redis_body((svc_str){reply->str, (size_t)reply->len},
                                     arg->version, &body))
        svc_job_done(job, RC_NOT_FOUND, body);
    else
        svc_job_done(job, RC_OK, body);
    if (reply != NULL)
        freeReplyObject(reply);
}

static void
run_change(redis_worker_t *self, svc_job_t *job, const cache_job_t *arg)
{
    const svc_config_t *config = self->cache->ctx->config;
    redisReply *reply;

    if (svc_job_kind(job) == CACHE_FORGET)
        reply = svc_redis_command(self->redis, "DEL llmb:convo:%" PRIu64,
                                  arg->conversation);
    else
        reply = svc_redis_command(self->redis,
                                  "SETEX llmb:convo:%" PRIu64 " %u %" PRIu64 "\n%b",
                                  arg->conversation, config->redis_ttl_s, arg->version,
                                  arg->body.p, arg->body.n);
    svc_job_done(job, reply == NULL ? RC_UNAVAILABLE : RC_OK, (svc_str){NULL, 0});
    if (reply != NULL)
        freeReplyObject(reply);
}

static void
work(void *state, svc_job_t *const *jobs, size_t n)
{
    redis_worker_t *self = state;

    for (size_t i = 0; i < n; i++) {
        cache_job_t arg;
        svc_rc rc = proto_decode(&cache_job_schema, svc_job_payload(jobs[i]), self->arena,
                                 &arg);

        if (rc != RC_OK)
            svc_job_done(jobs[i], rc, (svc_str){NULL, 0});
        else if (svc_job_kind(jobs[i]) == CACHE_GET)
            run_get(self, jobs[i], &arg);
        else
            run_change(self, jobs[i], &arg);
    }
}

static void
close_worker(void *state)
{
    redis_worker_t *self = state;

    svc_redis_destroy(&self->redis);
    proto_arena_destroy(&self->arena);
    free(self);
}

static void *
open_worker(void *arg, char **error)
{
    redis_worker_t *self = svc_alloc(sizeof(*self));

    self->cache = arg;
    self->arena = proto_arena_new();
    self->redis = svc_redis_new(self->cache->ctx, error);
    if (self->redis != NULL)
        return self;
    close_worker(self);
    return NULL;
}

/* --- the loop's thread ------------------------------------------------------------------------ */

static void
on_got(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    cache_redis_t *self = arg;

    svc_metrics_add(self->base.metrics,
                    rc == RC_OK ? SVC_M_CACHE_HITS : SVC_M_CACHE_MISSES, 1);
    self->base.on_got(self->base.arg, tag, rc == RC_OK, result);
}

static void
on_changed(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    (void)arg;
    (void)tag;
    (void)rc;
    (void)result;
}

static svc_rc
submit(cache_redis_t *self, uint32_t kind, const cache_job_t *job, uint64_t tag)
{
    svc_rc rc;

    svc_buf_clear(&self->out);
    rc = proto_encode(&cache_job_schema, job, &self->out);
    if (rc != RC_OK)
        return rc;
    return svc_pool_submit(self->pool, kind, svc_buf_str(&self->out),
                           kind == CACHE_GET ? on_got : on_changed, self, tag);
}

static void
get(convo_cache_t *base, uint64_t conversation, uint64_t version, uint64_t tag)
{
    cache_redis_t *self = (cache_redis_t *)base;
    cache_job_t job = {.conversation = conversation, .version = version};
    svc_rc rc = submit(self, CACHE_GET, &job, tag);

    if (rc != RC_OK)
        on_got(self, tag, rc, (svc_str){NULL, 0});
}

static void
put(convo_cache_t *base, uint64_t conversation, uint64_t version, svc_str body)
{
    cache_job_t job = {.conversation = conversation, .version = version, .body = body};

    (void)submit((cache_redis_t *)base, CACHE_PUT, &job, 0); /* no room: not kept */
}

static void
forget(convo_cache_t *base, uint64_t conversation)
{
    cache_job_t job = {.conversation = conversation};

    (void)submit((cache_redis_t *)base, CACHE_FORGET, &job,
                 0); /* no room: its time to live ends it */
}

static void
destroy(convo_cache_t *base)
{
    cache_redis_t *self = (cache_redis_t *)base;

    svc_pool_destroy(&self->pool);
    svc_buf_fini(&self->out);
    free(self);
}

static const convo_cache_api_t redis_api = {
    .destroy = destroy,
    .get = get,
    .put = put,
    .forget = forget,
};

convo_cache_t *
convo_cache_redis_new(svc_ctx_t *ctx, convo_cache_fn *got, void *arg, char **error)
{
    static const svc_pool_config_t pool = {
        .name = "redis",
        .threads = 1,
        .max_queued = QUEUE_MAX,
        .max_batch = 1,
        .open = open_worker,
        .work = work,
        .close = close_worker,
    };
    cache_redis_t *self = svc_alloc(sizeof(*self));

    self->base = (convo_cache_t){&redis_api, got, arg, ctx->metrics};
    self->ctx = ctx;
    svc_buf_init(&self->out, PROTO_JSON_PAGE_MAX_BYTES + 256);
    self->pool = svc_pool_new(ctx, &pool, self, error);
    if (self->pool == NULL) {
        destroy(&self->base);
        return NULL;
    }
    return &self->base;
}
