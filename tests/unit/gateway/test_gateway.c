/* test_gateway.c - a whole gateway over HTTP, in front of services that do as they are told.
 *
 * The fakes run on the test's own loop, the gateway on its reactors, and the client on a thread that
 * reads and writes plain bytes. Tokens are user numbers; convo-svc answers by the conversation's id. */
#include "gateway/gateway.h"
#include "svc/svc_msg.h"
#include "svc/svc_secret.h"
#include "svc/svc_server.h"
#include "tests/unit/svc/bus_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX_BYTES (4u << 20)

/* What a fake convo-svc does with a conversation of this id. */
enum {
    CONVO_OK = 1,
    CONVO_PAGED = 2,
    CONVO_CUT = 3,
    CONVO_MUTE = 4,
    CONVO_BROKEN = 5,
    CONVO_REFUSED = 6,
    CONVO_SLOW = 7
};

typedef struct {
    fixture_t bus;          /* loop and ZeroMQ; the gateway's main context */
    svc_ctx_t contexts[3];  /* of the fakes */
    svc_server_t *fakes[3]; /* auth-svc, convo-svc, llm-svc */
    char endpoints[4][64];  /* theirs, and of token frames */
    void *pub;              /* token frames: none are sent, the journal is enough */
    svc_config_t config;    /* of the gateway */
    void *gateway;          /* what is tested */
    uint16_t port;          /* where it listens */
    atomic_uint verifies;   /* counted */
    unsigned pages;         /* told of one history */
    uint64_t slow_call;     /* kept ask; 0: none */
} world_t;

/* --- the fakes ---------------------------------------------------------------------------- */

static svc_rc
on_register(void *self, svc_call_t *call, const void *req, void *rep)
{
    const register_req_t *wanted = req;

    (void)self;
    (void)call;
    ((register_rep_t *)rep)->user = 1;
    return svc_str_eq(wanted->username, SVC_LIT("taken")) ? RC_USERNAME_TAKEN : RC_OK;
}

static svc_rc
on_login(void *self, svc_call_t *call, const void *req, void *rep)
{
    const login_req_t *login = req;

    (void)self;
    assert_true(svc_str_eq(login->address, SVC_LIT("127.0.0.1")));
    *(login_rep_t *)rep = (login_rep_t){SVC_LIT("a\"token"), 2000000000};
    if (svc_str_eq(login->username, SVC_LIT("eve"))) {
        svc_call_explain(call, "slow down", 8);
        return RC_THROTTLED;
    }
    return svc_str_eq(login->password, SVC_LIT("right")) ? RC_OK : RC_BAD_CREDENTIALS;
}

static svc_rc
on_verify(void *self, svc_call_t *call, const void *req, void *rep)
{
    world_t *world = self;
    const verify_req_t *verify = req;

    (void)call;
    atomic_fetch_add(&world->verifies, 1);
    *(verify_rep_t *)rep = (verify_rep_t){11, 4000000000};
    return svc_str_eq(verify->token, SVC_LIT("good")) ? RC_OK : RC_UNAUTHORIZED;
}

static svc_rc
on_create(void *self, svc_call_t *call, const void *req, void *rep)
{
    (void)self;
    (void)call;
    assert_int_equal(((const create_req_t *)req)->user, 11);
    *(create_rep_t *)rep = (create_rep_t){77, 1700000000};
    return RC_OK;
}

static svc_rc
on_list(void *self, svc_call_t *call, const void *req, void *rep)
{
    (void)self;
    (void)call;
    (void)req;
    ((list_rep_t *)rep)->json = SVC_LIT("[]");
    return RC_OK;
}

static svc_rc
on_history(void *self, svc_call_t *call, const void *req, void *rep)
{
    static char page[100000];
    world_t *world = self;
    const history_req_t *wanted = req;

    (void)call;
    if (wanted->conversation == CONVO_MUTE)
        return RC_LATER;
    if (wanted->conversation != CONVO_PAGED && wanted->conversation != CONVO_CUT)
        return RC_NOT_FOUND;
    if (wanted->message == 3 && wanted->conversation == CONVO_CUT)
        return RC_INTERNAL;
    memset(page, '0' + (int)wanted->message, sizeof page);
    world->pages++;
    *(history_rep_t *)rep = (history_rep_t){
        {page, sizeof page}, wanted->message + 1, 7, wanted->message < 9};
    assert_int_equal(wanted->offset, wanted->message == 0 ? 0 : 7);
    return RC_OK;
}

static svc_rc
on_delete(void *self, svc_call_t *call, const void *req, void *rep)
{
    (void)self;
    (void)call;
    (void)rep;
    return ((const conversation_req_t *)req)->conversation == CONVO_OK ? RC_OK
                                                                       : RC_NOT_FOUND;
}

static svc_rc
on_ask(void *self, svc_call_t *call, const void *req, void *rep)
{
    world_t *world = self;
    const ask_req_t *ask = req;
    status_rep_t *status = rep;

    *status = (status_rep_t){.stream = ask->stream,
                             .message = 2,
                             .state = ANSWER_COMPLETE,
                             .length = 5,
                             .fence = 7,
                             .finish = SVC_LIT("stop")};
    switch (ask->conversation) {
    case CONVO_OK: return RC_OK;
    case CONVO_BROKEN:
        status->state = ANSWER_INTERRUPTED;
        status->length = 0;
        status->reason = SVC_LIT("upstream_rate_limited");
        status->text = SVC_LIT("Quota exceeded");
        status->retry_after_s = 20;
        return RC_OK;
    case CONVO_REFUSED: return RC_ANSWERING;
    case CONVO_SLOW:
        status->state = ANSWER_WAITING;
        status->length = 0;
        world->slow_call = svc_call_id(call);
        (void)svc_call_partial(call, status, 60000);
        return RC_LATER;
    default: return RC_NOT_FOUND;
    }
}

static svc_rc
on_watch(void *self, svc_call_t *call, const void *req, void *rep)
{
    (void)self;
    (void)call;
    (void)req;
    (void)rep;
    return RC_LATER;
}

static svc_rc
on_read(void *self, svc_call_t *call, const void *req, void *rep)
{
    static const char text[] = "Hello";
    const read_req_t *read = req;

    (void)self;
    (void)call;
    *(read_rep_t *)rep = (read_rep_t){
        read->from, {text + read->from, 5 - read->from}, ANSWER_COMPLETE, 5};
    return RC_OK;
}

static svc_rc
on_models(void *self, svc_call_t *call, const void *req, void *rep)
{
    static model_pattern_t patterns[] = {{{"echo", 4}}, {{"gpt*", 4}}};

    (void)self;
    (void)call;
    (void)req;
    ((models_rep_t *)rep)->patterns = (proto_list_t){patterns, 2};
    return RC_OK;
}

// clang-format off
static const svc_op_t auth_ops[] = {
    {OP_AUTH_REGISTER, &register_req_schema, &register_rep_schema, on_register, SVC_ANYONE, 20000},
    {OP_AUTH_LOGIN,    &login_req_schema,    &login_rep_schema,    on_login,    SVC_ANYONE, 20000},
    {OP_AUTH_VERIFY,   &verify_req_schema,   &verify_rep_schema,   on_verify,   SVC_ANYONE, 20000},
    {0},
};
static const svc_op_t convo_ops[] = {
    {OP_CONVO_CREATE,  &create_req_schema,       &create_rep_schema,  on_create,  SVC_ANYONE, 20000},
    {OP_CONVO_LIST,    &list_req_schema,         &list_rep_schema,    on_list,    SVC_ANYONE, 20000},
    {OP_CONVO_HISTORY, &history_req_schema,      &history_rep_schema, on_history, SVC_ANYONE, 20000},
    {OP_CONVO_DELETE,  &conversation_req_schema, &empty_schema,       on_delete,  SVC_ANYONE, 20000},
    {OP_CONVO_ASK,     &ask_req_schema,          &status_rep_schema,  on_ask,     SVC_ANYONE, 20000},
    {OP_CONVO_WATCH,   &watch_req_schema,        &status_rep_schema,  on_watch,   SVC_ANYONE, 20000},
    {OP_CONVO_READ,    &read_req_schema,         &read_rep_schema,    on_read,    SVC_ANYONE, 20000},
    {0},
};
static const svc_op_t llm_ops[] = {
    {OP_LLM_MODELS, &empty_schema, &models_rep_schema, on_models, SVC_ANYONE, 20000},
    {0},
};
// clang-format on

/* --- the world ---------------------------------------------------------------------------- */

static uint16_t
free_port(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &n), 0);
    close(fd);
    return ntohs(addr.sin_port);
}

static void
start_fake(world_t *world, size_t i)
{
    static const char *const names[] = {"auth-svc", "convo-svc", "llm-svc"};
    static const svc_op_t *const ops[] = {auth_ops, convo_ops, llm_ops};
    char *error = NULL;

    world->contexts[i] = world->bus.ctx;
    world->contexts[i].service = names[i];
    world->contexts[i].instance = svc_random_u64();
    for (int attempt = 0; attempt < 100 && world->fakes[i] == NULL; attempt++) {
        if (svc_server_new(&world->contexts[i], world->endpoints[i], ops[i], world,
                           &world->fakes[i], &error) == RC_OK)
            break;
        free(error);
        zmq_poll(NULL, 0, 20);
    }
    assert_non_null(world->fakes[i]);
}

static void
configure(world_t *world)
{
    static char empty[] = "";
    static char *origins[] = {(char *)(uintptr_t) "*"};
    static char host[] = "127.0.0.1";

    world->config = (svc_config_t){
        .server_host = host,
        .server_port = world->port = free_port(),
        .server_max_body_bytes = 1000,
        .server_header_timeout_s = 1,
        .server_body_timeout_s = 10,
        .server_idle_timeout_s = 10,
        .server_max_connections = 100,
        .server_cors_origins = {origins, 1},
        .server_drain_s = 2,
        .gateway_workers = 2,
        .gateway_headers_after_s = 1,
        .gateway_keepalive_s = 1,
        .gateway_reattach_s = 2,
        .gateway_request_timeout_s = 2,
        .gateway_verify_cache_s = 5,
        .auth_password_min = 8,
        .bus_auth = {empty, world->endpoints[0]},
        .bus_convo = {empty, world->endpoints[1]},
        .bus_llm = {empty, world->endpoints[2]},
        .bus_tokens = {empty, world->endpoints[3]},
    };
    world->bus.ctx.config = &world->config;
}

static int
open_world(void **state)
{
    world_t *world = svc_alloc(sizeof *world);
    char *error = NULL;
    size_t n = sizeof world->endpoints[3];

    fixture_open(&world->bus, "gateway");
    for (size_t i = 0; i < 3; i++) {
        snprintf(world->endpoints[i], sizeof world->endpoints[i], "tcp://127.0.0.1:%u",
                 free_port());
        start_fake(world, i);
    }
    world->pub = svc_msg_socket(world->bus.ctx.zmq, ZMQ_PUB, 1000);
    assert_int_equal(zmq_bind(world->pub, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(
        zmq_getsockopt(world->pub, ZMQ_LAST_ENDPOINT, world->endpoints[3], &n), 0);
    configure(world);
    world->gateway = gateway_start(&world->bus.ctx, &error);
    if (world->gateway == NULL)
        fail_msg("%s", error);
    *state = world;
    return 0;
}

static int
close_world(void **state)
{
    world_t *world = *state;

    gateway_stop(world->gateway);
    for (size_t i = 0; i < 3; i++)
        svc_server_destroy(&world->fakes[i]);
    zmq_close(world->pub);
    fixture_close(&world->bus);
    free(world);
    return 0;
}

/* --- the client --------------------------------------------------------------------------- */

typedef struct {
    world_t *world;   /* whom to ask */
    const char *sent; /* raw request */
    size_t n_sent;    /* bytes of it */
    char *answer;     /* raw, all until the connection closed; NUL-terminated */
    size_t n;         /* bytes of it */
    atomic_bool done; /* the connection is closed */
} exchange_t;

static void *
run_exchange(void *arg)
{
    exchange_t *self = arg;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(self->world->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
        send(fd, self->sent, self->n_sent, MSG_NOSIGNAL) == (ssize_t)self->n_sent) {
        ssize_t got;
        while (self->n < ANSWER_MAX_BYTES - 1 &&
               (got = recv(fd, self->answer + self->n, ANSWER_MAX_BYTES - 1 - self->n,
                           0)) > 0)
            self->n += (size_t)got;
    }
    close(fd);
    self->answer[self->n] = '\0';
    atomic_store(&self->done, true);
    return NULL;
}

static bool
is_done(void *arg)
{
    return atomic_load(&((exchange_t *)arg)->done);
}

/* Sends a raw request and gives the whole raw answer; free() it. The fakes work meanwhile. */
static char *
exchange(world_t *world, const char *sent, size_t n_sent)
{
    exchange_t self = {.world = world,
                       .sent = sent,
                       .n_sent = n_sent,
                       .answer = svc_alloc(ANSWER_MAX_BYTES)};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run_exchange, &self), 0);
    bool ok = fixture_runs_until(&world->bus, is_done, &self, FIXTURE_PATIENCE_MS);
    if (!ok)
        fail_msg("no answer to %.60s", sent);
    pthread_join(thread, NULL);
    return self.answer;
}

/* One request with a good token on a connection of its own. */
static char *
ask(world_t *world, const char *method, const char *path, const char *body)
{
    char sent[4096];
    int n = snprintf(
        sent, sizeof sent,
        "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer good\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        method, path, strlen(body), body);

    return exchange(world, sent, (size_t)n);
}

/* Asks and compares status and a part of the answer. */
static void
expect(world_t *world, const char *method, const char *path, const char *body, int status,
       const char *part)
{
    char line[32];
    char *answer = ask(world, method, path, body);

    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    if (strncmp(answer, line, strlen(line)) != 0 || strstr(answer, part) == NULL)
        fail_msg("%s %s %s: %s", method, path, body, answer);
    free(answer);
}

/* Asks until every reactor has found the services. */
static void
become_ready(world_t *world)
{
    for (int i = 0; i < 500; i++) {
        char *answer = ask(world, "GET", "/readyz", "");
        bool ready = strncmp(answer, "HTTP/1.1 200", 12) == 0;
        free(answer);
        if (ready)
            return;
        assert_false(
            fixture_runs_until(&world->bus, is_done, &(exchange_t){.done = false}, 10));
    }
    fail_msg("never ready");
}

/* --- tests -------------------------------------------------------------------------------- */

static void
users_register_and_log_in(void **state)
{
    world_t *world = *state;

    become_ready(world);
    expect(world, "POST", "/api/users/register",
           "{\"username\":\"ada\",\"password\":\"correct horse\"}", 201,
           "{\"message\":\"User registered successfully\"}");
    expect(world, "POST", "/api/users/register",
           "{\"username\":\"taken\",\"password\":\"correct horse\"}", 400,
           "\"code\":\"username_taken\"");
    expect(world, "POST", "/api/users/register",
           "{\"username\":\"\",\"password\":\"correct horse\"}", 400,
           "\"code\":\"invalid_username\"");
    expect(world, "POST", "/api/users/register",
           "{\"username\":\"ada\",\"password\":\"\"}", 400,
           "8 to 72 bytes\",\"code\":\"invalid_password\"");
    expect(world, "POST", "/api/users/register", "{\"username\":\"ada\"}", 400,
           "\\\"password\\\" is missing");
    expect(world, "POST", "/api/users/login",
           "{\"username\":\"ada\",\"password\":\"right\"}", 200,
           "{\"token\":\"a\\\"token\"}");
    expect(world, "POST", "/api/users/login",
           "{\"username\":\"ada\",\"password\":\"wrong\"}", 401, "bad_credentials");
    expect(world, "POST", "/api/users/login", "{\"username\":\"\",\"password\":\"\"}",
           401, "bad_credentials");
    expect(world, "POST", "/api/users/login", "{\"username\":\"eve\",\"password\":\"x\"}",
           429, "Retry-After: 8");
    expect(world, "POST", "/api/users/login", "not JSON", 400, "\"code\":\"invalid\"");
}

static void
conversations_are_made_listed_and_deleted(void **state)
{
    world_t *world = *state;

    become_ready(world);
    expect(
        world, "POST", "/api/conversations/create",
        "{\"title\":\"A \\\"t\\\"\",\"model\":\"gpt-4\"}", 200,
        "{\"conversation_id\":77,\"title\":\"A \\\"t\\\"\",\"model\":\"gpt-4\",\"api_key\":\"\","
        "\"created_time\":1700000000}");
    expect(world, "POST", "/api/conversations/create",
           "{\"title\":\"t\",\"model\":\"nobody's\"}", 400, "unknown_model");
    expect(world, "POST", "/api/conversations/create",
           "{\"title\":\"\",\"model\":\"echo\"}", 400, "\\\"title\\\" must not be empty");
    expect(world, "GET", "/api/conversations/list/", "", 200, "\r\n\r\n[]");
    expect(world, "POST", "/api/conversations/del/1", "", 200,
           "Conversation deleted successfully");
    expect(world, "POST", "/api/conversations/del/5", "", 404, "Conversation not found");
    expect(world, "POST", "/api/conversations/del/-1", "", 404, "not_found");
    expect(world, "POST", "/api/conversations/del/99999999999999999999999", "", 404,
           "not_found");
    expect(world, "POST", "/api/conversations/del/1x", "", 400, "must be an integer");
    expect(world, "PATCH", "/api/conversations/del/1", "", 405, "Allow: POST, OPTIONS");
    expect(world, "GET", "/nothing", "", 404, "not_found");
}

static void
a_token_is_asked_about_once_for_a_while(void **state)
{
    static const char bad[] =
        "GET /api/conversations/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        "Authorization: Bearer bad\r\n\r\n";
    static const char none[] =
        "GET /api/conversations/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    world_t *world = *state;

    become_ready(world);
    for (int i = 0; i < 20; i++)
        expect(world, "GET", "/api/conversations/list", "", 200, "[]");
    assert_in_range(atomic_load(&world->verifies), 1, 2); /* once on each reactor */
    char *answer = exchange(world, bad, sizeof bad - 1);
    assert_non_null(strstr(answer, "401 Unauthorized"));
    free(answer);
    answer = exchange(world, none, sizeof none - 1);
    assert_non_null(strstr(answer, "A token is needed"));
    free(answer);
}

static void
a_long_history_comes_page_by_page_and_whole(void **state)
{
    world_t *world = *state;
    size_t counts[10] = {0};

    become_ready(world);
    char *answer = ask(world, "GET", "/api/conversations/history/2", "");
    assert_non_null(strstr(answer, "Transfer-Encoding: chunked"));
    assert_int_equal(strcmp(answer + strlen(answer) - 5, "0\r\n\r\n"), 0);
    assert_int_equal(world->pages, 10);
    for (const char *c = answer; (c = strpbrk(c, "0123456789")) != NULL; c++)
        counts[*c - '0']++;
    for (size_t i = 0; i < 10; i++)
        assert_in_range(counts[i], 100000,
                        101000); /* and some digits of headers and chunks */
    free(answer);
}

static void
a_history_that_breaks_off_does_not_look_whole(void **state)
{
    world_t *world = *state;

    become_ready(world);
    char *answer = ask(world, "GET", "/api/conversations/history/3", "");
    assert_non_null(strstr(answer, "200 OK"));
    assert_int_not_equal(strcmp(answer + strlen(answer) - 5, "0\r\n\r\n"), 0);
    free(answer);
}

static void
a_service_that_says_nothing_is_504(void **state)
{
    world_t *world = *state;

    become_ready(world);
    expect(world, "GET", "/api/conversations/history/4", "", 504, "\"code\":\"timeout\"");
}

static void
a_service_that_is_away_is_503_and_named(void **state)
{
    world_t *world = *state;

    become_ready(world);
    svc_server_destroy(&world->fakes[1]);
    for (int i = 0; i < 500; i++) {
        char *answer = ask(world, "GET", "/readyz", "");
        bool named = strstr(answer, "\"missing\":[\"convo-svc\"]") != NULL;
        free(answer);
        if (named)
            break;
        assert_int_not_equal(i, 499);
    }
    expect(world, "GET", "/healthz", "", 200, "{\"status\":\"ok\"}");
    expect(world, "POST", "/api/users/login",
           "{\"username\":\"ada\",\"password\":\"right\"}", 200, "token");
    start_fake(world, 1);
    become_ready(world);
    expect(world, "GET", "/api/conversations/list", "", 200, "[]");
}

static void
an_answer_streams_from_its_journal_alone(void **state)
{
    world_t *world = *state;

    become_ready(world);
    char *answer = ask(world, "POST", "/api/chat/1", "{\"message\":\"Hi\"}");
    assert_non_null(strstr(answer, "Content-Type: text/event-stream\r\n"));
    assert_non_null(
        strstr(answer, "data: {\"event\":\"message\",\"data\":\"Hello\"}\n\n"));
    assert_non_null(strstr(
        answer, "data: {\"event\":\"done\",\"data\":\"Stream finished\",\"message_id\":2,"
                "\"finish_reason\":\"stop\"}\n\n"));
    assert_non_null(strstr(answer, "{\"event\":\"full_response\",\"data\":\""));
    assert_int_equal(strcmp(answer + strlen(answer) - 5, "0\r\n\r\n"), 0);
    free(answer);
}

static void
what_fails_before_the_first_piece_has_a_status(void **state)
{
    world_t *world = *state;

    become_ready(world);
    expect(world, "POST", "/api/chat/5", "{\"message\":\"Hi\"}", 502,
           "{\"error\":\"Quota exceeded\",\"code\":\"upstream_rate_limited\"}");
    expect(world, "POST", "/api/chat/5", "{\"message\":\"Hi\"}", 502, "Retry-After: 20");
    expect(world, "POST", "/api/chat/6", "{\"message\":\"Hi\"}", 409,
           "\"code\":\"answering\"");
    expect(world, "POST", "/api/chat/999", "{\"message\":\"Hi\"}", 404,
           "Conversation not found");
    expect(world, "POST", "/api/chat/1", "{\"message\":\"\"}", 400, "must not be empty");
    expect(world, "POST", "/api/chat/1", "{\"message\":7}", 400, "must be a string");
}

static void
a_model_that_thinks_for_long_gets_its_headers_and_comments(void **state)
{
    world_t *world = *state;

    become_ready(world);
    char *answer = ask(
        world, "POST", "/api/chat/7",
        "{\"message\":\"Hi\"}"); /* watched in vain: it ends with the sight of it */
    assert_non_null(strstr(answer, "200 OK"));
    assert_non_null(strstr(answer, ": keep-alive\n\n"));
    assert_non_null(strstr(answer, "\"code\":\"unavailable\""));
    free(answer);
}

static void
slow_and_large_requests_hold_nothing(void **state)
{
    static const char slow[] = "GET /healthz HTTP/1.1\r\nHost";
    static const char no_http[] = "hello\r\n\r\n";
    world_t *world = *state;
    char *large = svc_alloc(40000);

    become_ready(world);
    char *answer = exchange(world, slow,
                            sizeof slow - 1); /* ends with server.header_timeout_s */
    assert_string_equal(answer, "");
    free(answer);
    answer = exchange(world, no_http, sizeof no_http - 1);
    assert_non_null(strstr(answer, "HTTP/1.1 400 "));
    free(answer);
    int n = snprintf(large, 40000, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ");
    memset(large + n, 'x', 39999 - (size_t)n);
    answer = exchange(world, large, 39999);
    assert_non_null(strstr(answer, "HTTP/1.1 431 "));
    assert_non_null(strstr(answer, "\"code\":\"headers_too_big\""));
    free(answer);
    memset(large, 'x', 1001);
    large[1001] = '\0';
    expect(world, "POST", "/api/users/login", large, 413, "larger than 1000 bytes");
    free(large);
}

static void
draining_ends_the_loop_when_nothing_is_left(void **state)
{
    world_t *world = *state;

    become_ready(world);
    gateway_drain(world->gateway);
    svc_loop_run(world->bus.ctx.loop); /* stopped by the gateway itself */
}

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(users_register_and_log_in),
        WORLD_TEST(conversations_are_made_listed_and_deleted),
        WORLD_TEST(a_token_is_asked_about_once_for_a_while),
        WORLD_TEST(a_long_history_comes_page_by_page_and_whole),
        WORLD_TEST(a_history_that_breaks_off_does_not_look_whole),
        WORLD_TEST(a_service_that_says_nothing_is_504),
        WORLD_TEST(a_service_that_is_away_is_503_and_named),
        WORLD_TEST(an_answer_streams_from_its_journal_alone),
        WORLD_TEST(what_fails_before_the_first_piece_has_a_status),
        WORLD_TEST(a_model_that_thinks_for_long_gets_its_headers_and_comments),
        WORLD_TEST(slow_and_large_requests_hold_nothing),
        WORLD_TEST(draining_ends_the_loop_when_nothing_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
