/* test_svc_log.c - lines of the log, as a reader at the other end of a pipe gets them.
 *
 * JSON lines are parsed by json-c, whatever was logged. */
#include "svc/svc_config.h"
#include "svc/svc_log.h"
#include "svc/svc_time.h"

#include "proto/proto.h"
#include "proto/utf8.h"

#include <json-c/json.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char line[8192];

/* One log on a pipe; what it writes is read by read_line(). */
typedef struct {
    int fds[2];
    svc_log_t *log;
} piped_t;

static piped_t
open_log(int format, svc_log_level level)
{
    piped_t piped;

    assert_int_equal(pipe(piped.fds), 0);
    piped.log = svc_log_new(piped.fds[1], "test-svc", format, level);
    return piped;
}

/* Reads what was written by one write (a pipe gives it whole), closes all. */
static const char *
read_line(piped_t *piped)
{
    ssize_t n;

    close(piped->fds[1]);
    n = read(piped->fds[0], line, sizeof(line) - 1);
    assert_true(n >= 0);
    line[n] = '\0';
    close(piped->fds[0]);
    svc_log_destroy(&piped->log);
    assert_null(piped->log);
    return line;
}

static svc_log_request_t
some_request(void)
{
    return (svc_log_request_t){.trace = SVC_LIT("0123456789abcdef"),
                               .op = "POST /api/chat/:id",
                               .status = "ok",
                               .us = 123,
                               .peer = "gateway"};
}

static void
an_event_is_one_line_with_time_level_and_service(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    const char *text;

    (void)state;
    svc_log_info(piped.log, "hello %d", 42);
    text = read_line(&piped);
    assert_int_equal(text[4], '-');
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[23], 'Z');
    assert_string_equal(text + 24, " info  test-svc hello 42\n");
}

static void
a_request_tells_trace_operation_status_and_microseconds(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    svc_log_request_t request = some_request();

    (void)state;
    svc_log_request(piped.log, &request);
    assert_string_equal(read_line(&piped) + 24,
                        " info  test-svc request trace=30313233343536373839616263646566 "
                        "op=\"POST /api/chat/:id\" status=ok us=123 peer=gateway\n");
}

static void
json_lines_are_json_objects(void **state)
{
    piped_t piped = open_log(SVC_LOG_JSON, SVC_LOG_INFO);
    svc_log_request_t request = some_request();
    struct json_object *json;

    (void)state;
    svc_log_request(piped.log, &request);
    json = json_tokener_parse(read_line(&piped));
    assert_non_null(json);
    assert_string_equal(json_object_get_string(json_object_object_get(json, "message")),
                        "request");
    assert_string_equal(json_object_get_string(json_object_object_get(json, "op")),
                        "POST /api/chat/:id");
    assert_int_equal(json_object_get_int(json_object_object_get(json, "us")), 123);
    json_object_put(json);
}

static void
a_value_cannot_forge_a_second_line(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);

    (void)state;
    svc_log_warn(piped.log, "a\nb\x1b[31m\x7f \xff é 你");
    assert_string_equal(read_line(&piped) + 24,
                        " warn  test-svc a\\nb\\x1b[31m\\x7f ? é 你\n");
}

static void
json_escapes_whatever_comes(void **state)
{
    piped_t piped = open_log(SVC_LOG_JSON, SVC_LOG_INFO);
    struct json_object *json;

    (void)state;
    svc_log_error(piped.log, "\"quote\" \\ \n \x01 \xff \xe4\xbd é");
    json = json_tokener_parse(read_line(&piped));
    assert_non_null(json);
    assert_string_equal(json_object_get_string(json_object_object_get(json, "message")),
                        "\"quote\" \\ \n \x01 ? ?? é");
    assert_string_equal(json_object_get_string(json_object_object_get(json, "level")),
                        "error");
    json_object_put(json);
}

static void
a_long_event_is_cut_and_stays_one_valid_line(void **state)
{
    char *text = svc_alloc(100001);
    struct json_object *json;

    (void)state;
    for (int format = SVC_LOG_TEXT; format <= SVC_LOG_JSON; format++)
        for (int fill = 0; fill < 3; fill++) {
            piped_t piped = open_log(format, SVC_LOG_INFO);
            size_t n;

            memset(text, "x\x01\xe4"[fill], 100000);
            svc_log_info(piped.log, "%s", text);
            n = strlen(read_line(&piped));
            assert_true(n > 2000 && n <= 4096);
            assert_int_equal(line[n - 1], '\n');
            assert_int_equal(svc_utf8_valid(line, n), n);
            json = format == SVC_LOG_JSON ? json_tokener_parse(line) : NULL;
            assert_true(format == SVC_LOG_TEXT || json != NULL);
            json_object_put(json);
        }
    free(text);
}

static void
levels_below_the_configured_one_are_silent(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_WARN);
    svc_log_request_t request = some_request();

    (void)state;
    svc_log_debug(piped.log, "no");
    svc_log_info(piped.log, "no");
    svc_log_request(piped.log, &request);
    assert_string_equal(read_line(&piped), "");
    svc_log_error(NULL, "swallowed");
    svc_log_request(NULL, &request);
}

static void
a_request_without_peer_or_trace_is_logged_too(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_DEBUG);
    svc_log_request_t request = {.op = "svc.ping", .status = "ok"};

    (void)state;
    svc_log_request(piped.log, &request);
    assert_string_equal(read_line(&piped) + 24,
                        " info  test-svc request op=svc.ping status=ok us=0\n");
}

static void
an_event_tells_the_request_and_the_answer_that_it_is_about(void **state)
{
    const svc_log_about_t about = {.trace = SVC_LIT("0123456789abcdef"),
                                   .stream = SVC_LIT("\x01\x02\x03\x04\x05\x06\x07\x08"
                                                     "\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10")};
    const svc_log_about_t odd = {.trace = SVC_LIT("short")};
    piped_t piped = open_log(SVC_LOG_JSON, SVC_LOG_INFO);
    struct json_object *json;

    (void)state;
    svc_log_about(piped.log, SVC_LOG_WARN, &about, "stored %d bytes", 7);
    json = json_tokener_parse(read_line(&piped));
    assert_non_null(json);
    assert_string_equal(json_object_get_string(json_object_object_get(json, "message")),
                        "stored 7 bytes");
    assert_string_equal(json_object_get_string(json_object_object_get(json, "trace")),
                        "30313233343536373839616263646566");
    assert_string_equal(json_object_get_string(json_object_object_get(json, "stream")),
                        "0102030405060708090a0b0c0d0e0f10");
    json_object_put(json);

    piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    svc_log_about(piped.log, SVC_LOG_INFO, &odd, "no id of ours");
    assert_string_equal(read_line(&piped) + 24, " info  test-svc no id of ours\n");
    piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    svc_log_about(piped.log, SVC_LOG_DEBUG, &about, "swallowed");
    svc_log_about(NULL, SVC_LOG_ERROR, &about, "swallowed");
    assert_string_equal(read_line(&piped), "");
}

static void
what_a_client_calls_its_request_stands_last(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    svc_log_request_t request = some_request();

    (void)state;
    request.request_id = SVC_LIT("mine-1");
    svc_log_request(piped.log, &request);
    assert_non_null(strstr(read_line(&piped), " peer=gateway request_id=mine-1\n"));
}

static void
what_is_routine_is_told_at_debug_only(void **state)
{
    svc_log_request_t request = some_request();
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);

    (void)state;
    request.is_routine = true;
    svc_log_request(piped.log, &request);
    assert_string_equal(read_line(&piped), "");
    piped = open_log(SVC_LOG_TEXT, SVC_LOG_DEBUG);
    svc_log_request(piped.log, &request);
    assert_non_null(strstr(read_line(&piped), " debug test-svc request trace="));
}

static void
the_level_may_change(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_WARN);

    (void)state;
    assert_false(svc_log_writes(piped.log, SVC_LOG_INFO));
    assert_false(svc_log_writes(NULL, SVC_LOG_ERROR));
    svc_log_set_level(piped.log, SVC_LOG_DEBUG);
    assert_true(svc_log_writes(piped.log, SVC_LOG_DEBUG));
    svc_log_debug(piped.log, "now");
    assert_string_equal(read_line(&piped) + 24, " debug test-svc now\n");
}

/* What waits in the pipe. */
static size_t
bytes_in(const piped_t *piped)
{
    int n = 0;

    assert_int_equal(ioctl(piped->fds[0], FIONREAD, &n), 0);
    return (size_t)n;
}

static void
requests_of_a_turn_are_written_together_and_in_order(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    svc_log_request_t request = some_request();
    svc_log_gather_t room;
    const char *first, *second;

    (void)state;
    svc_log_gather_begin(&room);
    request.op = "first";
    svc_log_request(piped.log, &request);
    request.op = "second";
    svc_log_request(piped.log, &request);
    assert_int_equal(bytes_in(&piped), 0);
    svc_log_gather_write();
    assert_true(bytes_in(&piped) > 0);
    svc_log_gather_end(&room);
    first = strstr(read_line(&piped), "op=first");
    assert_non_null(first);
    second = strstr(first, "op=second");
    assert_non_null(second);
    assert_string_equal(strchr(second, ' '), " status=ok us=123 peer=gateway\n");
}

static void
what_is_no_request_takes_the_lines_before_it_along_at_once(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    svc_log_request_t request = some_request();
    svc_log_gather_t room;
    const char *text;

    (void)state;
    svc_log_gather_begin(&room);
    svc_log_request(piped.log, &request);
    svc_log_info(piped.log, "an event");
    text = read_line(&piped);
    assert_non_null(strstr(text, " request "));
    assert_non_null(strstr(strstr(text, " request "), "test-svc an event\n"));
    svc_log_gather_end(&room);
}

static void
a_plain_log_waits_for_no_company(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    svc_log_request_t request = some_request();
    svc_log_gather_t room;

    (void)state;
    svc_log_set_plain(piped.log);
    svc_log_gather_begin(&room);
    svc_log_request(piped.log, &request);
    assert_true(bytes_in(&piped) > 0);
    svc_log_gather_end(&room);
    assert_non_null(strstr(read_line(&piped), " request "));
}

static void
no_write_of_gathered_lines_is_longer_than_a_pipe_keeps_whole(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    svc_log_request_t request = some_request();
    svc_log_gather_t room;
    size_t a_line, before;

    (void)state;
    svc_log_request(piped.log, &request);
    a_line = bytes_in(&piped);
    svc_log_gather_begin(&room);
    for (size_t n = 0; n + a_line <= PIPE_BUF; n += a_line)
        svc_log_request(piped.log, &request);
    assert_int_equal(bytes_in(&piped), a_line);
    svc_log_request(piped.log, &request);
    before = bytes_in(&piped); /* all but the last ones */
    assert_in_range(before, a_line + 1, a_line + PIPE_BUF);
    svc_log_gather_end(&room);
    assert_in_range(bytes_in(&piped), before + 1, before + PIPE_BUF);
    svc_log_gather_end(&room);            /* once is enough */
    svc_log_request(piped.log, &request); /* one by one again */
    assert_int_equal(bytes_in(&piped) % a_line, 0);
    (void)read_line(&piped);
}

/* Bytes of the file behind a log. */
static size_t
bytes_of(FILE *file)
{
    struct stat what;

    assert_int_equal(fstat(fileno(file), &what), 0);
    return (size_t)what.st_size;
}

static void
a_regular_file_gets_more_lines_in_one_write(void **state)
{
    FILE *file = tmpfile();
    svc_log_request_t request = some_request();
    svc_log_gather_t *room = svc_alloc(sizeof(*room));
    svc_log_t *log = svc_log_new(fileno(file), "test-svc", SVC_LOG_TEXT, SVC_LOG_INFO);
    size_t a_line, n;

    (void)state;
    svc_log_request(log, &request);
    a_line = bytes_of(file);
    svc_log_gather_begin(room);
    for (n = 0; (n + 1) * a_line <= SVC_LOG_GATHER_BYTES; n++)
        svc_log_request(log, &request);
    assert_int_equal(bytes_of(file), a_line);
    svc_log_request(log, &request); /* there is no room for this one */
    assert_int_equal(bytes_of(file), (1 + n) * a_line);
    svc_log_warn(log, "after them");
    svc_log_gather_end(room);
    rewind(file);
    for (size_t i = 0; i < n + 2; i++) {
        assert_non_null(fgets(line, sizeof(line), file));
        assert_int_equal(strlen(line), a_line);
    }
    assert_non_null(fgets(line, sizeof(line), file));
    assert_string_equal(line + 24, " warn  test-svc after them\n");
    assert_null(fgets(line, sizeof(line), file));
    svc_log_destroy(&log);
    fclose(file);
    free(room);
}

/* Quick enough for many of these to be of the same millisecond. */
static void
each_line_has_its_own_level_and_service(void **state)
{
    (void)state;
    for (uint64_t end = svc_unix_ms() + 20; svc_unix_ms() < end;) {
        piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
        svc_log_t *other = svc_log_new(piped.fds[1], "other", SVC_LOG_JSON, SVC_LOG_INFO);
        const char *text;

        svc_log_info(piped.log, "a");
        svc_log_info(piped.log, "b");
        svc_log_warn(piped.log, "c");
        svc_log_warn(other, "d");
        svc_log_destroy(&other);
        other = svc_log_new(piped.fds[1], "third", SVC_LOG_TEXT, SVC_LOG_INFO);
        svc_log_warn(other, "e");
        svc_log_destroy(&other);
        text = read_line(&piped);
        assert_memory_equal(text + 24, " info  test-svc a\n", 18);
        assert_memory_equal(text + 42 + 24, " info  test-svc b\n", 18);
        assert_memory_equal(text + 84 + 24, " warn  test-svc c\n", 18);
        assert_non_null(strstr(text, "Z\",\"level\":\"warn\",\"service\":\"other\","
                                     "\"message\":\"d\"}\n"));
        assert_non_null(strstr(text, "Z warn  third e\n"));
    }
}

static void
time_goes_on_from_line_to_line(void **state)
{
    piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
    char earliest[SVC_TIME_TEXT_BYTES], latest[SVC_TIME_TEXT_BYTES];

    (void)state;
    for (uint64_t end = svc_unix_ms() + 20; svc_unix_ms() < end;) {
        svc_time_text(svc_unix_ms(), earliest);
        svc_log_info(piped.log, "a");
        svc_time_text(svc_unix_ms(), latest);
        assert_int_equal(read(piped.fds[0], line, sizeof(line)), 42);
        assert_true(memcmp(line, earliest, sizeof(earliest)) >= 0);
        assert_true(memcmp(line, latest, sizeof(latest)) <= 0);
    }
    assert_string_equal(read_line(&piped), "");
}

static void
a_value_is_quoted_and_escaped_when_it_must_be(void **state)
{
    const struct {
        const char *peer, *text, *json;
    } cases[] = {
        {"plain/é", " peer=plain/é\n", "plain/é"},
        {"a b", " peer=\"a b\"\n", "a b"},
        {"a=b", " peer=\"a=b\"\n", "a=b"},
        {"a\"b", " peer=\"a\\\"b\"\n", "a\"b"},
        {"a\\b", " peer=\"a\\\\b\"\n", "a\\b"},
        {"a\nb\x7f", " peer=a\\nb\\x7f\n", "a\nb\x7f"},
        {"a \n\xff", " peer=\"a \\n?\"\n", "a \n?"},
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        svc_log_request_t request = some_request();
        piped_t piped = open_log(SVC_LOG_TEXT, SVC_LOG_INFO);
        struct json_object *json;

        request.peer = cases[i].peer;
        svc_log_request(piped.log, &request);
        assert_string_equal(strstr(read_line(&piped), " peer="), cases[i].text);
        piped = open_log(SVC_LOG_JSON, SVC_LOG_INFO);
        svc_log_request(piped.log, &request);
        json = json_tokener_parse(read_line(&piped));
        assert_non_null(json);
        assert_string_equal(json_object_get_string(json_object_object_get(json, "peer")),
                            cases[i].json);
        json_object_put(json);
    }
}

/* Values without anything special take a short way, which must end where the line does. */
static void
a_long_plain_value_is_cut_and_the_line_stays_valid(void **state)
{
    char *text = svc_alloc(6001);

    (void)state;
    for (size_t n = 3500; n <= 6000; n += n == 3500 ? 100 : 7) {
        svc_log_request_t request = some_request();
        piped_t piped = open_log(SVC_LOG_JSON, SVC_LOG_INFO);
        struct json_object *json;

        memset(text, 'x', n);
        text[n] = '\0';
        request.peer = text;
        request.request_id = SVC_LIT("mine-1");
        svc_log_request(piped.log, &request);
        json = json_tokener_parse(read_line(&piped));
        assert_non_null(json);
        assert_in_range(strlen(line), 3500, 4096);
        assert_non_null(json_object_object_get(json, "request_id"));
        json_object_put(json);
    }
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_one_line_with_time_level_and_service),
        cmocka_unit_test(a_request_tells_trace_operation_status_and_microseconds),
        cmocka_unit_test(json_lines_are_json_objects),
        cmocka_unit_test(a_value_cannot_forge_a_second_line),
        cmocka_unit_test(json_escapes_whatever_comes),
        cmocka_unit_test(a_long_event_is_cut_and_stays_one_valid_line),
        cmocka_unit_test(levels_below_the_configured_one_are_silent),
        cmocka_unit_test(a_request_without_peer_or_trace_is_logged_too),
        cmocka_unit_test(an_event_tells_the_request_and_the_answer_that_it_is_about),
        cmocka_unit_test(what_a_client_calls_its_request_stands_last),
        cmocka_unit_test(what_is_routine_is_told_at_debug_only),
        cmocka_unit_test(the_level_may_change),
        cmocka_unit_test(requests_of_a_turn_are_written_together_and_in_order),
        cmocka_unit_test(what_is_no_request_takes_the_lines_before_it_along_at_once),
        cmocka_unit_test(a_plain_log_waits_for_no_company),
        cmocka_unit_test(no_write_of_gathered_lines_is_longer_than_a_pipe_keeps_whole),
        cmocka_unit_test(a_regular_file_gets_more_lines_in_one_write),
        cmocka_unit_test(each_line_has_its_own_level_and_service),
        cmocka_unit_test(time_goes_on_from_line_to_line),
        cmocka_unit_test(a_value_is_quoted_and_escaped_when_it_must_be),
        cmocka_unit_test(a_long_plain_value_is_cut_and_the_line_stays_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
