/* test_svc_loop_sockets.c - no wake-up of a ZeroMQ socket is ever lost, whatever is done to it.
 *
 * ZMQ_FD tells once that something has come, and any call on the socket may take that sign: each
 * test is one way of losing it. What is lost shows as a deadline that passes. */
#include "bus_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "svc/svc_msg.h"

typedef struct {
    svc_loop_t *loop; /* under test */
    void *near, *far; /* a pair over inproc: near is watched */
    int per_turn;     /* messages that the handler reads at most */
    int received;     /* by near */
    int wanted;       /* of them */
    int calls;        /* of the handler */
    int turns;        /* of the loop */
    int fd;           /* for tests that need one */
} pair_t;

/* libzmq 4.3 looks for news in a send only when the last look is this long ago (3 M ticks). */
static void
let_send_look(void)
{
    const struct timespec wait = {.tv_nsec = 20000000};
    nanosleep(&wait, NULL);
}

static bool
has_all(void *arg)
{
    return ((pair_t *)arg)->received == ((pair_t *)arg)->wanted;
}

static void
open_pair(pair_t *self, fixture_t *fixture, svc_loop_fn *fn)
{
    fixture_open(fixture, "test");
    *self = (pair_t){.loop = fixture->ctx.loop, .per_turn = 100};
    self->near = svc_msg_socket(fixture->ctx.zmq, ZMQ_PAIR, 0);
    self->far = svc_msg_socket(fixture->ctx.zmq, ZMQ_PAIR, 0);
    assert_int_equal(zmq_bind(self->near, "inproc://pair"), 0);
    assert_int_equal(zmq_connect(self->far, "inproc://pair"), 0);
    svc_loop_add_socket(self->loop, self->near, fn, self);
}

static void
close_pair(pair_t *self, fixture_t *fixture)
{
    svc_loop_remove_socket(self->loop, self->near);
    zmq_close(self->near);
    zmq_close(self->far);
    fixture_close(fixture);
}

static void
send_x(void *socket)
{
    assert_true(svc_msg_send_bytes(socket, SVC_LIT("x"), ZMQ_DONTWAIT));
}

static bool
receive_x(void *socket)
{
    zmq_msg_t msg;
    zmq_msg_init(&msg);
    const bool got = svc_msg_recv(socket, &msg, ZMQ_DONTWAIT);
    zmq_msg_close(&msg);
    return got;
}

static void
on_near(void *arg, short events)
{
    pair_t *self = arg;
    assert_int_equal(events, ZMQ_POLLIN);
    self->calls++;
    for (int i = 0; i < self->per_turn; i++) {
        if (!receive_x(self->near)) {
            svc_loop_read_dry(self->loop, self->near);
            break;
        }
        self->received++;
    }
}

static void
cross_messages(void *arg, short events)
{
    pair_t *self = arg;
    (void)events;
    let_send_look();
    send_x(self->far);
    send_x(self->near); /* takes the sign of what far has sent */
    svc_loop_touched(self->loop, self->near);
}

static void
a_message_whose_sign_a_send_has_taken_is_read(void **state)
{
    (void)state;
    fixture_t fixture;
    pair_t pair;
    open_pair(&pair, &fixture, on_near);
    pair.wanted = 1;
    svc_loop_after(pair.loop, 20, cross_messages, &pair);
    fixture_run_until(&fixture, has_all, &pair);
    close_pair(&pair, &fixture);
}

/* Answers the first message while the second comes. */
static void
on_near_answering(void *arg, short events)
{
    pair_t *self = arg;
    (void)events;
    if (!receive_x(self->near))
        return;
    if (++self->received > 1)
        return;
    assert_false(receive_x(self->near));
    let_send_look();
    send_x(self->far);
    send_x(self->near);
}

static void
a_message_that_comes_while_its_handler_answers_another_is_read(void **state)
{
    (void)state;
    fixture_t fixture;
    pair_t pair;
    open_pair(&pair, &fixture, on_near_answering);
    pair.wanted = 2;
    send_x(pair.far);
    fixture_run_until(&fixture, has_all, &pair);
    close_pair(&pair, &fixture);
}

static void
what_a_bounded_handler_leaves_unread_is_read_in_the_next_turns(void **state)
{
    (void)state;
    fixture_t fixture;
    pair_t pair;
    open_pair(&pair, &fixture, on_near);
    pair.wanted = 10;
    pair.per_turn = 3;
    for (int i = 0; i < pair.wanted; i++)
        send_x(pair.far);
    fixture_run_until(&fixture, has_all, &pair);
    assert_true(pair.calls >= 4);
    close_pair(&pair, &fixture);
}

static void
what_came_while_no_loop_ran_is_read(void **state)
{
    (void)state;
    fixture_t fixture;
    pair_t pair;
    open_pair(&pair, &fixture, on_near);
    for (int round = 0; round < 3; round++) {
        let_send_look();
        send_x(pair.far);
        send_x(pair.near);
        pair.wanted++;
        fixture_run_until(&fixture, has_all, &pair);
    }
    close_pair(&pair, &fixture);
}

static int
count_turn(void *arg)
{
    ((pair_t *)arg)->turns++;
    return -1;
}

static void
a_sign_without_a_message_neither_runs_the_handler_nor_keeps_the_loop_awake(void **state)
{
    (void)state;
    fixture_t fixture;
    pair_t pair;
    char endpoint[64];
    size_t n = sizeof(endpoint);
    open_pair(&pair, &fixture, on_near);
    void *server = svc_msg_socket(fixture.ctx.zmq, ZMQ_ROUTER, 0);
    assert_int_equal(zmq_bind(server, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(server, ZMQ_LAST_ENDPOINT, endpoint, &n), 0);
    svc_loop_add_socket(pair.loop, server, on_near, &pair);
    svc_loop_on_turn(pair.loop, count_turn, &pair);
    for (int i = 0; i < 5; i++) { /* connections come and go: signs without messages */
        void *client = svc_msg_socket(fixture.ctx.zmq, ZMQ_DEALER, 0);
        assert_int_equal(zmq_connect(client, endpoint), 0);
        fixture_run_for(&fixture, 20);
        zmq_close(client);
    }
    assert_int_equal(pair.calls, 0);
    assert_true(pair.turns < 10000); /* spinning would be some 100,000 */
    svc_loop_remove_socket(pair.loop, server);
    zmq_close(server);
    close_pair(&pair, &fixture);
}

static void
on_near_removing_far(void *arg, short events)
{
    pair_t *self = arg;
    (void)events;
    self->calls++;
    self->received = self->wanted;
    svc_loop_remove_socket(self->loop, self->near);
    svc_loop_remove_socket(self->loop, self->far);
}

static void
a_socket_removed_by_another_that_is_ready_in_the_same_turn_is_left_alone(void **state)
{
    (void)state;
    fixture_t fixture;
    pair_t pair;
    open_pair(&pair, &fixture, on_near_removing_far);
    pair.wanted = 1;
    svc_loop_add_socket(pair.loop, pair.far, on_near_removing_far, &pair);
    send_x(pair.far);
    send_x(pair.near);
    fixture_run_until(&fixture, has_all, &pair);
    fixture_run_for(&fixture, 10);
    assert_int_equal(pair.calls, 1);
    close_pair(&pair, &fixture);
}

static void
on_replacement(void *arg, short events)
{
    pair_t *self = arg;
    uint64_t count;
    (void)events;
    self->received++;
    assert_int_equal(read(self->fd, &count, sizeof(count)), sizeof(count));
}

static void
on_near_replaced(void *arg, short events)
{
    pair_t *self = arg;
    (void)events;
    assert_true(receive_x(self->near));
    svc_loop_remove_socket(self->loop, self->near);
    svc_loop_add_fd(self->loop, self->fd, ZMQ_POLLIN, on_replacement, self);
}

static void
a_watch_in_the_place_of_a_removed_one_gets_its_own_events_only(void **state)
{
    (void)state;
    fixture_t fixture;
    pair_t pair;
    open_pair(&pair, &fixture, on_near_replaced);
    pair.wanted = 1;
    pair.fd = eventfd(0, EFD_CLOEXEC);
    send_x(pair.far);
    send_x(pair.far);
    fixture_run_for(&fixture, 20);
    assert_int_equal(pair.received, 0);
    assert_int_equal(eventfd_write(pair.fd, 1), 0);
    fixture_run_until(&fixture, has_all, &pair);
    svc_loop_remove_fd(pair.loop, pair.fd);
    close(pair.fd);
    close_pair(&pair, &fixture);
}

/* --- many sockets, another thread --------------------------------------------------------- */

#define ECHO_SOCKETS 48
#define ECHO_ROUNDS  200

typedef struct {
    svc_loop_t *loop;            /* of the echoing side */
    void *zmq;                   /* for the other side's sockets */
    void *sockets[ECHO_SOCKETS]; /* echo what comes */
    struct echo {                /* for the handlers */
        svc_loop_t *loop;
        void *socket;
        int backlog; /* to be echoed at the end of the turn */
    } echoes[ECHO_SOCKETS];
    atomic_bool is_done; /* the other side has all */
    bool went_well;      /* within its patience; read after the join */
} echo_bench_t;

static void
on_echo(void *arg, short events)
{
    struct echo *self = arg;
    (void)events;
    for (int i = 0; i < 4; i++) {
        if (!receive_x(self->socket)) {
            svc_loop_read_dry(self->loop, self->socket);
            break;
        }
        if (i % 2 == 0)
            send_x(self->socket); /* between two receives */
        else
            self->backlog++;
    }
}

static int
echo_backlog(void *arg)
{
    echo_bench_t *bench = arg;
    for (int i = 0; i < ECHO_SOCKETS; i++)
        for (struct echo *echo = &bench->echoes[i]; echo->backlog > 0; echo->backlog--) {
            send_x(echo->socket);
            svc_loop_touched(echo->loop, echo->socket);
        }
    return -1;
}

static bool
echo_is_done(void *arg)
{
    return atomic_load(&((echo_bench_t *)arg)->is_done);
}

/* Some of the sockets get one to three messages, and as many must come back. */
static bool
play_round(void **sockets, int round)
{
    int owed[ECHO_SOCKETS] = {0};
    for (int i = round % 5; i < ECHO_SOCKETS; i += 1 + round % 7)
        for (owed[i] = 0; owed[i] < 1 + (i + round) % 3; owed[i]++)
            send_x(sockets[i]);
    for (int i = 0; i < ECHO_SOCKETS; i++)
        for (; owed[i] > 0; owed[i]--) {
            zmq_pollitem_t item = {.socket = sockets[i], .events = ZMQ_POLLIN};
            if (zmq_poll(&item, 1, FIXTURE_PATIENCE_MS) != 1 || !receive_x(sockets[i]))
                return false;
        }
    return true;
}

static void *
run_other_side(void *arg)
{
    echo_bench_t *bench = arg;
    void *sockets[ECHO_SOCKETS];
    char endpoint[32];
    bool ok = true;
    for (int i = 0; i < ECHO_SOCKETS; i++) {
        snprintf(endpoint, sizeof(endpoint), "inproc://echo-%d", i);
        sockets[i] = svc_msg_socket(bench->zmq, ZMQ_PAIR, 0);
        ok = zmq_connect(sockets[i], endpoint) == 0 && ok;
    }
    for (int round = 0; round < ECHO_ROUNDS && ok; round++)
        ok = play_round(sockets, round);
    for (int i = 0; i < ECHO_SOCKETS; i++)
        zmq_close(sockets[i]);
    bench->went_well = ok;
    atomic_store(&bench->is_done, true);
    return NULL;
}

static void
many_sockets_that_are_read_and_sent_on_lose_nothing(void **state)
{
    (void)state;
    fixture_t fixture;
    echo_bench_t bench = {0};
    pthread_t thread;
    char endpoint[32];
    fixture_open(&fixture, "test");
    bench.loop = fixture.ctx.loop;
    bench.zmq = fixture.ctx.zmq;
    for (int i = 0; i < ECHO_SOCKETS; i++) {
        snprintf(endpoint, sizeof(endpoint), "inproc://echo-%d", i);
        bench.sockets[i] = svc_msg_socket(fixture.ctx.zmq, ZMQ_PAIR, 0);
        assert_int_equal(zmq_bind(bench.sockets[i], endpoint), 0);
        bench.echoes[i] = (struct echo){bench.loop, bench.sockets[i], 0};
        svc_loop_add_socket(bench.loop, bench.sockets[i], on_echo, &bench.echoes[i]);
    }
    svc_loop_on_turn(bench.loop, echo_backlog, &bench);
    assert_int_equal(pthread_create(&thread, NULL, run_other_side, &bench), 0);
    assert_true(
        fixture_runs_until(&fixture, echo_is_done, &bench, 2 * FIXTURE_PATIENCE_MS));
    pthread_join(thread, NULL);
    assert_true(bench.went_well);
    for (int i = 0; i < ECHO_SOCKETS; i++) {
        svc_loop_remove_socket(bench.loop, bench.sockets[i]);
        zmq_close(bench.sockets[i]);
    }
    fixture_close(&fixture);
}

#define MANY \
    150 /* sockets, and as many descriptors: more than fit into two groups of slots */

static int
wish_nothing(void *arg)
{
    (void)arg;
    return -1;
}

static void
ignore_stall(void *arg, short events)
{
    (void)arg;
    (void)events;
}

static void
on_any_fd(void *arg, short events)
{
    pair_t *self = arg;
    uint64_t count;
    (void)events;
    assert_int_equal(read(self->fd, &count, sizeof(count)), sizeof(count));
    self->received++;
}

static bool
all_have_one(void *arg)
{
    const pair_t *pairs = arg;
    for (int i = 0; i < MANY; i++)
        if (pairs[i].received != pairs[i].wanted)
            return false;
    return true;
}

/* Opens one of many: a socket and an eventfd that count as one. */
static void
open_one(pair_t *self, fixture_t *fixture, int i)
{
    char name[32];
    snprintf(name, sizeof(name), "inproc://many-%d", i);
    *self = (pair_t){.loop = fixture->ctx.loop, .per_turn = 100, .fd = eventfd(0, 0)};
    self->near = svc_msg_socket(fixture->ctx.zmq, ZMQ_PAIR, 0);
    self->far = svc_msg_socket(fixture->ctx.zmq, ZMQ_PAIR, 0);
    assert_int_equal(zmq_bind(self->near, name), 0);
    assert_int_equal(zmq_connect(self->far, name), 0);
    svc_loop_add_socket(self->loop, self->near, on_near, self);
    svc_loop_add_fd(self->loop, self->fd, ZMQ_POLLIN, on_any_fd, self);
    svc_loop_on_turn(self->loop, wish_nothing, self);
    svc_loop_on_stall(self->loop, ignore_stall, self);
}

static void
close_one(pair_t *self)
{
    svc_loop_off_turn(self->loop, self);
    svc_loop_off_stall(self->loop, self);
    svc_loop_remove_socket(self->loop, self->near);
    svc_loop_remove_socket(self->loop, self->near); /* harmless */
    svc_loop_remove_fd(self->loop, self->fd);
    close(self->fd);
    zmq_close(self->near);
    zmq_close(self->far);
}

static void
hundreds_of_them_are_watched_and_told_apart(void **state)
{
    (void)state;
    static pair_t pairs[MANY];
    const uint64_t one = 1;
    fixture_t fixture;
    fixture_open(&fixture, "test");
    for (int i = 0; i < MANY; i++)
        open_one(&pairs[i], &fixture, i);
    for (int i = 0; i < MANY; i += 3) { /* places in the midst are free, and taken anew */
        close_one(&pairs[i]);
        open_one(&pairs[i], &fixture, MANY + i);
    }
    for (int i = 0; i < MANY; i++) {
        pairs[i].wanted = i % 2 == 0 ? 2 : 1;
        send_x(pairs[i].far);
        if (i % 2 == 0)
            assert_int_equal(write(pairs[i].fd, &one, sizeof(one)), sizeof(one));
    }
    fixture_run_until(&fixture, all_have_one, pairs);
    for (int i = 0; i < MANY; i++)
        close_one(&pairs[i]);
    fixture_close(&fixture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_whose_sign_a_send_has_taken_is_read),
        cmocka_unit_test(a_message_that_comes_while_its_handler_answers_another_is_read),
        cmocka_unit_test(what_a_bounded_handler_leaves_unread_is_read_in_the_next_turns),
        cmocka_unit_test(what_came_while_no_loop_ran_is_read),
        cmocka_unit_test(
            a_sign_without_a_message_neither_runs_the_handler_nor_keeps_the_loop_awake),
        cmocka_unit_test(
            a_socket_removed_by_another_that_is_ready_in_the_same_turn_is_left_alone),
        cmocka_unit_test(a_watch_in_the_place_of_a_removed_one_gets_its_own_events_only),
        cmocka_unit_test(hundreds_of_them_are_watched_and_told_apart),
        cmocka_unit_test(many_sockets_that_are_read_and_sent_on_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
