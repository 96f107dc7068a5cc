/* svc_config_value.c - one value of the configuration: from text to its place in the struct.
 *
 * Each type has one function that reads it; on a bad value it says what would have been right,
 * and nothing changes. What the text was is not repeated here: it may be a secret. Whatever the
 * type, a value holds neither NUL nor (but for texts) control characters, so that none can break
 * a header, a log line or a path. */
#include "svc_config_keys.h"

#include "proto/utf8.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#define ITEM_MAX_BYTES 4096

/* --- lists ------------------------------------------------------------------------------- */

void
svc_strings_add(svc_strings_t *self, svc_str item)
{
    char **items = realloc(self->items, (self->n + 1) * sizeof(*items));

    SVC_ASSERT(items != NULL);
    items[self->n++] = svc_str_dup(item);
    self->items = items;
}

void
svc_strings_fini(svc_strings_t *self)
{
    for (size_t i = 0; i < self->n; i++)
        free(self->items[i]);
    free(self->items);
    *self = (svc_strings_t){NULL, 0};
}

/* --- the one way to say no --------------------------------------------------------------- */

/* Sets what was expected, gives false. */
static bool SVC_PRINTF(2, 3) expected(char **out, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    SVC_ASSERT(vasprintf(out, fmt, args) >= 0);
    va_end(args);
    return false;
}

static void *
place(const config_key_t *key, void *base)
{
    return (char *)base + key->where;
}

static void
replace(char **place_p, svc_str text)
{
    char *old = *place_p;

    *place_p = svc_str_dup(text);
    free(old);
}

/* True when text has no control characters; `lines`: line breaks and tabs may be. */
static bool
is_printable(svc_str text, bool lines)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if ((c < 0x20 && !(lines && (c == '\n' || c == '\r' || c == '\t'))) || c == 0x7f)
            return false;
    }
    return svc_utf8_valid(text.p, text.n) == text.n;
}

/* --- one function per type --------------------------------------------------------------- */

static bool
read_number(svc_str text, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (text.n == 0 || text.n > 18)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text.p[i] - '0');
    }
    if (value < min || value > max)
        return false;
    *out = value;
    return true;
}

static bool
set_number(const config_key_t *key, void *at, svc_str text, char **expected_p)
{
    uint64_t value;

    if (!read_number(text, key->min, key->max, &value))
        return expected(expected_p, "a number from %" PRIu64 " to %" PRIu64 "%s%s",
                        key->min, key->max, key->unit[0] == '\0' ? "" : " ", key->unit);
    if (key->type == CONFIG_U32)
        *(uint32_t *)at = (uint32_t)value;
    else
        *(uint64_t *)at = value;
    return true;
}

/* Digits with at most one point: strtod alone would take "inf", "0x1p3" and blanks, too. */
static bool
set_real(const config_key_t *key, double *at, svc_str text, char **expected_p)
{
    char copy[32];
    size_t points = 0, digits = 0;
    double value;

    for (size_t i = 0; i < text.n; i++) {
        points += text.p[i] == '.';
        digits += text.p[i] >= '0' && text.p[i] <= '9';
    }
    value = -1;
    if (digits > 0 && points <= 1 && digits + points == text.n && text.n < sizeof(copy)) {
        memcpy(copy, text.p, text.n);
        copy[text.n] = '\0';
        value = strtod(copy, NULL);
    }
    if (value < (double)key->min || value > (double)key->max)
        return expected(expected_p, "a number from %" PRIu64 " to %" PRIu64 ", like 0.3",
                        key->min, key->max);
    *at = value;
    return true;
}

static bool
set_bool(bool *at, svc_str text, char **expected_p)
{
    bool yes = svc_str_eq(text, SVC_LIT("true"));

    if (!yes && !svc_str_eq(text, SVC_LIT("false")))
        return expected(expected_p, "true or false");
    *at = yes;
    return true;
}

static bool
set_choice(const config_key_t *key, int *at, svc_str text, char **expected_p)
{
    svc_buf_t names;

    for (int i = 0; key->choices[i] != NULL; i++)
        if (svc_str_eq(text, svc_str_c(key->choices[i]))) {
            *at = i;
            return true;
        }
    svc_buf_init(&names, 256);
    for (int i = 0; key->choices[i] != NULL; i++)
        if (svc_buf_printf(&names, "%s%s", i == 0 ? "" : ", ", key->choices[i]) != RC_OK)
            break;
    expected(expected_p, "one of %.*s", (int)names.n, names.p);
    svc_buf_fini(&names);
    return false;
}

static bool
set_text(const config_key_t *key, char **at, svc_str text, char **expected_p)
{
    if (text.n < key->min)
        return expected(expected_p, "a text that is not empty");
    if (text.n > key->max)
        return expected(expected_p, "a text of at most %" PRIu64 " bytes", key->max);
    if (!is_printable(text, key->type == CONFIG_TEXT))
        return expected(expected_p, "a text in UTF-8 without control characters");
    replace(at, text);
    return true;
}

/* Splits "host:port" at the last colon; a host with colons of its own must stand in brackets. */
static bool
split_address(svc_str text, svc_str *host, uint64_t *port)
{
    const char *colon = text.n == 0 ? NULL : memrchr(text.p, ':', text.n);

    if (colon == NULL)
        return false;
    *host = (svc_str){text.p, (size_t)(colon - text.p)};
    if (!read_number((svc_str){colon + 1, text.n - host->n - 1}, 1, 65535, port) ||
        host->n == 0)
        return false;
    if (host->p[0] == '[')
        return host->n > 2 && host->p[host->n - 1] == ']';
    for (size_t i = 0; i < host->n; i++)
        if (strchr("/:,@[] \"'", host->p[i]) != NULL)
            return false;
    return true;
}

/* True for a literal address of `family` (NUL-terminated copy made here). */
static bool
is_literal(int family, svc_str host)
{
    char copy[INET6_ADDRSTRLEN + 1];
    unsigned char address[sizeof(struct in6_addr)];

    if (host.n == 0 || host.n >= sizeof(copy))
        return false;
    memcpy(copy, host.p, host.n);
    copy[host.n] = '\0';
    return inet_pton(family, copy, address) == 1;
}

static bool
set_listen(svc_config_t *config, svc_str text, char **expected_p)
{
    svc_str host = {NULL, 0};
    svc_str digits = text;
    uint64_t port = 0;
    bool good;

    if (text.n > 0 && text.p[0] == ':')
        digits = (svc_str){text.p + 1, text.n - 1};
    good = read_number(digits, 1, 65535, &port);
    if (!good && split_address(text, &host, &port)) {
        if (host.p[0] == '[') {
            host = (svc_str){host.p + 1, host.n - 2};
            good = is_literal(AF_INET6, host);
        } else if (svc_str_eq(host, SVC_LIT("*"))) {
            host.n = 0;
            good = true;
        } else {
            if (svc_str_eq(host, SVC_LIT("localhost")))
                host = SVC_LIT("127.0.0.1");
            good = is_literal(AF_INET, host);
        }
    }
    if (!good)
        return expected(expected_p, "a port from 1 to 65535, or address:port");
    replace(&config->server_host, host);
    config->server_port = (uint16_t)port;
    return true;
}

static bool
is_endpoint(svc_str text)
{
    svc_str prefix = SVC_LIT("tcp://");
    svc_str host;
    uint64_t port;

    return text.n >= prefix.n && memcmp(text.p, prefix.p, prefix.n) == 0 &&
           split_address((svc_str){text.p + prefix.n, text.n - prefix.n}, &host, &port);
}

static bool
set_endpoint(const config_key_t *key, char **at, svc_str text, char **expected_p)
{
    if (text.n == 0 && key->min == 0) {
        replace(at, text);
        return true;
    }
    if (text.n > 0 && memchr(text.p, ',', text.n) != NULL)
        return expected(expected_p, "one tcp://host:port");
    if (!is_endpoint(text))
        return expected(expected_p, "tcp://host:port");
    replace(at, text);
    return true;
}

static bool
set_endpoints(char **at, svc_str text, char **expected_p)
{
    svc_buf_t kept;
    size_t from = 0;
    bool good = true;

    svc_buf_init(&kept, text.n + 1);
    while (good && from <= text.n) {
        svc_str item = {text.p + from, 0};
        while (from + item.n < text.n && item.p[item.n] != ',')
            item.n++;
        from += item.n + 1;
        for (; item.n > 0 && item.p[0] == ' '; item.n--)
            item.p++;
        while (item.n > 0 && item.p[item.n - 1] == ' ')
            item.n--;
        good = is_endpoint(item) &&
               (kept.n == 0 || svc_buf_add_str(&kept, SVC_LIT(",")) == RC_OK) &&
               svc_buf_add_str(&kept, item) == RC_OK;
    }
    if (good)
        replace(at, svc_buf_str(&kept));
    svc_buf_fini(&kept);
    return good || expected(expected_p, "tcp://host:port, or several by commas");
}

static bool
set_address(char **at, svc_str text, char **expected_p)
{
    svc_str host;
    uint64_t port;

    if (text.n > 0 && !split_address(text, &host, &port))
        return expected(expected_p, "host:port, or nothing");
    replace(at, text);
    return true;
}

static bool
set_url(char **at, svc_str text, char **expected_p)
{
    size_t scheme = text.n > 8 && memcmp(text.p, "https://", 8) == 0  ? 8
                    : text.n > 7 && memcmp(text.p, "http://", 7) == 0 ? 7
                                                                      : 0;

    if (scheme == 0 || text.p[scheme] == '/' || memchr(text.p, ' ', text.n) != NULL ||
        memchr(text.p, '?', text.n) != NULL || memchr(text.p, '#', text.n) != NULL)
        return expected(expected_p, "a URL like https://host/v1");
    while (text.p[text.n - 1] == '/')
        text.n--;
    replace(at, text);
    return true;
}

/* --- lists from text --------------------------------------------------------------------- */

bool
svc_config_is_list(const config_key_t *key)
{
    return key->type == CONFIG_LIST || key->type == CONFIG_CIDRS;
}

/* "10.0.0.0/8", "fd00::/8", or one address. */
static bool
is_cidr(svc_str text)
{
    const char *slash = text.n == 0 ? NULL : memchr(text.p, '/', text.n);
    svc_str address = {text.p, slash == NULL ? text.n : (size_t)(slash - text.p)};
    bool v4 = is_literal(AF_INET, address);
    uint64_t bits;

    if (!v4 && !is_literal(AF_INET6, address))
        return false;
    return slash == NULL || read_number((svc_str){slash + 1, text.n - address.n - 1}, 0,
                                        v4 ? 32 : 128, &bits);
}

void
svc_config_clear_list(const config_key_t *key, void *base)
{
    svc_strings_fini(place(key, base));
}

bool
svc_config_add_item(const config_key_t *key, void *base, svc_str text, char **expected_p)
{
    svc_strings_t *list = place(key, base);

    if (list->n >= key->max)
        return expected(expected_p, "at most %" PRIu64 " items", key->max);
    if (text.n == 0 || !is_printable(text, false))
        return expected(expected_p, "items that are not empty");
    if (text.n > ITEM_MAX_BYTES)
        return expected(expected_p, "items of at most %d bytes", ITEM_MAX_BYTES);
    if (key->type == CONFIG_CIDRS && !is_cidr(text))
        return expected(expected_p, "address ranges like 10.0.0.0/8 or fd00::/8");
    svc_strings_add(list, text);
    return true;
}

static svc_str
trim(svc_str text)
{
    while (text.n > 0 && strchr(" \t", text.p[0]) != NULL)
        text = (svc_str){text.p + 1, text.n - 1};
    while (text.n > 0 && strchr(" \t", text.p[text.n - 1]) != NULL)
        text.n--;
    return text;
}

/* Sets a list from "a, b, c". */
static bool
set_list(const config_key_t *key, void *base, svc_str text, char **expected_p)
{
    svc_strings_t fresh = {NULL, 0};
    svc_strings_t *list = place(key, base);
    svc_strings_t old = *list;
    bool good = true;

    *list = fresh;
    text = trim(text);
    while (good && text.n > 0) {
        const char *comma = memchr(text.p, ',', text.n);
        size_t n = comma == NULL ? text.n : (size_t)(comma - text.p);

        good = svc_config_add_item(key, base, trim((svc_str){text.p, n}), expected_p);
        n += comma != NULL;
        text = (svc_str){text.p + n, text.n - n};
    }
    if (!good) {
        svc_strings_fini(list);
        *list = old;
        return false;
    }
    svc_strings_fini(&old);
    return true;
}

/* --- all types --------------------------------------------------------------------------- */

/* True for texts of a form of their own, which are bounded before it is looked at. */
static bool
is_address(const config_key_t *key)
{
    return key->type == CONFIG_ENDPOINT || key->type == CONFIG_ENDPOINTS ||
           key->type == CONFIG_ADDRESS || key->type == CONFIG_URL;
}

bool
svc_config_set(const config_key_t *key, void *base, svc_str text, char **expected_p)
{
    void *at = place(key, base);

    if (key->type != CONFIG_TEXT && !is_printable(text, false))
        return expected(expected_p, "a text in UTF-8 without control characters");
    if (is_address(key) && text.n > key->max)
        return expected(expected_p, "a text of at most %" PRIu64 " bytes", key->max);
    switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_TEXT:
    case CONFIG_SECRET: return set_text(key, at, text, expected_p);
    case CONFIG_U32:
    case CONFIG_U64: return set_number(key, at, text, expected_p);
    case CONFIG_REAL: return set_real(key, at, text, expected_p);
    case CONFIG_BOOL: return set_bool(at, text, expected_p);
    case CONFIG_CHOICE: return set_choice(key, at, text, expected_p);
    case CONFIG_LIST:
    case CONFIG_CIDRS: return set_list(key, base, text, expected_p);
    case CONFIG_LISTEN: return set_listen(base, text, expected_p);
    case CONFIG_ENDPOINT: return set_endpoint(key, at, text, expected_p);
    case CONFIG_ENDPOINTS: return set_endpoints(at, text, expected_p);
    case CONFIG_ADDRESS: return set_address(at, text, expected_p);
    case CONFIG_URL: return set_url(at, text, expected_p);
    }
    return expected(expected_p, "a key that has a type");
}

/* True when the value is one string that the struct owns. */
static bool
is_string(const config_key_t *key)
{
    switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_TEXT:
    case CONFIG_SECRET: return true;
    default: return is_address(key);
    }
}

void
svc_config_set_defaults(const config_key_t *keys, void *base)
{
    for (const config_key_t *key = keys; key->path != NULL; key++) {
        char *wrong = NULL;

        /* A provider's name has no default: it begins empty, and is missed later. */
        if (key->value[0] == '\0' && is_string(key))
            replace(place(key, base), SVC_LIT(""));
        else
            SVC_ASSERT(svc_config_set(key, base, svc_str_c(key->value), &wrong));
    }
}

void
svc_config_release(const config_key_t *keys, void *base)
{
    for (const config_key_t *key = keys; key->path != NULL; key++) {
        if (is_string(key)) {
            free(*(char **)place(key, base));
            *(char **)place(key, base) = NULL;
        } else if (svc_config_is_list(key)) {
            svc_config_clear_list(key, base);
        } else if (key->type == CONFIG_LISTEN) {
            free(((svc_config_t *)base)->server_host);
            ((svc_config_t *)base)->server_host = NULL;
        }
    }
}

static bool
is_same_list(const svc_strings_t *a, const svc_strings_t *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

/* Bytes of a value that owns nothing. */
static size_t
size_of(const config_key_t *key)
{
    switch (key->type) {
    case CONFIG_U32: return sizeof(uint32_t);
    case CONFIG_U64: return sizeof(uint64_t);
    case CONFIG_REAL: return sizeof(double);
    case CONFIG_BOOL: return sizeof(bool);
    case CONFIG_LISTEN: return sizeof(uint16_t);
    default: return sizeof(int);
    }
}

bool
svc_config_same(const config_key_t *key, const void *a, const void *b)
{
    const void *at_a = (const char *)a + key->where;
    const void *at_b = (const char *)b + key->where;

    if (svc_config_is_list(key))
        return is_same_list(at_a, at_b);
    if (is_string(key))
        return strcmp(*(char *const *)at_a, *(char *const *)at_b) == 0;
    if (key->type == CONFIG_LISTEN && strcmp(((const svc_config_t *)a)->server_host,
                                             ((const svc_config_t *)b)->server_host) != 0)
        return false;
    return memcmp(at_a, at_b, size_of(key)) == 0;
}

void
svc_config_copy(const config_key_t *key, void *to, const void *from)
{
    const void *source = (const char *)from + key->where;
    const svc_strings_t *list = source;

    if (svc_config_same(key, to, from))
        return;
    if (svc_config_is_list(key)) {
        svc_config_clear_list(key, to);
        for (size_t i = 0; i < list->n; i++)
            svc_strings_add(place(key, to), svc_str_c(list->items[i]));
        return;
    }
    if (is_string(key)) {
        replace(place(key, to), svc_str_c(*(char *const *)source));
        return;
    }
    if (key->type == CONFIG_LISTEN)
        replace(&((svc_config_t *)to)->server_host,
                svc_str_c(((const svc_config_t *)from)->server_host));
    memcpy(place(key, to), source, size_of(key));
}

bool
svc_config_is_loopback(const char *endpoint)
{
    svc_str text = svc_str_c(endpoint);
    svc_str host;
    uint64_t port;

    if (text.n < 6 || !split_address((svc_str){text.p + 6, text.n - 6}, &host, &port))
        return false;
    return svc_str_eq(host, SVC_LIT("localhost")) || svc_str_eq(host, SVC_LIT("[::1]")) ||
           (host.n > 4 && memcmp(host.p, "127.", 4) == 0 && is_literal(AF_INET, host));
}
