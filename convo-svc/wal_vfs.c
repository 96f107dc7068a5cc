/* wal_vfs.c - SQLite's write-ahead log, written with one system call a commit, into blocks that are there.
 *
 *     frame, frame, frame -> pending -> one write, then the sync
 *
 * With synchronous=FULL a commit's frames are synced before its readers learn of them (SQLite
 * 3.40, walIndexWriteHdr after sqlite3OsSync), so nobody looks for what is still pending; this
 * connection itself may read a page back before the commit: every other call writes
 * first. A write that fails is told by the sync, and SQLite rolls back as if it had failed itself. */
#include "wal_vfs.h"

#include "proto/base.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/statvfs.h>

/* 29 pages; more is written in several pieces. SQLite's VFS masks lengths with 0x1ffff (3.40, seekAndWriteFd). */
#define PENDING_MAX_BYTES (120u << 10)
#define ZEROS_BYTES       (64u << 10) /* written at once */
/* A full log and the last commit on top of it. */
#define RESERVED_BYTES    ((sqlite3_int64)(WAL_VFS_PAGES + 500) * 4120)
#define RESERVED_SHARE    8 /* times as much must be free */

/* A log. The default VFS' file stands behind it. */
typedef struct {
    sqlite3_file base; /* first: what SQLite sees */
    char *pending;     /* [PENDING_MAX_BYTES], owned */
    size_t n;          /* bytes pending */
    sqlite3_int64 at;  /* their offset in the file */
} wal_file_t;

_Static_assert(sizeof(wal_file_t) % 8 == 0, "the default VFS' file is aligned");

static sqlite3_file *
real_of(sqlite3_file *file)
{
    return (sqlite3_file *)((char *)file + sizeof(wal_file_t));
}

/* Writes what is pending. */
static int
flush(sqlite3_file *file)
{
    wal_file_t *self = (wal_file_t *)file;
    size_t n = self->n;

    self->n = 0;
    return n == 0 ? SQLITE_OK
                  : real_of(file)->pMethods->xWrite(real_of(file), self->pending, (int)n,
                                                    self->at);
}

static int
wal_close(sqlite3_file *file)
{
    wal_file_t *self = (wal_file_t *)file;

    (void)flush(file); /* not committed: nobody misses it */
    free(self->pending);
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int
wal_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
    int code = flush(file);

    return code != SQLITE_OK ? code
                             : real_of(file)->pMethods->xRead(real_of(file), out, n, at);
}

static int
wal_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
    wal_file_t *self = (wal_file_t *)file;
    bool fits = at == self->at + (sqlite3_int64)self->n &&
                self->n + (size_t)n <= PENDING_MAX_BYTES;

    if (!fits) {
        int code = flush(file);

        if (code != SQLITE_OK)
            return code;
        if ((size_t)n > PENDING_MAX_BYTES)
            return real_of(file)->pMethods->xWrite(real_of(file), bytes, n, at);
        self->at = at;
    }
    memcpy(self->pending + self->n, bytes, (size_t)n);
    self->n += (size_t)n;
    return SQLITE_OK;
}

static int
wal_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int code = flush(file);

    return code != SQLITE_OK ? code
                             : real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int
wal_sync(sqlite3_file *file, int flags)
{
    int code = flush(file);

    return code != SQLITE_OK ? code
                             : real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int
wal_size(sqlite3_file *file, sqlite3_int64 *out)
{
    int code = flush(file);

    return code != SQLITE_OK ? code
                             : real_of(file)->pMethods->xFileSize(real_of(file), out);
}

static int
wal_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int
wal_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int
wal_check_lock(sqlite3_file *file, int *out)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
}

static int
wal_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int
wal_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int
wal_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static const sqlite3_io_methods wal_methods = {
    .iVersion = 1, /* a log is never mapped or shared by this door */
    .xClose = wal_close,
    .xRead = wal_read,
    .xWrite = wal_write,
    .xTruncate = wal_truncate,
    .xSync = wal_sync,
    .xFileSize = wal_size,
    .xLock = wal_lock,
    .xUnlock = wal_unlock,
    .xCheckReservedLock = wal_check_lock,
    .xFileControl = wal_control,
    .xSectorSize = wal_sector,
    .xDeviceCharacteristics = wal_device,
};

/* On a small disk the database itself needs the room. */
static bool
has_room(const char *name)
{
    struct statvfs disk;

    return statvfs(name, &disk) == 0 &&
           disk.f_bavail > RESERVED_SHARE * RESERVED_BYTES / disk.f_frsize;
}

/* Makes the file as long as a full log. It only saves time: what cannot be is left. */
static void
reserve(sqlite3_file *real)
{
    static const char zeros[ZEROS_BYTES];
    sqlite3_int64 size = 0;
    sqlite3_int64 at;
    int code = real->pMethods->xFileSize(real, &size);

    for (at = size; code == SQLITE_OK && at < RESERVED_BYTES; at += ZEROS_BYTES)
        code = real->pMethods->xWrite(real, zeros, ZEROS_BYTES, at);
    if (code == SQLITE_OK && at > size)
        code = real->pMethods->xSync(real, SQLITE_SYNC_NORMAL);
    if (code != SQLITE_OK)
        (void)real->pMethods->xTruncate(real, size);
}

/* --- the VFS ---------------------------------------------------------------------------------- */

/* SQLite's list of VFSs is the process' own, and it keeps what is registered: so these are, too. Written once. */
static sqlite3_vfs vfs;
static sqlite3_vfs *real_vfs;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int
open_file(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags,
          int *flags_out)
{
    wal_file_t *wal = (wal_file_t *)file;
    int code;

    (void)self;
    if ((flags & SQLITE_OPEN_WAL) == 0)
        return real_vfs->xOpen(real_vfs, name, file, flags, flags_out);
    memset(wal, 0, sizeof(*wal));
    wal->pending = svc_try_alloc(PENDING_MAX_BYTES);
    if (wal->pending == NULL)
        return SQLITE_NOMEM;
    code = real_vfs->xOpen(real_vfs, name, real_of(file), flags, flags_out);
    if (code != SQLITE_OK) {
        free(wal->pending);
        return code; /* without methods SQLite does not close it */
    }
    file->pMethods = &wal_methods;
    if (has_room(name))
        reserve(real_of(file));
    return SQLITE_OK;
}

static void
make_vfs(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    if (real_vfs == NULL)
        return;
    vfs = *real_vfs;
    vfs.zName = "llmb-wal";
    vfs.szOsFile += (int)sizeof(wal_file_t);
    vfs.xOpen = open_file;
    (void)sqlite3_vfs_register(&vfs, 0);
}

const char *
wal_vfs_name(void)
{
    (void)pthread_once(&once, make_vfs);
    return vfs.zName;
}
