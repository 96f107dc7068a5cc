/* test_feed_hub.c - asking, repairing and handing in, against a convo-svc and an llm-svc of our own.
 *
 * Reading on what was asked elsewhere or before is test_feed_hub_watch's. */
#include "feed_hub_fixture.h"
#include "tests/unit/svc/raw_zmtp.h"

/* --- tests -------------------------------------------------------------------------------- */

static void
an_answer_comes_by_its_frames(void **state)
{
    world_t *world = *state;

    ask(world);
    world->fakes.released = 30;
    for (uint64_t at = 0; at < 30; at += 10)
        fake_publish(&world->fakes, FENCE, at, 10, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    stream(world, 10);
    end_answer(world);
    assert_true_text(world);
    assert_int_equal(feed_status(feed_of(world))->message, 2);
    assert_int_equal(world->fakes.scripts[FAKE_REPLAY].n, 0);
    assert_int_equal(world->fakes.scripts[FAKE_READ].n, 0);
    assert_true(world->changes > 0);
}

static void
lost_frames_are_replayed(void **state)
{
    world_t *world = *state;

    ask(world);
    stream(world, 5);
    world->fakes.released = 400000;
    fake_publish(&world->fakes, FENCE, 0, 10, PROTO_TOKEN_TEXT);
    fake_publish(&world->fakes, FENCE + 1, 10, 10, PROTO_TOKEN_TEXT);
    fake_publish(&world->fakes, FENCE, 399990, 10, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    assert_true_text(world);
    assert_true(world->fakes.scripts[FAKE_REPLAY].n >= 400000 / PROTO_PAGE_MAX_BYTES);
    assert_int_equal(svc_metrics_get(world->fakes.bus.ctx.metrics, SVC_M_TOKENS_FENCED),
                     1);
    end_answer(world);
}

static void
a_lost_tail_is_shown_by_a_mark(void **state)
{
    world_t *world = *state;

    ask(world);
    world->fakes.released = 20;
    fake_publish(&world->fakes, FENCE, 0, 10, PROTO_TOKEN_TEXT);
    fake_publish(&world->fakes, FENCE, 20, 0, PROTO_TOKEN_MARK);
    assert_runs_until(world, has_all_released);
    assert_int_equal(world->fakes.scripts[FAKE_REPLAY].n, 1);
    assert_true_text(world);
}

static void
without_any_frame_status_and_journal_are_enough(void **state)
{
    world_t *world = *state;

    ask(world);
    svc_server_destroy(&world->fakes.servers[FAKE_LLM]);
    assert_runs_until(world, llm_is_down);
    world->fakes.released = 200000;
    world->fakes.status.state = ANSWER_STREAMING;
    world->fakes.journaled = 100000;
    fake_tell(&world->fakes);
    world->fakes.released = 100000;
    assert_runs_until(world, has_all_released);
    world->fakes.released = 200000;
    world->fakes.status.state = ANSWER_COMPLETE;
    world->fakes.journaled = 200000;
    fake_tell(&world->fakes);
    assert_runs_until(world, has_all_released);
    assert_true_text(world);
    assert_true(is_settled(world));
    assert_true(world->fakes.scripts[FAKE_READ].n >= 4);
    assert_int_equal(world->fakes.scripts[FAKE_REPLAY].n, 0);
}

static void
a_refused_question_fails_with_its_reason(void **state)
{
    world_t *world = *state;
    live_subject_t who = {.user = 3, .conversation = 9};

    world->fakes.scripts[FAKE_ASK].rc = RC_ANSWERING;
    world->fakes.scripts[FAKE_ASK].text = "no";
    world->fakes.scripts[FAKE_ASK].retry_after_s = 5;
    assert_int_equal(feed_hub_ask(world->hub, &who, &why, &world->viewer), RC_OK);
    assert_runs_until(world, is_settled);
    assert_int_equal(feed_failed(feed_of(world)), RC_ANSWERING);
    assert_true(svc_str_eq(feed_status(feed_of(world))->text, SVC_LIT("no")));
    assert_int_equal(feed_status(feed_of(world))->retry_after_s, 5);
}

static void
others_are_told_which_conversations_are_read_here(void **state)
{
    static const char head[] = "GET /api/chat/9/stream HTTP/1.1\r\n\r\n";
    world_t *world = *state;
    meeting_t *meeting = meeting_new(2, 10);

    feed_hub_meet(world->hub, meeting, 2);
    assert_int_equal(meeting_place(meeting, svc_str_c(head), 1), 0);
    ask(world); /* in conversation 9 */
    assert_int_equal(meeting_place(meeting, svc_str_c(head), 1), 2);
    feed_hub_leave(world->hub, &world->viewer);
    fixture_run_until(&world->fakes.bus, has_no_feed, world);
    assert_int_equal(meeting_place(meeting, svc_str_c(head), 1), 0);
    feed_hub_meet(world->hub, NULL, 0);
    meeting_destroy(&meeting);
}

static void
a_service_that_is_away_refuses_at_once(void **state)
{
    world_t *world = *state;
    live_subject_t who = {.user = 3, .conversation = 9};

    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    assert_runs_until(world, convo_is_down);
    assert_int_equal(feed_hub_ask(world->hub, &who, &why, &world->viewer),
                     RC_UNAVAILABLE);
    assert_int_equal(feed_hub_feeds(world->hub), 0);
    assert_null(world->viewer.live);
}

static void
a_feed_is_watched_again_when_convo_svc_is_back(void **state)
{
    world_t *world = *state;

    ask(world);
    stream(world, 0);
    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    assert_runs_until(world, convo_is_down);
    world->fakes.released = 10;
    fake_publish(&world->fakes, FENCE, 0, 10, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released); /* the text does not wait */
    fakes_start(&world->fakes, FAKE_CONVO);
    assert_runs_until(world, is_rewatched);
    end_answer(world);
    assert_int_equal(world->fakes.scripts[FAKE_ASK].n, 1);
}

static void
a_feed_ends_when_convo_svc_stays_away(void **state)
{
    world_t *world = *state;

    ask(world);
    stream(world, 0);
    world->fakes.config.gateway_reattach_s = 1;
    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    assert_runs_until(world, is_settled);
    assert_int_equal(feed_failed(feed_of(world)), RC_UNAVAILABLE);
}

static void
what_was_shown_is_handed_in_when_llm_svc_is_lost(void **state)
{
    world_t *world = *state;

    ask(world);
    stream(world, 1000);
    world->fakes.released = 151000;
    for (uint64_t at = 0; at < 151000; at += 1000)
        fake_publish(&world->fakes, FENCE, at, 1000, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    world->fakes.status.lost = true;
    fake_tell(&world->fakes);
    assert_runs_until(world, has_tail);
    assert_int_equal(world->fakes.tail_from, 1000);
    assert_memory_equal(world->fakes.tail.p, world->fakes.truth + 1000, 150000);
}

static void
a_slow_viewer_gets_older_text_page_by_page(void **state)
{
    world_t *world = *state;

    ask(world);
    stream(world, 500000);
    world->fakes.released = 600000;
    for (uint64_t at = 0; at < 600000; at += 50000)
        fake_publish(&world->fakes, FENCE, at, 50000, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    assert_true(feed_base(feed_of(world)) > 7);
    live_viewer_want_page(&world->viewer, 7);
    live_viewer_want_page(&world->viewer, 8); /* one at a time */
    assert_runs_until(world, has_page);
    assert_int_equal(world->page_from, 7);
    assert_int_equal(world->page_n, PROTO_PAGE_MAX_BYTES);
    assert_int_equal(world->fakes.scripts[FAKE_READ].n, 1);
}

static void
frames_that_are_none_are_counted_and_skipped(void **state)
{
    world_t *world = *state;
    svc_str topic = {(const char *)world->fakes.stream, PROTO_STREAM_BYTES};

    ask(world);
    assert_true(svc_msg_send_bytes(world->fakes.pub, topic, 0));
    svc_buf_t frame;
    svc_buf_init(&frame, 100);
    assert_int_equal(svc_buf_add_str(&frame, topic), RC_OK);
    assert_int_equal(svc_buf_add_str(&frame, SVC_LIT("\xc1 no frame")), RC_OK);
    assert_true(svc_msg_send_bytes(world->fakes.pub, svc_buf_str(&frame), 0));
    svc_buf_fini(&frame);
    world->fakes.released = 10;
    fake_publish(&world->fakes, FENCE, 0, 10, PROTO_TOKEN_TEXT);
    assert_runs_until(world, has_all_released);
    assert_int_equal(svc_metrics_get(world->fakes.bus.ctx.metrics, SVC_M_BAD_MESSAGES),
                     2);
}

static void
a_viewer_that_leaves_takes_the_feed_along_and_stops_nothing(void **state)
{
    world_t *world = *state;

    ask(world);
    feed_hub_leave(world->hub, &world->viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 0);
    feed_hub_leave(world->hub, &world->viewer);
    memset(world->fakes.stream, 0, sizeof world->fakes.stream);
    ask(world);
    assert_int_equal(world->fakes.scripts[FAKE_ASK].n, 2);
}

/* --- standing still ----------------------------------------------------------------------- */

static void
tells_llm_svc_how_long_to_keep_frames_for_a_frozen_gateway(void **state)
{
    world_t *world = *state;
    char endpoint[64], *error = NULL;
    int listener = raw_zmtp_listen(endpoint);
    feed_hub_t *hub;

    assert_true(listener >= 0);
    world->fakes.config.bus_tokens.connect = endpoint;
    hub = feed_hub_new(&world->fakes.bus.ctx, world->convo_peer, world->llm_peer, &error);
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
    const world_t *world = arg;

    return fixture_count(&world->fakes.bus, SVC_M_LOOP_STALLS) > world->wanted;
}

static void
a_standstill_of_the_reactor_is_counted(void **state)
{
    world_t *world = *state;
    const uint64_t began_ms = svc_mono_ms();

    for (size_t i = 0; i < FAKE_SERVICES; i++) /* they would count it, too */
        svc_server_destroy(&world->fakes.servers[i]);
    world->wanted = (unsigned)fixture_count(&world->fakes.bus, SVC_M_LOOP_STALLS);
    svc_loop_after(world->fakes.bus.ctx.loop, 0, stand_still, NULL);
    fixture_run_until(&world->fakes.bus, is_counted, world);
    /* Once, unless this machine stood still, too. */
    assert_in_range(fixture_count(&world->fakes.bus, SVC_M_LOOP_STALLS),
                    world->wanted + 1, world->wanted + (svc_mono_ms() - began_ms) / 1000);
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
        WORLD_TEST(others_are_told_which_conversations_are_read_here),
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
