/* redis_fixture.h - a real redis-server on a free port, for tests of what talks to Redis.
 *
 * Password "sesame", database 2, as redis_config() says. It can be killed, frozen and started again on
 * the same port. Without the binary such tests are skipped; redis_say_if_missing() says so. Stands on
 * bus_fixture.h. */
#ifndef TESTS_UNIT_SVC_REDIS_FIXTURE_H
#define TESTS_UNIT_SVC_REDIS_FIXTURE_H

#include "bus_fixture.h"

#include <hiredis/hiredis.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    int port;
    pid_t pid; /* 0: does not run */
} redis_t;

static inline bool
redis_is_installed(void)
{
    return system("command -v redis-server >/dev/null 2>&1") == 0;
}

static inline void
redis_say_if_missing(void)
{
    if (!redis_is_installed())
        print_message("redis-server is not installed: its tests are skipped\n");
}

/* Chooses a free port; nothing runs there yet. */
static inline void
redis_init(redis_t *self)
{
    *self = (redis_t){.port = fixture_free_port()};
}

/* Gives the configuration of a service that uses it, with some YAML more; the caller frees it. */
static inline svc_config_t *
redis_config(const redis_t *self, const char *yaml)
{
    char text[1024];
    char *error = NULL;
    svc_config_t *config;

    (void)snprintf(text, sizeof(text),
                   "redis: {address: \"127.0.0.1:%d\", password: \"sesame\", db: 2, "
                   "ttl_s: 100}\n%s\n",
                   self->port, yaml);
    config = svc_config_parse(svc_str_c(text), "test", false, &error);
    if (config == NULL)
        fail_msg("%s", error);
    return config;
}

/* Gives a connection to its database, NULL: it does not answer. */
static inline redisContext *
redis_connect(const redis_t *self)
{
    redisContext *redis = redisConnect("127.0.0.1", self->port);
    redisReply *reply = NULL;
    bool ok = redis != NULL && redis->err == 0 &&
              (reply = redisCommand(redis, "AUTH sesame")) != NULL &&
              reply->type == REDIS_REPLY_STATUS;

    if (reply != NULL)
        freeReplyObject(reply);
    if (ok) {
        freeReplyObject(redisCommand(redis, "SELECT 2"));
        return redis;
    }
    if (redis != NULL)
        redisFree(redis);
    return NULL;
}

static inline bool
redis_answers(void *arg)
{
    redisContext *redis = redis_connect(arg);

    if (redis != NULL)
        redisFree(redis);
    return redis != NULL;
}

static inline void
redis_start(redis_t *self, fixture_t *fixture)
{
    char port[16];

    (void)snprintf(port, sizeof(port), "%d", self->port);
    self->pid = fork();
    if (self->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server", "--port", port, "--save", "",
               "--requirepass", "sesame", "--bind", "127.0.0.1", "--loglevel", "warning",
               "--logfile", "/dev/null", "--dir", "/tmp", (char *)NULL);
        _exit(127);
    }
    fixture_run_until(fixture, redis_answers, self);
}

static inline void
redis_stop(redis_t *self)
{
    if (self->pid == 0)
        return;
    kill(self->pid, SIGKILL);
    assert_int_equal(waitpid(self->pid, NULL, 0), self->pid);
    self->pid = 0;
}

/* Runs a command as somebody else would, in the same database; gives what an integer reply says. */
static inline long long
redis_meddle(const redis_t *self, const char *command)
{
    redisContext *redis = redis_connect(self);
    redisReply *reply;
    long long value;

    assert_non_null(redis);
    reply = redisCommand(redis, command);
    assert_non_null(reply);
    value = reply->integer;
    freeReplyObject(reply);
    redisFree(redis);
    return value;
}

#endif
