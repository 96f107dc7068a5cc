/* llm_ops.c - one table of operations, their handlers, and the ties between the parts.
 *
 * Handlers only pass on: what happens to a generation is live.c's and generation.c's.
 * generate and attach keep their call: it is answered by journal pieces, the last of
 * which is FINAL. ack is sent without wanting an answer. */
#include "llm_ops.h"

#include "live.h"
#include "provider_echo.h"
#include "provider_set.h"
#include "relay.h"
#include "svc/svc_server.h"
#include "token_pub.h"

#include <stdlib.h>

/* Until the first piece: a model may think for long, and the caller's own deadline is shorter. */
#define JOURNAL_BUDGET_MS 900000

#define SETS_MAX 64 /* configurations whose providers still write; one more is refused */
#define SWEEP_MS 1000 /* how often those that are done are looked for */

#define STORE_MS 1000 /* of the drain time is left for the last acks */

struct llm {
    svc_ctx_t *ctx;                 /* borrowed */
    token_pub_t *pub;               /* owned */
    relay_t *relay;                 /* owned */
    provider_t *echo;               /* owned */
    provider_set_t *sets[SETS_MAX]; /* owned; the first one is for new answers */
    size_t n_sets;                  /* in use */
    uint64_t sweep_timer;           /* while there are others; 0: none */
    live_t *live;                   /* owned */
    svc_server_t *server;           /* owned */
};

static svc_handler_fn on_generate, on_attach, on_ack, on_stop, on_replay, on_models;

// clang-format off
static const svc_op_t llm_ops[] = {
    /* op             request schema         reply schema         handler      who may
     * budget_ms */
    {OP_LLM_GENERATE, &generate_req_schema,  &journal_rep_schema, on_generate, SVC_CONVO | SVC_TOOL,   JOURNAL_BUDGET_MS},
    {OP_LLM_ATTACH,   &attach_req_schema,    &journal_rep_schema, on_attach,   SVC_CONVO | SVC_TOOL,   JOURNAL_BUDGET_MS},
    {OP_LLM_ACK,      &ack_req_schema,       &empty_schema,       on_ack,      SVC_CONVO | SVC_TOOL,   1000},
    {OP_LLM_STOP,     &llm_stop_req_schema,  &empty_schema,       on_stop,     SVC_CONVO | SVC_TOOL,   1000},
    {OP_LLM_REPLAY,   &replay_req_schema,    &replay_rep_schema,  on_replay,   SVC_GATEWAY | SVC_TOOL, 1000},
    {OP_LLM_MODELS,   &empty_schema,         &models_rep_schema,  on_models,   SVC_GATEWAY | SVC_TOOL, 1000},
    {0},
};
// clang-format on

/* --- handlers ---------------------------------------------------------------------- */

static void
on_call_gone(void *arg, uint64_t call_id)
{
    llm_t *self = arg;

    live_call_gone(self->live, call_id);
}

static svc_rc
on_generate(void *arg, svc_call_t *call, const void *req, void *rep)
{
    llm_t *self = arg;
    svc_fault_at(self->ctx->fault, FAULT_GENERATE_RECEIVED);
    svc_rc rc = live_generate(self->live, req, svc_call_trace(call), svc_call_id(call));
    (void)rep;

    if (rc == RC_LATER)
        svc_call_on_cancel(call, on_call_gone, self);
    return rc;
}

static svc_rc
on_attach(void *arg, svc_call_t *call, const void *req, void *rep)
{
    llm_t *self = arg;
    svc_rc rc = live_attach(self->live, req, svc_call_id(call));
    (void)rep;

    if (rc == RC_LATER)
        svc_call_on_cancel(call, on_call_gone, self);
    return rc;
}

static svc_rc
on_ack(void *arg, svc_call_t *call, const void *req, void *rep)
{
    llm_t *self = arg;
    (void)call;
    (void)rep;

    svc_rc rc = live_ack(self->live, req);
    if (((const ack_req_t *)req)->journaled > 0)
        svc_fault_at(self->ctx->fault, FAULT_GENERATE_AFTER_ACK);
    return rc;
}

static svc_rc
on_stop(void *arg, svc_call_t *call, const void *req, void *rep)
{
    llm_t *self = arg;
    (void)call;
    (void)rep;

    return live_stop(self->live, req);
}

static svc_rc
on_replay(void *arg, svc_call_t *call, const void *req, void *rep)
{
    llm_t *self = arg;
    replay_rep_t *out = rep;
    (void)call;

    svc_rc rc = live_replay(self->live, req, out);
    if (rc == RC_OK)
        svc_metrics_add(self->ctx->metrics, SVC_M_REPLAYED_BYTES, out->bytes.n);
    return rc;
}

static svc_rc
on_models(void *arg, svc_call_t *call, const void *req, void *rep)
{
    llm_t *self = arg;
    models_rep_t *out = rep;
    (void)call;
    (void)req;

    out->patterns = model_router_patterns(provider_set_router(self->sets[0]));
    return RC_OK;
}

/* --- what live generations send ---------------------------------------------------- */

static svc_rc
reply(void *arg, uint64_t call_id, const journal_rep_t *piece, bool final)
{
    llm_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, call_id);

    if (call == NULL)
        return RC_UNAVAILABLE;
    return final ? svc_call_try_finish(call, piece) : svc_call_partial(call, piece, 0);
}

static void
release(void *arg, uint64_t call_id, svc_rc rc)
{
    llm_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, call_id);

    if (call == NULL)
        return;
    if (rc == RC_OK)
        svc_call_drop(call);
    else
        svc_call_finish(call, rc, NULL);
}

static void
publish(void *arg, const proto_token_t *token)
{
    llm_t *self = arg;

    token_pub_send(self->pub, token);
}

static void
on_drained(void *arg)
{
    llm_t *self = arg;

    svc_loop_stop(self->ctx->loop);
}

static const live_out_t live_out = {
    .reply = reply, .release = release, .publish = publish, .drained = on_drained};

/* --- life -------------------------------------------------------------------------- */

/* Frees the sets that are not for new answers and have no old ones either; the rest stays in order. */
static void
sweep_sets(llm_t *self)
{
    size_t kept = 1;

    for (size_t i = 1; i < self->n_sets; i++)
        if (provider_set_is_idle(self->sets[i]))
            provider_set_destroy(&self->sets[i]);
        else
            self->sets[kept++] = self->sets[i];
    self->n_sets = kept;
}

static void
on_sweep(void *arg, short events)
{
    llm_t *self = arg;

    (void)events;
    self->sweep_timer = 0;
    sweep_sets(self);
    if (self->n_sets > 1)
        self->sweep_timer = svc_loop_after(self->ctx->loop, SWEEP_MS, on_sweep, self);
}

/* A set for new answers; the one before it is kept as long as it has any. */
static bool
add_set(llm_t *self, const svc_config_t *config, char **error)
{
    provider_set_t *set;

    if (self->n_sets == SETS_MAX) {
        *error = svc_str_dup(
            SVC_LIT("answers are still being written under too many older ones"));
        return false;
    }
    set = provider_set_new(self->relay, config, self->echo, self->ctx->metrics, error);
    if (set == NULL)
        return false;
    memmove(self->sets + 1, self->sets, self->n_sets * sizeof(*self->sets));
    self->sets[0] = set;
    self->n_sets++;
    return true;
}

bool
llm_reload(llm_t *self, const svc_config_t *fresh, char **error)
{
    sweep_sets(self);
    if (!add_set(self, fresh, error))
        return false;
    live_set(self->live, provider_set_router(self->sets[0]), fresh->llm_max_answer_bytes);
    svc_loop_cancel(self->ctx->loop, self->sweep_timer);
    on_sweep(self, 0);
    return true;
}

llm_t *
llm_new(svc_ctx_t *ctx, char **error)
{
    llm_t *self = svc_alloc(sizeof(*self));

    *error = NULL;
    self->ctx = ctx;
    self->relay = relay_new(ctx, relay_usual_pauses_ms);
    self->echo = provider_echo_new(ctx->loop, PROVIDER_ECHO_STEP_MS);
    self->pub = token_pub_new(ctx, error);
    if (self->pub == NULL || !add_set(self, ctx->config, error))
        goto fail;
    self->live = live_new(ctx, provider_set_router(self->sets[0]), &live_out, self);
    if (svc_server_new(ctx, ctx->config->bus_llm.bind, llm_ops, self, &self->server,
                       error) != RC_OK)
        goto fail;
    return self;
fail:
    llm_destroy(&self);
    return NULL;
}

const char *
llm_bus_endpoint(const llm_t *self)
{
    return svc_server_endpoint(self->server);
}

const char *
llm_tokens_endpoint(const llm_t *self)
{
    return token_pub_endpoint(self->pub);
}

void
llm_announce(llm_t *self)
{
    svc_server_set_draining(self->server);
}

void
llm_drain(llm_t *self, uint64_t left_ms)
{
    svc_server_set_draining(self->server);
    live_drain(self->live, left_ms > STORE_MS ? left_ms - STORE_MS : 0);
}

void
llm_destroy(llm_t **self_p)
{
    llm_t *self = *self_p;

    if (self == NULL)
        return;
    svc_server_destroy(
        &self->server);        /* cancels the kept calls: live still hears of it */
    live_destroy(&self->live); /* cancels the providers' jobs */
    svc_loop_cancel(self->ctx->loop, self->sweep_timer);
    for (size_t i = 0; i < self->n_sets; i++)
        provider_set_destroy(&self->sets[i]);
    if (self->echo != NULL)
        self->echo->destroy(&self->echo);
    relay_destroy(&self->relay);
    token_pub_destroy(&self->pub);
    free(self);
    *self_p = NULL;
}
