/* test_svc_pool_background.c - background threads that get no time, and the one that helps out.
 *
 * A thread that gets no time is one whose work() waits at a gate. Background threads and the helper
 * have a gate each; which of the two a thread is, its scheduling policy tells. */
#include "bus_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "svc/svc_pool.h"

#define GATE_MS     20000
#define PATIENCE_MS 20

enum { BACKGROUND, HELPER };
enum { KIND_PLAIN, KIND_STUCK };

typedef struct {
    fixture_t fixture;     /* first */
    svc_pool_t *pool;      /* under test */
    atomic_bool gates[2];  /* open: stuck jobs go on */
    atomic_int begun[2];   /* jobs, by who does them */
    atomic_int ended[2];   /* likewise */
    size_t done, wanted;   /* results */
    uint64_t tags;         /* sum */
    uint64_t last_tag;     /* of the last result */
    int done_by;           /* the last result says who made it */
    int ended_by, n_ended; /* for has_ended() */
} bench_t;

static bench_t bench;

static void *
open_state(void *arg, char **error)
{
    (void)error;
    return arg;
}

static void
work(void *state, svc_job_t *const *jobs, size_t n)
{
    bench_t *self = state;
    const struct timespec ms = {.tv_nsec = 1000000};
    const char who = sched_getscheduler(0) == SCHED_IDLE ? BACKGROUND : HELPER;
    SVC_ASSERT(n == 1);
    atomic_fetch_add(&self->begun[(int)who], 1);
    if (svc_job_kind(jobs[0]) == KIND_STUCK)
        for (int i = 0; i < GATE_MS && !atomic_load(&self->gates[(int)who]); i++)
            nanosleep(&ms, NULL);
    const bool is_whole = svc_str_eq(svc_job_payload(jobs[0]), SVC_LIT("password"));
    svc_job_done(jobs[0], is_whole ? RC_OK : RC_INVALID, (svc_str){&who, 1});
    atomic_fetch_add(&self->ended[(int)who], 1);
}

static void
on_done(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    bench_t *self = arg;
    assert_int_equal(rc, RC_OK);
    assert_int_equal(result.n, 1);
    self->done++;
    self->tags += tag;
    self->last_tag = tag;
    self->done_by = result.p[0];
}

static bool
has_all(void *arg)
{
    return ((bench_t *)arg)->done >= ((bench_t *)arg)->wanted;
}

static bool
has_ended(void *arg)
{
    bench_t *self = arg;
    return atomic_load(&self->ended[self->ended_by]) >= self->n_ended &&
           svc_pool_load(self->pool) == 0;
}

static bool
has_helper_begun(void *arg)
{
    return atomic_load(&((bench_t *)arg)->begun[HELPER]) > 0;
}

static void
open_bench(size_t threads)
{
    char *error = NULL;
    const svc_pool_config_t config = {
        .name = "background",
        .threads = threads,
        .max_queued = 100,
        .max_batch = 1,
        .patience_ms = PATIENCE_MS,
        .open = open_state,
        .work = work,
    };
    memset(&bench, 0, sizeof(bench));
    fixture_open(&bench.fixture, "test");
    bench.pool = svc_pool_new(&bench.fixture.ctx, &config, &bench, &error);
    assert_non_null(bench.pool);
}

static void
close_bench(void)
{
    svc_pool_destroy(&bench.pool);
    fixture_close(&bench.fixture);
}

static void
submit(uint32_t kind, uint64_t tag)
{
    assert_int_equal(
        svc_pool_submit(bench.pool, kind, SVC_LIT("password"), on_done, &bench, tag),
        RC_OK);
    bench.wanted++;
}

/* Runs until all threads of one sort have ended n jobs and the pool is idle. */
static void
await_ended(int who, int n)
{
    bench.ended_by = who;
    bench.n_ended = n;
    fixture_run_until(&bench.fixture, has_ended, &bench);
}

static void
jobs_are_done_in_the_background_as_long_as_they_come_back(void **state)
{
    (void)state;
    open_bench(2);
    for (uint64_t i = 1; i <= 50; i++)
        submit(KIND_PLAIN, i);
    fixture_run_until(&bench.fixture, has_all, &bench);
    await_ended(BACKGROUND, 1);
    assert_int_equal(bench.done, 50);
    assert_int_equal(bench.tags, 50 * 51 / 2);
    close_bench();
}

static void
a_late_job_is_done_again_by_the_helper_and_answered_once(void **state)
{
    (void)state;
    open_bench(2);
    atomic_store(&bench.gates[HELPER], true);
    submit(KIND_STUCK, 7);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.done_by, HELPER);
    atomic_store(&bench.gates[BACKGROUND], true);
    await_ended(BACKGROUND, 1);
    assert_int_equal(bench.done, 1);
    submit(KIND_PLAIN, 8);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.last_tag, 8);
    close_bench();
}

static void
the_background_thread_counts_when_it_is_first_after_all(void **state)
{
    (void)state;
    open_bench(1);
    submit(KIND_STUCK, 7);
    fixture_run_until(&bench.fixture, has_helper_begun, &bench);
    atomic_store(&bench.gates[BACKGROUND], true);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.done_by, BACKGROUND);
    atomic_store(&bench.gates[HELPER], true);
    await_ended(HELPER, 1);
    assert_int_equal(bench.done, 1);
    close_bench();
}

static void
the_helper_does_what_waits_when_no_background_thread_comes_back(void **state)
{
    (void)state;
    open_bench(3);
    atomic_store(&bench.gates[HELPER], true);
    for (uint64_t i = 1; i <= 20; i++)
        submit(KIND_STUCK, i);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.tags, 20 * 21 / 2);
    assert_int_equal(bench.last_tag, 20); /* the oldest first */
    assert_int_equal(atomic_load(&bench.ended[HELPER]), 20);
    atomic_store(&bench.gates[BACKGROUND], true);
    await_ended(BACKGROUND, 3);
    assert_int_equal(bench.done, 20);
    close_bench();
}

static void *
open_gates(void *arg)
{
    const struct timespec some = {.tv_nsec = 50000000};
    (void)arg;
    nanosleep(&some, NULL);
    atomic_store(&bench.gates[BACKGROUND], true);
    atomic_store(&bench.gates[HELPER], true);
    return NULL;
}

static void
destroying_waits_for_both_that_do_the_same_job(void **state)
{
    (void)state;
    pthread_t thread;
    open_bench(1);
    submit(KIND_STUCK, 1);
    submit(KIND_STUCK, 2);
    fixture_run_until(&bench.fixture, has_helper_begun, &bench);
    assert_int_equal(pthread_create(&thread, NULL, open_gates, NULL), 0);
    close_bench();
    pthread_join(thread, NULL);
    assert_int_equal(bench.done, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_are_done_in_the_background_as_long_as_they_come_back),
        cmocka_unit_test(a_late_job_is_done_again_by_the_helper_and_answered_once),
        cmocka_unit_test(the_background_thread_counts_when_it_is_first_after_all),
        cmocka_unit_test(the_helper_does_what_waits_when_no_background_thread_comes_back),
        cmocka_unit_test(destroying_waits_for_both_that_do_the_same_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
