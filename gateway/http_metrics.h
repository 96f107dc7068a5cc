/* http_metrics.h - what is counted of HTTP requests, by route and status.
 *
 * A reactor has one: the rows of all routes of routes.c, and of the statuses that responses have. Whatever else a client asks
 * for is "other". The overhead of a request is the time from its headers to the start of its response in which the gateway waited
 * neither for another service nor for the body. Thread: its reactor's. */
#ifndef GATEWAY_HTTP_METRICS_H
#define GATEWAY_HTTP_METRICS_H

#include "routes.h"
#include "svc/svc_metrics.h"

#define HTTP_METRICS_ROUTES_MAX 32
#define HTTP_METRICS_STATUS_MAX 600 /* statuses are below */

typedef struct {
    svc_metrics_t *metrics;                    /* borrowed */
    uint16_t routes[HTTP_METRICS_ROUTES_MAX];  /* rows, by the number of a route */
    uint8_t statuses[HTTP_METRICS_STATUS_MAX]; /* columns; 0: other */
    size_t open; /* connections, as the gauge has it of this reactor */
} http_metrics_t;

/* What a request keeps of its own time. */
typedef struct {
    uint64_t began_us;  /* monotonic: its headers were there */
    uint64_t waits_us;  /* since when it waits for somebody; 0: it does not */
    uint64_t waited_us; /* so long before */
} http_times_t;

/* Writes down all routes and statuses. */
void http_metrics_init(http_metrics_t *self, svc_metrics_t *metrics);

/* It begins to wait (harmless when it does); it goes on (likewise). */
void http_times_wait(http_times_t *self);
void http_times_go_on(http_times_t *self);

/* A response begins. `route` may be NULL. */
void http_metrics_answer(const http_metrics_t *self, const route_t *route,
                         http_times_t *times);

/* A request ends. 0: without a response, its client had left. */
void http_metrics_end(const http_metrics_t *self, const route_t *route, int status);

/* So many connections are open. */
void http_metrics_open(http_metrics_t *self, size_t n);

#endif
