/* fuzz_import_body.c - any bytes as a conversation of the original backend, as its Redis may hold them.
 *
 * links: convo-svc
 *
 * The first four bytes are the id that is asked for. What is taken keeps every bound that the store and the prompt rely on,
 * counts right, and no view of it leaves the object. */
#include "convo-svc/import_body.h"

#include "proto/utf8.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void
check_text(svc_str text, size_t max)
{
    SVC_ASSERT(text.n <= max);
    SVC_ASSERT(svc_utf8_valid(text.p, text.n) == text.n);
}

static void
check(const import_body_t *body)
{
    size_t unanswered = 0;

    check_text(body->model, PROTO_MODEL_MAX_BYTES);
    check_text(body->api_key, PROTO_API_KEY_MAX_BYTES);
    check_text(body->title, IMPORT_BODY_MAX_BYTES);
    check_text(body->system_prompt, IMPORT_BODY_MAX_BYTES);
    SVC_ASSERT(body->model.n > 0 && body->n <= IMPORT_TURNS_MAX);
    for (size_t i = 0; i < body->n; i++) {
        check_text(body->turns[i].question, PROTO_QUESTION_MAX_BYTES);
        check_text(body->turns[i].answer, PROTO_ANSWER_MAX_BYTES);
        unanswered += body->turns[i].answer.n == 0;
    }
    SVC_ASSERT(unanswered == body->unanswered);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    import_body_t body;
    uint32_t id;
    char *copy; /* of the exact size: a read past it is seen */

    if (n < sizeof(id))
        return 0;
    memcpy(&id, bytes, sizeof(id));
    n -= sizeof(id);
    copy = malloc(n > 0 ? n : 1);
    SVC_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, bytes + sizeof(id), n);
    (void)import_id((svc_str){copy, n});
    if (import_body_parse(&body, (svc_str){copy, n}, id) == NULL)
        check(&body);
    import_body_fini(&body);
    free(copy);
    return 0;
}
