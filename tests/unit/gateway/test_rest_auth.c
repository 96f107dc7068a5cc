/* test_rest_auth.c - register and login over HTTP: every form of body, and every word of auth-svc.
 *
 * auth-svc is a fake that answers as each row says; what reaches it is compared too. */
#include "gateway_fixture.h"

#include "gateway/idem_key.h"

#define REGISTER "/api/users/register"
#define LOGIN    "/api/users/login"
#define CHINESE  "Accept-Language: zh-CN,zh;q=0.9\r\n"

/* {"username": <n times 'u'>, "password": <m times 'p'>} */
static char *
make_body(size_t n, size_t m)
{
    char *body = svc_alloc(n + m + 64);
    int at = sprintf(body, "{\"username\":\"");

    memset(body + at, 'u', n);
    at += (int)n + sprintf(body + at + n, "\",\"password\":\"");
    memset(body + at, 'p', m);
    strcpy(body + at + m, "\"}");
    return body;
}

static void
register_makes_a_user(void **state)
{
    world_t *world = *state;

    expect(world, "POST", REGISTER,
           "{\"username\":\"ada\",\"password\":\"correct horse\"}", 201,
           "{\"message\":\"User registered successfully\"}");
    assert_string_equal(world->fakes.scripts[FAKE_REGISTER].asked, "ada correct horse");
    assert_int_equal(world->fakes.scripts[FAKE_VERIFY].n, 0); /* no token is asked for */
    expect_with(world, "POST", REGISTER, CHINESE,
                "{\"username\":\"\\u827e\\u8fbe\",\"password\":\"correct horse\"}", 201,
                "{\"message\":\"用户注册成功\"}");
    assert_string_equal(world->fakes.scripts[FAKE_REGISTER].asked, "艾达 correct horse");
}

static void
login_gives_a_token(void **state)
{
    world_t *world = *state;
    answer_t answer = ask(world, "POST", LOGIN, "",
                          "{\"username\":\"ada\",\"password\":\"right\"}");

    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body.p, "{\"token\":\"a\\\"token\"}");
    answer_fini(&answer);
    assert_string_equal(world->fakes.scripts[FAKE_LOGIN].asked, "ada right 127.0.0.1");
}

static void
unknown_keys_are_ignored(void **state)
{
    world_t *world = *state;
    static const char body[] =
        "{\"email\":\"a@b\",\"username\":\"ada\",\"more\":[1,{\"password\":2}],"
        "\"password\":\"correct horse\",\"admin\":true}";

    expect(world, "POST", REGISTER, body, 201, "message");
    expect(world, "POST", LOGIN, body, 200, "token");
    assert_string_equal(world->fakes.scripts[FAKE_LOGIN].asked,
                        "ada correct horse 127.0.0.1");
}

static void
malformed_bodies_are_told_what_is_wrong(void **state)
{
    static const struct {
        const char *body, *part;
    } rows[] = {
        {"", "The body is not valid JSON"},
        {"{\"username\":\"ada\",", "The body is not valid JSON"},
        {"[\"ada\"]", "The body must be a JSON object"},
        {"{\"username\":\"\xff\",\"password\":\"x\"}", "The body is not valid UTF-8"},
        {"{\"password\":\"x\"}", "\\\"username\\\" is missing"},
        {"{\"username\":\"ada\"}", "\\\"password\\\" is missing"},
        {"{\"username\":null,\"password\":\"x\"}", "\\\"username\\\" is missing"},
        {"{\"username\":7,\"password\":\"x\"}", "\\\"username\\\" must be a string"},
        {"{\"username\":\"ada\",\"password\":[]}", "\\\"password\\\" must be a string"},
        {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
         "nested too deep"},
    };
    world_t *world = *state;

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        expect(world, "POST", REGISTER, rows[i].body, 400, rows[i].part);
        expect(world, "POST", LOGIN, rows[i].body, 400, rows[i].part);
        expect(world, "POST", LOGIN, rows[i].body, 400, "\"code\":\"invalid\"");
    }
    expect_with(world, "POST", LOGIN, CHINESE, "{\"username\":\"ada\"}", 400,
                "缺少 \\\"password\\\"");
    assert_int_equal(world->fakes.scripts[FAKE_REGISTER].n, 0);
    assert_int_equal(world->fakes.scripts[FAKE_LOGIN].n, 0);
}

/* Asks both with names and passwords of these lengths. */
static void
expect_lengths(world_t *world, size_t n, size_t m, int register_status,
               const char *register_code, int login_status)
{
    char *body = make_body(n, m);

    expect(world, "POST", REGISTER, body, register_status, register_code);
    expect(world, "POST", LOGIN, body, login_status,
           login_status == 200 ? "token" : "\"code\":\"bad_credentials\"");
    free(body);
}

static void
lengths_that_no_message_can_carry_get_the_same_answer(void **state)
{
    world_t *world = *state;

    expect_lengths(world, 0, 9, 400, "\"code\":\"invalid_username\"", 401);
    expect_lengths(world, 9, 0, 400, "\"code\":\"invalid_password\"", 401);
    expect_lengths(world, PROTO_USERNAME_MAX_BYTES + 1, 9, 400,
                   "\"code\":\"invalid_username\"", 401);
    expect_lengths(world, 9, PROTO_PASSWORD_MAX_BYTES + 1, 400,
                   "\"code\":\"invalid_password\"", 401);
    assert_int_equal(world->fakes.scripts[FAKE_REGISTER].n, 0);
    assert_int_equal(world->fakes.scripts[FAKE_LOGIN].n, 0);
    expect_lengths(world, PROTO_USERNAME_MAX_BYTES, PROTO_PASSWORD_MAX_BYTES, 201,
                   "message", 200);
    expect_lengths(world, 1, 1, 201, "message", 200); /* auth-svc judges the form */
    assert_int_equal(world->fakes.scripts[FAKE_REGISTER].n, 2);
    assert_int_equal(world->fakes.scripts[FAKE_LOGIN].n, 2);
}

static void
what_a_password_must_be_is_told_with_its_number(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_REGISTER].rc = RC_INVALID_PASSWORD;
    expect(world, "POST", REGISTER, "{\"username\":\"ada\",\"password\":\"x\"}", 400,
           "8 to 72 bytes");
    expect_with(world, "POST", REGISTER, CHINESE,
                "{\"username\":\"ada\",\"password\":\"x\"}", 400, "8");
}

static void
every_result_of_auth_svc_has_its_status(void **state)
{
    world_t *world = *state;
    char code[96];

    for (svc_rc rc = RC_INVALID; rc < RC_COUNT; rc++) {
        snprintf(code, sizeof code, "\"code\":\"%s\"}", told_of(rc)->wire);
        world->fakes.scripts[FAKE_LOGIN].rc = rc;
        world->fakes.scripts[FAKE_REGISTER].rc = rc;
        expect(world, "POST", LOGIN, "{\"username\":\"a\",\"password\":\"b\"}",
               told_of(rc)->http, code);
        expect(world, "POST", REGISTER, "{\"username\":\"a\",\"password\":\"b\"}",
               told_of(rc)->http, code);
    }
}

static void
results_speak_both_languages_and_say_when_to_retry(void **state)
{
    static const struct {
        svc_rc rc;
        const char *told;       /* by auth-svc */
        uint64_t retry_after_s; /* likewise */
        const char *english, *chinese, *header;
    } rows[] = {
        {RC_BAD_CREDENTIALS, "secret detail", 0,
         "{\"error\":\"Wrong username or password\"", "用户名或密码错误", "HTTP/1.1 401"},
        {RC_THROTTLED, NULL, 8, "Too many wrong passwords", "密码错误次数过多",
         "Retry-After: 8\r\n"},
        {RC_UNAVAILABLE, NULL, 0, "not available right now", "服务暂时不可用",
         "Retry-After: 1\r\n"},
        {RC_BUSY, NULL, 3, "The service is busy", "服务繁忙", "Retry-After: 3\r\n"},
        {RC_INVALID, "a sentence of its own", 0, "{\"error\":\"a sentence of its own\"",
         "：a sentence of its own", "HTTP/1.1 400"},
        {RC_INTERNAL, "secret detail", 0, "{\"error\":\"Internal error\"", "内部错误",
         "HTTP/1.1 500"},
    };
    static const char body[] = "{\"username\":\"a\",\"password\":\"b\"}";
    world_t *world = *state;
    script_t *script = &world->fakes.scripts[FAKE_LOGIN];

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        script->rc = rows[i].rc;
        script->text = rows[i].told;
        script->retry_after_s = rows[i].retry_after_s;
        int status = svc_rc_info(rows[i].rc)->http;
        expect(world, "POST", LOGIN, body, status, rows[i].english);
        expect(world, "POST", LOGIN, body, status, rows[i].header);
        expect_with(world, "POST", LOGIN, CHINESE, body, status, rows[i].chinese);
    }
}

static void
a_token_that_is_too_long_to_be_told_is_an_error(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_LOGIN].rc = RC_LATER;
    client_t client;
    client_open(&client, world, 0);
    client_ask(&client, "POST", LOGIN, "Connection: close\r\n",
               "{\"username\":\"a\",\"password\":\"b\"}");
    fakes_await(&world->fakes, FAKE_LOGIN, 1);
    char *token = svc_alloc(
        PROTO_TOKEN_MAX_BYTES); /* control characters: six times as long in JSON */
    memset(token, 1, PROTO_TOKEN_MAX_BYTES);
    login_rep_t rep = {{token, PROTO_TOKEN_MAX_BYTES}, 2000000000};
    svc_call_finish(fakes_kept(&world->fakes, FAKE_AUTH, FAKE_LOGIN), RC_OK, &rep);
    client_await(&client, NULL);
    assert_non_null(strstr(client.in.p, "HTTP/1.1 500 "));
    assert_non_null(strstr(client.in.p, "\"code\":\"internal\""));
    client_close(&client);
    free(token);
}

static void
without_auth_svc_the_answer_comes_at_once(void **state)
{
    world_t *world = *state;
    fake_times_t never = {&world->fakes, FAKE_LOGIN, 1};

    svc_server_destroy(&world->fakes.servers[FAKE_AUTH]);
    while (world_is_ready(world))
        assert_false(fixture_runs_until(&world->fakes.bus, fake_was_asked, &never, 1));
    expect(world, "POST", LOGIN, "{\"username\":\"a\",\"password\":\"b\"}", 503,
           "\"code\":\"unavailable\"");
    expect(world, "POST", LOGIN, "{\"username\":\"a\",\"password\":\"b\"}", 503,
           "Retry-After: 1\r\n");
}

static int
open_with_room(void **state)
{
    world_t *world = world_new();

    world->fakes.config.server_max_body_bytes = 10000;
    world_start(world);
    *state = world;
    return 0;
}

#define ROOMY_TEST(name) \
    cmocka_unit_test_setup_teardown(name, open_with_room, world_close)

static void
each_registration_has_a_key_of_its_own(void **state)
{
    world_t *world = *state;
    static const char body[] = "{\"username\":\"ada\",\"password\":\"correct horse\"}";
    char first[PROTO_KEY_MAX_BYTES];

    expect(world, "POST", "/api/users/register", body, 201, "registered");
    assert_int_equal(world->fakes.key_n, IDEM_KEY_RANDOM_BYTES);
    memcpy(first, world->fakes.key, sizeof first);
    expect(world, "POST", "/api/users/register", body, 201, "registered");
    assert_memory_not_equal(world->fakes.key, first, IDEM_KEY_RANDOM_BYTES);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(each_registration_has_a_key_of_its_own),
        WORLD_TEST(register_makes_a_user),
        WORLD_TEST(login_gives_a_token),
        WORLD_TEST(unknown_keys_are_ignored),
        WORLD_TEST(malformed_bodies_are_told_what_is_wrong),
        ROOMY_TEST(lengths_that_no_message_can_carry_get_the_same_answer),
        WORLD_TEST(what_a_password_must_be_is_told_with_its_number),
        WORLD_TEST(every_result_of_auth_svc_has_its_status),
        WORLD_TEST(results_speak_both_languages_and_say_when_to_retry),
        WORLD_TEST(a_token_that_is_too_long_to_be_told_is_an_error),
        WORLD_TEST(without_auth_svc_the_answer_comes_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
