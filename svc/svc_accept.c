/* svc_accept.c - accepting connections when descriptors have run out.
 *
 * One descriptor is kept in reserve. When there is none for a connection that libzmq would accept, the reserve is given up for a
 * moment, the connection taken with it and closed: who has called hears that at once and tries again after a pause, as
 * libzmq's peers do. If another thread was quicker with that descriptor, the caller waits a moment instead of spinning.
 * The definition of accept4() here comes before libc's, for all libraries of the process (see svc_pid.c). */
#include "svc_accept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_NS \
    10000000 /* a hundred looks a second cost nothing, and what else the thread does waits for no more */
#define NONE (-1)

static atomic_int reserve = NONE; /* a global, because accept4() has no room for it */

static int
take(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
    return (int)syscall(SYS_accept4, fd, address, n, flags);
}

/* Has a descriptor in reserve, if one is to be had. */
static void
keep_reserve(void)
{
    int wanted = NONE;
    int fd = atomic_load(&reserve) == NONE ? open("/dev/null", O_RDONLY | O_CLOEXEC)
                                           : NONE;

    if (fd >= 0 && !atomic_compare_exchange_strong(&reserve, &wanted, fd))
        close(fd); /* another thread was quicker */
}

/* Takes a connection by means of the reserve and closes it. False: that did not come about. */
static bool
send_away(int listener)
{
    int spare = atomic_exchange(&reserve, NONE);
    int fd = NONE;

    if (spare == NONE)
        return false;
    close(spare);
    fd = take(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        close(fd);
    keep_reserve();
    return fd >= 0;
}

int
svc_accept(int fd, struct sockaddr *address, socklen_t *n)
{
    return take(fd, address, n, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int
accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict n, int flags)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    int got = take(fd, address, n, flags);

    if (got >= 0 || (errno != EMFILE && errno != ENFILE)) {
        if (got >= 0)
            keep_reserve();
        return got;
    }
    if (!send_away(fd))
        (void)nanosleep(&pause, NULL);
    errno = EAGAIN;
    return -1;
}
