/* test_convo_backup.c - conversations copied and put back by convo-svc's own words: their key comes along.
 *
 * What a copy is and when it is refused stands in test_svc_backup.c; that answers come back to the byte is told by the
 * story. */
#include "convo_fixture.h"

#include "convo-svc/convo_backup.h"

#include "svc/svc_db_lock.h"

static folder_t folder;
static svc_config_t config;

static int
setup(void **state)
{
    (void)state;
    folder_open(&folder);
    config = (svc_config_t){.sqlite_path = folder.db, .convo_seal_key = (char *)""};
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    folder_close(&folder);
    return 0;
}

/* Runs a tool on a file of the folder. */
static bool
run(bool (*tool)(svc_ctx_t *, char *const *, size_t, char **), const char *name,
    char **error)
{
    svc_ctx_t ctx = {.service = "convo-svc", .config = &config};
    char path[128];
    char *args[] = {path};

    (void)snprintf(path, sizeof(path), "%s/%s", folder.path, name);
    return tool(&ctx, args, 1, error);
}

static svc_rc
count_one(void *arg, const conversation_row_t *row)
{
    (void)row;
    ++*(size_t *)arg;
    return RC_OK;
}

static void
add_conversation(uint64_t id)
{
    convo_store_t *store = folder_store(&folder, true);
    const conversation_row_t row = {
        .id = id, .user = USER, .title = SVC_LIT("t"), .model = SVC_LIT("m")};

    assert_int_equal(store->api->begin(store, true), RC_OK);
    assert_int_equal(store->api->conversation_add(store, &row), RC_OK);
    assert_int_equal(store->api->commit(store), RC_OK);
    convo_store_destroy(&store);
}

static void
conversations_and_their_key_come_back(void **state)
{
    char path[128], theirs[SVC_SECRET_BYTES], ours[SVC_SECRET_BYTES];
    convo_store_t *store;
    char *error = NULL;
    size_t n = 0;
    int lock;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/%s", folder.path, SEAL_KEY_FILE);
    assert_int_equal(svc_secret_load_or_make(path, (uint8_t *)theirs, &error), RC_OK);
    add_conversation(1);
    (void)snprintf(path, sizeof(path), "%s/kept", folder.path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(run(convo_backup_make, "kept/it.db", &error));
    add_conversation(2);
    (void)snprintf(path, sizeof(path), "%s/%s", folder.path, SEAL_KEY_FILE);
    assert_int_equal(unlink(path), 0);

    lock = svc_db_lock_take(folder.db, "convo-svc", &error);
    assert_false(run(convo_backup_restore, "kept/it.db", &error));
    assert_non_null(strstr(error, "stop convo-svc first"));
    free(error);
    svc_db_lock_release(&lock);
    assert_true(run(convo_backup_restore, "kept/it.db", &error));
    assert_int_equal(svc_secret_load_or_make(path, (uint8_t *)ours, &error), RC_OK);
    assert_memory_equal(ours, theirs, sizeof(ours));
    store = folder_store(&folder, false);
    assert_int_equal(store->api->conversation_list(store, USER, 0, count_one, &n), RC_OK);
    assert_int_equal(n, 1);
    convo_store_destroy(&store);
}

static void
postgresql_has_its_own_tools(void **state)
{
    char *error = NULL;

    (void)state;
    config.storage_driver = SVC_STORAGE_POSTGRESQL;
    assert_false(run(convo_backup_make, "x.db", &error));
    assert_non_null(strstr(error, "pg_dump"));
    free(error);
    assert_false(run(convo_backup_restore, "x.db", &error));
    assert_non_null(strstr(error, "pg_restore"));
    free(error);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(conversations_and_their_key_come_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(postgresql_has_its_own_tools, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
