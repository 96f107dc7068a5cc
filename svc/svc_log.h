/* svc_log.h - structured logs on stderr: one line an event, text or JSON.
 *
 * Each write(2) has whole lines, and to what is no regular file at most PIPE_BUF bytes, so lines of many threads and processes do not mix. A
 * thread that runs a loop gathers the lines of requests and of what usually happens to answers for up to 5 ms; every
 * other line, warnings and errors among them, is written at once, after those before it. Values are escaped; callers never pass secrets or tokens. An error is logged once, where it is handled;
 * requests are logged by whoever answers them. What concerns one request carries its trace id, the same in every
 * service; what concerns one answer its stream, too, which outlives the request. Thread: any. */
#ifndef SVC_SVC_LOG_H
#define SVC_SVC_LOG_H

#include "proto/base.h"

#include <limits.h>

typedef enum { SVC_LOG_DEBUG, SVC_LOG_INFO, SVC_LOG_WARN, SVC_LOG_ERROR } svc_log_level;

typedef struct svc_log svc_log_t;

/* Gives a log on descriptor `fd` (borrowed). `service` (borrowed) stands in each line; `format` is a svc_log_format. */
svc_log_t *svc_log_new(int fd, const char *service, int format, svc_log_level level);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void svc_log_destroy(svc_log_t **self_p);

/* Events below `level` are swallowed from now on. */
void svc_log_set_level(svc_log_t *self, svc_log_level level);

/* From now on each line is written at once. Before threads use the log. */
void svc_log_set_plain(svc_log_t *self);

/* Are events of this level written? For what costs something to put together. A NULL log: no. */
bool svc_log_writes(const svc_log_t *self, svc_log_level level);

/* Writes one event: a sentence, formatted. Long ones are cut at 2 KiB. A NULL log swallows everything. */
void svc_log_event(svc_log_t *self, svc_log_level level, const char *fmt, ...)
    SVC_PRINTF(3, 4);

#define svc_log_debug(log, ...) svc_log_event((log), SVC_LOG_DEBUG, __VA_ARGS__)
#define svc_log_info(log, ...)  svc_log_event((log), SVC_LOG_INFO, __VA_ARGS__)
#define svc_log_warn(log, ...)  svc_log_event((log), SVC_LOG_WARN, __VA_ARGS__)
#define svc_log_error(log, ...) svc_log_event((log), SVC_LOG_ERROR, __VA_ARGS__)

/* What an event is about, as raw bytes; what is empty is not written. */
typedef struct {
    svc_str trace;  /* PROTO_TRACE_BYTES: the request that it comes from */
    svc_str stream; /* PROTO_STREAM_BYTES: the answer */
} svc_log_about_t;

/* The same as svc_log_event, with what it is about; below level warn it may be gathered. */
void svc_log_about(svc_log_t *self, svc_log_level level, const svc_log_about_t *about,
                   const char *fmt, ...) SVC_PRINTF(4, 5);

/* One served request. */
typedef struct {
    svc_str trace;      /* PROTO_TRACE_BYTES raw bytes; written as hex */
    const char *op;     /* operation, or method and route of HTTP: "POST /api/chat/:id" */
    const char *status; /* wire name of the result, or HTTP status */
    uint64_t us;        /* from receipt to answer */
    const char *peer;   /* who asked: service name or client address; NULL: not said */
    svc_str request_id; /* what the client calls it; empty: nothing */
    bool is_routine;    /* of the services among themselves: level debug */
} svc_log_request_t;

/* Writes the line of one request, at level info; of one that is routine at level debug. */
void svc_log_request(svc_log_t *self, const svc_log_request_t *request);

#define SVC_LOG_GATHER_BYTES 32768 /* what a loop has to say in 5 ms at full speed */

/* Lines that wait to be written together: under load one system call serves many. */
typedef struct svc_log_gather svc_log_gather_t;
struct svc_log_gather {
    svc_log_gather_t *outer; /* of this thread before, borrowed */
    int fd;                  /* where they go, when there are some */
    size_t n; /* bytes of them; PIPE_BUF at most if that is no regular file */
    char bytes[SVC_LOG_GATHER_BYTES]; /* whole lines */
};

/* From now on this thread's lines that may wait are gathered in `room` (borrowed until svc_log_gather_end). */
void svc_log_gather_begin(svc_log_gather_t *room);

/* Writes what this thread has gathered. Harmless when it gathers nothing. */
void svc_log_gather_write(void);

/* Writes what was gathered in `room`; from now on this thread's lines are written as before its begin. Harmless when
 * `room` is not what this thread gathers in. */
void svc_log_gather_end(svc_log_gather_t *room);

#endif
