/* bench_hist.c - how long something took, as a histogram.
 *
 * Log-linear: the highest bits of the number are the bucket. */
#include "bench_hist.h"

static uint32_t
bucket_of(uint64_t us)
{
    if (us < 128)
        return (uint32_t)us;
    uint32_t shift = 57u - (uint32_t)__builtin_clzll(us); /* leaves 7 bits: 64 to 127 */
    uint32_t bucket = 64 * shift + (uint32_t)(us >> shift);
    return bucket < BENCH_HIST_BUCKETS ? bucket : BENCH_HIST_BUCKETS - 1;
}

static uint64_t
middle_of(uint32_t bucket)
{
    if (bucket < 128)
        return bucket;
    uint32_t shift = bucket / 64 - 1;
    return ((uint64_t)(bucket - 64 * shift) << shift) + ((1ull << shift) / 2);
}

void
bench_hist_add(bench_hist_t *self, uint64_t us)
{
    self->count++;
    self->max_us = us > self->max_us ? us : self->max_us;
    self->buckets[bucket_of(us)]++;
}

uint64_t
bench_hist_at(const bench_hist_t *self, double share)
{
    uint64_t wanted = (uint64_t)((double)self->count * share);
    uint64_t seen = 0;

    for (uint32_t i = 0; i < BENCH_HIST_BUCKETS; i++) {
        seen += self->buckets[i];
        if (seen > wanted || (seen == self->count && seen > 0))
            return middle_of(i);
    }
    return 0;
}
