/* test_svc_redis_pool.c - jobs that cross to the thread with a real Redis, and come back.
 *
 * Without the binary what needs it is skipped, and says so. */
#include "redis_fixture.h"

#include "svc/svc_redis_pool.h"

#define QUEUE_MAX 4
#define MAX_BYTES 64

/* A job: appends `text` to the key that has its number; answers how long the value is now. */
typedef struct {
    uint64_t number;
    svc_str text;
} message_t;

// clang-format off
static const proto_field_t fields[] = {
    /* key     type       must  min max         where sub */
    {"number", PROTO_U64, true, 0,  UINT64_MAX, offsetof(message_t, number), NULL},
    {"text",   PROTO_BIN, true, 0,  100,        offsetof(message_t, text), NULL},
};
// clang-format on

static const proto_schema_t schema = {"append", fields, SVC_COUNT(fields),
                                      sizeof(message_t)};

typedef struct {
    fixture_t fixture; /* first */
    redis_t redis;
    svc_config_t *config;
    svc_redis_pool_t *pool; /* under test */
    size_t n_done, wanted;
    uint64_t tags;    /* decimal digits, in order */
    svc_rc rc;        /* of the last */
    char results[40]; /* one behind the other */
} test_t;

static void
run(svc_ctx_t *ctx, svc_redis_t *redis, svc_job_t *job, const void *message)
{
    const message_t *append = message;
    redisReply *reply = svc_redis_command(redis, "APPEND k%llu %b",
                                          (unsigned long long)append->number,
                                          append->text.p, append->text.n);
    char text[24] = "";

    assert_string_equal(ctx->service, "auth-svc");
    if (reply != NULL)
        snprintf(text, sizeof(text), "%u:%lld ", svc_job_kind(job), reply->integer);
    svc_job_done(job, reply == NULL ? RC_UNAVAILABLE : RC_OK, svc_str_c(text));
    if (reply != NULL)
        freeReplyObject(reply);
}

static const svc_redis_pool_config_t pool_config = {.schema = &schema,
                                                    .message_max_bytes = MAX_BYTES,
                                                    .timeout_ms = 10000,
                                                    .max_queued = QUEUE_MAX,
                                                    .run = run};

static void
on_done(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    test_t *self = arg;
    size_t n = strlen(self->results);

    self->n_done++;
    self->tags = self->tags * 10 + tag;
    self->rc = rc;
    snprintf(self->results + n, sizeof(self->results) - n, "%.*s", (int)result.n,
             result.n == 0 ? "" : result.p);
}

static bool
are_done(void *arg)
{
    const test_t *self = arg;

    return self->n_done == self->wanted;
}

static svc_rc
submit(test_t *self, uint32_t kind, const char *text, uint64_t tag)
{
    const message_t message = {.number = 7, .text = svc_str_c(text)};
    svc_rc rc = svc_redis_pool_submit(self->pool, kind, &message, on_done, self, tag);

    self->wanted += rc == RC_OK ? 1 : 0;
    return rc;
}

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));
    char *error = NULL;

    fixture_open(&self->fixture, "auth-svc");
    redis_init(&self->redis);
    self->config = redis_config(&self->redis, "");
    self->fixture.ctx.config = self->config;
    self->pool = svc_redis_pool_new(&self->fixture.ctx, &pool_config, &error);
    assert_non_null(self->pool);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    svc_redis_pool_destroy(&self->pool);
    assert_null(self->pool);
    svc_redis_pool_destroy(&self->pool);
    redis_stop(&self->redis);
    svc_config_destroy(&self->config);
    fixture_close(&self->fixture);
    free(self);
    return 0;
}

static void
jobs_are_run_in_order_and_their_results_come_back(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    assert_int_equal(submit(self, 0, "one", 1), RC_OK);
    assert_int_equal(submit(self, 5, "", 2), RC_OK);
    assert_int_equal(submit(self, 0, "three", 3), RC_OK);
    fixture_run_until(&self->fixture, are_done, self);
    assert_string_equal(self->results, "0:3 5:3 0:8 ");
    assert_int_equal(self->tags, 123);
    assert_int_equal(self->rc, RC_OK);
}

static void
without_redis_a_job_ends_all_the_same(void **state)
{
    test_t *self = *state;

    assert_int_equal(submit(self, 0, "x", 1), RC_OK);
    fixture_run_until(&self->fixture, are_done, self);
    assert_int_equal(self->rc, RC_UNAVAILABLE);
}

static void
what_does_not_fit_is_refused_at_once(void **state)
{
    test_t *self = *state;
    char text[100];
    svc_rc rc = RC_OK;

    memset(text, 'x', sizeof(text));
    text[MAX_BYTES] = '\0';
    assert_int_equal(submit(self, 0, text, 1), RC_TOO_BIG);
    for (int i = 0; i < 2 * QUEUE_MAX + 2 && rc == RC_OK; i++)
        rc = submit(self, 0, "x", 1); /* the loop does not turn meanwhile */
    assert_int_equal(rc, RC_BUSY);
    fixture_run_until(&self->fixture, are_done, self);
}

static void
what_is_queued_at_the_end_is_nobodys_any_more(void **state)
{
    test_t *self = *state;

    assert_int_equal(submit(self, 0, "x", 1), RC_OK);
    assert_int_equal(submit(self, 0, "x", 2), RC_OK);
    svc_redis_pool_destroy(&self->pool);
    assert_int_equal(self->n_done, 0);
}

static void
an_address_that_is_none_is_told(void **state)
{
    test_t *self = *state;
    svc_redis_pool_t *pool;
    char *error = NULL;

    self->config->redis_address[0] = '[';
    pool = svc_redis_pool_new(&self->fixture.ctx, &pool_config, &error);
    assert_null(pool);
    assert_non_null(strstr(error, "redis.address"));
    free(error);
}

typedef struct {
    svc_health_t *health;
    const char *wanted;
} telling_t;

static bool
is_told(void *arg)
{
    const telling_t *self = arg;
    svc_buf_t out;
    bool is;

    svc_buf_init(&out, SVC_HEALTH_MAX_BYTES);
    assert_true(
        svc_health_tell_ready(self->health, &out)); /* nobody needs it that much */
    is = out.n == strlen(self->wanted) && memcmp(out.p, self->wanted, out.n) == 0;
    svc_buf_fini(&out);
    return is;
}

static void
a_redis_that_is_away_is_told_without_a_job(void **state)
{
    test_t *self = *state;
    telling_t telling = {svc_health_new(SVC_HEALTH_STUCK_MS),
                         "{\"status\":\"ok\",\"degraded\":[\"redis\"]}"};
    char *error = NULL;

    svc_redis_pool_destroy(&self->pool);
    svc_health_set_started(telling.health);
    self->fixture.ctx.health = telling.health;
    self->pool = svc_redis_pool_new(&self->fixture.ctx, &pool_config, &error);
    assert_non_null(self->pool);
    fixture_run_until(&self->fixture, is_told, &telling);
    telling.wanted = "{\"status\":\"ok\"}";
    if (redis_is_installed()) {
        redis_start(&self->redis, &self->fixture);
        fixture_run_until(&self->fixture, is_told, &telling);
    }
    svc_redis_pool_destroy(&self->pool);
    assert_true(is_told(&telling)); /* who is gone misses nothing */
    svc_health_destroy(&telling.health);
    self->fixture.ctx.health = NULL;
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(jobs_are_run_in_order_and_their_results_come_back),
        TEST(without_redis_a_job_ends_all_the_same),
        TEST(what_does_not_fit_is_refused_at_once),
        TEST(what_is_queued_at_the_end_is_nobodys_any_more),
        TEST(a_redis_that_is_away_is_told_without_a_job),
        TEST(an_address_that_is_none_is_told),
    };

    redis_say_if_missing();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
