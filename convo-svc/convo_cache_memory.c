/* convo_cache_memory.c - the cache of histories in our own memory, bounded by bytes.
 *
 *   newest <-> ... <-> oldest     a list in order of use, and a table by conversation
 *
 * One entry a conversation: a put replaces it, a get of another version drops it, since versions
 * never come back. What is larger than an eighth of the whole is not kept: it would push out
 * too much. */
#include "convo_cache.h"

#include "svc/svc_table.h"

#include <stdlib.h>

#define ENTRY_COST_BYTES \
    128 /* of an entry besides its body: struct, buckets, the allocator's share */

typedef struct entry {
    svc_table_node_t by_id; /* first: cast from table nodes; key is the conversation */
    struct entry *newer, *older; /* in order of use */
    uint64_t version;            /* of the body */
    size_t n;                    /* bytes of the body */
    char body[];
} entry_t;

typedef struct {
    convo_cache_t base;       /* first: the seam */
    uint64_t max_bytes;       /* of all entries */
    uint64_t bytes;           /* now */
    svc_table_t entries;      /* owns the entries */
    entry_t *newest, *oldest; /* ends of the list */
} cache_memory_t;

static void
unlink_entry(cache_memory_t *self, entry_t *entry)
{
    *(entry->newer != NULL ? &entry->newer->older : &self->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &self->oldest) = entry->newer;
}

static void
link_newest(cache_memory_t *self, entry_t *entry)
{
    entry->newer = NULL;
    entry->older = self->newest;
    *(self->newest != NULL ? &self->newest->newer : &self->oldest) = entry;
    self->newest = entry;
}

/* It holds so many bytes more, or fewer. */
static void
weigh(cache_memory_t *self, uint64_t more, uint64_t fewer)
{
    self->bytes += more - fewer;
    svc_metrics_count(self->base.metrics, SVC_F_CACHE_BYTES, 0, 0,
                      (int64_t)(more - fewer));
}

static void
drop(cache_memory_t *self, entry_t *entry)
{
    (void)svc_table_remove(&self->entries, entry->by_id.key);
    unlink_entry(self, entry);
    weigh(self, 0, entry->n + ENTRY_COST_BYTES);
    free(entry);
}

static void
forget(convo_cache_t *base, uint64_t conversation)
{
    cache_memory_t *self = (cache_memory_t *)base;
    entry_t *entry = (entry_t *)svc_table_get(&self->entries, conversation);

    if (entry != NULL)
        drop(self, entry);
}

static void
get(convo_cache_t *base, uint64_t conversation, uint64_t version, uint64_t tag)
{
    cache_memory_t *self = (cache_memory_t *)base;
    entry_t *entry = (entry_t *)svc_table_get(&self->entries, conversation);

    if (entry != NULL && entry->version != version) {
        drop(self, entry);
        entry = NULL;
    }
    svc_metrics_add(base->metrics, entry == NULL ? SVC_M_CACHE_MISSES : SVC_M_CACHE_HITS,
                    1);
    if (entry == NULL) {
        base->on_got(base->arg, tag, false, (svc_str){NULL, 0});
        return;
    }
    unlink_entry(self, entry);
    link_newest(self, entry);
    base->on_got(base->arg, tag, true, (svc_str){entry->body, entry->n});
}

static void
put(convo_cache_t *base, uint64_t conversation, uint64_t version, svc_str body)
{
    cache_memory_t *self = (cache_memory_t *)base;
    uint64_t cost = body.n + ENTRY_COST_BYTES;
    entry_t *entry;

    forget(base, conversation);
    if (cost > self->max_bytes / 8)
        return;
    while (self->bytes + cost > self->max_bytes)
        drop(self, self->oldest);
    entry = svc_try_alloc(sizeof(*entry) + body.n);
    if (entry == NULL)
        return;
    entry->version = version;
    entry->n = body.n;
    memcpy(entry->body, body.p, body.n);
    svc_table_add(&self->entries, &entry->by_id, conversation);
    link_newest(self, entry);
    weigh(self, cost, 0);
}

static void
destroy(convo_cache_t *base)
{
    cache_memory_t *self = (cache_memory_t *)base;

    while (self->oldest != NULL)
        drop(self, self->oldest);
    svc_table_fini(&self->entries);
    free(self);
}

static const convo_cache_api_t memory_api = {
    .destroy = destroy,
    .get = get,
    .put = put,
    .forget = forget,
};

convo_cache_t *
convo_cache_memory_new(uint64_t max_bytes, svc_metrics_t *metrics, convo_cache_fn *on_got,
                       void *arg)
{
    cache_memory_t *self = svc_alloc(sizeof(*self));

    self->base = (convo_cache_t){&memory_api, on_got, arg, metrics};
    self->max_bytes = max_bytes;
    return &self->base;
}
