/* test_throttle_shared.c - two replicas that count wrong passwords in one Redis, and a Redis that fails them.
 *
 * Each replica has a local table and a connection of its own, on one loop; pauses are the real ones,
 * so no test waits for a long one. */
#include "tests/unit/svc/redis_fixture.h"

#include "auth-svc/throttle_shared.h"

#define LIMIT 3
#define PATIENCE_MS \
    10000 /* where Redis answers: a busy machine is no reason to give up */

typedef struct test test_t;

/* One auth-svc, as far as it counts. */
typedef struct {
    throttle_t *local;
    throttle_shared_t *shared;
    test_t *test;
} replica_t;

struct test {
    fixture_t fixture; /* first */
    redis_t redis;
    svc_config_t *config;
    replica_t a, b;
    size_t told, wanted;             /* verdicts */
    throttle_shared_verdict verdict; /* the latest */
    throttle_state_t state;          /* that came with it */
};

static void
on_verdict(void *arg, const throttle_attempt_t *attempt, throttle_shared_verdict verdict,
           const throttle_state_t *state)
{
    replica_t *replica = arg;
    test_t *self = replica->test;
    uint64_t wait_s;

    self->told++;
    self->verdict = verdict;
    self->state = *state;
    if (verdict == THROTTLE_SHARED_NONE)
        (void)throttle_end(replica->local, attempt->key,
                           attempt->user == 0 ? THROTTLE_WRONG : THROTTLE_RIGHT,
                           svc_mono_ms(), &wait_s);
    else
        throttle_settle(replica->local, attempt->key, state, svc_mono_ms());
}

static void
open_replica(test_t *self, replica_t *replica, uint32_t patience_ms)
{
    static const uint8_t key[THROTTLE_KEY_BYTES] = "a key of tests.";
    char *error = NULL;

    replica->test = self;
    replica->local = throttle_new(LIMIT, 100, key);
    replica->shared = throttle_shared_new(&self->fixture.ctx, patience_ms, on_verdict,
                                          replica, &error);
    if (replica->shared == NULL)
        fail_msg("%s", error);
}

static void
close_replica(replica_t *replica)
{
    throttle_shared_destroy(&replica->shared);
    throttle_destroy(&replica->local);
}

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    fixture_open(&self->fixture, "auth-svc");
    redis_init(&self->redis);
    self->config = redis_config(&self->redis,
                                "auth: {guess_limit: 3, guess_window_s: 100}");
    self->fixture.ctx.config = self->config;
    open_replica(self, &self->a, PATIENCE_MS);
    open_replica(self, &self->b, PATIENCE_MS);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    close_replica(&self->a);
    close_replica(&self->b);
    assert_null(self->a.shared);
    throttle_shared_destroy(&self->a.shared);
    redis_stop(&self->redis);
    svc_config_destroy(&self->config);
    fixture_close(&self->fixture);
    free(self);
    return 0;
}

static bool
was_told(void *arg)
{
    const test_t *self = arg;

    return self->told >= self->wanted;
}

/* Ends an attempt that has begun, and waits for the verdict. */
static throttle_shared_verdict
end_attempt(test_t *self, replica_t *replica, uint64_t key, bool right)
{
    throttle_attempt_t attempt = {.key = key, .user = right ? 1 : 0};
    throttle_state_t known = throttle_look(replica->local, key, svc_mono_ms());

    self->wanted = self->told + 1;
    throttle_shared_end(replica->shared, &attempt, &known);
    fixture_run_until(&self->fixture, was_told, self);
    return self->verdict;
}

/* Begins an attempt; false: the local table refuses it. */
static bool
begin(replica_t *replica, uint64_t *key)
{
    uint64_t wait_s;

    return throttle_begin(replica->local, SVC_LIT("ann"), SVC_LIT("1.1.1.1"),
                          svc_mono_ms(), key, &wait_s) == RC_OK;
}

/* What the local table refuses for a pause of a second that began after `since_ms`; when that is over, it proves nothing. */
static void
assert_paused(replica_t *replica, uint64_t since_ms)
{
    uint64_t key;
    const bool begun = begin(replica, &key);

    assert_true(!begun || svc_mono_ms() - since_ms >= 1000);
}

/* A whole attempt that the local table must let begin. */
static throttle_shared_verdict
attempt(test_t *self, replica_t *replica, bool right)
{
    uint64_t key = 0;

    assert_true(begin(replica, &key));
    return end_attempt(self, replica, key, right);
}

static void
redis_judges_by_the_numbers_of_who_asks_now(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    throttle_shared_set(self->a.shared, 1, 100);
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    assert_int_equal(self->state.failures, 1);
    assert_int_equal(self->state.pause_s,
                     1); /* with LIMIT the first one would bring none */
}

static void
wrong_passwords_at_two_replicas_add_up(void **state)
{
    test_t *self = *state;
    throttle_shared_verdict verdict;
    uint64_t key, until_ms;
    bool begun;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    assert_int_equal(self->state.failures, 1);
    assert_int_equal(attempt(self, &self->b, false), THROTTLE_SHARED_COUNTED);
    assert_int_equal(self->state.failures, 2);
    assert_int_equal(self->state.rest_ms, 0);
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    assert_int_equal(self->state.failures, LIMIT);
    assert_int_equal(self->state.pause_s, 1);
    until_ms = svc_mono_ms() + self->state.rest_ms -
               1; /* the pause is short: what came after it proves nothing */
    begun = begin(&self->a, &key);
    assert_true(!begun || svc_mono_ms() >= until_ms); /* it has learned of the pause */
    verdict = attempt(self, &self->b,
                      true); /* b has not, but what it finds is not told */
    assert_true(verdict == THROTTLE_SHARED_THROTTLED || svc_mono_ms() >= until_ms);
    begun = begin(&self->b, &key);
    assert_true(!begun || svc_mono_ms() >= until_ms);
}

static bool
may_begin(void *arg)
{
    replica_t *replica = arg;
    uint64_t key, wait_s;

    if (!begin(replica, &key))
        return false;
    (void)throttle_end(replica->local, key, THROTTLE_UNDECIDED, svc_mono_ms(), &wait_s);
    return true;
}

static void
the_right_password_forgives_at_all_replicas(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    for (int i = 0; i < LIMIT; i++)
        assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    (void)attempt(self, &self->b, false); /* THROTTLED, as long as this takes under 1 s */
    fixture_run_until(&self->fixture, may_begin, &self->b);
    while (attempt(self, &self->b, true) == THROTTLE_SHARED_THROTTLED)
        fixture_run_until(&self->fixture, may_begin, &self->b);
    assert_int_equal(self->state.failures, 0);
    assert_int_equal(throttle_size(self->b.local), 0);
    /* a still remembers LIMIT failures, until it hears better; it may have heard of its pause late */
    fixture_run_until(&self->fixture, may_begin, &self->a);
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    assert_int_equal(self->state.failures, 1);
    assert_int_equal(self->state.pause_s, 0);
}

static void
right_passwords_leave_nothing_behind(void **state)
{
    test_t *self = *state;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    assert_int_equal(attempt(self, &self->a, true), THROTTLE_SHARED_COUNTED);
    assert_int_equal(redis_meddle(&self->redis, "DBSIZE"), 0);
    assert_int_equal(throttle_size(self->a.local), 0);
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    assert_int_equal(redis_meddle(&self->redis, "DBSIZE"), 1);
}

static void
an_emptied_redis_goes_on_from_what_a_replica_knows(void **state)
{
    test_t *self = *state;
    uint64_t began_ms;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    redis_meddle(&self->redis, "FLUSHALL");
    began_ms = svc_mono_ms();
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    assert_int_equal(self->state.failures, LIMIT);
    assert_int_equal(self->state.pause_s, 1);
    assert_paused(&self->a, began_ms);
}

static void
poisoned_records_count_as_missing(void **state)
{
    static const char *const poison[] = {
        "EVAL %s 0 failures x pause 0 first 0 last 0 till 0",
        "EVAL %s 0 failures -1 pause 0 first 0 last 0 till 0",
        "EVAL %s 0 failures inf pause 0 first 0 last 0 till 0",
        "EVAL %s 0 failures nan pause 0 first 0 last 0 till 0",
        "EVAL %s 0 failures 1 pause 1e9 first 0 last 0 till 0",
        "EVAL %s 0 failures 5 pause 1 first 0 last 0 till 99999999999999",
        "EVAL %s 0 failures 5 pause 1 first 99999999999999 last 0 till 0",
        "EVAL %s 0 failures 1.5 pause 1 first 0 last 0 till 0",
        "EVAL %s 0 other 1",
    };
    /* Over whatever key there is, since the test does not know its name. */
    static const char over_all[] =
        "for _, k in ipairs(redis.call('KEYS', 'llmb:guess:*')) do redis.call('DEL', k) "
        "redis.call('HSET', k, unpack(ARGV)) end return 1";
    test_t *self = *state;
    redisContext *redis;
    redisReply *reply;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    for (size_t i = 0; i < SVC_COUNT(poison); i++) {
        assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
        redis = redis_connect(&self->redis);
        assert_non_null(redis);
        reply = redisCommand(redis, poison[i], over_all);
        assert_int_equal(reply->integer, 1);
        freeReplyObject(reply);
        redisFree(redis);
        assert_int_equal(attempt(self, &self->a, true), THROTTLE_SHARED_COUNTED);
        assert_int_equal(self->state.failures, 0);
    }
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 0);
}

static void
a_key_of_another_type_leaves_the_verdict_to_the_local_table(void **state)
{
    test_t *self = *state;
    uint64_t key = 0, wait_s = 0;
    char command[80];

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    assert_true(begin(&self->a, &key));
    (void)throttle_end(self->a.local, key, THROTTLE_UNDECIDED, svc_mono_ms(), &wait_s);
    (void)snprintf(command, sizeof(command), "LPUSH llmb:guess:%016llx x",
                   (unsigned long long)key);
    assert_int_equal(redis_meddle(&self->redis, command), 1);
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_NONE);
    assert_int_equal(fixture_count(&self->fixture, SVC_M_CACHE_ERRORS), 1);
}

static void
without_redis_the_local_table_judges(void **state)
{
    test_t *self = *state;
    uint64_t key, began_ms = 0;

    for (int i = 0; i < LIMIT; i++) {
        began_ms = svc_mono_ms();
        assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_NONE);
    }
    assert_paused(&self->a, began_ms);
    assert_true(begin(&self->b, &key));
    assert_int_equal(end_attempt(self, &self->b, key, true), THROTTLE_SHARED_NONE);
}

static void
a_redis_that_stands_still_delays_nobody_for_long(void **state)
{
    test_t *self = *state;
    throttle_state_t known;
    throttle_attempt_t told;
    uint64_t key, began_ms;

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    assert_int_equal(attempt(self, &self->a, false), THROTTLE_SHARED_COUNTED);
    close_replica(&self->a);
    open_replica(self, &self->a, THROTTLE_SHARED_PATIENCE_MS);
    kill(self->redis.pid, SIGSTOP);
    began_ms = svc_mono_ms();
    self->wanted = self->told + 100;
    for (int i = 0; i < 100; i++) { /* all at once: none waits for those before it */
        uint64_t wait_s;
        char name[24];

        (void)snprintf(name, sizeof(name), "user %d", i);
        assert_int_equal(throttle_begin(self->a.local, svc_str_c(name),
                                        SVC_LIT("1.1.1.1"), svc_mono_ms(), &key, &wait_s),
                         RC_OK);
        known = throttle_look(self->a.local, key, svc_mono_ms());
        told = (throttle_attempt_t){.key = key, .user = 1};
        throttle_shared_end(self->a.shared, &told, &known);
    }
    fixture_run_until(&self->fixture, was_told, self);
    assert_true(svc_mono_ms() - began_ms < 3000); /* one after the other: 5 s */
    kill(self->redis.pid, SIGCONT);
}

static void
a_flood_is_bounded_and_each_attempt_is_told(void **state)
{
    test_t *self = *state;
    throttle_attempt_t told = {.user = 0};

    if (!redis_is_installed())
        skip();
    redis_start(&self->redis, &self->fixture);
    self->wanted = self->told + 3000;
    for (int i = 0; i < 3000; i++) {
        uint64_t wait_s;
        char name[24];

        (void)snprintf(name, sizeof(name), "user %d", i);
        assert_int_equal(throttle_begin(self->a.local, svc_str_c(name),
                                        SVC_LIT("1.1.1.1"), svc_mono_ms(), &told.key,
                                        &wait_s),
                         RC_OK);
        throttle_shared_end(self->a.shared, &told, &(throttle_state_t){0});
    }
    fixture_run_until(&self->fixture, was_told, self);
    assert_int_equal(self->told, self->wanted);
    assert_int_equal(throttle_size(self->a.local), 3000);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(redis_judges_by_the_numbers_of_who_asks_now),
        TEST(wrong_passwords_at_two_replicas_add_up),
        TEST(the_right_password_forgives_at_all_replicas),
        TEST(right_passwords_leave_nothing_behind),
        TEST(an_emptied_redis_goes_on_from_what_a_replica_knows),
        TEST(poisoned_records_count_as_missing),
        TEST(a_key_of_another_type_leaves_the_verdict_to_the_local_table),
        TEST(without_redis_the_local_table_judges),
        TEST(a_redis_that_stands_still_delays_nobody_for_long),
        TEST(a_flood_is_bounded_and_each_attempt_is_told),
    };

    redis_say_if_missing();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
