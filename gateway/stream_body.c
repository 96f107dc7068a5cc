/* stream_body.c - the body of a response that is made piece by piece, and its two ways to the client.
 *
 * A fill goes to a buffer that all bodies of a reactor share, so that a stream which is
 * not behind holds no buffer of its own. What the socket does not take at once is kept
 * until it does, and nothing more is made meanwhile: the viewer's offset stands still,
 * and what piles up for it merges. */
#include "stream_body.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define CHUNK_HEAD_BYTES 8 /* "ffffff\r\n": more than any fill */

void
stream_body_init(stream_body_t *self, stream_fill_fn *fill, void *arg, size_t enough)
{
    *self = (stream_body_t){.fill = fill, .arg = arg, .enough = enough};
    if (self->enough > STREAM_FILL_BYTES)
        self->enough = STREAM_FILL_BYTES;
    svc_buf_init(&self->rest, STREAM_FILL_MAX_BYTES);
}

void
stream_body_fini(stream_body_t *self)
{
    svc_buf_fini(&self->rest);
    self->taken = 0;
}

/* Keeps what was made and cannot be taken now. */
static bool
keep_rest(stream_body_t *self, svc_str rest, bool is_framed)
{
    self->is_framed = is_framed;
    return svc_buf_add_str(&self->rest, rest) == RC_OK;
}

static svc_str
rest_of(const stream_body_t *self)
{
    return (svc_str){self->rest.p + self->taken, self->rest.n - self->taken};
}

static void
take_rest(stream_body_t *self, size_t n)
{
    self->taken += n;
    if (self->taken == self->rest.n)
        stream_body_fini(self);
}

stream_step
stream_body_read(stream_body_t *self, svc_buf_t *scratch, char *buf, size_t max,
                 size_t *n_out)
{
    svc_str piece = rest_of(self);
    bool is_new = piece.n == 0;

    if (!is_new && self->is_framed)
        return STREAM_CUT; /* the client has half a chunk */
    if (is_new) {
        svc_buf_clear(scratch);
        stream_step step = self->fill(self->arg, scratch,
                                      max < self->enough ? max : self->enough);
        if (step != STREAM_MORE)
            return step;
        piece = svc_buf_str(scratch);
    }
    size_t n = piece.n < max ? piece.n : max;
    memcpy(buf, piece.p, n);
    if (!is_new)
        take_rest(self, n);
    else if (n < piece.n && !keep_rest(self, (svc_str){piece.p + n, piece.n - n}, false))
        return STREAM_CUT;
    *n_out = n;
    return STREAM_MORE;
}

/* Sends what the socket takes; gives how much that was, -1 when the client has gone. */
static ssize_t
send_some(int fd, svc_str bytes)
{
    ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL | MSG_DONTWAIT);

    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n;
}

static stream_step
send_rest(stream_body_t *self, int fd)
{
    svc_str rest = rest_of(self);

    if (rest.n == 0)
        return STREAM_MORE;
    ssize_t n = send_some(fd, rest);
    if (n < 0)
        return STREAM_CUT;
    take_rest(self, (size_t)n);
    return (size_t)n < rest.n ? STREAM_BLOCKED : STREAM_MORE;
}

/* Makes a chunk of what stands behind CHUNK_HEAD_BYTES in `scratch`. False: no room for its end. */
static bool
frame(svc_buf_t *scratch, svc_str *chunk)
{
    size_t n = scratch->n - CHUNK_HEAD_BYTES, from = CHUNK_HEAD_BYTES - 2;

    if (svc_buf_add_str(scratch, SVC_LIT("\r\n")) != RC_OK)
        return false;
    memcpy(scratch->p + from, "\r\n", 2);
    do { /* once for each token: no printf */
        SVC_ASSERT(from > 0);
        scratch->p[--from] = "0123456789abcdef"[n & 15];
    } while ((n >>= 4) > 0);
    *chunk = (svc_str){scratch->p + from, scratch->n - from};
    return true;
}

stream_step
stream_body_write(stream_body_t *self, svc_buf_t *scratch, int fd)
{
    stream_step step = send_rest(self, fd);

    while (step == STREAM_MORE) {
        svc_str chunk;
        svc_buf_clear(scratch);
        if (svc_buf_reserve(scratch, STREAM_FILL_BYTES) != RC_OK)
            return STREAM_CUT;
        scratch->n = CHUNK_HEAD_BYTES;
        step = self->fill(self->arg, scratch, self->enough);
        if (step != STREAM_MORE)
            break;
        if (!frame(scratch, &chunk))
            return STREAM_CUT;
        ssize_t n = send_some(fd, chunk);
        if (n < 0)
            return STREAM_CUT;
        if ((size_t)n == chunk.n)
            continue;
        step = keep_rest(self, (svc_str){chunk.p + n, chunk.n - (size_t)n}, true)
                   ? STREAM_BLOCKED
                   : STREAM_CUT;
    }
    return step;
}
