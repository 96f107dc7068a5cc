/* test_svc_server_clients.c - who said hello by which route: access, replacement, the bound, who makes room.
 *
 * Most of it at the module's own seam, against a model that is too simple to be wrong; what a server
 * makes of clients that are gone goes over sockets. */
#include "server_bench.h"

#include "svc/svc_server_call.h"

#define CLIENTS_MAX 4096 /* what is kept, at most */

static svc_route_t
route_of(uint32_t n)
{
    svc_route_t route = {.n = 5};

    memcpy(route.bytes + 1, &n, sizeof(n));
    return route;
}

static void
put(svc_clients_t *clients, uint32_t n, const char *service)
{
    const svc_route_t route = route_of(n);

    svc_clients_put(clients, &route, svc_str_c(service));
}

static const svc_client_t *
get(svc_clients_t *clients, uint32_t n)
{
    const svc_route_t route = route_of(n);

    return svc_clients_get(clients, &route);
}

static void
take_out(svc_clients_t *clients, uint32_t n)
{
    const svc_route_t route = route_of(n);

    svc_clients_remove(clients, &route);
}

static void
a_service_may_call_as_its_name_says(void **state)
{
    static const struct {
        const char *service;
        unsigned who;
        const char *name;
    } cases[] = {
        {"gateway", SVC_GATEWAY, "gateway"},
        {"convo-svc", SVC_CONVO, "convo-svc"},
        {"tool", SVC_TOOL, "tool"},
        {"auth-svc", 0, "auth-svc"},
        {"llm-svc", 0, "llm-svc"},
        {"", 0, "unknown"},
        {"gatewa", 0, "unknown"},
        {"gateway2", 0, "unknown"},
        {"Gateway", 0, "unknown"},
        {"unknown", 0, "unknown"},
    };
    svc_clients_t *clients = svc_clients_new();

    (void)state;
    for (uint32_t i = 0; i < SVC_COUNT(cases); i++) {
        assert_null(get(clients, i));
        put(clients, i, cases[i].service);
        assert_int_equal(get(clients, i)->who, cases[i].who);
        assert_string_equal(get(clients, i)->name, cases[i].name);
    }
    svc_clients_destroy(&clients);
    assert_null(clients);
    svc_clients_destroy(&clients);
}

static void
a_new_hello_replaces_the_old_one(void **state)
{
    svc_clients_t *clients = svc_clients_new();

    (void)state;
    put(clients, 1, "gateway");
    put(clients, 1, "llm-svc");
    assert_int_equal(get(clients, 1)->who, 0);
    put(clients, 1, "tool");
    assert_int_equal(get(clients, 1)->who, SVC_TOOL);
    take_out(clients, 1);
    assert_null(get(clients, 1));
    take_out(clients, 1); /* harmless */
    svc_clients_destroy(&clients);
}

static void
routes_are_compared_whole(void **state)
{
    svc_clients_t *clients = svc_clients_new();
    svc_route_t routes[SVC_ROUTE_MAX_BYTES + 1];

    (void)state;
    for (size_t n = 0; n < SVC_COUNT(routes);
         n++) { /* each one begins as the longer ones */
        routes[n] = (svc_route_t){.n = (uint8_t)n};
        memset(routes[n].bytes, 0, sizeof(routes[n].bytes));
        svc_clients_put(clients, &routes[n],
                        n % 2 == 0 ? SVC_LIT("gateway") : SVC_LIT("tool"));
    }
    for (size_t n = 0; n < SVC_COUNT(routes); n++) {
        routes[n].bytes[n < SVC_ROUTE_MAX_BYTES ? n : 0] ^= n < SVC_ROUTE_MAX_BYTES;
        assert_int_equal(svc_clients_get(clients, &routes[n])->who,
                         n % 2 == 0 ? SVC_GATEWAY : SVC_TOOL); /* no byte past n counts */
    }
    routes[3].bytes[2] = 1;
    assert_null(svc_clients_get(clients, &routes[3]));
    svc_clients_destroy(&clients);
}

static void
the_one_that_was_silent_longest_makes_room(void **state)
{
    svc_clients_t *clients = svc_clients_new();

    (void)state;
    for (uint32_t i = 0; i < CLIENTS_MAX; i++)
        put(clients, i, "gateway");
    assert_non_null(get(clients, 0)); /* has spoken: 1 is the oldest now */
    put(clients, 2, "gateway");       /* has said hello again: it is as young */
    put(clients, CLIENTS_MAX, "gateway");
    put(clients, CLIENTS_MAX + 1, "gateway");
    assert_null(get(clients, 1));
    assert_null(get(clients, 3));
    assert_non_null(get(clients, 0));
    assert_non_null(get(clients, 2));
    assert_non_null(get(clients, 4));
    take_out(clients, 5);
    put(clients, CLIENTS_MAX + 2, "gateway"); /* there is room: nobody goes */
    assert_non_null(get(clients, 6));
    svc_clients_destroy(&clients);
}

/* The same as a plain array: who it is, and when it was heard of last; 0: nobody. */
typedef struct {
    unsigned who[6000];
    uint64_t when[6000];
    size_t n;
} model_t;

static void
model_put(model_t *model, uint32_t route, unsigned who, uint64_t now)
{
    uint32_t oldest = 0;

    if (model->when[route] == 0 && model->n == CLIENTS_MAX) {
        for (uint32_t i = 0; i < SVC_COUNT(model->when); i++)
            if (model->when[i] != 0 &&
                (model->when[oldest] == 0 || model->when[i] < model->when[oldest]))
                oldest = i;
        model->when[oldest] = 0;
        model->n--;
    }
    model->n += model->when[route] == 0;
    model->when[route] = now;
    model->who[route] = who;
}

static void
any_order_of_hellos_requests_and_ends_is_kept_as_by_the_model(void **state)
{
    svc_clients_t *clients = svc_clients_new();
    model_t *model = svc_alloc(sizeof(*model));

    (void)state;
    srand(7);
    for (uint64_t now = 1; now < 60000; now++) {
        const uint32_t route = (uint32_t)rand() % SVC_COUNT(model->when);
        const int what = rand() % 20;

        if (what < 10) {
            model_put(model, route, what % 2 == 0 ? SVC_GATEWAY : SVC_TOOL, now);
            put(clients, route, what % 2 == 0 ? "gateway" : "tool");
        } else if (what == 10) {
            model->n -= model->when[route] != 0;
            model->when[route] = 0;
            take_out(clients, route);
        } else {
            const svc_client_t *client = get(clients, route);

            assert_int_equal(client != NULL, model->when[route] != 0);
            if (client == NULL)
                continue;
            assert_int_equal(client->who, model->who[route]);
            model->when[route] = now;
        }
    }
    assert_true(model->n >
                CLIENTS_MAX - 100); /* the bound was reached, again and again */
    for (uint32_t i = 0; i < SVC_COUNT(model->when); i++)
        assert_int_equal(get(clients, i) != NULL, model->when[i] != 0);
    free(model);
    svc_clients_destroy(&clients);
}

/* --- over sockets ------------------------------------------------------------------------------- */

/* Connects with a routing id of its own choice. */
static void
connect_as(bench_t *bench, const char *id)
{
    bench->client = svc_msg_socket(bench->fixture.ctx.zmq, ZMQ_DEALER, 0);
    assert_int_equal(zmq_setsockopt(bench->client, ZMQ_ROUTING_ID, id, strlen(id)), 0);
    assert_int_equal(zmq_connect(bench->client, svc_server_endpoint(bench->server)), 0);
    svc_loop_add_socket(bench->fixture.ctx.loop, bench->client, on_client, bench);
}

/* Sends parts of the kept call until the server notices that nobody is there. */
static void
await_that_it_is_gone(bench_t *bench)
{
    const verify_rep_t part = {.user = 1, .expires_s = 1};
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    svc_call_t *call;

    while ((call = svc_server_call(bench->server, bench->kept)) != NULL &&
           svc_mono_ms() < until) {
        (void)svc_call_partial(call, &part, 0);
        fixture_run_for(&bench->fixture, 5);
    }
    assert_int_equal(bench->cancelled, 1);
    assert_int_equal(bench->kept_last, bench->kept);
}

static void
a_client_that_is_gone_loses_its_call_and_its_name(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench, NULL);
    disconnect_client(&bench);
    connect_as(&bench, "chosen");
    say_hello(&bench, "gateway");
    ask(&bench, 2, OP_AUTH_VERIFY, &verify_req_schema, &good_verify);
    assert_int_equal(svc_server_kept_calls(bench.server), 1);
    disconnect_client(&bench);
    await_that_it_is_gone(&bench);
    assert_int_equal(svc_server_kept_calls(bench.server), 0);
    connect_as(&bench, "chosen"); /* somebody else by the same route says no hello */
    ask(&bench, 3, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    expect_error(&bench, RC_FORBIDDEN);
    close_bench(&bench);
}

static void
a_route_that_is_too_long_is_nobody_of_ours(void **state)
{
    (void)state;
    bench_t bench;
    const hello_t hello = {.service = SVC_LIT("gateway"), .instance = 1};
    open_bench(&bench, "gateway");
    void *first = bench.client;
    const uint64_t bad = fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES);
    connect_as(&bench, "seventeen letters"); /* one more than kept */
    send_request(&bench, 2, OP_SVC_HELLO, &hello_schema, &hello);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES) == bad &&
           svc_mono_ms() < until)
        fixture_run_for(&bench.fixture, 5);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_BAD_MESSAGES), bad + 1);
    assert_int_equal(bench.replies, 0);
    disconnect_client(&bench);
    bench.client = first; /* nobody else is bothered */
    ask(&bench, 3, OP_AUTH_LOGIN, &login_req_schema, &good_login);
    assert_int_equal(bench.head.kind, PROTO_FINAL);
    close_bench(&bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_service_may_call_as_its_name_says),
        cmocka_unit_test(a_new_hello_replaces_the_old_one),
        cmocka_unit_test(routes_are_compared_whole),
        cmocka_unit_test(the_one_that_was_silent_longest_makes_room),
        cmocka_unit_test(any_order_of_hellos_requests_and_ends_is_kept_as_by_the_model),
        cmocka_unit_test(a_client_that_is_gone_loses_its_call_and_its_name),
        cmocka_unit_test(a_route_that_is_too_long_is_nobody_of_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
