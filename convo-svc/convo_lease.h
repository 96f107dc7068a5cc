/* convo_lease.h - the lease of this process, and the answers of those that have lost theirs.
 *
 * Only where several processes share a database. Each second a thread of its own renews our lease
 * (by the database's clock), takes over unfinished answers whose owner has none, and reads which
 * answers the database counts as ours. The loop then begins what was taken, stops what somebody
 * has asked to stop elsewhere, takes up what is ours and not here, and doubts what is no longer ours. The lease is politeness: it keeps
 * two from working at the same answer; that only one can write is the term's doing.
 *
 * Thread: the loop's. */
#ifndef CONVO_LEASE_H
#define CONVO_LEASE_H

#include "answers.h"

#define CONVO_LEASE_TAKE_MAX 256 /* answers taken over by one statement */

typedef struct convo_lease convo_lease_t;

/* How long what takes, in ms. */
typedef struct {
    uint64_t lease; /* from the latest renewal on */
    uint64_t look;  /* between two looks */
    uint64_t hurry; /* the same, while answers are handed over */
} convo_lease_times_t;

/* What the service goes by; tests have shorter ones. */
extern const convo_lease_times_t convo_lease_usual_times;

/* Takes the lease and begins to look. Keeps all but error; they outlive it. NULL with *error (free() it). */
convo_lease_t *convo_lease_new(svc_ctx_t *ctx, answers_t *answers,
                               const convo_workers_t *workers,
                               const convo_lease_times_t *times, char **error);

/* Ends the thread; the lease runs out by itself. Sets *self_p to NULL. NULL-safe. */
void convo_lease_destroy(convo_lease_t **self_p);

/* Gives the lease back and takes nothing over any more: others take what is ours, and our looks notice. */
void convo_lease_drop(convo_lease_t *self);

/* True while nobody else can take what is ours: what we remember of our answers is what the database says of them, but for
 * those that the last look has not found among ours (answers_is_doubted). */
bool convo_lease_holds(const convo_lease_t *self);

/* Has it held for as long as any question may have waited for its commit? Else what is committed only now may have been taken over
 * before, although the lease holds again. */
bool convo_lease_is_steady(const convo_lease_t *self);

#endif
