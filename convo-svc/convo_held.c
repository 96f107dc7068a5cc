/* convo_held.c - questions that come while no llm-svc is there: held for a moment, then refused.
 *
 * A restart of llm-svc, or of everything, takes less than a second, so most of these can be
 * answered as if nothing had been; nothing is committed meanwhile. Who is still waiting after
 * CONVO_HELD_MS is told at once instead of looking at an empty stream: 503, ask again.
 * One timer looks at all of them; it runs only while there are some. */
#include "convo.h"

#include <stdlib.h>

#define LOOK_MS 20

struct convo_held {
    convo_held_t *next; /* younger */
    uint64_t call;      /* handle; the call may be gone by now */
    uint32_t kind;      /* of the job it becomes */
    uint64_t until_ms;  /* monotonic */
    char *body;         /* owned copy of the request */
    size_t n;           /* bytes of body */
};

static void
free_held(convo_held_t *held)
{
    free(held->body);
    free(held);
}

/* Passes one on, or refuses it. */
static void
settle(convo_t *self, convo_held_t *held, bool is_up)
{
    svc_call_t *call = svc_server_call(self->server, held->call);
    svc_rc rc = RC_UNAVAILABLE;

    if (call != NULL) {
        if (is_up && !self->is_draining)
            rc = convo_commit_ask(self, held->kind, call, (svc_str){held->body, held->n});
        else
            svc_call_explain(call, "No service is there to write the answer.", 1);
        if (rc != RC_OK)
            svc_call_finish(call, rc, NULL);
    }
    free_held(held);
}

static void
look(void *arg, short events)
{
    convo_t *self = arg;
    bool is_up = svc_peers_is_up(self->llm);
    uint64_t now = svc_loop_now_ms(self->ctx->loop);
    convo_held_t *held;

    (void)events;
    while ((held = self->held) != NULL &&
           (is_up || self->is_draining || now >= held->until_ms)) {
        self->held = held->next;
        self->n_held--;
        self->held_bytes -= held->n;
        settle(self, held, is_up);
    }
    if (self->held == NULL) {
        svc_loop_cancel(self->ctx->loop, self->held_timer);
        self->held_timer = 0;
    }
}

svc_rc
convo_hold_ask(convo_t *self, uint32_t kind, svc_call_t *call)
{
    svc_str body = svc_call_body(call);
    convo_held_t **last = &self->held;
    convo_held_t *held;
    char *copy;

    if (self->n_held == CONVO_HELD_MAX ||
        body.n > CONVO_HELD_MAX_BYTES - self->held_bytes)
        return RC_UNAVAILABLE;
    copy = svc_try_alloc(body.n);
    if (copy == NULL)
        return RC_BUSY;
    memcpy(copy, body.p, body.n);
    held = svc_alloc(sizeof(*held));
    held->body = copy;
    held->n = body.n;
    held->call = svc_call_id(call);
    held->kind = kind;
    held->until_ms = svc_loop_now_ms(self->ctx->loop) + CONVO_HELD_MS;
    while (*last != NULL)
        last = &(*last)->next;
    *last = held;
    self->n_held++;
    self->held_bytes += held->n;
    if (self->held_timer == 0)
        self->held_timer = svc_loop_every(self->ctx->loop, LOOK_MS, look, self);
    return RC_LATER;
}

void
convo_drop_held(convo_t *self)
{
    convo_held_t *held;

    svc_loop_cancel(self->ctx->loop, self->held_timer);
    while ((held = self->held) != NULL) {
        self->held = held->next;
        free_held(held);
    }
}
