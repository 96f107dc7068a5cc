/* test_refusal.c - what a refused client reads, and the line that the log has of it.
 *
 * The client is the other end of a socket pair, the log a pipe. */
#include "gateway/refusal.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct {
    char answer[1024]; /* what the client read */
    char line[1024];   /* of the log; "" : none */
} told_t;

static told_t
refuse(gate_verdict why)
{
    const struct sockaddr_in from = {.sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl(0xc0000201)};
    const client_addr_t peer = client_addr_of((const struct sockaddr *)&from);
    int pair[2], fds[2];
    refusals_t refusals = {.log = NULL};
    told_t told = {.line = ""};

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pipe(fds), 0);
    refusals.log = svc_log_new(fds[1], "gateway", 0, SVC_LOG_INFO);
    refusal_send(&refusals, pair[0], why, &peer);
    close(fds[1]);
    /* the answer ends: our side was shut, though the socket is still open */
    size_t n = 0;
    for (ssize_t got = 1; got > 0; n += got > 0 ? (size_t)got : 0)
        got = read(pair[1], told.answer + n, sizeof told.answer - 1 - n);
    told.answer[n] = '\0';
    ssize_t length = read(fds[0], told.line, sizeof told.line - 1);
    assert_true(length >= 0);
    told.line[length] = '\0';
    close(pair[0]);
    close(pair[1]);
    close(fds[0]);
    svc_log_destroy(&refusals.log);
    return told;
}

static void
the_id_of_the_answer_is_the_trace_of_its_line(void **state)
{
    static const struct {
        gate_verdict why;
        const char *status;
    } rows[] = {{GATE_NO_HTTP, "400"},
                {GATE_TOO_BIG, "431"},
                {GATE_BAD_HEADER, "400"},
                {GATE_BAD_LENGTH, "400"}};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        told_t told = refuse(rows[i].why);
        const char *id = strstr(told.answer, "\r\nX-Request-Id: ");
        char wanted[200];

        assert_int_equal(strncmp(told.answer + 9, rows[i].status, 3), 0);
        assert_non_null(id);
        assert_int_equal(strcspn(id + 16, "\r"), 32);
        snprintf(
            wanted, sizeof wanted,
            " info  gateway request trace=%.32s op=(refused) status=%s us=0 peer=192.0.2.1\n",
            id + 16, rows[i].status);
        if (strstr(told.line, wanted) == NULL)
            fail_msg("%s wanted, got %s", wanted, told.line);
    }
}

static void
one_connection_too_many_is_not_logged(void **state)
{
    told_t told = refuse(GATE_FULL);

    (void)state;
    assert_int_equal(strncmp(told.answer, "HTTP/1.1 503 ", 13), 0);
    assert_null(strstr(told.answer, "X-Request-Id"));
    assert_string_equal(told.line, "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_id_of_the_answer_is_the_trace_of_its_line),
        cmocka_unit_test(one_connection_too_many_is_not_logged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
