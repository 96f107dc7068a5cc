/* test_token_pub.c - frames reach who subscribed to their stream, and are dropped when told to.
 *
 * The subscriber stands on a real SUB socket; dropping is counted. */
#include "tests/unit/svc/bus_fixture.h"
#include "tests/unit/svc/raw_zmtp.h"

#include "llm-svc/token_pub.h"
#include "svc/svc_msg.h"

#define FRAMES 2000

typedef struct {
    fixture_t fixture;   /* context and counters */
    svc_config_t config; /* where to bind, what to drop */
    token_pub_t *pub;    /* under test */
    void *sub;           /* SUB, of the test */
} bench_t;

static const proto_token_t hello = {
    .version = PROTO_VERSION,
    .stream = {"0123456789abcdef", PROTO_STREAM_BYTES},
    .fence = 5,
    .offset = 7,
    .kind = PROTO_TOKEN_TEXT,
    .bytes = {"hello", 5},
};

static void
open_bench(bench_t *b, double drop)
{
    char *error = NULL;
    const int patience = FIXTURE_PATIENCE_MS, no_limit = 0;

    memset(b, 0, sizeof(*b));
    fixture_open(&b->fixture, "llm-svc");
    b->config.bus_tokens.bind = (char *)(uintptr_t) "tcp://127.0.0.1:0";
    b->config.test_drop_token_frames = drop;
    b->fixture.ctx.config = &b->config;
    b->pub = token_pub_new(&b->fixture.ctx, &error);
    assert_non_null(b->pub);
    b->sub = zmq_socket(b->fixture.ctx.zmq, ZMQ_SUB);
    zmq_setsockopt(b->sub, ZMQ_RCVTIMEO, &patience, sizeof(patience));
    zmq_setsockopt(b->sub, ZMQ_RCVHWM, &no_limit, sizeof(no_limit));
    zmq_setsockopt(b->sub, ZMQ_SUBSCRIBE, hello.stream.p, hello.stream.n);
    assert_int_equal(zmq_connect(b->sub, token_pub_endpoint(b->pub)), 0);
}

static void
close_bench(bench_t *b)
{
    zmq_close(b->sub);
    token_pub_destroy(&b->pub);
    token_pub_destroy(&b->pub);
    fixture_close(&b->fixture);
}

/* Receives one part; false when there is none (flags ZMQ_DONTWAIT), or nobody sent for
 * long. */
static bool
receive(bench_t *b, zmq_msg_t *msg, int flags)
{
    zmq_msg_init(msg);
    return svc_msg_recv(b->sub, msg, flags);
}

static void
sends_topic_and_frame(void **state)
{
    (void)state;
    bench_t b;
    zmq_msg_t frame;
    proto_token_t other = hello, got;
    bool is_here = false;

    open_bench(&b, 0);
    other.stream = SVC_LIT("another stream..");
    for (uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
         !is_here && svc_mono_ms() < until;) {
        token_pub_send(b.pub, &other);
        token_pub_send(b.pub, &hello); /* until the subscription has arrived */
        is_here = receive(&b, &frame, ZMQ_DONTWAIT);
    }
    assert_true(is_here);
    assert_false(zmq_msg_more(&frame));
    svc_str bytes = svc_msg_str(&frame);
    assert_memory_equal(bytes.p, hello.stream.p, PROTO_STREAM_BYTES);
    bytes = (svc_str){bytes.p + PROTO_STREAM_BYTES, bytes.n - PROTO_STREAM_BYTES};
    assert_int_equal(proto_token_decode(bytes, &got), RC_OK);
    assert_int_equal(got.fence, 5);
    assert_int_equal(got.offset, 7);
    assert_true(svc_str_eq(got.bytes, SVC_LIT("hello")));
    zmq_msg_close(&frame);
    close_bench(&b);
}

static void
drops_the_share_that_it_was_told_to(void **state)
{
    (void)state;
    static const struct {
        double share;
        uint64_t least, most;
    } rows[] = {{0, 0, 0}, {0.3, FRAMES / 5, FRAMES * 2 / 5}, {1, FRAMES, FRAMES}};

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        bench_t b;

        open_bench(&b, rows[i].share);
        for (int n = 0; n < FRAMES; n++)
            token_pub_send(b.pub, &hello);
        uint64_t dropped = fixture_count(&b.fixture, SVC_M_TOKENS_DROPPED);
        assert_in_range(dropped, rows[i].least, rows[i].most);
        assert_int_equal(fixture_count(&b.fixture, SVC_M_TOKENS_PUBLISHED),
                         FRAMES - dropped);
        close_bench(&b);
    }
}

static void
asks_subscribers_for_a_sign_of_life(void **state)
{
    (void)state;
    bench_t b;
    int fd;

    open_bench(&b, 0);
    fd = raw_zmtp_connect(token_pub_endpoint(b.pub));
    assert_true(fd >= 0);
    assert_true(raw_zmtp_greet(fd, "SUB"));
    assert_true(raw_zmtp_wait_for_ping(fd) >= 0);
    close(fd);
    close_bench(&b);
}

#define PING_BYTES 9 /* of a PING that is not encrypted, with its header */

/* Does the other end close, and not only for our silence? That would be after five PINGs. */
static bool
is_closed_at_once(int fd)
{
    unsigned char bytes[4096];
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    ssize_t got = 1, n = 0;

    while (got > 0 && svc_mono_ms() < until) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};

        if (poll(&wait, 1, 1000) > 0) {
            got = recv(fd, bytes, sizeof(bytes), 0);
            n += got > 0 ? got : 0;
        }
    }
    return got <= 0 && n <= 3 * PING_BYTES;
}

static void
drops_who_subscribes_to_what_is_no_stream(void **state)
{
    (void)state;
    /* A message of 1 MB, and its first bytes. ZeroMQ judges by what is claimed. */
    static const unsigned char head[] = {2, 0, 0, 0, 0, 0, 16, 0, 0, 1, 'A', 'A'};
    bench_t b;
    int fd;

    open_bench(&b, 0);
    fd = raw_zmtp_connect(token_pub_endpoint(b.pub));
    assert_true(fd >= 0);
    assert_true(raw_zmtp_greet(fd, "SUB"));
    assert_true(raw_zmtp_wait_for_ping(fd) >= 0); /* the handshake is done */
    assert_int_equal(send(fd, head, sizeof(head), MSG_NOSIGNAL), sizeof(head));
    assert_true(is_closed_at_once(fd));
    close(fd);
    close_bench(&b);
}

static void
says_why_it_cannot_listen(void **state)
{
    (void)state;
    bench_t b;
    char *error = NULL;

    open_bench(&b, 0);
    b.config.bus_tokens.bind = (char *)(uintptr_t)token_pub_endpoint(b.pub);
    assert_null(token_pub_new(&b.fixture.ctx, &error));
    assert_non_null(strstr(error, "bus.tokens.bind"));
    assert_non_null(strstr(error, "in use"));
    free(error);
    close_bench(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_topic_and_frame),
        cmocka_unit_test(drops_the_share_that_it_was_told_to),
        cmocka_unit_test(asks_subscribers_for_a_sign_of_life),
        cmocka_unit_test(drops_who_subscribes_to_what_is_no_stream),
        cmocka_unit_test(says_why_it_cannot_listen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
