/* sse_stream.h - one client that is listening to one answer: what it has, and the events it gets next.
 *
 * A viewer holds its own offset and no backlog: events are formatted on demand from
 * the feed's window, so what piles up for a slow client merges into fewer, larger
 * events. Text older than the window is handed in page by page by the owner. Three
 * framings: server-sent events, one object a line (ndjson), and an object and a blank
 * line under text/event-stream, as the original wrote it (bare).
 *
 *   TEXT --all text up to the length, complete or stopped--> DONE -> FULL (page by page, one event) -> END
 *   TEXT --interrupted or failed--> ERROR -> END
 *
 * An event's id is "<stream>:<offset>", the offset that the client has when it has
 * processed it; done adds ":d", full_response and error ":e". No sockets here. Thread:
 * its reactor's. */
#ifndef GATEWAY_SSE_STREAM_H
#define GATEWAY_SSE_STREAM_H

#include "feed.h"
#include "texts.h"

#define SSE_TEXT_MAX_BYTES \
    (16u << 10) /* of the answer in one event: a browser parses it as one string */
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

/* Gives a viewer of `stream` that has all text before `offset`. `language` is for the
 * error event. */
sse_stream_t *sse_stream_new(const uint8_t stream[PROTO_STREAM_BYTES],
                             sse_framing framing, text_language language,
                             uint64_t offset);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void sse_stream_destroy(sse_stream_t **self_p);

/* Appends what comes next, a few KB at most, to `out` (whose maximum is
 * SSE_OUT_MAX_BYTES or more, mostly empty). */
sse_result sse_stream_next(sse_stream_t *self, const feed_t *feed, svc_buf_t *out);

/* Hands in a page that sse_stream_next has asked for; copies. Other pages are ignored. */
void sse_stream_page(sse_stream_t *self, uint64_t from, svc_str bytes);

/* The next offset of the text that it reads (while full_response goes out: of that). */
uint64_t sse_stream_offset(const sse_stream_t *self);

/* Appends what a proxy takes for life and a client ignores: a comment, or a blank line
 * where the framing has none. RC_TOO_BIG: full. */
svc_rc sse_stream_comment(const sse_stream_t *self, svc_buf_t *out) SVC_MUST_CHECK;

/* True between two events: the only place for a comment or a clean end. */
bool sse_stream_is_between_events(const sse_stream_t *self);

#endif
