/* service_calls.h - what the tests of the whole convo-svc say to it, and what they wait for.
 *
 * The gateway's requests and the played llm-svc's state, on top of service_fixture.h; every test has
 * a service of its own. Included by the tests of convo.c only. */
#ifndef TESTS_UNIT_CONVO_SVC_SERVICE_CALLS_H
#define TESTS_UNIT_CONVO_SVC_SERVICE_CALLS_H

#include "service_fixture.h"

#include "svc/svc_server_call.h"

#include <semaphore.h>
#include <sqlite3.h>

typedef struct {
    service_t service; /* first */
    outcome_t a, b, c; /* calls at the same time */
    svc_config_t
        config; /* as it was at first: a test may point into its own frame meanwhile */
    char room[PROTO_STREAM_BYTES];
    sem_t go;                    /* posted once for each job that the stuck pool may do */
    svc_pool_t *stuck;           /* stands for writer and reader; NULL: does not */
    svc_pool_t *writer, *reader; /* the right ones meanwhile */
} test_t;

/* --- workers that are stuck -------------------------------------------------------------------- */

static inline void *
stuck_open(void *arg, char **error)
{
    (void)error;
    return arg;
}

static inline void
stuck_work(void *state, svc_job_t *const *jobs, size_t n)
{
    test_t *self = state;

    for (size_t i = 0; i < n; i++) {
        while (sem_wait(&self->go) != 0)
            ;
        svc_job_done(jobs[i], RC_OK, (svc_str){NULL, 0});
    }
}

static inline void
ignore_result(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    (void)arg;
    (void)tag;
    (void)rc;
    (void)result;
}

/* From now on writer and readers refuse whatever handlers give them: a pool stands for both whose one thread is held and whose
 * queue is full. (Live answers go on as they were.) */
static inline void
stick_workers(test_t *self)
{
    static const svc_pool_config_t config = {.name = "stuck",
                                             .threads = 1,
                                             .max_queued = 1,
                                             .max_batch = 1,
                                             .open = stuck_open,
                                             .work = stuck_work};
    convo_t *convo = self->service.convo;
    char *error = NULL;

    assert_int_equal(sem_init(&self->go, 0, 0), 0);
    self->stuck = svc_pool_new(&self->service.fixture.ctx, &config, self, &error);
    assert_non_null(self->stuck);
    self->writer = convo->writer;
    self->reader = convo->reader;
    convo->writer = convo->reader = self->stuck;
    for (int i = 0; i < 2; i++) /* one runs, one waits */
        assert_int_equal(
            svc_pool_submit(self->stuck, 0, SVC_LIT("x"), ignore_result, NULL, 0), RC_OK);
}

static inline void
free_workers(test_t *self)
{
    self->service.convo->writer = self->writer;
    self->service.convo->reader = self->reader;
    (void)sem_post(&self->go);
    (void)sem_post(&self->go);
    svc_pool_destroy(&self->stuck);
    (void)sem_destroy(&self->go);
}

/* --- life -------------------------------------------------------------------------------------- */

static inline int
setup_with(void **state, const char *more, bool with_llm)
{
    test_t *self = svc_alloc(sizeof(*self));

    service_open(&self->service, more, with_llm);
    self->config = *self->service.config;
    *state = self;
    return 0;
}

static inline int
setup(void **state)
{
    return setup_with(state, "", true);
}

static inline int
setup_without_llm(void **state)
{
    return setup_with(state, "", false);
}

static inline int
setup_with_dead_redis(void **state)
{
    return setup_with(state, "redis: {address: \"127.0.0.1:1\"}\n", true);
}

static inline int
teardown(void **state)
{
    test_t *self = *state;

    if (self->stuck != NULL)
        free_workers(self); /* the test has failed */
    convo_destroy(&self->service.convo);
    *self->service.config = self->config;
    service_close(&self->service);
    outcome_clear(&self->a);
    outcome_clear(&self->b);
    outcome_clear(&self->c);
    free(self);
    return 0;
}

/* --- requests --------------------------------------------------------------------------------- */

static inline uint64_t
create(test_t *self, const char *title)
{
    create_req_t req = {.user = USER,
                        .title = svc_str_c(title),
                        .model = SVC_LIT("echo"),
                        .api_key = SVC_LIT("sk-mine")};
    const seen_t *seen = service_call(&self->service, OP_CONVO_CREATE, &create_req_schema,
                                      &req, &create_rep_schema, &self->c);

    assert_int_equal(seen->rc, RC_OK);
    assert_true(seen->b > 1600000000);
    return seen->a;
}

static inline void
send_ask(test_t *self, uint64_t user, uint64_t conversation, unsigned stream,
         const char *text, outcome_t *out)
{
    ask_req_t req = {.user = user,
                     .conversation = conversation,
                     .text = svc_str_c(text),
                     .stream = stream_of(self->room, stream)};

    service_send(&self->service, OP_CONVO_ASK, &ask_req_schema, &req, &status_rep_schema,
                 out);
}

static inline void
send_watch(test_t *self, uint64_t user, uint64_t conversation, unsigned stream,
           outcome_t *out)
{
    watch_req_t req = {user, conversation,
                       stream == 0 ? (svc_str){NULL, 0} : stream_of(self->room, stream)};

    service_send(&self->service, OP_CONVO_WATCH, &watch_req_schema, &req,
                 &status_rep_schema, out);
}

static inline const seen_t *
history(test_t *self, uint64_t user, uint64_t conversation)
{
    history_req_t req = {.user = user, .conversation = conversation};

    return service_call(&self->service, OP_CONVO_HISTORY, &history_req_schema, &req,
                        &history_rep_schema, &self->c);
}

static inline const seen_t *
on_conversation(test_t *self, const char *op, uint64_t user, uint64_t conversation)
{
    conversation_req_t req = {user, conversation};
    const proto_schema_t *rep = strcmp(op, OP_CONVO_STOP) == 0 ? &status_rep_schema
                                                               : &empty_schema;

    return service_call(&self->service, op, &conversation_req_schema, &req, rep,
                        &self->c);
}

static inline const seen_t *
read_text(test_t *self, uint64_t user, unsigned stream, uint64_t from)
{
    read_req_t req = {user, stream_of(self->room, stream), from};

    return service_call(&self->service, OP_CONVO_READ, &read_req_schema, &req,
                        &read_rep_schema, &self->c);
}

/* --- a database that somebody else has locked ------------------------------------------------ */

static inline sqlite3 *
lock_database(test_t *self)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(self->service.folder.db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

static inline void
unlock_database(sqlite3 *db)
{
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(db);
}

/* --- what is waited for ----------------------------------------------------------------------- */

static inline bool
was_generated(void *arg)
{
    const test_t *self = arg;

    return self->service.llm.generates > 0 && self->service.llm.call != 0;
}

static inline bool
was_generated_twice(void *arg)
{
    const test_t *self = arg;

    return self->service.llm.generates > 1 && self->service.llm.call != 0;
}

static inline bool
was_attached(void *arg)
{
    const test_t *self = arg;

    return self->service.llm.attaches > 0 && self->service.llm.call != 0;
}

static inline bool
was_stored(void *arg)
{
    return ((test_t *)arg)->service.llm.stored;
}

static inline bool
was_stopped(void *arg)
{
    return ((test_t *)arg)->service.llm.stops > 0;
}

static inline bool
acked_five(void *arg)
{
    return ((test_t *)arg)->service.llm.journaled == 5;
}

/*
 * Asks "hello" as stream 1 (self->a) and waits until llm-svc has it. What llm-svc saw of an
 * earlier question is forgotten before: it would be taken for this one's.
 */
static inline void
ask_and_wait(test_t *self, uint64_t conversation)
{
    self->service.llm.generates = 0;
    self->service.llm.call = 0;
    self->service.llm.journaled = 0;
    self->service.llm.stored = false;
    send_ask(self, USER, conversation, 1, "hello", &self->a);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
    assert_int_equal(self->a.seen[0].kind, PROTO_PARTIAL);
    assert_int_equal(self->a.seen[0].status.state, ANSWER_WAITING);
    fixture_run_until(&self->service.fixture, was_generated, self);
}

static inline bool
writer_is_idle(void *arg)
{
    const test_t *self = arg;

    return svc_pool_load(self->service.convo->writer) == 0;
}

static inline bool
llm_is_down(void *arg)
{
    const test_t *self = arg;

    return !svc_peers_is_up(self->service.convo->llm);
}

static inline bool
writer_works(void *arg)
{
    const test_t *self = arg;

    return svc_pool_load(self->service.convo->writer) > 0;
}

/* The answer of stream 1 is lost, and its tail wanted. */
static inline bool
takes_tails(void *arg)
{
    test_t *self = arg;
    const answer_t *answer = answers_by_stream(self->service.convo->answers,
                                               stream_of(self->room, 1));

    return answer != NULL && answer->phase == PHASE_TAIL;
}

/* Tails of an answer, if it lives, are taken until then (monotonic) and not for as short as usual: this machine may stand still. */
static inline void
take_tails_until(test_t *self, unsigned stream, uint64_t ms)
{
    answer_t *answer = answers_by_stream(self->service.convo->answers,
                                         stream_of(self->room, stream));

    if (answer != NULL)
        answer->tail_ms = ms;
}

/* llm-svc is lost: tails are taken for a second, as convo-svc has it; here for longer. */
static inline void
lose_llm_and_take_tails(test_t *self)
{
    const uint64_t lost_ms = svc_loop_now_ms(self->service.fixture.ctx.loop);
    const answer_t *answer;

    service_stop_llm(&self->service);
    fixture_run_until(&self->service.fixture, takes_tails, self);
    answer = answers_by_stream(self->service.convo->answers, stream_of(self->room, 1));
    assert_in_range(answer->tail_ms, lost_ms + 1000, svc_mono_ms() + 1000);
    take_tails_until(self, 1, svc_mono_ms() + 60000);
}

/* Forgets the call that came last, as when its caller has gone. */
static inline void
drop_latest_call(test_t *self)
{
    svc_server_t *server = self->service.convo->server;
    svc_call_t *call = NULL;

    for (uint64_t id = server->handles; id > 0 && call == NULL; id--)
        call = svc_server_call(server, id);
    assert_non_null(call);
    svc_call_drop(call);
}

/* The same, and "Hello" is journaled. */
static inline void
ask_and_stream(test_t *self, uint64_t conversation)
{
    ask_and_wait(self, conversation);
    service_llm_piece(&self->service, 0, "Hello");
    fixture_run_until(&self->service.fixture, acked_five, self);
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_STREAMING);
}

#endif
