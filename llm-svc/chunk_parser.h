/* chunk_parser.h - what one chunk of a provider's answer says.
 *
 * A chunk is the data of one event ("chat.completion.chunk"), the body of an answer that
 * is no stream ("chat.completion"), or the body of an error. Fields come in any order,
 * with null for "nothing", between any number of unknown ones. A chunk is taken or
 * refused as a whole. Strings are raw views into the data (text_decoder.h makes text of
 * them). No state, no allocation; reentrant. */
#ifndef LLM_SVC_CHUNK_PARSER_H
#define LLM_SVC_CHUNK_PARSER_H

#include "proto/proto.h"
#include "text_decoder.h"

typedef struct {
    bool done;       /* it was [DONE]; nothing else is set then */
    svc_str content; /* raw: choices[0].delta.content, or message.content */
    bool is_parts;   /* content is not a string, but an array of parts: see chunk_text */
    svc_str finish;  /* raw: choices[0].finish_reason; empty: not yet */
    bool has_usage;  /* usage was told */
    usage_t usage;   /* valid if has_usage */
    bool is_error;   /* an error object instead of an answer */
    svc_str error;   /* raw: its message; empty when it has none */
    uint64_t error_status; /* its numeric "code" (401, 429 …), 0: none */
} chunk_t;

/* Takes the next chunk from `rest` and moves `rest` behind it: one event may hold
 * several JSON values. RC_NOT_FOUND: only white space was left. RC_INVALID: no JSON, or
 * nested too deeply. `out` is set on RC_OK only. */
svc_rc chunk_next(svc_str *rest, chunk_t *out) SVC_MUST_CHECK;

/* Appends the answer's text in a chunk to `out`, by the decoder of that answer. Of an array of parts
 * ({"type":"text","text":"…"}) it is the text of the parts of this type, or of none, in their order; parts of
 * another type (thinking, images) are no text. RC_TOO_BIG: `out` is full. */
svc_rc chunk_text(const chunk_t *chunk, text_decoder_t *decoder,
                  svc_buf_t *out) SVC_MUST_CHECK;

/* Appends the provider's own message out of an error body (JSON of any of the usual
 * shapes) to `out`, as valid UTF-8 of at most `max` bytes. False: the body has none (it
 * is HTML, empty, or something else). */
bool chunk_error_text(svc_str body, size_t max, svc_buf_t *out);

/* Appends the text of the raw string `raw` to `out`, cut to at most `max` bytes of whole
 * characters. */
void chunk_put_text(svc_str raw, size_t max, svc_buf_t *out);

#endif
