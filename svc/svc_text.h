/* svc_text.h - text as JSON and hex: the escaping that every service shares.
 *
 * What appends takes a bounded buffer and leaves it unchanged when it is full. Reading JSON is
 * not here (services use json-c or scanners of their own), UTF-8 validation stands in
 * proto/utf8.h. Reentrant. */
#ifndef SVC_SVC_TEXT_H
#define SVC_SVC_TEXT_H

#include "proto/base.h"

/* Appends `text` escaped for the inside of a JSON string (no quotes). `text` must be valid UTF-8. */
svc_rc svc_json_escape(svc_buf_t *out, svc_str text) SVC_MUST_CHECK;

/* Appends a JSON string with its quotes. */
svc_rc svc_json_string(svc_buf_t *out, svc_str text) SVC_MUST_CHECK;

/* Writes 2 * n lower-case hex digits and a NUL to `out`. */
void svc_hex(const void *bytes, size_t n, char *out);

/* Reads hex digits into n bytes; false unless text is exactly 2 * n hex digits. */
bool svc_unhex(svc_str text, void *out, size_t n);

#endif
