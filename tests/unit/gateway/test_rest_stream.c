/* test_rest_stream.c - reading an answer on over HTTP: from anywhere in it, by token and by ticket.
 *
 * convo-svc and llm-svc are fakes: the test says how the latest answer is, and what of it there is. */
#include "chat_fixture.h"

#include "svc/svc_text.h"

#define STREAM "/api/chat/5/stream"
#define HEX    "000102030405060708090a0b0c0d0e0f"
#define CLOSE  "Connection: close\r\n"
#define NOBODY "No-Authorization: x\r\n"

/* There is an answer with `n` stored bytes. */
static void
begin_answer(world_t *world, answer_state state, uint64_t n)
{
    for (uint8_t i = 0; i < PROTO_STREAM_BYTES; i++)
        world->fakes.stream[i] = i;
    world->fakes.released = world->fakes.journaled = n;
    world->fakes.status.state = (int)state;
    world->fakes.status.finish = SVC_LIT("stop");
}

/* Opens a stream and waits for its first block. */
static void
open_stream(client_t *client, world_t *world, const char *path, const char *headers,
            const char *first)
{
    client_open(client, world, 0);
    client_ask(client, "GET", path, headers, NULL);
    client_await(client, first);
}

/* --- what comes --------------------------------------------------------------------------- */

static void
a_finished_answer_comes_from_where_it_was_left(void **state)
{
    static const struct {
        const char *id;
        size_t from;
        bool has_done;
    } rows[] = {
        {"", 0, true},
        {HEX ":0", 0, true},
        {HEX ":70000", 70000, true},
        {HEX ":100000", 100000, true},
        {HEX ":100000:d", 100000, false},
    };
    world_t *world = *state;

    begin_answer(world, ANSWER_COMPLETE, 100000);
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        char header[128];
        snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", rows[i].id);
        answer_t answer = ask(world, "GET", STREAM, rows[i].id[0] != '\0' ? header : "",
                              NULL);
        assert_int_equal(answer.status, 200);
        assert_true(answer.whole);
        assert_texts(&answer, "message", world->fakes.truth + rows[i].from,
                     100000 - rows[i].from);
        assert_texts(&answer, "full_response", world->fakes.truth, 100000);
        assert_int_equal(strstr(answer.body.p, "\"event\":\"done\"") != NULL,
                         rows[i].has_done);
        assert_non_null(strstr(answer.head, "Stream-Id: " HEX "\r\n"));
        answer_fini(&answer);
    }
    assert_string_equal(world->fakes.scripts[FAKE_WATCH].asked, "11: 5");
    assert_int_equal(fixture_count(&world->fakes.bus, SVC_M_VIEWERS_RESUMED),
                     SVC_COUNT(rows));
    assert_int_equal(fixture_count(&world->fakes.bus, SVC_M_VIEWERS_GONE), 0);
}

static void
the_first_block_comes_with_the_headers(void **state)
{
    world_t *world = *state;
    client_t client;

    begin_answer(world, ANSWER_WAITING, 0);
    open_stream(&client, world, STREAM, CLOSE, "retry: 1000\nid: " HEX ":0\n\n");
    assert_null(strstr(client.in.p, "event: "));
    fakes_await(&world->fakes, FAKE_WATCH, 2); /* the feed's own */
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_true(answer.whole);
    assert_texts(&answer, "full_response", "", 0);
    answer_fini(&answer);
}

static void
a_live_answer_goes_on_where_it_was_left(void **state)
{
    world_t *world = *state;
    client_t client;

    begin_answer(world, ANSWER_STREAMING, 20);
    open_stream(&client, world, STREAM, CLOSE "Last-Event-ID: " HEX ":5\r\n",
                "retry: 1000\nid: " HEX ":5\n\n");
    client_await(&client, "id: " HEX ":20\nevent: message\n");
    show(world, 50);
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_true(answer.whole);
    assert_texts(&answer, "message", world->fakes.truth + 5, 45);
    assert_texts(&answer, "full_response", world->fakes.truth, 50);
    answer_fini(&answer);
}

static void
lines_are_resumed_by_the_url(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_COMPLETE, 50);
    answer_t answer = ask(world, "GET", STREAM "?after=" HEX "%3A20",
                          "Accept: application/x-ndjson\r\n", NULL);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.head, "Content-Type: application/x-ndjson"));
    assert_non_null(strstr(answer.head, "Stream-Id: " HEX));
    assert_memory_equal(answer.body.p, "{\"event\":\"message\"", 18);
    assert_texts(&answer, "message", world->fakes.truth + 20, 30);
    answer_fini(&answer);
}

static void
the_header_goes_before_the_url(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_COMPLETE, 50);
    expect_with(world, "GET", STREAM "?after=" HEX ":20",
                "Last-Event-ID: " HEX ":50:d\r\n", NULL, 200, "id: " HEX ":50:d\n\n");
    expect_with(world, "GET", STREAM "?after=nonsense", "Last-Event-ID: " HEX ":50:e\r\n",
                NULL, 204, "204 No Content");
    expect_with(world, "GET", STREAM "?after=", "Last-Event-ID: \r\n", NULL, 200,
                "id: " HEX ":0\n\n");
}

static void
less_than_the_client_has_is_told(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_INTERRUPTED, 50);
    world->fakes.status.reason = SVC_LIT("interrupted");
    expect_with(world, "GET", STREAM, "Last-Event-ID: " HEX ":60\r\n", NULL, 200,
                "\"code\":\"interrupted\",\"stored\":50}");
    expect_with(world, "GET", STREAM, "Last-Event-ID: " HEX ":50\r\n", NULL, 200,
                "\"code\":\"interrupted\"}");
    expect_with(world, "GET", STREAM, "Last-Event-ID: " HEX ":50:e\r\n", NULL, 204, "");
}

static void
a_browser_may_read_it(void **state)
{
    static char any[] = "*";
    static char *origins[] = {any};
    world_t *world = *state;

    world->fakes.config.server_cors_origins = (svc_strings_t){origins, 1};
    world_start(world);

    begin_answer(world, ANSWER_COMPLETE, 5);
    expect_with(world, "GET", STREAM, "Origin: http://a\r\n", NULL, 200,
                "Access-Control-Allow-Origin: *\r\n");
    expect_with(world, "GET", STREAM, "Last-Event-ID: " HEX ":5:e\r\n", NULL, 204,
                "Access-Control-Allow-Origin: *\r\n");
    expect_with(world, "GET", STREAM, "Last-Event-ID: x\r\n", NULL, 400,
                "Access-Control-Allow-Origin: *\r\n");
    expect_with(world, "OPTIONS", STREAM, "", NULL, 204, "Last-Event-ID");
    expect_with(world, "HEAD", STREAM, "", NULL, 200, "text/event-stream");
}

/* --- what does not ------------------------------------------------------------------------ */

static void
what_there_is_no_more_of_is_204(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_COMPLETE, 5);
    expect_with(world, "GET", STREAM, "Last-Event-ID: " HEX ":5:e\r\n", NULL, 204, "");
    world->fakes.scripts[FAKE_WATCH].rc = RC_NO_ANSWER;
    expect(world, "GET", STREAM, NULL, 204, "");
}

/* The last event may have been an error that ended the reading, not the answer. */
static void
behind_a_last_event_nothing_follows_however_the_answer_is(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_COMPLETE, 50);
    expect_with(world, "GET", STREAM, "Last-Event-ID: " HEX ":20:e\r\n", NULL, 204, "");
    begin_answer(world, ANSWER_STREAMING, 50);
    expect_with(world, "GET", STREAM, "Last-Event-ID: " HEX ":20:e\r\n", NULL, 204, "");
}

static void
the_id_of_another_answer_is_410(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_COMPLETE, 5);
    expect_with(world, "GET", STREAM,
                "Last-Event-ID: ff0102030405060708090a0b0c0d0e0f:5:e\r\n", NULL, 410,
                "\"code\":\"superseded\"");
}

static void
what_is_no_id_is_400(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_COMPLETE, 5);
    expect_with(world, "GET", STREAM, "Last-Event-ID: 5\r\n", NULL, 400,
                "\"code\":\"invalid\"");
    expect(world, "GET", STREAM "?after=" HEX, NULL, 400, "no id of an event");
    expect_with(world, "GET", STREAM, CHINESE "Last-Event-ID: 5\r\n", NULL, 400, "事件");
    assert_int_equal(world->fakes.scripts[FAKE_WATCH].n, 0);
    expect(world, "GET", STREAM "?after=" HEX ":6", NULL, 400, "no id of an event");
}

static void
errors_have_their_status(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_WATCH].rc = RC_NOT_FOUND;
    expect(world, "GET", STREAM, NULL, 404, "Conversation not found");
    world->fakes.scripts[FAKE_WATCH].rc = RC_UNAVAILABLE;
    expect(world, "GET", STREAM, NULL, 503, "Retry-After");
    expect(world, "GET", "/api/chat/x/stream", NULL, 400, "must be an integer");
    expect(world, "POST", STREAM, "", 405, "Allow: GET, HEAD, OPTIONS");
    expect_with(world, "GET", STREAM, NOBODY, NULL, 401, "WWW-Authenticate");
}

static void
an_event_source_is_told_to_come_again(void **state)
{
    static const char accept[] = "Accept: text/event-stream\r\n";
    world_t *world = *state;

    world->fakes.scripts[FAKE_WATCH].rc = RC_UNAVAILABLE;
    expect_with(world, "GET", STREAM, accept, NULL, 200,
                "retry: 1000\nevent: error\ndata: {\"event\":\"error\",");
    expect_with(world, "GET", STREAM, accept, NULL, 200, "\"code\":\"unavailable\"}\n\n");
    expect_with(world, "GET", STREAM, "Accept: text/event-stream\r\n" CHINESE, NULL, 200,
                "服务");
    expect_with(world, "GET", STREAM, "Accept: */*\r\n", NULL, 503, "Retry-After: 1");
    expect_with(world, "GET", STREAM, "Accept: application/x-ndjson\r\n", NULL, 503, "");
    world->fakes.scripts[FAKE_WATCH].rc = RC_BUSY;
    world->fakes.scripts[FAKE_WATCH].retry_after_s = 7;
    expect_with(world, "GET", STREAM, accept, NULL, 200, "retry: 7000\n");
    world->fakes.scripts[FAKE_WATCH].rc = RC_NOT_FOUND;
    expect_with(world, "GET", STREAM, accept, NULL, 404, "Conversation not found");
    world->fakes.scripts[FAKE_REDEEM].rc = RC_UNAVAILABLE;
    expect_with(world, "GET", STREAM "?ticket=fresh",
                "Accept: text/event-stream\r\n" NOBODY, NULL, 200,
                "\"code\":\"unavailable\"");
    world->fakes.scripts[FAKE_ASK].rc = RC_UNAVAILABLE;
    expect_with(world, "POST", CHAT, accept, QUESTION, 503, "\"code\":\"unavailable\"");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(a_finished_answer_comes_from_where_it_was_left),
        WORLD_TEST(the_first_block_comes_with_the_headers),
        WORLD_TEST(a_live_answer_goes_on_where_it_was_left),
        WORLD_TEST(lines_are_resumed_by_the_url),
        WORLD_TEST(the_header_goes_before_the_url),
        WORLD_TEST(less_than_the_client_has_is_told),
        WORLD_TEST_UNSTARTED(a_browser_may_read_it),
        WORLD_TEST(what_there_is_no_more_of_is_204),
        WORLD_TEST(behind_a_last_event_nothing_follows_however_the_answer_is),
        WORLD_TEST(the_id_of_another_answer_is_410),
        WORLD_TEST(what_is_no_id_is_400),
        WORLD_TEST(errors_have_their_status),
        WORLD_TEST(an_event_source_is_told_to_come_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
