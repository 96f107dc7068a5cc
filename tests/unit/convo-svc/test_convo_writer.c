/* test_convo_writer.c - jobs in a real pool: group commit, refusals that undo one job only, a disk that fails.
 *
 * The readers are here, too: what was committed is what they tell. */
#include "convo_fixture.h"

#include "convo-svc/convo_reader.h"
#include "convo-svc/convo_writer.h"

#include <signal.h>
#include <sys/resource.h>

#define RESULTS_MAX 512

typedef struct {
    svc_rc rc;
    svc_str body; /* owned copy */
} result_t;

typedef struct {
    fixture_t fixture; /* first */
    folder_t folder;
    svc_pool_t *writer, *reader;
    proto_arena_t *arena;
    result_t results[RESULTS_MAX]; /* by tag */
    size_t n_done, wanted;
} test_t;

static svc_pool_t *
open_pool(test_t *self, bool write, char **error)
{
    svc_pool_config_t config = {
        .name = write ? "writer" : "reader",
        .threads = write ? 1 : 2,
        .max_queued = 1024,
        .max_batch = write ? CONVO_WRITER_BATCH : 1,
        .open = write ? convo_writer_open : convo_reader_open,
        .work = write ? convo_writer_work : convo_reader_work,
        .close = write ? convo_writer_close : convo_reader_close,
    };

    return svc_pool_new(&self->fixture.ctx, &config, &self->folder.workers, error);
}

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));
    char *error = NULL;

    fixture_open(&self->fixture, "convo-svc");
    folder_open(&self->folder);
    self->folder.workers.metrics = self->fixture.ctx.metrics;
    self->arena = proto_arena_new();
    self->writer = open_pool(self, true, &error);
    assert_non_null(self->writer);
    self->reader = open_pool(self, false, &error);
    assert_non_null(self->reader);
    *state = self;
    return 0;
}

static void
forget_results(test_t *self)
{
    for (size_t i = 0; i < RESULTS_MAX; i++)
        free((char *)(uintptr_t)self->results[i].body.p);
    memset(self->results, 0, sizeof(self->results));
    self->n_done = 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    svc_pool_destroy(&self->reader);
    svc_pool_destroy(&self->writer);
    forget_results(self);
    proto_arena_destroy(&self->arena);
    folder_close(&self->folder);
    fixture_close(&self->fixture);
    free(self);
    return 0;
}

static void
on_done(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    test_t *self = arg;

    self->results[tag].rc = rc;
    self->results[tag].body = (svc_str){svc_str_dup(result), result.n};
    self->n_done++;
}

static bool
all_done(void *arg)
{
    const test_t *self = arg;

    return self->n_done >= self->wanted;
}

static void
submit(test_t *self, svc_pool_t *pool, uint32_t kind, const proto_schema_t *schema,
       const void *job, uint64_t tag)
{
    svc_buf_t body;

    svc_buf_init(&body, PROTO_MESSAGE_MAX_BYTES);
    assert_int_equal(proto_encode(schema, job, &body), RC_OK);
    assert_int_equal(svc_pool_submit(pool, kind, svc_buf_str(&body), on_done, self, tag),
                     RC_OK);
    svc_buf_fini(&body);
}

static void
wait_for(test_t *self, size_t n)
{
    self->wanted = n;
    fixture_run_until(&self->fixture, all_done, self);
}

/* Does one job; a result that is RC_OK is decoded into `out` (NULL: it is not wanted). */
static svc_rc
run(test_t *self, svc_pool_t *pool, uint32_t kind, const proto_schema_t *schema,
    const void *job, const proto_schema_t *rep, void *out)
{
    forget_results(self);
    submit(self, pool, kind, schema, job, 0);
    wait_for(self, 1);
    if (self->results[0].rc == RC_OK && out != NULL)
        assert_int_equal(proto_decode(rep, self->results[0].body, self->arena, out),
                         RC_OK);
    return self->results[0].rc;
}

static uint64_t
create(test_t *self, const char *key)
{
    create_req_t req = {.user = USER,
                        .title = SVC_LIT("t"),
                        .model = SVC_LIT("echo"),
                        .api_key = svc_str_c(key)};
    create_rep_t rep;

    assert_int_equal(run(self, self->writer, WRITE_CREATE, &create_req_schema, &req,
                         &create_rep_schema, &rep),
                     RC_OK);
    return rep.conversation;
}

static svc_rc
ask(test_t *self, uint64_t user, uint64_t conversation, unsigned stream, const char *text,
    answer_row_t *out)
{
    char room[PROTO_STREAM_BYTES];
    ask_req_t req = {user, conversation, svc_str_c(text), stream_of(room, stream)};

    return run(self, self->writer, WRITE_ASK, &ask_req_schema, &req, &answer_row_schema,
               out);
}

static svc_rc
step(test_t *self, const answer_row_t *row, int state, uint64_t length, const char *text,
     int next)
{
    char room[PROTO_STREAM_BYTES];
    answer_step_t job = {.term = row->term,
                         .fence = row->fence,
                         .state = state,
                         .length = length,
                         .bytes = svc_str_c(text),
                         .next_state = next};

    memcpy(room, row->stream.p, sizeof(room));
    job.stream = (svc_str){room, sizeof(room)};
    return run(self, self->writer, WRITE_STEP, &answer_step_schema, &job, NULL, NULL);
}

/* --- what the jobs do ------------------------------------------------------------------------- */

static void
creates_conversations_with_ids_that_javascript_holds(void **state)
{
    test_t *self = *state;
    uint64_t first = create(self, ""), second = create(self, "");

    assert_true(first >= 1 && first <= PROTO_ID_MAX);
    assert_int_not_equal(first, second);
}

static void
seals_the_api_key_at_rest(void **state)
{
    test_t *self = *state;
    char command[256];

    (void)create(self, "sk-very-secret");
    snprintf(command, sizeof(command), "grep -q sk-very-secret %s/*", self->folder.path);
    assert_int_not_equal(system(command), 0);
}

static void
asks_once_and_joins_the_second_time(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    answer_row_t row, again;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_true(row.fresh);
    assert_int_equal(row.message, 2);
    assert_int_equal(row.state, ANSWER_WAITING);
    assert_int_equal(row.attempt, 1);
    assert_int_equal(row.fence >> 48, 1);
    assert_int_equal(row.owner, 77);
    assert_int_equal(ask(self, USER, id, 1, "hello", &again), RC_OK);
    assert_false(again.fresh);
    assert_int_equal(again.message, 2);
    assert_int_equal(again.fence, row.fence);
    assert_int_equal(ask(self, USER, id, 1, "other words", NULL), RC_CONFLICT);
    assert_int_equal(ask(self, STRANGER, id, 1, "hello", NULL), RC_CONFLICT);
    assert_int_equal(ask(self, USER, create(self, ""), 1, "hello", NULL), RC_CONFLICT);
}

static void
refuses_a_question_while_the_previous_one_is_answered(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    answer_row_t row;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(ask(self, USER, id, 2, "and?", NULL), RC_ANSWERING);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "hi", ANSWER_COMPLETE), RC_OK);
    assert_int_equal(ask(self, USER, id, 2, "and?", &row), RC_OK);
    assert_int_equal(row.message, 4);
}

static void
another_users_conversation_does_not_exist(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    conversation_req_t req = {STRANGER, id};
    answer_row_t row;

    assert_int_equal(ask(self, STRANGER, id, 1, "hello", NULL), RC_NOT_FOUND);
    assert_int_equal(ask(self, USER, id ^ 1, 1, "hello", NULL), RC_NOT_FOUND);
    assert_int_equal(
        run(self, self->writer, WRITE_DELETE, &conversation_req_schema, &req, NULL, NULL),
        RC_NOT_FOUND);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(
        run(self, self->writer, WRITE_STOP, &conversation_req_schema, &req, NULL, NULL),
        RC_NOT_FOUND);
}

static void
stops_once_and_tells_the_latest_answer_ever_after(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    conversation_req_t req = {USER, id};
    answer_row_t row, stopped;

    assert_int_equal(
        run(self, self->writer, WRITE_STOP, &conversation_req_schema, &req, NULL, NULL),
        RC_NOT_FOUND);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(self, self->writer, WRITE_STOP, &conversation_req_schema,
                             &req, &answer_row_schema, &stopped),
                         RC_OK);
        assert_true(stopped.stop_wanted);
        assert_int_equal(stopped.state, ANSWER_WAITING);
    }
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "", ANSWER_STOPPED), RC_OK);
    assert_int_equal(run(self, self->writer, WRITE_STOP, &conversation_req_schema, &req,
                         &answer_row_schema, &stopped),
                     RC_OK);
    assert_int_equal(stopped.state, ANSWER_STOPPED);
}

static void
deletes_everything_and_a_step_after_it_is_stale(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    conversation_req_t req = {USER, id};
    answer_row_t row;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    submit(self, self->writer, WRITE_DELETE, &conversation_req_schema, &req, 1);
    wait_for(self, 2);
    assert_int_equal(self->results[1].rc, RC_OK);
    memcpy(&id, self->results[1].body.p, sizeof(id));
    assert_int_equal(id, req.conversation);
    row.stream = SVC_LIT("\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "x", ANSWER_STREAMING),
                     RC_STALE);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "x", ANSWER_COMPLETE), RC_STALE);
    assert_int_equal(
        run(self, self->writer, WRITE_DELETE, &conversation_req_schema, &req, NULL, NULL),
        RC_NOT_FOUND);
}

static void
refuses_a_question_whose_prompt_would_be_too_big_without_a_trace(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char *text = svc_alloc(PROTO_QUESTION_MAX_BYTES + 1);
    answer_row_t row;
    unsigned i;

    memset(text, 'x', PROTO_QUESTION_MAX_BYTES);
    for (i = 1; i <= 3; i++) {
        assert_int_equal(ask(self, USER, id, i, text, &row), RC_OK);
        assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
                         RC_OK);
    }
    assert_int_equal(ask(self, USER, id, i, text, NULL), RC_TOO_BIG);
    assert_int_equal(ask(self, USER, id, i, "short", &row), RC_OK);
    assert_int_equal(row.message, 8);
    free(text);
}

static void
a_payload_that_cannot_be_read_and_an_unknown_kind_are_refused_alone(void **state)
{
    test_t *self = *state;

    assert_int_equal(
        svc_pool_submit(self->writer, WRITE_ASK, SVC_LIT("rubbish"), on_done, self, 0),
        RC_OK);
    assert_int_equal(svc_pool_submit(self->writer, 99, SVC_LIT(""), on_done, self, 1),
                     RC_OK);
    assert_int_equal(svc_pool_submit(self->reader, 99, SVC_LIT(""), on_done, self, 2),
                     RC_OK);
    assert_int_equal(
        svc_pool_submit(self->reader, READ_LIST, SVC_LIT("x"), on_done, self, 3), RC_OK);
    wait_for(self, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(self->results[i].rc, RC_INVALID);
}

/* --- group commit ----------------------------------------------------------------------------- */

static void
many_jobs_become_few_commits(void **state)
{
    test_t *self = *state;
    create_req_t good = {.user = USER, .title = SVC_LIT("t"), .model = SVC_LIT("echo")};
    conversation_req_t bad = {USER, 12345};

    for (uint64_t i = 0; i < 400; i++) {
        if (i % 4 == 3)
            submit(self, self->writer, WRITE_DELETE, &conversation_req_schema, &bad, i);
        else
            submit(self, self->writer, WRITE_CREATE, &create_req_schema, &good, i);
    }
    wait_for(self, 400);
    for (uint64_t i = 0; i < 400; i++)
        assert_int_equal(self->results[i].rc, i % 4 == 3 ? RC_NOT_FOUND : RC_OK);
    assert_int_equal(fixture_count(&self->fixture, SVC_M_COMMITTED_JOBS), 400);
    assert_true(fixture_count(&self->fixture, SVC_M_COMMITS) <= 10);
}

static void
of_many_questions_at_once_one_wins(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    int won = 0;

    forget_results(self);
    for (unsigned i = 0; i < 100; i++) {
        ask_req_t req = {USER, id, SVC_LIT("me"), stream_of(room, i)};

        submit(self, self->writer, WRITE_ASK, &ask_req_schema, &req, i);
    }
    wait_for(self, 100);
    for (size_t i = 0; i < 100; i++) {
        won += self->results[i].rc == RC_OK ? 1 : 0;
        assert_true(self->results[i].rc == RC_OK || self->results[i].rc == RC_ANSWERING);
    }
    assert_int_equal(won, 1);
}

/* --- a disk that fails ------------------------------------------------------------------------ */

static void
limit_files(rlim_t bytes)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void
a_full_disk_refuses_what_is_new_and_loses_nothing_old(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char *text = svc_alloc(100001);
    answer_row_t row;
    list_req_t list = {.user = USER};
    list_rep_t rep;

    memset(text, 'x', 100000);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(150000);
    assert_int_equal(ask(self, USER, id, 1, "short enough", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "kept", ANSWER_COMPLETE), RC_OK);
    assert_int_equal(ask(self, USER, id, 2, text, NULL), RC_UNAVAILABLE);
    assert_int_equal(ask(self, USER, id, 3, text, NULL), RC_UNAVAILABLE);
    assert_int_equal(run(self, self->reader, READ_LIST, &list_req_schema, &list,
                         &list_rep_schema, &rep),
                     RC_OK);
    assert_int_equal(rep.next, 0);
    assert_true(rep.json.n > 10);
    limit_files(RLIM_INFINITY);
    assert_int_equal(ask(self, USER, id, 2, text, &row), RC_OK);
    assert_int_equal(row.message, 4);
    free(text);
}

static void
a_failed_batch_fails_all_of_its_jobs(void **state)
{
    test_t *self = *state;
    create_req_t small = {.user = USER, .title = SVC_LIT("t"), .model = SVC_LIT("echo")};
    uint64_t id = create(self, "");
    char *text = svc_alloc(200001);
    char room[PROTO_STREAM_BYTES];
    ask_req_t big = {USER, id, {text, 200000}, stream_of(room, 1)};
    list_req_t list = {.user = USER};
    list_rep_t rep;
    size_t failed = 0;

    memset(text, 'x', 200000);
    forget_results(self);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(150000);
    for (uint64_t i = 0; i < 60; i++) {
        submit(self, self->writer, WRITE_CREATE, &create_req_schema, &small, 2 * i);
        if (i % 10 == 9)
            submit(self, self->writer, WRITE_ASK, &ask_req_schema, &big, 2 * i + 1);
    }
    wait_for(self, 66);
    limit_files(RLIM_INFINITY);
    for (uint64_t i = 0; i < 120; i++)
        failed += self->results[i].rc == RC_UNAVAILABLE ? 1 : 0;
    assert_true(failed >= 6);
    /* As many conversations are there as were acknowledged, and the first one. */
    assert_int_equal(run(self, self->reader, READ_LIST, &list_req_schema, &list,
                         &list_rep_schema, &rep),
                     RC_OK);
    for (const char *p = rep.json.p;
         (p = memmem(p, (size_t)(rep.json.p + rep.json.n - p), "_id", 3)) != NULL; p++)
        failed++;
    assert_int_equal(failed, 67);
    free(text);
}

static void
refuses_to_open_with_another_key(void **state)
{
    test_t *self = *state;
    static const uint8_t other[SVC_SECRET_BYTES] = "another key";
    convo_workers_t right = self->folder.workers;
    seal_t seal;
    char *error = NULL;

    seal_init(&seal, other);
    svc_pool_destroy(&self->writer);
    svc_pool_destroy(&self->reader);
    self->folder.workers.seal = &seal;
    assert_null(open_pool(self, true, &error));
    assert_non_null(strstr(error, "convo.seal_key"));
    free(error);
    self->folder.workers = right;
    self->writer = open_pool(self, true, &error);
    assert_non_null(self->writer);
}

/* --- readers ---------------------------------------------------------------------------------- */

static void
readers_tell_head_status_text_and_history(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    history_req_t history = {.user = USER, .conversation = id};
    watch_req_t watch = {.user = USER, .conversation = id};
    read_req_t read = {USER, stream_of(room, 1), 2};
    head_job_t head;
    history_job_t page;
    read_rep_t text;
    answer_row_t row;

    assert_int_equal(
        run(self, self->reader, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
        RC_NOT_FOUND);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(run(self, self->reader, READ_HEAD, &history_req_schema, &history,
                         &head_job_schema, &head),
                     RC_OK);
    assert_true(head.answering);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "h\xc3\xa9y", ANSWER_COMPLETE),
                     RC_OK);
    assert_int_equal(run(self, self->reader, READ_HEAD, &history_req_schema, &history,
                         &head_job_schema, &head),
                     RC_OK);
    assert_false(head.answering);
    assert_int_equal(run(self, self->reader, READ_HISTORY, &history_req_schema, &history,
                         &history_job_schema, &page),
                     RC_OK);
    assert_true(page.whole);
    assert_int_equal(page.version, head.version);
    watch.stream = stream_of(room, 1);
    assert_int_equal(run(self, self->reader, READ_STATUS, &watch_req_schema, &watch,
                         &answer_row_schema, &row),
                     RC_OK);
    assert_int_equal(row.state, ANSWER_COMPLETE);
    watch.stream = (svc_str){NULL, 0};
    assert_int_equal(run(self, self->reader, READ_STATUS, &watch_req_schema, &watch,
                         &answer_row_schema, &row),
                     RC_OK);
    assert_int_equal(row.length, 4);
    assert_int_equal(run(self, self->reader, READ_TEXT, &read_req_schema, &read,
                         &read_rep_schema, &text),
                     RC_OK);
    assert_true(svc_str_eq(text.bytes, SVC_LIT("\xa9y")));
    assert_int_equal(text.state, ANSWER_COMPLETE);
    read.from = 100;
    assert_int_equal(run(self, self->reader, READ_TEXT, &read_req_schema, &read,
                         &read_rep_schema, &text),
                     RC_OK);
    assert_int_equal(text.bytes.n, 0);
}

static void
readers_tell_strangers_nothing(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    history_req_t history = {.user = STRANGER, .conversation = id};
    watch_req_t watch = {STRANGER, id, stream_of(room, 1)};
    read_req_t read = {STRANGER, stream_of(room, 1), 0};
    answer_row_t row;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(
        run(self, self->reader, READ_HEAD, &history_req_schema, &history, NULL, NULL),
        RC_NOT_FOUND);
    assert_int_equal(
        run(self, self->reader, READ_HISTORY, &history_req_schema, &history, NULL, NULL),
        RC_NOT_FOUND);
    assert_int_equal(
        run(self, self->reader, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
        RC_NOT_FOUND);
    watch.stream = (svc_str){NULL, 0};
    assert_int_equal(
        run(self, self->reader, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
        RC_NOT_FOUND);
    assert_int_equal(
        run(self, self->reader, READ_TEXT, &read_req_schema, &read, NULL, NULL),
        RC_NOT_FOUND);
    watch = (watch_req_t){USER, id ^ 1, stream_of(room, 1)};
    assert_int_equal(
        run(self, self->reader, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
        RC_NOT_FOUND);
}

static void
a_long_text_comes_in_pages_of_whole_characters(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    char *text = svc_alloc(300001);
    read_req_t read = {USER, stream_of(room, 1), 0};
    read_rep_t page = {0};
    answer_row_t row;

    for (size_t i = 0; i < 300000; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, text, ANSWER_COMPLETE), RC_OK);
    do {
        read.from += page.bytes.n;
        assert_int_equal(run(self, self->reader, READ_TEXT, &read_req_schema, &read,
                             &read_rep_schema, &page),
                         RC_OK);
        assert_int_equal(page.bytes.n % 3, 0);
        assert_true(page.bytes.n <= PROTO_PAGE_MAX_BYTES);
        assert_memory_equal(page.bytes.n == 0 ? "" : page.bytes.p, text + read.from,
                            page.bytes.n);
    } while (page.bytes.n > 0);
    assert_int_equal(read.from, 300000);
    free(text);
}

static void
a_reader_opens_its_connection_anew_after_its_lifetime(void **state)
{
    test_t *self = *state;
    list_req_t list = {.user = USER};
    list_rep_t rep;

    svc_pool_destroy(&self->reader);
    self->folder.workers.conn_lifetime_ms = 1;
    self->reader = open_pool(self, false, &(char *){NULL});
    (void)create(self, "");
    for (int i = 0; i < 20; i++) {
        fixture_run_for(&self->fixture, 2);
        assert_int_equal(run(self, self->reader, READ_LIST, &list_req_schema, &list,
                             &list_rep_schema, &rep),
                         RC_OK);
        assert_true(rep.json.n > 10);
    }
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(creates_conversations_with_ids_that_javascript_holds),
        TEST(seals_the_api_key_at_rest),
        TEST(asks_once_and_joins_the_second_time),
        TEST(refuses_a_question_while_the_previous_one_is_answered),
        TEST(another_users_conversation_does_not_exist),
        TEST(stops_once_and_tells_the_latest_answer_ever_after),
        TEST(deletes_everything_and_a_step_after_it_is_stale),
        TEST(refuses_a_question_whose_prompt_would_be_too_big_without_a_trace),
        TEST(a_payload_that_cannot_be_read_and_an_unknown_kind_are_refused_alone),
        TEST(many_jobs_become_few_commits),
        TEST(of_many_questions_at_once_one_wins),
        TEST(a_full_disk_refuses_what_is_new_and_loses_nothing_old),
        TEST(a_failed_batch_fails_all_of_its_jobs),
        TEST(refuses_to_open_with_another_key),
        TEST(readers_tell_head_status_text_and_history),
        TEST(readers_tell_strangers_nothing),
        TEST(a_long_text_comes_in_pages_of_whole_characters),
        TEST(a_reader_opens_its_connection_anew_after_its_lifetime),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
