/* bench_provider.c - a provider for the bench that writes a million tokens a second.
 *
 *   bench_provider [--port N] [--fault drop|double|flip]     prints {"port":N} when it listens
 *
 * One thread, epoll, HTTP/1.1 with keep-alive; answers POST …/chat/completions as OpenAI does when
 * it streams. The model's name says how (bench_text.h): everything in one write, a write for each
 * token, or a token every so many ms. Answers are made once per model, headers, chunks and all, and
 * only written afterwards; paced ones get their moment stamped in as they go out. With a fault, one
 * token of each answer is missing, there twice, or has a wrong byte: the load must notice. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench_text.h"

#define PLANS_MAX         512
#define REQUEST_MAX_BYTES (64u << 20) /* a prompt with its history */
#define EVENTS            256
#define PIECE_MAX_BYTES   1024 /* of one token on the wire, with the head and the end */

static const char HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char NOT_FOUND[] =
    "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n"
    "Content-Length: 38\r\n\r\n"
    "{\"error\":{\"message\":\"no such model\"}}\r\n";
static const char FRONT[] =
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\","
    "\"created\":1700000000,\"model\":\"bench\",\"choices\":[{\"index\":0,"
    "\"delta\":{";
static const char TAIL[] = "},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

typedef enum { FAULT_NONE, FAULT_DROP, FAULT_DOUBLE, FAULT_FLIP } fault;

/* An answer as it goes over the wire. */
typedef struct {
    bench_model_t model; /* whose */
    char *wire;          /* head, tokens, end; owned */
    size_t n;            /* bytes of it */
    size_t *ends;   /* count + 1: where token i ends; the end of the answer is the last */
    size_t *stamps; /* paced: where token i has its stamp */
} plan_t;

/* A client and the answer that it gets. */
typedef struct conn {
    int fd;                     /* -1: free */
    char *in;                   /* request so far; owned */
    size_t in_n;                /* bytes of it */
    size_t in_cap;              /* room for it */
    const plan_t *plan;         /* what is being written, NULL between requests */
    uint32_t token;             /* which step of it is next */
    size_t at;                  /* bytes written */
    size_t part_at;             /* paced: bytes of the token that is half written */
    size_t part_n;              /* its length; 0: none is */
    char part[PIECE_MAX_BYTES]; /* paced: a copy with its stamp */
    uint64_t due_us;            /* paced: when the next token goes */
    size_t heap_at;             /* place in the heap, SIZE_MAX: not there */
    bool blocked;               /* waits for EPOLLOUT */
    bool running;               /* stands in the list of writers */
    bool orphan; /* no longer in the table: that list is the last to know it */
} conn_t;

typedef struct {
    fault fault;             /* what is wrong with every answer that is not paced */
    int ep;                  /* epoll */
    int listener;            /* its address is printed */
    conn_t **conns;          /* by descriptor */
    size_t conns_cap;        /* descriptors there may be */
    plan_t plans[PLANS_MAX]; /* made when first asked for */
    size_t plans_n;          /* of them */
    conn_t **heap;           /* paced ones, soonest first */
    size_t heap_n;           /* of them */
    conn_t **writers;        /* those that write as fast as they can */
    size_t writers_n;        /* of them */
} provider_t;

/* --- answers -------------------------------------------------------------------------------- */
static size_t
put(char *out, size_t at, const char *text, size_t n)
{
    memcpy(out + at, text, n);
    return at + n;
}

/* One event with a token, as an HTTP chunk of its own when `framed`. */
static size_t
put_token(plan_t *plan, size_t at, uint32_t index, bool framed)
{
    char token[BENCH_TOKEN_MAX_BYTES];
    char event[PIECE_MAX_BYTES];
    size_t stamp = 0;
    size_t n = bench_token(token, plan->model.letter, index,
                           plan->stamps ? &stamp : NULL);
    size_t e = put(event, 0, FRONT, sizeof(FRONT) - 1);

    e = put(event, e, "\"content\":\"", 11);
    stamp += e;
    if (token[n - 1] == '\n') {
        e = put(event, e, token, n - 1);
        e = put(event, e, "\\n", 2);
    } else {
        e = put(event, e, token, n);
    }
    e = put(event, e, "\"},\"finish_reason\":null}]}\n\n", 28);
    if (framed)
        at += (size_t)sprintf(plan->wire + at, "%zx\r\n", e);
    if (plan->stamps)
        plan->stamps[index] = at + stamp;
    at = put(plan->wire, at, event, e);
    return framed ? put(plan->wire, at, "\r\n", 2) : at;
}

/* Makes the letter of the token that stands there the next one. */
static void
flip_token(plan_t *plan, size_t from, size_t to)
{
    static const char key[] = "\"content\":\"";
    char *token = memmem(plan->wire + from, to - from, key, sizeof(key) - 1);

    if (token)
        token[sizeof(key) - 1]++;
}

static void
make_plan(plan_t *plan, const bench_model_t *model, fault wrong)
{
    uint32_t count = model->count;
    bool framed = model->mode != BENCH_BURST;
    char end[512];
    size_t e = put(end, 0, FRONT, sizeof(FRONT) - 1);
    size_t at = sizeof(HEAD) - 1;
    size_t body;

    plan->model = *model;
    plan->wire = malloc((size_t)count * 256 + 2048);
    plan->ends = calloc(count + 1, sizeof(size_t));
    plan->stamps = model->mode == BENCH_PACED ? calloc(count, sizeof(size_t)) : NULL;
    if (!plan->wire || !plan->ends || (model->mode == BENCH_PACED && !plan->stamps))
        abort();
    e = put(end, e, TAIL, sizeof(TAIL) - 1);
    memcpy(plan->wire, HEAD, at);
    if (!framed)
        at += 10; /* room for the size of the one chunk, of eight digits */
    body = at;
    for (uint32_t i = 0; i < count; i++) {
        size_t from = at;
        fault now = i == count / 2 && !plan->stamps ? wrong : FAULT_NONE;

        if (now != FAULT_DROP)
            at = put_token(plan, at, i, framed);
        if (now == FAULT_DOUBLE)
            at = put_token(plan, at, i, framed);
        if (now == FAULT_FLIP)
            flip_token(plan, from, at);
        plan->ends[i] = at;
    }
    if (framed)
        at += (size_t)sprintf(plan->wire + at, "%zx\r\n", e);
    at = put(plan->wire, at, end, e);
    if (!framed) {
        char size[16];

        snprintf(size, sizeof(size), "%08zx\r\n", at - body);
        memcpy(plan->wire + body - 10, size, 10);
    }
    at = put(plan->wire, at, "\r\n0\r\n\r\n", 7);
    plan->ends[count] = at;
    plan->n = at;
}

static const plan_t *
find_plan(provider_t *self, const bench_model_t *model)
{
    for (size_t i = 0; i < self->plans_n; i++) {
        const bench_model_t *m = &self->plans[i].model;

        if (m->mode == model->mode && m->count == model->count &&
            m->letter == model->letter && m->interval_ms == model->interval_ms)
            return &self->plans[i];
    }
    if (self->plans_n == PLANS_MAX)
        return NULL;
    make_plan(&self->plans[self->plans_n], model, self->fault);
    return &self->plans[self->plans_n++];
}

/* --- who is due ----------------------------------------------------------------------------- */
static void
heap_set(provider_t *self, size_t i, conn_t *conn)
{
    self->heap[i] = conn;
    conn->heap_at = i;
}

static void
heap_settle(provider_t *self, size_t i)
{
    conn_t *conn = self->heap[i];

    while (i > 0 && self->heap[(i - 1) / 2]->due_us > conn->due_us) {
        heap_set(self, i, self->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= self->heap_n)
            break;
        if (child + 1 < self->heap_n &&
            self->heap[child + 1]->due_us < self->heap[child]->due_us)
            child++;
        if (self->heap[child]->due_us >= conn->due_us)
            break;
        heap_set(self, i, self->heap[child]);
        i = child;
    }
    heap_set(self, i, conn);
}

static void
heap_add(provider_t *self, conn_t *conn)
{
    heap_set(self, self->heap_n++, conn);
    heap_settle(self, conn->heap_at);
}

static void
heap_remove(provider_t *self, conn_t *conn)
{
    size_t i = conn->heap_at;

    if (i == SIZE_MAX)
        return;
    conn->heap_at = SIZE_MAX;
    conn_t *last = self->heap[--self->heap_n];
    if (last == conn)
        return;
    heap_set(self, i, last);
    heap_settle(self, i);
}

/* --- connections ---------------------------------------------------------------------------- */
static void
watch(provider_t *self, conn_t *conn, bool out)
{
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0),
                             .data.fd = conn->fd};

    conn->blocked = out;
    epoll_ctl(self->ep, EPOLL_CTL_MOD, conn->fd, &ev);
}

static void
drop(provider_t *self, conn_t *conn)
{
    heap_remove(self, conn);
    close(conn->fd);
    conn->fd = -1; /* a writer that is gone is taken out of the list there */
    conn->plan = NULL;
    conn->in_n = 0;
}

/* Writes; false when the connection is gone. *done tells how much went out. */
static bool
write_some(provider_t *self, conn_t *conn, const char *bytes, size_t n, size_t *done)
{
    ssize_t wrote = send(conn->fd, bytes, n, MSG_NOSIGNAL);

    *done = wrote > 0 ? (size_t)wrote : 0;
    if (wrote < 0 && errno != EAGAIN && errno != EINTR) {
        drop(self, conn);
        return false;
    }
    if (*done < n && !conn->blocked)
        watch(self, conn, true);
    else if (*done == n && conn->blocked)
        watch(self, conn, false);
    return true;
}

static void begin_answer(provider_t *self, conn_t *conn);

/* The next step of a burst or a token by token answer. */
static void
step_writer(provider_t *self, conn_t *conn)
{
    const plan_t *plan = conn->plan;
    size_t to = plan->model.mode == BENCH_BURST ? plan->n : plan->ends[conn->token];
    size_t done;

    if (!write_some(self, conn, plan->wire + conn->at, to - conn->at, &done))
        return;
    conn->at += done;
    if (conn->at == to)
        conn->token++;
    if (conn->at == plan->n) {
        conn->plan = NULL;
        begin_answer(self, conn);
    }
}

/* Sends what is left of a paced token; false when something still is. */
static bool
flush_part(provider_t *self, conn_t *conn)
{
    size_t done;

    if (!write_some(self, conn, conn->part + conn->part_at, conn->part_n - conn->part_at,
                    &done))
        return false;
    conn->part_at += done;
    if (conn->part_at < conn->part_n)
        return false;
    conn->part_n = 0;
    return true;
}

/* The next token of a paced answer; the last one takes the end along. */
static void
step_paced(provider_t *self, conn_t *conn)
{
    const plan_t *plan = conn->plan;
    size_t to = plan->ends[conn->token];

    if (conn->token + 1 == plan->model.count)
        to = plan->n;
    heap_remove(self, conn);
    conn->part_n = to - conn->at;
    conn->part_at = 0;
    memcpy(conn->part, plan->wire + conn->at, conn->part_n);
    bench_stamp_write(conn->part + (plan->stamps[conn->token] - conn->at),
                      bench_now_us());
    conn->at = to;
    conn->token++;
    conn->due_us += plan->model.interval_ms * 1000u;
    if (conn->at == plan->n)
        conn->plan = NULL;
    if (flush_part(self, conn)) {
        if (conn->plan)
            heap_add(self, conn);
        else
            begin_answer(self, conn);
    }
}

static void
on_writable(provider_t *self, conn_t *conn)
{
    if (conn->part_n > 0) {
        if (!flush_part(self, conn))
            return;
        if (conn->plan)
            heap_add(self, conn);
        else
            begin_answer(self, conn);
    } else {
        watch(self, conn, false); /* the writers' list goes on with it */
    }
}

/* --- requests ------------------------------------------------------------------------------- */
/* The bytes of the whole request at the buffer's start, 0 when some are missing. */
static size_t
request_length(const conn_t *conn, const char **body)
{
    const char *end = memmem(conn->in, conn->in_n, "\r\n\r\n", 4);
    size_t length = 0;

    if (!end)
        return 0;
    for (const char *line = conn->in; line < end;
         line = memchr(line, '\n', (size_t)(end + 4 - line)) + 1) {
        if (strncasecmp(line, "content-length:", 15) == 0)
            length = strtoul(line + 15, NULL, 10);
    }
    *body = end + 4;
    length += (size_t)(*body - conn->in);
    return length <= conn->in_n ? length : 0;
}

static bool
read_model(const char *body, size_t n, bench_model_t *out)
{
    static const char key[] = "\"model\":";
    const char *p = memmem(body, n, key, sizeof(key) - 1);
    const char *end = body + n;

    if (!p)
        return false;
    p += sizeof(key) - 1;
    while (p < end && *p == ' ')
        p++;
    if (p >= end || *p != '"')
        return false;
    p++;
    const char *quote = memchr(p, '"', (size_t)(end - p));
    return quote && bench_model_parse(p, (size_t)(quote - p), out);
}

/* Begins to answer the request in the buffer, if a whole one is there. */
static void
begin_answer(provider_t *self, conn_t *conn)
{
    const char *body;
    size_t length = request_length(conn, &body);
    bench_model_t model;

    if (length == 0 || conn->plan)
        return;
    if (read_model(body, length - (size_t)(body - conn->in), &model))
        conn->plan = find_plan(self, &model);
    memmove(conn->in, conn->in + length, conn->in_n - length);
    conn->in_n -= length;
    conn->token = 0;
    conn->at = 0;
    if (!conn->plan) {
        size_t done;

        write_some(self, conn, NOT_FOUND, sizeof(NOT_FOUND) - 1, &done);
    } else if (model.mode == BENCH_PACED) {
        conn->due_us = bench_now_us();
        heap_add(self, conn);
    } else if (!conn->running) {
        conn->running = true;
        self->writers[self->writers_n++] = conn;
    }
}

static void
on_readable(provider_t *self, conn_t *conn)
{
    ssize_t got;

    if (conn->in_cap - conn->in_n < 4096) {
        size_t cap = conn->in_cap ? conn->in_cap * 2 : 8192;
        char *in = cap <= REQUEST_MAX_BYTES ? realloc(conn->in, cap) : NULL;

        if (!in) {
            drop(self, conn);
            return;
        }
        conn->in = in;
        conn->in_cap = cap;
    }
    got = recv(conn->fd, conn->in + conn->in_n, conn->in_cap - conn->in_n - 1, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        drop(self, conn);
        return;
    }
    if (got > 0) {
        conn->in_n += (size_t)got;
        conn->in[conn->in_n] = '\0';
        begin_answer(self, conn);
    }
}

static void
on_accept(provider_t *self)
{
    int one = 1;

    for (int i = 0; i < 64; i++) {
        int fd = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0)
            return;
        if ((size_t)fd >= self->conns_cap) {
            close(fd);
            continue;
        }
        conn_t *conn = self->conns[fd];
        if (conn && conn->running) { /* the writers' list still holds it, and frees it */
            conn->orphan = true;
            conn = NULL;
        }
        if (!conn)
            conn = self->conns[fd] = calloc(1, sizeof(*conn));
        if (!conn)
            abort();
        conn->fd = fd;
        conn->heap_at = SIZE_MAX;
        conn->part_n = 0;
        conn->blocked = false;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(self->ep, EPOLL_CTL_ADD, fd, &ev);
    }
}

/* --- the loop ------------------------------------------------------------------------------- */
/* One step for everybody who writes as fast as possible. True when somebody could. */
static bool
run_writers(provider_t *self)
{
    bool any = false;

    for (size_t i = 0; i < self->writers_n; i++) {
        conn_t *conn = self->writers[i];

        if (conn->fd >= 0 && conn->plan && !conn->blocked) {
            step_writer(self, conn);
            any = true;
        }
        if (conn->fd < 0 || !conn->plan || conn->plan->model.mode == BENCH_PACED) {
            conn->running = false;
            if (conn->orphan) {
                free(conn->in);
                free(conn);
            }
            self->writers[i--] = self->writers[--self->writers_n];
        }
    }
    return any;
}

static void
run_paced(provider_t *self)
{
    uint64_t now = bench_now_us();

    for (int i = 0; i < 1024 && self->heap_n > 0 && self->heap[0]->due_us <= now; i++)
        step_paced(self, self->heap[0]);
}

static int
wait_events(provider_t *self, bool busy, struct epoll_event *events)
{
    struct timespec left = {0, 0};

    if (!busy && self->heap_n > 0) {
        uint64_t now = bench_now_us();
        uint64_t us = self->heap[0]->due_us > now ? self->heap[0]->due_us - now : 0;

        left.tv_sec = (time_t)(us / 1000000);
        left.tv_nsec = (long)(us % 1000000) * 1000;
    }
    return epoll_pwait2(self->ep, events, EVENTS, busy || self->heap_n > 0 ? &left : NULL,
                        NULL);
}

static void
run(provider_t *self)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        bool busy = run_writers(self);
        int n = wait_events(self, busy, events);

        for (int i = 0; i < n; i++) {
            conn_t *conn = self->conns[events[i].data.fd];

            if (events[i].data.fd == self->listener) {
                on_accept(self);
                continue;
            }
            if (conn->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                on_readable(self, conn);
            if (conn->fd >= 0 && events[i].events & EPOLLOUT)
                on_writable(self, conn);
        }
        run_paced(self);
    }
}

static int
listen_on(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof(to);
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&to, size) != 0 || listen(fd, 8192) != 0 ||
        getsockname(fd, (struct sockaddr *)&to, &size) != 0) {
        perror("bench_provider");
        exit(1);
    }
    printf("{\"port\":%u}\n", ntohs(to.sin_port));
    fflush(stdout);
    return fd;
}

static fault
read_fault(const char *name)
{
    if (strcmp(name, "drop") == 0)
        return FAULT_DROP;
    if (strcmp(name, "double") == 0)
        return FAULT_DOUBLE;
    return strcmp(name, "flip") == 0 ? FAULT_FLIP : FAULT_NONE;
}

int
main(int argc, char **argv)
{
    provider_t *self = calloc(1, sizeof(*self));
    struct rlimit limit;
    uint16_t port = 0;

    if (!self)
        return 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--port") == 0)
            port = (uint16_t)atoi(argv[i + 1]);
        if (strcmp(argv[i], "--fault") == 0)
            self->fault = read_fault(argv[i + 1]);
    }
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    self->conns_cap = limit.rlim_cur < 100000 ? (size_t)limit.rlim_cur : 100000;
    self->conns = calloc(self->conns_cap, sizeof(conn_t *));
    self->heap = calloc(self->conns_cap, sizeof(conn_t *));
    self->writers = calloc(self->conns_cap, sizeof(conn_t *));
    self->ep = epoll_create1(EPOLL_CLOEXEC);
    self->listener = listen_on(port);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = self->listener};
    epoll_ctl(self->ep, EPOLL_CTL_ADD, self->listener, &ev);
    run(self);
    return 0;
}
