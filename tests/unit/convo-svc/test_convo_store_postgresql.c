/* test_convo_store_postgresql.c - what only a server of many can meet: other writers, leases, a network that breaks.
 *
 * (What both kinds of stores do stands in test_convo_store.c and test_store_*.c.) */
#include "store_fixture.h"
#include "tests/unit/svc/pg_proxy.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* --- several writers ---------------------------------------------------------------------------- */

/* The writer's way to ask: look at the conversation, then add. */
static svc_rc
ask_as_a_writer(convo_store_t *store, uint64_t conversation, unsigned stream)
{
    char room[PROTO_STREAM_BYTES];
    conversation_row_t row;
    answer_row_t answer = {.stream = stream_of(room, stream),
                           .conversation = conversation,
                           .term = 1,
                           .fence = 100 + stream,
                           .attempt = 1,
                           .owner = stream,
                           .body_hash = SVC_LIT("h")};
    uint64_t message;
    svc_rc rc = store->api->begin(store, true);

    if (rc == RC_OK)
        rc = store->api->conversation_get(store, conversation, copy_conversation, &row);
    if (rc == RC_OK) {
        free_conversation(&row);
        rc = row.answering
                 ? RC_ANSWERING
                 : store->api->question_add(store, &answer, SVC_LIT("q"), 2, &message);
    }
    if (rc == RC_OK)
        return store->api->commit(store);
    store->api->rollback(store);
    return rc;
}

typedef struct {
    convo_store_t *store;
    unsigned number; /* of the writer */
    int asked, answering, busy, other;
    pthread_t thread;
} racer_t;

/* Asks in conversation after conversation, each of which the others ask in, too. */
static void *
race(void *arg)
{
    racer_t *self = arg;

    for (unsigned i = 1; i <= 40; i++) {
        svc_rc rc;

        do {
            rc = ask_as_a_writer(self->store, i, self->number * 1000 + i);
            self->busy += rc == RC_BUSY ? 1 : 0;
        } while (rc == RC_BUSY);
        self->asked += rc == RC_OK ? 1 : 0;
        self->answering += rc == RC_ANSWERING ? 1 : 0;
        self->other += rc != RC_OK && rc != RC_ANSWERING ? 1 : 0;
    }
    return NULL;
}

static void
of_all_who_ask_one_conversation_at_once_one_may(void **state)
{
    test_t *self = *state;
    racer_t racers[4] = {0};
    int asked = 0, answering = 0;

    for (unsigned i = 1; i <= 40; i++)
        store_add_conversation(self->store, i, "t");
    for (unsigned i = 0; i < SVC_COUNT(racers); i++) {
        racers[i].store = test_open(self, STORE_WRITE);
        racers[i].number = i + 1;
    }
    for (size_t i = 0; i < SVC_COUNT(racers); i++)
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    for (size_t i = 0; i < SVC_COUNT(racers); i++) {
        assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
        assert_int_equal(racers[i].other, 0);
        asked += racers[i].asked;
        answering += racers[i].answering;
        convo_store_destroy(&racers[i].store);
    }
    assert_int_equal(asked, 40);
    assert_int_equal(answering, 40 * (SVC_COUNT(racers) - 1));
    assert_int_equal(count_rows(self, "message"), 40);
}

static void
who_waited_for_anothers_question_finds_its_answer(void **state)
{
    test_t *self = *state;
    convo_store_t *other = test_open(self, STORE_WRITE);
    racer_t late = {.store = other, .number = 5};
    char room[PROTO_STREAM_BYTES];
    answer_row_t answer = {.stream = stream_of(room, 1),
                           .conversation = 1,
                           .term = 1,
                           .attempt = 1,
                           .body_hash = SVC_LIT("h")};
    conversation_row_t row;
    uint64_t message;

    for (unsigned i = 1; i <= 40; i++)
        store_add_conversation(self->store, i, "t");
    store_begin(self->store);
    assert_int_equal(
        self->store->api->conversation_get(self->store, 1, copy_conversation, &row),
        RC_OK);
    free_conversation(&row);
    assert_int_equal(pthread_create(&late.thread, NULL, race, &late), 0);
    pg_fixture_until(
        &self->db,
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE NOT granted AND query LIKE '%conversation%' AND a.pid <>"
        " pg_backend_pid() AND EXISTS (SELECT 1 FROM pg_locks m WHERE m.pid ="
        " l.pid AND m.relation = 'conversation'::regclass)",
        1);
    assert_int_equal(
        self->store->api->question_add(self->store, &answer, SVC_LIT("q"), 2, &message),
        RC_OK);
    store_commit(self->store);
    assert_int_equal(pthread_join(late.thread, NULL), 0);
    assert_int_equal(late.answering, 1);
    assert_int_equal(late.asked, 39);
    assert_int_equal(late.other, 0);
    convo_store_destroy(&other);
}

static void
a_conflict_leaves_the_transaction_usable(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    conversation_row_t row = {
        .id = 1, .user = USER, .model = SVC_LIT("echo"), .key = SVC_LIT("k")};
    char room[PROTO_STREAM_BYTES];
    answer_row_t answer = {.stream = stream_of(room, 1),
                           .conversation = 1,
                           .message = 2,
                           .term = 1,
                           .attempt = 1,
                           .body_hash = SVC_LIT("h")};
    uint64_t message;

    store_begin(self->store);
    assert_int_equal(api->conversation_add(self->store, &row), RC_OK);
    assert_int_equal(api->conversation_add(self->store, &row), RC_CONFLICT);
    assert_int_equal(api->question_add(self->store, &answer, SVC_LIT("q"), 2, &message),
                     RC_OK);
    assert_int_equal(api->question_add(self->store, &answer, SVC_LIT("q"), 2, &message),
                     RC_CONFLICT);
    assert_int_equal(api->answer_replace(self->store, &answer, 2), RC_STALE);
    row.id = 2;
    row.key = (svc_str){NULL, 0};
    assert_int_equal(api->conversation_add(self->store, &row), RC_OK);
    store_commit(self->store);
    assert_int_equal(count_rows(self, "conversation"), 2);
    assert_int_equal(count_rows(self, "message"), 1);
}

static void
a_conversation_deleted_while_a_step_is_under_way_leaves_nothing(void **state)
{
    test_t *self = *state;
    svc_rc rc;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    pg_fixture_does(&self->db,
                    "BEGIN; UPDATE answer SET length = 3, state = 1;"
                    "INSERT INTO answer_chunk SELECT conversation, message_id, 0, 'abc'"
                    " FROM answer");
    assert_int_equal(PQsendQuery(self->db.other, "SELECT pg_sleep(0.3); COMMIT"), 1);
    store_begin(self->store);
    while ((rc = self->store->api->conversation_remove(self->store, 1)) == RC_BUSY) {
        self->store->api->rollback(self->store); /* as a writer does it */
        store_begin(self->store);
    }
    assert_int_equal(rc, RC_OK);
    store_commit(self->store);
    for (PGresult *result; (result = PQgetResult(self->db.other)) != NULL;)
        PQclear(result);
    assert_int_equal(count_rows(self, "answer"), 0);
    assert_int_equal(count_rows(self, "chunk"), 0);
}

static void
somebody_who_stands_still_with_a_lock_is_thrown_out(void **state)
{
    test_t *self = *state;
    convo_store_t *other = test_open(self, STORE_WRITE);
    conversation_row_t row;
    uint64_t end = svc_mono_ms() + 20000;
    svc_rc rc;

    store_add_conversation(self->store, 1, "t");
    store_begin(other);
    assert_int_equal(other->api->conversation_get(other, 1, copy_conversation, &row),
                     RC_OK);
    free_conversation(&row);
    do {
        rc = ask_as_a_writer(self->store, 1, 1);
        assert_true(rc == RC_OK || rc == RC_BUSY);
        assert_true(svc_mono_ms() < end);
    } while (rc != RC_OK);
    assert_int_equal(other->api->meta_put(other, "a", SVC_LIT("1")), RC_UNAVAILABLE);
    assert_int_equal(other->api->commit(other), RC_UNAVAILABLE);
    store_begin(other);
    assert_int_equal(other->api->meta_put(other, "a", SVC_LIT("1")), RC_OK);
    store_commit(other);
    convo_store_destroy(&other);
}

/* --- haste -------------------------------------------------------------------------------------- */

/* Asks in a conversation, in a transaction that is open. */
static svc_rc
ask_there(convo_store_t *store, uint64_t conversation, unsigned stream, uint64_t *message)
{
    char room[PROTO_STREAM_BYTES];
    answer_row_t answer = {.stream = stream_of(room, stream),
                           .conversation = conversation,
                           .term = 1,
                           .fence = 100 + stream,
                           .attempt = 1,
                           .body_hash = SVC_LIT("h")};

    return store->api->question_add(store, &answer, SVC_LIT("q"), 2, message);
}

/* Looks at it first. */
static svc_rc
look_and_ask(convo_store_t *store, uint64_t conversation, unsigned stream,
             uint64_t *message)
{
    conversation_row_t row;
    svc_rc rc = store->api->conversation_get(store, conversation, copy_conversation,
                                             &row);

    if (rc != RC_OK)
        return rc;
    free_conversation(&row);
    return row.answering ? RC_ANSWERING : ask_there(store, conversation, stream, message);
}

static void
what_is_taken_for_granted_is_there_when_it_is_settled(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    uint64_t ids[120], message;
    conversation_row_t row = {.user = USER, .model = SVC_LIT("echo")};
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    store_turn(self->store, 1, 1, "q", "a");
    for (unsigned i = 2; i <= 110; i++)
        store_add_conversation(self->store, i, "t");
    for (unsigned i = 0; i < SVC_COUNT(ids); i++)
        ids[i] = 120 - i;
    ids[5] = ids[6]; /* one comes twice, some are not there */
    store_begin(self->store);
    assert_int_equal(api->hasten(self->store, ids, SVC_COUNT(ids), NULL, 0), RC_OK);
    for (unsigned i = 1; i <= 110; i++) {
        assert_int_equal(look_and_ask(self->store, i, 1000 + i, &message), RC_OK);
        assert_int_equal(message, i == 1 ? 4 : 2);
        if (i % 10 == 0) /* whoever looks again sees it */
            assert_int_equal(look_and_ask(self->store, i, 2000 + i, &message),
                             RC_ANSWERING);
    }
    assert_int_equal(look_and_ask(self->store, 111, 5, &message), RC_NOT_FOUND);
    row.id = 200;
    assert_int_equal(api->conversation_add(self->store, &row), RC_OK);
    assert_int_equal(look_and_ask(self->store, 200, 6, &message), RC_OK);
    assert_int_equal(api->settle(self->store), RC_OK);
    store_commit(self->store);
    for (unsigned i = 1; i <= 110; i++) {
        assert_int_equal(get_answer(self->store, 1000 + i, &answer), RC_OK);
        assert_int_equal(answer.conversation, i);
        assert_int_equal(answer.message, i == 1 ? 4 : 2);
    }
    assert_int_equal(get_answer(self->store, 6, &answer), RC_OK);
    assert_int_equal(count_rows(self, "conversation"), 111);
}

static void
one_look_is_good_for_one_question(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    const uint64_t id = 1;
    uint64_t message;

    store_add_conversation(self->store, 1, "t");
    store_begin(self->store);
    assert_int_equal(api->hasten(self->store, &id, 1, NULL, 0), RC_OK);
    assert_int_equal(look_and_ask(self->store, 1, 1, &message), RC_OK);
    assert_int_equal(message, 2);
    assert_int_equal(ask_there(self->store, 1, 2, &message), RC_CONFLICT);
    assert_int_equal(api->settle(self->store), RC_OK);
    store_commit(self->store);
    assert_int_equal(count_rows(self, "answer"), 1);
    /* Else the next question without a key would look like this one come again. */
    assert_int_equal(count_rows(self, "answer WHERE key IS NULL"), 1);
}

static void
what_was_not_granted_is_told_and_leaves_nothing(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    conversation_row_t row = {.id = 1, .user = USER, .model = SVC_LIT("echo")};
    uint64_t message, before;

    store_add_conversation(self->store, 1, "t");
    store_add_conversation(self->store, 2, "t");
    store_turn(self->store, 1, 1, "q", "a");
    store_begin(self->store);
    assert_int_equal(api->hasten(self->store, NULL, 0, NULL, 0), RC_OK);
    assert_int_equal(look_and_ask(self->store, 2, 1, &message),
                     RC_OK);                           /* the stream is taken */
    assert_int_equal(api->settle(self->store), RC_OK); /* it is not sent yet */
    assert_int_equal(api->commit(self->store), RC_LATER);
    store_begin(self->store);
    assert_int_equal(api->hasten(self->store, NULL, 0, NULL, 0), RC_OK);
    assert_int_equal(look_and_ask(self->store, 2, 1, &message), RC_OK);
    before = api->changes(self->store);
    assert_int_not_equal(look_and_ask(self->store, 1, 7, &message), RC_OK); /* it is */
    assert_int_not_equal(api->changes(self->store), before);
    api->rollback(self->store);
    store_begin(self->store);
    assert_int_equal(api->hasten(self->store, NULL, 0, NULL, 0), RC_OK);
    assert_int_equal(api->conversation_add(self->store, &row), RC_OK); /* the id is */
    assert_int_equal(api->settle(self->store), RC_LATER);
    api->rollback(self->store);
    assert_int_equal(count_rows(self, "answer"), 1);
    /* Without haste it is told at once, in the next transaction, too. */
    store_begin(self->store);
    assert_int_equal(look_and_ask(self->store, 2, 1, &message), RC_CONFLICT);
    assert_int_equal(api->conversation_add(self->store, &row), RC_CONFLICT);
    assert_int_equal(look_and_ask(self->store, 1, 7, &message), RC_OK);
    store_commit(self->store);
    assert_int_equal(count_rows(self, "answer"), 2);
}

static void
who_looks_beforehand_at_what_a_step_ends_sees_it_ended(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    static const uint64_t asked[] = {3, 1}, ended[] = {2, 1};
    answer_step_t steps[2];
    char room[2][PROTO_STREAM_BYTES];
    uint64_t message, clock_ms = 0;
    svc_rc rcs[2];

    for (unsigned i = 1; i <= 3; i++)
        store_add_conversation(self->store, i, "t");
    for (unsigned i = 0; i < 2; i++) {
        (void)store_ask(self->store, i + 1, i + 1, "q");
        steps[i] = (answer_step_t){.stream = stream_of(room[i], i + 1),
                                   .conversation = i + 1,
                                   .term = 1,
                                   .fence = 101 + i,
                                   .bytes = SVC_LIT("a"),
                                   .next_state = ANSWER_COMPLETE};
    }
    store_begin(self->store);
    assert_int_equal(api->hasten(self->store, asked, 2, ended, 2), RC_OK);
    assert_int_equal(api->answer_steps(self->store, steps, 2, 1000, rcs), RC_OK);
    assert_true(rcs[0] == RC_OK && rcs[1] == RC_OK);
    assert_int_equal(look_and_ask(self->store, 3, 13, &message), RC_OK);
    assert_int_equal(api->clock(self->store, &clock_ms), RC_OK);
    assert_true(clock_ms + 60000 > svc_unix_ms() && clock_ms < svc_unix_ms() + 60000);
    assert_int_equal(look_and_ask(self->store, 1, 11, &message), RC_OK);
    assert_int_equal(message, 4);
    assert_int_equal(api->settle(self->store), RC_OK);
    store_commit(self->store);
    assert_int_equal(count_rows(self, "answer"), 4);
}

/* --- leases ------------------------------------------------------------------------------------- */

static bool
renew(test_t *self, uint64_t instance, uint64_t ms)
{
    bool lapsed;

    assert_int_equal(self->store->api->lease_renew(self->store, instance, ms, &lapsed),
                     RC_OK);
    return lapsed;
}

static svc_rc
count_one(void *arg, const answer_row_t *row)
{
    (void)row;
    ++*(size_t *)arg;
    return RC_OK;
}

/* Takes over as 99; gives how many. */
static size_t
take_over(convo_store_t *store, size_t max)
{
    size_t n = 0;

    store_begin(store);
    assert_int_equal(store->api->answer_take_over(store, 99, max, count_one, &n), RC_OK);
    store_commit(store);
    return n;
}

static void
a_lease_holds_until_its_time_is_over_or_it_is_given_back(void **state)
{
    test_t *self = *state;

    assert_true(renew(self, 77, 60000)); /* there was none */
    assert_false(renew(self, 77, 60000));
    assert_false(renew(self, 77, 0));
    assert_true(renew(self, 77, 60000));
    assert_true(renew(self, 78, 60000));
    assert_int_equal(self->store->api->lease_drop(self->store, 77), RC_OK);
    assert_int_equal(self->store->api->lease_drop(self->store, 77), RC_OK);
    assert_true(renew(self, 77, 60000));
    assert_false(renew(self, 78, 60000));
}

static void
answers_of_who_has_a_lease_are_left_alone(void **state)
{
    test_t *self = *state;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q"); /* of 77 */
    (void)renew(self, 77, 60000);
    assert_int_equal(take_over(self->store, 10), 0);
    (void)renew(self, 77, 0);
    assert_int_equal(take_over(self->store, 10), 1);
    assert_int_equal(take_over(self->store, 10), 0);
}

static void
leases_long_over_are_forgotten(void **state)
{
    test_t *self = *state;

    (void)renew(self, 77, 60000);
    (void)renew(self, 78, 0);
    pg_fixture_does(&self->db, "UPDATE convo_lease SET until = now() - interval '1 day'");
    assert_true(renew(self, 79, 1000));
    assert_int_equal(count_rows(self, "convo_lease"), 1);
}

static void
two_that_take_over_at_the_same_moment_share(void **state)
{
    test_t *self = *state;
    convo_store_t *other = test_open(self, STORE_WRITE);
    size_t n = 0, m = 0;

    for (unsigned i = 1; i <= 4; i++) {
        store_add_conversation(self->store, i, "t");
        (void)store_ask(self->store, i, i, "q");
    }
    store_begin(self->store);
    store_begin(other);
    assert_int_equal(
        self->store->api->answer_take_over(self->store, 98, 3, count_one, &n), RC_OK);
    assert_int_equal(other->api->answer_take_over(other, 99, 10, count_one, &m), RC_OK);
    store_commit(self->store);
    store_commit(other);
    assert_int_equal(n, 3);
    assert_int_equal(m, 1);
    assert_int_equal(count_rows(self, "answer WHERE term = 2"), 4);
    convo_store_destroy(&other);
}

static void
an_owner_that_comes_back_is_refused_by_the_term(void **state)
{
    test_t *self = *state;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "q");
    assert_int_equal(take_over(self->store, 10), 1);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_STALE);
    assert_int_equal(count_rows(self, "chunk"), 0);
}

/* --- opening ------------------------------------------------------------------------------------- */

static void
several_processes_that_start_at_once_all_have_a_store(void **state)
{
    test_t *self = *state;
    pid_t pids[3];
    int status;

    convo_store_destroy(&self->store);
    pg_fixture_does(&self->db,
                    "DROP TABLE convo_meta, convo_list, convo_lease, conversation,"
                    " convo_question, answer, answer_chunk, llmb_schema,"
                    " llmb_writer");
    for (size_t i = 0; i < SVC_COUNT(pids); i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            char *error = NULL;
            convo_store_t *store = convo_store_open(&self->place, STORE_WRITE, NULL,
                                                    &error);

            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(store != NULL && ask_as_a_writer(store, 1, 1) == RC_NOT_FOUND ? 0 : 1);
        }
    }
    for (size_t i = 0; i < SVC_COUNT(pids); i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    self->store = test_open(self, STORE_WRITE);
}

static void
the_first_of_two_keys_is_the_one_that_seals(void **state)
{
    test_t *self = *state;
    convo_store_t *other = test_open(self, STORE_WRITE);
    static const uint8_t key[SVC_SECRET_BYTES] = "another key of 32 bytes ........";
    seal_t seal;

    seal_init(&seal, key);
    store_begin(self->store);
    assert_int_equal(seal_check(&self->folder.seal, self->store), RC_OK);
    store_begin(other);
    assert_int_equal(seal_check(&seal, other), RC_BUSY); /* it is about to be decided */
    other->api->rollback(other);
    store_commit(self->store);
    store_begin(other);
    assert_int_equal(seal_check(&seal, other), RC_INVALID);
    other->api->rollback(other);
    convo_store_destroy(&other);
}

/* --- the network ---------------------------------------------------------------------------------- */

/* A store of the same database through a proxy. */
static convo_store_t *
open_by_proxy(test_t *self, pg_proxy_t *proxy, char url[PG_URL_BYTES])
{
    convo_place_t place = self->place;
    char *error = NULL;
    convo_store_t *store;

    proxy_open(proxy, &self->db, url);
    place.url = url;
    store = convo_store_open(&place, STORE_WRITE, NULL, &error);
    assert_non_null(store);
    return store;
}

static void
a_commit_that_nobody_answered_is_what_the_rows_say(void **state)
{
    static const int modes[] = {PROXY_CUT_BEFORE, PROXY_CUT_WITH, PROXY_CUT_AFTER};
    test_t *self = *state;
    char url[PG_URL_BYTES];
    pg_proxy_t proxy;
    convo_store_t *store = open_by_proxy(self, &proxy, url);

    for (unsigned i = 1; i <= 30; i++) {
        answer_row_t answer;
        svc_rc rc;

        store_add_conversation(self->store, i, "t");
        atomic_store(&proxy.mode, modes[i % 3]);
        rc = ask_as_a_writer(store, i, i);
        assert_true(rc == RC_OK || rc == RC_UNAVAILABLE);
        assert_int_equal(get_answer(self->store, i, &answer),
                         rc == RC_OK ? RC_OK : RC_NOT_FOUND);
        if (modes[i % 3] == PROXY_CUT_AFTER)
            assert_int_equal(rc, RC_OK);
        if (modes[i % 3] == PROXY_CUT_BEFORE)
            assert_int_equal(rc, RC_UNAVAILABLE);
    }
    convo_store_destroy(&store);
    proxy_close(&proxy);
}

static void
a_reader_goes_on_when_it_asks_once_more(void **state)
{
    test_t *self = *state;
    convo_store_t *reader = test_open(self, STORE_READ);
    conversation_row_t row;

    store_add_conversation(self->store, 1, "t");
    assert_int_equal(reader->api->begin(reader, false), RC_OK);
    assert_int_equal(reader->api->conversation_get(reader, 1, copy_conversation, &row),
                     RC_OK);
    free_conversation(&row);
    pg_fixture_does(&self->db,
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND application_name ="
                    " 'convo-svc reader' AND pid IN (SELECT pid FROM pg_locks"
                    " WHERE relation = 'conversation'::regclass)");
    assert_int_equal(reader->api->conversation_get(reader, 1, copy_conversation, &row),
                     RC_UNAVAILABLE);
    reader->api->rollback(reader);
    assert_int_equal(reader->api->begin(reader, false), RC_OK);
    assert_int_equal(reader->api->conversation_get(reader, 1, copy_conversation, &row),
                     RC_OK);
    free_conversation(&row);
    reader->api->rollback(reader);
    convo_store_destroy(&reader);
}

int
main(void)
{
    struct CMUnitTest tests[] = {
        POSTGRESQL(of_all_who_ask_one_conversation_at_once_one_may),
        POSTGRESQL(who_waited_for_anothers_question_finds_its_answer),
        POSTGRESQL(a_conflict_leaves_the_transaction_usable),
        POSTGRESQL(a_conversation_deleted_while_a_step_is_under_way_leaves_nothing),
        POSTGRESQL(somebody_who_stands_still_with_a_lock_is_thrown_out),
        POSTGRESQL(what_is_taken_for_granted_is_there_when_it_is_settled),
        POSTGRESQL(one_look_is_good_for_one_question),
        POSTGRESQL(what_was_not_granted_is_told_and_leaves_nothing),
        POSTGRESQL(who_looks_beforehand_at_what_a_step_ends_sees_it_ended),
        POSTGRESQL(a_lease_holds_until_its_time_is_over_or_it_is_given_back),
        POSTGRESQL(answers_of_who_has_a_lease_are_left_alone),
        POSTGRESQL(leases_long_over_are_forgotten),
        POSTGRESQL(two_that_take_over_at_the_same_moment_share),
        POSTGRESQL(an_owner_that_comes_back_is_refused_by_the_term),
        POSTGRESQL(several_processes_that_start_at_once_all_have_a_store),
        POSTGRESQL(the_first_of_two_keys_is_the_one_that_seals),
        POSTGRESQL(a_commit_that_nobody_answered_is_what_the_rows_say),
        POSTGRESQL(a_reader_goes_on_when_it_asks_once_more),
    };

    return run_stores("tests", tests, SVC_COUNT(tests));
}
