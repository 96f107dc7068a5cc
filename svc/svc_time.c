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

/* Writes the last n digits of a number. */
static char *
put_digits(char *p, uint64_t number, int n)
{
    for (int i = n - 1; i >= 0; i--, number /= 10)
        p[i] = (char)('0' + number % 10);
    return p + n;
}

/* By hand: gmtime_r takes a lock, and with strftime it was half of the time that a line of the log took. Days are
 * counted from 1 March of year 0, so that a leap day is the last of its year. */
void
svc_time_text(uint64_t unix_ms, char out[SVC_TIME_TEXT_BYTES])
{
    const uint64_t s = unix_ms / 1000 % 86400;
    const uint64_t days = unix_ms / 86400000 + 719468;
    const uint64_t era = days / 146097, day_of_era = days % 146097; /* of 400 years */
    const uint64_t year = (day_of_era - day_of_era / 1460 + day_of_era / 36524 -
                           day_of_era / 146096) /
                          365; /* of the era */
    const uint64_t day = day_of_era - (365 * year + year / 4 - year / 100);
    const uint64_t month = (5 * day + 2) / 153; /* 0: March */
    char *p = put_digits(out, era * 400 + year + (month >= 10), 4);

    *p++ = '-';
    p = put_digits(p, month < 10 ? month + 3 : month - 9, 2);
    *p++ = '-';
    p = put_digits(p, day - (153 * month + 2) / 5 + 1, 2);
    *p++ = 'T';
    p = put_digits(p, s / 3600, 2);
    *p++ = ':';
    p = put_digits(p, s / 60 % 60, 2);
    *p++ = ':';
    p = put_digits(p, s % 60, 2);
    *p++ = '.';
    p = put_digits(p, unix_ms % 1000, 3);
    *p = 'Z';
}
