/* test_conns_tls.c - connections whose clients speak TLS: handed over in plain text, ended truthfully, refused in words.
 *
 * The server behind is the test; what lies between it and the client is a whole TLS front. */
#include "conns_fixture.h"
#include "tls_fixture.h"

#define REQUEST "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

typedef struct {
    world_t *world; /* of conns_fixture */
    tls_files_t files;
    tls_store_t *store; /* of them */
    tls_front_t *front; /* before the world's connections */
    tls_client_t tls;   /* on the world's client */
    char got[1024];     /* by the client */
    ssize_t n;          /* bytes of the last piece, or how it ended */
} place_t;

static int
open_place(void **state)
{
    place_t *self = svc_alloc(sizeof *self);
    void *world = NULL;
    char *error = NULL;

    open_world(&world);
    self->world = world;
    tls_files_open(&self->files);
    self->store = tls_store_new(self->files.cert, self->files.key, &error);
    assert_non_null(self->store);
    self->front = tls_front_new(&self->world->bus.ctx, self->store);
    conns_use_tls(self->world->conns, self->front);
    *state = self;
    return 0;
}

static int
close_place(void **state)
{
    place_t *self = *state;
    void *world = self->world;

    tls_client_close(&self->tls);
    close(self->world->client);
    self->world->client = -1;
    close_handed(self->world);
    conns_destroy(&self->world->conns);
    tls_front_destroy(&self->front);
    tls_store_destroy(&self->store);
    tls_files_close(&self->files);
    close_world(&world);
    free(self);
    return 0;
}

static bool
shakes(void *arg)
{
    return tls_client_shakes(&((place_t *)arg)->tls);
}

static void
come(place_t *self)
{
    self->world->client = connect_client(self->world);
    tls_client_open(&self->tls, self->world->client, NULL, NULL);
    fixture_run_until(&self->world->bus, shakes, self);
    assert_true(self->tls.is_open);
}

/* Comes with a request, which the server has read. */
static conn_t *
come_with_request(place_t *self)
{
    come(self);
    assert_int_equal(gnutls_record_send(self->tls.session, REQUEST, strlen(REQUEST)),
                     strlen(REQUEST));
    assert_runs_until(self->world, is_handed);
    assert_int_equal(take_request(self->world), strlen(REQUEST));
    return conns_adopted(self->world->conns, self->world->handed);
}

static bool
has_it(void *arg)
{
    place_t *self = arg;

    self->n = tls_client_take(&self->tls, self->got, sizeof self->got - 1);
    self->got[self->n > 0 ? self->n : 0] = '\0';
    return self->n != GNUTLS_E_AGAIN;
}

static void
an_answer_comes_to_who_has_asked_by_tls(void **state)
{
    place_t *self = *state;
    conn_t *conn = come_with_request(self);

    assert_true(client_addr_is_loopback(conn_addr(conn)));
    conn_enter(conn, CONN_BUSY);
    assert_int_equal(send(self->world->handed, "answer", 6, MSG_NOSIGNAL), 6);
    fixture_run_until(&self->world->bus, has_it, self);
    assert_string_equal(self->got, "answer");
}

static void
one_that_is_cut_does_not_look_whole(void **state)
{
    place_t *self = *state;
    conn_t *conn = come_with_request(self);

    conn_enter(conn, CONN_BUSY);
    assert_int_equal(send(self->world->handed, "half", 4, MSG_NOSIGNAL), 4);
    conn_cut(conn);
    close_handed(self->world);
    fixture_run_until(&self->world->bus, has_it, self);
    assert_string_equal(self->got, "half");
    fixture_run_until(&self->world->bus, has_it, self);
    assert_int_equal(self->n, GNUTLS_E_PREMATURE_TERMINATION);
}

static void
who_is_closed_between_two_requests_hears_that_this_was_all(void **state)
{
    place_t *self = *state;
    conn_t *conn = come_with_request(self);

    conn_enter(conn, CONN_IDLE);
    conn_cut(conn);
    close_handed(self->world);
    fixture_run_until(&self->world->bus, has_it, self);
    assert_int_equal(self->n, 0);
}

static void
past_the_maximum_newcomers_are_told_so(void **state)
{
    place_t *self = *state;

    conns_set_max(self->world->conns, 0);
    come(self);
    fixture_run_until(&self->world->bus, has_it, self);
    assert_non_null(strstr(self->got, "HTTP/1.1 503 "));
    fixture_run_until(&self->world->bus, has_it, self);
    assert_int_equal(self->n, 0);
    assert_int_equal(conns_count(self->world->conns), 0);
    assert_int_equal(fixture_count(&self->world->bus, SVC_M_HTTP_CONNECTIONS_REFUSED), 1);
}

#define PLACE_TEST(name) cmocka_unit_test_setup_teardown(name, open_place, close_place)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_TEST(an_answer_comes_to_who_has_asked_by_tls),
        PLACE_TEST(one_that_is_cut_does_not_look_whole),
        PLACE_TEST(who_is_closed_between_two_requests_hears_that_this_was_all),
        PLACE_TEST(past_the_maximum_newcomers_are_told_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
