/* test_rest_viewer.c - a reader of an answer over HTTP: headers, framings, endings, byte by byte.
 *
 * convo-svc and llm-svc are fakes: the test says when text is published, what is journaled and how
 * the answer ends. The answer's text is plain letters, so that events can be compared as they are. */
#include "chat_fixture.h"
#include "metrics_sum.h"

/* --- all goes well ------------------------------------------------------------------------ */

static void
headers_come_with_the_first_byte_of_text(void **state)
{
    world_t *world = *state;
    client_t client;

    open_chat(&client, world, "Connection: close\r\n");
    assert_string_equal(world->fakes.scripts[FAKE_ASK].asked, "11: 5 Why?");
    tell(world, ANSWER_STREAMING, 0);
    expect(world, "GET", "/healthz", NULL, 200, "ok"); /* it had its time */
    client_pull(&client, SIZE_MAX);
    assert_int_equal(client.in.n, 0);
    show(world, 10);
    client_await(&client, "{\"event\":\"message\",\"data\":\"abcdefghij\"}");
    assert_non_null(strstr(client.in.p, "HTTP/1.1 200 "));
    show(world, 30);
    client_await(&client, "\"klmnopqrstuvwabcdefg\""); /* else the end may overtake it */
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_true(answer.whole);
    assert_texts(&answer, "message", world->fakes.truth, 30);
    assert_texts(&answer, "full_response", world->fakes.truth, 30);
    assert_non_null(strstr(answer.head, "Cache-Control: no-cache\r\n"));
    assert_non_null(strstr(answer.head, "X-Accel-Buffering: no\r\n"));
    answer_fini(&answer);
    world_await_log(world, "op=\"POST /api/chat/:id\" status=200");
    assert_int_equal(fixture_count(&world->fakes.bus, SVC_M_VIEWERS), 1);
    assert_int_equal(fixture_count(&world->fakes.bus, SVC_M_VIEWERS_GONE), 0);
    assert_int_equal(world->fakes.scripts[FAKE_REPLAY].n, 0);
    assert_int_equal(world->fakes.scripts[FAKE_READ].n, 0);
}

/* Streams "abcde" and ends; compares type and body, in which each $ stands for the stream's id. */
static void
expect_framing(world_t *world, const char *headers, const char *type, const char *body)
{
    char with_close[128], id[2 * PROTO_STREAM_BYTES + 1];
    svc_buf_t wanted;
    client_t client;

    world->fakes.released = world->fakes.journaled = 0;
    world->fakes.status = (status_rep_t){.state = ANSWER_WAITING, .usage = {3, 4, 7}};
    snprintf(with_close, sizeof with_close, "Connection: close\r\n%s", headers);
    open_chat(&client, world, with_close);
    show(world, 5);
    client_await(&client, "abcde");
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.head, type));
    for (size_t i = 0; i < PROTO_STREAM_BYTES; i++)
        sprintf(id + 2 * i, "%02x", world->fakes.stream[i]);
    svc_buf_init(&wanted, 4096);
    for (const char *c = body; *c != '\0'; c++)
        assert_int_equal(
            svc_buf_add_str(&wanted, *c == '$' ? svc_str_c(id) : (svc_str){c, 1}), RC_OK);
    assert_int_equal(svc_buf_add(&wanted, "", 1), RC_OK);
    assert_string_equal(answer.body.p, wanted.p);
    svc_buf_fini(&wanted);
    answer_fini(&answer);
}

#define DONE                                                                             \
    "{\"event\":\"done\",\"data\":\"Stream finished\",\"message_id\":2,"                 \
    "\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4," \
    "\"total_tokens\":7}}"
#define MESSAGE "{\"event\":\"message\",\"data\":\"abcde\"}"
#define FULL    "{\"event\":\"full_response\",\"data\":\"abcde\"}"

static void
each_framing_is_exact(void **state)
{
    world_t *world = *state;
    static const char events[] = "retry: 1000\nid: $:0\n\n"
                                 "id: $:5\nevent: message\ndata: " MESSAGE "\n\n"
                                 "id: $:5:d\nevent: done\ndata: " DONE "\n\n"
                                 "id: $:5:e\nevent: full_response\ndata: " FULL "\n\n";

    expect_framing(world, "", "Content-Type: text/event-stream\r\n", events);
    expect_framing(world, "Accept: text/event-stream\r\n",
                   "Content-Type: text/event-stream\r\n", events);
    expect_framing(world, "Accept: application/x-ndjson\r\n",
                   "Content-Type: application/x-ndjson",
                   MESSAGE "\n" DONE "\n" FULL "\n");
}

static void
the_bare_framing_is_for_those_who_want_no_other(void **state)
{
    world_t *world = *state;

    world->fakes.config.server_default_framing = SVC_FRAMING_BARE;
    world_start(world);
    expect_framing(world, "Accept: */*\r\n", "Content-Type: text/event-stream\r\n",
                   MESSAGE "\n\n" DONE "\n\n" FULL "\n\n");
    expect_framing(world, "Accept: application/x-ndjson\r\n",
                   "Content-Type: application/x-ndjson",
                   MESSAGE "\n" DONE "\n" FULL "\n");
}

static void
an_empty_answer_is_an_answer(void **state)
{
    world_t *world = *state;
    client_t client;

    open_chat(&client, world, "Connection: close\r\n");
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_int_equal(answer.status, 200);
    assert_true(answer.whole);
    assert_null(strstr(answer.body.p, "\"event\":\"message\""));
    assert_non_null(strstr(answer.body.p, "\"finish_reason\":\"stop\""));
    assert_texts(&answer, "full_response", "", 0);
    answer_fini(&answer);
}

static void
an_answer_streams_from_its_journal_alone(void **state)
{
    world_t *world = *state;
    answer_t answer;

    world->fakes.status = (status_rep_t){.state = ANSWER_COMPLETE,
                                         .finish = SVC_LIT("stop")};
    world->fakes.journaled = 100000;
    answer = ask(world, "POST", CHAT, "", QUESTION);
    assert_int_equal(answer.status, 200);
    assert_true(answer.whole);
    assert_texts(&answer, "message", world->fakes.truth, 100000);
    assert_texts(&answer, "full_response", world->fakes.truth, 100000);
    answer_fini(&answer);
    assert_int_equal(world->fakes.scripts[FAKE_READ].n, 2);
    assert_int_equal(world->fakes.scripts[FAKE_REPLAY].n, 0);
}

static void
a_stopped_answer_ends_with_done(void **state)
{
    world_t *world = *state;
    client_t client;

    open_chat(&client, world, "Connection: close\r\n");
    show(world, 10);
    client_await(&client, "abcdefghij");
    world->fakes.status.finish = SVC_LIT("stopped");
    tell(world, ANSWER_STOPPED, 10);
    answer_t answer = rest_of(&client);
    assert_non_null(strstr(answer.body.p, "\"finish_reason\":\"stopped\""));
    assert_texts(&answer, "full_response", world->fakes.truth, 10);
    answer_fini(&answer);
}

static void
one_connection_asks_twice(void **state)
{
    world_t *world = *state;
    client_t client;

    for (unsigned i = 1; i <= 2; i++) {
        if (i == 1)
            client_open(&client, world, 0);
        svc_buf_clear(&client.in);
        world->fakes.released = 0;
        world->fakes.status.state = ANSWER_WAITING;
        client_ask(&client, "POST", CHAT, "", QUESTION);
        fakes_await(&world->fakes, FAKE_ASK, i);
        show(world, 10 * i);
        end_well(world);
        client_await(&client, "\r\n0\r\n\r\n");
        answer_t answer = answer_of(&client);
        assert_texts(&answer, "full_response", world->fakes.truth, 10 * i);
        answer_fini(&answer);
    }
    client_close(&client);
}

static void
two_clients_get_two_answers(void **state)
{
    world_t *world = *state;
    client_t first, second;
    uint8_t stream[PROTO_STREAM_BYTES];

    open_chat(&first, world, "Connection: close\r\n");
    memcpy(stream, world->fakes.stream, sizeof stream);
    open_chat(&second, world, "Connection: close\r\n");
    assert_memory_not_equal(stream, world->fakes.stream, sizeof stream);
    show(world, 10);
    end_well(world); /* the second one's */
    answer_t answer = rest_of(&second);
    assert_texts(&answer, "full_response", world->fakes.truth, 10);
    answer_fini(&answer);
    client_pull(&first, SIZE_MAX);
    assert_int_equal(first.in.n, 0);
    client_close(&first);
}

/* --- the client reads slowly -------------------------------------------------------------- */

static bool
all_has_come(void *arg)
{
    const world_t *world = arg;

    return fixture_count(&world->fakes.bus, SVC_M_TOKENS_RECEIVED) >=
           FAKE_TRUTH_BYTES / 50000;
}

/* A client that reads nothing, and a feed that has all text: what comes next for the client is a page, before the end. */
static void
open_behind(client_t *client, world_t *world)
{
    client_open(client, world, 4096);
    client_ask(client, "POST", CHAT, "Connection: close\r\n", QUESTION);
    fakes_await(&world->fakes, FAKE_ASK, 1);
    tell(world, ANSWER_STREAMING, 0);
    show(world, FAKE_TRUTH_BYTES);
    fixture_run_until(&world->fakes.bus, all_has_come, world);
}

static void
a_page_that_does_not_come_cuts(void **state)
{
    world_t *world = *state;
    client_t client;

    world->fakes.config.gateway_reattach_s = 1;
    world_start(world);
    open_behind(&client, world);
    world->fakes.scripts[FAKE_READ].rc = RC_LATER;
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_int_equal(answer.status, 200);
    assert_false(answer.whole);
    answer_fini(&answer);
}

static void
a_page_of_an_answer_that_is_gone_ends_with_an_event(void **state)
{
    world_t *world = *state;
    client_t client;

    world->fakes.config.gateway_reattach_s = 3600; /* nobody waits for so long */
    world_start(world);
    open_behind(&client, world);
    world->fakes.scripts[FAKE_READ].rc = RC_NOT_FOUND;
    world->fakes.scripts[FAKE_WATCH].rc = RC_NOT_FOUND; /* which is asked why */
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_int_equal(answer.status, 200);
    assert_true(answer.whole);
    assert_null(strstr(answer.body.p, "full_response"));
    assert_non_null(strstr(answer.body.p, "\"code\":\"deleted\""));
    answer_fini(&answer);
}

/* --- it goes wrong before anything was shown ---------------------------------------------- */

static void
every_refusal_has_its_status(void **state)
{
    world_t *world = *state;
    char code[96];

    for (svc_rc rc = RC_INVALID; rc < RC_COUNT; rc++) {
        world->fakes.scripts[FAKE_ASK].rc = rc;
        snprintf(code, sizeof code, "\"code\":\"%s\"}", told_of(rc)->wire);
        expect(world, "POST", CHAT, QUESTION, told_of(rc)->http, code);
    }
    world->fakes.scripts[FAKE_ASK].rc = RC_ANSWERING;
    world->fakes.scripts[FAKE_ASK].retry_after_s = 9;
    expect(world, "POST", CHAT, QUESTION, 409, "Retry-After: 9\r\n");
    expect_with(world, "POST", CHAT, CHINESE, QUESTION, 409, "上一个问题");
    world->fakes.scripts[FAKE_ASK].rc = RC_NOT_FOUND;
    expect(world, "POST", CHAT, QUESTION, 404, "Conversation not found");
}

static void
an_answer_that_breaks_before_its_first_byte_has_a_status(void **state)
{
    world_t *world = *state;

    world->fakes.status = (status_rep_t){.state = ANSWER_INTERRUPTED,
                                         .reason = SVC_LIT("upstream_rate_limited"),
                                         .text = SVC_LIT("Quota exceeded"),
                                         .retry_after_s = 20};
    expect(world, "POST", CHAT, QUESTION, 502,
           "{\"error\":\"Quota exceeded\",\"code\":\"upstream_rate_limited\"}");
    expect(world, "POST", CHAT, QUESTION, 502, "Retry-After: 20\r\n");
    expect_with(world, "POST", CHAT, CHINESE, QUESTION, 502, "：Quota exceeded");
}

static void
a_conversation_deleted_before_the_first_byte_is_404(void **state)
{
    world_t *world = *state;
    client_t client;

    open_chat(&client, world, "Connection: close\r\n");
    svc_call_finish(svc_server_call(world->fakes.servers[FAKE_CONVO], world->fakes.watch),
                    RC_NOT_FOUND, NULL);
    answer_t answer = rest_of(&client);
    assert_int_equal(answer.status, 404);
    assert_non_null(strstr(answer.body.p, "\"code\":\"deleted\""));
    answer_fini(&answer);
}

static void
a_service_that_is_away_is_503_at_once(void **state)
{
    world_t *world = *state;
    fake_times_t never = {&world->fakes, FAKE_ASK, 1};

    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    while (world_is_ready(world))
        assert_false(fixture_runs_until(&world->fakes.bus, fake_was_asked, &never, 1));
    expect(world, "POST", CHAT, QUESTION, 503, "\"code\":\"unavailable\"");
    expect(world, "POST", CHAT, QUESTION, 503, "Retry-After: 1\r\n");
    assert_int_equal(fixture_count(&world->fakes.bus, SVC_M_VIEWERS), 0);
}

/* --- it goes wrong later ------------------------------------------------------------------ */

/* Begins a stream with ten bytes, in Chinese. */
static void
begin_stream(client_t *client, world_t *world)
{
    open_chat(client, world, "Connection: close\r\n" CHINESE);
    show(world, 10);
    tell(world, ANSWER_STREAMING, 10);
    client_await(client, "abcdefghij");
}

/* Reads to the end: ten bytes, then one error event with these words, then a clean end. */
static void
expect_error_event(client_t *client, const char *code, const char *sentence)
{
    world_t *world = client->world;
    answer_t answer = rest_of(client);
    char wire[64];

    assert_int_equal(answer.status, 200);
    assert_true(answer.whole);
    assert_texts(&answer, "message", world->fakes.truth, 10);
    const char *event = strstr(answer.body.p, "{\"event\":\"error\",\"data\":\"");
    assert_non_null(event);
    snprintf(wire, sizeof wire, "\"code\":\"%s\"}\n\n", code);
    const char *end = strstr(event, wire);
    assert_non_null(end);
    assert_string_equal(end, wire); /* the last thing said */
    assert_non_null(strstr(event, sentence));
    answer_fini(&answer);
}

static void
an_answer_that_breaks_later_ends_with_an_event(void **state)
{
    world_t *world = *state;
    client_t client;

    begin_stream(&client, world);
    world->fakes.status.reason = SVC_LIT("upstream_error");
    world->fakes.status.text = SVC_LIT("It broke");
    tell(world, ANSWER_INTERRUPTED, 10);
    expect_error_event(&client, "upstream_error", "模型服务商出错：It broke");
}

static void
a_conversation_deleted_in_the_middle_ends_with_an_event(void **state)
{
    world_t *world = *state;
    client_t client;

    begin_stream(&client, world);
    svc_call_finish(svc_server_call(world->fakes.servers[FAKE_CONVO], world->fakes.watch),
                    RC_NOT_FOUND, NULL);
    expect_error_event(&client, "deleted", "");
}

static void
an_answer_out_of_sight_ends_with_an_event(void **state)
{
    world_t *world = *state;
    client_t client;

    world->fakes.config.gateway_reattach_s = 1;
    world_start(world);
    begin_stream(&client, world);
    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    expect_error_event(&client, "unavailable", "");
}

/* --- silence ------------------------------------------------------------------------------ */

static void
a_model_that_thinks_for_long_gets_its_headers_and_comments(void **state)
{
    world_t *world = *state;
    client_t events, lines, uncommitted;

    world->fakes.config.gateway_headers_after_s = 0;
    world->fakes.config.gateway_keepalive_s = 1;
    world_start(world);
    open_chat(&lines, world, "Connection: close\r\nAccept: application/x-ndjson\r\n");
    open_chat(&events, world, "Connection: close\r\n");
    world->fakes.scripts[FAKE_ASK].rc = RC_LATER;
    open_chat(&uncommitted, world, "Connection: close\r\n");
    client_await(&events, "\r\n\r\n");
    assert_non_null(strstr(events.in.p, "HTTP/1.1 200 "));
    client_await(&events, ": keep-alive\n\n");
    client_await(&lines, "\r\n\r\n1\r\n\n\r\n"); /* headers, and an empty line */
    svc_buf_clear(&events.in);
    client_await(&events, ": keep-alive\n\n"); /* and another one */
    client_pull(&uncommitted, SIZE_MAX);
    assert_int_equal(uncommitted.in.n, 0); /* it may still be refused */
    svc_call_finish(fakes_kept(&world->fakes, FAKE_CONVO, FAKE_ASK), RC_ANSWERING, NULL);
    client_await(&uncommitted, "HTTP/1.1 409 ");
    /* that it had to wait was not the gateway's doing */
    static const char route[] = "{method=\"POST\",route=\"/api/chat/:id\"}";
    const svc_metrics_t *metrics = world->fakes.bus.ctx.metrics;
    assert_true(metrics_sum(metrics, "llmb_http_request_seconds", route) -
                    metrics_sum(metrics, "llmb_http_overhead_seconds", route) >
                0.2);
    client_close(&events);
    client_close(&lines);
    client_close(&uncommitted);
}

static void
what_fails_after_the_headers_is_an_event_even_without_text(void **state)
{
    world_t *world = *state;
    client_t client;

    world->fakes.config.gateway_headers_after_s = 0;
    world_start(world);
    open_chat(&client, world, "Connection: close\r\n");
    client_await(&client, "\r\n\r\n");
    world->fakes.status.reason = SVC_LIT("upstream_timeout");
    tell(world, ANSWER_INTERRUPTED, 0);
    answer_t answer = rest_of(&client);
    assert_int_equal(answer.status, 200);
    assert_true(answer.whole);
    assert_non_null(strstr(answer.body.p, "\"event\":\"error\""));
    assert_non_null(strstr(answer.body.p, "\"code\":\"upstream_timeout\""));
    answer_fini(&answer);
}

/* --- the client leaves -------------------------------------------------------------------- */

static bool
viewer_is_gone(void *arg)
{
    const world_t *world = arg;

    return fixture_count(&world->fakes.bus, SVC_M_VIEWERS_GONE) == 1;
}

static int64_t
family_of(const world_t *world, svc_family family)
{
    return svc_metrics_read(world->fakes.bus.ctx.metrics, family, 0, 0);
}

static bool
no_stream_is_open(void *arg)
{
    return family_of(arg, SVC_F_STREAMS_OPEN) == 0;
}

static void
a_client_that_leaves_stops_nothing(void **state)
{
    world_t *world = *state;
    client_t client;

    begin_stream(&client, world);
    assert_int_equal(family_of(world, SVC_F_STREAMS_OPEN), 1);
    assert_int_equal(family_of(world, SVC_F_STREAM_FIRST_TEXT_US), 1);
    client_close(&client);
    fixture_run_until(&world->fakes.bus, viewer_is_gone, world);
    fixture_run_until(&world->fakes.bus, no_stream_is_open, world);
    world_await_log(world, "op=\"POST /api/chat/:id\" status=200");
    tell(world, ANSWER_STREAMING, 10); /* its watch may be told still */
    expect(world, "GET", "/healthz", NULL, 200, "ok");
}

static void
a_client_that_leaves_before_the_first_byte_is_noticed(void **state)
{
    world_t *world = *state;
    client_t client;

    open_chat(&client, world, "");
    client_reset(&client);
    fixture_run_until(&world->fakes.bus, viewer_is_gone, world);
    world_await_log(world, "op=\"POST /api/chat/:id\" status=499");
    expect(world, "GET", "/healthz", NULL, 200, "ok");
    client_close(&client);
}

static void
a_client_that_has_only_stopped_sending_gets_its_answer(void **state)
{
    world_t *world = *state;
    client_t client;

    begin_stream(&client, world);
    assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
    client_await(&client, ": keep-alive\n\n"); /* is it still there? */
    show(world, 30);
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_true(answer.whole);
    assert_texts(&answer, "message", world->fakes.truth, 30);
    assert_texts(&answer, "full_response", world->fakes.truth, 30);
    answer_fini(&answer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(headers_come_with_the_first_byte_of_text),
        WORLD_TEST(each_framing_is_exact),
        WORLD_TEST_UNSTARTED(the_bare_framing_is_for_those_who_want_no_other),
        WORLD_TEST(an_empty_answer_is_an_answer),
        WORLD_TEST(an_answer_streams_from_its_journal_alone),
        WORLD_TEST(a_stopped_answer_ends_with_done),
        WORLD_TEST(one_connection_asks_twice),
        WORLD_TEST(two_clients_get_two_answers),
        WORLD_TEST_UNSTARTED(a_page_that_does_not_come_cuts),
        WORLD_TEST_UNSTARTED(a_page_of_an_answer_that_is_gone_ends_with_an_event),
        WORLD_TEST(every_refusal_has_its_status),
        WORLD_TEST(an_answer_that_breaks_before_its_first_byte_has_a_status),
        WORLD_TEST(a_conversation_deleted_before_the_first_byte_is_404),
        WORLD_TEST(a_service_that_is_away_is_503_at_once),
        WORLD_TEST(an_answer_that_breaks_later_ends_with_an_event),
        WORLD_TEST(a_conversation_deleted_in_the_middle_ends_with_an_event),
        WORLD_TEST_UNSTARTED(an_answer_out_of_sight_ends_with_an_event),
        WORLD_TEST_UNSTARTED(a_model_that_thinks_for_long_gets_its_headers_and_comments),
        WORLD_TEST_UNSTARTED(what_fails_after_the_headers_is_an_event_even_without_text),
        WORLD_TEST(a_client_that_leaves_stops_nothing),
        WORLD_TEST(a_client_that_leaves_before_the_first_byte_is_noticed),
        WORLD_TEST(a_client_that_has_only_stopped_sending_gets_its_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
