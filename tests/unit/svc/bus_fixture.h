/* bus_fixture.h - a loop, a ZeroMQ context and counters, as every test of the bus wants them.
 *
 * Tests run their loop with fixture_run_until: until a condition holds or a deadline passes. The
 * services' sides share one loop and one thread here: what they say goes over real sockets on
 * free ports all the same. Included by the tests of svc/ and of services that are called. */
#ifndef TESTS_UNIT_SVC_BUS_FIXTURE_H
#define TESTS_UNIT_SVC_BUS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "svc/svc_ctx.h"
#include "svc/svc_secret.h"
#include "svc/svc_time.h"

#define FIXTURE_PATIENCE_MS 20000
#define FIXTURE_BLOCK       50  /* ports */
#define FIXTURE_BLOCKS      120 /* of them */

typedef struct {
    svc_ctx_t ctx;        /* of the side that the test is about */
    bool (*cond)(void *); /* that is waited for */
    void *arg;            /* for cond */
    uint64_t until_ms;    /* when patience ends */
    bool was_met;         /* cond held */
} fixture_t;

static inline void
fixture_open(fixture_t *self, const char *service)
{
    *self = (fixture_t){0};
    self->ctx = (svc_ctx_t){
        .service = service,
        .version = "test",
        .instance = 77,
        .metrics = svc_metrics_new(),
        .zmq = zmq_ctx_new(),
        .loop = svc_loop_new(),
    };
    assert_non_null(self->ctx.zmq);
}

static inline void
fixture_close(fixture_t *self)
{
    svc_loop_destroy(&self->ctx.loop);
    svc_metrics_destroy(&self->ctx.metrics);
    assert_int_equal(zmq_ctx_term(self->ctx.zmq), 0);
}

/* The first port of a block that no other test's process draws from: each keeps a name that only one can have for as long as it lives.
 * Below the ports that the kernel gives by itself, and those of the stories. */
static inline int
fixture_take_block(void)
{
    for (int tries = 0;; tries++) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        const int block = (int)(svc_random_u64() % FIXTURE_BLOCKS);
        const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        /* an abstract one: of this network, as ports are, and never left behind */
        (void)snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1,
                       "llmb-test-ports-%03d", block);
        if (bind(fd, (struct sockaddr *)&name, sizeof(name)) == 0 || tries > 10000)
            return 3000 + block * FIXTURE_BLOCK;
        close(fd);
    }
}

/* A port for something that is started a moment later, or twice. Each another one. */
static inline int
fixture_free_port(void)
{
    static int next, left;

    for (;;) {
        if (left == 0) {
            next = fixture_take_block();
            left = FIXTURE_BLOCK;
        }
        left--;
        const int port = next++;
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        const int rc = bind(fd, (struct sockaddr *)&address, sizeof(address));

        close(fd);
        if (rc == 0)
            return port;
    }
}

/* An address of such a port, for a server that comes again where it was: nobody else is there in between. */
static inline const char *
fixture_free_endpoint(char out[64])
{
    (void)snprintf(out, 64, "tcp://127.0.0.1:%d", fixture_free_port());
    return out;
}

static inline void
fixture_check(void *arg, short events)
{
    fixture_t *self = arg;
    (void)events;
    self->was_met = self->cond(self->arg);
    if (self->was_met || svc_mono_ms() >= self->until_ms)
        svc_loop_stop(self->ctx.loop);
}

/* Runs the loop until cond(arg) holds; gives whether it did within `ms`. */
static inline bool
fixture_runs_until(fixture_t *self, bool (*cond)(void *), void *arg, uint64_t ms)
{
    self->cond = cond;
    self->arg = arg;
    self->until_ms = svc_mono_ms() + ms;
    self->was_met = cond(arg);
    if (self->was_met)
        return true;
    const uint64_t timer = svc_loop_every(self->ctx.loop, 1, fixture_check, self);
    svc_loop_run(self->ctx.loop);
    svc_loop_cancel(self->ctx.loop, timer);
    return self->was_met;
}

#define fixture_run_until(self, cond, arg) \
    assert_true(fixture_runs_until((self), (cond), (arg), FIXTURE_PATIENCE_MS))

static inline bool
fixture_never(void *arg)
{
    (void)arg;
    return false;
}

/* Runs the loop for `ms`. */
static inline void
fixture_run_for(fixture_t *self, uint64_t ms)
{
    (void)fixture_runs_until(self, fixture_never, NULL, ms);
}

static inline uint64_t
fixture_count(const fixture_t *self, svc_metric metric)
{
    return svc_metrics_get(self->ctx.metrics, metric);
}

/* A family's number, of the rows that are called so (NULL: it has none). */
static inline int64_t
fixture_family(const fixture_t *self, svc_family family, svc_label label, const char *row,
               uint16_t column)
{
    return svc_metrics_read(
        self->ctx.metrics, family,
        row == NULL ? 0 : svc_metrics_label(self->ctx.metrics, label, row, NULL), column);
}

#endif
