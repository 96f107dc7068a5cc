/* main.c - llm-svc: relays live answers from providers.
 *
 * Wiring only: options, configuration, signals and the loop are svc_main's, the service
 * itself is built in llm_ops.c. A first SIGTERM drains: answers that run are finished or
 * journaled as interrupted within server.drain_s; a second one ends the process at once. */
#include "llm_ops.h"

#include "svc/svc_main.h"

static void *
start(svc_ctx_t *ctx, char **error)
{
    return llm_new(ctx, error);
}

static bool
reload(void *service, const svc_config_t *fresh, char **error)
{
    return llm_reload(service, fresh, error);
}

static void
announce(void *service)
{
    llm_announce(service);
}

static void
drain(void *service, uint64_t left_ms)
{
    llm_drain(service, left_ms);
}

static void
stop(void *service)
{
    llm_t *llm = service;

    llm_destroy(&llm);
}

int
main(int argc, char **argv)
{
    static const svc_service_t service = {
        .name = "llm-svc",
        .summary = "relays answers from language model providers as they are written",
        .is_batch = true,
        .reads_provider_keys = true,
        .start = start,
        .reload = reload,
        .announce = announce,
        .drain = drain,
        .stop = stop,
    };

    return svc_main(&service, argc, argv);
}
