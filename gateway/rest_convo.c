/* rest_convo.c - create, history, list and delete.
 *
 * Lists and histories arrive from convo-svc as ready JSON and are passed on page by
 * page. A model is checked against the patterns that llm-svc has told, so that a
 * typing error is found when the conversation is made and not at its first question. */
#include "paged_body.h"
#include "rest.h"
#include "svc/svc_secret.h"
#include "svc/svc_text.h"

#include <inttypes.h>
#include <stdlib.h>

#define CREATED_MAX_BYTES \
    (48u << 10) /* title, model and key, escaped at worst six to one */

/* --- create ------------------------------------------------------------------------------- */

/* The body of a create request, kept until its id is known. */
typedef struct {
    json_in_t *json; /* owned; the views point into it */
    svc_str title, model, api_key;
} creation_t;

static void
free_creation(void *arg)
{
    creation_t *self = arg;

    json_in_destroy(&self->json);
    free(self);
}

static svc_rc
add_member(svc_buf_t *json, const char *key, svc_str value)
{
    svc_rc rc = svc_buf_printf(json, ",\"%s\":", key);

    return rc == RC_OK ? svc_json_string(json, value) : rc;
}

static void
on_created(request_t *self, const void *rep)
{
    const create_rep_t *created = rep;
    const creation_t *creation = request_data(self);
    svc_buf_t json;

    svc_buf_init(&json, CREATED_MAX_BYTES);
    bool ok = svc_buf_printf(&json, "{\"conversation_id\":%" PRIu64,
                             created->conversation) == RC_OK &&
              add_member(&json, "title", creation->title) == RC_OK &&
              add_member(&json, "model", creation->model) == RC_OK &&
              add_member(&json, "api_key", creation->api_key) == RC_OK &&
              svc_buf_printf(&json, ",\"created_time\":%" PRIu64 "}",
                             created->created_s) == RC_OK;
    if (ok)
        request_answer(self, MHD_HTTP_OK, svc_buf_str(&json));
    else
        request_refuse(self, RC_INTERNAL, (svc_str){NULL, 0}, 0);
    svc_buf_fini(&json);
}

/* What could not stand in a header is no key; it would be refused at the first question only. */
static bool
is_api_key(svc_str key)
{
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] < '!' || key.p[i] > '~')
            return false;
    return true;
}

/* The client's key, or one that makes asking twice by ourselves asking once. False: the
 * request was refused. */
static bool
read_create_key(request_t *self, uint8_t bytes[IDEM_KEY_BYTES], svc_str *key)
{
    if (!rest_read_key(self, IDEM_CREATE, bytes, key))
        return false;
    if (key->n == 0) {
        svc_ids_next(&request_reactor(self)->keys, bytes);
        *key = (svc_str){(const char *)bytes, SVC_IDS_BYTES};
    }
    return true;
}

/* What is wrong with the request, if anything: it was refused then. */
static bool
refuses_creation(request_t *self, const creation_t *creation)
{
    const models_t *models = request_reactor(self)->models;

    if (!is_api_key(creation->api_key))
        request_refuse_input(self, RC_INVALID, TEXT_BAD_API_KEY, NULL);
    else if (!models_are_known(models))
        request_refuse(self, RC_UNAVAILABLE, (svc_str){NULL, 0}, 0);
    else if (!models_has(models, creation->model))
        request_refuse(self, RC_UNKNOWN_MODEL, (svc_str){NULL, 0}, 0);
    else
        return false;
    return true;
}

void
rest_create(request_t *self)
{
    creation_t *creation = svc_alloc(sizeof *creation);
    uint8_t key[IDEM_KEY_BYTES];
    const json_in_key_t keys[] = {
        {"title", true, true, PROTO_TITLE_MAX_BYTES, &creation->title},
        {"model", true, true, PROTO_MODEL_MAX_BYTES, &creation->model},
        {"api_key", false, false, PROTO_API_KEY_MAX_BYTES, &creation->api_key},
    };

    request_keep(self, creation, free_creation);
    creation->json = rest_read_body(self, keys, SVC_COUNT(keys));
    if (creation->json == NULL || refuses_creation(self, creation))
        return;
    create_req_t req = {.user = request_user(self),
                        .title = creation->title,
                        .model = creation->model,
                        .api_key = creation->api_key};
    if (read_create_key(self, key, &req.key))
        request_call(self, &(request_call_t){.peer = REACTOR_CONVO,
                                             .op = OP_CONVO_CREATE,
                                             .req_schema = &create_req_schema,
                                             .req = &req,
                                             .rep_schema = &create_rep_schema,
                                             .on_reply = on_created});
}

/* --- history ------------------------------------------------------------------------------ */

static void
fill_history(const request_t *request, const uint64_t cursor[2], void *req)
{
    *(history_req_t *)req = (history_req_t){request_user(request), request_id(request),
                                            cursor[0], cursor[1]};
}

static bool
take_history(const void *rep, svc_str *json, uint64_t cursor[2])
{
    const history_rep_t *page = rep;

    *json = page->json;
    cursor[0] = page->next_message;
    cursor[1] = page->next_offset;
    return page->more;
}

void
rest_history(request_t *self)
{
    static const paged_source_t source = {OP_CONVO_HISTORY, &history_req_schema,
                                          &history_rep_schema, fill_history,
                                          take_history};

    paged_body_answer(self, &source);
}

/* --- list --------------------------------------------------------------------------------- */

static void
fill_list(const request_t *request, const uint64_t cursor[2], void *req)
{
    *(list_req_t *)req = (list_req_t){request_user(request), cursor[0]};
}

static bool
take_list(const void *rep, svc_str *json, uint64_t cursor[2])
{
    const list_rep_t *page = rep;

    *json = page->json;
    cursor[0] = page->next;
    return page->next != 0;
}

void
rest_list(request_t *self)
{
    static const paged_source_t source = {OP_CONVO_LIST, &list_req_schema,
                                          &list_rep_schema, fill_list, take_list};

    paged_body_answer(self, &source);
}

/* --- delete ------------------------------------------------------------------------------- */

static void
on_deleted(request_t *self, const void *rep)
{
    (void)rep;
    request_answer_text(self, MHD_HTTP_OK, TEXT_DELETED);
}

void
rest_delete(request_t *self)
{
    conversation_req_t req = {request_user(self), request_id(self)};

    request_call(self, &(request_call_t){.peer = REACTOR_CONVO,
                                         .op = OP_CONVO_DELETE,
                                         .req_schema = &conversation_req_schema,
                                         .req = &req,
                                         .rep_schema = &empty_schema,
                                         .on_reply = on_deleted});
}
