/* live_metrics.c - the names of endings and causes, and the few adds behind them.
 *
 * A piece of text costs two relaxed adds, the first one of an answer a clock besides. Causes and endings are
 * written down in the order of their enums, so that their rows need no look-up. A provider's row is looked up when it
 * fails: rarely. */
#include "live_metrics.h"

#include "svc/svc_time.h"

static const char *const parting_names[PARTED_COUNT] = {
    [PARTED_COMPLETE] = "complete",       [PARTED_FAILED] = "failed",
    [PARTED_STOPPED] = "stopped",         [PARTED_CUT] = "cut",
    [PARTED_INTERRUPTED] = "interrupted", [PARTED_REPLACED] = "replaced"};

static const char *const cause_names[CAUSE_COUNT] = {
    [CAUSE_UNREACHABLE] = "unreachable",   [CAUSE_BROKEN] = "broken",
    [CAUSE_TIMEOUT] = "timeout",           [CAUSE_KEY] = "key",
    [CAUSE_RATE_LIMITED] = "rate_limited", [CAUSE_REFUSED] = "refused",
    [CAUSE_SERVER] = "server_error",       [CAUSE_MALFORMED] = "malformed",
};

void
live_metrics_name(svc_metrics_t *metrics)
{
    for (int i = 0; i < PARTED_COUNT; i++)
        (void)svc_metrics_label(metrics, SVC_L_ENDING, parting_names[i], NULL);
    for (int i = CAUSE_OTHER + 1; i < CAUSE_COUNT; i++)
        (void)svc_metrics_label(metrics, SVC_L_CAUSE, cause_names[i], NULL);
}

void
live_metrics_begin(live_metrics_t *self, svc_metrics_t *metrics, uint16_t row)
{
    live_metrics_part(self, PARTED_REPLACED);
    *self = (live_metrics_t){
        .metrics = metrics, .row = row, .is_running = true, .began_us = svc_mono_us()};
    svc_metrics_count(metrics, SVC_F_GENERATIONS_BEGUN, row, 0, 1);
    svc_metrics_count(metrics, SVC_F_GENERATIONS_RUNNING, row, 0, 1);
}

void
live_metrics_text(live_metrics_t *self, size_t n)
{
    svc_metrics_count(self->metrics, SVC_F_GENERATION_PIECES, self->row, 0, 1);
    svc_metrics_count(self->metrics, SVC_F_GENERATION_BYTES, self->row, 0, (int64_t)n);
    if (self->has_text)
        return;
    self->has_text = true;
    svc_metrics_observe(self->metrics, SVC_F_GENERATION_FIRST_TEXT_US, self->row,
                        svc_mono_us() - self->began_us);
}

void
live_metrics_part(live_metrics_t *self, live_parting how)
{
    if (!self->is_running)
        return;
    self->is_running = false;
    svc_metrics_count(self->metrics, SVC_F_GENERATIONS_RUNNING, self->row, 0, -1);
    svc_metrics_count(self->metrics, SVC_F_GENERATIONS_ENDED, self->row,
                      (uint16_t)(how + 1), 1);
    svc_metrics_observe(self->metrics, SVC_F_GENERATION_US, self->row,
                        svc_mono_us() - self->began_us);
}

void
live_metrics_end(live_metrics_t *self, const char *provider, const ending_t *ending)
{
    if (self->is_running && ending->error != RC_OK)
        svc_metrics_count(
            self->metrics, SVC_F_UPSTREAM_FAILURES,
            svc_metrics_label(self->metrics, SVC_L_PROVIDER, provider, NULL),
            (uint16_t)ending->cause, 1);
    if (ending->usage.prompt > 0)
        svc_metrics_count(self->metrics, SVC_F_PROMPT_TOKENS, self->row, 0,
                          (int64_t)ending->usage.prompt);
    if (ending->usage.completion > 0)
        svc_metrics_count(self->metrics, SVC_F_COMPLETION_TOKENS, self->row, 0,
                          (int64_t)ending->usage.completion);
    live_metrics_part(self, ending->error == RC_OK ? PARTED_COMPLETE : PARTED_FAILED);
}
