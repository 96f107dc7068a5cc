/* svc_backup.h - a copy of a SQLite database that may be in use, and the way back.
 *
 * What --backup FILE and --restore FILE of auth-svc and convo-svc do, each a process of its own. A backup reads beside the service,
 * which notices nothing: one moment of the database, written to a file of another name, checked, synced, and only then
 * called FILE; an existing FILE is never touched. A restore needs the service's lock, checks the file, and moves what it
 * replaces aside. A secret that the service has made beside its database goes along. Thread: the main one. */
#ifndef SVC_SVC_BACKUP_H
#define SVC_SVC_BACKUP_H

#include "proto/base.h"

typedef struct {
    const char *service;     /* whose database it is */
    const char *path;        /* of the database */
    const char *rows;        /* what is counted, for the report: "users" */
    const char *count_sql;   /* counts them; fails in a database of something else */
    const char *fix_sql;     /* run on the copy; NULL: nothing is to be changed */
    const char *restore_sql; /* run on what is put back; likewise */
    const char *secret; /* name of the file beside the database that a restore needs */
    const char *secret_key; /* the configuration's key for the same */
    bool secret_given;      /* the configuration has it: there is no file */
} svc_backup_t;

/* Writes a copy to `file`, 0600, its secret beside it, and prints a line that says so. False with *error (free() it): one line; nothing
 * is left behind then. Ends early when svc_main_is_told_to_end(). */
bool svc_backup_make(const svc_backup_t *self, const char *file, char **error);

/* Puts a copy of `file` in the place of the database, takes the secret beside it along, and prints a line for each that it did. What was
 * there keeps its content under a name that ends in ".replaced-<Unix ms>". False with *error: likewise. */
bool svc_backup_restore(const svc_backup_t *self, const char *file, char **error);

/* Sets *error to what to do for a backup of PostgreSQL, or a restore, and gives false. */
bool svc_backup_refuse_postgresql(bool restores, char **error);

#endif
