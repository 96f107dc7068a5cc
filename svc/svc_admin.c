/* svc_admin.c - libmicrohttpd around svc_health, and the few lines of HTTP that ask it.
 *
 * libmicrohttpd parses what comes; a request is answered when its headers are there, whatever body it announces,
 * so nothing that a client sends is kept. The socket is opened here, for the sake of an error that says what is wrong.
 * Threads: libmicrohttpd's one answers; the main one starts and ends it. */
#include "svc/svc_admin.h"

#include "svc/svc_time.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 64
#define MEMORY_BYTES \
    8192 /* of a connection: request line and headers; more is 414 or 431 */
#define HOST_MAX_BYTES     256
#define RESPONSE_MAX_BYTES 16384 /* that a probe reads */

struct svc_admin {
    svc_health_t *health;   /* borrowed */
    svc_log_t *log;         /* borrowed; may be NULL */
    struct MHD_Daemon *mhd; /* owned */
    uint16_t port;          /* where it listens */
};

/* --- what is told ------------------------------------------------------------------- */

typedef struct {
    const char *path;
    /* Writes the body; false: it goes with 503. Its buffer holds SVC_HEALTH_MAX_BYTES. */
    bool (*tell)(svc_health_t *health, svc_buf_t *out);
} route_t;

// clang-format off
static const route_t routes[] = {
    {"/healthz", svc_health_tell_alive},
    {"/readyz",  svc_health_tell_ready},
};
// clang-format on

static enum MHD_Result
answer(struct MHD_Connection *mhd, unsigned status, svc_str body)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        body.n, (void *)(uintptr_t)body.p, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result ok = MHD_NO;

    if (response == NULL)
        return MHD_NO;
    if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                "application/json") == MHD_YES &&
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") ==
            MHD_YES &&
        (status != MHD_HTTP_METHOD_NOT_ALLOWED ||
         MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") ==
             MHD_YES))
        ok = MHD_queue_response(mhd, status, response);
    MHD_destroy_response(response);
    return ok;
}

static enum MHD_Result
tell(svc_admin_t *self, struct MHD_Connection *mhd, const route_t *route)
{
    svc_buf_t body;
    enum MHD_Result ok;

    svc_buf_init(&body, SVC_HEALTH_MAX_BYTES);
    ok = route->tell(self->health, &body)
             ? answer(mhd, MHD_HTTP_OK, svc_buf_str(&body))
             : answer(mhd, MHD_HTTP_SERVICE_UNAVAILABLE, svc_buf_str(&body));
    svc_buf_fini(&body);
    return ok;
}

/* The thread of libmicrohttpd: headers have come. */
static enum MHD_Result
on_http(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
        const char *version, const char *upload, size_t *upload_size, void **request)
{
    (void)version;
    (void)upload;
    (void)upload_size;
    (void)request;
    for (size_t i = 0; i < SVC_COUNT(routes); i++) {
        if (strcmp(url, routes[i].path) != 0)
            continue;
        if (strcmp(method, MHD_HTTP_METHOD_GET) == 0 ||
            strcmp(method, MHD_HTTP_METHOD_HEAD) == 0)
            return tell(cls, mhd, &routes[i]);
        return answer(mhd, MHD_HTTP_METHOD_NOT_ALLOWED,
                      SVC_LIT("{\"status\":\"method_not_allowed\"}"));
    }
    return answer(mhd, MHD_HTTP_NOT_FOUND, SVC_LIT("{\"status\":\"not_found\"}"));
}

static void __attribute__((format(printf, 2, 0)))
on_mhd_log(void *cls, const char *fmt, va_list args)
{
    const svc_admin_t *self = cls;
    char text[512];

    vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\r\n")] = '\0';
    if (self->log != NULL)
        svc_log_debug(self->log, "admin port: %s", text);
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

/* --- life --------------------------------------------------------------------------- */

static bool
start(svc_admin_t *self, int fd)
{
    self->mhd = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        on_http, self, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, self,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)SVC_ADMIN_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)SVC_ADMIN_PER_ADDRESS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)SVC_ADMIN_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)MEMORY_BYTES, MHD_OPTION_END);
    return self->mhd != NULL;
}

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
svc_admin_new(const char *address, svc_health_t *health, svc_log_t *log, char **error)
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
    self->health = health;
    self->log = log;
    self->port = port_of(fd);
    if (start(self, fd))
        return self;
    close(fd);
    free(self);
    *error = svc_str_dup(SVC_LIT("the HTTP server cannot start"));
    return NULL;
}

void
svc_admin_destroy(svc_admin_t **self_p)
{
    svc_admin_t *self = *self_p;

    if (self == NULL)
        return;
    MHD_stop_daemon(self->mhd); /* closes the socket, too */
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
