/* convo_writer.h - the one thread that changes the database: group commit.
 *
 * Everything that has queued up becomes one transaction with a savepoint per job; the results go
 * out after the COMMIT, so that whatever anybody hears of is on the disk. A job that is refused
 * (not found, conflict, stale) is undone alone. When the disk fails, all jobs of the batch
 * get RC_UNAVAILABLE, and none of them has happened.
 *
 * Thread: the pool's. `convo_writer_open` may also be used on a thread of a test. */
#ifndef CONVO_WRITER_H
#define CONVO_WRITER_H

#include "convo_jobs.h"
#include "svc/svc_pool.h"

#define CONVO_WRITER_BATCH 128 /* jobs of one transaction */

/* Functions of a svc_pool_config_t; `arg` of open is a const convo_workers_t *. Opens and migrates the database and checks
 * that its keys are sealed with our key. */
void *convo_writer_open(void *arg, char **error);
void convo_writer_work(void *state, svc_job_t *const *jobs, size_t n);
void convo_writer_rest(void *state);
void convo_writer_close(void *state);

#endif
