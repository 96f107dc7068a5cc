/* request_user.c - whose request is this: its token, or the ticket that stands for one.
 *
 * A token comes in the Authorization header. Where a browser's EventSource cannot send
 * one, the URL may carry a ticket for one conversation (routes with takes_ticket); a
 * header goes before it. Both are judged by auth-svc; a verdict about a token is kept
 * for some seconds. Neither may ever stand in a log. Thread: the request's reactor's. */
#include "request_private.h"
#include "svc/svc_time.h"

#include <strings.h>

/* The token of "Authorization: Bearer <token>"; empty without one. */
static svc_str
token_of(const request_t *self)
{
    svc_str value = request_header(self, "Authorization");

    if (value.n < 7 || strncasecmp(value.p, "Bearer ", 7) != 0)
        return (svc_str){NULL, 0};
    value = (svc_str){value.p + 7, value.n - 7};
    while (value.n > 0 && value.p[0] == ' ')
        value = (svc_str){value.p + 1, value.n - 1};
    return value;
}

request_pass_t
request_pass(const request_t *self)
{
    bool has_header = request_header(self, "Authorization").n > 0;
    svc_str ticket = {NULL, 0};

    if (self->route != NULL && self->route->takes_ticket && !has_header)
        ticket = request_query(self, "ticket");
    return ticket.n > 0 ? (request_pass_t){ticket, true}
                        : (request_pass_t){token_of(self), false};
}

uint64_t
request_expires_s(const request_t *self)
{
    return self->expires_s;
}

bool
request_may_open(const request_t *self)
{
    return self->open_until_s == 0 || svc_unix_ms() / 1000 <= self->open_until_s;
}

static void
on_verified(request_t *self, const void *rep)
{
    const verify_rep_t *verdict = rep;

    self->user = verdict->user;
    self->expires_s = verdict->expires_s;
    verdicts_keep(self->reactor->verdicts, request_pass(self).secret, verdict->user,
                  verdict->expires_s, svc_unix_ms());
    request_wake(self);
}

static bool
is_ascii(svc_str text)
{
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] >= 0x80)
            return false;
    return true;
}

static void
check_token(request_t *self, svc_str token)
{
    if (token.n > PROTO_TOKEN_MAX_BYTES || !is_ascii(token)) {
        request_refuse(self, RC_UNAUTHORIZED, (svc_str){NULL, 0}, 0);
        return;
    }
    self->user = verdicts_find(self->reactor->verdicts, token, svc_unix_ms(),
                               &self->expires_s);
    svc_metrics_add(self->reactor->ctx.metrics,
                    self->user != 0 ? SVC_M_TOKEN_HITS : SVC_M_TOKEN_MISSES, 1);
    if (self->user != 0)
        return;
    verify_req_t verify = {token};
    request_call(self, &(request_call_t){.peer = REACTOR_AUTH,
                                         .op = OP_AUTH_VERIFY,
                                         .req_schema = &verify_req_schema,
                                         .req = &verify,
                                         .rep_schema = &verify_rep_schema,
                                         .on_reply = on_verified});
}

static void
refuse_ticket(request_t *self)
{
    request_refuse_input(self, RC_UNAUTHORIZED, TEXT_BAD_TICKET, NULL);
}

static void
on_redeemed(request_t *self, const void *rep)
{
    const redeem_rep_t *ticket = rep;

    if (ticket->conversation != self->id) {
        refuse_ticket(self);
        return;
    }
    self->user = ticket->user;
    self->expires_s = ticket->expires_s;
    self->open_until_s = ticket->open_until_s;
    request_wake(self);
}

static bool
on_not_redeemed(request_t *self, svc_rc rc)
{
    if (rc == RC_UNAUTHORIZED)
        refuse_ticket(self);
    return rc == RC_UNAUTHORIZED;
}

static void
check_ticket(request_t *self, svc_str ticket)
{
    redeem_req_t redeem = {ticket};

    if (ticket.n > PROTO_TICKET_MAX_BYTES) {
        refuse_ticket(self);
        return;
    }
    request_call(self, &(request_call_t){.peer = REACTOR_AUTH,
                                         .op = OP_AUTH_REDEEM,
                                         .req_schema = &redeem_req_schema,
                                         .req = &redeem,
                                         .rep_schema = &redeem_rep_schema,
                                         .on_reply = on_redeemed,
                                         .on_error = on_not_redeemed});
}

void
request_check_user(request_t *self)
{
    request_pass_t pass = request_pass(self);

    if (pass.secret.n == 0)
        request_refuse_input(self, RC_UNAUTHORIZED, TEXT_NO_TOKEN, NULL);
    else if (pass.is_ticket)
        check_ticket(self, pass.secret);
    else
        check_token(self, pass.secret);
}
