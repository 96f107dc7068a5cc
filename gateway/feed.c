/* feed.c - one answer that is being read: its latest text, its status, and what is missing.
 *
 * Frames may come before the status that tells their fence. The gate of llm-svc lets
 * no text out before its journal has begun, so the first text that shows up belongs to
 * the fence that counts: it is taken provisionally, and the first status from the
 * streaming state on confirms it. Should that status ever name another fence, the text
 * here is worthless: if nobody can have seen it, it is dropped, else the feed fails. */
#include "feed.h"

#include <stdlib.h>

struct feed {
    uint8_t stream[PROTO_STREAM_BYTES]; /* whose text this is */
    svc_buf_t window;                   /* owned; text from base on, whole and in order */
    uint64_t base;                      /* offset of the window's first byte */
    uint64_t known;       /* text up to here exists somewhere; may be less than end */
    uint64_t fence;       /* of the window's text; 0: not known */
    feed_status_t status; /* finish and text point to the copies below */
    char *finish, *text;  /* owned copies */
    svc_rc failed;        /* RC_OK: no */
};

feed_t *
feed_new(const uint8_t stream[PROTO_STREAM_BYTES])
{
    feed_t *self = svc_alloc(sizeof *self);

    memcpy(self->stream, stream, PROTO_STREAM_BYTES);
    svc_buf_init(&self->window, FEED_WINDOW_MAX_BYTES);
    self->failed = RC_OK;
    self->status.reason = RC_OK;
    return self;
}

void
feed_destroy(feed_t **self_p)
{
    feed_t *self = *self_p;

    if (self == NULL)
        return;
    svc_buf_fini(&self->window);
    free(self->finish);
    free(self->text);
    free(self);
    *self_p = NULL;
}

void
feed_start_at(feed_t *self, uint64_t from)
{
    svc_buf_clear(&self->window);
    self->base = from;
}

void
feed_rename(feed_t *self, svc_str stream)
{
    memcpy(self->stream, stream.p, PROTO_STREAM_BYTES);
}

svc_str
feed_stream(const feed_t *self)
{
    return (svc_str){(const char *)self->stream, PROTO_STREAM_BYTES};
}

const feed_status_t *
feed_status(const feed_t *self)
{
    return &self->status;
}

void
feed_revive(feed_t *self)
{
    self->failed = RC_OK;
}

svc_rc
feed_failed(const feed_t *self)
{
    return self->failed;
}

uint64_t
feed_base(const feed_t *self)
{
    return self->base;
}

uint64_t
feed_end(const feed_t *self)
{
    return self->base + self->window.n;
}

static bool
is_terminal(const feed_t *self)
{
    return self->status.heard && answer_state_is_terminal((int)self->status.state);
}

uint64_t
feed_limit(const feed_t *self)
{
    uint64_t end = feed_end(self);

    return is_terminal(self) && self->status.length < end ? self->status.length : end;
}

svc_str
feed_text(const feed_t *self, uint64_t from)
{
    uint64_t limit = feed_limit(self);

    if (from < self->base || from >= limit)
        return (svc_str){NULL, 0};
    return (svc_str){self->window.p + (from - self->base), (size_t)(limit - from)};
}

uint64_t
feed_fence(const feed_t *self)
{
    return self->fence;
}

bool
feed_has_gap(const feed_t *self)
{
    uint64_t known = is_terminal(self) ? self->status.length : self->known;

    return known > feed_end(self);
}

bool
feed_is_settled(const feed_t *self)
{
    return self->failed != RC_OK || (is_terminal(self) && !feed_has_gap(self));
}

/* Text up to `offset` exists: is that news of a gap? */
static feed_news
learn_of(feed_t *self, uint64_t offset)
{
    bool had_gap = feed_has_gap(self);

    if (offset > PROTO_ANSWER_MAX_BYTES)
        return FEED_SAME; /* a broken sender must not make us fetch for ever */
    if (offset > self->known)
        self->known = offset;
    return !had_gap && feed_has_gap(self) ? FEED_GAP : FEED_SAME;
}

/* Appends text that begins at or before the end; trims the window when it is full. */
static feed_news
append(feed_t *self, uint64_t from, svc_str bytes)
{
    uint64_t end = feed_end(self);
    size_t overlap = (size_t)(end - from);

    if (bytes.n <= overlap)
        return FEED_SAME;
    bytes = (svc_str){bytes.p + overlap, bytes.n - overlap};
    if (bytes.n > FEED_WINDOW_MAX_BYTES - FEED_WINDOW_KEEP_BYTES)
        return learn_of(self,
                        end + bytes.n); /* never sent by ours; pages bring it in pieces */
    if (self->window.n + bytes.n > FEED_WINDOW_MAX_BYTES) {
        size_t drop = self->window.n - FEED_WINDOW_KEEP_BYTES;
        svc_buf_consume(&self->window, drop);
        self->base += drop;
    }
    if (svc_buf_add_str(&self->window, bytes) != RC_OK)
        return learn_of(self, end + bytes.n); /* no memory now; fetched again */
    return FEED_GREW;
}

/* True when text of this fence is ours, adopting the first one that comes. */
static bool
accepts_fence(feed_t *self, uint64_t fence)
{
    if (self->fence == 0 && fence != 0)
        self->fence = fence;
    return fence == self->fence;
}

/* The llm-svc of the answer counts as lost: what we hold past the journal was handed in, and
 * text that comes now (from one that was frozen only) would be shown and stored by nobody. */
static bool
is_given_up(const feed_t *self)
{
    return self->status.lost && !is_terminal(self);
}

feed_news
feed_take_token(feed_t *self, const proto_token_t *token)
{
    bool is_text = token->kind == PROTO_TOKEN_TEXT;

    if (token->offset > PROTO_ANSWER_MAX_BYTES)
        return FEED_SAME;
    if (is_terminal(self) && (!is_text || !feed_has_gap(self)))
        return FEED_SAME; /* a status overtakes the frames of its text: those still fill the gap */
    if (is_text ? !accepts_fence(self, token->fence) : token->fence != self->fence)
        return FEED_FENCED;
    if (!is_text) {
        bool tells_length = token->kind == PROTO_TOKEN_MARK ||
                            token->kind == PROTO_TOKEN_END;
        return tells_length ? learn_of(self, token->offset) : FEED_SAME;
    }
    if (token->offset > feed_end(self))
        return learn_of(self, token->offset + token->bytes.n);
    if (is_given_up(self))
        return FEED_SAME;
    return append(self, token->offset, token->bytes);
}

feed_news
feed_take_page(feed_t *self, uint64_t fence, uint64_t from, svc_str bytes)
{
    if (bytes.n > 0 && !accepts_fence(self, fence))
        return FEED_FENCED;
    if (from > feed_end(self) || bytes.n > PROTO_ANSWER_MAX_BYTES)
        return FEED_SAME;
    if (is_given_up(self)) { /* only the journal counts any more */
        uint64_t room = self->status.length > from ? self->status.length - from : 0;
        bytes.n = bytes.n < room ? bytes.n : (size_t)room;
    }
    return append(self, from, bytes);
}

feed_news
feed_learn(feed_t *self, uint64_t fence, uint64_t offset)
{
    if (fence != self->fence || is_given_up(self))
        return FEED_SAME;
    return learn_of(self, offset);
}

/* Replaces an owned copy and its view. */
static void
keep_text(char **copy, svc_str *view, svc_str text)
{
    free(*copy);
    *copy = svc_str_dup(text);
    *view = (svc_str){*copy, text.n};
}

/* A status from the streaming state on says which fence the text has. */
static void
settle_fence(feed_t *self, uint64_t fence)
{
    bool is_empty = self->window.n == 0;

    if (fence == 0 || fence == self->fence)
        return;
    if (self->fence != 0 && !is_empty) {
        feed_fail(self, RC_INTERNAL, SVC_LIT("The answer's text does not belong to it"),
                  0);
        return;
    }
    self->fence = fence;
    self->known = 0;
}

/* Text that came before the first status was shown to nobody. When that one tells of a loss, it must not be any more: whoever
 * takes tails may have taken the last. */
static void
drop_past(feed_t *self, uint64_t length)
{
    if (feed_end(self) > length)
        self->window.n = length > self->base ? (size_t)(length - self->base) : 0;
    self->known = 0;
}

void
feed_take_status(feed_t *self, const status_rep_t *status)
{
    feed_status_t *mine = &self->status;

    if (is_terminal(self) || self->failed != RC_OK)
        return;
    if (status->state != ANSWER_WAITING)
        settle_fence(self, status->fence);
    if (self->failed != RC_OK)
        return;
    if (!mine->heard && status->lost && !answer_state_is_terminal(status->state))
        drop_past(self, status->length);
    mine->heard = true;
    mine->message = status->message;
    mine->state = (answer_state)status->state;
    mine->length = status->length;
    mine->fence = status->fence;
    mine->owner = status->owner;
    mine->llm = status->llm;
    mine->lost = status->lost;
    mine->usage = status->usage;
    mine->reason = status->state == ANSWER_INTERRUPTED ? svc_rc_from_wire(status->reason)
                                                       : RC_OK;
    mine->retry_after_s = status->retry_after_s;
    keep_text(&self->finish, &mine->finish, status->finish);
    keep_text(&self->text, &mine->text, status->text);
    if (mine->reason == RC_DELETED && mine->length > feed_end(self))
        mine->length = feed_end(self); /* nobody has the rest any more */
    if (status->state != ANSWER_WAITING && mine->length > self->known)
        self->known = mine->length;
}

void
feed_fail(feed_t *self, svc_rc rc, svc_str text, uint64_t retry_after_s)
{
    if (self->failed != RC_OK || (is_terminal(self) && !feed_has_gap(self)))
        return;
    self->failed = rc;
    self->status.retry_after_s = retry_after_s;
    keep_text(&self->text, &self->status.text, text);
}
