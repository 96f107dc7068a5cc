/* convo_held.c - what waits a moment before it goes to the writer: for an llm-svc, or for the database.
 *
 * A restart of llm-svc, or of everything, takes less than a second, so most questions that come meanwhile can be
 * answered as if nothing had been; nothing is committed meanwhile. Who is still waiting after
 * CONVO_HELD_MS is told at once instead of looking at an empty stream: 503, ask again.
 *
 * A connection that the server has closed is made anew in a fraction of a second: changes wait for that. They wait here and not in
 * the writer's queue, since the writer may turn out to wait for a server that is gone: after CONVO_AWAY_MS they are
 * refused, and whatever comes later at once.
 * One timer looks at all of them; it runs only while there are some. */
#include "convo.h"

#include "svc/svc_time.h"

#include <stdlib.h>

#define LOOK_MS 20

struct convo_held {
    convo_held_t *next;     /* younger */
    uint64_t call;          /* handle; the call may be gone by now */
    uint32_t kind;          /* of the job it becomes */
    svc_pool_done_fn *done; /* of that job; NULL: a question */
    uint64_t until_ms; /* monotonic: it waits for an llm-svc until then; 0: for none */
    char *body;        /* owned copy of the request */
    size_t n;          /* bytes of body */
};

static void
free_held(convo_held_t *held)
{
    explicit_bzero(held->body, held->n); /* a new conversation has its api key in it */
    free(held->body);
    free(held);
}

/* For how long the writer has been waiting for the database, at least 1; 0: it does not. */
static uint64_t
away_for_ms(const convo_t *self)
{
    const uint64_t since = atomic_load(&self->away_ms), now = svc_mono_ms();

    if (since == 0)
        return 0;
    return now > since ? now - since : 1;
}

bool
convo_is_away(const convo_t *self)
{
    return away_for_ms(self) > 0;
}

/* Gives a change to the writer. */
static svc_rc
submit(convo_t *self, const convo_held_t *held, svc_call_t *call)
{
    const svc_str body = {held->body, held->n};

    if (held->done == NULL)
        return convo_commit_ask(self, held->kind, call, body);
    return svc_pool_submit_until(self->writer, held->kind, body, svc_call_until(call),
                                 held->done, self, held->call);
}

/* Passes one on, or refuses it. */
static void
settle(convo_t *self, convo_held_t *held, bool is_ready)
{
    svc_call_t *call = svc_server_call(self->server, held->call);
    svc_rc rc = RC_UNAVAILABLE;

    if (call != NULL) {
        if (is_ready)
            rc = submit(self, held, call);
        else if (held->until_ms != 0)
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
    const bool is_up = svc_peers_is_up(self->llm);
    const uint64_t now = svc_loop_now_ms(self->ctx->loop), away = away_for_ms(self);
    convo_held_t **at = &self->held;

    (void)events;
    while (*at != NULL) {
        convo_held_t *held = *at;
        const bool is_refused = (self->is_draining && held->done == NULL) ||
                                (held->until_ms != 0 && now >= held->until_ms) ||
                                away >= CONVO_AWAY_MS;
        const bool waits = away != 0 || (held->until_ms != 0 && !is_up);

        if (waits && !is_refused) {
            at = &held->next;
            continue;
        }
        *at = held->next;
        self->n_held--;
        self->held_bytes -= held->n;
        settle(self, held, !waits && !(self->is_draining && held->done == NULL));
    }
    if (self->held == NULL) {
        svc_loop_cancel(self->ctx->loop, self->held_timer);
        self->held_timer = 0;
    }
}

/* Keeps a request. RC_LATER, or why not. */
static svc_rc
hold(convo_t *self, uint32_t kind, svc_call_t *call, svc_pool_done_fn *done,
     uint64_t until_ms)
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
    held->done = done;
    held->until_ms = until_ms;
    while (*last != NULL)
        last = &(*last)->next;
    *last = held;
    self->n_held++;
    self->held_bytes += held->n;
    if (self->held_timer == 0)
        self->held_timer = svc_loop_every(self->ctx->loop, LOOK_MS, look, self);
    return RC_LATER;
}

svc_rc
convo_hold_ask(convo_t *self, uint32_t kind, svc_call_t *call)
{
    return hold(self, kind, call, NULL, svc_loop_now_ms(self->ctx->loop) + self->held_ms);
}

svc_rc
convo_hold_change(convo_t *self, uint32_t kind, svc_call_t *call, svc_pool_done_fn *done)
{
    return away_for_ms(self) >= CONVO_AWAY_MS ? RC_UNAVAILABLE
                                              : hold(self, kind, call, done, 0);
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
