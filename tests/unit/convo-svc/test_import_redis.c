/* test_import_redis.c - the original's Redis: what stands under a key, and which keys there are.
 *
 * Against a real redis-server, and against addresses where none is. */
#include "tests/unit/svc/redis_fixture.h"

#include "convo-svc/import_redis.h"

static fixture_t fixture;
static redis_t redis;

static int
setup(void **state)
{
    (void)state;
    fixture_open(&fixture, "convo-svc");
    redis_init(&redis);
    if (redis_is_installed())
        redis_start(&redis, &fixture);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    redis_stop(&redis);
    fixture_close(&fixture);
    return 0;
}

static import_redis_t *
open_redis(void)
{
    char where[64];
    char *error = NULL;
    import_redis_t *self;

    (void)snprintf(where, sizeof(where), "127.0.0.1:%d/2", redis.port);
    self = import_redis_open(where, "sesame", &error);
    if (self == NULL)
        fail_msg("%s", error);
    return self;
}

static void
assert_no_redis(const char *where, const char *password, const char *words)
{
    char *error = NULL;

    assert_null(import_redis_open(where, password, &error));
    if (strstr(error, words) == NULL || strchr(error, '\n') != NULL)
        fail_msg("%s: %s", where, error);
    free(error);
}

static void
addresses_that_are_none_are_told(void **state)
{
    static const char *const rows[] = {"",     "/1",   "h:",     "h:x",     "h:0",
                                       ":1",   "h:1/", "h:1/x",  "h:70000", "h:1/70000",
                                       "[::1", "[]:1", "[::1]1", "h:1/-1",  "h: 1"};
    char long_one[400];

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++)
        assert_no_redis(rows[i], NULL, "is not host:port");
    memset(long_one, 'h', sizeof(long_one) - 1);
    long_one[sizeof(long_one) - 1] = '\0';
    assert_no_redis(long_one, NULL, "is not host:port");
    assert_no_redis("127.0.0.1:1", NULL, "the original's Redis: Connection refused");
    assert_no_redis("[::1]:1/3", NULL, "the original's Redis: ");
}

static void
a_wrong_password_is_told(void **state)
{
    char where[64];

    (void)state;
    if (!redis_is_installed())
        skip();
    (void)snprintf(where, sizeof(where), "127.0.0.1:%d", redis.port);
    assert_no_redis(where, "guessed", "WRONGPASS");
    assert_no_redis(where, NULL, "NOAUTH");
}

static void
values_are_strings_of_a_bounded_length(void **state)
{
    import_redis_t *self;
    svc_buf_t value;
    char *error = NULL;

    (void)state;
    if (!redis_is_installed())
        skip();
    self = open_redis();
    svc_buf_init(&value, 10);
    assert_int_equal(import_redis_get(self, SVC_LIT("1"), &value, &error), RC_NOT_FOUND);
    (void)redis_meddle(&redis, "SET conversation:1 0123456789");
    assert_int_equal(import_redis_get(self, SVC_LIT("1"), &value, &error), RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&value), SVC_LIT("0123456789")));
    (void)redis_meddle(&redis, "SET conversation:1 0123456789a");
    assert_int_equal(import_redis_get(self, SVC_LIT("1"), &value, &error), RC_TOO_BIG);
    (void)redis_meddle(&redis, "RPUSH conversation:2 a");
    assert_int_equal(import_redis_get(self, SVC_LIT("2"), &value, &error), RC_INVALID);
    assert_int_equal(value.n, 0);
    assert_null(error);
    redis_stop(&redis);
    assert_int_equal(import_redis_get(self, SVC_LIT("1"), &value, &error),
                     RC_UNAVAILABLE);
    assert_non_null(strstr(error, "the original's Redis: "));
    free(error);
    redis_start(&redis, &fixture);
    svc_buf_fini(&value);
    import_redis_close(&self);
    import_redis_close(&self);
}

static bool
count(void *arg, svc_str id)
{
    size_t *n = arg;

    assert_true(id.n > 0);
    return ++*n < 3000;
}

static void
keys_are_handed_out_page_by_page(void **state)
{
    import_redis_t *self;
    char *error = NULL;
    size_t n = 0;

    (void)state;
    if (!redis_is_installed())
        skip();
    (void)redis_meddle(&redis, "FLUSHDB");
    self = open_redis();
    assert_true(import_redis_each(self, count, &n, &error));
    assert_int_equal(n, 0);
    for (int i = 0; i < 40; i++) {
        char command[64];

        (void)snprintf(command, sizeof(command), "SET conversation:%d x", i);
        (void)redis_meddle(&redis, command);
        (void)snprintf(command, sizeof(command), "SET other:%d x", i);
        (void)redis_meddle(&redis, command);
    }
    assert_true(import_redis_each(self, count, &n, &error));
    assert_int_equal(n, 40);
    n = 3000;
    assert_false(import_redis_each(self, count, &n, &error));
    assert_null(error);
    redis_stop(&redis);
    assert_false(import_redis_each(self, count, &n, &error));
    assert_non_null(error);
    free(error);
    import_redis_close(&self);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_that_are_none_are_told),
        cmocka_unit_test(a_wrong_password_is_told),
        cmocka_unit_test(values_are_strings_of_a_bounded_length),
        cmocka_unit_test(keys_are_handed_out_page_by_page),
    };

    redis_say_if_missing();
    return cmocka_run_group_tests(tests, setup, teardown);
}
