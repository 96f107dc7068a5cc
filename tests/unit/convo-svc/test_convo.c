/* test_convo.c - the whole service between a gateway and an llm-svc that the test plays.
 *
 * Each operation good, refused and asked by a stranger; answers from question to end; llm-svc and
 * convo-svc itself that go and come back. */
#include "service_fixture.h"

#include <signal.h>
#include <sys/resource.h>

typedef struct {
    service_t service; /* first */
    outcome_t a, b, c; /* calls at the same time */
    char room[PROTO_STREAM_BYTES];
} test_t;

static int
setup_with(void **state, const char *more, bool with_llm)
{
    test_t *self = svc_alloc(sizeof(*self));

    service_open(&self->service, more, with_llm);
    *state = self;
    return 0;
}

static int
setup(void **state)
{
    return setup_with(state, "", true);
}

static int
setup_without_llm(void **state)
{
    return setup_with(state, "", false);
}

static int
setup_with_dead_redis(void **state)
{
    return setup_with(state, "redis: {address: \"127.0.0.1:1\"}\n", true);
}

static int
teardown(void **state)
{
    test_t *self = *state;

    service_close(&self->service);
    outcome_clear(&self->a);
    outcome_clear(&self->b);
    outcome_clear(&self->c);
    free(self);
    return 0;
}

/* --- requests --------------------------------------------------------------------------------- */

static uint64_t
create(test_t *self, const char *title)
{
    create_req_t req = {USER, svc_str_c(title), SVC_LIT("echo"), SVC_LIT("sk-mine")};
    const seen_t *seen = service_call(&self->service, OP_CONVO_CREATE, &create_req_schema,
                                      &req, &create_rep_schema, &self->c);

    assert_int_equal(seen->rc, RC_OK);
    assert_true(seen->b > 1600000000);
    return seen->a;
}

static void
send_ask(test_t *self, uint64_t user, uint64_t conversation, unsigned stream,
         const char *text, outcome_t *out)
{
    ask_req_t req = {user, conversation, svc_str_c(text), stream_of(self->room, stream)};

    service_send(&self->service, OP_CONVO_ASK, &ask_req_schema, &req, &status_rep_schema,
                 out);
}

static void
send_watch(test_t *self, uint64_t user, uint64_t conversation, unsigned stream,
           outcome_t *out)
{
    watch_req_t req = {user, conversation,
                       stream == 0 ? (svc_str){NULL, 0} : stream_of(self->room, stream)};

    service_send(&self->service, OP_CONVO_WATCH, &watch_req_schema, &req,
                 &status_rep_schema, out);
}

static const seen_t *
history(test_t *self, uint64_t user, uint64_t conversation)
{
    history_req_t req = {.user = user, .conversation = conversation};

    return service_call(&self->service, OP_CONVO_HISTORY, &history_req_schema, &req,
                        &history_rep_schema, &self->c);
}

static const seen_t *
on_conversation(test_t *self, const char *op, uint64_t user, uint64_t conversation)
{
    conversation_req_t req = {user, conversation};
    const proto_schema_t *rep = strcmp(op, OP_CONVO_STOP) == 0 ? &status_rep_schema
                                                               : &empty_schema;

    return service_call(&self->service, op, &conversation_req_schema, &req, rep,
                        &self->c);
}

static const seen_t *
read_text(test_t *self, uint64_t user, unsigned stream, uint64_t from)
{
    read_req_t req = {user, stream_of(self->room, stream), from};

    return service_call(&self->service, OP_CONVO_READ, &read_req_schema, &req,
                        &read_rep_schema, &self->c);
}

/* --- what is waited for ----------------------------------------------------------------------- */

static bool
was_generated(void *arg)
{
    const test_t *self = arg;

    return self->service.llm.generates > 0 && self->service.llm.call != 0;
}

static bool
was_generated_twice(void *arg)
{
    const test_t *self = arg;

    return self->service.llm.generates > 1 && self->service.llm.call != 0;
}

static bool
was_attached(void *arg)
{
    const test_t *self = arg;

    return self->service.llm.attaches > 0 && self->service.llm.call != 0;
}

static bool
was_stored(void *arg)
{
    return ((test_t *)arg)->service.llm.stored;
}

static bool
was_stopped(void *arg)
{
    return ((test_t *)arg)->service.llm.stops > 0;
}

static bool
acked_five(void *arg)
{
    return ((test_t *)arg)->service.llm.journaled == 5;
}

/* Asks "hello" as stream 1 (self->a) and waits until llm-svc has it. */
static void
ask_and_wait(test_t *self, uint64_t conversation)
{
    send_ask(self, USER, conversation, 1, "hello", &self->a);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
    assert_int_equal(self->a.seen[0].kind, PROTO_PARTIAL);
    assert_int_equal(self->a.seen[0].status.state, ANSWER_WAITING);
    fixture_run_until(&self->service.fixture, was_generated, self);
}

/* The same, and "Hello" is journaled. */
static void
ask_and_stream(test_t *self, uint64_t conversation)
{
    ask_and_wait(self, conversation);
    service_llm_piece(&self->service, 0, "Hello");
    fixture_run_until(&self->service.fixture, acked_five, self);
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_STREAMING);
}

/* --- conversations ---------------------------------------------------------------------------- */

static void
creates_lists_shows_and_deletes_conversations(void **state)
{
    test_t *self = *state;
    uint64_t first = create(self, "first"), second = create(self, "second");
    list_req_t list = {.user = USER};
    char text[300];
    const seen_t *seen;

    seen = service_call(&self->service, OP_CONVO_LIST, &list_req_schema, &list,
                        &list_rep_schema, &self->a);
    assert_non_null(strstr(seen->json, "\"title\":\"second\""));
    assert_true(strstr(seen->json, "\"second\"") < strstr(seen->json, "\"first\""));
    assert_int_equal(seen->a, 0);
    seen = history(self, USER, first);
    snprintf(
        text, sizeof(text),
        "{\"conversation_id\":%llu,\"title\":\"first\",\"model\":\"echo\",\"messages\":[],",
        (unsigned long long)first);
    assert_non_null(strstr(seen->json, text));
    assert_null(strstr(seen->json, "sk-mine"));
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, first)->rc, RC_OK);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, first)->rc,
                     RC_NOT_FOUND);
    assert_int_equal(history(self, USER, first)->rc, RC_NOT_FOUND);
    assert_int_equal(history(self, USER, second)->rc, RC_OK);
}

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
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_CONFLICT);
}

static void
a_long_history_comes_in_pages(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    char *text = svc_alloc(900001);
    history_req_t req = {.user = USER, .conversation = id};
    svc_buf_t body;
    const seen_t *seen;
    int pages = 0;

    memset(text, 'x', 900000);
    ask_and_wait(self, id);
    service_llm_final(&self->service, 0, text, "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_COMPLETE);
    svc_buf_init(&body, 1u << 21);
    do {
        seen = service_call(&self->service, OP_CONVO_HISTORY, &history_req_schema, &req,
                            &history_rep_schema, &self->c);
        assert_int_equal(seen->rc, RC_OK);
        assert_int_equal(svc_buf_add(&body, seen->json, seen->json_n), RC_OK);
        req.message = seen->a;
        req.offset = seen->b;
        pages++;
    } while (seen->more);
    assert_int_equal(pages, 2);
    assert_non_null(memmem(body.p, body.n, text, 900000));
    assert_memory_equal(body.p + body.n - 1, "}", 1);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_CACHE_HITS), 0);
    svc_buf_fini(&body);
    free(text);
}

static void
a_history_is_cached_until_its_version_changes(void **state)
{
    test_t *self = *state;
    fixture_t *fixture = &self->service.fixture;
    uint64_t id = create(self, "t");
    char *first;

    first = svc_str_dup(svc_str_c(history(self, USER, id)->json));
    assert_int_equal(fixture_count(fixture, SVC_M_CACHE_HITS), 0);
    assert_string_equal(history(self, USER, id)->json, first);
    assert_int_equal(fixture_count(fixture, SVC_M_CACHE_HITS), 1);
    assert_int_equal(history(self, STRANGER, id)->rc, RC_NOT_FOUND);
    ask_and_stream(self, id);
    assert_non_null(strstr(history(self, USER, id)->json,
                           "\"Hello\",\"message_id\":2,\"state\":\"streaming\""));
    service_llm_piece(&self->service, 5, "!");
    service_llm_final(&self->service, 6, "", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 3)->status.state,
                     ANSWER_COMPLETE);
    for (uint64_t hits = 1; hits <= 2; hits++) {
        assert_non_null(strstr(history(self, USER, id)->json,
                               "\"Hello!\",\"message_id\":2,\"state\":\"complete\""));
        assert_int_equal(fixture_count(fixture, SVC_M_CACHE_HITS), hits);
    }
    free(first);
}

static void
redis_that_is_away_changes_no_answer(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    for (int i = 0; i < 3; i++)
        assert_int_equal(history(self, USER, id)->rc, RC_OK);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, id)->rc, RC_OK);
    assert_int_equal(history(self, USER, id)->rc, RC_NOT_FOUND);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_CACHE_HITS), 0);
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
    fixture_run_until(&self->service.fixture, was_generated_twice, self);
    assert_int_equal(self->service.llm.messages, 4);
    assert_int_equal(self->b.seen[0].status.message, 4);
}

static void
asking_the_same_again_joins_and_another_question_waits_its_turn(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;

    ask_and_stream(self, id);
    send_ask(self, USER, id, 1, "hello", &self->b);
    seen = service_wait(&self->service, &self->b, 1);
    assert_int_equal(seen->status.state, ANSWER_STREAMING);
    assert_int_equal(seen->status.length, 5);
    send_ask(self, USER, id, 2, "and?", &self->c);
    seen = service_wait(&self->service, &self->c, 1);
    assert_int_equal(seen->rc, RC_ANSWERING);
    assert_true(strlen(seen->error) > 0);
    send_ask(self, USER, id, 1, "other words", &self->c);
    assert_int_equal(service_wait(&self->service, &self->c, 1)->rc, RC_CONFLICT);
    service_llm_final(&self->service, 5, "", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 3)->kind, PROTO_FINAL);
    assert_int_equal(service_wait(&self->service, &self->b, 2)->kind, PROTO_FINAL);
    send_ask(self, USER, id, 1, "hello", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->kind, PROTO_FINAL);
    assert_int_equal(self->service.llm.generates, 1);
}

static void
watchers_hear_every_change(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    send_watch(self, USER, id, 0, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NOT_FOUND);
    send_watch(self, USER, id, 1, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NOT_FOUND);
    ask_and_wait(self, id);
    send_watch(self, USER, id, 0, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->status.state,
                     ANSWER_WAITING);
    service_llm_piece(&self->service, 0, "Hello");
    assert_int_equal(service_wait(&self->service, &self->b, 2)->status.state,
                     ANSWER_STREAMING);
    service_llm_final(&self->service, 5, "", "stop");
    assert_int_equal(service_wait(&self->service, &self->b, 3)->status.state,
                     ANSWER_COMPLETE);
    assert_int_equal(service_wait(&self->service, &self->a, 3)->status.state,
                     ANSWER_COMPLETE);
}

static void
a_stop_ends_the_answer_and_may_be_repeated(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    conversation_req_t req = {USER, id};
    const seen_t *seen;

    assert_int_equal(on_conversation(self, OP_CONVO_STOP, USER, id)->rc, RC_NOT_FOUND);
    ask_and_stream(self, id);
    service_send(&self->service, OP_CONVO_STOP, &conversation_req_schema, &req,
                 &status_rep_schema, &self->b);
    fixture_run_until(&self->service.fixture, was_stopped, self);
    service_llm_final(&self->service, 5, "", "stopped");
    seen = service_wait(&self->service, &self->b, 1);
    assert_int_equal(seen->kind, PROTO_FINAL);
    assert_int_equal(seen->status.state, ANSWER_STOPPED);
    assert_int_equal(service_wait(&self->service, &self->a, 3)->status.state,
                     ANSWER_STOPPED);
    seen = on_conversation(self, OP_CONVO_STOP, USER, id);
    assert_int_equal(seen->status.state, ANSWER_STOPPED);
    assert_string_equal(seen->finish, "stopped");
}

static void
a_stop_that_takes_long_is_answered_after_2_s(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;

    ask_and_stream(self, id);
    seen = on_conversation(self, OP_CONVO_STOP, USER, id);
    assert_int_equal(seen->kind, PROTO_FINAL);
    assert_int_equal(seen->status.state, ANSWER_STREAMING);
    assert_true(self->service.llm.stops >= 2);
}

static void
a_deletion_ends_the_answer_for_everybody(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;

    ask_and_stream(self, id);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, id)->rc, RC_OK);
    seen = service_wait(&self->service, &self->a, 3);
    assert_int_equal(seen->kind, PROTO_FINAL);
    assert_int_equal(seen->status.state, ANSWER_INTERRUPTED);
    assert_string_equal(seen->reason, "deleted");
    fixture_run_until(&self->service.fixture, was_stopped, self);
    fixture_run_until(&self->service.fixture, was_stored, self);
    assert_int_equal(read_text(self, USER, 1, 0)->rc, RC_NOT_FOUND);
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

static void
requests_that_are_not_well_formed_or_not_allowed_are_refused(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    tail_req_t tail = {stream_of(self->room, 1), 5, 0, SVC_LIT("x")};
    svc_ctx_t ctx = self->service.fixture.ctx;
    list_req_t list = {.user = USER};
    empty_t nothing = {0};
    char endpoint[64];
    char *error = NULL;
    svc_peer_t *gateway = self->service.gateway;

    assert_int_equal(service_call(&self->service, OP_CONVO_ASK, &empty_schema, &nothing,
                                  &status_rep_schema, &self->a)
                         ->rc,
                     RC_INVALID);
    assert_int_equal(service_call(&self->service, OP_CONVO_TAIL, &tail_req_schema, &tail,
                                  &empty_schema, &self->a)
                         ->rc,
                     RC_NOT_FOUND);
    ask_and_stream(self, id);
    tail.stream = stream_of(self->room, 1);
    assert_int_equal(service_call(&self->service, OP_CONVO_TAIL, &tail_req_schema, &tail,
                                  &empty_schema, &self->b)
                         ->rc,
                     RC_STALE);
    tail.fence = self->service.llm.fence;
    assert_int_equal(service_call(&self->service, OP_CONVO_TAIL, &tail_req_schema, &tail,
                                  &empty_schema, &self->b)
                         ->rc,
                     RC_CONFLICT);
    /* llm-svc calls nobody. */
    ctx.service = "llm-svc";
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", self->service.port);
    self->service.gateway = svc_peer_new(&ctx, "convo-svc", endpoint, NULL, NULL, &error);
    fixture_run_until(&self->service.fixture, service_gateway_is_up, &self->service);
    assert_int_equal(service_call(&self->service, OP_CONVO_LIST, &list_req_schema, &list,
                                  &list_rep_schema, &self->b)
                         ->rc,
                     RC_FORBIDDEN);
    svc_peer_destroy(&self->service.gateway);
    self->service.gateway = gateway;
}

/* --- llm-svc goes and comes ------------------------------------------------------------------- */

static void
a_question_without_llm_svc_is_refused_and_leaves_no_trace(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;

    send_ask(self, USER, id, 1, "hello", &self->a);
    seen = service_wait(&self->service, &self->a, 1);
    assert_int_equal(seen->kind, PROTO_ERROR);
    assert_int_equal(seen->rc, RC_UNAVAILABLE);
    assert_non_null(strstr(history(self, USER, id)->json, "\"messages\":[]"));
}

static void
a_question_is_held_until_llm_svc_is_back(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    send_ask(self, USER, id, 1, "hello", &self->a);
    /* Handled after the question, on the same connection: so the question is held by now. */
    assert_non_null(strstr(history(self, USER, id)->json, "\"messages\":[]"));
    assert_int_equal(self->a.n, 0);
    service_start_llm(&self->service, 500);
    fixture_run_until(&self->service.fixture, was_generated, self);
    service_llm_final(&self->service, 0, "Hi", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_COMPLETE);
}

static void
questions_that_are_held_have_bounded_bytes_together(void **state)
{
    test_t *self = *state;
    const convo_t *convo = self->service.convo;
    uint64_t id = create(self, "t");
    size_t n = CONVO_HELD_MAX_BYTES / 3;
    char *text = svc_alloc(n + 1);

    memset(text, 'x', n);
    send_ask(self, USER, id, 1, text, &self->a);
    send_ask(self, USER, id, 2, text, &self->b);
    (void)history(self, USER, id);
    assert_int_equal(convo->n_held, 2);
    send_ask(self, USER, id, 3, text,
             &self->c); /* the bodies are more than their texts */
    assert_int_equal(service_wait(&self->service, &self->c, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(self->a.n + self->b.n, 0);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(convo->held_bytes, 0);
    send_ask(self, USER, id, 4, text, &self->a);
    (void)history(self, USER, id);
    assert_int_equal(convo->n_held, 1); /* there is room again */
    free(text);
}

static void
an_answer_that_waits_for_llm_svc_is_stopped_at_once(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    service_start_llm(&self->service, 500);
    fixture_run_until(&self->service.fixture, service_llm_is_up, &self->service);
    ask_and_wait(self, id);
    service_stop_llm(&self->service);
    (void)service_wait(&self->service, &self->a, 2);
    assert_int_equal(on_conversation(self, OP_CONVO_STOP, USER, id)->status.state,
                     ANSWER_STOPPED);
    assert_int_equal(service_wait(&self->service, &self->a, 3)->status.state,
                     ANSWER_STOPPED);
}

static void
a_waiting_answer_survives_the_loss_of_llm_svc(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), fence;

    ask_and_wait(self, id);
    fence = self->service.llm.fence;
    service_stop_llm(&self->service);
    service_start_llm(&self->service, 501);
    fixture_run_until(&self->service.fixture, was_generated_twice, self);
    assert_int_not_equal(self->service.llm.fence, fence);
    assert_int_equal(self->service.llm.fence >> 48, 2);
    service_llm_final(&self->service, 0, "Hi", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 3)->status.state,
                     ANSWER_COMPLETE);
    assert_int_equal(self->a.seen[1].status.state, ANSWER_WAITING);
    assert_int_equal(self->a.seen[1].status.fence, self->service.llm.fence);
}

static void
a_streaming_answer_ends_with_the_tail_when_llm_svc_is_lost(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    tail_req_t tail = {.from = 5, .bytes = SVC_LIT(", shown")};
    const seen_t *seen;

    ask_and_stream(self, id);
    service_stop_llm(&self->service);
    seen = service_wait(&self->service, &self->a, 3);
    assert_int_equal(seen->kind, PROTO_PARTIAL);
    assert_true(seen->status.lost);
    tail.stream = stream_of(self->room, 1);
    tail.fence = seen->status.fence;
    assert_int_equal(service_call(&self->service, OP_CONVO_TAIL, &tail_req_schema, &tail,
                                  &empty_schema, &self->b)
                         ->rc,
                     RC_OK);
    seen = service_wait(&self->service, &self->a, 4);
    assert_int_equal(seen->status.state, ANSWER_INTERRUPTED);
    assert_string_equal(seen->reason, "interrupted");
    assert_string_equal(read_text(self, USER, 1, 0)->json, "Hello, shown");
}

/* --- convo-svc goes and comes ----------------------------------------------------------------- */

static void
an_answer_goes_on_after_a_restart_of_convo_svc(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    ask_and_stream(self, id);
    service_stop_convo(&self->service);
    self->service.llm.call = 0;
    service_start_convo(&self->service);
    fixture_run_until(&self->service.fixture, was_attached, self);
    assert_int_equal(self->service.llm.from, 5);
    send_watch(self, USER, id, 1, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->status.state,
                     ANSWER_STREAMING);
    service_llm_final(&self->service, 5, "!", "stop");
    assert_int_equal(service_wait(&self->service, &self->b, 2)->status.state,
                     ANSWER_COMPLETE);
    assert_string_equal(read_text(self, USER, 1, 0)->json, "Hello!");
}

static void
an_answer_that_nobody_knows_after_a_restart_ends_truthfully(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;

    ask_and_stream(self, id);
    service_stop_convo(&self->service);
    self->service.llm.answer = RC_NOT_FOUND;
    service_start_convo(&self->service);
    send_watch(self, USER, id, 1, &self->b);
    while ((seen = service_wait(&self->service, &self->b, self->b.n + 1))->kind !=
           PROTO_FINAL)
        assert_int_equal(seen->rc, RC_OK);
    assert_int_equal(seen->status.state, ANSWER_INTERRUPTED);
    assert_string_equal(seen->reason, "interrupted");
    assert_string_equal(read_text(self, USER, 1, 0)->json, "Hello");
    send_ask(self, USER, id, 2, "again", &self->a);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
}

static void
a_second_process_and_a_port_in_use_are_refused_with_one_line(void **state)
{
    test_t *self = *state;
    svc_config_t *config = self->service.config;
    char other[128];
    char *right = config->sqlite_path;
    char *error = NULL;

    assert_null(convo_new(&self->service.fixture.ctx, &error));
    assert_non_null(strstr(error, "PostgreSQL"));
    assert_null(strchr(error, '\n'));
    free(error);
    snprintf(other, sizeof(other), "%s/other/convo.db", self->service.folder.path);
    config->sqlite_path = other;
    assert_null(convo_new(&self->service.fixture.ctx, &error));
    assert_non_null(strstr(error, "cannot listen"));
    free(error);
    config->sqlite_path = right;
}

static void
a_wrong_seal_key_is_refused_at_start(void **state)
{
    test_t *self = *state;
    svc_config_t *config = self->service.config;
    char *right = config->convo_seal_key;
    char key[65];
    char *error = NULL;

    service_stop_convo(&self->service);
    memset(key, 'a', 64);
    key[64] = '\0';
    config->convo_seal_key = key;
    assert_null(convo_new(&self->service.fixture.ctx, &error));
    assert_non_null(strstr(error, "convo.seal_key"));
    free(error);
    key[63] = '\0';
    assert_null(convo_new(&self->service.fixture.ctx, &error));
    assert_non_null(strstr(error, "32 bytes"));
    free(error);
    config->convo_seal_key = right;
    service_start_convo(&self->service);
}

static bool
is_draining(void *arg)
{
    return svc_peer_is_draining(((test_t *)arg)->service.gateway);
}

static void
a_drain_takes_no_questions_waits_for_answers_and_ends(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), other = create(self, "other");

    ask_and_stream(self, id);
    convo_drain(self->service.convo);
    fixture_run_until(&self->service.fixture, is_draining, self);
    send_ask(self, USER, other, 2, "too late", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(history(self, USER, id)->rc, RC_OK);
    service_llm_final(&self->service, 5, "!", "stop");
    svc_loop_run(self->service.fixture.ctx.loop); /* ends by itself */
    assert_int_equal(svc_pool_load(self->service.convo->writer), 0);
    assert_int_equal(answers_count(self->service.convo->answers), 0);
}

int
main(void)
{
#define TEST(f)       cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_ALONE(f) cmocka_unit_test_setup_teardown(f, setup_without_llm, teardown)
    const struct CMUnitTest tests[] = {
        TEST(creates_lists_shows_and_deletes_conversations),
        TEST(a_stranger_finds_nothing_anywhere),
        TEST(a_long_history_comes_in_pages),
        TEST(a_history_is_cached_until_its_version_changes),
        cmocka_unit_test_setup_teardown(redis_that_is_away_changes_no_answer,
                                        setup_with_dead_redis, teardown),
        TEST(an_answer_goes_from_question_to_end),
        TEST(asking_the_same_again_joins_and_another_question_waits_its_turn),
        TEST(watchers_hear_every_change),
        TEST(a_stop_ends_the_answer_and_may_be_repeated),
        TEST(a_stop_that_takes_long_is_answered_after_2_s),
        TEST(a_deletion_ends_the_answer_for_everybody),
        TEST(a_full_disk_refuses_questions_and_goes_on_reading),
        TEST(requests_that_are_not_well_formed_or_not_allowed_are_refused),
        TEST_ALONE(a_question_without_llm_svc_is_refused_and_leaves_no_trace),
        TEST_ALONE(a_question_is_held_until_llm_svc_is_back),
        TEST_ALONE(questions_that_are_held_have_bounded_bytes_together),
        TEST_ALONE(an_answer_that_waits_for_llm_svc_is_stopped_at_once),
        TEST(a_waiting_answer_survives_the_loss_of_llm_svc),
        TEST(a_streaming_answer_ends_with_the_tail_when_llm_svc_is_lost),
        TEST(an_answer_goes_on_after_a_restart_of_convo_svc),
        TEST(an_answer_that_nobody_knows_after_a_restart_ends_truthfully),
        TEST(a_second_process_and_a_port_in_use_are_refused_with_one_line),
        TEST(a_wrong_seal_key_is_refused_at_start),
        TEST(a_drain_takes_no_questions_waits_for_answers_and_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
