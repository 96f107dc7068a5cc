/* throttle_shared.h - failures counted by all replicas together, in Redis.
 *
 * How an attempt ended is told to Redis, which counts it and says what follows: the same rules as
 * throttle.h, under one lock for all replicas. What it says is taken over into the local table, so that
 * the next attempt is judged here. Asked once an attempt, after the password was looked at.
 *
 * Redis may be away, slow or emptied: after 50 ms, or at once while svc_redis.h leaves it alone, there is no
 * verdict and the local table judges; a Redis that knows nothing of a pair goes on from what the caller
 * knows. The queue is bounded: what does not fit has no verdict. Thread: the front thread. */
#ifndef AUTH_THROTTLE_SHARED_H
#define AUTH_THROTTLE_SHARED_H

#include "throttle.h"

#include "svc/svc_ctx.h"

#define THROTTLE_SHARED_PATIENCE_MS 50

typedef struct throttle_shared throttle_shared_t;

/* One attempt that has ended. */
typedef struct {
    uint64_t key;  /* of throttle_begin; the same in every replica with the same secret */
    uint64_t user; /* whose password it was; 0: it was wrong */
    uint64_t call; /* for the owner */
} throttle_attempt_t;

/* What Redis says. NONE: nothing, the local table judges. */
typedef enum {
    THROTTLE_SHARED_NONE,
    THROTTLE_SHARED_COUNTED,
    THROTTLE_SHARED_THROTTLED,
    THROTTLE_SHARED_VERDICTS
} throttle_shared_verdict;

/* Receives it. `state` is what all replicas know of the pair now; it dies on return. */
typedef void throttle_shared_fn(void *arg, const throttle_attempt_t *attempt,
                                throttle_shared_verdict verdict,
                                const throttle_state_t *state);

/* Starts the thread that talks to the Redis of redis.*; a verdict that takes longer than `patience_ms` (usually
 * THROTTLE_SHARED_PATIENCE_MS) is NONE. Keeps ctx. NULL with *error (free() it): one line. */
throttle_shared_t *throttle_shared_new(svc_ctx_t *ctx, uint32_t patience_ms,
                                       throttle_shared_fn *fn, void *arg, char **error);

/* Has Redis judge by other numbers from now on, as throttle_set. */
void throttle_shared_set(throttle_shared_t *self, uint32_t limit, uint32_t window_s);

/* Ends the thread; no verdicts are told any more. Sets *self_p to NULL. NULL-safe. */
void throttle_shared_destroy(throttle_shared_t **self_p);

/* Tells how an attempt ended, and what is known of its pair here. The verdict comes once, perhaps before this returns. */
void throttle_shared_end(throttle_shared_t *self, const throttle_attempt_t *attempt,
                         const throttle_state_t *known);

#endif
