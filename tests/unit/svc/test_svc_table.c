/* test_svc_table.c - the table finds what was added until it is removed, while it grows.
 *
 * Thousands of keys, so that the buckets double several times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "svc/svc_table.h"

#define NODES 5000

static void
finds_what_was_added_until_it_is_removed(void **state)
{
    (void)state;
    static svc_table_node_t nodes[NODES];
    svc_table_t table = {0};
    assert_null(svc_table_get(&table, 1));
    assert_null(svc_table_remove(&table, 1));
    for (uint64_t i = 0; i < NODES; i++)
        svc_table_add(&table, &nodes[i], i * i + 1);
    for (uint64_t i = 0; i < NODES; i++)
        assert_ptr_equal(svc_table_get(&table, i * i + 1), &nodes[i]);
    assert_null(svc_table_get(&table, 3));
    for (uint64_t i = 0; i < NODES; i += 2)
        assert_ptr_equal(svc_table_remove(&table, i * i + 1), &nodes[i]);
    for (uint64_t i = 0; i < NODES; i++)
        assert_ptr_equal(svc_table_get(&table, i * i + 1), i % 2 == 0 ? NULL : &nodes[i]);
    assert_int_equal(table.n, NODES / 2);
    svc_table_fini(&table);
}

static void
gives_every_node_while_it_is_emptied(void **state)
{
    (void)state;
    static svc_table_node_t nodes[NODES];
    svc_table_t table = {0};
    for (uint64_t i = 0; i < NODES; i++)
        svc_table_add(&table, &nodes[i], i);
    size_t from = 0, n = 0;
    svc_table_node_t *node;
    for (; (node = svc_table_any(&table, &from)) != NULL; n++)
        svc_table_remove(&table, node->key);
    assert_int_equal(n, NODES);
    assert_int_equal(table.n, 0);
    svc_table_fini(&table);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added_until_it_is_removed),
        cmocka_unit_test(gives_every_node_while_it_is_emptied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
