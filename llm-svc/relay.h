/* relay.h - HTTP POSTs whose responses are streams: many at once, on the service's own loop.
 *
 * One libcurl multi handle: connections are reused, HTTP/2 over TLS is multiplexed,
 * names are resolved on threads of libcurl's. Its sockets stand in one epoll descriptor
 * of the loop. Knows HTTP, retries and time-outs, but not what a body means: that is
 * provider_openai.c's. Certificates are verified; redirects, cookies and every protocol
 * but http and https are refused.
 *
 * Retried, at most twice and before the first byte of a good response only: a connection
 * that cannot be made or breaks, and 502, 503, 504. Thread: the loop's. */
#ifndef LLM_SVC_RELAY_H
#define LLM_SVC_RELAY_H

#include "svc/svc_ctx.h"

#define RELAY_ERROR_BODY_MAX_BYTES (64u << 10) /* of an error response; then cut */
#define RELAY_CONNECTIONS_MAX      256 /* idle connections kept for the next request */

typedef struct relay relay_t;
typedef struct relay_transfer relay_transfer_t;

/* What to send. Everything is borrowed for the call, but `body`, which is taken (and
 * emptied). */
typedef struct {
    const char *url;     /* http:// or https:// */
    const char *ca_file; /* "" : the system's certificates */
    svc_str bearer;      /* Authorization; empty: none. A secret */
    svc_log_about_t
        about; /* for the log; the trace goes along as traceparent and X-Request-Id */
    svc_buf_t *body;        /* JSON */
    uint64_t connect_ms;    /* to make a connection, its name looked up */
    uint64_t first_byte_ms; /* from the start to the first byte of the body */
    uint64_t idle_ms;       /* between bytes of the body */
} relay_request_t;

/* How it ended. */
typedef enum {
    RELAY_DONE,   /* a 2xx response, whole */
    RELAY_STATUS, /* a response with another status: `status`, `body`, `retry_after_s` */
    RELAY_UNREACHABLE, /* no connection: `why` */
    RELAY_BROKEN,      /* the connection broke: `why` */
    RELAY_TIMEOUT,     /* one of the three times was over: `why` */
} relay_outcome;

typedef struct {
    relay_outcome outcome;  /* see there */
    long status;            /* of the response; 0: none */
    svc_str body;           /* of an error response, cut */
    uint64_t retry_after_s; /* of an error response; 0: not told */
    const char *why;        /* one phrase for people; never NULL */
    svc_buf_t *
        request; /* the body that was sent, empty when the answer had begun; done may take it for another
                           request */
} relay_result_t;

/* Who is told. */
typedef struct {
    /* Bytes of a 2xx body, as they come. May cancel the transfer. */
    void (*body)(void *arg, svc_str bytes);
    /* It is over; last call, the transfer is freed when it returns. */
    void (*done)(void *arg, const relay_result_t *result);
} relay_sink_t;

#define RELAY_RETRIES_MAX 2 /* after the first attempt */

/* What llm-svc waits before each of them. */
extern const uint64_t relay_usual_pauses_ms[RELAY_RETRIES_MAX];

/* Gives a relay on ctx's loop, which must not run any more once it is destroyed. Keeps ctx and `pauses_ms`, which
 * it waits before retries. */
relay_t *relay_new(svc_ctx_t *ctx, const uint64_t pauses_ms[RELAY_RETRIES_MAX]);

/* Closes all connections; transfers end without a call. Sets *self_p to NULL. NULL-safe. */
void relay_destroy(relay_t **self_p);

/* Begins a request; `sink` (borrowed for the transfer's life) gets `arg`, never inside
 * this call. Gives the transfer. */
relay_transfer_t *relay_start(relay_t *self, const relay_request_t *request,
                              const relay_sink_t *sink, void *arg);

/* Ends a transfer without another call. Safe inside the sink's functions, except after
 * done. */
void relay_cancel(relay_transfer_t *transfer);

/* From now on at most `ms` until the end; what still comes is nobody's. Made for the
 * rest behind [DONE]: read to the end the connection can be used again. The sink gets no
 * body any more, but done. */
void relay_drain(relay_transfer_t *transfer, uint64_t ms);

#endif
