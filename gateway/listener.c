/* listener.c - the sockets that clients connect to: one for each reactor, all on one port.
 *
 * Linux lets a socket join the group of a port if every socket there has SO_REUSEPORT
 * set by then; setting it on the first one between bind and listen makes the bind
 * exclusive and the group open to our own. */
#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG \
    1024 /* connections that wait for accept: a burst of clients, not a queue to live in */

typedef struct {
    struct sockaddr_storage addr; /* what to bind */
    socklen_t n;                  /* bytes of it */
} address_t;

static bool
has_ipv6(void)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return false;
    bool ok = bind(fd, (struct sockaddr *)&any, sizeof any) == 0;
    close(fd);
    return ok;
}

/* Finds the address for host and port. */
static bool
resolve(const char *host, uint16_t port, address_t *out)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[8];

    snprintf(service, sizeof service, "%u", port);
    if (host[0] == '\0')
        hints.ai_family = has_ipv6() ? AF_INET6 : AF_INET;
    if (getaddrinfo(host[0] == '\0' ? NULL : host, service, &hints, &found) != 0)
        return false;
    memcpy(&out->addr, found->ai_addr, found->ai_addrlen);
    out->n = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static bool
set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/* Opens one socket; -1 with errno. */
static int
open_one(const address_t *address, bool is_first)
{
    int family = address->addr.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    bool ok = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (ok && family == AF_INET6)
        ok = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (ok && !is_first)
        ok = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    ok = ok && bind(fd, (const struct sockaddr *)&address->addr, address->n) == 0;
    if (ok && is_first)
        ok = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    ok = ok && listen(fd, BACKLOG) == 0;
    if (!ok) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static void
explain(const char *host, uint16_t port, int why, char **error)
{
    int n;

    if (why == EADDRINUSE)
        n = asprintf(error, "port %u is in use", port);
    else
        n = asprintf(error, "cannot listen on %s:%u: %s", host[0] == '\0' ? "*" : host,
                     port, strerror(why));
    if (n < 0)
        *error = NULL;
}

svc_rc
listener_open(const char *host, uint16_t port, int *fds, size_t n, uint16_t *port_out,
              char **error)
{
    address_t address;

    if (!resolve(host, port, &address)) {
        explain(host, port, EADDRNOTAVAIL, error);
        return RC_UNAVAILABLE;
    }
    for (size_t i = 0; i < n; i++) {
        fds[i] = open_one(&address, i == 0);
        if (fds[i] < 0) {
            explain(host, port, errno, error);
            while (i-- > 0)
                close(fds[i]);
            return RC_UNAVAILABLE;
        }
        if (i == 0)
            getsockname(fds[0], (struct sockaddr *)&address.addr, &address.n);
    }
    if (port_out != NULL)
        *port_out = ntohs(address.addr.ss_family == AF_INET6
                              ? ((struct sockaddr_in6 *)&address.addr)->sin6_port
                              : ((struct sockaddr_in *)&address.addr)->sin_port);
    return RC_OK;
}
