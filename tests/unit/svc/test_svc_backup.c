/* test_svc_backup.c - a database copied beside its user, and put back: whole, of the right kind, never over anything.
 *
 * Each test has a folder of its own, with a database that a connection of "the service" keeps open, and a folder for
 * copies, which is counted: what fails must leave nothing there. */
#include "svc/svc_backup.h"
#include "svc/svc_db_lock.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY 65534 /* user and group */

/* A row that no table of this kind may have. */
#define BREAK                                       \
    "CREATE TABLE ruled (n INTEGER CHECK (n > 0));" \
    "PRAGMA ignore_check_constraints = ON; INSERT INTO ruled VALUES (-1);"

static char dir[64];
static char db_path[128], file_path[128];
static sqlite3 *db; /* the service's own connection */

static svc_backup_t
describe(void)
{
    return (svc_backup_t){
        .service = "test-svc",
        .path = db_path,
        .rows = "rows",
        .count_sql = "SELECT count(*) FROM row",
        .secret = "a.key",
        .secret_key = "test.key",
        .secret_given = true,
    };
}

static void
execute(sqlite3 *on, const char *sql)
{
    assert_int_equal(sqlite3_exec(on, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void
write_file(const char *name, const char *text)
{
    char path[256];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void
assert_file_is(const char *name, const char *text)
{
    char path[256], got[256] = "";
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(got, sizeof(got), file));
    assert_int_equal(fclose(file), 0);
    assert_string_equal(got, text);
}

static int
setup(void **state)
{
    char command[256];

    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/test_svc_backup.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    (void)snprintf(command, sizeof(command), "mkdir '%s/data' '%s/to'", dir, dir);
    (void)snprintf(db_path, sizeof(db_path), "%s/data/it.db", dir);
    (void)snprintf(file_path, sizeof(file_path), "%s/to/it.db", dir);
    if (system(command) != 0 || sqlite3_open(db_path, &db) != SQLITE_OK)
        return -1;
    execute(db, "PRAGMA journal_mode = WAL; PRAGMA user_version = 7;"
                "CREATE TABLE row (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT);"
                "INSERT INTO row (text) VALUES ('one'), ('two');");
    return 0;
}

static int
teardown(void **state)
{
    char command[128];

    (void)state;
    (void)sqlite3_close(db);
    db = NULL;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

/* The number that a query of a file gives. */
static int
ask(const char *path, const char *sql)
{
    sqlite3 *other = NULL;
    sqlite3_stmt *q = NULL;
    int got;

    assert_int_equal(sqlite3_open_v2(path, &other, SQLITE_OPEN_READONLY, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(other, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    got = sqlite3_column_int(q, 0);
    (void)sqlite3_finalize(q);
    (void)sqlite3_close(other);
    return got;
}

static void
assert_refused(bool good, char **error, const char *words)
{
    assert_false(good);
    assert_non_null(*error);
    if (strstr(*error, words) == NULL || strchr(*error, '\n') != NULL)
        fail_msg("said: %s", *error);
    free(*error);
    *error = NULL;
}

/* How many files are in a folder. */
static int
count_files(const char *name)
{
    char path[128];
    struct dirent *entry;
    DIR *folder;
    int n = 0;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    folder = opendir(path);
    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL)
        n += entry->d_name[0] != '.';
    (void)closedir(folder);
    return n;
}

static void
copies_what_is_committed_and_no_more(void **state)
{
    const svc_backup_t backup = describe();
    char *error = NULL;
    struct stat it;

    (void)state;
    execute(db, "BEGIN IMMEDIATE; INSERT INTO row (text) VALUES ('not yet');");
    assert_true(svc_backup_make(&backup, file_path, &error));
    execute(db, "COMMIT");
    assert_int_equal(ask(file_path, "SELECT count(*) FROM row"), 2);
    assert_int_equal(ask(file_path, "PRAGMA user_version"), 7);
    assert_int_equal(stat(file_path, &it), 0);
    assert_int_equal(count_files("to"), 1);
    assert_refused(svc_backup_make(&backup, file_path, &error), &error,
                   "a backup never replaces anything");
    assert_int_equal(ask(file_path, "SELECT count(*) FROM row"), 2);
}

static void
changes_the_copy_only_where_it_is_told_to(void **state)
{
    svc_backup_t backup = describe();
    char *error = NULL;

    (void)state;
    backup.fix_sql = "UPDATE sqlite_sequence SET seq = 100";
    assert_true(svc_backup_make(&backup, file_path, &error));
    assert_int_equal(ask(file_path, "SELECT seq FROM sqlite_sequence"), 100);
    assert_int_equal(ask(db_path, "SELECT seq FROM sqlite_sequence"), 2);
    assert_int_equal(count_files("to"), 1);
    backup.restore_sql = "UPDATE sqlite_sequence SET seq = seq + 1";
    assert_true(svc_backup_restore(&backup, file_path, &error));
    assert_int_equal(ask(db_path, "SELECT seq FROM sqlite_sequence"), 101);
    assert_int_equal(ask(file_path, "SELECT seq FROM sqlite_sequence"), 100);
}

static void
leaves_nothing_behind_when_it_fails(void **state)
{
    svc_backup_t backup = describe();
    char *error = NULL;

    (void)state;
    backup.fix_sql = "no SQL at all";
    assert_refused(svc_backup_make(&backup, file_path, &error), &error, "syntax error");
    backup = describe();
    backup.count_sql = "SELECT count(*) FROM user";
    assert_refused(svc_backup_make(&backup, file_path, &error), &error,
                   "no database of this service");
    backup.secret_given = false;
    write_file("data/a.key", "5ec3e7\n");
    assert_refused(svc_backup_make(&backup, file_path, &error), &error,
                   "no database of this service");
    assert_int_equal(count_files("to"), 0); /* the secret has gone, too */
    backup = describe();
    backup.path = "/nowhere/it.db";
    assert_refused(svc_backup_make(&backup, file_path, &error), &error,
                   "/nowhere/it.db: cannot open this database");
    assert_refused(svc_backup_make(&backup, "/nowhere/it.db", &error), &error,
                   "cannot open this database");
    assert_int_equal(count_files("to"), 0);
}

/* Becomes a user who may write and read all of `dir`, but for what the test says. */
static void
become_nobody(void)
{
    assert_true(setegid(NOBODY) == 0 && seteuid(NOBODY) == 0);
}

static void
become_root(void)
{
    assert_true(seteuid(0) == 0 && setegid(0) == 0);
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else the leak sanitizer cannot look */
}

static void
open_to_all(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "chmod -R a+rwX '%s'", dir);
    assert_int_equal(system(command), 0);
}

static void
what_cannot_be_synced_is_not_left_there(void **state)
{
    svc_backup_t backup = describe();
    char folder[128];
    char *error = NULL;
    bool good;

    (void)state;
    if (geteuid() != 0)
        skip(); /* nobody else can become another user */
    backup.secret_given = false;
    write_file("data/a.key", "5ec3e7\n");
    open_to_all();
    (void)snprintf(folder, sizeof(folder), "%s/to", dir);
    assert_int_equal(chmod(folder, 0333), 0); /* written to, and not to be opened */
    become_nobody();
    good = svc_backup_make(&backup, file_path, &error);
    become_root();
    assert_refused(good, &error, "cannot sync it");
    assert_int_equal(count_files("to"), 0);
}

static void
a_restore_that_fails_leaves_the_database_its_log_and_the_secret(void **state)
{
    svc_backup_t backup = describe();
    char path[160];
    char *error = NULL;
    bool good;

    (void)state;
    if (geteuid() != 0)
        skip();
    backup.secret_given = false;
    write_file("data/a.key", "5ec3e7\n");
    assert_true(svc_backup_make(&backup, file_path, &error));
    execute(db, "INSERT INTO row (text) VALUES ('after')"); /* stands in the log */
    open_to_all();
    (void)snprintf(path, sizeof(path), "%s/data", dir);
    assert_int_equal(chmod(path, 01777),
                     0); /* nobody moves what is another's: the database */
    (void)snprintf(path, sizeof(path), "%s-wal", db_path);
    assert_int_equal(chown(path, NOBODY, NOBODY), 0);
    write_file("data/a.key", "a11e5a\n");
    (void)snprintf(path, sizeof(path), "%s/data/a.key", dir);
    assert_int_equal(chown(path, NOBODY, NOBODY), 0);
    become_nobody();
    good = svc_backup_restore(&backup, file_path, &error);
    become_root();
    assert_refused(good, &error, "it.db: cannot be moved aside");
    assert_file_is("data/a.key", "a11e5a\n");
    assert_int_equal(ask(db_path, "SELECT count(*) FROM row"), 3);
    /* As before, and the lock. */
    assert_int_equal(count_files("data"), 5);
}

static void
a_signal_ends_it_without_a_trace(void **state)
{
    const svc_backup_t backup = describe();
    sigset_t set;
    char *error = NULL;
    int number;

    (void)state;
    execute(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                " WHERE i < 100000) INSERT INTO row (text) SELECT i FROM n;"
                "CREATE INDEX text_of_row ON row (text);");
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    assert_int_equal(raise(SIGTERM), 0);
    assert_refused(svc_backup_make(&backup, file_path, &error), &error, "interrupted");
    assert_int_equal(count_files("to"), 0);
    assert_int_equal(sigwait(&set, &number), 0);
    assert_int_equal(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
}

static void
takes_the_secret_along_but_never_another_ones(void **state)
{
    svc_backup_t backup = describe();
    char second[256];
    char *error = NULL;

    (void)state;
    backup.secret_given = false;
    assert_refused(svc_backup_make(&backup, file_path, &error), &error,
                   "a.key: cannot read this secret");
    write_file("data/a.key", "5ec3e7\n");
    assert_true(svc_backup_make(&backup, file_path, &error));
    assert_file_is("to/a.key", "5ec3e7\n");
    (void)snprintf(second, sizeof(second), "%s/to/second.db", dir);
    assert_true(svc_backup_make(&backup, second, &error));
    assert_int_equal(unlink(second), 0);
    write_file("data/a.key", "a11e5a\n");
    assert_refused(svc_backup_make(&backup, second, &error), &error, "is another secret");
    assert_file_is("to/a.key", "5ec3e7\n");
    assert_int_equal(count_files("to"), 2);
}

static void
puts_a_copy_back_and_what_was_there_aside_with_its_log(void **state)
{
    svc_backup_t backup = describe();
    char *error = NULL;

    (void)state;
    backup.secret_given = false;
    write_file("data/a.key", "5ec3e7\n");
    assert_true(svc_backup_make(&backup, file_path, &error));
    write_file("data/a.key", "a11e5a\n");
    execute(db, "INSERT INTO row (text) VALUES ('after')");
    assert_true(svc_backup_restore(&backup, file_path, &error));
    assert_int_equal(ask(db_path, "SELECT count(*) FROM row"), 2);
    assert_file_is("data/a.key", "5ec3e7\n");
    /* The database, its lock and the secret; and as they were: the database, its log and the secret. */
    assert_int_equal(count_files("data"), 6);
}

static void
restores_into_a_folder_that_is_not_there_yet(void **state)
{
    svc_backup_t backup = describe();
    char fresh[256];
    char *error = NULL;

    (void)state;
    assert_true(svc_backup_make(&backup, file_path, &error));
    (void)snprintf(fresh, sizeof(fresh), "%s/a/b/it.db", dir);
    backup.path = fresh;
    backup.secret_given =
        false; /* the backup has none: then it is in the configuration */
    assert_true(svc_backup_restore(&backup, file_path, &error));
    assert_int_equal(ask(fresh, "SELECT count(*) FROM row"), 2);
}

static void
restores_nothing_that_is_damaged_or_in_use(void **state)
{
    const svc_backup_t backup = describe();
    char *error = NULL;
    int lock;

    (void)state;
    assert_true(svc_backup_make(&backup, file_path, &error));
    lock = svc_db_lock_take(db_path, "test-svc", &error);
    assert_true(lock >= 0);
    assert_refused(svc_backup_restore(&backup, file_path, &error), &error,
                   "is in use: stop test-svc first, then restore");
    svc_db_lock_release(&lock);
    assert_int_equal(truncate(file_path, 4096), 0);
    assert_refused(svc_backup_restore(&backup, file_path, &error), &error,
                   "it.db: cannot be copied: database disk image is malformed");
    write_file("to/it.db",
               "no database at all, but long enough to look like one to SQLite,"
               " which reads a hundred bytes before it says anything about it");
    assert_refused(svc_backup_restore(&backup, file_path, &error), &error,
                   "file is not a database");
    assert_int_equal(ask(db_path, "SELECT count(*) FROM row"), 2);
}

/* SQLite copies rows as they are, also those that break its own rules. */
static void
what_is_copied_but_not_sound_is_neither_kept_nor_restored(void **state)
{
    const svc_backup_t backup = describe();
    sqlite3 *copy = NULL;
    char *error = NULL;

    (void)state;
    assert_true(svc_backup_make(&backup, file_path, &error));
    assert_int_equal(sqlite3_open(file_path, &copy), SQLITE_OK);
    execute(copy, BREAK);
    assert_int_equal(sqlite3_close(copy), SQLITE_OK);
    assert_refused(svc_backup_restore(&backup, file_path, &error), &error,
                   "it.db: is damaged: CHECK constraint failed");
    assert_int_equal(ask(db_path, "SELECT count(*) FROM row"), 2);
    assert_int_equal(count_files("data"), 4); /* the database, its log, the lock */
    assert_int_equal(unlink(file_path), 0);
    execute(db, BREAK);
    assert_refused(svc_backup_make(&backup, file_path, &error), &error,
                   "it.db: is damaged: CHECK constraint failed");
    assert_int_equal(count_files("to"), 0);
}

static void
names_the_tools_of_postgresql(void **state)
{
    char *error = NULL;
    bool good;

    (void)state;
    good = svc_backup_refuse_postgresql(false, &error);
    assert_refused(good, &error, "pg_dump -Fc");
    good = svc_backup_refuse_postgresql(true, &error);
    assert_refused(good, &error, "pg_restore");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(copies_what_is_committed_and_no_more),
        TEST(changes_the_copy_only_where_it_is_told_to),
        TEST(leaves_nothing_behind_when_it_fails),
        TEST(what_cannot_be_synced_is_not_left_there),
        TEST(a_restore_that_fails_leaves_the_database_its_log_and_the_secret),
        TEST(a_signal_ends_it_without_a_trace),
        TEST(takes_the_secret_along_but_never_another_ones),
        TEST(puts_a_copy_back_and_what_was_there_aside_with_its_log),
        TEST(restores_into_a_folder_that_is_not_there_yet),
        TEST(restores_nothing_that_is_damaged_or_in_use),
        TEST(what_is_copied_but_not_sound_is_neither_kept_nor_restored),
        cmocka_unit_test(names_the_tools_of_postgresql),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
