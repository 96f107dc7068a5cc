/* test_convo_store_sqlite.c - the connection, its transactions, and what SQLite's failures mean for the caller.
 *
 * (What both kinds of stores do stands in test_convo_store.c and test_store_*.c.) */
#include "store_fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* --- failures ------------------------------------------------------------------------------ */

static svc_rc
do_begin(convo_store_t *store)
{
    svc_rc rc = store->api->begin(store, true);

    store->api->rollback(store);
    return rc;
}

static svc_rc
do_meta_put(convo_store_t *store)
{
    return store->api->meta_put(store, "a", SVC_LIT("1"));
}

static svc_rc
do_meta_get(convo_store_t *store)
{
    svc_buf_t buf;
    svc_rc rc;

    svc_buf_init(&buf, 10);
    rc = store->api->meta_get(store, "a", &buf);
    svc_buf_fini(&buf);
    return rc;
}

static void
a_lock_held_elsewhere_and_a_file_that_may_not_be_written_are_unavailable(void **state)
{
    test_t *self = *state;
    sqlite3 *db = ((store_sqlite_t *)self->store)->db;
    static store_fn *const writes[] = {do_meta_put};

    assert_int_equal(sqlite3_busy_timeout(db, 0), SQLITE_OK);
    other_does(self, "BEGIN IMMEDIATE");
    assert_int_equal(do_begin(self->store), RC_UNAVAILABLE);
    assert_int_equal(do_meta_get(self->store), RC_NOT_FOUND); /* readers go on */
    other_does(self, "ROLLBACK");
    assert_int_equal(do_begin(self->store), RC_OK);
    assert_writes_are_refused(self, writes, SVC_COUNT(writes));
    assert_int_equal(do_meta_put(self->store), RC_OK);
}

static void
a_schema_that_is_not_ours_is_internal(void **state)
{
    test_t *self = *state;
    static store_fn *const all[] = {do_meta_put, do_meta_get};

    assert_a_broken_schema_is_internal(self, all, SVC_COUNT(all));
}

static void
a_full_database_is_unavailable_and_loses_nothing_of_before(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    static char text[100000];
    svc_rc rc;

    store_add_conversation(self->store, 1, "t");
    store_does(self, "PRAGMA max_page_count = 1"); /* no page more than there are */
    store_begin(self->store);
    rc = api->meta_put(self->store, "big", (svc_str){text, sizeof(text)});
    api->rollback(self->store);
    assert_int_equal(rc, RC_UNAVAILABLE);
    assert_int_equal(get_conversation(self->store, 1).id, 1);
    store_does(self, "PRAGMA max_page_count = 100000");
    store_begin(self->store);
    assert_int_equal(api->meta_put(self->store, "big", (svc_str){text, sizeof(text)}),
                     RC_OK);
    store_commit(self->store);
}

static void
a_disk_that_goes_on_failing_does_not_fill_the_log(void **state)
{
    test_t *self = *state;
    FILE *file = tmpfile();
    uint64_t begun = svc_mono_ms(), lines = 0;
    svc_log_t *log;
    convo_store_t *store;
    char *error = NULL;

    assert_non_null(file);
    log = svc_log_new(fileno(file), "convo-svc", SVC_LOG_JSON, SVC_LOG_ERROR);
    store = convo_store_sqlite_open(self->folder.db, STORE_WRITE, log, &error);
    assert_non_null(store);
    assert_int_equal(sqlite3_busy_timeout(((store_sqlite_t *)store)->db, 0), SQLITE_OK);
    other_does(self, "BEGIN IMMEDIATE");
    for (int i = 0; i < 200; i++)
        assert_int_equal(do_begin(store), RC_UNAVAILABLE);
    other_does(self, "ROLLBACK");
    rewind(file);
    for (int c; (c = fgetc(file)) != EOF;)
        lines += c == '\n' ? 1 : 0;
    assert_in_range(lines, 1, 1 + (svc_mono_ms() - begun) / 1000);
    convo_store_destroy(&store);
    svc_log_destroy(&log);
    fclose(file);
}

static void
damaged_pages_are_internal_and_never_rows(void **state)
{
    test_t *self = *state;
    conversation_row_t row;
    ids_t ids = {.max = 16};
    FILE *file;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    (void)sqlite3_close(self->other);
    self->other = NULL;
    convo_store_destroy(&self->store); /* the last one writes all into the file */
    file = fopen(self->folder.db, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, 4096, SEEK_SET), 0); /* the schema stays */
    for (int i = 0; i < 60000; i++)
        assert_int_equal(fputc(0xa5, file), 0xa5);
    assert_int_equal(fclose(file), 0);
    self->store = test_open(self, STORE_WRITE);
    assert_int_equal(
        self->store->api->conversation_get(self->store, 1, copy_conversation, &row),
        RC_INTERNAL);
    assert_int_equal(
        self->store->api->conversation_list(self->store, USER, 0, take_id, &ids),
        RC_INTERNAL);
    assert_int_equal(ids.n, 0);
    assert_int_equal(do_meta_put(self->store), RC_INTERNAL);
}

/* --- the file --------------------------------------------------------------------------------- */

static void
refuses_a_file_that_is_no_database_and_one_of_a_newer_release(void **state)
{
    test_t *self = *state;
    char *error = NULL;
    sqlite3 *db;
    FILE *file;

    convo_store_destroy(&self->store);
    assert_int_equal(sqlite3_open(self->folder.db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 999", NULL, NULL, NULL),
                     SQLITE_OK);
    (void)sqlite3_close(db);
    assert_null(convo_store_sqlite_open(self->folder.db, STORE_WRITE, NULL, &error));
    assert_non_null(strstr(error, "newer release"));
    free(error);
    snprintf(self->folder.db, sizeof(self->folder.db), "%s/other.db", self->folder.path);
    file = fopen(self->folder.db, "w");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        fputs("this is no database ", file);
    fclose(file);
    assert_null(convo_store_sqlite_open(self->folder.db, STORE_WRITE, NULL, &error));
    assert_non_null(strstr(error, "cannot open the database"));
    free(error);
    snprintf(self->folder.db, sizeof(self->folder.db), "%s/missing.db",
             self->folder.path);
    assert_null(convo_store_sqlite_open(self->folder.db, STORE_READ, NULL, &error));
    assert_non_null(strstr(error, "cannot open the database"));
    free(error);
}

/* --- a log without room ---------------------------------------------------------------------- */

/* Writes 50 pages or so in a transaction of its own, and what the writer's thread does after it. */
static svc_rc
write_much(const test_t *self)
{
    static char bytes[200000];
    convo_store_t *store = self->store;
    svc_rc rc = store->api->begin(store, true);

    memset(bytes, 'x', sizeof(bytes));
    if (rc == RC_OK)
        rc = store->api->meta_put(store, "much", (svc_str){bytes, sizeof(bytes)});
    if (rc == RC_OK)
        rc = store->api->commit(store);
    else
        store->api->rollback(store);
    store->api->tidy(store);
    return rc;
}

static void
limit_files(rlim_t bytes)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void
a_log_that_cannot_grow_is_copied_as_soon_as_readers_let_it(void **state)
{
    const test_t *self = *state;
    char path[128];
    struct stat before, now;
    int tries = 0;

    signal(SIGXFSZ, SIG_IGN);
    snprintf(path, sizeof(path), "%s-wal", self->folder.db);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(
        sqlite3_exec(self->other, "BEGIN; SELECT count(*) FROM meta", NULL, NULL, NULL),
        SQLITE_OK);
    do { /* what a reader looks at keeps the log from beginning anew */
        assert_int_equal(write_much(self), RC_OK);
        assert_int_equal(stat(path, &now), 0);
    } while (now.st_size == before.st_size);
    limit_files((rlim_t)now.st_size);
    assert_int_equal(sqlite3_exec(self->other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    while (write_much(self) == RC_OK)
        assert_true(++tries < 10);
    assert_int_equal(write_much(self), RC_OK);
    limit_files(RLIM_INFINITY);
}

/* As the first schema made it: a finished answer in two chunks, and one that is still waited for. Written down here
 * again, since steps of the migration must never change. */
static const char first_schema[] =
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE conversation ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id INTEGER NOT NULL UNIQUE,"
    "  user INTEGER NOT NULL,"
    "  title TEXT NOT NULL,"
    "  model TEXT NOT NULL,"
    "  sealed_key BLOB NOT NULL,"
    "  created_s INTEGER NOT NULL,"
    "  version INTEGER NOT NULL,"
    "  last_message INTEGER NOT NULL DEFAULT 0,"
    "  turns INTEGER NOT NULL DEFAULT 0,"
    "  turn_bytes INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX conversation_of_user ON conversation (user, created_s, seq);"
    "CREATE TABLE message ("
    "  conversation INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,"
    "  message_id INTEGER NOT NULL,"
    "  role INTEGER NOT NULL,"
    "  text TEXT NOT NULL,"
    "  PRIMARY KEY (conversation, message_id));"
    "CREATE TABLE answer ("
    "  stream BLOB NOT NULL PRIMARY KEY,"
    "  conversation INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,"
    "  message_id INTEGER NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  term INTEGER NOT NULL,"
    "  fence INTEGER NOT NULL,"
    "  attempt INTEGER NOT NULL,"
    "  owner INTEGER NOT NULL,"
    "  llm INTEGER NOT NULL DEFAULT 0,"
    "  length INTEGER NOT NULL DEFAULT 0,"
    "  asked_ms INTEGER NOT NULL,"
    "  question_bytes INTEGER NOT NULL,"
    "  stop_wanted INTEGER NOT NULL DEFAULT 0,"
    "  finish TEXT NOT NULL DEFAULT '',"
    "  prompt_tokens INTEGER NOT NULL DEFAULT 0,"
    "  completion_tokens INTEGER NOT NULL DEFAULT 0,"
    "  total_tokens INTEGER NOT NULL DEFAULT 0,"
    "  reason TEXT NOT NULL DEFAULT '',"
    "  text TEXT NOT NULL DEFAULT '',"
    "  retry_after_s INTEGER NOT NULL DEFAULT 0,"
    "  key TEXT,"
    "  body_hash BLOB NOT NULL,"
    "  UNIQUE (conversation, message_id));"
    "CREATE UNIQUE INDEX answer_unfinished ON answer (conversation) WHERE state < 2;"
    "CREATE UNIQUE INDEX answer_of_key ON answer (conversation, key) WHERE key IS NOT NULL;"
    "CREATE TABLE chunk ("
    "  stream BLOB NOT NULL REFERENCES answer (stream) ON DELETE CASCADE,"
    "  offset INTEGER NOT NULL,"
    "  bytes TEXT NOT NULL,"
    "  PRIMARY KEY (stream, offset));"
    "PRAGMA user_version = 1;"
    "INSERT INTO meta VALUES ('name', x'76616c7565');"
    "INSERT INTO conversation VALUES (1, 11, 5, 'first', 'echo', x'00', 70, 9, 2, 1, 12),"
    " (2, 22, 5, 'second', 'echo', x'00', 71, 4, 2, 0, 0);"
    "INSERT INTO message VALUES (11, 1, 1, 'which?'), (22, 1, 1, 'and?');"
    "INSERT INTO answer (stream, conversation, message_id, state, term, fence, attempt, owner, length, asked_ms,"
    " question_bytes, finish, body_hash) VALUES"
    " (x'01000000000000000000000000000000', 11, 2, 2, 1, 101, 1, 77, 6, 5000, 6, 'stop', x'00'),"
    " (x'02000000000000000000000000000000', 22, 2, 0, 1, 102, 1, 77, 0, 5000, 4, '', x'00');"
    "INSERT INTO chunk VALUES (x'01000000000000000000000000000000', 0, 'this '),"
    " (x'01000000000000000000000000000000', 5, '1');";

static void
brings_what_the_first_schema_held(void **state)
{
    test_t *self = *state;
    answer_row_t answer;
    ids_t ids = {.max = 5};
    svc_buf_t question;
    sqlite3 *db;

    convo_store_destroy(&self->store);
    snprintf(self->folder.db, sizeof(self->folder.db), "%s/old.db", self->folder.path);
    assert_int_equal(sqlite3_open(self->folder.db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, first_schema, NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(db);
    (void)sqlite3_close(self->other);
    self->store = test_open(self, STORE_WRITE);
    assert_int_equal(sqlite3_open(self->folder.db, &self->other), SQLITE_OK);
    assert_int_equal(
        self->store->api->conversation_list(self->store, 5, 0, take_id, &ids), RC_OK);
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.ids[0], 22);
    assert_int_equal(get_conversation(self->store, 11).version, 9);
    assert_text(self->store, 1, "this 1");
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_int_equal(answer.state, ANSWER_COMPLETE);
    assert_int_equal(get_answer(self->store, 2, &answer), RC_OK);
    assert_int_equal(answer.state, ANSWER_WAITING);
    assert_int_equal(answer.fence, 102);
    svc_buf_init(&question, 100);
    assert_int_equal(
        self->store->api->question_text(self->store, 22, 1, 0, fixture_gather, &question),
        RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&question), SVC_LIT("and?")));
    svc_buf_fini(&question);
    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_remove(self->store, 11), RC_OK);
    assert_int_equal(self->store->api->commit(self->store), RC_OK);
    assert_int_equal(count_rows(self, "chunk"), 0);
    assert_int_equal(count_rows(self, "answer"), 1);
    assert_int_equal(
        count_rows(self,
                   "sqlite_master WHERE name IN ('message_1', 'answer_1', 'chunk_1')"),
        0);
}

static void
brings_what_the_second_schema_held(void **state)
{
    test_t *self = *state;
    conversation_row_t row = {
        .id = 2, .user = USER, .model = SVC_LIT("echo"), .key = SVC_LIT("k")};
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    convo_store_destroy(&self->store);
    /* What the third step has added is taken back. */
    other_does(self,
               "DROP INDEX conversation_of_key;"
               "ALTER TABLE conversation DROP COLUMN key;"
               "ALTER TABLE conversation DROP COLUMN body_hash;"
               "ALTER TABLE answer DROP COLUMN stop_alone; PRAGMA user_version = 2");
    self->store = test_open(self, STORE_WRITE);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_false(answer.stop_alone);
    assert_int_equal(get_conversation(self->store, 1).key.n, 0);
    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_add(self->store, &row), RC_OK);
    store_commit(self->store);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_sqlite, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_lock_held_elsewhere_and_a_file_that_may_not_be_written_are_unavailable),
        TEST(a_schema_that_is_not_ours_is_internal),
        TEST(a_full_database_is_unavailable_and_loses_nothing_of_before),
        TEST(a_disk_that_goes_on_failing_does_not_fill_the_log),
        TEST(a_log_that_cannot_grow_is_copied_as_soon_as_readers_let_it),
        TEST(damaged_pages_are_internal_and_never_rows),
        TEST(brings_what_the_first_schema_held),
        TEST(brings_what_the_second_schema_held),
        TEST(refuses_a_file_that_is_no_database_and_one_of_a_newer_release),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
