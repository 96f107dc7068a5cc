/* response.c - making libmicrohttpd's responses: JSON, errors, streams, and the headers that all of them carry.
 *
 * A response is made whole and then never changed, but for a header that a
 * caller adds. Every answer to a browser needs the CORS headers, errors above
 * all, or the page cannot even read why. Tokens travel in a header and never in
 * a cookie, so no credentials are allowed. */
#include "response.h"
#include "svc/svc_text.h"

#include <inttypes.h>
#include <stdio.h>

#define ERROR_MAX_BYTES    (16u << 10)
#define STREAM_BLOCK_BYTES 1024 /* what an HTTP/1.0 client is written at once */
#define CHUNKED_BLOCK_BYTES \
    16 /* libmicrohttpd allocates it for each stream and does not use it for chunked ones */
#define ALLOWED_HEADERS \
    "Authorization, Content-Type, Accept, Accept-Language, Last-Event-ID, Idempotency-Key, X-Request-Id, traceparent, tracestate"

void
response_header(struct MHD_Response *response, const char *name, const char *value)
{
    (void)MHD_add_response_header(response, name, value);
}

/* The value of Access-Control-Allow-Origin; NULL: this origin is not allowed. */
static const char *
allowed_origin(const response_context_t *context)
{
    const svc_strings_t *origins = &context->config->server_cors_origins;

    for (size_t i = 0; i < origins->n; i++) {
        if (strcmp(origins->items[i], "*") == 0)
            return "*";
        if (context->origin != NULL && strcmp(origins->items[i], context->origin) == 0)
            return context->origin;
    }
    return NULL;
}

static void
add_common(struct MHD_Response *response, const response_context_t *context)
{
    const char *origin = allowed_origin(context);

    if (origin != NULL) {
        response_header(response, "Access-Control-Allow-Origin", origin);
        response_header(response, "Access-Control-Expose-Headers",
                        "Retry-After, Stream-Id, X-Request-Id");
    }
    if (origin == NULL || strcmp(origin, "*") != 0)
        response_header(response, "Vary", "Origin");
    if (context->request_id != NULL)
        response_header(response, "X-Request-Id", context->request_id);
    if (context->closes)
        response_header(response, "Connection", "close");
}

static void
add_stream_headers(struct MHD_Response *response, const char *type)
{
    response_header(response, "Content-Type", type);
    response_header(response, "Cache-Control", "no-cache");
    response_header(response, "X-Accel-Buffering", "no");
}

struct MHD_Response *
response_json(const response_context_t *context, svc_str json)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        json.n, (void *)(uintptr_t)json.p, MHD_RESPMEM_MUST_COPY);

    if (response == NULL)
        return NULL;
    response_header(response, "Content-Type", "application/json; charset=utf-8");
    response_header(response, "X-Content-Type-Options", "nosniff");
    add_common(response, context);
    return response;
}

/* Gives the JSON of an error around a sentence (taken). `challenge`: what a 401 asks for. */
static struct MHD_Response *
make_error(const response_context_t *context, svc_rc rc, svc_buf_t *sentence,
           const char *challenge)
{
    const char *wire = svc_rc_info(rc)->wire;
    svc_buf_t json;
    struct MHD_Response *response = NULL;

    svc_buf_init(&json, ERROR_MAX_BYTES);
    if (svc_buf_add_str(&json, SVC_LIT("{\"error\":")) == RC_OK &&
        svc_json_string(&json, svc_buf_str(sentence)) == RC_OK &&
        svc_buf_printf(&json, ",\"code\":\"%s\"}", wire) == RC_OK)
        response = response_json(context, svc_buf_str(&json));
    svc_buf_fini(&json);
    svc_buf_fini(sentence);
    if (response != NULL && svc_rc_info(rc)->http == MHD_HTTP_UNAUTHORIZED)
        response_header(response, "WWW-Authenticate", challenge);
    return response;
}

struct MHD_Response *
response_error(const response_context_t *context, svc_rc rc, svc_str told,
               uint64_t retry_after_s)
{
    svc_buf_t sentence;
    char seconds[24];

    svc_buf_init(&sentence, ERROR_MAX_BYTES / 2);
    if (text_add_rc(&sentence, context->language, rc, told,
                    context->config->auth_password_min) != RC_OK)
        svc_buf_clear(&sentence);
    const char *challenge = rc == RC_UNAUTHORIZED ? "Bearer error=\"invalid_token\""
                                                  : "Bearer";
    struct MHD_Response *response = make_error(context, rc, &sentence, challenge);
    /* a provider that was too late took minutes: whether to pay for another is the client's to say */
    if (retry_after_s == 0 &&
        (svc_rc_info(rc)->http == MHD_HTTP_SERVICE_UNAVAILABLE || rc == RC_TIMEOUT))
        retry_after_s = 1;
    snprintf(seconds, sizeof seconds, "%" PRIu64, retry_after_s);
    if (response != NULL && retry_after_s > 0)
        response_header(response, "Retry-After", seconds);
    return response;
}

struct MHD_Response *
response_error_event(const response_context_t *context, svc_rc rc, svc_str told,
                     uint64_t retry_after_s)
{
    uint64_t retry_ms = 1000 *
                        (retry_after_s > 0 && retry_after_s < 3600 ? retry_after_s : 1);
    struct MHD_Response *response = NULL;
    svc_buf_t sentence, event;

    svc_buf_init(&sentence, ERROR_MAX_BYTES / 2);
    svc_buf_init(&event, ERROR_MAX_BYTES);
    if (text_add_rc(&sentence, context->language, rc, told, 0) == RC_OK &&
        svc_buf_printf(&event,
                       "retry: %" PRIu64
                       "\nevent: error\ndata: {\"event\":\"error\",\"data\":",
                       retry_ms) == RC_OK &&
        svc_json_string(&event, svc_buf_str(&sentence)) == RC_OK &&
        svc_buf_printf(&event, ",\"code\":\"%s\"}\n\n", svc_rc_info(rc)->wire) == RC_OK)
        response = MHD_create_response_from_buffer(event.n, event.p,
                                                   MHD_RESPMEM_MUST_COPY);
    svc_buf_fini(&event);
    svc_buf_fini(&sentence);
    if (response != NULL) {
        add_stream_headers(response, "text/event-stream");
        add_common(response, context);
    }
    return response;
}

struct MHD_Response *
response_input_error(const response_context_t *context, svc_rc rc, text_id text,
                     const char *arg)
{
    svc_buf_t sentence;

    svc_buf_init(&sentence, ERROR_MAX_BYTES / 2);
    if (text_add(&sentence, context->language, text, arg) != RC_OK)
        svc_buf_clear(&sentence);
    return make_error(context, rc, &sentence, "Bearer");
}

struct MHD_Response *
response_stream(const response_context_t *context, const char *type, bool is_events,
                MHD_ContentReaderCallback read, void *arg)
{
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, context->is_chunked ? CHUNKED_BLOCK_BYTES : STREAM_BLOCK_BYTES,
        read, arg, NULL);

    if (response == NULL)
        return NULL;
    if (is_events)
        add_stream_headers(response, type);
    else
        response_header(response, "Content-Type", type);
    add_common(response, context);
    return response;
}

struct MHD_Response *
response_nothing(const response_context_t *context)
{
    static char nothing[1];
    struct MHD_Response *response = MHD_create_response_from_buffer(
        0, nothing, MHD_RESPMEM_PERSISTENT);

    if (response != NULL)
        add_common(response, context);
    return response;
}

struct MHD_Response *
response_options(const response_context_t *context, const char *allow)
{
    struct MHD_Response *response = response_nothing(context);

    if (response == NULL)
        return NULL;
    response_header(response, "Allow", allow);
    response_header(response, "Access-Control-Allow-Methods", allow);
    response_header(response, "Access-Control-Allow-Headers", ALLOWED_HEADERS);
    response_header(response, "Access-Control-Max-Age", "86400");
    return response;
}
