/* test_chunk_parser.c - chunks as providers really send them.
 *
 * Decoys around the text, nulls for nothing, errors in all their shapes, several in one
 * event. */
#include "llm-svc/chunk_parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static chunk_t
parse(const char *text)
{
    svc_str rest = svc_str_c(text);
    chunk_t chunk;

    assert_int_equal(chunk_next(&rest, &chunk), RC_OK);
    return chunk;
}

#define assert_str(view, text) assert_true(svc_str_eq((view), SVC_LIT(text)))

static void
reads_the_text_of_a_chunk(void **state)
{
    (void)state;
    chunk_t c = parse(
        "{\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
        "\"content\":\"Hi\\n\"},\"finish_reason\":null}]}");
    assert_str(c.content, "Hi\\n");
    assert_str(c.finish, "");
    assert_false(c.is_error || c.done || c.has_usage);
    c = parse("{\"choices\":[{\"finish_reason\":\"stop\",\"delta\":{}}]}");
    assert_str(c.finish, "stop");
    assert_str(c.content, "");
    assert_true(parse(" [DONE] ").done);
}

static void
reads_only_the_places_that_count(void **state)
{
    (void)state;
    chunk_t c = parse(
        "{\"content\":\"decoy\",\"delta\":{\"content\":\"decoy\"},\"x\":\"\\\"content\\\":\\\"decoy\\\"\","
        "\"choices\":[{\"logprobs\":{\"content\":[{\"token\":\"decoy\",\"delta\":{\"content\":\"decoy\"}}]},"
        "\"message\":null,\"delta\":{\"annotations\":[{\"content\":\"decoy\"}],\"content\":\"real\","
        "\"extra\":{\"content\":\"decoy\"}}},{\"delta\":{\"content\":\"second\"}}]}");
    assert_str(c.content, "real");
    c = parse("{\"\\u0063hoices\":[{\"delta\":{\"con\\u0074ent\":\"escaped key\"}}]}");
    assert_str(c.content, "escaped key");
}

/* The text of a chunk, in a buffer that is good until the next call. */
static svc_str
text_of(const char *json)
{
    static char room[200];
    text_decoder_t decoder = {0};
    svc_buf_t out;
    chunk_t c = parse(json);

    svc_buf_init(&out, sizeof(room));
    assert_int_equal(chunk_text(&c, &decoder, &out), RC_OK);
    assert_int_equal(text_decoder_end(&decoder, &out), RC_OK);
    size_t n = out.n;
    if (n > 0)
        memcpy(room, out.p, n);
    svc_buf_fini(&out);
    return (svc_str){room, n};
}

#define DELTA(content) "{\"choices\":[{\"delta\":{\"content\":" content "}}]}"

static void
reads_the_text_of_content_that_comes_in_parts(void **state)
{
    (void)state;

    assert_str(text_of(DELTA("\"plain\\n\"")), "plain\n");
    assert_str(text_of(DELTA("[{\"type\":\"text\",\"text\":\"one \"},"
                             " {\"text\":\"t\\u0077o \",\"type\":\"t\\u0065xt\"},"
                             "{\"text\":\"three\"}]")),
               "one two three");
    assert_str(text_of("{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\","
                       "\"text\":\"all\"}]}}]}"),
               "all");
    /* one character that is cut between two parts */
    assert_str(text_of(DELTA("[{\"type\":\"text\",\"text\":\"\\ud83d\"},"
                             "{\"type\":\"text\",\"text\":\"\\ude00\"}]")),
               "\xF0\x9F\x98\x80");
}

static void
takes_other_parts_for_no_text(void **state)
{
    (void)state;

    assert_str(
        text_of(DELTA(
            "[{\"type\":\"thinking\",\"text\":\"no\",\"thinking\":[{\"type\":\"text\","
            "\"text\":\"no\"}]},{\"type\":\"text\",\"text\":\"yes\",\"text2\":\"no\"},"
            "{\"type\":\"image_url\",\"image_url\":{\"text\":\"no\"}},\"no\",7,null,[\"no\"],"
            "{\"type\":\"text\",\"text\":null},{\"type\":\"text\",\"text\":[\"no\"]}]")),
        "yes");
    assert_int_equal(parse(DELTA("[]")).content.n, 0);
    assert_int_equal(parse(DELTA("[{\"type\":\"thinking\",\"text\":\"no\"}]")).content.n,
                     0);
    assert_str(text_of("{\"choices\":[{\"delta\":{\"content\":[{\"text\":\"no\"}],"
                       "\"content\":\"the last one\"}}]}"),
               "the last one");
    assert_str(text_of("{\"choices\":[{\"delta\":{\"content\":\"no\","
                       "\"content\":[{\"text\":\"the last one\"}]}}]}"),
               "the last one");
}

static void
tells_when_the_text_of_parts_has_no_room(void **state)
{
    (void)state;
    text_decoder_t decoder = {0};
    svc_buf_t out;
    chunk_t c = parse(
        DELTA("[{\"text\":\"1234\"},{\"text\":\"5678\"},{\"text\":\"9\"}]"));

    svc_buf_init(&out, 6);
    assert_int_equal(chunk_text(&c, &decoder, &out), RC_TOO_BIG);
    svc_buf_fini(&out);
}

static void
takes_null_and_absence_as_nothing(void **state)
{
    (void)state;
    static const char *const empty[] = {
        "{}",
        "[]",
        "null",
        "7",
        "{\"choices\":[]}",
        "{\"choices\":null}",
        "{\"choices\":[null]}",
        "{\"choices\":[{\"delta\":null,\"finish_reason\":\"\"}],\"error\":null,\"usage\":null}",
        "{\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"hm\"}}]}",
        "{\"choices\":{\"delta\":1},\"error\":false}",
        "{\"choices\":[{\"delta\":{\"content\":7}}]}",
    };

    for (size_t i = 0; i < SVC_COUNT(empty); i++) {
        chunk_t c = parse(empty[i]);
        assert_int_equal(c.content.n + c.finish.n, 0);
        assert_false(c.is_error || c.done || c.has_usage);
    }
}

static void
reads_usage_and_its_odd_numbers(void **state)
{
    (void)state;
    chunk_t c = parse(
        "{\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7.0,"
        "\"total_tokens\":99999999999999999999999,\"details\":{\"total_tokens\":1}}}");
    assert_true(c.has_usage);
    assert_int_equal(c.usage.prompt, 11);
    assert_int_equal(c.usage.completion, 7);
    assert_int_equal(c.usage.total, 0);
    assert_int_equal(parse("{\"usage\":{\"total_tokens\":-4}}").usage.total, 0);
}

static void
reads_an_answer_that_is_no_stream(void **state)
{
    (void)state;
    chunk_t c = parse(
        "{\"object\":\"chat.completion\",\"choices\":[{\"message\":{\"content\":\"all\"},"
        "\"finish_reason\":\"length\"}]}");
    assert_str(c.content, "all");
    assert_str(c.finish, "length");
}

static void
finds_errors_in_all_their_shapes(void **state)
{
    (void)state;
    chunk_t c = parse("{\"error\":{\"message\":\"no\",\"code\":429}}");
    assert_true(c.is_error);
    assert_str(c.error, "no");
    assert_int_equal(c.error_status, 429);
    assert_int_equal(parse("{\"error\":{\"code\":\"401\"}}").error_status, 401);
    assert_int_equal(parse("{\"error\":{\"code\":\"invalid_key\"}}").error_status, 0);
    assert_str(parse("{\"error\":\"plain\"}").error, "plain");
    assert_str(parse("[{\"error\":{\"message\":\"listed\"}}]").error, "listed");
    assert_str(parse("{\"object\":\"error\",\"message\":\"top\"}").error, "top");
    assert_true(parse("{\"error\":{}}").is_error);
}

static void
walks_through_several_chunks_of_one_event(void **state)
{
    (void)state;
    svc_str rest = SVC_LIT("{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n"
                           "{\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n[DONE]\n");
    chunk_t c;

    assert_int_equal(chunk_next(&rest, &c), RC_OK);
    assert_str(c.content, "a");
    assert_int_equal(chunk_next(&rest, &c), RC_OK);
    assert_str(c.content, "b");
    assert_int_equal(chunk_next(&rest, &c), RC_OK);
    assert_true(c.done);
    assert_int_equal(chunk_next(&rest, &c), RC_NOT_FOUND);
}

static void
refuses_a_broken_chunk_as_a_whole(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "{\"choices\":[{\"delta\":{\"content\":\"x\"",
        "{\"choices\":[{\"delta\":{\"content\":\"lost",
        "hello",
        "[DONE",
        "{\"choices\":[{\"delta\":{\"content\":\"\\q\"}}]}",
        "{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"lost\"",
        "{\"choices\":[{\"delta\":{\"content\":[{\"text\":\"lost\"}}}]}",
        "{\"choices\":[{\"delta\":{\"content\":[{\"text\" \"lost\"}]}}]}",
    };

    for (size_t i = 0; i < SVC_COUNT(broken); i++) {
        svc_str rest = svc_str_c(broken[i]);
        chunk_t c;
        assert_int_equal(chunk_next(&rest, &c), RC_INVALID);
    }
}

static void
passes_on_the_message_of_an_error_body(void **state)
{
    (void)state;
    svc_buf_t out;

    svc_buf_init(&out, 100);
    assert_true(
        chunk_error_text(SVC_LIT("{\"error\":{\"message\":\"a\\u4f60b\"}}"), 50, &out));
    assert_str(svc_buf_str(&out), "a\xE4\xBD\xA0"
                                  "b");
    svc_buf_clear(&out);
    assert_true(
        chunk_error_text(SVC_LIT("{\"error\":{\"message\":\"a\\u4f60b\"}}"), 3, &out));
    assert_str(svc_buf_str(&out), "a");
    svc_buf_clear(&out);
    assert_true(chunk_error_text(SVC_LIT("{\"detail\":\"Not Found\"}"), 50, &out));
    assert_str(svc_buf_str(&out), "Not Found");
    assert_false(chunk_error_text(SVC_LIT("<html></html>"), 50, &out));
    assert_false(chunk_error_text(SVC_LIT(""), 50, &out));
    assert_false(chunk_error_text(SVC_LIT("{\"status\":1}"), 50, &out));
    svc_buf_fini(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_text_of_a_chunk),
        cmocka_unit_test(reads_only_the_places_that_count),
        cmocka_unit_test(reads_the_text_of_content_that_comes_in_parts),
        cmocka_unit_test(takes_other_parts_for_no_text),
        cmocka_unit_test(tells_when_the_text_of_parts_has_no_room),
        cmocka_unit_test(takes_null_and_absence_as_nothing),
        cmocka_unit_test(reads_usage_and_its_odd_numbers),
        cmocka_unit_test(reads_an_answer_that_is_no_stream),
        cmocka_unit_test(finds_errors_in_all_their_shapes),
        cmocka_unit_test(walks_through_several_chunks_of_one_event),
        cmocka_unit_test(refuses_a_broken_chunk_as_a_whole),
        cmocka_unit_test(passes_on_the_message_of_an_error_body),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
