/* provider_openai.c - one job is one answer: a request, its response, and what it says.
 *
 *   relay --bytes--> [event stream] sse_parser --data--> chunk_parser --raw-->
 * text_decoder --> sink
 *                    [whole JSON]   collected, parsed at the end -----^
 *                    [HTML]         an error
 *
 * What the body is shows in its first character, not in its Content-Type, which real
 * providers get
 * wrong. The text of one read is given as one piece. After [DONE] the ending is told at
 * once, and the rest of the response is read away, so that the connection can serve the
 * next request. */
#include "provider_openai.h"

#include "chunk_memo.h"
#include "openai_request.h"
#include "sse_parser.h"
#include "text_decoder.h"
#include "upstream_error.h"

#include <stdio.h>
#include <stdlib.h>

#define DRAIN_MS         2000        /* for what follows [DONE] */
#define TEXT_FLUSH_BYTES (64u << 10) /* decoded text is given on when it is this long */
/* One event with each byte as U+FFFD, and what was not flushed before it. */
#define TEXT_MAX_BYTES   (3 * SSE_PARSER_MAX_BYTES + (1u << 20))
#define WHOLE_MAX_BYTES  (64u << 20) /* a body that is no stream: 16 MB of text, escaped */
#define KEEP_BYTES       (256u << 10) /* a text buffer larger than this is freed when empty */

#define ENDED_EARLY "The provider's stream ended early."
#define NOT_JSON    "The provider sent something that is no JSON."

typedef struct openai openai_t;

typedef enum { BODY_UNKNOWN, BODY_EVENTS, BODY_JSON } body_kind;

struct provider_job {
    openai_t *openai;                         /* whose job it is */
    provider_job_t *next, **link;             /* in openai's list */
    const provider_sink_t *sink;              /* borrowed */
    void *arg;                                /* for sink */
    char stream[PROTO_STREAM_BYTES];          /* of the answer, for the log */
    char trace[PROTO_TRACE_BYTES];            /* of the question */
    bool has_trace;                           /* it is known */
    relay_transfer_t *transfer;               /* the request; NULL after its end */
    char *key;                                /* owned; a secret */
    body_kind kind;                           /* of the response */
    sse_parser_t *events;                     /* BODY_EVENTS */
    chunk_memo_t memo;                        /* of its chunks */
    svc_buf_t whole;                          /* BODY_JSON */
    text_decoder_t decoder;                   /* of the answer's text */
    char finish[ENDING_FINISH_MAX_BYTES + 1]; /* finish_reason, "" until it came */
    usage_t usage;                            /* as told so far */
    bool done;                                /* [DONE] came */
    bool busy;      /* one of our functions is below us on the stack */
    bool over;      /* the sink has heard the ending, or must hear no more */
    bool cancelled; /* free it when busy is over */
};

struct openai {
    provider_t base;              /* first: a provider_t * is one of these */
    relay_t *relay;               /* kept */
    const svc_provider_t *config; /* kept */
    bool plain;                   /* every chunk is parsed */
    char *url;                    /* owned */
    svc_buf_t
        text; /* of one job: decoded, not yet given; empty between two calls of the relay */
    provider_job_t *jobs; /* owned */
};

static void
free_job(provider_job_t *job)
{
    *job->link = job->next;
    if (job->next != NULL)
        job->next->link = job->link;
    if (job->transfer != NULL)
        relay_cancel(job->transfer);
    sse_parser_destroy(&job->events);
    chunk_memo_fini(&job->memo);
    svc_buf_fini(&job->whole);
    explicit_bzero(job->key, strlen(job->key));
    free(job->key);
    free(job);
}

/* --- the ending -------------------------------------------------------------------- */

static void
give_text(provider_job_t *job)
{
    svc_buf_t *text = &job->openai->text;

    if (text->n > 0 && !job->over)
        job->sink->text(job->arg, svc_buf_str(text));
    if (text->cap > KEEP_BYTES)
        svc_buf_fini(text);
    else
        svc_buf_clear(text);
}

/* Tells the sink, once. What is unfinished in the text becomes U+FFFD. */
static void
end_job(provider_job_t *job, const ending_t *ending)
{
    if (job->over)
        return;
    (void)!text_decoder_end(&job->decoder, &job->openai->text);
    give_text(job);
    if (job->over) /* cancelled by the sink's text */
        return;
    job->over = true;
    job->sink->end(job->arg, ending);
}

static void
end_well(provider_job_t *job)
{
    ending_t ending = {.finish = svc_str_c(job->finish[0] != '\0' ? job->finish : "stop"),
                       .usage = job->usage};

    end_job(job, &ending);
}

static void
end_badly(provider_job_t *job, svc_rc error, ending_cause cause, svc_str text,
          uint64_t retry_after_s)
{
    ending_t ending = {.error = error,
                       .cause = cause,
                       .usage = job->usage,
                       .text = text,
                       .retry_after_s = retry_after_s};

    end_job(job, &ending);
}

/* --- what the body says ------------------------------------------------------------ */

static void
take_error(provider_job_t *job, const chunk_t *chunk)
{
    svc_buf_t raw, clean;

    svc_buf_init(&raw, 4096);
    svc_buf_init(&clean, 4096);
    chunk_put_text(chunk->error, 4000, &raw);
    if (raw.n == 0)
        (void)!svc_buf_printf(&raw, "The provider answered with an error.");
    upstream_error_clean(svc_buf_str(&raw), svc_str_c(job->key), &clean);
    end_badly(job, upstream_error_code(chunk->error_status),
              upstream_error_cause(chunk->error_status), svc_buf_str(&clean), 0);
    svc_buf_fini(&raw);
    svc_buf_fini(&clean);
}

static void
take_finish(provider_job_t *job, svc_str raw)
{
    svc_buf_t text;

    svc_buf_init(&text, sizeof(job->finish));
    chunk_put_text(raw, ENDING_FINISH_MAX_BYTES, &text);
    if (text.n > 0)
        snprintf(job->finish, sizeof(job->finish), "%.*s", (int)text.n, text.p);
    svc_buf_fini(&text);
}

/* Takes one chunk; false when nothing after it counts. */
static bool
take_chunk(provider_job_t *job, const chunk_t *chunk)
{
    if (chunk->done) {
        job->done = true;
        end_well(job);
        return false;
    }
    if (chunk->content.n > 0) {
        if (chunk_text(chunk, &job->decoder, &job->openai->text) != RC_OK) {
            end_badly(job, RC_UPSTREAM, CAUSE_MALFORMED,
                      SVC_LIT("The provider sent a piece that is too long."), 0);
            return false;
        }
        if (job->openai->text.n >= TEXT_FLUSH_BYTES)
            give_text(job);
    }
    if (chunk->has_usage)
        job->usage = chunk->usage;
    if (chunk->finish.n > 0)
        take_finish(job, chunk->finish);
    if (chunk->is_error)
        take_error(job, chunk);
    return !job->over;
}

static svc_rc
next_chunk(provider_job_t *job, svc_str *data, chunk_t *out)
{
    return job->openai->plain ? chunk_next(data, out)
                              : chunk_memo_next(&job->memo, data, out);
}

/* All chunks of one event, or of a whole body. */
static void
take_data(void *arg, svc_str data)
{
    provider_job_t *job = arg;
    chunk_t chunk;
    svc_rc rc = RC_OK;

    while (!job->over && (rc = next_chunk(job, &data, &chunk)) == RC_OK)
        if (!take_chunk(job, &chunk))
            return;
    /* A broken chunk may have held text: going on without it would be a lie. */
    if (rc == RC_INVALID)
        end_badly(job, RC_UPSTREAM, CAUSE_MALFORMED, SVC_LIT(NOT_JSON), 0);
}

/* --- the response ------------------------------------------------------------------ */

/* Finds out what the body is; skips what may stand before it. */
static void
find_kind(provider_job_t *job, svc_str *bytes)
{
    while (bytes->n > 0 && strchr(" \t\r\n\xEF\xBB\xBF", bytes->p[0]) != NULL &&
           bytes->p[0] != '\0') {
        bytes->p++;
        bytes->n--;
    }
    if (bytes->n == 0)
        return;
    if (bytes->p[0] == '{' || bytes->p[0] == '[') {
        job->kind = BODY_JSON;
    } else if (bytes->p[0] == '<') {
        end_badly(job, RC_UPSTREAM, CAUSE_MALFORMED,
                  SVC_LIT("The provider answered with a web page (status 200)."), 0);
    } else {
        job->kind = BODY_EVENTS;
        job->events = sse_parser_new(take_data, job);
    }
}

/* Frees the job if that was asked for meanwhile. */
static void
leave(provider_job_t *job)
{
    job->busy = false;
    if (job->cancelled)
        free_job(job);
}

static void
on_body(void *arg, svc_str bytes)
{
    provider_job_t *job = arg;
    svc_rc rc = RC_OK;

    if (job->over)
        return;
    job->busy = true;
    if (job->kind == BODY_UNKNOWN)
        find_kind(job, &bytes);
    if (!job->over && bytes.n > 0) {
        rc = job->kind == BODY_JSON ? svc_buf_add_str(&job->whole, bytes)
                                    : sse_parser_feed(job->events, bytes);
        if (rc != RC_OK)
            end_badly(job, RC_UPSTREAM, CAUSE_MALFORMED,
                      SVC_LIT("The provider sent a line that is too long."), 0);
    }
    give_text(job);
    if (job->over && job->done)
        relay_drain(job->transfer, DRAIN_MS);
    else if (job->over)
        job->cancelled = true;
    leave(job);
}

/* The response has ended as HTTP wants it; has the answer, too? */
static void
end_of_body(provider_job_t *job)
{
    if (job->kind == BODY_EVENTS && sse_parser_end(job->events) != RC_OK)
        end_badly(job, RC_UPSTREAM, CAUSE_MALFORMED,
                  SVC_LIT("The provider sent a line that is too long."), 0);
    if (job->kind == BODY_JSON)
        take_data(job, svc_buf_str(&job->whole));
    if (job->finish[0] != '\0')
        end_well(job);
    else
        end_badly(job, RC_UPSTREAM, CAUSE_BROKEN, SVC_LIT(ENDED_EARLY), 0);
}

static void
end_with_status(provider_job_t *job, const relay_result_t *result)
{
    svc_buf_t text;

    svc_buf_init(&text, 4096);
    upstream_error_sentence(result->status, result->body, svc_str_c(job->key), &text);
    end_badly(job, upstream_error_code((uint64_t)result->status),
              upstream_error_cause((uint64_t)result->status), svc_buf_str(&text),
              result->retry_after_s);
    svc_buf_fini(&text);
}

static void
end_without_response(provider_job_t *job, const relay_result_t *result)
{
    char text[ENDING_TEXT_MAX_BYTES];
    bool is_late = result->outcome == RELAY_TIMEOUT;

    if (job->finish[0] != '\0') { /* all had come but the end of the connection */
        end_well(job);
        return;
    }
    if (job->kind != BODY_UNKNOWN && !is_late) {
        end_badly(job, RC_UPSTREAM, CAUSE_BROKEN, SVC_LIT(ENDED_EARLY), 0);
        return;
    }
    snprintf(text, sizeof(text), "The provider %s: %s.",
             is_late                                ? "took too long"
             : result->outcome == RELAY_UNREACHABLE ? "cannot be reached"
                                                    : "broke the connection",
             result->why);
    end_badly(job, is_late ? RC_UPSTREAM_TIMEOUT : RC_UPSTREAM,
              is_late                                ? CAUSE_TIMEOUT
              : result->outcome == RELAY_UNREACHABLE ? CAUSE_UNREACHABLE
                                                     : CAUSE_BROKEN,
              svc_str_c(text), 0);
}

static void start_transfer(provider_job_t *job, svc_buf_t *body);

/* Some providers refuse a field that they do not know: once more without it. */
static bool
try_without_options(provider_job_t *job, const relay_result_t *result)
{
    if (result->outcome != RELAY_STATUS ||
        (result->status != 400 && result->status != 422) || job->over ||
        memmem(result->body.p, result->body.n, "stream_options", 14) == NULL ||
        !openai_request_drop_usage(result->request))
        return false;
    start_transfer(job, result->request);
    return true;
}

static void
on_done(void *arg, const relay_result_t *result)
{
    provider_job_t *job = arg;

    job->transfer = NULL; /* the relay frees it */
    if (try_without_options(job, result))
        return;
    job->busy = true;
    if (result->outcome == RELAY_DONE)
        end_of_body(job);
    else if (result->outcome == RELAY_STATUS)
        end_with_status(job, result);
    else
        end_without_response(job, result);
    job->cancelled = true;
    leave(job);
}

/* --- jobs -------------------------------------------------------------------------- */

static const relay_sink_t relay_sink = {.body = on_body, .done = on_done};

static void
start_transfer(provider_job_t *job, svc_buf_t *body)
{
    const svc_provider_t *config = job->openai->config;
    relay_request_t request = {
        .url = job->openai->url,
        .ca_file = config->ca_file,
        .bearer = svc_str_c(job->key),
        .about = {.trace = {job->trace, job->has_trace ? sizeof(job->trace) : 0},
                  .stream = {job->stream, sizeof(job->stream)}},
        .body = body,
        .connect_ms = config->connect_s * 1000ull,
        .first_byte_ms = config->first_byte_s * 1000ull,
        .idle_ms = config->idle_s * 1000ull,
    };

    job->transfer = relay_start(job->openai->relay, &request, &relay_sink, job);
}

/* A key goes into a header line: nothing in it may end the line. */
static bool
is_key(svc_str key)
{
    for (size_t i = 0; i < key.n; i++)
        if ((uint8_t)key.p[i] < 0x20 || key.p[i] == 0x7F)
            return false;
    return true;
}

static svc_rc
start(provider_t *base, const generate_req_t *req, svc_str trace,
      const provider_sink_t *sink, void *arg, provider_job_t **out)
{
    openai_t *self = (openai_t *)base;
    svc_str key = req->key.n > 0 ? req->key : svc_str_c(self->config->api_key);
    svc_buf_t body;

    if (!is_key(key))
        return RC_UPSTREAM_AUTH;
    provider_job_t *job = svc_alloc(sizeof(*job));
    job->openai = self;
    job->sink = sink;
    job->arg = arg;
    memcpy(job->stream, req->stream.p, sizeof(job->stream));
    job->has_trace = trace.n == sizeof(job->trace);
    if (job->has_trace)
        memcpy(job->trace, trace.p, sizeof(job->trace));
    job->link = &self->jobs;
    job->next = self->jobs;
    if (job->next != NULL)
        job->next->link = &job->next;
    self->jobs = job;
    job->key = svc_str_dup(key);
    svc_buf_init(&body, OPENAI_REQUEST_MAX_BYTES);
    chunk_memo_init(&job->memo);
    svc_buf_init(&job->whole, WHOLE_MAX_BYTES);
    svc_rc rc = openai_request_write(req, &body);
    if (rc == RC_OK) {
        start_transfer(job, &body);
        *out = job;
    } else {
        free_job(job);
    }
    svc_buf_fini(&body);
    return rc;
}

static void
cancel(provider_job_t *job)
{
    job->over = true;
    if (job->busy)
        job->cancelled = true;
    else
        free_job(job);
}

static bool
is_idle(const provider_t *base)
{
    return ((const openai_t *)base)->jobs == NULL;
}

static void
destroy(provider_t **self_p)
{
    openai_t *self = (openai_t *)*self_p;

    if (self == NULL)
        return;
    while (self->jobs != NULL)
        free_job(self->jobs);
    free(self->url);
    svc_buf_fini(&self->text);
    free(self);
    *self_p = NULL;
}

provider_t *
provider_openai_new(relay_t *relay, const svc_provider_t *config, bool plain)
{
    openai_t *self = svc_alloc(sizeof(*self));

    self->base = (provider_t){
        .name = config->name,
        .start = start,
        .cancel = cancel,
        .is_idle = is_idle,
        .destroy = destroy,
    };
    self->relay = relay;
    self->config = config;
    self->plain = plain;
    svc_buf_init(&self->text, TEXT_MAX_BYTES);
    SVC_ASSERT(asprintf(&self->url, "%s/chat/completions", config->base_url) >= 0);
    return &self->base;
}
