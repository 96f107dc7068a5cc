/* workers_fixture.h - the writer and the readers of convo-svc in real pools, and jobs for them.
 *
 * A test submits encoded jobs as the front thread does, and gets result and body of each by its tag. */
#ifndef TESTS_UNIT_CONVO_SVC_WORKERS_FIXTURE_H
#define TESTS_UNIT_CONVO_SVC_WORKERS_FIXTURE_H

#include "convo_fixture.h"
#include "tests/unit/svc/pg_fixture.h"

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
    pg_fixture_t db; /* PostgreSQL: its schema */
    svc_pool_t *writer, *reader;
    convo_workers_t others; /* of another replica */
    svc_pool_t *other;      /* its writer; NULL: there is none */
    proto_arena_t *arena;
    result_t results[RESULTS_MAX]; /* by tag */
    size_t n_done, wanted;
} test_t;

static inline svc_pool_t *
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

static inline int
setup_driver(void **state, int driver)
{
    test_t *self = svc_alloc(sizeof(*self));
    char *error = NULL;

    fixture_open(&self->fixture, "convo-svc");
    folder_open(&self->folder);
    self->folder.workers.place.path = self->folder.db;
    if (driver == SVC_STORAGE_POSTGRESQL) {
        pg_fixture_open(&self->db);
        self->folder.workers.place = (convo_place_t){.driver = driver,
                                                     .url = self->db.url};
    }
    self->folder.workers.metrics = self->fixture.ctx.metrics;
    self->arena = proto_arena_new();
    self->writer = open_pool(self, true, &error);
    assert_non_null(self->writer);
    self->reader = open_pool(self, false, &error);
    assert_non_null(self->reader);
    *state = self;
    return 0;
}

static inline int
setup(void **state)
{
    return setup_driver(state, SVC_STORAGE_SQLITE);
}

static inline int
setup_postgresql(void **state)
{
    return setup_driver(state, SVC_STORAGE_POSTGRESQL);
}

/* Starts the writer of another replica, whose instance is 78. */
static inline void
open_other(test_t *self)
{
    convo_workers_t ours = self->folder.workers;
    char *error = NULL;

    self->others = ours;
    self->others.instance = 78;
    self->folder.workers = self->others;
    self->other = open_pool(self, true, &error);
    assert_non_null(self->other);
    self->folder.workers = ours;
}

static inline void
forget_results(test_t *self)
{
    for (size_t i = 0; i < RESULTS_MAX; i++)
        free((char *)(uintptr_t)self->results[i].body.p);
    memset(self->results, 0, sizeof(self->results));
    self->n_done = 0;
}

static inline int
teardown(void **state)
{
    test_t *self = *state;

    svc_pool_destroy(&self->other);
    svc_pool_destroy(&self->reader);
    svc_pool_destroy(&self->writer);
    if (self->folder.workers.place.driver == SVC_STORAGE_POSTGRESQL)
        pg_fixture_close(&self->db);
    forget_results(self);
    proto_arena_destroy(&self->arena);
    folder_close(&self->folder);
    fixture_close(&self->fixture);
    free(self);
    return 0;
}

static inline void
on_done(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    test_t *self = arg;

    free((char *)(uintptr_t)self->results[tag].body.p); /* a tag may come twice */
    self->results[tag].rc = rc;
    self->results[tag].body = (svc_str){svc_str_dup(result), result.n};
    self->n_done++;
}

static inline bool
all_done(void *arg)
{
    const test_t *self = arg;

    return self->n_done >= self->wanted;
}

static inline void
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

static inline void
wait_for(test_t *self, size_t n)
{
    self->wanted = n;
    fixture_run_until(&self->fixture, all_done, self);
}

/* Does one job; a result that is RC_OK is decoded into `out` (NULL: it is not wanted). */
static inline svc_rc
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

static inline uint64_t
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

static inline svc_rc
ask(test_t *self, uint64_t user, uint64_t conversation, unsigned stream, const char *text,
    answer_row_t *out)
{
    char room[PROTO_STREAM_BYTES];
    ask_req_t req = {.user = user,
                     .conversation = conversation,
                     .text = svc_str_c(text),
                     .stream = stream_of(room, stream)};

    return run(self, self->writer, WRITE_ASK, &ask_req_schema, &req, &answer_row_schema,
               out);
}

static inline svc_rc
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

static inline void
limit_files(rlim_t bytes)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

#endif
