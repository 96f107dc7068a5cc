/* request_stream.c - how a request waits, and how the body of a stream gets to its client.
 *
 * A connection that waits is suspended. One whose stream has begun is written to
 * directly then, once a turn, without waking libmicrohttpd: that would walk through all
 * suspended connections, and copy. Every end, good or bad, goes through libmicrohttpd:
 * the connection is resumed between two chunks, asks for more, and is told the same. */
#include "request_private.h"

#include <sys/mman.h>
#include <unistd.h>

/* --- waiting ------------------------------------------------------------------------------ */

/* libmicrohttpd 0.9.75 reads from a resumed connection before it asks for the answer, and takes the
 * end of what the client sends for the end of the client. Connections with a time-out of their own
 * (0: none) are asked first. One whose client reads slowly gets its time for the last bytes, too. */
void
request_ask_first(request_t *self, bool first)
{
    const svc_config_t *config = self->reactor->ctx.config;
    unsigned timeout_s = first             ? 0
                         : self->is_events ? config->gateway_viewer_idle_s
                                           : config->server_idle_timeout_s;

    if (self->timeout_s != timeout_s)
        MHD_set_connection_option(self->mhd, MHD_CONNECTION_OPTION_TIMEOUT, timeout_s);
    self->timeout_s = timeout_s;
}

void
request_suspend(request_t *self)
{
    MHD_suspend_connection(self->mhd);
    self->suspended = true;
    request_ask_first(self, self->at != AT_ANSWER);
    if (self->route != NULL && self->route->streams)
        conn_watch(self->conn, self);
}

static void
resume(request_t *self)
{
    self->suspended = self->is_direct = self->is_blocked = false;
    self->reactor->mhd_has_news = true; /* it applies it in MHD_run only */
    MHD_resume_connection(self->mhd);
}

void
request_wake(request_t *self)
{
    reactor_t *reactor = self->reactor;

    if (!self->suspended)
        return;
    if (!self->is_direct || self->cut || request_is_over(self)) {
        resume(self);
    } else if (!self->woken && !self->is_blocked) {
        self->woken = true;
        *(reactor->last_woken != NULL ? &reactor->last_woken->next_woken
                                      : &reactor->woken) = self;
        reactor->last_woken = self;
    }
}

/* It has written. Once for each token: its connection is not looked at unless it must know. */
static void
unblock(request_t *self)
{
    if (self->was_blocked)
        conn_writes(self->conn);
    self->was_blocked = false;
}

/* Writes what there is. The end is libmicrohttpd's: it comes to the same one, between two chunks. */
static void
write_stream(request_t *self)
{
    switch (stream_body_write(&self->stream, &self->reactor->scratch, self->fd)) {
    case STREAM_MORE:
    case STREAM_WAIT: unblock(self); break;
    case STREAM_BLOCKED:
        self->is_blocked = self->was_blocked = true;
        conn_wait_writable(self->conn);
        break;
    case STREAM_CUT:
        self->cut = true;
        resume(self);
        break;
    case STREAM_END:
        unblock(self);
        resume(self);
        break;
    }
}

void
request_write_woken(reactor_t *reactor)
{
    request_t *self;

    while ((self = reactor->woken) != NULL) {
        reactor->woken = self->next_woken;
        if (reactor->woken == NULL)
            reactor->last_woken = NULL;
        self->next_woken = NULL;
        self->woken = false;
        if (self->is_direct)
            write_stream(self);
    }
}

void
request_on_writable(void *cls, void *request)
{
    request_t *self = request;

    (void)cls;
    self->is_blocked = false;
    request_wake(self);
}

bool
request_is_over(const request_t *self)
{
    return self->gone || self->reactor->stopping;
}

bool
request_is_ending(const request_t *self)
{
    return request_is_over(self) || self->reactor->ending;
}

void
request_end_streams(reactor_t *reactor)
{
    for (request_t *self = reactor->requests, *next; self != NULL; self = next) {
        next = self->next;
        if (self->status == 0 && self->told != NULL)
            self->told(self->data);
        else if (self->is_events)
            request_wake(self);
    }
}

void
request_on_gone(void *cls, void *request, bool half)
{
    request_t *self = request;

    (void)cls;
    if (half)
        self->doubted = true;
    else
        self->gone = true;
    if (!half || self->at == AT_ANSWER)
        request_wake(self);
    else if (self->status == 0 && self->told != NULL)
        self->told(self->data);
}

void
request_cut_if_silent(request_t *self)
{
    conn_cut_if_silent(self->conn, self->reactor->ctx.config->gateway_keepalive_s);
}

bool
request_is_doubted(request_t *self)
{
    bool doubted = self->doubted;

    self->doubted = false;
    return doubted;
}

void
request_on_doubt(request_t *self, void (*told)(void *data))
{
    self->told = told;
}

void
request_end_all(reactor_t *reactor, bool is_last)
{
    request_write_woken(reactor);
    for (request_t *self = reactor->requests; self != NULL; self = self->next) {
        if (self->is_blocked && !self->gone && !is_last) {
            self->is_blocked = false;
            write_stream(self); /* a client that reads on gets whole events */
        } else {
            request_wake(self);
        }
    }
}

void
request_cut(request_t *self)
{
    self->cut = true;
    request_wake(self);
}

/* --- streams ------------------------------------------------------------------------------ */

/* The buffer that libmicrohttpd offers for the next bytes is nearly all of a connection's memory, and most of its
 * pages were touched when the request was read. A stream that is written to directly needs it at its end only:
 * until then the kernel may have the pages (they come back as zeros). */
static void
give_back_pages(char *buf, size_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)buf + page - 1) / page * page;
    uintptr_t to = ((uintptr_t)buf + n) / page * page;

    if (to > from)
        (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

/* MHD_ContentReaderCallback of every stream. */
static ssize_t
on_read(void *cls, uint64_t pos, char *buf, size_t max)
{
    request_t *self = cls;

    (void)pos;
    size_t n = 0;
    stream_step step = self->cut || self->gone
                           ? STREAM_CUT
                           : stream_body_read(&self->stream, &self->reactor->scratch, buf,
                                              max, &n);
    if (step == STREAM_MORE)
        return (ssize_t)n;
    if (step == STREAM_WAIT && !self->cut && !self->reactor->stopping) {
        self->is_direct = self->may_write; /* all that was made before is in the socket */
        if (self->is_direct)
            give_back_pages(buf, max);
        request_suspend(self);
        return 0;
    }
    /* A bad end is a shut socket: libmicrohttpd 0.9.75 forgets a connection whose reader says
     * END_WITH_ERROR while an older one is idle. Writing the last chunk fails, and that it notices. */
    if (step == STREAM_CUT || self->cut)
        conn_cut(self->conn);
    return MHD_CONTENT_READER_END_OF_STREAM;
}

void
request_answer_stream(request_t *self, const char *type, bool is_events,
                      stream_fill_fn *fill, void *arg)
{
    response_context_t context = request_context(self);
    const svc_config_t *config = self->reactor->ctx.config;
    size_t backlog = (size_t)config->gateway_viewer_backlog_kb << 10;
    size_t enough = is_events ? backlog / STREAM_BACKLOG_FILLS : STREAM_FILL_BYTES;
    stream_body_init(&self->stream, fill, arg, enough);
    self->fd = conn_fd(self->conn);
    self->is_events = is_events;
    self->may_write = is_events && self->is_http11 && !config->test_plain_paths;
    if (is_events)
        conn_prepare_stream(self->conn, config->gateway_keepalive_s, backlog / 2);
    request_answer_with(self, MHD_HTTP_OK,
                        response_stream(&context, type, is_events, on_read, self));
}
