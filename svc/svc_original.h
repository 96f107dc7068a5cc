/* svc_original.h - the data of the original backend: its SQLite file, and which of its users is which of ours.
 *
 * What auth-svc and convo-svc share when they bring it over (--import-original). The original's users keep their names and
 * passwords and get ids of ours; auth-svc writes the pairs to a file, a line "theirs ours" each, and convo-svc reads it. An id of
 * ours that is 0: a dry run, nobody has been added. Nothing of the original is ever changed. Thread: the main one. */
#ifndef SVC_SVC_ORIGINAL_H
#define SVC_SVC_ORIGINAL_H

#include "proto/base.h"

#include <sqlite3.h>

#define SVC_ORIGINAL_NAME_BYTES 100 /* of what a line of the report shows of a name */
#define SVC_ORIGINAL_USERS_MAX  (8u << 20) /* that a map holds */

/* Opens the original's database only to read; what is asked of it ends early when svc_main_is_told_to_end(). NULL with *error (free() it): one line. */
sqlite3 *svc_original_open(const char *path, char **error);

/* Prepares a query of it. NULL with *error: one line, which says that this is not the original's database. */
sqlite3_stmt *svc_original_query(sqlite3 *db, const char *path, const char *sql,
                                 char **error);

/* A column of the current row as a text; dies with the next step. */
svc_str svc_original_text(sqlite3_stmt *q, int column);

/* Makes what came from outside fit for a line: no control characters, valid UTF-8, not long, with a NUL. */
void svc_original_name(svc_str name, char out[SVC_ORIGINAL_NAME_BYTES]);

typedef struct {
    uint64_t theirs, ours; /* ids */
} svc_user_pair_t;

/* Pairs in ascending order of `theirs`. Zeroed: empty. */
typedef struct {
    svc_user_pair_t *pairs; /* owned */
    size_t n, cap;
} svc_user_map_t;

/* Frees the pairs; the map is empty then. */
void svc_user_map_fini(svc_user_map_t *self);

/* Adds a pair behind the others. RC_INVALID: `theirs` is not greater than the last one's; RC_TOO_BIG. */
svc_rc svc_user_map_add(svc_user_map_t *self, uint64_t theirs,
                        uint64_t ours) SVC_MUST_CHECK;

/* Finds who a user of theirs is here. False: nobody. */
bool svc_user_map_find(const svc_user_map_t *self, uint64_t theirs, uint64_t *out);

/* Adds the pairs of a text: lines of two numbers. RC_INVALID, RC_TOO_BIG. */
svc_rc svc_user_map_parse(svc_user_map_t *self, svc_str text) SVC_MUST_CHECK;

/* Writes it to a new file, 0600, in place of one that is there; reads such a file. False with *error (free() it): one line. */
bool svc_user_map_write(const svc_user_map_t *self, const char *path, char **error);
bool svc_user_map_read(svc_user_map_t *self, const char *path, char **error);

#endif
