/* wal_vfs.h - SQLite's write-ahead log, written with one system call a commit, into blocks that are there.
 *
 * SQLite writes a commit of n pages by 2n system calls, one behind the other in the file; here they
 * are gathered and written at once when it asks for the sync. And a log that grows has the file
 * system write its own journal with each sync: a new log is filled with zeros first, which SQLite
 * takes for an empty one. Everything else is the default VFS. Only for the connection that writes. */
#ifndef WAL_VFS_H
#define WAL_VFS_H

/* Pages that a log may hold before it is copied to the database. */
#define WAL_VFS_PAGES 2000

/* Gives the name to open a database with, NULL when SQLite has no default VFS. Thread: any. */
const char *wal_vfs_name(void);

#endif
