/* test_live_watch.c - one feed keeps its answer in sight, and hands in what would be lost.
 *
 * How its text comes together is test_live_feed's, its readers are test_live_viewer's. */
#include "live_feed_fixture.h"

#include "gateway/live_feed_private.h"

/* --- keeping sight ------------------------------------------------------------------------ */

static void
a_refused_question_fails_the_feed(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_ASK].rc = RC_BUSY;
    world->fakes.scripts[FAKE_ASK].text = "no";
    world->fakes.scripts[FAKE_ASK].retry_after_s = 5;
    assert_int_equal(live_feed_ask(world->feed, &why), RC_OK);
    run_until(world, has_failed);
    assert_int_equal(feed_failed(feed_of(world)), RC_BUSY);
    assert_true(svc_str_eq(feed_status(feed_of(world))->text, SVC_LIT("no")));
    assert_int_equal(feed_status(feed_of(world))->retry_after_s, 5);
    assert_int_equal(world->changes, 1);
}

static bool
ticks_until_watched(void *arg)
{
    world_t *world = arg;

    live_feed_tick(world->feed);
    return asked(world, FAKE_WATCH) >= world->wanted;
}

static void
a_watch_that_breaks_is_renewed(void **state)
{
    world_t *world = *state;

    ask(world, true);
    break_watch(world, RC_BUSY);
    world->wanted = 1;
    run_until(world, ticks_until_watched);
    assert_string_equal(world->fakes.scripts[FAKE_WATCH].asked, "3: 9");
    tell(world, ANSWER_STREAMING, 0);
    assert_int_equal(feed_failed(feed_of(world)), RC_OK);
    assert_int_equal(asked(world, FAKE_ASK), 1); /* a question is asked once */
}

static void
a_watch_that_holds_is_renewed_all_the_same(void **state)
{
    world_t *world = *state;

    world->fakes.config.gateway_reattach_s = 10;
    world->bus.renew_ms = 300;
    ask(world, true);
    world->wanted = 1;
    run_until(world, ticks_until_watched);
    tell(world, ANSWER_COMPLETE, 0);
    assert_true(feed_is_settled(feed_of(world)));
}

static bool
watch_is_broken(void *arg)
{
    world_t *world = arg;

    return world->changes >= world->wanted;
}

static void
convo_svc_back_is_watched_without_a_tick(void **state)
{
    world_t *world = *state;

    ask(world, true);
    live_feed_reattach(world->feed); /* one more replica: nothing is missing */
    world->wanted = world->changes + 1;
    break_watch(world, RC_BUSY);
    run_until(world, watch_is_broken);
    assert_int_equal(asked(world, FAKE_WATCH), 0);
    live_feed_reattach(world->feed);
    fakes_await(&world->fakes, FAKE_WATCH, 1);
    tell(world, ANSWER_STREAMING, 5);
}

static void
a_question_without_a_word_yet_is_not_watched(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_ASK].rc = RC_LATER;
    assert_int_equal(live_feed_ask(world->feed, &why), RC_OK);
    fakes_await(&world->fakes, FAKE_ASK, 1);
    live_feed_reattach(world->feed);
    live_feed_tick(world->feed);
    fixture_run_for(&world->fakes.bus, 20);
    assert_int_equal(asked(world, FAKE_WATCH), 0);
    assert_int_equal(feed_failed(feed_of(world)), RC_OK);
}

static void
a_conversation_that_was_deleted_ends_the_feed(void **state)
{
    world_t *world = *state;

    ask(world, true);
    break_watch(world, RC_NOT_FOUND);
    run_until(world, has_failed);
    assert_int_equal(feed_failed(feed_of(world)), RC_DELETED);
}

static void
a_journal_that_was_deleted_ends_the_feed(void **state)
{
    world_t *world = *state;

    ask(world, true);
    world->fakes.scripts[FAKE_REPLAY].rc = RC_NOT_FOUND;
    world->fakes.scripts[FAKE_READ].rc = RC_NOT_FOUND;
    world->fakes.scripts[FAKE_WATCH].rc = RC_NOT_FOUND; /* which is asked why */
    frame(world, FAKE_FENCE, 50, 10);
    run_until(world, has_failed);
    assert_int_equal(feed_failed(feed_of(world)), RC_DELETED);
}

static void
a_journal_that_a_retry_has_replaced_says_so(void **state)
{
    world_t *world = *state;

    ask(world, true);
    world->fakes.scripts[FAKE_REPLAY].rc = RC_NOT_FOUND;
    world->fakes.scripts[FAKE_READ].rc = RC_NOT_FOUND;
    world->fakes.scripts[FAKE_WATCH].rc = RC_SUPERSEDED;
    frame(world, FAKE_FENCE, 50, 10);
    run_until(world, has_failed);
    assert_int_equal(feed_failed(feed_of(world)), RC_SUPERSEDED);
}

static bool
time_has_come(void *arg)
{
    const world_t *world = arg;

    return svc_loop_now_ms(world->fakes.bus.ctx.loop) >= world->wanted;
}

/* The watch breaks and no other succeeds; nobody ticks for longer than gateway.reattach_s. */
static void
lose_sight(world_t *world)
{
    world->fakes.config.gateway_reattach_s = 1;
    ask(world, true);
    world->fakes.scripts[FAKE_WATCH].rc = RC_BUSY;
    world->wanted = world->changes + 1;
    break_watch(world, RC_BUSY);
    run_until(world, watch_is_broken);
    world->wanted = svc_loop_now_ms(world->fakes.bus.ctx.loop) + 1100;
    run_until(world, time_has_come);
}

static void
an_answer_out_of_sight_for_long_is_given_up(void **state)
{
    world_t *world = *state;

    lose_sight(world);
    assert_int_equal(feed_failed(feed_of(world)), RC_OK);
    live_feed_tick(world->feed);
    assert_int_equal(feed_failed(feed_of(world)), RC_UNAVAILABLE);
    assert_int_equal(feed_status(feed_of(world))->retry_after_s, 1);
}

static void
time_that_was_slept_through_does_not_count(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_READ].rc = RC_LATER;
    live_viewer_want_page(&world->viewer, 7);
    lose_sight(world);
    live_feed_forgive(world->feed);
    live_feed_tick(world->feed);
    assert_int_equal(feed_failed(feed_of(world)), RC_OK);
    assert_false(world->viewer.starved);
}

/* It knows neither how far the owner is nor whether that has given the answer up. */
static void
before_the_owner_has_spoken_only_what_is_stored_is_read(void **state)
{
    world_t *world = *state;

    world->fakes.is_foreign = true;
    world->fakes.journaled = 10;
    ask(world, true);
    frame(world, FAKE_FENCE, 0, 50);
    world->fakes.released = 50;
    await_text(world, 10);
    frame(world, FAKE_FENCE, 10, 40);
    assert_int_equal(feed_end(feed_of(world)), 10);
    world->fakes.is_foreign = false;
    world->wanted = asked(world, FAKE_WATCH) + 1;
    run_until(world, ticks_until_watched);
    tell(world, ANSWER_STREAMING, 11);
    frame(world, FAKE_FENCE, 50, 10); /* what was not taken is fetched */
    world->fakes.released = 60;
    await_text(world, 60);
    assert_int_equal(asked(world, FAKE_TAIL), 0);
}

/* --- what is lost with its llm-svc -------------------------------------------------------- */

static bool
has_tail(void *arg)
{
    const world_t *world = arg;

    return world->fakes.tail.n >= world->wanted;
}

static void
what_was_shown_past_the_journal_is_handed_in(void **state)
{
    world_t *world = *state;

    ask(world, true);
    frame(world, FAKE_FENCE, 0, 100000);
    world->fakes.status.lost = true;
    tell(world, ANSWER_STREAMING, 1000);
    world->wanted = 99000;
    run_until(world, has_tail);
    assert_int_equal(world->fakes.tail_from, 1000);
    assert_memory_equal(world->fakes.tail.p, world->fakes.truth + 1000, 99000);
    assert_int_equal(asked(world, FAKE_TAIL), 2);
    assert_int_equal(count(world, SVC_M_TAILS), 2);
    tell(world, ANSWER_STREAMING, 100000); /* all is stored: nothing more */
    fixture_run_for(&world->fakes.bus, 20);
    assert_int_equal(asked(world, FAKE_TAIL), 2);
}

static void
no_character_is_torn_when_a_tail_is_cut(void **state)
{
    world_t *world = *state;

    for (size_t i = 0; i < 99999; i++) /* a, then characters of two bytes each */
        world->fakes.truth[i] = i == 0 ? 'a' : i % 2 == 1 ? '\xc3' : '\xa9';
    ask(world, true);
    frame(world, FAKE_FENCE, 0, 99999);
    world->fakes.status.lost = true;
    tell(world, ANSWER_STREAMING, 0);
    world->wanted = 99999;
    run_until(world, has_tail);
    assert_string_equal(world->fakes.scripts[FAKE_TAIL].asked, "fence 7 from 65535");
}

/* Until then a status offers nothing: one tail at a time. */
static bool
has_its_refusal(void *arg)
{
    const world_t *world = arg;

    return world->feed->tail_call == 0;
}

static void
a_tail_that_is_refused_is_offered_again_with_the_next_status(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_TAIL].rc = RC_BUSY;
    ask(world, true);
    frame(world, FAKE_FENCE, 0, 50);
    world->fakes.status.lost = true;
    tell(world, ANSWER_STREAMING, 10);
    fakes_await(&world->fakes, FAKE_TAIL, 1);
    run_until(world, has_its_refusal);
    fixture_run_for(&world->fakes.bus, 20); /* in which it is not offered */
    assert_int_equal(asked(world, FAKE_TAIL), 1);
    world->fakes.scripts[FAKE_TAIL].rc = RC_OK;
    tell(world, ANSWER_STREAMING, 20);
    world->wanted = 30;
    run_until(world, has_tail);
    assert_int_equal(world->fakes.tail_from, 20);
}

static void
nothing_is_handed_in_that_is_not_wanted(void **state)
{
    world_t *world = *state;

    ask(world, true);
    frame(world, FAKE_FENCE, 0, 50);
    tell(world, ANSWER_STREAMING, 10); /* not lost */
    world->fakes.status.lost = true;
    tell(world, ANSWER_COMPLETE, 50); /* over */
    fixture_run_for(&world->fakes.bus, 20);
    assert_int_equal(asked(world, FAKE_TAIL), 0);
}

/* A call that is still kept is answered; its time may be over on a busy machine. */
static void
answer_kept(world_t *world, size_t service, fake_op op, const void *rep)
{
    svc_call_t *call = fakes_kept(&world->fakes, service, op);

    if (call != NULL)
        svc_call_finish(call, RC_OK, rep);
}

static void
a_feed_that_dies_forgets_its_calls(void **state)
{
    world_t *world = *state;

    ask(world, true);
    world->fakes.scripts[FAKE_REPLAY].rc = RC_LATER;
    world->fakes.scripts[FAKE_TAIL].rc = RC_LATER;
    frame(world, FAKE_FENCE, 0, 50);
    frame(world, FAKE_FENCE, 90, 10);
    world->fakes.status.lost = true;
    tell(world, ANSWER_STREAMING, 10);
    fakes_await(&world->fakes, FAKE_TAIL, 1);
    fakes_await(&world->fakes, FAKE_REPLAY, 1);
    unsigned changes = world->changes;
    assert_int_equal(live_feed_leave(world->feed, &world->viewer), 0);
    live_feed_destroy(&world->feed);
    replay_rep_t replayed = {50, {world->fakes.truth + 50, 50}, 100};
    answer_kept(world, FAKE_LLM, FAKE_REPLAY, &replayed);
    answer_kept(world, FAKE_CONVO, FAKE_TAIL, NULL);
    fake_tell(&world->fakes);
    fixture_run_for(&world->fakes.bus, 40);
    assert_int_equal(world->changes, changes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        FEED_TEST(before_the_owner_has_spoken_only_what_is_stored_is_read),
        FEED_TEST(a_refused_question_fails_the_feed),
        FEED_TEST(a_watch_that_breaks_is_renewed),
        FEED_TEST(a_watch_that_holds_is_renewed_all_the_same),
        FEED_TEST(convo_svc_back_is_watched_without_a_tick),
        FEED_TEST(a_question_without_a_word_yet_is_not_watched),
        FEED_TEST(a_conversation_that_was_deleted_ends_the_feed),
        FEED_TEST(a_journal_that_was_deleted_ends_the_feed),
        FEED_TEST(a_journal_that_a_retry_has_replaced_says_so),
        FEED_TEST(an_answer_out_of_sight_for_long_is_given_up),
        FEED_TEST(time_that_was_slept_through_does_not_count),
        FEED_TEST(what_was_shown_past_the_journal_is_handed_in),
        FEED_TEST(no_character_is_torn_when_a_tail_is_cut),
        FEED_TEST(a_tail_that_is_refused_is_offered_again_with_the_next_status),
        FEED_TEST(nothing_is_handed_in_that_is_not_wanted),
        FEED_TEST(a_feed_that_dies_forgets_its_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
