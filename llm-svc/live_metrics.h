/* live_metrics.h - what is counted of generations, by provider and model.
 *
 * A model is the pattern of the configuration that it matched: the row that model_router_find gives. Nothing that a client has
 * written becomes a label. live.c calls this where a generation begins, gets text, and is left by its provider, for
 * whatever reason; that is once for each that began. Thread: the loop's. */
#ifndef LLM_SVC_LIVE_METRICS_H
#define LLM_SVC_LIVE_METRICS_H

#include "ending.h"
#include "svc/svc_metrics.h"

/* How a provider and a generation came to part. */
typedef enum {
    PARTED_COMPLETE,
    PARTED_FAILED,      /* the provider's failure */
    PARTED_STOPPED,     /* by who had asked */
    PARTED_CUT,         /* it grew too long */
    PARTED_INTERRUPTED, /* the process ends */
    PARTED_REPLACED, /* by a newer generation of the same answer, or nobody wants it any more */
    PARTED_COUNT
} live_parting;

/* One generation as metrics see it. */
typedef struct {
    svc_metrics_t *metrics; /* borrowed; NULL: nothing is counted */
    uint16_t row;           /* of its model */
    bool is_running;        /* begun, and not parted */
    bool has_text;          /* the first has come */
    uint64_t began_us;      /* monotonic */
} live_metrics_t;

/* Writes down what may be told: once, before anything else. */
void live_metrics_name(svc_metrics_t *metrics);

/* A generation begins: `row` is that of its model. */
void live_metrics_begin(live_metrics_t *self, svc_metrics_t *metrics, uint16_t row);

/* A piece of n bytes has come. */
void live_metrics_text(live_metrics_t *self, size_t n);

/* Its provider is done with it; harmless when it has been before. */
void live_metrics_part(live_metrics_t *self, live_parting how);

/* Likewise, as its provider told it: complete, or failed by a cause; and what it used. */
void live_metrics_end(live_metrics_t *self, const char *provider, const ending_t *ending);

#endif
