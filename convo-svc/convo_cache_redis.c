/* convo_cache_redis.c - the cache of histories in Redis.
 *
 * Key "llmb:convo:<conversation>", value "<version>\n<body>", with a time to live. hiredis blocks,
 * so it has a thread of its own; connecting and each command may take 50 ms. After a failure
 * the breaker opens: for 1 s, doubling to 10 s, every job is a miss at once and Redis is left
 * alone. The queue is short: what does not fit is a miss, or is not kept. */
#include "convo_cache.h"

#include "svc/svc_pool.h"
#include "svc/svc_time.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_US        50000
#define BREAK_MIN_MS      1000
#define BREAK_MAX_MS      10000
#define QUEUE_MAX         128
#define DEFAULT_PORT      6379
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
    char *host;         /* owned */
    int port;
    svc_pool_t *pool; /* owned: one thread */
    svc_buf_t out;    /* an encoded job */
} cache_redis_t;

/* --- the thread ------------------------------------------------------------------------------- */

typedef struct {
    const cache_redis_t *cache; /* borrowed: what never changes */
    redisContext *redis;        /* owned, NULL while not connected */
    proto_arena_t *arena;       /* owned */
    uint64_t closed_ms;         /* monotonic: the breaker is open until then */
    uint64_t break_ms;          /* how long it opens next time; 0: Redis was fine */
} redis_worker_t;

static void
open_breaker(redis_worker_t *self, const char *why)
{
    svc_ctx_t *ctx = self->cache->ctx;

    svc_metrics_add(ctx->metrics, SVC_M_CACHE_ERRORS, 1);
    if (self->break_ms == 0)
        svc_log_warn(ctx->log, "redis is left alone for a while: %s", why);
    self->break_ms = self->break_ms == 0                 ? BREAK_MIN_MS
                     : self->break_ms * 2 > BREAK_MAX_MS ? BREAK_MAX_MS
                                                         : self->break_ms * 2;
    self->closed_ms = svc_mono_ms() + self->break_ms;
    if (self->redis != NULL)
        redisFree(self->redis);
    self->redis = NULL;
}

/* Takes a reply that must not be an error; NULL: the breaker is open now. */
static redisReply *
judge(redis_worker_t *self, redisReply *reply)
{
    if (reply == NULL) {
        open_breaker(self, self->redis->errstr);
        return NULL;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        open_breaker(self, reply->str);
        freeReplyObject(reply);
        return NULL;
    }
    if (self->break_ms != 0)
        svc_log_info(self->cache->ctx->log, "redis is used again");
    self->break_ms = 0;
    return reply;
}

/* Sends one of the commands that begin a connection. */
static bool
greet(redis_worker_t *self, redisReply *reply)
{
    bool ok = reply != NULL && reply->type != REDIS_REPLY_ERROR;

    if (!ok)
        open_breaker(self, reply == NULL ? self->redis->errstr : reply->str);
    if (reply != NULL)
        freeReplyObject(reply);
    return ok;
}

static bool
connect_redis(redis_worker_t *self)
{
    const svc_config_t *config = self->cache->ctx->config;
    struct timeval timeout = {.tv_usec = TIMEOUT_US};

    if (self->redis != NULL)
        return true;
    if (svc_mono_ms() < self->closed_ms)
        return false;
    self->redis = redisConnectWithTimeout(self->cache->host, self->cache->port, timeout);
    if (self->redis == NULL || self->redis->err != 0 ||
        redisSetTimeout(self->redis, timeout) != REDIS_OK) {
        open_breaker(self, self->redis == NULL ? "no memory" : self->redis->errstr);
        return false;
    }
    if (config->redis_password[0] != '\0' &&
        !greet(self, redisCommand(self->redis, "AUTH %s", config->redis_password)))
        return false;
    return config->redis_db == 0 ||
           greet(self, redisCommand(self->redis, "SELECT %u", config->redis_db));
}

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
    redisReply *reply = judge(
        self, redisCommand(self->redis, "GET llmb:convo:%" PRIu64, arg->conversation));
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
        reply = redisCommand(self->redis, "DEL llmb:convo:%" PRIu64, arg->conversation);
    else
        reply = redisCommand(self->redis,
                             "SETEX llmb:convo:%" PRIu64 " %u %" PRIu64 "\n%b",
                             arg->conversation, config->redis_ttl_s, arg->version,
                             arg->body.p, arg->body.n);
    reply = judge(self, reply);
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
        else if (!connect_redis(self))
            svc_job_done(jobs[i], RC_UNAVAILABLE, (svc_str){NULL, 0});
        else if (svc_job_kind(jobs[i]) == CACHE_GET)
            run_get(self, jobs[i], &arg);
        else
            run_change(self, jobs[i], &arg);
    }
}

static void *
open_worker(void *arg, char **error)
{
    redis_worker_t *self = svc_alloc(sizeof(*self));

    (void)error;
    self->cache = arg;
    self->arena = proto_arena_new();
    return self;
}

static void
close_worker(void *state)
{
    redis_worker_t *self = state;

    if (self->redis != NULL)
        redisFree(self->redis);
    proto_arena_destroy(&self->arena);
    free(self);
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
    free(self->host);
    free(self);
}

static const convo_cache_api_t redis_api = {
    .destroy = destroy,
    .get = get,
    .put = put,
    .forget = forget,
};

/* Reads "host", "host:port" or "[v6]:port". */
static bool
parse_address(cache_redis_t *self, const char *address)
{
    const char *host = address, *end, *colon;
    char *rest = NULL;
    long port = DEFAULT_PORT;

    if (*host == '[') {
        end = strchr(++host, ']');
        colon = end == NULL || end[1] == '\0' ? NULL : end + 1;
    } else {
        colon = strrchr(host, ':');
        end = colon == NULL ? host + strlen(host) : colon;
    }
    if (end == NULL || end == host || (colon != NULL && *colon != ':'))
        return false;
    if (colon != NULL) {
        port = strtol(colon + 1, &rest, 10);
        if (rest == colon + 1 || *rest != '\0' || port < 1 || port > UINT16_MAX)
            return false;
    }
    self->host = svc_str_dup((svc_str){host, (size_t)(end - host)});
    self->port = (int)port;
    return true;
}

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
    if (!parse_address(self, ctx->config->redis_address)) {
        if (asprintf(error, "redis.address: \"%s\" is not host:port",
                     ctx->config->redis_address) < 0)
            *error = NULL;
    } else {
        self->pool = svc_pool_new(ctx, &pool, self, error);
    }
    if (self->pool == NULL) {
        destroy(&self->base);
        return NULL;
    }
    return &self->base;
}
