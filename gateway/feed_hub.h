/* feed_hub.h - all answers that are being read through one reactor.
 *
 * Owns the SUB socket and the table from stream id to feed. A few fresh stream ids are
 * subscribed in advance, so that the subscription has reached llm-svc when a question
 * comes. A feed lives as long as it has viewers. Thread: its reactor's. */
#ifndef GATEWAY_FEED_HUB_H
#define GATEWAY_FEED_HUB_H

#include "live_feed.h"

#define FEED_HUB_SPARE_IDS \
    16 /* stream ids subscribed in advance: more questions than that rarely come in the ms that a subscription takes */

typedef struct feed_hub feed_hub_t;

/* Gives a hub that reads token frames from config->bus_tokens.connect. Keeps ctx and
 * the peers. NULL with *error (free() it) set: that is no endpoint. */
feed_hub_t *feed_hub_new(svc_ctx_t *ctx, svc_peer_t *convo, svc_peer_t *llm,
                         char **error);

/* Closes it; all viewers must have left. Sets *self_p to NULL. NULL-safe. */
void feed_hub_destroy(feed_hub_t **self_p);

/* Asks a question as `user` in a conversation; `viewer` joins the answer's feed.
 * Errors as of svc_peer_call: nothing was joined then. */
svc_rc feed_hub_ask(feed_hub_t *self, const live_subject_t *who, svc_str text,
                    live_viewer_t *viewer) SVC_MUST_CHECK;

/* The viewer leaves; the last one takes the feed with it. Harmless when it has not
 * joined. */
void feed_hub_leave(feed_hub_t *self, live_viewer_t *viewer);

/* convo-svc is up again: all feeds watch at once. */
void feed_hub_reattach(feed_hub_t *self);

/* How many feeds there are. */
size_t feed_hub_feeds(const feed_hub_t *self);

#endif
