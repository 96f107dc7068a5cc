/* test_svc_health.c - what is told of a process from what its loops and parts have noted.
 *
 * Time-outs of milliseconds; what is told is compared byte by byte. */
#include "svc/svc_health.h"

#include "svc/svc_time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define STUCK_MS 200 /* a loop of a test that has not turned for so long is stuck */

typedef bool tell_fn(svc_health_t *self, svc_buf_t *out);

static void
assert_told(svc_health_t *health, tell_fn *tell, bool good, const char *wanted)
{
    svc_buf_t out;

    svc_buf_init(&out, SVC_HEALTH_MAX_BYTES);
    assert_int_equal(tell(health, &out), good);
    assert_int_equal(out.n, strlen(wanted));
    assert_memory_equal(out.p, wanted, out.n);
    svc_buf_fini(&out);
}

static void
assert_ready(svc_health_t *health, bool good, const char *wanted)
{
    assert_told(health, svc_health_tell_ready, good, wanted);
}

static void
assert_alive(svc_health_t *health, bool good, const char *wanted)
{
    assert_told(health, svc_health_tell_alive, good, wanted);
}

static void
starts_then_serves_then_drains(void **state)
{
    svc_health_t *health = svc_health_new(STUCK_MS);

    (void)state;
    assert_ready(health, false, "{\"status\":\"starting\"}");
    svc_health_set_started(health);
    assert_ready(health, true, "{\"status\":\"ok\"}");
    svc_health_set_draining(health);
    assert_ready(health, false, "{\"status\":\"draining\"}");
    assert_alive(health, true, "{\"status\":\"ok\"}");
    svc_health_destroy(&health);
    assert_null(health);
    svc_health_destroy(&health);
}

static void
what_is_missing_is_named_and_what_is_optional_only_degrades(void **state)
{
    svc_health_t *health = svc_health_new(STUCK_MS);
    svc_need_t convo, database, redis, llm;

    (void)state;
    svc_health_set_started(health);
    svc_health_add_need(health, &convo, "convo-svc", false, 2);
    svc_health_add_need(health, &redis, "redis", true, 1);
    svc_health_add_need(health, &database, "postgresql", false, 1);
    svc_health_add_need(health, &llm, "llm-svc", true, 1);
    assert_ready(
        health, false,
        "{\"status\":\"unavailable\",\"missing\":[\"convo-svc\",\"postgresql\"]}");
    svc_need_set(&database, true);
    svc_need_gain(&convo);
    assert_true(svc_need_is_missing(&convo)); /* by the other part */
    assert_ready(health, false,
                 "{\"status\":\"unavailable\",\"missing\":[\"convo-svc\"]}");
    svc_need_gain(&convo);
    assert_ready(health, true,
                 "{\"status\":\"ok\",\"degraded\":[\"redis\",\"llm-svc\"]}");
    svc_need_set(&redis, true);
    svc_need_set(&llm, true);
    assert_ready(health, true, "{\"status\":\"ok\"}");
    svc_need_lose(&convo);
    assert_ready(health, false,
                 "{\"status\":\"unavailable\",\"missing\":[\"convo-svc\"]}");
    svc_health_remove_need(health, &convo);
    svc_health_remove_need(health, &convo);
    assert_ready(health, true, "{\"status\":\"ok\"}");
    svc_need_set(&llm, false);
    svc_health_remove_need(health, &llm);
    svc_health_remove_need(health, &redis);
    svc_health_remove_need(health, &database);
    svc_health_destroy(&health);
}

/* Runs a loop for some time of its own. */
static void
stop_loop(void *arg, short events)
{
    (void)events;
    svc_loop_stop(arg);
}

static void
run_for(svc_loop_t *loop, uint64_t ms)
{
    (void)svc_loop_after(loop, ms, stop_loop, loop);
    svc_loop_run(loop);
}

static void
wait_until_stuck(svc_health_t *health)
{
    const uint64_t deadline = svc_mono_ms() + 20000;
    svc_buf_t out;
    bool alive = true;

    svc_buf_init(&out, SVC_HEALTH_MAX_BYTES);
    while (alive && svc_mono_ms() < deadline) {
        svc_buf_clear(&out);
        alive = svc_health_tell_alive(health, &out);
    }
    assert_false(alive);
    svc_buf_fini(&out);
}

static void
a_loop_that_does_not_turn_is_named_until_it_turns_again(void **state)
{
    svc_health_t *health = svc_health_new(STUCK_MS);
    svc_loop_t *loops[] = {svc_loop_new(), svc_loop_new()};
    svc_beat_t beats[2] = {{.health = NULL}};

    (void)state;
    svc_health_set_started(health);
    svc_health_watch(health, &beats[0], loops[0], "reactor 1");
    svc_health_watch(health, &beats[1], loops[1],
                     "a name that is longer than a name may be");
    assert_alive(health, true, "{\"status\":\"ok\"}");
    wait_until_stuck(health);
    atomic_store(&beats[1].last_ms, svc_mono_ms() + 60000); /* the other turns */
    assert_alive(health, false, "{\"status\":\"stuck\",\"loops\":[\"reactor 1\"]}");
    assert_ready(health, false, "{\"status\":\"stuck\",\"loops\":[\"reactor 1\"]}");
    run_for(loops[0], SVC_HEALTH_BEAT_MS + 1); /* its timer is due in any case */
    atomic_store(&beats[0].last_ms, atomic_load(&beats[0].last_ms) + 60000);
    assert_alive(health, true, "{\"status\":\"ok\"}");
    atomic_store(&beats[0].last_ms, 0);
    atomic_store(&beats[1].last_ms, 0);
    assert_alive(
        health, false,
        "{\"status\":\"stuck\",\"loops\":[\"reactor 1\",\"a name that is longer t\"]}");
    svc_health_unwatch(&beats[0]);
    svc_health_unwatch(&beats[0]);
    svc_health_unwatch(&beats[1]);
    assert_alive(health, true, "{\"status\":\"ok\"}");
    svc_health_destroy(&health);
    svc_loop_destroy(&loops[0]);
    svc_loop_destroy(&loops[1]);
}

static void
an_idle_loop_beats(void **state)
{
    svc_health_t *health = svc_health_new(STUCK_MS);
    svc_loop_t *loop = svc_loop_new();
    svc_beat_t beat = {.health = NULL};
    uint64_t before;

    (void)state;
    svc_health_watch(health, &beat, loop, "main");
    before = atomic_load(&beat.last_ms);
    run_for(loop, SVC_HEALTH_BEAT_MS * 5 / 2);
    assert_true(atomic_load(&beat.last_ms) >= before + SVC_HEALTH_BEAT_MS);
    svc_health_unwatch(&beat);
    svc_health_destroy(&health);
    svc_loop_destroy(&loop);
}

static void
without_a_health_nothing_is_noted(void **state)
{
    svc_loop_t *loop = svc_loop_new();
    svc_beat_t beat = {.health = NULL};
    svc_need_t need;

    (void)state;
    svc_health_watch(NULL, &beat, loop, "main");
    svc_health_unwatch(&beat);
    svc_health_add_need(NULL, &need, "redis", true, 1);
    svc_need_gain(&need);
    assert_false(svc_need_is_missing(&need));
    svc_health_remove_need(NULL, &need);
    svc_health_set_started(NULL);
    svc_health_set_draining(NULL);
    svc_loop_destroy(&loop);
}

static void
all_that_there_may_be_fits(void **state)
{
    svc_health_t *health = svc_health_new(STUCK_MS);
    svc_loop_t *loop = svc_loop_new();
    svc_beat_t beats[66] = {{.health = NULL}};
    svc_buf_t out;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(beats); i++) {
        svc_health_watch(health, &beats[i], loop, "a loop with a very long name");
        atomic_store(&beats[i].last_ms, 0);
    }
    svc_buf_init(&out, SVC_HEALTH_MAX_BYTES);
    assert_false(svc_health_tell_alive(health, &out));
    assert_memory_equal(out.p + out.n - 3, "\"]}", 3);
    svc_buf_fini(&out);
    for (size_t i = SVC_COUNT(beats); i > 0; i--)
        svc_health_unwatch(&beats[i - 1]);
    svc_health_destroy(&health);
    svc_loop_destroy(&loop);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_then_serves_then_drains),
        cmocka_unit_test(what_is_missing_is_named_and_what_is_optional_only_degrades),
        cmocka_unit_test(a_loop_that_does_not_turn_is_named_until_it_turns_again),
        cmocka_unit_test(an_idle_loop_beats),
        cmocka_unit_test(without_a_health_nothing_is_noted),
        cmocka_unit_test(all_that_there_may_be_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
