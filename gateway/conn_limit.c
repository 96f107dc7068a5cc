/* conn_limit.c - how many connections may one address hold? Shared by all reactors.
 *
 *     row 0   [ 0 | 3 | 0 | ... ]   an address has one counter in each row; it may enter while
 *     row 1   [ 1 | 0 | 3 | ... ]   the smaller of its two is below the limit
 *
 * Two threads that enter at the same moment may both take the last place; a limit that
 * is one too generous for a moment is no reason for a lock. */
#include "conn_limit.h"

#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

#define ROWS 2
#define SLOTS \
    16384u /* of a row; with 10,000 connections few counters are shared at all */

struct conn_limit {
    atomic_uint max; /* per address; 0: no limit */
    unsigned char
        key[ROWS]
           [crypto_shorthash_KEYBYTES]; /* secret, so that nobody can aim collisions */
    atomic_uint counts[ROWS][SLOTS];    /* connections */
};

conn_limit_t *
conn_limit_new(uint32_t max)
{
    conn_limit_t *self = svc_alloc(sizeof *self);

    atomic_init(&self->max, max);
    for (size_t row = 0; row < ROWS; row++)
        randombytes_buf(self->key[row], sizeof self->key[row]);
    return self;
}

void
conn_limit_set(conn_limit_t *self, uint32_t max)
{
    atomic_store_explicit(&self->max, max, memory_order_relaxed);
}

void
conn_limit_destroy(conn_limit_t **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

/* The counter of `addr` in one row. */
static atomic_uint *
counter_of(conn_limit_t *self, size_t row, const client_addr_t *addr)
{
    static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    size_t n = memcmp(addr->bytes, v4_prefix, sizeof v4_prefix) == 0 ? 16 : 8;
    unsigned char hash[crypto_shorthash_BYTES];
    uint32_t slot;

    crypto_shorthash(hash, addr->bytes, n, self->key[row]);
    memcpy(&slot, hash, sizeof slot);
    return &self->counts[row][slot % SLOTS];
}

bool
conn_limit_enter(conn_limit_t *self, const client_addr_t *addr)
{
    const unsigned max = atomic_load_explicit(&self->max, memory_order_relaxed);
    bool has_room = max == 0;

    for (size_t row = 0; row < ROWS && !has_room; row++)
        has_room = atomic_load(counter_of(self, row, addr)) < max;
    for (size_t row = 0; row < ROWS && has_room; row++)
        atomic_fetch_add(counter_of(self, row, addr), 1);
    return has_room;
}

void
conn_limit_leave(conn_limit_t *self, const client_addr_t *addr)
{
    for (size_t row = 0; row < ROWS; row++)
        atomic_fetch_sub(counter_of(self, row, addr), 1);
}
