/* test_user_store_sqlite.c - users on disk: found again, unique, durable, in one process's hands.
 *
 * Each test has a directory of its own; a second connection plays the tamperer. */
#include "users_dir_fixture.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void
a_second_process_is_sent_to_postgresql(void **state)
{
    void *store = open_store();

    (void)state;
    assert_not_opened("is in use by another auth-svc");
    assert_not_opened("PostgreSQL");
    store_driver->close(store);
    store = open_store();
    store_driver->close(store);
}

/* Runs SQL on the file behind the store's back. */
static void
tamper(const char *sql)
{
    char *path = svc_config_users_path(&store_config);
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
    store_driver->close(open_store());
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
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_OK);
    assert_int_equal(row.id, 5);
    assert_string_equal(row.hash, HASH);
    assert_int_equal(row.n_key, 0);
    again.key = SVC_LIT("key");
    assert_int_equal(store_driver->add(connection, &again, 1), RC_OK);
    assert_int_equal(again.rc, RC_USERNAME_TAKEN);
    again.username = SVC_LIT("bob");
    assert_int_equal(store_driver->add(connection, &again, 1), RC_OK);
    assert_int_equal(again.rc, RC_OK);
    assert_int_equal(again.id, 6);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

/* A disk that is full: no file grows. */
static void
let_files_grow(bool may)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = may ? limit.rlim_max : 1;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void
a_full_disk_is_unavailable_until_there_is_room(void **state)
{
    new_user_t users[] = {user("ann"), user("bob")};
    void *store = open_store(), *connection = connect_to(store);
    user_row_t row;

    (void)state;
    (void)signal(SIGXFSZ, SIG_IGN);
    let_files_grow(false);
    assert_int_equal(store_driver->add(connection, users, 2), RC_UNAVAILABLE);
    assert_int_equal(users[0].rc, RC_UNAVAILABLE);
    assert_int_equal(users[1].rc, RC_UNAVAILABLE);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_NOT_FOUND);
    let_files_grow(true);
    assert_int_equal(store_driver->add(connection, users, 2), RC_OK);
    assert_int_equal(users[1].rc, RC_OK);
    assert_int_equal(store_driver->find(connection, SVC_LIT("bob"), &row), RC_OK);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static void
a_file_of_a_newer_release_is_refused(void **state)
{
    (void)state;
    store_driver->close(open_store());
    tamper("PRAGMA user_version = 99");
    assert_not_opened("its schema is version 99, made by a newer release");
}

static void
what_is_no_database_is_refused(void **state)
{
    char *path = svc_config_users_path(&store_config);
    FILE *file;

    (void)state;
    store_driver->close(open_store());
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
    char *path = store_config.sqlite_path;

    (void)state;
    store_config.sqlite_path = "/dev/null/x/y.db";
    assert_not_opened("/dev/null/x: cannot make this directory");
    store_config.sqlite_path = path;
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
    assert_int_equal(store_driver->add(connection, users, 2), RC_INTERNAL);
    assert_int_equal(users[0].rc, RC_INTERNAL);
    assert_int_equal(users[1].rc, RC_INTERNAL);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_NOT_FOUND);
    assert_int_equal(store_driver->add(connection, users, 1), RC_OK);
    assert_int_equal(users[0].rc, RC_OK);
    tamper("UPDATE user SET password_hash = printf('%.*c', 200, 'x')");
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_INTERNAL);
    tamper("DROP TABLE user");
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_INTERNAL);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        USER_STORE_TESTS(make_users, remove_users),
        cmocka_unit_test_setup_teardown(a_second_process_is_sent_to_postgresql,
                                        make_users, remove_users),
        cmocka_unit_test_setup_teardown(a_file_of_the_first_release_is_brought_up_to_date,
                                        make_users, remove_users),
        cmocka_unit_test_setup_teardown(a_full_disk_is_unavailable_until_there_is_room,
                                        make_users, remove_users),
        cmocka_unit_test_setup_teardown(a_file_of_a_newer_release_is_refused, make_users,
                                        remove_users),
        cmocka_unit_test_setup_teardown(what_is_no_database_is_refused, make_users,
                                        remove_users),
        cmocka_unit_test_setup_teardown(a_directory_that_cannot_be_made_is_told,
                                        make_users, remove_users),
        cmocka_unit_test_setup_teardown(a_failing_transaction_adds_nobody, make_users,
                                        remove_users),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
