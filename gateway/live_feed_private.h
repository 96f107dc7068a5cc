/* live_feed_private.h - a live feed as the three files that it lives in see it.
 *
 * live_feed.c brings the text together: frames, and what is fetched. live_watch.c keeps
 * the answer in sight: ask, watch, whom to ask, the tail. live_viewer.c serves the
 * readers. Nobody else includes this. Thread: its reactor's. */
#ifndef GATEWAY_LIVE_FEED_PRIVATE_H
#define GATEWAY_LIVE_FEED_PRIVATE_H

#include "live_feed.h"

struct live_feed {
    live_subject_t subject; /* whose answer */
    const live_bus_t *bus;  /* borrowed */
    feed_t *feed;           /* owned */
    live_viewer_t *viewers; /* borrowed list */
    size_t n_viewers;       /* in it */
    uint64_t shown;         /* what any of them has read, those that have left, too */

    uint64_t watch_call;  /* ask or watch; 0: none */
    uint64_t renewed_ms;  /* when that was sent */
    uint64_t hurried_ms;  /* when a watch that had failed was last renewed at once */
    uint64_t heard_ms;    /* the last word of convo-svc */
    uint64_t detached_ms; /* since when nobody tells of changes; 0: the watch holds */
    uint64_t
        given_up_ms; /* when its readers were told that nobody is in sight; 0: it is followed */
    uint64_t tail_call;         /* 0: none */
    uint64_t tail_owner;        /* whom it was handed to */
    uint64_t tail_from, tail_n; /* what it hands in */

    uint64_t fetch_call;  /* 0: none */
    bool fetch_is_read;   /* it is convo-svc's, else llm-svc's */
    uint64_t fetch_fence; /* whose text it asks for */
    uint64_t fetched_ms;  /* when the last one brought nothing; 0: try at once */
    uint64_t
        starving_ms; /* since when a gap is waited for; 0: no gap, or nobody is near it */
    bool read_next;  /* the next fetch goes to the journal */
    unsigned probes; /* looks at llm-svc for text that nothing has told of yet */
    bool is_probing; /* one of them is due or under way */
    uint64_t patience_timer; /* frames get their chance before a fetch; 0: none */
};

/* --- live_feed.c -------------------------------------------------------------------------- */

/* Loop time. */
uint64_t live_feed_now_ms(const live_feed_t *self);

/* How long readers wait for a service that is away. */
uint64_t live_feed_reattach_ms(const live_feed_t *self);

/* Counts. */
void live_feed_count(const live_feed_t *self, svc_metric metric, uint64_t n);

/* Its trace id. */
svc_str live_feed_trace(const live_feed_t *self);

/* True when the answer has ended or the feed has failed. */
bool live_feed_is_over(const live_feed_t *self);

/* Asks the journal for the text from `from` on. Errors of the call. */
svc_rc live_feed_call_read(const live_feed_t *self, uint64_t from, svc_reply_fn *on_reply,
                           void *arg, uint64_t *call);

/* Fetches the next page of a gap, unless that is under way or has just brought
 * nothing. */
void live_feed_fetch(live_feed_t *self);

/* The same, but frames that are on their way get their chance first. */
void live_feed_fetch_soon(live_feed_t *self);

/* Looks at the answer's llm-svc for text that nothing here has told of. */
void live_feed_probe(live_feed_t *self);

/* --- live_watch.c ------------------------------------------------------------------------- */

/* Watches the answer once more, for `on_reply`. Errors of the call. */
svc_rc live_feed_call_watch(const live_feed_t *self, svc_reply_fn *on_reply, void *arg,
                            uint64_t *call);

/* What a watch's reply says of an answer that there is no more: RC_DELETED, RC_SUPERSEDED, RC_NO_ANSWER; RC_OK: it says
 * nothing of that kind. */
svc_rc live_feed_why_gone(proto_kind kind, svc_rc rc);

/* Watches again, or gives up, when that is due. */
void live_watch_tick(live_feed_t *self, uint64_t now);

/* --- live_viewer.c ------------------------------------------------------------------------ */

/* Something has changed. */
void live_viewers_tell(live_feed_t *self);

/* True while some viewer may soon read what a fetch would bring: the window must not
 * run away from all of them. */
bool live_viewers_are_near(const live_feed_t *self);

/* Asks again for pages that did not come. */
void live_viewers_tick(live_feed_t *self, uint64_t now);

/* We stood still: their patience starts anew. */
void live_viewers_forgive(live_feed_t *self, uint64_t now);

#endif
