/* raw_zmtp.h - one end of a ZeroMQ connection without ZeroMQ: it says hello, then nothing more.
 *
 * To libzmq it is a peer that stands still: libzmq's own sockets cannot play that, since their
 * threads answer heartbeats by themselves. Speaks ZMTP 3.1 with the NULL mechanism. Included by tests
 * of sockets that have to notice such peers. */
#ifndef TESTS_UNIT_SVC_RAW_ZMTP_H
#define TESTS_UNIT_SVC_RAW_ZMTP_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "svc/svc_time.h"

#define RAW_ZMTP_PATIENCE_MS 20000

/* Connects to "tcp://127.0.0.1:port"; -1: it cannot. */
static inline int
raw_zmtp_connect(const char *endpoint)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(strrchr(endpoint, ':') + 1)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Listens on a free port; `endpoint` (64 bytes) is for whoever shall connect. -1: it cannot. */
static inline int
raw_zmtp_listen(char *endpoint)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd >= 0 && (bind(fd, (struct sockaddr *)&at, n) != 0 || listen(fd, 4) != 0 ||
                    getsockname(fd, (struct sockaddr *)&at, &n) != 0)) {
        close(fd);
        return -1;
    }
    snprintf(endpoint, 64, "tcp://127.0.0.1:%u", (unsigned)ntohs(at.sin_port));
    return fd;
}

/* Greets the other end and says that this one is a socket of `type` (three letters, as "SUB"). */
static inline bool
raw_zmtp_greet(int fd, const char *type)
{
    unsigned char hello[64 + 27] = {0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 1};
    static const unsigned char ready[] = "\x04\x19\x05READY\x0BSocket-Type\0\0\0\x03";

    memcpy(hello + 12, "NULL", 4);
    memcpy(hello + 64, ready, sizeof(ready) - 1);
    memcpy(hello + 64 + sizeof(ready) - 1, type, 3);
    return send(fd, hello, sizeof(hello), MSG_NOSIGNAL) == (ssize_t)sizeof(hello);
}

/* Waits for a PING of the other end; gives how long it wants us to wait for its next sign, in
 * tenths of a second (0: it does not say), -1: none came. */
static inline int
raw_zmtp_wait_for_ping(int fd)
{
    unsigned char seen[4096];
    size_t n = 0;

    for (uint64_t until = svc_mono_ms() + RAW_ZMTP_PATIENCE_MS; svc_mono_ms() < until;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        const unsigned char *ping = memmem(seen, n, "\4PING", 5);

        if (ping != NULL && ping + 7 <= seen + n)
            return ping[5] << 8 | ping[6];
        if (n == sizeof(seen) || poll(&wait, 1, 1000) < 0)
            return -1;
        ssize_t got = recv(fd, seen + n, sizeof(seen) - n, MSG_DONTWAIT);
        if (got == 0)
            return -1;
        n += got > 0 ? (size_t)got : 0;
    }
    return -1;
}

#endif
