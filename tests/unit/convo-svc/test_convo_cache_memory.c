/* test_convo_cache_memory.c - a body for exactly its version, and never more bytes than allowed.
 *
 * The tag that a get carries comes back with what it found, before the get returns. */
#include "convo_fixture.h"

#include "convo-svc/convo_cache.h"

typedef struct {
    svc_metrics_t *metrics;
    convo_cache_t *cache;
    int called;
    uint64_t tag;
    bool hit;
    char body[4096];
    size_t n;
} test_t;

static void
on_got(void *arg, uint64_t tag, bool hit, svc_str body)
{
    test_t *self = arg;

    self->called++;
    self->tag = tag;
    self->hit = hit;
    self->n = body.n;
    assert_true(body.n <= sizeof(self->body));
    if (body.n > 0)
        memcpy(self->body, body.p, body.n);
}

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    self->metrics = svc_metrics_new();
    self->cache = convo_cache_memory_new(16384, self->metrics, on_got, self);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    convo_cache_destroy(&self->cache);
    svc_metrics_destroy(&self->metrics);
    free(self);
    return 0;
}

static bool
has(test_t *self, uint64_t id, uint64_t version, const char *body)
{
    int before = self->called;

    self->cache->api->get(self->cache, id, version, 55);
    assert_int_equal(self->called, before + 1);
    assert_int_equal(self->tag, 55);
    if (self->hit)
        assert_true(svc_str_eq((svc_str){self->body, self->n}, svc_str_c(body)));
    return self->hit;
}

static void
gives_a_body_for_its_version_only(void **state)
{
    test_t *self = *state;
    const convo_cache_api_t *api = self->cache->api;

    assert_false(has(self, 1, 1, ""));
    api->put(self->cache, 1, 5, SVC_LIT("five"));
    assert_true(has(self, 1, 5, "five"));
    assert_false(has(self, 2, 5, ""));
    api->put(self->cache, 1, 6, SVC_LIT("six"));
    assert_true(has(self, 1, 6, "six"));
    assert_false(has(self, 1, 5, ""));
    assert_false(has(self, 1, 6, "")); /* versions never come back: it was dropped */
    api->put(self->cache, 1, 7, SVC_LIT("seven"));
    api->forget(self->cache, 1);
    api->forget(self->cache, 1);
    assert_false(has(self, 1, 7, ""));
    assert_int_equal(svc_metrics_get(self->metrics, SVC_M_CACHE_HITS), 2);
    assert_int_equal(svc_metrics_get(self->metrics, SVC_M_CACHE_MISSES), 5);
}

static void
drops_what_was_used_longest_ago_when_full(void **state)
{
    test_t *self = *state;
    char body[1025];

    memset(body, 'b', 1024);
    body[1024] = '\0';
    for (uint64_t id = 1; id <= 14; id++)
        self->cache->api->put(self->cache, id, 1, svc_str_c(body));
    assert_true(has(self, 1, 1, body));
    self->cache->api->put(self->cache, 15, 1, svc_str_c(body));
    assert_true(has(self, 1, 1, body));
    assert_false(has(self, 2, 1, ""));
    assert_true(has(self, 3, 1, body));
    assert_true(has(self, 15, 1, body));
}

static void
does_not_keep_what_is_too_large(void **state)
{
    test_t *self = *state;
    char body[3000];

    memset(body, 'b', sizeof(body));
    self->cache->api->put(self->cache, 1, 1, SVC_LIT("old"));
    self->cache->api->put(self->cache, 1, 2, (svc_str){body, sizeof(body)});
    assert_false(has(self, 1, 2, ""));
    assert_false(has(self, 1, 1, ""));
}

static void
survives_a_missing_allocation(void **state)
{
    test_t *self = *state;

    svc_alloc_fail_after(1);
    self->cache->api->put(self->cache, 1, 1, SVC_LIT("x"));
    svc_alloc_fail_after(0);
    assert_false(has(self, 1, 1, ""));
    self->cache->api->put(self->cache, 1, 1, SVC_LIT("x"));
    assert_true(has(self, 1, 1, "x"));
}

static void
agrees_with_a_plain_model_over_random_use(void **state)
{
    test_t *self = *state;
    uint64_t versions[32] = {0};
    unsigned seed = 1;

    for (int i = 0; i < 20000; i++) {
        uint64_t id = (uint64_t)(rand_r(&seed) % 32);
        char body[64];

        snprintf(body, sizeof(body), "%u-%u", (unsigned)id, (unsigned)versions[id]);
        switch (rand_r(&seed) % 4) {
        case 0: versions[id]++; break;
        case 1:
            self->cache->api->put(self->cache, id, versions[id], svc_str_c(body));
            break;
        case 2: self->cache->api->forget(self->cache, id); break;
        default: (void)has(self, id, versions[id], body); break;
        }
    }
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(gives_a_body_for_its_version_only),
        TEST(drops_what_was_used_longest_ago_when_full),
        TEST(does_not_keep_what_is_too_large),
        TEST(survives_a_missing_allocation),
        TEST(agrees_with_a_plain_model_over_random_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
