/* bench_http.h - HTTP/1.1 connections of the load, on one epoll.
 *
 * A connection sends one request at a time and hands out the body of the answer as it comes, without
 * its chunk framing. It is opened when first used, kept alive when the server allows it, and opened
 * again when not. Everything happens on the thread that calls bench_http_turn(). */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bench_http bench_http_t;

typedef enum { HTTP_IDLE, HTTP_SENDING, HTTP_HEAD, HTTP_BODY } bench_http_state;
typedef enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER } bench_chunk_state;

/* One connection. The owner reads status and begun_us, the rest is bench_http.c's. */
typedef struct {
    uint32_t index;          /* which one of its bench_http_t */
    int status;              /* of the answer */
    uint64_t begun_us;       /* when the request was sent */
    int fd;                  /* -1: not connected */
    bench_http_state state;  /* where it is */
    char *out;               /* request; owned */
    size_t out_n;            /* bytes of it */
    size_t out_at;           /* bytes sent */
    char *head;              /* headers so far; owned */
    size_t head_n;           /* bytes of them */
    bool keep;               /* the server keeps the connection open */
    bool chunked;            /* the body is */
    bool to_end;             /* the body ends with the connection */
    bench_chunk_state chunk; /* where in its framing */
    uint64_t left;           /* bytes of the body, or of the chunk, or read of its size */
    size_t line_n;           /* bytes of the trailer's line */
    void *user;              /* the owner's */
} bench_conn_t;

typedef struct {
    /* n bytes of the body came. False: they are wrong, the connection is given up. */
    bool (*on_body)(bench_conn_t *conn, const char *bytes, size_t n);
    /* The answer is complete, or (fault != NULL) will not be. May begin the next request. */
    void (*on_end)(bench_conn_t *conn, const char *fault);
} bench_http_calls_t;

/* Makes n connections to an address; none is opened yet. */
bench_http_t *bench_http_new(const struct sockaddr_in *to, uint32_t n,
                             const bench_http_calls_t *calls);

/* Closes all of them; sets *self_p to NULL. */
void bench_http_destroy(bench_http_t **self_p);

/* Connection i. */
bench_conn_t *bench_http_conn(bench_http_t *self, uint32_t i);

/* Sends a request: borrows its bytes. The connection must be idle. */
void bench_http_send(bench_http_t *self, bench_conn_t *conn, const char *bytes, size_t n);

/* Gives up what the connection is doing, without a call of on_end. */
void bench_http_drop(bench_http_t *self, bench_conn_t *conn);

/* Waits at most so long for events and handles them. */
void bench_http_turn(bench_http_t *self, int timeout_ms);

#endif
