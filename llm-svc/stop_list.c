/* stop_list.c - a ring: the newest overwrites the oldest, time decides what still counts.
 *
 * Rows are in the order of time, so a search goes from the newest back and ends at the
 * first one that is too old: an idle list costs nothing. Nothing is ever removed; a stop
 * that has found its generation does no harm, since streams and fences are never used
 * again. */
#include "stop_list.h"

#include <stdlib.h>

typedef struct {
    uint8_t stream[PROTO_STREAM_BYTES]; /* which answer */
    uint64_t fence;                     /* which text of it */
    uint64_t ms;                        /* when */
} stop_t;

struct stop_list {
    stop_t stops[STOP_LIST_MAX]; /* ring */
    size_t n;                    /* rows in use */
    size_t next;                 /* row that is written next */
};

stop_list_t *
stop_list_new(void)
{
    return svc_alloc(sizeof(stop_list_t));
}

void
stop_list_destroy(stop_list_t **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

void
stop_list_add(stop_list_t *self, svc_str stream, uint64_t fence, uint64_t now_ms)
{
    stop_t *stop = &self->stops[self->next];

    SVC_ASSERT(stream.n == PROTO_STREAM_BYTES);
    memcpy(stop->stream, stream.p, PROTO_STREAM_BYTES);
    stop->fence = fence;
    stop->ms = now_ms;
    self->next = (self->next + 1) % STOP_LIST_MAX;
    if (self->n < STOP_LIST_MAX)
        self->n++;
}

bool
stop_list_has(const stop_list_t *self, svc_str stream, uint64_t fence, uint64_t now_ms)
{
    for (size_t i = 1; i <= self->n; i++) {
        const stop_t *stop =
            &self->stops[(self->next + STOP_LIST_MAX - i) % STOP_LIST_MAX];

        if (now_ms - stop->ms >= STOP_LIST_MS)
            return false;
        if (stop->fence == fence &&
            memcmp(stop->stream, stream.p, PROTO_STREAM_BYTES) == 0)
            return true;
    }
    return false;
}
