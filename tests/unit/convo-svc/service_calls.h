/* service_calls.h - what the tests of the whole convo-svc say to it, and what they wait for.
 *
 * The gateway's requests and the played llm-svc's state, on top of service_fixture.h; every test has
 * a service of its own. Included by the tests of convo.c only. */
#ifndef TESTS_UNIT_CONVO_SVC_SERVICE_CALLS_H
#define TESTS_UNIT_CONVO_SVC_SERVICE_CALLS_H

#include "service_fixture.h"

typedef struct {
    service_t service; /* first */
    outcome_t a, b, c; /* calls at the same time */
    char room[PROTO_STREAM_BYTES];
} test_t;

static inline int
setup_with(void **state, const char *more, bool with_llm)
{
    test_t *self = svc_alloc(sizeof(*self));

    service_open(&self->service, more, with_llm);
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
    create_req_t req = {USER, svc_str_c(title), SVC_LIT("echo"), SVC_LIT("sk-mine")};
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
    ask_req_t req = {user, conversation, svc_str_c(text), stream_of(self->room, stream)};

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

/* Asks "hello" as stream 1 (self->a) and waits until llm-svc has it. */
static inline void
ask_and_wait(test_t *self, uint64_t conversation)
{
    send_ask(self, USER, conversation, 1, "hello", &self->a);
    assert_int_equal(service_wait(&self->service, &self->a, 1)->rc, RC_OK);
    assert_int_equal(self->a.seen[0].kind, PROTO_PARTIAL);
    assert_int_equal(self->a.seen[0].status.state, ANSWER_WAITING);
    fixture_run_until(&self->service.fixture, was_generated, self);
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
