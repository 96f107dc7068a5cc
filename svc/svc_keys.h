/* svc_keys.h - the keys of the bus: one pair a service, read from a directory.
 *
 * `<service>.key` holds a service's own pair and is nobody else's to read; `<service>.pub` holds its
 * public key, or two of them while it is being replaced. A service needs its own .key and
 * everybody's .pub. Both are text: lines of `public` or `secret` and 40 characters of Z85, blank
 * lines, and comments that begin with #.
 *
 * Read once at start. Nothing here logs, and no error repeats a key. Thread: any. */
#ifndef SVC_SVC_KEYS_H
#define SVC_SVC_KEYS_H

#include "proto/base.h"

#define SVC_KEY_BYTES          32
#define SVC_KEY_TEXT_BYTES     40 /* as Z85 */
#define SVC_KEYS_ACCEPTED      2  /* public keys of one service at a time */
#define SVC_KEYS_SERVICES      5  /* the four, and operators' tools */
#define SVC_KEY_FILE_MAX_BYTES 4096

/* What one file says. */
typedef struct {
    uint8_t public_keys[SVC_KEYS_ACCEPTED][SVC_KEY_BYTES]; /* in the order of the file */
    size_t n;                                              /* of them */
    uint8_t secret_key[SVC_KEY_BYTES];                     /* while has_secret */
    bool has_secret;                                       /* it is a .key */
} svc_key_file_t;

/* One that may be on the other end. */
typedef struct {
    const char *service; /* static text */
    uint8_t public_keys[SVC_KEYS_ACCEPTED][SVC_KEY_BYTES];
    size_t n; /* of them; 0: nobody comes with that name */
} svc_known_t;

/* All that one service has of keys. */
typedef struct {
    uint8_t public_key[SVC_KEY_BYTES], secret_key[SVC_KEY_BYTES]; /* our own pair */
    svc_known_t known[SVC_KEYS_SERVICES];                         /* everybody */
} svc_keys_t;

/* Reads what `service` needs from `dir`: its .key, the .pub of the four services, and tool.pub if
 * there is one. Gives the keys; NULL with *error (free() it) set: one line that names the file. */
svc_keys_t *svc_keys_read(const char *dir, const char *service, char **error);

/* Wipes and frees them, sets *self_p to NULL. NULL-safe. */
void svc_keys_destroy(svc_keys_t **self_p);

/* Who has this public key? NULL: nobody that we know. */
const svc_known_t *svc_keys_owner(const svc_keys_t *self,
                                  const uint8_t public_key[SVC_KEY_BYTES]);

/* The entry of a service by its name, NULL when there is none of that name. */
const svc_known_t *svc_keys_of(const svc_keys_t *self, const char *service);

/* Reads the text of a file. RC_INVALID with *why (static text) and *line (from 1; 0: the file as a
 * whole) set otherwise. */
svc_rc svc_key_file_parse(svc_str text, svc_key_file_t *out, const char **why,
                          size_t *line) SVC_MUST_CHECK;

/* Makes a pair and writes it to `path` (0600, which must not exist yet). RC_INTERNAL with *error
 * (free() it): one line that says why. */
svc_rc svc_keys_make(const char *path, char **error) SVC_MUST_CHECK;

#endif
