/* stop_list.h - stops that came before the generation they are meant for.
 *
 * A stop and a generate may come by different connections, or the generate may still be
 * on its way; so a stop of what is unknown is remembered for STOP_LIST_MS. Bounded: the
 * oldest is forgotten when there are too many. Pure logic: told the time. Thread: the
 * loop's. */
#ifndef LLM_SVC_STOP_LIST_H
#define LLM_SVC_STOP_LIST_H

#include "proto/proto.h"

#define STOP_LIST_MAX \
    4096 /* kept at once; a search walks all of them, once per generate */
#define STOP_LIST_MS 60000 /* remembered for so long */

typedef struct stop_list stop_list_t;

/* Gives an empty list. */
stop_list_t *stop_list_new(void);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void stop_list_destroy(stop_list_t **self_p);

/* Remembers a stop of this stream (PROTO_STREAM_BYTES) and fence. */
void stop_list_add(stop_list_t *self, svc_str stream, uint64_t fence, uint64_t now_ms);

/* True when it was stopped not longer ago than that. */
bool stop_list_has(const stop_list_t *self, svc_str stream, uint64_t fence,
                   uint64_t now_ms);

#endif
