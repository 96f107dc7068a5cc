/* main.c - the auth-svc process: who somebody is.
 *
 * Wiring only: the operations are in auth_ops.c, options, configuration and signals in
 * svc_main.c. Users are in SQLite or, with storage.driver: postgresql, where several auth-svc can
 * share them; the driver of user_store.h is chosen here. */
#include "auth_ops.h"
#include "user_backup.h"
#include "user_import.h"

#include "svc/svc_main.h"

static void *
start(svc_ctx_t *ctx, char **error)
{
    const bool shared = ctx->config->storage_driver == SVC_STORAGE_POSTGRESQL;

    return auth_new(ctx, shared ? &user_store_postgresql : &user_store_sqlite, error);
}

static bool
reload(void *service, const svc_config_t *fresh, char **error)
{
    (void)error;
    auth_reload(service, fresh);
    return true;
}

static void
announce(void *service)
{
    auth_announce(service);
}

static void
drain(void *service, uint64_t left_ms)
{
    (void)left_ms;
    auth_drain(service);
}

static void
stop(void *service)
{
    auth_t *auth = service;

    auth_destroy(&auth);
}

/* What can be done with the data besides serving it. */
static const svc_tool_t tools[] = {
    {"backup", "FILE",
     "write what there is now to FILE, also while the service runs; FILE must not exist",
     1, 1, user_backup_make},
    {"restore", "FILE",
     "put what was written to FILE in its place again, while the service does not run", 1,
     1, user_backup_restore},
    {"import-original", "FILE MAP [dry-run]",
     "bring over the original's users; see scripts/import-original, which does all of it",
     2, 3, user_import},
    {0},
};

int
main(int argc, char **argv)
{
    const svc_service_t service = {
        .name = "auth-svc",
        .summary = "users, passwords and tokens",
        .check_config = auth_check_config,
        .tools = tools,
        .start = start,
        .reload = reload,
        .announce = announce,
        .drain = drain,
        .stop = stop,
    };

    return svc_main(&service, argc, argv);
}
