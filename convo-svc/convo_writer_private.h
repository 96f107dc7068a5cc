/* convo_writer_private.h - what the files of the writer share.
 *
 * Private to convo_writer.c (the thread: batches, transactions, its life), convo_writer_conversations.c and
 * convo_writer_answers.c (what the jobs do). A job runs inside the transaction of its batch; what it looks at first is the
 * row of its conversation, which is locked from then on. */
#ifndef CONVO_WRITER_PRIVATE_H
#define CONVO_WRITER_PRIVATE_H

#include "convo_writer.h"

#define WRITER_HASH_BYTES 32 /* of what was asked with a key */

typedef struct {
    const convo_workers_t *workers; /* borrowed */
    convo_store_t *store;           /* owned, writes */
    proto_arena_t *arena;           /* owned */
    svc_buf_t prompt;               /* of the question at hand: may hold an api key */
    svc_buf_t result[CONVO_WRITER_BATCH]; /* of this batch, kept until the commit */
    svc_rc rc[CONVO_WRITER_BATCH];        /* likewise */
} writer_t;

/* What of a conversation a job needs after its row is gone. */
typedef struct {
    uint64_t user; /* who asks; another owner: RC_NOT_FOUND */
    uint64_t version, last_message, turns, turn_bytes; /* of the row */
    bool answering;
    char model[PROTO_MODEL_MAX_BYTES], sealed[SEAL_MAX_BYTES]; /* copies */
    size_t model_n, sealed_n;
} writer_owned_t;

/* What a job does: `arg` is its payload decoded, `out` takes its result. Anything but RC_OK undoes it. */
typedef svc_rc writer_job_fn(writer_t *self, const void *arg, svc_buf_t *out);

/* Conversations: create_req_t, conversation_req_t. */
writer_job_fn writer_create, writer_delete;

/* Answers: ask_req_t, retry_req_t, watch_req_t, answer_step_t, restart_job_t. */
writer_job_fn writer_ask, writer_retry, writer_stop, writer_step, writer_restart;

/* A version that no earlier state of this conversation had, not even one in a database that was restored from a backup while the
 * cache went on: raised by one and something random. */
uint64_t writer_next_version(uint64_t version);

/* Reads a conversation of `user`, whose row is locked until the end of the transaction. RC_NOT_FOUND: it is not there, or of
 * somebody else. */
svc_rc writer_get_owned(writer_t *self, uint64_t conversation, uint64_t user,
                        writer_owned_t *own);

#endif
