/* svc_server_clients.c - who said hello by which route: what access is judged by.
 *
 * A hash table over ZeroMQ routing ids with a list in order of last use. A route lives
 * as long as one connection, and ZeroMQ does not tell a ROUTER when it ends, so
 * entries pile up as callers reconnect: at CLIENTS_MAX the one that was silent longest
 * makes room. (Living callers ping each second.) Thread: the server's. */
#include "svc/svc_server_call.h"

#include <stdlib.h>

#define CLIENTS_MAX     4096
#define CLIENTS_BUCKETS 1024 /* power of two */

typedef struct client {
    struct client *next_in_bucket; /* chain */
    struct client *older, *newer;  /* by last use */
    svc_route_t route;             /* key */
    svc_client_t is;               /* value */
} client_t;

struct svc_clients {
    client_t *buckets[CLIENTS_BUCKETS]; /* owns the entries */
    client_t *oldest, *newest;          /* ends of the list by last use */
    size_t n;                           /* at most CLIENTS_MAX */
};

static const svc_client_t known[] = {
    {SVC_GATEWAY, "gateway"}, {SVC_CONVO, "convo-svc"}, {SVC_TOOL, "tool"},
    {0, "auth-svc"},          {0, "llm-svc"},
};
static const svc_client_t unknown = {0, "unknown"};

svc_clients_t *
svc_clients_new(void)
{
    return svc_alloc(sizeof(svc_clients_t));
}

void
svc_clients_destroy(svc_clients_t **self_p)
{
    svc_clients_t *self = *self_p;
    if (self == NULL)
        return;
    while (self->oldest != NULL) {
        client_t *client = self->oldest;
        self->oldest = client->newer;
        free(client);
    }
    free(self);
    *self_p = NULL;
}

static client_t **
find(svc_clients_t *self, const svc_route_t *route)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < route->n; i++)
        hash = (hash ^ route->bytes[i]) * 16777619u;
    client_t **at = &self->buckets[(hash ^ hash >> 16) & (CLIENTS_BUCKETS - 1)];
    while (*at != NULL && ((*at)->route.n != route->n ||
                           memcmp((*at)->route.bytes, route->bytes, route->n) != 0))
        at = &(*at)->next_in_bucket;
    return at;
}

static void
unlink_age(svc_clients_t *self, client_t *client)
{
    *(client->older != NULL ? &client->older->newer : &self->oldest) = client->newer;
    *(client->newer != NULL ? &client->newer->older : &self->newest) = client->older;
}

static void
link_newest(svc_clients_t *self, client_t *client)
{
    client->older = self->newest;
    client->newer = NULL;
    *(self->newest != NULL ? &self->newest->newer : &self->oldest) = client;
    self->newest = client;
}

const svc_client_t *
svc_clients_called(svc_str service)
{
    for (size_t i = 0; i < SVC_COUNT(known); i++)
        if (svc_str_eq(service, svc_str_c(known[i].name)))
            return &known[i];
    return &unknown;
}

void
svc_clients_put(svc_clients_t *self, const svc_route_t *route, svc_str service)
{
    client_t **at = find(self, route);
    if (*at == NULL && self->n == CLIENTS_MAX) {
        const svc_route_t oldest = self->oldest->route;
        svc_clients_remove(self, &oldest);
        at = find(self, route);
    }
    client_t *client = *at;
    if (client == NULL) {
        client = svc_alloc(sizeof(*client));
        client->route = *route;
        *at = client;
        self->n++;
    } else {
        unlink_age(self, client);
    }
    client->is = *svc_clients_called(service);
    link_newest(self, client);
}

const svc_client_t *
svc_clients_get(svc_clients_t *self, const svc_route_t *route)
{
    client_t *client = *find(self, route);
    if (client == NULL)
        return NULL;
    if (client != self->newest) {
        unlink_age(self, client);
        link_newest(self, client);
    }
    return &client->is;
}

void
svc_clients_remove(svc_clients_t *self, const svc_route_t *route)
{
    client_t **at = find(self, route);
    client_t *client = *at;
    if (client == NULL)
        return;
    *at = client->next_in_bucket;
    unlink_age(self, client);
    self->n--;
    free(client);
}
