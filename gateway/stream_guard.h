/* stream_guard.h - asks again and again whether the token of an open stream is still good.
 *
 * A stream may last for minutes, its token may be revoked or end meanwhile. auth-svc is
 * asked every gateway.verify_stream_s and when the token is said to end. What it refuses
 * is told once; while auth-svc is away nothing is known and the stream goes on, unless
 * its token has ended by our own clock. One for each viewer; dies before its request.
 * Thread: the request's reactor's. */
#ifndef GATEWAY_STREAM_GUARD_H
#define GATEWAY_STREAM_GUARD_H

#include "request.h"

typedef struct stream_guard stream_guard_t;

/* Begins to ask about the token or ticket of `request` (kept), which was found good just
 * now. refused(arg) is called from the loop, once at most. */
stream_guard_t *stream_guard_new(request_t *request, void (*refused)(void *arg),
                                 void *arg);

/* Stops that, frees it and sets *self_p to NULL. NULL-safe; also inside refused. */
void stream_guard_destroy(stream_guard_t **self_p);

#endif
