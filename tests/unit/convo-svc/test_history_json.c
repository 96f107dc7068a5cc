/* test_history_json.c - pages that add up to one body.
 *
 * However small the pages are and whatever is in the texts. */
#include "convo_fixture.h"

#include "convo-svc/history_json.h"

#include <json-c/json.h>

#define SMALL_PAGE 16000

typedef struct {
    folder_t folder;
    convo_store_t *store;
    svc_buf_t body; /* all pages */
} test_t;

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    folder_open(&self->folder);
    self->store = folder_store(&self->folder, true);
    svc_buf_init(&self->body, 64u << 20);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    svc_buf_fini(&self->body);
    convo_store_destroy(&self->store);
    folder_close(&self->folder);
    free(self);
    return 0;
}

/* Reads all pages of at most `max` bytes into self->body; gives how many. */
static size_t
read_history(test_t *self, uint64_t conversation, size_t max, history_job_t *job)
{
    history_req_t req = {.user = USER, .conversation = conversation};
    size_t pages = 0;

    svc_buf_clear(&self->body);
    do {
        svc_buf_t page;

        svc_buf_init(&page, max);
        assert_int_equal(history_json_page(self->store, &req, &page, job), RC_OK);
        assert_int_equal(svc_buf_add_str(&self->body, svc_buf_str(&page)), RC_OK);
        svc_buf_fini(&page);
        assert_true(!job->page.more || job->page.next_message > req.message ||
                    job->page.next_offset > req.offset);
        req.message = job->page.next_message;
        req.offset = job->page.next_offset;
        pages++;
    } while (job->page.more);
    return pages;
}

static void
assert_body(const test_t *self, const char *text)
{
    if (!svc_str_eq(svc_buf_str(&self->body), svc_str_c(text)))
        print_error("%.*s\n", (int)self->body.n, self->body.p);
    assert_true(svc_str_eq(svc_buf_str(&self->body), svc_str_c(text)));
}

static void
an_empty_history_has_no_messages(void **state)
{
    test_t *self = *state;
    history_job_t job;

    store_add_conversation(self->store, 9, "a \"title\"");
    assert_int_equal(read_history(self, 9, 32768, &job), 1);
    assert_body(self,
                "{\"conversation_id\":9,\"title\":\"a \\\"title\\\"\",\"model\":\"echo\","
                "\"messages\":[],\"created_time\":1000}");
    assert_true(job.whole);
    assert_int_equal(job.conversation, 9);
    assert_int_equal(job.version, 1);
}

static void
tells_questions_answers_and_their_states(void **state)
{
    test_t *self = *state;
    history_job_t job;

    store_add_conversation(self->store, 9, "t");
    store_turn(self->store, 9, 1, "one\n", "two\t");
    (void)store_ask(self->store, 9, 2, "three");
    assert_int_equal(read_history(self, 9, 32768, &job), 1);
    assert_body(
        self,
        "{\"conversation_id\":9,\"title\":\"t\",\"model\":\"echo\",\"messages\":["
        "{\"role\":\"user\",\"content\":\"one\\n\",\"message_id\":1},"
        "{\"role\":\"assistant\",\"content\":\"two\\t\",\"message_id\":2,\"state\":\"complete\"},"
        "{\"role\":\"user\",\"content\":\"three\",\"message_id\":3},"
        "{\"role\":\"assistant\",\"content\":\"\",\"message_id\":4,\"state\":\"streaming\"}"
        "],\"created_time\":1000}");
    assert_false(job.whole);
    assert_int_equal(
        store_step_answer(self->store, 2, ANSWER_WAITING, 0, "fo", ANSWER_STREAMING),
        RC_OK);
    (void)read_history(self, 9, 32768, &job);
    assert_non_null(memmem(self->body.p, self->body.n,
                           "\"content\":\"fo\",\"message_id\":4,\"state\":\"streaming\"",
                           48));
    assert_int_equal(
        store_step_answer(self->store, 2, ANSWER_STREAMING, 2, "ur", ANSWER_INTERRUPTED),
        RC_OK);
    (void)read_history(self, 9, 32768, &job);
    assert_non_null(
        memmem(self->body.p, self->body.n,
               "\"content\":\"four\",\"message_id\":4,\"state\":\"interrupted\"", 52));
    assert_true(job.whole);
}

static void
another_users_conversation_does_not_exist(void **state)
{
    test_t *self = *state;
    history_req_t req = {.user = STRANGER, .conversation = 9};
    history_job_t job;

    store_add_conversation(self->store, 9, "t");
    assert_int_equal(history_json_page(self->store, &req, &self->body, &job),
                     RC_NOT_FOUND);
    req.message = 1;
    assert_int_equal(history_json_page(self->store, &req, &self->body, &job),
                     RC_NOT_FOUND);
    req.conversation = 10;
    assert_int_equal(history_json_page(self->store, &req, &self->body, &job),
                     RC_NOT_FOUND);
}

/* Text of `n` characters: control characters (six bytes when escaped), letters and signs of two to four bytes. */
static char *
make_text(size_t n)
{
    static const char *const letters[] = {
        "a", "\x01", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\\", "\"", "\n"};
    svc_buf_t buf;

    svc_buf_init(&buf, n * 4 + 1);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(
            svc_buf_add_str(&buf, svc_str_c(letters[i * 7 % SVC_COUNT(letters)])), RC_OK);
    assert_int_equal(svc_buf_add(&buf, "", 1), RC_OK);
    return buf.p;
}

static void
assert_content(struct json_object *messages, size_t i, const char *text)
{
    struct json_object *content, *id;

    assert_true(json_object_object_get_ex(json_object_array_get_idx(messages, i),
                                          "content", &content));
    assert_true(json_object_object_get_ex(json_object_array_get_idx(messages, i),
                                          "message_id", &id));
    assert_string_equal(json_object_get_string(content), text);
    assert_int_equal(json_object_get_int64(id), i + 1);
}

static void
long_texts_go_over_many_pages_and_come_out_whole(void **state)
{
    test_t *self = *state;
    char *question = make_text(20000), *answer = make_text(33333);
    struct json_object *body, *messages;
    history_job_t job;

    store_add_conversation(self->store, 9, "t");
    store_turn(self->store, 9, 1, question, answer);
    store_turn(self->store, 9, 2, "x", "");
    store_turn(self->store, 9, 3, answer, question);
    assert_true(read_history(self, 9, SMALL_PAGE, &job) > 20);
    assert_false(job.whole);
    assert_int_equal(svc_buf_add(&self->body, "", 1), RC_OK);
    body = json_tokener_parse(self->body.p);
    assert_non_null(body);
    assert_true(json_object_object_get_ex(body, "messages", &messages));
    assert_int_equal(json_object_array_length(messages), 6);
    assert_content(messages, 0, question);
    assert_content(messages, 1, answer);
    assert_content(messages, 2, "x");
    assert_content(messages, 3, "");
    assert_content(messages, 4, answer);
    assert_content(messages, 5, question);
    json_object_put(body);
    free(question);
    free(answer);
}

static void
a_page_of_any_size_gives_the_same_body(void **state)
{
    test_t *self = *state;
    char *text = make_text(3000);
    history_job_t job;
    svc_buf_t whole;

    store_add_conversation(self->store, 9, "t");
    for (unsigned i = 0; i < 6; i++)
        store_turn(self->store, 9, i, text + 1000, text);
    assert_int_equal(read_history(self, 9, PROTO_JSON_PAGE_MAX_BYTES, &job), 1);
    whole = self->body;
    svc_buf_init(&self->body, 1u << 20);
    for (size_t max = 7000; max < 40000; max += 1777) {
        assert_true(read_history(self, 9, max, &job) > 1);
        assert_true(svc_str_eq(svc_buf_str(&self->body), svc_buf_str(&whole)));
    }
    svc_buf_fini(&whole);
    free(text);
}

static void
bytes_that_are_no_utf8_become_replacement_characters(void **state)
{
    test_t *self = *state;
    history_job_t job;

    store_add_conversation(self->store, 9, "t");
    store_turn(self->store, 9, 1,
               "a\xff"
               "b\xc3",
               "ok");
    (void)read_history(self, 9, 32768, &job);
    assert_non_null(memmem(self->body.p, self->body.n,
                           "\"a\xef\xbf\xbd"
                           "b\xef\xbf\xbd\"",
                           10));
}

/* --- list ------------------------------------------------------------------------------------- */

static size_t
read_list(test_t *self, uint64_t user, size_t max)
{
    list_req_t req = {.user = user};
    size_t pages = 0;

    svc_buf_clear(&self->body);
    do {
        svc_buf_t page;

        svc_buf_init(&page, max);
        assert_int_equal(history_json_list(self->store, &req, &page, &req.cursor), RC_OK);
        assert_int_equal(svc_buf_add_str(&self->body, svc_buf_str(&page)), RC_OK);
        svc_buf_fini(&page);
        pages++;
    } while (req.cursor != 0);
    return pages;
}

static void
lists_conversations_newest_first(void **state)
{
    test_t *self = *state;

    assert_int_equal(read_list(self, USER, 32768), 1);
    assert_body(self, "[]");
    store_add_conversation(self->store, 5, "first");
    store_add_conversation(self->store, 4, "\"second\"");
    assert_int_equal(read_list(self, USER, 32768), 1);
    assert_body(
        self,
        "[{\"conversation_id\":4,\"title\":\"\\\"second\\\"\",\"created_time\":1000},"
        "{\"conversation_id\":5,\"title\":\"first\",\"created_time\":1000}]");
    assert_int_equal(read_list(self, STRANGER, 32768), 1);
    assert_body(self, "[]");
}

static void
a_long_list_goes_over_many_pages(void **state)
{
    test_t *self = *state;
    struct json_object *list;

    for (uint64_t id = 1; id <= 200; id++)
        store_add_conversation(self->store, id, "a title of some length");
    assert_true(read_list(self, USER, 2000) > 5);
    assert_int_equal(svc_buf_add(&self->body, "", 1), RC_OK);
    list = json_tokener_parse(self->body.p);
    assert_non_null(list);
    assert_int_equal(json_object_array_length(list), 200);
    for (size_t i = 0; i < 200; i++) {
        struct json_object *id;

        assert_true(json_object_object_get_ex(json_object_array_get_idx(list, i),
                                              "conversation_id", &id));
        assert_int_equal(json_object_get_int64(id), 200 - i);
    }
    json_object_put(list);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_empty_history_has_no_messages),
        TEST(tells_questions_answers_and_their_states),
        TEST(another_users_conversation_does_not_exist),
        TEST(long_texts_go_over_many_pages_and_come_out_whole),
        TEST(a_page_of_any_size_gives_the_same_body),
        TEST(bytes_that_are_no_utf8_become_replacement_characters),
        TEST(lists_conversations_newest_first),
        TEST(a_long_list_goes_over_many_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
