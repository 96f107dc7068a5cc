/* svc_admin.c - the admin port's own few lines of HTTP around svc_health and svc_metrics_text, and the ones that ask it.
 *
 * One thread waits by poll() for the socket that listens and all that were accepted. A request is answered when its
 * headers are there, whatever body it announces; then the connection is read empty for a moment and closed, since closing
 * it with something unread would take the answer back. So little is done here that a library for it would cost more than it
 * spares: libmicrohttpd brings GnuTLS and all it stands on, 2.3 MB for each service that serves nothing else by HTTP.
 * Nothing here blocks, and whatever a client does, it is gone after SVC_ADMIN_IDLE_S. */
#include "svc/svc_admin.h"

#include "svc/svc_accept.h"

#include "svc/svc_time.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG            64
#define HOST_MAX_BYTES     256
#define RESPONSE_MAX_BYTES 16384 /* that a probe reads */
#define LINGER_MS          1000  /* for what a client still sends after its answer */
#define ACCEPTS_A_TURN     16
#define ACCEPT_PAUSE_MS    100 /* when there is no descriptor left for another one */

typedef enum { READING, WRITING, LINGERING } conn_state;

/* One connection. */
typedef struct {
    int fd;                         /* owned */
    struct sockaddr_storage client; /* who is there */
    conn_state state;
    uint64_t end_ms; /* monotonic: closed then at the latest */
    svc_buf_t in;    /* at most SVC_ADMIN_REQUEST_MAX_BYTES */
    svc_buf_t out;   /* what is still to be sent */
} conn_t;

struct svc_admin {
    svc_metrics_about_t about; /* all borrowed */
    svc_log_t *log;            /* borrowed; may be NULL */
    uint16_t port;             /* where it listens */
    int wake;                  /* owned; readable when the thread is to end */
    pthread_t thread;

    /* the thread's alone */
    int listener;  /* owned */
    conn_t *conns; /* owned: SVC_ADMIN_CONNECTIONS_MAX; the first n are there */
    size_t n;
    uint64_t accept_ms; /* monotonic: nobody is accepted before */
};

/* --- what is told ------------------------------------------------------------------- */

#define TYPE_JSON   "application/json"
/* A response that takes more memory than this counts for SVC_ADMIN_SCRAPES_MAX. */
#define SMALL_BYTES (2 * SVC_HEALTH_MAX_BYTES)

typedef struct {
    const char *path;
    const char *type; /* of the body */
    /* Writes the body; false: it goes with 503. */
    bool (*tell)(const svc_metrics_about_t *about, svc_buf_t *out);
    size_t max; /* bytes of it */
} route_t;

static bool
tell_alive(const svc_metrics_about_t *about, svc_buf_t *out)
{
    return svc_health_tell_alive(about->health, out);
}

static bool
tell_ready(const svc_metrics_about_t *about, svc_buf_t *out)
{
    return svc_health_tell_ready(about->health, out);
}

static bool
tell_metrics(const svc_metrics_about_t *about, svc_buf_t *out)
{
    svc_metrics_text(about, out);
    return true;
}

// clang-format off
static const route_t routes[] = {
    {"/healthz", TYPE_JSON,             tell_alive,   SVC_HEALTH_MAX_BYTES},
    {"/readyz",  TYPE_JSON,             tell_ready,   SVC_HEALTH_MAX_BYTES},
    {"/metrics", SVC_METRICS_TEXT_TYPE, tell_metrics, SVC_METRICS_TEXT_MAX_BYTES},
};
// clang-format on

/* A response of ours fits into its buffer, whatever was asked. */
static void
respond_with(svc_buf_t *out, const char *status, const char *type, const char *more,
             bool is_head, svc_str body)
{
    SVC_ASSERT(svc_buf_printf(out,
                              "HTTP/1.1 %s\r\nContent-Type: %s\r\n"
                              "Cache-Control: no-store\r\n%sContent-Length: %zu\r\n"
                              "Connection: close\r\n\r\n",
                              status, type, more, body.n) == RC_OK);
    if (!is_head)
        SVC_ASSERT(svc_buf_add_str(out, body) == RC_OK);
}

static void
respond(svc_buf_t *out, const char *status, const char *more, bool is_head, svc_str body)
{
    respond_with(out, status, TYPE_JSON, more, is_head, body);
}

static bool
is_text(svc_str a, const char *b)
{
    return a.n == strlen(b) && memcmp(a.p, b, a.n) == 0;
}

/* Takes what stands before the next `end` off *rest; false: there is none. */
static bool
take_word(svc_str *rest, char end, svc_str *out)
{
    const char *at = rest->n == 0 ? NULL : memchr(rest->p, end, rest->n);

    if (at == NULL)
        return false;
    *out = (svc_str){rest->p, (size_t)(at - rest->p)};
    *rest = (svc_str){at + 1, rest->n - out->n - 1};
    return true;
}

/* Does what a route is for. */
static void
respond_by(const route_t *route, const svc_metrics_about_t *about, bool is_head,
           svc_buf_t *out)
{
    svc_buf_t body;
    bool is_good;

    svc_buf_init(&body, route->max);
    is_good = route->tell(about, &body);
    respond_with(out, is_good ? "200 OK" : "503 Service Unavailable", route->type, "",
                 is_head, svc_buf_str(&body));
    svc_buf_fini(&body);
}

void
svc_admin_respond(const svc_metrics_about_t *about, svc_str request, bool is_busy,
                  svc_buf_t *out)
{
    svc_str method, target, path, version;
    const route_t *route = routes;
    bool is_head;

    if (!take_word(&request, ' ', &method) || !take_word(&request, ' ', &target) ||
        !take_word(&request, '\n', &version) || version.n < strlen("HTTP/1.") ||
        memcmp(version.p, "HTTP/1.", strlen("HTTP/1.")) != 0) {
        respond(out, "400 Bad Request", "", false,
                SVC_LIT("{\"status\":\"bad_request\"}"));
        return;
    }
    is_head = is_text(method, "HEAD");
    if (!take_word(&target, '?', &path))
        path = target;
    while (route < routes + SVC_COUNT(routes) && !is_text(path, route->path))
        route++;
    if (route == routes + SVC_COUNT(routes)) {
        respond(out, "404 Not Found", "", is_head, SVC_LIT("{\"status\":\"not_found\"}"));
        return;
    }
    if (!is_head && !is_text(method, "GET")) {
        respond(out, "405 Method Not Allowed", "Allow: GET, HEAD\r\n", false,
                SVC_LIT("{\"status\":\"method_not_allowed\"}"));
        return;
    }
    if (is_busy && route->max > SMALL_BYTES)
        respond(out, "503 Service Unavailable", "Retry-After: 1\r\n", is_head,
                SVC_LIT("{\"status\":\"busy\"}"));
    else
        respond_by(route, about, is_head, out);
}

/* --- addresses ---------------------------------------------------------------------- */

/* Finds what host:port stands for; NULL: nothing. freeaddrinfo() it. */
static struct addrinfo *
resolve(const char *address, bool to_connect)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    const char *colon = strrchr(address, ':');
    struct addrinfo *found = NULL;
    char host[HOST_MAX_BYTES];
    size_t n = colon == NULL ? 0 : (size_t)(colon - address);

    if (n > 1 && address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    }
    if (n == 0 || n >= sizeof(host))
        return NULL;
    memcpy(host, address, n);
    host[n] = '\0';
    if (strcmp(host, "*") == 0)
        memcpy(host, "0.0.0.0", sizeof("0.0.0.0"));
    if (to_connect && strcmp(host, "0.0.0.0") == 0)
        memcpy(host, "127.0.0.1", sizeof("127.0.0.1"));
    if (to_connect && strcmp(host, "::") == 0)
        memcpy(host, "::1", sizeof("::1"));
    return getaddrinfo(host, colon + 1, &hints, &found) == 0 ? found : NULL;
}

/* Opens a socket that listens; -1 with errno. */
static int
open_listener(const struct addrinfo *at)
{
    const int yes = 1;
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int why;

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
        bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    why = errno;
    close(fd);
    errno = why;
    return -1;
}

static uint16_t
port_of(int fd)
{
    struct sockaddr_storage at = {.ss_family = AF_UNSPEC};
    socklen_t n = sizeof(at);

    (void)getsockname(fd, (struct sockaddr *)&at, &n);
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}

/* --- connections -------------------------------------------------------------------- */

/* Two addresses of one client, whatever their ports. */
static bool
is_same_client(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)a,
                             *b4 = (const struct sockaddr_in *)b;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a,
                              *b6 = (const struct sockaddr_in6 *)b;

    if (a->ss_family != b->ss_family)
        return false;
    return a->ss_family == AF_INET6
               ? memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0
               : a4->sin_addr.s_addr == b4->sin_addr.s_addr;
}

static void
close_conn(svc_admin_t *self, size_t i)
{
    conn_t *conn = &self->conns[i];

    close(conn->fd);
    svc_buf_fini(&conn->in);
    svc_buf_fini(&conn->out);
    *conn = self->conns[--self->n];
}

/* Closes the one that has been silent for longest, of a client or of all (NULL), so that a crowd that says nothing keeps
 * no prober out. False: all have sent their request. */
static bool
evict(svc_admin_t *self, const struct sockaddr_storage *client)
{
    size_t oldest = self->n;

    for (size_t i = 0; i < self->n; i++) {
        const conn_t *conn = &self->conns[i];

        if (conn->state == READING &&
            (client == NULL || is_same_client(&conn->client, client)) &&
            (oldest == self->n || conn->end_ms < self->conns[oldest].end_ms))
            oldest = i;
    }
    if (oldest == self->n)
        return false;
    close_conn(self, oldest);
    return true;
}

/* Accepts one that waits; false: there is none, or no room or descriptor for it. One too many of its address takes the place of
 * a silent one, or is closed at once. */
static bool
accept_one(svc_admin_t *self)
{
    struct sockaddr_storage client = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof(client);
    int fd = svc_accept(self->listener, (struct sockaddr *)&client, &length);
    size_t same = 0;

    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            svc_log_debug(self->log, "admin port: cannot accept: %s", strerror(errno));
            self->accept_ms = svc_mono_ms() + ACCEPT_PAUSE_MS;
        }
        return false;
    }
    for (size_t i = 0; i < self->n; i++)
        same += is_same_client(&self->conns[i].client, &client) ? 1 : 0;
    if ((same >= SVC_ADMIN_PER_ADDRESS_MAX && !evict(self, &client)) ||
        (self->n == SVC_ADMIN_CONNECTIONS_MAX && !evict(self, NULL))) {
        close(fd);
        return true;
    }
    self->conns[self->n] = (conn_t){
        .fd = fd, .client = client, .end_ms = svc_mono_ms() + SVC_ADMIN_IDLE_S * 1000ull};
    svc_buf_init(&self->conns[self->n].in, SVC_ADMIN_REQUEST_MAX_BYTES);
    svc_buf_init(&self->conns[self->n].out, SVC_ADMIN_RESPONSE_MAX_BYTES);
    self->n++;
    return true;
}

/* Sends what the socket takes. False: the client is gone. */
static bool
send_some(conn_t *conn)
{
    ssize_t sent = send(conn->fd, conn->out.p, conn->out.n, MSG_NOSIGNAL);
    uint64_t soon = svc_mono_ms() + LINGER_MS;

    if (sent < 0)
        return errno == EAGAIN || errno == EINTR;
    svc_buf_consume(&conn->out, (size_t)sent);
    if (conn->out.n > 0)
        return true;
    conn->state = LINGERING;
    svc_buf_fini(&conn->out);
    if (soon < conn->end_ms)
        conn->end_ms = soon;
    return shutdown(conn->fd, SHUT_WR) == 0;
}

/* Are the headers complete? Lines may end without a carriage return, and empty ones may precede them. */
static bool
has_headers(svc_buf_t *in)
{
    size_t blank = 0;

    while (blank < in->n && (in->p[blank] == '\r' || in->p[blank] == '\n'))
        blank++;
    svc_buf_consume(in, blank);
    return memmem(in->p, in->n, "\n\r\n", 3) != NULL ||
           memmem(in->p, in->n, "\n\n", 2) != NULL;
}

/* Is there no room for one more large answer? */
static bool
is_busy(const svc_admin_t *self)
{
    size_t n = 0;

    for (size_t i = 0; i < self->n; i++)
        n += self->conns[i].out.cap > SMALL_BYTES ? 1 : 0;
    return n >= SVC_ADMIN_SCRAPES_MAX;
}

/* Reads what has come and answers what is complete. False: the client is gone. */
static bool
read_some(svc_admin_t *self, conn_t *conn)
{
    char bytes[2048];
    ssize_t got = recv(conn->fd, bytes, sizeof(bytes), 0);

    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    if (conn->state != READING)
        return true;
    if (svc_buf_add(&conn->in, bytes, (size_t)got) != RC_OK)
        respond(&conn->out, "431 Request Header Fields Too Large", "", false,
                SVC_LIT("{\"status\":\"too_large\"}"));
    else if (has_headers(&conn->in))
        svc_admin_respond(&self->about, svc_buf_str(&conn->in), is_busy(self),
                          &conn->out);
    else
        return true;
    conn->state = WRITING;
    return send_some(conn);
}

/* --- the thread --------------------------------------------------------------------- */

enum { FD_WAKE, FD_LISTENER, FD_CONNS };

/* Waits for something to do; fills *fds. */
static void
wait_for_work(const svc_admin_t *self, struct pollfd *fds)
{
    const uint64_t now = svc_mono_ms();
    const bool is_paused = now < self->accept_ms;
    uint64_t end = is_paused ? self->accept_ms : UINT64_MAX;

    fds[FD_WAKE] = (struct pollfd){.fd = self->wake, .events = POLLIN};
    fds[FD_LISTENER] = (struct pollfd){.fd = self->listener, .events = POLLIN};
    if (is_paused)
        fds[FD_LISTENER].fd = -1; /* the kernel keeps a few of them */
    for (size_t i = 0; i < self->n; i++) {
        const conn_t *conn = &self->conns[i];

        fds[FD_CONNS + i] = (struct pollfd){
            .fd = conn->fd, .events = conn->state == WRITING ? POLLOUT : POLLIN};
        end = conn->end_ms < end ? conn->end_ms : end;
    }
    if (poll(fds, FD_CONNS + self->n,
             end == UINT64_MAX ? -1
             : end <= now      ? 0
                               : (int)(end - now)) <= 0)
        for (size_t i = 0; i < FD_CONNS + self->n; i++)
            fds[i].revents = 0;
}

static void *
serve(void *arg)
{
    svc_admin_t *self = arg;
    struct pollfd fds[FD_CONNS + SVC_ADMIN_CONNECTIONS_MAX];

    for (;;) {
        wait_for_work(self, fds);
        if (fds[FD_WAKE].revents != 0)
            break;
        for (size_t i = self->n; i-- > 0;) { /* closing one moves only those behind it */
            conn_t *conn = &self->conns[i];
            bool is_there = svc_mono_ms() < conn->end_ms;

            if (is_there && fds[FD_CONNS + i].revents != 0)
                is_there = conn->state == WRITING ? send_some(conn)
                                                  : read_some(self, conn);
            if (!is_there)
                close_conn(self, i);
        }
        /* A few a turn: each is listened to before others may take its place. */
        for (int i = 0; i < ACCEPTS_A_TURN && fds[FD_LISTENER].revents != 0; i++)
            if (!accept_one(self))
                break;
    }
    while (self->n > 0)
        close_conn(self, self->n - 1);
    return NULL;
}

/* --- life --------------------------------------------------------------------------- */

static void
explain(const char *address, int why, char **error)
{
    if (why == EADDRINUSE)
        SVC_ASSERT(asprintf(error, "%s is in use", address) >= 0);
    else
        SVC_ASSERT(asprintf(error, "cannot listen on %s: %s", address, strerror(why)) >=
                   0);
}

svc_admin_t *
svc_admin_new(const char *address, const svc_metrics_about_t *about, svc_log_t *log,
              char **error)
{
    struct addrinfo *at = resolve(address, false);
    int fd = at == NULL ? -1 : open_listener(at);
    int why = at == NULL ? EADDRNOTAVAIL : errno;
    svc_admin_t *self;

    if (at != NULL)
        freeaddrinfo(at);
    if (fd < 0) {
        explain(address, why, error);
        return NULL;
    }
    self = svc_alloc(sizeof(*self));
    self->about = *about;
    self->log = log;
    self->listener = fd;
    self->port = port_of(fd);
    self->conns = svc_alloc(SVC_ADMIN_CONNECTIONS_MAX * sizeof(*self->conns));
    self->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    SVC_ASSERT(self->wake >= 0 && pthread_create(&self->thread, NULL, serve, self) == 0);
    return self;
}

void
svc_admin_destroy(svc_admin_t **self_p)
{
    const uint64_t one = 1;
    svc_admin_t *self = *self_p;

    if (self == NULL)
        return;
    SVC_ASSERT(write(self->wake, &one, sizeof(one)) == sizeof(one) &&
               pthread_join(self->thread, NULL) == 0);
    close(self->wake);
    close(self->listener);
    free(self->conns);
    free(self);
    *self_p = NULL;
}

uint16_t
svc_admin_port(const svc_admin_t *self)
{
    return self->port;
}

/* --- the probe ---------------------------------------------------------------------- */

/* Waits until the socket is ready for `events`; false with errno: it is not in time. */
static bool
wait_for(int fd, short events, uint64_t deadline_ms)
{
    struct pollfd ready = {.fd = fd, .events = events};
    uint64_t now;

    while ((now = svc_mono_ms()) < deadline_ms) {
        int n = poll(&ready, 1, (int)(deadline_ms - now));

        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
    errno = ETIMEDOUT;
    return false;
}

/* Connects; false with errno. */
static bool
connect_to(int fd, const struct addrinfo *at, uint64_t deadline_ms)
{
    int why = 0;
    socklen_t n = sizeof(why);

    if (connect(fd, at->ai_addr, at->ai_addrlen) == 0)
        return true;
    if (errno != EINPROGRESS || !wait_for(fd, POLLOUT, deadline_ms) ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) != 0)
        return false;
    errno = why;
    return why == 0;
}

/* Sends a request that fits into an empty socket buffer, and reads up to the server's close; false with errno. */
static bool
exchange(int fd, const char *path, uint64_t deadline_ms, svc_buf_t *out)
{
    char request[256];
    int n = snprintf(request, sizeof(request),
                     "GET %s HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n", path);
    ssize_t got = 1;

    if (n < 0 || (size_t)n >= sizeof(request) ||
        send(fd, request, (size_t)n, MSG_NOSIGNAL) != n)
        return false;
    while (got > 0) {
        if (!wait_for(fd, POLLIN, deadline_ms) || svc_buf_reserve(out, 1024) != RC_OK)
            return false;
        got = recv(fd, out->p + out->n, out->cap - out->n, 0);
        out->n += got > 0 ? (size_t)got : 0;
    }
    return got == 0;
}

/* The status of a response, whose headers are taken off; 0: it is none. */
static int
parse(svc_buf_t *response)
{
    static const char version[] = "HTTP/1.1 ";
    const char *end;
    int status;

    if (svc_buf_add(response, "", 1) != RC_OK)
        return 0;
    response->n--;
    end = strstr(response->p, "\r\n\r\n");
    if (end == NULL || strncmp(response->p, version, strlen(version)) != 0)
        return 0;
    status = atoi(response->p + strlen(version));
    svc_buf_consume(response, (size_t)(end + 4 - response->p));
    return status;
}

int
svc_admin_probe(const char *address, const char *path, svc_buf_t *out, char **error)
{
    const uint64_t deadline_ms = svc_mono_ms() + SVC_ADMIN_PROBE_MS;
    struct addrinfo *at = resolve(address, true);
    svc_buf_t response;
    int fd = at == NULL
                 ? -1
                 : socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int status = 0;

    svc_buf_init(&response, RESPONSE_MAX_BYTES);
    errno = at == NULL ? EADDRNOTAVAIL : errno;
    if (fd < 0 || !connect_to(fd, at, deadline_ms) ||
        !exchange(fd, path, deadline_ms, &response))
        SVC_ASSERT(asprintf(error, "%s does not answer: %s", address, strerror(errno)) >=
                   0);
    else if ((status = parse(&response)) == 0 ||
             svc_buf_add_str(out, svc_buf_str(&response)) != RC_OK) {
        status = 0;
        SVC_ASSERT(asprintf(error, "%s does not answer as an admin port", address) >= 0);
    }
    svc_buf_fini(&response);
    if (fd >= 0)
        close(fd);
    if (at != NULL)
        freeaddrinfo(at);
    return status;
}
