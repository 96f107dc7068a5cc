/* meeting.h - where the viewers of an answer meet: which reactor reads it, and connections on their way there.
 *
 * Each reactor that reads an answer gets its token frames for itself. So a client that
 * opens the stream of an answer which another reactor reads already is sent there, before
 * any byte of it was read: that costs it some microseconds once, and saves them for every
 * token. The table of who reads what forgets when it is full or two reactors read the same
 * answer, and may be a moment behind: whoever is sent to the wrong place is served there as
 * well. Nobody is sent to a reactor that is nearly full, that holds many more connections
 * than the one that sends, or that stops. Shared by all reactors of a process. Thread: any,
 * but for receiving. */
#ifndef GATEWAY_MEETING_H
#define GATEWAY_MEETING_H

#include "proto/base.h"
#include "tls_wire.h"

#include <sys/socket.h>

#define MEETING_WAITING_MAX 64 /* connections that a reactor has not received yet */
#define MEETING_SLACK       64 /* connections more than it should have, that it may hold */

typedef struct meeting meeting_t;

/* A connection that goes to another reactor: nothing was read from it. */
typedef struct {
    int fd;           /* its socket; whoever has the guest has to close it */
    tls_wire_t *wire; /* one use, likewise; NULL: the socket is the client's own */
    bool counted;     /* in the limit per address; likewise */
    struct sockaddr_storage peer; /* its client */
} meeting_guest_t;

/* Gives a meeting of `n` reactors, which are called 1..n; each holds `max` connections. All of them are closed. */
meeting_t *meeting_new(size_t n, uint32_t max);

/* Each reactor holds `max` connections from now on. */
void meeting_set_max(meeting_t *self, uint32_t max);

/* Frees it and sets *self_p to NULL; all reactors must be closed. NULL-safe. */
void meeting_destroy(meeting_t **self_p);

/* The reactor reads an answer of this conversation from now on, and does so no longer. */
void meeting_begin(meeting_t *self, uint64_t conversation, size_t reactor);
void meeting_end(meeting_t *self, uint64_t conversation, size_t reactor);

/* The other reactor where a request with these headers should rather be: it opens the stream of an answer that is
 * read there. 0: none. */
size_t meeting_place(const meeting_t *self, svc_str head, size_t here);

/* How many connections the reactor has. */
void meeting_count(meeting_t *self, size_t reactor, size_t connections);

/* Sends a connection from one reactor to another one. False: that one cannot take it, it stays with its sender. */
bool meeting_send(meeting_t *self, size_t from, size_t to,
                  const meeting_guest_t *guest) SVC_MUST_CHECK;

/* The reactor takes guests from now on. Gives the descriptor that is readable when some wait (borrowed). Its
 * own thread. */
int meeting_open(meeting_t *self, size_t reactor);

/* The next of its guests; false: no more, the descriptor is quiet again. Its own thread. */
bool meeting_receive(meeting_t *self, size_t reactor,
                     meeting_guest_t *out) SVC_MUST_CHECK;

/* It takes no more; those that wait are still to be received. Its own thread. */
void meeting_close(meeting_t *self, size_t reactor);

#endif
