/* test_gate.c - headers are judged as they come in, the same however they are cut.
 *
 * Each text is judged whole and byte by byte. A later request may begin in the middle: what
 * came with the request before it is not seen here. */
#include "gateway/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* The verdict on all at once. */
static gate_verdict
judge(bool is_later, const char *bytes, size_t n)
{
    gate_t gate = {.is_later = is_later};

    return gate_judge(&gate, bytes, n);
}

/* The verdict on a text, which must be the same when it comes byte by byte. */
static gate_verdict
judge_text(bool is_later, const char *text)
{
    gate_t gate = {.is_later = is_later};
    size_t n = strlen(text);
    gate_verdict verdict = judge(is_later, text, n);

    for (size_t i = 1; i < n; i++) {
        gate_verdict so_far = gate_judge(&gate, text, i);
        if (is_later && so_far == GATE_NO_HTTP) {
            gate = (gate_t){
                .is_later = true}; /* nothing is kept of what was not judged */
        } else if (so_far != GATE_MORE) {
            assert_int_equal(so_far, verdict);
            return verdict;
        }
    }
    assert_int_equal(gate_judge(&gate, text, n), verdict);
    return verdict;
}

static void
headers_are_complete_at_their_empty_line(void **state)
{
    static const char *const good[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.0\nHost: x\n\n",
        "OPTIONS * HTTP/1.1\r\nA: b\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length: 0\r\nX: y\r\n\r\n",
        "POST /x HTTP/1.1\r\ncontent-length:\t 123456789012345678 \r\n\r\n",
        "POST /x HTTP/1.1\r\nX-Content-Length: x\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(good); i++) {
        assert_int_equal(judge_text(false, good[i]), GATE_PASS);
        assert_int_equal(judge_text(true, good[i]), GATE_PASS);
        for (size_t n = 1; n < strlen(good[i]); n++) {
            assert_int_equal(judge(false, good[i], n), GATE_MORE);
            assert_int_equal(judge(true, good[i], n), GATE_MORE);
        }
    }
    assert_int_equal(judge(false, "", 0), GATE_MORE);
}

static void
what_follows_the_headers_is_not_judged(void **state)
{
    (void)state;
    assert_int_equal(judge(false, "GET / HTTP/1.1\r\n\r\nContent-Length: x\r\n\r\n", 41),
                     GATE_PASS);
}

/* Without this bound libmicrohttpd runs out of memory for the request, and waits with it until the time is over. */
static void
a_query_of_many_arguments_is_too_big(void **state)
{
    char text[1000];

    (void)state;
    for (size_t more = 90; more <= 110; more += 20) {
        svc_buf_t line;
        svc_buf_init(&line, sizeof text);
        assert_int_equal(svc_buf_add_str(&line, SVC_LIT("GET /x&&&?a=1")), RC_OK);
        for (size_t i = 0; i < more; i++)
            assert_int_equal(svc_buf_add_str(&line, SVC_LIT("&b=2")), RC_OK);
        snprintf(text, sizeof text, "%.*s HTTP/1.1\r\nHost: x\r\n\r\n", (int)line.n,
                 line.p);
        assert_int_equal(judge_text(false, text), more > 100 ? GATE_TOO_BIG : GATE_PASS);
        assert_int_equal(judge_text(true, text), more > 100 ? GATE_TOO_BIG : GATE_PASS);
        svc_buf_fini(&line);
    }
}

static void
a_length_that_is_none_is_bad(void **state)
{
    static const char *const lengths[] = {
        "", " ", "x", "-1", "+1", "1 1", "1,1", "0x10", "1.", "1234567890123456789"};
    char text[200];

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(lengths); i++) {
        snprintf(text, sizeof text,
                 "GET / HTTP/1.1\r\nA: b\r\nCONTENT-Length: %s\r\n\r\n", lengths[i]);
        assert_int_equal(judge_text(false, text), GATE_BAD_LENGTH);
        assert_int_equal(judge_text(true, text), GATE_BAD_LENGTH);
    }
}

static void
a_header_line_that_can_be_read_in_two_ways_is_bad(void **state)
{
    static const char *const lines[] = {
        "no colon",           ": no name",       " : x",
        "Name : x",           "Name\t: x",       "Na me: x",
        "Content-Length : 5", "X: y\r\n folded", "X: y\r\n\tfolded",
        "X\x01: y",           "X\x7f: y",        "N\xc3\xa4me: x",
        "X: a\rY: b",         "X: \r\r",         "\rX: y"};
    char text[200];

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(lines); i++) {
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nA: b\r\n%s\r\nC: d\r\n\r\n",
                 lines[i]);
        assert_int_equal(judge_text(false, text), GATE_BAD_HEADER);
        assert_int_equal(judge_text(true, text), GATE_BAD_HEADER);
    }
    assert_int_equal(judge(false, "GET / HTTP/1.1\r\nA\0: b\r\n\r\n", 25),
                     GATE_BAD_HEADER);
    assert_int_equal(judge(false, "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 26),
                     GATE_BAD_HEADER);
    assert_int_equal(judge_text(false, "GET / HTTP/1.1\r\nEmpty:\r\nA:b:c\r\n\r\n"),
                     GATE_PASS);
}

static void
a_first_line_that_is_no_request_line_is_no_http(void **state)
{
    static const char *const lines[] = {"\r\n?\n",
                                        "hello\r\n",
                                        "GET\r\n",
                                        "GET /\r\n",
                                        "GET / HTTP\r\n",
                                        "GET  HTTP/1.1\r\n",
                                        " / HTTP/1.1\r\n",
                                        "get / HTTP/1.1\r\n",
                                        "\x16\x03\x01\n",
                                        "GET / HTTP/2.0\r\n",
                                        "GET / HTTP/1.\r\n",
                                        "GET / HTTP/1.12\r\n",
                                        "GET /\rx HTTP/1.1\r\n"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(lines); i++)
        assert_int_equal(judge_text(false, lines[i]), GATE_NO_HTTP);
    assert_int_equal(judge(false, "GET /\0 HTTP/1.1\r\n", 17), GATE_NO_HTTP);
}

static void
of_a_later_request_that_is_not_whole_nothing_is_said(void **state)
{
    static const char *const rests[] = {"\n",
                                        "\r\n",
                                        "\r\n\r\n",
                                        "1.1\r\nContent-Length: x\r\n\r\n",
                                        "/ HTTP/1.1\r\n\r\n",
                                        " / HTTP/1.1\r\n\r\n",
                                        "\nHost: x\r\n\r\n",
                                        "T/1"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rests); i++)
        assert_int_equal(judge(true, rests[i], strlen(rests[i])), GATE_NO_HTTP);
    assert_int_equal(judge(true, "", 0), GATE_NO_HTTP);
    assert_int_equal(judge(true, "\r\n\r\nGET / HTTP/1.1\r\n\r\n", 22), GATE_PASS);
    assert_int_equal(judge(true, "\r\nGE", 4), GATE_MORE);
    assert_int_equal(judge(true, "T / HTTP/1.1\r\n\r\n", 16), GATE_PASS);
}

static void
too_many_bytes_or_lines_are_too_big(void **state)
{
    char *text = svc_alloc(GATE_HEADERS_MAX_BYTES + 1);
    size_t n = (size_t)snprintf(text, 100, "GET / HTTP/1.1\r\nX: ");
    gate_t gate = {.is_later = false};

    (void)state;
    memset(text + n, 'x', GATE_HEADERS_MAX_BYTES - n);
    assert_int_equal(gate_judge(&gate, text, GATE_HEADERS_MAX_BYTES - 1), GATE_MORE);
    assert_int_equal(gate_judge(&gate, text, GATE_HEADERS_MAX_BYTES), GATE_TOO_BIG);
    assert_int_equal(judge(true, text, GATE_HEADERS_MAX_BYTES), GATE_TOO_BIG);
    n = (size_t)snprintf(text, 100, "GET / HTTP/1.1\r\n");
    for (unsigned i = 0; i < GATE_HEADER_LINES_MAX; i++, n += 4)
        memcpy(text + n, "X:\r\n", 4);
    memcpy(text + n, "\r\n", 3);
    assert_int_equal(judge(false, text, n), GATE_MORE);
    assert_int_equal(judge(false, text, n + 2), GATE_TOO_BIG);
    assert_int_equal(judge(true, text + 4, n - 2), GATE_NO_HTTP); /* " / HTTP/1.1" */
    memcpy(text + n - 4, "\r\n", 3);
    assert_int_equal(judge(false, text, n - 2), GATE_PASS);
    free(text);
}

static void
a_refusal_is_json_of_the_length_it_says(void **state)
{
    static const struct {
        gate_verdict why;   /* what is refused */
        const char *status; /* of the answer */
        const char *code;   /* in it */
    } cases[] = {{GATE_NO_HTTP, "HTTP/1.1 400 Bad Request\r\n", "invalid"},
                 {GATE_TOO_BIG, "HTTP/1.1 431 ", "headers_too_big"},
                 {GATE_BAD_HEADER, "HTTP/1.1 400 ", "invalid"},
                 {GATE_BAD_LENGTH, "HTTP/1.1 400 ", "invalid"},
                 {GATE_FULL, "HTTP/1.1 503 ", "busy"}};
    char text[GATE_REFUSAL_BYTES], part[64];

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        size_t n = gate_refusal(cases[i].why, "", text);
        assert_null(strstr(text, "X-Request-Id"));
        n = gate_refusal(
            cases[i].why,
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", text);
        assert_non_null(strstr(text, "\r\nX-Request-Id: 0123456789abcdef0123456789abcdef"
                                     "0123456789abcdef0123456789abcdef\r\n"));
        assert_int_equal(n, strlen(text));
        assert_int_equal(strncmp(text, cases[i].status, strlen(cases[i].status)), 0);
        const char *body = strstr(text, "\r\n\r\n");
        assert_non_null(body);
        snprintf(part, sizeof part, "Content-Length: %zu\r\n", strlen(body + 4));
        assert_non_null(strstr(text, part));
        snprintf(part, sizeof part, "\"code\":\"%s\"}", cases[i].code);
        assert_non_null(strstr(body, part));
        assert_non_null(strstr(text, "Connection: close\r\n"));
        assert_int_equal(strstr(text, "Retry-After: 1\r\n") != NULL,
                         cases[i].why == GATE_FULL);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_complete_at_their_empty_line),
        cmocka_unit_test(what_follows_the_headers_is_not_judged),
        cmocka_unit_test(a_query_of_many_arguments_is_too_big),
        cmocka_unit_test(a_length_that_is_none_is_bad),
        cmocka_unit_test(a_header_line_that_can_be_read_in_two_ways_is_bad),
        cmocka_unit_test(a_first_line_that_is_no_request_line_is_no_http),
        cmocka_unit_test(of_a_later_request_that_is_not_whole_nothing_is_said),
        cmocka_unit_test(too_many_bytes_or_lines_are_too_big),
        cmocka_unit_test(a_refusal_is_json_of_the_length_it_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
