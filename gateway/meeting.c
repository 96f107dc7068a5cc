/* meeting.c - where the viewers of an answer meet: which reactor reads it, and connections on their way there.
 *
 *     slots   [ conversation 17 at 2 | - | conversation 4 at 1 | ... ]   hashed, one word each, no locks
 *     boxes   [ 1: open, 40 connections, guests: fd 12 ] [ 2: ... ]      a lock for each
 *
 * A slot is one atomic word, so that it is whole whoever reads it; what a collision loses is
 * a better place for somebody. */
#include "meeting.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SLOT_BITS    13 /* 64 KB; answers that are read at the same time */
#define REACTOR_BITS 8
#define NEARLY_FULL  8 /* one place in so many is left to those that come by themselves */

typedef struct {
    pthread_mutex_t lock;                        /* of what follows but connections */
    bool open;                                   /* it takes guests */
    size_t n;                                    /* guests that wait */
    meeting_guest_t guests[MEETING_WAITING_MAX]; /* oldest first */
    int fd;                                      /* owned eventfd: guests wait */
    atomic_size_t connections;                   /* as it has told */
} box_t;

struct meeting {
    atomic_uint max;                             /* connections of a reactor */
    size_t n;                                    /* reactors */
    box_t *boxes;                                /* owned; reactor i has boxes[i - 1] */
    atomic_uint_least64_t slots[1 << SLOT_BITS]; /* conversation and reactor; 0: free */
};

meeting_t *
meeting_new(size_t n, uint32_t max)
{
    meeting_t *self = svc_alloc(sizeof *self);

    SVC_ASSERT(n < 1u << REACTOR_BITS);
    self->n = n;
    atomic_init(&self->max, max);
    self->boxes = svc_alloc(n * sizeof *self->boxes);
    for (size_t i = 0; i < n; i++) {
        pthread_mutex_init(&self->boxes[i].lock, NULL);
        self->boxes[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        SVC_ASSERT(self->boxes[i].fd >= 0);
    }
    return self;
}

void
meeting_set_max(meeting_t *self, uint32_t max)
{
    atomic_store_explicit(&self->max, max, memory_order_relaxed);
}

void
meeting_destroy(meeting_t **self_p)
{
    meeting_t *self = *self_p;

    if (self == NULL)
        return;
    for (size_t i = 0; i < self->n; i++) {
        SVC_ASSERT(!self->boxes[i].open && self->boxes[i].n == 0);
        close(self->boxes[i].fd);
        pthread_mutex_destroy(&self->boxes[i].lock);
    }
    free(self->boxes);
    free(self);
    *self_p = NULL;
}

/* --- who reads what ----------------------------------------------------------------------- */

static size_t
slot_of(uint64_t conversation)
{
    return (size_t)((conversation * 0x9e3779b97f4a7c15u) >> (64 - SLOT_BITS));
}

/* 0: a number that has no place in a word. */
static uint64_t
word_of(uint64_t conversation, size_t reactor)
{
    return conversation >> (64 - REACTOR_BITS) == 0
               ? conversation << REACTOR_BITS | reactor
               : 0;
}

void
meeting_begin(meeting_t *self, uint64_t conversation, size_t reactor)
{
    atomic_uint_least64_t *slot = &self->slots[slot_of(conversation)];

    if (atomic_load(slot) >> REACTOR_BITS != conversation)
        atomic_store(slot, word_of(conversation, reactor));
}

void
meeting_end(meeting_t *self, uint64_t conversation, size_t reactor)
{
    uint64_t word = word_of(conversation, reactor);

    atomic_compare_exchange_strong(&self->slots[slot_of(conversation)], &word, 0);
}

/* The conversation of "GET /api/chat/17/stream"; 0: it is another request. */
static uint64_t
streams(svc_str head)
{
    static const char before[] = "GET /api/chat/", after[] = "/stream";
    size_t at = sizeof before - 1;
    uint64_t conversation = 0;

    if (head.n < at || memcmp(head.p, before, at) != 0)
        return 0;
    for (; at < head.n && head.p[at] >= '0' && head.p[at] <= '9'; at++) {
        if (conversation >> (64 - REACTOR_BITS) != 0)
            return 0;
        conversation = conversation * 10 + (uint64_t)(head.p[at] - '0');
    }
    if (head.n - at <= sizeof after - 1 ||
        memcmp(head.p + at, after, sizeof after - 1) != 0)
        return 0;
    char end = head.p[at + sizeof after - 1];
    return end == ' ' || end == '?' || end == '/' ? conversation : 0;
}

size_t
meeting_place(const meeting_t *self, svc_str head, size_t here)
{
    uint64_t conversation = streams(head);

    if (conversation == 0)
        return 0;
    uint64_t word = atomic_load(&self->slots[slot_of(conversation)]);
    size_t reactor = (size_t)(word & ((1u << REACTOR_BITS) - 1));
    return word >> REACTOR_BITS == conversation && reactor != here ? reactor : 0;
}

/* --- on the way --------------------------------------------------------------------------- */

void
meeting_count(meeting_t *self, size_t reactor, size_t connections)
{
    atomic_store_explicit(&self->boxes[reactor - 1].connections, connections,
                          memory_order_relaxed);
}

static size_t
count(const meeting_t *self, size_t reactor)
{
    return atomic_load_explicit(&self->boxes[reactor - 1].connections,
                                memory_order_relaxed);
}

bool
meeting_send(meeting_t *self, size_t from, size_t to, const meeting_guest_t *guest)
{
    box_t *box = &self->boxes[to - 1];
    size_t own = count(self, from);
    unsigned max = atomic_load_explicit(&self->max, memory_order_relaxed);
    uint64_t one = 1;

    pthread_mutex_lock(&box->lock);
    size_t held = count(self, to) + box->n;
    bool takes = box->open && box->n < MEETING_WAITING_MAX &&
                 held < max - max / NEARLY_FULL && held < own + own / 4 + MEETING_SLACK;
    if (takes) {
        box->guests[box->n++] = *guest;
        ssize_t n = write(box->fd, &one, sizeof one);
        SVC_ASSERT(n == sizeof one);
    }
    pthread_mutex_unlock(&box->lock);
    return takes;
}

int
meeting_open(meeting_t *self, size_t reactor)
{
    box_t *box = &self->boxes[reactor - 1];

    pthread_mutex_lock(&box->lock);
    box->open = true;
    pthread_mutex_unlock(&box->lock);
    return box->fd;
}

bool
meeting_receive(meeting_t *self, size_t reactor, meeting_guest_t *out)
{
    box_t *box = &self->boxes[reactor - 1];
    uint64_t times;

    pthread_mutex_lock(&box->lock);
    bool has_one = box->n > 0;
    if (has_one) {
        *out = box->guests[0];
        box->n--;
        memmove(box->guests, box->guests + 1, box->n * sizeof box->guests[0]);
    } else { /* under the lock: nobody writes between the look and this */
        ssize_t n = read(box->fd, &times, sizeof times);
        SVC_ASSERT(n == sizeof times || n < 0);
    }
    pthread_mutex_unlock(&box->lock);
    return has_one;
}

void
meeting_close(meeting_t *self, size_t reactor)
{
    box_t *box = &self->boxes[reactor - 1];

    pthread_mutex_lock(&box->lock);
    box->open = false;
    pthread_mutex_unlock(&box->lock);
}
