/* svc_redis.c - connection and breaker around hiredis.
 *
 *   fine --failure--> open for 1 s --one try, failure--> open for 2 s, 4 s ... 10 s
 *     ^                    |
 *     +------ a reply -----+
 *
 * A connection that has failed is thrown away: what it would still say belongs to a command that
 * nobody waits for. */
#include "svc_redis.h"

#include "svc_time.h"

#include <stdio.h>
#include <stdlib.h>

#define BREAK_MIN_MS 1000
#define BREAK_MAX_MS 10000
#define DEFAULT_PORT 6379

struct svc_redis {
    svc_ctx_t *ctx; /* borrowed */
    char *host;     /* owned */
    int port;
    uint32_t timeout_ms; /* of connecting and of a command */
    redisContext *redis; /* owned, NULL while not connected */
    uint64_t closed_ms;  /* monotonic: the breaker is open until then */
    uint64_t break_ms;   /* how long it opens next time; 0: Redis was fine */
};

/* --- breaker ------------------------------------------------------------------------------ */

static void
open_breaker(svc_redis_t *self, const char *why)
{
    svc_metrics_add(self->ctx->metrics, SVC_M_CACHE_ERRORS, 1);
    if (self->break_ms == 0)
        svc_log_warn(self->ctx->log, "redis is left alone for a while: %s", why);
    self->break_ms = self->break_ms == 0                 ? BREAK_MIN_MS
                     : self->break_ms * 2 > BREAK_MAX_MS ? BREAK_MAX_MS
                                                         : self->break_ms * 2;
    self->closed_ms = svc_mono_ms() + self->break_ms;
    if (self->redis != NULL)
        redisFree(self->redis);
    self->redis = NULL;
}

void
svc_redis_distrust(svc_redis_t *self, const char *why)
{
    open_breaker(self, why);
}

/* Takes a reply that must not be an error; NULL: the breaker is open now. */
static redisReply *
judge(svc_redis_t *self, redisReply *reply)
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
        svc_log_info(self->ctx->log, "redis is used again");
    self->break_ms = 0;
    return reply;
}

/* --- connection --------------------------------------------------------------------------- */

/* Sends one of the commands that begin a connection. */
static bool
greet(svc_redis_t *self, redisReply *reply)
{
    bool ok = reply != NULL && reply->type != REDIS_REPLY_ERROR;

    if (!ok)
        open_breaker(self, reply == NULL ? self->redis->errstr : reply->str);
    if (reply != NULL)
        freeReplyObject(reply);
    return ok;
}

static bool
connect_redis(svc_redis_t *self)
{
    const svc_config_t *config = self->ctx->config;
    struct timeval timeout = {.tv_sec = self->timeout_ms / 1000,
                              .tv_usec = (self->timeout_ms % 1000) * 1000};

    if (self->redis != NULL)
        return true;
    if (svc_mono_ms() < self->closed_ms)
        return false;
    self->redis = redisConnectWithTimeout(self->host, self->port, timeout);
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

redisReply *
svc_redis_run(svc_redis_t *self, int argc, const char **argv, const size_t *lengths)
{
    if (!connect_redis(self))
        return NULL;
    return judge(self, redisCommandArgv(self->redis, argc, argv, lengths));
}

redisReply *
svc_redis_command(svc_redis_t *self, const char *format, ...)
{
    redisReply *reply;
    va_list args;

    if (!connect_redis(self))
        return NULL;
    va_start(args, format);
    reply = redisvCommand(self->redis, format, args);
    va_end(args);
    return judge(self, reply);
}

/* --- life --------------------------------------------------------------------------------- */

/* Reads "host", "host:port" or "[v6]:port". */
static bool
parse_address(svc_redis_t *self, const char *address)
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

svc_redis_t *
svc_redis_new(svc_ctx_t *ctx, uint32_t timeout_ms, char **error)
{
    svc_redis_t *self = svc_alloc(sizeof(*self));

    self->ctx = ctx;
    self->timeout_ms = ctx->redis_timeout_ms != 0 ? ctx->redis_timeout_ms : timeout_ms;
    if (parse_address(self, ctx->config->redis_address))
        return self;
    if (asprintf(error, "redis.address: \"%s\" is not host:port",
                 ctx->config->redis_address) < 0)
        *error = NULL;
    svc_redis_destroy(&self);
    return NULL;
}

void
svc_redis_destroy(svc_redis_t **self_p)
{
    if (self_p == NULL || *self_p == NULL)
        return;
    if ((*self_p)->redis != NULL)
        redisFree((*self_p)->redis);
    free((*self_p)->host);
    free(*self_p);
    *self_p = NULL;
}
