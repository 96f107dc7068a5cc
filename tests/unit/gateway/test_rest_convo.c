/* test_rest_convo.c - create, history, list and delete over HTTP: every field, and every word of convo-svc.
 *
 * convo-svc is a fake that answers as each row says; what reaches it is compared too. How pages
 * become one body is test_paged_body's. */
#include "gateway_fixture.h"

#include "gateway/idem_key.h"

#define CREATE  "/api/conversations/create"
#define LIST    "/api/conversations/list"
#define HISTORY "/api/conversations/history/5"
#define DELETE  "/api/conversations/del/5"
#define CHINESE "Accept-Language: zh\r\n"

/* A create request whose `key` is `n` times `fill` (which may be an escape), the others short. */
static char *
make_body(const char *key, const char *fill, size_t n)
{
    static const char *const keys[] = {"title", "model", "api_key"};
    static const char *const usual[] = {"A title", "echo", "sk-1"};
    svc_buf_t body;

    svc_buf_init(&body, 1 << 20);
    for (size_t i = 0; i < 3; i++) {
        bool is_it = strcmp(keys[i], key) == 0;
        assert_int_equal(
            svc_buf_printf(&body, "%s\"%s\":\"", i == 0 ? "{" : ",", keys[i]), RC_OK);
        for (size_t k = 0; k < (is_it ? n : 1); k++)
            assert_int_equal(svc_buf_add_str(&body, svc_str_c(is_it ? fill : usual[i])),
                             RC_OK);
        assert_int_equal(svc_buf_add_str(&body, SVC_LIT("\"")), RC_OK);
    }
    assert_int_equal(svc_buf_add(&body, "}", 2), RC_OK);
    return body.p;
}

static void
expect_field(world_t *world, const char *key, const char *fill, size_t n, int status,
             const char *part)
{
    char *body = make_body(key, fill, n);

    expect(world, "POST", CREATE, body, status, part);
    free(body);
}

/* --- create ------------------------------------------------------------------------------- */

static void
create_tells_what_was_made(void **state)
{
    world_t *world = *state;
    answer_t answer = ask(
        world, "POST", CREATE, "",
        "{\"title\":\"A \\\"t\\\" \\u00e9\",\"model\":\"gpt-4\",\"api_key\":\"sk-1\",\"x\":[]}");

    assert_int_equal(answer.status, 200);
    assert_string_equal(
        answer.body.p,
        "{\"conversation_id\":77,\"title\":\"A \\\"t\\\" é\",\"model\":\"gpt-4\","
        "\"api_key\":\"sk-1\",\"created_time\":1700000000}");
    answer_fini(&answer);
    assert_string_equal(world->fakes.scripts[FAKE_CREATE].asked,
                        "11: A \"t\" é, gpt-4, sk-1");
    expect(world, "POST", CREATE, "{\"title\":\"t\",\"model\":\"echo\",\"api_key\":null}",
           200, "\"api_key\":\"\",");
    assert_string_equal(world->fakes.scripts[FAKE_CREATE].asked, "11: t, echo, ");
}

static void
fields_that_are_missing_or_none_are_named(void **state)
{
    static const struct {
        const char *body, *part;
    } rows[] = {
        {"", "The body is not valid JSON"},
        {"\"title\"", "The body must be a JSON object"},
        {"{\"model\":\"echo\"}", "\\\"title\\\" is missing"},
        {"{\"title\":\"t\"}", "\\\"model\\\" is missing"},
        {"{\"title\":\"\",\"model\":\"echo\"}", "\\\"title\\\" must not be empty"},
        {"{\"title\":\"t\",\"model\":\"\"}", "\\\"model\\\" must not be empty"},
        {"{\"title\":1,\"model\":\"echo\"}", "\\\"title\\\" must be a string"},
        {"{\"title\":\"t\",\"model\":{}}", "\\\"model\\\" must be a string"},
        {"{\"title\":\"t\",\"model\":\"echo\",\"api_key\":5}",
         "\\\"api_key\\\" must be a string"},
        {"{\"title\":\"t\",\"model\":\"echo\",\"api_key\":\"a b\"}", "visible ASCII"},
        {"{\"title\":\"t\",\"model\":\"echo\",\"api_key\":\"a\\r\\nX: y\"}",
         "visible ASCII"},
        {"{\"title\":\"t\",\"model\":\"echo\",\"api_key\":\"\\u00e9\"}", "visible ASCII"},
        {"{\"title\":\"t\",\"model\":\"echo\",\"api_key\":\"\\u007f\"}", "visible ASCII"},
    };
    world_t *world = *state;

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        expect(world, "POST", CREATE, rows[i].body, 400, rows[i].part);
        expect(world, "POST", CREATE, rows[i].body, 400, "\"code\":\"invalid\"");
    }
    expect_with(world, "POST", CREATE, CHINESE, "{\"title\":\"\",\"model\":\"echo\"}",
                400, "\\\"title\\\" 不能为空");
    assert_int_equal(world->fakes.scripts[FAKE_CREATE].n, 0);
}

static void
fields_may_be_as_long_as_their_bound(void **state)
{
    static const struct {
        const char *key, *fill;
        size_t max;
    } rows[] = {{"title", "t", PROTO_TITLE_MAX_BYTES},
                {"title", "\\u0001", PROTO_TITLE_MAX_BYTES}, /* six bytes in the answer */
                {"api_key", "k", PROTO_API_KEY_MAX_BYTES}};
    world_t *world = *state;
    char part[64];

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        expect_field(world, rows[i].key, rows[i].fill, rows[i].max, 200,
                     "\"created_time\":1700000000}");
        snprintf(part, sizeof part, "\\\"%s\\\" is too long", rows[i].key);
        expect_field(world, rows[i].key, rows[i].fill, rows[i].max + 1, 400, part);
    }
    /* a model is known by its pattern, however long */
    expect_field(world, "model", "gpt-", PROTO_MODEL_MAX_BYTES / 4, 200, "gpt-gpt-");
    expect_field(world, "model", "gpt-", PROTO_MODEL_MAX_BYTES / 4 + 1, 400,
                 "\\\"model\\\" is too long");
}

static void
a_model_that_nobody_serves_is_refused(void **state)
{
    world_t *world = *state;

    expect(world, "POST", CREATE, "{\"title\":\"t\",\"model\":\"claude\"}", 400,
           "\"code\":\"unknown_model\"");
    expect(world, "POST", CREATE, "{\"title\":\"t\",\"model\":\"echo2\"}", 400,
           "\"code\":\"unknown_model\"");
    assert_int_equal(world->fakes.scripts[FAKE_CREATE].n, 0);
}

static bool
only_models_are_missing(void *arg)
{
    world_t *world = arg;

    return atomic_load(&world->readiness.needs[REACTOR_AUTH].missing) == 0 &&
           atomic_load(&world->readiness.needs[REACTOR_CONVO].missing) == 0;
}

static void
before_the_models_are_known_nothing_is_made(void **state)
{
    world_t *world = *state;
    char *error = NULL;

    world->fakes.scripts[FAKE_MODELS].rc = RC_LATER;
    assert_true(world_starts(world, &error));
    fixture_run_until(&world->fakes.bus, only_models_are_missing, world);
    expect(world, "POST", CREATE, "{\"title\":\"t\",\"model\":\"echo\"}", 503,
           "\"code\":\"unavailable\"");
    expect(world, "GET", LIST, NULL, 200, "[]");
    assert_int_equal(world->fakes.scripts[FAKE_CREATE].n, 0);
}

/* --- the other three ---------------------------------------------------------------------- */

static void
list_history_and_delete_ask_for_the_user(void **state)
{
    world_t *world = *state;

    expect(world, "GET", LIST, NULL, 200, "[]");
    assert_string_equal(world->fakes.scripts[FAKE_LIST].asked, "11: 0");
    expect(world, "GET", LIST "/", NULL, 200, "[]");
    expect(world, "GET", HISTORY, NULL, 200, "[{}]");
    assert_string_equal(world->fakes.scripts[FAKE_HISTORY].asked, "11: 5 at 0.0");
    expect(world, "GET", HISTORY, NULL, 200, "Content-Type: application/json");
    expect(world, "POST", DELETE, NULL, 200,
           "{\"message\":\"Conversation deleted successfully\"}");
    assert_string_equal(world->fakes.scripts[FAKE_DELETE].asked, "11: 5");
    expect_with(world, "POST", DELETE, CHINESE, NULL, 200,
                "{\"message\":\"对话删除成功\"}");
}

static void
a_body_that_delete_does_not_want_is_ignored(void **state)
{
    world_t *world = *state;

    expect(world, "POST", DELETE, "{not JSON", 200, "deleted");
}

static void
what_is_not_the_users_is_not_found(void **state)
{
    world_t *world = *state;

    world->fakes.scripts[FAKE_HISTORY].rc = RC_NOT_FOUND;
    world->fakes.scripts[FAKE_DELETE].rc = RC_NOT_FOUND;
    expect(world, "GET", HISTORY, NULL, 404,
           "{\"error\":\"Conversation not found\",\"code\":\"not_found\"}");
    expect(world, "POST", DELETE, NULL, 404, "Conversation not found");
    expect_with(world, "POST", DELETE, CHINESE, NULL, 404, "对话不存在");
}

static void
every_result_of_convo_svc_has_its_status(void **state)
{
    static const struct {
        fake_op op;
        const char *method, *path, *body;
    } rows[] = {
        {FAKE_CREATE, "POST", CREATE, "{\"title\":\"t\",\"model\":\"echo\"}"},
        {FAKE_LIST, "GET", LIST, NULL},
        {FAKE_HISTORY, "GET", HISTORY, NULL},
        {FAKE_DELETE, "POST", DELETE, NULL},
    };
    world_t *world = *state;
    char code[96];

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        script_t *script = &world->fakes.scripts[rows[i].op];
        for (svc_rc rc = RC_INVALID; rc < RC_COUNT; rc++) {
            script->rc = rc;
            snprintf(code, sizeof code, "\"code\":\"%s\"}", told_of(rc)->wire);
            expect(world, rows[i].method, rows[i].path, rows[i].body, told_of(rc)->http,
                   code);
        }
        script->rc = RC_BUSY;
        script->retry_after_s = 6;
        expect(world, rows[i].method, rows[i].path, rows[i].body, 503,
               "Retry-After: 6\r\n");
        expect_with(world, rows[i].method, rows[i].path, CHINESE, rows[i].body, 503,
                    "服务繁忙");
    }
}

static int
open_with_room(void **state)
{
    world_t *world = world_new();

    world->fakes.config.server_max_body_bytes = 100000;
    world_start(world);
    *state = world;
    return 0;
}

#define ROOMY_TEST(name) \
    cmocka_unit_test_setup_teardown(name, open_with_room, world_close)

static void
a_creation_goes_with_its_key(void **state)
{
    world_t *world = *state;
    static const char body[] = "{\"title\":\"t\",\"model\":\"echo\"}";
    uint8_t key[IDEM_KEY_BYTES];
    char own[PROTO_KEY_MAX_BYTES];

    expect(world, "POST", "/api/conversations/create", body, 200, "conversation_id");
    assert_int_equal(world->fakes.key_n, SVC_IDS_BYTES); /* of our own */
    memcpy(own, world->fakes.key, sizeof own);
    expect(world, "POST", "/api/conversations/create", body, 200, "conversation_id");
    assert_memory_not_equal(world->fakes.key, own, SVC_IDS_BYTES);
    expect_with(world, "POST", "/api/conversations/create", "Idempotency-Key: once\r\n",
                body, 200, "conversation_id");
    assert_true(idem_key_make(SVC_LIT("once"), IDEM_CREATE, key));
    assert_int_equal(world->fakes.key_n, sizeof key);
    assert_memory_equal(world->fakes.key, key, sizeof key);
    unsigned asked = world->fakes.scripts[FAKE_CREATE].n;
    expect_with(world, "POST", "/api/conversations/create", "Idempotency-Key: a b\r\n",
                body, 400, "Idempotency-Key must");
    assert_int_equal(world->fakes.scripts[FAKE_CREATE].n, asked);
    world->fakes.scripts[FAKE_CREATE].rc = RC_KEY_REUSED;
    expect_with(world, "POST", "/api/conversations/create", "Idempotency-Key: once\r\n",
                body, 422, "\"code\":\"key_reused\"");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(a_creation_goes_with_its_key),
        WORLD_TEST(create_tells_what_was_made),
        WORLD_TEST(fields_that_are_missing_or_none_are_named),
        ROOMY_TEST(fields_may_be_as_long_as_their_bound),
        WORLD_TEST(a_model_that_nobody_serves_is_refused),
        WORLD_TEST_UNSTARTED(before_the_models_are_known_nothing_is_made),
        WORLD_TEST(list_history_and_delete_ask_for_the_user),
        WORLD_TEST(a_body_that_delete_does_not_want_is_ignored),
        WORLD_TEST(what_is_not_the_users_is_not_found),
        WORLD_TEST(every_result_of_convo_svc_has_its_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
