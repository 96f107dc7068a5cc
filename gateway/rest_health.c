/* rest_health.c - is this process alive, and can it serve?
 *
 * healthz says that the process runs, readyz that a request would be served.
 * For load balancers and scripts; no token. Ready means that every reactor
 * reaches all three services and knows the models: the next request may land on
 * any of them. */
#include "rest.h"

void
rest_healthz(request_t *self)
{
    request_answer(self, MHD_HTTP_OK, SVC_LIT("{\"status\":\"ok\"}"));
}

void
rest_readyz(request_t *self)
{
    const reactor_t *reactor = request_reactor(self);
    svc_buf_t json;
    bool ok = true;
    const char *comma = "";

    svc_buf_init(&json, 256);
    ok = svc_buf_add_str(&json, SVC_LIT("{\"status\":\"unavailable\",\"missing\":[")) ==
         RC_OK;
    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS && ok; peer++) {
        if (!svc_need_is_missing(&reactor->readiness->needs[peer]))
            continue;
        ok = svc_buf_printf(&json, "%s\"%s\"", comma, reactor_peer_names[peer]) == RC_OK;
        comma = ",";
    }
    ok = ok && svc_buf_add_str(&json, SVC_LIT("]}")) == RC_OK;
    if (reactor->draining)
        request_answer(self, MHD_HTTP_SERVICE_UNAVAILABLE,
                       SVC_LIT("{\"status\":\"draining\"}"));
    else if (*comma == '\0')
        request_answer(self, MHD_HTTP_OK, SVC_LIT("{\"status\":\"ok\"}"));
    else if (ok)
        request_answer(self, MHD_HTTP_SERVICE_UNAVAILABLE, svc_buf_str(&json));
    svc_buf_fini(&json);
}
