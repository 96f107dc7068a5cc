/* svc_refusals.c - whom the bus has refused: a window of a minute for each kind.
 *
 * A window begins with the first refusal after the last one has ended. A mutex: the handler of
 * handshakes has a thread of its own, and nothing that is served well comes here.
 * Thread: any. */
#include "svc_refusals.h"

#include "svc_time.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX_BYTES 512

typedef struct {
    uint64_t began_ms; /* of this window; 0: there was none yet */
    unsigned logged;   /* in it */
    uint64_t untold;   /* since the last line */
} window_t;

struct svc_refusals {
    svc_metrics_t *metrics;              /* borrowed */
    svc_log_t *log;                      /* borrowed */
    pthread_mutex_t lock;                /* of what follows */
    window_t windows[SVC_REFUSED_COUNT]; /* by kind */
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

/* Is this one to be told? *untold: how many before it were not. */
static bool
takes_a_line(window_t *window, uint64_t now_ms, uint64_t *untold)
{
    if (window->began_ms == 0 || now_ms - window->began_ms >= SVC_REFUSALS_WINDOW_MS) {
        window->began_ms = now_ms == 0 ? 1 : now_ms;
        window->logged = 0;
    }
    *untold = window->untold;
    if (window->logged == SVC_REFUSALS_LOGGED) {
        window->untold++;
        return false;
    }
    window->logged++;
    window->untold = 0;
    return true;
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
    is_told = takes_a_line(&self->windows[kind], now_ms, &untold);
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
