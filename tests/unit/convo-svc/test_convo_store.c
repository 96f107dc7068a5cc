/* test_convo_store.c - the choice between the databases.
 *
 * (What each does is told by the tests of the stores.) */
#include "convo_fixture.h"

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
    char *error = NULL;

    (void)state;
    assert_string_equal(convo_place_name(&place), "PostgreSQL");
    assert_null(convo_store_open(&place, STORE_READ, NULL, &error));
    assert_non_null(strstr(error, "postgresql") != NULL ? strstr(error, "postgresql")
                                                        : strstr(error, "PostgreSQL"));
    assert_null(strstr(error, "geheim"));
    free(error);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_the_file_that_the_place_names),
        cmocka_unit_test(never_calls_a_server_by_its_url),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
