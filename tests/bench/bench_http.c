/* bench_http.c - HTTP/1.1 connections of the load, on one epoll.
 *
 * Reads into one buffer for all connections, so that 5,000 of them cost no memory to speak of, and
 * calls out with slices of it. Sources are spread over 127.0.0.2 to 127.0.0.9 when the target is
 * on this machine: one address has 28,000 ports, which several rounds in a minute would use up. */
#include "bench_http.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench_text.h"

#define READ_BYTES     (256u << 10)
#define HEAD_MAX_BYTES 4096
#define EVENTS         512
#define SOURCES        8

struct bench_http {
    int ep;                   /* epoll */
    struct sockaddr_in to;    /* the server */
    bench_http_calls_t calls; /* the owner's */
    bench_conn_t *conns;      /* n of them */
    uint32_t n;               /* connections */
    char *in;                 /* READ_BYTES, for whoever reads */
};

bench_http_t *
bench_http_new(const struct sockaddr_in *to, uint32_t n, const bench_http_calls_t *calls)
{
    bench_http_t *self = calloc(1, sizeof(*self));

    if (!self || !(self->conns = calloc(n, sizeof(bench_conn_t))) ||
        !(self->in = malloc(READ_BYTES)))
        abort();
    self->ep = epoll_create1(EPOLL_CLOEXEC);
    self->to = *to;
    self->calls = *calls;
    self->n = n;
    for (uint32_t i = 0; i < n; i++) {
        self->conns[i].index = i;
        self->conns[i].fd = -1;
    }
    return self;
}

static void
disconnect(bench_conn_t *conn)
{
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
}

void
bench_http_destroy(bench_http_t **self_p)
{
    bench_http_t *self = *self_p;

    if (!self)
        return;
    for (uint32_t i = 0; i < self->n; i++) {
        disconnect(&self->conns[i]);
        free(self->conns[i].out);
        free(self->conns[i].head);
    }
    close(self->ep);
    free(self->conns);
    free(self->in);
    free(self);
    *self_p = NULL;
}

bench_conn_t *
bench_http_conn(bench_http_t *self, uint32_t i)
{
    return &self->conns[i];
}

void
bench_http_drop(bench_http_t *self, bench_conn_t *conn)
{
    (void)self;
    disconnect(conn);
    conn->state = HTTP_IDLE;
}

static void
finish(bench_http_t *self, bench_conn_t *conn, const char *fault)
{
    if (fault || !conn->keep)
        disconnect(conn);
    conn->state = HTTP_IDLE;
    self->calls.on_end(conn, fault);
}

static bool
connect_to(bench_http_t *self, bench_conn_t *conn)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    int one = 1;

    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        return false;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (ntohl(self->to.sin_addr.s_addr) >> 24 == 127) {
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + conn->index % SOURCES);
        setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
        if (bind(conn->fd, (struct sockaddr *)&from, sizeof(from)) != 0)
            return false;
    }
    if (connect(conn->fd, (struct sockaddr *)&self->to, sizeof(self->to)) != 0 &&
        errno != EINPROGRESS)
        return false;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = conn};
    return epoll_ctl(self->ep, EPOLL_CTL_ADD, conn->fd, &ev) == 0;
}

/* Sends what it can; asks for EPOLLOUT only while something is left. */
static const char *
send_rest(bench_http_t *self, bench_conn_t *conn, bool was_waiting)
{
    ssize_t n = send(conn->fd, conn->out + conn->out_at, conn->out_n - conn->out_at,
                     MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != ENOTCONN)
        return errno == ECONNREFUSED ? "connection refused" : "sending failed";
    if (n > 0)
        conn->out_at += (size_t)n;
    bool is_waiting = conn->out_at < conn->out_n;
    if (!is_waiting)
        conn->state = HTTP_HEAD;
    if (is_waiting != was_waiting) {
        struct epoll_event ev = {.events = EPOLLIN | (is_waiting ? EPOLLOUT : 0),
                                 .data.ptr = conn};
        epoll_ctl(self->ep, EPOLL_CTL_MOD, conn->fd, &ev);
    }
    return NULL;
}

void
bench_http_send(bench_http_t *self, bench_conn_t *conn, const char *bytes, size_t n)
{
    const char *fault = NULL;

    free(conn->out);
    conn->out = malloc(n);
    if (!conn->out)
        abort();
    memcpy(conn->out, bytes, n);
    conn->out_n = n;
    conn->out_at = 0;
    conn->head_n = 0;
    conn->status = 0;
    conn->state = HTTP_SENDING;
    conn->begun_us = bench_now_us();
    if (conn->fd >= 0)
        fault = send_rest(self, conn, false);
    if (conn->fd < 0 || fault) { /* a kept connection may have been closed meanwhile */
        disconnect(conn);
        conn->out_at = 0;
        if (!connect_to(self, conn))
            finish(self, conn, "connecting failed");
    }
}

static bool
read_head(bench_conn_t *conn, const char *head, const char *end)
{
    conn->keep = true;
    conn->chunked = false;
    conn->to_end = true;
    conn->left = 0;
    if (sscanf(head, "HTTP/1.%*c %3d", &conn->status) != 1)
        return false;
    for (const char *line = head; line < end;
         line = (const char *)memchr(line, '\n', (size_t)(end + 4 - line)) + 1) {
        if (strncasecmp(line, "content-length:", 15) == 0) {
            conn->left = strtoull(line + 15, NULL, 10);
            conn->to_end = false;
        } else if (strncasecmp(line, "transfer-encoding: chunked", 26) == 0) {
            conn->chunked = true;
            conn->to_end = false;
            conn->chunk = CHUNK_SIZE;
        } else if (strncasecmp(line, "connection: close", 17) == 0) {
            conn->keep = false;
        }
    }
    conn->keep = conn->keep && !conn->to_end;
    return true;
}

/* Collects headers; returns the bytes that were taken, SIZE_MAX when they are no headers. */
static size_t
take_head(bench_conn_t *conn, const char *bytes, size_t n)
{
    size_t before = conn->head_n;
    size_t take = n < HEAD_MAX_BYTES - before ? n : HEAD_MAX_BYTES - before;

    if (!conn->head && !(conn->head = malloc(HEAD_MAX_BYTES + 1)))
        abort();
    memcpy(conn->head + before, bytes, take);
    conn->head_n += take;
    conn->head[conn->head_n] = '\0';
    const char *end = memmem(conn->head, conn->head_n, "\r\n\r\n", 4);
    if (!end)
        return conn->head_n == HEAD_MAX_BYTES ? SIZE_MAX : take;
    conn->state = HTTP_BODY;
    if (!read_head(conn, conn->head, end))
        return SIZE_MAX;
    return (size_t)(end + 4 - conn->head) - before;
}

/* Takes the framing and the data of chunks; returns what is left over behind the end of the body,
 * or NULL with *fault set, or NULL when there is more to come. */
static const char *
take_chunks(bench_http_t *self, bench_conn_t *conn, const char *p, const char *end,
            const char **fault)
{
    while (p < end) {
        if (conn->chunk == CHUNK_DATA) {
            size_t n = (size_t)(end - p) < conn->left ? (size_t)(end - p)
                                                      : (size_t)conn->left;

            if (n > 0 && !self->calls.on_body(conn, p, n)) {
                *fault = "wrong";
                return NULL;
            }
            p += n;
            conn->left -= n;
            if (conn->left == 0)
                conn->chunk = CHUNK_END;
            continue;
        }
        char c = *p++;
        if (conn->chunk == CHUNK_SIZE && c >= '0' && c <= '9') {
            conn->left = conn->left << 4 | (uint64_t)(c - '0');
        } else if (conn->chunk == CHUNK_SIZE && (c | 32) >= 'a' && (c | 32) <= 'f') {
            conn->left = conn->left << 4 | (uint64_t)((c | 32) - 'a' + 10);
        } else if (c == '\n') {
            if (conn->chunk == CHUNK_TRAILER && conn->line_n == 0)
                return p;
            conn->line_n = 0;
            if (conn->chunk == CHUNK_SIZE)
                conn->chunk = conn->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
            else if (conn->chunk == CHUNK_END)
                conn->chunk = CHUNK_SIZE;
        } else if (c != '\r') {
            if (conn->chunk != CHUNK_TRAILER) {
                *fault = "broken chunk framing";
                return NULL;
            }
            conn->line_n++;
        }
    }
    return NULL;
}

/* Takes bytes that were read; a fault, or NULL. *ended: the answer is complete. */
static const char *
take_bytes(bench_http_t *self, bench_conn_t *conn, const char *p, size_t n, bool *ended)
{
    const char *end = p + n;
    const char *fault = NULL;

    if (conn->state == HTTP_IDLE)
        return "an answer without a request";
    if (conn->state != HTTP_BODY) {
        size_t taken = take_head(conn, p, n);

        if (taken == SIZE_MAX)
            return "broken headers";
        p += taken;
        if (conn->state != HTTP_BODY)
            return NULL;
    }
    if (conn->chunked) {
        p = take_chunks(self, conn, p, end, &fault);
        *ended = p != NULL;
        return !fault && p && p != end ? "bytes behind the answer" : fault;
    }
    n = (size_t)(end - p);
    if (!conn->to_end && n > conn->left)
        return "bytes behind the answer";
    if (n > 0 && !self->calls.on_body(conn, p, n))
        return "wrong";
    conn->left -= conn->to_end ? 0 : n;
    *ended = !conn->to_end && conn->left == 0;
    return NULL;
}

static void
on_readable(bench_http_t *self, bench_conn_t *conn)
{
    ssize_t n = recv(conn->fd, self->in, READ_BYTES, 0);
    bool ended = false;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        const char *fault = take_bytes(self, conn, self->in, (size_t)n, &ended);

        if (fault && conn->state == HTTP_IDLE)
            disconnect(conn);
        else if (fault || ended)
            finish(self, conn, fault);
    } else if (conn->state == HTTP_IDLE) {
        disconnect(conn);
    } else {
        bool whole = n == 0 && conn->state == HTTP_BODY && conn->to_end;
        finish(self, conn, whole ? NULL : "connection lost");
    }
}

void
bench_http_turn(bench_http_t *self, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(self->ep, events, EVENTS, timeout_ms);

    for (int i = 0; i < n; i++) {
        bench_conn_t *conn = events[i].data.ptr;
        const char *fault = NULL;

        if (conn->fd >= 0 && conn->state == HTTP_SENDING && events[i].events & EPOLLOUT)
            fault = send_rest(self, conn, true);
        if (fault)
            finish(self, conn, fault);
        else if (conn->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            on_readable(self, conn);
    }
}
