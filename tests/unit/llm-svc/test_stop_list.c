/* test_stop_list.c - early stops are remembered for a minute, and only so many.
 *
 * The clock is a number. */
#include "llm-svc/stop_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static svc_str
stream_of(uint32_t number)
{
    static uint8_t bytes[PROTO_STREAM_BYTES];

    memcpy(bytes + 3, &number, sizeof(number));
    return (svc_str){(const char *)bytes, sizeof(bytes)};
}

static void
remembers_stream_and_fence_for_a_minute(void **state)
{
    (void)state;
    stop_list_t *list = stop_list_new();

    assert_false(stop_list_has(list, stream_of(1), 9, 1000));
    stop_list_add(list, stream_of(1), 9, 1000);
    stop_list_add(list, stream_of(2), 9, 2000);
    assert_true(stop_list_has(list, stream_of(1), 9, 1000 + STOP_LIST_MS - 1));
    assert_false(stop_list_has(list, stream_of(1), 8, 1001));
    assert_false(stop_list_has(list, stream_of(3), 9, 1001));
    assert_false(stop_list_has(list, stream_of(1), 9, 1000 + STOP_LIST_MS));
    assert_true(stop_list_has(list, stream_of(2), 9, 1000 + STOP_LIST_MS));
    stop_list_destroy(&list);
    stop_list_destroy(&list);
}

static void
forgets_the_oldest_when_it_is_full(void **state)
{
    (void)state;
    stop_list_t *list = stop_list_new();

    for (uint32_t i = 0; i <= STOP_LIST_MAX; i++)
        stop_list_add(list, stream_of(i), 1, 5);
    assert_false(stop_list_has(list, stream_of(0), 1, 5));
    assert_true(stop_list_has(list, stream_of(1), 1, 5));
    assert_true(stop_list_has(list, stream_of(STOP_LIST_MAX), 1, 5));
    stop_list_destroy(&list);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembers_stream_and_fence_for_a_minute),
        cmocka_unit_test(forgets_the_oldest_when_it_is_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
