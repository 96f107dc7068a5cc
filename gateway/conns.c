/* conns.c - the life of every client connection of a reactor, from accept to close.
 *
 * One epoll descriptor stands in the loop for all sockets at the gate and for all that
 * are watched while suspended; both are edge-triggered, since the gate only peeks. Who is
 * in which phase, and for too long, is conns_phase.c's business. */
#include "conns_private.h"

#include "client_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zmq.h>

#define LINGER_MAX_BYTES (1u << 20) /* of rest that is read and dropped meanwhile */
#define EVENTS_PER_TURN  256
#define WATCHED_EVENTS   (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* --- birth and death ---------------------------------------------------------------------- */

void
conn_cut(conn_t *self)
{
    bool is_between = self->phase == CONN_IDLE || self->phase == CONN_LAST ||
                      self->phase == CONN_LINGER || self->phase == CONN_HELD;

    if (!is_between)
        tls_wire_break(self->wire);
    if (!self->cut)
        shutdown(self->fd, SHUT_RDWR);
    self->cut = true;
}

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

/* There is one connection more, or less. */
static void
count(conns_t *self, size_t n)
{
    self->n = n;
    if (self->meeting != NULL)
        meeting_count(self->meeting, self->here, n);
}

static conn_t *
new_conn(conns_t *self, const meeting_guest_t *guest)
{
    conn_t *conn = svc_alloc(sizeof *conn);

    conn->conns = self;
    conn->fd = guest->fd;
    conn->wire = guest->wire;
    conn->counted = guest->counted;
    conn->unsent = -1;
    conn->sockaddr = guest->peer;
    conn->addr = client_addr_of((const struct sockaddr *)&guest->peer);
    remember_fd(self, conn);
    conn_link(conn, CONN_GATE);
    count(self, self->n + 1);
    return conn;
}

void
conns_closed(conns_t *self, conn_t *conn)
{
    if (conn == NULL)
        return;
    conn_unlink(conn);
    if (conn->counted)
        conn_limit_leave(self->limit, &conn->addr);
    self->by_fd[conn->fd] = NULL;
    count(self, self->n - 1);
    tls_wire_release(&conn->wire);
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

void
conn_serve(conn_t *self, void *server)
{
    self->server = server;
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

bool
conn_peek(const conn_t *self, size_t *n_out)
{
    ssize_t got = recv(self->fd, self->conns->peeked, GATE_HEADERS_MAX_BYTES,
                       MSG_PEEK | MSG_DONTWAIT);

    *n_out = got > 0 ? (size_t)got : 0;
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Gives the connection to the server and goes on watching whether its client closes it. */
static void
hand_over(conn_t *conn)
{
    conns_t *self = conn->conns;
    socklen_t n = conn->sockaddr.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                       : sizeof(struct sockaddr_in);

    conn_enter(conn, CONN_HEADERS);
    if (!self->hooks.hand_over(self->hooks.arg, conn->fd,
                               (struct sockaddr *)&conn->sockaddr, n) &&
        conns_adopted(self, conn->fd) == conn)
        conns_closed(self, conn); /* the descriptor is closed already */
}

static void
hold(conn_t *conn, conn_phase phase)
{
    const conns_hooks_t *hooks = &conn->conns->hooks;

    if (conn->phase == CONN_IDLE)
        hooks->hold(hooks->arg, conn->server);
    conn_enter(conn, phase);
}

static void
release(conn_t *conn, conn_phase phase)
{
    const conns_hooks_t *hooks = &conn->conns->hooks;

    conn_enter(conn, phase);
    hooks->release(hooks->arg, conn->server);
}

void
conn_end_at_gate(conn_t *self)
{
    if (self->server == NULL) {
        close_conn(self);
        return;
    }
    conn_cut(self);
    while (recv(self->fd, self->conns->peeked, GATE_HEADERS_MAX_BYTES, MSG_DONTWAIT) > 0)
        continue;
    release(self, CONN_BUSY); /* its end is the server's business now */
}

/* Reads and drops what the client still sends, so that closing does not destroy the refusal on its way. */
static void
linger(conn_t *conn)
{
    for (;;) {
        ssize_t got = recv(conn->fd, conn->conns->peeked, GATE_HEADERS_MAX_BYTES,
                           MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        conn->dropped += got > 0 ? (size_t)got : 0;
        if (got <= 0 || conn->dropped > LINGER_MAX_BYTES)
            break;
    }
    conn_end_at_gate(conn);
}

static void
refuse(conn_t *conn, gate_verdict why)
{
    hold(conn, CONN_LINGER);
    refusal_send(&conn->conns->refusals, conn->fd, why, &conn->addr);
    linger(conn);
}

/* The first request is here, `n` bytes of it in self->peeked. True: another reactor reads that answer already, and has
 * the connection now. It leaves our epoll set before: there the descriptor may be closed at once. */
static bool
send_away(conn_t *conn, size_t n)
{
    conns_t *self = conn->conns;
    meeting_guest_t guest = {conn->fd, conn->wire, conn->counted, conn->sockaddr};
    struct epoll_event event = {.events = WATCHED_EVENTS, .data.ptr = conn};
    size_t to;

    if (self->guests_fd < 0 || conn->is_guest)
        return false;
    to = meeting_place(self->meeting, (svc_str){self->peeked, n}, self->here);
    if (to == 0 || epoll_ctl(self->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL) != 0)
        return false;
    if (!meeting_send(self->meeting, self->here, to, &guest)) {
        (void)epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event);
        return false;
    }
    svc_metrics_add(self->ctx->metrics, SVC_M_VIEWERS_MOVED, 1);
    conn->counted = false; /* its place in the limit goes along */
    conn->wire = NULL;     /* likewise */
    conns_closed(self, conn);
    return true;
}

/* A connection at the gate has something to read. `is_closed`: and its client sends no more. */
static void
check_first(conn_t *conn, bool is_closed)
{
    size_t n;

    if (!conn_peek(conn, &n)) {
        close_conn(conn);
        return;
    }
    conn->half_closed |= is_closed;
    gate_verdict verdict = gate_judge(&conn->gate, conn->conns->peeked, n);
    if (verdict == GATE_PASS) {
        if (!send_away(conn, n))
            hand_over(conn);
    } else if (verdict != GATE_MORE) {
        refuse(conn, verdict);
    } else if (is_closed) {
        close_conn(conn);
    }
}

/* The same between two requests. What passes at once is left to the server, which reads
 * it in this turn; what has come in part only is taken from it until the rest is here. */
static void
check_next(conn_t *conn, bool is_closed)
{
    bool is_held = conn->phase == CONN_HELD;
    size_t n;

    conn->half_closed |= is_closed;
    if (!conn_peek(conn, &n)) {
        if (is_held)
            conn_end_at_gate(conn);
        else
            conn_cut(conn);
        return;
    }
    if (n == 0 || conn->server == NULL)
        return;
    if (!is_held)
        conn->gate = (gate_t){.is_later = true};
    gate_verdict verdict = gate_judge(&conn->gate, conn->conns->peeked, n);
    if (verdict == GATE_TOO_BIG || verdict == GATE_BAD_HEADER ||
        verdict == GATE_BAD_LENGTH) {
        refuse(conn, verdict);
    } else if (verdict == GATE_MORE) {
        if (!is_held)
            hold(conn, CONN_HELD);
        if (is_closed)
            conn_end_at_gate(conn);
    } else if (is_held) {
        release(conn, CONN_HEADERS);
    } else if (is_closed) {
        conn_enter(conn, CONN_LAST);
    }
}

static void
turn_away(conns_t *self, meeting_guest_t *guest)
{
    client_addr_t from = client_addr_of((const struct sockaddr *)&guest->peer);

    if (guest->counted)
        conn_limit_leave(self->limit, &from);
    svc_metrics_add(self->ctx->metrics, SVC_M_HTTP_CONNECTIONS_REFUSED, 1);
    refusal_send(&self->refusals, guest->fd, GATE_FULL, &from);
    close(guest->fd);
    tls_wire_release(&guest->wire);
}

static void
admit(conns_t *self, const meeting_guest_t *guest, bool is_guest)
{
    conn_t *conn = new_conn(self, guest);
    struct epoll_event event = {.events = WATCHED_EVENTS, .data.ptr = conn};

    conn->is_guest = is_guest;
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, guest->fd, &event) == 0)
        check_first(conn, false);
    else
        close_conn(conn);
}

/* Puts TLS before a client's socket. False: it was closed. */
static bool
wrap(conns_t *self, meeting_guest_t *guest, bool is_welcome)
{
    if (self->tls != NULL)
        guest->fd = tls_front_take(self->tls, guest->fd, is_welcome, &guest->wire);
    if (guest->fd < 0 && is_welcome)
        door_shut(self->door, DOOR_PAUSE_MS);
    return guest->fd >= 0;
}

static void
welcome(void *arg, int fd, const struct sockaddr_storage *peer)
{
    conns_t *self = arg;
    meeting_guest_t guest = {.fd = fd, .peer = *peer};
    client_addr_t from = client_addr_of((const struct sockaddr *)peer);
    bool exempt = client_addr_is_loopback(&from) || client_trust_has(self->trust, &from);
    bool has_room = self->n < self->max &&
                    (exempt || conn_limit_enter(self->limit, &from));

    guest.counted = has_room && !exempt;
    client_socket_welcome(fd);
    if (!wrap(self, &guest, has_room)) {
        if (guest.counted)
            conn_limit_leave(self->limit, &from);
    } else if (has_room) {
        admit(self, &guest, false);
    } else {
        turn_away(self, &guest);
    }
}

/* Takes those that other reactors have sent. The meeting leaves room, but so many may have come by themselves since. */
static void
receive(void *arg, short events)
{
    conns_t *self = arg;
    meeting_guest_t guest;

    (void)events;
    while (meeting_receive(self->meeting, self->here, &guest)) {
        if (self->n < self->max)
            admit(self, &guest, true);
        else
            turn_away(self, &guest);
    }
}

/* --- watching ----------------------------------------------------------------------------- */

void
conn_watch(conn_t *self, void *request)
{
    bool is_news = self->request == NULL && self->half_closed;

    self->request = request;
    if (is_news)
        self->conns->hooks.gone(self->conns->hooks.arg, request, true);
}

void
conn_unwatch(conn_t *self)
{
    self->request = NULL;
}

int
conn_fd(const conn_t *self)
{
    return self->fd;
}

void
conn_wait_writable(conn_t *self)
{
    struct epoll_event event = {.events = WATCHED_EVENTS | EPOLLOUT, .data.ptr = self};

    conn_enter(self, CONN_BLOCKED);
    self->unsent = conn_unsent(self);
    self->taken_ms = self->since_ms;
    self->wants_out = true;
    (void)epoll_ctl(self->conns->epoll_fd, EPOLL_CTL_MOD, self->fd, &event);
}

void
conn_writes(conn_t *self)
{
    if (self->phase == CONN_BLOCKED)
        conn_enter(self, CONN_BUSY);
}

void
conn_prepare_stream(conn_t *self, uint32_t silence_s, size_t backlog)
{
    int tcp = tls_wire_tcp(self->wire, self->fd);

    if (!self->is_prepared && tcp != self->fd) { /* two sockets hold bytes for it */
        backlog /= 2;
        client_socket_prepare_stream(tcp, silence_s, backlog);
    }
    if (!self->is_prepared)
        client_socket_prepare_stream(self->fd, silence_s, backlog);
    self->is_prepared = true;
}

bool
conn_is_prepared(const conn_t *self)
{
    return self->is_prepared;
}

void
conn_cut_if_silent(conn_t *self, uint32_t silence_s)
{
    if (client_socket_is_silent(tls_wire_tcp(self->wire, self->fd), silence_s))
        conn_cut(self);
}

/* Something has come from the client, or it sends no more, or it has gone altogether. */
static void
take_event(conn_t *conn, uint32_t events)
{
    const conns_hooks_t *hooks = &conn->conns->hooks;
    bool is_gone = (events & (EPOLLHUP | EPOLLERR)) != 0;
    bool is_closed = is_gone || (events & EPOLLRDHUP) != 0;

    switch (conn->phase) {
    case CONN_GATE: check_first(conn, is_closed); return;
    case CONN_LINGER: linger(conn); return;
    case CONN_IDLE:
    case CONN_HELD: check_next(conn, is_closed); return;
    default: break;
    }
    bool is_news = is_gone || (is_closed && !conn->half_closed);
    conn->half_closed |= is_closed;
    if (is_closed && (conn->phase == CONN_HEADERS || conn->phase == CONN_BODY))
        conn_enter(conn, CONN_HALF);
    if (is_news && conn->request != NULL)
        hooks->gone(hooks->arg, conn->request, !is_gone);
    if (!is_gone && conn->wants_out && (events & EPOLLOUT) != 0 &&
        conn->request != NULL) {
        conn->wants_out = false;
        hooks->writable(hooks->arg, conn->request);
    }
}

static void
on_events(void *arg, short events)
{
    conns_t *self = arg;
    struct epoll_event ready[EVENTS_PER_TURN];
    int n = epoll_wait(self->epoll_fd, ready, EVENTS_PER_TURN, 0);

    (void)events;
    for (int i = 0; i < n; i++) /* each is in `ready` once and frees no other one */
        take_event(ready[i].data.ptr, ready[i].events);
}

void
conns_look(conns_t *self)
{
    if (self->lists[CONN_IDLE].first != NULL)
        on_events(self, 0);
}

/* --- life of the whole -------------------------------------------------------------------- */

conns_t *
conns_new(svc_ctx_t *ctx, int listen_fd, uint32_t max, conn_limit_t *limit,
          const client_trust_t *trust, const conns_hooks_t *hooks)
{
    conns_t *self = svc_alloc(sizeof *self);

    self->ctx = ctx;
    self->limit = limit;
    self->trust = trust;
    self->hooks = *hooks;
    self->refusals.log = ctx->log;
    self->guests_fd = -1;
    self->max = max;
    self->peeked = svc_alloc(GATE_HEADERS_MAX_BYTES);
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    SVC_ASSERT(self->epoll_fd >= 0);
    conns_set_times(self, ctx->config);
    self->door = door_new(ctx, listen_fd, welcome, self);
    svc_loop_add_fd(ctx->loop, self->epoll_fd, ZMQ_POLLIN, on_events, self);
    self->sweep_timer = svc_loop_every(ctx->loop, CONNS_SWEEP_MS, conns_on_sweep, self);
    return self;
}

void
conns_set_max(conns_t *self, uint32_t max)
{
    self->max = max;
}

void
conns_wait(conns_t *self, uint64_t ms)
{
    door_shut(self->door, ms);
}

void
conns_wait_no_more(conns_t *self)
{
    door_open(self->door);
}

void
conns_use_tls(conns_t *self, tls_front_t *tls)
{
    self->tls = tls;
}

void
conns_meet(conns_t *self, meeting_t *meeting, size_t here)
{
    self->meeting = meeting;
    self->here = here;
    self->guests_fd = meeting_open(meeting, here);
    svc_loop_add_fd(self->ctx->loop, self->guests_fd, ZMQ_POLLIN, receive, self);
}

/* Those that are on their way have asked before we stopped: they are served. */
static void
stop_meeting(conns_t *self)
{
    if (self->guests_fd < 0)
        return;
    meeting_close(self->meeting, self->here);
    svc_loop_remove_fd(self->ctx->loop, self->guests_fd);
    self->guests_fd = -1;
    receive(self, 0);
}

void
conns_stop_accepting(conns_t *self)
{
    if (self->tls != NULL)
        tls_front_look(self->tls); /* a request that has come by now is served */
    stop_meeting(self);
    door_destroy(&self->door);
    conns_settle(self);
    while (self->lists[CONN_GATE].first != NULL)
        close_conn(self->lists[CONN_GATE].first);
    while (self->lists[CONN_HELD].first != NULL)
        conn_end_at_gate(self->lists[CONN_HELD].first);
    for (conn_t *conn = self->lists[CONN_LINGER].first, *next; conn != NULL;
         conn = next) {
        next = conn->next;
        if (conn->server != NULL) /* the server waits for it */
            conn_end_at_gate(conn);
    }
    for (conn_t *conn = self->lists[CONN_IDLE].first; conn != NULL; conn = conn->next) {
        size_t n;
        if (!conn_peek(conn, &n) || n == 0) /* else its request came before we stopped */
            conn_cut(conn);
    }
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
