/* relay.c - libcurl's multi_socket interface, driven by the loop.
 *
 *   loop --epoll fd--> on_sockets --> curl_multi_socket_action --> on_body (inside libcurl)
 *   loop --timer-----> on_curl_timer ------^                       reap (outside of it)
 *   loop --turn------> end_turn -----------^
 *
 * libcurl does not allow handles to be added or removed inside its callbacks: a transfer
 * that is
 * cancelled there is only marked, and freed by reap(), which runs after each action. No
 * time-out of
 * libcurl's but the connection's is used: the others count from the last byte of the
 * body, so they are ours. */
#include "relay.h"

#include "svc/svc_secret.h"
#include "svc/svc_text.h"
#include "svc/svc_time.h"
#include "svc/svc_trace.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zmq.h>

#define RELAY_EVENTS       256   /* epoll events a turn */
#define RELAY_BUFFER_BYTES 16384 /* libcurl's, per transfer */

const uint64_t relay_usual_pauses_ms[RELAY_RETRIES_MAX] = {200, 1000};

struct relay_transfer {
    relay_t *relay;                 /* whose it is */
    relay_transfer_t *next, **link; /* in relay's list */
    relay_transfer_t *next_ready,
        **link_ready;             /* in its list of the ready; NULL: not there */
    const relay_sink_t *sink;     /* borrowed */
    void *arg;                    /* for sink */
    CURL *easy;                   /* owned; NULL between two attempts */
    struct curl_slist *headers;   /* owned */
    char *url, *ca_file;          /* owned */
    svc_buf_t request;            /* body to send, needed for retries: until has_body */
    svc_buf_t error_body;         /* of a response that is not 2xx */
    uint64_t connect_ms, idle_ms; /* see relay_request_t */
    uint64_t deadline_ms;         /* monotonic: first byte, later idle */
    uint64_t timer;               /* at or before deadline_ms; 0: none */
    uint64_t retry_timer;         /* of the next attempt; 0: none */
    char trace[PROTO_TRACE_BYTES], stream[PROTO_STREAM_BYTES]; /* what it is about */
    size_t n_trace, n_stream;  /* bytes of these two; 0: not known */
    unsigned attempts;         /* begun */
    bool has_body;             /* a byte of a 2xx body has come: no retry any more */
    bool drained;              /* nobody wants the bytes */
    bool dead;                 /* cancelled: free it as soon as libcurl allows */
    char why[CURL_ERROR_SIZE]; /* of libcurl */
};

struct relay {
    svc_ctx_t *ctx;            /* borrowed */
    const uint64_t *pauses_ms; /* before each retry, borrowed */
    CURLM *multi;              /* owned */
    int epoll;                 /* libcurl's sockets, owned */
    uint64_t due_ms;           /* monotonic: libcurl wants to be called; UINT64_MAX: no */
    uint64_t timer;            /* for that; 0: none */
    uint64_t timer_ms;         /* when it fires: at or before due_ms */
    relay_transfer_t *transfers; /* all, owned */
    relay_transfer_t *ready;     /* their next attempt begins at the end of this turn */
    bool inside;                 /* libcurl is calling us */
    bool has_dead;               /* one was cancelled meanwhile */
};

static void reap(relay_t *self);
static void on_deadline(void *arg, short events);

/* --- transfers --------------------------------------------------------------------- */

static void
close_easy(relay_transfer_t *t)
{
    if (t->easy == NULL)
        return;
    curl_multi_remove_handle(t->relay->multi, t->easy);
    curl_easy_cleanup(t->easy);
    t->easy = NULL;
}

/* Puts it among those that begin at the end of this turn. */
static void
make_ready(relay_transfer_t *t)
{
    relay_t *relay = t->relay;

    t->link_ready = &relay->ready;
    t->next_ready = relay->ready;
    if (t->next_ready != NULL)
        t->next_ready->link_ready = &t->next_ready;
    relay->ready = t;
}

static void
unready(relay_transfer_t *t)
{
    if (t->link_ready == NULL)
        return;
    *t->link_ready = t->next_ready;
    if (t->next_ready != NULL)
        t->next_ready->link_ready = t->link_ready;
    t->link_ready = NULL;
}

static void
free_transfer(relay_transfer_t *t)
{
    svc_loop_t *loop = t->relay->ctx->loop;

    unready(t);
    *t->link = t->next;
    if (t->next != NULL)
        t->next->link = t->link;
    close_easy(t);
    svc_loop_cancel(loop, t->timer);
    svc_loop_cancel(loop, t->retry_timer);
    curl_slist_free_all(t->headers);
    svc_buf_fini(&t->request);
    svc_buf_fini(&t->error_body);
    free(t->url);
    free(t->ca_file);
    free(t);
}

static bool
is_good(relay_transfer_t *t)
{
    long status = 0;

    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300;
}

/* The answer has begun, so the request will not be repeated: its memory, megabytes of a long prompt, is given
 * back, unless the answer has overtaken it. */
static void
forget_request(relay_transfer_t *t)
{
    curl_off_t sent = 0;

    curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    if (sent == (curl_off_t)t->request.n)
        svc_buf_fini(&t->request);
}

/* libcurl: bytes of a body. Whatever is not taken here would end the transfer. */
static size_t
on_body(char *bytes, size_t size, size_t n, void *arg)
{
    relay_transfer_t *t = arg;
    svc_str chunk = {bytes, size * n};

    if (t->dead || t->drained || chunk.n == 0)
        return size * n;
    if (!is_good(t)) {
        size_t room = RELAY_ERROR_BODY_MAX_BYTES - t->error_body.n;
        size_t take = chunk.n < room ? chunk.n : room;
        if (take > 0)
            (void)!svc_buf_add(&t->error_body, chunk.p, take);
        return chunk.n;
    }
    t->deadline_ms = svc_loop_now_ms(t->relay->ctx->loop) + t->idle_ms;
    if (!t->has_body) {
        t->has_body = true;
        forget_request(t);
    }
    t->sink->body(t->arg, chunk);
    return chunk.n;
}

static bool
is_loopback(const char *url)
{
    const char *host = strstr(url, "://");
    host = host == NULL ? url : host + 3;
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 ||
           strncmp(host, "[::1]", 5) == 0;
}

static void
set_options(relay_transfer_t *t, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_URL, t->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "llm-backend-api");
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, t->request.p);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->request.n);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)t->connect_ms);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)RELAY_BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->why);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
    /* h2c is broken in libcurl 7.88.1 (second use of a connection fails): plain HTTP
     * stays 1.1 */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (strncmp(t->url, "https:", 6) == 0)
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
    if (t->ca_file[0] != '\0')
        curl_easy_setopt(easy, CURLOPT_CAINFO, t->ca_file);
    if (is_loopback(t->url))
        curl_easy_setopt(easy, CURLOPT_PROXY,
                         ""); /* a proxy from the environment is for the world */
}

static void
begin_attempt(relay_transfer_t *t)
{
    t->attempts++;
    t->why[0] = '\0';
    svc_buf_clear(&t->error_body);
    t->easy = curl_easy_init();
    SVC_ASSERT(t->easy != NULL);
    set_options(t, t->easy);
    SVC_ASSERT(curl_multi_add_handle(t->relay->multi, t->easy) == CURLM_OK);
}

static void
on_retry_timer(void *arg, short events)
{
    relay_transfer_t *t = arg;
    (void)events;

    t->retry_timer = 0;
    make_ready(t);
}

/* --- the end of a transfer --------------------------------------------------------- */

static void
finish(relay_transfer_t *t, const relay_result_t *result)
{
    t->sink->done(t->arg, result);
    free_transfer(t);
}

static bool
is_connect_failure(CURLcode code)
{
    return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
           code == CURLE_COULDNT_RESOLVE_PROXY;
}

static bool
may_retry(const relay_transfer_t *t, CURLcode code, long status)
{
    if (t->has_body || t->attempts > RELAY_RETRIES_MAX || t->drained)
        return false;
    if (code == CURLE_OK)
        return status == 502 || status == 503 || status == 504;
    /* A 2xx head without a body counts as no answer yet, too. */
    return is_connect_failure(code) || code == CURLE_GOT_NOTHING ||
           code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR ||
           code == CURLE_PARTIAL_FILE || code == CURLE_HTTP2 ||
           code == CURLE_HTTP2_STREAM;
}

static relay_outcome
outcome_of(CURLcode code, long status)
{
    if (code == CURLE_OK)
        return status >= 200 && status < 300 ? RELAY_DONE : RELAY_STATUS;
    if (code == CURLE_OPERATION_TIMEDOUT)
        return RELAY_TIMEOUT;
    if (is_connect_failure(code) || code == CURLE_SSL_CONNECT_ERROR ||
        code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
        code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        return RELAY_UNREACHABLE;
    return RELAY_BROKEN;
}

/* Says that there will be another attempt, and why. */
static void
log_retry(const relay_transfer_t *t, CURLcode code, long status)
{
    const svc_log_about_t about = {{t->trace, t->n_trace}, {t->stream, t->n_stream}};
    svc_log_t *log = t->relay->ctx->log;
    unsigned long long ms = t->relay->pauses_ms[t->attempts - 1];

    if (code == CURLE_OK)
        svc_log_about(
            log, SVC_LOG_WARN, &about,
            "the provider answered with status %ld, attempt %u follows in %llu ms",
            status, t->attempts + 1, ms);
    else
        svc_log_about(log, SVC_LOG_WARN, &about,
                      "the provider did not answer: %s; attempt %u follows in %llu ms",
                      curl_easy_strerror(code), t->attempts + 1, ms);
}

/* libcurl is through with the attempt: another one, or the end. */
static void
end_attempt(relay_transfer_t *t, CURLcode code)
{
    long status = 0;
    curl_off_t retry_after = 0;
    svc_ctx_t *ctx = t->relay->ctx;

    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
    close_easy(t);
    if (may_retry(t, code, status)) {
        svc_metrics_add(ctx->metrics, SVC_M_UPSTREAM_RETRIES, 1);
        log_retry(t, code, status);
        t->retry_timer = svc_loop_after(ctx->loop, t->relay->pauses_ms[t->attempts - 1],
                                        on_retry_timer, t);
        return;
    }
    if (code != CURLE_OK && status >= 300)
        code = CURLE_OK; /* an error response that was cut off is an error response */
    relay_result_t result = {
        .outcome = outcome_of(code, status),
        .status = status,
        .body = svc_buf_str(&t->error_body),
        .retry_after_s = retry_after > 0 ? (uint64_t)retry_after : 0,
        .why = t->why[0] != '\0' ? t->why : curl_easy_strerror(code),
        .request = &t->request,
    };
    finish(t, &result);
}

/* Sets the timer to `ms`, but no later than the deadline that the next byte would make. */
static void
set_deadline_timer(relay_transfer_t *t, uint64_t ms)
{
    t->timer = svc_loop_after(t->relay->ctx->loop, ms < t->idle_ms ? ms : t->idle_ms,
                              on_deadline, t);
}

static void
on_deadline(void *arg, short events)
{
    relay_transfer_t *t = arg;
    uint64_t now = svc_loop_now_ms(t->relay->ctx->loop);
    (void)events;

    t->timer = 0;
    if (now < t->deadline_ms) {
        set_deadline_timer(t, t->deadline_ms - now);
        return;
    }
    relay_result_t result = {
        .outcome = RELAY_TIMEOUT,
        .why = t->has_body ? "it stopped sending" : "it did not begin to answer",
        .request = &t->request,
    };
    close_easy(t);
    finish(t, &result);
}

/* Takes what libcurl has finished, and frees what was cancelled inside its callbacks. */
static void
reap(relay_t *self)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(self->multi, &left)) != NULL) {
        relay_transfer_t *t = NULL;
        CURLcode code = msg->data.result;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        if (!t->dead)
            end_attempt(t, code);
        else
            close_easy(t);
    }
    if (!self->has_dead)
        return;
    self->has_dead = false;
    for (relay_transfer_t *t = self->transfers, *next; t != NULL; t = next) {
        next = t->next;
        if (t->dead)
            free_transfer(t);
    }
}

/* --- libcurl on the loop ----------------------------------------------------------- */

static void
act(relay_t *self, curl_socket_t fd, int what)
{
    int running;

    self->inside = true;
    curl_multi_socket_action(self->multi, fd, what, &running);
    self->inside = false;
}

static void
on_sockets(void *arg, short events)
{
    relay_t *self = arg;
    struct epoll_event ready[RELAY_EVENTS];
    int n = epoll_wait(self->epoll, ready, RELAY_EVENTS, 0);
    (void)events;

    for (int i = 0; i < n; i++) {
        uint32_t e = ready[i].events;
        int what = ((e & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) |
                   ((e & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
                   ((e & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0);
        act(self, ready[i].data.fd, what);
    }
    reap(self);
}

static void on_curl_timer(void *arg, short events);

/* Sets the timer, unless one is set that fires early enough. */
static void
set_timer(relay_t *self)
{
    const uint64_t now = svc_mono_ms();
    svc_loop_t *loop = self->ctx->loop;

    if (self->due_ms == UINT64_MAX ||
        (self->timer != 0 && self->timer_ms <= self->due_ms))
        return;
    svc_loop_cancel(loop, self->timer);
    self->timer_ms = self->due_ms;
    self->timer = svc_loop_after(loop, self->due_ms > now ? self->due_ms - now : 0,
                                 on_curl_timer, self);
}

static void
on_curl_timer(void *arg, short events)
{
    relay_t *self = arg;
    (void)events;

    self->timer = 0;
    if (self->due_ms <= svc_loop_now_ms(self->ctx->loop)) {
        self->due_ms = UINT64_MAX;
        act(self, CURL_SOCKET_TIMEOUT, 0);
        reap(self);
    }
    set_timer(self);
}

/* libcurl: wants to be called after `ms`. It tells so several times while a transfer begins, so here it is
 * only written down. */
static int
set_curl_timer(CURLM *multi, long ms, void *arg)
{
    relay_t *self = arg;
    (void)multi;

    /* A millisecond more than asked for: libcurl that is called too early does not ask again. */
    self->due_ms = ms < 0 ? UINT64_MAX : ms == 0 ? 0 : svc_mono_ms() + (uint64_t)ms + 1;
    return 0;
}

/* At the end of each turn: what is ready begins, without another turn in between. */
static int
end_turn(void *arg)
{
    relay_t *self = arg;

    while (self->ready != NULL) {
        relay_transfer_t *t = self->ready;
        unready(t);
        begin_attempt(t);
    }
    if (self->due_ms == 0) {
        self->due_ms = UINT64_MAX;
        act(self, CURL_SOCKET_TIMEOUT, 0);
        reap(self);
    }
    set_timer(self);
    return self->ready != NULL ? 0
                               : -1; /* one that has just ended may have begun another */
}

/* libcurl: wants a socket watched. */
static int
set_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    relay_t *self = arg;
    struct epoll_event event = {.data.fd = fd};
    (void)easy;

    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(self->epoll, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    if ((what & CURL_POLL_IN) != 0)
        event.events |= EPOLLIN;
    if ((what & CURL_POLL_OUT) != 0)
        event.events |= EPOLLOUT;
    if (epoll_ctl(self->epoll, known == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd,
                  &event) != 0 &&
        errno == (known == NULL ? EEXIST : ENOENT))
        epoll_ctl(self->epoll, known == NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    curl_multi_assign(self->multi, fd, self);
    return 0;
}

/* --- life -------------------------------------------------------------------------- */

relay_t *
relay_new(svc_ctx_t *ctx, const uint64_t pauses_ms[RELAY_RETRIES_MAX])
{
    relay_t *self = svc_alloc(sizeof(*self));

    SVC_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    self->ctx = ctx;
    self->pauses_ms = pauses_ms;
    self->due_ms = UINT64_MAX;
    self->multi = curl_multi_init();
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    SVC_ASSERT(self->multi != NULL && self->epoll >= 0);
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETFUNCTION, set_curl_socket);
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETDATA, self);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERFUNCTION, set_curl_timer);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERDATA, self);
    curl_multi_setopt(self->multi, CURLMOPT_MAXCONNECTS, (long)RELAY_CONNECTIONS_MAX);
    svc_loop_add_fd(ctx->loop, self->epoll, ZMQ_POLLIN, on_sockets, self);
    svc_loop_on_turn(ctx->loop, end_turn, self);
    return self;
}

void
relay_destroy(relay_t **self_p)
{
    relay_t *self = *self_p;

    if (self == NULL)
        return;
    while (self->transfers != NULL)
        free_transfer(self->transfers);
    svc_loop_remove_fd(self->ctx->loop, self->epoll);
    curl_multi_cleanup(self->multi);
    svc_loop_cancel(self->ctx->loop, self->timer);
    close(self->epoll);
    curl_global_cleanup();
    free(self);
    *self_p = NULL;
}

/* The same id in both: traceparent is the standard, X-Request-Id is what people look for. */
static struct curl_slist *
add_trace(struct curl_slist *headers, svc_str trace)
{
    char parent[SVC_TRACEPARENT_BYTES + 1], id[SVC_TRACE_HEX_BYTES + 1];
    char line[SVC_TRACEPARENT_BYTES + 32];

    svc_trace_write(trace, svc_random_u64(), parent);
    svc_hex(trace.p, trace.n, id);
    (void)snprintf(line, sizeof(line), "traceparent: %s", parent);
    headers = curl_slist_append(headers, line);
    (void)snprintf(line, sizeof(line), "X-Request-Id: %s", id);
    return curl_slist_append(headers, line);
}

static struct curl_slist *
make_headers(svc_str bearer, svc_str trace)
{
    struct curl_slist *headers = NULL;
    char *authorization = NULL;

    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Accept: text/event-stream, application/json");
    headers = curl_slist_append(headers, "Expect:");
    if (trace.n == PROTO_TRACE_BYTES)
        headers = add_trace(headers, trace);
    if (bearer.n > 0) {
        svc_buf_t line;
        svc_buf_init(&line, bearer.n + 32);
        SVC_ASSERT(svc_buf_add(&line, "Authorization: Bearer ", 22) == RC_OK);
        SVC_ASSERT(svc_buf_add_str(&line, bearer) == RC_OK);
        authorization = svc_str_dup(svc_buf_str(&line));
        headers = curl_slist_append(headers, authorization);
        explicit_bzero(authorization, line.n);
        explicit_bzero(line.p, line.n);
        free(authorization);
        svc_buf_fini(&line);
    }
    return headers;
}

/* Copies an id of 16 bytes; gives how many there are. */
static size_t
keep_id(char out[PROTO_TRACE_BYTES], svc_str id)
{
    if (id.n != PROTO_TRACE_BYTES)
        return 0;
    memcpy(out, id.p, id.n);
    return id.n;
}

relay_transfer_t *
relay_start(relay_t *self, const relay_request_t *request, const relay_sink_t *sink,
            void *arg)
{
    relay_transfer_t *t = svc_alloc(sizeof(*t));

    t->relay = self;
    t->sink = sink;
    t->arg = arg;
    t->link = &self->transfers;
    t->next = self->transfers;
    if (t->next != NULL)
        t->next->link = &t->next;
    self->transfers = t;
    t->url = svc_str_dup(svc_str_c(request->url));
    t->ca_file = svc_str_dup(svc_str_c(request->ca_file));
    t->headers = make_headers(request->bearer, request->about.trace);
    t->n_trace = keep_id(t->trace, request->about.trace);
    t->n_stream = keep_id(t->stream, request->about.stream);
    t->request = *request->body;
    svc_buf_init(request->body, request->body->max);
    svc_buf_init(&t->error_body, RELAY_ERROR_BODY_MAX_BYTES);
    t->connect_ms = request->connect_ms;
    t->idle_ms = request->idle_ms;
    t->deadline_ms = svc_loop_now_ms(self->ctx->loop) + request->first_byte_ms;
    set_deadline_timer(t, request->first_byte_ms);
    make_ready(t);
    return t;
}

void
relay_cancel(relay_transfer_t *t)
{
    if (!t->relay->inside) {
        free_transfer(t);
        return;
    }
    t->dead = true;
    t->relay->has_dead = true;
}

void
relay_drain(relay_transfer_t *t, uint64_t ms)
{
    svc_loop_t *loop = t->relay->ctx->loop;

    t->drained = true;
    t->deadline_ms = svc_loop_now_ms(loop) + ms;
    svc_loop_cancel(loop, t->timer);
    t->timer = svc_loop_after(loop, ms, on_deadline, t);
}
