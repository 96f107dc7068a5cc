/* door.c - where the clients of a reactor come in: its listening socket, open or shut.
 *
 * Shut means that the loop does not watch the socket; a timer opens it again. A turn lets in
 * so many at most, the rest at the next one: those who are inside have to be served, too.
 * An error of one client, or of nobody, is no reason to stop. */
#include "door.h"

#include "svc/svc_accept.h"
#include "svc/svc_seldom.h"
#include "svc/svc_time.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#define ACCEPTS_PER_TURN 64 /* then others get their turn */

struct door {
    svc_ctx_t *ctx; /* loop, log */
    door_fn *fn;    /* who takes them */
    void *arg;      /* of that */
    int fd;         /* owned */
    uint64_t timer; /* it opens then; 0: it is open */
    svc_seldom_t
        complaints; /* that nobody gets in: it may last, and it is tried ten times a second */
};

static void
on_client(void *arg, short events)
{
    door_t *self = arg;

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && self->timer == 0; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t n = sizeof peer;
        int fd = svc_accept(self->fd, (struct sockaddr *)&peer, &n);
        if (fd >= 0) {
            self->fn(self->arg, fd, &peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                   errno == ENOMEM) {
            if (svc_seldom(&self->complaints, 1, svc_mono_ms(), NULL))
                svc_log_warn(self->ctx->log, "cannot accept a connection: %s",
                             strerror(errno));
            door_shut(self, DOOR_PAUSE_MS);
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

static void
on_time(void *arg, short events)
{
    door_t *self = arg;

    (void)events;
    self->timer = 0;
    svc_loop_add_fd(self->ctx->loop, self->fd, ZMQ_POLLIN, on_client, self);
}

door_t *
door_new(svc_ctx_t *ctx, int listen_fd, door_fn *fn, void *arg)
{
    door_t *self = svc_alloc(sizeof *self);

    self->ctx = ctx;
    self->fd = listen_fd;
    self->fn = fn;
    self->arg = arg;
    on_time(self, 0);
    return self;
}

void
door_destroy(door_t **self_p)
{
    door_t *self = *self_p;

    *self_p = NULL;
    if (self == NULL)
        return;
    svc_loop_cancel(self->ctx->loop, self->timer);
    svc_loop_remove_fd(self->ctx->loop, self->fd);
    close(self->fd);
    free(self);
}

void
door_shut(door_t *self, uint64_t ms)
{
    svc_loop_cancel(self->ctx->loop, self->timer);
    svc_loop_remove_fd(self->ctx->loop, self->fd);
    self->timer = svc_loop_after(self->ctx->loop, ms, on_time, self);
}

void
door_open(door_t *self)
{
    if (self == NULL || self->timer == 0)
        return;
    svc_loop_cancel(self->ctx->loop, self->timer);
    on_time(self, 0);
}
