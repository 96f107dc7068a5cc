/* answers.c - the table of all live answers.
 *
 * Found by stream (chains over the first bytes, which are random), by conversation and by handle;
 * a list of all serves the tick. Whoever lets an answer do something sweeps it afterwards: an
 * answer that is over never frees itself, since its functions are still on the stack then. */
#include "answers_private.h"

#include "svc/svc_secret.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>

/* --- finding ---------------------------------------------------------------------------------- */

static live_t **
bucket_of(answers_t *self, svc_str stream)
{
    uint64_t head;

    memcpy(&head, stream.p, sizeof(head));
    return &self->by_stream[(head * 0x9e3779b97f4a7c15u) >> 52 & (ANSWERS_BUCKETS - 1)];
}

static live_t *
find_stream(answers_t *self, svc_str stream)
{
    live_t *live = stream.n == PROTO_STREAM_BYTES ? *bucket_of(self, stream) : NULL;

    while (live != NULL && !svc_str_eq(answer_stream(live->answer), stream))
        live = live->next_in_bucket;
    return live;
}

static live_t *
find_conversation(answers_t *self, uint64_t conversation)
{
    svc_table_node_t *node = svc_table_get(&self->by_conversation, conversation);

    return node == NULL ? NULL
                        : (live_t *)((char *)node - offsetof(live_t, by_conversation));
}

answer_t *
answers_by_stream(answers_t *self, svc_str stream)
{
    live_t *live = find_stream(self, stream);

    return live == NULL ? NULL : live->answer;
}

answer_t *
answers_by_conversation(answers_t *self, uint64_t conversation)
{
    live_t *live = find_conversation(self, conversation);

    return live == NULL ? NULL : live->answer;
}

size_t
answers_count(const answers_t *self)
{
    return self->by_handle.n;
}

size_t
answers_busy(const answers_t *self)
{
    size_t n = 0;

    for (const live_t *live = self->first; live != NULL; live = live->next)
        n += answer_is_busy(live->answer) ? 1 : 0;
    return n;
}

/* --- adding, removing ------------------------------------------------------------------------- */

static void
remove_live(answers_t *self, live_t *live)
{
    live_t **at = bucket_of(self, answer_stream(live->answer));

    while (*at != live)
        at = &(*at)->next_in_bucket;
    *at = live->next_in_bucket;
    *(live->prev != NULL ? &live->prev->next : &self->first) = live->next;
    if (live->next != NULL)
        live->next->prev = live->prev;
    (void)svc_table_remove(&self->by_handle, live->by_handle.key);
    (void)svc_table_remove(&self->by_conversation, live->by_conversation.key);
    svc_metrics_count(self->ctx->metrics, SVC_F_ANSWERS_LIVE, 0, 0, -1);
    answer_destroy(&live->answer);
    free(live);
}

/* Removes what a row proves to be over: an answer of the same conversation, or the same one with an older term. True: the
 * very one of the row is there already. */
static bool
is_there(answers_t *self, const answer_row_t *row)
{
    live_t *live = find_conversation(self, row->conversation);

    if (live == NULL)
        return false;
    if (svc_str_eq(answer_stream(live->answer), row->stream) &&
        answer_term(live->answer) >= row->term)
        return true;
    answer_give_up(live->answer);
    remove_live(self, live);
    return false;
}

void
answers_set_trace(live_t *live, svc_str trace)
{
    memcpy(live->trace, trace.p, sizeof(live->trace));
    live->has_trace = true;
    live->is_own_trace = false;
}

/* Whose question it was is not known here, or not yet: what is logged until then stands together, and its stream says to
 * what it belongs. */
static void
make_trace(live_t *live)
{
    svc_random(live->trace, sizeof(live->trace));
    live->has_trace = live->is_own_trace = true;
}

/* It was asked of another process, or of an earlier start of this one. */
static void
take_up(live_t *live, const answer_row_t *row)
{
    svc_log_about_t about = {.stream = answer_stream(live->answer)};

    make_trace(live);
    about.trace = (svc_str){live->trace, sizeof(live->trace)};
    svc_log_about(live->table->ctx->log, SVC_LOG_INFO, &about,
                  "an unfinished answer is taken over here: %s, %" PRIu64
                  " bytes are stored, term %" PRIu64,
                  answer_state_names[row->state], row->length, row->term);
}

answer_t *
answers_add(answers_t *self, const answer_row_t *row, bool is_known)
{
    live_t **bucket;
    live_t *live;

    if (is_there(self, row))
        return answers_by_stream(self, row->stream);
    live = svc_alloc(sizeof(*live));
    live->table = self;
    live->answer = answer_new(row, is_known, &answers_out, live);
    live->born = self->looks;
    svc_metrics_count(self->ctx->metrics, SVC_F_ANSWERS_LIVE, 0, 0, 1);
    svc_table_add(&self->by_handle, &live->by_handle, ++self->handles);
    svc_table_add(&self->by_conversation, &live->by_conversation, row->conversation);
    bucket = bucket_of(self, row->stream);
    live->next_in_bucket = *bucket;
    *bucket = live;
    live->next = self->first;
    if (live->next != NULL)
        live->next->prev = live;
    self->first = live;
    if (!is_known)
        take_up(live, row);
    return live->answer;
}

void
answers_sweep(answers_t *self, live_t *live)
{
    if (answer_is_over(live->answer))
        remove_live(self, live);
}

/* --- life ------------------------------------------------------------------------------------- */

/* Calls fn for each answer; each may end by it. */
static void
for_each(answers_t *self, void (*fn)(answer_t *answer))
{
    live_t *next;

    for (live_t *live = self->first; live != NULL; live = next) {
        next = live->next;
        fn(live->answer);
        answers_sweep(self, live);
    }
}

static void
on_tick(void *arg, short events)
{
    (void)events;
    for_each(arg, answer_on_tick);
}

static void
on_stall(void *arg, short events)
{
    (void)events;
    for_each(arg, answer_on_stall);
}

answers_t *
answers_new(svc_ctx_t *ctx)
{
    answers_t *self = svc_alloc(sizeof(*self));

    self->ctx = ctx;
    svc_buf_init(&self->out, PROTO_PIECE_MAX_BYTES + 8192);
    self->timer = svc_loop_every(ctx->loop, ANSWERS_TICK_MS, on_tick, self);
    svc_loop_on_stall(ctx->loop, on_stall, self);
    self->arena = proto_arena_new();
    return self;
}

void
answers_set(answers_t *self, svc_server_t *server, svc_pool_t *writer, svc_pool_t *reader,
            svc_peers_t *llm)
{
    self->server = server;
    self->writer = writer;
    self->reader = reader;
    self->llm = llm;
}

void
answers_set_admission(answers_t *self, bool (*admits)(const void *arg), const void *arg)
{
    self->admits = admits;
    self->admits_arg = arg;
}

void
answers_set_away(answers_t *self, const atomic_uint_least64_t *away_ms)
{
    self->away_ms = away_ms;
}

void
answers_destroy(answers_t **self_p)
{
    answers_t *self = *self_p;

    if (self == NULL)
        return;
    svc_loop_cancel(self->ctx->loop, self->timer);
    svc_loop_off_stall(self->ctx->loop, self);
    while (self->first != NULL)
        remove_live(self, self->first);
    svc_table_fini(&self->by_handle);
    svc_table_fini(&self->by_conversation);
    svc_buf_fini(&self->out);
    proto_arena_destroy(&self->arena);
    free(self);
    *self_p = NULL;
}

void
answers_begin(answers_t *self, answer_t *answer, svc_str trace, svc_str prompt)
{
    live_t *live = find_stream(self, answer_stream(answer));

    if (live->has_begun)
        return;
    live->has_begun = true;
    if (trace.n == sizeof(live->trace))
        answers_set_trace(live, trace);
    else if (!live->has_trace)
        make_trace(live);
    live->ready = prompt;
    answer_begin(answer);
    answers_send_ready(live);
    live->ready = (svc_str){NULL, 0};
    answers_sweep(self, live);
}

void
answers_begin_all(answers_t *self)
{
    for_each(self, answer_begin);
}

/* --- what comes from outside ------------------------------------------------------------------ */

/* The call was cancelled, or its caller is gone. `arg` outlives it: an answer finishes its calls before it goes. */
static void
on_cancel(void *arg, uint64_t call_id)
{
    live_t *live = arg;

    answer_unwatch(live->answer, call_id);
}

typedef struct {
    answers_t *table;
    const svc_call_t *by;
    uint64_t own, any; /* oldest watch of the same caller, and of all; 0: none */
} oldest_t;

static void
look_for_oldest(void *arg, uint64_t call_id)
{
    oldest_t *self = arg;
    const svc_call_t *call = svc_server_call(self->table->server, call_id);

    if (call != NULL && svc_call_is_same_caller(call, self->by) &&
        (self->own == 0 || call_id < self->own))
        self->own = call_id;
    if (self->any == 0 || call_id < self->any)
        self->any = call_id;
}

/* A caller does not say that it has forgotten a watch, so those of many short readers stay until their time is over. The oldest one makes
 * room, the caller's own if there is one; should it be wanted after all, who hears the refusal asks anew. */
static void
make_room(answers_t *self, answer_t *answer, const svc_call_t *by)
{
    oldest_t found = {self, by, 0, 0};
    svc_call_t *oldest;

    answer_each_watcher(answer, look_for_oldest, &found);
    if (found.own == 0)
        found.own = found.any;
    answer_unwatch(answer, found.own);
    oldest = svc_server_call(self->server, found.own);
    if (oldest != NULL)
        svc_call_finish(oldest, RC_UNAVAILABLE, NULL);
}

svc_rc
answers_watch(answers_t *self, answer_t *answer, svc_call_t *call)
{
    live_t *live = find_stream(self, answer_stream(answer));
    svc_rc rc;

    svc_call_on_cancel(call, on_cancel, live);
    rc = answer_watch(answer, svc_call_id(call));
    if (rc != RC_BUSY)
        return rc;
    make_room(self, answer, call);
    return answer_watch(answer, svc_call_id(call));
}

svc_rc
answers_watch_end(answers_t *self, answer_t *answer, svc_call_t *call)
{
    live_t *live = find_stream(self, answer_stream(answer));
    svc_rc rc;

    svc_call_on_cancel(call, on_cancel, live);
    rc = answer_watch_end(answer, svc_call_id(call));
    if (rc != RC_BUSY)
        return rc;
    make_room(self, answer, call);
    return answer_watch_end(answer, svc_call_id(call));
}

typedef struct {
    live_t *live;
    const svc_call_t *by; /* who no longer watches */
} unwatch_t;

static void
drop_watch(void *arg, uint64_t call_id)
{
    const unwatch_t *unwatch = arg;
    svc_call_t *call = svc_server_call(unwatch->live->table->server, call_id);

    if (call == NULL || !svc_call_is_same_caller(call, unwatch->by))
        return;
    answer_unwatch(unwatch->live->answer, call_id);
    svc_call_drop(call);
}

void
answers_unwatch(answers_t *self, answer_t *answer, const svc_call_t *by)
{
    unwatch_t unwatch = {find_stream(self, answer_stream(answer)), by};

    answer_each_watcher(answer, drop_watch, &unwatch);
}

void
answers_stop(answers_t *self, answer_t *answer)
{
    live_t *live = find_stream(self, answer_stream(answer));

    answer_stop(answer);
    answers_sweep(self, live);
}

void
answers_delete(answers_t *self, answer_t *answer)
{
    live_t *live = find_stream(self, answer_stream(answer));

    answer_delete(answer);
    answers_sweep(self, live);
}

/* --- looks ------------------------------------------------------------------------------------ */

uint64_t
answers_begin_look(answers_t *self)
{
    return ++self->looks;
}

bool
answers_see(answers_t *self, const answer_row_t *row, uint64_t look)
{
    live_t *live = find_stream(self, row->stream);

    if (live == NULL || answer_term(live->answer) < row->term)
        return false;
    live->seen = look;
    live->is_doubted = false;
    if (row->stop_wanted)
        answers_stop(self, live->answer);
    return true;
}

void
answers_doubt_unseen(answers_t *self, uint64_t look)
{
    for (live_t *live = self->first; live != NULL; live = live->next)
        if (live->born < look && live->seen != look) {
            live->is_doubted = true;
            if (!answer_is_writing(live->answer))
                answer_doubt(live->answer);
        }
}

bool
answers_is_doubted(answers_t *self, const answer_t *answer)
{
    return find_stream(self, answer_stream(answer))->is_doubted;
}

/* --- llm-svc ---------------------------------------------------------------------------------- */

/* Remembers that an llm-svc was lost, or that it has come back. */
static void
note_lost(answers_t *self, uint64_t llm, bool is_lost)
{
    for (size_t i = 0; i < ANSWERS_LOST_MAX; i++)
        if (self->lost[i] == llm)
            self->lost[i] = 0;
    if (is_lost)
        self->lost[self->next_lost++ % ANSWERS_LOST_MAX] = llm;
}

void
answers_on_llm(void *arg, svc_peer_event event, uint64_t instance)
{
    answers_t *self = arg;
    live_t *next;

    note_lost(self, instance, event == SVC_PEER_LOST);
    for (live_t *live = self->first; live != NULL; live = next) {
        next = live->next;
        switch (event) {
        case SVC_PEER_UP: answer_on_llm_up(live->answer, instance); break;
        case SVC_PEER_DOWN: answer_on_llm_down(live->answer, instance); break;
        case SVC_PEER_LOST: answer_on_llm_lost(live->answer, instance); break;
        }
        answers_sweep(self, live);
    }
}
