/* clock_skew.c - a wall clock that a test sets forth and back, for one process: LD_PRELOAD=…/clock_skew.so.
 *
 * CLOCK_SKEW_FILE names a file of eight bytes, seconds as a little-endian signed number, that is mapped: what the test writes
 * there counts at once. Only the wall clock is bent, by whatever name it is asked for; what measures durations goes on as it
 * does when an operator or an NTP daemon sets the clock. Without the file nothing is changed. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *skew_s; /* mapped, NULL: none */

__attribute__((constructor)) static void
map_skew(void)
{
    const char *path = getenv("CLOCK_SKEW_FILE");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *map = MAP_FAILED;

    if (fd >= 0) {
        map = mmap(NULL, sizeof(*skew_s), PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
    }
    if (map != MAP_FAILED)
        skew_s = map;
}

int
clock_gettime(clockid_t clock, struct timespec *out)
{
    int result = (int)syscall(SYS_clock_gettime, clock, out);

    if (result == 0 && skew_s != NULL &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        out->tv_sec += *skew_s;
    return result;
}

int
gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t
time(time_t *out)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}
