/* db_lock.h - the file lock that makes one process the owner of a SQLite database.
 *
 * "<database>.lock" beside it, held by flock(2) while the process lives: a second convo-svc refuses
 * to start instead of meeting "database is locked" at some odd moment. The kernel frees the lock
 * when the process ends, however it ends. */
#ifndef DB_LOCK_H
#define DB_LOCK_H

#include "proto/base.h"

/* Makes the database's folder when missing and takes the lock. Gives the descriptor to keep, -1 with *error (free() it) set. */
int db_lock_take(const char *db_path, char **error);

/* Gives the lock back; -1 is harmless. Sets *fd_p to -1. */
void db_lock_release(int *fd_p);

#endif
