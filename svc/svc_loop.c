/* svc_loop.c - one thread's event loop: sockets, descriptors and timers in one epoll set.
 *
 * One turn: plan how long to block, wait, run the handlers of what is ready, run the timers that
 * are due, run the turn functions, write what the log has gathered meanwhile. Watches live in groups of 64 slots, and sets of them are the bits
 * of one word a group: what a handler removes leaves all sets at once. One group is usual; a
 * caller of hundreds of replicas has some more.
 *
 * A ZeroMQ socket has no descriptor that is readable while messages wait. Its ZMQ_FD tells once
 * that libzmq's thread has left word for us, and whoever uses the socket, sending included, may
 * take that word unseen. So a socket is asked (ZMQ_EVENTS: two system calls at least) when its
 * descriptor fired, and before we block when it was used since (`touched`). An idle one costs nothing.
 *
 * Standing still: the time from poll to poll is compared with what was planned. After a stall the
 * sockets are read dry first, with a short wait, since libzmq's own thread stood still as well and
 * needs a moment to fetch what the kernel holds. */
#include "svc/svc_loop.h"

#include "svc/svc_heap.h"
#include "svc/svc_log.h"
#include "svc/svc_table.h"
#include "svc/svc_time.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#define LOOP_GROUP_SLOTS    64    /* bits of slots_t */
#define LOOP_PLACES_MAX     65536 /* watches at once: far more than sockets of a context */
#define LOOP_EVENTS         64    /* taken from the kernel in one go */
#define LOOP_BLOCK_MAX_MS   1000  /* so that a stall shows even in an idle loop */
#define LOOP_DRY_ROUNDS_MAX 100
#define LOOP_DRY_WAIT_MS    20
#define LOOP_LINES_MS       5 /* lines of the log may be this old when the loop has to do */

typedef uint64_t slots_t; /* a set of watches of a group: bit i stands for slot i */

typedef struct {
    svc_table_node_t by_socket; /* first: cast from table nodes; key is the socket */
    uint64_t serial;            /* of this watch, never used again */
    size_t place;               /* group * LOOP_GROUP_SLOTS + slot */
    void *socket;               /* NULL: fd counts; borrowed */
    int fd;                     /* borrowed; of a socket its ZMQ_FD */
    short ready;                /* events for the handler, when in the set of that name */
    svc_loop_fn *fn;            /* handler */
    void *arg;                  /* for fn */
} watch_t;

typedef struct {
    slots_t used;                      /* slots that are taken */
    slots_t sockets;                   /* those of sockets */
    slots_t touched;                   /* sockets to be asked before we block */
    slots_t ready;                     /* handlers to be run in this turn */
    watch_t watches[LOOP_GROUP_SLOTS]; /* slots */
} group_t;

typedef struct {
    svc_table_node_t by_id; /* first: cast from table nodes; key is the timer's id */
    svc_heap_node_t due;    /* key: monotonic ms */
    uint64_t every_ms;      /* 0: once */
    svc_loop_fn *fn;        /* handler */
    void *arg;              /* for fn */
} loop_timer_t;

typedef struct {
    svc_loop_turn_fn *fn;
    void *arg;
} turn_fn_t;

typedef struct {
    svc_loop_fn *fn; /* NULL: free */
    void *arg;
} stall_fn_t;

struct svc_loop {
    int epoll_fd;             /* wake_fd and all watches, owned */
    int wake_fd;              /* eventfd of svc_loop_stop, owned */
    atomic_bool stopping;     /* set by any thread */
    group_t **groups;         /* owned; they stay where they are */
    size_t n_groups;          /* never fewer again */
    svc_table_t by_socket;    /* watches of sockets, borrowed from the groups */
    uint64_t serials;         /* source of watch_t.serial */
    svc_heap_t timers;        /* loop_timer_t.due */
    svc_table_t timers_by_id; /* owns the timers */
    uint64_t timer_ids;       /* source of ids */
    turn_fn_t *turn_fns;      /* owned; in order */
    size_t n_turn_fns;        /* of them */
    bool catching_up;         /* after a stall, before stall_fns */
    stall_fn_t *stall_fns;    /* owned; in order */
    size_t n_stall_fns;       /* of them, free ones too */
    uint64_t now_ms;          /* monotonic, of this turn */
    svc_log_gather_t lines;   /* of the log, until they are written */
    uint64_t lines_ms;        /* since when they wait; 0: there were none */
};

svc_loop_t *
svc_loop_new(void)
{
    svc_loop_t *self = svc_alloc(sizeof(*self));
    struct epoll_event event = {.events = EPOLLIN}; /* serial 0: no watch has that */
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    SVC_ASSERT(self->epoll_fd >= 0 && self->wake_fd >= 0);
    SVC_ASSERT(epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, self->wake_fd, &event) == 0);
    atomic_init(&self->stopping, false);
    self->now_ms = svc_mono_ms();
    return self;
}

void
svc_loop_destroy(svc_loop_t **self_p)
{
    svc_loop_t *self = *self_p;
    if (self == NULL)
        return;
    size_t from = 0;
    svc_table_node_t *node;
    svc_log_gather_end(&self->lines); /* of a test that was left in mid-turn */
    while ((node = svc_table_any(&self->timers_by_id, &from)) != NULL) {
        svc_table_remove(&self->timers_by_id, node->key);
        free(node);
    }
    svc_table_fini(&self->timers_by_id);
    svc_heap_fini(&self->timers);
    svc_table_fini(&self->by_socket);
    for (size_t i = 0; i < self->n_groups; i++)
        free(self->groups[i]);
    free(self->groups);
    free(self->turn_fns);
    free(self->stall_fns);
    close(self->wake_fd);
    close(self->epoll_fd);
    free(self);
    *self_p = NULL;
}

/* --- watches ------------------------------------------------------------------------ */

/* An owned array with room for one more; what is new is zero. */
static void *
grow(void *array, size_t n, size_t size)
{
    char *grown = svc_alloc((n + 1) * size);
    if (n > 0)
        memcpy(grown, array, n * size);
    free(array);
    return grown;
}

/* Takes the first slot out of a set that is not empty. */
static size_t
take_slot(slots_t *set)
{
    const size_t slot = (size_t)__builtin_ctzll(*set);
    *set &= *set - 1;
    return slot;
}

static group_t *
group_of(const svc_loop_t *self, const watch_t *watch)
{
    return self->groups[watch->place / LOOP_GROUP_SLOTS];
}

/* Its set of one, among the sets of its group. */
static slots_t
bit_of(const watch_t *watch)
{
    return (slots_t)1 << watch->place % LOOP_GROUP_SLOTS;
}

/* What epoll gives back: the place, and a serial that tells an earlier owner's event. */
static uint64_t
tag_of(const watch_t *watch)
{
    return watch->serial * LOOP_PLACES_MAX + watch->place;
}

/* A free slot, in a group that is made if need be. */
static watch_t *
take_watch(svc_loop_t *self)
{
    size_t i = 0;
    while (i < self->n_groups && self->groups[i]->used == ~(slots_t)0)
        i++;
    if (i == self->n_groups) {
        SVC_ASSERT(i < LOOP_PLACES_MAX / LOOP_GROUP_SLOTS);
        self->groups = grow(self->groups, i, sizeof(group_t *));
        self->groups[i] = svc_alloc(sizeof(group_t));
        self->n_groups++;
    }
    group_t *group = self->groups[i];
    slots_t free_slots = ~group->used;
    const size_t slot = take_slot(&free_slots);
    group->used |= (slots_t)1 << slot;
    group->watches[slot] = (watch_t){.place = i * LOOP_GROUP_SLOTS + slot,
                                     .serial = ++self->serials};
    return &group->watches[slot];
}

static watch_t *
add_watch(svc_loop_t *self, int fd, uint32_t events, svc_loop_fn *fn, void *arg)
{
    watch_t *watch = take_watch(self);
    watch->fd = fd;
    watch->fn = fn;
    watch->arg = arg;
    struct epoll_event event = {.events = events, .data.u64 = tag_of(watch)};
    SVC_ASSERT(epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
    return watch;
}

static uint64_t
key_of(const void *socket)
{
    return (uint64_t)(uintptr_t)socket;
}

void
svc_loop_add_socket(svc_loop_t *self, void *socket, svc_loop_fn *fn, void *arg)
{
    int fd;
    size_t n = sizeof(fd);
    SVC_ASSERT(zmq_getsockopt(socket, ZMQ_FD, &fd, &n) == 0);
    /* Edges: what a firing says is kept in `touched`, and must not be said again. */
    watch_t *watch = add_watch(self, fd, EPOLLIN | EPOLLET, fn, arg);
    watch->socket = socket;
    svc_table_add(&self->by_socket, &watch->by_socket, key_of(socket));
    group_of(self, watch)->sockets |= bit_of(watch);
    group_of(self, watch)->touched |= bit_of(watch);
}

void
svc_loop_add_fd(svc_loop_t *self, int fd, short events, svc_loop_fn *fn, void *arg)
{
    const uint32_t in = (events & ZMQ_POLLIN) != 0 ? EPOLLIN : 0;
    const uint32_t out = (events & ZMQ_POLLOUT) != 0 ? EPOLLOUT : 0;
    (void)add_watch(self, fd, in | out, fn, arg);
}

static watch_t *
watch_of_socket(const svc_loop_t *self, const void *socket)
{
    return (watch_t *)svc_table_get(&self->by_socket, key_of(socket));
}

static watch_t *
watch_of_fd(const svc_loop_t *self, int fd)
{
    for (size_t i = 0; i < self->n_groups; i++) {
        group_t *group = self->groups[i];
        for (slots_t set = group->used & ~group->sockets; set != 0;) {
            watch_t *watch = &group->watches[take_slot(&set)];
            if (watch->fd == fd)
                return watch;
        }
    }
    return NULL;
}

static void
remove_watch(svc_loop_t *self, const watch_t *watch)
{
    group_t *group = group_of(self, watch);
    const slots_t others = ~bit_of(watch);
    (void)epoll_ctl(self->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    group->used &= others;
    group->sockets &= others;
    group->touched &= others;
    group->ready &= others;
}

void
svc_loop_remove_socket(svc_loop_t *self, void *socket)
{
    const watch_t *watch = (watch_t *)svc_table_remove(&self->by_socket, key_of(socket));
    if (watch != NULL)
        remove_watch(self, watch);
}

void
svc_loop_remove_fd(svc_loop_t *self, int fd)
{
    const watch_t *watch = watch_of_fd(self, fd);
    if (watch != NULL)
        remove_watch(self, watch);
}

void
svc_loop_touched(svc_loop_t *self, const void *socket)
{
    const watch_t *watch = watch_of_socket(self, socket);
    if (watch != NULL)
        group_of(self, watch)->touched |= bit_of(watch);
}

void
svc_loop_read_dry(svc_loop_t *self, const void *socket)
{
    const watch_t *watch = watch_of_socket(self, socket);
    if (watch != NULL)
        group_of(self, watch)->touched &= ~bit_of(watch);
}

/* --- timers ------------------------------------------------------------------------- */

static uint64_t
add_timer(svc_loop_t *self, uint64_t ms, uint64_t every_ms, svc_loop_fn *fn, void *arg)
{
    loop_timer_t *timer = svc_alloc(sizeof(*timer));
    timer->every_ms = every_ms;
    timer->fn = fn;
    timer->arg = arg;
    svc_table_add(&self->timers_by_id, &timer->by_id, ++self->timer_ids);
    /* The clock itself, not now_ms: a slow handler must not shorten what it waits for. */
    svc_heap_put(&self->timers, &timer->due, svc_mono_ms() + ms);
    return timer->by_id.key;
}

uint64_t
svc_loop_after(svc_loop_t *self, uint64_t ms, svc_loop_fn *fn, void *arg)
{
    return add_timer(self, ms, 0, fn, arg);
}

uint64_t
svc_loop_every(svc_loop_t *self, uint64_t ms, svc_loop_fn *fn, void *arg)
{
    SVC_ASSERT(ms > 0);
    return add_timer(self, ms, ms, fn, arg);
}

void
svc_loop_cancel(svc_loop_t *self, uint64_t timer)
{
    loop_timer_t *found = (loop_timer_t *)svc_table_remove(&self->timers_by_id, timer);
    if (found == NULL)
        return;
    svc_heap_remove(&self->timers, &found->due);
    free(found);
}

static loop_timer_t *
timer_of(svc_heap_node_t *due)
{
    return (loop_timer_t *)((char *)due - offsetof(loop_timer_t, due));
}

static void
run_timers(svc_loop_t *self)
{
    /* What is put while this runs has to wait for the next turn, else a timer that sets itself
     * again for "at once" would keep the sockets waiting for ever. */
    const uint64_t last_order = self->timers.puts;
    svc_heap_node_t *due;
    while ((due = svc_heap_first(&self->timers)) != NULL && due->key <= self->now_ms &&
           due->order <= last_order) {
        loop_timer_t *timer = timer_of(due);
        svc_loop_fn *fn = timer->fn;
        void *arg = timer->arg;
        if (timer->every_ms == 0) {
            svc_loop_cancel(self, timer->by_id.key);
        } else {
            const uint64_t next = due->key + timer->every_ms;
            svc_heap_put(&self->timers, due,
                         next > self->now_ms ? next : self->now_ms + timer->every_ms);
        }
        fn(arg, 0);
    }
}

/* --- turns -------------------------------------------------------------------------- */

void
svc_loop_on_turn(svc_loop_t *self, svc_loop_turn_fn *fn, void *arg)
{
    self->turn_fns = grow(self->turn_fns, self->n_turn_fns, sizeof(turn_fn_t));
    self->turn_fns[self->n_turn_fns++] = (turn_fn_t){fn, arg};
}

void
svc_loop_off_turn(svc_loop_t *self, void *arg)
{
    size_t kept = 0;
    for (size_t i = 0; i < self->n_turn_fns; i++)
        if (self->turn_fns[i].arg != arg)
            self->turn_fns[kept++] = self->turn_fns[i];
    self->n_turn_fns = kept;
}

void
svc_loop_on_stall(svc_loop_t *self, svc_loop_fn *fn, void *arg)
{
    size_t i = 0;
    while (i < self->n_stall_fns && self->stall_fns[i].fn != NULL)
        i++;
    if (i == self->n_stall_fns)
        self->stall_fns = grow(self->stall_fns, self->n_stall_fns++, sizeof(stall_fn_t));
    self->stall_fns[i] = (stall_fn_t){fn, arg};
}

void
svc_loop_off_stall(svc_loop_t *self, void *arg)
{
    for (size_t i = 0; i < self->n_stall_fns; i++)
        if (self->stall_fns[i].arg == arg)
            self->stall_fns[i] = (stall_fn_t){NULL, NULL};
}

bool
svc_loop_is_catching_up(const svc_loop_t *self)
{
    return self->catching_up;
}

uint64_t
svc_loop_now_ms(const svc_loop_t *self)
{
    return self->now_ms;
}

/* Writes the lines of the log that have waited long enough; gives how long the loop may block for their sake. Under load
 * a turn has one line or two, and a write for each of them would cost as much as the line. */
static int
write_lines(svc_loop_t *self)
{
    if (self->lines.n == 0) {
        self->lines_ms = 0;
        return LOOP_BLOCK_MAX_MS;
    }
    if (self->lines_ms == 0)
        self->lines_ms = self->now_ms;
    if (self->now_ms - self->lines_ms < LOOP_LINES_MS)
        return (int)(self->lines_ms + LOOP_LINES_MS - self->now_ms);
    svc_log_gather_write();
    self->lines_ms = 0;
    return LOOP_BLOCK_MAX_MS;
}

/* Runs the turn functions; gives how long the loop may block. */
static int
finish_turn(svc_loop_t *self)
{
    int block_ms = LOOP_BLOCK_MAX_MS;
    for (size_t i = 0; i < self->n_turn_fns; i++) {
        int wish = self->turn_fns[i].fn(self->turn_fns[i].arg);
        if (wish >= 0 && wish < block_ms)
            block_ms = wish;
    }
    const svc_heap_node_t *first = svc_heap_first(&self->timers);
    if (first != NULL) {
        const uint64_t now = svc_mono_ms();
        const uint64_t left = first->key > now ? first->key - now : 0;
        if (left < (uint64_t)block_ms)
            block_ms = (int)left;
    }
    const int lines_ms = write_lines(self); /* the last: the others may have added some */
    return lines_ms < block_ms ? lines_ms : block_ms;
}

/* Asks those of a set of sockets whether messages wait; after that they need not be
 * asked again until they are used or fire. */
static void
ask_sockets(svc_loop_t *self, group_t *group, slots_t set)
{
    while (set != 0) {
        watch_t *watch = &group->watches[take_slot(&set)];
        int events = 0, rc;
        size_t n = sizeof(events);
        do
            rc = zmq_getsockopt(watch->socket, ZMQ_EVENTS, &events, &n);
        while (rc != 0 && errno == EINTR);
        if (rc != 0) {
            SVC_ASSERT(errno == ETERM);
            atomic_store(&self->stopping, true);
        }
        group->touched &= ~bit_of(watch);
        if ((events & ZMQ_POLLIN) == 0)
            continue;
        watch->ready = ZMQ_POLLIN;
        group->ready |= bit_of(watch);
    }
}

static void
take_event(svc_loop_t *self, const struct epoll_event *event)
{
    const size_t place = event->data.u64 % LOOP_PLACES_MAX;
    group_t *group = self->groups[place / LOOP_GROUP_SLOTS];
    watch_t *watch = &group->watches[place % LOOP_GROUP_SLOTS];
    /* A descriptor that was closed before it was removed stays in the set while a copy lives. */
    if ((group->used & bit_of(watch)) == 0 || tag_of(watch) != event->data.u64)
        return;
    if (watch->socket != NULL) {
        ask_sockets(self, group, bit_of(watch) & ~group->ready);
        return;
    }
    watch->ready = (short)(((event->events & EPOLLIN) != 0 ? ZMQ_POLLIN : 0) |
                           ((event->events & EPOLLOUT) != 0 ? ZMQ_POLLOUT : 0) |
                           ((event->events & (EPOLLERR | EPOLLHUP)) != 0 ? ZMQ_POLLERR
                                                                         : 0));
    group->ready |= bit_of(watch);
}

/* Any handler to be run? */
static bool
has_ready(const svc_loop_t *self)
{
    for (size_t i = 0; i < self->n_groups; i++)
        if (self->groups[i]->ready != 0)
            return true;
    return false;
}

/* Blocks at most `wait_ms`; gives whether anything is ready. */
static bool
wait_for_events(svc_loop_t *self, int wait_ms)
{
    struct epoll_event events[LOOP_EVENTS];
    bool woken = false;
    for (size_t i = 0; i < self->n_groups; i++) {
        self->groups[i]->ready = 0;
        ask_sockets(self, self->groups[i], self->groups[i]->touched);
    }
    int n = epoll_wait(self->epoll_fd, events, SVC_COUNT(events),
                       has_ready(self) ? 0 : wait_ms);
    SVC_ASSERT(n >= 0 || errno == EINTR);
    self->now_ms = svc_mono_ms();
    for (int i = 0; i < n; i++) {
        uint64_t count;
        if (events[i].data.u64 != 0) {
            take_event(self, &events[i]);
            continue;
        }
        woken = true;
        if (read(self->wake_fd, &count, sizeof(count)) < 0)
            SVC_ASSERT(errno == EAGAIN || errno == EINTR);
    }
    return woken || has_ready(self);
}

static void
run_handlers(svc_loop_t *self)
{
    for (size_t i = 0; i < self->n_groups; i++) {
        group_t *group = self->groups[i];
        while (group->ready != 0) { /* a handler may take others out */
            const watch_t *watch = &group->watches[take_slot(&group->ready)];
            if (watch->socket != NULL)
                group->touched |= bit_of(watch);
            watch->fn(watch->arg, watch->ready);
        }
    }
}

/* After a stall: reads everything that waits, so that nobody is judged by what we had
 * not read yet. */
static void
catch_up(svc_loop_t *self)
{
    self->catching_up = true;
    for (int round = 0; round < LOOP_DRY_ROUNDS_MAX; round++) {
        finish_turn(self);
        if (!wait_for_events(self, LOOP_DRY_WAIT_MS))
            break;
        run_handlers(self);
    }
    self->catching_up = false;
    for (size_t i = 0; i < self->n_stall_fns; i++)
        if (self->stall_fns[i].fn != NULL)
            self->stall_fns[i].fn(self->stall_fns[i].arg, 0);
}

void
svc_loop_run(svc_loop_t *self)
{
    uint64_t turn_began = svc_mono_ms();
    svc_log_gather_begin(&self->lines);
    self->now_ms = turn_began;
    for (size_t i = 0; i < self->n_groups; i++) /* whatever was done while no loop ran */
        self->groups[i]->touched = self->groups[i]->sockets;
    while (!atomic_load(&self->stopping)) {
        const int wait_ms = finish_turn(self);
        wait_for_events(self, wait_ms);
        const uint64_t lasted = self->now_ms - turn_began;
        run_handlers(self);
        if (lasted > (uint64_t)wait_ms + SVC_LOOP_STALL_MS)
            catch_up(self);
        turn_began = self->now_ms;
        run_timers(self);
    }
    svc_log_gather_end(&self->lines);
    atomic_store(&self->stopping, false);
}

void
svc_loop_stop(svc_loop_t *self)
{
    const uint64_t one = 1;
    const int saved = errno; /* may run in a signal handler */
    atomic_store(&self->stopping, true);
    if (write(self->wake_fd, &one, sizeof(one)) < 0) {
        /* The counter is full: the loop is awake anyway. */
    }
    errno = saved;
}
