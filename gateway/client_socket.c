/* client_socket.c - what is set and asked at the TCP socket of a client.
 *
 * TCP_USER_TIMEOUT is not among it: it also ends a client that only reads slowly. So the
 * kernel probes clients that are silent, and we look ourselves at what is in flight to
 * those that are not asked since something was sent to them. */
#include "client_socket.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define PROBES 3 /* that a silent client may leave unanswered */

static void
set(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

void
client_socket_welcome(int fd)
{
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

void
client_socket_prepare_stream(int fd, uint32_t silence_s, size_t backlog)
{
    int idle_s = silence_s / 2 > 0 ? (int)(silence_s / 2) : 1;
    int interval_s = silence_s / 6 > 0 ? (int)(silence_s / 6) : 1;

    /* The kernel doubles it for its own overhead; unbounded it would take 4 MB for a client that never reads. */
    set(fd, SOL_SOCKET, SO_SNDBUF, (int)(backlog / 2));
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
}

int
client_socket_unsent(int fd)
{
    int n = 0;

    return ioctl(fd, SIOCOUTQ, &n) == 0 ? n : 0;
}

bool
client_socket_is_silent(int fd, uint32_t silence_s)
{
    struct tcp_info info = {0};
    socklen_t n = sizeof info;

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 &&
           info.tcpi_unacked > 0 && info.tcpi_last_ack_recv >= silence_s * 1000;
}
