/* test_svc_curve.c - a locked bus: who is let in, who is not, and what a caller's key allows.
 *
 * Server and callers have contexts of their own, as processes have. A caller is a bare DEALER where it must say what a
 * peer would not, or a real peer where both sides are to find each other. */
#include "keys_fixture.h"
#include "raw_zmtp.h"
#include "server_bench.h"

#include "svc/svc_peer.h"

typedef struct {
    bench_t bench;    /* first: loop, and the server of auth-svc */
    keys_dir_t keys;  /* of everybody */
    svc_ctx_t server; /* side of auth-svc */
    svc_ctx_t caller; /* side of who calls */
    int ups;          /* of a peer */
} lock_t;

static int
open_lock(void **state)
{
    lock_t *l = svc_alloc(sizeof(*l));
    char endpoint[64], *error = NULL;

    keys_open(&l->keys);
    fixture_open(&l->bench.fixture, "nobody");
    l->server = side_open(&l->bench.fixture.ctx, &l->keys, "auth-svc");
    assert_int_equal(svc_server_new(&l->server, fixture_free_endpoint(endpoint), ops, l,
                                    &l->bench.server, &error),
                     RC_OK);
    *state = l;
    return 0;
}

static int
close_lock(void **state)
{
    lock_t *l = *state;

    if (l->bench.client != NULL)
        disconnect_client(&l->bench);
    svc_server_destroy(&l->bench.server);
    if (l->caller.zmq != NULL)
        side_close(&l->caller);
    side_close(&l->server);
    fixture_close(&l->bench.fixture);
    keys_close(&l->keys);
    free(l);
    return 0;
}

/* Connects a bare DEALER with the key of `service`, or (NULL) in plain text. `expected`: whom it takes the server for. */
static void
connect_as(lock_t *l, const char *service, const char *expected)
{
    if (service != NULL) {
        l->caller = side_open(&l->bench.fixture.ctx, &l->keys, service);
    } else {
        l->caller = l->bench.fixture.ctx;
        l->caller.zmq = zmq_ctx_new();
        l->caller.metrics = svc_metrics_new();
    }
    l->bench.client = svc_msg_socket(l->caller.zmq, ZMQ_DEALER, 0);
    svc_curve_call(l->caller.curve, l->bench.client, expected, 0);
    assert_int_equal(zmq_connect(l->bench.client, svc_server_endpoint(l->bench.server)),
                     0);
    svc_loop_add_socket(l->bench.fixture.ctx.loop, l->bench.client, on_client, &l->bench);
}

static void
send_hello(lock_t *l, const char *name)
{
    const hello_t hello = {
        .service = svc_str_c(name), .instance = 1, .version = SVC_LIT("test")};

    send_request(&l->bench, 1, OP_SVC_HELLO, &hello_schema, &hello);
}

static void
one_of_ours_is_served_under_its_own_name(void **state)
{
    lock_t *l = *state;

    connect_as(l, "gateway", "auth-svc");
    say_hello(&l->bench, "gateway");
    ask(&l->bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    assert_int_equal(l->bench.head.kind, PROTO_FINAL);
    ask(&l->bench, 3, OP_SVC_STATS, &empty_schema, &nothing);
    assert_int_equal(l->bench.head.kind, PROTO_FINAL);
    assert_int_equal(svc_metrics_get(l->server.metrics, SVC_M_BUS_STRANGERS), 0);
    assert_int_equal(svc_metrics_get(l->server.metrics, SVC_M_BUS_HANDSHAKES_REFUSED), 0);
    assert_int_equal(svc_metrics_get(l->server.metrics, SVC_M_BUS_CALLS_REFUSED), 0);
}

static void
one_of_ours_may_not_call_everything(void **state)
{
    lock_t *l = *state;

    connect_as(l, "convo-svc", "auth-svc");
    say_hello(&l->bench, "convo-svc");
    ask(&l->bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    expect_error(&l->bench, RC_FORBIDDEN);
    assert_int_equal(svc_metrics_get(l->server.metrics, SVC_M_BUS_CALLS_REFUSED), 1);
    ask(&l->bench, 3, OP_SVC_STATS, &empty_schema, &nothing);
    assert_int_equal(l->bench.head.kind, PROTO_FINAL);
}

static void
nobody_takes_the_name_of_another(void **state)
{
    lock_t *l = *state;
    const hello_t hello = {.service = SVC_LIT("gateway"), .instance = 1};

    connect_as(l, "llm-svc", "auth-svc");
    ask(&l->bench, 1, OP_SVC_HELLO, &hello_schema, &hello);
    expect_error(&l->bench, RC_FORBIDDEN);
    ask(&l->bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    expect_error(&l->bench, RC_FORBIDDEN);
    assert_int_equal(svc_metrics_get(l->server.metrics, SVC_M_BUS_CALLS_REFUSED), 2);
}

static void
connect_as_chosen(lock_t *l)
{
    l->bench.client = svc_msg_socket(l->caller.zmq, ZMQ_DEALER, 0);
    svc_curve_call(l->caller.curve, l->bench.client, "auth-svc", 0);
    assert_int_equal(zmq_setsockopt(l->bench.client, ZMQ_ROUTING_ID, "chosen", 6), 0);
    assert_int_equal(zmq_connect(l->bench.client, svc_server_endpoint(l->bench.server)),
                     0);
    svc_loop_add_socket(l->bench.fixture.ctx.loop, l->bench.client, on_client, &l->bench);
}

/* The routing id is the caller's to choose: what another one said on it before counts for nothing. */
static void
a_routing_id_that_was_anothers_gives_no_rights(void **state)
{
    lock_t *l = *state;
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    svc_ctx_t first;

    l->caller = side_open(&l->bench.fixture.ctx, &l->keys, "gateway");
    connect_as_chosen(l);
    say_hello(&l->bench, "gateway");
    disconnect_client(&l->bench); /* its hello is still remembered */
    first = l->caller;
    l->caller = side_open(&l->bench.fixture.ctx, &l->keys, "llm-svc");
    side_close(&first);
    /* As long as the first one counts as connected nobody else is heard under its name: then once more. */
    for (bool is_heard = false; !is_heard;) {
        assert_true(svc_mono_ms() < until);
        connect_as_chosen(l);
        send_request(&l->bench, 2, OP_AUTH_LOGIN, &login_req_schema, &good_login);
        is_heard = fixture_runs_until(&l->bench.fixture, has_reply, &l->bench, 2000);
        if (!is_heard)
            disconnect_client(&l->bench);
    }
    assert_int_equal(l->bench.head.id, 2);
    expect_error(&l->bench, RC_FORBIDDEN);
    assert_int_equal(l->bench.served, 0);
}

static void
a_stranger_with_a_key_of_its_own_is_refused_and_counted(void **state)
{
    lock_t *l = *state;
    char *error = NULL;
    char text[SVC_KEY_TEXT_BYTES + 1];
    keys_dir_t own;
    svc_keys_t *keys;

    keys_open(&own); /* of another stack: all names are right, no key is */
    keys = svc_keys_read(l->keys.dir, "auth-svc", &error);
    assert_non_null(keys);
    assert_non_null(zmq_z85_encode(text, keys->public_key, SVC_KEY_BYTES));
    svc_keys_destroy(&keys);
    char line[64];
    snprintf(line, sizeof(line), "public %s\n", text);
    keys_write(&own, "auth-svc", ".pub", line);
    l->caller = side_open(&l->bench.fixture.ctx, &own, "gateway");
    l->bench.client = svc_msg_socket(l->caller.zmq, ZMQ_DEALER, 0);
    svc_curve_call(l->caller.curve, l->bench.client, "auth-svc", 0);
    assert_int_equal(zmq_connect(l->bench.client, svc_server_endpoint(l->bench.server)),
                     0);
    svc_loop_add_socket(l->bench.fixture.ctx.loop, l->bench.client, on_client, &l->bench);
    send_hello(l, "gateway");
    await_count(&l->bench.fixture, &l->server, SVC_M_BUS_STRANGERS, 1);
    assert_int_equal(svc_metrics_get(l->server.metrics, SVC_M_REQUESTS), 0);
    assert_int_equal(l->bench.replies, 0);
    keys_close(&own);
}

static void
plain_text_is_refused_and_counted(void **state)
{
    lock_t *l = *state;

    connect_as(l, NULL, "auth-svc");
    send_hello(l, "gateway");
    await_count(&l->bench.fixture, &l->server, SVC_M_BUS_HANDSHAKES_REFUSED, 1);
    assert_int_equal(svc_metrics_get(l->server.metrics, SVC_M_REQUESTS), 0);
    disconnect_client(&l->bench);
    assert_int_equal(zmq_ctx_term(l->caller.zmq), 0);
    svc_metrics_destroy(&l->caller.metrics);
    l->caller.zmq = NULL;
}

static void
what_is_no_zeromq_is_refused_and_counted(void **state)
{
    lock_t *l = *state;
    const int fd = raw_zmtp_connect(svc_server_endpoint(l->bench.server));

    assert_true(fd >= 0);
    assert_true(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL) == 18);
    await_count(&l->bench.fixture, &l->server, SVC_M_BUS_HANDSHAKES_REFUSED, 1);
    close(fd);
}

static void
who_leaves_without_a_handshake_is_counted(void **state)
{
    lock_t *l = *state;

    close(raw_zmtp_connect(svc_server_endpoint(l->bench.server)));
    await_count(&l->bench.fixture, &l->server, SVC_M_BUS_HANDSHAKES_REFUSED, 1);
    connect_as(l, "gateway", "auth-svc");
    say_hello(&l->bench, "gateway");
}

/* Asks the handler as ZeroMQ does, for a connection to the requests with `key`. */
static void
ask_in(void *zap, const uint8_t key[SVC_KEY_BYTES])
{
    const svc_str frames[] = {SVC_LIT(""),        SVC_LIT("1.0"),
                              SVC_LIT("1"),       SVC_LIT("requests"),
                              SVC_LIT("1.2.3.4"), SVC_LIT(""),
                              SVC_LIT("CURVE"),   {(const char *)key, SVC_KEY_BYTES}};

    for (size_t i = 0; i < SVC_COUNT(frames); i++)
        assert_true(svc_msg_send_bytes(zap, frames[i],
                                       i + 1 < SVC_COUNT(frames) ? ZMQ_SNDMORE : 0));
}

/* Gives whether the next answer lets somebody in. */
static bool
is_let_in(void *zap)
{
    zmq_msg_t msg;
    bool is_good = false;

    zmq_msg_init(&msg);
    for (int i = 0; i == 0 || zmq_msg_more(&msg); i++) {
        assert_true(svc_msg_recv(zap, &msg, 0));
        is_good = is_good || (i == 3 && svc_str_eq(svc_msg_str(&msg), SVC_LIT("200")));
    }
    zmq_msg_close(&msg);
    return is_good;
}

/* Asks so often, without waiting in between: a busy machine would take its time for each. Gives how often it was let in. */
static int
count_let_in(void *zap, const uint8_t key[SVC_KEY_BYTES], int times)
{
    int good = 0;

    for (int i = 0; i < times; i++)
        ask_in(zap, key);
    for (int i = 0; i < times; i++)
        good += is_let_in(zap) ? 1 : 0;
    return good;
}

static void
a_flood_of_connections_is_slowed_down_even_with_a_key(void **state)
{
    lock_t *l = *state;
    char *error = NULL;
    svc_keys_t *llm = svc_keys_read(l->keys.dir, "llm-svc", &error);
    svc_keys_t *gateway = svc_keys_read(l->keys.dir, "gateway", &error);
    void *zap = svc_msg_socket(l->server.zmq, ZMQ_DEALER, 0);
    int good = 0, asked = 0;

    assert_int_equal(zmq_connect(zap, "inproc://zeromq.zap.01"), 0);
    for (; good == asked && asked < 100000; asked += 100)
        good += count_let_in(zap, llm->public_key, 100);
    assert_in_range(good, 2000, 99999); /* a slow machine gets into the next window */
    assert_int_equal(count_let_in(zap, gateway->public_key, 1), 1);
    assert_int_equal(svc_metrics_get(l->server.metrics, SVC_M_BUS_STRANGERS),
                     asked - good);
    zmq_close(zap);
    svc_keys_destroy(&llm);
    svc_keys_destroy(&gateway);
}

/* --- peers --------------------------------------------------------------------------------------- */

static void
on_peer(void *arg, svc_peer_event event, uint64_t instance)
{
    (void)instance;
    ((lock_t *)arg)->ups += event == SVC_PEER_UP ? 1 : 0;
}

static bool
is_up(void *arg)
{
    return ((lock_t *)arg)->ups > 0;
}

static void
a_peer_and_a_server_find_each_other(void **state)
{
    lock_t *l = *state;
    char *error = NULL;
    svc_peer_t *peer;

    l->caller = side_open(&l->bench.fixture.ctx, &l->keys, "gateway");
    peer = svc_peer_new(&l->caller, "auth-svc", svc_server_endpoint(l->bench.server),
                        on_peer, l, &error);
    assert_non_null(peer);
    fixture_run_until(&l->bench.fixture, is_up, l);
    svc_peer_destroy(&peer);
}

/* libzmq 4.3.4 gives a connection up for good when the other side speaks another mechanism, or refuses our key. */
static void
a_peer_tries_again_when_the_other_side_has_no_keys_yet(void **state)
{
    lock_t *l = *state;
    char *error = NULL;
    svc_peer_t *peer;
    svc_peer_times_t times = svc_peer_usual_times;

    times.wrong = 50;
    l->caller = side_open(&l->bench.fixture.ctx, &l->keys, "gateway");
    svc_curve_t *curve = l->caller.curve;
    l->caller.curve = NULL; /* plain */
    l->caller.peer_times = &times;
    peer = svc_peer_new(&l->caller, "auth-svc", svc_server_endpoint(l->bench.server),
                        on_peer, l, &error);
    assert_non_null(peer);
    await_count(&l->bench.fixture, &l->server, SVC_M_BUS_HANDSHAKES_REFUSED, 2);
    l->caller.curve = curve;
    fixture_run_until(&l->bench.fixture, is_up, l);
    svc_peer_destroy(&peer);
}

static void
a_peer_talks_to_nobody_but_whom_it_expects(void **state)
{
    lock_t *l = *state;
    char *error = NULL;
    svc_peer_t *peer;

    l->caller = side_open(&l->bench.fixture.ctx, &l->keys, "gateway");
    peer = svc_peer_new(&l->caller, "convo-svc", svc_server_endpoint(l->bench.server),
                        on_peer, l, &error);
    assert_non_null(peer);
    await_count(&l->bench.fixture, &l->server, SVC_M_BUS_HANDSHAKES_REFUSED, 2);
    assert_int_equal(l->ups, 0);
    assert_int_equal(svc_metrics_get(l->server.metrics, SVC_M_REQUESTS), 0);
    svc_peer_destroy(&peer);
}

/* Step by step as make-keys replaces a pair: the server has the first key, the caller knows two. Then the server comes back with
 * the second one. */
static void
a_peer_finds_a_server_whose_key_is_being_replaced(void **state)
{
    lock_t *l = *state;
    char *error = NULL;
    char endpoint[256];
    svc_peer_t *peer;

    keys_make(&l->keys, "auth-svc", ".key.new");
    l->caller = side_open(&l->bench.fixture.ctx, &l->keys, "gateway");
    assert_int_equal(svc_curve_count(l->caller.curve, "auth-svc"), 2);
    snprintf(endpoint, sizeof(endpoint), "%s", svc_server_endpoint(l->bench.server));
    peer = svc_peer_new(&l->caller, "auth-svc", endpoint, on_peer, l, &error);
    assert_non_null(peer);
    fixture_run_until(&l->bench.fixture, is_up, l);

    svc_server_destroy(&l->bench.server);
    side_close(&l->server);
    keys_use(&l->keys, "auth-svc");
    l->server = side_open(&l->bench.fixture.ctx, &l->keys, "auth-svc");
    l->server.instance = 78;
    l->ups = 0;
    /* Right after a close the port may still be in the hands of ZeroMQ's own thread. */
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (svc_server_new(&l->server, endpoint, ops, l, &l->bench.server, &error) !=
           RC_OK) {
        free(error);
        assert_true(svc_mono_ms() < until);
        fixture_run_for(&l->bench.fixture, 5);
    }
    fixture_run_until(&l->bench.fixture, is_up, l);
    svc_peer_destroy(&peer);
}

static void
a_caller_is_known_by_either_of_two_keys(void **state)
{
    lock_t *l = *state;
    char *error = NULL;

    keys_make(&l->keys, "gateway", ".key.new");
    svc_server_destroy(&l->bench.server);
    side_close(&l->server);
    l->server = side_open(&l->bench.fixture.ctx, &l->keys, "auth-svc");
    assert_int_equal(
        svc_server_new(&l->server, "tcp://127.0.0.1:*", ops, l, &l->bench.server, &error),
        RC_OK);
    for (int i = 0; i < 2; i++) {
        connect_as(l, "gateway", "auth-svc");
        say_hello(&l->bench, "gateway");
        disconnect_client(&l->bench);
        side_close(&l->caller);
        l->caller.zmq = NULL;
        if (i == 0)
            keys_use(&l->keys, "gateway");
    }
}

/* --- token frames -------------------------------------------------------------------------------- */

static bool
has_message(void *arg)
{
    zmq_pollitem_t item = {.socket = arg, .events = ZMQ_POLLIN};

    return zmq_poll(&item, 1, 0) == 1;
}

static void
only_gateways_may_subscribe(void **state)
{
    lock_t *l = *state;
    svc_ctx_t llm = side_open(&l->bench.fixture.ctx, &l->keys, "llm-svc");
    svc_ctx_t sides[2] = {side_open(&llm, &l->keys, "convo-svc"),
                          side_open(&llm, &l->keys, "gateway")};
    void *pub = svc_msg_socket(llm.zmq, ZMQ_XPUB, 0);
    void *subs[2];
    char endpoint[256];
    size_t n = sizeof(endpoint);

    svc_curve_serve(llm.curve, pub, SVC_CURVE_TOKENS);
    assert_int_equal(zmq_bind(pub, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(pub, ZMQ_LAST_ENDPOINT, endpoint, &n), 0);
    for (int i = 0; i < 2; i++) {
        subs[i] = svc_msg_socket(sides[i].zmq, ZMQ_SUB, 0);
        svc_curve_call(sides[i].curve, subs[i], "llm-svc", 0);
        assert_int_equal(zmq_setsockopt(subs[i], ZMQ_SUBSCRIBE, "", 0), 0);
        assert_int_equal(zmq_connect(subs[i], endpoint), 0);
        if (i == 0)
            await_count(&l->bench.fixture, &llm, SVC_M_BUS_STRANGERS, 1);
    }
    fixture_run_until(&l->bench.fixture, has_message,
                      pub); /* the gateway's subscription */
    assert_true(svc_msg_send_bytes(pub, SVC_LIT("frame"), 0));
    fixture_run_until(&l->bench.fixture, has_message, subs[1]);
    assert_false(has_message(subs[0]));
    for (int i = 0; i < 2; i++) {
        zmq_close(subs[i]);
        side_close(&sides[i]);
    }
    zmq_close(pub);
    side_close(&llm);
}

static void
without_keys_everything_is_plain(void **state)
{
    void *zmq = zmq_ctx_new();
    void *socket = svc_msg_socket(zmq, ZMQ_DEALER, 0);
    svc_curve_t *none = NULL;
    int mechanism = -1;
    size_t n = sizeof(mechanism);

    (void)state;
    svc_curve_serve(NULL, socket, SVC_CURVE_REQUESTS);
    svc_curve_call(NULL, socket, "auth-svc", 0);
    assert_int_equal(zmq_getsockopt(socket, ZMQ_MECHANISM, &mechanism, &n), 0);
    assert_int_equal(mechanism, ZMQ_NULL);
    assert_int_equal(svc_curve_count(NULL, "auth-svc"), 0);
    svc_curve_destroy(&none);
    zmq_close(socket);
    zmq_ctx_term(zmq);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_lock, close_lock)
        TEST(one_of_ours_is_served_under_its_own_name),
        TEST(one_of_ours_may_not_call_everything),
        TEST(nobody_takes_the_name_of_another),
        TEST(a_routing_id_that_was_anothers_gives_no_rights),
        TEST(a_stranger_with_a_key_of_its_own_is_refused_and_counted),
        TEST(plain_text_is_refused_and_counted),
        TEST(what_is_no_zeromq_is_refused_and_counted),
        TEST(who_leaves_without_a_handshake_is_counted),
        TEST(a_flood_of_connections_is_slowed_down_even_with_a_key),
        TEST(a_peer_and_a_server_find_each_other),
        TEST(a_peer_tries_again_when_the_other_side_has_no_keys_yet),
        TEST(a_peer_talks_to_nobody_but_whom_it_expects),
        TEST(a_peer_finds_a_server_whose_key_is_being_replaced),
        TEST(a_caller_is_known_by_either_of_two_keys),
        TEST(only_gateways_may_subscribe),
        cmocka_unit_test(without_keys_everything_is_plain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
