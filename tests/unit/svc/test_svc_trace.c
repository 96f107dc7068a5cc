/* test_svc_trace.c - what names a request: headers that are taken, headers that are none, and what is routine.
 *
 * The header's form is that of W3C Trace Context; each row that is refused differs in one thing. */
#include "svc/svc_trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static const uint8_t trace_bytes[PROTO_TRACE_BYTES] = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3,
                                                       0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d,
                                                       0x0e, 0x0e, 0x47, 0x36};

static void
a_header_as_the_standard_has_it_gives_its_trace(void **state)
{
    static const char *const good[] = {"00-" TRACE "-" PARENT "-01",
                                       "00-" TRACE "-" PARENT "-00",
                                       "00-" TRACE "-" PARENT "-ff",
                                       "01-" TRACE "-" PARENT "-01",
                                       "cc-" TRACE "-" PARENT
                                       "-01-what-a-later-version-adds",
                                       "fe-" TRACE "-" PARENT "-01-"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(good); i++) {
        uint8_t out[PROTO_TRACE_BYTES] = {0};

        if (!svc_trace_read(svc_str_c(good[i]), out))
            fail_msg("refused: %s", good[i]);
        assert_memory_equal(out, trace_bytes, sizeof(out));
    }
}

static void
anything_else_is_none(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        "00-" TRACE "-" PARENT "-0",
        "00-" TRACE "-" PARENT "-0g",
        "00-" TRACE "-" PARENT "-01 ",
        "00-" TRACE "-" PARENT "-01-more",
        "cc-" TRACE "-" PARENT "-01more",
        "ff-" TRACE "-" PARENT "-01",
        "0x-" TRACE "-" PARENT "-01",
        " 0-" TRACE "-" PARENT "-01",
        "00_" TRACE "-" PARENT "-01",
        "00-" TRACE "_" PARENT "-01",
        "00-" TRACE "-" PARENT "_01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-" PARENT "-011",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-" PARENT "-01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-" TRACE "-00F067AA0BA902B7-01",
    };
    const uint8_t zeros[PROTO_TRACE_BYTES] = {0};
    uint8_t out[PROTO_TRACE_BYTES] = {0};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        if (svc_trace_read(svc_str_c(bad[i]), out))
            fail_msg("taken: %s", bad[i]);
        assert_memory_equal(out, zeros, sizeof(out));
    }
    assert_false(svc_trace_read((svc_str){NULL, 0}, out));
}

static void
a_header_of_ours_is_one(void **state)
{
    const svc_str trace = {(const char *)trace_bytes, sizeof(trace_bytes)};
    char header[SVC_TRACEPARENT_BYTES + 1];
    uint8_t again[PROTO_TRACE_BYTES];

    (void)state;
    svc_trace_write(trace, 0xf067aa0ba902b7, header);
    assert_string_equal(header, "00-" TRACE "-" PARENT "-00");
    assert_true(svc_trace_read(svc_str_c(header), again));
    assert_memory_equal(again, trace_bytes, sizeof(again));
}

static void
a_request_id_is_short_and_harmless(void **state)
{
    static const char *const good[] = {"1", "order-17", "a.b_c~d:e+f/g=h@i", TRACE,
                                       TRACE TRACE};
    static const char *const bad[] = {
        "",    "two words", "a,b",      "a;b",       "\"quoted\"", "back\\slash",
        "<b>", "100%",      "\xc3\xa9", "line\nend", "tab\t",      TRACE TRACE "1"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(good); i++)
        if (!svc_trace_is_request_id(svc_str_c(good[i])))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        if (svc_trace_is_request_id(svc_str_c(bad[i])))
            fail_msg("taken: %s", bad[i]);
    assert_false(svc_trace_is_request_id((svc_str){"a\0b", 3}));
}

static void
what_a_user_asks_for_is_not_routine(void **state)
{
    static const char *const routine[] = {OP_SVC_HELLO, OP_LLM_ACK, OP_CONVO_WATCH};
    static const char *const told[] = {OP_AUTH_LOGIN,    OP_AUTH_VERIFY, OP_CONVO_ASK,
                                       OP_CONVO_HISTORY, OP_CONVO_STOP,  OP_LLM_GENERATE,
                                       OP_LLM_ATTACH,    OP_CONVO_TAIL};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(routine); i++)
        assert_true(svc_trace_is_routine(routine[i]));
    for (size_t i = 0; i < SVC_COUNT(told); i++)
        assert_false(svc_trace_is_routine(told[i]));
    assert_false(svc_trace_is_routine("?"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_as_the_standard_has_it_gives_its_trace),
        cmocka_unit_test(anything_else_is_none),
        cmocka_unit_test(a_header_of_ours_is_one),
        cmocka_unit_test(a_request_id_is_short_and_harmless),
        cmocka_unit_test(what_a_user_asks_for_is_not_routine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
