/* auth_ops.c - the operations of auth-svc, in table order, and the object that they work on.
 *
 * A kept call is named by its id wherever a job goes; when the job is back and the call is gone,
 * the result is dropped, but a failed login still counts. Why a name, a password or a token was
 * refused is told by the result alone: texts for people are the gateway's. */
#include "auth_ops.h"
#include "auth_jobs.h"
#include "password.h"
#include "throttle_shared.h"
#include "ticket.h"
#include "token.h"

#include "proto/utf8.h"
#include "svc/svc_cores.h"
#include "svc/svc_pg.h"
#include "svc/svc_secret.h"
#include "svc/svc_time.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define THROTTLED_TEXT "too many wrong passwords"

#define USERNAME_MAX_CHARS   64
#define SLOW_BUDGET_MS       10000 /* a full queue at the default cost takes 7 s on two cores */
#define VERIFY_BUDGET_MS     2000
#define BCRYPT_PATIENCE_MS   300 /* six times what a hash of the cost below takes */
#define BCRYPT_PATIENCE_COST 10
#define DRAIN_LOOK_MS        50
#define NEED_LOOK_MS         2000 /* whether the database answers */
#define DRAIN_QUIET_LOOKS \
    6 /* so many times in a row nobody waits: the gateway has had its answers */

struct auth {
    svc_ctx_t *ctx;                     /* borrowed */
    auth_shared_t shared;               /* for the workers; owns its store */
    svc_server_t *server;               /* owned */
    svc_pool_t *bcrypt;                 /* owned: looks up and hashes */
    svc_pool_t *writer;                 /* owned: adds users */
    token_signer_t *tokens;             /* owned */
    ticket_signer_t *tickets;           /* owned */
    throttle_t *throttle;               /* owned */
    throttle_shared_t *shared_throttle; /* owned; NULL: no Redis is configured */
    uint64_t drain_timer;               /* 0: not draining */
    uint64_t look_timer;  /* looks at the database; 0: that is a file of ours */
    bool is_looking;      /* and waits for its answer */
    svc_need_t database;  /* a PostgreSQL; added while look_timer is set */
    unsigned quiet_looks; /* while draining: how often in a row nobody waited */
    char ticket[TICKET_TEXT_BYTES + 1]; /* of the reply that is being encoded */
};

static svc_handler_fn on_register, on_login, on_verify, on_ticket, on_redeem;

// clang-format off
const svc_op_t auth_ops[] = {
    /* op               request schema        reply schema          handler      who may                  budget_ms */
    {OP_AUTH_REGISTER, &register_req_schema, &register_rep_schema, on_register, SVC_GATEWAY | SVC_TOOL, SLOW_BUDGET_MS},
    {OP_AUTH_LOGIN,    &login_req_schema,    &login_rep_schema,    on_login,    SVC_GATEWAY | SVC_TOOL, SLOW_BUDGET_MS},
    {OP_AUTH_VERIFY,   &verify_req_schema,   &verify_rep_schema,   on_verify,   SVC_GATEWAY | SVC_TOOL, VERIFY_BUDGET_MS},
    {OP_AUTH_TICKET,   &ticket_req_schema,   &ticket_rep_schema,   on_ticket,   SVC_GATEWAY | SVC_TOOL, VERIFY_BUDGET_MS},
    {OP_AUTH_REDEEM,   &redeem_req_schema,   &redeem_rep_schema,   on_redeem,   SVC_GATEWAY | SVC_TOOL, VERIFY_BUDGET_MS},
    {0},
};
// clang-format on

/* Hands a name and a password to the bcrypt pool. */
static svc_rc
submit_check(auth_t *self, svc_call_t *call, auth_job kind, const auth_check_t *request,
             svc_pool_done_fn *done)
{
    auth_check_t job = *request;
    svc_buf_t payload;
    svc_rc rc;

    job.expires_ms = svc_call_expires_ms(call);
    svc_buf_init(&payload, PROTO_USERNAME_MAX_BYTES + PROTO_PASSWORD_MAX_BYTES + 256);
    rc = proto_encode(&auth_check_schema, &job, &payload);
    if (rc == RC_OK)
        rc = svc_pool_submit(self->bcrypt, kind, svc_buf_str(&payload), done, self,
                             svc_call_id(call));
    if (payload.cap > 0)
        sodium_memzero(payload.p, payload.cap);
    svc_buf_fini(&payload);
    return rc;
}

/* --- auth.register ----------------------------------------------------------------------- */

/* 1..64 characters of valid UTF-8, none of them a control character (C0, DEL, C1). */
static bool
is_username(svc_str name)
{
    return name.n > 0 && svc_utf8_valid(name.p, name.n) == name.n &&
           svc_utf8_count(name.p, name.n) <= USERNAME_MAX_CHARS &&
           !svc_utf8_has_control(name.p, name.n);
}

/* The writer waits for the database: whoever came now would only wait, too. */
static bool
is_store_away(const auth_t *self)
{
    const user_store_driver_t *driver = self->shared.driver;

    return driver->is_away != NULL && driver->is_away(self->shared.store);
}

/* At least the configured minimum, and nothing that bcrypt would cut off. */
static bool
is_password(const auth_t *self, svc_str password)
{
    return password.n >= self->ctx->config->auth_password_min &&
           password.n <= PASSWORD_MAX_BYTES &&
           memchr(password.p, '\0', password.n) == NULL;
}

static void
on_added(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    auth_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);

    if (call == NULL)
        return;
    if (rc == RC_OK)
        svc_call_finish_encoded(call, result);
    else
        svc_call_finish(call, rc, NULL);
}

static void
on_hashed(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    auth_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);

    if (call == NULL) /* nobody waits: then nobody is to find the name taken either */
        return;
    if (rc == RC_OK)
        rc = svc_pool_submit(self->writer, AUTH_JOB_ADD, result, on_added, self, tag);
    if (rc != RC_OK)
        svc_call_finish(call, rc, NULL);
}

static svc_rc
on_register(void *arg, svc_call_t *call, const void *request, void *reply)
{
    auth_t *self = arg;
    const register_req_t *req = request;
    svc_rc rc;

    (void)reply;
    if (!is_username(req->username))
        return RC_INVALID_USERNAME;
    if (!is_password(self, req->password))
        return RC_INVALID_PASSWORD;
    /* From us, that is: one that has just thawed refuses faster than others serve, and would be sent all there is. */
    if (is_store_away(self))
        return RC_MOVED;
    rc = submit_check(self, call, AUTH_JOB_HASH,
                      &(auth_check_t){.username = req->username,
                                      .password = req->password,
                                      .key = req->key},
                      on_hashed);
    return rc == RC_OK ? RC_LATER : rc;
}

/* --- auth.login -------------------------------------------------------------------------- */

/* Answers a login whose password was right. */
static void
finish_login(auth_t *self, svc_call_t *call, uint64_t user)
{
    login_rep_t rep = {.expires_s = 0};
    char *token = NULL;
    svc_rc rc = token_make(self->tokens, user, svc_unix_ms() / 1000, &token,
                           &rep.expires_s);

    rep.token = svc_str_c(token);
    svc_call_finish(call, rc, &rep);
    if (token != NULL)
        sodium_memzero(token, rep.token.n);
    free(token);
}

/* Answers a kept login (NULL: nobody waits) that came among too many wrong ones. */
static void
refuse_throttled(svc_call_t *call, uint64_t wait_s)
{
    if (call == NULL)
        return;
    svc_call_explain(call, THROTTLED_TEXT, wait_s);
    svc_call_finish(call, RC_THROTTLED, NULL);
}

/* An attempt has been counted, or came among too many (RC_THROTTLED): its asker, if any still waits, is told. */
static void
conclude(auth_t *self, const throttle_attempt_t *attempt, svc_rc counted, uint64_t wait_s)
{
    svc_call_t *call = svc_server_call(self->server, attempt->call);
    const bool right = attempt->user != 0;

    if (counted == RC_THROTTLED) {
        svc_metrics_add(self->ctx->metrics, SVC_M_LOGINS_THROTTLED, 1);
        refuse_throttled(call, wait_s);
        return;
    }
    svc_metrics_add(self->ctx->metrics, right ? SVC_M_LOGINS : SVC_M_LOGINS_REFUSED, 1);
    if (call == NULL)
        return;
    if (right)
        finish_login(self, call, attempt->user);
    else
        svc_call_finish(call, RC_BAD_CREDENTIALS, NULL);
}

/* Redis has counted an attempt, or nobody but us can. */
static void
on_counted(void *arg, const throttle_attempt_t *attempt, throttle_shared_verdict verdict,
           const throttle_state_t *state)
{
    auth_t *self = arg;
    uint64_t wait_s = (state->rest_ms + 999) / 1000;
    svc_rc counted = verdict == THROTTLE_SHARED_THROTTLED ? RC_THROTTLED : RC_OK;

    if (verdict == THROTTLE_SHARED_NONE)
        counted = throttle_end(self->throttle, attempt->key,
                               attempt->user != 0 ? THROTTLE_RIGHT : THROTTLE_WRONG,
                               svc_mono_ms(), &wait_s);
    else
        throttle_settle(self->throttle, attempt->key, state, svc_mono_ms());
    conclude(self, attempt, counted, wait_s);
}

static void
on_checked(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    auth_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);
    proto_arena_t *arena = proto_arena_new();
    auth_verdict_t verdict = {.user = 0};
    throttle_attempt_t attempt;
    throttle_state_t known;
    uint64_t wait_s = 0;

    SVC_ASSERT(proto_decode(&auth_verdict_schema, result, arena, &verdict) == RC_OK);
    proto_arena_destroy(&arena);
    if (rc != RC_OK) {
        (void)throttle_end(self->throttle, verdict.attempt, THROTTLE_UNDECIDED,
                           svc_mono_ms(), &wait_s);
        if (call != NULL)
            svc_call_finish(call, rc, NULL);
        return;
    }
    attempt = (throttle_attempt_t){verdict.attempt, verdict.user, tag};
    known = throttle_look(self->throttle, verdict.attempt, svc_mono_ms());
    if (self->shared_throttle != NULL)
        throttle_shared_end(self->shared_throttle, &attempt, &known);
    else
        on_counted(self, &attempt, THROTTLE_SHARED_NONE, &known);
}

static svc_rc
on_login(void *arg, svc_call_t *call, const void *request, void *reply)
{
    auth_t *self = arg;
    const login_req_t *req = request;
    auth_check_t check = {.username = req->username, .password = req->password};
    uint64_t wait_s = 0;
    svc_rc rc = throttle_begin(self->throttle, req->username, req->address, svc_mono_ms(),
                               &check.attempt, &wait_s);

    (void)reply;
    if (rc != RC_OK) {
        svc_metrics_add(self->ctx->metrics, SVC_M_LOGINS_THROTTLED, 1);
        svc_call_explain(call, THROTTLED_TEXT, wait_s);
        return rc;
    }
    rc = submit_check(self, call, AUTH_JOB_CHECK, &check, on_checked);
    if (rc == RC_OK)
        return RC_LATER;
    (void)throttle_end(self->throttle, check.attempt, THROTTLE_UNDECIDED, svc_mono_ms(),
                       &wait_s);
    return rc;
}

/* --- auth.verify ------------------------------------------------------------------------- */

static svc_rc
on_verify(void *arg, svc_call_t *call, const void *request, void *reply)
{
    auth_t *self = arg;
    const verify_req_t *req = request;
    verify_rep_t *rep = reply;

    (void)call;
    return token_check(self->tokens, req->token, svc_unix_ms() / 1000, &rep->user,
                       &rep->expires_s);
}

/* --- auth.ticket, auth.redeem ------------------------------------------------------------ */

static svc_rc
on_ticket(void *arg, svc_call_t *call, const void *request, void *reply)
{
    auth_t *self = arg;
    const ticket_req_t *req = request;
    ticket_rep_t *rep = reply;
    const uint64_t now_s = svc_unix_ms() / 1000;
    const uint64_t usual_s = self->ctx->config->auth_ticket_s;

    (void)call;
    if (req->expires_s <= now_s)
        return RC_UNAUTHORIZED;
    rep->expires_in_s = req->expires_s - now_s < usual_s ? req->expires_s - now_s
                                                         : usual_s;
    ticket_make(self->tickets,
                &(ticket_t){.user = req->user,
                            .conversation = req->conversation,
                            .open_until_s = now_s + rep->expires_in_s,
                            .expires_s = req->expires_s},
                self->ticket);
    rep->ticket = svc_str_c(self->ticket);
    svc_metrics_add(self->ctx->metrics, SVC_M_TICKETS, 1);
    return RC_OK;
}

static svc_rc
on_redeem(void *arg, svc_call_t *call, const void *request, void *reply)
{
    auth_t *self = arg;
    const redeem_req_t *req = request;
    redeem_rep_t *rep = reply;
    ticket_t ticket;
    svc_rc rc = ticket_check(self->tickets, req->ticket, svc_unix_ms() / 1000, &ticket);

    (void)call;
    if (rc != RC_OK)
        return rc;
    *rep = (redeem_rep_t){.user = ticket.user,
                          .conversation = ticket.conversation,
                          .open_until_s = ticket.open_until_s,
                          .expires_s = ticket.expires_s};
    return RC_OK;
}

/* --- life -------------------------------------------------------------------------------- */

/* Everything that comes from the secret of the tokens: replicas that share it take one another's tokens and tickets, and
 * number users and addresses alike where they count failures together. */
static bool
open_signers_with(auth_t *self, const void *secret, size_t n)
{
    static const char label[] = "llmb: key of failed logins, 1";
    const svc_config_t *config = self->ctx->config;
    unsigned char key[crypto_auth_hmacsha256_BYTES];
    crypto_auth_hmacsha256_state state;

    crypto_auth_hmacsha256_init(&state, secret, n);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)label, strlen(label));
    crypto_auth_hmacsha256_final(&state, key);
    self->throttle = throttle_new(config->auth_guess_limit, config->auth_guess_window_s,
                                  key);
    sodium_memzero(key, sizeof(key));
    sodium_memzero(&state, sizeof(state));
    self->tokens = token_signer_new(secret, n, config->jwt_ttl_s);
    self->tickets = ticket_signer_new(secret, n);
    return true;
}

/* With a database for many, a secret of each replica's own would make the others' tokens worthless. */
bool
auth_check_config(const svc_config_t *config, char **error)
{
    if (config->storage_driver == SVC_STORAGE_SQLITE)
        return true;
    if (config->jwt_secret[0] != '\0')
        return svc_pg_check_url(config->storage_postgresql_url, error);
    *error = svc_str_dup(SVC_LIT("jwt.secret must be configured with storage.driver: "
                                 "postgresql, the same for every auth-svc"));
    return false;
}

/* Makes the signers from jwt.secret, or from the secret beside the database. */
static bool
open_signers(auth_t *self, char **error)
{
    const svc_config_t *config = self->ctx->config;
    uint8_t secret[SVC_SECRET_BYTES];
    bool good = false;
    char *path;

    if (config->jwt_secret[0] != '\0')
        return open_signers_with(self, config->jwt_secret, strlen(config->jwt_secret));
    path = svc_secret_path_beside(config->sqlite_path, TOKEN_SECRET_FILE);
    if (svc_secret_load_or_make(path, secret, error) == RC_OK)
        good = open_signers_with(self, secret, sizeof(secret));
    sodium_memzero(secret, sizeof(secret));
    free(path);
    return good;
}

static svc_pool_t *
open_pool(auth_t *self, svc_pool_config_t config, char **error)
{
    return svc_pool_new(self->ctx, &config, &self->shared, error);
}

/* Hashing takes every core for as long as a storm of logins lasts: it runs in the background. */
static svc_pool_t *
open_bcrypt_pool(auth_t *self, size_t threads, char **error)
{
    const svc_config_t *config = self->ctx->config;
    svc_pool_config_t pool = auth_bcrypt_pool(threads, config->auth_bcrypt_queue);

    pool.patience_ms = BCRYPT_PATIENCE_MS;
    for (uint64_t cost = BCRYPT_PATIENCE_COST; cost < config->auth_bcrypt_cost; cost++)
        pool.patience_ms *= 2;
    return open_pool(self, pool, error);
}

/* Counts failures together with other replicas, where a Redis is configured. */
static bool
open_shared_throttle(auth_t *self, char **error)
{
    if (self->ctx->config->redis_address[0] == '\0')
        return true;
    self->shared_throttle = throttle_shared_new(self->ctx, THROTTLE_SHARED_PATIENCE_MS,
                                                on_counted, self, error);
    return self->shared_throttle != NULL;
}

/* --- what it needs ----------------------------------------------------------------------- */

static void
on_looked(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    auth_t *self = arg;

    (void)tag;
    (void)result;
    self->is_looking = false;
    svc_need_set(&self->database, rc != RC_UNAVAILABLE);
}

/* Nobody may log in for hours: so it is asked. A pool that is busy says enough by itself. */
static void
look_at_database(void *arg, short events)
{
    auth_t *self = arg;

    (void)events;
    if (!self->is_looking)
        self->is_looking = svc_pool_submit(self->bcrypt, AUTH_JOB_LOOK,
                                           (svc_str){NULL, 0}, on_looked, self,
                                           0) == RC_OK;
}

static void
add_needs(auth_t *self)
{
    if (self->ctx->config->storage_driver == SVC_STORAGE_SQLITE)
        return;
    svc_health_add_need(self->ctx->health, &self->database, "postgresql", false, 0);
    self->look_timer = svc_loop_every(self->ctx->loop, NEED_LOOK_MS, look_at_database,
                                      self);
}

static void
remove_needs(auth_t *self)
{
    if (self->look_timer == 0)
        return;
    svc_loop_cancel(self->ctx->loop, self->look_timer);
    svc_health_remove_need(self->ctx->health, &self->database);
}

static size_t
count_threads(const svc_config_t *config)
{
    return config->auth_bcrypt_threads > 0 ? config->auth_bcrypt_threads : svc_cores("");
}

auth_t *
auth_new(svc_ctx_t *ctx, const user_store_driver_t *driver, char **error)
{
    const svc_config_t *config = ctx->config;
    auth_t *self = svc_alloc(sizeof(*self));

    self->ctx = ctx;
    self->shared.driver = driver;
    self->shared.metrics = ctx->metrics;
    self->shared.cost = config->auth_bcrypt_cost;
    if (auth_check_config(config, error) &&
        (self->shared.store = driver->open(ctx, &self->shared.stopping, error)) != NULL &&
        open_signers(self, error) && open_shared_throttle(self, error) &&
        (self->bcrypt = open_bcrypt_pool(self, count_threads(config), error)) != NULL &&
        (self->writer = open_pool(
             self, auth_writer_pool(config->auth_bcrypt_queue + AUTH_WRITER_BATCH),
             error)) != NULL &&
        svc_server_new(ctx, config->bus_auth.bind, auth_ops, self, &self->server,
                       error) == RC_OK) {
        add_needs(self);
        return self;
    }
    auth_destroy(&self);
    return NULL;
}

void
auth_destroy(auth_t **self_p)
{
    auth_t *self;

    if (self_p == NULL || *self_p == NULL)
        return;
    self = *self_p;
    atomic_store(&self->shared.stopping, true);
    svc_loop_cancel(self->ctx->loop, self->drain_timer);
    remove_needs(self);
    svc_server_destroy(&self->server);
    svc_pool_destroy(&self->bcrypt);
    svc_pool_destroy(&self->writer);
    throttle_shared_destroy(&self->shared_throttle);
    token_signer_destroy(&self->tokens);
    ticket_signer_destroy(&self->tickets);
    throttle_destroy(&self->throttle);
    if (self->shared.store != NULL)
        self->shared.driver->close(self->shared.store);
    free(self);
    *self_p = NULL;
}

const char *
auth_endpoint(const auth_t *self)
{
    return svc_server_endpoint(self->server);
}

static void
look_if_drained(void *arg, short events)
{
    auth_t *self = arg;

    (void)events;
    self->quiet_looks = svc_server_kept_calls(self->server) == 0 ? self->quiet_looks + 1
                                                                 : 0;
    if (self->quiet_looks >= DRAIN_QUIET_LOOKS)
        svc_loop_stop(self->ctx->loop);
}

void
auth_reload(auth_t *self, const svc_config_t *fresh)
{
    throttle_set(self->throttle, fresh->auth_guess_limit, fresh->auth_guess_window_s);
    if (self->shared_throttle != NULL)
        throttle_shared_set(self->shared_throttle, fresh->auth_guess_limit,
                            fresh->auth_guess_window_s);
}

void
auth_announce(auth_t *self)
{
    svc_server_set_draining(self->server);
}

void
auth_drain(auth_t *self)
{
    svc_server_set_draining(self->server);
    if (self->drain_timer == 0)
        self->drain_timer = svc_loop_every(self->ctx->loop, DRAIN_LOOK_MS,
                                           look_if_drained, self);
}
