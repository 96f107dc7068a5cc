/* test_feed_hub_watch.c - answers that were asked elsewhere, or before, are read on; keys join what they have begun.
 *
 * Viewers begin anywhere, several on one feed, before or past what is known here. */
#include "feed_hub_fixture.h"

/* --- what was asked elsewhere, or before -------------------------------------------------- */

/* A viewer of a test that has several; reads at once. */
typedef struct {
    live_viewer_t viewer; /* first */
    world_t *world;       /* whose */
    unsigned changes;     /* told to it */
} reader_t;

static void
on_reader_changed(void *arg)
{
    reader_t *reader = arg;

    reader->changes++;
}

static void
on_reader_paged(void *arg, uint64_t from, svc_str bytes)
{
    on_paged(((reader_t *)arg)->world, from, bytes);
}

static void
init_reader(reader_t *reader, world_t *world)
{
    *reader = (reader_t){.world = world};
    reader->viewer = (live_viewer_t){
        .changed = on_reader_changed, .paged = on_reader_paged, .arg = reader};
}

/* The answer of a stream that this gateway has not asked for. */
static live_subject_t
foreign_answer(world_t *world, answer_state state, uint64_t journaled)
{
    live_subject_t who = {.user = 3, .conversation = 9};

    memcpy(who.stream, "an answer of old", sizeof who.stream);
    memcpy(world->fakes.stream, who.stream, sizeof who.stream);
    world->fakes.status.state = (int)state;
    world->fakes.journaled = world->fakes.released = journaled;
    return who;
}

static void
watch(world_t *world, const live_subject_t *who, uint64_t from, live_viewer_t *viewer)
{
    status_rep_t status = fake_status(&world->fakes);

    assert_int_equal(feed_hub_watch(world->hub, who, &status, from, viewer), RC_OK);
    assert_int_equal(viewer->offset, from);
}

static bool
is_watched(void *arg)
{
    world_t *world = arg;

    return world->fakes.scripts[FAKE_WATCH].n > 0 && world->fakes.watch != 0;
}

static void
an_answer_that_was_asked_elsewhere_is_read_on(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_STREAMING, 100);

    world->fakes.released = 130;
    watch(world, &who, 40, &world->viewer);
    assert_true(world->changes > 0);
    assert_int_equal(feed_base(feed_of(world)), 40);
    assert_runs_until(world, has_all_released); /* what no frame has told of, too */
    assert_true_text(world);
    assert_runs_until(world, is_watched);
    world->fakes.released = 150;
    world->wanted = TOKEN_SUB_SPARE_IDS + 1;
    assert_runs_until(world, is_subscribed);
    fake_publish(&world->fakes, FENCE, 130, 20, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    end_answer(world);
    assert_true_text(world);
    assert_int_equal(world->fakes.scripts[FAKE_ASK].n, 0);
    assert_int_equal(count(world, SVC_M_VIEWERS_RESUMED), 1);
    assert_int_equal(count(world, SVC_M_GAPS), 0);
}

static void
an_answer_that_has_ended_needs_neither_watch_nor_frames(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_COMPLETE, 300000);

    watch(world, &who, 7, &world->viewer);
    assert_runs_until(world, has_all_released);
    assert_true(is_settled(world));
    assert_true_text(world);
    assert_int_equal(world->fakes.scripts[FAKE_WATCH].n, 0);
    assert_int_equal(world->fakes.scripts[FAKE_REPLAY].n, 0);
    feed_hub_leave(world->hub, &world->viewer);
    fixture_run_for(&world->fakes.bus, 20);
    assert_int_equal(world->fakes.scripts[FAKE_UNWATCH].n, 0);
}

static void
a_viewer_ahead_of_all_that_is_known_waits(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_STREAMING, 50);

    watch(world, &who, 80, &world->viewer);
    assert_int_equal(feed_base(feed_of(world)), 50);
    assert_int_equal(feed_text(feed_of(world), 80).n, 0);
    assert_runs_until(world, is_watched);
    world->fakes.released = 100;
    world->fakes.journaled = 100;
    fake_tell(&world->fakes);
    assert_runs_until(world, has_all_released);
    assert_int_equal(feed_text(feed_of(world), 80).n, 20);
}

static void
viewers_of_one_answer_share_its_feed_wherever_they_begin(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_STREAMING, 400000);
    reader_t late, early;

    init_reader(&late, world);
    init_reader(&early, world);
    watch(world, &who, 399000, &world->viewer);
    assert_runs_until(world, has_all_released);
    watch(world, &who, 399500, &late.viewer);
    watch(world, &who, 0, &early.viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    assert_true(late.changes > 0);
    assert_int_equal(feed_text(feed_of(world), 399500).n, 500);
    live_viewer_want_page(&early.viewer, 0);
    assert_runs_until(world, has_page);
    assert_int_equal(world->page_from, 0);
    assert_int_equal(world->page_n, PROTO_PAGE_MAX_BYTES);
    feed_hub_leave(world->hub, &late.viewer);
    feed_hub_leave(world->hub, &early.viewer);
}

static void
a_viewer_far_ahead_moves_the_window(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_COMPLETE, 590000);
    reader_t ahead;

    init_reader(&ahead, world);
    watch(world, &who, 0, &world->viewer); /* and reads nothing */
    watch(world, &who, 580000, &ahead.viewer);
    assert_int_equal(feed_base(feed_of(world)), 580000);
    assert_runs_until(world, is_settled);
    assert_int_equal(feed_text(feed_of(world), 580000).n, 10000);
    feed_hub_leave(world->hub, &ahead.viewer);
}

static bool
is_unwatched(void *arg)
{
    return ((world_t *)arg)->fakes.scripts[FAKE_UNWATCH].n > 0;
}

static void
the_owner_hears_when_the_last_viewer_has_left(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_STREAMING, 10);
    reader_t second;

    init_reader(&second, world);
    watch(world, &who, 0, &world->viewer);
    watch(world, &who, 0, &second.viewer);
    assert_runs_until(world, is_watched);
    feed_hub_leave(world->hub, &world->viewer);
    fixture_run_for(&world->fakes.bus, 20);
    assert_int_equal(world->fakes.scripts[FAKE_UNWATCH].n, 0);
    feed_hub_leave(world->hub, &second.viewer);
    assert_runs_until(world, is_unwatched);
    assert_string_equal(world->fakes.scripts[FAKE_UNWATCH].asked,
                        "616e20616e73776572206f66206f6c64");
}

static void
whoever_comes_after_a_failure_gets_a_feed_of_his_own(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_STREAMING, 10);
    reader_t second;

    init_reader(&second, world);
    watch(world, &who, 0, &world->viewer);
    world->fakes.config.gateway_reattach_s = 1;
    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    assert_runs_until(world, is_settled); /* the viewer has not read that yet */
    assert_int_equal(feed_failed(feed_of(world)), RC_UNAVAILABLE);
    world->fakes.config.gateway_reattach_s = 20;
    watch(world, &who, 0, &second.viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 2);
    assert_int_equal(feed_failed(live_feed_feed(second.viewer.live)), RC_OK);
    feed_hub_leave(world->hub, &world->viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    watch(world, &who, 0, &world->viewer); /* the new one has the name */
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    feed_hub_leave(world->hub, &second.viewer);
}

static void
a_key_may_join_the_answer_that_it_has_begun(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_STREAMING, 100);
    live_question_t again = {{"Why?", 4}, {"a key", 5}, true, false};

    world->fakes.joins = true;
    assert_int_equal(feed_hub_ask(world->hub, &who, &again, &world->viewer), RC_OK);
    assert_runs_until(world, is_heard);
    assert_string_equal(world->fakes.ask_key, "a key alone");
    assert_true(svc_str_eq(feed_stream(feed_of(world)), SVC_LIT("an answer of old")));
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    assert_runs_until(world, has_all_released);
    world->wanted = TOKEN_SUB_SPARE_IDS + 1; /* the id that was taken is none any more */
    assert_runs_until(world, is_subscribed);
    world->fakes.released = 120;
    fake_publish(&world->fakes, FENCE, 100, 20, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    end_answer(world);
    assert_true_text(world);
}

static void
a_key_may_join_an_answer_that_is_being_read_here(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_STREAMING, 100);
    live_question_t again = {{"Why?", 4}, {"a key", 5}, false, false};
    reader_t second;

    init_reader(&second, world);
    watch(world, &who, 0, &world->viewer);
    assert_runs_until(world, has_all_released);
    world->fakes.joins = true;
    assert_int_equal(feed_hub_ask(world->hub, &who, &again, &second.viewer), RC_OK);
    assert_int_equal(feed_hub_feeds(world->hub), 2);
    unsigned changes = second.changes;
    fixture_run_until(&world->fakes.bus, has_one_feed, world);
    assert_ptr_equal(second.viewer.live, world->viewer.live);
    assert_true(second.changes > changes);
    feed_hub_leave(world->hub, &world->viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    feed_hub_leave(world->hub, &second.viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 0);
}

static void
a_key_may_join_an_answer_that_has_ended_and_is_still_being_read_here(void **state)
{
    world_t *world = *state;
    live_subject_t who = foreign_answer(world, ANSWER_COMPLETE, 300);
    live_question_t again = {{"Why?", 4}, {"a key", 5}, false, false};
    reader_t second;

    init_reader(&second, world);
    watch(world, &who, 0, &world->viewer); /* and reads slowly */
    assert_runs_until(world, is_settled);
    world->fakes.joins = true;
    assert_int_equal(feed_hub_ask(world->hub, &who, &again, &second.viewer), RC_OK);
    unsigned changes = second.changes;
    fixture_run_until(&world->fakes.bus, has_one_feed, world);
    assert_ptr_equal(second.viewer.live, world->viewer.live);
    assert_true(second.changes > changes); /* nothing else will ever tell it */
    feed_hub_leave(world->hub, &second.viewer);
}

static void
a_retry_is_another_operation(void **state)
{
    world_t *world = *state;
    live_subject_t who = {.user = 3, .conversation = 9};
    live_question_t retry = {{NULL, 0}, {"k", 1}, true, true};

    assert_int_equal(feed_hub_ask(world->hub, &who, &retry, &world->viewer), RC_OK);
    assert_runs_until(world, is_heard);
    assert_string_equal(world->fakes.scripts[FAKE_RETRY].asked, "3: 9 k alone");
    assert_int_equal(world->fakes.scripts[FAKE_ASK].n, 0);
}

/* --- when the last viewer has left -------------------------------------------------------- */

/* A viewer was shown 30 bytes, of which 5 are stored, and leaves. */
static void
show_and_leave(world_t *world)
{
    ask(world);
    stream(world, 5);
    world->fakes.released = 30;
    fake_publish(&world->fakes, FENCE, 0, 30, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    feed_hub_leave(world->hub, &world->viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    assert_int_equal(world->fakes.scripts[FAKE_UNWATCH].n, 0);
}

static void
a_feed_stays_until_what_was_shown_is_stored(void **state)
{
    world_t *world = *state;

    show_and_leave(world);
    fakes_await(&world->fakes, FAKE_WATCH, 1); /* it keeps looking */
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    world->fakes.journaled = 30;
    fixture_run_until(&world->fakes.bus, has_no_feed, world);
    assert_runs_until(world, is_unwatched);
}

static void
what_was_shown_is_handed_in_although_nobody_reads_any_more(void **state)
{
    world_t *world = *state;

    show_and_leave(world);
    world->fakes.status.lost = true;
    fake_tell(&world->fakes);
    assert_runs_until(world, has_tail);
    assert_int_equal(world->fakes.tail_from, 5);
    assert_memory_equal(world->fakes.tail.p, world->fakes.truth + 5, 25);
    world->fakes.status.state = ANSWER_INTERRUPTED;
    world->fakes.journaled = 30;
    fake_tell(&world->fakes);
    fixture_run_until(&world->fakes.bus, has_no_feed, world);
}

/* A viewer was shown 30 bytes, of which 5 are stored, then no convo-svc is there for gateway.reattach_s, which is 1
 * from here on. */
static void
show_and_lose_sight(world_t *world)
{
    ask(world);
    stream(world, 5);
    world->fakes.released = 30;
    fake_publish(&world->fakes, FENCE, 0, 30, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    world->fakes.config.gateway_reattach_s = 1;
    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    assert_runs_until(world, is_settled);
    assert_int_equal(feed_failed(feed_of(world)), RC_UNAVAILABLE);
}

/* An owner comes that has no more than is stored, and gets what was shown. */
static void
assert_next_owner_gets_the_tail(world_t *world)
{
    world->fakes.status.lost = true;
    fakes_start(&world->fakes, FAKE_CONVO);
    assert_runs_until(world, has_tail);
    assert_int_equal(world->fakes.tail_from, 5);
    assert_memory_equal(world->fakes.tail.p, world->fakes.truth + 5, 25);
}

static void
what_was_shown_is_handed_in_although_the_services_were_away_for_long(void **state)
{
    world_t *world = *state;

    show_and_lose_sight(world);
    feed_hub_leave(world->hub, &world->viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    fixture_run_for(&world->fakes.bus, 1500); /* longer than any reader waits */
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    assert_next_owner_gets_the_tail(world);
}

static void
a_reader_that_does_not_read_keeps_nothing_from_the_next_owner(void **state)
{
    world_t *world = *state;

    show_and_lose_sight(world);
    assert_next_owner_gets_the_tail(world); /* the viewer has not left */
    assert_int_equal(feed_failed(feed_of(world)), RC_OK);
}

static void
whoever_comes_back_at_once_does_not_take_the_name_of_what_was_shown(void **state)
{
    world_t *world = *state;
    live_subject_t who = {.user = 3, .conversation = 9};
    reader_t second;

    init_reader(&second, world);
    show_and_lose_sight(world);
    memcpy(who.stream, world->fakes.stream, sizeof who.stream);
    watch(world, &who, 30, &second.viewer);
    assert_ptr_equal(second.viewer.live, world->viewer.live);
    assert_int_equal(feed_failed(feed_of(world)), RC_OK);
    feed_hub_leave(world->hub, &world->viewer);
    assert_next_owner_gets_the_tail(world);
    feed_hub_leave(world->hub, &second.viewer);
}

static void
a_feed_without_viewers_does_not_stay_for_ever(void **state)
{
    world_t *world = *state;

    show_and_leave(world);
    world->fakes.config.gateway_reattach_s = 1;
    fixture_run_until(&world->fakes.bus, has_no_feed, world);
}

static void
whoever_comes_back_in_time_finds_the_feed_and_what_has_come_meanwhile(void **state)
{
    world_t *world = *state;
    live_subject_t who = {.user = 3, .conversation = 9};

    show_and_leave(world);
    memcpy(who.stream, world->fakes.stream, sizeof who.stream);
    world->fakes.released = 50;
    fake_publish(&world->fakes, FENCE, 30, 20, PROTO_TOKEN_TEXT); /* for nobody */
    fixture_run_for(&world->fakes.bus, 20);
    watch(world, &who, 30, &world->viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    assert_runs_until(world, has_all_released);
    assert_true_text(world);
    end_answer(world);
}

/* Its watch tells it when it is renewed: that of the question is forgotten, which the fake does not know. */
static bool
knows_that_all_is_stored(void *arg)
{
    return feed_status(feed_of(arg))->length == 50;
}

static void
a_key_may_join_a_feed_that_nobody_reads_any_more(void **state)
{
    world_t *world = *state;
    live_subject_t who = {.user = 3, .conversation = 9};
    live_question_t again = {{"Why?", 4}, {"a key", 5}, false, false};

    show_and_leave(world);
    world->fakes.released = 50;
    fake_publish(&world->fakes, FENCE, 30, 20, PROTO_TOKEN_TEXT); /* for nobody */
    fixture_run_for(&world->fakes.bus, 20);
    world->fakes.joins = true;
    assert_int_equal(feed_hub_ask(world->hub, &who, &again, &world->viewer), RC_OK);
    fixture_run_until(&world->fakes.bus, has_one_feed, world);
    assert_runs_until(world, has_all_released);
    world->fakes.journaled = 50; /* whoever nobody reads could go now */
    assert_runs_until(world, knows_that_all_is_stored);
    fixture_run_for(&world->fakes.bus, 600); /* ticks */
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    end_answer(world);
    assert_true_text(world);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(an_answer_that_was_asked_elsewhere_is_read_on),
        WORLD_TEST(an_answer_that_has_ended_needs_neither_watch_nor_frames),
        WORLD_TEST(a_viewer_ahead_of_all_that_is_known_waits),
        WORLD_TEST(viewers_of_one_answer_share_its_feed_wherever_they_begin),
        WORLD_TEST(a_viewer_far_ahead_moves_the_window),
        WORLD_TEST(the_owner_hears_when_the_last_viewer_has_left),
        WORLD_TEST(whoever_comes_after_a_failure_gets_a_feed_of_his_own),
        WORLD_TEST(a_key_may_join_the_answer_that_it_has_begun),
        WORLD_TEST(a_key_may_join_an_answer_that_is_being_read_here),
        WORLD_TEST(a_key_may_join_an_answer_that_has_ended_and_is_still_being_read_here),
        WORLD_TEST(a_retry_is_another_operation),
        WORLD_TEST(a_feed_stays_until_what_was_shown_is_stored),
        WORLD_TEST(what_was_shown_is_handed_in_although_nobody_reads_any_more),
        WORLD_TEST(what_was_shown_is_handed_in_although_the_services_were_away_for_long),
        WORLD_TEST(a_reader_that_does_not_read_keeps_nothing_from_the_next_owner),
        WORLD_TEST(whoever_comes_back_at_once_does_not_take_the_name_of_what_was_shown),
        WORLD_TEST(a_feed_without_viewers_does_not_stay_for_ever),
        WORLD_TEST(whoever_comes_back_in_time_finds_the_feed_and_what_has_come_meanwhile),
        WORLD_TEST(a_key_may_join_a_feed_that_nobody_reads_any_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
