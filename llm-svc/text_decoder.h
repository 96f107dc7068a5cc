/* text_decoder.h - the text of an answer, out of the JSON strings that it comes in.
 *
 * A provider cuts its text where it likes: between the two \u escapes of one character,
 * even inside a UTF-8 sequence. The decoder gives whole characters only and keeps what
 * is not yet one for the next piece; what never becomes one is U+FFFD, as U+0000 is. How
 * the text was cut into pieces makes no difference to what comes out. A small value, one
 * per answer. */
#ifndef LLM_SVC_TEXT_DECODER_H
#define LLM_SVC_TEXT_DECODER_H

#include "proto/base.h"

/* All zero is a decoder at the start of a text. */
typedef struct {
    uint32_t high;   /* a high surrogate that waits for its low half; 0: none */
    uint8_t part[4]; /* first bytes of an unfinished UTF-8 character */
    uint8_t have;    /* bytes in part */
    uint8_t need;    /* bytes of the whole character; 0: none is unfinished */
} text_decoder_t;

/* Appends the text of `raw`, the inside of a JSON string (escapes as they were sent), to
 * `out`. RC_INVALID: an escape is none; RC_TOO_BIG: `out` is full. */
svc_rc text_decoder_json(text_decoder_t *self, svc_str raw,
                         svc_buf_t *out) SVC_MUST_CHECK;

/* Appends plain bytes (no escapes), likewise. */
svc_rc text_decoder_plain(text_decoder_t *self, svc_str bytes,
                          svc_buf_t *out) SVC_MUST_CHECK;

/* The text is over: appends U+FFFD for what was left unfinished. */
svc_rc text_decoder_end(text_decoder_t *self, svc_buf_t *out) SVC_MUST_CHECK;

#endif
