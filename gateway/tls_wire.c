/* tls_wire.c - the TCP socket of a client that speaks TLS, as the two who have to do with it share it.
 *
 * Two counters and a descriptor, all atomic: the connection behind may live on another
 * reactor than the pump. Closing is the last one's, so that neither asks a descriptor that the
 * kernel has given to somebody else meanwhile. */
#include "tls_wire.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct tls_wire {
    int fd;                /* owned */
    atomic_uint users;     /* the pump, and the connection behind it */
    atomic_bool is_broken; /* its end must not look like one */
};

tls_wire_t *
tls_wire_new(int fd)
{
    tls_wire_t *self = svc_alloc(sizeof *self);

    self->fd = fd;
    atomic_init(&self->users, 1);
    atomic_init(&self->is_broken, false);
    return self;
}

tls_wire_t *
tls_wire_use(tls_wire_t *self)
{
    atomic_fetch_add(&self->users, 1);
    return self;
}

void
tls_wire_release(tls_wire_t **self_p)
{
    tls_wire_t *self = *self_p;

    *self_p = NULL;
    if (self == NULL || atomic_fetch_sub(&self->users, 1) > 1)
        return;
    close(self->fd);
    free(self);
}

int
tls_wire_fd(const tls_wire_t *self)
{
    return self->fd;
}

int
tls_wire_tcp(const tls_wire_t *self, int fd)
{
    return self != NULL ? self->fd : fd;
}

void
tls_wire_break(tls_wire_t *self)
{
    if (self != NULL)
        atomic_store(&self->is_broken, true);
}

bool
tls_wire_is_broken(const tls_wire_t *self)
{
    return atomic_load(&self->is_broken);
}
