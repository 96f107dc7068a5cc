/* models.c - the models that some provider serves, as llm-svc told it last.
 *
 * The list is short and asked for once a conversation is made, so it is walked.
 * Only whether a model is served matters here; by which provider is llm-svc's
 * business. It matches by fnmatch, as llm-svc does. */
#include "models.h"

#include <fnmatch.h>
#include <stdlib.h>

struct models {
    bool known;      /* a list was taken */
    char **patterns; /* owned */
    size_t n;        /* count */
};

models_t *
models_new(void)
{
    return svc_alloc(sizeof(models_t));
}

static void
forget(models_t *self)
{
    for (size_t i = 0; i < self->n; i++)
        free(self->patterns[i]);
    free(self->patterns);
    self->patterns = NULL;
    self->n = 0;
}

void
models_destroy(models_t **self_p)
{
    if (*self_p == NULL)
        return;
    forget(*self_p);
    free(*self_p);
    *self_p = NULL;
}

void
models_take(models_t *self, const models_rep_t *rep)
{
    const model_pattern_t *patterns = rep->patterns.items;

    forget(self);
    self->known = true;
    self->patterns = svc_alloc((rep->patterns.n + 1) * sizeof *self->patterns);
    for (self->n = 0; self->n < rep->patterns.n; self->n++)
        self->patterns[self->n] = svc_str_dup(patterns[self->n].pattern);
}

bool
models_are_known(const models_t *self)
{
    return self->known;
}

bool
models_has(const models_t *self, svc_str model)
{
    char name[PROTO_MODEL_MAX_BYTES + 1];

    if (model.n == 0 || model.n > PROTO_MODEL_MAX_BYTES ||
        memchr(model.p, '\0', model.n) != NULL)
        return false;
    memcpy(name, model.p, model.n);
    name[model.n] = '\0';
    for (size_t i = 0; i < self->n; i++)
        if (fnmatch(self->patterns[i], name, 0) == 0)
            return true;
    return false;
}
