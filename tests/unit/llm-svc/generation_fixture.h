/* generation_fixture.h - a generation whose output is caught: journal pieces and token frames.
 *
 * The clock is a number that the test moves. Included by the tests of generation.c. */
#ifndef TESTS_UNIT_LLM_SVC_GENERATION_FIXTURE_H
#define TESTS_UNIT_LLM_SVC_GENERATION_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "llm-svc/generation.h"

#define FENCE 42u
#define CALL  7u

typedef struct {
    generation_t *generation; /* under test */
    uint64_t now;             /* the clock */
    svc_rc answer;            /* what sending a piece gives */
    uint64_t given_up;        /* the call that was, 0: none */
    /* the piece sent last; views are copied */
    int pieces;         /* sent so far */
    uint64_t call;      /* it was for */
    uint64_t from;      /* of it */
    svc_buf_t bytes;    /* of it */
    bool final;         /* it was the last */
    char finish[128];   /* of it */
    char error[64];     /* of it */
    char sentence[600]; /* of it */
    uint64_t total_tokens, retry_after_s;
    /* frames */
    int texts, marks, ends; /* published so far */
    svc_buf_t shown;        /* all text of all frames */
    uint64_t last_offset;   /* of the last frame of any kind */
    size_t largest;         /* text in one frame */
} caught_t;

static inline void
copy_view(char *to, size_t n, svc_str from)
{
    assert_true(from.n < n);
    memcpy(to, from.n == 0 ? "" : from.p, from.n);
    to[from.n] = '\0';
}

static inline svc_rc
catch_piece(void *arg, uint64_t call, const journal_rep_t *piece, bool final)
{
    caught_t *self = arg;

    self->pieces++;
    self->call = call;
    self->from = piece->from;
    svc_buf_clear(&self->bytes);
    if (piece->bytes.n > 0)
        assert_int_equal(svc_buf_add_str(&self->bytes, piece->bytes), RC_OK);
    self->final = final;
    copy_view(self->finish, sizeof(self->finish), piece->finish);
    copy_view(self->error, sizeof(self->error), piece->error);
    copy_view(self->sentence, sizeof(self->sentence), piece->text);
    self->total_tokens = piece->usage.total;
    self->retry_after_s = piece->retry_after_s;
    return self->answer;
}

static inline void
catch_give_up(void *arg, uint64_t call)
{
    caught_t *self = arg;

    assert_int_equal(self->given_up, 0);
    self->given_up = call;
}

static inline void
catch_frame(void *arg, const proto_token_t *token)
{
    caught_t *self = arg;

    assert_int_equal(token->fence, FENCE);
    assert_int_equal(token->version, PROTO_VERSION);
    self->last_offset = token->offset;
    if (token->kind == PROTO_TOKEN_TEXT) {
        assert_int_equal(token->offset, self->shown.n);
        assert_true(token->bytes.n > 0);
        self->largest = token->bytes.n > self->largest ? token->bytes.n : self->largest;
        assert_int_equal(svc_buf_add_str(&self->shown, token->bytes), RC_OK);
        self->texts++;
        return;
    }
    assert_int_equal(token->bytes.n, 0);
    if (token->kind == PROTO_TOKEN_MARK)
        self->marks++;
    else
        self->ends++;
}

static const generation_out_t catching = {
    .journal = catch_piece, .give_up = catch_give_up, .publish = catch_frame};

static inline void
caught_open(caught_t *self, size_t max_bytes)
{
    static const generate_req_t req = {
        .stream = {"0123456789abcdef", PROTO_STREAM_BYTES}, .fence = FENCE, .term = 1};

    *self = (caught_t){.now = 1000000};
    svc_buf_init(&self->bytes, PROTO_PIECE_MAX_BYTES);
    svc_buf_init(&self->shown, PROTO_ANSWER_MAX_BYTES);
    self->generation = generation_new(&req, CALL, max_bytes, &catching, self, self->now);
}

static inline void
caught_close(caught_t *self)
{
    generation_destroy(&self->generation);
    generation_destroy(&self->generation);
    svc_buf_fini(&self->bytes);
    svc_buf_fini(&self->shown);
}

/* Moves the clock and lets the generation act; gives when it wants to act next. */
static inline uint64_t
after(caught_t *self, uint64_t ms)
{
    self->now += ms;
    return generation_step(self->generation, self->now);
}

static inline void
append(caught_t *self, const char *text)
{
    generation_append(self->generation, svc_str_c(text), self->now);
}

static inline svc_rc
ack(caught_t *self, uint64_t journaled, bool stored)
{
    ack_req_t req = {.fence = FENCE, .term = 1, .journaled = journaled, .stored = stored};

    return generation_ack(self->generation, &req, self->now);
}

/* Appends n bytes of recognisable text. */
static inline void
append_long(caught_t *self, size_t n)
{
    char *text = malloc(n);

    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + i % 26);
    generation_append(self->generation, (svc_str){text, n}, self->now);
    free(text);
}

#endif
