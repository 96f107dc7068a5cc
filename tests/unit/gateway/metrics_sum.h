/* metrics_sum.h - what the observations of a histogram add up to, as Prometheus would read it.
 *
 * Nothing else tells the sum of one: svc_metrics_read counts them. Included by tests that compare times. */
#ifndef TESTS_UNIT_GATEWAY_METRICS_SUM_H
#define TESTS_UNIT_GATEWAY_METRICS_SUM_H

#include "svc/svc_metrics_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* `name`: of the histogram, its labels in braces; 0 when it has no such row. */
static inline double
metrics_sum(const svc_metrics_t *metrics, const char *name, const char *labels)
{
    svc_health_t *health = svc_health_new(SVC_HEALTH_STUCK_MS);
    svc_metrics_about_t about = {metrics, health, "gateway", "v1"};
    char line[256];
    svc_buf_t text;

    svc_buf_init(&text, SVC_METRICS_TEXT_MAX_BYTES + 1);
    svc_metrics_text(&about, &text);
    assert_int_equal(svc_buf_add(&text, "", 1), RC_OK);
    snprintf(line, sizeof line, "\n%s_sum%s ", name, labels);
    const char *at = strstr(text.p, line);
    double sum = at == NULL ? 0 : strtod(at + strlen(line), NULL);
    svc_buf_fini(&text);
    svc_health_destroy(&health);
    return sum;
}

#endif
