/* http_metrics.c - rows of routes and statuses, and clocks around what a request waits for.
 *
 * Both are written down when a reactor is built, so that counting a request looks nothing up: five relaxed adds and a
 * clock or two. The statuses are those of svc_rc's table and what routes answer with otherwise; 200 is the first,
 * so that each route is told from the start on. */
#include "http_metrics.h"

#include "svc/svc_time.h"

#include <stdio.h>

#define CLIENT_LEFT 499 /* nginx's word for it */

static const int more_statuses[] = {200, 201, 202, 204, 431, CLIENT_LEFT};

static void
name_status(http_metrics_t *self, int status)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", status);
    self->statuses[status] = (uint8_t)svc_metrics_label(self->metrics, SVC_L_HTTP_STATUS,
                                                        text, NULL);
}

void
http_metrics_init(http_metrics_t *self, svc_metrics_t *metrics)
{
    *self = (http_metrics_t){.metrics = metrics};
    for (size_t i = 0; i < SVC_COUNT(more_statuses); i++)
        name_status(self, more_statuses[i]);
    for (svc_rc rc = RC_OK; rc < RC_COUNT; rc++)
        name_status(self, svc_rc_info(rc)->http);
    SVC_ASSERT(routes_count() <= HTTP_METRICS_ROUTES_MAX);
    for (size_t i = 0; i < routes_count(); i++)
        self->routes[i] = svc_metrics_label(metrics, SVC_L_ROUTE, routes_at(i)->method,
                                            routes_at(i)->path);
}

void
http_times_wait(http_times_t *self)
{
    if (self->waits_us == 0)
        self->waits_us = svc_mono_us();
}

void
http_times_go_on(http_times_t *self)
{
    if (self->waits_us != 0)
        self->waited_us += svc_mono_us() - self->waits_us;
    self->waits_us = 0;
}

static uint16_t
row_of(const http_metrics_t *self, const route_t *route)
{
    return route == NULL ? 0 : self->routes[route - routes_at(0)];
}

void
http_metrics_answer(const http_metrics_t *self, const route_t *route, http_times_t *times)
{
    const uint64_t took_us = svc_mono_us() - times->began_us;
    const uint16_t row = row_of(self, route);

    http_times_go_on(times);
    svc_metrics_observe(self->metrics, SVC_F_HTTP_US, row, took_us);
    svc_metrics_observe(self->metrics, SVC_F_HTTP_OVERHEAD_US, row,
                        took_us > times->waited_us ? took_us - times->waited_us : 0);
}

void
http_metrics_end(const http_metrics_t *self, const route_t *route, int status)
{
    if (status == 0)
        status = CLIENT_LEFT;
    svc_metrics_count(
        self->metrics, SVC_F_HTTP_REQUESTS, row_of(self, route),
        status > 0 && status < HTTP_METRICS_STATUS_MAX ? self->statuses[status] : 0, 1);
}

void
http_metrics_open(http_metrics_t *self, size_t n)
{
    if (n == self->open)
        return;
    svc_metrics_count(self->metrics, SVC_F_HTTP_OPEN, 0, 0,
                      (int64_t)n - (int64_t)self->open);
    self->open = n;
}
