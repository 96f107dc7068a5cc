/* svc_metrics_text.h - all metrics of a process as Prometheus reads them: its text format, version 0.0.4.
 *
 * Made for each scrape from the tables of svc_metrics.c, by the thread of the admin port, while all others go on counting.
 * What is told is bounded: labels have a fixed number of rows, and a metric that does not fit any more is left out as a whole, which
 * the last one tells. Nothing in it is a secret, or names a user or a conversation. Thread: any. */
#ifndef SVC_SVC_METRICS_TEXT_H
#define SVC_SVC_METRICS_TEXT_H

#include "svc/svc_health.h"
#include "svc/svc_metrics.h"

#include <stdio.h>

#define SVC_METRICS_TEXT_MAX_BYTES (256u << 10)
#define SVC_METRICS_TEXT_TYPE      "text/plain; version=0.0.4; charset=utf-8"

/* Whose metrics. All of it is borrowed. */
typedef struct {
    const svc_metrics_t *metrics;
    svc_health_t *health;
    const char *service; /* "convo-svc": what is not its own is not told */
    const char *version; /* of the build */
} svc_metrics_about_t;

/* Appends all of it to a buffer that holds at least a KiB. */
void svc_metrics_text(const svc_metrics_about_t *about, svc_buf_t *out);

/* Prints all metrics of all services as a Markdown table. */
void svc_metrics_print_table(FILE *out);

#endif
