/* gateway.h - the service as svc_main runs it: reactors on threads, and a main thread that waits for signals.
 *
 * Functions for the table in main.c. Everything that serves clients happens on the
 * reactors' threads; here they are started, asked to drain, and joined.
 *
 * Thread: main. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "svc/svc_main.h"

/* Opens the port and starts the reactors. NULL with *error (free() it) set: one line
 * that says why not. */
void *gateway_start(svc_ctx_t *ctx, char **error);

/* SIGHUP: certificate and key are read again; pages that may call and limits are those of `fresh` from now on; see
 * svc_service_t.reload. False with *error (free() it): all stays as it was. */
bool gateway_reload(void *service, const svc_config_t *fresh, char **error);

/* Says that it will go, to load balancers (readyz) and to clients (Connection: close), and serves on. */
void gateway_announce(void *service);

/* Stops accepting; stops ctx->loop when no request is left. Streams end shortly before left_ms are over. */
void gateway_drain(void *service, uint64_t left_ms);

/* Ends what is left, joins the reactors and frees the service. */
void gateway_stop(void *service);

/* Reads what only the gateway needs: certificate and key. False with *error (free() it): one line. */
bool gateway_check_config(const svc_config_t *config, char **error);

/* Prints where the gateway would listen. */
void gateway_print_config(const svc_config_t *config);

#endif
