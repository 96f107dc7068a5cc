/* convo_writer_answers.c - what the writer does to answers: asked, asked anew, stopped, written step by step.
 *
 * Handlers check owner and state inside the transaction, so what they decide cannot be outdated when it is committed, and
 * message_ids are given here: without gaps and doubles, however many ask at once. A question that comes again joins the
 * answer that it has begun. Thread: the writer's. */
#include "convo_writer_private.h"

#include "prompt.h"
#include "svc/svc_time.h"

#include <sodium.h>

#define READY_MESSAGES_MAX \
    16 /* before a question whose prompt is made here: pages read */

/* --- ask, retry, stop ------------------------------------------------------------------------- */

static svc_rc
encode_answer(void *arg, const answer_row_t *row)
{
    return proto_encode(&answer_row_schema, row, arg);
}

/* What a question or a retry asks for, and how it is known again. */
typedef struct {
    uint64_t user, conversation; /* whose, where */
    svc_str stream, key; /* either of them joins what it has begun; key may be empty */
    svc_str hash;        /* of what is asked */
    bool is_retry;       /* it has no words that a stream could stand for */
    bool stop_alone;     /* as asked */
    svc_buf_t *out;      /* the answer's row */
} wanted_t;

static svc_rc
join_stream(void *arg, const answer_row_t *row)
{
    const wanted_t *wanted = arg;

    if (row->user != wanted->user || row->conversation != wanted->conversation ||
        (!wanted->is_retry && !svc_str_eq(row->body_hash, wanted->hash)))
        return RC_CONFLICT;
    return encode_answer(wanted->out, row);
}

static svc_rc
join_key(void *arg, const answer_row_t *row)
{
    const wanted_t *wanted = arg;

    if (!svc_str_eq(row->body_hash, wanted->hash))
        return RC_KEY_REUSED;
    return encode_answer(wanted->out, row);
}

/* The answer that was begun by the same stream or key. RC_NOT_FOUND: none. The conversation's row is locked by now: of two
 * replicas that are asked for the same at once, the second one finds what the first one has begun. */
static svc_rc
join(writer_t *self, wanted_t *wanted)
{
    convo_store_t *store = self->store;
    svc_rc rc = store->api->answer_get(store, wanted->stream, join_stream, wanted);

    if (rc != RC_NOT_FOUND || wanted->key.n == 0)
        return rc;
    rc = store->api->answer_of_key(store, wanted->conversation, wanted->key, join_key,
                                   wanted);
    if (rc == RC_OK)
        svc_metrics_add(self->workers->metrics, SVC_M_KEYS_REPLAYED, 1);
    return rc;
}

/* The row of an answer that is to begin. */
static answer_row_t
fresh_row(const writer_t *self, const wanted_t *wanted, uint64_t question_bytes)
{
    return (answer_row_t){.stream = wanted->stream,
                          .user = wanted->user,
                          .conversation = wanted->conversation,
                          .term = 1,
                          .fence = convo_fence(1),
                          .attempt = 1,
                          .owner = self->workers->instance,
                          .asked_ms = svc_unix_ms(),
                          .question_bytes = question_bytes,
                          .body_hash = wanted->hash,
                          .key = wanted->key,
                          .stop_alone = wanted->stop_alone};
}

/* Will the prompt of this question be within its bounds? */
static bool
fits_prompt(const writer_t *self, const writer_owned_t *own, uint64_t question)
{
    return own->turns * 2 + 1 + CONVO_SYSTEM_MESSAGE <= PROTO_PROMPT_MAX_MESSAGES &&
           own->turn_bytes + self->workers->system_prompt.n + question <=
               PROTO_PROMPT_MAX_BYTES;
}

/* Makes the prompt of a question that was just added. RC_TOO_BIG: reading the turns before it would keep the other jobs
 * waiting (turns whose answer stayed empty are looked at, too, so messages are counted). */
static svc_rc
make_prompt(writer_t *self, const answer_row_t *row, const writer_owned_t *own,
            svc_str question)
{
    prompt_job_t job = {row->stream, row->fence};

    svc_buf_clear(&self->prompt);
    if (self->workers->plain_paths || own->last_message > READY_MESSAGES_MAX ||
        own->turn_bytes + question.n + self->workers->system_prompt.n >
            CONVO_READY_PROMPT_MAX_BYTES / 2)
        return RC_TOO_BIG;
    if (own->last_message == 0)
        return prompt_build_first(self->workers, row, (svc_str){own->model, own->model_n},
                                  (svc_str){own->sealed, own->sealed_n}, question,
                                  &self->prompt);
    return prompt_build(self->store, self->workers, &job, &self->prompt);
}

/* Tells of an answer that was just added; its prompt goes with it when it is short. */
static svc_rc
tell_fresh(writer_t *self, answer_row_t *row, const writer_owned_t *own, svc_str question,
           svc_buf_t *out)
{
    svc_rc rc = make_prompt(self, row, own, question);

    row->fresh = true;
    if (rc == RC_UNAVAILABLE)
        return rc;
    row->prompt = rc == RC_OK ? svc_buf_str(&self->prompt) : (svc_str){NULL, 0};
    rc = encode_answer(out, row);
    if (self->prompt.n > 0)
        explicit_bzero(self->prompt.p, self->prompt.n);
    return rc;
}

static svc_rc
may_ask(const writer_t *self, const writer_owned_t *own, uint64_t question)
{
    if (own->answering)
        return RC_ANSWERING;
    return fits_prompt(self, own, question) ? RC_OK : RC_TOO_BIG;
}

static svc_rc
add_question(writer_t *self, const wanted_t *wanted, const writer_owned_t *own,
             svc_str text)
{
    answer_row_t row = fresh_row(self, wanted, text.n);
    svc_rc rc = self->store->api->question_add(
        self->store, &row, text, writer_next_version(own->version), &row.message);

    return rc == RC_OK ? tell_fresh(self, &row, own, text, wanted->out) : rc;
}

svc_rc
writer_ask(writer_t *self, const void *arg, svc_buf_t *out)
{
    const ask_req_t *req = arg;
    uint8_t hash[WRITER_HASH_BYTES];
    wanted_t wanted = {.user = req->user,
                       .conversation = req->conversation,
                       .stream = req->stream,
                       .key = req->key,
                       .hash = {(const char *)hash, sizeof(hash)},
                       .stop_alone = req->stop_alone,
                       .out = out};
    writer_owned_t own;
    svc_rc joined, rc = writer_get_owned(self, req->conversation, req->user, &own);

    if (rc != RC_OK)
        return rc;
    (void)crypto_generichash(hash, sizeof(hash), (const unsigned char *)req->text.p,
                             req->text.n, NULL, 0);
    /* Nearly every question is new, so whether it is one that was asked before is looked at when it is refused. */
    rc = may_ask(self, &own, req->text.n);
    if (rc == RC_OK) {
        rc = add_question(self, &wanted, &own, req->text);
        if (rc != RC_CONFLICT)
            return rc;
    }
    joined = join(self, &wanted);
    return joined == RC_NOT_FOUND ? rc : joined;
}

/* What of an answer its successor needs; without a key it has no use for the hash. */
typedef struct {
    uint64_t length, question_bytes;
    char room[PROTO_KEY_MAX_BYTES +
              WRITER_HASH_BYTES]; /* of the next, and behind it the hash */
    svc_str key;
} replaced_t;

static svc_rc
copy_replaced(void *arg, const answer_row_t *row)
{
    replaced_t *old = arg;

    old->length = row->length;
    old->question_bytes = row->question_bytes;
    old->key = (svc_str){old->room, row->key.n};
    if (row->key.n == 0)
        return RC_OK;
    if (row->key.n > PROTO_KEY_MAX_BYTES || row->body_hash.n != WRITER_HASH_BYTES)
        return RC_INTERNAL;
    memcpy(old->room, row->key.p, row->key.n);
    memcpy(old->room + row->key.n, row->body_hash.p, WRITER_HASH_BYTES);
    return RC_OK;
}

/* Puts a new answer in the place of the latest one. Its prompt is built by a reader: the question is not at hand. */
static svc_rc
replace_answer(writer_t *self, const wanted_t *wanted, const writer_owned_t *own)
{
    convo_store_t *store = self->store;
    writer_owned_t before = *own; /* the turns without the old answer's */
    replaced_t old;
    answer_row_t row;
    svc_rc rc;

    if (own->last_message == 0)
        return RC_NO_ANSWER;
    if (own->answering)
        return RC_ANSWERING;
    rc = store->api->answer_at(store, wanted->conversation, own->last_message,
                               copy_replaced, &old);
    if (rc != RC_OK)
        return rc;
    if (old.length > 0) {
        before.turns--;
        before.turn_bytes -= old.length + old.question_bytes;
    }
    if (!fits_prompt(self, &before, old.question_bytes))
        return RC_TOO_BIG;
    row = fresh_row(self, wanted, old.question_bytes);
    if (wanted->key.n == 0 && old.key.n > 0) { /* it is still the same question */
        row.key = old.key;
        row.body_hash = (svc_str){old.room + old.key.n, WRITER_HASH_BYTES};
    }
    row.message = own->last_message;
    row.fresh = true;
    rc = store->api->answer_replace(store, &row, writer_next_version(own->version));
    return rc == RC_OK ? encode_answer(wanted->out, &row) : rc;
}

svc_rc
writer_retry(writer_t *self, const void *arg, svc_buf_t *out)
{
    static const char what[WRITER_HASH_BYTES] =
        "convo.retry"; /* no hash of any question */
    const retry_req_t *req = arg;
    wanted_t wanted = {.user = req->user,
                       .conversation = req->conversation,
                       .stream = req->stream,
                       .key = req->key,
                       .hash = {what, sizeof(what)},
                       .is_retry = true,
                       .stop_alone = req->stop_alone,
                       .out = out};
    writer_owned_t own;
    svc_rc rc = writer_get_owned(self, req->conversation, req->user, &own);

    if (rc != RC_OK)
        return rc;
    rc = join(self, &wanted);
    return rc == RC_NOT_FOUND ? replace_answer(self, &wanted, &own) : rc;
}

static svc_rc
copy_stream(void *arg, const answer_row_t *row)
{
    if (answer_state_is_terminal(row->state))
        return RC_CONFLICT;
    memcpy(arg, row->stream.p, PROTO_STREAM_BYTES);
    return RC_OK;
}

svc_rc
writer_stop(writer_t *self, const void *arg, svc_buf_t *out)
{
    const watch_req_t *req = arg;
    convo_store_t *store = self->store;
    writer_owned_t own;
    char stream[PROTO_STREAM_BYTES];
    svc_rc rc = writer_get_owned(self, req->conversation, req->user, &own);

    if (rc == RC_OK && own.last_message == 0)
        return RC_NO_ANSWER;
    if (rc == RC_OK && own.answering) {
        rc = store->api->answer_at(store, req->conversation, own.last_message,
                                   copy_stream, stream);
        const svc_str latest = {stream, sizeof(stream)};
        /* one that has ended is not this one: what runs now was asked since */
        if (rc == RC_OK && (req->stream.n == 0 || svc_str_eq(req->stream, latest)))
            rc = store->api->answer_stop(store, latest);
    }
    if (rc == RC_OK && req->stream.n > 0) {
        wanted_t named = {req->user, req->conversation, .is_retry = true, .out = out};
        rc = store->api->answer_get(store, req->stream, join_stream, &named);
        return rc == RC_NOT_FOUND ? RC_SUPERSEDED : rc; /* a retry has taken its place */
    }
    if (rc == RC_OK)
        rc = store->api->answer_at(store, req->conversation, own.last_message,
                                   encode_answer, out);
    return rc;
}

/* --- steps of an answer ----------------------------------------------------------------------- */

svc_rc
writer_step(writer_t *self, const void *arg, svc_buf_t *out)
{
    (void)out;
    return self->store->api->answer_step(self->store, arg, writer_next_version(0));
}

svc_rc
writer_restart(writer_t *self, const void *arg, svc_buf_t *out)
{
    const restart_job_t *job = arg;

    (void)out;
    return self->store->api->answer_restart(self->store, job->stream, job->term,
                                            job->fence, job->new_fence, job->attempt);
}
