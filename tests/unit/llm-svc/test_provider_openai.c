/* test_provider_openai.c - whole answers over real HTTP: what the provider does, what the sink hears.
 *
 * How a stream may be cut is sse_parser's and text_decoder's test; here it is what an
 * answer, and each kind of failure, comes to in the end. */
#include "tests/unit/svc/bus_fixture.h"

#include "llm-svc/provider_openai.h"
#include "provider_sink.h"
#include "tiny_server.h"

#define CHUNK(text) "data: {\"choices\":[{\"delta\":{\"content\":\"" text "\"}}]}\n\n"
#define FINISH(why) \
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"" why "\"}]}\n\n"
#define DONE "data: [DONE]\n\n"

typedef struct {
    fixture_t fixture;     /* loop and counters */
    tiny_server_t server;  /* the provider's other end */
    relay_t *relay;        /* it stands on */
    svc_provider_t config; /* its row */
    caught_t caught;       /* what came */
} bench_t;

static bench_t bench;        /* of the test that runs */
static const char *the_body; /* that serve_body sends */

static void
open_bench(tiny_serve_fn *serve)
{
    bench_t *b = &bench;

    memset(b, 0, sizeof(*b));
    fixture_open(&b->fixture, "llm-svc");
    tiny_open(&b->server, serve);
    static const uint64_t pauses_ms[RELAY_RETRIES_MAX] = {5, 20};
    b->relay = relay_new(&b->fixture.ctx, pauses_ms);
    b->config = (svc_provider_t){
        .name = (char *)(uintptr_t) "test",
        .base_url = b->server.url,
        .api_key = (char *)(uintptr_t) "configured-key",
        .ca_file = (char *)(uintptr_t) "",
        .connect_s = 5,
        .first_byte_s = 10,
        .idle_s = 10,
    };
    caught_init(&b->caught, provider_openai_new(b->relay, &b->config, false));
}

static void
close_bench(void)
{
    bench_t *b = &bench;

    b->caught.provider->destroy(&b->caught.provider);
    relay_destroy(&b->relay);
    tiny_close(&b->server);
    svc_buf_fini(&b->caught.text);
    fixture_close(&b->fixture);
}

/* Asks and waits for the ending. */
static void
ask(const char *key)
{
    assert_int_equal(caught_ask(&bench.caught, SVC_LIT("why?"), key), RC_OK);
    fixture_run_until(&bench.fixture, caught_has_ended, &bench.caught);
}

static bool
serve_body(tiny_server_t *self, int fd, int nth)
{
    (void)self;
    (void)nth;
    tiny_write_stream(fd, the_body);
    return false;
}

/* The ending of an answer whose stream is `body`. */
static const caught_t *
ending_of(const char *body)
{
    the_body = body;
    open_bench(serve_body);
    ask("");
    return &bench.caught;
}

static void
check_good(const char *body, const char *text, const char *finish)
{
    const caught_t *c = ending_of(body);

    assert_int_equal(c->error, RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&c->text), svc_str_c(text)));
    assert_string_equal(c->finish, finish);
    close_bench();
}

static void
check_bad(const char *body, const char *text, svc_rc error, const char *sentence)
{
    const caught_t *c = ending_of(body);

    assert_int_equal(c->error, error);
    assert_true(svc_str_eq(svc_buf_str(&c->text), svc_str_c(text)));
    assert_string_equal(c->sentence, sentence);
    close_bench();
}

/* --- answers ----------------------------------------------------------------------- */

static void
posts_the_prompt_with_the_configured_key(void **state)
{
    (void)state;
    ending_of(CHUNK("Hi") FINISH("stop") DONE);
    assert_true(tiny_saw(&bench.server, "POST /v1/chat/completions HTTP/1.1\r\n"));
    assert_true(tiny_saw(&bench.server, "Authorization: Bearer configured-key\r\n"));
    assert_true(tiny_saw(&bench.server, "\"model\":\"some-model\""));
    assert_true(tiny_saw(&bench.server, "{\"role\":\"user\",\"content\":\"why?\"}"));
    assert_true(tiny_saw(&bench.server, "\"stream\":true"));
    close_bench();
}

static void
prefers_the_conversations_own_key(void **state)
{
    (void)state;
    the_body = FINISH("stop");
    open_bench(serve_body);
    ask("own-key");
    assert_true(tiny_saw(&bench.server, "Authorization: Bearer own-key\r\n"));
    assert_false(tiny_saw(&bench.server, "configured-key"));
    close_bench();
}

static void
refuses_a_key_that_would_break_the_header(void **state)
{
    (void)state;
    open_bench(serve_body);
    assert_int_equal(caught_ask(&bench.caught, SVC_LIT("x"), "a\r\nHost: evil"),
                     RC_UPSTREAM_AUTH);
    assert_int_equal(atomic_load(&bench.server.requests), 0);
    close_bench();
}

static void
reads_all_good_kinds_of_answers(void **state)
{
    (void)state;
    check_good(CHUNK("Hello ") CHUNK("world") FINISH("stop") DONE, "Hello world", "stop");
    check_good(CHUNK("a") FINISH("length"), "a", "length");
    check_good(CHUNK("a") DONE, "a", "stop");
    check_good(FINISH("stop") DONE, "", "stop");
    check_good(CHUNK("a") FINISH("stop") DONE CHUNK("not this"), "a", "stop");
    check_good("\xEF\xBB\xBF\r\n: hello\r\n\r\n" CHUNK(
                   "a") "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}",
               "a", "stop");
    check_good(CHUNK("\\ud83d") CHUNK("\\ude00") CHUNK("\\ud83d") FINISH("stop") DONE,
               "\xF0\x9F\x98\x80\xEF\xBF\xBD", "stop");
    check_good(
        "{\"choices\":[{\"message\":{\"content\":\"whole\"},\"finish_reason\":\"stop\"}]}",
        "whole", "stop");
    check_good(
        " [{\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}]",
        "x", "stop");
    check_good(
        "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"in \"},"
        "{\"type\":\"text\",\"text\":\"parts\"}]}}]}\n\n" FINISH("stop") DONE,
        "in parts", "stop");
}

static void
tells_usage_and_ignores_reasoning(void **state)
{
    (void)state;
    const caught_t *c = ending_of(
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":null}}]}\n\n" CHUNK(
            "4")
            FINISH(
                "stop") "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":"
                        "2,\"total_tokens\":3}}\n\n" DONE);
    assert_text(*c, "4");
    assert_int_equal(c->usage.prompt, 1);
    assert_int_equal(c->usage.completion, 2);
    assert_int_equal(c->usage.total, 3);
    close_bench();
}

/* --- failures ---------------------------------------------------------------------- */

static void
calls_a_truncated_stream_an_error(void **state)
{
    (void)state;
    check_bad(CHUNK("so far"), "so far", RC_UPSTREAM,
              "The provider's stream ended early.");
    assert_int_equal(bench.caught.cause, CAUSE_BROKEN);
    check_bad("", "", RC_UPSTREAM, "The provider's stream ended early.");
    check_bad("gibberish\n\n", "", RC_UPSTREAM, "The provider's stream ended early.");
    check_bad("{\"choices\":[{\"message\":{\"content\":\"half", "", RC_UPSTREAM,
              "The provider sent something that is no JSON.");
}

static void
shows_nothing_of_a_broken_chunk(void **state)
{
    (void)state;
    check_bad(CHUNK("good") "data: {\"choices\":[{\"delta\":{\"content\":\"lost\n\n" DONE,
              "good", RC_UPSTREAM, "The provider sent something that is no JSON.");
    assert_int_equal(bench.caught.cause, CAUSE_MALFORMED);
}

static void
passes_on_an_error_inside_a_200(void **state)
{
    (void)state;
    check_bad(
        CHUNK("good") "data: {\"error\":{\"message\":\"the engine fell over\"}}\n\n",
        "good", RC_UPSTREAM, "the engine fell over");
    check_bad("{\"error\":{\"message\":\"too fast\",\"code\":429}}", "",
              RC_UPSTREAM_RATE_LIMITED, "too fast");
    check_bad("data: {\"error\":{}}\n\n", "", RC_UPSTREAM,
              "The provider answered with an error.");
    check_bad("<!DOCTYPE html><html></html>", "", RC_UPSTREAM,
              "The provider answered with a web page (status 200).");
}

static bool
serve_401(tiny_server_t *self, int fd, int nth)
{
    (void)self;
    (void)nth;
    tiny_write_response(
        fd, "401 Unauthorized", "",
        "{\"error\":{\"message\":\"Incorrect API key provided: sk-12345.\"}}");
    return true;
}

static bool
serve_429(tiny_server_t *self, int fd, int nth)
{
    (void)self;
    (void)nth;
    tiny_write_response(fd, "429 Too Many Requests", "Retry-After: 9\r\n",
                        "<html></html>");
    return true;
}

static void
maps_statuses_and_hides_the_key(void **state)
{
    (void)state;
    open_bench(serve_401);
    ask("sk-12345");
    assert_int_equal(bench.caught.error, RC_UPSTREAM_AUTH);
    assert_int_equal(bench.caught.cause, CAUSE_KEY);
    assert_string_equal(bench.caught.sentence, "Incorrect API key provided: ***.");
    close_bench();
    open_bench(serve_429);
    ask("");
    assert_int_equal(bench.caught.error, RC_UPSTREAM_RATE_LIMITED);
    assert_int_equal(bench.caught.cause, CAUSE_RATE_LIMITED);
    assert_int_equal(bench.caught.retry_after_s, 9);
    assert_string_equal(bench.caught.sentence, "The provider answered with status 429.");
    close_bench();
}

static bool
serve_strict(tiny_server_t *self, int fd, int nth)
{
    (void)nth;
    if (strstr(self->request, "stream_options") != NULL) {
        tiny_write_response(fd, "400 Bad Request", "",
                            "{\"error\":\"unknown field stream_options\"}");
        return true;
    }
    tiny_write_stream(fd, CHUNK("fine") FINISH("stop") DONE);
    return false;
}

static void
asks_once_more_without_usage_when_that_is_refused(void **state)
{
    (void)state;
    open_bench(serve_strict);
    ask("");
    assert_int_equal(bench.caught.error, RC_OK);
    assert_text(bench.caught, "fine");
    assert_int_equal(atomic_load(&bench.server.requests), 2);
    close_bench();
}

static bool
serve_stall(tiny_server_t *self, int fd, int nth)
{
    (void)nth;
    tiny_write_stream(fd, CHUNK("so far"));
    tiny_wait_for_close(self, fd);
    return false;
}

static bool
serve_stall_after_finish(tiny_server_t *self, int fd, int nth)
{
    (void)nth;
    tiny_write_stream(fd, CHUNK("all") FINISH("stop"));
    tiny_wait_for_close(self, fd);
    return false;
}

static void
says_that_nobody_was_reached(void **state)
{
    (void)state;
    bench_t *b = &bench;

    open_bench(serve_body);
    b->caught.provider->destroy(&b->caught.provider);
    b->config.base_url = (char *)(uintptr_t) "http://127.0.0.1:1/v1";
    caught_init(&b->caught, provider_openai_new(b->relay, &b->config, false));
    ask("");
    assert_int_equal(b->caught.error, RC_UPSTREAM);
    assert_int_equal(b->caught.cause, CAUSE_UNREACHABLE);
    assert_int_equal(b->server.requests, 0);
    close_bench();
}

static void
ends_a_stall_as_a_timeout_unless_all_has_come(void **state)
{
    (void)state;
    open_bench(serve_stall);
    bench.config.idle_s = 1;
    ask("");
    assert_int_equal(bench.caught.error, RC_UPSTREAM_TIMEOUT);
    assert_int_equal(bench.caught.cause, CAUSE_TIMEOUT);
    assert_string_equal(bench.caught.sentence,
                        "The provider took too long: it stopped sending.");
    assert_text(bench.caught, "so far");
    close_bench();
    open_bench(serve_stall_after_finish);
    bench.config.idle_s = 1;
    ask("");
    assert_int_equal(bench.caught.error, RC_OK);
    assert_text(bench.caught, "all");
    close_bench();
}

/* --- cancel ------------------------------------------------------------------------ */

static bool
has_client_left(void *arg)
{
    (void)arg;
    return atomic_load(&bench.server.client_left);
}

static void
closes_the_upstream_when_cancelled(void **state)
{
    (void)state;
    open_bench(serve_stall);
    assert_int_equal(caught_ask(&bench.caught, SVC_LIT("x"), ""), RC_OK);
    fixture_run_until(&bench.fixture, caught_has_text, &bench.caught);
    bench.caught.provider->cancel(bench.caught.job);
    fixture_run_until(&bench.fixture, has_client_left, NULL);
    assert_false(bench.caught.ended);
    close_bench();
    open_bench(serve_stall); /* inside the sink */
    bench.caught.cancel_at = 1;
    assert_int_equal(caught_ask(&bench.caught, SVC_LIT("x"), ""), RC_OK);
    fixture_run_until(&bench.fixture, has_client_left, NULL);
    assert_false(bench.caught.ended);
    close_bench();
    open_bench(serve_stall); /* by the end of the process */
    assert_int_equal(caught_ask(&bench.caught, SVC_LIT("x"), ""), RC_OK);
    fixture_run_until(&bench.fixture, caught_has_text, &bench.caught);
    close_bench();
}

static bool
serve_done_but_open(tiny_server_t *self, int fd, int nth)
{
    (void)nth;
    tiny_write_stream(fd, CHUNK("a") DONE);
    tiny_wait_for_close(self, fd);
    return false;
}

static void
tells_the_end_at_done_though_the_connection_stays_open(void **state)
{
    (void)state;
    open_bench(serve_done_but_open);
    ask("");
    assert_int_equal(bench.caught.error, RC_OK);
    assert_false(atomic_load(&bench.server.client_left));
    fixture_run_until(&bench.fixture, has_client_left, NULL);
    close_bench();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_the_prompt_with_the_configured_key),
        cmocka_unit_test(prefers_the_conversations_own_key),
        cmocka_unit_test(refuses_a_key_that_would_break_the_header),
        cmocka_unit_test(reads_all_good_kinds_of_answers),
        cmocka_unit_test(tells_usage_and_ignores_reasoning),
        cmocka_unit_test(calls_a_truncated_stream_an_error),
        cmocka_unit_test(shows_nothing_of_a_broken_chunk),
        cmocka_unit_test(passes_on_an_error_inside_a_200),
        cmocka_unit_test(maps_statuses_and_hides_the_key),
        cmocka_unit_test(asks_once_more_without_usage_when_that_is_refused),
        cmocka_unit_test(says_that_nobody_was_reached),
        cmocka_unit_test(ends_a_stall_as_a_timeout_unless_all_has_come),
        cmocka_unit_test(closes_the_upstream_when_cancelled),
        cmocka_unit_test(tells_the_end_at_done_though_the_connection_stays_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
