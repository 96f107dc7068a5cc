/* rest_chat.c - a question, or the last one once more, and the stream of its answer.
 *
 * The question goes to convo-svc through the feed hub, and the request becomes a viewer of
 * the answer's feed (rest_viewer.h). With an Idempotency-Key it may join an answer that
 * was begun before; convo-svc knows. A body is optional for a retry. */
#include "rest.h"
#include "rest_viewer.h"

bool
rest_read_key(request_t *self, idem_purpose purpose, uint8_t bytes[IDEM_KEY_BYTES],
              svc_str *key)
{
    svc_str text = request_header(self, "Idempotency-Key");

    *key = (svc_str){NULL, 0};
    if (text.p == NULL)
        return true;
    if (request_repeats_header(self, "Idempotency-Key")) {
        request_refuse_input(self, RC_INVALID, TEXT_TWO_KEYS, NULL);
        return false;
    }
    if (!idem_key_make(text, purpose, bytes)) {
        request_refuse_input(self, RC_INVALID, TEXT_BAD_KEY, NULL);
        return false;
    }
    *key = (svc_str){(const char *)bytes, IDEM_KEY_BYTES};
    return true;
}

/* Reads "on_disconnect". False: the request was refused. */
static bool
read_choice(request_t *self, svc_str choice, bool *stop_alone)
{
    *stop_alone = svc_str_eq(choice, SVC_LIT("stop"));
    if (*stop_alone || choice.p == NULL || svc_str_eq(choice, SVC_LIT("continue")))
        return true;
    request_refuse_input(self, RC_INVALID, TEXT_BAD_CHOICE, NULL);
    return false;
}

/* Asks, and lets the request wait for the answer. */
static void
begin(request_t *request, const live_question_t *question)
{
    reactor_t *reactor = request_reactor(request);
    rest_viewer_t *viewer = rest_viewer_new(request);
    live_subject_t who = {.user = request_user(request),
                          .conversation = request_id(request)};

    memcpy(who.trace, request_trace(request).p, PROTO_TRACE_BYTES);
    svc_rc rc = feed_hub_ask(reactor->hub, &who, question, rest_viewer_live(viewer));
    if (rc != RC_OK) {
        request_refuse(request, rc, (svc_str){NULL, 0}, 0);
        return;
    }
    svc_metrics_add(reactor->ctx.metrics, SVC_M_VIEWERS, 1);
    rest_viewer_await(viewer);
}

void
rest_chat(request_t *request)
{
    live_question_t question = {.is_retry = false};
    uint8_t key[IDEM_KEY_BYTES];
    svc_str choice = {NULL, 0};
    const json_in_key_t keys[] = {
        {"message", true, true, PROTO_QUESTION_MAX_BYTES, &question.text},
        {"on_disconnect", false, false, SIZE_MAX, &choice},
    };
    json_in_t *json = rest_read_body(request, keys, SVC_COUNT(keys));

    if (json != NULL && read_choice(request, choice, &question.stop_alone) &&
        rest_read_key(request, IDEM_CHAT, key, &question.key))
        begin(request, &question);
    json_in_destroy(&json);
}

void
rest_retry(request_t *request)
{
    live_question_t question = {.is_retry = true};
    uint8_t key[IDEM_KEY_BYTES];
    svc_str choice = {NULL, 0};
    const json_in_key_t keys[] = {{"on_disconnect", false, false, SIZE_MAX, &choice}};
    bool has_body = request_body(request).n > 0;
    json_in_t *json = has_body ? rest_read_body(request, keys, SVC_COUNT(keys)) : NULL;

    if ((!has_body || json != NULL) &&
        read_choice(request, choice, &question.stop_alone) &&
        rest_read_key(request, IDEM_RETRY, key, &question.key))
        begin(request, &question);
    json_in_destroy(&json);
}
