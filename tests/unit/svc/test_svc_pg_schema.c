/* test_svc_pg_schema.c - schemas that grow: once, whoever comes first, and never backwards.
 *
 * (Processes that start at once are children of this one.) */
#include "pg_proxy.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    pg_fixture_t db;
    svc_pg_t *pg;
} test_t;

static const svc_pg_step_t steps[] = {
    {"CREATE TABLE thing (id bigint PRIMARY KEY); INSERT INTO thing VALUES (1)", 1},
    {"ALTER TABLE thing ADD COLUMN text bytea; INSERT INTO thing VALUES (2)", 1},
    {"ALTER TABLE thing RENAME COLUMN text TO words", 3},
};

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    *state = self;
    if (!pg_fixture_is_there())
        return 0;
    pg_fixture_open(&self->db);
    self->pg = pg_fixture_connection(&self->db, self->db.url, 1, NULL, NULL);
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    svc_pg_destroy(&self->pg);
    if (pg_fixture_is_there())
        pg_fixture_close(&self->db);
    free(self);
    return 0;
}

/* Migrates as code that knows `n` steps; what it says against it is left in *error. */
static bool
migrate(test_t *self, int n, char **error)
{
    *error = NULL;
    return svc_pg_migrate(self->pg, "test", steps, n, error);
}

static void
takes_each_step_once(void **state)
{
    test_t *self = *state;
    char *error;

    if (self->pg == NULL)
        skip();
    assert_true(migrate(self, 1, &error));
    assert_true(migrate(self, 1, &error));
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM thing"), 1);
    assert_true(migrate(self, 2, &error));
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM thing"), 2);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT steps FROM llmb_schema"), 2);
}

static void
code_of_before_works_as_long_as_the_schema_fits_it(void **state)
{
    test_t *self = *state;
    char *error;

    if (self->pg == NULL)
        skip();
    assert_true(migrate(self, 2, &error));
    assert_true(migrate(self, 1, &error));
    assert_int_equal(pg_fixture_number(&self->db, "SELECT steps FROM llmb_schema"), 2);
    assert_true(migrate(self, 3, &error));
    assert_false(migrate(self, 2, &error));
    assert_non_null(strstr(error, "newer release"));
    free(error);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT steps FROM llmb_schema"), 3);
    assert_true(migrate(self, 3, &error));
}

static void
a_step_that_fails_leaves_nothing(void **state)
{
    static const svc_pg_step_t broken[] = {
        {"CREATE TABLE thing (id bigint PRIMARY KEY)", 1},
        {"CREATE TABLE other (id bigint); SELECT nothing FROM nowhere", 2}};
    test_t *self = *state;
    char *error = NULL;

    if (self->pg == NULL)
        skip();
    assert_false(svc_pg_migrate(self->pg, "test", broken, 2, &error));
    assert_non_null(strstr(error, "schema"));
    free(error);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM pg_tables"
                                                  " WHERE schemaname = current_schema()"),
                     0);
    assert_true(migrate(self, 1, &error));
}

static void
parts_of_the_schema_do_not_know_one_another(void **state)
{
    static const svc_pg_step_t others[] = {{"CREATE TABLE other (id bigint)", 1}};
    test_t *self = *state;
    char *error;

    if (self->pg == NULL)
        skip();
    assert_true(migrate(self, 2, &error));
    assert_true(svc_pg_migrate(self->pg, "other", others, 1, &error));
    assert_int_equal(
        pg_fixture_number(&self->db, "SELECT steps FROM llmb_schema WHERE part = 'test'"),
        2);
}

static void
a_server_that_is_not_there_is_said(void **state)
{
    const atomic_bool stop = true; /* nobody waits for it to come */
    svc_pg_config_t config = {
        .url = "postgresql://127.0.0.1:1/db", .name = "test", .stop = &stop};
    char *error = NULL;
    svc_pg_t *pg = svc_pg_new(&config, &error);

    (void)state;
    assert_false(svc_pg_migrate(pg, "test", steps, 1, &error));
    assert_non_null(strstr(error, "cannot connect"));
    free(error);
    svc_pg_destroy(&pg);
}

static void
a_server_that_is_lost_at_any_step_is_waited_for(void **state)
{
    static const int modes[] = {PROXY_CREEP, PROXY_CREEP_AFTER, PROXY_CREEP_WITH};
    test_t *self = *state;
    char url[PG_URL_BYTES], *error = NULL;

    if (self->pg == NULL)
        skip();
    for (size_t i = 0; i < SVC_COUNT(modes); i++) {
        pg_proxy_t proxy;

        proxy_open(&proxy, &self->db, url);
        svc_pg_destroy(&self->pg);
        self->pg = pg_fixture_connection(&self->db, url, 1, NULL, NULL);
        atomic_store(&proxy.mode, modes[i]);
        assert_true(migrate(self, 3, &error));
        assert_true(atomic_load(&proxy.cuts) > 8); /* connecting takes some of them */
        assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM thing"), 2);
        assert_int_equal(pg_fixture_number(&self->db, "SELECT steps FROM llmb_schema"),
                         3);
        pg_fixture_does(&self->db, "DROP TABLE thing, llmb_schema, llmb_writer");
        svc_pg_destroy(&self->pg);
        proxy_close(&proxy);
    }
}

static void
a_server_that_is_lost_is_not_waited_for_when_all_is_to_end(void **state)
{
    test_t *self = *state;
    atomic_bool stop = false;
    char *error = NULL;

    if (self->pg == NULL)
        skip();
    svc_pg_destroy(&self->pg);
    self->pg = pg_fixture_connection(&self->db, self->db.url, 1, &stop, NULL);
    assert_true(svc_pg_await(self->pg, &error));
    atomic_store(&stop, true);
    assert_false(svc_pg_await(self->pg, &error));
    assert_null(strchr(error, '\n'));
    free(error);
}

/* A process of its own, which starts with the others when they have all arrived. */
static pid_t
start_migrating(test_t *self, int gate)
{
    pid_t pid = fork();
    char byte, *error = NULL;
    svc_pg_t *pg;
    bool ok;

    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    pg = pg_fixture_connection(&self->db, self->db.url, 1, NULL, NULL);
    ok = svc_pg_connect(pg, 10000, &error);
    ok = read(gate, &byte, 1) == 1 && ok;
    _exit(ok && svc_pg_migrate(pg, "test", steps, 3, &error) ? 0 : 1);
}

static void
several_processes_that_start_at_once_all_find_it_done(void **state)
{
    test_t *self = *state;
    int gate[2], status;
    pid_t pids[5];

    if (self->pg == NULL)
        skip();
    assert_int_equal(pipe(gate), 0);
    for (size_t i = 0; i < SVC_COUNT(pids); i++) {
        pids[i] = start_migrating(self, gate[0]);
        assert_true(pids[i] > 0);
    }
    /* A child has the writing end, too, until it exits: so a byte for each opens the gate. */
    assert_int_equal(write(gate[1], "12345", SVC_COUNT(pids)), SVC_COUNT(pids));
    for (size_t i = 0; i < SVC_COUNT(pids); i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    close(gate[0]);
    close(gate[1]);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM thing"), 2);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT steps FROM llmb_schema"), 3);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(takes_each_step_once),
        TEST(code_of_before_works_as_long_as_the_schema_fits_it),
        TEST(a_step_that_fails_leaves_nothing),
        TEST(parts_of_the_schema_do_not_know_one_another),
        cmocka_unit_test(a_server_that_is_not_there_is_said),
        TEST(a_server_that_is_lost_at_any_step_is_waited_for),
        TEST(a_server_that_is_lost_is_not_waited_for_when_all_is_to_end),
        TEST(several_processes_that_start_at_once_all_find_it_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
