/* test_token_sub.c - token frames come from every endpoint, of the streams that were asked for.
 *
 * The publishers are XPUB sockets of the test, so that it can see what has been subscribed. */
#include "gateway/token_sub.h"
#include "svc/svc_msg.h"
#include "tests/unit/svc/keys_fixture.h"
#include "tests/unit/svc/resolver_fixture.h"

#define PUBS 2

typedef struct {
    fixture_t bus;             /* loop and ZeroMQ */
    void *pubs[PUBS];          /* XPUB, owned */
    char endpoints[PUBS * 64]; /* theirs, as a list */
    int subscribed[PUBS];      /* subscriptions less cancellations seen so far */
    token_sub_t *sub;          /* what is tested */
    unsigned n;                /* frames that came */
    uint64_t offsets;          /* sum of theirs */
    int wanted;                /* a condition's argument */
} world_t;

static void
on_token(void *arg, const proto_token_t *token)
{
    world_t *world = arg;

    world->n++;
    world->offsets += token->offset;
}

static int
open_world(void **state)
{
    world_t *world = svc_alloc(sizeof *world);
    size_t at = 0;
    char *error = NULL;

    fixture_open(&world->bus, "gateway");
    for (size_t i = 0; i < PUBS; i++) {
        char endpoint[64];
        size_t n = sizeof endpoint;
        world->pubs[i] = svc_msg_socket(world->bus.ctx.zmq, ZMQ_XPUB, 1000);
        assert_int_equal(zmq_bind(world->pubs[i], "tcp://127.0.0.1:*"), 0);
        assert_int_equal(zmq_getsockopt(world->pubs[i], ZMQ_LAST_ENDPOINT, endpoint, &n),
                         0);
        at += (size_t)snprintf(world->endpoints + at, sizeof world->endpoints - at,
                               "%s%s", i > 0 ? "," : "", endpoint);
    }
    world->sub = token_sub_new(&world->bus.ctx, world->endpoints, on_token, world,
                               &error);
    assert_non_null(world->sub);
    *state = world;
    return 0;
}

static int
close_world(void **state)
{
    world_t *world = *state;

    token_sub_destroy(&world->sub);
    for (size_t i = 0; i < PUBS; i++)
        zmq_close(world->pubs[i]);
    fixture_close(&world->bus);
    free(world);
    return 0;
}

/* True when every publisher knows of `wanted` subscriptions. */
static bool
are_subscribed(void *arg)
{
    world_t *world = arg;
    char topic[64];
    bool all = true;

    for (size_t i = 0; i < PUBS; i++) {
        while (zmq_recv(world->pubs[i], topic, sizeof topic, ZMQ_DONTWAIT) > 0)
            world->subscribed[i] += topic[0] == 1 ? 1 : -1;
        all = all && world->subscribed[i] == world->wanted;
    }
    return all;
}

static void
await_subscriptions(world_t *world, int n)
{
    world->wanted = n;
    fixture_run_until(&world->bus, are_subscribed, world);
}

static bool
have_come(void *arg)
{
    const world_t *world = arg;

    return world->n >= (unsigned)world->wanted;
}

static void
publish(const world_t *world, size_t pub, const uint8_t topic[PROTO_STREAM_BYTES],
        const uint8_t stream[PROTO_STREAM_BYTES], uint64_t offset)
{
    svc_str id = {(const char *)stream, PROTO_STREAM_BYTES};
    proto_token_t token = {PROTO_VERSION, id, 7, offset, PROTO_TOKEN_TEXT, SVC_LIT("x")};
    svc_buf_t frame;

    svc_buf_init(&frame, 200);
    assert_int_equal(
        svc_buf_add_str(&frame, (svc_str){(const char *)topic, PROTO_STREAM_BYTES}),
        RC_OK);
    assert_int_equal(proto_token_encode(&token, &frame), RC_OK);
    assert_true(svc_msg_send_bytes(world->pubs[pub], svc_buf_str(&frame), 0));
    svc_buf_fini(&frame);
}

/* --- tests -------------------------------------------------------------------------------- */

static void
fresh_ids_are_subscribed_everywhere_before_they_are_taken(void **state)
{
    world_t *world = *state;
    uint8_t id[PROTO_STREAM_BYTES], next[PROTO_STREAM_BYTES];

    await_subscriptions(world, TOKEN_SUB_SPARE_IDS);
    token_sub_take_id(world->sub, id);
    token_sub_take_id(world->sub, next);
    assert_memory_not_equal(id, next, sizeof id);
    for (size_t i = 0; i < PUBS; i++)
        publish(world, i, id, id, 10 + i);
    world->wanted = PUBS;
    fixture_run_until(&world->bus, have_come, world);
    assert_int_equal(world->offsets, 21);
    for (int i = 0; i < TOKEN_SUB_SPARE_IDS / 2; i++)
        token_sub_take_id(world->sub, id);
    token_sub_drop(world->sub, (svc_str){(const char *)id, sizeof id});
    world->wanted = TOKEN_SUB_SPARE_IDS + TOKEN_SUB_SPARE_IDS / 2 - 1;
    fixture_run_until(&world->bus, are_subscribed, world);
}

static void
a_stream_is_read_between_add_and_drop(void **state)
{
    world_t *world = *state;
    static const uint8_t id[PROTO_STREAM_BYTES] = "an answer of old";
    svc_str stream = {(const char *)id, sizeof id};

    token_sub_add(world->sub, stream);
    await_subscriptions(world, TOKEN_SUB_SPARE_IDS + 1);
    publish(world, 1, id, id, 5);
    world->wanted = 1;
    fixture_run_until(&world->bus, have_come, world);
    token_sub_drop(world->sub, stream);
    await_subscriptions(world, TOKEN_SUB_SPARE_IDS);
    publish(world, 0, id, id, 6);
    fixture_run_for(&world->bus, 20);
    assert_int_equal(world->n, 1);
}

static void
frames_that_are_none_are_counted_and_skipped(void **state)
{
    world_t *world = *state;
    uint8_t id[PROTO_STREAM_BYTES], other[PROTO_STREAM_BYTES] = {0};

    await_subscriptions(world, TOKEN_SUB_SPARE_IDS);
    token_sub_take_id(world->sub, id);
    assert_true(
        svc_msg_send_bytes(world->pubs[0], (svc_str){(const char *)id, sizeof id}, 0));
    publish(world, 0, id, other, 1); /* the topic of one, the frame of another */
    publish(world, 0, id, id, 2);
    world->wanted = 1;
    fixture_run_until(&world->bus, have_come, world);
    assert_int_equal(world->offsets, 2);
    assert_int_equal(fixture_count(&world->bus, SVC_M_BAD_MESSAGES), 2);
    assert_int_equal(fixture_count(&world->bus, SVC_M_TOKENS_RECEIVED), 1);
}

static void
what_is_no_endpoint_is_refused(void **state)
{
    world_t *world = *state;
    char *error = NULL;

    assert_null(token_sub_new(&world->bus.ctx, "tcp://127.0.0.1:7104,nonsense", on_token,
                              world, &error));
    assert_non_null(strstr(error, "\"nonsense\""));
    free(error);
}

/* --- keys --------------------------------------------------------------------------------- */

/* Binds the first publisher where it was, with the key that llm-svc has in `llm` (NULL: in plain text). */
static void
bind_publisher(world_t *world, const svc_ctx_t *llm, const char *endpoint)
{
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    void *zmq = llm == NULL ? world->bus.ctx.zmq : llm->zmq;

    zmq_close(world->pubs[0]);
    world->pubs[0] = svc_msg_socket(zmq, ZMQ_XPUB, 1000);
    if (llm != NULL)
        svc_curve_serve(llm->curve, world->pubs[0], SVC_CURVE_TOKENS);
    while (zmq_bind(world->pubs[0], endpoint) !=
           0) { /* its port is given back a little later */
        assert_true(svc_mono_ms() < until);
        fixture_run_for(&world->bus, 5);
    }
    world->subscribed[0] = 0;
}

static bool
is_subscribed_to_first(void *arg)
{
    world_t *world = arg;
    char topic[64];

    while (zmq_recv(world->pubs[0], topic, sizeof topic, ZMQ_DONTWAIT) > 0)
        world->subscribed[0] += topic[0] == 1 ? 1 : -1;
    return world->subscribed[0] == TOKEN_SUB_SPARE_IDS;
}

/* llm-svc without keys by mistake, then with its old key, then with its new one: each time it is found again. */
static void
a_publisher_is_found_whichever_of_its_keys_it_has(void **state)
{
    world_t *world = *state;
    keys_dir_t keys;
    svc_ctx_t gateway, llm;
    char *error = NULL, endpoint[64];

    token_sub_destroy(&world->sub);
    snprintf(endpoint, sizeof endpoint, "%s", strtok(world->endpoints, ","));
    keys_open(&keys);
    llm = side_open(&world->bus.ctx, &keys, "llm-svc");
    keys_make(&keys, "llm-svc", ".key.new");
    gateway = side_open(&world->bus.ctx, &keys, "gateway");
    world->sub = token_sub_new(&gateway, endpoint, on_token, world, &error);
    assert_non_null(world->sub);
    fixture_run_for(&world->bus, 50);
    assert_int_equal(world->subscribed[0],
                     0); /* it listens to no publisher in plain text */

    bind_publisher(world, &llm, endpoint);
    fixture_run_until(&world->bus, is_subscribed_to_first, world);

    keys_use(&keys, "llm-svc");
    svc_ctx_t llm_again = side_open(&world->bus.ctx, &keys, "llm-svc");
    bind_publisher(world, &llm_again, endpoint);
    fixture_run_until(&world->bus, is_subscribed_to_first, world);

    token_sub_destroy(&world->sub);
    bind_publisher(world, NULL, "tcp://127.0.0.1:*");
    side_close(&llm);
    side_close(&llm_again);
    side_close(&gateway);
    keys_close(&keys);
}

/* --- names -------------------------------------------------------------------------------- */

static void
replicas_behind_a_name_come_and_are_heard_for_a_while_when_they_go(void **state)
{
    world_t *world = *state;
    names_t names;
    char list[64], second[64], *error = NULL;
    uint8_t id[PROTO_STREAM_BYTES];
    const int port = atoi(strrchr(strtok(world->endpoints, ","), ':') + 1);

    token_sub_destroy(&world->sub);
    world->wanted = 0; /* its subscriptions are gone */
    fixture_run_until(&world->bus, are_subscribed, world);
    zmq_close(world->pubs[1]);
    world->pubs[1] = svc_msg_socket(world->bus.ctx.zmq, ZMQ_XPUB, 1000);
    snprintf(second, sizeof second, "tcp://127.0.0.2:%d",
             port); /* one port, as replicas have */
    assert_int_equal(zmq_bind(world->pubs[1], second), 0);
    names_open(&names);
    names_set(&names, "127.0.0.1", NULL, NULL);
    world->bus.ctx.resolver = names.resolver;
    snprintf(list, sizeof list, "tcp://name:%d", port);
    world->sub = token_sub_new(&world->bus.ctx, list, on_token, world, &error);
    assert_non_null(world->sub);
    names_set(&names, "127.0.0.1", "127.0.0.2", NULL);
    await_subscriptions(world, TOKEN_SUB_SPARE_IDS);
    names_set(&names, "127.0.0.2", NULL, NULL);
    const unsigned lookups = names_lookups(&names);
    while (names_lookups(&names) < lookups + 3)
        fixture_run_for(&world->bus, 5);
    token_sub_take_id(world->sub, id);
    for (size_t i = 0; i < PUBS; i++)
        publish(world, i, id, id, 10 + i);
    world->wanted = PUBS;
    fixture_run_until(&world->bus, have_come, world);
    token_sub_destroy(&world->sub);
    names_close(&names);
}

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(fresh_ids_are_subscribed_everywhere_before_they_are_taken),
        WORLD_TEST(a_stream_is_read_between_add_and_drop),
        WORLD_TEST(frames_that_are_none_are_counted_and_skipped),
        WORLD_TEST(what_is_no_endpoint_is_refused),
        WORLD_TEST(a_publisher_is_found_whichever_of_its_keys_it_has),
        WORLD_TEST(replicas_behind_a_name_come_and_are_heard_for_a_while_when_they_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
