/* test_conns_phase.c - the phases of a connection: whose time is over, and who sends no more.
 *
 * Only tests of time-outs have short ones: no other one depends on how fast the machine is. Clients of
 * streams, who may take their time, are test_conns_streams's. */
#include "conns_fixture.h"

static void
headers_that_do_not_end_in_time_are_closed(void **state)
{
    world_t *world = *state;

    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\nHost");
    assert_runs_until(world, has_ended);
    assert_int_equal(world->n_handed, 0);
    assert_int_equal(conns_count(world->conns), 0);
    assert_int_equal(svc_metrics_get(world->bus.ctx.metrics, SVC_M_HTTP_TIMEOUTS), 1);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        HASTY_TEST(headers_that_do_not_end_in_time_are_closed),
        HASTY_TEST(each_phase_of_the_client_has_its_time),
        HASTY_TEST(a_busy_connection_has_no_end),
        WORLD_TEST(a_client_that_stopped_sending_is_closed_after_its_answer),
        WORLD_TEST(a_client_that_stops_in_the_middle_of_its_request_is_closed),
        HASTY_TEST(a_held_request_has_its_time_and_the_server_sees_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
