/* base.h - the few types that everything of ours is made of.
 *
 * A string view, the one result type, a bounded growing buffer, and memory. They stand on the
 * lowest floor because messages and codec need them too; they keep the prefix svc_ that they
 * have everywhere. Nothing here knows a socket, a file or a thread; all functions are
 * reentrant, and an object belongs to one thread at a time. */
#ifndef PROTO_BASE_H
#define PROTO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SVC_MUST_CHECK        __attribute__((warn_unused_result))
#define SVC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define SVC_COUNT(array)      (sizeof(array) / sizeof((array)[0]))

/* A broken invariant of our own code: says where on stderr and aborts, in release too.
 * Never for anything that came from outside. */
#define SVC_ASSERT(cond) ((cond) ? (void)0 : svc_assert_failed(#cond, __FILE__, __LINE__))

/* Reports a failed SVC_ASSERT and aborts the process. */
void svc_assert_failed(const char *cond, const char *file, int line)
    __attribute__((noreturn));

/* A view of bytes: borrowed, not NUL-terminated. {NULL, 0} is the empty string. */
typedef struct {
    const char *p; /* first byte, borrowed; may be NULL when n is 0 */
    size_t n;      /* bytes */
} svc_str;

/* A view of a string literal. */
#define SVC_LIT(s) ((svc_str){(s), sizeof(s) - 1})

/* A view of a NUL-terminated string; NULL gives the empty view. */
static inline svc_str
svc_str_c(const char *s)
{
    return (svc_str){s, s == NULL ? 0 : strlen(s)};
}

/* True when both hold the same bytes. Not constant-time. */
static inline bool
svc_str_eq(svc_str a, svc_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Gives a NUL-terminated copy (bytes after an inner NUL are kept); free() it. Aborts when out of memory. */
char *svc_str_dup(svc_str s);

/* Every outcome an operation can have: what it is called on the wire (and in a client's "code"), which HTTP
 * status it becomes and whether asking again may help. The table in base.c is the only place that knows. */
typedef enum {
    RC_OK,
    RC_LATER,   /* never on the wire: the handler keeps the call */
    RC_INVALID, /* a malformed or missing value */
    RC_INVALID_USERNAME,
    RC_INVALID_PASSWORD, /* register: not 8..72 bytes */
    RC_USERNAME_TAKEN,
    RC_UNKNOWN_MODEL,   /* no provider serves it */
    RC_UNAUTHORIZED,    /* no or bad token */
    RC_BAD_CREDENTIALS, /* wrong username or password */
    RC_FORBIDDEN,       /* caller may not use this operation of the bus */
    RC_NOT_FOUND,
    RC_METHOD,     /* HTTP method not allowed */
    RC_CONFLICT,   /* generic: state does not allow it */
    RC_ANSWERING,  /* the previous answer is still being written */
    RC_STALE,      /* fence or term is not the current one */
    RC_TOO_OLD,    /* replay: these bytes are no longer held */
    RC_DELETED,    /* the conversation was deleted meanwhile */
    RC_SUPERSEDED, /* a newer answer has taken its place */
    RC_NO_ANSWER,  /* nothing was asked in this conversation yet */
    RC_KEY_REUSED, /* an idempotency key with another body than the first time */
    RC_TOO_BIG,
    RC_HEADERS_TOO_BIG,
    RC_THROTTLED,   /* too many wrong passwords */
    RC_UNAVAILABLE, /* a service is away */
    RC_MOVED,       /* on the bus only: another replica may have been asked meanwhile */
    RC_BUSY,        /* a bounded queue is full */
    RC_TIMEOUT,     /* our own deadline passed */
    RC_UPSTREAM,    /* provider: refused or broke ("upstream_error") */
    RC_UPSTREAM_AUTH,
    RC_UPSTREAM_NOT_FOUND,
    RC_UPSTREAM_RATE_LIMITED,
    RC_UPSTREAM_TIMEOUT,
    RC_LOST, /* the process that wrote the answer was lost ("interrupted") */
    RC_INTERNAL,
    RC_COUNT
} svc_rc;

/* One row of the table of results. */
typedef struct {
    const char *wire; /* name on the bus and in "code" */
    int http;         /* status of a response */
    bool retry;       /* asking again may help */
} svc_rc_info_t;

/* The row of `rc`; of RC_INTERNAL for a value outside the enum. Never NULL. */
const svc_rc_info_t *svc_rc_info(svc_rc rc);

/* The result called `wire`; RC_INTERNAL when unknown (a newer peer's code). */
svc_rc svc_rc_from_wire(svc_str wire);

/* Gives `n` zeroed bytes for a small fixed size; aborts when there is no memory. free() it. */
void *svc_alloc(size_t n);

/* Gives `n` zeroed bytes, or NULL: for sizes that a peer decides (bounded before). free() it. */
void *svc_try_alloc(size_t n) SVC_MUST_CHECK;

/* Makes svc_try_alloc and the growth of every buffer fail at the n-th call from now on (once); 0 turns it off. Tests only. */
void svc_alloc_fail_after(unsigned n);

/* A growing byte buffer with a maximum. */
typedef struct {
    char *p;    /* owned; NULL until the first byte */
    size_t n;   /* bytes in use */
    size_t cap; /* bytes allocated, <= max */
    size_t max; /* never grows past this */
} svc_buf_t;

/* Makes `self` an empty buffer that never holds more than `max` bytes. Allocates nothing yet. */
void svc_buf_init(svc_buf_t *self, size_t max);

/* Frees the memory; the buffer is empty afterwards and can be used again. */
void svc_buf_fini(svc_buf_t *self);

/* Empties the buffer and keeps its memory. */
void svc_buf_clear(svc_buf_t *self);

/* Appends `n` bytes. RC_TOO_BIG: past max, or no memory; the buffer is unchanged. */
svc_rc svc_buf_add(svc_buf_t *self, const void *bytes, size_t n) SVC_MUST_CHECK;

/* Appends a view, likewise. */
svc_rc svc_buf_add_str(svc_buf_t *self, svc_str s) SVC_MUST_CHECK;

/* Appends formatted text, likewise (at most 4 KiB of it). */
svc_rc svc_buf_printf(svc_buf_t *self, const char *fmt, ...) SVC_MUST_CHECK
    SVC_PRINTF(2, 3);

/* Makes room for `n` more bytes at p + this->n, which the caller fills and counts. RC_TOO_BIG likewise. */
svc_rc svc_buf_reserve(svc_buf_t *self, size_t n) SVC_MUST_CHECK;

/* Removes the first `n` bytes (n <= self->n), moving the rest down. */
void svc_buf_consume(svc_buf_t *self, size_t n);

/* A view of what the buffer holds; dies with the next change of it. */
static inline svc_str
svc_buf_str(const svc_buf_t *self)
{
    return (svc_str){self->p, self->n};
}

#endif
