/* tls_fixture.h - certificates made on the spot, and clients that speak TLS on a socket.
 *
 * Keys are of an elliptic curve: they are made at once. Files stand in a directory of the test's own.
 * Included by the tests of TLS. */
#ifndef TESTS_UNIT_GATEWAY_TLS_FIXTURE_H
#define TESTS_UNIT_GATEWAY_TLS_FIXTURE_H

#include "gateway/tls_store.h"
#include "tests/unit/svc/bus_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TLS_PATH_BYTES 64

typedef struct {
    char dir[32];                                   /* of its own, removed at the end */
    char cert[TLS_PATH_BYTES], key[TLS_PATH_BYTES]; /* files that fit together */
} tls_files_t;

static inline void
tls_path(const tls_files_t *self, const char *name, char out[TLS_PATH_BYTES])
{
    snprintf(out, TLS_PATH_BYTES, "%s/%s", self->dir, name);
}

static inline void
tls_write(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

static inline gnutls_x509_privkey_t
tls_make_key(void)
{
    gnutls_x509_privkey_t key;

    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(
        gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
        0);
    return key;
}

/* Writes the key, encrypted when there is a password. */
static inline void
tls_write_key(const char *path, gnutls_x509_privkey_t key, const char *password)
{
    gnutls_datum_t text = {NULL, 0};

    assert_int_equal(gnutls_x509_privkey_export2_pkcs8(
                         key, GNUTLS_X509_FMT_PEM, password,
                         password != NULL ? GNUTLS_PKCS_PBES2_AES_256 : GNUTLS_PKCS_PLAIN,
                         &text),
                     0);
    tls_write(path, text.data, text.size);
    gnutls_free(text.data);
}

/* Writes a certificate for that key, called `name`, good from `from` to `until`. */
static inline void
tls_write_cert(const char *path, gnutls_x509_privkey_t key, const char *name, time_t from,
               time_t until)
{
    gnutls_datum_t text = {NULL, 0};
    gnutls_x509_crt_t cert;

    assert_int_equal(gnutls_x509_crt_init(&cert), 0);
    assert_int_equal(gnutls_x509_crt_set_version(cert, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(cert, "\1", 1), 0);
    assert_int_equal(gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0,
                                                   name, (unsigned)strlen(name)),
                     0);
    assert_int_equal(gnutls_x509_crt_set_activation_time(cert, from), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(cert, until), 0);
    assert_int_equal(gnutls_x509_crt_set_key(cert, key), 0);
    assert_int_equal(gnutls_x509_crt_sign2(cert, cert, key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_PEM, &text), 0);
    tls_write(path, text.data, text.size);
    gnutls_free(text.data);
    gnutls_x509_crt_deinit(cert);
}

/* Writes both, for `name`, into the files that are there already. */
static inline void
tls_renew(const tls_files_t *self, const char *name)
{
    gnutls_x509_privkey_t key = tls_make_key();
    time_t now = time(NULL);

    tls_write_key(self->key, key, NULL);
    tls_write_cert(self->cert, key, name, now - 60, now + 3600);
    gnutls_x509_privkey_deinit(key);
}

static inline void
tls_files_open(tls_files_t *self)
{
    strcpy(self->dir, "/tmp/llmb-tls-XXXXXX");
    assert_non_null(mkdtemp(self->dir));
    tls_path(self, "cert.pem", self->cert);
    tls_path(self, "key.pem", self->key);
    tls_renew(self, "first");
}

static inline void
tls_files_close(const tls_files_t *self)
{
    static const char *const names[] = {"cert.pem", "key.pem", "other.pem"};
    char path[TLS_PATH_BYTES];

    for (size_t i = 0; i < SVC_COUNT(names); i++) {
        tls_path(self, names[i], path);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(self->dir), 0);
}

/* --- a client ----------------------------------------------------------------------------- */

typedef struct {
    gnutls_session_t session;                     /* owned */
    gnutls_certificate_credentials_t credentials; /* owned: it trusts everybody */
    bool is_open;                                 /* the handshake is through */
    int failure;                                  /* of it; 0: none */
} tls_client_t;

/* A client on `fd`, which stays the caller's. priorities: of GnuTLS; protocol: ALPN, NULL for none. */
static inline void
tls_client_open(tls_client_t *self, int fd, const char *priorities, const char *protocol)
{
    *self = (tls_client_t){0};
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(
        gnutls_init(&self->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL),
        0);
    assert_int_equal(gnutls_priority_set_direct(
                         self->session, priorities != NULL ? priorities : "NORMAL", NULL),
                     0);
    assert_int_equal(gnutls_certificate_allocate_credentials(&self->credentials), 0);
    assert_int_equal(
        gnutls_credentials_set(self->session, GNUTLS_CRD_CERTIFICATE, self->credentials),
        0);
    if (protocol != NULL) {
        const gnutls_datum_t wanted = {(unsigned char *)(uintptr_t)protocol,
                                       (unsigned)strlen(protocol)};
        assert_int_equal(gnutls_alpn_set_protocols(self->session, &wanted, 1, 0), 0);
    }
    gnutls_transport_set_int(self->session, fd);
}

static inline void
tls_client_close(tls_client_t *self)
{
    if (self->session != NULL)
        gnutls_deinit(self->session);
    if (self->credentials != NULL)
        gnutls_certificate_free_credentials(self->credentials);
    *self = (tls_client_t){0};
}

/* Goes on with the handshake; true when it is over, good or bad. */
static inline bool
tls_client_shakes(tls_client_t *self)
{
    if (!self->is_open && self->failure == 0) {
        int rc = gnutls_handshake(self->session);
        self->is_open = rc == 0;
        if (rc < 0 && gnutls_error_is_fatal(rc))
            self->failure = rc;
    }
    return self->is_open || self->failure != 0;
}

/* Reads what has come. A session ticket that came before it looks like nothing to GnuTLS. */
static inline ssize_t
tls_client_take(const tls_client_t *self, void *out, size_t n)
{
    ssize_t got = GNUTLS_E_AGAIN;

    for (int i = 0; i < 5 && got == GNUTLS_E_AGAIN; i++)
        got = gnutls_record_recv(self->session, out, n);
    return got;
}

/* The common name in the certificate that it was shown. */
static inline void
tls_client_seen(const tls_client_t *self, char *out, size_t n)
{
    unsigned count = 0;
    gnutls_x509_crt_t cert;
    const gnutls_datum_t *shown = gnutls_certificate_get_peers(self->session, &count);

    assert_true(count > 0);
    assert_int_equal(gnutls_x509_crt_init(&cert), 0);
    assert_int_equal(gnutls_x509_crt_import(cert, shown, GNUTLS_X509_FMT_DER), 0);
    assert_int_equal(gnutls_x509_crt_get_dn(cert, out, &n), 0);
    gnutls_x509_crt_deinit(cert);
}

#endif
