/* svc_metrics_private.h - the tables of metrics, as counting and telling see them.
 *
 * svc_metrics.c has them and counts, svc_metrics_text.c writes them down. Nobody else but their test includes this.
 * A row of a table is all that a metric is: its name, its kind, its labels, whose it is and what it tells. What Prometheus
 * needs and the table of documentation are made from the same rows. */
#ifndef SVC_SVC_METRICS_PRIVATE_H
#define SVC_SVC_METRICS_PRIVATE_H

#include "svc/svc_metrics.h"

#include <pthread.h>
#include <stdatomic.h>

/* Which services have a metric; or-ed. */
enum { IN_GATEWAY = 1, IN_AUTH = 2, IN_CONVO = 4, IN_LLM = 8, IN_ALL = 15 };

/* What a histogram's buckets are. */
typedef struct {
    const uint64_t *at; /* upper bounds, rising; one more bucket takes the rest */
    size_t n;           /* of them */
    double unit;        /* what is told is value / unit */
} svc_bounds_t;

typedef enum { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM } svc_metric_kind;

typedef struct {
    const char *name; /* as svc.stats tells it; Prometheus has llmb_<name>_total */
    unsigned
        services; /* IN_…; 0: a family tells it in more detail, so only svc.stats has it */
    const char *help; /* what is counted */
} svc_counter_row_t;

typedef struct {
    const char *name;           /* as Prometheus has it */
    svc_metric_kind kind;       /* see there */
    svc_label row, column;      /* SVC_L_NONE: no such label */
    const svc_bounds_t *bounds; /* of a histogram (which has no column); else NULL */
    unsigned services;          /* IN_… */
    const char *help;           /* what is counted or measured */
} svc_family_row_t;

typedef struct {
    const char *names[2]; /* the second is NULL unless it is a pair */
    uint16_t max;         /* rows, "other" among them */
} svc_label_row_t;

/* What is written down of one label. */
typedef struct {
    atomic_uint_least16_t n; /* rows; each text is there before it is counted */
    char **texts;            /* owned: `provider="openai",model="gpt*"`, escaped */
} svc_label_values_t;

/* Each core counts in numbers of its own, as far as these go: reactors that count the same thing on two cores would pass one
 * cache line to and fro, nine times a request. What is told is the sum. */
#define SVC_METRICS_SHARDS 4

struct svc_metrics {
    atomic_uint_fast64_t *shards
        [SVC_METRICS_SHARDS];  /* owned; counters, then families by row, column, bucket */
    size_t first[SVC_F_COUNT]; /* where a family begins in each */
    svc_label_values_t labels[SVC_L_COUNT]; /* by svc_label */
    pthread_mutex_t mutex;                  /* of those who write labels down */
    uint64_t born_ms;                       /* Unix: when the process began to count */
};

extern const svc_counter_row_t svc_counter_rows[SVC_M_COUNT];
extern const svc_family_row_t svc_family_rows[SVC_F_COUNT];
extern const svc_label_row_t svc_label_rows[SVC_L_COUNT];

/* Numbers that one row and column of a family has: 1, or those of a histogram: its buckets, and the sum. */
size_t svc_family_width(const svc_family_row_t *family);

/* The i-th of them, over all cores. */
uint64_t svc_family_read(const svc_metrics_t *self, svc_family family, uint16_t row,
                         uint16_t column, size_t i);

#endif
