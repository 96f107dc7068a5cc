/* rest_viewer.h - a request that has become the reader of an answer.
 *
 * Its handler makes it, joins an answer's feed with the live viewer, and then lets it
 * begin: at once (somebody who reads on), or when there is something to say, so that
 * what goes wrong before that still has an HTTP status (somebody who asks). From then on
 * it lives by itself: events are formatted when the socket takes bytes, silence is
 * filled, the token is looked after (stream_guard.h), and the feed is left when the
 * request ends; nothing is stopped by that. Thread: the request's reactor's. */
#ifndef GATEWAY_REST_VIEWER_H
#define GATEWAY_REST_VIEWER_H

#include "request.h"
#include "stream_id.h"

typedef struct rest_viewer rest_viewer_t;

/* Gives a viewer that belongs to the request (request_keep) and dies with it. */
rest_viewer_t *rest_viewer_new(request_t *request);

/* What joins a feed: feed_hub_ask, feed_hub_watch. */
live_viewer_t *rest_viewer_live(rest_viewer_t *self);

/* It has asked and joined: the stream begins with the first byte of text, with the end,
 * when the model has been thinking for gateway.headers_after_s, or when the client may
 * have left. What fails before is the answer to the request. */
void rest_viewer_await(rest_viewer_t *self);

/* It has joined: the stream begins now, behind what the client has: the id `from`
 * (copied), which is one of this answer. */
void rest_viewer_begin(rest_viewer_t *self, const stream_id_t *from);

#endif
