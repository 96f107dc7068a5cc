/* test_rest_chat.c - questions over HTTP, and the last one once more: what is asked, under which key.
 *
 * How the answer comes is test_rest_viewer's; here it has ended before it is asked for. */
#include "chat_fixture.h"

#include "gateway/idem_key.h"

#define RETRY "/api/chat/5/retry"

/* Every answer is complete at once. */
static void
answer_at_once(world_t *world)
{
    world->fakes.status.state = ANSWER_COMPLETE;
    world->fakes.status.finish = SVC_LIT("stop");
}

static void
expect_key(const world_t *world, const char *text, idem_purpose purpose)
{
    uint8_t key[IDEM_KEY_BYTES];

    assert_true(idem_key_make(svc_str_c(text), purpose, key));
    assert_int_equal(world->fakes.key_n, sizeof key);
    assert_memory_equal(world->fakes.key, key, sizeof key);
}

/* True when the last question shall stop when nobody reads it. */
static bool
stops_alone(const char *asked)
{
    return strstr(asked, " alone") != NULL;
}

static void
questions_that_are_none_are_not_asked(void **state)
{
    static const struct {
        const char *body, *part;
    } rows[] = {
        {"", "The body is not valid JSON"},
        {"[]", "The body must be a JSON object"},
        {"{}", "\\\"message\\\" is missing"},
        {"{\"message\":null}", "\\\"message\\\" is missing"},
        {"{\"message\":\"\"}", "\\\"message\\\" must not be empty"},
        {"{\"message\":\"a\",\"on_disconnect\":1}",
         "\\\"on_disconnect\\\" must be a string"},
        {"{\"message\":\"a\",\"on_disconnect\":\"\"}",
         "\\\"on_disconnect\\\" must be \\\"continue"},
        {"{\"message\":\"a\",\"on_disconnect\":\"Stop\"}", "or \\\"stop\\\""},
        {"{\"message\":[\"Why?\"]}", "\\\"message\\\" must be a string"},
    };
    world_t *world = *state;

    for (size_t i = 0; i < SVC_COUNT(rows); i++)
        expect(world, "POST", CHAT, rows[i].body, 400, rows[i].part);
    expect_with(world, "POST", CHAT, CHINESE, "{}", 400, "缺少 \\\"message\\\"");
    expect(world, "POST", "/api/chat/x", QUESTION, 400, "must be an integer");
    expect_with(world, "POST", CHAT, "No-Authorization: x\r\n", QUESTION, 401, "token");
    assert_int_equal(world->fakes.scripts[FAKE_ASK].n, 0);
}

static void
a_question_goes_with_its_key(void **state)
{
    world_t *world = *state;

    answer_at_once(world);
    expect(world, "POST", CHAT, QUESTION, 200, "full_response");
    assert_int_equal(world->fakes.key_n, 0);
    expect_with(world, "POST", CHAT, "Idempotency-Key: 4711-a\r\n", QUESTION, 200,
                "full_response");
    expect_key(world, "4711-a", IDEM_CHAT);
    assert_int_equal(world->fakes.scripts[FAKE_ASK].n, 2);
    world->fakes.scripts[FAKE_ASK].rc = RC_KEY_REUSED;
    expect_with(world, "POST", CHAT, "Idempotency-Key: 4711-a\r\n", QUESTION, 422,
                "\"code\":\"key_reused\"");
}

static void
a_key_that_is_none_is_refused(void **state)
{
    static const char *const keys[] = {"", " ", "a b", "\xc3\xbc"};
    world_t *world = *state;
    char header[IDEM_KEY_TEXT_MAX + 64] = "Idempotency-Key: ";

    for (size_t i = 0; i < SVC_COUNT(keys); i++) {
        char line[64];
        snprintf(line, sizeof line, "Idempotency-Key: %s\r\n", keys[i]);
        expect_with(world, "POST", CHAT, line, QUESTION, 400, "Idempotency-Key must");
    }
    size_t n = strlen(header);
    memset(header + n, 'k', IDEM_KEY_TEXT_MAX + 1);
    memcpy(header + n + IDEM_KEY_TEXT_MAX + 1, "\r\n", 3);
    expect_with(world, "POST", CHAT, header, QUESTION, 400, "Idempotency-Key must");
    expect_with(world, "POST", RETRY, header, NULL, 400, "Idempotency-Key must");
    expect_with(world, "POST", CHAT, "Idempotency-Key: a\r\nidempotency-key: a\r\n",
                QUESTION, 400, "only one Idempotency-Key");
    expect_with(world, "POST", CHAT, CHINESE "Idempotency-Key: a\r\nIdempotency-Key:\r\n",
                QUESTION, 400, "只能有一个");
    assert_int_equal(
        world->fakes.scripts[FAKE_ASK].n + world->fakes.scripts[FAKE_RETRY].n, 0);
}

static void
what_becomes_of_it_alone_is_the_askers_choice(void **state)
{
    static const struct {
        const char *body;
        bool stops;
    } rows[] = {
        {QUESTION, false},
        {"{\"message\":\"Why?\",\"on_disconnect\":\"continue\"}", false},
        {"{\"message\":\"Why?\",\"on_disconnect\":null}", false},
        {"{\"message\":\"Why?\",\"on_disconnect\":\"stop\"}", true},
    };
    world_t *world = *state;

    answer_at_once(world);
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        expect(world, "POST", CHAT, rows[i].body, 200, "full_response");
        assert_int_equal(stops_alone(world->fakes.ask_key), rows[i].stops);
    }
}

static void
a_retry_needs_no_body_and_takes_one(void **state)
{
    script_t *script = &((world_t *)*state)->fakes.scripts[FAKE_RETRY];
    world_t *world = *state;

    answer_at_once(world);
    expect(world, "POST", RETRY, NULL, 200, "full_response");
    assert_memory_equal(script->asked, "11: 5 ", 6);
    assert_int_equal(world->fakes.key_n, 0);
    expect_with(world, "POST", RETRY, "Idempotency-Key: again\r\n", "", 200,
                "full_response");
    expect_key(world, "again", IDEM_RETRY);
    expect(world, "POST", RETRY, "{}", 200, "full_response");
    assert_false(stops_alone(script->asked));
    expect(world, "POST", RETRY, "{\"on_disconnect\":\"stop\"}", 200, "full_response");
    assert_true(stops_alone(script->asked));
    unsigned asked = script->n;
    expect(world, "POST", RETRY, "{\"on_disconnect\":\"no\"}", 400, "must be");
    expect(world, "POST", RETRY, "nonsense", 400, "not valid JSON");
    expect(world, "POST", "/api/chat/x/retry", NULL, 400, "must be an integer");
    assert_int_equal(script->n, asked);
    assert_int_equal(world->fakes.scripts[FAKE_ASK].n, 0);
}

static void
a_retry_that_is_refused_has_its_status(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_RETRY].rc = RC_NO_ANSWER;
    expect(world, "POST", RETRY, NULL, 404, "\"code\":\"no_answer\"");
    world->fakes.scripts[FAKE_RETRY].rc = RC_ANSWERING;
    expect(world, "POST", RETRY, NULL, 409, "\"code\":\"answering\"");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(questions_that_are_none_are_not_asked),
        WORLD_TEST(a_question_goes_with_its_key),
        WORLD_TEST(a_key_that_is_none_is_refused),
        WORLD_TEST(what_becomes_of_it_alone_is_the_askers_choice),
        WORLD_TEST(a_retry_needs_no_body_and_takes_one),
        WORLD_TEST(a_retry_that_is_refused_has_its_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
