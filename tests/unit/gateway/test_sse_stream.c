/* test_sse_stream.c - the events of one viewer, byte by byte, in all three framings.
 *
 * Formats are compared literally, since clients parse them. The last test lets
 * viewers of every speed read one feed whose window is far smaller than its
 * text and compares what they put together. */
#include "gateway/sse_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HEX "000102030405060708090a0b0c0d0e0f"

static const uint8_t id[PROTO_STREAM_BYTES] = {0, 1, 2,  3,  4,  5,  6,  7,
                                               8, 9, 10, 11, 12, 13, 14, 15};

typedef struct {
    feed_t *feed;      /* what is read */
    sse_stream_t *sse; /* who reads */
    svc_buf_t out;     /* what it has sent */
} fixture_t;

/* Opens a viewer that has what `suffix` says: the part of an id behind its stream. */
static fixture_t
reopen_fixture(sse_framing framing, const char *suffix)
{
    char text[80];
    stream_id_t from;

    snprintf(text, sizeof text, "%s%s", HEX, suffix);
    assert_true(stream_id_read(svc_str_c(text), &from));
    fixture_t self = {.feed = feed_new(id),
                      .sse = sse_stream_new(&from, framing, TEXT_EN)};
    svc_buf_init(&self.out, 4 * SSE_OUT_MAX_BYTES);
    return self;
}

/* Opens a viewer that has nothing yet, and takes the first block off. */
static fixture_t
open_fixture(sse_framing framing, text_language language)
{
    static const char first[] = "retry: 1000\nid: " HEX ":0\n\n";
    stream_id_t from = {.mark = STREAM_ID_TEXT};
    bool has_first = framing == SSE_FRAMING_EVENTS;

    memcpy(from.stream, id, sizeof from.stream);
    fixture_t self = {.feed = feed_new(id),
                      .sse = sse_stream_new(&from, framing, language)};
    svc_buf_init(&self.out, 4 * SSE_OUT_MAX_BYTES);
    assert_int_equal(sse_stream_next(self.sse, self.feed, &self.out),
                     has_first ? SSE_SENT : SSE_IDLE);
    assert_int_equal(self.out.n, has_first ? sizeof first - 1 : 0);
    if (has_first)
        assert_memory_equal(self.out.p, first, self.out.n);
    svc_buf_clear(&self.out);
    return self;
}

static void
close_fixture(fixture_t *self)
{
    svc_buf_fini(&self->out);
    sse_stream_destroy(&self->sse);
    assert_null(self->sse);
    feed_destroy(&self->feed);
}

static void
say(fixture_t *self, const char *bytes)
{
    proto_token_t token = {
        .fence = 7, .offset = feed_end(self->feed), .bytes = svc_str_c(bytes)};

    assert_int_equal(feed_take_token(self->feed, &token), FEED_GREW);
}

static void
end(fixture_t *self, status_rep_t status)
{
    status.message = 4;
    status.fence = 7;
    feed_take_status(self->feed, &status);
}

/* Lets the viewer send until it has nothing more; compares all of it. */
static void
assert_sent(fixture_t *self, sse_result last, const char *wanted)
{
    sse_result result;

    svc_buf_clear(&self->out);
    while ((result = sse_stream_next(self->sse, self->feed, &self->out)) == SSE_SENT)
        continue;
    assert_int_equal(result, last);
    if (self->out.n != strlen(wanted) ||
        memcmp(self->out.p != NULL ? self->out.p : "", wanted, self->out.n) != 0)
        fail_msg("sent: %.*s\nwanted: %s", (int)self->out.n, self->out.p, wanted);
}

static void
an_answer_as_server_sent_events(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_EVENTS, TEXT_EN);

    (void)state;
    assert_sent(&self, SSE_IDLE, "");
    say(&self, "R");
    assert_sent(&self, SSE_IDLE,
                "id: " HEX
                ":1\nevent: message\ndata: {\"event\":\"message\",\"data\":\"R\"}\n\n");
    say(&self, "us\n");
    say(&self, "t\"你");
    assert_sent(
        &self, SSE_IDLE,
        "id: " HEX
        ":9\nevent: message\ndata: {\"event\":\"message\",\"data\":\"us\\nt\\\"你\"}\n\n");
    end(&self, (status_rep_t){.state = ANSWER_COMPLETE,
                              .length = 9,
                              .finish = SVC_LIT("stop"),
                              .usage = {10, 2, 12}});
    assert_sent(
        &self, SSE_END,
        "id: " HEX
        ":9:d\nevent: done\ndata: {\"event\":\"done\",\"data\":\"Stream finished\",\"message_id\":4,"
        "\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":2,"
        "\"total_tokens\":12}}\n\n"
        "id: " HEX ":9:e\nevent: full_response\ndata: {\"event\":\"full_response\","
        "\"data\":\"Rus\\nt\\\"你\"}\n\n");
    assert_sent(&self, SSE_END, "");
    close_fixture(&self);
}

static void
an_answer_as_lines(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_LINES, TEXT_EN);

    (void)state;
    say(&self, "Hi");
    end(&self, (status_rep_t){
                   .state = ANSWER_STOPPED, .length = 2, .finish = SVC_LIT("stopped")});
    assert_sent(
        &self, SSE_END,
        "{\"event\":\"message\",\"data\":\"Hi\"}\n"
        "{\"event\":\"done\",\"data\":\"Stream finished\",\"message_id\":4,\"finish_reason\":\"stopped\"}\n"
        "{\"event\":\"full_response\",\"data\":\"Hi\"}\n");
    close_fixture(&self);
}

static void
an_answer_as_the_original_wrote_it(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_BARE, TEXT_EN);

    (void)state;
    say(&self, "Hi");
    end(&self,
        (status_rep_t){.state = ANSWER_COMPLETE, .length = 2, .finish = SVC_LIT("stop")});
    assert_sent(
        &self, SSE_END,
        "{\"event\":\"message\",\"data\":\"Hi\"}\n\n"
        "{\"event\":\"done\",\"data\":\"Stream finished\",\"message_id\":4,\"finish_reason\":\"stop\"}\n\n"
        "{\"event\":\"full_response\",\"data\":\"Hi\"}\n\n");
    close_fixture(&self);
}

static void
an_empty_answer_has_no_empty_piece(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_LINES, TEXT_EN);

    (void)state;
    end(&self, (status_rep_t){.state = ANSWER_COMPLETE, .finish = SVC_LIT("stop")});
    assert_sent(
        &self, SSE_END,
        "{\"event\":\"done\",\"data\":\"Stream finished\",\"message_id\":4,\"finish_reason\":\"stop\"}\n"
        "{\"event\":\"full_response\",\"data\":\"\"}\n");
    close_fixture(&self);
}

static void
an_interruption_is_an_error_event_after_the_text(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_EVENTS, TEXT_EN);

    (void)state;
    say(&self, "Half");
    end(&self, (status_rep_t){.state = ANSWER_INTERRUPTED,
                              .length = 4,
                              .reason = SVC_LIT("upstream_error"),
                              .text = SVC_LIT("it \"broke\"")});
    assert_sent(
        &self, SSE_END,
        "id: " HEX
        ":4\nevent: message\ndata: {\"event\":\"message\",\"data\":\"Half\"}\n\n"
        "id: " HEX
        ":4:e\nevent: error\ndata: {\"event\":\"error\",\"data\":\"it \\\"broke\\\"\","
        "\"code\":\"upstream_error\"}\n\n");
    close_fixture(&self);
}

static void
losing_sight_of_an_answer_is_told_in_the_clients_language(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_LINES, TEXT_ZH);

    (void)state;
    say(&self, "Half");
    feed_fail(self.feed, RC_UNAVAILABLE, SVC_LIT("down"), 1);
    assert_sent(
        &self, SSE_END,
        "{\"event\":\"message\",\"data\":\"Half\"}\n"
        "{\"event\":\"error\",\"data\":\"与回答的连接已中断；回答仍在继续并会被保存，请稍后在历史记录中查看\","
        "\"code\":\"unavailable\"}\n");
    close_fixture(&self);
}

/* --- resumed ---------------------------------------------------------------------------------- */

#define MESSAGE(text) "{\"event\":\"message\",\"data\":\"" text "\"}\n"
#define DONE \
    "{\"event\":\"done\",\"data\":\"Stream finished\",\"message_id\":4,\"finish_reason\":\"stop\"}\n"
#define FULL(text) "{\"event\":\"full_response\",\"data\":\"" text "\"}\n"

static void
a_resumed_stream_begins_with_its_own_id(void **state)
{
    fixture_t self = reopen_fixture(SSE_FRAMING_EVENTS, ":2");

    (void)state;
    say(&self, "Rust");
    assert_sent(&self, SSE_IDLE,
                "retry: 1000\nid: " HEX ":2\n\n"
                "id: " HEX
                ":4\nevent: message\ndata: {\"event\":\"message\",\"data\":\"st\"}\n\n");
    close_fixture(&self);
}

static void
what_is_left_follows_each_kind_of_id(void **state)
{
    static const struct {
        const char *suffix, *wanted;
    } rows[] = {
        {":0", MESSAGE("Rust") DONE FULL("Rust")},
        {":3", MESSAGE("t") DONE FULL("Rust")},
        {":4", DONE FULL("Rust")},
        {":4:d", FULL("Rust")},
        {":2:d", MESSAGE("st") DONE FULL("Rust")}, /* never given for this answer */
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        fixture_t self = reopen_fixture(SSE_FRAMING_LINES, rows[i].suffix);
        say(&self, "Rust");
        end(&self, (status_rep_t){
                       .state = ANSWER_COMPLETE, .length = 4, .finish = SVC_LIT("stop")});
        assert_sent(&self, SSE_END, rows[i].wanted);
        close_fixture(&self);
    }
}

static void
a_client_that_has_more_than_is_shown_waits(void **state)
{
    fixture_t self = reopen_fixture(SSE_FRAMING_LINES, ":3");

    (void)state;
    say(&self, "Ru");
    assert_sent(&self, SSE_IDLE, "");
    say(&self, "st");
    assert_sent(&self, SSE_IDLE, MESSAGE("t"));
    close_fixture(&self);
}

static void
a_client_that_has_more_than_is_stored_is_told_how_much(void **state)
{
    fixture_t self = reopen_fixture(SSE_FRAMING_EVENTS, ":9");

    (void)state;
    say(&self, "Rust");
    end(&self, (status_rep_t){.state = ANSWER_INTERRUPTED,
                              .length = 4,
                              .reason = SVC_LIT("interrupted")});
    assert_sent(
        &self, SSE_END,
        "retry: 1000\nid: " HEX ":9\n\n"
        "id: " HEX ":4:e\nevent: error\ndata: {\"event\":\"error\",\"data\":"
        "\"The answer was interrupted\",\"code\":\"interrupted\",\"stored\":4}\n\n");
    close_fixture(&self);
}

static void
past_the_end_of_any_answer_is_an_error(void **state)
{
    static const struct {
        answer_state end;
        const char *code;
    } rows[] = {{ANSWER_STOPPED, "\"code\":\"interrupted\",\"stored\":4}\n"},
                {ANSWER_COMPLETE, "\"code\":\"invalid\",\"stored\":4}\n"}};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        fixture_t self = reopen_fixture(SSE_FRAMING_LINES, ":9");
        say(&self, "Rust");
        end(&self, (status_rep_t){.state = (int)rows[i].end, .length = 4});
        assert_int_equal(sse_stream_next(self.sse, self.feed, &self.out), SSE_SENT);
        assert_int_equal(svc_buf_add(&self.out, "", 1), RC_OK);
        assert_non_null(strstr(self.out.p, rows[i].code));
        assert_int_equal(sse_stream_next(self.sse, self.feed, &self.out), SSE_END);
        close_fixture(&self);
    }
}

static void
an_id_within_a_character_is_none(void **state)
{
    fixture_t self = reopen_fixture(SSE_FRAMING_LINES, ":1");

    (void)state;
    say(&self, "\xe4\xbd\xa0 and more");
    assert_int_equal(sse_stream_next(self.sse, self.feed, &self.out), SSE_SENT);
    assert_int_equal(svc_buf_add(&self.out, "", 1), RC_OK);
    assert_non_null(strstr(self.out.p, "\"code\":\"invalid\"}\n"));
    assert_int_equal(sse_stream_next(self.sse, self.feed, &self.out), SSE_END);
    close_fixture(&self);
}

static void
an_event_source_does_not_come_back_with_an_id_that_is_none(void **state)
{
    fixture_t self = reopen_fixture(SSE_FRAMING_EVENTS, ":1");

    (void)state;
    say(&self, "\xe4\xbd\xa0 and more");
    assert_int_equal(sse_stream_next(self.sse, self.feed, &self.out), SSE_SENT);
    svc_buf_clear(&self.out);
    assert_int_equal(sse_stream_next(self.sse, self.feed, &self.out), SSE_SENT);
    assert_int_equal(svc_buf_add(&self.out, "", 1), RC_OK);
    assert_non_null(strstr(self.out.p, "id: " HEX ":1:e\nevent: error\n"));
    assert_non_null(strstr(self.out.p, "\"code\":\"invalid\"}\n"));
    close_fixture(&self);
}

/* --- refused in the middle -------------------------------------------------------------------- */

static void
a_client_that_may_not_read_on_can_resume_later(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_EVENTS, TEXT_ZH);

    (void)state;
    say(&self, "Ru");
    assert_sent(&self, SSE_IDLE,
                "id: " HEX
                ":2\nevent: message\ndata: {\"event\":\"message\",\"data\":\"Ru\"}\n\n");
    say(&self, "st");
    sse_stream_refuse(self.sse, RC_UNAUTHORIZED);
    assert_sent(&self, SSE_END,
                "id: " HEX ":2\nevent: error\ndata: {\"event\":\"error\",\"data\":"
                "\"令牌无效或已过期\",\"code\":\"unauthorized\"}\n\n");
    close_fixture(&self);
}

static void
a_whole_text_is_not_refused_halfway(void **state)
{
    fixture_t self = reopen_fixture(SSE_FRAMING_LINES, ":4:d");

    (void)state;
    say(&self, "Rust");
    end(&self,
        (status_rep_t){.state = ANSWER_COMPLETE, .length = 4, .finish = SVC_LIT("stop")});
    assert_int_equal(sse_stream_next(self.sse, self.feed, &self.out), SSE_SENT);
    sse_stream_refuse(self.sse, RC_UNAUTHORIZED);
    assert_sent(&self, SSE_END, "Rust\"}\n");
    close_fixture(&self);
}

static void
the_end_waits_for_text_that_is_missing(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_LINES, TEXT_EN);

    (void)state;
    say(&self, "ab");
    end(&self,
        (status_rep_t){.state = ANSWER_COMPLETE, .length = 4, .finish = SVC_LIT("stop")});
    assert_sent(&self, SSE_IDLE, "{\"event\":\"message\",\"data\":\"ab\"}\n");
    assert_int_equal(feed_take_page(self.feed, 7, 2, SVC_LIT("cd")), FEED_GREW);
    assert_sent(
        &self, SSE_END,
        "{\"event\":\"message\",\"data\":\"cd\"}\n"
        "{\"event\":\"done\",\"data\":\"Stream finished\",\"message_id\":4,\"finish_reason\":\"stop\"}\n"
        "{\"event\":\"full_response\",\"data\":\"abcd\"}\n");
    close_fixture(&self);
}

static void
nobody_sees_half_a_character(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_LINES, TEXT_EN);

    (void)state;
    say(&self, "a\xe4\xbd");
    assert_sent(&self, SSE_IDLE, "{\"event\":\"message\",\"data\":\"a\"}\n");
    say(&self, "\xa0");
    assert_sent(&self, SSE_IDLE, "{\"event\":\"message\",\"data\":\"你\"}\n");
    close_fixture(&self);
}

static void
text_that_is_none_cuts_the_connection(void **state)
{
    fixture_t self = open_fixture(SSE_FRAMING_LINES, TEXT_EN);

    (void)state;
    say(&self, "\xff\xff\xff\xff");
    assert_sent(&self, SSE_BROKEN, "");
    close_fixture(&self);
}

static void
silence_is_filled_as_the_framing_allows(void **state)
{
    static const char *const wanted[] = {": keep-alive\n\n", "\n", "\n"};

    (void)state;
    for (int framing = SSE_FRAMING_EVENTS; framing <= SSE_FRAMING_BARE; framing++) {
        fixture_t self = open_fixture((sse_framing)framing, TEXT_EN);
        assert_true(sse_stream_is_between_events(self.sse));
        assert_int_equal(sse_stream_comment(self.sse, &self.out), RC_OK);
        assert_int_equal(self.out.n, strlen(wanted[framing]));
        assert_memory_equal(self.out.p, wanted[framing], self.out.n);
        close_fixture(&self);
    }
}

static void
accept_chooses_the_framing(void **state)
{
    static const struct {
        const char *accept;
        sse_framing framing;
    } rows[] = {
        {"", SSE_FRAMING_BARE},
        {"*/*", SSE_FRAMING_BARE},
        {"application/json", SSE_FRAMING_BARE},
        {"text/event-stream", SSE_FRAMING_EVENTS},
        {"Text/Event-Stream; charset=utf-8", SSE_FRAMING_EVENTS},
        {"application/x-ndjson", SSE_FRAMING_LINES},
        {"application/x-ndjson, text/event-stream", SSE_FRAMING_LINES},
        {"application/x-ndjson;q=0.5, text/event-stream;q=0.8", SSE_FRAMING_EVENTS},
        {"application/x-ndjson; q=0, */*", SSE_FRAMING_BARE},
        {"text/event-streams", SSE_FRAMING_BARE},
        {",;q=,;;q=1,text/event-stream;q", SSE_FRAMING_EVENTS},
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++)
        if (sse_framing_of(svc_str_c(rows[i].accept), SSE_FRAMING_BARE) !=
            rows[i].framing)
            fail_msg("%s", rows[i].accept);
    assert_string_equal(sse_framing_type(SSE_FRAMING_LINES), "application/x-ndjson");
    assert_string_equal(sse_framing_type(SSE_FRAMING_BARE), "text/event-stream");
}

/* --- viewers of every speed ----------------------------------------------------------------- */

#define BIG_BYTES 700000

typedef struct {
    char *text;    /* of the messages, one after another */
    size_t n;      /* bytes of it */
    char *full;    /* of full_response */
    size_t n_full; /* bytes of it */
    bool in_full;  /* between its begin and its end */
    bool done;     /* its end was seen */
} client_t;

/* Reads what a viewer has sent; the text has no characters that JSON escapes. */
static void
read_sent(client_t *client, svc_str sent)
{
    static const svc_str message = {"{\"event\":\"message\",\"data\":\"", 27};
    static const svc_str full = {"{\"event\":\"full_response\",\"data\":\"", 33};

    while (sent.n > 0) {
        const char *quote;
        if (!client->in_full && sent.n > message.n &&
            memcmp(sent.p, message.p, message.n) == 0) {
            quote = memchr(sent.p + message.n, '"', sent.n - message.n);
            assert_non_null(quote);
            size_t n = (size_t)(quote - sent.p) - message.n;
            assert_in_range(n, 1, SSE_TEXT_MAX_BYTES);
            memcpy(client->text + client->n, sent.p + message.n, n);
            client->n += n;
            sent = (svc_str){quote + 3, sent.n - message.n - n - 3};
        } else if (!client->in_full && sent.n >= full.n &&
                   memcmp(sent.p, full.p, full.n) == 0) {
            client->in_full = true;
            sent = (svc_str){sent.p + full.n, sent.n - full.n};
        } else if (client->in_full) {
            quote = memchr(sent.p, '"', sent.n);
            size_t n = quote != NULL ? (size_t)(quote - sent.p) : sent.n;
            memcpy(client->full + client->n_full, sent.p, n);
            client->n_full += n;
            client->done = client->done || quote != NULL;
            client->in_full = quote == NULL;
            sent.n = 0;
        } else {
            const char *line = memchr(sent.p, '\n', sent.n); /* done */
            assert_non_null(line);
            sent = (svc_str){line + 1, sent.n - (size_t)(line - sent.p) - 1};
        }
    }
}

/* One read of a viewer; pages come from the truth, cut anywhere. */
static sse_result
read_once(fixture_t *self, client_t *client, const char *truth, unsigned *random)
{
    svc_buf_clear(&self->out);
    sse_result result = sse_stream_next(self->sse, self->feed, &self->out);
    if (result == SSE_NEED_PAGE) {
        uint64_t from = sse_stream_offset(self->sse);
        size_t most = BIG_BYTES - (size_t)from;
        size_t n = 1 + (size_t)rand_r(random) % PROTO_PAGE_MAX_BYTES;
        sse_stream_page(self->sse, from + 1,
                        SVC_LIT("a page of another offset is ignored"));
        sse_stream_page(self->sse, from, (svc_str){truth + from, n < most ? n : most});
    }
    read_sent(client, svc_buf_str(&self->out));
    return result;
}

static void
run_viewer(unsigned seed, unsigned slowness)
{
    unsigned random = seed;
    char *truth = malloc(BIG_BYTES);
    client_t client = {.text = malloc(BIG_BYTES), .full = malloc(BIG_BYTES)};
    fixture_t self = open_fixture(SSE_FRAMING_LINES, TEXT_EN);
    sse_result result = SSE_IDLE;

    for (size_t i = 0; i < BIG_BYTES; i++) /* characters of one to three bytes */
        truth[i] = (char)(i % 7 < 3 ? "\xe4\xbd\xa0"[i % 7] : 'a' + rand_r(&random) % 26);
    while (feed_end(self.feed) < BIG_BYTES) {
        uint64_t at = feed_end(self.feed);
        size_t n = 1 + (size_t)rand_r(&random) % 3000;
        proto_token_t token = {
            .fence = 7,
            .offset = at,
            .bytes = {truth + at, n < BIG_BYTES - at ? n : (size_t)(BIG_BYTES - at)}};
        assert_int_equal(feed_take_token(self.feed, &token), FEED_GREW);
        if ((unsigned)rand_r(&random) % slowness == 0)
            result = read_once(&self, &client, truth, &random);
    }
    end(&self, (status_rep_t){.state = ANSWER_COMPLETE,
                              .length = BIG_BYTES,
                              .finish = SVC_LIT("stop")});
    for (int i = 0; i < 100000 && result != SSE_END; i++) {
        result = read_once(&self, &client, truth, &random);
        assert_int_not_equal(result, SSE_BROKEN);
    }
    assert_int_equal(result, SSE_END);
    assert_int_equal(client.n, BIG_BYTES);
    assert_memory_equal(client.text, truth, BIG_BYTES);
    assert_int_equal(client.n_full, BIG_BYTES);
    assert_memory_equal(client.full, truth, BIG_BYTES);
    free(truth);
    free(client.text);
    free(client.full);
    close_fixture(&self);
}

static void
viewers_of_every_speed_get_every_byte_once(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 6; seed++)
        for (unsigned slowness = 1; slowness <= 256; slowness *= 4)
            run_viewer(seed, slowness);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_as_server_sent_events),
        cmocka_unit_test(an_answer_as_lines),
        cmocka_unit_test(an_answer_as_the_original_wrote_it),
        cmocka_unit_test(an_empty_answer_has_no_empty_piece),
        cmocka_unit_test(an_interruption_is_an_error_event_after_the_text),
        cmocka_unit_test(losing_sight_of_an_answer_is_told_in_the_clients_language),
        cmocka_unit_test(a_resumed_stream_begins_with_its_own_id),
        cmocka_unit_test(what_is_left_follows_each_kind_of_id),
        cmocka_unit_test(a_client_that_has_more_than_is_shown_waits),
        cmocka_unit_test(a_client_that_has_more_than_is_stored_is_told_how_much),
        cmocka_unit_test(past_the_end_of_any_answer_is_an_error),
        cmocka_unit_test(an_id_within_a_character_is_none),
        cmocka_unit_test(an_event_source_does_not_come_back_with_an_id_that_is_none),
        cmocka_unit_test(a_client_that_may_not_read_on_can_resume_later),
        cmocka_unit_test(a_whole_text_is_not_refused_halfway),
        cmocka_unit_test(the_end_waits_for_text_that_is_missing),
        cmocka_unit_test(nobody_sees_half_a_character),
        cmocka_unit_test(text_that_is_none_cuts_the_connection),
        cmocka_unit_test(silence_is_filled_as_the_framing_allows),
        cmocka_unit_test(accept_chooses_the_framing),
        cmocka_unit_test(viewers_of_every_speed_get_every_byte_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
