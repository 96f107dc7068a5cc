/* svc_log.c - structured logs: builds a line on the stack and writes it with one write(2).
 *
 * A line is at most 4 KiB (PIPE_BUF), the largest write that the kernel never mixes with those
 * of other processes on the same pipe. What does not fit is cut inside the values, so a JSON line
 * stays valid JSON. Bytes that are not UTF-8 become '?', control characters are escaped: no value
 * can forge a second line or colour a terminal. */
#include "svc_log.h"
#include "svc_config.h"
#include "svc_text.h"

#include "proto/proto.h"
#include "proto/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define EVENT_MAX_BYTES 2048
#define LINE_MAX_BYTES  4096
#define TAIL_BYTES      256 /* kept free of values, for what must close the line */

struct svc_log {
    const char *service; /* borrowed; stands in each line */
    int fd;              /* borrowed */
    int format;          /* svc_log_format */
    svc_log_level level; /* events below it are swallowed */
};

typedef struct {
    char bytes[LINE_MAX_BYTES]; /* the line so far */
    size_t n;                   /* bytes of it */
} line_t;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

svc_log_t *
svc_log_new(int fd, const char *service, int format, svc_log_level level)
{
    svc_log_t *self = svc_alloc(sizeof(*self));

    self->service = service;
    self->fd = fd;
    self->format = format;
    self->level = level;
    return self;
}

void
svc_log_destroy(svc_log_t **self_p)
{
    if (self_p == NULL || *self_p == NULL)
        return;
    free(*self_p);
    *self_p = NULL;
}

/* --- building a line --------------------------------------------------------------------- */

/* Appends as it is, or not at all. */
static void
add(line_t *line, const char *text, size_t n)
{
    if (n > sizeof(line->bytes) - line->n)
        return;
    memcpy(line->bytes + line->n, text, n);
    line->n += n;
}

static void
add_c(line_t *line, const char *text)
{
    add(line, text, strlen(text));
}

/* How one byte that is not the beginning of a harmless character is written; gives its length. */
static size_t
spell(unsigned char c, bool json, char out[8])
{
    const char *letters = "\"\"\\\\\bb\ff\nn\rr\tt"; /* byte and letter by turns */

    for (const char *p = letters; *p != '\0'; p += 2)
        if (c == (unsigned char)*p) {
            out[0] = '\\';
            out[1] = p[1];
            return 2;
        }
    if (c >= 0x80) {
        out[0] = '?';
        return 1;
    }
    return (size_t)snprintf(out, 8, json ? "\\u%04x" : "\\x%02x", c);
}

/* Appends a value, escaped. In text lines only control characters and, inside quotes, quote and backslash are. */
static void
add_value(line_t *line, svc_str text, bool json, bool quoted)
{
    for (size_t i = 0; i < text.n && line->n < sizeof(line->bytes) - TAIL_BYTES;) {
        unsigned char c = (unsigned char)text.p[i];
        size_t whole = c < 0x80
                           ? 1
                           : svc_utf8_valid(text.p + i, text.n - i < 4 ? text.n - i : 4);
        bool plain = c >= 0x20 && c != 0x7f && (c < 0x80 || whole > 0) &&
                     !(quoted && (c == '"' || c == '\\'));
        char out[8];

        if (plain &&
            c >=
                0x80) /* of the up to four bytes that were checked, the first character */
            for (whole = 1;
                 i + whole < text.n && ((unsigned char)text.p[i + whole] & 0xc0) == 0x80;)
                whole++;
        if (plain) {
            add(line, text.p + i, whole);
            i += whole;
        } else {
            size_t n = spell(c, json, out);

            add(line, out, n);
            i++;
        }
    }
}

/* Appends ` key=value` or `,"key":"value"`. */
static void
add_pair(const svc_log_t *self, line_t *line, const char *key, svc_str value)
{
    bool json = self->format == SVC_LOG_JSON;
    bool quoted = json;

    for (size_t i = 0; i < value.n && !quoted; i++)
        quoted = strchr(" =\"\\", value.p[i]) != NULL;
    add_c(line, json ? ",\"" : " ");
    add_c(line, key);
    add_c(line, json ? "\":" : "=");
    add_c(line, quoted ? "\"" : "");
    add_value(line, value, json, quoted);
    add_c(line, quoted ? "\"" : "");
}

/* Begins a line: when, how bad, who, what. */
static void
begin(const svc_log_t *self, line_t *line, svc_log_level level, svc_str what)
{
    char head[256];
    struct timespec now = {0, 0};
    struct tm tm;
    char when[32];
    bool json = self->format == SVC_LOG_JSON;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(head, sizeof(head),
                   json ? "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"service\":\"%s\","
                          "\"message\":\""
                        : "%s.%03dZ %-5s %s ",
                   when, (int)(now.tv_nsec / 1000000), level_names[level], self->service);
    line->n = 0;
    add_c(line, head);
    add_value(line, what, json, json);
    add_c(line, json ? "\"" : "");
}

/* Ends the line and writes it. A log that cannot be written has nowhere to say so. */
static void
finish(const svc_log_t *self, line_t *line)
{
    ssize_t n;

    add_c(line, self->format == SVC_LOG_JSON ? "}\n" : "\n");
    do
        n = write(self->fd, line->bytes, line->n);
    while (n < 0 && errno == EINTR);
}

/* --- what callers see -------------------------------------------------------------------- */

void
svc_log_event(svc_log_t *self, svc_log_level level, const char *fmt, ...)
{
    char text[EVENT_MAX_BYTES + 1];
    line_t line;
    va_list args;
    int n;

    if (self == NULL || level < self->level)
        return;
    va_start(args, fmt);
    n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0)
        return;
    begin(self, &line, level, svc_str_c(text));
    finish(self, &line);
}

void
svc_log_request(svc_log_t *self, const svc_log_request_t *request)
{
    char trace[2 * PROTO_TRACE_BYTES + 1] = "";
    char us[32];
    line_t line;

    if (self == NULL || self->level > SVC_LOG_INFO)
        return;
    if (request->trace.n == PROTO_TRACE_BYTES)
        svc_hex(request->trace.p, request->trace.n, trace);
    begin(self, &line, SVC_LOG_INFO, SVC_LIT("request"));
    add_pair(self, &line, "trace", svc_str_c(trace));
    add_pair(self, &line, "op", svc_str_c(request->op));
    add_pair(self, &line, "status", svc_str_c(request->status));
    (void)snprintf(us, sizeof(us),
                   self->format == SVC_LOG_JSON ? ",\"us\":%" PRIu64 : " us=%" PRIu64,
                   request->us);
    add_c(&line, us);
    if (request->peer != NULL)
        add_pair(self, &line, "peer", svc_str_c(request->peer));
    finish(self, &line);
}
