/* auth_ops.h - the operations of auth-svc: register, login, verify, ticket, redeem.
 *
 * Serves them on the loop of its context; register and login are answered after the workers have
 * done the slow part, the others at once. Owns everything the service has: store, pools, throttle
 * table, signers and server. Thread: the front thread. */
#ifndef AUTH_OPS_H
#define AUTH_OPS_H

#include "svc/svc_ctx.h"
#include "svc/svc_server.h"
#include "user_store.h"

typedef struct auth auth_t;

/* The table of operations; handlers want an auth_t as self. */
extern const svc_op_t auth_ops[];

/* Is there what auth-svc needs? False with *error (free() it): one line that says what is missing. */
bool auth_check_config(const svc_config_t *config, char **error) SVC_MUST_CHECK;

/* Opens the store through `driver`, starts the workers, binds bus.auth.bind. Keeps ctx and driver. NULL with *error (free() it): one line that says why. */
auth_t *auth_new(svc_ctx_t *ctx, const user_store_driver_t *driver, char **error);

/* Counts wrong passwords by auth.guess_limit and auth.guess_window_s of `fresh` from now on. */
void auth_reload(auth_t *self, const svc_config_t *fresh);

/* Where it listens, as a caller would connect to it. */
const char *auth_endpoint(const auth_t *self);

/* Cancels what waits, joins the workers, closes the store, sets *self_p to NULL. NULL-safe. */
void auth_destroy(auth_t **self_p);

/* Says "draining" from now on, and serves on. */
void auth_announce(auth_t *self);

/* Says "draining" from now on and stops the loop once nobody has been waiting for a moment. */
void auth_drain(auth_t *self);

#endif
