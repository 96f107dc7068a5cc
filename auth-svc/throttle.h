/* throttle.h - who has guessed passwords too often, and how long they must wait.
 *
 * Counted per user and address, so that somebody who guesses from afar locks nobody out at home.
 *
 *   attempt --wrong--> failures + 1; from `limit` failures within `window` on: a pause of 1 s, then
 *                      2 s, 4 s ... 60 s after each further wrong one, one attempt at a time
 *           --right--> forgotten
 *           `window` without a failure: forgotten
 *
 * The table is bounded (65536 pairs); when it is full, the one that was quiet longest is
 * forgotten. Names are kept as keyed hashes only. Thread: the front thread. */
#ifndef AUTH_THROTTLE_H
#define AUTH_THROTTLE_H

#include "proto/base.h"

#define THROTTLE_PAIRS_MAX   65536
#define THROTTLE_PAUSE_MAX_S 60

#define THROTTLE_KEY_BYTES 16

typedef struct throttle throttle_t;

/* What is remembered of a pair, fit for telling other replicas: no moments, but how long ago and how long from now. */
typedef struct {
    uint32_t failures;     /* within the window */
    uint32_t pause_s;      /* the latest pause; 0: none so far */
    uint64_t first_age_ms; /* of the first failure that counts */
    uint64_t last_age_ms;  /* of the latest one */
    uint64_t rest_ms;      /* of the pause */
} throttle_state_t;

/* Gives a table that pauses after `limit` failures within `window_s`. Pairs get their numbers by the secret `key`; NULL: a random one
 * (with the same key, replicas number alike). */
throttle_t *throttle_new(uint32_t limit, uint32_t window_s,
                         const uint8_t key[THROTTLE_KEY_BYTES]);

/* Judges by other numbers from now on; what was counted stays. */
void throttle_set(throttle_t *self, uint32_t limit, uint32_t window_s);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void throttle_destroy(throttle_t **self_p);

/* Begins an attempt: RC_OK and *key_out for throttle_end, or RC_THROTTLED and *wait_s_out, 1..60. `now_ms` is monotonic. */
svc_rc throttle_begin(throttle_t *self, svc_str username, svc_str address,
                      uint64_t now_ms, uint64_t *key_out,
                      uint64_t *wait_s_out) SVC_MUST_CHECK;

/* How an attempt ended. UNDECIDED: the password was never looked at (a full queue, a fault of ours). */
typedef enum { THROTTLE_RIGHT, THROTTLE_WRONG, THROTTLE_UNDECIDED } throttle_outcome;

/* Ends an attempt that began with RC_OK. RC_THROTTLED and *wait_s_out: so many that ran beside it were wrong that a pause has
 * begun meanwhile; its outcome counts for nothing and must not be told, or a burst would be that many free guesses. */
svc_rc throttle_end(throttle_t *self, uint64_t key, throttle_outcome outcome,
                    uint64_t now_ms, uint64_t *wait_s_out);

/* What is known of the pair of an attempt that has begun. */
throttle_state_t throttle_look(const throttle_t *self, uint64_t key, uint64_t now_ms);

/* Ends an attempt whose outcome was counted elsewhere: takes over what is known there now. */
void throttle_settle(throttle_t *self, uint64_t key, const throttle_state_t *state,
                     uint64_t now_ms);

/* How many pairs are remembered. */
size_t throttle_size(const throttle_t *self);

#endif
