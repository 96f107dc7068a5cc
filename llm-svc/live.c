/* live.c - entries in two hash tables (by stream, by kept call) and one list of the touched.
 *
 *   provider -- text, end --> entry --touch--> dirty list --end of turn--> generation_step
 *   owner ------ ack, stop -----^                                             |      |
 *   timer -----------------------^----------------- next due time ------------'     out
 *
 * Generations only act in flush(), never inside a handler or a provider's callback, so nothing
 * re-enters. An entry is freed in flush() and in live_destroy() only. Its timer is moved only if
 * something is due earlier: one that fires too early finds nothing to do and is set again. */
#include "live.h"

#include "live_metrics.h"
#include "stop_list.h"
#include "svc/svc_table.h"

#include <inttypes.h>
#include <stdlib.h>

#define ATTEMPT_SHIFT    48 /* a fence has the number of the attempt above its random bits */
#define INTERRUPTED_TEXT "The service that wrote this answer was stopped."
#define BAD_KEY_TEXT     "The API key holds characters that no key has."

typedef struct entry entry_t;

struct entry {
    svc_table_node_t
        by_stream; /* first: cast from table nodes; key is the stream's first half */
    svc_table_node_t by_call;      /* in the table while call != 0 */
    live_t *live;                  /* whose it is */
    generation_t *generation;      /* owned */
    provider_t *provider;          /* borrowed */
    provider_job_t *job;           /* NULL before the start and after the end */
    uint64_t call;                 /* key of by_call, 0: not in the table */
    uint64_t began_ms;             /* for the log */
    char trace[PROTO_TRACE_BYTES]; /* of the question, likewise */
    bool has_trace;                /* it is known */
    bool tells_trace;              /* with the next piece: the owner may not know it */
    live_metrics_t metrics;        /* what is counted of it */
    uint64_t timer;                /* 0: none */
    uint64_t timer_ms;             /* when it fires */
    entry_t *next_dirty;           /* in live's list */
    bool dirty;                    /* in the list */
};

struct live {
    svc_ctx_t *ctx;               /* borrowed */
    const model_router_t *router; /* borrowed */
    const live_out_t *out;        /* borrowed */
    void *arg;                    /* for out */
    uint64_t max_answer_bytes;    /* of a new one */
    svc_table_t streams;          /* owns the entries */
    svc_table_t calls;            /* by_call of those that have one */
    stop_list_t *stops;           /* owned */
    entry_t *dirty;               /* to act at the end of this turn */
    uint64_t drain_timer;         /* end of the grace time */
    bool draining;                /* takes nothing new */
};

static uint64_t
now_of(const live_t *self)
{
    return svc_loop_now_ms(self->ctx->loop);
}

static void
touch(entry_t *entry)
{
    if (entry->dirty)
        return;
    entry->dirty = true;
    entry->next_dirty = entry->live->dirty;
    entry->live->dirty = entry;
}

static entry_t *
entry_of_call(svc_table_node_t *node)
{
    return node == NULL ? NULL : (entry_t *)((char *)node - offsetof(entry_t, by_call));
}

/* Streams are random: that two differ in their second half only is an attack, or a
 * miracle. */
static uint64_t
key_of(svc_str stream)
{
    uint64_t key;

    memcpy(&key, stream.p, sizeof(key));
    return key;
}

static entry_t *
find(const live_t *self, svc_str stream)
{
    entry_t *entry = (entry_t *)svc_table_get(&self->streams, key_of(stream));

    if (entry == NULL || !svc_str_eq(generation_stream(entry->generation), stream))
        return NULL;
    return entry;
}

/* Keeps the table of calls as the generation has it. */
static void
update_call(entry_t *entry)
{
    uint64_t call = generation_call(entry->generation);

    if (call == entry->call)
        return;
    if (entry->call != 0)
        svc_table_remove(&entry->live->calls, entry->call);
    entry->call = call;
    if (call != 0)
        svc_table_add(&entry->live->calls, &entry->by_call, call);
}

/* --- the provider ------------------------------------------------------------------ */

static void
cancel_provider(entry_t *entry, live_parting why)
{
    provider_job_t *job = entry->job;

    entry->job = NULL;
    live_metrics_part(&entry->metrics, why);
    if (job != NULL)
        entry->provider->cancel(job);
}

/* What the entry's lines are about; good as long as the entry. */
static svc_log_about_t
about(const entry_t *entry)
{
    return (svc_log_about_t){
        .trace = {entry->trace, entry->has_trace ? sizeof(entry->trace) : 0},
        .stream = generation_stream(entry->generation)};
}

static void
log_end(const entry_t *entry, const char *how)
{
    const svc_log_about_t it = about(entry);

    svc_log_about(entry->live->ctx->log, SVC_LOG_INFO, &it,
                  "generation by %s ended: %s, %" PRIu64 " bytes, %" PRIu64 " ms",
                  entry->provider->name, how, generation_length(entry->generation),
                  now_of(entry->live) - entry->began_ms);
}

static void
on_text(void *arg, svc_str text)
{
    entry_t *entry = arg;

    live_metrics_text(&entry->metrics, text.n);
    generation_append(entry->generation, text, now_of(entry->live));
    touch(entry);
    if (generation_has_ended(entry->generation)) {
        log_end(entry, "cut, too long");
        cancel_provider(entry, PARTED_CUT);
    }
}

static void
on_end(void *arg, const ending_t *ending)
{
    entry_t *entry = arg;

    entry->job = NULL;
    live_metrics_end(&entry->metrics, entry->provider->name, ending);
    generation_end(entry->generation, ending);
    touch(entry);
    log_end(entry, svc_rc_info(ending->error)->wire);
    if (ending->error != RC_OK) {
        svc_metrics_add(entry->live->ctx->metrics, SVC_M_UPSTREAM_ERRORS, 1);
        const svc_log_about_t it = about(entry);
        svc_log_about(entry->live->ctx->log, SVC_LOG_WARN, &it, "provider %s: %.*s",
                      entry->provider->name, (int)ending->text.n, ending->text.p);
    }
}

static const provider_sink_t provider_sink = {.text = on_text, .end = on_end};

static void
start_provider(entry_t *entry, const generate_req_t *req)
{
    const svc_log_about_t it = about(entry);

    svc_log_about(entry->live->ctx->log, SVC_LOG_INFO, &it,
                  "generation by %s begins: attempt %" PRIu64, entry->provider->name,
                  req->fence >> ATTEMPT_SHIFT);
    svc_rc rc = entry->provider->start(entry->provider, req, it.trace, &provider_sink,
                                       entry, &entry->job);

    if (rc == RC_OK)
        return;
    entry->job = NULL;
    ending_t ending = {.error = rc, .cause = CAUSE_REFUSED};
    if (rc == RC_UPSTREAM_AUTH) {
        ending.cause = CAUSE_KEY;
        ending.text = SVC_LIT(BAD_KEY_TEXT);
    }
    on_end(entry, &ending);
}

/* --- what generations send --------------------------------------------------------- */

static svc_rc
send_piece(void *arg, uint64_t call, const journal_rep_t *piece, bool final)
{
    entry_t *entry = arg;
    svc_fault_t *fault = entry->live->ctx->fault;

    journal_rep_t traced = *piece;

    if (entry->tells_trace)
        traced.trace = about(entry).trace;
    svc_metrics_add(entry->live->ctx->metrics, SVC_M_JOURNAL_PIECES, 1);
    if (final || piece->bytes.n > 0)
        svc_fault_at(fault,
                     final ? FAULT_GENERATE_BEFORE_FINAL : FAULT_GENERATE_BEFORE_PIECE);
    svc_rc rc = entry->live->out->reply(entry->live->arg, call, &traced, final);
    if (rc == RC_OK)
        entry->tells_trace = false;
    if (final || piece->bytes.n > 0)
        svc_fault_at(fault,
                     final ? FAULT_GENERATE_AFTER_FINAL : FAULT_GENERATE_AFTER_PIECE);
    return rc;
}

static void
send_token(void *arg, const proto_token_t *token)
{
    entry_t *entry = arg;

    entry->live->out->publish(entry->live->arg, token);
    if (token->kind == PROTO_TOKEN_TEXT && token->offset == 0)
        svc_fault_at(entry->live->ctx->fault, FAULT_GENERATE_GATE_OPENED);
}

static void
give_up(void *arg, uint64_t call)
{
    entry_t *entry = arg;

    entry->live->out->release(entry->live->arg, call, RC_TIMEOUT);
}

static const generation_out_t generation_out = {
    .journal = send_piece, .give_up = give_up, .publish = send_token};

/* --- turns and timers -------------------------------------------------------------- */

/* A generation that has run its course, or that another one replaces. */
static void
count_waste(const entry_t *entry)
{
    if (generation_is_wasted(entry->generation))
        svc_metrics_add(entry->live->ctx->metrics, SVC_M_GENERATIONS_WASTED, 1);
}

static void
free_entry(entry_t *entry)
{
    live_t *self = entry->live;

    cancel_provider(entry, PARTED_REPLACED);
    svc_loop_cancel(self->ctx->loop, entry->timer);
    if (entry->call != 0)
        svc_table_remove(&self->calls, entry->call);
    svc_table_remove(&self->streams, entry->by_stream.key);
    generation_destroy(&entry->generation);
    free(entry);
}

static void
on_timer(void *arg, short events)
{
    entry_t *entry = arg;
    (void)events;

    entry->timer = 0;
    touch(entry);
}

static void
set_timer(entry_t *entry, uint64_t due, uint64_t now)
{
    svc_loop_t *loop = entry->live->ctx->loop;

    if (due == UINT64_MAX || (entry->timer != 0 && entry->timer_ms <= due))
        return;
    svc_loop_cancel(loop, entry->timer);
    entry->timer_ms = due;
    entry->timer = svc_loop_after(loop, due > now ? due - now : 0, on_timer, entry);
}

/* At the end of each turn: everyone who was touched acts. */
static int
flush(void *arg)
{
    live_t *self = arg;
    uint64_t now = now_of(self);
    entry_t *entry = self->dirty;
    bool had = entry != NULL;

    if (svc_loop_is_catching_up(self->ctx->loop))
        return 0; /* on_stall comes first */
    self->dirty = NULL;
    while (entry != NULL) {
        entry_t *next = entry->next_dirty;
        uint64_t due = generation_step(entry->generation, now);

        update_call(entry);
        entry->dirty =
            false; /* not before: what it sends may touch it, and it may be freed here */
        if (generation_is_over(entry->generation, now)) {
            count_waste(entry);
            free_entry(entry);
        } else
            set_timer(entry, due, now);
        entry = next;
    }
    if (had && self->draining && self->streams.n == 0)
        self->out->drained(self->arg);
    return -1;
}

/* We stood still: what the owners of the answers think of us is not known any more. */
static void
on_stall(void *arg, short events)
{
    live_t *self = arg;

    (void)events;
    for (size_t i = 0; i < self->streams.n_buckets; i++)
        for (svc_table_node_t *n = self->streams.buckets[i]; n != NULL; n = n->next)
            generation_doubt(((entry_t *)n)->generation, now_of(self));
}

/* --- life -------------------------------------------------------------------------- */

live_t *
live_new(svc_ctx_t *ctx, const model_router_t *router, const live_out_t *out, void *arg)
{
    live_t *self = svc_alloc(sizeof(*self));

    self->ctx = ctx;
    live_set(self, router, ctx->config->llm_max_answer_bytes);
    self->out = out;
    self->arg = arg;
    self->stops = stop_list_new();
    live_metrics_name(ctx->metrics);
    svc_loop_on_turn(ctx->loop, flush, self);
    svc_loop_on_stall(ctx->loop, on_stall, self);
    return self;
}

void
live_set(live_t *self, const model_router_t *router, uint64_t max_answer_bytes)
{
    self->router = router;
    self->max_answer_bytes = max_answer_bytes;
}

void
live_destroy(live_t **self_p)
{
    live_t *self = *self_p;
    size_t from = 0;
    svc_table_node_t *node;

    if (self == NULL)
        return;
    while ((node = svc_table_any(&self->streams, &from)) != NULL)
        free_entry((entry_t *)node);
    svc_table_fini(&self->streams);
    svc_table_fini(&self->calls);
    svc_loop_cancel(self->ctx->loop, self->drain_timer);
    svc_loop_off_stall(self->ctx->loop, self);
    stop_list_destroy(&self->stops);
    free(self);
    *self_p = NULL;
}

/* --- operations -------------------------------------------------------------------- */

/* The call that the generation had until now is not answered any more. */
static void
release_call(entry_t *entry, uint64_t term)
{
    uint64_t call = generation_call(entry->generation);

    if (call != 0)
        entry->live->out->release(entry->live->arg, call,
                                  term > generation_term(entry->generation) ? RC_STALE
                                                                            : RC_OK);
}

/* Its owner asks on: after a connection was lost, or as another process, which need not know the trace. */
static void
log_attach(const entry_t *entry, uint64_t old_term, uint64_t from)
{
    const svc_log_about_t it = about(entry);
    uint64_t term = generation_term(entry->generation);

    svc_log_about(entry->live->ctx->log, SVC_LOG_INFO, &it,
                  "%s: the journal goes on at byte %" PRIu64 ", term %" PRIu64,
                  term > old_term ? "taken over by another convo-svc"
                                  : "attached to anew",
                  from, term);
}

static svc_rc
attach(entry_t *entry, uint64_t term, uint64_t from, uint64_t call)
{
    uint64_t old = generation_call(entry->generation);
    uint64_t old_term = generation_term(entry->generation);
    svc_rc rc = generation_attach(entry->generation, term, from, call,
                                  now_of(entry->live));

    if (rc != RC_OK)
        return rc;
    log_attach(entry, old_term, from);
    entry->tells_trace = true;
    update_call(entry);
    if (old != 0 && old != call)
        entry->live->out->release(entry->live->arg, old,
                                  term > old_term ? RC_STALE : RC_OK);
    touch(entry);
    return RC_LATER;
}

/* A generation for req in `entry`, which has none (any more). */
static void
fill_entry(entry_t *entry, const generate_req_t *req, svc_str trace, provider_t *provider,
           uint16_t metric, uint64_t call)
{
    live_t *self = entry->live;
    uint64_t now = now_of(self);

    entry->provider = provider;
    entry->began_ms = now;
    entry->has_trace = trace.n == sizeof(entry->trace);
    if (entry->has_trace)
        memcpy(entry->trace, trace.p, sizeof(entry->trace));
    entry->generation = generation_new(req, call, (size_t)self->max_answer_bytes,
                                       &generation_out, entry, now);
    update_call(entry);
    touch(entry);
    svc_metrics_add(self->ctx->metrics, SVC_M_GENERATIONS, 1);
    live_metrics_begin(&entry->metrics, self->ctx->metrics, metric);
    if (stop_list_has(self->stops, req->stream, req->fence, now)) {
        (void)!generation_stop(entry->generation, req->term, now);
        live_metrics_part(&entry->metrics, PARTED_STOPPED);
    } else
        start_provider(entry, req);
}

/* What to do with a generate for a stream that is known. RC_OK: replace it. */
static svc_rc
judge_known(entry_t *entry, const generate_req_t *req, uint64_t call)
{
    uint64_t fence = generation_fence(entry->generation);
    uint64_t term = generation_term(entry->generation);

    if (fence == req->fence) {
        if (req->term < term)
            return RC_CONFLICT;
        return attach(entry, req->term, 0, call);
    }
    if (req->term < term || req->fence >> ATTEMPT_SHIFT < fence >> ATTEMPT_SHIFT)
        return RC_STALE;
    return RC_OK;
}

svc_rc
live_generate(live_t *self, const generate_req_t *req, svc_str trace, uint64_t call)
{
    entry_t *entry = find(self, req->stream);
    uint16_t metric = 0;
    provider_t *provider = model_router_find(self->router, req->model, &metric);

    if (entry != NULL) {
        svc_rc rc = judge_known(entry, req, call);
        if (rc != RC_OK)
            return rc;
    }
    if (self->draining)
        return RC_UNAVAILABLE;
    if (provider == NULL)
        return RC_UNKNOWN_MODEL;
    if (entry != NULL) {
        release_call(entry, req->term);
        if (!generation_has_ended(entry->generation))
            log_end(entry, "another attempt takes its place");
        cancel_provider(entry, PARTED_REPLACED);
        count_waste(entry);
        generation_destroy(&entry->generation);
    } else {
        if (self->streams.n >= LIVE_MAX ||
            svc_table_get(&self->streams, key_of(req->stream)) != NULL)
            return RC_BUSY;
        entry = svc_alloc(sizeof(*entry));
        entry->live = self;
        svc_table_add(&self->streams, &entry->by_stream, key_of(req->stream));
    }
    fill_entry(entry, req, trace, provider, metric, call);
    return RC_LATER;
}

/* The entry of this stream and fence. RC_NOT_FOUND: unknown, or known with an older
 * text; RC_STALE: with a newer one. */
static svc_rc
find_text(const live_t *self, svc_str stream, uint64_t fence, entry_t **out)
{
    entry_t *entry = find(self, stream);

    if (entry == NULL)
        return RC_NOT_FOUND;
    uint64_t known = generation_fence(entry->generation);
    if (known != fence)
        return fence >> ATTEMPT_SHIFT > known >> ATTEMPT_SHIFT ? RC_NOT_FOUND : RC_STALE;
    *out = entry;
    return RC_OK;
}

svc_rc
live_attach(live_t *self, const attach_req_t *req, uint64_t call)
{
    entry_t *entry;
    svc_rc rc = find_text(self, req->stream, req->fence, &entry);

    return rc == RC_OK ? attach(entry, req->term, req->from, call) : rc;
}

svc_rc
live_ack(live_t *self, const ack_req_t *req)
{
    entry_t *entry;
    svc_rc rc = find_text(self, req->stream, req->fence, &entry);

    if (rc != RC_OK)
        return rc;
    rc = generation_ack(entry->generation, req, now_of(self));
    touch(entry);
    return rc;
}

svc_rc
live_stop(live_t *self, const llm_stop_req_t *req)
{
    entry_t *entry;
    svc_rc rc = find_text(self, req->stream, req->fence, &entry);

    if (rc == RC_NOT_FOUND) {
        stop_list_add(self->stops, req->stream, req->fence, now_of(self));
        return RC_OK;
    }
    if (rc != RC_OK)
        return rc;
    bool had_ended = generation_has_ended(entry->generation);
    rc = generation_stop(entry->generation, req->term, now_of(self));
    if (rc != RC_OK)
        return rc;
    if (!had_ended) {
        log_end(entry, "stopped");
        cancel_provider(entry, PARTED_STOPPED);
    }
    touch(entry);
    return RC_OK;
}

svc_rc
live_replay(live_t *self, const replay_req_t *req, replay_rep_t *out)
{
    entry_t *entry;
    svc_rc rc = find_text(self, req->stream, req->fence, &entry);

    return rc == RC_OK ? generation_replay(entry->generation, req->from, out) : rc;
}

void
live_call_gone(live_t *self, uint64_t call)
{
    entry_t *entry = entry_of_call(svc_table_get(&self->calls, call));

    if (entry == NULL)
        return;
    generation_call_gone(entry->generation, call, now_of(self));
    update_call(entry);
    touch(entry);
}

/* --- the end of the process -------------------------------------------------------- */

/* The grace time is over: whoever still writes is cut off, with all its text. */
static void
interrupt_all(void *arg, short events)
{
    live_t *self = arg;
    ending_t ending = {.error = RC_LOST, .text = SVC_LIT(INTERRUPTED_TEXT)};
    (void)events;

    self->drain_timer = 0;
    for (size_t i = 0; i < self->streams.n_buckets; i++)
        for (svc_table_node_t *n = self->streams.buckets[i]; n != NULL; n = n->next) {
            entry_t *entry = (entry_t *)n;
            if (!generation_has_ended(entry->generation)) {
                generation_end(entry->generation, &ending);
                log_end(entry, "interrupted, shutting down");
                cancel_provider(entry, PARTED_INTERRUPTED);
            }
            touch(entry);
        }
}

void
live_drain(live_t *self, uint64_t grace_ms)
{
    if (self->draining)
        return;
    self->draining = true;
    if (self->streams.n == 0)
        self->out->drained(self->arg);
    else
        self->drain_timer = svc_loop_after(self->ctx->loop, grace_ms, interrupt_all,
                                           self);
}
