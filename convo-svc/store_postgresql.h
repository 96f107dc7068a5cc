/* store_postgresql.h - what the files of the PostgreSQL store share.
 *
 * Private to convo_store_postgresql.c (connection, schema, transactions), store_postgresql_conversations.c,
 * store_postgresql_answers.c and store_postgresql_owners.c. Each function of the seam is one statement where that is possible
 * (a round trip costs more than a join), and finds out by its result whether it has changed anything: a constraint that is
 * broken would spoil the whole transaction.
 *
 * Order of locks, in every statement: the conversation before its answers. Steps lock answers of our own only, so they stand in one
 * transaction with questions; what may lock an answer of another process (stop, delete) has a transaction of its own. Lists are locked last, by user. */
#ifndef STORE_POSTGRESQL_H
#define STORE_POSTGRESQL_H

#include "convo_store.h"
#include "svc/svc_pg.h"

/* One slot per statement. */
typedef enum {
    PG_CLOCK,
    PG_META_LOCK,
    PG_META_GET,
    PG_META_PUT,
    PG_CONVERSATION_ADD,
    PG_CONVERSATION_GET,
    PG_CONVERSATION_GET_LOCKED,
    PG_CONVERSATION_GET_AHEAD,
    PG_CONVERSATION_LOCK,
    PG_CONVERSATION_OF_KEY,
    PG_CONVERSATION_LOCK_ANSWERS,
    PG_CONVERSATION_REMOVE,
    PG_LIST_VERSION,
    PG_CONVERSATION_LIST,
    PG_CONVERSATION_LIST_AFTER,
    PG_QUESTION_ADD,
    PG_QUESTION_ADD_ALL,
    PG_QUESTION_TEXT,
    PG_ANSWER_GET,
    PG_ANSWER_AT,
    PG_ANSWER_OF_KEY,
    PG_ANSWER_ACTIVE,
    PG_ANSWER_UNFINISHED,
    PG_ANSWER_TEXT,
    PG_ANSWER_TEXT_ON,
    PG_ANSWER_GROW,
    PG_ANSWER_MOVE,
    PG_ANSWER_END,
    PG_ANSWER_END_ALL,
    PG_ANSWER_RESTART,
    PG_ANSWER_STOP,
    PG_ANSWER_LOCK_LAST,
    PG_ANSWER_REPLACE,
    PG_LEASE_RENEW,
    PG_LEASE_DROP,
    PG_ANSWER_OWNED,
    PG_ANSWER_TAKE_OVER,
    PG_COUNT
} pg_slot;

#define STORE_PG_GRANTED_MAX \
    100 /* additions whose result nobody has read; more are read first */
#define STORE_PG_ARRAYS 16 /* columns of the steps that are taken by one statement */
#define STORE_PG_ASKED  14 /* columns of the questions that are added by one */

typedef struct {
    convo_store_t base; /* first: the seam */
    svc_pg_t *pg;       /* owned */
    bool writes;        /* the transaction that is open does: what it reads, it locks */
    bool hasty;         /* what is added is taken for granted until it is settled */
    svc_rc denied;      /* RC_LATER: not all of it was */
    size_t n_granted;   /* conversations added, whose results are still to come */
    svc_buf_t asked[STORE_PG_ASKED]; /* owned: questions taken for granted that are not
                                        sent yet, column by column */
    size_t n_asked;                  /* in use */
    svc_pg_rows_t ahead;             /* conversations looked at beforehand; owned */
    bool has_asked;    /* questions were sent whose refusal ends the transaction */
    bool is_ahead_due; /* that look is sent, its result is still to come */
    bool used
        [CONVO_STEPS_MAX]; /* by row of `ahead`: it was handed out, and may be no longer so */
    uint64_t
        ended[CONVO_STEPS_MAX]; /* conversations locked, but to be changed by steps */
    size_t n_ended;             /* in use */
    uint64_t ahead_ms; /* the database's clock when `ahead` was locked, Unix ms; 0: since
                          then something else may have been locked */
    uint64_t seen,
        seen_last; /* the conversation that was handed out last, and its last message */
    svc_buf_t
        array[STORE_PG_ARRAYS]; /* owned: the values of many steps, column by column */
    uint64_t
        changes; /* statements that changed something without the server's saying so (WITH … SELECT) */
} store_pg_t;

/* Runs a statement and waits for its result, as svc_pg_query; what was taken for granted comes before it. */
svc_rc store_pg_query(store_pg_t *self, pg_slot slot, const char *sql,
                      const svc_pg_arg_t *args, size_t n, svc_pg_rows_t *out);

/* Sends an addition of one row whose result is told by the settlement. */
svc_rc store_pg_take_for_granted(store_pg_t *self, pg_slot slot, const char *sql,
                                 const svc_pg_arg_t *args, size_t n);

/* A time of the server's (timestamptz), in Unix ms. */
uint64_t store_pg_unix_ms(const svc_pg_rows_t *rows, int row, int column);

/* Sends the questions that were taken for granted and stand in arrays: before whatever may look at them, and with the commit. When
 * one of them is refused, the statement fails. */
svc_rc store_pg_send_asked(store_pg_t *self);

/* Sends a look at conversations beforehand that locks them, for hasten; those of `ended` are only locked. */
svc_rc store_pg_look_ahead(store_pg_t *self, const uint64_t *asked, size_t n_asked,
                           const uint64_t *ended, size_t n_ended);

/* Waits for the result of that look, if it is still to come. */
svc_rc store_pg_fetch_ahead(store_pg_t *self);

/* Runs a statement. *changed (may be NULL): rows that it has changed, or, if it is one that ends with a SELECT, gave. */
svc_rc store_pg_run(store_pg_t *self, pg_slot slot, const char *sql,
                    const svc_pg_arg_t *args, size_t n, uint64_t *changed);

/* Columns of an answer, in the order in which the functions below read them, and where they come from. */
#define STORE_PG_ANSWER                                                                                \
    "a.stream, c.user_id, a.conversation, a.message_id, a.state, a.term, a.fence, a.attempt, a.owner," \
    " a.llm, a.length, a.asked_ms, a.question_bytes, a.stop_wanted, a.finish, a.prompt_tokens,"        \
    " a.completion_tokens, a.total_tokens, a.reason, a.text, a.retry_after_s, a.body_hash, a.key,"     \
    " a.stop_alone"
#define STORE_PG_ANSWERS      \
    "SELECT " STORE_PG_ANSWER \
    " FROM answer a JOIN conversation c ON c.id = a.conversation"

/* Runs a statement that reads the columns of answers and hands out each row. */
svc_rc store_pg_answers(store_pg_t *self, pg_slot slot, const char *sql,
                        const svc_pg_arg_t *args, size_t n, convo_answer_fn *fn,
                        void *arg);

/* The functions of the seam that stand in the other files. */
svc_rc pg_conversation_add(convo_store_t *base, const conversation_row_t *row);
svc_rc pg_conversation_get(convo_store_t *base, uint64_t id, convo_conversation_fn *fn,
                           void *arg);
svc_rc pg_conversation_of_key(convo_store_t *base, uint64_t user, svc_str key,
                              convo_conversation_fn *fn, void *arg);
svc_rc pg_conversation_remove(convo_store_t *base, uint64_t id);
svc_rc pg_list_version(convo_store_t *base, uint64_t user, uint64_t *out);
svc_rc pg_conversation_list(convo_store_t *base, uint64_t user, uint64_t after,
                            convo_conversation_fn *fn, void *arg);
svc_rc pg_question_add(convo_store_t *base, const answer_row_t *row, svc_str question,
                       uint64_t version, uint64_t *message_out);
svc_rc pg_question_text(convo_store_t *base, uint64_t conversation, uint64_t message,
                        uint64_t from, convo_text_fn *fn, void *arg);
svc_rc pg_answer_get(convo_store_t *base, svc_str stream, convo_answer_fn *fn, void *arg);
svc_rc pg_answer_at(convo_store_t *base, uint64_t conversation, uint64_t message,
                    convo_answer_fn *fn, void *arg);
svc_rc pg_answer_replace(convo_store_t *base, const answer_row_t *row, uint64_t version);
svc_rc pg_answer_of_key(convo_store_t *base, uint64_t conversation, svc_str key,
                        convo_answer_fn *fn, void *arg);
svc_rc pg_answer_active(convo_store_t *base, uint64_t user, convo_answer_fn *fn,
                        void *arg);
svc_rc pg_answer_unfinished(convo_store_t *base, convo_answer_fn *fn, void *arg);
svc_rc pg_answer_text(convo_store_t *base, svc_str stream, uint64_t from,
                      convo_text_fn *fn, void *arg);
svc_rc pg_answer_step(convo_store_t *base, const answer_step_t *step, uint64_t raise);
svc_rc pg_answer_steps(convo_store_t *base, const answer_step_t *steps, size_t n,
                       uint64_t raise, svc_rc *rcs);
svc_rc pg_answer_restart(convo_store_t *base, svc_str stream, uint64_t term,
                         uint64_t fence, uint64_t new_fence, uint64_t attempt);
svc_rc pg_answer_stop(convo_store_t *base, svc_str stream);
svc_rc pg_lease_renew(convo_store_t *base, uint64_t instance, uint64_t ms,
                      bool *lapsed_out);
svc_rc pg_lease_drop(convo_store_t *base, uint64_t instance);
svc_rc pg_answer_owned(convo_store_t *base, uint64_t owner, convo_answer_fn *fn,
                       void *arg);
svc_rc pg_answer_take_over(convo_store_t *base, uint64_t owner, size_t max,
                           convo_answer_fn *fn, void *arg);

#endif
