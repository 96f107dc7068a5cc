/* pg_proxy.h - a network between a service and PostgreSQL that breaks when a test wants it to.
 *
 * A thread forwards every connection to its port. Its mode says what happens to them: they pass, they are refused, nothing
 * moves any more, or the connection is cut when a COMMIT goes by: before it reaches the server, at the same moment, or when its
 * answer is about to come back. A cut happens once, then all pass again (or are refused, when the test has said so).
 * Or whoever connects comes one message further than the one before and is cut there, until all of what he does has met a cut at
 * each of its steps; who connects while others are connected begins with the first message, too. */
#ifndef TESTS_UNIT_SVC_PG_PROXY_H
#define TESTS_UNIT_SVC_PG_PROXY_H

#include "pg_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PROXY_PASS,
    PROXY_REFUSE,           /* new connections end at once, old ones, too */
    PROXY_FREEZE,           /* nothing moves */
    PROXY_CUT_BEFORE,       /* the next COMMIT does not arrive */
    PROXY_CUT_WITH,         /* the next COMMIT is sent, and at once all is over */
    PROXY_CUT_AFTER,        /* the next COMMIT is done, but nobody hears of it */
    PROXY_CUT_AFTER_REFUSE, /* likewise, and then nobody gets in until PROXY_PASS */
    PROXY_CREEP,       /* each gets one message further: the last one does not arrive */
    PROXY_CREEP_AFTER, /* likewise, but its answer is what does not arrive */
    PROXY_CREEP_WITH,  /* likewise, but its answer is the last that arrives */
};

#define PROXY_PAIRS_MAX 8

typedef struct {
    int port, server_port;
    int listener;
    atomic_int mode;
    atomic_int cuts; /* so far */
    atomic_bool stop;
    pthread_t thread;
    struct {
        int client, server; /* -1: none */
        bool committing;    /* a COMMIT went by; its answer is the next that comes */
        int rank, sent;     /* how many others were there before; messages so far */
    } pair[PROXY_PAIRS_MAX];
    int may[PROXY_PAIRS_MAX + 1]; /* messages that pass, by rank */
} pg_proxy_t;

static inline void
proxy_end(pg_proxy_t *self, size_t i)
{
    (void)close(self->pair[i].client);
    (void)close(self->pair[i].server);
    self->pair[i].client = self->pair[i].server = -1;
    self->pair[i].committing = false;
}

static inline void
proxy_cut(pg_proxy_t *self, size_t i)
{
    int mode = atomic_load(&self->mode);

    if (mode < PROXY_CREEP)
        atomic_store(&self->mode,
                     mode == PROXY_CUT_AFTER_REFUSE ? PROXY_REFUSE : PROXY_PASS);
    atomic_fetch_add(&self->cuts, 1);
    proxy_end(self, i);
}

static inline void
proxy_accept(pg_proxy_t *self)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)self->server_port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int client = accept4(self->listener, NULL, NULL, SOCK_CLOEXEC), rank = 0;

    for (size_t i = 0; i < PROXY_PAIRS_MAX; i++)
        rank += self->pair[i].client >= 0 ? 1 : 0;
    for (size_t i = 0; i < PROXY_PAIRS_MAX && atomic_load(&self->mode) != PROXY_REFUSE;
         i++) {
        if (self->pair[i].client >= 0)
            continue;
        self->pair[i].client = client;
        self->pair[i].rank = rank;
        self->pair[i].sent = 0;
        self->pair[i].server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(self->pair[i].server, (struct sockaddr *)&to, sizeof(to)) != 0)
            proxy_end(self, i);
        return;
    }
    (void)close(client);
}

/* Is this the last message of a connection that creeps? */
static inline bool
proxy_is_last(pg_proxy_t *self, size_t i, bool to_server)
{
    int *may = &self->may[self->pair[i].rank];

    if (!to_server || atomic_load(&self->mode) < PROXY_CREEP ||
        self->pair[i].sent++ < *may)
        return false;
    ++*may;
    return true;
}

/* Moves what there is from one side to the other. */
static inline void
proxy_move(pg_proxy_t *self, size_t i, bool to_server)
{
    char bytes[65536];
    int from = to_server ? self->pair[i].client : self->pair[i].server;
    int to = to_server ? self->pair[i].server : self->pair[i].client;
    ssize_t n = recv(from, bytes, sizeof(bytes), MSG_DONTWAIT);
    int mode = atomic_load(&self->mode);
    /* with its NUL: a transaction that begins is READ COMMITTED */
    bool commit = to_server && n > 0 && memmem(bytes, (size_t)n, "COMMIT", 7) != NULL;
    bool last = n > 0 && proxy_is_last(self, i, to_server);
    bool answer = !to_server && self->pair[i].committing;

    if (n <= 0) {
        proxy_end(self, i);
        return;
    }
    if ((commit && mode == PROXY_CUT_BEFORE) || (last && mode == PROXY_CREEP) ||
        (answer && mode != PROXY_CREEP_WITH)) {
        proxy_cut(self, i);
        return;
    }
    for (ssize_t done = 0, m; done < n; done += m) {
        m = send(to, bytes + done, (size_t)(n - done), MSG_NOSIGNAL);
        if (m <= 0)
            break;
    }
    if ((commit && mode == PROXY_CUT_WITH) || answer) {
        proxy_cut(self, i);
        return;
    }
    self->pair[i].committing = (last && mode > PROXY_CREEP) ||
                               (commit && (mode == PROXY_CUT_AFTER ||
                                           mode == PROXY_CUT_AFTER_REFUSE));
}

static inline void *
proxy_run(void *arg)
{
    pg_proxy_t *self = arg;

    while (!atomic_load(&self->stop)) {
        struct pollfd fd[1 + 2 * PROXY_PAIRS_MAX] = {
            {.fd = self->listener, .events = POLLIN}};
        bool frozen = atomic_load(&self->mode) == PROXY_FREEZE;

        for (size_t i = 0; i < PROXY_PAIRS_MAX; i++) {
            if (atomic_load(&self->mode) == PROXY_REFUSE && self->pair[i].client >= 0)
                proxy_end(self, i);
            fd[1 + 2 * i] = (struct pollfd){.fd = self->pair[i].client, .events = POLLIN};
            fd[2 + 2 * i] = (struct pollfd){.fd = self->pair[i].server, .events = POLLIN};
        }
        if (poll(fd, frozen ? 0 : SVC_COUNT(fd), 5) <= 0 || frozen)
            continue;
        for (size_t i = 0; i < PROXY_PAIRS_MAX; i++) {
            if (fd[1 + 2 * i].revents != 0 && self->pair[i].client >= 0)
                proxy_move(self, i, true);
            if (fd[2 + 2 * i].revents != 0 && self->pair[i].server >= 0)
                proxy_move(self, i, false);
        }
        if (fd[0].revents != 0)
            proxy_accept(self);
    }
    return NULL;
}

static inline void
proxy_open(pg_proxy_t *self, const pg_fixture_t *pg, char url[PG_URL_BYTES])
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);

    memset(self, 0, sizeof(*self));
    for (size_t i = 0; i < PROXY_PAIRS_MAX; i++)
        self->pair[i].client = self->pair[i].server = -1;
    self->server_port = pg->port;
    self->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(self->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(self->listener, 16), 0);
    assert_int_equal(getsockname(self->listener, (struct sockaddr *)&at, &n), 0);
    self->port = ntohs(at.sin_port);
    pg_fixture_url_by(pg, self->port, url);
    assert_int_equal(pthread_create(&self->thread, NULL, proxy_run, self), 0);
}

static inline void
proxy_close(pg_proxy_t *self)
{
    atomic_store(&self->stop, true);
    assert_int_equal(pthread_join(self->thread, NULL), 0);
    for (size_t i = 0; i < PROXY_PAIRS_MAX; i++)
        if (self->pair[i].client >= 0)
            proxy_end(self, i);
    (void)close(self->listener);
}

#endif
