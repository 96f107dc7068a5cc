/* bench_hist.h - how long something took, as a histogram: exact to 1 %, a few kB, any count.
 *
 * Buckets are 1 µs wide up to 128 µs, and 64 to each doubling from there to an hour. */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

#define BENCH_HIST_BUCKETS 2048

typedef struct {
    uint64_t count;                       /* of all buckets */
    uint64_t max_us;                      /* longest */
    uint32_t buckets[BENCH_HIST_BUCKETS]; /* how often */
} bench_hist_t;

/* Counts one. */
void bench_hist_add(bench_hist_t *self, uint64_t us);

/* What `share` (0 to 1) of all were not longer than; 0 when there are none. */
uint64_t bench_hist_at(const bench_hist_t *self, double share);

#endif
