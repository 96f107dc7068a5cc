/* main.c - convo-svc: conversations, and the truth about every answer.
 *
 * Wiring only: options, configuration, signals and the loop are svc_main's, the service itself is
 * built in convo.c. SIGTERM drains: no new questions, answers under way are finished as far as
 * server.drain_s allows, and the rest goes on at the next start. */
#include "convo.h"
#include "convo_backup.h"
#include "convo_import.h"

#include "svc/svc_main.h"

static void *
start(svc_ctx_t *ctx, char **error)
{
    return convo_new(ctx, error);
}

static void
announce(void *service)
{
    convo_announce(service);
}

static void
drain(void *service, uint64_t left_ms)
{
    (void)left_ms;
    convo_drain(service);
}

static void
stop(void *service)
{
    convo_t *convo = service;

    convo_destroy(&convo);
}

/* What can be done with the data besides serving it. */
static const svc_tool_t tools[] = {
    {"backup", "FILE",
     "write what there is now to FILE, also while the service runs; FILE must not exist",
     1, 1, convo_backup_make},
    {"restore", "FILE",
     "put what was written to FILE in its place again, while the service does not run", 1,
     1, convo_backup_restore},
    {"import-original", "FILE HOST:PORT[/db] MAP [dry-run]",
     "bring over the original's conversations; see scripts/import-original, which does all "
     "of it",
     3, 4, convo_import},
    {0},
};

int
main(int argc, char **argv)
{
    static const svc_service_t service = {
        .name = "convo-svc",
        .summary =
            "owns conversations, journals their answers, knows what became of them",
        .is_batch = true,
        .check_config = convo_check_config,
        .tools = tools,
        .start = start,
        .announce = announce,
        .drain = drain,
        .stop = stop,
    };

    return svc_main(&service, argc, argv);
}
