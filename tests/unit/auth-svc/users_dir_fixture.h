/* users_dir_fixture.h - a folder of the test's own, and the configuration of users that are kept there in SQLite.
 *
 * make_users and remove_users are setup and teardown of a test. Included by tests of what does something with that file. */
#ifndef TESTS_UNIT_AUTH_SVC_USERS_DIR_FIXTURE_H
#define TESTS_UNIT_AUTH_SVC_USERS_DIR_FIXTURE_H

#include "user_store_tests.h"

#include "tests/unit/svc/dir_fixture.h"

static inline int
make_users(void **state)
{
    store_driver = &user_store_sqlite;
    return make_dir(state) == 0 &&
                   asprintf(&store_config.sqlite_path, "%s/data/x.db", dir) >= 0
               ? 0
               : -1;
}

static inline int
remove_users(void **state)
{
    free(store_config.sqlite_path);
    store_config.storage_driver = SVC_STORAGE_SQLITE;
    return remove_dir(state);
}

#endif
