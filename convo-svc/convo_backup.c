/* convo_backup.c - convo-svc --backup FILE and --restore FILE: conversations, and the key that opens their api keys.
 *
 * An answer that is being written is in the copy as far as it was journaled; when that is restored, its llm-svc does not
 * know it any more, and it ends as interrupted, as after a crash.
 * Versions of lists and histories are drawn anew by every change, so a cache that still knows what came after the copy
 * is never believed. */
#include "convo_backup.h"

#include "seal.h"

#include "svc/svc_backup.h"

static bool
run(const svc_ctx_t *ctx, const char *file, bool restores, char **error)
{
    const svc_backup_t backup = {
        .service = ctx->service,
        .path = ctx->config->sqlite_path,
        .rows = "conversations",
        .count_sql = "SELECT count(*) FROM conversation",
        .secret = SEAL_KEY_FILE,
        .secret_key = "convo.seal_key",
        .secret_given = ctx->config->convo_seal_key[0] != '\0',
    };

    if (ctx->config->storage_driver == SVC_STORAGE_POSTGRESQL)
        return svc_backup_refuse_postgresql(restores, error);
    return restores ? svc_backup_restore(&backup, file, error)
                    : svc_backup_make(&backup, file, error);
}

bool
convo_backup_make(svc_ctx_t *ctx, char *const *args, size_t n, char **error)
{
    (void)n;
    return run(ctx, args[0], false, error);
}

bool
convo_backup_restore(svc_ctx_t *ctx, char *const *args, size_t n, char **error)
{
    (void)n;
    return run(ctx, args[0], true, error);
}
