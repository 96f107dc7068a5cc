/* proto.h - the wire contract, for the compiler: operations, messages, bounds, schemas, codec.
 *
 * PROTOCOL.md says the same for people; `make lint` compares the two. Every message is a C
 * struct of views plus a table of its fields; one codec reads and writes all of them from the
 * tables. Bodies are msgpack maps with short string keys, envelopes and token frames are
 * arrays. A decoded message borrows the bytes it was decoded from and, for lists, the arena.
 * No sockets here. Reentrant; an arena belongs to one thread at a time. */
#ifndef PROTO_PROTO_H
#define PROTO_PROTO_H

#include "proto/base.h"

// clang-format off
#define PROTO_VERSION              1
#define PROTO_STREAM_BYTES         16                /* stream id: 128 random bits */
#define PROTO_TRACE_BYTES          16                /* trace id, as W3C trace context has it */
#define PROTO_ENVELOPE_MAX_BYTES   256
#define PROTO_MESSAGE_MAX_BYTES    (48u << 20)       /* ZMQ_MAXMSGSIZE of every socket: the largest prompt and some */
#define PROTO_DEPTH_MAX            8                 /* nesting of a body */
#define PROTO_OP_MAX_BYTES         32
#define PROTO_ERROR_TEXT_MAX_BYTES 2048
#define PROTO_WORD_MAX_BYTES       64                /* codes, finish reasons, names and versions: cut what comes from outside */
#define PROTO_COUNTERS_MAX         1024              /* counters in one svc.stats reply */
#define PROTO_PATTERNS_MAX         1024              /* model patterns of all providers together */
#define PROTO_USERNAME_MAX_BYTES   256               /* 64 code points of 4 bytes */
#define PROTO_PASSWORD_MAX_BYTES   1024              /* login: what cannot match is a 401, not an error of form */
#define PROTO_ADDRESS_MAX_BYTES    64
#define PROTO_TOKEN_MAX_BYTES      4096
#define PROTO_TICKET_MAX_BYTES     512
#define PROTO_KEY_MAX_BYTES        32                /* a request key: random, or the hash of the client's */
#define PROTO_ACTIVE_MAX           1000              /* unfinished answers in one convo.active reply */
#define PROTO_TITLE_MAX_BYTES      4096
#define PROTO_MODEL_MAX_BYTES      256
#define PROTO_API_KEY_MAX_BYTES    1024
#define PROTO_QUESTION_MAX_BYTES   (8u << 20)        /* ceiling of server.max_body_bytes */
#define PROTO_ANSWER_MAX_BYTES     (16u << 20)
#define PROTO_PROMPT_MAX_BYTES     (32u << 20)       /* all texts of one prompt together */
#define PROTO_PROMPT_MAX_MESSAGES  20000
#define PROTO_PAGE_MAX_BYTES       (64u << 10)       /* replay, read, tail: one page of text */
#define PROTO_PIECE_MAX_BYTES      (1u << 20)        /* journal: one piece */
#define PROTO_JSON_PAGE_MAX_BYTES  (512u << 10)      /* list, history: one page of ready JSON */
#define PROTO_ID_MAX               9007199254740991u /* 2^53 - 1: what a JavaScript number holds */
// clang-format on

/* --- codec ------------------------------------------------------------------------------ */

typedef enum {
    PROTO_BOOL, /* bool */
    PROTO_U64,  /* uint64_t; min and max bound the value */
    PROTO_STR,  /* svc_str of valid UTF-8; min and max bound the bytes */
    PROTO_BIN,  /* svc_str of any bytes; min and max bound the bytes */
    PROTO_ENUM, /* int, written as its name; `sub` is a NULL-terminated array of names */
    PROTO_LIST, /* proto_list_t of structs; `sub` is their schema, max bounds the count */
} proto_type;

typedef struct {
    const char *key; /* short string key in the map */
    proto_type type; /* of the field */
    bool required;   /* absent: RC_INVALID; an optional one that is zero is not written */
    uint64_t min, max; /* inclusive, see proto_type; an optional field may be zero, too */
    size_t where;      /* offsetof in the struct */
    const void *sub;   /* names or item schema, see proto_type */
} proto_field_t;

typedef struct {
    const char *name;            /* of the message, for logs */
    const proto_field_t *fields; /* rows */
    size_t n_fields;             /* count of rows */
    size_t size;                 /* of the struct */
} proto_schema_t;

/* A decoded or to-be-encoded list of structs. */
typedef struct {
    void *items; /* array; in a decoded message it belongs to the arena */
    size_t n;    /* count */
} proto_list_t;

/* Scratch memory of decoded messages. Give one to many decodes in turn: each decode empties it first. */
typedef struct proto_arena proto_arena_t;

/* Gives an arena. */
proto_arena_t *proto_arena_new(void);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void proto_arena_destroy(proto_arena_t **self_p);

/* Decodes a body. Checks type, bound, presence, duplicates, depth, declared counts and trailing bytes; unknown keys
 * are skipped. `out` (schema->size bytes) is written only on RC_OK and borrows `bytes` and the arena, which
 * the next decode with it empties. Errors: RC_INVALID, RC_TOO_BIG. */
svc_rc proto_decode(const proto_schema_t *schema, svc_str bytes, proto_arena_t *arena,
                    void *out) SVC_MUST_CHECK;

/* Appends the encoded body to `out`, enforcing the same bounds: RC_TOO_BIG, RC_INVALID; `out` is unchanged then. */
svc_rc proto_encode(const proto_schema_t *schema, const void *msg,
                    svc_buf_t *out) SVC_MUST_CHECK;

/* --- envelope: what every message begins with ---------------------------------------------- */

typedef enum { PROTO_REQUEST, PROTO_PARTIAL, PROTO_FINAL, PROTO_ERROR } proto_kind;

typedef struct {
    uint64_t version;    /* PROTO_VERSION */
    uint64_t kind;       /* proto_kind; unknown ones are skipped by the reader */
    uint64_t id;         /* of the request, chosen by its sender; 0: no reply is wanted */
    svc_str op;          /* request only: operation by name */
    svc_str trace;       /* request only: PROTO_TRACE_BYTES raw bytes */
    uint64_t expires_ms; /* request only: Unix ms after which nobody waits any more */
    uint64_t
        moved_ms; /* request only: Unix ms from which another replica may have been asked the same; 0: never */
} proto_envelope_t; /* request: [version kind id op trace expires moved?], reply: [version kind id] */

/* Decodes the envelope that a message begins with; borrows `message`. *body_out: what follows it.
 * Elements that are not known are skipped. RC_INVALID otherwise; no allocation. */
svc_rc proto_envelope_decode(svc_str message, proto_envelope_t *out,
                             svc_str *body_out) SVC_MUST_CHECK;

/* Appends an encoded envelope. RC_INVALID when op or trace are out of bounds. */
svc_rc proto_envelope_encode(const proto_envelope_t *envelope,
                             svc_buf_t *out) SVC_MUST_CHECK;

/* --- token: on PUB, after the topic (the stream's 16 raw bytes) in the same frame --------- */

typedef enum {
    PROTO_TOKEN_TEXT,
    PROTO_TOKEN_REASON,
    PROTO_TOKEN_MARK,
    PROTO_TOKEN_END
} proto_token_kind;

typedef struct {
    uint64_t version; /* PROTO_VERSION */
    svc_str stream;   /* PROTO_STREAM_BYTES */
    uint64_t fence;   /* which text */
    uint64_t offset;  /* of the first byte; mark and end: length of the text so far */
    uint64_t kind;    /* proto_token_kind; unknown ones are skipped by the reader */
    svc_str bytes;    /* whole UTF-8 characters; empty in mark and end */
} proto_token_t;      /* [version stream fence offset kind bytes] */

/* Decodes a token frame; borrows `bytes`; no allocation. RC_INVALID otherwise. */
svc_rc proto_token_decode(svc_str bytes, proto_token_t *out) SVC_MUST_CHECK;

/* Appends an encoded token frame. */
svc_rc proto_token_encode(const proto_token_t *token, svc_buf_t *out) SVC_MUST_CHECK;

/* --- operations and messages ---------------------------------------------------------------- */

#define OP_SVC_HELLO     "svc.hello"
#define OP_SVC_PING      "svc.ping"
#define OP_SVC_STATS     "svc.stats"
#define OP_AUTH_REGISTER "auth.register"
#define OP_AUTH_LOGIN    "auth.login"
#define OP_AUTH_VERIFY   "auth.verify"
#define OP_AUTH_TICKET   "auth.ticket"
#define OP_AUTH_REDEEM   "auth.redeem"
#define OP_CONVO_CREATE  "convo.create"
#define OP_CONVO_LIST    "convo.list"
#define OP_CONVO_HISTORY "convo.history"
#define OP_CONVO_DELETE  "convo.delete"
#define OP_CONVO_ASK     "convo.ask"
#define OP_CONVO_WATCH   "convo.watch"
#define OP_CONVO_READ    "convo.read"
#define OP_CONVO_TAIL    "convo.tail"
#define OP_CONVO_STOP    "convo.stop"
#define OP_CONVO_RETRY   "convo.retry"
#define OP_CONVO_ACTIVE  "convo.active"
#define OP_CONVO_UNWATCH "convo.unwatch"
#define OP_LLM_GENERATE  "llm.generate"
#define OP_LLM_ATTACH    "llm.attach"
#define OP_LLM_ACK       "llm.ack"
#define OP_LLM_STOP      "llm.stop"
#define OP_LLM_REPLAY    "llm.replay"
#define OP_LLM_MODELS    "llm.models"

/* May a request be sent to another replica when the first one went down without a reply?
 * An operation that is not known: no. */
bool proto_op_is_idempotent(const char *op);

/* A message without fields (requests and replies that say all by arriving). */
typedef struct {
    char nothing; /* C has no empty struct */
} empty_t;

/* Body of every PROTO_ERROR. */
typedef struct {
    svc_str code;           /* svc_rc_info(rc)->wire */
    svc_str text;           /* one sentence for a person, English; may be empty */
    uint64_t retry_after_s; /* 0: not said */
} error_rep_t;

/* svc.*: every service answers these. hello is the first request on every connection. */
typedef struct {
    svc_str service;   /* folder name of the sender */
    uint64_t instance; /* random id of this start of the process */
    svc_str version;   /* for logs */
} hello_t;             /* request and reply */

typedef struct {
    uint64_t instance; /* of the replier */
    bool draining;     /* gets no new work */
} ping_rep_t;

typedef struct {
    svc_str name;   /* of the counter */
    uint64_t value; /* since the start */
} counter_t;

typedef struct {
    proto_list_t counters; /* of counter_t */
} stats_rep_t;

/* auth.* */
typedef struct {
    svc_str username; /* any bytes of UTF-8; auth-svc judges the form */
    svc_str password; /* likewise */
    svc_str key;      /* asking again with it is asking once; may be empty */
} register_req_t;

typedef struct {
    uint64_t user; /* id of the new user */
} register_rep_t;

typedef struct {
    svc_str username, password; /* as the client sent them */
    svc_str address;            /* of the client, for throttling */
} login_req_t;

typedef struct {
    svc_str token;      /* JWT */
    uint64_t expires_s; /* Unix seconds */
} login_rep_t;

typedef struct {
    svc_str token; /* JWT */
} verify_req_t;

typedef struct {
    uint64_t user;      /* whose token it is */
    uint64_t expires_s; /* Unix seconds; nobody may cache the verdict past it */
} verify_rep_t;

typedef struct {
    uint64_t user, conversation; /* whose stream it opens */
    uint64_t expires_s;          /* Unix seconds: of the token that it stands for */
} ticket_req_t;

typedef struct {
    svc_str ticket;        /* a secret; fit for a URL */
    uint64_t expires_in_s; /* for opening a stream */
} ticket_rep_t;

typedef struct {
    svc_str ticket; /* as the client sent it */
} redeem_req_t;

typedef struct {
    uint64_t user, conversation; /* as it was made for */
    uint64_t open_until_s; /* Unix seconds: afterwards it is good for reconnects only */
    uint64_t expires_s;    /* Unix seconds: of the token that it stands for */
} redeem_rep_t;

/* convo.* */
typedef struct {
    uint64_t user;
    svc_str title, model, api_key; /* api_key may be empty */
    svc_str key;                   /* asking again with it is asking once; may be empty */
} create_req_t;

typedef struct {
    uint64_t conversation; /* 1..PROTO_ID_MAX, random */
    uint64_t created_s;    /* Unix seconds */
} create_rep_t;

typedef struct {
    uint64_t user;
    uint64_t cursor; /* 0: from the start, else `next` of the page before */
} list_req_t;

typedef struct {
    svc_str json;  /* the pages' bytes, one after another, are the response's body */
    uint64_t next; /* cursor of the next page, 0: this was the last */
} list_rep_t;

typedef struct {
    uint64_t user;
    uint64_t conversation;
    uint64_t message; /* cursor: both 0 from the start, else as the page before told */
    uint64_t offset;
} history_req_t;

typedef struct {
    svc_str json;          /* as in list_rep_t */
    uint64_t next_message; /* cursor of the next page */
    uint64_t next_offset;
    bool more; /* false: this was the last page */
} history_rep_t;

typedef struct {
    uint64_t user;
    uint64_t conversation;
} conversation_req_t; /* delete, stop */

typedef struct {
    uint64_t user;
    uint64_t conversation;
    svc_str text;    /* the question */
    svc_str stream;  /* chosen by the gateway: topic and idempotency key */
    svc_str key;     /* of the client: the same one joins the answer that it began */
    bool stop_alone; /* stop the answer when nobody has watched it for a while */
} ask_req_t;

typedef struct {
    uint64_t user;
    uint64_t conversation;
    svc_str stream;  /* as in ask_req_t, of the new answer */
    svc_str key;     /* likewise */
    bool stop_alone; /* likewise */
} retry_req_t;

typedef struct {
    uint64_t user;
    uint64_t conversation;
    svc_str stream; /* empty: the latest answer */
} watch_req_t;

typedef struct {
    svc_str stream; /* that nobody watches any more through this connection */
} unwatch_req_t;    /* sent with id 0: never answered */

typedef struct {
    uint64_t user; /* whose answers */
} active_req_t;

typedef enum {
    ANSWER_WAITING,
    ANSWER_STREAMING,
    ANSWER_COMPLETE,
    ANSWER_STOPPED,
    ANSWER_INTERRUPTED
} answer_state;
extern const char
    *const answer_state_names[]; /* "waiting" … in the enum's order, NULL-terminated */

/* True for the three states that an answer never leaves. */
static inline bool
answer_state_is_terminal(int state)
{
    return state >= ANSWER_COMPLETE;
}

typedef struct {
    uint64_t prompt, completion, total; /* tokens by the provider; all 0: not told */
} usage_t; /* flattened on the wire: prompt_tokens, completion_tokens, total_tokens */

/* What an answer is right now. Reply of ask, watch, stop. */
typedef struct {
    svc_str stream;   /* PROTO_STREAM_BYTES */
    uint64_t message; /* message_id of the answer */
    int state;        /* answer_state */
    uint64_t length;  /* journaled bytes: all of the text when terminal */
    uint64_t fence;   /* which text; 0 before the first generation */
    bool lost; /* its llm-svc is gone: hand in (convo.tail) what you hold past length */
    svc_str finish; /* terminal: the provider's finish_reason, or "stopped", "length" */
    usage_t usage;  /* as the provider told */
    svc_str reason; /* interrupted: wire name of an svc_rc */
    svc_str text;   /* interrupted: the sentence that goes with it */
    uint64_t retry_after_s; /* interrupted by a rate limit: as the provider told */
    uint64_t owner;         /* instance of the convo-svc that runs it; 0: not told */
    uint64_t llm;           /* instance of the llm-svc that writes it; 0: not known */
} status_rep_t;

/* One answer that is being written. */
typedef struct {
    uint64_t conversation;
    svc_str stream;    /* PROTO_STREAM_BYTES */
    uint64_t message;  /* message_id of the answer */
    int state;         /* answer_state */
    uint64_t length;   /* journaled bytes */
    uint64_t asked_ms; /* Unix ms of the question */
} active_answer_t;

typedef struct {
    proto_list_t answers; /* of active_answer_t, newest first */
} active_rep_t;

typedef struct {
    uint64_t user;
    svc_str stream;
    uint64_t from; /* offset in bytes */
} read_req_t;

typedef struct {
    uint64_t from; /* as asked */
    svc_str bytes; /* at most PROTO_PAGE_MAX_BYTES; empty at the end of what is stored */
    int state;     /* answer_state */
    uint64_t length; /* journaled bytes */
} read_rep_t;

typedef struct {
    svc_str stream;
    uint64_t fence;
    uint64_t from; /* offset of bytes */
    svc_str bytes; /* at most PROTO_PAGE_MAX_BYTES */
} tail_req_t;

/* llm.* */
typedef enum { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT } message_role;
extern const char
    *const message_role_names[]; /* "system" … in the enum's order, NULL-terminated */

typedef struct {
    int role;     /* message_role */
    svc_str text; /* of one message */
} prompt_message_t;

typedef struct {
    svc_str stream;
    uint64_t fence;
    uint64_t term;
    svc_str model;
    svc_str key;           /* the conversation's own api key, may be empty; a secret */
    proto_list_t messages; /* of prompt_message_t */
} generate_req_t;

typedef struct {
    svc_str stream;
    uint64_t fence;
    uint64_t term;
    uint64_t from; /* what the journal already holds */
} attach_req_t;

/* Reply of generate and attach: PARTIAL {from bytes}, FINAL with the rest. */
typedef struct {
    uint64_t from;  /* offset of bytes */
    svc_str bytes;  /* whole UTF-8 characters, at most PROTO_PIECE_MAX_BYTES */
    svc_str finish; /* FINAL: finish_reason, "stopped", "length"; empty on error */
    usage_t usage;  /* as the provider told */
    svc_str error;  /* FINAL: wire name of an svc_rc; empty: all went well */
    svc_str text;   /* FINAL: the sentence that goes with it */
    uint64_t retry_after_s; /* FINAL: the provider's Retry-After */
    svc_str
        trace; /* first after llm.attach: of the question, if known; empty: not said */
} journal_rep_t;

typedef struct {
    svc_str stream;
    uint64_t fence;
    uint64_t term;
    uint64_t journaled; /* all bytes before this offset are committed */
    bool stored;        /* the end is committed, too: forget the stream */
} ack_req_t;            /* sent with id 0: never answered */

typedef struct {
    svc_str stream;
    uint64_t fence;
    uint64_t term;
} llm_stop_req_t;

typedef struct {
    svc_str stream;
    uint64_t fence;
    uint64_t from;
} replay_req_t;

typedef struct {
    uint64_t from; /* as asked */
    svc_str bytes; /* at most PROTO_PAGE_MAX_BYTES of released text; empty: no more yet */
    uint64_t released; /* offset up to which text may be shown */
} replay_rep_t;

typedef struct {
    svc_str pattern; /* glob over model names */
} model_pattern_t;

typedef struct {
    proto_list_t patterns; /* of model_pattern_t, first match wins */
} models_rep_t;

extern const proto_schema_t empty_schema, error_rep_schema, hello_schema, ping_rep_schema,
    counter_schema, stats_rep_schema;
extern const proto_schema_t register_req_schema, register_rep_schema, login_req_schema,
    login_rep_schema, verify_req_schema, verify_rep_schema, ticket_req_schema,
    ticket_rep_schema, redeem_req_schema, redeem_rep_schema;
extern const proto_schema_t create_req_schema, create_rep_schema, list_req_schema,
    list_rep_schema, history_req_schema, history_rep_schema, conversation_req_schema,
    ask_req_schema, watch_req_schema, status_rep_schema, read_req_schema, read_rep_schema,
    tail_req_schema, retry_req_schema, unwatch_req_schema, active_req_schema,
    active_answer_schema, active_rep_schema;
extern const proto_schema_t prompt_message_schema, generate_req_schema, attach_req_schema,
    journal_rep_schema, ack_req_schema, llm_stop_req_schema, replay_req_schema,
    replay_rep_schema, model_pattern_schema, models_rep_schema;

#endif
