/* feed_hub_fixture.h - a hub between readers and fake services, over real sockets.
 *
 * Both fakes, their PUB socket and the hub share one loop. The fakes hold the whole answer; the test
 * decides which frames are published, what is journaled, and when convo-svc is away. Included by
 * the tests of feed_hub. */
#ifndef TESTS_UNIT_GATEWAY_FEED_HUB_FIXTURE_H
#define TESTS_UNIT_GATEWAY_FEED_HUB_FIXTURE_H

#include "fake_services.h"
#include "gateway/feed_hub.h"

#define FENCE FAKE_FENCE

static const live_question_t why = {.text = {"Why?", 4}};

typedef struct {
    fakes_t fakes;                      /* first: loop, services, what they give out */
    svc_peers_t *convo_peer, *llm_peer; /* the hub's */
    feed_hub_t *hub;                    /* what is tested */
    live_viewer_t viewer;               /* its reader */
    unsigned changes;                   /* told to it */
    uint64_t page_from;                 /* of the viewer's page */
    size_t page_n;                      /* its bytes */
    unsigned wanted;                    /* a condition's argument */
} world_t;

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

    world->page_from = from;
    world->page_n = bytes.n;
    assert_memory_equal(bytes.p, world->fakes.truth + from, bytes.n);
}

static inline void
on_convo(void *arg, svc_peer_event event, uint64_t instance)
{
    world_t *world = arg;

    (void)instance;
    if (event == SVC_PEER_UP && world->hub != NULL)
        feed_hub_reattach(world->hub);
}

static inline void
on_llm(void *arg, svc_peer_event event, uint64_t instance)
{
    (void)arg;
    (void)event;
    (void)instance;
}

static inline bool
both_up(void *arg)
{
    const world_t *world = arg;

    return svc_peers_is_up(world->convo_peer) && svc_peers_is_up(world->llm_peer);
}

static inline int
open_world(void **state)
{
    world_t *world = svc_alloc(sizeof *world);
    char *error = NULL;

    fakes_open(&world->fakes);
    world->fakes.config.gateway_request_timeout_s = 10;
    world->fakes.config.gateway_reattach_s = 20; /* nobody waits for so long */
    world->convo_peer = svc_peers_new(&world->fakes.bus.ctx, "convo-svc",
                                      world->fakes.endpoints[FAKE_CONVO], on_convo, world,
                                      &error);
    world->llm_peer = svc_peers_new(&world->fakes.bus.ctx, "llm-svc",
                                    world->fakes.endpoints[FAKE_LLM], on_llm, world,
                                    &error);
    world->hub = feed_hub_new(&world->fakes.bus.ctx, world->convo_peer, world->llm_peer,
                              &error);
    assert_non_null(world->hub);
    world->viewer = (live_viewer_t){
        .changed = on_changed, .paged = on_paged, .arg = world};
    fixture_run_until(&world->fakes.bus, both_up, world);
    fixture_run_until(&world->fakes.bus, fake_is_subscribed, &world->fakes);
    *state = world;
    return 0;
}

static inline bool
has_no_feed(void *arg)
{
    return feed_hub_feeds(((world_t *)arg)->hub) == 0;
}

static inline int
close_world(void **state)
{
    world_t *world = *state;

    feed_hub_leave(world->hub, &world->viewer);
    world->fakes.config.gateway_reattach_s = 1;
    world->fakes.journaled =
        world->fakes.released; /* nothing is left that could be lost */
    fixture_run_until(&world->fakes.bus, has_no_feed, world);
    feed_hub_destroy(&world->hub);
    svc_peers_destroy(&world->convo_peer);
    svc_peers_destroy(&world->llm_peer);
    fakes_close(&world->fakes);
    free(world);
    return 0;
}

/* --- conditions --------------------------------------------------------------------------- */

static const feed_t *
feed_of(const world_t *world)
{
    return live_feed_feed(world->viewer.live);
}

static inline bool
is_heard(void *arg)
{
    return feed_status(feed_of(arg))->heard;
}

static inline bool
is_streaming(void *arg)
{
    return feed_status(feed_of(arg))->state == ANSWER_STREAMING;
}

static inline bool
is_settled(void *arg)
{
    return feed_is_settled(feed_of(arg));
}

static inline bool
has_all_released(void *arg)
{
    world_t *world = arg;

    world->viewer.offset = feed_end(feed_of(world)); /* a viewer that reads at once */
    live_viewer_moved(&world->viewer, world->viewer.offset);
    return world->viewer.offset == world->fakes.released;
}

static inline bool
convo_is_down(void *arg)
{
    return !svc_peers_is_up(((world_t *)arg)->convo_peer);
}

static inline bool
llm_is_down(void *arg)
{
    return !svc_peers_is_up(((world_t *)arg)->llm_peer);
}

static inline bool
is_rewatched(void *arg)
{
    return ((world_t *)arg)->fakes.scripts[FAKE_WATCH].n > 0;
}

static inline bool
has_page(void *arg)
{
    return ((world_t *)arg)->page_n > 0;
}

static inline bool
has_tail(void *arg)
{
    const world_t *world = arg;

    return world->fakes.tail.n == world->fakes.released - world->fakes.journaled;
}

/* True when so many subscriptions have been made, all in all. */
static inline bool
is_subscribed(void *arg)
{
    world_t *world = arg;

    (void)fake_is_subscribed(&world->fakes);
    return world->fakes.subscriptions >= world->wanted;
}

static inline bool
has_one_feed(void *arg)
{
    return feed_hub_feeds(((world_t *)arg)->hub) == 1;
}

static inline uint64_t
count(const world_t *world, svc_metric metric)
{
    return fixture_count(&world->fakes.bus, metric);
}

static inline void
assert_runs_until(world_t *world, bool (*cond)(void *))
{
    assert_true(fixture_runs_until(&world->fakes.bus, cond, world, FIXTURE_PATIENCE_MS));
}

/* Asks and waits until the question is known to be committed; then the answer streams. */
static inline void
ask(world_t *world)
{
    live_subject_t who = {.user = 3, .conversation = 9};

    assert_int_equal(feed_hub_ask(world->hub, &who, &why, &world->viewer), RC_OK);
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    assert_runs_until(world, is_heard);
    assert_string_equal(world->fakes.scripts[FAKE_ASK].asked, "3: 9 Why?");
}

static inline void
stream(world_t *world, uint64_t journaled)
{
    world->fakes.status.state = ANSWER_STREAMING;
    world->fakes.journaled = journaled;
    fake_tell(&world->fakes);
    assert_runs_until(world, is_streaming);
}

static inline void
end_answer(world_t *world)
{
    world->fakes.status.state = ANSWER_COMPLETE;
    world->fakes.journaled = world->fakes.released;
    fake_tell(&world->fakes);
    assert_runs_until(world, is_settled);
    assert_int_equal(feed_failed(feed_of(world)), RC_OK);
}

/* Compares what the window has. */
static inline void
assert_true_text(const world_t *world)
{
    const feed_t *feed = feed_of(world);
    svc_str text = feed_text(feed, feed_base(feed));

    assert_int_equal(text.n, feed_limit(feed) - feed_base(feed));
    assert_memory_equal(text.p, world->fakes.truth + feed_base(feed), text.n);
}

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

#endif
