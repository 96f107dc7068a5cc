/* bench_chat.h - one answer as it streams in, checked byte by byte.
 *
 * Reads the gateway's server-sent events (ids, pieces, done, full_response) or the provider's own,
 * as a bare proxy hands them on. Text is compared with what the provider must have written
 * (bench_text.h), so it does not matter how it was cut into pieces. */
#ifndef BENCH_CHAT_H
#define BENCH_CHAT_H

#include "bench_hist.h"
#include "bench_text.h"

typedef enum { CHAT_GATEWAY, CHAT_RAW } bench_chat_kind;
typedef enum { CHAT_PIECES, CHAT_DONE, CHAT_WHOLE } bench_chat_at;

typedef struct {
    bench_chat_kind kind;  /* whose events */
    bench_chat_at at;      /* which event may come next */
    bench_check_t text;    /* the pieces */
    bench_check_t full;    /* full_response */
    bench_hist_t *latency; /* of stamped tokens; borrowed, may be NULL */
    char *carry;           /* a line that is not complete; owned */
    size_t carry_n;        /* bytes of it */
    size_t carry_cap;      /* room for it */
    uint64_t id_offset;    /* of the event under way */
    bool has_id;           /* it has one */
    uint64_t now_us;       /* when what is being read came */
    uint64_t first_us;     /* when the first text came; 0: not yet */
    uint64_t events;       /* pieces */
    bool is_wrong;         /* a byte was wrong, missing, or there twice */
    char fault[160];       /* what went wrong, "" as long as nothing has */
} bench_chat_t;

/* Begins an answer; keeps the carry buffer of the one before. */
void bench_chat_begin(bench_chat_t *self, bench_chat_kind kind,
                      const bench_model_t *model, bench_hist_t *latency);

/* Takes n bytes of the body. False: something is wrong with them, `fault` says what. */
bool bench_chat_feed(bench_chat_t *self, const char *bytes, size_t n);

/* The body has ended. False: the answer is not whole, `fault` says why. */
bool bench_chat_end(bench_chat_t *self);

/* Feeds the JSON string at p (behind its quote) to a check, unescaped. Returns what follows the
 * closing quote, NULL when the text is wrong or there is no such quote before `end`. */
const char *bench_chat_string(const char *p, const char *end, bench_check_t *check,
                              bench_stamp_fn *fn, void *user);

#endif
