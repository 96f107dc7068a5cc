/* provider_set.h - the providers of one configuration, and which of them serves a model.
 *
 * When the configuration is read again there is a new set for new answers; the one before stays
 * until the last answer that began with it is over, with the settings and keys that it began
 * with. The built-in model is in every set and belongs to none. Thread: the loop's. */
#ifndef LLM_SVC_PROVIDER_SET_H
#define LLM_SVC_PROVIDER_SET_H

#include "model_router.h"
#include "relay.h"

typedef struct provider_set provider_set_t;

/* Gives the set of `config`, which it holds (svc_config_hold), named in `metrics` (may be NULL); keeps relay and `echo`, the built-in model. NULL with *error
 * (free() it) set: one line that says what is wrong. */
provider_set_t *provider_set_new(relay_t *relay, const svc_config_t *config,
                                 provider_t *echo, svc_metrics_t *metrics, char **error);

/* Frees its providers with all their jobs, and sets *self_p to NULL. NULL-safe. */
void provider_set_destroy(provider_set_t **self_p);

/* Who serves which model; as long as the set. */
const model_router_t *provider_set_router(const provider_set_t *self);

/* True when no job of its providers lives any more. */
bool provider_set_is_idle(const provider_set_t *self);

#endif
