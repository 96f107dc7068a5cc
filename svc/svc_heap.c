/* svc_heap.c - what is due next: an indexed binary heap of embedded nodes.
 *
 * For the timers of a loop and the deadlines of calls; svc_heap.h is the manual. The
 * array doubles when full and never shrinks. Thread: the owner's. Place 0 means "in no
 * heap", so that a zeroed node can be removed safely; slots[place - 1] is the node's.
 *
 * Deadlines are put off far more often than they pass: with every part of an answer. So
 * a node that moves to a later key stays where it is, with the earlier key in its slot,
 * and is moved only when that slot comes first. */
#include "svc/svc_heap.h"

#include <stdlib.h>

#define HEAP_FIRST_CAP 64

static bool
is_before(const svc_heap_slot_t *a, const svc_heap_slot_t *b)
{
    return a->key != b->key ? a->key < b->key : a->order < b->order;
}

static void
set(svc_heap_t *self, size_t i, const svc_heap_slot_t *slot)
{
    self->slots[i] = *slot;
    slot->node->place = i + 1;
}

static void
sift_up(svc_heap_t *self, size_t i)
{
    const svc_heap_slot_t slot = self->slots[i];
    while (i > 0 && is_before(&slot, &self->slots[(i - 1) / 2])) {
        set(self, i, &self->slots[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    set(self, i, &slot);
}

static void
sift_down(svc_heap_t *self, size_t i)
{
    const svc_heap_slot_t slot = self->slots[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= self->n)
            break;
        if (child + 1 < self->n &&
            is_before(&self->slots[child + 1], &self->slots[child]))
            child++;
        if (!is_before(&self->slots[child], &slot))
            break;
        set(self, i, &self->slots[child]);
        i = child;
    }
    set(self, i, &slot);
}

static void
grow(svc_heap_t *self)
{
    size_t cap = self->cap == 0 ? HEAP_FIRST_CAP : self->cap * 2;
    svc_heap_slot_t *slots = svc_alloc(cap * sizeof(*slots));
    if (self->n > 0)
        memcpy(slots, self->slots, self->n * sizeof(*slots));
    free(self->slots);
    self->slots = slots;
    self->cap = cap;
}

void
svc_heap_fini(svc_heap_t *self)
{
    free(self->slots);
    *self = (svc_heap_t){0};
}

void
svc_heap_put(svc_heap_t *self, svc_heap_node_t *node, uint64_t key)
{
    node->key = key;
    node->order = ++self->puts;
    if (node->place != 0 && self->slots[node->place - 1].key <= key)
        return;
    if (node->place == 0) {
        if (self->n == self->cap)
            grow(self);
        node->place = ++self->n;
    }
    self->slots[node->place - 1] = (svc_heap_slot_t){key, node->order, node};
    sift_up(self, node->place - 1);
}

void
svc_heap_remove(svc_heap_t *self, svc_heap_node_t *node)
{
    if (node->place == 0)
        return;
    const size_t i = node->place - 1;
    const svc_heap_slot_t last = self->slots[--self->n];
    node->place = 0;
    if (last.node == node)
        return;
    set(self, i, &last);
    sift_up(self, i);
    sift_down(self, last.node->place - 1);
}

svc_heap_node_t *
svc_heap_first(svc_heap_t *self)
{
    while (self->n > 0) {
        svc_heap_slot_t *slot = &self->slots[0];
        svc_heap_node_t *node = slot->node;
        if (slot->order == node->order)
            return node;
        slot->key = node->key;
        slot->order = node->order;
        sift_down(self, 0);
    }
    return NULL;
}
