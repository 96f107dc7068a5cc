/* test_feed_property.c - whatever happens to frames, statuses and pages, each viewer gets the exact text once.
 *
 * A small world under a seed: one answer whose llm-svc publishes behind the gate and past the journal, two
 * gateways with a feed each while they have viewers, and viewers that come late, at any offset, read
 * slowly, lose their connection and go on at the other gateway with the id of their last event. Frames are
 * lost, doubled, reordered, or of another fence; statuses come late, or stale by way of a replica that owns
 * nothing; pages are cut anywhere, and their sources fail. The answer ends complete, or its llm-svc is lost:
 * then it ends with all that was handed in. A failure prints its seed; LLMB_SEED=n runs that one alone. */
#include "gateway/sse_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SEEDS       600
#define GATEWAYS    2
#define VIEWERS     5
#define FLIGHT      24          /* frames on their way to one gateway */
#define STATUSES    64          /* statuses on their way to one gateway */
#define SHORT_BYTES 2500        /* of most answers */
#define LONG_BYTES  700000      /* of some: the window has to move */
#define AHEAD_BYTES (64u << 10) /* llm-svc shows so much past the journal */
#define FENCE       0x77u
#define STEPS_CHAOS \
    4000 /* afterwards nothing is lost any more, so that all comes to an end */
#define STEPS_MAX 400000

static const uint8_t stream_bytes[PROTO_STREAM_BYTES] = "property stream";

typedef struct {
    uint64_t from; /* offset */
    size_t n;      /* bytes; 0: a mark */
} frame_t;

typedef struct {
    feed_t *feed;                /* owned; NULL: nobody reads here */
    frame_t flight[FLIGHT];      /* frames that come later */
    size_t n_flight;             /* of them */
    status_rep_t told[STATUSES]; /* statuses on their way, oldest first */
    size_t n_told;               /* of them */
    bool has_handed_in; /* it knows of the loss, and convo-svc has what it held */
} gate_way_t;

typedef struct {
    int at;            /* gateway; -1: has not come, or is between two */
    sse_stream_t *sse; /* owned while it is at one */
    uint64_t start;    /* where it began */
    size_t n;          /* bytes of text that it was shown, from `start` on */
    stream_id_t last;  /* id of its last event: what it goes on with */
    svc_buf_t half;    /* of a connection: the rest of what was sent, no whole line yet */
    size_t
        n_full;  /* bytes of full_response; 0: has never come, SIZE_MAX: none came yet */
    bool done;   /* it has its last event */
    bool failed; /* that was an error event */
} viewer_t;

typedef struct {
    unsigned seed;      /* of this run */
    unsigned random;    /* state */
    char *truth;        /* owned; what the provider says */
    size_t n;           /* bytes of it */
    uint64_t written;   /* by the provider so far */
    uint64_t released;  /* by llm-svc: published or replayed */
    uint64_t journaled; /* committed */
    int state;          /* answer_state */
    bool is_lost;       /* its llm-svc is */
    uint64_t stored;    /* with what was handed in */
    gate_way_t gates[GATEWAYS];
    viewer_t viewers[VIEWERS];
    unsigned steps; /* so far */
} world_t;

static unsigned
pick(world_t *world, unsigned n)
{
    return (unsigned)rand_r(&world->random) % n;
}

static bool
is_chaos(const world_t *world)
{
    return world->steps < STEPS_CHAOS;
}

/* True once in n times, and never when all shall come to an end. */
static bool
happens(world_t *world, unsigned n)
{
    return is_chaos(world) && pick(world, n) == 0;
}

#define CHECK(world, what)                                                          \
    do {                                                                            \
        if (!(what))                                                                \
            fail_msg("seed %u, step %u: %s", (world)->seed, (world)->steps, #what); \
    } while (0)

/* --- the answer --------------------------------------------------------------------------- */

/* Letters, and characters of two and four bytes, so that every cut may be in the middle of one. */
static void
write_truth(world_t *world)
{
    size_t at = 0;

    world->n = pick(world, 40) == 0 ? LONG_BYTES : 1 + pick(world, SHORT_BYTES);
    world->truth = svc_alloc(world->n + 8);
    while (at < world->n) {
        static const char *const others[] = {"\xc3\xa9", "\xf0\x9f\x98\x80"};
        const char *other = others[pick(world, 2)];
        if (pick(world, 6) == 0) {
            memcpy(world->truth + at, other, strlen(other));
            at += strlen(other);
        } else {
            world->truth[at++] = (char)('a' + pick(world, 26));
        }
    }
    world->n = at;
}

/* The largest offset up to `offset` where a character begins. */
static uint64_t
whole(const world_t *world, uint64_t offset)
{
    while (offset > 0 && offset < world->n &&
           ((unsigned char)world->truth[offset] & 0xc0) == 0x80)
        offset--;
    return offset;
}

static status_rep_t
status_now(const world_t *world)
{
    bool is_over = answer_state_is_terminal(world->state);

    return (status_rep_t){
        .stream = {(const char *)stream_bytes, sizeof stream_bytes},
        .message = 2,
        .state = world->state,
        .length = is_over ? world->stored : world->journaled,
        .fence = world->state == ANSWER_WAITING ? FENCE - 1 : FENCE,
        .lost = world->is_lost,
        .finish = SVC_LIT("stop"),
        .reason = world->state == ANSWER_INTERRUPTED ? SVC_LIT("interrupted")
                                                     : SVC_LIT(""),
    };
}

/* Tells all gateways; a status that does not fit is one that nobody was told. */
static void
tell(world_t *world)
{
    for (int i = 0; i < GATEWAYS; i++) {
        gate_way_t *gate = &world->gates[i];
        if (gate->feed != NULL && gate->n_told < STATUSES)
            gate->told[gate->n_told++] = status_now(world);
    }
}

/* llm-svc lets text out: as far as the gate allows, in a frame that each gateway may get. */
static void
publish(world_t *world)
{
    uint64_t most = world->journaled == 0 ? 0 : world->journaled + AHEAD_BYTES;
    uint64_t size = 1 + pick(world, world->n > 100000 ? 30000 : 60);
    uint64_t to = world->released + size;
    frame_t frame = {world->released, 0};

    if (world->is_lost || answer_state_is_terminal(world->state))
        return;
    to = to > world->written ? world->written : to;
    to = whole(world, to > most ? most : to);
    if (to > world->released) {
        frame.n = (size_t)(to - world->released);
        world->released = to;
    }
    for (int i = 0; i < GATEWAYS; i++) {
        gate_way_t *gate = &world->gates[i];
        unsigned copies = happens(world, 4) ? 0 : happens(world, 8) ? 2 : 1;
        while (gate->feed != NULL && copies-- > 0 && gate->n_flight < FLIGHT)
            gate->flight[gate->n_flight++] = frame;
    }
}

/* The provider writes, convo-svc commits. */
static void
go_on(world_t *world)
{
    uint64_t size = 1 + pick(world, world->n > 100000 ? 40000 : 200);

    if (world->is_lost || answer_state_is_terminal(world->state))
        return;
    world->written = whole(world, world->written + size < world->n ? world->written + size
                                                                   : world->n);
    if (pick(world, 2) == 0)
        return;
    uint64_t to = world->journaled + 1 + pick(world, (unsigned)size);
    to = whole(world, to < world->written ? to : world->written);
    if (to == world->journaled)
        return;
    world->journaled = to;
    world->state = ANSWER_STREAMING;
    tell(world);
}

/* The end, or the loss of llm-svc, and later the end of that. */
static void
come_to_an_end(world_t *world)
{
    if (answer_state_is_terminal(world->state))
        return;
    if (world->is_lost) {
        for (int i = 0; i < GATEWAYS; i++)
            if (world->gates[i].feed != NULL && !world->gates[i].has_handed_in)
                return; /* convo-svc waits for a second */
        world->state = ANSWER_INTERRUPTED;
    } else if (world->journaled > 0 && happens(world, 60)) {
        world->is_lost = true;
        world->stored = world->journaled;
    } else if (world->journaled == world->n) {
        world->state = ANSWER_COMPLETE;
        world->stored = world->n;
    } else {
        return;
    }
    tell(world);
}

/* --- a gateway ---------------------------------------------------------------------------- */

static void
take_status(world_t *world, gate_way_t *gate, const status_rep_t *status)
{
    feed_take_status(gate->feed, status);
    CHECK(world, feed_failed(gate->feed) == RC_OK);
    if (!status->lost || answer_state_is_terminal(status->state) || gate->has_handed_in)
        return;
    svc_str tail = feed_text(gate->feed, status->length);
    gate->has_handed_in = true; /* in pieces of whole characters, as live_watch does it */
    uint64_t end = whole(world, status->length + tail.n);
    CHECK(world,
          tail.n == 0 || memcmp(tail.p, world->truth + status->length, tail.n) == 0);
    if (end > world->stored)
        world->stored = end;
}

/* The next status comes in; now and then an old one once more, told by one that owns nothing. */
static void
hear(world_t *world, gate_way_t *gate)
{
    if (gate->feed == NULL || gate->n_told == 0)
        return;
    status_rep_t status = gate->told[0];
    if (!happens(world, 5)) {
        gate->n_told--;
        memmove(gate->told, gate->told + 1, gate->n_told * sizeof *gate->told);
    } else if (status.state == ANSWER_WAITING || status.lost) {
        return;
    }
    status.lost = status.lost ||
                  feed_status(gate->feed)->lost; /* as live_watch does it */
    take_status(world, gate, &status);
}

/* Any frame on its way comes in; now and then one of another text. */
static void
receive(world_t *world, gate_way_t *gate)
{
    static char lie[64] =
        "this was never said by the provider and nobody may ever see it.";

    if (gate->feed == NULL)
        return;
    if (happens(world, 6) && feed_fence(gate->feed) != 0) {
        proto_token_t token = {.fence = FENCE + 1 + pick(world, 3),
                               .offset = feed_end(gate->feed),
                               .bytes = {lie, sizeof lie}};
        CHECK(world, feed_take_token(gate->feed, &token) != FEED_GREW);
    }
    if (gate->n_flight == 0)
        return;
    size_t i = happens(world, 2) ? pick(world, (unsigned)gate->n_flight) : 0;
    frame_t frame = gate->flight[i];
    gate->n_flight--;
    memmove(gate->flight + i, gate->flight + i + 1,
            (gate->n_flight - i) * sizeof *gate->flight);
    proto_token_t token = {.fence = FENCE,
                           .offset = frame.from,
                           .kind = frame.n > 0 ? PROTO_TOKEN_TEXT : PROTO_TOKEN_MARK,
                           .bytes = {world->truth + frame.from, frame.n}};
    (void)feed_take_token(gate->feed, &token);
}

/* What is missing is fetched: from llm-svc what it has let out, or from the journal what is committed. */
static void
fetch(world_t *world, gate_way_t *gate)
{
    if (gate->feed == NULL || !feed_has_gap(gate->feed) || happens(world, 3))
        return;
    bool is_over = answer_state_is_terminal(world->state);
    bool is_read = is_over || world->is_lost || pick(world, 2) == 0;
    uint64_t from = feed_end(gate->feed);
    uint64_t to = !is_read ? world->released : is_over ? world->stored : world->journaled;
    uint64_t fence = feed_fence(gate->feed) != 0 ? feed_fence(gate->feed)
                                                 : feed_status(gate->feed)->fence;
    if (to <= from || fence != FENCE)
        return;
    uint64_t n = to - from < PROTO_PAGE_MAX_BYTES ? to - from : PROTO_PAGE_MAX_BYTES;
    if (is_chaos(world))
        n = 1 + pick(world, (unsigned)n);
    (void)feed_take_page(gate->feed, fence, from,
                         (svc_str){world->truth + from, (size_t)n});
}

/* --- a viewer ----------------------------------------------------------------------------- */

/* Where a client goes on: behind the last event that it has got whole. */
static void
leave(world_t *world, viewer_t *viewer)
{
    gate_way_t *gate = &world->gates[viewer->at];

    sse_stream_destroy(&viewer->sse);
    svc_buf_clear(&viewer->half);
    viewer->at = -1;
    for (int i = 0; i < VIEWERS; i++)
        if (&world->gates[world->viewers[i].at < 0 ? 0 : world->viewers[i].at] == gate &&
            world->viewers[i].at >= 0)
            return;
    feed_destroy(&gate->feed);
    gate->n_flight = gate->n_told = 0;
    gate->has_handed_in = false;
}

/* Joins the feed of a gateway, or begins one as live_feed_watch does. */
static void
join(world_t *world, viewer_t *viewer, int at)
{
    gate_way_t *gate = &world->gates[at];
    status_rep_t status = status_now(world);

    if (gate->feed == NULL) {
        gate->feed = feed_new(stream_bytes);
        feed_start_at(gate->feed, viewer->last.offset < status.length
                                      ? viewer->last.offset
                                      : status.length);
        take_status(world, gate, &status);
    }
    viewer->at = at;
    viewer->sse = sse_stream_new(&viewer->last, SSE_FRAMING_EVENTS, TEXT_EN);
    if (pick(world, 3) == 0)
        sse_stream_bound(viewer->sse, 16 << 10);
}

/* The JSON text of an event that carries text: no character of ours is escaped. */
static svc_str
data_of(svc_str line)
{
    static const char key[] = "\"data\":\"";
    const char *from = memmem(line.p, line.n, key, sizeof key - 1);
    size_t n = from != NULL ? line.n - (size_t)(from - line.p) - (sizeof key - 1) : 0;
    const char *end = from != NULL ? memchr(from + sizeof key - 1, '"', n) : NULL;

    if (end == NULL)
        return (svc_str){NULL, 0};
    from += sizeof key - 1;
    return (svc_str){from, (size_t)(end - from)};
}

/* One whole block has come: "id: …\nevent: …\ndata: …". */
static void
take_block(world_t *world, viewer_t *viewer, svc_str block)
{
    const char *id = memmem(block.p, block.n, "id: ", 4);
    const char *event = memmem(block.p, block.n, "event: ", 7);

    CHECK(world, id != NULL);
    size_t left = block.n - (size_t)(id + 4 - block.p);
    const char *end = memchr(id, '\n', left);
    svc_str text = {id + 4, end != NULL ? (size_t)(end - id) - 4 : left};
    CHECK(world, stream_id_read(text, &viewer->last));
    if (event == NULL)
        return; /* the beginning */
    svc_str data = data_of(block);
    if (strncmp(event + 7, "message", 7) == 0) {
        uint64_t from = viewer->start + viewer->n;
        CHECK(world, viewer->last.offset == from + data.n);
        CHECK(world, viewer->last.offset <= world->n);
        CHECK(world, memcmp(data.p, world->truth + from, data.n) == 0);
        viewer->n += data.n;
    } else if (strncmp(event + 7, "full", 4) == 0) {
        viewer->n_full = data.n;
        CHECK(world, data.n == world->stored);
        CHECK(world, memcmp(data.p, world->truth, data.n) == 0);
    } else if (strncmp(event + 7, "error", 5) == 0) {
        viewer->failed = true;
    }
}

static void
take_blocks(world_t *world, viewer_t *viewer)
{
    for (;;) {
        svc_str all = svc_buf_str(&viewer->half);
        const char *end = all.n > 0 ? memmem(all.p, all.n, "\n\n", 2) : NULL;
        if (end == NULL)
            return;
        take_block(world, viewer, (svc_str){all.p, (size_t)(end - all.p)});
        svc_buf_consume(&viewer->half, (size_t)(end - all.p) + 2);
    }
}

/* The viewer's socket takes some more. */
static void
read_on(world_t *world, viewer_t *viewer)
{
    feed_t *feed = world->gates[viewer->at].feed;

    switch (sse_stream_next(viewer->sse, feed, &viewer->half)) {
    case SSE_SENT: take_blocks(world, viewer); break;
    case SSE_NEED_PAGE: {
        uint64_t from = sse_stream_offset(viewer->sse);
        uint64_t end = answer_state_is_terminal(world->state) ? world->stored
                                                              : world->journaled;
        uint64_t n = end > from ? end - from : 0;
        n = n < PROTO_PAGE_MAX_BYTES ? n : PROTO_PAGE_MAX_BYTES;
        if (n > 0 && is_chaos(world))
            n = 1 + pick(world, (unsigned)n);
        if (n > 0)
            sse_stream_page(viewer->sse, from, (svc_str){world->truth + from, (size_t)n});
        break;
    }
    case SSE_END:
        viewer->done = true;
        leave(world, viewer);
        break;
    case SSE_IDLE: break;
    case SSE_BROKEN: fail_msg("seed %u: a stream breaks", world->seed); break;
    }
}

/* It comes, reads, or loses its connection and comes back elsewhere. */
static void
live(world_t *world, viewer_t *viewer)
{
    if (viewer->done)
        return;
    if (viewer->at < 0) {
        if (viewer->n_full == 0) { /* for the first time: anywhere in what is committed */
            uint64_t most = answer_state_is_terminal(world->state) ? world->stored
                                                                   : world->journaled;
            viewer->start = pick(world, 2) == 0
                                ? 0
                                : whole(world, pick(world, (unsigned)most + 1));
            viewer->last = (stream_id_t){.offset = viewer->start, .mark = STREAM_ID_TEXT};
            memcpy(viewer->last.stream, stream_bytes, sizeof stream_bytes);
            viewer->n_full = SIZE_MAX;
        }
        if (viewer->last.mark == STREAM_ID_END) {
            viewer->done = true; /* 204 */
            return;
        }
        join(world, viewer, (int)pick(world, GATEWAYS));
    } else if (happens(world, 50)) {
        leave(world, viewer);
    } else {
        read_on(world, viewer);
    }
}

/* --- runs --------------------------------------------------------------------------------- */

static bool
is_finished(const world_t *world)
{
    for (int i = 0; i < VIEWERS; i++)
        if (!world->viewers[i].done)
            return false;
    return true;
}

static void
take_step(world_t *world)
{
    gate_way_t *gate = &world->gates[pick(world, GATEWAYS)];
    viewer_t *viewer = &world->viewers[pick(world, VIEWERS)];

    world->steps++;
    switch (pick(world, 12)) {
    case 0: go_on(world); break;
    case 1:
    case 2: publish(world); break;
    case 3: come_to_an_end(world); break;
    case 4:
    case 5: hear(world, gate); break;
    case 6:
    case 7: receive(world, gate); break;
    case 8: fetch(world, gate); break;
    default: live(world, viewer); break;
    }
}

static void
check_end(const world_t *world)
{
    for (int i = 0; i < VIEWERS; i++) {
        const viewer_t *viewer = &world->viewers[i];
        CHECK(world, viewer->start + viewer->n == world->stored);
        CHECK(world, viewer->failed == (world->state == ANSWER_INTERRUPTED));
        CHECK(world, viewer->failed || viewer->n_full == world->stored);
    }
}

static void
run_once(unsigned seed)
{
    world_t *world = svc_alloc(sizeof *world);

    world->seed = world->random = seed;
    world->state = ANSWER_WAITING;
    write_truth(world);
    for (int i = 0; i < VIEWERS; i++) {
        world->viewers[i].at = -1;
        svc_buf_init(&world->viewers[i].half, LONG_BYTES + SSE_OUT_MAX_BYTES);
    }
    while (!is_finished(world) && world->steps < STEPS_MAX)
        take_step(world);
    CHECK(world, is_finished(world));
    check_end(world);
    for (int i = 0; i < VIEWERS; i++)
        svc_buf_fini(&world->viewers[i].half);
    free(world->truth);
    free(world);
}

static void
every_viewer_gets_the_exact_text_once(void **state)
{
    const char *seed = getenv("LLMB_SEED");

    (void)state;
    if (seed != NULL) {
        run_once((unsigned)strtoul(seed, NULL, 10));
        return;
    }
    for (unsigned i = 1; i <= SEEDS; i++)
        run_once(i);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_viewer_gets_the_exact_text_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
