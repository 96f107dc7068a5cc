/* peer_bench.h - a peer under test, and the servers it meets: a good one and a bad one.
 *
 * The good server is a real svc_server in the same loop; the bad one a bare ROUTER that answers
 * hello, pings and calls as its mode says. Pings go out faster than usual; how long silence may
 * last, a test shortens itself when it wants the end of it, so that a busy machine never looks
 * silent. Included by the tests of svc_peer and svc_peer_call. */
#ifndef TESTS_UNIT_SVC_PEER_BENCH_H
#define TESTS_UNIT_SVC_PEER_BENCH_H

#include "bus_fixture.h"

#include "svc/svc_msg.h"
#include "svc/svc_peer.h"
#include "svc/svc_server.h"

typedef enum {
    FAKE_GOOD,        /* answers hello and ping, calls with an empty map */
    FAKE_SILENT,      /* answers nothing */
    FAKE_HELLO_ONLY,  /* answers hello only */
    FAKE_GARBAGE,     /* answers calls with random frames, and then with an empty map */
    FAKE_HELLO_ERROR, /* answers hello with an error */
    FAKE_SCRIPT, /* answers hello and ping, and calls as the test says by fake_answer */
} fake_mode;

typedef struct {
    fixture_t fixture;        /* first: of the caller, "gateway" */
    svc_ctx_t server_ctx;     /* of the good server, same loop */
    svc_server_t *server;     /* the good one */
    void *fake;               /* ROUTER, the bad one */
    fake_mode mode;           /* of fake */
    uint64_t fake_instance;   /* that fake says it is */
    const char *fake_service; /* that fake says it is */
    char fake_route[16];      /* of the call that fake received last */
    size_t fake_route_n;      /* bytes of it */
    uint64_t fake_call;       /* its id */
    int fake_calls;           /* that fake received */
    int fake_pings;           /* likewise */
    int fake_hellos;          /* likewise */
    char endpoint[256];       /* of either */
    svc_peer_times_t times;   /* of peer; may be changed while it runs */
    svc_peer_t *peer;         /* under test */
    char events[64];          /* U, D, L in order */
    uint64_t instances[64];   /* of each event */
    size_t wanted_events;     /* to wait for */
    size_t calls_at_down;     /* replies that had come when DOWN was told */
    uint64_t kept;            /* call kept last by the good server */
    int served;               /* by the good server */
    int replies;              /* that on_reply got */
    int wanted;               /* to wait for */
    proto_kind kind;          /* of the last reply */
    svc_rc rc;                /* likewise */
    uint64_t value;           /* likewise: user */
    char text[64];            /* likewise: of an error */
    uint64_t retry_after_s;   /* likewise */
    uint64_t forget;          /* call to forget inside on_reply */
} bench_t;

/* --- the good server ---------------------------------------------------------------------------- */

static inline svc_rc
on_register(void *self, svc_call_t *call, const void *req, void *rep)
{
    bench_t *bench = self;
    const register_req_t *in = req;
    bench->served++;
    bench->kept = svc_call_id(call);
    if (svc_str_eq(in->username, SVC_LIT("later")))
        return RC_LATER;
    if (svc_str_eq(in->username, SVC_LIT("taken"))) {
        svc_call_explain(call, "somebody has it", 3);
        return RC_USERNAME_TAKEN;
    }
    ((register_rep_t *)rep)->user = in->password.n;
    return RC_OK;
}

// clang-format off
static const svc_op_t ops[] = {
    {OP_AUTH_REGISTER, &register_req_schema, &register_rep_schema, on_register, SVC_ANYONE, 60000},
    {NULL, NULL, NULL, NULL, 0, 0},
};
// clang-format on

/* `endpoint`: where one was before; NULL: a new one. */
static inline void
start_server(bench_t *bench, uint64_t instance, const char *endpoint)
{
    char fresh[64], *error = NULL;
    if (endpoint == NULL)
        endpoint = fixture_free_endpoint(fresh);
    bench->server_ctx = bench->fixture.ctx;
    bench->server_ctx.service = "auth-svc";
    bench->server_ctx.instance = instance;
    /* Right after a close the port may still be in the hands of ZeroMQ's own thread. */
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (svc_server_new(&bench->server_ctx, endpoint, ops, bench, &bench->server,
                          &error) != RC_OK) {
        free(error);
        assert_true(svc_mono_ms() < until);
        fixture_run_for(&bench->fixture, 5);
    }
    snprintf(bench->endpoint, sizeof(bench->endpoint), "%s",
             svc_server_endpoint(bench->server));
}

/* --- the bad server ------------------------------------------------------------------------------- */

static inline void
fake_reply(bench_t *bench, zmq_msg_t *route, uint64_t id, proto_kind kind,
           const proto_schema_t *schema, const void *msg)
{
    svc_buf_t message;
    const proto_envelope_t envelope = {.version = PROTO_VERSION, .kind = kind, .id = id};
    svc_buf_init(&message, 10000);
    assert_int_equal(proto_envelope_encode(&envelope, &message), RC_OK);
    assert_int_equal(proto_encode(schema, msg, &message), RC_OK);
    assert_true(svc_msg_send_bytes(bench->fake, svc_msg_str(route), ZMQ_SNDMORE));
    assert_true(svc_msg_send_bytes(bench->fake, svc_buf_str(&message), 0));
    svc_buf_fini(&message);
}

static inline void
fake_garbage(bench_t *bench, zmq_msg_t *route, uint64_t id)
{
    for (int i = 0; i < 200; i++) {
        char junk[200];
        svc_buf_t head;
        const proto_envelope_t envelope = {.version = PROTO_VERSION,
                                           .kind = 1 + (uint64_t)rand() % 5,
                                           .id = rand() % 2 ? id : 12345};
        svc_buf_init(&head, 1000);
        assert_int_equal(proto_envelope_encode(&envelope, &head), RC_OK);
        for (size_t k = 0; k < sizeof(junk); k++)
            junk[k] = (char)rand();
        const svc_str noise = {junk, (size_t)rand() % sizeof(junk)};
        assert_int_equal(svc_buf_add_str(&head, noise), RC_OK);
        const int frames = rand() % 4;
        assert_true(svc_msg_send_bytes(bench->fake, svc_msg_str(route), ZMQ_SNDMORE));
        assert_true(svc_msg_send_bytes(bench->fake,
                                       rand() % 3 == 0 ? noise : svc_buf_str(&head),
                                       frames > 0 ? ZMQ_SNDMORE : 0));
        for (int k = 1; k <= frames; k++)
            assert_true(
                svc_msg_send_bytes(bench->fake, noise, k < frames ? ZMQ_SNDMORE : 0));
        svc_buf_fini(&head);
    }
}

static inline void
fake_serve(bench_t *bench, zmq_msg_t *route, const proto_envelope_t *request)
{
    static const empty_t nothing;
    const hello_t hello = {.service = svc_str_c(bench->fake_service),
                           .instance = bench->fake_instance};
    const ping_rep_t ping = {.instance = bench->fake_instance};
    const error_rep_t error = {.code = SVC_LIT("busy")};
    if (svc_str_eq(request->op, SVC_LIT(OP_SVC_HELLO))) {
        bench->fake_hellos++;
        if (bench->mode == FAKE_HELLO_ERROR)
            fake_reply(bench, route, request->id, PROTO_ERROR, &error_rep_schema, &error);
        else if (bench->mode != FAKE_SILENT)
            fake_reply(bench, route, request->id, PROTO_FINAL, &hello_schema, &hello);
    } else if (svc_str_eq(request->op, SVC_LIT(OP_SVC_PING))) {
        bench->fake_pings++;
        if (bench->mode != FAKE_SILENT && bench->mode != FAKE_HELLO_ONLY)
            fake_reply(bench, route, request->id, PROTO_FINAL, &ping_rep_schema, &ping);
    } else if (bench->mode == FAKE_GARBAGE) {
        fake_garbage(bench, route, request->id);
        /* No part of a reply: should nothing of all that have been one, this ends the call. */
        fake_reply(bench, route, request->id, PROTO_FINAL, &empty_schema, &nothing);
    } else if (bench->mode == FAKE_GOOD) {
        fake_reply(bench, route, request->id, PROTO_FINAL, &empty_schema, &nothing);
    } else if (bench->mode == FAKE_SCRIPT) {
        bench->fake_calls++;
        bench->fake_call = request->id;
        bench->fake_route_n = zmq_msg_size(route);
        assert_true(bench->fake_route_n <= sizeof(bench->fake_route));
        memcpy(bench->fake_route, zmq_msg_data(route), bench->fake_route_n);
    }
}

/* Answers by the route of the last call: any id, any kind, any body. */
static inline void
fake_answer(bench_t *bench, uint64_t id, uint64_t kind, svc_str body)
{
    const proto_envelope_t envelope = {.version = PROTO_VERSION, .kind = kind, .id = id};
    svc_buf_t message;
    svc_buf_init(&message, 10000);
    assert_int_equal(proto_envelope_encode(&envelope, &message), RC_OK);
    assert_int_equal(svc_buf_add_str(&message, body), RC_OK);
    assert_true(svc_msg_send_bytes(
        bench->fake, (svc_str){bench->fake_route, bench->fake_route_n}, ZMQ_SNDMORE));
    assert_true(svc_msg_send_bytes(bench->fake, svc_buf_str(&message), 0));
    svc_buf_fini(&message);
}

static inline void
on_fake(void *arg, short events)
{
    bench_t *bench = arg;
    zmq_msg_t route, head;
    proto_envelope_t request;
    svc_str body;
    (void)events;
    zmq_msg_init(&route);
    zmq_msg_init(&head);
    assert_true(svc_msg_recv(bench->fake, &route, 0));
    assert_true(svc_msg_recv(bench->fake, &head, 0));
    svc_msg_skip_rest(bench->fake, &head);
    assert_int_equal(proto_envelope_decode(svc_msg_str(&head), &request, &body), RC_OK);
    fake_serve(bench, &route, &request);
    zmq_msg_close(&head);
    zmq_msg_close(&route);
}

static inline void
start_fake(bench_t *bench, fake_mode mode, uint64_t instance, const char *service)
{
    size_t n = sizeof(bench->endpoint);
    bench->mode = mode;
    bench->fake_instance = instance;
    bench->fake_service = service;
    bench->fake = svc_msg_socket(bench->fixture.ctx.zmq, ZMQ_ROUTER, 0);
    /* Its garbage has several frames: cut between two of them, libzmq 4.3.4 would abort. */
    const int linger = 1000;
    zmq_setsockopt(bench->fake, ZMQ_LINGER, &linger, sizeof(linger));
    assert_int_equal(zmq_bind(bench->fake, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(bench->fake, ZMQ_LAST_ENDPOINT, bench->endpoint, &n),
                     0);
    svc_loop_add_socket(bench->fixture.ctx.loop, bench->fake, on_fake, bench);
}

/* --- the caller ----------------------------------------------------------------------------------- */

static inline void
on_event(void *arg, svc_peer_event event, uint64_t instance)
{
    bench_t *bench = arg;
    const size_t n = strlen(bench->events);
    assert_true(n + 1 < sizeof(bench->events));
    bench->events[n] = "UDL"[event];
    bench->instances[n] = instance;
    if (event == SVC_PEER_DOWN)
        bench->calls_at_down = (size_t)bench->replies;
}

static inline void
on_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    bench_t *bench = arg;
    bench->replies++;
    bench->kind = kind;
    bench->rc = rc;
    assert_non_null(error);
    if (kind == PROTO_ERROR) {
        assert_null(rep);
        snprintf(bench->text, sizeof(bench->text), "%.*s", (int)error->text.n,
                 error->text.n == 0 ? "" : error->text.p);
        bench->retry_after_s = error->retry_after_s;
    } else {
        assert_int_equal(rc, RC_OK);
        bench->value = ((const register_rep_t *)rep)->user;
    }
    svc_peer_forget(bench->peer, bench->forget);
}

static inline bool
has_events(void *arg)
{
    const bench_t *bench = arg;
    return strlen(bench->events) >= bench->wanted_events;
}

static inline bool
has_replies(void *arg)
{
    const bench_t *bench = arg;
    return bench->replies >= bench->wanted;
}

static inline bool
has_served(void *arg)
{
    const bench_t *bench = arg;
    return bench->served >= bench->wanted;
}

static inline bool
has_hellos(void *arg)
{
    const bench_t *bench = arg;
    return bench->fake_hellos >= bench->wanted;
}

static inline bool
has_pings(void *arg)
{
    const bench_t *bench = arg;
    return bench->fake_pings >= bench->wanted;
}

static inline bool
has_fake_calls(void *arg)
{
    const bench_t *bench = arg;
    return bench->fake_calls >= bench->wanted;
}

static inline void
await_events(bench_t *bench, const char *events)
{
    bench->wanted_events = strlen(events);
    fixture_run_until(&bench->fixture, has_events, bench);
    assert_string_equal(bench->events, events);
}

static inline void
await_replies(bench_t *bench, int n)
{
    bench->wanted = n;
    fixture_run_until(&bench->fixture, has_replies, bench);
    assert_int_equal(bench->replies, n);
}

static inline void
open_peer(bench_t *bench)
{
    char *error = NULL;
    bench->peer = svc_peer_new(&bench->fixture.ctx, "auth-svc", bench->endpoint, on_event,
                               bench, &error);
    assert_non_null(bench->peer);
}

static inline void
open_bench(bench_t *bench)
{
    *bench = (bench_t){0};
    fixture_open(&bench->fixture, "gateway");
    bench->times = svc_peer_usual_times;
    bench->times.tick = 10;
    bench->times.ping = 50;
    bench->times.hello = 500;
    bench->times.wrong = 10;
    bench->times.reopen = 10;
    bench->fixture.ctx.peer_times = &bench->times;
}

/* With the good server, up. */
static inline void
open_pair(bench_t *bench)
{
    open_bench(bench);
    start_server(bench, 1, NULL);
    open_peer(bench);
    await_events(bench, "U");
}

/* With a fake that answers as the test says, up. */
static inline void
open_script(bench_t *bench)
{
    open_bench(bench);
    start_fake(bench, FAKE_SCRIPT, 5, "auth-svc");
    open_peer(bench);
    await_events(bench, "U");
}

static inline void
stop_fake(bench_t *bench)
{
    if (bench->fake == NULL)
        return;
    svc_loop_remove_socket(bench->fixture.ctx.loop, bench->fake);
    zmq_close(bench->fake);
    bench->fake = NULL;
}

static inline void
close_bench(bench_t *bench)
{
    svc_peer_destroy(&bench->peer);
    assert_null(bench->peer);
    svc_server_destroy(&bench->server);
    stop_fake(bench);
    fixture_close(&bench->fixture);
}

static inline svc_rc
call_with(bench_t *bench, const char *username, uint64_t timeout_ms, uint64_t hold_ms,
          svc_reply_fn *fn, uint64_t *id)
{
    const register_req_t req = {.username = svc_str_c(username),
                                .password = SVC_LIT("12345678")};
    const svc_peer_request_t request = {
        .op = OP_AUTH_REGISTER,
        .req_schema = &register_req_schema,
        .req = &req,
        .rep_schema = &register_rep_schema,
        .timeout_ms = timeout_ms,
        .hold_ms = hold_ms,
        .on_reply = fn,
        .arg = bench,
    };
    return svc_peer_call(bench->peer, &request, id);
}

static inline svc_rc
call(bench_t *bench, const char *username, uint64_t timeout_ms, uint64_t hold_ms,
     uint64_t *id)
{
    return call_with(bench, username, timeout_ms, hold_ms, on_reply, id);
}

#endif
