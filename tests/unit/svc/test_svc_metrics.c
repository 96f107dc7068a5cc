/* test_svc_metrics.c - the tables of counters and families, and counting from several threads.
 *
 * (What svc.stats makes of them is tested with the server.) */
#include "svc/svc_metrics_private.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define THREADS 4
#define TIMES   10000

static void
every_counter_has_a_name_of_its_own_and_help(void **state)
{
    (void)state;
    for (int i = 0; i < SVC_M_COUNT; i++) {
        assert_non_null(svc_metrics_name((svc_metric)i));
        assert_non_null(svc_counter_rows[i].help);
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

static void
a_label_keeps_its_row_and_rows_are_bounded(void **state)
{
    svc_metrics_t *metrics = svc_metrics_new();
    char name[16];
    uint16_t row = svc_metrics_label(metrics, SVC_L_POOL, "writer", NULL);

    (void)state;
    assert_int_equal(row, 1);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "%d", i);
        row = svc_metrics_label(metrics, SVC_L_POOL, name, NULL);
    }
    assert_int_equal(row, 0);
    assert_int_equal(svc_metrics_label(metrics, SVC_L_POOL, "writer", NULL), 1);
    svc_metrics_count(metrics, SVC_F_POOL_JOBS, 1, 0, 2);
    svc_metrics_count(metrics, SVC_F_POOL_JOBS, row, 0, 5);
    assert_int_equal(svc_metrics_read(metrics, SVC_F_POOL_JOBS, 1, 0), 2);
    assert_int_equal(svc_metrics_read(metrics, SVC_F_POOL_JOBS, 0, 0), 5);
    svc_metrics_destroy(&metrics);
    assert_int_equal(svc_metrics_label(NULL, SVC_L_POOL, "writer", NULL), 0);
    svc_metrics_count(NULL, SVC_F_POOL_JOBS, 0, 0, 1);
    svc_metrics_observe(NULL, SVC_F_POOL_US, 0, 1);
}

static void
every_result_has_a_row_of_its_own(void **state)
{
    (void)state;
    for (svc_rc rc = RC_OK; rc < RC_COUNT; rc++)
        assert_int_equal(svc_metrics_code(rc), rc + 1);
    assert_int_equal(svc_metrics_code(RC_COUNT), 0);
}

static void
rows_and_columns_do_not_touch_each_other(void **state)
{
    svc_metrics_t *metrics = svc_metrics_new();

    (void)state;
    for (uint16_t row = 0; row < 8; row++)
        for (uint16_t column = 0; column <= RC_COUNT; column++)
            svc_metrics_count(metrics, SVC_F_CALLS, row, column, row * 100 + column);
    for (uint16_t row = 0; row < 8; row++)
        for (uint16_t column = 0; column <= RC_COUNT; column++)
            assert_int_equal(svc_metrics_read(metrics, SVC_F_CALLS, row, column),
                             row * 100 + column);
    svc_metrics_destroy(&metrics);
}

typedef struct {
    svc_metrics_t *metrics; /* borrowed */
    int number;             /* of the thread */
} namer_t;

static void *
name_and_count(void *arg)
{
    const namer_t *self = arg;
    char name[16];

    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "%d-%d", self->number % 2, i % 10);
        svc_metrics_count(self->metrics, SVC_F_GENERATIONS_BEGUN,
                          svc_metrics_label(self->metrics, SVC_L_MODEL, name, name), 0,
                          1);
    }
    return NULL;
}

static void
threads_may_name_and_count_at_once(void **state)
{
    svc_metrics_t *metrics = svc_metrics_new();
    pthread_t threads[THREADS];
    namer_t namers[THREADS];
    int64_t all = 0;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        namers[i] = (namer_t){metrics, i};
        assert_int_equal(pthread_create(&threads[i], NULL, name_and_count, &namers[i]),
                         0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (uint16_t row = 0; row <= 20; row++)
        all += svc_metrics_read(metrics, SVC_F_GENERATIONS_BEGUN, row, 0);
    assert_int_equal(all, THREADS * 50);
    assert_int_equal(svc_metrics_read(metrics, SVC_F_GENERATIONS_BEGUN, 0, 0), 0);
    assert_int_equal(svc_metrics_read(metrics, SVC_F_GENERATIONS_BEGUN, 21, 0), 0);
    svc_metrics_destroy(&metrics);
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
        cmocka_unit_test(a_label_keeps_its_row_and_rows_are_bounded),
        cmocka_unit_test(every_result_has_a_row_of_its_own),
        cmocka_unit_test(rows_and_columns_do_not_touch_each_other),
        cmocka_unit_test(threads_may_name_and_count_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
