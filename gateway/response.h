/* response.h - making libmicrohttpd's responses: JSON, errors, streams, and the headers that all of them carry.
 *
 * The caller queues a response and drops its reference. Knows nothing of
 * requests beyond the few facts in response_context_t. Thread: any; a response
 * belongs to one reactor. */
#ifndef GATEWAY_RESPONSE_H
#define GATEWAY_RESPONSE_H

#include "svc/svc_config.h"
#include "texts.h"
#include <microhttpd.h>

/* What the headers depend on. */
typedef struct {
    const svc_config_t *config; /* server.cors_origins, auth.password_min */
    const char *origin;         /* Origin header of the request, NULL without one */
    const char *request_id;     /* X-Request-Id; NULL: none */
    text_language language;     /* of sentences */
    bool closes;                /* say Connection: close */
    bool is_chunked;            /* a stream will be: HTTP/1.1 */
} response_context_t;

/* Gives a response with a copy of `json`; NULL when out of memory. */
struct MHD_Response *response_json(const response_context_t *context, svc_str json);

/* Gives an empty response, for 204. */
struct MHD_Response *response_nothing(const response_context_t *context);

/* Gives {"error","code"} for a result. `told`, `retry_after_s`: as the service said,
 * see text_add_rc. RC_UNAUTHORIZED: a token was given, and is none (RFC 6750). */
struct MHD_Response *response_error(const response_context_t *context, svc_rc rc,
                                    svc_str told, uint64_t retry_after_s);

/* Gives {"error","code"} with sentence `text` and `arg` for its %s. */
struct MHD_Response *response_input_error(const response_context_t *context, svc_rc rc,
                                          text_id text, const char *arg);

/* Gives the same as the only event of an event stream, with a 200: an EventSource gives up
 * for good at any other status, and reconnects after this one, with the id that it has. */
struct MHD_Response *response_error_event(const response_context_t *context, svc_rc rc,
                                          svc_str told, uint64_t retry_after_s);

/* Gives a response whose body `read` makes piece by piece (as of
 * MHD_ContentReaderCallback). `is_events`: with the headers of an event stream. */
struct MHD_Response *response_stream(const response_context_t *context, const char *type,
                                     bool is_events, MHD_ContentReaderCallback read,
                                     void *arg);

/* Gives the empty answer to OPTIONS; `allow` are the methods of the path. */
struct MHD_Response *response_options(const response_context_t *context,
                                      const char *allow);

/* Adds the header `name`. */
void response_header(struct MHD_Response *response, const char *name, const char *value);

#endif
