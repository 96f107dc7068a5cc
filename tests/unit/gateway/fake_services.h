/* fake_services.h - auth-svc, convo-svc and llm-svc as tests of the gateway want them: they do as they are told.
 *
 * The three run on the test's own loop and speak over real sockets on free ports. Each operation has
 * a script: an error to answer, silence, a handler of the test, or nothing: then it goes well. The
 * answer of a conversation is `truth`; the test decides how much of it is released, journaled,
 * and published. What was asked last can be read as text. */
#ifndef TESTS_UNIT_GATEWAY_FAKE_SERVICES_H
#define TESTS_UNIT_GATEWAY_FAKE_SERVICES_H

#include "gateway/feed_hub.h"
#include "svc/svc_msg.h"
#include "svc/svc_secret.h"
#include "svc/svc_server.h"
#include "svc/svc_text.h"
#include "tests/unit/svc/bus_fixture.h"

#define FAKE_FENCE       7
#define FAKE_TRUTH_BYTES 600000

typedef enum {
    FAKE_REGISTER,
    FAKE_LOGIN,
    FAKE_VERIFY,
    FAKE_TICKET,
    FAKE_REDEEM,
    FAKE_CREATE,
    FAKE_LIST,
    FAKE_HISTORY,
    FAKE_DELETE,
    FAKE_ASK,
    FAKE_WATCH,
    FAKE_READ,
    FAKE_TAIL,
    FAKE_RETRY,
    FAKE_STOP,
    FAKE_ACTIVE,
    FAKE_UNWATCH,
    FAKE_REPLAY,
    FAKE_MODELS,
    FAKE_OPS
} fake_op;

enum { FAKE_AUTH, FAKE_CONVO, FAKE_LLM, FAKE_SERVICES };

/* What a fake does when it is asked for one operation. */
typedef struct {
    svc_rc rc;        /* answered; RC_OK: it goes well; RC_LATER: kept, nothing said */
    const char *text; /* said to an error; NULL: nothing */
    uint64_t retry_after_s;           /* likewise */
    svc_handler_fn *handler;          /* does it instead; NULL: none */
    unsigned n;                       /* how often it was asked */
    uint64_t kept;                    /* the call that was kept last */
    uint8_t trace[PROTO_TRACE_BYTES]; /* of the last call */
    char asked[1600];                 /* what the last call wanted, as text */
} script_t;

typedef struct {
    fixture_t bus;                        /* loop and ZeroMQ; the gateway's side of it */
    svc_config_t config;                  /* the gateway's */
    svc_ctx_t contexts[FAKE_SERVICES];    /* of the fakes */
    svc_server_t *servers[FAKE_SERVICES]; /* NULL: away */
    char endpoints[FAKE_SERVICES][64];    /* theirs */
    int ports[FAKE_SERVICES];     /* sockets, owned: keep theirs while they are away */
    char tokens_at[64];           /* where token frames come from */
    void *pub;                    /* them; an XPUB, so that subscriptions can be seen */
    unsigned subscriptions;       /* seen so far */
    script_t scripts[FAKE_OPS];   /* by operation */
    char *truth;                  /* owned; text of the answer */
    uint64_t released, journaled; /* bytes of it that llm-svc and convo-svc give out */
    status_rep_t status;          /* what convo-svc tells; its length is `journaled` */
    uint8_t stream[PROTO_STREAM_BYTES]; /* of the last question */
    bool joins;                         /* questions join the answer of `stream` */
    bool is_foreign;                    /* convo-svc owns no answer, it tells once */
    char key[PROTO_KEY_MAX_BYTES];      /* of the last request that could have one */
    size_t key_n;                       /* its bytes */
    char ask_key[80];   /* key and stop_alone of the last question, as text */
    uint64_t watch;     /* kept ask or watch; 0: none */
    svc_buf_t tail;     /* handed in */
    uint64_t tail_from; /* its offset */
} fakes_t;

/* --- what all operations do --------------------------------------------------------------- */

/* Counts the call and gives what its script says. RC_OK: do as usual. */
static inline svc_rc
fake_serve(fakes_t *self, fake_op op, svc_call_t *call, const void *req, void *rep)
{
    script_t *script = &self->scripts[op];

    script->n++;
    memcpy(script->trace, svc_call_trace(call).p, PROTO_TRACE_BYTES);
    script->kept = svc_call_id(call);
    if (script->handler != NULL)
        return script->handler(self, call, req, rep);
    if (script->rc != RC_OK && script->rc != RC_LATER)
        svc_call_explain(call, script->text, script->retry_after_s);
    return script->rc;
}

static inline SVC_PRINTF(3, 4) void fake_note(fakes_t *self, fake_op op, const char *fmt,
                                              ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(self->scripts[op].asked, sizeof self->scripts[op].asked, fmt, args);
    va_end(args);
}

#define FAKE_STR(s) (int)(s).n, (s).n > 0 ? (s).p : ""

static inline void
fake_keep_key(fakes_t *self, svc_str key)
{
    assert_in_range(key.n, 0, sizeof self->key);
    self->key_n = key.n;
    if (key.n > 0)
        memcpy(self->key, key.p, key.n);
}

/* --- auth-svc ----------------------------------------------------------------------------- */

static inline svc_rc
fake_register(void *self, svc_call_t *call, const void *req, void *rep)
{
    const register_req_t *wanted = req;

    fake_note(self, FAKE_REGISTER, "%.*s %.*s", FAKE_STR(wanted->username),
              FAKE_STR(wanted->password));
    fake_keep_key(self, wanted->key);
    ((register_rep_t *)rep)->user = 1;
    return fake_serve(self, FAKE_REGISTER, call, req, rep);
}

static inline svc_rc
fake_login(void *self, svc_call_t *call, const void *req, void *rep)
{
    const login_req_t *login = req;

    fake_note(self, FAKE_LOGIN, "%.*s %.*s %.*s", FAKE_STR(login->username),
              FAKE_STR(login->password), FAKE_STR(login->address));
    *(login_rep_t *)rep = (login_rep_t){SVC_LIT("a\"token"), 2000000000};
    return fake_serve(self, FAKE_LOGIN, call, req, rep);
}

/* "good" is user 11, "other" user 12; nobody else has a token. */
static inline svc_rc
fake_verify(void *self, svc_call_t *call, const void *req, void *rep)
{
    const verify_req_t *verify = req;
    bool is_good = svc_str_eq(verify->token, SVC_LIT("good"));

    fake_note(self, FAKE_VERIFY, "%.*s", FAKE_STR(verify->token));
    *(verify_rep_t *)rep = (verify_rep_t){is_good ? 11 : 12, 4000000000};
    svc_rc rc = fake_serve(self, FAKE_VERIFY, call, req, rep);
    if (rc == RC_OK && !is_good && !svc_str_eq(verify->token, SVC_LIT("other")))
        return RC_UNAUTHORIZED;
    return rc;
}

static inline svc_rc
fake_ticket(void *self, svc_call_t *call, const void *req, void *rep)
{
    const ticket_req_t *wanted = req;

    fake_note(self, FAKE_TICKET, "%d: %d until %llu", (int)wanted->user,
              (int)wanted->conversation, (unsigned long long)wanted->expires_s);
    *(ticket_rep_t *)rep = (ticket_rep_t){SVC_LIT("ti.ck-et"), 60};
    return fake_serve(self, FAKE_TICKET, call, req, rep);
}

/* "fresh" and "old" are tickets of user 11 for conversation 5; the first opens streams. */
static inline svc_rc
fake_redeem(void *self, svc_call_t *call, const void *req, void *rep)
{
    const redeem_req_t *redeem = req;
    bool is_fresh = svc_str_eq(redeem->ticket, SVC_LIT("fresh"));

    fake_note(self, FAKE_REDEEM, "%.*s", FAKE_STR(redeem->ticket));
    *(redeem_rep_t *)rep = (redeem_rep_t){11, 5, is_fresh ? 4000000000 : 1, 4000000000};
    svc_rc rc = fake_serve(self, FAKE_REDEEM, call, req, rep);
    if (rc == RC_OK && !is_fresh && !svc_str_eq(redeem->ticket, SVC_LIT("old")))
        return RC_UNAUTHORIZED;
    return rc;
}

/* --- convo-svc: conversations ------------------------------------------------------------- */

static inline svc_rc
fake_create(void *self, svc_call_t *call, const void *req, void *rep)
{
    const create_req_t *create = req;

    fake_note(self, FAKE_CREATE, "%d: %.*s, %.*s, %.*s", (int)create->user,
              FAKE_STR(create->title), FAKE_STR(create->model),
              FAKE_STR(create->api_key));
    fake_keep_key(self, create->key);
    *(create_rep_t *)rep = (create_rep_t){77, 1700000000};
    return fake_serve(self, FAKE_CREATE, call, req, rep);
}

static inline svc_rc
fake_list(void *self, svc_call_t *call, const void *req, void *rep)
{
    const list_req_t *list = req;

    fake_note(self, FAKE_LIST, "%d: %d", (int)list->user, (int)list->cursor);
    ((list_rep_t *)rep)->json = SVC_LIT("[]");
    return fake_serve(self, FAKE_LIST, call, req, rep);
}

static inline svc_rc
fake_history(void *self, svc_call_t *call, const void *req, void *rep)
{
    const history_req_t *history = req;

    fake_note(self, FAKE_HISTORY, "%d: %llu at %d.%d", (int)history->user,
              (unsigned long long)history->conversation, (int)history->message,
              (int)history->offset);
    ((history_rep_t *)rep)->json = SVC_LIT("[{}]");
    return fake_serve(self, FAKE_HISTORY, call, req, rep);
}

static inline svc_rc
fake_delete(void *self, svc_call_t *call, const void *req, void *rep)
{
    const conversation_req_t *gone = req;

    fake_note(self, FAKE_DELETE, "%d: %llu", (int)gone->user,
              (unsigned long long)gone->conversation);
    return fake_serve(self, FAKE_DELETE, call, req, rep);
}

/* --- convo-svc: answers ------------------------------------------------------------------- */

static inline status_rep_t
fake_status(const fakes_t *self)
{
    status_rep_t status = self->status;

    status.stream = (svc_str){(const char *)self->stream, PROTO_STREAM_BYTES};
    status.message = 2;
    status.fence = FAKE_FENCE;
    status.length = self->journaled;
    if (status.owner == 0)
        status.owner = self->contexts[FAKE_CONVO].instance;
    if (status.llm == 0)
        status.llm = self->contexts[FAKE_LLM].instance;
    return status;
}

/* Tells the watcher how things are. */
static inline void
fake_tell(fakes_t *self)
{
    svc_call_t *call = svc_server_call(self->servers[FAKE_CONVO], self->watch);
    status_rep_t status = fake_status(self);

    assert_non_null(call);
    if (answer_state_is_terminal(status.state))
        svc_call_finish(call, RC_OK, &status);
    else
        (void)svc_call_partial(call, &status, 12000);
}

/* Answers an ask or watch: at once when the answer is over, else part by part. */
static inline svc_rc
fake_begin_watch(fakes_t *self, svc_call_t *call, status_rep_t *rep)
{
    *rep = fake_status(self);
    if (answer_state_is_terminal(rep->state) || self->is_foreign)
        return RC_OK;
    self->watch = svc_call_id(call);
    status_rep_t status = *rep;
    (void)svc_call_partial(call, &status, 12000);
    return RC_LATER;
}

static inline svc_rc
fake_ask(void *self, svc_call_t *call, const void *req, void *rep)
{
    fakes_t *fakes = self;
    const ask_req_t *ask = req;

    fake_note(self, FAKE_ASK, "%d: %llu %.*s", (int)ask->user,
              (unsigned long long)ask->conversation,
              (int)(ask->text.n < 1000 ? ask->text.n : 1000), ask->text.p);
    fake_keep_key(fakes, ask->key);
    snprintf(fakes->ask_key, sizeof fakes->ask_key, "%.*s%s", FAKE_STR(ask->key),
             ask->stop_alone ? " alone" : "");
    if (!fakes->joins)
        memcpy(fakes->stream, ask->stream.p, PROTO_STREAM_BYTES);
    svc_rc rc = fake_serve(self, FAKE_ASK, call, req, rep);
    return rc == RC_OK ? fake_begin_watch(self, call, rep) : rc;
}

static inline svc_rc
fake_retry(void *self, svc_call_t *call, const void *req, void *rep)
{
    fakes_t *fakes = self;
    const retry_req_t *retry = req;

    fake_note(self, FAKE_RETRY, "%d: %llu %.*s%s", (int)retry->user,
              (unsigned long long)retry->conversation, FAKE_STR(retry->key),
              retry->stop_alone ? " alone" : "");
    fake_keep_key(fakes, retry->key);
    memcpy(fakes->stream, retry->stream.p, PROTO_STREAM_BYTES);
    svc_rc rc = fake_serve(self, FAKE_RETRY, call, req, rep);
    return rc == RC_OK ? fake_begin_watch(self, call, rep) : rc;
}

static inline svc_rc
fake_unwatch(void *self, svc_call_t *call, const void *req, void *rep)
{
    const unwatch_req_t *unwatch = req;
    char stream[2 * PROTO_STREAM_BYTES + 1];

    svc_hex((const uint8_t *)unwatch->stream.p, PROTO_STREAM_BYTES, stream);
    fake_note(self, FAKE_UNWATCH, "%s", stream);
    return fake_serve(self, FAKE_UNWATCH, call, req, rep);
}

static inline svc_rc
fake_watch(void *self, svc_call_t *call, const void *req, void *rep)
{
    fakes_t *fakes = self;
    const watch_req_t *watch = req;

    fake_note(self, FAKE_WATCH, "%d: %llu", (int)watch->user,
              (unsigned long long)watch->conversation);
    if (watch->stream.n > 0)
        if (memcmp(watch->stream.p, fakes->stream, PROTO_STREAM_BYTES) != 0)
            return RC_NOT_FOUND; /* one answer at a time is enough */
    svc_rc rc = fake_serve(self, FAKE_WATCH, call, req, rep);
    return rc == RC_OK ? fake_begin_watch(self, call, rep) : rc;
}

static inline svc_str
fake_page(const fakes_t *self, uint64_t from, uint64_t to)
{
    uint64_t n = from < to ? to - from : 0;

    return (svc_str){self->truth + (n > 0 ? from : 0),
                     n < PROTO_PAGE_MAX_BYTES ? (size_t)n : PROTO_PAGE_MAX_BYTES};
}

static inline svc_rc
fake_read(void *self, svc_call_t *call, const void *req, void *rep)
{
    const fakes_t *fakes = self;
    const read_req_t *read = req;

    fake_note(self, FAKE_READ, "%d: from %d", (int)read->user, (int)read->from);
    *(read_rep_t *)rep = (read_rep_t){read->from,
                                      fake_page(fakes, read->from, fakes->journaled),
                                      fakes->status.state, fakes->journaled};
    return fake_serve(self, FAKE_READ, call, req, rep);
}

static inline svc_rc
fake_tail(void *self, svc_call_t *call, const void *req, void *rep)
{
    fakes_t *fakes = self;
    const tail_req_t *tail = req;

    fake_note(self, FAKE_TAIL, "fence %d from %d", (int)tail->fence, (int)tail->from);
    svc_rc rc = fake_serve(self, FAKE_TAIL, call, req, rep);
    if (rc != RC_OK)
        return rc;
    if (fakes->tail.n == 0)
        fakes->tail_from = tail->from;
    assert_int_equal(tail->from, fakes->tail_from + fakes->tail.n);
    assert_int_equal(svc_buf_add_str(&fakes->tail, tail->bytes), RC_OK);
    return RC_OK;
}

static inline svc_rc
fake_stop(void *self, svc_call_t *call, const void *req, void *rep)
{
    const watch_req_t *stop = req;

    fake_note(self, FAKE_STOP, "%d: %llu%s", (int)stop->user,
              (unsigned long long)stop->conversation,
              stop->stream.n > 0 ? " this one" : "");
    *(status_rep_t *)rep = fake_status(self);
    return fake_serve(self, FAKE_STOP, call, req, rep);
}

static inline svc_rc
fake_active(void *self, svc_call_t *call, const void *req, void *rep)
{
    static active_answer_t answers[] = {
        {329629, {"0123456789abcdef", 16}, 2, ANSWER_STREAMING, 300, 1731851739999},
        {5, {"fedcba9876543210", 16}, 4, ANSWER_WAITING, 0, 1731851738000}};
    const active_req_t *active = req;

    fake_note(self, FAKE_ACTIVE, "%d", (int)active->user);
    ((active_rep_t *)rep)->answers = (proto_list_t){answers, 2};
    return fake_serve(self, FAKE_ACTIVE, call, req, rep);
}

/* --- llm-svc ------------------------------------------------------------------------------ */

static inline svc_rc
fake_replay(void *self, svc_call_t *call, const void *req, void *rep)
{
    const fakes_t *fakes = self;
    const replay_req_t *replay = req;

    fake_note(self, FAKE_REPLAY, "fence %d from %d", (int)replay->fence,
              (int)replay->from);
    *(replay_rep_t *)rep = (replay_rep_t){
        replay->from, fake_page(fakes, replay->from, fakes->released), fakes->released};
    svc_rc rc = fake_serve(self, FAKE_REPLAY, call, req, rep);
    return rc == RC_OK && replay->fence != FAKE_FENCE ? RC_NOT_FOUND : rc;
}

static inline svc_rc
fake_models(void *self, svc_call_t *call, const void *req, void *rep)
{
    static model_pattern_t patterns[] = {{{"echo", 4}}, {{"gpt*", 4}}};

    ((models_rep_t *)rep)->patterns = (proto_list_t){patterns, 2};
    return fake_serve(self, FAKE_MODELS, call, req, rep);
}

/* Publishes a frame of the answer. */
static inline void
fake_publish(fakes_t *self, uint64_t fence, uint64_t from, size_t n,
             proto_token_kind kind)
{
    svc_str topic = {(const char *)self->stream, PROTO_STREAM_BYTES};
    proto_token_t token = {PROTO_VERSION, topic, fence,
                           from,          kind,  {self->truth + from, n}};
    svc_buf_t frame;

    svc_buf_init(&frame, 1 << 20);
    assert_int_equal(svc_buf_add_str(&frame, topic), RC_OK);
    assert_int_equal(proto_token_encode(&token, &frame), RC_OK);
    assert_true(svc_msg_send_bytes(self->pub, svc_buf_str(&frame), 0));
    svc_buf_fini(&frame);
}

/* True when all ids that a reactor subscribes to in advance are: no frame is lost from here on. */
static inline bool
fake_is_subscribed(void *arg)
{
    fakes_t *self = arg;
    char topic[64];

    while (zmq_recv(self->pub, topic, sizeof topic, ZMQ_DONTWAIT) > 0)
        self->subscriptions += topic[0] == 1 ? 1 : 0;
    return self->subscriptions >= TOKEN_SUB_SPARE_IDS;
}

/* --- life --------------------------------------------------------------------------------- */

// clang-format off
static const svc_op_t fake_auth_ops[] = {
    {OP_AUTH_REGISTER, &register_req_schema, &register_rep_schema, fake_register, SVC_ANYONE, 20000},
    {OP_AUTH_LOGIN,    &login_req_schema,    &login_rep_schema,    fake_login,    SVC_ANYONE, 20000},
    {OP_AUTH_VERIFY,   &verify_req_schema,   &verify_rep_schema,   fake_verify,   SVC_ANYONE, 20000},
    {OP_AUTH_TICKET,   &ticket_req_schema,   &ticket_rep_schema,   fake_ticket,   SVC_ANYONE, 20000},
    {OP_AUTH_REDEEM,   &redeem_req_schema,   &redeem_rep_schema,   fake_redeem,   SVC_ANYONE, 20000},
    {0},
};
static const svc_op_t fake_convo_ops[] = {
    {OP_CONVO_CREATE,  &create_req_schema,       &create_rep_schema,  fake_create,  SVC_ANYONE, 20000},
    {OP_CONVO_LIST,    &list_req_schema,         &list_rep_schema,    fake_list,    SVC_ANYONE, 20000},
    {OP_CONVO_HISTORY, &history_req_schema,      &history_rep_schema, fake_history, SVC_ANYONE, 20000},
    {OP_CONVO_DELETE,  &conversation_req_schema, &empty_schema,       fake_delete,  SVC_ANYONE, 20000},
    {OP_CONVO_ASK,     &ask_req_schema,          &status_rep_schema,  fake_ask,     SVC_ANYONE, 20000},
    {OP_CONVO_WATCH,   &watch_req_schema,        &status_rep_schema,  fake_watch,   SVC_ANYONE, 20000},
    {OP_CONVO_READ,    &read_req_schema,         &read_rep_schema,    fake_read,    SVC_ANYONE, 20000},
    {OP_CONVO_TAIL,    &tail_req_schema,         &empty_schema,       fake_tail,    SVC_ANYONE, 20000},
    {OP_CONVO_RETRY,   &retry_req_schema,        &status_rep_schema,  fake_retry,   SVC_ANYONE, 20000},
    {OP_CONVO_STOP,    &watch_req_schema,        &status_rep_schema,  fake_stop,    SVC_ANYONE, 20000},
    {OP_CONVO_ACTIVE,  &active_req_schema,       &active_rep_schema,  fake_active,  SVC_ANYONE, 20000},
    {OP_CONVO_UNWATCH, &unwatch_req_schema,      &empty_schema,       fake_unwatch, SVC_ANYONE, 20000},
    {0},
};
static const svc_op_t fake_llm_ops[] = {
    {OP_LLM_REPLAY, &replay_req_schema, &replay_rep_schema, fake_replay, SVC_ANYONE, 20000},
    {OP_LLM_MODELS, &empty_schema,      &models_rep_schema, fake_models, SVC_ANYONE, 20000},
    {0},
};
// clang-format on

/* Takes a free port for a fake. Bound twice it may be, but while nobody listens there the kernel gives it to no other process:
 * a fake that is away must not be taken for one of a test that runs beside this one. */
static inline void
fakes_take_port(fakes_t *self, size_t i)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int again = 1;

    self->ports[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        setsockopt(self->ports[i], SOL_SOCKET, SO_REUSEADDR, &again, sizeof again), 0);
    assert_int_equal(bind(self->ports[i], (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(self->ports[i], (struct sockaddr *)&at, &n), 0);
    snprintf(self->endpoints[i], sizeof self->endpoints[i], "tcp://127.0.0.1:%u",
             ntohs(at.sin_port));
}

/* Starts a fake: the first time on any free port, later on that same one. */
static inline void
fakes_start(fakes_t *self, size_t i)
{
    static const char *const names[] = {"auth-svc", "convo-svc", "llm-svc"};
    static const svc_op_t *const ops[] = {fake_auth_ops, fake_convo_ops, fake_llm_ops};
    char *error = NULL;

    if (self->endpoints[i][0] == '\0')
        fakes_take_port(self, i);
    self->contexts[i] = self->bus.ctx;
    self->contexts[i].service = names[i];
    self->contexts[i].instance = svc_random_u64();
    for (int attempt = 0; attempt < 100 && self->servers[i] == NULL; attempt++) {
        if (svc_server_new(&self->contexts[i], self->endpoints[i], ops[i], self,
                           &self->servers[i], &error) == RC_OK)
            break;
        free(error);
        zmq_poll(NULL, 0, 20);
    }
    assert_non_null(self->servers[i]);
}

/* Opens loop, fakes and PUB, and writes their endpoints into the configuration. */
static inline void
fakes_open(fakes_t *self)
{
    static char empty[] = "";
    size_t n = sizeof self->tokens_at;

    fixture_open(&self->bus, "gateway");
    self->bus.ctx.config = &self->config;
    self->truth = svc_alloc(FAKE_TRUTH_BYTES);
    for (size_t i = 0; i < FAKE_TRUTH_BYTES; i++)
        self->truth[i] = (char)('a' + i % 23);
    self->status.state = ANSWER_WAITING;
    svc_buf_init(&self->tail, FAKE_TRUTH_BYTES);
    for (size_t i = 0; i < FAKE_SERVICES; i++)
        fakes_start(self, i);
    self->pub = svc_msg_socket(self->bus.ctx.zmq, ZMQ_XPUB, 100000);
    assert_int_equal(zmq_bind(self->pub, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(self->pub, ZMQ_LAST_ENDPOINT, self->tokens_at, &n),
                     0);
    self->config.bus_auth = (svc_endpoint_t){empty, self->endpoints[FAKE_AUTH]};
    self->config.bus_convo = (svc_endpoint_t){empty, self->endpoints[FAKE_CONVO]};
    self->config.bus_llm = (svc_endpoint_t){empty, self->endpoints[FAKE_LLM]};
    self->config.bus_tokens = (svc_endpoint_t){empty, self->tokens_at};
    self->config.bus_gateway_bind = empty;
}

/* Frees all of it; what was called through ctx must be closed by then. */
static inline void
fakes_close(fakes_t *self)
{
    for (size_t i = 0; i < FAKE_SERVICES; i++) {
        svc_server_destroy(&self->servers[i]);
        close(self->ports[i]);
    }
    zmq_close(self->pub);
    svc_buf_fini(&self->tail);
    free(self->truth);
    fixture_close(&self->bus);
}

/* The call that `op` has kept last; NULL: nobody waits for it any more. */
static inline svc_call_t *
fakes_kept(fakes_t *self, size_t service, fake_op op)
{
    return svc_server_call(self->servers[service], self->scripts[op].kept);
}

typedef struct {
    const fakes_t *fakes; /* whose */
    fake_op op;           /* operation */
    unsigned n;           /* times */
} fake_times_t;

static inline bool
fake_was_asked(void *arg)
{
    const fake_times_t *times = arg;

    return times->fakes->scripts[times->op].n >= times->n;
}

/* Runs until `op` was asked for `n` times in all. */
static inline void
fakes_await(fakes_t *self, fake_op op, unsigned n)
{
    fake_times_t times = {self, op, n};

    if (!fixture_runs_until(&self->bus, fake_was_asked, &times, FIXTURE_PATIENCE_MS))
        fail_msg("operation %d was asked %u times, not %u", (int)op, self->scripts[op].n,
                 n);
}

#endif
