/* store_fixture.h - a store of either kind for one test, what its rows are copied to, and how it is broken.
 *
 * SQLite in a folder of its own, PostgreSQL in a schema of its own; the same list of tests runs against both (BOTH), but for
 * what only a file can do (SQLITE) or only a server (POSTGRESQL). A second, bare connection to the same database plays what can
 * happen to it: somebody holds its lock, its tables are gone. Without a server its half of the list is left out. */
#ifndef TESTS_UNIT_CONVO_SVC_STORE_FIXTURE_H
#define TESTS_UNIT_CONVO_SVC_STORE_FIXTURE_H

#include "convo_fixture.h"
#include "tests/unit/svc/pg_fixture.h"

#include "convo-svc/store_sqlite.h"

typedef struct {
    folder_t folder;
    pg_fixture_t db; /* PostgreSQL: also the bare connection */
    convo_place_t place;
    convo_store_t *store; /* writes */
    sqlite3 *other;       /* SQLite: the bare connection */
} test_t;

static inline convo_store_t *
test_open(const test_t *self, store_use use)
{
    char *error = NULL;
    convo_store_t *store = convo_store_open(&self->place, use, NULL, &error);

    if (store == NULL)
        print_error("%s\n", error == NULL ? "?" : error);
    assert_non_null(store);
    return store;
}

static inline int
setup_sqlite(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    folder_open(&self->folder);
    self->place = self->folder.workers.place;
    self->place.path = self->folder.db;
    self->store = test_open(self, STORE_WRITE);
    assert_int_equal(sqlite3_open(self->folder.db, &self->other), SQLITE_OK);
    *state = self;
    return 0;
}

static inline int
setup_postgresql(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    folder_open(&self->folder);
    pg_fixture_open(&self->db);
    self->place = (convo_place_t){.driver = SVC_STORAGE_POSTGRESQL, .url = self->db.url};
    self->store = test_open(self, STORE_WRITE);
    *state = self;
    return 0;
}

static inline int
teardown(void **state)
{
    test_t *self = *state;

    (void)sqlite3_close(self->other);
    convo_store_destroy(&self->store);
    if (self->place.driver == SVC_STORAGE_POSTGRESQL)
        pg_fixture_close(&self->db);
    folder_close(&self->folder);
    free(self);
    return 0;
}

#define SQLITE(f)                                       \
    {                                                   \
#f " (SQLite)", f, setup_sqlite, teardown, NULL \
    }
#define POSTGRESQL(f)                                           \
    {                                                           \
#f " (PostgreSQL)", f, setup_postgresql, teardown, NULL \
    }
#define BOTH(f) SQLITE(f), POSTGRESQL(f)

/* Runs a list as cmocka_run_group_tests does; without a server only SQLite's part of it. */
static inline int
run_stores(const char *name, struct CMUnitTest *tests, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if (tests[i].setup_func != setup_postgresql || pg_fixture_is_there())
            tests[kept++] = tests[i];
    return kept == 0 ? 0 : _cmocka_run_group_tests(name, tests, kept, NULL, NULL);
}

/* --- rows ------------------------------------------------------------------------------------- */

static inline svc_rc
copy_conversation(void *arg, const conversation_row_t *row)
{
    conversation_row_t *out = arg;

    *out = *row;
    out->title = (svc_str){svc_str_dup(row->title), row->title.n};
    out->model = (svc_str){svc_str_dup(row->model), row->model.n};
    out->sealed_key = (svc_str){svc_str_dup(row->sealed_key), row->sealed_key.n};
    return RC_OK;
}

static inline void
free_conversation(conversation_row_t *row)
{
    free((char *)(uintptr_t)row->title.p);
    free((char *)(uintptr_t)row->model.p);
    free((char *)(uintptr_t)row->sealed_key.p);
}

/* The numbers of a conversation. */
static inline conversation_row_t
get_conversation(convo_store_t *store, uint64_t id)
{
    conversation_row_t row;

    assert_int_equal(store->api->conversation_get(store, id, copy_conversation, &row),
                     RC_OK);
    free_conversation(&row);
    return row;
}

static inline svc_rc
copy_answer(void *arg, const answer_row_t *row)
{
    answer_row_t *out = arg;

    *out = *row;
    out->stream = out->finish = out->reason = out->text = out->body_hash = (svc_str){NULL,
                                                                                     0};
    return RC_OK;
}

static inline svc_rc
get_answer(convo_store_t *store, unsigned stream, answer_row_t *out)
{
    char room[PROTO_STREAM_BYTES];

    return store->api->answer_get(store, stream_of(room, stream), copy_answer, out);
}

/* Rows of a table (as SQLite's are called), as the bare connection sees them. */
static inline int
count_rows(test_t *self, const char *table)
{
    char sql[200];
    sqlite3_stmt *q = NULL;
    int n;

    if (self->place.driver == SVC_STORAGE_POSTGRESQL) {
        if (strcmp(table, "message") == 0)
            table = "convo_question";
        if (strcmp(table, "chunk") == 0)
            table = "answer_chunk";
    }
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
    if (self->place.driver == SVC_STORAGE_POSTGRESQL)
        return (int)pg_fixture_number(&self->db, sql);
    assert_int_equal(sqlite3_prepare_v2(self->other, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    n = sqlite3_column_int(q, 0);
    (void)sqlite3_finalize(q);
    return n;
}

static inline void
assert_text(convo_store_t *store, unsigned stream, const char *text)
{
    char room[PROTO_STREAM_BYTES];
    svc_buf_t buf;

    svc_buf_init(&buf, 1000);
    assert_int_equal(
        store->api->answer_text(store, stream_of(room, stream), 0, fixture_gather, &buf),
        RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&buf), svc_str_c(text)));
    svc_buf_fini(&buf);
}

/* Ids of conversations in the order they come, at most `max`. */
typedef struct {
    uint64_t ids[16], seqs[16];
    size_t n, max;
} ids_t;

static inline svc_rc
take_id(void *arg, const conversation_row_t *row)
{
    ids_t *ids = arg;

    if (ids->n == ids->max)
        return RC_LATER;
    ids->ids[ids->n] = row->id;
    ids->seqs[ids->n++] = row->seq;
    return RC_OK;
}

/* --- what can happen to SQLite's ------------------------------------------------------------ */

static inline void
other_does(test_t *self, const char *sql)
{
    assert_int_equal(sqlite3_exec(self->other, sql, NULL, NULL, NULL), SQLITE_OK);
}

static inline void
store_does(test_t *self, const char *sql)
{
    sqlite3 *db = ((store_sqlite_t *)self->store)->db;

    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

/* One function of the store, with arguments that are right for conversation 1 and stream 1. */
typedef svc_rc store_fn(convo_store_t *store);

/* Each write fails with RC_UNAVAILABLE while the lock is held elsewhere or the file may not be written, and changes nothing. */
static inline void
assert_writes_are_refused(test_t *self, store_fn *const *fns, size_t n)
{
    sqlite3 *db = ((store_sqlite_t *)self->store)->db;
    int changes = sqlite3_total_changes(db);

    assert_int_equal(sqlite3_busy_timeout(db, 0), SQLITE_OK);
    other_does(self, "BEGIN IMMEDIATE");
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fns[i](self->store), RC_UNAVAILABLE);
    other_does(self, "ROLLBACK");
    store_does(self, "PRAGMA query_only = ON");
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fns[i](self->store), RC_UNAVAILABLE);
    store_does(self, "PRAGMA query_only = OFF");
    assert_int_equal(sqlite3_total_changes(db), changes);
}

/* A schema that is not ours is a failure of ours to look into: no row, no silent success. */
static inline void
assert_a_broken_schema_is_internal(test_t *self, store_fn *const *fns, size_t n)
{
    other_does(self, "PRAGMA foreign_keys = OFF; DROP TABLE chunk; DROP TABLE message;"
                     "DROP TABLE answer; DROP TABLE conversation; DROP TABLE meta");
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fns[i](self->store), RC_INTERNAL);
}

#endif
