/* utf8.h - is this text UTF-8, and how many characters does it have?
 *
 * Every text on the wire and in the database is checked by this one function: no overlong
 * forms, no surrogates, nothing past U+10FFFF. What is ASCII costs an eighth of a step per byte.
 * A reader that may hold half a character (a provider's stream) keeps what is past the valid
 * prefix until more comes. Reentrant; allocates nothing. */
#ifndef PROTO_UTF8_H
#define PROTO_UTF8_H

#include "proto/base.h"

/* Bytes of the longest prefix of `p` that is whole, valid UTF-8 characters; `n` when all of it is. U+0000 is valid. */
size_t svc_utf8_valid(const char *p, size_t n);

/* Code points of valid UTF-8 (of anything else: bytes that are no continuation bytes). */
size_t svc_utf8_count(const char *p, size_t n);

/* Has valid UTF-8 a control character in it (C0, DEL, C1)? */
bool svc_utf8_has_control(const char *p, size_t n);

#endif
