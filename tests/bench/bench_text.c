/* bench_text.c - the answers of the bench: what the provider writes and the load expects.
 *
 * Both sides make the text from the model's name alone, so that neither has to be told. The check
 * costs a few ns a byte, which matters: the load shares two cores with what it measures. */
#include "bench_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STAMP_DIGITS 12
#define HASH_SEED    0xcbf29ce484222325ull /* FNV-1a */
#define HASH_PRIME   0x100000001b3ull

uint64_t
bench_now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/* Reads ":<number>"; false when there is none, or it is out of bounds. */
static bool
parse_number(const char **p, uint32_t max, uint32_t *out)
{
    char *end;
    unsigned long value;

    if (**p != ':')
        return false;
    value = strtoul(*p + 1, &end, 10);
    if (end == *p + 1 || value == 0 || value > max)
        return false;
    *out = (uint32_t)value;
    *p = end;
    return true;
}

bool
bench_model_parse(const char *name, size_t n, bench_model_t *out)
{
    static const char *const words[] = {"bench:burst", "bench:tokens", "bench:paced"};
    char text[64];
    const char *p = text;
    size_t mode = 0;

    if (n >= sizeof(text))
        return false;
    memcpy(text, name, n);
    text[n] = '\0';
    while (mode < 3 && strncmp(text, words[mode], strlen(words[mode])) != 0)
        mode++;
    if (mode == 3)
        return false;
    p += strlen(words[mode]);
    *out = (bench_model_t){.mode = (bench_mode)mode, .letter = 'a'};
    if (mode == BENCH_PACED && !parse_number(&p, 60000, &out->interval_ms))
        return false;
    if (!parse_number(&p, BENCH_COUNT_MAX, &out->count))
        return false;
    if (p[0] == ':' && p[1] >= 'a' && p[1] <= 'z') {
        out->letter = p[1];
        p += 2;
    }
    return *p == '\0';
}

size_t
bench_token(char *out, char letter, uint32_t index, size_t *stamp_at)
{
    char digits[12];
    size_t n = 0;
    size_t d = 0;

    out[n++] = letter;
    do {
        digits[d++] = (char)('0' + index % 10);
    } while ((index /= 10) > 0);
    uint32_t last = (uint32_t)(digits[0] - '0') +
                    (d > 1 ? (uint32_t)(digits[1] - '0') * 10 : 0);
    while (d > 0)
        out[n++] = digits[--d];
    if (last % 32 == 7) {
        out[n++] = (char)0xc3; /* é */
        out[n++] = (char)0xa9;
    }
    if (stamp_at) {
        out[n++] = '@';
        *stamp_at = n;
        memset(out + n, '0', STAMP_DIGITS);
        n += STAMP_DIGITS;
    }
    out[n++] = last % 16 == 15 ? '\n' : ' ';
    return n;
}

void
bench_stamp_write(char *out, uint64_t now_us)
{
    for (int i = STAMP_DIGITS - 1; i >= 0; i--) {
        out[i] = "0123456789abcdef"[now_us & 15];
        now_us >>= 4;
    }
}

static void
begin_token(bench_check_t *self)
{
    self->at = 0;
    self->stamp = 0;
    self->length = bench_token(self->token, self->letter, self->next,
                               self->stamped ? &self->stamp_at : NULL);
}

void
bench_check_init(bench_check_t *self, const bench_model_t *model)
{
    *self = (bench_check_t){.letter = model->letter,
                            .stamped = model->mode == BENCH_PACED,
                            .count = model->count,
                            .hash = HASH_SEED};
    begin_token(self);
}

/* Takes one digit of a stamp. */
static bool
take_digit(bench_check_t *self, char c)
{
    if (c >= '0' && c <= '9')
        self->stamp = self->stamp << 4 | (uint64_t)(c - '0');
    else if (c >= 'a' && c <= 'f')
        self->stamp = self->stamp << 4 | (uint64_t)(c - 'a' + 10);
    else
        return false;
    return true;
}

bool
bench_check_feed(bench_check_t *self, const char *text, size_t n, bench_stamp_fn *fn,
                 void *user)
{
    uint64_t hash = self->hash;

    for (size_t i = 0; i < n; i++) {
        char c = text[i];

        if (self->next >= self->count)
            return false;
        if (self->stamped && self->at >= self->stamp_at &&
            self->at < self->stamp_at + STAMP_DIGITS) {
            if (!take_digit(self, c))
                return false;
        } else if (c != self->token[self->at]) {
            return false;
        }
        hash = (hash ^ (unsigned char)c) * HASH_PRIME;
        if (++self->at == self->length) {
            if (self->stamped && fn)
                fn(user, self->stamp);
            self->next++;
            begin_token(self);
        }
    }
    self->hash = hash;
    self->bytes += n;
    return true;
}

bool
bench_check_is_whole(const bench_check_t *self)
{
    return self->next == self->count && self->at == 0;
}
