/* convo_backup.h - convo-svc --backup FILE and --restore FILE: conversations, and the key that opens their api keys.
 *
 * The work is svc_backup's; here stands what is convo-svc's own about it. Thread: the main one.
 * With storage.driver: postgresql they only say what to do instead. They run in a process of their own, beside convo-svc or
 * without it, and use nothing of it but the configuration. */
#ifndef CONVO_BACKUP_H
#define CONVO_BACKUP_H

#include "svc/svc_ctx.h"

/* Tools of svc_main.h: one argument, the file. False with *error (free() it): one line. */
bool convo_backup_make(svc_ctx_t *ctx, char *const *args, size_t n, char **error);

/* The way back, while convo-svc does not run; likewise. */
bool convo_backup_restore(svc_ctx_t *ctx, char *const *args, size_t n, char **error);

#endif
