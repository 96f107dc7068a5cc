/* peers_bench.h - a set of peers under test, and the replicas it meets: bare ROUTERs that do as told.
 *
 * A replica answers hello and pings with its instance while it is not silent; calls it keeps until
 * the test has it answer, or answers at once. Everything runs on one loop. Pings go out faster
 * than usual; how long silence may last, a test shortens itself when it wants the end of it, so
 * that a busy machine never looks silent. Included by the tests of svc_peers. */
#ifndef TESTS_UNIT_SVC_PEERS_BENCH_H
#define TESTS_UNIT_SVC_PEERS_BENCH_H

#include "bus_fixture.h"

#include "svc/svc_msg.h"
#include "svc/svc_peers.h"

#define REPLICAS_MAX 4
/* In which a replica answers a ping, also on a busy machine: longer than what the loop takes for standing still. */
#define PATIENT_MS   1200

typedef struct {
    svc_loop_t *loop;              /* borrowed */
    void *router;                  /* NULL: it is not there */
    char endpoint[64];             /* stays when it has gone */
    uint64_t instance;             /* it says that it is */
    bool is_silent;                /* answers nothing */
    bool is_draining;              /* says so */
    bool answers;                  /* calls at once, with their id as user */
    const char *refuses;           /* likewise, with this error */
    unsigned calls;                /* that came */
    uint64_t last_call;            /* id of the last one */
    uint64_t expires_ms, moved_ms; /* likewise */
    char trace[PROTO_TRACE_BYTES]; /* likewise */
    size_t body_n;                 /* bytes of its body */
    zmq_msg_t route;               /* likewise, where its answer goes */
} replica_t;

typedef struct {
    fixture_t fixture;      /* first: of the caller, "gateway" */
    svc_peer_times_t times; /* of the set; may be changed while it runs */
    replica_t replicas[REPLICAS_MAX];
    svc_peers_t *peers;        /* under test */
    char events[64];           /* "U1 D1 L1 …" */
    const char *wanted_events; /* to wait for */
    int replies;               /* that on_reply got */
    int wanted;                /* to wait for */
    proto_kind kind;           /* of the last reply */
    svc_rc rc;                 /* likewise */
    uint64_t value;            /* likewise: user */
    uint64_t replier;          /* likewise */
    bool ask_again;            /* on_reply calls once more */
    bool was_up;               /* svc_peers_is_up inside the last on_reply */
} peers_bench_t;

/* --- replicas --------------------------------------------------------------------------------- */

static inline void
replica_send(replica_t *self, zmq_msg_t *route, uint64_t id, proto_kind kind,
             const proto_schema_t *schema, const void *msg)
{
    const proto_envelope_t envelope = {.version = PROTO_VERSION, .kind = kind, .id = id};
    svc_buf_t message;
    svc_buf_init(&message, 10000);
    assert_int_equal(proto_envelope_encode(&envelope, &message), RC_OK);
    assert_int_equal(proto_encode(schema, msg, &message), RC_OK);
    assert_true(svc_msg_send_bytes(self->router, svc_msg_str(route), ZMQ_SNDMORE));
    assert_true(svc_msg_send_bytes(self->router, svc_buf_str(&message), 0));
    svc_buf_fini(&message);
    svc_loop_touched(self->loop, self->router);
}

/* Answers the last call. */
static inline void
replica_answer(replica_t *self, proto_kind kind)
{
    const register_rep_t rep = {.user = self->last_call};
    replica_send(self, &self->route, self->last_call, kind, &register_rep_schema, &rep);
}

static inline void
replica_refuse(replica_t *self)
{
    const error_rep_t error = {.code = svc_str_c(self->refuses)};
    replica_send(self, &self->route, self->last_call, PROTO_ERROR, &error_rep_schema,
                 &error);
}

static inline void
replica_serve(replica_t *self, zmq_msg_t *route, const proto_envelope_t *request,
              svc_str body)
{
    const hello_t hello = {.service = SVC_LIT("auth-svc"), .instance = self->instance};
    const ping_rep_t ping = {.instance = self->instance, .draining = self->is_draining};
    if (self->is_silent)
        return;
    if (svc_str_eq(request->op, SVC_LIT(OP_SVC_HELLO))) {
        replica_send(self, route, request->id, PROTO_FINAL, &hello_schema, &hello);
        return;
    }
    if (svc_str_eq(request->op, SVC_LIT(OP_SVC_PING))) {
        replica_send(self, route, request->id, PROTO_FINAL, &ping_rep_schema, &ping);
        return;
    }
    self->calls++;
    self->last_call = request->id;
    self->expires_ms = request->expires_ms;
    self->moved_ms = request->moved_ms;
    self->body_n = body.n;
    assert_int_equal(request->trace.n, sizeof(self->trace));
    memcpy(self->trace, request->trace.p, sizeof(self->trace));
    zmq_msg_copy(&self->route, route);
    if (self->answers)
        replica_answer(self, PROTO_FINAL);
    else if (self->refuses != NULL)
        replica_refuse(self);
}

static inline void
on_replica(void *arg, short events)
{
    replica_t *self = arg;
    zmq_msg_t route, head;
    proto_envelope_t request;
    svc_str body;
    (void)events;
    zmq_msg_init(&route);
    zmq_msg_init(&head);
    assert_true(svc_msg_recv(self->router, &route, 0));
    assert_true(svc_msg_recv(self->router, &head, 0));
    assert_int_equal(zmq_msg_more(&head), 0);
    assert_int_equal(proto_envelope_decode(svc_msg_str(&head), &request, &body), RC_OK);
    replica_serve(self, &route, &request, body);
    zmq_msg_close(&head);
    zmq_msg_close(&route);
}

/* Starts one, on its port of before if it had one. */
static inline void
start_replica(peers_bench_t *bench, size_t i, uint64_t instance)
{
    replica_t *self = &bench->replicas[i];
    size_t n = sizeof(self->endpoint);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    if (self->endpoint[0] == '\0')
        (void)fixture_free_endpoint(self->endpoint);
    self->loop = bench->fixture.ctx.loop;
    self->instance = instance;
    zmq_msg_init(&self->route);
    self->router = svc_msg_socket(bench->fixture.ctx.zmq, ZMQ_ROUTER, 0);
    /* Right after a close the port may still be in the hands of ZeroMQ's own thread. */
    while (zmq_bind(self->router, self->endpoint) != 0) {
        assert_true(svc_mono_ms() < until);
        fixture_run_for(&bench->fixture, 5);
    }
    assert_int_equal(zmq_getsockopt(self->router, ZMQ_LAST_ENDPOINT, self->endpoint, &n),
                     0);
    svc_loop_add_socket(self->loop, self->router, on_replica, self);
}

static inline void
stop_replica(replica_t *self)
{
    if (self->router == NULL)
        return;
    svc_loop_remove_socket(self->loop, self->router);
    zmq_msg_close(&self->route);
    zmq_close(self->router);
    self->router = NULL;
}

/* --- the caller ------------------------------------------------------------------------------- */

static inline void
on_event(void *arg, svc_peer_event event, uint64_t instance)
{
    peers_bench_t *bench = arg;
    const size_t n = strlen(bench->events);
    snprintf(bench->events + n, sizeof(bench->events) - n, "%s%c%llu", n > 0 ? " " : "",
             "UDL"[event], (unsigned long long)instance);
}

static inline svc_rc call(peers_bench_t *bench, uint64_t instance, uint64_t *id);

static inline void
on_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    peers_bench_t *bench = arg;
    bench->replies++;
    bench->kind = kind;
    bench->rc = rc;
    bench->replier = svc_peers_replier(bench->peers);
    bench->was_up = svc_peers_is_up(bench->peers);
    assert_non_null(error);
    if (kind != PROTO_ERROR)
        bench->value = ((const register_rep_t *)rep)->user;
    if (bench->ask_again) {
        bench->ask_again = false;
        assert_int_equal(call(bench, 0, NULL), RC_OK);
    }
}

static inline bool
has_events(void *arg)
{
    const peers_bench_t *bench = arg;
    return strlen(bench->events) >= strlen(bench->wanted_events);
}

static inline bool
has_replies(void *arg)
{
    const peers_bench_t *bench = arg;
    return bench->replies >= bench->wanted;
}

/* All calls that were sent have come, wherever. */
static inline bool
has_calls(void *arg)
{
    const peers_bench_t *bench = arg;
    unsigned n = 0;
    for (size_t i = 0; i < REPLICAS_MAX; i++)
        n += bench->replicas[i].calls;
    return n >= (unsigned)bench->wanted;
}

static inline void
await_events(peers_bench_t *bench, const char *events)
{
    bench->wanted_events = events;
    fixture_run_until(&bench->fixture, has_events, bench);
    assert_string_equal(bench->events, events);
}

static inline void
await_replies(peers_bench_t *bench, int n)
{
    bench->wanted = n;
    fixture_run_until(&bench->fixture, has_replies, bench);
    assert_int_equal(bench->replies, n);
}

static inline void
await_calls(peers_bench_t *bench, int n)
{
    bench->wanted = n;
    fixture_run_until(&bench->fixture, has_calls, bench);
}

/* `op`: any whose bodies are those of auth.register. */
static inline svc_rc
call_op(peers_bench_t *bench, const char *op, uint64_t instance, uint64_t *id)
{
    const register_req_t req = {.username = SVC_LIT("ann"),
                                .password = SVC_LIT("12345678")};
    const svc_peer_request_t request = {
        .op = op,
        .req_schema = &register_req_schema,
        .req = &req,
        .rep_schema = &register_rep_schema,
        .timeout_ms = 60000,
        .on_reply = on_reply,
        .arg = bench,
        .instance = instance,
    };
    return svc_peers_call(bench->peers, &request, id);
}

static inline svc_rc
call(peers_bench_t *bench, uint64_t instance, uint64_t *id)
{
    return call_op(bench, OP_AUTH_REGISTER, instance, id);
}

/* The list of the first n replicas. */
static inline void
endpoints_of(const peers_bench_t *bench, size_t n, char *out, size_t size)
{
    out[0] = '\0';
    for (size_t i = 0; i < n; i++)
        snprintf(out + strlen(out), size - strlen(out), "%s%s", i > 0 ? "," : "",
                 bench->replicas[i].endpoint);
}

static inline void
open_set(peers_bench_t *bench, const char *endpoints)
{
    char *error = NULL;
    bench->peers = svc_peers_new(&bench->fixture.ctx, "auth-svc", endpoints, on_event,
                                 bench, &error);
    assert_non_null(bench->peers);
}

/* Without replicas and set. */
static inline void
open_bench(peers_bench_t *bench)
{
    *bench = (peers_bench_t){0};
    fixture_open(&bench->fixture, "gateway");
    bench->times = svc_peer_usual_times;
    bench->times.tick = 10;
    bench->times.ping = 50;
    bench->times.steer = svc_peer_usual_times.lost;
    bench->times.down = svc_peer_usual_times.lost;
    bench->times.reopen = 10;
    bench->times.wrong = 10;
    bench->fixture.ctx.peer_times = &bench->times;
}

static inline bool
all_are_up(void *arg)
{
    const peers_bench_t *bench = arg;
    for (size_t i = 0; i < REPLICAS_MAX; i++)
        if (bench->replicas[i].router != NULL &&
            !svc_peers_has(bench->peers, bench->replicas[i].instance))
            return false;
    return true;
}

/* With n replicas of the instances 1, 2, …, all up; events are forgotten. */
static inline void
open_replicas(peers_bench_t *bench, size_t n)
{
    char endpoints[REPLICAS_MAX * 64];
    open_bench(bench);
    for (size_t i = 0; i < n; i++)
        start_replica(bench, i, i + 1);
    endpoints_of(bench, n, endpoints, sizeof(endpoints));
    open_set(bench, endpoints);
    fixture_run_until(&bench->fixture, all_are_up, bench);
    bench->events[0] = '\0';
}

static inline void
close_bench(peers_bench_t *bench)
{
    svc_peers_destroy(&bench->peers);
    assert_null(bench->peers);
    for (size_t i = 0; i < REPLICAS_MAX; i++)
        stop_replica(&bench->replicas[i]);
    fixture_close(&bench->fixture);
}

#endif
