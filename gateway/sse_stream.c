/* sse_stream.c - one client that is listening to one answer: what it has, and the events it gets next.
 *
 * The state machine stands in sse_stream_next; each state appends one event or one
 * piece of full_response, which is a single event however long the answer is. Text is
 * cut at whole characters only. The formatting works on any buffer, so the tests need
 * no connection. */
#include "sse_stream.h"
#include "proto/utf8.h"
#include "svc/svc_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define DECIMAL_BYTES 20 /* digits of a 64 bit number */

typedef enum {
    AT_BEGIN,
    AT_TEXT,
    AT_DONE,
    AT_FULL_BEGIN,
    AT_FULL,
    AT_ERROR,
    AT_END
} phase;

struct sse_stream {
    char stream[2 * PROTO_STREAM_BYTES + 1]; /* hex */
    sse_framing framing;                     /* of all its events */
    text_language language;                  /* of the error event */
    stream_id_t from;                        /* what the client has brought */
    phase at;                                /* see the drawing in the header */
    svc_rc refused;                          /* RC_OK: it may read on */
    uint64_t offset;                         /* text: next byte to send */
    uint64_t full;                           /* full_response: next byte to send */
    size_t text_max;                         /* bytes of text in one event */
    size_t page_max;                         /* bytes kept of a page */
    svc_buf_t page;     /* owned; text older than the feed's window */
    uint64_t page_from; /* offset of its first byte */
};

/* --- Accept ------------------------------------------------------------------------------- */

/* Reads ";q=0.5" in a media range, in thousandths. */
static unsigned
read_quality(svc_str range)
{
    for (size_t i = 0; i + 2 < range.n; i++) {
        if (range.p[i] != ';')
            continue;
        size_t k = i + 1;
        while (k < range.n && range.p[k] == ' ')
            k++;
        if (k + 2 >= range.n || (range.p[k] | 0x20) != 'q' || range.p[k + 1] != '=')
            continue;
        unsigned quality = range.p[k + 2] == '1' ? 1000 : 0;
        unsigned scale = 100;
        for (k += 4;
             k < range.n && range.p[k] >= '0' && range.p[k] <= '9' && quality < 1000;
             k++) {
            quality += (unsigned)(range.p[k] - '0') * scale;
            scale /= 10;
        }
        return quality;
    }
    return 1000;
}

static bool
names_type(svc_str range, const char *type)
{
    size_t n = strlen(type);

    return range.n >= n && strncasecmp(range.p, type, n) == 0 &&
           (range.n == n || range.p[n] == ';' || range.p[n] == ' ');
}

sse_framing
sse_framing_of(svc_str accept, sse_framing fallback)
{
    sse_framing framing = fallback;
    unsigned best = 0;
    size_t at = 0;

    while (at < accept.n) {
        size_t end = at;
        while (end < accept.n && accept.p[end] != ',')
            end++;
        while (at < end && accept.p[at] == ' ')
            at++;
        svc_str range = {accept.p + at, end - at};
        bool events = names_type(range, "text/event-stream");
        bool lines = names_type(range, "application/x-ndjson");
        if ((events || lines) && read_quality(range) > best) {
            best = read_quality(range);
            framing = events ? SSE_FRAMING_EVENTS : SSE_FRAMING_LINES;
        }
        at = end + 1;
    }
    return framing;
}

const char *
sse_framing_type(sse_framing framing)
{
    return framing == SSE_FRAMING_LINES ? "application/x-ndjson" : "text/event-stream";
}

/* --- one event ---------------------------------------------------------------------------- */

/* Appends one after the other; all of them, or says what is wrong. */
static svc_rc
add_all(svc_buf_t *out, const svc_str *parts, size_t n)
{
    svc_rc rc = RC_OK;

    for (size_t i = 0; i < n && rc == RC_OK; i++)
        rc = svc_buf_add_str(out, parts[i]);
    return rc;
}

/* Writes a number in decimal to the end of `digits`; gives the view. */
static svc_str
decimal(uint64_t number, char digits[DECIMAL_BYTES])
{
    size_t at = DECIMAL_BYTES;

    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return (svc_str){digits + at, DECIMAL_BYTES - at};
}

/* Appends everything of an event that stands before its text. Once for each token: no
 * printf, which would be half its cost. */
static svc_rc
begin_event(const sse_stream_t *self, svc_buf_t *out, const char *event, uint64_t offset,
            stream_id_mark mark)
{
    char digits[DECIMAL_BYTES];
    svc_str name = svc_str_c(event);
    const svc_str parts[] = {
        SVC_LIT("id: "),
        {self->stream, sizeof self->stream - 1},
        SVC_LIT(":"),
        decimal(offset, digits),
        svc_str_c(stream_id_suffix(mark)),
        SVC_LIT("\nevent: "),
        name,
        SVC_LIT("\ndata: "),
        SVC_LIT("{\"event\":\""),
        name,
        SVC_LIT("\",\"data\":\""),
    };
    size_t skip = self->framing == SSE_FRAMING_EVENTS ? 0 : 8; /* only the object */

    return add_all(out, parts + skip, SVC_COUNT(parts) - skip);
}

/* Appends what stands behind the text's quote: "}" and the framing's end of an event. */
static svc_rc
end_event(const sse_stream_t *self, svc_buf_t *out)
{
    return svc_buf_add_str(out, self->framing == SSE_FRAMING_LINES ? SVC_LIT("}\n")
                                                                   : SVC_LIT("}\n\n"));
}

static svc_rc
add_message(const sse_stream_t *self, svc_buf_t *out, uint64_t after, svc_str text)
{
    svc_rc rc = begin_event(self, out, "message", after, STREAM_ID_TEXT);

    if (rc == RC_OK)
        rc = svc_json_escape(out, text);
    if (rc == RC_OK)
        rc = svc_buf_add_str(out, SVC_LIT("\""));
    return rc == RC_OK ? end_event(self, out) : rc;
}

static svc_rc
add_done(const sse_stream_t *self, svc_buf_t *out, const feed_status_t *status)
{
    svc_rc rc = begin_event(self, out, "done", status->length, STREAM_ID_DONE);

    if (rc == RC_OK)
        rc = svc_buf_printf(
            out, "Stream finished\",\"message_id\":%" PRIu64 ",\"finish_reason\":",
            status->message);
    if (rc == RC_OK)
        rc = svc_json_string(out, status->finish);
    const usage_t *usage = &status->usage;
    if (rc == RC_OK && (usage->prompt | usage->completion | usage->total) != 0)
        rc = svc_buf_printf(out,
                            ",\"usage\":{\"prompt_tokens\":%" PRIu64
                            ",\"completion_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64
                            "}",
                            usage->prompt, usage->completion, usage->total);
    return rc == RC_OK ? end_event(self, out) : rc;
}

/* Less of the answer is stored than the client has (of an answer that was lost, or by an
 * id that was never given). */
static bool
is_past_end(const sse_stream_t *self, const feed_status_t *status)
{
    return status->heard && answer_state_is_terminal((int)status->state) &&
           self->offset > status->length;
}

/* Has the client brought an id that was never given, because it points into a character? Then nothing can be read on
 * from it, and it must not come back with it either. */
static bool
is_no_place(const sse_stream_t *self)
{
    return self->refused == RC_INVALID;
}

/* What the error event says: of a client that is refused, a failed feed, an answer that
 * was interrupted, or one that is shorter than the client believes. */
static svc_rc
error_reason(const sse_stream_t *self, const feed_t *feed)
{
    const feed_status_t *status = feed_status(feed);

    if (self->refused != RC_OK)
        return self->refused;
    if (feed_failed(feed) != RC_OK)
        return feed_failed(feed);
    if (status->state == ANSWER_INTERRUPTED)
        return status->reason;
    return status->state == ANSWER_STOPPED ? RC_LOST : RC_INVALID;
}

static svc_rc
add_sentence(const sse_stream_t *self, svc_buf_t *out, const feed_t *feed, svc_rc reason)
{
    svc_str told = self->refused == RC_OK ? feed_status(feed)->text : (svc_str){NULL, 0};

    if (self->refused == RC_OK && feed_failed(feed) == RC_UNAVAILABLE)
        return text_add(out, self->language, TEXT_STORED_ANYWAY, NULL);
    if (reason == RC_INVALID && told.n == 0)
        return text_add(out, self->language, TEXT_BAD_STREAM_ID, NULL);
    return text_add_rc(out, self->language, reason, told, 0);
}

static svc_rc
add_error(const sse_stream_t *self, svc_buf_t *out, const feed_t *feed)
{
    const feed_status_t *status = feed_status(feed);
    svc_rc reason = error_reason(self, feed);
    bool is_past = self->refused == RC_OK && is_past_end(self, status);
    bool is_end = reason == RC_DELETED || is_no_place(self) ||
                  (self->refused == RC_OK && feed_failed(feed) == RC_OK);
    svc_buf_t text;
    svc_buf_init(&text, 2 * PROTO_ERROR_TEXT_MAX_BYTES);
    svc_rc rc = begin_event(self, out, "error", is_past ? status->length : self->offset,
                            is_end ? STREAM_ID_END : STREAM_ID_TEXT);

    if (rc == RC_OK)
        rc = add_sentence(self, &text, feed, reason);
    if (rc == RC_OK)
        rc = svc_json_escape(out, svc_buf_str(&text));
    if (rc == RC_OK)
        rc = svc_buf_printf(out, "\",\"code\":\"%s\"", svc_rc_info(reason)->wire);
    if (rc == RC_OK && is_past)
        rc = svc_buf_printf(out, ",\"stored\":%" PRIu64, status->length);
    svc_buf_fini(&text);
    return rc == RC_OK ? end_event(self, out) : rc;
}

/* Appends the block before all events: no data, so an EventSource only takes note. */
static svc_rc
add_beginning(const sse_stream_t *self, svc_buf_t *out)
{
    if (self->framing != SSE_FRAMING_EVENTS)
        return RC_OK;
    return svc_buf_printf(out, "retry: %d\nid: %s:%" PRIu64 "%s\n\n", SSE_RETRY_MS,
                          self->stream, self->from.offset,
                          stream_id_suffix(self->from.mark));
}

svc_rc
sse_stream_comment(const sse_stream_t *self, svc_buf_t *out)
{
    return svc_buf_add_str(out, self->framing == SSE_FRAMING_EVENTS
                                    ? SVC_LIT(": keep-alive\n\n")
                                    : SVC_LIT("\n"));
}

/* --- the viewer --------------------------------------------------------------------------- */

sse_stream_t *
sse_stream_new(const stream_id_t *from, sse_framing framing, text_language language)
{
    sse_stream_t *self = svc_alloc(sizeof *self);

    svc_hex(from->stream, PROTO_STREAM_BYTES, self->stream);
    self->framing = framing;
    self->language = language;
    self->from = *from;
    self->offset = from->offset;
    self->refused = RC_OK;
    self->text_max = SSE_TEXT_MAX_BYTES;
    self->page_max = PROTO_PAGE_MAX_BYTES;
    svc_buf_init(&self->page, PROTO_PAGE_MAX_BYTES);
    return self;
}

void
sse_stream_bound(sse_stream_t *self, size_t backlog)
{
    /* Half of it is the kernel's, a quarter the page's, a quarter that of bytes on their way to the kernel: of
     * those each byte of text may be six. */
    size_t text_max = backlog / 32, page_max = backlog / 4;

    if (text_max < self->text_max)
        self->text_max = text_max;
    if (page_max < self->page_max)
        self->page_max = page_max;
}

void
sse_stream_destroy(sse_stream_t **self_p)
{
    sse_stream_t *self = *self_p;

    if (self == NULL)
        return;
    svc_buf_fini(&self->page);
    free(self);
    *self_p = NULL;
}

void
sse_stream_refuse(sse_stream_t *self, svc_rc rc)
{
    if (self->refused == RC_OK)
        self->refused = rc;
}

uint64_t
sse_stream_offset(const sse_stream_t *self)
{
    return self->at == AT_FULL ? self->full : self->offset;
}

bool
sse_stream_is_between_events(const sse_stream_t *self)
{
    return self->at != AT_FULL;
}

void
sse_stream_page(sse_stream_t *self, uint64_t from, svc_str bytes)
{
    if (from != sse_stream_offset(self))
        return;
    svc_buf_clear(&self->page);
    self->page_from = from;
    if (bytes.n > self->page_max)
        bytes.n = self->page_max;
    if (svc_buf_add_str(&self->page, bytes) != RC_OK)
        svc_buf_clear(&self->page); /* asked for again */
}

/* A client that has caught up needs no page, maybe for long. */
static void
drop_page(sse_stream_t *self)
{
    if (self->page.cap > 0 && sse_stream_offset(self) >= self->page_from + self->page.n)
        svc_buf_fini(&self->page);
}

/* The text at `offset`, from the window if it is there, else from the page (which may
 * end in half a character); never past `limit`. */
static svc_str
text_at(const sse_stream_t *self, const feed_t *feed, uint64_t offset, uint64_t limit)
{
    svc_str text = feed_text(feed, offset);

    if (text.n == 0 && offset >= self->page_from &&
        offset < self->page_from + self->page.n) {
        size_t skip = (size_t)(offset - self->page_from);
        text = (svc_str){self->page.p + skip, self->page.n - skip};
    }
    if (text.n > limit - offset)
        text.n = (size_t)(limit - offset);
    if (text.n > self->text_max)
        text.n = self->text_max;
    return text;
}

/* Cuts *text_p to whole characters. False: there is not even one, though four bytes
 * are enough for any. */
static bool
cut_to_characters(svc_str *text_p, bool is_last)
{
    size_t had = text_p->n;

    text_p->n = svc_utf8_valid(text_p->p, text_p->n);
    return text_p->n > 0 || (had < 4 && !is_last);
}

/* Takes the step from `at` to `next` when the event was written. */
static sse_result
step(sse_stream_t *self, svc_rc rc, phase next)
{
    if (rc != RC_OK)
        return SSE_BROKEN;
    self->at = next;
    return SSE_SENT;
}

static sse_result
send_error(sse_stream_t *self, const feed_t *feed, svc_buf_t *out)
{
    return step(self, add_error(self, out, feed), AT_END);
}

/* True when the text begins in the middle of a character: the id that the client has
 * brought was never given. */
static bool
is_inside_character(svc_str text)
{
    return ((unsigned char)text.p[0] & 0xc0) == 0x80;
}

static sse_result
send_text(sse_stream_t *self, const feed_t *feed, svc_buf_t *out, uint64_t limit)
{
    svc_str text = text_at(self, feed, self->offset, limit);
    bool is_last = feed_is_settled(feed) && self->offset + text.n == limit;

    if (text.n == 0)
        return self->offset < feed_base(feed) ? SSE_NEED_PAGE : SSE_IDLE;
    if (self->offset == self->from.offset && is_inside_character(text)) {
        sse_stream_refuse(self, RC_INVALID);
        return send_error(self, feed, out);
    }
    if (!cut_to_characters(&text, is_last))
        return SSE_BROKEN;
    if (text.n ==
        0) { /* half a character: at the end of a page the next page begins with it */
        return self->offset < feed_base(feed) ? SSE_NEED_PAGE : SSE_IDLE;
    }
    if (add_message(self, out, self->offset + text.n, text) != RC_OK)
        return SSE_BROKEN;
    self->offset += text.n;
    return SSE_SENT;
}

/* What follows when the client has all text that there is. */
static phase
after_text(const sse_stream_t *self, const feed_t *feed)
{
    const feed_status_t *status = feed_status(feed);

    if (feed_failed(feed) != RC_OK)
        return AT_ERROR;
    if (!status->heard || !answer_state_is_terminal((int)status->state) ||
        feed_has_gap(feed))
        return AT_TEXT;
    if (status->state == ANSWER_INTERRUPTED || is_past_end(self, status))
        return AT_ERROR;
    bool had_done = self->from.mark == STREAM_ID_DONE &&
                    self->from.offset == status->length;
    return had_done ? AT_FULL_BEGIN : AT_DONE;
}

static sse_result
send_full(sse_stream_t *self, const feed_t *feed, svc_buf_t *out)
{
    uint64_t length = feed_status(feed)->length;

    if (self->full >= length) {
        self->at = AT_END;
        bool ended = svc_buf_add_str(out, SVC_LIT("\"")) == RC_OK &&
                     end_event(self, out) == RC_OK;
        return ended ? SSE_SENT : SSE_BROKEN;
    }
    svc_str text = text_at(self, feed, self->full, length);
    if (text.n == 0)
        return SSE_NEED_PAGE;
    bool is_last = self->full + text.n == length;
    if (!cut_to_characters(&text, is_last))
        return SSE_BROKEN;
    if (text.n == 0)
        return SSE_NEED_PAGE;
    if (svc_json_escape(out, text) != RC_OK)
        return SSE_BROKEN;
    self->full += text.n;
    return SSE_SENT;
}

/* The first block; empty in framings that have none, then what follows it comes at once. */
static sse_result
send_beginning(sse_stream_t *self, svc_buf_t *out)
{
    size_t before = out->n;
    sse_result result = step(self, add_beginning(self, out), AT_TEXT);

    return result == SSE_SENT && out->n == before ? SSE_IDLE : result;
}

sse_result
sse_stream_next(sse_stream_t *self, const feed_t *feed, svc_buf_t *out)
{
    const feed_status_t *status = feed_status(feed);

    if (self->at == AT_BEGIN) {
        sse_result result = send_beginning(self, out);
        if (result != SSE_IDLE)
            return result;
    }
    drop_page(self);
    if (self->refused != RC_OK && self->at < AT_FULL)
        self->at = AT_ERROR;
    if (self->at == AT_TEXT) {
        uint64_t limit = feed_limit(feed);
        if (self->offset < limit)
            return send_text(self, feed, out, limit);
        self->at = after_text(self, feed);
    }
    switch (self->at) {
    case AT_BEGIN:
    case AT_TEXT: return SSE_IDLE;
    case AT_DONE: return step(self, add_done(self, out, status), AT_FULL_BEGIN);
    case AT_FULL_BEGIN:
        return step(
            self, begin_event(self, out, "full_response", status->length, STREAM_ID_END),
            AT_FULL);
    case AT_FULL: return send_full(self, feed, out);
    case AT_ERROR: return send_error(self, feed, out);
    case AT_END: break;
    }
    return SSE_END;
}
