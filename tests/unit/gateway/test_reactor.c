/* test_reactor.c - a reactor from start to stop: what it needs, whom it reaches, how it drains, what it leaves behind.
 *
 * Requests here are only as many kinds as there are ways to wait: for a body, a token, a service, a
 * client, or an answer. What they say is tested elsewhere. */
#include "gateway_fixture.h"

#include <poll.h>

#define LIST     "/api/conversations/list"
#define HISTORY  "/api/conversations/history/5"
#define CHAT     "/api/chat/5"
#define QUESTION "{\"message\":\"Why?\"}"

/* --- start -------------------------------------------------------------------------------- */

static bool
port_is_open(const world_t *world)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(world->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool is_open = connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    close(fd);
    return is_open;
}

static void
an_endpoint_that_is_none_is_told_and_nothing_is_left_open(void **state)
{
    static char none[] = "nowhere", partly[] = "tcp://127.0.0.1:1,nowhere";
    world_t *world = *state;
    svc_config_t *config = &world->fakes.config;
    svc_endpoint_t *const endpoints[] = {&config->bus_auth, &config->bus_convo,
                                         &config->bus_llm, &config->bus_tokens};

    for (size_t i = 0; i < 2 * SVC_COUNT(endpoints); i++) {
        svc_endpoint_t *endpoint = endpoints[i / 2];
        client_trust_t *trust = (client_trust_t *)(uintptr_t)world->setup.trust;
        char *good = endpoint->connect, *error = NULL;

        client_trust_destroy(&trust); /* of the start before */
        conn_limit_destroy(&world->setup.limit);
        endpoint->connect = i % 2 == 0 ? partly : none;
        assert_false(world_starts(world, &error));
        assert_non_null(error);
        assert_non_null(strstr(error, none));
        free(error);
        assert_false(port_is_open(world));
        endpoint->connect = good;
    }
}

static void
without_any_service_it_starts_and_says_so(void **state)
{
    world_t *world = *state;
    char *error = NULL;

    for (size_t i = 0; i < FAKE_SERVICES; i++)
        svc_server_destroy(&world->fakes.servers[i]);
    assert_true(world_starts(world, &error));
    expect(world, "GET", "/healthz", NULL, 200, "ok");
    expect(world, "GET", "/readyz", NULL, 503, "auth-svc");
    expect(world, "GET", LIST, NULL, 503, "\"code\":\"unavailable\"");
    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++)
        assert_int_equal(atomic_load(&world->readiness.needs[peer].missing), 1);
    for (size_t i = 0; i < FAKE_SERVICES; i++)
        fakes_start(&world->fakes, i);
    fixture_run_until(&world->fakes.bus, world_is_ready, world);
    expect(world, "GET", LIST, NULL, 200, "[]");
}

/* The services run on this thread: they say nothing before the test waits for something. */
static void
who_comes_before_the_services_are_reached_waits_for_them(void **state)
{
    world_t *world = *state;
    char *error = NULL;
    client_t client;

    assert_true(world_starts(world, &error));
    client_open(&client, world, 0);
    client_ask(&client, "GET", LIST, "Connection: close\r\n", NULL);
    struct pollfd answer_came = {.fd = client.fd, .events = POLLIN};
    assert_int_equal(poll(&answer_came, 1, 100), 0);
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_int_equal(answer.status, 200);
    answer_fini(&answer);
    client_close(&client);
}

/* --- readiness ---------------------------------------------------------------------------- */

typedef struct {
    world_t *world;    /* whose counters */
    reactor_peer peer; /* which */
    unsigned n;        /* wanted */
} missing_t;

static bool
is_missing(void *arg)
{
    const missing_t *wish = arg;

    return atomic_load(&wish->world->readiness.needs[wish->peer].missing) == wish->n;
}

static void
await_missing(world_t *world, reactor_peer peer, unsigned n)
{
    missing_t wish = {world, peer, n};

    fixture_run_until(&world->fakes.bus, is_missing, &wish);
}

static void
reactors_are_counted_one_by_one(void **state)
{
    world_t *world = *state;
    reactor_thread_t *second;
    char *error = NULL;
    uint16_t port;
    int fd = -1;

    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++)
        atomic_store(&world->readiness.needs[peer].missing, 2);
    assert_true(world_starts(world, &error));
    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++)
        await_missing(world, peer, 1);
    assert_int_equal(listener_open("127.0.0.1", 0, &fd, 1, &port, &error), RC_OK);
    second = reactor_start(&world->setup, fd, &error);
    assert_non_null(second);
    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++)
        await_missing(world, peer, 0);
    svc_server_destroy(&world->fakes.servers[FAKE_CONVO]);
    await_missing(world, REACTOR_CONVO, 2);
    assert_int_equal(atomic_load(&world->readiness.needs[REACTOR_AUTH].missing), 0);
    assert_int_equal(atomic_load(&world->readiness.needs[REACTOR_LLM].missing), 0);
    fakes_start(&world->fakes, FAKE_CONVO);
    await_missing(world, REACTOR_CONVO, 0);
    reactor_stop(&second);
    assert_null(second);
    reactor_stop(&second);
}

static void
an_llm_svc_that_comes_back_is_asked_for_its_models_again(void **state)
{
    world_t *world = *state;
    unsigned asked = world->fakes.scripts[FAKE_MODELS].n;

    svc_server_destroy(&world->fakes.servers[FAKE_LLM]);
    await_missing(world, REACTOR_LLM, 1);
    world->fakes.scripts[FAKE_MODELS].rc = RC_LATER;
    fakes_start(&world->fakes, FAKE_LLM);
    fakes_await(&world->fakes, FAKE_MODELS, asked + 1);
    assert_int_equal(atomic_load(&world->readiness.needs[REACTOR_LLM].missing), 1);
    model_pattern_t pattern = {SVC_LIT("new")};
    models_rep_t models = {{&pattern, 1}};
    svc_call_finish(fakes_kept(&world->fakes, FAKE_LLM, FAKE_MODELS), RC_OK, &models);
    await_missing(world, REACTOR_LLM, 0);
    expect(world, "POST", "/api/conversations/create",
           "{\"title\":\"t\",\"model\":\"new\"}", 200, "conversation_id");
    expect(world, "POST", "/api/conversations/create",
           "{\"title\":\"t\",\"model\":\"echo\"}", 400, "unknown_model");
}

/* --- another configuration ---------------------------------------------------------------- */

/* Asks until an answer has `part` in its headers or body. */
static void
ask_until(world_t *world, const char *headers, const char *part)
{
    uint64_t until_ms = svc_mono_ms() + FIXTURE_PATIENCE_MS;

    for (bool has = false; !has;) {
        answer_t answer = ask(world, "POST", "/api/users/register", headers,
                              "{\"username\":\"anna\",\"password\":\"0123456789\"}");

        has = strstr(answer.head, part) != NULL || strstr(answer.body.p, part) != NULL;
        answer_fini(&answer);
        if (svc_mono_ms() > until_ms)
            fail_msg("\"%s\" never came", part);
    }
}

static void
what_may_change_does_for_the_next_requests(void **state)
{
    static char *origins[] = {(char *)(uintptr_t) "https://a.example"};
    static svc_config_t fresh[2]; /* they outlive the reactor */
    world_t *world = *state;

    for (size_t i = 0; i < SVC_COUNT(fresh); i++)
        fresh[i] = world->fakes.config;
    fresh[0].server_cors_origins = (svc_strings_t){origins, 1};
    fresh[1].server_max_body_bytes = 10;
    ask_until(world, "Origin: https://a.example\r\n", "HTTP/1.1 201 ");
    reactor_reload(world->reactor, &fresh[0], 100);
    ask_until(world, "Origin: https://a.example\r\n",
              "Access-Control-Allow-Origin: https://a.example\r\n");
    reactor_reload(world->reactor, &fresh[0], 100);
    reactor_reload(world->reactor, &fresh[1], 0);
    reactor_reload(world->reactor, &fresh[1], 100); /* the last one counts */
    ask_until(world, "", "\"code\":\"too_big\"");
    reactor_reload(world->reactor, &fresh[0],
                   0); /* nobody takes this one any more, or it does */
    reactor_stop(&world->reactor);
    for (size_t i = 0; i < SVC_COUNT(fresh); i++)
        assert_int_equal(atomic_load(&fresh[i].holders), 0);
}

/* One request waits with its headers sent while the bound of its body becomes smaller. */
static void
what_has_begun_goes_on_as_it_began(void **state)
{
    static const char body[] = "{\"username\":\"bert\",\"password\":\"0123456789\"}";
    static svc_config_t fresh; /* outlives the reactor */
    world_t *world = *state;
    client_t slow;
    char headers[64];

    fresh = world->fakes.config;
    fresh.server_max_body_bytes = 10;
    client_open(&slow, world, 0);
    snprintf(headers, sizeof headers, "Content-Length: %zu\r\nExpect: 100-continue\r\n",
             strlen(body));
    client_ask(&slow, "POST", "/api/users/register", headers, NULL);
    client_await(&slow, "100 Continue");
    reactor_reload(world->reactor, &fresh, 100);
    ask_until(world, "", "\"code\":\"too_big\"");
    client_say(&slow, body);
    client_await(&slow, "HTTP/1.1 201 ");
    client_close(&slow);
    reactor_stop(&world->reactor);
}

static void
fewer_connections_are_let_in_and_those_that_are_there_stay(void **state)
{
    static svc_config_t fresh; /* outlives the reactor */
    world_t *world = *state;
    const uint64_t until_ms = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    client_t first;

    fresh = world->fakes.config;
    client_open(&first, world, 0);
    client_ask(&first, "GET", "/healthz", "", NULL);
    client_await(&first, "HTTP/1.1 200 ");
    reactor_reload(world->reactor, &fresh, 1);
    for (bool is_served = true; is_served;) { /* until it has been taken */
        client_t next;
        client_open(&next, world, 0);
        client_ask(&next, "GET", "/healthz", "Connection: close\r\n", NULL);
        client_await(&next, NULL);
        is_served = next.in.n > 0 && strstr(next.in.p, "HTTP/1.1 200 ") != NULL;
        client_close(&next);
        assert_true(svc_mono_ms() < until_ms);
    }
    svc_buf_clear(&first.in);
    client_ask(&first, "GET", "/healthz", "", NULL);
    client_await(&first, "HTTP/1.1 200 ");
    client_close(&first);
    reactor_stop(&world->reactor);
}

static void
models_are_asked_for_now_and_then(void **state)
{
    world_t *world = *state;

    fakes_await(&world->fakes, FAKE_MODELS, world->fakes.scripts[FAKE_MODELS].n + 1);
}

/* --- many at once ------------------------------------------------------------------------- */

#define CROWD 50

static uint64_t crowd_calls[CROWD];

static svc_rc
keep_history(void *self, svc_call_t *call, const void *req, void *rep)
{
    (void)self;
    (void)rep;
    crowd_calls[((const history_req_t *)req)->conversation] = svc_call_id(call);
    return RC_LATER;
}

static void
answers_find_their_requests_in_any_order(void **state)
{
    world_t *world = *state;
    client_t clients[CROWD];
    char text[64];

    world->fakes.scripts[FAKE_HISTORY].handler = keep_history;
    for (size_t i = 0; i < CROWD; i++) {
        client_open(&clients[i], world, 0);
        snprintf(text, sizeof text, "/api/conversations/history/%zu", i);
        client_ask(&clients[i], "GET", text, "Connection: close\r\n", NULL);
    }
    fakes_await(&world->fakes, FAKE_HISTORY, CROWD);
    for (size_t i = CROWD; i-- > 0;) {
        int n = snprintf(text, sizeof text, "[\"for %zu\"]", i);
        history_rep_t rep = {{text, (size_t)n}, 0, 0, false};
        svc_call_finish(svc_server_call(world->fakes.servers[FAKE_CONVO], crowd_calls[i]),
                        RC_OK, &rep);
    }
    for (size_t i = 0; i < CROWD; i++) {
        client_await(&clients[i], NULL);
        answer_t answer = answer_of(&clients[i]);
        snprintf(text, sizeof text, "[\"for %zu\"]", i);
        assert_string_equal(answer.body.p, text);
        answer_fini(&answer);
        client_close(&clients[i]);
    }
}

/* --- drain -------------------------------------------------------------------------------- */

static bool
has_drained(void *arg)
{
    return atomic_load(&((world_t *)arg)->drained) > 0;
}

static bool
port_is_closed(void *arg)
{
    return !port_is_open(arg);
}

/* Asks it to drain and waits until it takes no more connections. */
static void
drain(world_t *world)
{
    reactor_drain(world->reactor);
    fixture_run_until(&world->fakes.bus, port_is_closed, world);
}

static void
a_drain_without_requests_is_done_at_once(void **state)
{
    world_t *world = *state;
    client_t idle, gate;

    client_open(&idle, world, 0);
    client_ask(&idle, "GET", "/healthz", "", NULL);
    client_await(&idle, "{\"status\":\"ok\"}");
    client_open(&gate, world, 0);
    client_say(&gate, "GET /healthz HTTP/1.1\r\n");
    drain(world);
    fixture_run_until(&world->fakes.bus, has_drained, world);
    client_await(&idle, NULL); /* whoever waits for a request is closed */
    client_await(&gate, NULL);
    assert_int_equal(gate.in.n, 0);
    client_close(&idle);
    client_close(&gate);
    reactor_drain(world->reactor);
    fixture_run_for(&world->fakes.bus, 20);
    assert_int_equal(atomic_load(&world->drained), 1); /* told once */
}

static void
a_drain_waits_for_requests_and_streams(void **state)
{
    world_t *world = *state;
    list_rep_t list = {SVC_LIT("[]"), 0};
    client_t call, stream;

    world->fakes.scripts[FAKE_LIST].rc = RC_LATER;
    client_open(&call, world, 0);
    client_ask(&call, "GET", LIST, "", NULL);
    fakes_await(&world->fakes, FAKE_LIST, 1);
    client_open(&stream, world, 0);
    client_ask(&stream, "POST", CHAT, "", QUESTION);
    fakes_await(&world->fakes, FAKE_ASK, 1);
    fake_publish(&world->fakes, FAKE_FENCE, 0, 10, PROTO_TOKEN_TEXT);
    client_await(&stream, "abcdefghij");
    drain(world);
    svc_call_finish(fakes_kept(&world->fakes, FAKE_CONVO, FAKE_LIST), RC_OK, &list);
    client_await(&call, NULL);
    answer_t answer = answer_of(&call);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    answer_fini(&answer);
    assert_false(has_drained(world));
    fake_publish(&world->fakes, FAKE_FENCE, 10, 10, PROTO_TOKEN_TEXT);
    client_await(&stream, "\"klmnopqrst\"");
    assert_false(has_drained(world));
    world->fakes.status.state = ANSWER_COMPLETE;
    world->fakes.journaled = 20;
    fake_tell(&world->fakes);
    client_await(&stream, "\r\n0\r\n\r\n");
    answer = answer_of(&stream);
    assert_true(answer.whole);
    assert_non_null(strstr(answer.body.p, "\"event\":\"done\""));
    answer_fini(&answer);
    fixture_run_until(&world->fakes.bus, has_drained, world);
    client_close(&call);
    client_close(&stream);
}

static void
streams_end_after_a_whole_event_when_time_is_short(void **state)
{
    world_t *world = *state;
    client_t shown, silent;

    client_open(&shown, world, 0);
    client_ask(&shown, "POST", CHAT, "", QUESTION);
    fakes_await(&world->fakes, FAKE_ASK, 1);
    fake_publish(&world->fakes, FAKE_FENCE, 0, 10, PROTO_TOKEN_TEXT);
    client_await(&shown, "abcdefghij");
    client_open(&silent, world, 0); /* nothing has come yet, not even headers */
    client_ask(&silent, "POST", CHAT, "", QUESTION);
    fakes_await(&world->fakes, FAKE_ASK, 2);
    drain(world);
    reactor_end_streams(world->reactor);
    fixture_run_until(&world->fakes.bus, has_drained, world);
    client_await(&shown, NULL);
    answer_t answer = answer_of(&shown);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body.p + answer.body.n - 2, "\n\n");
    assert_non_null(strstr(answer.body.p, "abcdefghij"));
    assert_null(strstr(answer.body.p, "done"));
    answer_fini(&answer);
    client_await(&silent, NULL);
    answer = answer_of(&silent); /* knows the id to resume with */
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body.p, ":0\n\n"));
    answer_fini(&answer);
    client_close(&shown);
    client_close(&silent);
}

static void
a_document_that_is_being_made_goes_on_when_streams_end(void **state)
{
    world_t *world = *state;
    list_rep_t list = {SVC_LIT("[]"), 0};
    client_t call;

    world->fakes.scripts[FAKE_LIST].rc = RC_LATER;
    client_open(&call, world, 0);
    client_ask(&call, "GET", LIST, "", NULL);
    fakes_await(&world->fakes, FAKE_LIST, 1);
    drain(world);
    reactor_end_streams(world->reactor);
    fixture_run_for(&world->fakes.bus, 20);
    svc_call_finish(fakes_kept(&world->fakes, FAKE_CONVO, FAKE_LIST), RC_OK, &list);
    client_await(&call, NULL);
    answer_t answer = answer_of(&call);
    assert_int_equal(answer.status, 200);
    answer_fini(&answer);
    client_close(&call);
}

static void
whoever_asks_while_it_drains_is_told_that_it_is_not_ready(void **state)
{
    world_t *world = *state;
    client_t client;

    client_open(&client, world, 0); /* its body is what the request waits for */
    client_ask(&client, "GET", "/readyz", "Content-Length: 2\r\n", NULL);
    expect(world, "GET", "/healthz", NULL, 200, "ok");
    client_say(&client, "x");
    expect(world, "GET", "/healthz", NULL, 200, "ok");
    drain(world);
    client_say(&client, "x");
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_int_equal(answer.status, 503);
    assert_string_equal(answer.body.p, "{\"status\":\"draining\"}");
    answer_fini(&answer);
    client_close(&client);
    fixture_run_until(&world->fakes.bus, has_drained, world);
}

/* --- stop --------------------------------------------------------------------------------- */

static void
stops_whatever_it_is_doing(void **state)
{
    world_t *world = *state;
    client_t client;
    char *error = NULL;

    for (int i = 0; i < 40; i++) { /* awake or asleep, with a request or before it */
        uint16_t port;
        int fd = -1;
        assert_int_equal(listener_open("127.0.0.1", 0, &fd, 1, &port, &error), RC_OK);
        reactor_thread_t *reactor = reactor_start(&world->setup, fd, &error);
        assert_non_null(reactor);
        uint16_t first = world->port;
        world->port = port;
        client_open(&client, world, 0);
        world->port = first;
        client_ask(&client, "GET", "/healthz", "", NULL);
        reactor_stop(&reactor);
        client_await(&client, NULL);
        client_close(&client);
    }
}

/* Opens a client whose request waits until `op` is answered. */
static void
open_waiting(client_t *client, world_t *world, const char *method, const char *path,
             const char *headers, const char *body, fake_op op)
{
    world->fakes.scripts[op].rc = RC_LATER;
    unsigned asked = world->fakes.scripts[op].n;
    client_open(client, world, 0);
    client_ask(client, method, path, headers, body);
    fakes_await(&world->fakes, op, asked + 1);
}

static void
a_stop_ends_whatever_waits(void **state)
{
    world_t *world = *state;
    client_t gate, body, call, asks, verifies;

    client_open(&gate, world, 0);
    client_say(&gate, "GET /healthz HTTP/1.1\r\n");
    client_open(&body, world, 0);
    client_ask(&body, "POST", "/api/users/login", "Content-Length: 100\r\n", NULL);
    client_say(&body, "{");
    open_waiting(&call, world, "GET", LIST, "", NULL, FAKE_LIST);
    open_waiting(&asks, world, "POST", CHAT, "", QUESTION, FAKE_ASK);
    open_waiting(&verifies, world, "GET", LIST, "Authorization: Bearer other\r\n", NULL,
                 FAKE_VERIFY);
    reactor_stop(&world->reactor);
    client_await(&gate, NULL);
    assert_int_equal(gate.in.n, 0);
    client_await(&body, NULL);
    client_await(&call, NULL);
    assert_non_null(strstr(call.in.p, "HTTP/1.1 503 "));
    client_await(&asks, NULL);
    assert_non_null(strstr(asks.in.p, "HTTP/1.1 503 "));
    client_await(&verifies, NULL);
    client_close(&gate);
    client_close(&body);
    client_close(&call);
    client_close(&asks);
    client_close(&verifies);
    assert_int_equal(atomic_load(&world->drained), 0);
}

static void
a_stop_ends_a_stream_between_two_events(void **state)
{
    world_t *world = *state;
    client_t client;

    client_open(&client, world, 0);
    client_ask(&client, "POST", CHAT, "", QUESTION);
    fakes_await(&world->fakes, FAKE_ASK, 1);
    fake_publish(&world->fakes, FAKE_FENCE, 0, 10, PROTO_TOKEN_TEXT);
    client_await(&client, "abcdefghij\"}\n\n");
    reactor_stop(&world->reactor);
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_true(answer.whole);
    assert_null(strstr(answer.body.p, "\"event\":\"done\""));
    assert_string_equal(strstr(answer.body.p, "abcdefghij"), "abcdefghij\"}\n\n");
    answer_fini(&answer);
    client_close(&client);
    world_await_log(world, "op=\"POST /api/chat/:id\" status=200");
}

static svc_rc
give_first_page(void *self, svc_call_t *call, const void *req, void *rep)
{
    const fakes_t *fakes = self;

    (void)call;
    if (((const history_req_t *)req)->message > 0)
        return RC_LATER;
    *(history_rep_t *)rep = (history_rep_t){{fakes->truth, 1000}, 1, 0, true};
    return RC_OK;
}

static void
a_stop_cuts_half_a_document(void **state)
{
    world_t *world = *state;
    client_t client;

    world->fakes.scripts[FAKE_HISTORY].handler = give_first_page;
    client_open(&client, world, 0);
    client_ask(&client, "GET", HISTORY, "", NULL);
    fakes_await(&world->fakes, FAKE_HISTORY, 2);
    reactor_stop(&world->reactor);
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_int_equal(answer.status, 200);
    assert_false(answer.whole);
    answer_fini(&answer);
    client_close(&client);
}

static svc_rc
give_page_after_page(void *self, svc_call_t *call, const void *req, void *rep)
{
    const fakes_t *fakes = self;

    (void)call;
    (void)req;
    *(history_rep_t *)rep = (history_rep_t){{fakes->truth, 500000}, 1, 0, true};
    return RC_OK;
}

typedef struct {
    world_t *world;   /* whose convo-svc is asked */
    unsigned n, calm; /* calls at the last look, and looks since they changed */
} stuck_t;

static bool
is_stuck(void *arg)
{
    stuck_t *self = arg;
    unsigned n = self->world->fakes.scripts[FAKE_HISTORY].n;

    self->calm = n == 0 || n != self->n ? 0 : self->calm + 1;
    self->n = n;
    return self->calm > 50;
}

static void
a_stop_does_not_wait_long_for_a_client_that_does_not_read(void **state)
{
    world_t *world = *state;
    stuck_t stuck = {.world = world};
    client_t client;

    world->fakes.scripts[FAKE_HISTORY].handler = give_page_after_page;
    client_open(&client, world, 4096);
    client_ask(&client, "GET", HISTORY, "", NULL);
    fixture_run_until(&world->fakes.bus, is_stuck, &stuck);
    reactor_stop(&world->reactor); /* returns */
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_false(answer.whole);
    answer_fini(&answer);
    client_close(&client);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST_UNSTARTED(an_endpoint_that_is_none_is_told_and_nothing_is_left_open),
        WORLD_TEST_UNSTARTED(without_any_service_it_starts_and_says_so),
        WORLD_TEST_UNSTARTED(who_comes_before_the_services_are_reached_waits_for_them),
        WORLD_TEST_UNSTARTED(reactors_are_counted_one_by_one),
        WORLD_TEST(an_llm_svc_that_comes_back_is_asked_for_its_models_again),
        WORLD_TEST(what_may_change_does_for_the_next_requests),
        WORLD_TEST(what_has_begun_goes_on_as_it_began),
        WORLD_TEST(fewer_connections_are_let_in_and_those_that_are_there_stay),
        WORLD_TEST(models_are_asked_for_now_and_then),
        WORLD_TEST(answers_find_their_requests_in_any_order),
        WORLD_TEST(a_drain_without_requests_is_done_at_once),
        WORLD_TEST(a_drain_waits_for_requests_and_streams),
        WORLD_TEST(streams_end_after_a_whole_event_when_time_is_short),
        WORLD_TEST(a_document_that_is_being_made_goes_on_when_streams_end),
        WORLD_TEST(whoever_asks_while_it_drains_is_told_that_it_is_not_ready),
        WORLD_TEST(stops_whatever_it_is_doing),
        WORLD_TEST(a_stop_ends_whatever_waits),
        WORLD_TEST(a_stop_ends_a_stream_between_two_events),
        WORLD_TEST(a_stop_cuts_half_a_document),
        WORLD_TEST(a_stop_does_not_wait_long_for_a_client_that_does_not_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
