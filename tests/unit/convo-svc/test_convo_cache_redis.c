/* test_convo_cache_redis.c - a real redis-server on a free port: hits, stale values, and Redis that is away, slow or emptied.
 *
 * Without the binary the tests are skipped, and say so. */
#include "tests/unit/svc/redis_fixture.h"

#include "convo-svc/convo_cache.h"

typedef struct {
    fixture_t fixture; /* first */
    svc_config_t *config;
    convo_cache_t *cache;
    redis_t redis;
    size_t called;
    size_t wanted;
    bool hit;
    char body[100];
    size_t n;
} test_t;

static void
on_got(void *arg, uint64_t tag, bool hit, svc_str body)
{
    test_t *self = arg;

    assert_int_equal(tag, 5);
    self->called++;
    self->hit = hit;
    self->n = body.n < sizeof(self->body) ? body.n : sizeof(self->body);
    memcpy(self->body, body.n == 0 ? "" : body.p, self->n);
}

static bool
was_called(void *arg)
{
    const test_t *self = arg;

    return self->called == self->wanted;
}

static bool
has(test_t *self, uint64_t id, uint64_t version)
{
    self->wanted = self->called + 1;
    self->cache->api->get(self->cache, id, version, 5);
    fixture_run_until(&self->fixture, was_called, self);
    return self->hit;
}

/* `timeout_ms`: of one command; 0: the real one, which a busy machine may use up by itself. */
static int
setup_with(void **state, uint32_t timeout_ms)
{
    test_t *self = svc_alloc(sizeof(*self));
    char *error = NULL;

    fixture_open(&self->fixture, "convo-svc");
    redis_init(&self->redis);
    self->config = redis_config(&self->redis, "");
    self->fixture.ctx.config = self->config;
    self->fixture.ctx.redis_timeout_ms = timeout_ms;
    self->cache = convo_cache_redis_new(&self->fixture.ctx, on_got, self, &error);
    assert_non_null(self->cache);
    *state = self;
    return 0;
}

static int
setup(void **state)
{
    return setup_with(state, 10000);
}

static int
setup_hasty(void **state)
{
    return setup_with(state, 0);
}

static int
teardown(void **state)
{
    test_t *self = *state;

    convo_cache_destroy(&self->cache);
    redis_stop(&self->redis);
    svc_config_destroy(&self->config);
    fixture_close(&self->fixture);
    free(self);
    return 0;
}

static void
gives_a_body_for_its_version_only(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    assert_false(has(self, 1, 5));
    self->cache->api->put(self->cache, 1, 5, SVC_LIT("with \0 and\n %s"));
    assert_true(has(self, 1, 5));
    assert_int_equal(self->n, 14);
    assert_memory_equal(self->body, "with \0 and\n %s", 14);
    assert_false(has(self, 1, 6));
    assert_false(has(self, 1, 55));
    assert_false(has(self, 2, 5));
    self->cache->api->put(self->cache, 1, 6, SVC_LIT("new"));
    assert_false(has(self, 1, 5));
    assert_true(has(self, 1, 6));
    self->cache->api->forget(self->cache, 1);
    assert_false(has(self, 1, 6));
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 0);
}

static void
writes_the_documented_key_with_a_time_to_live(void **state)
{
    test_t *self = *state;
    redisContext *redis;
    redisReply *reply;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    self->cache->api->put(self->cache, 77, 5, SVC_LIT("body"));
    assert_true(has(self, 77, 5));
    redis = redis_connect(&self->redis);
    reply = redisCommand(redis, "GET llmb:convo:77");
    assert_string_equal(reply->str, "5\nbody");
    freeReplyObject(reply);
    reply = redisCommand(redis, "TTL llmb:convo:77");
    assert_in_range(reply->integer, 1, 100);
    freeReplyObject(reply);
    redisFree(redis);
}

static void
values_of_others_and_an_emptied_redis_are_misses(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    self->cache->api->put(self->cache, 1, 5, SVC_LIT("body"));
    assert_true(has(self, 1, 5));
    redis_meddle(&self->redis, "FLUSHALL");
    assert_false(has(self, 1, 5));
    redis_meddle(&self->redis, "SET llmb:convo:1 rubbish");
    assert_false(has(self, 1, 5));
    redis_meddle(&self->redis, "SET llmb:convo:1 5");
    assert_false(has(self, 1, 5));
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 0);
    redis_meddle(&self->redis, "DEL llmb:convo:1");
    redis_meddle(&self->redis, "LPUSH llmb:convo:1 x");
    assert_false(has(self, 1, 5));
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 1);
}

static bool
has_again(void *arg)
{
    test_t *self = arg;

    self->cache->api->put(self->cache, 1, 5, SVC_LIT("body"));
    return self->called == self->wanted && self->hit;
}

/* Waits until Redis is used again. */
static void
wait_for_hit(test_t *self)
{
    for (int i = 0; i < 100; i++) {
        self->cache->api->put(self->cache, 1, 5, SVC_LIT("body"));
        if (has(self, 1, 5))
            return;
        fixture_run_for(&self->fixture, 200);
    }
    assert_true(has_again(self));
}

static void
redis_that_is_away_is_a_quick_miss_until_it_comes_back(void **state)
{
    test_t *self = *state;
    uint64_t began;

    if (!redis_is_installed())
        skip();
    assert_false(has(self, 1, 5));
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 1);
    began = svc_mono_ms();
    for (int i = 0; i < 100; i++)
        assert_false(has(self, 1, 5));
    assert_true(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS) <=
                2 + (svc_mono_ms() - began) / 1000);
    redis_start(&self->redis, &self->fixture);
    wait_for_hit(self);
    redis_stop(&self->redis);
    assert_false(has(self, 1, 5));
    redis_start(&self->redis, &self->fixture);
    wait_for_hit(self);
}

static void
redis_that_stands_still_costs_50_ms_once(void **state)
{
    test_t *self = *state;
    uint64_t began, before;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    wait_for_hit(self);
    before = fixture_count(&self->fixture, SVC_M_CACHE_ERRORS);
    kill(self->redis.pid, SIGSTOP);
    began = svc_mono_ms();
    assert_false(has(self, 1, 5));
    for (int i = 0; i < 50; i++)
        assert_false(has(self, 1, 5));
    /* It is tried again after a second, however long this machine takes for one. */
    assert_in_range(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS) - before, 1,
                    1 + (svc_mono_ms() - began) / 1000);
    kill(self->redis.pid, SIGCONT);
    wait_for_hit(self);
}

static void
a_wrong_password_is_a_miss(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    convo_cache_destroy(&self->cache);
    self->config->redis_password[0] = 'X';
    self->cache = convo_cache_redis_new(&self->fixture.ctx, on_got, self,
                                        &(char *){NULL});
    assert_non_null(self->cache);
    assert_false(has(self, 1, 5));
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 1);
}

static void
a_flood_is_bounded_and_every_get_is_answered(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    self->wanted = self->called + 1000;
    for (int i = 0; i < 1000; i++)
        self->cache->api->get(self->cache, 1, 5, 5);
    fixture_run_until(&self->fixture, was_called, self);
}

static void
an_address_that_is_none_is_refused_at_start(void **state)
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

        snprintf(room, sizeof(room), "%s", wrong[i]);
        assert_null(convo_cache_redis_new(&self->fixture.ctx, on_got, self, &error));
        assert_non_null(strstr(error, "redis.address"));
        free(error);
    }
    for (size_t i = 0; i < SVC_COUNT(right); i++) {
        convo_cache_t *cache;

        snprintf(room, sizeof(room), "%s", right[i]);
        cache = convo_cache_redis_new(&self->fixture.ctx, on_got, self, &(char *){NULL});
        assert_non_null(cache);
        convo_cache_destroy(&cache);
    }
    self->config->redis_address = address;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(gives_a_body_for_its_version_only),
        TEST(writes_the_documented_key_with_a_time_to_live),
        TEST(values_of_others_and_an_emptied_redis_are_misses),
        TEST(redis_that_is_away_is_a_quick_miss_until_it_comes_back),
        cmocka_unit_test_setup_teardown(redis_that_stands_still_costs_50_ms_once,
                                        setup_hasty, teardown),
        TEST(a_wrong_password_is_a_miss),
        TEST(a_flood_is_bounded_and_every_get_is_answered),
        TEST(an_address_that_is_none_is_refused_at_start),
    };

    redis_say_if_missing();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
