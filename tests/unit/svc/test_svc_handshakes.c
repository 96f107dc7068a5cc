/* test_svc_handshakes.c - who could not shake hands with a locked socket is told with reason and address.
 *
 * The socket is a bare ROUTER; the log goes into a pipe. What is counted for whom is seen in test_svc_curve, too. */
#include "keys_fixture.h"
#include "raw_zmtp.h"

#include "svc/svc_handshakes.h"
#include "svc/svc_msg.h"

typedef struct {
    fixture_t fixture;            /* first: loop */
    keys_dir_t keys;              /* of everybody */
    svc_ctx_t side;               /* llm-svc */
    svc_log_t *log;               /* owned */
    int ends[2];                  /* pipe of the log */
    void *socket;                 /* ROUTER, watched */
    svc_handshakes_t *handshakes; /* under test */
    char endpoint[256];           /* of socket */
    char text[8192];              /* what was logged */
} bench_t;

static int
open_bench(void **state)
{
    bench_t *b = svc_alloc(sizeof(*b));
    size_t n = sizeof(b->endpoint);

    keys_open(&b->keys);
    fixture_open(&b->fixture, "nobody");
    assert_int_equal(pipe(b->ends), 0);
    b->log = svc_log_new(b->ends[1], "llm-svc", 0, SVC_LOG_DEBUG);
    b->side = side_open(&b->fixture.ctx, &b->keys, "llm-svc");
    svc_refusals_destroy(&b->side.refusals);
    b->side.refusals = svc_refusals_new(b->side.metrics, b->log);
    b->socket = svc_msg_socket(b->side.zmq, ZMQ_ROUTER, 0);
    svc_curve_serve(b->side.curve, b->socket, SVC_CURVE_REQUESTS);
    b->handshakes = svc_handshakes_new(&b->side, b->socket, "llm-svc");
    assert_non_null(b->handshakes);
    assert_int_equal(zmq_bind(b->socket, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(b->socket, ZMQ_LAST_ENDPOINT, b->endpoint, &n), 0);
    *state = b;
    return 0;
}

static int
close_bench(void **state)
{
    bench_t *b = *state;

    svc_handshakes_destroy(&b->handshakes);
    svc_handshakes_destroy(&b->handshakes);
    zmq_close(b->socket);
    side_close(&b->side);
    svc_log_destroy(&b->log);
    close(b->ends[0]);
    close(b->ends[1]);
    fixture_close(&b->fixture);
    keys_close(&b->keys);
    free(b);
    return 0;
}

/* What was logged until now. */
static const char *
logged(bench_t *b)
{
    ssize_t n;

    assert_int_equal(write(b->ends[1], "end", 3), 3);
    n = read(b->ends[0], b->text, sizeof(b->text) - 1);
    assert_true(n >= 3);
    b->text[n - 3] = '\0';
    return b->text;
}

static void
await_refused(bench_t *b, uint64_t n)
{
    await_count(&b->fixture, &b->side, SVC_M_BUS_HANDSHAKES_REFUSED, n);
}

/* The address is asked for while the connection is there: the loop has to learn of it before it speaks, which it is given time
 * for, and more of it the next time. */
static void
plain_text_is_told_with_its_address(void **state)
{
    bench_t *b = *state;
    bool is_told = false;

    for (unsigned i = 0; i < SVC_REFUSALS_LOGGED && !is_told; i++) {
        const int fd = raw_zmtp_connect(b->endpoint);
        char address[64];
        struct sockaddr_in own;
        socklen_t n = sizeof(own);

        assert_true(fd >= 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &n), 0);
        fixture_run_for(&b->fixture, 50u << i);
        (void)raw_zmtp_greet(fd, "SUB"); /* it may have been thrown out for its silence */
        await_refused(b, i + 1);
        snprintf(address, sizeof(address), "from 127.0.0.1:%u: plain text",
                 (unsigned)ntohs(own.sin_port));
        is_told = strstr(logged(b), address) != NULL;
        close(fd);
    }
    assert_true(is_told);
}

static void
bytes_that_are_no_zeromq_are_told(void **state)
{
    static const char *const nonsense[] = {
        "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01\x02\x01\x01"};
    bench_t *b = *state;

    for (size_t i = 0; i < SVC_COUNT(nonsense); i++) {
        const int fd = raw_zmtp_connect(b->endpoint);

        assert_true(fd >= 0);
        assert_true(send(fd, nonsense[i], strlen(nonsense[i]), MSG_NOSIGNAL) > 0);
        await_refused(b, i + 1);
        close(fd);
    }
    assert_non_null(strstr(logged(b), "it speaks no ZeroMQ of today"));
}

static void
a_key_for_another_server_is_told(void **state)
{
    bench_t *b = *state;
    svc_ctx_t gateway = side_open(&b->fixture.ctx, &b->keys, "gateway");
    void *socket = svc_msg_socket(gateway.zmq, ZMQ_DEALER, 0);

    svc_curve_call(gateway.curve, socket, "auth-svc", 0);
    assert_int_equal(zmq_connect(socket, b->endpoint), 0);
    await_refused(b, 1);
    assert_non_null(strstr(logged(b), "it takes us for another"));
    zmq_close(socket);
    side_close(&gateway);
}

static void
who_stays_without_a_word_is_thrown_out_and_told(void **state)
{
    bench_t *b = *state;
    const int fd = raw_zmtp_connect(b->endpoint);

    assert_true(fd >= 0);
    await_refused(b, 1); /* by ZeroMQ's own time-out, 3 s */
    assert_non_null(
        strstr(logged(b), "it left, or was silent, before hands were shaken"));
    close(fd);
}

/* Somebody with the right key connects, says something, and leaves. */
static void
come_and_go(bench_t *b)
{
    svc_ctx_t gateway = side_open(&b->fixture.ctx, &b->keys, "gateway");
    void *socket = svc_msg_socket(gateway.zmq, ZMQ_DEALER, 0);
    zmq_msg_t msg;

    svc_curve_call(gateway.curve, socket, "llm-svc", 0);
    assert_int_equal(zmq_connect(socket, b->endpoint), 0);
    assert_true(svc_msg_send_bytes(socket, SVC_LIT("hello"), 0));
    zmq_msg_init(&msg);
    assert_true(svc_msg_recv(b->socket, &msg, 0));
    assert_string_equal(svc_curve_sender(&msg), "gateway");
    svc_msg_skip_rest(b->socket, &msg);
    zmq_msg_close(&msg);
    zmq_close(socket);
    side_close(&gateway);
}

static void
who_comes_and_goes_properly_is_no_news(void **state)
{
    bench_t *b = *state;

    for (int i = 0; i < 3; i++)
        come_and_go(b);
    const int fd = raw_zmtp_connect(b->endpoint); /* after them */
    assert_true(fd >= 0 && raw_zmtp_greet(fd, "SUB"));
    await_refused(b, 1);
    close(fd);
    assert_int_equal(svc_metrics_get(b->side.metrics, SVC_M_BUS_HANDSHAKES_REFUSED), 1);
}

static void
what_one_did_wrong_is_not_told_of_the_next(void **state)
{
    bench_t *b = *state;
    int fd = raw_zmtp_connect(b->endpoint);

    assert_true(fd >= 0 && raw_zmtp_greet(fd, "SUB"));
    await_refused(b, 1);
    close(fd);
    come_and_go(b);
    fd = raw_zmtp_connect(b->endpoint);
    assert_true(fd >= 0 && send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL) == 18);
    await_refused(b, 2);
    close(fd);
    assert_non_null(strstr(logged(b), "it speaks no ZeroMQ of today"));
    assert_int_equal(svc_metrics_get(b->side.metrics, SVC_M_BUS_HANDSHAKES_REFUSED), 2);
}

static void
a_plain_bus_is_not_watched(void **state)
{
    bench_t *b = *state;
    void *socket = svc_msg_socket(b->fixture.ctx.zmq, ZMQ_ROUTER, 0);
    svc_handshakes_t *none = svc_handshakes_new(&b->fixture.ctx, socket, "llm-svc");

    assert_null(none);
    svc_handshakes_destroy(&none);
    zmq_close(socket);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_bench, close_bench)
        TEST(plain_text_is_told_with_its_address),
        TEST(bytes_that_are_no_zeromq_are_told),
        TEST(a_key_for_another_server_is_told),
        TEST(who_stays_without_a_word_is_thrown_out_and_told),
        TEST(who_comes_and_goes_properly_is_no_news),
        TEST(what_one_did_wrong_is_not_told_of_the_next),
        TEST(a_plain_bus_is_not_watched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
