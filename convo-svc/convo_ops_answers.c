/* convo_ops_answers.c - the handlers of answers: ask, retry, watch, active, read, tail, stop.
 *
 * An answer that is live here is looked at here, any other one in the database. A reader may tell
 * of an answer that was live when it looked and has ended by now: then it looks once more.
 * Whatever a handler tells of a state has been committed before. Thread: the loop's. */
#include "convo.h"

/* Is this an unfinished answer that another convo-svc runs? */
static bool
is_elsewhere(const convo_t *self, const answer_row_t *row)
{
    return !answer_state_is_terminal(row->state) && row->owner != self->ctx->instance;
}

/* Answers a call with the state of an answer: its end, or the present and whatever comes. Of one that somebody else runs only
 * what is committed can be told: it is the last that comes from here, and names who knows more. `is_asked`: the call has asked
 * the question, which is committed. It is not refused any more, whoever has the answer by now: a client that was told of a
 * failure would ask the same once more. It is told what is committed, and watches. */
static void
show(convo_t *self, svc_call_t *call, const answer_row_t *row, bool is_asked)
{
    answer_t *answer = answers_by_stream(self->answers, row->stream);
    status_rep_t status = answer_status(row);
    svc_rc rc;

    if (!convo_holds_answers(self))
        answer = NULL;
    if (answer_state_is_terminal(row->state) ||
        (answer == NULL && (is_asked || is_elsewhere(self, row)))) {
        svc_call_finish(call, RC_OK, &status);
        return;
    }
    rc = answer == NULL ? RC_UNAVAILABLE : answers_watch(self->answers, answer, call);
    if (rc != RC_OK)
        svc_call_finish(call, rc, NULL);
}

/* --- ask, retry ------------------------------------------------------------------------------- */

static void
explain_ask(svc_call_t *call, svc_rc rc)
{
    const char *text = NULL;

    switch (rc) {
    case RC_ANSWERING: text = "The previous answer is still being written."; break;
    case RC_CONFLICT: text = "This stream belongs to another question."; break;
    case RC_KEY_REUSED: text = "This key belongs to another question."; break;
    case RC_NO_ANSWER: text = "Nothing was asked in this conversation yet."; break;
    case RC_TOO_BIG: text = "The conversation is too long."; break;
    default: break;
    }
    if (text != NULL)
        svc_call_explain(call, text, 0);
}

static void
on_question(convo_t *self, uint64_t tag, svc_rc rc, svc_str result, svc_metric metric)
{
    svc_call_t *call = svc_server_call(self->server, tag);
    answer_t *answer = NULL;
    char trace[PROTO_TRACE_BYTES];
    answer_row_t row;

    self->n_asking--;
    if (rc == RC_OK)
        rc = proto_decode(&answer_row_schema, result, self->arena, &row);
    if (rc != RC_OK) {
        if (call != NULL) {
            explain_ask(call, rc);
            svc_call_finish(call, rc, NULL);
        }
        return;
    }
    if (row.fresh) {
        svc_metrics_add(self->ctx->metrics, metric, 1);
        answer = answers_add(self->answers, &row, true);
    }
    if (call != NULL) {
        memcpy(trace, svc_call_trace(call).p, sizeof(trace));
        show(self, call, &row, true);
    }
    /* Committed, but by now others may have taken it over: we stood still, or the database did. A thawed process may have its lease
     * again before it hears of the commit. */
    if (answer != NULL && self->lease != NULL && !convo_lease_is_steady(self->lease))
        answer_begin_look(answer);
    else if (answer != NULL)
        answers_begin(self->answers, answer,
                      (svc_str){trace, call == NULL ? 0 : sizeof(trace)}, row.prompt);
}

static void
on_asked(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    on_question(arg, tag, rc, result, SVC_M_ANSWERS_STARTED);
}

static void
on_retried(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    on_question(arg, tag, rc, result, SVC_M_ANSWERS_RETRIED);
}

svc_rc
convo_commit_ask(convo_t *self, uint32_t kind, const svc_call_t *call, svc_str body)
{
    svc_rc rc;

    if (answers_count(self->answers) + self->n_asking >= ANSWERS_MAX)
        return RC_BUSY;
    rc = svc_pool_submit_until(self->writer, kind, body, svc_call_until(call),
                               kind == WRITE_ASK ? on_asked : on_retried, self,
                               svc_call_id(call));
    if (rc == RC_OK)
        self->n_asking++;
    return rc;
}

/* Commits a question or a retry, or holds it. */
static svc_rc
take_question(convo_t *self, uint32_t kind, svc_call_t *call, svc_str stream)
{
    svc_rc rc;

    if (self->is_draining)
        return RC_UNAVAILABLE;
    /* Nobody is there to begin an answer. One that is being written already is only joined. */
    if (!svc_peers_is_up(self->llm) && answers_by_stream(self->answers, stream) == NULL)
        return convo_hold_ask(self, kind, call);
    if (convo_is_away(self))
        return convo_hold_change(self, kind, call, NULL);
    rc = convo_commit_ask(self, kind, call, svc_call_body(call));
    return rc == RC_OK ? RC_LATER : rc;
}

svc_rc
convo_on_ask(void *arg, svc_call_t *call, const void *req, void *rep)
{
    (void)rep;
    svc_fault_at(((convo_t *)arg)->ctx->fault, FAULT_ASK_RECEIVED);
    return take_question(arg, WRITE_ASK, call, ((const ask_req_t *)req)->stream);
}

svc_rc
convo_on_retry(void *arg, svc_call_t *call, const void *req, void *rep)
{
    (void)rep;
    svc_fault_at(((convo_t *)arg)->ctx->fault, FAULT_RETRY_RECEIVED);
    return take_question(arg, WRITE_RETRY, call, ((const retry_req_t *)req)->stream);
}

/* --- watch, unwatch, active, read ------------------------------------------------------------- */

static void
on_status(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);
    answer_row_t row;

    if (call == NULL)
        return;
    if (rc == RC_OK)
        rc = proto_decode(&answer_row_schema, result, self->arena, &row);
    if (rc == RC_OK) {
        show(self, call, &row, false);
        return;
    }
    explain_ask(call, rc);
    svc_call_finish(call, rc, NULL);
}

/* The first look; the second one is taken as it is. */
static void
on_first_status(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_t *self = arg;
    watch_req_t again = {0};
    answer_row_t row;
    svc_buf_t body;

    if (rc != RC_OK ||
        proto_decode(&answer_row_schema, result, self->arena, &row) != RC_OK ||
        answer_state_is_terminal(row.state) || is_elsewhere(self, &row) ||
        answers_by_stream(self->answers, row.stream) != NULL) {
        on_status(arg, tag, rc, result);
        return;
    }
    again.user = row.user;
    again.conversation = row.conversation;
    again.stream = row.stream;
    svc_buf_init(&body, 256);
    rc = proto_encode(&watch_req_schema, &again, &body);
    if (rc == RC_OK)
        rc = svc_pool_submit(self->reader, READ_STATUS, svc_buf_str(&body), on_status,
                             self, tag);
    svc_buf_fini(&body);
    if (rc != RC_OK)
        on_status(arg, tag, rc, (svc_str){NULL, 0});
}

svc_rc
convo_on_watch(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    convo_t *self = arg;
    const watch_req_t *req = arg_req;
    answer_t *answer;
    svc_rc rc;

    (void)rep;
    if (req->stream.n > 0)
        answer = answers_by_stream(self->answers, req->stream);
    else
        answer = answers_by_conversation(self->answers, req->conversation);
    if (answer == NULL || !convo_holds_answers(self) ||
        answers_is_doubted(self->answers, answer))
        return convo_pass_on(self, self->reader, READ_STATUS, call, on_first_status);
    if (answer_user(answer) != req->user ||
        answer_conversation(answer) != req->conversation)
        return RC_NOT_FOUND;
    rc = answers_watch(self->answers, answer, call);
    return rc == RC_OK ? RC_LATER : rc;
}

svc_rc
convo_on_unwatch(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    convo_t *self = arg;
    const unwatch_req_t *req = arg_req;
    answer_t *answer = answers_by_stream(self->answers, req->stream);

    (void)rep;
    if (answer != NULL)
        answers_unwatch(self->answers, answer, call);
    return RC_OK;
}

svc_rc
convo_on_active(void *arg, svc_call_t *call, const void *req, void *rep)
{
    convo_t *self = arg;

    (void)req;
    (void)rep;
    return convo_pass_on(self, self->reader, READ_ACTIVE, call, convo_on_answered);
}

svc_rc
convo_on_read(void *arg, svc_call_t *call, const void *req, void *rep)
{
    convo_t *self = arg;

    (void)req;
    (void)rep;
    return convo_pass_on(self, self->reader, READ_TEXT, call, convo_on_answered);
}

/* --- tail, stop ------------------------------------------------------------------------------- */

svc_rc
convo_on_tail(void *arg, svc_call_t *call, const void *arg_req, void *rep)
{
    convo_t *self = arg;
    const tail_req_t *req = arg_req;
    answer_t *answer = answers_by_stream(self->answers, req->stream);

    (void)call;
    (void)rep;
    return answer == NULL ? RC_NOT_FOUND : answer_tail(answer, req);
}

static void
on_stopped(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    convo_t *self = arg;
    svc_call_t *call = svc_server_call(self->server, tag);
    answer_t *answer = NULL;
    status_rep_t status;
    answer_row_t row;

    if (rc == RC_OK)
        rc = proto_decode(&answer_row_schema, result, self->arena, &row);
    if (rc == RC_OK)
        answer = answers_by_stream(self->answers, row.stream);
    if (answer != NULL && call != NULL) {
        rc = answers_watch_end(self->answers, answer, call);
        if (rc == RC_OK)
            call = NULL; /* the answer finishes it */
    }
    if (answer != NULL)
        answers_stop(self->answers, answer);
    if (call == NULL)
        return;
    if (rc == RC_OK)
        status = answer_status(&row);
    else
        explain_ask(call, rc);
    svc_call_finish(call, rc, rc == RC_OK ? &status : NULL);
}

svc_rc
convo_on_stop(void *arg, svc_call_t *call, const void *req, void *rep)
{
    convo_t *self = arg;

    (void)req;
    (void)rep;
    svc_fault_at(self->ctx->fault, FAULT_STOP_RECEIVED);
    return convo_pass_on(self, self->writer, WRITE_STOP, call, on_stopped);
}
