/* generation.c - the journal, the gate and the replay window over one log of bytes.
 *
 * Rules that hold after every call (the property test checks them):
 *   base <= acked, released <= total               what is kept covers all that is needed
 *   released == 0 until an ack of journaled > 0    nothing is shown before the journal began
 *   released grows only to <= acked + AHEAD, never while an unacked byte is older than HOLD
 * An attach says what is committed, so it counts as an ack of `from`. If it goes back (an owner
 * that lost more than it knew), `acked` goes back with it; `released` never does. */
#include "generation.h"

#include <stdlib.h>

#define MARKS_MAX        32          /* of arrivals: 3 s of steady text, more is merged */
#define REPEAT_MAX_BYTES (64u << 10) /* of a piece that is sent again */
#define MARK_MERGE_MS    100 /* text that came within this counts as one arrival */

/* When a part of the text came. */
typedef struct {
    uint64_t end; /* offset past it */
    uint64_t ms;  /* when its first byte came */
} arrival_t;

struct generation {
    uint8_t stream[PROTO_STREAM_BYTES]; /* identity */
    uint64_t fence;                     /* which text */
    uint64_t term;                      /* highest seen */
    const generation_out_t *out;        /* borrowed */
    void *arg;                          /* for out */

    svc_buf_t log;      /* text from base on */
    uint64_t base;      /* offset of log.p[0] */
    uint64_t max_bytes; /* of the whole text */

    uint64_t call;     /* kept call that the journal goes to, 0: none */
    uint64_t acked;    /* committed by the owner */
    uint64_t sent;     /* end of the piece in flight, >= acked while in_flight */
    uint64_t sent_ms;  /* when it was sent last */
    uint64_t first_ms; /* when it was sent first */
    bool in_flight;    /* one piece waits for its ack */
    bool hurry;   /* the next piece goes out at once: the first, or after an attach */
    bool refused; /* FINAL was dropped at sent_ms: its call is still open */
    uint64_t owner_ms; /* last sign of an owner, or when its call was lost */

    bool open;                     /* gate: the journal has begun */
    bool doubted;                  /* we stood still; the owner has not spoken since */
    uint64_t released;             /* shown up to here */
    arrival_t arrivals[MARKS_MAX]; /* of the unacknowledged text, oldest first */
    size_t n_arrivals;             /* rows in use */
    uint64_t spoke_ms;             /* last frame */
    bool marked;                   /* the last frame was a mark */

    bool ended;      /* no more text */
    bool stored;     /* the owner has committed the end */
    bool end_told;   /* the end frame went out */
    ending_t ending; /* valid when ended; views into words */
    char *words;     /* owned: copies of finish and sentence, one behind the other */
};

generation_t *
generation_new(const generate_req_t *req, uint64_t call, size_t max_bytes,
               const generation_out_t *out, void *arg, uint64_t now_ms)
{
    generation_t *self = svc_alloc(sizeof(*self));

    SVC_ASSERT(req->stream.n == PROTO_STREAM_BYTES);
    memcpy(self->stream, req->stream.p, PROTO_STREAM_BYTES);
    self->fence = req->fence;
    self->term = req->term;
    self->call = call;
    self->out = out;
    self->arg = arg;
    self->max_bytes = max_bytes;
    self->hurry = true;
    self->owner_ms = self->spoke_ms = now_ms;
    svc_buf_init(&self->log, max_bytes);
    return self;
}

void
generation_destroy(generation_t **self_p)
{
    generation_t *self = *self_p;

    if (self == NULL)
        return;
    svc_buf_fini(&self->log);
    free(self->words);
    free(self);
    *self_p = NULL;
}

static uint64_t
total(const generation_t *self)
{
    return self->base + self->log.n;
}

/* True when `offset` is in the log (or at its end) and between two characters. */
static bool
is_boundary(const generation_t *self, uint64_t offset)
{
    if (offset < self->base || offset > total(self))
        return false;
    if (offset == total(self))
        return true;
    return ((uint8_t)self->log.p[offset - self->base] & 0xC0) != 0x80;
}

/* The bytes from `from` on: as many whole characters as fit in `max`. */
static svc_str
slice(const generation_t *self, uint64_t from, uint64_t max)
{
    uint64_t end = total(self) - from > max ? from + max : total(self);

    while (end > from && !is_boundary(self, end))
        end--;
    if (end == from)
        return (svc_str){"", 0};
    return (svc_str){self->log.p + (from - self->base), (size_t)(end - from)};
}

/* --- from the provider ------------------------------------------------------------- */

static void
note_arrival(generation_t *self, uint64_t now_ms)
{
    arrival_t *last = self->n_arrivals == 0 ? NULL
                                            : &self->arrivals[self->n_arrivals - 1];

    if (last == NULL ||
        (now_ms - last->ms >= MARK_MERGE_MS && self->n_arrivals < MARKS_MAX))
        self->arrivals[self->n_arrivals++] = (arrival_t){total(self), now_ms};
    else
        last->end = total(
            self); /* counts as older than it is: the gate errs on the safe side */
}

static void
end_with(generation_t *self, svc_rc error, const char *finish, const char *text)
{
    ending_t ending = {
        .error = error, .finish = svc_str_c(finish), .text = svc_str_c(text)};

    generation_end(self, &ending);
}

void
generation_append(generation_t *self, svc_str text, uint64_t now_ms)
{
    uint64_t room = self->max_bytes - total(self);
    bool cut = text.n > room;

    if (self->ended || text.n == 0)
        return;
    if (cut) {
        text.n = (size_t)room;
        while (text.n > 0 && ((uint8_t)text.p[text.n] & 0xC0) == 0x80)
            text.n--;
    }
    if (text.n > 0) {
        if (svc_buf_add_str(&self->log, text) != RC_OK) {
            end_with(self, RC_INTERNAL, "", "There is no memory for this answer.");
            return;
        }
        note_arrival(self, now_ms);
    }
    if (cut)
        end_with(self, RC_OK, "length", "");
}

/* As much of whole characters as fits in `max`. */
static svc_str
cut(svc_str text, size_t max)
{
    size_t n = text.n > max ? max : text.n;

    while (n < text.n && n > 0 && ((uint8_t)text.p[n] & 0xC0) == 0x80)
        n--;
    return (svc_str){text.p, n};
}

void
generation_end(generation_t *self, const ending_t *ending)
{
    if (self->ended)
        return;
    const svc_str finish = cut(ending->finish, ENDING_FINISH_MAX_BYTES);
    const svc_str text = cut(ending->text, PROTO_ERROR_TEXT_MAX_BYTES);
    self->ended = true;
    self->ending = *ending;
    self->words = svc_alloc(finish.n + text.n + 1);
    if (finish.n > 0)
        memcpy(self->words, finish.p, finish.n);
    if (text.n > 0)
        memcpy(self->words + finish.n, text.p, text.n);
    self->ending.finish = (svc_str){self->words, finish.n};
    self->ending.text = (svc_str){self->words + finish.n, text.n};
}

/* --- from the owner ---------------------------------------------------------------- */

/* Everything before `offset` is committed. */
static void
move_acked(generation_t *self, uint64_t offset)
{
    size_t gone = 0;

    if (offset < self->acked) {
        /* when that text came is forgotten: old enough to hold the show until it is safe
         * again */
        self->arrivals[0] = (arrival_t){total(self), 0};
        self->n_arrivals = 1;
        self->acked = offset;
        return;
    }
    self->acked = offset;
    while (gone < self->n_arrivals && self->arrivals[gone].end <= offset)
        gone++;
    self->n_arrivals -= gone;
    memmove(self->arrivals, self->arrivals + gone, self->n_arrivals * sizeof(arrival_t));
    if (offset > 0)
        self->open = true;
}

static bool
check_term(generation_t *self, uint64_t term, uint64_t now_ms)
{
    if (term < self->term)
        return false;
    self->term = term;
    self->owner_ms = now_ms;
    self->doubted = false;
    return true;
}

svc_rc
generation_ack(generation_t *self, const ack_req_t *ack, uint64_t now_ms)
{
    if (!check_term(self, ack->term, now_ms))
        return RC_STALE;
    if (ack->journaled > total(self))
        return RC_INVALID;
    if (ack->journaled > self->acked) {
        if (!is_boundary(self, ack->journaled))
            return RC_INVALID;
        move_acked(self, ack->journaled);
        if (self->in_flight)
            self->in_flight = self->sent > self->acked;
    }
    if (ack->stored && self->ended)
        self->stored = true;
    return RC_OK;
}

svc_rc
generation_attach(generation_t *self, uint64_t term, uint64_t from, uint64_t call,
                  uint64_t now_ms)
{
    if (!check_term(self, term, now_ms))
        return RC_STALE;
    if (from < self->base || from > total(self))
        return RC_TOO_OLD;
    if (!is_boundary(self, from))
        return RC_INVALID;
    move_acked(self, from);
    self->call = call;
    self->in_flight = false;
    self->hurry = true;
    self->refused = false;
    return RC_OK;
}

svc_rc
generation_stop(generation_t *self, uint64_t term, uint64_t now_ms)
{
    if (!check_term(self, term, now_ms))
        return RC_STALE;
    if (!self->ended)
        end_with(self, RC_OK, "stopped", "");
    return RC_OK;
}

void
generation_call_gone(generation_t *self, uint64_t call, uint64_t now_ms)
{
    if (call == 0 || self->call != call)
        return;
    self->call = 0;
    self->in_flight = false;
    self->owner_ms = now_ms;
}

void
generation_doubt(generation_t *self, uint64_t now_ms)
{
    self->doubted = true;
    self->owner_ms = now_ms;
}

/* --- the journal ------------------------------------------------------------------- */

/* True while the owner owes us an answer, or has to make room for one of ours. */
static bool
is_waiting(const generation_t *self)
{
    return self->call != 0 && (self->in_flight || self->refused);
}

/* Since when the owner lets us wait; while it does. */
static uint64_t
waiting_since(const generation_t *self)
{
    return self->owner_ms > self->first_ms ? self->owner_ms : self->first_ms;
}

static uint64_t
repeat_due(const generation_t *self)
{
    bool is_slow = self->sent_ms >= waiting_since(self) + GENERATION_PATIENCE_MS;

    return self->sent_ms + (is_slow ? GENERATION_SLOW_REPEAT_MS : GENERATION_REPEAT_MS);
}

/* Sends the bytes from acked up to the length of `bytes`; the call may be gone
 * afterwards. */
static void
send_piece(generation_t *self, svc_str bytes, bool final, uint64_t now_ms)
{
    journal_rep_t piece = {.from = self->acked, .bytes = bytes};

    if (final) {
        piece.usage = self->ending.usage;
        piece.finish = self->ending.finish;
        if (self->ending.error != RC_OK) {
            piece.finish = (svc_str){"", 0};
            piece.error = svc_str_c(svc_rc_info(self->ending.error)->wire);
            piece.text = self->ending.text;
            piece.retry_after_s = self->ending.retry_after_s;
        }
    }
    svc_rc rc = self->out->journal(self->arg, self->call, &piece, final);
    if (rc != RC_OK && rc != RC_BUSY) {
        generation_call_gone(self, self->call, now_ms);
        return;
    }
    if (!is_waiting(self))
        self->first_ms = now_ms;
    self->sent = self->acked + bytes.n;
    self->sent_ms = now_ms;
    self->in_flight = bytes.n > 0;
    self->hurry = false;
    self->refused = final && rc == RC_BUSY;
    if (final && rc == RC_OK) { /* it was the last reply of the call */
        self->call = 0;
        self->owner_ms = now_ms;
    }
}

/* When the next piece is due; UINT64_MAX: not before something happens. */
static uint64_t
piece_due(const generation_t *self)
{
    uint64_t unsent = total(self) - self->acked;

    if (self->call == 0)
        return UINT64_MAX;
    if (self->ended && unsent <= PROTO_PIECE_MAX_BYTES)
        return self->refused ? repeat_due(self) : 0;
    if (self->in_flight)
        return repeat_due(self);
    if (unsent == 0)
        return UINT64_MAX;
    if (self->hurry || self->ended || unsent >= GENERATION_PIECE_BYTES)
        return 0;
    return self->sent_ms + GENERATION_PIECE_MS;
}

static void
step_journal(generation_t *self, uint64_t now_ms)
{
    if (is_waiting(self) && now_ms >= waiting_since(self) + GENERATION_ORPHAN_MS) {
        uint64_t call = self->call;
        generation_call_gone(self, call, now_ms);
        self->out->give_up(self->arg, call);
        return;
    }
    if (piece_due(self) > now_ms)
        return;
    bool final = self->ended && total(self) - self->acked <= PROTO_PIECE_MAX_BYTES;
    uint64_t max = PROTO_PIECE_MAX_BYTES;
    if (self->in_flight && !final) {
        /* Repeats are short: they pile up in the queue of an owner that does not read. */
        max = self->sent - self->acked;
        max = max < REPEAT_MAX_BYTES ? max : REPEAT_MAX_BYTES;
    }
    send_piece(self, slice(self, self->acked, max), final, now_ms);
}

/* --- the gate ---------------------------------------------------------------------- */

static void
publish(generation_t *self, proto_token_kind kind, uint64_t offset, svc_str bytes,
        uint64_t now_ms)
{
    proto_token_t token = {
        .version = PROTO_VERSION,
        .stream = generation_stream(self),
        .fence = self->fence,
        .offset = offset,
        .kind = kind,
        .bytes = bytes,
    };

    self->out->publish(self->arg, &token);
    self->spoke_ms = now_ms;
    self->marked = kind == PROTO_TOKEN_MARK;
}

static bool
is_held(const generation_t *self, uint64_t now_ms)
{
    return self->n_arrivals > 0 && now_ms - self->arrivals[0].ms > GENERATION_HOLD_MS;
}

static void
step_gate(generation_t *self, uint64_t now_ms)
{
    if (!self->open || is_held(self, now_ms))
        return;
    while (self->released < total(self)) {
        uint64_t limit = self->acked + (self->doubted ? 0 : GENERATION_AHEAD_BYTES);
        uint64_t max = limit > self->released ? limit - self->released : 0;

        if (max > GENERATION_FRAME_MAX_BYTES)
            max = GENERATION_FRAME_MAX_BYTES;
        svc_str bytes = slice(self, self->released, max);
        if (bytes.n == 0)
            break;
        publish(self, PROTO_TOKEN_TEXT, self->released, bytes, now_ms);
        self->released += bytes.n;
    }
}

/* Marks tell a silent viewer how much it should have; the end frame that a status will
 * come. */
static void
step_hints(generation_t *self, uint64_t now_ms)
{
    svc_str none = {"", 0};

    if (self->end_told)
        return;
    if (self->ended && self->released == total(self)) {
        self->end_told = true;
        publish(self, PROTO_TOKEN_END, self->released, none, now_ms);
    } else if (self->released > 0 &&
               now_ms - self->spoke_ms >=
                   (self->marked ? GENERATION_MARK_MS : GENERATION_MARK_FIRST_MS)) {
        publish(self, PROTO_TOKEN_MARK, self->released, none, now_ms);
    }
}

/* Drops text that nobody can need from here, in large steps since the rest moves down. */
static void
trim(generation_t *self)
{
    uint64_t keep = self->acked < self->released ? self->acked : self->released;
    uint64_t window = total(self) > GENERATION_KEEP_BYTES
                          ? total(self) - GENERATION_KEEP_BYTES
                          : 0;

    if (window < keep)
        keep = window;
    if (keep < self->base + GENERATION_KEEP_BYTES || keep - self->base < self->log.n / 2)
        return;
    while (!is_boundary(self, keep))
        keep--;
    svc_buf_consume(&self->log, (size_t)(keep - self->base));
    self->base = keep;
}

/* --- time -------------------------------------------------------------------------- */

static uint64_t
next_due(const generation_t *self)
{
    uint64_t due = piece_due(self);
    uint64_t mark = self->spoke_ms +
                    (self->marked ? GENERATION_MARK_MS : GENERATION_MARK_FIRST_MS);
    uint64_t orphan = self->owner_ms + GENERATION_ORPHAN_MS;

    if (self->released > 0 && !self->end_told && mark < due)
        due = mark;
    if (is_waiting(self))
        orphan = waiting_since(self) + GENERATION_ORPHAN_MS;
    if ((self->call == 0 || is_waiting(self)) && orphan < due)
        due = orphan;
    return due;
}

uint64_t
generation_step(generation_t *self, uint64_t now_ms)
{
    step_journal(self, now_ms);
    step_gate(self, now_ms);
    step_hints(self, now_ms);
    trim(self);
    return next_due(self);
}

bool
generation_is_over(const generation_t *self, uint64_t now_ms)
{
    return self->stored ||
           (self->call == 0 && now_ms - self->owner_ms >= GENERATION_ORPHAN_MS);
}

bool
generation_is_wasted(const generation_t *self)
{
    return !self->stored || self->acked < total(self);
}

bool
generation_has_ended(const generation_t *self)
{
    return self->ended;
}

/* --- from a viewer's gateway ------------------------------------------------------- */

svc_rc
generation_replay(const generation_t *self, uint64_t from, replay_rep_t *out)
{
    uint64_t max;

    if (from < self->base)
        return RC_TOO_OLD;
    *out = (replay_rep_t){.from = from, .bytes = {"", 0}, .released = self->released};
    if (from >= self->released)
        return RC_OK;
    if (!is_boundary(self, from))
        return RC_INVALID;
    max = self->released - from;
    out->bytes = slice(self, from,
                       max < PROTO_PAGE_MAX_BYTES ? max : PROTO_PAGE_MAX_BYTES);
    return RC_OK;
}

/* --- what it is -------------------------------------------------------------------- */

svc_str
generation_stream(const generation_t *self)
{
    return (svc_str){(const char *)self->stream, PROTO_STREAM_BYTES};
}

uint64_t
generation_fence(const generation_t *self)
{
    return self->fence;
}

uint64_t
generation_term(const generation_t *self)
{
    return self->term;
}

uint64_t
generation_call(const generation_t *self)
{
    return self->call;
}

uint64_t
generation_length(const generation_t *self)
{
    return total(self);
}
