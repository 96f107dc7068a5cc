/* svc_trace.h - the ids by which the log lines of one request are found in every service.
 *
 * A trace id is 16 bytes: taken from the client's `traceparent` header (W3C Trace Context, level 1)
 * or made by the gateway, carried by the bus in the envelope of every request, written as 32 hex
 * digits in the log, and passed on to providers in a traceparent of our own. What a client calls
 * its request (X-Request-Id) is only repeated. No sockets, no state. Reentrant. */
#ifndef SVC_SVC_TRACE_H
#define SVC_SVC_TRACE_H

#include "proto/proto.h"

#define SVC_TRACE_HEX_BYTES      (2 * PROTO_TRACE_BYTES)
#define SVC_TRACEPARENT_BYTES    55 /* of version 00 */
#define SVC_REQUEST_ID_MAX_BYTES 64

/* Takes the trace id out of a traceparent header. False: it is malformed, of a version that is none, or one of its ids is
 * all zeros; `out` is unchanged then. Of versions to come only what version 00 has is read, as the standard says. */
bool svc_trace_read(svc_str header, uint8_t out[PROTO_TRACE_BYTES]) SVC_MUST_CHECK;

/* Writes a traceparent of version 00 for a request of ours: `parent` names it (not 0). Not sampled: we record no spans. */
void svc_trace_write(svc_str trace, uint64_t parent, char out[SVC_TRACEPARENT_BYTES + 1]);

/* May this be repeated in a header and in a log line? 1 to SVC_REQUEST_ID_MAX_BYTES letters, digits and -._~:+/=@. */
bool svc_trace_is_request_id(svc_str text);

/* Is this operation one that services ask of each other many times for one request of a user? Its log lines are for debugging. */
bool svc_trace_is_routine(const char *op);

#endif
