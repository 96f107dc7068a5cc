/* svc_metrics.h - counters: one table, one row each.
 *
 * Counting is a relaxed atomic add; reading gives a value that is never torn but may be a
 * moment old. svc.stats answers with all of them that are not zero. All services share the
 * table; a service counts what it does and leaves the other rows at zero. Thread: any. */
#ifndef SVC_SVC_METRICS_H
#define SVC_SVC_METRICS_H

#include "proto/base.h"

/* Every counter of every service; names and help stand in the table in svc_metrics.c. Add a row in both. */
typedef enum {
    SVC_M_REQUESTS,        /* served by svc_server */
    SVC_M_REQUEST_ERRORS,  /* answered with an error */
    SVC_M_BAD_MESSAGES,    /* frames that could not be decoded */
    SVC_M_EXPIRED,         /* requests dropped since nobody waited any more */
    SVC_M_CALLS_CANCELLED, /* kept calls that ran out of time or lost their caller */
    SVC_M_REPLIES_DROPPED, /* the peer was gone or too slow */
    SVC_M_PEER_UPS,
    SVC_M_PEER_DOWNS,
    SVC_M_PEER_LOSSES,
    SVC_M_CALLS_FAILED, /* outgoing calls that failed: peer down, time-out */
    SVC_M_LOOP_STALLS,
    SVC_M_HTTP_REQUESTS,
    SVC_M_HTTP_CONNECTIONS_REFUSED,
    SVC_M_HTTP_TIMEOUTS, /* connections closed by header or body time-out */
    SVC_M_VIEWERS,       /* streams opened by clients */
    SVC_M_VIEWERS_GONE,  /* clients that left before the end */
    SVC_M_TOKENS_RECEIVED,
    SVC_M_TOKENS_FENCED, /* frames of another fence, skipped */
    SVC_M_GAPS,          /* gaps found in token streams */
    SVC_M_REPLAYED_BYTES,
    SVC_M_TAILS, /* tails handed in */
    SVC_M_LOGINS,
    SVC_M_LOGINS_REFUSED,
    SVC_M_LOGINS_THROTTLED,
    SVC_M_COMMITS,
    SVC_M_COMMITTED_JOBS,
    SVC_M_CACHE_HITS,
    SVC_M_CACHE_MISSES,
    SVC_M_CACHE_ERRORS,
    SVC_M_ANSWERS_STARTED,
    SVC_M_ANSWERS_COMPLETE,
    SVC_M_ANSWERS_STOPPED,
    SVC_M_ANSWERS_INTERRUPTED,
    SVC_M_GENERATIONS_RESTARTED,
    SVC_M_GENERATIONS,
    SVC_M_UPSTREAM_RETRIES,
    SVC_M_UPSTREAM_ERRORS,
    SVC_M_TOKENS_PUBLISHED,
    SVC_M_TOKENS_DROPPED, /* by test.drop_token_frames */
    SVC_M_JOURNAL_PIECES,
    SVC_M_CALLS_FAILED_OVER,
    SVC_M_TAKEOVERS,
    SVC_M_STEPS_FENCED,
    SVC_M_LEASES_LOST,
    SVC_M_KEYS_REPLAYED,
    SVC_M_ANSWERS_RETRIED,
    SVC_M_ANSWERS_ALONE,
    SVC_M_GENERATIONS_WASTED,
    SVC_M_VIEWERS_RESUMED,
    SVC_M_VIEWERS_IDLE,
    SVC_M_VIEWERS_MOVED,
    SVC_M_TICKETS,
    SVC_M_COUNT
} svc_metric;

typedef struct svc_metrics svc_metrics_t;

/* Gives a set of counters, all zero. */
svc_metrics_t *svc_metrics_new(void);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void svc_metrics_destroy(svc_metrics_t **self_p);

/* Adds n. A NULL set swallows everything. */
void svc_metrics_add(svc_metrics_t *self, svc_metric metric, uint64_t n);

/* Reads one. */
uint64_t svc_metrics_get(const svc_metrics_t *self, svc_metric metric);

/* Name of a counter, as svc.stats tells it; never NULL for metric < SVC_M_COUNT. */
const char *svc_metrics_name(svc_metric metric);

/* What it counts, in a few words; likewise never NULL. */
const char *svc_metrics_help(svc_metric metric);

#endif
