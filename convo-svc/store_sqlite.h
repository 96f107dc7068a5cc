/* store_sqlite.h - what the files of the SQLite store share: the connection and its statements.
 *
 * Private to convo_store_sqlite.c (connection, schema, transactions), store_sqlite_conversations.c,
 * store_sqlite_answers.c and store_sqlite_owners.c. Statements are prepared when first used and kept; each has a slot.
 * A statement is always reset before a function returns, so no read lock outlives it. */
#ifndef STORE_SQLITE_H
#define STORE_SQLITE_H

#include "convo_store.h"

#include <sqlite3.h>

/* One slot per statement. */
typedef enum {
    ST_BEGIN_READ,
    ST_BEGIN_WRITE,
    ST_COMMIT,
    ST_SAVE,
    ST_KEEP,
    ST_UNDO,
    ST_META_GET,
    ST_META_PUT,
    ST_CONVERSATION_ADD,
    ST_CONVERSATION_GET,
    ST_CONVERSATION_OF_KEY,
    ST_CONVERSATION_REMOVE,
    ST_LIST_RAISE,
    ST_LIST_VERSION,
    ST_CONVERSATION_LIST,
    ST_CONVERSATION_LIST_AFTER,
    ST_CONVERSATION_LAST,
    ST_CONVERSATION_ASKED,
    ST_CONVERSATION_ANSWERED,
    ST_CONVERSATION_RETRIED,
    ST_QUESTION_ADD,
    ST_QUESTION_TEXT,
    ST_ANSWER_ADD,
    ST_ANSWER_GET,
    ST_ANSWER_AT,
    ST_ANSWER_OF_KEY,
    ST_ANSWER_ACTIVE,
    ST_ANSWER_UNFINISHED,
    ST_ANSWER_OWNED,
    ST_ANSWER_TAKE_OVER,
    ST_ANSWER_BY_ID,
    ST_ANSWER_LAST,
    ST_ANSWER_REPLACE,
    ST_ANSWER_FORGET_TEXT,
    ST_ANSWER_PLACE,
    ST_ANSWER_TEXT,
    ST_ANSWER_AS_IT_WAS,
    ST_ANSWER_GROW,
    ST_ANSWER_STEP,
    ST_ANSWER_END,
    ST_ANSWER_CHUNK,
    ST_ANSWER_RESTART,
    ST_ANSWER_STOP,
    ST_COUNT
} store_slot;

typedef struct {
    convo_store_t base;           /* first: the seam */
    svc_log_t *log;               /* borrowed, may be NULL */
    sqlite3 *db;                  /* owned */
    sqlite3_stmt *stmt[ST_COUNT]; /* owned, NULL until first used */
    uint64_t
        raised; /* user whose list has a new version in this transaction already; 0: nobody's */
    int log_pages; /* in the write-ahead log after the last commit; of the writer */
    int tidy_at;   /* as many are copied to the database */
    uint64_t
        logged_ms; /* when a failure was logged last: a full disk must not fill the log, too */
} store_sqlite_t;

/* Gives the statement of a slot, ready for binding; NULL when it cannot be prepared (store_failed tells). */
sqlite3_stmt *store_stmt(store_sqlite_t *self, store_slot slot, const char *sql);

/* Binds at 1-based `at`. The views must live until store_done. */
void store_bind_u64(sqlite3_stmt *q, int at, uint64_t value);
void store_bind_text(sqlite3_stmt *q, int at, svc_str text);
void store_bind_bytes(sqlite3_stmt *q, int at, svc_str bytes);

/* A column; views die with the next step. */
uint64_t store_u64(sqlite3_stmt *q, int column);
svc_str store_str(sqlite3_stmt *q, int column);

/* Steps once. RC_OK: a row; RC_NOT_FOUND: no more; else the failure. q may be NULL (it could not be prepared). */
svc_rc store_step(store_sqlite_t *self, sqlite3_stmt *q);

/* Resets the statement and forgets what was bound. NULL-safe. */
void store_done(sqlite3_stmt *q);

/* Steps a statement that gives no rows and resets it. RC_OK, or the failure. */
svc_rc store_run(store_sqlite_t *self, sqlite3_stmt *q);

/* Columns of an answer, and where they come from, in the order in which the functions below read them. */
#define STORE_ANSWER_COLUMNS                                                                        \
    "a.stream, c.user, a.conversation, a.message_id, a.state, a.term, a.fence, a.attempt, a.owner," \
    " a.llm, a.length, a.asked_ms, a.question_bytes, a.stop_wanted, a.finish, a.prompt_tokens,"     \
    " a.completion_tokens, a.total_tokens, a.reason, a.text, a.retry_after_s, a.body_hash, a.key,"  \
    " a.stop_alone FROM answer a JOIN conversation c ON c.id = a.conversation"

/* Hands out the next row of a bound statement that reads STORE_ANSWER_COLUMNS and ends it. RC_NOT_FOUND: there is none. */
svc_rc store_hand_out_answer(store_sqlite_t *self, sqlite3_stmt *q, convo_answer_fn *fn,
                             void *arg);

/* Hands out all its rows and ends it. */
svc_rc store_hand_out_answers(store_sqlite_t *self, sqlite3_stmt *q, convo_answer_fn *fn,
                              void *arg);

/* Binds bytes, or NULL when there are none. */
void store_bind_key(sqlite3_stmt *q, int at, svc_str key);

/* The place of a chunk is its answer's id and its offset. */
#define STORE_PLACE_SHIFT  24
#define STORE_PLACE_OFFSET ((1u << STORE_PLACE_SHIFT) - 1)

/* Rows changed by the last statement. */
int store_changes(const store_sqlite_t *self);

/* The functions of the seam that stand in the other files. */
svc_rc store_conversation_add(convo_store_t *base, const conversation_row_t *row);
svc_rc store_conversation_get(convo_store_t *base, uint64_t id, convo_conversation_fn *fn,
                              void *arg);
svc_rc store_conversation_remove(convo_store_t *base, uint64_t id);
svc_rc store_list_version(convo_store_t *base, uint64_t user, uint64_t *out);
svc_rc store_conversation_list(convo_store_t *base, uint64_t user, uint64_t after,
                               convo_conversation_fn *fn, void *arg);
svc_rc store_question_add(convo_store_t *base, const answer_row_t *row, svc_str question,
                          uint64_t version, uint64_t *message_out);
svc_rc store_question_text(convo_store_t *base, uint64_t conversation, uint64_t message,
                           uint64_t from, convo_text_fn *fn, void *arg);
svc_rc store_answer_get(convo_store_t *base, svc_str stream, convo_answer_fn *fn,
                        void *arg);
svc_rc store_answer_at(convo_store_t *base, uint64_t conversation, uint64_t message,
                       convo_answer_fn *fn, void *arg);
svc_rc store_answer_unfinished(convo_store_t *base, convo_answer_fn *fn, void *arg);
svc_rc store_answer_text(convo_store_t *base, svc_str stream, uint64_t from,
                         convo_text_fn *fn, void *arg);
svc_rc store_answer_step(convo_store_t *base, const answer_step_t *step, uint64_t raise);
svc_rc store_answer_steps(convo_store_t *base, const answer_step_t *steps, size_t n,
                          uint64_t raise, svc_rc *rcs);
svc_rc store_answer_restart(convo_store_t *base, svc_str stream, uint64_t term,
                            uint64_t fence, uint64_t new_fence, uint64_t attempt);
svc_rc store_answer_stop(convo_store_t *base, svc_str stream);
svc_rc store_conversation_of_key(convo_store_t *base, uint64_t user, svc_str key,
                                 convo_conversation_fn *fn, void *arg);
svc_rc store_answer_replace(convo_store_t *base, const answer_row_t *row,
                            uint64_t version);
svc_rc store_answer_of_key(convo_store_t *base, uint64_t conversation, svc_str key,
                           convo_answer_fn *fn, void *arg);
svc_rc store_answer_active(convo_store_t *base, uint64_t user, convo_answer_fn *fn,
                           void *arg);
svc_rc store_lease_renew(convo_store_t *base, uint64_t instance, uint64_t ms,
                         bool *lapsed_out);
svc_rc store_lease_drop(convo_store_t *base, uint64_t instance);
svc_rc store_answer_owned(convo_store_t *base, uint64_t owner, convo_answer_fn *fn,
                          void *arg);
svc_rc store_answer_take_over(convo_store_t *base, uint64_t owner, size_t max,
                              convo_answer_fn *fn, void *arg);

#endif
