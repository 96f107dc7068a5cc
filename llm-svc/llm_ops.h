/* llm_ops.h - the operations that llm-svc serves on the bus, and the service that they belong to.
 *
 * Builds the parts (server, PUB socket, relay, providers, live generations) and takes
 * them down in the right order. What an operation does to an answer is live.h's
 * business; what it says on the wire is in proto/PROTOCOL.md. Thread: the loop's. */
#ifndef LLM_SVC_LLM_OPS_H
#define LLM_SVC_LLM_OPS_H

#include "svc/svc_ctx.h"

typedef struct llm llm_t;

/* Builds the service on ctx->loop. NULL with *error (free() it) set: it cannot start.
 * Keeps ctx. */
llm_t *llm_new(svc_ctx_t *ctx, char **error);

/* Where it is bound, real ports and all: the bus and the token frames. Live as long as
 * self. */
const char *llm_bus_endpoint(const llm_t *self);
const char *llm_tokens_endpoint(const llm_t *self);

/* New answers are written by the providers of `fresh` (held for as long as they need it), within its llm.max_answer_bytes; those that
 * run go on as they began. False with *error (free() it) set: refused, nothing has changed. */
bool llm_reload(llm_t *self, const svc_config_t *fresh, char **error);

/* Says "draining" from now on, and serves on. */
void llm_announce(llm_t *self);

/* Takes no new work, ends what is there within left_ms and stops the loop when nothing
 * is left. */
void llm_drain(llm_t *self, uint64_t left_ms);

/* Closes everything and sets *self_p to NULL. NULL-safe. */
void llm_destroy(llm_t **self_p);

#endif
