/* test_http_metrics.c - what is counted of requests: by route and status, and whose time it was.
 *
 * Times are compared with one another only. */
#include "gateway/http_metrics.h"

#include "metrics_sum.h"
#include "svc/svc_time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static const route_t *
find(const char *method, const char *path)
{
    route_match_t match;

    routes_match(method, svc_str_c(path), &match);
    return match.route;
}

static int64_t
count_of(svc_metrics_t *metrics, const char *method, const char *route,
         const char *status)
{
    return svc_metrics_read(metrics, SVC_F_HTTP_REQUESTS,
                            svc_metrics_label(metrics, SVC_L_ROUTE, method, route),
                            svc_metrics_label(metrics, SVC_L_HTTP_STATUS, status, NULL));
}

static void
counts_by_route_and_status(void **state)
{
    svc_metrics_t *metrics = svc_metrics_new();
    http_metrics_t self;

    (void)state;
    http_metrics_init(&self, metrics);
    http_metrics_end(&self, find("GET", "/api/conversations/list"), 200);
    http_metrics_end(&self, find("POST", "/api/chat/17"), 503);
    http_metrics_end(&self, find("POST", "/api/chat/18"), 503);
    http_metrics_end(&self, find("POST", "/api/chat/18"), 0);
    http_metrics_end(&self, NULL, 404);
    http_metrics_end(&self, NULL, 418);
    http_metrics_end(&self, NULL, 100000);
    http_metrics_end(&self, NULL, -1);
    assert_int_equal(count_of(metrics, "GET", "/api/conversations/list", "200"), 1);
    assert_int_equal(count_of(metrics, "POST", "/api/chat/:id", "503"), 2);
    assert_int_equal(count_of(metrics, "POST", "/api/chat/:id", "499"), 1);
    assert_int_equal(count_of(metrics, "other", "other", "404"), 1);
    assert_int_equal(count_of(metrics, "other", "other", "other"), 3);
    svc_metrics_destroy(&metrics);
}

static void
every_route_and_every_status_of_a_result_has_a_row_of_its_own(void **state)
{
    svc_metrics_t *metrics = svc_metrics_new();
    http_metrics_t self, second;

    (void)state;
    http_metrics_init(&self, metrics);
    for (size_t i = 0; i < routes_count(); i++)
        assert_int_equal(self.routes[i], i + 1);
    for (svc_rc rc = RC_OK; rc < RC_COUNT; rc++)
        assert_int_not_equal(self.statuses[svc_rc_info(rc)->http], 0);
    assert_int_equal(self.statuses[200], 1); /* told at zero */
    http_metrics_init(&second, metrics);     /* of the next reactor */
    assert_memory_equal(second.routes, self.routes, sizeof(self.routes));
    assert_memory_equal(second.statuses, self.statuses, sizeof(self.statuses));
    svc_metrics_destroy(&metrics);
}

static void
what_it_waited_for_is_no_overhead(void **state)
{
    svc_metrics_t *metrics = svc_metrics_new();
    static const char other[] = "{method=\"other\",route=\"other\"}";
    const uint64_t now_us = svc_mono_us(), long_us = now_us / 2;
    http_times_t times = {.began_us = now_us - long_us};
    http_metrics_t self;

    (void)state;
    http_metrics_init(&self, metrics);
    times.waits_us = times.began_us + 1;
    http_times_wait(&times); /* it does already */
    assert_int_equal(times.waits_us, times.began_us + 1);
    http_metrics_answer(&self, NULL, &times);
    assert_int_equal(times.waits_us, 0);
    assert_true(times.waited_us >= long_us - 1);
    http_times_go_on(&times);
    const double took_s = metrics_sum(metrics, "llmb_http_request_seconds", other);
    const double waited_s = (double)times.waited_us / 1000000;
    assert_true(took_s >= (double)long_us / 1000000 - 0.001);
    /* its clock is read once more for what it waited: later, if this thread was stopped in between */
    assert_true(metrics_sum(metrics, "llmb_http_overhead_seconds", other) <=
                (waited_s < took_s ? took_s - waited_s : 0) + 0.001);
    assert_int_equal(svc_metrics_read(metrics, SVC_F_HTTP_US, 0, 0), 1);
    assert_int_equal(svc_metrics_read(metrics, SVC_F_HTTP_OVERHEAD_US, 0, 0), 1);
    svc_metrics_destroy(&metrics);
}

static void
the_gauge_of_connections_is_the_sum_of_all_reactors(void **state)
{
    svc_metrics_t *metrics = svc_metrics_new();
    http_metrics_t one, two;

    (void)state;
    http_metrics_init(&one, metrics);
    http_metrics_init(&two, metrics);
    http_metrics_open(&one, 3);
    http_metrics_open(&two, 4);
    http_metrics_open(&one, 1);
    assert_int_equal(svc_metrics_read(metrics, SVC_F_HTTP_OPEN, 0, 0), 5);
    http_metrics_open(&one, 0);
    http_metrics_open(&two, 0);
    assert_int_equal(svc_metrics_read(metrics, SVC_F_HTTP_OPEN, 0, 0), 0);
    svc_metrics_destroy(&metrics);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_by_route_and_status),
        cmocka_unit_test(every_route_and_every_status_of_a_result_has_a_row_of_its_own),
        cmocka_unit_test(what_it_waited_for_is_no_overhead),
        cmocka_unit_test(the_gauge_of_connections_is_the_sum_of_all_reactors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
