/* stream_id.h - the id of an event: how far a client has come in which answer.
 *
 *   <stream, 32 hex digits>:<offset>[:d|:e]
 *
 * The offset counts the bytes of the answer that the client has when it has processed
 * the event; ":d" is behind done, ":e" behind the last event. A client sends an id back
 * as Last-Event-ID (an EventSource does it by itself) or as ?after=. Only what we write
 * is read: no sign, no leading zero, no capitals. Reentrant. */
#ifndef GATEWAY_STREAM_ID_H
#define GATEWAY_STREAM_ID_H

#include "proto/proto.h"

typedef enum {
    STREAM_ID_TEXT, /* the text up to the offset */
    STREAM_ID_DONE, /* all text and done */
    STREAM_ID_END,  /* everything */
} stream_id_mark;

typedef struct {
    uint8_t stream[PROTO_STREAM_BYTES]; /* which answer */
    uint64_t offset;     /* bytes, PROTO_ANSWER_MAX_BYTES at most when it was read */
    stream_id_mark mark; /* see there */
} stream_id_t;

/* Reads an id. False: it is none, *out is unchanged. */
bool stream_id_read(svc_str text, stream_id_t *out) SVC_MUST_CHECK;

/* What stands behind the offset of an id with this mark: "", ":d" or ":e". */
const char *stream_id_suffix(stream_id_mark mark);

#endif
