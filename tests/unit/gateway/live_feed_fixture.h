/* live_feed_fixture.h - one feed between a reader and fake services, without SUB socket and HTTP.
 *
 * The test takes the frames' and the hub's place, so it says in which order frames, statuses and
 * ticks come. Included by the tests of live_feed. */
#ifndef TESTS_UNIT_GATEWAY_LIVE_FEED_FIXTURE_H
#define TESTS_UNIT_GATEWAY_LIVE_FEED_FIXTURE_H

#include "fake_services.h"
#include "gateway/live_feed.h"

typedef struct {
    fakes_t fakes;            /* first */
    svc_peers_t *convo, *llm; /* of the feed */
    live_bus_t bus;           /* them */
    live_feed_t *feed;        /* what is tested */
    live_viewer_t viewer;     /* its reader; reads at once while `follows` */
    bool follows;             /* see there */
    unsigned changes;         /* told to the viewer */
    unsigned moves;           /* of the feed, to the answer of another stream */
    unsigned pages;           /* given to it */
    uint64_t page_from;       /* the last one's offset */
    size_t page_n;            /* and bytes */
    uint64_t wanted;          /* a condition's argument */
} world_t;

static const live_question_t why = {.text = {"Why?", 4}};

/* --- the world ---------------------------------------------------------------------------- */

static inline void
on_changed(void *arg)
{
    ((world_t *)arg)->changes++;
}

static inline void
on_paged(void *arg, uint64_t from, svc_str bytes)
{
    world_t *world = arg;

    world->pages++;
    world->page_from = from;
    world->page_n = bytes.n;
    assert_memory_equal(bytes.p, world->fakes.truth + from, bytes.n);
}

static inline void
on_peer(void *arg, svc_peer_event event, uint64_t instance)
{
    (void)arg;
    (void)event;
    (void)instance;
}

/* The hub's part: there is no other feed, so this one takes the name. */
static inline live_feed_t *
on_moved(void *arg, live_feed_t *feed, svc_str stream)
{
    world_t *world = arg;

    world->moves++;
    live_feed_rename(feed, stream);
    return feed;
}

static inline bool
both_up(void *arg)
{
    const world_t *world = arg;

    return svc_peers_is_up(world->convo) && svc_peers_is_up(world->llm);
}

/* Opens the fakes. */
static inline void
world_init(world_t *world)
{
    fakes_open(&world->fakes);
    world->fakes.config.gateway_request_timeout_s = 10;
    world->fakes.config.gateway_reattach_s = 10;
}

/* Connects to convo-svc at `convo` and to llm-svc, and makes the feed with its reader. */
static inline void
world_connect(world_t *world, const char *convo)
{
    live_subject_t subject = {.user = 3, .conversation = 9};
    fixture_t *bus = &world->fakes.bus;
    char *error = NULL;

    world->convo = svc_peers_new(&bus->ctx, "convo-svc", convo, on_peer, world, &error);
    world->llm = svc_peers_new(&bus->ctx, "llm-svc", world->fakes.endpoints[FAKE_LLM],
                               on_peer, world, &error);
    fixture_run_until(bus, both_up, world);
    world->bus = (live_bus_t){&bus->ctx,     world->convo, world->llm,
                              LIVE_RENEW_MS, on_moved,     world};
    svc_random(subject.stream, sizeof subject.stream);
    svc_random(subject.trace, sizeof subject.trace);
    world->feed = live_feed_new(&world->bus, &subject);
    world->viewer = (live_viewer_t){
        .changed = on_changed, .paged = on_paged, .arg = world};
    world->follows = true;
    assert_int_equal(live_feed_join(world->feed, &world->viewer), 1);
}

static inline int
open_world(void **state)
{
    world_t *world = svc_alloc(sizeof *world);

    world_init(world);
    world_connect(world, world->fakes.endpoints[FAKE_CONVO]);
    *state = world;
    return 0;
}

static inline int
close_world(void **state)
{
    world_t *world = *state;

    if (world->viewer.live != NULL)
        assert_int_equal(live_feed_leave(world->feed, &world->viewer), 0);
    live_feed_destroy(&world->feed);
    svc_peers_destroy(&world->convo);
    svc_peers_destroy(&world->llm);
    fakes_close(&world->fakes);
    free(world);
    return 0;
}

static inline const feed_t *
feed_of(const world_t *world)
{
    return live_feed_feed(world->feed);
}

/* A frame has come in with bytes [from, from + n) of the text of `fence`. */
static inline void
frame(world_t *world, uint64_t fence, uint64_t from, size_t n)
{
    proto_token_t token = {PROTO_VERSION,
                           {(const char *)world->fakes.stream, PROTO_STREAM_BYTES},
                           fence,
                           from,
                           PROTO_TOKEN_TEXT,
                           {world->fakes.truth + from, n}};

    live_feed_take_token(world->feed, &token);
}

static inline void
run_until(world_t *world, bool (*cond)(void *))
{
    fixture_run_until(&world->fakes.bus, cond, world);
}

static inline bool
is_heard(void *arg)
{
    return feed_status(feed_of(arg))->heard;
}

/* Ticks and reads as the hub and a viewer do; true when all wanted text is here. */
static inline bool
has_wanted(void *arg)
{
    world_t *world = arg;

    live_feed_tick(world->feed);
    if (world->follows)
        live_viewer_moved(&world->viewer, feed_end(feed_of(world)));
    return feed_limit(feed_of(world)) >= world->wanted;
}

static inline bool
has_failed(void *arg)
{
    world_t *world = arg;

    live_feed_tick(world->feed);
    return feed_failed(feed_of(world)) != RC_OK;
}

static inline void
await_text(world_t *world, uint64_t n)
{
    world->wanted = n;
    run_until(world, has_wanted);
    svc_str text = feed_text(feed_of(world), feed_base(feed_of(world)));
    assert_memory_equal(text.p, world->fakes.truth + feed_base(feed_of(world)), text.n);
}

/* Asks; the question is committed, and text flows when `streams`. */
static inline void
ask(world_t *world, bool streams)
{
    world->fakes.status.state = streams ? ANSWER_STREAMING : ANSWER_WAITING;
    assert_int_equal(live_feed_ask(world->feed, &why), RC_OK);
    run_until(world, is_heard);
    assert_string_equal(world->fakes.scripts[FAKE_ASK].asked, "3: 9 Why?");
}

static inline bool
status_is_told(void *arg)
{
    const world_t *world = arg;
    const feed_status_t *status = feed_status(feed_of(world));

    return (int)status->state == world->fakes.status.state &&
           status->length == world->fakes.journaled &&
           status->lost == world->fakes.status.lost;
}

/* convo-svc says how things are; done when the feed knows. */
static inline void
tell(world_t *world, answer_state state, uint64_t journaled)
{
    world->fakes.status.state = (int)state;
    world->fakes.journaled = journaled;
    fake_tell(&world->fakes);
    run_until(world, status_is_told);
}

/* convo-svc ends the watch with an error. */
static inline void
break_watch(world_t *world, svc_rc rc)
{
    svc_call_finish(svc_server_call(world->fakes.servers[FAKE_CONVO], world->fakes.watch),
                    rc, NULL);
}

static inline unsigned
asked(const world_t *world, fake_op op)
{
    return world->fakes.scripts[op].n;
}

static inline uint64_t
count(const world_t *world, svc_metric metric)
{
    return fixture_count(&world->fakes.bus, metric);
}

#define FEED_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

#endif
