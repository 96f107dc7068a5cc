/* model_check.c - what must be true of every state and of every step, and how both look in a line.
 *
 * Each sentence that is given back is what a user, or the next reader of the journal, would have
 * seen go wrong. That an answer cannot hang is checked by explore.c: it needs all states at once. */
#include "model.h"

#include <stdio.h>
#include <string.h>

static bool
is_open(const state_t *s)
{
    return s->row.state == ROW_OPEN;
}

/* What this viewer was shown. */
static unsigned
shown(const viewer_t *v)
{
    return v->is == UNHEARD ? 0 : v->end;
}

const char *
model_wrong(const state_t *s)
{
    uint8_t text = 0;

    for (unsigned k = 0; k < s->row.length; k++)
        if (s->row.text[k] != s->row.fence)
            return "what is stored is not the text of its fence";
    for (unsigned k = 0; k < N_VIEWERS; k++) {
        const viewer_t *v = &s->viewer[k];

        for (unsigned at = 0; at < shown(v); at++) {
            if (text != 0 && v->text[at] != text)
                return "viewers were shown pieces of two texts";
            text = v->text[at];
            if (!is_open(s) && (at >= s->row.length || v->text[at] != s->row.text[at]))
                return "a viewer was shown what is not stored in the end";
        }
        if (v->is == FAILED)
            return "a viewer was refused, its text belongs to another fence";
        if (v->is == ENDED && is_open(s))
            return "a viewer was told an end that is not stored";
    }
    for (unsigned f = 1; f <= N_FENCES; f++)
        if (s->generation[f - 1].acked > s->row.length)
            return "text was acknowledged that is not stored";
    return NULL;
}

const char *
model_wrong_step(const state_t *from, const state_t *to)
{
    if (!is_open(from) && memcmp(&from->row, &to->row, sizeof(row_t)) != 0 &&
        (from->row.state != to->row.state || from->row.length != to->row.length ||
         from->row.fence != to->row.fence || from->row.term != to->row.term))
        return "an answer that had ended was changed";
    if (from->row.stop && !to->row.stop)
        return "a stop was forgotten";
    if (to->row.length < from->row.length)
        return "stored text was lost";
    return NULL;
}

bool
model_is_over(const state_t *s)
{
    for (unsigned k = 0; k < N_VIEWERS; k++)
        if (s->viewer[k].is == HEARD ||
            (s->viewer[k].is == ENDED && s->viewer[k].end < s->row.length))
            return false;
    return !is_open(s);
}

void
model_print(unsigned step, unsigned who, const state_t *s)
{
    static const char *const row[] = {"open", "complete", "stopped", "interrupted"};
    static const char *const phase[] = {"-",       "wait", "call", "away",
                                        "restart", "tail", "end"};
    static const char *const job[] = {"", " piece", " end", " restart"};
    static const char *const job_is[] = {" under way", " committed", " stale"};
    static const char *const is[] = {"-", "runs", "dead"};
    static const char *const heard[] = {"-", "heard", "ended", "failed"};

    char actor;
    const char *name = model_step(step, &actor);

    printf("  %s %c %-18s | row %s t%u f%u len %u%s owner %c",
           actor == 'c'   ? "convo-svc"
           : actor == 'g' ? "text     "
                          : "viewer   ",
           actor == 'c'   ? 'A' + who
           : actor == 'g' ? '0' + who
                          : ' ',
           name, row[s->row.state], s->row.term, s->row.fence, s->row.length,
           s->row.stop ? " stop" : "", s->row.owner == NOBODY ? '-' : 'A' + s->row.owner);
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        const replica_t *c = &s->replica[i];

        printf(" | %c %s", 'A' + i, phase[c->phase]);
        if (c->phase != GONE)
            printf(" t%u f%u len %u%s%s", c->term, c->fence, c->length, job[c->job],
                   c->job == JOB_NONE ? "" : job_is[c->job_is]);
    }
    for (unsigned f = 1; f <= N_FENCES; f++) {
        const generation_t *g = &s->generation[f - 1];

        if (g->is != UNBORN)
            printf(" | text %u %s %u acked %u out %u", f, is[g->is], g->total, g->acked,
                   g->released);
    }
    for (unsigned k = 0; k < N_VIEWERS; k++) {
        const viewer_t *v = &s->viewer[k];

        if (v->is == UNHEARD && v->end == 0)
            continue;
        printf(" | viewer %s%s \"", heard[v->is],
               v->lost == ROW_ONLY ? " of the row"
               : v->lost           ? " lost"
                                   : "");
        for (unsigned at = 0; at < v->end; at++)
            printf("%u", v->text[at]);
        printf("\"");
    }
    printf("\n");
}
