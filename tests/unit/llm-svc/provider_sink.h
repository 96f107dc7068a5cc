/* provider_sink.h - catches what a provider gives: its text and its ending.
 *
 * Included by the tests of providers, after bus_fixture.h. */
#ifndef TESTS_UNIT_LLM_SVC_PROVIDER_SINK_H
#define TESTS_UNIT_LLM_SVC_PROVIDER_SINK_H

#include "llm-svc/provider.h"
#include "proto/utf8.h"

typedef struct {
    provider_t *provider; /* under test */
    provider_job_t *job;  /* in hand */
    svc_buf_t text;       /* all of it */
    int pieces;           /* it came in */
    bool ended;           /* the ending has come */
    svc_rc error;         /* of it */
    ending_cause cause;   /* of it */
    char finish[100];     /* of it */
    char sentence[600];   /* of it */
    usage_t usage;        /* of it */
    uint64_t retry_after_s;
    size_t cancel_at; /* cancels when so many bytes have come; 0: never */
} caught_t;

static inline void
caught_text(void *arg, svc_str text)
{
    caught_t *c = arg;

    assert_false(c->ended);
    assert_true(text.n > 0);
    assert_int_equal(svc_utf8_valid(text.p, text.n), text.n);
    assert_null(memchr(text.p, '\0', text.n));
    assert_int_equal(svc_buf_add_str(&c->text, text), RC_OK);
    c->pieces++;
    if (c->cancel_at > 0 && c->text.n >= c->cancel_at && c->job != NULL) {
        provider_job_t *job = c->job;
        c->job = NULL;
        c->provider->cancel(job);
    }
}

static inline void
caught_end(void *arg, const ending_t *ending)
{
    caught_t *c = arg;

    assert_false(c->ended);
    c->ended = true;
    c->job = NULL;
    c->error = ending->error;
    c->cause = ending->cause;
    snprintf(c->finish, sizeof(c->finish), "%.*s", (int)ending->finish.n,
             ending->finish.n == 0 ? "" : ending->finish.p);
    snprintf(c->sentence, sizeof(c->sentence), "%.*s", (int)ending->text.n,
             ending->text.n == 0 ? "" : ending->text.p);
    c->usage = ending->usage;
    c->retry_after_s = ending->retry_after_s;
}

static const provider_sink_t caught_sink = {.text = caught_text, .end = caught_end};

static inline void
caught_init(caught_t *c, provider_t *provider)
{
    memset(c, 0, sizeof(*c));
    c->provider = provider;
    svc_buf_init(&c->text, 64u << 20);
}

/* Asks `question` with `key`; gives what start said. */
static inline svc_rc
caught_ask(caught_t *c, svc_str question, const char *key)
{
    prompt_message_t messages[] = {{ROLE_SYSTEM, SVC_LIT("be kind")},
                                   {ROLE_USER, question}};
    generate_req_t req = {
        .stream = SVC_LIT("0123456789abcdef"),
        .fence = 1,
        .term = 1,
        .model = SVC_LIT("some-model"),
        .key = svc_str_c(key),
        .messages = {messages, SVC_COUNT(messages)},
    };

    return c->provider->start(c->provider, &req, SVC_LIT("trace of a test."),
                              &caught_sink, c, &c->job);
}

static inline bool
caught_has_ended(void *arg)
{
    return ((caught_t *)arg)->ended;
}

static inline bool
caught_has_text(void *arg)
{
    return ((caught_t *)arg)->text.n > 0;
}

#define assert_text(c, wanted) \
    assert_true(svc_str_eq(svc_buf_str(&(c).text), SVC_LIT(wanted)))

#endif
