/* store_sqlite_owners.c - who owns unfinished answers, in SQLite.
 *
 * The file serves one process (svc_db_lock.h), so there are no leases: whoever has it is alive, and every other owner is
 * gone. What an earlier start left unfinished is taken over with the next term, exactly as among several processes.
 * What a lease would tell is told as if all went well. */
#include "store_sqlite.h"

#include <stdlib.h>

svc_rc
store_lease_renew(convo_store_t *base, uint64_t instance, uint64_t ms, bool *lapsed_out)
{
    (void)base;
    (void)instance;
    (void)ms;
    *lapsed_out = false;
    return RC_OK;
}

svc_rc
store_lease_drop(convo_store_t *base, uint64_t instance)
{
    (void)base;
    (void)instance;
    return RC_OK;
}

svc_rc
store_answer_owned(convo_store_t *base, uint64_t owner, convo_answer_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_OWNED,
        "SELECT " STORE_ANSWER_COLUMNS
        " WHERE a.state < 2 AND a.owner = ? ORDER BY a.asked_ms");

    store_bind_u64(q, 1, owner);
    return store_hand_out_answers(self, q, fn, arg);
}

/* Changes at most `max` rows and notes which. */
static svc_rc
take(store_sqlite_t *self, uint64_t owner, size_t max, uint64_t *ids, size_t *n)
{
    sqlite3_stmt *q = store_stmt(
        self, ST_ANSWER_TAKE_OVER,
        "UPDATE answer SET term = term + 1, owner = ?1 WHERE id IN"
        " (SELECT id FROM answer WHERE state < 2 AND owner <> ?1 ORDER BY asked_ms LIMIT ?2)"
        " RETURNING id");
    svc_rc rc;

    store_bind_u64(q, 1, owner);
    store_bind_u64(q, 2, max);
    while ((rc = store_step(self, q)) == RC_OK && *n < max)
        ids[(*n)++] = store_u64(q, 0);
    store_done(q);
    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

svc_rc
store_answer_take_over(convo_store_t *base, uint64_t owner, size_t max,
                       convo_answer_fn *fn, void *arg)
{
    store_sqlite_t *self = (store_sqlite_t *)base;
    uint64_t *ids = svc_alloc((max + 1) * sizeof(*ids));
    size_t n = 0;
    svc_rc rc = take(self, owner, max, ids, &n);

    for (size_t i = 0; i < n && rc == RC_OK; i++) {
        sqlite3_stmt *q = store_stmt(self, ST_ANSWER_BY_ID,
                                     "SELECT " STORE_ANSWER_COLUMNS " WHERE a.id = ?");

        store_bind_u64(q, 1, ids[i]);
        rc = store_hand_out_answer(self, q, fn, arg);
    }
    free(ids);
    return rc;
}
