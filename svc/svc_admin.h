/* svc_admin.h - the admin port of a process: how it is, told by HTTP to whoever keeps it running.
 *
 * GET (or HEAD) /healthz and /readyz answer what svc_health.h says, with 200 or 503; /metrics what svc_metrics_text.h
 * does. One thread of its own serves them, so that a loop that is stuck does not keep it from being told. Everything is bounded: connections (each
 * serves one request), also of one address, their time and their memory; who is silent for longest makes room. Nothing that is told is a secret.
 *
 * svc_admin_probe is the other side: what `--probe` asks, with nothing but a socket, so that an image needs
 * no HTTP client. Thread: the main one. */
#ifndef SVC_SVC_ADMIN_H
#define SVC_SVC_ADMIN_H

#include "svc/svc_log.h"
#include "svc/svc_metrics_text.h"

#define SVC_ADMIN_CONNECTIONS_MAX    64
#define SVC_ADMIN_PER_ADDRESS_MAX    32 /* so that one prober cannot keep out the others */
#define SVC_ADMIN_IDLE_S             10 /* of a connection, whatever it does */
#define SVC_ADMIN_PROBE_MS           2000
#define SVC_ADMIN_REQUEST_MAX_BYTES  8192 /* request line and headers; more is 431 */
#define SVC_ADMIN_RESPONSE_MAX_BYTES (SVC_METRICS_TEXT_MAX_BYTES + 512)
#define SVC_ADMIN_SCRAPES_MAX \
    8 /* answers with metrics that are not read yet; one more gets 503 */

typedef struct svc_admin svc_admin_t;

/* Listens on `address` (host:port, "*" for all addresses, port 0 for any) and serves from its own thread on. Copies `about`, borrows what
 * it points to and log (may be NULL). NULL with *error (free() it): why it cannot, one line. */
svc_admin_t *svc_admin_new(const char *address, const svc_metrics_about_t *about,
                           svc_log_t *log, char **error);

/* Ends the thread and all connections, sets *self_p to NULL. NULL-safe. */
void svc_admin_destroy(svc_admin_t **self_p);

/* The port that it listens on. */
uint16_t svc_admin_port(const svc_admin_t *self);

/* Writes the response to a request (any bytes; whole headers, if it is one) into `out`, which holds
 * SVC_ADMIN_RESPONSE_MAX_BYTES; `is_busy`: large answers are refused. What the port does, without a socket; for itself in tests. */
void svc_admin_respond(const svc_metrics_about_t *about, svc_str request, bool is_busy,
                       svc_buf_t *out);

/* Asks the admin port at `address` (of this machine when it stands for all addresses) for `path` and waits SVC_ADMIN_PROBE_MS at most.
 * Gives the HTTP status with the body in `out` (made by the caller), or 0 with *error (free() it): there was no answer. */
int svc_admin_probe(const char *address, const char *path, svc_buf_t *out, char **error);

#endif
