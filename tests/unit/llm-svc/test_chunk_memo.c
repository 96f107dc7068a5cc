/* test_chunk_memo.c - whatever comes, the memo says what the parser says, and json-c agrees.
 *
 * Answers are made of a few shapes with random texts, then random bytes of them are changed;
 * each chunk is read by one memo (which has seen all before it) and by chunk_next. What is
 * good JSON is read by json-c, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "llm-svc/chunk_memo.h"
#include "proto/utf8.h"

#define RUNS            2000
#define CHUNKS          40
#define CHUNK_MAX_BYTES 1024

static uint64_t dice; /* of the run */

static size_t
roll(size_t below)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (size_t)(dice % below);
}

/* %s is the text. */
static const char *const shapes[] = {
    "{\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"finish_reason\":null}]}",
    "{\"choices\":[{\"delta\":{\"content\":\"decoy\",\"content\":\"%s\"}}]}",
    "{\"choices\":[{\"delta\":{\"content\":\"%s\",\"content\":\"last\"}}]}",
    "{\"choices\":[{\"message\":{\"content\":\"whole\"},\"delta\":{\"content\":\"%s\"}}]}",
    "{\"choices\":[{\"delta\":{\"content\":\"%s\"},\"finish_reason\":\"stop\"}]}",
    "{\"choices\":[{\"delta\":{\"content\":\"%s\"}}],\"usage\":{\"prompt_tokens\":3}}",
    "{\"choices\":[{\"delta\":{\"content\":\"%s\"}}],\"usage\":null} ",
    "{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]}}]}",
    "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}{\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}",
    "{\"error\":{\"message\":\"%s\"}}",
    "\n{\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}",
};

static const char *const texts[] = {"",
                                    "a",
                                    "Hello",
                                    " world",
                                    "\\n",
                                    "\\\"quoted\\\"",
                                    "\\\\",
                                    "\\u00e4",
                                    "\xC3\xA4",
                                    "\\",
                                    "\"",
                                    "\"},\"x\":{\"y\":\"",
                                    "\\u12",
                                    "%s",
                                    "}",
                                    "\x01",
                                    "\xFF",
                                    "12345678",
                                    "1234567\\u0041",
                                    "12345678\\n",
                                    "\\/",
                                    "\"}}]}{\"",
                                    "long, long, long, long text"};

static size_t
make_chunk(const char *shape, char *out)
{
    const char *at = strstr(shape, "%s");
    const char *text = texts[roll(SVC_COUNT(texts))];
    int n = snprintf(out, CHUNK_MAX_BYTES, "%.*s%s%s", (int)(at - shape), shape, text,
                     at + 2);

    assert_true(n > 0 && n < CHUNK_MAX_BYTES);
    if (roll(4) == 0)
        out[roll((size_t)n)] = "\"\\{}[],:aN 0\n"[roll(13)];
    return (size_t)n;
}

/* What json-c finds at choices[0].delta.content; NULL: not there, or no JSON. */
static json_object *
judge(const char *text, size_t n, json_object **top)
{
    json_tokener *tokener = json_tokener_new();
    json_object *value;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    *top = json_tokener_parse_ex(tokener, text, (int)n);
    bool whole = *top != NULL && json_tokener_get_parse_end(tokener) == n;
    json_tokener_free(tokener);
    if (!whole || !json_object_is_type(*top, json_type_object) ||
        !json_object_object_get_ex(*top, "choices", &value) ||
        !json_object_is_type(value, json_type_array))
        return NULL;
    value = json_object_array_get_idx(value, 0);
    if (!json_object_is_type(value, json_type_object) ||
        !json_object_object_get_ex(value, "delta", &value) ||
        !json_object_is_type(value, json_type_object) ||
        !json_object_object_get_ex(value, "content", &value) ||
        !json_object_is_type(value, json_type_string))
        return NULL;
    return value;
}

static void
compare_with_judge(const char *text, size_t n, const chunk_t *chunk)
{
    json_object *top, *value = judge(text, n, &top);
    text_decoder_t decoder = {0};
    svc_buf_t out;

    svc_buf_init(&out, 4 * CHUNK_MAX_BYTES);
    if (value != NULL && json_object_get_string_len(value) > 0 && !chunk->is_parts) {
        assert_int_equal(text_decoder_json(&decoder, chunk->content, &out), RC_OK);
        assert_int_equal(text_decoder_end(&decoder, &out), RC_OK);
        const char *said = json_object_get_string(value);
        /* json-c hands on what is no UTF-8 */
        if (svc_utf8_valid(said, strlen(said)) == strlen(said))
            assert_true(svc_str_eq(svc_buf_str(&out), svc_str_c(said)));
    }
    svc_buf_fini(&out);
    json_object_put(top);
}

static void
assert_same_chunk(const chunk_t *a, const chunk_t *b)
{
    assert_true(svc_str_eq(a->content, b->content));
    assert_true(a->content.n == 0 || a->content.p == b->content.p);
    assert_true(svc_str_eq(a->finish, b->finish));
    assert_true(svc_str_eq(a->error, b->error));
    assert_int_equal(a->done, b->done);
    assert_int_equal(a->is_parts, b->is_parts);
    assert_int_equal(a->has_usage, b->has_usage);
    assert_int_equal(a->is_error, b->is_error);
    assert_int_equal(a->error_status, b->error_status);
    assert_memory_equal(&a->usage, &b->usage, sizeof(a->usage));
}

/* Reads all of `data` both ways. */
static void
read_both(chunk_memo_t *memo, const char *data, size_t n)
{
    svc_str quick = {data, n}, slow = quick;
    chunk_t a, b;
    svc_rc rc;

    do {
        const svc_str before = slow;
        rc = chunk_next(&slow, &b);
        assert_int_equal(chunk_memo_next(memo, &quick, &a), rc);
        assert_ptr_equal(quick.p, slow.p);
        assert_int_equal(quick.n, slow.n);
        if (rc == RC_OK) {
            assert_same_chunk(&a, &b);
            compare_with_judge(before.p, before.n, &a);
        }
    } while (rc == RC_OK);
}

static void
says_what_the_parser_says_of_anything(void **state)
{
    char data[CHUNK_MAX_BYTES];
    (void)state;

    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        chunk_memo_t memo;

        dice = seed * 0x9E3779B97F4A7C15u;
        chunk_memo_init(&memo);
        const char *shape = shapes[roll(SVC_COUNT(shapes))];
        for (int i = 0; i < CHUNKS; i++) {
            if (roll(8) == 0)
                shape = shapes[roll(SVC_COUNT(shapes))];
            read_both(&memo, data, make_chunk(shape, data));
        }
        chunk_memo_fini(&memo);
    }
}

static void
knows_a_chunk_like_the_one_before(void **state)
{
    static const char first[] = "{\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}";
    static const char second[] =
        "{\"choices\":[{\"delta\":{\"content\":\"\\\"you\\\"\"}}]}";
    static const char third[] = "{\"choices\":[{\"delta\":{\"content\":\"!\",\"x\":1}}]}";
    svc_str rest = SVC_LIT(first);
    chunk_memo_t memo;
    chunk_t chunk;
    (void)state;

    chunk_memo_init(&memo);
    assert_int_equal(chunk_memo_next(&memo, &rest, &chunk), RC_OK);
    assert_int_equal(memo.front_n, 33);
    assert_int_equal(memo.around.n, sizeof(first) - 1 - 2);
    rest = SVC_LIT(second);
    assert_int_equal(chunk_memo_next(&memo, &rest, &chunk), RC_OK);
    assert_true(svc_str_eq(chunk.content, SVC_LIT("\\\"you\\\"")));
    assert_int_equal(rest.n, 0);
    rest = SVC_LIT(third);
    assert_int_equal(chunk_memo_next(&memo, &rest, &chunk), RC_OK);
    assert_true(svc_str_eq(chunk.content, SVC_LIT("!")));
    assert_int_equal(memo.around.n, sizeof(third) - 1 - 1);
    chunk_memo_fini(&memo);
}

static void
does_not_remember_what_is_large(void **state)
{
    char data[CHUNK_MEMO_MAX_BYTES + 100];
    chunk_memo_t memo;
    chunk_t chunk;
    (void)state;

    int n = snprintf(data, sizeof(data),
                     "{\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"y\":\"%0*d\"}",
                     CHUNK_MEMO_MAX_BYTES, 7);
    assert_true(n > 0 && (size_t)n < sizeof(data));
    svc_str rest = {data, (size_t)n};
    chunk_memo_init(&memo);
    assert_int_equal(chunk_memo_next(&memo, &rest, &chunk), RC_OK);
    assert_true(svc_str_eq(chunk.content, SVC_LIT("x")));
    assert_int_equal(memo.front_n, 0);
    chunk_memo_fini(&memo);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_the_parser_says_of_anything),
        cmocka_unit_test(knows_a_chunk_like_the_one_before),
        cmocka_unit_test(does_not_remember_what_is_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
