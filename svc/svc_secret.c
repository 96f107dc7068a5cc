/* svc_secret.c - random bytes, and secrets that a service makes for itself at first start.
 *
 * A secret is 64 hex digits in a file of its own beside the database. It is written to a
 * temporary file, synced, and linked to its name, so that a crash leaves either no secret or a
 * whole one, and of two processes that start together the second takes the first one's: link(2)
 * never replaces. Secrets leave the stack wiped. */
#include "svc_secret.h"
#include "svc_text.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX_BYTES  ((size_t)2 * SVC_SECRET_BYTES)
#define POOL_BYTES 512 /* of random, asked of the kernel at once */
#define POOL_TAKE_MAX_BYTES \
    16 /* keys and secrets are longer: they come from the kernel itself */
#define FILE_MAX_BYTES 256 /* of a secret's file: the digits and some white space */

/* Sets *error to "path: what: why" and gives RC_INTERNAL. */
static svc_rc
explain(char **error, const char *path, const char *what, int why)
{
    char *line = NULL;
    int n = why == 0 ? asprintf(&line, "%s: %s", path, what)
                     : asprintf(&line, "%s: %s: %s", path, what, strerror(why));

    SVC_ASSERT(n >= 0);
    *error = line;
    return RC_INTERNAL;
}

/* Small numbers are taken from what the kernel gave before: ids, fences and traces would be a system call each. Each
 * thread has its own, and what was given out is wiped. (A child of fork() would give out the same: nobody forks.) */
static _Thread_local struct {
    uint8_t bytes[POOL_BYTES];
    size_t left; /* at the end of bytes */
} pool;

void
svc_random(void *out, size_t n)
{
    if (n > POOL_TAKE_MAX_BYTES) {
        SVC_ASSERT(sodium_init() >= 0);
        randombytes_buf(out, n);
        return;
    }
    if (pool.left < n) {
        SVC_ASSERT(sodium_init() >= 0);
        randombytes_buf(pool.bytes, sizeof(pool.bytes));
        pool.left = sizeof(pool.bytes);
    }
    uint8_t *from = pool.bytes + sizeof(pool.bytes) - pool.left;
    memcpy(out, from, n);
    sodium_memzero(from, n);
    pool.left -= n;
}

uint64_t
svc_random_u64(void)
{
    uint64_t value = 0;

    while (value == 0)
        svc_random(&value, sizeof(value));
    return value;
}

void
svc_ids_next(svc_ids_t *self, uint8_t out[SVC_IDS_BYTES])
{
    if (self->random == 0)
        self->random = svc_random_u64();
    uint64_t count = htobe64(++self->count);
    memcpy(out, &self->random, sizeof(self->random));
    memcpy(out + sizeof(self->random), &count, sizeof(count));
}

/* --- files ------------------------------------------------------------------------------- */

svc_rc
svc_secret_make_dirs(const char *path, char **error)
{
    char *dir = svc_str_dup(svc_str_c(path));
    svc_rc rc = RC_OK;

    for (char *p = dir + 1; dir[0] != '\0' && *p != '\0' && rc == RC_OK; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(dir, 0700) != 0 && errno != EEXIST)
            rc = explain(error, dir, "cannot make this directory", errno);
        *p = '/';
    }
    free(dir);
    return rc;
}

char *
svc_secret_path_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *beside = NULL;
    int n = slash == NULL ? asprintf(&beside, "./%s", name)
                          : asprintf(&beside, "%.*s/%s", (int)(slash - path), path, name);

    SVC_ASSERT(n >= 0);
    return beside;
}

/* Reads the secret from an open file. */
static svc_rc
read_secret(int fd, const char *path, uint8_t *out, char **error)
{
    char text[FILE_MAX_BYTES];
    ssize_t n = read(fd, text, sizeof(text));
    svc_str digits;
    svc_rc rc = RC_OK;

    if (n < 0)
        return explain(error, path, "cannot read this secret", errno);
    digits = (svc_str){text, (size_t)n};
    while (digits.n > 0 && strchr(" \t\r\n", digits.p[digits.n - 1]) != NULL)
        digits.n--;
    if (!svc_unhex(digits, out, SVC_SECRET_BYTES))
        rc = explain(error, path, "expected a secret of 64 hex digits in one line", 0);
    sodium_memzero(text, sizeof(text));
    return rc;
}

/* Makes what the directory says durable, too. */
static void
sync_directory(const char *path)
{
    char *dir = svc_secret_path_beside(path, ".");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(dir);
}

/* Writes the temporary file, whole and synced. */
static svc_rc
write_secret(const char *path, const uint8_t *secret, char **error)
{
    char text[HEX_BYTES + 2];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    svc_rc rc = RC_OK;

    if (fd < 0)
        return explain(error, path, "cannot make this file", errno);
    svc_hex(secret, SVC_SECRET_BYTES, text);
    text[HEX_BYTES] = '\n';
    errno = ENOSPC;
    if (write(fd, text, HEX_BYTES + 1) != (ssize_t)(HEX_BYTES + 1) || fsync(fd) != 0)
        rc = explain(error, path, "cannot write this file", errno);
    close(fd);
    sodium_memzero(text, sizeof(text));
    return rc;
}

/* Makes a secret and gives it the name `path`, unless that name has come into being meanwhile. */
static svc_rc
make_secret(const char *path, char **error)
{
    uint8_t secret[SVC_SECRET_BYTES];
    char *temporary = NULL;
    svc_rc rc = svc_secret_make_dirs(path, error);

    if (rc != RC_OK)
        return rc;
    SVC_ASSERT(asprintf(&temporary, "%s.%016llx", path,
                        (unsigned long long)svc_random_u64()) >= 0);
    svc_random(secret, sizeof(secret));
    rc = write_secret(temporary, secret, error);
    sodium_memzero(secret, sizeof(secret));
    /* Some shared folders have no hard links: there a rename must do. */
    if (rc == RC_OK && link(temporary, path) != 0 && errno != EEXIST &&
        rename(temporary, path) != 0)
        rc = explain(error, path, "cannot make this file", errno);
    unlink(temporary);
    sync_directory(path);
    free(temporary);
    return rc;
}

svc_rc
svc_secret_load_or_make(const char *path, uint8_t out[SVC_SECRET_BYTES], char **error)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        svc_rc rc;

        if (fd >= 0) {
            rc = read_secret(fd, path, out, error);
            close(fd);
            return rc;
        }
        if (errno != ENOENT || attempt > 0)
            break;
        rc = make_secret(path, error);
        if (rc != RC_OK)
            return rc;
    }
    return explain(error, path, "cannot open this secret", errno);
}

/* --- text -------------------------------------------------------------------------------- */

svc_rc
svc_secret_decode(svc_str text, uint8_t out[SVC_SECRET_BYTES])
{
    static const int variants[] = {
        sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING,
        sodium_base64_VARIANT_URLSAFE, sodium_base64_VARIANT_URLSAFE_NO_PADDING};

    if (svc_unhex(text, out, SVC_SECRET_BYTES))
        return RC_OK;
    for (size_t i = 0; i < SVC_COUNT(variants) && text.n > 0; i++) {
        uint8_t bytes[SVC_SECRET_BYTES];
        size_t n = 0;

        if (sodium_base642bin(bytes, sizeof(bytes), text.p, text.n, NULL, &n, NULL,
                              variants[i]) != 0 ||
            n != sizeof(bytes))
            continue;
        memcpy(out, bytes, sizeof(bytes));
        sodium_memzero(bytes, sizeof(bytes));
        return RC_OK;
    }
    return RC_INVALID;
}
