/* svc_seldom.h - a line of the log that may come too often: a few a minute, and how many there were besides.
 *
 * For what lasts, or what somebody else decides how often it happens: no descriptors, clocks that
 * differ, strangers on the bus. What is to be counted whole is counted by metrics. One struct for each
 * kind of line, all zero at first. No locks, no clock of its own. Thread: its owner's. */
#ifndef SVC_SVC_SELDOM_H
#define SVC_SVC_SELDOM_H

#include "proto/base.h"

#define SVC_SELDOM_MS 60000 /* a window, from the first line in it on */

typedef struct {
    uint64_t began_ms; /* of this window, monotonic; 0: there was none yet */
    unsigned told;     /* lines in it */
    uint64_t untold;   /* since the last line */
} svc_seldom_t;

/* May it be told now (monotonic ms)? At most `max` times in a window. *untold (may be NULL; only written when it may): how
 * many were not since the last time. */
bool svc_seldom(svc_seldom_t *self, unsigned max, uint64_t now_ms,
                uint64_t *untold) SVC_MUST_CHECK;

#endif
