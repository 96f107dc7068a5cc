/* test_svc_metrics.c - the table of counters and counting from several threads.
 *
 * (What svc.stats makes of them is tested with the server.) */
#include "svc/svc_metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define THREADS 4
#define TIMES   10000

static void
every_counter_has_a_name_of_its_own_and_help(void **state)
{
    (void)state;
    for (int i = 0; i < SVC_M_COUNT; i++) {
        assert_non_null(svc_metrics_name((svc_metric)i));
        assert_non_null(svc_metrics_help((svc_metric)i));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(svc_metrics_name((svc_metric)i),
                                    svc_metrics_name((svc_metric)j));
    }
}

static void
counts_what_is_added_and_nothing_else(void **state)
{
    svc_metrics_t *metrics = svc_metrics_new();

    (void)state;
    svc_metrics_add(metrics, SVC_M_LOGINS, 2);
    svc_metrics_add(metrics, SVC_M_LOGINS, 3);
    for (int i = 0; i < SVC_M_COUNT; i++)
        assert_int_equal(svc_metrics_get(metrics, (svc_metric)i),
                         i == SVC_M_LOGINS ? 5 : 0);
    svc_metrics_destroy(&metrics);
    assert_null(metrics);
    svc_metrics_destroy(&metrics);
    svc_metrics_add(NULL, SVC_M_LOGINS, 1);
}

static void *
count(void *metrics)
{
    for (int i = 0; i < TIMES; i++)
        svc_metrics_add(metrics, SVC_M_REQUESTS, 1);
    return NULL;
}

static void
threads_lose_no_count(void **state)
{
    svc_metrics_t *metrics = svc_metrics_new();
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, metrics), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(svc_metrics_get(metrics, SVC_M_REQUESTS), THREADS * TIMES);
    svc_metrics_destroy(&metrics);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_counter_has_a_name_of_its_own_and_help),
        cmocka_unit_test(counts_what_is_added_and_nothing_else),
        cmocka_unit_test(threads_lose_no_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
