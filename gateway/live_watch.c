/* live_watch.c - how a live feed keeps its answer in sight: ask, watch, whom to ask, and the tail.
 *
 * The owner of an answer is the convo-svc that runs it: only its watch holds. Any other
 * one tells once how the answer stood when it was last committed, and who owns it:
 * then the owner is watched, at once if it is up for us, else whoever is there is
 * asked again until it names one that is. An owner that goes down is a watch that fails:
 * the next one is asked in the same turn. gateway.reattach_s without a watch that
 * holds ends the feed for its readers, not the answer; what it holds that is not stored,
 * it keeps for the owner that comes. */
#include "live_feed_private.h"
#include "proto/utf8.h"

#define RETRY_SLACK_MS 50 /* the tick is no exact clock: a retry must not wait for two */

static void on_status(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                      const error_rep_t *error);
static void hand_in_tail(live_feed_t *self);

static svc_peers_t *
convo_of(const live_feed_t *self)
{
    return self->bus->convo;
}

/* The answer's owner, 0 when it is not known or not up for us. */
static uint64_t
owner_of(const live_feed_t *self)
{
    uint64_t owner = feed_status(self->feed)->owner;

    return svc_peers_has(convo_of(self), owner) ? owner : 0;
}

/* --- asking ------------------------------------------------------------------------------- */

svc_rc
live_feed_ask(live_feed_t *self, const live_question_t *question)
{
    const live_subject_t *who = &self->subject;
    svc_str stream = feed_stream(self->feed);
    ask_req_t ask = {who->user, who->conversation, question->text,
                     stream,    question->key,     question->stop_alone};
    retry_req_t retry = {who->user, who->conversation, stream, question->key,
                         question->stop_alone};
    svc_peer_request_t request = {
        .op = question->is_retry ? OP_CONVO_RETRY : OP_CONVO_ASK,
        .req_schema = question->is_retry ? &retry_req_schema : &ask_req_schema,
        .req = question->is_retry ? (const void *)&retry : (const void *)&ask,
        .rep_schema = &status_rep_schema,
        .trace = live_feed_trace(self),
        .timeout_ms = 1000ull * self->bus->ctx->config->gateway_request_timeout_s,
        .on_reply = on_status,
        .arg = self,
    };

    self->renewed_ms = self->heard_ms = live_feed_now_ms(self);
    svc_rc rc = svc_peers_call(convo_of(self), &request, &self->watch_call);
    svc_fault_at(self->bus->ctx->fault, FAULT_GATEWAY_ASK_SENT);
    return rc;
}

/* --- watching ----------------------------------------------------------------------------- */

svc_rc
live_feed_call_watch(const live_feed_t *self, svc_reply_fn *on_reply, void *arg,
                     uint64_t *call)
{
    watch_req_t watch = {self->subject.user, self->subject.conversation,
                         feed_stream(self->feed)};
    svc_peer_request_t request = {
        .op = OP_CONVO_WATCH,
        .req_schema = &watch_req_schema,
        .req = &watch,
        .rep_schema = &status_rep_schema,
        .trace = live_feed_trace(self),
        .timeout_ms = 1000ull * self->bus->ctx->config->gateway_request_timeout_s,
        .on_reply = on_reply,
        .arg = arg,
        .instance = owner_of(self),
    };

    return svc_peers_call(convo_of(self), &request, call);
}

/* Watches anew and forgets the watch before; leaves that one when it cannot. */
static void
renew_watch(live_feed_t *self)
{
    uint64_t call = 0;

    self->renewed_ms = live_feed_now_ms(self);
    if (live_feed_call_watch(self, on_status, self, &call) != RC_OK)
        return;
    svc_peers_forget(convo_of(self), self->watch_call);
    self->watch_call = call;
}

static bool
is_watchable(const live_feed_t *self)
{
    return feed_status(self->feed)->heard && !live_feed_is_over(self);
}

static void
detach(live_feed_t *self)
{
    if (self->detached_ms == 0)
        self->detached_ms = live_feed_now_ms(self);
}

/* The one that was watched may have gone down: there may be another one. But one that lives and refuses (it is handing its answers
 * over, or its database is away) would be asked in a circle: the next time is the tick's. */
static void
renew_in_a_hurry(live_feed_t *self)
{
    uint64_t now = live_feed_now_ms(self);

    if (self->hurried_ms != 0 && now - self->hurried_ms < LIVE_RETRY_MS)
        return;
    self->hurried_ms = now;
    renew_watch(self);
}

svc_rc
live_feed_why_gone(proto_kind kind, svc_rc rc)
{
    if (kind != PROTO_ERROR)
        return RC_OK;
    if (rc == RC_NOT_FOUND)
        return RC_DELETED;
    return rc == RC_SUPERSEDED || rc == RC_NO_ANSWER ? rc : RC_OK;
}

/* An ask or watch failed. Before the first status that is the end, later only the loss
 * of sight. */
static void
take_error(live_feed_t *self, svc_rc rc, const error_rep_t *error)
{
    svc_rc gone = live_feed_why_gone(PROTO_ERROR, rc);

    if (!feed_status(self->feed)->heard) {
        /* stale: another convo-svc has it by now, and who asks again finds that one */
        feed_fail(self->feed, rc == RC_STALE ? RC_UNAVAILABLE : rc, error->text,
                  error->retry_after_s);
    } else if (gone != RC_OK) {
        feed_fail(self->feed, gone, gone == RC_DELETED ? (svc_str){NULL, 0} : error->text,
                  0);
    } else {
        detach(self);
        if (rc == RC_UNAVAILABLE && is_watchable(self))
            renew_in_a_hurry(self);
    }
}

/* Only the owner knows of a loss: what others do not know must not let text out that nobody would store. So until an owner has
 * been heard, and while the last one said `lost`, readers get what is stored. */
static void
doubt_status(const live_feed_t *self, status_rep_t *status)
{
    const feed_status_t *mine = feed_status(self->feed);

    status->lost = status->lost || !mine->heard || mine->lost;
}

/* From here on the asker's stream outlives whoever has told it. */
static void
log_first(const live_feed_t *self)
{
    const svc_log_about_t about = {.trace = live_feed_trace(self),
                                   .stream = feed_stream(self->feed)};

    svc_log_about(self->bus->ctx->log, SVC_LOG_DEBUG, &about,
                  "convo-svc tells of the answer: it is followed");
}

/* Takes what convo-svc says. `is_held`: and it will say more; else a status that is not
 * the last one was told by one that does not own the answer. */
static void
take_status(live_feed_t *self, bool is_held, const status_rep_t *told, uint64_t teller)
{
    status_rep_t status = *told;
    bool was_doubted = feed_status(self->feed)->lost;

    self->heard_ms = live_feed_now_ms(self);
    svc_fault_at(self->bus->ctx->fault, FAULT_GATEWAY_FIRST_STATUS);
    if (!feed_status(self->feed)->heard)
        log_first(self);
    if (is_held)
        self->detached_ms = 0;
    else if (!answer_state_is_terminal(status.state)) {
        doubt_status(self, &status);
        detach(self);
    }
    feed_take_status(self->feed, &status);
    if (was_doubted && !status.lost)
        live_feed_probe(self); /* what was not taken meanwhile, no frame tells again */
    uint64_t owner = owner_of(self);
    if (!is_held && is_watchable(self) && owner != 0 && owner != teller)
        renew_watch(self);
    hand_in_tail(self);
    if (feed_has_gap(self->feed))
        live_feed_fetch_soon(self);
}

static void
on_status(void *arg, proto_kind kind, svc_rc rc, const void *rep,
          const error_rep_t *error)
{
    live_feed_t *self = arg;
    const status_rep_t *status = rep;

    if (kind != PROTO_PARTIAL)
        self->watch_call = 0;
    if (kind == PROTO_ERROR) {
        take_error(self, rc, error);
        live_viewers_tell(self);
        return;
    }
    if (!svc_str_eq(status->stream, feed_stream(self->feed))) {
        if (feed_status(self->feed)->heard)
            return; /* another answer than the one that was watched: never said by ours */
        live_feed_t *other = self->bus->moved(self->bus->arg, self, status->stream);
        if (other == NULL) {
            feed_fail(self->feed, RC_BUSY, (svc_str){NULL, 0}, 1);
            live_viewers_tell(self);
            return;
        }
        if (other != self) { /* which is gone now */
            live_feed_take_status(other, status);
            live_viewers_tell(
                other); /* nothing comes any more when it had ended before */
            return;
        }
    }
    take_status(self, kind == PROTO_PARTIAL, status, svc_peers_replier(convo_of(self)));
    live_viewers_tell(self);
}

void
live_feed_take_status(live_feed_t *self, const status_rep_t *told)
{
    status_rep_t status = *told;
    bool was_heard = feed_status(self->feed)->heard;

    if (live_feed_is_over(self))
        return;
    if (!was_heard || answer_state_is_terminal(status.state)) {
        if (!answer_state_is_terminal(status.state))
            doubt_status(self, &status); /* who told is not known here */
        feed_take_status(self->feed, &status);
        self->heard_ms = live_feed_now_ms(self);
        if (feed_has_gap(self->feed))
            live_feed_fetch(self);
    }
    if (self->watch_call == 0 && is_watchable(self)) {
        detach(self);
        renew_watch(self);
    }
    live_viewers_tell(self);
}

void
live_feed_watch(live_feed_t *self, const status_rep_t *status, uint64_t from)
{
    feed_start_at(self->feed, from < status->length ? from : status->length);
    if (status->state == ANSWER_STREAMING) {
        self->is_probing = true;
        self->probes = LIVE_PROBES - 1;
    }
    live_feed_take_status(self, status);
    live_feed_fetch(self);
}

void
live_feed_skip_to(live_feed_t *self, uint64_t from)
{
    feed_start_at(self->feed, from);
    live_feed_fetch(self);
}

void
live_feed_reattach(live_feed_t *self)
{
    if (is_watchable(self) && (self->watch_call == 0 || self->detached_ms > 0))
        renew_watch(self);
    live_feed_fetch(self);
}

void
live_feed_unwatch(live_feed_t *self)
{
    unwatch_req_t unwatch = {feed_stream(self->feed)};
    const feed_status_t *status = feed_status(self->feed);
    uint64_t owner = owner_of(self);

    if (!status->heard || answer_state_is_terminal((int)status->state) || owner == 0)
        return;
    /* Unless it gets through, the watch ends by itself when it is not renewed. */
    svc_rc rc = svc_peers_post(convo_of(self), owner, OP_CONVO_UNWATCH,
                               live_feed_trace(self), &unwatch_req_schema, &unwatch);
    (void)rc;
}

/* Nobody tells of changes, or a gap that nobody can fill: the readers have waited long
 * enough. */
static bool
is_out_of_patience(const live_feed_t *self, uint64_t now)
{
    uint64_t patience_ms = live_feed_reattach_ms(self);

    if (!feed_status(self->feed)->heard)
        return false; /* the ask has a time-out of its own */
    if (live_feed_is_over(self))
        return self->starving_ms > 0 && now - self->starving_ms >= patience_ms;
    if (self->n_viewers == 0)
        return false; /* it stays for what it holds, see feed_hub.c */
    return (self->detached_ms > 0 && now - self->detached_ms >= patience_ms) ||
           now - self->heard_ms >= self->bus->renew_ms + patience_ms;
}

void
live_watch_tick(live_feed_t *self, uint64_t now)
{
    uint64_t since_ms = now - self->renewed_ms;
    uint64_t renew_ms = self->n_viewers > 0 ? self->bus->renew_ms : LIVE_ALONE_MS;

    if (is_watchable(self) && (self->watch_call == 0 || since_ms >= renew_ms) &&
        svc_peers_is_up(convo_of(self)) && since_ms + RETRY_SLACK_MS >= LIVE_RETRY_MS)
        renew_watch(self);
    /* A reader that does not read keeps it from being alone: what it holds must not wait for that one. */
    if (!live_feed_may_go(self) && self->given_up_ms > 0 &&
        now - self->given_up_ms >= LIVE_RENEW_MS / 5)
        live_feed_stay(self);
    if (feed_failed(self->feed) == RC_OK && is_out_of_patience(self, now)) {
        self->given_up_ms = now;
        feed_fail(self->feed, RC_UNAVAILABLE, (svc_str){NULL, 0}, 1);
        live_viewers_tell(self);
    }
}

/* --- tail --------------------------------------------------------------------------------- */

static void
on_tail(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    live_feed_t *self = arg;

    (void)rep;
    (void)error;
    self->tail_call = 0;
    if (kind == PROTO_ERROR) {
        svc_log_warn(self->bus->ctx->log, "a tail of %llu bytes was not taken: %s",
                     (unsigned long long)self->tail_n, svc_rc_info(rc)->wire);
        return;
    }
    self->tail_from += self->tail_n;
    hand_in_tail(self);
}

/* The answer's llm-svc is lost: what we hold past the journal may be all that is left
 * of it. */
static void
hand_in_tail(live_feed_t *self)
{
    const feed_status_t *status = feed_status(self->feed);

    if (!status->lost || live_feed_is_over(self) || self->tail_call != 0)
        return;
    if (self->tail_owner != status->owner) /* what another one was given went with it */
        self->tail_from = 0;
    self->tail_owner = status->owner;
    if (self->tail_from < status->length)
        self->tail_from = status->length;
    svc_str bytes = feed_text(self->feed, self->tail_from);
    if (bytes.n > PROTO_PAGE_MAX_BYTES)
        bytes.n = PROTO_PAGE_MAX_BYTES;
    bytes.n = svc_utf8_valid(bytes.p, bytes.n);
    if (bytes.n == 0 || feed_fence(self->feed) != status->fence)
        return;
    tail_req_t tail = {feed_stream(self->feed), status->fence, self->tail_from, bytes};
    svc_peer_request_t request = {
        .op = OP_CONVO_TAIL,
        .req_schema = &tail_req_schema,
        .req = &tail,
        .rep_schema = &empty_schema,
        .trace = live_feed_trace(self),
        .timeout_ms = 5000,
        .on_reply = on_tail,
        .arg = self,
        .instance = owner_of(self),
    };
    self->tail_n = bytes.n;
    if (svc_peers_call(convo_of(self), &request, &self->tail_call) == RC_OK)
        live_feed_count(self, SVC_M_TAILS, 1);
    else
        self->tail_call = 0;
    svc_fault_at(self->bus->ctx->fault, FAULT_GATEWAY_TAIL_SENT);
}
