/* svc_fault.h - places where a test may have this process die, hang or freeze, between any two steps of what it does.
 *
 * `test.die_at: ask.after_commit` kills the process (SIGKILL, so that nothing is tidied up) when it
 * comes there; `ask.after_commit:3` when it comes there for the third time. `test.hang_at` stops the thread that comes
 * there, and no other, for good. `test.freeze_at` stops the whole process there (SIGSTOP), until the test has it go on.
 * Off, a place costs a look at a pointer that is NULL. Threads: any. */
#ifndef SVC_SVC_FAULT_H
#define SVC_SVC_FAULT_H

#include "proto/base.h"

/* Every place; the names stand in svc_fault.c. */
typedef enum {
    /* convo-svc */
    FAULT_CREATE_RECEIVED,
    FAULT_ASK_RECEIVED,
    FAULT_ASK_BEFORE_COMMIT,
    FAULT_ASK_AFTER_COMMIT,
    FAULT_ASK_BEFORE_GENERATE,
    FAULT_ASK_AFTER_GENERATE,
    FAULT_JOURNAL_RECEIVED,
    FAULT_JOURNAL_BEFORE_COMMIT,
    FAULT_JOURNAL_AFTER_COMMIT,
    FAULT_JOURNAL_BEFORE_ACK,
    FAULT_JOURNAL_AFTER_ACK,
    FAULT_END_RECEIVED,
    FAULT_END_BEFORE_COMMIT,
    FAULT_END_AFTER_COMMIT,
    FAULT_END_BEFORE_TELL,
    FAULT_STOP_RECEIVED,
    FAULT_STOP_BEFORE_COMMIT,
    FAULT_STOP_AFTER_COMMIT,
    FAULT_DELETE_RECEIVED,
    FAULT_DELETE_BEFORE_COMMIT,
    FAULT_DELETE_AFTER_COMMIT,
    FAULT_RETRY_RECEIVED,
    FAULT_RETRY_BEFORE_COMMIT,
    FAULT_RETRY_AFTER_COMMIT,
    FAULT_TAKEOVER_BEFORE_COMMIT,
    FAULT_TAKEOVER_AFTER_COMMIT,
    FAULT_TAKEOVER_BEFORE_ATTACH,
    /* llm-svc */
    FAULT_GENERATE_RECEIVED,
    FAULT_GENERATE_BEFORE_PIECE,
    FAULT_GENERATE_AFTER_PIECE,
    FAULT_GENERATE_AFTER_ACK,
    FAULT_GENERATE_GATE_OPENED,
    FAULT_GENERATE_BEFORE_FINAL,
    FAULT_GENERATE_AFTER_FINAL,
    /* gateway */
    FAULT_GATEWAY_ASK_SENT,
    FAULT_GATEWAY_FIRST_STATUS,
    FAULT_GATEWAY_FIRST_SHOWN,
    FAULT_GATEWAY_TAIL_SENT,
    FAULT_POINTS
} svc_fault_point;

typedef struct svc_fault svc_fault_t;

/* Reads `point` or `point:n`, three times. NULL and *error NULL: all are empty, nothing happens anywhere. NULL and *error (owned):
 * no such point. */
svc_fault_t *svc_fault_new(const char *die_at, const char *hang_at, const char *freeze_at,
                           char **error);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void svc_fault_destroy(svc_fault_t **self_p);

/* Dies, hangs or freezes when this is the point, and it is the time. Who freezes returns when it has thawed. */
void svc_fault_hit(svc_fault_t *self, svc_fault_point point);

/* What stands in the code: nothing happens unless a test wants so. */
static inline void
svc_fault_at(svc_fault_t *self, svc_fault_point point)
{
    if (self != NULL)
        svc_fault_hit(self, point);
}

#endif
