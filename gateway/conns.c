/* conns.c - the life of every client connection of a reactor, from accept to close.
 *
 * One epoll descriptor stands in the loop for all sockets at the gate and for all that
 * are watched while suspended; both are edge-triggered, since the gate only peeks.
 * Each phase has one list, oldest first, because its time-out is the same for all: the
 * sweep looks at the heads only. A connection that ran out of time is shut down;
 * whoever reads from it sees the end and closes. */
#include "conns.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zmq.h>

#define SWEEP_MS          250
#define LINGER_MS         2000       /* to read our refusal before the socket is closed */
#define LINGER_MAX_BYTES  (1u << 20) /* of rest that is read and dropped meanwhile */
#define ACCEPTS_PER_TURN  64         /* then others get their turn */
#define EVENTS_PER_TURN   256
#define ACCEPT_PAUSE_MS   100 /* when descriptors have run out */
#define LENGTH_MAX_DIGITS 18  /* fits 64 bits with ease */
#define STREAM_SNDBUF_BYTES \
    (64 << 10) /* the kernel would take 4 MB for a client that never reads */

struct conn {
    conns_t *conns;        /* whose it is */
    int fd;                /* the socket; libmicrohttpd's once handed over */
    client_addr_t addr;    /* of the peer */
    conn_phase phase;      /* see the drawing in the header */
    uint64_t since_ms;     /* when it entered the phase */
    conn_t *prev, *next;   /* in its phase's list */
    size_t scanned, lines; /* GATE: bytes and line ends seen; LINGER: bytes dropped */
    struct sockaddr_storage sockaddr; /* of the peer */
    void *request;    /* who wants to know that the client left; NULL: not watched */
    bool counted;     /* in the limit per address */
    bool half_closed; /* the client sends no more */
    bool cut; /* shut down by us: a second time would be news to epoll, again and again */
};

typedef struct {
    conn_t *first, *last; /* oldest, youngest */
} conn_list_t;

struct conns {
    svc_ctx_t *ctx;                    /* loop, log, metrics */
    conn_limit_t *limit;               /* shared */
    const client_trust_t *trust;       /* shared */
    conns_hooks_t hooks;               /* the owner's */
    int listen_fd;                     /* owned; -1: accepts no more */
    int epoll_fd;                      /* owned */
    uint32_t max;                      /* connections */
    size_t n;                          /* connections */
    conn_list_t lists[CONN_PHASES];    /* owned */
    uint64_t timeout_ms[CONN_PHASES];  /* 0: none */
    conn_t **by_fd;                    /* owned array */
    size_t n_by_fd;                    /* its size */
    uint64_t sweep_timer, pause_timer; /* 0: none */
    char *peeked;                      /* owned; CONN_HEADERS_MAX_BYTES */
};

static void on_accept(void *arg, short events);

/* --- lists -------------------------------------------------------------------------------- */

static void
unlink_conn(conn_t *conn)
{
    conn_list_t *list = &conn->conns->lists[conn->phase];

    *(conn->prev != NULL ? &conn->prev->next : &list->first) = conn->next;
    *(conn->next != NULL ? &conn->next->prev : &list->last) = conn->prev;
    conn->prev = conn->next = NULL;
}

static void
link_conn(conn_t *conn, conn_phase phase)
{
    conn_list_t *list = &conn->conns->lists[phase];

    conn->phase = phase;
    conn->since_ms = svc_loop_now_ms(conn->conns->ctx->loop);
    conn->prev = list->last;
    *(list->last != NULL ? &list->last->next : &list->first) = conn;
    list->last = conn;
}

void
conn_enter(conn_t *self, conn_phase phase)
{
    unlink_conn(self);
    link_conn(self, phase);
    /* libmicrohttpd 0.9.75 may have missed it: it reads on an edge and stops at a short read. */
    if (phase == CONN_IDLE && self->half_closed)
        conn_cut(self);
}

void
conn_cut(conn_t *self)
{
    if (!self->cut)
        shutdown(self->fd, SHUT_RDWR);
    self->cut = true;
}

/* --- birth and death ---------------------------------------------------------------------- */

static void
remember_fd(conns_t *self, conn_t *conn)
{
    size_t fd = (size_t)conn->fd;

    if (fd >= self->n_by_fd) {
        size_t n = fd + 256;
        conn_t **bigger = svc_alloc(n * sizeof *bigger);
        if (self->by_fd != NULL)
            memcpy(bigger, self->by_fd, self->n_by_fd * sizeof *bigger);
        free(self->by_fd);
        self->by_fd = bigger;
        self->n_by_fd = n;
    }
    self->by_fd[fd] = conn;
}

static conn_t *
new_conn(conns_t *self, int fd, const struct sockaddr_storage *addr)
{
    conn_t *conn = svc_alloc(sizeof *conn);

    conn->conns = self;
    conn->fd = fd;
    conn->sockaddr = *addr;
    conn->addr = client_addr_of((const struct sockaddr *)addr);
    remember_fd(self, conn);
    link_conn(conn, CONN_GATE);
    self->n++;
    return conn;
}

void
conns_closed(conns_t *self, conn_t *conn)
{
    if (conn == NULL)
        return;
    unlink_conn(conn);
    if (conn->counted)
        conn_limit_leave(self->limit, &conn->addr);
    self->by_fd[conn->fd] = NULL;
    self->n--;
    free(conn);
}

/* Closes a connection that was never handed over. */
static void
close_conn(conn_t *conn)
{
    int fd = conn->fd;

    conns_closed(conn->conns, conn);
    close(fd);
}

conn_t *
conns_adopted(conns_t *self, int fd)
{
    return fd >= 0 && (size_t)fd < self->n_by_fd ? self->by_fd[fd] : NULL;
}

size_t
conns_count(const conns_t *self)
{
    return self->n;
}

const client_addr_t *
conn_addr(const conn_t *self)
{
    return &self->addr;
}

/* --- the gate ----------------------------------------------------------------------------- */

/* Sends a refusal before there is a request to answer; what does not fit into the
 * socket at once is lost. */
static void
send_refusal(int fd, svc_rc rc, const char *sentence)
{
    char text[512];
    char body[256];
    const svc_rc_info_t *info = svc_rc_info(rc);
    const char *reason = info->http == 431   ? "Request Header Fields Too Large"
                         : info->http == 400 ? "Bad Request"
                                             : "Service Unavailable";
    int n_body = snprintf(body, sizeof body, "{\"error\":\"%s\",\"code\":\"%s\"}",
                          sentence, info->wire);
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=utf-8\r\n"
                     "Content-Length: %d\r\n%sConnection: close\r\n\r\n%s",
                     info->http, reason, n_body,
                     info->http == 503 ? "Retry-After: 1\r\n" : "", body);

    if (send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return;
    shutdown(fd, SHUT_WR);
}

typedef enum {
    HEADERS_PARTIAL,
    HEADERS_COMPLETE,
    HEADERS_TOO_BIG,
    HEADERS_NO_HTTP,
    HEADERS_BAD_LENGTH,
    HEADERS_CLOSED
} headers;

/* "METHOD target HTTP/1.1": on anything else libmicrohttpd waits for more until the
 * time is over. */
static bool
is_request_line(const char *bytes, size_t n)
{
    const char *end = memchr(bytes, '\n', n);
    size_t at = 0;
    size_t line = end == NULL ? 0 : (size_t)(end - bytes);

    while (at < line && bytes[at] >= 'A' && bytes[at] <= 'Z')
        at++;
    if (at == 0 || at >= line || bytes[at] != ' ' || memchr(bytes, '\0', line) != NULL)
        return false;
    const char *target = bytes + at + 1;
    const char *space = memchr(target, ' ', line - at - 1);
    return space != NULL && space > target && bytes + line - space > 6 &&
           memcmp(space, " HTTP/", 6) == 0;
}

/* False when a Content-Length is no number that a body can have: libmicrohttpd's own answer to that is a page of
 * HTML with two heads. */
static bool
has_good_length(const char *bytes, size_t n)
{
    static const char name[] = "content-length:";
    const char *line = bytes, *end = bytes + n;

    while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        line++;
        if ((size_t)(end - line) < sizeof name - 1 ||
            strncasecmp(line, name, sizeof name - 1) != 0)
            continue;
        const char *at = line + sizeof name - 1;
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        size_t digits = 0;
        while (at + digits < end && at[digits] >= '0' && at[digits] <= '9')
            digits++;
        at += digits;
        while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
            at++;
        if (digits == 0 || digits > LENGTH_MAX_DIGITS || at == end || *at != '\n')
            return false;
    }
    return true;
}

/* Looks at what has come, leaving it in the socket. */
static headers
peek_headers(conn_t *conn)
{
    char *bytes = conn->conns->peeked;
    ssize_t got = recv(conn->fd, bytes, CONN_HEADERS_MAX_BYTES, MSG_PEEK | MSG_DONTWAIT);

    if (got == 0)
        return HEADERS_CLOSED;
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? HEADERS_PARTIAL : HEADERS_CLOSED;
    size_t n = (size_t)got;
    for (size_t i = conn->scanned; i < n; i++) {
        if (bytes[i] != '\n')
            continue;
        if ((i >= 1 && bytes[i - 1] == '\n') ||
            (i >= 2 && bytes[i - 1] == '\r' && bytes[i - 2] == '\n'))
            return conn->lines > CONN_HEADER_LINES_MAX ? HEADERS_TOO_BIG
                   : has_good_length(bytes, i + 1)     ? HEADERS_COMPLETE
                                                       : HEADERS_BAD_LENGTH;
        if (conn->lines++ == 0 && !is_request_line(bytes, n))
            return HEADERS_NO_HTTP;
    }
    conn->scanned = n;
    return n == CONN_HEADERS_MAX_BYTES ? HEADERS_TOO_BIG : HEADERS_PARTIAL;
}

/* Gives the connection to libmicrohttpd and goes on watching whether its client closes
 * it. */
static void
hand_over(conn_t *conn, bool is_waiting)
{
    conns_t *self = conn->conns;
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = conn};
    socklen_t n = conn->sockaddr.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                       : sizeof(struct sockaddr_in);

    conn_enter(conn, CONN_HEADERS);
    (void)epoll_ctl(self->epoll_fd, is_waiting ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, conn->fd,
                    &event);
    if (!self->hooks.hand_over(self->hooks.arg, conn->fd,
                               (struct sockaddr *)&conn->sockaddr, n) &&
        conns_adopted(self, conn->fd) == conn)
        conns_closed(self, conn); /* the descriptor is closed already */
}

static void
refuse(conn_t *conn, svc_rc rc, const char *sentence)
{
    send_refusal(conn->fd, rc, sentence);
    conn->scanned = 0;
    conn_enter(conn, CONN_LINGER);
}

/* Reads and drops what the client still sends, so that closing does not destroy the
 * refusal on its way. */
static void
linger(conn_t *conn)
{
    for (;;) {
        ssize_t got = recv(conn->fd, conn->conns->peeked, CONN_HEADERS_MAX_BYTES,
                           MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        conn->scanned += got > 0 ? (size_t)got : 0;
        if (got <= 0 || conn->scanned > LINGER_MAX_BYTES)
            break;
    }
    close_conn(conn);
}

/* A connection at the gate has something to read. `is_waiting`: its descriptor is in
 * the epoll set. */
static void
check_gate(conn_t *conn, bool is_waiting)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                                .data.ptr = conn};
    int epoll_fd = conn->conns->epoll_fd;

    switch (peek_headers(conn)) {
    case HEADERS_CLOSED: close_conn(conn); return;
    case HEADERS_COMPLETE: hand_over(conn, is_waiting); return;
    case HEADERS_TOO_BIG:
        refuse(conn, RC_HEADERS_TOO_BIG, "The request headers are too large");
        break;
    case HEADERS_NO_HTTP: refuse(conn, RC_INVALID, "This is no HTTP request"); break;
    case HEADERS_BAD_LENGTH:
        refuse(conn, RC_INVALID, "The Content-Length is no length");
        break;
    case HEADERS_PARTIAL: break;
    }
    if (!is_waiting && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) != 0)
        close_conn(conn);
    else if (conn->phase == CONN_LINGER)
        linger(conn);
}

static bool
is_exempt(const conns_t *self, const client_addr_t *addr)
{
    return client_addr_is_loopback(addr) || client_trust_has(self->trust, addr);
}

static void
welcome(conns_t *self, int fd, const struct sockaddr_storage *addr)
{
    client_addr_t from = client_addr_of((const struct sockaddr *)addr);
    bool exempt = is_exempt(self, &from);
    int one = 1;

    if (self->n >= self->max || (!exempt && !conn_limit_enter(self->limit, &from))) {
        svc_metrics_add(self->ctx->metrics, SVC_M_HTTP_CONNECTIONS_REFUSED, 1);
        send_refusal(fd, RC_BUSY, "Too many connections, try again");
        close(fd);
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    conn_t *conn = new_conn(self, fd, addr);
    conn->counted = !exempt;
    check_gate(conn, false);
}

static void
resume_accepting(void *arg, short events)
{
    conns_t *self = arg;

    (void)events;
    self->pause_timer = 0;
    if (self->listen_fd >= 0)
        svc_loop_add_fd(self->ctx->loop, self->listen_fd, ZMQ_POLLIN, on_accept, self);
}

static void
on_accept(void *arg, short events)
{
    conns_t *self = arg;

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && self->listen_fd >= 0; i++) {
        struct sockaddr_storage addr = {0};
        socklen_t n = sizeof addr;
        int fd = accept4(self->listen_fd, (struct sockaddr *)&addr, &n,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(self, fd, &addr);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            svc_log_warn(self->ctx->log, "cannot accept a connection: %s",
                         strerror(errno));
            svc_loop_remove_fd(self->ctx->loop, self->listen_fd);
            self->pause_timer = svc_loop_after(self->ctx->loop, ACCEPT_PAUSE_MS,
                                               resume_accepting, self);
            return;
        }
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

/* --- watching and sweeping ---------------------------------------------------------------- */

void
conn_watch(conn_t *self, void *request)
{
    self->request = request;
}

void
conn_unwatch(conn_t *self)
{
    self->request = NULL;
}

void
conn_prepare_stream(conn_t *self, uint32_t silence_s)
{
    int sndbuf = STREAM_SNDBUF_BYTES, on = 1, probes = 3;
    int idle_s = silence_s / 2 > 0 ? (int)(silence_s / 2) : 1;
    int interval_s = silence_s / 6 > 0 ? (int)(silence_s / 6) : 1;

    setsockopt(self->fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf);
    setsockopt(self->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(self->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(self->fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(self->fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

void
conn_cut_if_silent(conn_t *self, uint32_t silence_s)
{
    struct tcp_info info = {0};
    socklen_t n = sizeof info;

    if (getsockopt(self->fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 &&
        info.tcpi_unacked > 0 && info.tcpi_last_ack_recv >= silence_s * 1000)
        conn_cut(self);
}

/* The client sends no more (`half`), or has gone altogether. */
static void
on_closed_by_client(conn_t *conn, bool half)
{
    conns_t *self = conn->conns;

    conn->half_closed = true;
    if (conn->phase == CONN_IDLE)
        conn_cut(conn);
    else if (conn->request != NULL)
        self->hooks.gone(self->hooks.arg, conn->request, half);
}

static void
on_events(void *arg, short events)
{
    conns_t *self = arg;
    struct epoll_event ready[EVENTS_PER_TURN];
    int n = epoll_wait(self->epoll_fd, ready, EVENTS_PER_TURN, 0);

    (void)events;
    for (int i = 0; i < n;
         i++) { /* a connection is in `ready` once and frees no other one */
        conn_t *conn = ready[i].data.ptr;
        if (conn->phase == CONN_GATE)
            check_gate(conn, true);
        else if (conn->phase == CONN_LINGER)
            linger(conn);
        else
            on_closed_by_client(conn, (ready[i].events & (EPOLLHUP | EPOLLERR)) == 0);
    }
}

static void
on_sweep(void *arg, short events)
{
    conns_t *self = arg;
    uint64_t now = svc_loop_now_ms(self->ctx->loop);

    (void)events;
    for (conn_phase phase = CONN_GATE; phase < CONN_PHASES; phase++) {
        uint64_t timeout_ms = self->timeout_ms[phase];
        conn_t *conn = self->lists[phase].first;
        while (timeout_ms > 0 && conn != NULL && now - conn->since_ms >= timeout_ms) {
            if (phase != CONN_LINGER && phase != CONN_IDLE)
                svc_metrics_add(self->ctx->metrics, SVC_M_HTTP_TIMEOUTS, 1);
            if (phase == CONN_GATE || phase == CONN_LINGER) {
                close_conn(conn);
            } else {
                conn_cut(conn);
                conn_enter(conn, CONN_BUSY); /* its end is libmicrohttpd's business now */
            }
            conn = self->lists[phase].first;
        }
    }
}

/* --- life of the whole -------------------------------------------------------------------- */

conns_t *
conns_new(svc_ctx_t *ctx, int listen_fd, uint32_t max, conn_limit_t *limit,
          const client_trust_t *trust, const conns_hooks_t *hooks)
{
    conns_t *self = svc_alloc(sizeof *self);
    const svc_config_t *config = ctx->config;

    self->ctx = ctx;
    self->limit = limit;
    self->trust = trust;
    self->hooks = *hooks;
    self->listen_fd = listen_fd;
    self->max = max;
    self->peeked = svc_alloc(CONN_HEADERS_MAX_BYTES);
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    SVC_ASSERT(self->epoll_fd >= 0);
    self->timeout_ms[CONN_GATE] = self->timeout_ms[CONN_HEADERS] =
        1000ull * config->server_header_timeout_s;
    self->timeout_ms[CONN_BODY] = 1000ull * config->server_body_timeout_s;
    self->timeout_ms[CONN_IDLE] = 1000ull * config->server_idle_timeout_s;
    self->timeout_ms[CONN_LINGER] = LINGER_MS;
    svc_loop_add_fd(ctx->loop, listen_fd, ZMQ_POLLIN, on_accept, self);
    svc_loop_add_fd(ctx->loop, self->epoll_fd, ZMQ_POLLIN, on_events, self);
    self->sweep_timer = svc_loop_every(ctx->loop, SWEEP_MS, on_sweep, self);
    return self;
}

void
conns_stop_accepting(conns_t *self)
{
    if (self->listen_fd >= 0) {
        svc_loop_remove_fd(self->ctx->loop, self->listen_fd);
        close(self->listen_fd);
        self->listen_fd = -1;
    }
    svc_loop_cancel(self->ctx->loop, self->pause_timer);
    self->pause_timer = 0;
    while (self->lists[CONN_GATE].first != NULL)
        close_conn(self->lists[CONN_GATE].first);
    for (conn_t *conn = self->lists[CONN_IDLE].first; conn != NULL; conn = conn->next)
        conn_cut(conn);
}

void
conns_destroy(conns_t **self_p)
{
    conns_t *self = *self_p;

    if (self == NULL)
        return;
    conns_stop_accepting(self);
    while (self->lists[CONN_LINGER].first != NULL)
        close_conn(self->lists[CONN_LINGER].first);
    for (conn_phase phase = CONN_GATE; phase < CONN_PHASES; phase++)
        while (self->lists[phase].first != NULL)
            conns_closed(self, self->lists[phase].first);
    svc_loop_cancel(self->ctx->loop, self->sweep_timer);
    svc_loop_remove_fd(self->ctx->loop, self->epoll_fd);
    close(self->epoll_fd);
    free(self->by_fd);
    free(self->peeked);
    free(self);
    *self_p = NULL;
}
