/* user_store_tests.h - what every driver of user_store.h must do, as one list of tests.
 *
 * The file of a driver includes this, says which driver and which configuration, and puts
 * USER_STORE_TESTS among its own tests; each runs on a store of its own. */
#ifndef TESTS_UNIT_AUTH_SVC_USER_STORE_TESTS_H
#define TESTS_UNIT_AUTH_SVC_USER_STORE_TESTS_H

#include "auth-svc/user_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HASH "$2b$04$abcdefghijklmnopqrstuu1111111111111111111111111111111"

static const user_store_driver_t *store_driver; /* set by the setup of each test */
static svc_config_t store_config;               /* likewise; of store_ctx */
static atomic_bool store_stop;
static svc_ctx_t store_ctx = {.config = &store_config};

static inline void *
open_store(void)
{
    char *error = NULL;
    void *store = store_driver->open(&store_ctx, &store_stop, &error);

    if (store == NULL)
        fail_msg("%s", error);
    return store;
}

static inline void *
connect_to(void *store)
{
    char *error = NULL;
    void *connection = store_driver->connect(store, true, &error);

    if (connection == NULL)
        fail_msg("%s", error);
    return connection;
}

static inline new_user_t
user(const char *name)
{
    return (new_user_t){
        .username = svc_str_c(name), .hash = SVC_LIT(HASH), .created_s = 1};
}

static inline void
assert_not_opened(const char *wanted)
{
    char *error = NULL;

    assert_null(store_driver->open(&store_ctx, &store_stop, &error));
    if (strstr(error, wanted) == NULL || strchr(error, '\n') != NULL)
        fail_msg("said: %s", error);
    free(error);
}

static inline void
a_user_is_found_again_after_a_restart(void **state)
{
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t ann = user("ann");
    user_row_t row;

    (void)state;
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_NOT_FOUND);
    assert_int_equal(store_driver->add(connection, &ann, 1), RC_OK);
    assert_int_equal(ann.rc, RC_OK);
    assert_true(ann.id >= 1);
    store_driver->disconnect(connection);
    store_driver->close(store);
    store = open_store();
    connection = connect_to(store);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_OK);
    assert_int_equal(row.id, ann.id);
    assert_string_equal(row.hash, HASH);
    store_driver->disconnect(connection);
    store_driver->close(store);
    store_driver->disconnect(NULL);
    store_driver->close(NULL);
}

static inline void
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

        assert_int_equal(store_driver->find(connection, svc_str_c(names[i]), &row),
                         RC_NOT_FOUND);
        assert_int_equal(store_driver->add(connection, &added, 1), RC_OK);
        assert_int_equal(added.rc, RC_OK);
        assert_int_equal(store_driver->find(connection, svc_str_c(names[i]), &row),
                         RC_OK);
        assert_int_equal(row.id, added.id);
    }
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static inline void
a_taken_name_spoils_nobody_elses_registration(void **state)
{
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t users[] = {user("bob"), user("eve"), user("bob"), user("dan")};
    user_row_t row;

    (void)state;
    assert_int_equal(store_driver->add(connection, users, SVC_COUNT(users)), RC_OK);
    assert_int_equal(users[0].rc, RC_OK);
    assert_int_equal(users[1].rc, RC_OK);
    assert_int_equal(users[2].rc, RC_USERNAME_TAKEN);
    assert_int_equal(users[3].rc, RC_OK);
    assert_true(users[0].id != users[1].id && users[1].id != users[3].id);
    assert_int_equal(store_driver->find(connection, SVC_LIT("dan"), &row), RC_OK);
    assert_int_equal(row.id, users[3].id);
    assert_int_equal(store_driver->add(connection, users, 1), RC_OK);
    assert_int_equal(users[0].rc, RC_USERNAME_TAKEN);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static inline void
one_connection_sees_what_another_has_committed(void **state)
{
    void *store = open_store();
    void *writer = connect_to(store);
    void *reader = connect_to(store);
    new_user_t ann = user("ann");
    user_row_t row;

    (void)state;
    assert_int_equal(store_driver->find(reader, SVC_LIT("ann"), &row), RC_NOT_FOUND);
    assert_int_equal(store_driver->add(writer, &ann, 1), RC_OK);
    assert_int_equal(store_driver->find(reader, SVC_LIT("ann"), &row), RC_OK);
    store_driver->disconnect(reader);
    store_driver->disconnect(writer);
    store_driver->close(store);
}

static inline void
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
    assert_int_equal(store_driver->add(connection, users, SVC_COUNT(users)), RC_OK);
    assert_int_equal(users[0].rc, RC_OK);
    assert_int_equal(users[1].rc, RC_OK);
    assert_int_equal(users[1].id, users[0].id);
    assert_int_equal(users[2].rc, RC_USERNAME_TAKEN);
    assert_int_equal(users[3].rc, RC_USERNAME_TAKEN);
    assert_int_equal(users[4].rc, RC_OK);
    assert_true(users[4].id != users[0].id);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_OK);
    assert_true(user_row_has_key(&row, SVC_LIT("a\0key")));
    assert_false(user_row_has_key(&row, SVC_LIT("a\0kex")));
    assert_false(user_row_has_key(&row, SVC_LIT("")));
    users[1].id = 0;
    assert_int_equal(store_driver->add(connection, &users[1], 1), RC_OK);
    assert_int_equal(users[1].rc, RC_OK);
    assert_int_equal(users[1].id, users[0].id);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static inline void
any_bytes_may_be_looked_for(void **state)
{
    void *store = open_store();
    void *connection = connect_to(store);
    user_row_t row;

    (void)state;
    assert_int_equal(store_driver->find(connection, SVC_LIT(""), &row), RC_NOT_FOUND);
    assert_int_equal(store_driver->find(connection, SVC_LIT("a\0b"), &row), RC_NOT_FOUND);
    assert_int_equal(store_driver->find(connection, SVC_LIT("\xff\xfe"), &row),
                     RC_NOT_FOUND);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static inline void
a_whole_batch_is_added_in_any_order(void **state)
{
    static char names[300][16];
    static new_user_t users[300];
    void *store = open_store();
    void *connection = connect_to(store);
    user_row_t row;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(users); i++) {
        /* the last ones are the first again, with another key */
        (void)snprintf(names[i], sizeof(names[i]), "u%zu", (i * 7) % 290);
        users[i] = user(names[i]);
        users[i].key = i < 290 ? SVC_LIT("first") : SVC_LIT("second");
    }
    assert_int_equal(store_driver->add(connection, users, SVC_COUNT(users)), RC_OK);
    for (size_t i = 0; i < SVC_COUNT(users); i++) {
        assert_int_equal(store_driver->find(connection, svc_str_c(names[i]), &row),
                         RC_OK);
        if (users[i].rc == RC_OK)
            assert_int_equal(row.id, users[i].id);
        else
            assert_int_equal(users[i].rc, RC_USERNAME_TAKEN);
        assert_true(users[i].rc == RC_OK || i >= 290 || i < 10);
    }
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static inline void
a_store_can_be_looked_at_beside_who_writes(void **state)
{
    new_user_t ann = user("ann");
    user_row_t row;
    void *store, *connection, *other;
    char *error = NULL;

    (void)state;
    assert_null(store_driver->open_to_read(&store_ctx, &error));
    assert_null(error);
    store = open_store();
    connection = connect_to(store);
    assert_int_equal(store_driver->add(connection, &ann, 1), RC_OK);
    other = store_driver->open_to_read(&store_ctx, &error);
    assert_non_null(other);
    store_driver->disconnect(connection);
    connection = store_driver->connect(other, false, &error);
    assert_non_null(connection);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_OK);
    assert_int_equal(row.id, ann.id);
    store_driver->disconnect(connection);
    store_driver->close(other);
    store_driver->close(store);
}

#define USER_STORE_TESTS(setup, teardown)                                               \
    cmocka_unit_test_setup_teardown(a_user_is_found_again_after_a_restart, setup,       \
                                    teardown),                                          \
        cmocka_unit_test_setup_teardown(names_are_compared_byte_by_byte, setup,         \
                                        teardown),                                      \
        cmocka_unit_test_setup_teardown(a_taken_name_spoils_nobody_elses_registration,  \
                                        setup, teardown),                               \
        cmocka_unit_test_setup_teardown(one_connection_sees_what_another_has_committed, \
                                        setup, teardown),                               \
        cmocka_unit_test_setup_teardown(                                                \
            a_taken_name_is_told_whose_it_is_to_the_request_that_took_it, setup,        \
            teardown),                                                                  \
        cmocka_unit_test_setup_teardown(a_store_can_be_looked_at_beside_who_writes,     \
                                        setup, teardown),                               \
        cmocka_unit_test_setup_teardown(any_bytes_may_be_looked_for, setup, teardown),  \
        cmocka_unit_test_setup_teardown(a_whole_batch_is_added_in_any_order, setup,     \
                                        teardown)

#endif
