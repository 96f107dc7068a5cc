/* keys_fixture.h - a directory of keys of the bus, as make-keys leaves it, and sides that hold one each.
 *
 * A side has a ZeroMQ context of its own, as a process has: the handler of keys stands once in each. All sides share the
 * loop of the fixture. Included by tests of what is locked. */
#ifndef TESTS_UNIT_SVC_KEYS_FIXTURE_H
#define TESTS_UNIT_SVC_KEYS_FIXTURE_H

#include "bus_fixture.h"

#include "svc/svc_curve.h"

#include <string.h>
#include <unistd.h>

static const char *const key_names[] = {"gateway", "auth-svc", "convo-svc", "llm-svc",
                                        "tool"};

typedef struct {
    char dir[64]; /* of the files */
} keys_dir_t;

static inline char *
keys_path(const keys_dir_t *keys, const char *service, const char *suffix)
{
    char *path = NULL;

    assert_true(asprintf(&path, "%s/%s%s", keys->dir, service, suffix) > 0);
    return path;
}

static inline void
keys_write(const keys_dir_t *keys, const char *service, const char *suffix,
           const char *text)
{
    char *path = keys_path(keys, service, suffix);
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    free(path);
}

/* Makes a pair in <service><suffix>; its public line is added to <service>.pub. */
static inline void
keys_make(const keys_dir_t *keys, const char *service, const char *suffix)
{
    char *path = keys_path(keys, service, suffix),
         *pub = keys_path(keys, service, ".pub");
    char *error = NULL, *command = NULL;

    assert_int_equal(svc_keys_make(path, &error), RC_OK);
    assert_true(asprintf(&command, "grep '^public ' '%s' >> '%s'", path, pub) > 0);
    assert_int_equal(system(command), 0);
    free(command);
    free(path);
    free(pub);
}

static inline void
keys_open(keys_dir_t *keys)
{
    snprintf(keys->dir, sizeof(keys->dir), "/tmp/llmb-keys-XXXXXX");
    assert_non_null(mkdtemp(keys->dir));
    for (size_t i = 0; i < SVC_COUNT(key_names); i++)
        keys_make(keys, key_names[i], ".key");
}

static inline void
keys_close(keys_dir_t *keys)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", keys->dir);
    assert_int_equal(system(command), 0);
}

/* <service>.key.new becomes <service>.key. */
static inline void
keys_use(const keys_dir_t *keys, const char *service)
{
    char *from = keys_path(keys, service, ".key.new"),
         *to = keys_path(keys, service, ".key");

    assert_int_equal(rename(from, to), 0);
    free(from);
    free(to);
}

/* Makes a context like `like`, with the key of `service` and its own ZeroMQ and counters. */
static inline svc_ctx_t
side_open(const svc_ctx_t *like, const keys_dir_t *keys, const char *service)
{
    svc_ctx_t ctx = *like;
    char *error = NULL;
    svc_keys_t *own = svc_keys_read(keys->dir, service, &error);

    assert_null(error);
    assert_non_null(own);
    ctx.service = service;
    ctx.zmq = zmq_ctx_new();
    ctx.metrics = svc_metrics_new();
    ctx.refusals = svc_refusals_new(ctx.metrics, NULL);
    ctx.curve = svc_curve_new(ctx.zmq, &own, ctx.refusals);
    assert_null(own);
    return ctx;
}

static inline void
side_close(svc_ctx_t *ctx)
{
    assert_int_equal(zmq_ctx_term(ctx->zmq), 0);
    svc_curve_destroy(&ctx->curve);
    svc_curve_destroy(&ctx->curve);
    svc_refusals_destroy(&ctx->refusals);
    svc_metrics_destroy(&ctx->metrics);
}

/* A condition: the counter of a side has come to a value. */
typedef struct {
    const svc_ctx_t *ctx;
    svc_metric metric;
    uint64_t wanted;
} counted_t;

static inline bool
has_counted(void *arg)
{
    const counted_t *counted = arg;

    return svc_metrics_get(counted->ctx->metrics, counted->metric) >= counted->wanted;
}

static inline void
await_count(fixture_t *fixture, const svc_ctx_t *ctx, svc_metric metric, uint64_t n)
{
    counted_t counted = {ctx, metric, n};

    fixture_run_until(fixture, has_counted, &counted);
}

#endif
