/* test_svc_peers_names.c - replicas behind a name that changes: they come, stay while they serve, and go.
 *
 * All of them listen on one port, on addresses of their own: 127.0.0.1, 127.0.0.2, … */
#include "peers_bench.h"
#include "resolver_fixture.h"

typedef struct {
    peers_bench_t bench; /* first */
    names_t names;
    char port[8]; /* of all replicas */
} named_t;

/* Puts replica i at 127.0.0.(i + 1), all at the port that the first one has drawn. */
static void
start_at(named_t *self, size_t i, uint64_t instance)
{
    if (self->port[0] != '\0')
        snprintf(self->bench.replicas[i].endpoint, 64, "tcp://127.0.0.%zu:%s", i + 1,
                 self->port);
    start_replica(&self->bench, i, instance);
    snprintf(self->port, sizeof(self->port), "%s",
             strrchr(self->bench.replicas[i].endpoint, ':') + 1);
}

static int
open_named(void **state)
{
    named_t *self = svc_alloc(sizeof(*self));
    open_bench(&self->bench);
    names_open(&self->names);
    self->bench.fixture.ctx.resolver = self->names.resolver;
    *state = self;
    return 0;
}

static int
close_named(void **state)
{
    named_t *self = *state;
    svc_peers_destroy(&self->bench.peers);
    names_close(&self->names);
    close_bench(&self->bench);
    free(self);
    return 0;
}

static void
open_name(named_t *self)
{
    char list[32];
    snprintf(list, sizeof(list), "tcp://name:%s", self->port);
    open_set(&self->bench, list);
}

static void
replicas_come_with_their_addresses(void **state)
{
    named_t *self = *state;
    start_at(self, 0, 1);
    start_at(self, 1, 2);
    open_name(self);
    assert_false(svc_peers_is_up(self->bench.peers));
    names_set(&self->names, "127.0.0.1", NULL, NULL);
    await_events(&self->bench, "U1");
    names_set(&self->names, "127.0.0.1", "127.0.0.2", NULL);
    await_events(&self->bench, "U1 U2");
}

static void
one_whose_address_has_gone_stays_while_it_is_up_and_is_lost_afterwards(void **state)
{
    named_t *self = *state;
    start_at(self, 0, 1);
    start_at(self, 1, 2);
    names_set(&self->names, "127.0.0.1", NULL, NULL);
    open_name(self);
    await_events(&self->bench, "U1");
    names_set(&self->names, "127.0.0.2", NULL, NULL);
    await_events(&self->bench, "U1 U2");
    fixture_run_for(&self->bench.fixture, 100);
    assert_true(svc_peers_has(self->bench.peers, 1));
    assert_int_equal(call(&self->bench, 1, NULL), RC_OK);
    stop_replica(&self->bench.replicas[0]);
    await_events(&self->bench, "U1 U2 D1 L1");
    fixture_run_for(&self->bench.fixture, 50);
    start_at(self, 0, 3); /* nobody looks there any more */
    fixture_run_for(&self->bench.fixture, 300);
    assert_string_equal(self->bench.events, "U1 U2 D1 L1");
    names_set(&self->names, "127.0.0.1", "127.0.0.2", NULL);
    await_events(&self->bench, "U1 U2 D1 L1 U3");
}

static void
one_whose_address_has_gone_gets_new_work_only_when_nobody_else_is_there(void **state)
{
    named_t *self = *state;
    start_at(self, 0, 1);
    start_at(self, 1, 2);
    names_set(&self->names, "127.0.0.1", NULL, NULL);
    open_name(self);
    await_events(&self->bench, "U1");
    names_set(&self->names, "127.0.0.2", NULL, NULL);
    await_events(&self->bench, "U1 U2");
    for (int i = 0; i < 20; i++) {
        assert_int_equal(svc_peers_pick(self->bench.peers), 2);
        assert_int_equal(call(&self->bench, 0, NULL), RC_OK); /* however busy it is */
    }
    await_calls(&self->bench, 20);
    assert_int_equal(self->bench.replicas[0].calls, 0);
    stop_replica(&self->bench.replicas[1]);
    await_events(&self->bench, "U1 U2 D2 L2");
    assert_int_equal(svc_peers_pick(self->bench.peers), 1);
}

static void
one_that_is_silent_is_lost_after_the_usual_time_though_its_address_has_gone(void **state)
{
    named_t *self = *state;
    start_at(self, 0, 1);
    start_at(self, 1, 2);
    names_set(&self->names, "127.0.0.1", NULL, NULL);
    open_name(self);
    await_events(&self->bench, "U1");
    names_set(&self->names, "127.0.0.2", NULL, NULL);
    await_events(&self->bench, "U1 U2");
    self->bench.replicas[0].is_silent = true;
    self->bench.times.down = PATIENT_MS;
    self->bench.times.lost = 2 * PATIENT_MS;
    self->bench.times.handshake = 50;
    await_events(&self->bench, "U1 U2 D1 L1");
    fixture_run_for(&self->bench.fixture, 50);
    self->bench.replicas[0].is_silent = false;
    fixture_run_for(&self->bench.fixture, 200);
    assert_string_equal(self->bench.events, "U1 U2 D1 L1");
}

static void
one_that_never_was_up_goes_without_a_word(void **state)
{
    named_t *self = *state;
    start_at(self, 0, 1);
    names_set(&self->names, "127.0.0.2", NULL, NULL);
    open_name(self);
    fixture_run_for(&self->bench.fixture, 100);
    names_set(&self->names, "127.0.0.1", NULL, NULL);
    await_events(&self->bench, "U1");
    start_at(self, 1, 2);
    fixture_run_for(&self->bench.fixture, 300);
    assert_string_equal(self->bench.events, "U1");
}

static void
an_address_that_comes_back_in_time_is_as_before(void **state)
{
    named_t *self = *state;
    start_at(self, 0, 1);
    start_at(self, 1, 2);
    names_set(&self->names, "127.0.0.1", "127.0.0.2", NULL);
    open_name(self);
    fixture_run_until(&self->bench.fixture, all_are_up, &self->bench);
    self->bench.events[0] = '\0';
    names_set(&self->names, "127.0.0.2", NULL, NULL);
    fixture_run_for(&self->bench.fixture, 100);
    names_set(&self->names, "127.0.0.1", "127.0.0.2", NULL);
    fixture_run_for(&self->bench.fixture, 100);
    stop_replica(&self->bench.replicas[0]);
    await_events(&self->bench, "D1 L1");
    start_at(self, 0, 4);
    await_events(&self->bench, "D1 L1 U4");
    assert_int_equal(fixture_count(&self->bench.fixture, SVC_M_PEER_UPS), 3);
}

#define NAMED_TEST(f) cmocka_unit_test_setup_teardown(f, open_named, close_named)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        NAMED_TEST(replicas_come_with_their_addresses),
        NAMED_TEST(
            one_whose_address_has_gone_stays_while_it_is_up_and_is_lost_afterwards),
        NAMED_TEST(
            one_whose_address_has_gone_gets_new_work_only_when_nobody_else_is_there),
        NAMED_TEST(
            one_that_is_silent_is_lost_after_the_usual_time_though_its_address_has_gone),
        NAMED_TEST(one_that_never_was_up_goes_without_a_word),
        NAMED_TEST(an_address_that_comes_back_in_time_is_as_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
