/* base.c - results, buffers and memory: the ground that everything of ours stands on.
 *
 * The table of results is the only place that knows wire names, HTTP statuses and what is worth
 * asking again. A buffer doubles until it meets its maximum, so appending stays linear in what is
 * appended. Two kinds of allocation: small and fixed aborts (there is nothing sensible left to
 * do), sizes that a peer decides return an error. The one global is the failure counter of the
 * tests; it is atomic because a service's threads allocate side by side. */
#include "base.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST_BYTES 256 /* of a buffer that holds anything: most messages fit */
#define PRINTF_MAX_BYTES \
    4096 /* of one svc_buf_printf: a log line, a header, an error text */

// clang-format off
static const svc_rc_info_t rc_table[RC_COUNT] = {
    /* result                      wire                     http retry */
    [RC_OK]                    = {"ok",                     200, false},
    [RC_LATER]                 = {"later",                  500, false},
    [RC_INVALID]               = {"invalid",                400, false},
    [RC_INVALID_USERNAME]      = {"invalid_username",       400, false},
    [RC_INVALID_PASSWORD]      = {"invalid_password",       400, false},
    [RC_USERNAME_TAKEN]        = {"username_taken",         400, false},
    [RC_UNKNOWN_MODEL]         = {"unknown_model",          400, false},
    [RC_UNAUTHORIZED]          = {"unauthorized",           401, false},
    [RC_BAD_CREDENTIALS]       = {"bad_credentials",        401, false},
    [RC_FORBIDDEN]             = {"forbidden",              403, false},
    [RC_NOT_FOUND]             = {"not_found",              404, false},
    [RC_METHOD]                = {"method_not_allowed",     405, false},
    [RC_CONFLICT]              = {"conflict",               409, false},
    [RC_ANSWERING]             = {"answering",              409, true},
    [RC_STALE]                 = {"stale",                  409, false},
    [RC_TOO_OLD]               = {"too_old",                410, false},
    [RC_DELETED]               = {"deleted",                404, false},
    [RC_SUPERSEDED]            = {"superseded",             410, false},
    [RC_NO_ANSWER]             = {"no_answer",              404, false},
    [RC_KEY_REUSED]            = {"key_reused",             422, false},
    [RC_TOO_BIG]               = {"too_big",                413, false},
    [RC_HEADERS_TOO_BIG]       = {"headers_too_big",        431, false},
    [RC_THROTTLED]             = {"throttled",              429, true},
    [RC_UNAVAILABLE]           = {"unavailable",            503, true},
    [RC_MOVED]                 = {"moved",                  503, true},
    [RC_BUSY]                  = {"busy",                   503, true},
    [RC_TIMEOUT]               = {"timeout",                504, true},
    [RC_UPSTREAM]              = {"upstream_error",         502, true},
    [RC_UPSTREAM_AUTH]         = {"upstream_auth",          502, false},
    [RC_UPSTREAM_NOT_FOUND]    = {"upstream_not_found",     502, false},
    [RC_UPSTREAM_RATE_LIMITED] = {"upstream_rate_limited",  502, true},
    [RC_UPSTREAM_TIMEOUT]      = {"upstream_timeout",       504, true},
    [RC_LOST]                  = {"interrupted",            502, true},
    [RC_INTERNAL]              = {"internal",               500, false},
};
// clang-format on

static atomic_uint fail_after; /* allocations until the one that fails; 0: off */

void
svc_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, cond);
    abort();
}

const svc_rc_info_t *
svc_rc_info(svc_rc rc)
{
    size_t row = (size_t)rc;

    return &rc_table[row < RC_COUNT ? row : RC_INTERNAL];
}

svc_rc
svc_rc_from_wire(svc_str wire)
{
    for (size_t i = 0; i < RC_COUNT; i++)
        if (i != RC_LATER && svc_str_eq(wire, svc_str_c(rc_table[i].wire)))
            return (svc_rc)i;
    return RC_INTERNAL;
}

/* --- memory ------------------------------------------------------------------------------ */

void *
svc_alloc(size_t n)
{
    void *p = calloc(1, n == 0 ? 1 : n);

    SVC_ASSERT(p != NULL);
    return p;
}

/* True once, when the countdown of svc_alloc_fail_after has come to its end. */
static bool
is_failing(void)
{
    unsigned left = atomic_load_explicit(&fail_after, memory_order_relaxed);

    while (left != 0)
        if (atomic_compare_exchange_weak(&fail_after, &left, left - 1))
            return left == 1;
    return false;
}

void *
svc_try_alloc(size_t n)
{
    return is_failing() ? NULL : calloc(1, n == 0 ? 1 : n);
}

void
svc_alloc_fail_after(unsigned n)
{
    atomic_store(&fail_after, n);
}

char *
svc_str_dup(svc_str s)
{
    char *copy = malloc(s.n + 1);

    SVC_ASSERT(copy != NULL);
    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = '\0';
    return copy;
}

/* --- buffer ------------------------------------------------------------------------------ */

void
svc_buf_init(svc_buf_t *self, size_t max)
{
    *self = (svc_buf_t){.max = max};
}

void
svc_buf_fini(svc_buf_t *self)
{
    free(self->p);
    *self = (svc_buf_t){.max = self->max};
}

void
svc_buf_clear(svc_buf_t *self)
{
    self->n = 0;
}

svc_rc
svc_buf_reserve(svc_buf_t *self, size_t n)
{
    size_t cap = self->cap < BUF_FIRST_BYTES ? BUF_FIRST_BYTES : self->cap;
    char *p;

    if (n > self->max - self->n)
        return RC_TOO_BIG;
    if (n <= self->cap - self->n)
        return RC_OK;
    while (cap < self->n + n)
        cap = cap > self->max / 2 ? self->max : cap * 2;
    if (cap > self->max)
        cap = self->max;
    p = is_failing() ? NULL : realloc(self->p, cap);
    if (p == NULL)
        return RC_TOO_BIG;
    self->p = p;
    self->cap = cap;
    return RC_OK;
}

svc_rc
svc_buf_add(svc_buf_t *self, const void *bytes, size_t n)
{
    svc_rc rc = svc_buf_reserve(self, n);

    if (rc != RC_OK || n == 0)
        return rc;
    memcpy(self->p + self->n, bytes, n);
    self->n += n;
    return RC_OK;
}

svc_rc
svc_buf_add_str(svc_buf_t *self, svc_str s)
{
    return svc_buf_add(self, s.p, s.n);
}

svc_rc
svc_buf_printf(svc_buf_t *self, const char *fmt, ...)
{
    char text[PRINTF_MAX_BYTES + 1];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0 || n > PRINTF_MAX_BYTES)
        return RC_TOO_BIG;
    return svc_buf_add(self, text, (size_t)n);
}

void
svc_buf_consume(svc_buf_t *self, size_t n)
{
    SVC_ASSERT(n <= self->n);
    if (n == 0)
        return;
    memmove(self->p, self->p + n, self->n - n);
    self->n -= n;
}
