/* chunk_memo.c - two comparisons and one walk through a string.
 *
 * The back is compared first: it is short, and differs soonest. Empty text is neither
 * remembered nor matched: of a chunk with none, chunk_parser would look for it elsewhere
 * (message), and that may be what `front` or `back` hold. Nor is what says more than text,
 * since that would have to be remembered, too. */
#include "chunk_memo.h"

#include "json_cursor.h"

void
chunk_memo_init(chunk_memo_t *self)
{
    svc_buf_init(&self->around, CHUNK_MEMO_MAX_BYTES);
    self->front_n = 0;
}

void
chunk_memo_fini(chunk_memo_t *self)
{
    svc_buf_fini(&self->around);
    self->front_n = 0;
}

/* True when `data` has the two parts that are remembered, around one string. */
static bool
is_cast(const chunk_memo_t *self, svc_str data, svc_str *content)
{
    const size_t front = self->front_n, back = self->around.n - front;
    json_cursor_t c;

    if (front == 0 || data.n <= front + back ||
        memcmp(data.p + data.n - back, self->around.p + front, back) != 0 ||
        memcmp(data.p, self->around.p, front) != 0)
        return false;
    /* From the quote before the text; it must end at the one that `back` begins with. */
    json_cursor_init(&c, (svc_str){data.p + front - 1, data.n - front + 1});
    return json_cursor_string(&c, content) && content->n == data.n - front - back;
}

/* Remembers `data`, all of which is `chunk`, if it says nothing but text. */
static void
learn(chunk_memo_t *self, svc_str data, const chunk_t *chunk)
{
    const svc_str text = chunk->content;

    if (text.n == 0 || chunk->is_parts || chunk->finish.n > 0 || chunk->has_usage ||
        chunk->is_error || data.n - text.n > CHUNK_MEMO_MAX_BYTES)
        return;
    const size_t front = (size_t)(text.p - data.p);
    const char *back = text.p + text.n;
    self->front_n = 0;
    svc_buf_clear(&self->around);
    if (svc_buf_add(&self->around, data.p, front) == RC_OK &&
        svc_buf_add(&self->around, back, data.n - front - text.n) == RC_OK)
        self->front_n = front;
}

svc_rc
chunk_memo_next(chunk_memo_t *self, svc_str *rest, chunk_t *out)
{
    const svc_str data = *rest;
    svc_str content;

    if (is_cast(self, data, &content)) {
        *out = (chunk_t){.content = content};
        *rest = (svc_str){data.p + data.n, 0};
        return RC_OK;
    }
    svc_rc rc = chunk_next(rest, out);
    if (rc == RC_OK && rest->n == 0)
        learn(self, data, out);
    return rc;
}
