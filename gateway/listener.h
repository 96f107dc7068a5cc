/* listener.h - the sockets that clients connect to: one for each reactor, all on one port.
 *
 * The kernel spreads connections over the sockets (SO_REUSEPORT). The first one is
 * bound without that option, so a port that another process uses is an error at start
 * and not a port shared by accident. All addresses means IPv6 with IPv4 inside it, or
 * IPv4 where there is no IPv6. */
#ifndef GATEWAY_LISTENER_H
#define GATEWAY_LISTENER_H

#include "proto/base.h"

/* Opens `n` listening sockets on host ("": all addresses) and port (0: any free one,
 * told by *port_out, which may be NULL). They are non-blocking and the caller's to
 * close. RC_UNAVAILABLE with *error (free() it): "port 8080 is in use". */
svc_rc listener_open(const char *host, uint16_t port, int *fds, size_t n,
                     uint16_t *port_out, char **error) SVC_MUST_CHECK;

#endif
