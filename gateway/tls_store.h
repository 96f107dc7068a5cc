/* tls_store.h - the certificate and key that the gateway shows to its clients, and sessions that use them.
 *
 * Files are read and checked as a whole: what does not fit together, has expired, or needs a
 * passphrase never replaces what is in use. A session keeps the certificate that it
 * began with, so a new one may come at any time. TLS 1.2 and 1.3, ciphers with forward
 * secrecy and authentication only, "http/1.1" when a client asks for a protocol.
 * Shared by all reactors. Thread: any. */
#ifndef GATEWAY_TLS_STORE_H
#define GATEWAY_TLS_STORE_H

#include "proto/base.h"

#include <gnutls/gnutls.h>

#define TLS_FILE_MAX_BYTES (1u << 20)

typedef struct tls_store tls_store_t;
typedef struct tls_cert tls_cert_t;

/* Reads the files (PEM: the chain, the server's own certificate first, and its key). NULL with *error (free()
 * it): one line that names the configuration key and the file. */
tls_store_t *tls_store_new(const char *cert, const char *key, char **error);

/* Frees it and sets *self_p to NULL; sessions that are open go on. NULL-safe. */
void tls_store_destroy(tls_store_t **self_p);

/* Reads the files anew: new sessions use what they hold now. False with *error (free() it): the old stays. */
bool tls_store_reload(tls_store_t *self, const char *cert, const char *key,
                      char **error) SVC_MUST_CHECK;

/* A sentence for the log: whose certificate it is and until when; free() it. */
char *tls_store_describe(tls_store_t *self);

/* A server's session on the socket `fd`, which never blocks; the caller's to gnutls_deinit, and then to release *cert_out.
 * NULL: no memory. */
gnutls_session_t tls_store_open(tls_store_t *self, int fd, tls_cert_t **cert_out);

/* Gives back what a session used. NULL-safe; sets *self_p to NULL. */
void tls_cert_release(tls_cert_t **self_p);

#endif
