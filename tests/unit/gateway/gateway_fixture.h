/* gateway_fixture.h - one reactor of the gateway over HTTP, between fake services and clients of plain bytes.
 *
 * The reactor runs on its own thread, as in the process; fakes and clients share the test's thread
 * and loop. A client's socket never blocks: what it sends and receives moves while the test waits
 * for something. What the reactor logs can be read. */
#ifndef TESTS_UNIT_GATEWAY_GATEWAY_FIXTURE_H
#define TESTS_UNIT_GATEWAY_GATEWAY_FIXTURE_H

#include "fake_services.h"
#include "gateway/listener.h"
#include "gateway/reactor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENT_MAX_BYTES (32u << 20)
#define LOG_MAX_BYTES    (256u << 10)
#define BODY_MAX_BYTES   1000 /* of a request, unless the test says otherwise */

typedef struct {
    fakes_t fakes;             /* first; its config is the reactor's */
    reactor_setup_t setup;     /* of the reactor */
    readiness_t readiness;     /* as the reactor says */
    reactor_thread_t *reactor; /* what is tested */
    uint16_t port;             /* where it listens */
    atomic_uint drained;       /* times that it has said so */
    int log_fd;                /* owned: what it logs */
    char log[LOG_MAX_BYTES];   /* read from it; NUL-terminated */
} world_t;

/* --- the reactor -------------------------------------------------------------------------- */

static inline void
world_on_drained(void *arg)
{
    atomic_fetch_add(&((world_t *)arg)->drained, 1);
}

/* True when it reaches every service and knows the models. */
static inline bool
world_is_ready(void *arg)
{
    world_t *world = arg;

    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++)
        if (atomic_load(&world->readiness.needs[peer].missing) > 0)
            return false;
    return true;
}

static inline void
world_configure(world_t *world)
{
    static char host[] = "127.0.0.1", none[] = "";
    svc_config_t *config = &world->fakes.config;

    config->server_host = host;
    config->server_tls_cert = config->server_tls_key = none;
    config->server_max_body_bytes = BODY_MAX_BYTES;
    config->server_header_timeout_s = 10;
    config->server_body_timeout_s = 10;
    config->server_idle_timeout_s = 10;
    config->server_max_connections = 100;
    config->gateway_headers_after_s = 10;
    config->gateway_keepalive_s = 10;
    config->gateway_reattach_s = 10;
    config->gateway_request_timeout_s = 10;
    config->gateway_verify_cache_s = 60;
    config->gateway_verify_stream_s = 60;
    config->gateway_viewer_backlog_kb = 256;
    config->gateway_viewer_idle_s = 10;
    config->auth_password_min = 8;
}

/* Opens everything but the reactor. */
static inline void
world_init(world_t *world)
{
    fakes_open(&world->fakes);
    world_configure(world);
    world->log_fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(world->log_fd >= 0);
    world->fakes.bus.ctx.log = svc_log_new(world->log_fd, "gateway", SVC_LOG_TEXT,
                                           SVC_LOG_INFO);
    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++)
        atomic_init(&world->readiness.needs[peer].missing, 1);
}

/* Stops the reactor, if there is one, and closes everything. */
static inline void
world_fini(world_t *world)
{
    client_trust_t *trust = (client_trust_t *)(uintptr_t)world->setup.trust;

    reactor_stop(&world->reactor);
    client_trust_destroy(&trust);
    conn_limit_destroy(&world->setup.limit);
    svc_log_destroy(&world->fakes.bus.ctx.log);
    close(world->log_fd);
    fakes_close(&world->fakes);
}

static inline world_t *
world_new(void)
{
    world_t *world = svc_alloc(sizeof *world);

    world_init(world);
    return world;
}

/* Starts the reactor with the configuration as it is now. False with *error (free() it) set. */
static inline bool
world_starts(world_t *world, char **error)
{
    int fd = -1;
    svc_ctx_t *ctx = &world->fakes.bus.ctx;
    client_trust_t *trust = client_trust_new(&world->fakes.config.server_trusted_proxies,
                                             error);

    assert_non_null(trust);
    assert_int_equal(listener_open("127.0.0.1", 0, &fd, 1, &world->port, error), RC_OK);
    world->setup = (reactor_setup_t){
        .ctx = ctx,
        .trust = trust,
        .limit = conn_limit_new(0),
        .readiness = &world->readiness,
        .max_connections = world->fakes.config.server_max_connections,
        .drained = world_on_drained,
        .arg = world,
    };
    world->reactor = reactor_start(&world->setup, fd, error);
    return world->reactor != NULL;
}

/* Starts it and waits until it reaches all services. */
static inline void
world_start(world_t *world)
{
    char *error = NULL;

    if (!world_starts(world, &error))
        fail_msg("%s", error);
    fixture_run_until(&world->fakes.bus, world_is_ready, world);
    fixture_run_until(&world->fakes.bus, fake_is_subscribed, &world->fakes);
}

/* For cmocka: a world with a ready reactor. */
static inline int
world_open(void **state)
{
    world_t *world = world_new();

    world_start(world);
    *state = world;
    return 0;
}

/* For cmocka: the same, but the test starts the reactor when it has configured it. */
static inline int
world_open_unstarted(void **state)
{
    *state = world_new();
    return 0;
}

static inline int
world_close(void **state)
{
    world_t *world = *state;

    world_fini(world);
    free(world);
    return 0;
}

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)
#define WORLD_TEST_UNSTARTED(name) \
    cmocka_unit_test_setup_teardown(name, world_open_unstarted, world_close)

/* --- its log ------------------------------------------------------------------------------ */

/* All that was logged so far. */
static inline const char *
world_log(world_t *world)
{
    ssize_t n = pread(world->log_fd, world->log, sizeof world->log - 1, 0);

    assert_true(n >= 0);
    world->log[n] = '\0';
    return world->log;
}

typedef struct {
    world_t *world;   /* whose log */
    const char *part; /* what must stand in it */
} log_wish_t;

static inline bool
log_has(void *arg)
{
    const log_wish_t *wish = arg;

    return strstr(world_log(wish->world), wish->part) != NULL;
}

/* Runs until `part` stands in the log. */
static inline void
world_await_log(world_t *world, const char *part)
{
    log_wish_t wish = {world, part};

    if (!fixture_runs_until(&world->fakes.bus, log_has, &wish, FIXTURE_PATIENCE_MS))
        fail_msg("\"%s\" does not stand in the log: %s", part, world_log(world));
}

/* --- a client ----------------------------------------------------------------------------- */

typedef struct {
    world_t *world; /* whose reactor it speaks to */
    int fd;         /* owned; -1: closed by the client itself */
    svc_buf_t out;  /* to be sent */
    svc_buf_t in;   /* received; a NUL stands behind it */
    bool ended;     /* the server has closed, cleanly or not */
} client_t;

/* Connects. `receive_bytes`: of the socket's buffer; 0: as usual. */
static inline void
client_open(client_t *self, world_t *world, int receive_bytes)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(world->port)};

    *self = (client_t){.world = world,
                       .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    svc_buf_init(&self->out, CLIENT_MAX_BYTES);
    svc_buf_init(&self->in, CLIENT_MAX_BYTES);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (receive_bytes > 0)
        (void)setsockopt(self->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes,
                         sizeof receive_bytes);
    assert_int_equal(connect(self->fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(self->fd, F_SETFL, O_NONBLOCK), 0);
}

static inline void
client_leave(client_t *self)
{
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
}

/* Leaves as a client that has crashed: nothing is left to doubt. */
static inline void
client_reset(client_t *self)
{
    struct linger at_once = {1, 0};

    assert_int_equal(
        setsockopt(self->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    client_leave(self);
}

static inline void
client_close(client_t *self)
{
    client_leave(self);
    svc_buf_fini(&self->out);
    svc_buf_fini(&self->in);
}

/* Sends what it can. */
static inline void
client_push(client_t *self)
{
    while (self->out.n > 0 && !self->ended) {
        ssize_t n = send(self->fd, self->out.p, self->out.n, MSG_NOSIGNAL);
        if (n <= 0) {
            self->ended = n < 0 && errno != EAGAIN;
            return;
        }
        svc_buf_consume(&self->out, (size_t)n);
    }
}

/* Receives what is there, `max` bytes at most. */
static inline void
client_pull(client_t *self, size_t max)
{
    ssize_t n = 1;

    while (n > 0 && max > 0) {
        size_t piece = max < 65536 ? max : 65536;
        assert_int_equal(svc_buf_reserve(&self->in, piece + 1), RC_OK);
        n = recv(self->fd, self->in.p + self->in.n, piece, 0);
        if (n > 0) {
            self->in.n += (size_t)n;
            max -= (size_t)n;
        } else if (n == 0 || errno != EAGAIN) {
            self->ended = true;
        }
        self->in.p[self->in.n] = '\0';
    }
}

/* Sends bytes: what does not fit is sent while the test waits. */
static inline void
client_send(client_t *self, const void *bytes, size_t n)
{
    assert_int_equal(svc_buf_add(&self->out, bytes, n), RC_OK);
    client_push(self);
}

static inline void
client_say(client_t *self, const char *text)
{
    client_send(self, text, strlen(text));
}

/* Sends a request; `headers` are more lines, each with its end; `body` NULL: none. With token "good",
 * unless the headers speak of Authorization themselves. */
static inline void
client_ask(client_t *self, const char *method, const char *path, const char *headers,
           const char *body)
{
    char line[64];

    client_say(self, method);
    client_say(self, " ");
    client_say(self, path);
    client_say(self, " HTTP/1.1\r\nHost: x\r\n");
    if (strstr(headers, "Authorization") == NULL)
        client_say(self, "Authorization: Bearer good\r\n");
    client_say(self, headers);
    if (body != NULL) {
        snprintf(line, sizeof line, "Content-Length: %zu\r\n", strlen(body));
        client_say(self, line);
    }
    client_say(self, "\r\n");
    client_say(self, body != NULL ? body : "");
}

typedef struct {
    client_t *client; /* who waits */
    const char *part; /* for this; NULL: for the end */
} client_wish_t;

static inline bool
client_has(void *arg)
{
    const client_wish_t *wish = arg;

    client_push(wish->client);
    client_pull(wish->client, SIZE_MAX);
    return wish->part == NULL ? wish->client->ended
                              : strstr(wish->client->in.p, wish->part) != NULL;
}

/* Runs until `part` was received (NULL: until the server has closed). */
static inline void
client_await(client_t *self, const char *part)
{
    client_wish_t wish = {self, part};

    if (!fixture_runs_until(&self->world->fakes.bus, client_has, &wish,
                            FIXTURE_PATIENCE_MS))
        fail_msg("waited in vain for \"%s\" after: %.2000s",
                 part != NULL ? part : "the end", self->in.p);
}

typedef struct {
    client_t *client;   /* who reads meanwhile */
    fake_times_t times; /* what is waited for */
} client_reads_t;

static inline bool
client_reads_and_was_asked(void *arg)
{
    client_reads_t *self = arg;

    client_push(self->client);
    client_pull(self->client, SIZE_MAX);
    return fake_was_asked(&self->times);
}

/* Reads until `op` was asked for `n` times in all. */
static inline void
client_await_asked(client_t *self, fake_op op, unsigned n)
{
    client_reads_t reads = {self, {&self->world->fakes, op, n}};

    fixture_run_until(&self->world->fakes.bus, client_reads_and_was_asked, &reads);
}

/* --- answers ------------------------------------------------------------------------------ */

/* An answer taken apart. */
typedef struct {
    char *head;     /* owned: status line and headers */
    svc_buf_t body; /* owned: without its chunks; a NUL stands behind it */
    int status;     /* 0: no answer */
    bool whole;     /* nothing is missing */
} answer_t;

static inline void
answer_add(answer_t *self, const char *bytes, size_t n)
{
    assert_int_equal(svc_buf_add(&self->body, bytes, n), RC_OK);
    assert_int_equal(svc_buf_reserve(&self->body, 1), RC_OK);
    self->body.p[self->body.n] = '\0';
}

static inline void
answer_add_chunks(answer_t *self, const char *at, const char *end)
{
    char *after = NULL;

    while (at < end) {
        size_t n = strtoul(at, &after, 16);
        if (after == at || after + 2 > end)
            return;
        at = after + 2;
        if (n == 0) {
            self->whole = at + 2 == end;
            return;
        }
        size_t there = n < (size_t)(end - at) ? n : (size_t)(end - at);
        answer_add(self, at, there);
        at += there + 2;
    }
}

/* Takes apart what a client has received: one answer. */
static inline answer_t
answer_of(const client_t *client)
{
    answer_t self = {.status = 0};
    const char *blank = client->in.n > 0 ? strstr(client->in.p, "\r\n\r\n") : NULL;

    svc_buf_init(&self.body, CLIENT_MAX_BYTES);
    answer_add(&self, "", 0);
    if (blank == NULL) {
        self.head = svc_str_dup(SVC_LIT(""));
        return self;
    }
    const char *at = blank + 4;
    const char *end = client->in.p + client->in.n;
    self.head = svc_str_dup((svc_str){client->in.p, (size_t)(at - client->in.p)});
    assert_int_equal(sscanf(self.head, "HTTP/1.1 %d ", &self.status), 1);
    const char *length = strstr(self.head, "Content-Length: ");
    if (strstr(self.head, "Transfer-Encoding: chunked") != NULL) {
        answer_add_chunks(&self, at, end);
    } else {
        answer_add(&self, at, (size_t)(end - at));
        self.whole = length != NULL &&
                     strtoul(length + 16, NULL, 10) == (size_t)(end - at);
    }
    return self;
}

static inline void
answer_fini(answer_t *self)
{
    free(self->head);
    svc_buf_fini(&self->body);
}

/* One request on a connection of its own. `headers` and `body` as of client_ask. */
static inline answer_t
ask(world_t *world, const char *method, const char *path, const char *headers,
    const char *body)
{
    client_t client;
    char with_close[2048];

    client_open(&client, world, 0);
    snprintf(with_close, sizeof with_close, "Connection: close\r\n%s", headers);
    client_ask(&client, method, path, with_close, body);
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    client_close(&client);
    return answer;
}

/* Asks; the answer must have this status, and `part` in its body or headers. */
static inline void
expect_with(world_t *world, const char *method, const char *path, const char *headers,
            const char *body, int status, const char *part)
{
    answer_t answer = ask(world, method, path, headers, body);

    if (answer.status != status ||
        (strstr(answer.body.p, part) == NULL && strstr(answer.head, part) == NULL))
        fail_msg("%s %s %s: %d \"%s\" wanted, got %s%.2000s", method, path,
                 body != NULL ? body : "", status, part, answer.head, answer.body.p);
    answer_fini(&answer);
}

/* What a client is told of a service's result: that a call should move, or that another replica has what it is about,
 * stays between the services. */
static inline const svc_rc_info_t *
told_of(svc_rc rc)
{
    return svc_rc_info(rc == RC_MOVED || rc == RC_STALE ? RC_UNAVAILABLE : rc);
}

static inline void
expect(world_t *world, const char *method, const char *path, const char *body, int status,
       const char *part)
{
    expect_with(world, method, path, "", body, status, part);
}

#endif
