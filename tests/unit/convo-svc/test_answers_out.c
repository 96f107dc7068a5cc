/* test_answers_out.c - what live answers want done: told to watchers in order and once, journaled, asked of llm-svc.
 *
 * Watchers are real calls over real sockets; so is llm-svc. */
#include "answers_fixture.h"

/* --- watchers --------------------------------------------------------------------------------- */

static void
every_watcher_hears_every_change_in_order_and_the_end_once(void **state)
{
    test_t *self = *state;
    outcome_t *all[] = {&self->a, &self->b};

    (void)begin_answer(self, 1);
    watch(self, 1, &self->a);
    watch(self, 1, &self->b);
    service_llm_piece(&self->service, 0, "Hello");
    (void)service_wait(&self->service, &self->b, 2);
    watch(self, 1, &self->c); /* one that comes later is told the present */
    assert_int_equal(self->c.seen[0].status.state, ANSWER_STREAMING);
    assert_int_equal(self->c.seen[0].status.length, 5);
    service_llm_final(&self->service, 5, "!", "stop");
    (void)service_wait(&self->service, &self->c, 2);
    run_until(self, no_answer_lives);
    assert_int_equal(svc_server_kept_calls(self->server), 0);
    for (size_t i = 0; i < SVC_COUNT(all); i++) {
        (void)service_wait(&self->service, all[i], 3);
        assert_int_equal(all[i]->seen[0].status.state, ANSWER_WAITING);
        assert_int_equal(all[i]->seen[1].kind, PROTO_PARTIAL);
        assert_int_equal(all[i]->seen[1].status.state, ANSWER_STREAMING);
        assert_int_equal(all[i]->seen[2].kind, PROTO_FINAL);
        assert_int_equal(all[i]->seen[2].status.state, ANSWER_COMPLETE);
        assert_int_equal(all[i]->seen[2].status.length, 6);
        assert_int_equal(all[i]->seen[2].status.usage.total, 3);
        assert_int_equal(all[i]->n, 3);
    }
    assert_int_equal(self->c.n, 2);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_ANSWERS_COMPLETE), 1);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_JOURNAL_PIECES), 1);
}

static void
who_waits_for_the_end_hears_nothing_else(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    send_watch_end(self, 1, &self->b);
    watch(self, 1, &self->a); /* it came after that one */
    service_give_time(by_stream(self, 1));
    service_llm_piece(&self->service, 0, "Hello");
    (void)service_wait(&self->service, &self->a, 2);
    assert_int_equal(self->b.n, 0);
    service_llm_final(&self->service, 5, "", "stop");
    assert_int_equal(service_wait(&self->service, &self->b, 1)->status.state,
                     ANSWER_COMPLETE);
    assert_int_equal(self->b.seen[0].kind, PROTO_FINAL);
}

static void
a_part_gives_a_watcher_its_time_again(void **state)
{
    test_t *self = *state;
    const svc_loop_t *loop = self->service.fixture.ctx.loop;
    svc_call_t *call = NULL;

    (void)begin_answer(self, 1);
    watch(self, 1, &self->a);
    for (uint64_t id = self->server->handles; id > 0 && call == NULL; id--)
        call = svc_server_call(self->server, id);
    assert_non_null(call);
    svc_call_keep_until(call,
                        svc_loop_now_ms(loop) + 5000); /* it has been silent for long */
    service_llm_piece(&self->service, 0, "Hello");
    (void)service_wait(&self->service, &self->a, 2);
    assert_true(call->deadline.key > svc_loop_now_ms(loop) + 5000);
    assert_true(call->deadline.key <= svc_loop_now_ms(loop) + ANSWERS_WATCH_HOLD_MS);
}

/* The connection of who asked for the probe is closed on our side, too. */
static bool
probe_is_gone(void *arg)
{
    test_t *self = arg;
    list_rep_t rep = {.next = 0};
    svc_call_t *call = svc_server_call(self->server, self->probe);

    return call == NULL || svc_call_partial(call, &rep, 60000) == RC_UNAVAILABLE;
}

static bool
was_probed(void *arg)
{
    return ((const test_t *)arg)->probe != 0;
}

static void
watchers_that_are_gone_are_forgotten_and_disturb_no_other(void **state)
{
    test_t *self = *state;
    svc_peers_t *gone;
    list_req_t probe = {.user = USER};

    (void)begin_answer(self, 1);
    watch(self, 1, &self->a);
    watch(self, 1, &self->b);
    service_send(&self->service, OP_CONVO_LIST, &list_req_schema, &probe,
                 &list_rep_schema, &self->c);
    run_until(self, was_probed);
    gone = self->service.gateway;
    service_connect(&self->service, "gateway");
    watch(self, 1, &self->c);
    assert_int_equal(svc_server_kept_calls(self->server), 4);
    svc_peers_destroy(&gone);
    run_until(self, probe_is_gone);
    service_llm_piece(&self->service, 0, "Hello");
    assert_int_equal(service_wait(&self->service, &self->c, 2)->status.state,
                     ANSWER_STREAMING);
    assert_int_equal(svc_server_kept_calls(self->server), 1);
    service_llm_final(&self->service, 5, "", "stop");
    assert_int_equal(service_wait(&self->service, &self->c, 3)->status.state,
                     ANSWER_COMPLETE);
    assert_int_equal(self->a.n, 1);
    assert_int_equal(self->b.n, 1);
}

static void
an_end_to_calls_that_were_answered_otherwise_is_harmless(void **state)
{
    test_t *self = *state;
    svc_call_t *call = NULL;

    (void)begin_answer(self, 1);
    watch(self, 1, &self->a);
    for (uint64_t id = self->server->handles; id > 0 && call == NULL; id--)
        call = svc_server_call(self->server, id);
    svc_call_drop(call);
    service_llm_final(&self->service, 0, "Hi", "stop");
    run_until(self, no_answer_lives);
    assert_int_equal(self->a.n, 1);
}

static void
watchers_of_an_answer_that_is_taken_apart_may_ask_again(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    watch(self, 1, &self->a);
    send_watch_end(self, 1, &self->b);
    watch(self, 1, &self->c);
    answers_destroy(&self->answers);
    assert_int_equal(service_wait(&self->service, &self->a, 2)->rc, RC_UNAVAILABLE);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(service_wait(&self->service, &self->c, 2)->rc, RC_UNAVAILABLE);
    svc_peers_destroy(&self->llm);
}

/* --- the database ----------------------------------------------------------------------------- */

static void
a_piece_is_acknowledged_when_it_is_committed_and_the_end_when_it_is_stored(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    played_hold(&self->writer, true);
    service_llm_piece(&self->service, 0, "Hello");
    run_until(self, writer_is_working);
    assert_int_equal(self->service.llm.acks, 0);
    played_hold(&self->writer, false);
    run_until(self, acked_five);
    assert_false(self->service.llm.stored);
    assert_string_equal(played_last(&self->writer).bytes, "Hello");
    assert_int_equal(played_last(&self->writer).step.fence, 101);
    assert_int_equal(played_last(&self->writer).step.term, 1);
    assert_int_equal(played_last(&self->writer).step.llm, 500);
    service_llm_final(&self->service, 5, "!", "stop");
    run_until(self, llm_may_forget);
    assert_int_equal(self->service.llm.journaled, 6);
    assert_int_equal(played_last(&self->writer).step.state, ANSWER_STREAMING);
    assert_int_equal(played_last(&self->writer).step.next_state, ANSWER_COMPLETE);
    assert_int_equal(played_last(&self->writer).step.length, 5);
    assert_string_equal(played_last(&self->writer).bytes, "!");
}

static void
a_piece_that_the_disk_refuses_is_taken_when_it_comes_again(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    watch(self, 1, &self->a);
    played_say(&self->writer, RC_UNAVAILABLE);
    service_llm_piece(&self->service, 0, "Hello");
    run_until(self, writer_is_working);
    run_until(self, writer_is_idle);
    assert_int_equal(self->service.llm.journaled, 0);
    assert_int_equal(self->a.n, 1);
    played_say(&self->writer, RC_OK);
    service_llm_piece(&self->service, 0, "Hello");
    run_until(self, acked_five);
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_STREAMING);
}

static void
a_full_queue_takes_the_piece_when_it_comes_again(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    played_hold(&self->writer, true);
    played_fill(&self->writer);
    service_llm_piece(&self->service, 0, "Hello");
    service_llm_piece(&self->service, 0, "Hello"); /* acknowledged as not stored yet */
    run_until(self, was_acked);
    assert_int_equal(self->service.llm.journaled, 0);
    played_hold(&self->writer, false);
    run_until(self, writer_is_idle);
    assert_int_equal(played_count(&self->writer, WRITE_STEP), 0);
    service_llm_piece(&self->service, 0, "Hello");
    run_until(self, acked_five);
}

static void
no_step_is_queued_while_the_writer_waits_for_the_database(void **state)
{
    test_t *self = *state;
    atomic_uint_least64_t away = 1;

    answers_set_away(self->answers, &away);
    (void)begin_answer(self, 1);
    service_llm_piece(&self->service, 0, "Hello");
    service_llm_piece(&self->service, 0, "Hello"); /* acknowledged as not stored yet */
    run_until(self, was_acked);
    assert_int_equal(played_count(&self->writer, WRITE_STEP), 0);
    atomic_store(&away, 0);
    service_llm_piece(&self->service, 0, "Hello");
    run_until(self, acked_five);
    answers_set_away(self->answers, NULL);
}

static void
a_row_that_has_moved_on_is_given_up_and_its_watchers_told_so(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    watch(self, 1, &self->a);
    played_say(&self->writer, RC_STALE);
    played_show(&self->reader, RC_OK, 2, ANSWER_STREAMING);
    service_llm_piece(&self->service, 0, "Hello");
    assert_int_equal(service_wait(&self->service, &self->a, 2)->kind, PROTO_FINAL);
    assert_int_equal(self->a.seen[1].status.state, ANSWER_STREAMING);
    assert_int_equal(self->a.seen[1].status.owner, 602);
    assert_int_equal(answers_count(self->answers), 0);
    assert_int_equal(self->service.llm.acks, 0);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_STEPS_FENCED), 1);
}

static void
a_row_that_is_gone_ends_its_answer_as_deleted(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    watch(self, 1, &self->a);
    played_show(&self->reader, RC_NOT_FOUND, 0, 0);
    answer_doubt(by_stream(self, 1));
    assert_int_equal(service_wait(&self->service, &self->a, 2)->kind, PROTO_FINAL);
    assert_string_equal(self->a.seen[1].reason, "deleted");
    run_until(self, llm_may_forget);
    assert_int_equal(self->service.llm.stops, 1);
    assert_int_equal(answers_count(self->answers), 0);
}

static void
what_a_look_has_not_found_among_ours_is_doubted_until_its_row_says_more(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    answer_row_t row = {.stream = stream_of(room, 1), .term = 1};
    uint64_t look;

    (void)begin_answer(self, 1);
    played_say(&self->reader, RC_UNAVAILABLE); /* the database goes away just then */
    look = answers_begin_look(self->answers);
    assert_false(answers_is_doubted(self->answers, by_stream(self, 1)));
    answers_doubt_unseen(self->answers, look);
    assert_true(answers_is_doubted(self->answers, by_stream(self, 1)));
    look = answers_begin_look(self->answers);
    assert_true(answers_see(self->answers, &row, look));
    answers_doubt_unseen(self->answers, look);
    assert_false(answers_is_doubted(self->answers, by_stream(self, 1)));
}

/* --- llm-svc ---------------------------------------------------------------------------------- */

static void
a_prompt_that_cannot_be_made_ends_the_answer_with_its_reason(void **state)
{
    static const struct {
        svc_rc rc;          /* of the reader */
        const char *reason; /* that the answer ends with */
    } prompts[] = {
        {RC_TOO_BIG, "too_big"},
        {RC_INVALID, "internal"},
        {RC_INTERNAL, "internal"},
    };
    test_t *self = *state;

    for (unsigned i = 0; i < SVC_COUNT(prompts); i++) {
        answer_t *answer = add_answer(self, i + 1, ANSWER_WAITING, 0, true);

        watch(self, i + 1, &self->a);
        played_say(&self->reader, prompts[i].rc);
        answers_begin(self->answers, answer, NOTHING, NOTHING);
        assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                         ANSWER_INTERRUPTED);
        assert_string_equal(self->a.seen[1].reason, prompts[i].reason);
        assert_int_equal(answers_count(self->answers), 0);
    }
    assert_int_equal(self->service.llm.generates, 0);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_ANSWERS_INTERRUPTED),
                     SVC_COUNT(prompts));
}

static void
a_prompt_that_came_with_the_question_goes_out_without_a_reader(void **state)
{
    test_t *self = *state;
    answer_t *answer = add_answer(self, 1, ANSWER_WAITING, 0, true);
    prompt_job_t job = {stream_of(self->room, 1), 101};
    svc_buf_t prompt;

    svc_buf_init(&prompt, 4096);
    played_prompt(&job, &prompt);
    answers_begin(self->answers, answer, NOTHING, svc_buf_str(&prompt));
    svc_buf_fini(&prompt); /* it was borrowed for the call only */
    run_until(self, llm_was_asked);
    assert_int_equal(self->service.llm.generates, 1);
    assert_int_equal(self->service.llm.fence, 101);
    assert_string_equal(self->service.llm.last, "hello");
    assert_int_equal(played_count(&self->reader, READ_PROMPT), 0);
}

static void
a_prompt_of_a_row_that_has_moved_on_is_given_up(void **state)
{
    test_t *self = *state;
    answer_t *answer = add_answer(self, 1, ANSWER_WAITING, 0, true);

    watch(self, 1, &self->a);
    played_say(&self->reader, RC_STALE);
    played_show(&self->reader, RC_OK, 2, ANSWER_COMPLETE);
    answers_begin(self->answers, answer, NOTHING, NOTHING);
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_COMPLETE);
    assert_int_equal(self->a.seen[1].kind, PROTO_FINAL);
    assert_int_equal(answers_count(self->answers), 0);
    assert_int_equal(self->service.llm.generates, 0);
}

static void
a_stop_that_comes_while_the_prompt_is_made_keeps_it_from_being_sent(void **state)
{
    test_t *self = *state;

    played_hold(&self->reader, true);
    answers_begin(self->answers, add_answer(self, 1, ANSWER_WAITING, 0, true), NOTHING,
                  NOTHING);
    run_until(self, reader_is_working);
    played_hold(&self->writer,
                true); /* its end is not stored before the prompt is there */
    answers_stop(self->answers, by_stream(self, 1));
    played_hold(&self->reader, false);
    run_until(self, reader_is_idle);
    assert_non_null(by_stream(self, 1));
    played_hold(&self->writer, false);
    run_until(self, no_answer_lives);
    assert_int_equal(self->service.llm.generates, 0);
    assert_int_equal(played_last(&self->writer).step.next_state, ANSWER_STOPPED);
}

static void
the_generate_call_has_the_trace_of_its_question(void **state)
{
    test_t *self = *state;
    static const char trace[PROTO_TRACE_BYTES + 1] = "the question's  ";

    answers_begin(self->answers, add_answer(self, 1, ANSWER_WAITING, 0, true),
                  (svc_str){trace, PROTO_TRACE_BYTES}, NOTHING);
    run_until(self, llm_was_asked);
    assert_memory_equal(self->service.llm.trace, trace, PROTO_TRACE_BYTES);
    self->service.llm.call = 0;
    (void)begin_answer(self, 2); /* without one it gets a fresh one */
    assert_memory_not_equal(self->service.llm.trace, trace, PROTO_TRACE_BYTES);
}

/* Sends a piece of the open call, as an llm-svc does to an owner that has just come. */
static void
tell_traced_piece(test_t *self, const char *text, svc_str trace)
{
    journal_rep_t rep = {.from = 0, .bytes = svc_str_c(text), .trace = trace};
    svc_call_t *call = svc_server_call(self->service.llm.server, self->service.llm.call);

    assert_non_null(call);
    assert_int_equal(svc_call_partial(call, &rep, 0), RC_OK);
}

static void
an_answer_that_was_taken_over_learns_the_trace_of_its_question(void **state)
{
    test_t *self = *state;
    const svc_str trace = SVC_LIT("the question's  "),
                  other = SVC_LIT("somebody else's ");
    char own[PROTO_TRACE_BYTES];

    (void)add_answer(self, 1, ANSWER_STREAMING, 0, false);
    answers_begin_all(self->answers);
    run_until(self, llm_was_asked);
    memcpy(own, self->service.llm.trace, sizeof(own));
    assert_memory_not_equal(own, trace.p, sizeof(own));
    tell_traced_piece(self, "Hello", trace);
    run_until(self, acked_five);
    assert_memory_equal(self->service.llm.trace, trace.p, trace.n);
    self->service.llm.acks = 0;
    self->service.llm.journaled = 0;
    tell_traced_piece(self, "Hello",
                      other); /* once is enough; the same piece is acknowledged again */
    run_until(self, acked_five);
    assert_memory_equal(self->service.llm.trace, trace.p, trace.n);
}

static void
acknowledgements_have_the_trace_of_the_question(void **state)
{
    test_t *self = *state;
    const svc_str trace = SVC_LIT("the question's  ");

    answers_begin(self->answers, add_answer(self, 1, ANSWER_WAITING, 0, true), trace,
                  NOTHING);
    run_until(self, llm_was_asked);
    memset(self->service.llm.trace, 0, sizeof(self->service.llm.trace));
    tell_traced_piece(self, "Hello", SVC_LIT("somebody else's "));
    run_until(self, acked_five);
    assert_memory_equal(self->service.llm.trace, trace.p, trace.n);
}

static void
what_has_begun_does_not_begin_again(void **state)
{
    test_t *self = *state;
    answer_t *answer = begin_answer(self, 1);

    /* The look of a lease may take a question up before its own commit is known to have worked. */
    assert_ptr_equal(add_answer(self, 1, ANSWER_WAITING, 0, true), answer);
    answers_begin(self->answers, answer, NOTHING, NOTHING);
    watch(self, 1, &self->a);
    service_llm_final(&self->service, 0, "all", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_COMPLETE);
    assert_int_equal(self->service.llm.generates, 1);
    assert_int_equal(self->service.llm.attaches, 0);
}

static void
a_refusal_of_llm_svc_ends_the_answer_with_its_words(void **state)
{
    test_t *self = *state;

    self->service.llm.answer = RC_UNKNOWN_MODEL;
    (void)add_answer(self, 1, ANSWER_WAITING, 0, true);
    watch(self, 1, &self->a);
    answers_begin(self->answers, by_stream(self, 1), NOTHING, NOTHING);
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_INTERRUPTED);
    assert_string_equal(self->a.seen[1].reason, svc_rc_info(RC_UNKNOWN_MODEL)->wire);
    assert_int_equal(answers_count(self->answers), 0);
}

static bool
two_steps_began(void *arg)
{
    test_t *self = arg;

    return played_count(&self->writer, WRITE_STEP) == 2;
}

static void
what_is_posted_to_an_llm_svc_that_is_away_is_lost_without_harm(void **state)
{
    test_t *self = *state;

    (void)begin_answer(self, 1);
    service_llm_piece(&self->service, 0, "Hello");
    run_until(self, acked_five);
    played_hold(&self->writer, true);
    service_llm_piece(&self->service, 5, "!");
    run_until(self, two_steps_began);
    service_stop_llm(&self->service);
    run_until(self, llm_is_away);
    answers_delete(self->answers, by_stream(self, 1)); /* stop and ack find nobody */
    played_hold(&self->writer, false);
    run_until(self, writer_is_idle);
    assert_int_equal(self->service.llm.stops, 0);
    assert_int_equal(answers_count(self->answers), 0);
}

static void
what_llm_svc_says_of_a_deleted_answer_reaches_nobody(void **state)
{
    test_t *self = *state;
    uint64_t old;

    (void)begin_answer(self, 1);
    answers_delete(self->answers, by_stream(self, 1));
    old = self->service.llm.call;
    service_llm_piece(&self->service, 0, "Hello");
    service_llm_final(&self->service, 5, "!", "stop");
    self->service.llm.generates = 0;
    (void)begin_answer(self, 2); /* the same connection: all of that has arrived by now */
    assert_int_not_equal(self->service.llm.call, old);
    assert_int_equal(played_count(&self->writer, WRITE_STEP), 0);
    assert_int_equal(answers_count(self->answers), 1);
}

static bool
stop_is_wanted(void *arg)
{
    return played_count(&((test_t *)arg)->writer, WRITE_STOP) > 0;
}

/* What was true when it was wished need not be true at a late commit. */
static void
a_stop_for_want_of_viewers_is_wished_for_a_moment_only(void **state)
{
    test_t *self = *state;
    const uint64_t before = svc_unix_ms();
    svc_until_t until;
    answer_row_t row = {.stream = stream_of(self->room, 1),
                        .user = USER,
                        .conversation = 1,
                        .message = 2,
                        .term = 1,
                        .fence = 101,
                        .attempt = 1,
                        .asked_ms = before,
                        .stop_alone = true};

    self->service.config->convo_disconnect_stop_s = 1;
    (void)answers_add(self->answers, &row, true);
    run_until(self, stop_is_wanted);
    until = played_last(&self->writer).until;
    assert_int_equal(until.moved_ms, 0);
    assert_in_range(until.expires_ms, before + 1000 + 1, svc_unix_ms() + 3000);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_watcher_hears_every_change_in_order_and_the_end_once),
        TEST(who_waits_for_the_end_hears_nothing_else),
        TEST(a_part_gives_a_watcher_its_time_again),
        TEST(watchers_that_are_gone_are_forgotten_and_disturb_no_other),
        TEST(an_end_to_calls_that_were_answered_otherwise_is_harmless),
        TEST(watchers_of_an_answer_that_is_taken_apart_may_ask_again),
        TEST(a_piece_is_acknowledged_when_it_is_committed_and_the_end_when_it_is_stored),
        TEST(a_piece_that_the_disk_refuses_is_taken_when_it_comes_again),
        TEST(a_full_queue_takes_the_piece_when_it_comes_again),
        TEST(no_step_is_queued_while_the_writer_waits_for_the_database),
        TEST(a_row_that_has_moved_on_is_given_up_and_its_watchers_told_so),
        TEST(a_row_that_is_gone_ends_its_answer_as_deleted),
        TEST(what_a_look_has_not_found_among_ours_is_doubted_until_its_row_says_more),
        TEST(a_prompt_that_cannot_be_made_ends_the_answer_with_its_reason),
        TEST(a_prompt_that_came_with_the_question_goes_out_without_a_reader),
        TEST(a_prompt_of_a_row_that_has_moved_on_is_given_up),
        TEST(a_stop_that_comes_while_the_prompt_is_made_keeps_it_from_being_sent),
        TEST(the_generate_call_has_the_trace_of_its_question),
        TEST(an_answer_that_was_taken_over_learns_the_trace_of_its_question),
        TEST(acknowledgements_have_the_trace_of_the_question),
        TEST(what_has_begun_does_not_begin_again),
        TEST(a_refusal_of_llm_svc_ends_the_answer_with_its_words),
        TEST(what_is_posted_to_an_llm_svc_that_is_away_is_lost_without_harm),
        TEST(what_llm_svc_says_of_a_deleted_answer_reaches_nobody),
        TEST(a_stop_for_want_of_viewers_is_wished_for_a_moment_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
