/* auth_fixture.h - an auth-svc over a real bus, with real workers and a real file, and its caller.
 *
 * The caller is a peer that says it is the gateway, on the same loop as the service. bcrypt runs
 * at its least cost. Begun calls tell their outcome in the bench. */
#ifndef TESTS_UNIT_AUTH_SVC_AUTH_FIXTURE_H
#define TESTS_UNIT_AUTH_SVC_AUTH_FIXTURE_H

#include "tests/unit/svc/bus_fixture.h"

#include "auth-svc/auth_ops.h"

#include "svc/svc_peer.h"

#include <unistd.h>

#define REPLIES_MAX 64

/* How a call ended. */
typedef struct {
    svc_rc rc;              /* RC_LATER: not yet */
    uint64_t user;          /* register, verify */
    uint64_t expires_s;     /* login, verify */
    char token[4097];       /* login, ticket */
    uint64_t conversation;  /* redeem */
    uint64_t open_s;        /* ticket: for how long; redeem: until when */
    uint64_t retry_after_s; /* errors */
} outcome_t;

typedef struct {
    fixture_t fixture;               /* first: of the service */
    svc_ctx_t caller;                /* says it is the gateway */
    svc_config_t *config;            /* owned */
    char dir[64];                    /* of its data */
    auth_t *auth;                    /* under test */
    svc_peer_t *peer;                /* its caller */
    outcome_t outcomes[REPLIES_MAX]; /* of calls in flight */
    size_t n;                        /* calls begun */
} bench_t;

/* --- the bench -------------------------------------------------------------------------------- */

static inline bool
is_up(void *arg)
{
    return svc_peer_is_up(((bench_t *)arg)->peer);
}

static inline void
on_event(void *arg, svc_peer_event event, uint64_t instance)
{
    (void)arg;
    (void)event;
    (void)instance;
}

static inline void
start_service(bench_t *bench)
{
    char *error = NULL;

    bench->fixture.ctx.config = bench->config;
    bench->auth = auth_new(&bench->fixture.ctx, &user_store_sqlite, &error);
    if (bench->auth == NULL)
        fail_msg("%s", error);
    bench->peer = svc_peer_new(&bench->caller, "auth-svc", auth_endpoint(bench->auth),
                               on_event, bench, &error);
    assert_non_null(bench->peer);
    fixture_run_until(&bench->fixture, is_up, bench);
}

static inline void
stop_service(bench_t *bench)
{
    svc_peer_destroy(&bench->peer);
    auth_destroy(&bench->auth);
    assert_null(bench->auth);
}

/* Opens a bench with some YAML of its own. */
static inline void
open_bench(bench_t *bench, const char *yaml)
{
    char text[512];
    char *error = NULL;

    memset(bench, 0, sizeof(*bench));
    (void)snprintf(bench->dir, sizeof(bench->dir), "/tmp/test_auth_ops.XXXXXX");
    assert_non_null(mkdtemp(bench->dir));
    (void)snprintf(text, sizeof(text), "sqlite: {path: %s/x.db}\n%s%s\n", bench->dir,
                   strstr(yaml, "bcrypt_cost") == NULL ? "auth.bcrypt_cost: 4\n" : "",
                   yaml);
    bench->config = svc_config_parse(svc_str_c(text), "test", false, &error);
    if (bench->config == NULL)
        fail_msg("%s", error);
    free(bench->config->bus_auth.bind);
    bench->config->bus_auth.bind = svc_str_dup(SVC_LIT("tcp://127.0.0.1:*"));
    fixture_open(&bench->fixture, "auth-svc");
    bench->caller = bench->fixture.ctx;
    bench->caller.service = "gateway";
    bench->caller.instance = 78;
    start_service(bench);
}

static inline void
close_bench(bench_t *bench)
{
    char command[128];

    stop_service(bench);
    svc_config_destroy(&bench->config);
    fixture_close(&bench->fixture);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", bench->dir);
    assert_int_equal(system(command), 0);
}

/* --- calls ------------------------------------------------------------------------------------- */

static inline void
on_register_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                  const error_rep_t *error)
{
    outcome_t *out = arg;

    out->rc = rc;
    out->retry_after_s = error->retry_after_s;
    if (kind == PROTO_FINAL)
        out->user = ((const register_rep_t *)rep)->user;
}

static inline void
on_login_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
               const error_rep_t *error)
{
    outcome_t *out = arg;
    const login_rep_t *login = rep;

    out->rc = rc;
    out->retry_after_s = error->retry_after_s;
    if (kind != PROTO_FINAL)
        return;
    out->expires_s = login->expires_s;
    memcpy(out->token, login->token.p, login->token.n);
    out->token[login->token.n] = '\0';
}

static inline void
on_verify_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                const error_rep_t *error)
{
    outcome_t *out = arg;

    (void)error;
    out->rc = rc;
    if (kind != PROTO_FINAL)
        return;
    out->user = ((const verify_rep_t *)rep)->user;
    out->expires_s = ((const verify_rep_t *)rep)->expires_s;
}

static inline void
on_ticket_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                const error_rep_t *error)
{
    outcome_t *out = arg;
    const ticket_rep_t *ticket = rep;

    (void)error;
    out->rc = rc;
    if (kind != PROTO_FINAL)
        return;
    memcpy(out->token, ticket->ticket.p, ticket->ticket.n);
    out->open_s = ticket->expires_in_s;
}

static inline void
on_redeem_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                const error_rep_t *error)
{
    outcome_t *out = arg;
    const redeem_rep_t *redeemed = rep;

    (void)error;
    out->rc = rc;
    if (kind != PROTO_FINAL)
        return;
    out->user = redeemed->user;
    out->conversation = redeemed->conversation;
    out->open_s = redeemed->open_until_s;
    out->expires_s = redeemed->expires_s;
}

/* Begins a call; its outcome is the next of the bench. */
static inline outcome_t *
begin(bench_t *bench, svc_peer_request_t request)
{
    outcome_t *out = &bench->outcomes[bench->n++ % REPLIES_MAX];

    memset(out, 0, sizeof(*out));
    out->rc = RC_LATER;
    request.timeout_ms = FIXTURE_PATIENCE_MS;
    request.arg = out;
    assert_int_equal(svc_peer_call(bench->peer, &request, NULL), RC_OK);
    return out;
}

static inline outcome_t *
begin_register(bench_t *bench, svc_str username, svc_str password)
{
    register_req_t req = {.username = username, .password = password};

    return begin(bench, (svc_peer_request_t){.op = OP_AUTH_REGISTER,
                                             .req_schema = &register_req_schema,
                                             .req = &req,
                                             .rep_schema = &register_rep_schema,
                                             .on_reply = on_register_reply});
}

static inline outcome_t *
begin_login(bench_t *bench, svc_str username, svc_str password, const char *address)
{
    login_req_t req = {username, password, svc_str_c(address)};

    return begin(bench, (svc_peer_request_t){.op = OP_AUTH_LOGIN,
                                             .req_schema = &login_req_schema,
                                             .req = &req,
                                             .rep_schema = &login_rep_schema,
                                             .on_reply = on_login_reply});
}

static inline bool
is_over(void *arg)
{
    return ((outcome_t *)arg)->rc != RC_LATER;
}

static inline outcome_t
finish(bench_t *bench, outcome_t *outcome)
{
    fixture_run_until(&bench->fixture, is_over, outcome);
    return *outcome;
}

static inline outcome_t
register_user(bench_t *bench, const char *username, const char *password)
{
    return finish(bench, begin_register(bench, svc_str_c(username), svc_str_c(password)));
}

static inline outcome_t
login(bench_t *bench, const char *username, const char *password)
{
    return finish(
        bench, begin_login(bench, svc_str_c(username), svc_str_c(password), "1.1.1.1"));
}

static inline outcome_t
verify(bench_t *bench, svc_str token)
{
    verify_req_t req = {token};

    return finish(bench,
                  begin(bench, (svc_peer_request_t){.op = OP_AUTH_VERIFY,
                                                    .req_schema = &verify_req_schema,
                                                    .req = &req,
                                                    .rep_schema = &verify_rep_schema,
                                                    .on_reply = on_verify_reply}));
}

static inline outcome_t
register_again(bench_t *bench, const char *username, svc_str key)
{
    register_req_t req = {.username = svc_str_c(username),
                          .password = SVC_LIT("correct horse"),
                          .key = key};

    return finish(bench,
                  begin(bench, (svc_peer_request_t){.op = OP_AUTH_REGISTER,
                                                    .req_schema = &register_req_schema,
                                                    .req = &req,
                                                    .rep_schema = &register_rep_schema,
                                                    .on_reply = on_register_reply}));
}

static inline outcome_t
ask_ticket(bench_t *bench, uint64_t user, uint64_t conversation, uint64_t expires_s)
{
    ticket_req_t req = {user, conversation, expires_s};

    return finish(bench,
                  begin(bench, (svc_peer_request_t){.op = OP_AUTH_TICKET,
                                                    .req_schema = &ticket_req_schema,
                                                    .req = &req,
                                                    .rep_schema = &ticket_rep_schema,
                                                    .on_reply = on_ticket_reply}));
}

static inline outcome_t
redeem(bench_t *bench, svc_str ticket)
{
    redeem_req_t req = {ticket};

    return finish(bench,
                  begin(bench, (svc_peer_request_t){.op = OP_AUTH_REDEEM,
                                                    .req_schema = &redeem_req_schema,
                                                    .req = &req,
                                                    .rep_schema = &redeem_rep_schema,
                                                    .on_reply = on_redeem_reply}));
}

#endif
