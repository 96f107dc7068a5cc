/* import_redis.c - the Redis of the original backend, read and never changed.
 *
 * hiredis, blocking, one command at a time: nobody waits for this but the one who has called it. A value is asked for its
 * length first, since hiredis takes whatever comes into memory. SCAN, not KEYS: the original may still be in use.
 * A key of another type is no error of the connection: it is told apart by TYPE before GET is tried. */
#include "import_redis.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_S    10
#define WHERE_MAX    256
#define DEFAULT_PORT 6379
#define PORT_MAX     65535
#define DB_MAX       65535
#define SCAN_COUNT   "1000"
#define CURSOR_BYTES 32

struct import_redis {
    redisContext *redis; /* owned */
};

/* "host:port/db", taken apart. */
typedef struct {
    char host[WHERE_MAX];
    long port, db;
} place_t;

/* Reads a whole number. */
static bool
read_number(const char *text, long max, long *out)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);

    if (end == text || *end != '\0' || *text < '0' || *text > '9' || value > max)
        return false;
    *out = value;
    return true;
}

static bool
read_place(const char *where, place_t *out)
{
    char *slash, *colon, *host = out->host;

    out->port = DEFAULT_PORT;
    if (snprintf(out->host, sizeof(out->host), "%s", where) >= (int)sizeof(out->host))
        return false;
    slash = strchr(host, '/');
    if (slash != NULL) {
        *slash = '\0';
        if (!read_number(slash + 1, DB_MAX, &out->db))
            return false;
    }
    colon = strrchr(host, ':');
    if (host[0] == '[') {
        char *end = strchr(host, ']');

        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return false;
        colon = end[1] == ':' ? end + 1 : NULL;
        *end = '\0';
        memmove(host, host + 1, (size_t)(end - host));
    } else if (colon != NULL) {
        *colon = '\0';
    }
    return host[0] != '\0' &&
           (colon == NULL ||
            (read_number(colon + 1, PORT_MAX, &out->port) && out->port > 0));
}

static svc_rc
explain(const import_redis_t *self, const redisReply *reply, char **error)
{
    SVC_ASSERT(asprintf(error, "the original's Redis: %s",
                        reply != NULL && reply->type == REDIS_REPLY_ERROR ? reply->str
                        : self->redis == NULL                             ? "no memory"
                        : self->redis->err != 0 ? self->redis->errstr
                                                : "an answer that makes no sense") >= 0);
    return RC_UNAVAILABLE;
}

/* Runs one of the commands that begin a connection. */
static bool
greet(import_redis_t *self, const char *command, const char *argument, char **error)
{
    redisReply *reply = redisCommand(self->redis, "%s %s", command, argument);
    bool good = reply != NULL && reply->type != REDIS_REPLY_ERROR;

    if (!good)
        (void)explain(self, reply, error);
    freeReplyObject(reply);
    return good;
}

import_redis_t *
import_redis_open(const char *where, const char *password, char **error)
{
    const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    import_redis_t *self = svc_alloc(sizeof(*self));
    place_t place = {.port = 0};
    char db[16];

    if (!read_place(where, &place)) {
        SVC_ASSERT(asprintf(error, "\"%s\" is not host:port or host:port/db", where) >=
                   0);
        import_redis_close(&self);
        return NULL;
    }
    (void)snprintf(db, sizeof(db), "%ld", place.db);
    self->redis = redisConnectWithTimeout(place.host, (int)place.port, timeout);
    if (self->redis == NULL || self->redis->err != 0 ||
        redisSetTimeout(self->redis, timeout) != REDIS_OK)
        (void)explain(self, NULL, error);
    else if ((password == NULL || password[0] == '\0' ||
              greet(self, "AUTH", password, error)) &&
             greet(self, "SELECT", db, error))
        return self;
    import_redis_close(&self);
    return NULL;
}

void
import_redis_close(import_redis_t **self_p)
{
    if (*self_p == NULL)
        return;
    if ((*self_p)->redis != NULL)
        redisFree((*self_p)->redis);
    free(*self_p);
    *self_p = NULL;
}

/* Looks at what stands under a key: a string, and how long. */
static svc_rc
look(import_redis_t *self, svc_str id, size_t max, char **error)
{
    redisReply *type = redisCommand(self->redis, "TYPE " IMPORT_KEY_PREFIX "%b", id.p,
                                    id.n);
    redisReply *length = NULL;
    svc_rc rc = RC_OK;

    if (type == NULL || type->type != REDIS_REPLY_STATUS)
        rc = explain(self, type, error);
    else if (strcmp(type->str, "none") == 0)
        rc = RC_NOT_FOUND;
    else if (strcmp(type->str, "string") != 0)
        rc = RC_INVALID;
    freeReplyObject(type);
    if (rc != RC_OK)
        return rc;
    length = redisCommand(self->redis, "STRLEN " IMPORT_KEY_PREFIX "%b", id.p, id.n);
    if (length == NULL || length->type != REDIS_REPLY_INTEGER)
        rc = explain(self, length, error);
    else if (length->integer > (long long)max)
        rc = RC_TOO_BIG;
    freeReplyObject(length);
    return rc;
}

svc_rc
import_redis_get(import_redis_t *self, svc_str id, svc_buf_t *out, char **error)
{
    svc_rc rc = look(self, id, out->max, error);
    redisReply *reply;

    svc_buf_clear(out);
    if (rc != RC_OK)
        return rc;
    reply = redisCommand(self->redis, "GET " IMPORT_KEY_PREFIX "%b", id.p, id.n);
    if (reply != NULL && reply->type == REDIS_REPLY_STRING)
        rc = svc_buf_add(out, reply->str, reply->len);
    else if (reply != NULL && reply->type == REDIS_REPLY_NIL)
        rc = RC_NOT_FOUND; /* gone in between */
    else
        rc = explain(self, reply, error);
    freeReplyObject(reply);
    return rc;
}

/* Hands out the ids of one page; the next cursor goes to `cursor`. */
static bool
take_page(const redisReply *reply, char cursor[CURSOR_BYTES],
          bool (*fn)(void *arg, svc_str id), void *arg)
{
    const size_t prefix = sizeof(IMPORT_KEY_PREFIX) - 1;
    const redisReply *keys = reply->element[1];

    (void)snprintf(cursor, CURSOR_BYTES, "%s", reply->element[0]->str);
    for (size_t i = 0; i < keys->elements; i++) {
        const redisReply *key = keys->element[i];

        if (key->type == REDIS_REPLY_STRING && key->len >= prefix &&
            !fn(arg, (svc_str){key->str + prefix, key->len - prefix}))
            return false;
    }
    return true;
}

bool
import_redis_each(import_redis_t *self, bool (*fn)(void *arg, svc_str id), void *arg,
                  char **error)
{
    char cursor[CURSOR_BYTES] = "0";
    bool good = true;

    do {
        redisReply *reply = redisCommand(self->redis, "SCAN %s MATCH %s COUNT %s", cursor,
                                         IMPORT_KEY_PREFIX "*", SCAN_COUNT);

        good = reply != NULL && reply->type == REDIS_REPLY_ARRAY &&
               reply->elements == 2 && reply->element[0]->type == REDIS_REPLY_STRING &&
               reply->element[1]->type == REDIS_REPLY_ARRAY;
        if (!good)
            (void)explain(self, reply, error);
        else
            good = take_page(reply, cursor, fn, arg);
        freeReplyObject(reply);
    } while (good && strcmp(cursor, "0") != 0);
    return good;
}
