/* svc_endpoints.h - the addresses behind a list of endpoints: "tcp://host:port,tcp://host:port".
 *
 * A numeric host is its own address; a name stands for all its addresses, IPv4 and IPv6, as the
 * process's svc_resolver finds them, now and later. What is told are endpoints with numeric hosts
 * ("tcp://10.0.0.1:7102", "tcp://[::1]:7102"), each once however often the list has it.
 *
 * Thread: the loop's. */
#ifndef SVC_SVC_ENDPOINTS_H
#define SVC_SVC_ENDPOINTS_H

#include "svc/svc_ctx.h"

typedef struct svc_endpoints svc_endpoints_t;

/* An endpoint has come (is_added) or is not among the addresses any more. It is the owner's to decide what becomes of
 * a connection there: a process may well serve on when its address has gone from the name. */
typedef void svc_endpoints_fn(void *arg, const char *endpoint, bool is_added);

/* Reads a list; spaces around an item are skipped. fn is told of numeric ones before this
 * returns, of others as they are looked up. NULL with *error (free() it) set: something is no
 * endpoint, or a name without ctx->resolver; fn may have been called by then. */
svc_endpoints_t *svc_endpoints_new(svc_ctx_t *ctx, const char *list, svc_endpoints_fn *fn,
                                   void *arg, char **error);

/* Ends it; fn is not called any more. Sets *self_p to NULL. NULL-safe. Not inside fn. */
void svc_endpoints_destroy(svc_endpoints_t **self_p);

/* NULL, or what is wrong with the form of one endpoint (static text). */
const char *svc_endpoint_check(const char *endpoint);

#endif
