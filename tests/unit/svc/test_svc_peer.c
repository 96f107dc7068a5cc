/* test_svc_peer.c - calls, and what a peer makes of servers that die, freeze, restart or talk nonsense.
 *
 * The good server is a real svc_server in the same loop; the bad one a bare ROUTER that answers
 * hello and ping as its mode says. Pings go out faster than usual; how long silence may last, a
 * test shortens itself when it wants the end of it, so that a busy machine never looks silent. */
#include "bus_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "svc/svc_msg.h"
#include "svc/svc_peer.h"
#include "svc/svc_server.h"

typedef enum {
    FAKE_GOOD,        /* answers hello and ping, calls with an empty map */
    FAKE_SILENT,      /* answers nothing */
    FAKE_HELLO_ONLY,  /* answers hello only */
    FAKE_GARBAGE,     /* answers calls with random frames */
    FAKE_HELLO_ERROR, /* answers hello with an error */
} fake_mode;

typedef struct {
    fixture_t fixture;        /* first: of the caller, "gateway" */
    svc_ctx_t server_ctx;     /* of the good server, same loop */
    svc_server_t *server;     /* the good one */
    void *fake;               /* ROUTER, the bad one */
    fake_mode mode;           /* of fake */
    uint64_t fake_instance;   /* that fake says it is */
    const char *fake_service; /* that fake says it is */
    int fake_pings;           /* that fake received */
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

static svc_rc
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

static void
start_server(bench_t *bench, uint64_t instance, const char *endpoint)
{
    char *error = NULL;
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

static void
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

static void
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

static void
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
        if (bench->mode == FAKE_GOOD || bench->mode == FAKE_GARBAGE)
            fake_reply(bench, route, request->id, PROTO_FINAL, &ping_rep_schema, &ping);
    } else if (bench->mode == FAKE_GARBAGE) {
        fake_garbage(bench, route, request->id);
    } else if (bench->mode == FAKE_GOOD) {
        fake_reply(bench, route, request->id, PROTO_FINAL, &empty_schema, &nothing);
    }
}

static void
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

static void
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

static void
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

static void
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

static bool
has_events(void *arg)
{
    const bench_t *bench = arg;
    return strlen(bench->events) >= bench->wanted_events;
}

static bool
has_replies(void *arg)
{
    const bench_t *bench = arg;
    return bench->replies >= bench->wanted;
}

static bool
has_served(void *arg)
{
    const bench_t *bench = arg;
    return bench->served >= bench->wanted;
}

static bool
has_hellos(void *arg)
{
    const bench_t *bench = arg;
    return bench->fake_hellos >= bench->wanted;
}

static bool
has_pings(void *arg)
{
    const bench_t *bench = arg;
    return bench->fake_pings >= bench->wanted;
}

static void
await_events(bench_t *bench, const char *events)
{
    bench->wanted_events = strlen(events);
    fixture_run_until(&bench->fixture, has_events, bench);
    assert_string_equal(bench->events, events);
}

static void
await_replies(bench_t *bench, int n)
{
    bench->wanted = n;
    fixture_run_until(&bench->fixture, has_replies, bench);
    assert_int_equal(bench->replies, n);
}

static void
open_peer(bench_t *bench)
{
    char *error = NULL;
    bench->peer = svc_peer_new(&bench->fixture.ctx, "auth-svc", bench->endpoint, on_event,
                               bench, &error);
    assert_non_null(bench->peer);
}

static void
open_bench(bench_t *bench)
{
    *bench = (bench_t){0};
    fixture_open(&bench->fixture, "gateway");
    bench->times = svc_peer_usual_times;
    bench->times.tick = 10;
    bench->times.ping = 50;
    bench->times.wrong = 10;
    bench->times.reopen = 10;
    bench->fixture.ctx.peer_times = &bench->times;
}

/* With the good server, up. */
static void
open_pair(bench_t *bench)
{
    open_bench(bench);
    start_server(bench, 1, "tcp://127.0.0.1:*");
    open_peer(bench);
    await_events(bench, "U");
}

static void
stop_fake(bench_t *bench)
{
    if (bench->fake == NULL)
        return;
    svc_loop_remove_socket(bench->fixture.ctx.loop, bench->fake);
    zmq_close(bench->fake);
    bench->fake = NULL;
}

static void
close_bench(bench_t *bench)
{
    svc_peer_destroy(&bench->peer);
    assert_null(bench->peer);
    svc_server_destroy(&bench->server);
    stop_fake(bench);
    fixture_close(&bench->fixture);
}

static svc_rc
call(bench_t *bench, const char *username, uint64_t timeout_ms, uint64_t hold_ms,
     uint64_t *id)
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
        .on_reply = on_reply,
        .arg = bench,
    };
    return svc_peer_call(bench->peer, &request, id);
}

/* --- calls ------------------------------------------------------------------------------------------ */

static void
a_call_is_answered(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(bench.instances[0], 1);
    assert_true(svc_peer_is_up(bench.peer));
    assert_int_equal(svc_peer_instance(bench.peer), 1);
    uint64_t id = 0;
    assert_int_equal(call(&bench, "ann", 5000, 0, &id), RC_OK);
    assert_int_not_equal(id, 0);
    assert_int_equal(bench.replies, 0); /* never inside svc_peer_call */
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(bench.value, 8);
    svc_peer_forget(bench.peer, id); /* harmless */
    svc_peer_forget(bench.peer, 0);
    close_bench(&bench);
}

static void
an_error_brings_code_text_and_retry_after(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(call(&bench, "taken", 5000, 0, NULL), RC_OK);
    await_replies(&bench, 1);
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_int_equal(bench.rc, RC_USERNAME_TAKEN);
    assert_string_equal(bench.text, "somebody has it");
    assert_int_equal(bench.retry_after_s, 3);
    close_bench(&bench);
}

static void
refuses_what_cannot_be_encoded(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    char *large = malloc(1u << 20);
    memset(large, 'x', (1u << 20) - 1);
    large[(1u << 20) - 1] = '\0';
    assert_int_equal(call(&bench, large, 5000, 0, NULL), RC_TOO_BIG);
    free(large);
    assert_int_not_equal(call(&bench, "\xff", 5000, 0, NULL), RC_OK);
    fixture_run_for(&bench.fixture, 20);
    assert_int_equal(bench.replies, 0);
    close_bench(&bench);
}

static void
a_call_that_is_not_answered_in_time_fails(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    const uint64_t began = svc_mono_ms();
    assert_int_equal(call(&bench, "later", 100, 0, NULL), RC_OK);
    assert_int_equal(call(&bench, "later", 5000, 0, NULL), RC_OK);
    assert_int_equal(call(&bench, "later", 50, 0, NULL), RC_OK);
    await_replies(&bench, 1);
    assert_true(svc_mono_ms() - began >= 50);
    await_replies(&bench, 2);
    assert_int_equal(bench.rc, RC_TIMEOUT);
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_true(svc_mono_ms() - began >= 100);
    assert_int_equal(bench.replies, 2); /* the one that has 5 s is still open */
    close_bench(&bench);
}

static void
parts_come_until_the_last_and_the_time_between_them_is_bounded(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(call(&bench, "later", 5000, 150, NULL), RC_OK);
    bench.wanted = 1;
    fixture_run_until(&bench.fixture, has_served, &bench);
    svc_call_t *kept = svc_server_call(bench.server, bench.kept);
    for (int i = 1; i <= 4; i++) {
        const register_rep_t part = {.user = (uint64_t)i};
        assert_int_equal(svc_call_partial(kept, &part, 0), RC_OK);
        await_replies(&bench, i);
        assert_int_equal(bench.kind, PROTO_PARTIAL);
        assert_int_equal(bench.value, i);
        fixture_run_for(&bench.fixture, 60);
    }
    await_replies(&bench, 5); /* no more parts */
    assert_int_equal(bench.kind, PROTO_ERROR);
    assert_int_equal(bench.rc, RC_TIMEOUT);
    const register_rep_t late = {.user = 9};
    svc_call_finish(kept, RC_OK, &late);
    fixture_run_for(&bench.fixture, 30);
    assert_int_equal(bench.replies, 5);
    close_bench(&bench);
}

static void
a_forgotten_call_hears_nothing_more(void **state)
{
    (void)state;
    bench_t bench;
    uint64_t id = 0, other = 0;
    open_pair(&bench);
    assert_int_equal(call(&bench, "ann", 5000, 0, &id), RC_OK);
    svc_peer_forget(bench.peer, id);
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_OK);
    await_replies(&bench, 1);
    /* One callback forgets the next call. */
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_OK);
    assert_int_equal(call(&bench, "ann", 5000, 0, &other), RC_OK);
    bench.forget = other;
    bench.wanted = 4;
    fixture_run_until(&bench.fixture, has_served, &bench);
    fixture_run_for(&bench.fixture, 30);
    assert_int_equal(bench.replies, 2);
    close_bench(&bench);
}

static void
a_post_is_served_and_not_answered(void **state)
{
    (void)state;
    bench_t bench;
    const register_req_t req = {.username = SVC_LIT("ann"), .password = SVC_LIT("x")};
    open_pair(&bench);
    assert_int_equal(
        svc_peer_post(bench.peer, OP_AUTH_REGISTER, &register_req_schema, &req), RC_OK);
    bench.wanted = 1;
    fixture_run_until(&bench.fixture, has_served, &bench);
    svc_server_destroy(&bench.server);
    await_events(&bench, "UDL");
    assert_int_equal(
        svc_peer_post(bench.peer, OP_AUTH_REGISTER, &register_req_schema, &req),
        RC_UNAVAILABLE);
    close_bench(&bench);
}

static void
refuses_more_calls_than_it_keeps(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_fake(&bench, FAKE_HELLO_ONLY, 5, "auth-svc");
    open_peer(&bench);
    await_events(&bench, "U");
    int n = 0;
    svc_rc rc = RC_OK;
    for (; n < SVC_PEER_CALLS_MAX + 10; n++) {
        rc = call(&bench, "ann", 60000, 0, NULL);
        if (rc != RC_OK)
            break;
        if (n % 100 == 0)
            fixture_run_for(&bench.fixture, 1);
    }
    assert_int_equal(rc, RC_BUSY);
    assert_true(n <= SVC_PEER_CALLS_MAX);
    assert_true(n >= 1000);
    close_bench(&bench);
}

/* --- up, down, lost --------------------------------------------------------------------------------- */

static void
refuses_endpoints_that_are_none_and_several_at_once(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",         "127.0.0.1:70",        "tcp://",           "tcp://host",
        "tcp://:7", "tcp://host:0",        "tcp://host:70000", "tcp://host:x",
        "ipc:///x", "tcp://a:70,tcp://b:7"};
    fixture_t fixture;
    fixture_open(&fixture, "gateway");
    for (size_t i = 0; i < SVC_COUNT(wrong); i++) {
        char *error = NULL;
        assert_null(svc_peer_new(&fixture.ctx, "auth-svc", wrong[i], NULL, NULL, &error));
        assert_non_null(error);
        assert_non_null(strstr(error, "auth-svc"));
        assert_int_equal(strstr(wrong[i], ",") != NULL, strstr(error, "several") != NULL);
        free(error);
    }
    fixture_close(&fixture);
}

static void
a_peer_that_never_was_there_is_neither_down_nor_lost(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_server(&bench, 1, "tcp://127.0.0.1:*");
    svc_server_destroy(&bench.server);
    open_peer(&bench);
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_UNAVAILABLE);
    fixture_run_for(&bench.fixture, 500);
    assert_string_equal(bench.events, "");
    start_server(&bench, 1, bench.endpoint); /* ... and comes up when it starts */
    await_events(&bench, "U");
    close_bench(&bench);
}

static void
the_death_of_a_server_fails_its_calls_and_its_successor_is_another_instance(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    for (int i = 0; i < 10; i++)
        assert_int_equal(call(&bench, "later", 60000, 0, NULL), RC_OK);
    bench.wanted = 10;
    fixture_run_until(&bench.fixture, has_served, &bench);
    const uint64_t began = svc_mono_ms();
    svc_server_destroy(&bench.server);
    await_replies(&bench, 10);
    assert_true(svc_mono_ms() - began < 1000);
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_UNAVAILABLE);
    await_events(&bench, "UDL"); /* refused */
    assert_int_equal(bench.calls_at_down, 10);
    assert_int_equal(bench.instances[2], 1);
    fixture_run_for(&bench.fixture, 300);
    assert_string_equal(bench.events, "UDL"); /* told once */
    start_server(&bench, 2, bench.endpoint);
    await_events(&bench, "UDLU");
    assert_int_equal(bench.instances[3], 2);
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_OK);
    await_replies(&bench, 11);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_PEER_UPS), 2);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_PEER_DOWNS), 1);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_PEER_LOSSES), 1);
    close_bench(&bench);
}

static void
another_instance_at_the_same_address_is_the_loss_of_the_old_one(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_fake(&bench, FAKE_GOOD, 5, "auth-svc");
    open_peer(&bench);
    await_events(&bench, "U");
    bench.fake_instance = 6; /* the next ping reply shows it */
    await_events(&bench, "UDLU");
    assert_int_equal(bench.instances[1], 5);
    assert_int_equal(bench.instances[2], 5);
    assert_int_equal(bench.instances[3], 6);
    close_bench(&bench);
}

static void
another_service_at_the_address_is_refused(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_fake(&bench, FAKE_GOOD, 5, "convo-svc");
    open_peer(&bench);
    bench.wanted = 3; /* it goes on trying */
    fixture_run_until(&bench.fixture, has_hellos, &bench);
    assert_string_equal(bench.events, "");
    bench.mode = FAKE_HELLO_ERROR;
    bench.wanted = bench.fake_hellos + 3;
    fixture_run_until(&bench.fixture, has_hellos, &bench);
    assert_string_equal(bench.events, "");
    bench.mode = FAKE_GOOD;
    bench.fake_service = "auth-svc";
    await_events(&bench, "U");
    close_bench(&bench);
}

static void
silence_is_down_then_lost_and_a_sign_of_life_is_up_again(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_fake(&bench, FAKE_HELLO_ONLY, 5, "auth-svc");
    const uint64_t began = svc_mono_ms();
    open_peer(&bench);
    await_events(&bench, "U");
    bench.mode = FAKE_SILENT;
    bench.times.down = 300;
    assert_int_equal(call(&bench, "later", 60000, 0, NULL), RC_OK);
    await_events(&bench, "UD");
    assert_true(svc_mono_ms() - began >= bench.times.down);
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    const uint64_t again = svc_mono_ms();
    bench.mode = FAKE_GOOD; /* back before it is lost: the same instance */
    await_events(&bench, "UDU");
    bench.mode = FAKE_SILENT;
    bench.times.lost = 600;
    await_events(&bench, "UDUDL");
    assert_true(svc_mono_ms() - again >= bench.times.lost);
    bench.mode = FAKE_GOOD;
    await_events(&bench, "UDUDLU");
    assert_int_equal(bench.instances[5], 5);
    close_bench(&bench);
}

/* The times that others rely on: convo-svc gives an answer up, and gateways hand their tails in, by them. */
static void
services_go_by_1_3_and_12_seconds(void **state)
{
    (void)state;
    assert_int_equal(svc_peer_usual_times.ping, 1000);
    assert_int_equal(svc_peer_usual_times.down, 3000);
    assert_int_equal(svc_peer_usual_times.lost, 12000);
    assert_int_equal(svc_peer_usual_times.ping % svc_peer_usual_times.tick, 0);
}

static void
pings_tell_of_draining(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_false(svc_peer_is_draining(bench.peer));
    svc_server_set_draining(bench.server);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (!svc_peer_is_draining(bench.peer) && svc_mono_ms() < until)
        fixture_run_for(&bench.fixture, 10);
    assert_true(svc_peer_is_draining(bench.peer));
    assert_true(svc_peer_is_up(bench.peer));
    close_bench(&bench);
}

/* A process of its own, so that it can be stopped and killed; writes its endpoint to `fd`. */
static void
run_child_server(int fd)
{
    bench_t bench;
    open_bench(&bench);
    start_server(&bench, 1, "tcp://127.0.0.1:*");
    if (write(fd, bench.endpoint, sizeof(bench.endpoint)) < 0)
        _exit(1);
    svc_loop_run(bench.fixture.ctx.loop);
    _exit(0);
}

static pid_t
start_child_server(char endpoint[256])
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run_child_server(fds[1]);
    assert_int_equal(read(fds[0], endpoint, 256), 256);
    close(fds[0]);
    close(fds[1]);
    return pid;
}

static void
a_frozen_process_is_down_and_not_lost_and_a_killed_one_is_lost(void **state)
{
    (void)state;
    bench_t bench;
    char endpoint[256];
    const pid_t pid = start_child_server(endpoint);
    open_bench(&bench);
    memcpy(bench.endpoint, endpoint, sizeof(endpoint));
    open_peer(&bench);
    await_events(&bench, "U");
    kill(pid, SIGSTOP);
    fixture_run_for(&bench.fixture, 300);
    kill(pid, SIGCONT);
    fixture_run_for(&bench.fixture, 300);
    assert_string_equal(bench.events, "U"); /* some missing answers are nothing */
    kill(pid, SIGSTOP);
    bench.times.down = 100;
    bench.times.handshake = 100;
    await_events(&bench, "UD");
    fixture_run_for(&bench.fixture, 600); /* handshakes begin and time out */
    assert_string_equal(bench.events, "UD");
    bench.times.down = svc_peer_usual_times.down;
    bench.times.handshake = svc_peer_usual_times.handshake;
    kill(pid, SIGCONT);
    await_events(&bench, "UDU");
    kill(pid, SIGKILL);
    await_events(&bench, "UDUDL");
    waitpid(pid, NULL, 0);
    close_bench(&bench);
}

static void
on_stand_still(void *arg, short events)
{
    const struct timespec wait = {.tv_sec = 1, .tv_nsec = 200000000};
    (void)events;
    nanosleep(&wait, NULL);
    ((bench_t *)arg)->mode = FAKE_GOOD;
}

static void
standing_still_ourselves_is_no_sign_of_anything(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    bench.times.down = 1100;
    bench.times.lost = 1100;
    start_fake(&bench, FAKE_HELLO_ONLY, 5, "auth-svc");
    open_peer(&bench);
    await_events(&bench, "U");
    bench.wanted = 1; /* an answer is due when we stop looking */
    fixture_run_until(&bench.fixture, has_pings, &bench);
    svc_loop_after(bench.fixture.ctx.loop, 0, on_stand_still, &bench);
    bench.wanted = 5;
    fixture_run_until(&bench.fixture, has_pings, &bench);
    assert_string_equal(bench.events, "U");
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_OK);
    close_bench(&bench);
}

static void
garbage_fails_the_call_and_never_the_caller(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    srand(5);
    start_fake(&bench, FAKE_GARBAGE, 5, "auth-svc");
    open_peer(&bench);
    await_events(&bench, "U");
    for (int i = 1; i <= 100; i++) {
        assert_int_equal(call(&bench, "ann", 5000, 5000, NULL), RC_OK);
        await_replies(&bench, i);
        assert_int_equal(bench.kind, PROTO_ERROR);
        assert_int_equal(bench.rc, RC_INTERNAL);
    }
    assert_true(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES) > 1000);
    assert_string_equal(bench.events, "U");
    close_bench(&bench);
}

static void
destroying_a_peer_forgets_its_calls(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_int_equal(call(&bench, "later", 5000, 0, NULL), RC_OK);
    bench.wanted = 1;
    fixture_run_until(&bench.fixture, has_served, &bench);
    close_bench(&bench);
    assert_int_equal(bench.replies, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_answered),
        cmocka_unit_test(an_error_brings_code_text_and_retry_after),
        cmocka_unit_test(refuses_what_cannot_be_encoded),
        cmocka_unit_test(a_call_that_is_not_answered_in_time_fails),
        cmocka_unit_test(parts_come_until_the_last_and_the_time_between_them_is_bounded),
        cmocka_unit_test(a_forgotten_call_hears_nothing_more),
        cmocka_unit_test(a_post_is_served_and_not_answered),
        cmocka_unit_test(refuses_more_calls_than_it_keeps),
        cmocka_unit_test(refuses_endpoints_that_are_none_and_several_at_once),
        cmocka_unit_test(a_peer_that_never_was_there_is_neither_down_nor_lost),
        cmocka_unit_test(
            the_death_of_a_server_fails_its_calls_and_its_successor_is_another_instance),
        cmocka_unit_test(another_instance_at_the_same_address_is_the_loss_of_the_old_one),
        cmocka_unit_test(another_service_at_the_address_is_refused),
        cmocka_unit_test(silence_is_down_then_lost_and_a_sign_of_life_is_up_again),
        cmocka_unit_test(services_go_by_1_3_and_12_seconds),
        cmocka_unit_test(pings_tell_of_draining),
        cmocka_unit_test(a_frozen_process_is_down_and_not_lost_and_a_killed_one_is_lost),
        cmocka_unit_test(standing_still_ourselves_is_no_sign_of_anything),
        cmocka_unit_test(garbage_fails_the_call_and_never_the_caller),
        cmocka_unit_test(destroying_a_peer_forgets_its_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
