/* svc_db_lock.h - the file lock that makes one process the owner of a SQLite database.
 *
 * "<database>.lock" beside it, held by flock(2) while the process lives: a second replica of a
 * service refuses to start, and says what it needs instead, rather than meeting "database is
 * locked" at some odd moment. The kernel frees the lock when the process ends, however it ends.
 * auth-svc and convo-svc lock a file each. Thread: any, but one a lock. */
#ifndef SVC_SVC_DB_LOCK_H
#define SVC_SVC_DB_LOCK_H

#include "proto/base.h"

/* Makes the database's folder when missing and takes the lock for `service` (the folder name that the error tells). Gives the
 * descriptor to keep, -1 with *error (free() it): one line. */
int svc_db_lock_take(const char *db_path, const char *service, char **error);

/* The same for somebody who wants to change the database while its service does not run, and says in `to_do` what for ("restore
 * it"). Thread: any. */
int svc_db_lock_take_idle(const char *db_path, const char *service, const char *to_do,
                          char **error);

/* Gives the lock back; -1 is harmless. Sets *fd_p to -1. */
void svc_db_lock_release(int *fd_p);

#endif
