/* svc_table.h - find a struct by its number: a hash table of embedded nodes.
 *
 * For calls by id. Keys are unique and mostly counted upwards, so a multiplication
 * spreads them well enough. The table owns its buckets only, which double as it fills;
 * callers bound how many nodes there are. Thread: the owner's. */
#ifndef SVC_SVC_TABLE_H
#define SVC_SVC_TABLE_H

#include "proto/base.h"

typedef struct svc_table_node {
    uint64_t key;                /* unique in the table */
    struct svc_table_node *next; /* in the same bucket */
} svc_table_node_t;

/* Zeroed is empty. */
typedef struct {
    svc_table_node_t **buckets; /* array owned, nodes borrowed */
    size_t n_buckets;           /* 0 or a power of two */
    size_t n;                   /* nodes */
} svc_table_t;

/* Frees the buckets; the nodes are the caller's. */
void svc_table_fini(svc_table_t *self);

/* Adds a node under `key`, which must not be there yet. */
void svc_table_add(svc_table_t *self, svc_table_node_t *node, uint64_t key);

/* The node with this key, NULL when there is none. */
svc_table_node_t *svc_table_get(const svc_table_t *self, uint64_t key);

/* Removes the node with this key and returns it, NULL when there is none. */
svc_table_node_t *svc_table_remove(svc_table_t *self, uint64_t key);

/* Any node, NULL when empty: for emptying the table. Looks from bucket *from on and
 * moves it there; start with 0. */
svc_table_node_t *svc_table_any(const svc_table_t *self, size_t *from);

#endif
