/* conn_limit.h - how many connections may one address hold? Shared by all reactors.
 *
 * A count-min sketch of atomic counters: no locks, no memory that clients can grow,
 * exact as long as addresses are few; two of many addresses are refused for each
 * other's sake only if they collide in both rows of a keyed hash. An IPv6 client
 * counts by its /64, which is what one customer gets. Who is exempt (loopback, trusted
 * proxies) the caller decides. Thread: any. */
#ifndef GATEWAY_CONN_LIMIT_H
#define GATEWAY_CONN_LIMIT_H

#include "client_addr.h"

typedef struct conn_limit conn_limit_t;

/* Gives a limit of `max` connections per address; 0: no limit. */
conn_limit_t *conn_limit_new(uint32_t max);

/* Another limit from now on, for whoever enters. */
void conn_limit_set(conn_limit_t *self, uint32_t max);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void conn_limit_destroy(conn_limit_t **self_p);

/* Counts one more connection of `addr`. False: it has enough, nothing was counted. */
bool conn_limit_enter(conn_limit_t *self, const client_addr_t *addr) SVC_MUST_CHECK;

/* One connection that had entered is gone. */
void conn_limit_leave(conn_limit_t *self, const client_addr_t *addr);

#endif
