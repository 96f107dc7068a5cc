/* test_rest_answers.c - answers beside their streams, over HTTP: lists of them, stops, tickets.
 *
 * The services are fakes; of two convo-svc one is only a name here: the story of stops has both. */
#include "chat_fixture.h"

#include "svc/svc_text.h"

#define STOP   "/api/chat/5/stop"
#define TICKET "/api/chat/5/ticket"

static void
begin_answer(world_t *world, answer_state state, const char *finish)
{
    for (uint8_t i = 0; i < PROTO_STREAM_BYTES; i++)
        world->fakes.stream[i] = i;
    world->fakes.status.state = (int)state;
    world->fakes.status.finish = svc_str_c(finish);
}

/* --- active ------------------------------------------------------------------------------- */

static void
answers_in_flight_are_listed(void **state)
{
    world_t *world = *state;

    expect(world, "GET", "/api/chat/active", NULL, 200,
           "[{\"conversation_id\":329629,\"message_id\":2,"
           "\"stream_id\":\"30313233343536373839616263646566\",\"state\":\"streaming\","
           "\"length\":300,\"asked_time\":1731851739},"
           "{\"conversation_id\":5,\"message_id\":4,"
           "\"stream_id\":\"66656463626139383736353433323130\",\"state\":\"waiting\","
           "\"length\":0,\"asked_time\":1731851738}]");
    assert_string_equal(world->fakes.scripts[FAKE_ACTIVE].asked, "11");
    expect(world, "GET", "/api/chat/active/", NULL, 200, "[{");
    expect(world, "POST", "/api/chat/active", QUESTION, 405, "Allow: GET, HEAD, OPTIONS");
}

static svc_rc
on_full_active(void *self, svc_call_t *call, const void *req, void *rep)
{
    static active_answer_t answers[1000];

    (void)self;
    (void)call;
    (void)req;
    for (size_t i = 0; i < SVC_COUNT(answers); i++)
        answers[i] = (active_answer_t){PROTO_ID_MAX,           {"0123456789abcdef", 16},
                                       PROTO_ID_MAX,           ANSWER_STREAMING,
                                       PROTO_ANSWER_MAX_BYTES, PROTO_ID_MAX};
    ((active_rep_t *)rep)->answers = (proto_list_t){answers, SVC_COUNT(answers)};
    return RC_OK;
}

static svc_rc
on_no_active(void *self, svc_call_t *call, const void *req, void *rep)
{
    (void)self;
    (void)call;
    (void)req;
    ((active_rep_t *)rep)->answers = (proto_list_t){NULL, 0};
    return RC_OK;
}

static void
none_and_as_many_as_there_can_be_fit(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_ACTIVE].handler = on_no_active;
    expect(world, "GET", "/api/chat/active", NULL, 200, "[]");
    world->fakes.scripts[FAKE_ACTIVE].handler = on_full_active;
    answer_t answer = ask(world, "GET", "/api/chat/active", "", NULL);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body.p[answer.body.n - 1], ']');
    answer_fini(&answer);
}

/* --- stop --------------------------------------------------------------------------------- */

static void
a_stop_tells_how_the_answer_ended(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_STOPPED, "stopped");
    expect(world, "POST", STOP, NULL, 200,
           "{\"state\":\"stopped\",\"message_id\":2,\"finish_reason\":\"stopped\","
           "\"stream_id\":\"000102030405060708090a0b0c0d0e0f\"}");
    assert_string_equal(world->fakes.scripts[FAKE_STOP].asked, "11: 5");
    begin_answer(world, ANSWER_COMPLETE, "a \"quoted\" reason");
    expect(
        world, "POST", STOP, "{}", 200,
        "\"state\":\"complete\",\"message_id\":2,\"finish_reason\":\"a \\\"quoted\\\"");
}

static void
an_interrupted_answer_has_no_reason_to_finish(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_INTERRUPTED, "");
    world->fakes.status.reason = SVC_LIT("interrupted");
    expect(world, "POST", STOP, NULL, 200,
           "{\"state\":\"interrupted\",\"message_id\":2,\"finish_reason\":null,");
}

static void
a_stop_that_takes_long_is_accepted(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_STREAMING, "");
    expect(world, "POST", STOP, NULL, 202,
           "{\"state\":\"streaming\",\"message_id\":2,\"finish_reason\":null,");
    assert_true(world->fakes.scripts[FAKE_STOP].n >
                1); /* it was asked for its end again */
}

/* The first time the wish is only committed. */
static svc_rc
on_second_stop(void *self, svc_call_t *call, const void *req, void *rep)
{
    fakes_t *fakes = self;
    status_rep_t *status = rep;

    (void)call;
    (void)req;
    if (fakes->scripts[FAKE_STOP].n > 1) {
        status->state = ANSWER_STOPPED;
        status->finish = SVC_LIT("stopped");
    }
    return RC_OK;
}

static void
a_stop_waits_for_the_owner(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_STREAMING, "");
    world->fakes.scripts[FAKE_STOP].handler = on_second_stop;
    expect(world, "POST", STOP, NULL, 200, "\"state\":\"stopped\"");
    assert_int_equal(world->fakes.scripts[FAKE_STOP].n, 2);
    /* not whatever is asked meanwhile */
    assert_non_null(strstr(world->fakes.scripts[FAKE_STOP].asked, " this one"));
}

/* The first one that is asked has just lost the answer to another one. */
static svc_rc
on_stop_elsewhere(void *self, svc_call_t *call, const void *req, void *rep)
{
    fakes_t *fakes = self;
    status_rep_t *status = rep;

    (void)call;
    (void)req;
    status->state = ANSWER_STOPPED;
    status->finish = SVC_LIT("stopped");
    return fakes->scripts[FAKE_STOP].n > 1 ? RC_OK : RC_STALE;
}

static void
a_stop_finds_the_new_owner(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_STREAMING, "");
    world->fakes.scripts[FAKE_STOP].handler = on_stop_elsewhere;
    expect(world, "POST", STOP, NULL, 200, "\"state\":\"stopped\"");
    world->fakes.scripts[FAKE_STOP].handler = NULL;
    world->fakes.scripts[FAKE_STOP].rc = RC_STALE;
    expect(world, "POST", STOP, NULL, 503, "\"code\":\"unavailable\"");
}

static void
a_stop_of_nothing_is_404(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_STOP].rc = RC_NO_ANSWER;
    expect(world, "POST", STOP, NULL, 404, "\"code\":\"no_answer\"");
    world->fakes.scripts[FAKE_STOP].rc = RC_NOT_FOUND;
    expect(world, "POST", STOP, NULL, 404, "Conversation not found");
    world->fakes.scripts[FAKE_STOP].rc = RC_UNAVAILABLE;
    expect(world, "POST", STOP, NULL, 503, "Retry-After");
    expect(world, "POST", "/api/chat/x/stop", NULL, 400, "must be an integer");
    expect(world, "GET", STOP, NULL, 405, "Allow: POST, OPTIONS");
}

static void
whoever_leaves_while_it_stops_is_forgotten(void **state)
{
    world_t *world = *state;
    client_t client;

    begin_answer(world, ANSWER_STREAMING, "");
    client_open(&client, world, 0);
    client_ask(&client, "POST", STOP, "", NULL);
    fakes_await(&world->fakes, FAKE_STOP, 1);
    client_reset(&client);
    client_close(&client);
    world_await_log(world, "op=\"POST /api/chat/:id/stop\"");
    expect(world, "GET", "/healthz", NULL, 200, "ok");
}

/* --- ticket ------------------------------------------------------------------------------- */

static void
a_ticket_is_made_for_ones_own_conversation(void **state)
{
    world_t *world = *state;

    begin_answer(world, ANSWER_STREAMING, ""); /* convo-svc goes on telling: unheard */
    expect(world, "POST", TICKET, NULL, 200,
           "{\"ticket\":\"ti.ck-et\",\"expires_in\":60}");
    assert_string_equal(world->fakes.scripts[FAKE_TICKET].asked,
                        "11: 5 until 4000000000");
    assert_string_equal(world->fakes.scripts[FAKE_WATCH].asked, "11: 5");
    tell(world, ANSWER_STREAMING, 0);
    expect(world, "POST", TICKET, NULL, 200, "Cache-Control: no-store");
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 1); /* the verdict was kept */
    world->fakes.scripts[FAKE_WATCH].rc = RC_NO_ANSWER;
    expect(world, "POST", TICKET, NULL, 200, "ticket");
    assert_int_equal(fixture_count(&world->fakes.bus, SVC_M_TICKETS), 3);
    assert_null(strstr(world_log(world), "ti.ck-et"));
}

static void
no_ticket_is_made_otherwise(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_WATCH].rc = RC_NOT_FOUND;
    expect(world, "POST", TICKET, NULL, 404, "Conversation not found");
    assert_int_equal(world->fakes.scripts[FAKE_TICKET].n, 0);
    world->fakes.scripts[FAKE_WATCH].rc = RC_STALE;
    expect(world, "POST", TICKET, NULL, 503, "Retry-After");
    world->fakes.scripts[FAKE_WATCH].rc = RC_NO_ANSWER;
    world->fakes.scripts[FAKE_TICKET].rc = RC_BUSY;
    expect(world, "POST", TICKET, NULL, 503, "\"code\":\"busy\"");
    expect_with(world, "POST", TICKET "?ticket=fresh", "No-Authorization: x\r\n", NULL,
                401, "A token is needed");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(answers_in_flight_are_listed),
        WORLD_TEST(none_and_as_many_as_there_can_be_fit),
        WORLD_TEST(a_stop_tells_how_the_answer_ended),
        WORLD_TEST(an_interrupted_answer_has_no_reason_to_finish),
        WORLD_TEST(a_stop_that_takes_long_is_accepted),
        WORLD_TEST(a_stop_finds_the_new_owner),
        WORLD_TEST(a_stop_waits_for_the_owner),
        WORLD_TEST(a_stop_of_nothing_is_404),
        WORLD_TEST(whoever_leaves_while_it_stops_is_forgotten),
        WORLD_TEST(a_ticket_is_made_for_ones_own_conversation),
        WORLD_TEST(no_ticket_is_made_otherwise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
