/* svc_time.h - clocks.
 *
 * Deadlines on the wire and times in the database are Unix time, everything that measures a
 * duration is monotonic. A loop has its own, cheaper notion of now (svc_loop_now_ms), read once a
 * turn. Thread: any. */
#ifndef SVC_SVC_TIME_H
#define SVC_SVC_TIME_H

#include <stdint.h>

/* Milliseconds since 1970. */
uint64_t svc_unix_ms(void);

/* Milliseconds and microseconds of the monotonic clock. */
uint64_t svc_mono_ms(void);
uint64_t svc_mono_us(void);

#define SVC_TIME_TEXT_BYTES 24

/* Writes milliseconds since 1970 as 2026-01-31T23:59:59.999Z (UTC, not terminated), up to year 9999. */
void svc_time_text(uint64_t unix_ms, char out[SVC_TIME_TEXT_BYTES]);

#endif
