/* test_feed_hub.c - asking, watching, repairing and handing in, against a convo-svc and an llm-svc of our own.
 *
 * Both fakes, their PUB socket and the hub share one loop and speak over real sockets. The fakes hold
 * the whole answer; the test decides which frames are published, what is journaled, and when
 * convo-svc is away. */
#include "gateway/feed_hub.h"
#include "svc/svc_msg.h"
#include "svc/svc_server.h"
#include "tests/unit/svc/bus_fixture.h"

#define FENCE 7
#define TRUTH_BYTES 600000

typedef struct {
    fixture_t bus;                    /* loop and ZeroMQ */
    svc_config_t config;              /* what the hub reads */
    svc_ctx_t fake_ctx;               /* of the fakes */
    svc_server_t *convo, *llm;        /* the fakes; NULL: away */
    char convo_at[64], llm_at[64], tokens_at[64]; /* endpoints */
    void *pub;                        /* token frames */
    svc_peer_t *convo_peer, *llm_peer; /* the hub's */
    feed_hub_t *hub;                  /* what is tested */
    live_viewer_t viewer;             /* its reader */
    uint8_t stream[PROTO_STREAM_BYTES]; /* as asked */
    uint64_t watch;                   /* kept ask or watch; 0: none */
    char *truth;                      /* the answer */
    uint64_t released, journaled;     /* what llm-svc and convo-svc would give out */
    status_rep_t status;              /* what convo-svc tells */
    svc_rc refuse;                    /* RC_OK, or what ask answers */
    svc_buf_t tail;                   /* handed in */
    uint64_t tail_from;               /* its offset */
    unsigned asks, watches, replays, reads, changes; /* counted */
    uint64_t page_from;               /* of the viewer's page */
    size_t page_n;                    /* its bytes */
} world_t;

/* --- the fakes ---------------------------------------------------------------------------- */

static status_rep_t
status_of(world_t *world)
{
    status_rep_t status = world->status;

    status.stream = (svc_str){(const char *)world->stream, PROTO_STREAM_BYTES};
    status.message = 2;
    status.fence = FENCE;
    status.length = world->journaled;
    return status;
}

/* Tells the watcher how things are. */
static void
tell(world_t *world)
{
    svc_call_t *call = svc_server_call(world->convo, world->watch);
    status_rep_t status = status_of(world);

    assert_non_null(call);
    if (answer_state_is_terminal(status.state))
        svc_call_finish(call, RC_OK, &status);
    else
        (void)svc_call_partial(call, &status, 12000);
}

static svc_rc
on_ask(void *self, svc_call_t *call, const void *req, void *rep)
{
    world_t *world = self;
    const ask_req_t *ask = req;

    (void)rep;
    world->asks++;
    assert_int_equal(ask->user, 3);
    assert_int_equal(ask->conversation, 9);
    memcpy(world->stream, ask->stream.p, PROTO_STREAM_BYTES);
    if (world->refuse != RC_OK) {
        svc_call_explain(call, "no", 5);
        return world->refuse;
    }
    world->watch = svc_call_id(call);
    status_rep_t status = status_of(world);
    (void)svc_call_partial(call, &status, 12000);
    return RC_LATER;
}

static svc_rc
on_watch(void *self, svc_call_t *call, const void *req, void *rep)
{
    world_t *world = self;
    const watch_req_t *watch = req;

    world->watches++;
    assert_memory_equal(watch->stream.p, world->stream, PROTO_STREAM_BYTES);
    status_rep_t status = status_of(world);
    if (answer_state_is_terminal(status.state)) {
        *(status_rep_t *)rep = status;
        return RC_OK;
    }
    world->watch = svc_call_id(call);
    (void)svc_call_partial(call, &status, 12000);
    return RC_LATER;
}

static svc_str
page(const world_t *world, uint64_t from, uint64_t to)
{
    uint64_t n = from < to ? to - from : 0;

    return (svc_str){world->truth + from, n < PROTO_PAGE_MAX_BYTES ? (size_t)n : PROTO_PAGE_MAX_BYTES};
}

static svc_rc
on_read(void *self, svc_call_t *call, const void *req, void *rep)
{
    world_t *world = self;
    const read_req_t *read = req;

    (void)call;
    world->reads++;
    *(read_rep_t *)rep = (read_rep_t){read->from, page(world, read->from, world->journaled), world->status.state,
                                      world->journaled};
    return RC_OK;
}

static svc_rc
on_tail(void *self, svc_call_t *call, const void *req, void *rep)
{
    world_t *world = self;
    const tail_req_t *tail = req;

    (void)call;
    (void)rep;
    if (world->tail.n == 0)
        world->tail_from = tail->from;
    assert_int_equal(tail->from, world->tail_from + world->tail.n);
    assert_int_equal(svc_buf_add_str(&world->tail, tail->bytes), RC_OK);
    return RC_OK;
}

static svc_rc
on_replay(void *self, svc_call_t *call, const void *req, void *rep)
{
    world_t *world = self;
    const replay_req_t *replay = req;

    (void)call;
    world->replays++;
    if (replay->fence != FENCE)
        return RC_NOT_FOUND;
    *(replay_rep_t *)rep = (replay_rep_t){replay->from, page(world, replay->from, world->released), world->released};
    return RC_OK;
}

static const svc_op_t convo_ops[] = {
    {OP_CONVO_ASK, &ask_req_schema, &status_rep_schema, on_ask, SVC_ANYONE, 20000},
    {OP_CONVO_WATCH, &watch_req_schema, &status_rep_schema, on_watch, SVC_ANYONE, 20000},
    {OP_CONVO_READ, &read_req_schema, &read_rep_schema, on_read, SVC_ANYONE, 20000},
    {OP_CONVO_TAIL, &tail_req_schema, &empty_schema, on_tail, SVC_ANYONE, 20000},
    {0},
};

static const svc_op_t llm_ops[] = {
    {OP_LLM_REPLAY, &replay_req_schema, &replay_rep_schema, on_replay, SVC_ANYONE, 20000},
    {0},
};

static void
publish(world_t *world, uint64_t fence, uint64_t from, size_t n, proto_token_kind kind)
{
    svc_str topic = {(const char *)world->stream, PROTO_STREAM_BYTES};
    proto_token_t token = {PROTO_VERSION, topic, fence, from, kind, {world->truth + from, n}};
    svc_buf_t frame;

    svc_buf_init(&frame, 1 << 20);
    assert_int_equal(proto_token_encode(&token, &frame), RC_OK);
    assert_true(svc_msg_send_bytes(world->pub, topic, ZMQ_SNDMORE));
    assert_true(svc_msg_send_bytes(world->pub, svc_buf_str(&frame), 0));
    svc_buf_fini(&frame);
}

/* --- the world ---------------------------------------------------------------------------- */

static void
on_changed(void *arg)
{
    ((world_t *)arg)->changes++;
}

static void
on_paged(void *arg, uint64_t from, svc_str bytes)
{
    world_t *world = arg;

    world->page_from = from;
    world->page_n = bytes.n;
    assert_memory_equal(bytes.p, world->truth + from, bytes.n);
}

static void
on_convo(void *arg, svc_peer_event event, uint64_t instance)
{
    world_t *world = arg;

    (void)instance;
    if (event == SVC_PEER_UP && world->hub != NULL)
        feed_hub_reattach(world->hub);
}

static void
on_llm(void *arg, svc_peer_event event, uint64_t instance)
{
    (void)arg;
    (void)event;
    (void)instance;
}

static bool
both_up(void *arg)
{
    const world_t *world = arg;

    return svc_peer_is_up(world->convo_peer) && svc_peer_is_up(world->llm_peer);
}

/* Binds any free port; remembers the endpoint for a later start at the same place. */
static void *
bind_anywhere(world_t *world, char endpoint[64])
{
    void *socket = svc_msg_socket(world->bus.ctx.zmq, ZMQ_PUB, 100000);
    size_t n = 64;

    assert_int_equal(zmq_bind(socket, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &n), 0);
    return socket;
}

/* Starts a fake at a port that was free a moment ago. */
static svc_server_t *
start_fake(world_t *world, const char *service, char endpoint[64], const svc_op_t *ops)
{
    svc_server_t *server = NULL;
    char *error = NULL;

    for (int i = 0; i < 100 && server == NULL; i++) {
        if (endpoint[0] == '\0' || i > 50)
            zmq_close(bind_anywhere(world, endpoint));
        world->fake_ctx.service = service;
        svc_ctx_t *ctx = svc_alloc(sizeof *ctx); /* kept by the server */
        *ctx = world->fake_ctx;
        if (svc_server_new(ctx, endpoint, ops, world, &server, &error) != RC_OK) {
            free(error);
            free(ctx);
            zmq_poll(NULL, 0, 20);
        }
    }
    assert_non_null(server);
    return server;
}

static int
open_world(void **state)
{
    world_t *world = svc_alloc(sizeof *world);
    char *error = NULL;

    fixture_open(&world->bus, "gateway");
    world->config.gateway_request_timeout_s = 10;
    world->config.gateway_reattach_s = 1;
    world->bus.ctx.config = &world->config;
    world->fake_ctx = world->bus.ctx;
    world->fake_ctx.instance = 5;
    world->truth = svc_alloc(TRUTH_BYTES);
    for (size_t i = 0; i < TRUTH_BYTES; i++)
        world->truth[i] = (char)('a' + i % 23);
    world->status.state = ANSWER_WAITING;
    world->pub = bind_anywhere(world, world->tokens_at);
    world->convo = start_fake(world, "convo-svc", world->convo_at, convo_ops);
    world->llm = start_fake(world, "llm-svc", world->llm_at, llm_ops);
    world->config.bus_tokens.connect = world->tokens_at;
    world->convo_peer = svc_peer_new(&world->bus.ctx, "convo-svc", world->convo_at, on_convo, world, &error);
    world->llm_peer = svc_peer_new(&world->bus.ctx, "llm-svc", world->llm_at, on_llm, world, &error);
    world->hub = feed_hub_new(&world->bus.ctx, world->convo_peer, world->llm_peer, &error);
    assert_non_null(world->hub);
    world->viewer = (live_viewer_t){.changed = on_changed, .paged = on_paged, .arg = world};
    svc_buf_init(&world->tail, TRUTH_BYTES);
    assert_true(fixture_runs_until(&world->bus, both_up, world, FIXTURE_PATIENCE_MS));
    *state = world;
    return 0;
}

static int
close_world(void **state)
{
    world_t *world = *state;

    feed_hub_leave(world->hub, &world->viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 0);
    feed_hub_destroy(&world->hub);
    svc_peer_destroy(&world->convo_peer);
    svc_peer_destroy(&world->llm_peer);
    svc_server_destroy(&world->convo);
    svc_server_destroy(&world->llm);
    zmq_close(world->pub);
    svc_buf_fini(&world->tail);
    free(world->truth);
    fixture_close(&world->bus);
    free(world);
    return 0;
}
