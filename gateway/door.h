/* door.h - where the clients of a reactor come in: its listening socket, open or shut.
 *
 * When descriptors have run out it stays shut for a moment, so that the loop does not turn
 * for clients that cannot come in. Whoever comes meanwhile waits in the kernel's queue.
 * Thread: its reactor's. */
#ifndef GATEWAY_DOOR_H
#define GATEWAY_DOOR_H

#include "svc/svc_ctx.h"

#include <sys/socket.h>

#define DOOR_PAUSE_MS 100 /* when descriptors have run out */

typedef struct door door_t;

/* Somebody has come in: the socket is the callee's to close. */
typedef void door_fn(void *arg, int fd, const struct sockaddr_storage *peer);

/* Takes the listening socket and lets clients in through ctx->loop. Keeps ctx. */
door_t *door_new(svc_ctx_t *ctx, int listen_fd, door_fn *fn, void *arg);

/* Closes the socket, frees everything and sets *self_p to NULL. NULL-safe. Not inside fn. */
void door_destroy(door_t **self_p);

/* Shuts it for `ms` at most. */
void door_shut(door_t *self, uint64_t ms);

/* Opens it, when it is shut. NULL-safe. */
void door_open(door_t *self);

#endif
