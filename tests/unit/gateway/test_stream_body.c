/* test_stream_body.c - a body on both its ways: every byte once, in order, in whole chunks.
 *
 * The client is the other end of a socket pair; what it reads is taken apart by a chunk
 * parser of our own here. */
#include "gateway/stream_body.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define RECEIVED_MAX_BYTES (8u << 20)

typedef struct {
    size_t total;     /* bytes that there are */
    size_t made;      /* of them */
    size_t piece;     /* bytes at once; 0: as many as are enough */
    stream_step then; /* what follows when all is made */
    unsigned fills;   /* calls */
} source_t;

typedef struct {
    stream_body_t body;
    source_t source;    /* what it makes */
    svc_buf_t scratch;  /* as a reactor's */
    int fds[2];         /* ours, the client's */
    svc_buf_t received; /* by the client */
} fixture_t;

/* The byte at an offset of every body here. */
static char
byte_at(size_t offset)
{
    return (char)('a' + offset % 26);
}

static stream_step
fill(void *arg, svc_buf_t *out, size_t enough)
{
    source_t *self = arg;
    size_t from = out->n;

    self->fills++;
    while (self->made < self->total && out->n < enough &&
           (self->piece == 0 || out->n - from < self->piece)) {
        char byte = byte_at(self->made++);
        assert_int_equal(svc_buf_add(out, &byte, 1), RC_OK);
    }
    return out->n > from ? STREAM_MORE : self->then;
}

static fixture_t *
open_fixture(size_t total, stream_step then)
{
    fixture_t *self = svc_alloc(sizeof *self);
    int sndbuf = 4096;

    self->source = (source_t){.total = total, .then = then};
    stream_body_init(&self->body, fill, &self->source, STREAM_FILL_BYTES);
    svc_buf_init(&self->scratch, STREAM_FILL_MAX_BYTES);
    svc_buf_init(&self->received, RECEIVED_MAX_BYTES);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, self->fds), 0);
    assert_int_equal(
        setsockopt(self->fds[0], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf), 0);
    assert_int_equal(fcntl(self->fds[1], F_SETFL, O_NONBLOCK), 0);
    return self;
}

static void
close_fixture(fixture_t *self)
{
    stream_body_fini(&self->body);
    svc_buf_fini(&self->scratch);
    svc_buf_fini(&self->received);
    close(self->fds[0]);
    if (self->fds[1] >= 0)
        close(self->fds[1]);
    free(self);
}

static stream_step
write_all(fixture_t *self)
{
    return stream_body_write(&self->body, &self->scratch, self->fds[0]);
}

/* The client reads what is there; gives how much that was. */
static size_t
receive(fixture_t *self)
{
    char buf[4096];
    size_t got = 0;
    ssize_t n;

    while ((n = read(self->fds[1], buf, sizeof buf)) > 0) {
        assert_int_equal(svc_buf_add(&self->received, buf, (size_t)n), RC_OK);
        got += (size_t)n;
    }
    return got;
}

/* Takes the chunks apart, compares the text, gives its length. All chunks must be whole. */
static size_t
check_chunks(const fixture_t *self)
{
    const char *at = self->received.p, *end = at + self->received.n;
    size_t offset = 0;

    while (at < end) {
        char *line_end;
        size_t n = strtoul(at, &line_end, 16);
        assert_true(n > 0 && line_end > at && line_end + 2 + n + 2 <= end);
        assert_memory_equal(line_end, "\r\n", 2);
        at = line_end + 2;
        for (size_t i = 0; i < n; i++)
            assert_int_equal(at[i], byte_at(offset++));
        at += n;
        assert_memory_equal(at, "\r\n", 2);
        at += 2;
    }
    return offset;
}

/* --- the direct way ----------------------------------------------------------------------- */

static void
what_there_is_goes_out_as_one_chunk(void **state)
{
    fixture_t *self = open_fixture(300, STREAM_WAIT);

    (void)state;
    assert_int_equal(write_all(self), STREAM_WAIT);
    receive(self);
    assert_int_equal(self->received.n, strlen("12c\r\n") + 300 + strlen("\r\n"));
    assert_int_equal(check_chunks(self), 300);
    assert_null(self->body.rest.p);
    close_fixture(self);
}

static void
nothing_is_sent_when_there_is_nothing(void **state)
{
    fixture_t *self = open_fixture(0, STREAM_WAIT);

    (void)state;
    assert_int_equal(write_all(self), STREAM_WAIT);
    self->source.then = STREAM_END;
    assert_int_equal(write_all(self), STREAM_END);
    self->source.then = STREAM_CUT;
    assert_int_equal(write_all(self), STREAM_CUT);
    assert_int_equal(receive(self), 0);
    close_fixture(self);
}

static void
a_client_that_stops_reading_gets_every_byte_once_when_it_reads_on(void **state)
{
    fixture_t *self = open_fixture(3u << 20, STREAM_END);
    stream_step step;
    unsigned blocked = 0;

    (void)state;
    while ((step = write_all(self)) == STREAM_BLOCKED) {
        unsigned fills = self->source.fills;
        blocked++;
        assert_in_range(self->body.rest.n, 1, STREAM_FILL_MAX_BYTES);
        assert_int_equal(write_all(self), STREAM_BLOCKED); /* it has not read yet */
        assert_int_equal(self->source.fills, fills);       /* and nothing more is made */
        assert_true(receive(self) > 0);
    }
    assert_int_equal(step, STREAM_END);
    assert_true(blocked > 10);
    receive(self);
    assert_int_equal(check_chunks(self), 3u << 20);
    assert_null(self->body.rest.p);
    close_fixture(self);
}

static void
a_client_that_has_gone_is_a_cut(void **state)
{
    fixture_t *self = open_fixture(100, STREAM_WAIT);

    (void)state;
    close(self->fds[1]);
    self->fds[1] = -1;
    assert_int_equal(write_all(self), STREAM_CUT);
    close_fixture(self);
}

static void
a_client_that_goes_while_it_is_behind_is_a_cut(void **state)
{
    fixture_t *self = open_fixture(1u << 20, STREAM_WAIT);

    (void)state;
    assert_int_equal(write_all(self), STREAM_BLOCKED);
    close(self->fds[1]);
    self->fds[1] = -1;
    assert_int_equal(write_all(self), STREAM_CUT);
    close_fixture(self);
}

static void
without_memory_for_the_rest_the_stream_is_cut(void **state)
{
    fixture_t *self = open_fixture(1u << 20, STREAM_WAIT);

    (void)state;
    assert_int_equal(svc_buf_reserve(&self->scratch, STREAM_FILL_MAX_BYTES), RC_OK);
    svc_alloc_fail_after(1);
    assert_int_equal(write_all(self), STREAM_CUT);
    svc_alloc_fail_after(0);
    close_fixture(self);
}

/* --- the general way ---------------------------------------------------------------------- */

static void
a_reader_with_little_room_gets_every_byte_once_and_unframed(void **state)
{
    fixture_t *self = open_fixture(100000, STREAM_END);
    char buf[700];
    size_t n = 0, offset = 0;
    stream_step step;

    (void)state;
    self->source.piece = 5000; /* more than there is room for */
    while ((step = stream_body_read(&self->body, &self->scratch, buf, sizeof buf, &n)) ==
           STREAM_MORE) {
        assert_in_range(n, 1, sizeof buf);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(buf[i], byte_at(offset++));
    }
    assert_int_equal(step, STREAM_END);
    assert_int_equal(offset, 100000);
    assert_null(self->body.rest.p);
    close_fixture(self);
}

static void
between_two_chunks_the_general_way_goes_on_where_the_direct_one_was(void **state)
{
    fixture_t *self = open_fixture(100, STREAM_WAIT);
    char buf[64];
    size_t n = 0;

    (void)state;
    assert_int_equal(write_all(self), STREAM_WAIT);
    self->source.total = 150;
    assert_int_equal(stream_body_read(&self->body, &self->scratch, buf, sizeof buf, &n),
                     STREAM_MORE);
    assert_int_equal(n, 50);
    assert_int_equal(buf[0], byte_at(100));
    close_fixture(self);
}

static void
in_the_middle_of_a_chunk_the_general_way_can_only_cut(void **state)
{
    fixture_t *self = open_fixture(1u << 20, STREAM_WAIT);
    char buf[64];
    size_t n = 0;

    (void)state;
    assert_int_equal(write_all(self), STREAM_BLOCKED);
    assert_int_equal(stream_body_read(&self->body, &self->scratch, buf, sizeof buf, &n),
                     STREAM_CUT);
    close_fixture(self);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_there_is_goes_out_as_one_chunk),
        cmocka_unit_test(nothing_is_sent_when_there_is_nothing),
        cmocka_unit_test(
            a_client_that_stops_reading_gets_every_byte_once_when_it_reads_on),
        cmocka_unit_test(a_client_that_has_gone_is_a_cut),
        cmocka_unit_test(a_client_that_goes_while_it_is_behind_is_a_cut),
        cmocka_unit_test(without_memory_for_the_rest_the_stream_is_cut),
        cmocka_unit_test(a_reader_with_little_room_gets_every_byte_once_and_unframed),
        cmocka_unit_test(
            between_two_chunks_the_general_way_goes_on_where_the_direct_one_was),
        cmocka_unit_test(in_the_middle_of_a_chunk_the_general_way_can_only_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
