/* convo_cache_redis.c - the cache of histories in Redis.
 *
 * Key "llmb:convo:<conversation>", value "<version>\n<body>", with a time to live. What
 * svc_redis.h says of failures holds: a miss, soon at once. The queue is short: what does not fit is a miss, or is
 * not kept. */
#include "convo_cache.h"

#include "svc/svc_redis_pool.h"

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
    convo_cache_t base;      /* first: the seam */
    svc_redis_pool_t *redis; /* owned */
} cache_redis_t;

/* --- the thread ------------------------------------------------------------------------------- */

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
run_get(svc_redis_t *redis, svc_job_t *job, const cache_job_t *arg)
{
    redisReply *reply = svc_redis_command(redis, "GET llmb:convo:%" PRIu64,
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
run_change(const svc_config_t *config, svc_redis_t *redis, svc_job_t *job,
           const cache_job_t *arg)
{
    redisReply *reply;

    if (svc_job_kind(job) == CACHE_FORGET)
        reply = svc_redis_command(redis, "DEL llmb:convo:%" PRIu64, arg->conversation);
    else
        reply = svc_redis_command(
            redis, "SETEX llmb:convo:%" PRIu64 " %u %" PRIu64 "\n%b", arg->conversation,
            config->redis_ttl_s, arg->version, arg->body.p, arg->body.n);
    svc_job_done(job, reply == NULL ? RC_UNAVAILABLE : RC_OK, (svc_str){NULL, 0});
    if (reply != NULL)
        freeReplyObject(reply);
}

static void
run(svc_ctx_t *ctx, svc_redis_t *redis, svc_job_t *job, const void *message)
{
    if (svc_job_kind(job) == CACHE_GET)
        run_get(redis, job, message);
    else
        run_change(ctx->config, redis, job, message);
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
    return svc_redis_pool_submit(self->redis, kind, job,
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

    svc_redis_pool_destroy(&self->redis);
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
    static const svc_redis_pool_config_t config = {
        .schema = &cache_job_schema,
        .message_max_bytes = PROTO_JSON_PAGE_MAX_BYTES + 256,
        .timeout_ms = SVC_REDIS_TIMEOUT_MS,
        .max_queued = QUEUE_MAX,
        .run = run,
    };
    cache_redis_t *self = svc_alloc(sizeof(*self));

    self->base = (convo_cache_t){&redis_api, got, arg, ctx->metrics};
    self->redis = svc_redis_pool_new(ctx, &config, error);
    if (self->redis == NULL) {
        destroy(&self->base);
        return NULL;
    }
    return &self->base;
}
