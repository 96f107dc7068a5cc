/* feed_hub.c - all answers that are being read through one reactor.
 *
 * Feeds are found by their stream; ids are random, so their first eight bytes are a fine
 * key for the table. A feed that has failed keeps the viewers that have not heard of it
 * yet, but not its name: whoever comes then gets a new one. */
#include "feed_hub.h"
#include "svc/svc_table.h"
#include "svc/svc_time.h"

#include <stdlib.h>

#define TICK_MS 250
#define ALONE_TIMES \
    6 /* gateway.reattach_s: a frozen llm-svc is given up after 12 s, and again after a take-over, which
         waits for the database */
#define ALONE_MAX_BYTES (64u << 20) /* held for answers that nobody reads any more */

typedef struct entry {
    svc_table_node_t
        node;          /* key: of the stream, or of the feed itself once it has failed */
    live_feed_t *live; /* owned */
    uint64_t conversation; /* whose answer it is */
    bool is_subscribed;    /* its frames come in */
    bool is_alone;         /* in the hub's list of those */
    uint64_t alone_ms;     /* since when */
    size_t alone_bytes;    /* what it holds meanwhile */
    struct entry *next;    /* in that list */
} entry_t;

struct feed_hub {
    svc_ctx_t *ctx;     /* loop, metrics, config */
    live_bus_t bus;     /* for the feeds */
    token_sub_t *sub;   /* owned */
    meeting_t *meeting; /* of all reactors; NULL: nobody is told */
    size_t here;        /* our number in it */
    svc_table_t table;  /* of entry_t by stream, owned */
    svc_table_t
        failed;     /* of entry_t by address: others may have taken their names; owned */
    entry_t *alone; /* those without viewers, that hold what is not stored yet */
    size_t alone_bytes;  /* what they hold together */
    uint64_t tick_timer; /* 0: none */
    uint64_t came_us;    /* monotonic: the first frame of this turn; 0: none */
};

static uint64_t
stream_key(const void *stream)
{
    uint64_t key;

    memcpy(&key, stream, sizeof key);
    return key;
}

static uint64_t
feed_key(const live_feed_t *live)
{
    return (uint64_t)(uintptr_t)live;
}

static svc_str
stream_of(const entry_t *entry)
{
    return feed_stream(live_feed_feed(entry->live));
}

static entry_t *
entry_of(const feed_hub_t *self, svc_str stream)
{
    entry_t *entry = (entry_t *)svc_table_get(&self->table, stream_key(stream.p));

    return entry != NULL && svc_str_eq(stream_of(entry), stream) ? entry : NULL;
}

static void
on_token(void *arg, const proto_token_t *token)
{
    feed_hub_t *self = arg;
    entry_t *entry = entry_of(self, token->stream);

    if (self->came_us == 0)
        self->came_us = svc_mono_us();
    if (entry != NULL)
        live_feed_take_token(entry->live, token);
}

void
feed_hub_delivered(feed_hub_t *self)
{
    if (self->came_us != 0)
        svc_metrics_observe(self->ctx->metrics, SVC_F_DELIVERY_US, 0,
                            svc_mono_us() - self->came_us);
    self->came_us = 0;
}

static void sweep_alone(feed_hub_t *self);

/* --- all feeds ---------------------------------------------------------------------------- */

static void
for_each_in(const svc_table_t *table, void (*fn)(live_feed_t *))
{
    for (size_t i = 0; i < table->n_buckets; i++)
        for (svc_table_node_t *node = table->buckets[i]; node != NULL; node = node->next)
            fn(((entry_t *)node)->live);
}

/* Calls fn for each feed. fn must not remove any. */
static void
for_each(feed_hub_t *self, void (*fn)(live_feed_t *))
{
    for_each_in(&self->table, fn);
    for_each_in(&self->failed, fn);
}

static void
on_tick(void *arg, short events)
{
    (void)events;
    for_each(arg, live_feed_tick);
    sweep_alone(arg);
}

static void
on_stall(void *arg, short events)
{
    feed_hub_t *self = arg;

    (void)events;
    /* Services count this where they serve; a reactor serves nobody on the bus. */
    svc_metrics_add(self->ctx->metrics, SVC_M_LOOP_STALLS, 1);
    for_each(self, live_feed_forgive);
}

void
feed_hub_reattach(feed_hub_t *self)
{
    for_each(self, live_feed_reattach);
}

size_t
feed_hub_feeds(const feed_hub_t *self)
{
    return self->table.n + self->failed.n;
}

/* --- one feed ----------------------------------------------------------------------------- */

static entry_t *
add_entry(feed_hub_t *self, const live_subject_t *who)
{
    entry_t *entry = svc_alloc(sizeof *entry);

    entry->live = live_feed_new(&self->bus, who);
    entry->conversation = who->conversation;
    if (self->meeting != NULL)
        meeting_begin(self->meeting, entry->conversation, self->here);
    svc_table_add(&self->table, &entry->node, stream_key(who->stream));
    return entry;
}

static void
subscribe(feed_hub_t *self, entry_t *entry)
{
    token_sub_add(self->sub, stream_of(entry));
    entry->is_subscribed = true;
}

static void
unsubscribe(feed_hub_t *self, entry_t *entry)
{
    if (entry->is_subscribed)
        token_sub_drop(self->sub, stream_of(entry));
    entry->is_subscribed = false;
}

/* It has a viewer again, or goes. */
static void
end_alone(feed_hub_t *self, entry_t *entry)
{
    entry_t **at = &self->alone;

    if (!entry->is_alone)
        return;
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    self->alone_bytes -= entry->alone_bytes;
    entry->is_alone = false;
}

static void
remove_entry(feed_hub_t *self, svc_table_t *table, entry_t *entry)
{
    end_alone(self, entry);
    unsubscribe(self, entry);
    if (self->meeting != NULL)
        meeting_end(self->meeting, entry->conversation, self->here);
    svc_table_remove(table, entry->node.key);
    live_feed_destroy(&entry->live);
    free(entry);
}

/* Whether another stream has this key: a chance of 1 in 2^64, but no crash. */
static bool
is_taken(const feed_hub_t *self, svc_str stream)
{
    return svc_table_get(&self->table, stream_key(stream.p)) != NULL;
}

/* The feed of this stream that others may join; one that has failed makes room. */
static entry_t *
find_joinable(feed_hub_t *self, svc_str stream)
{
    entry_t *entry = entry_of(self, stream);

    if (entry == NULL || feed_failed(live_feed_feed(entry->live)) == RC_OK)
        return entry;
    if (!live_feed_may_go(entry->live)) {
        live_feed_stay(entry->live); /* what it holds would go with its name */
        return entry;
    }
    if (entry->is_alone) {
        remove_entry(self, &self->table, entry);
        return NULL;
    }
    unsubscribe(self, entry);
    svc_table_remove(&self->table, entry->node.key);
    svc_table_add(&self->failed, &entry->node, feed_key(entry->live));
    return NULL;
}

svc_rc
feed_hub_ask(feed_hub_t *self, const live_subject_t *who, const live_question_t *question,
             live_viewer_t *viewer)
{
    live_subject_t subject = *who;
    svc_str stream = {(const char *)subject.stream, PROTO_STREAM_BYTES};

    do
        token_sub_take_id(self->sub, subject.stream);
    while (is_taken(self, stream));
    entry_t *entry = add_entry(self, &subject);
    entry->is_subscribed = true;
    svc_rc rc = live_feed_ask(entry->live, question);
    if (rc != RC_OK) {
        remove_entry(self, &self->table, entry);
        return rc;
    }
    live_feed_join(entry->live, viewer);
    return RC_OK;
}

/* A viewer has joined: had nobody read it any more, it stays now, and what has come meanwhile is asked for. */
static void
read_again(feed_hub_t *self, entry_t *entry)
{
    if (!entry->is_alone)
        return;
    end_alone(self, entry);
    live_feed_go_on(entry->live);
}

/* live_bus_t.moved: the question of `live` has joined the answer of `stream`. */
static live_feed_t *
on_moved(void *arg, live_feed_t *live, svc_str stream)
{
    feed_hub_t *self = arg;
    entry_t *entry = entry_of(self, feed_stream(live_feed_feed(live)));
    entry_t *other = find_joinable(self, stream);

    SVC_ASSERT(entry != NULL && entry->live == live);
    if (other != NULL) {
        live_feed_t *target = other->live;
        live_feed_move_viewers(live, target);
        read_again(self, other);
        remove_entry(self, &self->table, entry);
        return target;
    }
    if (is_taken(self, stream))
        return NULL;
    unsubscribe(self, entry);
    svc_table_remove(&self->table, entry->node.key);
    live_feed_rename(live, stream);
    svc_table_add(&self->table, &entry->node, stream_key(stream.p));
    subscribe(self, entry);
    return live;
}

/* A viewer joins a feed that is there. One that is far ahead does not wait until all text
 * before has been fetched: the others page it in. */
static void
join_on(live_feed_t *live, const status_rep_t *status, uint64_t from)
{
    live_feed_take_status(live, status);
    if (from > feed_end(live_feed_feed(live)) + FEED_WINDOW_KEEP_BYTES &&
        from <= status->length)
        live_feed_skip_to(live, from);
}

svc_rc
feed_hub_watch(feed_hub_t *self, const live_subject_t *who, const status_rep_t *status,
               uint64_t from, live_viewer_t *viewer)
{
    svc_str stream = {(const char *)who->stream, PROTO_STREAM_BYTES};
    entry_t *entry = find_joinable(self, stream);
    bool is_new = entry == NULL;

    if (is_new && is_taken(self, stream))
        return RC_BUSY;
    if (is_new)
        entry = add_entry(self, who);
    viewer->offset = from;
    live_feed_join(entry->live, viewer);
    read_again(self, entry);
    svc_metrics_add(self->ctx->metrics, SVC_M_VIEWERS_RESUMED, 1);
    if (is_new && !answer_state_is_terminal(status->state))
        subscribe(self, entry);
    if (is_new)
        live_feed_watch(entry->live, status, from);
    else
        join_on(entry->live, status, from);
    viewer->changed(viewer->arg);
    return RC_OK;
}

/* Nobody reads it and nothing can be lost with it. */
static void
let_go(feed_hub_t *self, entry_t *entry)
{
    live_feed_unwatch(entry->live);
    remove_entry(self, &self->table, entry);
}

/* Its last viewer has left. True when it stays until what was shown is stored. Of too many at a time the last ones
 * are not kept: the memory is for those that are read. */
static bool
stays_alone(feed_hub_t *self, entry_t *entry)
{
    const feed_t *feed = live_feed_feed(entry->live);
    size_t held = (size_t)(feed_end(feed) - feed_base(feed));

    if (live_feed_may_go(entry->live) || self->alone_bytes + held > ALONE_MAX_BYTES)
        return false;
    live_feed_stay(entry->live);
    entry->is_alone = true;
    entry->alone_ms = svc_loop_now_ms(self->ctx->loop);
    entry->alone_bytes = held;
    entry->next = self->alone;
    self->alone = entry;
    self->alone_bytes += held;
    return true;
}

/* Lets those go that need not stay any longer. */
static void
sweep_alone(feed_hub_t *self)
{
    uint64_t now = svc_loop_now_ms(self->ctx->loop);
    uint64_t patience_ms = ALONE_TIMES * 1000ull * self->ctx->config->gateway_reattach_s;

    for (entry_t *entry = self->alone, *next; entry != NULL; entry = next) {
        next = entry->next;
        if (live_feed_may_go(entry->live) || now - entry->alone_ms >= patience_ms)
            let_go(self, entry);
    }
}

void
feed_hub_leave(feed_hub_t *self, live_viewer_t *viewer)
{
    live_feed_t *live = viewer->live;

    if (live == NULL || live_feed_leave(live, viewer) > 0)
        return;
    entry_t *entry = entry_of(self, feed_stream(live_feed_feed(live)));
    if (entry != NULL && entry->live == live) {
        if (!stays_alone(self, entry))
            let_go(self, entry);
        return;
    }
    entry = (entry_t *)svc_table_get(&self->failed, feed_key(live));
    SVC_ASSERT(entry != NULL);
    remove_entry(self, &self->failed, entry);
}

/* --- life --------------------------------------------------------------------------------- */

feed_hub_t *
feed_hub_new(svc_ctx_t *ctx, svc_peers_t *convo, svc_peers_t *llm, char **error)
{
    feed_hub_t *self = svc_alloc(sizeof *self);

    self->ctx = ctx;
    self->bus = (live_bus_t){ctx, convo, llm, LIVE_RENEW_MS, on_moved, self};
    self->sub = token_sub_new(ctx, ctx->config->bus_tokens.connect, on_token, self,
                              error);
    if (self->sub == NULL) {
        feed_hub_destroy(&self);
        return NULL;
    }
    svc_loop_on_stall(ctx->loop, on_stall, self);
    self->tick_timer = svc_loop_every(ctx->loop, TICK_MS, on_tick, self);
    return self;
}

void
feed_hub_meet(feed_hub_t *self, meeting_t *meeting, size_t here)
{
    self->meeting = meeting;
    self->here = here;
}

static void
empty(feed_hub_t *self, svc_table_t *table)
{
    size_t from = 0;

    for (svc_table_node_t *node; (node = svc_table_any(table, &from)) != NULL;)
        remove_entry(self, table, (entry_t *)node);
    svc_table_fini(table);
}

void
feed_hub_destroy(feed_hub_t **self_p)
{
    feed_hub_t *self = *self_p;

    if (self == NULL)
        return;
    empty(self, &self->table);
    empty(self, &self->failed);
    svc_loop_cancel(self->ctx->loop, self->tick_timer);
    svc_loop_off_stall(self->ctx->loop, self);
    token_sub_destroy(&self->sub);
    free(self);
    *self_p = NULL;
}
