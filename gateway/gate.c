/* gate.c - what the first bytes of a request say, before anybody serves it.
 *
 * Only line ends are counted while the headers come in; what they say is looked at once,
 * when they are complete. All else that a request can get wrong is told by request.c, which
 * knows its language and its origin. */
#include "gate.h"

#include <stdio.h>
#include <strings.h>

#define LENGTH_MAX_DIGITS 18 /* fits 64 bits with ease */

/* True for what ends a line, or the value, for some who read it: a CR alone, or a NUL. */
static bool
has_odd_bytes(const char *at, const char *end)
{
    const char *cr = memchr(at, '\r', (size_t)(end - at));

    return (cr != NULL && cr + 1 < end) || memchr(at, '\0', (size_t)(end - at)) != NULL;
}

/* "METHOD target HTTP/1.1": on anything else libmicrohttpd waits for more until the
 * time is over, or answers another version with a page of its own. */
static bool
is_request_line(const char *bytes, size_t line)
{
    size_t at = 0;

    while (at < line && bytes[at] >= 'A' && bytes[at] <= 'Z')
        at++;
    if (at == 0 || at >= line || bytes[at] != ' ')
        return false;
    const char *target = bytes + at + 1;
    const char *end = bytes[line - 1] == '\r' ? bytes + line - 1 : bytes + line;
    const char *space = memchr(target, ' ', line - at - 1);
    return space != NULL && space > target && end - space == 9 &&
           memcmp(space, " HTTP/1.", 8) == 0 && space[8] >= '0' && space[8] <= '9' &&
           !has_odd_bytes(target, end);
}

/* True when a request line may begin so. */
static bool
begins_request_line(const char *bytes, size_t n)
{
    size_t at = 0;

    while (at < n && bytes[at] >= 'A' && bytes[at] <= 'Z')
        at++;
    return at > 0 && (at == n || bytes[at] == ' ');
}

/* True for the value (and line end) of a Content-Length that a body can have: libmicrohttpd's own answer to another
 * is a page of HTML with two heads. */
static bool
is_length(const char *at, const char *end)
{
    size_t digits = 0;

    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (at + digits < end && at[digits] >= '0' && at[digits] <= '9')
        digits++;
    at += digits;
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
        at++;
    return digits > 0 && digits <= LENGTH_MAX_DIGITS && at == end;
}

/* Judges the lines behind the first one. A name with a blank behind it, or a value that goes on in the next line, is
 * read in one way by us and in another by a proxy: the standard wants both refused. */
static gate_verdict
judge_lines(const char *bytes, size_t n)
{
    static const char length[] = "content-length";
    const char *line = memchr(bytes, '\n', n), *end = bytes + n, *next;

    for (line++; line < end && (next = memchr(line, '\n', (size_t)(end - line))) != NULL;
         line = next + 1) {
        if (line == next || (line + 1 == next && *line == '\r'))
            break;
        const char *colon = line;
        while (colon<next && * colon> ' ' && *colon < 0x7f && *colon != ':')
            colon++;
        if (colon == line || *colon != ':' || has_odd_bytes(colon, next))
            return GATE_BAD_HEADER;
        if ((size_t)(colon - line) == sizeof length - 1 &&
            strncasecmp(line, length, sizeof length - 1) == 0 &&
            !is_length(colon + 1, next))
            return GATE_BAD_LENGTH;
    }
    return GATE_PASS;
}

/* Bytes of line ends before the request: some clients end a body with one. */
static size_t
count_line_ends(const char *bytes, size_t n)
{
    size_t at = 0;

    while (at < n && (bytes[at] == '\r' || bytes[at] == '\n'))
        at++;
    return at;
}

/* Arguments behind the first in the query of a request line. */
static size_t
count_more_arguments(const char *line, size_t n)
{
    size_t count = 0;

    for (const char *at = memchr(line, '?', n);
         at != NULL && (at = memchr(at, '&', (size_t)(line + n - at))) != NULL; at++)
        count++;
    return count;
}

gate_verdict
gate_judge(gate_t *self, const char *bytes, size_t n)
{
    size_t begin = count_line_ends(bytes, n);

    if (self->is_later && !begins_request_line(bytes + begin, n - begin))
        return GATE_NO_HTTP;
    for (size_t i = self->seen > begin ? self->seen : begin; i < n; i++) {
        if (bytes[i] != '\n')
            continue;
        if ((i >= 1 && bytes[i - 1] == '\n') ||
            (i >= 2 && bytes[i - 1] == '\r' && bytes[i - 2] == '\n'))
            return self->lines > GATE_HEADER_LINES_MAX
                       ? GATE_TOO_BIG
                       : judge_lines(bytes + begin, i + 1 - begin);
        if (self->lines++ == 0 && !is_request_line(bytes + begin, i - begin))
            return GATE_NO_HTTP;
        if (self->lines == 1)
            self->lines += count_more_arguments(bytes + begin, i - begin);
    }
    self->seen = n;
    return n >= GATE_HEADERS_MAX_BYTES ? GATE_TOO_BIG : GATE_MORE;
}

size_t
gate_refusal(gate_verdict why, const char *id, char out[GATE_REFUSAL_BYTES])
{
    // clang-format off
    static const struct { svc_rc rc; const char *reason, *sentence; } words[] = {
        [GATE_NO_HTTP]    = {RC_INVALID,         "Bad Request",                     "This is no HTTP request"},
        [GATE_BAD_HEADER] = {RC_INVALID,         "Bad Request",                     "A header line must be a name without blanks, a colon and a value"},
        [GATE_TOO_BIG]    = {RC_HEADERS_TOO_BIG, "Request Header Fields Too Large", "The request headers are too large"},
        [GATE_BAD_LENGTH] = {RC_INVALID,         "Bad Request",                     "The Content-Length is no length"},
        [GATE_FULL]       = {RC_BUSY,            "Service Unavailable",             "Too many connections, try again"},
        [GATE_PLAIN]      = {RC_INVALID,         "Bad Request",                     "This port speaks TLS only: use https"},
    };
    // clang-format on
    const svc_rc_info_t *info = svc_rc_info(words[why].rc);
    char body[256];
    int n_body = snprintf(body, sizeof body, "{\"error\":\"%s\",\"code\":\"%s\"}",
                          words[why].sentence, info->wire);

    return (size_t)snprintf(
        out, GATE_REFUSAL_BYTES,
        "HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=utf-8\r\n"
        "Content-Length: %d\r\n%s%s%s%sConnection: close\r\n\r\n%s",
        info->http, words[why].reason, n_body,
        info->http == 503 ? "Retry-After: 1\r\n" : "",
        id[0] != '\0' ? "X-Request-Id: " : "", id, id[0] != '\0' ? "\r\n" : "", body);
}
