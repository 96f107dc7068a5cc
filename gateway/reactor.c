/* reactor.c - one thread of the gateway: its own loop, HTTP server, connections to the services, and feeds.
 *
 * libmicrohttpd runs with external epoll and no socket of its own to accept on:
 * conns.c hands it connections. It is run once at the end of every turn, after all
 * that resumes connections, since its time-out does not know of resumed ones.
 * Everything is made, used and closed on the reactor's own thread, but that the main
 * thread frees the loop when it has joined; it waits until all of it stands. */
#include "reactor.h"
#include "request.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#define RUNS_PER_TURN   8 /* of libmicrohttpd, while its handlers resume connections */
#define MODELS_RETRY_MS 1000
/* Turns in a row that libmicrohttpd may ask for without a pause. 0.9.75 asks for ever for a connection whose
 * bytes fill its buffer and make no sense yet (the size of a chunk with 30 KB of nothing behind it): until
 * that one's time is over it is called each ms, and as always when something comes. */
#define HURRIED_MAX     64
#define MODELS_AGAIN_MS 2000
#define LOOK_MS         60000 /* a turn at least so often */
#define EBB_MS          5000 /* how often a reactor looks whether many clients have left */
#define EBB_CONNECTIONS \
    500 /* so many at least, else it is not worth the walk through the heap */
#define CONNECTIONS_MAX \
    1000000 /* libmicrohttpd's own bound, which cannot be changed later; ours is conns.c's */
#define STOP_MS 1000 /* for the last responses to leave */
#define OPEN_MS \
    2000 /* clients of a gateway that starts wait so long at most until it reaches every service */

const char *const reactor_peer_names[REACTOR_PEERS] = {"auth-svc", "convo-svc",
                                                       "llm-svc"};

typedef struct {
    reactor_thread_t *thread; /* whose peer it is */
    reactor_peer peer;        /* which */
} peer_place_t;

/* How far a reactor is on its way out; never back. */
typedef enum { LEAVE_NOT, LEAVE_ANNOUNCED, LEAVE_DRAIN, LEAVE_END_STREAMS } leave_stage;

struct reactor_thread {
    reactor_t reactor;             /* what the parts share */
    reactor_setup_t setup;         /* as given */
    int listen_fd;                 /* until conns has it */
    int drain_fd;                  /* owned eventfd: `leaving` or `fresh` has changed */
    _Atomic(svc_config_t *) fresh; /* held; to be taken over; NULL: nothing */
    atomic_uint fresh_max;         /* connections, with that */
    svc_config_t *config;          /* held; NULL: the one that it was built with */
    uint64_t models_timer;         /* asks again; 0: none */
    atomic_int leaving;            /* leave_stage; set by any thread */
    bool is_leaving;               /* LEAVE_DRAIN or later was seen */
    pthread_t thread;              /* joined by reactor_stop */
    sem_t ready;         /* posted when the thread has built everything, or failed */
    char *error;         /* why it failed; owned until handed to the caller */
    bool failed;         /* it did */
    bool told_drained;   /* setup.drained was called */
    size_t flood;        /* most connections seen since the last ebb */
    uint64_t mhd_due_ms; /* loop time when it wants to run for its time-outs */
    size_t n_hurried;    /* turns in a row at whose end it wanted to run at once */
    bool is_ready[REACTOR_PEERS];       /* counted in setup.readiness */
    svc_beat_t beat;                    /* of its loop */
    peer_place_t places[REACTOR_PEERS]; /* for events */
};

/* --- services ----------------------------------------------------------------------------- */

static void ask_models(void *arg, short events);

static void
set_ready(reactor_thread_t *self, reactor_peer peer, bool is_ready)
{
    if (self->is_ready[peer] == is_ready)
        return;
    self->is_ready[peer] = is_ready;
    if (!is_ready) {
        svc_need_lose(&self->setup.readiness->needs[peer]);
        return;
    }
    svc_need_gain(&self->setup.readiness->needs[peer]);
    for (reactor_peer any = REACTOR_AUTH; any < REACTOR_PEERS; any++)
        if (!self->is_ready[any])
            return;
    conns_wait_no_more(self->reactor.conns);
}

/* llm-svc may serve others when its configuration was read again: nobody says so. */
static void
ask_models_in(reactor_thread_t *self, uint64_t ms)
{
    if (self->models_timer == 0)
        self->models_timer = svc_loop_after(self->reactor.ctx.loop, ms, ask_models, self);
}

static void
on_models(void *arg, proto_kind kind, svc_rc rc, const void *rep,
          const error_rep_t *error)
{
    reactor_thread_t *self = arg;

    (void)error;
    if (kind == PROTO_ERROR) {
        if (rc != RC_UNAVAILABLE)
            svc_log_warn(self->reactor.ctx.log, "llm-svc tells no models: %s",
                         svc_rc_info(rc)->wire);
        ask_models_in(self, MODELS_RETRY_MS);
        return;
    }
    models_take(self->reactor.models, rep);
    ask_models_in(self, MODELS_AGAIN_MS);
    set_ready(self, REACTOR_LLM, true);
}

static void
ask_models(void *arg, short events)
{
    reactor_thread_t *self = arg;
    empty_t nothing = {0};
    svc_peer_request_t request = {
        .op = OP_LLM_MODELS,
        .req_schema = &empty_schema,
        .req = &nothing,
        .rep_schema = &models_rep_schema,
        .timeout_ms = 5000,
        .on_reply = on_models,
        .arg = self,
    };

    (void)events;
    svc_loop_cancel(self->reactor.ctx.loop, self->models_timer);
    self->models_timer = 0;
    if (!svc_peers_is_up(self->reactor.peers[REACTOR_LLM]))
        return; /* asked again when it is */
    if (svc_peers_call(self->reactor.peers[REACTOR_LLM], &request, NULL) != RC_OK)
        ask_models_in(self, MODELS_RETRY_MS);
}

static void
on_peer(void *arg, svc_peer_event event, uint64_t instance)
{
    const peer_place_t *place = arg;
    reactor_thread_t *self = place->thread;

    (void)instance;
    if (!svc_peers_is_up(self->reactor.peers[place->peer]))
        set_ready(self, place->peer, false);
    if (event != SVC_PEER_UP)
        return;
    if (place->peer == REACTOR_LLM)
        ask_models(self, 0);
    else
        set_ready(self, place->peer, true);
    if (place->peer == REACTOR_CONVO)
        feed_hub_reattach(self->reactor.hub);
}

static bool
open_peers(reactor_thread_t *self)
{
    const svc_config_t *config = self->reactor.ctx.config;
    const char *endpoints[REACTOR_PEERS] = {
        config->bus_auth.connect, config->bus_convo.connect, config->bus_llm.connect};

    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++) {
        self->places[peer] = (peer_place_t){self, peer};
        self->reactor.peers[peer] = svc_peers_new(
            &self->reactor.ctx, reactor_peer_names[peer], endpoints[peer], on_peer,
            &self->places[peer], &self->error);
        if (self->reactor.peers[peer] == NULL)
            return false;
    }
    return true;
}

/* --- HTTP --------------------------------------------------------------------------------- */

static bool
on_hand_over(void *arg, int fd, const struct sockaddr *addr, socklen_t n)
{
    reactor_t *reactor = arg;

    reactor->mhd_has_news = true;
    return MHD_add_connection(reactor->mhd, fd, addr, n) == MHD_YES;
}

/* libmicrohttpd allows this outside of its callbacks, too, as long as it does not run: conns.c
 * looks between two runs only. */
static void
on_hold(void *arg, void *server)
{
    (void)arg;
    MHD_suspend_connection(server);
}

static void
on_release(void *arg, void *server)
{
    reactor_t *reactor = arg;

    reactor->mhd_has_news = true;
    MHD_resume_connection(server);
}

static void
on_connection(void *cls, struct MHD_Connection *mhd, void **conn_p,
              enum MHD_ConnectionNotificationCode what)
{
    reactor_t *reactor = cls;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *conn_p = conns_adopted(
            reactor->conns,
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
        SVC_ASSERT(*conn_p != NULL);
        conn_serve(*conn_p, mhd);
    } else {
        conns_closed(reactor->conns, *conn_p);
        *conn_p = NULL;
    }
}

/* A request line has come in: from here on its headers have a deadline. */
static void *
on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    (void)cls;
    (void)uri;
    conn_enter(
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context,
        CONN_HEADERS);
    return NULL;
}

/* Decodes %xx, but leaves text alone that would get a NUL: it would end the path
 * early. */
static size_t
on_unescape(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strstr(text, "%00") != NULL ? strlen(text) : MHD_http_unescape(text);
}

/* What libmicrohttpd complains about is mostly what clients do. */
static void __attribute__((format(printf, 2, 0)))
on_mhd_log(void *cls, const char *fmt, va_list args)
{
    reactor_t *reactor = cls;
    char text[512];

    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\r\n")] = '\0';
    svc_log_debug(reactor->ctx.log, "libmicrohttpd: %s", text);
}

static void
on_mhd_readable(void *arg, short events)
{
    reactor_t *reactor = arg;

    (void)events;
    reactor->mhd_has_news = true; /* the turn ends with MHD_run */
}

static bool
open_http(reactor_thread_t *self)
{
    reactor_t *reactor = &self->reactor;
    const svc_config_t *config = reactor->ctx.config;

    reactor->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET |
            MHD_USE_ERROR_LOG,
        0, NULL, NULL, request_on_http, reactor, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log,
        reactor, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX + 1u,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONN_POOL_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, config->server_idle_timeout_s,
        MHD_OPTION_NOTIFY_COMPLETED, request_on_completed, reactor,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, reactor, MHD_OPTION_URI_LOG_CALLBACK,
        on_uri, reactor, MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, reactor,
        MHD_OPTION_END);
    if (reactor->mhd == NULL) {
        SVC_ASSERT(asprintf(&self->error, "the HTTP server cannot start: %s",
                            strerror(errno)) >= 0);
        return false;
    }
    int epoll_fd = MHD_get_daemon_info(reactor->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    svc_loop_add_fd(reactor->ctx.loop, epoll_fd, ZMQ_POLLIN, on_mhd_readable, reactor);
    reactor->conns = conns_new(&reactor->ctx, self->listen_fd,
                               self->setup.max_connections, self->setup.limit,
                               self->setup.trust,
                               &(conns_hooks_t){.hand_over = on_hand_over,
                                                .gone = request_on_gone,
                                                .hold = on_hold,
                                                .release = on_release,
                                                .writable = request_on_writable,
                                                .arg = reactor});
    self->listen_fd = -1;
    if (self->setup.tls != NULL) {
        reactor->tls = tls_front_new(&reactor->ctx, self->setup.tls);
        conns_use_tls(reactor->conns, reactor->tls);
    }
    /* A name server or a proxy may send clients here as soon as the process is there. */
    conns_wait(reactor->conns, OPEN_MS);
    return true;
}

/* --- turns -------------------------------------------------------------------------------- */

/* Runs libmicrohttpd if there is a reason to: a turn that brought only text for streams
 * has none, and each run costs system calls. */
static void
run_http(reactor_thread_t *self)
{
    reactor_t *reactor = &self->reactor;
    uint64_t now = svc_loop_now_ms(reactor->ctx.loop);
    MHD_UNSIGNED_LONG_LONG ms;

    if (!reactor->mhd_has_news && now < self->mhd_due_ms)
        return;
    for (int i = 0; i < RUNS_PER_TURN; i++) {
        conns_look(reactor->conns);
        reactor->mhd_has_news = false;
        MHD_run(reactor->mhd);
        request_write_woken(reactor);
        if (!reactor->mhd_has_news)
            break;
    }
    conns_settle(reactor->conns);
    bool has_timeout = MHD_get_timeout(reactor->mhd, &ms) == MHD_YES;
    self->n_hurried = has_timeout && ms == 0 ? self->n_hurried + 1 : 0;
    if (self->n_hurried > HURRIED_MAX)
        ms = 1;
    self->mhd_due_ms = has_timeout ? now + ms : UINT64_MAX;
}

static int
on_turn(void *arg)
{
    reactor_thread_t *self = arg;
    reactor_t *reactor = &self->reactor;

    request_write_woken(reactor);
    run_http(self);
    feed_hub_delivered(reactor->hub);
    http_metrics_open(&reactor->http_metrics, conns_count(reactor->conns));
    if (self->is_leaving && reactor->n_requests == 0 && !self->told_drained &&
        feed_hub_feeds(reactor->hub) == 0 &&
        (reactor->tls == NULL || tls_front_unsaid(reactor->tls) == 0)) {
        self->told_drained = true;
        self->setup.drained(self->setup.arg);
    }
    if (reactor->mhd_has_news)
        return 0;
    uint64_t now = svc_loop_now_ms(reactor->ctx.loop);
    uint64_t left_ms = self->mhd_due_ms > now ? self->mhd_due_ms - now : 0;
    return left_ms < LOOK_MS ? (int)left_ms : LOOK_MS;
}

/* Most clients have left: gives the system back what they needed. The heap itself would keep it, 30 KB for each
 * connection that was served twice. */
static void
on_ebb(void *arg, short events)
{
    reactor_thread_t *self = arg;
    size_t n = conns_count(self->reactor.conns);

    (void)events;
    if (n > self->flood)
        self->flood = n;
    if (self->flood < EBB_CONNECTIONS || n > self->flood / 4)
        return;
    self->flood = n;
    malloc_trim(0);
}

/* Whatever of the one before was borrowed by a turn is not any more: this is the beginning of another one. */
static void
take_config(reactor_thread_t *self)
{
    svc_config_t *fresh = atomic_exchange(&self->fresh, NULL);

    if (fresh == NULL)
        return;
    self->reactor.ctx.config = fresh;
    svc_config_destroy(&self->config);
    self->config = fresh;
    conns_set_max(self->reactor.conns, atomic_load(&self->fresh_max));
}

static void
on_drain(void *arg, short events)
{
    reactor_thread_t *self = arg;
    uint64_t times;

    (void)events;
    if (read(self->drain_fd, &times, sizeof times) != sizeof times)
        return;
    take_config(self);
    if (atomic_load(&self->leaving) == LEAVE_NOT)
        return;
    const int stage = atomic_load(&self->leaving);
    if (stage >= LEAVE_END_STREAMS && !self->reactor.ending) {
        self->reactor.ending = true;
        request_end_streams(&self->reactor);
    }
    self->reactor.draining = true;
    if (stage < LEAVE_DRAIN || self->is_leaving)
        return;
    self->is_leaving = true;
    conns_stop_accepting(self->reactor.conns);
    self->reactor.mhd_has_news = true; /* requests that have come by now are served */
}

/* --- the thread --------------------------------------------------------------------------- */

static bool
build(reactor_thread_t *self)
{
    reactor_t *reactor = &self->reactor;
    char name[24];

    reactor->ctx = *self->setup.ctx;
    reactor->ctx.loop = svc_loop_new();
    reactor->trust = self->setup.trust;
    reactor->readiness = self->setup.readiness;
    reactor->verdicts = verdicts_new(1000ull *
                                     reactor->ctx.config->gateway_verify_cache_s);
    reactor->models = models_new();
    svc_buf_init(&reactor->scratch, STREAM_FILL_MAX_BYTES);
    http_metrics_init(&reactor->http_metrics, reactor->ctx.metrics);
    if (!open_peers(self))
        return false;
    reactor->hub = feed_hub_new(&reactor->ctx, reactor->peers[REACTOR_CONVO],
                                reactor->peers[REACTOR_LLM], &self->error);
    if (reactor->hub == NULL || !open_http(self))
        return false;
    if (self->setup.meeting != NULL) {
        feed_hub_meet(reactor->hub, self->setup.meeting, self->setup.number);
        conns_meet(reactor->conns, self->setup.meeting, self->setup.number);
    }
    svc_loop_add_fd(reactor->ctx.loop, self->drain_fd, ZMQ_POLLIN, on_drain, self);
    svc_loop_on_turn(reactor->ctx.loop, on_turn, self);
    svc_loop_every(reactor->ctx.loop, EBB_MS, on_ebb, self);
    snprintf(name, sizeof name, "reactor %zu", self->setup.number);
    svc_health_watch(reactor->ctx.health, &self->beat, reactor->ctx.loop, name);
    return true;
}

/* Ends every request. A suspended connection must not outlive this: libmicrohttpd
 * could not be stopped. */
static void
end_requests(reactor_t *reactor)
{
    int epoll_fd = MHD_get_daemon_info(reactor->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;

    reactor->stopping = true;
    reactor->draining = true;
    for (int waited_ms = 0;
         waited_ms <= STOP_MS && (reactor->n_requests > 0 || waited_ms == 0);
         waited_ms += 10) {
        struct pollfd wait = {.fd = epoll_fd, .events = POLLIN};
        request_end_all(reactor, waited_ms == STOP_MS);
        MHD_run(reactor->mhd);
        MHD_run(reactor->mhd); /* what the first one has resumed */
        if (reactor->tls != NULL)
            tls_front_look(reactor->tls); /* makes room for more */
        if (reactor->n_requests > 0)
            poll(&wait, 1, 10);
    }
}

static void
tear_down(reactor_thread_t *self)
{
    reactor_t *reactor = &self->reactor;

    svc_health_unwatch(&self->beat);
    if (reactor->conns != NULL)
        conns_stop_accepting(reactor->conns);
    if (reactor->mhd != NULL) {
        int epoll_fd =
            MHD_get_daemon_info(reactor->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
        end_requests(reactor);
        svc_loop_remove_fd(reactor->ctx.loop, epoll_fd);
        MHD_stop_daemon(reactor->mhd);
    }
    conns_destroy(&reactor->conns);
    http_metrics_open(&reactor->http_metrics, 0);
    tls_front_destroy(&reactor->tls);
    feed_hub_destroy(&reactor->hub);
    for (reactor_peer peer = REACTOR_AUTH; peer < REACTOR_PEERS; peer++)
        svc_peers_destroy(&reactor->peers[peer]);
    verdicts_destroy(&reactor->verdicts);
    models_destroy(&reactor->models);
    svc_buf_fini(&reactor->scratch);
    if (self->listen_fd >= 0)
        close(self->listen_fd);
}

static void *
thread_main(void *arg)
{
    reactor_thread_t *self = arg;

    self->failed = !build(self);
    if (self->failed) {
        tear_down(self);
        sem_post(&self->ready);
        return NULL;
    }
    sem_post(&self->ready);
    svc_loop_run(self->reactor.ctx.loop);
    tear_down(self);
    return NULL;
}

/* The thread is joined. Its loop has to live until here: whoever has stopped it may still be on the
 * way to wake it when it has already ended. */
static void
free_thread(reactor_thread_t *self)
{
    svc_config_t *fresh = atomic_exchange(&self->fresh, NULL);

    svc_config_destroy(&fresh);
    svc_config_destroy(&self->config);
    svc_loop_destroy(&self->reactor.ctx.loop);
    sem_destroy(&self->ready);
    close(self->drain_fd);
    free(self);
}

reactor_thread_t *
reactor_start(const reactor_setup_t *setup, int listen_fd, char **error)
{
    reactor_thread_t *self = svc_alloc(sizeof *self);

    self->setup = *setup;
    self->listen_fd = listen_fd;
    self->drain_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    SVC_ASSERT(self->drain_fd >= 0 && sem_init(&self->ready, 0, 0) == 0);
    SVC_ASSERT(pthread_create(&self->thread, NULL, thread_main, self) == 0);
    while (sem_wait(&self->ready) != 0 && errno == EINTR)
        continue;
    if (!self->failed)
        return self;
    *error = self->error;
    pthread_join(self->thread, NULL);
    free_thread(self);
    return NULL;
}

/* Has its thread look at what has changed. */
static void
nudge(reactor_thread_t *self)
{
    uint64_t once = 1;
    ssize_t n = write(self->drain_fd, &once, sizeof once);

    SVC_ASSERT(n == sizeof once);
}

void
reactor_reload(reactor_thread_t *self, const svc_config_t *fresh,
               uint32_t max_connections)
{
    atomic_store(&self->fresh_max, max_connections);
    svc_config_t *untaken = atomic_exchange(&self->fresh, svc_config_hold(fresh));

    svc_config_destroy(&untaken);
    nudge(self);
}

static void
leave(reactor_thread_t *self, leave_stage stage)
{
    atomic_store(&self->leaving, (int)stage);
    nudge(self);
}

void
reactor_announce(reactor_thread_t *self)
{
    leave(self, LEAVE_ANNOUNCED);
}

void
reactor_drain(reactor_thread_t *self)
{
    leave(self, LEAVE_DRAIN);
}

void
reactor_end_streams(reactor_thread_t *self)
{
    leave(self, LEAVE_END_STREAMS);
}

void
reactor_end(reactor_thread_t *self)
{
    svc_loop_stop(self->reactor.ctx.loop);
}

void
reactor_stop(reactor_thread_t **self_p)
{
    reactor_thread_t *self = *self_p;

    if (self == NULL)
        return;
    svc_loop_stop(self->reactor.ctx.loop);
    pthread_join(self->thread, NULL);
    free_thread(self);
    *self_p = NULL;
}
