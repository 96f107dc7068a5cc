/* svc_health.c - beats and needs in two lists, and the sentences that are made of them.
 *
 * A loop notes the time once a second, by a timer of its own: that costs it nothing while it works and keeps an idle one
 * turning, and a handler that does not return keeps it from being called. The mutex is for the lists, which change when
 * the process starts and ends; what is noted all the time is atomic. */
#include "svc/svc_health.h"

#include "svc/svc_time.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct svc_health {
    uint64_t stuck_ms;     /* a loop that has not turned for so long is stuck */
    atomic_bool started;   /* it serves */
    atomic_bool draining;  /* it was told to end */
    pthread_mutex_t mutex; /* of the lists */
    svc_beat_t *beats;     /* borrowed, in the order in which they came */
    svc_need_t *needs;     /* likewise */
};

svc_health_t *
svc_health_new(uint64_t stuck_ms)
{
    svc_health_t *self = svc_alloc(sizeof(*self));

    self->stuck_ms = stuck_ms;
    atomic_init(&self->started, false);
    atomic_init(&self->draining, false);
    SVC_ASSERT(pthread_mutex_init(&self->mutex, NULL) == 0);
    return self;
}

void
svc_health_destroy(svc_health_t **self_p)
{
    svc_health_t *self = *self_p;

    if (self == NULL)
        return;
    SVC_ASSERT(self->beats == NULL && self->needs == NULL);
    pthread_mutex_destroy(&self->mutex);
    free(self);
    *self_p = NULL;
}

static void
lock(svc_health_t *self)
{
    SVC_ASSERT(pthread_mutex_lock(&self->mutex) == 0);
}

static void
unlock(svc_health_t *self)
{
    SVC_ASSERT(pthread_mutex_unlock(&self->mutex) == 0);
}

/* --- loops -------------------------------------------------------------------------- */

static void
on_beat(void *arg, short events)
{
    svc_beat_t *beat = arg;

    (void)events;
    atomic_store(&beat->last_ms, svc_mono_ms());
}

void
svc_health_watch(svc_health_t *self, svc_beat_t *beat, svc_loop_t *loop, const char *name)
{
    svc_beat_t **end;

    if (self == NULL)
        return;
    beat->next = NULL;
    beat->health = self;
    beat->loop = loop;
    (void)snprintf(beat->name, sizeof(beat->name), "%s", name);
    atomic_init(&beat->last_ms, svc_mono_ms());
    beat->timer = svc_loop_every(loop, SVC_HEALTH_BEAT_MS, on_beat, beat);
    lock(self);
    for (end = &self->beats; *end != NULL;)
        end = &(*end)->next;
    *end = beat;
    unlock(self);
}

void
svc_health_unwatch(svc_beat_t *beat)
{
    svc_health_t *self = beat->health;
    svc_beat_t **at;

    if (self == NULL)
        return;
    svc_loop_cancel(beat->loop, beat->timer);
    lock(self);
    for (at = &self->beats; *at != beat;)
        at = &(*at)->next;
    *at = beat->next;
    unlock(self);
    beat->health = NULL;
}

/* --- needs -------------------------------------------------------------------------- */

void
svc_health_add_need(svc_health_t *self, svc_need_t *need, const char *name,
                    bool is_optional, unsigned missing)
{
    svc_need_t **end;

    need->next = NULL;
    need->name = name;
    need->is_optional = is_optional;
    atomic_init(&need->missing, missing);
    if (self == NULL)
        return;
    lock(self);
    for (end = &self->needs; *end != NULL;)
        end = &(*end)->next;
    *end = need;
    unlock(self);
}

void
svc_health_remove_need(svc_health_t *self, svc_need_t *need)
{
    svc_need_t **at;

    if (self == NULL)
        return;
    lock(self);
    for (at = &self->needs; *at != NULL && *at != need;)
        at = &(*at)->next;
    if (*at != NULL)
        *at = need->next;
    unlock(self);
}

void
svc_need_gain(svc_need_t *need)
{
    atomic_fetch_sub(&need->missing, 1);
}

void
svc_need_lose(svc_need_t *need)
{
    atomic_fetch_add(&need->missing, 1);
}

void
svc_need_set(svc_need_t *need, bool is_there)
{
    atomic_store(&need->missing, is_there ? 0 : 1);
}

bool
svc_need_is_missing(const svc_need_t *need)
{
    return atomic_load(&need->missing) != 0;
}

/* --- what is told ------------------------------------------------------------------- */

void
svc_health_set_started(svc_health_t *self)
{
    if (self != NULL)
        atomic_store(&self->started, true);
}

void
svc_health_set_draining(svc_health_t *self)
{
    if (self != NULL)
        atomic_store(&self->draining, true);
}

/* All names are our own, and all of them fit: SVC_HEALTH_MAX_BYTES. */
static void
add_text(svc_buf_t *out, const char *text)
{
    SVC_ASSERT(svc_buf_add_str(out, svc_str_c(text)) == RC_OK);
}

/* Appends a name to a list that opens with `head`; *n counts them. */
static void
add_name(svc_buf_t *out, size_t *n, const char *head, const char *name)
{
    add_text(out, (*n)++ == 0 ? head : ",");
    add_text(out, "\"");
    add_text(out, name);
    add_text(out, "\"");
}

/* Writes the loops that are stuck; gives how many. */
static size_t
tell_stuck(svc_health_t *self, svc_buf_t *out)
{
    const uint64_t now = svc_mono_ms();
    size_t n = 0;

    lock(self);
    for (const svc_beat_t *beat = self->beats; beat != NULL; beat = beat->next) {
        const uint64_t last = atomic_load(&beat->last_ms);

        if (now > last && now - last > self->stuck_ms)
            add_name(out, &n, "{\"status\":\"stuck\",\"loops\":[", beat->name);
    }
    unlock(self);
    if (n > 0)
        add_text(out, "]}");
    return n;
}

/* Writes the needs of one kind that are missing, without an end; gives how many. */
static size_t
tell_missing(svc_health_t *self, bool is_optional, const char *head, svc_buf_t *out)
{
    size_t n = 0;

    lock(self);
    for (const svc_need_t *need = self->needs; need != NULL; need = need->next)
        if (need->is_optional == is_optional && svc_need_is_missing(need))
            add_name(out, &n, head, need->name);
    unlock(self);
    return n;
}

void
svc_health_each_need(svc_health_t *self,
                     void (*fn)(void *arg, const char *name, bool is_missing), void *arg)
{
    lock(self);
    for (const svc_need_t *need = self->needs; need != NULL; need = need->next)
        fn(arg, need->name, svc_need_is_missing(need));
    unlock(self);
}

bool
svc_health_tell_alive(svc_health_t *self, svc_buf_t *out)
{
    if (tell_stuck(self, out) > 0)
        return false;
    add_text(out, "{\"status\":\"ok\"}");
    return true;
}

bool
svc_health_tell_ready(svc_health_t *self, svc_buf_t *out)
{
    if (atomic_load(&self->draining)) {
        add_text(out, "{\"status\":\"draining\"}");
        return false;
    }
    if (!atomic_load(&self->started)) {
        add_text(out, "{\"status\":\"starting\"}");
        return false;
    }
    if (tell_stuck(self, out) > 0)
        return false;
    if (tell_missing(self, false, "{\"status\":\"unavailable\",\"missing\":[", out) > 0) {
        add_text(out, "]}");
        return false;
    }
    if (tell_missing(self, true, "{\"status\":\"ok\",\"degraded\":[", out) > 0)
        add_text(out, "]}");
    else
        add_text(out, "{\"status\":\"ok\"}");
    return true;
}
