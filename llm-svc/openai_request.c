/* openai_request.c - writes the request body straight into a buffer: no tree in between.
 *
 * All texts are UTF-8 already (the codec has checked them), so escaping is all there is
 * to do. The wish for usage stands last, so that it can be cut off a body that has been
 * refused without keeping a second copy of a prompt of up to 32 MB. */
#include "openai_request.h"

#include "svc/svc_text.h"

static const char usage_tail[] = ",\"stream_options\":{\"include_usage\":true}}";

static svc_rc
put(svc_buf_t *out, const char *text)
{
    return svc_buf_add_str(out, svc_str_c(text));
}

static svc_rc
write_message(const prompt_message_t *message, bool is_first, svc_buf_t *out)
{
    svc_rc rc = put(out, is_first ? "{\"role\":\"" : ",{\"role\":\"");

    if (rc == RC_OK)
        rc = put(out, message_role_names[message->role]);
    if (rc == RC_OK)
        rc = put(out, "\",\"content\":");
    if (rc == RC_OK)
        rc = svc_json_string(out, message->text);
    if (rc == RC_OK)
        rc = put(out, "}");
    return rc;
}

svc_rc
openai_request_write(const generate_req_t *req, svc_buf_t *out)
{
    const prompt_message_t *messages = req->messages.items;
    svc_rc rc = put(out, "{\"model\":");

    if (rc == RC_OK)
        rc = svc_json_string(out, req->model);
    if (rc == RC_OK)
        rc = put(out, ",\"messages\":[");
    for (size_t i = 0; i < req->messages.n && rc == RC_OK; i++)
        rc = write_message(&messages[i], i == 0, out);
    if (rc == RC_OK)
        rc = put(out, "],\"stream\":true");
    if (rc == RC_OK)
        rc = put(out, usage_tail);
    return rc;
}

bool
openai_request_drop_usage(svc_buf_t *body)
{
    size_t n = sizeof(usage_tail) - 1;

    if (body->n < n || memcmp(body->p + body->n - n, usage_tail, n) != 0)
        return false;
    body->n -= n - 1;
    body->p[body->n - 1] = '}';
    return true;
}
