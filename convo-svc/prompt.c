/* prompt.c - what is sent to a model: system prompt, the turns so far, the question.
 *
 * Texts are gathered one behind another in one buffer; since it may move while it grows, messages
 * remember lengths first and become views at the end. The opened api key is wiped before its
 * memory is given back. */
#include "prompt.h"

#include <stdlib.h>

typedef struct {
    convo_store_t *store;
    const prompt_job_t *job;
    uint64_t conversation, message, term; /* of the answer to be generated */
    uint64_t turns;                       /* of the conversation */
    char model[PROTO_MODEL_MAX_BYTES];
    size_t model_n;
    svc_buf_t sealed;                /* api key */
    svc_buf_t key;                   /* likewise, opened: a secret */
    svc_buf_t text;                  /* of all messages */
    prompt_message_t *items;         /* text.n is final, text.p is set at the end */
    size_t n, max;                   /* of items */
    uint64_t length;                 /* of the answer looked at */
    char stream[PROTO_STREAM_BYTES]; /* likewise */
    svc_rc rc;                       /* failure inside a callback */
} prompt_t;

static svc_rc
take_answer(void *arg, const answer_row_t *row)
{
    prompt_t *self = arg;

    if (row->state != ANSWER_WAITING || row->fence != self->job->fence)
        return RC_STALE;
    self->conversation = row->conversation;
    self->message = row->message;
    self->term = row->term;
    return RC_OK;
}

static svc_rc
take_conversation(void *arg, const conversation_row_t *row)
{
    prompt_t *self = arg;

    if (row->model.n > sizeof(self->model))
        return RC_INTERNAL;
    memcpy(self->model, row->model.p, row->model.n);
    self->model_n = row->model.n;
    self->turns = row->turns;
    return svc_buf_add_str(&self->sealed, row->sealed_key);
}

static svc_rc
take_turn(void *arg, const answer_row_t *row)
{
    prompt_t *self = arg;

    self->length = row->length;
    memcpy(self->stream, row->stream.p, sizeof(self->stream));
    return RC_OK;
}

static bool
gather(void *arg, svc_str bytes)
{
    prompt_t *self = arg;

    self->rc = svc_buf_add_str(&self->text, bytes);
    return self->rc == RC_OK;
}

/* Makes what was gathered since `from` a message. */
static svc_rc
add_message(prompt_t *self, message_role role, size_t from)
{
    if (self->n == self->max)
        return RC_TOO_BIG;
    self->items[self->n].role = (int)role;
    self->items[self->n].text.n = self->text.n - from;
    self->n++;
    return RC_OK;
}

static svc_rc
add_question(prompt_t *self, uint64_t message)
{
    size_t from = self->text.n;
    svc_rc rc = self->store->api->question_text(self->store, self->conversation, message,
                                                0, gather, self);

    if (rc == RC_OK)
        rc = self->rc;
    return rc == RC_OK ? add_message(self, ROLE_USER, from) : rc;
}

/* Adds the question `message` and its answer, unless that stayed empty. */
static svc_rc
add_turn(prompt_t *self, uint64_t message)
{
    const convo_store_api_t *api = self->store->api;
    size_t from;
    svc_rc rc = api->answer_at(self->store, self->conversation, message + 1, take_turn,
                               self);

    if (rc != RC_OK || self->length == 0)
        return rc;
    rc = add_question(self, message);
    from = self->text.n;
    if (rc == RC_OK)
        rc = api->answer_text(self->store, (svc_str){self->stream, sizeof(self->stream)},
                              0, gather, self);
    if (rc == RC_OK)
        rc = self->rc;
    return rc == RC_OK ? add_message(self, ROLE_ASSISTANT, from) : rc;
}

static svc_rc
add_all(prompt_t *self, svc_str system)
{
    svc_rc rc = RC_OK;

    self->max = (size_t)self->turns * 2 + 1 + CONVO_SYSTEM_MESSAGE;
    if (self->max > PROTO_PROMPT_MAX_MESSAGES)
        return RC_TOO_BIG;
    self->items = svc_try_alloc(self->max * sizeof(*self->items));
    if (self->items == NULL)
        return RC_TOO_BIG;
    if (system.n > 0) {
        rc = svc_buf_add_str(&self->text, system);
        if (rc == RC_OK)
            rc = add_message(self, ROLE_SYSTEM, 0);
    }
    for (uint64_t m = 1; rc == RC_OK && m + 1 < self->message; m += 2)
        rc = add_turn(self, m);
    return rc == RC_OK ? add_question(self, self->message - 1) : rc;
}

static svc_rc
encode(prompt_t *self, svc_buf_t *out)
{
    generate_req_t req = {
        .stream = self->job->stream,
        .fence = self->job->fence,
        .term = self->term,
        .model = {self->model, self->model_n},
        .key = svc_buf_str(&self->key),
        .messages = {self->items, self->n},
    };
    size_t at = 0;

    for (size_t i = 0; i < self->n; i++) {
        self->items[i].text.p = self->text.p + at;
        at += self->items[i].text.n;
    }
    return proto_encode(&generate_req_schema, &req, out);
}

svc_rc
prompt_build(convo_store_t *store, const convo_workers_t *workers,
             const prompt_job_t *job, svc_buf_t *out)
{
    prompt_t self = {.store = store, .job = job};
    svc_rc rc;

    svc_buf_init(&self.sealed, SEAL_MAX_BYTES);
    svc_buf_init(&self.key, SEAL_MAX_BYTES);
    svc_buf_init(&self.text, PROTO_PROMPT_MAX_BYTES);
    rc = store->api->answer_get(store, job->stream, take_answer, &self);
    if (rc == RC_OK)
        rc = store->api->conversation_get(store, self.conversation, take_conversation,
                                          &self);
    if (rc == RC_OK)
        rc = seal_open(workers->seal, svc_buf_str(&self.sealed), &self.key);
    if (rc == RC_OK)
        rc = add_all(&self, workers->system_prompt);
    if (rc == RC_OK)
        rc = encode(&self, out);
    if (self.key.p != NULL)
        explicit_bzero(self.key.p, self.key.cap);
    svc_buf_fini(&self.sealed);
    svc_buf_fini(&self.key);
    svc_buf_fini(&self.text);
    free(self.items);
    return rc == RC_NOT_FOUND ? RC_STALE : rc;
}

svc_rc
prompt_build_first(const convo_workers_t *workers, const answer_row_t *row, svc_str model,
                   svc_str sealed_key, svc_str question, svc_buf_t *out)
{
    prompt_message_t items[1 + CONVO_SYSTEM_MESSAGE];
    generate_req_t req = {.stream = row->stream,
                          .fence = row->fence,
                          .term = row->term,
                          .model = model,
                          .messages = {items, 0}};
    svc_buf_t key;
    svc_rc rc;

    svc_buf_init(&key, SEAL_MAX_BYTES);
    rc = seal_open(workers->seal, sealed_key, &key);
    if (workers->system_prompt.n > 0)
        items[req.messages.n++] = (prompt_message_t){.role = ROLE_SYSTEM,
                                                     .text = workers->system_prompt};
    items[req.messages.n++] = (prompt_message_t){.role = ROLE_USER, .text = question};
    req.key = svc_buf_str(&key);
    if (rc == RC_OK)
        rc = proto_encode(&generate_req_schema, &req, out);
    if (key.p != NULL)
        explicit_bzero(key.p, key.cap);
    svc_buf_fini(&key);
    return rc;
}
