/* svc_time.h - clocks.
 *
 * Deadlines on the wire and times in the database are Unix time, everything that measures a
 * duration is monotonic. A loop has its own, cheaper notion of now (svc_loop_now_ms), read once a
 * turn. Thread: any. */
#ifndef SVC_SVC_TIME_H
#define SVC_SVC_TIME_H

#include <stdbool.h>
#include <stdint.h>

/* Milliseconds since 1970. */
uint64_t svc_unix_ms(void);

/* Milliseconds and microseconds of the monotonic clock. */
uint64_t svc_mono_ms(void);
uint64_t svc_mono_us(void);

/* Until when something that was asked for may be done, by the wall clock of who asked. */
typedef struct {
    uint64_t
        moved_ms; /* from then on another process may have been asked the same; 0: never */
    uint64_t expires_ms; /* from then on nobody waits for it; 0: never */
} svc_until_t;

/* Is it too late at this moment (Unix ms)? */
static inline bool
svc_until_is_over(svc_until_t until, uint64_t unix_ms)
{
    return (until.moved_ms != 0 && until.moved_ms <= unix_ms) ||
           (until.expires_ms != 0 && until.expires_ms <= unix_ms);
}

#define SVC_TIME_TEXT_BYTES 24

/* Writes milliseconds since 1970 as 2026-01-31T23:59:59.999Z (UTC, not terminated), up to year 9999. */
void svc_time_text(uint64_t unix_ms, char out[SVC_TIME_TEXT_BYTES]);

#endif
