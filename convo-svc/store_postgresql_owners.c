/* store_postgresql_owners.c - who owns unfinished answers, in PostgreSQL: leases and take-over; and retries.
 *
 * A lease is one row per process with a time of the database's own clock. It is politeness: it says whose answers not to touch.
 * Safety is the term, which a take-over raises and every step must name. Rows that another process has in hand at that moment
 * are left out (SKIP LOCKED): it is about to take them, or their owner is alive after all. */
#include "store_postgresql.h"

svc_rc
pg_lease_renew(convo_store_t *base, uint64_t instance, uint64_t ms, bool *lapsed_out)
{
    const svc_pg_arg_t args[] = {PG_U64(instance), PG_U64(ms)};
    svc_pg_rows_t rows;
    svc_rc rc = store_pg_query(
        (store_pg_t *)base, PG_LEASE_RENEW,
        "WITH old AS (SELECT until FROM convo_lease WHERE instance = $1),"
        " forgotten AS (DELETE FROM convo_lease WHERE instance <> $1"
        "  AND until < clock_timestamp() - interval '1 hour')"
        " INSERT INTO convo_lease VALUES"
        "  ($1, clock_timestamp() + $2 * interval '1 millisecond')"
        " ON CONFLICT (instance) DO UPDATE SET until = excluded.until"
        " RETURNING coalesce((SELECT until < clock_timestamp() FROM old), true)",
        args, SVC_COUNT(args), &rows);

    *lapsed_out = rc == RC_OK && svc_pg_u64(&rows, 0, 0) != 0;
    svc_pg_free(&rows);
    return rc;
}

svc_rc
pg_lease_drop(convo_store_t *base, uint64_t instance)
{
    const svc_pg_arg_t args[] = {PG_U64(instance)};

    return store_pg_run((store_pg_t *)base, PG_LEASE_DROP,
                        "DELETE FROM convo_lease WHERE instance = $1", args,
                        SVC_COUNT(args), NULL);
}

svc_rc
pg_answer_owned(convo_store_t *base, uint64_t owner, convo_answer_fn *fn, void *arg)
{
    const svc_pg_arg_t args[] = {PG_U64(owner)};

    return store_pg_answers((store_pg_t *)base, PG_ANSWER_OWNED,
                            STORE_PG_ANSWERS " WHERE a.owner = $1 AND a.state < 2"
                                             " ORDER BY a.asked_ms",
                            args, SVC_COUNT(args), fn, arg);
}

svc_rc
pg_answer_take_over(convo_store_t *base, uint64_t owner, size_t max, convo_answer_fn *fn,
                    void *arg)
{
    const svc_pg_arg_t args[] = {PG_U64(owner), PG_U64(max)};

    ((store_pg_t *)base)->changes++;
    return store_pg_answers(
        (store_pg_t *)base, PG_ANSWER_TAKE_OVER,
        "WITH orphan AS (SELECT o.stream FROM answer o WHERE o.state < 2 AND o.owner <> $1"
        "   AND NOT EXISTS (SELECT 1 FROM convo_lease l WHERE l.instance = o.owner"
        "    AND l.until >= clock_timestamp())"
        "  ORDER BY o.asked_ms LIMIT $2 FOR UPDATE OF o SKIP LOCKED),"
        " a AS (UPDATE answer t SET term = t.term + 1, owner = $1 FROM orphan"
        "  WHERE t.stream = orphan.stream RETURNING t.*)"
        " SELECT " STORE_PG_ANSWER " FROM a JOIN conversation c ON c.id = a.conversation"
        " ORDER BY a.asked_ms",
        args, SVC_COUNT(args), fn, arg);
}

/* --- retries ---------------------------------------------------------------------------------- */

/* Locks conversation and answer, by statements of their own: the last step of the old answer, which may be waited for, has then
 * left all its text where the next statement sees it. */
static svc_rc
lock_last(store_pg_t *self, const answer_row_t *row)
{
    const svc_pg_arg_t args[] = {PG_U64(row->conversation), PG_U64(row->message)};
    svc_rc rc = svc_pg_post(self->pg, PG_CONVERSATION_LOCK,
                            "SELECT 1 FROM conversation WHERE id = $1 FOR UPDATE", args,
                            1);

    if (rc != RC_OK)
        return rc;
    return svc_pg_post(self->pg, PG_ANSWER_LOCK_LAST,
                       "SELECT 1 FROM answer WHERE conversation = $1 AND message_id = $2"
                       " FOR UPDATE",
                       args, SVC_COUNT(args));
}

svc_rc
pg_answer_replace(convo_store_t *base, const answer_row_t *row, uint64_t version)
{
    store_pg_t *self = (store_pg_t *)base;
    const svc_pg_arg_t args[] = {
        PG_U64(row->conversation),
        PG_U64(row->message),
        PG_BYTES(row->stream),
        PG_U64(row->term),
        PG_U64(row->fence),
        PG_U64(row->attempt),
        PG_U64(row->owner),
        PG_U64(row->asked_ms),
        PG_U64(row->question_bytes),
        PG_BYTES(row->body_hash),
        PG_BYTES_OR_NULL(row->key),
        PG_BOOL(row->stop_alone),
        PG_U64(version),
    };
    svc_pg_rows_t rows = {0};
    svc_rc rc = lock_last(self, row);

    /* A stream or a key that another answer has is looked for first: as a broken constraint it would end the transaction. */
    if (rc == RC_OK)
        rc = store_pg_query(
            self, PG_ANSWER_REPLACE,
            "WITH old AS (SELECT a.conversation, a.message_id, a.length, a.question_bytes FROM answer a"
            "   JOIN conversation c ON c.id = a.conversation AND c.last_message = a.message_id"
            "  WHERE a.conversation = $1 AND a.message_id = $2 AND a.state >= 2),"
            " taken AS (SELECT 1 FROM answer x WHERE (x.conversation <> $1 OR x.message_id <> $2)"
            "   AND (x.stream = $3 OR (x.conversation = $1 AND x.key = $11))),"
            " free AS (SELECT old.* FROM old WHERE NOT EXISTS (SELECT 1 FROM taken)),"
            " a AS (UPDATE answer a SET stream = $3, state = 0, term = $4, fence = $5,"
            "   attempt = $6, owner = $7, llm = 0, length = 0, asked_ms = $8,"
            "   question_bytes = $9, prompt_tokens = 0, completion_tokens = 0, total_tokens = 0,"
            "   retry_after_s = 0, stop_wanted = false, stop_alone = $12, finish = '',"
            "   reason = '', text = '', key = $11, body_hash = $10"
            "  FROM free WHERE a.conversation = free.conversation AND a.message_id = free.message_id"
            "  RETURNING 1),"
            " k AS (DELETE FROM answer_chunk k USING free WHERE k.conversation = free.conversation"
            "   AND k.message_id = free.message_id),"
            " c AS (UPDATE conversation SET version = $13, answering = true,"
            "   turns = turns - CASE WHEN free.length > 0 THEN 1 ELSE 0 END,"
            "   turn_bytes = turn_bytes - CASE WHEN free.length > 0"
            "    THEN free.length + free.question_bytes ELSE 0 END"
            "  FROM free WHERE conversation.id = $1)"
            " SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM a)",
            args, SVC_COUNT(args), &rows);
    if (rc == RC_OK && svc_pg_u64(&rows, 0, 0) == 0)
        rc = RC_STALE;
    if (rc == RC_OK && svc_pg_u64(&rows, 0, 1) == 0)
        rc = RC_CONFLICT;
    self->changes += rc == RC_OK ? 1 : 0;
    svc_pg_free(&rows);
    return rc;
}
