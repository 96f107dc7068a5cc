/* cursor.h - reads msgpack from bytes that nobody has checked, one element at a time.
 *
 * msgpack-c packs what we send, but its unpacker allocates from declared counts (a message of six
 * bytes makes it ask for 8 GB), so reading is our own: a declared count or length is never
 * believed beyond the bytes that are left, nothing is allocated, and every function either moves
 * past one whole element or fails. After a failure the cursor is of no further use. Used by the
 * codec and the envelope only. */
#ifndef PROTO_CURSOR_H
#define PROTO_CURSOR_H

#include "proto/base.h"

typedef struct {
    const unsigned char *p;   /* next byte */
    const unsigned char *end; /* one past the last */
} proto_cursor_t;

/* A cursor at the start of `bytes`, which it borrows. */
proto_cursor_t proto_cursor(svc_str bytes);

/* True when nothing is left. */
bool proto_cursor_is_at_end(const proto_cursor_t *self);

/* Bytes that are left. */
size_t proto_cursor_left(const proto_cursor_t *self);

/* Reads a map's or an array's header. False: another type, or more elements than bytes left. */
bool proto_cursor_map(proto_cursor_t *self, size_t *n_out) SVC_MUST_CHECK;
bool proto_cursor_array(proto_cursor_t *self, size_t *n_out) SVC_MUST_CHECK;

/* Reads an integer that is not negative, in any of its encodings; a bool; a text; bytes. Views borrow the input.
 * Text is not checked to be UTF-8. False: another type, or cut short. */
bool proto_cursor_u64(proto_cursor_t *self, uint64_t *out) SVC_MUST_CHECK;
bool proto_cursor_bool(proto_cursor_t *self, bool *out) SVC_MUST_CHECK;
bool proto_cursor_str(proto_cursor_t *self, svc_str *out) SVC_MUST_CHECK;
bool proto_cursor_bin(proto_cursor_t *self, svc_str *out) SVC_MUST_CHECK;

/* Moves past one element of any type, at most `depth` levels of maps and arrays deep. */
bool proto_cursor_skip(proto_cursor_t *self, unsigned depth) SVC_MUST_CHECK;

#endif
