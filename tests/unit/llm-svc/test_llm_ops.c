/* test_llm_ops.c - the service over a real bus: each operation, who may call it, and the PUB socket.
 *
 * convo-svc and a gateway are two peers in the same loop; the model is echo. */
#include "tests/unit/svc/bus_fixture.h"

#include "llm-svc/llm_ops.h"
#include "svc/svc_msg.h"
#include "svc/svc_peer.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM "0123456789abcdef"
#define PROBE \
    "fedcba9876543210" /* a stream that only tells when the subscriber is heard */
#define FENCE    77u
#define QUESTION "one two three four five six seven eight"

typedef struct {
    fixture_t fixture;   /* of llm-svc; loop and context of all */
    svc_config_t config; /* of llm-svc */
    llm_t *llm;          /* under test */
    svc_ctx_t convo_ctx, gateway_ctx;
    svc_peer_t *convo, *gateway; /* who calls */
    void *sub;                   /* SUB, of the gateway */
    bool is_heard;               /* frames of PROBE have come: those of STREAM would */
    uint64_t probes;             /* answers to it */
    bool is_probed;              /* the latest has ended */
    /* the journal, as convo-svc would keep it */
    svc_buf_t journal;
    bool ack_pieces; /* acknowledge each */
    int parts;       /* PARTIAL replies */
    bool final;      /* FINAL came */
    char finish[80]; /* of it */
    svc_buf_t shown; /* text of all frames */
    /* the latest reply of any call; of replays and models they are counted apart */
    int replies, answers;
    proto_kind kind;
    svc_rc rc;
    svc_buf_t bytes;   /* of a replay */
    uint64_t released; /* of a replay */
    size_t patterns;   /* of models */
    uint64_t wanted;   /* generations that shall begin */
} bench_t;

static void
on_event(void *arg, svc_peer_event event, uint64_t instance)
{
    (void)arg;
    (void)event;
    (void)instance;
}

static svc_peer_t *
connect_as(bench_t *b, svc_ctx_t *ctx, const char *service)
{
    char *error = NULL;

    *ctx = b->fixture.ctx;
    ctx->service = service;
    ctx->instance = 5;
    svc_peer_t *peer = svc_peer_new(ctx, "llm-svc", llm_bus_endpoint(b->llm), on_event, b,
                                    &error);
    assert_non_null(peer);
    return peer;
}

static bool
are_peers_up(void *arg)
{
    bench_t *b = arg;

    return svc_peer_is_up(b->convo) && svc_peer_is_up(b->gateway);
}

static void
open_bench(bench_t *b)
{
    char *error = NULL;

    memset(b, 0, sizeof(*b));
    fixture_open(&b->fixture, "llm-svc");
    b->config.bus_llm.bind = (char *)(uintptr_t) "tcp://127.0.0.1:0";
    b->config.bus_tokens.bind = (char *)(uintptr_t) "tcp://127.0.0.1:0";
    b->config.llm_max_answer_bytes = PROTO_ANSWER_MAX_BYTES;
    b->config.server_drain_s = 5;
    b->fixture.ctx.config = &b->config;
    b->llm = llm_new(&b->fixture.ctx, &error);
    assert_non_null(b->llm);
    b->convo = connect_as(b, &b->convo_ctx, "convo-svc");
    b->gateway = connect_as(b, &b->gateway_ctx, "gateway");
    b->sub = svc_msg_socket(b->fixture.ctx.zmq, ZMQ_SUB, 0);
    zmq_setsockopt(b->sub, ZMQ_SUBSCRIBE, STREAM, PROTO_STREAM_BYTES);
    zmq_setsockopt(b->sub, ZMQ_SUBSCRIBE, PROBE, PROTO_STREAM_BYTES); /* after it */
    assert_int_equal(zmq_connect(b->sub, llm_tokens_endpoint(b->llm)), 0);
    svc_buf_init(&b->journal, 100000);
    svc_buf_init(&b->shown, 100000);
    svc_buf_init(&b->bytes, 100000);
    b->ack_pieces = true;
    fixture_run_until(&b->fixture, are_peers_up, b);
}

static void
close_bench(bench_t *b)
{
    svc_peer_destroy(&b->convo);
    svc_peer_destroy(&b->gateway);
    zmq_close(b->sub);
    llm_destroy(&b->llm);
    llm_destroy(&b->llm);
    svc_buf_fini(&b->journal);
    svc_buf_fini(&b->shown);
    svc_buf_fini(&b->bytes);
    fixture_close(&b->fixture);
}

/* --- convo-svc --------------------------------------------------------------------- */

static void
send_ack(bench_t *b, bool stored)
{
    ack_req_t ack = {.stream = SVC_LIT(STREAM),
                     .fence = FENCE,
                     .term = 1,
                     .journaled = b->journal.n,
                     .stored = stored};

    assert_int_equal(
        svc_peer_post(b->convo, OP_LLM_ACK, (svc_str){NULL, 0}, &ack_req_schema, &ack),
        RC_OK);
}

static void
on_journal(void *arg, proto_kind kind, svc_rc rc, const void *rep,
           const error_rep_t *error)
{
    bench_t *b = arg;
    const journal_rep_t *piece = rep;
    (void)error;

    b->kind = kind;
    b->rc = rc;
    b->replies++;
    if (rc != RC_OK)
        return;
    assert_true(piece->from <= b->journal.n);
    size_t known = b->journal.n - (size_t)piece->from;
    if (piece->bytes.n > known)
        assert_int_equal(
            svc_buf_add(&b->journal, piece->bytes.p + known, piece->bytes.n - known),
            RC_OK);
    if (kind == PROTO_PARTIAL)
        b->parts++;
    if (kind == PROTO_FINAL) {
        b->final = true;
        snprintf(b->finish, sizeof(b->finish), "%.*s", (int)piece->finish.n,
                 piece->finish.p);
    }
    if (b->ack_pieces)
        send_ack(b, kind == PROTO_FINAL);
}

static void
ask(bench_t *b, svc_peer_t *peer, const char *op, const proto_schema_t *schema,
    const void *req)
{
    svc_peer_request_t request = {
        .op = op,
        .req_schema = schema,
        .req = req,
        .rep_schema = &journal_rep_schema,
        .timeout_ms = 10000,
        .on_reply = on_journal,
        .arg = b,
    };

    assert_int_equal(svc_peer_call(peer, &request, NULL), RC_OK);
}

static void
generate_from(bench_t *b, svc_peer_t *peer, const char *model, svc_str question)
{
    prompt_message_t message = {ROLE_USER, question};
    generate_req_t req = {
        .stream = SVC_LIT(STREAM),
        .fence = FENCE,
        .term = 1,
        .model = svc_str_c(model),
        .messages = {&message, 1},
    };

    ask(b, peer, OP_LLM_GENERATE, &generate_req_schema, &req);
}

static void
generate(bench_t *b, svc_peer_t *peer, const char *model)
{
    generate_from(b, peer, model, SVC_LIT(QUESTION));
}

static bool
is_final(void *arg)
{
    return ((bench_t *)arg)->final;
}

static bool
has_part(void *arg)
{
    return ((bench_t *)arg)->parts > 0;
}

static bool
has_reply(void *arg)
{
    return ((bench_t *)arg)->replies > 0;
}

static bool
has_answer(void *arg)
{
    return ((bench_t *)arg)->answers > 0;
}

/* --- the gateway ------------------------------------------------------------------- */

static void
on_replay(void *arg, proto_kind kind, svc_rc rc, const void *rep,
          const error_rep_t *error)
{
    bench_t *b = arg;
    const replay_rep_t *page = rep;
    (void)error;

    b->kind = kind;
    b->rc = rc;
    b->answers++;
    if (rc != RC_OK)
        return;
    svc_buf_clear(&b->bytes);
    if (page->bytes.n > 0)
        assert_int_equal(svc_buf_add_str(&b->bytes, page->bytes), RC_OK);
    b->released = page->released;
}

static void
replay(bench_t *b)
{
    replay_req_t req = {.stream = SVC_LIT(STREAM), .fence = FENCE};
    svc_peer_request_t request = {
        .op = OP_LLM_REPLAY,
        .req_schema = &replay_req_schema,
        .req = &req,
        .rep_schema = &replay_rep_schema,
        .timeout_ms = 10000,
        .on_reply = on_replay,
        .arg = b,
    };

    b->answers = 0;
    assert_int_equal(svc_peer_call(b->gateway, &request, NULL), RC_OK);
    fixture_run_until(&b->fixture, has_answer, b);
}

/* Reads the frames that are there; true when the end frame was among them. */
static bool
has_end_frame(void *arg)
{
    bench_t *b = arg;
    zmq_msg_t frame;
    bool end = false;

    zmq_msg_init(&frame);
    while (svc_msg_recv(b->sub, &frame, ZMQ_DONTWAIT)) {
        svc_str bytes = svc_msg_str(&frame);
        proto_token_t token;

        b->is_heard = b->is_heard || memcmp(bytes.p, PROBE, PROTO_STREAM_BYTES) == 0;
        if (memcmp(bytes.p, STREAM, PROTO_STREAM_BYTES) != 0)
            continue;
        bytes = (svc_str){bytes.p + PROTO_STREAM_BYTES, bytes.n - PROTO_STREAM_BYTES};
        assert_int_equal(proto_token_decode(bytes, &token), RC_OK);
        assert_int_equal(token.fence, FENCE);
        assert_int_equal(token.offset, b->shown.n);
        if (token.bytes.n > 0)
            assert_int_equal(svc_buf_add_str(&b->shown, token.bytes), RC_OK);
        end = end || token.kind == PROTO_TOKEN_END;
    }
    zmq_msg_close(&frame);
    return end;
}

static void
on_probe(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    bench_t *b = arg;
    const journal_rep_t *piece = rep;
    (void)error;

    assert_int_equal(rc, RC_OK);
    ack_req_t ack = {.stream = SVC_LIT(PROBE),
                     .fence = b->probes,
                     .term = 1,
                     .journaled = piece->from + piece->bytes.n,
                     .stored = kind == PROTO_FINAL};
    assert_int_equal(
        svc_peer_post(b->convo, OP_LLM_ACK, (svc_str){NULL, 0}, &ack_req_schema, &ack),
        RC_OK);
    b->is_probed = kind == PROTO_FINAL;
}

static bool
is_probed(void *arg)
{
    return ((bench_t *)arg)->is_probed;
}

/* Has short answers published until the subscriber gets something of one: a subscription has no answer to wait for. */
static void
await_subscription(bench_t *b)
{
    const uint64_t until_ms = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    prompt_message_t message = {ROLE_USER, SVC_LIT("a b")};

    while (!b->is_heard) {
        generate_req_t req = {.stream = SVC_LIT(PROBE),
                              .fence = ++b->probes,
                              .term = 1,
                              .model = SVC_LIT("echo"),
                              .messages = {&message, 1}};
        svc_peer_request_t request = {.op = OP_LLM_GENERATE,
                                      .req_schema = &generate_req_schema,
                                      .req = &req,
                                      .rep_schema = &journal_rep_schema,
                                      .timeout_ms = 10000,
                                      .on_reply = on_probe,
                                      .arg = b};
        assert_true(svc_mono_ms() < until_ms);
        b->is_probed = false;
        assert_int_equal(svc_peer_call(b->convo, &request, NULL), RC_OK);
        fixture_run_until(&b->fixture, is_probed, b);
        (void)has_end_frame(b);
    }
}

/* --- tests ------------------------------------------------------------------------- */

static void
generates_journals_and_publishes(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    await_subscription(&b);
    generate(&b, b.convo, "echo");
    fixture_run_until(&b.fixture, is_final, &b);
    assert_true(svc_str_eq(svc_buf_str(&b.journal), SVC_LIT(QUESTION)));
    assert_true(b.parts > 0);
    assert_string_equal(b.finish, "stop");
    fixture_run_until(&b.fixture, has_end_frame, &b);
    assert_true(svc_str_eq(svc_buf_str(&b.shown), SVC_LIT(QUESTION)));
    /* Stored, so forgotten; but the ack travels on another connection than the replay. */
    for (int i = 0; i < 100 && (i == 0 || b.rc == RC_OK); i++)
        replay(&b);
    assert_int_equal(b.rc, RC_NOT_FOUND);
    close_bench(&b);
}

static void
attaches_acks_replays_and_stops(void **state)
{
    (void)state;
    static bench_t b;
    attach_req_t attach = {.stream = SVC_LIT(STREAM), .fence = FENCE, .term = 1};
    llm_stop_req_t stop = {.stream = SVC_LIT(STREAM), .fence = FENCE, .term = 1};
    char words[2000]; /* a piece each: they take longer than all that is done here */

    for (size_t i = 0; i < sizeof(words); i++)
        words[i] = i % 2 == 0 ? 'x' : ' ';
    open_bench(&b);
    b.ack_pieces = false;
    generate_from(&b, b.convo, "echo", (svc_str){words, sizeof(words)});
    fixture_run_until(&b.fixture, has_part, &b);
    replay(&b);
    assert_int_equal(b.rc, RC_OK);
    assert_int_equal(b.released, 0);
    send_ack(&b, false);
    while (b.released == 0)
        replay(&b);
    assert_memory_equal(b.bytes.p, words, b.bytes.n);
    assert_int_equal(svc_peer_post(b.convo, OP_LLM_STOP, (svc_str){NULL, 0},
                                   &llm_stop_req_schema, &stop),
                     RC_OK);
    fixture_run_until(&b.fixture, is_final, &b);
    assert_string_equal(b.finish, "stopped");
    b.final = false;
    attach.from = b.journal.n;
    ask(&b, b.convo, OP_LLM_ATTACH, &attach_req_schema, &attach);
    fixture_run_until(&b.fixture, is_final, &b); /* again, since it was not stored */
    close_bench(&b);
}

static void
on_models(void *arg, proto_kind kind, svc_rc rc, const void *rep,
          const error_rep_t *error)
{
    bench_t *b = arg;
    const models_rep_t *models = rep;
    const model_pattern_t *patterns;
    (void)kind;
    (void)error;

    assert_int_equal(rc, RC_OK);
    patterns = models->patterns.items;
    b->patterns = models->patterns.n;
    b->answers++;
    assert_true(svc_str_eq(patterns[b->patterns - 1].pattern, SVC_LIT("echo")));
}

static void
ask_models(bench_t *b)
{
    static const empty_t nothing;
    svc_peer_request_t request = {
        .op = OP_LLM_MODELS,
        .req_schema = &empty_schema,
        .req = &nothing,
        .rep_schema = &models_rep_schema,
        .timeout_ms = 10000,
        .on_reply = on_models,
        .arg = b,
    };

    b->answers = 0;
    assert_int_equal(svc_peer_call(b->gateway, &request, NULL), RC_OK);
    fixture_run_until(&b->fixture, has_answer, b);
}

static void
tells_the_models(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    ask_models(&b);
    assert_int_equal(b.patterns, 1);
    close_bench(&b);
}

static void
refuses_wrong_callers_and_unknown_streams(void **state)
{
    (void)state;
    static bench_t b;
    attach_req_t attach = {.stream = SVC_LIT(STREAM), .fence = FENCE, .term = 1};

    open_bench(&b);
    generate(&b, b.gateway, "echo");
    fixture_run_until(&b.fixture, has_reply, &b);
    assert_int_equal(b.rc, RC_FORBIDDEN);
    b.replies = 0;
    generate(&b, b.convo, "no-such-model");
    fixture_run_until(&b.fixture, has_reply, &b);
    assert_int_equal(b.rc, RC_UNKNOWN_MODEL);
    b.replies = 0;
    ask(&b, b.convo, OP_LLM_ATTACH, &attach_req_schema, &attach);
    fixture_run_until(&b.fixture, has_reply, &b);
    assert_int_equal(b.rc, RC_NOT_FOUND);
    close_bench(&b);
}

static void
ends_its_loop_when_the_last_answer_is_stored(void **state)
{
    (void)state;
    static bench_t b;

    open_bench(&b);
    generate(&b, b.convo, "echo");
    fixture_run_until(&b.fixture, has_part, &b);
    llm_drain(b.llm, 30000);
    svc_loop_run(b.fixture.ctx.loop); /* returns since the drain has ended */
    assert_true(b.final);
    assert_true(svc_str_eq(svc_buf_str(&b.journal), SVC_LIT(QUESTION)));
    close_bench(&b);
}

static svc_config_t *
parse(const char *yaml)
{
    char *error = NULL;
    svc_config_t *config = svc_config_parse(svc_str_c(yaml), "test", false, &error);

    if (config == NULL)
        fail_msg("%s", error);
    return config;
}

static void
serves_by_another_configuration_and_ends_what_has_begun(void **state)
{
    (void)state;
    static bench_t b;
    char *error = NULL;
    svc_config_t *fresh = parse("llm: {max_answer_bytes: 7}\n"
                                "providers: [{name: p, models: [\"new*\", other], "
                                "base_url: \"http://127.0.0.1:1/v1\"}]");
    svc_config_t *bad = parse("providers: [{name: p, models: [m], base_url: "
                              "\"http://127.0.0.1:1/v1\", ca_file: /nonexistent/ca}]");

    open_bench(&b);
    generate(&b, b.convo, "echo");
    fixture_run_until(&b.fixture, has_part, &b);
    assert_true(llm_reload(b.llm, fresh, &error));
    svc_config_destroy(&fresh); /* whoever needs it holds it */
    assert_false(llm_reload(b.llm, bad, &error));
    assert_non_null(strstr(error, "/nonexistent/ca"));
    free(error);
    svc_config_destroy(&bad);
    fixture_run_until(&b.fixture, is_final, &b);
    assert_true(svc_str_eq(svc_buf_str(&b.journal), SVC_LIT(QUESTION)));
    close_bench(&b);
}

static void
a_new_answer_is_as_long_as_the_new_configuration_allows(void **state)
{
    (void)state;
    static bench_t b;
    char *error = NULL;
    svc_config_t *fresh = parse("llm: {max_answer_bytes: 7}\nproviders: []");

    open_bench(&b);
    assert_true(llm_reload(b.llm, fresh, &error));
    generate(&b, b.convo, "echo");
    fixture_run_until(&b.fixture, is_final, &b);
    assert_true(svc_str_eq(svc_buf_str(&b.journal), SVC_LIT("one two")));
    assert_string_equal(b.finish, "length");
    svc_config_destroy(&fresh);
    close_bench(&b);
}

/* --- a provider, for which the test speaks ------------------------------------------ */

/* Listens; the configuration that has it as the provider of "slow". */
static int
open_provider(svc_config_t **config)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t n = sizeof(at);
    char yaml[160];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 128), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    snprintf(yaml, sizeof(yaml),
             "providers: [{name: p, models: [slow], base_url: "
             "\"http://127.0.0.1:%u/v1\"}]",
             (unsigned)ntohs(at.sin_port));
    *config = parse(yaml);
    return fd;
}

static bool
is_readable(void *arg)
{
    struct pollfd wait = {.fd = *(const int *)arg, .events = POLLIN};

    return poll(&wait, 1, 0) == 1;
}

static void
an_answer_goes_on_with_its_provider_that_others_do_not_get_any_more(void **state)
{
    (void)state;
    static const char response[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        "Connection: close\r\n\r\n"
        "data: {\"choices\":[{\"delta\":{\"content\":\"late\"}}]}\n\n"
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
        "data: [DONE]\n\n";
    static bench_t b;
    char *error = NULL;
    svc_config_t *with, *without = parse("providers: []");
    int listener = open_provider(&with);

    open_bench(&b);
    assert_true(llm_reload(b.llm, with, &error));
    ask_models(&b);
    assert_int_equal(b.patterns, 2);
    generate(&b, b.convo, "slow");
    fixture_run_until(&b.fixture, is_readable, &listener);
    int provider = accept(listener, NULL, NULL);
    fixture_run_until(&b.fixture, is_readable, &provider);
    assert_true(llm_reload(b.llm, without, &error));
    svc_config_destroy(&with);
    svc_config_destroy(&without);
    ask_models(&b);
    assert_int_equal(b.patterns, 1);
    assert_int_equal(send(provider, response, strlen(response), MSG_NOSIGNAL),
                     strlen(response));
    shutdown(provider, SHUT_WR);
    fixture_run_until(&b.fixture, is_final, &b);
    assert_true(svc_str_eq(svc_buf_str(&b.journal), SVC_LIT("late")));
    assert_string_equal(b.finish, "stop");
    close(provider);
    close(listener);
    close_bench(&b);
}

static bool
has_begun_all(void *arg)
{
    bench_t *b = arg;

    return fixture_count(&b->fixture, SVC_M_GENERATIONS) == b->wanted;
}

static void
answers_keep_so_many_configurations_and_no_more(void **state)
{
    (void)state;
    static bench_t b;
    prompt_message_t message = {ROLE_USER, SVC_LIT(QUESTION)};
    char stream[PROTO_STREAM_BYTES + 1], *error = NULL;
    svc_config_t *config;
    int listener = open_provider(&config);

    open_bench(&b);
    b.ack_pieces = false;
    for (b.wanted = 1; llm_reload(b.llm, config, &error); b.wanted++) {
        assert_in_range(b.wanted, 1, 64);
        snprintf(stream, sizeof(stream), "%08u--------", (unsigned)b.wanted);
        generate_req_t req = {.stream = svc_str_c(stream),
                              .fence = FENCE,
                              .term = 1,
                              .model = SVC_LIT("slow"),
                              .messages = {&message, 1}};
        ask(&b, b.convo, OP_LLM_GENERATE, &generate_req_schema, &req);
        fixture_run_until(&b.fixture, has_begun_all, &b);
    }
    assert_int_equal(b.wanted, 65);
    assert_non_null(strstr(error, "too many older ones"));
    free(error);
    ask_models(&b); /* it serves on */
    svc_config_destroy(&config);
    close(listener);
    close_bench(&b);
}

static void
says_why_it_cannot_start(void **state)
{
    (void)state;
    static bench_t b;
    char *error = NULL;
    char endpoint[256];

    open_bench(&b);
    snprintf(endpoint, sizeof(endpoint), "%s", llm_bus_endpoint(b.llm));
    b.config.bus_llm.bind = endpoint;
    assert_null(llm_new(&b.fixture.ctx, &error));
    assert_non_null(strstr(error, endpoint));
    free(error);
    svc_peer_destroy(&b.convo);
    svc_peer_destroy(&b.gateway);
    b.convo = connect_as(&b, &b.convo_ctx, "convo-svc");
    b.gateway = connect_as(&b, &b.gateway_ctx, "gateway");
    close_bench(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generates_journals_and_publishes),
        cmocka_unit_test(attaches_acks_replays_and_stops),
        cmocka_unit_test(tells_the_models),
        cmocka_unit_test(refuses_wrong_callers_and_unknown_streams),
        cmocka_unit_test(ends_its_loop_when_the_last_answer_is_stored),
        cmocka_unit_test(serves_by_another_configuration_and_ends_what_has_begun),
        cmocka_unit_test(a_new_answer_is_as_long_as_the_new_configuration_allows),
        cmocka_unit_test(
            an_answer_goes_on_with_its_provider_that_others_do_not_get_any_more),
        cmocka_unit_test(answers_keep_so_many_configurations_and_no_more),
        cmocka_unit_test(says_why_it_cannot_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
