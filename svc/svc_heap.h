/* svc_heap.h - what is due next: an indexed binary heap of embedded nodes.
 *
 * Timers of the loop, kept calls of the server and outstanding calls of a peer all ask
 * the same question. A node knows its place, so moving or removing one costs O(log n).
 * Among equal keys the one that was put first is first. The heap never owns a node,
 * only its array of pointers, which grows with what is put; callers bound that.
 * Thread: the owner's. */
#ifndef SVC_SVC_HEAP_H
#define SVC_SVC_HEAP_H

#include "proto/base.h"

typedef struct {
    uint64_t key;   /* ms; smaller is earlier */
    uint64_t order; /* of being put: decides between equal keys */
    size_t place;   /* index in slots + 1; 0: in no heap */
} svc_heap_node_t;

/* The place of a node. Its own key and order lag behind those of a node that was moved to a later
 * key, until it comes first. */
typedef struct {
    uint64_t key, order;   /* never later than those of the node */
    svc_heap_node_t *node; /* borrowed */
} svc_heap_slot_t;

/* Zeroed is empty. */
typedef struct {
    svc_heap_slot_t *slots; /* owned */
    size_t n;               /* in use */
    size_t cap;             /* allocated */
    uint64_t puts;          /* so far: source of `order` */
} svc_heap_t;

/* Frees the array; the nodes are the caller's. */
void svc_heap_fini(svc_heap_t *self);

/* Adds a node, or moves one that is there, to `key`. To move it to a later one costs next to nothing. */
void svc_heap_put(svc_heap_t *self, svc_heap_node_t *node, uint64_t key);

/* Removes a node; harmless when it is in no heap. */
void svc_heap_remove(svc_heap_t *self, svc_heap_node_t *node);

/* The earliest node, NULL when empty. */
svc_heap_node_t *svc_heap_first(svc_heap_t *self);

#endif
