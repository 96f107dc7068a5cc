/* svc_original.c - the data of the original backend: its SQLite file, and which of its users is which of ours.
 *
 * The file comes from outside and may be anything: schemas are not trusted, columns are taken as what they are, and every text is
 * bounded by whoever reads it. The map stays in order of the original's ids, so that looking one up is a binary search.
 * Its file has nothing secret in it, but it is 0600 like all that the tools write. */
#include "svc_original.h"

#include "svc_main.h"

#include "proto/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BUSY_MS 5000
#define STEPS_PER_LOOK \
    100000 /* of SQLite's machine: a look for signals costs a system call */
#define LINE_MAX_BYTES   64 /* of the map's file: two numbers */
#define FIRST_PAIRS      256
#define NUMBER_MAX_BYTES 20

/* --- the database ------------------------------------------------------------------------ */

static int
is_told_to_end(void *arg)
{
    (void)arg;
    return svc_main_is_told_to_end();
}

sqlite3 *
svc_original_open(const char *path, char **error)
{
    sqlite3 *db = NULL;
    int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
                               NULL);

    if (code == SQLITE_OK && sqlite3_busy_timeout(db, BUSY_MS) == SQLITE_OK &&
        sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL) == SQLITE_OK) {
        sqlite3_progress_handler(db, STEPS_PER_LOOK, is_told_to_end, NULL);
        return db;
    }
    SVC_ASSERT(asprintf(error, "%s: cannot open this database: %s", path,
                        db == NULL ? "no memory" : sqlite3_errmsg(db)) >= 0);
    (void)sqlite3_close(db);
    return NULL;
}

sqlite3_stmt *
svc_original_query(sqlite3 *db, const char *path, const char *sql, char **error)
{
    sqlite3_stmt *q = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK)
        return q;
    SVC_ASSERT(asprintf(error, "%s: this is no database of the original: %s", path,
                        sqlite3_errmsg(db)) >= 0);
    return NULL;
}

svc_str
svc_original_text(sqlite3_stmt *q, int column)
{
    const unsigned char *p = sqlite3_column_text(q, column);

    return (svc_str){(const char *)p,
                     p == NULL ? 0 : (size_t)sqlite3_column_bytes(q, column)};
}

void
svc_original_name(svc_str name, char out[SVC_ORIGINAL_NAME_BYTES])
{
    static const char more[] = "…";
    size_t max = SVC_ORIGINAL_NAME_BYTES - sizeof(more);
    size_t n = svc_utf8_valid(name.p, name.n < max ? name.n : max);

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name.p[i];

        out[i] = c < 0x20 || c == 0x7f ? '?' : name.p[i];
        /* U+0080 to U+009F: control characters, too */
        if (c == 0xc2 && i + 1 < n && (unsigned char)name.p[i + 1] < 0xa0) {
            out[i] = '?';
            out[++i] = '?';
        }
    }
    memcpy(out + n, n < name.n ? more : "", n < name.n ? sizeof(more) : 1);
}

/* --- the map ----------------------------------------------------------------------------- */

void
svc_user_map_fini(svc_user_map_t *self)
{
    free(self->pairs);
    *self = (svc_user_map_t){0};
}

svc_rc
svc_user_map_add(svc_user_map_t *self, uint64_t theirs, uint64_t ours)
{
    if (self->n > 0 && theirs <= self->pairs[self->n - 1].theirs)
        return RC_INVALID;
    if (self->n == SVC_ORIGINAL_USERS_MAX)
        return RC_TOO_BIG;
    if (self->n == self->cap) {
        size_t cap = self->cap == 0 ? FIRST_PAIRS : self->cap * 2;
        svc_user_pair_t *pairs = svc_try_alloc(cap * sizeof(*pairs));

        if (pairs == NULL)
            return RC_TOO_BIG;
        if (self->n > 0)
            memcpy(pairs, self->pairs, self->n * sizeof(*pairs));
        free(self->pairs);
        self->pairs = pairs;
        self->cap = cap;
    }
    self->pairs[self->n++] = (svc_user_pair_t){theirs, ours};
    return RC_OK;
}

static int
compare(const void *key, const void *pair)
{
    const uint64_t theirs = *(const uint64_t *)key;
    const uint64_t other = ((const svc_user_pair_t *)pair)->theirs;

    return theirs < other ? -1 : theirs > other;
}

bool
svc_user_map_find(const svc_user_map_t *self, uint64_t theirs, uint64_t *out)
{
    const svc_user_pair_t *pair = self->n == 0 ? NULL
                                               : bsearch(&theirs, self->pairs, self->n,
                                                         sizeof(*pair), compare);

    if (pair != NULL)
        *out = pair->ours;
    return pair != NULL;
}

/* Takes digits from the front of a text. */
static bool
take_number(svc_str *text, uint64_t *out)
{
    uint64_t value = 0;
    size_t n = 0;

    for (; n < text->n && n < NUMBER_MAX_BYTES; n++) {
        unsigned digit = (unsigned char)text->p[n] - (unsigned)'0';

        if (digit > 9)
            break;
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    text->p += n;
    text->n -= n;
    *out = value;
    return n > 0;
}

static bool
take_byte(svc_str *text, char wanted)
{
    if (text->n == 0 || text->p[0] != wanted)
        return false;
    text->p++;
    text->n--;
    return true;
}

svc_rc
svc_user_map_parse(svc_user_map_t *self, svc_str text)
{
    svc_rc rc = RC_OK;

    while (text.n > 0 && rc == RC_OK) {
        uint64_t theirs = 0, ours = 0;

        if (!take_number(&text, &theirs) || !take_byte(&text, ' ') ||
            !take_number(&text, &ours) || !take_byte(&text, '\n'))
            return RC_INVALID;
        rc = svc_user_map_add(self, theirs, ours);
    }
    return rc;
}

static bool
explain(char **error, const char *path, const char *what, const char *why)
{
    SVC_ASSERT(asprintf(error, "%s: %s: %s", path, what, why) >= 0);
    return false;
}

bool
svc_user_map_write(const svc_user_map_t *self, const char *path, char **error)
{
    FILE *file = fopen(path, "we");
    bool good = file != NULL;

    for (size_t i = 0; good && i < self->n; i++)
        good = fprintf(file, "%" PRIu64 " %" PRIu64 "\n", self->pairs[i].theirs,
                       self->pairs[i].ours) > 0;
    if (file != NULL)
        good = fclose(file) == 0 && good;
    return good || explain(error, path, "cannot write the map of users", strerror(errno));
}

bool
svc_user_map_read(svc_user_map_t *self, const char *path, char **error)
{
    FILE *file = fopen(path, "re");
    char line[LINE_MAX_BYTES];
    svc_rc rc = RC_OK;

    if (file == NULL)
        return explain(error, path, "cannot read the map of users", strerror(errno));
    while (rc == RC_OK && fgets(line, sizeof(line), file) != NULL)
        rc = svc_user_map_parse(self, svc_str_c(line));
    if (rc == RC_OK && ferror(file))
        rc = RC_INVALID;
    (void)fclose(file);
    return rc == RC_OK || explain(error, path, "is no map of users",
                                  "auth-svc --import-original writes it");
}
