/* json_in.h - the JSON body of a request: an object of which a few string keys are read.
 *
 * Strict: valid UTF-8, one object, nothing after it, bounded depth and number of
 * values. Keys that nobody asks for are ignored, whatever their type. The result says
 * which sentence the client should read. Thread: the owner's. */
#ifndef GATEWAY_JSON_IN_H
#define GATEWAY_JSON_IN_H

#include "texts.h"

#define JSON_IN_DEPTH_MAX 32 /* nesting; more is no request of ours */
#define JSON_IN_VALUES_MAX \
    10000u /* commas outside strings: bounds what json-c allocates for ignored keys */

typedef struct json_in json_in_t;

/* What is wrong with a body. */
typedef struct {
    text_id text;    /* the sentence */
    const char *key; /* its %s, or NULL; static */
} json_in_error_t;

/* Parses a body. Gives the document; NULL with *error set when it is none. */
json_in_t *json_in_parse(svc_str body, json_in_error_t *error);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void json_in_destroy(json_in_t **self_p);

/* One key that a route reads. */
typedef struct {
    const char *key;  /* static */
    bool required;    /* absent or null: an error; otherwise *out is empty then */
    bool non_empty;   /* "" is an error */
    size_t max_bytes; /* longer is an error */
    svc_str *out;     /* a view into the document */
} json_in_key_t;

/* Reads `n` keys. False with *error set at the first one that is wrong. */
bool json_in_read(const json_in_t *self, const json_in_key_t *keys, size_t n,
                  json_in_error_t *error) SVC_MUST_CHECK;

#endif
