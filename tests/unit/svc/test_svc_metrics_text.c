/* test_svc_metrics_text.c - what Prometheus reads: lines, labels, histograms, and its bound.
 *
 * (promtool and a real Prometheus read it in a story.) */
#include "svc/svc_metrics_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct {
    svc_metrics_t *metrics;    /* what is told */
    svc_health_t *health;      /* likewise */
    svc_metrics_about_t about; /* both */
    svc_buf_t text;            /* the latest, with a NUL behind it */
} world_t;

static int
open_world(void **state)
{
    world_t *self = svc_alloc(sizeof(*self));

    self->metrics = svc_metrics_new();
    self->health = svc_health_new(SVC_HEALTH_STUCK_MS);
    self->about = (svc_metrics_about_t){self->metrics, self->health, "llm-svc", "v1"};
    svc_buf_init(&self->text, SVC_METRICS_TEXT_MAX_BYTES + 1);
    *state = self;
    return 0;
}

static int
close_world(void **state)
{
    world_t *self = *state;

    svc_metrics_destroy(&self->metrics);
    svc_health_destroy(&self->health);
    svc_buf_fini(&self->text);
    free(self);
    return 0;
}

static const char *
tell(world_t *self)
{
    svc_buf_clear(&self->text);
    svc_metrics_text(&self->about, &self->text);
    assert_int_equal(svc_buf_add(&self->text, "", 1), RC_OK);
    return self->text.p;
}

static void
assert_line(world_t *self, const char *line)
{
    char wanted[512];

    snprintf(wanted, sizeof(wanted), "\n%s\n", line);
    if (strstr(tell(self), wanted) == NULL)
        fail_msg("no line %s in:\n%s", line, self->text.p);
}

static void
assert_no_line(world_t *self, const char *part)
{
    if (strstr(tell(self), part) != NULL)
        fail_msg("%s in:\n%s", part, self->text.p);
}

static void
every_metric_has_help_and_a_type_and_each_stands_once(void **state)
{
    world_t *self = *state;
    char *save = NULL, *all = strdup(tell(self));
    char name[128] = "", last[160];
    size_t n = 0;

    for (char *line = strtok_r(all, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            memcpy(last, name, sizeof(name));
            assert_int_equal(sscanf(line + 7, "%127s", name), 1);
            assert_string_not_equal(name, last);
            snprintf(last, sizeof(last), "# HELP %s ", name);
            assert_null(strstr(strstr(self->text.p, last) + 1, last));
            n++;
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_memory_equal(line + 7, name, strlen(name));
        } else {
            assert_memory_equal(line, name, strlen(name));
        }
    }
    assert_true(n > 30);
    free(all);
}

static void
a_service_tells_its_own_metrics_only(void **state)
{
    world_t *self = *state;

    assert_line(self, "llmb_journal_pieces_total 0");
    assert_no_line(self, "llmb_takeovers_total");
    assert_no_line(self, "llmb_http_connections_open");
    self->about.service = "convo-svc";
    assert_line(self, "llmb_takeovers_total 0");
    assert_no_line(self, "llmb_journal_pieces_total");
}

static void
what_one_label_can_say_is_told_at_zero_and_other_only_when_needed(void **state)
{
    world_t *self = *state;
    uint16_t row = svc_metrics_label(self->metrics, SVC_L_MODEL, "openai", "gpt*");

    assert_int_equal(row, 1);
    assert_int_equal(svc_metrics_label(self->metrics, SVC_L_MODEL, "openai", "gpt*"),
                     row);
    assert_line(self, "llmb_generations_total{provider=\"openai\",model=\"gpt*\"} 0");
    assert_no_line(self, "\"other\"");
    svc_metrics_count(self->metrics, SVC_F_GENERATIONS_BEGUN, 0, 0, 2);
    assert_line(self, "llmb_generations_total{provider=\"other\",model=\"other\"} 2");
}

static void
of_two_labels_the_good_outcome_is_told_at_zero(void **state)
{
    world_t *self = *state;
    uint16_t row = svc_metrics_label(self->metrics, SVC_L_OPERATION, "llm.ack", NULL);

    assert_line(self, "llmb_bus_requests_total{operation=\"llm.ack\",status=\"ok\"} 0");
    assert_no_line(self, "status=\"busy\"");
    svc_metrics_count(self->metrics, SVC_F_OPERATIONS, row, svc_metrics_code(RC_BUSY), 1);
    assert_line(self, "llmb_bus_requests_total{operation=\"llm.ack\",status=\"busy\"} 1");
}

static void
a_gauge_goes_up_and_down(void **state)
{
    world_t *self = *state;

    svc_metrics_count(self->metrics, SVC_F_KEPT_CALLS, 0, 0, 3);
    svc_metrics_count(self->metrics, SVC_F_KEPT_CALLS, 0, 0, -2);
    assert_line(self, "llmb_bus_requests_kept 1");
    svc_metrics_count(self->metrics, SVC_F_KEPT_CALLS, 0, 0, -2);
    assert_line(self, "llmb_bus_requests_kept 0"); /* never less, and not 2^64 */
}

static void
a_histogram_counts_up_to_each_bound_in_base_units(void **state)
{
    world_t *self = *state;
    uint16_t row = svc_metrics_label(self->metrics, SVC_L_OPERATION, "llm.ack", NULL);

    svc_metrics_observe(self->metrics, SVC_F_OPERATION_US, row, 500);
    svc_metrics_observe(self->metrics, SVC_F_OPERATION_US, row, 501);
    svc_metrics_observe(self->metrics, SVC_F_OPERATION_US, row, 99000000);
    assert_int_equal(svc_metrics_read(self->metrics, SVC_F_OPERATION_US, row, 0), 3);
    assert_line(self,
                "llmb_bus_request_seconds_bucket{operation=\"llm.ack\",le=\"0.0005\"} 1");
    assert_line(self,
                "llmb_bus_request_seconds_bucket{operation=\"llm.ack\",le=\"0.001\"} 2");
    assert_line(self,
                "llmb_bus_request_seconds_bucket{operation=\"llm.ack\",le=\"10\"} 2");
    assert_line(self,
                "llmb_bus_request_seconds_bucket{operation=\"llm.ack\",le=\"+Inf\"} 3");
    assert_line(self, "llmb_bus_request_seconds_sum{operation=\"llm.ack\"} 99.001001");
    assert_line(self, "llmb_bus_request_seconds_count{operation=\"llm.ack\"} 3");
    self->about.service = "convo-svc";
    svc_metrics_observe(self->metrics, SVC_F_COMMIT_CHANGES, 0, 7);
    assert_line(self, "llmb_commit_changes_bucket{le=\"5\"} 0");
    assert_line(self, "llmb_commit_changes_bucket{le=\"10\"} 1");
    assert_line(self, "llmb_commit_changes_sum 7.000000");
}

static void
labels_are_escaped_cut_and_made_utf8(void **state)
{
    world_t *self = *state;
    char wanted[256], longest[SVC_LABEL_MAX_BYTES + 20];
    static const char umlaut[] = "bad\xff"
                                 "byte";

    (void)svc_metrics_label(self->metrics, SVC_L_PROVIDER, "a\"b\\c\nd", NULL);
    (void)svc_metrics_label(self->metrics, SVC_L_CAUSE, "refused", NULL);
    assert_line(
        self,
        "llmb_upstream_errors_total{provider=\"a\\\"b\\\\c\\nd\",cause=\"refused\"} 0");
    (void)svc_metrics_label(self->metrics, SVC_L_PROVIDER, umlaut, NULL);
    assert_line(self, "llmb_upstream_errors_total{provider=\"bad\",cause=\"refused\"} 0");
    memset(longest, '"', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    (void)svc_metrics_label(self->metrics, SVC_L_PROVIDER, longest, NULL);
    snprintf(wanted, sizeof(wanted), "provider=\"");
    for (size_t i = 0; i < SVC_LABEL_MAX_BYTES; i++)
        strcat(wanted, "\\\"");
    strcat(wanted, "\",");
    assert_non_null(strstr(tell(self), wanted));
}

static void
needs_and_process_are_told(void **state)
{
    world_t *self = *state;
    svc_need_t need, same;

    assert_line(self, "llmb_ready 0");
    svc_health_set_started(self->health);
    svc_health_add_need(self->health, &need, "redis", true, 1);
    assert_line(self, "llmb_missing{need=\"redis\"} 1");
    assert_line(self, "llmb_ready 1");
    assert_line(self, "llmb_alive 1");
    svc_need_set(&need, true);
    assert_line(self, "llmb_missing{need=\"redis\"} 0");
    svc_health_add_need(self->health, &same, "redis", true, 1);
    assert_line(self, "llmb_missing{need=\"redis\"} 0");
    assert_no_line(self, "llmb_missing{need=\"redis\"} 1"); /* one name, one series */
    svc_health_remove_need(self->health, &same);
    svc_health_remove_need(self->health, &need);
    assert_line(self, "process_threads 1");
    assert_line(self, "llmb_metrics_left_out 0");
    assert_no_line(self, "process_start_time_seconds 0");
}

static void
what_does_not_fit_is_left_out_whole_and_told(void **state)
{
    world_t *self = *state;
    svc_buf_t small;
    char *all;
    unsigned left_out = 0;

    svc_buf_init(&small, 4096);
    svc_metrics_text(&self->about, &small);
    assert_true(small.n <= 4096 && small.n > 3000);
    all = svc_str_dup(svc_buf_str(&small));
    assert_non_null(strstr(all, "\nllmb_metrics_left_out "));
    assert_int_equal(sscanf(strstr(all, "\nllmb_metrics_left_out ") + 1,
                            "llmb_metrics_left_out %u", &left_out),
                     1);
    assert_true(left_out > 5);
    assert_int_equal(all[small.n - 1], '\n');
    free(all);
    svc_buf_fini(&small);
}

static void
with_every_row_of_every_label_taken_the_most_fits(void **state)
{
    world_t *self = *state;
    char name[32];

    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof(name), "provider-%d", i);
        for (svc_label label = SVC_L_OPERATION; label < SVC_L_COUNT; label++)
            (void)svc_metrics_label(self->metrics, label, name, name);
    }
    assert_int_equal(svc_metrics_label(self->metrics, SVC_L_MODEL, "one", "more"), 0);
    assert_line(self, "llmb_metrics_left_out 0");
}

static void
the_table_names_every_metric(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    svc_metrics_print_table(out);
    fclose(out);
    assert_non_null(
        strstr(text, "| `llmb_commits_total` | counter |  | auth-svc, convo-svc | "));
    assert_non_null(strstr(
        text,
        "| `llmb_generations_ended_total` | counter | provider, model, ending | llm-svc | "));
    assert_non_null(strstr(text, "| `process_open_fds` | gauge |  | all | "));
    assert_null(strstr(text, "llmb_http_requests_total_total"));
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            every_metric_has_help_and_a_type_and_each_stands_once, open_world,
            close_world),
        cmocka_unit_test_setup_teardown(a_service_tells_its_own_metrics_only, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(
            what_one_label_can_say_is_told_at_zero_and_other_only_when_needed, open_world,
            close_world),
        cmocka_unit_test_setup_teardown(of_two_labels_the_good_outcome_is_told_at_zero,
                                        open_world, close_world),
        cmocka_unit_test_setup_teardown(a_gauge_goes_up_and_down, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(a_histogram_counts_up_to_each_bound_in_base_units,
                                        open_world, close_world),
        cmocka_unit_test_setup_teardown(labels_are_escaped_cut_and_made_utf8, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(needs_and_process_are_told, open_world,
                                        close_world),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_left_out_whole_and_told,
                                        open_world, close_world),
        cmocka_unit_test_setup_teardown(with_every_row_of_every_label_taken_the_most_fits,
                                        open_world, close_world),
        cmocka_unit_test(the_table_names_every_metric),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
