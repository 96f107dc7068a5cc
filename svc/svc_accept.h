/* svc_accept.h - accepting connections when descriptors have run out.
 *
 * libzmq asks for the next connection again and again while there is no descriptor for it: one of its threads takes a whole core
 * until somebody else closes something. svc_accept.c stands between it and the kernel, by the name of accept4(), and sends
 * such a caller away instead: it comes again by itself. Our own listeners call svc_accept() and wait. Thread: any. */
#ifndef SVC_SVC_ACCEPT_H
#define SVC_SVC_ACCEPT_H

#include <sys/socket.h>

/* Takes the next connection of a listener, not blocking and closed on exec. -1 with errno as accept4(2): EMFILE and ENFILE are told. */
int svc_accept(int fd, struct sockaddr *address, socklen_t *n);

#endif
