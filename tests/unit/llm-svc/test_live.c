/* test_live.c - generations, their calls and their provider, which is a puppet of the test.
 *
 * The loop is real, so that turns and timers are; what goes out is caught. */
#include "tests/unit/svc/bus_fixture.h"

#include "llm-svc/live.h"
#include "llm-svc/live_metrics.h"

#define STREAM_A       "stream-a........"
#define STREAM_B       "stream-b........"
#define TRACE          "trace of a test."
#define FENCE(attempt) (((uint64_t)(attempt) << 48) | 7u)

/* The provider: one job at a time is enough. */
typedef struct {
    provider_t base;             /* first */
    const provider_sink_t *sink; /* of the latest job */
    void *arg;                   /* for sink */
    int started, cancelled;      /* jobs */
    svc_rc refuse;               /* what start gives, if not RC_OK */
} puppet_t;

typedef struct {
    fixture_t fixture;      /* loop and counters */
    svc_config_t config;    /* bounds */
    puppet_t puppet;        /* serves "puppet*" */
    model_router_t *router; /* of it */
    live_t *live;           /* under test */
    /* the piece sent last */
    int pieces;
    uint64_t call, from;
    char bytes[2000];
    bool final;
    char finish[80], error[80];
    char trace[20]; /* "" : none was told */
    svc_rc answer;  /* what sending gives */
    /* calls that were released, frames, the end of draining */
    uint64_t released;
    svc_rc released_rc;
    int frames; /* of text: one that only marks silence comes by the clock */
    bool drained;
} bench_t;

static svc_rc
start(provider_t *base, const generate_req_t *req, svc_str trace,
      const provider_sink_t *sink, void *arg, provider_job_t **out)
{
    puppet_t *p = (puppet_t *)base;
    (void)req;
    (void)trace;

    if (p->refuse != RC_OK)
        return p->refuse;
    p->started++;
    p->sink = sink;
    p->arg = arg;
    *out = (provider_job_t *)p;
    return RC_OK;
}

static void
cancel(provider_job_t *job)
{
    ((puppet_t *)job)->cancelled++;
}

static void
copy_view(char *to, size_t n, svc_str from)
{
    assert_true(from.n < n);
    memcpy(to, from.n == 0 ? "" : from.p, from.n);
    to[from.n] = '\0';
}

static svc_rc
on_reply(void *arg, uint64_t call, const journal_rep_t *piece, bool final)
{
    bench_t *b = arg;

    b->pieces++;
    b->call = call;
    b->from = piece->from;
    copy_view(b->bytes, sizeof(b->bytes), piece->bytes);
    b->final = final;
    copy_view(b->finish, sizeof(b->finish), piece->finish);
    copy_view(b->error, sizeof(b->error), piece->error);
    copy_view(b->trace, sizeof(b->trace), piece->trace);
    if (b->answer == RC_UNAVAILABLE)
        live_call_gone(b->live, call); /* as the server's cancel function does */
    return b->answer;
}

static void
on_release(void *arg, uint64_t call, svc_rc rc)
{
    bench_t *b = arg;

    b->released = call;
    b->released_rc = rc;
}

static void
on_publish(void *arg, const proto_token_t *token)
{
    if (token->kind == PROTO_TOKEN_TEXT)
        ((bench_t *)arg)->frames++;
}

static void
on_drained(void *arg)
{
    ((bench_t *)arg)->drained = true;
}

static const live_out_t out = {.reply = on_reply,
                               .release = on_release,
                               .publish = on_publish,
                               .drained = on_drained};

static void
open_bench(bench_t *b)
{
    memset(b, 0, sizeof(*b));
    fixture_open(&b->fixture, "llm-svc");
    b->config.llm_max_answer_bytes = 1000;
    b->fixture.ctx.config = &b->config;
    b->puppet.base = (provider_t){.name = "puppet", .start = start, .cancel = cancel};
    b->router = model_router_new();
    assert_int_equal(model_router_add(b->router, "puppet*", &b->puppet.base), RC_OK);
    b->live = live_new(&b->fixture.ctx, b->router, &out, b);
}

static void
close_bench(bench_t *b)
{
    live_destroy(&b->live);
    model_router_destroy(&b->router);
    fixture_close(&b->fixture);
}

static svc_rc
generate(bench_t *b, const char *stream, uint64_t fence, uint64_t term, const char *model,
         uint64_t call)
{
    generate_req_t req = {.stream = svc_str_c(stream),
                          .fence = fence,
                          .term = term,
                          .model = svc_str_c(model)};

    return live_generate(b->live, &req, SVC_LIT(TRACE), call);
}

static svc_rc
attach(bench_t *b, uint64_t fence, uint64_t term, uint64_t from, uint64_t call)
{
    attach_req_t req = {
        .stream = SVC_LIT(STREAM_A), .fence = fence, .term = term, .from = from};

    return live_attach(b->live, &req, call);
}

static svc_rc
ack(bench_t *b, uint64_t fence, uint64_t journaled, bool stored)
{
    ack_req_t req = {.stream = SVC_LIT(STREAM_A),
                     .fence = fence,
                     .term = 1,
                     .journaled = journaled,
                     .stored = stored};

    return live_ack(b->live, &req);
}

static svc_rc
stop(bench_t *b, uint64_t fence, uint64_t term)
{
    llm_stop_req_t req = {.stream = SVC_LIT(STREAM_A), .fence = fence, .term = term};

    return live_stop(b->live, &req);
}

/* The provider speaks, and a turn passes. */
static void
say(bench_t *b, const char *text)
{
    b->puppet.sink->text(b->puppet.arg, svc_str_c(text));
    fixture_run_for(&b->fixture, 5);
}

static void
end(bench_t *b, const ending_t *ending)
{
    b->puppet.sink->end(b->puppet.arg, ending);
    fixture_run_for(&b->fixture, 5);
}

/* How many generations have ended so, by metrics. */
static int64_t
parted(const bench_t *b, live_parting how)
{
    return svc_metrics_read(b->fixture.ctx.metrics, SVC_F_GENERATIONS_ENDED, 0,
                            (uint16_t)(how + 1));
}

/* What metrics say of all of them. */
static int64_t
counted(const bench_t *b, svc_family family)
{
    return svc_metrics_read(b->fixture.ctx.metrics, family, 0, 0);
}

static const ending_t good = {.finish = {"stop", 4}};

static void
carries_an_answer_from_provider_to_owner(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet-1", 11), RC_LATER);
    assert_int_equal(b.puppet.started, 1);
    b.puppet.sink->text(b.puppet.arg, SVC_LIT("Hel"));
    b.puppet.sink->text(b.puppet.arg, SVC_LIT("lo"));
    assert_int_equal(b.pieces, 0); /* not before the end of the turn */
    fixture_run_for(&b.fixture, 5);
    assert_true(b.pieces >= 1); /* again after a second */
    assert_int_equal(b.call, 11);
    assert_string_equal(b.bytes, "Hello");
    assert_int_equal(b.frames, 0);
    assert_int_equal(ack(&b, FENCE(1), 5, false), RC_OK);
    fixture_run_for(&b.fixture, 5);
    assert_int_equal(b.frames, 1);
    end(&b, &good);
    assert_true(b.final);
    assert_string_equal(b.finish, "stop");
    assert_int_equal(ack(&b, FENCE(1), 5, true), RC_OK);
    fixture_run_for(&b.fixture, 5);
    assert_int_equal(ack(&b, FENCE(1), 5, true), RC_NOT_FOUND);
    assert_int_equal(b.puppet.cancelled, 0);
    assert_int_equal(fixture_count(&b.fixture, SVC_M_GENERATIONS), 1);
    assert_int_equal(fixture_count(&b.fixture, SVC_M_GENERATIONS_WASTED), 0);
    assert_int_equal(parted(&b, PARTED_COMPLETE), 1);
    assert_int_equal(counted(&b, SVC_F_GENERATIONS_BEGUN), 1);
    assert_int_equal(counted(&b, SVC_F_GENERATIONS_RUNNING), 0);
    assert_int_equal(counted(&b, SVC_F_GENERATION_BYTES), 5);
    close_bench(&b);
}

static void
counts_what_was_written_and_nobody_has_stored(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 11), RC_LATER);
    say(&b, "Hello");
    assert_int_equal(generate(&b, STREAM_A, FENCE(2), 1, "puppet", 12), RC_LATER);
    assert_int_equal(fixture_count(&b.fixture, SVC_M_GENERATIONS_WASTED), 1);
    assert_int_equal(parted(&b, PARTED_REPLACED), 1);
    assert_int_equal(counted(&b, SVC_F_GENERATIONS_RUNNING), 1);
    say(&b, "Hello");
    assert_int_equal(stop(&b, FENCE(2), 1), RC_OK);
    assert_int_equal(ack(&b, FENCE(2), 0, true),
                     RC_OK); /* its owner has begun anew elsewhere */
    fixture_run_for(&b.fixture, 5);
    assert_int_equal(fixture_count(&b.fixture, SVC_M_GENERATIONS_WASTED), 2);
    close_bench(&b);
}

static bool
has_second_piece(void *arg)
{
    return ((bench_t *)arg)->pieces >= 2;
}

static void
wakes_up_to_send_what_has_gathered(void **state)
{
    (void)state;
    static bench_t b;
    uint64_t began_ms;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 11), RC_LATER);
    began_ms = svc_mono_ms();
    say(&b, "one");
    assert_int_equal(ack(&b, FENCE(1), 3, false), RC_OK);
    say(&b, " two");
    assert_true(b.pieces == 1 || svc_mono_ms() - began_ms >= GENERATION_PIECE_MS);
    fixture_run_until(&b.fixture, has_second_piece, &b);
    assert_string_equal(b.bytes, " two");
    close_bench(&b);
    assert_int_equal(b.puppet.cancelled, 1);
}

static void
refuses_what_it_cannot_begin(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "other", 11), RC_UNKNOWN_MODEL);
    assert_int_equal(attach(&b, FENCE(1), 1, 0, 12), RC_NOT_FOUND);
    assert_int_equal(ack(&b, FENCE(1), 0, true), RC_NOT_FOUND);
    b.puppet.refuse = RC_UPSTREAM_AUTH;
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 13), RC_LATER);
    fixture_run_for(&b.fixture, 5);
    assert_true(b.final);
    assert_int_equal(b.call, 13);
    assert_string_equal(b.error, "upstream_auth");
    close_bench(&b);
}

static void
takes_a_repeated_generate_as_an_attach(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 2, "puppet", 11), RC_LATER);
    say(&b, "Hello");
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 12), RC_CONFLICT);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 2, "puppet", 13), RC_LATER);
    assert_int_equal(b.released, 11);
    assert_int_equal(b.released_rc, RC_OK);
    fixture_run_for(&b.fixture, 5);
    assert_int_equal(b.call, 13);
    assert_string_equal(b.bytes, "Hello");
    assert_int_equal(b.puppet.started, 1);
    assert_int_equal(attach(&b, FENCE(1), 3, 5, 14), RC_LATER);
    assert_int_equal(b.released, 13);
    assert_int_equal(b.released_rc, RC_STALE); /* another owner has taken over */
    close_bench(&b);
}

static bool
has_trace(void *arg)
{
    return ((bench_t *)arg)->trace[0] != '\0';
}

static void
tells_the_trace_of_the_question_to_an_owner_that_has_come_later(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 11), RC_LATER);
    say(&b, "Hello");
    fixture_run_for(&b.fixture, 5);
    assert_string_equal(b.bytes, "Hello");
    assert_string_equal(b.trace, ""); /* who has asked knows it */
    b.answer = RC_BUSY;
    assert_int_equal(attach(&b, FENCE(1), 2, 0, 12), RC_LATER);
    fixture_run_for(&b.fixture, 5);
    assert_string_equal(b.trace, TRACE);
    b.answer =
        RC_OK; /* it did not get through: once more, with the piece that is repeated */
    b.trace[0] = '\0';
    fixture_run_until(&b.fixture, has_trace, &b);
    assert_int_equal(b.call, 12);
    assert_string_equal(b.trace, TRACE);
    close_bench(&b);
}

static void
replaces_a_text_by_one_with_a_newer_fence(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(2), 1, "puppet", 11), RC_LATER);
    say(&b, "old");
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 12), RC_STALE);
    assert_int_equal(generate(&b, STREAM_A, FENCE(3), 1, "puppet", 13), RC_LATER);
    assert_int_equal(b.puppet.cancelled, 1);
    assert_int_equal(b.released, 11);
    say(&b, "new");
    assert_int_equal(b.call, 13);
    assert_string_equal(b.bytes, "new");
    assert_int_equal(ack(&b, FENCE(2), 3, false), RC_STALE);
    assert_int_equal(attach(&b, FENCE(4), 1, 0, 14), RC_NOT_FOUND);
    close_bench(&b);
}

static void
stops_at_once_and_remembers_early_stops(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 2, "puppet", 11), RC_LATER);
    say(&b, "Hello");
    assert_int_equal(stop(&b, FENCE(1), 1), RC_STALE);
    assert_int_equal(b.puppet.cancelled, 0);
    assert_int_equal(stop(&b, FENCE(1), 2), RC_OK);
    assert_int_equal(b.puppet.cancelled, 1);
    fixture_run_for(&b.fixture, 5);
    assert_true(b.final);
    assert_string_equal(b.finish, "stopped");
    assert_int_equal(stop(&b, FENCE(1), 2), RC_OK);
    assert_int_equal(b.puppet.cancelled, 1);
    assert_int_equal(stop(&b, FENCE(5), 2), RC_OK); /* its generate is on the way */
    assert_int_equal(generate(&b, STREAM_A, FENCE(5), 2, "puppet", 15), RC_LATER);
    fixture_run_for(&b.fixture, 5);
    assert_true(b.final);
    assert_int_equal(b.call, 15);
    assert_string_equal(b.bytes, "");
    assert_string_equal(b.finish, "stopped");
    assert_int_equal(b.puppet.started, 1);
    assert_int_equal(parted(&b, PARTED_STOPPED), 2);
    close_bench(&b);
}

static void
goes_on_when_its_call_is_gone(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 11), RC_LATER);
    b.answer = RC_UNAVAILABLE;
    say(&b, "Hel");
    assert_int_equal(b.pieces, 1);
    say(&b, "lo");
    assert_int_equal(b.pieces, 1);
    b.answer = RC_OK;
    live_call_gone(b.live, 11); /* harmless */
    assert_int_equal(attach(&b, FENCE(1), 2, 0, 12), RC_LATER);
    assert_int_equal(b.released, 0);
    fixture_run_for(&b.fixture, 5);
    assert_string_equal(b.bytes, "Hello");
    live_call_gone(b.live, 12);
    const int pieces = b.pieces;
    end(&b, &good);
    assert_int_equal(b.pieces, pieces);
    assert_int_equal(attach(&b, FENCE(1), 2, 5, 13), RC_LATER);
    fixture_run_for(&b.fixture, 5);
    assert_true(b.final);
    close_bench(&b);
}

static void
cuts_a_provider_off_that_writes_too_much(void **state)
{
    (void)state;
    static bench_t b;
    char text[1101];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 11), RC_LATER);
    say(&b, text);
    assert_int_equal(b.puppet.cancelled, 1);
    assert_true(b.final);
    assert_string_equal(b.finish, "length");
    assert_int_equal(parted(&b, PARTED_CUT), 1);
    assert_int_equal(strlen(b.bytes), 1000);
    close_bench(&b);
}

static void
replays_only_what_was_released(void **state)
{
    (void)state;
    static bench_t b;
    replay_req_t req = {.stream = SVC_LIT(STREAM_A), .fence = FENCE(1), .from = 1};
    replay_rep_t rep;

    open_bench(&b);
    assert_int_equal(live_replay(b.live, &req, &rep), RC_NOT_FOUND);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 11), RC_LATER);
    say(&b, "Hello");
    assert_int_equal(live_replay(b.live, &req, &rep), RC_OK);
    assert_int_equal(rep.bytes.n, 0);
    assert_int_equal(ack(&b, FENCE(1), 5, false), RC_OK);
    fixture_run_for(&b.fixture, 5);
    assert_int_equal(live_replay(b.live, &req, &rep), RC_OK);
    assert_true(svc_str_eq(rep.bytes, SVC_LIT("ello")));
    req.fence = FENCE(0);
    assert_int_equal(live_replay(b.live, &req, &rep), RC_STALE);
    close_bench(&b);
}

static bool
has_final(void *arg)
{
    return ((bench_t *)arg)->final;
}

static bool
is_drained(void *arg)
{
    return ((bench_t *)arg)->drained;
}

static void
drains_by_interrupting_what_takes_too_long(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 11), RC_LATER);
    say(&b, "so far");
    live_drain(b.live, 50);
    assert_int_equal(generate(&b, STREAM_B, FENCE(1), 1, "puppet", 12), RC_UNAVAILABLE);
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 13),
                     RC_LATER); /* an attach */
    fixture_run_until(&b.fixture, has_final, &b);
    assert_string_equal(b.error, "interrupted");
    assert_int_equal(parted(&b, PARTED_INTERRUPTED), 1);
    assert_string_equal(b.bytes, "so far");
    assert_int_equal(b.puppet.cancelled, 1);
    assert_false(b.drained);
    assert_int_equal(ack(&b, FENCE(1), 6, true), RC_OK);
    fixture_run_until(&b.fixture, is_drained, &b);
    close_bench(&b);
    open_bench(&b);
    live_drain(b.live, 1000);
    assert_true(b.drained); /* nothing to wait for */
    close_bench(&b);
}

static void
bounds_how_many_there_are(void **state)
{
    (void)state;
    static bench_t b;
    char stream[PROTO_STREAM_BYTES + 1];

    open_bench(&b);
    for (unsigned i = 0; i < LIVE_MAX; i++) {
        snprintf(stream, sizeof(stream), "%08x--------", i);
        assert_int_equal(generate(&b, stream, FENCE(1), 1, "puppet", i + 1), RC_LATER);
    }
    assert_int_equal(generate(&b, STREAM_A, FENCE(1), 1, "puppet", 99999), RC_BUSY);
    close_bench(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_an_answer_from_provider_to_owner),
        cmocka_unit_test(counts_what_was_written_and_nobody_has_stored),
        cmocka_unit_test(wakes_up_to_send_what_has_gathered),
        cmocka_unit_test(refuses_what_it_cannot_begin),
        cmocka_unit_test(takes_a_repeated_generate_as_an_attach),
        cmocka_unit_test(tells_the_trace_of_the_question_to_an_owner_that_has_come_later),
        cmocka_unit_test(replaces_a_text_by_one_with_a_newer_fence),
        cmocka_unit_test(stops_at_once_and_remembers_early_stops),
        cmocka_unit_test(goes_on_when_its_call_is_gone),
        cmocka_unit_test(cuts_a_provider_off_that_writes_too_much),
        cmocka_unit_test(replays_only_what_was_released),
        cmocka_unit_test(drains_by_interrupting_what_takes_too_long),
        cmocka_unit_test(bounds_how_many_there_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
