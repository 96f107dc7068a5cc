/* tiny_server.h - a HTTP server on a thread, that answers with exactly the bytes a test wants.
 *
 * Serves one connection at a time. For each request it calls the test's function, which
 * writes to the socket and says whether the connection stays open. No asserts on its
 * thread: what it saw is compared by the test. Included by the tests that speak HTTP. */
#ifndef TESTS_UNIT_LLM_SVC_TINY_SERVER_H
#define TESTS_UNIT_LLM_SVC_TINY_SERVER_H

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TINY_REQUEST_MAX_BYTES 65536
#define TINY_PATIENCE_MS       20000

typedef struct tiny_server tiny_server_t;

/* Answers request number `nth` (from 1); true: the connection stays open. */
typedef bool tiny_serve_fn(tiny_server_t *self, int fd, int nth);

struct tiny_server {
    int listener;                         /* 127.0.0.1, a free port */
    int port;                             /* of it */
    pthread_t thread;                     /* serves */
    tiny_serve_fn *serve;                 /* of the test */
    atomic_int requests;                  /* read so far */
    atomic_int connections;               /* accepted so far */
    atomic_bool client_left;              /* tiny_wait_for_close saw it */
    char request[TINY_REQUEST_MAX_BYTES]; /* its thread's: the latest, NUL-terminated */
    pthread_mutex_t lock;                 /* of seen */
    char seen[TINY_REQUEST_MAX_BYTES];    /* copy of it for the test */
    char url[64];                         /* "http://127.0.0.1:<port>/v1" */
};

/* Writes a string, whole. */
static inline void
tiny_write(int fd, const char *text)
{
    size_t n = strlen(text);

    while (n > 0) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        text += sent;
        n -= (size_t)sent;
    }
}

/* Writes a 200 event stream whose body ends with the connection. In one go: a client that limits the time between bytes
 * has the body with the head. */
static inline void
tiny_write_stream(int fd, const char *body)
{
    char *all = NULL;

    if (asprintf(&all,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                 "Connection: close\r\n\r\n%s",
                 body) < 0)
        return;
    tiny_write(fd, all);
    free(all);
}

/* Writes a whole response. */
static inline void
tiny_write_response(int fd, const char *status, const char *headers, const char *body)
{
    char head[1024];

    snprintf(head, sizeof(head), "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n", status,
             headers, strlen(body));
    tiny_write(fd, head);
    tiny_write(fd, body);
}

/* Blocks until the client closes the connection. */
static inline void
tiny_wait_for_close(tiny_server_t *self, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;

    while (poll(&p, 1, TINY_PATIENCE_MS) > 0)
        if (recv(fd, &byte, 1, 0) <= 0) {
            atomic_store(&self->client_left, true);
            return;
        }
}

/* Closes with a RST instead of a FIN. */
static inline void
tiny_reset(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/* Reads one request; false when the client has closed. */
static inline bool
tiny_read_request(tiny_server_t *self, int fd)
{
    size_t n = 0, want = 0;

    while (want == 0 || n < want) {
        ssize_t got = recv(fd, self->request + n, sizeof(self->request) - 1 - n, 0);
        if (got <= 0)
            return false;
        n += (size_t)got;
        self->request[n] = '\0';
        const char *end = strstr(self->request, "\r\n\r\n");
        if (end == NULL || want != 0)
            continue;
        const char *length = strcasestr(self->request, "content-length:");
        want = (size_t)(end + 4 - self->request) +
               (length == NULL ? 0 : strtoul(length + 15, NULL, 10));
    }
    pthread_mutex_lock(&self->lock);
    memcpy(self->seen, self->request, n + 1);
    pthread_mutex_unlock(&self->lock);
    return true;
}

/* True when the latest request contains `text`. For the test's thread. */
static inline bool
tiny_saw(tiny_server_t *self, const char *text)
{
    pthread_mutex_lock(&self->lock);
    bool is_there = strstr(self->seen, text) != NULL;
    pthread_mutex_unlock(&self->lock);
    return is_there;
}

static inline void *
tiny_run(void *arg)
{
    tiny_server_t *self = arg;

    for (;;) {
        int fd = accept(self->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        atomic_fetch_add(&self->connections, 1);
        while (tiny_read_request(self, fd) &&
               self->serve(self, fd, 1 + atomic_fetch_add(&self->requests, 1))) {
        }
        close(fd);
    }
}

/* Starts it. */
static inline void
tiny_open(tiny_server_t *self, tiny_serve_fn *serve)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);

    memset(self, 0, sizeof(*self));
    self->serve = serve;
    pthread_mutex_init(&self->lock, NULL);
    self->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(bind(self->listener, (struct sockaddr *)&address, n) == 0);
    assert_true(listen(self->listener, 16) == 0);
    assert_true(getsockname(self->listener, (struct sockaddr *)&address, &n) == 0);
    self->port = ntohs(address.sin_port);
    snprintf(self->url, sizeof(self->url), "http://127.0.0.1:%d/v1", self->port);
    assert_true(pthread_create(&self->thread, NULL, tiny_run, self) == 0);
}

/* Ends it. The clients must have closed their connections. */
static inline void
tiny_close(tiny_server_t *self)
{
    shutdown(self->listener, SHUT_RDWR);
    pthread_join(self->thread, NULL);
    close(self->listener);
    pthread_mutex_destroy(&self->lock);
}

#endif
