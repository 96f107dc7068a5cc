/* test_svc_accept.c - connections that come when there is no descriptor left are sent away, or wait; nobody spins.
 *
 * The process' own limit is lowered to what it has open. What libzmq calls is accept4(), by the name that the linker finds
 * first: ours. */
#include "svc/svc_accept.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000
#define FEW         64 /* descriptors */

static int listener;
static struct sockaddr_in address;
static struct rlimit usual;
static int fillers[FEW];
static size_t n_fillers;

static int
setup(void **state)
{
    socklen_t n = sizeof(address);

    (void)state;
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, n), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n), 0);
    return getrlimit(RLIMIT_NOFILE, &usual);
}

static int
teardown(void **state)
{
    (void)state;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    return close(listener);
}

/* Somebody who calls. */
static int
call(void)
{
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    /* The kernel may tell the caller of it a moment sooner than the listener. */
    assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
    return fd;
}

/* Opens what may still be opened: below the limit of so many there is no hole, either. */
static void
run_out(void)
{
    struct rlimit few = usual;

    few.rlim_cur = FEW;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (n_fillers = 0; n_fillers < FEW; n_fillers++) {
        fillers[n_fillers] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fillers[n_fillers] < 0)
            return;
    }
}

static void
make_room(void)
{
    while (n_fillers > 0)
        close(fillers[--n_fillers]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
}

/* True when the other end of a connection has been closed. */
static bool
is_closed(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char byte;

    assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
    return read(fd, &byte, 1) <= 0;
}

static void
with_descriptors_it_is_the_kernels(void **state)
{
    struct sockaddr_in peer;
    socklen_t n = sizeof(peer);
    int caller, fd;

    (void)state;
    assert_int_equal(accept4(listener, NULL, NULL, 0), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(svc_accept(listener, NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    caller = call();
    fd = accept4(listener, (struct sockaddr *)&peer, &n, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(peer.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    close(caller);
    caller = call();
    fd = svc_accept(listener, NULL, NULL);
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    close(fd);
    close(caller);
    assert_int_equal(accept4(-1, NULL, NULL, 0), -1);
    assert_int_equal(errno, EBADF);
}

static void
without_them_libzmqs_callers_are_sent_away_and_ours_wait(void **state)
{
    int caller, fd;

    (void)state;
    caller = call();
    fd = accept4(listener, NULL, NULL, 0); /* now there is a reserve */
    assert_true(fd >= 0);
    close(fd);
    close(caller);
    for (int i = 0; i < 3; i++) {
        caller = call();
        run_out();
        assert_int_equal(svc_accept(listener, NULL, NULL), -1);
        assert_int_equal(errno, EMFILE);
        assert_int_equal(accept4(listener, NULL, NULL, 0), -1);
        assert_int_equal(errno, EAGAIN);
        assert_true(is_closed(caller));
        make_room();
        close(caller);
    }
    caller = call();
    fd = accept4(listener, NULL, NULL, 0);
    assert_true(fd >= 0);
    close(fd);
    close(caller);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(with_descriptors_it_is_the_kernels, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            without_them_libzmqs_callers_are_sent_away_and_ours_wait, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
