/* model_router.c - a list walked from the front: some dozen patterns at most, once a question.
 *
 * Patterns are kept in the shape in which llm.models answers with them. A model's name
 * comes from a user: it is copied into a bounded buffer for fnmatch, and one that does
 * not fit or holds a NUL is served by nobody. */
#include "model_router.h"

#include <fnmatch.h>
#include <stdlib.h>

struct model_router {
    model_pattern_t patterns[PROTO_PATTERNS_MAX]; /* views of NUL-terminated strings */
    provider_t *providers[PROTO_PATTERNS_MAX];    /* who serves it; borrowed */
    uint16_t metrics[PROTO_PATTERNS_MAX];         /* its row in metrics */
    size_t n;                                     /* rows in use */
};

model_router_t *
model_router_new(void)
{
    return svc_alloc(sizeof(model_router_t));
}

void
model_router_destroy(model_router_t **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

svc_rc
model_router_add(model_router_t *self, const char *pattern, provider_t *provider)
{
    if (self->n == PROTO_PATTERNS_MAX || strlen(pattern) > PROTO_MODEL_MAX_BYTES)
        return RC_TOO_BIG;
    self->patterns[self->n].pattern = svc_str_c(pattern);
    self->providers[self->n] = provider;
    self->n++;
    return RC_OK;
}

void
model_router_name(model_router_t *self, svc_metrics_t *metrics)
{
    for (size_t i = 0; i < self->n; i++) {
        const char *provider = self->providers[i]->name;

        self->metrics[i] = svc_metrics_label(metrics, SVC_L_MODEL, provider,
                                             self->patterns[i].pattern.p);
        (void)svc_metrics_label(metrics, SVC_L_PROVIDER, provider, NULL);
    }
}

provider_t *
model_router_find(const model_router_t *self, svc_str model, uint16_t *metric)
{
    char name[PROTO_MODEL_MAX_BYTES + 1];

    if (model.n == 0 || model.n >= sizeof(name) || memchr(model.p, '\0', model.n) != NULL)
        return NULL;
    memcpy(name, model.p, model.n);
    name[model.n] = '\0';
    for (size_t i = 0; i < self->n; i++)
        if (fnmatch(self->patterns[i].pattern.p, name, 0) == 0) {
            if (metric != NULL)
                *metric = self->metrics[i];
            return self->providers[i];
        }
    return NULL;
}

proto_list_t
model_router_patterns(const model_router_t *self)
{
    /* the list is only read: proto_list_t serves decoding, too, and is not const for that
     * */
    return (proto_list_t){(void *)(uintptr_t)self->patterns, self->n};
}
