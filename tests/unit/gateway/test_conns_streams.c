/* test_conns_streams.c - connections of streams: full sockets, and clients that take little or nothing.
 *
 * One that takes nothing is closed in time, one that takes little is not, and what is left at
 * the end of a stream gets the same time. */
#include "conns_fixture.h"

/* Fills the socket of the connection, and the client's. */
static conn_t *
block(world_t *world, int *request)
{
    static const char bytes[4096];

    say(world, "GET / HTTP/1.1\r\n\r\n");
    assert_runs_until(world, is_handed);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    assert_int_equal(conn_fd(conn), world->handed);
    conn_enter(conn, CONN_BUSY);
    conn_watch(conn, request);
    conn_prepare_stream(conn, 10, 128 << 10);
    do { /* what is on its way makes room when it arrives, on a busy machine late */
        world->writable = NULL;
        while (send(world->handed, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            continue;
        conn_wait_writable(conn);
    } while (fixture_runs_until(&world->bus, is_writable, world, 20));
    return conn;
}

/* A connection whose socket is full. */
static conn_t *
open_blocked(world_t *world, int *request)
{
    world->client = connect_client(world);
    return block(world, request);
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
    assert_int_equal(fixture_count(&world->bus, SVC_M_VIEWERS_IDLE), 1);
    assert_int_equal(fixture_count(&world->bus, SVC_M_HTTP_TIMEOUTS), 0);
}

/* Takes some bytes now and then, for longer than a client may take none. */
static bool
sips_for_long(void *arg)
{
    world_t *world = arg;
    const uint64_t now_ms = svc_mono_ms(), ago_ms = now_ms - world->sipped_ms;
    char got[4096];

    world->stood_still |= world->sipped_ms != 0 && ago_ms >= 500;
    if (ago_ms >= 100) {
        world->sipped_ms = now_ms;
        world->sips += recv(world->client, got, sizeof got, MSG_DONTWAIT) > 0 ? 1 : 0;
    }
    return world->sips >= 18 || world->stood_still;
}

static void
a_client_that_takes_little_is_left_alone(void **state)
{
    world_t *world = *state;
    int request = 0, small = 4096;

    world->client = connect_client(world);
    assert_int_equal(
        setsockopt(world->client, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    block(world, &request);
    assert_runs_until(world, sips_for_long);
    if (world->stood_still)
        return; /* the machine did: so the client took nothing for too long */
    assert_false(is_fully_gone(world));
    assert_runs_until(world, is_fully_gone); /* now it takes nothing any more */
    assert_int_equal(fixture_count(&world->bus, SVC_M_VIEWERS_IDLE), 1);
}

/* Reads all that comes; true at the end of it. */
static bool
reads_the_end(void *arg)
{
    char got[65536];
    ssize_t n;

    while ((n = recv(((world_t *)arg)->client, got, sizeof got, MSG_DONTWAIT)) > 0)
        continue;
    return n == 0;
}

static void
bytes_that_are_left_at_the_end_of_a_stream_get_the_same_time(void **state)
{
    world_t *world = *state;
    int request = 0;

    conn_enter(open_blocked(world, &request), CONN_IDLE);
    const uint64_t began_ms = svc_mono_ms();
    bool is_cut = fixture_runs_until(&world->bus, is_fully_gone, world, 1400);
    (void)reads_the_end(world);                      /* what is there by now */
    bool is_late = svc_mono_ms() - began_ms >= 1900; /* the machine stood still */
    assert_runs_until(world, reads_the_end);
    assert_true(is_late || !is_cut);
    assert_true(is_late || fixture_count(&world->bus, SVC_M_VIEWERS_IDLE) == 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(a_full_socket_is_told_of_once_when_its_client_reads_on),
        HASTY_TEST(a_client_that_takes_nothing_is_cut_in_time),
        HASTY_TEST(a_client_that_takes_little_is_left_alone),
        HASTY_TEST(bytes_that_are_left_at_the_end_of_a_stream_get_the_same_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
