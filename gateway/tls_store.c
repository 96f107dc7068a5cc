/* tls_store.c - the certificate and key that the gateway shows to its clients, and sessions that use them.
 *
 * GnuTLS: libmicrohttpd has loaded it already. Its sessions point to their credentials,
 * so each certificate counts who uses it. The key that seals tickets is made at start
 * and never leaves the process; GnuTLS derives a new one from it every few hours. */
#include "tls_store.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Without key exchange by RSA (no forward secrecy) and SHA-1, which leaves suites that authenticate what they
 * encrypt. */
#define PRIORITIES \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:-SHA1:%SERVER_PRECEDENCE"

#define CHAIN_MAX   16 /* certificates in the file */
#define NAME_BYTES  256
#define UNTIL_BYTES 32

struct tls_cert {
    gnutls_certificate_credentials_t credentials; /* owned */
    char name[NAME_BYTES];                        /* of its subject, for the log */
    time_t ends;                                  /* it is good until then */
    bool is_early;                                /* it is not good yet */
    atomic_uint users;                            /* the store and sessions */
};

struct tls_store {
    pthread_mutex_t lock;         /* of cert */
    tls_cert_t *cert;             /* owned: one use */
    gnutls_priority_t priorities; /* owned */
    gnutls_datum_t ticket_key;    /* owned; a secret */
};

/* Sets *error to one line; gives false. */
static bool __attribute__((format(printf, 2, 3))) fail(char **error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int n = vasprintf(error, fmt, args);
    SVC_ASSERT(n >= 0);
    va_end(args);
    return false;
}

/* --- files -------------------------------------------------------------------------------- */

/* Wipes and frees what read_file has read. */
static void
forget_file(gnutls_datum_t *file)
{
    if (file->data != NULL)
        sodium_memzero(file->data, file->size);
    free(file->data);
    *file = (gnutls_datum_t){NULL, 0};
}

/* Reads a whole file, with a NUL behind it. `name`: the configuration key. */
static bool
read_file(const char *name, const char *path, gnutls_datum_t *out, char **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat about;

    if (fd < 0 || fstat(fd, &about) != 0) {
        fail(error, "%s: cannot read %s: %s", name, path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool is_fit = S_ISREG(about.st_mode) && about.st_size <= TLS_FILE_MAX_BYTES;
    size_t size = is_fit ? (size_t)about.st_size : 0;
    unsigned char *bytes = svc_alloc(size + 1);
    ssize_t got = is_fit ? read(fd, bytes, size) : 0;
    int why = errno;
    close(fd);
    *out = (gnutls_datum_t){bytes, got > 0 ? (unsigned)got : 0};
    if (got > 0)
        return true;
    forget_file(out);
    return fail(error, "%s: cannot read %s: %s", name, path,
                !is_fit   ? "it is no file, or too large"
                : got < 0 ? strerror(why)
                          : "it is empty");
}

/* --- a certificate ------------------------------------------------------------------------ */

void
tls_cert_release(tls_cert_t **self_p)
{
    tls_cert_t *self = *self_p;

    *self_p = NULL;
    if (self == NULL || atomic_fetch_sub(&self->users, 1) > 1)
        return;
    if (self->credentials != NULL)
        gnutls_certificate_free_credentials(self->credentials);
    free(self);
}

static void
print_time(time_t at, char out[UNTIL_BYTES])
{
    struct tm parts;

    gmtime_r(&at, &parts);
    strftime(out, UNTIL_BYTES, "%Y-%m-%d %H:%M:%S UTC", &parts);
}

/* Takes note of the first certificate of the chain, the server's own. Those behind it may have expired: some
 * authorities let clients choose another way. */
static bool
judge_leaf(tls_cert_t *self, gnutls_x509_crt_t leaf, const char *path, char **error)
{
    time_t now = time(NULL);
    char until[UNTIL_BYTES];
    size_t n = sizeof self->name;

    if (gnutls_x509_crt_get_dn(leaf, self->name, &n) != GNUTLS_E_SUCCESS)
        self->name[0] = '\0';
    self->is_early = gnutls_x509_crt_get_activation_time(leaf) > now;
    self->ends = gnutls_x509_crt_get_expiration_time(leaf);
    if (self->ends > now)
        return true;
    print_time(self->ends, until);
    return fail(error, "server.tls.cert: the certificate in %s has expired on %s", path,
                until);
}

static bool
import_key(gnutls_x509_privkey_t *key, const gnutls_datum_t *file, const char *path,
           char **error)
{
    *key = NULL;
    if (strstr((const char *)file->data, "ENCRYPTED") != NULL)
        return fail(error,
                    "server.tls.key: the key in %s is encrypted, and nobody is here to "
                    "type its passphrase: openssl pkey -in %s -out FILE writes it plain",
                    path, path);
    int rc = gnutls_x509_privkey_init(key);
    if (rc == GNUTLS_E_SUCCESS)
        rc = gnutls_x509_privkey_import2(*key, file, GNUTLS_X509_FMT_PEM, NULL, 0);
    return rc == GNUTLS_E_SUCCESS ||
           fail(error, "server.tls.key: %s holds no private key in PEM: %s", path,
                gnutls_strerror(rc));
}

/* Puts chain and key together, if they fit. */
static bool
fill_credentials(tls_cert_t *self, gnutls_x509_crt_t *chain, unsigned n,
                 gnutls_x509_privkey_t key, const char *cert_path, const char *key_path,
                 char **error)
{
    int rc = gnutls_certificate_allocate_credentials(&self->credentials);

    if (rc == GNUTLS_E_SUCCESS)
        rc = gnutls_certificate_set_x509_key(self->credentials, chain, (int)n, key);
    if (rc == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        return fail(error,
                    "server.tls.key: the key in %s does not fit the certificate in %s",
                    key_path, cert_path);
    return rc >= GNUTLS_E_SUCCESS ||
           fail(error, "server.tls.cert: %s and %s cannot be used: %s", cert_path,
                key_path, gnutls_strerror(rc));
}

/* Makes a certificate of the bytes of both files; one use. */
static tls_cert_t *
make_cert(const gnutls_datum_t *cert_file, const char *cert_path,
          const gnutls_datum_t *key_file, const char *key_path, char **error)
{
    tls_cert_t *self = svc_alloc(sizeof *self);
    gnutls_x509_crt_t chain[CHAIN_MAX];
    gnutls_x509_privkey_t key = NULL;
    unsigned n = CHAIN_MAX;

    atomic_init(&self->users, 1);
    int rc = gnutls_x509_crt_list_import(chain, &n, cert_file, GNUTLS_X509_FMT_PEM,
                                         GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
    bool has_chain = rc > 0;
    bool is_fit = has_chain ? judge_leaf(self, chain[0], cert_path, error)
                            : fail(error,
                                   "server.tls.cert: %s holds no certificates in PEM: %s",
                                   cert_path, gnutls_strerror(rc));
    is_fit = is_fit && import_key(&key, key_file, key_path, error) &&
             fill_credentials(self, chain, n, key, cert_path, key_path, error);
    for (unsigned i = 0; has_chain && i < n; i++)
        gnutls_x509_crt_deinit(chain[i]);
    if (key != NULL)
        gnutls_x509_privkey_deinit(key);
    if (!is_fit)
        tls_cert_release(&self);
    return self;
}

static tls_cert_t *
load(const char *cert_path, const char *key_path, char **error)
{
    gnutls_datum_t cert = {NULL, 0}, key = {NULL, 0};
    tls_cert_t *self = NULL;

    if (read_file("server.tls.cert", cert_path, &cert, error) &&
        read_file("server.tls.key", key_path, &key, error))
        self = make_cert(&cert, cert_path, &key, key_path, error);
    forget_file(&cert);
    forget_file(&key);
    return self;
}

/* --- the store ---------------------------------------------------------------------------- */

tls_store_t *
tls_store_new(const char *cert, const char *key, char **error)
{
    tls_store_t *self = svc_alloc(sizeof *self);

    pthread_mutex_init(&self->lock, NULL);
    self->cert = load(cert, key, error);
    if (self->cert != NULL &&
        (gnutls_priority_init(&self->priorities, PRIORITIES, NULL) != GNUTLS_E_SUCCESS ||
         gnutls_session_ticket_key_generate(&self->ticket_key) != GNUTLS_E_SUCCESS)) {
        tls_cert_release(&self->cert);
        fail(error,
             "server.tls.cert: GnuTLS of this system cannot serve TLS 1.2 and 1.3");
    }
    if (self->cert == NULL)
        tls_store_destroy(&self);
    return self;
}

void
tls_store_destroy(tls_store_t **self_p)
{
    tls_store_t *self = *self_p;

    *self_p = NULL;
    if (self == NULL)
        return;
    tls_cert_release(&self->cert);
    if (self->priorities != NULL)
        gnutls_priority_deinit(self->priorities);
    if (self->ticket_key.data != NULL)
        sodium_memzero(self->ticket_key.data, self->ticket_key.size);
    gnutls_free(self->ticket_key.data);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

bool
tls_store_reload(tls_store_t *self, const char *cert, const char *key, char **error)
{
    tls_cert_t *next = load(cert, key, error);

    if (next == NULL)
        return false;
    pthread_mutex_lock(&self->lock);
    tls_cert_t *old = self->cert;
    self->cert = next;
    pthread_mutex_unlock(&self->lock);
    tls_cert_release(&old);
    return true;
}

/* One use of the certificate as it is now. */
static tls_cert_t *
use_cert(tls_store_t *self)
{
    pthread_mutex_lock(&self->lock);
    tls_cert_t *cert = self->cert;
    atomic_fetch_add(&cert->users, 1);
    pthread_mutex_unlock(&self->lock);
    return cert;
}

char *
tls_store_describe(tls_store_t *self)
{
    tls_cert_t *cert = use_cert(self);
    char *text = NULL, until[UNTIL_BYTES];

    print_time(cert->ends, until);
    SVC_ASSERT(asprintf(&text, "the certificate of %s is good until %s%s", cert->name,
                        until,
                        cert->is_early ? ", but not yet: is the clock right?" : "") >= 0);
    tls_cert_release(&cert);
    return text;
}

gnutls_session_t
tls_store_open(tls_store_t *self, int fd, tls_cert_t **cert_out)
{
    static unsigned char http11[] = "http/1.1";
    const gnutls_datum_t protocol = {http11, sizeof http11 - 1};
    gnutls_session_t session = NULL;

    if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) !=
        GNUTLS_E_SUCCESS)
        return NULL;
    tls_cert_t *cert = use_cert(self);
    if (gnutls_priority_set(session, self->priorities) != GNUTLS_E_SUCCESS ||
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, cert->credentials) !=
            GNUTLS_E_SUCCESS ||
        gnutls_session_ticket_enable_server(session, &self->ticket_key) !=
            GNUTLS_E_SUCCESS ||
        /* mandatory: who offers other protocols only is refused (RFC 7301); who offers none is welcome */
        gnutls_alpn_set_protocols(session, &protocol, 1, GNUTLS_ALPN_MANDATORY) !=
            GNUTLS_E_SUCCESS) {
        gnutls_deinit(session);
        tls_cert_release(&cert);
        return NULL;
    }
    gnutls_transport_set_int(session, fd);
    *cert_out = cert;
    return session;
}
