/* stream_body.h - the body of a response that is made piece by piece, and its two ways to the client.
 *
 * The general way: libmicrohttpd asks for bytes (stream_body_read) and frames them. The
 * direct way, for a connection whose headers are out and that is suspended in
 * libmicrohttpd: our own chunks go straight to the socket (stream_body_write), which
 * saves its bookkeeping and copies for every token. Both take from the same source, and
 * what one has left over is bounded by one fill. Between two chunks a body may change
 * from the direct way to the general one. Thread: its reactor's. */
#ifndef GATEWAY_STREAM_BODY_H
#define GATEWAY_STREAM_BODY_H

#include "proto/base.h"

#define STREAM_FILL_BYTES (16u << 10) /* enough for one write */
#define STREAM_BACKLOG_FILLS \
    16 /* enough for a client's stream: this part of what may be kept for it */
#define STREAM_FILL_MAX_BYTES \
    (160u                     \
     << 10) /* what a fill may come to: some events, the last one as large as they get */

typedef enum {
    STREAM_MORE,    /* something was appended */
    STREAM_WAIT,    /* nothing to send now */
    STREAM_BLOCKED, /* the socket takes no more now */
    STREAM_END,     /* that was all */
    STREAM_CUT, /* close the connection: the client shall see that something is missing */
} stream_step;

/* Appends bytes to `out` until it holds `enough` or there are no more for now.
 * STREAM_MORE exactly when it has appended something; never STREAM_BLOCKED. */
typedef stream_step stream_fill_fn(void *arg, svc_buf_t *out, size_t enough);

typedef struct {
    stream_fill_fn *fill; /* NULL: no stream */
    void *arg;            /* of fill */
    size_t enough;        /* bytes for one write */
    svc_buf_t rest;       /* owned; made and not yet taken */
    size_t taken;         /* bytes of rest that are gone */
    bool is_framed;       /* rest is a part of a chunk: for the socket only */
} stream_body_t;

/* Begins a body that `fill` makes, `enough` (STREAM_FILL_BYTES at most) bytes a time, and
 * what it makes too much. */
void stream_body_init(stream_body_t *self, stream_fill_fn *fill, void *arg,
                      size_t enough);

/* Frees what is left. Harmless on a zeroed one. */
void stream_body_fini(stream_body_t *self);

/* The general way: writes at most `max` bytes to `buf`, *n_out of them (STREAM_MORE).
 * `scratch` is shared by all bodies, its maximum STREAM_FILL_MAX_BYTES. */
stream_step stream_body_read(stream_body_t *self, svc_buf_t *scratch, char *buf,
                             size_t max, size_t *n_out);

/* The direct way: sends chunks until there is nothing to send or `fd` takes no more.
 * Never STREAM_MORE. */
stream_step stream_body_write(stream_body_t *self, svc_buf_t *scratch, int fd);

#endif
