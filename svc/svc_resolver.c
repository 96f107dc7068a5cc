/* svc_resolver.c - the addresses behind host names, looked up again and again off the loops.
 *
 * The thread goes round the names, each distinct one once, and compares what it finds with what
 * every watcher was told. News are left with the watch under the one mutex, which is never held
 * during a lookup, and an eventfd wakes its loop to fetch them. getaddrinfo cannot be interrupted:
 * its time-outs are shortened for this thread, and at the end of the process a lookup that hangs
 * all the same is left behind with what it needs. */
#include "svc/svc_resolver.h"

#include "svc/svc_time.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <resolv.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define END_WAIT_S     1 /* for a lookup in progress, when the process ends */
#define SERVER_WAIT_S  1 /* for an answer of a name server */
#define SERVER_ASKED   2 /* times */
#define HOST_MAX_BYTES 256

struct svc_watch {
    svc_watch_t *prev, *next;  /* in the resolver's list */
    svc_resolver_t *resolver;  /* borrowed */
    svc_loop_t *loop;          /* borrowed */
    svc_resolved_fn *fn;       /* called on the loop */
    void *arg;                 /* for fn */
    char host[HOST_MAX_BYTES]; /* its name, never changes */
    int news_fd;               /* owned eventfd: there are news */
    bool is_known;             /* `addresses` were found; under the mutex, as the rest */
    bool has_news;             /* and not fetched yet */
    bool is_seen;              /* in this round of the thread */
    svc_addresses_t addresses; /* found last */
};

struct svc_resolver {
    svc_log_t *log;        /* borrowed; may be NULL */
    svc_lookup_fn *lookup; /* finds */
    void *arg;             /* for lookup */
    uint64_t every_ms;     /* between two rounds */
    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t wake;   /* a new watch, or the end */
    pthread_t thread;      /* when has_thread */
    bool has_thread;       /* it was started */
    bool is_stopping;      /* it is to end */
    bool has_new;          /* a watch has come since the round began */
    bool complained;       /* about a name; once until all are found again */
    svc_watch_t *watches;  /* list */
};

/* --- addresses ---------------------------------------------------------------------- */

void
svc_addresses_add(svc_addresses_t *self, const char *address)
{
    char **items = svc_alloc((self->n + 1) * sizeof(*items));
    if (self->n > 0)
        memcpy(items, self->items, self->n * sizeof(*items));
    free(self->items);
    self->items = items;
    self->items[self->n++] = svc_str_dup(svc_str_c(address));
}

void
svc_addresses_clear(svc_addresses_t *self)
{
    for (size_t i = 0; i < self->n; i++)
        free(self->items[i]);
    free(self->items);
    *self = (svc_addresses_t){0};
}

static int
compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts them and leaves each once. */
static void
settle(svc_addresses_t *self)
{
    size_t kept = 0;
    if (self->n > 1)
        qsort(self->items, self->n, sizeof(*self->items), compare);
    for (size_t i = 0; i < self->n; i++)
        if (kept > 0 && strcmp(self->items[kept - 1], self->items[i]) == 0)
            free(self->items[i]);
        else
            self->items[kept++] = self->items[i];
    self->n = kept;
}

static bool
are_equal(const svc_addresses_t *a, const svc_addresses_t *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return a->n == b->n;
}

static void
copy(svc_addresses_t *to, const svc_addresses_t *from)
{
    svc_addresses_clear(to);
    for (size_t i = 0; i < from->n; i++)
        svc_addresses_add(to, from->items[i]);
}

/* --- looking up --------------------------------------------------------------------- */

/* The lookup of the system: files, DNS, whatever it is made of. */
static bool
look_up(void *arg, const char *host, svc_addresses_t *out, const char **why)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    (void)arg;
    const int rc = getaddrinfo(host, NULL, &hints, &found);
    if (rc != 0) {
        *why = gai_strerror(rc);
        return false;
    }
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        char text[NI_MAXHOST];
        if (out->n < SVC_RESOLVER_ADDRESSES_MAX &&
            getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), NULL, 0,
                        NI_NUMERICHOST) == 0)
            svc_addresses_add(out, text);
    }
    freeaddrinfo(found);
    *why = "it has no address";
    return out->n > 0;
}

/* Leaves news with every watch of this name. Mutex held. */
static void
hand_over(svc_resolver_t *self, const char *host, const svc_addresses_t *found)
{
    const uint64_t one = 1;
    for (svc_watch_t *watch = self->watches; watch != NULL; watch = watch->next) {
        if (strcmp(watch->host, host) != 0)
            continue;
        watch->is_seen = true;
        if (found->n == 0 || (watch->is_known && are_equal(&watch->addresses, found)))
            continue;
        copy(&watch->addresses, found);
        watch->is_known = watch->has_news = true;
        if (write(watch->news_fd, &one, sizeof(one)) < 0) {
            /* The counter is full: its loop is about to look anyway. */
        }
    }
}

/* Looks one name up; the mutex is released meanwhile. Gives whether it was found. */
static bool
look_at(svc_resolver_t *self, const char *host)
{
    svc_addresses_t found = {0};
    const char *why = "";
    pthread_mutex_unlock(&self->mutex);
    const bool ok = self->lookup(self->arg, host, &found, &why);
    settle(&found);
    pthread_mutex_lock(&self->mutex);
    if (!ok)
        svc_addresses_clear(&found);
    if (!ok && !self->complained && !self->is_stopping && self->log != NULL)
        svc_log_warn(self->log, "%s cannot be looked up: %s", host, why);
    self->complained = self->complained || !ok;
    hand_over(self, host, &found);
    svc_addresses_clear(&found);
    return ok;
}

/* Looks at every name that is watched, once. Mutex held, but for the lookups. */
static void
go_round(svc_resolver_t *self)
{
    bool all_found = true;
    svc_watch_t *next;
    for (svc_watch_t *watch = self->watches; watch != NULL; watch = watch->next)
        watch->is_seen = false;
    do {
        char host[HOST_MAX_BYTES];
        next = self->watches;
        while (next != NULL && next->is_seen)
            next = next->next;
        if (next == NULL || self->is_stopping)
            break;
        memcpy(host, next->host, sizeof(host)); /* the watch may go meanwhile */
        all_found = look_at(self, host) && all_found;
    } while (next != NULL);
    if (all_found)
        self->complained = false;
}

static void *
run(void *arg)
{
    svc_resolver_t *self = arg;
    if (res_init() == 0) { /* this thread's own */
        _res.retrans = SERVER_WAIT_S;
        _res.retry = SERVER_ASKED;
    }
    pthread_mutex_lock(&self->mutex);
    while (!self->is_stopping) {
        const uint64_t due_ms = svc_mono_ms() + self->every_ms;
        const struct timespec due = {.tv_sec = (time_t)(due_ms / 1000),
                                     .tv_nsec = (long)(due_ms % 1000) * 1000000};
        self->has_new = false;
        go_round(self);
        int rc = 0;
        while (!self->is_stopping && !self->has_new && rc != ETIMEDOUT)
            rc = pthread_cond_timedwait(&self->wake, &self->mutex, &due);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

/* --- watches ------------------------------------------------------------------------ */

static void
on_news(void *arg, short events)
{
    svc_watch_t *watch = arg;
    svc_addresses_t news = {0};
    uint64_t count;
    (void)events;
    if (read(watch->news_fd, &count, sizeof(count)) < 0)
        SVC_ASSERT(errno == EAGAIN || errno == EINTR);
    pthread_mutex_lock(&watch->resolver->mutex);
    const bool has_news = watch->has_news;
    watch->has_news = false;
    if (has_news)
        copy(&news, &watch->addresses);
    pthread_mutex_unlock(&watch->resolver->mutex);
    svc_resolved_fn *fn = watch->fn;
    void *fn_arg = watch->arg;
    if (has_news)
        fn(fn_arg, &news); /* may end the watch */
    svc_addresses_clear(&news);
}

svc_watch_t *
svc_resolver_watch(svc_resolver_t *self, const char *host, svc_loop_t *loop,
                   svc_resolved_fn *fn, void *arg)
{
    svc_watch_t *watch = svc_alloc(sizeof(*watch));
    SVC_ASSERT(strlen(host) < sizeof(watch->host)); /* svc_endpoints looks at its form */
    memcpy(watch->host, host, strlen(host));
    watch->resolver = self;
    watch->loop = loop;
    watch->fn = fn;
    watch->arg = arg;
    watch->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    SVC_ASSERT(watch->news_fd >= 0);
    svc_loop_add_fd(loop, watch->news_fd, ZMQ_POLLIN, on_news, watch);
    pthread_mutex_lock(&self->mutex);
    watch->next = self->watches;
    if (watch->next != NULL)
        watch->next->prev = watch;
    self->watches = watch;
    self->has_new = true;
    if (!self->has_thread)
        SVC_ASSERT(pthread_create(&self->thread, NULL, run, self) == 0);
    self->has_thread = true;
    pthread_cond_signal(&self->wake);
    pthread_mutex_unlock(&self->mutex);
    return watch;
}

void
svc_resolver_unwatch(svc_watch_t **watch_p)
{
    svc_watch_t *watch = *watch_p;
    if (watch == NULL)
        return;
    svc_resolver_t *self = watch->resolver;
    pthread_mutex_lock(&self->mutex);
    *(watch->prev != NULL ? &watch->prev->next : &self->watches) = watch->next;
    if (watch->next != NULL)
        watch->next->prev = watch->prev;
    pthread_mutex_unlock(&self->mutex);
    svc_loop_remove_fd(watch->loop, watch->news_fd);
    close(watch->news_fd);
    svc_addresses_clear(&watch->addresses);
    free(watch);
    *watch_p = NULL;
}

/* --- life --------------------------------------------------------------------------- */

svc_resolver_t *
svc_resolver_new(svc_log_t *log, svc_lookup_fn *lookup, void *arg, uint64_t every_ms)
{
    svc_resolver_t *self = svc_alloc(sizeof(*self));
    pthread_condattr_t attr;
    self->log = log;
    self->lookup = lookup != NULL ? lookup : look_up;
    self->arg = arg;
    self->every_ms = every_ms;
    SVC_ASSERT(pthread_condattr_init(&attr) == 0 &&
               pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
               pthread_cond_init(&self->wake, &attr) == 0 &&
               pthread_mutex_init(&self->mutex, NULL) == 0);
    pthread_condattr_destroy(&attr);
    return self;
}

void
svc_resolver_destroy(svc_resolver_t **self_p)
{
    svc_resolver_t *self = *self_p;
    struct timespec until;
    if (self == NULL)
        return;
    *self_p = NULL;
    pthread_mutex_lock(&self->mutex);
    SVC_ASSERT(self->watches == NULL);
    self->is_stopping = true;
    self->log = NULL; /* which may be gone before a lookup that hangs */
    pthread_cond_signal(&self->wake);
    pthread_mutex_unlock(&self->mutex);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += END_WAIT_S;
    if (self->has_thread && pthread_timedjoin_np(self->thread, NULL, &until) != 0) {
        pthread_detach(self->thread); /* the process ends; what it uses stays */
        return;
    }
    pthread_cond_destroy(&self->wake);
    pthread_mutex_destroy(&self->mutex);
    free(self);
}
