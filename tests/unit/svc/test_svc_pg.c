/* test_svc_pg.c - statements, values and transactions on a real PostgreSQL server.
 *
 * (The connection itself stands in test_svc_pg_link.c.) */
#include "pg_fixture.h"

enum { ST_PUT, ST_GET, ST_ALL, ST_ECHO, ST_WRONG, ST_ADD_ALL, ST_COUNT };

#define SQL_PUT "INSERT INTO thing (id, text) VALUES ($1, $2)"
#define SQL_GET "SELECT text FROM thing WHERE id = $1"

typedef struct {
    pg_fixture_t db;
    svc_pg_t *pg;
} test_t;

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));
    char *error = NULL;
    static const svc_pg_step_t steps[] = {
        {"CREATE TABLE thing (id bigint PRIMARY KEY, text bytea NOT NULL)", 1}};

    *state = self;
    if (!pg_fixture_is_there())
        return 0;
    pg_fixture_open(&self->db);
    self->pg = pg_fixture_connection(&self->db, self->db.url, ST_COUNT, NULL, NULL);
    assert_true(svc_pg_migrate(self->pg, "test", steps, 1, &error));
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

static svc_rc
put(test_t *self, uint64_t id, svc_str text)
{
    svc_pg_arg_t args[] = {PG_U64(id), PG_BYTES(text)};
    svc_pg_rows_t rows;
    svc_rc rc = svc_pg_query(self->pg, ST_PUT, SQL_PUT, args, 2, &rows);

    if (rc == RC_OK)
        assert_int_equal(rows.changed, 1);
    svc_pg_free(&rows);
    return rc;
}

/* Nobody waits for its result. */
static svc_rc
post(test_t *self, uint64_t id, svc_str text)
{
    svc_pg_arg_t args[] = {PG_U64(id), PG_BYTES(text)};

    return svc_pg_post(self->pg, ST_PUT, SQL_PUT, args, 2);
}

/* Has the row `id` the text? */
static bool
has(test_t *self, uint64_t id, svc_str text)
{
    svc_pg_arg_t args[] = {PG_U64(id)};
    svc_pg_rows_t rows;
    bool found;

    assert_int_equal(svc_pg_query(self->pg, ST_GET, SQL_GET, args, 1, &rows), RC_OK);
    found = rows.n == 1 && svc_str_eq(svc_pg_str(&rows, 0, 0), text);
    svc_pg_free(&rows);
    return found;
}

static svc_rc
wrong(test_t *self)
{
    svc_pg_rows_t rows;
    svc_rc rc = svc_pg_query(self->pg, ST_WRONG, "SELECT nothing FROM nowhere", NULL, 0,
                             &rows);

    svc_pg_free(&rows);
    return rc;
}

/* --- values ------------------------------------------------------------------------------------ */

static void
gives_values_back_as_they_were(void **state)
{
    test_t *self = *state;
    static const char odd[] = "a\0\xff\xc3\xa9'\\";
    static const char sql[] =
        "SELECT $1::bigint, $2::bytea, $3::text, $4::boolean, $5::bytea,"
        " $6::boolean, 7::smallint, 8::int";
    svc_pg_arg_t args[] = {PG_U64(UINT64_MAX - 5),
                           PG_BYTES(((svc_str){odd, sizeof(odd)})),
                           PG_TEXT(SVC_LIT("t\xc3\xa9")),
                           PG_BOOL(true),
                           PG_BYTES_OR_NULL(((svc_str){NULL, 0})),
                           PG_BOOL(false)};
    svc_pg_rows_t rows;

    if (self->pg == NULL)
        skip();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(svc_pg_query(self->pg, ST_ECHO, sql, args, 6, &rows), RC_OK);
        assert_int_equal(rows.n, 1);
        assert_true(svc_pg_u64(&rows, 0, 0) == UINT64_MAX - 5);
        assert_true(svc_str_eq(svc_pg_str(&rows, 0, 1), args[1].bytes));
        assert_true(svc_str_eq(svc_pg_str(&rows, 0, 2), args[2].bytes));
        assert_int_equal(svc_pg_u64(&rows, 0, 3), 1);
        assert_int_equal(svc_pg_str(&rows, 0, 4).n, 0);
        assert_int_equal(svc_pg_u64(&rows, 0, 5), 0);
        assert_int_equal(svc_pg_u64(&rows, 0, 6), 7);
        assert_int_equal(svc_pg_u64(&rows, 0, 7), 8);
        svc_pg_free(&rows);
    }
}

static void
takes_arrays_of_any_length(void **state)
{
    test_t *self = *state;
    static const char sql[] =
        "INSERT INTO thing SELECT * FROM unnest($1::bigint[], $2::bytea[])";
    svc_buf_t ids, texts;
    svc_pg_rows_t rows;

    if (self->pg == NULL)
        skip();
    svc_buf_init(&ids, 1000);
    svc_buf_init(&texts, 1000);
    for (size_t n = 0; n < 4; n += 3) {
        svc_buf_clear(&ids);
        svc_buf_clear(&texts);
        assert_int_equal(svc_pg_array(&ids, SVC_PG_INT8, n), RC_OK);
        assert_int_equal(svc_pg_array(&texts, SVC_PG_BYTES, n), RC_OK);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(svc_pg_array_u64(&ids, 10 + i), RC_OK);
            assert_int_equal(svc_pg_array_bytes(&texts, (svc_str){"a\0b", i}), RC_OK);
        }
        svc_pg_arg_t args[] = {PG_ARRAY(SVC_PG_INT8_ARRAY, &ids),
                               PG_ARRAY(SVC_PG_BYTES_ARRAY, &texts)};
        assert_int_equal(svc_pg_query(self->pg, ST_ADD_ALL, sql, args, 2, &rows), RC_OK);
        assert_int_equal(rows.changed, n);
        svc_pg_free(&rows);
    }
    assert_true(has(self, 10, SVC_LIT("")));
    assert_true(has(self, 12, (svc_str){"a\0", 2}));
    svc_buf_fini(&ids);
    svc_buf_fini(&texts);
    svc_buf_init(&ids, 3);
    assert_int_equal(svc_pg_array(&ids, SVC_PG_INT8, 1), RC_TOO_BIG);
    svc_buf_fini(&ids);
}

/* --- transactions ------------------------------------------------------------------------------- */

static void
commits_what_was_asked_and_what_was_only_posted(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(put(self, 1, SVC_LIT("one")), RC_OK);
    assert_int_equal(post(self, 2, SVC_LIT("two")), RC_OK);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM thing"), 0);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM thing"), 2);
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(post(self, 3, SVC_LIT("three")), RC_OK);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
    assert_true(has(self, 3, SVC_LIT("three")));
}

static void
rolls_back_and_goes_on(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
        assert_int_equal(put(self, 1, SVC_LIT("one")), RC_OK);
        svc_pg_rollback(self->pg);
        svc_pg_rollback(self->pg); /* harmless */
        assert_false(has(self, 1, SVC_LIT("one")));
    }
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    svc_pg_rollback(self->pg);
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
}

static void
a_savepoint_undoes_what_came_after_it_failures_too(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(svc_pg_save(self->pg), RC_OK);
    assert_int_equal(put(self, 1, SVC_LIT("kept")), RC_OK);
    assert_int_equal(svc_pg_keep(self->pg), RC_OK);
    assert_int_equal(svc_pg_save(self->pg), RC_OK);
    assert_int_equal(put(self, 2, SVC_LIT("undone")), RC_OK);
    assert_int_equal(put(self, 1, SVC_LIT("taken")), RC_CONFLICT);
    assert_int_equal(put(self, 3, SVC_LIT("nothing goes")), RC_CONFLICT);
    assert_int_equal(svc_pg_undo(self->pg), RC_OK);
    assert_int_equal(svc_pg_save(self->pg), RC_OK);
    assert_int_equal(post(self, 1, SVC_LIT("taken")),
                     RC_OK); /* nobody has heard of it yet */
    assert_int_equal(svc_pg_undo(self->pg), RC_OK);
    assert_int_equal(put(self, 4, SVC_LIT("after")), RC_OK);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
    assert_true(has(self, 1, SVC_LIT("kept")));
    assert_true(has(self, 4, SVC_LIT("after")));
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM thing"), 2);
}

static void
a_transaction_in_which_something_failed_is_not_committed(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(put(self, 1, SVC_LIT("there")), RC_OK);
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(put(self, 2, SVC_LIT("x")), RC_OK);
    assert_int_equal(put(self, 1, SVC_LIT("x")), RC_CONFLICT);
    assert_int_equal(svc_pg_commit(self->pg), RC_CONFLICT);
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(post(self, 2, SVC_LIT("x")), RC_OK);
    assert_int_equal(post(self, 1, SVC_LIT("x")), RC_OK);
    assert_int_equal(svc_pg_commit(self->pg), RC_CONFLICT);
    assert_false(has(self, 2, SVC_LIT("x")));
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(put(self, 2, SVC_LIT("y")), RC_OK);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
    assert_true(has(self, 2, SVC_LIT("y")));
}

static void
a_failure_of_what_was_posted_is_told_by_the_next_result(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(put(self, 1, SVC_LIT("there")), RC_OK);
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(post(self, 1, SVC_LIT("x")), RC_OK);
    assert_int_equal(put(self, 2, SVC_LIT("x")), RC_CONFLICT);
    svc_pg_rollback(self->pg);
    assert_false(has(self, 2, SVC_LIT("x")));
}

static void
counts_what_changed_or_failed(void **state)
{
    test_t *self = *state;
    uint64_t before;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_false(has(self, 1, SVC_LIT("x")));
    before = svc_pg_changes(self->pg);
    assert_false(has(self, 1, SVC_LIT("x")));
    assert_int_equal(svc_pg_changes(self->pg), before);
    assert_int_equal(put(self, 1, SVC_LIT("x")), RC_OK);
    assert_true(svc_pg_changes(self->pg) > before);
    before = svc_pg_changes(self->pg);
    assert_int_equal(
        svc_pg_post(self->pg, ST_ALL, "SELECT 1 FROM thing FOR UPDATE", NULL, 0), RC_OK);
    assert_true(has(self, 1, SVC_LIT("x")));
    assert_int_equal(svc_pg_changes(self->pg), before);
    assert_int_equal(put(self, 1, SVC_LIT("x")), RC_CONFLICT);
    assert_true(svc_pg_changes(self->pg) > before);
    svc_pg_rollback(self->pg);
}

static void
what_is_called_out_of_turn_is_internal(void **state)
{
    test_t *self = *state;
    svc_pg_rows_t rows;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_commit(self->pg), RC_INTERNAL);
    assert_int_equal(svc_pg_save(self->pg), RC_INTERNAL);
    assert_int_equal(svc_pg_keep(self->pg), RC_INTERNAL);
    assert_int_equal(svc_pg_undo(self->pg), RC_INTERNAL);
    assert_int_equal(post(self, 1, SVC_LIT("x")), RC_INTERNAL);
    assert_int_equal(svc_pg_receive(self->pg, &rows), RC_INTERNAL);
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(svc_pg_begin(self->pg, true), RC_INTERNAL);
    assert_int_equal(put(self, 1, SVC_LIT("x")), RC_OK);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
    assert_true(has(self, 1, SVC_LIT("x")));
}

static void
results_come_in_the_order_of_the_questions(void **state)
{
    test_t *self = *state;
    svc_pg_rows_t rows;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    for (uint64_t i = 0; i < 100; i++) {
        svc_pg_arg_t id = PG_U64(i);

        assert_int_equal(post(self, i, (svc_str){(const char *)&i, sizeof(i)}), RC_OK);
        assert_int_equal(svc_pg_send(self->pg, ST_GET, SQL_GET, &id, 1), RC_OK);
    }
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(svc_pg_receive(self->pg, &rows), RC_OK);
        assert_true(
            svc_str_eq(svc_pg_str(&rows, 0, 0), (svc_str){(const char *)&i, sizeof(i)}));
        svc_pg_free(&rows);
    }
    assert_int_equal(svc_pg_receive(self->pg, &rows), RC_INTERNAL);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
}

static void
more_than_may_be_due_is_refused(void **state)
{
    test_t *self = *state;
    svc_rc rc = RC_OK;
    size_t n = 0;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    for (; rc == RC_OK; n++)
        rc = post(self, n, SVC_LIT("x"));
    assert_int_equal(rc, RC_TOO_BIG);
    assert_true(n > SVC_PG_DUE_MAX / 2);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM thing"), n - 1);
}

static void
a_reader_sees_one_moment_and_may_not_write(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, false), RC_OK);
    assert_false(has(self, 1, SVC_LIT("x")));
    pg_fixture_does(&self->db, "INSERT INTO thing VALUES (1, 'x')");
    assert_false(has(self, 1, SVC_LIT("x")));
    svc_pg_rollback(self->pg);
    assert_true(has(self, 1, SVC_LIT("x")));
    assert_int_equal(svc_pg_begin(self->pg, false), RC_OK);
    assert_int_equal(put(self, 2, SVC_LIT("x")),
                     RC_UNAVAILABLE); /* as of a server that only reads */
    svc_pg_rollback(self->pg);
    assert_true(has(self, 1, SVC_LIT("x")));
}

/* --- failures ------------------------------------------------------------------------------------ */

static void
a_statement_that_is_wrong_is_internal_each_time(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(wrong(self), RC_INTERNAL);
        assert_int_equal(put(self, (uint64_t)i, SVC_LIT("x")), RC_OK);
    }
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(svc_pg_save(self->pg), RC_OK);
    assert_int_equal(wrong(self), RC_INTERNAL);
    assert_int_equal(svc_pg_undo(self->pg), RC_OK);
    assert_int_equal(put(self, 9, SVC_LIT("x")), RC_OK);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
}

static void
a_statement_first_used_where_all_is_refused_is_prepared_later(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(wrong(self), RC_INTERNAL);
    assert_int_equal(put(self, 1, SVC_LIT("x")), RC_INTERNAL);
    svc_pg_rollback(self->pg);
    assert_int_equal(put(self, 1, SVC_LIT("x")), RC_OK);
}

static void
somebody_in_the_way_is_busy(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(put(self, 1, SVC_LIT("x")), RC_OK);
    pg_fixture_does(&self->db, "BEGIN; INSERT INTO thing VALUES (2, 'y')");
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(put(self, 2, SVC_LIT("z")), RC_BUSY);
    svc_pg_rollback(self->pg);
    pg_fixture_does(&self->db, "ROLLBACK");
    assert_int_equal(put(self, 2, SVC_LIT("z")), RC_OK);
}

static void
two_that_wait_for_each_other_are_told_apart(void **state)
{
    test_t *self = *state;
    svc_pg_rows_t rows;
    svc_pg_arg_t id = PG_U64(2);
    svc_rc rc;

    if (self->pg == NULL)
        skip();
    pg_fixture_does(&self->db,
                    "INSERT INTO thing VALUES (1, 'x'), (2, 'x');"
                    "SET deadlock_timeout = '10s'"); /* so that it is we who look */
    pg_fixture_does(&self->db, "BEGIN; UPDATE thing SET text = 'o' WHERE id = 2");
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    id.number = 1;
    assert_int_equal(svc_pg_query(self->pg, ST_ALL,
                                  "UPDATE thing SET text = 'm' WHERE id = $1", &id, 1,
                                  &rows),
                     RC_OK);
    svc_pg_free(&rows);
    assert_int_equal(PQsendQuery(self->db.other,
                                 "UPDATE thing SET text = 'o' WHERE id = 1;"
                                 "COMMIT"),
                     1);
    id.number = 2;
    rc = svc_pg_query(self->pg, ST_ALL, "UPDATE thing SET text = 'm' WHERE id = $1", &id,
                      1, &rows);
    svc_pg_free(&rows);
    assert_int_equal(rc, RC_BUSY);
    svc_pg_rollback(self->pg);
    for (PGresult *result; (result = PQgetResult(self->db.other)) != NULL;)
        PQclear(result);
    assert_true(has(self, 1, SVC_LIT("o")));
    assert_true(has(self, 2, SVC_LIT("o")));
}

static void
a_mark_that_was_tidied_away_is_made_anew(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(put(self, 1, SVC_LIT("x")), RC_OK);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM llmb_writer"), 1);
    pg_fixture_does(&self->db, "DELETE FROM llmb_writer");
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(put(self, 2, SVC_LIT("x")), RC_BUSY);
    svc_pg_rollback(self->pg);
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(put(self, 2, SVC_LIT("x")), RC_OK);
    assert_int_equal(svc_pg_commit(self->pg), RC_OK);
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM llmb_writer"), 1);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(gives_values_back_as_they_were),
        TEST(takes_arrays_of_any_length),
        TEST(commits_what_was_asked_and_what_was_only_posted),
        TEST(rolls_back_and_goes_on),
        TEST(a_savepoint_undoes_what_came_after_it_failures_too),
        TEST(a_transaction_in_which_something_failed_is_not_committed),
        TEST(a_failure_of_what_was_posted_is_told_by_the_next_result),
        TEST(counts_what_changed_or_failed),
        TEST(what_is_called_out_of_turn_is_internal),
        TEST(results_come_in_the_order_of_the_questions),
        TEST(more_than_may_be_due_is_refused),
        TEST(a_reader_sees_one_moment_and_may_not_write),
        TEST(a_statement_that_is_wrong_is_internal_each_time),
        TEST(a_statement_first_used_where_all_is_refused_is_prepared_later),
        TEST(somebody_in_the_way_is_busy),
        TEST(two_that_wait_for_each_other_are_told_apart),
        TEST(a_mark_that_was_tidied_away_is_made_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
