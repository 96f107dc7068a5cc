/* test_wal_vfs.c - what is committed through the gathered log is there for everybody, and after a crash.
 *
 * Others look by the default VFS: at the file itself, or at a copy as a crash would leave it. */
#include "convo_fixture.h"

#include "convo-svc/wal_vfs.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define BIG_BYTES 1000000 /* several pieces of the gathered log */

typedef struct {
    folder_t folder;
    sqlite3 *db; /* through the VFS */
} test_t;

static void
do_sql(sqlite3 *db, const char *sql)
{
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    folder_open(&self->folder);
    assert_int_equal(sqlite3_open_v2(self->folder.db, &self->db,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                     wal_vfs_name()),
                     SQLITE_OK);
    do_sql(self->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                     "CREATE TABLE t (x BLOB)");
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    assert_int_equal(sqlite3_close(self->db), SQLITE_OK);
    folder_close(&self->folder);
    free(self);
    return 0;
}

/* The only number of a query, asked by the default VFS of the file at `path`. */
static int64_t
ask_other(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    int64_t n;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return n;
}

/* Takes the files as a crash would leave them. */
static void
copy_files(const test_t *self, char copy[128])
{
    char command[512];

    snprintf(copy, 128, "%s/copy.db", self->folder.path);
    snprintf(command, sizeof(command), "cp %s %s && cp %s-wal %s-wal", self->folder.db,
             copy, self->folder.db, copy);
    assert_int_equal(system(command), 0);
}

static void
a_commit_is_there_for_others_and_after_a_crash(void **state)
{
    test_t *self = *state;
    char copy[128];

    for (int i = 1; i <= 20; i++) {
        do_sql(self->db, "INSERT INTO t VALUES (randomblob(3000))");
        assert_int_equal(ask_other(self->folder.db, "SELECT count(*) FROM t"), i);
    }
    copy_files(self, copy);
    assert_int_equal(ask_other(copy, "SELECT count(*) FROM t"), 20);
    assert_int_equal(ask_other(copy, "SELECT count(*) FROM pragma_integrity_check"
                                     " WHERE integrity_check <> 'ok'"),
                     0);
}

static void
what_is_not_committed_is_nowhere(void **state)
{
    test_t *self = *state;
    char copy[128];

    /* A small cache: SQLite puts pages in the log before the commit, and reads them back. */
    do_sql(self->db, "PRAGMA cache_size = 10; BEGIN");
    for (int i = 0; i < 50; i++)
        do_sql(self->db, "INSERT INTO t VALUES (randomblob(30000))");
    do_sql(self->db, "UPDATE t SET x = x || x WHERE rowid % 2 = 0");
    copy_files(self, copy);
    assert_int_equal(ask_other(self->folder.db, "SELECT count(*) FROM t"), 0);
    assert_int_equal(ask_other(copy, "SELECT count(*) FROM t"), 0);
    do_sql(self->db, "ROLLBACK; INSERT INTO t VALUES ('one')");
    assert_int_equal(ask_other(self->folder.db, "SELECT count(*) FROM t"), 1);
}

static void
a_commit_larger_than_what_is_gathered_is_whole(void **state)
{
    test_t *self = *state;
    char copy[128];

    do_sql(self->db, "PRAGMA cache_size = 10; BEGIN");
    do_sql(self->db, "INSERT INTO t VALUES (randomblob(1000000))");
    do_sql(self->db, "UPDATE t SET x = x || 'end'; COMMIT");
    copy_files(self, copy);
    assert_int_equal(ask_other(copy, "SELECT length(CAST(x AS BLOB)) FROM t"),
                     BIG_BYTES + 3);
    assert_int_equal(ask_other(self->folder.db, "SELECT length(CAST(x AS BLOB)) FROM t"),
                     BIG_BYTES + 3);
}

static void
the_log_has_its_full_length_from_the_start(void **state)
{
    test_t *self = *state;
    char path[128];
    struct stat before, after;

    snprintf(path, sizeof(path), "%s-wal", self->folder.db);
    assert_int_equal(stat(path, &before), 0);
    assert_true(before.st_size >= WAL_VFS_PAGES * 4096);
    for (int i = 0; i < 100; i++)
        do_sql(self->db, "INSERT INTO t VALUES (randomblob(3000))");
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
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
a_write_that_fails_fails_the_commit_and_the_next_one_works(void **state)
{
    test_t *self = *state;

    signal(SIGXFSZ, SIG_IGN);
    do_sql(self->db, "INSERT INTO t VALUES ('kept')");
    limit_files(100000);
    assert_int_not_equal(sqlite3_exec(self->db, "INSERT INTO t VALUES (zeroblob(200000))",
                                      NULL, NULL, NULL),
                         SQLITE_OK);
    assert_true(sqlite3_get_autocommit(self->db));
    limit_files(RLIM_INFINITY);
    assert_int_equal(ask_other(self->folder.db, "SELECT count(*) FROM t"), 1);
    do_sql(self->db, "INSERT INTO t VALUES (zeroblob(200000))");
    assert_int_equal(ask_other(self->folder.db, "SELECT sum(length(x)) FROM t"), 200004);
}

static void
a_disk_without_room_for_the_full_log_is_no_error(void **state)
{
    test_t *self = *state;
    char path[128];
    sqlite3 *db = NULL;

    signal(SIGXFSZ, SIG_IGN);
    snprintf(path, sizeof(path), "%s/small.db", self->folder.path);
    limit_files(300000);
    assert_int_equal(sqlite3_open_v2(path, &db,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                     wal_vfs_name()),
                     SQLITE_OK);
    do_sql(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (x);"
               "INSERT INTO t VALUES (1)");
    limit_files(RLIM_INFINITY);
    assert_int_equal(ask_other(path, "SELECT count(*) FROM t"), 1);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_commit_is_there_for_others_and_after_a_crash),
        TEST(what_is_not_committed_is_nowhere),
        TEST(a_commit_larger_than_what_is_gathered_is_whole),
        TEST(the_log_has_its_full_length_from_the_start),
        TEST(a_write_that_fails_fails_the_commit_and_the_next_one_works),
        TEST(a_disk_without_room_for_the_full_log_is_no_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
