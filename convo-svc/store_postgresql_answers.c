/* store_postgresql_answers.c - answers and their text in PostgreSQL.
 *
 * Every arrow of an answer's life is one statement, which looks for the row by stream, term, fence and state (and, for text,
 * the length it goes behind) and does the rest with what it found. No such row means that somebody else has moved on:
 * RC_STALE, and nothing has changed.
 * The end of an answer counts its turn into the conversation, whose row is locked first: so do questions, stops and retries. */
#include "store_postgresql.h"

#define TEXT_PAGE 128 /* chunks fetched at once: 64 KB each at most */

static answer_row_t
fill_answer(const svc_pg_rows_t *rows, int i)
{
    return (answer_row_t){
        .stream = svc_pg_str(rows, i, 0),
        .user = svc_pg_u64(rows, i, 1),
        .conversation = svc_pg_u64(rows, i, 2),
        .message = svc_pg_u64(rows, i, 3),
        .state = (int)svc_pg_u64(rows, i, 4),
        .term = svc_pg_u64(rows, i, 5),
        .fence = svc_pg_u64(rows, i, 6),
        .attempt = svc_pg_u64(rows, i, 7),
        .owner = svc_pg_u64(rows, i, 8),
        .llm = svc_pg_u64(rows, i, 9),
        .length = svc_pg_u64(rows, i, 10),
        .asked_ms = svc_pg_u64(rows, i, 11),
        .question_bytes = svc_pg_u64(rows, i, 12),
        .stop_wanted = svc_pg_u64(rows, i, 13) != 0,
        .finish = svc_pg_str(rows, i, 14),
        .usage = {svc_pg_u64(rows, i, 15), svc_pg_u64(rows, i, 16),
                  svc_pg_u64(rows, i, 17)},
        .reason = svc_pg_str(rows, i, 18),
        .text = svc_pg_str(rows, i, 19),
        .retry_after_s = svc_pg_u64(rows, i, 20),
        .body_hash = svc_pg_str(rows, i, 21),
        .key = svc_pg_str(rows, i, 22),
        .stop_alone = svc_pg_u64(rows, i, 23) != 0,
    };
}

svc_rc
store_pg_answers(store_pg_t *self, pg_slot slot, const char *sql,
                 const svc_pg_arg_t *args, size_t n, convo_answer_fn *fn, void *arg)
{
    svc_pg_rows_t rows;
    svc_rc rc = store_pg_query(self, slot, sql, args, n, &rows);

    for (int i = 0; rc == RC_OK && i < rows.n; i++) {
        answer_row_t row = fill_answer(&rows, i);

        rc = fn(arg, &row);
    }
    svc_pg_free(&rows);
    return rc;
}

/* The same for one that must be there. */
static svc_rc
find_one(store_pg_t *self, pg_slot slot, const char *sql, const svc_pg_arg_t *args,
         size_t n, convo_answer_fn *fn, void *arg)
{
    svc_pg_rows_t rows;
    svc_rc rc = store_pg_query(self, slot, sql, args, n, &rows);

    if (rc == RC_OK && rows.n == 0)
        rc = RC_NOT_FOUND;
    if (rc == RC_OK) {
        answer_row_t row = fill_answer(&rows, 0);

        rc = fn(arg, &row);
    }
    svc_pg_free(&rows);
    return rc;
}

svc_rc
pg_answer_get(convo_store_t *base, svc_str stream, convo_answer_fn *fn, void *arg)
{
    const svc_pg_arg_t args[] = {PG_BYTES(stream)};

    return find_one((store_pg_t *)base, PG_ANSWER_GET,
                    STORE_PG_ANSWERS " WHERE a.stream = $1", args, SVC_COUNT(args), fn,
                    arg);
}

svc_rc
pg_answer_at(convo_store_t *base, uint64_t conversation, uint64_t message,
             convo_answer_fn *fn, void *arg)
{
    const svc_pg_arg_t args[] = {PG_U64(conversation), PG_U64(message)};

    return find_one((store_pg_t *)base, PG_ANSWER_AT,
                    STORE_PG_ANSWERS " WHERE a.conversation = $1 AND a.message_id = $2",
                    args, SVC_COUNT(args), fn, arg);
}

svc_rc
pg_answer_of_key(convo_store_t *base, uint64_t conversation, svc_str key,
                 convo_answer_fn *fn, void *arg)
{
    const svc_pg_arg_t args[] = {PG_U64(conversation), PG_BYTES(key)};

    return find_one((store_pg_t *)base, PG_ANSWER_OF_KEY,
                    STORE_PG_ANSWERS " WHERE a.conversation = $1 AND a.key = $2", args,
                    SVC_COUNT(args), fn, arg);
}

svc_rc
pg_answer_active(convo_store_t *base, uint64_t user, convo_answer_fn *fn, void *arg)
{
    const svc_pg_arg_t args[] = {PG_U64(user)};

    return store_pg_answers((store_pg_t *)base, PG_ANSWER_ACTIVE,
                            STORE_PG_ANSWERS
                            " WHERE a.state < 2 AND c.user_id = $1"
                            " ORDER BY a.asked_ms DESC, a.conversation DESC",
                            args, SVC_COUNT(args), fn, arg);
}

svc_rc
pg_answer_unfinished(convo_store_t *base, convo_answer_fn *fn, void *arg)
{
    return store_pg_answers((store_pg_t *)base, PG_ANSWER_UNFINISHED,
                            STORE_PG_ANSWERS " WHERE a.state < 2 ORDER BY a.asked_ms",
                            NULL, 0, fn, arg);
}

/* --- text ------------------------------------------------------------------------------------- */

/* Hands out the chunks of a page. *next: where the page behind begins; false: fn has had enough. */
static bool
hand_out_chunks(const svc_pg_rows_t *rows, uint64_t from, uint64_t *next,
                convo_text_fn *fn, void *arg)
{
    for (int i = 0; i < rows->n; i++) {
        uint64_t offset = svc_pg_u64(rows, i, 2);
        svc_str bytes = svc_pg_str(rows, i, 3);
        uint64_t skip = from > offset ? from - offset : 0;

        *next = offset + 1;
        if (skip < bytes.n && !fn(arg, (svc_str){bytes.p + skip, bytes.n - (size_t)skip}))
            return false;
    }
    return rows->n == TEXT_PAGE;
}

svc_rc
pg_answer_text(convo_store_t *base, svc_str stream, uint64_t from, convo_text_fn *fn,
               void *arg)
{
    store_pg_t *self = (store_pg_t *)base;
    const svc_pg_arg_t first[] = {
        PG_BYTES(stream), PG_U64(from > INT64_MAX ? INT64_MAX : from), PG_U64(TEXT_PAGE)};
    svc_pg_rows_t rows;
    uint64_t next = 0;
    bool more;
    svc_rc rc = store_pg_query(
        self, PG_ANSWER_TEXT,
        "SELECT k.conversation, k.message_id, k.at, k.bytes FROM answer a"
        " JOIN answer_chunk k ON k.conversation = a.conversation"
        "  AND k.message_id = a.message_id"
        " WHERE a.stream = $1 AND k.at >= coalesce((SELECT max(p.at) FROM answer_chunk p"
        "  WHERE p.conversation = a.conversation AND p.message_id = a.message_id"
        "   AND p.at <= $2), 0) ORDER BY k.at LIMIT $3",
        first, SVC_COUNT(first), &rows);

    more = rc == RC_OK && hand_out_chunks(&rows, from, &next, fn, arg);
    while (more) {
        const svc_pg_arg_t args[] = {PG_U64(svc_pg_u64(&rows, 0, 0)),
                                     PG_U64(svc_pg_u64(&rows, 0, 1)), PG_U64(next),
                                     PG_U64(TEXT_PAGE)};

        svc_pg_free(&rows);
        rc = store_pg_query(self, PG_ANSWER_TEXT_ON,
                            "SELECT conversation, message_id, at, bytes FROM answer_chunk"
                            " WHERE conversation = $1 AND message_id = $2 AND at >= $3"
                            " ORDER BY at LIMIT $4",
                            args, SVC_COUNT(args), &rows);
        more = rc == RC_OK && hand_out_chunks(&rows, from, &next, fn, arg);
    }
    svc_pg_free(&rows);
    return rc;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* How the row must be, the same in every step: $1 to $5; $6 to $8 are the new length, llm and text. */
#define AS_IT_WAS \
    " WHERE a.stream = $1 AND a.term = $2 AND a.fence = $3 AND a.state = $4 AND a.length = $5"
#define STEP_ARGS(step)                                                    \
    PG_BYTES((step)->stream), PG_U64((step)->term), PG_U64((step)->fence), \
        PG_U64((uint64_t)(step)->state), PG_U64((step)->length),           \
        PG_U64((step)->length + (step)->bytes.n), PG_U64((step)->llm),     \
        PG_BYTES((step)->bytes)
#define STEPPED " RETURNING a.conversation, a.message_id"
#define ADD_CHUNK                                                                    \
    " k AS (INSERT INTO answer_chunk SELECT conversation, message_id, $5, $8 FROM a" \
    "  WHERE octet_length($8) > 0)"

/* One more piece. */
static svc_rc
grow(store_pg_t *self, const answer_step_t *step)
{
    const svc_pg_arg_t args[] = {STEP_ARGS(step)};

    return svc_pg_send(
        self->pg, PG_ANSWER_GROW,
        "WITH a AS (UPDATE answer a SET length = $6, llm = $7" AS_IT_WAS STEPPED
        ")," ADD_CHUNK " SELECT 1 FROM a",
        args, SVC_COUNT(args));
}

/* The first piece, or a state of its own. */
static svc_rc
move(store_pg_t *self, const answer_step_t *step)
{
    const svc_pg_arg_t args[] = {STEP_ARGS(step), PG_U64((uint64_t)step->next_state)};

    return svc_pg_send(
        self->pg, PG_ANSWER_MOVE,
        "WITH a AS (UPDATE answer a SET length = $6, llm = $7, state = $9" AS_IT_WAS
            STEPPED ")," ADD_CHUNK " SELECT 1 FROM a",
        args, SVC_COUNT(args));
}

static svc_rc
end(store_pg_t *self, const answer_step_t *step, uint64_t raise)
{
    const svc_pg_arg_t args[] = {
        STEP_ARGS(step),
        PG_U64((uint64_t)step->next_state),
        PG_BYTES(step->finish),
        PG_U64(step->usage.prompt),
        PG_U64(step->usage.completion),
        PG_U64(step->usage.total),
        PG_BYTES(step->reason),
        PG_BYTES(step->text),
        PG_U64(step->retry_after_s),
        PG_U64(raise),
    };

    return svc_pg_send(
        self->pg, PG_ANSWER_END,
        "WITH c AS (SELECT id FROM conversation WHERE id ="
        "  (SELECT conversation FROM answer WHERE stream = $1) FOR UPDATE),"
        " a AS (UPDATE answer a SET length = $6, llm = $7, state = $9, finish = $10,"
        "   prompt_tokens = $11, completion_tokens = $12, total_tokens = $13, reason = $14,"
        "   text = $15, retry_after_s = $16 FROM c" AS_IT_WAS
        " AND a.conversation = c.id" STEPPED ", a.question_bytes)," ADD_CHUNK ","
        " t AS (UPDATE conversation t SET version = t.version + $17, answering = false,"
        "   turns = t.turns + CASE WHEN $6 > 0 THEN 1 ELSE 0 END,"
        "   turn_bytes = t.turn_bytes + CASE WHEN $6 > 0 THEN $6 + a.question_bytes ELSE 0 END"
        "  FROM a WHERE t.id = a.conversation)"
        " SELECT 1 FROM a",
        args, SVC_COUNT(args));
}

/* Sends a step with those before it. */
static svc_rc
send_step(store_pg_t *self, const answer_step_t *step, uint64_t raise)
{
    if (answer_state_is_terminal(step->next_state))
        return end(self, step, raise);
    return step->next_state == step->state ? grow(self, step) : move(self, step);
}

/* --- many ends at once ------------------------------------------------------------------------ */

/* Ends that go with one statement: to set it going costs more than a row of it. */
typedef struct {
    size_t at[CONVO_STEPS_MAX]; /* which steps */
    size_t n;                   /* in use */
} ends_t;

/* A value of a step: a number, or bytes. */
typedef struct {
    bool is_number;
    uint64_t number;
    svc_str bytes;
} value_t;

/* The values of a step, in the order of the statement's parameters. */
static void
take_values(const answer_step_t *step, value_t out[STORE_PG_ARRAYS])
{
    const value_t values[STORE_PG_ARRAYS] = {
        {.bytes = step->stream},
        {true, .number = step->term},
        {true, .number = step->fence},
        {true, .number = (uint64_t)step->state},
        {true, .number = step->length},
        {true, .number = step->length + step->bytes.n},
        {true, .number = step->llm},
        {.bytes = step->bytes},
        {true, .number = (uint64_t)step->next_state},
        {.bytes = step->finish},
        {true, .number = step->usage.prompt},
        {true, .number = step->usage.completion},
        {true, .number = step->usage.total},
        {.bytes = step->reason},
        {.bytes = step->text},
        {true, .number = step->retry_after_s},
    };

    memcpy(out, values, sizeof(values));
}

/* Makes an array of each column. */
static svc_rc
fill_arrays(store_pg_t *self, const answer_step_t *steps, const ends_t *ends,
            svc_pg_arg_t args[STORE_PG_ARRAYS])
{
    value_t values[STORE_PG_ARRAYS];
    svc_rc rc = RC_OK;

    for (size_t k = 0; k < ends->n; k++) {
        take_values(&steps[ends->at[k]], values);
        for (size_t i = 0; i < STORE_PG_ARRAYS && rc == RC_OK; i++) {
            svc_buf_t *array = &self->array[i];
            bool is_number = values[i].is_number;

            if (k == 0) {
                svc_buf_clear(array);
                rc = svc_pg_array(array, is_number ? SVC_PG_INT8 : SVC_PG_BYTES, ends->n);
            }
            if (rc == RC_OK)
                rc = is_number ? svc_pg_array_u64(array, values[i].number)
                               : svc_pg_array_bytes(array, values[i].bytes);
            args[i] = PG_ARRAY(is_number ? SVC_PG_INT8_ARRAY : SVC_PG_BYTES_ARRAY, array);
        }
    }
    return rc;
}

/* Sends the ends of different answers, whose conversations were locked beforehand; the streams that it gives back are those of the rows that were as their step says. */
static svc_rc
send_ends(store_pg_t *self, const answer_step_t *steps, const ends_t *ends,
          uint64_t raise)
{
    svc_pg_arg_t args[STORE_PG_ARRAYS + 1];
    svc_rc rc = fill_arrays(self, steps, ends, args);

    args[STORE_PG_ARRAYS] = PG_U64(raise);
    if (rc != RC_OK)
        return rc;
    return svc_pg_send(
        self->pg, PG_ANSWER_END_ALL,
        "WITH s AS (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
        "   $13, $14, $15, $16) AS s (stream, term, fence, state, length, new_length, llm,"
        "   bytes, next_state, finish, prompt_tokens, completion_tokens, total_tokens,"
        "   reason, text, retry_after_s)),"
        " a AS (UPDATE answer a SET length = s.new_length, llm = s.llm, state = s.next_state,"
        "   finish = s.finish, prompt_tokens = s.prompt_tokens,"
        "   completion_tokens = s.completion_tokens, total_tokens = s.total_tokens,"
        "   reason = s.reason, text = s.text, retry_after_s = s.retry_after_s"
        "  FROM s WHERE a.stream = s.stream AND a.term = s.term AND a.fence = s.fence"
        "   AND a.state = s.state AND a.length = s.length"
        "  RETURNING a.stream, a.conversation, a.message_id, a.question_bytes,"
        "   s.length AS at, s.new_length, s.bytes),"
        " k AS (INSERT INTO answer_chunk SELECT conversation, message_id, at, bytes FROM a"
        "  WHERE octet_length(bytes) > 0),"
        " t AS (UPDATE conversation t SET version = t.version + $17, answering = false,"
        "   turns = t.turns + CASE WHEN a.new_length > 0 THEN 1 ELSE 0 END,"
        "   turn_bytes = t.turn_bytes"
        "    + CASE WHEN a.new_length > 0 THEN a.new_length + a.question_bytes ELSE 0 END"
        "  FROM a WHERE t.id = a.conversation)"
        " SELECT stream FROM a",
        args, SVC_COUNT(args));
}

/* Was this stream among those that were given back? */
static bool
is_among(const svc_pg_rows_t *rows, svc_str stream)
{
    for (int i = 0; i < rows->n; i++)
        if (svc_str_eq(svc_pg_str(rows, i, 0), stream))
            return true;
    return false;
}

static svc_rc
receive_ends(store_pg_t *self, const answer_step_t *steps, const ends_t *ends,
             svc_rc *rcs)
{
    svc_pg_rows_t rows;
    svc_rc rc = svc_pg_receive(self->pg, &rows);

    for (size_t i = 0; i < ends->n && rc == RC_OK; i++)
        rcs[ends->at[i]] = is_among(&rows, steps[ends->at[i]].stream) ? RC_OK : RC_STALE;
    svc_pg_free(&rows);
    return rc;
}

/* Finds the steps that can go together behind all others: the last of its answer, when that is one that ends it. */
static void
gather_ends(const answer_step_t *steps, size_t n, ends_t *out)
{
    out->n = 0;
    for (size_t i = 0; i < n; i++) {
        bool is_last = answer_state_is_terminal(steps[i].next_state);

        for (size_t j = i + 1; is_last && j < n; j++)
            is_last = !svc_str_eq(steps[i].stream, steps[j].stream);
        if (is_last)
            out->at[out->n++] = i;
    }
    if (out->n < 2)
        out->n = 0;
}

/* Sends or receives the steps that go one by one. */
static svc_rc
each_other(store_pg_t *self, const answer_step_t *steps, size_t n, const ends_t *ends,
           uint64_t raise, svc_rc *rcs)
{
    size_t next = 0; /* of the ends */
    svc_rc rc = RC_OK;

    for (size_t i = 0; i < n && rc == RC_OK; i++) {
        svc_pg_rows_t rows;

        if (next < ends->n && ends->at[next] == i) {
            next++;
            continue;
        }
        if (rcs == NULL) {
            rc = send_step(self, &steps[i], raise);
            continue;
        }
        rcs[i] = rc = svc_pg_receive(self->pg, &rows);
        if (rc == RC_OK && rows.n == 0)
            rcs[i] = RC_STALE;
        svc_pg_free(&rows);
    }
    return rc;
}

svc_rc
pg_answer_steps(convo_store_t *base, const answer_step_t *steps, size_t n, uint64_t raise,
                svc_rc *rcs)
{
    store_pg_t *self = (store_pg_t *)base;
    ends_t ends;
    svc_rc rc;

    SVC_ASSERT(n <= CONVO_STEPS_MAX && self->n_granted == 0);
    gather_ends(steps, n, &ends);
    rc = each_other(self, steps, n, &ends, raise, NULL);
    if (rc == RC_OK && ends.n > 0)
        rc = send_ends(self, steps, &ends, raise);
    if (rc == RC_OK)
        rc = store_pg_fetch_ahead(self);
    if (rc == RC_OK)
        rc = each_other(self, steps, n, &ends, raise, rcs);
    if (rc == RC_OK && ends.n > 0)
        rc = receive_ends(self, steps, &ends, rcs);
    return rc == RC_OK || rc == RC_UNAVAILABLE || rc == RC_BUSY ? rc : RC_LATER;
}

svc_rc
pg_answer_step(convo_store_t *base, const answer_step_t *step, uint64_t raise)
{
    svc_rc one = RC_INTERNAL, rc = pg_answer_steps(base, step, 1, raise, &one);

    return rc == RC_OK || rc == RC_LATER ? one : rc;
}

svc_rc
pg_answer_restart(convo_store_t *base, svc_str stream, uint64_t term, uint64_t fence,
                  uint64_t new_fence, uint64_t attempt)
{
    const svc_pg_arg_t args[] = {PG_BYTES(stream), PG_U64(term), PG_U64(fence),
                                 PG_U64(new_fence), PG_U64(attempt)};
    uint64_t changed;
    svc_rc rc = store_pg_run(
        (store_pg_t *)base, PG_ANSWER_RESTART,
        "UPDATE answer SET fence = $4, attempt = $5"
        " WHERE stream = $1 AND term = $2 AND fence = $3 AND state = 0",
        args, SVC_COUNT(args), &changed);

    return rc == RC_OK && changed == 0 ? RC_STALE : rc;
}

svc_rc
pg_answer_stop(convo_store_t *base, svc_str stream)
{
    const svc_pg_arg_t args[] = {PG_BYTES(stream)};
    uint64_t changed;
    svc_rc rc = store_pg_run((store_pg_t *)base, PG_ANSWER_STOP,
                             "UPDATE answer SET stop_wanted = true"
                             " WHERE stream = $1 AND state < 2",
                             args, SVC_COUNT(args), &changed);

    return rc == RC_OK && changed == 0 ? RC_STALE : rc;
}
