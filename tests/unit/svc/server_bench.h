/* server_bench.h - a server under test, the handlers it has, and a client that speaks frame by frame.
 *
 * Most tests speak to the server as a raw DEALER, since a peer would not send what has to be
 * refused. The operations are those of auth-svc with handlers made for the test. Included by the
 * tests of svc_server only. */
#ifndef TESTS_UNIT_SVC_SERVER_BENCH_H
#define TESTS_UNIT_SVC_SERVER_BENCH_H

#include "bus_fixture.h"

#include "svc/svc_msg.h"
#include "svc/svc_server.h"

#define NO_ID     9999u
#define BUDGET_MS 1000 /* of register and verify: a busy machine may lose some of it */

typedef struct {
    fixture_t fixture;       /* first: loop and counters */
    svc_server_t *server;    /* under test */
    void *client;            /* DEALER */
    int served;              /* handlers that ran */
    uint64_t kept;           /* handle of the call kept last */
    int cancelled;           /* cancel functions that ran */
    uint64_t kept_last;      /* handle that was cancelled last */
    bool is_resolved_inside; /* register: finish inside the handler */
    uint64_t hold_ms;        /* verify: one part, then kept with this hold */
    /* the reply received last */
    int replies;            /* count */
    proto_envelope_t head;  /* its envelope; views are dead */
    char code[64];          /* error: its code */
    char text[64];          /* error: its text */
    uint64_t retry_after_s; /* error */
    char body[4096];        /* raw */
    size_t body_n;          /* bytes of it */
} bench_t;

static inline void
on_cancelled(void *arg, uint64_t call_id)
{
    bench_t *bench = arg;
    bench->cancelled++;
    bench->kept_last = call_id;
    assert_null(svc_server_call(bench->server, call_id));
}

static inline svc_rc
on_register(void *self, svc_call_t *call, const void *req, void *rep)
{
    bench_t *bench = self;
    (void)req;
    (void)rep;
    bench->served++;
    bench->kept = svc_call_id(call);
    svc_call_on_cancel(call, on_cancelled, bench);
    assert_ptr_equal(svc_server_call(bench->server, bench->kept), call);
    if (bench->is_resolved_inside) {
        const register_rep_t later = {.user = 5};
        svc_call_finish(call, RC_OK, &later);
    }
    return RC_LATER;
}

static inline svc_rc
on_login(void *self, svc_call_t *call, const void *req, void *rep)
{
    const login_req_t *login = req;
    login_rep_t *out = rep;
    ((bench_t *)self)->served++;
    assert_true(svc_call_body(call).n > 0);
    if (svc_str_eq(login->password, SVC_LIT("wrong"))) {
        svc_call_explain(call, "try again", 30);
        return RC_THROTTLED;
    }
    out->token = login->username;
    out->expires_s = 99;
    return RC_OK;
}

static inline svc_rc
on_verify(void *self, svc_call_t *call, const void *req, void *rep)
{
    bench_t *bench = self;
    verify_rep_t *part = rep;
    (void)req;
    bench->served++;
    bench->kept = svc_call_id(call);
    svc_call_on_cancel(call, on_cancelled, bench);
    part->user = 1;
    part->expires_s = 1;
    return svc_call_partial(call, part, bench->hold_ms) == RC_OK ? RC_LATER
                                                                 : RC_UNAVAILABLE;
}

// clang-format off
static const svc_op_t ops[] = {
    {OP_AUTH_REGISTER, &register_req_schema, &register_rep_schema, on_register, SVC_ANYONE, BUDGET_MS},
    {OP_AUTH_LOGIN,    &login_req_schema,    &login_rep_schema,    on_login,    SVC_GATEWAY, 1000},
    {OP_AUTH_VERIFY,   &verify_req_schema,   &verify_rep_schema,   on_verify,   SVC_TOOL | SVC_GATEWAY, BUDGET_MS},
    {NULL, NULL, NULL, NULL, 0, 0},
};
// clang-format on

static inline void
on_client(void *arg, short events)
{
    bench_t *bench = arg;
    zmq_msg_t message;
    svc_str body;
    (void)events;
    zmq_msg_init(&message);
    assert_true(svc_msg_recv(bench->client, &message, 0));
    assert_true(zmq_msg_more(&message) == 0);
    assert_int_equal(proto_envelope_decode(svc_msg_str(&message), &bench->head, &body),
                     RC_OK);
    bench->replies++;
    bench->body_n = body.n;
    assert_true(bench->body_n <= sizeof(bench->body));
    memcpy(bench->body, body.p, bench->body_n);
    if (bench->head.kind == PROTO_ERROR) {
        error_rep_t error;
        proto_arena_t *arena = proto_arena_new();
        assert_int_equal(proto_decode(&error_rep_schema, body, arena, &error), RC_OK);
        snprintf(bench->code, sizeof(bench->code), "%.*s", (int)error.code.n,
                 error.code.p);
        snprintf(bench->text, sizeof(bench->text), "%.*s", (int)error.text.n,
                 error.text.n == 0 ? "" : error.text.p);
        bench->retry_after_s = error.retry_after_s;
        proto_arena_destroy(&arena);
    }
    zmq_msg_close(&message);
}

static inline bool
has_reply(void *arg)
{
    return ((bench_t *)arg)->replies > 0;
}

static inline bool
was_cancelled(void *arg)
{
    return ((bench_t *)arg)->cancelled > 0;
}

static inline bool
keeps_call(void *arg)
{
    const bench_t *bench = arg;
    return bench->kept != 0 && svc_server_kept_calls(bench->server) > 0;
}

static inline bool
was_served(void *arg)
{
    return ((bench_t *)arg)->served > 0;
}

static inline void
connect_client(bench_t *bench, int hwm)
{
    bench->client = svc_msg_socket(bench->fixture.ctx.zmq, ZMQ_DEALER, hwm);
    assert_int_equal(zmq_connect(bench->client, svc_server_endpoint(bench->server)), 0);
    svc_loop_add_socket(bench->fixture.ctx.loop, bench->client, on_client, bench);
}

static inline void
disconnect_client(bench_t *bench)
{
    svc_loop_remove_socket(bench->fixture.ctx.loop, bench->client);
    zmq_close(bench->client);
    bench->client = NULL;
}

static inline proto_envelope_t
envelope_of(uint64_t id, const char *op)
{
    static const char trace[PROTO_TRACE_BYTES + 1] = "0123456789abcdef";
    return (proto_envelope_t){
        .version = PROTO_VERSION,
        .kind = PROTO_REQUEST,
        .id = id,
        .op = svc_str_c(op),
        .trace = {trace, PROTO_TRACE_BYTES},
        .expires_ms = svc_unix_ms() + 10000,
    };
}

static inline void
send_raw(bench_t *bench, const proto_envelope_t *envelope, svc_str body, bool has_more)
{
    svc_buf_t message;
    svc_buf_init(&message, 200000);
    assert_int_equal(proto_envelope_encode(envelope, &message), RC_OK);
    assert_int_equal(svc_buf_add_str(&message, body), RC_OK);
    assert_true(svc_msg_send_bytes(bench->client, svc_buf_str(&message),
                                   has_more ? ZMQ_SNDMORE : 0));
    if (has_more)
        assert_true(svc_msg_send_bytes(bench->client, SVC_LIT("more"), 0));
    svc_buf_fini(&message);
    bench->replies = 0;
}

static inline void
send_request(bench_t *bench, uint64_t id, const char *op, const proto_schema_t *schema,
             const void *req)
{
    svc_buf_t body;
    const proto_envelope_t envelope = envelope_of(id, op);
    svc_buf_init(&body, 100000);
    assert_int_equal(proto_encode(schema, req, &body), RC_OK);
    send_raw(bench, &envelope, svc_buf_str(&body), false);
    svc_buf_fini(&body);
}

/* The same, and waits for the (first) reply. */
static inline void
ask(bench_t *bench, uint64_t id, const char *op, const proto_schema_t *schema,
    const void *req)
{
    send_request(bench, id, op, schema, req);
    fixture_run_until(&bench->fixture, has_reply, bench);
    assert_int_equal(bench->head.id, id);
}

static inline void
say_hello(bench_t *bench, const char *service)
{
    const hello_t hello = {
        .service = svc_str_c(service), .instance = 1, .version = SVC_LIT("test")};
    ask(bench, 1, OP_SVC_HELLO, &hello_schema, &hello);
    assert_int_equal(bench->head.kind, PROTO_FINAL);
}

static inline void
expect_error(const bench_t *bench, svc_rc rc)
{
    assert_int_equal(bench->head.kind, PROTO_ERROR);
    assert_string_equal(bench->code, svc_rc_info(rc)->wire);
}

static inline void
open_bench(bench_t *bench, const char *hello_as)
{
    char *error = NULL;
    *bench = (bench_t){0};
    fixture_open(&bench->fixture, "auth-svc");
    assert_int_equal(svc_server_new(&bench->fixture.ctx, "tcp://127.0.0.1:*", ops, bench,
                                    &bench->server, &error),
                     RC_OK);
    connect_client(bench, 0);
    if (hello_as != NULL)
        say_hello(bench, hello_as);
    bench->replies = 0;
}

static inline void
close_bench(bench_t *bench)
{
    if (bench->client != NULL)
        disconnect_client(bench);
    svc_server_destroy(&bench->server);
    fixture_close(&bench->fixture);
}

static const login_req_t good_login = {
    .username = {"ann", 3}, .password = {"secret", 6}, .address = {"::1", 3}};
static const register_req_t good_register = {.username = {"ann", 3},
                                             .password = {"secret", 6}};
static const verify_req_t good_verify = {.token = {"t", 1}};
static const empty_t nothing;

#endif
