/* resolver_fixture.h - a resolver whose names mean what the test says at the moment.
 *
 * The lookup runs on the resolver's thread and reads the answers under a mutex. Included by the
 * tests of svc_resolver, svc_endpoints and of peers behind a name. */
#ifndef TESTS_UNIT_SVC_RESOLVER_FIXTURE_H
#define TESTS_UNIT_SVC_RESOLVER_FIXTURE_H

#include "bus_fixture.h"

#include "svc/svc_resolver.h"

#include <pthread.h>

typedef struct {
    pthread_mutex_t mutex;    /* of all below */
    const char *found[8];     /* addresses of "name", NULL-terminated */
    const char *other[8];     /* of "other" */
    unsigned lookups;         /* of "name" so far */
    svc_resolver_t *resolver; /* looks every 10 ms */
} names_t;

static inline bool
find_name(void *arg, const char *host, svc_addresses_t *out, const char **why)
{
    names_t *self = arg;
    pthread_mutex_lock(&self->mutex);
    const bool is_name = strcmp(host, "name") == 0;
    const char *const *found = is_name ? self->found : self->other;
    self->lookups += is_name ? 1 : 0;
    for (size_t i = 0; found[i] != NULL; i++)
        svc_addresses_add(out, found[i]);
    pthread_mutex_unlock(&self->mutex);
    *why = "the test says so";
    return out->n > 0;
}

static inline void
names_open(names_t *self)
{
    *self = (names_t){0};
    assert_int_equal(pthread_mutex_init(&self->mutex, NULL), 0);
    self->resolver = svc_resolver_new(NULL, find_name, self, 10);
}

static inline void
names_close(names_t *self)
{
    svc_resolver_destroy(&self->resolver);
    assert_null(self->resolver);
    pthread_mutex_destroy(&self->mutex);
}

/* What "name" means from now on; NULL ends the list. */
static inline void
names_set(names_t *self, const char *a, const char *b, const char *c)
{
    pthread_mutex_lock(&self->mutex);
    self->found[0] = a;
    self->found[1] = b;
    self->found[2] = c;
    self->found[3] = NULL;
    pthread_mutex_unlock(&self->mutex);
}

static inline unsigned
names_lookups(names_t *self)
{
    pthread_mutex_lock(&self->mutex);
    const unsigned n = self->lookups;
    pthread_mutex_unlock(&self->mutex);
    return n;
}

#endif
