/* generation.h - one live answer: the log of its bytes, who has stored and who may see how much.
 *
 *        base            acked        sent         total
 *   ------|################|------------|------------|
 *         kept for replay    in flight    to be sent      journal: stop and wait
 *               released --^...^ at most GENERATION_AHEAD_BYTES past acked      gate
 *
 * Pure logic: every function is told the time, everything that goes out leaves by the
 * callbacks of generation_out_t, and only from generation_step. So its owner decides when to
 * send (once a turn, pieces merged), and a test can drive any interleaving. Knows no provider,
 * no socket, no clock. Thread: the loop's. */
#ifndef LLM_SVC_GENERATION_H
#define LLM_SVC_GENERATION_H

#include "ending.h"

#define GENERATION_AHEAD_BYTES     (64u << 10) /* shown at most so far past the last ack */
#define GENERATION_KEEP_BYTES      (64u << 10) /* journaled text that is kept for replay */
#define GENERATION_FRAME_MAX_BYTES (16u << 10) /* of text in one token frame */
#define GENERATION_PIECE_BYTES     4096 /* unsent text that makes a piece at once */
#define GENERATION_PIECE_MS        250  /* at most this long until the next piece */
#define GENERATION_REPEAT_MS       1000 /* an unacknowledged piece is sent again */
#define GENERATION_PATIENCE_MS     10000 /* then, without a sign of the owner, less often */
#define GENERATION_SLOW_REPEAT_MS \
    5000                              /* namely so: repeats pile up before a frozen one */
#define GENERATION_HOLD_MS       2000 /* an unacknowledged byte this old stops the show */
#define GENERATION_MARK_FIRST_MS 1000 /* silence before the first mark frame */
#define GENERATION_MARK_MS       5000 /* between mark frames */
#define GENERATION_ORPHAN_MS     60000 /* without a sign of an owner it is forgotten */

typedef struct generation generation_t;

/* Where the output goes. */
typedef struct {
    /* Sends a journal piece as reply of the kept call. RC_UNAVAILABLE: the call is gone;
     * RC_BUSY: dropped, it will be repeated; a final one, too, whose call stays open. */
    svc_rc (*journal)(void *arg, uint64_t call, const journal_rep_t *piece, bool final);
    /* Ends the kept call as timed out: its owner has said nothing for GENERATION_ORPHAN_MS. */
    void (*give_up)(void *arg, uint64_t call);
    /* Publishes a token frame. */
    void (*publish)(void *arg, const proto_token_t *token);
} generation_out_t;

/* Gives a generation for req's stream, fence and term, journaled by replies of `call`.
 * `out` (borrowed for life) gets `arg`. max_bytes: longer answers are cut and end with
 * "length". */
generation_t *generation_new(const generate_req_t *req, uint64_t call, size_t max_bytes,
                             const generation_out_t *out, void *arg, uint64_t now_ms);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void generation_destroy(generation_t **self_p);

/* --- from the provider ------------------------------------------------------------- */

/* Appends text: valid UTF-8 of whole characters. Ignored after the end. Check
 * generation_has_ended afterwards: text past the maximum ends it as "length", text for
 * which there is no memory as RC_INTERNAL. */
void generation_append(generation_t *self, svc_str text, uint64_t now_ms);

/* Ends the text; the first end counts. Copies. */
void generation_end(generation_t *self, const ending_t *ending);

/* --- from the owner (convo-svc); each is a sign of it ------------------------------ */

/* Everything before `journaled` is committed; `stored`: the end, too. RC_STALE: the term
 * is over. RC_INVALID: it names an offset that never was. */
svc_rc generation_ack(generation_t *self, const ack_req_t *ack,
                      uint64_t now_ms) SVC_MUST_CHECK;

/* Journals to `call` from now on, beginning at `from`, of which all before is committed.
 * RC_STALE: the term is over; RC_TOO_OLD: `from` is no longer, or not yet, here;
 * RC_INVALID: it is inside a character. */
svc_rc generation_attach(generation_t *self, uint64_t term, uint64_t from, uint64_t call,
                         uint64_t now_ms) SVC_MUST_CHECK;

/* Ends it as "stopped", unless it has ended. RC_STALE: the term is over. */
svc_rc generation_stop(generation_t *self, uint64_t term, uint64_t now_ms) SVC_MUST_CHECK;

/* The kept call was cancelled: its owner is out of reach. Other handles are ignored. */
void generation_call_gone(generation_t *self, uint64_t call, uint64_t now_ms);

/* We stood still, so the owner may have given this answer up: until it speaks again (ack, attach,
 * stop) nothing is shown that is not journaled. Its silence is counted from now on. */
void generation_doubt(generation_t *self, uint64_t now_ms);

/* --- from a viewer's gateway ------------------------------------------------------- */

/* Gives released text from `from` on, at most a page; empty: no more yet. Views into the
 * log, good until the next call. RC_TOO_OLD: no longer here; RC_INVALID: inside a
 * character. */
svc_rc generation_replay(const generation_t *self, uint64_t from,
                         replay_rep_t *out) SVC_MUST_CHECK;

/* --- time -------------------------------------------------------------------------- */

/* Sends and publishes whatever is due. Gives the time of the next due thing (UINT64_MAX:
 * none). */
uint64_t generation_step(generation_t *self, uint64_t now_ms);

/* True when it may be forgotten: stored, or no sign of an owner for
 * GENERATION_ORPHAN_MS after its call was lost. A call to which a piece was sent, and nothing
 * came back for as long, is given up: what is connected may be frozen. */
bool generation_is_over(const generation_t *self, uint64_t now_ms);

/* True when not all of its text is known to be stored, end included: forgotten now, it was written in vain. */
bool generation_is_wasted(const generation_t *self);

/* True when the text has ended (the provider is not wanted any more). */
bool generation_has_ended(const generation_t *self);

/* --- what it is -------------------------------------------------------------------- */

svc_str generation_stream(
    const generation_t *self); /* PROTO_STREAM_BYTES; lives as long as self */
uint64_t generation_fence(const generation_t *self);  /* which text */
uint64_t generation_term(const generation_t *self);   /* the highest seen */
uint64_t generation_call(const generation_t *self);   /* the kept call, 0: none */
uint64_t generation_length(const generation_t *self); /* bytes so far */

#endif
