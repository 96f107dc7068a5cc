/* test_gateway.c - a whole gateway: reactors on one port, what keeps it from starting, how it drains and stops.
 *
 * It takes the reactor's place in the fixture's world. What requests are answered is tested with the
 * modules that answer them; here it is enough that they are, by whichever reactor. */
#include "gateway/gateway.h"
#include "gateway_fixture.h"

#include "svc/svc_cores.h"

#define LIST "/api/conversations/list"

typedef struct {
    world_t world; /* first; without a reactor of its own */
    void *gateway; /* what is tested */
} process_t;

/* Starts the gateway as it is configured; false with *error set. */
static bool
starts(process_t *self, char **error)
{
    static const char listens[] = "listens on http://127.0.0.1:";
    world_t *world = &self->world;
    const char *url;

    self->gateway = gateway_start(&world->fakes.bus.ctx, error);
    if (self->gateway == NULL)
        return false;
    url = strstr(world_log(world), listens);
    assert_non_null(url);
    world->port = (uint16_t)atoi(url + sizeof listens - 1);
    assert_int_not_equal(world->port, 0);
    return true;
}

static void
start(process_t *self)
{
    char *error = NULL;

    if (!starts(self, &error))
        fail_msg("%s", error);
}

static int
open_process(void **state)
{
    process_t *self = svc_alloc(sizeof *self);

    world_init(&self->world);
    self->world.fakes.config.gateway_workers = 2;
    *state = self;
    return 0;
}

static int
close_process(void **state)
{
    process_t *self = *state;

    if (self->gateway != NULL)
        gateway_stop(self->gateway);
    world_fini(&self->world);
    free(self);
    return 0;
}

/* Asks until every reactor has found the services. */
static void
become_ready(process_t *self)
{
    const uint64_t until_ms = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    int status = 0;

    while (status != 200 && svc_mono_ms() < until_ms) {
        answer_t answer = ask(&self->world, "GET", "/readyz", "", NULL);
        status = answer.status;
        answer_fini(&answer);
    }
    assert_int_equal(status, 200);
}

/* --- start -------------------------------------------------------------------------------- */

static void
reactors_share_a_port(void **state)
{
    process_t *self = *state;

    start(self);
    assert_non_null(strstr(world_log(&self->world), " with 2 reactors"));
    become_ready(self);
    for (int i = 0; i < 30; i++)
        expect(&self->world, "GET", LIST, NULL, 200, "[]");
    assert_in_range(self->world.fakes.scripts[FAKE_VERIFY].n, 1, 2); /* once on each */
}

static void
without_a_number_there_is_a_reactor_for_each_core(void **state)
{
    process_t *self = *state;
    char part[64];

    self->world.fakes.config.gateway_workers = 0;
    start(self);
    const size_t cores = svc_cores(""); /* that we may use */
    snprintf(part, sizeof part, " with %zu reactors", cores < 64 ? cores : 64);
    assert_non_null(strstr(world_log(&self->world), part));
}

static void
expect_no_start(process_t *self, const char *part)
{
    char *error = NULL;

    assert_false(starts(self, &error));
    assert_non_null(error);
    if (strstr(error, part) == NULL || strchr(error, '\n') != NULL)
        fail_msg("%s", error);
    free(error);
}

static void
what_keeps_it_from_starting_is_one_line(void **state)
{
    static char not_one[] = "not an address", nowhere[] = "nowhere", host[] = "127.0.0.1",
                not_ours[] = "192.0.2.1";
    static char *proxies[] = {not_one};
    process_t *self = *state;
    svc_config_t *config = &self->world.fakes.config;
    char *good = config->bus_llm.connect;
    int fd;

    config->server_trusted_proxies = (svc_strings_t){proxies, 1};
    expect_no_start(self, not_one);
    config->server_trusted_proxies = (svc_strings_t){NULL, 0};
    config->bus_llm.connect = nowhere;
    expect_no_start(self, nowhere);
    config->bus_llm.connect = good;
    config->server_host = not_ours;
    expect_no_start(self, not_ours);
    config->server_host = host;
    /* another one has the port, and does not share it */
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof addr;
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, n), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &n), 0);
    config->server_port = ntohs(addr.sin_port);
    expect_no_start(self, "in use");
    close(fd);
    config->server_port = 0;
    start(self); /* and nothing of the tries before is in its way */
}

/* --- at work ------------------------------------------------------------------------------ */

static void
a_service_that_is_away_is_missing_until_every_reactor_has_it(void **state)
{
    process_t *self = *state;
    int status = 200;

    start(self);
    become_ready(self);
    svc_server_destroy(&self->world.fakes.servers[FAKE_CONVO]);
    const uint64_t until_ms = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (status == 200) { /* until one of the reactors has heard of it */
        assert_true(svc_mono_ms() < until_ms);
        answer_t answer = ask(&self->world, "GET", "/readyz", "", NULL);
        status = answer.status;
        if (status == 503)
            assert_non_null(strstr(answer.body.p, "\"missing\":[\"convo-svc\"]"));
        answer_fini(&answer);
    }
    fakes_start(&self->world.fakes, FAKE_CONVO);
    become_ready(self);
    expect(&self->world, "GET", LIST, NULL, 200, "[]");
}

static void
slow_and_large_requests_hold_nothing(void **state)
{
    static char many[40000];
    process_t *self = *state;
    client_t slow, large, no_http;

    self->world.fakes.config.server_header_timeout_s =
        3; /* also for the two that are quick */
    start(self);
    client_open(&slow, &self->world, 0);
    client_say(&slow, "GET /healthz HTTP/1.1\r\nHost");
    client_open(&no_http, &self->world, 0);
    client_say(&no_http, "hello\r\n\r\n");
    client_await(&no_http, NULL);
    assert_non_null(strstr(no_http.in.p, "HTTP/1.1 400 "));
    client_open(&large, &self->world, 0);
    client_say(&large, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ");
    memset(many, 'x', sizeof many);
    client_send(&large, many, sizeof many);
    client_await(&large, NULL);
    assert_non_null(strstr(large.in.p, "HTTP/1.1 431 "));
    assert_non_null(strstr(large.in.p, "\"code\":\"headers_too_big\""));
    client_await(&slow, NULL); /* ends with server.header_timeout_s */
    assert_int_equal(slow.in.n, 0);
    client_close(&slow);
    client_close(&large);
    client_close(&no_http);
}

static void
another_configuration_reaches_its_reactors(void **state)
{
    static svc_config_t fresh; /* outlives the gateway */
    process_t *self = *state;
    const uint64_t until_ms = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    char *error = NULL;

    start(self);
    assert_null(strstr(world_log(&self->world), "4000000000 needs "));
    fresh = self->world.fakes.config;
    fresh.server_max_body_bytes = 10;
    fresh.server_max_connections = 4000000000u;
    assert_true(gateway_reload(self->gateway, &fresh, &error));
    for (int in_a_row = 0; in_a_row < 20;) { /* reactors take it each in its time */
        answer_t answer = ask(&self->world, "POST", "/api/users/login", "",
                              "{\"username\":\"ada\",\"password\":\"0123456789\"}");
        in_a_row = answer.status == 413 ? in_a_row + 1 : 0;
        answer_fini(&answer);
        assert_true(svc_mono_ms() < until_ms);
    }
    /* more than any process may have: said at a reload as at a start */
    assert_non_null(strstr(world_log(&self->world), "4000000000 needs "));
    gateway_stop(self->gateway);
    self->gateway = NULL;
    assert_int_equal(atomic_load(&fresh.holders), 0);
}

/* --- the end ------------------------------------------------------------------------------ */

static void
draining_ends_the_loop_when_nothing_is_left(void **state)
{
    process_t *self = *state;

    start(self);
    become_ready(self);
    gateway_drain(self->gateway, 5000);
    svc_loop_run(self->world.fakes.bus.ctx.loop); /* stopped by the gateway itself */
}

static void
once_announced_it_serves_on_and_sends_everybody_elsewhere(void **state)
{
    process_t *self = *state;
    world_t *world = &self->world;
    int status = 200;

    start(self);
    become_ready(self);
    gateway_announce(self->gateway);
    while (status ==
           200) { /* until both reactors have heard of it, one of them is enough */
        answer_t ready = ask(world, "GET", "/readyz", "", NULL);
        status = ready.status;
        if (status != 200)
            assert_string_equal(ready.body.p, "{\"status\":\"draining\"}");
        answer_fini(&ready);
    }
    for (int i = 0; i < 20; i++) {
        answer_t answer = ask(world, "GET", LIST, "", NULL); /* a connection each */
        assert_int_equal(answer.status, 200);
        answer_fini(&answer);
    }
    gateway_drain(self->gateway, 5000);
    svc_loop_run(world->fakes.bus.ctx.loop);
}

static bool
is_up(void *arg)
{
    return svc_peer_is_up(arg);
}

static bool
is_draining(void *arg)
{
    return svc_peer_is_draining(arg);
}

static void
on_stats(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    const stats_rep_t *stats = rep;

    (void)error;
    assert_int_equal(kind, PROTO_FINAL);
    assert_int_equal(rc, RC_OK);
    assert_true(stats->counters.n > 0);
    *(bool *)arg = true;
}

static bool
is_true(void *arg)
{
    return *(bool *)arg;
}

static void
it_tells_its_counters_on_the_bus_and_that_it_will_go(void **state)
{
    static const char tells[] = "counters are told on ";
    process_t *self = *state;
    world_t *world = &self->world;
    fixture_t *bus = &world->fakes.bus;
    char endpoint[64] = "", *error = NULL, bind[] = "tcp://127.0.0.1:*";
    svc_peer_times_t times = svc_peer_usual_times;
    bool has_stats = false;
    const empty_t nothing = {0};
    const svc_peer_request_t request = {.op = OP_SVC_STATS,
                                        .req_schema = &empty_schema,
                                        .req = &nothing,
                                        .rep_schema = &stats_rep_schema,
                                        .timeout_ms = FIXTURE_PATIENCE_MS,
                                        .on_reply = on_stats,
                                        .arg = &has_stats};

    world->fakes.config.bus_gateway_bind = bind;
    start(self);
    const char *told = strstr(world_log(world), tells);
    assert_non_null(told);
    assert_int_equal(sscanf(told + sizeof tells - 1, "%63[^ \n\"]", endpoint), 1);
    times.tick = times.ping = 20;
    bus->ctx.peer_times = &times;
    svc_peer_t *peer = svc_peer_new(&bus->ctx, "gateway", endpoint, NULL, NULL, &error);
    assert_non_null(peer);
    fixture_run_until(bus, is_up, peer);
    become_ready(self);
    assert_int_equal(svc_peer_call(peer, &request, NULL), RC_OK);
    fixture_run_until(bus, is_true, &has_stats);
    gateway_announce(self->gateway);
    fixture_run_until(bus, is_draining, peer);
    svc_peer_destroy(&peer);
    bus->ctx.peer_times = NULL;
}

/* Answers the kept list: a timer's function. */
static void
answer_list(void *arg, short events)
{
    world_t *world = arg;
    list_rep_t rep = {SVC_LIT("[]"), 0};

    (void)events;
    svc_call_finish(fakes_kept(&world->fakes, FAKE_CONVO, FAKE_LIST), RC_OK, &rep);
}

static void
draining_waits_for_the_reactor_that_is_busy(void **state)
{
    process_t *self = *state;
    world_t *world = &self->world;
    client_t client;

    start(self);
    become_ready(self);
    world->fakes.scripts[FAKE_LIST].rc = RC_LATER;
    client_open(&client, world, 0);
    client_ask(&client, "GET", LIST, "", NULL);
    fakes_await(&world->fakes, FAKE_LIST, 1);
    gateway_drain(self->gateway, 5000);
    svc_loop_after(world->fakes.bus.ctx.loop, 20, answer_list, world);
    svc_loop_run(world->fakes.bus.ctx.loop); /* not stopped before it is answered */
    client_await(&client, NULL);
    answer_t answer = answer_of(&client);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body.p, "[]");
    answer_fini(&answer);
    client_close(&client);
}

static void
a_stop_without_a_drain_ends_what_is_left(void **state)
{
    process_t *self = *state;
    client_t client;

    start(self);
    become_ready(self);
    self->world.fakes.scripts[FAKE_LIST].rc = RC_LATER;
    client_open(&client, &self->world, 0);
    client_ask(&client, "GET", LIST, "", NULL);
    fakes_await(&self->world.fakes, FAKE_LIST, 1);
    gateway_stop(self->gateway);
    self->gateway = NULL;
    client_await(&client, NULL);
    assert_non_null(strstr(client.in.p, "HTTP/1.1 503 "));
    client_close(&client);
}

#define PROCESS_TEST(name) \
    cmocka_unit_test_setup_teardown(name, open_process, close_process)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PROCESS_TEST(reactors_share_a_port),
        PROCESS_TEST(without_a_number_there_is_a_reactor_for_each_core),
        PROCESS_TEST(what_keeps_it_from_starting_is_one_line),
        PROCESS_TEST(a_service_that_is_away_is_missing_until_every_reactor_has_it),
        PROCESS_TEST(slow_and_large_requests_hold_nothing),
        PROCESS_TEST(another_configuration_reaches_its_reactors),
        PROCESS_TEST(draining_ends_the_loop_when_nothing_is_left),
        PROCESS_TEST(once_announced_it_serves_on_and_sends_everybody_elsewhere),
        PROCESS_TEST(it_tells_its_counters_on_the_bus_and_that_it_will_go),
        PROCESS_TEST(draining_waits_for_the_reactor_that_is_busy),
        PROCESS_TEST(a_stop_without_a_drain_ends_what_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
