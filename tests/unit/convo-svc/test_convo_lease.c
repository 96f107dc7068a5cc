/* test_convo_lease.c - what looks at the database bring: answers taken over, stopped, doubted, found again.
 *
 * The thread is real, its database is SQLite, whose one process here has several names: whoever it
 * is not is gone. (Leases themselves are the store's, and tested there.) */
#include "answers_fixture.h"
#include "tests/unit/svc/pg_proxy.h"

#include "convo-svc/convo_lease.h"

static const convo_lease_times_t quick = {.lease = 100, .look = 20, .hurry = 10};
static const convo_lease_times_t rare = {.lease = 100, .look = 60000, .hurry = 10};

typedef struct {
    test_t *test; /* owned */
    convo_workers_t workers;
    convo_store_t *store; /* the test's own connection */
    convo_lease_t *lease;
} with_lease_t;

static int
setup_lease(void **state)
{
    with_lease_t *self = svc_alloc(sizeof(*self));
    void *test = NULL;

    assert_int_equal(setup(&test), 0);
    self->test = test;
    self->workers = self->test->service.folder.workers;
    self->workers.metrics = self->test->service.fixture.ctx.metrics;
    self->store = folder_store(&self->test->service.folder, true);
    *state = self;
    return 0;
}

static int
teardown_lease(void **state)
{
    with_lease_t *self = *state;
    void *test = self->test;

    convo_lease_destroy(&self->lease);
    convo_store_destroy(&self->store);
    free(self);
    return teardown(&test);
}

static void
start_lease(with_lease_t *self, uint64_t instance, const convo_lease_times_t *times)
{
    char *error = NULL;

    self->workers.instance = instance;
    self->lease = convo_lease_new(&self->test->service.fixture.ctx, self->test->answers,
                                  &self->workers, times, &error);
    if (self->lease == NULL)
        print_error("%s\n", error);
    assert_non_null(self->lease);
}

/* --- the database ----------------------------------------------------------------------------- */

/* Adds conversation n with a waiting answer of owner 77, whose stream is n. */
static void
add_row(with_lease_t *self, unsigned n)
{
    store_add_conversation(self->store, n, "t");
    (void)store_ask(self->store, n, n, "hello");
}

static svc_rc
ignore_row(void *arg, const answer_row_t *row)
{
    (void)arg;
    (void)row;
    return RC_OK;
}

/* `owner` takes everything over. */
static void
give_to(with_lease_t *self, uint64_t owner)
{
    store_begin(self->store);
    assert_int_equal(
        self->store->api->answer_take_over(self->store, owner, 100, ignore_row, NULL),
        RC_OK);
    store_commit(self->store);
}

/* --- what is waited for ----------------------------------------------------------------------- */

static bool
one_lives(void *arg)
{
    return answers_count(((test_t *)arg)->answers) == 1;
}

static bool
was_attached(void *arg)
{
    return ((test_t *)arg)->service.llm.attaches > 0;
}

static bool
was_stopped(void *arg)
{
    return ((test_t *)arg)->service.llm.stops > 0;
}

static bool
has_term_3(void *arg)
{
    const answer_t *answer = by_stream(arg, 1);

    return answer != NULL && answer_term(answer) == 3;
}

static bool
holds_no_more(void *arg)
{
    return !convo_lease_holds(arg);
}

static uint64_t
counted(const with_lease_t *self, svc_metric metric)
{
    return fixture_count(&self->test->service.fixture, metric);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void
what_another_has_left_is_taken_over_with_the_next_term(void **state)
{
    with_lease_t *self = *state;

    add_row(self, 1);
    start_lease(self, 78, &quick);
    assert_true(convo_lease_holds(self->lease));
    run_until(self->test, one_lives);
    assert_int_equal(answer_term(by_stream(self->test, 1)), 2);
    assert_int_equal(counted(self, SVC_M_TAKEOVERS), 1);
    run_until(self->test, was_attached); /* nobody has said which llm-svc has it */
    assert_int_equal(self->test->service.llm.fence, 101);
}

static bool
some_live(void *arg)
{
    return answers_count(((test_t *)arg)->answers) > 0;
}

static void
thousands_of_answers_are_not_taken_one_statement_a_look(void **state)
{
    enum { N = 3 * CONVO_LEASE_TAKE_MAX + 7 };
    with_lease_t *self = *state;

    for (unsigned i = 1; i <= N; i++)
        add_row(self, i);
    start_lease(self, 78, &(const convo_lease_times_t){10000, 20, 10});
    /* One look brings all of them, in half of that time. */
    run_until(self->test, some_live);
    assert_int_equal(answers_count(self->test->answers), N);
    assert_int_equal(counted(self, SVC_M_TAKEOVERS), N);
}

static void
a_stop_that_somebody_else_has_committed_is_heard(void **state)
{
    with_lease_t *self = *state;
    char room[PROTO_STREAM_BYTES];

    add_row(self, 1);
    (void)begin_answer(self->test, 1);
    start_lease(self, 77, &quick);
    store_begin(self->store);
    assert_int_equal(self->store->api->answer_stop(self->store, stream_of(room, 1)),
                     RC_OK);
    store_commit(self->store);
    run_until(self->test, was_stopped);
    assert_int_equal(counted(self, SVC_M_TAKEOVERS), 0);
}

static void
an_answer_that_was_deleted_elsewhere_before_its_first_token_is_stopped(void **state)
{
    with_lease_t *self = *state;
    test_t *test = self->test;

    add_row(self, 1);
    (void)begin_answer(test, 1);
    watch(test, 1, &test->a);
    played_show(&test->reader, RC_NOT_FOUND, 0, 0);
    start_lease(self, 77, &quick);
    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_remove(self->store, 1), RC_OK);
    store_commit(self->store);
    assert_int_equal(service_wait(&test->service, &test->a, 2)->kind, PROTO_FINAL);
    assert_string_equal(test->a.seen[1].reason, "deleted");
    run_until(test, was_stopped);
}

static void
an_answer_that_was_taken_from_us_is_given_up(void **state)
{
    with_lease_t *self = *state;
    test_t *test = self->test;

    add_row(self, 1);
    (void)begin_answer(test, 1);
    watch(test, 1, &test->a);
    played_show(&test->reader, RC_OK, 2, ANSWER_WAITING);
    give_to(self, 79);
    start_lease(self, 77,
                &(const convo_lease_times_t){60000, 20, 10}); /* takes nothing */
    assert_int_equal(service_wait(&test->service, &test->a, 2)->kind, PROTO_FINAL);
    assert_int_equal(test->a.seen[1].status.owner, 602);
    assert_int_equal(answers_count(test->answers), 0);
    assert_int_equal(test->service.llm.stops, 0); /* another one goes on with it */
}

static void
an_answer_of_ours_that_is_not_here_is_taken_up(void **state)
{
    with_lease_t *self = *state;

    add_row(self, 1);
    start_lease(self, 77, &quick);
    run_until(self->test, one_lives);
    assert_int_equal(answer_term(by_stream(self->test, 1)), 1);
    give_to(self, 79); /* and back again, faster than we look */
    give_to(self, 77);
    run_until(self->test, has_term_3);
}

static void
who_has_given_the_lease_back_takes_nothing_but_still_looks(void **state)
{
    with_lease_t *self = *state;
    test_t *test = self->test;

    add_row(self, 1);
    start_lease(self, 78, &rare);
    (void)begin_answer(test, 2); /* lives here, and is nowhere in the database */
    watch(test, 2, &test->a);    /* before the first look can doubt it */
    convo_lease_drop(self->lease);
    convo_lease_drop(self->lease); /* twice does no harm */
    assert_false(convo_lease_holds(self->lease));
    played_show(&test->reader, RC_OK, 2, ANSWER_STREAMING);
    assert_int_equal(service_wait(&test->service, &test->a, 2)->kind, PROTO_FINAL);
    assert_int_equal(counted(self, SVC_M_TAKEOVERS), 0);
}

static void
without_looks_nobody_knows_whether_the_lease_holds(void **state)
{
    with_lease_t *self = *state;

    start_lease(self, 77, &rare);
    assert_true(convo_lease_holds(self->lease));
    fixture_run_until(&self->test->service.fixture, holds_no_more, self->lease);
}

static bool
holds_again(void *arg)
{
    return convo_lease_holds(arg);
}

static void
a_lease_that_had_run_out_is_not_steady_for_a_while(void **state)
{
    with_lease_t *self = *state;

    start_lease(self, 77, &(const convo_lease_times_t){100, 300, 10});
    assert_true(convo_lease_is_steady(self->lease));
    fixture_run_until(&self->test->service.fixture, holds_no_more, self->lease);
    assert_false(convo_lease_is_steady(self->lease));
    fixture_run_until(&self->test->service.fixture, holds_again, self->lease);
    assert_false(convo_lease_is_steady(self->lease));
}

/* Starts a lease while PostgreSQL is lost again and again, which takes longer than the lease lasts: does it hold then? */
static bool
holds_after_a_slow_start(with_lease_t *self, const char *url)
{
    static const convo_lease_times_t times = {.lease = 500, .look = 60000, .hurry = 10};
    const uint64_t began = svc_mono_ms();
    bool holds;

    self->workers.place = (convo_place_t){.driver = SVC_STORAGE_POSTGRESQL, .url = url};
    start_lease(self, 77, &times);
    assert_true(svc_mono_ms() - began > times.lease);
    fixture_run_for(&self->test->service.fixture, 1); /* the loop looks at the clock */
    holds = convo_lease_holds(self->lease);
    assert_int_equal(convo_lease_is_steady(self->lease), holds);
    convo_lease_destroy(&self->lease);
    return holds;
}

static void
a_lease_holds_from_when_it_was_taken_however_long_the_start_took(void **state)
{
    static pg_fixture_t
        db; /* the proxy's thread uses them, also when the test has failed */
    static pg_proxy_t proxy;
    with_lease_t *self = *state;
    char url[PG_URL_BYTES];
    bool holds = false;

    if (!pg_fixture_is_there())
        skip();
    for (int i = 0; i < 5 && !holds; i++) { /* again: this machine stood still */
        pg_fixture_open(&db);
        proxy_open(&proxy, &db, url);
        atomic_store(&proxy.mode, PROXY_CREEP);
        holds = holds_after_a_slow_start(self, url);
        proxy_close(&proxy);
        pg_fixture_close(&db);
    }
    assert_true(holds);
}

static void
a_lease_that_was_renewed_too_late_is_not_steady_either(void **state)
{
    with_lease_t *self = *state;

    start_lease(self, 77, &(const convo_lease_times_t){1000, 500, 10});
    store_begin(self->store); /* whoever renews waits for this */
    fixture_run_until(&self->test->service.fixture, holds_no_more, self->lease);
    store_commit(self->store);
    fixture_run_until(&self->test->service.fixture, holds_again, self->lease);
    assert_false(convo_lease_is_steady(self->lease));
}

static void
a_database_that_cannot_be_opened_is_told_in_one_line(void **state)
{
    with_lease_t *self = *state;
    char *error = NULL;

    self->workers.place.path = "/nowhere/at/all.db";
    assert_null(convo_lease_new(&self->test->service.fixture.ctx, self->test->answers,
                                &self->workers, &quick, &error));
    assert_non_null(error);
    assert_null(strchr(error, '\n'));
    free(error);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_lease, teardown_lease)
    const struct CMUnitTest tests[] = {
        TEST(what_another_has_left_is_taken_over_with_the_next_term),
        TEST(thousands_of_answers_are_not_taken_one_statement_a_look),
        TEST(a_stop_that_somebody_else_has_committed_is_heard),
        TEST(an_answer_that_was_deleted_elsewhere_before_its_first_token_is_stopped),
        TEST(an_answer_that_was_taken_from_us_is_given_up),
        TEST(an_answer_of_ours_that_is_not_here_is_taken_up),
        TEST(who_has_given_the_lease_back_takes_nothing_but_still_looks),
        TEST(without_looks_nobody_knows_whether_the_lease_holds),
        TEST(a_lease_that_had_run_out_is_not_steady_for_a_while),
        TEST(a_lease_holds_from_when_it_was_taken_however_long_the_start_took),
        TEST(a_lease_that_was_renewed_too_late_is_not_steady_either),
        TEST(a_database_that_cannot_be_opened_is_told_in_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
