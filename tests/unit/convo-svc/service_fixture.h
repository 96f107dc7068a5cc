/* service_fixture.h - the whole service between a gateway and an llm-svc that the test plays.
 *
 * All three share one loop and one thread; what they say goes over real sockets on free ports. */
#ifndef TESTS_UNIT_CONVO_SVC_SERVICE_FIXTURE_H
#define TESTS_UNIT_CONVO_SVC_SERVICE_FIXTURE_H

#include "convo_fixture.h"

#include "convo-svc/answer_private.h"
#include "convo-svc/convo.h"

#define SEEN_MAX 64

/* One reply that the gateway got. */
typedef struct {
    proto_kind kind;
    svc_rc rc;
    status_rep_t status; /* views are void but for reason and finish below */
    char reason[80], finish[80];
    char *json; /* of list and history, of text: owned, NUL-terminated */
    size_t json_n;
    uint64_t a,
        b; /* conversation and created_s; next; next_message and next_offset; from and length */
    bool more;
    char error[200];
} seen_t;

/* One call of the gateway. */
typedef struct {
    const proto_schema_t *schema; /* of replies */
    seen_t seen[SEEN_MAX];
    size_t n;
    size_t wanted; /* to wait for */
} outcome_t;

/* What llm-svc was asked. */
typedef struct {
    svc_server_t *server;
    svc_ctx_t ctx;
    int port;
    uint64_t call; /* the open one */
    size_t generates, attaches, acks, stops;
    uint64_t fence, from;
    char key[64], model[64], last[4096];
    char trace[PROTO_TRACE_BYTES]; /* of the last generate, attach or ack */
    size_t messages;
    uint64_t journaled;
    bool stored;
    svc_rc answer; /* RC_LATER, or what it refuses with */
} fake_llm_t;

typedef struct {
    fixture_t fixture; /* first; its ctx is convo-svc's */
    folder_t folder;
    svc_config_t *config;
    convo_t *convo;
    int port;
    svc_ctx_t gateway_ctx;
    svc_peers_t *gateway;
    fake_llm_t llm;
} service_t;

/* --- llm-svc ---------------------------------------------------------------------------------- */

static inline void
service_llm_gone(void *arg, uint64_t call_id)
{
    fake_llm_t *self = arg;

    if (self->call == call_id)
        self->call = 0;
}

static inline svc_rc
service_on_generate(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    fake_llm_t *self = arg;
    const generate_req_t *req = arg_req;
    const prompt_message_t *messages = req->messages.items;
    svc_str last = messages[req->messages.n - 1].text;

    (void)rep;
    self->generates++;
    self->fence = req->fence;
    self->messages = req->messages.n;
    snprintf(self->key, sizeof(self->key), "%.*s", (int)req->key.n,
             req->key.n == 0 ? "" : req->key.p);
    snprintf(self->model, sizeof(self->model), "%.*s", (int)req->model.n, req->model.p);
    snprintf(self->last, sizeof(self->last), "%.*s", (int)last.n, last.p);
    memcpy(self->trace, svc_call_trace(call).p, sizeof(self->trace));
    self->call = svc_call_id(call);
    svc_call_on_cancel(call, service_llm_gone, self);
    return self->answer;
}

static inline svc_rc
service_on_attach(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    fake_llm_t *self = arg;
    const attach_req_t *req = arg_req;

    (void)rep;
    self->attaches++;
    self->fence = req->fence;
    self->from = req->from;
    memcpy(self->trace, svc_call_trace(call).p, sizeof(self->trace));
    self->call = svc_call_id(call);
    svc_call_on_cancel(call, service_llm_gone, self);
    return self->answer;
}

static inline svc_rc
service_on_ack(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    fake_llm_t *self = arg;
    const ack_req_t *req = arg_req;

    (void)rep;
    memcpy(self->trace, svc_call_trace(call).p, sizeof(self->trace));
    self->acks++;
    self->journaled = req->journaled;
    self->stored = req->stored;
    return RC_OK;
}

static inline svc_rc
service_on_llm_stop(void *arg, svc_call_t *call, const void *req, void *rep)
{
    (void)call;
    (void)req;
    (void)rep;
    ((fake_llm_t *)arg)->stops++;
    return RC_OK;
}

static const svc_op_t service_llm_ops[] = {
    {OP_LLM_GENERATE, &generate_req_schema, &journal_rep_schema, service_on_generate,
     SVC_CONVO, 60000},
    {OP_LLM_ATTACH, &attach_req_schema, &journal_rep_schema, service_on_attach, SVC_CONVO,
     60000},
    {OP_LLM_ACK, &ack_req_schema, &empty_schema, service_on_ack, SVC_CONVO, 1000},
    {OP_LLM_STOP, &llm_stop_req_schema, &empty_schema, service_on_llm_stop, SVC_CONVO,
     1000},
    {0},
};

/* Starts llm-svc as `instance`, on its port. */
static inline void
service_start_llm(service_t *self, uint64_t instance)
{
    char endpoint[64];
    char *error = NULL;

    self->llm.ctx = self->fixture.ctx;
    self->llm.ctx.service = "llm-svc";
    self->llm.ctx.instance = instance;
    self->llm.call = 0;
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", self->llm.port);
    for (int i = 0; i < 200 && self->llm.server == NULL; i++) {
        free(error); /* the old socket may still be closing */
        error = NULL;
        (void)!svc_server_new(&self->llm.ctx, endpoint, service_llm_ops, &self->llm,
                              &self->llm.server, &error);
        if (self->llm.server == NULL)
            fixture_run_for(&self->fixture, 10);
    }
    free(error);
    assert_non_null(self->llm.server);
}

static inline void
service_stop_llm(service_t *self)
{
    svc_server_destroy(&self->llm.server);
}

static inline void
service_llm_piece(service_t *self, uint64_t from, const char *text)
{
    journal_rep_t rep = {.from = from, .bytes = svc_str_c(text)};
    svc_call_t *call = svc_server_call(self->llm.server, self->llm.call);

    assert_non_null(call);
    assert_int_equal(svc_call_partial(call, &rep, 0), RC_OK);
}

static inline void
service_llm_final(service_t *self, uint64_t from, const char *text, const char *finish)
{
    journal_rep_t rep = {.from = from,
                         .bytes = svc_str_c(text),
                         .finish = svc_str_c(finish),
                         .usage = {1, 2, 3}};
    svc_call_t *call = svc_server_call(self->llm.server, self->llm.call);

    assert_non_null(call);
    svc_call_finish(call, RC_OK, &rep);
}

/* --- gateway ---------------------------------------------------------------------------------- */

static inline void
service_note(seen_t *seen, const proto_schema_t *schema, const void *rep)
{
    svc_str json = {NULL, 0};

    if (schema == &status_rep_schema) {
        const status_rep_t *status = rep;

        seen->status = *status;
        snprintf(seen->reason, sizeof(seen->reason), "%.*s", (int)status->reason.n,
                 status->reason.n == 0 ? "" : status->reason.p);
        snprintf(seen->finish, sizeof(seen->finish), "%.*s", (int)status->finish.n,
                 status->finish.n == 0 ? "" : status->finish.p);
    } else if (schema == &create_rep_schema) {
        seen->a = ((const create_rep_t *)rep)->conversation;
        seen->b = ((const create_rep_t *)rep)->created_s;
    } else if (schema == &list_rep_schema) {
        json = ((const list_rep_t *)rep)->json;
        seen->a = ((const list_rep_t *)rep)->next;
    } else if (schema == &history_rep_schema) {
        json = ((const history_rep_t *)rep)->json;
        seen->a = ((const history_rep_t *)rep)->next_message;
        seen->b = ((const history_rep_t *)rep)->next_offset;
        seen->more = ((const history_rep_t *)rep)->more;
    } else if (schema == &read_rep_schema) {
        json = ((const read_rep_t *)rep)->bytes;
        seen->a = ((const read_rep_t *)rep)->from;
        seen->b = ((const read_rep_t *)rep)->length;
    }
    seen->json = svc_str_dup(json);
    seen->json_n = json.n;
}

static inline void
service_on_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                 const error_rep_t *error)
{
    outcome_t *out = arg;
    seen_t *seen = &out->seen[out->n];

    assert_true(out->n < SEEN_MAX);
    out->n++;
    seen->kind = kind;
    seen->rc = rc;
    if (rc == RC_OK)
        service_note(seen, out->schema, rep);
    else
        snprintf(seen->error, sizeof(seen->error), "%.*s", (int)error->text.n,
                 error->text.n == 0 ? "" : error->text.p);
}

static inline void
outcome_clear(outcome_t *self)
{
    for (size_t i = 0; i < self->n; i++)
        free(self->seen[i].json);
    memset(self, 0, sizeof(*self));
}

static inline bool
outcome_is_there(void *arg)
{
    const outcome_t *self = arg;

    return self->n >= self->wanted;
}

/* Sends a request; replies go to `out`, which must live until the last. */
static inline void
service_send(service_t *self, const char *op, const proto_schema_t *req_schema,
             const void *req, const proto_schema_t *rep_schema, outcome_t *out)
{
    svc_peer_request_t request = {
        .op = op,
        .req_schema = req_schema,
        .req = req,
        .rep_schema = rep_schema,
        .timeout_ms = 10000,
        .on_reply = service_on_reply,
        .arg = out,
    };

    outcome_clear(out);
    out->schema = rep_schema;
    assert_int_equal(svc_peers_call(self->gateway, &request, NULL), RC_OK);
}

/* Waits for the n-th reply and gives it. */
static inline const seen_t *
service_wait(service_t *self, outcome_t *out, size_t n)
{
    out->wanted = n;
    fixture_run_until(&self->fixture, outcome_is_there, out);
    return &out->seen[n - 1];
}

/* Sends a request and waits for its one reply. */
static inline const seen_t *
service_call(service_t *self, const char *op, const proto_schema_t *req_schema,
             const void *req, const proto_schema_t *rep_schema, outcome_t *out)
{
    service_send(self, op, req_schema, req, rep_schema, out);
    return service_wait(self, out, 1);
}

/* Whoever waits for the end of an answer is told nothing before it, however long this machine stands still. */
static inline void
service_give_time(answer_t *answer)
{
    for (size_t i = 0; i < answer->n_watchers; i++)
        if (answer->watchers[i].until_ms != 0)
            answer->watchers[i].until_ms = UINT64_MAX;
}

/* --- life ------------------------------------------------------------------------------------- */

static inline bool
service_gateway_is_up(void *arg)
{
    return svc_peers_is_up(((service_t *)arg)->gateway);
}

static inline bool
service_llm_is_up(void *arg)
{
    const service_t *self = arg;

    return svc_peers_is_up(self->convo->llm);
}

/* Connects the caller, as `service`. */
static inline void
service_connect(service_t *self, const char *service)
{
    char endpoint[64];
    char *error = NULL;

    self->gateway_ctx = self->fixture.ctx;
    self->gateway_ctx.service = service;
    self->gateway_ctx.instance = 99;
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", self->port);
    self->gateway = svc_peers_new(&self->gateway_ctx, "convo-svc", endpoint, NULL, NULL,
                                  &error);
    assert_non_null(self->gateway);
    fixture_run_until(&self->fixture, service_gateway_is_up, self);
}

/* Starts convo-svc; a caller that is there already finds it again. */
static inline void
service_start_convo(service_t *self)
{
    char *error = NULL;

    self->convo = convo_new(&self->fixture.ctx, &error);
    for (int i = 0; i < 200 && self->convo == NULL && strstr(error, "cannot listen");
         i++) {
        free(error); /* the old socket may still be closing */
        fixture_run_for(&self->fixture, 10);
        self->convo = convo_new(&self->fixture.ctx, &error);
    }
    if (self->convo == NULL)
        print_error("%s\n", error);
    assert_non_null(self->convo);
    if (self->gateway != NULL)
        fixture_run_until(&self->fixture, service_gateway_is_up, self);
    if (self->llm.server != NULL)
        fixture_run_until(&self->fixture, service_llm_is_up, self);
}

static inline bool
service_gateway_is_down(void *arg)
{
    return !service_gateway_is_up(arg);
}

/* Ends convo-svc and waits until its caller has noticed. */
static inline void
service_stop_convo(service_t *self)
{
    convo_destroy(&self->convo);
    fixture_run_until(&self->fixture, service_gateway_is_down, self);
}

/* `more`: lines of YAML besides addresses and paths. */
static inline void
service_open(service_t *self, const char *more, bool with_llm)
{
    char yaml[1000];
    char *error = NULL;

    memset(self, 0, sizeof(*self));
    fixture_open(&self->fixture, "convo-svc");
    folder_open(&self->folder);
    self->port = fixture_free_port();
    self->llm.port = fixture_free_port();
    self->llm.answer = RC_LATER;
    snprintf(yaml, sizeof(yaml),
             "sqlite: {path: \"%s\"}\n"
             "bus:\n"
             "  convo: {bind: \"tcp://127.0.0.1:%d\", connect: \"tcp://127.0.0.1:%d\"}\n"
             "  llm: {bind: \"tcp://127.0.0.1:%d\", connect: \"tcp://127.0.0.1:%d\"}\n%s",
             self->folder.db, self->port, self->port, self->llm.port, self->llm.port,
             more);
    self->config = svc_config_parse(svc_str_c(yaml), "test", false, &error);
    if (self->config == NULL)
        print_error("%s\n", error);
    assert_non_null(self->config);
    self->fixture.ctx.config = self->config;
    if (with_llm)
        service_start_llm(self, 500);
    service_start_convo(self);
    service_connect(self, "gateway");
}

static inline void
service_close(service_t *self)
{
    svc_peers_destroy(&self->gateway);
    convo_destroy(&self->convo);
    svc_server_destroy(&self->llm.server);
    svc_config_destroy(&self->config);
    folder_close(&self->folder);
    fixture_close(&self->fixture);
}

#endif
