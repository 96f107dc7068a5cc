/* test_store_conversations.c - conversations and questions: rows in, rows out, order, numbers, refusals.
 *
 * Every statement of the file: what it changes, what it leaves alone, how it fails. */
#include "store_fixture.h"

static void
gives_back_a_conversation_as_it_was_added(void **state)
{
    test_t *self = *state;
    conversation_row_t row = {.id = PROTO_ID_MAX,
                              .user = USER,
                              .title = {"a\0b\xc3\xa9", 5},
                              .model = SVC_LIT("gpt-4"),
                              .sealed_key = {"\0\xff", 2},
                              .created_s = 42,
                              .version = 9};
    conversation_row_t got;

    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_add(self->store, &row), RC_OK);
    store_commit(self->store);
    assert_int_equal(
        self->store->api->conversation_get(self->store, row.id, copy_conversation, &got),
        RC_OK);
    assert_int_equal(got.id, row.id);
    assert_int_equal(got.user, USER);
    assert_true(svc_str_eq(got.title, row.title));
    assert_true(svc_str_eq(got.model, row.model));
    assert_true(svc_str_eq(got.sealed_key, row.sealed_key));
    assert_int_equal(got.created_s, 42);
    assert_int_equal(got.version, 9);
    assert_int_equal(got.last_message, 0);
    assert_false(got.answering);
    free_conversation(&got);
}

static void
refuses_an_id_that_is_taken_and_goes_on(void **state)
{
    test_t *self = *state;
    conversation_row_t row = {.id = 5, .user = USER, .model = SVC_LIT("echo")};

    store_add_conversation(self->store, 5, "first");
    store_begin(self->store);
    assert_int_equal(self->store->api->save(self->store), RC_OK);
    assert_int_equal(self->store->api->conversation_add(self->store, &row), RC_CONFLICT);
    assert_int_equal(self->store->api->undo(self->store), RC_OK);
    row.id = 6;
    assert_int_equal(self->store->api->conversation_add(self->store, &row), RC_OK);
    store_commit(self->store);
}

static uint64_t
list_version(convo_store_t *store)
{
    uint64_t version = 0;

    assert_int_equal(store->api->list_version(store, USER, &version), RC_OK);
    return version;
}

/* Also when the one before has done so in the same transaction, and was undone. */
static void
each_commit_that_adds_or_removes_raises_the_list(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    conversation_row_t row = {.id = 5, .user = USER, .model = SVC_LIT("echo")};
    uint64_t last;

    assert_int_equal(list_version(self->store), 0);
    for (int undone = 0; undone < 2; undone++) {
        last = list_version(self->store);
        store_begin(self->store);
        assert_int_equal(api->save(self->store), RC_OK);
        assert_int_equal(api->conversation_add(self->store, &row), RC_OK);
        assert_int_equal(undone ? api->undo(self->store) : api->keep(self->store), RC_OK);
        row.id++;
        assert_int_equal(api->conversation_add(self->store, &row), RC_OK);
        row.id++;
        store_commit(self->store);
        assert_true(list_version(self->store) > last);
    }
    last = list_version(self->store);
    store_begin(self->store);
    assert_int_equal(api->conversation_add(self->store, &row), RC_OK);
    api->rollback(self->store);
    assert_int_equal(list_version(self->store), last);
    store_begin(self->store);
    assert_int_equal(api->conversation_remove(self->store, 5), RC_OK);
    store_commit(self->store);
    assert_true(list_version(self->store) > last);
}

/* --- list -------------------------------------------------------------------------------------- */

static void
add_at(convo_store_t *store, uint64_t id, uint64_t user, uint64_t created_s)
{
    conversation_row_t row = {
        .id = id, .user = user, .model = SVC_LIT("echo"), .created_s = created_s};

    store_begin(store);
    assert_int_equal(store->api->conversation_add(store, &row), RC_OK);
    store_commit(store);
}

static void
lists_the_newest_first_and_equal_times_by_insertion(void **state)
{
    test_t *self = *state;
    ids_t ids = {.max = 16};

    add_at(self->store, 90, USER, 10);
    add_at(self->store, 10, USER, 20);
    add_at(self->store, 50, STRANGER, 30);
    add_at(self->store, 20, USER, 20);
    add_at(self->store, 5, USER, 15);
    assert_int_equal(
        self->store->api->conversation_list(self->store, USER, 0, take_id, &ids), RC_OK);
    assert_int_equal(ids.n, 4);
    assert_int_equal(ids.ids[0], 20);
    assert_int_equal(ids.ids[1], 10);
    assert_int_equal(ids.ids[2], 5);
    assert_int_equal(ids.ids[3], 90);
}

static void
goes_on_behind_the_last_one_seen_even_when_it_was_deleted(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    ids_t ids = {.max = 2};
    uint64_t after;

    for (uint64_t id = 1; id <= 5; id++)
        add_at(self->store, id, USER, 10 + id / 3);
    assert_int_equal(api->conversation_list(self->store, USER, 0, take_id, &ids),
                     RC_LATER);
    assert_int_equal(ids.ids[1], 4);
    after = ids.seqs[1];
    ids = (ids_t){.max = 16};
    assert_int_equal(api->conversation_list(self->store, USER, after, take_id, &ids),
                     RC_OK);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.ids[0], 3);
    store_begin(self->store);
    assert_int_equal(api->conversation_remove(self->store, 4), RC_OK);
    store_commit(self->store);
    ids = (ids_t){.max = 16};
    assert_int_equal(api->conversation_list(self->store, USER, after, take_id, &ids),
                     RC_OK);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.ids[0], 3);
    assert_int_equal(ids.ids[2], 1);
}

static svc_rc
refuse_conversation(void *arg, const conversation_row_t *row)
{
    (void)row;
    return *(svc_rc *)arg;
}

static void
gives_back_what_the_receiver_of_a_row_says(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    svc_rc rc = RC_FORBIDDEN;

    store_add_conversation(self->store, 1, "t");
    assert_int_equal(api->conversation_get(self->store, 1, refuse_conversation, &rc),
                     RC_FORBIDDEN);
    assert_int_equal(
        api->conversation_list(self->store, USER, 0, refuse_conversation, &rc),
        RC_FORBIDDEN);
    rc = RC_OK;
    assert_int_equal(api->conversation_get(self->store, 1, refuse_conversation, &rc),
                     RC_OK);
}

static void
lists_nothing_of_a_stranger_whatever_the_cursor(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;

    add_at(self->store, 1, STRANGER, 10);
    add_at(self->store, 2, USER, 20);
    add_at(self->store, 3, STRANGER, 30);
    for (uint64_t after = 0; after <= 5; after++) {
        ids_t ids = {.max = 16};

        assert_int_equal(api->conversation_list(self->store, USER, after, take_id, &ids),
                         RC_OK);
        assert_true(ids.n <= 1);
        assert_true(ids.n == 0 || ids.ids[0] == 2);
        ids.n = 0;
        assert_int_equal(api->conversation_list(self->store, 99, after, take_id, &ids),
                         RC_OK);
        assert_int_equal(ids.n, 0);
    }
}

static void
a_cursor_before_everything_and_one_past_everything_are_harmless(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    ids_t ids = {.max = 16};

    add_at(self->store, 1, USER, 10);
    add_at(self->store, 2, USER, 20);
    assert_int_equal(api->conversation_list(self->store, USER, 1, take_id, &ids), RC_OK);
    assert_int_equal(ids.n, 0); /* behind the oldest stands nothing */
    assert_int_equal(
        api->conversation_list(self->store, USER, PROTO_ID_MAX, take_id, &ids), RC_OK);
    assert_int_equal(ids.n, 2);
}

static void
the_place_of_a_deleted_one_is_told_by_rows_of_its_user_only(void **state)
{
    test_t *self = *state;
    ids_t ids = {.max = 16};

    add_at(self->store, 1, USER, 10);
    add_at(self->store, 2, STRANGER, 5); /* by a clock that was set back for a moment */
    add_at(self->store, 3, USER, 20);
    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_remove(self->store, 3), RC_OK);
    store_commit(self->store);
    assert_int_equal(
        self->store->api->conversation_list(self->store, USER, 3, take_id, &ids), RC_OK);
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.ids[0], 1);
}

static void
a_place_in_the_list_is_never_given_twice(void **state)
{
    test_t *self = *state;
    ids_t before = {.max = 16}, after = {.max = 16};

    add_at(self->store, 1, USER, 10);
    assert_int_equal(
        self->store->api->conversation_list(self->store, USER, 0, take_id, &before),
        RC_OK);
    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_remove(self->store, 1), RC_OK);
    store_commit(self->store);
    add_at(self->store, 2, USER, 10);
    assert_int_equal(
        self->store->api->conversation_list(self->store, USER, 0, take_id, &after),
        RC_OK);
    assert_true(after.seqs[0] > before.seqs[0]);
}

/* --- questions --------------------------------------------------------------------------------- */

static void
numbers_questions_and_answers_without_gaps(void **state)
{
    test_t *self = *state;
    answer_row_t answer;
    conversation_row_t row;

    store_add_conversation(self->store, 1, "t");
    assert_int_equal(store_ask(self->store, 1, 1, "hello"), 2);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_int_equal(answer.user, USER);
    assert_int_equal(answer.conversation, 1);
    assert_int_equal(answer.message, 2);
    assert_int_equal(answer.state, ANSWER_WAITING);
    assert_int_equal(answer.fence, 101);
    assert_int_equal(answer.question_bytes, 5);
    assert_int_equal(answer.asked_ms, 5000);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "hi", ANSWER_COMPLETE),
        RC_OK);
    assert_int_equal(store_ask(self->store, 1, 2, "again"), 4);
    assert_int_equal(
        self->store->api->conversation_get(self->store, 1, copy_conversation, &row),
        RC_OK);
    assert_int_equal(row.last_message, 4);
    assert_int_equal(row.turns, 1);
    assert_int_equal(row.turn_bytes, 7);
    assert_true(row.answering);
    free_conversation(&row);
}

static void
refuses_a_second_unfinished_answer_and_a_stream_that_exists(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    answer_row_t row = {.stream = stream_of(room, 2),
                        .conversation = 1,
                        .term = 1,
                        .fence = 9,
                        .attempt = 1,
                        .body_hash = SVC_LIT("h")};
    uint64_t message;

    store_add_conversation(self->store, 1, "t");
    store_add_conversation(self->store, 2, "t");
    (void)store_ask(self->store, 1, 1, "hello");
    store_begin(self->store);
    assert_int_equal(
        self->store->api->question_add(self->store, &row, SVC_LIT("x"), 2, &message),
        RC_CONFLICT);
    self->store->api->rollback(self->store);
    row.stream = stream_of(room, 1);
    row.conversation = 2;
    store_begin(self->store);
    assert_int_equal(
        self->store->api->question_add(self->store, &row, SVC_LIT("x"), 2, &message),
        RC_CONFLICT);
    self->store->api->rollback(self->store);
}

static svc_rc
add_question(convo_store_t *store, uint64_t conversation, unsigned stream,
             uint64_t version, uint64_t *message)
{
    char room[PROTO_STREAM_BYTES];
    answer_row_t row = {.stream = stream_of(room, stream),
                        .conversation = conversation,
                        .term = 1,
                        .fence = 9,
                        .attempt = 1,
                        .body_hash = SVC_LIT("h")};

    return store->api->question_add(store, &row, SVC_LIT("x"), version, message);
}

static void
a_refused_question_leaves_no_gap_and_no_trace(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    uint64_t message = 77;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "first");
    store_begin(self->store);
    assert_int_equal(api->save(self->store), RC_OK);
    assert_int_equal(add_question(self->store, 1, 2, 9, &message), RC_CONFLICT);
    assert_int_equal(api->undo(self->store), RC_OK);
    store_commit(self->store);
    assert_int_equal(message, 77); /* nothing is given but with RC_OK */
    assert_int_equal(count_rows(self, "message"), 1);
    assert_int_equal(count_rows(self, "answer"), 1);
    assert_int_equal(get_conversation(self->store, 1).last_message, 2);
    assert_int_equal(get_conversation(self->store, 1).version, 2);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_OK);
    assert_int_equal(store_ask(self->store, 1, 2, "second"), 4);
}

static void
a_question_to_no_conversation_is_not_found(void **state)
{
    test_t *self = *state;
    uint64_t message = 0;

    store_begin(self->store);
    assert_int_equal(add_question(self->store, 1, 1, 9, &message), RC_NOT_FOUND);
    store_commit(self->store);
    assert_int_equal(count_rows(self, "message"), 0);
    assert_int_equal(count_rows(self, "answer"), 0);
}

static void
a_question_gives_the_conversation_its_version_and_no_other(void **state)
{
    test_t *self = *state;
    uint64_t message = 0;

    store_add_conversation(self->store, 1, "t");
    store_add_conversation(self->store, 2, "t");
    store_begin(self->store);
    assert_int_equal(add_question(self->store, 1, 1, 12345, &message), RC_OK);
    store_commit(self->store);
    assert_int_equal(get_conversation(self->store, 1).version, 12345);
    assert_true(get_conversation(self->store, 1).answering);
    assert_int_equal(get_conversation(self->store, 2).version, 1);
    assert_false(get_conversation(self->store, 2).answering);
    assert_int_equal(get_conversation(self->store, 2).last_message, 0);
}

static void
a_text_comes_back_byte_by_byte_with_zeros_and_all(void **state)
{
    test_t *self = *state;
    static const char text[] = "a\0\xc3\xa9\xf0\x9f\x98\x80\n\"'";
    char room[PROTO_STREAM_BYTES];
    answer_row_t row = {.stream = stream_of(room, 1),
                        .conversation = 1,
                        .attempt = 1,
                        .body_hash = SVC_LIT("h")};
    svc_buf_t buf;
    uint64_t message = 0;

    store_add_conversation(self->store, 1, "t");
    store_begin(self->store);
    assert_int_equal(self->store->api->question_add(self->store, &row,
                                                    (svc_str){text, sizeof(text) - 1}, 2,
                                                    &message),
                     RC_OK);
    store_commit(self->store);
    svc_buf_init(&buf, 100);
    for (uint64_t from = 0; from < sizeof(text) + 1; from++) {
        size_t skip = from < sizeof(text) - 1 ? (size_t)from : sizeof(text) - 1;

        svc_buf_clear(&buf);
        assert_int_equal(self->store->api->question_text(self->store, 1, 1, from,
                                                         fixture_gather, &buf),
                         RC_OK);
        assert_true(svc_str_eq(svc_buf_str(&buf),
                               (svc_str){text + skip, sizeof(text) - 1 - skip}));
    }
    assert_int_equal(
        self->store->api->question_text(self->store, 1, 2, 0, fixture_gather, &buf),
        RC_NOT_FOUND); /* that is the answer */
    svc_buf_fini(&buf);
}

static svc_rc
count_answer(void *arg, const answer_row_t *row)
{
    (void)row;
    (*(int *)arg)++;
    return RC_OK;
}

static void
removes_all_that_hangs_on_a_conversation(void **state)
{
    test_t *self = *state;
    svc_buf_t buf;
    char room[PROTO_STREAM_BYTES];
    answer_row_t answer;
    int n = 0;

    store_add_conversation(self->store, 1, "t");
    store_add_conversation(self->store, 2, "t");
    store_turn(self->store, 1, 1, "q", "a");
    (void)store_ask(self->store, 1, 2, "q");
    (void)store_ask(self->store, 2, 3, "q");
    assert_int_equal(self->store->api->answer_unfinished(self->store, count_answer, &n),
                     RC_OK);
    assert_int_equal(n, 2);
    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_remove(self->store, 1), RC_OK);
    store_commit(self->store);
    assert_int_equal(count_rows(self, "conversation"), 1);
    assert_int_equal(count_rows(self, "message"), 1);
    assert_int_equal(count_rows(self, "answer"), 1);
    assert_int_equal(count_rows(self, "chunk"), 0);
    svc_buf_init(&buf, 10);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_NOT_FOUND);
    assert_int_equal(self->store->api->answer_text(self->store, stream_of(room, 1), 0,
                                                   fixture_gather, &buf),
                     RC_OK);
    assert_int_equal(buf.n, 0);
    n = 0;
    assert_int_equal(self->store->api->answer_unfinished(self->store, count_answer, &n),
                     RC_OK);
    assert_int_equal(n, 1);
    assert_int_equal(
        store_step_answer(self->store, 2, ANSWER_WAITING, 0, "x", ANSWER_STREAMING),
        RC_STALE);
    svc_buf_fini(&buf);
}

/* --- failures --------------------------------------------------------------------------------- */

static svc_rc
do_add(convo_store_t *store)
{
    conversation_row_t row = {.id = 100, .user = USER, .model = SVC_LIT("echo")};

    return store->api->conversation_add(store, &row);
}

static svc_rc
do_remove(convo_store_t *store)
{
    return store->api->conversation_remove(store, 1);
}

static svc_rc
do_question(convo_store_t *store)
{
    uint64_t message;

    return add_question(store, 1, 1, 9, &message);
}

static svc_rc
do_get(convo_store_t *store)
{
    svc_rc rc = RC_OK;

    return store->api->conversation_get(store, 1, refuse_conversation, &rc);
}

static svc_rc
do_list(convo_store_t *store)
{
    ids_t ids = {.max = 16};

    return store->api->conversation_list(store, USER, 0, take_id, &ids);
}

static svc_rc
do_list_after(convo_store_t *store)
{
    ids_t ids = {.max = 16};

    return store->api->conversation_list(store, USER, 1, take_id, &ids);
}

static svc_rc
do_question_text(convo_store_t *store)
{
    svc_buf_t buf;
    svc_rc rc;

    svc_buf_init(&buf, 10);
    rc = store->api->question_text(store, 1, 1, 0, fixture_gather, &buf);
    svc_buf_fini(&buf);
    return rc;
}

static void
writes_that_the_database_refuses_are_unavailable_and_change_nothing(void **state)
{
    test_t *self = *state;
    static store_fn *const writes[] = {do_add, do_remove, do_question};

    store_add_conversation(self->store, 1, "t");
    assert_writes_are_refused(self, writes, SVC_COUNT(writes));
    assert_int_equal(do_question(self->store), RC_OK);
    assert_int_equal(do_add(self->store), RC_OK);
    assert_int_equal(do_remove(self->store), RC_OK);
}

static void
reads_go_on_while_somebody_holds_the_lock(void **state)
{
    test_t *self = *state;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    other_does(self, "BEGIN IMMEDIATE; DELETE FROM conversation");
    assert_int_equal(do_get(self->store), RC_OK);
    assert_int_equal(do_list(self->store), RC_OK);
    assert_int_equal(do_question_text(self->store), RC_OK);
    other_does(self, "ROLLBACK");
}

static void
a_schema_that_is_not_ours_is_internal(void **state)
{
    test_t *self = *state;
    static store_fn *const all[] = {do_add,  do_remove,     do_question,     do_get,
                                    do_list, do_list_after, do_question_text};

    assert_a_broken_schema_is_internal(self, all, SVC_COUNT(all));
}

int
main(void)
{
    struct CMUnitTest tests[] = {
        BOTH(gives_back_a_conversation_as_it_was_added),
        BOTH(refuses_an_id_that_is_taken_and_goes_on),
        BOTH(each_commit_that_adds_or_removes_raises_the_list),
        BOTH(lists_the_newest_first_and_equal_times_by_insertion),
        BOTH(goes_on_behind_the_last_one_seen_even_when_it_was_deleted),
        BOTH(gives_back_what_the_receiver_of_a_row_says),
        BOTH(lists_nothing_of_a_stranger_whatever_the_cursor),
        BOTH(a_cursor_before_everything_and_one_past_everything_are_harmless),
        BOTH(the_place_of_a_deleted_one_is_told_by_rows_of_its_user_only),
        BOTH(a_place_in_the_list_is_never_given_twice),
        BOTH(numbers_questions_and_answers_without_gaps),
        BOTH(refuses_a_second_unfinished_answer_and_a_stream_that_exists),
        BOTH(a_refused_question_leaves_no_gap_and_no_trace),
        BOTH(a_question_to_no_conversation_is_not_found),
        BOTH(a_question_gives_the_conversation_its_version_and_no_other),
        BOTH(a_text_comes_back_byte_by_byte_with_zeros_and_all),
        BOTH(removes_all_that_hangs_on_a_conversation),
        SQLITE(writes_that_the_database_refuses_are_unavailable_and_change_nothing),
        SQLITE(reads_go_on_while_somebody_holds_the_lock),
        SQLITE(a_schema_that_is_not_ours_is_internal),
    };

    return run_stores("tests", tests, SVC_COUNT(tests));
}
