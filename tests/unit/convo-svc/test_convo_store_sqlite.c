/* test_convo_store_sqlite.c - rows in, rows out: what the store promises to writer and readers.
 *
 * Every function of the seam: what it gives back, what it refuses, what it leaves alone. */
#include "convo_fixture.h"

#include <sqlite3.h>

typedef struct {
    folder_t folder;
    convo_store_t *store; /* writes */
} test_t;

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    folder_open(&self->folder);
    self->store = folder_store(&self->folder, true);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    convo_store_destroy(&self->store);
    folder_close(&self->folder);
    free(self);
    return 0;
}

static svc_rc
copy_conversation(void *arg, const conversation_row_t *row)
{
    conversation_row_t *out = arg;

    *out = *row;
    out->title = (svc_str){svc_str_dup(row->title), row->title.n};
    out->model = (svc_str){svc_str_dup(row->model), row->model.n};
    out->sealed_key = (svc_str){svc_str_dup(row->sealed_key), row->sealed_key.n};
    return RC_OK;
}

static void
free_conversation(conversation_row_t *row)
{
    free((char *)(uintptr_t)row->title.p);
    free((char *)(uintptr_t)row->model.p);
    free((char *)(uintptr_t)row->sealed_key.p);
}

static svc_rc
copy_answer(void *arg, const answer_row_t *row)
{
    answer_row_t *out = arg;

    *out = *row;
    out->stream = out->finish = out->reason = out->text = out->body_hash = (svc_str){NULL,
                                                                                     0};
    return RC_OK;
}

static svc_rc
get_answer(convo_store_t *store, unsigned stream, answer_row_t *out)
{
    char room[PROTO_STREAM_BYTES];

    return store->api->answer_get(store, stream_of(room, stream), copy_answer, out);
}

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

static void
says_not_found_for_what_is_not_there(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    conversation_row_t row;
    answer_row_t answer;
    svc_buf_t buf;

    svc_buf_init(&buf, 100);
    assert_int_equal(api->conversation_get(self->store, 1, copy_conversation, &row),
                     RC_NOT_FOUND);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_NOT_FOUND);
    assert_int_equal(api->answer_at(self->store, 1, 2, copy_answer, &answer),
                     RC_NOT_FOUND);
    assert_int_equal(api->question_text(self->store, 1, 1, 0, fixture_gather, &buf),
                     RC_NOT_FOUND);
    assert_int_equal(api->meta_get(self->store, "nothing", &buf), RC_NOT_FOUND);
    store_begin(self->store);
    assert_int_equal(api->conversation_remove(self->store, 1), RC_NOT_FOUND);
    store_commit(self->store);
    svc_buf_fini(&buf);
}

static void
keeps_values_of_the_database(void **state)
{
    test_t *self = *state;
    svc_buf_t buf;

    svc_buf_init(&buf, 100);
    store_begin(self->store);
    assert_int_equal(self->store->api->meta_put(self->store, "a", SVC_LIT("1")), RC_OK);
    assert_int_equal(self->store->api->meta_put(self->store, "a", SVC_LIT("2")), RC_OK);
    store_commit(self->store);
    assert_int_equal(self->store->api->meta_get(self->store, "a", &buf), RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&buf), SVC_LIT("2")));
    svc_buf_fini(&buf);
}

/* --- list ------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t ids[16];
    uint64_t seqs[16];
    size_t n, max;
} ids_t;

static svc_rc
take_id(void *arg, const conversation_row_t *row)
{
    ids_t *ids = arg;

    if (ids->n == ids->max)
        return RC_LATER;
    ids->ids[ids->n] = row->id;
    ids->seqs[ids->n++] = row->seq;
    return RC_OK;
}

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

/* --- questions and answers -------------------------------------------------------------------- */

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
    assert_int_equal(row.version, 3);
    assert_int_equal(row.turns, 1);
    assert_int_equal(row.turn_bytes, 10);
    assert_false(row.answering);
    free_conversation(&row);
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

/* --- the file --------------------------------------------------------------------------------- */

static void
finds_everything_again_after_reopening(void **state)
{
    test_t *self = *state;
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    convo_store_destroy(&self->store);
    self->store = folder_store(&self->folder, true);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
}

static void
readers_see_only_what_was_committed(void **state)
{
    test_t *self = *state;
    convo_store_t *reader = folder_store(&self->folder, false);
    conversation_row_t row = {.id = 1, .user = USER, .model = SVC_LIT("echo")};
    ids_t ids = {.max = 16};

    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_add(self->store, &row), RC_OK);
    assert_int_equal(reader->api->conversation_list(reader, USER, 0, take_id, &ids),
                     RC_OK);
    assert_int_equal(ids.n, 0);
    store_commit(self->store);
    assert_int_equal(reader->api->conversation_list(reader, USER, 0, take_id, &ids),
                     RC_OK);
    assert_int_equal(ids.n, 1);
    convo_store_destroy(&reader);
}

static void
refuses_a_file_that_is_no_database_and_one_of_a_newer_release(void **state)
{
    test_t *self = *state;
    char *error = NULL;
    sqlite3 *db;
    FILE *file;

    convo_store_destroy(&self->store);
    assert_int_equal(sqlite3_open(self->folder.db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 999", NULL, NULL, NULL),
                     SQLITE_OK);
    (void)sqlite3_close(db);
    assert_null(convo_store_sqlite_open(self->folder.db, true, NULL, &error));
    assert_non_null(strstr(error, "newer release"));
    free(error);
    snprintf(self->folder.db, sizeof(self->folder.db), "%s/other.db", self->folder.path);
    file = fopen(self->folder.db, "w");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        fputs("this is no database ", file);
    fclose(file);
    assert_null(convo_store_sqlite_open(self->folder.db, true, NULL, &error));
    assert_non_null(strstr(error, "cannot open the database"));
    free(error);
    snprintf(self->folder.db, sizeof(self->folder.db), "%s/missing.db",
             self->folder.path);
    assert_null(convo_store_sqlite_open(self->folder.db, false, NULL, &error));
    assert_non_null(strstr(error, "cannot open the database"));
    free(error);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(gives_back_a_conversation_as_it_was_added),
        TEST(refuses_an_id_that_is_taken_and_goes_on),
        TEST(says_not_found_for_what_is_not_there),
        TEST(keeps_values_of_the_database),
        TEST(lists_the_newest_first_and_equal_times_by_insertion),
        TEST(goes_on_behind_the_last_one_seen_even_when_it_was_deleted),
        TEST(numbers_questions_and_answers_without_gaps),
        TEST(refuses_a_second_unfinished_answer_and_a_stream_that_exists),
        TEST(hands_out_text_from_any_offset),
        TEST(takes_a_step_only_from_the_row_that_it_names),
        TEST(never_leaves_a_terminal_state),
        TEST(an_end_gives_the_conversation_a_version_and_counts_the_turn_unless_empty),
        TEST(restarts_a_waiting_answer_with_another_fence),
        TEST(removes_all_that_hangs_on_a_conversation),
        TEST(finds_everything_again_after_reopening),
        TEST(readers_see_only_what_was_committed),
        TEST(refuses_a_file_that_is_no_database_and_one_of_a_newer_release),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
