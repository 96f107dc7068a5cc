/* live_feed.h - a feed with its wires: the calls that keep it going, and the viewers that read it.
 *
 * Asks the question (or watches the answer), renews the watch, fetches what is missing
 * from the answer's llm-svc or, where that cannot help, from the journal, and hands in
 * what it holds when that llm-svc is lost. Whom it asks: watch and tail go to the
 * convo-svc that owns the answer, reading to any. A viewer is woken when something has
 * changed and reads the feed for itself; one that is too slow for the window asks for
 * older pages here. Nothing is stopped when viewers leave. Thread: its reactor's. */
#ifndef GATEWAY_LIVE_FEED_H
#define GATEWAY_LIVE_FEED_H

#include "feed.h"
#include "svc/svc_peers.h"

#define LIVE_RENEW_MS 5000 /* what a gateway takes; convo-svc holds a watch for 12 s */
#define LIVE_ALONE_MS \
    1000 /* the same, while nobody reads: until all that was shown is stored */
#define LIVE_RETRY_MS 250 /* after a fetch that brought nothing */

#define LIVE_PROBES \
    2 /* of a feed that begins in the middle: at once, and when it is surely subscribed */

typedef struct live_feed live_feed_t;

/* What all feeds of a reactor share. */
typedef struct {
    svc_ctx_t *ctx;           /* loop, log, metrics, config */
    svc_peers_t *convo, *llm; /* borrowed */
    uint64_t renew_ms;        /* between two watches */
    /* The question has joined an answer that was begun before, of another stream. Gives
     * the feed of that stream: the same one, renamed, or the one that was there; that has
     * its viewers then, and `self` is gone. NULL: no room for it. */
    live_feed_t *(*moved)(void *arg, live_feed_t *self, svc_str stream);
    void *arg; /* of moved */
} live_bus_t;

/* One reader. Its owner embeds it, fills the first three fields, and leaves before it
 * dies. */
typedef struct live_viewer {
    void (*changed)(void *arg); /* the feed has news; must not leave the feed */
    void (*paged)(void *arg, uint64_t from, svc_str bytes); /* the page that was wanted */
    void *arg;                                              /* of both */
    uint64_t offset;   /* what it has read, see live_viewer_moved; may be past all text */
    live_feed_t *live; /* NULL: has not joined */
    struct live_viewer *prev, *next; /* in the feed's list */
    uint64_t page_call;              /* 0: none */
    uint64_t page_from;              /* wanted offset */
    uint64_t page_since_ms;          /* wanted since; 0: none is wanted */
    bool starved; /* the page did not come within gateway.reattach_s: give up */
    svc_rc gone;  /* it never will: RC_DELETED, RC_SUPERSEDED; RC_OK: it may */
} live_viewer_t;

/* Whose answer it is. */
typedef struct {
    uint64_t user, conversation;        /* ids */
    uint8_t stream[PROTO_STREAM_BYTES]; /* fresh, or known to be the user's */
    uint8_t trace[PROTO_TRACE_BYTES];   /* of the request */
} live_subject_t;

/* What is asked, and how. */
typedef struct {
    svc_str text;    /* the question; a retry has none */
    svc_str key;     /* of the client, PROTO_KEY_MAX_BYTES at most: the same one joins the
                        answer that it has begun; may be empty */
    bool stop_alone; /* the answer stops when nobody has watched it for a while */
    bool is_retry;   /* the last question once more */
} live_question_t;

/* Gives a feed without viewers. Keeps `bus`. */
live_feed_t *live_feed_new(const live_bus_t *bus, const live_subject_t *subject);

/* Forgets its calls, frees it and sets *self_p to NULL. It must have no viewers.
 * NULL-safe. */
void live_feed_destroy(live_feed_t **self_p);

/* Sends the question. Errors of svc_peers_call; later ones fail the feed. */
svc_rc live_feed_ask(live_feed_t *self, const live_question_t *question) SVC_MUST_CHECK;

/* Follows an answer instead, whose status has just been told: begins at `from`, or at
 * the end of the journal if that is before. For a fresh feed. */
void live_feed_watch(live_feed_t *self, const status_rep_t *status, uint64_t from);

/* Somebody else was told this status of the feed's answer; counts when it is the first or
 * the last one. */
void live_feed_take_status(live_feed_t *self, const status_rep_t *status);

/* The window begins anew at `from`, which is not past the journal: a viewer has come who
 * is far ahead of it. */
void live_feed_skip_to(live_feed_t *self, uint64_t from);

/* It is the feed of this stream from now on; see live_bus_t.moved. */
void live_feed_rename(live_feed_t *self, svc_str stream);

/* True when nothing of what was shown can be lost with this gateway: it is stored, the answer has ended, or nobody
 * will ever ask for it. Else a feed whose last viewer has left must stay for a while: it hears of a loss, and hands
 * in what it holds. Frames that come then are not taken. */
bool live_feed_may_go(const live_feed_t *self);

/* It is followed again for what it holds (live_feed_may_go is false): that the services were out of sight was an error for
 * readers only. One that has not read of it yet reads on. */
void live_feed_stay(live_feed_t *self);

/* A viewer has joined one that had none: it waits for services as long as any other does, and what has come
 * meanwhile is asked for. */
void live_feed_go_on(live_feed_t *self);

/* Nobody reads it any more: the answer's owner need not wait until the watch runs out. */
void live_feed_unwatch(live_feed_t *self);

/* The feed itself, for reading. */
const feed_t *live_feed_feed(const live_feed_t *self);

/* Takes a token frame of its stream. */
void live_feed_take_token(live_feed_t *self, const proto_token_t *token);

/* Renews, retries and gives up what is due; several times a second. */
void live_feed_tick(live_feed_t *self);

/* A convo-svc is up: watches again at once if nobody tells of changes. */
void live_feed_reattach(live_feed_t *self);

/* We stood still: all clocks start anew. */
void live_feed_forgive(live_feed_t *self);

/* Adds and removes a viewer; gives how many there are then. Leaving forgets the
 * viewer's page. */
size_t live_feed_join(live_feed_t *self, live_viewer_t *viewer);
size_t live_feed_leave(live_feed_t *self, live_viewer_t *viewer);

/* Gives all viewers to another feed of the same answer. */
void live_feed_move_viewers(live_feed_t *self, live_feed_t *to);

/* The viewer has read up to `offset`: a fetch that waited for it may go on. */
void live_viewer_moved(live_viewer_t *viewer, uint64_t offset);

/* Asks for the text from `from` on, older than the window: `paged` is called with it,
 * once. Harmless while it is on its way. */
void live_viewer_want_page(live_viewer_t *viewer, uint64_t from);

#endif
