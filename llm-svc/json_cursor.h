/* json_cursor.h - reads JSON in one pass, in place: no tree, no allocation, bounded depth.
 *
 * Made for the chunks of a provider's stream, thousands a second, of which a few fields
 * in any order are wanted: the caller walks objects key by key, takes what it knows and
 * skips the rest. Strings come out raw (escapes as sent, already checked);
 * text_decoder.h makes text of them. Strict in structure; NaN, Infinity and control
 * characters in strings are let pass, since real providers send them. After the first
 * error every further call fails. Reentrant. */
#ifndef LLM_SVC_JSON_CURSOR_H
#define LLM_SVC_JSON_CURSOR_H

#include "proto/base.h"

#define JSON_CURSOR_DEPTH_MAX 64

typedef enum {
    JSON_NONE, /* end of input, or nothing that begins a value */
    JSON_OBJECT,
    JSON_ARRAY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_BOOL,
    JSON_NULL,
} json_kind;

typedef struct {
    const char *p;   /* next byte */
    const char *end; /* past the last */
    unsigned depth;  /* objects and arrays that are open */
    bool failed;     /* something was no JSON; stays */
    bool escaped;    /* the string that was taken last has escapes */
} json_cursor_t;

/* Starts at the first byte of `text` (borrowed). */
void json_cursor_init(json_cursor_t *self, svc_str text);

/* What the next value is, by its first byte. Skips white space, takes nothing else. */
json_kind json_cursor_peek(json_cursor_t *self);

/* Takes the '{' or '[' of the next value; false (and failed) when it is something else
 * or too deep. */
bool json_cursor_enter(json_cursor_t *self);

/* Goes to the next member of the open object and takes its key and colon. `*first`: true
 * before the first call, then kept here. False: the object was closed, or failed. The
 * caller takes the value before the next call. */
bool json_cursor_member(json_cursor_t *self, bool *first, svc_str *key);

/* Goes to the next item of the open array, likewise. */
bool json_cursor_item(json_cursor_t *self, bool *first);

/* Takes a string: its inside, raw. False (and failed) when the next value is none. */
bool json_cursor_string(json_cursor_t *self, svc_str *raw);

/* Takes a number: its characters. Likewise. */
bool json_cursor_number(json_cursor_t *self, svc_str *digits);

/* Takes any value, whole. */
bool json_cursor_skip(json_cursor_t *self);

/* True when nothing but white space is left. */
bool json_cursor_at_end(json_cursor_t *self);

#endif
