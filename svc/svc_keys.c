/* svc_keys.c - the keys of the bus: files read with suspicion, pairs made.
 *
 * Who may read a .key is judged as PostgreSQL judges the keys of its certificates: what is ours is
 * ours alone, and what belongs to root may be lent to a group, since that is how Kubernetes mounts
 * secrets. The two halves of a .key are checked against each other, and its public half against our
 * own .pub: a file that was mixed up is found at start, not by everybody's refusal. Thread: any. */
#include "svc_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>
#include <zmq.h>

#define READABLE_BY_OTHERS   0007 /* mode bits: nobody but owner and group */
#define GROUP_MORE_THAN_READ 0030

static const char *const services[SVC_KEYS_SERVICES] = {"gateway", "auth-svc",
                                                        "convo-svc", "llm-svc", "tool"};
static const char optional[] = "tool"; /* not everybody lets tools call */

/* Says what is wrong, once; gives false. */
static bool SVC_PRINTF(2, 3) fail(char **error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    SVC_ASSERT(vasprintf(error, fmt, args) >= 0);
    va_end(args);
    return false;
}

/* --- the text of a file ------------------------------------------------------------------ */

static bool
decode(svc_str text, uint8_t out[SVC_KEY_BYTES])
{
    char copy[SVC_KEY_TEXT_BYTES + 1];
    bool good;

    if (text.n != SVC_KEY_TEXT_BYTES)
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    for (size_t i = 0; i < text.n; i++)
        if (copy[i] <= ' ' || copy[i] > '~')
            return false;
    good = zmq_z85_decode(out, copy) != NULL;
    sodium_memzero(copy, sizeof(copy));
    return good;
}

static bool
has_prefix(svc_str line, svc_str prefix)
{
    return line.n >= prefix.n && memcmp(line.p, prefix.p, prefix.n) == 0;
}

static bool
is_known_twice(const svc_key_file_t *file)
{
    return file->n == 2 &&
           sodium_memcmp(file->public_keys[0], file->public_keys[1], SVC_KEY_BYTES) == 0;
}

/* Takes one line. NULL, or what is wrong with it. */
static const char *
take_line(svc_str line, svc_key_file_t *out)
{
    static const char expected[] =
        "expected `public` or `secret` and 40 characters of Z85";
    const svc_str public_word = SVC_LIT("public "), secret_word = SVC_LIT("secret ");

    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (line.n == 0 || line.p[0] == '#')
        return NULL;
    if (has_prefix(line, public_word)) {
        const svc_str key = {line.p + public_word.n, line.n - public_word.n};

        if (out->n == SVC_KEYS_ACCEPTED)
            return "a third public key; two are accepted at a time";
        if (!decode(key, out->public_keys[out->n]))
            return expected;
        out->n++;
        return is_known_twice(out) ? "the same public key twice" : NULL;
    }
    if (!has_prefix(line, secret_word))
        return expected;
    if (out->has_secret)
        return "a second secret key";
    out->has_secret = decode((svc_str){line.p + secret_word.n, line.n - secret_word.n},
                             out->secret_key);
    return out->has_secret ? NULL : expected;
}

svc_rc
svc_key_file_parse(svc_str text, svc_key_file_t *out, const char **why, size_t *line)
{
    size_t from = 0;

    memset(out, 0, sizeof(*out));
    *line = 0;
    *why = "larger than 4096 bytes";
    if (text.n > SVC_KEY_FILE_MAX_BYTES)
        return RC_INVALID;
    while (from < text.n) {
        const char *end = memchr(text.p + from, '\n', text.n - from);
        const size_t n = end == NULL ? text.n - from : (size_t)(end - text.p) - from;

        ++*line;
        *why = take_line((svc_str){text.p + from, n}, out);
        if (*why != NULL)
            return RC_INVALID;
        from += n + 1;
    }
    *line = 0;
    *why = out->n == 0 ? "no public key" : NULL;
    return out->n == 0 ? RC_INVALID : RC_OK;
}

/* --- files ------------------------------------------------------------------------------- */

static const char *
what_is_wrong_with_owner(const struct stat *info)
{
    if (info->st_uid == geteuid() && (info->st_mode & 0077) != 0)
        return "others may read it: chmod 600";
    if (info->st_uid != geteuid() && info->st_uid != 0)
        return "belongs to another user";
    if ((info->st_mode & (READABLE_BY_OTHERS | GROUP_MORE_THAN_READ)) != 0)
        return "others may read it: chmod 640 at most";
    return NULL;
}

/* Reads a file whole; gives the bytes read, -1 with *error. */
static ssize_t
read_whole(const char *path, bool is_secret, char bytes[SVC_KEY_FILE_MAX_BYTES + 1],
           char **error)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat info;
    size_t n = 0;
    ssize_t got = 1;

    if (fd < 0 || fstat(fd, &info) != 0) {
        fail(error, "%s: cannot be read: %s", path, strerror(errno));
        got = -1;
    } else if (!S_ISREG(info.st_mode)) {
        fail(error, "%s: is not a file", path);
        got = -1;
    } else if (is_secret && what_is_wrong_with_owner(&info) != NULL) {
        fail(error, "%s: %s", path, what_is_wrong_with_owner(&info));
        got = -1;
    }
    while (got > 0 && n <= SVC_KEY_FILE_MAX_BYTES) {
        got = read(fd, bytes + n, SVC_KEY_FILE_MAX_BYTES + 1 - n);
        if (got < 0)
            fail(error, "%s: cannot be read: %s", path, strerror(errno));
        n += got > 0 ? (size_t)got : 0;
    }
    if (fd >= 0)
        close(fd);
    return got < 0 ? -1 : (ssize_t)n;
}

/* Reads and checks one file. `suffix`: ".key" or ".pub". */
static bool
read_file(const char *dir, const char *service, bool is_secret, svc_key_file_t *out,
          char **error)
{
    char bytes[SVC_KEY_FILE_MAX_BYTES + 1];
    char *path = NULL;
    const char *why = NULL;
    size_t line = 0;
    ssize_t n;
    bool good = false;

    SVC_ASSERT(asprintf(&path, "%s/%s.%s", dir, service, is_secret ? "key" : "pub") >= 0);
    n = read_whole(path, is_secret, bytes, error);
    if (n < 0)
        goto out;
    if (svc_key_file_parse((svc_str){bytes, (size_t)n}, out, &why, &line) != RC_OK) {
        if (line > 0)
            fail(error, "%s:%zu: %s", path, line, why);
        else
            fail(error, "%s: %s", path, why);
    } else if (is_secret && (!out->has_secret || out->n != 1)) {
        fail(error, "%s: expected one public and one secret key", path);
    } else if (!is_secret && out->has_secret) {
        fail(error, "%s: holds a secret key, which belongs into %s.key only", path,
             service);
    } else {
        good = true;
    }
out:
    sodium_memzero(bytes, sizeof(bytes));
    free(path);
    return good;
}

/* --- all of them ------------------------------------------------------------------------- */

static bool
has_key(const svc_known_t *known, const uint8_t public_key[SVC_KEY_BYTES])
{
    for (size_t i = 0; i < known->n; i++)
        if (sodium_memcmp(known->public_keys[i], public_key, SVC_KEY_BYTES) == 0)
            return true;
    return false;
}

/* Our own pair. */
static bool
read_own(svc_keys_t *self, const char *dir, const char *service, char **error)
{
    uint8_t derived[crypto_scalarmult_BYTES];
    svc_key_file_t file;
    bool good = read_file(dir, service, true, &file, error);

    if (good && (crypto_scalarmult_base(derived, file.secret_key) != 0 ||
                 sodium_memcmp(derived, file.public_keys[0], SVC_KEY_BYTES) != 0))
        good = fail(error, "%s/%s.key: public and secret key do not fit each other", dir,
                    service);
    if (good) {
        memcpy(self->public_key, file.public_keys[0], SVC_KEY_BYTES);
        memcpy(self->secret_key, file.secret_key, SVC_KEY_BYTES);
    }
    sodium_memzero(&file, sizeof(file));
    return good;
}

/* Everybody's public keys. No key may stand for two services. */
static bool
read_known(svc_keys_t *self, const char *dir, char **error)
{
    for (size_t i = 0; i < SVC_KEYS_SERVICES; i++) {
        svc_known_t *known = &self->known[i];
        svc_key_file_t file;
        char *path = NULL;
        bool is_absent;

        known->service = services[i];
        SVC_ASSERT(asprintf(&path, "%s/%s.pub", dir, services[i]) >= 0);
        is_absent = strcmp(services[i], optional) == 0 && access(path, F_OK) != 0;
        free(path);
        if (is_absent)
            continue;
        if (!read_file(dir, services[i], false, &file, error))
            return false;
        for (size_t k = 0; k < file.n; k++) {
            const svc_known_t *other = svc_keys_owner(self, file.public_keys[k]);

            if (other != NULL)
                return fail(error, "%s/%s.pub: has a key of %s", dir, services[i],
                            other->service);
        }
        memcpy(known->public_keys, file.public_keys, sizeof(known->public_keys));
        known->n = file.n;
    }
    return true;
}

svc_keys_t *
svc_keys_read(const char *dir, const char *service, char **error)
{
    svc_keys_t *self = svc_alloc(sizeof(*self));
    const svc_known_t *own;

    SVC_ASSERT(sodium_init() >= 0);
    if (!read_own(self, dir, service, error) || !read_known(self, dir, error)) {
        svc_keys_destroy(&self);
        return NULL;
    }
    own = svc_keys_of(self, service);
    if (own == NULL || !has_key(own, self->public_key)) {
        fail(error, "%s/%s.key: its public key does not stand in %s.pub", dir, service,
             service);
        svc_keys_destroy(&self);
    }
    return self;
}

void
svc_keys_destroy(svc_keys_t **self_p)
{
    if (*self_p == NULL)
        return;
    sodium_memzero(*self_p, sizeof(**self_p));
    free(*self_p);
    *self_p = NULL;
}

const svc_known_t *
svc_keys_owner(const svc_keys_t *self, const uint8_t public_key[SVC_KEY_BYTES])
{
    for (size_t i = 0; i < SVC_KEYS_SERVICES; i++)
        if (has_key(&self->known[i], public_key))
            return &self->known[i];
    return NULL;
}

const svc_known_t *
svc_keys_of(const svc_keys_t *self, const char *service)
{
    for (size_t i = 0; i < SVC_KEYS_SERVICES; i++)
        if (self->known[i].service != NULL &&
            strcmp(self->known[i].service, service) == 0)
            return &self->known[i];
    return NULL;
}

/* --- making ------------------------------------------------------------------------------ */

svc_rc
svc_keys_make(const char *path, char **error)
{
    char public_text[SVC_KEY_TEXT_BYTES + 1], secret_text[SVC_KEY_TEXT_BYTES + 1];
    char text[512];
    int fd = -1, n;
    bool good;

    SVC_ASSERT(zmq_curve_keypair(public_text, secret_text) == 0);
    n = snprintf(text, sizeof(text),
                 "# A key pair of the bus. Only the service that it is named after may "
                 "read this file.\npublic %s\nsecret %s\n",
                 public_text, secret_text);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    good = fd >= 0 && write(fd, text, (size_t)n) == n && fsync(fd) == 0;
    if (!good) {
        fail(error, "%s: cannot be written: %s", path, strerror(errno));
        if (fd >= 0)
            unlink(path);
    }
    if (fd >= 0)
        close(fd);
    sodium_memzero(secret_text, sizeof(secret_text));
    sodium_memzero(text, sizeof(text));
    return good ? RC_OK : RC_INTERNAL;
}
