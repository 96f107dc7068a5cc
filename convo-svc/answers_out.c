/* answers_out.c - what a live answer wants done, done.
 *
 * Jobs for the database, calls to llm-svc, parts to its watchers. Everything that comes back
 * names the answer by its handle, so that one that is gone meanwhile is never touched. The open
 * call is the one thing that comes back by pointer: it is forgotten before its answer goes. */
#include "answers_private.h"

#include "svc/svc_time.h"

#include <inttypes.h>

/* A provider may think for longer than this: then the answer is attached to anew. */
#define FIRST_REPLY_MS 60000
#define HOLD_MS        150000 /* likewise, silence after a piece */
/* Shorter pieces came for their time, not for their length: nobody waits for their commit, so they are committed
 * together. (llm-svc sends one of 4096 at once; viewers are shown 64 KB past the last commit.) */
#define LAZY_MAX_BYTES 4096
#define WISH_LIFE_MS \
    3000 /* as a lease: no longer than until another may have taken the answer over */

static void on_journal(void *arg, proto_kind kind, svc_rc rc, const void *rep,
                       const error_rep_t *error);

static void
pass_fault(const live_t *live, svc_fault_point point)
{
    svc_fault_at(live->table->ctx->fault, point);
}

/* What the log's lines on an answer are about; good as long as it is live. */
static svc_log_about_t
about(const live_t *live)
{
    return (svc_log_about_t){
        .trace = {live->trace, live->has_trace ? sizeof(live->trace) : 0},
        .stream = answer_stream(live->answer)};
}

/* --- the database ----------------------------------------------------------------------------- */

static void
on_step(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    answers_t *table = arg;
    live_t *live = (live_t *)svc_table_get(&table->by_handle, tag);

    (void)result;
    if (live == NULL)
        return;
    if (rc == RC_OK) /* nobody else's term stands there */
        live->is_doubted = false;
    answer_on_step(live->answer, rc);
    answers_sweep(table, live);
}

static void
on_restart(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    answers_t *table = arg;
    live_t *live = (live_t *)svc_table_get(&table->by_handle, tag);

    (void)result;
    if (live == NULL)
        return;
    answer_on_restart(live->answer, rc);
    answers_sweep(table, live);
}

static void
on_wanted_stop(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    answers_t *table = arg;
    live_t *live = (live_t *)svc_table_get(&table->by_handle, tag);

    (void)result;
    if (live == NULL || rc != RC_OK)
        return;
    svc_metrics_add(table->ctx->metrics, SVC_M_ANSWERS_ALONE, 1);
    answer_stop(live->answer);
    answers_sweep(table, live);
}

static void
on_look(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    answers_t *table = arg;
    live_t *live = (live_t *)svc_table_get(&table->by_handle, tag);
    answer_row_t row = {.state = 0};

    if (live == NULL)
        return;
    if (rc == RC_OK)
        rc = proto_decode(&answer_row_schema, result, table->arena, &row);
    if (rc == RC_SUPERSEDED) /* of ours there is no row any more: why is for watchers */
        rc = RC_NOT_FOUND;
    if (rc == RC_OK) /* somebody else's is over now */
        live->is_doubted = false;
    answer_on_row(live->answer, rc, &row);
    answers_sweep(table, live);
}

typedef svc_rc submit_fn(svc_pool_t *self, uint32_t kind, svc_str payload,
                         svc_pool_done_fn *done, void *arg, uint64_t tag);

/* Encodes a job and gives it to a pool. */
static svc_rc
submit(live_t *live, submit_fn *to, svc_pool_t *pool, uint32_t kind,
       const proto_schema_t *schema, const void *job, svc_pool_done_fn *done)
{
    answers_t *table = live->table;
    svc_rc rc;

    svc_buf_clear(&table->out);
    rc = proto_encode(schema, job, &table->out);
    if (rc == RC_OK)
        rc = to(pool, kind, svc_buf_str(&table->out), done, table, live->by_handle.key);
    return rc;
}

static svc_rc
step(void *arg, const answer_step_t *job)
{
    live_t *live = arg;
    bool is_lazy = job->state == ANSWER_STREAMING &&
                   job->next_state == ANSWER_STREAMING && job->bytes.n < LAZY_MAX_BYTES &&
                   !live->table->ctx->config->test_plain_paths;

    if (live->table->away_ms != NULL && atomic_load(live->table->away_ms) != 0)
        return RC_UNAVAILABLE;
    return submit(live, is_lazy ? svc_pool_submit_lazy : svc_pool_submit,
                  live->table->writer, WRITE_STEP, &answer_step_schema, job, on_step);
}

static svc_rc
restart(void *arg, const restart_job_t *job)
{
    live_t *live = arg;

    return submit(live, svc_pool_submit, live->table->writer, WRITE_RESTART,
                  &restart_job_schema, job, on_restart);
}

/* That nobody watches is true now: when the database has been away, or this process has stood still before the commit, somebody may
 * watch by then, here or at another owner. So it is not done late, but wished anew if it is still so. */
static svc_rc
submit_soon(svc_pool_t *self, uint32_t kind, svc_str payload, svc_pool_done_fn *done,
            void *arg, uint64_t tag)
{
    const svc_until_t until = {.expires_ms = svc_unix_ms() + WISH_LIFE_MS};

    return svc_pool_submit_until(self, kind, payload, until, done, arg, tag);
}

static svc_rc
want_stop(void *arg)
{
    live_t *live = arg;
    watch_req_t job = {answer_user(live->answer), answer_conversation(live->answer),
                       answer_stream(live->answer)};

    return submit(live, submit_soon, live->table->writer, WRITE_STOP, &watch_req_schema,
                  &job, on_wanted_stop);
}

static svc_rc
look(void *arg)
{
    live_t *live = arg;
    watch_req_t job = {answer_user(live->answer), answer_conversation(live->answer),
                       answer_stream(live->answer)};

    return submit(live, svc_pool_submit, live->table->reader, READ_STATUS,
                  &watch_req_schema, &job, on_look);
}

/* --- llm-svc ---------------------------------------------------------------------------------- */

static bool
takes_work(void *arg)
{
    const live_t *live = arg;

    return svc_peers_takes_work(live->table->llm);
}

static bool
is_up(void *arg, uint64_t llm)
{
    const live_t *live = arg;

    return svc_peers_has(live->table->llm, llm);
}

static bool
is_lost(void *arg, uint64_t llm)
{
    const live_t *live = arg;

    for (size_t i = 0; i < ANSWERS_LOST_MAX; i++)
        if (llm != 0 && live->table->lost[i] == llm)
            return true;
    return false;
}

typedef struct {
    uint64_t after, found; /* the least instance beyond `after`; 0: none */
} next_t;

static void
look_at_next(void *arg, uint64_t instance)
{
    next_t *next = arg;

    if (instance > next->after && (next->found == 0 || instance < next->found))
        next->found = instance;
}

static uint64_t
next_llm(void *arg, uint64_t after)
{
    const live_t *live = arg;
    next_t next = {after, 0};

    svc_peers_each(live->table->llm, look_at_next, &next);
    return next.found;
}

/* Opens a generate or attach call. `schema` NULL: req is a svc_str that is encoded already. */
static svc_rc
call_llm(live_t *live, uint64_t llm, const char *op, const proto_schema_t *schema,
         const void *req)
{
    svc_peer_request_t request = {
        .op = op,
        .req_schema = schema,
        .req = req,
        .rep_schema = &journal_rep_schema,
        .trace = about(live).trace,
        .timeout_ms = FIRST_REPLY_MS,
        .hold_ms = HOLD_MS,
        .on_reply = on_journal,
        .arg = live,
        .instance = llm,
    };

    return llm == 0 ? RC_UNAVAILABLE
                    : svc_peers_call(live->table->llm, &request, &live->call);
}

/* An answer that was taken over belongs to the request that its llm-svc knows of. */
static void
learn_trace(live_t *live, const journal_rep_t *rep)
{
    svc_log_about_t it;

    if (!live->is_own_trace || rep->trace.n != sizeof(live->trace))
        return;
    answers_set_trace(live, rep->trace);
    it = about(live);
    svc_log_about(live->table->ctx->log, SVC_LOG_INFO, &it,
                  "the answer that was taken over goes on at its llm-svc");
}

static void
on_journal(void *arg, proto_kind kind, svc_rc rc, const void *rep,
           const error_rep_t *error)
{
    live_t *live = arg;

    if (kind != PROTO_PARTIAL)
        live->call = 0;
    if (kind != PROTO_ERROR)
        learn_trace(live, rep);
    if (kind == PROTO_FINAL)
        pass_fault(live, FAULT_END_RECEIVED);
    else if (kind == PROTO_PARTIAL && ((const journal_rep_t *)rep)->bytes.n > 0)
        pass_fault(live, FAULT_JOURNAL_RECEIVED);
    answer_on_journal(live->answer, kind, rc, rep, error);
    if (kind == PROTO_FINAL && answer_is_writing(live->answer))
        svc_pool_hurry(
            live->table->writer); /* the end comes after a piece that may be lazy */
    answers_sweep(live->table, live);
}

/* Sends a prompt to the llm-svc that has the least to do. */
static void
send_prompt(live_t *live, svc_str prompt)
{
    uint64_t llm = svc_peers_pick(live->table->llm);
    svc_rc rc;

    pass_fault(live, FAULT_ASK_BEFORE_GENERATE);
    rc = call_llm(live, llm, OP_LLM_GENERATE, NULL, &prompt);
    pass_fault(live, FAULT_ASK_AFTER_GENERATE);
    answer_on_generate(live->answer, rc, llm);
}

/* A prompt is ready: sends it, if it is still wanted. What a worker has encoded is not decoded again. */
static void
on_prompt(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    answers_t *table = arg;
    live_t *live = (live_t *)svc_table_get(&table->by_handle, tag);

    if (live == NULL || !answer_is_prompting(live->answer, live->prompt_fence))
        return;
    if (rc == RC_OK)
        send_prompt(live, result);
    else
        answer_on_generate(live->answer, rc, 0);
    answers_sweep(table, live);
}

void
answers_send_ready(live_t *live)
{
    if (live->ready.n > 0 && answer_is_prompting(live->answer, live->prompt_fence))
        send_prompt(live, live->ready);
}

static svc_rc
generate(void *arg, const prompt_job_t *job)
{
    live_t *live = arg;

    live->prompt_fence = job->fence;
    if (live->ready.n > 0)
        return RC_OK; /* answers_send_ready comes next */
    return submit(live, svc_pool_submit, live->table->reader, READ_PROMPT,
                  &prompt_job_schema, job, on_prompt);
}

static svc_rc
attach(void *arg, uint64_t llm, const attach_req_t *req)
{
    pass_fault(arg, FAULT_TAKEOVER_BEFORE_ATTACH);
    return call_llm(arg, llm, OP_LLM_ATTACH, &attach_req_schema, req);
}

static void
hang_up(void *arg)
{
    live_t *live = arg;

    svc_peers_forget(live->table->llm, live->call);
    live->call = 0;
}

/* Posts what is repeated when it is missed. */
static void
post(live_t *live, uint64_t llm, const char *op, const proto_schema_t *schema,
     const void *req)
{
    const svc_log_about_t it = about(live);
    svc_rc rc = llm == 0
                    ? RC_UNAVAILABLE
                    : svc_peers_post(live->table->llm, llm, op, it.trace, schema, req);

    if (rc != RC_OK)
        svc_log_about(live->table->ctx->log, SVC_LOG_DEBUG, &it, "%s was not sent: %s",
                      op, svc_rc_info(rc)->wire);
}

static void
ack(void *arg, uint64_t llm, const ack_req_t *req)
{
    bool is_piece = req->journaled > 0 && !req->stored;

    if (is_piece)
        pass_fault(arg, FAULT_JOURNAL_BEFORE_ACK);
    post(arg, llm, OP_LLM_ACK, &ack_req_schema, req);
    if (is_piece)
        pass_fault(arg, FAULT_JOURNAL_AFTER_ACK);
}

static void
stop(void *arg, uint64_t llm, const llm_stop_req_t *req)
{
    post(arg, llm, OP_LLM_STOP, &llm_stop_req_schema, req);
}

/* --- watchers, time --------------------------------------------------------------------------- */

static void
tell(void *arg, uint64_t call_id, const status_rep_t *status, bool is_last)
{
    live_t *live = arg;
    svc_call_t *call = svc_server_call(live->table->server, call_id);

    if (call == NULL)
        return;
    if (answer_state_is_terminal(status->state))
        pass_fault(live, FAULT_END_BEFORE_TELL);
    if (is_last)
        svc_call_finish(call, RC_OK, status);
    else
        (void)svc_call_partial(call, status,
                               ANSWERS_WATCH_HOLD_MS); /* gone: on_cancel has run */
}

static void
refuse(void *arg, uint64_t call_id, svc_rc rc)
{
    live_t *live = arg;
    svc_call_t *call = svc_server_call(live->table->server, call_id);

    if (call != NULL)
        svc_call_finish(call, rc, NULL);
}

static uint64_t
mono_ms(void *arg)
{
    live_t *live = arg;

    return svc_loop_now_ms(live->table->ctx->loop);
}

static uint64_t
unix_ms(void *arg)
{
    (void)arg;
    return svc_unix_ms();
}

static bool
admits(void *arg)
{
    const answers_t *table = ((live_t *)arg)->table;

    return table->admits == NULL || table->admits(table->admits_arg);
}

static uint64_t
alone_ms(void *arg)
{
    live_t *live = arg;

    return (uint64_t)live->table->ctx->config->convo_disconnect_stop_s * 1000;
}

static void
count(void *arg, svc_metric metric)
{
    live_t *live = arg;

    svc_metrics_add(live->table->ctx->metrics, metric, 1);
}

static void
note(void *arg, answer_note what, const status_rep_t *status, uint64_t attempt)
{
    const live_t *live = arg;
    const svc_log_about_t it = about(live);
    svc_log_t *log = live->table->ctx->log;
    svc_str reason = status->reason;

    switch (what) {
    case ANSWER_NOTE_BEGUN:
        /* the llm-svc says that it begins: of the usual case one line is enough */
        svc_log_about(log, attempt == 1 ? SVC_LOG_DEBUG : SVC_LOG_INFO, &it,
                      "a generation is asked for: attempt %" PRIu64
                      ", llm-svc %016" PRIx64,
                      attempt, status->llm);
        break;
    case ANSWER_NOTE_LOST:
        svc_log_about(log, SVC_LOG_WARN, &it,
                      "the llm-svc that wrote the answer is lost, %" PRIu64
                      " bytes are stored",
                      status->length);
        break;
    case ANSWER_NOTE_AGAIN:
        svc_log_about(log, SVC_LOG_WARN, &it,
                      "nothing of the answer was shown yet: attempt %" PRIu64 " follows",
                      attempt);
        break;
    case ANSWER_NOTE_STORED:
        if (svc_str_eq(reason, svc_str_c(answer_state_names[status->state])))
            reason.n = 0; /* as it says already */
        svc_log_about(log, SVC_LOG_INFO, &it,
                      "the answer is stored: %s%s%.*s, %" PRIu64 " bytes",
                      answer_state_names[status->state], reason.n > 0 ? " by " : "",
                      (int)reason.n, reason.n > 0 ? reason.p : "", status->length);
        break;
    case ANSWER_NOTE_LEFT:
        svc_log_about(log, SVC_LOG_INFO, &it,
                      "another convo-svc has the answer, or it is over");
        break;
    }
}

const answer_out_t answers_out = {
    .step = step,
    .restart = restart,
    .generate = generate,
    .attach = attach,
    .hang_up = hang_up,
    .ack = ack,
    .stop = stop,
    .want_stop = want_stop,
    .look = look,
    .tell = tell,
    .refuse = refuse,
    .mono_ms = mono_ms,
    .unix_ms = unix_ms,
    .takes_work = takes_work,
    .is_up = is_up,
    .is_lost = is_lost,
    .next_llm = next_llm,
    .admits = admits,
    .alone_ms = alone_ms,
    .count = count,
    .note = note,
};
