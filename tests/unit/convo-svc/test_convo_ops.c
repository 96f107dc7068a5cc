/* test_convo_ops.c - every operation of the table: its bounds, who may call, full queues; conversations and their cache.
 *
 * (Questions and answers stand in test_convo_ops_answers.c.) */
#include "service_calls.h"
#include "wide_schema.h"

#include "convo-svc/convo_writer.h"

/* --- every operation -------------------------------------------------------------------------- */

/* The longest text that is tried: one byte past the longest question. */
#define BYTES_MAX (PROTO_QUESTION_MAX_BYTES + 1)

typedef struct {
    test_t *test;       /* borrowed */
    const svc_op_t *op; /* that is tried */
    wide_schema_t wide; /* its request without bounds */
    uint64_t align;     /* of the next */
    char req[256];      /* a request that would be taken */
    char *bytes;        /* owned: BYTES_MAX of them */
} trial_t;

/* A request of USER for conversation 1: all of its form is right. */
static void
trial_fill(trial_t *self, const svc_op_t *op)
{
    self->op = op;
    assert_true(op->req->size <= sizeof(self->req));
    memset(self->req, 0, sizeof(self->req));
    for (size_t i = 0; i < op->req->n_fields; i++) {
        const proto_field_t *field = &op->req->fields[i];

        wide_put(self->req, field, field->type == PROTO_U64 ? USER : field->min,
                 self->bytes);
    }
}

/* Sends it; gives what came back. */
static svc_rc
trial_send(trial_t *self, const char *without)
{
    return service_call(&self->test->service, self->op->op,
                        wide_schema(&self->wide, self->op->req, without), self->req,
                        self->op->rep, &self->test->a)
        ->rc;
}

static void
trial_open(trial_t *self, test_t *test)
{
    self->test = test;
    self->bytes = svc_alloc(BYTES_MAX);
    memset(self->bytes, 'x', BYTES_MAX);
}

static void
one_past_each_bound_of_each_request_is_refused(void **state)
{
    trial_t self;
    size_t tried = 0;

    trial_open(&self, *state);
    for (const svc_op_t *op = convo_ops; op->op != NULL; op++)
        for (size_t i = 0; i < op->req->n_fields; i++) {
            const proto_field_t *field = &op->req->fields[i];
            svc_rc rc;

            if (!wide_is_bounded(field))
                continue;
            trial_fill(&self, op);
            wide_put(self.req, field, field->max + 1, self.bytes);
            rc = trial_send(&self, NULL);
            assert_true(rc == RC_INVALID || rc == RC_TOO_BIG);
            tried++;
            if (field->min <= (field->required ? 0 : 1))
                continue;
            wide_put(self.req, field, field->min - 1, self.bytes);
            assert_int_equal(trial_send(&self, NULL), RC_INVALID);
            tried++;
        }
    assert_true(tried > 25);
    free(self.bytes);
}

static void
a_request_without_a_field_that_must_be_there_is_refused(void **state)
{
    trial_t self;
    size_t tried = 0;

    trial_open(&self, *state);
    for (const svc_op_t *op = convo_ops; op->op != NULL; op++)
        for (size_t i = 0; i < op->req->n_fields; i++) {
            if (!op->req->fields[i].required)
                continue;
            trial_fill(&self, op);
            assert_int_equal(trial_send(&self, op->req->fields[i].key), RC_INVALID);
            tried++;
        }
    assert_true(tried > 20);
    free(self.bytes);
}

static void
what_is_not_there_is_not_found_by_any_operation(void **state)
{
    trial_t self;

    trial_open(&self, *state);
    for (const svc_op_t *op = convo_ops; op->op != NULL; op++) {
        trial_fill(&self, op);
        if (strcmp(op->op, OP_CONVO_CREATE) != 0 && strcmp(op->op, OP_CONVO_LIST) != 0 &&
            strcmp(op->op, OP_CONVO_ACTIVE) != 0 && strcmp(op->op, OP_CONVO_UNWATCH) != 0)
            assert_int_equal(trial_send(&self, NULL), RC_NOT_FOUND);
    }
    free(self.bytes);
}

static void
a_service_that_calls_nobody_may_use_no_operation(void **state)
{
    test_t *test = *state;
    trial_t self;

    trial_open(&self, test);
    svc_peers_destroy(&test->service.gateway);
    service_connect(&test->service, "llm-svc");
    for (const svc_op_t *op = convo_ops; op->op != NULL; op++) {
        trial_fill(&self, op);
        assert_int_equal(trial_send(&self, NULL), RC_FORBIDDEN);
    }
    free(self.bytes);
}

static void
a_full_queue_is_busy_for_every_operation_that_needs_it(void **state)
{
    test_t *test = *state;
    uint64_t id = create(test, "t");
    trial_t self;

    trial_open(&self, test);
    stick_workers(test);
    for (const svc_op_t *op = convo_ops; op->op != NULL; op++) {
        trial_fill(&self, op);
        if (strcmp(op->op, OP_CONVO_TAIL) != 0 &&
            strcmp(op->op, OP_CONVO_UNWATCH) != 0) /* they need none */
            assert_int_equal(trial_send(&self, NULL), RC_BUSY);
    }
    free_workers(test);
    assert_non_null(strstr(history(test, USER, id)->json, "\"messages\":[]"));
    free(self.bytes);
}

static void
the_writers_queue_has_the_bound_that_it_says(void **state)
{
    test_t *self = *state;
    svc_pool_t *writer = self->service.convo->writer;
    uint64_t id = create(self, "t");
    sqlite3 *db = lock_database(self);
    size_t n = 0;
    svc_rc rc;

    while ((rc = svc_pool_submit(writer, WRITE_DELETE, SVC_LIT("\xc1"), ignore_result,
                                 NULL, 0)) == RC_OK)
        assert_true(++n <= CONVO_WRITES_MAX + CONVO_WRITER_BATCH);
    assert_int_equal(rc, RC_BUSY);
    assert_true(n >= CONVO_WRITES_MAX);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, id)->rc, RC_BUSY);
    unlock_database(db);
    fixture_run_until(&self->service.fixture, writer_is_idle, self);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, id)->rc, RC_OK);
}

/* --- create, list, delete --------------------------------------------------------------------- */

static void
creates_lists_shows_and_deletes_conversations(void **state)
{
    test_t *self = *state;
    uint64_t first = create(self, "first"), second = create(self, "second");
    list_req_t list = {.user = USER};
    char text[300];
    const seen_t *seen;

    seen = service_call(&self->service, OP_CONVO_LIST, &list_req_schema, &list,
                        &list_rep_schema, &self->a);
    assert_non_null(strstr(seen->json, "\"title\":\"second\""));
    assert_true(strstr(seen->json, "\"second\"") < strstr(seen->json, "\"first\""));
    assert_int_equal(seen->a, 0);
    seen = history(self, USER, first);
    snprintf(
        text, sizeof(text),
        "{\"conversation_id\":%llu,\"title\":\"first\",\"model\":\"echo\",\"messages\":[],",
        (unsigned long long)first);
    assert_non_null(strstr(seen->json, text));
    assert_null(strstr(seen->json, "sk-mine"));
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, first)->rc, RC_OK);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, first)->rc,
                     RC_NOT_FOUND);
    assert_int_equal(history(self, USER, first)->rc, RC_NOT_FOUND);
    assert_int_equal(history(self, USER, second)->rc, RC_OK);
}

static void
a_deletion_ends_the_answer_for_everybody(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    const seen_t *seen;

    ask_and_stream(self, id);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, id)->rc, RC_OK);
    seen = service_wait(&self->service, &self->a, 3);
    assert_int_equal(seen->kind, PROTO_FINAL);
    assert_int_equal(seen->status.state, ANSWER_INTERRUPTED);
    assert_string_equal(seen->reason, "deleted");
    fixture_run_until(&self->service.fixture, was_stopped, self);
    fixture_run_until(&self->service.fixture, was_stored, self);
    assert_int_equal(read_text(self, USER, 1, 0)->rc, RC_NOT_FOUND);
}

static void
the_longest_title_model_and_key_are_taken(void **state)
{
    test_t *self = *state;
    char *text = svc_alloc(PROTO_TITLE_MAX_BYTES + 1);
    create_req_t req = {.user = PROTO_ID_MAX,
                        .title = {text, PROTO_TITLE_MAX_BYTES},
                        .model = {text, PROTO_MODEL_MAX_BYTES},
                        .api_key = {text, PROTO_API_KEY_MAX_BYTES}};
    const seen_t *seen;

    memset(text, 't', PROTO_TITLE_MAX_BYTES);
    seen = service_call(&self->service, OP_CONVO_CREATE, &create_req_schema, &req,
                        &create_rep_schema, &self->a);
    assert_int_equal(seen->rc, RC_OK);
    seen = history(self, PROTO_ID_MAX, seen->a);
    assert_int_equal(seen->rc, RC_OK);
    assert_non_null(strstr(seen->json, text));
    assert_int_equal(history(self, USER, self->a.seen[0].a)->rc, RC_NOT_FOUND);
    free(text);
}

static void
an_empty_title_and_no_key_are_taken_and_escaped_text_comes_back(void **state)
{
    test_t *self = *state;
    create_req_t req = {.user = USER,
                        .title = SVC_LIT(""),
                        .model = SVC_LIT("m"),
                        .api_key = SVC_LIT("")};
    uint64_t id = create(self, "\"\\\n\x01\xe4\xbd\xa0");

    assert_int_equal(service_call(&self->service, OP_CONVO_CREATE, &create_req_schema,
                                  &req, &create_rep_schema, &self->a)
                         ->rc,
                     RC_OK);
    assert_non_null(
        strstr(history(self, USER, self->a.seen[0].a)->json, "\"title\":\"\","));
    assert_non_null(strstr(history(self, USER, id)->json,
                           "\"title\":\"\\\"\\\\\\n\\u0001\xe4\xbd\xa0\""));
}

static void
what_is_deleted_for_a_caller_that_has_gone_is_gone_for_all(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    conversation_req_t req = {USER, id};
    sqlite3 *db;

    ask_and_stream(self, id);
    db = lock_database(self);
    service_send(&self->service, OP_CONVO_DELETE, &conversation_req_schema, &req,
                 &empty_schema, &self->b);
    fixture_run_until(&self->service.fixture, writer_works, self);
    drop_latest_call(self);
    unlock_database(db);
    assert_string_equal(service_wait(&self->service, &self->a, 3)->reason, "deleted");
    assert_int_equal(answers_count(self->service.convo->answers), 0);
    assert_int_equal(history(self, USER, id)->rc, RC_NOT_FOUND);
}

/* --- the cache -------------------------------------------------------------------------------- */

static void
a_long_history_comes_in_pages(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    char *text = svc_alloc(900001);
    history_req_t req = {.user = USER, .conversation = id};
    svc_buf_t body;
    const seen_t *seen;
    int pages = 0;

    memset(text, 'x', 900000);
    ask_and_wait(self, id);
    service_llm_final(&self->service, 0, text, "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 2)->status.state,
                     ANSWER_COMPLETE);
    svc_buf_init(&body, 1u << 21);
    do {
        seen = service_call(&self->service, OP_CONVO_HISTORY, &history_req_schema, &req,
                            &history_rep_schema, &self->c);
        assert_int_equal(seen->rc, RC_OK);
        assert_int_equal(svc_buf_add(&body, seen->json, seen->json_n), RC_OK);
        req.message = seen->a;
        req.offset = seen->b;
        pages++;
    } while (seen->more);
    assert_int_equal(pages, 2);
    assert_non_null(memmem(body.p, body.n, text, 900000));
    assert_memory_equal(body.p + body.n - 1, "}", 1);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_CACHE_HITS), 0);
    svc_buf_fini(&body);
    free(text);
}

static void
a_history_is_cached_until_its_version_changes(void **state)
{
    test_t *self = *state;
    fixture_t *fixture = &self->service.fixture;
    uint64_t id = create(self, "t");
    char *first;

    first = svc_str_dup(svc_str_c(history(self, USER, id)->json));
    assert_int_equal(fixture_count(fixture, SVC_M_CACHE_HITS), 0);
    assert_string_equal(history(self, USER, id)->json, first);
    assert_int_equal(fixture_count(fixture, SVC_M_CACHE_HITS), 1);
    assert_int_equal(history(self, STRANGER, id)->rc, RC_NOT_FOUND);
    ask_and_stream(self, id);
    assert_non_null(strstr(history(self, USER, id)->json,
                           "\"Hello\",\"message_id\":2,\"state\":\"streaming\""));
    service_llm_piece(&self->service, 5, "!");
    service_llm_final(&self->service, 6, "", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 3)->status.state,
                     ANSWER_COMPLETE);
    for (uint64_t hits = 1; hits <= 2; hits++) {
        assert_non_null(strstr(history(self, USER, id)->json,
                               "\"Hello!\",\"message_id\":2,\"state\":\"complete\""));
        assert_int_equal(fixture_count(fixture, SVC_M_CACHE_HITS), hits);
    }
    free(first);
}

static const char *
list_of(test_t *self, uint64_t user)
{
    list_req_t req = {.user = user};

    return service_call(&self->service, OP_CONVO_LIST, &list_req_schema, &req,
                        &list_rep_schema, &self->c)
        ->json;
}

static void
a_list_is_cached_until_a_conversation_comes_or_goes(void **state)
{
    test_t *self = *state;
    fixture_t *fixture = &self->service.fixture;
    uint64_t first, second;
    char *before;

    assert_string_equal(list_of(self, USER), "[]");
    assert_string_equal(list_of(self, USER), "[]");
    first = create(self, "first");
    before = svc_str_dup(svc_str_c(list_of(self, USER)));
    assert_non_null(strstr(before, "\"first\""));
    assert_int_equal(fixture_count(fixture, SVC_M_CACHE_HITS), 0);
    assert_string_equal(list_of(self, USER), before);
    assert_int_equal(fixture_count(fixture, SVC_M_CACHE_HITS), 1);
    assert_string_equal(list_of(self, STRANGER), "[]");
    second = create(self, "second");
    assert_non_null(strstr(list_of(self, USER), "\"second\""));
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, second)->rc, RC_OK);
    assert_string_equal(list_of(self, USER), before);
    assert_int_equal(fixture_count(fixture, SVC_M_CACHE_HITS), 1);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, first)->rc, RC_OK);
    for (int i = 0; i < 2; i++)
        assert_string_equal(list_of(self, USER), "[]");
    free(before);
}

static void
redis_that_is_away_changes_no_answer(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");

    for (int i = 0; i < 3; i++)
        assert_int_equal(history(self, USER, id)->rc, RC_OK);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, id)->rc, RC_OK);
    assert_int_equal(history(self, USER, id)->rc, RC_NOT_FOUND);
    assert_int_equal(fixture_count(&self->service.fixture, SVC_M_CACHE_HITS), 0);
}

/* A cache that the test plays. */
typedef struct {
    convo_cache_t base;                /* first: the seam */
    size_t gets, puts, forgets;        /* how often it was used */
    uint64_t conversation, version;    /* of the last get or forget */
    uint64_t put_version;              /* of the last put */
    uint64_t tag;                      /* of the last get */
    char *body;                        /* of the last put; owned */
    enum { MISSES, HITS, WAITS } mood; /* of the next get */
} played_cache_t;

static void
played_answer(played_cache_t *self, bool hit)
{
    svc_str body = hit ? SVC_LIT("{\"cached\":1}") : (svc_str){NULL, 0};

    self->base.on_got(self->base.arg, self->tag, hit, body);
}

static void
played_get(convo_cache_t *base, uint64_t conversation, uint64_t version, uint64_t tag)
{
    played_cache_t *self = (played_cache_t *)base;

    self->gets++;
    self->conversation = conversation;
    self->version = version;
    self->tag = tag;
    if (self->mood != WAITS)
        played_answer(self, self->mood == HITS);
}

static void
played_put(convo_cache_t *base, uint64_t conversation, uint64_t version, svc_str body)
{
    played_cache_t *self = (played_cache_t *)base;

    self->puts++;
    assert_int_equal(conversation, self->conversation);
    self->put_version = version;
    free(self->body);
    self->body = svc_str_dup(body);
}

static void
played_forget(convo_cache_t *base, uint64_t conversation)
{
    played_cache_t *self = (played_cache_t *)base;

    self->forgets++;
    self->conversation = conversation;
}

static void
played_destroy(convo_cache_t *base)
{
    played_cache_t *self = (played_cache_t *)base;

    free(self->body);
    free(self);
}

static const convo_cache_api_t played_api = {
    .destroy = played_destroy,
    .get = played_get,
    .put = played_put,
    .forget = played_forget,
};

/* Takes the place of the service's cache, which owns it from now on. */
static played_cache_t *
play_cache(test_t *self)
{
    convo_t *convo = self->service.convo;
    played_cache_t *cache = svc_alloc(sizeof(*cache));

    cache->base = (convo_cache_t){&played_api, convo_on_cache, convo, NULL};
    convo_cache_destroy(&convo->cache);
    convo->cache = &cache->base;
    return cache;
}

static bool
cache_was_asked(void *arg)
{
    return ((const played_cache_t *)arg)->gets > 0;
}

static void
send_history(test_t *self, uint64_t conversation, outcome_t *out)
{
    history_req_t req = {.user = USER, .conversation = conversation};

    service_send(&self->service, OP_CONVO_HISTORY, &history_req_schema, &req,
                 &history_rep_schema, out);
}

static void
what_is_put_is_what_was_told_under_the_version_that_was_asked_for(void **state)
{
    test_t *self = *state;
    played_cache_t *cache = play_cache(self);
    uint64_t id = create(self, "t"), before;

    assert_int_equal(history(self, USER, id)->rc, RC_OK);
    assert_string_equal(self->c.seen[0].json, cache->body);
    assert_int_equal(cache->conversation, id);
    assert_int_equal(cache->put_version, cache->version);
    before = cache->version;
    ask_and_wait(self, id);
    service_llm_final(&self->service, 0, "Hi", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 2)->kind, PROTO_FINAL);
    assert_int_equal(history(self, USER, id)->rc, RC_OK);
    assert_string_equal(self->c.seen[0].json, cache->body);
    assert_true(cache->version >
                before); /* what was put before is never asked for again */
    assert_int_equal(cache->put_version, cache->version);
    assert_int_equal(cache->puts, 2);
}

static void
a_hit_goes_out_as_it_is_and_only_to_the_owner(void **state)
{
    test_t *self = *state;
    played_cache_t *cache = play_cache(self);
    uint64_t id = create(self, "t");

    cache->mood = HITS;
    assert_string_equal(history(self, USER, id)->json, "{\"cached\":1}");
    assert_false(self->c.seen[0].more);
    assert_int_equal(cache->puts, 0);
    assert_int_equal(history(self, STRANGER, id)->rc, RC_NOT_FOUND);
    assert_int_equal(history(self, USER, id ^ 1)->rc, RC_NOT_FOUND);
    assert_int_equal(cache->gets, 1); /* existence and owner never come from there */
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, id)->rc, RC_OK);
    assert_int_equal(cache->forgets, 1);
    assert_int_equal(cache->conversation, id);
    assert_int_equal(history(self, USER, id)->rc, RC_NOT_FOUND);
    assert_int_equal(on_conversation(self, OP_CONVO_DELETE, USER, id)->rc, RC_NOT_FOUND);
    assert_int_equal(cache->forgets, 1);
}

static void
the_cache_is_left_alone_while_an_answer_is_written_and_for_later_pages(void **state)
{
    test_t *self = *state;
    played_cache_t *cache = play_cache(self);
    uint64_t id = create(self, "t");
    history_req_t req = {USER, id, 2, 0};

    cache->mood = HITS;
    ask_and_stream(self, id);
    assert_non_null(strstr(history(self, USER, id)->json, "Hello"));
    assert_int_equal(cache->gets + cache->puts, 0);
    service_llm_final(&self->service, 5, "", "stop");
    assert_int_equal(service_wait(&self->service, &self->a, 3)->kind, PROTO_FINAL);
    assert_non_null(
        strstr(service_call(&self->service, OP_CONVO_HISTORY, &history_req_schema, &req,
                            &history_rep_schema, &self->c)
                   ->json,
               "Hello"));
    assert_int_equal(cache->gets + cache->puts, 0);
}

static void
a_cache_that_takes_its_time_is_waited_for(void **state)
{
    test_t *self = *state;
    played_cache_t *cache = play_cache(self);
    uint64_t id = create(self, "t");

    cache->mood = WAITS;
    for (int hit = 0; hit <= 1; hit++) {
        cache->gets = 0;
        send_history(self, id, &self->b);
        fixture_run_until(&self->service.fixture, cache_was_asked, cache);
        assert_int_equal(self->b.n, 0);
        played_answer(cache, hit != 0);
        assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_OK);
        assert_int_equal(cache->puts, 1);
        played_answer(cache, true); /* once more: nobody is there */
    }
    assert_string_equal(self->b.seen[0].json, "{\"cached\":1}");
}

static void
a_miss_that_finds_the_readers_busy_is_busy(void **state)
{
    test_t *self = *state;
    played_cache_t *cache = play_cache(self);
    uint64_t id = create(self, "t");

    cache->mood = WAITS;
    send_history(self, id, &self->b);
    fixture_run_until(&self->service.fixture, cache_was_asked, cache);
    stick_workers(self);
    played_answer(cache, false);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_BUSY);
    free_workers(self);
    assert_int_equal(cache->puts, 0);
}

static void
a_cache_that_answers_nobody_or_never_is_harmless(void **state)
{
    test_t *self = *state;
    played_cache_t *cache = play_cache(self);
    uint64_t id = create(self, "t");

    cache->mood = WAITS;
    for (int hit = 0; hit <= 1; hit++) {
        cache->gets = 0;
        send_history(self, id, &self->b);
        fixture_run_until(&self->service.fixture, cache_was_asked, cache);
        drop_latest_call(self);
        played_answer(cache, hit != 0);
    }
    cache->gets = 0;
    send_history(self, id, &self->b);
    fixture_run_until(&self->service.fixture, cache_was_asked, cache);
    /* The service ends now, and frees what it still asks. */
}

static void
while_the_database_is_away_for_long_changes_are_refused_at_once(void **state)
{
    test_t *self = *state;
    uint64_t id = create(self, "t");
    create_req_t req = {.user = USER, .title = SVC_LIT("t"), .model = SVC_LIT("echo")};

    atomic_store(&self->service.convo->away_ms, svc_mono_ms() - CONVO_AWAY_MS);
    assert_int_equal(service_call(&self->service, OP_CONVO_CREATE, &create_req_schema,
                                  &req, &create_rep_schema, &self->b)
                         ->rc,
                     RC_UNAVAILABLE);
    send_ask(self, USER, id, 1, "hello", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_UNAVAILABLE);
    assert_int_equal(on_conversation(self, OP_CONVO_STOP, USER, id)->rc, RC_UNAVAILABLE);
    assert_non_null(strstr(history(self, USER, id)->json, "\"messages\":[]"));
    assert_int_equal(self->service.convo->n_held, 0);
    atomic_store(&self->service.convo->away_ms, 0);
    send_ask(self, USER, id, 1, "hello", &self->b);
    assert_int_equal(service_wait(&self->service, &self->b, 1)->rc, RC_OK);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_DEAD_REDIS(f) \
    cmocka_unit_test_setup_teardown(f, setup_with_dead_redis, teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_past_each_bound_of_each_request_is_refused),
        TEST(a_request_without_a_field_that_must_be_there_is_refused),
        TEST(what_is_not_there_is_not_found_by_any_operation),
        TEST(a_service_that_calls_nobody_may_use_no_operation),
        TEST(a_full_queue_is_busy_for_every_operation_that_needs_it),
        TEST(while_the_database_is_away_for_long_changes_are_refused_at_once),
        TEST(the_writers_queue_has_the_bound_that_it_says),
        TEST(creates_lists_shows_and_deletes_conversations),
        TEST(a_deletion_ends_the_answer_for_everybody),
        TEST(the_longest_title_model_and_key_are_taken),
        TEST(an_empty_title_and_no_key_are_taken_and_escaped_text_comes_back),
        TEST(what_is_deleted_for_a_caller_that_has_gone_is_gone_for_all),
        TEST(a_long_history_comes_in_pages),
        TEST(a_history_is_cached_until_its_version_changes),
        TEST(a_list_is_cached_until_a_conversation_comes_or_goes),
        TEST_DEAD_REDIS(redis_that_is_away_changes_no_answer),
        TEST(what_is_put_is_what_was_told_under_the_version_that_was_asked_for),
        TEST(a_hit_goes_out_as_it_is_and_only_to_the_owner),
        TEST(the_cache_is_left_alone_while_an_answer_is_written_and_for_later_pages),
        TEST(a_cache_that_takes_its_time_is_waited_for),
        TEST(a_miss_that_finds_the_readers_busy_is_busy),
        TEST(a_cache_that_answers_nobody_or_never_is_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
