/* store_sqlite_answers.c - answers and their text in SQLite.
 *
 * Every arrow of an answer's life is one UPDATE that names stream, term, fence and state (and, for
 * text, the length it goes behind). No row changed means that somebody else has moved on: RC_STALE.
 * The end of an answer counts its turn into the conversation, so that the next prompt's size is known. */
#include "store_sqlite.h"

/* Columns of an answer, in the order of fill_answer. */
#define ANSWER_COLUMNS                                                                              \
    "a.stream, c.user, a.conversation, a.message_id, a.state, a.term, a.fence, a.attempt, a.owner," \
    " a.llm, a.length, a.asked_ms, a.question_bytes, a.stop_wanted, a.finish, a.prompt_tokens,"     \
    " a.completion_tokens, a.total_tokens, a.reason, a.text, a.retry_after_s, a.body_hash"          \
    " FROM answer a JOIN conversation c ON c.id = a.conversation"

static answer_row_t
fill_answer(sqlite3_stmt *q)
{
    return (answer_row_t){
        .stream = store_str(q, 0),
        .user = store_u64(q, 1),
        .conversation = store_u64(q, 2),
        .message = store_u64(q, 3),
        .state = sqlite3_column_int(q, 4),
        .term = store_u64(q, 5),
        .fence = store_u64(q, 6),
        .attempt = store_u64(q, 7),
        .owner = store_u64(q, 8),
        .llm = store_u64(q, 9),
        .length = store_u64(q, 10),
        .asked_ms = store_u64(q, 11),
        .question_bytes = store_u64(q, 12),
        .stop_wanted = store_u64(q, 13) != 0,
        .finish = store_str(q, 14),
        .usage = {store_u64(q, 15), store_u64(q, 16), store_u64(q, 17)},
        .reason = store_str(q, 18),
        .text = store_str(q, 19),
        .retry_after_s = store_u64(q, 20),
        .body_hash = store_str(q, 21),
    };
}

/* Hands out the next row of a bound statement and ends it. */
static svc_rc
hand_out_one(store_sqlite_t *self, sqlite3_stmt *q, convo_answer_fn *fn, void *arg)
{
    svc_rc rc = store_step(self, q);

    if (rc == RC_OK) {
        answer_row_t row = fill_answer(q);

        rc = fn(arg, &row);
    }
    store_done(q);
    return rc;
}

svc_rc
store_answer_get(convo_store_t *base, svc_str stream, convo_answer_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_GET,
                                 "SELECT " ANSWER_COLUMNS " WHERE a.stream = ?");

    store_bind_bytes(q, 1, stream);
    return hand_out_one(self, q, fn, arg);
}

svc_rc
store_answer_at(convo_store_t *base, uint64_t conversation, uint64_t message,
                convo_answer_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_AT,
                                 "SELECT " ANSWER_COLUMNS
                                 " WHERE a.conversation = ? AND a.message_id = ?");

    store_bind_u64(q, 1, conversation);
    store_bind_u64(q, 2, message);
    return hand_out_one(self, q, fn, arg);
}

svc_rc
store_answer_unfinished(convo_store_t *base, convo_answer_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_UNFINISHED,
                                 "SELECT " ANSWER_COLUMNS
                                 " WHERE a.state < 2 ORDER BY a.asked_ms");
    svc_rc rc;

    while ((rc = store_step(self, q)) == RC_OK) {
        answer_row_t row = fill_answer(q);

        rc = fn(arg, &row);
        if (rc != RC_OK)
            break;
    }
    store_done(q);
    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

svc_rc
store_answer_text(convo_store_t *base, svc_str stream, uint64_t from, convo_text_fn *fn,
                  void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_TEXT,
        "SELECT offset, bytes FROM chunk WHERE stream = ?1 AND offset >= coalesce((SELECT"
        " max(offset) FROM chunk WHERE stream = ?1 AND offset <= ?2), 0) ORDER BY offset");
    svc_rc rc;

    store_bind_bytes(q, 1, stream);
    store_bind_u64(q, 2, from);
    while ((rc = store_step(self, q)) == RC_OK) {
        uint64_t offset = store_u64(q, 0);
        svc_str bytes = store_str(q, 1);
        uint64_t skip = from > offset ? from - offset : 0;

        if (skip >= bytes.n)
            continue;
        if (!fn(arg, (svc_str){bytes.p + skip, bytes.n - (size_t)skip}))
            break;
    }
    store_done(q);
    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* Binds the row that a step wants and what every step writes. */
static void
bind_step(sqlite3_stmt *q, const answer_step_t *step)
{
    store_bind_bytes(q, 1, step->stream);
    store_bind_u64(q, 2, step->term);
    store_bind_u64(q, 3, step->fence);
    store_bind_u64(q, 4, (uint64_t)step->state);
    store_bind_u64(q, 5, step->length);
    store_bind_u64(q, 6, (uint64_t)step->next_state);
    store_bind_u64(q, 7, step->length + step->bytes.n);
    store_bind_u64(q, 8, step->llm);
}

static svc_rc
add_chunk(store_sqlite_t *self, const answer_step_t *step)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_CHUNK,
        "INSERT INTO chunk (stream, offset, bytes) VALUES (?, ?, ?)");

    store_bind_bytes(q, 1, step->stream);
    store_bind_u64(q, 2, step->length);
    store_bind_text(q, 3, step->bytes);
    return store_run(self, q);
}

/* The conversation after one of its answers has ended. */
static svc_rc
count_turn(store_sqlite_t *self, svc_str stream, uint64_t raise)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_CONVERSATION_ANSWERED,
        "UPDATE conversation SET version = version + ?2, turns = turns + (a.length > 0), turn_bytes ="
        " turn_bytes + CASE WHEN a.length > 0 THEN a.length + a.question_bytes ELSE 0 END"
        " FROM answer a WHERE a.stream = ?1 AND conversation.id = a.conversation");

    store_bind_bytes(q, 1, stream);
    store_bind_u64(q, 2, raise);
    return store_run(self, q);
}

/* The step that ends an answer. */
static sqlite3_stmt *
end_stmt(store_sqlite_t *self, const answer_step_t *step)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_END,
        "UPDATE answer SET state = ?6, length = ?7, llm = ?8, finish = ?9, prompt_tokens = ?10,"
        " completion_tokens = ?11, total_tokens = ?12, reason = ?13, text = ?14,"
        " retry_after_s = ?15"
        " WHERE stream = ?1 AND term = ?2 AND fence = ?3 AND state = ?4 AND length = ?5");

    bind_step(q, step);
    store_bind_text(q, 9, step->finish);
    store_bind_u64(q, 10, step->usage.prompt);
    store_bind_u64(q, 11, step->usage.completion);
    store_bind_u64(q, 12, step->usage.total);
    store_bind_text(q, 13, step->reason);
    store_bind_text(q, 14, step->text);
    store_bind_u64(q, 15, step->retry_after_s);
    return q;
}

static sqlite3_stmt *
append_stmt(store_sqlite_t *self, const answer_step_t *step)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_STEP,
        "UPDATE answer SET state = ?6, length = ?7, llm = ?8"
        " WHERE stream = ?1 AND term = ?2 AND fence = ?3 AND state = ?4 AND length = ?5");

    bind_step(q, step);
    return q;
}

svc_rc
store_answer_step(convo_store_t *base, const answer_step_t *step, uint64_t raise)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    bool ends = answer_state_is_terminal(step->next_state);
    svc_rc rc = store_run(self, ends ? end_stmt(self, step) : append_stmt(self, step));

    if (rc == RC_OK && store_changes(self) == 0)
        return RC_STALE;
    if (rc == RC_OK && step->bytes.n > 0)
        rc = add_chunk(self, step);
    if (rc == RC_OK && ends)
        rc = count_turn(self, step->stream, raise);
    return rc;
}

svc_rc
store_answer_restart(convo_store_t *base, svc_str stream, uint64_t term, uint64_t fence,
                     uint64_t new_fence, uint64_t attempt)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_RESTART,
        "UPDATE answer SET fence = ?4, attempt = ?5"
        " WHERE stream = ?1 AND term = ?2 AND fence = ?3 AND state = 0");
    svc_rc rc;

    store_bind_bytes(q, 1, stream);
    store_bind_u64(q, 2, term);
    store_bind_u64(q, 3, fence);
    store_bind_u64(q, 4, new_fence);
    store_bind_u64(q, 5, attempt);
    rc = store_run(self, q);
    return rc == RC_OK && store_changes(self) == 0 ? RC_STALE : rc;
}

svc_rc
store_answer_stop(convo_store_t *base, svc_str stream)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_STOP,
        "UPDATE answer SET stop_wanted = 1 WHERE stream = ? AND state < 2");
    svc_rc rc;

    store_bind_bytes(q, 1, stream);
    rc = store_run(self, q);
    return rc == RC_OK && store_changes(self) == 0 ? RC_STALE : rc;
}
