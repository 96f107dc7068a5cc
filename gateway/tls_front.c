/* tls_front.c - all clients of a reactor that speak TLS: between their sockets and what looks like plain clients.
 *
 * One edge-triggered epoll descriptor stands in the loop for both sockets of every pump. Events are
 * noted first and pumps run afterwards, since a pump that is through is freed. Those with more to do
 * than a run moves come again at the end of the turn, behind all others. */
#include "tls_front.h"

#include "svc/svc_seldom.h"
#include "svc/svc_time.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#define EVENTS_PER_TURN 512
#define HANDSHAKES_PER_RUN \
    8 /* steps: each may cost a signature, and streams wait meanwhile */
#define PAIR_BYTES (32u << 10) /* that each end may send ahead; the kernel doubles it */
#define SWEEP_MS   250
#define LINGER_MS  2000 /* for the client to say its end, when it has heard ours */
#define FLUSH_MS   1500 /* at our own end */
#define LEFT_BUSY  64   /* of those left: nobody is refused in words any more */
#define ALL_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

struct guest;

/* One of the two sockets, as epoll knows it. */
typedef struct {
    struct guest *guest; /* whose */
    uint32_t events;     /* since the last run */
} side_t;

/* A pump and its place. */
typedef struct guest {
    tls_pump_t *pump;          /* owned */
    side_t wire, pair;         /* its sockets */
    bool is_due;               /* in the list of those that run next */
    struct guest *next_due;    /* in that */
    struct guest *prev, *next; /* in the list of all, or of those that are left */
    bool is_left;              /* in the latter */
    bool is_hopeless;          /* it ends at its next run */
    bool lingers;              /* likewise, and has got all */
    uint64_t moved;            /* left: bytes it had taken when we looked last */
    uint64_t since_ms;         /* left: when it took some */
} guest_t;

typedef struct {
    guest_t *first, *last; /* oldest, youngest */
    size_t n;              /* of them */
} guests_t;

struct tls_front {
    svc_ctx_t *ctx;              /* loop, log, metrics */
    tls_store_t *store;          /* shared */
    int epoll_fd;                /* owned */
    guests_t all, left;          /* owned: with somebody behind, and without */
    size_t n_lingers;            /* of those left */
    guest_t *due, *last_due;     /* who runs next */
    uint64_t idle_ms, header_ms; /* see the header */
    uint64_t sweep_timer;        /* of the loop */
    svc_seldom_t complaints;     /* that somebody could not be taken, in the log */
    char *scratch;               /* owned; TLS_PIECE_BYTES */
};

/* --- lists -------------------------------------------------------------------------------- */

static void
link_guest(guests_t *list, guest_t *guest)
{
    guest->next = NULL;
    guest->prev = list->last;
    *(list->last != NULL ? &list->last->next : &list->first) = guest;
    list->last = guest;
    list->n++;
}

static void
unlink_guest(guests_t *list, guest_t *guest)
{
    *(guest->prev != NULL ? &guest->prev->next : &list->first) = guest->next;
    *(guest->next != NULL ? &guest->next->prev : &list->last) = guest->prev;
    list->n--;
}

static void
make_due(tls_front_t *self, guest_t *guest)
{
    if (guest->is_due)
        return;
    guest->is_due = true;
    guest->next_due = NULL;
    *(self->last_due != NULL ? &self->last_due->next_due : &self->due) = guest;
    self->last_due = guest;
}

static guest_t *
take_due(tls_front_t *self)
{
    guest_t *guest = self->due;

    self->due = guest->next_due;
    if (self->due == NULL)
        self->last_due = NULL;
    guest->is_due = false;
    return guest;
}

/* --- one client --------------------------------------------------------------------------- */

/* It must not be due. */
static void
free_guest(tls_front_t *self, guest_t *guest)
{
    const char *failure = tls_pump_failure(guest->pump);

    if (failure != NULL) {
        svc_metrics_add(self->ctx->metrics, SVC_M_TLS_HANDSHAKES_FAILED, 1);
        svc_log_debug(self->ctx->log, "a TLS handshake has failed: %s", failure);
    }
    unlink_guest(guest->is_left ? &self->left : &self->all, guest);
    self->n_lingers -= guest->lingers;
    /* the socket may live on for a moment, with whoever is behind */
    (void)epoll_ctl(self->epoll_fd, EPOLL_CTL_DEL,
                    tls_wire_fd(tls_pump_wire(guest->pump)), NULL);
    tls_pump_destroy(&guest->pump);
    free(guest);
}

/* Ends it at its next run: it may be due already. */
static void
give_up(tls_front_t *self, guest_t *guest)
{
    guest->is_hopeless = true;
    make_due(self, guest);
}

/* Nobody is behind it any more: from now on its time is bounded here. */
static void
note_left(tls_front_t *self, guest_t *guest)
{
    unlink_guest(&self->all, guest);
    guest->is_left = true;
    guest->moved = tls_pump_moved(guest->pump);
    guest->since_ms = svc_loop_now_ms(self->ctx->loop);
    link_guest(&self->left, guest);
    if (self->left.n > TLS_FRONT_LEFT_MAX)
        give_up(self, self->left.first);
}

static void
run_guest(tls_front_t *self, guest_t *guest)
{
    uint32_t wire = guest->wire.events, pair = guest->pair.events;

    guest->wire.events = guest->pair.events = 0;
    tls_pump_state state = guest->is_hopeless
                               ? TLS_PUMP_DONE
                               : tls_pump_run(guest->pump, wire, pair, self->scratch);
    if (state == TLS_PUMP_DONE) {
        free_guest(self, guest);
        return;
    }
    if (state == TLS_PUMP_MORE)
        make_due(self, guest);
    if (!guest->is_left && tls_pump_is_left(guest->pump))
        note_left(self, guest);
    if (!guest->lingers && tls_pump_lingers(guest->pump)) {
        guest->lingers = true;
        guest->since_ms = svc_loop_now_ms(self->ctx->loop);
        self->n_lingers++;
    }
}

/* --- all of them -------------------------------------------------------------------------- */

/* Runs those that are due now, once. */
static void
run_due(tls_front_t *self)
{
    const guest_t *last = self->last_due;
    unsigned handshakes = 0;
    bool was_last = self->due == NULL;

    while (!was_last) {
        guest_t *guest = take_due(self);
        was_last = guest == last;
        if (tls_pump_is_new(guest->pump) && ++handshakes > HANDSHAKES_PER_RUN)
            make_due(self, guest); /* others want their turn, too */
        else
            run_guest(self, guest);
    }
}

static void
on_events(void *arg, short events)
{
    tls_front_t *self = arg;
    struct epoll_event ready[EVENTS_PER_TURN];
    int n = epoll_wait(self->epoll_fd, ready, EVENTS_PER_TURN, 0);

    (void)events;
    for (int i = 0; i < n; i++) {
        side_t *side = ready[i].data.ptr;
        side->events |= ready[i].events;
        make_due(self, side->guest);
    }
    run_due(self);
}

/* The end of a turn: those that had more to do. */
static int
on_turn(void *arg)
{
    tls_front_t *self = arg;

    if (self->due != NULL)
        run_due(self);
    return self->due != NULL ? 0 : -1;
}

static uint64_t
patience_ms(const tls_front_t *self, const guest_t *guest)
{
    return guest->lingers                 ? LINGER_MS
           : tls_pump_is_new(guest->pump) ? self->header_ms
                                          : self->idle_ms;
}

static void
on_sweep(void *arg, short events)
{
    tls_front_t *self = arg;
    uint64_t now = svc_loop_now_ms(self->ctx->loop);

    (void)events;
    for (guest_t *guest = self->left.first; guest != NULL; guest = guest->next) {
        uint64_t moved = tls_pump_moved(guest->pump);
        if (moved != guest->moved)
            guest->since_ms = now;
        guest->moved = moved;
        if (now - guest->since_ms >= patience_ms(self, guest))
            give_up(self, guest);
    }
    run_due(self);
}

void
tls_front_look(tls_front_t *self)
{
    on_events(self, 0);
    while (self->due != NULL)
        run_due(self);
}

size_t
tls_front_unsaid(const tls_front_t *self)
{
    return self->left.n - self->n_lingers;
}

static bool
watch(tls_front_t *self, int fd, side_t *side)
{
    struct epoll_event event = {.events = ALL_EVENTS, .data.ptr = side};

    return epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Makes the pair; pair[0] is ours. */
static bool
make_pair(int pair[2])
{
    int bytes = (int)PAIR_BYTES;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    for (int i = 0; i < 2; i++)
        (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return true;
}

int
tls_front_take(tls_front_t *self, int fd, bool is_welcome, tls_wire_t **wire_out)
{
    if (!is_welcome && self->left.n >= LEFT_BUSY) {
        svc_metrics_add(self->ctx->metrics, SVC_M_HTTP_CONNECTIONS_REFUSED, 1);
        close(fd);
        return -1;
    }
    tls_wire_t *wire = tls_wire_new(fd);
    guest_t *guest = svc_alloc(sizeof *guest);
    int pair[2] = {-1, -1};

    guest->wire.guest = guest->pair.guest = guest;
    if (make_pair(pair)) {
        guest->pump = tls_pump_new(self->store, wire, pair[0]);
        errno = ENOMEM; /* what a pump may want for */
    }
    if (guest->pump == NULL || !watch(self, fd, &guest->wire) ||
        !watch(self, pair[0], &guest->pair)) {
        if (svc_seldom(&self->complaints, 1, svc_mono_ms(), NULL))
            svc_log_warn(self->ctx->log, "cannot serve a connection by TLS: %s",
                         strerror(errno));
        if (pair[1] >= 0)
            close(pair[1]);
        (void)epoll_ctl(self->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        tls_pump_destroy(&guest->pump);
        tls_wire_release(&wire);
        free(guest);
        return -1;
    }
    link_guest(&self->all, guest);
    make_due(self, guest); /* its first bytes may have come before epoll knew it */
    *wire_out = wire;
    return pair[1];
}

/* --- life --------------------------------------------------------------------------------- */

tls_front_t *
tls_front_new(svc_ctx_t *ctx, tls_store_t *store)
{
    tls_front_t *self = svc_alloc(sizeof *self);

    self->ctx = ctx;
    self->store = store;
    self->idle_ms = 1000ull * ctx->config->server_idle_timeout_s;
    self->header_ms = 1000ull * ctx->config->server_header_timeout_s;
    self->scratch = svc_alloc(TLS_PIECE_BYTES);
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    SVC_ASSERT(self->epoll_fd >= 0);
    svc_loop_add_fd(ctx->loop, self->epoll_fd, ZMQ_POLLIN, on_events, self);
    svc_loop_on_turn(ctx->loop, on_turn, self);
    self->sweep_timer = svc_loop_every(ctx->loop, SWEEP_MS, on_sweep, self);
    return self;
}

/* The last bytes of those behind leave, who may only now be leaving themselves. */
static void
flush(tls_front_t *self)
{
    struct pollfd ready = {.fd = self->epoll_fd, .events = POLLIN};

    for (int waited_ms = 0; waited_ms < FLUSH_MS; waited_ms += 10) {
        tls_front_look(self);
        if (self->all.n + tls_front_unsaid(self) == 0)
            break;
        poll(&ready, 1, 10);
    }
}

static void
free_list(tls_front_t *self, guests_t *list)
{
    while (list->first != NULL)
        free_guest(self, list->first);
}

void
tls_front_destroy(tls_front_t **self_p)
{
    tls_front_t *self = *self_p;

    *self_p = NULL;
    if (self == NULL)
        return;
    flush(self);
    svc_loop_cancel(self->ctx->loop, self->sweep_timer);
    svc_loop_off_turn(self->ctx->loop, self);
    svc_loop_remove_fd(self->ctx->loop, self->epoll_fd);
    free_list(self, &self->all);
    free_list(self, &self->left);
    close(self->epoll_fd);
    free(self->scratch);
    free(self);
}
