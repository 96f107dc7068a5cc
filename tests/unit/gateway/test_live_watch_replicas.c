/* test_live_watch_replicas.c - one feed and two convo-svc: whom it asks, and what it does when one of them goes.
 *
 * The first one is the usual fake; the second one is known to the test by its instance and does only
 * what feeds want of it. Which of the two owns the answer, the test says. */
#include "live_feed_fixture.h"

/* The second convo-svc. */
typedef struct {
    world_t *world;       /* whose answer it may own */
    svc_ctx_t ctx;        /* its own name and instance */
    svc_server_t *server; /* NULL: away */
    char endpoints[160];  /* of both, for the feed */
    uint64_t watch;       /* kept; 0: none */
    unsigned watches;     /* asked for */
    unsigned tails;       /* handed in */
    unsigned unwatches;   /* told */
    bool is_owner;        /* else it tells once */
    bool refuses;         /* every watch */
    uint64_t owner;       /* as it tells it; 0: itself */
} second_t;

typedef struct {
    world_t world; /* first */
    second_t second;
} pair_t;

static status_rep_t
second_status(const second_t *self)
{
    status_rep_t status = fake_status(&self->world->fakes);

    status.owner = self->owner != 0 ? self->owner : self->ctx.instance;
    return status;
}

static svc_rc
on_second_watch(void *arg, svc_call_t *call, const void *req, void *rep)
{
    second_t *self = arg;
    status_rep_t status = second_status(self);

    (void)req;
    self->watches++;
    if (self->refuses)
        return RC_UNAVAILABLE;
    *(status_rep_t *)rep = status;
    if (!self->is_owner || answer_state_is_terminal(status.state))
        return RC_OK;
    self->watch = svc_call_id(call);
    (void)svc_call_partial(call, &status, 12000);
    return RC_LATER;
}

static svc_rc
on_second_tail(void *arg, svc_call_t *call, const void *req, void *rep)
{
    second_t *self = arg;

    (void)call;
    (void)req;
    (void)rep;
    self->tails++;
    return RC_OK;
}

static svc_rc
on_second_unwatch(void *arg, svc_call_t *call, const void *req, void *rep)
{
    second_t *self = arg;

    (void)call;
    (void)req;
    (void)rep;
    self->unwatches++;
    return RC_OK;
}

// clang-format off
static const svc_op_t second_ops[] = {
    {OP_CONVO_WATCH,   &watch_req_schema,   &status_rep_schema, on_second_watch,   SVC_ANYONE, 20000},
    {OP_CONVO_TAIL,    &tail_req_schema,    &empty_schema,      on_second_tail,    SVC_ANYONE, 20000},
    {OP_CONVO_UNWATCH, &unwatch_req_schema, &empty_schema,      on_second_unwatch, SVC_ANYONE, 20000},
    {0},
};
// clang-format on

static bool
both_convos_up(void *arg)
{
    const pair_t *pair = arg;

    return svc_peers_has(pair->world.convo,
                         pair->world.fakes.contexts[FAKE_CONVO].instance) &&
           svc_peers_has(pair->world.convo, pair->second.ctx.instance);
}

/* Opens the world of one convo-svc, and gives its feed a second one. */
static int
open_pair(void **state)
{
    pair_t *pair = svc_alloc(sizeof *pair);
    world_t *world = &pair->world;
    second_t *second = &pair->second;
    char *error = NULL;

    world_init(world);
    second->world = world;
    second->ctx = world->fakes.bus.ctx;
    second->ctx.service = "convo-svc";
    second->ctx.instance = svc_random_u64();
    assert_int_equal(svc_server_new(&second->ctx, "tcp://127.0.0.1:*", second_ops, second,
                                    &second->server, &error),
                     RC_OK);
    snprintf(second->endpoints, sizeof second->endpoints, "%s,%s",
             world->fakes.endpoints[FAKE_CONVO], svc_server_endpoint(second->server));
    world_connect(world, second->endpoints);
    fixture_run_until(&world->fakes.bus, both_convos_up, pair);
    world->fakes.config.gateway_reattach_s = 20;
    *state = pair;
    return 0;
}

static int
close_pair(void **state)
{
    pair_t *pair = *state;

    svc_server_destroy(&pair->second.server);
    return close_world(state);
}

/* --- conditions --------------------------------------------------------------------------- */

static bool
second_is_watched(void *arg)
{
    pair_t *pair = arg;

    live_feed_tick(pair->world.feed);
    return pair->second.watch != 0;
}

static bool
first_is_watched(void *arg)
{
    pair_t *pair = arg;

    live_feed_tick(pair->world.feed);
    return pair->world.fakes.watch != 0;
}

static bool
second_was_asked(void *arg)
{
    return ((pair_t *)arg)->second.watch != 0;
}

static bool
second_has_tail(void *arg)
{
    return ((pair_t *)arg)->second.tails > 0;
}

static bool
second_is_unwatched(void *arg)
{
    return ((pair_t *)arg)->second.unwatches > 0;
}

static unsigned
watches(const pair_t *pair)
{
    return pair->second.watches + asked(&pair->world, FAKE_WATCH);
}

static bool
was_asked_thrice(void *arg)
{
    pair_t *pair = arg;

    live_feed_tick(pair->world.feed);
    return watches(pair) >= 3;
}

static void
await(pair_t *pair, bool (*cond)(void *))
{
    fixture_run_until(&pair->world.fakes.bus, cond, pair);
}

/* The feed is told how an answer stands that `owner` owns. */
static void
watch(pair_t *pair, uint64_t owner, uint64_t journaled)
{
    world_t *world = &pair->world;

    memcpy(world->fakes.stream, feed_stream(feed_of(world)).p, PROTO_STREAM_BYTES);
    world->fakes.status.state = ANSWER_STREAMING;
    world->fakes.journaled = world->fakes.released = journaled;
    status_rep_t status = fake_status(&world->fakes);
    status.owner = owner;
    live_feed_watch(world->feed, &status, 0);
}

/* --- tests -------------------------------------------------------------------------------- */

static void
the_owner_is_watched_and_nobody_else(void **state)
{
    pair_t *pair = *state;

    pair->second.is_owner = true;
    watch(pair, pair->second.ctx.instance, 100);
    await(pair, second_is_watched);
    await_text(&pair->world, 100);
    assert_int_equal(asked(&pair->world, FAKE_WATCH), 0);
    assert_int_equal(pair->second.watches, 1);
    live_feed_unwatch(pair->world.feed);
    await(pair, second_is_unwatched);
}

static void
one_that_does_not_own_it_names_who_does(void **state)
{
    pair_t *pair = *state;

    pair->second.is_owner = true;
    pair->world.fakes.is_foreign = true; /* it owns nothing, and names the second one */
    pair->world.fakes.status.owner = pair->second.ctx.instance;
    watch(pair, pair->world.fakes.contexts[FAKE_CONVO].instance, 50);
    await(pair, second_was_asked); /* no tick was needed */
    assert_int_equal(asked(&pair->world, FAKE_WATCH), 1);
    await_text(&pair->world, 50);
}

static void
an_owner_that_goes_down_is_looked_for_at_once_elsewhere(void **state)
{
    pair_t *pair = *state;

    pair->second.is_owner = true;
    pair->world.fakes.is_foreign = true; /* until it has taken over */
    watch(pair, pair->second.ctx.instance, 50);
    await(pair, second_is_watched);
    pair->world.fakes.status.owner = pair->second.ctx.instance;
    svc_server_destroy(&pair->second.server);
    fakes_await(&pair->world.fakes, FAKE_WATCH, 1); /* no tick was needed */
    await(pair, was_asked_thrice);
    pair->world.fakes.is_foreign = false;
    pair->world.fakes.status.owner = pair->world.fakes.contexts[FAKE_CONVO].instance;
    await(pair, first_is_watched);
    assert_int_equal(feed_failed(feed_of(&pair->world)), RC_OK);
    tell(&pair->world, ANSWER_COMPLETE, 50);
    await_text(&pair->world, 50);
}

static void
an_owner_that_nobody_finds_is_not_looked_for_for_ever(void **state)
{
    pair_t *pair = *state;
    const uint64_t began_ms = svc_mono_ms();

    pair->world.fakes.is_foreign = true;
    pair->second.owner = pair->world.fakes.status.owner = 4711; /* out of our reach */
    watch(pair, 4711, 50);
    await(pair, was_asked_thrice);
    pair->world.fakes.config.gateway_reattach_s = 1;
    run_until(&pair->world, has_failed);
    assert_int_equal(feed_failed(feed_of(&pair->world)), RC_UNAVAILABLE);
    /* every 250 ms, not in a circle */
    assert_in_range(watches(pair), 3, 3 + (svc_mono_ms() - began_ms) / 200);
}

static void
an_owner_that_refuses_is_not_asked_in_a_circle(void **state)
{
    pair_t *pair = *state;
    const uint64_t began_ms = svc_mono_ms();

    pair->second.refuses = true;
    watch(pair, pair->second.ctx.instance, 50);
    await(pair, was_asked_thrice);
    pair->world.fakes.config.gateway_reattach_s = 1;
    run_until(&pair->world, has_failed);
    assert_int_equal(feed_failed(feed_of(&pair->world)), RC_UNAVAILABLE);
    /* twice in 250 ms at most */
    assert_in_range(pair->second.watches, 3, 4 + (svc_mono_ms() - began_ms) / 100);
}

static void
a_tail_goes_to_the_owner_and_again_to_the_next_one(void **state)
{
    pair_t *pair = *state;

    watch(pair, pair->world.fakes.contexts[FAKE_CONVO].instance, 50);
    await(pair, first_is_watched);
    run_until(&pair->world,
              status_is_told); /* by the owner: until then no frame is taken */
    await_text(&pair->world, 50);
    frame(&pair->world, FAKE_FENCE, 50, 30);
    await_text(&pair->world, 80);
    pair->world.fakes.status.lost = true;
    tell(&pair->world, ANSWER_STREAMING, 50);
    fakes_await(&pair->world.fakes, FAKE_TAIL, 1);
    assert_int_equal(pair->second.tails, 0);
    pair->second.is_owner = true;
    svc_server_destroy(&pair->world.fakes.servers[FAKE_CONVO]);
    await(pair, second_is_watched);
    await(pair, second_has_tail);
}

#define PAIR_TEST(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR_TEST(the_owner_is_watched_and_nobody_else),
        PAIR_TEST(one_that_does_not_own_it_names_who_does),
        PAIR_TEST(an_owner_that_goes_down_is_looked_for_at_once_elsewhere),
        PAIR_TEST(an_owner_that_nobody_finds_is_not_looked_for_for_ever),
        PAIR_TEST(an_owner_that_refuses_is_not_asked_in_a_circle),
        PAIR_TEST(a_tail_goes_to_the_owner_and_again_to_the_next_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
