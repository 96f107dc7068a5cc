/* test_request_user.c - whose request is this: tokens and tickets, good, bad, old, and none.
 *
 * A list stands for all routes that want a token, the stream of a conversation is the one that may
 * be opened by a ticket. auth-svc is a fake: see there which token and which ticket is good. */
#include "chat_fixture.h"

#define LIST   "/api/conversations/list"
#define DELETE "/api/conversations/del/"
#define STREAM "/api/chat/5/stream"
#define HEX    "000102030405060708090a0b0c0d0e0f"
#define NOBODY "No-Authorization: x\r\n"

/* There is an answer "abcde". */
static void
begin_answer(world_t *world)
{
    for (uint8_t i = 0; i < PROTO_STREAM_BYTES; i++)
        world->fakes.stream[i] = i;
    world->fakes.released = world->fakes.journaled = 5;
    world->fakes.status.state = ANSWER_COMPLETE;
    world->fakes.status.finish = SVC_LIT("stop");
}

/* --- tokens ------------------------------------------------------------------------------- */

static void
a_verdict_is_kept_for_its_token_alone(void **state)
{
    world_t *world = *state;
    script_t *verify = &world->fakes.scripts[FAKE_VERIFY];

    for (int i = 0; i < 5; i++)
        expect(world, "GET", LIST, NULL, 200, "[]");
    assert_int_equal(verify->n, 1);
    for (int i = 0; i < 3; i++)
        expect_with(world, "GET", LIST, "Authorization: Bearer other\r\n", NULL, 200,
                    "[]");
    assert_int_equal(verify->n, 2);
    assert_string_equal(world->fakes.scripts[FAKE_LIST].asked, "12: 0");
    expect(world, "GET", LIST, NULL, 200, "[]");
    assert_string_equal(world->fakes.scripts[FAKE_LIST].asked, "11: 0");
    assert_int_equal(verify->n, 2);
}

static void
a_refusal_is_not_kept(void **state)
{
    world_t *world = *state;

    for (unsigned i = 1; i <= 3; i++) {
        expect_with(world, "GET", LIST, "Authorization: Bearer bad\r\n", NULL, 401,
                    "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n");
        assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, i);
    }
    assert_int_equal(world->fakes.scripts[FAKE_LIST].n, 0);
}

static void
without_a_cache_every_request_is_asked_about(void **state)
{
    world_t *world = *state;

    world->fakes.config.gateway_verify_cache_s = 0;
    world_start(world);
    for (unsigned i = 1; i <= 3; i++) {
        expect(world, "GET", LIST, NULL, 200, "[]");
        assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, i);
    }
}

static void
a_request_without_a_token_is_told_how(void **state)
{
    static const char *const headers[] = {
        "No-Authorization: x\r\n",           "Authorization:\r\n",
        "Authorization: Bearer\r\n",         "Authorization: Bearer   \r\n",
        "Authorization: Basic Z29vZA==\r\n", "Authorization: good\r\n"};
    world_t *world = *state;

    for (size_t i = 0; i < SVC_COUNT(headers); i++) {
        expect_with(world, "GET", LIST, headers[i], NULL, 401, "A token is needed");
        expect_with(world, "GET", LIST, headers[i], NULL, 401,
                    "WWW-Authenticate: Bearer\r\n");
    }
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 0);
    expect_with(world, "GET", LIST, "Authorization: bearer   good\r\n", NULL, 200, "[]");
}

static void
two_tokens_are_refused_unasked(void **state)
{
    static const char *const headers[] = {
        "Authorization: Bearer good\r\nAuthorization: Bearer other\r\n",
        "Authorization: Bearer good\r\nauthorization: Bearer good\r\n",
        "Authorization:\r\nAuthorization: Bearer good\r\n",
    };
    world_t *world = *state;

    for (size_t i = 0; i < SVC_COUNT(headers); i++) {
        expect_with(world, "GET", LIST, headers[i], NULL, 400,
                    "There must be only one Authorization header");
        expect_with(world, "GET", STREAM "?ticket=fresh", headers[i], NULL, 400,
                    "\"code\":\"invalid\"");
    }
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 0);
    assert_int_equal(world->fakes.scripts[FAKE_REDEEM].n, 0);
}

static void
what_can_be_no_token_is_refused_unasked(void **state)
{
    world_t *world = *state;
    char header[PROTO_TOKEN_MAX_BYTES + 64] = "Authorization: Bearer ";
    client_t client;

    expect_with(world, "GET", LIST, "Authorization: Bearer g\xc3\xb6od\r\n", NULL, 401,
                "\"code\":\"unauthorized\"");
    size_t n = strlen(header);
    memset(header + n, 'x', PROTO_TOKEN_MAX_BYTES + 1);
    strcpy(header + n + PROTO_TOKEN_MAX_BYTES + 1, "\r\n");
    client_open(&client, world, 0);
    client_ask(&client, "GET", LIST, header, NULL);
    client_await(&client, "\"code\":\"unauthorized\"");
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 0);
    client_close(&client);

    strcpy(header + n + PROTO_TOKEN_MAX_BYTES, "\r\n"); /* may be one */
    client_open(&client, world, 0);
    client_ask(&client, "GET", LIST, header, NULL);
    client_await(&client, "\"code\":\"unauthorized\"");
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 1);
    client_close(&client);
}

static void
what_auth_svc_says_is_the_answer(void **state)
{
    world_t *world = *state;
    script_t *verify = &world->fakes.scripts[FAKE_VERIFY];

    verify->rc = RC_BUSY;
    verify->retry_after_s = 4;
    expect(world, "GET", LIST, NULL, 503, "Retry-After: 4\r\n");
    verify->rc = RC_INTERNAL;
    expect(world, "POST", DELETE "5", "a body that is dropped", 500,
           "\"code\":\"internal\"");
    assert_int_equal(world->fakes.scripts[FAKE_DELETE].n, 0);
    verify->rc = RC_OK;
    expect(world, "POST", DELETE "5", NULL, 200, "deleted");
}

static void
a_client_that_crashes_while_its_token_is_checked_is_forgotten(void **state)
{
    world_t *world = *state;
    verify_rep_t rep = {11, 4000000000};
    client_t client;

    world->fakes.scripts[FAKE_VERIFY].rc = RC_LATER;
    client_open(&client, world, 0);
    client_ask(&client, "POST", "/api/chat/5", "", "{\"message\":\"Why?\"}");
    fakes_await(&world->fakes, FAKE_VERIFY, 1);
    client_reset(&client);
    world_await_log(world, "op=\"POST /api/chat/:id\" status=499");
    svc_call_finish(fakes_kept(&world->fakes, FAKE_AUTH, FAKE_VERIFY), RC_OK, &rep);
    world->fakes.scripts[FAKE_VERIFY].rc = RC_OK;
    expect(world, "GET", LIST, NULL, 200, "[]");
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n,
                     2); /* nobody took the verdict */
    assert_int_equal(world->fakes.scripts[FAKE_ASK].n, 0);
    client_close(&client);
}

/* --- tickets ------------------------------------------------------------------------------ */

static void
a_fresh_ticket_opens_its_stream(void **state)
{
    world_t *world = *state;

    begin_answer(world);
    expect_with(world, "GET", STREAM "?ticket=fresh", NOBODY, NULL, 200, "abcde");
    assert_string_equal(world->fakes.scripts[FAKE_REDEEM].asked, "fresh");
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 0);
    assert_null(strstr(world_log(world), "fresh"));
}

static void
an_old_ticket_only_reconnects(void **state)
{
    world_t *world = *state;

    begin_answer(world);
    expect_with(world, "GET", STREAM "?ticket=old", NOBODY, NULL, 401,
                "The ticket is not valid");
    expect_with(world, "GET", STREAM "?ticket=old", NOBODY "Last-Event-ID: " HEX ":2\r\n",
                NULL, 200, "cde");
    expect_with(world, "GET", STREAM "?ticket=old",
                NOBODY "Last-Event-ID: " HEX ":5:e\r\n", NULL, 204, "");
    expect_with(world, "GET", STREAM "?ticket=old",
                NOBODY "Last-Event-ID: ff0102030405060708090a0b0c0d0e0f:2\r\n", NULL, 410,
                "superseded");
}

static void
a_ticket_opens_nothing_else(void **state)
{
    char longest[PROTO_TICKET_MAX_BYTES + 64];
    world_t *world = *state;

    begin_answer(world);
    expect_with(world, "GET", "/api/chat/6/stream?ticket=fresh", NOBODY, NULL, 401,
                "\"code\":\"unauthorized\"");
    expect_with(world, "GET", STREAM "?ticket=none", NOBODY CHINESE, NULL, 401, "票据");
    expect_with(world, "GET", STREAM "?ticket=", NOBODY, NULL, 401, "A token is needed");
    expect_with(world, "GET", "/api/conversations/history/5?ticket=fresh", NOBODY, NULL,
                401, "A token is needed");
    int n = snprintf(longest, sizeof longest, STREAM "?ticket=");
    memset(longest + n, 'a', PROTO_TICKET_MAX_BYTES + 1);
    longest[n + PROTO_TICKET_MAX_BYTES + 1] = '\0';
    unsigned asked = world->fakes.scripts[FAKE_REDEEM].n;
    expect_with(world, "GET", longest, NOBODY, NULL, 401, "ticket");
    assert_int_equal(world->fakes.scripts[FAKE_REDEEM].n, asked);
    assert_int_equal(world->fakes.scripts[FAKE_WATCH].n, 0);
}

static void
a_token_goes_before_a_ticket(void **state)
{
    world_t *world = *state;

    begin_answer(world);
    expect(world, "GET", STREAM "?ticket=none", NULL, 200, "abcde");
    expect_with(world, "GET", STREAM "?ticket=fresh", "Authorization: Bearer bad\r\n",
                NULL, 401, "The token is not valid");
    assert_int_equal(world->fakes.scripts[FAKE_REDEEM].n, 0);
}

static void
an_auth_svc_that_is_busy_refuses_no_ticket(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_REDEEM].rc = RC_BUSY;
    expect_with(world, "GET", STREAM "?ticket=fresh", NOBODY, NULL, 503, "Retry-After");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(a_verdict_is_kept_for_its_token_alone),
        WORLD_TEST(a_refusal_is_not_kept),
        WORLD_TEST_UNSTARTED(without_a_cache_every_request_is_asked_about),
        WORLD_TEST(a_request_without_a_token_is_told_how),
        WORLD_TEST(two_tokens_are_refused_unasked),
        WORLD_TEST(what_can_be_no_token_is_refused_unasked),
        WORLD_TEST(what_auth_svc_says_is_the_answer),
        WORLD_TEST(a_client_that_crashes_while_its_token_is_checked_is_forgotten),
        WORLD_TEST(a_fresh_ticket_opens_its_stream),
        WORLD_TEST(an_old_ticket_only_reconnects),
        WORLD_TEST(a_ticket_opens_nothing_else),
        WORLD_TEST(a_token_goes_before_a_ticket),
        WORLD_TEST(an_auth_svc_that_is_busy_refuses_no_ticket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
