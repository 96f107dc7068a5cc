/* fuzz_request.c - everything of a request that is parsed by our own code: path, headers, body.
 *
 * links: gateway
 *
 * The input is "METHOD path", Accept, Accept-Language and X-Forwarded-For, one a line, and the body
 * behind them. What is taken must be within its bounds and valid UTF-8. */
#include "gateway/client_addr.h"
#include "gateway/json_in.h"
#include "gateway/routes.h"
#include "gateway/sse_stream.h"
#include "proto/utf8.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Cuts the first line off. */
static svc_str
take_line(svc_str *rest)
{
    const char *end = rest->n > 0 ? memchr(rest->p, '\n', rest->n) : NULL;
    svc_str line = {rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
    size_t used = end != NULL ? line.n + 1 : line.n;

    *rest = (svc_str){rest->p + used, rest->n - used};
    return line;
}

static void
try_route(svc_str line)
{
    char method[16] = "";
    size_t space = 0;
    route_match_t match;

    while (space < line.n && space < sizeof method - 1 && line.p[space] != ' ') {
        method[space] = line.p[space];
        space++;
    }
    svc_str path = {line.p + space, line.n - space};
    if (path.n > 0)
        path = (svc_str){path.p + 1, path.n - 1};
    routes_match(method, path, &match);
    SVC_ASSERT(match.route == NULL || match.path_known);
    SVC_ASSERT(match.id.n <= path.n && strlen(match.allow) < sizeof match.allow);
}

static void
try_forwarded(svc_str line)
{
    char *cidrs[] = {(char *)(uintptr_t) "10.0.0.0/8", (char *)(uintptr_t) "::1"};
    svc_strings_t list = {cidrs, 2};
    char *error = NULL;
    client_trust_t *trust = client_trust_new(&list, &error);
    client_addr_t peer = {{[10] = 0xff, [11] = 0xff, [12] = 10}};
    char text[CLIENT_ADDR_TEXT_BYTES];

    client_addr_t client = client_addr_behind(trust, &peer, line);
    client_addr_text(&client, text);
    SVC_ASSERT(text[0] != '\0');
    client_trust_destroy(&trust);
}

static void
try_body(svc_str body)
{
    svc_str message = {NULL, 0};
    svc_str title = {NULL, 0};
    json_in_error_t error = {TEXT_COUNT, NULL};
    const json_in_key_t keys[] = {{"message", true, true, 64, &message},
                                  {"title", false, false, 8, &title}};
    json_in_t *json = json_in_parse(body, &error);

    if (json == NULL || !json_in_read(json, keys, SVC_COUNT(keys), &error)) {
        SVC_ASSERT(error.text < TEXT_COUNT);
    } else {
        SVC_ASSERT(message.n > 0 && message.n <= 64 && title.n <= 8);
        SVC_ASSERT(svc_utf8_valid(message.p, message.n) == message.n);
    }
    json_in_destroy(&json);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    svc_str rest = {(const char *)bytes, n};

    try_route(take_line(&rest));
    sse_framing framing = sse_framing_of(take_line(&rest), SSE_FRAMING_BARE);
    SVC_ASSERT(sse_framing_type(framing) != NULL);
    SVC_ASSERT(text_language_of(take_line(&rest)) < TEXT_LANGUAGES);
    try_forwarded(take_line(&rest));
    try_body(rest);
    return 0;
}
