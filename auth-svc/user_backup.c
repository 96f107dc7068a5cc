/* user_backup.c - auth-svc --backup FILE and --restore FILE: the users, and what signs their tokens.
 *
 * Tokens name their user by id and outlive a restore. So the copy begins its new ids far behind those that may have been given
 * out after it was made: nobody who registers later becomes somebody whose token is still good.
 * A fresh database has never given any id: then they begin at two million. What is put back begins them by the clock: the same copy
 * may be put back twice, and the ids that were given in between must not be given again. */
#include "user_backup.h"

#include "token.h"

#include "svc/svc_backup.h"

#include <stdlib.h>

#define SKIP_IDS                                                             \
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'user', 0"               \
    " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'user');" \
    "UPDATE sqlite_sequence SET seq = (seq / 1000000 + 2) * 1000000 WHERE name = 'user'"
/* A thousand for each millisecond of Unix time: under 2^53 for two centuries. */
#define SKIP_TO_NOW                                                       \
    "UPDATE sqlite_sequence SET seq = max(seq,"                           \
    " CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000)" \
    " WHERE name = 'user'"

static svc_backup_t
describe(const svc_ctx_t *ctx, const char *path)
{
    return (svc_backup_t){
        .service = ctx->service,
        .path = path,
        .rows = "users",
        .count_sql = "SELECT count(*) FROM user",
        .fix_sql = SKIP_IDS,
        .restore_sql = SKIP_TO_NOW,
        .secret = TOKEN_SECRET_FILE,
        .secret_key = "jwt.secret",
        .secret_given = ctx->config->jwt_secret[0] != '\0',
    };
}

/* Runs either with the path of the users' database. */
static bool
run(const svc_ctx_t *ctx, const char *file, bool restores, char **error)
{
    char *path = svc_config_users_path(ctx->config);
    svc_backup_t backup = describe(ctx, path);
    bool good;

    if (ctx->config->storage_driver == SVC_STORAGE_POSTGRESQL)
        good = svc_backup_refuse_postgresql(restores, error);
    else if (restores)
        good = svc_backup_restore(&backup, file, error);
    else
        good = svc_backup_make(&backup, file, error);
    free(path);
    return good;
}

bool
user_backup_make(svc_ctx_t *ctx, char *const *args, size_t n, char **error)
{
    (void)n;
    return run(ctx, args[0], false, error);
}

bool
user_backup_restore(svc_ctx_t *ctx, char *const *args, size_t n, char **error)
{
    (void)n;
    return run(ctx, args[0], true, error);
}
