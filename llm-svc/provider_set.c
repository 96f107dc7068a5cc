/* provider_set.c - one provider a row of the configuration, and the built-in model behind them.
 *
 * Patterns go to the router in the order of the file, so that the first match of all providers
 * wins; the built-in model comes last: a provider may claim its name. What would fail every
 * request of a provider, late and far from its reason, is refused here. */
#include "provider_set.h"

#include "provider_echo.h"
#include "provider_openai.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct provider_set {
    svc_config_t *config;   /* held */
    model_router_t *router; /* owned */
    provider_t **providers; /* owned; of the configuration */
    size_t n;               /* in use */
};

static bool
has_readable_ca(const svc_provider_t *row, char **error)
{
    if (row->ca_file[0] == '\0' || access(row->ca_file, R_OK) == 0)
        return true;
    SVC_ASSERT(asprintf(error, "provider %s: ca_file %s: %s", row->name, row->ca_file,
                        strerror(errno)) >= 0);
    return false;
}

static bool
add_provider(provider_set_t *self, relay_t *relay, const svc_provider_t *row,
             char **error)
{
    provider_t *provider = provider_openai_new(relay, row,
                                               self->config->test_plain_paths);

    self->providers[self->n++] = provider;
    for (size_t i = 0; i < row->models.n; i++)
        if (model_router_add(self->router, row->models.items[i], provider) != RC_OK) {
            SVC_ASSERT(asprintf(error,
                                "provider %s: too many model patterns, or one too long",
                                row->name) >= 0);
            return false;
        }
    return true;
}

provider_set_t *
provider_set_new(relay_t *relay, const svc_config_t *config, provider_t *echo,
                 svc_metrics_t *metrics, char **error)
{
    provider_set_t *self = svc_alloc(sizeof(*self));
    bool good = true;

    self->config = svc_config_hold(config);
    self->router = model_router_new();
    self->providers = svc_alloc((config->n_providers + 1) * sizeof(provider_t *));
    for (size_t i = 0; i < config->n_providers && good; i++)
        good = has_readable_ca(&config->providers[i], error) &&
               add_provider(self, relay, &config->providers[i], error);
    if (good && model_router_add(self->router, PROVIDER_ECHO_MODEL, echo) != RC_OK) {
        *error = svc_str_dup(SVC_LIT("providers: too many model patterns"));
        good = false;
    }
    if (good)
        model_router_name(self->router, metrics);
    else
        provider_set_destroy(&self);
    return self;
}

void
provider_set_destroy(provider_set_t **self_p)
{
    provider_set_t *self = *self_p;

    if (self == NULL)
        return;
    for (size_t i = 0; i < self->n; i++)
        self->providers[i]->destroy(&self->providers[i]);
    free(self->providers);
    model_router_destroy(&self->router);
    svc_config_destroy(&self->config);
    free(self);
    *self_p = NULL;
}

const model_router_t *
provider_set_router(const provider_set_t *self)
{
    return self->router;
}

bool
provider_set_is_idle(const provider_set_t *self)
{
    for (size_t i = 0; i < self->n; i++)
        if (!self->providers[i]->is_idle(self->providers[i]))
            return false;
    return true;
}
