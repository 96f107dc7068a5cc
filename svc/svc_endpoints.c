/* svc_endpoints.c - the addresses behind a list of endpoints.
 *
 * Each item of the list that is a name has a watch at the resolver and remembers what it was told
 * last. An endpoint is known once, with the number of items that stand for it: the first one
 * adds it, the last one that lets go of it takes it away. News add before they take away, so that
 * a name that moves never leaves nobody in between. Thread: the loop's. */
#include "svc/svc_endpoints.h"

#include "svc/svc_resolver.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define SCHEME             "tcp://"
#define ENDPOINT_MAX_BYTES 300 /* with its NUL; a host name has up to 255 */

typedef struct item {
    struct item *next;    /* in the list */
    svc_endpoints_t *set; /* its owner */
    svc_watch_t *watch;   /* owned */
    char port[8];         /* of the endpoint, as text */
    svc_addresses_t told; /* endpoints that it stands for */
} item_t;

typedef struct {
    char *endpoint; /* owned */
    size_t uses;    /* items that stand for it */
} known_t;

struct svc_endpoints {
    svc_ctx_t *ctx;       /* borrowed */
    svc_endpoints_fn *fn; /* told */
    void *arg;            /* for fn */
    item_t *items;        /* owned list of the names */
    known_t *known;       /* owned */
    size_t n;             /* of them */
};

/* --- form --------------------------------------------------------------------------- */

static bool
is_numeric(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, address) == 1;
}

static bool
is_host(svc_str host)
{
    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
        for (size_t i = 1; i + 1 < host.n; i++) /* a scope, too: [fe80::1%eth0] */
            if (!isalnum((unsigned char)host.p[i]) && strchr(":.%_-", host.p[i]) == NULL)
                return false;
        return memchr(host.p, ':', host.n) != NULL;
    }
    for (size_t i = 0; i < host.n; i++)
        if (!isalnum((unsigned char)host.p[i]) && strchr("._-", host.p[i]) == NULL)
            return false;
    return host.n > 0 && host.n < 256;
}

const char *
svc_endpoint_check(const char *endpoint)
{
    static const char wrong[] = "not of the form tcp://host:port";
    if (strchr(endpoint, ',') != NULL)
        return "one endpoint is wanted here";
    const char *colon = strrchr(endpoint, ':');
    const size_t scheme = sizeof(SCHEME) - 1;
    if (strncmp(endpoint, SCHEME, scheme) != 0 || colon < endpoint + scheme ||
        colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        !is_host((svc_str){endpoint + scheme, (size_t)(colon - endpoint) - scheme}))
        return wrong;
    const unsigned long port = strtoul(colon + 1, NULL, 10);
    return port >= 1 && port <= UINT16_MAX ? NULL : wrong;
}

/* --- what is known ------------------------------------------------------------------ */

static void
use(svc_endpoints_t *self, const char *endpoint)
{
    for (size_t i = 0; i < self->n; i++)
        if (strcmp(self->known[i].endpoint, endpoint) == 0) {
            self->known[i].uses++;
            return;
        }
    known_t *known = svc_alloc((self->n + 1) * sizeof(*known));
    if (self->n > 0)
        memcpy(known, self->known, self->n * sizeof(*known));
    free(self->known);
    self->known = known;
    self->known[self->n++] = (known_t){svc_str_dup(svc_str_c(endpoint)), 1};
    self->fn(self->arg, endpoint, true);
}

static void
let_go(svc_endpoints_t *self, const char *endpoint)
{
    size_t i = 0;
    while (i < self->n && strcmp(self->known[i].endpoint, endpoint) != 0)
        i++;
    SVC_ASSERT(i < self->n);
    if (--self->known[i].uses > 0)
        return;
    char *gone = self->known[i].endpoint;
    self->known[i] = self->known[--self->n];
    self->fn(self->arg, gone, false);
    free(gone);
}

static void
on_resolved(void *arg, const svc_addresses_t *addresses)
{
    item_t *item = arg;
    svc_addresses_t before = item->told;
    item->told = (svc_addresses_t){0};
    for (size_t i = 0; i < addresses->n; i++) {
        char endpoint[ENDPOINT_MAX_BYTES];
        const bool is_v6 = strchr(addresses->items[i], ':') != NULL;
        snprintf(endpoint, sizeof(endpoint), SCHEME "%s%s%s:%s", is_v6 ? "[" : "",
                 addresses->items[i], is_v6 ? "]" : "", item->port);
        svc_addresses_add(&item->told, endpoint);
        use(item->set, endpoint);
    }
    for (size_t i = 0; i < before.n; i++)
        let_go(item->set, before.items[i]);
    svc_addresses_clear(&before);
}

/* --- the list ----------------------------------------------------------------------- */

static bool
refuse(const char *endpoint, const char *why, char **error)
{
    if (asprintf(error, "\"%s\": %s", endpoint, why) < 0)
        *error = NULL;
    return false;
}

static bool
add_item(svc_endpoints_t *self, const char *endpoint, char **error)
{
    const char *wrong = svc_endpoint_check(endpoint);
    if (wrong != NULL)
        return refuse(endpoint, wrong, error);
    const char *host = endpoint + sizeof(SCHEME) - 1, *colon = strrchr(host, ':');
    char name[ENDPOINT_MAX_BYTES];
    snprintf(name, sizeof(name), "%.*s", (int)(colon - host), host);
    if (name[0] == '[' || is_numeric(name)) {
        use(self, endpoint);
        return true;
    }
    if (self->ctx->resolver == NULL)
        return refuse(endpoint, "a numeric address is wanted here", error);
    item_t *item = svc_alloc(sizeof(*item));
    item->set = self;
    snprintf(item->port, sizeof(item->port), "%lu", strtoul(colon + 1, NULL, 10));
    item->next = self->items;
    self->items = item;
    item->watch = svc_resolver_watch(self->ctx->resolver, name, self->ctx->loop,
                                     on_resolved, item);
    return true;
}

static bool
add_items(svc_endpoints_t *self, const char *list, char **error)
{
    char endpoint[ENDPOINT_MAX_BYTES];
    const char *rest = list;
    do {
        rest += strspn(rest, " ");
        const size_t n = strcspn(rest, ",");
        size_t kept = n;
        while (kept > 0 && rest[kept - 1] == ' ')
            kept--;
        snprintf(endpoint, sizeof(endpoint), "%.*s", (int)kept, rest);
        if (kept >= sizeof(endpoint))
            return refuse(endpoint, "too long", error);
        if (!add_item(self, endpoint, error))
            return false;
        rest += n;
    } while (*rest++ == ',');
    return true;
}

svc_endpoints_t *
svc_endpoints_new(svc_ctx_t *ctx, const char *list, svc_endpoints_fn *fn, void *arg,
                  char **error)
{
    svc_endpoints_t *self = svc_alloc(sizeof(*self));
    self->ctx = ctx;
    self->fn = fn;
    self->arg = arg;
    if (!add_items(self, list, error))
        svc_endpoints_destroy(&self);
    return self;
}

void
svc_endpoints_destroy(svc_endpoints_t **self_p)
{
    svc_endpoints_t *self = *self_p;
    item_t *item;
    if (self == NULL)
        return;
    while ((item = self->items) != NULL) {
        self->items = item->next;
        svc_resolver_unwatch(&item->watch);
        svc_addresses_clear(&item->told);
        free(item);
    }
    for (size_t i = 0; i < self->n; i++)
        free(self->known[i].endpoint);
    free(self->known);
    free(self);
    *self_p = NULL;
}
