/* stream_guard.c - asks again and again whether the token of an open stream is still good.
 *
 * One timer and one call at a time. The question goes past the cache of verdicts: that
 * one answers for the first seconds of a stream, and both delays together are what a
 * revoked token can still read. Clocks of two hosts differ by a little: a token that
 * auth-svc still takes at its end is asked about once more a second later. */
#include "stream_guard.h"
#include "svc/svc_time.h"

#include <stdlib.h>

#define CALL_MS   5000u /* for one answer */
#define AGAIN_MS  5000u /* after auth-svc could not be asked */
#define LEEWAY_MS 5000u /* between the clocks of two hosts */
#define SHORT_MS  1000u /* between two questions at least */

struct stream_guard {
    request_t *request;         /* whose token */
    void (*refused)(void *arg); /* told once */
    void *arg;                  /* of that */
    uint64_t expires_s;         /* Unix: of the token, as told last */
    uint64_t timer;             /* 0: none */
    uint64_t call;              /* outstanding; 0: none */
};

static void ask(void *arg, short events);

static void
ask_after(stream_guard_t *self, uint64_t ms)
{
    self->timer = svc_loop_after(request_reactor(self->request)->ctx.loop, ms, ask, self);
}

/* The token is good: asks again after the usual time, or when it ends. */
static void
expect_end(stream_guard_t *self)
{
    uint64_t ms = 1000ull *
                  request_reactor(self->request)->ctx.config->gateway_verify_stream_s;
    uint64_t now = svc_unix_ms();
    uint64_t end = self->expires_s * 1000;
    uint64_t left = end > now ? end - now : 0;

    ms = left < ms ? left : ms;
    ask_after(self, ms > SHORT_MS ? ms : SHORT_MS);
}

static void
take_verdict(stream_guard_t *self, svc_rc rc, uint64_t expires_s)
{
    bool has_ended = svc_unix_ms() > self->expires_s * 1000 + LEEWAY_MS;

    self->call = 0;
    if (rc == RC_OK) {
        self->expires_s = expires_s;
        expect_end(self);
    } else if (rc == RC_UNAUTHORIZED || has_ended) {
        self->refused(self->arg);
    } else {
        ask_after(self, AGAIN_MS);
    }
}

static void
on_verified(void *arg, proto_kind kind, svc_rc rc, const void *rep,
            const error_rep_t *error)
{
    const verify_rep_t *verdict = rep;

    (void)error;
    take_verdict(arg, rc, kind == PROTO_FINAL ? verdict->expires_s : 0);
}

static void
on_redeemed(void *arg, proto_kind kind, svc_rc rc, const void *rep,
            const error_rep_t *error)
{
    const redeem_rep_t *ticket = rep;

    (void)error;
    take_verdict(arg, rc, kind == PROTO_FINAL ? ticket->expires_s : 0);
}

static void
ask(void *arg, short events)
{
    stream_guard_t *self = arg;
    request_pass_t pass = request_pass(self->request);
    const verify_req_t verify = {pass.secret};
    const redeem_req_t redeem = {pass.secret};
    svc_peer_request_t request = {
        .op = pass.is_ticket ? OP_AUTH_REDEEM : OP_AUTH_VERIFY,
        .req_schema = pass.is_ticket ? &redeem_req_schema : &verify_req_schema,
        .req = pass.is_ticket ? (const void *)&redeem : (const void *)&verify,
        .rep_schema = pass.is_ticket ? &redeem_rep_schema : &verify_rep_schema,
        .trace = request_trace(self->request),
        .timeout_ms = CALL_MS,
        .on_reply = pass.is_ticket ? on_redeemed : on_verified,
        .arg = self,
    };

    (void)events;
    self->timer = 0;
    svc_rc rc = svc_peers_call(request_reactor(self->request)->peers[REACTOR_AUTH],
                               &request, &self->call);
    if (rc != RC_OK)
        take_verdict(self, rc, 0);
}

stream_guard_t *
stream_guard_new(request_t *request, void (*refused)(void *arg), void *arg)
{
    stream_guard_t *self = svc_alloc(sizeof *self);

    self->request = request;
    self->refused = refused;
    self->arg = arg;
    self->expires_s = request_expires_s(request);
    expect_end(self);
    return self;
}

void
stream_guard_destroy(stream_guard_t **self_p)
{
    stream_guard_t *self = *self_p;

    if (self == NULL)
        return;
    reactor_t *reactor = request_reactor(self->request);
    svc_loop_cancel(reactor->ctx.loop, self->timer);
    svc_peers_forget(reactor->peers[REACTOR_AUTH], self->call);
    free(self);
    *self_p = NULL;
}
