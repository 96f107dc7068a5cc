/* convo_import.h - convo-svc --import-original: the conversations of the original backend, with their ids.
 *
 * convo-svc --import-original llm_backend.db HOST:PORT[/db] MAP [dry-run]: reads the table conversations(id, title, user_id,
 * create_time) and the keys conversation:<id> of Redis, whose password is in the environment; MAP is what auth-svc has written of
 * the users. scripts/import-original runs both. A conversation that is here already is left as it is: twice is the same as
 * once. With SQLite convo-svc must not run meanwhile. Thread: the main one. */
#ifndef CONVO_IMPORT_H
#define CONVO_IMPORT_H

#include "svc/svc_ctx.h"

#define CONVO_IMPORT_PASSWORD_ENV "ORIGINAL_REDIS_PASSWORD"

/* A tool of svc_main.h. Prints a line for each conversation that cannot be brought over, or not as it was, then a sum. False with
 * *error (free() it): what kept it from going on; what was added stays, and the next run goes on from there. */
bool convo_import(svc_ctx_t *ctx, char *const *args, size_t n, char **error);

#endif
