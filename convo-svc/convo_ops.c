/* convo_ops.c - the table of operations, and the handlers of conversations.
 *
 * A history asks the database for owner and version first, a list for the version; with these the
 * cache may have it ready. For a history it is not asked while an answer is being written, whose text grows without a new version.
 * Only what fits one page is cached: it is what is asked for again and again. */
#include "convo.h"

#include <stdlib.h>

static svc_handler_fn on_create, on_list, on_history, on_delete;

// clang-format off
const svc_op_t convo_ops[] = {
    /* op              request schema           reply schema         handler         who may                    budget_ms */
    {OP_CONVO_CREATE,  &create_req_schema,       &create_rep_schema,  on_create,      SVC_GATEWAY | SVC_TOOL, 10000},
    {OP_CONVO_LIST,    &list_req_schema,         &list_rep_schema,    on_list,        SVC_GATEWAY | SVC_TOOL, 10000},
    {OP_CONVO_HISTORY, &history_req_schema,      &history_rep_schema, on_history,     SVC_GATEWAY | SVC_TOOL, 10000},
    {OP_CONVO_DELETE,  &conversation_req_schema, &empty_schema,       on_delete,      SVC_GATEWAY | SVC_TOOL, 10000},
    {OP_CONVO_ASK,     &ask_req_schema,          &status_rep_schema,  convo_on_ask,   SVC_GATEWAY | SVC_TOOL, 10000},
    {OP_CONVO_WATCH,   &watch_req_schema,        &status_rep_schema,  convo_on_watch, SVC_GATEWAY | SVC_TOOL, 10000},
    {OP_CONVO_READ,    &read_req_schema,         &read_rep_schema,    convo_on_read,  SVC_GATEWAY | SVC_TOOL, 10000},
    {OP_CONVO_TAIL,    &tail_req_schema,         &empty_schema,       convo_on_tail,  SVC_GATEWAY | SVC_TOOL, 1000},
    {OP_CONVO_STOP,    &watch_req_schema,        &status_rep_schema,  convo_on_stop,  SVC_GATEWAY | SVC_TOOL, 10000},
    {OP_CONVO_RETRY,   &retry_req_schema,        &status_rep_schema,  convo_on_retry, SVC_GATEWAY | SVC_TOOL, 10000},
    {OP_CONVO_UNWATCH, &unwatch_req_schema,      &empty_schema,       convo_on_unwatch, SVC_GATEWAY | SVC_TOOL, 1000},
    {OP_CONVO_ACTIVE,  &active_req_schema,       &active_rep_schema,  convo_on_active, SVC_GATEWAY | SVC_TOOL, 10000},
    {0},
};
// clang-format on

svc_rc
convo_pass_on(convo_t *self, svc_pool_t *pool, uint32_t kind, svc_call_t *call,
              svc_pool_done_fn *done)
{
    svc_rc rc;

    if (pool == self->writer && convo_is_away(self))
        return convo_hold_change(self, kind, call, done);
    rc = svc_pool_submit_until(pool, kind, svc_call_body(call), svc_call_until(call),
                               done, self, svc_call_id(call));
    return rc == RC_OK ? RC_LATER : rc;
}

void
convo_on_answered(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);

    if (call == NULL)
        return;
    if (rc == RC_OK)
        svc_call_finish_encoded(call, result);
    else
        svc_call_finish(call, rc, NULL);
}

/* --- create, list, delete --------------------------------------------------------------------- */

static svc_rc
on_create(void *arg, svc_call_t *call, const void *req, void *rep)
{
    convo_t *self = arg;

    (void)req;
    (void)rep;
    svc_fault_at(self->ctx->fault, FAULT_CREATE_RECEIVED);
    return convo_pass_on(self, self->writer, WRITE_CREATE, call, convo_on_answered);
}

static void
on_list_page(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);
    list_job_t job;

    if (rc == RC_OK)
        rc = proto_decode(&list_job_schema, result, self->arena, &job);
    if (rc == RC_OK && job.whole && job.version != 0)
        self->lists->api->put(self->lists, job.user, job.version, job.page.json);
    if (call != NULL)
        svc_call_finish(call, rc, rc == RC_OK ? &job.page : NULL);
}

/* The cache has answered. On a miss its caller goes on: it is on the stack. */
void
convo_on_list_cache(void *arg, uint64_t tag, bool hit, svc_str body)
{
    convo_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);
    list_rep_t page = {.json = body};

    if (hit && call != NULL)
        svc_call_finish(call, RC_OK, &page);
}

static void
on_list_head(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_t *self = arg;
    list_req_t req = {0};
    list_head_job_t head;
    svc_call_t *call;
    svc_buf_t body;

    if (rc == RC_OK)
        rc = proto_decode(&list_head_job_schema, result, self->arena, &head);
    if (rc == RC_OK)
        self->lists->api->get(self->lists, head.user, head.version, tag);
    call = svc_server_call(self->server, tag);
    if (call == NULL)
        return; /* answered from the cache, or gone */
    svc_buf_init(&body, 256);
    if (rc == RC_OK) {
        req.user = head.user;
        rc = proto_encode(&list_req_schema, &req, &body);
    }
    if (rc == RC_OK)
        rc = svc_pool_submit(self->reader, READ_LIST, svc_buf_str(&body), on_list_page,
                             self, tag);
    svc_buf_fini(&body);
    if (rc != RC_OK)
        svc_call_finish(call, rc, NULL);
}

static svc_rc
on_list(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    convo_t *self = arg;
    const list_req_t *req = arg_req;

    (void)rep;
    if (req->cursor != 0 || self->ctx->config->convo_cache_mb == 0 ||
        self->ctx->config->test_plain_paths)
        return convo_pass_on(self, self->reader, READ_LIST, call, on_list_page);
    return convo_pass_on(self, self->lookup, READ_LIST_HEAD, call, on_list_head);
}

static void
on_deleted(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);
    uint64_t conversation = 0;
    answer_t *answer;

    if (rc == RC_OK && result.n == sizeof(conversation)) {
        memcpy(&conversation, result.p, sizeof(conversation));
        answer = answers_by_conversation(self->answers, conversation);
        if (answer != NULL)
            answers_delete(self->answers, answer);
        self->cache->api->forget(self->cache, conversation);
    }
    if (call != NULL)
        svc_call_finish(call, rc, NULL);
}

static svc_rc
on_delete(void *arg, svc_call_t *call, const void *req, void *rep)
{
    convo_t *self = arg;

    (void)req;
    (void)rep;
    svc_fault_at(self->ctx->fault, FAULT_DELETE_RECEIVED);
    return convo_pass_on(self, self->writer, WRITE_DELETE, call, on_deleted);
}

/* --- history ---------------------------------------------------------------------------------- */

/* A history that the cache is asked for. */
typedef struct {
    svc_table_node_t by_call; /* first: cast from table nodes; key is the call's handle */
    history_req_t req;        /* of the first page */
} lookup_t;

static void
on_history_page(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);
    history_job_t job;

    if (rc == RC_OK)
        rc = proto_decode(&history_job_schema, result, self->arena, &job);
    if (rc == RC_OK && job.whole)
        self->cache->api->put(self->cache, job.conversation, job.version, job.page.json);
    if (call != NULL)
        svc_call_finish(call, rc, rc == RC_OK ? &job.page : NULL);
}

/* Reads the first page from the database; the call is answered in any case. */
static void
read_history(convo_t *self, uint64_t call_id, const history_req_t *req)
{
    svc_call_t *call = svc_server_call(self->server, call_id);
    svc_buf_t body;
    svc_rc rc;

    if (call == NULL)
        return;
    svc_buf_init(&body, 256);
    rc = proto_encode(&history_req_schema, req, &body);
    if (rc == RC_OK)
        rc = svc_pool_submit(self->reader, READ_HISTORY, svc_buf_str(&body),
                             on_history_page, self, call_id);
    svc_buf_fini(&body);
    if (rc != RC_OK)
        svc_call_finish(call, rc, NULL);
}

void
convo_on_cache(void *arg, uint64_t tag, bool hit, svc_str body)
{
    convo_t *self = arg;
    lookup_t *lookup = (lookup_t *)svc_table_remove(&self->lookups, tag);
    svc_call_t *call = svc_server_call(self->server, tag);
    history_rep_t page = {.json = body};

    if (call != NULL && hit)
        svc_call_finish(call, RC_OK, &page);
    else if (call != NULL && lookup != NULL)
        read_history(self, tag, &lookup->req);
    free(lookup);
}

void
convo_drop_lookups(convo_t *self)
{
    size_t from = 0;
    svc_table_node_t *node;

    while ((node = svc_table_any(&self->lookups, &from)) != NULL) {
        (void)svc_table_remove(&self->lookups, node->key);
        free(node);
    }
    svc_table_fini(&self->lookups);
}

static void
on_head(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);
    history_req_t req = {0};
    head_job_t head;
    lookup_t *lookup;

    if (call == NULL)
        return;
    if (rc == RC_OK)
        rc = proto_decode(&head_job_schema, result, self->arena, &head);
    if (rc != RC_OK) {
        svc_call_finish(call, rc, NULL);
        return;
    }
    req.user = head.user;
    req.conversation = head.conversation;
    if (head.answering) {
        read_history(self, tag, &req);
        return;
    }
    lookup = svc_alloc(sizeof(*lookup));
    lookup->req = req;
    svc_table_add(&self->lookups, &lookup->by_call, tag);
    self->cache->api->get(self->cache, head.conversation, head.version, tag);
}

static svc_rc
on_history(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    convo_t *self = arg;
    const history_req_t *req = arg_req;

    (void)rep;
    if (req->message != 0)
        return convo_pass_on(self, self->reader, READ_HISTORY, call, on_history_page);
    return convo_pass_on(self, self->lookup, READ_HEAD, call, on_head);
}
