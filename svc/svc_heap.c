/* svc_heap.c - what is due next: an indexed binary heap of embedded nodes.
 *
 * For the timers of a loop and the deadlines of calls; svc_heap.h is the manual. The
 * array doubles when full and never shrinks. Thread: the owner's. Place 0 means "in no
 * heap", so that a zeroed node can be removed safely; nodes[place - 1] is the node
 * itself. */
#include "svc/svc_heap.h"

#include <stdlib.h>

#define HEAP_FIRST_CAP 64

static bool
is_before(const svc_heap_node_t *a, const svc_heap_node_t *b)
{
    return a->key != b->key ? a->key < b->key : a->order < b->order;
}

static void
set(svc_heap_t *self, size_t i, svc_heap_node_t *node)
{
    self->nodes[i] = node;
    node->place = i + 1;
}

static void
sift_up(svc_heap_t *self, size_t i)
{
    svc_heap_node_t *node = self->nodes[i];
    while (i > 0 && is_before(node, self->nodes[(i - 1) / 2])) {
        set(self, i, self->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    set(self, i, node);
}

static void
sift_down(svc_heap_t *self, size_t i)
{
    svc_heap_node_t *node = self->nodes[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= self->n)
            break;
        if (child + 1 < self->n && is_before(self->nodes[child + 1], self->nodes[child]))
            child++;
        if (!is_before(self->nodes[child], node))
            break;
        set(self, i, self->nodes[child]);
        i = child;
    }
    set(self, i, node);
}

static void
grow(svc_heap_t *self)
{
    size_t cap = self->cap == 0 ? HEAP_FIRST_CAP : self->cap * 2;
    svc_heap_node_t **nodes = svc_alloc(cap * sizeof(*nodes));
    if (self->n > 0)
        memcpy(nodes, self->nodes, self->n * sizeof(*nodes));
    free(self->nodes);
    self->nodes = nodes;
    self->cap = cap;
}

void
svc_heap_fini(svc_heap_t *self)
{
    free(self->nodes);
    *self = (svc_heap_t){0};
}

void
svc_heap_put(svc_heap_t *self, svc_heap_node_t *node, uint64_t key)
{
    node->key = key;
    node->order = ++self->puts;
    if (node->place == 0) {
        if (self->n == self->cap)
            grow(self);
        set(self, self->n++, node);
    }
    sift_up(self, node->place - 1);
    sift_down(self, node->place - 1);
}

void
svc_heap_remove(svc_heap_t *self, svc_heap_node_t *node)
{
    if (node->place == 0)
        return;
    size_t i = node->place - 1;
    svc_heap_node_t *last = self->nodes[--self->n];
    node->place = 0;
    if (last == node)
        return;
    set(self, i, last);
    sift_up(self, i);
    sift_down(self, last->place - 1);
}

svc_heap_node_t *
svc_heap_first(const svc_heap_t *self)
{
    return self->n == 0 ? NULL : self->nodes[0];
}
