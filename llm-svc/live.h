/* live.h - all live generations of this process, and their ties to providers, calls and the clock.
 *
 * Finds a generation by its stream or by its kept call, starts and cancels its provider,
 * lets each one that was touched in a turn act once at the turn's end (pieces that came
 * together go out together), and wakes it when something is due. What a generation may
 * do is generation.c's. Thread: the loop's. */
#ifndef LLM_SVC_LIVE_H
#define LLM_SVC_LIVE_H

#include "generation.h"
#include "model_router.h"
#include "svc/svc_ctx.h"

#define LIVE_MAX 10000 /* generations at once; one more is refused RC_BUSY */

typedef struct live live_t;

/* What live needs from its surroundings; `arg` goes to each. */
typedef struct {
    /* Sends a reply of a kept call: RC_OK, RC_UNAVAILABLE (gone), RC_BUSY (dropped).
     * FINAL ends the call, unless it was dropped. */
    svc_rc (*reply)(void *arg, uint64_t call, const journal_rep_t *piece, bool final);
    /* Ends a kept call that another one has replaced, or whose owner is silent: RC_OK without a
     * word, else by this error. */
    void (*release)(void *arg, uint64_t call, svc_rc rc);
    /* Publishes a token frame. */
    void (*publish)(void *arg, const proto_token_t *token);
    /* Draining, and the last generation is gone. */
    void (*drained)(void *arg);
} live_out_t;

/* Gives an empty set. Keeps ctx, router (until live_set) and out, which outlive it. Destroy it before the
 * providers, whose jobs it cancels. */
live_t *live_new(svc_ctx_t *ctx, const model_router_t *router, const live_out_t *out,
                 void *arg);

/* From now on new generations are routed by `router` (kept), and may be so long. Those that run go on as they began. */
void live_set(live_t *self, const model_router_t *router, uint64_t max_answer_bytes);

/* Frees all generations and sets *self_p to NULL. NULL-safe. Providers are cancelled. */
void live_destroy(live_t **self_p);

/* Begins a generation that journals to `call`; `trace`: of the question, may be empty. RC_LATER: the journal will answer. A
 * known stream: as attach from 0, RC_CONFLICT for a term that is over, or replaced by a
 * newer fence; RC_STALE: by an older one. RC_UNKNOWN_MODEL; RC_BUSY: too many;
 * RC_UNAVAILABLE: draining. */
svc_rc live_generate(live_t *self, const generate_req_t *req, svc_str trace,
                     uint64_t call) SVC_MUST_CHECK;

/* Journals to `call` from now on. RC_LATER; RC_NOT_FOUND, RC_STALE, RC_TOO_OLD,
 * RC_INVALID. */
svc_rc live_attach(live_t *self, const attach_req_t *req, uint64_t call) SVC_MUST_CHECK;

/* Passes an ack on. RC_NOT_FOUND, RC_STALE, RC_INVALID. */
svc_rc live_ack(live_t *self, const ack_req_t *req) SVC_MUST_CHECK;

/* Stops a generation and its provider; one that is unknown is remembered. RC_STALE. */
svc_rc live_stop(live_t *self, const llm_stop_req_t *req) SVC_MUST_CHECK;

/* Gives released text; views good until the next turn. RC_NOT_FOUND, RC_STALE,
 * RC_TOO_OLD, RC_INVALID. */
svc_rc live_replay(live_t *self, const replay_req_t *req,
                   replay_rep_t *out) SVC_MUST_CHECK;

/* A kept call was cancelled. */
void live_call_gone(live_t *self, uint64_t call);

/* Takes no new generations, gives the running ones `grace_ms`, then ends them as
 * interrupted; calls `drained` when none is left. */
void live_drain(live_t *self, uint64_t grace_ms);

#endif
