/* svc_metrics.c - counters: the table of names, and relaxed atomics behind it.
 *
 * Counters are told by svc.stats under these names. They say how often something happened since
 * the start; nothing here measures a moment (a queue's length), since two processes that are
 * added up would make no sense of it. */
#include "svc_metrics.h"

#include <stdatomic.h>
#include <stdlib.h>

struct svc_metrics {
    atomic_uint_fast64_t values[SVC_M_COUNT]; /* by svc_metric; relaxed */
};

// clang-format off
static const struct {
    const char *name; /* as svc.stats tells it */
    const char *help; /* what is counted */
} rows[SVC_M_COUNT] = {
    [SVC_M_REQUESTS]                 = {"requests",                 "requests served on the bus"},
    [SVC_M_REQUEST_ERRORS]           = {"request_errors",           "requests that were answered with an error"},
    [SVC_M_BAD_MESSAGES]             = {"bad_messages",             "frames that could not be decoded"},
    [SVC_M_EXPIRED]                  = {"expired",                  "requests dropped since nobody waited any more"},
    [SVC_M_CALLS_CANCELLED]          = {"calls_cancelled",          "kept calls that ran out of time or lost their caller"},
    [SVC_M_REPLIES_DROPPED]          = {"replies_dropped",          "replies whose receiver was gone or too slow"},
    [SVC_M_PEER_UPS]                 = {"peer_ups",                 "peers that answered hello"},
    [SVC_M_PEER_DOWNS]               = {"peer_downs",               "peers that disconnected or fell silent"},
    [SVC_M_PEER_LOSSES]              = {"peer_losses",              "peers that were given up"},
    [SVC_M_CALLS_FAILED]             = {"calls_failed",             "outgoing calls that failed: peer down, time-out"},
    [SVC_M_LOOP_STALLS]              = {"loop_stalls",              "times that an event loop stood still"},
    [SVC_M_HTTP_REQUESTS]            = {"http_requests",            "HTTP requests"},
    [SVC_M_HTTP_CONNECTIONS_REFUSED] = {"http_connections_refused", "connections over the limit"},
    [SVC_M_HTTP_TIMEOUTS]            = {"http_timeouts",            "connections closed by header or body time-out"},
    [SVC_M_VIEWERS]                  = {"viewers",                  "streams opened by clients"},
    [SVC_M_VIEWERS_GONE]             = {"viewers_gone",             "clients that left before the end"},
    [SVC_M_TOKENS_RECEIVED]          = {"tokens_received",          "token frames received"},
    [SVC_M_TOKENS_FENCED]            = {"tokens_fenced",            "token frames of another fence, skipped"},
    [SVC_M_GAPS]                     = {"gaps",                     "gaps found in token streams"},
    [SVC_M_REPLAYED_BYTES]           = {"replayed_bytes",           "bytes fetched to fill gaps"},
    [SVC_M_TAILS]                    = {"tails",                    "tails handed in after a loss"},
    [SVC_M_LOGINS]                   = {"logins",                   "logins that succeeded"},
    [SVC_M_LOGINS_REFUSED]           = {"logins_refused",           "logins with a wrong username or password"},
    [SVC_M_LOGINS_THROTTLED]         = {"logins_throttled",         "logins refused after too many wrong passwords"},
    [SVC_M_COMMITS]                  = {"commits",                  "database transactions committed"},
    [SVC_M_COMMITTED_JOBS]           = {"committed_jobs",           "changes in those transactions"},
    [SVC_M_CACHE_HITS]               = {"cache_hits",               "reads served from the cache"},
    [SVC_M_CACHE_MISSES]             = {"cache_misses",             "reads that the cache could not serve"},
    [SVC_M_CACHE_ERRORS]             = {"cache_errors",             "failed calls to Redis"},
    [SVC_M_ANSWERS_STARTED]          = {"answers_started",          "answers begun"},
    [SVC_M_ANSWERS_COMPLETE]         = {"answers_complete",         "answers that ended complete"},
    [SVC_M_ANSWERS_STOPPED]          = {"answers_stopped",          "answers that were stopped"},
    [SVC_M_ANSWERS_INTERRUPTED]      = {"answers_interrupted",      "answers that ended interrupted"},
    [SVC_M_GENERATIONS_RESTARTED]    = {"generations_restarted",    "generations begun again after a loss"},
    [SVC_M_GENERATIONS]              = {"generations",              "generations begun"},
    [SVC_M_UPSTREAM_RETRIES]         = {"upstream_retries",         "requests to a provider that were repeated"},
    [SVC_M_UPSTREAM_ERRORS]          = {"upstream_errors",          "generations that a provider failed"},
    [SVC_M_TOKENS_PUBLISHED]         = {"tokens_published",         "token frames published"},
    [SVC_M_TOKENS_DROPPED]           = {"tokens_dropped",           "token frames dropped by test.drop_token_frames"},
    [SVC_M_JOURNAL_PIECES]           = {"journal_pieces",           "pieces handed to the journal"},
    [SVC_M_CALLS_FAILED_OVER]        = {"calls_failed_over",         "calls that another replica was asked after the first one went down"},
    [SVC_M_TAKEOVERS]                = {"takeovers",                 "answers taken over from a process that was gone"},
    [SVC_M_STEPS_FENCED]             = {"steps_fenced",              "steps of answers refused since another process owns them by now"},
    [SVC_M_LEASES_LOST]              = {"leases_lost",               "times that this process found its lease run out"},
    [SVC_M_KEYS_REPLAYED]            = {"keys_replayed",             "requests answered with what their idempotency key had begun before"},
    [SVC_M_ANSWERS_RETRIED]          = {"answers_retried",           "last questions answered anew"},
    [SVC_M_ANSWERS_ALONE]            = {"answers_alone",             "answers stopped since nobody watched them any more"},
    [SVC_M_GENERATIONS_WASTED]       = {"generations_wasted",        "generations whose text nobody stored to the end"},
    [SVC_M_VIEWERS_RESUMED]          = {"viewers_resumed",           "streams opened for an answer that had begun before"},
    [SVC_M_VIEWERS_IDLE]             = {"viewers_idle",              "streams closed since their client took no byte for too long"},
    [SVC_M_VIEWERS_MOVED]            = {"viewers_moved",             "connections handed to the reactor that reads their answer already"},
    [SVC_M_TICKETS]                  = {"tickets",                   "tickets made"},
};
// clang-format on

svc_metrics_t *
svc_metrics_new(void)
{
    svc_metrics_t *self = svc_alloc(sizeof(*self));

    for (size_t i = 0; i < SVC_M_COUNT; i++)
        atomic_init(&self->values[i], 0);
    return self;
}

void
svc_metrics_destroy(svc_metrics_t **self_p)
{
    if (self_p == NULL || *self_p == NULL)
        return;
    free(*self_p);
    *self_p = NULL;
}

void
svc_metrics_add(svc_metrics_t *self, svc_metric metric, uint64_t n)
{
    SVC_ASSERT(metric < SVC_M_COUNT);
    if (self != NULL)
        atomic_fetch_add_explicit(&self->values[metric], n, memory_order_relaxed);
}

uint64_t
svc_metrics_get(const svc_metrics_t *self, svc_metric metric)
{
    SVC_ASSERT(metric < SVC_M_COUNT);
    return atomic_load_explicit(&self->values[metric], memory_order_relaxed);
}

const char *
svc_metrics_name(svc_metric metric)
{
    SVC_ASSERT(metric < SVC_M_COUNT);
    return rows[metric].name;
}

const char *
svc_metrics_help(svc_metric metric)
{
    SVC_ASSERT(metric < SVC_M_COUNT);
    return rows[metric].help;
}
