/* convo_cache.h - the seam to the cache of whole histories as ready JSON.
 *
 * A body belongs to one version of a conversation and is given out for exactly that version, which
 * the caller has just read from the database: a cache may be stale, emptied, slow or away,
 * and no answer changes. Existence, owners, 409 and prompts never come from here.
 *
 * Thread: the loop's; what is slow happens on a thread of the cache's own. */
#ifndef CONVO_CACHE_H
#define CONVO_CACHE_H

#include "proto/proto.h"
#include "svc/svc_ctx.h"

typedef struct convo_cache convo_cache_t;

/* Receives what a get found. `body` dies on return; empty when not hit. */
typedef void convo_cache_fn(void *arg, uint64_t tag, bool hit, svc_str body);

typedef struct {
    /* Frees the cache; on_got is not called any more. */
    void (*destroy)(convo_cache_t *self);

    /* Looks for a body; on_got(arg, tag, …) is called once, perhaps before this returns. */
    void (*get)(convo_cache_t *self, uint64_t conversation, uint64_t version,
                uint64_t tag);

    /* Keeps a copy of a body, or does not. */
    void (*put)(convo_cache_t *self, uint64_t conversation, uint64_t version,
                svc_str body);

    /* Drops a conversation. */
    void (*forget)(convo_cache_t *self, uint64_t conversation);
} convo_cache_api_t;

/* A cache of any kind begins with this. */
struct convo_cache {
    const convo_cache_api_t *api; /* never NULL */
    convo_cache_fn *on_got;       /* receives what get found */
    void *arg;                    /* for on_got */
    svc_metrics_t *metrics;       /* hits, misses, errors; may be NULL */
};

/* Frees a cache and sets *self_p to NULL. NULL-safe. */
static inline void
convo_cache_destroy(convo_cache_t **self_p)
{
    if (*self_p != NULL)
        (*self_p)->api->destroy(*self_p);
    *self_p = NULL;
}

/* Gives a cache in memory that holds at most `max_bytes`; what was used longest ago goes first. */
convo_cache_t *convo_cache_memory_new(uint64_t max_bytes, svc_metrics_t *metrics,
                                      convo_cache_fn *on_got, void *arg);

/* Gives a cache in the Redis that redis.* of the configuration names. Never fails for Redis' sake: away is
 * a miss. NULL with *error (free() it): its thread cannot be started, or the address is none. */
convo_cache_t *convo_cache_redis_new(svc_ctx_t *ctx, convo_cache_fn *on_got, void *arg,
                                     char **error);

/* The body inside a value that Redis gave, "<version>\n<body>"; *out is a view of it. False, and *out untouched: it is of another
 * version, too long, or anything else. (Whatever shares that Redis may have written it.) Any thread. */
bool convo_cache_redis_body(svc_str value, uint64_t version, svc_str *out);

#endif
