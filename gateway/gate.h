/* gate.h - what the first bytes of a request say, before anybody serves it.
 *
 * Pure: bytes in, a verdict out, and the words of a refusal. Headers are judged by their
 * size, their form, and Content-Length, since these are what libmicrohttpd answers with a
 * page of its own, or overlooks. The first request of a connection begins with its first byte. A
 * later one may not: its beginning may have come with the request before it and stand in
 * libmicrohttpd's buffer. So of a later one only what is surely wrong is refused, and what
 * does not begin like a request is nobody's business here. Reentrant. */
#ifndef GATEWAY_GATE_H
#define GATEWAY_GATE_H

#include "proto/base.h"

/* Request line and headers: a token of 6 KB and cookies pass. */
#define GATE_HEADERS_MAX_BYTES (12u << 10)
#define GATE_HEADER_LINES_MAX \
    100 /* with the arguments of the query: libmicrohttpd keeps 64 bytes for each */

#define GATE_REFUSAL_BYTES 640 /* of a refusal at most */

typedef enum {
    GATE_MORE,       /* the headers do not end yet */
    GATE_PASS,       /* they are here and can be served */
    GATE_NO_HTTP,    /* this is no request line; of a later request: not to be judged */
    GATE_TOO_BIG,    /* too many bytes or lines */
    GATE_BAD_HEADER, /* a line is no header, or could be read in two ways */
    GATE_BAD_LENGTH, /* Content-Length is no length */
    GATE_FULL,       /* never a verdict on bytes: there are too many connections */
    GATE_PLAIN,      /* likewise: the client does not speak TLS */
} gate_verdict;

/* How far a request has been read; all zero: a connection's first one. */
typedef struct {
    bool is_later; /* not the connection's first request */
    size_t seen;   /* bytes that were looked at */
    size_t lines;  /* line ends among them */
} gate_t;

/* Judges what has come of a request so far: all of it each time, at most
 * GATE_HEADERS_MAX_BYTES. */
gate_verdict gate_judge(gate_t *self, const char *bytes, size_t n);

/* Writes the answer to one of the last six verdicts; gives its bytes. `id`: its X-Request-Id, at most 64 bytes, "" : none.
 * The connection is to be closed behind it. */
size_t gate_refusal(gate_verdict why, const char *id, char out[GATE_REFUSAL_BYTES]);

#endif
