/* conns_fixture.h - the place of the HTTP server behind conns, and clients that are plain sockets.
 *
 * The test gets the connections that are handed over and says when they are closed; its clients run on
 * the same thread. Included by the tests of conns. */
#ifndef TESTS_UNIT_GATEWAY_CONNS_FIXTURE_H
#define TESTS_UNIT_GATEWAY_CONNS_FIXTURE_H

#include "gateway/conns.h"
#include "gateway/gate.h"
#include "gateway/listener.h"
#include "tests/unit/svc/bus_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    fixture_t bus;         /* the loop */
    svc_config_t config;   /* time-outs */
    conn_limit_t *limit;   /* per address */
    client_trust_t *trust; /* nobody */
    conns_t *conns;        /* what is tested */
    uint16_t port;         /* where it listens */
    int handed;            /* the last descriptor that was handed over; -1: none */
    unsigned n_handed;     /* how many were */
    unsigned n_held;       /* how often one was held */
    unsigned n_released;   /* and released */
    void *gone;            /* the last request whose client left */
    bool half;             /* it has only stopped sending */
    void *writable;        /* the last request whose socket takes bytes again */
    int client;            /* socket of the test's client */
    char answer[1024];     /* what it has read */
    size_t n;              /* bytes of it */
    bool ended;            /* the server has closed */
    uint64_t sips,
        sipped_ms;    /* of a client that reads slowly: how many, when the last one was */
    bool stood_still; /* the machine did meanwhile */
} world_t;

static inline bool
on_hand_over(void *arg, int fd, const struct sockaddr *addr, socklen_t n)
{
    world_t *world = arg;

    assert_true(n >= sizeof(struct sockaddr_in) && addr->sa_family == AF_INET);
    world->handed = fd;
    world->n_handed++;
    return true;
}

static inline void
on_gone(void *arg, void *request, bool half)
{
    world_t *world = arg;

    world->gone = request;
    world->half = half;
}

static inline void
on_hold(void *arg, void *server)
{
    world_t *world = arg;

    assert_ptr_equal(server, world);
    assert_int_equal(world->n_held, world->n_released);
    world->n_held++;
}

static inline void
on_release(void *arg, void *server)
{
    world_t *world = arg;

    assert_ptr_equal(server, world);
    world->n_released++;
    assert_int_equal(world->n_held, world->n_released);
}

static inline void
on_writable(void *arg, void *request)
{
    ((world_t *)arg)->writable = request;
}

static inline int
open_world_with(void **state, uint32_t timeout_s)
{
    world_t *world = svc_alloc(sizeof *world);
    svc_strings_t nobody = {NULL, 0};
    char *error = NULL;
    int fd = -1;

    fixture_open(&world->bus, "gateway");
    world->config = (svc_config_t){.server_header_timeout_s = timeout_s,
                                   .server_body_timeout_s = timeout_s,
                                   .server_idle_timeout_s = timeout_s,
                                   .gateway_viewer_idle_s = timeout_s};
    world->bus.ctx.config = &world->config;
    world->limit = conn_limit_new(1);
    world->trust = client_trust_new(&nobody, &error);
    world->handed = world->client = -1;
    assert_int_equal(listener_open("127.0.0.1", 0, &fd, 1, &world->port, &error), RC_OK);
    conns_hooks_t hooks = {on_hand_over, on_gone,     on_hold,
                           on_release,   on_writable, world};
    world->conns = conns_new(&world->bus.ctx, fd, 3, world->limit, world->trust, &hooks);
    *state = world;
    return 0;
}

/* Nobody's time is over in it, however slow the machine is. */
static inline int
open_world(void **state)
{
    return open_world_with(state, 3600);
}

/* For tests of time-outs. */
static inline int
open_hasty_world(void **state)
{
    return open_world_with(state, 1);
}

/* What libmicrohttpd does when it is through with a connection. */
static inline void
close_handed(world_t *world)
{
    if (world->handed < 0)
        return;
    conns_closed(world->conns, conns_adopted(world->conns, world->handed));
    close(world->handed);
    world->handed = -1;
}

static inline int
close_world(void **state)
{
    world_t *world = *state;

    close_handed(world);
    if (world->client >= 0)
        close(world->client);
    conns_destroy(&world->conns);
    client_trust_destroy(&world->trust);
    conn_limit_destroy(&world->limit);
    fixture_close(&world->bus);
    free(world);
    return 0;
}

static inline int
connect_client(const world_t *world)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(world->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int at_once = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static inline void
say(const world_t *world, const char *text)
{
    assert_int_equal(send(world->client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static inline bool
is_handed(void *arg)
{
    return ((world_t *)arg)->handed >= 0;
}

static inline bool
is_gone(void *arg)
{
    return ((world_t *)arg)->gone != NULL;
}

static inline bool
is_fully_gone(void *arg)
{
    return is_gone(arg) && !((world_t *)arg)->half;
}

static inline bool
is_writable(void *arg)
{
    return ((world_t *)arg)->writable != NULL;
}

static inline bool
is_released(void *arg)
{
    return ((world_t *)arg)->n_released > 0;
}

static inline bool
has_one(void *arg)
{
    return conns_count(((world_t *)arg)->conns) == 1;
}

/* Reads what has come; true when the server has closed. */
static inline bool
has_ended(void *arg)
{
    world_t *world = arg;
    ssize_t got = recv(world->client, world->answer + world->n,
                       sizeof world->answer - 1 - world->n, MSG_DONTWAIT);

    if (got > 0)
        world->n += (size_t)got;
    world->ended = got == 0 || (got < 0 && errno != EAGAIN);
    return world->ended;
}

/* Reads as the server would; gives how much there was. */
static inline ssize_t
take_request(const world_t *world)
{
    char got[4096];

    return recv(world->handed, got, sizeof got, MSG_DONTWAIT);
}

static inline void
assert_runs_until(world_t *world, bool (*cond)(void *))
{
    assert_true(fixture_runs_until(&world->bus, cond, world, FIXTURE_PATIENCE_MS));
}

/* A connection that waits for its second request. */
static inline conn_t *
open_reused(world_t *world)
{
    world->client = connect_client(world);
    say(world, "GET / HTTP/1.1\r\n\r\n");
    assert_runs_until(world, is_handed);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    conn_serve(conn, world);
    take_request(world);
    conn_enter(conn, CONN_IDLE);
    return conn;
}

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
#define HASTY_TEST(name) \
    cmocka_unit_test_setup_teardown(name, open_hasty_world, close_world)

#endif
