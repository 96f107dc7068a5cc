/* feed_hub.h - all answers that are being read through one reactor.
 *
 * Owns the table from stream id to feed, and what brings the frames. A stream has one
 * feed, however many read it; a feed lives as long as it has viewers. Viewers come with
 * a question, or to read on what was asked elsewhere or before. When the last one has left
 * the feed stays until what was shown is stored. Thread: its reactor's. */
#ifndef GATEWAY_FEED_HUB_H
#define GATEWAY_FEED_HUB_H

#include "live_feed.h"
#include "meeting.h"
#include "token_sub.h"

typedef struct feed_hub feed_hub_t;

/* Gives a hub that reads token frames from config->bus_tokens.connect. Keeps ctx and
 * the peers. NULL with *error (free() it) set: that is no endpoint. */
feed_hub_t *feed_hub_new(svc_ctx_t *ctx, svc_peers_t *convo, svc_peers_t *llm,
                         char **error);

/* Tells `meeting` which conversations are read here, at reactor `here`. Keeps meeting. */
void feed_hub_meet(feed_hub_t *self, meeting_t *meeting, size_t here);

/* Closes it; all viewers must have left. Sets *self_p to NULL. NULL-safe. */
void feed_hub_destroy(feed_hub_t **self_p);

/* Asks a question as who->user in who->conversation (who->stream is not looked at: it gets a
 * fresh one); `viewer` joins the answer's feed, from offset 0 on. A key may join another
 * answer: then feed_stream of the viewer's feed changes before its first status is heard.
 * Errors as of svc_peers_call: nothing was joined then. */
svc_rc feed_hub_ask(feed_hub_t *self, const live_subject_t *who,
                    const live_question_t *question,
                    live_viewer_t *viewer) SVC_MUST_CHECK;

/* Reads the answer of who->stream on, from offset `from`; convo-svc has just told its
 * `status` to who->user, which it does only if it may be read. `viewer` joins its feed, or
 * a new one. `from` may be past all text that is known here: the viewer waits until there
 * is more. `changed` is called before this returns. RC_BUSY: no room for this stream; nothing
 * was joined then. */
svc_rc feed_hub_watch(feed_hub_t *self, const live_subject_t *who,
                      const status_rep_t *status, uint64_t from,
                      live_viewer_t *viewer) SVC_MUST_CHECK;

/* The viewer leaves; the last one takes the feed with it, unless it has been shown what is not stored yet: then the
 * feed stays for six times gateway.reattach_s at most. Harmless when it has not
 * joined. */
void feed_hub_leave(feed_hub_t *self, live_viewer_t *viewer);

/* A convo-svc is up: feeds that nobody tells of changes watch at once. */
void feed_hub_reattach(feed_hub_t *self);

/* What frames have brought in this turn has been written: counts how long that took, if there were any. */
void feed_hub_delivered(feed_hub_t *self);

/* How many feeds there are. */
size_t feed_hub_feeds(const feed_hub_t *self);

#endif
