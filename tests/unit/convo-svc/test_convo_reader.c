/* test_convo_reader.c - what readers tell of the database: heads, states, texts, pages, prompts, and refusals.
 *
 * Jobs go through a real pool; the writer's pool puts there what they read. */
#include "workers_fixture.h"

/* Does one job of a reader. */
static svc_rc
run_read(test_t *self, uint32_t kind, const proto_schema_t *schema, const void *job,
         const proto_schema_t *rep, void *out)
{
    return run(self, self->reader, kind, schema, job, rep, out);
}

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

    assert_int_equal(run_read(self, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
                     RC_NO_ANSWER);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(
        run_read(self, READ_HEAD, &history_req_schema, &history, &head_job_schema, &head),
        RC_OK);
    assert_true(head.answering);
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "h\xc3\xa9y", ANSWER_COMPLETE),
                     RC_OK);
    assert_int_equal(
        run_read(self, READ_HEAD, &history_req_schema, &history, &head_job_schema, &head),
        RC_OK);
    assert_false(head.answering);
    assert_int_equal(run_read(self, READ_HISTORY, &history_req_schema, &history,
                              &history_job_schema, &page),
                     RC_OK);
    assert_true(page.whole);
    assert_int_equal(page.version, head.version);
    watch.stream = stream_of(room, 1);
    assert_int_equal(
        run_read(self, READ_STATUS, &watch_req_schema, &watch, &answer_row_schema, &row),
        RC_OK);
    assert_int_equal(row.state, ANSWER_COMPLETE);
    watch.stream = (svc_str){NULL, 0};
    assert_int_equal(
        run_read(self, READ_STATUS, &watch_req_schema, &watch, &answer_row_schema, &row),
        RC_OK);
    assert_int_equal(row.length, 4);
    assert_int_equal(
        run_read(self, READ_TEXT, &read_req_schema, &read, &read_rep_schema, &text),
        RC_OK);
    assert_true(svc_str_eq(text.bytes, SVC_LIT("\xa9y")));
    assert_int_equal(text.state, ANSWER_COMPLETE);
    read.from = 100;
    assert_int_equal(
        run_read(self, READ_TEXT, &read_req_schema, &read, &read_rep_schema, &text),
        RC_OK);
    assert_int_equal(text.bytes.n, 0);
}

static void
a_stream_that_is_gone_while_its_conversation_is_there_was_superseded(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    watch_req_t watch = {USER, id, stream_of(room, 7)};
    answer_row_t row;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    assert_int_equal(run_read(self, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
                     RC_SUPERSEDED);
    watch.user = STRANGER;
    assert_int_equal(run_read(self, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
                     RC_NOT_FOUND);
    watch = (watch_req_t){USER, id ^ 1, watch.stream};
    assert_int_equal(run_read(self, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
                     RC_NOT_FOUND);
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
    assert_int_equal(run_read(self, READ_HEAD, &history_req_schema, &history, NULL, NULL),
                     RC_NOT_FOUND);
    assert_int_equal(
        run_read(self, READ_HISTORY, &history_req_schema, &history, NULL, NULL),
        RC_NOT_FOUND);
    assert_int_equal(run_read(self, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
                     RC_NOT_FOUND);
    watch.stream = (svc_str){NULL, 0};
    assert_int_equal(run_read(self, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
                     RC_NOT_FOUND);
    assert_int_equal(run_read(self, READ_TEXT, &read_req_schema, &read, NULL, NULL),
                     RC_NOT_FOUND);
    watch = (watch_req_t){USER, id ^ 1, stream_of(room, 1)};
    assert_int_equal(run_read(self, READ_STATUS, &watch_req_schema, &watch, NULL, NULL),
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
        assert_int_equal(
            run_read(self, READ_TEXT, &read_req_schema, &read, &read_rep_schema, &page),
            RC_OK);
        assert_int_equal(page.bytes.n % 3, 0);
        assert_true(page.bytes.n <= PROTO_PAGE_MAX_BYTES);
        assert_memory_equal(page.bytes.n == 0 ? "" : page.bytes.p, text + read.from,
                            page.bytes.n);
    } while (page.bytes.n > 0);
    assert_int_equal(read.from, 300000);
    read.from = 1; /* inside a character: all of the page, so that the reader gets on */
    assert_int_equal(
        run_read(self, READ_TEXT, &read_req_schema, &read, &read_rep_schema, &page),
        RC_OK);
    assert_int_equal(page.bytes.n, PROTO_PAGE_MAX_BYTES);
    assert_memory_equal(page.bytes.p, text + 1, page.bytes.n);
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
        assert_int_equal(
            run_read(self, READ_LIST, &list_req_schema, &list, &list_rep_schema, &rep),
            RC_OK);
        assert_true(rep.json.n > 10);
    }
}

/* --- bounds and pages ------------------------------------------------------------------------- */

static void
a_waiting_answer_has_no_text_yet(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    char room[PROTO_STREAM_BYTES];
    read_req_t read = {USER, stream_of(room, 1), 0};
    read_rep_t text;

    assert_int_equal(run_read(self, READ_TEXT, &read_req_schema, &read, NULL, NULL),
                     RC_NOT_FOUND);
    assert_int_equal(ask(self, USER, id, 1, "hello", NULL), RC_OK);
    assert_int_equal(
        run_read(self, READ_TEXT, &read_req_schema, &read, &read_rep_schema, &text),
        RC_OK);
    assert_int_equal(text.bytes.n, 0);
    assert_int_equal(text.length, 0);
    assert_int_equal(text.state, ANSWER_WAITING);
    read.from = PROTO_ID_MAX;
    assert_int_equal(
        run_read(self, READ_TEXT, &read_req_schema, &read, &read_rep_schema, &text),
        RC_OK);
    assert_int_equal(text.bytes.n, 0);
    assert_int_equal(text.from, PROTO_ID_MAX);
}

static void
a_head_has_a_new_version_after_each_question_and_each_end(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, ""), last = 0;
    answer_row_t row;

    for (int i = 0; i < 4; i++) {
        history_req_t req = {.user = USER, .conversation = id};
        head_job_t head;

        if (i % 2 == 1)
            assert_int_equal(ask(self, USER, id, (unsigned)i, "hello", &row), RC_OK);
        else if (i > 0)
            assert_int_equal(step(self, &row, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
                             RC_OK);
        assert_int_equal(
            run_read(self, READ_HEAD, &history_req_schema, &req, &head_job_schema, &head),
            RC_OK);
        assert_true(head.version > last);
        assert_int_equal(head.user, USER);
        assert_int_equal(head.conversation, id);
        assert_int_equal(head.answering, i % 2);
        last = head.version;
        if (i % 2 == 1)
            assert_int_equal(ask(self, USER, id, (unsigned)i, "hello", &row), RC_OK);
    }
}

static void
a_long_list_comes_in_pages_that_are_one_body(void **state)
{
    test_t *self = *state;
    list_req_t req = {.user = USER};
    list_rep_t rep;
    char *title = svc_alloc(PROTO_TITLE_MAX_BYTES + 1);
    create_req_t add = {.user = USER,
                        .title = {title, PROTO_TITLE_MAX_BYTES},
                        .model = SVC_LIT("echo"),
                        .api_key = {NULL, 0}};
    size_t pages = 0, items = 0, opened = 0, closed = 0;

    memset(title, 'x', PROTO_TITLE_MAX_BYTES);
    forget_results(self);
    for (uint64_t i = 0; i < 200; i++)
        submit(self, self->writer, WRITE_CREATE, &create_req_schema, &add, i);
    wait_for(self, 200);
    do {
        assert_int_equal(
            run_read(self, READ_LIST, &list_req_schema, &req, &list_rep_schema, &rep),
            RC_OK);
        assert_true(rep.json.n <= PROTO_JSON_PAGE_MAX_BYTES);
        for (size_t i = 0; i < rep.json.n; i++) {
            items += rep.json.p[i] == '{' ? 1 : 0;
            opened += rep.json.p[i] == '[' ? 1 : 0;
            closed += rep.json.p[i] == ']' ? 1 : 0;
        }
        pages++;
        req.cursor = rep.next;
    } while (rep.next != 0);
    assert_true(pages >= 2);
    assert_int_equal(items, 200);
    assert_int_equal(opened, 1);
    assert_int_equal(closed, 1);
    free(title);
}

static void
only_a_finished_history_on_one_page_is_whole(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "");
    history_req_t req = {.user = USER, .conversation = id};
    char *text = svc_alloc(600001);
    history_job_t job;
    svc_buf_t body;
    answer_row_t row;
    char room[PROTO_STREAM_BYTES];

    memset(text, 'y', 600000);
    assert_int_equal(run_read(self, READ_HISTORY, &history_req_schema, &req,
                              &history_job_schema, &job),
                     RC_OK);
    assert_true(job.whole); /* empty, and nothing changes without a new version */
    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    memcpy(room, row.stream.p, sizeof(room));
    row.stream.p = room;
    assert_int_equal(run_read(self, READ_HISTORY, &history_req_schema, &req,
                              &history_job_schema, &job),
                     RC_OK);
    assert_false(job.whole); /* its answer still grows */
    assert_false(job.page.more);
    assert_int_equal(step(self, &row, ANSWER_WAITING, 0, text, ANSWER_COMPLETE), RC_OK);
    svc_buf_init(&body, 1u << 20);
    do {
        assert_int_equal(run_read(self, READ_HISTORY, &history_req_schema, &req,
                                  &history_job_schema, &job),
                         RC_OK);
        assert_false(job.whole); /* one of several pages */
        assert_true(job.page.json.n <= PROTO_JSON_PAGE_MAX_BYTES);
        assert_int_equal(svc_buf_add_str(&body, job.page.json), RC_OK);
        req.message = job.page.next_message;
        req.offset = job.page.next_offset;
    } while (job.page.more);
    assert_non_null(memmem(body.p, body.n, text, 600000));
    svc_buf_fini(&body);
    free(text);
}

static void
a_prompt_is_built_for_the_fence_of_the_row_only(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "sk-mine");
    char room[PROTO_STREAM_BYTES];
    prompt_job_t job = {stream_of(room, 1), 0};
    generate_req_t prompt;
    answer_row_t row;

    assert_int_equal(ask(self, USER, id, 1, "hello", &row), RC_OK);
    job.fence = row.fence + 1;
    assert_int_equal(run_read(self, READ_PROMPT, &prompt_job_schema, &job, NULL, NULL),
                     RC_STALE);
    job.fence = row.fence;
    assert_int_equal(run_read(self, READ_PROMPT, &prompt_job_schema, &job,
                              &generate_req_schema, &prompt),
                     RC_OK);
    assert_int_equal(prompt.fence, row.fence);
    assert_true(svc_str_eq(prompt.key, SVC_LIT("sk-mine")));
    assert_int_equal(prompt.messages.n, 2);
    job.stream = stream_of(room, 2);
    assert_int_equal(run_read(self, READ_PROMPT, &prompt_job_schema, &job, NULL, NULL),
                     RC_STALE);
}

/* --- failures --------------------------------------------------------------------------------- */

static void
a_payload_that_cannot_be_read_and_an_unknown_kind_are_refused_alone(void **state)
{
    test_t *self = *state;
    list_req_t list = {.user = USER};

    forget_results(self);
    for (uint64_t i = 0; i < 10; i++)
        submit(self, self->reader, READ_LIST, &list_req_schema, &list, i);
    for (uint32_t kind = 0; kind <= READ_PROMPT; kind++)
        assert_int_equal(svc_pool_submit(self->reader, kind, SVC_LIT("\xc1junk"), on_done,
                                         self, 20 + kind),
                         RC_OK);
    assert_int_equal(svc_pool_submit(self->reader, READ_PROMPT + 1, SVC_LIT("\x80"),
                                     on_done, self, 40),
                     RC_OK);
    assert_int_equal(
        svc_pool_submit(self->reader, UINT32_MAX, SVC_LIT("\x80"), on_done, self, 41),
        RC_OK);
    wait_for(self, 18);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(self->results[i].rc, RC_OK);
    for (uint32_t kind = 0; kind <= READ_PROMPT; kind++)
        assert_int_equal(self->results[20 + kind].rc, RC_INVALID);
    assert_int_equal(self->results[40].rc, RC_INVALID);
    assert_int_equal(self->results[41].rc, RC_INVALID);
}

static void
a_full_queue_refuses_and_answers_all_that_it_took(void **state)
{
    test_t *self = *state;
    list_req_t list = {.user = USER};
    svc_buf_t body;
    size_t taken = 0;
    svc_rc rc;

    forget_results(self);
    svc_buf_init(&body, 100);
    assert_int_equal(proto_encode(&list_req_schema, &list, &body), RC_OK);
    /* Nothing is taken out of the queue while the loop does not run. */
    while ((rc = svc_pool_submit(self->reader, READ_LIST, svc_buf_str(&body), on_done,
                                 self, taken % RESULTS_MAX)) == RC_OK) {
        taken++;
        assert_true(taken <= 1024 + 2);
    }
    assert_int_equal(rc, RC_BUSY);
    assert_true(taken >= 1024);
    svc_buf_fini(&body);
    for (size_t n = 1; n <= taken; n++) /* patience for each, not for all together */
        wait_for(self, n);
    for (size_t i = 0; i < RESULTS_MAX; i++)
        assert_int_equal(self->results[i].rc, RC_OK);
}

static void
a_reader_does_not_wait_for_who_writes(void **state)
{
    test_t *self = *state;
    list_req_t list = {.user = USER};
    convo_store_t *store = folder_store(&self->folder, true);
    list_rep_t rep;

    (void)create(self, "");
    store_begin(store);
    assert_int_equal(store->api->meta_put(store, "a", SVC_LIT("1")), RC_OK);
    assert_int_equal(
        run_read(self, READ_LIST, &list_req_schema, &list, &list_rep_schema, &rep),
        RC_OK);
    assert_true(rep.json.n > 10);
    store_commit(store);
    convo_store_destroy(&store);
}

static void
a_database_that_is_gone_is_unavailable_until_it_is_back(void **state)
{
    test_t *self = *state;
    list_req_t list = {.user = USER};
    char away[128];
    list_rep_t rep;

    (void)create(self, "");
    svc_pool_destroy(&self->reader);
    svc_pool_destroy(&self->writer); /* all is in the one file now */
    self->folder.workers.conn_lifetime_ms = 1;
    self->reader = open_pool(self, false, &(char *){NULL});
    assert_non_null(self->reader);
    snprintf(away, sizeof(away), "%s/away.db", self->folder.path);
    assert_int_equal(rename(self->folder.db, away), 0);
    fixture_run_for(&self->fixture, 5);
    for (int i = 0; i < 4; i++)
        assert_int_equal(run_read(self, READ_LIST, &list_req_schema, &list, NULL, NULL),
                         RC_UNAVAILABLE);
    assert_int_equal(rename(away, self->folder.db), 0);
    assert_int_equal(
        run_read(self, READ_LIST, &list_req_schema, &list, &list_rep_schema, &rep),
        RC_OK);
    assert_true(rep.json.n > 10);
}

static void
does_not_start_without_a_database(void **state)
{
    test_t *self = *state;
    char *error = NULL;
    svc_pool_t *pool;

    self->folder.workers.place.path = "/nowhere/convo.db";
    pool = open_pool(self, false, &error);
    self->folder.workers.place.path = self->folder.db;
    assert_null(pool);
    assert_non_null(strstr(error, "/nowhere/convo.db"));
    free(error);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(readers_tell_head_status_text_and_history),
        TEST(a_stream_that_is_gone_while_its_conversation_is_there_was_superseded),
        TEST(readers_tell_strangers_nothing),
        TEST(a_long_text_comes_in_pages_of_whole_characters),
        TEST(a_reader_opens_its_connection_anew_after_its_lifetime),
        TEST(a_waiting_answer_has_no_text_yet),
        TEST(a_head_has_a_new_version_after_each_question_and_each_end),
        TEST(a_long_list_comes_in_pages_that_are_one_body),
        TEST(only_a_finished_history_on_one_page_is_whole),
        TEST(a_prompt_is_built_for_the_fence_of_the_row_only),
        TEST(a_payload_that_cannot_be_read_and_an_unknown_kind_are_refused_alone),
        TEST(a_full_queue_refuses_and_answers_all_that_it_took),
        TEST(a_reader_does_not_wait_for_who_writes),
        TEST(a_database_that_is_gone_is_unavailable_until_it_is_back),
        TEST(does_not_start_without_a_database),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
