/* svc_metrics.h - what a process counts and measures: one table of counters, one of families with labels.
 *
 * Counting is a relaxed atomic add; reading gives a value that is never torn but may be a
 * moment old. svc.stats answers with all counters that are not zero. All services share the
 * tables; a row says whose it is, and a service leaves the other rows at zero.
 *
 * A family is a counter, a gauge or a histogram with up to two labels. What a label may say is written down before
 * (svc_metrics_label), mostly at start: that gives a row number, and counting is one or two adds at [row][column] of an array
 * that is there from the start. So nothing on a hot path allocates, locks or compares text, and no client can make a series:
 * each label has a fixed number of rows, and what does not fit is counted as "other" (row 0).
 *
 * svc_metrics_text.h makes what Prometheus reads of both. Thread: any. */
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
    SVC_M_TLS_HANDSHAKES_FAILED,
    SVC_M_VIEWERS,      /* streams opened by clients */
    SVC_M_VIEWERS_GONE, /* clients that left before the end */
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
    SVC_M_BUS_STRANGERS,          /* connections with a key that has no business there */
    SVC_M_BUS_HANDSHAKES_REFUSED, /* connections in plain text, with a wrong key, or no ZeroMQ */
    SVC_M_BUS_CALLS_REFUSED, /* requests of services that may not ask them */
    SVC_M_TOKEN_HITS,
    SVC_M_TOKEN_MISSES,
    SVC_M_COUNT
} svc_metric;

/* A label, or a pair of labels that always stand together. */
typedef enum {
    SVC_L_NONE,
    SVC_L_OPERATION,   /* of the bus, as proto.h names it */
    SVC_L_CODE,        /* a result's wire name; row: svc_metrics_code() */
    SVC_L_ROUTE,       /* method and path of the gateway's table of routes */
    SVC_L_HTTP_STATUS, /* of a response */
    SVC_L_MODEL, /* provider and pattern, as configured: never what a client wrote */
    SVC_L_PROVIDER,
    SVC_L_CAUSE,  /* of a provider's failure */
    SVC_L_ENDING, /* of a generation */
    SVC_L_POOL,   /* of worker threads */
    SVC_L_PEER,   /* a service that is called */
    SVC_L_COUNT
} svc_label;

/* Every family with labels, every gauge and histogram. Add a row in svc_metrics.c, too. */
typedef enum {
    SVC_F_OPERATIONS,
    SVC_F_OPERATION_US, /* histograms of times are given µs */
    SVC_F_CALLS,
    SVC_F_CALL_US,
    SVC_F_PEERS,
    SVC_F_PEERS_UP,
    SVC_F_KEPT_CALLS,
    SVC_F_POOL_THREADS,
    SVC_F_POOL_RUNNING,
    SVC_F_POOL_QUEUED,
    SVC_F_POOL_QUEUE_MAX,
    SVC_F_POOL_JOBS,
    SVC_F_POOL_REFUSED,
    SVC_F_POOL_US,
    SVC_F_HTTP_REQUESTS,
    SVC_F_HTTP_US,
    SVC_F_HTTP_OVERHEAD_US,
    SVC_F_HTTP_OPEN,
    SVC_F_STREAMS_OPEN,
    SVC_F_STREAM_FIRST_TEXT_US,
    SVC_F_DELIVERY_US,
    SVC_F_COMMIT_CHANGES,
    SVC_F_COMMIT_US,
    SVC_F_ANSWERS_LIVE,
    SVC_F_CACHE_BYTES,
    SVC_F_GENERATIONS_BEGUN,
    SVC_F_GENERATIONS_ENDED,
    SVC_F_GENERATIONS_RUNNING,
    SVC_F_GENERATION_US,
    SVC_F_GENERATION_FIRST_TEXT_US,
    SVC_F_GENERATION_PIECES,
    SVC_F_GENERATION_BYTES,
    SVC_F_PROMPT_TOKENS,
    SVC_F_COMPLETION_TOKENS,
    SVC_F_UPSTREAM_FAILURES,
    SVC_F_COUNT
} svc_family;

#define SVC_LABEL_MAX_BYTES 64 /* of one value; the rest is cut */

typedef struct svc_metrics svc_metrics_t;

/* Gives a set of counters and families, all zero. */
svc_metrics_t *svc_metrics_new(void);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void svc_metrics_destroy(svc_metrics_t **self_p);

/* Adds n. A NULL set swallows everything. */
void svc_metrics_add(svc_metrics_t *self, svc_metric metric, uint64_t n);

/* Reads one. */
uint64_t svc_metrics_get(const svc_metrics_t *self, svc_metric metric);

/* Name of a counter, as svc.stats tells it; never NULL for metric < SVC_M_COUNT. */
const char *svc_metrics_name(svc_metric metric);

/* The row of a label's value (`second`: of the other one of a pair; else NULL), written down if it is new: 0 ("other") when all rows
 * are taken, or for a NULL set. Copies, cuts to SVC_LABEL_MAX_BYTES and makes UTF-8 of it. A value keeps its row for good.
 * Takes a lock: not for hot paths. */
uint16_t svc_metrics_label(svc_metrics_t *self, svc_label label, const char *value,
                           const char *second);

/* The row of SVC_L_CODE for a result. */
uint16_t svc_metrics_code(svc_rc rc);

/* Counts n in a counter, or raises a gauge by n, which may be negative (two's complement). Rows of labels that the family has
 * not are 0. A NULL set swallows everything. */
void svc_metrics_count(svc_metrics_t *self, svc_family family, uint16_t row,
                       uint16_t column, int64_t n);

/* Puts a value into a histogram: µs, or a number of things, as the family has it. */
void svc_metrics_observe(svc_metrics_t *self, svc_family family, uint16_t row,
                         uint64_t value);

/* Reads a counter or a gauge; of a histogram how many values it has. */
int64_t svc_metrics_read(const svc_metrics_t *self, svc_family family, uint16_t row,
                         uint16_t column);

#endif
