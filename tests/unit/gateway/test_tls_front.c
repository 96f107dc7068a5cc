/* test_tls_front.c - clients of a reactor that speak TLS: on its loop, with time-outs and bounds, until the end.
 *
 * Clients are real ones, by TCP, on the test's own thread and loop. */
#include "gateway/listener.h"
#include "gateway/tls_front.h"
#include "tls_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>

#define CLIENTS 3

typedef struct {
    int fd, behind;   /* its socket, and what stands for it; -1: closed */
    tls_wire_t *wire; /* one use */
    tls_client_t tls; /* on fd */
    char got[64];     /* by those behind, or by the client */
    ssize_t n;        /* bytes of it, or why not */
} client_t;

typedef struct {
    fixture_t bus;       /* the loop */
    svc_config_t config; /* time-outs */
    tls_files_t files;
    tls_store_t *store; /* of them */
    tls_front_t *front; /* what is tested */
    int listener;       /* where clients come in */
    uint16_t port;      /* of it */
    client_t clients[CLIENTS];
} place_t;

static int
open_place_with(void **state, uint32_t idle_timeout_s)
{
    place_t *self = svc_alloc(sizeof *self);
    char *error = NULL;

    fixture_open(&self->bus, "gateway");
    tls_files_open(&self->files);
    self->store = tls_store_new(self->files.cert, self->files.key, &error);
    self->config = (svc_config_t){.server_header_timeout_s = 1,
                                  .server_idle_timeout_s = idle_timeout_s};
    self->bus.ctx.config = &self->config;
    self->front = tls_front_new(&self->bus.ctx, self->store);
    assert_int_equal(
        listener_open("127.0.0.1", 0, &self->listener, 1, &self->port, &error), RC_OK);
    for (int i = 0; i < CLIENTS; i++)
        self->clients[i].fd = self->clients[i].behind = -1;
    *state = self;
    return 0;
}

static int
open_place(void **state)
{
    return open_place_with(state, 1);
}

/* Whoever has shaken hands has all the time. */
static int
open_patient_place(void **state)
{
    return open_place_with(state, 3600);
}

static void
shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Those behind have done with it. */
static void
leave(client_t *client)
{
    shut(&client->behind);
    tls_wire_release(&client->wire);
}

static int
close_place(void **state)
{
    place_t *self = *state;

    for (int i = 0; i < CLIENTS; i++) {
        tls_client_close(&self->clients[i].tls);
        shut(&self->clients[i].fd);
        leave(&self->clients[i]);
    }
    tls_front_destroy(&self->front);
    close(self->listener);
    tls_store_destroy(&self->store);
    tls_files_close(&self->files);
    fixture_close(&self->bus);
    free(self);
    return 0;
}

/* A client comes in by TCP. */
static client_t *
come(place_t *self, int i)
{
    client_t *client = &self->clients[i];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(self->port)};
    int at_once = 1;

    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(client->fd, (struct sockaddr *)&to, sizeof to), 0);
    struct pollfd ready = {.fd = self->listener, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, FIXTURE_PATIENCE_MS),
                     1); /* the kernel may be late */
    int fd = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    client->behind = tls_front_take(self->front, fd, true, &client->wire);
    assert_true(client->behind >= 0);
    assert_int_equal(tls_wire_fd(client->wire), fd);
    return client;
}

static bool
shakes(void *arg)
{
    return tls_client_shakes(&((client_t *)arg)->tls);
}

/* The same, and TLS is spoken. */
static client_t *
come_by_tls(place_t *self, int i)
{
    client_t *client = come(self, i);

    tls_client_open(&client->tls, client->fd, NULL, NULL);
    fixture_run_until(&self->bus, shakes, client);
    assert_true(client->tls.is_open);
    return client;
}

static bool
is_behind(void *arg)
{
    client_t *client = arg;

    client->n = recv(client->behind, client->got, sizeof client->got, MSG_DONTWAIT);
    return client->n >= 0;
}

static bool
client_has_it(void *arg)
{
    client_t *client = arg;

    client->n = tls_client_take(&client->tls, client->got, sizeof client->got);
    return client->n != GNUTLS_E_AGAIN;
}

/* Its socket has come to an end. */
static bool
has_ended(void *arg)
{
    client_t *client = arg;

    while ((client->n = recv(client->fd, client->got, sizeof client->got, MSG_DONTWAIT)) >
           0)
        continue;
    return client->n == 0 || errno != EAGAIN;
}

static bool
has_said_all(void *arg)
{
    return tls_front_unsaid(((place_t *)arg)->front) == 0;
}

static void
words_pass_both_ways(void **state)
{
    place_t *self = *state;
    client_t *clients[CLIENTS];

    for (int i = 0; i < CLIENTS; i++)
        clients[i] = come_by_tls(self, i);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(gnutls_record_send(clients[i]->tls.session, "ask", 3), 3);
        fixture_run_until(&self->bus, is_behind, clients[i]);
        assert_int_equal(clients[i]->n, 3);
        assert_int_equal(send(clients[i]->behind, "told", 4, 0), 4);
        fixture_run_until(&self->bus, client_has_it, clients[i]);
        assert_int_equal(clients[i]->n, 4);
    }
    assert_int_equal(tls_front_unsaid(self->front), 0);
}

static void
what_has_come_is_behind_after_a_look(void **state)
{
    place_t *self = *state;
    client_t *client = come_by_tls(self, 0);

    assert_int_equal(gnutls_record_send(client->tls.session, "ask", 3), 3);
    for (uint64_t until_ms = svc_mono_ms() + FIXTURE_PATIENCE_MS;
         !is_behind(client) && svc_mono_ms() < until_ms;) {
        struct pollfd wire = {.fd = tls_wire_fd(client->wire), .events = POLLIN};
        assert_true(poll(&wire, 1, FIXTURE_PATIENCE_MS) == 1); /* likewise */
        tls_front_look(self->front);
    }
    assert_int_equal(client->n, 3);
}

static void
a_handshake_ends_when_those_behind_have_no_patience_left(void **state)
{
    place_t *self = *state;
    client_t *client = come(self, 0);

    assert_int_equal(send(client->fd, "\x16\x03\x01\x02", 4, 0), 4);
    fixture_run_for(&self->bus, 10);
    assert_false(has_ended(client));
    leave(client);
    fixture_run_until(&self->bus, has_ended, client);
    assert_int_equal(tls_front_unsaid(self->front), 0);
}

static void
who_was_turned_away_and_does_not_shake_hands_is_closed_in_time(void **state)
{
    place_t *self = *state;
    client_t *client = come(self, 0);

    assert_int_equal(send(client->behind, "no room", 7, 0), 7);
    leave(client);
    tls_front_look(self->front); /* no turn of the loop: its time may not run out here */
    assert_int_equal(tls_front_unsaid(self->front), 1);
    fixture_run_until(&self->bus, has_ended, client);
    fixture_run_until(&self->bus, has_said_all, self);
}

static bool
has_failed_handshakes(void *arg)
{
    return fixture_count(&((place_t *)arg)->bus, SVC_M_TLS_HANDSHAKES_FAILED) == 1;
}

static void
a_handshake_that_fails_is_counted(void **state)
{
    place_t *self = *state;
    client_t *client = come(self, 0);

    assert_int_equal(send(client->fd, "\x16\x03\x01\xff\xff\xff\xff\xff", 8, 0), 8);
    fixture_run_until(&self->bus, is_behind, client);
    assert_int_equal(client->n, 0); /* nobody comes any more */
    shut(&client->fd);
    fixture_run_until(&self->bus, has_failed_handshakes, self);
}

static bool
is_hung_up(void *arg)
{
    struct pollfd wire = {.fd = tls_wire_fd(((client_t *)arg)->wire), .events = POLLIN};

    return poll(&wire, 1, 0) == 1 && (wire.revents & POLLHUP) != 0;
}

static void
who_has_got_all_and_stays_is_not_waited_for_and_closed_in_time(void **state)
{
    place_t *self = *state;
    client_t *client = come_by_tls(self, 0);

    assert_int_equal(send(client->behind, "bye", 3, 0), 3);
    shut(&client->behind);
    do {
        fixture_run_until(&self->bus, client_has_it, client);
    } while (client->n > 0);
    assert_int_equal(client->n, 0);
    assert_int_equal(tls_front_unsaid(self->front), 0); /* although it is still there */
    fixture_run_until(&self->bus, is_hung_up, client);
    assert_int_equal(tls_front_unsaid(self->front), 0);
}

static void
in_a_crowd_of_those_nobody_is_refused_in_words(void **state)
{
    place_t *self = *state;
    int fds[80];
    size_t taken = 0;

    for (size_t i = 0; i < SVC_COUNT(fds); i++) {
        tls_wire_t *wire = NULL;
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        fds[i] = pair[1];
        int fd = tls_front_take(self->front, pair[0], false, &wire);
        if (fd < 0)
            continue;
        taken++;
        assert_int_equal(send(fd, "no room", 7, 0), 7);
        close(fd);
        tls_wire_release(&wire);
        tls_front_look(self->front);
    }
    assert_in_range(taken, 1, SVC_COUNT(fds) - 1);
    assert_int_equal(fixture_count(&self->bus, SVC_M_HTTP_CONNECTIONS_REFUSED),
                     SVC_COUNT(fds) - taken);
    client_t *client = come_by_tls(self, 0); /* who is welcome comes in all the same */
    assert_true(client->tls.is_open);
    for (size_t i = 0; i < SVC_COUNT(fds); i++)
        close(fds[i]);
}

/* How many lines a log has that is written to a pipe. */
static size_t
count_lines(const int ends[2])
{
    char text[4096];
    size_t lines = 0;

    assert_int_equal(write(ends[1], "", 1), 1);
    assert_true(read(ends[0], text, sizeof text) > 0);
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    return lines;
}

static void
without_descriptors_they_are_closed_and_the_log_says_it_once(void **state)
{
    place_t *self = *state;
    tls_wire_t *wire = NULL;
    struct rlimit old, none;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    self->bus.ctx.log = svc_log_new(ends[1], "test", 0, SVC_LOG_INFO);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    int fd = dup(self->listener);
    none = (struct rlimit){(rlim_t)fd + 1, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(tls_front_take(self->front, fd, i % 2 == 0, &wire), -1);
        assert_int_equal(dup(self->listener), fd); /* it was closed */
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    close(fd);
    assert_int_equal(count_lines(ends), 1);
    svc_log_destroy(&self->bus.ctx.log);
    close(ends[0]);
    close(ends[1]);
    assert_true(come_by_tls(self, 0)->tls.is_open);
}

static void
so_many_of_those_are_kept_and_the_oldest_goes(void **state)
{
    enum { COME = TLS_FRONT_LEFT_MAX + 20 };
    place_t *self = *state;
    struct rlimit limit;
    int *fds = svc_alloc(COME * sizeof *fds);
    char byte;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < COME; i++) {
        tls_wire_t *wire = NULL;
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        fds[i] = pair[1];
        int fd = tls_front_take(self->front, pair[0], true, &wire);
        assert_true(fd >= 0);
        assert_int_equal(send(fd, "last words", 10, 0), 10);
        close(fd);
        tls_wire_release(&wire);
        tls_front_look(self->front);
        assert_in_range(tls_front_unsaid(self->front), 0, TLS_FRONT_LEFT_MAX);
    }
    assert_int_equal(tls_front_unsaid(self->front), TLS_FRONT_LEFT_MAX);
    assert_int_equal(recv(fds[0], &byte, 1, 0), 0);
    assert_true(recv(fds[COME - 1], &byte, 1, 0) < 0 && errno == EAGAIN);
    for (int i = 0; i < COME; i++)
        close(fds[i]);
    free(fds);
}

/* Those behind say as much as the sockets take; the client reads nothing of it. */
static client_t *
fill(place_t *self, int i)
{
    static char bytes[1 << 16];
    client_t *client = come_by_tls(self, i);
    int small = 4096;

    assert_int_equal(setsockopt(tls_wire_fd(client->wire), SOL_SOCKET, SO_SNDBUF, &small,
                                sizeof small),
                     0);
    for (int quiet = 0; quiet < 20;) {
        quiet = send(client->behind, bytes, sizeof bytes, MSG_DONTWAIT) > 0 ? 0
                                                                            : quiet + 1;
        fixture_run_for(&self->bus, 1);
    }
    return client;
}

static void
who_does_not_take_its_last_bytes_is_closed_in_time(void **state)
{
    place_t *self = *state;
    client_t *client = fill(self, 0);

    leave(client);
    tls_front_look(self->front); /* no turn of the loop, likewise */
    assert_int_equal(tls_front_unsaid(self->front), 1);
    fixture_run_until(&self->bus, has_said_all, self);
    fixture_run_until(&self->bus, has_ended, client);
}

static void
who_takes_them_gets_all_and_the_end(void **state)
{
    place_t *self = *state;
    client_t *client = fill(self, 0);

    leave(client);
    for (client->n = 1; client->n > 0;)
        fixture_run_until(&self->bus, client_has_it, client);
    assert_int_equal(client->n, 0);
    fixture_run_until(&self->bus, has_said_all, self);
}

static void
the_last_words_leave_before_it_is_destroyed(void **state)
{
    place_t *self = *state;
    client_t *client = come_by_tls(self, 0);

    assert_int_equal(send(client->behind, "bye", 3, 0), 3);
    leave(client);
    tls_front_destroy(&self->front);
    fixture_run_until(&self->bus, client_has_it, client); /* the kernel may be late */
    assert_int_equal(client->n, 3);
    fixture_run_until(&self->bus, client_has_it, client);
    assert_int_equal(client->n, 0);
}

static void
a_client_that_has_gone_leaves_its_socket_to_those_behind(void **state)
{
    place_t *self = *state;
    client_t *client = come_by_tls(self, 0);
    struct linger at_once = {1, 0};

    assert_int_equal(
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    shut(&client->fd);
    fixture_run_until(&self->bus, is_behind, client);
    assert_int_equal(client->n, 0);
    assert_true(fcntl(tls_wire_fd(client->wire), F_GETFD) >= 0); /* still theirs to ask */
}

#define PLACE_TEST(name) cmocka_unit_test_setup_teardown(name, open_place, close_place)
#define PATIENT_TEST(name) \
    cmocka_unit_test_setup_teardown(name, open_patient_place, close_place)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_TEST(words_pass_both_ways),
        PLACE_TEST(what_has_come_is_behind_after_a_look),
        PLACE_TEST(a_handshake_ends_when_those_behind_have_no_patience_left),
        PATIENT_TEST(who_was_turned_away_and_does_not_shake_hands_is_closed_in_time),
        PLACE_TEST(a_handshake_that_fails_is_counted),
        PATIENT_TEST(who_has_got_all_and_stays_is_not_waited_for_and_closed_in_time),
        PLACE_TEST(in_a_crowd_of_those_nobody_is_refused_in_words),
        PLACE_TEST(without_descriptors_they_are_closed_and_the_log_says_it_once),
        PLACE_TEST(so_many_of_those_are_kept_and_the_oldest_goes),
        PLACE_TEST(who_does_not_take_its_last_bytes_is_closed_in_time),
        PATIENT_TEST(who_takes_them_gets_all_and_the_end),
        PLACE_TEST(the_last_words_leave_before_it_is_destroyed),
        PLACE_TEST(a_client_that_has_gone_leaves_its_socket_to_those_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
