/* test_paged_body.c - a body that comes page by page: all of it in order, or visibly cut, never more held than a page.
 *
 * The fake convo-svc gives out `truth` in pages of a size that each test sets; cursors are checked
 * on every call. Histories and lists go the same way, so each test takes the one that fits. */
#include "gateway_fixture.h"

#define HISTORY "/api/conversations/history/5"
#define LIST    "/api/conversations/list"

/* What the fake gives out. One test at a time: handlers get the fakes only. */
static struct {
    size_t total;        /* bytes of the whole body */
    size_t page;         /* of each page */
    svc_rc fails_with;   /* instead of the page at fails_at; RC_OK: none */
    unsigned fails_at;   /* which, from 1 */
    bool is_mute;        /* that page never comes */
    bool is_endless;     /* there is always one more page */
    bool is_empty_at_it; /* that page is empty though more follows */
    bool ends_empty;     /* one empty page follows the last byte */
} plan;

static char *
text_of_page(fakes_t *fakes, size_t from)
{
    return fakes->truth + (plan.is_endless ? 0 : from);
}

/* What is told of the page from `from` on; RC_OK: it is given out. */
static svc_rc
judge_page(const fakes_t *fakes, fake_op op, size_t from, size_t *n)
{
    *n = plan.is_endless || plan.total - from > plan.page ? plan.page : plan.total - from;
    if (fakes->scripts[op].n != plan.fails_at)
        return RC_OK;
    if (plan.is_empty_at_it)
        *n = 0;
    return plan.is_mute ? RC_LATER : plan.fails_with;
}

static bool
has_more(size_t from, size_t n)
{
    return plan.is_endless || from + n < plan.total || (plan.ends_empty && n > 0);
}

/* The cursor is message and offset within: both count here. */
static svc_rc
on_history(void *self, svc_call_t *call, const void *req, void *rep)
{
    const history_req_t *history = req;
    size_t from = (size_t)history->message * 10 + (size_t)history->offset;
    size_t n = 0;

    (void)call;
    svc_rc rc = judge_page(self, FAKE_HISTORY, from, &n);
    if (rc != RC_OK)
        return rc;
    *(history_rep_t *)rep = (history_rep_t){{text_of_page(self, from), n},
                                            (from + n) / 10,
                                            (from + n) % 10,
                                            has_more(from, n)};
    return RC_OK;
}

static svc_rc
on_list(void *self, svc_call_t *call, const void *req, void *rep)
{
    size_t from = (size_t)((const list_req_t *)req)->cursor;
    size_t n = 0;

    (void)call;
    svc_rc rc = judge_page(self, FAKE_LIST, from, &n);
    if (rc != RC_OK)
        return rc;
    *(list_rep_t *)rep = (list_rep_t){{text_of_page(self, from), n},
                                      has_more(from, n) ? from + n : 0};
    return RC_OK;
}

static int
open_paged(void **state)
{
    world_t *world;

    memset(&plan, 0, sizeof plan);
    world_open(state);
    world = *state;
    world->fakes.scripts[FAKE_HISTORY].handler = on_history;
    world->fakes.scripts[FAKE_LIST].handler = on_list;
    return 0;
}

static void
expect_whole(world_t *world, const char *path, bool is_chunked)
{
    answer_t answer = ask(world, "GET", path, "", NULL);

    assert_int_equal(answer.status, 200);
    assert_int_equal(strstr(answer.head, "Transfer-Encoding: chunked") != NULL,
                     is_chunked);
    assert_non_null(
        strstr(answer.head, "Content-Type: application/json; charset=utf-8\r\n"));
    assert_true(answer.whole);
    assert_int_equal(answer.body.n, plan.total);
    assert_memory_equal(answer.body.p, world->fakes.truth, plan.total);
    answer_fini(&answer);
}

/* --- all goes well ------------------------------------------------------------------------ */

static void
one_page_is_an_ordinary_answer(void **state)
{
    world_t *world = *state;

    plan.total = 5000;
    plan.page = 5000;
    expect_whole(world, HISTORY, false);
    expect_whole(world, LIST, false);
    assert_int_equal(world->fakes.scripts[FAKE_HISTORY].n, 1);
    assert_int_equal(world->fakes.scripts[FAKE_LIST].n, 1);
}

static void
an_empty_only_page_is_an_empty_body(void **state)
{
    world_t *world = *state;

    plan.page = 10;
    answer_t answer = ask(world, "GET", HISTORY, "", NULL);
    assert_int_equal(answer.status, 200);
    assert_true(answer.whole);
    assert_int_equal(answer.body.n, 0);
    answer_fini(&answer);
}

static void
pages_follow_one_another_in_order(void **state)
{
    world_t *world = *state;

    plan.total = 12345;
    plan.page = 1007; /* cursors with an offset inside a message */
    expect_whole(world, HISTORY, true);
    assert_int_equal(world->fakes.scripts[FAKE_HISTORY].n, 13);
    expect_whole(world, LIST, true);
    assert_int_equal(world->fakes.scripts[FAKE_LIST].n, 13);
}

static void
pages_of_one_byte_are_pages(void **state)
{
    plan.total = 40;
    plan.page = 1;
    expect_whole(*state, HISTORY, true);
}

static void
a_page_may_be_as_large_as_a_message_carries(void **state)
{
    plan.total = FAKE_TRUTH_BYTES;
    plan.page = PROTO_JSON_PAGE_MAX_BYTES;
    expect_whole(*state, HISTORY, true);
}

static void
a_last_page_may_be_empty(void **state)
{
    world_t *world = *state;

    plan.total = 2000;
    plan.page = 1000;
    plan.ends_empty = true;
    expect_whole(world, HISTORY, true);
    expect_whole(world, LIST, true);
    assert_int_equal(world->fakes.scripts[FAKE_LIST].n, 3);
}

static void
an_empty_page_before_the_last_cuts(void **state)
{
    world_t *world = *state;

    plan.total = 2000;
    plan.page = 1000;
    plan.is_endless = true;
    plan.fails_at = 3;
    plan.is_empty_at_it = true;
    client_t client;
    client_open(&client, world, 0);
    client_ask(&client, "GET", HISTORY, "Connection: close\r\n", NULL);
    client_await_asked(&client, FAKE_HISTORY, 3); /* empty, and more: that cannot be */
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_false(answer.whole);
    assert_int_equal(answer.body.n, 2000);
    answer_fini(&answer);
    client_close(&client);
}

static void
a_connection_serves_on_after_a_paged_body(void **state)
{
    world_t *world = *state;
    client_t client;

    plan.total = 3000;
    plan.page = 1000;
    client_open(&client, world, 0);
    client_ask(&client, "GET", HISTORY, "", NULL);
    client_await(&client, "0\r\n\r\n");
    svc_buf_clear(&client.in);
    client_ask(&client, "GET", LIST, "Connection: close\r\n", NULL);
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_true(answer.whole);
    assert_int_equal(answer.body.n, 3000);
    answer_fini(&answer);
    client_close(&client);
}

/* --- it does not -------------------------------------------------------------------------- */

static void
a_first_page_that_fails_decides_the_status(void **state)
{
    world_t *world = *state;

    plan.total = plan.page = 10;
    plan.fails_at = 1;
    plan.fails_with = RC_NOT_FOUND;
    expect(world, "GET", HISTORY, NULL, 404, "Conversation not found");
    plan.fails_with = RC_BUSY;
    expect(world, "GET", LIST, NULL, 503, "Retry-After");
}

static void
a_first_page_that_is_empty_though_more_follows_is_an_error(void **state)
{
    plan.total = 2000;
    plan.page = 1000;
    plan.fails_at = 1;
    plan.is_empty_at_it = true;
    expect(*state, "GET", HISTORY, NULL, 500, "\"code\":\"internal\"");
}

static void
a_later_page_that_fails_cuts(void **state)
{
    world_t *world = *state;

    plan.total = 100000;
    plan.page = 30000;
    plan.fails_at = 3;
    plan.fails_with = RC_INTERNAL;
    answer_t answer = ask(world, "GET", HISTORY, "", NULL);
    assert_int_equal(answer.status, 200);
    assert_false(answer.whole);
    assert_int_equal(answer.body.n, 60000);
    assert_memory_equal(answer.body.p, world->fakes.truth, 60000);
    answer_fini(&answer);
    world_await_log(world, "op=\"GET /api/conversations/history/:id\" status=200");
}

static void
a_service_that_dies_between_pages_cuts(void **state)
{
    world_t *world = *state;
    client_t client;

    plan.total = 100000;
    plan.page = 30000;
    plan.fails_at = 2;
    plan.is_mute = true;
    client_open(&client, world, 0);
    client_ask(&client, "GET", HISTORY, "Connection: close\r\n", NULL);
    fakes_await(&world->fakes, FAKE_HISTORY, 2);
    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_int_equal(answer.status, 200);
    assert_false(answer.whole);
    answer_fini(&answer);
    client_close(&client);
}

/* --- the client --------------------------------------------------------------------------- */

static void
a_client_that_reads_slowly_gets_all(void **state)
{
    world_t *world = *state;
    client_t client;

    plan.total = FAKE_TRUTH_BYTES;
    plan.page = 20000;
    client_open(&client, world, 4096);
    client_ask(&client, "GET", HISTORY, "Connection: close\r\n", NULL);
    while (!client.ended) {
        client_pull(&client, 7000);
        fixture_run_for(&world->fakes.bus, 1);
    }
    answer_t answer = answer_of(&client);
    assert_true(answer.whole);
    assert_int_equal(answer.body.n, plan.total);
    assert_memory_equal(answer.body.p, world->fakes.truth, plan.total);
    answer_fini(&answer);
    client_close(&client);
}

typedef struct {
    const fakes_t *fakes; /* who is asked */
    unsigned n, turns;    /* pages at the last look, and looks since they changed */
} calm_t;

static bool
has_calmed_down(void *arg)
{
    calm_t *self = arg;
    unsigned n = self->fakes->scripts[FAKE_HISTORY].n;

    self->turns = n == 0 || n != self->n ? 0 : self->turns + 1;
    self->n = n;
    return self->turns > 50;
}

static void
pages_are_fetched_only_as_fast_as_the_client_reads(void **state)
{
    world_t *world = *state;
    calm_t calm = {.fakes = &world->fakes};
    client_t client;

    plan.page = 500000;
    plan.is_endless = true;
    client_open(&client, world, 4096);
    client_ask(&client, "GET", HISTORY, "", NULL);
    fixture_run_until(&world->fakes.bus, has_calmed_down, &calm);
    assert_in_range(calm.n, 1, 30); /* what the sockets hold, and one */
    client_await_asked(&client, FAKE_HISTORY, calm.n + 5);
    client_close(&client);
    world_await_log(world, "op=\"GET /api/conversations/history/:id\"");
}

static void
a_client_that_leaves_in_the_middle_ends_the_fetching(void **state)
{
    world_t *world = *state;
    client_t client;

    plan.page = 100000;
    plan.is_endless = true;
    client_open(&client, world, 0);
    client_ask(&client, "GET", HISTORY, "", NULL);
    client_await_asked(&client, FAKE_HISTORY, 3);
    client_close(&client);
    world_await_log(world, "op=\"GET /api/conversations/history/:id\"");
    unsigned asked = world->fakes.scripts[FAKE_HISTORY].n;
    expect(world, "GET", "/healthz", NULL, 200, "ok");
    assert_in_range(world->fakes.scripts[FAKE_HISTORY].n, asked, asked + 1);
}

static void
a_client_that_leaves_while_a_page_is_on_its_way_is_forgotten(void **state)
{
    world_t *world = *state;
    history_rep_t page = {{world->fakes.truth, 1000}, 1, 1, false};
    client_t client;

    plan.total = 100000;
    plan.page = 30000;
    plan.fails_at = 2;
    plan.is_mute = true;
    client_open(&client, world, 0);
    client_ask(&client, "GET", HISTORY, "", NULL);
    fakes_await(&world->fakes, FAKE_HISTORY, 2);
    client_close(&client);
    svc_call_finish(fakes_kept(&world->fakes, FAKE_CONVO, FAKE_HISTORY), RC_OK, &page);
    world_await_log(world, "op=\"GET /api/conversations/history/:id\"");
    expect(world, "GET", "/healthz", NULL, 200, "ok");
}

#define PAGED_TEST(name) cmocka_unit_test_setup_teardown(name, open_paged, world_close)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PAGED_TEST(one_page_is_an_ordinary_answer),
        PAGED_TEST(an_empty_only_page_is_an_empty_body),
        PAGED_TEST(pages_follow_one_another_in_order),
        PAGED_TEST(pages_of_one_byte_are_pages),
        PAGED_TEST(a_page_may_be_as_large_as_a_message_carries),
        PAGED_TEST(a_last_page_may_be_empty),
        PAGED_TEST(an_empty_page_before_the_last_cuts),
        PAGED_TEST(a_connection_serves_on_after_a_paged_body),
        PAGED_TEST(a_first_page_that_fails_decides_the_status),
        PAGED_TEST(a_first_page_that_is_empty_though_more_follows_is_an_error),
        PAGED_TEST(a_later_page_that_fails_cuts),
        PAGED_TEST(a_service_that_dies_between_pages_cuts),
        PAGED_TEST(a_client_that_reads_slowly_gets_all),
        PAGED_TEST(pages_are_fetched_only_as_fast_as_the_client_reads),
        PAGED_TEST(a_client_that_leaves_in_the_middle_ends_the_fetching),
        PAGED_TEST(a_client_that_leaves_while_a_page_is_on_its_way_is_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
