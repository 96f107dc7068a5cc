/* model.c - the steps of the stream protocol, each beside the functions of the code that it stands for.
 *
 * The table `steps` below is the list of all that happens; its functions follow it in its order.
 * Each looks at the state as it is, and emits one successor for each way in which it can happen.
 * A step without `is_fair` is a fault (a crash, a freeze that outlasts a patience, a lease that
 * runs out) or somebody's free will (a stop, the length of a text): it may happen at any moment,
 * and nothing may depend on it. */
#include "model.h"

#include <string.h>

typedef struct {
    const char *name;
    char actor; /* 'c': replica of convo-svc, 'g': generation, 'v': viewer */
    void (*next)(visit_t *visit);
    const char *code; /* folder: functions; the lint looks for them there */
} step_t;

static void take_over(visit_t *), adopt(visit_t *), look(visit_t *), crash(visit_t *);
static void start(visit_t *), call_breaks(visit_t *), attach(visit_t *), lose(visit_t *),
    piece(visit_t *);
static void final(visit_t *), commit(visit_t *), committed(visit_t *), ack(visit_t *);
static void stop_llm(visit_t *), end_tail(visit_t *);
static void provider_end(visit_t *), release(visit_t *), die(visit_t *), stop(visit_t *);
static void hear_owner(visit_t *), hear_row(visit_t *), frame(visit_t *),
    read_row(visit_t *);
static void hand_in(visit_t *);

// clang-format off
static const step_t steps[] = {
    /* convo-svc: who owns the answer */
    {"takes over",        'c', take_over,    "convo-svc: take_over store_answer_take_over pg_answer_take_over"},
    {"hears that it owns", 'c', adopt,       "convo-svc: take_up compare answers_add answer_begin"},
    {"looks at the row",  'c', look,         "convo-svc: answers_see answers_doubt_unseen answer_on_row answer_give_up answer_stop"},
    {"dies",              'c', crash,        ""},
    /* convo-svc: the generation */
    {"generates",         'c', start,        "convo-svc: answer_try_start answer_on_generate; llm-svc: live_generate fill_entry generation_new"},
    {"loses the call",    'c', call_breaks,  "convo-svc: answer_on_llm_down on_call_failed; llm-svc: generation_call_gone"},
    {"attaches",          'c', attach,       "convo-svc: answer_attach answer_find; llm-svc: live_attach generation_attach"},
    {"judges",            'c', lose,         "convo-svc: answer_on_llm_lost answer_judge answer_try_restart"},
    {"gets a piece",      'c', piece,        "convo-svc: on_piece submit; llm-svc: step_journal send_piece"},
    {"gets FINAL",        'c', final,        "convo-svc: on_final answer_try_end; llm-svc: send_piece"},
    {"has it committed",  'c', commit,       "convo-svc: look_as_it_was store_answer_step store_answer_restart pg_answer_step"},
    {"hears of its step", 'c', committed,    "convo-svc: answer_on_step answer_on_restart finish"},
    {"acknowledges",      'c', ack,          "convo-svc: answer_acknowledge; llm-svc: generation_ack check_term"},
    {"sends llm.stop",    'c', stop_llm,     "convo-svc: on_due; llm-svc: live_stop generation_stop"},
    {"ends the tails",    'c', end_tail,     "convo-svc: answer_end_tail"},
    /* llm-svc */
    {"provider ends",     'g', provider_end, "llm-svc: generation_append generation_end"},
    {"releases",          'g', release,      "llm-svc: step_gate publish"},
    {"dies",              'g', die,          ""},
    /* gateway */
    {"stop is committed", 'v', stop,         "convo-svc: store_answer_stop on_stopped"},
    {"hears the owner",   'v', hear_owner,   "gateway: feed_take_status settle_fence; convo-svc: status_of answer_watch convo_holds_answers"},
    {"hears of the row",  'v', hear_row,     "gateway: take_status doubt_status; convo-svc: show"},
    {"gets a frame",      'v', frame,        "gateway: feed_take_token feed_take_page accepts_fence; llm-svc: generation_replay"},
    {"reads",             'v', read_row,     "gateway: feed_take_page; convo-svc: store_answer_text"},
    {"hands in a tail",   'v', hand_in,      "gateway: hand_in_tail; convo-svc: answer_tail"},
};
// clang-format on

enum { N_STEPS = sizeof(steps) / sizeof(steps[0]) };

/* --- help ------------------------------------------------------------------------------------- */

static bool
is_open(const state_t *s)
{
    return s->row.state == ROW_OPEN;
}

/* The answer that stands at a replica is the one that the row says it owns. */
static bool
is_owner(const state_t *s, unsigned i)
{
    return s->row.owner == i && s->row.term == s->replica[i].term &&
           s->replica[i].phase != GONE;
}

static generation_t *
generation(state_t *s, unsigned fence)
{
    return &s->generation[fence - 1];
}

/* The term check of llm-svc: the highest one that it has seen counts. */
static bool
term_is_good(const rules_t *rules, const generation_t *g, uint8_t term)
{
    return rules->no_term || term >= g->term;
}

/* True when the row is as this replica believes. */
static bool
is_as_it_was(const rules_t *rules, const row_t *row, const replica_t *c)
{
    return row->state == ROW_OPEN && row->length == c->length &&
           (rules->no_term || row->term == c->term) &&
           (rules->no_fence || row->fence == c->fence);
}

static void
forget(replica_t *c)
{
    *c = (replica_t){.phase = GONE};
}

/* What can have no effect any more is made alike, so that fewer states are to be seen. What the row has moved away from
 * never comes back: its term, fence and length only grow. */
static void
simplify(const rules_t *rules, state_t *s)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        replica_t *c = &s->replica[i];
        bool has_step = c->job != JOB_NONE && c->job_is != COMMITTED;

        if ((has_step || c->phase == TAIL) && !rules->stale_tells &&
            !is_as_it_was(rules, &s->row, c))
            forget(c);
    }
    for (unsigned f = 1; f <= N_FENCES && !rules->no_fence && !rules->no_gate; f++) {
        generation_t *g = &s->generation[f - 1];
        bool is_known = s->row.fence == f;

        for (unsigned i = 0; i < N_REPLICAS; i++) {
            const replica_t *c = &s->replica[i];

            is_known = is_known || (c->phase != GONE && c->fence == f);
            if (g->call == i && (c->phase != CALL || c->fence != f))
                g->call = NOBODY;
        }
        if (!is_known && g->is == RUNS) /* nobody will speak to it again */
            *g = (generation_t){.is = DEAD, .released = g->released};
    }
}

static void
emit(visit_t *visit, const state_t *to, unsigned who, bool is_fair)
{
    state_t tidy = *to;
    state_t *next = &tidy;
    viewer_t *v = next->viewer;

    simplify(visit->rules, next);
    if (visit->rules->viewers > 1 && memcmp(&v[0], &v[1], sizeof(v[0])) < 0) {
        viewer_t other = v[0]; /* they are alike: one order of the two is enough */

        v[0] = v[1];
        v[1] = other;
    }
    visit->fn(visit, next, visit->step, who, is_fair);
}

/* --- convo-svc: who owns the answer ----------------------------------------------------------- */

/* The lease of the owner is over: dead, frozen, cut off or merely slow. */
static void
take_over(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;

        if (!is_open(&n) || n.row.owner == i || n.row.term == visit->rules->terms)
            continue;
        bool was_dead = n.row.owner == NOBODY;
        n.row.owner = (uint8_t)i;
        n.row.term++;
        emit(visit, &n, i, was_dead);
    }
}

/* The replica hears that it owns the answer; what it thought of it before does not count. It may
 * hear late, since the reply to the take-over may be lost: its next look at its rows tells. */
static void
adopt(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];

        if (!is_open(&n) || n.row.owner != i || is_owner(&n, i))
            continue;
        forget(c);
        c->phase = AWAY;
        c->term = n.row.term;
        c->fence = n.row.fence;
        c->length = n.row.length;
        c->stop = n.row.stop;
        emit(visit, &n, i, !visit->rules->no_adopt);
    }
}

static void
begin_end(replica_t *c, uint8_t state, uint8_t to, uint8_t of)
{
    c->phase = END;
    c->end = state;
    c->end_to = to;
    c->end_of = of;
    if (c->job == JOB_NONE) {
        c->job = JOB_END;
        c->job_is = SUBMITTED;
    }
}

/* Each second: is it still ours, and is a stop wanted? */
static void
look(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];

        if (c->phase == GONE)
            continue;
        if (!is_owner(&n, i) || !is_open(&n)) {
            forget(c);
        } else if (n.row.stop && !c->stop) {
            c->stop = true;
            if (c->phase == WAIT)
                begin_end(c, ROW_STOPPED, c->length, c->fence);
        } else {
            continue;
        }
        emit(visit, &n, i, true);
    }
}

/* Dies with all it knows, and starts again as another instance. */
static void
crash(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;

        if (n.row.owner == i) {
            if (is_open(&n) && n.row.term == visit->rules->terms)
                continue; /* the bound of the exploration, not of the code */
            n.row.owner = NOBODY;
        } else if (n.replica[i].phase == GONE) {
            continue;
        }
        forget(&n.replica[i]);
        for (unsigned f = 1; f <= N_FENCES; f++)
            if (generation(&n, f)->call == i)
                generation(&n, f)->call = NOBODY;
        emit(visit, &n, i, false);
    }
}

/* --- convo-svc: the generation ---------------------------------------------------------------- */

static void
start(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];

        if (c->phase != WAIT || c->job != JOB_NONE)
            continue;
        generation_t *g = generation(&n, c->fence);
        if (g->is != UNBORN)
            visit->broken = "two generations of one fence";
        *g = (generation_t){
            .is = RUNS, .term = c->term, .call = (uint8_t)i, .total = TEXT};
        c->phase = CALL;
        emit(visit, &n, i, true);

        n = *visit->from; /* nobody was there for two minutes */
        begin_end(&n.replica[i], ROW_INTERRUPTED, c->length, c->fence);
        emit(visit, &n, i, false);
    }
}

/* Nothing is judged. llm-svc may notice or not: it writes to a call that nobody hears. */
static void
call_breaks(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;

        if (n.replica[i].phase != CALL)
            continue;
        n.replica[i].phase = AWAY;
        emit(visit, &n, i, false);
    }
}

static void
attach(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];
        generation_t *g = c->phase == AWAY ? generation(&n, c->fence) : NULL;

        if (g == NULL || g->is != RUNS)
            continue;
        if (term_is_good(visit->rules, g, c->term)) {
            c->phase = CALL;
            g->term = c->term;
            g->call = (uint8_t)i;
            g->acked = c->length;
        } else {
            forget(c); /* stale */
        }
        emit(visit, &n, i, true);
    }
}

/* Its llm-svc is lost: it is gone, or does not know the text, or was silent for 12 s. */
static void
lose(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];

        if ((c->phase != CALL && c->phase != AWAY) || c->job != JOB_NONE)
            continue;
        if (c->length > 0) {
            c->phase = TAIL;
            c->given_up = true;
            c->end_to = c->length;
        } else if (c->stop) {
            begin_end(c, ROW_STOPPED, 0, c->fence);
        } else if (c->fence < N_FENCES) {
            c->phase = RESTART;
            c->job = JOB_RESTART;
            c->job_is = SUBMITTED;
        } else {
            begin_end(c, ROW_INTERRUPTED, 0, c->fence);
        }
        uint8_t g = visit->from->generation[visit->from->replica[i].fence - 1].is;
        emit(visit, &n, i, g == DEAD || g == UNBORN);
    }
}

/* True when a reply on generation g's call is taken by its owner: a call that was forgotten is not.
 * That is what tells two texts apart there. */
static bool
is_heard(const rules_t *rules, const state_t *s, unsigned f, unsigned *owner)
{
    const generation_t *g = &s->generation[f - 1];

    if (g->is != RUNS || g->call == NOBODY)
        return false;
    *owner = g->call;
    return s->replica[g->call].phase == CALL &&
           (s->replica[g->call].fence == f || rules->no_fence);
}

static void
piece(visit_t *visit)
{
    unsigned i;

    for (unsigned f = 1; f <= N_FENCES; f++) {
        state_t n = *visit->from;
        generation_t *g = generation(&n, f);

        if (!is_heard(visit->rules, &n, f, &i) || n.replica[i].job != JOB_NONE)
            continue;
        replica_t *c = &n.replica[i];
        if (g->acked > c->length) {
            c->phase = AWAY; /* a gap: attach again */
            emit(visit, &n, i, true);
            continue;
        }
        for (unsigned to = c->length + 1u; to <= g->total; to++) {
            c->job = JOB_PIECE;
            c->job_is = SUBMITTED;
            c->piece_to = (uint8_t)to;
            c->piece_of = (uint8_t)f;
            emit(visit, &n, i, true);
        }
    }
}

static void
final(visit_t *visit)
{
    unsigned i;

    for (unsigned f = 1; f <= N_FENCES; f++) {
        state_t n = *visit->from;
        generation_t *g = generation(&n, f);

        if (!is_heard(visit->rules, &n, f, &i) || g->ended == ROW_OPEN ||
            g->acked > n.replica[i].length)
            continue;
        begin_end(&n.replica[i], g->ended, g->total, (uint8_t)f);
        g->call = NOBODY;
        emit(visit, &n, i, true);
    }
}

static void
grow(row_t *row, uint8_t to, uint8_t of)
{
    while (row->length < to)
        row->text[row->length++] = of;
}

/* The database does what the writer has sent, even for one that is frozen meanwhile. */
static void
commit(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];

        if (c->job == JOB_NONE || c->job_is != SUBMITTED)
            continue;
        c->job_is = STALE;
        if (is_as_it_was(visit->rules, &n.row, c)) {
            c->job_is = COMMITTED;
            if (c->job == JOB_PIECE)
                grow(&n.row, c->piece_to, c->piece_of);
            else if (c->job == JOB_RESTART)
                n.row.fence++;
            else
                grow(&n.row, c->end_to, c->end_of);
            if (c->job == JOB_END)
                n.row.state = c->end;
        }
        emit(visit, &n, i, true);
    }
}

/* The end is stored: llm-svc may forget the text, if it hears so. */
static void
finish(visit_t *visit, state_t *n, unsigned i)
{
    generation_t *g = generation(n, n->replica[i].fence);
    bool tell = !n->replica[i].given_up && g->is == RUNS &&
                term_is_good(visit->rules, g, n->replica[i].term);

    forget(&n->replica[i]);
    emit(visit, n, i, true);
    if (tell) {
        *g = (generation_t){.is = DEAD, .released = g->released};
        emit(visit, n, i, true);
    }
}

/* The replica hears what has become of its step. */
static void
committed(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];
        uint8_t job = c->job;

        if (job == JOB_NONE || c->job_is == SUBMITTED)
            continue;
        c->job = JOB_NONE;
        if (c->job_is == STALE) {
            forget(c);
        } else if (job == JOB_END) {
            finish(visit, &n, i);
            continue;
        } else if (job == JOB_PIECE) {
            c->job_is = 0;
            c->length = c->piece_to;
            c->piece_to = c->piece_of = 0;
            if (c->phase == END)
                begin_end(c, c->end, c->end_to, c->end_of);
        } else {
            c->job_is = 0;
            c->fence++;
            c->phase = WAIT;
            if (c->stop)
                begin_end(c, ROW_STOPPED, 0, c->fence);
        }
        emit(visit, &n, i, true);
    }
}

/* Posted after a commit and for each repeated piece, and maybe lost. */
static void
ack(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];

        if (c->phase != CALL && (c->phase != END || c->given_up))
            continue;
        generation_t *g = generation(&n, c->fence);
        if (g->is != RUNS || !term_is_good(visit->rules, g, c->term) ||
            c->length <= g->acked || c->length > g->total)
            continue;
        g->acked = c->length;
        g->term = c->term;
        emit(visit, &n, i, true);
    }
}

/* How much of a text is anywhere: so much it must have. */
static uint8_t
known_text(const state_t *s, unsigned f)
{
    const generation_t *g = &s->generation[f - 1];
    uint8_t most = g->acked > g->released ? g->acked : g->released;

    for (unsigned i = 0; i < N_REPLICAS; i++) {
        const replica_t *c = &s->replica[i];

        if (c->job == JOB_PIECE && c->piece_of == f && c->piece_to > most)
            most = c->piece_to;
    }
    if (s->row.fence == f && s->row.length > most)
        most = s->row.length;
    return most;
}

static void
stop_llm(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];

        if (!c->stop || c->phase != CALL)
            continue;
        generation_t *g = generation(&n, c->fence);
        if (g->is != RUNS || g->ended != ROW_OPEN ||
            !term_is_good(visit->rules, g, c->term))
            continue;
        g->ended = ROW_STOPPED;
        g->term = c->term;
        g->total = known_text(&n, c->fence);
        emit(visit, &n, i, true);
    }
}

/* A gateway that watches the owner is told `lost`, and hands in what it holds, before the owner goes on. */
static bool
has_all_tails(const state_t *s, const replica_t *c)
{
    for (unsigned k = 0; k < N_VIEWERS; k++) {
        const viewer_t *v = &s->viewer[k];

        if (v->is == HEARD && v->lost != ROW_ONLY &&
            (v->lost != c->term || v->end > c->end_to))
            return false;
    }
    return true;
}

static void
end_tail(visit_t *visit)
{
    for (unsigned i = 0; i < N_REPLICAS; i++) {
        state_t n = *visit->from;
        replica_t *c = &n.replica[i];

        if (c->phase != TAIL || (is_owner(&n, i) && !has_all_tails(&n, c)))
            continue;
        begin_end(c, c->stop ? ROW_STOPPED : ROW_INTERRUPTED, c->end_to, c->fence);
        emit(visit, &n, i, true);
    }
}

/* --- llm-svc ---------------------------------------------------------------------------------- */

/* A provider that never ends must not matter to an answer that is to be stopped. */
static void
provider_end(visit_t *visit)
{
    for (unsigned f = 1; f <= N_FENCES; f++) {
        state_t n = *visit->from;
        generation_t *g = generation(&n, f);

        if (g->is != RUNS || g->ended != ROW_OPEN)
            continue;
        g->ended = ROW_COMPLETE;
        emit(visit, &n, f, !n.row.stop);
    }
}

static void
release(visit_t *visit)
{
    for (unsigned f = 1; f <= N_FENCES; f++) {
        state_t n = *visit->from;
        generation_t *g = generation(&n, f);

        if (g->is != RUNS || g->released == g->total || g->released >= g->acked + AHEAD ||
            (g->acked == 0 && !visit->rules->no_gate))
            continue;
        g->released++;
        emit(visit, &n, f, true);
    }
}

/* What it has published may still be on its way. */
static void
die(visit_t *visit)
{
    for (unsigned f = 1; f <= N_FENCES; f++) {
        state_t n = *visit->from;
        generation_t *g = generation(&n, f);

        if (g->is != RUNS)
            continue;
        *g = (generation_t){.is = DEAD, .released = g->released};
        emit(visit, &n, f, false);
    }
}

/* --- gateway ---------------------------------------------------------------------------------- */

static void
stop(visit_t *visit)
{
    state_t n = *visit->from;

    if (!is_open(&n) || n.row.stop)
        return;
    n.row.stop = true;
    emit(visit, &n, 0, false);
}

/* What a status says: of the owner's memory, or of the row. */
typedef struct {
    bool has_begun, has_ended;
    uint8_t fence, length, lost;
} status_t;

static bool
takes_status(const viewer_t *v)
{
    return v->is == UNHEARD || v->is == HEARD;
}

static void
take_status(const rules_t *rules, viewer_t *v, const status_t *status)
{
    bool was_heard = v->is == HEARD;

    if (status->has_begun && v->fence != status->fence) {
        if (v->fence != 0 && v->end > 0) {
            v->is = FAILED;
            return;
        }
        v->fence = status->fence;
    }
    v->is = status->has_ended ? ENDED : HEARD;
    v->lost = status->lost;
    v->length = status->has_ended || status->lost ? status->length : 0;
    bool drops = status->has_ended || (status->lost && !was_heard && !rules->lost_shows);
    while (drops && v->end > status->length)
        v->text[--v->end] = 0; /* feed_limit: held, and never to be shown */
}

static void
hear_owner(visit_t *visit)
{
    for (unsigned k = 0; k < visit->rules->viewers; k++)
        for (unsigned i = 0; i < N_REPLICAS; i++) {
            state_t n = *visit->from;
            const replica_t *c = &n.replica[i];

            if (!takes_status(&n.viewer[k]) || c->phase == GONE)
                continue;
            if (!is_owner(&n, i) && !visit->rules->stale_tells)
                continue;
            bool is_lost = c->phase == TAIL ||
                           (c->phase == END && c->given_up && !visit->rules->end_unloses);
            take_status(visit->rules, &n.viewer[k],
                        &(status_t){c->length > 0, false, c->fence, c->length,
                                    is_lost ? c->term : 0});
            emit(visit, &n, i, true);
        }
}

static void
hear_row(visit_t *visit)
{
    for (unsigned k = 0; k < visit->rules->viewers; k++) {
        state_t n = *visit->from;
        viewer_t *v = &n.viewer[k];
        status_t status = {n.row.length > 0 || !is_open(&n), !is_open(&n), n.row.fence,
                           n.row.length, 0};

        if (!takes_status(v))
            continue;
        if (!status.has_ended && !visit->rules->row_counts) {
            if (v->is == HEARD && v->lost != ROW_ONLY)
                continue; /* only tells where the owner is */
            status.lost = ROW_ONLY;
        }
        take_status(visit->rules, v, &status);
        emit(visit, &n, k, true);
    }
}

static bool
accepts_fence(const rules_t *rules, viewer_t *v, uint8_t fence)
{
    if (v->fence == 0)
        v->fence = fence;
    return v->fence == fence || rules->no_fence;
}

/* How far the feed takes text: what is lost or has ended grows to what was told only. */
static bool
has_room(const viewer_t *v)
{
    return v->is != FAILED &&
           (v->is == ENDED || v->lost != 0 ? v->end < v->length : v->end < TEXT);
}

/* A frame that was published comes late, or again, or never. A page of llm.replay brings the same. */
static void
frame(visit_t *visit)
{
    for (unsigned k = 0; k < visit->rules->viewers; k++)
        for (unsigned f = 1; f <= N_FENCES; f++) {
            state_t n = *visit->from;
            viewer_t *v = &n.viewer[k];

            if (v->end >= generation(&n, f)->released || !has_room(v) ||
                !accepts_fence(visit->rules, v, (uint8_t)f))
                continue;
            v->text[v->end++] = (uint8_t)f;
            emit(visit, &n, f, false);
        }
}

static void
read_row(visit_t *visit)
{
    for (unsigned k = 0; k < visit->rules->viewers; k++) {
        state_t n = *visit->from;
        viewer_t *v = &n.viewer[k];

        if (v->fence == 0 || v->end >= n.row.length || !has_room(v))
            continue;
        v->text[v->end] = n.row.text[v->end];
        v->end++;
        emit(visit, &n, k, true);
    }
}

static void
hand_in(visit_t *visit)
{
    for (unsigned k = 0; k < visit->rules->viewers; k++)
        for (unsigned i = 0; i < N_REPLICAS; i++) {
            state_t n = *visit->from;
            const viewer_t *v = &n.viewer[k];
            replica_t *c = &n.replica[i];

            if (v->is != HEARD || c->phase != TAIL || v->lost != c->term ||
                v->end <= c->end_to || (v->fence != c->fence && !visit->rules->no_fence))
                continue;
            c->end_to = v->end;
            emit(visit, &n, i, true);
        }
}

/* --- all of it -------------------------------------------------------------------------------- */

state_t
model_begin(void)
{
    state_t s = {.row = {.term = 1, .fence = 1, .owner = 0}};

    s.replica[0] = (replica_t){.phase = WAIT, .term = 1, .fence = 1};
    return s;
}

void
model_next(visit_t *visit)
{
    for (visit->step = 0; visit->step < N_STEPS; visit->step++)
        steps[visit->step].next(visit);
}

const char *
model_step(unsigned step, char *actor)
{
    *actor = steps[step].actor;
    return steps[step].name;
}
