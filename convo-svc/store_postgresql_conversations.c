/* store_postgresql_conversations.c - conversations and their questions in PostgreSQL.
 *
 * A writer's look at a conversation locks its row until the end of the transaction: two questions to one conversation through
 * two processes come one after the other, and the second one finds the first. What is looked at later in the transaction
 * is what was committed until then. */
#include "store_postgresql.h"

#include "svc/svc_secret.h"

#define LIST_PAGE       128       /* rows fetched at once */
#define ASKED_MAX_BYTES (1 << 20) /* texts of questions that wait for company */

/* Places of the columns that are bytes in the array of questions. */
enum { ASKED_STREAM = 2, ASKED_HASH = 9, ASKED_KEY = 10, ASKED_TEXT = 12 };

#define CLOCK_COLUMN 14 /* behind those of a conversation */

/* Columns of a conversation, in the order of fill_conversation. */
#define CONVERSATION                                                                  \
    "SELECT c.id, c.seq, c.user_id, c.created_s, c.version, c.last_message, c.turns," \
    " c.turn_bytes, c.answering, c.title, c.model, c.sealed_key, c.key, c.body_hash"  \
    " FROM conversation c"

static conversation_row_t
fill_conversation(const svc_pg_rows_t *rows, int i)
{
    return (conversation_row_t){
        .id = svc_pg_u64(rows, i, 0),
        .seq = svc_pg_u64(rows, i, 1),
        .user = svc_pg_u64(rows, i, 2),
        .created_s = svc_pg_u64(rows, i, 3),
        .version = svc_pg_u64(rows, i, 4),
        .last_message = svc_pg_u64(rows, i, 5),
        .turns = svc_pg_u64(rows, i, 6),
        .turn_bytes = svc_pg_u64(rows, i, 7),
        .answering = svc_pg_u64(rows, i, 8) != 0,
        .title = svc_pg_str(rows, i, 9),
        .model = svc_pg_str(rows, i, 10),
        .sealed_key = svc_pg_str(rows, i, 11),
        .key = svc_pg_str(rows, i, 12),
        .body_hash = svc_pg_str(rows, i, 13),
    };
}

/* Runs a statement that finds at most one conversation and hands it out. */
static svc_rc
find_one(store_pg_t *self, pg_slot slot, const char *sql, const svc_pg_arg_t *args,
         size_t n, convo_conversation_fn *fn, void *arg)
{
    svc_pg_rows_t rows;
    svc_rc rc = store_pg_query(self, slot, sql, args, n, &rows);

    if (rc == RC_OK && rows.n == 0)
        rc = RC_NOT_FOUND;
    if (rc == RC_OK) {
        conversation_row_t row = fill_conversation(&rows, 0);

        rc = fn(arg, &row);
    }
    svc_pg_free(&rows);
    return rc;
}

svc_rc
pg_conversation_add(convo_store_t *base, const conversation_row_t *row)
{
    const svc_pg_arg_t args[] = {
        PG_U64(row->id),           PG_U64(row->user),
        PG_BYTES(row->title),      PG_BYTES(row->model),
        PG_BYTES(row->sealed_key), PG_U64(row->created_s),
        PG_U64(row->version),      PG_BYTES_OR_NULL(row->key),
        PG_BYTES(row->body_hash),  PG_U64(1 + (svc_random_u64() & 0xfffff)),
    };
    static const char sql[] =
        "WITH added AS (INSERT INTO conversation"
        "  (id, user_id, title, model, sealed_key, created_s, version, key, body_hash)"
        "  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        "  ON CONFLICT DO NOTHING RETURNING user_id)"
        " INSERT INTO convo_list AS l SELECT user_id, $10 FROM added"
        " ON CONFLICT (user_id) DO UPDATE SET version = l.version + excluded.version";
    store_pg_t *self = (store_pg_t *)base;
    uint64_t changed;
    svc_rc rc;

    if (self->hasty)
        return store_pg_take_for_granted(self, PG_CONVERSATION_ADD, sql, args,
                                         SVC_COUNT(args));
    rc = store_pg_run(self, PG_CONVERSATION_ADD, sql, args, SVC_COUNT(args), &changed);
    return rc == RC_OK && changed == 0 ? RC_CONFLICT : rc;
}

/* Numbers, one after the other. */
static svc_rc
add_all(svc_buf_t *array, const uint64_t *values, size_t n)
{
    svc_rc rc = RC_OK;

    for (size_t i = 0; i < n && rc == RC_OK; i++)
        rc = svc_pg_array_u64(array, values[i]);
    return rc;
}

svc_rc
store_pg_look_ahead(store_pg_t *self, const uint64_t *asked, size_t n_asked,
                    const uint64_t *ended, size_t n_ended)
{
    svc_buf_t *ids = &self->array[0];
    svc_pg_arg_t arg;
    svc_rc rc;

    SVC_ASSERT(n_asked + n_ended <= CONVO_STEPS_MAX);
    if (n_ended > 0)
        memcpy(self->ended, ended, n_ended * sizeof(*ended));
    self->n_ended = n_ended;
    svc_buf_clear(ids);
    rc = svc_pg_array(ids, SVC_PG_INT8, n_asked + n_ended);
    if (rc == RC_OK)
        rc = add_all(ids, asked, n_asked);
    if (rc == RC_OK)
        rc = add_all(ids, ended, n_ended);
    if (rc != RC_OK)
        return rc;
    arg = PG_ARRAY(SVC_PG_INT8_ARRAY, ids);
    /* The time of a row is read when it is locked, and so are those before it. */
    rc = svc_pg_send(self->pg, PG_CONVERSATION_GET_AHEAD,
                     "SELECT c.*, clock_timestamp() FROM (" CONVERSATION
                     " WHERE c.id = ANY ($1) ORDER BY c.id FOR UPDATE) c",
                     &arg, 1);
    self->is_ahead_due = rc == RC_OK;
    return rc;
}

svc_rc
store_pg_fetch_ahead(store_pg_t *self)
{
    svc_pg_rows_t *ahead = &self->ahead;
    svc_rc rc;

    if (!self->is_ahead_due)
        return RC_OK;
    self->is_ahead_due = false;
    rc = svc_pg_receive(self->pg, ahead);
    SVC_ASSERT(ahead->n <= CONVO_STEPS_MAX);
    for (int i = 0; i < ahead->n; i++) {
        self->used[i] = false;
        for (size_t k = 0; k < self->n_ended && !self->used[i]; k++)
            self->used[i] = svc_pg_u64(ahead, i, 0) == self->ended[k];
    }
    if (ahead->n > 0)
        self->ahead_ms = store_pg_unix_ms(ahead, ahead->n - 1, CLOCK_COLUMN);
    return rc;
}

/* A row that was looked at beforehand: once, for then it may be changed. */
static bool
find_ahead(store_pg_t *self, uint64_t id, conversation_row_t *out)
{
    for (int i = 0; i < self->ahead.n; i++) {
        if (self->used[i] || svc_pg_u64(&self->ahead, i, 0) != id)
            continue;
        self->used[i] = true;
        *out = fill_conversation(&self->ahead, i);
        return true;
    }
    return false;
}

/* Notes which message a question to it will have. */
typedef struct {
    store_pg_t *store;
    convo_conversation_fn *fn; /* who gets the row, with arg */
    void *arg;
} noting_t;

static svc_rc
note_last(void *arg, const conversation_row_t *row)
{
    const noting_t *noting = arg;

    noting->store->seen = row->id;
    noting->store->seen_last = row->last_message;
    return noting->fn(noting->arg, row);
}

svc_rc
pg_conversation_get(convo_store_t *base, uint64_t id, convo_conversation_fn *fn,
                    void *arg)
{
    store_pg_t *self = (store_pg_t *)base;
    const svc_pg_arg_t args[] = {PG_U64(id)};
    noting_t noting = {self, fn, arg};
    conversation_row_t row;
    svc_rc rc = store_pg_fetch_ahead(self);

    if (rc != RC_OK)
        return rc;
    if (!self->writes)
        return find_one(self, PG_CONVERSATION_GET, CONVERSATION " WHERE c.id = $1", args,
                        SVC_COUNT(args), fn, arg);
    if (find_ahead(self, id, &row))
        return note_last(&noting, &row);
    /* Who has waited for the lock gets the row as it is then, but for nothing else: so whether it is being answered is a column. */
    return find_one(self, PG_CONVERSATION_GET_LOCKED,
                    CONVERSATION " WHERE c.id = $1 FOR UPDATE", args, SVC_COUNT(args),
                    note_last, &noting);
}

svc_rc
pg_conversation_of_key(convo_store_t *base, uint64_t user, svc_str key,
                       convo_conversation_fn *fn, void *arg)
{
    const svc_pg_arg_t args[] = {PG_U64(user), PG_BYTES(key)};

    return find_one((store_pg_t *)base, PG_CONVERSATION_OF_KEY,
                    CONVERSATION " WHERE c.user_id = $1 AND c.key = $2", args,
                    SVC_COUNT(args), fn, arg);
}

svc_rc
pg_conversation_remove(convo_store_t *base, uint64_t id)
{
    store_pg_t *self = (store_pg_t *)base;
    const svc_pg_arg_t args[] = {PG_U64(id), PG_U64(1 + (svc_random_u64() & 0xfffff))};
    uint64_t changed = 0;
    svc_rc rc;

    /* First the locks, by statements of their own: what a step has added that was waited for is then seen and removed, too. */
    rc = svc_pg_post(self->pg, PG_CONVERSATION_LOCK,
                     "SELECT 1 FROM conversation WHERE id = $1 FOR UPDATE", args, 1);
    if (rc == RC_OK)
        rc = svc_pg_post(self->pg, PG_CONVERSATION_LOCK_ANSWERS,
                         "SELECT 1 FROM answer WHERE conversation = $1 FOR UPDATE", args,
                         1);
    if (rc == RC_OK)
        rc = store_pg_run(
            self, PG_CONVERSATION_REMOVE,
            "WITH gone AS (DELETE FROM conversation WHERE id = $1 RETURNING user_id),"
            " questions AS (DELETE FROM convo_question WHERE conversation = $1),"
            " answers AS (DELETE FROM answer WHERE conversation = $1),"
            " chunks AS (DELETE FROM answer_chunk WHERE conversation = $1)"
            " INSERT INTO convo_list AS l SELECT user_id, $2 FROM gone"
            " ON CONFLICT (user_id) DO UPDATE SET version = l.version + excluded.version",
            args, SVC_COUNT(args), &changed);
    return rc == RC_OK && changed == 0 ? RC_NOT_FOUND : rc;
}

/* --- lists ------------------------------------------------------------------------------------ */

svc_rc
pg_list_version(convo_store_t *base, uint64_t user, uint64_t *out)
{
    const svc_pg_arg_t arg = PG_U64(user);
    svc_pg_rows_t rows;
    svc_rc rc = store_pg_query((store_pg_t *)base, PG_LIST_VERSION,
                               "SELECT version FROM convo_list WHERE user_id = $1", &arg,
                               1, &rows);

    *out = rc == RC_OK && rows.n > 0 ? svc_pg_u64(&rows, 0, 0) : 0;
    svc_pg_free(&rows);
    return rc;
}

/* Fetches a page: from the newest, or behind the conversation with seq `after`, or, when it was deleted meanwhile, behind the
 * place where it stood, which the next older row of the user tells as long as the clock never went backwards. */
static svc_rc
fetch_page(store_pg_t *self, uint64_t user, uint64_t after, svc_pg_rows_t *rows)
{
    const svc_pg_arg_t args[] = {PG_U64(user), PG_U64(LIST_PAGE), PG_U64(after)};

    if (after == 0)
        return store_pg_query(self, PG_CONVERSATION_LIST,
                              CONVERSATION
                              " WHERE c.user_id = $1"
                              " ORDER BY c.created_s DESC, c.seq DESC LIMIT $2",
                              args, 2, rows);
    return store_pg_query(
        self, PG_CONVERSATION_LIST_AFTER,
        CONVERSATION
        " WHERE c.user_id = $1 AND (c.created_s, c.seq) < (coalesce("
        "(SELECT p.created_s FROM conversation p"
        "  WHERE p.user_id = $1 AND p.seq = $3),"
        "(SELECT p.created_s FROM conversation p"
        "  WHERE p.user_id = $1 AND p.seq < $3 ORDER BY p.seq DESC LIMIT 1)),"
        " $3) ORDER BY c.created_s DESC, c.seq DESC LIMIT $2",
        args, 3, rows);
}

svc_rc
pg_conversation_list(convo_store_t *base, uint64_t user, uint64_t after,
                     convo_conversation_fn *fn, void *arg)
{
    store_pg_t *self = (store_pg_t *)base;
    svc_pg_rows_t rows;
    svc_rc rc;
    int n;

    if (after > INT64_MAX)
        after = INT64_MAX;
    do {
        rc = fetch_page(self, user, after, &rows);
        n = rows.n;
        for (int i = 0; rc == RC_OK && i < n; i++) {
            conversation_row_t row = fill_conversation(&rows, i);

            after = row.seq;
            rc = fn(arg, &row);
        }
        svc_pg_free(&rows);
    } while (rc == RC_OK && n == LIST_PAGE);
    return rc;
}

/* --- questions -------------------------------------------------------------------------------- */

/* A value of a question: a number, or bytes. */
typedef struct {
    bool is_number;
    uint64_t number;
    svc_str bytes;
} value_t;

/* Puts a question into the arrays, behind those that stand there. */
static svc_rc
add_to_asked(store_pg_t *self, const answer_row_t *row, svc_str question,
             uint64_t version, uint64_t message)
{
    const value_t values[STORE_PG_ASKED] = {
        {true, .number = row->conversation},
        {true, .number = message},
        {.bytes = row->stream},
        {true, .number = row->term},
        {true, .number = row->fence},
        {true, .number = row->attempt},
        {true, .number = row->owner},
        {true, .number = row->asked_ms},
        {true, .number = row->question_bytes},
        {.bytes = row->body_hash},
        {.bytes = row->key},
        {true, .number = row->stop_alone ? 1 : 0},
        {.bytes = question},
        {true, .number = version},
    };
    svc_rc rc = RC_OK;

    for (size_t i = 0; i < STORE_PG_ASKED && rc == RC_OK; i++) {
        svc_buf_t *array = &self->asked[i];
        const bool is_number = values[i].is_number;

        if (self->n_asked == 0) {
            svc_buf_clear(array);
            rc = svc_pg_array(array, is_number ? SVC_PG_INT8 : SVC_PG_BYTES, 1);
        }
        if (rc == RC_OK)
            rc = is_number ? svc_pg_array_u64(array, values[i].number)
                           : svc_pg_array_bytes(array, values[i].bytes);
    }
    return rc;
}

/* Takes a question for granted whose conversation's row was looked at, and is locked since. */
static svc_rc
ask_hastily(store_pg_t *self, const answer_row_t *row, svc_str question, uint64_t version,
            uint64_t *message_out)
{
    const uint64_t message = self->seen_last + 2;
    svc_rc rc = RC_OK;

    self->seen = 0; /* the next one must look again */
    if (self->n_asked > 0 && self->asked[ASKED_TEXT].n + question.n > ASKED_MAX_BYTES)
        rc = store_pg_send_asked(self);
    if (rc == RC_OK)
        rc = add_to_asked(self, row, question, version, message);
    if (rc != RC_OK) {
        self->denied = RC_LATER; /* columns may differ in length */
        return rc;
    }
    self->n_asked++;
    self->changes++;
    *message_out = message;
    return RC_OK;
}

svc_rc
store_pg_send_asked(store_pg_t *self)
{
    const size_t n = self->n_asked;
    svc_pg_arg_t args[STORE_PG_ASKED + 1];

    if (n == 0)
        return RC_OK;
    self->n_asked = 0;
    self->has_asked = true;
    if (self->denied != RC_OK)
        return self->denied;
    for (size_t i = 0; i < STORE_PG_ASKED; i++) {
        const bool is_bytes = i == ASKED_STREAM || i == ASKED_HASH || i == ASKED_KEY ||
                              i == ASKED_TEXT;

        svc_pg_array_count(&self->asked[i], n);
        args[i] = PG_ARRAY(is_bytes ? SVC_PG_BYTES_ARRAY : SVC_PG_INT8_ARRAY,
                           &self->asked[i]);
    }
    args[STORE_PG_ASKED] = PG_U64(n);
    return svc_pg_post(
        self->pg, PG_QUESTION_ADD_ALL,
        "WITH s AS (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
        "   $13, $14) AS s (conversation, message_id, stream, term, fence, attempt, owner,"
        "   asked_ms, question_bytes, body_hash, key, stop_alone, text, version)),"
        " a AS (INSERT INTO answer (conversation, message_id, stream, state, term, fence,"
        "   attempt, owner, asked_ms, question_bytes, body_hash, key, stop_alone)"
        "  SELECT conversation, message_id, stream, 0, term, fence, attempt, owner, asked_ms,"
        "   question_bytes, body_hash, nullif(key, ''), stop_alone > 0 FROM s),"
        " q AS (INSERT INTO convo_question SELECT conversation, message_id - 1, text FROM s),"
        " c AS (UPDATE conversation c SET last_message = s.message_id, version = s.version,"
        "   answering = true FROM s"
        "  WHERE c.id = s.conversation AND c.last_message = s.message_id - 2 RETURNING 1)"
        " SELECT 1 / (count(*) = $15)::int FROM c",
        args, SVC_COUNT(args));
}

svc_rc
pg_question_add(convo_store_t *base, const answer_row_t *row, svc_str question,
                uint64_t version, uint64_t *message_out)
{
    store_pg_t *self = (store_pg_t *)base;
    const svc_pg_arg_t args[] = {
        PG_U64(row->conversation), PG_BYTES(row->stream),
        PG_U64(row->term),         PG_U64(row->fence),
        PG_U64(row->attempt),      PG_U64(row->owner),
        PG_U64(row->asked_ms),     PG_U64(row->question_bytes),
        PG_BYTES(row->body_hash),  PG_BYTES_OR_NULL(row->key),
        PG_BOOL(row->stop_alone),  PG_BYTES(question),
        PG_U64(version),
    };
    static const char sql[] =
        "WITH c AS (SELECT id, last_message FROM conversation WHERE id = $1 FOR UPDATE),"
        " a AS (INSERT INTO answer (conversation, message_id, stream, state, term, fence,"
        "   attempt, owner, asked_ms, question_bytes, body_hash, key, stop_alone)"
        "  SELECT id, last_message + 2, $2, 0, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM c"
        "  ON CONFLICT DO NOTHING RETURNING message_id),"
        " q AS (INSERT INTO convo_question SELECT $1, message_id - 1, $12 FROM a),"
        " u AS (UPDATE conversation SET last_message = a.message_id, version = $13,"
        "   answering = true FROM a"
        "  WHERE id = $1)"
        " SELECT (SELECT count(*) FROM c), (SELECT message_id FROM a)";
    svc_pg_rows_t rows;
    svc_rc rc;

    if (self->hasty && self->seen == row->conversation)
        return ask_hastily(self, row, question, version, message_out);
    rc = store_pg_query(self, PG_QUESTION_ADD, sql, args, SVC_COUNT(args), &rows);
    if (rc == RC_OK && svc_pg_u64(&rows, 0, 0) == 0)
        rc = RC_NOT_FOUND;
    if (rc == RC_OK && svc_pg_u64(&rows, 0, 1) == 0)
        rc = RC_CONFLICT;
    if (rc == RC_OK) {
        *message_out = svc_pg_u64(&rows, 0, 1);
        self->changes++;
    }
    svc_pg_free(&rows);
    return rc;
}

svc_rc
pg_question_text(convo_store_t *base, uint64_t conversation, uint64_t message,
                 uint64_t from, convo_text_fn *fn, void *arg)
{
    const svc_pg_arg_t args[] = {PG_U64(conversation), PG_U64(message)};
    svc_pg_rows_t rows;
    svc_rc rc = store_pg_query((store_pg_t *)base, PG_QUESTION_TEXT,
                               "SELECT text FROM convo_question"
                               " WHERE conversation = $1 AND message_id = $2",
                               args, SVC_COUNT(args), &rows);

    if (rc == RC_OK && rows.n == 0)
        rc = RC_NOT_FOUND;
    if (rc == RC_OK) {
        svc_str text = svc_pg_str(&rows, 0, 0);

        if (from < text.n)
            (void)fn(arg, (svc_str){text.p + from, text.n - (size_t)from});
    }
    svc_pg_free(&rows);
    return rc;
}
