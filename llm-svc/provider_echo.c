/* provider_echo.c - one timer per answer; each time it fires it gives the next word or more.
 *
 * A piece ends before a word: the white space after a word belongs to the word before
 * it. Its usage counts pieces of the answer as tokens, so that a client sees all fields
 * filled. What a huge question would take is bounded by longer pieces, not by faster
 * ones. */
#include "provider_echo.h"

#include "text_decoder.h"

#include <stdlib.h>

#define WIDE_WORD_BYTES 12 /* four Chinese characters */

typedef struct echo echo_t;

struct provider_job {
    echo_t *echo;                 /* whose job it is */
    provider_job_t *next, **link; /* in echo's list */
    const provider_sink_t *sink;  /* borrowed */
    void *arg;                    /* for sink */
    svc_buf_t text;               /* what to say */
    size_t at;                    /* said up to here */
    size_t piece_bytes;           /* at least so much at a time */
    uint64_t pieces;              /* said */
    uint64_t timer;               /* of the next piece */
};

struct echo {
    provider_t base;      /* first: a provider_t * is one of these */
    svc_loop_t *loop;     /* kept */
    uint64_t step_ms;     /* between two pieces */
    provider_job_t *jobs; /* owned */
};

static void
free_job(provider_job_t *job)
{
    *job->link = job->next;
    if (job->next != NULL)
        job->next->link = job->link;
    svc_loop_cancel(job->echo->loop, job->timer);
    svc_buf_fini(&job->text);
    free(job);
}

static bool
is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Languages without spaces are cut between characters, every few of them. */
static bool
is_word_end(const char *p, size_t from, size_t at)
{
    return is_space(p[at]) || (at - from >= WIDE_WORD_BYTES && (uint8_t)p[at] >= 0xC0);
}

/* Where the piece that begins at `at` ends: behind the white space after its word, not
 * before piece_bytes, never inside a character. */
static size_t
find_piece_end(const provider_job_t *job)
{
    const char *p = job->text.p;
    size_t n = job->text.n, at = job->at;
    size_t least = n - at > job->piece_bytes ? at + job->piece_bytes : n;

    while (at < n && is_space(p[at]))
        at++;
    while (at < n && (at < least || !is_word_end(p, job->at, at)))
        at++;
    while (at < n && is_space(p[at]))
        at++;
    return at;
}

static void
say_next(void *arg, short events)
{
    provider_job_t *job = arg;
    (void)events;

    job->timer = 0;
    if (job->at < job->text.n) {
        size_t end = find_piece_end(job);
        svc_str piece = {job->text.p + job->at, end - job->at};

        job->at = end;
        job->pieces++;
        /* Set before the text is given: the sink may cancel the job. */
        job->timer = svc_loop_after(job->echo->loop, job->echo->step_ms, say_next, job);
        job->sink->text(job->arg, piece);
        return;
    }
    ending_t ending = {.finish = SVC_LIT("stop"),
                       .usage = {.completion = job->pieces, .total = job->pieces}};
    const provider_sink_t *sink = job->sink;
    void *sink_arg = job->arg;
    free_job(job);
    sink->end(sink_arg, &ending);
}

static svc_str
find_question(const generate_req_t *req)
{
    const prompt_message_t *messages = req->messages.items;

    for (size_t i = req->messages.n; i > 0; i--)
        if (messages[i - 1].role == ROLE_USER)
            return messages[i - 1].text;
    return (svc_str){"", 0};
}

static svc_rc
start(provider_t *base, const generate_req_t *req, svc_str trace,
      const provider_sink_t *sink, void *arg, provider_job_t **out)
{
    echo_t *self = (echo_t *)base;
    provider_job_t *job = svc_alloc(sizeof(*job));
    text_decoder_t decoder = {0};
    svc_str question = find_question(req);

    (void)trace;
    job->echo = self;
    job->sink = sink;
    job->arg = arg;
    job->link = &self->jobs;
    job->next = self->jobs;
    if (job->next != NULL)
        job->next->link = &job->next;
    self->jobs = job;
    svc_buf_init(&job->text, 3 * (size_t)PROTO_ANSWER_MAX_BYTES);
    svc_rc rc = text_decoder_plain(&decoder, question, &job->text);
    if (rc == RC_OK)
        rc = text_decoder_end(&decoder, &job->text);
    if (rc != RC_OK) {
        free_job(job);
        return rc;
    }
    job->piece_bytes = job->text.n / PROVIDER_ECHO_STEPS_MAX;
    job->timer = svc_loop_after(self->loop, 0, say_next, job);
    *out = job;
    return RC_OK;
}

static bool
is_idle(const provider_t *base)
{
    return ((const echo_t *)base)->jobs == NULL;
}

static void
destroy(provider_t **self_p)
{
    echo_t *self = (echo_t *)*self_p;

    if (self == NULL)
        return;
    while (self->jobs != NULL)
        free_job(self->jobs);
    free(self);
    *self_p = NULL;
}

provider_t *
provider_echo_new(svc_loop_t *loop, uint64_t step_ms)
{
    echo_t *self = svc_alloc(sizeof(*self));

    self->base = (provider_t){.name = PROVIDER_ECHO_MODEL,
                              .start = start,
                              .cancel = free_job,
                              .is_idle = is_idle,
                              .destroy = destroy};
    self->loop = loop;
    self->step_ms = step_ms;
    return &self->base;
}
