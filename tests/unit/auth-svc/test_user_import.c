/* test_user_import.c - the original's users in our store: who comes, who is there already, who cannot.
 *
 * What is printed is looked at by the story; here it is the map, the store, and what ends a run. */
#include "users_dir_fixture.h"

#include "auth-svc/password.h"
#include "auth-svc/user_import.h"

#include "svc/svc_original.h"

#include <unistd.h>

#define MANY "250"

/* Makes the original's database anew. */
static void
make_original(const char *sql)
{
    char path[128];
    sqlite3 *db = NULL;

    (void)snprintf(path, sizeof(path), "%s/original.db", dir);
    (void)unlink(path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

#define USERS "CREATE TABLE users (id INTEGER, username TEXT, password TEXT);"

static bool
run(const char *more, char **error)
{
    svc_ctx_t ctx = {.service = "auth-svc", .config = &store_config};
    char original[128], map[128];
    char *args[] = {original, map, (char *)more};

    (void)snprintf(original, sizeof(original), "%s/original.db", dir);
    (void)snprintf(map, sizeof(map), "%s/map", dir);
    *error = NULL;
    return user_import(&ctx, args, more == NULL ? 2 : 3, error);
}

static void
assert_run(const char *more, svc_user_map_t *map)
{
    char path[128];
    char *error = NULL;

    if (!run(more, &error))
        fail_msg("%s", error);
    (void)snprintf(path, sizeof(path), "%s/map", dir);
    *map = (svc_user_map_t){0};
    assert_true(svc_user_map_read(map, path, &error));
}

static void
assert_refused(const char *more, const char *words)
{
    char *error = NULL;

    assert_false(run(more, &error));
    if (error == NULL || strstr(error, words) == NULL || strchr(error, '\n') != NULL)
        fail_msg("%s", error == NULL ? "nothing said" : error);
    free(error);
}

static void
users_come_once_under_ids_of_ours(void **state)
{
    svc_user_map_t first, second;
    void *store, *connection;
    user_row_t row;

    (void)state;
    make_original(USERS "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                        " WHERE i < " MANY
                        ") INSERT INTO users SELECT i * 10, 'user ' || i, '" HASH
                        "' FROM n;");
    assert_run("dry-run", &first);
    assert_int_equal(first.n, 250);
    assert_int_equal(first.pairs[0].ours, 0);
    svc_user_map_fini(&first);
    assert_int_not_equal(access(store_config.sqlite_path, F_OK), 0);

    assert_run(NULL, &first);
    assert_int_equal(first.n, 250);
    assert_run(NULL, &second);
    assert_int_equal(second.n, 250);
    assert_memory_equal(first.pairs, second.pairs, 250 * sizeof(*first.pairs));
    store = open_store();
    connection = connect_to(store);
    assert_int_equal(store_driver->find(connection, SVC_LIT("user 7"), &row), RC_OK);
    assert_int_equal(row.id, first.pairs[6].ours);
    assert_int_equal(first.pairs[6].theirs, 70);
    assert_string_equal(row.hash, HASH);
    store_driver->disconnect(connection);
    store_driver->close(store);
    svc_user_map_fini(&first);
    svc_user_map_fini(&second);
}

static void
those_who_cannot_come_hold_up_nobody(void **state)
{
    svc_user_map_t map;
    void *store, *connection;
    new_user_t taken = user("taken");

    (void)state;
    store = open_store();
    connection = connect_to(store);
    taken.hash = SVC_LIT("$2b$04$abcdefghijklmnopqrstuu2222222222222222222222222222222");
    assert_int_equal(store_driver->add(connection, &taken, 1), RC_OK);
    store_driver->disconnect(connection);
    store_driver->close(store);
    make_original(USERS
                  "INSERT INTO users VALUES (1, 'ada', '" HASH "'), (2, 'taken', '" HASH
                  "'), (3, NULL, '" HASH "'), (4, '', '" HASH "'), (5, 'x', NULL),"
                  " (6, 'y', 'secret'), ('seven', 'z', '" HASH "'), (-8, 'w', '" HASH
                  "'), (9, 'ada', '" HASH "'), (10, 'a' || char(10), '" HASH
                  "'), (11, 'why?', '" HASH "'), (11, 'twin', '" HASH
                  "'), (12, CAST(x'ff' AS TEXT), '" HASH
                  "'), (13, 'a' || char(133), '" HASH "'), (14, 'who?' || char(7), '" HASH
                  "'), (15, 'long' || printf('%.*c', 200, 'x') || char(7), '" HASH
                  "'), (NULL, 'v', '" HASH "');");
    assert_run("dry-run", &map);
    assert_int_equal(map.n, 2);
    svc_user_map_fini(&map);
    assert_run(NULL, &map);
    assert_int_equal(map.n, 2);
    assert_int_equal(map.pairs[0].theirs, 1);
    assert_int_equal(map.pairs[1].theirs, 11);
    svc_user_map_fini(&map);
}

static void
what_ends_a_run_is_one_line(void **state)
{
    char *path = svc_config_users_path(&store_config);
    void *store;

    (void)state;
    assert_refused(NULL, "cannot open this database");
    make_original("CREATE TABLE people (id INTEGER);");
    assert_refused(NULL, "this is no database of the original");
    make_original(USERS "INSERT INTO users VALUES (1, 'ada', '" HASH "');");
    assert_refused("wet-run", "\"dry-run\" was expected");
    store = open_store();
    assert_refused(NULL, "is in use: stop auth-svc first, then import");
    store_driver->close(store);
    assert_int_equal(truncate(path, 100), 0);
    assert_refused("dry-run", path);
    assert_refused(NULL, path);
    free(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(users_come_once_under_ids_of_ours, make_users,
                                        remove_users),
        cmocka_unit_test_setup_teardown(those_who_cannot_come_hold_up_nobody, make_users,
                                        remove_users),
        cmocka_unit_test_setup_teardown(what_ends_a_run_is_one_line, make_users,
                                        remove_users),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
