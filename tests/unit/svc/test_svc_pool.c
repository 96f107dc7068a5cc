/* test_svc_pool.c - jobs, batches, a full queue, and the end with jobs in the queue.
 *
 * Real threads; a gate (an atomic) holds a worker where the test wants it. */
#include "bus_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "svc/svc_pool.h"

#define GATE_MS 20000

/* What the worker's threads share with the test: atomics only. */
typedef struct {
    atomic_int opened, closed; /* threads */
    atomic_int worked;         /* jobs */
    atomic_int largest_batch;  /* jobs in one */
    atomic_int batches;        /* calls of work */
    atomic_int rests;          /* calls of rest */
    atomic_bool gate;          /* false: jobs of kind KIND_GATED wait */
    atomic_int fail_at;        /* the n-th open fails; 0: none */
    bool signals_are_blocked;  /* written by the thread before opened, read after join */
    char name[16];             /* likewise */
} shared_t;

typedef struct {
    fixture_t fixture;   /* first */
    shared_t shared;     /* see there */
    svc_pool_t *pool;    /* under test */
    size_t done;         /* done functions that ran */
    size_t wanted;       /* to wait for */
    uint64_t tags;       /* sum */
    uint64_t last_tag;   /* of the last */
    bool in_order;       /* tags came in ascending order */
    svc_rc rc;           /* of the last */
    char result[100000]; /* of the last */
    size_t result_n;     /* bytes */
    int chain;           /* submits left from inside done functions */
} bench_t;

enum { KIND_ECHO, KIND_GATED, KIND_FORGET, KIND_ERROR, KIND_UNTIL };

static void *
open_state(void *arg, char **error)
{
    shared_t *shared = arg;
    const int n = atomic_fetch_add(&shared->opened, 1) + 1;
    if (n == atomic_load(&shared->fail_at)) {
        *error = strdup("disk on fire");
        return NULL;
    }
    if (n == 1) {
        sigset_t mask;
        pthread_sigmask(SIG_SETMASK, NULL, &mask);
        shared->signals_are_blocked = sigismember(&mask, SIGTERM) == 1;
        pthread_getname_np(pthread_self(), shared->name, sizeof(shared->name));
    }
    return shared;
}

static void
close_state(void *state)
{
    atomic_fetch_add(&((shared_t *)state)->closed, 1);
}

static void
wait_at_gate(shared_t *shared)
{
    const struct timespec ms = {.tv_nsec = 1000000};
    for (int i = 0; i < GATE_MS && !atomic_load(&shared->gate); i++)
        nanosleep(&ms, NULL);
}

static void
work(void *state, svc_job_t *const *jobs, size_t n)
{
    shared_t *shared = state;
    atomic_fetch_add(&shared->batches, 1);
    if ((int)n > atomic_load(&shared->largest_batch))
        atomic_store(&shared->largest_batch, (int)n);
    for (size_t i = 0; i < n; i++) {
        const uint32_t kind = svc_job_kind(jobs[i]);
        if (kind == KIND_GATED)
            wait_at_gate(shared);
        atomic_fetch_add(&shared->worked, 1);
        const svc_until_t until = svc_job_until(jobs[i]);
        if (kind == KIND_ERROR)
            svc_job_done(jobs[i], RC_CONFLICT, SVC_LIT("no"));
        else if (kind == KIND_UNTIL)
            svc_job_done(jobs[i], RC_OK, (svc_str){(const char *)&until, sizeof(until)});
        else if (kind != KIND_FORGET)
            svc_job_done(jobs[i], RC_OK, svc_job_payload(jobs[i]));
    }
}

static void
rest(void *state)
{
    atomic_fetch_add(&((shared_t *)state)->rests, 1);
}

static void
on_done(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    bench_t *bench = arg;
    bench->done++;
    bench->tags += tag;
    bench->in_order = bench->in_order && tag >= bench->last_tag;
    bench->last_tag = tag;
    bench->rc = rc;
    bench->result_n = result.n;
    assert_true(result.n <= sizeof(bench->result));
    if (result.n > 0)
        memcpy(bench->result, result.p, result.n);
    if (bench->chain > 0) {
        bench->chain--;
        assert_int_equal(
            svc_pool_submit(bench->pool, KIND_ECHO, result, on_done, bench, tag + 1),
            RC_OK);
    }
}

static bool
has_all(void *arg)
{
    const bench_t *bench = arg;
    return bench->done >= bench->wanted;
}

static bool
has_worker_busy(void *arg)
{
    return atomic_load(&((bench_t *)arg)->shared.batches) > 0;
}

static char *
try_open(bench_t *bench, size_t threads, size_t max_queued, size_t max_batch, int fail_at)
{
    char *error = NULL;
    const svc_pool_config_t config = {
        .name = "testers",
        .threads = threads,
        .max_queued = max_queued,
        .max_batch = max_batch,
        .open = open_state,
        .work = work,
        .rest = rest,
        .close = close_state,
    };
    memset(bench, 0, sizeof(*bench));
    atomic_store(&bench->shared.fail_at, fail_at);
    bench->in_order = true;
    fixture_open(&bench->fixture, "test");
    bench->pool = svc_pool_new(&bench->fixture.ctx, &config, &bench->shared, &error);
    return error;
}

static void
open_bench(bench_t *bench, size_t threads, size_t max_queued, size_t max_batch)
{
    assert_null(try_open(bench, threads, max_queued, max_batch, 0));
    assert_non_null(bench->pool);
}

static void
close_bench(bench_t *bench)
{
    svc_pool_destroy(&bench->pool);
    assert_null(bench->pool);
    assert_int_equal(atomic_load(&bench->shared.opened),
                     atomic_load(&bench->shared.closed));
    fixture_close(&bench->fixture);
}

static void
submit(bench_t *bench, uint32_t kind, uint64_t tag)
{
    assert_int_equal(
        svc_pool_submit(bench->pool, kind, SVC_LIT("job"), on_done, bench, tag), RC_OK);
    bench->wanted++;
}

static bench_t bench; /* too large for the stack */

static void
tells_the_worker_until_when_a_job_is_good(void **state)
{
    (void)state;
    const svc_until_t until = {5, 7};
    svc_until_t told;
    open_bench(&bench, 1, 10, 1);
    assert_int_equal(svc_pool_submit_until(bench.pool, KIND_UNTIL, SVC_LIT("job"), until,
                                           on_done, &bench, 1),
                     RC_OK);
    bench.wanted = 1;
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.result_n, sizeof(told));
    memcpy(&told, bench.result, sizeof(told));
    assert_int_equal(told.moved_ms, 5);
    assert_int_equal(told.expires_ms, 7);
    submit(&bench, KIND_UNTIL, 2);
    fixture_run_until(&bench.fixture, has_all, &bench);
    memcpy(&told, bench.result, sizeof(told));
    assert_true(told.moved_ms == 0 && told.expires_ms == 0);
    close_bench(&bench);
}

static void
gives_back_what_the_worker_answered(void **state)
{
    (void)state;
    static char large[90000];
    open_bench(&bench, 2, 10, 1);
    memset(large, 'x', sizeof(large));
    assert_int_equal(svc_pool_submit(bench.pool, KIND_ECHO,
                                     (svc_str){large, sizeof(large)}, on_done, &bench, 7),
                     RC_OK);
    bench.wanted = 1;
    assert_int_equal(svc_pool_load(bench.pool), 1);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(svc_pool_load(bench.pool), 0);
    assert_int_equal(bench.last_tag, 7);
    assert_int_equal(bench.result_n, sizeof(large));
    assert_memory_equal(bench.result, large, sizeof(large));

    assert_int_equal(
        svc_pool_submit(bench.pool, KIND_ECHO, (svc_str){0}, on_done, &bench, 8), RC_OK);
    bench.wanted++;
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.result_n, 0);
    submit(&bench, KIND_ERROR, 9);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.rc, RC_CONFLICT);
    assert_memory_equal(bench.result, "no", 2);
    close_bench(&bench);
}

static void
names_its_threads_and_keeps_signals_from_them(void **state)
{
    (void)state;
    open_bench(&bench, 1, 10, 1);
    svc_pool_destroy(&bench.pool);
    assert_true(bench.shared.signals_are_blocked);
    assert_string_equal(bench.shared.name, "testers");
    close_bench(&bench);
}

static void
a_job_that_the_worker_forgot_is_an_internal_error(void **state)
{
    (void)state;
    open_bench(&bench, 1, 10, 4);
    submit(&bench, KIND_FORGET, 1);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.rc, RC_INTERNAL);
    close_bench(&bench);
}

static void
hands_what_waits_to_an_idle_worker_as_one_batch(void **state)
{
    (void)state;
    open_bench(&bench, 1, 100, 16);
    submit(&bench, KIND_GATED, 0);
    for (uint64_t i = 1; i <= 40; i++)
        submit(&bench, KIND_ECHO, i);
    atomic_store(&bench.shared.gate, true);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_true(bench.in_order);
    assert_int_equal(atomic_load(&bench.shared.largest_batch), 16);
    assert_int_equal(atomic_load(&bench.shared.batches), 3);
    close_bench(&bench);
    assert_int_equal(atomic_load(&bench.shared.rests), 3);
}

static void
submit_lazy(bench_t *to, uint64_t tag)
{
    assert_int_equal(
        svc_pool_submit_lazy(to->pool, KIND_ECHO, SVC_LIT("job"), on_done, to, tag),
        RC_OK);
    to->wanted++;
}

static void
what_a_turn_brings_is_one_batch(void **state)
{
    (void)state;
    open_bench(&bench, 1, 100, 16);
    for (uint64_t i = 1; i <= 10; i++)
        submit(&bench, KIND_ECHO, i);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_true(bench.in_order);
    assert_int_equal(atomic_load(&bench.shared.batches), 1);
    close_bench(&bench);
}

static void
lazy_jobs_go_with_the_next_one_that_is_not(void **state)
{
    (void)state;
    open_bench(&bench, 1, 100, 16);
    for (uint64_t i = 1; i <= 3; i++)
        submit_lazy(&bench, i);
    submit(&bench, KIND_ECHO, 4);
    submit_lazy(&bench, 5);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_true(bench.in_order);
    assert_int_equal(atomic_load(&bench.shared.batches), 1);
    close_bench(&bench);
}

static void
lazy_jobs_alone_go_by_themselves(void **state)
{
    (void)state;
    open_bench(&bench, 1, 100, 16);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 1; i <= 5; i++)
            submit_lazy(&bench, bench.wanted + 1);
        if (round == 1)
            svc_pool_hurry(bench.pool);
        fixture_run_until(&bench.fixture, has_all, &bench);
        assert_int_equal(atomic_load(&bench.shared.batches), round + 1);
    }
    assert_true(bench.in_order);
    close_bench(&bench);
}

static void
as_many_lazy_jobs_as_a_batch_holds_wait_for_nothing(void **state)
{
    (void)state;
    open_bench(&bench, 1, 100, 4);
    for (uint64_t i = 1; i <= 4; i++)
        submit_lazy(&bench, i);
    while (!has_worker_busy(&bench)) /* no turn of the loop is needed */
        sched_yield();
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(atomic_load(&bench.shared.largest_batch), 4);
    close_bench(&bench);
}

static void
lazy_jobs_are_done_before_the_end(void **state)
{
    (void)state;
    open_bench(&bench, 1, 100, 16);
    for (uint64_t i = 1; i <= 3; i++)
        submit_lazy(&bench, i);
    close_bench(&bench);
    assert_int_equal(atomic_load(&bench.shared.worked), 3);
    assert_int_equal(bench.done, 0);
}

static int64_t
gauge_of(svc_family family)
{
    return fixture_family(&bench.fixture, family, SVC_L_POOL, bench.shared.name, 0);
}

static void
a_full_queue_refuses(void **state)
{
    static const svc_family gauges[] = {SVC_F_POOL_THREADS, SVC_F_POOL_QUEUE_MAX,
                                        SVC_F_POOL_QUEUED, SVC_F_POOL_RUNNING};
    (void)state;
    open_bench(&bench, 2, 5, 1);
    submit(&bench, KIND_GATED, 0);
    submit(&bench, KIND_GATED, 0);
    for (uint64_t i = 0; i < 5; i++)
        submit(&bench, KIND_ECHO, i);
    assert_int_equal(
        svc_pool_submit(bench.pool, KIND_ECHO, SVC_LIT("x"), on_done, &bench, 9),
        RC_BUSY);
    assert_int_equal(svc_pool_load(bench.pool), 7);
    assert_int_equal(gauge_of(SVC_F_POOL_REFUSED), 1);
    assert_int_equal(gauge_of(SVC_F_POOL_THREADS), 2);
    assert_int_equal(gauge_of(SVC_F_POOL_QUEUE_MAX), 5);
    fixture_run_for(&bench.fixture, 5); /* gauges are told at the end of a turn */
    assert_int_equal(gauge_of(SVC_F_POOL_QUEUED), 5);
    assert_int_equal(gauge_of(SVC_F_POOL_RUNNING), 2);
    atomic_store(&bench.shared.gate, true);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.done, 7);
    submit(&bench, KIND_ECHO, 1);
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(gauge_of(SVC_F_POOL_JOBS), 8);
    assert_int_equal(gauge_of(SVC_F_POOL_US), 8); /* the histogram's count */
    svc_pool_destroy(&bench.pool);
    for (size_t i = 0; i < SVC_COUNT(gauges); i++)
        assert_int_equal(gauge_of(gauges[i]), 0);
    close_bench(&bench);
}

static void
done_functions_may_submit(void **state)
{
    (void)state;
    open_bench(&bench, 1, 2, 1);
    bench.chain = 500;
    submit(&bench, KIND_ECHO, 0);
    bench.wanted = 501;
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.last_tag, 500);
    close_bench(&bench);
}

static void
many_jobs_over_many_threads_are_each_answered_once(void **state)
{
    (void)state;
    const uint64_t n = 20000;
    open_bench(&bench, 4, 1000, 8);
    for (uint64_t i = 1; i <= n; i++) {
        while (svc_pool_load(bench.pool) >= 1000)
            fixture_run_for(&bench.fixture, 1);
        submit(&bench, KIND_ECHO, i);
    }
    fixture_run_until(&bench.fixture, has_all, &bench);
    assert_int_equal(bench.done, n);
    assert_int_equal(bench.tags, n * (n + 1) / 2);
    assert_int_equal(atomic_load(&bench.shared.worked), n);
    close_bench(&bench);
}

static void *
open_gate(void *shared)
{
    const struct timespec some = {.tv_nsec = 50000000};
    nanosleep(&some, NULL);
    atomic_store(&((shared_t *)shared)->gate, true);
    return NULL;
}

static void
destroying_lets_every_job_finish_and_tells_nobody(void **state)
{
    (void)state;
    pthread_t thread;
    open_bench(&bench, 2, 100, 4);
    for (uint64_t i = 0; i < 50; i++)
        submit(&bench, i < 2 ? KIND_GATED : KIND_ECHO, i);
    fixture_run_until(&bench.fixture, has_worker_busy, &bench);
    bench.done = 0;
    assert_int_equal(pthread_create(&thread, NULL, open_gate, &bench.shared), 0);
    svc_pool_destroy(&bench.pool);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&bench.shared.worked), 50);
    assert_int_equal(bench.done, 0);
    close_bench(&bench);
}

static void
says_why_a_thread_could_not_open(void **state)
{
    (void)state;
    char *error = try_open(&bench, 3, 10, 1, 2);
    assert_null(bench.pool);
    assert_string_equal(error, "disk on fire");
    free(error);
    assert_int_equal(atomic_load(&bench.shared.opened), 3);
    assert_int_equal(atomic_load(&bench.shared.closed), 2);
    fixture_close(&bench.fixture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_the_worker_until_when_a_job_is_good),
        cmocka_unit_test(gives_back_what_the_worker_answered),
        cmocka_unit_test(names_its_threads_and_keeps_signals_from_them),
        cmocka_unit_test(a_job_that_the_worker_forgot_is_an_internal_error),
        cmocka_unit_test(hands_what_waits_to_an_idle_worker_as_one_batch),
        cmocka_unit_test(what_a_turn_brings_is_one_batch),
        cmocka_unit_test(lazy_jobs_go_with_the_next_one_that_is_not),
        cmocka_unit_test(lazy_jobs_alone_go_by_themselves),
        cmocka_unit_test(as_many_lazy_jobs_as_a_batch_holds_wait_for_nothing),
        cmocka_unit_test(lazy_jobs_are_done_before_the_end),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(done_functions_may_submit),
        cmocka_unit_test(many_jobs_over_many_threads_are_each_answered_once),
        cmocka_unit_test(destroying_lets_every_job_finish_and_tells_nobody),
        cmocka_unit_test(says_why_a_thread_could_not_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
