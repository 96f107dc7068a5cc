/* convo_reader.h - the threads that read the database: list, history, text, status, prompts.
 *
 * Each has a connection of its own and sees the last commit; each job reads one moment. A reader
 * never waits for the writer, and a full disk does not keep it from reading.
 *
 * Thread: the pool's. */
#ifndef CONVO_READER_H
#define CONVO_READER_H

#include "convo_jobs.h"
#include "svc/svc_pool.h"

/* Functions of a svc_pool_config_t; `arg` of open is a const convo_workers_t *. The writer must have opened the database before. */
void *convo_reader_open(void *arg, char **error);
void convo_reader_work(void *state, svc_job_t *const *jobs, size_t n);
void convo_reader_close(void *state);

#endif
