/* routes.c - which handler serves which method and path: one table.
 *
 * Adding an endpoint is one row here and one handler. Handlers stand in
 * rest_auth.c, rest_convo.c, rest_chat.c, rest_stream.c, rest_answers.c and rest_health.c, in table
 * order. Some rows are searched one by one. A path that is known with other methods tells
 * them, for Allow. */
#include "routes.h"
#include "rest.h"

#include <stdio.h>
#include <string.h>

// clang-format off
static const route_t routes[] = {
    /* method path                               handler        user   body   id     ticket streams */
    {"POST",  "/api/users/register",             rest_register, false, true,  false, false, false},
    {"POST",  "/api/users/login",                rest_login,    false, true,  false, false, false},
    {"POST",  "/api/conversations/create",       rest_create,   true,  true,  false, false, false},
    {"GET",   "/api/conversations/history/:id",  rest_history,  true,  false, true,  false, false},
    {"GET",   "/api/conversations/list",         rest_list,     true,  false, false, false, false},
    {"POST",  "/api/conversations/del/:id",      rest_delete,   true,  false, true,  false, false},
    {"POST",  "/api/chat/:id",                   rest_chat,     true,  true,  true,  false, true},
    {"POST",  "/api/chat/:id/retry",             rest_retry,    true,  true,  true,  false, true},
    {"GET",   "/api/chat/:id/stream",            rest_stream,   true,  false, true,  true,  true},
    {"POST",  "/api/chat/:id/ticket",            rest_ticket,   true,  false, true,  false, false},
    {"POST",  "/api/chat/:id/stop",              rest_stop,     true,  false, true,  false, false},
    {"GET",   "/api/chat/active",                rest_active,   true,  false, false, false, false},
    {"GET",   "/healthz",                        rest_healthz,  false, false, false, false, false},
    {"GET",   "/readyz",                         rest_readyz,   false, false, false, false, false},
};
// clang-format on

size_t
routes_count(void)
{
    return SVC_COUNT(routes);
}

const route_t *
routes_at(size_t i)
{
    SVC_ASSERT(i < SVC_COUNT(routes));
    return &routes[i];
}

/* True when `path` fits the pattern; *id gets its ":id" segment. */
static bool
fits(const char *pattern, svc_str path, svc_str *id)
{
    size_t at = 0;

    *id = (svc_str){NULL, 0};
    while (*pattern != '\0') {
        if (*pattern == ':') {
            size_t from = at;
            while (at < path.n && path.p[at] != '/')
                at++;
            *id = (svc_str){path.p + from, at - from};
            if (id->n == 0)
                return false;
            pattern += strcspn(pattern, "/");
        } else if (at < path.n && path.p[at] == *pattern) {
            at++;
            pattern++;
        } else {
            return false;
        }
    }
    return at == path.n || (at + 1 == path.n && path.p[at] == '/');
}

static void
allow(route_match_t *out, const char *method)
{
    size_t n = strlen(out->allow);

    snprintf(out->allow + n, sizeof out->allow - n, "%s, %s", method,
             strcmp(method, "GET") == 0 ? "HEAD, " : "");
}

/* Is there a row for these very words? Then none of its segments is an id. */
static bool
is_literal(svc_str path)
{
    svc_str id;

    for (size_t i = 0; i < SVC_COUNT(routes); i++)
        if (!routes[i].takes_id && fits(routes[i].path, path, &id))
            return true;
    return false;
}

void
routes_match(const char *method, svc_str path, route_match_t *out)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    bool literal = is_literal(path);

    *out = (route_match_t){.route = NULL};
    for (size_t i = 0; i < SVC_COUNT(routes); i++) {
        if ((literal && routes[i].takes_id) || !fits(routes[i].path, path, &out->id))
            continue;
        out->path_known = true;
        if (strcmp(routes[i].method, wanted) == 0) {
            out->route = &routes[i];
            return;
        }
        allow(out, routes[i].method);
    }
    out->id = (svc_str){NULL, 0};
    if (out->path_known) {
        size_t n = strlen(out->allow);
        snprintf(out->allow + n, sizeof out->allow - n, "OPTIONS");
    }
}
