/* test_door.c - clients come in while the door is open and wait while it is shut.
 *
 * Ports are whatever the kernel gives. */
#include "gateway/door.h"
#include "gateway/listener.h"
#include "tests/unit/svc/bus_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct {
    fixture_t bus; /* the loop */
    door_t *door;  /* what is tested */
    uint16_t port; /* where it is */
    int inside;    /* who came in last; -1: nobody */
    unsigned n;    /* how many did */
    uint16_t peer; /* its port, as told */
    bool one_only; /* who comes in shuts it behind him */
    int turns;     /* of the loop */
} house_t;

static void
on_client(void *arg, int fd, const struct sockaddr_storage *peer)
{
    house_t *self = arg;

    assert_int_equal(peer->ss_family, AF_INET);
    self->peer = ntohs(((const struct sockaddr_in *)(const void *)peer)->sin_port);
    if (self->inside >= 0)
        close(self->inside);
    self->inside = fd;
    self->n++;
    if (self->one_only)
        door_shut(self->door, 600000);
}

static int
open_house(void **state)
{
    house_t *self = svc_alloc(sizeof *self);
    char *error = NULL;
    int fd = -1;

    fixture_open(&self->bus, "gateway");
    self->inside = -1;
    assert_int_equal(listener_open("127.0.0.1", 0, &fd, 1, &self->port, &error), RC_OK);
    self->door = door_new(&self->bus.ctx, fd, on_client, self);
    *state = self;
    return 0;
}

static int
close_house(void **state)
{
    house_t *self = *state;

    door_destroy(&self->door);
    if (self->inside >= 0)
        close(self->inside);
    fixture_close(&self->bus);
    free(self);
    return 0;
}

static int
knock(const house_t *self)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(self->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static bool
has_somebody(void *arg)
{
    return ((house_t *)arg)->inside >= 0;
}

static bool
has_three(void *arg)
{
    return ((house_t *)arg)->n == 3;
}

static void
who_comes_is_told_with_its_address(void **state)
{
    house_t *self = *state;
    struct sockaddr_in own;
    socklen_t n = sizeof own;
    int fds[3];

    for (int i = 0; i < 3; i++)
        fds[i] = knock(self);
    fixture_run_until(&self->bus, has_three, self);
    assert_int_equal(getsockname(fds[2], (struct sockaddr *)&own, &n), 0);
    assert_int_equal(self->peer, ntohs(own.sin_port));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static void
while_it_is_shut_they_wait(void **state)
{
    house_t *self = *state;

    door_shut(self->door, 600000);
    door_shut(self->door, 600000);
    int fd = knock(self);
    fixture_run_for(&self->bus, 20);
    assert_int_equal(self->n, 0);
    door_open(self->door);
    door_open(self->door);
    fixture_run_until(&self->bus, has_somebody, self);
    close(fd);
}

static void
it_opens_by_itself_when_its_time_is_over(void **state)
{
    house_t *self = *state;

    door_shut(self->door, 1);
    int fd = knock(self);
    fixture_run_until(&self->bus, has_somebody, self);
    close(fd);
}

static void
whoever_lets_one_in_may_shut_it_for_the_next(void **state)
{
    house_t *self = *state;
    int fds[2] = {knock(self), knock(self)};

    self->one_only = true;
    fixture_run_until(&self->bus, has_somebody, self);
    fixture_run_for(&self->bus, 20);
    assert_int_equal(self->n, 1);
    close(fds[0]);
    close(fds[1]);
}

static int
count_turn(void *arg)
{
    ((house_t *)arg)->turns++;
    return -1;
}

static void
without_descriptors_it_is_shut_for_a_moment(void **state)
{
    house_t *self = *state;
    int fd = knock(self), free_fd = dup(fd);
    struct rlimit old, none;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    close(free_fd);
    none = (struct rlimit){(rlim_t)free_fd, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    svc_loop_on_turn(self->bus.ctx.loop, count_turn, self);
    fixture_run_for(&self->bus, 20);
    svc_loop_off_turn(self->bus.ctx.loop, self);
    assert_int_equal(self->n, 0);
    assert_in_range(self->turns, 1,
                    300); /* a turn each ms, and not one after the other */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    fixture_run_until(&self->bus, has_somebody, self);
    close(fd);
}

#define HOUSE_TEST(name) cmocka_unit_test_setup_teardown(name, open_house, close_house)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        HOUSE_TEST(who_comes_is_told_with_its_address),
        HOUSE_TEST(while_it_is_shut_they_wait),
        HOUSE_TEST(it_opens_by_itself_when_its_time_is_over),
        HOUSE_TEST(whoever_lets_one_in_may_shut_it_for_the_next),
        HOUSE_TEST(without_descriptors_it_is_shut_for_a_moment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
