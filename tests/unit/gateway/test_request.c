/* test_request.c - one HTTP request from its headers to its log line: body, framing, id, deadline, client.
 *
 * What handlers make of a request is tested with them; here a route stands for all that are like
 * it. Requests are plain bytes, so that they can be wrong. */
#include "gateway_fixture.h"
#include "metrics_sum.h"

#include "svc/svc_text.h"

#define LIST     "/api/conversations/list"
#define DELETE   "/api/conversations/del/"
#define REGISTER "/api/users/register"
#define LOGIN    "/api/users/login"
#define ADA      "{\"username\":\"ada\",\"password\":\"correct horse\"}"

/* Sends these bytes on a connection of its own and gives all that comes back. */
static answer_t
ask_raw(world_t *world, const char *raw)
{
    client_t client;

    client_open(&client, world, 0);
    client_say(&client, raw);
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    client_close(&client);
    return answer;
}

/* ADA, padded with blanks to `n` bytes; free() it. */
static char *
padded_body(size_t n)
{
    char *body = svc_alloc(n + 1);

    memset(body, ' ', n);
    memcpy(body, ADA, sizeof ADA - 1);
    return body;
}

/* --- which route -------------------------------------------------------------------------- */

static void
paths_and_methods_without_a_route_are_told_so(void **state)
{
    world_t *world = *state;

    expect(world, "GET", "/nothing", NULL, 404, "There is nothing at this path");
    expect(world, "GET", "/healthz%00/x", NULL, 404, "\"code\":\"not_found\"");
    expect(world, "GET", "/%68ealthz", NULL, 200, "ok");
    expect(world, "GET", "/healthz?a=b%00", NULL, 200, "ok");
    expect(world, "GET", REGISTER, NULL, 405, "Allow: POST, OPTIONS\r\n");
    expect(world, "DELETE", LIST, NULL, 405, "Allow: GET, HEAD, OPTIONS\r\n");
    expect(world, "GET", REGISTER, NULL, 405, "\"code\":\"method_not_allowed\"");
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 0);
}

static void
the_id_must_be_an_integer(void **state)
{
    static const struct {
        const char *id;
        int status;
        const char *asked; /* of convo-svc; NULL: nothing */
    } rows[] = {
        {"5", 200, "11: 5"},
        {"007", 200, "11: 7"},
        {"%35", 200, "11: 5"},
        {"9007199254740991", 200, "11: 9007199254740991"},
        {"9007199254740992", 200, "11: 0"}, /* what no conversation has */
        {"99999999999999999999999999", 200, "11: 0"},
        {"-5", 200, "11: 0"},
        {"0", 200, "11: 0"},
        {"-", 400, NULL},
        {"+5", 400, NULL},
        {"5x", 400, NULL},
        {"5.0", 400, NULL},
        {"%205", 400, NULL},
        {"0x10", 400, NULL},
    };
    world_t *world = *state;
    char path[80];

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        script_t *script = &world->fakes.scripts[FAKE_DELETE];
        script->asked[0] = '\0';
        snprintf(path, sizeof path, DELETE "%s", rows[i].id);
        expect(world, "POST", path, NULL, rows[i].status,
               rows[i].status == 200 ? "deleted"
                                     : "The conversation id must be an integer");
        assert_string_equal(script->asked, rows[i].asked != NULL ? rows[i].asked : "");
    }
    expect_with(world, "POST", DELETE "x", "Authorization: Bearer bad\r\n", NULL, 401,
                "unauthorized"); /* nobody learns what an id looks like without a token */
}

/* --- body --------------------------------------------------------------------------------- */

static void
a_body_may_be_as_large_as_its_bound(void **state)
{
    world_t *world = *state;
    char *body = padded_body(BODY_MAX_BYTES);

    expect(world, "POST", REGISTER, body, 201, "message");
    free(body);
    body = padded_body(BODY_MAX_BYTES + 1);
    expect(world, "POST", REGISTER, body, 413,
           "{\"error\":\"The body is larger than 1000 bytes\",\"code\":\"too_big\"}");
    expect(world, "POST", "/nothing", body, 413, "too_big");
    free(body);
    assert_int_equal(world->fakes.scripts[FAKE_REGISTER].n, 1);
}

/* A chunked request whose body is ADA and blanks, `n` bytes in all; its end only when `ends`. */
static void
send_chunked(client_t *client, size_t n, bool ends)
{
    char *body = padded_body(n);
    char size[32];

    client_ask(client, "POST", REGISTER, "Transfer-Encoding: chunked\r\n", NULL);
    for (size_t at = 0; at < n; at += 300) {
        size_t piece = n - at < 300 ? n - at : 300;
        snprintf(size, sizeof size, "%zx\r\n", piece);
        client_say(client, size);
        client_send(client, body + at, piece);
        client_say(client, "\r\n");
    }
    if (ends)
        client_say(client, "0\r\n\r\n");
    free(body);
}

static void
a_chunked_body_has_the_same_bound(void **state)
{
    client_t client;

    client_open(&client, *state, 0);
    send_chunked(&client, BODY_MAX_BYTES, true);
    client_await(&client, "HTTP/1.1 201 ");
    send_chunked(&client, BODY_MAX_BYTES + 1, true);
    client_await(&client, "HTTP/1.1 413 ");
    svc_buf_clear(&client.in);
    client_ask(&client, "GET", "/healthz", "", NULL); /* it was read to its end */
    client_await(&client, "HTTP/1.1 200 ");
    client_close(&client);
}

static void
a_body_may_come_byte_by_byte(void **state)
{
    world_t *world = *state;
    char header[64];
    client_t client;

    client_open(&client, world, 0);
    snprintf(header, sizeof header, "Content-Length: %zu\r\n", strlen(ADA));
    client_ask(&client, "POST", REGISTER, header, NULL);
    for (const char *c = ADA; *c != '\0'; c++) {
        client_send(&client, c, 1);
        fixture_run_for(&world->fakes.bus, 1);
    }
    client_await(&client, "HTTP/1.1 201 ");
    assert_string_equal(world->fakes.scripts[FAKE_REGISTER].asked, "ada correct horse");
    client_close(&client);
}

static void
a_refusal_waits_for_a_body_that_is_on_its_way(void **state)
{
    world_t *world = *state;
    client_t client;

    client_open(&client, world, 0);
    client_ask(&client, "POST", "/nothing", "Content-Length: 900\r\n", NULL);
    char *body = padded_body(900);
    client_send(&client, body, 899);
    expect(world, "GET", "/healthz", NULL, 200, "ok"); /* it had its time */
    client_pull(&client, SIZE_MAX);
    assert_int_equal(client.in.n, 0);
    client_send(&client, body, 1);
    client_await(&client, "HTTP/1.1 404 ");
    svc_buf_clear(&client.in);
    client_ask(&client, "GET", "/healthz", "", NULL); /* and the connection serves on */
    client_await(&client, "HTTP/1.1 200 ");
    client_close(&client);
    free(body);
}

static void
a_body_that_is_far_too_large_is_refused_at_once(void **state)
{
    world_t *world = *state;
    client_t client;

    client_open(&client, world, 0);
    client_ask(&client, "POST", REGISTER, "Content-Length: 100000000000\r\n", NULL);
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_int_equal(answer.status, 413);
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    answer_fini(&answer);
    client_close(&client);
}

static void
a_chunked_body_without_end_is_cut(void **state)
{
    client_t client;

    client_open(&client, *state, 0);
    send_chunked(&client, (9u << 20), false); /* 8 MB are read for politeness */
    client_await(&client, NULL);
    client_close(&client);
    expect(*state, "GET", "/healthz", NULL, 200, "ok");
}

static void
a_client_that_waits_for_a_word_gets_it(void **state)
{
    world_t *world = *state;
    char headers[96];
    client_t client;

    client_open(&client, world, 0);
    snprintf(headers, sizeof headers, "Expect: 100-continue\r\nContent-Length: %zu\r\n",
             strlen(ADA));
    client_ask(&client, "POST", REGISTER, headers, NULL);
    client_await(&client, "HTTP/1.1 100 Continue\r\n\r\n");
    client_say(&client, ADA);
    client_await(&client, "HTTP/1.1 201 ");
    client_close(&client);
}

static void
a_client_that_waits_for_a_word_is_refused_without_its_body(void **state)
{
    static const struct {
        const char *path, *headers;
        int status;
    } rows[] = {
        {REGISTER, "Content-Length: 1001\r\n", 413},
        {"/nothing", "Content-Length: 10\r\n", 404},
        {"/api/chat/5", "Content-Length: 10\r\nNo-Authorization: x\r\n", 401},
        {"/api/chat/5", "Content-Length: 10\r\nAuthorization: Bearer bad\r\n", 401},
    };
    char headers[128];

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        client_t client;
        client_open(&client, *state, 0);
        snprintf(headers, sizeof headers, "Expect: 100-continue\r\n%s", rows[i].headers);
        client_ask(&client, "POST", rows[i].path, headers, NULL);
        client_await(&client, "\"code\":");
        answer_t answer = answer_of(&client);
        assert_int_equal(answer.status, rows[i].status);
        answer_fini(&answer);
        client_close(&client);
    }
}

static void
framing_that_can_be_read_in_two_ways_is_refused(void **state)
{
    static const char *const framings[] = {
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
    };
    world_t *world = *state;
    char raw[512];

    for (size_t i = 0; i < SVC_COUNT(framings); i++) {
        snprintf(raw, sizeof raw,
                 "POST " LOGIN " HTTP/1.1\r\nHost: x\r\n%s\r\n0\r\n\r\n"
                 "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                 framings[i]);
        answer_t answer = ask_raw(world, raw);
        assert_int_equal(answer.status, 400);
        assert_non_null(strstr(answer.head, "Connection: close\r\n"));
        assert_null(strstr(answer.body.p, "HTTP/1.1")); /* nothing of it is a request */
        answer_fini(&answer);
    }
    assert_int_equal(world->fakes.scripts[FAKE_LOGIN].n, 0);
}

static void
the_host_must_be_said_once(void **state)
{
    static const struct {
        const char *raw;
        int status;
    } rows[] = {
        {"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400},
        {"GET /healthz HTTP/1.1\r\nHost: x\r\nhost: y\r\nConnection: close\r\n\r\n", 400},
        {"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200},
        {"GET /healthz HTTP/1.0\r\n\r\n", 200},
        {"GET /healthz HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", 400},
    };

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        client_t client;
        char status[16];
        client_open(&client, *state, 0);
        client_say(&client, rows[i].raw);
        client_await(&client, NULL);
        snprintf(status, sizeof status, " %d ", rows[i].status);
        if (strstr(client.in.p, status) != client.in.p + strlen("HTTP/1.1"))
            fail_msg("%s: %s", rows[i].raw, client.in.p);
        client_close(&client);
    }
}

/* --- connections -------------------------------------------------------------------------- */

static void
a_connection_serves_many_requests_in_order(void **state)
{
    static const char three[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
                                "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
                                "GET " LIST " HTTP/1.1\r\nHost: x\r\n"
                                "Authorization: Bearer good\r\nConnection: close\r\n\r\n";
    client_t client;

    client_open(&client, *state, 0);
    client_say(&client, three);
    client_await(&client, NULL);
    const char *first = strstr(client.in.p, "HTTP/1.1 200 ");
    assert_non_null(first);
    const char *second = strstr(first, "HTTP/1.1 404 ");
    assert_non_null(second);
    assert_non_null(strstr(second, "HTTP/1.1 200 "));
    assert_non_null(strstr(second, "\r\n\r\n[]"));
    client_close(&client);
}

static void
a_client_that_has_only_stopped_sending_gets_its_answer(void **state)
{
    world_t *world = *state;
    client_t client;

    client_open(&client, world, 0);
    client_ask(&client, "GET", LIST, "", NULL);
    assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_int_equal(answer.status, 200);
    assert_true(answer.whole);
    assert_string_equal(answer.body.p, "[]");
    answer_fini(&answer);
    client_close(&client);
}

static void
a_client_that_leaves_before_its_answer_costs_nothing(void **state)
{
    world_t *world = *state;
    list_rep_t rep = {SVC_LIT("[]"), 0};
    client_t client;

    world->fakes.scripts[FAKE_LIST].rc = RC_LATER;
    client_open(&client, world, 0);
    client_ask(&client, "GET", LIST, "", NULL);
    fakes_await(&world->fakes, FAKE_LIST, 1);
    client_close(&client);
    expect(world, "GET", "/healthz", NULL, 200, "ok");
    svc_call_finish(fakes_kept(&world->fakes, FAKE_CONVO, FAKE_LIST), RC_OK, &rep);
    world_await_log(world, "op=\"GET " LIST "\" status=");
    world->fakes.scripts[FAKE_LIST].rc = RC_OK;
    expect(world, "GET", LIST, NULL, 200, "[]");
}

static void
a_client_that_leaves_in_its_body_costs_nothing(void **state)
{
    world_t *world = *state;
    client_t client;

    client_open(&client, world, 0);
    client_ask(&client, "POST", REGISTER, "Content-Length: 900\r\n", NULL);
    client_say(&client, ADA);
    expect(world, "GET", "/healthz", NULL, 200, "ok");
    client_close(&client);
    world_await_log(world, "op=\"POST " REGISTER "\" status=499");
    assert_int_equal(world->fakes.scripts[FAKE_REGISTER].n, 0);
}

/* --- deadlines ---------------------------------------------------------------------------- */

/* Seconds that requests of a route have waited for others. */
static double
waited_s(world_t *world, const char *labels)
{
    const svc_metrics_t *metrics = world->fakes.bus.ctx.metrics;

    return metrics_sum(metrics, "llmb_http_request_seconds", labels) -
           metrics_sum(metrics, "llmb_http_overhead_seconds", labels);
}

static void
a_service_that_says_nothing_is_504(void **state)
{
    world_t *world = *state;
    client_t calls, verifies, slow;
    char headers[64];

    world->fakes.config.gateway_request_timeout_s = 1;
    world_start(world);
    for (int status = 504; status == 504;) { /* so that the token is known */
        answer_t answer = ask(world, "GET", LIST, "", NULL);
        status = answer.status; /* 504 too when this machine stands still */
        answer_fini(&answer);
    }
    world->fakes.scripts[FAKE_LIST].rc = RC_LATER;
    world->fakes.scripts[FAKE_VERIFY].rc = RC_LATER;
    client_open(&slow, world, 0);
    snprintf(headers, sizeof headers, "Content-Length: %zu\r\nExpect: 100-continue\r\n",
             strlen(ADA));
    client_ask(&slow, "POST", LOGIN, headers, NULL);
    client_await(&slow, "100 Continue");
    client_open(&calls, world, 0);
    client_ask(&calls, "GET", LIST, "", NULL);
    client_open(&verifies, world, 0);
    client_ask(&verifies, "GET", LIST, "Authorization: Bearer other\r\n", NULL);
    client_await(&calls, "\"code\":\"timeout\"");
    client_await(&verifies, "\"code\":\"timeout\"");
    assert_non_null(strstr(calls.in.p, "HTTP/1.1 504 "));
    assert_non_null(strstr(calls.in.p, "Retry-After: 1\r\n"));
    assert_non_null(strstr(verifies.in.p, "HTTP/1.1 504 "));
    client_close(&calls);
    client_close(&verifies);
    /* that was no work of the gateway's, nor is the time in which a body does not come */
    assert_true(waited_s(world, "{method=\"GET\",route=\"" LIST "\"}") > 1);
    client_say(&slow, ADA);
    client_await(&slow, "Continue\r\n\r\nHTTP/1.1 "); /* whatever is answered */
    client_close(&slow);
    assert_true(waited_s(world, "{method=\"POST\",route=\"" LOGIN "\"}") > 0.5);
}

static int64_t
requests(world_t *world, const char *method, const char *path, const char *status)
{
    svc_metrics_t *metrics = world->fakes.bus.ctx.metrics;

    return svc_metrics_read(metrics, SVC_F_HTTP_REQUESTS,
                            svc_metrics_label(metrics, SVC_L_ROUTE, method, path),
                            svc_metrics_label(metrics, SVC_L_HTTP_STATUS, status, NULL));
}

static bool
has_counted_all(void *arg)
{
    return requests(arg, "GET", LIST, "200") == 2 &&
           requests(arg, "POST", REGISTER, "499") == 1 &&
           requests(arg, "other", "other", "404") == 1;
}

static void
every_request_is_counted_with_its_status(void **state)
{
    world_t *world = *state;
    client_t impatient;

    expect(world, "GET", LIST, NULL, 200, "[]");
    expect(world, "GET", LIST, NULL, 200, "[]");
    expect(world, "GET", "/nothing", NULL, 404, "");
    client_open(&impatient, world, 0);
    client_ask(&impatient, "POST", REGISTER,
               "Content-Length: 900\r\nExpect: 100-continue\r\n", NULL);
    client_await(&impatient, "100 Continue");
    client_close(&impatient);
    fixture_run_until(&world->fakes.bus, has_counted_all, world);
}

static void
a_service_that_dies_during_a_call_is_503(void **state)
{
    world_t *world = *state;
    client_t client;

    world->fakes.scripts[FAKE_LIST].rc = RC_LATER;
    client_open(&client, world, 0);
    client_ask(&client, "GET", LIST, "", NULL);
    fakes_await(&world->fakes, FAKE_LIST, 1);
    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    client_await(&client, "\"code\":\"unavailable\"");
    assert_non_null(strstr(client.in.p, "HTTP/1.1 503 "));
    assert_non_null(strstr(client.in.p, "Retry-After: "));
    client_close(&client);
}

/* --- the log ------------------------------------------------------------------------------ */

static void
one_trace_goes_through_log_and_calls(void **state)
{
    world_t *world = *state;
    const fakes_t *fakes = &world->fakes;
    char trace[2 * PROTO_TRACE_BYTES + 1], line[160];

    expect(world, "GET", LIST, NULL, 200, "[]");
    assert_memory_equal(fakes->scripts[FAKE_VERIFY].trace,
                        fakes->scripts[FAKE_LIST].trace, PROTO_TRACE_BYTES);
    svc_hex((const char *)fakes->scripts[FAKE_LIST].trace, PROTO_TRACE_BYTES, trace);
    snprintf(line, sizeof line, "trace=%s op=\"GET " LIST "\" status=200 us=", trace);
    world_await_log(world, line);
    expect(world, "GET", LIST, NULL, 200, "[]");
    assert_memory_not_equal(fakes->scripts[FAKE_VERIFY].trace,
                            fakes->scripts[FAKE_LIST].trace, PROTO_TRACE_BYTES);
}

/* Asks with these headers; the answer's X-Request-Id, 64 bytes at most. */
static void
ask_id(world_t *world, const char *headers, char out[80])
{
    answer_t answer = ask(world, "GET", LIST, headers, NULL);
    const char *id = strstr(answer.head, "\r\nX-Request-Id: ");

    assert_int_equal(answer.status, 200);
    assert_non_null(id);
    snprintf(out, 80, "%.*s", (int)strcspn(id + 16, "\r"), id + 16);
    answer_fini(&answer);
}

static void
a_request_goes_by_the_trace_that_its_client_gives(void **state)
{
    world_t *world = *state;
    const fakes_t *fakes = &world->fakes;
    static const char trace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
    char hex[2 * PROTO_TRACE_BYTES + 1], id[80], first[80];

    ask_id(world,
           "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
           id);
    assert_string_equal(id, trace);
    svc_hex((const char *)fakes->scripts[FAKE_LIST].trace, PROTO_TRACE_BYTES, hex);
    assert_string_equal(hex, trace);
    world_await_log(world, "trace=4bf92f3577b34da6a3ce929d0e0e4736 op=\"GET " LIST
                           "\" status=200 us=");
    /* one that is none, or that comes twice, is not there */
    ask_id(world,
           "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n",
           first);
    assert_int_equal(strlen(first), 32);
    assert_string_not_equal(first, "00000000000000000000000000000000");
    ask_id(world,
           "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
           "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-01\r\n",
           id);
    assert_int_not_equal(strncmp(id, trace, 31), 0);
    assert_string_not_equal(id, first);
}

static void
what_a_client_calls_its_request_is_repeated(void **state)
{
    world_t *world = *state;
    char id[80];

    ask_id(world, "X-Request-Id: order-17/b\r\n", id);
    assert_string_equal(id, "order-17/b");
    world_await_log(world, " request_id=order-17/b\n");
    ask_id(world, "X-Request-Id: two words\r\n", id);
    assert_int_equal(strspn(id, "0123456789abcdef"), 32);
    expect_with(world, "GET", "/nothing", "X-Request-Id: of-an-error\r\n", NULL, 404,
                "\r\nX-Request-Id: of-an-error\r\n");
    expect_with(world, "OPTIONS", LIST, "", NULL, 204, "\r\nX-Request-Id: ");
}

static void
the_log_has_routes_and_no_secrets(void **state)
{
    world_t *world = *state;

    expect(world, "POST", DELETE "5?key=secret", NULL, 200, "deleted");
    world_await_log(world, "op=\"POST /api/conversations/del/:id\" status=200");
    expect(world, "GET", "/nothing/secret", NULL, 404, "not_found");
    world_await_log(world, "op=\"GET (no route)\" status=404");
    answer_t answer = ask_raw(world, /* a second request does not pass the gate */
                              "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
                              "M-SEARCH /healthz HTTP/1.1\r\nHost: x\r\n"
                              "Connection: close\r\n\r\n");
    assert_non_null(strstr(answer.body.p, "HTTP/1.1 405 "));
    answer_fini(&answer);
    world_await_log(world, "op=\"M?SEARCH (no route)\" status=405");
    expect(world, "POST", LOGIN, "{\"username\":\"a\",\"password\":\"secret\"}", 200,
           "token");
    assert_null(strstr(world_log(world), "secret"));
    assert_null(strstr(world_log(world), "Bearer"));
}

/* --- proxies and browsers ----------------------------------------------------------------- */

/* Logs in with these headers; auth-svc and the log must be told this address. */
static void
expect_address(world_t *world, const char *headers, const char *address)
{
    char asked[128], peer[96];

    expect_with(world, "POST", LOGIN, headers, ADA, 200, "token");
    snprintf(asked, sizeof asked, "ada correct horse %s", address);
    assert_string_equal(world->fakes.scripts[FAKE_LOGIN].asked, asked);
    snprintf(peer, sizeof peer, "peer=%s", address);
    world_await_log(world, peer);
}

static void
nobody_is_believed_who_forwards(void **state)
{
    expect_address(*state, "X-Forwarded-For: 192.0.2.7\r\n", "127.0.0.1");
}

static void
a_trusted_proxy_is_believed_as_far_as_it_goes(void **state)
{
    static char here[] = "127.0.0.0/8", inner[] = "10.0.0.0/8";
    static char *proxies[] = {here, inner};
    world_t *world = *state;
    char long_line[1900] = "X-Forwarded-For: ";

    world->fakes.config.server_trusted_proxies = (svc_strings_t){proxies, 2};
    world_start(world);
    expect_address(world, "", "127.0.0.1");
    expect_address(world, "X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7");
    expect_address(world, "x-forwarded-for: 1.2.3.4, 192.0.2.8\r\n", "192.0.2.8");
    expect_address(world, "X-Forwarded-For: 192.0.2.9, 10.1.1.1\r\n", "192.0.2.9");
    expect_address(world, "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 192.0.2.10\r\n",
                   "192.0.2.10");
    expect_address(world, "X-Forwarded-For: [2001:db8::1]:77\r\n", "2001:db8::1");
    size_t n = strlen(long_line);
    while (n < sizeof long_line - 40)
        n += (size_t)sprintf(long_line + n, "192.0.2.77, ");
    strcpy(long_line + n, "192.0.2.78\r\n");
    expect_address(world, long_line, "192.0.2.78");
}

static void
forwarding_without_end_is_ignored(void **state)
{
    static char here[] = "127.0.0.1";
    static char *proxies[] = {here};
    world_t *world = *state;
    client_t client;

    world->fakes.config.server_trusted_proxies = (svc_strings_t){proxies, 1};
    world_start(world);
    client_open(&client, world, 0);
    client_say(&client, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (int i = 0; i < 60; i++) { /* more than 4 KB, in lines that pass */
        client_say(&client, "X-Forwarded-For: ");
        for (int k = 0; k < 6; k++)
            client_say(&client, "192.0.2.177, ");
        client_say(&client, "192.0.2.178\r\n");
    }
    client_say(&client, "\r\n");
    client_await(&client, NULL);
    assert_int_equal(strncmp(client.in.p, "HTTP/1.1 200 ", 13), 0);
    client_close(&client);
    world_await_log(world, "peer=127.0.0.1");
}

static void
a_browser_of_an_allowed_origin_may_ask(void **state)
{
    static char origin[] = "https://a.example";
    static char *origins[] = {origin};
    static const char allowed[] = "Origin: https://a.example\r\n";
    static const char other[] = "Origin: https://b.example\r\n";
    world_t *world = *state;

    world->fakes.config.server_cors_origins = (svc_strings_t){origins, 1};
    world_start(world);
    expect_with(world, "GET", LIST, allowed, NULL, 200,
                "Access-Control-Allow-Origin: https://a.example\r\n");
    expect_with(world, "GET", LIST, allowed, NULL, 200, "Vary: Origin\r\n");
    expect_with(world, "GET", "/nothing", allowed, NULL, 404,
                "Access-Control-Allow-Origin: https://a.example\r\n");
    answer_t answer = ask(world, "GET", LIST, other, NULL);
    assert_int_equal(answer.status, 200);
    assert_null(strstr(answer.head, "Access-Control-Allow-Origin"));
    assert_non_null(strstr(answer.head, "Vary: Origin\r\n"));
    answer_fini(&answer);
}

static void
a_preflight_wants_no_token_and_asks_nobody(void **state)
{
    static char any[] = "*";
    static char *origins[] = {any};
    world_t *world = *state;

    world->fakes.config.server_cors_origins = (svc_strings_t){origins, 1};
    world_start(world);
    answer_t answer = ask(world, "OPTIONS", "/api/chat/5",
                          "Origin: https://a.example\r\nNo-Authorization: x\r\n"
                          "Access-Control-Request-Method: POST\r\n",
                          NULL);
    assert_int_equal(answer.status, 204);
    assert_non_null(strstr(answer.head, "Access-Control-Allow-Origin: *\r\n"));
    assert_non_null(
        strstr(answer.head, "Access-Control-Allow-Methods: POST, OPTIONS\r\n"));
    assert_non_null(strstr(answer.head, "Access-Control-Allow-Headers: "));
    assert_non_null(strstr(answer.head, "Authorization"));
    assert_non_null(strstr(answer.head, "Allow: POST, OPTIONS\r\n"));
    answer_fini(&answer);
    expect(world, "OPTIONS", "/nothing", NULL, 404, "not_found");
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(paths_and_methods_without_a_route_are_told_so),
        WORLD_TEST(the_id_must_be_an_integer),
        WORLD_TEST(a_body_may_be_as_large_as_its_bound),
        WORLD_TEST(a_chunked_body_has_the_same_bound),
        WORLD_TEST(a_body_may_come_byte_by_byte),
        WORLD_TEST(a_refusal_waits_for_a_body_that_is_on_its_way),
        WORLD_TEST(a_body_that_is_far_too_large_is_refused_at_once),
        WORLD_TEST(a_chunked_body_without_end_is_cut),
        WORLD_TEST(a_client_that_waits_for_a_word_gets_it),
        WORLD_TEST(a_client_that_waits_for_a_word_is_refused_without_its_body),
        WORLD_TEST(framing_that_can_be_read_in_two_ways_is_refused),
        WORLD_TEST(the_host_must_be_said_once),
        WORLD_TEST(a_connection_serves_many_requests_in_order),
        WORLD_TEST(a_client_that_has_only_stopped_sending_gets_its_answer),
        WORLD_TEST(a_client_that_leaves_before_its_answer_costs_nothing),
        WORLD_TEST(a_client_that_leaves_in_its_body_costs_nothing),
        WORLD_TEST_UNSTARTED(a_service_that_says_nothing_is_504),
        WORLD_TEST(every_request_is_counted_with_its_status),
        WORLD_TEST(a_service_that_dies_during_a_call_is_503),
        WORLD_TEST(one_trace_goes_through_log_and_calls),
        WORLD_TEST(a_request_goes_by_the_trace_that_its_client_gives),
        WORLD_TEST(what_a_client_calls_its_request_is_repeated),
        WORLD_TEST(the_log_has_routes_and_no_secrets),
        WORLD_TEST(nobody_is_believed_who_forwards),
        WORLD_TEST_UNSTARTED(a_trusted_proxy_is_believed_as_far_as_it_goes),
        WORLD_TEST_UNSTARTED(forwarding_without_end_is_ignored),
        WORLD_TEST_UNSTARTED(a_browser_of_an_allowed_origin_may_ask),
        WORLD_TEST_UNSTARTED(a_preflight_wants_no_token_and_asks_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
