/* models.h - the models that some provider serves, as llm-svc told it last.
 *
 * A list of glob patterns (* ? [...]). It is kept while llm-svc is away, so that a
 * conversation can be made then. Which provider serves a model is not known here.
 *
 * Thread: its reactor's. */
#ifndef GATEWAY_MODELS_H
#define GATEWAY_MODELS_H

#include "proto/proto.h"

typedef struct models models_t;

/* Gives an empty list. */
models_t *models_new(void);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void models_destroy(models_t **self_p);

/* Takes a list (copied). */
void models_take(models_t *self, const models_rep_t *rep);

/* True once a list was taken. */
bool models_are_known(const models_t *self);

/* True when some pattern matches. */
bool models_has(const models_t *self, svc_str model);

#endif
