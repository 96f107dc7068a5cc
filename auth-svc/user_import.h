/* user_import.h - auth-svc --import-original: the users of the original backend, with their passwords.
 *
 * auth-svc --import-original llm_backend.db MAP [dry-run]: reads the table users(id, username, password), adds who is not there,
 * and writes to MAP which id of theirs is which of ours, for convo-svc. scripts/import-original runs both. A user whose name
 * and hash are here already is the same one: twice is the same as once. With SQLite auth-svc must not run meanwhile.
 * Thread: the main one. */
#ifndef AUTH_USER_IMPORT_H
#define AUTH_USER_IMPORT_H

#include "user_store.h"

/* A tool of svc_main.h. Prints a line for each user that cannot be brought over, then a sum. False with *error (free() it): what kept it
 * from going on; what was added stays, and the next run goes on from there. */
bool user_import(svc_ctx_t *ctx, char *const *args, size_t n, char **error);

#endif
