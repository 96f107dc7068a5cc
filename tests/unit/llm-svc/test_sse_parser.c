/* test_sse_parser.c - every line ending, every oddity of real providers, cut at every byte.
 *
 * Each stream is fed whole, byte by byte, and cut once at every place; the events must
 * be the same each time. */
#include "llm-svc/sse_parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

typedef struct {
    const char *stream; /* as sent */
    const char *events; /* data of all events, each followed by '|' */
} case_t;

// clang-format off
static const case_t cases[] = {
    {"data: a\n\ndata: b\n\n", "a|b|"},
    {"data: a\r\n\r\ndata: b\r\n\r\n", "a|b|"},
    {"data: a\r\rdata: b\r\r", "a|b|"},
    {"data: a\r\n\ndata: b\r\r\n", "a|b|"},
    {"data:a\n\ndata:  b \n\n", "a| b |"},
    {"\xEF\xBB\xBF" "data: a\n\n", "a|"},
    {": comment\n\n:\n\ndata: a\n: between\n\n", "a|"},
    {"event: message\nid: 7\nretry: 10\ndata: a\n\nevent: ping\n\n", "a|"},
    {"data: a\ndata: b\ndata\ndata: c\n\n", "a\nb\n\nc|"},
    {"data\n\ndata:\n\ndata: \n\n", ""},
    {"data: unended line", "unended line|"},
    {"data: unended event\n", "unended event|"},
    {"database: no\nDATA: no\n data: no\ndata : no\n\n", ""},
    {"\n\n\r\n\r\rdata: a\n\n\n\n", "a|"},
    {"", ""},
    {"data: \xE4\xBD\xA0\n\n", "\xE4\xBD\xA0|"},
};
// clang-format on

static void
note_event(void *arg, svc_str data)
{
    svc_buf_t *seen = arg;

    assert_true(data.n > 0);
    assert_int_equal(svc_buf_add_str(seen, data), RC_OK);
    assert_int_equal(svc_buf_add(seen, "|", 1), RC_OK);
}

/* Feeds `text` in pieces of `step` bytes, but the first one of `first`. */
static void
check_cut(const case_t *c, size_t first, size_t step)
{
    svc_buf_t seen;
    svc_str rest = svc_str_c(c->stream);

    svc_buf_init(&seen, 1000);
    sse_parser_t *parser = sse_parser_new(note_event, &seen);
    for (size_t n = first; rest.n > 0; n = step) {
        n = n < rest.n ? n : rest.n;
        assert_int_equal(sse_parser_feed(parser, (svc_str){rest.p, n}), RC_OK);
        rest.p += n;
        rest.n -= n;
    }
    assert_int_equal(sse_parser_end(parser), RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&seen), svc_str_c(c->events)));
    sse_parser_destroy(&parser);
    svc_buf_fini(&seen);
}

static void
finds_the_same_events_however_the_stream_is_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        check_cut(&cases[i], 1, 1);
        for (size_t at = 0; at <= strlen(cases[i].stream); at++)
            check_cut(&cases[i], at, 1000);
    }
}

static void
gives_an_event_with_its_blank_line_and_not_before(void **state)
{
    (void)state;
    svc_buf_t seen;

    svc_buf_init(&seen, 100);
    sse_parser_t *parser = sse_parser_new(note_event, &seen);
    assert_int_equal(sse_parser_feed(parser, SVC_LIT("data: a\n")), RC_OK);
    assert_int_equal(seen.n, 0);
    assert_int_equal(sse_parser_feed(parser, SVC_LIT("\r")), RC_OK);
    assert_int_equal(seen.n, 2);
    sse_parser_destroy(&parser);
    svc_buf_fini(&seen);
}

static void
count_bytes(void *arg, svc_str data)
{
    *(size_t *)arg += data.n;
}

/* Feeds n bytes of a line without end. */
static svc_rc
feed_long(sse_parser_t *parser, size_t n)
{
    static char block[1 << 16];
    svc_rc rc = RC_OK;

    memset(block, 'x', sizeof(block));
    for (; n > 0 && rc == RC_OK; n -= n < sizeof(block) ? n : sizeof(block))
        rc = sse_parser_feed(parser,
                             (svc_str){block, n < sizeof(block) ? n : sizeof(block)});
    return rc;
}

static void
takes_a_line_of_16_mb_and_refuses_a_longer_one(void **state)
{
    (void)state;
    size_t seen = 0;
    sse_parser_t *parser = sse_parser_new(count_bytes, &seen);

    assert_int_equal(sse_parser_feed(parser, SVC_LIT("data: ")), RC_OK);
    assert_int_equal(feed_long(parser, SSE_PARSER_MAX_BYTES - 6), RC_OK);
    assert_int_equal(sse_parser_feed(parser, SVC_LIT("\n\n")), RC_OK);
    assert_int_equal(seen, SSE_PARSER_MAX_BYTES - 6);
    assert_int_equal(sse_parser_feed(parser, SVC_LIT("data: ")), RC_OK);
    assert_int_equal(feed_long(parser, SSE_PARSER_MAX_BYTES - 5), RC_TOO_BIG);
    sse_parser_destroy(&parser);
}

static void
refuses_an_event_of_too_many_lines(void **state)
{
    (void)state;
    size_t seen = 0;
    sse_parser_t *parser = sse_parser_new(count_bytes, &seen);
    svc_rc rc = RC_OK;

    for (int i = 0; i < 17 && rc == RC_OK; i++) {
        assert_int_equal(sse_parser_feed(parser, SVC_LIT("data: ")), RC_OK);
        rc = feed_long(parser, 1 << 20);
        if (rc == RC_OK)
            rc = sse_parser_feed(parser, SVC_LIT("\n"));
    }
    assert_int_equal(rc, RC_TOO_BIG);
    assert_int_equal(seen, 0);
    sse_parser_destroy(&parser);
    sse_parser_destroy(&parser);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_same_events_however_the_stream_is_cut),
        cmocka_unit_test(gives_an_event_with_its_blank_line_and_not_before),
        cmocka_unit_test(takes_a_line_of_16_mb_and_refuses_a_longer_one),
        cmocka_unit_test(refuses_an_event_of_too_many_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
