/* test_relay.c - real HTTP over real sockets: streams, retries, time-outs, cuts, cancels, reuse.
 *
 * Times are short where one must pass, and long where it must not be the reason. */
#include "tests/unit/svc/bus_fixture.h"

#include "llm-svc/relay.h"
#include "tiny_server.h"

#define LATE_MS 900 /* a loop that nobody wakes blocks for a second */

typedef struct {
    fixture_t fixture;          /* loop and counters */
    tiny_server_t server;       /* the provider */
    relay_t *relay;             /* under test */
    relay_transfer_t *transfer; /* the one in hand */
    svc_buf_t body;             /* of the response */
    bool done;                  /* the result has come */
    relay_outcome outcome;      /* of it */
    long status;                /* of it */
    uint64_t retry_after_s;     /* of it */
    char error[1000];           /* its body */
    char why[300];              /* of it */
    bool cancel_in_body;        /* cancels when the first byte comes */
    bool drain_in_body;         /* drains then */
    bool again_in_done;         /* the first result begins another transfer */
    bool stop_in_done;          /* the last result stops the loop */
    bool is_late;               /* the other transfer was not begun at once */
} bench_t;

static void start(bench_t *b, const char *url, uint64_t first_byte_ms, uint64_t idle_ms);

static void
note_late(void *arg, short events)
{
    (void)events;
    bench_t *b = arg;

    b->is_late = true;
    svc_loop_stop(b->fixture.ctx.loop);
}

static void
on_body(void *arg, svc_str bytes)
{
    bench_t *b = arg;

    assert_int_equal(svc_buf_add_str(&b->body, bytes), RC_OK);
    if (b->cancel_in_body)
        relay_cancel(b->transfer);
    if (b->drain_in_body)
        relay_drain(b->transfer, 100);
}

static void
on_done(void *arg, const relay_result_t *result)
{
    bench_t *b = arg;

    assert_false(b->done);
    b->done = true;
    b->outcome = result->outcome;
    b->status = result->status;
    b->retry_after_s = result->retry_after_s;
    snprintf(b->error, sizeof(b->error), "%.*s", (int)result->body.n,
             result->body.n == 0 ? "" : result->body.p);
    snprintf(b->why, sizeof(b->why), "%s", result->why);
    if (b->stop_in_done && !b->again_in_done)
        svc_loop_stop(b->fixture.ctx.loop);
    if (!b->again_in_done)
        return;
    b->again_in_done = false;
    (void)svc_loop_after(b->fixture.ctx.loop, LATE_MS, note_late, b);
    start(b, b->server.url, 600000, 600000);
}

static const relay_sink_t sink = {.body = on_body, .done = on_done};

static bool
is_done(void *arg)
{
    return ((bench_t *)arg)->done;
}

static bool
has_body(void *arg)
{
    return ((bench_t *)arg)->body.n > 0;
}

static bool
has_client_left(void *arg)
{
    return atomic_load(&((bench_t *)arg)->server.client_left);
}

static void
open_bench(bench_t *b, tiny_serve_fn *serve)
{
    memset(b, 0, sizeof(*b));
    fixture_open(&b->fixture, "llm-svc");
    tiny_open(&b->server, serve);
    svc_buf_init(&b->body, 10000000);
    static const uint64_t pauses_ms[RELAY_RETRIES_MAX] = {5, 20};
    b->relay = relay_new(&b->fixture.ctx, pauses_ms);
}

static void
close_bench(bench_t *b)
{
    relay_destroy(&b->relay);
    relay_destroy(&b->relay);
    tiny_close(&b->server);
    svc_buf_fini(&b->body);
    fixture_close(&b->fixture);
}

static void
start(bench_t *b, const char *url, uint64_t first_byte_ms, uint64_t idle_ms)
{
    svc_buf_t body;
    relay_request_t request = {
        .url = url,
        .ca_file = "",
        .bearer = SVC_LIT("secret"),
        .about = {.trace = SVC_LIT("0123456789abcdef")},
        .body = &body,
        .connect_ms = 5000,
        .first_byte_ms = first_byte_ms,
        .idle_ms = idle_ms,
    };

    svc_buf_init(&body, 100);
    assert_int_equal(svc_buf_add(&body, "{\"q\":1}", 7), RC_OK);
    b->done = false;
    svc_buf_clear(&b->body);
    b->transfer = relay_start(b->relay, &request, &sink, b);
    assert_null(body.p);
}

/* --- good responses ---------------------------------------------------------------- */

static bool
serve_two_and_keep(tiny_server_t *self, int fd, int nth)
{
    (void)self;
    tiny_write_response(fd, "200 OK", "Content-Type: text/event-stream\r\n",
                        nth == 1 ? "data: one\n\n" : "data: two\n\n");
    return true;
}

static void
posts_and_streams_and_uses_a_connection_again(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_two_and_keep);
    start(&b, b.server.url, 5000, 5000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_DONE);
    assert_true(svc_str_eq(svc_buf_str(&b.body), SVC_LIT("data: one\n\n")));
    assert_true(tiny_saw(&b.server, "POST /v1 HTTP/1.1\r\n"));
    assert_true(tiny_saw(&b.server, "Authorization: Bearer secret\r\n"));
    assert_true(tiny_saw(&b.server, "Content-Type: application/json\r\n"));
    assert_true(tiny_saw(&b.server, "\r\n\r\n{\"q\":1}"));
    assert_false(tiny_saw(&b.server, "Expect:"));
    assert_true(
        tiny_saw(&b.server, "\r\ntraceparent: 00-30313233343536373839616263646566-"));
    assert_true(
        tiny_saw(&b.server, "\r\nX-Request-Id: 30313233343536373839616263646566\r\n"));
    start(&b, b.server.url, 5000, 5000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_true(svc_str_eq(svc_buf_str(&b.body), SVC_LIT("data: two\n\n")));
    assert_int_equal(atomic_load(&b.server.connections), 1);
    close_bench(&b);
}

static void
one_that_ends_at_the_end_of_a_turn_may_begin_another(void **state)
{
    (void)state;
    static bench_t b;
    bool is_late = true;

    for (int i = 0; i < 5 && is_late; i++) { /* a machine may stand still for as long */
        open_bench(&b, serve_two_and_keep);
        b.again_in_done = true;
        b.stop_in_done = true;
        start(&b, "ftp://127.0.0.1/", 600000, 600000); /* refused as soon as it begins */
        svc_loop_run(b.fixture.ctx.loop); /* without the timer of fixture_run_until, which
                                             wakes it */
        is_late = b.is_late;
        assert_true(is_late || b.outcome == RELAY_DONE);
        close_bench(&b);
    }
    assert_false(is_late);
}

/* --- retries ----------------------------------------------------------------------- */

static bool
serve_after_two_failures(tiny_server_t *self, int fd, int nth)
{
    (void)self;
    if (nth == 1) {
        tiny_write_response(fd, "503 Service Unavailable", "Connection: close\r\n",
                            "busy");
        return false;
    }
    if (nth == 2) {
        tiny_reset(fd);
        return false;
    }
    tiny_write_stream(fd, "data: third\n\n");
    return false;
}

static void
tries_again_twice_before_the_first_byte(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_after_two_failures);
    start(&b, b.server.url, 10000, 5000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_DONE);
    assert_true(svc_str_eq(svc_buf_str(&b.body), SVC_LIT("data: third\n\n")));
    assert_int_equal(atomic_load(&b.server.requests), 3);
    assert_int_equal(fixture_count(&b.fixture, SVC_M_UPSTREAM_RETRIES), 2);
    close_bench(&b);
}

static bool
serve_502(tiny_server_t *self, int fd, int nth)
{
    (void)self;
    (void)nth;
    tiny_write_response(fd, "502 Bad Gateway", "", "{\"error\":\"down\"}");
    return true;
}

static void
gives_up_after_three_attempts(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_502);
    start(&b, b.server.url, 10000, 5000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_STATUS);
    assert_int_equal(b.status, 502);
    assert_string_equal(b.error, "{\"error\":\"down\"}");
    assert_int_equal(atomic_load(&b.server.requests), 3);
    close_bench(&b);
}

static bool
serve_429(tiny_server_t *self, int fd, int nth)
{
    (void)self;
    (void)nth;
    tiny_write_response(fd, "429 Too Many Requests", "Retry-After: 7\r\n", "slow down");
    return true;
}

static void
never_repeats_what_was_refused_and_tells_retry_after(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_429);
    start(&b, b.server.url, 10000, 5000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_STATUS);
    assert_int_equal(b.status, 429);
    assert_int_equal(b.retry_after_s, 7);
    assert_int_equal(atomic_load(&b.server.requests), 1);
    close_bench(&b);
}

static bool
serve_redirect(tiny_server_t *self, int fd, int nth)
{
    char headers[100];

    (void)nth;
    snprintf(headers, sizeof(headers), "Location: %s/stolen\r\n", self->url);
    tiny_write_response(fd, "302 Found", headers, "");
    return true;
}

static void
follows_no_redirect(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_redirect);
    start(&b, b.server.url, 10000, 5000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_STATUS);
    assert_int_equal(b.status, 302);
    assert_int_equal(atomic_load(&b.server.requests), 1);
    close_bench(&b);
}

static bool
serve_nothing(tiny_server_t *self, int fd, int nth)
{
    (void)self;
    (void)fd;
    (void)nth;
    return false;
}

static void
says_that_nobody_can_be_reached(void **state)
{
    (void)state;
    static bench_t b;
    char url[64];

    open_bench(&b, serve_nothing);
    int unused = socket(AF_INET, SOCK_STREAM, 0); /* bound, but nobody listens */
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    assert_int_equal(bind(unused, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(unused, (struct sockaddr *)&a, &n), 0);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", ntohs(a.sin_port));
    start(&b, url, 10000, 5000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_UNREACHABLE);
    assert_int_equal(fixture_count(&b.fixture, SVC_M_UPSTREAM_RETRIES), 2);
    assert_true(strlen(b.why) > 0);
    start(&b, "ftp://127.0.0.1/", 10000, 5000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_UNREACHABLE);
    close(unused);
    close_bench(&b);
}

/* --- cuts and time-outs ------------------------------------------------------------ */

static bool
serve_cut(tiny_server_t *self, int fd, int nth)
{
    (void)self;
    (void)nth;
    tiny_write(fd,
               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n");
    return false;
}

static void
tells_a_broken_body_from_a_whole_one(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_cut);
    start(&b, b.server.url, 10000, 5000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_BROKEN);
    assert_true(svc_str_eq(svc_buf_str(&b.body), SVC_LIT("data: ")));
    assert_int_equal(atomic_load(&b.server.requests), 1);
    close_bench(&b);
}

static bool
serve_silence(tiny_server_t *self, int fd, int nth)
{
    (void)nth;
    if (strstr(self->request, "/second ") != NULL)
        tiny_write_stream(fd, "data: a\n\n");
    tiny_wait_for_close(self, fd);
    return false;
}

static void
limits_the_wait_for_the_first_byte_and_between_bytes(void **state)
{
    (void)state;
    static bench_t b;
    char second[80];

    open_bench(&b, serve_silence);
    start(&b, b.server.url, 100, 20000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_TIMEOUT);
    assert_int_equal(b.body.n, 0);
    /* The server takes it when it has seen the first one leave, which on a slow machine had not come to ask. */
    snprintf(second, sizeof(second), "%s/second", b.server.url);
    start(&b, second, 20000, 100); /* the idle time counts, though it ends earlier */
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_TIMEOUT);
    assert_int_equal(b.body.n, 9);
    close_bench(&b);
}

static int starting_gun[2]; /* a pipe: what is written there lets the server go on */

static void
fire(void *arg, short events)
{
    (void)arg;
    (void)events;
    assert_int_equal(write(starting_gun[1], "!", 1), 1);
}

static bool
serve_late_then_silence(tiny_server_t *self, int fd, int nth)
{
    char byte;
    (void)nth;

    if (read(starting_gun[0], &byte, 1) == 1)
        tiny_write_stream(fd, "data: a\n\n");
    tiny_wait_for_close(self, fd);
    return false;
}

static void
counts_the_idle_time_from_a_first_byte_that_came_later_than_that(void **state)
{
    (void)state;
    static bench_t b;

    assert_int_equal(pipe(starting_gun), 0);
    open_bench(&b, serve_late_then_silence);
    start(&b, b.server.url, 600000, 50);
    svc_loop_after(b.fixture.ctx.loop, 170, fire, NULL);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_TIMEOUT);
    assert_true(svc_str_eq(svc_buf_str(&b.body), SVC_LIT("data: a\n\n")));
    close_bench(&b);
    close(starting_gun[0]);
    close(starting_gun[1]);
}

/* --- cancel and drain -------------------------------------------------------------- */

static bool
serve_open_end(tiny_server_t *self, int fd, int nth)
{
    (void)nth;
    tiny_write_stream(fd, "data: a\n\n");
    tiny_wait_for_close(self, fd);
    return false;
}

static void
closes_the_connection_when_cancelled(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_open_end);
    start(&b, b.server.url, 10000, 10000);
    fixture_run_until(&b.fixture, has_body, &b);
    relay_cancel(b.transfer);
    fixture_run_until(&b.fixture, has_client_left, &b);
    assert_false(b.done);
    close_bench(&b);
}

static void
may_be_cancelled_inside_its_own_callback(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_open_end);
    b.cancel_in_body = true;
    start(&b, b.server.url, 10000, 10000);
    fixture_run_until(&b.fixture, has_client_left, &b);
    assert_false(b.done);
    assert_int_equal(b.body.n, 9);
    close_bench(&b);
}

static void
drains_for_a_bounded_time(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_open_end);
    b.drain_in_body = true;
    start(&b, b.server.url, 10000, 10000);
    fixture_run_until(&b.fixture, is_done, &b);
    assert_int_equal(b.outcome, RELAY_TIMEOUT);
    fixture_run_until(&b.fixture, has_client_left, &b);
    close_bench(&b);
}

static void
forgets_running_transfers_when_destroyed(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b, serve_open_end);
    start(&b, b.server.url, 10000, 10000);
    fixture_run_until(&b.fixture, has_body, &b);
    start(&b, b.server.url, 10000, 10000);
    close_bench(&b);
    assert_false(b.done);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_and_streams_and_uses_a_connection_again),
        cmocka_unit_test(one_that_ends_at_the_end_of_a_turn_may_begin_another),
        cmocka_unit_test(tries_again_twice_before_the_first_byte),
        cmocka_unit_test(gives_up_after_three_attempts),
        cmocka_unit_test(never_repeats_what_was_refused_and_tells_retry_after),
        cmocka_unit_test(follows_no_redirect),
        cmocka_unit_test(says_that_nobody_can_be_reached),
        cmocka_unit_test(tells_a_broken_body_from_a_whole_one),
        cmocka_unit_test(limits_the_wait_for_the_first_byte_and_between_bytes),
        cmocka_unit_test(
            counts_the_idle_time_from_a_first_byte_that_came_later_than_that),
        cmocka_unit_test(closes_the_connection_when_cancelled),
        cmocka_unit_test(may_be_cancelled_inside_its_own_callback),
        cmocka_unit_test(drains_for_a_bounded_time),
        cmocka_unit_test(forgets_running_transfers_when_destroyed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
