/* test_prompt.c - what a model is sent.
 *
 * System prompt, turns that have an answer, the question, the opened key. */
#include "convo_fixture.h"

#include "convo-svc/prompt.h"

typedef struct {
    folder_t folder;
    convo_store_t *store;
    svc_buf_t out;
    proto_arena_t *arena;
} test_t;

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    folder_open(&self->folder);
    self->store = folder_store(&self->folder, true);
    svc_buf_init(&self->out, PROTO_MESSAGE_MAX_BYTES);
    self->arena = proto_arena_new();
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    svc_buf_fini(&self->out);
    proto_arena_destroy(&self->arena);
    convo_store_destroy(&self->store);
    folder_close(&self->folder);
    free(self);
    return 0;
}

static svc_rc
build(test_t *self, unsigned stream, uint64_t fence, generate_req_t *out)
{
    char room[PROTO_STREAM_BYTES];
    prompt_job_t job = {stream_of(room, stream), fence};
    svc_rc rc;

    svc_buf_clear(&self->out);
    rc = prompt_build(self->store, &self->folder.workers, &job, &self->out);
    if (rc == RC_OK)
        assert_int_equal(
            proto_decode(&generate_req_schema, svc_buf_str(&self->out), self->arena, out),
            RC_OK);
    return rc;
}

static void
assert_message(const generate_req_t *req, size_t i, int role, const char *text)
{
    const prompt_message_t *messages = req->messages.items;

    assert_true(i < req->messages.n);
    assert_int_equal(messages[i].role, role);
    assert_true(svc_str_eq(messages[i].text, svc_str_c(text)));
}

static void
sends_system_prompt_turns_and_question(void **state)
{
    test_t *self = *state;
    generate_req_t req;

    store_add_conversation(self->store, 1, "t");
    store_turn(self->store, 1, 1, "one", "two");
    store_turn(self->store, 1, 2, "left out", "");
    store_turn(self->store, 1, 3, "three", "four");
    (void)store_ask(self->store, 1, 4, "five");
    assert_int_equal(build(self, 4, 104, &req), RC_OK);
    assert_int_equal(req.messages.n, 6);
    assert_message(&req, 0, ROLE_SYSTEM, "Be kind.");
    assert_message(&req, 1, ROLE_USER, "one");
    assert_message(&req, 2, ROLE_ASSISTANT, "two");
    assert_message(&req, 3, ROLE_USER, "three");
    assert_message(&req, 4, ROLE_ASSISTANT, "four");
    assert_message(&req, 5, ROLE_USER, "five");
    assert_true(svc_str_eq(req.model, SVC_LIT("echo")));
    assert_int_equal(req.key.n, 0);
    assert_int_equal(req.fence, 104);
    assert_int_equal(req.term, 1);
}

static void
leaves_out_an_empty_system_prompt(void **state)
{
    test_t *self = *state;
    generate_req_t req;

    self->folder.workers.system_prompt = (svc_str){NULL, 0};
    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "one");
    assert_int_equal(build(self, 1, 101, &req), RC_OK);
    assert_int_equal(req.messages.n, 1);
    assert_message(&req, 0, ROLE_USER, "one");
}

static void
sends_the_conversations_own_key_opened(void **state)
{
    test_t *self = *state;
    conversation_row_t row = {
        .id = 1, .user = USER, .model = SVC_LIT("gpt-4"), .version = 1};
    svc_buf_t sealed;
    generate_req_t req;

    svc_buf_init(&sealed, SEAL_MAX_BYTES);
    assert_int_equal(seal_close(&self->folder.seal, SVC_LIT("sk-mine"), &sealed), RC_OK);
    row.sealed_key = svc_buf_str(&sealed);
    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_add(self->store, &row), RC_OK);
    store_commit(self->store);
    (void)store_ask(self->store, 1, 1, "one");
    assert_int_equal(build(self, 1, 101, &req), RC_OK);
    assert_true(svc_str_eq(req.key, SVC_LIT("sk-mine")));
    self->folder.seal.id[0] ^= 1;
    assert_int_equal(build(self, 1, 101, &req), RC_INVALID);
    svc_buf_fini(&sealed);
}

static void
refuses_another_fence_a_started_answer_and_an_unknown_stream(void **state)
{
    test_t *self = *state;
    generate_req_t req;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "one");
    assert_int_equal(build(self, 1, 102, &req), RC_STALE);
    assert_int_equal(build(self, 2, 101, &req), RC_STALE);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "x", ANSWER_STREAMING),
        RC_OK);
    assert_int_equal(build(self, 1, 101, &req), RC_STALE);
}

static void
a_prompt_past_the_bound_is_too_big(void **state)
{
    test_t *self = *state;
    char *text = svc_alloc(PROTO_QUESTION_MAX_BYTES + 1);
    generate_req_t req;

    memset(text, 'x', PROTO_QUESTION_MAX_BYTES);
    store_add_conversation(self->store, 1, "t");
    for (unsigned i = 0; i < 4; i++)
        store_turn(self->store, 1, i, text, "a");
    (void)store_ask(self->store, 1, 9, "last");
    assert_int_equal(build(self, 9, 109, &req), RC_TOO_BIG);
    free(text);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(sends_system_prompt_turns_and_question),
        TEST(leaves_out_an_empty_system_prompt),
        TEST(sends_the_conversations_own_key_opened),
        TEST(refuses_another_fence_a_started_answer_and_an_unknown_stream),
        TEST(a_prompt_past_the_bound_is_too_big),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
