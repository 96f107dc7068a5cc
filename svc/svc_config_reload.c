/* svc_config_reload.c - which keys are live, and what differs between two readings.
 *
 * Goes by the same table of keys as everything else. Names are told, values never: some are
 * secrets. What is not live is put back to what runs, so that whoever is handed the result may
 * take all of it as it stands. */
#include "svc_config_reload.h"
#include "svc_config_keys.h"

#include <stdlib.h>

#define NAMES_MAX_BYTES 8192 /* all names there are, and commas */

/* Who adds one makes its service's reload take it over, and says so in README.md. */
static const char *const live_keys[] = {
    "log.level",
    "server.cors_origins",
    "server.max_body_bytes",
    "server.max_connections",
    "server.max_connections_per_address",
    "auth.guess_limit",
    "auth.guess_window_s",
    "llm.max_answer_bytes",
};

static bool
is_live(const config_key_t *key)
{
    for (size_t i = 0; i < SVC_COUNT(live_keys); i++)
        if (strcmp(live_keys[i], key->path) == 0)
            return true;
    return false;
}

static void
add_name(svc_buf_t *names, const char *name)
{
    SVC_ASSERT(svc_buf_printf(names, "%s%s", names->n > 0 ? ", " : "", name) == RC_OK);
}

static bool
is_same_provider(const svc_provider_t *a, const svc_provider_t *b)
{
    const config_provider_t left = {.is = *a}, right = {.is = *b};

    for (const config_key_t *key = svc_config_provider_keys; key->path != NULL; key++)
        if (key->where < sizeof(svc_provider_t) && !svc_config_same(key, &left, &right))
            return false; /* beyond it stands how a key was found, not what it is */
    return true;
}

static bool
has_same_providers(const svc_config_t *a, const svc_config_t *b)
{
    if (a->n_providers != b->n_providers)
        return false;
    for (size_t i = 0; i < a->n_providers; i++)
        if (!is_same_provider(&a->providers[i], &b->providers[i]))
            return false;
    return true;
}

void
svc_config_renew(svc_config_t *fresh, const svc_config_t *running,
                 svc_config_change_t *out)
{
    svc_buf_t live, restart;

    svc_buf_init(&live, NAMES_MAX_BYTES);
    svc_buf_init(&restart, NAMES_MAX_BYTES);
    for (const config_key_t *key = svc_config_keys; key->path != NULL; key++) {
        if (svc_config_same(key, fresh, running))
            continue;
        add_name(is_live(key) ? &live : &restart, key->path);
        if (!is_live(key))
            svc_config_copy(key, fresh, running);
    }
    if (!has_same_providers(fresh, running))
        add_name(&live, "providers");
    out->live = svc_str_dup(svc_buf_str(&live));
    out->restart = svc_str_dup(svc_buf_str(&restart));
    svc_buf_fini(&live);
    svc_buf_fini(&restart);
}

void
svc_config_change_fini(svc_config_change_t *self)
{
    free(self->live);
    free(self->restart);
    *self = (svc_config_change_t){NULL, NULL};
}
