/* upstream_error.h - what a provider's failure is to us: a result code and one sentence.
 *
 * The sentence is the provider's own where its response has one, bounded, valid UTF-8,
 * on one line, and without the key that was sent; else one that names the status. Only
 * four statuses have a code of their own, since only they tell a client what to do.
 * Reentrant. */
#ifndef LLM_SVC_UPSTREAM_ERROR_H
#define LLM_SVC_UPSTREAM_ERROR_H

#include "ending.h"

/* The code for an HTTP status (or the same number in an error object); RC_UPSTREAM for
 * all others. */
svc_rc upstream_error_code(uint64_t status);

/* The same for metrics. */
ending_cause upstream_error_cause(uint64_t status);

/* Appends `text` to `out` with each occurrence of `secret` (not empty, at least 4 bytes)
 * as "***", control characters as spaces, cut to ENDING_TEXT_MAX_BYTES of whole
 * characters. */
void upstream_error_clean(svc_str text, svc_str secret, svc_buf_t *out);

/* Appends the sentence for a response with this status and body. */
void upstream_error_sentence(long status, svc_str body, svc_str secret, svc_buf_t *out);

#endif
