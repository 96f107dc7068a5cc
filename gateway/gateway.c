/* gateway.c - the service as svc_main runs it: reactors on threads, and a main thread that waits for signals.
 *
 * The main thread also tells the process's counters on the bus (bus.gateway.bind). Opens
 * the port once for each reactor, starts them, and on SIGTERM asks each to drain; when
 * all have said (through an eventfd) that no request is left, the process ends. Streams
 * that are still open shortly before svc_main's own deadline are ended after a whole
 * event. */
#include "gateway.h"
#include "listener.h"
#include "reactor.h"
#include "svc/svc_cores.h"
#include "svc/svc_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zmq.h>

#define WORKERS_MAX     64
#define OWN_DESCRIPTORS 200 /* loops, peers, logs */
#define END_STREAMS_MS \
    1000 /* before we are stopped: clients get the end of their event, and read on elsewhere */

typedef struct {
    svc_ctx_t *ctx;        /* of the process */
    svc_server_t *server;  /* owned; svc.stats and nothing else; NULL: none is wanted */
    client_trust_t *trust; /* owned */
    conn_limit_t *limit;   /* owned */
    tls_store_t *tls;      /* owned; NULL: clients speak plain HTTP */
    meeting_t *meeting;    /* owned; NULL: none is wanted */
    readiness_t readiness; /* written by the reactors */
    reactor_thread_t *reactors[WORKERS_MAX]; /* owned */
    size_t n;                                /* of them */
    int drained_fd;         /* owned eventfd: counts reactors that have drained */
    uint64_t n_drained;     /* so far */
    uint64_t streams_timer; /* when they end; 0: none */
} gateway_t;

/* The address to tell people: "127.0.0.1" for all addresses, IPv6 in brackets. */
static void
print_url(const svc_config_t *config, uint16_t port, char *out, size_t n)
{
    const char *host = config->server_host[0] != '\0' ? config->server_host : "127.0.0.1";
    bool is_v6 = strchr(host, ':') != NULL;

    snprintf(out, n, "http%s://%s%s%s:%u", config->server_tls_cert[0] != '\0' ? "s" : "",
             is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
}

void
gateway_print_config(const svc_config_t *config)
{
    char url[300];

    print_url(config, config->server_port, url, sizeof url);
    printf("config ok: listens on %s\n", url);
}

/* True without files for TLS as well: *out is NULL then. */
static bool
open_tls(const svc_config_t *config, tls_store_t **out, char **error)
{
    *out = NULL;
    if (config->server_tls_cert[0] == '\0')
        return true;
    *out = tls_store_new(config->server_tls_cert, config->server_tls_key, error);
    return *out != NULL;
}

bool
gateway_check_config(const svc_config_t *config, char **error)
{
    tls_store_t *tls = NULL;
    bool is_good = open_tls(config, &tls, error);

    tls_store_destroy(&tls);
    return is_good;
}

/* Any reactor's thread. */
static void
on_reactor_drained(void *arg)
{
    const gateway_t *self = arg;
    uint64_t once = 1;
    ssize_t n = write(self->drained_fd, &once, sizeof once);

    SVC_ASSERT(n == sizeof once);
}

static void
on_drained(void *arg, short events)
{
    gateway_t *self = arg;
    uint64_t times = 0;

    (void)events;
    if (read(self->drained_fd, &times, sizeof times) != sizeof times)
        return;
    self->n_drained += times;
    if (self->n_drained == self->n)
        svc_loop_stop(self->ctx->loop);
}

/* Binds where operators ask for counters. */
static bool
open_server(gateway_t *self, char **error)
{
    static const svc_op_t none[] = {{NULL, NULL, NULL, NULL, 0, 0}};
    const char *bind = self->ctx->config->bus_gateway_bind;

    return bind[0] == '\0' ||
           svc_server_new(self->ctx, bind, none, self, &self->server, error) == RC_OK;
}

static size_t
count_workers(const svc_config_t *config)
{
    size_t n = config->gateway_workers > 0 ? config->gateway_workers : svc_cores("");

    return n > WORKERS_MAX ? WORKERS_MAX : n;
}

/* How many connections one of n reactors may hold. */
static uint32_t
share_of(const svc_config_t *config, size_t n)
{
    return (config->server_max_connections + (uint32_t)n - 1) / (uint32_t)n;
}

/* Starts a reactor on each socket; those it could not give away are closed. */
static bool
start_reactors(gateway_t *self, const int *fds, size_t n, char **error)
{
    const svc_config_t *config = self->ctx->config;
    uint32_t max = share_of(config, n);

    self->meeting = n > 1 && !config->test_plain_paths ? meeting_new(n, max) : NULL;
    reactor_setup_t setup = {
        .ctx = self->ctx,
        .trust = self->trust,
        .limit = self->limit,
        .tls = self->tls,
        .meeting = self->meeting,
        .readiness = &self->readiness,
        .max_connections = max,
        .drained = on_reactor_drained,
        .arg = self,
    };

    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++)
        svc_health_add_need(self->ctx->health, &self->readiness.needs[peer],
                            reactor_peer_names[peer], false, (unsigned)n);
    for (self->n = 0; self->n < n; self->n++) {
        setup.number = self->n + 1;
        self->reactors[self->n] = reactor_start(&setup, fds[self->n], error);
        if (self->reactors[self->n] != NULL)
            continue;
        for (size_t i = self->n + 1; i < n; i++)
            close(fds[i]);
        return false;
    }
    return true;
}

static void
tell_certificate(const gateway_t *self)
{
    if (self->tls == NULL)
        return;
    char *text = tls_store_describe(self->tls);
    svc_log_info(self->ctx->log, "%s", text);
    free(text);
}

/* A client that speaks TLS is three descriptors: its socket, and the pair behind it. */
static void
warn_of_descriptors(const gateway_t *self, const svc_config_t *config)
{
    const uint64_t max = config->server_max_connections;
    const uint64_t need = max * (self->tls != NULL ? 3 : 1) + OWN_DESCRIPTORS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < need)
        svc_log_warn(
            self->ctx->log,
            "server.max_connections %llu%s needs %llu descriptors, and this process "
            "may have %llu: raise its limit (nofile)",
            (unsigned long long)max, self->tls != NULL ? " with server.tls" : "",
            (unsigned long long)need, (unsigned long long)limit.rlim_cur);
}

void *
gateway_start(svc_ctx_t *ctx, char **error)
{
    gateway_t *self = svc_alloc(sizeof *self);
    size_t n = count_workers(ctx->config);
    int fds[WORKERS_MAX];
    uint16_t port = 0;
    char url[300];

    self->ctx = ctx;
    self->drained_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    SVC_ASSERT(self->drained_fd >= 0);
    self->limit = conn_limit_new(ctx->config->server_max_connections_per_address);
    self->trust = client_trust_new(&ctx->config->server_trusted_proxies, error);
    if (self->trust == NULL || !open_tls(ctx->config, &self->tls, error) ||
        !open_server(self, error) ||
        listener_open(ctx->config->server_host, ctx->config->server_port, fds, n, &port,
                      error) != RC_OK ||
        !start_reactors(self, fds, n, error)) {
        gateway_stop(self);
        return NULL;
    }
    svc_loop_add_fd(ctx->loop, self->drained_fd, ZMQ_POLLIN, on_drained, self);
    print_url(ctx->config, port, url, sizeof url);
    svc_log_info(ctx->log, "listens on %s with %zu reactors", url, n);
    tell_certificate(self);
    warn_of_descriptors(self, ctx->config);
    if (self->server != NULL)
        svc_log_info(ctx->log, "counters are told on %s",
                     svc_server_endpoint(self->server));
    return self;
}

static void
on_streams_due(void *arg, short events)
{
    gateway_t *self = arg;

    (void)events;
    self->streams_timer = 0;
    for (size_t i = 0; i < self->n; i++)
        reactor_end_streams(self->reactors[i]);
}

bool
gateway_reload(void *service, const svc_config_t *fresh, char **error)
{
    gateway_t *self = service;
    uint32_t max = share_of(fresh, self->n);

    if (self->tls != NULL) { /* first: it may be refused */
        if (!tls_store_reload(self->tls, fresh->server_tls_cert, fresh->server_tls_key,
                              error))
            return false;
        tell_certificate(self);
    }
    conn_limit_set(self->limit, fresh->server_max_connections_per_address);
    if (self->meeting != NULL)
        meeting_set_max(self->meeting, max);
    for (size_t i = 0; i < self->n; i++)
        reactor_reload(self->reactors[i], fresh, max);
    warn_of_descriptors(self, fresh);
    return true;
}

void
gateway_announce(void *service)
{
    gateway_t *self = service;

    if (self->server != NULL)
        svc_server_set_draining(self->server);
    for (size_t i = 0; i < self->n; i++)
        reactor_announce(self->reactors[i]);
}

void
gateway_drain(void *service, uint64_t left_ms)
{
    gateway_t *self = service;

    for (size_t i = 0; i < self->n; i++)
        reactor_drain(self->reactors[i]);
    self->streams_timer = svc_loop_after(
        self->ctx->loop, left_ms > END_STREAMS_MS ? left_ms - END_STREAMS_MS : 0,
        on_streams_due, self);
}

void
gateway_stop(void *service)
{
    gateway_t *self = service;

    for (size_t i = 0; i < self->n; i++)
        reactor_end(self->reactors[i]);
    for (size_t i = 0; i < self->n; i++)
        reactor_stop(&self->reactors[i]);
    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++)
        svc_health_remove_need(self->ctx->health, &self->readiness.needs[peer]);
    svc_loop_cancel(self->ctx->loop, self->streams_timer);
    svc_server_destroy(&self->server);
    svc_loop_remove_fd(self->ctx->loop, self->drained_fd);
    close(self->drained_fd);
    client_trust_destroy(&self->trust);
    conn_limit_destroy(&self->limit);
    tls_store_destroy(&self->tls);
    meeting_destroy(&self->meeting);
    free(self);
}
