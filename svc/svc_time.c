/* svc_time.c - clocks.
 *
 * Thin wrappers over clock_gettime, which on Linux needs no system call. The wall clock serves
 * what leaves the process (deadlines on the wire, created_time); everything that measures a
 * duration uses the monotonic one, which nobody can set back. */
#include "svc_time.h"

#include <time.h>

static uint64_t
read_us(clockid_t clock)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t
svc_unix_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000u;
}

uint64_t
svc_mono_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000u;
}

uint64_t
svc_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}
