/* test_import_body.c - what the original's Redis holds becomes turns; what cannot is refused, or counted.
 *
 * One row of a table for each kind of body that may come. */
#include "convo-svc/import_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void
assert_text(svc_str got, const char *wanted)
{
    if (!svc_str_eq(got, svc_str_c(wanted)))
        fail_msg("\"%.*s\" instead of \"%s\"", (int)got.n, got.p, wanted);
}

static void
a_conversation_is_read_whole(void **state)
{
    static const char json[] =
        "{\"conversation_id\":329629,\"title\":\"First\",\"model\":\"gpt-4\",\"api_key\":\"sk-1\","
        "\"messages\":[{\"role\":\"system\",\"content\":\"Be kind.\",\"message_id\":0},"
        "{\"role\":\"user\",\"content\":\"one\",\"message_id\":1},"
        "{\"role\":\"assistant\",\"content\":\"two \\u00e9\",\"message_id\":2}],"
        "\"created_time\":1731851729}\n";
    import_body_t body;

    (void)state;
    assert_null(import_body_parse(&body, svc_str_c(json), 329629));
    assert_true(body.has_title);
    assert_text(body.title, "First");
    assert_text(body.model, "gpt-4");
    assert_text(body.api_key, "sk-1");
    assert_text(body.system_prompt, "Be kind.");
    assert_int_equal(body.created_s, 1731851729);
    assert_int_equal(body.n, 1);
    assert_text(body.turns[0].question, "one");
    assert_text(body.turns[0].answer, "two é");
    assert_int_equal(body.unanswered + body.joined + body.left_out, 0);
    import_body_fini(&body);
    import_body_fini(&body);
}

/* Reads messages; gives what became of them as "q=a|q=a". */
static void
assert_turns(const char *messages, const char *wanted, size_t unanswered, size_t joined,
             size_t left_out)
{
    char json[4096], got[1024] = "";
    import_body_t body;

    (void)snprintf(json, sizeof(json), "{\"model\":\"m\",\"messages\":[%s]}", messages);
    assert_null(import_body_parse(&body, svc_str_c(json), 1));
    for (size_t i = 0; i < body.n; i++)
        (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%.*s=%.*s",
                       i > 0 ? "|" : "", (int)body.turns[i].question.n,
                       body.turns[i].question.p, (int)body.turns[i].answer.n,
                       body.turns[i].answer.n == 0 ? "" : body.turns[i].answer.p);
    assert_string_equal(got, wanted);
    assert_int_equal(body.unanswered, unanswered);
    assert_int_equal(body.joined, joined);
    assert_int_equal(body.left_out, left_out);
    import_body_fini(&body);
}

#define M(role, content) "{\"role\":\"" role "\",\"content\":" content "}"

static void
messages_become_turns(void **state)
{
    (void)state;
    assert_turns("", "", 0, 0, 0);
    assert_turns(M("system", "\"s\""), "", 0, 0, 0);
    assert_turns(M("user", "\"q\""), "q=", 1, 0, 0);
    assert_turns(M("user", "\"q\"") "," M("assistant", "\"\""), "q=", 1, 0, 0);
    assert_turns(M("user", "\"\"") "," M("assistant", "\"a\""), "=a", 0, 0, 0);
    assert_turns(M("assistant", "\"a\"") "," M("user", "\"q\""), "q=", 1, 0, 1);
    assert_turns(M("user", "\"p\"") "," M("user", "\"q\"") "," M("assistant", "\"a\""),
                 "p=|q=a", 1, 0, 0);
    assert_turns(M("user", "\"q\"") "," M("assistant", "\"a\"") "," M(
                     "assistant", "\"b\"") "," M("assistant", "\"c\""),
                 "q=a\n\nb\n\nc", 0, 2, 0);
    assert_turns(M("user", "\"q\"") "," M("system", "\"s\"") "," M("tool", "\"t\""),
                 "q=", 1, 0, 2);
    assert_turns(M("user", "null") "," M("user", "[]") ",5,null,{\"role\":\"user\"}", "",
                 0, 0, 5);
}

static void
what_is_none_is_refused_with_its_reason(void **state)
{
    static const struct {
        const char *json, *why;
    } rows[] = {
        {"", "no JSON object"},
        {"[]", "no JSON object"},
        {"null", "no JSON object"},
        {"{\"model\":\"m\"", "no JSON object"},
        {"{\"model\":\"m\"} x", "no JSON object"},
        {"{\"model\":\"m\",\"title\":\"\xff\"}", "no valid UTF-8"},
        {"{}", "no model"},
        {"{\"model\":7}", "no model"},
        {"{\"model\":\"\"}", "no model"},
        {"{\"model\":\"m\",\"conversation_id\":8}", "another conversation"},
        {"{\"model\":\"m\",\"conversation_id\":null}", "another conversation"},
        {"{\"model\":\"m\",\"conversation_id\":\"07\"}", "another conversation"},
        {"{\"model\":\"m\",\"messages\":{}}", "no list"},
    };
    import_body_t body;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        const char *why = import_body_parse(&body, svc_str_c(rows[i].json), 7);

        if (why == NULL || strstr(why, rows[i].why) == NULL)
            fail_msg("%s: %s", rows[i].json, why == NULL ? "taken" : why);
        import_body_fini(&body);
    }
    assert_null(import_body_parse(
        &body,
        svc_str_c("{\"model\":\"m\",\"conversation_id\":\"7\",\"messages\":null} \n"),
        7));
    assert_false(body.has_title);
    import_body_fini(&body);
}

/* A body of one key whose text has n bytes; free() it. */
static char *
make_long(const char *before, size_t n, const char *after)
{
    size_t n_before = strlen(before);
    char *json = svc_alloc(n_before + n + strlen(after) + 1);

    memcpy(json, before, n_before);
    memset(json + n_before, 'x', n);
    memcpy(json + n_before + n, after, strlen(after) + 1);
    return json;
}

static void
what_is_too_long_is_refused_with_its_reason(void **state)
{
    static const struct {
        const char *before;
        size_t max;
        const char *after, *why;
    } rows[] = {
        {"{\"model\":\"", PROTO_MODEL_MAX_BYTES, "\"}", "more than 256 bytes"},
        {"{\"model\":\"m\",\"api_key\":\"", PROTO_API_KEY_MAX_BYTES, "\"}",
         "longer than 1024 bytes"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"",
         PROTO_QUESTION_MAX_BYTES, "\"}]}", "longer than 8 MiB"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
         "{\"role\":\"assistant\",\"content\":\"",
         PROTO_ANSWER_MAX_BYTES, "\"}]}", "longer than 16 MiB"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
         "{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"",
         PROTO_ANSWER_MAX_BYTES - 3, "\"}]}", "longer than 16 MiB"},
    };
    import_body_t body;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        for (size_t more = 0; more <= 1; more++) {
            char *json = make_long(rows[i].before, rows[i].max + more, rows[i].after);
            const char *why = import_body_parse(&body, svc_str_c(json), 7);

            if (more == 0 ? why != NULL : why == NULL || strstr(why, rows[i].why) == NULL)
                fail_msg("row %zu + %zu: %s", i, more, why == NULL ? "taken" : why);
            import_body_fini(&body);
            free(json);
        }
    }
}

static void
too_many_values_are_never_given_to_the_parser(void **state)
{
    char *json = make_long("{\"model\":\"m\",\"x\":[", 500000, "]}");
    char *brackets = strchr(json, 'x') + 1;
    import_body_t body;

    (void)state;
    memset(strchr(brackets, 'x'), ',', 500000);
    assert_string_equal(import_body_parse(&body, svc_str_c(json), 7),
                        "what Redis has of it has too many values");
    import_body_fini(&body);
    free(json);
}

static void
ids_and_times_are_numbers_that_make_sense(void **state)
{
    static const char *const none[] = {"",
                                       "0",
                                       "007",
                                       "1x",
                                       "-1",
                                       " 1",
                                       "1.0",
                                       "９",
                                       "9007199254740992",
                                       "99999999999999999"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(none); i++)
        assert_int_equal(import_id(svc_str_c(none[i])), 0);
    assert_int_equal(import_id(svc_str_c("1")), 1);
    assert_int_equal(import_id(svc_str_c("9007199254740991")), PROTO_ID_MAX);
    assert_int_equal(import_time(1731851729), 1731851729);
    assert_int_equal(import_time(1731851729999), 1731851729);
    assert_int_equal(import_time(INT64_MAX), 0);
    assert_int_equal(import_time(0), 0);
    assert_int_equal(import_time(-5), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_is_read_whole),
        cmocka_unit_test(messages_become_turns),
        cmocka_unit_test(what_is_none_is_refused_with_its_reason),
        cmocka_unit_test(what_is_too_long_is_refused_with_its_reason),
        cmocka_unit_test(too_many_values_are_never_given_to_the_parser),
        cmocka_unit_test(ids_and_times_are_numbers_that_make_sense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
