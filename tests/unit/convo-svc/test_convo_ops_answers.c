/* test_convo_ops_answers.c - ask, watch, read, tail and stop: good, refused, asked twice, and by callers that have gone.
 *
 * (The bounds of the requests, strangers and full queues stand in test_convo_ops.c.) */
#include "service_calls.h"

/* --- ask -------------------------------------------------------------------------------------- */

/* Asks and waits for the first reply. */
static const seen_t *
ask_once(test_t *self, uint64_t user, uint64_t conversation, unsigned stream,
         outcome_t *out)
{
    send_ask(self, user, conversation, stream, "hello", out);
    return service_wait(&self->service, out, 1);
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
a_question_to_no_conversation_or_a_strangers_is_not_found(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    assert_int_equal(ask_once(self, USER, id ^ 1, 1, &self->a)->rc, RC_NOT_FOUND);
    assert_int_equal(ask_once(self, STRANGER, id, 1, &self->a)->rc, RC_NOT_FOUND);
    assert_int_equal(self->service.llm.generates, 0);
    assert_int_equal(answers_count(self->service.convo->answers), 0);
    ask_and_wait(self, id); /* the stream is still free */
}

static void
a_stream_of_another_question_is_a_conflict(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), other = create(self, "other");
    const seen_t *seen;

    ask_and_stream(self, id);
    seen = ask_once(self, USER, other, 1, &self->b);
    assert_int_equal(seen->rc, RC_CONFLICT);
    assert_string_equal(seen->error, "This stream belongs to another question.");
    assert_int_equal(ask_once(self, USER, other, 2, &self->b)->rc, RC_OK);
}

static void
a_question_that_makes_the_prompt_too_long_is_too_big(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    sqlite3 *db = lock_database(self);
    const seen_t *seen;

    assert_int_equal(sqlite3_exec(db,
                                  "UPDATE conversation SET turn_bytes = 33554431; COMMIT;"
                                  "BEGIN",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    unlock_database(db);
    seen = ask_once(self, USER, id, 1, &self->a);
    assert_int_equal(seen->rc, RC_TOO_BIG);
    assert_string_equal(seen->error, "The conversation is too long.");
    assert_non_null(strstr(history(self, USER, id)->json, "\"messages\":[]"));
}

static void
the_longest_question_is_taken(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    char *text = svc_alloc(PROTO_QUESTION_MAX_BYTES + 1);

    memset(text, 'q', PROTO_QUESTION_MAX_BYTES);
    send_ask(self, USER, id, 1, text, &self->a);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
    fixture_run_until(&self->service.fixture, was_generated, self);
    free(text);
}

static void
live_answers_are_bounded(void **state)
{
    test_t *self = *state;
    convo_t *convo = self->service.convo;
    uint64_t id = create(self, "t");

    convo->n_asking += ANSWERS_MAX; /* as many questions are on their way */
    assert_int_equal(ask_once(self, USER, id, 1, &self->a)->rc, RC_BUSY);
    convo->n_asking -= 1;
    assert_int_equal(ask_once(self, USER, id, 1, &self->a)->rc, RC_OK);
    assert_int_equal(convo->n_asking, ANSWERS_MAX - 1); /* it has arrived */
    convo->n_asking = 0;
    assert_non_null(strstr(history(self, USER, id)->json, "\"message_id\":2"));
}

static void
a_question_whose_caller_has_gone_is_answered_all_the_same(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    sqlite3 *db = lock_database(self);

    send_ask(self, USER, id, 1, "hello", &self->a);
    fixture_run_until(&self->service.fixture, writer_works, self);
    drop_latest_call(self);
    unlock_database(db);
    fixture_run_until(&self->service.fixture, was_generated, self);
    service_llm_final(&self->service, 0, "Hi", "stop");
    fixture_run_until(&self->service.fixture, was_stored, self);
    assert_int_equal(self->a.n, 0);
    assert_string_equal(read_text(self, USER, 1, 0)->json, "Hi");
    assert_int_equal(self->service.convo->n_asking, 0);
}

static bool
holds_nothing(void *arg)
{
    return !convo_holds_answers(((const test_t *)arg)->service.convo);
}

static bool
holds_something(void *arg)
{
    return convo_holds_answers(((const test_t *)arg)->service.convo);
}

static bool
was_looked_for(void *arg)
{
    return ((const test_t *)arg)->service.llm.attaches > 0;
}

/* Whoever asked without a key would ask again, and find both questions in the history. */
static void
a_question_that_is_committed_without_a_lease_is_not_refused(void **state)
{
    static const convo_lease_times_t rare = {.lease = 100, .look = 60000, .hurry = 10};
    test_t *self = *state;
    convo_t *convo = self->service.convo;
    uint64_t id = create(self, "t");
    char *error = NULL;

    convo->lease = convo_lease_new(&self->service.fixture.ctx, convo->answers,
                                   &convo->workers, &rare, &error);
    assert_non_null(convo->lease);
    fixture_run_until(&self->service.fixture, holds_nothing, self);
    for (int i = 0; i <= 1; i++) { /* and who comes again is told the same */
        const seen_t *seen = ask_once(self, USER, id, 1, &self->a);

        assert_int_equal(seen->rc, RC_OK);
        assert_int_equal(seen->kind, PROTO_FINAL);
        assert_int_equal(seen->status.state, ANSWER_WAITING);
        assert_int_equal(seen->status.owner, self->service.fixture.ctx.instance);
    }
    send_watch(self, USER, id, 1, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_UNAVAILABLE);
    convo_lease_destroy(&convo->lease);
    fixture_run_until(&self->service.fixture, was_looked_for, self); /* it goes on */
    send_watch(self, USER, id, 1, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->kind, PROTO_PARTIAL);
    assert_non_null(strstr(history(self, USER, id)->json, "\"message_id\":2"));
    assert_null(strstr(history(self, USER, id)->json, "\"message_id\":3"));
}

/* A lease that had run out may hold again before the commit of a question is heard of, which somebody else took over meanwhile. */
static void
a_question_that_is_committed_after_a_gap_of_the_lease_is_looked_at_first(void **state)
{
    static const convo_lease_times_t gaps = {.lease = 500, .look = 700, .hurry = 10};
    test_t *self = *state;
    convo_t *convo = self->service.convo;
    uint64_t id = create(self, "t");
    char *error = NULL;

    convo->lease = convo_lease_new(&self->service.fixture.ctx, convo->answers,
                                   &convo->workers, &gaps, &error);
    assert_non_null(convo->lease);
    fixture_run_until(&self->service.fixture, holds_nothing, self);
    fixture_run_until(&self->service.fixture, holds_something, self);
    assert_int_equal(ask_once(self, USER, id, 1, &self->a)->rc, RC_OK);
    convo_lease_destroy(&convo->lease);
    fixture_run_until(&self->service.fixture, was_looked_for, self);
}

static void
a_draining_service_takes_no_question_and_joins_none(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    ask_and_stream(self, id);
    convo_drain(self->service.convo);
    assert_int_equal(ask_once(self, USER, id, 1, &self->b)->rc, RC_UNAVAILABLE);
    send_watch(self, USER, id, 1, &self->b); /* watching goes on */
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_OK);
}

/* --- watch ------------------------------------------------------------------------------------ */

/* An unfinished answer that the database has, and nobody here. */
static void
add_answer_of_nobody(test_t *self, uint64_t conversation, unsigned stream)
{
    convo_store_t *store = folder_store(&self->service.folder, true);

    assert_int_equal(store_ask(store, conversation, stream, "hello"), 2);
    convo_store_destroy(&store);
}

static void
an_answer_that_nobody_here_writes_is_unavailable(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    add_answer_of_nobody(self, id, 1);
    for (unsigned stream = 0; stream <= 1; stream++) {
        send_watch(self, USER, id, stream, &self->b);
        assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_UNAVAILABLE);
    }
    assert_int_equal(ask_once(self, USER, id, 2, &self->b)->rc, RC_ANSWERING);
    assert_int_equal(read_text(self, USER, 1, 0)->rc,
                     RC_OK); /* what there is can be read */
}

static void
an_answer_that_another_process_runs_is_told_once_with_its_owner(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    sqlite3 *db;

    add_answer_of_nobody(self, id, 1);
    db = lock_database(self); /* ours is 77, which the gateway knows by now */
    assert_int_equal(
        sqlite3_exec(db, "UPDATE answer SET owner = 78; COMMIT; BEGIN", NULL, NULL, NULL),
        SQLITE_OK);
    unlock_database(db);
    for (unsigned stream = 0; stream <= 1; stream++) {
        send_watch(self, USER, id, stream, &self->b);
        assert_int_equal(service_wait(&self->service, &self->b, 1)->kind, PROTO_FINAL);
        assert_int_equal(self->b.seen[0].status.state, ANSWER_WAITING);
        assert_int_equal(self->b.seen[0].status.owner, 78);
    }
    assert_int_equal(on_conversation(self, OP_CONVO_STOP, USER, id)->status.owner, 78);
}

static void
who_no_longer_watches_is_told_nothing_more(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    unwatch_req_t req = {stream_of(self->room, 1)};

    ask_and_wait(self, id);
    send_watch(self, USER, id, 1, &self->b);
    (void)service_wait(&self->service, &self->b, 1);
    assert_int_equal(svc_server_kept_calls(self->service.convo->server), 2);
    for (int i = 0; i < 2; i++) /* twice does no harm */
        assert_int_equal(service_call(&self->service, OP_CONVO_UNWATCH,
                                      &unwatch_req_schema, &req, &empty_schema, &self->c)
                             ->rc,
                         RC_OK);
    assert_int_equal(svc_server_kept_calls(self->service.convo->server), 0);
}

static void
watchers_hear_every_change(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    send_watch(self, USER, id, 0, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NO_ANSWER);
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
watchers_of_one_answer_hear_the_same_and_of_another_one_nothing(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), other = create(self, "other");

    ask_and_wait(self, id);
    assert_int_equal(ask_once(self, USER, other, 2, &self->b)->rc, RC_OK);
    fixture_run_until(&self->service.fixture, was_generated_twice, self);
    service_llm_final(&self->service, 0, "of the other", "stop");
    assert_int_equal(service_wait(&self->service, &self->b, 2)->kind, PROTO_FINAL);
    assert_int_equal(self->a.n, 1);
    send_watch(self, USER, id, 2, &self->b); /* that stream is not of this conversation */
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NOT_FOUND);
    send_watch(self, USER, other, 1, &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_NOT_FOUND);
}

/* --- read, tail ------------------------------------------------------------------------------- */

static void
a_text_is_read_from_any_offset_while_it_is_written(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    ask_and_stream(self, id);
    for (uint64_t from = 0; from <= 5; from++) {
        const seen_t *seen = read_text(self, USER, 1, from);

        assert_string_equal(seen->json, &"Hello"[from]);
        assert_int_equal(seen->a, from);
        assert_int_equal(seen->b, 5);
    }
    assert_string_equal(read_text(self, USER, 1, PROTO_ID_MAX)->json, "");
    assert_int_equal(read_text(self, USER, 2, 0)->rc, RC_NOT_FOUND);
}

static svc_rc
send_tail(test_t *self, uint64_t fence, uint64_t from, svc_str bytes)
{
    tail_req_t req = {stream_of(self->room, 1), fence, from, bytes};

    take_tails_until(self, 1, svc_mono_ms() + 60000);
    return service_call(&self->service, OP_CONVO_TAIL, &tail_req_schema, &req,
                        &empty_schema, &self->b)
        ->rc;
}

static void
a_tail_is_taken_of_a_lost_answer_only_and_without_a_gap(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t"), fence;
    char *page = svc_alloc(PROTO_PAGE_MAX_BYTES);

    memset(page, 't', PROTO_PAGE_MAX_BYTES);
    ask_and_stream(self, id);
    fence = self->service.llm.fence;
    assert_int_equal(send_tail(self, fence, 5, SVC_LIT("!")), RC_CONFLICT);
    assert_int_equal(send_tail(self, fence + 1, 5, SVC_LIT("!")), RC_STALE);
    lose_llm_and_take_tails(self);
    assert_true(service_wait(&self->service, &self->a, 3)->status.lost);
    assert_int_equal(send_tail(self, fence + 1, 5, SVC_LIT("!")), RC_STALE);
    assert_int_equal(send_tail(self, fence, 6, SVC_LIT("!")), RC_CONFLICT);
    assert_int_equal(send_tail(self, fence, UINT64_MAX >> 11, SVC_LIT("!")), RC_CONFLICT);
    assert_int_equal(send_tail(self, fence, 0, SVC_LIT("Hello, ")), RC_OK);
    assert_int_equal(send_tail(self, fence, 7, (svc_str){page, PROTO_PAGE_MAX_BYTES}),
                     RC_OK);
    take_tails_until(self, 1, 0);
    assert_int_equal(service_wait(&self->service, &self->a, 4)->status.length,
                     7 + PROTO_PAGE_MAX_BYTES);
    assert_int_equal(send_tail(self, fence, 7, SVC_LIT("!")),
                     RC_NOT_FOUND); /* it is over */
    free(page);
}

/* --- stop ------------------------------------------------------------------------------------- */

static void
a_stop_ends_the_answer_and_may_be_repeated(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    conversation_req_t req = {USER, id};
    const seen_t *seen;

    assert_int_equal(on_conversation(self, OP_CONVO_STOP, USER, id)->rc, RC_NO_ANSWER);
    ask_and_stream(self, id);
    service_send(&self->service, OP_CONVO_STOP, &conversation_req_schema, &req,
                 &status_rep_schema, &self->b);
    fixture_run_until(&self->service.fixture, was_stopped, self);
    service_give_time(
        answers_by_stream(self->service.convo->answers, stream_of(self->room, 1)));
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

static bool
was_stopped_twice(void *arg)
{
    return ((test_t *)arg)->service.llm.stops >= 2;
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
    /* Both were sent by then, a second apart: the last one may still be on its way. */
    assert_true(
        fixture_runs_until(&self->service.fixture, was_stopped_twice, self, 2000));
}

static void
a_stop_whose_caller_has_gone_stops_all_the_same(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    conversation_req_t req = {USER, id};
    sqlite3 *db;

    ask_and_stream(self, id);
    db = lock_database(self);
    service_send(&self->service, OP_CONVO_STOP, &conversation_req_schema, &req,
                 &status_rep_schema, &self->b);
    fixture_run_until(&self->service.fixture, writer_works, self);
    drop_latest_call(self);
    unlock_database(db);
    fixture_run_until(&self->service.fixture, was_stopped, self);
    service_llm_final(&self->service, 5, "", "stopped");
    assert_int_equal(service_wait(&self->service, &self->a, 3)->status.state,
                     ANSWER_STOPPED);
    assert_int_equal(self->b.n, 0);
}

static void
two_stops_are_both_told_the_end(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    conversation_req_t req = {USER, id};

    ask_and_stream(self, id);
    service_send(&self->service, OP_CONVO_STOP, &conversation_req_schema, &req,
                 &status_rep_schema, &self->b);
    service_send(&self->service, OP_CONVO_STOP, &conversation_req_schema, &req,
                 &status_rep_schema, &self->c);
    fixture_run_until(&self->service.fixture, was_stopped, self);
    service_give_time(
        answers_by_stream(self->service.convo->answers, stream_of(self->room, 1)));
    service_llm_final(&self->service, 5, "", "stopped");
    assert_int_equal(service_wait(&self->service, &self->b, 1)->status.state,
                     ANSWER_STOPPED);
    assert_int_equal(service_wait(&self->service, &self->c, 1)->status.state,
                     ANSWER_STOPPED);
    assert_int_equal(self->b.seen[0].kind, PROTO_FINAL);
    assert_int_equal(self->c.seen[0].kind, PROTO_FINAL);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(asking_the_same_again_joins_and_another_question_waits_its_turn),
        TEST(a_question_to_no_conversation_or_a_strangers_is_not_found),
        TEST(a_stream_of_another_question_is_a_conflict),
        TEST(a_question_that_makes_the_prompt_too_long_is_too_big),
        TEST(the_longest_question_is_taken),
        TEST(live_answers_are_bounded),
        TEST(a_question_whose_caller_has_gone_is_answered_all_the_same),
        TEST(a_question_that_is_committed_without_a_lease_is_not_refused),
        TEST(a_question_that_is_committed_after_a_gap_of_the_lease_is_looked_at_first),
        TEST(a_draining_service_takes_no_question_and_joins_none),
        TEST(an_answer_that_nobody_here_writes_is_unavailable),
        TEST(an_answer_that_another_process_runs_is_told_once_with_its_owner),
        TEST(who_no_longer_watches_is_told_nothing_more),
        TEST(watchers_hear_every_change),
        TEST(watchers_of_one_answer_hear_the_same_and_of_another_one_nothing),
        TEST(a_text_is_read_from_any_offset_while_it_is_written),
        TEST(a_tail_is_taken_of_a_lost_answer_only_and_without_a_gap),
        TEST(a_stop_ends_the_answer_and_may_be_repeated),
        TEST(a_stop_that_takes_long_is_answered_after_2_s),
        TEST(a_stop_whose_caller_has_gone_stops_all_the_same),
        TEST(two_stops_are_both_told_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
