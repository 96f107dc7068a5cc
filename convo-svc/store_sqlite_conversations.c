/* store_sqlite_conversations.c - conversations and their questions in SQLite.
 *
 * A conversation counts its messages and what a prompt of it would hold, so that a question that
 * would not fit is refused before anything is written. Question and waiting answer are added
 * together, in the writer's transaction: message_ids have no gaps and no doubles. */
#include "store_sqlite.h"

#include "svc/svc_secret.h"

/* Columns of a conversation, in the order of fill_conversation. */
#define CONVERSATION_COLUMNS                                                              \
    "c.id, c.seq, c.user, c.created_s, c.version, c.last_message, c.turns, c.turn_bytes," \
    " EXISTS (SELECT 1 FROM answer a WHERE a.conversation = c.id AND a.state < 2),"       \
    " c.title, c.model, c.sealed_key, c.key, c.body_hash"

static conversation_row_t
fill_conversation(sqlite3_stmt *q)
{
    return (conversation_row_t){
        .id = store_u64(q, 0),
        .seq = store_u64(q, 1),
        .user = store_u64(q, 2),
        .created_s = store_u64(q, 3),
        .version = store_u64(q, 4),
        .last_message = store_u64(q, 5),
        .turns = store_u64(q, 6),
        .turn_bytes = store_u64(q, 7),
        .answering = store_u64(q, 8) != 0,
        .title = store_str(q, 9),
        .model = store_str(q, 10),
        .sealed_key = store_str(q, 11),
        .key = store_str(q, 12),
        .body_hash = store_str(q, 13),
    };
}

/* Gives a user's list a version that it never had, not even in a database that was restored from a backup meanwhile. Once in a
 * transaction is enough: nobody sees what lies between, and what a batch makes for one user comes in a row. */
static svc_rc
raise_list(store_sqlite_t *self, uint64_t user)
{
    if (self->raised == user && !sqlite3_get_autocommit(self->db))
        return RC_OK;
    sqlite3_stmt *q = store_stmt(
        self, ST_LIST_RAISE,
        "INSERT INTO list (user, version) VALUES (?1, ?2)"
        " ON CONFLICT (user) DO UPDATE SET version = version + excluded.version");

    store_bind_u64(q, 1, user);
    store_bind_u64(q, 2, 1 + (svc_random_u64() & 0xfffff));
    svc_rc rc = store_run(self, q);
    self->raised = rc == RC_OK ? user : 0;
    return rc;
}

svc_rc
store_list_version(convo_store_t *base, uint64_t user, uint64_t *out)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_LIST_VERSION,
                                 "SELECT version FROM list WHERE user = ?");
    svc_rc rc;

    store_bind_u64(q, 1, user);
    rc = store_step(self, q);
    *out = rc == RC_OK ? store_u64(q, 0) : 0;
    store_done(q);
    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

svc_rc
store_conversation_add(convo_store_t *base, const conversation_row_t *row)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(
        self, ST_CONVERSATION_ADD,
        "INSERT INTO conversation"
        " (id, user, title, model, sealed_key, created_s, version, key, body_hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    svc_rc rc;

    store_bind_u64(q, 1, row->id);
    store_bind_u64(q, 2, row->user);
    store_bind_text(q, 3, row->title);
    store_bind_text(q, 4, row->model);
    store_bind_bytes(q, 5, row->sealed_key);
    store_bind_u64(q, 6, row->created_s);
    store_bind_u64(q, 7, row->version);
    store_bind_key(q, 8, row->key);
    store_bind_bytes(q, 9, row->body_hash);
    rc = store_run(self, q);
    return rc == RC_OK ? raise_list(self, row->user) : rc;
}

/* Hands out the one row of a bound statement and ends it. */
static svc_rc
hand_out_one(store_sqlite_t *self, sqlite3_stmt *q, convo_conversation_fn *fn, void *arg)
{
    svc_rc rc = store_step(self, q);

    if (rc == RC_OK) {
        conversation_row_t row = fill_conversation(q);

        rc = fn(arg, &row);
    }
    store_done(q);
    return rc;
}

svc_rc
store_conversation_get(convo_store_t *base, uint64_t id, convo_conversation_fn *fn,
                       void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_CONVERSATION_GET,
                                 "SELECT " CONVERSATION_COLUMNS
                                 " FROM conversation c WHERE c.id = ?");

    store_bind_u64(q, 1, id);
    return hand_out_one(self, q, fn, arg);
}

svc_rc
store_conversation_of_key(convo_store_t *base, uint64_t user, svc_str key,
                          convo_conversation_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_CONVERSATION_OF_KEY,
                                 "SELECT " CONVERSATION_COLUMNS
                                 " FROM conversation c WHERE c.user = ? AND c.key = ?");

    store_bind_u64(q, 1, user);
    store_bind_bytes(q, 2, key);
    return hand_out_one(self, q, fn, arg);
}

svc_rc
store_conversation_remove(convo_store_t *base, uint64_t id)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_CONVERSATION_REMOVE,
                                 "DELETE FROM conversation WHERE id = ? RETURNING user");
    uint64_t user = 0;
    svc_rc rc;

    store_bind_u64(q, 1, id);
    rc = store_step(self, q);
    if (rc == RC_OK)
        user = store_u64(q, 0);
    store_done(q);
    return rc == RC_OK ? raise_list(self, user) : rc;
}

/* Where a page begins: behind the conversation with seq `after`, or, when it was deleted meanwhile, behind the place where
 * it stood, which the next older row of the user tells as long as the clock never went backwards. */
static sqlite3_stmt *
list_after(store_sqlite_t *self, uint64_t user, uint64_t after)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_CONVERSATION_LIST_AFTER,
        "SELECT " CONVERSATION_COLUMNS " FROM conversation c WHERE c.user = ?1"
        " AND (c.created_s, c.seq) < ((SELECT p.created_s FROM conversation p"
        "  WHERE +p.user = ?1 AND p.seq <= ?2 ORDER BY p.seq DESC LIMIT 1), ?2)"
        " ORDER BY c.created_s DESC, c.seq DESC");

    store_bind_u64(q, 1, user);
    store_bind_u64(q, 2, after);
    return q;
}

static sqlite3_stmt *
list_all(store_sqlite_t *self, uint64_t user)
{
    sqlite3_stmt *q = store_stmt(self, ST_CONVERSATION_LIST,
                                 "SELECT " CONVERSATION_COLUMNS
                                 " FROM conversation c WHERE c.user = ?"
                                 " ORDER BY c.created_s DESC, c.seq DESC");

    store_bind_u64(q, 1, user);
    return q;
}

svc_rc
store_conversation_list(convo_store_t *base, uint64_t user, uint64_t after,
                        convo_conversation_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = after == 0 ? list_all(self, user) : list_after(self, user, after);
    svc_rc rc;

    while ((rc = store_step(self, q)) == RC_OK) {
        conversation_row_t row = fill_conversation(q);

        rc = fn(arg, &row);
        if (rc != RC_OK)
            break;
    }
    store_done(q);
    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

/* --- questions -------------------------------------------------------------------------------- */

static svc_rc
add_answer(store_sqlite_t *self, const answer_row_t *row, uint64_t message)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_ADD,
        "INSERT INTO answer (stream, conversation, message_id, state, term, fence, attempt, owner,"
        " asked_ms, question_bytes, body_hash, key, stop_alone)"
        " VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)");

    store_bind_bytes(q, 1, row->stream);
    store_bind_u64(q, 2, row->conversation);
    store_bind_u64(q, 3, message);
    store_bind_u64(q, 4, row->term);
    store_bind_u64(q, 5, row->fence);
    store_bind_u64(q, 6, row->attempt);
    store_bind_u64(q, 7, row->owner);
    store_bind_u64(q, 8, row->asked_ms);
    store_bind_u64(q, 9, row->question_bytes);
    store_bind_bytes(q, 10, row->body_hash);
    store_bind_key(q, 11, row->key);
    store_bind_u64(q, 12, row->stop_alone);
    return store_run(self, q);
}

static svc_rc
add_question(store_sqlite_t *self, uint64_t conversation, uint64_t message, svc_str text)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_QUESTION_ADD,
        "INSERT INTO message (conversation, message_id, role, text)"
        " VALUES (?, ?, ?, ?)");

    store_bind_u64(q, 1, conversation);
    store_bind_u64(q, 2, message);
    store_bind_u64(q, 3, ROLE_USER);
    store_bind_text(q, 4, text);
    return store_run(self, q);
}

static svc_rc
last_message(store_sqlite_t *self, uint64_t conversation, uint64_t *out)
{
    sqlite3_stmt *q = store_stmt(self, ST_CONVERSATION_LAST,
                                 "SELECT last_message FROM conversation WHERE id = ?");
    svc_rc rc;

    store_bind_u64(q, 1, conversation);
    rc = store_step(self, q);
    if (rc == RC_OK)
        *out = store_u64(q, 0);
    store_done(q);
    return rc;
}

svc_rc
store_question_add(convo_store_t *base, const answer_row_t *row, svc_str question,
                   uint64_t version, uint64_t *message_out)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    uint64_t last = 0;
    sqlite3_stmt *q;
    svc_rc rc = last_message(self, row->conversation, &last);

    /* The answer comes first: it is the one that may be refused, and then nothing has changed. */
    last += 2;
    if (rc == RC_OK)
        rc = add_answer(self, row, last);
    if (rc == RC_OK)
        rc = add_question(self, row->conversation, last - 1, question);
    if (rc != RC_OK)
        return rc;
    q = store_stmt(self, ST_CONVERSATION_ASKED,
                   "UPDATE conversation SET last_message = ?2, version = ?3"
                   " WHERE id = ?1");
    store_bind_u64(q, 1, row->conversation);
    store_bind_u64(q, 2, last);
    store_bind_u64(q, 3, version);
    rc = store_run(self, q);
    if (rc == RC_OK)
        *message_out = last;
    return rc;
}

svc_rc
store_question_text(convo_store_t *base, uint64_t conversation, uint64_t message,
                    uint64_t from, convo_text_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(
        self, ST_QUESTION_TEXT,
        "SELECT text FROM message WHERE conversation = ? AND message_id = ?");
    svc_rc rc;

    store_bind_u64(q, 1, conversation);
    store_bind_u64(q, 2, message);
    rc = store_step(self, q);
    if (rc == RC_OK) {
        svc_str text = store_str(q, 0);

        if (from < text.n)
            (void)fn(arg, (svc_str){text.p + from, text.n - (size_t)from});
    }
    store_done(q);
    return rc;
}

/* --- retry ------------------------------------------------------------------------------------ */

/* What of an answer goes with it. */
typedef struct {
    uint64_t id, length, question_bytes;
} replaced_t;

/* Finds the latest answer of a conversation, when it is the one that is meant and at its end. RC_STALE. */
static svc_rc
find_last(store_sqlite_t *self, const answer_row_t *row, replaced_t *out)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_LAST,
        "SELECT a.id, a.length, a.question_bytes FROM answer a"
        " JOIN conversation c ON c.id = a.conversation AND c.last_message = a.message_id"
        " WHERE a.conversation = ? AND a.message_id = ? AND a.state >= 2");
    svc_rc rc;

    store_bind_u64(q, 1, row->conversation);
    store_bind_u64(q, 2, row->message);
    rc = store_step(self, q);
    if (rc == RC_OK)
        *out = (replaced_t){store_u64(q, 0), store_u64(q, 1), store_u64(q, 2)};
    store_done(q);
    return rc == RC_NOT_FOUND ? RC_STALE : rc;
}

/* Makes the row a waiting answer. A stream or a key that is taken changes nothing. */
static svc_rc
begin_anew(store_sqlite_t *self, const answer_row_t *row, uint64_t id)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_REPLACE,
        "UPDATE answer SET stream = ?2, state = 0, term = ?3, fence = ?4, attempt = ?5,"
        " owner = ?6, llm = 0, length = 0, asked_ms = ?7, question_bytes = ?8,"
        " stop_wanted = 0, finish = '', prompt_tokens = 0, completion_tokens = 0,"
        " total_tokens = 0, reason = '', text = '', retry_after_s = 0, body_hash = ?9,"
        " key = ?10, stop_alone = ?11 WHERE id = ?1");

    store_bind_u64(q, 1, id);
    store_bind_bytes(q, 2, row->stream);
    store_bind_u64(q, 3, row->term);
    store_bind_u64(q, 4, row->fence);
    store_bind_u64(q, 5, row->attempt);
    store_bind_u64(q, 6, row->owner);
    store_bind_u64(q, 7, row->asked_ms);
    store_bind_u64(q, 8, row->question_bytes);
    store_bind_bytes(q, 9, row->body_hash);
    store_bind_key(q, 10, row->key);
    store_bind_u64(q, 11, row->stop_alone);
    return store_run(self, q);
}

static svc_rc
forget_text(store_sqlite_t *self, uint64_t id)
{
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_FORGET_TEXT,
                                 "DELETE FROM chunk WHERE place BETWEEN ? AND ?");

    store_bind_u64(q, 1, id << STORE_PLACE_SHIFT);
    store_bind_u64(q, 2, (id << STORE_PLACE_SHIFT) + STORE_PLACE_OFFSET);
    return store_run(self, q);
}

svc_rc
store_answer_replace(convo_store_t *base, const answer_row_t *row, uint64_t version)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    replaced_t old;
    sqlite3_stmt *q;
    svc_rc rc = find_last(self, row, &old);

    if (rc == RC_OK)
        rc = begin_anew(self, row, old.id);
    if (rc == RC_OK)
        rc = forget_text(self, old.id);
    if (rc != RC_OK)
        return rc;
    q = store_stmt(self, ST_CONVERSATION_RETRIED,
                   "UPDATE conversation SET version = ?2, turns = turns - ?3,"
                   " turn_bytes = turn_bytes - ?4 WHERE id = ?1");
    store_bind_u64(q, 1, row->conversation);
    store_bind_u64(q, 2, version);
    store_bind_u64(q, 3, old.length > 0 ? 1 : 0);
    store_bind_u64(q, 4, old.length > 0 ? old.length + old.question_bytes : 0);
    return store_run(self, q);
}
