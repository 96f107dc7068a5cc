/* test_tls_pump.c - what passes between a client that speaks TLS and a pair of sockets, and how both ends end.
 *
 * The client's side of the wire is a socket of the test; the pump runs whenever the test looks. */
#include "gateway/tls_pump.h"
#include "tls_fixture.h"

#include <sys/epoll.h>

#define ROUNDS_MAX 20000
#define BIG_BYTES  (1u << 20)

typedef struct {
    tls_files_t files;
    tls_store_t *store;
    tls_wire_t *wire; /* the use of whoever is behind */
    tls_pump_t *pump; /* what is tested */
    int client,
        behind; /* sockets: the client's, and the other end of the pair; -1: closed */
    tls_client_t tls;     /* on client */
    tls_pump_state state; /* as it said last */
    bool has_run;         /* edges that nobody has seen come with the first run */
} place_t;

static int
open_place(void **state)
{
    place_t *self = svc_alloc(sizeof *self);
    char *error = NULL;
    int outer[2], inner[2];

    tls_files_open(&self->files);
    self->store = tls_store_new(self->files.cert, self->files.key, &error);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, outer), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, inner), 0);
    self->client = outer[1];
    self->behind = inner[1];
    self->wire = tls_wire_new(outer[0]);
    self->pump = tls_pump_new(self->store, self->wire, inner[0]);
    assert_non_null(self->pump);
    *state = self;
    return 0;
}

static void
shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int
close_place(void **state)
{
    place_t *self = *state;

    tls_client_close(&self->tls);
    tls_pump_destroy(&self->pump);
    tls_wire_release(&self->wire);
    shut(&self->client);
    shut(&self->behind);
    tls_store_destroy(&self->store);
    tls_files_close(&self->files);
    free(self);
    return 0;
}

/* What epoll would say of a socket now. */
static uint32_t
events_of(int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP};
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0 ||
        epoll_wait(epoll_fd, &event, 1, 0) != 1)
        event.events = 0;
    close(epoll_fd);
    return event.events;
}

/* Lets the pump run until it waits. */
static void
run(place_t *self)
{
    char scratch[TLS_PIECE_BYTES];

    for (int i = 0; self->pump != NULL && i < ROUNDS_MAX; i++) {
        self->state = tls_pump_run(self->pump, events_of(tls_wire_fd(self->wire)),
                                   events_of(tls_pump_fd(self->pump)), scratch);
        if (self->state == TLS_PUMP_WAITS)
            return;
        if (self->state == TLS_PUMP_DONE) {
            tls_pump_destroy(&self->pump);
            return;
        }
    }
}

static void
shake_hands(place_t *self, const char *priorities, const char *protocol)
{
    tls_client_open(&self->tls, self->client, priorities, protocol);
    for (int i = 0; i < 50 && !tls_client_shakes(&self->tls); i++)
        run(self);
    run(self);
}

/* What those behind get, as text. */
static const char *
take_behind(const place_t *self, char *out, size_t n)
{
    ssize_t got = recv(self->behind, out, n - 1, MSG_DONTWAIT);

    out[got > 0 ? got : 0] = '\0';
    return out;
}

static void
words_pass_both_ways(void **state)
{
    place_t *self = *state;
    char text[64];

    assert_true(tls_pump_is_new(self->pump));
    shake_hands(self, NULL, NULL);
    assert_true(self->tls.is_open);
    assert_false(tls_pump_is_new(self->pump));
    assert_int_equal(gnutls_record_send(self->tls.session, "ask", 3), 3);
    run(self);
    assert_string_equal(take_behind(self, text, sizeof text), "ask");
    assert_int_equal(send(self->behind, "told", 4, 0), 4);
    run(self);
    assert_int_equal(tls_client_take(&self->tls, text, sizeof text), 4);
    assert_memory_equal(text, "told", 4);
    assert_int_equal(tls_pump_moved(self->pump), 4);
    assert_int_equal(gnutls_protocol_get_version(self->tls.session), GNUTLS_TLS1_3);
}

static void
old_versions_and_other_protocols_are_refused(void **state)
{
    static const struct {
        const char *priorities, *protocol;
        bool is_good;
    } clients[] = {
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2", NULL, true},
        {NULL, "http/1.1", true},
        {NULL, "h2", false},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT", NULL, false},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA", NULL, false},
    };

    for (size_t i = 0; i < SVC_COUNT(clients); i++) {
        close_place(state);
        open_place(state);
        place_t *self = *state;
        shake_hands(self, clients[i].priorities, clients[i].protocol);
        assert_int_equal(self->tls.is_open, clients[i].is_good);
        if (clients[i].is_good)
            continue;
        /* it was told why, and nobody is behind any more */
        assert_int_equal(self->tls.failure, GNUTLS_E_FATAL_ALERT_RECEIVED);
        assert_non_null(tls_pump_failure(self->pump));
        assert_true(tls_pump_lingers(self->pump));
        assert_int_equal(recv(self->behind, &self->state, 1, 0), 0);
    }
}

static void
who_speaks_plain_http_is_told_so(void **state)
{
    place_t *self = *state;
    char text[1024];

    assert_int_equal(send(self->client, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
    run(self);
    ssize_t n = recv(self->client, text, sizeof text - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "HTTP/1.1 400 Bad Request\r\n"));
    assert_non_null(strstr(text, "{\"error\":\"This port speaks TLS only: use https\""));
    assert_int_equal(recv(self->client, text, sizeof text, 0), 0);
    assert_true(tls_pump_lingers(self->pump));
    shut(&self->client);
    run(self);
    assert_null(self->pump);
}

static void
a_client_that_was_told_is_not_listened_to_for_ever(void **state)
{
    place_t *self = *state;
    static const char noise[1 << 16];

    assert_int_equal(send(self->client, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
    run(self);
    assert_true(tls_pump_lingers(self->pump));
    for (int i = 0; self->pump != NULL && i < ROUNDS_MAX; i++) {
        (void)send(self->client, noise, sizeof noise, MSG_NOSIGNAL | MSG_DONTWAIT);
        run(self);
    }
    assert_null(self->pump);
}

static void
bytes_that_nobody_understands_end_it(void **state)
{
    static const svc_str odd[] = {
        SVC_LIT("\x80\x2e\x01\x03"), SVC_LIT("\x00\x00"), SVC_LIT("get / http"),
        SVC_LIT("\x16\x03\x01\xff\xff\xff\xff\xff\xff\xff\xff")};
    char rest[64];

    for (size_t i = 0; i < SVC_COUNT(odd); i++) {
        close_place(state);
        open_place(state);
        place_t *self = *state;
        assert_int_equal(send(self->client, odd[i].p, odd[i].n, 0), odd[i].n);
        shutdown(self->client, SHUT_WR);
        run(self);
        while (recv(self->client, rest, sizeof rest, 0) > 0)
            continue;
        run(self);
        assert_null(self->pump);
    }
}

static void
a_client_that_does_not_read_is_not_read_for(void **state)
{
    place_t *self = *state;
    char *bytes = svc_alloc(BIG_BYTES), got[TLS_PIECE_BYTES];
    size_t sent = 0, taken = 0;

    for (size_t i = 0; i < BIG_BYTES; i++)
        bytes[i] = (char)(i * 31 >> 3);
    shake_hands(self, NULL, NULL);
    for (ssize_t n = 1; n > 0 && sent<BIG_BYTES; sent += n> 0 ? (size_t)n : 0) {
        n = send(self->behind, bytes + sent, BIG_BYTES - sent, MSG_DONTWAIT);
        run(self);
    }
    assert_in_range(sent, 1, BIG_BYTES - 1); /* both sockets are full */
    uint64_t moved = tls_pump_moved(self->pump);
    run(self);
    assert_int_equal(tls_pump_moved(self->pump), moved);
    for (int i = 0; taken < BIG_BYTES && i < ROUNDS_MAX; i++) {
        ssize_t n = send(self->behind, bytes + sent, BIG_BYTES - sent, MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        run(self);
        n = tls_client_take(&self->tls, got, sizeof got);
        if (n == GNUTLS_E_AGAIN)
            continue;
        assert_true(n > 0);
        assert_memory_equal(got, bytes + taken, (size_t)n);
        taken += (size_t)n;
    }
    assert_int_equal(taken, BIG_BYTES);
    free(bytes);
}

static void
those_behind_who_do_not_read_are_not_read_for(void **state)
{
    place_t *self = *state;
    char *bytes = svc_alloc(BIG_BYTES), got[TLS_PIECE_BYTES];
    size_t sent = 0, taken = 0;

    for (size_t i = 0; i < BIG_BYTES; i++)
        bytes[i] = (char)(i * 17 >> 2);
    shake_hands(self, NULL, NULL);
    for (int i = 0; taken < BIG_BYTES && i < ROUNDS_MAX; i++) {
        ssize_t n = sent < BIG_BYTES ? gnutls_record_send(self->tls.session, bytes + sent,
                                                          BIG_BYTES - sent)
                                     : 0;
        sent += n > 0 ? (size_t)n : 0;
        run(self);
        if (n > 0)
            continue; /* until nothing fits any more */
        n = recv(self->behind, got, sizeof got, MSG_DONTWAIT);
        assert_true(n > 0 && taken < sent);
        assert_memory_equal(got, bytes + taken, (size_t)n);
        taken += (size_t)n;
    }
    assert_int_equal(taken, BIG_BYTES);
    free(bytes);
}

static void
a_small_record_limit_of_the_client_is_kept(void **state)
{
    place_t *self = *state;
    char bytes[3 * TLS_PIECE_BYTES], got[sizeof bytes];
    size_t taken = 0;

    memset(bytes, 'x', sizeof bytes);
    tls_client_open(&self->tls, self->client, NULL, NULL);
    assert_int_equal(gnutls_record_set_max_size(self->tls.session, 512), 0);
    for (int i = 0; i < 50 && !tls_client_shakes(&self->tls); i++)
        run(self);
    assert_int_equal(send(self->behind, bytes, sizeof bytes, 0), sizeof bytes);
    for (int i = 0; taken < sizeof bytes && i < ROUNDS_MAX; i++) {
        run(self);
        ssize_t n = tls_client_take(&self->tls, got, sizeof got);
        assert_in_range(n, 1, 512);
        taken += (size_t)n;
    }
    assert_int_equal(taken, sizeof bytes);
}

/* --- ends --------------------------------------------------------------------------------- */

static void
the_end_of_all_is_said_after_the_last_byte(void **state)
{
    place_t *self = *state;
    char text[16];

    shake_hands(self, NULL, NULL);
    assert_int_equal(send(self->behind, "last", 4, 0), 4);
    shut(&self->behind);
    run(self);
    assert_true(tls_pump_is_left(self->pump));
    assert_true(tls_pump_lingers(self->pump));
    assert_int_equal(tls_client_take(&self->tls, text, sizeof text), 4);
    assert_int_equal(tls_client_take(&self->tls, text, sizeof text), 0);
    shut(&self->client);
    run(self);
    assert_null(self->pump);
}

static void
an_end_in_the_middle_does_not_look_like_one(void **state)
{
    place_t *self = *state;
    char text[16];

    shake_hands(self, NULL, NULL);
    assert_int_equal(send(self->behind, "half", 4, 0), 4);
    tls_wire_break(self->wire);
    shut(&self->behind);
    run(self);
    assert_int_equal(tls_client_take(&self->tls, text, sizeof text), 4);
    assert_int_equal(tls_client_take(&self->tls, text, sizeof text),
                     GNUTLS_E_PREMATURE_TERMINATION);
}

static void
a_client_that_says_it_sends_no_more_still_gets_its_answer(void **state)
{
    place_t *self = *state;
    char text[16];

    shake_hands(self, NULL, NULL);
    assert_int_equal(gnutls_record_send(self->tls.session, "ask", 3), 3);
    assert_int_equal(gnutls_bye(self->tls.session, GNUTLS_SHUT_WR), 0);
    shutdown(self->client, SHUT_WR);
    run(self);
    assert_string_equal(take_behind(self, text, sizeof text), "ask");
    assert_int_equal(recv(self->behind, text, sizeof text, 0), 0);
    assert_int_equal(events_of(self->behind) & EPOLLHUP, 0);
    assert_int_equal(send(self->behind, "told", 4, 0), 4);
    run(self);
    assert_int_equal(tls_client_take(&self->tls, text, sizeof text), 4);
}

static void
one_that_ends_without_a_word_has_gone(void **state)
{
    place_t *self = *state;
    char text[16];

    shake_hands(self, NULL, NULL);
    assert_int_equal(gnutls_record_send(self->tls.session, "ask", 3), 3);
    shutdown(self->client, SHUT_WR);
    run(self);
    assert_null(self->pump);
    assert_string_equal(take_behind(self, text, sizeof text), "ask");
    assert_int_not_equal(events_of(self->behind) & EPOLLHUP, 0);
}

static void
a_client_that_has_gone_is_gone_for_those_behind(void **state)
{
    place_t *self = *state;
    char byte;

    shake_hands(self, NULL, NULL);
    shut(&self->client);
    run(self);
    assert_null(self->pump);
    assert_int_equal(recv(self->behind, &byte, 1, 0), 0);
    assert_int_not_equal(events_of(self->behind) & EPOLLHUP, 0);
}

static void
the_same_when_what_it_has_said_is_not_read(void **state)
{
    place_t *self = *state;
    static const char noise[1 << 14];

    shake_hands(self, NULL, NULL);
    for (int quiet = 0; quiet < 3; run(self))
        quiet = gnutls_record_send(self->tls.session, noise, sizeof noise) > 0
                    ? 0
                    : quiet + 1;
    assert_non_null(self->pump);
    shut(&self->client);
    run(self);
    assert_null(self->pump);
}

static void
those_who_leave_before_the_handshake_leave_no_trace(void **state)
{
    place_t *self = *state;
    char byte;

    tls_client_open(&self->tls, self->client, NULL, NULL);
    (void)tls_client_shakes(&self->tls);
    run(self);
    assert_non_null(self->pump);
    shut(&self->behind);
    run(self);
    assert_null(self->pump);
    tls_wire_release(&self->wire);
    while (recv(self->client, &byte, 1, 0) > 0) /* what was said of the handshake */
        continue;
    assert_int_equal(recv(self->client, &byte, 1, 0), 0);
}

static void
but_their_last_words_are_said(void **state)
{
    place_t *self = *state;
    char text[16];

    assert_int_equal(send(self->behind, "no room", 7, 0), 7);
    shut(&self->behind);
    run(self);
    shake_hands(self, NULL, NULL);
    assert_true(self->tls.is_open);
    assert_int_equal(tls_client_take(&self->tls, text, sizeof text), 7);
    assert_int_equal(tls_client_take(&self->tls, text, sizeof text), 0);
}

static void
a_client_that_wants_other_keys_is_sent_away(void **state)
{
    place_t *self = *state;
    char text[16];

    shake_hands(self, "NORMAL:-VERS-ALL:+VERS-TLS1.2", NULL);
    assert_true(self->tls.is_open);
    (void)gnutls_handshake(self->tls.session); /* its second hello */
    run(self);
    assert_true(tls_pump_lingers(self->pump));
    assert_int_equal(recv(self->behind, text, sizeof text, 0), 0);
    assert_int_equal(gnutls_handshake(self->tls.session), GNUTLS_E_FATAL_ALERT_RECEIVED);
    assert_int_equal(gnutls_alert_get(self->tls.session), GNUTLS_A_NO_RENEGOTIATION);
}

#define PLACE_TEST(name) cmocka_unit_test_setup_teardown(name, open_place, close_place)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_TEST(words_pass_both_ways),
        PLACE_TEST(old_versions_and_other_protocols_are_refused),
        PLACE_TEST(who_speaks_plain_http_is_told_so),
        PLACE_TEST(a_client_that_was_told_is_not_listened_to_for_ever),
        PLACE_TEST(bytes_that_nobody_understands_end_it),
        PLACE_TEST(a_client_that_does_not_read_is_not_read_for),
        PLACE_TEST(those_behind_who_do_not_read_are_not_read_for),
        PLACE_TEST(a_small_record_limit_of_the_client_is_kept),
        PLACE_TEST(the_end_of_all_is_said_after_the_last_byte),
        PLACE_TEST(an_end_in_the_middle_does_not_look_like_one),
        PLACE_TEST(a_client_that_says_it_sends_no_more_still_gets_its_answer),
        PLACE_TEST(one_that_ends_without_a_word_has_gone),
        PLACE_TEST(a_client_that_has_gone_is_gone_for_those_behind),
        PLACE_TEST(the_same_when_what_it_has_said_is_not_read),
        PLACE_TEST(those_who_leave_before_the_handshake_leave_no_trace),
        PLACE_TEST(but_their_last_words_are_said),
        PLACE_TEST(a_client_that_wants_other_keys_is_sent_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
