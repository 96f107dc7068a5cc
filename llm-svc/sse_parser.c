/* sse_parser.c - finds lines, joins data, and holds back only what is unfinished.
 *
 *   bytes --lines--> "data: x" --fields--> data of the event --blank line--> on_event
 *
 * A line that lies whole in the bytes at hand is read in place, and so is an event of one
 * line; only what is unfinished is copied. The memory of a huge line is given back once it
 * has been used. */
#include "sse_parser.h"

#include <stdlib.h>

#define KEEP_BYTES \
    1024 /* a buffer larger than this is freed when empty: streams are many, and mostly idle */

struct sse_parser {
    sse_event_fn *on_event; /* never NULL */
    void *arg;              /* for on_event */
    svc_buf_t line;         /* an unfinished line */
    svc_buf_t data;         /* data lines of the unfinished event, joined by LF */
    bool has_data;          /* at least one data line came, maybe an empty one */
    bool skip_lf; /* the last line ended in CR: a LF that follows belongs to it */
    bool
        past_bom; /* the first line has been seen; a byte order mark can only stand before it */
};

sse_parser_t *
sse_parser_new(sse_event_fn *on_event, void *arg)
{
    sse_parser_t *self = svc_alloc(sizeof(*self));

    self->on_event = on_event;
    self->arg = arg;
    svc_buf_init(&self->line, SSE_PARSER_MAX_BYTES);
    svc_buf_init(&self->data, SSE_PARSER_MAX_BYTES);
    return self;
}

void
sse_parser_destroy(sse_parser_t **self_p)
{
    sse_parser_t *self = *self_p;

    if (self == NULL)
        return;
    svc_buf_fini(&self->line);
    svc_buf_fini(&self->data);
    free(self);
    *self_p = NULL;
}

static void
empty_buffer(svc_buf_t *buf)
{
    if (buf->cap > KEEP_BYTES)
        svc_buf_fini(buf);
    else
        svc_buf_clear(buf);
}

static void
end_event(sse_parser_t *self)
{
    if (self->data.n > 0)
        self->on_event(self->arg, svc_buf_str(&self->data));
    empty_buffer(&self->data);
    self->has_data = false;
}

/* The value of a "data" line; false for every other line. A name without a colon is a
 * field with an empty value, and only one space after the colon is not part of the
 * value. */
static bool
data_of_line(svc_str line, svc_str *out)
{
    if (line.n < 4 || memcmp(line.p, "data", 4) != 0)
        return false;
    line.p += 4;
    line.n -= 4;
    if (line.n > 0 && line.p[0] != ':')
        return false;
    size_t skip = line.n == 0 ? 0 : line.n > 1 && line.p[1] == ' ' ? 2 : 1;
    *out = (svc_str){line.p + skip, line.n - skip};
    return true;
}

static svc_rc
take_line(sse_parser_t *self, svc_str line)
{
    svc_str value;
    svc_rc rc = RC_OK;

    if (!self->past_bom) {
        self->past_bom = true;
        if (line.n >= 3 && memcmp(line.p, "\xEF\xBB\xBF", 3) == 0) {
            line.p += 3;
            line.n -= 3;
        }
    }
    if (line.n == 0) {
        end_event(self);
        return RC_OK;
    }
    if (!data_of_line(line, &value))
        return RC_OK;
    if (self->has_data)
        rc = svc_buf_add(&self->data, "\n", 1);
    if (rc == RC_OK && value.n > 0)
        rc = svc_buf_add_str(&self->data, value);
    self->has_data = true;
    return rc;
}

/* The end of the line that `bytes` begin, NULL when it is not there. */
static const char *
find_line_end(svc_str bytes)
{
    const char *lf = memchr(bytes.p, '\n', bytes.n);
    size_t n = lf == NULL ? bytes.n : (size_t)(lf - bytes.p);
    const char *cr = n == 0 ? NULL : memchr(bytes.p, '\r', n);

    return cr != NULL ? cr : lf;
}

/* Takes the line that ends after `rest`, whose beginning may be in the buffer. */
static svc_rc
complete_line(sse_parser_t *self, svc_str rest)
{
    if (self->line.n == 0) {
        if (rest.n > SSE_PARSER_MAX_BYTES)
            return RC_TOO_BIG;
        return take_line(self, rest);
    }
    svc_rc rc = rest.n == 0 ? RC_OK : svc_buf_add_str(&self->line, rest);
    if (rc == RC_OK)
        rc = take_line(self, svc_buf_str(&self->line));
    empty_buffer(&self->line);
    return rc;
}

/* Gives an event that is one data line and lies whole at the start of `bytes`, without copying it. `line` is
 * its first line. Gives how many bytes that took, 0: it is no such event. */
static size_t
give_in_place(sse_parser_t *self, svc_str bytes, svc_str line)
{
    const char *after = line.p + line.n;
    const size_t left = bytes.n - line.n;
    svc_str value;
    size_t ends;

    if (left >= 2 && memcmp(after, "\n\n", 2) == 0)
        ends = 2;
    else if (left >= 4 && memcmp(after, "\r\n\r\n", 4) == 0)
        ends = 4;
    else
        return 0;
    if (self->line.n > 0 || self->has_data || line.n > SSE_PARSER_MAX_BYTES ||
        !data_of_line(line, &value))
        return 0;
    self->past_bom = true; /* it begins with "data" */
    if (value.n > 0)
        self->on_event(self->arg, value);
    return line.n + ends;
}

svc_rc
sse_parser_feed(sse_parser_t *self, svc_str bytes)
{
    while (bytes.n > 0) {
        if (self->skip_lf) {
            self->skip_lf = false;
            if (bytes.p[0] == '\n') {
                bytes.p++;
                bytes.n--;
                continue;
            }
        }
        const char *end = find_line_end(bytes);
        if (end == NULL)
            return svc_buf_add_str(&self->line, bytes);
        svc_str rest = {bytes.p, (size_t)(end - bytes.p)};
        const size_t given = give_in_place(self, bytes, rest);
        if (given > 0) {
            bytes.p += given;
            bytes.n -= given;
            continue;
        }
        self->skip_lf = *end == '\r';
        svc_rc rc = complete_line(self, rest);
        if (rc != RC_OK)
            return rc;
        bytes.p += rest.n + 1;
        bytes.n -= rest.n + 1;
    }
    return RC_OK;
}

svc_rc
sse_parser_end(sse_parser_t *self)
{
    svc_rc rc = RC_OK;

    if (self->line.n > 0)
        rc = complete_line(self, (svc_str){"", 0});
    if (rc == RC_OK)
        end_event(self);
    return rc;
}
