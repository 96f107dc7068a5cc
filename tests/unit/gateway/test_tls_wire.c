/* test_tls_wire.c - a socket that two share.
 *
 * The last one closes it, and what one says the other hears. */
#include "gateway/tls_wire.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void
the_last_of_both_closes_it(void **state)
{
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    tls_wire_t *pump = tls_wire_new(pair[0]), *behind = tls_wire_use(pump);
    assert_int_equal(tls_wire_fd(behind), pair[0]);
    assert_int_equal(tls_wire_tcp(behind, 7), pair[0]);
    assert_int_equal(tls_wire_tcp(NULL, 7), 7);
    tls_wire_release(&pump);
    assert_null(pump);
    assert_true(fcntl(pair[0], F_GETFD) >= 0);
    tls_wire_release(&behind);
    assert_true(fcntl(pair[0], F_GETFD) < 0);
    tls_wire_release(&behind);
    close(pair[1]);
}

static void
that_it_ends_in_the_middle_is_said_once_and_stays(void **state)
{
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    tls_wire_t *wire = tls_wire_new(pair[0]);
    assert_false(tls_wire_is_broken(wire));
    tls_wire_break(wire);
    tls_wire_break(wire);
    assert_true(tls_wire_is_broken(wire));
    tls_wire_break(NULL);
    tls_wire_release(&wire);
    close(pair[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_of_both_closes_it),
        cmocka_unit_test(that_it_ends_in_the_middle_is_said_once_and_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
