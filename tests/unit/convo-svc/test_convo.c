/* test_convo.c - the whole service between a gateway and an llm-svc that the test plays.
 *
 * Each operation good, refused and asked by a stranger; answers from question to end. What happens
 * when others, or the service itself, go and come back stands in test_convo_faults.c. */
#include "service_calls.h"

#include <signal.h>
#include <sys/resource.h>

/* --- conversations ---------------------------------------------------------------------------- */

static void
a_stranger_finds_nothing_anywhere(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "mine");
    list_req_t list = {.user = STRANGER};

    ask_and_stream(self, id);
    assert_string_equal(service_call(&self->service, OP_CONVO_LIST, &list_req_schema,
                                     &list, &list_rep_schema, &self->b)
                            ->json,
                        "[]");
    assert_int_equal(history(self, STRANGER, id)->rc, RC_NOT_FOUND);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, STRANGER, id)->rc,
                     RC_NOT_FOUND);
    assert_int_equal(on_conversation(self, OP_CONVO_STOP, STRANGER, id)->rc,
                     RC_NOT_FOUND);
    assert_int_equal(read_text(self, STRANGER, 1, 0)->rc, RC_NOT_FOUND);
    for (unsigned stream = 0; stream <= 1; stream++) {
        send_watch(self, STRANGER, id, stream, &self->b);
        assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NOT_FOUND);
    }
    send_watch(self, USER, id ^ 1, 1, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NOT_FOUND);
    send_ask(self, STRANGER, id, 2, "hello", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NOT_FOUND);
    send_ask(self, STRANGER, id, 1, "hello", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NOT_FOUND);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void
an_answer_goes_from_question_to_end(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;

    ask_and_stream(self, id);
    assert_string_equal(self->service.llm.last, "hello");
    assert_string_equal(self->service.llm.key, "sk-mine");
    assert_string_equal(self->service.llm.model, "echo");
    assert_int_equal(self->service.llm.messages, 2);
    assert_int_equal(self->a.seen[0].status.message, 2);
    assert_int_equal(self->a.seen[1].status.fence, self->service.llm.fence);
    service_llm_final(&self->service, 5, ", you", "stop");
    seen = service_wait(&self->service, &self->a, 3);
    assert_int_equal(seen->kind, PROTO_FINAL);
    assert_int_equal(seen->status.state, ANSWER_COMPLETE);
    assert_int_equal(seen->status.length, 10);
    assert_string_equal(seen->finish, "stop");
    assert_int_equal(seen->status.usage.total, 3);
    fixture_run_until(&self->service.fixture, was_stored, self);
    assert_string_equal(read_text(self, USER, 1, 0)->json, "Hello, you");
    assert_string_equal(read_text(self, USER, 1, 7)->json, "you");
    assert_int_equal(self->c.seen[0].b, 10);
    for (unsigned stream = 0; stream <= 1; stream++) {
        send_watch(self, USER, id, stream, &self->b);
        seen = service_wait(&self->service, &self->b, 1);
        assert_int_equal(seen->kind, PROTO_FINAL);
        assert_int_equal(seen->status.state, ANSWER_COMPLETE);
        assert_string_equal(seen->finish, "stop");
    }
    /* The next question carries the turn. */
    send_ask(self, USER, id, 2, "again", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->status.message, 4);
    fixture_run_until(&self->service.fixture, was_generated_twice, self);
    assert_int_equal(self->service.llm.messages, 4);
}

static void
a_full_disk_refuses_questions_and_goes_on_reading(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    char *text = svc_alloc(500001);
    struct rlimit limit;

    memset(text, 'x', 500000);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 200000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    send_ask(self, USER, id, 1, text, &self->a);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(history(self, USER, id)->rc, RC_OK);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    send_ask(self, USER, id, 1, text, &self->a);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->status.message, 2);
    free(text);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_stranger_finds_nothing_anywhere),
        TEST(an_answer_goes_from_question_to_end),
        TEST(a_full_disk_refuses_questions_and_goes_on_reading),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
