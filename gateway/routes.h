/* routes.h - which handler serves which method and path: one table.
 *
 * Knows nothing of connections, so the fuzzer and the tests call it directly. A
 * pattern's segment ":id" matches any one segment, unless another row has the very
 * words of the path; a trailing slash is accepted. Whether the id is an integer is checked by the handler's own step,
 * after the token. Reentrant. */
#ifndef GATEWAY_ROUTES_H
#define GATEWAY_ROUTES_H

#include "proto/base.h"

struct request;

typedef struct route {
    const char *method;                    /* "GET" also serves HEAD */
    const char *path;                      /* pattern */
    void (*handler)(struct request *self); /* answers, or asks a service first */
    bool needs_user;                       /* a valid token */
    bool takes_body;   /* up to server.max_body_bytes; else a body is read and dropped */
    bool takes_id;     /* the ":id" must be an integer */
    bool takes_ticket; /* instead of a token: ?ticket= for this conversation */
    bool
        streams; /* the client is watched while it waits; no deadline once the answer has begun */
} route_t;

typedef struct {
    const route_t *route; /* NULL: none */
    svc_str id;           /* the ":id" segment, a view into the path; empty without one */
    bool path_known;      /* without a route: other methods have one here: 405 */
    char allow[64];       /* those, "GET, HEAD, OPTIONS"; not made with a route */
} route_match_t;

/* Finds the route of a method and a path without its query. */
void routes_match(const char *method, svc_str path, route_match_t *out);

/* All rows, for whoever needs each: how many, and the i-th; they stand in a row. */
size_t routes_count(void);
const route_t *routes_at(size_t i);

#endif
