/* svc_time.h - clocks. Deadlines on the wire are Unix ms, everything else is monotonic. Thread: any. */
#ifndef SVC_SVC_TIME_H
#define SVC_SVC_TIME_H

#include <stdint.h>

/* Milliseconds since 1970. */
uint64_t svc_unix_ms(void);

/* Milliseconds and microseconds of the monotonic clock. */
uint64_t svc_mono_ms(void);
uint64_t svc_mono_us(void);

#endif
