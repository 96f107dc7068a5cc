/* tls_pump.c - one client that speaks TLS: its bytes to and from a socket that looks like a plain client's.
 *
 *     SNIFF -> HANDSHAKE -> OPEN -> LINGER
 *     SNIFF -> LINGER: it speaks plain HTTP and is told so
 *
 * What may have something to read is remembered between edges, so that a token costs one recv, one
 * record and one send. Once a record is made it must leave as it is: until then nothing else is
 * read from behind. LINGER reads what the client still sends, since closing a socket with unread bytes would
 * destroy the last ones on their way to it. */
#include "tls_pump.h"
#include "gate.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEPS_MAX        8          /* pieces a run */
#define LINGER_MAX_BYTES (1u << 20) /* that are read and dropped */
#define TLS_HANDSHAKE    0x16       /* the first byte of a client that speaks TLS */

typedef enum { AT_SNIFF, AT_HANDSHAKE, AT_OPEN, AT_LINGER } phase;

/* What a step has brought. */
typedef enum { STEP_MOVED, STEP_WAITS, STEP_DEAD } step;

struct tls_pump {
    tls_wire_t *wire;         /* one use */
    tls_cert_t *cert;         /* one use, while there is a session */
    gnutls_session_t session; /* owned; NULL: it is over */
    int fd;                   /* owned: our end of the pair; -1: closed */
    phase at;                 /* see the drawing above */
    bool wire_in, pair_in;    /* something may be there to read */
    bool end_is_near;         /* behind everything that the pair holds */
    bool is_left;             /* nobody is behind the pair */
    bool is_stuck;       /* GnuTLS holds a record that the socket has not taken whole */
    bool client_is_done; /* it sends no more */
    bool told_behind;    /* and those behind know */
    bool behind_is_done; /* they send no more */
    bool told_client;    /* and the client knows */
    svc_buf_t in, out;   /* owned: the rest of a piece that was not taken whole */
    uint64_t moved;      /* bytes from behind */
    size_t dropped;      /* LINGER: bytes */
    const char *failure; /* borrowed from GnuTLS */
};

/* GnuTLS reads by this, so that we know when the socket was empty: that it wants to be called again says nothing, it
 * may have read something that is not for us. */
static ssize_t
on_pull(gnutls_transport_ptr_t arg, void *bytes, size_t n)
{
    tls_pump_t *self = arg;
    ssize_t got = recv(tls_wire_fd(self->wire), bytes, n, MSG_DONTWAIT);

    if (got < 0 && errno == EAGAIN)
        self->wire_in = false;
    return got;
}

/* Only asked with time-outs of GnuTLS, which we do not use. */
static int
on_pull_timeout(gnutls_transport_ptr_t arg, unsigned ms)
{
    (void)arg;
    (void)ms;
    return 1;
}

tls_pump_t *
tls_pump_new(tls_store_t *store, tls_wire_t *wire, int fd)
{
    tls_pump_t *self = svc_alloc(sizeof *self);

    self->wire = tls_wire_use(wire);
    self->fd = fd;
    svc_buf_init(&self->in, TLS_PIECE_BYTES);
    svc_buf_init(&self->out, TLS_PIECE_BYTES);
    self->session = tls_store_open(store, tls_wire_fd(wire), &self->cert);
    if (self->session == NULL) {
        tls_pump_destroy(&self);
        return NULL;
    }
    gnutls_transport_set_ptr2(self->session, self,
                              (gnutls_transport_ptr_t)(intptr_t)tls_wire_fd(wire));
    gnutls_transport_set_pull_function(self->session, on_pull);
    gnutls_transport_set_pull_timeout_function(self->session, on_pull_timeout);
    return self;
}

/* The client's keys and buffers are of no use any more: most of what a pump holds. */
static void
end_session(tls_pump_t *self)
{
    if (self->session != NULL)
        gnutls_deinit(self->session);
    self->session = NULL;
    tls_cert_release(&self->cert);
    svc_buf_fini(&self->in);
    svc_buf_fini(&self->out);
}

static void
leave_pair(tls_pump_t *self)
{
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
    self->is_left = true;
}

void
tls_pump_destroy(tls_pump_t **self_p)
{
    tls_pump_t *self = *self_p;

    *self_p = NULL;
    if (self == NULL)
        return;
    end_session(self);
    leave_pair(self);
    (void)shutdown(tls_wire_fd(self->wire), SHUT_RDWR); /* others may hold it still */
    tls_wire_release(&self->wire);
    free(self);
}

int
tls_pump_fd(const tls_pump_t *self)
{
    return self->fd;
}

tls_wire_t *
tls_pump_wire(const tls_pump_t *self)
{
    return self->wire;
}

bool
tls_pump_is_new(const tls_pump_t *self)
{
    return self->at == AT_SNIFF || self->at == AT_HANDSHAKE;
}

bool
tls_pump_is_left(const tls_pump_t *self)
{
    return self->is_left;
}

bool
tls_pump_lingers(const tls_pump_t *self)
{
    return self->at == AT_LINGER;
}

uint64_t
tls_pump_moved(const tls_pump_t *self)
{
    return self->moved;
}

const char *
tls_pump_failure(const tls_pump_t *self)
{
    return self->failure;
}

/* Nothing more goes to the client; those behind are let go. */
static step
begin_linger(tls_pump_t *self)
{
    (void)shutdown(tls_wire_fd(self->wire), SHUT_WR);
    end_session(self);
    leave_pair(self);
    self->at = AT_LINGER;
    self->wire_in = true;
    return STEP_MOVED;
}

/* --- before the first record -------------------------------------------------------------- */

/* Those behind have gone without a word: no refusal waits to be said. */
static bool
has_nothing_to_say(const tls_pump_t *self)
{
    int n = 0;

    return self->is_left && (ioctl(self->fd, FIONREAD, &n) != 0 || n == 0);
}

/* A client that has begun to speak HTTP would take a TLS alert for noise. */
static step
sniff(tls_pump_t *self)
{
    char text[GATE_REFUSAL_BYTES];
    int fd = tls_wire_fd(self->wire);
    unsigned char first = 0;
    ssize_t got = recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return has_nothing_to_say(self) ? STEP_DEAD : STEP_WAITS;
    if (got == 1 && first == TLS_HANDSHAKE) {
        self->at = AT_HANDSHAKE;
        return STEP_MOVED;
    }
    if (got != 1 || first < 'A' || first > 'Z')
        return STEP_DEAD;
    size_t n = gate_refusal(GATE_PLAIN, "", text);
    return send(fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? STEP_DEAD
                                                              : begin_linger(self);
}

static step
shake_hands(tls_pump_t *self)
{
    if (has_nothing_to_say(self))
        return STEP_DEAD;
    int rc = gnutls_handshake(self->session);
    if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
        return STEP_WAITS;
    if (rc == GNUTLS_E_SUCCESS) {
        self->at = AT_OPEN;
        self->wire_in = self->pair_in =
            true; /* what came meanwhile made its edge already */
        return STEP_MOVED;
    }
    if (!gnutls_error_is_fatal(rc))
        return STEP_MOVED;
    self->failure = gnutls_strerror(rc);
    (void)gnutls_alert_send_appropriate(self->session, rc);
    return begin_linger(self);
}

/* --- to the client ------------------------------------------------------------------------ */

/* GnuTLS has taken `rc` bytes of the rest in self->out, or says why not. */
static step
note_sent(tls_pump_t *self, ssize_t rc)
{
    self->is_stuck = rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
    if (self->is_stuck)
        return STEP_WAITS;
    if (rc < 0)
        return gnutls_error_is_fatal((int)rc) ? STEP_DEAD : STEP_MOVED;
    svc_buf_consume(&self->out, (size_t)rc);
    if (self->out.n == 0)
        svc_buf_fini(&self->out);
    return STEP_MOVED;
}

/* The rest of what was read from behind. */
static step
send_rest(tls_pump_t *self)
{
    /* a record that is made already is only asked for: it may hold less than the rest */
    return note_sent(self, self->is_stuck ? gnutls_record_send(self->session, NULL, 0)
                                          : gnutls_record_send(self->session, self->out.p,
                                                               self->out.n));
}

/* All was said: tells the client so, unless it is not true. */
static step
say_end(tls_pump_t *self)
{
    int rc = tls_wire_is_broken(self->wire) ? GNUTLS_E_SUCCESS
                                            : gnutls_bye(self->session, GNUTLS_SHUT_WR);

    if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
        return STEP_WAITS;
    if (rc != GNUTLS_E_SUCCESS)
        return STEP_DEAD;
    (void)shutdown(tls_wire_fd(self->wire), SHUT_WR);
    self->told_client = true;
    return STEP_MOVED;
}

static step
move_out(tls_pump_t *self, char *scratch)
{
    if (self->out.n > 0)
        return send_rest(self);
    if (self->behind_is_done)
        return self->told_client ? STEP_WAITS : say_end(self);
    if (!self->pair_in)
        return STEP_WAITS;
    ssize_t got = recv(self->fd, scratch, TLS_PIECE_BYTES, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR)
        return STEP_MOVED;
    if (got < 0 && errno == EAGAIN) {
        self->pair_in = false;
        return STEP_WAITS;
    }
    if (got <= 0) {
        self->behind_is_done = true;
        return STEP_MOVED;
    }
    self->moved += (uint64_t)got;
    ssize_t rc = gnutls_record_send(self->session, scratch, (size_t)got);
    if (rc == got) {
        /* less than was asked for was all; what comes later has an edge of its own */
        self->pair_in = (size_t)got == TLS_PIECE_BYTES || self->end_is_near;
        return STEP_MOVED;
    }
    if (svc_buf_add(&self->out, scratch, (size_t)got) != RC_OK)
        return STEP_DEAD;
    return note_sent(self, rc);
}

/* --- from the client ---------------------------------------------------------------------- */

/* Gives those behind what is kept for them. */
static step
give_rest(tls_pump_t *self)
{
    ssize_t n = send(self->fd, self->in.p, self->in.n, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return STEP_WAITS;
    if (n < 0)
        n = (ssize_t)self->in.n; /* they read no more: dropped, as the kernel would */
    svc_buf_consume(&self->in, (size_t)n);
    if (self->in.n > 0)
        return STEP_WAITS;
    svc_buf_fini(&self->in);
    return STEP_MOVED;
}

static step
give(tls_pump_t *self, const char *bytes, size_t n)
{
    ssize_t sent = send(self->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return STEP_MOVED;
    size_t taken = sent > 0 ? (size_t)sent : 0;
    if (taken == n)
        return STEP_MOVED;
    return svc_buf_add(&self->in, bytes + taken, n - taken) == RC_OK ? STEP_WAITS
                                                                     : STEP_DEAD;
}

static step
move_in(tls_pump_t *self, char *scratch)
{
    if (self->in.n > 0)
        return give_rest(self);
    if (self->client_is_done && !self->told_behind) {
        (void)shutdown(self->fd, SHUT_WR);
        self->told_behind = true;
    }
    if (self->client_is_done || !self->wire_in)
        return STEP_WAITS;
    ssize_t got = gnutls_record_recv(self->session, scratch, TLS_PIECE_BYTES);
    if (got > 0)
        return give(self, scratch, (size_t)got);
    if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED) {
        bool has_more = self->wire_in && gnutls_record_get_direction(self->session) == 0;
        return has_more ? STEP_MOVED : STEP_WAITS;
    }
    if (got == 0) {
        self->client_is_done = true;
        return STEP_MOVED;
    }
    if (got == GNUTLS_E_PREMATURE_TERMINATION)
        return STEP_DEAD; /* it has ended without saying so: as clients do that die */
    if (got != GNUTLS_E_REHANDSHAKE && !gnutls_error_is_fatal((int)got))
        return STEP_MOVED;
    /* its keys stay as they are: who wants others may come anew */
    (void)(got == GNUTLS_E_REHANDSHAKE
               ? gnutls_alert_send(self->session, GNUTLS_AL_FATAL,
                                   GNUTLS_A_NO_RENEGOTIATION)
               : gnutls_alert_send_appropriate(self->session, (int)got));
    return begin_linger(self);
}

/* --- both --------------------------------------------------------------------------------- */

static step
move(tls_pump_t *self, char *scratch)
{
    step out = move_out(self, scratch);

    if (out == STEP_DEAD)
        return STEP_DEAD;
    if (self->told_client && self->is_left)
        return begin_linger(self);
    step in = self->is_left ? STEP_WAITS : move_in(self, scratch);
    if (in == STEP_DEAD || self->at == AT_LINGER)
        return in;
    return out == STEP_MOVED || in == STEP_MOVED ? STEP_MOVED : STEP_WAITS;
}

static step
linger(tls_pump_t *self, char *scratch)
{
    ssize_t got = recv(tls_wire_fd(self->wire), scratch, TLS_PIECE_BYTES, MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return STEP_WAITS;
    self->dropped += got > 0 ? (size_t)got : 0;
    return got <= 0 || self->dropped > LINGER_MAX_BYTES ? STEP_DEAD : STEP_MOVED;
}

static step
take_step(tls_pump_t *self, char *scratch)
{
    switch (self->at) {
    case AT_SNIFF: return sniff(self);
    case AT_HANDSHAKE: return shake_hands(self);
    case AT_OPEN: return move(self, scratch);
    case AT_LINGER: break;
    }
    return linger(self, scratch);
}

tls_pump_state
tls_pump_run(tls_pump_t *self, uint32_t wire, uint32_t pair, char *scratch)
{
    if ((wire & (EPOLLERR | EPOLLHUP)) != 0 && self->at != AT_LINGER)
        return TLS_PUMP_DONE; /* the client has gone: nobody would get the rest */
    self->wire_in |= wire != 0;
    self->pair_in |= (pair & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) != 0;
    self->end_is_near |= (pair & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    self->is_left |= (pair & (EPOLLHUP | EPOLLERR)) != 0;
    for (int i = 0; i < STEPS_MAX; i++) {
        phase was = self->at;
        step what = take_step(self, scratch);
        if (what != STEP_MOVED)
            return what == STEP_DEAD ? TLS_PUMP_DONE : TLS_PUMP_WAITS;
        if (was == AT_HANDSHAKE && self->at == AT_OPEN)
            return TLS_PUMP_MORE;
    }
    return TLS_PUMP_MORE;
}
