/* openai_request.h - a prompt as the JSON body of POST …/chat/completions.
 *
 * {"model", "messages", "stream": true, "stream_options": {"include_usage": true}}: only
 * what every provider of that dialect understands. The key is not in it (it travels in a
 * header), and the address is the configuration's. Reentrant. */
#ifndef LLM_SVC_OPENAI_REQUEST_H
#define LLM_SVC_OPENAI_REQUEST_H

#include "proto/proto.h"

/* Every byte of the texts as \u00xx, and the frame around them. */
#define OPENAI_REQUEST_MAX_BYTES (6u * PROTO_PROMPT_MAX_BYTES + (4u << 20))

/* Appends the body to `out`. RC_TOO_BIG: it does not fit. */
svc_rc openai_request_write(const generate_req_t *req, svc_buf_t *out) SVC_MUST_CHECK;

/* Takes the wish for usage (stream_options) out of a body written as above: some
 * providers refuse it. False: it is not there. */
bool openai_request_drop_usage(svc_buf_t *body);

#endif
