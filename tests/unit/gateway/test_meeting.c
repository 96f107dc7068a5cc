/* test_meeting.c - who reads what, and guests that go from one reactor to another, at once from many threads.
 *
 * Nobody looks into the guests, so their descriptors are numbers. */
#include "gateway/meeting.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define MAX     1000
#define SENDERS 3
#define GUESTS  2000 /* of each sender */

static int
open_meeting(void **state)
{
    *state = meeting_new(SENDERS + 1, MAX);
    return 0;
}

static int
close_meeting(void **state)
{
    meeting_t *self = *state;

    meeting_close(self, 2);
    meeting_destroy(&self);
    assert_null(self);
    return 0;
}

static bool
is_readable(int fd)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

static size_t
place(const meeting_t *self, const char *head, size_t here)
{
    return meeting_place(self, svc_str_c(head), here);
}

static void
a_stream_belongs_where_its_answer_is_read(void **state)
{
    static const char *const others[] = {
        "POST /api/chat/17/stream HTTP/1.1\r\n",
        "GET /api/chat/17 HTTP/1.1\r\n",
        "GET /api/chat/17/stream",
        "GET /api/chat/17/streams HTTP/1.1\r\n",
        "GET /api/chat//stream HTTP/1.1\r\n",
        "GET /api/chat/18/stream HTTP/1.1\r\n",
        "GET /api/chat/-17/stream HTTP/1.1\r\n",
        "GET /api/chat/17",
        "GET /api/cha",
        "",
    };
    meeting_t *self = *state;

    meeting_begin(self, 17, 2);
    assert_int_equal(place(self, "GET /api/chat/17/stream HTTP/1.1\r\n\r\n", 1), 2);
    assert_int_equal(place(self, "GET /api/chat/17/stream?after=x HTTP/1.1\r\n", 3), 2);
    assert_int_equal(place(self, "GET /api/chat/17/stream/ HTTP/1.1\r\n", 1), 2);
    assert_int_equal(place(self, "GET /api/chat/17/stream HTTP/1.1\r\n\r\n", 2), 0);
    for (size_t i = 0; i < SVC_COUNT(others); i++)
        assert_int_equal(place(self, others[i], 1), 0);
}

static void
it_is_forgotten_when_nobody_reads_it(void **state)
{
    static const char head[] = "GET /api/chat/17/stream HTTP/1.1\r\n\r\n";
    meeting_t *self = *state;

    meeting_begin(self, 17, 2);
    meeting_begin(self, 17, 3); /* the first one is where the others are */
    assert_int_equal(place(self, head, 1), 2);
    meeting_end(self, 17, 3);
    assert_int_equal(place(self, head, 1), 2);
    meeting_end(self, 17, 2);
    assert_int_equal(place(self, head, 1), 0);
    meeting_begin(self, 17, 3);
    assert_int_equal(place(self, head, 1), 3);
}

static void
any_number_of_conversations_is_remembered_or_forgotten_but_never_mixed_up(void **state)
{
    meeting_t *self = *state;
    char head[64];
    unsigned known = 0;

    for (uint64_t id = 1; id <= 50000; id++)
        meeting_begin(self, id, id % 2 + 1);
    for (uint64_t id = 1; id <= 50000; id++) {
        snprintf(head, sizeof head, "GET /api/chat/%llu/stream HTTP/1.1\r\n",
                 (unsigned long long)id);
        size_t at = place(self, head, 3);
        assert_true(at == 0 || at == id % 2 + 1);
        known += at != 0;
    }
    assert_true(known > 1000);
}

static void
a_number_that_fits_no_slot_has_no_place(void **state)
{
    meeting_t *self = *state;

    meeting_begin(self, UINT64_MAX, 2);
    assert_int_equal(
        place(self, "GET /api/chat/18446744073709551615/stream HTTP/1.1\r\n", 1), 0);
    assert_int_equal(
        place(self, "GET /api/chat/99999999999999999999999/stream HTTP/1.1\r\n", 1), 0);
    meeting_end(self, UINT64_MAX, 2);
    meeting_begin(self, (1ull << 56) - 1, 2);
    assert_int_equal(
        place(self, "GET /api/chat/72057594037927935/stream HTTP/1.1\r\n", 1), 2);
}

static void
guests_come_in_order_and_the_descriptor_tells(void **state)
{
    meeting_t *self = *state;
    meeting_guest_t guest = {.fd = 7, .counted = true};
    int fd = meeting_open(self, 2);

    assert_false(is_readable(fd));
    assert_true(meeting_send(self, 1, 2, &guest));
    guest = (meeting_guest_t){.fd = 8};
    assert_true(meeting_send(self, 3, 2, &guest));
    assert_true(is_readable(fd));
    assert_true(meeting_receive(self, 2, &guest));
    assert_int_equal(guest.fd, 7);
    assert_true(guest.counted);
    assert_true(is_readable(fd));
    assert_true(meeting_receive(self, 2, &guest));
    assert_int_equal(guest.fd, 8);
    assert_false(guest.counted);
    assert_false(meeting_receive(self, 2, &guest));
    assert_false(is_readable(fd));
}

static void
who_is_closed_takes_nobody_but_keeps_those_on_their_way(void **state)
{
    meeting_t *self = *state;
    meeting_guest_t guest = {.fd = 7};

    assert_false(meeting_send(self, 1, 2, &guest)); /* never opened */
    (void)meeting_open(self, 2);
    assert_true(meeting_send(self, 1, 2, &guest));
    meeting_close(self, 2);
    assert_false(meeting_send(self, 1, 2, &guest));
    assert_true(meeting_receive(self, 2, &guest));
    assert_false(meeting_receive(self, 2, &guest));
}

static void
who_is_nearly_full_takes_nobody(void **state)
{
    meeting_t *self = *state;
    meeting_guest_t guest = {.fd = 7};

    (void)meeting_open(self, 2);
    meeting_count(self, 1, MAX);
    meeting_count(self, 2, MAX - MAX / 8 - 1);
    assert_true(meeting_send(self, 1, 2, &guest)); /* which counts already */
    assert_false(meeting_send(self, 1, 2, &guest));
    assert_true(meeting_receive(self, 2, &guest));
    assert_true(meeting_send(self, 1, 2, &guest));
    assert_true(meeting_receive(self, 2, &guest));
    meeting_set_max(self, MAX / 2);
    assert_false(meeting_send(self, 1, 2, &guest));
    meeting_set_max(self, 2 * MAX);
    assert_true(meeting_send(self, 1, 2, &guest));
    assert_true(meeting_receive(self, 2, &guest));
}

static void
one_answer_that_all_watch_does_not_bring_all_to_one_reactor(void **state)
{
    meeting_t *self = *state;
    meeting_guest_t guest = {.fd = 7};
    size_t sent = 0;

    (void)meeting_open(self, 2);
    meeting_count(self, 1, 100);
    meeting_count(self, 2, 100);
    while (meeting_send(self, 1, 2, &guest)) {
        assert_true(meeting_receive(self, 2, &guest));
        meeting_count(self, 1, 100 - ++sent);
        meeting_count(self, 2, 100 + sent);
        assert_true(sent < 100);
    }
    assert_true(sent >= 30);
}

static void
so_many_wait_and_no_more(void **state)
{
    meeting_t *self = *state;
    meeting_guest_t guest = {.fd = 7};
    size_t n = 0;

    (void)meeting_open(self, 2);
    meeting_count(self, 1, MAX);
    while (meeting_send(self, 1, 2, &guest))
        n++;
    assert_int_equal(n, MEETING_WAITING_MAX);
    while (meeting_receive(self, 2, &guest))
        n--;
    assert_int_equal(n, 0);
}

/* --- many at once ------------------------------------------------------------------------- */

typedef struct {
    meeting_t *meeting; /* shared */
    size_t reactor;     /* who sends */
} sender_t;

static void *
send_all(void *arg)
{
    const sender_t *self = arg;

    for (int i = 0; i < GUESTS; i++) {
        meeting_guest_t guest = {.fd = (int)self->reactor * GUESTS + i};
        meeting_begin(self->meeting, (uint64_t)i % 50 + 1, self->reactor);
        (void)place(self->meeting, "GET /api/chat/17/stream HTTP/1.1\r\n", 2);
        while (!meeting_send(self->meeting, self->reactor, 2, &guest))
            sched_yield();
        meeting_end(self->meeting, (uint64_t)i % 50 + 1, self->reactor);
    }
    return NULL;
}

static void
nobody_is_lost_or_doubled_between_threads(void **state)
{
    static const size_t reactors[SENDERS] = {1, 3, 4};
    static unsigned char seen[5 * GUESTS];
    meeting_t *self = *state;
    pthread_t threads[SENDERS];
    sender_t senders[SENDERS];
    meeting_guest_t guest;
    int fd = meeting_open(self, 2);

    for (size_t i = 0; i < SENDERS; i++) {
        senders[i] = (sender_t){self, reactors[i]};
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    for (unsigned got = 0; got < SENDERS * GUESTS;) {
        /* whoever sleeps until the descriptor tells must not sleep for ever */
        assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 20000), 1);
        while (meeting_receive(self, 2, &guest)) {
            assert_int_equal(seen[guest.fd]++, 0);
            got++;
        }
        meeting_count(self, 2, got % 10);
    }
    for (size_t i = 0; i < SENDERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_false(meeting_receive(self, 2, &guest));
}

#define MEETING_TEST(name) \
    cmocka_unit_test_setup_teardown(name, open_meeting, close_meeting)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        MEETING_TEST(a_stream_belongs_where_its_answer_is_read),
        MEETING_TEST(it_is_forgotten_when_nobody_reads_it),
        MEETING_TEST(
            any_number_of_conversations_is_remembered_or_forgotten_but_never_mixed_up),
        MEETING_TEST(a_number_that_fits_no_slot_has_no_place),
        MEETING_TEST(guests_come_in_order_and_the_descriptor_tells),
        MEETING_TEST(who_is_closed_takes_nobody_but_keeps_those_on_their_way),
        MEETING_TEST(who_is_nearly_full_takes_nobody),
        MEETING_TEST(one_answer_that_all_watch_does_not_bring_all_to_one_reactor),
        MEETING_TEST(so_many_wait_and_no_more),
        MEETING_TEST(nobody_is_lost_or_doubled_between_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
