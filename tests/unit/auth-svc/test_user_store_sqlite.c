/* test_user_store_sqlite.c - users on disk: found again, unique, durable, in one process's hands.
 *
 * Each test has a directory of its own; a second connection plays the tamperer. */
#include "auth-svc/user_store.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HASH "$2b$04$abcdefghijklmnopqrstuu1111111111111111111111111111111"

static const user_store_driver_t *const driver = &user_store_sqlite;
static char dir[64];
static svc_config_t config;

static int
make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/test_user_store.XXXXXX");
    if (mkdtemp(dir) == NULL || asprintf(&config.sqlite_path, "%s/data/x.db", dir) < 0)
        return -1;
    return 0;
}

static int
remove_dir(void **state)
{
    char command[128];

    (void)state;
    free(config.sqlite_path);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

static void *
open_store(void)
{
    char *error = NULL;
    void *store = driver->open(&config, &error);

    if (store == NULL)
        fail_msg("%s", error);
    return store;
}

static void *
connect_to(void *store)
{
    char *error = NULL;
    void *connection = driver->connect(store, &error);

    if (connection == NULL)
        fail_msg("%s", error);
    return connection;
}

static void
assert_not_opened(const char *wanted)
{
    char *error = NULL;

    assert_null(driver->open(&config, &error));
    if (strstr(error, wanted) == NULL || strchr(error, '\n') != NULL)
        fail_msg("said: %s", error);
    free(error);
}

static new_user_t
user(const char *name)
{
    return (new_user_t){
        .username = svc_str_c(name), .hash = SVC_LIT(HASH), .created_s = 1};
}

static void
a_user_is_found_again_after_a_restart(void **state)
{
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t ann = user("ann");
    user_row_t row;

    (void)state;
    assert_int_equal(driver->find(connection, SVC_LIT("ann"), &row), RC_NOT_FOUND);
    assert_int_equal(driver->add(connection, &ann, 1), RC_OK);
    assert_int_equal(ann.rc, RC_OK);
    assert_true(ann.id >= 1);
    driver->disconnect(connection);
    driver->close(store);
    store = open_store();
    connection = connect_to(store);
    assert_int_equal(driver->find(connection, SVC_LIT("ann"), &row), RC_OK);
    assert_int_equal(row.id, ann.id);
    assert_string_equal(row.hash, HASH);
    driver->disconnect(connection);
    driver->close(store);
    driver->disconnect(NULL);
    driver->close(NULL);
}

static void
names_are_compared_byte_by_byte(void **state)
{
    static const char *const names[] = {
        "ann", "Ann", "ann ", "\xc3\xa9", "e\xcc\x81", "a'; DROP TABLE user; --"};
    void *store = open_store();
    void *connection = connect_to(store);
    user_row_t row;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(names); i++) {
        new_user_t added = user(names[i]);

        assert_int_equal(driver->find(connection, svc_str_c(names[i]), &row),
                         RC_NOT_FOUND);
        assert_int_equal(driver->add(connection, &added, 1), RC_OK);
        assert_int_equal(added.rc, RC_OK);
        assert_int_equal(driver->find(connection, svc_str_c(names[i]), &row), RC_OK);
        assert_int_equal(row.id, added.id);
    }
    driver->disconnect(connection);
    driver->close(store);
}

static void
a_taken_name_spoils_nobody_elses_registration(void **state)
{
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t users[] = {user("bob"), user("eve"), user("bob"), user("dan")};
    user_row_t row;

    (void)state;
    assert_int_equal(driver->add(connection, users, SVC_COUNT(users)), RC_OK);
    assert_int_equal(users[0].rc, RC_OK);
    assert_int_equal(users[1].rc, RC_OK);
    assert_int_equal(users[2].rc, RC_USERNAME_TAKEN);
    assert_int_equal(users[3].rc, RC_OK);
    assert_true(users[0].id != users[1].id && users[1].id != users[3].id);
    assert_int_equal(driver->find(connection, SVC_LIT("dan"), &row), RC_OK);
    assert_int_equal(row.id, users[3].id);
    assert_int_equal(driver->add(connection, users, 1), RC_OK);
    assert_int_equal(users[0].rc, RC_USERNAME_TAKEN);
    driver->disconnect(connection);
    driver->close(store);
}

static void
one_connection_sees_what_another_has_committed(void **state)
{
    void *store = open_store();
    void *writer = connect_to(store);
    void *reader = connect_to(store);
    new_user_t ann = user("ann");
    user_row_t row;

    (void)state;
    assert_int_equal(driver->find(reader, SVC_LIT("ann"), &row), RC_NOT_FOUND);
    assert_int_equal(driver->add(writer, &ann, 1), RC_OK);
    assert_int_equal(driver->find(reader, SVC_LIT("ann"), &row), RC_OK);
    driver->disconnect(reader);
    driver->disconnect(writer);
    driver->close(store);
}

static void
a_second_process_is_sent_to_postgresql(void **state)
{
    void *store = open_store();

    (void)state;
    assert_not_opened("is in use by another auth-svc");
    assert_not_opened("PostgreSQL");
    driver->close(store);
    store = open_store();
    driver->close(store);
}

static void
a_taken_name_is_told_whose_it_is_to_the_request_that_took_it(void **state)
{
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t users[] = {user("ann"), user("ann"), user("ann"), user("ann"),
                          user("bob")};
    user_row_t row;

    (void)state;
    users[0].key = users[1].key = users[4].key = SVC_LIT("a\0key");
    users[2].key = SVC_LIT("a\0kex");
    assert_int_equal(driver->add(connection, users, SVC_COUNT(users)), RC_OK);
    assert_int_equal(users[0].rc, RC_OK);
    assert_int_equal(users[1].rc, RC_OK);
    assert_int_equal(users[1].id, users[0].id);
    assert_int_equal(users[2].rc, RC_USERNAME_TAKEN);
    assert_int_equal(users[3].rc, RC_USERNAME_TAKEN);
    assert_int_equal(users[4].rc, RC_OK);
    assert_true(users[4].id != users[0].id);
    assert_int_equal(driver->find(connection, SVC_LIT("ann"), &row), RC_OK);
    assert_true(user_row_has_key(&row, SVC_LIT("a\0key")));
    assert_false(user_row_has_key(&row, SVC_LIT("a\0kex")));
    assert_false(user_row_has_key(&row, SVC_LIT("")));
    users[1].id = 0;
    assert_int_equal(driver->add(connection, &users[1], 1), RC_OK);
    assert_int_equal(users[1].rc, RC_OK);
    assert_int_equal(users[1].id, users[0].id);
    driver->disconnect(connection);
    driver->close(store);
}

/* Runs SQL on the file behind the store's back. */
static void
tamper(const char *sql)
{
    char *path = svc_config_users_path(&config);
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    free(path);
}

static void
a_file_of_the_first_release_is_brought_up_to_date(void **state)
{
    new_user_t again = user("ann");
    user_row_t row;
    void *store, *connection;

    (void)state;
    driver->close(open_store());
    tamper("DROP TABLE user;"
           "CREATE TABLE user ("
           "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
           "  username TEXT NOT NULL UNIQUE COLLATE BINARY,"
           "  password_hash TEXT NOT NULL,"
           "  created_s INTEGER NOT NULL"
           ") STRICT;"
           "INSERT INTO user VALUES (5, 'ann', '" HASH "', 1);"
           "PRAGMA user_version = 1");
    store = open_store();
    connection = connect_to(store);
    assert_int_equal(driver->find(connection, SVC_LIT("ann"), &row), RC_OK);
    assert_int_equal(row.id, 5);
    assert_string_equal(row.hash, HASH);
    assert_int_equal(row.n_key, 0);
    again.key = SVC_LIT("key");
    assert_int_equal(driver->add(connection, &again, 1), RC_OK);
    assert_int_equal(again.rc, RC_USERNAME_TAKEN);
    again.username = SVC_LIT("bob");
    assert_int_equal(driver->add(connection, &again, 1), RC_OK);
    assert_int_equal(again.rc, RC_OK);
    assert_int_equal(again.id, 6);
    driver->disconnect(connection);
    driver->close(store);
}

static void
a_file_of_a_newer_release_is_refused(void **state)
{
    (void)state;
    driver->close(open_store());
    tamper("PRAGMA user_version = 99");
    assert_not_opened("its schema is version 99, made by a newer release");
}

static void
what_is_no_database_is_refused(void **state)
{
    char *path = svc_config_users_path(&config);
    FILE *file;

    (void)state;
    driver->close(open_store());
    file = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("this is no database\n", file);
    fclose(file);
    assert_not_opened("not a database");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_not_opened("cannot open this database");
    free(path);
}

static void
a_directory_that_cannot_be_made_is_told(void **state)
{
    char *path = config.sqlite_path;

    (void)state;
    config.sqlite_path = "/dev/null/x/y.db";
    assert_not_opened("/dev/null/x: cannot make this directory");
    config.sqlite_path = path;
}

static void
a_failing_transaction_adds_nobody(void **state)
{
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t users[] = {user("ann"), user("bob")};
    user_row_t row;

    (void)state;
    tamper("CREATE TRIGGER t BEFORE INSERT ON user WHEN NEW.username = 'bob'"
           " BEGIN SELECT RAISE(ABORT, 'no'); END");
    assert_int_equal(driver->add(connection, users, 2), RC_INTERNAL);
    assert_int_equal(users[0].rc, RC_INTERNAL);
    assert_int_equal(users[1].rc, RC_INTERNAL);
    assert_int_equal(driver->find(connection, SVC_LIT("ann"), &row), RC_NOT_FOUND);
    assert_int_equal(driver->add(connection, users, 1), RC_OK);
    assert_int_equal(users[0].rc, RC_OK);
    tamper("UPDATE user SET password_hash = printf('%.*c', 200, 'x')");
    assert_int_equal(driver->find(connection, SVC_LIT("ann"), &row), RC_INTERNAL);
    tamper("DROP TABLE user");
    assert_int_equal(driver->find(connection, SVC_LIT("ann"), &row), RC_INTERNAL);
    driver->disconnect(connection);
    driver->close(store);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_user_is_found_again_after_a_restart, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(names_are_compared_byte_by_byte, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_taken_name_spoils_nobody_elses_registration,
                                        make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(one_connection_sees_what_another_has_committed,
                                        make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_second_process_is_sent_to_postgresql, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(
            a_taken_name_is_told_whose_it_is_to_the_request_that_took_it, make_dir,
            remove_dir),
        cmocka_unit_test_setup_teardown(a_file_of_the_first_release_is_brought_up_to_date,
                                        make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_file_of_a_newer_release_is_refused, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(what_is_no_database_is_refused, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_directory_that_cannot_be_made_is_told, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_failing_transaction_adds_nobody, make_dir,
                                        remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
