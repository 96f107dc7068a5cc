/* test_svc_refusals.c - everything refused is counted, and the log takes a few lines a minute.
 *
 * The log goes into a pipe, whose lines are counted. */
#include "svc/svc_refusals.h"
#include "svc/svc_seldom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct {
    int ends[2];              /* pipe of the log */
    svc_log_t *log;           /* owned */
    svc_metrics_t *metrics;   /* owned */
    svc_refusals_t *refusals; /* under test */
    char text[16384];         /* what was logged */
} bench_t;

static int
open_bench(void **state)
{
    bench_t *b = svc_alloc(sizeof(*b));

    assert_int_equal(pipe(b->ends), 0);
    b->log = svc_log_new(b->ends[1], "test", 0, SVC_LOG_DEBUG);
    b->metrics = svc_metrics_new();
    b->refusals = svc_refusals_new(b->metrics, b->log);
    *state = b;
    return 0;
}

static int
close_bench(void **state)
{
    bench_t *b = *state;

    svc_refusals_destroy(&b->refusals);
    svc_refusals_destroy(&b->refusals);
    svc_metrics_destroy(&b->metrics);
    svc_log_destroy(&b->log);
    close(b->ends[0]);
    close(b->ends[1]);
    free(b);
    return 0;
}

/* How many lines were logged until now; the text of all of them is in b->text. */
static size_t
count_lines(bench_t *b)
{
    size_t lines = 0;
    ssize_t n;

    assert_int_equal(write(b->ends[1], "end", 3), 3);
    n = read(b->ends[0], b->text, sizeof(b->text) - 1);
    assert_true(n >= 3);
    b->text[n - 3] = '\0';
    for (const char *at = b->text; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    return lines;
}

static void
each_kind_has_a_counter_of_its_own(void **state)
{
    bench_t *b = *state;
    static const svc_metric metrics[] = {
        SVC_M_BUS_STRANGERS, SVC_M_BUS_HANDSHAKES_REFUSED, SVC_M_BUS_CALLS_REFUSED};

    for (size_t kind = 0; kind < SVC_REFUSED_COUNT; kind++) {
        for (size_t i = 0; i <= kind; i++)
            svc_refusals_note(b->refusals, (svc_refusal)kind, "refused %s", "somebody");
        assert_int_equal(svc_metrics_get(b->metrics, metrics[kind]), kind + 1);
    }
    assert_int_equal(count_lines(b), 6);
    assert_non_null(strstr(b->text, "refused somebody"));
}

static void
a_flood_is_counted_whole_and_logged_in_a_few_lines(void **state)
{
    bench_t *b = *state;

    for (int i = 0; i < 10000; i++)
        svc_refusals_note_at(b->refusals, 1000, SVC_REFUSED_STRANGER, "refused");
    assert_int_equal(count_lines(b), SVC_REFUSALS_LOGGED);
    assert_int_equal(svc_metrics_get(b->metrics, SVC_M_BUS_STRANGERS), 10000);

    svc_refusals_note_at(b->refusals, 999 + SVC_SELDOM_MS, SVC_REFUSED_STRANGER,
                         "refused");
    assert_int_equal(count_lines(b), 0);
    svc_refusals_note_at(b->refusals, 1000 + SVC_SELDOM_MS, SVC_REFUSED_STRANGER,
                         "refused");
    assert_int_equal(count_lines(b), 1);
    assert_non_null(strstr(b->text, "(and 9996 more that were not told)"));
    svc_refusals_note_at(b->refusals, 1001 + SVC_SELDOM_MS, SVC_REFUSED_STRANGER,
                         "refused");
    assert_int_equal(count_lines(b), 1);
    assert_null(strstr(b->text, "more"));
}

static void
a_flood_of_one_kind_hides_no_other(void **state)
{
    bench_t *b = *state;

    for (int i = 0; i < 100; i++)
        svc_refusals_note_at(b->refusals, 0, SVC_REFUSED_HANDSHAKE, "refused");
    (void)count_lines(b);
    svc_refusals_note_at(b->refusals, 0, SVC_REFUSED_CALL, "refused a call");
    assert_int_equal(count_lines(b), 1);
}

static void
without_a_record_nothing_happens(void **state)
{
    (void)state;
    svc_refusals_note(NULL, SVC_REFUSED_CALL, "refused");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_bench, close_bench)
        TEST(each_kind_has_a_counter_of_its_own),
        TEST(a_flood_is_counted_whole_and_logged_in_a_few_lines),
        TEST(a_flood_of_one_kind_hides_no_other),
        TEST(without_a_record_nothing_happens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
