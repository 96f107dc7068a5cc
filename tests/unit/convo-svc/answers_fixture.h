/* answers_fixture.h - the table of live answers between callers, workers and an llm-svc that the test plays.
 *
 * No database: the writer's and the readers' pools are real threads that say what the test wants,
 * at once or when it lets them go. Callers and llm-svc talk over real sockets, as in
 * service_fixture.h, whose parts are used here without its convo-svc. */
#ifndef TESTS_UNIT_CONVO_SVC_ANSWERS_FIXTURE_H
#define TESTS_UNIT_CONVO_SVC_ANSWERS_FIXTURE_H

#include "service_fixture.h"

#include "convo-svc/answers.h"
#include "svc/svc_server_call.h"

#include <pthread.h>

#define PLAYED_QUEUE_MAX 4 /* jobs that wait for a played worker */
#define NOTHING          ((svc_str){NULL, 0})
#define KINDS_MAX        16

/* What a played worker was given last. */
typedef struct {
    answer_step_t step;    /* views are void */
    char bytes[100];       /* of the step */
    restart_job_t restart; /* views are void */
    svc_until_t until;     /* of the last stop */
} played_seen_t;

/* What a played worker does with its jobs. */
typedef struct {
    pthread_mutex_t mutex;  /* guards all below but for pool */
    pthread_cond_t changed; /* is_held has changed */
    bool is_held;           /* jobs wait here */
    svc_rc rc;              /* of every job but a look at a row */
    svc_rc look_rc;         /* of that */
    uint64_t look_term;     /* of the row that is seen then */
    int look_state;         /* likewise */
    size_t n[KINDS_MAX];    /* jobs begun, by kind */
    played_seen_t seen;
    bool writes;      /* the writer's kinds, not the readers' */
    svc_pool_t *pool; /* owned */
} played_pool_t;

typedef struct {
    service_t service; /* first; its convo is NULL */
    answers_t *answers;
    svc_server_t *server; /* that callers watch by */
    svc_peers_t *llm;     /* convo-svc's side */
    played_pool_t writer, reader;
    outcome_t a, b, c; /* calls at the same time */
    uint64_t probe;    /* handle of a kept call that is not a watcher */
    char room[PROTO_STREAM_BYTES];
} test_t;

/* --- workers ---------------------------------------------------------------------------------- */

static inline void *
played_open(void *arg, char **error)
{
    (void)error;
    return arg;
}

static inline void
played_lock(played_pool_t *self)
{
    SVC_ASSERT(pthread_mutex_lock(&self->mutex) == 0);
}

static inline void
played_unlock(played_pool_t *self)
{
    SVC_ASSERT(pthread_mutex_unlock(&self->mutex) == 0);
}

/* Appends the prompt that a job asks for. */
static inline void
played_prompt(const prompt_job_t *job, svc_buf_t *out)
{
    prompt_message_t message = {ROLE_USER, SVC_LIT("hello")};
    generate_req_t req = {.stream = job->stream,
                          .fence = job->fence,
                          .term = 1,
                          .model = SVC_LIT("echo"),
                          .messages = {&message, 1}};

    SVC_ASSERT(proto_encode(&generate_req_schema, &req, out) == RC_OK);
}

/* Appends the row that a look is to see. */
static inline void
played_row(const played_pool_t *self, const watch_req_t *req, svc_buf_t *out)
{
    answer_row_t row = {.stream = req->stream,
                        .user = req->user,
                        .conversation = req->conversation,
                        .message = 2,
                        .state = self->look_state,
                        .term = self->look_term,
                        .owner = 600 + self->look_term,
                        .fence = 100 + (unsigned char)req->stream.p[0],
                        .attempt = 1}; /* the fence as add_answer() has it */

    SVC_ASSERT(proto_encode(&answer_row_schema, &row, out) == RC_OK);
}

/* Notes a job; appends what it gives. */
static inline void
played_note(played_pool_t *self, const svc_job_t *job, proto_arena_t *arena,
            svc_buf_t *out)
{
    svc_str payload = svc_job_payload(job);
    uint32_t kind = svc_job_kind(job);
    answer_step_t *step = &self->seen.step;
    prompt_job_t prompt;
    watch_req_t look;

    if (!self->writes && kind == READ_STATUS &&
        proto_decode(&watch_req_schema, payload, arena, &look) == RC_OK)
        played_row(self, &look, out);
    if (!self->writes && kind == READ_PROMPT &&
        proto_decode(&prompt_job_schema, payload, arena, &prompt) == RC_OK)
        played_prompt(&prompt, out);
    if (self->writes && kind == WRITE_STEP &&
        proto_decode(&answer_step_schema, payload, arena, step) == RC_OK)
        snprintf(self->seen.bytes, sizeof(self->seen.bytes), "%.*s", (int)step->bytes.n,
                 step->bytes.n == 0 ? "" : step->bytes.p);
    if (self->writes && kind == WRITE_RESTART)
        SVC_ASSERT(proto_decode(&restart_job_schema, payload, arena,
                                &self->seen.restart) == RC_OK);
    if (self->writes && kind == WRITE_STOP)
        self->seen.until = svc_job_until(job);
    self->n[kind]++;
}

static inline void
played_work(void *state, svc_job_t *const *jobs, size_t n)
{
    played_pool_t *self = state;
    proto_arena_t *arena = proto_arena_new();

    for (size_t i = 0; i < n; i++) {
        svc_buf_t out;

        svc_buf_init(&out, 4096);
        played_lock(self);
        if (svc_job_payload(jobs[i]).n > 1) /* else it only fills the queue */
            played_note(self, jobs[i], arena, &out);
        while (self->is_held)
            SVC_ASSERT(pthread_cond_wait(&self->changed, &self->mutex) == 0);
        svc_job_done(jobs[i],
                     !self->writes && svc_job_kind(jobs[i]) == READ_STATUS ? self->look_rc
                                                                           : self->rc,
                     svc_buf_str(&out));
        played_unlock(self);
        svc_buf_fini(&out);
    }
    proto_arena_destroy(&arena);
}

/* What jobs give from now on. */
static inline void
played_say(played_pool_t *self, svc_rc rc)
{
    played_lock(self);
    self->rc = rc;
    played_unlock(self);
}

/* What a look at a row sees from now on. */
static inline void
played_show(played_pool_t *self, svc_rc rc, uint64_t term, int state)
{
    played_lock(self);
    self->look_rc = rc;
    self->look_term = term;
    self->look_state = state;
    played_unlock(self);
}

/* Jobs wait from now on, or go on. */
static inline void
played_hold(played_pool_t *self, bool is_held)
{
    played_lock(self);
    self->is_held = is_held;
    SVC_ASSERT(pthread_cond_broadcast(&self->changed) == 0);
    played_unlock(self);
}

/* How many jobs of a kind have begun. */
static inline size_t
played_count(played_pool_t *self, uint32_t kind)
{
    size_t n;

    played_lock(self);
    n = self->n[kind];
    played_unlock(self);
    return n;
}

static inline played_seen_t
played_last(played_pool_t *self)
{
    played_seen_t seen;

    played_lock(self);
    seen = self->seen;
    played_unlock(self);
    return seen;
}

static inline void
played_ignore(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    (void)arg;
    (void)tag;
    (void)rc;
    (void)result;
}

/* Fills the queue of a pool that is held, so that one more job is refused. */
static inline void
played_fill(played_pool_t *self)
{
    while (svc_pool_submit(self->pool, 0, SVC_LIT("x"), played_ignore, NULL, 0) == RC_OK)
        ;
}

static inline void
played_start(played_pool_t *self, svc_ctx_t *ctx, const char *name)
{
    svc_pool_config_t config = {.name = name,
                                .threads = 1,
                                .max_queued = PLAYED_QUEUE_MAX,
                                .max_batch = 1,
                                .open = played_open,
                                .work = played_work};
    char *error = NULL;

    self->rc = RC_OK;
    self->writes = strcmp(name, "writer") == 0;
    assert_int_equal(pthread_mutex_init(&self->mutex, NULL), 0);
    assert_int_equal(pthread_cond_init(&self->changed, NULL), 0);
    self->pool = svc_pool_new(ctx, &config, self, &error);
    assert_non_null(self->pool);
}

static inline void
played_end(played_pool_t *self)
{
    played_hold(self, false);
    svc_pool_destroy(&self->pool);
    (void)pthread_cond_destroy(&self->changed);
    (void)pthread_mutex_destroy(&self->mutex);
}

/* --- callers ---------------------------------------------------------------------------------- */

static inline svc_rc
on_watch(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    test_t *self = arg;
    const watch_req_t *req = arg_req;
    answer_t *answer = answers_by_conversation(self->answers, req->conversation);
    svc_rc rc;

    (void)rep;
    if (answer == NULL)
        return RC_NOT_FOUND;
    rc = answers_watch(self->answers, answer, call);
    return rc == RC_OK ? RC_LATER : rc;
}

static inline svc_rc
on_watch_end(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    test_t *self = arg;
    const conversation_req_t *req = arg_req;
    answer_t *answer = answers_by_conversation(self->answers, req->conversation);
    svc_rc rc;

    (void)rep;
    if (answer == NULL)
        return RC_NOT_FOUND;
    rc = answers_watch_end(self->answers, answer, call);
    return rc == RC_OK ? RC_LATER : rc;
}

static inline svc_rc
on_probe(void *arg, svc_call_t *call, const void *req, void *rep)
{
    test_t *self = arg;

    (void)req;
    (void)rep;
    self->probe = svc_call_id(call);
    return RC_LATER;
}

// clang-format off
static const svc_op_t answers_test_ops[] = {
    {OP_CONVO_WATCH, &watch_req_schema,        &status_rep_schema, on_watch,     SVC_GATEWAY, 60000},
    {OP_CONVO_STOP,  &conversation_req_schema, &status_rep_schema, on_watch_end, SVC_GATEWAY, 60000},
    {OP_CONVO_LIST,  &list_req_schema,         &list_rep_schema,   on_probe,     SVC_GATEWAY, 60000},
    {0},
};
// clang-format on

/* Watches the answer of a conversation; the first status is there when it returns. */
static inline void
watch(test_t *self, uint64_t conversation, outcome_t *out)
{
    watch_req_t req = {.user = USER, .conversation = conversation};

    service_send(&self->service, OP_CONVO_WATCH, &watch_req_schema, &req,
                 &status_rep_schema, out);
    assert_int_equal(service_wait(&self->service, out, 1)->kind, PROTO_PARTIAL);
}

static inline void
send_watch_end(test_t *self, uint64_t conversation, outcome_t *out)
{
    conversation_req_t req = {USER, conversation};

    service_send(&self->service, OP_CONVO_STOP, &conversation_req_schema, &req,
                 &status_rep_schema, out);
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Adds the answer of stream `n` to conversation `n`. */
static inline answer_t *
add_answer(test_t *self, unsigned n, int state, uint64_t length, bool is_known)
{
    answer_row_t row = {.stream = stream_of(self->room, n),
                        .user = USER,
                        .conversation = n,
                        .message = 2,
                        .state = state,
                        .term = 1,
                        .fence = 100 + n,
                        .attempt = 1,
                        .length = length,
                        .asked_ms = svc_unix_ms()};

    return answers_add(self->answers, &row, is_known);
}

static inline answer_t *
by_stream(test_t *self, unsigned n)
{
    return answers_by_stream(self->answers, stream_of(self->room, n));
}

static inline bool
llm_was_asked(void *arg)
{
    const test_t *self = arg;

    return self->service.llm.generates + self->service.llm.attaches > 0 &&
           self->service.llm.call != 0;
}

static inline bool
llm_may_forget(void *arg)
{
    return ((const test_t *)arg)->service.llm.stored;
}

static inline bool
no_answer_lives(void *arg)
{
    return answers_count(((const test_t *)arg)->answers) == 0;
}

static inline bool
llm_is_up(void *arg)
{
    return svc_peers_is_up(((const test_t *)arg)->llm);
}

static inline bool
llm_is_away(void *arg)
{
    return !llm_is_up(arg);
}

static inline bool
acked_five(void *arg)
{
    return ((const test_t *)arg)->service.llm.journaled == 5;
}

static inline bool
was_acked(void *arg)
{
    return ((const test_t *)arg)->service.llm.acks > 0;
}

static inline bool
writer_is_idle(void *arg)
{
    return svc_pool_load(((const test_t *)arg)->writer.pool) == 0;
}

static inline bool
reader_is_idle(void *arg)
{
    return svc_pool_load(((const test_t *)arg)->reader.pool) == 0;
}

static inline bool
writer_is_working(void *arg)
{
    test_t *self = arg;

    return played_count(&self->writer, WRITE_STEP) > 0;
}

static inline bool
reader_is_working(void *arg)
{
    test_t *self = arg;

    return played_count(&self->reader, READ_PROMPT) > 0;
}

#define run_until(self, cond) fixture_run_until(&(self)->service.fixture, (cond), (self))

/* Adds an answer, begins it and waits until llm-svc has its generate call. */
static inline answer_t *
begin_answer(test_t *self, unsigned n)
{
    answer_t *answer = add_answer(self, n, ANSWER_WAITING, 0, true);

    self->service.llm.call = 0;
    answers_begin(self->answers, answer, NOTHING, NOTHING);
    run_until(self, llm_was_asked);
    return answer;
}

/* --- life ------------------------------------------------------------------------------------- */

static inline int
setup_with(void **state, bool with_llm)
{
    test_t *self = svc_alloc(sizeof(*self));
    service_t *service = &self->service;
    char endpoint[64];
    char *error = NULL;

    static const svc_config_t config; /* no test switch is on */

    fixture_open(&service->fixture, "convo-svc");
    service->fixture.ctx.config = &config;
    folder_open(&service->folder);
    service->config = svc_config_parse(SVC_LIT(""), "test", false, &error);
    assert_non_null(service->config);
    service->fixture.ctx.config = service->config;
    service->port = fixture_free_port();
    service->llm.port = fixture_free_port();
    service->llm.answer = RC_LATER;
    played_start(&self->writer, &service->fixture.ctx, "writer");
    played_start(&self->reader, &service->fixture.ctx, "reader");
    self->answers = answers_new(&service->fixture.ctx);
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", service->port);
    assert_int_equal(svc_server_new(&service->fixture.ctx, endpoint, answers_test_ops,
                                    self, &self->server, &error),
                     RC_OK);
    if (with_llm)
        service_start_llm(service, 500);
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", service->llm.port);
    self->llm = svc_peers_new(&service->fixture.ctx, "llm-svc", endpoint, answers_on_llm,
                              self->answers, &error);
    assert_non_null(self->llm);
    answers_set(self->answers, self->server, self->writer.pool, self->reader.pool,
                self->llm);
    service_connect(service, "gateway");
    if (with_llm)
        run_until(self, llm_is_up);
    *state = self;
    return 0;
}

static inline int
setup(void **state)
{
    return setup_with(state, true);
}

static inline int
setup_without_llm(void **state)
{
    return setup_with(state, false);
}

static inline int
teardown(void **state)
{
    test_t *self = *state;

    answers_destroy(&self->answers);
    svc_peers_destroy(&self->llm);
    svc_server_destroy(&self->server);
    played_end(&self->reader);
    played_end(&self->writer);
    service_close(&self->service);
    outcome_clear(&self->a);
    outcome_clear(&self->b);
    outcome_clear(&self->c);
    free(self);
    return 0;
}

#endif
