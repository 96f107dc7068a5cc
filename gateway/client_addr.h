/* client_addr.h - whose request is this? The address that throttling, limits and logs go by.
 *
 * The peer's own address, unless the peer is a trusted proxy (a list of CIDRs in the
 * configuration): then the last address in X-Forwarded-For that is not one of them.
 * Nobody else's header is believed. IPv4 inside IPv6 (::ffff:1.2.3.4) counts as IPv4.
 * Reentrant after making. */
#ifndef GATEWAY_CLIENT_ADDR_H
#define GATEWAY_CLIENT_ADDR_H

#include "svc/svc_config.h"
#include <sys/socket.h>

#define CLIENT_ADDR_TEXT_BYTES 64 /* of an address as text, with its NUL */

/* An address without its port. IPv4 stands in the last 4 of 16 bytes behind ::ffff:. */
typedef struct {
    uint8_t bytes[16]; /* network order */
} client_addr_t;

typedef struct client_trust client_trust_t;

/* Reads the list of trusted proxies ("10.0.0.0/8", "::1"). NULL with *error (free()
 * it) when an entry is no CIDR. */
client_trust_t *client_trust_new(const svc_strings_t *cidrs, char **error);

/* Frees it and sets *self_p to NULL. NULL-safe. */
void client_trust_destroy(client_trust_t **self_p);

/* True when `addr` is a trusted proxy. */
bool client_trust_has(const client_trust_t *self, const client_addr_t *addr);

/* The address in a socket address; all zero for families other than IPv4 and IPv6. */
client_addr_t client_addr_of(const struct sockaddr *addr);

/* Reads an address as X-Forwarded-For has it, maybe with brackets and a port. False
 * when it is none. */
bool client_addr_parse(svc_str text, client_addr_t *out) SVC_MUST_CHECK;

/* Writes an address as text, IPv4 without its prefix. */
void client_addr_text(const client_addr_t *self, char out[CLIENT_ADDR_TEXT_BYTES]);

/* True for 127.0.0.0/8 and ::1. */
bool client_addr_is_loopback(const client_addr_t *self);

/* The client behind `peer`: `forwarded` is what X-Forwarded-For holds, all its lines
 * joined by commas. */
client_addr_t client_addr_behind(const client_trust_t *trust, const client_addr_t *peer,
                                 svc_str forwarded);

#endif
