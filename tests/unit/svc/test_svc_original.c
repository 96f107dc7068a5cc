/* test_svc_original.c - what of the original's data both services read: its SQLite file, and the map of its users.
 *
 * Names are made fit to be shown, whatever they are; a map is read back as it was written, and nothing else is taken for
 * one. */
#include "dir_fixture.h"

#include "svc/svc_original.h"

#include <signal.h>

static void
a_database_is_only_read(void **state)
{
    char path[128];
    sqlite3 *db = NULL;
    sqlite3_stmt *q;
    char *error = NULL;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/it.db", dir);
    assert_null(svc_original_open(path, &error));
    assert_non_null(strstr(error, "cannot open this database"));
    free(error);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "CREATE TABLE users (id INTEGER, username TEXT);"
                                  "INSERT INTO users VALUES (1, 'ada'), (2, NULL)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);

    db = svc_original_open(path, &error);
    assert_non_null(db);
    assert_int_equal(sqlite3_exec(db, "DELETE FROM users", NULL, NULL, NULL),
                     SQLITE_READONLY);
    assert_null(svc_original_query(db, path, "SELECT id FROM conversations", &error));
    assert_non_null(strstr(error, "no database of the original: no such table"));
    free(error);
    q = svc_original_query(db, path, "SELECT username FROM users ORDER BY id", &error);
    assert_non_null(q);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_true(svc_str_eq(svc_original_text(q, 0), SVC_LIT("ada")));
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_int_equal(svc_original_text(q, 0).n, 0);
    (void)sqlite3_finalize(q);
    (void)sqlite3_close(db);
}

/* The original's tables may be views of anything. */
static void
a_query_without_an_end_is_ended_by_a_signal(void **state)
{
    char path[128];
    sqlite3 *db = NULL;
    sqlite3_stmt *q;
    sigset_t set;
    char *error = NULL;
    int number;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/endless.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db,
                     "CREATE VIEW users AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL"
                     " SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0",
                     NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    db = svc_original_open(path, &error);
    assert_non_null(db);
    q = svc_original_query(db, path, "SELECT * FROM users", &error);
    assert_non_null(q);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(sqlite3_step(q), SQLITE_INTERRUPT);
    assert_int_equal(sigwait(&set, &number), 0);
    assert_int_equal(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
    (void)sqlite3_finalize(q);
    (void)sqlite3_close(db);
}

static void
names_are_made_fit_to_be_shown(void **state)
{
    static const struct {
        const char *name, *shown;
    } rows[] = {{"", ""},
                {"Bób 😀", "Bób 😀"},
                {"a\nb\x7f\x1b[31m", "a?b??[31m"},
                {"a\xc2\x85z", "a??z"},
                {"\xc2\xa0", "\xc2\xa0"},
                {"ab\xff\x63", "ab…"}};
    char shown[SVC_ORIGINAL_NAME_BYTES], name[300];

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        svc_original_name(svc_str_c(rows[i].name), shown);
        assert_string_equal(shown, rows[i].shown);
    }
    for (size_t i = 0; i + 4 <= sizeof(name); i += 4)
        memcpy(name + i, "😀", 4);
    svc_original_name((svc_str){name, sizeof(name)}, shown);
    assert_int_equal(strlen(shown), 24 * 4 + 3);
}

static void
a_map_is_read_back_as_it_was_written(void **state)
{
    svc_user_map_t map = {0}, again = {0};
    char path[128];
    char *error = NULL;
    uint64_t ours;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/map", dir);
    assert_false(svc_user_map_find(&map, 1, &ours));
    for (uint64_t i = 1; i <= 1000; i++)
        assert_int_equal(svc_user_map_add(&map, i * 3, UINT64_MAX - i), RC_OK);
    assert_int_equal(svc_user_map_add(&map, 3000, 1), RC_INVALID);
    assert_true(svc_user_map_write(&map, path, &error));
    assert_true(svc_user_map_read(&again, path, &error));
    assert_int_equal(again.n, 1000);
    for (uint64_t i = 1; i <= 1000; i++) {
        assert_true(svc_user_map_find(&again, i * 3, &ours));
        assert_true(ours == UINT64_MAX - i);
        assert_false(svc_user_map_find(&again, i * 3 + 1, &ours));
    }
    svc_user_map_fini(&map);
    svc_user_map_fini(&again);
    assert_int_equal(unlink(path), 0);
    assert_false(svc_user_map_read(&again, path, &error));
    assert_non_null(strstr(error, "No such file"));
    free(error);
    assert_false(svc_user_map_write(&map, dir, &error));
    free(error);
}

static void
nothing_else_is_a_map(void **state)
{
    static const char *const rows[] = {
        "1",    "1 2",          "1  2\n",
        " 1\n", "1 2 3\n",      "x 1\n",
        "\n",   "-1 2\n",       "2 1\n1 2\n",
        "1 1 ", "1 1\n1 1\n",   "18446744073709551616 1\n",
        "1 \n", "1 1\n2 two\n", "100000000000000000000 1\n"};
    svc_user_map_t map = {0};
    char path[128];
    char *error = NULL;
    FILE *file;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        if (svc_user_map_parse(&map, svc_str_c(rows[i])) != RC_INVALID)
            fail_msg("taken: %s", rows[i]);
        svc_user_map_fini(&map);
    }
    assert_int_equal(svc_user_map_parse(&map, svc_str_c("")), RC_OK);
    (void)snprintf(path, sizeof(path), "%s/map", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs("1 1\nnonsense\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_false(svc_user_map_read(&map, path, &error));
    assert_non_null(strstr(error, "is no map of users"));
    free(error);
    svc_user_map_fini(&map);
}

static void
no_memory_for_a_map_is_too_big(void **state)
{
    svc_user_map_t map = {0};

    (void)state;
    svc_alloc_fail_after(1);
    assert_int_equal(svc_user_map_add(&map, 1, 1), RC_TOO_BIG);
    svc_alloc_fail_after(0);
    assert_int_equal(map.n, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_database_is_only_read),
        cmocka_unit_test(a_query_without_an_end_is_ended_by_a_signal),
        cmocka_unit_test(names_are_made_fit_to_be_shown),
        cmocka_unit_test(a_map_is_read_back_as_it_was_written),
        cmocka_unit_test(nothing_else_is_a_map),
        cmocka_unit_test(no_memory_for_a_map_is_too_big),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
