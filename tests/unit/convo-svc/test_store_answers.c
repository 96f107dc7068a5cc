/* test_store_answers.c - answers and their text: every step from the row that it names, and from no other.
 *
 * Every statement of the file: what it changes, what it leaves alone, how it fails. */
#include "store_fixture.h"

static void
hands_out_text_from_any_offset(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    char room[PROTO_STREAM_BYTES];
    svc_buf_t buf;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "question");
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "abc", ANSWER_STREAMING),
        RC_OK);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_STREAMING, 3, "defg", ANSWER_STREAMING),
        RC_OK);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_STREAMING, 7, "h", ANSWER_COMPLETE),
        RC_OK);
    svc_buf_init(&buf, 100);
    for (unsigned from = 0; from <= 9; from++) {
        const char *rest = from <= 8 ? &"abcdefgh"[from] : "";

        svc_buf_clear(&buf);
        assert_int_equal(
            api->answer_text(self->store, stream_of(room, 1), from, fixture_gather, &buf),
            RC_OK);
        assert_true(svc_str_eq(svc_buf_str(&buf), svc_str_c(rest)));
    }
    svc_buf_clear(&buf);
    assert_int_equal(api->question_text(self->store, 1, 1, 3, fixture_gather, &buf),
                     RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&buf), SVC_LIT("stion")));
    svc_buf_fini(&buf);
}

static void
takes_a_step_only_from_the_row_that_it_names(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    answer_step_t right = {.stream = stream_of(room, 1),
                           .term = 1,
                           .fence = 101,
                           .state = ANSWER_WAITING,
                           .next_state = ANSWER_STREAMING,
                           .bytes = SVC_LIT("x")};
    answer_step_t wrong[5] = {right, right, right, right, right};
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "hello");
    wrong[0].term = 2;
    wrong[1].fence = 102;
    wrong[2].state = ANSWER_STREAMING;
    wrong[3].length = 1;
    wrong[4].stream = SVC_LIT("0123456789abcdef");
    for (size_t i = 0; i < SVC_COUNT(wrong); i++) {
        store_begin(self->store);
        assert_int_equal(self->store->api->answer_step(self->store, &wrong[i], 9),
                         RC_STALE);
        self->store->api->rollback(self->store);
    }
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_int_equal(answer.length, 0);
    store_begin(self->store);
    assert_int_equal(self->store->api->answer_step(self->store, &right, 9), RC_OK);
    store_commit(self->store);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_int_equal(answer.length, 1);
    assert_int_equal(answer.state, ANSWER_STREAMING);
}

static void
never_leaves_a_terminal_state(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];

    store_add_conversation(self->store, 1, "t");
    store_turn(self->store, 1, 1, "q", "a");
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_STREAMING, 1, "b", ANSWER_STREAMING),
        RC_STALE);
    store_begin(self->store);
    assert_int_equal(self->store->api->answer_stop(self->store, stream_of(room, 1)),
                     RC_STALE);
    assert_int_equal(
        self->store->api->answer_restart(self->store, stream_of(room, 1), 1, 101, 5, 2),
        RC_STALE);
    self->store->api->rollback(self->store);
}

static void
an_end_gives_the_conversation_a_version_and_counts_the_turn_unless_empty(void **state)
{
    test_t *self = *state;
    conversation_row_t row;

    store_add_conversation(self->store, 1, "t");
    store_turn(self->store, 1, 1, "question", "");
    store_turn(self->store, 1, 2, "four", "answer");
    assert_int_equal(
        self->store->api->conversation_get(self->store, 1, copy_conversation, &row),
        RC_OK);
    assert_int_equal(row.version, 5);
    assert_int_equal(row.turns, 1);
    assert_int_equal(row.turn_bytes, 10);
    assert_false(row.answering);
    free_conversation(&row);
}

/* Takes a step outside the fixture's ways. */
static svc_rc
step_once(convo_store_t *store, const answer_step_t *step, uint64_t raise)
{
    svc_rc rc;

    store_begin(store);
    rc = store->api->answer_step(store, step, raise);
    store_commit(store);
    return rc;
}

static svc_rc
check_whole_row(void *arg, const answer_row_t *row)
{
    char room[PROTO_STREAM_BYTES];

    (void)arg;
    assert_true(svc_str_eq(row->stream, stream_of(room, 1)));
    assert_int_equal(row->user, USER);
    assert_int_equal(row->conversation, 1);
    assert_int_equal(row->message, 2);
    assert_int_equal(row->state, ANSWER_INTERRUPTED);
    assert_int_equal(row->term, 1);
    assert_int_equal(row->fence, 101);
    assert_int_equal(row->attempt, 1);
    assert_int_equal(row->owner, 77);
    assert_int_equal(row->llm, UINT64_MAX);
    assert_int_equal(row->length, 5);
    assert_int_equal(row->asked_ms, 5000);
    assert_int_equal(row->question_bytes, 8);
    assert_false(row->stop_wanted);
    assert_false(row->fresh);
    assert_true(svc_str_eq(row->finish, SVC_LIT("f")));
    assert_int_equal(row->usage.prompt, 1);
    assert_int_equal(row->usage.completion, 2);
    assert_int_equal(row->usage.total, PROTO_ID_MAX);
    assert_true(svc_str_eq(row->reason, SVC_LIT("upstream")));
    assert_true(svc_str_eq(row->text, SVC_LIT("A sentence.")));
    assert_int_equal(row->retry_after_s, 17);
    assert_true(svc_str_eq(row->body_hash, SVC_LIT("hash")));
    return RC_FORBIDDEN;
}

static void
an_end_is_found_by_stream_and_by_place_with_all_that_it_says(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    char room[PROTO_STREAM_BYTES];
    answer_step_t step = {.stream = stream_of(room, 1),
                          .term = 1,
                          .fence = 101,
                          .state = ANSWER_WAITING,
                          .bytes = SVC_LIT("Hello"),
                          .llm = UINT64_MAX,
                          .next_state = ANSWER_INTERRUPTED,
                          .finish = SVC_LIT("f"),
                          .usage = {1, 2, PROTO_ID_MAX},
                          .reason = SVC_LIT("upstream"),
                          .text = SVC_LIT("A sentence."),
                          .retry_after_s = 17};

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "question");
    assert_int_equal(step_once(self->store, &step, 9), RC_OK);
    assert_int_equal(api->answer_get(self->store, step.stream, check_whole_row, NULL),
                     RC_FORBIDDEN);
    assert_int_equal(api->answer_at(self->store, 1, 2, check_whole_row, NULL),
                     RC_FORBIDDEN);
    assert_int_equal(api->answer_at(self->store, 1, 1, check_whole_row, NULL),
                     RC_NOT_FOUND); /* that is the question */
    assert_int_equal(api->answer_at(self->store, 2, 2, check_whole_row, NULL),
                     RC_NOT_FOUND);
}

static void
a_piece_changes_its_own_answer_and_no_version(void **state)
{
    test_t *self = *state;
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    store_add_conversation(self->store, 2, "t");
    (void)store_ask(self->store, 1, 1, "q");
    (void)store_ask(self->store, 2, 2, "q");
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "one", ANSWER_STREAMING),
        RC_OK);
    assert_int_equal(get_answer(self->store, 2, &answer), RC_OK);
    assert_int_equal(answer.state, ANSWER_WAITING);
    assert_int_equal(answer.length, 0);
    assert_text(self->store, 1, "one");
    assert_text(self->store, 2, "");
    assert_int_equal(get_conversation(self->store, 1).version, 2);
    assert_int_equal(get_conversation(self->store, 1).turns, 0);
    assert_true(get_conversation(self->store, 1).answering);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_STREAMING, 3, "!", ANSWER_COMPLETE),
        RC_OK);
    assert_int_equal(get_conversation(self->store, 1).version, 5);
    assert_int_equal(get_conversation(self->store, 1).turns, 1);
    assert_int_equal(get_conversation(self->store, 1).turn_bytes, 5);
    assert_int_equal(get_conversation(self->store, 2).version, 2);
    assert_int_equal(get_conversation(self->store, 2).turns, 0);
}

static void
a_step_without_text_stores_none(void **state)
{
    test_t *self = *state;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "a", ANSWER_STREAMING),
        RC_OK);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_STREAMING, 1, "", ANSWER_STOPPED),
        RC_OK);
    assert_int_equal(count_rows(self, "chunk"), 1);
    assert_text(self->store, 1, "a");
}

static void
a_stale_step_stores_no_text_even_when_it_is_committed(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    answer_step_t step = {.stream = stream_of(room, 1),
                          .term = 1,
                          .fence = 999,
                          .bytes = SVC_LIT("of another fence"),
                          .next_state = ANSWER_STREAMING};

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    assert_int_equal(step_once(self->store, &step, 9), RC_STALE);
    step.next_state = ANSWER_COMPLETE;
    assert_int_equal(step_once(self->store, &step, 9), RC_STALE);
    assert_int_equal(count_rows(self, "chunk"), 0);
    assert_int_equal(get_conversation(self->store, 1).version, 2);
    assert_int_equal(get_conversation(self->store, 1).turns, 0);
}

static bool
take_one(void *arg, svc_str bytes)
{
    (void)fixture_gather(arg, bytes);
    return false;
}

static void
a_reader_that_has_enough_gets_no_more_text(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    svc_buf_t buf;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "abc", ANSWER_STREAMING),
        RC_OK);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_STREAMING, 3, "def", ANSWER_STREAMING),
        RC_OK);
    svc_buf_init(&buf, 100);
    assert_int_equal(
        self->store->api->answer_text(self->store, stream_of(room, 1), 1, take_one, &buf),
        RC_OK);
    assert_true(buf.n <= 5); /* from byte 1 on: one stretch at most */
    assert_memory_equal(buf.p, "bcdef", buf.n);
    svc_buf_fini(&buf);
}

/* --- stop, restart, unfinished ---------------------------------------------------------------- */

static void
a_stop_is_noted_once_and_for_an_unfinished_answer_only(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    char room[PROTO_STREAM_BYTES];
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    store_add_conversation(self->store, 2, "t");
    (void)store_ask(self->store, 1, 1, "q");
    (void)store_ask(self->store, 2, 2, "q");
    store_begin(self->store);
    assert_int_equal(api->answer_stop(self->store, stream_of(room, 3)), RC_STALE);
    assert_int_equal(api->answer_stop(self->store, stream_of(room, 1)), RC_OK);
    assert_int_equal(api->answer_stop(self->store, stream_of(room, 1)), RC_OK);
    store_commit(self->store);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_true(answer.stop_wanted);
    assert_int_equal(answer.state, ANSWER_WAITING);
    assert_int_equal(get_answer(self->store, 2, &answer), RC_OK);
    assert_false(answer.stop_wanted);
}

static void
restarts_a_waiting_answer_with_another_fence(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    svc_str stream = stream_of(room, 1);
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    store_begin(self->store);
    assert_int_equal(self->store->api->answer_restart(self->store, stream, 1, 7, 500, 2),
                     RC_STALE);
    assert_int_equal(
        self->store->api->answer_restart(self->store, stream, 1, 101, 500, 2), RC_OK);
    assert_int_equal(
        self->store->api->answer_restart(self->store, stream, 1, 101, 501, 2), RC_STALE);
    assert_int_equal(self->store->api->answer_stop(self->store, stream), RC_OK);
    store_commit(self->store);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_int_equal(answer.fence, 500);
    assert_int_equal(answer.attempt, 2);
    assert_true(answer.stop_wanted);
}

static void
an_answer_that_has_begun_is_never_restarted(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    svc_str stream = stream_of(room, 1);
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    store_begin(self->store);
    assert_int_equal(self->store->api->answer_restart(self->store, stream, 2, 101, 5, 2),
                     RC_STALE); /* another term */
    store_commit(self->store);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "a", ANSWER_STREAMING),
        RC_OK);
    store_begin(self->store);
    assert_int_equal(self->store->api->answer_restart(self->store, stream, 1, 101, 5, 2),
                     RC_STALE);
    store_commit(self->store);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_int_equal(answer.fence, 101);
    assert_int_equal(answer.attempt, 1);
}

typedef struct {
    uint64_t conversations[8];
    size_t n, max;
} unfinished_t;

static svc_rc
take_unfinished(void *arg, const answer_row_t *row)
{
    unfinished_t *out = arg;

    if (out->n == out->max)
        return RC_BUSY;
    out->conversations[out->n++] = row->conversation;
    return RC_OK;
}

static void
the_unfinished_come_in_the_order_they_were_asked(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    unfinished_t all = {.max = 8}, few = {.max = 1};

    for (unsigned id = 1; id <= 4; id++) {
        char room[PROTO_STREAM_BYTES];
        answer_row_t row = {.stream = stream_of(room, id),
                            .conversation = id,
                            .term = 1,
                            .fence = 100 + id,
                            .attempt = 1,
                            .asked_ms = 100 - id, /* the last one was asked first */
                            .body_hash = SVC_LIT("h")};
        uint64_t message;

        store_add_conversation(self->store, id, "t");
        store_begin(self->store);
        assert_int_equal(api->question_add(self->store, &row, SVC_LIT("q"), 2, &message),
                         RC_OK);
        store_commit(self->store);
    }
    assert_int_equal(
        store_step_answer(self->store, 2, ANSWER_WAITING, 0, "a", ANSWER_STREAMING),
        RC_OK);
    assert_int_equal(
        store_step_answer(self->store, 3, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_OK);
    assert_int_equal(api->answer_unfinished(self->store, take_unfinished, &all), RC_OK);
    assert_int_equal(all.n, 3);
    assert_int_equal(all.conversations[0], 4);
    assert_int_equal(all.conversations[1], 2);
    assert_int_equal(all.conversations[2], 1);
    assert_int_equal(api->answer_unfinished(self->store, take_unfinished, &few), RC_BUSY);
}

/* --- many at once ------------------------------------------------------------------------------- */

static answer_step_t
step_of(char room[PROTO_STREAM_BYTES], unsigned stream, int state, uint64_t length,
        const char *text, int next)
{
    return (answer_step_t){.stream = stream_of(room, stream),
                           .term = 1,
                           .fence = 100 + stream,
                           .state = state,
                           .length = length,
                           .bytes = svc_str_c(text),
                           .llm = 5,
                           .next_state = next,
                           .finish = SVC_LIT("stop"),
                           .usage = {stream, 2, 3}};
}

/* What the five answers of the next test have become. */
static void
check_steps(test_t *self)
{
    static const int states[] = {0,
                                 ANSWER_STOPPED,
                                 ANSWER_COMPLETE,
                                 ANSWER_STREAMING,
                                 ANSWER_INTERRUPTED,
                                 ANSWER_COMPLETE};
    static const uint64_t turn_bytes[] = {0, 15, 11, 0, 0, 12};
    static const char *const texts[] = {"", "one and", "two", "three", "", "five"};
    answer_row_t answer;

    for (unsigned i = 1; i <= 5; i++) {
        conversation_row_t row = get_conversation(self->store, i);

        assert_text(self->store, i, texts[i]);
        assert_int_equal(get_answer(self->store, i, &answer), RC_OK);
        assert_int_equal(answer.state, states[i]);
        assert_int_equal(answer.llm, 5);
        assert_int_equal(answer.usage.prompt, i == 3 ? 0 : i);
        assert_int_equal(row.answering, i == 3);
        assert_int_equal(row.turn_bytes, turn_bytes[i]);
        assert_int_equal(row.version, i == 3 ? 2 : 1002);
    }
}

static void
many_steps_at_once_are_what_they_are_one_by_one(void **state)
{
    test_t *self = *state;
    char room[10][PROTO_STREAM_BYTES];
    answer_step_t steps[] = {
        step_of(room[0], 1, ANSWER_WAITING, 0, "one ", ANSWER_STREAMING),
        step_of(room[1], 2, ANSWER_WAITING, 0, "two", ANSWER_COMPLETE),
        step_of(room[2], 1, ANSWER_STREAMING, 4, "and", ANSWER_STREAMING),
        step_of(room[3], 3, ANSWER_WAITING, 7, "stale", ANSWER_COMPLETE),
        step_of(room[4], 2, ANSWER_WAITING, 0, "too late", ANSWER_COMPLETE),
        step_of(room[5], 1, ANSWER_STREAMING, 7, "", ANSWER_STOPPED),
        step_of(room[6], 4, ANSWER_WAITING, 0, "", ANSWER_INTERRUPTED),
        step_of(room[7], 99, ANSWER_WAITING, 0, "nobody's", ANSWER_COMPLETE),
        step_of(room[8], 5, ANSWER_WAITING, 0, "five", ANSWER_COMPLETE),
        step_of(room[9], 3, ANSWER_WAITING, 0, "three", ANSWER_STREAMING),
    };
    static const svc_rc wanted[] = {RC_OK, RC_OK, RC_OK,    RC_STALE, RC_STALE,
                                    RC_OK, RC_OK, RC_STALE, RC_OK,    RC_OK};
    svc_rc rcs[SVC_COUNT(steps)];

    for (unsigned i = 1; i <= 5; i++) {
        store_add_conversation(self->store, i, "t");
        (void)store_ask(self->store, i, i, "question");
    }
    store_begin(self->store);
    assert_int_equal(
        self->store->api->answer_steps(self->store, steps, SVC_COUNT(steps), 1000, rcs),
        RC_OK);
    store_commit(self->store);
    for (size_t i = 0; i < SVC_COUNT(steps); i++)
        assert_int_equal(rcs[i], wanted[i]);
    check_steps(self);
}

static void
of_many_ends_each_finds_its_row_as_it_says_or_nothing(void **state)
{
    test_t *self = *state;
    char room[5][PROTO_STREAM_BYTES];
    answer_step_t steps[5];
    svc_rc rcs[5];

    for (unsigned i = 0; i < 5; i++) {
        store_add_conversation(self->store, i + 1, "t");
        (void)store_ask(self->store, i + 1, i + 1, "question");
        steps[i] = step_of(room[i], i + 1, ANSWER_WAITING, 0, "text", ANSWER_COMPLETE);
    }
    steps[0].term++;
    steps[1].fence++;
    steps[2].state = ANSWER_STREAMING;
    steps[3].length = 1;
    store_begin(self->store);
    assert_int_equal(self->store->api->answer_steps(self->store, steps, 5, 1000, rcs),
                     RC_OK);
    store_commit(self->store);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(rcs[i], i < 4 ? RC_STALE : RC_OK);
        assert_text(self->store, i + 1, i < 4 ? "" : "text");
        assert_int_equal(get_conversation(self->store, i + 1).answering, i < 4);
    }
}

/* --- failures --------------------------------------------------------------------------------- */

static svc_rc
do_step_to(convo_store_t *store, int next)
{
    char room[PROTO_STREAM_BYTES];
    answer_step_t step = {.stream = stream_of(room, 1),
                          .term = 1,
                          .fence = 101,
                          .bytes = SVC_LIT("a"),
                          .next_state = next};

    return store->api->answer_step(store, &step, 9);
}

static svc_rc
do_step(convo_store_t *store)
{
    return do_step_to(store, ANSWER_STREAMING);
}

static svc_rc
do_end(convo_store_t *store)
{
    return do_step_to(store, ANSWER_COMPLETE);
}

static svc_rc
do_restart(convo_store_t *store)
{
    char room[PROTO_STREAM_BYTES];

    return store->api->answer_restart(store, stream_of(room, 1), 1, 101, 102, 2);
}

static svc_rc
do_stop(convo_store_t *store)
{
    char room[PROTO_STREAM_BYTES];

    return store->api->answer_stop(store, stream_of(room, 1));
}

static svc_rc
do_get(convo_store_t *store)
{
    answer_row_t row;

    return get_answer(store, 1, &row);
}

static svc_rc
do_at(convo_store_t *store)
{
    answer_row_t row;

    return store->api->answer_at(store, 1, 2, copy_answer, &row);
}

static svc_rc
do_unfinished(convo_store_t *store)
{
    unfinished_t all = {.max = 8};

    return store->api->answer_unfinished(store, take_unfinished, &all);
}

static svc_rc
do_text(convo_store_t *store)
{
    char room[PROTO_STREAM_BYTES];
    svc_buf_t buf;
    svc_rc rc;

    svc_buf_init(&buf, 100);
    rc = store->api->answer_text(store, stream_of(room, 1), 0, fixture_gather, &buf);
    svc_buf_fini(&buf);
    return rc;
}

static void
writes_that_the_database_refuses_are_unavailable_and_change_nothing(void **state)
{
    test_t *self = *state;
    static store_fn *const writes[] = {do_step, do_end, do_restart, do_stop};

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    assert_writes_are_refused(self, writes, SVC_COUNT(writes));
    assert_int_equal(do_stop(self->store), RC_OK);
    assert_int_equal(do_step(self->store), RC_OK);
}

static void
a_text_whose_second_half_does_not_fit_the_disk_is_unavailable(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    static char text[100000];
    answer_step_t step = {.stream = stream_of(room, 1),
                          .term = 1,
                          .fence = 101,
                          .bytes = {text, sizeof(text)},
                          .next_state = ANSWER_STREAMING};
    answer_row_t answer;

    memset(text, 'x', sizeof(text));
    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    store_does(self, "PRAGMA max_page_count = 1"); /* no page more than there are */
    store_begin(self->store);
    assert_int_equal(self->store->api->answer_step(self->store, &step, 9),
                     RC_UNAVAILABLE);
    self->store->api->rollback(self->store);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_int_equal(answer.state, ANSWER_WAITING);
    assert_int_equal(answer.length, 0);
}

static void
a_schema_that_is_not_ours_is_internal(void **state)
{
    test_t *self = *state;
    static store_fn *const all[] = {do_step, do_end, do_restart,    do_stop,
                                    do_get,  do_at,  do_unfinished, do_text};

    assert_a_broken_schema_is_internal(self, all, SVC_COUNT(all));
}

int
main(void)
{
    struct CMUnitTest tests[] = {
        BOTH(hands_out_text_from_any_offset),
        BOTH(takes_a_step_only_from_the_row_that_it_names),
        BOTH(never_leaves_a_terminal_state),
        BOTH(an_end_gives_the_conversation_a_version_and_counts_the_turn_unless_empty),
        BOTH(an_end_is_found_by_stream_and_by_place_with_all_that_it_says),
        BOTH(a_piece_changes_its_own_answer_and_no_version),
        BOTH(a_step_without_text_stores_none),
        BOTH(a_stale_step_stores_no_text_even_when_it_is_committed),
        BOTH(a_reader_that_has_enough_gets_no_more_text),
        BOTH(a_stop_is_noted_once_and_for_an_unfinished_answer_only),
        BOTH(restarts_a_waiting_answer_with_another_fence),
        BOTH(an_answer_that_has_begun_is_never_restarted),
        BOTH(many_steps_at_once_are_what_they_are_one_by_one),
        BOTH(of_many_ends_each_finds_its_row_as_it_says_or_nothing),
        BOTH(the_unfinished_come_in_the_order_they_were_asked),
        SQLITE(writes_that_the_database_refuses_are_unavailable_and_change_nothing),
        SQLITE(a_text_whose_second_half_does_not_fit_the_disk_is_unavailable),
        SQLITE(a_schema_that_is_not_ours_is_internal),
    };

    return run_stores("tests", tests, SVC_COUNT(tests));
}
