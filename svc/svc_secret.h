/* svc_secret.h - secrets that a service makes for itself at first start, and random bytes.
 *
 * A secret that the configuration does not give is made once and kept in a file of its own beside
 * the database, so that a first start needs no edit and a second one finds the same secret.
 * Nothing here logs. Thread: any. */
#ifndef SVC_SVC_SECRET_H
#define SVC_SVC_SECRET_H

#include "proto/base.h"

#define SVC_SECRET_BYTES 32

/* Fills `out` with `n` random bytes (libsodium). */
void svc_random(void *out, size_t n);

/* A random number, never 0. */
uint64_t svc_random_u64(void);

#define SVC_IDS_BYTES 16

/* A source of ids that never come twice but are no secret: who has seen one can guess the next. They sort as they were
 * given, so that an index of a database grows at one place.
 * For what is made with every message, where random bytes would be a system call each. Zeroed:
 * it has given none yet. */
typedef struct {
    uint64_t random; /* of this source; 0: not drawn yet */
    uint64_t count;  /* ids given */
} svc_ids_t;

/* Gives the next id. */
void svc_ids_next(svc_ids_t *self, uint8_t out[SVC_IDS_BYTES]);

/* Reads SVC_SECRET_BYTES from `path` (hex in one line), or makes them and writes the file (0600, atomically, fsynced, directory
 * made when missing). RC_INTERNAL with *error (free() it): one line that says why. */
svc_rc svc_secret_load_or_make(const char *path, uint8_t out[SVC_SECRET_BYTES],
                               char **error) SVC_MUST_CHECK;

/* Decodes 32 bytes given as 64 hex digits or as base64. RC_INVALID otherwise. */
svc_rc svc_secret_decode(svc_str text, uint8_t out[SVC_SECRET_BYTES]) SVC_MUST_CHECK;

/* Makes the directories above the file `path` that are missing (0700). RC_INTERNAL with *error (free() it): one line that says why. */
svc_rc svc_secret_make_dirs(const char *path, char **error) SVC_MUST_CHECK;

/* Gives "<directory of path>/<name>"; free() it. */
char *svc_secret_path_beside(const char *path, const char *name);

#endif
