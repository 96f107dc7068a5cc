/* test_convo_cache_redis.c - a real redis-server on a free port: hits, stale values, and Redis that is away, slow or emptied.
 *
 * Without the binary the tests are skipped, and say so. */
#include "convo_fixture.h"

#include "convo-svc/convo_cache.h"

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

typedef struct {
    fixture_t fixture; /* first */
    svc_config_t *config;
    convo_cache_t *cache;
    pid_t redis; /* 0: does not run */
    int port;
    size_t called;
    size_t wanted;
    bool hit;
    char body[100];
    size_t n;
} test_t;

static int
free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static redisContext *
connect_redis(const test_t *self)
{
    redisContext *redis = redisConnect("127.0.0.1", self->port);

    if (redis != NULL && redis->err == 0)
        return redis;
    if (redis != NULL)
        redisFree(redis);
    return NULL;
}

static bool
redis_answers(void *arg)
{
    redisContext *redis = connect_redis(arg);
    redisReply *reply;
    bool ok;

    if (redis == NULL)
        return false;
    reply = redisCommand(redis, "AUTH sesame");
    ok = reply != NULL && reply->type == REDIS_REPLY_STATUS;
    if (reply != NULL)
        freeReplyObject(reply);
    redisFree(redis);
    return ok;
}

static void
start_redis(test_t *self)
{
    char port[16];

    snprintf(port, sizeof(port), "%d", self->port);
    self->redis = fork();
    if (self->redis == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server", "--port", port, "--save", "",
               "--requirepass", "sesame", "--bind", "127.0.0.1", "--loglevel", "warning",
               "--logfile", "/dev/null", "--dir", "/tmp", (char *)NULL);
        _exit(127);
    }
    fixture_run_until(&self->fixture, redis_answers, self);
}

static void
stop_redis(test_t *self)
{
    if (self->redis == 0)
        return;
    kill(self->redis, SIGKILL);
    assert_int_equal(waitpid(self->redis, NULL, 0), self->redis);
    self->redis = 0;
}

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

static bool
is_installed(void)
{
    return system("command -v redis-server >/dev/null 2>&1") == 0;
}

static svc_config_t *
make_config(int port)
{
    char yaml[200];
    char *error = NULL;
    svc_config_t *config;

    snprintf(
        yaml, sizeof(yaml),
        "redis: {address: \"127.0.0.1:%d\", password: \"sesame\", db: 2, ttl_s: 100}\n",
        port);
    config = svc_config_parse(svc_str_c(yaml), "test", false, &error);
    if (config == NULL)
        print_error("%s\n", error);
    assert_non_null(config);
    return config;
}

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));
    char *error = NULL;

    fixture_open(&self->fixture, "convo-svc");
    self->port = free_port();
    self->config = make_config(self->port);
    self->fixture.ctx.config = self->config;
    self->cache = convo_cache_redis_new(&self->fixture.ctx, on_got, self, &error);
    assert_non_null(self->cache);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    convo_cache_destroy(&self->cache);
    stop_redis(self);
    svc_config_destroy(&self->config);
    fixture_close(&self->fixture);
    free(self);
    return 0;
}

/* Runs a command as somebody else would, in the same database. */
static void
command(test_t *self, const char *text)
{
    redisContext *redis = connect_redis(self);

    assert_non_null(redis);
    freeReplyObject(redisCommand(redis, "AUTH sesame"));
    freeReplyObject(redisCommand(redis, "SELECT 2"));
    freeReplyObject(redisCommand(redis, text));
    redisFree(redis);
}

static void
gives_a_body_for_its_version_only(void **state)
{
    test_t *self = *state;

    if (!is_installed())
        skip();
    start_redis(self);
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

    if (!is_installed())
        skip();
    start_redis(self);
    self->cache->api->put(self->cache, 77, 5, SVC_LIT("body"));
    assert_true(has(self, 77, 5));
    redis = connect_redis(self);
    freeReplyObject(redisCommand(redis, "AUTH sesame"));
    freeReplyObject(redisCommand(redis, "SELECT 2"));
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

    if (!is_installed())
        skip();
    start_redis(self);
    self->cache->api->put(self->cache, 1, 5, SVC_LIT("body"));
    assert_true(has(self, 1, 5));
    command(self, "FLUSHALL");
    assert_false(has(self, 1, 5));
    command(self, "SET llmb:convo:1 rubbish");
    assert_false(has(self, 1, 5));
    command(self, "SET llmb:convo:1 5");
    assert_false(has(self, 1, 5));
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 0);
    command(self, "DEL llmb:convo:1");
    command(self, "LPUSH llmb:convo:1 x");
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

    if (!is_installed())
        skip();
    assert_false(has(self, 1, 5));
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 1);
    began = svc_mono_ms();
    for (int i = 0; i < 100; i++)
        assert_false(has(self, 1, 5));
    assert_true(svc_mono_ms() - began < 5000);
    assert_true(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS) <= 4);
    start_redis(self);
    wait_for_hit(self);
    stop_redis(self);
    assert_false(has(self, 1, 5));
    start_redis(self);
    wait_for_hit(self);
}

static void
redis_that_stands_still_costs_50_ms_once(void **state)
{
    test_t *self = *state;
    uint64_t began;

    if (!is_installed())
        skip();
    start_redis(self);
    self->cache->api->put(self->cache, 1, 5, SVC_LIT("body"));
    assert_true(has(self, 1, 5));
    kill(self->redis, SIGSTOP);
    began = svc_mono_ms();
    assert_false(has(self, 1, 5));
    for (int i = 0; i < 50; i++)
        assert_false(has(self, 1, 5));
    assert_true(svc_mono_ms() - began < 1000);
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 1);
    kill(self->redis, SIGCONT);
    wait_for_hit(self);
}

static void
a_wrong_password_is_a_miss(void **state)
{
    test_t *self = *state;

    if (!is_installed())
        skip();
    start_redis(self);
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

    if (!is_installed())
        skip();
    start_redis(self);
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
        TEST(redis_that_stands_still_costs_50_ms_once),
        TEST(a_wrong_password_is_a_miss),
        TEST(a_flood_is_bounded_and_every_get_is_answered),
        TEST(an_address_that_is_none_is_refused_at_start),
    };

    if (!is_installed())
        print_message("redis-server is not installed: its tests are skipped\n");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
