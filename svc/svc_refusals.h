/* svc_refusals.h - whom the bus has refused: counted always, logged within bounds.
 *
 * Who is not let in may try again as fast as the network carries it, so the log gets the first few of each kind in a
 * minute, and how many there were besides with the first of the next minute. The counters tell all.
 * Thread: any. */
#ifndef SVC_SVC_REFUSALS_H
#define SVC_SVC_REFUSALS_H

#include "svc/svc_log.h"
#include "svc/svc_metrics.h"

#define SVC_REFUSALS_LOGGED 5 /* of each kind in SVC_SELDOM_MS */

typedef enum {
    SVC_REFUSED_STRANGER, /* a key that nobody of ours has, or that has no business here */
    SVC_REFUSED_HANDSHAKE, /* no key at all, one for another server, or no ZeroMQ */
    SVC_REFUSED_CALL,      /* one of ours, that may not call this */
    SVC_REFUSED_COUNT
} svc_refusal;

typedef struct svc_refusals svc_refusals_t;

/* Gives an empty record. Keeps both, which may be NULL. */
svc_refusals_t *svc_refusals_new(svc_metrics_t *metrics, svc_log_t *log);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void svc_refusals_destroy(svc_refusals_t **self_p);

/* Counts one, and says it in the log (a sentence) unless there were too many. NULL-safe. */
void svc_refusals_note(svc_refusals_t *self, svc_refusal kind, const char *fmt, ...)
    SVC_PRINTF(3, 4);

/* The same at a given time (monotonic ms), for tests. */
void svc_refusals_note_at(svc_refusals_t *self, uint64_t now_ms, svc_refusal kind,
                          const char *text);

#endif
