/* request.h - the life of one HTTP request, from its headers to its log line.
 *
 *   headers -> token (auth.verify, or a verdict kept from a moment ago) -> body -> handler
 *           -> suspended until a service replies -> answer, or a stream that is fed until it ends
 *
 * A connection is suspended whenever it waits; nobody else waits with it. Replies find
 * their request as long as it lives: when it ends, its call is forgotten. Every call
 * has a deadline, so that no request hangs. Thread: its reactor's. */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

#include "reactor.h"
#include "response.h"
#include "routes.h"
#include "stream_body.h"

typedef struct request request_t;

/* --- what it says ------------------------------------------------------------------------- */

/* The reactor it lives on. */
reactor_t *request_reactor(const request_t *self);

/* Whose token it carried; 0 on routes without one. */
uint64_t request_user(const request_t *self);

/* When its headers were there, monotonic. */
uint64_t request_began_us(const request_t *self);

/* From now on until it is answered it waits for others: for metrics. */
void request_waits(request_t *self);

/* The ":id" in its path. An integer past PROTO_ID_MAX is 0, which nothing has. */
uint64_t request_id(const request_t *self);

/* The body, whole. Only until the handler returns. */
svc_str request_body(const request_t *self);

/* A header's value, empty without it; as long as the request. */
svc_str request_header(const request_t *self, const char *name);

/* Does this header stand in it more than once? */
bool request_repeats_header(const request_t *self, const char *name);

/* A value of its query ("?name=value"), unescaped; empty without it; as long as the request. */
svc_str request_query(const request_t *self, const char *name);

/* What proves whose request it is: secrets, for auth-svc alone. */
typedef struct {
    svc_str secret; /* a token, or a ticket; empty: none. As long as the request */
    bool is_ticket; /* it came in the URL */
} request_pass_t;

/* Its token or ticket. */
request_pass_t request_pass(const request_t *self);

/* When that ends, Unix seconds. */
uint64_t request_expires_s(const request_t *self);

/* False: its ticket is too old for a stream that was not opened before. */
bool request_may_open(const request_t *self);

/* The language of its sentences. */
text_language request_language(const request_t *self);

/* Its trace id, PROTO_TRACE_BYTES. */
svc_str request_trace(const request_t *self);

/* Writes the client's address, believing trusted proxies. */
void request_client(const request_t *self, char out[CLIENT_ADDR_TEXT_BYTES]);

/* --- answering it ------------------------------------------------------------------------- */

/* Answers with JSON (copied). Only the first answer counts. */
void request_answer(request_t *self, int status, svc_str json);

/* Answers 204: there is nothing. */
void request_answer_nothing(request_t *self);

/* Adds a header to the answer that was just made. */
void request_answer_header(request_t *self, const char *name, const char *value);

/* Answers {"message": sentence}. */
void request_answer_text(request_t *self, int status, text_id text);

/* Answers with the error of a result; `told` and `retry_after_s` as of response_error. */
void request_refuse(request_t *self, svc_rc rc, svc_str told, uint64_t retry_after_s);

/* Answers with an error whose sentence is `text` with `arg`. */
void request_refuse_input(request_t *self, svc_rc rc, text_id text, const char *arg);

/* Answers with a body that `fill` makes; after STREAM_WAIT it is called again when the
 * request was woken. `is_events`: a chat stream: the client is watched, the socket's
 * buffers are kept small, and it is written to directly where that is possible. */
void request_answer_stream(request_t *self, const char *type, bool is_events,
                           stream_fill_fn *fill, void *arg);

/* There may be something to send: the request goes on if it waits. */
void request_wake(request_t *self);

/* True when its client has closed the connection, or the process stops: no answer will
 * be read. */
bool request_is_over(const request_t *self);

/* True when its stream shall end after the event that is being sent: the client has closed, or the process stops
 * soon. Until an event is whole it goes on. */
bool request_is_ending(const request_t *self);

/* Closes the connection of a client that has not acknowledged for gateway.keepalive_s what was sent
 * to it; request_on_gone follows. */
void request_cut_if_silent(request_t *self);

/* True once after the client has closed its sending side: something should be sent, so
 * that we learn whether it still listens. */
bool request_is_doubted(request_t *self);

/* Calls told(data) of request_keep when the client closes its sending side before there is
 * an answer (request_is_doubted is true then), or when streams shall end (request_is_ending). */
void request_on_doubt(request_t *self, void (*told)(void *data));

/* Ends a stream that has begun badly: the client shall see that something is missing. */
void request_cut(request_t *self);

/* Keeps a handler's data with the request: drop(data) is called once when it ends, for
 * whatever reason, the last moment to use it. */
void request_keep(request_t *self, void *data, void (*drop)(void *data));

/* What request_keep was given; NULL before. */
void *request_data(const request_t *self);

/* --- asking a service --------------------------------------------------------------------- */

/* Receives the reply of a call that went well; of several the first one, and the call
 * is forgotten. */
typedef void request_reply_fn(request_t *self, const void *rep);

/* Receives the error of a call. True: it has been dealt with. */
typedef bool request_error_fn(request_t *self, svc_rc rc);

typedef struct {
    reactor_peer peer;                /* whom */
    const char *op;                   /* OP_… */
    const proto_schema_t *req_schema; /* of req */
    const void *req;                  /* borrowed for the call */
    const proto_schema_t *rep_schema; /* of the reply */
    request_reply_fn *
        on_reply; /* else the request is refused with the error, or cut if its stream has begun */
    request_error_fn *on_error; /* before that; NULL: none */
    uint64_t instance;          /* only this replica; 0: any */
} request_call_t;

/* Asks a service, once at a time. What goes wrong, now or later, answers the request. */
void request_call(request_t *self, const request_call_t *call);

/* --- libmicrohttpd's callbacks; cls is the reactor_t ---------------------------------------- */

/* MHD_AccessHandlerCallback. */
enum MHD_Result request_on_http(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version,
                                const char *upload, size_t *upload_n, void **request_p);

/* MHD_RequestCompletedCallback: logs and frees. */
void request_on_completed(void *cls, struct MHD_Connection *mhd, void **request_p,
                          enum MHD_RequestTerminationCode why);

/* conns_hooks_t.gone. */
void request_on_gone(void *cls, void *request, bool half);

/* conns_hooks_t.writable. */
void request_on_writable(void *cls, void *request);

/* Writes to the streams that were woken since the last call; once a turn, so that what
 * comes in one turn is one write. Before libmicrohttpd runs: it ends them. */
void request_write_woken(reactor_t *reactor);

/* Streams shall end: wakes every request that has one, or may begin one. */
void request_end_streams(reactor_t *reactor);

/* The reactor stops: wakes every request, so that each can end. A stream whose client is behind may still get
 * the rest of its chunk, unless this is the last call. */
void request_end_all(reactor_t *reactor, bool is_last);

#endif
