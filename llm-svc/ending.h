/* ending.h - how an answer ended: what a provider reports and the journal's FINAL carries.
 *
 * A plain value of views; who keeps one copies what it points to. Made by providers,
 * kept by generations, sent by the journal. A problem has a code for programs and a
 * sentence for people; nothing here decides what either means. Thread: any. */
#ifndef LLM_SVC_ENDING_H
#define LLM_SVC_ENDING_H

#include "proto/proto.h"

#define ENDING_FINISH_MAX_BYTES PROTO_WORD_MAX_BYTES /* a longer one is cut */
#define ENDING_TEXT_MAX_BYTES   500 /* the sentence, a provider's own message included */

/* Why a provider failed, for metrics: finer than what a client is told. The names are live_metrics.c's. */
typedef enum {
    CAUSE_OTHER,
    CAUSE_UNREACHABLE,  /* no connection, no name, no trust */
    CAUSE_BROKEN,       /* the connection, or the answer, ended early */
    CAUSE_TIMEOUT,      /* it did not begin, or fell silent */
    CAUSE_KEY,          /* 401, 403, or a key that is none */
    CAUSE_RATE_LIMITED, /* 429 */
    CAUSE_REFUSED,      /* any other 4xx, or a request that cannot be made */
    CAUSE_SERVER,       /* any other status */
    CAUSE_MALFORMED,    /* what came is no answer */
    CAUSE_COUNT
} ending_cause;

typedef struct {
    svc_rc error;           /* RC_OK: it ended well */
    svc_str finish;         /* ended well: finish_reason, "stopped" or "length" */
    usage_t usage;          /* all 0: not told */
    svc_str text;           /* error: one sentence, valid UTF-8, no secret in it */
    uint64_t retry_after_s; /* error: when asking again may help; 0: not told */
    ending_cause cause;     /* error of a provider */
} ending_t;

#endif
