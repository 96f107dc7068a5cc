/* answers.h - all live answers of this process, and their way to the database and to llm-svc.
 *
 * An answer lives here from the commit of its question (or from the start, when it was found
 * unfinished) until its end is stored. The table finds it by stream, by conversation and by the
 * handle that names it in jobs: what comes back for an answer that is gone meanwhile is dropped.
 *
 * Thread: the loop's. */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "answer.h"
#include "svc/svc_peers.h"
#include "svc/svc_pool.h"
#include "svc/svc_server.h"

#define ANSWERS_MAX 16384 /* live ones; one more question is RC_BUSY */
#define ANSWERS_WATCH_HOLD_MS \
    12000 /* a kept call of a viewer lives this long after its latest part */

typedef struct answers answers_t;

/* Gives an empty table. Keeps ctx; the others are told by answers_set. */
answers_t *answers_new(svc_ctx_t *ctx);

/* Names what answers work with; all of them outlive the table's last use but for answers_destroy, which needs
 * server and llm. */
void answers_set(answers_t *self, svc_server_t *server, svc_pool_t *writer,
                 svc_pool_t *reader, svc_peers_t *llm);

/* Names the clock (borrowed for life) that is not 0 while the writer waits to hear what became of a commit: no step is queued then,
 * so that none is committed at the first moment that the database is back, before anybody else is. */
void answers_set_away(answers_t *self, const atomic_uint_least64_t *away_ms);

/* Names who tells whether anybody may watch here at present (both borrowed for life); without it always. */
void answers_set_admission(answers_t *self, bool (*admits)(const void *arg),
                           const void *arg);

/* Ends all of them here (their rows stay as they are), frees the table and sets *self_p to NULL. NULL-safe. */
void answers_destroy(answers_t **self_p);

/* Takes up an unfinished row (copied): `is_known` as in answer_new. Gives the answer; the one that is there already, when its
 * term is not older. What else is there of its conversation is over, and given up. */
answer_t *answers_add(answers_t *self, const answer_row_t *row, bool is_known);

/* Begins what was added, once the process runs; what has begun goes on as it is. `trace`: of the question, may be empty. `prompt`: its encoded generate_req_t
 * (borrowed), empty: a reader builds it. */
void answers_begin(answers_t *self, answer_t *answer, svc_str trace, svc_str prompt);
void answers_begin_all(answers_t *self);

/* The live answer of a stream, or of a conversation; NULL when there is none. */
answer_t *answers_by_stream(answers_t *self, svc_str stream);
answer_t *answers_by_conversation(answers_t *self, uint64_t conversation);

/* How many live; how many of them are under way and will get on by themselves. */
size_t answers_count(const answers_t *self);
size_t answers_busy(const answers_t *self);

/* Makes a kept call a watcher of the answer (answer_watch, answer_watch_end). When there are too many, the oldest watch is
 * refused instead: RC_UNAVAILABLE. */
svc_rc answers_watch(answers_t *self, answer_t *answer, svc_call_t *call) SVC_MUST_CHECK;
svc_rc answers_watch_end(answers_t *self, answer_t *answer,
                         svc_call_t *call) SVC_MUST_CHECK;

/* Whoever sent `by` watches this answer no more: its calls are dropped. */
void answers_unwatch(answers_t *self, answer_t *answer, const svc_call_t *by);

/* A stop of this answer, or the deletion of its conversation, was committed. */
void answers_stop(answers_t *self, answer_t *answer);
void answers_delete(answers_t *self, answer_t *answer);

/* A look at what the database counts as ours begins; gives its number, from 1. */
uint64_t answers_begin_look(answers_t *self);

/* One of ours, as that look saw it: stops it if that is wanted. False: it is not here, or only with an older term. */
bool answers_see(answers_t *self, const answer_row_t *row, uint64_t look);

/* That look has seen all of ours: those that were here before it began and that it has not seen are doubted. */
void answers_doubt_unseen(answers_t *self, uint64_t look);

/* True when the last whole look did not find it among ours, and its row has not been read since: nothing may be told of it
 * from memory, somebody else may have gone on, or ended it and begun the next one. */
bool answers_is_doubted(answers_t *self, const answer_t *answer);

/* svc_peer_event_fn of the llm-svc; arg is the table. */
void answers_on_llm(void *arg, svc_peer_event event, uint64_t instance);

#endif
