/* svc_metrics.c - the tables of what is counted and measured, and relaxed atomics behind them.
 *
 * Counters say how often something happened since the start, and svc.stats tells them; a moment (a queue's length) is
 * a gauge, which only Prometheus is told: two processes that are added up would make no sense of it. All numbers stand
 * in arrays of fixed size, one for each core up to four, for all rows that labels may ever get; pages that no row has touched cost nothing. */
#include "svc_metrics_private.h"

#include "proto/utf8.h"
#include "svc/svc_time.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_BYTES_OF_TEXT (2 * (32 + 2 * SVC_LABEL_MAX_BYTES)) /* both labels, escaped */

// clang-format off
const svc_counter_row_t svc_counter_rows[SVC_M_COUNT] = {
    /* counter                          name                        services                help */
    [SVC_M_REQUESTS]                   = {"requests",                  0,                      "requests served on the bus"},
    [SVC_M_REQUEST_ERRORS]             = {"request_errors",            0,                      "requests that were answered with an error"},
    [SVC_M_BAD_MESSAGES]               = {"bad_messages",              IN_ALL,                 "frames that could not be decoded"},
    [SVC_M_EXPIRED]                    = {"expired",                   IN_ALL,                 "requests dropped since nobody waited any more"},
    [SVC_M_CALLS_CANCELLED]            = {"calls_cancelled",           IN_ALL,                 "kept calls that ran out of time or lost their caller"},
    [SVC_M_REPLIES_DROPPED]            = {"replies_dropped",           IN_ALL,                 "replies whose receiver was gone or too slow"},
    [SVC_M_PEER_UPS]                   = {"peer_ups",                  IN_GATEWAY | IN_CONVO,  "peers that answered hello"},
    [SVC_M_PEER_DOWNS]                 = {"peer_downs",                IN_GATEWAY | IN_CONVO,  "peers that disconnected or fell silent"},
    [SVC_M_PEER_LOSSES]                = {"peer_losses",               IN_GATEWAY | IN_CONVO,  "peers that were given up"},
    [SVC_M_CALLS_FAILED]               = {"calls_failed",              IN_GATEWAY | IN_CONVO,  "outgoing calls that failed: peer down, time-out"},
    [SVC_M_LOOP_STALLS]                = {"loop_stalls",               IN_ALL,                 "times that an event loop stood still"},
    [SVC_M_HTTP_REQUESTS]              = {"http_requests",             0,                      "HTTP requests"},
    [SVC_M_HTTP_CONNECTIONS_REFUSED]   = {"http_connections_refused",  IN_GATEWAY,             "connections over the limit"},
    [SVC_M_HTTP_TIMEOUTS]              = {"http_timeouts",             IN_GATEWAY,             "connections closed by header or body time-out"},
    [SVC_M_TLS_HANDSHAKES_FAILED]      = {"tls_handshakes_failed",     IN_GATEWAY,             "clients with which no TLS could be agreed on"},
    [SVC_M_VIEWERS]                    = {"viewers",                   IN_GATEWAY,             "streams opened by clients"},
    [SVC_M_VIEWERS_GONE]               = {"viewers_gone",              IN_GATEWAY,             "clients that left before the end"},
    [SVC_M_TOKENS_RECEIVED]            = {"tokens_received",           IN_GATEWAY,             "token frames received"},
    [SVC_M_TOKENS_FENCED]              = {"tokens_fenced",             IN_GATEWAY,             "token frames of another fence, skipped"},
    [SVC_M_GAPS]                       = {"gaps",                      IN_GATEWAY,             "gaps found in token streams"},
    [SVC_M_REPLAYED_BYTES]             = {"replayed_bytes",            IN_GATEWAY | IN_LLM,    "bytes fetched to fill gaps"},
    [SVC_M_TAILS]                      = {"tails",                     IN_GATEWAY,             "tails handed in after a loss"},
    [SVC_M_LOGINS]                     = {"logins",                    IN_AUTH,                "logins that succeeded"},
    [SVC_M_LOGINS_REFUSED]             = {"logins_refused",            IN_AUTH,                "logins with a wrong username or password"},
    [SVC_M_LOGINS_THROTTLED]           = {"logins_throttled",          IN_AUTH,                "logins refused after too many wrong passwords"},
    [SVC_M_COMMITS]                    = {"commits",                   IN_AUTH | IN_CONVO,     "database transactions committed"},
    [SVC_M_COMMITTED_JOBS]             = {"committed_jobs",            IN_AUTH | IN_CONVO,     "changes in those transactions"},
    [SVC_M_CACHE_HITS]                 = {"cache_hits",                IN_CONVO,               "reads served from the cache"},
    [SVC_M_CACHE_MISSES]               = {"cache_misses",              IN_CONVO,               "reads that the cache could not serve"},
    [SVC_M_CACHE_ERRORS]               = {"cache_errors",              IN_AUTH | IN_CONVO,     "failed calls to Redis"},
    [SVC_M_ANSWERS_STARTED]            = {"answers_started",           IN_CONVO,               "answers begun"},
    [SVC_M_ANSWERS_COMPLETE]           = {"answers_complete",          IN_CONVO,               "answers that ended complete"},
    [SVC_M_ANSWERS_STOPPED]            = {"answers_stopped",           IN_CONVO,               "answers that were stopped"},
    [SVC_M_ANSWERS_INTERRUPTED]        = {"answers_interrupted",       IN_CONVO,               "answers that ended interrupted"},
    [SVC_M_GENERATIONS_RESTARTED]      = {"generations_restarted",     IN_CONVO,               "generations begun again after a loss"},
    [SVC_M_GENERATIONS]                = {"generations",               0,                      "generations begun"},
    [SVC_M_UPSTREAM_RETRIES]           = {"upstream_retries",          IN_LLM,                 "requests to a provider that were repeated"},
    [SVC_M_UPSTREAM_ERRORS]            = {"upstream_errors",           0,                      "generations that a provider failed"},
    [SVC_M_TOKENS_PUBLISHED]           = {"tokens_published",          IN_LLM,                 "token frames published"},
    [SVC_M_TOKENS_DROPPED]             = {"tokens_dropped",            IN_LLM,                 "token frames dropped by test.drop_token_frames"},
    [SVC_M_JOURNAL_PIECES]             = {"journal_pieces",            IN_LLM,                 "pieces handed to the journal"},
    [SVC_M_CALLS_FAILED_OVER]          = {"calls_failed_over",         IN_GATEWAY | IN_CONVO,  "calls that another replica was asked after the first one went down"},
    [SVC_M_TAKEOVERS]                  = {"takeovers",                 IN_CONVO,               "answers taken over from a process that was gone"},
    [SVC_M_STEPS_FENCED]               = {"steps_fenced",              IN_CONVO,               "steps of answers refused since another process owns them by now"},
    [SVC_M_LEASES_LOST]                = {"leases_lost",               IN_CONVO,               "times that this process found its lease run out"},
    [SVC_M_KEYS_REPLAYED]              = {"keys_replayed",             IN_CONVO,               "requests answered with what their idempotency key had begun before"},
    [SVC_M_ANSWERS_RETRIED]            = {"answers_retried",           IN_CONVO,               "last questions answered anew"},
    [SVC_M_ANSWERS_ALONE]              = {"answers_alone",             IN_CONVO,               "answers stopped since nobody watched them any more"},
    [SVC_M_GENERATIONS_WASTED]         = {"generations_wasted",        IN_LLM,                 "generations whose text nobody stored to the end"},
    [SVC_M_VIEWERS_RESUMED]            = {"viewers_resumed",           IN_GATEWAY,             "streams opened for an answer that had begun before"},
    [SVC_M_VIEWERS_IDLE]               = {"viewers_idle",              IN_GATEWAY,             "streams closed since their client took no byte for too long"},
    [SVC_M_VIEWERS_MOVED]              = {"viewers_moved",             IN_GATEWAY,             "connections handed to the reactor that reads their answer already"},
    [SVC_M_TICKETS]                    = {"tickets",                   IN_GATEWAY | IN_AUTH,   "tickets made"},
    [SVC_M_BUS_STRANGERS]              = {"bus_strangers",             IN_ALL, "connections on the bus refused for a key that has no business there"},
    [SVC_M_BUS_HANDSHAKES_REFUSED]     = {"bus_handshakes_refused",    IN_ALL, "connections on the bus refused for plain text, a wrong key, or another protocol"},
    [SVC_M_BUS_CALLS_REFUSED]          = {"bus_calls_refused",         IN_ALL, "requests refused since their caller may not ask them"},
    [SVC_M_TOKEN_HITS]                 = {"token_cache_hits",          IN_GATEWAY,             "tokens found good without asking auth-svc: it had said so a moment ago"},
    [SVC_M_TOKEN_MISSES]               = {"token_cache_misses",        IN_GATEWAY,             "tokens that auth-svc was asked about"},
};

static const uint64_t usual_us[] = {500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};
static const uint64_t short_us[] = {50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 1000000};
static const uint64_t long_us[]  = {25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 120000000, 300000000};
static const uint64_t few[]      = {1, 2, 5, 10, 20, 50, 100, 200, 500};
static const svc_bounds_t usual_times = {usual_us, SVC_COUNT(usual_us), 1e6};
static const svc_bounds_t short_times = {short_us, SVC_COUNT(short_us), 1e6};
static const svc_bounds_t long_times  = {long_us, SVC_COUNT(long_us), 1e6};
static const svc_bounds_t numbers     = {few, SVC_COUNT(few), 1};

#define COUNTER   KIND_COUNTER
#define GAUGE     KIND_GAUGE
#define HISTOGRAM KIND_HISTOGRAM
const svc_family_row_t svc_family_rows[SVC_F_COUNT] = {
    /* family                           name                                kind       row              column             bounds        services              help */
    [SVC_F_OPERATIONS]                 = {"llmb_bus_requests_total",                 COUNTER,   SVC_L_OPERATION, SVC_L_CODE,        NULL,           IN_ALL,                "requests on the bus that were answered, by operation and how"},
    [SVC_F_OPERATION_US]               = {"llmb_bus_request_seconds",                HISTOGRAM, SVC_L_OPERATION, SVC_L_NONE,        &usual_times,   IN_ALL,                "time until a request on the bus had its (first) reply"},
    [SVC_F_CALLS]                      = {"llmb_calls_total",                        COUNTER,   SVC_L_PEER,      SVC_L_CODE,        NULL,           IN_GATEWAY | IN_CONVO, "calls to other services that ended, by service and how"},
    [SVC_F_CALL_US]                    = {"llmb_call_seconds",                       HISTOGRAM, SVC_L_PEER,      SVC_L_NONE,        &usual_times,   IN_GATEWAY | IN_CONVO, "time until a call to another service had its (first) reply, or was given up"},
    [SVC_F_PEERS]                      = {"llmb_peers",                              GAUGE,     SVC_L_PEER,      SVC_L_NONE,        NULL,           IN_GATEWAY | IN_CONVO, "replicas of a service that are called, summed over threads"},
    [SVC_F_PEERS_UP]                   = {"llmb_peers_up",                           GAUGE,     SVC_L_PEER,      SVC_L_NONE,        NULL,           IN_GATEWAY | IN_CONVO, "those of them that answer"},
    [SVC_F_KEPT_CALLS]                 = {"llmb_bus_requests_kept",                  GAUGE,     SVC_L_NONE,      SVC_L_NONE,        NULL,           IN_ALL,                "requests on the bus that wait for an answer, or for more of it"},
    [SVC_F_POOL_THREADS]               = {"llmb_pool_threads",                       GAUGE,     SVC_L_POOL,      SVC_L_NONE,        NULL,           IN_AUTH | IN_CONVO,    "worker threads; those of a database have a connection each"},
    [SVC_F_POOL_RUNNING]               = {"llmb_pool_jobs_running",                  GAUGE,     SVC_L_POOL,      SVC_L_NONE,        NULL,           IN_AUTH | IN_CONVO,    "jobs that worker threads have"},
    [SVC_F_POOL_QUEUED]                = {"llmb_pool_jobs_queued",                   GAUGE,     SVC_L_POOL,      SVC_L_NONE,        NULL,           IN_AUTH | IN_CONVO,    "jobs that wait for a worker thread"},
    [SVC_F_POOL_QUEUE_MAX]             = {"llmb_pool_queue_max",                     GAUGE,     SVC_L_POOL,      SVC_L_NONE,        NULL,           IN_AUTH | IN_CONVO,    "how many may wait; more are refused"},
    [SVC_F_POOL_JOBS]                  = {"llmb_pool_jobs_total",                    COUNTER,   SVC_L_POOL,      SVC_L_NONE,        NULL,           IN_AUTH | IN_CONVO,    "jobs given to worker threads"},
    [SVC_F_POOL_REFUSED]               = {"llmb_pool_jobs_refused_total",            COUNTER,   SVC_L_POOL,      SVC_L_NONE,        NULL,           IN_AUTH | IN_CONVO,    "jobs refused since too many waited"},
    [SVC_F_POOL_US]                    = {"llmb_pool_job_seconds",                   HISTOGRAM, SVC_L_POOL,      SVC_L_NONE,        &usual_times,   IN_AUTH | IN_CONVO,    "time from a job to its result, waiting and work"},
    [SVC_F_HTTP_REQUESTS]              = {"llmb_http_requests_total",                COUNTER,   SVC_L_ROUTE,     SVC_L_HTTP_STATUS, NULL,           IN_GATEWAY,            "HTTP requests that ended, by route and status (499: the client left first)"},
    [SVC_F_HTTP_US]                    = {"llmb_http_request_seconds",               HISTOGRAM, SVC_L_ROUTE,     SVC_L_NONE,        &usual_times,   IN_GATEWAY,            "time from the headers of a request to the start of its response"},
    [SVC_F_HTTP_OVERHEAD_US]           = {"llmb_http_overhead_seconds",              HISTOGRAM, SVC_L_ROUTE,     SVC_L_NONE,        &short_times,   IN_GATEWAY,            "of that, what was not spent on waiting for other services or for the body: the gateway itself"},
    [SVC_F_HTTP_OPEN]                  = {"llmb_http_connections_open",              GAUGE,     SVC_L_NONE,      SVC_L_NONE,        NULL,           IN_GATEWAY,            "open client connections"},
    [SVC_F_STREAMS_OPEN]               = {"llmb_streams_open",                       GAUGE,     SVC_L_NONE,      SVC_L_NONE,        NULL,           IN_GATEWAY,            "clients that read an answer, or wait for one"},
    [SVC_F_STREAM_FIRST_TEXT_US]       = {"llmb_stream_first_text_seconds",          HISTOGRAM, SVC_L_NONE,      SVC_L_NONE,        &long_times,    IN_GATEWAY,            "time from a question to the first text of its answer, as its asker sees it"},
    [SVC_F_DELIVERY_US]                = {"llmb_delivery_seconds",                   HISTOGRAM, SVC_L_NONE,      SVC_L_NONE,        &short_times,   IN_GATEWAY,            "time from reading pieces of answers off the bus to having written them to their clients, by turn of a reactor"},
    [SVC_F_COMMIT_CHANGES]             = {"llmb_commit_changes",                     HISTOGRAM, SVC_L_NONE,      SVC_L_NONE,        &numbers,       IN_AUTH | IN_CONVO,    "changes in one database transaction"},
    [SVC_F_COMMIT_US]                  = {"llmb_commit_seconds",                     HISTOGRAM, SVC_L_NONE,      SVC_L_NONE,        &usual_times,   IN_AUTH | IN_CONVO,    "time of a database transaction, its commit included"},
    [SVC_F_ANSWERS_LIVE]               = {"llmb_answers_live",                       GAUGE,     SVC_L_NONE,      SVC_L_NONE,        NULL,           IN_CONVO,              "answers that this process owns: being written, or just ended"},
    [SVC_F_CACHE_BYTES]                = {"llmb_cache_memory_bytes",                 GAUGE,     SVC_L_NONE,      SVC_L_NONE,        NULL,           IN_CONVO,              "what the cache in memory holds: lists, and histories without Redis"},
    [SVC_F_GENERATIONS_BEGUN]          = {"llmb_generations_total",                  COUNTER,   SVC_L_MODEL,     SVC_L_NONE,        NULL,           IN_LLM,                "generations begun"},
    [SVC_F_GENERATIONS_ENDED]          = {"llmb_generations_ended_total",            COUNTER,   SVC_L_MODEL,     SVC_L_ENDING,      NULL,           IN_LLM,                "generations whose provider is done with them, by how"},
    [SVC_F_GENERATIONS_RUNNING]        = {"llmb_generations_running",                GAUGE,     SVC_L_MODEL,     SVC_L_NONE,        NULL,           IN_LLM,                "generations that a provider is writing"},
    [SVC_F_GENERATION_US]              = {"llmb_generation_seconds",                 HISTOGRAM, SVC_L_MODEL,     SVC_L_NONE,        &long_times,    IN_LLM,                "time that a provider took for a whole answer"},
    [SVC_F_GENERATION_FIRST_TEXT_US]   = {"llmb_generation_first_text_seconds",      HISTOGRAM, SVC_L_MODEL,     SVC_L_NONE,        &long_times,    IN_LLM,                "time that a provider took for the first text"},
    [SVC_F_GENERATION_PIECES]          = {"llmb_generation_pieces_total",            COUNTER,   SVC_L_MODEL,     SVC_L_NONE,        NULL,           IN_LLM,                "pieces of text that came from a provider, about a token each"},
    [SVC_F_GENERATION_BYTES]           = {"llmb_generation_bytes_total",             COUNTER,   SVC_L_MODEL,     SVC_L_NONE,        NULL,           IN_LLM,                "bytes of text that came from a provider"},
    [SVC_F_PROMPT_TOKENS]              = {"llmb_generation_prompt_tokens_total",     COUNTER,   SVC_L_MODEL,     SVC_L_NONE,        NULL,           IN_LLM,                "tokens of prompts, where the provider tells them"},
    [SVC_F_COMPLETION_TOKENS]          = {"llmb_generation_completion_tokens_total", COUNTER,   SVC_L_MODEL,     SVC_L_NONE,        NULL,           IN_LLM,                "tokens of answers, where the provider tells them"},
    [SVC_F_UPSTREAM_FAILURES]          = {"llmb_upstream_errors_total",              COUNTER,   SVC_L_PROVIDER,  SVC_L_CAUSE,       NULL,           IN_LLM,                "generations that a provider failed, by cause"},
};

const svc_label_row_t svc_label_rows[SVC_L_COUNT] = {
    [SVC_L_NONE]        = {{NULL, NULL},          1},
    [SVC_L_OPERATION]   = {{"operation", NULL},   32},
    [SVC_L_CODE]        = {{"status", NULL},      RC_COUNT + 1},
    [SVC_L_ROUTE]       = {{"method", "route"},   32},
    [SVC_L_HTTP_STATUS] = {{"status", NULL},      32},
    [SVC_L_MODEL]       = {{"provider", "model"}, 64},
    [SVC_L_PROVIDER]    = {{"provider", NULL},    32},
    [SVC_L_CAUSE]       = {{"cause", NULL},       16},
    [SVC_L_ENDING]      = {{"ending", NULL},      8},
    [SVC_L_POOL]        = {{"pool", NULL},        8},
    [SVC_L_PEER]        = {{"service", NULL},     8},
};
// clang-format on

/* --- labels ------------------------------------------------------------------------------ */

/* Appends name="value", with what Prometheus wants escaped. */
static void
add_label(svc_buf_t *out, const char *name, const char *value)
{
    size_t n = strnlen(value, SVC_LABEL_MAX_BYTES);

    n = svc_utf8_valid(value, n);
    SVC_ASSERT(svc_buf_printf(out, "%s%s=\"", out->n > 0 ? "," : "", name) == RC_OK);
    for (size_t i = 0; i < n; i++) {
        svc_str piece = {value + i, 1};

        if (value[i] == '\n')
            piece = SVC_LIT("\\n");
        else if (value[i] == '"')
            piece = SVC_LIT("\\\"");
        else if (value[i] == '\\')
            piece = SVC_LIT("\\\\");
        SVC_ASSERT(svc_buf_add_str(out, piece) == RC_OK);
    }
    SVC_ASSERT(svc_buf_add_str(out, SVC_LIT("\"")) == RC_OK);
}

/* Gives the text of a value; free() it. */
static char *
text_of(svc_label label, const char *value, const char *second)
{
    const svc_label_row_t *row = &svc_label_rows[label];
    svc_buf_t text;
    char *copy;

    svc_buf_init(&text, MAX_BYTES_OF_TEXT);
    if (row->names[0] != NULL)
        add_label(&text, row->names[0], value);
    if (row->names[1] != NULL)
        add_label(&text, row->names[1], second);
    copy = svc_str_dup(svc_buf_str(&text));
    svc_buf_fini(&text);
    return copy;
}

/* Takes the text; gives its row, 0 when there is no room. */
static uint16_t
add_row(svc_metrics_t *self, svc_label label, char *text)
{
    svc_label_values_t *values = &self->labels[label];
    uint16_t n = (uint16_t)atomic_load_explicit(&values->n, memory_order_relaxed);

    if (n == svc_label_rows[label].max) {
        free(text);
        return 0;
    }
    values->texts[n] = text;
    atomic_store_explicit(&values->n, n + 1, memory_order_release);
    return n;
}

uint16_t
svc_metrics_label(svc_metrics_t *self, svc_label label, const char *value,
                  const char *second)
{
    uint16_t row = 0, n;
    char *text;

    SVC_ASSERT(label < SVC_L_COUNT);
    if (self == NULL)
        return 0;
    text = text_of(label, value, second);
    SVC_ASSERT(pthread_mutex_lock(&self->mutex) == 0);
    n = (uint16_t)atomic_load_explicit(&self->labels[label].n, memory_order_relaxed);
    while (row < n && strcmp(self->labels[label].texts[row], text) != 0)
        row++;
    if (row < n)
        free(text);
    else
        row = add_row(self, label, text);
    SVC_ASSERT(pthread_mutex_unlock(&self->mutex) == 0);
    return row;
}

uint16_t
svc_metrics_code(svc_rc rc)
{
    return (uint16_t)((unsigned)rc < RC_COUNT ? rc + 1 : 0);
}

/* --- life -------------------------------------------------------------------------------- */

static void
open_label(svc_metrics_t *self, svc_label label)
{
    svc_label_values_t *values = &self->labels[label];

    values->texts = svc_alloc(svc_label_rows[label].max * sizeof(*values->texts));
    atomic_init(&values->n, 0);
    (void)add_row(self, label, text_of(label, "other", "other"));
}

size_t
svc_family_width(const svc_family_row_t *family)
{
    return family->bounds == NULL ? 1 : family->bounds->n + 2;
}

svc_metrics_t *
svc_metrics_new(void)
{
    svc_metrics_t *self = svc_alloc(sizeof(*self));
    size_t n = SVC_M_COUNT; /* numbers in a shard */

    SVC_ASSERT(pthread_mutex_init(&self->mutex, NULL) == 0);
    self->born_ms = svc_unix_ms();
    for (size_t i = 0; i < SVC_L_COUNT; i++)
        open_label(self, (svc_label)i);
    for (svc_rc rc = RC_OK; rc < RC_COUNT; rc++)
        SVC_ASSERT(
            add_row(self, SVC_L_CODE, text_of(SVC_L_CODE, svc_rc_info(rc)->wire, NULL)) ==
            svc_metrics_code(rc));
    for (size_t i = 0; i < SVC_F_COUNT; i++) {
        const svc_family_row_t *family = &svc_family_rows[i];

        self->first[i] = n;
        n += (size_t)svc_label_rows[family->row].max *
             svc_label_rows[family->column].max * svc_family_width(family);
    }
    for (size_t i = 0; i < SVC_METRICS_SHARDS; i++)
        self->shards[i] = svc_alloc(n * sizeof(*self->shards[i]));
    return self;
}

void
svc_metrics_destroy(svc_metrics_t **self_p)
{
    svc_metrics_t *self = self_p == NULL ? NULL : *self_p;

    if (self == NULL)
        return;
    for (size_t i = 0; i < SVC_L_COUNT; i++) {
        for (size_t row = 0; row < atomic_load(&self->labels[i].n); row++)
            free(self->labels[i].texts[row]);
        free(self->labels[i].texts);
    }
    for (size_t i = 0; i < SVC_METRICS_SHARDS; i++)
        free(self->shards[i]);
    pthread_mutex_destroy(&self->mutex);
    free(self);
    *self_p = NULL;
}

/* --- counting ---------------------------------------------------------------------------- */

/* The numbers of the core that we run on. A thread may be moved right after: its add is atomic all the same. */
static atomic_uint_fast64_t *
shard_here(const svc_metrics_t *self)
{
    const int cpu =
        sched_getcpu(); /* glibc reads it where the kernel keeps it for each thread */

    return self->shards[cpu < 0 ? 0 : (unsigned)cpu % SVC_METRICS_SHARDS];
}

/* Where a row and column of a family begins in a shard. */
static size_t
place_of(const svc_metrics_t *self, svc_family family, uint16_t row, uint16_t column)
{
    const svc_family_row_t *at = &svc_family_rows[family];
    const size_t columns = svc_label_rows[at->column].max;

    SVC_ASSERT(family < SVC_F_COUNT && row < svc_label_rows[at->row].max &&
               column < columns);
    return self->first[family] + (row * columns + column) * svc_family_width(at);
}

static uint64_t
sum_of(const svc_metrics_t *self, size_t place)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < SVC_METRICS_SHARDS; i++)
        sum += atomic_load_explicit(&self->shards[i][place], memory_order_relaxed);
    return sum;
}

void
svc_metrics_add(svc_metrics_t *self, svc_metric metric, uint64_t n)
{
    SVC_ASSERT(metric < SVC_M_COUNT);
    if (self != NULL)
        atomic_fetch_add_explicit(&shard_here(self)[metric], n, memory_order_relaxed);
}

uint64_t
svc_metrics_get(const svc_metrics_t *self, svc_metric metric)
{
    SVC_ASSERT(metric < SVC_M_COUNT);
    return sum_of(self, (size_t)metric);
}

void
svc_metrics_count(svc_metrics_t *self, svc_family family, uint16_t row, uint16_t column,
                  int64_t n)
{
    if (self != NULL)
        atomic_fetch_add_explicit(&shard_here(self)[place_of(self, family, row, column)],
                                  (uint64_t)n, memory_order_relaxed);
}

void
svc_metrics_observe(svc_metrics_t *self, svc_family family, uint16_t row, uint64_t value)
{
    const svc_bounds_t *bounds = svc_family_rows[family].bounds;
    atomic_uint_fast64_t *cells;
    size_t i = 0;

    SVC_ASSERT(bounds != NULL);
    if (self == NULL)
        return;
    cells = &shard_here(self)[place_of(self, family, row, 0)];
    while (i < bounds->n && value > bounds->at[i])
        i++;
    atomic_fetch_add_explicit(&cells[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&cells[bounds->n + 1], value, memory_order_relaxed);
}

uint64_t
svc_family_read(const svc_metrics_t *self, svc_family family, uint16_t row,
                uint16_t column, size_t i)
{
    return sum_of(self, place_of(self, family, row, column) + i);
}

int64_t
svc_metrics_read(const svc_metrics_t *self, svc_family family, uint16_t row,
                 uint16_t column)
{
    const svc_bounds_t *bounds = svc_family_rows[family].bounds;
    uint64_t sum = 0;

    for (size_t i = 0; i < (bounds == NULL ? 1 : bounds->n + 1); i++)
        sum += svc_family_read(self, family, row, column, i);
    return (int64_t)sum;
}

const char *
svc_metrics_name(svc_metric metric)
{
    SVC_ASSERT(metric < SVC_M_COUNT);
    return svc_counter_rows[metric].name;
}
