/* test_openai_request.c - the request body, byte by byte.
 *
 * With and without the wish for usage, and when it does not fit. */
#include "llm-svc/openai_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static const prompt_message_t messages[] = {
    {ROLE_SYSTEM, {"Be \"kind\"", 9}},
    {ROLE_USER, {"a\n\xE4\xBD\xA0", 5}},
    {ROLE_ASSISTANT, {"", 0}},
};
static const generate_req_t request = {
    .model = {"gpt-4", 5},
    .messages = {(void *)(uintptr_t)messages, SVC_COUNT(messages)},
};

static void
writes_model_messages_and_options(void **state)
{
    (void)state;
    svc_buf_t body;

    svc_buf_init(&body, OPENAI_REQUEST_MAX_BYTES);
    assert_int_equal(openai_request_write(&request, &body), RC_OK);
    assert_true(svc_str_eq(
        svc_buf_str(&body),
        SVC_LIT(
            "{\"model\":\"gpt-4\",\"messages\":[{\"role\":\"system\",\"content\":\"Be \\\"kind\\\"\"},"
            "{\"role\":\"user\",\"content\":\"a\\n\xE4\xBD\xA0\"},{\"role\":\"assistant\",\"content\":\"\"}],"
            "\"stream\":true,\"stream_options\":{\"include_usage\":true}}")));
    svc_buf_fini(&body);
}

static void
takes_the_wish_for_usage_out_again(void **state)
{
    (void)state;
    svc_buf_t body;

    svc_buf_init(&body, 1000);
    assert_int_equal(openai_request_write(&request, &body), RC_OK);
    assert_true(openai_request_drop_usage(&body));
    assert_null(memmem(body.p, body.n, "stream_options", 14));
    assert_memory_equal(body.p + body.n - 15, ",\"stream\":true}", 15);
    assert_false(openai_request_drop_usage(&body));
    svc_buf_fini(&body);
}

static void
says_when_it_does_not_fit(void **state)
{
    (void)state;
    svc_buf_t body;

    svc_buf_init(&body, 100);
    assert_int_equal(openai_request_write(&request, &body), RC_TOO_BIG);
    svc_buf_fini(&body);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_model_messages_and_options),
        cmocka_unit_test(takes_the_wish_for_usage_out_again),
        cmocka_unit_test(says_when_it_does_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
