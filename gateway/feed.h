/* feed.h - one answer that is being read: its latest text, its status, and what is missing.
 *
 *        0 ........ base ======================== end ......... known
 *        (trimmed)   |  the window: whole, in order |  a gap: frames told of it, it must be fetched
 *
 * Pure logic: frames, pages and statuses go in, views of text and the wish for a fetch
 * come out; sockets and calls are feed_hub's. Offsets are bytes of the answer's text.
 * A frame whose fence is not the text's own is skipped; a frame past the end is no
 * text yet but tells of a gap; what overlaps is the same text and is skipped. The
 * window is bounded; a reader that needs older text pages it in for itself. Thread:
 * its reactor's. */
#ifndef GATEWAY_FEED_H
#define GATEWAY_FEED_H

#include "proto/proto.h"

#define FEED_WINDOW_MAX_BYTES \
    (256u << 10) /* grows to this, then keeps the younger half */
#define FEED_WINDOW_KEEP_BYTES \
    (128u << 10) /* at least: twice what llm-svc shows past the journal */

typedef struct feed feed_t;

/* Status of an answer as far as its readers care; texts are copies. */
typedef struct {
    bool heard;             /* false: nothing was told yet, the rest is empty */
    uint64_t message;       /* message_id of the answer */
    answer_state state;     /* see there */
    uint64_t length;        /* journaled bytes */
    uint64_t fence;         /* 0: no generation yet */
    uint64_t owner;         /* instance of the convo-svc that runs it; 0: not told */
    uint64_t llm;           /* instance of the llm-svc that writes it; 0: not known */
    bool lost;              /* what we hold past length should be handed in */
    svc_str finish;         /* terminal: why it ended */
    usage_t usage;          /* all 0: not told */
    svc_rc reason;          /* interrupted: why */
    svc_str text;           /* interrupted: what the service says to it */
    uint64_t retry_after_s; /* 0: not told */
} feed_status_t;

/* What a frame or page has changed. */
typedef enum {
    FEED_SAME,   /* nothing */
    FEED_GREW,   /* there is more text */
    FEED_GAP,    /* text is missing that was not known to be missing before */
    FEED_FENCED, /* it belongs to another text, skipped */
} feed_news;

/* Gives an empty feed of a stream (copied). */
feed_t *feed_new(const uint8_t stream[PROTO_STREAM_BYTES]);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void feed_destroy(feed_t **self_p);

/* The window begins anew at `from`, empty: nobody here will read what lies before, but
 * page by page. `from` must not be past the journal. */
void feed_start_at(feed_t *self, uint64_t from);

/* The question has joined the answer of another stream (copied). Before the first
 * status only. */
void feed_rename(feed_t *self, svc_str stream);

/* The stream's id; good as long as the feed. */
svc_str feed_stream(const feed_t *self);

/* Takes a token frame of this stream. */
feed_news feed_take_token(feed_t *self, const proto_token_t *token);

/* Takes a fetched page: `bytes` of the text of `fence`, from offset `from`. */
feed_news feed_take_page(feed_t *self, uint64_t fence, uint64_t from, svc_str bytes);

/* Text of `fence` up to `offset` exists, its llm-svc says. */
feed_news feed_learn(feed_t *self, uint64_t fence, uint64_t offset);

/* Takes a status. A terminal one stays: later ones are ignored. */
void feed_take_status(feed_t *self, const status_rep_t *status);

/* We can no longer follow the answer (or it was never begun): readers get this error.
 * Only the first counts; ignored when all text and a terminal status are here. */
void feed_fail(feed_t *self, svc_rc rc, svc_str text, uint64_t retry_after_s);

/* Its readers have gone with the error: it can be followed again. The latest status stays. */
void feed_revive(feed_t *self);

/* The latest status. */
const feed_status_t *feed_status(const feed_t *self);

/* RC_OK, or what feed_fail has said; then text and retry_after_s of feed_status belong
 * to it. */
svc_rc feed_failed(const feed_t *self);

/* True when no more will come: terminal with all its text here, or failed. */
bool feed_is_settled(const feed_t *self);

/* First and one past the last offset of the window. */
uint64_t feed_base(const feed_t *self);
uint64_t feed_end(const feed_t *self);

/* How far the text goes that readers may get: up to end, at a terminal state never
 * past its length. */
uint64_t feed_limit(const feed_t *self);

/* The text from offset `from` up to the limit; empty when `from` is outside the
 * window. Dies with the next change. */
svc_str feed_text(const feed_t *self, uint64_t from);

/* The fence that the window's text has; 0: not known yet. */
uint64_t feed_fence(const feed_t *self);

/* True when text after the end is known to exist. */
bool feed_has_gap(const feed_t *self);

#endif
