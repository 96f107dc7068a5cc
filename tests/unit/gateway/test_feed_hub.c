/* test_feed_hub.c - asking, watching, repairing and handing in, against a convo-svc and an llm-svc of our own.
 *
 * Both fakes, their PUB socket and the hub share one loop and speak over real sockets. The fakes hold
 * the whole answer; the test decides which frames are published, what is journaled, and when
 * convo-svc is away. */
#include "gateway/feed_hub.h"
#include "svc/svc_msg.h"
#include "svc/svc_secret.h"
#include "svc/svc_server.h"
#include "tests/unit/svc/bus_fixture.h"
#include "tests/unit/svc/raw_zmtp.h"

#define FENCE       7
#define TRUTH_BYTES 600000

typedef struct {
    fixture_t bus;                                /* loop and ZeroMQ */
    svc_config_t config;                          /* what the hub reads */
    svc_ctx_t convo_ctx, llm_ctx;                 /* of the fakes */
    svc_server_t *convo, *llm;                    /* the fakes; NULL: away */
    char convo_at[64], llm_at[64], tokens_at[64]; /* endpoints */
    void *pub;                                    /* token frames */
    svc_peer_t *convo_peer, *llm_peer;            /* the hub's */
    feed_hub_t *hub;                              /* what is tested */
    live_viewer_t viewer;                         /* its reader */
    uint8_t stream[PROTO_STREAM_BYTES];           /* as asked */
    uint64_t watch;                               /* kept ask or watch; 0: none */
    char *truth;                                  /* the answer */
    uint64_t released, journaled; /* what llm-svc and convo-svc would give out */
    status_rep_t status;          /* what convo-svc tells */
    svc_rc refuse;                /* RC_OK, or what ask answers */
    svc_buf_t tail;               /* handed in */
    uint64_t tail_from;           /* its offset */
    unsigned asks, watches, replays, reads, changes; /* counted */
    uint64_t page_from;                              /* of the viewer's page */
    size_t page_n;                                   /* its bytes */
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

    return (svc_str){world->truth + from,
                     n < PROTO_PAGE_MAX_BYTES ? (size_t)n : PROTO_PAGE_MAX_BYTES};
}

static svc_rc
on_read(void *self, svc_call_t *call, const void *req, void *rep)
{
    world_t *world = self;
    const read_req_t *read = req;

    (void)call;
    world->reads++;
    *(read_rep_t *)rep = (read_rep_t){read->from,
                                      page(world, read->from, world->journaled),
                                      world->status.state, world->journaled};
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
    *(replay_rep_t *)rep = (replay_rep_t){
        replay->from, page(world, replay->from, world->released), world->released};
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
    proto_token_t token = {PROTO_VERSION, topic, fence,
                           from,          kind,  {world->truth + from, n}};
    svc_buf_t frame;

    svc_buf_init(&frame, 1 << 20);
    assert_int_equal(svc_buf_add_str(&frame, topic), RC_OK);
    assert_int_equal(proto_token_encode(&token, &frame), RC_OK);
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
start_fake(world_t *world, svc_ctx_t *ctx, const char *service, char endpoint[64],
           const svc_op_t *ops)
{
    svc_server_t *server = NULL;
    char *error = NULL;

    for (int i = 0; i < 100 && server == NULL; i++) {
        if (endpoint[0] == '\0' || i > 50)
            zmq_close(bind_anywhere(world, endpoint));
        *ctx = world->bus.ctx;
        ctx->service = service;
        ctx->instance = svc_random_u64();
        if (svc_server_new(ctx, endpoint, ops, world, &server, &error) != RC_OK) {
            free(error);
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
    world->truth = svc_alloc(TRUTH_BYTES);
    for (size_t i = 0; i < TRUTH_BYTES; i++)
        world->truth[i] = (char)('a' + i % 23);
    world->status.state = ANSWER_WAITING;
    world->pub = bind_anywhere(world, world->tokens_at);
    world->convo = start_fake(world, &world->convo_ctx, "convo-svc", world->convo_at,
                              convo_ops);
    world->llm = start_fake(world, &world->llm_ctx, "llm-svc", world->llm_at, llm_ops);
    world->config.bus_tokens.connect = world->tokens_at;
    world->convo_peer = svc_peer_new(&world->bus.ctx, "convo-svc", world->convo_at,
                                     on_convo, world, &error);
    world->llm_peer = svc_peer_new(&world->bus.ctx, "llm-svc", world->llm_at, on_llm,
                                   world, &error);
    world->hub = feed_hub_new(&world->bus.ctx, world->convo_peer, world->llm_peer,
                              &error);
    assert_non_null(world->hub);
    world->viewer = (live_viewer_t){
        .changed = on_changed, .paged = on_paged, .arg = world};
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

/* --- conditions --------------------------------------------------------------------------- */

static const feed_t *
feed_of(const world_t *world)
{
    return live_feed_feed(world->viewer.live);
}

static bool
is_heard(void *arg)
{
    return feed_status(feed_of(arg))->heard;
}

static bool
is_streaming(void *arg)
{
    return feed_status(feed_of(arg))->state == ANSWER_STREAMING;
}

static bool
is_settled(void *arg)
{
    return feed_is_settled(feed_of(arg));
}

static bool
has_all_released(void *arg)
{
    world_t *world = arg;

    world->viewer.offset = feed_end(feed_of(world)); /* a viewer that reads at once */
    live_viewer_moved(&world->viewer, world->viewer.offset);
    return world->viewer.offset == world->released;
}

static bool
convo_is_down(void *arg)
{
    return !svc_peer_is_up(((world_t *)arg)->convo_peer);
}

static bool
llm_is_down(void *arg)
{
    return !svc_peer_is_up(((world_t *)arg)->llm_peer);
}

static bool
is_rewatched(void *arg)
{
    return ((world_t *)arg)->watches > 0;
}

static bool
has_page(void *arg)
{
    return ((world_t *)arg)->page_n > 0;
}

static bool
has_tail(void *arg)
{
    const world_t *world = arg;

    return world->tail.n == world->released - world->journaled;
}

static void
assert_runs_until(world_t *world, bool (*cond)(void *))
{
    assert_true(fixture_runs_until(&world->bus, cond, world, FIXTURE_PATIENCE_MS));
}

/* Asks and waits until the question is known to be committed; then the answer streams. */
static void
ask(world_t *world)
{
    live_subject_t who = {.user = 3, .conversation = 9};

    assert_int_equal(feed_hub_ask(world->hub, &who, SVC_LIT("Why?"), &world->viewer),
                     RC_OK);
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    assert_runs_until(world, is_heard);
}

static void
stream(world_t *world, uint64_t journaled)
{
    world->status.state = ANSWER_STREAMING;
    world->journaled = journaled;
    tell(world);
    assert_runs_until(world, is_streaming);
}

static void
end_answer(world_t *world)
{
    world->status.state = ANSWER_COMPLETE;
    world->journaled = world->released;
    tell(world);
    assert_runs_until(world, is_settled);
    assert_int_equal(feed_failed(feed_of(world)), RC_OK);
}

/* Compares what the window has. */
static void
assert_true_text(const world_t *world)
{
    const feed_t *feed = feed_of(world);
    svc_str text = feed_text(feed, feed_base(feed));

    assert_int_equal(text.n, feed_limit(feed) - feed_base(feed));
    assert_memory_equal(text.p, world->truth + feed_base(feed), text.n);
}

/* --- tests -------------------------------------------------------------------------------- */

static void
an_answer_comes_by_its_frames(void **state)
{
    world_t *world = *state;

    ask(world);
    world->released = 30;
    for (uint64_t at = 0; at < 30; at += 10)
        publish(world, FENCE, at, 10, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    stream(world, 10);
    end_answer(world);
    assert_true_text(world);
    assert_int_equal(feed_status(feed_of(world))->message, 2);
    assert_int_equal(world->replays, 0);
    assert_int_equal(world->reads, 0);
    assert_true(world->changes > 0);
}

static void
lost_frames_are_replayed(void **state)
{
    world_t *world = *state;

    ask(world);
    stream(world, 5);
    world->released = 400000;
    publish(world, FENCE, 0, 10, PROTO_TOKEN_TEXT);
    publish(world, FENCE + 1, 10, 10, PROTO_TOKEN_TEXT);
    publish(world, FENCE, 399990, 10, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    assert_true_text(world);
    assert_true(world->replays >= 400000 / PROTO_PAGE_MAX_BYTES);
    assert_int_equal(svc_metrics_get(world->bus.ctx.metrics, SVC_M_TOKENS_FENCED), 1);
    end_answer(world);
}

static void
a_lost_tail_is_shown_by_a_mark(void **state)
{
    world_t *world = *state;

    ask(world);
    world->released = 20;
    publish(world, FENCE, 0, 10, PROTO_TOKEN_TEXT);
    publish(world, FENCE, 20, 0, PROTO_TOKEN_MARK);
    assert_runs_until(world, has_all_released);
    assert_int_equal(world->replays, 1);
    assert_true_text(world);
}

static void
without_any_frame_status_and_journal_are_enough(void **state)
{
    world_t *world = *state;

    ask(world);
    svc_server_destroy(&world->llm);
    assert_runs_until(world, llm_is_down);
    world->released = 200000;
    world->status.state = ANSWER_STREAMING;
    world->journaled = 100000;
    tell(world);
    world->released = 100000;
    assert_runs_until(world, has_all_released);
    world->released = 200000;
    world->status.state = ANSWER_COMPLETE;
    world->journaled = 200000;
    tell(world);
    assert_runs_until(world, has_all_released);
    assert_true_text(world);
    assert_true(is_settled(world));
    assert_true(world->reads >= 4);
    assert_int_equal(world->replays, 0);
}

static void
a_refused_question_fails_with_its_reason(void **state)
{
    world_t *world = *state;
    live_subject_t who = {.user = 3, .conversation = 9};

    world->refuse = RC_ANSWERING;
    assert_int_equal(feed_hub_ask(world->hub, &who, SVC_LIT("Why?"), &world->viewer),
                     RC_OK);
    assert_runs_until(world, is_settled);
    assert_int_equal(feed_failed(feed_of(world)), RC_ANSWERING);
    assert_true(svc_str_eq(feed_status(feed_of(world))->text, SVC_LIT("no")));
    assert_int_equal(feed_status(feed_of(world))->retry_after_s, 5);
}

static void
a_service_that_is_away_refuses_at_once(void **state)
{
    world_t *world = *state;
    live_subject_t who = {.user = 3, .conversation = 9};

    svc_server_destroy(&world->convo);
    assert_runs_until(world, convo_is_down);
    assert_int_equal(feed_hub_ask(world->hub, &who, SVC_LIT("Why?"), &world->viewer),
                     RC_UNAVAILABLE);
    assert_int_equal(feed_hub_feeds(world->hub), 0);
    assert_null(world->viewer.live);
}

static void
a_feed_is_watched_again_when_convo_svc_is_back(void **state)
{
    world_t *world = *state;

    world->config.gateway_reattach_s = 20;
    ask(world);
    stream(world, 0);
    svc_server_destroy(&world->convo);
    assert_runs_until(world, convo_is_down);
    world->released = 10;
    publish(world, FENCE, 0, 10, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released); /* the text does not wait */
    world->convo = start_fake(world, &world->convo_ctx, "convo-svc", world->convo_at,
                              convo_ops);
    assert_runs_until(world, is_rewatched);
    end_answer(world);
    assert_int_equal(world->asks, 1);
}

static void
a_feed_ends_when_convo_svc_stays_away(void **state)
{
    world_t *world = *state;

    ask(world);
    stream(world, 0);
    svc_server_destroy(&world->convo);
    assert_runs_until(world, is_settled);
    assert_int_equal(feed_failed(feed_of(world)), RC_UNAVAILABLE);
}

static void
what_was_shown_is_handed_in_when_llm_svc_is_lost(void **state)
{
    world_t *world = *state;

    ask(world);
    stream(world, 1000);
    world->released = 151000;
    for (uint64_t at = 0; at < 151000; at += 1000)
        publish(world, FENCE, at, 1000, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    world->status.lost = true;
    tell(world);
    assert_runs_until(world, has_tail);
    assert_int_equal(world->tail_from, 1000);
    assert_memory_equal(world->tail.p, world->truth + 1000, 150000);
}

static void
a_slow_viewer_gets_older_text_page_by_page(void **state)
{
    world_t *world = *state;

    ask(world);
    stream(world, 500000);
    world->released = 600000;
    for (uint64_t at = 0; at < 600000; at += 50000)
        publish(world, FENCE, at, 50000, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    assert_true(feed_base(feed_of(world)) > 7);
    live_viewer_want_page(&world->viewer, 7);
    live_viewer_want_page(&world->viewer, 8); /* one at a time */
    assert_runs_until(world, has_page);
    assert_int_equal(world->page_from, 7);
    assert_int_equal(world->page_n, PROTO_PAGE_MAX_BYTES);
    assert_int_equal(world->reads, 1);
}

static void
frames_that_are_none_are_counted_and_skipped(void **state)
{
    world_t *world = *state;
    svc_str topic = {(const char *)world->stream, PROTO_STREAM_BYTES};

    ask(world);
    assert_true(svc_msg_send_bytes(world->pub, topic, 0));
    svc_buf_t frame;
    svc_buf_init(&frame, 100);
    assert_int_equal(svc_buf_add_str(&frame, topic), RC_OK);
    assert_int_equal(svc_buf_add_str(&frame, SVC_LIT("\xc1 no frame")), RC_OK);
    assert_true(svc_msg_send_bytes(world->pub, svc_buf_str(&frame), 0));
    svc_buf_fini(&frame);
    world->released = 10;
    publish(world, FENCE, 0, 10, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    assert_int_equal(svc_metrics_get(world->bus.ctx.metrics, SVC_M_BAD_MESSAGES), 2);
}

static void
a_viewer_that_leaves_takes_the_feed_along_and_stops_nothing(void **state)
{
    world_t *world = *state;

    ask(world);
    feed_hub_leave(world->hub, &world->viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 0);
    feed_hub_leave(world->hub, &world->viewer);
    memset(world->stream, 0, sizeof world->stream);
    ask(world);
    assert_int_equal(world->asks, 2);
}

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

/* --- standing still ----------------------------------------------------------------------- */

static void
tells_llm_svc_how_long_to_keep_frames_for_a_frozen_gateway(void **state)
{
    world_t *world = *state;
    char endpoint[64], *error = NULL;
    int listener = raw_zmtp_listen(endpoint);
    feed_hub_t *hub;

    assert_true(listener >= 0);
    world->config.bus_tokens.connect = endpoint;
    hub = feed_hub_new(&world->bus.ctx, world->convo_peer, world->llm_peer, &error);
    assert_non_null(hub);
    int fd = accept(listener, NULL, NULL);
    assert_true(raw_zmtp_greet(fd, "PUB"));
    assert_int_equal(raw_zmtp_wait_for_ping(fd), 100); /* tenths of a second */
    close(fd);
    close(listener);
    feed_hub_destroy(&hub);
}

static void
stand_still(void *arg, short events)
{
    (void)arg;
    (void)events;
    usleep(1300 * 1000); /* what the loop takes for a standstill is more than 1 s */
}

static bool
is_counted(void *arg)
{
    return fixture_count(&((world_t *)arg)->bus, SVC_M_LOOP_STALLS) > 0;
}

static void
a_standstill_of_the_reactor_is_counted(void **state)
{
    world_t *world = *state;

    svc_server_destroy(&world->convo); /* they would count it, too */
    svc_server_destroy(&world->llm);
    svc_loop_after(world->bus.ctx.loop, 0, stand_still, NULL);
    fixture_run_until(&world->bus, is_counted, world);
    assert_int_equal(fixture_count(&world->bus, SVC_M_LOOP_STALLS), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(an_answer_comes_by_its_frames),
        WORLD_TEST(lost_frames_are_replayed),
        WORLD_TEST(a_lost_tail_is_shown_by_a_mark),
        WORLD_TEST(without_any_frame_status_and_journal_are_enough),
        WORLD_TEST(a_refused_question_fails_with_its_reason),
        WORLD_TEST(a_service_that_is_away_refuses_at_once),
        WORLD_TEST(a_feed_is_watched_again_when_convo_svc_is_back),
        WORLD_TEST(a_feed_ends_when_convo_svc_stays_away),
        WORLD_TEST(what_was_shown_is_handed_in_when_llm_svc_is_lost),
        WORLD_TEST(a_slow_viewer_gets_older_text_page_by_page),
        WORLD_TEST(frames_that_are_none_are_counted_and_skipped),
        WORLD_TEST(a_viewer_that_leaves_takes_the_feed_along_and_stops_nothing),
        WORLD_TEST(tells_llm_svc_how_long_to_keep_frames_for_a_frozen_gateway),
        WORLD_TEST(a_standstill_of_the_reactor_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
