/* svc_resolver.h - the addresses behind host names, looked up again and again off the loops.
 *
 * One thread a process asks for every name that is watched, every 2 s, and hands news to the
 * loop of each watcher; no loop ever waits for a name server. A lookup that fails is no news:
 * the addresses of before stay. The thread is started with the first watch, so a process
 * whose peers have numeric addresses has none.
 *
 * Thread: any, except where a function says otherwise. */
#ifndef SVC_SVC_RESOLVER_H
#define SVC_SVC_RESOLVER_H

#include "svc/svc_log.h"
#include "svc/svc_loop.h"

#define SVC_RESOLVER_EVERY_MS      2000
#define SVC_RESOLVER_ADDRESSES_MAX 1024 /* of one name; more are left out */

typedef struct svc_resolver svc_resolver_t;
typedef struct svc_watch svc_watch_t;

/* Numeric addresses ("10.0.0.1", "fe80::1"), sorted, each once. */
typedef struct {
    char **items; /* owned, as each of them */
    size_t n;     /* of them */
} svc_addresses_t;

/* Finds the addresses of a name, in any order. False: nobody knows right now; *why (static
 * text) says it. Runs on the resolver's thread. */
typedef bool svc_lookup_fn(void *arg, const char *host, svc_addresses_t *out,
                           const char **why);

/* Told on the watcher's loop: the addresses of the name are these now (borrowed). */
typedef void svc_resolved_fn(void *arg, const svc_addresses_t *addresses);

/* Gives a resolver; log may be NULL. lookup NULL: getaddrinfo, IPv4 and IPv6. every_ms:
 * between two rounds. */
svc_resolver_t *svc_resolver_new(svc_log_t *log, svc_lookup_fn *lookup, void *arg,
                                 uint64_t every_ms);

/* Ends the thread (a lookup that hangs is left behind after a second) and sets *self_p to
 * NULL. All watches are gone by then. NULL-safe. */
void svc_resolver_destroy(svc_resolver_t **self_p);

/* Watches a name for a loop: fn is called there soon after the first lookup that worked, and
 * whenever the addresses have changed. Loop's thread. */
svc_watch_t *svc_resolver_watch(svc_resolver_t *self, const char *host, svc_loop_t *loop,
                                svc_resolved_fn *fn, void *arg);

/* Ends a watch: fn is not called any more. Sets *watch_p to NULL. NULL-safe. Loop's thread. */
void svc_resolver_unwatch(svc_watch_t **watch_p);

/* Adds a copy of an address. */
void svc_addresses_add(svc_addresses_t *self, const char *address);

/* Frees the addresses; the struct is empty then. */
void svc_addresses_clear(svc_addresses_t *self);

#endif
