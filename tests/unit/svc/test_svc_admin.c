/* test_svc_admin.c - the admin port, asked by its own probe and by sockets that misbehave.
 *
 * Real sockets on loopback, and ports that the kernel picks. */
#include "svc/svc_admin.h"

#include "svc/svc_time.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000
#define FLOOD       (SVC_ADMIN_CONNECTIONS_MAX * 3)

typedef struct {
    svc_health_t *health;      /* what is told */
    svc_metrics_t *metrics;    /* likewise */
    svc_metrics_about_t about; /* both */
    svc_admin_t *admin;        /* what is tested */
    char address[32];          /* of it */
    svc_buf_t body;            /* of the latest answer */
} world_t;

static int
open_world(void **state)
{
    world_t *world = svc_alloc(sizeof(*world));
    char *error = NULL;

    world->health = svc_health_new(SVC_HEALTH_STUCK_MS);
    world->metrics = svc_metrics_new();
    world->about = (svc_metrics_about_t){world->metrics, world->health, "auth-svc",
                                         "1.2"};
    world->admin = svc_admin_new("127.0.0.1:0", &world->about, NULL, &error);
    if (world->admin == NULL)
        fail_msg("%s", error);
    (void)snprintf(world->address, sizeof(world->address), "127.0.0.1:%u",
                   svc_admin_port(world->admin));
    svc_buf_init(&world->body, SVC_HEALTH_MAX_BYTES);
    *state = world;
    return 0;
}

static int
close_world(void **state)
{
    world_t *world = *state;

    svc_admin_destroy(&world->admin);
    assert_null(world->admin);
    svc_admin_destroy(&world->admin);
    svc_health_destroy(&world->health);
    svc_metrics_destroy(&world->metrics);
    svc_buf_fini(&world->body);
    free(world);
    return 0;
}

static void
assert_probe(world_t *world, const char *path, int status, const char *body)
{
    char *error = NULL;

    svc_buf_clear(&world->body);
    assert_int_equal(svc_admin_probe(world->address, path, &world->body, &error), status);
    assert_null(error);
    assert_int_equal(world->body.n, strlen(body));
    assert_memory_equal(world->body.p, body, world->body.n);
}

/* --- sockets ---------------------------------------------------------------------------------- */

static int
connect_to(const world_t *world)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(svc_admin_port(world->admin)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

/* Reads until the server closes, or `wanted` (not NULL) has come. */
static void
read_answer(int fd, char *out, size_t size, const char *wanted)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    size_t n = 0;
    ssize_t got = 1;

    out[0] = '\0';
    while (got > 0 && (wanted == NULL || strstr(out, wanted) == NULL)) {
        if (poll(&ready, 1, PATIENCE_MS) <= 0)
            fail_msg("no answer; so far: %s", out);
        got = recv(fd, out + n, size - 1 - n, 0);
        n += got > 0 ? (size_t)got : 0;
        out[n] = '\0';
    }
}

static void
assert_answer(const world_t *world, const char *request, const char *status,
              const char *wanted)
{
    char answer[4096];
    int fd = connect_to(world);

    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    read_answer(fd, answer, sizeof(answer), NULL);
    close(fd);
    if (strncmp(answer, status, strlen(status)) != 0 || strstr(answer, wanted) == NULL)
        fail_msg("said: %s", answer);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void
tells_what_the_health_says(void **state)
{
    world_t *world = *state;
    svc_need_t need;

    assert_probe(world, "/healthz", 200, "{\"status\":\"ok\"}");
    assert_probe(world, "/readyz", 503, "{\"status\":\"starting\"}");
    svc_health_set_started(world->health);
    assert_probe(world, "/readyz", 200, "{\"status\":\"ok\"}");
    svc_health_add_need(world->health, &need, "convo-svc", false, 1);
    assert_probe(world, "/readyz", 503,
                 "{\"status\":\"unavailable\",\"missing\":[\"convo-svc\"]}");
    svc_health_remove_need(world->health, &need);
    svc_health_set_draining(world->health);
    assert_probe(world, "/readyz", 503, "{\"status\":\"draining\"}");
}

static void
tells_metrics_as_text(void **state)
{
    world_t *world = *state;
    char answer[SVC_METRICS_TEXT_MAX_BYTES];
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = connect_to(world);

    svc_metrics_add(world->metrics, SVC_M_LOGINS, 3);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    read_answer(fd, answer, sizeof(answer), NULL);
    close(fd);
    assert_memory_equal(answer, "HTTP/1.1 200 OK\r\n", 17);
    assert_non_null(
        strstr(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_non_null(
        strstr(answer, "\nllmb_build_info{service=\"auth-svc\",version=\"1.2\"} 1\n"));
    assert_non_null(strstr(answer, "\nllmb_logins_total 3\n"));
    assert_null(strstr(answer, "llmb_takeovers_total")); /* convo-svc's */
}

static void
too_many_scrapes_at_once_are_refused_and_probes_are_not(void **state)
{
    world_t *world = *state;
    svc_buf_t out;

    svc_buf_init(&out, SVC_ADMIN_RESPONSE_MAX_BYTES);
    svc_admin_respond(&world->about, SVC_LIT("GET /metrics HTTP/1.1\r\n\r\n"), true,
                      &out);
    assert_memory_equal(out.p, "HTTP/1.1 503 ", 13);
    assert_non_null(memmem(out.p, out.n, "Retry-After: 1\r\n", 16));
    svc_buf_clear(&out);
    svc_admin_respond(&world->about, SVC_LIT("GET /healthz HTTP/1.1\r\n\r\n"), true,
                      &out);
    assert_memory_equal(out.p, "HTTP/1.1 200 ", 13);
    svc_buf_fini(&out);
}

/* Asks for metrics through a socket that takes only a little of them, and waits for the first bytes. */
static int
scrape_slowly(const world_t *world)
{
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons(svc_admin_port(world->admin)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const char request[] = "GET /metrics HTTP/1.1\r\n\r\n";
    const int small = 2048, segment = 512;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)),
                     0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
    return fd;
}

static void
scrapes_that_nobody_reads_are_bounded(void **state)
{
    world_t *world = *state;
    int fds[SVC_ADMIN_SCRAPES_MAX];
    char name[SVC_LABEL_MAX_BYTES];

    /* Several times what sockets hold. */
    for (int i = 0; i < 100; i++) {
        uint16_t row;

        (void)snprintf(name, sizeof(name), "an operation with a name that is long: %d",
                       i);
        row = svc_metrics_label(world->metrics, SVC_L_OPERATION, name, NULL);
        for (int rc = 0; rc < RC_COUNT; rc++)
            svc_metrics_count(world->metrics, SVC_F_OPERATIONS, row,
                              svc_metrics_code((svc_rc)rc), 1);
    }
    for (size_t i = 0; i < SVC_COUNT(fds); i++)
        fds[i] = scrape_slowly(world);
    assert_answer(world, "GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 503 ",
                  "{\"status\":\"busy\"}");
    assert_probe(world, "/healthz", 200, "{\"status\":\"ok\"}");
    for (size_t i = 0; i < SVC_COUNT(fds); i++)
        close(fds[i]);
}

static void
other_paths_and_methods_are_refused_in_json(void **state)
{
    world_t *world = *state;

    assert_probe(world, "/", 404, "{\"status\":\"not_found\"}");
    assert_probe(world, "/healthz/", 404, "{\"status\":\"not_found\"}");
    assert_answer(world,
                  "POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                  "Content-Length: 3\r\n\r\nabc",
                  "HTTP/1.1 405 ", "Allow: GET, HEAD\r\n");
    assert_answer(world,
                  "DELETE /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 405 ", "{\"status\":\"method_not_allowed\"}");
    assert_answer(world, "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 200 ", "Content-Length: 15\r\n");
    assert_answer(world,
                  "GET /healthz?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 200 ", "Cache-Control: no-store\r\n");
}

static void
what_is_no_http_is_answered_or_cut_and_nothing_breaks(void **state)
{
    world_t *world = *state;
    static const char *const requests[] = {
        "nonsense\r\n\r\n", "\r\n\r\n\r\n\r\nGET\r\n\r\n",
        "GET /healthz HTTP/9.9\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n: x\r\nConnection: close\r\n\r\n"};
    char answer[8192];
    char *large = svc_alloc(1 << 20);
    int fd;

    for (size_t i = 0; i < SVC_COUNT(requests); i++) {
        fd = connect_to(world);
        (void)send(fd, requests[i], strlen(requests[i]), MSG_NOSIGNAL);
        shutdown(fd, SHUT_WR);
        read_answer(fd, answer, sizeof(answer), NULL);
        close(fd);
    }
    memset(large, 'a', (1 << 20) - 1);
    memcpy(large, "GET /", 5);
    fd = connect_to(world);
    (void)send(fd, large, (1 << 20) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    read_answer(fd, answer, sizeof(answer), NULL);
    close(fd);
    free(large);
    assert_probe(world, "/healthz", 200, "{\"status\":\"ok\"}");
}

/* How many descriptors this process has open. */
static int
count_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Asks for the health on a connection that is there. */
static void
ask_on(int fd)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    char answer[1024];

    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    read_answer(fd, answer, sizeof(answer), NULL);
    if (strncmp(answer, "HTTP/1.1 200 ", 13) != 0)
        fail_msg("said: %s", answer);
}

static void
a_flood_of_connections_is_bounded_and_served_after(void **state)
{
    world_t *world = *state;
    const int before = count_descriptors();
    const uint64_t deadline = svc_mono_ms() + PATIENCE_MS;
    int fds[FLOOD];
    char *error = NULL;
    int status = 0;

    for (size_t i = 0; i < FLOOD; i++)
        fds[i] = connect_to(world);
    ask_on(fds[FLOOD - 1]); /* the last one has found room */
    /* Those of one address are fewer than all; who was silent for longest makes room. */
    for (size_t i = 0; i < FLOOD - SVC_ADMIN_PER_ADDRESS_MAX; i++) {
        char answer[256];

        read_answer(fds[i], answer, sizeof(answer), NULL);
        assert_string_equal(answer, "");
    }
    assert_true(count_descriptors() <= before + FLOOD + SVC_ADMIN_PER_ADDRESS_MAX);
    assert_probe(world, "/healthz", 200,
                 "{\"status\":\"ok\"}"); /* while they are there */
    for (size_t i = 0; i < FLOOD; i++)
        close(fds[i]);
    while (status == 0 &&
           svc_mono_ms() < deadline) { /* it hears of the last ones a little later */
        free(error);
        error = NULL;
        svc_buf_clear(&world->body);
        status = svc_admin_probe(world->address, "/healthz", &world->body, &error);
    }
    free(error);
    assert_int_equal(status, 200);
}

static void
each_connection_serves_one_request(void **state)
{
    assert_answer(*state,
                  "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
                  "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                  "HTTP/1.1 200 ", "Connection: close\r\n");
}

static void
a_request_may_come_in_pieces_and_be_of_any_version_1(void **state)
{
    world_t *world = *state;
    static const char request[] = "\r\n\r\nGET /healthz HTTP/1.0\nHost: x\n\n";
    char answer[1024];
    int fd = connect_to(world);

    for (size_t i = 0; i < strlen(request); i++)
        assert_int_equal(send(fd, &request[i], 1, MSG_NOSIGNAL), 1);
    read_answer(fd, answer, sizeof(answer), NULL);
    close(fd);
    assert_non_null(strstr(answer, "\r\n\r\n{\"status\":\"ok\"}"));
}

static void
what_is_unread_does_not_take_the_answer_back(void **state)
{
    world_t *world = *state;
    static const char request[] =
        "POST /healthz HTTP/1.1\r\nContent-Length: 100000\r\n\r\n";
    char *body = svc_alloc(100000), answer[1024];
    int fd = connect_to(world);

    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    (void)send(fd, body, 100000, MSG_NOSIGNAL);
    read_answer(fd, answer, sizeof(answer), NULL);
    close(fd);
    free(body);
    assert_memory_equal(answer, "HTTP/1.1 405 ", 13);
}

static void
headers_without_end_are_refused(void **state)
{
    world_t *world = *state;
    char answer[1024], *large = svc_alloc(SVC_ADMIN_REQUEST_MAX_BYTES + 1);
    int fd = connect_to(world);

    memset(large, 'a', SVC_ADMIN_REQUEST_MAX_BYTES + 1);
    (void)send(fd, large, SVC_ADMIN_REQUEST_MAX_BYTES + 1, MSG_NOSIGNAL);
    read_answer(fd, answer, sizeof(answer), NULL);
    close(fd);
    free(large);
    assert_memory_equal(answer, "HTTP/1.1 431 ", 13);
}

static void
one_that_says_nothing_keeps_nobody_from_ending(void **state)
{
    world_t *world = *state;
    char answer[16];
    int fd = connect_to(world);

    assert_probe(world, "/healthz", 200,
                 "{\"status\":\"ok\"}"); /* it has been accepted */
    svc_admin_destroy(&world->admin);
    read_answer(fd, answer, sizeof(answer), NULL);
    assert_string_equal(answer, "");
    close(fd);
}

static void
a_response_is_made_of_any_bytes(void **state)
{
    world_t *world = *state;
    static const struct {
        const char *request, *status;
    } rows[] = {
        {"", "400 "},
        {"GET", "400 "},
        {"GET /healthz\r\n\r\n", "400 "},
        {"GET /healthz HTTP/2\r\n\r\n", "400 "},
        {"GET  /healthz HTTP/1.1\r\n\r\n", "400 "},
        {"GET /healthz HTTP/1.1\r\n\r\n", "200 "},
        {"get /healthz HTTP/1.1\r\n\r\n", "405 "},
        {"GET /readyz HTTP/1.1\r\n\r\n", "503 "},
        {"GET /readyz?x HTTP/1.1\r\n\r\n", "503 "},
        {"GET ? HTTP/1.1\r\n\r\n", "404 "},
    };

    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        svc_buf_t out;

        svc_buf_init(&out, SVC_ADMIN_RESPONSE_MAX_BYTES);
        svc_admin_respond(&world->about, svc_str_c(rows[i].request), false, &out);
        if (memcmp(out.p + strlen("HTTP/1.1 "), rows[i].status, 4) != 0)
            fail_msg("%s: %.*s", rows[i].request, (int)out.n, out.p);
        svc_buf_fini(&out);
    }
}

static void
an_address_that_cannot_be_used_is_one_line(void **state)
{
    world_t *world = *state;
    static const struct {
        const char *address, *wanted;
    } rows[] = {
        {"192.0.2.1:7110", "cannot listen on 192.0.2.1:7110: "},
        {"no.such.host.invalid:7110", "cannot listen on no.such.host.invalid:7110: "},
        {"[::1:7110", "cannot listen on [::1:7110: "},
        {"", "cannot listen on : "},
        {"127.0.0.1", "cannot listen on 127.0.0.1: "}};
    char *error = NULL;

    assert_null(svc_admin_new(world->address, &world->about, NULL, &error));
    assert_non_null(strstr(error, " is in use"));
    assert_memory_equal(error, world->address, strlen(world->address));
    free(error);
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        error = NULL;
        assert_null(svc_admin_new(rows[i].address, &world->about, NULL, &error));
        if (strncmp(error, rows[i].wanted, strlen(rows[i].wanted)) != 0)
            fail_msg("said: %s", error);
        free(error);
    }
}

static void
one_that_listens_everywhere_is_asked_on_loopback(void **state)
{
    world_t *world = *state;
    static const char *const hosts[] = {"0.0.0.0", "*", "[::]"};

    for (size_t i = 0; i < SVC_COUNT(hosts); i++) {
        char *error = NULL;
        char any[32];
        svc_admin_t *admin;

        (void)snprintf(any, sizeof(any), "%s:0", hosts[i]);
        admin = svc_admin_new(any, &world->about, NULL, &error);
        if (admin == NULL && hosts[i][0] == '[') { /* a machine without IPv6 */
            free(error);
            continue;
        }
        assert_non_null(admin);
        (void)snprintf(any, sizeof(any), "%s:%u", hosts[i], svc_admin_port(admin));
        svc_buf_clear(&world->body);
        assert_int_equal(svc_admin_probe(any, "/healthz", &world->body, &error), 200);
        svc_admin_destroy(&admin);
    }
}

/* --- the probe -------------------------------------------------------------------------------- */

static void
assert_no_answer(const char *address, const char *wanted)
{
    char *error = NULL;
    svc_buf_t out;

    svc_buf_init(&out, SVC_HEALTH_MAX_BYTES);
    assert_int_equal(svc_admin_probe(address, "/healthz", &out, &error), 0);
    if (strstr(error, wanted) == NULL)
        fail_msg("said: %s", error);
    free(error);
    svc_buf_fini(&out);
}

/* A server that accepts, says `words` at once and then nothing; gives its socket. */
static int
listen_with(char address[32])
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    (void)snprintf(address, 32, "127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

static void
a_probe_without_an_answer_says_so(void **state)
{
    char address[32];
    int fd = listen_with(address);

    (void)state;
    assert_no_answer(address, " does not answer: Connection timed out"); /* frozen */
    close(fd);
    assert_no_answer(address, " does not answer: Connection refused");
    assert_no_answer("nonsense", "nonsense does not answer: ");
}

typedef struct {
    int listener;      /* borrowed */
    const char *words; /* said to each who comes */
    size_t times;      /* how many */
} speaker_t;

static void *
speak(void *arg)
{
    const speaker_t *self = arg;

    for (size_t i = 0; i < self->times; i++) {
        char request[512];
        int fd = accept(self->listener, NULL, NULL);

        (void)recv(fd, request, sizeof(request), 0);
        (void)send(fd, self->words, strlen(self->words), MSG_NOSIGNAL);
        close(fd);
    }
    return NULL;
}

static void
a_probe_that_meets_something_else_says_so(void **state)
{
    static const char *const words[] = {"", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\n",
                                        "HTTP/1.1 x\r\n\r\nbody"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(words); i++) {
        char address[32];
        speaker_t speaker = {listen_with(address), words[i], 1};
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, speak, &speaker), 0);
        assert_no_answer(address, " does not answer as an admin port");
        pthread_join(thread, NULL);
        close(speaker.listener);
    }
}

int
main(void)
{
#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
    const struct CMUnitTest tests[] = {
        WORLD_TEST(tells_what_the_health_says),
        WORLD_TEST(tells_metrics_as_text),
        WORLD_TEST(too_many_scrapes_at_once_are_refused_and_probes_are_not),
        WORLD_TEST(scrapes_that_nobody_reads_are_bounded),
        WORLD_TEST(other_paths_and_methods_are_refused_in_json),
        WORLD_TEST(what_is_no_http_is_answered_or_cut_and_nothing_breaks),
        WORLD_TEST(a_flood_of_connections_is_bounded_and_served_after),
        WORLD_TEST(each_connection_serves_one_request),
        WORLD_TEST(a_request_may_come_in_pieces_and_be_of_any_version_1),
        WORLD_TEST(what_is_unread_does_not_take_the_answer_back),
        WORLD_TEST(headers_without_end_are_refused),
        WORLD_TEST(one_that_says_nothing_keeps_nobody_from_ending),
        WORLD_TEST(a_response_is_made_of_any_bytes),
        WORLD_TEST(an_address_that_cannot_be_used_is_one_line),
        WORLD_TEST(one_that_listens_everywhere_is_asked_on_loopback),
        cmocka_unit_test(a_probe_without_an_answer_says_so),
        cmocka_unit_test(a_probe_that_meets_something_else_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
