/* live_feed.h - a feed with its wires: the calls that keep it going, and the viewers that read it.
 *
 * Asks the question (or watches the answer), renews the watch, fetches what is missing
 * from llm-svc or, where that cannot help, from convo-svc's journal, and hands in what
 * it holds when an answer's llm-svc is lost. A viewer is woken when something has
 * changed and reads the feed for itself; one that is too slow for the window asks for
 * older pages here. Nothing is stopped when viewers leave. Thread: its reactor's. */
#ifndef GATEWAY_LIVE_FEED_H
#define GATEWAY_LIVE_FEED_H

#include "feed.h"
#include "svc/svc_peer.h"

#define LIVE_RENEW_MS 5000 /* what a gateway takes; convo-svc holds a watch for 12 s */
#define LIVE_RETRY_MS 250  /* after a fetch that brought nothing */

/* What all feeds of a reactor share. */
typedef struct {
    svc_ctx_t *ctx;          /* loop, log, metrics, config */
    svc_peer_t *convo, *llm; /* borrowed */
    uint64_t renew_ms;       /* between two watches */
} live_bus_t;

typedef struct live_feed live_feed_t;

/* One reader. Its owner embeds it, fills the first three fields, and leaves before it
 * dies. */
typedef struct live_viewer {
    void (*changed)(void *arg); /* the feed has news; must not leave the feed */
    void (*paged)(void *arg, uint64_t from, svc_str bytes); /* the page that was wanted */
    void *arg;                                              /* of both */
    uint64_t offset;                 /* what it has read, see live_viewer_moved */
    live_feed_t *live;               /* NULL: has not joined */
    struct live_viewer *prev, *next; /* in the feed's list */
    uint64_t page_call;              /* 0: none */
    uint64_t page_from;              /* wanted offset */
    uint64_t page_since_ms;          /* wanted since; 0: none is wanted */
    bool starved; /* the page did not come within gateway.reattach_s: give up */
} live_viewer_t;

/* Whose answer it is. */
typedef struct {
    uint64_t user, conversation;        /* ids */
    uint8_t stream[PROTO_STREAM_BYTES]; /* fresh, or known to be the user's */
    uint8_t trace[PROTO_TRACE_BYTES];   /* of the request */
} live_subject_t;

/* Gives a feed without viewers. Keeps `bus`. */
live_feed_t *live_feed_new(const live_bus_t *bus, const live_subject_t *subject);

/* Forgets its calls, frees it and sets *self_p to NULL. It must have no viewers.
 * NULL-safe. */
void live_feed_destroy(live_feed_t **self_p);

/* Sends the question. Errors of svc_peer_call; later ones fail the feed. */
svc_rc live_feed_ask(live_feed_t *self, svc_str text) SVC_MUST_CHECK;

/* The feed itself, for reading. */
const feed_t *live_feed_feed(const live_feed_t *self);

/* Takes a token frame of its stream. */
void live_feed_take_token(live_feed_t *self, const proto_token_t *token);

/* Renews, retries and gives up what is due; several times a second. */
void live_feed_tick(live_feed_t *self);

/* convo-svc is back: watches again at once. */
void live_feed_reattach(live_feed_t *self);

/* We stood still: all clocks start anew. */
void live_feed_forgive(live_feed_t *self);

/* Adds and removes a viewer; gives how many there are then. Leaving forgets the
 * viewer's page. */
size_t live_feed_join(live_feed_t *self, live_viewer_t *viewer);
size_t live_feed_leave(live_feed_t *self, live_viewer_t *viewer);

/* The viewer has read up to `offset`: a fetch that waited for it may go on. */
void live_viewer_moved(live_viewer_t *viewer, uint64_t offset);

/* Asks for the text from `from` on, older than the window: `paged` is called with it,
 * once. Harmless while it is on its way. */
void live_viewer_want_page(live_viewer_t *viewer, uint64_t from);

#endif
