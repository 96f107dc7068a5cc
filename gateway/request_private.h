/* request_private.h - a request as the three files that it lives in see it.
 *
 * request.c leads it from its headers to its log line; request_user.c finds out whose it is;
 * request_stream.c is how it waits, and how the body of a stream gets out. Nobody else includes this: handlers see only what
 * request.h tells. Thread: its reactor's. */
#ifndef GATEWAY_REQUEST_PRIVATE_H
#define GATEWAY_REQUEST_PRIVATE_H

#include "request.h"
#include "svc/svc_trace.h"

typedef enum {
    AT_HEADERS, /* the token is being checked */
    AT_BODY,    /* the body comes in */
    AT_HANDLER, /* the handler has been called */
    AT_ANSWER,  /* the response is queued */
} stage;

struct request {
    reactor_t *reactor;               /* where it lives */
    struct MHD_Connection *mhd;       /* its connection, as libmicrohttpd knows it */
    conn_t *conn;                     /* and as we do */
    request_t *prev, *next;           /* in the reactor's list */
    const route_t *route;             /* NULL: none fits */
    char method[12];                  /* for the log */
    uint64_t id;                      /* ":id" */
    bool id_is_bad;                   /* ":id" is no integer */
    bool is_http11;                   /* so its stream is chunked */
    text_language language;           /* of sentences */
    uint8_t trace[PROTO_TRACE_BYTES]; /* of its traceparent, or fresh */
    char id_text[SVC_REQUEST_ID_MAX_BYTES + 1]; /* X-Request-Id of its answer */
    bool has_own_id;            /* the client has named it; else it is the trace as hex */
    http_times_t times;         /* since when it is there, and how long it waited */
    uint64_t deadline_ms;       /* loop time: for its calls, until a stream has begun */
    uint64_t user;              /* 0: not known */
    uint64_t expires_s;         /* Unix: of its token */
    uint64_t open_until_s;      /* Unix: of its ticket; 0: none */
    svc_buf_t body;             /* owned */
    uint64_t body_seen;         /* bytes, dropped ones too */
    uint64_t body_max;          /* server.max_body_bytes as it began */
    stage at;                   /* see there */
    svc_peers_t *called;        /* whom it asked last */
    uint64_t call;              /* outstanding; 0: none */
    request_reply_fn *on_reply; /* of that */
    request_error_fn *on_error; /* likewise; NULL: none */
    struct MHD_Response *response; /* owned until queued; NULL: not answered */
    int status;                    /* of the answer; 0: none */
    bool close_now;                /* queue the answer before the body is read */
    /* What each token touches stands together from here on. */
    bool suspended;        /* its connection is */
    unsigned timeout_s;    /* libmicrohttpd's for the connection, see request_ask_first */
    bool is_events;        /* its answer is a stream that a person reads */
    bool gone;             /* the client has closed */
    bool doubted;          /* it has closed its sending side, maybe more */
    bool cut;              /* its stream must end badly */
    stream_body_t stream;  /* its body, if it has one */
    bool may_write;        /* its stream may be written to directly */
    bool is_direct;        /* it is, while the connection is suspended */
    bool is_blocked;       /* its socket takes no more, request_on_writable follows */
    bool was_blocked;      /* since its last write */
    int fd;                /* of its connection, once it has a stream */
    bool woken;            /* in the reactor's list of those to write to */
    request_t *next_woken; /* there */
    void *data;            /* the handler's */
    void (*drop)(void *data); /* NULL: none */
    void (*told)(void *data); /* that there is a doubt; NULL: nobody */
};

/* What its response depends on. */
response_context_t request_context(const request_t *self);

/* Takes the response (NULL: no memory for one) as the answer, unless there is one. */
void request_answer_with(request_t *self, int status, struct MHD_Response *response);

/* Finds out who asks: at once, or by a call; refuses it otherwise. */
void request_check_user(request_t *self);

/* Whether libmicrohttpd asks it for its answer as soon as it is resumed, before it reads. */
void request_ask_first(request_t *self, bool first);

/* Suspends its connection until request_wake. Only inside a call of libmicrohttpd. */
void request_suspend(request_t *self);

#endif
