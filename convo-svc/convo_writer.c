/* convo_writer.c - the one thread that changes the database: group commit.
 *
 * One handler per kind of job, in a table. Handlers check owner and state inside the transaction,
 * so what they decide cannot be outdated when it is committed, and message_ids are given here:
 * without gaps and doubles, however many ask at once. */
#include "convo_writer.h"

#include "prompt.h"
#include "svc/svc_time.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define RESULT_MAX_BYTES (8192 + CONVO_READY_PROMPT_MAX_BYTES) /* a row and its prompt */
#define HASH_BYTES       32
#define READY_MESSAGES_MAX \
    16                  /* before a question whose prompt is made here: pages read */
#define TAKE_MAX    256 /* answers taken over by one statement */
#define BATCH_TRIES 5   /* of a transaction that others are in the way of */
#define ID_TRIES    8   /* of a random conversation id; one is enough, if it is random */

_Static_assert(CONVO_WRITER_BATCH <= CONVO_STEPS_MAX, "a store takes a whole batch's");

typedef struct {
    const convo_workers_t *workers; /* borrowed */
    convo_store_t *store;           /* owned, writes */
    proto_arena_t *arena;           /* owned */
    svc_buf_t prompt;               /* of the question at hand: may hold an api key */
    svc_buf_t result[CONVO_WRITER_BATCH]; /* of this batch, kept until the commit */
    svc_rc rc[CONVO_WRITER_BATCH];        /* likewise */
} writer_t;

/* A version that no earlier state of this conversation had, not even one in a database that was restored from a backup while the
 * cache went on: raised by one and something random. */
static uint64_t
next_version(uint64_t version)
{
    return version + 1 + (svc_random_u64() & 0xfffff);
}

/* --- create, delete --------------------------------------------------------------------------- */

/* What was asked with a key. The api key counts, too, so it is hashed with ours: nobody can try keys on the hash. */
static void
hash_create(const writer_t *self, const create_req_t *req, uint8_t out[HASH_BYTES])
{
    const svc_str parts[] = {req->title, req->model, req->api_key};
    crypto_generichash_state hash;

    (void)crypto_generichash_init(&hash, self->workers->seal->key,
                                  sizeof(self->workers->seal->key), HASH_BYTES);
    for (size_t i = 0; i < SVC_COUNT(parts); i++) {
        uint64_t n = parts[i].n;

        (void)crypto_generichash_update(&hash, (const unsigned char *)&n, sizeof(n));
        (void)crypto_generichash_update(&hash, (const unsigned char *)parts[i].p, n);
    }
    (void)crypto_generichash_final(&hash, out, HASH_BYTES);
}

typedef struct {
    svc_str hash; /* of what is asked */
    create_rep_t rep;
} created_t;

static svc_rc
take_created(void *arg, const conversation_row_t *row)
{
    created_t *created = arg;

    if (!svc_str_eq(row->body_hash, created->hash))
        return RC_KEY_REUSED;
    created->rep = (create_rep_t){row->id, row->created_s};
    return RC_OK;
}

/* The conversation that was made with this key before. RC_NOT_FOUND: none. */
static svc_rc
find_created(writer_t *self, const conversation_row_t *row, create_rep_t *out)
{
    created_t created = {.hash = row->body_hash};
    svc_rc rc = row->key.n == 0
                    ? RC_NOT_FOUND
                    : self->store->api->conversation_of_key(
                          self->store, row->user, row->key, take_created, &created);

    if (rc == RC_OK) {
        *out = created.rep;
        svc_metrics_add(self->workers->metrics, SVC_M_KEYS_REPLAYED, 1);
    }
    return rc;
}

/* Adds a conversation under a random id; with a key that is known, finds the one that it made. Nearly every key is new, so that
 * is looked at when the row was refused. */
static svc_rc
add_conversation(writer_t *self, conversation_row_t *row, create_rep_t *out)
{
    svc_rc rc = RC_CONFLICT;

    for (int i = 0; i < ID_TRIES && rc == RC_CONFLICT; i++) {
        row->id = svc_random_u64() & PROTO_ID_MAX;
        rc = row->id == 0 ? RC_CONFLICT
                          : self->store->api->conversation_add(self->store, row);
        if (rc != RC_CONFLICT)
            break;
        rc = find_created(self, row, out);
        if (rc != RC_NOT_FOUND)
            return rc;
        rc = RC_CONFLICT;
    }
    *out = (create_rep_t){row->id, row->created_s};
    return rc == RC_CONFLICT ? RC_INTERNAL : rc;
}

static svc_rc
on_create(writer_t *self, const void *arg, svc_buf_t *out)
{
    const create_req_t *req = arg;
    uint8_t hash[HASH_BYTES];
    create_rep_t rep;
    conversation_row_t row = {.user = req->user,
                              .title = req->title,
                              .model = req->model,
                              .created_s = svc_unix_ms() / 1000,
                              .version = next_version(0),
                              .key = req->key};
    svc_buf_t sealed;
    svc_rc rc;

    if (req->key.n > 0) {
        hash_create(self, req, hash);
        row.body_hash = (svc_str){(const char *)hash, sizeof(hash)};
    }
    svc_buf_init(&sealed, SEAL_MAX_BYTES);
    rc = seal_close(self->workers->seal, req->api_key, &sealed);
    row.sealed_key = svc_buf_str(&sealed);
    if (rc == RC_OK)
        rc = add_conversation(self, &row, &rep);
    svc_buf_fini(&sealed);
    return rc == RC_OK ? proto_encode(&create_rep_schema, &rep, out) : rc;
}

/* What of a conversation a job needs after its row is gone. */
typedef struct {
    uint64_t user; /* who asks; another owner: RC_NOT_FOUND */
    uint64_t version, last_message, turns, turn_bytes; /* of the row */
    bool answering;
    char model[PROTO_MODEL_MAX_BYTES], sealed[SEAL_MAX_BYTES]; /* copies */
    size_t model_n, sealed_n;
} owned_t;

static svc_rc
check_owner(void *arg, const conversation_row_t *row)
{
    owned_t *own = arg;

    if (row->user != own->user)
        return RC_NOT_FOUND;
    own->version = row->version;
    own->last_message = row->last_message;
    own->turns = row->turns;
    own->turn_bytes = row->turn_bytes;
    own->answering = row->answering;
    if (row->model.n > sizeof(own->model) || row->sealed_key.n > sizeof(own->sealed))
        return RC_INTERNAL;
    own->model_n = row->model.n;
    if (row->model.n > 0)
        memcpy(own->model, row->model.p, row->model.n);
    own->sealed_n = row->sealed_key.n;
    if (row->sealed_key.n > 0)
        memcpy(own->sealed, row->sealed_key.p, row->sealed_key.n);
    return RC_OK;
}

/* Reads a conversation of `user`. */
static svc_rc
get_owned(writer_t *self, uint64_t conversation, uint64_t user, owned_t *own)
{
    own->user = user;
    return self->store->api->conversation_get(self->store, conversation, check_owner,
                                              own);
}

static svc_rc
on_delete(writer_t *self, const void *arg, svc_buf_t *out)
{
    const conversation_req_t *req = arg;
    owned_t own;
    svc_rc rc = get_owned(self, req->conversation, req->user, &own);

    if (rc == RC_OK)
        rc = self->store->api->conversation_remove(self->store, req->conversation);
    return rc == RC_OK ? svc_buf_add(out, &req->conversation, sizeof(req->conversation))
                       : rc;
}

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
fits_prompt(const writer_t *self, const owned_t *own, uint64_t question)
{
    return own->turns * 2 + 1 + CONVO_SYSTEM_MESSAGE <= PROTO_PROMPT_MAX_MESSAGES &&
           own->turn_bytes + self->workers->system_prompt.n + question <=
               PROTO_PROMPT_MAX_BYTES;
}

/* Makes the prompt of a question that was just added. RC_TOO_BIG: reading the turns before it would keep the other jobs
 * waiting (turns whose answer stayed empty are looked at, too, so messages are counted). */
static svc_rc
make_prompt(writer_t *self, const answer_row_t *row, const owned_t *own, svc_str question)
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
tell_fresh(writer_t *self, answer_row_t *row, const owned_t *own, svc_str question,
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
may_ask(const writer_t *self, const owned_t *own, uint64_t question)
{
    if (own->answering)
        return RC_ANSWERING;
    return fits_prompt(self, own, question) ? RC_OK : RC_TOO_BIG;
}

static svc_rc
add_question(writer_t *self, const wanted_t *wanted, const owned_t *own, svc_str text)
{
    answer_row_t row = fresh_row(self, wanted, text.n);
    svc_rc rc = self->store->api->question_add(self->store, &row, text,
                                               next_version(own->version), &row.message);

    return rc == RC_OK ? tell_fresh(self, &row, own, text, wanted->out) : rc;
}

static svc_rc
on_ask(writer_t *self, const void *arg, svc_buf_t *out)
{
    const ask_req_t *req = arg;
    uint8_t hash[HASH_BYTES];
    wanted_t wanted = {.user = req->user,
                       .conversation = req->conversation,
                       .stream = req->stream,
                       .key = req->key,
                       .hash = {(const char *)hash, sizeof(hash)},
                       .stop_alone = req->stop_alone,
                       .out = out};
    owned_t own;
    svc_rc joined, rc = get_owned(self, req->conversation, req->user, &own);

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
    char room[PROTO_KEY_MAX_BYTES + HASH_BYTES]; /* of the next, and behind it the hash */
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
    if (row->key.n > PROTO_KEY_MAX_BYTES || row->body_hash.n != HASH_BYTES)
        return RC_INTERNAL;
    memcpy(old->room, row->key.p, row->key.n);
    memcpy(old->room + row->key.n, row->body_hash.p, HASH_BYTES);
    return RC_OK;
}

/* Puts a new answer in the place of the latest one. Its prompt is built by a reader: the question is not at hand. */
static svc_rc
replace_answer(writer_t *self, const wanted_t *wanted, const owned_t *own)
{
    convo_store_t *store = self->store;
    owned_t before = *own; /* the turns without the old answer's */
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
        row.body_hash = (svc_str){old.room + old.key.n, HASH_BYTES};
    }
    row.message = own->last_message;
    row.fresh = true;
    rc = store->api->answer_replace(store, &row, next_version(own->version));
    return rc == RC_OK ? encode_answer(wanted->out, &row) : rc;
}

static svc_rc
on_retry(writer_t *self, const void *arg, svc_buf_t *out)
{
    static const char what[HASH_BYTES] = "convo.retry"; /* no hash of any question */
    const retry_req_t *req = arg;
    wanted_t wanted = {.user = req->user,
                       .conversation = req->conversation,
                       .stream = req->stream,
                       .key = req->key,
                       .hash = {what, sizeof(what)},
                       .is_retry = true,
                       .stop_alone = req->stop_alone,
                       .out = out};
    owned_t own;
    svc_rc rc = get_owned(self, req->conversation, req->user, &own);

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

static svc_rc
on_stop(writer_t *self, const void *arg, svc_buf_t *out)
{
    const watch_req_t *req = arg;
    convo_store_t *store = self->store;
    owned_t own;
    char stream[PROTO_STREAM_BYTES];
    svc_rc rc = get_owned(self, req->conversation, req->user, &own);

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

static svc_rc
on_step(writer_t *self, const void *arg, svc_buf_t *out)
{
    (void)out;
    return self->store->api->answer_step(self->store, arg, next_version(0));
}

static svc_rc
on_restart(writer_t *self, const void *arg, svc_buf_t *out)
{
    const restart_job_t *job = arg;

    (void)out;
    return self->store->api->answer_restart(self->store, job->stream, job->term,
                                            job->fence, job->new_fence, job->attempt);
}

/* --- the batch -------------------------------------------------------------------------------- */

typedef struct {
    const proto_schema_t *schema; /* of the payload */
    svc_rc (*handle)(writer_t *self, const void *arg,
                     svc_buf_t *out); /* inside a savepoint */
} write_kind_t;

// clang-format off
static const write_kind_t kinds[] = {
    [WRITE_CREATE]  = {&create_req_schema,       on_create},
    [WRITE_DELETE]  = {&conversation_req_schema, on_delete},
    [WRITE_ASK]     = {&ask_req_schema,          on_ask},
    [WRITE_STOP]    = {&watch_req_schema,        on_stop},
    [WRITE_STEP]    = {&answer_step_schema,      on_step},
    [WRITE_RESTART] = {&restart_job_schema,      on_restart},
    [WRITE_RETRY]   = {&retry_req_schema,        on_retry},
};
// clang-format on

/* Does one job; *rc is its result. `careful`: inside a savepoint, so that what it did can be undone alone. Anything but RC_OK
 * returned: the transaction is lost; RC_LATER: since the job failed half-way, and there is no savepoint to go back to. */
static svc_rc
run_job(writer_t *self, const svc_job_t *job, bool careful, svc_rc *rc, svc_buf_t *out)
{
    union {
        create_req_t create;
        conversation_req_t conversation;
        watch_req_t stop;
        ask_req_t ask;
        answer_step_t step;
        restart_job_t restart;
        retry_req_t retry;
    } arg;
    convo_store_t *store = self->store;
    uint32_t kind = svc_job_kind(job);
    uint64_t before = store->api->changes(store);
    svc_rc saved;

    if (kind >= SVC_COUNT(kinds)) {
        *rc = RC_INVALID;
        return RC_OK;
    }
    *rc = proto_decode(kinds[kind].schema, svc_job_payload(job), self->arena, &arg);
    if (*rc != RC_OK)
        return RC_OK;
    saved = careful ? store->api->save(store) : RC_OK;
    if (saved != RC_OK)
        return saved;
    *rc = kinds[kind].handle(self, &arg, out);
    if (*rc == RC_UNAVAILABLE || *rc == RC_BUSY)
        return *rc;
    if (careful)
        return *rc == RC_OK ? store->api->keep(store) : store->api->undo(store);
    return *rc == RC_OK || store->api->changes(store) == before ? RC_OK : RC_LATER;
}

/* Tests only: where a process may die beside the commit of what a job has done. Each of these points stands before its other
 * half; 0 is none of them. */
static void
pass_faults(const writer_t *self, svc_job_t *const *jobs, size_t n, bool is_committed)
{
    for (size_t i = 0; i < n; i++) {
        svc_fault_point point = convo_fault_before(svc_job_kind(jobs[i]),
                                                   svc_job_payload(jobs[i]), self->arena);

        if (self->rc[i] == RC_OK && point != FAULT_POINTS)
            svc_fault_at(self->workers->fault,
                         (svc_fault_point)((int)point + is_committed));
    }
}

/* Takes all steps of the batch at once, before its other jobs: none of these can be about what a step has brought, which nobody
 * has heard of yet. */
static svc_rc
run_steps(writer_t *self, svc_job_t *const *jobs, size_t n)
{
    answer_step_t steps[CONVO_WRITER_BATCH];
    svc_rc rcs[CONVO_WRITER_BATCH];
    size_t job[CONVO_WRITER_BATCH], m = 0; /* of each step */
    svc_rc rc;

    for (size_t i = 0; i < n; i++) {
        if (svc_job_kind(jobs[i]) != WRITE_STEP)
            continue;
        svc_buf_clear(&self->result[i]);
        self->rc[i] = proto_decode(&answer_step_schema, svc_job_payload(jobs[i]),
                                   self->arena, &steps[m]);
        if (self->rc[i] == RC_OK)
            job[m++] = i;
    }
    if (m == 0)
        return RC_OK;
    rc = self->store->api->answer_steps(self->store, steps, m, next_version(0), rcs);
    for (size_t i = 0; rc == RC_OK && i < m; i++)
        self->rc[job[i]] = rcs[i];
    return rc;
}

/* Lets the store be hasty about the other jobs: questions that come again are few. */
static svc_rc
hasten(writer_t *self, svc_job_t *const *jobs, size_t n)
{
    uint64_t conversations[CONVO_WRITER_BATCH];
    size_t m = 0;
    ask_req_t ask;

    for (size_t i = 0; i < n; i++)
        if (svc_job_kind(jobs[i]) == WRITE_ASK &&
            proto_decode(&ask_req_schema, svc_job_payload(jobs[i]), self->arena, &ask) ==
                RC_OK)
            conversations[m++] = ask.conversation;
    return self->store->api->hasten(self->store, conversations, m);
}

/* One transaction of all jobs, up to its commit. RC_BUSY: others were in the way, it is to be run again. */
static svc_rc
run_batch(writer_t *self, svc_job_t *const *jobs, size_t n, bool careful)
{
    convo_store_t *store = self->store;
    svc_rc rc = store->api->begin(store, true);

    if (rc == RC_OK && !careful)
        rc = run_steps(self, jobs, n);
    if (rc == RC_OK && !careful)
        rc = hasten(self, jobs, n);
    for (size_t i = 0; i < n && rc == RC_OK; i++) {
        if (!careful && svc_job_kind(jobs[i]) == WRITE_STEP)
            continue;
        svc_buf_clear(&self->result[i]);
        rc = run_job(self, jobs[i], careful, &self->rc[i], &self->result[i]);
    }
    if (rc == RC_OK && !careful)
        rc = store->api->settle(store);
    if (rc == RC_OK && self->workers->fault != NULL)
        pass_faults(self, jobs, n, false);
    if (rc == RC_OK)
        rc = store->api->commit(store);
    else
        store->api->rollback(store);
    if (rc == RC_OK && self->workers->fault != NULL)
        pass_faults(self, jobs, n, true);
    return rc;
}

/* Runs the batch until it is committed, or cannot be. Nearly every job that is refused is refused before it has changed
 * anything: savepoints, for which SQLite copies each page once more, are only for a second try. */
static svc_rc
run_jobs(writer_t *self, svc_job_t *const *jobs, size_t n)
{
    bool careful = self->workers->plain_paths;
    svc_rc rc = RC_BUSY;

    for (int i = 0; i < BATCH_TRIES && (rc == RC_BUSY || rc == RC_LATER); i++) {
        rc = run_batch(self, jobs, n, careful);
        careful = careful || rc == RC_LATER;
    }
    return rc == RC_OK || rc == RC_BUSY ? rc : RC_UNAVAILABLE;
}

void
convo_writer_work(void *state, svc_job_t *const *jobs, size_t n)
{
    writer_t *self = state;
    svc_rc rc;

    SVC_ASSERT(n <= CONVO_WRITER_BATCH);
    rc = run_jobs(self, jobs, n);
    if (rc == RC_OK) {
        svc_metrics_add(self->workers->metrics, SVC_M_COMMITS, 1);
        svc_metrics_add(self->workers->metrics, SVC_M_COMMITTED_JOBS, n);
    }
    for (size_t i = 0; i < n; i++) {
        if (rc != RC_OK)
            svc_job_done(jobs[i], rc, (svc_str){NULL, 0});
        else if (self->rc[i] != RC_OK)
            svc_job_done(jobs[i], self->rc[i], (svc_str){NULL, 0});
        else
            svc_job_done(jobs[i], RC_OK, svc_buf_str(&self->result[i]));
        if (self->result[i].n > 0) /* a prompt has the api key in it */
            explicit_bzero(self->result[i].p, self->result[i].n);
    }
}

void
convo_writer_rest(void *state)
{
    const writer_t *self = state;

    self->store->api->tidy(self->store);
}

static svc_rc
count_row(void *arg, const answer_row_t *row)
{
    (void)row;
    ++*(size_t *)arg;
    return RC_OK;
}

/* Makes the answers that an earlier start left unfinished ours: SQLite serves one process, so whoever owned them is gone. */
static svc_rc
take_over_all(writer_t *self, size_t *taken)
{
    convo_store_t *store = self->store;
    size_t n = TAKE_MAX;
    svc_rc rc = RC_OK;

    while (rc == RC_OK && n == TAKE_MAX) {
        n = 0;
        rc = store->api->answer_take_over(store, self->workers->instance, TAKE_MAX,
                                          count_row, &n);
        svc_metrics_add(self->workers->metrics, SVC_M_TAKEOVERS, n);
        *taken += n;
    }
    if (*taken > 0)
        svc_fault_at(self->workers->fault, FAULT_TAKEOVER_BEFORE_COMMIT);
    return rc;
}

/* The first transaction: are we who the database knows? */
static svc_rc
check_in(writer_t *self)
{
    convo_store_t *store = self->store;
    svc_rc rc = RC_BUSY;

    for (int i = 0; i < BATCH_TRIES && rc == RC_BUSY; i++) {
        size_t taken = 0;

        rc = store->api->begin(store, true);
        if (rc == RC_OK)
            rc = seal_check(self->workers->seal, store);
        if (rc == RC_OK && self->workers->place.driver == SVC_STORAGE_SQLITE)
            rc = take_over_all(self, &taken);
        if (rc == RC_OK)
            rc = store->api->commit(store);
        else
            store->api->rollback(store);
        if (rc == RC_OK && taken > 0)
            svc_fault_at(self->workers->fault, FAULT_TAKEOVER_AFTER_COMMIT);
    }
    return rc;
}

void *
convo_writer_open(void *arg, char **error)
{
    writer_t *self = svc_alloc(sizeof(*self));
    svc_rc rc;

    self->workers = arg;
    self->arena = proto_arena_new();
    svc_buf_init(&self->prompt, CONVO_READY_PROMPT_MAX_BYTES);
    for (size_t i = 0; i < CONVO_WRITER_BATCH; i++)
        svc_buf_init(&self->result[i], RESULT_MAX_BYTES);
    self->store = convo_store_open(&self->workers->place,
                                   self->workers->plain_paths ? STORE_WRITE_PLAIN
                                                              : STORE_WRITE,
                                   self->workers->log, error);
    if (self->store == NULL) {
        convo_writer_close(self);
        return NULL;
    }
    rc = check_in(self);
    if (rc != RC_OK) {
        if (asprintf(error,
                     rc == RC_INVALID
                         ? "convo.seal_key is not the key that %s was sealed with"
                         : "cannot write to the database %s",
                     convo_place_name(&self->workers->place)) < 0)
            *error = NULL;
        convo_writer_close(self);
        return NULL;
    }
    return self;
}

void
convo_writer_close(void *state)
{
    writer_t *self = state;

    convo_store_destroy(&self->store);
    proto_arena_destroy(&self->arena);
    svc_buf_fini(&self->prompt);
    for (size_t i = 0; i < CONVO_WRITER_BATCH; i++)
        svc_buf_fini(&self->result[i]);
    free(self);
}
