/* test_client_socket.c - what is set at a client's socket, and what it tells.
 *
 * That a client which has vanished is silent takes seconds and a link that drops: a story does that. */
#include "gateway/client_socket.h"
#include "proto/base.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct {
    int ours;   /* as the gateway has it */
    int client; /* the other end */
} pair_t;

static int
open_pair(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t n = sizeof at;
    pair_t *self = svc_alloc(sizeof *self);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &n), 0);
    self->client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(self->client, (struct sockaddr *)&at, sizeof at), 0);
    self->ours = accept(listener, NULL, NULL);
    assert_true(self->ours >= 0);
    close(listener);
    *state = self;
    return 0;
}

static int
close_pair(void **state)
{
    pair_t *self = *state;

    close(self->ours);
    close(self->client);
    free(self);
    return 0;
}

static int
option(int fd, int level, int name)
{
    int value = -1;
    socklen_t n = sizeof value;

    assert_int_equal(getsockopt(fd, level, name, &value, &n), 0);
    return value;
}

static void
every_client_is_written_to_at_once_and_probed(void **state)
{
    const pair_t *self = *state;

    client_socket_welcome(self->ours);
    assert_int_not_equal(option(self->ours, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_int_not_equal(option(self->ours, SOL_SOCKET, SO_KEEPALIVE), 0);
}

static void
a_stream_has_bounds_in_bytes_and_time(void **state)
{
    const pair_t *self = *state;

    client_socket_prepare_stream(self->ours, 12, 64u << 10);
    assert_int_equal(option(self->ours, SOL_SOCKET, SO_SNDBUF), 64 << 10);
    assert_int_equal(option(self->ours, IPPROTO_TCP, TCP_KEEPIDLE), 6);
    assert_int_equal(option(self->ours, IPPROTO_TCP, TCP_KEEPINTVL), 2);
    assert_int_equal(option(self->ours, IPPROTO_TCP, TCP_KEEPCNT), 3);
    client_socket_prepare_stream(self->ours, 1, 64u << 10); /* never 0 */
    assert_int_equal(option(self->ours, IPPROTO_TCP, TCP_KEEPIDLE), 1);
    assert_int_equal(option(self->ours, IPPROTO_TCP, TCP_KEEPINTVL), 1);
}

static void
what_a_client_has_not_taken_is_counted_and_it_is_not_silent_for_that(void **state)
{
    static char bytes[4096];
    const pair_t *self = *state;
    ssize_t n;

    assert_int_equal(client_socket_unsent(self->ours), 0);
    do
        n = send(self->ours, bytes, sizeof bytes, MSG_DONTWAIT);
    while (n > 0);
    assert_true(client_socket_unsent(self->ours) > 0);
    assert_false(client_socket_is_silent(self->ours, 3600));
    assert_int_equal(client_socket_unsent(-1), 0);
    assert_false(client_socket_is_silent(-1, 0));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_client_is_written_to_at_once_and_probed,
                                        open_pair, close_pair),
        cmocka_unit_test_setup_teardown(a_stream_has_bounds_in_bytes_and_time, open_pair,
                                        close_pair),
        cmocka_unit_test_setup_teardown(
            what_a_client_has_not_taken_is_counted_and_it_is_not_silent_for_that,
            open_pair, close_pair),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
