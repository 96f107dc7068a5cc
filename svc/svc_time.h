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

#endif
