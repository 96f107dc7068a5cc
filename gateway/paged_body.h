/* paged_body.h - a response whose JSON comes from convo-svc page by page.
 *
 * The first page decides the status. If it is also the last, the answer is an ordinary
 * one; otherwise pages are fetched as fast as the client reads, one at a time, so that
 * a history of many megabytes never stands in memory. A page that fails cuts the
 * connection: half a JSON document must not look whole. Thread: its reactor's. */
#ifndef GATEWAY_PAGED_BODY_H
#define GATEWAY_PAGED_BODY_H

#include "request.h"

/* Asks convo-svc for the page at the cursor. */
typedef struct {
    const char *op;                   /* OP_CONVO_LIST or _HISTORY */
    const proto_schema_t *req_schema; /* of its request */
    const proto_schema_t *rep_schema; /* of its reply */
    /* Writes the request for the page at `cursor` to `req` (big enough for any). */
    void (*fill)(const request_t *self, const uint64_t cursor[2], void *req);
    /* Reads a reply: its JSON, and the cursor of the next page. False: this was the
     * last. */
    bool (*take)(const void *rep, svc_str *json, uint64_t cursor[2]);
} paged_source_t;

/* Answers `request` from `source` (static). */
void paged_body_answer(request_t *request, const paged_source_t *source);

#endif
