/* svc_ctx.h - what every part of a service process is given.
 *
 * Who we are, and where to log, count and wait.
 * One per thread that runs a loop; all of them share config, log, metrics and the ZeroMQ context,
 * which outlive them. A plain struct, filled by svc_main (or by a unit test). */
#ifndef SVC_SVC_CTX_H
#define SVC_SVC_CTX_H

#include "svc/svc_config.h"
#include "svc/svc_fault.h"
#include "svc/svc_health.h"
#include "svc/svc_log.h"
#include "svc/svc_loop.h"
#include "svc/svc_metrics.h"

typedef struct {
    const char *service;        /* folder name: "convo-svc" */
    const char *version;        /* of the build */
    uint64_t instance;          /* random id of this start, never 0 */
    const svc_config_t *config; /* whole configuration */
    svc_log_t *log;             /* any thread */
    svc_metrics_t *metrics;     /* any thread */
    void *zmq;                  /* ZeroMQ context of the process */
    svc_loop_t *loop;           /* of this thread */

    svc_fault_t *fault; /* any thread; NULL: nothing is to die */

    svc_health_t *health; /* any thread; NULL: nobody asks how this process is */

    struct svc_curve *curve; /* any thread; NULL: the bus is plain */

    struct svc_refusals
        *refusals; /* any thread; NULL: nobody counts whom the bus refuses */

    struct svc_resolver *resolver; /* of the process; NULL: endpoints must be numeric */

    const struct svc_peer_times *peer_times; /* NULL: svc_peer_usual_times */
    uint32_t redis_timeout_ms; /* of one command; 0: as whoever uses Redis wants it */
} svc_ctx_t;

#endif
