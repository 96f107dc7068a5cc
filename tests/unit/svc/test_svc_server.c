/* test_svc_server.c - requests over real sockets: who may, what is refused, and calls that are answered later.
 *
 * Most tests speak to the server as a raw DEALER, frame by frame, since a peer would not send
 * what has to be refused. The operations are those of auth-svc with handlers made for the test. */
#include "bus_fixture.h"

#include "svc/svc_msg.h"
#include "svc/svc_server.h"

#define NO_ID 9999u

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

static void
on_cancelled(void *arg, uint64_t call_id)
{
    bench_t *bench = arg;
    bench->cancelled++;
    bench->kept_last = call_id;
    assert_null(svc_server_call(bench->server, call_id));
}

static svc_rc
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

static svc_rc
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

static svc_rc
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
    {OP_AUTH_REGISTER, &register_req_schema, &register_rep_schema, on_register, SVC_ANYONE, 150},
    {OP_AUTH_LOGIN,    &login_req_schema,    &login_rep_schema,    on_login,    SVC_GATEWAY, 1000},
    {OP_AUTH_VERIFY,   &verify_req_schema,   &verify_rep_schema,   on_verify,   SVC_TOOL | SVC_GATEWAY, 1000},
    {NULL, NULL, NULL, NULL, 0, 0},
};
// clang-format on

static void
on_client(void *arg, short events)
{
    bench_t *bench = arg;
    zmq_msg_t head, body;
    (void)events;
    zmq_msg_init(&head);
    zmq_msg_init(&body);
    assert_true(svc_msg_recv(bench->client, &head, 0));
    assert_true(zmq_msg_more(&head) != 0);
    assert_true(svc_msg_recv(bench->client, &body, 0));
    assert_true(zmq_msg_more(&body) == 0);
    assert_int_equal(proto_envelope_decode(svc_msg_str(&head), &bench->head), RC_OK);
    bench->replies++;
    bench->body_n = zmq_msg_size(&body);
    assert_true(bench->body_n <= sizeof(bench->body));
    memcpy(bench->body, zmq_msg_data(&body), bench->body_n);
    if (bench->head.kind == PROTO_ERROR) {
        error_rep_t error;
        proto_arena_t *arena = proto_arena_new();
        assert_int_equal(
            proto_decode(&error_rep_schema, svc_msg_str(&body), arena, &error), RC_OK);
        snprintf(bench->code, sizeof(bench->code), "%.*s", (int)error.code.n,
                 error.code.p);
        snprintf(bench->text, sizeof(bench->text), "%.*s", (int)error.text.n,
                 error.text.n == 0 ? "" : error.text.p);
        bench->retry_after_s = error.retry_after_s;
        proto_arena_destroy(&arena);
    }
    zmq_msg_close(&body);
    zmq_msg_close(&head);
}

static bool
has_reply(void *arg)
{
    return ((bench_t *)arg)->replies > 0;
}

static bool
was_cancelled(void *arg)
{
    return ((bench_t *)arg)->cancelled > 0;
}

static bool
keeps_call(void *arg)
{
    const bench_t *bench = arg;
    return bench->kept != 0 && svc_server_kept_calls(bench->server) > 0;
}

static bool
was_served(void *arg)
{
    return ((bench_t *)arg)->served > 0;
}

static void
connect_client(bench_t *bench, int hwm)
{
    bench->client = svc_msg_socket(bench->fixture.ctx.zmq, ZMQ_DEALER, hwm);
    assert_int_equal(zmq_connect(bench->client, svc_server_endpoint(bench->server)), 0);
    svc_loop_add_socket(bench->fixture.ctx.loop, bench->client, on_client, bench);
}

static void
disconnect_client(bench_t *bench)
{
    svc_loop_remove_socket(bench->fixture.ctx.loop, bench->client);
    zmq_close(bench->client);
    bench->client = NULL;
}

static proto_envelope_t
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

static void
send_raw(bench_t *bench, const proto_envelope_t *envelope, svc_str body, bool has_body,
         bool has_more)
{
    svc_buf_t head;
    svc_buf_init(&head, 1000);
    assert_int_equal(proto_envelope_encode(envelope, &head), RC_OK);
    assert_true(svc_msg_send_bytes(bench->client, svc_buf_str(&head),
                                   has_body ? ZMQ_SNDMORE : 0));
    if (has_body)
        assert_true(svc_msg_send_bytes(bench->client, body, has_more ? ZMQ_SNDMORE : 0));
    if (has_more)
        assert_true(svc_msg_send_bytes(bench->client, SVC_LIT("more"), 0));
    svc_buf_fini(&head);
    bench->replies = 0;
}

static void
send_request(bench_t *bench, uint64_t id, const char *op, const proto_schema_t *schema,
             const void *req)
{
    svc_buf_t body;
    const proto_envelope_t envelope = envelope_of(id, op);
    svc_buf_init(&body, 100000);
    assert_int_equal(proto_encode(schema, req, &body), RC_OK);
    send_raw(bench, &envelope, svc_buf_str(&body), true, false);
    svc_buf_fini(&body);
}

/* The same, and waits for the (first) reply. */
static void
ask(bench_t *bench, uint64_t id, const char *op, const proto_schema_t *schema,
    const void *req)
{
    send_request(bench, id, op, schema, req);
    fixture_run_until(&bench->fixture, has_reply, bench);
    assert_int_equal(bench->head.id, id);
}

static void
say_hello(bench_t *bench, const char *service)
{
    const hello_t hello = {
        .service = svc_str_c(service), .instance = 1, .version = SVC_LIT("test")};
    ask(bench, 1, OP_SVC_HELLO, &hello_schema, &hello);
    assert_int_equal(bench->head.kind, PROTO_FINAL);
}

static void
expect_error(const bench_t *bench, svc_rc rc)
{
    assert_int_equal(bench->head.kind, PROTO_ERROR);
    assert_string_equal(bench->code, svc_rc_info(rc)->wire);
}

static void
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

static void
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

/* --- who may ------------------------------------------------------------------------------------ */

static void
answers_a_request_of_a_service_that_said_hello(void **state)
{
    (void)state;
    bench_t bench;
    login_rep_t rep;
    proto_arena_t *arena = proto_arena_new();
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    assert_int_equal(
        proto_decode(&login_rep_schema, (svc_str){bench.body, bench.body_n}, arena, &rep),
        RC_OK);
    assert_true(svc_str_eq(rep.token, SVC_LIT("ann")));
    assert_int_equal(rep.expires_s, 99);
    proto_arena_destroy(&arena);
    close_bench(&bench);
}

static void
refuses_everything_but_hello_before_hello(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, NULL);
    ask(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    expect_error(&bench, RC_FORBIDDEN);
    ask(&bench, 3, OP_SVC_PING, &empty_schema, &nothing);
    expect_error(&bench, RC_FORBIDDEN);
    ask(&bench, 4, OP_SVC_STATS, &empty_schema, &nothing);
    expect_error(&bench, RC_FORBIDDEN);
    assert_int_equal(bench.served, 0);
    close_bench(&bench);
}

static void
refuses_a_service_that_may_not_call_and_forgets_its_old_name_at_a_new_hello(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "convo-svc");
    ask(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    expect_error(&bench, RC_FORBIDDEN);
    say_hello(&bench, "gateway");
    ask(&bench, 3, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    say_hello(&bench, "somebody");
    ask(&bench, 4, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    expect_error(&bench, RC_FORBIDDEN);
    say_hello(&bench, "llm-svc");
    ask(&bench, 5, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    expect_error(&bench, RC_FORBIDDEN);
    close_bench(&bench);
}

static void
knows_the_last_4096_routes_only(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    for (int i = 0; i < 4200; i++) {
        /* The first client speaks now and then, so it is never the one that was silent longest. */
        void *first = bench.client;
        connect_client(&bench, 0);
        say_hello(&bench, "tool");
        disconnect_client(&bench);
        bench.client = first;
        if (i % 1000 == 0)
            ask(&bench, 7, OP_SVC_PING, &empty_schema, &nothing);
    }
    ask(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    close_bench(&bench);
}

static void
tells_its_instance_whether_it_drains_and_its_counters(void **state)
{
    (void)state;
    bench_t bench;
    ping_rep_t ping;
    stats_rep_t stats;
    proto_arena_t *arena = proto_arena_new();
    open_bench(&bench, "tool");
    svc_server_set_draining(bench.server);
    ask(&bench, 2, OP_SVC_PING, &empty_schema, &nothing);
    assert_int_equal(
        proto_decode(&ping_rep_schema, (svc_str){bench.body, bench.body_n}, arena, &ping),
        RC_OK);
    assert_int_equal(ping.instance, 77);
    assert_true(ping.draining);
    ask(&bench, 3, OP_SVC_STATS, &empty_schema, &nothing);
    assert_int_equal(proto_decode(&stats_rep_schema, (svc_str){bench.body, bench.body_n},
                                  arena, &stats),
                     RC_OK);
    assert_true(stats.counters.n >= 1);
    const counter_t *counters = stats.counters.items;
    assert_true(
        svc_str_eq(counters[0].name, svc_str_c(svc_metrics_name(SVC_M_REQUESTS))));
    assert_int_equal(counters[0].value, 3);
    proto_arena_destroy(&arena);
    close_bench(&bench);
}

/* --- what cannot be served ------------------------------------------------------------------------ */

static void
answers_an_unknown_operation_with_invalid(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    ask(&bench, 2, "auth.nonsense", &empty_schema, &nothing);
    expect_error(&bench, RC_INVALID);
    assert_true(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES) == 1);
    close_bench(&bench);
}

static void
answers_missing_surplus_and_undecodable_bodies_with_invalid(void **state)
{
    (void)state;
    bench_t bench;
    const proto_envelope_t head = envelope_of(2, OP_AUTH_LOGIN);
    open_bench(&bench, "gateway");
    send_raw(&bench, &head, (svc_str){0}, false, false);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    send_raw(&bench, &head, SVC_LIT("\x80"), true, true);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    send_raw(&bench, &head, SVC_LIT("\x80"), true, false); /* nothing in it */
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    send_raw(&bench, &head, SVC_LIT("\x80\x80"), true, false); /* trailing bytes */
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    const proto_envelope_t hello = envelope_of(3, OP_SVC_HELLO);
    send_raw(&bench, &hello, SVC_LIT("\x80"), true, false);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_INVALID);
    proto_envelope_t newer = envelope_of(4, OP_AUTH_LOGIN);
    newer.version = PROTO_VERSION + 1;
    const uint64_t bad = fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES);
    send_raw(&bench, &newer, SVC_LIT("\x80"), true,
             false); /* another protocol: not even its id is known */
    ask(&bench, 5, OP_SVC_PING, &empty_schema, &nothing);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES), bad + 1);
    assert_int_equal(bench.served, 0);
    close_bench(&bench);
}

static void
drops_what_has_expired(void **state)
{
    (void)state;
    bench_t bench;
    proto_envelope_t head = envelope_of(2, OP_SVC_PING);
    open_bench(&bench, "gateway");
    head.expires_ms = svc_unix_ms() - 1;
    send_raw(&bench, &head, SVC_LIT("\x80"), true, false);
    send_request(&bench, 3, OP_SVC_PING, &empty_schema, &nothing);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(bench.head.id, 3);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_EXPIRED), 1);
    close_bench(&bench);
}

static void
serves_on_after_any_garbage(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    srand(3);
    for (int i = 0; i < 20000; i++) {
        svc_buf_t head;
        proto_envelope_t envelope = envelope_of(NO_ID, i % 2 == 0 ? OP_AUTH_LOGIN
                                                                  : OP_SVC_HELLO);
        char junk[600];
        const size_t n = (size_t)rand() % sizeof(junk);
        svc_buf_init(&head, 1000);
        assert_int_equal(proto_envelope_encode(&envelope, &head), RC_OK);
        for (int flips = rand() % 4; flips > 0; flips--)
            head.p[(size_t)rand() % head.n] = (char)rand();
        for (size_t k = 0; k < n; k++)
            junk[k] = (char)rand();
        const svc_str first = rand() % 3 == 0 ? (svc_str){junk, n} : svc_buf_str(&head);
        const int frames = 1 + rand() % 5;
        for (int k = 0; k < frames; k++)
            assert_true(svc_msg_send_bytes(bench.client,
                                           k == 0 ? first : (svc_str){junk, n},
                                           k + 1 < frames ? ZMQ_SNDMORE : 0));
        svc_buf_fini(&head);
        if (i % 100 == 0)
            fixture_run_for(&bench.fixture, 1);
    }
    bench.head.id = NO_ID;
    send_request(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (bench.head.id != 2 && svc_mono_ms() < until)
        fixture_run_for(&bench.fixture, 5);
    assert_int_equal(bench.head.id, 2);
    assert_true(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES) > 10000);
    close_bench(&bench);
}

static void
gives_text_and_retry_after_of_an_error(void **state)
{
    (void)state;
    bench_t bench;
    login_req_t wrong = good_login;
    wrong.password = SVC_LIT("wrong");
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_LOGIN, &login_req_schema, &wrong);
    expect_error(&bench, RC_THROTTLED);
    assert_string_equal(bench.text, "try again");
    assert_int_equal(bench.retry_after_s, 30);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_REQUEST_ERRORS), 1);
    close_bench(&bench);
}

static void
a_request_with_id_0_is_served_and_not_answered(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    send_request(&bench, 0, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    fixture_run_until(&bench.fixture, was_served, &bench);
    ask(&bench, 2, OP_SVC_PING, &empty_schema, &nothing);
    assert_int_equal(bench.replies, 1);
    close_bench(&bench);
}

static void
says_why_an_endpoint_cannot_be_bound(void **state)
{
    (void)state;
    bench_t bench;
    char *error = NULL;
    svc_server_t *second = NULL;
    open_bench(&bench, NULL);
    assert_int_equal(svc_server_new(&bench.fixture.ctx, svc_server_endpoint(bench.server),
                                    ops, &bench, &second, &error),
                     RC_UNAVAILABLE);
    assert_non_null(strstr(error, "Address already in use"));
    assert_non_null(strstr(error, "127.0.0.1"));
    free(error);
    close_bench(&bench);
}

/* --- later -------------------------------------------------------------------------------------- */

static void
a_kept_call_is_answered_later(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    send_request(&bench, 2, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    fixture_run_until(&bench.fixture, keeps_call, &bench);
    svc_call_t *call = svc_server_call(bench.server, bench.kept);
    assert_non_null(call);
    assert_int_equal(svc_call_trace(call).n, PROTO_TRACE_BYTES);
    assert_memory_equal(svc_call_trace(call).p, "0123456789abcdef", PROTO_TRACE_BYTES);
    const register_rep_t rep = {.user = 5};
    svc_call_finish(call, RC_OK, &rep);
    assert_null(svc_server_call(bench.server, bench.kept));
    assert_int_equal(svc_server_kept_calls(bench.server), 0);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    assert_int_equal(bench.cancelled, 0);
    close_bench(&bench);
}

static void
a_kept_call_may_be_answered_with_an_encoded_body_or_an_error(void **state)
{
    (void)state;
    bench_t bench;
    svc_buf_t body;
    open_bench(&bench, "gateway");
    svc_buf_init(&body, 1000);
    const register_rep_t rep = {.user = 5};
    assert_int_equal(proto_encode(&register_rep_schema, &rep, &body), RC_OK);
    send_request(&bench, 2, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    fixture_run_until(&bench.fixture, keeps_call, &bench);
    svc_call_finish_encoded(svc_server_call(bench.server, bench.kept),
                            svc_buf_str(&body));
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(bench.body_n, body.n);
    assert_memory_equal(bench.body, body.p, body.n);
    svc_buf_fini(&body);

    send_request(&bench, 3, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    fixture_run_until(&bench.fixture, keeps_call, &bench);
    svc_call_finish(svc_server_call(bench.server, bench.kept), RC_USERNAME_TAKEN, NULL);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    expect_error(&bench, RC_USERNAME_TAKEN);
    close_bench(&bench);
}

static void
a_handler_may_finish_the_call_itself_and_say_later(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    bench.is_resolved_inside = true;
    ask(&bench, 2, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    assert_int_equal(svc_server_kept_calls(bench.server), 0);
    assert_null(svc_server_call(bench.server, bench.kept));
    close_bench(&bench);
}

static void
a_call_past_its_budget_is_cancelled_and_its_caller_told(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    const uint64_t began = svc_mono_ms();
    ask(&bench, 2, OP_AUTH_REGISTER, &register_req_schema, &good_register);
    expect_error(&bench, RC_TIMEOUT);
    assert_true(svc_mono_ms() - began >= 150);
    assert_int_equal(bench.cancelled, 1);
    assert_int_equal(bench.kept_last, bench.kept);
    assert_null(svc_server_call(bench.server, bench.kept));
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_CALLS_CANCELLED), 1);
    close_bench(&bench);
}

static void
a_call_is_never_kept_past_the_expiry_of_its_request(void **state)
{
    (void)state;
    bench_t bench;
    svc_buf_t body;
    proto_envelope_t head = envelope_of(2, OP_AUTH_REGISTER);
    head.expires_ms = svc_unix_ms() + 60;
    open_bench(&bench, "gateway");
    svc_buf_init(&body, 1000);
    assert_int_equal(proto_encode(&register_req_schema, &good_register, &body), RC_OK);
    head.expires_ms = svc_unix_ms() + 100;
    const uint64_t began = svc_mono_ms();
    send_raw(&bench, &head, svc_buf_str(&body), true, false);
    fixture_run_until(&bench.fixture, was_cancelled, &bench);
    assert_true(svc_mono_ms() - began < 150);
    svc_buf_fini(&body);
    close_bench(&bench);
}

static void
parts_lift_the_deadline_and_the_end_of_the_hold_is_silent(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "tool");
    bench.hold_ms = 100;
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    assert_int_equal(bench.head.kind, PROTO_PARTIAL);
    for (int i = 0; i < 3; i++) {
        const verify_rep_t part = {.user = 2, .expires_s = 2};
        fixture_run_for(&bench.fixture, 50);
        svc_call_t *call = svc_server_call(bench.server, bench.kept);
        assert_non_null(call);
        assert_int_equal(svc_call_partial(call, &part, 100), RC_OK);
    }
    bench.replies = 0;
    fixture_run_until(&bench.fixture, was_cancelled, &bench);
    fixture_run_for(&bench.fixture, 20);
    assert_int_equal(bench.replies, 1); /* the third part, and nothing after it */
    assert_int_equal(bench.head.kind, PROTO_PARTIAL);
    close_bench(&bench);
}

static void
a_call_with_a_hold_of_0_stays_until_it_is_finished(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    fixture_run_for(&bench.fixture, 1200); /* its budget is 1000 */
    svc_call_t *call = svc_server_call(bench.server, bench.kept);
    assert_non_null(call);
    const verify_rep_t rep = {.user = 3, .expires_s = 3};
    bench.replies = 0;
    svc_call_finish(call, RC_OK, &rep);
    fixture_run_until(&bench.fixture, has_reply, &bench);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    close_bench(&bench);
}

static void
a_part_to_a_caller_that_is_gone_cancels_the_call(void **state)
{
    (void)state;
    bench_t bench;
    const verify_rep_t part = {.user = 2, .expires_s = 2};
    svc_rc rc = RC_OK;
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    disconnect_client(&bench);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (rc == RC_OK && svc_mono_ms() < until) { /* until ZeroMQ has noticed */
        rc = svc_call_partial(svc_server_call(bench.server, bench.kept), &part, 0);
        fixture_run_for(&bench.fixture, 5);
    }
    assert_int_equal(rc, RC_UNAVAILABLE);
    assert_int_equal(bench.cancelled, 1);
    assert_null(svc_server_call(bench.server, bench.kept));
    close_bench(&bench);
}

static bool
finishes(void *arg)
{
    bench_t *bench = arg;
    const verify_rep_t rep = {.user = 3, .expires_s = 3};
    svc_call_t *call = svc_server_call(bench->server, bench->kept);
    return call == NULL || svc_call_try_finish(call, &rep) == RC_OK;
}

static bool
has_final(void *arg)
{
    return ((bench_t *)arg)->head.kind == PROTO_FINAL;
}

static void
a_last_answer_that_must_not_be_lost_waits_for_a_caller_that_reads_too_slowly(void **state)
{
    (void)state;
    bench_t bench;
    const verify_rep_t part = {.user = 2, .expires_s = 2};
    svc_rc rc = RC_OK;
    open_bench(&bench, NULL);
    disconnect_client(&bench);
    connect_client(&bench, 1);
    say_hello(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    svc_loop_remove_socket(bench.fixture.ctx.loop, bench.client);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (rc == RC_OK && svc_mono_ms() < until) /* until all on the way is full */
        rc = svc_call_partial(svc_server_call(bench.server, bench.kept), &part, 0);
    assert_int_equal(rc, RC_BUSY);
    assert_false(finishes(&bench));
    assert_int_equal(bench.cancelled, 0);
    assert_non_null(svc_server_call(bench.server, bench.kept));
    svc_loop_add_socket(bench.fixture.ctx.loop, bench.client, on_client, &bench);
    fixture_run_until(&bench.fixture, finishes, &bench);
    fixture_run_until(&bench.fixture, has_final, &bench);
    assert_null(svc_server_call(bench.server, bench.kept));
    assert_int_equal(bench.cancelled, 0);
    close_bench(&bench);
}

static void
a_last_answer_to_a_caller_that_is_gone_cancels_the_call(void **state)
{
    (void)state;
    bench_t bench;
    const verify_rep_t part = {.user = 2, .expires_s = 2};
    svc_rc rc = RC_OK;
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    const uint64_t first = bench.kept;
    ask(&bench, 3, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    disconnect_client(&bench);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (rc == RC_OK && svc_mono_ms() < until) { /* until ZeroMQ has noticed */
        rc = svc_call_partial(svc_server_call(bench.server, first), &part, 0);
        fixture_run_for(&bench.fixture, 5);
    }
    svc_call_t *call = svc_server_call(bench.server, bench.kept);
    assert_non_null(call);
    assert_int_equal(svc_call_try_finish(call, &part), RC_UNAVAILABLE);
    assert_int_equal(bench.cancelled, 2);
    assert_null(svc_server_call(bench.server, bench.kept));
    close_bench(&bench);
}

static void
a_dropped_call_ends_without_a_word(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    svc_call_drop(svc_server_call(bench.server, bench.kept));
    assert_int_equal(bench.cancelled, 0);
    ask(&bench, 3, OP_SVC_PING, &empty_schema, &nothing);
    assert_int_equal(bench.replies, 1);
    close_bench(&bench);
}

static void
calls_that_are_kept_at_the_end_are_cancelled(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    for (uint64_t i = 0; i < 100; i++)
        ask(&bench, 2 + i, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    assert_int_equal(svc_server_kept_calls(bench.server), 100);
    disconnect_client(&bench);
    svc_server_destroy(&bench.server);
    assert_null(bench.server);
    assert_int_equal(bench.cancelled, 100);
    fixture_close(&bench.fixture);
}

static bool
has_last_reply(void *arg)
{
    return ((bench_t *)arg)->head.id == SVC_SERVER_CALLS_MAX + 2;
}

static void
refuses_more_calls_than_it_can_keep(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, "gateway");
    for (uint64_t i = 0; i <= SVC_SERVER_CALLS_MAX; i++) {
        send_request(&bench, 2 + i, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
        if (i % 1000 == 0)
            fixture_run_for(&bench.fixture, 1);
    }
    fixture_run_until(&bench.fixture, has_last_reply, &bench);
    expect_error(&bench, RC_BUSY);
    assert_int_equal(svc_server_kept_calls(bench.server), SVC_SERVER_CALLS_MAX);
    close_bench(&bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_a_request_of_a_service_that_said_hello),
        cmocka_unit_test(refuses_everything_but_hello_before_hello),
        cmocka_unit_test(
            refuses_a_service_that_may_not_call_and_forgets_its_old_name_at_a_new_hello),
        cmocka_unit_test(knows_the_last_4096_routes_only),
        cmocka_unit_test(tells_its_instance_whether_it_drains_and_its_counters),
        cmocka_unit_test(answers_an_unknown_operation_with_invalid),
        cmocka_unit_test(answers_missing_surplus_and_undecodable_bodies_with_invalid),
        cmocka_unit_test(drops_what_has_expired),
        cmocka_unit_test(serves_on_after_any_garbage),
        cmocka_unit_test(gives_text_and_retry_after_of_an_error),
        cmocka_unit_test(a_request_with_id_0_is_served_and_not_answered),
        cmocka_unit_test(says_why_an_endpoint_cannot_be_bound),
        cmocka_unit_test(a_kept_call_is_answered_later),
        cmocka_unit_test(a_kept_call_may_be_answered_with_an_encoded_body_or_an_error),
        cmocka_unit_test(a_handler_may_finish_the_call_itself_and_say_later),
        cmocka_unit_test(a_call_past_its_budget_is_cancelled_and_its_caller_told),
        cmocka_unit_test(a_call_is_never_kept_past_the_expiry_of_its_request),
        cmocka_unit_test(parts_lift_the_deadline_and_the_end_of_the_hold_is_silent),
        cmocka_unit_test(a_call_with_a_hold_of_0_stays_until_it_is_finished),
        cmocka_unit_test(a_part_to_a_caller_that_is_gone_cancels_the_call),
        cmocka_unit_test(
            a_last_answer_that_must_not_be_lost_waits_for_a_caller_that_reads_too_slowly),
        cmocka_unit_test(a_last_answer_to_a_caller_that_is_gone_cancels_the_call),
        cmocka_unit_test(a_dropped_call_ends_without_a_word),
        cmocka_unit_test(calls_that_are_kept_at_the_end_are_cancelled),
        cmocka_unit_test(refuses_more_calls_than_it_can_keep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
