/* test_user_backup.c - users copied and put back by auth-svc's own words: what its tokens need comes along.
 *
 * What a copy is and when it is refused stands in test_svc_backup.c; here is what only users need: ids that are
 * never given twice. */
#include "users_dir_fixture.h"

#include "auth-svc/user_backup.h"

#include <unistd.h>

/* Runs a tool on a file of the folder. */
static bool
run(bool (*tool)(svc_ctx_t *, char *const *, size_t, char **), const char *name,
    char **error)
{
    svc_ctx_t ctx = {.service = "auth-svc", .config = &store_config};
    char path[128];
    char *args[] = {path};

    store_config.jwt_secret = (char *)"of the configuration";
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return tool(&ctx, args, 1, error);
}

/* Adds a user; gives its id. */
static uint64_t
add(void *store, const char *name)
{
    new_user_t user = {.username = svc_str_c(name), .hash = SVC_LIT("$2b$04$hash")};
    char *error = NULL;
    void *connection = store_driver->connect(store, true, &error);

    assert_non_null(connection);
    assert_int_equal(store_driver->add(connection, &user, 1), RC_OK);
    assert_int_equal(user.rc, RC_OK);
    store_driver->disconnect(connection);
    return user.id;
}

static void
an_id_that_a_token_may_name_is_never_given_again(void **state)
{
    void *store = open_store();
    char *error = NULL;
    uint64_t late;

    (void)state;
    assert_true(run(user_backup_make, "empty.db", &error));
    assert_int_equal(add(store, "ada"), 1);
    assert_true(run(user_backup_make, "one.db", &error));
    late = add(store, "late");
    assert_false(run(user_backup_restore, "one.db", &error));
    assert_non_null(strstr(error, "stop auth-svc first"));
    free(error);
    store_driver->close(store);

    assert_true(run(user_backup_restore, "one.db", &error));
    store = open_store();
    assert_true(add(store, "bob") > late + 1000000);
    store_driver->close(store);
    assert_true(run(user_backup_restore, "empty.db", &error));
    store = open_store();
    late = add(store, "cid");
    assert_true(late > 1000000 && late < PROTO_ID_MAX / 2);
    store_driver->close(store);
    assert_true(run(user_backup_restore, "empty.db", &error)); /* once more */
    store = open_store();
    assert_true(add(store, "eve") > late);
    store_driver->close(store);
}

static void
postgresql_has_its_own_tools(void **state)
{
    char *error = NULL;

    (void)state;
    store_config.storage_driver = SVC_STORAGE_POSTGRESQL;
    assert_false(run(user_backup_make, "x.db", &error));
    assert_non_null(strstr(error, "pg_dump"));
    free(error);
    assert_false(run(user_backup_restore, "x.db", &error));
    assert_non_null(strstr(error, "pg_restore"));
    free(error);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_id_that_a_token_may_name_is_never_given_again,
                                        make_users, remove_users),
        cmocka_unit_test_setup_teardown(postgresql_has_its_own_tools, make_users,
                                        remove_users),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
