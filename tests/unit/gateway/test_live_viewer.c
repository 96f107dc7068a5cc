/* test_live_viewer.c - the readers of one feed: they come and go, and page in what they have missed.
 *
 * Pages are asked for once at a time and again when they do not come; a reader that gets
 * none for too long starves, and one that has left gets none. */
#include "live_feed_fixture.h"

static bool
has_page(void *arg)
{
    world_t *world = arg;

    live_feed_tick(world->feed);
    return world->pages >= world->wanted;
}

static void
a_slow_viewer_gets_the_page_it_wants_once(void **state)
{
    world_t *world = *state;

    ask(world, true);
    world->fakes.journaled = 500000;
    live_viewer_want_page(&world->viewer, 7);
    live_viewer_want_page(&world->viewer, 8); /* one at a time */
    world->wanted = 1;
    run_until(world, has_page);
    assert_int_equal(world->page_from, 7);
    assert_int_equal(world->page_n, PROTO_PAGE_MAX_BYTES);
    assert_string_equal(world->fakes.scripts[FAKE_READ].asked, "3: from 7");
    live_viewer_want_page(&world->viewer, 8);
    world->wanted = 2;
    run_until(world, has_page);
    assert_int_equal(world->page_from, 8);
    assert_int_equal(asked(world, FAKE_READ), 2);
}

static void
a_page_that_fails_is_asked_for_again(void **state)
{
    world_t *world = *state;

    world->fakes.config.gateway_reattach_s = 10;
    ask(world, true);
    world->fakes.scripts[FAKE_READ].rc = RC_BUSY;
    live_viewer_want_page(&world->viewer, 7);
    world->wanted = 1;
    fakes_await(&world->fakes, FAKE_READ, 1);
    assert_false(fixture_runs_until(&world->fakes.bus, has_page, world, 20));
    world->fakes.scripts[FAKE_READ].rc = RC_OK; /* with an empty page at first */
    assert_false(fixture_runs_until(&world->fakes.bus, has_page, world, 20));
    world->fakes.journaled = 500000;
    run_until(world, has_page);
    assert_int_equal(world->page_from, 7);
    assert_false(world->viewer.starved);
}

static bool
is_starved(void *arg)
{
    world_t *world = arg;

    live_viewer_want_page(&world->viewer, 7); /* wanting again does not start anew */
    live_feed_tick(world->feed);
    return world->viewer.starved;
}

static void
a_viewer_whose_page_does_not_come_starves(void **state)
{
    world_t *world = *state;

    world->fakes.config.gateway_reattach_s = 1;
    ask(world, true);
    world->fakes.scripts[FAKE_READ].rc = RC_LATER;
    unsigned changes = world->changes;
    live_viewer_want_page(&world->viewer, 7);
    run_until(world, is_starved);
    assert_true(world->changes > changes); /* it was told */
    assert_int_equal(world->pages, 0);
}

static void
viewers_come_and_go(void **state)
{
    world_t *world = *state;
    live_viewer_t second = world->viewer;

    ask(world, true);
    assert_int_equal(live_feed_join(world->feed, &second), 2);
    live_viewer_t third = world->viewer;
    assert_int_equal(live_feed_join(world->feed, &third), 3);
    assert_int_equal(live_feed_leave(world->feed, &second), 2); /* from the middle */
    assert_int_equal(live_feed_leave(world->feed, &third), 1);
    assert_int_equal(live_feed_join(world->feed, &second), 2);
    unsigned changes = world->changes;
    frame(world, FAKE_FENCE, 0, 10);
    assert_int_equal(world->changes, changes + 2);
    assert_int_equal(live_feed_leave(world->feed, &world->viewer), 1);
    assert_null(world->viewer.live);
    frame(world, FAKE_FENCE, 10, 10);
    assert_int_equal(world->changes, changes + 3);
    assert_int_equal(live_feed_leave(world->feed, &second), 0);
    frame(world, FAKE_FENCE, 20, 10); /* for nobody */
    assert_int_equal(world->changes, changes + 3);
    assert_int_equal(feed_end(feed_of(world)), 20);
}

/* Ticks until it is: each tick asks again, unless the answer to the last question is still on its way. */
static bool
is_gone(void *arg)
{
    world_t *world = arg;

    live_feed_tick(world->feed);
    return world->viewer.gone != RC_OK;
}

static void
a_viewer_whose_page_is_gone_hears_why(void **state)
{
    world_t *world = *state;

    ask(world, true);
    world->fakes.scripts[FAKE_READ].rc = RC_NOT_FOUND;
    world->fakes.scripts[FAKE_WATCH].rc = RC_BUSY;
    live_viewer_want_page(&world->viewer, 7);
    fakes_await(&world->fakes, FAKE_WATCH, 1);
    assert_false(fixture_runs_until(&world->fakes.bus, is_gone, world, 20));
    world->fakes.scripts[FAKE_WATCH].rc = RC_SUPERSEDED;
    unsigned changes = world->changes;
    run_until(world, is_gone);
    assert_int_equal(world->viewer.gone, RC_SUPERSEDED);
    assert_int_equal(world->changes, changes + 1);
    assert_int_equal(world->pages, 0);
    const unsigned asked = world->fakes.scripts[FAKE_READ].n;
    live_feed_tick(world->feed); /* it is not asked for any more */
    fixture_run_for(&world->fakes.bus, 20);
    assert_int_equal(world->fakes.scripts[FAKE_READ].n, asked);
}

static void
a_viewer_that_leaves_gets_no_page(void **state)
{
    world_t *world = *state;

    ask(world, true);
    world->fakes.scripts[FAKE_READ].rc = RC_LATER;
    live_viewer_want_page(&world->viewer, 7);
    fakes_await(&world->fakes, FAKE_READ, 1);
    assert_int_equal(live_feed_leave(world->feed, &world->viewer), 0);
    read_rep_t page = {7, {world->fakes.truth + 7, 10}, ANSWER_STREAMING, 17};
    svc_call_finish(fakes_kept(&world->fakes, FAKE_CONVO, FAKE_READ), RC_OK, &page);
    fixture_run_for(&world->fakes.bus, 20);
    assert_int_equal(world->pages, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        FEED_TEST(a_slow_viewer_gets_the_page_it_wants_once),
        FEED_TEST(a_page_that_fails_is_asked_for_again),
        FEED_TEST(a_viewer_whose_page_does_not_come_starves),
        FEED_TEST(a_viewer_whose_page_is_gone_hears_why),
        FEED_TEST(viewers_come_and_go),
        FEED_TEST(a_viewer_that_leaves_gets_no_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
