/* test_conns.c - a connection from accept to close, without any HTTP server behind it.
 *
 * What is special about connections that carry a stream is test_conns_streams's. */
#include "conns_fixture.h"
#include "gateway/client_socket.h"
#include "gateway/conns_private.h"

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

static bool
is_half_closed(void *arg)
{
    const world_t *world = arg;

    return conns_adopted(world->conns, world->handed)->half_closed;
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
    assert_runs_until(world, is_half_closed);
    assert_null(world->gone);
    conn_watch(conn, &request);
    assert_ptr_equal(world->gone, &request);
    assert_true(world->half);
    world->gone = NULL;
    conn_watch(conn, &request);
    assert_null(world->gone);
}

/* The kernel has brought all that the client has said: on a busy machine that takes a while. */
static bool
has_arrived(void *arg)
{
    return client_socket_unsent(((world_t *)arg)->client) == 0;
}

/* Lets the loop look at what was said. */
static void
look(world_t *world)
{
    assert_runs_until(world, has_arrived);
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
    assert_runs_until(world, has_arrived);
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

static void
who_comes_too_early_waits_until_the_door_opens(void **state)
{
    world_t *world = *state;

    conns_wait(world->conns, 3600 * 1000);
    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n\r\n");
    look(world);
    assert_int_equal(conns_count(world->conns), 0);
    conns_wait_no_more(world->conns);
    conns_wait_no_more(world->conns);
    assert_runs_until(world, has_one);
}

static void
the_door_opens_by_itself_in_the_end(void **state)
{
    world_t *world = *state;

    conns_wait(world->conns, 1);
    world->client = connect_client(world);
    assert_runs_until(world, has_one);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(a_connection_is_handed_over_with_its_headers_unread),
        WORLD_TEST(headers_that_are_too_large_are_told_so),
        WORLD_TEST(a_hundred_headers_pass_and_more_do_not),
        WORLD_TEST(a_watched_client_that_leaves_is_noticed),
        WORLD_TEST(a_client_that_stopped_sending_before_it_was_watched_is_told_of),
        WORLD_TEST(a_later_request_that_is_whole_is_left_to_the_server),
        WORLD_TEST(a_later_request_in_pieces_is_held_until_it_is_whole),
        WORLD_TEST(a_request_in_the_middle_is_never_held),
        WORLD_TEST(what_does_not_begin_like_a_request_is_left_to_the_server),
        WORLD_TEST(what_was_held_for_nothing_is_given_back),
        WORLD_TEST(a_later_request_that_is_bad_is_refused_and_the_server_sees_the_end),
        WORLD_TEST(a_later_request_that_grows_too_large_is_refused),
        WORLD_TEST(a_client_that_leaves_a_held_request_is_let_go),
        WORLD_TEST(nothing_is_held_after_a_drain),
        WORLD_TEST(a_request_that_came_before_a_drain_is_left_to_the_server),
        WORLD_TEST(nobody_lingers_after_a_drain_whom_the_server_waits_for),
        WORLD_TEST(past_the_maximum_newcomers_are_refused),
        WORLD_TEST(a_drain_closes_what_waits_and_the_port),
        WORLD_TEST(who_comes_too_early_waits_until_the_door_opens),
        WORLD_TEST(the_door_opens_by_itself_in_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
