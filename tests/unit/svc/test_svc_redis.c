/* test_svc_redis.c - a connection to a real Redis that is away, slow, refuses, and comes back.
 *
 * The breaker's times are the real ones: what must work again is waited for. */
#include "redis_fixture.h"

#include "svc/svc_redis.h"

typedef struct {
    fixture_t fixture; /* first */
    redis_t redis;
    svc_config_t *config;
    svc_redis_t *connection; /* under test */
} test_t;

/* `timeout_ms`: of one command. */
static int
setup_with(void **state, uint32_t timeout_ms)
{
    test_t *self = svc_alloc(sizeof(*self));
    char *error = NULL;

    fixture_open(&self->fixture, "auth-svc");
    redis_init(&self->redis);
    self->config = redis_config(&self->redis, "");
    self->fixture.ctx.config = self->config;
    self->connection = svc_redis_new(&self->fixture.ctx, timeout_ms, &error);
    assert_non_null(self->connection);
    *state = self;
    return 0;
}

/* With more time for a command than a busy machine takes. */
static int
setup(void **state)
{
    return setup_with(state, 10000);
}

static int
setup_hasty(void **state)
{
    return setup_with(state, SVC_REDIS_TIMEOUT_MS);
}

static int
teardown(void **state)
{
    test_t *self = *state;

    svc_redis_destroy(&self->connection);
    assert_null(self->connection);
    svc_redis_destroy(&self->connection);
    redis_stop(&self->redis);
    svc_config_destroy(&self->config);
    fixture_close(&self->fixture);
    free(self);
    return 0;
}

/* Whether a command gets a reply. */
static bool
is_used(void *arg)
{
    test_t *self = arg;
    redisReply *reply = svc_redis_command(self->connection, "INCR n");
    const bool used = reply != NULL;

    if (used) {
        assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
        freeReplyObject(reply);
    }
    return used;
}

static uint64_t
errors(const test_t *self)
{
    return fixture_count(&self->fixture, SVC_M_CACHE_ERRORS);
}

static void
commands_are_run_and_any_bytes_pass(void **state)
{
    test_t *self = *state;
    const char *argv[] = {"SET", "a\0b", "x\r\n%s\0"};
    const size_t lengths[] = {3, 3, 6};
    redisReply *reply;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    reply = svc_redis_run(self->connection, 3, argv, lengths);
    assert_non_null(reply);
    freeReplyObject(reply);
    reply = svc_redis_command(self->connection, "GET %b", "a\0b", (size_t)3);
    assert_non_null(reply);
    assert_int_equal(reply->len, 6);
    assert_memory_equal(reply->str, "x\r\n%s\0", 6);
    freeReplyObject(reply);
    assert_int_equal(redis_meddle(&self->redis, "DBSIZE"), 1); /* in the right database */
    assert_int_equal(errors(self), 0);
}

static void
one_that_is_away_is_asked_rarely_and_used_again_when_it_is_back(void **state)
{
    test_t *self = *state;
    const uint64_t began_ms = svc_mono_ms();

    if (!redis_is_installed())
        skip();
    assert_false(is_used(self));
    for (int i = 0; i < 100; i++)
        assert_false(is_used(self));
    /* 1, if a hundred commands take less than a second. */
    assert_true(errors(self) <= 1 + (svc_mono_ms() - began_ms) / 1000);
    redis_start(&self->redis, &self->fixture);
    fixture_run_until(&self->fixture, is_used, self);
    redis_stop(&self->redis);
    assert_false(is_used(self));
    redis_start(&self->redis, &self->fixture);
    fixture_run_until(&self->fixture, is_used, self);
}

static void
one_that_stands_still_is_given_up_and_its_late_replies_are_not_mistaken(void **state)
{
    test_t *self = *state;
    redisReply *reply;
    uint64_t before, began_ms;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    fixture_run_until(&self->fixture, is_used, self);
    before = errors(self);
    began_ms = svc_mono_ms();
    kill(self->redis.pid, SIGSTOP);
    assert_int_equal(waitpid(self->redis.pid, NULL, WUNTRACED), self->redis.pid);
    assert_null(svc_redis_command(self->connection, "SET k late"));
    for (int i = 0; i < 50; i++)
        assert_false(is_used(self));
    /* It is tried again after a second, however long this machine takes for one. */
    assert_in_range(errors(self) - before, 1, 1 + (svc_mono_ms() - began_ms) / 1000);
    kill(self->redis.pid, SIGCONT);
    for (int i = 0; i < 10; i++) { /* 50 ms may be too short for a busy machine */
        fixture_run_until(&self->fixture, is_used, self);
        reply = svc_redis_command(self->connection, "GET k");
        if (reply != NULL)
            break;
    }
    assert_non_null(reply);
    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    freeReplyObject(reply);
}

static void
an_error_or_a_senseless_reply_opens_the_breaker(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    assert_true(is_used(self));
    assert_null(svc_redis_command(self->connection, "LPUSH n x"));
    assert_false(is_used(self));
    assert_int_equal(errors(self), 1);
    fixture_run_until(&self->fixture, is_used, self);
    svc_redis_distrust(self->connection, "this is no number");
    assert_false(is_used(self));
    assert_int_equal(errors(self), 2);
}

static void
a_wrong_password_is_a_failure_like_others(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    self->config->redis_password[0] = 'X';
    assert_false(is_used(self));
    assert_int_equal(errors(self), 1);
    self->config->redis_password[0] = 's';
    fixture_run_until(&self->fixture, is_used, self);
}

static void
an_address_that_is_none_is_refused(void **state)
{
    static const char *const wrong[] = {":6379",      "host:", "host:0", "host:70000",
                                        "host:6379x", "[::1",  "[]:1",   "[::1]x"};
    static const char *const right[] = {"host", "host:1", "[::1]", "[::1]:6380"};
    test_t *self = *state;
    char *address = self->config->redis_address;
    char room[64];

    self->config->redis_address = room;
    for (size_t i = 0; i < SVC_COUNT(wrong); i++) {
        char *error = NULL;

        (void)snprintf(room, sizeof(room), "%s", wrong[i]);
        assert_null(svc_redis_new(&self->fixture.ctx, SVC_REDIS_TIMEOUT_MS, &error));
        assert_non_null(strstr(error, "redis.address"));
        assert_null(strchr(error, '\n'));
        free(error);
    }
    for (size_t i = 0; i < SVC_COUNT(right); i++) {
        svc_redis_t *connection;

        (void)snprintf(room, sizeof(room), "%s", right[i]);
        connection = svc_redis_new(&self->fixture.ctx, SVC_REDIS_TIMEOUT_MS,
                                   &(char *){NULL});
        assert_non_null(connection);
        svc_redis_destroy(&connection);
    }
    self->config->redis_address = address;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(commands_are_run_and_any_bytes_pass),
        TEST(one_that_is_away_is_asked_rarely_and_used_again_when_it_is_back),
        cmocka_unit_test_setup_teardown(
            one_that_stands_still_is_given_up_and_its_late_replies_are_not_mistaken,
            setup_hasty, teardown),
        TEST(an_error_or_a_senseless_reply_opens_the_breaker),
        TEST(a_wrong_password_is_a_failure_like_others),
        TEST(an_address_that_is_none_is_refused),
    };

    redis_say_if_missing();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
