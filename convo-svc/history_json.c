/* history_json.c - pages of ready JSON: a user's conversations, and one conversation with its messages.
 *
 * A page is full when the next piece, with every character escaped in six bytes, might not fit.
 * The cursor of a history is (message, offset in bytes of its text); offset 0 means that the
 * message has not been opened yet, so a message is opened only when a piece of it fits, too. */
#include "history_json.h"

#include "proto/utf8.h"
#include "svc/svc_text.h"

#include <inttypes.h>

#define ESCAPED         6u    /* bytes that one byte may become: \u001f */
#define PIECE_MAX_BYTES 1024u /* of text, escaped at once */
#define FRAME_MAX_BYTES 512u  /* what stands around a text, and the tail of the body */

/* --- list ------------------------------------------------------------------------------------- */

typedef struct {
    svc_buf_t *json;
    bool is_first; /* nothing stands before the next item */
    uint64_t seq;  /* of the last item on the page */
    bool more;     /* the page was full */
} list_t;

static svc_rc
add_conversation(void *arg, const conversation_row_t *row)
{
    list_t *list = arg;
    svc_buf_t *json = list->json;
    svc_rc rc;

    if (json->n + ESCAPED * row->title.n + FRAME_MAX_BYTES > json->max) {
        list->more = true;
        return RC_LATER;
    }
    rc = svc_buf_printf(json, "%s{\"conversation_id\":%" PRIu64 ",\"title\":",
                        list->is_first ? "" : ",", row->id);
    if (rc == RC_OK)
        rc = svc_json_string(json, row->title);
    if (rc == RC_OK)
        rc = svc_buf_printf(json, ",\"created_time\":%" PRIu64 "}", row->created_s);
    list->is_first = false;
    list->seq = row->seq;
    return rc;
}

svc_rc
history_json_list(convo_store_t *store, const list_req_t *req, svc_buf_t *json,
                  uint64_t *next_out)
{
    list_t list = {.json = json, .is_first = req->cursor == 0};
    svc_rc rc = list.is_first ? svc_buf_add_str(json, SVC_LIT("[")) : RC_OK;

    if (rc == RC_OK)
        rc = store->api->conversation_list(store, req->user, req->cursor,
                                           add_conversation, &list);
    if (rc == RC_LATER && list.more) {
        *next_out = list.seq;
        return RC_OK;
    }
    if (rc == RC_OK)
        rc = svc_buf_add_str(json, SVC_LIT("]"));
    if (rc == RC_OK)
        *next_out = 0;
    return rc;
}

/* --- history ---------------------------------------------------------------------------------- */

typedef struct {
    convo_store_t *store;
    const history_req_t *req;
    svc_buf_t *json;
    uint64_t created_s, version, last; /* of the conversation */
    bool answering;
    uint64_t message, offset;        /* what comes next */
    char stream[PROTO_STREAM_BYTES]; /* of the answer at hand */
    int state;                       /* likewise */
    bool is_full;                    /* no piece fits any more */
    svc_rc rc;                       /* failure inside a callback */
} page_t;

static bool
has_room(const page_t *self, size_t text)
{
    return self->json->n + ESCAPED * text + FRAME_MAX_BYTES <= self->json->max;
}

/* Adds what fits of a stretch of text. Bytes that are no UTF-8 (a damaged file) become U+FFFD. */
static bool
add_text(void *arg, svc_str bytes)
{
    page_t *self = arg;

    while (bytes.n > 0 && self->rc == RC_OK) {
        size_t n = bytes.n < PIECE_MAX_BYTES ? bytes.n : PIECE_MAX_BYTES;
        size_t valid = svc_utf8_valid(bytes.p, n);

        if (!has_room(self, n)) {
            self->is_full = true;
            return false;
        }
        if (valid > 0)
            self->rc = svc_json_escape(self->json, (svc_str){bytes.p, valid});
        else
            self->rc = svc_buf_add_str(self->json, SVC_LIT("\xef\xbf\xbd"));
        valid = valid > 0 ? valid : 1;
        self->offset += valid;
        bytes.p += valid;
        bytes.n -= valid;
    }
    return self->rc == RC_OK;
}

static svc_rc
take_answer(void *arg, const answer_row_t *row)
{
    page_t *self = arg;

    memcpy(self->stream, row->stream.p, sizeof(self->stream));
    self->state = row->state == ANSWER_WAITING ? ANSWER_STREAMING : row->state;
    return RC_OK;
}

static svc_rc
close_message(page_t *self, bool is_answer)
{
    svc_rc rc = svc_buf_printf(self->json, "\",\"message_id\":%" PRIu64, self->message);

    if (rc == RC_OK && is_answer)
        rc = svc_buf_printf(self->json, ",\"state\":\"%s\"",
                            answer_state_names[self->state]);
    if (rc == RC_OK)
        rc = svc_buf_add_str(self->json, SVC_LIT("}"));
    self->message++;
    self->offset = 0;
    return rc;
}

/* Adds what fits of the message at the cursor and moves the cursor. Questions have odd ids, answers even ones. */
static svc_rc
add_message(page_t *self)
{
    const convo_store_api_t *api = self->store->api;
    bool is_answer = self->message % 2 == 0;
    uint64_t conversation = self->req->conversation;
    svc_rc rc = RC_OK;

    if (!has_room(self, PIECE_MAX_BYTES)) {
        self->is_full = true;
        return RC_OK;
    }
    if (is_answer)
        rc = api->answer_at(self->store, conversation, self->message, take_answer, self);
    if (rc == RC_OK && self->offset == 0)
        rc = svc_buf_printf(self->json, "%s{\"role\":\"%s\",\"content\":\"",
                            self->message > 1 ? "," : "",
                            message_role_names[is_answer ? ROLE_ASSISTANT : ROLE_USER]);
    if (rc == RC_OK && is_answer)
        rc = api->answer_text(self->store, (svc_str){self->stream, sizeof(self->stream)},
                              self->offset, add_text, self);
    else if (rc == RC_OK)
        rc = api->question_text(self->store, conversation, self->message, self->offset,
                                add_text, self);
    if (rc == RC_OK)
        rc = self->rc;
    if (rc == RC_OK && !self->is_full)
        rc = close_message(self, is_answer);
    return rc == RC_NOT_FOUND ? RC_INTERNAL : rc;
}

static svc_rc
open_body(void *arg, const conversation_row_t *row)
{
    page_t *self = arg;
    svc_rc rc;

    if (row->user != self->req->user)
        return RC_NOT_FOUND;
    self->created_s = row->created_s;
    self->version = row->version;
    self->last = row->last_message;
    self->answering = row->answering;
    if (self->req->message != 0)
        return RC_OK;
    rc = svc_buf_printf(self->json,
                        "{\"conversation_id\":%" PRIu64 ",\"title\":", row->id);
    if (rc == RC_OK)
        rc = svc_json_string(self->json, row->title);
    if (rc == RC_OK)
        rc = svc_buf_add_str(self->json, SVC_LIT(",\"model\":"));
    if (rc == RC_OK)
        rc = svc_json_string(self->json, row->model);
    return rc == RC_OK ? svc_buf_add_str(self->json, SVC_LIT(",\"messages\":[")) : rc;
}

svc_rc
history_json_page(convo_store_t *store, const history_req_t *req, svc_buf_t *json,
                  history_job_t *out)
{
    page_t self = {.store = store,
                   .req = req,
                   .json = json,
                   .message = req->message == 0 ? 1 : req->message,
                   .offset = req->message == 0 ? 0 : req->offset};
    svc_rc rc = store->api->conversation_get(store, req->conversation, open_body, &self);

    while (rc == RC_OK && !self.is_full && self.message <= self.last)
        rc = add_message(&self);
    if (rc == RC_OK && !self.is_full)
        rc = svc_buf_printf(json, "],\"created_time\":%" PRIu64 "}", self.created_s);
    if (rc != RC_OK)
        return rc;
    *out = (history_job_t){
        .page = {.next_message = self.is_full ? self.message : 0,
                 .next_offset = self.is_full ? self.offset : 0,
                 .more = self.is_full},
        .conversation = req->conversation,
        .version = self.version,
        .whole = req->message == 0 && !self.is_full && !self.answering,
    };
    return RC_OK;
}
