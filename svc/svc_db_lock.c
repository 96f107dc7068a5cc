/* svc_db_lock.c - the file lock that makes one process the owner of a SQLite database.
 *
 * A file of its own, since SQLite locks and unlocks the database's by itself. It stays when
 * the process ends: removing it would let two processes lock two files of the same name. The
 * descriptor is closed on exec, so that no child keeps the lock. */
#include "svc_db_lock.h"

#include "svc_secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

/* to_do: NULL for the service itself. */
static void
explain_failure(char **error, const char *db_path, const char *service, const char *to_do,
                int number)
{
    int n;

    if (number == EWOULDBLOCK && to_do != NULL)
        n = asprintf(error, "%s is in use: stop %s first, then %s", db_path, service,
                     to_do);
    else if (number == EWOULDBLOCK)
        n = asprintf(
            error,
            "%s is in use by another %s: SQLite serves one process, more than one"
            " replica needs PostgreSQL",
            db_path, service);
    else
        n = asprintf(error, "cannot lock %s.lock: %s", db_path, strerror(number));
    if (n < 0)
        *error = NULL;
}

static int
take(const char *db_path, const char *service, const char *to_do, char **error)
{
    char *path = NULL;
    int fd = -1;

    if (svc_secret_make_dirs(db_path, error) != RC_OK)
        return -1;
    if (asprintf(&path, "%s.lock", db_path) < 0)
        return -1;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
        explain_failure(error, db_path, service, to_do, errno);
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    free(path);
    return fd;
}

int
svc_db_lock_take(const char *db_path, const char *service, char **error)
{
    return take(db_path, service, NULL, error);
}

int
svc_db_lock_take_idle(const char *db_path, const char *service, const char *to_do,
                      char **error)
{
    return take(db_path, service, to_do, error);
}

void
svc_db_lock_release(int *fd_p)
{
    if (*fd_p >= 0)
        close(*fd_p);
    *fd_p = -1;
}
