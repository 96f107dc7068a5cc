/* test_convo_store.c - the choice between the databases, and what is the same in both: transactions, savepoints, values.
 *
 * (Rows stand in test_store_conversations.c, test_store_answers.c and test_store_owners.c.) */
#include "store_fixture.h"

static void
opens_the_file_that_the_place_names(void **state)
{
    folder_t folder;
    convo_place_t place = {.driver = SVC_STORAGE_SQLITE};
    char *error = NULL;
    convo_store_t *store;

    (void)state;
    folder_open(&folder);
    place.path = folder.db;
    assert_string_equal(convo_place_name(&place), folder.db);
    assert_null(convo_store_open(&place, STORE_READ, NULL, &error)); /* not there yet */
    assert_non_null(strstr(error, folder.db));
    free(error);
    store = convo_store_open(&place, STORE_WRITE, NULL, &error);
    assert_non_null(store);
    store_add_conversation(store, 1, "t");
    convo_store_destroy(&store);
    folder_close(&folder);
}

static void
never_calls_a_server_by_its_url(void **state)
{
    convo_place_t place = {.driver = SVC_STORAGE_POSTGRESQL,
                           .url = "postgresql://user:geheim@127.0.0.1:1/db"};
    const atomic_bool stop = true; /* nobody waits for a server to come */
    char *error = NULL;

    (void)state;
    assert_string_equal(convo_place_name(&place), "PostgreSQL");
    place.stop = &stop;
    assert_null(convo_store_open(&place, STORE_WRITE, NULL, &error));
    assert_non_null(strstr(error, "PostgreSQL"));
    assert_null(strstr(error, "geheim"));
    free(error);
}

/* --- both --------------------------------------------------------------------------------------- */

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

static void
a_savepoint_undoes_one_job_and_a_rollback_all(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    svc_buf_t buf;

    svc_buf_init(&buf, 100);
    store_begin(self->store);
    assert_int_equal(api->save(self->store), RC_OK);
    assert_int_equal(api->meta_put(self->store, "kept", SVC_LIT("1")), RC_OK);
    assert_int_equal(api->keep(self->store), RC_OK);
    assert_int_equal(api->save(self->store), RC_OK);
    assert_int_equal(api->meta_put(self->store, "undone", SVC_LIT("1")), RC_OK);
    assert_int_equal(api->undo(self->store), RC_OK);
    store_commit(self->store);
    assert_int_equal(api->meta_get(self->store, "kept", &buf), RC_OK);
    assert_int_equal(api->meta_get(self->store, "undone", &buf), RC_NOT_FOUND);
    store_begin(self->store);
    assert_int_equal(api->meta_put(self->store, "kept", SVC_LIT("2")), RC_OK);
    api->rollback(self->store);
    api->rollback(self->store); /* harmless: nothing is open */
    svc_buf_clear(&buf);
    assert_int_equal(api->meta_get(self->store, "kept", &buf), RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&buf), SVC_LIT("1")));
    svc_buf_fini(&buf);
}

static void
tells_the_time_of_the_database(void **state)
{
    test_t *self = *state;
    const uint64_t before = svc_unix_ms();
    uint64_t now = 0;

    store_begin(self->store);
    assert_int_equal(self->store->api->clock(self->store, &now), RC_OK);
    assert_in_range(now, before - 1, svc_unix_ms() + 1);
    store_commit(self->store);
}

static void
a_value_that_does_not_fit_the_buffer_is_too_big(void **state)
{
    test_t *self = *state;
    svc_buf_t buf;

    svc_buf_init(&buf, 4);
    store_begin(self->store);
    assert_int_equal(self->store->api->meta_put(self->store, "a", SVC_LIT("12345")),
                     RC_OK);
    store_commit(self->store);
    assert_int_equal(self->store->api->meta_get(self->store, "a", &buf), RC_TOO_BIG);
    assert_int_equal(buf.n, 0);
    svc_buf_fini(&buf);
}

static void
a_transaction_that_is_not_open_cannot_be_committed(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;

    assert_int_equal(api->commit(self->store), RC_INTERNAL);
    assert_int_equal(api->keep(self->store), RC_INTERNAL);
    assert_int_equal(api->undo(self->store), RC_INTERNAL);
    store_begin(self->store);
    assert_int_equal(api->begin(self->store, true), RC_INTERNAL);
    assert_int_equal(api->meta_put(self->store, "a", SVC_LIT("1")), RC_OK);
    store_commit(self->store);
}

static void
finds_everything_again_after_reopening(void **state)
{
    test_t *self = *state;
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    convo_store_destroy(&self->store);
    self->store = test_open(self, STORE_WRITE);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
}

static void
readers_see_only_what_was_committed(void **state)
{
    test_t *self = *state;
    convo_store_t *reader = test_open(self, STORE_READ);
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

int
main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_the_file_that_the_place_names),
        cmocka_unit_test(never_calls_a_server_by_its_url),
        BOTH(says_not_found_for_what_is_not_there),
        BOTH(keeps_values_of_the_database),
        BOTH(a_savepoint_undoes_one_job_and_a_rollback_all),
        BOTH(tells_the_time_of_the_database),
        BOTH(a_value_that_does_not_fit_the_buffer_is_too_big),
        BOTH(a_transaction_that_is_not_open_cannot_be_committed),
        BOTH(finds_everything_again_after_reopening),
        BOTH(readers_see_only_what_was_committed),
    };

    return run_stores("tests", tests, SVC_COUNT(tests));
}
