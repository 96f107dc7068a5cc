/* test_convo_writer_late.c - jobs that come too late: another replica may have been asked the same, or nobody waits any more.
 *
 * Late is who has its locks when its time is over, by our clock or by the database's. What is late changes nothing, and what is in
 * the same batch is done all the same. Without a server (LLMB_TEST_POSTGRESQL) what needs one is left out. */
#include "workers_fixture.h"

#include "svc/svc_time.h"

#include <sqlite3.h>

#define KEY     SVC_LIT("a key of the client, hashed ....")
#define HOUR_MS 3600000
#define LOCK_MS 600 /* less than a writer waits for a lock before it begins anew */

/* Submits a job that is good until then. */
static void
submit_until(test_t *self, svc_pool_t *pool, uint32_t kind, const proto_schema_t *schema,
             const void *job, svc_until_t until, uint64_t tag)
{
    svc_buf_t body;

    svc_buf_init(&body, PROTO_MESSAGE_MAX_BYTES);
    assert_int_equal(proto_encode(schema, job, &body), RC_OK);
    assert_int_equal(
        svc_pool_submit_until(pool, kind, svc_buf_str(&body), until, on_done, self, tag),
        RC_OK);
    svc_buf_fini(&body);
}

static svc_rc
run_until(test_t *self, svc_pool_t *pool, uint32_t kind, const proto_schema_t *schema,
          const void *job, svc_until_t until)
{
    forget_results(self);
    submit_until(self, pool, kind, schema, job, until, 0);
    wait_for(self, 1);
    return self->results[0].rc;
}

/* A job of each kind about one conversation. */
typedef struct {
    char room[2][PROTO_STREAM_BYTES];
    create_req_t create;
    conversation_req_t conversation;
    ask_req_t ask;
    retry_req_t retry;
    watch_req_t stop;
} all_t;

static void
fill(all_t *out, uint64_t id)
{
    out->create = (create_req_t){
        .user = USER, .title = SVC_LIT("t"), .model = SVC_LIT("echo"), .key = KEY};
    out->conversation = (conversation_req_t){USER, id};
    out->ask = (ask_req_t){.user = USER,
                           .conversation = id,
                           .text = SVC_LIT("late"),
                           .stream = stream_of(out->room[0], 50)};
    out->retry = (retry_req_t){
        .user = USER, .conversation = id, .stream = stream_of(out->room[1], 51)};
    out->stop = (watch_req_t){.user = USER, .conversation = id};
}

static head_job_t
head_of(test_t *self, uint64_t id)
{
    history_req_t req = {.user = USER, .conversation = id};
    head_job_t head;

    assert_int_equal(run(self, self->reader, READ_HEAD, &history_req_schema, &req,
                         &head_job_schema, &head),
                     RC_OK);
    return head;
}

static size_t
count_conversations(test_t *self)
{
    list_req_t list = {.user = USER};
    list_rep_t rep;
    size_t n = 0;

    assert_int_equal(run(self, self->reader, READ_LIST, &list_req_schema, &list,
                         &list_rep_schema, &rep),
                     RC_OK);
    for (const char *p = rep.json.p;
         (p = memmem(p, (size_t)(rep.json.p + rep.json.n - p), "_id", 3)) != NULL; p++)
        n++;
    return n;
}

/* Each kind with this time through this writer is refused, and nothing has changed. */
static void
assert_all_are_late(test_t *self, svc_pool_t *writer, svc_until_t until)
{
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    watch_req_t watch = {USER, id, stream_of(room, (unsigned)id)};
    answer_row_t row;
    head_job_t before;
    size_t n;
    all_t all;

    fill(&all, id);
    assert_int_equal(ask(self, USER, id, (unsigned)id, "hello", &row), RC_OK);
    assert_int_equal(
        run_until(self, writer, WRITE_STOP, &watch_req_schema, &all.stop, until),
        RC_MOVED);
    assert_int_equal(run(self, self->reader, READ_STATUS, &watch_req_schema, &watch,
                         &answer_row_schema, &row),
                     RC_OK);
    assert_false(row.stop_wanted);
    row.stream = watch.stream;
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "hi", ANSWER_COMPLETE), RC_OK);
    before = head_of(self, id);
    n = count_conversations(self);
    assert_int_equal(run_until(self, writer, WRITE_ASK, &ask_req_schema, &all.ask, until),
                     RC_MOVED);
    assert_int_equal(
        run_until(self, writer, WRITE_RETRY, &retry_req_schema, &all.retry, until),
        RC_MOVED);
    assert_int_equal(run_until(self, writer, WRITE_DELETE, &conversation_req_schema,
                               &all.conversation, until),
                     RC_MOVED);
    assert_int_equal(
        run_until(self, writer, WRITE_CREATE, &create_req_schema, &all.create, until),
        RC_MOVED);
    assert_int_equal(head_of(self, id).version, before.version);
    assert_false(head_of(self, id).answering);
    assert_int_equal(count_conversations(self), n);
    assert_int_equal(run(self, self->reader, READ_STATUS, &watch_req_schema, &watch,
                         &answer_row_schema, &row),
                     RC_OK);
    assert_int_equal(row.state, ANSWER_COMPLETE);
}

static void
what_another_replica_may_have_done_meanwhile_is_not_done(void **state)
{
    test_t *self = *state;

    assert_all_are_late(self, self->writer,
                        (svc_until_t){svc_unix_ms(), svc_unix_ms() + HOUR_MS});
    assert_int_equal(fixture_count(&self->fixture, SVC_M_EXPIRED), 5);
}

static void
what_nobody_waits_for_any_more_is_not_done(void **state)
{
    test_t *self = *state;

    assert_all_are_late(self, self->writer, (svc_until_t){.expires_ms = svc_unix_ms()});
}

static void
what_is_in_time_is_done(void **state)
{
    test_t *self = *state;
    const svc_until_t until = {svc_unix_ms() + HOUR_MS, svc_unix_ms() + HOUR_MS};
    uint64_t id = create(self, "");
    answer_row_t row = {.term = 1};
    all_t all;

    fill(&all, id);
    assert_int_equal(run_until(self, self->writer, WRITE_CREATE, &create_req_schema,
                               &all.create, until),
                     RC_OK);
    assert_int_equal(
        run_until(self, self->writer, WRITE_ASK, &ask_req_schema, &all.ask, until),
        RC_OK);
    assert_int_equal(
        proto_decode(&answer_row_schema, self->results[0].body, self->arena, &row),
        RC_OK);
    row.stream = all.ask.stream;
    assert_int_equal(
        run_until(self, self->writer, WRITE_STOP, &watch_req_schema, &all.stop, until),
        RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "hi", ANSWER_STOPPED), RC_OK);
    assert_int_equal(
        run_until(self, self->writer, WRITE_RETRY, &retry_req_schema, &all.retry, until),
        RC_OK);
    assert_int_equal(run_until(self, self->writer, WRITE_DELETE, &conversation_req_schema,
                               &all.conversation, until),
                     RC_OK);
    assert_int_equal(fixture_count(&self->fixture, SVC_M_EXPIRED), 0);
}

/* --- in a batch ------------------------------------------------------------------------------- */

/* Of many at once every third one is late, by either clock. */
static void
assert_only_the_late_are_refused(test_t *self, svc_pool_t *writer, svc_until_t late)
{
    create_req_t req = {.user = USER, .title = SVC_LIT("t"), .model = SVC_LIT("echo")};
    uint64_t ids[20];
    char room[PROTO_STREAM_BYTES];

    for (size_t i = 0; i < SVC_COUNT(ids); i++)
        ids[i] = create(self, "");
    forget_results(self);
    for (size_t i = 0; i < SVC_COUNT(ids); i++) {
        const svc_until_t until = i % 3 == 0 ? late
                                             : (svc_until_t){.expires_ms = svc_unix_ms() +
                                                                           HOUR_MS};
        ask_req_t ask = {.user = USER,
                         .conversation = ids[i],
                         .text = SVC_LIT("me"),
                         .stream = stream_of(room, 1000 + (unsigned)i)};

        submit_until(self, writer, WRITE_ASK, &ask_req_schema, &ask, until, 2 * i);
        submit_until(self, writer, WRITE_CREATE, &create_req_schema, &req, until,
                     2 * i + 1);
    }
    wait_for(self, 2 * SVC_COUNT(ids));
    for (size_t i = 0; i < 2 * SVC_COUNT(ids); i++)
        assert_int_equal(self->results[i].rc, i / 2 % 3 == 0 ? RC_MOVED : RC_OK);
    assert_int_equal(count_conversations(self), 20 + 2 * 7 - 1);
    for (size_t i = 0; i < SVC_COUNT(ids); i++)
        assert_int_equal(head_of(self, ids[i]).answering, i % 3 != 0);
}

static void
of_a_batch_only_the_late_are_refused(void **state)
{
    test_t *self = *state;

    assert_only_the_late_are_refused(self, self->writer,
                                     (svc_until_t){.moved_ms = svc_unix_ms()});
}

/* --- time that runs out on the way to a lock -------------------------------------------------- */

static bool
is_over(void *arg)
{
    return svc_unix_ms() >= *(const uint64_t *)arg;
}

/* Somebody else holds what the job needs until its time is over. */
static void
who_waits_for_the_row_too_long_is_late(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, ""), moved_ms = svc_unix_ms() + LOCK_MS;
    bool is_file = self->folder.workers.place.driver == SVC_STORAGE_SQLITE;
    char sql[100];
    sqlite3 *db = NULL;
    all_t all;

    fill(&all, id);
    if (is_file) {
        assert_int_equal(sqlite3_open(self->folder.db, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                         SQLITE_OK);
    } else {
        snprintf(sql, sizeof(sql),
                 "BEGIN; SELECT 1 FROM conversation WHERE id = %llu FOR UPDATE",
                 (unsigned long long)id);
        pg_fixture_does(&self->db, sql);
    }
    forget_results(self);
    submit_until(self, self->writer, WRITE_ASK, &ask_req_schema, &all.ask,
                 (svc_until_t){.moved_ms = moved_ms}, 0);
    fixture_run_until(&self->fixture, is_over, &moved_ms);
    if (is_file)
        assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    else
        pg_fixture_does(&self->db, "COMMIT");
    wait_for(self, 1);
    assert_int_equal(self->results[0].rc, RC_MOVED);
    assert_false(head_of(self, id).answering);
    (void)sqlite3_close(db);
}

/* The entry of a request key is such a lock, too. */
static void
who_waits_for_the_key_too_long_is_late(void **state)
{
    test_t *self = *state;
    uint64_t moved_ms = svc_unix_ms() + LOCK_MS;
    all_t all;

    fill(&all, 1);
    pg_fixture_does(
        &self->db,
        "BEGIN; INSERT INTO conversation (id, user_id, title, model, sealed_key,"
        " created_s, version, key, body_hash) VALUES (1, 7, '', '', '', 1, 1,"
        " 'a key of the client, hashed ....', '')");
    forget_results(self);
    submit_until(self, self->writer, WRITE_CREATE, &create_req_schema, &all.create,
                 (svc_until_t){.moved_ms = moved_ms}, 0);
    fixture_run_until(&self->fixture, is_over, &moved_ms);
    pg_fixture_does(&self->db, "ROLLBACK");
    wait_for(self, 1);
    assert_int_equal(self->results[0].rc, RC_MOVED);
    assert_int_equal(count_conversations(self), 0);
}

/* --- a clock of ours that stood still --------------------------------------------------------- */

/* Opens another writer, for which the database's clock is an hour ahead: as after an hour's pause of a machine whose clock stood
 * still with it. */
static void
open_paused(test_t *self, char url[PG_URL_BYTES + 20])
{
    const char *usual = self->folder.workers.place.url;

    pg_fixture_does(
        &self->db,
        "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql"
        " VOLATILE AS 'SELECT pg_catalog.clock_timestamp() + interval ''1h'''");
    snprintf(url, PG_URL_BYTES + 20, "%s%%2Cpg_catalog", usual);
    self->folder.workers.place.url = url;
    open_other(self);
    self->folder.workers.place.url = usual;
}

static void
the_clock_of_the_database_counts_when_ours_stood_still(void **state)
{
    test_t *self = *state;
    char url[PG_URL_BYTES + 20];

    open_paused(self, url);
    assert_all_are_late(self, self->other,
                        (svc_until_t){.moved_ms = svc_unix_ms() + HOUR_MS / 2});
}

static void
of_a_batch_only_those_are_refused_that_are_late_by_the_database(void **state)
{
    test_t *self = *state;
    char url[PG_URL_BYTES + 20];

    open_paused(self, url);
    assert_only_the_late_are_refused(
        self, self->other, (svc_until_t){.moved_ms = svc_unix_ms() + HOUR_MS / 2});
}

int
main(void)
{
#define SQLITE(f)     cmocka_unit_test_setup_teardown(f, setup, teardown)
#define POSTGRESQL(f) cmocka_unit_test_setup_teardown(f, setup_postgresql, teardown)
    const struct CMUnitTest file[] = {
        SQLITE(what_another_replica_may_have_done_meanwhile_is_not_done),
        SQLITE(what_nobody_waits_for_any_more_is_not_done),
        SQLITE(what_is_in_time_is_done),
        SQLITE(of_a_batch_only_the_late_are_refused),
        SQLITE(who_waits_for_the_row_too_long_is_late),
    };
    const struct CMUnitTest server[] = {
        POSTGRESQL(what_another_replica_may_have_done_meanwhile_is_not_done),
        POSTGRESQL(what_nobody_waits_for_any_more_is_not_done),
        POSTGRESQL(what_is_in_time_is_done),
        POSTGRESQL(of_a_batch_only_the_late_are_refused),
        POSTGRESQL(who_waits_for_the_row_too_long_is_late),
        POSTGRESQL(who_waits_for_the_key_too_long_is_late),
        POSTGRESQL(the_clock_of_the_database_counts_when_ours_stood_still),
        POSTGRESQL(of_a_batch_only_those_are_refused_that_are_late_by_the_database),
    };
    int failed = cmocka_run_group_tests(file, NULL, NULL);

    if (pg_fixture_is_there())
        failed += cmocka_run_group_tests(server, NULL, NULL);
    return failed;
}
