/* test_feed_hub.c - asking, watching, repairing and handing in, against a convo-svc and an llm-svc of our own.
 *
 * Both fakes, their PUB socket and the hub share one loop and speak over real sockets. The fakes hold
 * the whole answer; the test decides which frames are published, what is journaled, and when
 * convo-svc is away. */
#include "fake_services.h"
#include "gateway/feed_hub.h"
#include "tests/unit/svc/raw_zmtp.h"

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
    assert_memory_equal(bytes.p, world->fakes.truth + from, bytes.n);
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

    return svc_peers_is_up(world->convo_peer) && svc_peers_is_up(world->llm_peer);
}

static int
open_world(void **state)
{
    world_t *world = svc_alloc(sizeof *world);
    char *error = NULL;

    fakes_open(&world->fakes);
    world->fakes.config.gateway_request_timeout_s = 10;
    world->fakes.config.gateway_reattach_s = 1;
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

static int
close_world(void **state)
{
    world_t *world = *state;

    feed_hub_leave(world->hub, &world->viewer);
    assert_int_equal(feed_hub_feeds(world->hub), 0);
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
    return world->viewer.offset == world->fakes.released;
}

static bool
convo_is_down(void *arg)
{
    return !svc_peers_is_up(((world_t *)arg)->convo_peer);
}

static bool
llm_is_down(void *arg)
{
    return !svc_peers_is_up(((world_t *)arg)->llm_peer);
}

static bool
is_rewatched(void *arg)
{
    return ((world_t *)arg)->fakes.scripts[FAKE_WATCH].n > 0;
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

    return world->fakes.tail.n == world->fakes.released - world->fakes.journaled;
}

/* True when so many subscriptions have been made, all in all. */
static bool
is_subscribed(void *arg)
{
    world_t *world = arg;

    (void)fake_is_subscribed(&world->fakes);
    return world->fakes.subscriptions >= world->wanted;
}

static bool
has_one_feed(void *arg)
{
    return feed_hub_feeds(((world_t *)arg)->hub) == 1;
}

static uint64_t
count(const world_t *world, svc_metric metric)
{
    return fixture_count(&world->fakes.bus, metric);
}

static void
assert_runs_until(world_t *world, bool (*cond)(void *))
{
    assert_true(fixture_runs_until(&world->fakes.bus, cond, world, FIXTURE_PATIENCE_MS));
}

/* Asks and waits until the question is known to be committed; then the answer streams. */
static void
ask(world_t *world)
{
    live_subject_t who = {.user = 3, .conversation = 9};

    assert_int_equal(feed_hub_ask(world->hub, &who, &why, &world->viewer), RC_OK);
    assert_int_equal(feed_hub_feeds(world->hub), 1);
    assert_runs_until(world, is_heard);
    assert_string_equal(world->fakes.scripts[FAKE_ASK].asked, "3: 9 Why?");
}

static void
stream(world_t *world, uint64_t journaled)
{
    world->fakes.status.state = ANSWER_STREAMING;
    world->fakes.journaled = journaled;
    fake_tell(&world->fakes);
    assert_runs_until(world, is_streaming);
}

static void
end_answer(world_t *world)
{
    world->fakes.status.state = ANSWER_COMPLETE;
    world->fakes.journaled = world->fakes.released;
    fake_tell(&world->fakes);
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
    assert_memory_equal(text.p, world->fakes.truth + feed_base(feed), text.n);
}

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

    world->fakes.config.gateway_reattach_s = 20;
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
    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    assert_runs_until(world, is_settled); /* the viewer has not read that yet */
    assert_int_equal(feed_failed(feed_of(world)), RC_UNAVAILABLE);
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
    return fixture_count(&((world_t *)arg)->fakes.bus, SVC_M_LOOP_STALLS) > 0;
}

static void
a_standstill_of_the_reactor_is_counted(void **state)
{
    world_t *world = *state;

    for (size_t i = 0; i < FAKE_SERVICES; i++) /* they would count it, too */
        svc_server_destroy(&world->fakes.servers[i]);
    svc_loop_after(world->fakes.bus.ctx.loop, 0, stand_still, NULL);
    fixture_run_until(&world->fakes.bus, is_counted, world);
    assert_int_equal(fixture_count(&world->fakes.bus, SVC_M_LOOP_STALLS), 1);
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
        WORLD_TEST(an_answer_that_was_asked_elsewhere_is_read_on),
        WORLD_TEST(an_answer_that_has_ended_needs_neither_watch_nor_frames),
        WORLD_TEST(a_viewer_ahead_of_all_that_is_known_waits),
        WORLD_TEST(viewers_of_one_answer_share_its_feed_wherever_they_begin),
        WORLD_TEST(a_viewer_far_ahead_moves_the_window),
        WORLD_TEST(the_owner_hears_when_the_last_viewer_has_left),
        WORLD_TEST(whoever_comes_after_a_failure_gets_a_feed_of_his_own),
        WORLD_TEST(a_key_may_join_the_answer_that_it_has_begun),
        WORLD_TEST(a_key_may_join_an_answer_that_is_being_read_here),
        WORLD_TEST(a_retry_is_another_operation),
        WORLD_TEST(tells_llm_svc_how_long_to_keep_frames_for_a_frozen_gateway),
        WORLD_TEST(a_standstill_of_the_reactor_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
