/* svc_log.c - structured logs: builds a line on the stack, and writes it at once or with others.
 *
 * A line is at most 4 KiB (PIPE_BUF), the largest write that the kernel never mixes with those
 * of other processes on the same pipe; so are the lines of requests that are written together. To a regular file, where
 * the kernel mixes no two writes of whatever length, go more of them at a time. What does not fit is cut inside the values, so a JSON line
 * stays valid JSON. Bytes that are not UTF-8 become '?', control characters are escaped: no value
 * can forge a second line or colour a terminal.
 *
 * With 60,000 lines/s each part counts: the head of a line is kept for its millisecond, what a byte of a value needs is
 * looked up, and literals are copied without a call. */
#include "svc_log.h"
#include "svc_config.h"
#include "svc_text.h"
#include "svc_time.h"

#include "proto/proto.h"
#include "proto/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENT_MAX_BYTES 2048
#define LINE_MAX_BYTES  PIPE_BUF
#define TAIL_BYTES      256 /* kept free of values, for what must close the line */
#define HEAD_MAX_BYTES  128 /* a longer one, of a long name, is made for each line */

struct svc_log {
    svc_str service; /* borrowed; stands in each line */
    int fd;          /* borrowed */
    int format;      /* svc_log_format */
    uint64_t serial; /* of this log, never used again */
    size_t room; /* bytes of lines that may go out in one write; 0: each goes at once */
    atomic_int level; /* svc_log_level: events below it are swallowed */
};

typedef struct {
    char bytes[LINE_MAX_BYTES]; /* the line so far */
    size_t n;                   /* bytes of it */
} line_t;

/* Everything before the sentence, as this thread's last line began. */
typedef struct {
    uint64_t serial; /* of its log; 0: there was none */
    uint64_t ms;     /* when */
    svc_log_level level;
    size_t n;                   /* bytes of it */
    char bytes[HEAD_MAX_BYTES]; /* `time level service ` */
} head_t;

static _Thread_local head_t kept_head;

static _Thread_local svc_log_gather_t
    *gathered; /* NULL: this thread's lines are written one by one */

static const svc_str level_names[] = {SVC_LIT("debug"), SVC_LIT("info"), SVC_LIT("warn"),
                                      SVC_LIT("error")};

/* What a byte of a value needs: */
enum {
    SPELT = 1,   /* cannot go as it is: control characters, and what is not ASCII */
    ESCAPED = 2, /* nor inside quotes */
    QUOTED = 4,  /* makes a value of a text line be written in quotes */
};

static const unsigned char needs[256] = {
    [0] = SPELT | QUOTED,    [1 ... 0x1f] = SPELT,     [' '] = QUOTED,
    ['='] = QUOTED,          ['"'] = ESCAPED | QUOTED, ['\\'] = ESCAPED | QUOTED,
    [0x7f ... 0xff] = SPELT,
};

svc_log_t *
svc_log_new(int fd, const char *service, int format, svc_log_level level)
{
    static atomic_ullong serials;
    svc_log_t *self = svc_alloc(sizeof(*self));
    struct stat what;

    self->service = svc_str_c(service);
    self->fd = fd;
    self->format = format;
    self->serial = atomic_fetch_add(&serials, 1) + 1;
    self->room = fstat(fd, &what) == 0 && S_ISREG(what.st_mode) ? SVC_LOG_GATHER_BYTES
                                                                : PIPE_BUF;
    atomic_init(&self->level, (int)level);
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

void
svc_log_set_level(svc_log_t *self, svc_log_level level)
{
    atomic_store_explicit(&self->level, (int)level, memory_order_relaxed);
}

void
svc_log_set_plain(svc_log_t *self)
{
    self->room = 0;
}

bool
svc_log_writes(const svc_log_t *self, svc_log_level level)
{
    return self != NULL &&
           (int)level >= atomic_load_explicit(&self->level, memory_order_relaxed);
}

/* --- building a line --------------------------------------------------------------------- */

/* Appends as it is, or not at all. Inline, so that a literal is copied without a call. */
static inline void
add(line_t *line, svc_str text)
{
    if (text.n > sizeof(line->bytes) - line->n)
        return;
    memcpy(line->bytes + line->n, text.p, text.n);
    line->n += text.n;
}

/* Appends one of two literals. */
#define ADD_EITHER(line, cond, yes, no) \
    do {                                \
        if (cond)                       \
            add((line), SVC_LIT(yes));  \
        else                            \
            add((line), SVC_LIT(no));   \
    } while (0)

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

/* How many bytes from i on are plain ASCII, which is nearly always all. */
static size_t
count_plain(svc_str text, size_t i, bool quoted)
{
    const unsigned char special = quoted ? SPELT | ESCAPED : SPELT;
    size_t n = 0;

    while (i + n < text.n && (needs[(unsigned char)text.p[i + n]] & special) == 0)
        n++;
    return n;
}

/* Appends what does not go as it is: a character of several bytes, or a byte that is spelt. Gives the bytes it stands for. */
static size_t
add_special(line_t *line, svc_str text, size_t i, bool json)
{
    unsigned char c = (unsigned char)text.p[i];
    size_t left = text.n - i;
    char out[8];

    if (c >= 0x80 && svc_utf8_valid(text.p + i, left < 4 ? left : 4) > 0) {
        /* of the up to four bytes that were checked, the first character */
        size_t whole = 1;

        while (whole < left && ((unsigned char)text.p[i + whole] & 0xc0) == 0x80)
            whole++;
        add(line, (svc_str){text.p + i, whole});
        return whole;
    }
    add(line, (svc_str){out, spell(c, json, out)});
    return 1;
}

/* Appends a value, escaped. In text lines only control characters and, inside quotes, quote and backslash are. */
static void
add_value(line_t *line, svc_str text, bool json, bool quoted)
{
    const size_t max = sizeof(line->bytes) - TAIL_BYTES;

    for (size_t i = 0; i < text.n && line->n < max;) {
        size_t n = count_plain(text, i, quoted);

        if (n == 0) {
            i += add_special(line, text, i, json);
            continue;
        }
        add(line, (svc_str){text.p + i, n < max - line->n ? n : max - line->n});
        i += n;
    }
}

/* Appends what stands before a value: ` key=` or `,"key":`. */
static inline void
add_key(const svc_log_t *self, line_t *line, svc_str key)
{
    bool json = self->format == SVC_LOG_JSON;

    ADD_EITHER(line, json, ",\"", " ");
    add(line, key);
    ADD_EITHER(line, json, "\":", "=");
}

/* Appends ` key=value` or `,"key":"value"`. */
static inline void
add_pair(const svc_log_t *self, line_t *line, svc_str key, svc_str value)
{
    const bool json = self->format == SVC_LOG_JSON;
    const size_t left = sizeof(line->bytes) - TAIL_BYTES;
    unsigned char all = 0;

    for (size_t i = 0; i < value.n; i++)
        all |= needs[(unsigned char)value.p[i]];
    const bool quoted = json || (all & QUOTED) != 0;
    add_key(self, line, key);
    if (quoted)
        add(line, SVC_LIT("\""));
    if ((all & (SPELT | ESCAPED)) == 0 && line->n < left && value.n <= left - line->n)
        add(line, value); /* nearly always */
    else
        add_value(line, value, json, quoted);
    if (quoted)
        add(line, SVC_LIT("\""));
}

/* Appends an id of 16 bytes as hex, of which no digit needs a look; anything else is none. */
static void
add_id(const svc_log_t *self, line_t *line, svc_str key, svc_str id)
{
    char text[2 * PROTO_TRACE_BYTES + 1];

    if (id.n != PROTO_TRACE_BYTES)
        return;
    svc_hex(id.p, id.n, text);
    add_key(self, line, key);
    ADD_EITHER(line, self->format == SVC_LOG_JSON, "\"", "");
    add(line, (svc_str){text, sizeof(text) - 1});
    ADD_EITHER(line, self->format == SVC_LOG_JSON, "\"", "");
}

/* Appends a number. */
static void
add_number(line_t *line, uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);

    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    add(line, (svc_str){digits + at, sizeof(digits) - at});
}

/* Begins a line: when, how bad, who, and the quote before the sentence. */
static void
begin(const svc_log_t *self, line_t *line, svc_log_level level)
{
    static const svc_str padded[] = {SVC_LIT("debug "), SVC_LIT("info  "),
                                     SVC_LIT("warn  "), SVC_LIT("error ")};
    const bool json = self->format == SVC_LOG_JSON;
    const uint64_t now = svc_unix_ms();
    head_t *head = &kept_head;
    char when[SVC_TIME_TEXT_BYTES];

    line->n = 0;
    if (head->serial == self->serial && head->ms == now && head->level == level) {
        add(line, (svc_str){head->bytes, head->n});
        return;
    }
    ADD_EITHER(line, json, "{\"time\":\"", "");
    svc_time_text(now, when);
    add(line, (svc_str){when, sizeof(when)});
    ADD_EITHER(line, json, "\",\"level\":\"", " ");
    add(line, json ? level_names[level] : padded[level]);
    ADD_EITHER(line, json, "\",\"service\":\"", "");
    add(line, self->service);
    ADD_EITHER(line, json, "\",\"message\":\"", " ");
    if (line->n > sizeof(head->bytes))
        return;
    head->serial = self->serial;
    head->ms = now;
    head->level = level;
    head->n = line->n;
    memcpy(head->bytes, line->bytes, line->n);
}

/* A log that cannot be written has nowhere to say so. */
static void
write_lines(int fd, const char *bytes, size_t n)
{
    ssize_t written;

    do
        written = write(fd, bytes, n);
    while (written < 0 && errno == EINTR);
}

/* Ends the line and writes it, after what this thread has gathered. */
static void
finish(const svc_log_t *self, line_t *line)
{
    ADD_EITHER(line, self->format == SVC_LOG_JSON, "}\n", "\n");
    svc_log_gather_write();
    write_lines(self->fd, line->bytes, line->n);
}

/* Ends the line and lays it to those that this thread has gathered, if it does. */
static void
finish_later(const svc_log_t *self, line_t *line)
{
    svc_log_gather_t *room = gathered;

    if (room == NULL || self->room == 0) {
        finish(self, line);
        return;
    }
    ADD_EITHER(line, self->format == SVC_LOG_JSON, "}\n", "\n");
    if (room->fd != self->fd || room->n + line->n > self->room)
        svc_log_gather_write();
    room->fd = self->fd;
    memcpy(room->bytes + room->n, line->bytes, line->n);
    room->n += line->n;
}

/* --- what callers see -------------------------------------------------------------------- */

static void SVC_PRINTF(4, 0)
    write_event(const svc_log_t *self, svc_log_level level, const svc_log_about_t *about,
                const char *fmt, va_list args)
{
    char text[EVENT_MAX_BYTES + 1];
    line_t line;

    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        return;
    begin(self, &line, level);
    add_value(&line, svc_str_c(text), self->format == SVC_LOG_JSON,
              self->format == SVC_LOG_JSON);
    ADD_EITHER(&line, self->format == SVC_LOG_JSON, "\"", "");
    if (about != NULL) {
        add_id(self, &line, SVC_LIT("trace"), about->trace);
        add_id(self, &line, SVC_LIT("stream"), about->stream);
    }
    if (about != NULL && level < SVC_LOG_WARN)
        finish_later(self, &line);
    else
        finish(self, &line);
}

void
svc_log_event(svc_log_t *self, svc_log_level level, const char *fmt, ...)
{
    va_list args;

    if (!svc_log_writes(self, level))
        return;
    va_start(args, fmt);
    write_event(self, level, NULL, fmt, args);
    va_end(args);
}

void
svc_log_about(svc_log_t *self, svc_log_level level, const svc_log_about_t *about,
              const char *fmt, ...)
{
    va_list args;

    if (!svc_log_writes(self, level))
        return;
    va_start(args, fmt);
    write_event(self, level, about, fmt, args);
    va_end(args);
}

void
svc_log_request(svc_log_t *self, const svc_log_request_t *request)
{
    svc_log_level level = request->is_routine ? SVC_LOG_DEBUG : SVC_LOG_INFO;
    line_t line;

    if (!svc_log_writes(self, level))
        return;
    begin(self, &line, level);
    ADD_EITHER(&line, self->format == SVC_LOG_JSON, "request\"", "request");
    add_id(self, &line, SVC_LIT("trace"), request->trace);
    add_pair(self, &line, SVC_LIT("op"), svc_str_c(request->op));
    add_pair(self, &line, SVC_LIT("status"), svc_str_c(request->status));
    add_key(self, &line, SVC_LIT("us"));
    add_number(&line, request->us);
    if (request->peer != NULL)
        add_pair(self, &line, SVC_LIT("peer"), svc_str_c(request->peer));
    if (request->request_id.n > 0)
        add_pair(self, &line, SVC_LIT("request_id"), request->request_id);
    finish_later(self, &line);
}

/* --- lines that wait for the end of a turn ------------------------------------------------ */

void
svc_log_gather_begin(svc_log_gather_t *room)
{
    svc_log_gather_write();
    room->outer = gathered;
    room->n = 0;
    room->fd = -1;
    gathered = room;
}

void
svc_log_gather_write(void)
{
    svc_log_gather_t *room = gathered;

    if (room == NULL || room->n == 0)
        return;
    write_lines(room->fd, room->bytes, room->n);
    room->n = 0;
}

void
svc_log_gather_end(svc_log_gather_t *room)
{
    if (gathered != room)
        return;
    svc_log_gather_write();
    gathered = room->outer;
}
