/* sse_parser.h - a provider's event stream, byte by byte: gives the data of each event.
 *
 * Tolerant as the real ones demand: lines end in LF, CR LF or CR, `data:` comes with or
 * without a space, comments and the fields event, id and retry are skipped, several data
 * lines of one event are joined by a line feed, a byte order mark at the start is no
 * text, and the last line may lack its end. Bytes may be cut anywhere. Lines and events
 * are bounded by SSE_PARSER_MAX_BYTES. No sockets, no JSON; one parser per response, on
 * the thread that feeds it. */
#ifndef LLM_SVC_SSE_PARSER_H
#define LLM_SVC_SSE_PARSER_H

#include "proto/base.h"

#define SSE_PARSER_MAX_BYTES (16u << 20) /* of a line, and of the data of one event */

/* Receives the data of one event, never empty. `data` dies on return. Must not destroy
 * the parser. */
typedef void sse_event_fn(void *arg, svc_str data);

typedef struct sse_parser sse_parser_t;

/* Gives a parser that calls on_event(arg, data). */
sse_parser_t *sse_parser_new(sse_event_fn *on_event, void *arg);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void sse_parser_destroy(sse_parser_t **self_p);

/* Takes the next bytes of the stream. RC_TOO_BIG: a line or event past the bound; the
 * parser is of no use then. */
svc_rc sse_parser_feed(sse_parser_t *self, svc_str bytes) SVC_MUST_CHECK;

/* The stream has ended well: an unended line and an unended event count. Errors as
 * above. */
svc_rc sse_parser_end(sse_parser_t *self) SVC_MUST_CHECK;

#endif
