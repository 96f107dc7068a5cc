/* test_conns_meet.c - connections that go to another reactor before anything was read, and those that come so.
 *
 * The other reactor is the test itself. */
#include "conns_fixture.h"

#define HERE  1
#define THERE 2

typedef struct {
    world_t *world;     /* of conns_fixture */
    meeting_t *meeting; /* two reactors: conns, and the test itself */
} pair_t;

static int
open_pair(void **state)
{
    pair_t *self = svc_alloc(sizeof *self);
    void *world = NULL;

    open_world(&world);
    self->world = world;
    self->meeting = meeting_new(2, 100);
    (void)meeting_open(self->meeting, THERE);
    conns_meet(self->world->conns, self->meeting, HERE);
    meeting_begin(self->meeting, 17, THERE);
    *state = self;
    return 0;
}

static int
close_pair(void **state)
{
    pair_t *self = *state;
    void *world = self->world;

    close_world(&world);
    meeting_close(self->meeting, THERE);
    meeting_destroy(&self->meeting);
    free(self);
    return 0;
}

static bool
is_moved(void *arg)
{
    return fixture_count(&((world_t *)arg)->bus, SVC_M_VIEWERS_MOVED) == 1;
}

static bool
has_three(void *arg)
{
    return conns_count(((world_t *)arg)->conns) == 3;
}

/* A client of the world opens the stream of this conversation, and stops sending if it is `half`. */
static void
open_stream(world_t *world, const char *conversation, bool half)
{
    char request[96];

    snprintf(request, sizeof request,
             "GET /api/chat/%s/stream HTTP/1.1\r\nHost: x\r\n\r\nmore", conversation);
    world->client = connect_client(world);
    say(world, request);
    if (half)
        shutdown(world->client, SHUT_WR);
}

/* Takes the guest that was sent to the test. */
static meeting_guest_t
guest_of(const pair_t *self)
{
    meeting_guest_t guest;

    assert_true(meeting_receive(self->meeting, THERE, &guest));
    return guest;
}

static void
a_viewer_goes_where_its_answer_is_read_with_all_its_bytes(void **state)
{
    static const char all[] = "GET /api/chat/17/stream HTTP/1.1\r\nHost: x\r\n\r\nmore";
    pair_t *self = *state;
    world_t *world = self->world;
    char got[128];

    open_stream(world, "17", false);
    assert_runs_until(world, is_moved);
    assert_int_equal(conns_count(world->conns), 0);
    meeting_guest_t guest = guest_of(self);
    assert_false(guest.counted); /* loopback is exempt */
    assert_int_equal(guest.peer.ss_family, AF_INET);
    assert_int_equal(recv(guest.fd, got, sizeof got, MSG_DONTWAIT), sizeof all - 1);
    assert_memory_equal(got, all, sizeof all - 1);
    close(guest.fd);
    assert_runs_until(world, has_ended);
    assert_int_equal(world->n_handed, 0);
}

static void
all_others_stay(void **state)
{
    pair_t *self = *state;
    meeting_guest_t guest;

    open_stream(self->world, "18", false);
    assert_runs_until(self->world, is_handed);
    assert_false(meeting_receive(self->meeting, THERE, &guest));
}

static void
who_cannot_be_taken_is_served_and_watched_here(void **state)
{
    pair_t *self = *state;
    world_t *world = self->world;

    meeting_close(self->meeting, THERE);
    open_stream(world, "17", false);
    assert_runs_until(world, is_handed);
    assert_int_equal(conns_count(world->conns), 1);
    assert_int_equal(fixture_count(&world->bus, SVC_M_VIEWERS_MOVED), 0);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    conn_enter(conn, CONN_BUSY);
    conn_watch(conn, world);
    shutdown(world->client, SHUT_RDWR);
    assert_runs_until(world, is_gone); /* it is in the epoll set again */
}

/* Sends a connection as a guest to conns, over a pair of sockets from this address. */
static void
send_guest(pair_t *self, const char *address, bool counted)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(1)};
    meeting_guest_t guest = {.counted = counted};
    int ends[2];

    assert_int_equal(inet_pton(AF_INET, address, &from.sin_addr), 1);
    memcpy(&guest.peer, &from, sizeof from);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    self->world->client = ends[0];
    say(self->world, "GET /api/chat/17/stream HTTP/1.1\r\n\r\n");
    guest.fd = ends[1];
    assert_true(meeting_send(self->meeting, THERE, HERE, &guest));
}

static void
a_guest_is_served_and_never_sent_on(void **state)
{
    pair_t *self = *state;
    meeting_guest_t guest;

    send_guest(self, "192.0.2.7",
               false); /* though the table says that it belongs there */
    assert_runs_until(self->world, is_handed);
    assert_false(meeting_receive(self->meeting, THERE, &guest));
    assert_true(take_request(self->world) > 0);
}

static void
its_place_in_the_limit_comes_along(void **state)
{
    pair_t *self = *state;
    world_t *world = self->world;
    client_addr_t from;

    assert_true(client_addr_parse(SVC_LIT("192.0.2.7"), &from));
    assert_true(conn_limit_enter(world->limit, &from)); /* where it came in */
    send_guest(self, "192.0.2.7", true);
    assert_runs_until(world, is_handed);
    assert_false(conn_limit_enter(world->limit, &from));
    close_handed(world);
    assert_true(conn_limit_enter(world->limit, &from));
    conn_limit_leave(world->limit, &from);
}

static void
a_guest_that_finds_no_room_is_told_so_and_leaves_the_limit(void **state)
{
    pair_t *self = *state;
    world_t *world = self->world;
    client_addr_t from;
    int others[3];

    for (size_t i = 0; i < SVC_COUNT(others); i++)
        others[i] = connect_client(world);
    assert_runs_until(world, has_three);
    assert_true(client_addr_parse(SVC_LIT("192.0.2.7"), &from));
    assert_true(conn_limit_enter(world->limit, &from));
    send_guest(self, "192.0.2.7", true);
    assert_runs_until(world, has_ended);
    assert_memory_equal(world->answer, "HTTP/1.1 503 ", 13);
    assert_true(conn_limit_enter(world->limit, &from));
    conn_limit_leave(world->limit, &from);
    for (size_t i = 0; i < SVC_COUNT(others); i++)
        close(others[i]);
}

static void
guests_on_their_way_are_served_when_we_stop(void **state)
{
    pair_t *self = *state;
    world_t *world = self->world;
    meeting_guest_t guest = {.fd = -1};

    send_guest(self, "192.0.2.7", false);
    conns_stop_accepting(world->conns); /* nobody has looked at it before */
    assert_true(is_handed(world));
    assert_false(meeting_send(self->meeting, THERE, HERE, &guest));
}

static void
who_stops_sends_nobody_away(void **state)
{
    pair_t *self = *state;
    world_t *world = self->world;
    meeting_guest_t guest;

    world->client = connect_client(world);
    assert_runs_until(world, has_one);
    conns_stop_accepting(world->conns);
    assert_runs_until(world, has_ended);
    assert_false(meeting_receive(self->meeting, THERE, &guest));
}

static void
a_half_closed_viewer_arrives_half_closed(void **state)
{
    pair_t *self = *state;
    world_t *world = self->world;

    open_stream(world, "17", true);
    assert_runs_until(world, is_moved);
    meeting_guest_t guest = guest_of(self);
    assert_true(
        meeting_send(self->meeting, THERE, HERE, &guest)); /* and back, as a guest */
    assert_runs_until(world, is_handed);
    conn_t *conn = conns_adopted(world->conns, world->handed);
    conn_enter(conn, CONN_BUSY);
    conn_watch(conn, world);
    assert_runs_until(world, is_gone);
    assert_true(world->half);
}

#define PAIR_TEST(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR_TEST(a_viewer_goes_where_its_answer_is_read_with_all_its_bytes),
        PAIR_TEST(all_others_stay),
        PAIR_TEST(who_cannot_be_taken_is_served_and_watched_here),
        PAIR_TEST(a_guest_is_served_and_never_sent_on),
        PAIR_TEST(its_place_in_the_limit_comes_along),
        PAIR_TEST(a_guest_that_finds_no_room_is_told_so_and_leaves_the_limit),
        PAIR_TEST(guests_on_their_way_are_served_when_we_stop),
        PAIR_TEST(who_stops_sends_nobody_away),
        PAIR_TEST(a_half_closed_viewer_arrives_half_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
