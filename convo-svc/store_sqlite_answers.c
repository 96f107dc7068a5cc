/* store_sqlite_answers.c - answers and their text in SQLite.
 *
 * Every arrow of an answer's life looks for the row by stream, term, fence and state (and, for text, the
 * length it goes behind) and changes it in the same transaction. No such row means that somebody else has
 * moved on: RC_STALE.
 * The end of an answer counts its turn into the conversation, so that the next prompt's size is known. */
#include "store_sqlite.h"

_Static_assert(PROTO_ANSWER_MAX_BYTES <= 1u << STORE_PLACE_SHIFT,
               "every offset has a place");

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
        .key = store_str(q, 22),
        .stop_alone = store_u64(q, 23) != 0,
    };
}

svc_rc
store_hand_out_answer(store_sqlite_t *self, sqlite3_stmt *q, convo_answer_fn *fn,
                      void *arg)
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
                                 "SELECT " STORE_ANSWER_COLUMNS " WHERE a.stream = ?");

    store_bind_bytes(q, 1, stream);
    return store_hand_out_answer(self, q, fn, arg);
}

svc_rc
store_answer_at(convo_store_t *base, uint64_t conversation, uint64_t message,
                convo_answer_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_AT,
                                 "SELECT " STORE_ANSWER_COLUMNS
                                 " WHERE a.conversation = ? AND a.message_id = ?");

    store_bind_u64(q, 1, conversation);
    store_bind_u64(q, 2, message);
    return store_hand_out_answer(self, q, fn, arg);
}

svc_rc
store_hand_out_answers(store_sqlite_t *self, sqlite3_stmt *q, convo_answer_fn *fn,
                       void *arg)
{
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
store_answer_of_key(convo_store_t *base, uint64_t conversation, svc_str key,
                    convo_answer_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_OF_KEY,
                                 "SELECT " STORE_ANSWER_COLUMNS
                                 " WHERE a.conversation = ? AND a.key = ?");

    store_bind_u64(q, 1, conversation);
    store_bind_bytes(q, 2, key);
    return store_hand_out_answer(self, q, fn, arg);
}

svc_rc
store_answer_active(convo_store_t *base, uint64_t user, convo_answer_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_ACTIVE,
                                 "SELECT " STORE_ANSWER_COLUMNS
                                 " WHERE a.state < 2 AND c.user = ?"
                                 " ORDER BY a.asked_ms DESC, a.id DESC");

    store_bind_u64(q, 1, user);
    return store_hand_out_answers(self, q, fn, arg);
}

svc_rc
store_answer_unfinished(convo_store_t *base, convo_answer_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_UNFINISHED,
                                 "SELECT " STORE_ANSWER_COLUMNS
                                 " WHERE a.state < 2 ORDER BY a.asked_ms");

    return store_hand_out_answers(self, q, fn, arg);
}

/* Finds where the text of an answer begins. */
static svc_rc
find_place(store_sqlite_t *self, svc_str stream, uint64_t *out)
{
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_PLACE,
                                 "SELECT id FROM answer WHERE stream = ?");
    svc_rc rc;

    store_bind_bytes(q, 1, stream);
    rc = store_step(self, q);
    if (rc == RC_OK)
        *out = store_u64(q, 0) << STORE_PLACE_SHIFT;
    store_done(q);
    return rc;
}

svc_rc
store_answer_text(convo_store_t *base, svc_str stream, uint64_t from, convo_text_fn *fn,
                  void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    uint64_t first = 0; /* place of the answer's first byte */
    sqlite3_stmt *q;
    svc_rc rc = find_place(self, stream, &first);

    if (rc != RC_OK)
        return rc == RC_NOT_FOUND ? RC_OK : rc;
    q = store_stmt(
        self, ST_ANSWER_TEXT,
        "SELECT place, bytes FROM chunk WHERE place >= coalesce((SELECT max(place)"
        " FROM chunk WHERE place BETWEEN ?1 AND ?2), ?1) AND place <= ?3"
        " ORDER BY place");
    store_bind_u64(q, 1, first);
    store_bind_u64(q, 2, first + (from < STORE_PLACE_OFFSET ? from : STORE_PLACE_OFFSET));
    store_bind_u64(q, 3, first + STORE_PLACE_OFFSET);
    while ((rc = store_step(self, q)) == RC_OK) {
        uint64_t offset = store_u64(q, 0) - first;
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

/* What of the row a step goes on with. */
typedef struct {
    uint64_t id, conversation, question_bytes;
} stepped_t;

/* Looks whether the row is as the step says. Inside the writer's transaction this and what follows are one. */
static svc_rc
look_as_it_was(store_sqlite_t *self, const answer_step_t *step, stepped_t *out)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_AS_IT_WAS,
        "SELECT id, conversation, question_bytes FROM answer"
        " WHERE stream = ?1 AND term = ?2 AND fence = ?3 AND state = ?4 AND length = ?5");
    svc_rc rc;

    store_bind_bytes(q, 1, step->stream);
    store_bind_u64(q, 2, step->term);
    store_bind_u64(q, 3, step->fence);
    store_bind_u64(q, 4, (uint64_t)step->state);
    store_bind_u64(q, 5, step->length);
    rc = store_step(self, q);
    if (rc == RC_OK)
        *out = (stepped_t){store_u64(q, 0), store_u64(q, 1), store_u64(q, 2)};
    store_done(q);
    return rc == RC_NOT_FOUND ? RC_STALE : rc;
}

static svc_rc
add_chunk(store_sqlite_t *self, const answer_step_t *step, uint64_t id)
{
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_CHUNK,
                                 "INSERT INTO chunk (place, bytes) VALUES (?, ?)");

    store_bind_u64(q, 1, (id << STORE_PLACE_SHIFT) + step->length);
    store_bind_text(q, 2, step->bytes);
    return store_run(self, q);
}

/* The conversation after one of its answers, now `length` bytes long, has ended. */
static svc_rc
count_turn(store_sqlite_t *self, const stepped_t *row, uint64_t length, uint64_t raise)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_CONVERSATION_ANSWERED,
        "UPDATE conversation SET version = version + ?2, turns = turns + ?3,"
        " turn_bytes = turn_bytes + ?4 WHERE id = ?1");

    store_bind_u64(q, 1, row->conversation);
    store_bind_u64(q, 2, raise);
    store_bind_u64(q, 3, length > 0 ? 1 : 0);
    store_bind_u64(q, 4, length > 0 ? length + row->question_bytes : 0);
    return store_run(self, q);
}

/* Binds what every step writes. */
static void
bind_step(sqlite3_stmt *q, const answer_step_t *step, uint64_t id)
{
    store_bind_u64(q, 1, id);
    store_bind_u64(q, 2, step->length + step->bytes.n);
    store_bind_u64(q, 3, step->llm);
}

/* The step that ends an answer. */
static sqlite3_stmt *
end_stmt(store_sqlite_t *self, const answer_step_t *step, uint64_t id)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_END,
        "UPDATE answer SET length = ?2, llm = ?3, state = ?4, finish = ?5, prompt_tokens = ?6,"
        " completion_tokens = ?7, total_tokens = ?8, reason = ?9, text = ?10,"
        " retry_after_s = ?11 WHERE id = ?1");

    bind_step(q, step, id);
    store_bind_u64(q, 4, (uint64_t)step->next_state);
    store_bind_text(q, 5, step->finish);
    store_bind_u64(q, 6, step->usage.prompt);
    store_bind_u64(q, 7, step->usage.completion);
    store_bind_u64(q, 8, step->usage.total);
    store_bind_text(q, 9, step->reason);
    store_bind_text(q, 10, step->text);
    store_bind_u64(q, 11, step->retry_after_s);
    return q;
}

/* One more piece: naming the state, though it stays, would have SQLite write the index of unfinished answers anew. */
static sqlite3_stmt *
grow_stmt(store_sqlite_t *self, const answer_step_t *step, uint64_t id)
{
    sqlite3_stmt *q = store_stmt(self, ST_ANSWER_GROW,
                                 "UPDATE answer SET length = ?2, llm = ?3 WHERE id = ?1");

    bind_step(q, step, id);
    return q;
}

static sqlite3_stmt *
step_stmt(store_sqlite_t *self, const answer_step_t *step, uint64_t id)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_STEP,
        "UPDATE answer SET length = ?2, llm = ?3, state = ?4 WHERE id = ?1");

    bind_step(q, step, id);
    store_bind_u64(q, 4, (uint64_t)step->next_state);
    return q;
}

svc_rc
store_answer_step(convo_store_t *base, const answer_step_t *step, uint64_t raise)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    bool ends = answer_state_is_terminal(step->next_state);
    stepped_t row;
    svc_rc rc = look_as_it_was(self, step, &row);

    if (rc != RC_OK)
        return rc;
    if (ends)
        rc = store_run(self, end_stmt(self, step, row.id));
    else if (step->next_state == step->state)
        rc = store_run(self, grow_stmt(self, step, row.id));
    else
        rc = store_run(self, step_stmt(self, step, row.id));
    if (rc == RC_OK && step->bytes.n > 0)
        rc = add_chunk(self, step, row.id);
    if (rc == RC_OK && ends)
        rc = count_turn(self, &row, step->length + step->bytes.n, raise);
    return rc;
}

svc_rc
store_answer_steps(convo_store_t *base, const answer_step_t *steps, size_t n,
                   uint64_t raise, svc_rc *rcs)
{
    for (size_t i = 0; i < n; i++) {
        rcs[i] = store_answer_step(base, &steps[i], raise);
        if (rcs[i] != RC_OK && rcs[i] != RC_STALE)
            return rcs[i] == RC_UNAVAILABLE ? RC_UNAVAILABLE : RC_LATER;
    }
    return RC_OK;
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
