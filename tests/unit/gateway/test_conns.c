/* test_conns.c - a connection from accept to close, without any HTTP server behind it.
 *
 * The test takes the server's place: it gets the connections that are handed over and says when
 * they are closed. Clients are plain sockets on the same thread. */
#include "gateway/conns.h"
#include "gateway/gate.h"
#include "gateway/listener.h"
#include "tests/unit/svc/bus_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    fixture_t bus;         /* the loop */
    svc_config_t config;   /* time-outs */
    conn_limit_t *limit;   /* per address */
    client_trust_t *trust; /* nobody */
    conns_t *conns;        /* what is tested */
    uint16_t port;         /* where it listens */
    int handed;            /* the last descriptor that was handed over; -1: none */
    unsigned n_handed;     /* how many were */
    unsigned n_held;       /* how often one was held */
    unsigned n_released;   /* and released */
    void *gone;            /* the last request whose client left */
    bool half;             /* it has only stopped sending */
    void *writable;        /* the last request whose socket takes bytes again */
    int client;            /* socket of the test's client */
    char answer[1024];     /* what it has read */
    size_t n;              /* bytes of it */
    bool ended;            /* the server has closed */
} world_t;

static bool
on_hand_over(void *arg, int fd, const struct sockaddr *addr, socklen_t n)
{
    world_t *world = arg;

    assert_true(n >= sizeof(struct sockaddr_in) && addr->sa_family == AF_INET);
    world->handed = fd;
    world->n_handed++;
    return true;
}

static void
on_gone(void *arg, void *request, bool half)
{
    world_t *world = arg;

    world->gone = request;
    world->half = half;
}

static void
on_hold(void *arg, void *server)
{
    world_t *world = arg;

    assert_ptr_equal(server, world);
    assert_int_equal(world->n_held, world->n_released);
    world->n_held++;
}

static void
on_release(void *arg, void *server)
{
    world_t *world = arg;

    assert_ptr_equal(server, world);
    world->n_released++;
    assert_int_equal(world->n_held, world->n_released);
}

static void
on_writable(void *arg, void *request)
{
    ((world_t *)arg)->writable = request;
}

static int
open_world(void **state)
{
    world_t *world = svc_alloc(sizeof *world);
    svc_strings_t nobody = {NULL, 0};
    char *error = NULL;
    int fd = -1;

    fixture_open(&world->bus, "gateway");
    world->config = (svc_config_t){.server_header_timeout_s = 1,
                                   .server_body_timeout_s = 1,
                                   .server_idle_timeout_s = 1};
    world->bus.ctx.config = &world->config;
    world->limit = conn_limit_new(1);
    world->trust = client_trust_new(&nobody, &error);
    world->handed = world->client = -1;
    assert_int_equal(listener_open("127.0.0.1", 0, &fd, 1, &world->port, &error), RC_OK);
    conns_hooks_t hooks = {on_hand_over, on_gone,     on_hold,
                           on_release,   on_writable, world};
    world->conns = conns_new(&world->bus.ctx, fd, 3, world->limit, world->trust, &hooks);
    *state = world;
    return 0;
}

/* What libmicrohttpd does when it is through with a connection. */
static void
close_handed(world_t *world)
{
    if (world->handed < 0)
        return;
    conns_closed(world->conns, conns_adopted(world->conns, world->handed));
    close(world->handed);
    world->handed = -1;
}

static int
close_world(void **state)
{
    world_t *world = *state;

    close_handed(world);
    if (world->client >= 0)
        close(world->client);
    conns_destroy(&world->conns);
    client_trust_destroy(&world->trust);
    conn_limit_destroy(&world->limit);
    fixture_close(&world->bus);
    free(world);
    return 0;
}

static int
connect_client(const world_t *world)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(world->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int at_once = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void
say(const world_t *world, const char *text)
{
    assert_int_equal(send(world->client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static bool
is_handed(void *arg)
{
    return ((world_t *)arg)->handed >= 0;
}

static bool
is_gone(void *arg)
{
    return ((world_t *)arg)->gone != NULL;
}

static bool
is_fully_gone(void *arg)
{
    return is_gone(arg) && !((world_t *)arg)->half;
}

static bool
is_writable(void *arg)
{
    return ((world_t *)arg)->writable != NULL;
}

static bool
is_released(void *arg)
{
    return ((world_t *)arg)->n_released > 0;
}

static bool
has_one(void *arg)
{
    return conns_count(((world_t *)arg)->conns) == 1;
}

/* Reads what has come; true when the server has closed. */
static bool
has_ended(void *arg)
{
    world_t *world = arg;
    ssize_t got = recv(world->client, world->answer + world->n,
                       sizeof world->answer - 1 - world->n, MSG_DONTWAIT);

    if (got > 0)
        world->n += (size_t)got;
    world->ended = got == 0 || (got < 0 && errno != EAGAIN);
    return world->ended;
}

/* Reads as the server would; gives how much there was. */
static ssize_t
take_request(const world_t *world)
{
    char got[4096];

    return recv(world->handed, got, sizeof got, MSG_DONTWAIT);
}

static void
assert_runs_until(world_t *world, bool (*cond)(void *))
{
    assert_true(fixture_runs_until(&world->bus, cond, world, FIXTURE_PATIENCE_MS));
}

static void
a_connection_is_handed_over_with_its_headers_unread(void **state)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\nbody";
    world_t *world = *state;
    char got[64];

    world->client = connect_client(world);
    for (size_t i = 0; i < sizeof request - 1; i++) { /* byte by byte */
        char one[2] = {request[i], '\0'};
        assert_int_equal(world->n_handed, 0);
        say(world, one);
        if (i == 26)
            break;
        assert_false(fixture_runs_until(&world->bus, is_handed, world, 2));
    }
    assert_runs_until(world, is_handed);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    assert_non_null(conn);
    assert_true(client_addr_is_loopback(conn_addr(conn)));
    assert_int_equal(recv(world->handed, got, sizeof got, MSG_DONTWAIT), 27);
    assert_memory_equal(got, request, 27);
}

static void
headers_that_do_not_end_in_time_are_closed(void **state)
{
    world_t *world = *state;

    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\nHost");
    assert_runs_until(world, has_one);
    assert_runs_until(world, has_ended);
    assert_int_equal(world->n_handed, 0);
    assert_int_equal(conns_count(world->conns), 0);
    assert_int_equal(svc_metrics_get(world->bus.ctx.metrics, SVC_M_HTTP_TIMEOUTS), 1);
}

static void
headers_that_are_too_large_are_told_so(void **state)
{
    world_t *world = *state;
    char *large = svc_alloc(GATE_HEADERS_MAX_BYTES + 1);

    memset(large, 'x', GATE_HEADERS_MAX_BYTES);
    memcpy(large, "GET / HTTP/1.1\r\nX: ", 19);
    world->client = connect_client(world);
    say(world, large);
    shutdown(world->client, SHUT_WR);
    assert_runs_until(world, has_ended);
    assert_memory_equal(world->answer, "HTTP/1.1 431 ", 13);
    free(large);
}

static void
a_hundred_headers_pass_and_more_do_not(void **state)
{
    world_t *world = *state;

    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < GATE_HEADER_LINES_MAX + 1; i++)
        say(world, "X: y\r\n");
    say(world, "\r\n");
    shutdown(world->client, SHUT_WR);
    assert_runs_until(world, has_ended);
    assert_memory_equal(world->answer, "HTTP/1.1 431 ", 13);
}

static void
each_phase_of_the_client_has_its_time(void **state)
{
    static const conn_phase phases[] = {CONN_IDLE, CONN_HEADERS, CONN_BODY};
    world_t *world = *state;

    for (size_t i = 0; i < SVC_COUNT(phases); i++) {
        world->client = connect_client(world);
        say(world, "GET / HTTP/1.1\r\n\r\n");
        assert_runs_until(world, is_handed);
        conn_enter(conns_adopted(world->conns, world->handed), phases[i]);
        assert_runs_until(
            world, has_ended); /* shut down, not yet closed: that is the server's */
        assert_int_equal(conns_count(world->conns), 1);
        close_handed(world);
        close(world->client);
    }
    world->client = -1;
}

static void
a_busy_connection_has_no_end(void **state)
{
    world_t *world = *state;

    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n\r\n");
    assert_runs_until(world, is_handed);
    conn_enter(conns_adopted(world->conns, world->handed), CONN_BUSY);
    assert_false(fixture_runs_until(&world->bus, has_ended, world, 1500));
}

static void
a_watched_client_that_leaves_is_noticed(void **state)
{
    world_t *world = *state;
    int request = 0;

    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n\r\n");
    assert_runs_until(world, is_handed);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    conn_enter(conn, CONN_BUSY);
    conn_watch(conn, &request);
    close(
        world
            ->client); /* with nothing unread: a FIN, as of one that only stops sending */
    world->client = -1;
    assert_runs_until(world, is_gone);
    assert_ptr_equal(world->gone, &request);
    assert_true(send(world->handed, "x", 1, MSG_NOSIGNAL) == 1); /* answered by a reset */
    assert_runs_until(world, is_fully_gone);
}

static void
a_client_that_stopped_sending_is_closed_after_its_answer(void **state)
{
    world_t *world = *state;

    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n\r\n");
    shutdown(world->client, SHUT_WR);
    assert_runs_until(world, is_handed);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    conn_enter(conn, CONN_BUSY);
    assert_false(fixture_runs_until(&world->bus, has_ended, world, 50));
    take_request(world);
    assert_int_equal(send(world->handed, "answer", 6, MSG_NOSIGNAL), 6);
    conn_enter(conn, CONN_IDLE);
    assert_runs_until(world, has_ended);
    assert_memory_equal(world->answer, "answer", 6);
}

static void
a_client_that_stops_in_the_middle_of_its_request_is_closed(void **state)
{
    static const conn_phase phases[] = {CONN_HEADERS, CONN_BODY};
    world_t *world = *state;

    for (size_t i = 0; i < 2 * SVC_COUNT(phases); i++) {
        world->client = connect_client(world);
        say(world, "POST / HTTP/1.1\r\n\r\nhal");
        if (i >= SVC_COUNT(phases))
            shutdown(world->client, SHUT_WR);
        assert_runs_until(world, is_handed);
        conn_t *conn = conns_adopted(world->conns, world->handed);
        conn_enter(conn, phases[i % 2]);
        shutdown(world->client, SHUT_WR);
        assert_false(fixture_runs_until(&world->bus, has_ended, world, 300));
        take_request(world); /* what is unread might be the rest */
        assert_runs_until(world, has_ended);
        close_handed(world);
        close(world->client);
    }
    world->client = -1;
}

static void
a_client_that_stopped_sending_before_it_was_watched_is_told_of(void **state)
{
    world_t *world = *state;
    int request = 0;

    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n\r\n");
    shutdown(world->client, SHUT_WR);
    assert_runs_until(world, is_handed);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    conn_enter(conn, CONN_BUSY);
    assert_false(fixture_runs_until(&world->bus, is_gone, world, 50));
    conn_watch(conn, &request);
    assert_ptr_equal(world->gone, &request);
    assert_true(world->half);
    world->gone = NULL;
    conn_watch(conn, &request);
    assert_null(world->gone);
}

/* A connection whose socket is full. */
static conn_t *
open_blocked(world_t *world, int *request)
{
    static const char bytes[4096];

    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n\r\n");
    assert_runs_until(world, is_handed);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    assert_int_equal(conn_fd(conn), world->handed);
    conn_enter(conn, CONN_BUSY);
    conn_watch(conn, request);
    conn_prepare_stream(conn, 10);
    while (send(world->handed, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        continue;
    conn_wait_writable(conn);
    assert_false(fixture_runs_until(&world->bus, is_writable, world, 20));
    return conn;
}

static void
a_full_socket_is_told_of_once_when_its_client_reads_on(void **state)
{
    world_t *world = *state;
    int request = 0;
    char got[65536];
    conn_t *conn = open_blocked(world, &request);

    while (recv(world->client, got, sizeof got, MSG_DONTWAIT) > 0)
        continue;
    assert_runs_until(world, is_writable);
    assert_ptr_equal(world->writable, &request);
    conn_writes(conn);
    world->writable = NULL;
    while (recv(world->client, got, sizeof got, MSG_DONTWAIT) > 0)
        continue;
    shutdown(world->client, SHUT_WR);
    assert_runs_until(world, is_gone);
    assert_null(world->writable);
}

static void
a_client_that_takes_nothing_is_cut_in_time(void **state)
{
    world_t *world = *state;
    int request = 0;

    open_blocked(world, &request);
    assert_runs_until(world, is_fully_gone);
}

/* A connection that waits for its second request. */
static conn_t *
open_reused(world_t *world)
{
    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n\r\n");
    assert_runs_until(world, is_handed);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    conn_serve(conn, world);
    take_request(world);
    conn_enter(conn, CONN_IDLE);
    return conn;
}

/* Lets the loop look at what was said. */
static void
look(world_t *world)
{
    fixture_run_for(&world->bus, 3);
    conns_look(world->conns);
}

static void
a_later_request_that_is_whole_is_left_to_the_server(void **state)
{
    world_t *world = *state;

    open_reused(world);
    say(world, "GET /second HTTP/1.1\r\nHost: x\r\n\r\n");
    look(world);
    assert_int_equal(world->n_held, 0);
    assert_int_equal(take_request(world), 33);
}

static void
a_later_request_in_pieces_is_held_until_it_is_whole(void **state)
{
    static const char request[] = "GET /second HTTP/1.1\r\nHost: x\r\n\r\n";
    world_t *world = *state;

    open_reused(world);
    for (size_t i = 0; i < sizeof request - 1; i += 5) { /* well within the deadline */
        size_t n = sizeof request - 1 - i < 5 ? sizeof request - 1 - i : 5;
        char piece[6] = "";
        assert_int_equal(world->n_released, 0);
        memcpy(piece, request + i, n);
        say(world, piece);
        look(world);
        assert_int_equal(world->n_held, 1);
    }
    assert_runs_until(world, is_released);
    assert_int_equal(take_request(world), sizeof request - 1);
}

static void
a_request_in_the_middle_is_never_held(void **state)
{
    static const conn_phase phases[] = {CONN_HEADERS, CONN_BODY, CONN_BUSY};
    world_t *world = *state;
    conn_t *conn = open_reused(world);

    for (size_t i = 0; i < SVC_COUNT(phases); i++) {
        conn_enter(conn, phases[i]);
        say(world, "GET /a/part/of/a/body HTTP/1.1\r\nContent-Length: x\r\n");
        look(world);
        assert_int_equal(world->n_held, 0);
        assert_false(has_ended(world));
        assert_true(take_request(world) > 0);
    }
}

static void
what_does_not_begin_like_a_request_is_left_to_the_server(void **state)
{
    static const char *const rests[] = {"/1.1\r\nContent-Length: x\r\n\r\n", "\n",
                                        "\r\n\r\n", " / HTTP/1.1\r\n"};
    world_t *world = *state;

    open_reused(world);
    for (size_t i = 0; i < SVC_COUNT(rests); i++) {
        say(world, rests[i]);
        look(world);
        assert_int_equal(world->n_held, 0);
        assert_int_equal(take_request(world), strlen(rests[i]));
    }
}

static void
what_was_held_for_nothing_is_given_back(void **state)
{
    world_t *world = *state;

    open_reused(world); /* "GET / HTTP/1.1\r" came with the request before */
    say(world, "\nA");
    look(world);
    assert_int_equal(world->n_held, 1);
    say(world, "ccept: x\r\n");
    assert_runs_until(world, is_released);
    assert_int_equal(take_request(world), 12);
}

/* Runs until the client was refused with `status`, then closes as the server would. */
static void
expect_refused(world_t *world, const char *status)
{
    assert_runs_until(world, has_ended);
    assert_memory_equal(world->answer, status, strlen(status));
    assert_non_null(strstr(world->answer, "\"code\":"));
    close(world->client);
    world->client = -1;
    assert_runs_until(world, is_released);
    assert_int_equal(take_request(world), 0); /* the end, and nothing before it */
}

static void
a_later_request_that_is_bad_is_refused_and_the_server_sees_the_end(void **state)
{
    world_t *world = *state;

    open_reused(world);
    say(world, "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    expect_refused(world, "HTTP/1.1 400 ");
}

static void
a_later_request_that_grows_too_large_is_refused(void **state)
{
    world_t *world = *state;

    open_reused(world);
    say(world, "GET / HTTP/1.1\r\n");
    look(world);
    assert_int_equal(world->n_held, 1);
    for (unsigned i = 0; i < GATE_HEADERS_MAX_BYTES / 64; i++)
        say(world,
            "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n");
    expect_refused(world, "HTTP/1.1 431 ");
}

static void
a_held_request_has_its_time_and_the_server_sees_the_end(void **state)
{
    world_t *world = *state;

    open_reused(world);
    say(world, "GET / HTTP/1.1\r\nHost");
    assert_runs_until(world, has_ended);
    assert_int_equal(world->n, 0);
    assert_int_equal(world->n_released, 1);
    assert_int_equal(take_request(world), 0);
    assert_int_equal(svc_metrics_get(world->bus.ctx.metrics, SVC_M_HTTP_TIMEOUTS), 1);
}

static void
a_client_that_leaves_a_held_request_is_let_go(void **state)
{
    world_t *world = *state;

    open_reused(world);
    say(world, "GET / HTTP/1.1\r\nHost");
    look(world);
    assert_int_equal(world->n_held, 1);
    close(world->client);
    world->client = -1;
    assert_runs_until(world, is_released);
    assert_int_equal(take_request(world), 0);
}

static void
nothing_is_held_after_a_drain(void **state)
{
    world_t *world = *state;

    open_reused(world);
    say(world, "GET / HTTP/1.1\r\nHost");
    look(world);
    assert_int_equal(world->n_held, 1);
    conns_stop_accepting(world->conns);
    assert_int_equal(world->n_released, 1);
    close_handed(world);
}

static void
a_request_that_came_before_a_drain_is_left_to_the_server(void **state)
{
    world_t *world = *state;

    open_reused(world);
    say(world, "GET / HTTP/1.1\r\n\r\n");
    conns_stop_accepting(world->conns);
    assert_int_equal(take_request(world), 18);
    assert_int_equal(send(world->handed, "answer", 6, MSG_NOSIGNAL), 6);
    conns_stop_accepting(world->conns);
    assert_int_equal(send(world->handed, "answer", 6, MSG_NOSIGNAL), -1);
    close_handed(world);
}

static void
nobody_lingers_after_a_drain_whom_the_server_waits_for(void **state)
{
    world_t *world = *state;

    open_reused(world);
    say(world, "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n");
    look(world);
    assert_int_equal(world->n_held, 1);
    assert_int_equal(world->n_released, 0);
    conns_stop_accepting(world->conns);
    assert_int_equal(world->n_released, 1);
}

static void
past_the_maximum_newcomers_are_refused(void **state)
{
    world_t *world = *state;
    int others[3];

    for (size_t i = 0; i < 3; i++) /* loopback: the limit per address (1) is not for it */
        others[i] = connect_client(world);
    world->client = connect_client(world);
    assert_runs_until(world, has_ended);
    assert_memory_equal(world->answer, "HTTP/1.1 503 ", 13);
    assert_int_equal(conns_count(world->conns), 3);
    assert_int_equal(
        svc_metrics_get(world->bus.ctx.metrics, SVC_M_HTTP_CONNECTIONS_REFUSED), 1);
    for (size_t i = 0; i < 3; i++)
        close(others[i]);
}

static void
a_drain_closes_what_waits_and_the_port(void **state)
{
    world_t *world = *state;

    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n");
    assert_runs_until(world, has_one);
    conns_stop_accepting(world->conns);
    conns_stop_accepting(world->conns);
    assert_runs_until(world, has_ended);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(world->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_not_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    close(fd);
}

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(a_connection_is_handed_over_with_its_headers_unread),
        WORLD_TEST(headers_that_do_not_end_in_time_are_closed),
        WORLD_TEST(headers_that_are_too_large_are_told_so),
        WORLD_TEST(a_hundred_headers_pass_and_more_do_not),
        WORLD_TEST(each_phase_of_the_client_has_its_time),
        WORLD_TEST(a_busy_connection_has_no_end),
        WORLD_TEST(a_watched_client_that_leaves_is_noticed),
        WORLD_TEST(a_client_that_stopped_sending_is_closed_after_its_answer),
        WORLD_TEST(a_client_that_stops_in_the_middle_of_its_request_is_closed),
        WORLD_TEST(a_client_that_stopped_sending_before_it_was_watched_is_told_of),
        WORLD_TEST(a_full_socket_is_told_of_once_when_its_client_reads_on),
        WORLD_TEST(a_client_that_takes_nothing_is_cut_in_time),
        WORLD_TEST(a_later_request_that_is_whole_is_left_to_the_server),
        WORLD_TEST(a_later_request_in_pieces_is_held_until_it_is_whole),
        WORLD_TEST(a_request_in_the_middle_is_never_held),
        WORLD_TEST(what_does_not_begin_like_a_request_is_left_to_the_server),
        WORLD_TEST(what_was_held_for_nothing_is_given_back),
        WORLD_TEST(a_later_request_that_is_bad_is_refused_and_the_server_sees_the_end),
        WORLD_TEST(a_later_request_that_grows_too_large_is_refused),
        WORLD_TEST(a_held_request_has_its_time_and_the_server_sees_the_end),
        WORLD_TEST(a_client_that_leaves_a_held_request_is_let_go),
        WORLD_TEST(nothing_is_held_after_a_drain),
        WORLD_TEST(a_request_that_came_before_a_drain_is_left_to_the_server),
        WORLD_TEST(nobody_lingers_after_a_drain_whom_the_server_waits_for),
        WORLD_TEST(past_the_maximum_newcomers_are_refused),
        WORLD_TEST(a_drain_closes_what_waits_and_the_port),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
