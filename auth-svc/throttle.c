/* throttle.c - the table of failures: a hash table and a list by the time of the last change.
 *
 * Attempts that are being hashed count as failures as soon as there is a failure already, so
 * that a burst of parallel guesses gains nothing over guesses one by one but the first burst. A
 * pair without failures and attempts is removed at once: right passwords leave nothing behind. */
#include "throttle.h"

#include "svc/svc_secret.h"
#include "svc/svc_table.h"

#include <sodium.h>
#include <stdlib.h>

typedef struct pair {
    svc_table_node_t node;      /* first: cast from table nodes; key is the keyed hash */
    struct pair *older, *newer; /* by last change */
    uint64_t first_ms;          /* of the failures that are counted */
    uint64_t last_ms;           /* the latest failure */
    uint64_t paused_until_ms;   /* no attempt before */
    uint32_t failures;          /* within the window */
    uint32_t running;           /* attempts that have begun and not ended */
    uint32_t pause_s;           /* the next pause, 0: none so far */
} pair_t;

_Static_assert(crypto_shorthash_KEYBYTES == THROTTLE_KEY_BYTES, "the header tells it");

struct throttle {
    uint32_t limit;     /* failures before the first pause */
    uint64_t window_ms; /* see the header */
    unsigned char
        secret[crypto_shorthash_KEYBYTES]; /* so that nobody can aim at another's pair */
    svc_table_t pairs;                     /* owns the pairs */
    pair_t *oldest, *newest;               /* by last change */
};

throttle_t *
throttle_new(uint32_t limit, uint32_t window_s, const uint8_t key[THROTTLE_KEY_BYTES])
{
    throttle_t *self = svc_alloc(sizeof(*self));

    throttle_set(self, limit, window_s);
    if (key != NULL)
        memcpy(self->secret, key, sizeof(self->secret));
    else
        svc_random(self->secret, sizeof(self->secret));
    return self;
}

void
throttle_set(throttle_t *self, uint32_t limit, uint32_t window_s)
{
    self->limit = limit;
    self->window_ms = (uint64_t)window_s * 1000u;
}

/* --- pairs ------------------------------------------------------------------------------- */

static void
unlink_pair(throttle_t *self, pair_t *pair)
{
    *(pair->older != NULL ? &pair->older->newer : &self->oldest) = pair->newer;
    *(pair->newer != NULL ? &pair->newer->older : &self->newest) = pair->older;
    pair->older = pair->newer = NULL;
}

static void
append_pair(throttle_t *self, pair_t *pair)
{
    pair->older = self->newest;
    *(self->newest != NULL ? &self->newest->newer : &self->oldest) = pair;
    self->newest = pair;
}

static void
forget_pair(throttle_t *self, pair_t *pair)
{
    unlink_pair(self, pair);
    (void)svc_table_remove(&self->pairs, pair->node.key);
    free(pair);
}

/* Forgets what is over, oldest first, and what the table cannot hold. Pairs with running attempts stay: those are bounded by the queue. */
static void
make_room(throttle_t *self, uint64_t now_ms)
{
    pair_t *next;

    for (pair_t *pair = self->oldest; pair != NULL; pair = next) {
        bool is_over = now_ms >= pair->last_ms + self->window_ms &&
                       now_ms >= pair->paused_until_ms;

        next = pair->newer;
        if (pair->running > 0)
            continue;
        if (!is_over && self->pairs.n < THROTTLE_PAIRS_MAX)
            break;
        forget_pair(self, pair);
    }
}

static uint64_t
key_of(const throttle_t *self, svc_str username, svc_str address)
{
    unsigned char text[512 + 1];
    unsigned char hash[crypto_shorthash_BYTES];
    size_t n = username.n < 384 ? username.n : 384;
    size_t m = address.n < 128 ? address.n : 128;
    uint64_t key;

    if (n > 0)
        memcpy(text, username.p, n);
    text[n] = 0xff; /* in no UTF-8, so it separates */
    if (m > 0)
        memcpy(text + n + 1, address.p, m);
    crypto_shorthash(hash, text, n + 1 + m, self->secret);
    memcpy(&key, hash, sizeof(key));
    return key;
}

void
throttle_destroy(throttle_t **self_p)
{
    if (self_p == NULL || *self_p == NULL)
        return;
    while ((*self_p)->oldest != NULL)
        forget_pair(*self_p, (*self_p)->oldest);
    svc_table_fini(&(*self_p)->pairs);
    free(*self_p);
    *self_p = NULL;
}

/* --- attempts ---------------------------------------------------------------------------- */

/* True when the failures of a pair are too long ago to count: past the limit each one counts anew. */
static bool
is_stale(const throttle_t *self, const pair_t *pair, uint64_t now_ms)
{
    uint64_t since = pair->failures >= self->limit ? pair->last_ms : pair->first_ms;

    return now_ms >= since + self->window_ms && now_ms >= pair->paused_until_ms;
}

/* Milliseconds until an attempt may begin; 0: now. */
static uint64_t
wait_of(const throttle_t *self, const pair_t *pair, uint64_t now_ms)
{
    if (now_ms < pair->paused_until_ms)
        return pair->paused_until_ms - now_ms;
    if (pair->failures >= self->limit && pair->running > 0)
        return 1000; /* the one attempt after a pause is being looked at */
    if (pair->failures > 0 && pair->failures < self->limit &&
        pair->failures + pair->running >= self->limit)
        return 1000;
    return 0;
}

svc_rc
throttle_begin(throttle_t *self, svc_str username, svc_str address, uint64_t now_ms,
               uint64_t *key_out, uint64_t *wait_s_out)
{
    uint64_t key = key_of(self, username, address);
    pair_t *pair = (pair_t *)svc_table_get(&self->pairs, key);
    uint64_t wait_ms;

    if (pair == NULL) {
        make_room(self, now_ms);
        pair = svc_alloc(sizeof(*pair));
        svc_table_add(&self->pairs, &pair->node, key);
        pair->last_ms = now_ms;
        append_pair(self, pair);
    }
    if (is_stale(self, pair, now_ms))
        pair->failures = pair->pause_s = 0;
    wait_ms = wait_of(self, pair, now_ms);
    if (wait_ms > 0) {
        *wait_s_out = (wait_ms + 999) / 1000;
        return RC_THROTTLED;
    }
    pair->running++;
    *key_out = key;
    return RC_OK;
}

/* Counts a failure and sets the pause that follows from it. */
static void
count_failure(throttle_t *self, pair_t *pair, uint64_t now_ms)
{
    if (is_stale(self, pair, now_ms))
        pair->failures = pair->pause_s = 0;
    if (pair->failures == 0)
        pair->first_ms = now_ms;
    pair->failures++;
    pair->last_ms = now_ms;
    if (pair->failures >= self->limit) {
        pair->pause_s = pair->pause_s == 0 ? 1 : pair->pause_s * 2;
        if (pair->pause_s > THROTTLE_PAUSE_MAX_S)
            pair->pause_s = THROTTLE_PAUSE_MAX_S;
        pair->paused_until_ms = now_ms + (uint64_t)pair->pause_s * 1000u;
    }
    unlink_pair(self, pair);
    append_pair(self, pair);
}

svc_rc
throttle_end(throttle_t *self, uint64_t key, throttle_outcome outcome, uint64_t now_ms,
             uint64_t *wait_s_out)
{
    pair_t *pair = (pair_t *)svc_table_get(&self->pairs, key);
    uint64_t wait_ms;

    SVC_ASSERT(pair != NULL && pair->running > 0);
    pair->running--;
    wait_ms = now_ms < pair->paused_until_ms ? pair->paused_until_ms - now_ms : 0;
    if (wait_ms > 0 && outcome != THROTTLE_UNDECIDED) {
        *wait_s_out = (wait_ms + 999) / 1000;
        return RC_THROTTLED;
    }
    if (outcome == THROTTLE_WRONG) {
        count_failure(self, pair, now_ms);
    } else if (outcome == THROTTLE_RIGHT) {
        pair->failures = 0;
        pair->pause_s = 0;
        pair->paused_until_ms = 0;
    }
    if (pair->failures == 0 && pair->running == 0)
        forget_pair(self, pair);
    return RC_OK;
}

/* How long ago, or how long from now. */
static uint64_t
distance(uint64_t from_ms, uint64_t to_ms)
{
    return to_ms > from_ms ? to_ms - from_ms : 0;
}

throttle_state_t
throttle_look(const throttle_t *self, uint64_t key, uint64_t now_ms)
{
    const pair_t *pair = (const pair_t *)svc_table_get(&self->pairs, key);

    SVC_ASSERT(pair != NULL && pair->running > 0);
    return (throttle_state_t){.failures = pair->failures,
                              .pause_s = pair->pause_s,
                              .first_age_ms = distance(pair->first_ms, now_ms),
                              .last_age_ms = distance(pair->last_ms, now_ms),
                              .rest_ms = distance(now_ms, pair->paused_until_ms)};
}

void
throttle_settle(throttle_t *self, uint64_t key, const throttle_state_t *state,
                uint64_t now_ms)
{
    pair_t *pair = (pair_t *)svc_table_get(&self->pairs, key);

    SVC_ASSERT(pair != NULL && pair->running > 0);
    pair->running--;
    pair->failures = state->failures;
    pair->pause_s = state->pause_s;
    pair->first_ms = distance(state->first_age_ms, now_ms);
    pair->last_ms = distance(state->last_age_ms, now_ms);
    pair->paused_until_ms = state->rest_ms == 0 ? 0 : now_ms + state->rest_ms;
    if (pair->failures == 0 && pair->running == 0) {
        forget_pair(self, pair);
        return;
    }
    unlink_pair(self, pair);
    append_pair(self, pair);
}

size_t
throttle_size(const throttle_t *self)
{
    return self->pairs.n;
}
