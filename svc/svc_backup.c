/* svc_backup.c - a copy of a SQLite database that may be in use, and the way back.
 *
 * VACUUM INTO reads in one read transaction, so the copy is the database as the last commit before it left it, whatever is
 * written meanwhile; with the write-ahead log no writer waits for it (the log only grows until it is through). The
 * service's lock is a file of its own that is not asked for: SQLite's own locks let any process read. The copy has no log of
 * its own and is compact. Its file is made under another name and given its own when all of it is on the disk, so
 * there is never half a backup; it replaces nothing. */
#include "svc_backup.h"

#include "svc_db_lock.h"
#include "svc_main.h"
#include "svc_secret.h"
#include "svc_time.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUSY_MS 5000
#define STEPS_PER_LOOK \
    100000 /* of SQLite's machine: a look for signals costs a system call */
#define SECRET_MAX_BYTES 256 /* of a secret's file, see svc_secret.c */

/* Sets *error to "path: what: why" and gives false. */
static bool
explain(char **error, const char *path, const char *what, const char *why)
{
    SVC_ASSERT(asprintf(error, "%s: %s: %s", path, what, why) >= 0);
    return false;
}

static char *
join(const char *path, const char *suffix)
{
    char *joined = NULL;

    SVC_ASSERT(asprintf(&joined, "%s%s", path, suffix) >= 0);
    return joined;
}

static bool
exists(const char *path)
{
    struct stat unused;

    return lstat(path, &unused) == 0;
}

/* Syncs a file or a directory. */
static bool
sync_path(const char *path, char **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    int why = errno;

    if (fd >= 0)
        close(fd);
    return good || explain(error, path, "cannot sync it", strerror(why));
}

static bool
sync_directory_of(const char *path, char **error)
{
    char *dir = svc_secret_path_beside(path, ".");
    bool good = sync_path(dir, error);

    free(dir);
    return good;
}

/* --- databases --------------------------------------------------------------------------- */

static int
is_told_to_end(void *arg)
{
    (void)arg;
    return svc_main_is_told_to_end();
}

/* Opens a database that exists. It is not copied from its log when this connection is the last: nobody here changes what it reads. */
static sqlite3 *
open_database(const char *path, char **error)
{
    sqlite3 *db = NULL;
    int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                               NULL);

    if (code == SQLITE_OK)
        code = sqlite3_busy_timeout(db, BUSY_MS);
    if (code == SQLITE_OK) {
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        sqlite3_progress_handler(db, STEPS_PER_LOOK, is_told_to_end, NULL);
        return db;
    }
    (void)explain(error, path, "cannot open this database",
                  db == NULL ? "no memory" : sqlite3_errmsg(db));
    (void)sqlite3_close(db);
    return NULL;
}

/* Runs a statement and copies the first column of its first row to out[n]. */
static bool
ask(sqlite3 *db, const char *sql, char *out, size_t n)
{
    sqlite3_stmt *q = NULL;
    bool good = sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK &&
                sqlite3_step(q) == SQLITE_ROW;
    const unsigned char *text = good ? sqlite3_column_text(q, 0) : NULL;

    (void)snprintf(out, n, "%s", text == NULL ? "" : (const char *)text);
    (void)sqlite3_finalize(q);
    return good;
}

static bool
copy_database(const char *from, const char *to, char **error)
{
    sqlite3 *db = open_database(from, error);
    sqlite3_stmt *q = NULL;
    char tables[32];
    bool good;

    if (db == NULL)
        return false;
    /* asked first, since VACUUM says of a file that was cut off that the copy cannot be opened */
    good = ask(db, "SELECT count(*) FROM sqlite_schema", tables, sizeof(tables)) &&
           sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &q, NULL) == SQLITE_OK &&
           sqlite3_bind_text(q, 1, to, -1, SQLITE_STATIC) == SQLITE_OK &&
           sqlite3_step(q) == SQLITE_DONE;
    if (!good)
        (void)explain(error, from, "cannot be copied", sqlite3_errmsg(db));
    (void)sqlite3_finalize(q);
    (void)sqlite3_close(db);
    return good;
}

/* Looks whether a copy is whole and of this service, changes what is to be changed in it, and counts. */
static bool
check_copy(const svc_backup_t *self, const char *path, const char *name,
           const char *fix_sql, char *count, size_t n, char **error)
{
    char said[256];
    sqlite3 *db = open_database(path, error);
    bool good = false;

    if (db == NULL)
        return false;
    if (!ask(db, "PRAGMA integrity_check(1)", said, sizeof(said)))
        (void)explain(error, name, "cannot be checked", sqlite3_errmsg(db));
    else if (strcmp(said, "ok") != 0)
        (void)explain(error, name, "is damaged", said);
    else if (!ask(db, self->count_sql, count, n))
        (void)explain(error, name, "is no database of this service", sqlite3_errmsg(db));
    else if (fix_sql != NULL && sqlite3_exec(db, fix_sql, NULL, NULL, NULL) != SQLITE_OK)
        (void)explain(error, name, "cannot be written", sqlite3_errmsg(db));
    else
        good = true;
    (void)sqlite3_close(db);
    return good;
}

/* Makes a checked and synced copy at `to`; `name` stands for it in what is told. */
static bool
make_copy(const svc_backup_t *self, const char *from, const char *to, const char *name,
          const char *fix_sql, char *count, size_t n, char **error)
{
    static const char *const leftovers[] = {"", "-journal", "-wal", "-shm"};
    bool good = copy_database(from, to, error) &&
                check_copy(self, to, name, fix_sql, count, n, error) &&
                sync_path(to, error);

    for (size_t i = good ? 1 : 0; i < SVC_COUNT(leftovers); i++) {
        char *path = join(to, leftovers[i]);

        (void)unlink(path);
        free(path);
    }
    return good;
}

/* --- secrets ----------------------------------------------------------------------------- */

/* Reads a secret's file. Gives its length, -1 when there is none or it cannot be read. */
static ssize_t
read_small(const char *path, char *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, SECRET_MAX_BYTES);

    if (fd >= 0)
        close(fd);
    return n;
}

static bool
write_small(const char *path, const char *bytes, size_t n, char **error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good;

    errno = fd < 0 ? errno : ENOSPC;
    good = fd >= 0 && write(fd, bytes, n) == (ssize_t)n && fsync(fd) == 0;
    if (!good)
        (void)explain(error, path, "cannot write this file", strerror(errno));
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && !good)
        (void)unlink(path);
    return good;
}

/* Moves what is at `path` aside, if anything is. */
static bool
set_aside(const char *path, const char *suffix, char **error)
{
    char *aside = join(path, suffix);
    bool good = rename(path, aside) == 0 || errno == ENOENT;

    if (!good)
        (void)explain(error, path, "cannot be moved aside", strerror(errno));
    free(aside);
    return good;
}

/* Copies the secret `from` to `to`, unless that has it already. Another one is moved aside when there is a suffix for it.
 * *made: a file was written. */
static bool
copy_secret(const char *from, const char *to, const char *suffix, bool *made,
            char **error)
{
    char theirs[SECRET_MAX_BYTES], ours[SECRET_MAX_BYTES];
    ssize_t n = read_small(from, theirs);
    ssize_t n_ours = read_small(to, ours);
    bool same = n >= 0 && n == n_ours && memcmp(theirs, ours, (size_t)n) == 0;
    bool good = n >= 0;

    if (!good)
        (void)explain(error, from, "cannot read this secret", strerror(errno));
    else if (!same && exists(to) && suffix == NULL)
        good = explain(error, to, "is another secret",
                       "one folder keeps the backups of one system");
    else if (!same)
        good = (suffix == NULL || set_aside(to, suffix, error)) &&
               write_small(to, theirs, (size_t)n, error);
    *made = good && !same;
    sodium_memzero(theirs, sizeof(theirs));
    sodium_memzero(ours, sizeof(ours));
    return good;
}

/* --- backup ------------------------------------------------------------------------------ */

/* Gives the finished copy its name, which must not be taken. */
static bool
publish(const char *made, const char *file, char **error)
{
    bool good = renameat2(AT_FDCWD, made, AT_FDCWD, file, RENAME_NOREPLACE) == 0;

    if (!good && errno == EINVAL) /* a file system without that */
        good = link(made, file) == 0;
    if (!good)
        (void)explain(error, file, "cannot make this file", strerror(errno));
    (void)unlink(made);
    if (good && !sync_directory_of(file, error)) {
        (void)unlink(file);
        good = false;
    }
    return good;
}

/* Says what there is now: one line. */
static void
report(const svc_backup_t *self, const char *file, const char *count, const char *secret)
{
    struct stat it = {0};

    (void)stat(file, &it);
    printf("%s: %s: %s %s, %lld bytes, checked; ", self->service, file, count, self->rows,
           (long long)it.st_size);
    if (secret != NULL)
        printf("its secret is %s\n", secret);
    else
        printf("its secret is %s in the configuration: keep that, too\n",
               self->secret_key);
}

bool
svc_backup_make(const svc_backup_t *self, const char *file, char **error)
{
    char *secret_from = svc_secret_path_beside(self->path, self->secret);
    char *secret_to = svc_secret_path_beside(file, self->secret);
    char *temporary = NULL;
    char count[32];
    bool has_secret = false; /* this call has written it */
    bool good = false;

    SVC_ASSERT(asprintf(&temporary, "%s.%016llx.part", file,
                        (unsigned long long)svc_random_u64()) >= 0);
    if (exists(file))
        (void)explain(error, file, "exists", "a backup never replaces anything");
    else if (self->secret_given ||
             copy_secret(secret_from, secret_to, NULL, &has_secret, error))
        good = make_copy(self, self->path, temporary, file, self->fix_sql, count,
                         sizeof(count), error) &&
               publish(temporary, file, error);
    if (good)
        report(self, file, count, self->secret_given ? NULL : secret_to);
    else if (has_secret)
        (void)unlink(secret_to);
    free(temporary);
    free(secret_from);
    free(secret_to);
    return good;
}

/* --- restore ----------------------------------------------------------------------------- */

/* Moves the database and its log aside, the log first: a database without its log is what it was at some earlier moment, a log
 * without its database is nothing. Both or none. */
static bool
set_database_aside(const char *path, const char *suffix, char **error)
{
    char *wal = join(path, "-wal");
    char *shm = join(path, "-shm");
    char *wal_aside = NULL;
    bool good;

    SVC_ASSERT(asprintf(&wal_aside, "%s%s-wal", path, suffix) >= 0);
    good = rename(wal, wal_aside) == 0 || errno == ENOENT;
    if (!good)
        (void)explain(error, wal, "cannot be moved aside", strerror(errno));
    (void)unlink(shm); /* made anew from the log */
    if (good && !set_aside(path, suffix, error)) {
        (void)rename(wal_aside, wal);
        good = false;
    }
    free(wal);
    free(shm);
    free(wal_aside);
    return good;
}

/* Takes along the secret that lies beside the backup, if the configuration has none of its own. *made: it was another one. */
static bool
restore_secret(const svc_backup_t *self, const char *file, const char *to,
               const char *suffix, bool *made, char **error)
{
    char *from = svc_secret_path_beside(file, self->secret);
    bool good = self->secret_given || !exists(from) ||
                copy_secret(from, to, suffix, made, error);

    free(from);
    return good;
}

/* Puts the secret back that restore_secret() has moved aside. */
static void
undo_secret(const char *secret, const char *suffix)
{
    char *aside = join(secret, suffix);

    if (rename(aside, secret) != 0)
        (void)unlink(secret); /* there was none */
    free(aside);
}

/* Everything under the lock. */
static bool
replace(const svc_backup_t *self, const char *file, char **error)
{
    char *temporary = join(self->path, ".restoring");
    char *secret = svc_secret_path_beside(self->path, self->secret);
    char suffix[64], count[32];
    bool had_one = exists(self->path), has_secret = false;
    bool good;

    (void)snprintf(suffix, sizeof(suffix), ".replaced-%llu",
                   (unsigned long long)svc_unix_ms());
    (void)unlink(temporary); /* of a restore that was killed */
    good = make_copy(self, file, temporary, file, self->restore_sql, count, sizeof(count),
                     error) &&
           restore_secret(self, file, secret, suffix, &has_secret, error);
    if (good && !set_database_aside(self->path, suffix, error)) {
        if (has_secret)
            undo_secret(secret, suffix);
        good = false;
    }
    if (good && rename(temporary, self->path) != 0)
        good = explain(error, self->path, "cannot be put in place", strerror(errno));
    good = good && sync_directory_of(self->path, error);
    if (!good)
        (void)unlink(temporary);
    if (good && has_secret)
        printf("%s: %s is that of the backup\n", self->service, secret);
    if (good && had_one)
        printf("%s: %s: %s %s, checked; what was there is %s%s\n", self->service,
               self->path, count, self->rows, self->path, suffix);
    else if (good)
        printf("%s: %s: %s %s, checked\n", self->service, self->path, count, self->rows);
    free(temporary);
    free(secret);
    return good;
}

bool
svc_backup_restore(const svc_backup_t *self, const char *file, char **error)
{
    int lock = svc_db_lock_take_idle(self->path, self->service, "restore", error);
    bool good;

    if (lock < 0)
        return false;
    good = replace(self, file, error);
    svc_db_lock_release(&lock);
    return good;
}

bool
svc_backup_refuse_postgresql(bool restores, char **error)
{
    *error = svc_str_dup(svc_str_c(
        restores
            ? "storage.driver is postgresql: restore with pg_restore -d URL --clean "
              "--if-exists FILE, see deploy/README.md"
            : "storage.driver is postgresql: back up with pg_dump -Fc -d URL -f FILE, "
              "see deploy/README.md"));
    return false;
}
