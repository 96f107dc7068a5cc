/* svc_loop.h - one thread's event loop: sockets, descriptors and timers in one epoll set.
 *
 * Every thread that serves sockets runs one: the front thread of a service, each
 * reactor of the gateway. Handlers run on the loop's thread, must not block, and drain
 * a bounded number of messages a turn. The loop notices when it stood still (SIGSTOP,
 * a sleeping machine), so that nobody is judged by time that we slept through.
 *
 * Thread: everything on the thread that runs the loop, except svc_loop_stop (any
 * thread). */
#ifndef SVC_SVC_LOOP_H
#define SVC_SVC_LOOP_H

#include "proto/base.h"

#define SVC_LOOP_STALL_MS \
    1000 /* a turn this much longer than planned counts as having stood still */

typedef struct svc_loop svc_loop_t;

/* Called when a socket or descriptor is ready, or a timer is due. `events`: ZMQ_POLLIN
 * etc.; 0 for timers. */
typedef void svc_loop_fn(void *arg, short events);

/* Gives a loop. */
svc_loop_t *svc_loop_new(void);

/* Frees it (it must not run) and sets *self_p to NULL. NULL-safe. */
void svc_loop_destroy(svc_loop_t **self_p);

/* Watches a ZeroMQ socket for input. Keeps `socket`; remove it before closing, and add it
 * once only. Whoever sends on it (or connects, or binds) outside its own handler says so
 * by svc_loop_touched. */
void svc_loop_add_socket(svc_loop_t *self, void *socket, svc_loop_fn *fn, void *arg);

/* Watches a descriptor (`events`: ZMQ_POLLIN | ZMQ_POLLOUT). An epoll descriptor
 * stands for any number of others. */
void svc_loop_add_fd(svc_loop_t *self, int fd, short events, svc_loop_fn *fn, void *arg);

/* Notes that a watched socket has been used: any call on it may take the sign that a
 * message has come, so it is asked before the loop blocks. Without this the message would
 * wait for the next one. Harmless when it is not watched. Its handler need not say it. */
void svc_loop_touched(svc_loop_t *self, const void *socket);

/* Saves asking: the last call on a watched socket was a receive that found nothing
 * (EAGAIN). Meant for the end of its handler. */
void svc_loop_read_dry(svc_loop_t *self, const void *socket);

/* Stops watching; harmless when not watched. Safe inside a handler. */
void svc_loop_remove_socket(svc_loop_t *self, void *socket);
void svc_loop_remove_fd(svc_loop_t *self, int fd);

/* Calls fn once, `ms` from now. Gives the timer's id (never 0), good for
 * svc_loop_cancel until it has fired. */
uint64_t svc_loop_after(svc_loop_t *self, uint64_t ms, svc_loop_fn *fn, void *arg);

/* Calls fn every `ms` until cancelled. After a stall it is called once, not for each
 * missed time. */
uint64_t svc_loop_every(svc_loop_t *self, uint64_t ms, svc_loop_fn *fn, void *arg);

/* Forgets a timer; 0 and ids that have fired are harmless. Safe inside a handler. */
void svc_loop_cancel(svc_loop_t *self, uint64_t timer);

/* Calls fn at the end of every turn, before the loop blocks (several may be set).
 * It returns the longest time in ms that the loop may block for its sake: 0
 * turns again at once, -1 no wish. */
typedef int svc_loop_turn_fn(void *arg);
void svc_loop_on_turn(svc_loop_t *self, svc_loop_turn_fn *fn, void *arg);

/* Forgets what svc_loop_on_turn registered with this arg. Not inside a turn function. */
void svc_loop_off_turn(svc_loop_t *self, void *arg);

/* Calls fn after the loop stood still for more than SVC_LOOP_STALL_MS, once all
 * sockets that were ready then have been read dry: miss counters start anew there. Several
 * may be set. */
void svc_loop_on_stall(svc_loop_t *self, svc_loop_fn *fn, void *arg);

/* True between a stall and its on_stall functions, while sockets are read dry: what turns run then must not act on
 * what others believed before the stall. */
bool svc_loop_is_catching_up(const svc_loop_t *self);

/* Forgets what svc_loop_on_stall registered with this arg. */
void svc_loop_off_stall(svc_loop_t *self, void *arg);

/* Monotonic ms, read once a turn. */
uint64_t svc_loop_now_ms(const svc_loop_t *self);

/* Runs until svc_loop_stop. */
void svc_loop_run(svc_loop_t *self);

/* Makes svc_loop_run return after its turn. Any thread, async-signal-safe (an
 * eventfd). */
void svc_loop_stop(svc_loop_t *self);

#endif
