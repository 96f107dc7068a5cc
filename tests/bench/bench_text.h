/* bench_text.h - the answers of the bench: what the provider writes and the load expects.
 *
 * A token is a numbered word, "k17 ": the letter tells the chats of a run apart, the number the
 * tokens of a chat, so that a byte that is lost, doubled or of somebody else's answer shows. Every
 * 16th ends in a line feed and some hold an accented letter, as real text does. In paced answers a
 * token carries the moment at which it was written, "k17@0003a1b2c3d4 ", in µs of the machine's
 * monotonic clock. */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_TOKEN_MAX_BYTES 48
#define BENCH_COUNT_MAX       1000000 /* tokens of an answer */
#define BENCH_LETTERS         26

typedef enum { BENCH_BURST, BENCH_TOKENS, BENCH_PACED } bench_mode;

/* A model name taken apart: bench:burst:200:k, bench:tokens:200:k, bench:paced:20:100:k. */
typedef struct {
    bench_mode mode;      /* how the answer is written */
    uint32_t interval_ms; /* paced: between two tokens */
    uint32_t count;       /* tokens of the answer, 1 to BENCH_COUNT_MAX */
    char letter;          /* 'a' to 'z'; 'a' when the name has none */
} bench_model_t;

/* How far a chat's text has been checked. */
typedef struct {
    char letter;                       /* of its tokens */
    bool stamped;                      /* tokens carry their moment */
    uint32_t count;                    /* tokens that will come */
    uint32_t next;                     /* index of the token that is under way */
    uint64_t bytes;                    /* text so far */
    uint64_t hash;                     /* of the text so far */
    size_t at;                         /* bytes of the token under way */
    size_t length;                     /* its length */
    size_t stamp_at;                   /* where its stamp begins, when stamped */
    uint64_t stamp;                    /* digits of it so far */
    char token[BENCH_TOKEN_MAX_BYTES]; /* what it must look like */
} bench_check_t;

/* What is called for each whole token that carries a stamp. */
typedef void bench_stamp_fn(void *user, uint64_t stamp_us);

/* µs of the monotonic clock. */
uint64_t bench_now_us(void);

/* Takes a model name of n bytes apart; false when it is none of ours. */
bool bench_model_parse(const char *name, size_t n, bench_model_t *out);

/* Writes token `index` to out (BENCH_TOKEN_MAX_BYTES), returns its length; *stamp_at tells where
 * its stamp begins, 12 zeros that bench_stamp_write() replaces. NULL: without a stamp. */
size_t bench_token(char *out, char letter, uint32_t index, size_t *stamp_at);

/* Writes the 12 digits of a stamp. */
void bench_stamp_write(char *out, uint64_t now_us);

/* Begins to check an answer of this model. */
void bench_check_init(bench_check_t *self, const bench_model_t *model);

/* Checks the next n bytes of text. False: a byte is wrong, or there are too many. */
bool bench_check_feed(bench_check_t *self, const char *text, size_t n, bench_stamp_fn *fn,
                      void *user);

/* True when the answer is whole. */
bool bench_check_is_whole(const bench_check_t *self);

#endif
