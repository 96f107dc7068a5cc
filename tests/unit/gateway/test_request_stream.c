/* test_request_stream.c - how the body of a stream gets to its client, written directly and by libmicrohttpd.
 *
 * Everything is tried in both ways, which must not differ in a byte; what the events say is
 * test_rest_chat.c's. */
#include "chat_fixture.h"

/* Starts a world whose streams are written directly, or (`plain`) never. */
static void
start(world_t *world, bool plain)
{
    world->fakes.config.test_plain_paths = plain;
    world_start(world);
}

/* One answer of three pieces that come one after the other, on a connection that is used for two of them. */
static void
expect_pieces_twice(world_t *world)
{
    client_t client;

    client_open(&client, world, 0);
    for (unsigned i = 1; i <= 2; i++) {
        svc_buf_clear(&client.in);
        world->fakes.released = world->fakes.journaled = 0;
        world->fakes.status.state = ANSWER_WAITING;
        client_ask(&client, "POST", CHAT, "", QUESTION);
        fakes_await(&world->fakes, FAKE_ASK, i);
        show(world, 1);
        client_await(&client, "\"data\":\"a\"}");
        show(world, 3);
        client_await(&client, "\"data\":\"bc\"}");
        show(world, 20000);
        end_well(world);
        client_await(&client, "\r\n0\r\n\r\n");
        answer_t answer = answer_of(&client);
        assert_true(answer.whole);
        assert_texts(&answer, "message", world->fakes.truth, 20000);
        assert_texts(&answer, "full_response", world->fakes.truth, 20000);
        answer_fini(&answer);
    }
    client_close(&client);
}

static void
pieces_leave_one_by_one_and_the_connection_is_used_again(void **state)
{
    start(*state, false);
    expect_pieces_twice(*state);
}

static void
libmicrohttpd_sends_the_same(void **state)
{
    start(*state, true);
    expect_pieces_twice(*state);
}

static void
a_client_of_http_1_0_gets_a_stream_without_chunks(void **state)
{
    world_t *world = *state;
    client_t client;

    start(world, false);
    client_open(&client, world, 0);
    client_say(&client, "POST " CHAT " HTTP/1.0\r\nAuthorization: Bearer good\r\n"
                        "Content-Length: 18\r\n\r\n" QUESTION);
    fakes_await(&world->fakes, FAKE_ASK, 1);
    show(world, 5);
    client_await(&client, "\"data\":\"abcde\"}");
    show(world, 9);
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_int_equal(answer.status, 200);
    assert_null(strstr(answer.head, "chunked"));
    assert_memory_equal(answer.body.p, "retry: ", 7);
    assert_texts(&answer, "message", world->fakes.truth, 9);
    assert_texts(&answer, "full_response", world->fakes.truth, 9);
    answer_fini(&answer);
}

/* A client whose socket is full, that reads on when the answer has ended. */
static void
expect_late_reader(world_t *world)
{
    client_t client;

    client_open(&client, world, 4096);
    client_ask(&client, "POST", CHAT, "Connection: close\r\n", QUESTION);
    fakes_await(&world->fakes, FAKE_ASK, 1);
    tell(world, ANSWER_STREAMING, 1);
    show(world, FAKE_TRUTH_BYTES); /* more than sockets and window hold */
    tell(world, ANSWER_STREAMING, FAKE_TRUTH_BYTES - 1);
    expect(world, "GET", "/healthz", NULL, 200, "ok"); /* nobody waits for it */
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_true(answer.whole);
    assert_texts(&answer, "message", world->fakes.truth, FAKE_TRUTH_BYTES);
    assert_texts(&answer, "full_response", world->fakes.truth, FAKE_TRUTH_BYTES);
    answer_fini(&answer);
    assert_true(world->fakes.scripts[FAKE_READ].n > 1);
}

static void
a_socket_that_was_full_is_written_to_again(void **state)
{
    start(*state, false);
    expect_late_reader(*state);
}

static void
libmicrohttpd_waits_for_a_full_socket_too(void **state)
{
    start(*state, true);
    expect_late_reader(*state);
}

/* Two clients of one answer's length each; the one that resets its connection is forgotten, the other one is not. */
static void
expect_reset_forgotten(world_t *world)
{
    client_t lost, other;

    open_chat(&lost, world, "");
    show(world, 10);
    client_await(&lost, "abcdefghij");
    client_reset(&lost);
    world_await_log(world, "op=\"POST /api/chat/:id\"");
    assert_int_equal(fixture_count(&world->fakes.bus, SVC_M_VIEWERS_GONE), 1);
    world->fakes.released = 0;
    open_chat(&other, world, "Connection: close\r\n");
    show(world, 20);
    end_well(world);
    answer_t answer = rest_of(&other);
    assert_true(answer.whole);
    assert_texts(&answer, "full_response", world->fakes.truth, 20);
    answer_fini(&answer);
    client_close(&lost);
}

static void
a_client_that_crashes_between_two_writes_is_forgotten(void **state)
{
    start(*state, false);
    expect_reset_forgotten(*state);
}

static void
libmicrohttpd_forgets_it_too(void **state)
{
    start(*state, true);
    expect_reset_forgotten(*state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST_UNSTARTED(pieces_leave_one_by_one_and_the_connection_is_used_again),
        WORLD_TEST_UNSTARTED(libmicrohttpd_sends_the_same),
        WORLD_TEST_UNSTARTED(a_client_of_http_1_0_gets_a_stream_without_chunks),
        WORLD_TEST_UNSTARTED(a_socket_that_was_full_is_written_to_again),
        WORLD_TEST_UNSTARTED(libmicrohttpd_waits_for_a_full_socket_too),
        WORLD_TEST_UNSTARTED(a_client_that_crashes_between_two_writes_is_forgotten),
        WORLD_TEST_UNSTARTED(libmicrohttpd_forgets_it_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
