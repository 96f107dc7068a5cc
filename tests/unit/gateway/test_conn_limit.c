/* test_conn_limit.c - connections per address are counted, whatever thread they come in on.
 *
 * Exactness with many addresses is not promised and not tested. */
#include "gateway/conn_limit.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static client_addr_t
addr(const char *text)
{
    client_addr_t out = {{0}};

    assert_true(client_addr_parse(svc_str_c(text), &out));
    return out;
}

static void
an_address_may_hold_so_many_and_no_more(void **state)
{
    conn_limit_t *self = conn_limit_new(3);
    client_addr_t a = addr("1.1.1.1");
    client_addr_t b = addr("1.1.1.2");

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_true(conn_limit_enter(self, &a));
    assert_false(conn_limit_enter(self, &a));
    assert_false(conn_limit_enter(self, &a));
    assert_true(conn_limit_enter(self, &b));
    conn_limit_leave(self, &a);
    assert_true(conn_limit_enter(self, &a));
    assert_false(conn_limit_enter(self, &a));
    conn_limit_destroy(&self);
    assert_null(self);
}

static void
an_ipv6_customer_counts_as_one(void **state)
{
    conn_limit_t *self = conn_limit_new(1);
    client_addr_t a = addr("2001:db8:0:1::1");
    client_addr_t same = addr("2001:db8:0:1:ffff::2");
    client_addr_t other = addr("2001:db8:0:2::1");

    (void)state;
    assert_true(conn_limit_enter(self, &a));
    assert_false(conn_limit_enter(self, &same));
    assert_true(conn_limit_enter(self, &other));
    conn_limit_destroy(&self);
}

static void
zero_is_no_limit(void **state)
{
    conn_limit_t *self = conn_limit_new(0);
    client_addr_t a = addr("1.1.1.1");

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_true(conn_limit_enter(self, &a));
    conn_limit_destroy(&self);
}

static void
another_limit_counts_for_whoever_enters_then(void **state)
{
    conn_limit_t *self = conn_limit_new(1);
    client_addr_t a = addr("1.1.1.1");

    (void)state;
    assert_true(conn_limit_enter(self, &a));
    assert_false(conn_limit_enter(self, &a));
    conn_limit_set(self, 2);
    assert_true(conn_limit_enter(self, &a));
    assert_false(conn_limit_enter(self, &a));
    conn_limit_set(self, 1);
    conn_limit_leave(self, &a);
    assert_false(conn_limit_enter(self, &a));
    conn_limit_leave(self, &a);
    assert_true(conn_limit_enter(self, &a));
    conn_limit_destroy(&self);
}

static void *
come_and_go(void *arg)
{
    conn_limit_t *self = arg;
    client_addr_t a = addr("4.4.4.4");

    for (int i = 0; i < 20000; i++)
        if (conn_limit_enter(self, &a))
            conn_limit_leave(self, &a);
    return NULL;
}

static void
threads_that_come_and_go_leave_nothing_behind(void **state)
{
    conn_limit_t *self = conn_limit_new(2);
    client_addr_t a = addr("4.4.4.4");
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, self), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(conn_limit_enter(self, &a));
    assert_true(conn_limit_enter(self, &a));
    assert_false(conn_limit_enter(self, &a));
    conn_limit_destroy(&self);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_may_hold_so_many_and_no_more),
        cmocka_unit_test(an_ipv6_customer_counts_as_one),
        cmocka_unit_test(zero_is_no_limit),
        cmocka_unit_test(another_limit_counts_for_whoever_enters_then),
        cmocka_unit_test(threads_that_come_and_go_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
