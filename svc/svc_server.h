/* svc_server.h - the serving side of the bus: a ROUTER and a table of operations.
 *
 * The server alone receives, looks up the operation, checks who may, decodes, calls
 * the handler, encodes, times and logs. A handler sees structs only, so a unit test
 * calls it directly. Calls may be answered later, any number of times in parts, and
 * are cancelled when their deadline passes or their peer is gone. svc.hello, svc.ping
 * and svc.stats are answered here.
 *
 * Thread: the loop's. Other threads answer by sending a message to the loop's thread
 * (svc_pool). */
#ifndef SVC_SVC_SERVER_H
#define SVC_SVC_SERVER_H

#include "proto/proto.h"
#include "svc/svc_ctx.h"
#include "svc/svc_time.h"

#define SVC_SERVER_CALLS_MAX 65536 /* kept calls at once; one more is answered RC_BUSY */

typedef struct svc_server svc_server_t;
typedef struct svc_call svc_call_t;

/* Who may call: services by the name they said hello with. SVC_TOOL is bus_call, for
 * operators and tests. */
typedef enum {
    SVC_GATEWAY = 1,
    SVC_CONVO = 2,
    SVC_TOOL = 4,
    SVC_ANYONE = 7,
} svc_access;

/* Handles one request. The caller is told RC_TIMEOUT when the budget of a kept call
 * ends before its first part; a call whose hold ends is forgotten silently (whoever
 * still waits notices by the hold of its own). `req` is the decoded struct, good until
 * return; `rep` is a zeroed reply struct to fill for RC_OK, whose views must live
 * until the handler returns (they are encoded right after). Returns RC_OK or an error
 * to answer at once, RC_LATER to keep the call (then svc_call_finish once). */
typedef svc_rc svc_handler_fn(void *self, svc_call_t *call, const void *req, void *rep);

typedef struct {
    const char *op;            /* OP_… */
    const proto_schema_t *req; /* of the body */
    const proto_schema_t *rep; /* of FINAL and PARTIAL bodies */
    svc_handler_fn *handler;   /* see there */
    unsigned who;              /* svc_access, or-ed */
    uint32_t budget_ms;        /* of a kept call, which never lives past its `expires` */
} svc_op_t;

/* Binds `endpoint` and serves `ops` (ends with a row whose op is NULL; borrowed for
 * life) until destroyed. Keeps `ctx`; `self` is passed to every handler.
 * RC_UNAVAILABLE: the endpoint cannot be bound; *error (free() it) is one line that
 * says why. */
svc_rc svc_server_new(svc_ctx_t *ctx, const char *endpoint, const svc_op_t *ops,
                      void *self, svc_server_t **out, char **error) SVC_MUST_CHECK;

/* Where it is bound, as ZeroMQ says it: the port that a `:*` became. Good as long as
 * the server. */
const char *svc_server_endpoint(const svc_server_t *self);

/* Cancels all kept calls (their cancel functions run), closes the socket, sets *self_p
 * to NULL. NULL-safe. */
void svc_server_destroy(svc_server_t **self_p);

/* From now on ping replies say draining. */
void svc_server_set_draining(svc_server_t *self);

/* How many calls are kept. */
size_t svc_server_kept_calls(const svc_server_t *self);

/* Handle of a call, never 0, never used again: what crosses threads and outlives the
 * call. */
uint64_t svc_call_id(const svc_call_t *call);

/* The kept call with this handle, NULL when it was answered or cancelled. */
svc_call_t *svc_server_call(svc_server_t *self, uint64_t call_id);

/* The encoded body of the request, good until the handler returns: for passing it on
 * to a worker. */
svc_str svc_call_body(const svc_call_t *call);

/* The trace id (PROTO_TRACE_BYTES) and deadline (Unix ms) of the request; good as long
 * as the call. */
svc_str svc_call_trace(const svc_call_t *call);
uint64_t svc_call_expires_ms(const svc_call_t *call);

/* Until when the request may be done: what was read in time may be got to late, by a process that stood still in between. */
svc_until_t svc_call_until(const svc_call_t *call);

/* Did both come by the same connection? */
bool svc_call_is_same_caller(const svc_call_t *a, const svc_call_t *b);

/* Sets the text and Retry-After that go out when this call is answered with an error.
 * Copies. `text` may be NULL. */
void svc_call_explain(svc_call_t *call, const char *text, uint64_t retry_after_s);

/* Answers a kept call for good: `rep` for RC_OK (NULL: an empty reply), an error
 * otherwise. Frees the call, even if its peer reads too slowly and the answer was dropped. */
void svc_call_finish(svc_call_t *call, svc_rc rc, const void *rep);

/* Answers a kept call for good with `rep`, if it can be sent: for what must not be lost. RC_BUSY:
 * the peer reads too slowly, nothing was sent, the call stays. RC_UNAVAILABLE: the peer is gone
 * and the call was cancelled and freed (its cancel function has run). Anything else: `rep` cannot
 * be encoded, and the call was answered RC_INTERNAL. */
svc_rc svc_call_try_finish(svc_call_t *call, const void *rep) SVC_MUST_CHECK;

/* Answers a kept call for good with an already encoded body of its reply schema. Frees
 * the call. */
void svc_call_finish_encoded(svc_call_t *call, svc_str body);

/* Sends a part; the call stays. The first part lifts the caller's `expires`: from then
 * on the call lives until `hold_ms` after its latest part (0: until finished or
 * cancelled). RC_UNAVAILABLE: the peer is gone and the call was cancelled and freed
 * (its cancel function has run). RC_BUSY: the peer reads too slowly, the part was
 * dropped, the call stays. */
svc_rc svc_call_partial(svc_call_t *call, const void *rep, uint64_t hold_ms);

/* Calls fn(arg) when a kept call is cancelled (deadline, peer gone, shutdown), just
 * before it is freed; not after finish. */
typedef void svc_call_cancel_fn(void *arg, uint64_t call_id);
void svc_call_on_cancel(svc_call_t *call, svc_call_cancel_fn *fn, void *arg);

/* Frees a kept call without an answer (its caller has said that it no longer waits).
 * Runs no cancel function. */
void svc_call_drop(svc_call_t *call);

#endif
