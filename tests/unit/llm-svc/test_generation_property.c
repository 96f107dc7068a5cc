/* test_generation_property.c - random interleavings of everything that can happen to a generation.
 *
 * The world: a provider that appends random text, an owner with a durable journal whose
 * acks get lost or come late, calls that break, attaches (with new terms, too), viewers
 * that replay, stops, and a clock that jumps. After every step: the journal and what was
 * shown are prefixes of the truth, every piece and frame is whole UTF-8, and the gate's
 * three rules hold. In the end an owner that behaves gets all of it. A failure names the
 * seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "llm-svc/generation.h"
#include "proto/utf8.h"

#define RUNS         200
#define STEPS        400
#define ARRIVALS_MAX (STEPS + 1)
#define ACKS_MAX     8
#define FENCE        99u

typedef struct {
    uint64_t seed, dice;      /* of this run; state of the random numbers */
    generation_t *generation; /* under test */
    uint64_t now;             /* the clock */
    svc_buf_t truth;          /* all text that was appended and taken */
    uint64_t came[ARRIVALS_MAX], came_end[ARRIVALS_MAX]; /* when text came, and its end */
    size_t n_came;                                       /* rows in use */
    svc_buf_t journal;       /* what the owner has committed */
    uint64_t term, call;     /* of the owner; its latest call */
    bool call_works;         /* pieces reach the owner */
    uint64_t acks[ACKS_MAX]; /* on their way, in order */
    size_t n_acks;           /* rows in use */
    uint64_t acked;          /* what the generation must know to be committed */
    bool opened;             /* it has heard of journaled > 0 */
    svc_buf_t shown;         /* text of all frames */
    bool has_final;          /* the owner has had FINAL */
    bool wants_attach;       /* the owner saw a gap */
} world_t;

#define check(w, cond) check_that((w), (cond), #cond, __LINE__)

static void
check_that(const world_t *w, bool is_so, const char *what, int line)
{
    if (!is_so)
        fail_msg("seed %llu, line %d: %s", (unsigned long long)w->seed, line, what);
}

static uint64_t
roll(world_t *w, uint64_t sides)
{
    w->dice ^= w->dice << 13;
    w->dice ^= w->dice >> 7;
    w->dice ^= w->dice << 17;
    return w->dice % sides;
}

static bool
is_prefix(svc_str part, const svc_buf_t *of, uint64_t from)
{
    return from + part.n <= of->n &&
           (part.n == 0 || memcmp(of->p + from, part.p, part.n) == 0);
}

/* --- what the generation sends ----------------------------------------------------- */

static svc_rc
on_piece(void *arg, uint64_t call, const journal_rep_t *piece, bool final)
{
    world_t *w = arg;

    check(w, call == w->call);
    check(w, piece->from == w->acked);
    check(w, piece->bytes.n <= PROTO_PIECE_MAX_BYTES);
    check(w, svc_utf8_valid(piece->bytes.p, piece->bytes.n) == piece->bytes.n);
    check(w, is_prefix(piece->bytes, &w->truth, piece->from));
    if (!w->call_works) {
        if (roll(w, 3) == 0) {
            w->call = 0;
            return RC_UNAVAILABLE;
        }
        return roll(w, 2) == 0 ? RC_BUSY : RC_OK; /* dropped, or lost on the way */
    }
    if (piece->from > w->journal.n) {
        w->wants_attach = true;
        return RC_OK;
    }
    uint64_t known = w->journal.n - piece->from;
    if (piece->bytes.n > known)
        check(w, svc_buf_add(&w->journal, piece->bytes.p + known,
                             piece->bytes.n - (size_t)known) == RC_OK);
    if (final) {
        w->has_final = true;
        check(w, w->journal.n == w->truth.n);
    }
    if (w->n_acks < ACKS_MAX && roll(w, 8) != 0)
        w->acks[w->n_acks++] = w->journal.n;
    return RC_OK;
}

static uint64_t
oldest_unacked(const world_t *w)
{
    for (size_t i = 0; i < w->n_came; i++)
        if (w->came_end[i] > w->acked)
            return w->came[i];
    return w->now;
}

static void
on_frame(void *arg, const proto_token_t *token)
{
    world_t *w = arg;

    check(w, token->fence == FENCE);
    if (token->kind != PROTO_TOKEN_TEXT) {
        check(w, token->offset == w->shown.n);
        return;
    }
    check(w, token->offset == w->shown.n);
    check(w, token->bytes.n > 0 && token->bytes.n <= GENERATION_FRAME_MAX_BYTES);
    check(w, svc_utf8_valid(token->bytes.p, token->bytes.n) == token->bytes.n);
    check(w, is_prefix(token->bytes, &w->truth, token->offset));
    check(w, w->opened);
    check(w, token->offset + token->bytes.n <= w->acked + GENERATION_AHEAD_BYTES);
    check(w, w->now - oldest_unacked(w) <= GENERATION_HOLD_MS);
    check(w, svc_buf_add_str(&w->shown, token->bytes) == RC_OK);
}

static void
on_give_up(void *arg, uint64_t call)
{
    world_t *w = arg;

    check(w, call == w->call);
    w->call = 0;
}

static const generation_out_t out = {
    .journal = on_piece, .give_up = on_give_up, .publish = on_frame};

/* --- what happens to it ------------------------------------------------------------ */

static void
do_append(world_t *w)
{
    static const char *const characters[] = {
        "a", " ", "\n", "\xC3\xA9", "\xE4\xBD\xA0", "\xF0\x9F\x98\x80"};
    char text[40000];
    size_t n = 0, want = roll(w, 10) == 0 ? roll(w, sizeof(text) - 4) : roll(w, 40);

    while (n < want) {
        const char *c = characters[roll(w, SVC_COUNT(characters))];
        memcpy(text + n, c, strlen(c));
        n += strlen(c);
    }
    uint64_t before = generation_length(w->generation);
    generation_append(w->generation, (svc_str){text, n}, w->now);
    uint64_t taken = generation_length(w->generation) - before;
    check(w, taken <= n);
    if (taken == 0)
        return;
    check(w, svc_buf_add(&w->truth, text, (size_t)taken) == RC_OK);
    w->came[w->n_came] = w->now;
    w->came_end[w->n_came++] = w->truth.n;
}

static void
know_committed(world_t *w, uint64_t journaled)
{
    if (journaled > w->acked)
        w->acked = journaled;
    if (journaled > 0)
        w->opened = true;
}

static void
do_ack(world_t *w)
{
    if (w->n_acks == 0)
        return;
    uint64_t journaled = w->acks[0];
    memmove(w->acks, w->acks + 1, --w->n_acks * sizeof(w->acks[0]));
    if (roll(w, 5) == 0)
        return; /* lost */
    ack_req_t ack = {.fence = FENCE, .term = w->term, .journaled = journaled};
    know_committed(w, journaled);
    check(w, generation_ack(w->generation, &ack, w->now) == RC_OK);
}

static void
do_attach(world_t *w)
{
    uint64_t from = w->journal.n, call = 1 + roll(w, 1000000);

    if (roll(w, 4) == 0)
        w->term++;
    if (roll(w, 10) == 0) { /* an owner that lost something it had */
        replay_rep_t rep;
        uint64_t back = from > 100 ? from - roll(w, 100) : 0;
        if (generation_replay(w->generation, back, &rep) == RC_OK && back <= from &&
            (back == from || ((uint8_t)w->truth.p[back] & 0xC0) != 0x80))
            from = back;
    }
    svc_rc rc = generation_attach(w->generation, w->term, from, call, w->now);
    check(w, rc == RC_OK || (rc == RC_TOO_OLD && from < w->journal.n));
    if (rc != RC_OK)
        return;
    w->call = call;
    w->call_works = roll(w, 6) != 0;
    w->wants_attach = false;
    w->acked = from;
    if (from > 0)
        w->opened = true;
}

static void
do_replay(world_t *w)
{
    replay_rep_t rep;
    uint64_t from = roll(w, w->truth.n + 10);
    svc_rc rc = generation_replay(w->generation, from, &rep);

    if (rc != RC_OK)
        return;
    check(w, rep.released == w->shown.n);
    check(w, from + rep.bytes.n <= rep.released || rep.bytes.n == 0);
    check(w, rep.bytes.n <= PROTO_PAGE_MAX_BYTES);
    if (rep.bytes.n > 0)
        check(w, is_prefix(rep.bytes, &w->truth, from));
}

static void
do_stale_owner(world_t *w)
{
    ack_req_t ack = {.fence = FENCE, .term = w->term - 1, .journaled = w->truth.n};

    check(w, generation_ack(w->generation, &ack, w->now) == RC_STALE);
    check(w, generation_attach(w->generation, w->term - 1, 0, 5, w->now) == RC_STALE);
    check(w, generation_stop(w->generation, w->term - 1, w->now) == RC_STALE);
}

static void
do_something(world_t *w)
{
    static const ending_t ending = {.finish = {"stop", 4}};

    switch (roll(w, 20)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: do_append(w); break;
    case 5:
    case 6:
    case 7:
    case 8:
    case 9: do_ack(w); break;
    case 10: w->now += roll(w, 3000); break;
    case 11:
    case 12:
    case 13:
    case 14: w->now += roll(w, 300); break;
    case 15: do_replay(w); break;
    case 16: do_attach(w); break;
    case 17: do_stale_owner(w); break;
    case 18: w->call_works = roll(w, 3) != 0; break;
    default:
        if (roll(w, 40) == 0)
            check(w, generation_stop(w->generation, w->term, w->now) == RC_OK);
        if (roll(w, 40) == 0)
            generation_end(w->generation, &ending);
    }
    if (w->wants_attach)
        do_attach(w);
}

static void
check_world(world_t *w)
{
    replay_rep_t rep;

    check(w, generation_length(w->generation) == w->truth.n);
    check(w, generation_replay(w->generation, w->truth.n, &rep) == RC_OK);
    check(w, rep.released == w->shown.n);
    check(w, is_prefix(svc_buf_str(&w->journal), &w->truth, 0));
    check(w, w->shown.n == 0 || w->opened);
}

/* From here on everybody behaves: the owner must get everything, and the viewers, too. */
static void
finish_well(world_t *w)
{
    static const ending_t ending = {.finish = {"stop", 4}};
    bool over = false;

    generation_end(w->generation, &ending);
    w->n_acks = 0;
    w->has_final = false;
    for (int i = 0; i < 100 && !over; i++) {
        if (generation_call(w->generation) == 0 || !w->call_works || w->wants_attach)
            do_attach(w);
        w->call_works = true;
        w->n_acks = 0;
        w->now += 50;
        generation_step(w->generation, w->now);
        ack_req_t ack = {.fence = FENCE,
                         .term = w->term,
                         .journaled = w->journal.n,
                         .stored = w->has_final};
        know_committed(w, w->journal.n);
        check(w, generation_ack(w->generation, &ack, w->now) == RC_OK);
        generation_step(w->generation, w->now);
        over = generation_is_over(w->generation, w->now);
    }
    check(w, over);
    check_world(w);
    check(w, w->journal.n == w->truth.n);
    check(w, w->shown.n == w->truth.n);
}

static void
run_world(uint64_t seed)
{
    world_t *w = calloc(1, sizeof(*w));
    static const size_t maxima[] = {50, 100000, PROTO_ANSWER_MAX_BYTES};
    generate_req_t req = {
        .stream = {"0123456789abcdef", PROTO_STREAM_BYTES}, .fence = FENCE, .term = 2};

    w->seed = seed;
    w->dice = seed * 0x9E3779B97F4A7C15u + 1;
    w->now = 5000000;
    w->term = 2;
    w->call = 1;
    w->call_works = true;
    svc_buf_init(&w->truth, PROTO_ANSWER_MAX_BYTES);
    svc_buf_init(&w->journal, PROTO_ANSWER_MAX_BYTES);
    svc_buf_init(&w->shown, PROTO_ANSWER_MAX_BYTES);
    w->generation = generation_new(&req, w->call, maxima[roll(w, SVC_COUNT(maxima))],
                                   &out, w, w->now);
    for (int i = 0; i < STEPS; i++) {
        do_something(w);
        if (roll(w, 4) == 0)
            continue; /* several things in one turn */
        uint64_t due = generation_step(w->generation, w->now);
        check(w, due > w->now);
        check_world(w);
    }
    generation_step(w->generation, w->now);
    finish_well(w);
    generation_destroy(&w->generation);
    svc_buf_fini(&w->truth);
    svc_buf_fini(&w->journal);
    svc_buf_fini(&w->shown);
    free(w);
}

static void
holds_its_rules_under_any_interleaving(void **state)
{
    (void)state;
    const char *seed = getenv("SEED"); /* a run to look at again */

    if (seed != NULL) {
        run_world(strtoull(seed, NULL, 10));
        return;
    }
    for (uint64_t i = 1; i <= RUNS; i++)
        run_world(i);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_its_rules_under_any_interleaving),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
