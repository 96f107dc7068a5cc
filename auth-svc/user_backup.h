/* user_backup.h - auth-svc --backup FILE and --restore FILE: the users, and what signs their tokens.
 *
 * The work is svc_backup's; here stands what is auth-svc's own about it. Thread: the main one.
 * With storage.driver: postgresql they only say what to do instead. They run in a process of their own, beside auth-svc or
 * without it, and use nothing of it but the configuration. */
#ifndef AUTH_USER_BACKUP_H
#define AUTH_USER_BACKUP_H

#include "svc/svc_ctx.h"

/* Tools of svc_main.h: one argument, the file. False with *error (free() it): one line. */
bool user_backup_make(svc_ctx_t *ctx, char *const *args, size_t n, char **error);

/* The way back, while auth-svc does not run; likewise. */
bool user_backup_restore(svc_ctx_t *ctx, char *const *args, size_t n, char **error);

#endif
