/* gateway.h - the service as svc_main runs it: reactors on threads, and a main thread that waits for signals.
 *
 * Thread: main. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "svc/svc_main.h"

/* The service's start, drain, stop and print_config functions, as svc_service_t wants them. */
void *gateway_start(svc_ctx_t *ctx, char **error);
void gateway_drain(void *service);
void gateway_stop(void *service);
void gateway_print_config(const svc_config_t *config);

#endif
