/* chunk_memo.h - the last chunk of an answer, as a mould for the next one.
 *
 * The chunks of one answer mostly differ in nothing but their text: what stands before and
 * behind it is the same, byte by byte. So whoever has parsed one chunk remembers the two
 * parts around its text, and a chunk with the same two parts around another string is
 * understood without being parsed. Whatever differs in any other byte goes to chunk_parser.
 *
 *   {"id":"1","choices":[{"delta":{"content":"  Hello  "},"finish_reason":null}]}
 *   '---------------- front ----------------'         '---------- back ---------'
 *
 * It is right for any provider, since a parser that has come through `front` stands inside a
 * string, and behind that string reads `back` as it did before. One per answer; reentrant. */
#ifndef LLM_SVC_CHUNK_MEMO_H
#define LLM_SVC_CHUNK_MEMO_H

#include "chunk_parser.h"

#define CHUNK_MEMO_MAX_BYTES 2048 /* front and back together; more is not remembered */

typedef struct {
    svc_buf_t around; /* front, then back; owned */
    size_t front_n;   /* bytes of front; 0: nothing is remembered */
} chunk_memo_t;

/* Makes it empty. */
void chunk_memo_init(chunk_memo_t *self);

/* Frees what it has; it is empty afterwards and can be used again. */
void chunk_memo_fini(chunk_memo_t *self);

/* Does what chunk_next does, and gives what it would give. */
svc_rc chunk_memo_next(chunk_memo_t *self, svc_str *rest, chunk_t *out) SVC_MUST_CHECK;

#endif
