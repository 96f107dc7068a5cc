/* import_redis.h - the Redis of the original backend, read and never changed.
 *
 * Not the one of redis.* in our configuration, which is a cache: this one has the only copy, so an error ends the import instead
 * of being lived with. Values and passwords appear in no message. Thread: the main one.
 * What comes is bounded by the buffer that the caller gives; nothing is kept between two calls. */
#ifndef IMPORT_REDIS_H
#define IMPORT_REDIS_H

#include "proto/base.h"

#define IMPORT_KEY_PREFIX "conversation:"

typedef struct import_redis import_redis_t;

/* Connects to "host:port", "host:port/db" or "[v6]:port/db"; `password` may be NULL. NULL with *error (free() it): one line. */
import_redis_t *import_redis_open(const char *where, const char *password, char **error);

/* Closes it and sets *self_p to NULL. NULL-safe. */
void import_redis_close(import_redis_t **self_p);

/* Hands the value of conversation:<id> to `out`, which is emptied first. RC_NOT_FOUND: there is none; RC_INVALID: it is no string;
 * RC_TOO_BIG: longer than `out` may be; RC_UNAVAILABLE with *error: one line. */
svc_rc import_redis_get(import_redis_t *self, svc_str id, svc_buf_t *out,
                        char **error) SVC_MUST_CHECK;

/* Calls fn with the id of each key conversation:<id>, at least once each. False with *error: one line, or fn has said false. */
bool import_redis_each(import_redis_t *self, bool (*fn)(void *arg, svc_str id), void *arg,
                       char **error);

#endif
