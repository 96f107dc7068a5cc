/* prompt.h - what is sent to a model: system prompt, the turns so far, the question.
 *
 * Turns whose answer stayed empty are left out together with their question. Comes from the
 * database alone, never from a cache. Called inside a read transaction.
 *
 * Thread: a reader's, or the writer's for what is short. */
#ifndef PROMPT_H
#define PROMPT_H

#include "convo_jobs.h"

/* Appends the encoded llm.generate of a waiting answer to `out`. RC_STALE: it is not waiting with that fence any more;
 * RC_TOO_BIG: longer than a prompt may be; RC_INVALID: its api key was sealed with another key. */
svc_rc prompt_build(convo_store_t *store, const convo_workers_t *workers,
                    const prompt_job_t *job, svc_buf_t *out) SVC_MUST_CHECK;

/* The same for the first question of a conversation, without the database: `row` is its answer's. Borrows all. */
svc_rc prompt_build_first(const convo_workers_t *workers, const answer_row_t *row,
                          svc_str model, svc_str sealed_key, svc_str question,
                          svc_buf_t *out) SVC_MUST_CHECK;

#endif
