/* feed_hub.c - all answers that are being read through one reactor.
 *
 * The SUB socket's send queue carries subscriptions and drops them silently when it is
 * full, so it has no bound; what it receives is bounded, and what is lost there shows
 * up as a gap. Stream ids are random, so their first eight bytes are a fine key for
 * the table. */
#include "feed_hub.h"
#include "svc/svc_msg.h"
#include "svc/svc_secret.h"
#include "svc/svc_table.h"

#include <stdio.h>
#include <stdlib.h>

#define TICK_MS         250
#define FRAMES_PER_TURN 512
#define RECEIVE_HWM     100000 /* frames of 64-100 bytes: some seconds of a busy llm-svc */

typedef struct {
    svc_table_node_t node; /* key: stream_key() of the stream */
    live_feed_t *live;     /* owned */
} entry_t;

struct feed_hub {
    svc_ctx_t *ctx;      /* loop, log, metrics, config */
    live_bus_t bus;      /* for the feeds */
    void *sub;           /* owned; SUB socket */
    svc_table_t table;   /* of entry_t, owned */
    uint64_t tick_timer; /* 0: none */
    size_t n_spare;      /* ids in `spare` */
    uint8_t spare[FEED_HUB_SPARE_IDS][PROTO_STREAM_BYTES]; /* subscribed, not used yet */
};

static uint64_t
stream_key(const void *stream)
{
    uint64_t key;

    memcpy(&key, stream, sizeof key);
    return key;
}

static entry_t *
entry_of(const feed_hub_t *self, svc_str stream)
{
    entry_t *entry = (entry_t *)svc_table_get(&self->table, stream_key(stream.p));

    return entry != NULL && svc_str_eq(feed_stream(live_feed_feed(entry->live)), stream)
               ? entry
               : NULL;
}

/* --- stream ids --------------------------------------------------------------------------- */

static void
fill_spare(feed_hub_t *self)
{
    size_t n = FEED_HUB_SPARE_IDS - self->n_spare;

    svc_random(self->spare[self->n_spare], n * PROTO_STREAM_BYTES);
    for (; n > 0; n--)
        zmq_setsockopt(self->sub, ZMQ_SUBSCRIBE, self->spare[self->n_spare++],
                       PROTO_STREAM_BYTES);
}

/* Takes the id that has been subscribed for longest. */
static void
take_id(feed_hub_t *self, uint8_t out[PROTO_STREAM_BYTES])
{
    memcpy(out, self->spare[0], PROTO_STREAM_BYTES);
    self->n_spare--;
    memmove(self->spare[0], self->spare[1], self->n_spare * PROTO_STREAM_BYTES);
    if (self->n_spare <= FEED_HUB_SPARE_IDS / 2) /* random bytes are a system call */
        fill_spare(self);
}

/* --- token frames ------------------------------------------------------------------------- */

static void
take_frame(feed_hub_t *self, svc_str frame)
{
    size_t n = frame.n < PROTO_STREAM_BYTES ? frame.n : PROTO_STREAM_BYTES;
    svc_str topic = {frame.p, n}, bytes = {frame.p + n, frame.n - n};
    proto_token_t token;

    if (proto_token_decode(bytes, &token) != RC_OK || !svc_str_eq(token.stream, topic)) {
        svc_metrics_add(self->ctx->metrics, SVC_M_BAD_MESSAGES, 1);
        return;
    }
    svc_metrics_add(self->ctx->metrics, SVC_M_TOKENS_RECEIVED, 1);
    entry_t *entry = entry_of(self, topic);
    if (entry != NULL)
        live_feed_take_token(entry->live, &token);
}

static void
on_frames(void *arg, short events)
{
    feed_hub_t *self = arg;
    zmq_msg_t frame;

    (void)events;
    zmq_msg_init(&frame);
    for (int i = 0; i < FRAMES_PER_TURN; i++) {
        if (!svc_msg_recv(self->sub, &frame, ZMQ_DONTWAIT)) {
            svc_loop_read_dry(self->ctx->loop, self->sub);
            break;
        }
        take_frame(self, svc_msg_str(&frame));
        svc_msg_skip_rest(self->sub, &frame);
    }
    zmq_msg_close(&frame);
}

/* --- all feeds ---------------------------------------------------------------------------- */

/* Calls fn for each feed. fn must not remove any. */
static void
for_each(feed_hub_t *self, void (*fn)(live_feed_t *))
{
    for (size_t i = 0; i < self->table.n_buckets; i++)
        for (svc_table_node_t *node = self->table.buckets[i]; node != NULL;
             node = node->next)
            fn(((entry_t *)node)->live);
}

static void
on_tick(void *arg, short events)
{
    (void)events;
    for_each(arg, live_feed_tick);
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
    return self->table.n;
}

static void
remove_entry(feed_hub_t *self, entry_t *entry)
{
    svc_str stream = feed_stream(live_feed_feed(entry->live));

    zmq_setsockopt(self->sub, ZMQ_UNSUBSCRIBE, stream.p, stream.n);
    svc_table_remove(&self->table, entry->node.key);
    live_feed_destroy(&entry->live);
    free(entry);
}

svc_rc
feed_hub_ask(feed_hub_t *self, const live_subject_t *who, svc_str text,
             live_viewer_t *viewer)
{
    live_subject_t subject = *who;
    entry_t *entry = svc_alloc(sizeof *entry);

    do
        take_id(self, subject.stream);
    while (svc_table_get(&self->table, stream_key(subject.stream)) != NULL);
    entry->live = live_feed_new(&self->bus, &subject);
    svc_table_add(&self->table, &entry->node, stream_key(subject.stream));
    svc_rc rc = live_feed_ask(entry->live, text);
    if (rc != RC_OK) {
        remove_entry(self, entry);
        return rc;
    }
    live_feed_join(entry->live, viewer);
    return RC_OK;
}

void
feed_hub_leave(feed_hub_t *self, live_viewer_t *viewer)
{
    live_feed_t *live = viewer->live;

    if (live == NULL || live_feed_leave(live, viewer) > 0)
        return;
    entry_t *entry = entry_of(self, feed_stream(live_feed_feed(live)));
    SVC_ASSERT(entry != NULL);
    remove_entry(self, entry);
}

/* --- life --------------------------------------------------------------------------------- */

static bool
open_socket(feed_hub_t *self, char **error)
{
    const char *endpoint = self->ctx->config->bus_tokens.connect;
    int unbounded = 0;
    int hwm = RECEIVE_HWM;
    int reconnect_max_ms = 1000;
    int heartbeat_ms = 2000;
    int silence_ms = 6000;
    /* When we are frozen and the way to us is full, llm-svc cannot even ask whether we live: so it is told to drop
     * us, and the frames it keeps for us, when it has not heard of us for so long. */
    int our_silence_ms = 10000;

    self->sub = svc_msg_socket(self->ctx->zmq, ZMQ_SUB, RECEIVE_HWM);
    if (self->sub == NULL)
        return false;
    zmq_setsockopt(self->sub, ZMQ_SNDHWM, &unbounded, sizeof unbounded);
    zmq_setsockopt(self->sub, ZMQ_RCVHWM, &hwm, sizeof hwm);
    zmq_setsockopt(self->sub, ZMQ_RECONNECT_IVL_MAX, &reconnect_max_ms,
                   sizeof reconnect_max_ms);
    zmq_setsockopt(self->sub, ZMQ_HEARTBEAT_IVL, &heartbeat_ms, sizeof heartbeat_ms);
    zmq_setsockopt(self->sub, ZMQ_HEARTBEAT_TIMEOUT, &silence_ms, sizeof silence_ms);
    zmq_setsockopt(self->sub, ZMQ_HEARTBEAT_TTL, &our_silence_ms, sizeof our_silence_ms);
    if (zmq_connect(self->sub, endpoint) == 0)
        return true;
    if (asprintf(error, "bus.tokens.connect: \"%s\": %s", endpoint,
                 zmq_strerror(zmq_errno())) < 0)
        *error = NULL;
    return false;
}

feed_hub_t *
feed_hub_new(svc_ctx_t *ctx, svc_peer_t *convo, svc_peer_t *llm, char **error)
{
    feed_hub_t *self = svc_alloc(sizeof *self);

    self->ctx = ctx;
    self->bus = (live_bus_t){ctx, convo, llm, LIVE_RENEW_MS};
    if (!open_socket(self, error)) {
        feed_hub_destroy(&self);
        return NULL;
    }
    fill_spare(self);
    svc_loop_add_socket(ctx->loop, self->sub, on_frames, self);
    svc_loop_on_stall(ctx->loop, on_stall, self);
    self->tick_timer = svc_loop_every(ctx->loop, TICK_MS, on_tick, self);
    return self;
}

void
feed_hub_destroy(feed_hub_t **self_p)
{
    feed_hub_t *self = *self_p;
    size_t from = 0;

    if (self == NULL)
        return;
    for (svc_table_node_t *node; (node = svc_table_any(&self->table, &from)) != NULL;)
        remove_entry(self, (entry_t *)node);
    svc_table_fini(&self->table);
    svc_loop_cancel(self->ctx->loop, self->tick_timer);
    svc_loop_off_stall(self->ctx->loop, self);
    if (self->sub != NULL) {
        svc_loop_remove_socket(self->ctx->loop, self->sub);
        zmq_close(self->sub);
    }
    free(self);
    *self_p = NULL;
}
