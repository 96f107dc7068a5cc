/* svc_refusals.c - whom the bus has refused: counters, and a few lines a minute of each kind.
 *
 * A kind has its own lines, so that a flood of one hides no other. A mutex: the handler of
 * handshakes has a thread of its own, and nothing that is served well comes here.
 * Thread: any. */
#include "svc_refusals.h"

#include "svc_seldom.h"
#include "svc_time.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX_BYTES 512

struct svc_refusals {
    svc_metrics_t *metrics;                /* borrowed */
    svc_log_t *log;                        /* borrowed */
    pthread_mutex_t lock;                  /* of what follows */
    svc_seldom_t lines[SVC_REFUSED_COUNT]; /* by kind */
};

static const svc_metric counters[SVC_REFUSED_COUNT] = {
    [SVC_REFUSED_STRANGER] = SVC_M_BUS_STRANGERS,
    [SVC_REFUSED_HANDSHAKE] = SVC_M_BUS_HANDSHAKES_REFUSED,
    [SVC_REFUSED_CALL] = SVC_M_BUS_CALLS_REFUSED,
};

svc_refusals_t *
svc_refusals_new(svc_metrics_t *metrics, svc_log_t *log)
{
    svc_refusals_t *self = svc_alloc(sizeof(*self));

    self->metrics = metrics;
    self->log = log;
    SVC_ASSERT(pthread_mutex_init(&self->lock, NULL) == 0);
    return self;
}

void
svc_refusals_destroy(svc_refusals_t **self_p)
{
    svc_refusals_t *self = *self_p;

    if (self == NULL)
        return;
    pthread_mutex_destroy(&self->lock);
    free(self);
    *self_p = NULL;
}

void
svc_refusals_note_at(svc_refusals_t *self, uint64_t now_ms, svc_refusal kind,
                     const char *text)
{
    uint64_t untold = 0;
    bool is_told;

    if (self == NULL)
        return;
    svc_metrics_add(self->metrics, counters[kind], 1);
    pthread_mutex_lock(&self->lock);
    is_told = svc_seldom(&self->lines[kind], SVC_REFUSALS_LOGGED, now_ms, &untold);
    pthread_mutex_unlock(&self->lock);
    if (is_told && untold > 0)
        svc_log_warn(self->log, "%s (and %" PRIu64 " more that were not told)", text,
                     untold);
    else if (is_told)
        svc_log_warn(self->log, "%s", text);
}

void
svc_refusals_note(svc_refusals_t *self, svc_refusal kind, const char *fmt, ...)
{
    char text[TEXT_MAX_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    svc_refusals_note_at(self, svc_mono_ms(), kind, text);
}
