/* svc_table.c - find a struct by its number: a hash table of embedded nodes.
 *
 * For calls by id; svc_table.h is the manual. Chained buckets, doubled when there are
 * as many nodes as buckets; never shrunk, since the number of calls in flight comes
 * back to what it was. Thread: the owner's. */
#include "svc/svc_table.h"

#include <stdlib.h>

#define TABLE_FIRST_BUCKETS 64

static size_t
bucket_of(const svc_table_t *self, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & (self->n_buckets - 1);
}

static void
grow(svc_table_t *self)
{
    svc_table_t wider = {.n_buckets = self->n_buckets == 0 ? TABLE_FIRST_BUCKETS
                                                           : self->n_buckets * 2};
    wider.buckets = svc_alloc(wider.n_buckets * sizeof(*wider.buckets));
    for (size_t i = 0; i < self->n_buckets; i++) {
        svc_table_node_t *next;
        for (svc_table_node_t *node = self->buckets[i]; node != NULL; node = next) {
            next = node->next;
            size_t to = bucket_of(&wider, node->key);
            node->next = wider.buckets[to];
            wider.buckets[to] = node;
        }
    }
    free(self->buckets);
    wider.n = self->n;
    *self = wider;
}

void
svc_table_fini(svc_table_t *self)
{
    free(self->buckets);
    *self = (svc_table_t){0};
}

void
svc_table_add(svc_table_t *self, svc_table_node_t *node, uint64_t key)
{
    if (self->n == self->n_buckets)
        grow(self);
    size_t to = bucket_of(self, key);
    node->key = key;
    node->next = self->buckets[to];
    self->buckets[to] = node;
    self->n++;
}

svc_table_node_t *
svc_table_get(const svc_table_t *self, uint64_t key)
{
    if (self->n == 0)
        return NULL;
    svc_table_node_t *node = self->buckets[bucket_of(self, key)];
    while (node != NULL && node->key != key)
        node = node->next;
    return node;
}

svc_table_node_t *
svc_table_remove(svc_table_t *self, uint64_t key)
{
    if (self->n == 0)
        return NULL;
    svc_table_node_t **at = &self->buckets[bucket_of(self, key)];
    while (*at != NULL && (*at)->key != key)
        at = &(*at)->next;
    svc_table_node_t *node = *at;
    if (node != NULL) {
        *at = node->next;
        self->n--;
    }
    return node;
}

svc_table_node_t *
svc_table_any(const svc_table_t *self, size_t *from)
{
    while (*from < self->n_buckets && self->buckets[*from] == NULL)
        (*from)++;
    return *from < self->n_buckets ? self->buckets[*from] : NULL;
}
