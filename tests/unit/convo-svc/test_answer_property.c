/* test_answer_property.c - random walks: whatever is lost, late, repeated or refused, the journal is one text.
 *
 * llm-svc is played faithfully (stop and wait, repetition, FINAL once per call, forgets what is
 * stored), over a connection that loses anything, with a disk that may fail and instances that come
 * and go. In every state: the row's text is a prefix of the text of its fence, the fence never changes once
 * text is there, nobody is acknowledged or shown more than is stored. And it always ends. */
#include "answer_fixture.h"

#define WALKS     3000
#define STEPS_MAX 4000
#define TEXT_MAX  600

typedef struct {
    play_t play; /* first */
    unsigned seed;
    /* llm-svc */
    bool has_stream;    /* this instance knows the stream */
    uint64_t llm_fence; /* of its text */
    size_t written;     /* bytes that the provider has sent so far */
    size_t total;       /* bytes of the whole text */
    bool has_ended, stopped, is_broken;
    uint64_t acked;   /* as llm-svc knows it */
    uint64_t sent;    /* end of the unacknowledged piece */
    size_t seen_acks; /* of play.acks */
    size_t seen_stops, seen_attaches, seen_hang_ups;
    bool call_open; /* llm-svc still has the call */
    uint64_t instance;
    uint64_t first_fence; /* of the first stored byte */
    bool stop_wanted;
} walk_t;

static unsigned
roll(walk_t *self, unsigned n)
{
    return (unsigned)rand_r(&self->seed) % n;
}

/* Byte i of the text of a fence: texts of two fences differ everywhere. */
static char
byte_of(uint64_t fence, size_t i)
{
    return (char)('a' + (fence + i * 7 + i / 26) % 26);
}

static void
fill(walk_t *self, uint64_t from, size_t to, char *out)
{
    for (uint64_t i = from; i < to; i++)
        out[i - from] = byte_of(self->llm_fence, (size_t)i);
    out[to - from] = '\0';
}

/* --- llm-svc ---------------------------------------------------------------------------------- */

static void
begin_generation(walk_t *self)
{
    play_t *play = &self->play;

    if (!play->is_prompting)
        return;
    if (roll(self, 10) == 0) {
        play_send_prompt(play, RC_BUSY);
        return;
    }
    play_send_prompt(play, play->llm.is_up ? RC_OK : RC_UNAVAILABLE);
    if (!play->is_calling)
        return;
    if (!self->has_stream || self->llm_fence != play->prompt_fence) {
        self->has_stream = true;
        self->llm_fence = play->prompt_fence;
        self->written = 0;
        self->acked = self->sent = 0;
        self->has_ended = self->stopped = self->is_broken = false;
        self->total = roll(self, TEXT_MAX);
    }
    self->call_open = true;
}

/* What was posted or called since the last look reaches llm-svc, or is lost. */
static void
deliver(walk_t *self)
{
    play_t *play = &self->play;

    if (play->attaches != self->seen_attaches) {
        self->seen_attaches = play->attaches;
        self->call_open = false;
        if (play->is_calling &&
            (!self->has_stream || self->llm_fence != play->attach.fence)) {
            play_error(play, RC_NOT_FOUND);
        } else if (play->is_calling) {
            self->call_open = true;
            self->acked = play->attach.from;
            self->sent = self->acked;
        }
    }
    if (play->acks != self->seen_acks) {
        self->seen_acks = play->acks;
        if (roll(self, 5) != 0 && play->llm.is_up && self->has_stream &&
            play->ack.fence == self->llm_fence) {
            if (play->ack.journaled > self->acked)
                self->acked = play->ack.journaled;
            if (play->ack.stored)
                self->has_stream = self->call_open = false;
        }
    }
    if (play->stops != self->seen_stops) {
        self->seen_stops = play->stops;
        if (roll(self, 3) != 0 && !self->has_ended)
            self->has_ended = self->stopped = true;
    }
}

static void
write_more(walk_t *self)
{
    if (!self->has_stream || self->has_ended)
        return;
    self->written += roll(self, 60);
    if (self->written >= self->total) {
        self->written = self->total;
        self->has_ended = true;
        self->is_broken = roll(self, 5) == 0;
    }
}

/* Sends the next piece, repeats the last one, or sends the end; any of them may get lost on the way. */
static void
send_piece(walk_t *self)
{
    play_t *play = &self->play;
    char text[TEXT_MAX + 1];
    uint64_t from = self->acked;

    if (!play->is_calling || !self->call_open || !self->has_stream)
        return;
    if (self->sent > self->acked) { /* repeat */
        fill(self, from, (size_t)self->sent, text);
        if (roll(self, 4) != 0)
            play_piece(play, from, text);
        return;
    }
    if (self->has_ended) {
        fill(self, from, self->written, text);
        self->call_open = false;
        play_final(play, from, text,
                   self->stopped     ? "stopped"
                   : self->is_broken ? ""
                                     : "stop",
                   self->is_broken && !self->stopped ? "upstream_error" : "");
        return;
    }
    if (self->written > self->acked) {
        self->sent = self->written;
        fill(self, from, self->written, text);
        if (roll(self, 4) != 0)
            play_piece(play, from, text);
    }
}

/* --- the walk --------------------------------------------------------------------------------- */

static void
shake(walk_t *self)
{
    play_t *play = &self->play;

    if (play->llm.is_up) {
        self->call_open = false;
        play_down(play);
        if (roll(self, 2) == 0) { /* it died */
            self->has_stream = false;
            self->instance++;
            if (roll(self, 2) == 0)
                play_lose(play);
        }
    } else {
        play_up(play, self->instance);
    }
}

static void
check(const walk_t *self)
{
    const play_t *play = &self->play;

    assert_int_equal(play->text.n, play->length);
    for (size_t i = 0; i < play->text.n; i++)
        assert_int_equal(play->text.p[i], byte_of(play->fence, i));
    if (play->length > 0)
        assert_int_equal(play->fence, self->first_fence);
    assert_true(play->attempt <= CONVO_ATTEMPTS_MAX);
    for (size_t i = 0; i < play->told && i < TOLD_MAX; i++)
        assert_true(play->tells[i].length <= play->length);
}

static void
note_first_byte(walk_t *self)
{
    if (self->play.length > 0 && self->first_fence == 0)
        self->first_fence = self->play.fence;
}

/* The row as it is now. */
static void
tell_row(walk_t *self, svc_rc rc)
{
    play_t *play = &self->play;
    answer_row_t row = play_row(play->state, "");

    row.length = play->length;
    row.fence = play->fence;
    row.attempt = play->attempt;
    play_tell_row(play, rc, &row);
}

static void
commit_something(walk_t *self)
{
    play_t *play = &self->play;
    svc_rc rc = roll(self, 8) == 0 ? RC_UNAVAILABLE : RC_OK;

    if (play->is_looking)
        tell_row(self, rc);
    else if (play->has_step)
        play_commit(play, rc);
    else if (play->has_restart)
        play_commit_restart(play, rc);
    note_first_byte(self);
}

static void
move(walk_t *self, unsigned trouble)
{
    play_t *play = &self->play;
    tail_req_t tail = {SVC_LIT(STREAM), play->fence, play->length, SVC_LIT("")};
    char text[64];

    switch (roll(self, 12)) {
    case 0:
        if (roll(self, 100) < trouble)
            shake(self);
        else if (!play->llm.is_up)
            play_up(play, self->instance);
        break;
    case 1: play->refuse_jobs = roll(self, 100) < trouble; break;
    case 2:
        if (roll(self, 400) == 0 && !self->stop_wanted) {
            self->stop_wanted = true;
            answer_stop(play->answer);
        }
        break;
    case 3: /* a gateway that has seen a little more */
        for (size_t i = 0; i < 20; i++)
            text[i] = byte_of(play->fence, (size_t)play->length + i);
        tail.bytes = (svc_str){text, 20};
        (void)!answer_tail(play->answer, &tail);
        break;
    case 4:
    case 5: write_more(self); break;
    case 6:
    case 7: play_wait(play, 100); break;
    case 8: begin_generation(self); break;
    case 9: commit_something(self); break;
    default: send_piece(self); break;
    }
}

/* How the walks went: a walk that never meets trouble proves nothing. */
typedef struct {
    size_t ended[ANSWER_INTERRUPTED + 1], restarts, tails, attaches, told, refused;
} sum_t;

static void
walk(unsigned seed, sum_t *sum)
{
    walk_t *self = svc_alloc(sizeof(*self));
    play_t *play = &self->play;
    unsigned trouble = seed % 4 * 25, steps;
    size_t refused = 0; /* while somebody watches: what was refused before */

    play_open(play, ANSWER_WAITING, "", true);
    self->seed = seed;
    self->instance = 500;
    assert_int_equal(answer_watch(play->answer, 1), RC_OK);
    answer_begin(play->answer);
    for (steps = 0; steps < STEPS_MAX && !answer_is_over(play->answer); steps++) {
        if (play->refused > refused && answer_watch(play->answer, 1) == RC_OK)
            refused = play->refused; /* a gateway asks until it may watch again */
        move(self, steps < STEPS_MAX / 2 ? trouble : 0);
        if (!answer_is_over(play->answer))
            deliver(self);
        check(self);
    }
    assert_true(answer_is_over(play->answer));
    assert_true(answer_state_is_terminal(play->state));
    if (play->refused == refused) {
        assert_true(play_last_told(play)->is_last);
        assert_int_equal(play_last_told(play)->state, play->state);
        sum->told++;
    }
    sum->refused += play->refused;
    if (play->state == ANSWER_COMPLETE)
        assert_int_equal(play->length, self->total);
    if (play->state == ANSWER_STOPPED)
        assert_true(self->stop_wanted);
    if (trouble == 0 && !self->stop_wanted)
        assert_true(play->state == ANSWER_COMPLETE ||
                    strcmp(play->reason, "upstream_error") == 0);
    sum->ended[play->state]++;
    sum->restarts += play->counted[SVC_M_GENERATIONS_RESTARTED];
    sum->tails += play->counted[SVC_M_TAILS];
    sum->attaches += play->attaches;
    play_close(play);
    free(self);
}

static void
the_journal_is_one_text_whatever_happens(void **state)
{
    sum_t sum = {0};

    (void)state;
    for (unsigned seed = 1; seed <= WALKS; seed++)
        walk(seed, &sum);
    print_message(
        "%zu complete, %zu stopped, %zu interrupted; %zu restarts, %zu tails, %zu attaches, "
        "%zu told, %zu refused\n",
        sum.ended[ANSWER_COMPLETE], sum.ended[ANSWER_STOPPED],
        sum.ended[ANSWER_INTERRUPTED], sum.restarts, sum.tails, sum.attaches, sum.told,
        sum.refused);
    for (int i = ANSWER_COMPLETE; i <= ANSWER_INTERRUPTED; i++)
        assert_true(sum.ended[i] > WALKS / 100);
    assert_true(sum.restarts > WALKS / 100 && sum.tails > WALKS / 100);
    assert_true(sum.attaches > WALKS / 10);
    assert_true(sum.told > WALKS / 2 && sum.refused > WALKS / 100);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_journal_is_one_text_whatever_happens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
