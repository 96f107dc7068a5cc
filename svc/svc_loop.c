/* svc_loop.c - one thread's event loop: sockets, descriptors and timers in one zmq_poll.
 *
 * One turn: plan how long to block, poll, run the handlers of what is ready, run the
 * timers that are due, run the turn functions. What a handler adds or removes changes
 * the watches at once; the array for zmq_poll is made anew before the next poll, and a
 * serial number keeps a handler that was removed meanwhile (or whose slot has another
 * owner) from being called.
 *
 * Standing still: the time from poll to poll is compared with what was planned. After
 * a stall the sockets are read dry first, with a short wait, since libzmq's own thread
 * stood still as well and needs a moment to fetch what the kernel holds. */
#include "svc/svc_loop.h"

#include "svc/svc_heap.h"
#include "svc/svc_table.h"
#include "svc/svc_time.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#define LOOP_WATCHES_MAX    64
#define LOOP_TURN_FNS_MAX   8
#define LOOP_STALL_FNS_MAX  16
#define LOOP_BLOCK_MAX_MS   1000 /* so that a stall shows even in an idle loop */
#define LOOP_DRY_ROUNDS_MAX 100
#define LOOP_DRY_WAIT_MS    20

typedef struct {
    uint64_t serial; /* of this watch; 0: the slot is free */
    void *socket;    /* NULL: fd counts; borrowed */
    int fd;          /* borrowed */
    short events;    /* to poll for */
    svc_loop_fn *fn; /* handler */
    void *arg;       /* for fn */
} watch_t;

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
    int wake_fd;                                /* eventfd of svc_loop_stop, owned */
    atomic_bool stopping;                       /* set by any thread */
    watch_t watches[LOOP_WATCHES_MAX];          /* slots */
    uint64_t serials;                           /* source of watch_t.serial */
    bool changed;                               /* items must be made anew */
    zmq_pollitem_t items[LOOP_WATCHES_MAX + 1]; /* [0] is wake_fd */
    size_t item_slots[LOOP_WATCHES_MAX + 1]; /* items[i] is of watches[item_slots[i]] */
    uint64_t item_serials[LOOP_WATCHES_MAX + 1]; /* and stood there under this serial */
    int n_items;                                 /* in use */
    svc_heap_t timers;                           /* loop_timer_t.due */
    svc_table_t timers_by_id;                    /* owns the timers */
    uint64_t timer_ids;                          /* source of ids */
    turn_fn_t turn_fns[LOOP_TURN_FNS_MAX];       /* in order */
    size_t n_turn_fns;                           /* in use */
    bool catching_up;                            /* after a stall, before stall_fns */
    stall_fn_t stall_fns[LOOP_STALL_FNS_MAX];    /* in order */
    uint64_t now_ms;                             /* monotonic, of this turn */
};

svc_loop_t *
svc_loop_new(void)
{
    svc_loop_t *self = svc_alloc(sizeof(*self));
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    SVC_ASSERT(self->wake_fd >= 0);
    atomic_init(&self->stopping, false);
    self->changed = true;
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
    while ((node = svc_table_any(&self->timers_by_id, &from)) != NULL) {
        svc_table_remove(&self->timers_by_id, node->key);
        free(node);
    }
    svc_table_fini(&self->timers_by_id);
    svc_heap_fini(&self->timers);
    close(self->wake_fd);
    free(self);
    *self_p = NULL;
}

/* --- watches ------------------------------------------------------------------------ */

static void
add_watch(svc_loop_t *self, watch_t watch)
{
    size_t i = 0;
    while (i < LOOP_WATCHES_MAX && self->watches[i].serial != 0)
        i++;
    SVC_ASSERT(i < LOOP_WATCHES_MAX);
    watch.serial = ++self->serials;
    self->watches[i] = watch;
    self->changed = true;
}

void
svc_loop_add_socket(svc_loop_t *self, void *socket, svc_loop_fn *fn, void *arg)
{
    SVC_ASSERT(socket != NULL);
    add_watch(self,
              (watch_t){.socket = socket, .events = ZMQ_POLLIN, .fn = fn, .arg = arg});
}

void
svc_loop_add_fd(svc_loop_t *self, int fd, short events, svc_loop_fn *fn, void *arg)
{
    add_watch(self, (watch_t){.fd = fd, .events = events, .fn = fn, .arg = arg});
}

static void
remove_watch(svc_loop_t *self, const void *socket, int fd)
{
    for (size_t i = 0; i < LOOP_WATCHES_MAX; i++) {
        watch_t *watch = &self->watches[i];
        if (watch->serial == 0 || watch->socket != socket)
            continue;
        if (socket != NULL || watch->fd == fd) {
            watch->serial = 0;
            self->changed = true;
        }
    }
}

void
svc_loop_remove_socket(svc_loop_t *self, void *socket)
{
    if (socket != NULL)
        remove_watch(self, socket, 0);
}

void
svc_loop_remove_fd(svc_loop_t *self, int fd)
{
    remove_watch(self, NULL, fd);
}

static void
rebuild_items(svc_loop_t *self)
{
    int n = 0;
    self->items[n++] = (zmq_pollitem_t){.fd = self->wake_fd, .events = ZMQ_POLLIN};
    for (size_t i = 0; i < LOOP_WATCHES_MAX; i++) {
        const watch_t *watch = &self->watches[i];
        if (watch->serial == 0)
            continue;
        self->items[n] = (zmq_pollitem_t){
            .socket = watch->socket, .fd = watch->fd, .events = watch->events};
        self->item_slots[n] = i;
        self->item_serials[n] = watch->serial;
        n++;
    }
    self->n_items = n;
    self->changed = false;
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
    SVC_ASSERT(self->n_turn_fns < LOOP_TURN_FNS_MAX);
    self->turn_fns[self->n_turn_fns++] = (turn_fn_t){fn, arg};
}

void
svc_loop_on_stall(svc_loop_t *self, svc_loop_fn *fn, void *arg)
{
    size_t i = 0;
    while (i < LOOP_STALL_FNS_MAX && self->stall_fns[i].fn != NULL)
        i++;
    SVC_ASSERT(i < LOOP_STALL_FNS_MAX);
    self->stall_fns[i] = (stall_fn_t){fn, arg};
}

void
svc_loop_off_stall(svc_loop_t *self, void *arg)
{
    for (size_t i = 0; i < LOOP_STALL_FNS_MAX; i++)
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
    return block_ms;
}

/* Blocks at most `wait_ms`; gives how many watches are ready. */
static int
poll_items(svc_loop_t *self, int wait_ms)
{
    if (self->changed)
        rebuild_items(self);
    int ready = zmq_poll(self->items, self->n_items, wait_ms);
    if (ready < 0) {
        SVC_ASSERT(errno == EINTR || errno == ETERM);
        if (errno == ETERM)
            atomic_store(&self->stopping, true);
        ready = 0;
        for (int i = 0; i < self->n_items; i++)
            self->items[i].revents = 0;
    }
    self->now_ms = svc_mono_ms();
    return ready;
}

static void
run_handlers(svc_loop_t *self)
{
    const int n = self->n_items; /* items stay as they are until the next poll */
    if (self->items[0].revents != 0) {
        uint64_t count;
        if (read(self->wake_fd, &count, sizeof(count)) < 0)
            SVC_ASSERT(errno == EAGAIN || errno == EINTR);
    }
    for (int i = 1; i < n; i++) {
        const watch_t *watch = &self->watches[self->item_slots[i]];
        if (self->items[i].revents != 0 && watch->serial == self->item_serials[i])
            watch->fn(watch->arg, self->items[i].revents);
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
        if (poll_items(self, LOOP_DRY_WAIT_MS) == 0)
            break;
        run_handlers(self);
    }
    self->catching_up = false;
    for (size_t i = 0; i < LOOP_STALL_FNS_MAX; i++)
        if (self->stall_fns[i].fn != NULL)
            self->stall_fns[i].fn(self->stall_fns[i].arg, 0);
}

void
svc_loop_run(svc_loop_t *self)
{
    uint64_t turn_began = svc_mono_ms();
    self->now_ms = turn_began;
    while (!atomic_load(&self->stopping)) {
        const int wait_ms = finish_turn(self);
        poll_items(self, wait_ms);
        const uint64_t lasted = self->now_ms - turn_began;
        run_handlers(self);
        if (lasted > (uint64_t)wait_ms + SVC_LOOP_STALL_MS)
            catch_up(self);
        turn_began = self->now_ms;
        run_timers(self);
    }
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
