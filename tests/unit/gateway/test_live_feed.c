/* test_live_feed.c - the text of one feed: frames in any order, what is missing is fetched, up to the end.
 *
 * What keeps the answer in sight, what is handed in, and its viewers are test_live_feed_watch's. */
#include "live_feed_fixture.h"

#include "gateway/live_feed_private.h"

/* --- frames ------------------------------------------------------------------------------- */

static void
frames_in_order_need_no_call(void **state)
{
    world_t *world = *state;

    ask(world, true);
    for (uint64_t at = 0; at < 100; at += 10)
        frame(world, FAKE_FENCE, at, 10);
    await_text(world, 100);
    assert_int_equal(world->changes, 11); /* one of them the status */
    assert_int_equal(asked(world, FAKE_REPLAY) + asked(world, FAKE_READ), 0);
    assert_int_equal(count(world, SVC_M_GAPS), 0);
}

static void
overlap_is_the_same_text_and_is_skipped(void **state)
{
    world_t *world = *state;

    ask(world, true);
    frame(world, FAKE_FENCE, 0, 10);
    frame(world, FAKE_FENCE, 5, 10);
    assert_int_equal(feed_end(feed_of(world)), 15);
    unsigned changes = world->changes;
    frame(world, FAKE_FENCE, 0, 10);
    frame(world, FAKE_FENCE, 5, 10);
    assert_int_equal(feed_end(feed_of(world)), 15);
    assert_int_equal(world->changes, changes);
    await_text(world, 15);
}

static void
frames_of_another_text_change_nothing(void **state)
{
    world_t *world = *state;

    ask(world, true);
    frame(world, FAKE_FENCE, 0, 10);
    unsigned changes = world->changes;
    frame(world, FAKE_FENCE + 1, 10, 10);
    frame(world, FAKE_FENCE - 1, 500, 10);
    assert_int_equal(feed_end(feed_of(world)), 10);
    assert_int_equal(world->changes, changes);
    assert_int_equal(count(world, SVC_M_TOKENS_FENCED), 2);
    live_feed_tick(world->feed);
    assert_int_equal(asked(world, FAKE_REPLAY), 0);
    assert_false(feed_has_gap(feed_of(world)));
}

/* --- what is missing ---------------------------------------------------------------------- */

static void
a_gap_is_replayed(void **state)
{
    world_t *world = *state;

    ask(world, true);
    world->fakes.released = 40;
    frame(world, FAKE_FENCE, 0, 10);
    frame(world, FAKE_FENCE, 30, 10);
    assert_int_equal(feed_end(feed_of(world)), 10);
    await_text(world, 40);
    assert_string_equal(world->fakes.scripts[FAKE_REPLAY].asked, "fence 7 from 10");
    assert_int_equal(asked(world, FAKE_READ), 0);
    assert_int_equal(count(world, SVC_M_GAPS), 1);
    assert_int_equal(count(world, SVC_M_REPLAYED_BYTES), 30);
}

static void
a_long_gap_is_replayed_page_by_page_one_at_a_time(void **state)
{
    world_t *world = *state;

    ask(world, true);
    world->fakes.released = 300000;
    world->fakes.scripts[FAKE_REPLAY].rc = RC_LATER;
    for (uint64_t at = 100; at < 300000; at += 29990)
        frame(world, FAKE_FENCE, at, 10);
    fakes_await(&world->fakes, FAKE_REPLAY, 1);
    live_feed_tick(world->feed);
    assert_int_equal(asked(world, FAKE_REPLAY), 1);
    world->fakes.scripts[FAKE_REPLAY].rc = RC_OK;
    replay_rep_t first = {0, {world->fakes.truth, 5}, 300000};
    svc_call_finish(fakes_kept(&world->fakes, FAKE_LLM, FAKE_REPLAY), RC_OK, &first);
    await_text(world, 299910);
    assert_int_equal(asked(world, FAKE_REPLAY), 1 + (300000 + 65535) / 65536);
}

static void
what_llm_svc_will_never_have_is_read_at_once(void **state)
{
    static const svc_rc never[] = {RC_TOO_OLD, RC_NOT_FOUND, RC_STALE};
    world_t *world = *state;

    ask(world, true);
    for (unsigned i = 0; i < SVC_COUNT(never); i++) {
        uint64_t end = 100 * (i + 1);
        world->fakes.scripts[FAKE_REPLAY].rc = never[i];
        world->fakes.journaled = end;
        frame(world, FAKE_FENCE, end - 10, 10);
        fakes_await(&world->fakes, FAKE_READ, i + 1); /* no tick was needed */
        await_text(world, end);
        assert_int_equal(asked(world, FAKE_REPLAY), i + 1);
    }
}

static void
sources_that_fail_are_asked_in_turn(void **state)
{
    world_t *world = *state;

    ask(world, true);
    world->fakes.scripts[FAKE_REPLAY].rc = RC_BUSY;
    world->fakes.scripts[FAKE_READ].rc = RC_BUSY;
    frame(world, FAKE_FENCE, 90, 10);
    world->wanted = 100;
    while (asked(world, FAKE_READ) == 0)
        assert_false(fixture_runs_until(&world->fakes.bus, has_wanted, world, 20));
    assert_int_equal(asked(world, FAKE_REPLAY), 1);
    world->fakes.scripts[FAKE_REPLAY].rc = RC_OK;
    world->fakes.released = 100;
    await_text(world, 100);
    assert_int_equal(asked(world, FAKE_READ), 1);
    assert_int_equal(asked(world, FAKE_REPLAY), 2);
}

static void
text_that_is_not_out_yet_is_asked_for_again(void **state)
{
    world_t *world = *state;

    ask(world, true);
    frame(world, FAKE_FENCE, 90, 10); /* released: 0, journaled: 0 */
    world->wanted = 100;
    fakes_await(&world->fakes, FAKE_REPLAY, 1);
    assert_false(fixture_runs_until(&world->fakes.bus, has_wanted, world, 20));
    world->fakes.released = 100;
    await_text(world, 100);
}

static bool
llm_is_down(void *arg)
{
    return !svc_peers_is_up(((world_t *)arg)->llm);
}

static void
without_llm_svc_the_journal_fills_the_gap(void **state)
{
    world_t *world = *state;

    ask(world, true);
    svc_server_destroy(&world->fakes.servers[FAKE_LLM]);
    run_until(world, llm_is_down);
    world->fakes.journaled = 200000;
    frame(world, FAKE_FENCE, 199990, 10);
    await_text(world, 200000);
    assert_int_equal(asked(world, FAKE_REPLAY), 0);
    assert_int_equal(asked(world, FAKE_READ), 4);
    assert_string_equal(world->fakes.scripts[FAKE_READ].asked, "3: from 196608");
}

static void
a_status_tells_of_text_that_no_frame_has_brought(void **state)
{
    world_t *world = *state;

    ask(world, false);
    world->fakes.released = 50;
    tell(world, ANSWER_STREAMING, 50);
    assert_int_equal(asked(world, FAKE_REPLAY), 0); /* the frames get their chance */
    await_text(world, 50);
    assert_int_equal(asked(world, FAKE_REPLAY), 1);
}

static void
nothing_is_fetched_that_nobody_is_near(void **state)
{
    world_t *world = *state;

    world->follows = false;
    ask(world, true);
    for (uint64_t at = 0; at < 200000; at += 50000)
        frame(world, FAKE_FENCE, at, 50000);
    world->fakes.released = 300000;
    frame(world, FAKE_FENCE, 299990, 10);
    world->wanted = 300000;
    assert_false(fixture_runs_until(&world->fakes.bus, has_wanted, world, 20));
    assert_int_equal(asked(world, FAKE_REPLAY), 0);
    live_viewer_moved(&world->viewer, 190000);
    fakes_await(&world->fakes, FAKE_REPLAY, 1); /* no tick was needed */
    world->follows = true;
    await_text(world, 300000);
}

/* --- the end ------------------------------------------------------------------------------ */

static void
a_missing_end_is_read_from_the_journal(void **state)
{
    world_t *world = *state;

    ask(world, true);
    frame(world, FAKE_FENCE, 0, 10);
    world->fakes.released = 30;
    tell(world, ANSWER_COMPLETE, 30);
    assert_false(feed_is_settled(feed_of(world)));
    await_text(world, 30);
    assert_true(feed_is_settled(feed_of(world)));
    assert_int_equal(asked(world, FAKE_REPLAY), 0); /* what is stored is the truth */
    assert_int_equal(asked(world, FAKE_READ), 1);
}

static void
frames_that_the_end_has_overtaken_still_count(void **state)
{
    world_t *world = *state;
    bool in_time;

    ask(world, true);
    frame(world, FAKE_FENCE, 0, 10);
    tell(world, ANSWER_COMPLETE, 30);
    in_time = world->feed->patience_timer != 0; /* else this machine took it all */
    frame(world, FAKE_FENCE, 10, 20);
    assert_true(feed_is_settled(feed_of(world)));
    await_text(world, 30);
    fakes_await(&world->fakes, FAKE_READ, in_time ? 0 : 1);
    fixture_run_for(&world->fakes.bus, 40); /* nothing is fetched when patience ends */
    assert_int_equal(asked(world, FAKE_READ), in_time ? 0 : 1);
}

static void
an_end_that_nobody_gives_is_given_up(void **state)
{
    world_t *world = *state;

    world->fakes.config.gateway_reattach_s = 1;
    world->fakes.scripts[FAKE_READ].rc = RC_LATER;
    ask(world, true);
    tell(world, ANSWER_COMPLETE, 30);
    run_until(world, has_failed);
    assert_int_equal(feed_failed(feed_of(world)), RC_UNAVAILABLE);
    assert_int_equal(asked(world, FAKE_READ), 1);
}

static void
after_the_end_nobody_watches(void **state)
{
    world_t *world = *state;

    ask(world, true);
    tell(world, ANSWER_COMPLETE, 0);
    unsigned changes = world->changes;
    for (int i = 0; i < 3; i++)
        live_feed_tick(world->feed);
    live_feed_reattach(world->feed);
    fixture_run_for(&world->fakes.bus, 20);
    assert_int_equal(asked(world, FAKE_WATCH), 0);
    assert_int_equal(world->changes, changes);
    assert_int_equal(feed_failed(feed_of(world)), RC_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        FEED_TEST(frames_in_order_need_no_call),
        FEED_TEST(overlap_is_the_same_text_and_is_skipped),
        FEED_TEST(frames_of_another_text_change_nothing),
        FEED_TEST(a_gap_is_replayed),
        FEED_TEST(a_long_gap_is_replayed_page_by_page_one_at_a_time),
        FEED_TEST(what_llm_svc_will_never_have_is_read_at_once),
        FEED_TEST(sources_that_fail_are_asked_in_turn),
        FEED_TEST(text_that_is_not_out_yet_is_asked_for_again),
        FEED_TEST(without_llm_svc_the_journal_fills_the_gap),
        FEED_TEST(a_status_tells_of_text_that_no_frame_has_brought),
        FEED_TEST(nothing_is_fetched_that_nobody_is_near),
        FEED_TEST(a_missing_end_is_read_from_the_journal),
        FEED_TEST(frames_that_the_end_has_overtaken_still_count),
        FEED_TEST(an_end_that_nobody_gives_is_given_up),
        FEED_TEST(after_the_end_nobody_watches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
