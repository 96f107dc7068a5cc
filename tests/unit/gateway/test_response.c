/* test_response.c - the headers that every answer carries.
 *
 * Responses are looked at through libmicrohttpd; no connection is needed. */
#include "gateway/response.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char *any_origin[] = {(char *)(uintptr_t) "*"};
static char *two_origins[] = {(char *)(uintptr_t) "https://a.example",
                              (char *)(uintptr_t) "https://b.example"};

static void
assert_header(struct MHD_Response *response, const char *name, const char *wanted)
{
    const char *value = MHD_get_response_header(response, name);

    if (wanted == NULL)
        assert_null(value);
    else
        assert_string_equal(value, wanted);
}

static void
any_origin_may_read_every_answer(void **state)
{
    svc_config_t config = {.server_cors_origins = {any_origin, 1}};
    response_context_t context = {
        .config = &config, .origin = "https://x.example", .request_id = "some-id"};
    struct MHD_Response *json = response_json(&context, SVC_LIT("{}"));
    struct MHD_Response *error = response_error(&context, RC_NOT_FOUND,
                                                (svc_str){NULL, 0}, 0);

    (void)state;
    assert_header(json, "Access-Control-Allow-Origin", "*");
    assert_header(json, "Access-Control-Allow-Credentials", NULL);
    assert_header(json, "Vary", NULL);
    assert_header(json, "Content-Type", "application/json; charset=utf-8");
    assert_header(error, "Access-Control-Allow-Origin", "*");
    assert_header(json, "X-Request-Id", "some-id");
    assert_header(error, "X-Request-Id", "some-id");
    assert_header(json, "Access-Control-Expose-Headers",
                  "Retry-After, Stream-Id, X-Request-Id");
    MHD_destroy_response(json);
    MHD_destroy_response(error);
}

static void
with_a_list_only_those_origins_may(void **state)
{
    svc_config_t config = {.server_cors_origins = {two_origins, 2}};
    response_context_t context = {.config = &config};
    static const char *const rows[][2] = {{"https://b.example", "https://b.example"},
                                          {"https://b.example.evil", NULL},
                                          {"null", NULL},
                                          {NULL, NULL}};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        context.origin = rows[i][0];
        struct MHD_Response *json = response_json(&context, SVC_LIT("{}"));
        assert_header(json, "Access-Control-Allow-Origin", rows[i][1]);
        assert_header(json, "Vary", "Origin");
        MHD_destroy_response(json);
    }
}

static void
an_error_event_is_a_stream(void **state)
{
    svc_config_t config = {.server_cors_origins = {any_origin, 1}};
    response_context_t context = {.config = &config};
    struct MHD_Response *event = response_error_event(&context, RC_BUSY,
                                                      (svc_str){NULL, 0}, 5);

    (void)state;
    assert_header(event, "Content-Type", "text/event-stream");
    assert_header(event, "Cache-Control", "no-cache");
    assert_header(event, "Access-Control-Allow-Origin", "*");
    assert_header(event, "Retry-After", NULL);
    assert_header(event, "X-Request-Id", NULL);
    MHD_destroy_response(event);
}

static void
nothing_is_readable_by_any_origin_too(void **state)
{
    svc_config_t config = {.server_cors_origins = {any_origin, 1}};
    response_context_t context = {.config = &config};
    struct MHD_Response *nothing = response_nothing(&context);

    (void)state;
    assert_header(nothing, "Access-Control-Allow-Origin", "*");
    assert_header(nothing, "Content-Type", NULL);
    MHD_destroy_response(nothing);
}

static void
a_preflight_says_what_is_allowed(void **state)
{
    svc_config_t config = {.server_cors_origins = {any_origin, 1}};
    response_context_t context = {.config = &config, .origin = "https://x.example"};
    struct MHD_Response *options = response_options(&context, "POST, OPTIONS");

    (void)state;
    assert_header(options, "Allow", "POST, OPTIONS");
    assert_header(options, "Access-Control-Allow-Methods", "POST, OPTIONS");
    assert_non_null(
        strstr(MHD_get_response_header(options, "Access-Control-Allow-Headers"),
               "Authorization"));
    assert_non_null(
        strstr(MHD_get_response_header(options, "Access-Control-Allow-Headers"),
               "X-Request-Id, traceparent"));
    MHD_destroy_response(options);
}

static void
errors_tell_when_to_come_back(void **state)
{
    svc_config_t config = {.server_cors_origins = {any_origin, 1}};
    response_context_t context = {.config = &config, .closes = true};
    static const struct {
        svc_rc rc;
        uint64_t told;
        const char *header;
    } rows[] = {{RC_UNAVAILABLE, 0, "1"}, {RC_BUSY, 0, "1"},
                {RC_BUSY, 7, "7"},        {RC_THROTTLED, 30, "30"},
                {RC_NOT_FOUND, 0, NULL},  {RC_UPSTREAM_RATE_LIMITED, 20, "20"},
                {RC_TIMEOUT, 0, "1"},     {RC_UPSTREAM_TIMEOUT, 0, NULL},
                {RC_INTERNAL, 0, NULL}};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        struct MHD_Response *error = response_error(&context, rows[i].rc,
                                                    (svc_str){NULL, 0}, rows[i].told);
        assert_header(error, "Retry-After", rows[i].header);
        assert_header(error, "Connection", "close");
        MHD_destroy_response(error);
    }
    struct MHD_Response *unauthorized = response_input_error(&context, RC_UNAUTHORIZED,
                                                             TEXT_NO_TOKEN, NULL);
    assert_header(unauthorized, "WWW-Authenticate", "Bearer");
    MHD_destroy_response(unauthorized);
    unauthorized = response_error(&context, RC_UNAUTHORIZED, (svc_str){NULL, 0}, 0);
    assert_header(unauthorized, "WWW-Authenticate", "Bearer error=\"invalid_token\"");
    MHD_destroy_response(unauthorized);
    unauthorized = response_error(&context, RC_BAD_CREDENTIALS, (svc_str){NULL, 0}, 0);
    assert_header(unauthorized, "WWW-Authenticate", "Bearer");
    MHD_destroy_response(unauthorized);
}

static ssize_t
read_nothing(void *arg, uint64_t pos, char *buf, size_t max)
{
    (void)arg;
    (void)pos;
    (void)buf;
    (void)max;
    return MHD_CONTENT_READER_END_OF_STREAM;
}

static void
streams_of_events_are_not_kept_back_by_proxies(void **state)
{
    svc_config_t config = {.server_cors_origins = {any_origin, 1}};
    response_context_t context = {.config = &config};
    struct MHD_Response *events = response_stream(&context, "text/event-stream", true,
                                                  read_nothing, NULL);
    struct MHD_Response *pages = response_stream(&context, "application/json", false,
                                                 read_nothing, NULL);

    (void)state;
    assert_header(events, "Content-Type", "text/event-stream");
    assert_header(events, "Cache-Control", "no-cache");
    assert_header(events, "X-Accel-Buffering", "no");
    assert_header(pages, "Cache-Control", NULL);
    MHD_destroy_response(events);
    MHD_destroy_response(pages);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_event_is_a_stream),
        cmocka_unit_test(nothing_is_readable_by_any_origin_too),
        cmocka_unit_test(any_origin_may_read_every_answer),
        cmocka_unit_test(with_a_list_only_those_origins_may),
        cmocka_unit_test(a_preflight_says_what_is_allowed),
        cmocka_unit_test(errors_tell_when_to_come_back),
        cmocka_unit_test(streams_of_events_are_not_kept_back_by_proxies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
