/* conns_phase.c - the phases of a reactor's connections: who is in which, and who has been there for too long.
 *
 * Each phase has one list, oldest first, because its time-out is the same for all: the
 * sweep looks at the heads only. A connection that ran out of time is shut down; whoever
 * reads from it sees the end and closes. The client of a stream may take its time as long as it
 * takes bytes. */
#include "conns_private.h"

#include "client_socket.h"

#define LINGER_MS      2000 /* to read our refusal before the socket is closed */
#define LOOKS_PER_IDLE 10   /* at a client that takes nothing, until its time is over */

/* --- lists -------------------------------------------------------------------------------- */

void
conn_unlink(conn_t *self)
{
    conn_list_t *list = &self->conns->lists[self->phase];

    *(self->prev != NULL ? &self->prev->next : &list->first) = self->next;
    *(self->next != NULL ? &self->next->prev : &list->last) = self->prev;
    self->prev = self->next = NULL;
}

void
conn_link(conn_t *self, conn_phase phase)
{
    conn_list_t *list = &self->conns->lists[phase];

    self->phase = phase;
    self->since_ms = svc_loop_now_ms(self->conns->ctx->loop);
    self->prev = list->last;
    *(list->last != NULL ? &list->last->next : &list->first) = self;
    list->last = self;
}

void
conn_enter(conn_t *self, conn_phase phase)
{
    if (self->half_closed && phase == CONN_IDLE)
        phase = CONN_LAST;
    else if (self->half_closed && (phase == CONN_HEADERS || phase == CONN_BODY))
        phase = CONN_HALF;
    self->unsent = -1;
    conn_unlink(self);
    conn_link(self, phase);
}

/* --- time --------------------------------------------------------------------------------- */

void
conns_set_times(conns_t *self, const svc_config_t *config)
{
    self->timeout_ms[CONN_GATE] = self->timeout_ms[CONN_HELD] =
        self->timeout_ms[CONN_HEADERS] = 1000ull * config->server_header_timeout_s;
    self->timeout_ms[CONN_BODY] = self->timeout_ms[CONN_HALF] =
        1000ull * config->server_body_timeout_s;
    self->timeout_ms[CONN_IDLE] = 1000ull * config->server_idle_timeout_s;
    self->viewer_idle_ms = 1000ull * config->gateway_viewer_idle_s;
    self->timeout_ms[CONN_BLOCKED] = self->viewer_idle_ms / LOOKS_PER_IDLE;
    self->timeout_ms[CONN_LINGER] = LINGER_MS;
}

int
conn_unsent(const conn_t *self)
{
    int tcp = tls_wire_tcp(self->wire, self->fd);

    return client_socket_unsent(self->fd) +
           (tcp != self->fd ? client_socket_unsent(tcp) : 0);
}

/* Ends those whose client sends no more, when the server has read all and waits for more. */
static void
settle(conns_t *self, conn_phase phase, uint64_t after_ms)
{
    uint64_t now = svc_loop_now_ms(self->ctx->loop);
    size_t n;

    for (conn_t *conn = self->lists[phase].first, *next; conn != NULL; conn = next) {
        next = conn->next;
        if (now - conn->since_ms < after_ms || (conn_peek(conn, &n) && n > 0))
            continue;
        /* the server may miss the end: it reads on an edge and stops at a short read */
        conn_cut(conn);
        conn_enter(conn, CONN_BUSY);
    }
}

void
conns_settle(conns_t *self)
{
    settle(self, CONN_LAST, 0);
}

/* True for the client of a stream that has bytes to take, and has taken some since the last look or may still
 * do so: it stays in its phase until the next look. */
static bool
may_still_read(conn_t *conn, uint64_t now)
{
    conn_phase phase = conn->phase;
    int unsent = conn_unsent(conn);

    if (conn->unsent < 0 || unsent < conn->unsent || unsent == 0)
        conn->taken_ms = now;
    conn->unsent = unsent;
    if (!conn->is_prepared || (phase == CONN_IDLE && unsent == 0) ||
        now - conn->taken_ms >= conn->conns->viewer_idle_ms)
        return false;
    conn_unlink(conn);
    conn_link(conn, phase);
    return true;
}

/* A connection has been in its phase for too long. */
static void
time_out(conn_t *conn, uint64_t now)
{
    conn_phase phase = conn->phase;
    bool is_reading = phase == CONN_BLOCKED || phase == CONN_IDLE;

    if (is_reading && may_still_read(conn, now))
        return;
    if (is_reading && conn->is_prepared && conn->unsent > 0)
        svc_metrics_add(conn->conns->ctx->metrics, SVC_M_VIEWERS_IDLE, 1);
    else if (phase != CONN_LINGER && phase != CONN_IDLE)
        svc_metrics_add(conn->conns->ctx->metrics, SVC_M_HTTP_TIMEOUTS, 1);
    if (phase == CONN_GATE || phase == CONN_LINGER || phase == CONN_HELD) {
        conn_end_at_gate(conn);
        return;
    }
    conn_cut(conn);
    conn_enter(conn, CONN_BUSY); /* its end is libmicrohttpd's business now */
}

void
conns_on_sweep(void *arg, short events)
{
    conns_t *self = arg;
    uint64_t now = svc_loop_now_ms(self->ctx->loop);

    (void)events;
    conns_settle(self);
    /* the server may be about to refuse it: that takes it a turn more */
    settle(self, CONN_HALF, CONNS_SWEEP_MS);
    for (conn_phase phase = CONN_GATE; phase < CONN_PHASES; phase++) {
        uint64_t timeout_ms = self->timeout_ms[phase];
        conn_t *conn = self->lists[phase].first;
        while (timeout_ms > 0 && conn != NULL && now - conn->since_ms >= timeout_ms) {
            time_out(conn, now);
            conn = self->lists[phase].first;
        }
    }
}
