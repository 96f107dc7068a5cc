/* convo_reader.c - the threads that read the database: list, history, text, status, prompts.
 *
 * One handler per kind of job, in a table; what needs more than a page of code stands in files of
 * its own (history_json.c, prompt.c). A batch is one transaction, so it sees one moment. The buffer
 * of results is given back after a large one, since one prompt may have had 48 MB. */
#include "convo_reader.h"

#include "history_json.h"
#include "prompt.h"
#include "proto/utf8.h"
#include "svc/svc_time.h"

#include <stdlib.h>

#define OUT_KEEP_BYTES (64u << 10)

typedef struct {
    const convo_workers_t *workers; /* borrowed */
    convo_store_t *store; /* owned, only reads; NULL while it cannot be opened */
    proto_arena_t *arena; /* owned */
    svc_buf_t out;        /* of the job at hand */
    uint64_t opened_ms;   /* monotonic, of the connection */
} reader_t;

/* --- list, history ---------------------------------------------------------------------------- */

static svc_rc
on_list_head(reader_t *self, const void *arg, svc_buf_t *out)
{
    const list_req_t *req = arg;
    list_head_job_t head = {.user = req->user};
    svc_rc rc = self->store->api->list_version(self->store, req->user, &head.version);

    return rc == RC_OK ? proto_encode(&list_head_job_schema, &head, out) : rc;
}

static svc_rc
on_list(reader_t *self, const void *arg, svc_buf_t *out)
{
    const list_req_t *req = arg;
    list_job_t job = {.user = req->user};
    svc_buf_t json;
    svc_rc rc = self->store->api->list_version(self->store, req->user, &job.version);

    svc_buf_init(&json, PROTO_JSON_PAGE_MAX_BYTES);
    if (rc == RC_OK)
        rc = history_json_list(self->store, req, &json, &job.page.next);
    job.page.json = svc_buf_str(&json);
    job.whole = req->cursor == 0 && job.page.next == 0;
    if (rc == RC_OK)
        rc = proto_encode(&list_job_schema, &job, out);
    svc_buf_fini(&json);
    return rc;
}

static svc_rc
take_head(void *arg, const conversation_row_t *row)
{
    head_job_t *head = arg;

    if (row->user != head->user)
        return RC_NOT_FOUND;
    head->version = row->version;
    head->answering = row->answering;
    return RC_OK;
}

static svc_rc
on_head(reader_t *self, const void *arg, svc_buf_t *out)
{
    const history_req_t *req = arg;
    head_job_t head = {.conversation = req->conversation, .user = req->user};
    svc_rc rc = self->store->api->conversation_get(self->store, req->conversation,
                                                   take_head, &head);

    return rc == RC_OK ? proto_encode(&head_job_schema, &head, out) : rc;
}

static svc_rc
on_history(reader_t *self, const void *req, svc_buf_t *out)
{
    history_job_t job;
    svc_buf_t json;
    svc_rc rc;

    svc_buf_init(&json, PROTO_JSON_PAGE_MAX_BYTES);
    rc = history_json_page(self->store, req, &json, &job);
    if (rc == RC_OK) {
        job.page.json = svc_buf_str(&json);
        rc = proto_encode(&history_job_schema, &job, out);
    }
    svc_buf_fini(&json);
    return rc;
}

/* --- text, status, active, prompt ------------------------------------------------------------- */

typedef struct {
    uint64_t user;   /* who asks */
    read_rep_t rep;  /* but for bytes */
    svc_buf_t bytes; /* one page */
} text_t;

static svc_rc
take_length(void *arg, const answer_row_t *row)
{
    text_t *text = arg;

    if (row->user != text->user)
        return RC_NOT_FOUND;
    text->rep.state = row->state;
    text->rep.length = row->length;
    return RC_OK;
}

static bool
gather(void *arg, svc_str bytes)
{
    svc_buf_t *page = arg;
    size_t room = page->max - page->n;
    bool fits = bytes.n <= room;

    return svc_buf_add(page, bytes.p, fits ? bytes.n : room) == RC_OK && fits;
}

static svc_rc
on_text(reader_t *self, const void *arg, svc_buf_t *out)
{
    const read_req_t *req = arg;
    convo_store_t *store = self->store;
    text_t text = {.user = req->user, .rep = {.from = req->from}};
    svc_rc rc = store->api->answer_get(store, req->stream, take_length, &text);

    if (rc != RC_OK)
        return rc;
    svc_buf_init(&text.bytes, PROTO_PAGE_MAX_BYTES);
    rc = store->api->answer_text(store, req->stream, req->from, gather, &text.bytes);
    text.rep.bytes = svc_buf_str(&text.bytes);
    if (text.bytes.n ==
        text.bytes
            .max) /* cut between two characters; a reader that began inside one gets all */
        text.rep.bytes.n = svc_utf8_valid(text.bytes.p, text.bytes.n);
    if (text.rep.bytes.n == 0)
        text.rep.bytes.n = text.bytes.n;
    if (rc == RC_OK)
        rc = proto_encode(&read_rep_schema, &text.rep, out);
    svc_buf_fini(&text.bytes);
    return rc;
}

typedef struct {
    const watch_req_t *req; /* who asks for what */
    bool is_known;          /* the stream exists, be it somebody else's */
    uint64_t last;          /* message_id of the conversation's latest answer */
    svc_buf_t *out;         /* the row */
} status_t;

static svc_rc
take_last(void *arg, const conversation_row_t *row)
{
    status_t *status = arg;

    if (row->user != status->req->user)
        return RC_NOT_FOUND;
    status->last = row->last_message;
    return RC_OK;
}

static svc_rc
take_status(void *arg, const answer_row_t *row)
{
    status_t *status = arg;

    status->is_known = true;
    if (row->user != status->req->user || row->conversation != status->req->conversation)
        return RC_NOT_FOUND;
    return proto_encode(&answer_row_schema, row, status->out);
}

static svc_rc
on_status(reader_t *self, const void *arg, svc_buf_t *out)
{
    const convo_store_api_t *api = self->store->api;
    status_t status = {.req = arg, .out = out};
    uint64_t conversation = status.req->conversation;
    svc_rc rc;

    if (status.req->stream.n > 0) {
        rc = api->answer_get(self->store, status.req->stream, take_status, &status);
        if (rc != RC_NOT_FOUND || status.is_known)
            return rc;
    }
    rc = api->conversation_get(self->store, conversation, take_last, &status);
    if (rc == RC_OK && status.last == 0)
        return status.req->stream.n > 0 ? RC_NOT_FOUND : RC_NO_ANSWER;
    if (rc == RC_OK && status.req->stream.n > 0)
        return RC_SUPERSEDED; /* a retry has taken its place */
    if (rc == RC_OK)
        rc = api->answer_at(self->store, conversation, status.last, take_status, &status);
    return rc;
}

/* Unfinished answers of a user. */
typedef struct {
    active_answer_t rows[PROTO_ACTIVE_MAX]; /* views into streams */
    char streams[PROTO_ACTIVE_MAX][PROTO_STREAM_BYTES];
    size_t n; /* in use */
} active_t;

static svc_rc
take_active(void *arg, const answer_row_t *row)
{
    active_t *active = arg;
    char *stream = active->streams[active->n];

    memcpy(stream, row->stream.p, PROTO_STREAM_BYTES);
    active->rows[active->n++] = (active_answer_t){
        .conversation = row->conversation,
        .stream = {stream, PROTO_STREAM_BYTES},
        .message = row->message,
        .state = row->state,
        .length = row->length,
        .asked_ms = row->asked_ms,
    };
    return active->n == PROTO_ACTIVE_MAX ? RC_LATER : RC_OK;
}

static svc_rc
on_active(reader_t *self, const void *arg, svc_buf_t *out)
{
    const active_req_t *req = arg;
    active_t *active = svc_alloc(sizeof(*active));
    active_rep_t rep;
    svc_rc rc = self->store->api->answer_active(self->store, req->user, take_active,
                                                active);

    rep.answers = (proto_list_t){active->rows, active->n};
    if (rc == RC_OK || rc == RC_LATER)
        rc = proto_encode(&active_rep_schema, &rep, out);
    free(active);
    return rc;
}

static svc_rc
on_prompt(reader_t *self, const void *job, svc_buf_t *out)
{
    return prompt_build(self->store, self->workers, job, out);
}

/* --- the pool's side -------------------------------------------------------------------------- */

typedef struct {
    const proto_schema_t *schema; /* of the payload */
    svc_rc (*handle)(reader_t *self, const void *arg,
                     svc_buf_t *out); /* inside a read transaction */
} read_kind_t;

// clang-format off
static const read_kind_t kinds[] = {
    [READ_LIST]      = {&list_req_schema,    on_list},
    [READ_HEAD]      = {&history_req_schema, on_head},
    [READ_HISTORY]   = {&history_req_schema, on_history},
    [READ_TEXT]      = {&read_req_schema,    on_text},
    [READ_STATUS]    = {&watch_req_schema,   on_status},
    [READ_PROMPT]    = {&prompt_job_schema,  on_prompt},
    [READ_LIST_HEAD] = {&list_req_schema,    on_list_head},
    [READ_ACTIVE]    = {&active_req_schema,  on_active},
};
// clang-format on

/* Opens the connection anew when it has lived long enough; a file that was replaced is found then, too. */
static svc_rc
refresh(reader_t *self)
{
    uint64_t now = svc_mono_ms();
    uint64_t lifetime = self->workers->conn_lifetime_ms;
    char *error = NULL;

    if (self->store != NULL && (lifetime == 0 || now - self->opened_ms < lifetime))
        return RC_OK;
    convo_store_destroy(&self->store);
    self->store = convo_store_open(&self->workers->place, STORE_READ, self->workers->log,
                                   &error);
    self->opened_ms = now;
    if (self->store == NULL)
        svc_log_error(self->workers->log, "%s", error == NULL ? "no memory" : error);
    free(error);
    return self->store == NULL ? RC_UNAVAILABLE : RC_OK;
}

static svc_rc
run_job(reader_t *self, const svc_job_t *job, svc_buf_t *out)
{
    union {
        list_req_t list;
        history_req_t history;
        read_req_t read;
        watch_req_t watch;
        prompt_job_t prompt;
        active_req_t active;
    } arg;
    uint32_t kind = svc_job_kind(job);
    svc_rc rc;

    if (kind >= SVC_COUNT(kinds))
        return RC_INVALID;
    rc = proto_decode(kinds[kind].schema, svc_job_payload(job), self->arena, &arg);
    return rc == RC_OK ? kinds[kind].handle(self, &arg, out) : rc;
}

static svc_rc
begin(reader_t *self)
{
    svc_rc rc = refresh(self);

    return rc == RC_OK ? self->store->api->begin(self->store, false) : rc;
}

static void
end(reader_t *self, svc_rc begun)
{
    if (begun == RC_OK)
        self->store->api->rollback(self->store); /* it only read */
}

/* Does one job in a transaction that has begun (*begun). When the database turns out to be away it is tried once more: a
 * server that was restarted is found by a new connection. */
static svc_rc
run_job_again(reader_t *self, const svc_job_t *job, svc_rc *begun, svc_buf_t *out)
{
    svc_rc rc = *begun == RC_OK ? run_job(self, job, out) : *begun;

    if (rc != RC_UNAVAILABLE && rc != RC_BUSY)
        return rc;
    end(self, *begun);
    *begun = begin(self);
    svc_buf_clear(out);
    return *begun == RC_OK ? run_job(self, job, out) : *begun;
}

void
convo_reader_work(void *state, svc_job_t *const *jobs, size_t n)
{
    reader_t *self = state;
    svc_rc begun = begin(self);

    for (size_t i = 0; i < n; i++) {
        svc_buf_t *out = &self->out;
        svc_rc rc;

        svc_buf_clear(out);
        rc = run_job_again(self, jobs[i], &begun, out);
        svc_job_done(jobs[i], rc, rc == RC_OK ? svc_buf_str(out) : (svc_str){NULL, 0});
        if (out->cap > OUT_KEEP_BYTES) {
            svc_buf_fini(out);
            svc_buf_init(out, PROTO_MESSAGE_MAX_BYTES);
        }
    }
    end(self, begun);
}

void *
convo_reader_open(void *arg, char **error)
{
    reader_t *self = svc_alloc(sizeof(*self));

    self->workers = arg;
    self->arena = proto_arena_new();
    svc_buf_init(&self->out, PROTO_MESSAGE_MAX_BYTES);
    self->opened_ms = svc_mono_ms();
    self->store = convo_store_open(&self->workers->place, STORE_READ, self->workers->log,
                                   error);
    if (self->store == NULL) {
        convo_reader_close(self);
        return NULL;
    }
    return self;
}

void
convo_reader_close(void *state)
{
    reader_t *self = state;

    convo_store_destroy(&self->store);
    proto_arena_destroy(&self->arena);
    svc_buf_fini(&self->out);
    free(self);
}
