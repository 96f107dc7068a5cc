/* svc_health.h - is this process alive, and can it serve? What its loops and parts note, and what is told of it.
 *
 * Alive: every loop that is watched has turned within the last seconds. Ready: it has started, does not drain, and what
 * it cannot do without is there. Loops and parts note; whoever asks (svc_admin) reads. Worker threads are not watched:
 * they may wait for a database for as long as it takes, and what they miss is a need.
 *
 * svc_beat_t and svc_need_t belong to their owners, who end them before they go. Threads: any, except where said. */
#ifndef SVC_SVC_HEALTH_H
#define SVC_SVC_HEALTH_H

#include "svc/svc_loop.h"

#include <stdatomic.h>

#define SVC_HEALTH_STUCK_MS  10000 /* a loop that has not turned for so long is stuck */
#define SVC_HEALTH_BEAT_MS   1000  /* how often a loop notes that it turns */
#define SVC_HEALTH_MAX_BYTES 8192  /* of what is told: 64 reactors and more fit */

typedef struct svc_health svc_health_t;

/* One loop that is watched. */
typedef struct svc_beat {
    struct svc_beat *next;         /* of the health's list */
    svc_health_t *health;          /* borrowed; NULL: not watched */
    svc_loop_t *loop;              /* borrowed */
    uint64_t timer;                /* on the loop */
    char name[24];                 /* "reactor 1" */
    atomic_uint_least64_t last_ms; /* monotonic: when it turned last */
} svc_beat_t;

/* Something that the process needs: a service, a database. */
typedef struct svc_need {
    struct svc_need *next; /* of the health's list */
    const char *name;      /* "convo-svc": letters, digits, -; outlives it */
    bool is_optional;      /* without it the process serves, but less */
    atomic_uint missing;   /* how many parts of the process miss it */
} svc_need_t;

/* Gives the health of a process: not started, nothing watched, nothing needed. */
svc_health_t *svc_health_new(uint64_t stuck_ms);

/* Frees it and sets *self_p to NULL. All beats and needs have ended. NULL-safe. */
void svc_health_destroy(svc_health_t **self_p);

/* Begins to watch a loop (on its thread, or before it runs) that is called `name` when it is stuck. NULL self: nothing
 * is watched. Keeps beat and loop until svc_health_unwatch. */
void svc_health_watch(svc_health_t *self, svc_beat_t *beat, svc_loop_t *loop,
                      const char *name);

/* Ends it, on the loop's thread or when it runs no more. Harmless when it is not watched. */
void svc_health_unwatch(svc_beat_t *beat);

/* Adds a need that `missing` parts of the process miss so far. NULL self: it only counts. Keeps need. */
void svc_health_add_need(svc_health_t *self, svc_need_t *need, const char *name,
                         bool is_optional, unsigned missing);

/* Forgets it; harmless when it was not added. */
void svc_health_remove_need(svc_health_t *self, svc_need_t *need);

/* One part of the process has it now; has lost it. Each part says so in turns. */
void svc_need_gain(svc_need_t *need);
void svc_need_lose(svc_need_t *need);

/* For a need of one part only: whether it is there. */
void svc_need_set(svc_need_t *need, bool is_there);

/* Does anybody miss it? */
bool svc_need_is_missing(const svc_need_t *need);

/* It serves; it has been told to end. NULL-safe. */
void svc_health_set_started(svc_health_t *self);
void svc_health_set_draining(svc_health_t *self);

/* Calls fn for each need, missing or not. It must neither block nor call anything here. */
void svc_health_each_need(svc_health_t *self,
                          void (*fn)(void *arg, const char *name, bool is_missing),
                          void *arg);

/* Writes {"status":"ok"}, or {"status":"stuck","loops":["reactor 1"]} and gives false. */
bool svc_health_tell_alive(svc_health_t *self, svc_buf_t *out);

/* Writes {"status":"ok"}, with "degraded":["redis"] when something optional is missing; or gives false and writes
 * {"status":"draining"}, {"status":"starting"}, what svc_health_tell_alive does, or
 * {"status":"unavailable","missing":["convo-svc"]}: the first of these that is true. */
bool svc_health_tell_ready(svc_health_t *self, svc_buf_t *out);

#endif
