/* test_live_metrics.c - what is counted of a generation, from its begin to whatever ends it.
 *
 * The numbers are read back where /metrics reads them. */
#include "llm-svc/live_metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

typedef struct {
    svc_metrics_t *metrics; /* counted in */
    uint16_t row;           /* of the model */
    live_metrics_t live;    /* of a generation */
} world_t;

static void
open_world(world_t *self)
{
    *self = (world_t){.metrics = svc_metrics_new()};
    live_metrics_name(self->metrics);
    self->row = svc_metrics_label(self->metrics, SVC_L_MODEL, "openai", "gpt*");
    live_metrics_begin(&self->live, self->metrics, self->row);
}

static void
close_world(world_t *self)
{
    svc_metrics_destroy(&self->metrics);
}

static int64_t
read_one(const world_t *self, svc_family family)
{
    return svc_metrics_read(self->metrics, family, self->row, 0);
}

static int64_t
ended(const world_t *self, const char *how)
{
    uint16_t column = svc_metrics_label(self->metrics, SVC_L_ENDING, how, NULL);

    return svc_metrics_read(self->metrics, SVC_F_GENERATIONS_ENDED, self->row, column);
}

static int64_t
failed(const world_t *self, const char *provider, const char *cause)
{
    return svc_metrics_read(
        self->metrics, SVC_F_UPSTREAM_FAILURES,
        svc_metrics_label(self->metrics, SVC_L_PROVIDER, provider, NULL),
        svc_metrics_label(self->metrics, SVC_L_CAUSE, cause, NULL));
}

static void
counts_text_and_usage_of_one_that_completes(void **state)
{
    const ending_t good = {.usage = {.prompt = 7, .completion = 3, .total = 10}};
    world_t w;

    (void)state;
    open_world(&w);
    assert_int_equal(read_one(&w, SVC_F_GENERATIONS_RUNNING), 1);
    live_metrics_text(&w.live, 5);
    live_metrics_text(&w.live, 6);
    live_metrics_end(&w.live, "openai", &good);
    assert_int_equal(read_one(&w, SVC_F_GENERATIONS_BEGUN), 1);
    assert_int_equal(read_one(&w, SVC_F_GENERATIONS_RUNNING), 0);
    assert_int_equal(read_one(&w, SVC_F_GENERATION_PIECES), 2);
    assert_int_equal(read_one(&w, SVC_F_GENERATION_BYTES), 11);
    assert_int_equal(read_one(&w, SVC_F_GENERATION_FIRST_TEXT_US), 1);
    assert_int_equal(read_one(&w, SVC_F_GENERATION_US), 1);
    assert_int_equal(read_one(&w, SVC_F_PROMPT_TOKENS), 7);
    assert_int_equal(read_one(&w, SVC_F_COMPLETION_TOKENS), 3);
    assert_int_equal(ended(&w, "complete"), 1);
    close_world(&w);
}

static void
counts_each_end_once_whatever_comes_after(void **state)
{
    const ending_t good = {.error = RC_OK};
    world_t w;

    (void)state;
    open_world(&w);
    live_metrics_part(&w.live, PARTED_STOPPED);
    live_metrics_part(&w.live, PARTED_REPLACED);
    live_metrics_end(&w.live, "openai", &good);
    assert_int_equal(ended(&w, "stopped"), 1);
    assert_int_equal(ended(&w, "replaced") + ended(&w, "complete"), 0);
    assert_int_equal(read_one(&w, SVC_F_GENERATIONS_RUNNING), 0);
    live_metrics_begin(&w.live, w.metrics, w.row);
    live_metrics_begin(&w.live, w.metrics, w.row);
    assert_int_equal(ended(&w, "replaced"), 1);
    assert_int_equal(read_one(&w, SVC_F_GENERATIONS_RUNNING), 1);
    live_metrics_part(&w.live, PARTED_INTERRUPTED);
    assert_int_equal(ended(&w, "interrupted"), 1);
    close_world(&w);
}

static void
counts_failures_by_provider_and_cause(void **state)
{
    static const struct {
        ending_cause cause;
        const char *name;
    } rows[] = {{CAUSE_UNREACHABLE, "unreachable"},
                {CAUSE_BROKEN, "broken"},
                {CAUSE_TIMEOUT, "timeout"},
                {CAUSE_KEY, "key"},
                {CAUSE_RATE_LIMITED, "rate_limited"},
                {CAUSE_REFUSED, "refused"},
                {CAUSE_SERVER, "server_error"},
                {CAUSE_MALFORMED, "malformed"},
                {CAUSE_OTHER, "other"}};
    world_t w;

    (void)state;
    assert_int_equal(SVC_COUNT(rows), CAUSE_COUNT);
    open_world(&w);
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        const ending_t bad = {.error = RC_UPSTREAM, .cause = rows[i].cause};

        live_metrics_begin(&w.live, w.metrics, w.row);
        live_metrics_end(&w.live, "openai", &bad);
        assert_int_equal(failed(&w, "openai", rows[i].name), 1);
        assert_int_equal(ended(&w, "failed"), i + 1);
    }
    close_world(&w);
}

static void
counts_nothing_without_metrics(void **state)
{
    const ending_t bad = {.error = RC_UPSTREAM};
    live_metrics_t live = {.row = 0};

    (void)state;
    live_metrics_name(NULL);
    live_metrics_part(&live, PARTED_CUT);
    live_metrics_begin(&live, NULL, 0);
    live_metrics_text(&live, 1);
    live_metrics_end(&live, "openai", &bad);
    assert_false(live.is_running);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_text_and_usage_of_one_that_completes),
        cmocka_unit_test(counts_each_end_once_whatever_comes_after),
        cmocka_unit_test(counts_failures_by_provider_and_cause),
        cmocka_unit_test(counts_nothing_without_metrics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
