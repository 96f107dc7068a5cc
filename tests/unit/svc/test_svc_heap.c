/* test_svc_heap.c - the heap gives back what is due in order, whatever is moved and removed meanwhile.
 *
 * Random keys are put, moved and removed; what is left must come out sorted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "svc/svc_heap.h"

#define NODES 2000

static void
gives_nodes_in_order_of_their_keys(void **state)
{
    (void)state;
    static svc_heap_node_t nodes[NODES];
    svc_heap_t heap = {0};
    srand(1);
    for (size_t i = 0; i < NODES; i++)
        svc_heap_put(&heap, &nodes[i], (uint64_t)rand() % 500);
    for (size_t i = 0; i < NODES; i += 3)
        svc_heap_put(&heap, &nodes[i], (uint64_t)rand() % 500); /* moved */
    size_t left = NODES;
    for (size_t i = 0; i < NODES; i += 7, left--)
        svc_heap_remove(&heap, &nodes[i]);
    uint64_t last = 0, last_order = 0;
    svc_heap_node_t *node;
    for (; (node = svc_heap_first(&heap)) != NULL; left--) {
        assert_true(node->key > last || (node->key == last && node->order > last_order));
        last = node->key;
        last_order = node->order;
        svc_heap_remove(&heap, node);
    }
    assert_int_equal(left, 0);
    svc_heap_fini(&heap);
}

static void
gives_equal_keys_in_order_of_putting(void **state)
{
    (void)state;
    svc_heap_node_t nodes[50] = {0};
    svc_heap_t heap = {0};
    for (size_t i = 0; i < 50; i++)
        svc_heap_put(&heap, &nodes[i], 5);
    for (size_t i = 0; i < 50; i++) {
        assert_ptr_equal(svc_heap_first(&heap), &nodes[i]);
        svc_heap_remove(&heap, &nodes[i]);
    }
    assert_null(svc_heap_first(&heap));
    svc_heap_fini(&heap);
}

static void
removing_a_node_that_is_in_no_heap_is_harmless(void **state)
{
    (void)state;
    svc_heap_node_t node = {0};
    svc_heap_t heap = {0};
    svc_heap_remove(&heap, &node);
    svc_heap_put(&heap, &node, 1);
    svc_heap_remove(&heap, &node);
    svc_heap_remove(&heap, &node);
    assert_null(svc_heap_first(&heap));
    svc_heap_fini(&heap);
}

/* The earliest of those that are in, found the slow way. */
static svc_heap_node_t *
find_first(svc_heap_node_t *nodes, size_t n)
{
    svc_heap_node_t *first = NULL;
    for (size_t i = 0; i < n; i++)
        if (nodes[i].place != 0 &&
            (first == NULL || nodes[i].key < first->key ||
             (nodes[i].key == first->key && nodes[i].order < first->order)))
            first = &nodes[i];
    return first;
}

static void
is_right_after_every_step_of_putting_off_bringing_forward_and_removing(void **state)
{
    (void)state;
    svc_heap_node_t nodes[40] = {0};
    svc_heap_t heap = {0};
    srand(2);
    for (int step = 0; step < 50000; step++) {
        svc_heap_node_t *node = &nodes[rand() % 40];
        const uint64_t by = (uint64_t)rand() % 20;
        switch (rand() % 8) {
        case 0: svc_heap_remove(&heap, node); break;
        case 1: svc_heap_put(&heap, node, node->key < by ? 0 : node->key - by); break;
        case 2: /* what is due runs */
            if (svc_heap_first(&heap) != NULL)
                svc_heap_remove(&heap, svc_heap_first(&heap));
            break;
        default: svc_heap_put(&heap, node, node->key + by); break;
        }
        if (step % 3 == 0)
            assert_ptr_equal(svc_heap_first(&heap), find_first(nodes, 40));
    }
    svc_heap_fini(&heap);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_nodes_in_order_of_their_keys),
        cmocka_unit_test(gives_equal_keys_in_order_of_putting),
        cmocka_unit_test(
            is_right_after_every_step_of_putting_off_bringing_forward_and_removing),
        cmocka_unit_test(removing_a_node_that_is_in_no_heap_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
