/* convo_store.h - the seam to the database: conversations, questions, answers and their text.
 *
 * A store is one connection, used by one thread. The writer's thread owns the only one that
 * writes; each reader's thread has its own. The store knows rows and transactions, nothing of
 * messages, JSON or live answers. Everything that changes something is called between begin and
 * commit. RC_UNAVAILABLE from any function means the disk or the database failed (full, I/O
 * error): nothing of the transaction may be acknowledged then.
 *
 * Rows are handed to a function; their views are good until it returns. */
#ifndef CONVO_STORE_H
#define CONVO_STORE_H

#include "proto/proto.h"
#include "svc/svc_config.h"
#include "svc/svc_log.h"

#include <stdatomic.h>

#define CONVO_ATTEMPTS_MAX 3   /* generations of one answer, the first included */
#define CONVO_STEPS_MAX    128 /* steps that a store takes at once */
#define CONVO_SYSTEM_MESSAGE \
    1 /* messages of a prompt besides the turns and the question */

/* One conversation. */
typedef struct {
    uint64_t id;           /* 1..PROTO_ID_MAX, random */
    uint64_t seq;          /* order of insertion; given by the store */
    uint64_t user;         /* owner */
    uint64_t created_s;    /* Unix seconds */
    uint64_t version;      /* raised by whatever changes its history for good */
    uint64_t last_message; /* message_id of the last answer, 0: nothing asked yet */
    uint64_t
        turns; /* questions with a stored answer that is not empty: what a prompt repeats */
    uint64_t turn_bytes;  /* of those questions and answers together */
    bool answering;       /* its latest answer is not terminal */
    svc_str title, model; /* as created */
    svc_str sealed_key;   /* api key as seal.h makes it; empty: none */
    svc_str
        key; /* under which create was asked, at most PROTO_KEY_MAX_BYTES; empty: none */
    svc_str body_hash; /* of what was asked with that key; empty: no key */
} conversation_row_t;

/* One answer, without its text. */
typedef struct {
    svc_str stream;        /* PROTO_STREAM_BYTES */
    uint64_t user;         /* owner of the conversation */
    uint64_t conversation; /* whose answer it is */
    uint64_t message;      /* message_id */
    int state;             /* answer_state */
    uint64_t term, fence;  /* who may write, which text */
    uint64_t attempt;      /* generation, from 1 */
    uint64_t owner,
        llm; /* instances: of the convo-svc that asked, of the llm-svc that wrote last */
    uint64_t length;         /* journaled bytes */
    uint64_t asked_ms;       /* Unix ms of the question's commit */
    uint64_t question_bytes; /* of the question */
    bool stop_wanted;        /* committed by convo.stop */
    bool fresh;              /* not stored: the job that tells of it has just added it */
    svc_str
        prompt; /* not stored: of a fresh one, its generate_req encoded; empty: still to be built */
    svc_str finish;         /* terminal: as the provider said */
    usage_t usage;          /* likewise */
    svc_str reason, text;   /* interrupted: wire name and sentence */
    uint64_t retry_after_s; /* likewise */
    svc_str body_hash; /* of the question: a stream is joined only by the same words */
    svc_str key;       /* under which it was asked; empty: none */
    bool stop_alone;   /* stop it when nobody watches */
} answer_row_t;

/* One step of an answer: text at its end, a new state, or both. */
typedef struct {
    svc_str stream; /* which answer */
    uint64_t
        conversation;     /* of it: only so that rows are locked in order; 0: not known */
    uint64_t term, fence; /* must be the row's */
    int state;            /* must be the row's */
    uint64_t length;      /* must be the row's: bytes go there */
    svc_str bytes;        /* text, may be empty */
    uint64_t llm;         /* instance that wrote it */
    int next_state;       /* the row's from now on */
    svc_str finish;       /* the rest: as in answer_row_t, for a terminal next_state */
    usage_t usage;
    svc_str reason, text;
    uint64_t retry_after_s;
} answer_step_t;

typedef struct convo_store convo_store_t;

typedef svc_rc convo_conversation_fn(void *arg, const conversation_row_t *row);
typedef svc_rc convo_answer_fn(void *arg, const answer_row_t *row);

/* Receives a stretch of text; false: that was enough. */
typedef bool convo_text_fn(void *arg, svc_str bytes);

/* What a store can do. A function that hands out rows returns what its fn returned when that was not RC_OK. */
typedef struct {
    /* Closes the connection and frees it. */
    void (*destroy)(convo_store_t *self);

    /* Transactions. `write` takes the write lock at once; without it all reads see one moment. */
    svc_rc (*begin)(convo_store_t *self, bool write);
    svc_rc (*commit)(convo_store_t *self);
    void (*rollback)(convo_store_t *self);

    /* Right after begin(write): what is added from now on may be taken for granted, so that nobody waits for each single row;
     * `asked` are the conversations that will be looked at, `ended` those of steps that end an answer (CONVO_STEPS_MAX of both
     * together at most): they may be locked at once. settle(), or what is done later, or the commit tells whether all of it was
     * granted; RC_LATER: it was not, the transaction is to be rolled back and run again without haste. */
    svc_rc (*hasten)(convo_store_t *self, const uint64_t *asked, size_t n_asked,
                     const uint64_t *ended, size_t n_ended);
    svc_rc (*settle)(convo_store_t *self);

    /* A savepoint inside a transaction: save, then keep or undo. */
    svc_rc (*save)(convo_store_t *self);
    svc_rc (*keep)(convo_store_t *self);
    svc_rc (*undo)(convo_store_t *self);

    /* Outside a transaction: does what makes later commits and reads cheaper and may take its time. */
    void (*tidy)(convo_store_t *self);

    /* While the service starts, after RC_UNAVAILABLE or RC_BUSY: waits until it can be tried again. False: it makes no sense, this
     * database is not waited for; with *error (free() it) when there is something new to say. */
    bool (*await)(convo_store_t *self, char **error);

    /* Unix ms of the database's own clock: read now, when all that was done in this transaction before has its locks. It goes on
     * when our own stands still with a machine that is paused. */
    svc_rc (*clock)(convo_store_t *self, uint64_t *out);

    /* Rows changed so far by this connection: tells whether a function that failed has left something. */
    uint64_t (*changes)(const convo_store_t *self);

    /* Values that belong to the whole database; RC_NOT_FOUND when there is none. */
    svc_rc (*meta_get)(convo_store_t *self, const char *name, svc_buf_t *out);
    svc_rc (*meta_put)(convo_store_t *self, const char *name, svc_str value);

    /* Inserts a conversation; seq, last_message and the turns of `row` are ignored. RC_CONFLICT: the id or the key is taken. */
    svc_rc (*conversation_add)(convo_store_t *self, const conversation_row_t *row);

    /* Finds one. RC_NOT_FOUND. */
    svc_rc (*conversation_get)(convo_store_t *self, uint64_t id,
                               convo_conversation_fn *fn, void *arg);

    /* Finds the one that `user` made with this key. RC_NOT_FOUND. */
    svc_rc (*conversation_of_key)(convo_store_t *self, uint64_t user, svc_str key,
                                  convo_conversation_fn *fn, void *arg);

    /* Removes it with all that hangs on it. RC_NOT_FOUND. */
    svc_rc (*conversation_remove)(convo_store_t *self, uint64_t id);

    /* The version of a user's list, which every conversation added or removed raises; 0: there never was one. */
    svc_rc (*list_version)(convo_store_t *self, uint64_t user, uint64_t *out);

    /* All of a user, newest first; `after`: seq of the last one already seen (it may be gone meanwhile), 0: from the newest.
     * fn ends it by RC_LATER, which is returned. */
    svc_rc (*conversation_list)(convo_store_t *self, uint64_t user, uint64_t after,
                                convo_conversation_fn *fn, void *arg);

    /* Adds a question and its waiting answer behind the last message; `row` names all but user and message, `version` is the
     * conversation's from now on. *message_out: message_id of the answer. RC_CONFLICT: the stream exists or an answer is unfinished. */
    svc_rc (*question_add)(convo_store_t *self, const answer_row_t *row, svc_str question,
                           uint64_t version, uint64_t *message_out);

    /* Hands out a question's text from byte `from` on. RC_NOT_FOUND: no such question. */
    svc_rc (*question_text)(convo_store_t *self, uint64_t conversation, uint64_t message,
                            uint64_t from, convo_text_fn *fn, void *arg);

    /* Finds an answer by stream, or by its place. RC_NOT_FOUND. */
    svc_rc (*answer_get)(convo_store_t *self, svc_str stream, convo_answer_fn *fn,
                         void *arg);
    svc_rc (*answer_at)(convo_store_t *self, uint64_t conversation, uint64_t message,
                        convo_answer_fn *fn, void *arg);

    /* Puts a new waiting answer in the place of a terminal one: its row and text go, the conversation's turns no longer count it,
     * `version` is the conversation's from now on. `row` names all but user; message is the old answer's. RC_STALE: it is not
     * terminal, or not the latest; RC_CONFLICT: the stream exists. */
    svc_rc (*answer_replace)(convo_store_t *self, const answer_row_t *row,
                             uint64_t version);

    /* Finds an answer by conversation and request key. RC_NOT_FOUND. */
    svc_rc (*answer_of_key)(convo_store_t *self, uint64_t conversation, svc_str key,
                            convo_answer_fn *fn, void *arg);

    /* All unfinished answers of a user, newest first. */
    svc_rc (*answer_active)(convo_store_t *self, uint64_t user, convo_answer_fn *fn,
                            void *arg);

    /* All answers that are not terminal. */
    svc_rc (*answer_unfinished)(convo_store_t *self, convo_answer_fn *fn, void *arg);

    /* Hands out an answer's text from byte `from` on, chunk by chunk. */
    svc_rc (*answer_text)(convo_store_t *self, svc_str stream, uint64_t from,
                          convo_text_fn *fn, void *arg);

    /* Takes a step; a terminal one raises the conversation's version by `raise` and counts the turn. RC_STALE: the row is not
     * as the step says. */
    svc_rc (*answer_step)(convo_store_t *self, const answer_step_t *step, uint64_t raise);

    /* Takes up to CONVO_STEPS_MAX steps in their order; rcs[i] is what answer_step would have said. Anything but RC_OK returned:
     * the transaction cannot be gone on with (RC_LATER: none of it was like that; one by one they would tell). */
    svc_rc (*answer_steps)(convo_store_t *self, const answer_step_t *steps, size_t n,
                           uint64_t raise, svc_rc *rcs);

    /* Gives a waiting answer another fence and attempt. RC_STALE likewise. */
    svc_rc (*answer_restart)(convo_store_t *self, svc_str stream, uint64_t term,
                             uint64_t fence, uint64_t new_fence, uint64_t attempt);

    /* Notes that a stop is wanted. RC_STALE: it is terminal. */
    svc_rc (*answer_stop)(convo_store_t *self, svc_str stream);

    /* Leases: who owns answers and is alive, by the database's own clock. A store that serves one process only has none: renewing
     * works, and every owner but the caller is gone. `lapsed_out`: it had run out, so others may own what was ours. */
    svc_rc (*lease_renew)(convo_store_t *self, uint64_t instance, uint64_t ms,
                          bool *lapsed_out);
    svc_rc (*lease_drop)(convo_store_t *self, uint64_t instance);

    /* All unfinished answers of an owner. */
    svc_rc (*answer_owned)(convo_store_t *self, uint64_t owner, convo_answer_fn *fn,
                           void *arg);

    /* Makes at most `max` unfinished answers ours whose owner has no lease, each with the next term, and hands them out as they
     * are then. Inside a transaction; what another process takes at the same moment is left out. */
    svc_rc (*answer_take_over)(convo_store_t *self, uint64_t owner, size_t max,
                               convo_answer_fn *fn, void *arg);
} convo_store_api_t;

/* A store of any kind begins with this. */
struct convo_store {
    const convo_store_api_t *api; /* never NULL */
};

/* Closes a store and sets *self_p to NULL. NULL-safe. */
static inline void
convo_store_destroy(convo_store_t **self_p)
{
    if (*self_p != NULL)
        (*self_p)->api->destroy(*self_p);
    *self_p = NULL;
}

/* Where the database is. */
typedef struct {
    int driver;       /* svc_storage */
    const char *path; /* SQLite: of the file */
    const char *url;  /* PostgreSQL: a secret */
    const atomic_bool
        *stop; /* true ends every wait for a database that is away; may be NULL */
    atomic_uint_least64_t *
        away_ms; /* a store says here since when it waits for one (monotonic; 0: it does not); may be NULL */
} convo_place_t;

/* What to call the database in a message: the file, or "PostgreSQL". */
const char *convo_place_name(const convo_place_t *self);

/* What a store is opened for. */
typedef enum {
    STORE_READ,        /* the file must exist and is not changed */
    STORE_WRITE,       /* it is made and migrated, and may be changed */
    STORE_WRITE_PLAIN, /* likewise, without what only makes it faster (test.plain_paths) */
} store_use;

/* Opens the store of the place's driver; what `place` points at and `log` (may be NULL) outlive it. A PostgreSQL server that is
 * away is waited for, when the store is to write.
 * NULL with *error (free() it): one line that says why. */
convo_store_t *convo_store_open(const convo_place_t *place, store_use use, svc_log_t *log,
                                char **error);

/* The drivers. Opens the SQLite file at `path`; the rest as convo_store_open. */
convo_store_t *convo_store_sqlite_open(const char *path, store_use use, svc_log_t *log,
                                       char **error);

/* Opens the PostgreSQL database at place->url; likewise. */
convo_store_t *convo_store_postgresql_open(const convo_place_t *place, store_use use,
                                           svc_log_t *log, char **error);

#endif
