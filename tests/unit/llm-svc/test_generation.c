/* test_generation.c - journal, gate, replay, end and retention, rule by rule.
 *
 * What holds under any interleaving is in test_generation_property.c. */
#include "generation_fixture.h"

#define assert_bytes(buf, text) \
    assert_true(svc_str_eq(svc_buf_str(&(buf)), svc_str_c(text)))

/* --- the journal ------------------------------------------------------------------- */

static void
sends_the_first_piece_at_once_and_the_next_after_its_ack(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    assert_int_equal(after(&c, 0), UINT64_MAX);
    append(&c, "Hello");
    after(&c, 0);
    assert_int_equal(c.pieces, 1);
    assert_int_equal(c.call, CALL);
    assert_int_equal(c.from, 0);
    assert_bytes(c.bytes, "Hello");
    assert_false(c.final);
    append(&c, " world");
    after(&c, 300);
    assert_int_equal(c.pieces, 1); /* not before the ack */
    assert_int_equal(ack(&c, 5, false), RC_OK);
    after(&c, 0);
    assert_int_equal(c.pieces, 2); /* 250 ms have passed since the last one */
    assert_int_equal(c.from, 5);
    assert_bytes(c.bytes, " world");
    caught_close(&c);
}

static void
gathers_text_for_250_ms_or_4_kb(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 100000);
    append(&c, "a");
    after(&c, 0);
    assert_int_equal(ack(&c, 1, false), RC_OK);
    append(&c, "b");
    uint64_t due = after(&c, 10);
    assert_int_equal(c.pieces, 1);
    assert_int_equal(due, c.now - 10 + GENERATION_PIECE_MS);
    append(&c, "c");
    after(&c, GENERATION_PIECE_MS - 10);
    assert_int_equal(c.pieces, 2);
    assert_bytes(c.bytes, "bc");
    assert_int_equal(ack(&c, 3, false), RC_OK);
    append_long(&c, GENERATION_PIECE_BYTES);
    after(&c, 1);
    assert_int_equal(c.pieces, 3);
    assert_int_equal(c.bytes.n, GENERATION_PIECE_BYTES);
    caught_close(&c);
}

static void
repeats_a_piece_each_second_until_it_is_acknowledged(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    append(&c, " more");
    uint64_t due = after(&c, 999);
    assert_int_equal(due, c.now + 1);
    assert_int_equal(c.pieces, 1);
    after(&c, 1);
    assert_int_equal(c.pieces, 2);
    assert_int_equal(c.from, 0);
    assert_bytes(c.bytes, "Hello");
    after(&c, 1000);
    assert_int_equal(c.pieces, 3);
    assert_int_equal(ack(&c, 5, false), RC_OK);
    assert_int_equal(ack(&c, 5, false), RC_OK); /* a late copy of it */
    assert_int_equal(ack(&c, 3, false), RC_OK); /* and an older one */
    append(&c, "!");
    after(&c, 1000);
    assert_int_equal(c.from, 5);
    assert_bytes(c.bytes, " more!");
    caught_close(&c);
}

static void
sends_pieces_of_at_most_1_mb_and_whole_characters(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, PROTO_ANSWER_MAX_BYTES);
    append_long(&c, PROTO_PIECE_MAX_BYTES - 1);
    append(&c, "\xE4\xBD\xA0");
    after(&c, 0);
    assert_int_equal(c.bytes.n, PROTO_PIECE_MAX_BYTES - 1);
    assert_int_equal(ack(&c, 100, false),
                     RC_OK); /* a part: the rest is repeated, in short pieces */
    after(&c, GENERATION_REPEAT_MS);
    assert_int_equal(c.pieces, 2);
    assert_int_equal(c.from, 100);
    assert_int_equal(c.bytes.n, 64 << 10);
    assert_int_equal(ack(&c, 100 + (64 << 10), false), RC_OK);
    after(&c, 0);
    assert_int_equal(c.from + c.bytes.n, generation_length(c.generation));
    caught_close(&c);
}

static void
goes_on_without_a_call_and_continues_after_an_attach(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "Hello");
    c.answer = RC_UNAVAILABLE;
    after(&c, 0);
    assert_int_equal(generation_call(c.generation), 0);
    append(&c, " world");
    after(&c, 5000);
    assert_int_equal(c.pieces, 1);
    c.answer = RC_OK;
    assert_int_equal(generation_attach(c.generation, 1, 2, 9, c.now), RC_OK);
    after(&c, 0);
    assert_int_equal(c.pieces, 2);
    assert_int_equal(c.call, 9);
    assert_int_equal(c.from, 2);
    assert_bytes(c.bytes, "llo world");
    generation_call_gone(c.generation, 8, c.now); /* not this one */
    assert_int_equal(generation_call(c.generation), 9);
    generation_call_gone(c.generation, 9, c.now);
    assert_int_equal(generation_call(c.generation), 0);
    caught_close(&c);
}

static void
refuses_owners_whose_term_is_over(void **state)
{
    (void)state;
    caught_t c;
    ack_req_t old = {.fence = FENCE, .term = 1, .journaled = 2};

    caught_open(&c, 1000);
    append(&c, "Hello");
    assert_int_equal(generation_attach(c.generation, 3, 0, 9, c.now), RC_OK);
    assert_int_equal(generation_term(c.generation), 3);
    assert_int_equal(generation_attach(c.generation, 2, 0, 10, c.now), RC_STALE);
    assert_int_equal(generation_ack(c.generation, &old, c.now), RC_STALE);
    assert_int_equal(generation_stop(c.generation, 2, c.now), RC_STALE);
    assert_int_equal(generation_call(c.generation), 9);
    after(&c, 1000);
    assert_int_equal(c.from, 0); /* nothing counts as stored */
    assert_false(generation_has_ended(c.generation));
    caught_close(&c);
}

static void
refuses_offsets_that_never_were_or_are_no_more(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000000);
    append(&c, "\xE4\xBD\xA0");
    after(&c, 0);
    assert_int_equal(ack(&c, 4, false), RC_INVALID);
    assert_int_equal(ack(&c, 1, false), RC_INVALID);
    assert_int_equal(generation_attach(c.generation, 1, 4, 9, c.now), RC_TOO_OLD);
    assert_int_equal(generation_attach(c.generation, 1, 2, 9, c.now), RC_INVALID);
    assert_int_equal(ack(&c, 3, false), RC_OK);
    for (int i = 0; i < 10; i++) {
        append_long(&c, 50000);
        after(&c, 300);
        assert_int_equal(ack(&c, generation_length(c.generation), false), RC_OK);
        after(&c, 0);
    }
    assert_int_equal(generation_attach(c.generation, 1, 0, 9, c.now), RC_TOO_OLD);
    assert_int_equal(
        generation_attach(c.generation, 1,
                          generation_length(c.generation) - GENERATION_KEEP_BYTES, 9,
                          c.now),
        RC_OK);
    after(&c, 0);
    assert_int_equal(c.bytes.n, GENERATION_KEEP_BYTES);
    caught_close(&c);
}

/* --- the end ----------------------------------------------------------------------- */

static void
ends_with_final_that_carries_the_rest(void **state)
{
    (void)state;
    caught_t c;
    ending_t ending = {.finish = SVC_LIT("stop"), .usage = {1, 2, 3}};

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    append(&c, " world");
    generation_end(c.generation, &ending);
    after(&c, 0);
    assert_int_equal(c.pieces, 2);
    assert_true(c.final);
    assert_int_equal(c.from,
                     0); /* overlap with the piece in flight is skipped by the owner */
    assert_bytes(c.bytes, "Hello world");
    assert_string_equal(c.finish, "stop");
    assert_int_equal(c.total_tokens, 3);
    assert_int_equal(generation_call(c.generation), 0);
    append(&c, "too late");
    assert_int_equal(generation_length(c.generation), 11);
    caught_close(&c);
}

static void
tells_an_error_with_its_sentence_and_retry_after(void **state)
{
    (void)state;
    caught_t c;
    ending_t ending = {.error = RC_UPSTREAM_RATE_LIMITED,
                       .finish = SVC_LIT("ignored"),
                       .text = SVC_LIT("Slow down."),
                       .retry_after_s = 7};

    caught_open(&c, 1000);
    generation_end(c.generation, &ending);
    after(&c, 0);
    assert_true(c.final);
    assert_int_equal(c.bytes.n, 0);
    assert_string_equal(c.error, "upstream_rate_limited");
    assert_string_equal(c.sentence, "Slow down.");
    assert_string_equal(c.finish, "");
    assert_int_equal(c.retry_after_s, 7);
    caught_close(&c);
}

static void
answers_final_again_until_it_is_stored(void **state)
{
    (void)state;
    caught_t c;
    ending_t ending = {.finish = SVC_LIT("stop")};

    caught_open(&c, 1000);
    append(&c, "Hello");
    generation_end(c.generation, &ending);
    after(&c, 0);
    assert_int_equal(c.pieces, 1);
    after(&c, 1500);
    assert_int_equal(c.pieces, 1); /* FINAL has ended the call */
    assert_int_equal(generation_attach(c.generation, 1, 5, 9, c.now), RC_OK);
    after(&c, 0);
    assert_int_equal(c.pieces, 2);
    assert_true(c.final);
    assert_int_equal(c.from, 5);
    assert_int_equal(c.bytes.n, 0);
    assert_false(generation_is_over(c.generation, c.now));
    assert_int_equal(ack(&c, 5, true), RC_OK);
    assert_true(generation_is_over(c.generation, c.now));
    caught_close(&c);
}

static void
repeats_final_when_its_owner_reads_too_slowly(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "Hello"};

    for (size_t i = 0; i < SVC_COUNT(texts); i++) {
        caught_t c;
        ending_t ending = {.finish = SVC_LIT("stop")};

        caught_open(&c, 1000);
        append(&c, texts[i]);
        generation_end(c.generation, &ending);
        c.answer = RC_BUSY;
        assert_int_equal(after(&c, 0), c.now + GENERATION_REPEAT_MS);
        assert_int_equal(c.pieces, 1);
        assert_int_equal(generation_call(c.generation), CALL);
        after(&c, GENERATION_REPEAT_MS - 1);
        assert_int_equal(c.pieces, 1);
        c.answer = RC_OK;
        after(&c, 1);
        assert_int_equal(c.pieces, 2);
        assert_true(c.final);
        assert_bytes(c.bytes, texts[i]);
        assert_int_equal(generation_call(c.generation), 0);
        after(&c, GENERATION_REPEAT_MS);
        assert_int_equal(c.pieces, 2);
        caught_close(&c);
    }
}

static void
sends_a_long_rest_in_pieces_before_final(void **state)
{
    (void)state;
    caught_t c;
    ending_t ending = {.finish = SVC_LIT("stop")};

    caught_open(&c, PROTO_ANSWER_MAX_BYTES);
    append_long(&c, 2 * PROTO_PIECE_MAX_BYTES + 10);
    generation_end(c.generation, &ending);
    after(&c, 0);
    assert_false(c.final);
    assert_int_equal(ack(&c, PROTO_PIECE_MAX_BYTES, false), RC_OK);
    after(&c, 0); /* at once: nothing more will come to wait for */
    assert_int_equal(c.pieces, 2);
    assert_false(c.final);
    assert_int_equal(ack(&c, 2 * PROTO_PIECE_MAX_BYTES, false), RC_OK);
    after(&c, 0);
    assert_true(c.final);
    assert_int_equal(c.bytes.n, 10);
    caught_close(&c);
}

static void
ends_an_answer_that_is_too_long(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 7);
    append(&c, "Hello");
    assert_false(generation_has_ended(c.generation));
    append(&c, "\xE4\xBD\xA0");
    assert_true(generation_has_ended(c.generation));
    assert_int_equal(generation_length(c.generation), 5);
    after(&c, 0);
    assert_string_equal(c.finish, "length");
    assert_string_equal(c.error, "");
    caught_close(&c);
}

static void
ends_with_an_error_when_memory_is_short(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    svc_alloc_fail_after(1);
    append(&c, "Hello");
    svc_alloc_fail_after(0);
    assert_true(generation_has_ended(c.generation));
    after(&c, 0);
    assert_string_equal(c.error, "internal");
    caught_close(&c);
}

static void
stops_once_and_keeps_an_earlier_end(void **state)
{
    (void)state;
    caught_t c;
    ending_t ending = {.finish = SVC_LIT("stop")};

    caught_open(&c, 1000);
    append(&c, "Hello");
    assert_int_equal(generation_stop(c.generation, 1, c.now), RC_OK);
    generation_end(c.generation, &ending);
    after(&c, 0);
    assert_string_equal(c.finish, "stopped");
    caught_close(&c);

    caught_open(&c, 1000);
    generation_end(c.generation, &ending);
    assert_int_equal(generation_stop(c.generation, 1, c.now), RC_OK);
    after(&c, 0);
    assert_string_equal(c.finish, "stop");
    caught_close(&c);
}

/* --- the gate ---------------------------------------------------------------------- */

static void
shows_nothing_before_the_journal_has_begun(void **state)
{
    (void)state;
    caught_t c;
    replay_rep_t rep;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    assert_int_equal(ack(&c, 0, false), RC_OK);
    after(&c, 1200);
    assert_int_equal(c.texts + c.marks + c.ends, 0);
    assert_int_equal(generation_replay(c.generation, 0, &rep), RC_OK);
    assert_int_equal(rep.bytes.n, 0);
    assert_int_equal(rep.released, 0);
    assert_int_equal(ack(&c, 5, false), RC_OK);
    after(&c, 0);
    assert_bytes(c.shown, "Hello");
    append(&c, " world"); /* from now on at once, ahead of the journal */
    after(&c, 0);
    assert_bytes(c.shown, "Hello world");
    assert_int_equal(c.texts, 2);
    caught_close(&c);
}

static void
shows_at_most_64_kb_past_the_last_ack(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000000);
    append(&c, "x");
    after(&c, 0);
    assert_int_equal(ack(&c, 1, false), RC_OK);
    append_long(&c, 200000);
    after(&c, 0);
    assert_int_equal(c.shown.n, 1 + GENERATION_AHEAD_BYTES);
    assert_true(c.largest <= GENERATION_FRAME_MAX_BYTES);
    assert_int_equal(ack(&c, 100001, false), RC_OK);
    after(&c, 0);
    assert_int_equal(c.shown.n, 100001 + GENERATION_AHEAD_BYTES);
    assert_int_equal(ack(&c, 200001, false), RC_OK);
    after(&c, 0);
    assert_int_equal(c.shown.n, 200001);
    caught_close(&c);
}

static void
shows_nothing_while_an_unacknowledged_byte_is_old(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "a");
    after(&c, 0);
    assert_int_equal(ack(&c, 1, false), RC_OK);
    append(&c, "b");
    after(&c, 300);
    append(&c, "c");
    after(&c, GENERATION_HOLD_MS - 300);
    assert_bytes(c.shown, "abc");
    append(&c, "d");
    after(&c, 1);
    assert_bytes(c.shown, "abc");
    assert_int_equal(ack(&c, 3, false), RC_OK);
    after(&c, 0);
    assert_bytes(c.shown, "abcd");
    caught_close(&c);
}

static void
never_takes_back_what_was_shown(void **state)
{
    (void)state;
    caught_t c;
    replay_rep_t rep;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    assert_int_equal(ack(&c, 5, false), RC_OK);
    append(&c, " world");
    after(&c, 0);
    assert_int_equal(generation_attach(c.generation, 1, 0, 9, c.now), RC_OK);
    after(&c, 0);
    assert_int_equal(generation_replay(c.generation, 6, &rep), RC_OK);
    assert_int_equal(rep.released, 11);
    assert_true(svc_str_eq(rep.bytes, SVC_LIT("world")));
    caught_close(&c);
}

static void
opens_when_an_attach_says_that_the_journal_has_begun(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    assert_int_equal(generation_attach(c.generation, 2, 5, 9, c.now), RC_OK);
    after(&c, 0);
    assert_bytes(c.shown, "Hello");
    caught_close(&c);
}

static void
replays_released_text_page_by_page(void **state)
{
    (void)state;
    caught_t c;
    replay_rep_t rep;

    caught_open(&c, 1000000);
    append_long(&c, 100000);
    append(&c, "\xE4\xBD\xA0");
    after(&c, 0);
    assert_int_equal(ack(&c, 100003, false), RC_OK);
    after(&c, 0);
    assert_int_equal(generation_replay(c.generation, 10, &rep), RC_OK);
    assert_int_equal(rep.from, 10);
    assert_int_equal(rep.bytes.n, PROTO_PAGE_MAX_BYTES);
    assert_int_equal(rep.bytes.p[0], 'a' + 10);
    assert_int_equal(rep.released, 100003);
    assert_int_equal(generation_replay(c.generation, 100001, &rep), RC_INVALID);
    assert_int_equal(generation_replay(c.generation, 100003, &rep), RC_OK);
    assert_int_equal(rep.bytes.n, 0);
    assert_int_equal(generation_replay(c.generation, 5000000, &rep), RC_OK);
    assert_int_equal(rep.bytes.n, 0);
    append_long(&c, 300000);
    after(&c, 300);
    assert_int_equal(ack(&c, 400003, false), RC_OK);
    after(&c, 0);
    assert_int_equal(generation_replay(c.generation, 10, &rep), RC_TOO_OLD);
    caught_close(&c);
}

/* --- hints and retention ----------------------------------------------------------- */

static void
marks_silence_after_one_second_then_every_five(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    assert_int_equal(ack(&c, 5, false), RC_OK);
    assert_int_equal(after(&c, 0), c.now + GENERATION_MARK_FIRST_MS);
    after(&c, 999);
    assert_int_equal(c.marks, 0);
    uint64_t due = after(&c, 1);
    assert_int_equal(due, c.now + GENERATION_MARK_MS);
    assert_int_equal(c.marks, 1);
    assert_int_equal(c.last_offset, 5);
    after(&c, 4999);
    assert_int_equal(c.marks, 1);
    after(&c, 1);
    assert_int_equal(c.marks, 2);
    append(&c, "!");
    after(&c, 0);
    assert_int_equal(c.texts, 2);
    after(&c, 1000);
    assert_int_equal(c.marks, 3);
    caught_close(&c);
}

static void
tells_the_end_once_when_all_is_shown(void **state)
{
    (void)state;
    caught_t c;
    ending_t ending = {.finish = SVC_LIT("stop")};

    caught_open(&c, 1000);
    append(&c, "Hello");
    generation_end(c.generation, &ending);
    after(&c, 0);
    assert_int_equal(c.ends, 0);
    assert_int_equal(ack(&c, 5, true), RC_OK);
    after(&c, 0);
    assert_bytes(c.shown, "Hello");
    assert_int_equal(c.ends, 1);
    assert_int_equal(c.last_offset, 5);
    after(&c, 10000);
    assert_int_equal(c.ends + c.marks, 1);
    caught_close(&c);
}

static void
is_forgotten_60_s_after_the_last_sign_of_an_owner(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 3 * GENERATION_ORPHAN_MS); /* a kept call is a sign */
    assert_false(generation_is_over(c.generation, c.now));
    generation_call_gone(c.generation, CALL, c.now);
    assert_int_equal(after(&c, 0), c.now + GENERATION_ORPHAN_MS);
    after(&c, GENERATION_ORPHAN_MS - 1);
    assert_false(generation_is_over(c.generation, c.now));
    assert_int_equal(generation_stop(c.generation, 1, c.now), RC_OK);
    after(&c, GENERATION_ORPHAN_MS - 1);
    assert_false(generation_is_over(c.generation, c.now));
    after(&c, 1);
    assert_true(generation_is_over(c.generation, c.now));
    assert_true(generation_is_wasted(c.generation));
    assert_int_equal(ack(&c, 5, false), RC_OK);
    assert_true(generation_is_wasted(c.generation));
    assert_int_equal(ack(&c, 5, true), RC_OK);
    assert_false(generation_is_wasted(c.generation));
    caught_close(&c);
}

static void
gives_a_call_up_whose_owner_is_silent_for_60_s(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    after(&c, 5 * GENERATION_ORPHAN_MS); /* a model may think for long */
    append(&c, "Hello");
    after(&c, 0);
    for (int i = 0; i < 9; i++) {
        after(&c, GENERATION_REPEAT_MS);
        assert_int_equal(c.pieces, i + 2);
    }
    after(&c, GENERATION_REPEAT_MS);
    assert_int_equal(c.pieces, 11);
    assert_int_equal(after(&c, 0), c.now + GENERATION_SLOW_REPEAT_MS);
    for (int i = 0; i < 9; i++)
        after(&c, GENERATION_SLOW_REPEAT_MS);
    assert_int_equal(c.pieces, 20);
    uint64_t due = after(&c, GENERATION_SLOW_REPEAT_MS - 1);
    assert_int_equal(due, c.now + 1);
    assert_int_equal(c.given_up, 0);
    due = after(&c, 1);
    assert_int_equal(due, c.now + GENERATION_ORPHAN_MS);
    assert_int_equal(c.given_up, CALL);
    assert_int_equal(generation_call(c.generation), 0);
    assert_int_equal(c.pieces, 20);
    after(&c, GENERATION_ORPHAN_MS - 1);
    assert_false(generation_is_over(c.generation, c.now)); /* it may still come back */
    after(&c, 1);
    assert_true(generation_is_over(c.generation, c.now));
    caught_close(&c);
}

static void
after_a_stall_counts_the_silence_of_its_owner_anew(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    c.now += 2 * GENERATION_ORPHAN_MS;
    generation_doubt(c.generation, c.now);
    after(&c, 0);
    assert_int_equal(c.given_up, 0);
    after(&c, GENERATION_ORPHAN_MS);
    assert_int_equal(c.given_up, CALL);
    caught_close(&c);
}

static void
gives_no_call_up_whose_owner_says_that_it_cannot_store(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    for (int i = 0; i < 300; i++) {
        after(&c, GENERATION_REPEAT_MS);
        assert_int_equal(c.pieces, i + 2);
        assert_int_equal(ack(&c, 0, false), RC_OK);
    }
    assert_int_equal(c.given_up, 0);
    assert_int_equal(c.shown.n, 0);
    caught_close(&c);
}

static void
gives_a_call_up_that_has_no_room_for_final_for_60_s(void **state)
{
    (void)state;
    caught_t c;
    ending_t ending = {.finish = SVC_LIT("stop")};

    caught_open(&c, 1000);
    generation_end(c.generation, &ending);
    c.answer = RC_BUSY;
    after(&c, 0);
    for (int i = 0; i < 59; i++)
        after(&c, GENERATION_REPEAT_MS);
    assert_int_equal(c.given_up, 0);
    after(&c, GENERATION_REPEAT_MS);
    assert_int_equal(c.given_up, CALL);
    caught_close(&c);
}

static void
takes_stored_only_after_the_end(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    assert_int_equal(ack(&c, 5, true), RC_OK);
    assert_false(generation_is_over(c.generation, c.now));
    caught_close(&c);
}

static void
after_a_stall_shows_only_what_is_journaled_until_its_owner_speaks(void **state)
{
    (void)state;
    caught_t c;

    caught_open(&c, 1000);
    append(&c, "Hello");
    after(&c, 0);
    assert_int_equal(ack(&c, 5, false), RC_OK);
    generation_doubt(c.generation, c.now);
    append(&c, " world");
    after(&c, 300);
    assert_bytes(c.shown, "Hello"); /* it is stored, whatever the owner thinks of us */
    assert_int_equal(c.pieces, 2);
    after(&c, 500);
    assert_bytes(c.shown, "Hello");
    assert_int_equal(ack(&c, 11, false), RC_OK);
    after(&c, 0);
    assert_bytes(c.shown, "Hello world");
    append(&c, "!");
    after(&c, 0);
    assert_bytes(c.shown, "Hello world!"); /* as before the stall */
    caught_close(&c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_the_first_piece_at_once_and_the_next_after_its_ack),
        cmocka_unit_test(
            after_a_stall_shows_only_what_is_journaled_until_its_owner_speaks),
        cmocka_unit_test(gathers_text_for_250_ms_or_4_kb),
        cmocka_unit_test(repeats_a_piece_each_second_until_it_is_acknowledged),
        cmocka_unit_test(sends_pieces_of_at_most_1_mb_and_whole_characters),
        cmocka_unit_test(goes_on_without_a_call_and_continues_after_an_attach),
        cmocka_unit_test(refuses_owners_whose_term_is_over),
        cmocka_unit_test(refuses_offsets_that_never_were_or_are_no_more),
        cmocka_unit_test(ends_with_final_that_carries_the_rest),
        cmocka_unit_test(tells_an_error_with_its_sentence_and_retry_after),
        cmocka_unit_test(answers_final_again_until_it_is_stored),
        cmocka_unit_test(repeats_final_when_its_owner_reads_too_slowly),
        cmocka_unit_test(sends_a_long_rest_in_pieces_before_final),
        cmocka_unit_test(ends_an_answer_that_is_too_long),
        cmocka_unit_test(ends_with_an_error_when_memory_is_short),
        cmocka_unit_test(stops_once_and_keeps_an_earlier_end),
        cmocka_unit_test(shows_nothing_before_the_journal_has_begun),
        cmocka_unit_test(shows_at_most_64_kb_past_the_last_ack),
        cmocka_unit_test(shows_nothing_while_an_unacknowledged_byte_is_old),
        cmocka_unit_test(never_takes_back_what_was_shown),
        cmocka_unit_test(opens_when_an_attach_says_that_the_journal_has_begun),
        cmocka_unit_test(replays_released_text_page_by_page),
        cmocka_unit_test(marks_silence_after_one_second_then_every_five),
        cmocka_unit_test(tells_the_end_once_when_all_is_shown),
        cmocka_unit_test(is_forgotten_60_s_after_the_last_sign_of_an_owner),
        cmocka_unit_test(gives_a_call_up_whose_owner_is_silent_for_60_s),
        cmocka_unit_test(after_a_stall_counts_the_silence_of_its_owner_anew),
        cmocka_unit_test(gives_no_call_up_whose_owner_says_that_it_cannot_store),
        cmocka_unit_test(gives_a_call_up_that_has_no_room_for_final_for_60_s),
        cmocka_unit_test(takes_stored_only_after_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
