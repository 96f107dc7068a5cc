/* client_addr.c - whose request is this? The address that throttling, limits and logs go by.
 *
 * All addresses are compared as 16 bytes, so a dual-stack listener and an IPv4 list of
 * proxies agree. X-Forwarded-For is read from its end: each trusted proxy vouches for
 * the entry before its own; at the first one that is not trusted, or is no address at
 * all, belief ends. */
#include "client_addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

typedef struct {
    client_addr_t addr; /* of the network */
    unsigned bits;      /* of the prefix, counted over 128 */
} network_t;

struct client_trust {
    network_t *networks; /* owned */
    size_t n;            /* count */
};

/* Reads NUL-terminated text without port or brackets. */
static bool
parse_plain(const char *text, client_addr_t *out)
{
    struct in_addr v4;

    if (inet_pton(AF_INET, text, &v4) == 1) {
        memcpy(out->bytes, v4_prefix, sizeof v4_prefix);
        memcpy(out->bytes + 12, &v4, 4);
        return true;
    }
    return inet_pton(AF_INET6, text, out->bytes) == 1;
}

bool
client_addr_parse(svc_str text, client_addr_t *out)
{
    char plain[CLIENT_ADDR_TEXT_BYTES];

    while (text.n > 0 && (text.p[0] == ' ' || text.p[0] == '\t')) {
        text.p++;
        text.n--;
    }
    while (text.n > 0 && (text.p[text.n - 1] == ' ' || text.p[text.n - 1] == '\t'))
        text.n--;
    if (text.n == 0)
        return false;
    const char *colon = memchr(text.p, ':', text.n);
    if (text.p[0] == '[') {
        const char *close = memchr(text.p, ']', text.n);
        if (close == NULL)
            return false;
        text = (svc_str){text.p + 1, (size_t)(close - text.p) - 1};
    } else if (colon != NULL &&
               memchr(colon + 1, ':', text.n - (size_t)(colon - text.p) - 1) == NULL) {
        text.n = (size_t)(colon - text.p); /* one colon: IPv4 with a port */
    }
    if (text.n >= sizeof plain || memchr(text.p, '\0', text.n) != NULL)
        return false;
    memcpy(plain, text.p, text.n);
    plain[text.n] = '\0';
    return parse_plain(plain, out);
}

/* Reads "address" or "address/bits". */
static bool
parse_network(const char *text, network_t *out)
{
    char plain[CLIENT_ADDR_TEXT_BYTES];
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);

    if (n >= sizeof plain)
        return false;
    memcpy(plain, text, n);
    plain[n] = '\0';
    if (!parse_plain(plain, &out->addr))
        return false;
    unsigned width = strchr(plain, ':') != NULL ? 128 : 32;
    unsigned long bits = width;
    if (slash != NULL) {
        char *end = NULL;
        bits = strtoul(slash + 1, &end, 10);
        if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || bits > width)
            return false;
    }
    out->bits = (unsigned)bits + 128 - width;
    return true;
}

client_trust_t *
client_trust_new(const svc_strings_t *cidrs, char **error)
{
    client_trust_t *self = svc_alloc(sizeof *self);

    self->networks = svc_alloc((cidrs->n + 1) * sizeof *self->networks);
    for (self->n = 0; self->n < cidrs->n; self->n++) {
        const char *text = cidrs->items[self->n];
        if (parse_network(text, &self->networks[self->n]))
            continue;
        if (asprintf(error, "server.trusted_proxies: \"%s\" is no address or CIDR",
                     text) < 0)
            *error = NULL;
        client_trust_destroy(&self);
        return NULL;
    }
    return self;
}

void
client_trust_destroy(client_trust_t **self_p)
{
    client_trust_t *self = *self_p;

    if (self == NULL)
        return;
    free(self->networks);
    free(self);
    *self_p = NULL;
}

static bool
network_has(const network_t *self, const client_addr_t *addr)
{
    size_t whole = self->bits / 8;
    unsigned rest = self->bits % 8;

    if (memcmp(self->addr.bytes, addr->bytes, whole) != 0)
        return false;
    if (rest == 0)
        return true;
    unsigned mask = 0xffu << (8 - rest);
    return ((self->addr.bytes[whole] ^ addr->bytes[whole]) & mask & 0xffu) == 0;
}

bool
client_trust_has(const client_trust_t *self, const client_addr_t *addr)
{
    for (size_t i = 0; i < self->n; i++)
        if (network_has(&self->networks[i], addr))
            return true;
    return false;
}

client_addr_t
client_addr_of(const struct sockaddr *addr)
{
    client_addr_t out = {{0}};

    if (addr->sa_family == AF_INET) {
        memcpy(out.bytes, v4_prefix, sizeof v4_prefix);
        memcpy(out.bytes + 12,
               &((const struct sockaddr_in *)(const void *)addr)->sin_addr, 4);
    } else if (addr->sa_family == AF_INET6) {
        memcpy(out.bytes, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr,
               16);
    }
    return out;
}

static bool
is_v4(const client_addr_t *self)
{
    return memcmp(self->bytes, v4_prefix, sizeof v4_prefix) == 0;
}

/* Writes a byte in decimal and what follows it; gives where to go on. */
static char *
put_byte(char *p, unsigned byte, char next)
{
    if (byte >= 100)
        *p++ = (char)('0' + byte / 100);
    if (byte >= 10)
        *p++ = (char)('0' + byte / 10 % 10);
    *p++ = (char)('0' + byte % 10);
    *p++ = next;
    return p;
}

/* IPv4 by hand: each line of the log has one, and inet_ntop asks printf. */
void
client_addr_text(const client_addr_t *self, char out[CLIENT_ADDR_TEXT_BYTES])
{
    char *p = out;

    if (is_v4(self)) {
        for (size_t i = 12; i < sizeof self->bytes; i++)
            p = put_byte(p, self->bytes[i], i < sizeof self->bytes - 1 ? '.' : '\0');
    } else if (inet_ntop(AF_INET6, self->bytes, out, CLIENT_ADDR_TEXT_BYTES) == NULL) {
        out[0] = '\0';
    }
}

bool
client_addr_is_loopback(const client_addr_t *self)
{
    static const uint8_t one[16] = {[15] = 1};

    return is_v4(self) ? self->bytes[12] == 127 : memcmp(self->bytes, one, 16) == 0;
}

client_addr_t
client_addr_behind(const client_trust_t *trust, const client_addr_t *peer,
                   svc_str forwarded)
{
    client_addr_t client = *peer;
    size_t end = forwarded.n;

    while (client_trust_has(trust, &client)) {
        size_t from = end;
        client_addr_t before;
        while (from > 0 && forwarded.p[from - 1] != ',')
            from--;
        if (!client_addr_parse((svc_str){forwarded.p + from, end - from}, &before))
            break;
        client = before;
        if (from == 0)
            break;
        end = from - 1;
    }
    return client;
}
