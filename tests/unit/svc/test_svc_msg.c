/* test_svc_msg.c - messages there and back: bytes of any size, parts, refusals, the bound, the options.
 *
 * Over inproc, or over TCP on a free port where the transport matters. Who owns a payload when is
 * for the sanitizers to see: nothing here frees one twice or forgets one. */
#include "svc/svc_msg.h"

#include "proto/proto.h"
#include "svc/svc_time.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define PATIENCE_MS 20000

typedef struct {
    void *zmq;
    void *from, *to; /* a DEALER each, connected */
    char at[256];    /* where `to` is bound */
} pair_t;

static void
open_pair(pair_t *pair, const char *endpoint, int hwm)
{
    size_t n = sizeof(pair->at);

    pair->zmq = zmq_ctx_new();
    pair->to = svc_msg_socket(pair->zmq, ZMQ_DEALER, hwm);
    pair->from = svc_msg_socket(pair->zmq, ZMQ_DEALER, hwm);
    assert_int_equal(zmq_bind(pair->to, endpoint), 0);
    assert_int_equal(zmq_getsockopt(pair->to, ZMQ_LAST_ENDPOINT, pair->at, &n), 0);
    assert_int_equal(zmq_connect(pair->from, pair->at), 0);
}

static void
close_pair(pair_t *pair)
{
    zmq_close(pair->from);
    zmq_close(pair->to);
    assert_int_equal(zmq_ctx_term(pair->zmq), 0);
}

/* Waits until something can be received. */
static bool
is_readable(void *socket, long ms)
{
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};

    return zmq_poll(&item, 1, ms) == 1;
}

/* Receives one part and expects these bytes. */
static void
expect(void *socket, svc_str bytes, bool more)
{
    zmq_msg_t msg;

    assert_true(is_readable(socket, PATIENCE_MS));
    zmq_msg_init(&msg);
    assert_true(svc_msg_recv(socket, &msg, 0));
    assert_true(svc_str_eq(svc_msg_str(&msg), bytes));
    assert_int_equal(zmq_msg_more(&msg), more);
    zmq_msg_close(&msg);
}

static char *
letters(size_t n)
{
    char *p = svc_alloc(n);

    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + i % 23);
    return p;
}

/* --- there and back ------------------------------------------------------------------------------ */

static void
bytes_of_any_size_arrive_as_they_were(void **state)
{
    static const size_t sizes[] = {0, 1, 33, 34, 255, 256, 8192, 65537, 1 << 20};
    static const char *const endpoints[] = {"inproc://there", "tcp://127.0.0.1:*"};
    char *bytes = letters(1 << 20);

    (void)state;
    for (size_t e = 0; e < SVC_COUNT(endpoints); e++) {
        pair_t pair;

        open_pair(&pair, endpoints[e], 0);
        for (size_t i = 0; i < SVC_COUNT(sizes); i++) {
            assert_true(svc_msg_send_bytes(pair.from, (svc_str){bytes, sizes[i]}, 0));
            expect(pair.to, (svc_str){bytes, sizes[i]}, false);
        }
        assert_true(svc_msg_send_bytes(pair.from, (svc_str){NULL, 0}, 0));
        expect(pair.to, SVC_LIT(""), false);
        close_pair(&pair);
    }
    free(bytes);
}

static void
what_was_copied_may_change_right_after(void **state)
{
    char bytes[100] = "before";
    pair_t pair;

    (void)state;
    open_pair(&pair, "inproc://there", 0);
    assert_true(svc_msg_send_bytes(pair.from, (svc_str){bytes, sizeof(bytes)}, 0));
    memset(bytes, 'x', sizeof(bytes));
    assert_true(svc_msg_send_bytes(pair.from, (svc_str){bytes, 1}, 0));
    char before[100] = "before";
    expect(pair.to, (svc_str){before, sizeof(before)}, false);
    expect(pair.to, SVC_LIT("x"), false);
    close_pair(&pair);
}

static void
a_message_belongs_to_the_socket_once_it_is_sent(void **state)
{
    pair_t pair;
    zmq_msg_t msg;

    (void)state;
    open_pair(&pair, "inproc://there", 0);
    assert_int_equal(zmq_msg_init_size(&msg, 1000), 0);
    memset(zmq_msg_data(&msg), 'm', 1000);
    assert_true(svc_msg_send(pair.from, &msg, 0));
    assert_int_equal(zmq_msg_size(&msg), 0); /* empty, and may be closed or not */
    zmq_msg_close(&msg);
    zmq_msg_init(&msg);
    assert_true(svc_msg_recv(pair.to, &msg, 0));
    assert_int_equal(svc_msg_str(&msg).n, 1000);
    assert_ptr_equal(svc_msg_str(&msg).p, zmq_msg_data(&msg)); /* a view, no copy */
    zmq_msg_close(&msg);
    close_pair(&pair);
}

/* --- buffers become messages ---------------------------------------------------------------------- */

static void
a_taken_buffer_is_the_message_and_starts_anew(void **state)
{
    pair_t pair;
    zmq_msg_t msg;
    svc_buf_t buf;

    (void)state;
    open_pair(&pair, "inproc://there", 0);
    svc_buf_init(&buf, 1000);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(svc_buf_add(&buf, "payload", 7), RC_OK);
        const char *p = buf.p;
        svc_msg_take(&msg, &buf);
        assert_ptr_equal(svc_msg_str(&msg).p, p);
        assert_int_equal(svc_msg_str(&msg).n, 7);
        assert_null(buf.p);
        assert_int_equal(buf.n, 0);
        assert_int_equal(buf.max, 1000);
        assert_true(svc_msg_send(pair.from, &msg, 0));
        expect(pair.to, SVC_LIT("payload"), false);
    }
    assert_int_equal(svc_buf_add(&buf, "never sent", 10), RC_OK);
    svc_msg_take(&msg, &buf);
    zmq_msg_close(&msg);      /* frees it all the same */
    svc_msg_take(&msg, &buf); /* nothing in it: an empty message */
    assert_int_equal(svc_msg_str(&msg).n, 0);
    assert_true(svc_msg_send(pair.from, &msg, 0));
    expect(pair.to, SVC_LIT(""), false);
    svc_buf_fini(&buf);
    close_pair(&pair);
}

static void
a_taken_buffer_outlives_its_sender(void **state)
{
    pair_t pair;
    zmq_msg_t msg;
    svc_buf_t buf;
    char *bytes = letters(100000);

    (void)state;
    open_pair(&pair, "tcp://127.0.0.1:*", 0);
    for (int i = 0; i < 20; i++) { /* its last use is on ZeroMQ's thread */
        svc_buf_init(&buf, 100000);
        assert_int_equal(svc_buf_add(&buf, bytes, 100000), RC_OK);
        svc_msg_take(&msg, &buf);
        assert_true(svc_msg_send(pair.from, &msg, 0));
        svc_buf_fini(&buf);
    }
    for (int i = 0; i < 10; i++)
        expect(pair.to, (svc_str){bytes, 100000}, false);
    close_pair(&pair); /* with some on the way */
    free(bytes);
}

/* --- what is not taken ---------------------------------------------------------------------------- */

static void
a_full_socket_says_so_and_the_message_stays_the_callers(void **state)
{
    pair_t pair;
    zmq_msg_t msg;
    int sent = 0;

    (void)state;
    open_pair(&pair, "inproc://there", 2);
    while (svc_msg_send_bytes(pair.from, SVC_LIT("fill"), ZMQ_DONTWAIT))
        assert_true(++sent < 100);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(sent, 4); /* two on either side */
    assert_int_equal(zmq_msg_init_size(&msg, 1000), 0);
    memset(zmq_msg_data(&msg), 'm', 1000);
    assert_false(svc_msg_send(pair.from, &msg, ZMQ_DONTWAIT));
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(svc_msg_str(&msg).n, 1000);
    assert_int_equal(svc_msg_str(&msg).p[999], 'm');
    for (int i = 0; i < sent; i++)
        expect(pair.to, SVC_LIT("fill"), false);
    while (!svc_msg_send(pair.from, &msg, ZMQ_DONTWAIT)) /* and can be sent later */
        assert_int_equal(errno, EAGAIN);
    zmq_msg_init(&msg);
    assert_true(is_readable(pair.to, PATIENCE_MS));
    assert_true(svc_msg_recv(pair.to, &msg, 0));
    assert_int_equal(svc_msg_str(&msg).n, 1000);
    zmq_msg_close(&msg);
    close_pair(&pair);
}

static void
a_route_that_nobody_has_is_told(void **state)
{
    void *zmq = zmq_ctx_new();
    void *router = svc_msg_socket(zmq, ZMQ_ROUTER, 10);
    const int yes = 1;

    (void)state;
    assert_int_equal(zmq_setsockopt(router, ZMQ_ROUTER_MANDATORY, &yes, sizeof(yes)), 0);
    assert_false(svc_msg_send_bytes(router, SVC_LIT("nobody"), ZMQ_SNDMORE));
    assert_int_equal(errno, EHOSTUNREACH);
    zmq_close(router);
    zmq_ctx_term(zmq);
}

static void
nothing_to_receive_is_no_message(void **state)
{
    pair_t pair;
    zmq_msg_t msg;

    (void)state;
    open_pair(&pair, "inproc://there", 0);
    zmq_msg_init(&msg);
    assert_false(svc_msg_recv(pair.to, &msg, ZMQ_DONTWAIT));
    assert_int_equal(errno, EAGAIN);
    assert_true(svc_msg_send_bytes(pair.from, SVC_LIT("now"), 0));
    assert_true(
        svc_msg_recv(pair.to, &msg, ZMQ_DONTWAIT)); /* the same may be used again */
    assert_true(svc_str_eq(svc_msg_str(&msg), SVC_LIT("now")));
    assert_false(svc_msg_recv(pair.to, &msg, ZMQ_DONTWAIT));
    zmq_msg_close(&msg);
    close_pair(&pair);
}

static void
a_context_that_ends_gives_no_messages_and_no_sockets(void **state)
{
    pair_t pair;
    zmq_msg_t msg;

    (void)state;
    open_pair(&pair, "inproc://there", 0);
    zmq_ctx_shutdown(pair.zmq);
    zmq_msg_init(&msg);
    assert_false(svc_msg_recv(pair.to, &msg, 0));
    assert_int_equal(errno, ETERM);
    zmq_msg_close(&msg);
    assert_false(svc_msg_send_bytes(pair.from, SVC_LIT("late"), 0));
    assert_int_equal(errno, ETERM);
    assert_null(svc_msg_socket(pair.zmq, ZMQ_DEALER, 1));
    close_pair(&pair);
}

/* --- parts ---------------------------------------------------------------------------------------- */

static void
the_rest_of_a_message_is_skipped_and_nothing_of_the_next(void **state)
{
    pair_t pair;

    (void)state;
    open_pair(&pair, "tcp://127.0.0.1:*", 0);
    for (int parts = 1; parts <= 5; parts++) {
        for (int i = 1; i <= parts; i++)
            assert_true(svc_msg_send_bytes(pair.from, SVC_LIT("part"),
                                           i < parts ? ZMQ_SNDMORE : 0));
        assert_true(svc_msg_send_bytes(pair.from, SVC_LIT("next"), 0));
    }
    for (int parts = 1; parts <= 5; parts++) {
        zmq_msg_t msg;

        assert_true(is_readable(pair.to, PATIENCE_MS));
        zmq_msg_init(&msg);
        assert_true(svc_msg_recv(pair.to, &msg, 0));
        assert_int_equal(zmq_msg_more(&msg), parts > 1);
        svc_msg_skip_rest(pair.to, &msg);
        zmq_msg_close(&msg);
        expect(pair.to, SVC_LIT("next"), false);
    }
    close_pair(&pair);
}

/* --- signals -------------------------------------------------------------------------------------- */

static atomic_int signals;

static void
on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

static void *
receive_one(void *socket)
{
    zmq_msg_t msg;

    zmq_msg_init(&msg);
    const bool got = svc_msg_recv(socket, &msg, 0) &&
                     svc_str_eq(svc_msg_str(&msg), SVC_LIT("at last"));
    zmq_msg_close(&msg);
    return got ? socket : NULL;
}

static void
a_signal_does_not_end_the_wait_for_a_message(void **state)
{
    const struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART */
    struct sigaction old;
    pair_t pair;
    pthread_t thread;
    void *got = NULL;

    (void)state;
    sigaction(SIGUSR1, &action, &old);
    open_pair(&pair, "inproc://there", 0);
    assert_int_equal(pthread_create(&thread, NULL, receive_one, pair.to), 0);
    const uint64_t until = svc_mono_ms() + PATIENCE_MS;
    while (atomic_load(&signals) < 20 && svc_mono_ms() < until) {
        const int before = atomic_load(&signals);
        pthread_kill(thread, SIGUSR1);
        while (atomic_load(&signals) == before && svc_mono_ms() < until) {
        }
    }
    assert_true(svc_msg_send_bytes(pair.from, SVC_LIT("at last"), 0));
    assert_int_equal(pthread_join(thread, &got), 0);
    assert_ptr_equal(got, pair.to);
    close_pair(&pair);
    sigaction(SIGUSR1, &old, NULL);
}

/* --- the house's options -------------------------------------------------------------------------- */

static int
option(void *socket, int name)
{
    int value = -1;
    size_t n = sizeof(value);

    assert_int_equal(zmq_getsockopt(socket, name, &value, &n), 0);
    return value;
}

static void
sockets_are_bounded_and_do_not_linger(void **state)
{
    static const int types[] = {ZMQ_DEALER, ZMQ_ROUTER, ZMQ_PUB, ZMQ_SUB, ZMQ_PAIR};
    void *zmq = zmq_ctx_new();

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(types); i++) {
        void *socket = svc_msg_socket(zmq, types[i], 77);
        int64_t max = 0;
        size_t n = sizeof(max);

        assert_int_equal(option(socket, ZMQ_TYPE), types[i]);
        assert_int_equal(option(socket, ZMQ_LINGER), 0);
        assert_int_equal(option(socket, ZMQ_SNDHWM), 77);
        assert_int_equal(option(socket, ZMQ_RCVHWM), 77);
        assert_true(option(socket, ZMQ_HANDSHAKE_IVL) <= 5000);
        assert_int_equal(zmq_getsockopt(socket, ZMQ_MAXMSGSIZE, &max, &n), 0);
        assert_int_equal(max, PROTO_MESSAGE_MAX_BYTES);
        zmq_close(socket);
    }
    zmq_ctx_term(zmq);
}

static void
a_message_of_the_largest_size_passes_and_a_larger_one_ends_its_connection(void **state)
{
    char *bytes = letters(PROTO_MESSAGE_MAX_BYTES + 1);
    bool is_back = false;
    pair_t pair;

    (void)state;
    open_pair(&pair, "tcp://127.0.0.1:*", 0);
    assert_true(
        svc_msg_send_bytes(pair.from, (svc_str){bytes, PROTO_MESSAGE_MAX_BYTES}, 0));
    expect(pair.to, (svc_str){bytes, PROTO_MESSAGE_MAX_BYTES}, false);
    assert_true(
        svc_msg_send_bytes(pair.from, (svc_str){bytes, PROTO_MESSAGE_MAX_BYTES + 1}, 0));
    const uint64_t until = svc_mono_ms() + PATIENCE_MS;
    while (!is_back && svc_mono_ms() < until) { /* what was on the way is lost with it */
        assert_true(svc_msg_send_bytes(pair.from, SVC_LIT("small"), 0));
        is_back = is_readable(pair.to, 50);
    }
    assert_true(is_back);
    expect(pair.to, SVC_LIT("small"), false);
    close_pair(&pair);
    free(bytes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_any_size_arrive_as_they_were),
        cmocka_unit_test(what_was_copied_may_change_right_after),
        cmocka_unit_test(a_message_belongs_to_the_socket_once_it_is_sent),
        cmocka_unit_test(a_taken_buffer_is_the_message_and_starts_anew),
        cmocka_unit_test(a_taken_buffer_outlives_its_sender),
        cmocka_unit_test(a_full_socket_says_so_and_the_message_stays_the_callers),
        cmocka_unit_test(a_route_that_nobody_has_is_told),
        cmocka_unit_test(nothing_to_receive_is_no_message),
        cmocka_unit_test(a_context_that_ends_gives_no_messages_and_no_sockets),
        cmocka_unit_test(the_rest_of_a_message_is_skipped_and_nothing_of_the_next),
        cmocka_unit_test(a_signal_does_not_end_the_wait_for_a_message),
        cmocka_unit_test(sockets_are_bounded_and_do_not_linger),
        cmocka_unit_test(
            a_message_of_the_largest_size_passes_and_a_larger_one_ends_its_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
