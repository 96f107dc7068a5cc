/* answer_fixture.h - a live answer whose outputs are recorded, and a row in memory that its steps change.
 *
 * Nothing happens by itself: a test (or a random walk) commits what was submitted, lets time pass,
 * and plays llm-svc. */
#ifndef TESTS_UNIT_CONVO_SVC_ANSWER_FIXTURE_H
#define TESTS_UNIT_CONVO_SVC_ANSWER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "convo-svc/answer.h"

#define TOLD_MAX 64
#define STREAM   "0123456789abcdef"
#define OWNER    77 /* instance of this convo-svc */
#define LLMS_MAX 4
#define ALONE_MS 10000

/* One status that went out. */
typedef struct {
    uint64_t call;
    int state;
    uint64_t length, fence, owner, llm;
    bool lost, is_last;
    char finish[80], reason[80], text[200];
    uint64_t retry_after_s, tokens;
} told_t;

/* One llm-svc. */
typedef struct {
    bool is_up, takes_work;
    uint64_t instance;
} play_llm_t;

typedef struct {
    answer_t *answer;
    uint64_t mono_ms, unix_ms;   /* the clocks */
    play_llm_t llm;              /* the one that most tests are about */
    play_llm_t others[LLMS_MAX]; /* instance 0: none */
    uint64_t lost;               /* this one is known to be lost */
    bool is_barred;              /* nobody may watch here */

    /* The row, as committed. */
    int state;
    uint64_t length, fence, attempt;
    svc_buf_t text;
    char finish[80], reason[80];

    /* What is on its way. */
    bool has_step, has_restart, is_prompting, is_calling, is_looking;
    answer_step_t step; /* views into the copies below */
    svc_buf_t step_bytes;
    char step_finish[80], step_reason[80];
    restart_job_t restart;
    uint64_t prompt_fence;
    attach_req_t attach; /* the last one */
    uint64_t called;     /* instance that the last generate or attach went to */
    bool refuse_jobs;    /* queues are full */
    svc_rc attach_rc;    /* of the next attach */

    /* What went out. */
    size_t steps, generates, attaches, hang_ups, acks, stops, wanted_stops, refused, told;
    ack_req_t ack;                   /* the last one */
    uint64_t acked_llm, stopped_llm; /* where the last ones went to */
    uint64_t stopped_fence;
    svc_rc refused_rc;
    told_t tells[TOLD_MAX]; /* the last ones, by told % TOLD_MAX */
    uint64_t gone_call;     /* this one turns out to be gone when told */
    size_t counted[SVC_M_COUNT];
    size_t noted[ANSWER_NOTE_LEFT + 1];
} play_t;

static inline void
play_copy(char *out, size_t max, svc_str text)
{
    snprintf(out, max, "%.*s", (int)text.n, text.n == 0 ? "" : text.p);
}

static inline svc_rc
play_step(void *arg, const answer_step_t *step)
{
    play_t *self = arg;

    assert_false(self->has_step);            /* one at a time */
    assert_int_equal(step->conversation, 9); /* what is locked before its end */
    assert_false(answer_state_is_terminal(self->state));
    if (self->refuse_jobs)
        return RC_BUSY;
    self->steps++;
    self->has_step = true;
    self->step = *step;
    svc_buf_clear(&self->step_bytes);
    assert_int_equal(svc_buf_add_str(&self->step_bytes, step->bytes), RC_OK);
    self->step.bytes = svc_buf_str(&self->step_bytes);
    play_copy(self->step_finish, sizeof(self->step_finish), step->finish);
    play_copy(self->step_reason, sizeof(self->step_reason), step->reason);
    return RC_OK;
}

static inline svc_rc
play_restart(void *arg, const restart_job_t *job)
{
    play_t *self = arg;

    assert_false(self->has_restart);
    if (self->refuse_jobs)
        return RC_BUSY;
    self->has_restart = true;
    self->restart = *job;
    return RC_OK;
}

static inline svc_rc
play_generate(void *arg, const prompt_job_t *job)
{
    play_t *self = arg;

    if (self->refuse_jobs)
        return RC_BUSY;
    self->generates++;
    self->is_prompting = true;
    self->prompt_fence = job->fence;
    return RC_OK;
}

static inline svc_rc
play_attach(void *arg, uint64_t llm, const attach_req_t *req)
{
    play_t *self = arg;

    assert_false(self->is_calling);
    self->attach = *req;
    self->called = llm;
    self->attaches++;
    self->is_calling = self->attach_rc == RC_OK;
    return self->attach_rc;
}

static inline void
play_hang_up(void *arg)
{
    play_t *self = arg;

    self->hang_ups++;
    self->is_calling = false;
}

static inline void
play_ack(void *arg, uint64_t llm, const ack_req_t *req)
{
    play_t *self = arg;

    assert_true(req->journaled <= self->length || self->length == req->journaled);
    assert_true(!req->stored || answer_state_is_terminal(self->state) ||
                self->state < 0 || req->fence != self->fence);
    self->acks++;
    self->ack = *req;
    self->acked_llm = llm;
}

static inline void
play_stop(void *arg, uint64_t llm, const llm_stop_req_t *req)
{
    play_t *self = arg;

    self->stops++;
    self->stopped_llm = llm;
    self->stopped_fence = req->fence;
}

static inline svc_rc
play_want_stop(void *arg)
{
    play_t *self = arg;

    if (self->refuse_jobs)
        return RC_BUSY;
    self->wanted_stops++;
    return RC_OK;
}

static inline svc_rc
play_look(void *arg)
{
    play_t *self = arg;

    if (self->refuse_jobs)
        return RC_BUSY;
    self->is_looking = true;
    return RC_OK;
}

static inline void
play_tell(void *arg, uint64_t call, const status_rep_t *status, bool is_last)
{
    play_t *self = arg;
    told_t *told = &self->tells[self->told++ % TOLD_MAX];

    told->call = call;
    told->state = status->state;
    told->length = status->length;
    told->fence = status->fence;
    told->owner = status->owner;
    told->llm = status->llm;
    told->lost = status->lost;
    told->is_last = is_last;
    told->retry_after_s = status->retry_after_s;
    told->tokens = status->usage.total;
    play_copy(told->finish, sizeof(told->finish), status->finish);
    play_copy(told->reason, sizeof(told->reason), status->reason);
    play_copy(told->text, sizeof(told->text), status->text);
    if (call == self->gone_call && !is_last)
        answer_unwatch(self->answer, call);
}

static inline void
play_refuse(void *arg, uint64_t call, svc_rc rc)
{
    play_t *self = arg;

    (void)call;
    self->refused++;
    self->refused_rc = rc;
}

static inline uint64_t
play_mono_ms(void *arg)
{
    return ((play_t *)arg)->mono_ms;
}

static inline uint64_t
play_unix_ms(void *arg)
{
    return ((play_t *)arg)->unix_ms;
}

/* The llm-svc of an instance, NULL when there is none. */
static inline play_llm_t *
play_find_llm(play_t *self, uint64_t instance)
{
    if (self->llm.instance == instance)
        return &self->llm;
    for (size_t i = 0; i < LLMS_MAX; i++)
        if (self->others[i].instance == instance)
            return &self->others[i];
    return NULL;
}

static inline bool
play_takes_work(void *arg)
{
    const play_t *self = arg;
    bool takes_work = self->llm.takes_work;

    for (size_t i = 0; i < LLMS_MAX; i++)
        takes_work |= self->others[i].takes_work;
    return takes_work;
}

static inline bool
play_is_up(void *arg, uint64_t instance)
{
    const play_llm_t *llm = play_find_llm(arg, instance);

    return instance != 0 && llm != NULL && llm->is_up;
}

static inline bool
play_is_lost(void *arg, uint64_t llm)
{
    return llm != 0 && ((play_t *)arg)->lost == llm;
}

static inline uint64_t
play_next_llm(void *arg, uint64_t after)
{
    const play_t *self = arg;
    uint64_t next = self->llm.is_up && self->llm.instance > after ? self->llm.instance
                                                                  : 0;

    for (size_t i = 0; i < LLMS_MAX; i++) {
        uint64_t llm = self->others[i].instance;

        if (self->others[i].is_up && llm > after && (next == 0 || llm < next))
            next = llm;
    }
    return next;
}

static inline bool
play_admits(void *arg)
{
    return !((play_t *)arg)->is_barred;
}

static inline uint64_t
play_alone_ms(void *arg)
{
    (void)arg;
    return ALONE_MS;
}

static inline void
play_count(void *arg, svc_metric metric)
{
    ((play_t *)arg)->counted[metric]++;
}

static inline void
play_note(void *arg, answer_note what, const status_rep_t *status, uint64_t attempt)
{
    play_t *self = arg;

    (void)status;
    (void)attempt;
    self->noted[what]++;
}

static const answer_out_t play_out = {
    .step = play_step,
    .restart = play_restart,
    .generate = play_generate,
    .attach = play_attach,
    .hang_up = play_hang_up,
    .ack = play_ack,
    .stop = play_stop,
    .want_stop = play_want_stop,
    .look = play_look,
    .tell = play_tell,
    .refuse = play_refuse,
    .mono_ms = play_mono_ms,
    .unix_ms = play_unix_ms,
    .takes_work = play_takes_work,
    .is_up = play_is_up,
    .is_lost = play_is_lost,
    .next_llm = play_next_llm,
    .admits = play_admits,
    .alone_ms = play_alone_ms,
    .count = play_count,
    .note = play_note,
};

/* Makes an answer of this row, whose text is `text`. */
static inline void
play_open_row(play_t *self, const answer_row_t *row, const char *text, bool is_known)
{
    memset(self, 0, sizeof(*self));
    self->mono_ms = 5000;
    self->unix_ms = 1000000;
    self->llm = (play_llm_t){true, true, 500};
    self->state = row->state;
    self->fence = row->fence;
    self->attempt = row->attempt;
    self->length = row->length;
    svc_buf_init(&self->text, 1u << 25);
    svc_buf_init(&self->step_bytes, 1u << 21);
    assert_int_equal(svc_buf_add_str(&self->text, svc_str_c(text)), RC_OK);
    self->answer = answer_new(row, is_known, &play_out, self);
}

/* The row that most tests begin with: one that was taken over streaming has its llm-svc in it. */
static inline answer_row_t
play_row(int state, const char *text)
{
    return (answer_row_t){.stream = SVC_LIT(STREAM),
                          .user = 7,
                          .conversation = 9,
                          .message = 2,
                          .state = state,
                          .term = 1,
                          .fence = 100,
                          .attempt = 1,
                          .owner = OWNER,
                          .llm = state == ANSWER_WAITING ? 0 : 500,
                          .length = strlen(text),
                          .asked_ms = 1000000};
}

/* Makes an answer of a row in `state` with `text`; is_known: asked just now. Does not begin it. */
static inline void
play_open(play_t *self, int state, const char *text, bool is_known)
{
    answer_row_t row = play_row(state, text);

    play_open_row(self, &row, text, is_known);
}

static inline void
play_close(play_t *self)
{
    answer_destroy(&self->answer);
    svc_buf_fini(&self->text);
    svc_buf_fini(&self->step_bytes);
}

/* Commits the step on its way, or fails it with another rc. */
static inline void
play_commit(play_t *self, svc_rc rc)
{
    assert_true(self->has_step);
    self->has_step = false;
    if (rc == RC_OK) {
        assert_int_equal(self->step.fence, self->fence);
        assert_int_equal(self->step.state, self->state);
        assert_int_equal(self->step.length, self->length);
        assert_int_equal(self->step.term, 1);
        self->state = self->step.next_state;
        self->length += self->step.bytes.n;
        assert_int_equal(svc_buf_add_str(&self->text, self->step.bytes), RC_OK);
        memcpy(self->finish, self->step_finish, sizeof(self->finish));
        memcpy(self->reason, self->step_reason, sizeof(self->reason));
    }
    answer_on_step(self->answer, rc);
}

static inline void
play_commit_restart(play_t *self, svc_rc rc)
{
    assert_true(self->has_restart);
    self->has_restart = false;
    if (rc == RC_OK) {
        assert_int_equal(self->state, ANSWER_WAITING);
        assert_int_equal(self->restart.fence, self->fence);
        self->fence = self->restart.new_fence;
        self->attempt = self->restart.attempt;
    }
    answer_on_restart(self->answer, rc);
}

/* The prompt is ready and goes out, or not. */
static inline void
play_send_prompt(play_t *self, svc_rc rc)
{
    assert_true(self->is_prompting);
    self->is_prompting = false;
    if (!answer_is_prompting(self->answer, self->prompt_fence))
        return;
    self->is_calling = rc == RC_OK;
    self->called = self->llm.instance;
    for (size_t i = 0; i < LLMS_MAX && !self->llm.takes_work; i++)
        if (self->others[i].takes_work)
            self->called = self->others[i].instance;
    answer_on_generate(self->answer, rc, self->called);
}

static inline void
play_piece(play_t *self, uint64_t from, const char *text)
{
    journal_rep_t rep = {.from = from, .bytes = svc_str_c(text)};

    answer_on_journal(self->answer, PROTO_PARTIAL, RC_OK, &rep, NULL);
}

static inline void
play_final(play_t *self, uint64_t from, const char *text, const char *finish,
           const char *error)
{
    journal_rep_t rep = {.from = from,
                         .bytes = svc_str_c(text),
                         .finish = svc_str_c(finish),
                         .error = svc_str_c(error),
                         .text = svc_str_c(error[0] == '\0' ? "" : "A sentence."),
                         .retry_after_s = error[0] == '\0' ? 0 : 17,
                         .usage = {1, 2, 3}};

    self->is_calling = false;
    answer_on_journal(self->answer, PROTO_FINAL, RC_OK, &rep, NULL);
}

static inline void
play_error(play_t *self, svc_rc rc)
{
    error_rep_t error = {.code = svc_str_c(svc_rc_info(rc)->wire),
                         .text = SVC_LIT("Said so.")};

    self->is_calling = false;
    answer_on_journal(self->answer, PROTO_ERROR, rc, NULL, &error);
}

static inline void
play_wait(play_t *self, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 100) {
        self->mono_ms += 100;
        self->unix_ms += 100;
        answer_on_tick(self->answer);
    }
}

/* The llm-svc goes down; its calls fail first, as svc_peer does it. */
static inline void
play_down(play_t *self)
{
    self->llm.is_up = self->llm.takes_work = false;
    if (self->is_calling && self->called == self->llm.instance)
        play_error(self, RC_UNAVAILABLE);
    answer_on_llm_down(self->answer, self->llm.instance);
}

static inline void
play_lose(play_t *self)
{
    self->lost = self->llm.instance;
    answer_on_llm_lost(self->answer, self->llm.instance);
}

static inline void
play_up(play_t *self, uint64_t instance)
{
    if (instance != self->llm.instance && self->llm.instance != 0)
        play_lose(self);
    self->llm = (play_llm_t){true, true, instance};
    if (self->lost == instance)
        self->lost = 0;
    answer_on_llm_up(self->answer, instance);
}

/* The database tells what the row is now. */
static inline void
play_tell_row(play_t *self, svc_rc rc, const answer_row_t *row)
{
    assert_true(self->is_looking);
    self->is_looking = false;
    answer_on_row(self->answer, rc, row);
}

static inline const told_t *
play_last_told(const play_t *self)
{
    assert_true(self->told > 0);
    return &self->tells[(self->told - 1) % TOLD_MAX];
}

/* --- situations ------------------------------------------------------------------------------- */

static inline int
play_setup(void **state)
{
    *state = svc_alloc(sizeof(play_t));
    return 0;
}

static inline int
play_teardown(void **state)
{
    play_t *self = *state;

    play_close(self);
    free(self);
    return 0;
}

/* A fresh answer whose generate call is open, watched by call 1. */
static inline void
open_called(play_t *self)
{
    play_open(self, ANSWER_WAITING, "", true);
    assert_int_equal(answer_watch(self->answer, 1), RC_OK);
    answer_begin(self->answer);
    play_send_prompt(self, RC_OK);
}

/* The same, streaming "Hello" already. */
static inline void
open_streaming(play_t *self)
{
    open_called(self);
    play_piece(self, 0, "Hello");
    play_commit(self, RC_OK);
}

static inline void
assert_text(const play_t *self, const char *text)
{
    assert_true(svc_str_eq(svc_buf_str(&self->text), svc_str_c(text)));
    assert_int_equal(self->length, strlen(text));
}

static inline void
assert_ended(const play_t *self, int state, const char *reason)
{
    assert_int_equal(self->state, state);
    assert_string_equal(self->reason, reason);
    assert_true(answer_is_over(self->answer));
    assert_true(play_last_told(self)->is_last);
    assert_int_equal(play_last_told(self)->state, state);
    assert_string_equal(play_last_told(self)->reason, reason);
}

#endif
