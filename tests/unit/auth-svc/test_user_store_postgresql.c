/* test_user_store_postgresql.c - users in a real PostgreSQL server, shared by two stores, and a network that breaks.
 *
 * Every test has a schema of its own; all connections go through pg_proxy.h. Without a server the tests
 * are skipped. */
#include "tests/unit/svc/pg_proxy.h"

#include "user_store_tests.h"

#include <time.h>

#define PATIENCE_MS 20000

typedef struct {
    pg_fixture_t db;
    pg_proxy_t proxy;
    char url[PG_URL_BYTES]; /* through the proxy */
} test_t;

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    *state = self;
    store_driver = &user_store_postgresql;
    atomic_store(&store_stop, false);
    if (!pg_fixture_is_there())
        return 0;
    pg_fixture_open(&self->db);
    proxy_open(&self->proxy, &self->db, self->url);
    /* Called like the schema, for pg_fixture_disconnect_all. */
    (void)snprintf(self->url + strlen(self->url), sizeof(self->url) - strlen(self->url),
                   "&application_name=%s", self->db.schema);
    store_config.storage_postgresql_url = self->url;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    if (pg_fixture_is_there()) {
        proxy_close(&self->proxy);
        pg_fixture_close(&self->db);
    }
    free(self);
    return 0;
}

/* --- two replicas -------------------------------------------------------------------------------- */

/* One replica that adds a user on a thread of its own. */
typedef struct {
    pthread_t thread;
    void *connection;
    new_user_t user;
    svc_rc rc;
} adder_t;

/* Adds users, again while the server or the machine stands still. (It hides a circle of waiting, too: that is tried below.) */
static svc_rc
add_users(void *connection, new_user_t *users, size_t n)
{
    const uint64_t until_ms = svc_mono_ms() + PATIENCE_MS;
    svc_rc rc;

    while ((rc = store_driver->add(connection, users, n)) == RC_UNAVAILABLE &&
           svc_mono_ms() < until_ms)
        (void)poll(NULL, 0, 20);
    return rc;
}

static void *
run_adder(void *arg)
{
    adder_t *self = arg;

    self->rc = add_users(self->connection, &self->user, 1);
    return NULL;
}

static void
start_adder(adder_t *self, void *store, const char *name)
{
    *self = (adder_t){.connection = connect_to(store), .user = user(name)};
    assert_int_equal(pthread_create(&self->thread, NULL, run_adder, self), 0);
}

static void
join_adder(adder_t *self)
{
    assert_int_equal(pthread_join(self->thread, NULL), 0);
    store_driver->disconnect(self->connection);
}

static void
of_many_replicas_that_register_one_name_one_wins(void **state)
{
    void *stores[4];
    adder_t adders[4];
    size_t winners = 0;
    user_row_t row;
    void *connection;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        stores[i] = open_store();
    for (size_t i = 0; i < 4; i++)
        start_adder(&adders[i], stores[i], "ann");
    for (size_t i = 0; i < 4; i++)
        join_adder(&adders[i]);
    connection = connect_to(stores[0]);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_OK);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(adders[i].rc, RC_OK);
        assert_true(adders[i].user.rc == RC_OK || adders[i].user.rc == RC_USERNAME_TAKEN);
        winners += adders[i].user.rc == RC_OK;
        if (adders[i].user.rc == RC_OK)
            assert_int_equal(adders[i].user.id, row.id);
    }
    assert_int_equal(winners, 1);
    store_driver->disconnect(connection);
    for (size_t i = 0; i < 4; i++)
        store_driver->close(stores[i]);
}

/* Who waits for the other's transaction; others test on the same server. */
#define WAITING                                            \
    "SELECT count(*) FROM pg_locks WHERE NOT granted"      \
    " AND locktype = 'transactionid' AND transactionid = " \
    "pg_current_xact_id()::xid"

static void
who_meets_a_name_that_is_being_added_waits_for_what_becomes_of_it(void **state)
{
    static const char *const ends[] = {"COMMIT", "ROLLBACK"};
    static const svc_rc wanted[] = {RC_USERNAME_TAKEN, RC_OK};
    test_t *self = *state;
    void *store = open_store();

    for (size_t i = 0; i < SVC_COUNT(ends); i++) {
        char insert[200];
        adder_t adder;

        (void)snprintf(insert, sizeof(insert),
                       "BEGIN; INSERT INTO auth_user (username, password_hash, created_s)"
                       " VALUES ('%s', 'x', 1)",
                       ends[i]);
        pg_fixture_does(&self->db, insert);
        start_adder(&adder, store, ends[i]);
        pg_fixture_until(&self->db, WAITING, 1);
        pg_fixture_does(&self->db, ends[i]);
        join_adder(&adder);
        assert_int_equal(adder.rc, RC_OK);
        assert_int_equal(adder.user.rc, wanted[i]);
    }
    store_driver->close(store);
}

static void *
run_pair_of_adders(void *arg)
{
    adder_t *self = arg;
    new_user_t users[] = {user("second"), user("first")};

    self->rc = store_driver->add(self->connection, users, SVC_COUNT(users));
    return NULL;
}

/* So that nobody waits in a circle: whoever has what comes later by name waits for nothing that comes before. */
static void
a_batch_has_no_name_yet_that_comes_after_one_it_waits_for(void **state)
{
    test_t *self = *state;
    void *store = open_store();
    adder_t adder = {.connection = connect_to(store)};

    pg_fixture_does(&self->db,
                    "BEGIN; SET LOCAL lock_timeout = '500ms';"
                    "INSERT INTO auth_user (username, password_hash, created_s)"
                    " VALUES ('first', 'x', 1)");
    assert_int_equal(pthread_create(&adder.thread, NULL, run_pair_of_adders, &adder), 0);
    pg_fixture_until(&self->db, WAITING, 1);
    pg_fixture_does(&self->db,
                    "INSERT INTO auth_user (username, password_hash, created_s)"
                    " VALUES ('second', 'x', 1)");
    pg_fixture_does(&self->db, "ROLLBACK");
    join_adder(&adder);
    assert_int_equal(adder.rc, RC_OK);
    store_driver->close(store);
}

static void
batches_of_two_replicas_in_opposite_orders_do_not_wait_for_one_another(void **state)
{
    void *stores[2] = {open_store(), open_store()};
    char names[100][16];
    adder_t adders[4]; /* the proxy takes eight connections */

    (void)state;
    for (size_t i = 0; i < 100; i++)
        (void)snprintf(names[i], sizeof(names[i]), "u%zu", i);
    for (int round = 0; round < 5; round++) {
        /* while others add single ones, two batches run one after the other here */
        for (size_t i = 0; i < SVC_COUNT(adders); i++)
            start_adder(&adders[i], stores[i % 2], names[(i * 13) % 100]);
        for (size_t k = 0; k < 2; k++) {
            new_user_t users[100];
            void *connection = connect_to(stores[k]);

            for (size_t i = 0; i < 100; i++)
                users[i] = user(names[k == 0 ? i : 99 - i]);
            assert_int_equal(add_users(connection, users, 100), RC_OK);
            store_driver->disconnect(connection);
        }
        for (size_t i = 0; i < SVC_COUNT(adders); i++) {
            join_adder(&adders[i]);
            assert_int_equal(adders[i].rc, RC_OK);
        }
    }
    store_driver->close(stores[0]);
    store_driver->close(stores[1]);
}

/* --- a database that goes away -------------------------------------------------------------------- */

static void
a_server_that_has_closed_its_connections_is_asked_again_at_once(void **state)
{
    test_t *self = *state;
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t ann = user("ann");
    user_row_t row;

    assert_int_equal(store_driver->add(connection, &ann, 1), RC_OK);
    pg_fixture_disconnect_all(&self->db);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_OK);
    assert_int_equal(row.id, ann.id);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static void
while_the_server_is_away_all_is_unavailable_and_then_well(void **state)
{
    test_t *self = *state;
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t users[] = {user("ann"), user("bob")};
    uint64_t end_ms = svc_mono_ms() + 20000;
    user_row_t row;
    svc_rc rc;

    atomic_store(&self->proxy.mode, PROXY_REFUSE);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row),
                     RC_UNAVAILABLE);
    assert_int_equal(store_driver->add(connection, users, 2), RC_UNAVAILABLE);
    assert_int_equal(users[0].rc, RC_UNAVAILABLE);
    assert_int_equal(users[1].rc, RC_UNAVAILABLE);
    atomic_store(&self->proxy.mode, PROXY_PASS);
    do {
        assert_true(svc_mono_ms() < end_ms);
        rc = store_driver->add(connection, users, 2);
    } while (rc == RC_UNAVAILABLE);
    assert_int_equal(rc, RC_OK);
    assert_int_equal(users[0].rc, RC_OK);
    assert_int_equal(users[1].rc, RC_OK);
    assert_int_equal(store_driver->find(connection, SVC_LIT("bob"), &row), RC_OK);
    assert_false(store_driver->is_away(store));
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static void
a_server_that_has_frozen_is_left_alone_for_a_moment(void **state)
{
    test_t *self = *state;
    void *store = open_store();
    void *connection = connect_to(store), *other = connect_to(store);
    uint64_t frozen_ms, end_ms;
    user_row_t row;
    svc_rc rc;

    atomic_store(&self->proxy.mode, PROXY_FREEZE);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row),
                     RC_UNAVAILABLE);
    frozen_ms = svc_mono_ms();
    atomic_store(&self->proxy.mode, PROXY_PASS);
    rc = store_driver->find(other, SVC_LIT("ann"), &row); /* is told without asking */
    assert_true(rc == RC_UNAVAILABLE || svc_mono_ms() >= frozen_ms + 900);
    end_ms = svc_mono_ms() + 20000;
    do {
        assert_true(svc_mono_ms() < end_ms);
        rc = store_driver->find(connection, SVC_LIT("ann"), &row);
    } while (rc == RC_UNAVAILABLE);
    assert_int_equal(rc, RC_NOT_FOUND);
    assert_int_equal(store_driver->find(other, SVC_LIT("ann"), &row), RC_NOT_FOUND);
    store_driver->disconnect(other);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static void
what_became_of_a_commit_that_nobody_answered_is_found_out(void **state)
{
    static const int cuts[] = {PROXY_CUT_BEFORE, PROXY_CUT_WITH, PROXY_CUT_AFTER};
    test_t *self = *state;
    void *store = open_store();
    void *connection = connect_to(store);

    for (size_t i = 0; i < SVC_COUNT(cuts); i++) {
        char name[16];
        new_user_t added;
        user_row_t row;
        svc_rc rc, found;

        (void)snprintf(name, sizeof(name), "user %zu", i);
        added = user(name);
        added.key = SVC_LIT("key");
        atomic_store(&self->proxy.mode, cuts[i]);
        rc = store_driver->add(connection, &added, 1);
        assert_int_equal(added.rc, rc);
        found = store_driver->find(connection, svc_str_c(name), &row);
        assert_int_equal(found, rc == RC_OK ? RC_OK : RC_NOT_FOUND);
        assert_true(rc == RC_OK || rc == RC_UNAVAILABLE);
        if (cuts[i] == PROXY_CUT_AFTER)
            assert_int_equal(rc, RC_OK);
        if (cuts[i] == PROXY_CUT_BEFORE)
            assert_int_equal(rc, RC_UNAVAILABLE);
        /* in any case whoever asks again with the key has the user */
        assert_int_equal(store_driver->add(connection, &added, 1), RC_OK);
        assert_int_equal(added.rc, RC_OK);
        if (found == RC_OK)
            assert_int_equal(added.id, row.id);
    }
    store_driver->disconnect(connection);
    store_driver->close(store);
}

/* Waits until the store says that it waits for its database. */
static void
await_away(void *store)
{
    const struct timespec ms = {.tv_nsec = 1000000};
    uint64_t end_ms = svc_mono_ms() + 20000;

    while (!store_driver->is_away(store)) {
        assert_true(svc_mono_ms() < end_ms);
        nanosleep(&ms, NULL);
    }
}

static void
who_comes_while_a_commit_is_not_decided_can_be_told_and_a_stop_ends_the_wait(void **state)
{
    test_t *self = *state;
    void *store = open_store();
    adder_t adder;

    atomic_store(&self->proxy.mode, PROXY_CUT_AFTER_REFUSE);
    start_adder(&adder, store, "ann");
    await_away(store);
    atomic_store(&store_stop, true);
    join_adder(&adder);
    assert_int_equal(adder.user.rc, RC_UNAVAILABLE);
    store_driver->close(store);
}

/* --- what cannot be opened, or read --------------------------------------------------------------- */

static void
what_keeps_a_store_from_opening_is_told(void **state)
{
    test_t *self = *state;

    store_driver->close(open_store());
    pg_fixture_does(&self->db, "UPDATE llmb_schema SET steps = 99, oldest = 99");
    assert_not_opened("newer release");
    atomic_store(&self->proxy.mode, PROXY_REFUSE);
    atomic_store(&store_stop, true); /* or it would wait for the server to come */
    assert_not_opened("cannot connect to PostgreSQL");
    store_config.storage_postgresql_url = "";
    assert_not_opened("storage.postgresql.url must be configured");
    store_config.storage_postgresql_url = "postgresql://user:geheim@[host/db";
    assert_not_opened("storage.postgresql.url");
}

static void
rows_that_are_none_of_ours_are_faults(void **state)
{
    test_t *self = *state;
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t ann = user("ann");
    user_row_t row;

    assert_int_equal(store_driver->add(connection, &ann, 1), RC_OK);
    pg_fixture_does(&self->db,
                    "UPDATE auth_user SET request_key = repeat('x', 33)::bytea");
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_INTERNAL);
    pg_fixture_does(&self->db, "UPDATE auth_user SET request_key = NULL,"
                               " password_hash = repeat('x', 200)");
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_INTERNAL);
    pg_fixture_does(&self->db, "DROP TABLE auth_user");
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_INTERNAL);
    assert_int_equal(store_driver->add(connection, &ann, 1), RC_INTERNAL);
    assert_int_equal(ann.rc, RC_INTERNAL);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

static void
a_failing_transaction_adds_nobody(void **state)
{
    test_t *self = *state;
    void *store = open_store();
    void *connection = connect_to(store);
    new_user_t users[] = {user("ann"), user("bob")};
    user_row_t row;

    pg_fixture_does(&self->db,
                    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$ BEGIN RAISE 'no'; END $$;"
                    "CREATE TRIGGER t BEFORE INSERT ON auth_user FOR EACH ROW"
                    " WHEN (NEW.username = 'bob') EXECUTE FUNCTION refuse()");
    assert_int_equal(store_driver->add(connection, users, 2), RC_INTERNAL);
    assert_int_equal(users[0].rc, RC_INTERNAL);
    assert_int_equal(users[1].rc, RC_INTERNAL);
    assert_int_equal(store_driver->find(connection, SVC_LIT("ann"), &row), RC_NOT_FOUND);
    assert_int_equal(store_driver->add(connection, users, 1), RC_OK);
    assert_int_equal(users[0].rc, RC_OK);
    store_driver->disconnect(connection);
    store_driver->close(store);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        USER_STORE_TESTS(setup, teardown),
        TEST(of_many_replicas_that_register_one_name_one_wins),
        TEST(who_meets_a_name_that_is_being_added_waits_for_what_becomes_of_it),
        TEST(a_batch_has_no_name_yet_that_comes_after_one_it_waits_for),
        TEST(batches_of_two_replicas_in_opposite_orders_do_not_wait_for_one_another),
        TEST(a_server_that_has_closed_its_connections_is_asked_again_at_once),
        TEST(while_the_server_is_away_all_is_unavailable_and_then_well),
        TEST(a_server_that_has_frozen_is_left_alone_for_a_moment),
        TEST(what_became_of_a_commit_that_nobody_answered_is_found_out),
        TEST(
            who_comes_while_a_commit_is_not_decided_can_be_told_and_a_stop_ends_the_wait),
        TEST(what_keeps_a_store_from_opening_is_told),
        TEST(rows_that_are_none_of_ours_are_faults),
        TEST(a_failing_transaction_adds_nobody),
    };

    if (!pg_fixture_is_there()) {
        print_message("LLMB_TEST_POSTGRESQL is not set: these tests are left out\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
