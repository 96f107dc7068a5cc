/* test_convo_held.c - questions while no llm-svc is there, changes while the database is away: held, bounded, released, refused in time.
 *
 * Each test begins without an llm-svc, and holds questions for as long as this machine may stand still. */
#include "service_calls.h"

static int
setup_patient(void **state)
{
    const int rc = setup_without_llm(state);

    ((test_t *)*state)->service.convo->held_ms = 600000;
    return rc;
}

/* Starts llm-svc and waits until convo-svc has noticed. */
static void
start_llm(test_t *self)
{
    service_start_llm(&self->service, 500);
    fixture_run_until(&self->service.fixture, service_llm_is_up, &self->service);
}

/* Whatever was sent before has been handled now: requests of one caller keep their order. */
static void
settle(test_t *self, uint64_t conversation)
{
    (void)history(self, USER, conversation);
}

/* How many replies many calls got, and which. */
typedef struct {
    size_t n, refused, taken; /* all of them; RC_UNAVAILABLE; RC_OK */
    size_t wanted;            /* to wait for */
} tally_t;

static void
count_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
            const error_rep_t *error)
{
    tally_t *self = arg;

    (void)kind;
    (void)rep;
    (void)error;
    self->n++;
    self->refused += rc == RC_UNAVAILABLE ? 1 : 0;
    self->taken += rc == RC_OK ? 1 : 0;
}

static bool
has_tally(void *arg)
{
    const tally_t *self = arg;

    return self->n >= self->wanted;
}

/* Asks `n` questions to a conversation, as streams from `first` on. */
static void
send_asks(test_t *self, uint64_t conversation, unsigned first, unsigned n, tally_t *tally)
{
    for (unsigned i = 0; i < n; i++) {
        ask_req_t req = {.user = USER,
                         .conversation = conversation,
                         .text = SVC_LIT("hello"),
                         .stream = stream_of(self->room, first + i)};
        svc_peer_request_t request = {.op = OP_CONVO_ASK,
                                      .req_schema = &ask_req_schema,
                                      .req = &req,
                                      .rep_schema = &status_rep_schema,
                                      .timeout_ms = 10000,
                                      .on_reply = count_reply,
                                      .arg = tally};

        assert_int_equal(svc_peers_call(self->service.gateway, &request, NULL), RC_OK);
    }
}

/* The conversations of all answers, in the order of their commit. */
static void
answers_in_order(test_t *self, uint64_t *out, size_t max, size_t *n_out)
{
    sqlite3 *db;
    sqlite3_stmt *q = NULL;

    *n_out = 0;
    assert_int_equal(sqlite3_open(self->service.folder.db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT conversation FROM answer ORDER BY rowid",
                                        -1, &q, NULL),
                     SQLITE_OK);
    while (sqlite3_step(q) == SQLITE_ROW && *n_out < max)
        out[(*n_out)++] = (uint64_t)sqlite3_column_int64(q, 0);
    (void)sqlite3_finalize(q);
    (void)sqlite3_close(db);
}

static void
a_question_without_llm_svc_is_refused_and_leaves_no_trace(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;

    self->service.convo->held_ms = CONVO_HELD_MS;
    send_ask(self, USER, id, 1, "hello", &self->a);
    seen = service_wait(&self->service, &self->a, 1);
    assert_int_equal(seen->kind, PROTO_ERROR);
    assert_int_equal(seen->rc, RC_UNAVAILABLE);
    assert_string_equal(seen->error, "No service is there to write the answer.");
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
    start_llm(self);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_ANSWERING);
    assert_int_equal(convo->n_held, 0);
    assert_int_equal(convo->held_bytes, 0); /* there is room again */
    free(text);
}

static void
questions_are_released_in_the_order_they_came(void **state)
{
    test_t *self = *state;
    uint64_t ids[3], order[8];
    size_t n;

    for (unsigned i = 0; i < 3; i++)
        ids[i] = create(self, "t");
    send_ask(self, USER, ids[1], 1, "first", &self->a);
    send_ask(self, USER, ids[2], 2, "second", &self->b);
    send_ask(self, USER, ids[0], 3, "third", &self->c);
    settle(self, ids[0]);
    start_llm(self);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_OK);
    assert_int_equal(service_wait(&self->service, &self->c, 1)->rc, RC_OK);
    answers_in_order(self, order, SVC_COUNT(order), &n);
    assert_int_equal(n, 3);
    assert_int_equal(order[0], ids[1]);
    assert_int_equal(order[1], ids[2]);
    assert_int_equal(order[2], ids[0]);
    assert_int_equal(self->service.convo->n_held, 0);
    assert_int_equal(self->service.convo->held_bytes, 0);
}

static void
so_many_are_held_and_one_more_is_refused_at_once(void **state)
{
    test_t *self = *state;
    const convo_t *convo = self->service.convo;
    uint64_t id = create(self, "t");
    tally_t tally = {0};

    send_asks(self, id, 1, CONVO_HELD_MAX, &tally);
    settle(self, id);
    assert_int_equal(convo->n_held, CONVO_HELD_MAX);
    assert_int_equal(tally.n, 0);
    send_asks(self, id, CONVO_HELD_MAX + 1, 3, &tally);
    tally.wanted = 3;
    fixture_run_until(&self->service.fixture, has_tally, &tally);
    assert_int_equal(tally.refused, 3);
    assert_int_equal(convo->n_held, CONVO_HELD_MAX);
    start_llm(self);
    tally.wanted = CONVO_HELD_MAX + 3;
    fixture_run_until(&self->service.fixture, has_tally, &tally);
    assert_int_equal(tally.refused, 3);
    assert_int_equal(tally.taken,
                     1); /* all the others met an answer that is being written */
    assert_int_equal(convo->n_held, 0);
    assert_int_equal(convo->held_bytes, 0);
}

static bool
nothing_is_held(void *arg)
{
    return ((const test_t *)arg)->service.convo->n_held == 0;
}

static void
a_question_whose_caller_has_gone_is_asked_by_nobody(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), order[2];
    size_t n;

    send_ask(self, USER, id, 1, "given up", &self->a);
    settle(self, id);
    drop_latest_call(self);
    start_llm(self);
    send_ask(self, USER, id, 2, "hello", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_OK);
    fixture_run_until(&self->service.fixture, nothing_is_held, self);
    answers_in_order(self, order, SVC_COUNT(order), &n);
    assert_int_equal(n, 1);
    assert_int_equal(self->b.seen[0].status.message, 2);
    assert_int_equal(self->a.n, 0);
}

static void
a_drain_refuses_what_is_held(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;

    send_ask(self, USER, id, 1, "hello", &self->a);
    settle(self, id);
    convo_drain(self->service.convo); /* stops the loop when nothing is under way */
    svc_loop_cancel(self->service.fixture.ctx.loop, self->service.convo->drain_timer);
    seen = service_wait(&self->service, &self->a, 1);
    assert_int_equal(seen->kind, PROTO_ERROR);
    assert_int_equal(seen->rc, RC_UNAVAILABLE);
    assert_int_equal(self->service.convo->n_held, 0);
}

static void
what_cannot_be_committed_when_it_is_released_is_refused_for_its_own_reason(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    send_ask(self, USER, id ^ 1, 1, "hello", &self->a);
    send_ask(self, STRANGER, id, 2, "hello", &self->b);
    settle(self, id);
    start_llm(self);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_NOT_FOUND);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NOT_FOUND);
    service_stop_llm(&self->service);
    fixture_run_until(&self->service.fixture, llm_is_down, self);
    send_ask(self, USER, id, 3, "hello", &self->a);
    settle(self, id);
    stick_workers(self);
    start_llm(self);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_BUSY);
    free_workers(self);
}

static void
the_same_question_held_twice_is_asked_once(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    send_ask(self, USER, id, 1, "hello", &self->a);
    send_ask(self, USER, id, 1, "hello", &self->b);
    settle(self, id);
    assert_int_equal(self->service.convo->n_held, 2);
    start_llm(self);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->status.message, 2);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->status.message, 2);
    fixture_run_until(&self->service.fixture, was_generated, self);
    service_llm_final(&self->service, 0, "Hi", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 2)->kind, PROTO_FINAL);
    assert_int_equal(service_wait(&self->service, &self->b, 2)->kind, PROTO_FINAL);
    assert_int_equal(self->service.llm.generates, 1);
}

static void
an_answer_that_is_being_written_is_joined_without_llm_svc(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    start_llm(self);
    ask_and_wait(self, id);
    service_stop_llm(&self->service);
    fixture_run_until(&self->service.fixture, llm_is_down, self);
    send_ask(self, USER, id, 1, "hello", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_OK);
    assert_int_equal(self->service.convo->n_held, 0);
}

static void
a_service_that_ends_frees_what_it_holds(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    send_ask(self, USER, id, 1, "hello", &self->a);
    settle(self, id);
    assert_int_equal(self->service.convo->n_held, 1);
    service_stop_convo(&self->service);
    assert_int_equal(self->a.n, 1);
    assert_int_equal(self->a.seen[0].rc, RC_UNAVAILABLE);
    service_start_convo(&self->service);
    assert_non_null(strstr(history(self, USER, id)->json, "\"messages\":[]"));
}

/* --- changes while the writer waits for its connection ------------------------------------------ */

/* The writer waits from now on, and for no time yet, however slow this test may be. */
static void
take_database_away(test_t *self)
{
    atomic_store(&self->service.convo->away_ms, svc_mono_ms() + 600000);
}

static void
changes_wait_for_the_connection_that_is_being_made(void **state)
{
    test_t *self = *state;
    uint64_t ids[2] = {create(self, "t"), create(self, "u")};
    outcome_t deleted = {0};
    create_req_t req = {.user = USER, .title = SVC_LIT("v"), .model = SVC_LIT("echo")};

    start_llm(self);
    take_database_away(self);
    service_send(&self->service, OP_CONVO_CREATE, &create_req_schema, &req,
                 &create_rep_schema, &self->a);
    send_ask(self, USER, ids[0], 1, "hello", &self->b);
    service_send(&self->service, OP_CONVO_DELETE, &conversation_req_schema,
                 &(const conversation_req_t){USER, ids[1]}, &empty_schema, &deleted);
    settle(self, ids[0]); /* reads go on */
    assert_int_equal(self->service.convo->n_held, 3);
    assert_int_equal(self->a.n + self->b.n + deleted.n, 0);
    assert_int_equal(self->service.convo->n_asking, 0);
    atomic_store(&self->service.convo->away_ms, 0);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_OK);
    assert_int_equal(service_wait(&self->service, &deleted, 1)->rc, RC_OK);
    assert_int_equal(history(self, USER, ids[1])->rc, RC_NOT_FOUND);
    fixture_run_until(&self->service.fixture, was_generated, self);
    assert_int_equal(self->service.convo->n_held, 0);
    assert_int_equal(self->service.convo->held_bytes, 0);
    outcome_clear(&deleted);
}

/* A question (a) and a deletion (b) that both wait. */
static void
ask_and_delete_without_database(test_t *self, uint64_t id)
{
    start_llm(self);
    take_database_away(self);
    send_ask(self, USER, id, 1, "hello", &self->a);
    service_send(&self->service, OP_CONVO_DELETE, &conversation_req_schema,
                 &(const conversation_req_t){USER, id}, &empty_schema, &self->b);
    settle(self, id);
}

static void
changes_that_have_waited_long_enough_are_refused_and_not_made(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    ask_and_delete_without_database(self, id);
    assert_int_equal(self->service.convo->n_held, 2);
    atomic_store(&self->service.convo->away_ms, svc_mono_ms() - CONVO_AWAY_MS);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_UNAVAILABLE);
    atomic_store(&self->service.convo->away_ms, 0);
    assert_non_null(strstr(history(self, USER, id)->json, "\"messages\":[]"));
    assert_int_equal(self->service.convo->n_held, 0);
}

static void
a_question_that_waits_for_llm_svc_does_not_hold_up_a_change(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), other = create(self, "u");

    send_ask(self, USER, id, 1, "hello", &self->a); /* there is no llm-svc */
    settle(self, id);
    take_database_away(self);
    service_send(&self->service, OP_CONVO_DELETE, &conversation_req_schema,
                 &(const conversation_req_t){USER, other}, &empty_schema, &self->b);
    settle(self, id);
    atomic_store(&self->service.convo->away_ms, 0);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_OK);
    start_llm(self);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
}

static bool
is_later(void *arg)
{
    return svc_mono_ms() >= *(const uint64_t *)arg;
}

static void
a_drain_waits_for_changes_that_are_held(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), soon;

    ask_and_delete_without_database(self, id);
    convo_drain(self->service.convo); /* would stop the loop, and with it this test */
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(self->service.convo->n_held, 1);
    soon = svc_mono_ms() + 200; /* several looks */
    fixture_run_until(&self->service.fixture, is_later, &soon);
    svc_loop_cancel(self->service.fixture.ctx.loop, self->service.convo->drain_timer);
    atomic_store(&self->service.convo->away_ms, 0);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_OK);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_patient, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_question_without_llm_svc_is_refused_and_leaves_no_trace),
        TEST(a_question_is_held_until_llm_svc_is_back),
        TEST(questions_that_are_held_have_bounded_bytes_together),
        TEST(questions_are_released_in_the_order_they_came),
        TEST(so_many_are_held_and_one_more_is_refused_at_once),
        TEST(a_question_whose_caller_has_gone_is_asked_by_nobody),
        TEST(a_drain_refuses_what_is_held),
        TEST(what_cannot_be_committed_when_it_is_released_is_refused_for_its_own_reason),
        TEST(the_same_question_held_twice_is_asked_once),
        TEST(an_answer_that_is_being_written_is_joined_without_llm_svc),
        TEST(a_service_that_ends_frees_what_it_holds),
        TEST(changes_wait_for_the_connection_that_is_being_made),
        TEST(changes_that_have_waited_long_enough_are_refused_and_not_made),
        TEST(a_question_that_waits_for_llm_svc_does_not_hold_up_a_change),
        TEST(a_drain_waits_for_changes_that_are_held),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
