/* paged_body.c - a response whose JSON comes from convo-svc page by page.
 *
 * At most one page is held and at most one is on its way, whatever the client's
 * speed. Reader and fetcher take turns: the next page is asked for when the one
 * before has been read to its end. The state lives as long as its request. */
#include "paged_body.h"

#include <stdlib.h>

typedef union {
    list_req_t list;       /* either */
    history_req_t history; /* request */
} any_req_t;

typedef struct {
    request_t *request;           /* whose answer */
    const paged_source_t *source; /* static */
    uint64_t cursor[2];           /* of the next page */
    svc_buf_t page;               /* owned */
    size_t read;                  /* bytes of it that are gone */
    bool more;                    /* there is a next page */
    bool fetching;                /* it was asked for */
    bool begun;                   /* the response has */
} paged_body_t;

static void on_page(request_t *request, const void *rep);

static void
free_body(void *arg)
{
    paged_body_t *self = arg;

    svc_buf_fini(&self->page);
    free(self);
}

static void
fetch(paged_body_t *self)
{
    any_req_t req;

    memset(&req, 0, sizeof req);
    self->fetching = true;
    self->source->fill(self->request, self->cursor, &req);
    request_call(self->request, &(request_call_t){.peer = REACTOR_CONVO,
                                                  .op = self->source->op,
                                                  .req_schema = self->source->req_schema,
                                                  .req = &req,
                                                  .rep_schema = self->source->rep_schema,
                                                  .on_reply = on_page});
}

static stream_step
fill_body(void *arg, svc_buf_t *out, size_t enough)
{
    paged_body_t *self = arg;

    if (self->read == self->page.n) {
        if (!self->more)
            return STREAM_END;
        if (request_is_over(self->request))
            return STREAM_CUT;
        if (!self->fetching)
            fetch(self);
        return STREAM_WAIT;
    }
    size_t n = self->page.n - self->read < enough ? self->page.n - self->read : enough;
    if (svc_buf_add(out, self->page.p + self->read, n) != RC_OK)
        return STREAM_CUT;
    self->read += n;
    return STREAM_MORE;
}

static void
on_page(request_t *request, const void *rep)
{
    paged_body_t *self = request_data(request);
    svc_str json = {NULL, 0};

    self->fetching = false;
    self->more = self->source->take(rep, &json, self->cursor);
    if (!self->begun && !self->more) {
        request_answer(request, MHD_HTTP_OK, json);
        return;
    }
    svc_buf_clear(&self->page);
    self->read = 0;
    bool ok = svc_buf_add_str(&self->page, json) == RC_OK && (json.n > 0 || !self->more);
    if (self->begun && ok)
        request_wake(request);
    else if (self->begun)
        request_cut(request);
    else if (ok)
        request_answer_stream(request, "application/json; charset=utf-8", false,
                              fill_body, self);
    else
        request_refuse(request, RC_INTERNAL, (svc_str){NULL, 0}, 0);
    self->begun = true;
}

void
paged_body_answer(request_t *request, const paged_source_t *source)
{
    paged_body_t *self = svc_alloc(sizeof *self);

    self->request = request;
    self->source = source;
    svc_buf_init(&self->page, PROTO_JSON_PAGE_MAX_BYTES);
    request_keep(request, self, free_body);
    fetch(self);
}
