/* test_feed.c - an answer's text comes together exactly once, whatever happens to its frames.
 *
 * The property at the end drops, doubles, reorders and fakes frames at random,
 * hands in pages as the hub would, and compares every byte. Seeds are printed
 * when it fails. */
#include "gateway/feed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint8_t id[PROTO_STREAM_BYTES] = "0123456789abcde";

static proto_token_t
text(uint64_t fence, uint64_t offset, const char *bytes)
{
    return (proto_token_t){.version = 1,
                           .fence = fence,
                           .offset = offset,
                           .kind = PROTO_TOKEN_TEXT,
                           .bytes = svc_str_c(bytes)};
}

static status_rep_t
status(answer_state state, uint64_t length, uint64_t fence)
{
    return (status_rep_t){.message = 2,
                          .state = (int)state,
                          .length = length,
                          .fence = fence,
                          .finish = SVC_LIT("stop")};
}

static void
assert_text(const feed_t *feed, uint64_t from, const char *wanted)
{
    svc_str got = feed_text(feed, from);

    assert_int_equal(got.n, strlen(wanted));
    assert_memory_equal(got.p != NULL ? got.p : "", wanted, got.n);
}

static feed_news
take(feed_t *feed, proto_token_t token)
{
    return feed_take_token(feed, &token);
}

static void
frames_in_order_are_the_text(void **state)
{
    feed_t *feed = feed_new(id);

    (void)state;
    assert_true(svc_str_eq(feed_stream(feed), (svc_str){(const char *)id, sizeof id}));
    assert_int_equal(take(feed, text(7, 0, "Hello")), FEED_GREW);
    assert_int_equal(take(feed, text(7, 5, ", you")), FEED_GREW);
    assert_text(feed, 0, "Hello, you");
    assert_text(feed, 7, "you");
    assert_text(feed, 10, "");
    assert_text(feed, 11, "");
    assert_false(feed_has_gap(feed));
    assert_false(feed_is_settled(feed));
    feed_destroy(&feed);
    assert_null(feed);
}

static void
overlap_is_skipped(void **state)
{
    feed_t *feed = feed_new(id);

    (void)state;
    assert_int_equal(take(feed, text(7, 0, "abc")), FEED_GREW);
    assert_int_equal(take(feed, text(7, 0, "abc")), FEED_SAME);
    assert_int_equal(take(feed, text(7, 1, "bcde")), FEED_GREW);
    assert_text(feed, 0, "abcde");
    feed_destroy(&feed);
}

static void
a_frame_past_the_end_tells_of_a_gap(void **state)
{
    feed_t *feed = feed_new(id);

    (void)state;
    assert_int_equal(take(feed, text(7, 3, "def")), FEED_GAP);
    assert_int_equal(take(feed, text(7, 6, "ghi")), FEED_SAME);
    assert_true(feed_has_gap(feed));
    assert_text(feed, 0, "");
    assert_int_equal(feed_take_page(feed, 7, 0, SVC_LIT("abcdef")), FEED_GREW);
    assert_true(feed_has_gap(feed));
    assert_int_equal(feed_take_page(feed, 7, 6, SVC_LIT("ghi")), FEED_GREW);
    assert_false(feed_has_gap(feed));
    assert_text(feed, 0, "abcdefghi");
    assert_int_equal(feed_take_page(feed, 7, 20, SVC_LIT("x")), FEED_SAME);
    feed_destroy(&feed);
}

static void
a_mark_shows_a_lost_tail(void **state)
{
    feed_t *feed = feed_new(id);
    proto_token_t mark = {.fence = 7, .offset = 3, .kind = PROTO_TOKEN_MARK};

    (void)state;
    assert_int_equal(take(feed, mark), FEED_FENCED);
    assert_int_equal(take(feed, text(7, 0, "abc")), FEED_GREW);
    assert_int_equal(take(feed, mark), FEED_SAME);
    mark.offset = 5;
    assert_int_equal(take(feed, mark), FEED_GAP);
    mark.kind = 99;
    mark.offset = 9;
    assert_int_equal(take(feed, mark), FEED_SAME);
    feed_destroy(&feed);
}

static void
an_answer_that_is_given_up_grows_by_its_journal_only(void **state)
{
    feed_t *feed = feed_new(id);
    status_rep_t lost = status(ANSWER_STREAMING, 4, 7);

    (void)state;
    lost.lost = true;
    assert_int_equal(take(feed, text(7, 0, "ab")), FEED_GREW);
    feed_take_status(feed, &lost);
    assert_int_equal(take(feed, text(7, 2, "cdef")), FEED_SAME);
    assert_text(feed, 0, "ab");
    assert_int_equal(feed_take_page(feed, 7, 2, SVC_LIT("cdef")), FEED_GREW);
    assert_text(feed, 0, "abcd"); /* as far as it is stored */
    feed_take_status(feed, &(status_rep_t){.state = ANSWER_INTERRUPTED,
                                           .length = 5,
                                           .fence = 7,
                                           .reason = SVC_LIT("interrupted")});
    assert_int_equal(feed_take_page(feed, 7, 4, SVC_LIT("e")), FEED_GREW);
    assert_text(feed, 0, "abcde");
    assert_true(feed_is_settled(feed));
    feed_destroy(&feed);
}

static void
text_from_before_a_first_status_that_tells_of_a_loss_is_not_shown(void **state)
{
    feed_t *feed = feed_new(id);
    status_rep_t lost = status(ANSWER_STREAMING, 3, 7);

    (void)state;
    lost.lost = true;
    assert_int_equal(take(feed, text(7, 0, "abcdef")), FEED_GREW);
    feed_take_status(feed, &lost);
    assert_text(feed, 0, "abc"); /* nobody may be taking tails any more */
    assert_int_equal(feed_end(feed), 3);
    feed_take_status(feed, &(status_rep_t){.state = ANSWER_INTERRUPTED,
                                           .length = 3,
                                           .fence = 7,
                                           .reason = SVC_LIT("interrupted")});
    assert_true(feed_is_settled(feed));
    feed_destroy(&feed);
}

static void
a_deleted_answer_is_settled_without_the_text_that_nobody_has(void **state)
{
    feed_t *feed = feed_new(id);

    (void)state;
    assert_int_equal(take(feed, text(7, 0, "ab")), FEED_GREW);
    feed_take_status(feed, &(status_rep_t){.state = ANSWER_INTERRUPTED,
                                           .length = 9,
                                           .fence = 7,
                                           .reason = SVC_LIT("deleted")});
    assert_false(feed_has_gap(feed));
    assert_true(feed_is_settled(feed));
    assert_text(feed, 0, "ab");
    feed_destroy(&feed);
}

static void
the_first_text_brings_its_fence_and_others_are_skipped(void **state)
{
    feed_t *feed = feed_new(id);
    status_rep_t streaming = status(ANSWER_STREAMING, 3, 7);

    (void)state;
    assert_int_equal(feed_fence(feed), 0);
    assert_int_equal(take(feed, text(7, 0, "abc")), FEED_GREW);
    assert_int_equal(take(feed, text(8, 3, "xyz")), FEED_FENCED);
    feed_take_status(feed, &streaming);
    assert_int_equal(feed_failed(feed), RC_OK);
    assert_int_equal(feed_fence(feed), 7);
    assert_int_equal(feed_take_page(feed, 8, 3, SVC_LIT("xyz")), FEED_FENCED);
    assert_text(feed, 0, "abc");
    feed_destroy(&feed);
}

static void
a_fence_that_only_waited_binds_nothing(void **state)
{
    feed_t *feed = feed_new(id);
    status_rep_t waiting = status(ANSWER_WAITING, 0, 7);

    (void)state;
    feed_take_status(feed, &waiting);
    assert_int_equal(take(feed, text(8, 0, "abc")), FEED_GREW);
    assert_text(feed, 0, "abc");
    feed_destroy(&feed);
}

static void
a_status_with_another_fence_ends_a_feed_that_has_text(void **state)
{
    feed_t *feed = feed_new(id);
    feed_t *empty = feed_new(id);
    status_rep_t other = status(ANSWER_STREAMING, 3, 8);

    (void)state;
    assert_int_equal(take(feed, text(7, 0, "abc")), FEED_GREW);
    feed_take_status(feed, &other);
    assert_int_equal(feed_failed(feed), RC_INTERNAL);
    assert_int_equal(take(empty, text(7, 3, "d")), FEED_GAP);
    feed_take_status(empty, &other);
    assert_int_equal(feed_failed(empty), RC_OK);
    assert_int_equal(feed_fence(empty), 8);
    feed_destroy(&feed);
    feed_destroy(&empty);
}

static void
a_terminal_status_stays_and_bounds_the_text(void **state)
{
    feed_t *feed = feed_new(id);
    status_rep_t complete = status(ANSWER_COMPLETE, 2, 7);
    status_rep_t later = status(ANSWER_INTERRUPTED, 0, 7);

    (void)state;
    assert_int_equal(take(feed, text(7, 0, "abc")), FEED_GREW);
    feed_take_status(feed, &complete);
    assert_true(feed_is_settled(feed));
    assert_text(feed, 0, "ab");
    assert_int_equal(feed_limit(feed), 2);
    feed_take_status(feed, &later);
    assert_int_equal(feed_status(feed)->state, ANSWER_COMPLETE);
    assert_true(svc_str_eq(feed_status(feed)->finish, SVC_LIT("stop")));
    feed_fail(feed, RC_UNAVAILABLE, SVC_LIT("x"), 0);
    assert_int_equal(feed_failed(feed), RC_OK);
    assert_int_equal(take(feed, text(7, 3, "def")), FEED_SAME);
    feed_destroy(&feed);
}

static void
a_terminal_status_may_come_before_the_text(void **state)
{
    feed_t *feed = feed_new(id);
    status_rep_t complete = status(ANSWER_COMPLETE, 6, 7);

    (void)state;
    assert_int_equal(take(feed, text(7, 0, "abc")), FEED_GREW);
    feed_take_status(feed, &complete);
    assert_true(feed_has_gap(feed));
    assert_false(feed_is_settled(feed));
    assert_int_equal(feed_take_page(feed, 7, 3, SVC_LIT("def")), FEED_GREW);
    assert_true(feed_is_settled(feed));
    assert_text(feed, 0, "abcdef");
    feed_destroy(&feed);
}

static void
frames_that_a_terminal_status_has_overtaken_still_count(void **state)
{
    feed_t *feed = feed_new(id);
    status_rep_t end = status(ANSWER_COMPLETE, 6, 7);

    (void)state;
    assert_int_equal(take(feed, text(7, 0, "ab")), FEED_GREW);
    feed_take_status(feed, &end);
    assert_false(feed_is_settled(feed));
    assert_int_equal(take(feed, text(8, 2, "xx")), FEED_FENCED);
    assert_int_equal(take(feed, text(7, 2, "cd")), FEED_GREW);
    assert_int_equal(take(feed, text(7, 4, "efgh")), FEED_GREW);
    assert_text(feed, 0, "abcdef"); /* the length that the status has told */
    assert_true(feed_is_settled(feed));
    assert_int_equal(take(feed, text(7, 6, "gh")), FEED_SAME);
    feed_destroy(&feed);
}

static void
a_failure_is_told_once(void **state)
{
    feed_t *feed = feed_new(id);
    status_rep_t streaming = status(ANSWER_STREAMING, 0, 7);

    (void)state;
    feed_fail(feed, RC_ANSWERING, SVC_LIT("one"), 3);
    feed_fail(feed, RC_INTERNAL, SVC_LIT("two"), 4);
    assert_int_equal(feed_failed(feed), RC_ANSWERING);
    assert_true(svc_str_eq(feed_status(feed)->text, SVC_LIT("one")));
    assert_int_equal(feed_status(feed)->retry_after_s, 3);
    assert_true(feed_is_settled(feed));
    feed_take_status(feed, &streaming);
    assert_false(feed_status(feed)->heard);
    feed_destroy(&feed);
}

static void
an_interruption_brings_its_reason(void **state)
{
    feed_t *feed = feed_new(id);
    status_rep_t broken = status(ANSWER_INTERRUPTED, 0, 7);

    (void)state;
    broken.reason = SVC_LIT("upstream_rate_limited");
    broken.text = SVC_LIT("slow down");
    broken.retry_after_s = 20;
    feed_take_status(feed, &broken);
    assert_int_equal(feed_status(feed)->reason, RC_UPSTREAM_RATE_LIMITED);
    assert_true(svc_str_eq(feed_status(feed)->text, SVC_LIT("slow down")));
    assert_int_equal(feed_status(feed)->retry_after_s, 20);
    feed_destroy(&feed);
}

static void
the_window_is_bounded_and_keeps_the_youngest_text(void **state)
{
    feed_t *feed = feed_new(id);
    char piece[1000];
    uint64_t offset = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        memset(piece, 'a' + i % 26, sizeof piece);
        proto_token_t token = {
            .fence = 7, .offset = offset, .bytes = {piece, sizeof piece}};
        assert_int_equal(feed_take_token(feed, &token), FEED_GREW);
        offset += sizeof piece;
        assert_true(feed_end(feed) - feed_base(feed) <= FEED_WINDOW_MAX_BYTES);
        if (offset > FEED_WINDOW_MAX_BYTES)
            assert_true(feed_end(feed) - feed_base(feed) >= FEED_WINDOW_KEEP_BYTES);
    }
    assert_int_equal(feed_end(feed), offset);
    assert_int_equal(feed_text(feed, feed_base(feed) - 1).n, 0);
    assert_int_equal(feed_text(feed, offset - 1).p[0], 'a' + 999 % 26);
    feed_destroy(&feed);
}

static void
absurd_offsets_and_sizes_do_no_harm(void **state)
{
    feed_t *feed = feed_new(id);
    char *huge = calloc(1, FEED_WINDOW_MAX_BYTES);
    status_rep_t far = status(ANSWER_STREAMING, UINT64_MAX, 7);

    (void)state;
    assert_int_equal(take(feed, text(7, UINT64_MAX, "x")), FEED_SAME);
    assert_int_equal(take(feed, text(7, PROTO_ANSWER_MAX_BYTES + 1, "x")), FEED_SAME);
    assert_false(feed_has_gap(feed));
    proto_token_t token = {.fence = 7, .bytes = {huge, FEED_WINDOW_MAX_BYTES}};
    assert_int_equal(feed_take_token(feed, &token), FEED_GAP);
    assert_int_equal(feed_end(feed), 0);
    feed_take_status(feed, &far);
    free(huge);
    feed_destroy(&feed);
}

static void
without_memory_the_text_is_fetched_again(void **state)
{
    feed_t *feed = feed_new(id);

    (void)state;
    svc_alloc_fail_after(1);
    assert_int_equal(take(feed, text(7, 0, "abc")), FEED_GAP);
    svc_alloc_fail_after(0);
    assert_true(feed_has_gap(feed));
    assert_int_equal(feed_take_page(feed, 7, 0, SVC_LIT("abc")), FEED_GREW);
    assert_text(feed, 0, "abc");
    feed_destroy(&feed);
}

/* --- property ----------------------------------------------------------------------------- */

#define TEXT_BYTES 3000

/* One reader that takes what the window has, as a fast viewer does. */
static void
read_on(const feed_t *feed, char *got, size_t *n)
{
    svc_str more = feed_text(feed, *n);

    memcpy(got + *n, more.p != NULL ? more.p : "", more.n);
    *n += more.n;
}

static void
run_once(unsigned seed)
{
    char truth[TEXT_BYTES], lie[TEXT_BYTES], got[TEXT_BYTES];
    size_t sent = 0, n = 0;
    unsigned random = seed;
    feed_t *feed = feed_new(id);

    for (size_t i = 0; i < TEXT_BYTES; i++) {
        truth[i] = (char)('a' + rand_r(&random) % 26);
        lie[i] = '#';
    }
    while (!feed_is_settled(feed)) {
        size_t size = 1 + (size_t)rand_r(&random) % 60;
        size_t from = sent;
        switch (rand_r(&random) % 8) {
        case 0:
            from = (size_t)rand_r(&random) % (sent + 1);
            break;                   /* an old frame again */
        case 1: sent += size; break; /* a lost one */
        case 2: {                    /* another text's */
            proto_token_t token = {.fence = 666, .offset = from, .bytes = {lie, size}};
            if (feed_fence(feed) != 0)
                assert_int_not_equal(feed_take_token(feed, &token), FEED_GREW);
            continue;
        }
        case 3: /* a page, as the hub fetches it, cut anywhere */
            if (feed_has_gap(feed)) {
                size_t at = (size_t)feed_end(feed);
                size_t most = TEXT_BYTES - at < 200 ? TEXT_BYTES - at : 200;
                (void)feed_take_page(
                    feed, 7, at,
                    (svc_str){truth + at, 1 + (size_t)rand_r(&random) % most});
                read_on(feed, got, &n);
            }
            continue;
        default: sent += size; break;
        }
        if (sent > TEXT_BYTES)
            sent = TEXT_BYTES;
        if (from >= TEXT_BYTES) {
            status_rep_t complete = status(ANSWER_COMPLETE, TEXT_BYTES, 7);
            feed_take_status(feed, &complete);
            continue;
        }
        if (from + size > TEXT_BYTES)
            size = TEXT_BYTES - from;
        if (rand_r(&random) % 3 != 0) {
            proto_token_t token = {
                .fence = 7, .offset = from, .bytes = {truth + from, size}};
            (void)feed_take_token(feed, &token);
        }
        read_on(feed, got, &n);
    }
    read_on(feed, got, &n);
    if (n != TEXT_BYTES || memcmp(got, truth, n) != 0)
        fail_msg("seed %u: %zu bytes", seed, n);
    feed_destroy(&feed);
}

static void
any_interleaving_yields_the_exact_text_once(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 2000; seed++)
        run_once(seed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_in_order_are_the_text),
        cmocka_unit_test(overlap_is_skipped),
        cmocka_unit_test(a_frame_past_the_end_tells_of_a_gap),
        cmocka_unit_test(a_mark_shows_a_lost_tail),
        cmocka_unit_test(an_answer_that_is_given_up_grows_by_its_journal_only),
        cmocka_unit_test(
            text_from_before_a_first_status_that_tells_of_a_loss_is_not_shown),
        cmocka_unit_test(a_deleted_answer_is_settled_without_the_text_that_nobody_has),
        cmocka_unit_test(the_first_text_brings_its_fence_and_others_are_skipped),
        cmocka_unit_test(a_fence_that_only_waited_binds_nothing),
        cmocka_unit_test(a_status_with_another_fence_ends_a_feed_that_has_text),
        cmocka_unit_test(a_terminal_status_stays_and_bounds_the_text),
        cmocka_unit_test(a_terminal_status_may_come_before_the_text),
        cmocka_unit_test(frames_that_a_terminal_status_has_overtaken_still_count),
        cmocka_unit_test(a_failure_is_told_once),
        cmocka_unit_test(an_interruption_brings_its_reason),
        cmocka_unit_test(the_window_is_bounded_and_keeps_the_youngest_text),
        cmocka_unit_test(absurd_offsets_and_sizes_do_no_harm),
        cmocka_unit_test(without_memory_the_text_is_fetched_again),
        cmocka_unit_test(any_interleaving_yields_the_exact_text_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
