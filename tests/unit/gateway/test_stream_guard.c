/* test_stream_guard.c - the token of an open stream is asked about again, and what follows from the answer.
 *
 * auth-svc is a fake that changes its mind; it is asked each second here. Streams and tickets as
 * in test_rest_chat and test_rest_stream. */
#include "chat_fixture.h"

#include "svc/svc_time.h"

#define CLOSE "Connection: close\r\n"

static void
start(world_t *world, uint32_t verify_s)
{
    world->fakes.config.gateway_verify_stream_s = verify_s;
    world_start(world);
}

/* Begins a stream with ten bytes. */
static void
begin_stream(client_t *client, world_t *world)
{
    open_chat(client, world, CLOSE);
    show(world, 10);
    tell(world, ANSWER_STREAMING, 10);
    client_await(client, "abcdefghij");
}

static void
expect_refused(client_t *client)
{
    client_await(client, "\"event\":\"error\"");
    answer_t answer = rest_of(client);
    assert_true(answer.whole);
    assert_non_null(strstr(answer.body.p, "\"code\":\"unauthorized\"}\n\n"));
    assert_non_null(
        strstr(answer.body.p, ":10\nevent: error\n")); /* a reconnect goes on */
    assert_null(strstr(answer.body.p, "\"event\":\"done\""));
    answer_fini(&answer);
}

static void
a_good_token_is_asked_about_again_and_again(void **state)
{
    world_t *world = *state;
    client_t client;

    start(world, 1);
    begin_stream(&client, world);
    client_await_asked(&client, FAKE_VERIFY, world->fakes.scripts[FAKE_VERIFY].n + 2);
    assert_string_equal(world->fakes.scripts[FAKE_VERIFY].asked, "good");
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_texts(&answer, "full_response", world->fakes.truth, 10);
    answer_fini(&answer);
}

static void
a_revoked_token_ends_the_stream(void **state)
{
    world_t *world = *state;
    client_t client;

    start(world, 1);
    begin_stream(&client, world);
    world->fakes.scripts[FAKE_VERIFY].rc = RC_UNAUTHORIZED;
    expect_refused(&client);
    assert_int_equal(fixture_count(&world->fakes.bus, SVC_M_VIEWERS_GONE), 0);
}

static void
a_token_that_is_refused_before_the_stream_is_401(void **state)
{
    world_t *world = *state;
    client_t client;

    start(world, 1);
    open_chat(&client, world, CLOSE);
    world->fakes.scripts[FAKE_VERIFY].rc = RC_UNAUTHORIZED;
    client_await(&client, "\"code\":\"unauthorized\"");
    answer_t answer = rest_of(&client);
    assert_int_equal(answer.status, 401);
    assert_true(answer.whole);
    answer_fini(&answer);
    show(world, 10); /* to nobody */
    tell(world, ANSWER_STREAMING, 10);
    expect(world, "GET", "/healthz", NULL, 200, "ok");
}

static void
an_auth_svc_that_is_away_ends_nothing(void **state)
{
    world_t *world = *state;
    client_t client;

    start(world, 1);
    begin_stream(&client, world);
    world->fakes.scripts[FAKE_VERIFY].rc = RC_UNAVAILABLE;
    client_await_asked(&client, FAKE_VERIFY, world->fakes.scripts[FAKE_VERIFY].n + 1);
    show(world, 20);
    client_await(&client, "klm");
    svc_server_destroy(&world->fakes.servers[FAKE_AUTH]);
    end_well(world);
    answer_t answer = rest_of(&client);
    assert_texts(&answer, "full_response", world->fakes.truth, 20);
    answer_fini(&answer);
}

/* Each verdict ends in a second. */
static svc_rc
on_brief_verify(void *self, svc_call_t *call, const void *req, void *rep)
{
    fakes_t *fakes = self;

    (void)call;
    (void)req;
    *(verify_rep_t *)rep = (verify_rep_t){11, svc_unix_ms() / 1000 + 1};
    return fakes->scripts[FAKE_VERIFY].rc;
}

static void
a_token_is_asked_about_when_it_ends(void **state)
{
    world_t *world = *state;
    client_t client;

    world->fakes.scripts[FAKE_VERIFY].handler = on_brief_verify;
    start(world, 60);
    begin_stream(&client, world);
    const unsigned asked = world->fakes.scripts[FAKE_VERIFY].n;
    world->fakes.scripts[FAKE_VERIFY].rc = RC_UNAUTHORIZED;
    expect_refused(&client);
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, asked + 1);
}

static void
a_ticket_is_redeemed_again(void **state)
{
    world_t *world = *state;
    client_t client;

    start(world, 1);
    world->fakes.status.state = ANSWER_STREAMING;
    world->fakes.released = world->fakes.journaled = 10;
    client_open(&client, world, 0);
    client_ask(&client, "GET", "/api/chat/5/stream?ticket=fresh",
               CLOSE "No-Authorization: x\r\n", NULL);
    client_await(&client, "abcdefghij");
    client_await_asked(&client, FAKE_REDEEM, 2);
    world->fakes.scripts[FAKE_REDEEM].rc = RC_UNAUTHORIZED;
    expect_refused(&client);
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 0);
}

static void
a_client_that_leaves_meanwhile_is_forgotten(void **state)
{
    world_t *world = *state;
    client_t client;

    start(world, 1);
    begin_stream(&client, world);
    world->fakes.scripts[FAKE_VERIFY].rc = RC_LATER;
    client_await_asked(&client, FAKE_VERIFY, world->fakes.scripts[FAKE_VERIFY].n + 1);
    client_reset(&client);
    client_close(&client);
    world_await_log(world, "op=\"POST /api/chat/:id\"");
    svc_call_finish(fakes_kept(&world->fakes, FAKE_AUTH, FAKE_VERIFY), RC_UNAUTHORIZED,
                    NULL);
    expect(world, "GET", "/healthz", NULL, 200, "ok");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST_UNSTARTED(a_good_token_is_asked_about_again_and_again),
        WORLD_TEST_UNSTARTED(a_revoked_token_ends_the_stream),
        WORLD_TEST_UNSTARTED(a_token_that_is_refused_before_the_stream_is_401),
        WORLD_TEST_UNSTARTED(an_auth_svc_that_is_away_ends_nothing),
        WORLD_TEST_UNSTARTED(a_token_is_asked_about_when_it_ends),
        WORLD_TEST_UNSTARTED(a_ticket_is_redeemed_again),
        WORLD_TEST_UNSTARTED(a_client_that_leaves_meanwhile_is_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
