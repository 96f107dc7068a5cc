/* svc_redis.h - one thread's connection to the Redis that redis.* of the configuration names.
 *
 * For what is only better with Redis: it may be away, slow or emptied. Connecting and each command
 * may take 50 ms (hiredis blocks, so this is never for a loop's thread). After a failure the breaker
 * opens: for 1 s, doubling to 10 s, every command fails at once and Redis is left alone. Its opening
 * and closing are logged once each, without passwords and values.
 *
 * Thread: made and destroyed anywhere, used by one worker. */
#ifndef SVC_SVC_REDIS_H
#define SVC_SVC_REDIS_H

#include "svc/svc_ctx.h"

#include <hiredis/hiredis.h>

#define SVC_REDIS_TIMEOUT_MS 50

typedef struct svc_redis svc_redis_t;

/* Gives a connection that is made when it is first used; that, and each command, takes `timeout_ms` at most (usually
 * SVC_REDIS_TIMEOUT_MS). Borrows ctx (config, log and metrics, from the worker's thread).
 * NULL with *error (free() it): redis.address is none; one line. */
svc_redis_t *svc_redis_new(svc_ctx_t *ctx, uint32_t timeout_ms, char **error);

/* Closes it and sets *self_p to NULL. NULL-safe. */
void svc_redis_destroy(svc_redis_t **self_p);

/* Runs one command, binary-safe: argv as hiredis has it. Gives the reply (freeReplyObject() it), never an error; NULL: Redis is
 * left alone now, as failing at it opens the breaker. */
redisReply *svc_redis_run(svc_redis_t *self, int argc, const char **argv,
                          const size_t *lengths) SVC_MUST_CHECK;

/* The same by a format of redisCommand(): %s, %b, numbers. */
redisReply *svc_redis_command(svc_redis_t *self, const char *format, ...) SVC_MUST_CHECK;

/* A reply that makes no sense counts as a failure, too: somebody else writes our keys. Opens the breaker. */
void svc_redis_distrust(svc_redis_t *self, const char *why);

#endif
