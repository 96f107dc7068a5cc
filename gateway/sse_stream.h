/* sse_stream.h - one client that is listening to one answer: what it has, and the events it gets next.
 *
 * A viewer holds its own offset and no backlog: events are formatted on demand from
 * the feed's window; what piles up for a slow client merges into fewer, larger events.
 * Older text is handed in page by page by the owner. Framings: server-sent events, one
 * object a line (ndjson), and an object and a blank line, as the original wrote it (bare).
 *
 *   BEGIN -> TEXT --all text up to the length, complete or stopped--> DONE -> FULL (page by page, one event) -> END
 *            TEXT --all of it, and done before a reconnect--> FULL
 *            TEXT --interrupted, failed, or less stored than the client has--> ERROR -> END
 *
 * Only an error that ends the answer has an id with ":e" (stream_id.h); after one that ends
 * our sight of it a reconnect goes on. No sockets here. Thread: its reactor's. */
#ifndef GATEWAY_SSE_STREAM_H
#define GATEWAY_SSE_STREAM_H

#include "feed.h"
#include "stream_id.h"
#include "texts.h"

#define SSE_TEXT_MAX_BYTES \
    (16u << 10) /* of the answer in one event: a browser parses it as one string */
#define SSE_RETRY_MS 1000 /* an EventSource waits so long before it reconnects */
#define SSE_OUT_MAX_BYTES \
    (128u << 10) /* one formatted event: escaping makes six bytes of one at worst */

typedef enum { SSE_FRAMING_EVENTS, SSE_FRAMING_LINES, SSE_FRAMING_BARE } sse_framing;

/* The framing that an Accept header asks for; `fallback` when it names neither
 * text/event-stream nor application/x-ndjson. */
sse_framing sse_framing_of(svc_str accept, sse_framing fallback);

/* The Content-Type of a framing. */
const char *sse_framing_type(sse_framing framing);

typedef struct sse_stream sse_stream_t;

typedef enum {
    SSE_SENT,      /* one more event, or a piece of one, stands in `out` */
    SSE_IDLE,      /* nothing to send until the feed changes */
    SSE_NEED_PAGE, /* hand in text from sse_stream_offset() on by sse_stream_page */
    SSE_END,       /* the last event has been sent */
    SSE_BROKEN,    /* no memory, or text that is none: cut the connection */
} sse_result;

/* Gives a viewer that has all that the id `from` (copied) says; from->stream is what it
 * reads. `language` is for the error event. */
sse_stream_t *sse_stream_new(const stream_id_t *from, sse_framing framing,
                             text_language language);

/* Bounds what is kept for its client to about `backlog` bytes, all parts together: events get
 * smaller, and so does the page. */
void sse_stream_bound(sse_stream_t *self, size_t backlog);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void sse_stream_destroy(sse_stream_t **self_p);

/* Appends what comes next (server-sent events begin with a block without data: how soon to
 * reconnect, and the id for it), a few KB at most, to `out` (whose maximum is
 * SSE_OUT_MAX_BYTES or more, mostly empty). */
sse_result sse_stream_next(sse_stream_t *self, const feed_t *feed, svc_buf_t *out);

/* Hands in a page that sse_stream_next has asked for; copies. Other pages are ignored. */
void sse_stream_page(sse_stream_t *self, uint64_t from, svc_str bytes);

/* The client may not read on: the error event of `rc` follows the event that is being
 * sent, and ends the stream. Not once the whole text is there but for full_response. */
void sse_stream_refuse(sse_stream_t *self, svc_rc rc);

/* The next offset of the text that it reads (while full_response goes out: of that). */
uint64_t sse_stream_offset(const sse_stream_t *self);

/* Appends what a proxy takes for life and a client ignores: a comment, or a blank line
 * where the framing has none. RC_TOO_BIG: full. */
svc_rc sse_stream_comment(const sse_stream_t *self, svc_buf_t *out) SVC_MUST_CHECK;

/* True between two events: the only place for a comment or a clean end. */
bool sse_stream_is_between_events(const sse_stream_t *self);

#endif
