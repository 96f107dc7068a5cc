/* test_listener.c - one port for all reactors, and for nobody else.
 *
 * Ports are whatever the kernel gives. */
#include "gateway/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static bool
connects_to(const char *address, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, address, &to.sin_addr);
    bool ok = connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    close(fd);
    return ok;
}

static void
sockets_of_one_gateway_share_a_port(void **state)
{
    int fds[3];
    uint16_t port = 0;
    char *error = NULL;

    (void)state;
    assert_int_equal(listener_open("127.0.0.1", 0, fds, 3, &port, &error), RC_OK);
    assert_int_not_equal(port, 0);
    assert_true(connects_to("127.0.0.1", port));
    for (size_t i = 0; i < 3; i++)
        close(fds[i]);
    assert_false(connects_to("127.0.0.1", port));
}

static void
a_port_in_use_is_an_error_even_if_it_is_another_gateways(void **state)
{
    int fds[2], others[2];
    uint16_t port = 0;
    char *error = NULL;
    char wanted[64];

    (void)state;
    assert_int_equal(listener_open("127.0.0.1", 0, fds, 2, &port, &error), RC_OK);
    assert_int_equal(listener_open("127.0.0.1", port, others, 2, NULL, &error),
                     RC_UNAVAILABLE);
    snprintf(wanted, sizeof wanted, "port %u is in use", port);
    assert_string_equal(error, wanted);
    free(error);
    assert_int_equal(listener_open("", port, others, 2, NULL, &error), RC_UNAVAILABLE);
    free(error);
    close(fds[0]);
    close(fds[1]);
}

static void
all_addresses_means_ipv4_too(void **state)
{
    int fd;
    uint16_t port = 0;
    char *error = NULL;

    (void)state;
    assert_int_equal(listener_open("", 0, &fd, 1, &port, &error), RC_OK);
    assert_true(connects_to("127.0.0.1", port));
    close(fd);
}

static void
an_address_that_is_not_ours_is_refused(void **state)
{
    int fd;
    char *error = NULL;

    (void)state;
    assert_int_equal(listener_open("192.0.2.1", 0, &fd, 1, NULL, &error), RC_UNAVAILABLE);
    assert_non_null(strstr(error, "192.0.2.1"));
    assert_null(strchr(error, '\n'));
    free(error);
    assert_int_equal(listener_open("no such host.invalid", 1, &fd, 1, NULL, &error),
                     RC_UNAVAILABLE);
    free(error);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sockets_of_one_gateway_share_a_port),
        cmocka_unit_test(a_port_in_use_is_an_error_even_if_it_is_another_gateways),
        cmocka_unit_test(all_addresses_means_ipv4_too),
        cmocka_unit_test(an_address_that_is_not_ours_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
