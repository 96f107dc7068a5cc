/* model_router.h - which provider serves a model.
 *
 * An ordered list of glob patterns (fnmatch: * ? [...]) over model names, compared byte
 * by byte; the first match wins, over all providers in the order of the configuration.
 * The owner adds the built-in model last, so that a provider may claim its name. No
 * sockets. Thread: the loop's. */
#ifndef LLM_SVC_MODEL_ROUTER_H
#define LLM_SVC_MODEL_ROUTER_H

#include "provider.h"
#include "svc/svc_metrics.h"

typedef struct model_router model_router_t;

/* Gives an empty router. */
model_router_t *model_router_new(void);

/* Frees it (not the providers) and sets *self_p to NULL. NULL-safe. */
void model_router_destroy(model_router_t **self_p);

/* Adds a pattern (borrowed for life) behind those already there. Patterns past
 * PROTO_PATTERNS_MAX are RC_TOO_BIG. */
svc_rc model_router_add(model_router_t *self, const char *pattern,
                        provider_t *provider) SVC_MUST_CHECK;

/* Names all patterns and providers that are there for metrics (may be NULL). */
void model_router_name(model_router_t *self, svc_metrics_t *metrics);

/* The provider that serves `model`, NULL when none does. *metric (may be NULL): the row of its pattern in metrics; 0 before
 * model_router_name. */
provider_t *model_router_find(const model_router_t *self, svc_str model,
                              uint16_t *metric);

/* The patterns in order, as llm.models tells them; good until the next change. */
proto_list_t model_router_patterns(const model_router_t *self);

#endif
